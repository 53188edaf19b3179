//! Looking: nothing is changed but for a file that a probe of the disk writes and removes.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oprel_telemetry::{Disk, Host, Rates, Roots};

use super::{Facts, Place, Port};

/// Variables that programs find proxies in.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"];

/// What to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where oprel keeps its things.
    pub home: Option<PathBuf>,
    /// Where models are.
    pub store: Option<PathBuf>,
    /// Files that nobody else should read.
    pub secrets: Vec<PathBuf>,
    /// Where the daemon listens.
    pub port: Option<u16>,
    /// Programs that models can run in, beside what `PATH` finds.
    pub programs: Vec<PathBuf>,
    /// Measure memory and disks, which takes a few seconds.
    pub measure: bool,
}

/// Looks at everything.
pub fn gather(host: &Host, wanted: &Wanted) -> Facts {
    let rates = || Rates::measure(host.suited_threads(), host.memory.free_bytes);
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let proxies = PROXIES.iter().filter_map(|name| Some((name.to_string(), said(name)?)));
    let llama = wanted.programs.iter().find(|program| program.is_file()).cloned();
    Facts {
        host: host.clone(),
        rates: if wanted.measure { rates() } else { None },
        home: wanted.home.as_deref().map(|path| place(path, wanted.measure)),
        store: wanted.store.as_deref().map(|path| place(path, wanted.measure)),
        secrets: wanted.secrets.iter().map(|path| place(path, false)).collect(),
        port: wanted.port.map(port),
        proxies: proxies.collect(),
        no_proxy: said("NO_PROXY").or_else(|| said("no_proxy")),
        programs: vec![("llama-server".into(), llama.or_else(|| on_path("llama-server")))],
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    }
}

fn place(path: &Path, measure: bool) -> Place {
    let metadata = path.metadata().ok();
    let mut disk = Disk::of(path);
    if measure && metadata.as_ref().is_some_and(|m| m.is_dir()) {
        disk.read_rate = Disk::probe(path);
    }
    Place {
        path: path.into(),
        exists: metadata.is_some(),
        writable: writable(path),
        mode: metadata.as_ref().and_then(mode),
        disk,
    }
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}

/// Whether this user may write to it, or make it in the nearest folder above that there is.
#[cfg(unix)]
fn writable(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let there = path.ancestors().find(|path| path.exists());
    there.is_some_and(|there| access(there, Access::WRITE_OK).is_ok())
}

#[cfg(not(unix))]
fn writable(path: &Path) -> bool {
    let there = path.ancestors().find_map(|path| path.metadata().ok());
    there.is_some_and(|there| !there.permissions().readonly())
}

fn port(number: u16) -> Port {
    let (taken, refused) = match TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
        Ok(_) => (false, None),
        Err(e) if e.kind() == ErrorKind::AddrInUse => (true, None),
        Err(e) => (false, Some(e.to_string())),
    };
    let by = if taken { listener(&Roots::default(), number) } else { None };
    Port { number, taken, by, refused }
}

/// The program that listens on a port, as far as this user may see.
pub(super) fn listener(roots: &Roots, port: u16) -> Option<String> {
    let sockets = ["net/tcp", "net/tcp6"].iter().find_map(|file| {
        let table = std::fs::read_to_string(roots.proc.join(file)).ok()?;
        table.lines().skip(1).find_map(|line| socket_of(line, port))
    })?;
    let wanted = format!("socket:[{sockets}]");
    let processes = std::fs::read_dir(&roots.proc).ok()?.flatten();
    let numbered = processes.filter(|p| p.file_name().to_string_lossy().parse::<u32>().is_ok());
    let holds = |process: &std::fs::DirEntry| {
        let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.into_iter().any(|target| target.as_os_str() == OsStr::new(&wanted))
    };
    let process = numbered.into_iter().find(holds)?;
    let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
    Some(name.trim().to_string())
}

/// The socket of a line of the table, if it listens on this port:
/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode`.
fn socket_of(line: &str, port: u16) -> Option<u64> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (address, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
    let number = u16::from_str_radix(address.rsplit(':').next()?, 16).ok()?;
    // 0A is listening.
    (number == port && *state == "0A").then(|| inode.parse().ok()).flatten()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|file| file.is_file())
}
