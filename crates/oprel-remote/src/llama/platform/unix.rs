//! On Unix: a socket in a folder of its user alone, and a group of processes that is killed as one.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Longest path of a socket, with its end.
const LONGEST: usize = 108;

/// Where the process listens: a socket.
#[derive(Clone, Debug)]
pub(in crate::llama) struct Door(PathBuf);

impl Door {
    /// In this folder.
    pub(in crate::llama) fn below(folder: &Path) -> io::Result<Door> {
        Ok(Door(folder.join("l.sock")))
    }

    /// Options that let the program listen there.
    pub(in crate::llama) fn arguments(&self) -> Vec<OsString> {
        vec!["--host".into(), self.0.clone().into()]
    }

    /// The address that it has then.
    pub(in crate::llama) fn address(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    pub(in crate::llama) fn connect(&self, patience: Duration) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(stream)
    }

    /// Removes what one that was killed left.
    pub(in crate::llama) fn clear(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where a folder of this user may be.
pub(in crate::llama) fn places() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_dir());
    own.into_iter().chain([std::env::temp_dir(), "/tmp".into()]).collect()
}

/// Makes a folder that only this user can enter, unless a socket in it would have too long a name.
pub(in crate::llama) fn make_folder(path: &Path) -> io::Result<()> {
    match Door::below(path)?.0.as_os_str().len() < LONGEST {
        true => DirBuilder::new().mode(0o700).create(path),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Lets only its owner read a file that is made.
pub(in crate::llama) fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// No program here opens a window.
pub(in crate::llama) fn hide(_: &mut Command) {}

/// All that a process started.
#[derive(Debug)]
pub(in crate::llama) struct Kin(Option<Pid>);

/// Starts a process that Ctrl-C in a terminal does not reach.
pub(in crate::llama) fn start(command: &mut Command) -> io::Result<(Child, Kin)> {
    let child = command.process_group(0).spawn()?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok((child, Kin(group)))
}

impl Kin {
    /// Ends them.
    pub(in crate::llama) fn end(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
