//! `oprel serve --install`: a systemd unit that serves with the options that were typed.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use oprel::{ModelSource, OprelError};
use serde_json::json;

use crate::args::Serve;
use crate::commands::{Meant, meant, print};
use crate::platform;

/// How a unit of ours begins: others are not written over.
const MARK: &str = "# Written by `oprel serve --install`";
/// Variables that are not for a service.
const OTHERS: &[&str] = &["OPREL_API_KEY", "OPREL_BIN", "OPREL_NOHISTORY"];
/// Options whose value is a path.
const PATHS: &[&str] = &["--socket", "--prompt-cache", "--tls-cert", "--tls-key"];

/// What every unit forbids: all that the server and its workers do not do.
const HARDENED: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
UMask=0077
";

/// What the unit of a system forbids besides: it has a user of its own, who sees files and changes none but
/// its own.
const ALONE: &str = "\
DynamicUser=yes
StateDirectory=oprel
StateDirectoryMode=0700
Environment=OPREL_HOME=%S/oprel
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
CapabilityBoundingSet=
";

pub(crate) fn run(args: &Serve) -> anyhow::Result<()> {
    let path = place(args.system)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let typed = std::env::args_os().skip_while(|word| word != "serve").skip(1);
    let options = options(typed.map(readable).collect::<Result<_, _>>()?)?;
    let variables = variables(args.system)?;
    let grace = args.grace;
    let unit = unit(&program, &options, &variables, Service { system: args.system, grace })?;
    write(&path, &unit)?;
    let scope = if args.system { "" } else { "--user " };
    let start = format!("systemctl {scope}enable --now oprel");
    let reload = format!("systemctl {scope}daemon-reload");
    let runs = Path::new("/run/systemd/system").exists();
    if args.json {
        let told = json!({"unit": path, "reload": reload, "start": start, "systemd_runs": runs});
        return print(&told.to_string());
    }
    print(&format!("wrote {}", path.display()))?;
    if !runs {
        print("systemd does not run here; where it does:")?;
    }
    let when = if args.system { "boot" } else { "login" };
    print(&format!("to start it now and at every {when}:\n  {reload}\n  {start}"))?;
    if !args.system {
        print("to keep it running without a login:\n  loginctl enable-linger")?;
    }
    Ok(())
}

/// Where systemd looks for the unit.
fn place(system: bool) -> anyhow::Result<PathBuf> {
    if system {
        return Ok("/etc/systemd/system/oprel.service".into());
    }
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    let config = config.or_else(|| Some(set("HOME")?.join(".config")));
    let config = config.context("set HOME: the unit has no place")?;
    Ok(config.join("systemd/user/oprel.service"))
}

/// Variables that say how the service is to be.
fn variables(system: bool) -> Result<Vec<(String, String)>, OprelError> {
    let named =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let chosen = named.filter(|(name, _)| is_for_a_service(name, system));
    let read = chosen.map(|(name, value)| Ok((name, readable(value)?)));
    let mut variables = read.collect::<Result<Vec<_>, OprelError>>()?;
    variables.sort();
    Ok(variables)
}

/// A word that can stand in a unit.
fn readable(word: OsString) -> Result<String, OprelError> {
    word.into_string().map_err(|word| {
        OprelError::validation(format!("'{}' is not UTF-8, which a unit has to be", word.display()))
    })
}

/// What kind of service a unit is of.
#[derive(Clone, Copy)]
struct Service {
    system: bool,
    /// Seconds for answers under way.
    grace: u64,
}

/// Whether a variable says how the service is to be. The home of a system's service is its own.
fn is_for_a_service(name: &str, system: bool) -> bool {
    name.starts_with("OPREL_") && !OTHERS.contains(&name) && !(system && name == "OPREL_HOME")
}

/// The options of the service: those that were typed, with paths that mean the same elsewhere.
fn options(typed: Vec<String>) -> anyhow::Result<Vec<String>> {
    let own = ["--install", "--system", "--json"];
    let whole = |path: &str| -> anyhow::Result<String> {
        let path = std::path::absolute(path).with_context(|| format!("'{path}' is no path"))?;
        path.into_os_string().into_string().map_err(|_| anyhow::Error::msg("a path is no UTF-8"))
    };
    let mut options = Vec::new();
    let mut before = String::new();
    for word in typed.into_iter().filter(|word| !own.contains(&word.as_str())) {
        let split = word.split_once('=').filter(|(option, value)| is_file(option, value));
        options.push(match split {
            Some((option, path)) => format!("{option}={}", whole(path)?),
            None if is_file(&before, &word) => whole(&word)?,
            None => word.clone(),
        });
        before = word;
    }
    Ok(options)
}

/// Whether the value of an option is a path. A model may also have a name.
fn is_file(option: &str, value: &str) -> bool {
    let is_model = option == "--draft";
    let is_named = !matches!(meant(value), Meant::Source(ModelSource::File(_)));
    PATHS.contains(&option) || (is_model && !is_named)
}

fn unit(
    program: &Path,
    options: &[String],
    variables: &[(String, String)],
    service: Service,
) -> anyhow::Result<String> {
    let program = program.to_str().context("the path of this program is no UTF-8")?;
    let mut command = vec![quoted(program)?, "serve".to_string()];
    for option in options {
        command.push(quoted(option)?);
    }
    let command = command.join(" ");
    let mut unit = format!(
        "{MARK}; written anew by the next one.\n[Unit]\nDescription=oprel: language models on this machine\nAfter=network.target\n\n\
         [Service]\nExecStart={command}\nRestart=on-failure\nRestartSec=1\nTimeoutStopSec={}\n",
        service.grace.saturating_add(30)
    );
    for (name, value) in variables {
        writeln!(unit, "Environment={}", quoted(&format!("{name}={value}"))?)?;
    }
    unit.push_str(HARDENED);
    if service.system {
        unit.push_str(ALONE);
    }
    let target = if service.system { "multi-user.target" } else { "default.target" };
    write!(unit, "\n[Install]\nWantedBy={target}\n")?;
    Ok(unit)
}

/// A word as systemd reads it.
fn quoted(word: &str) -> Result<String, OprelError> {
    if word.chars().any(char::is_control) {
        return Err(OprelError::validation(format!("{word:?} cannot be written to a unit")));
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    let escaped = escaped.replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    Ok(match !escaped.is_empty() && escaped.chars().all(plain) {
        true => escaped,
        false => format!("\"{escaped}\""),
    })
}

/// Writes a unit, but over none that somebody else wrote.
/// Writes a unit for its owner alone: keys of servers elsewhere may stand in it.
fn write(path: &Path, unit: &str) -> anyhow::Result<()> {
    if let Ok(there) = std::fs::read_to_string(path)
        && !there.starts_with(MARK)
    {
        return Err(OprelError::Validation {
            message: format!("'{}' is there, and was written by somebody else", path.display()),
            hint: Some("move it away, or change it by hand".into()),
            source: None,
        }
        .into());
    }
    let cannot = || format!("cannot write '{}'", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    platform::private(&mut options);
    let mut file = options.open(path).with_context(cannot)?;
    // One that was there has the rights that it had.
    file.set_permissions(Permissions::from_mode(0o600)).with_context(cannot)?;
    file.write_all(unit.as_bytes()).with_context(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        let table = [
            ("/usr/bin/oprel", "/usr/bin/oprel"),
            ("a b", "\"a b\""),
            ("50%", "50%%"),
            ("a$b\"c\\", "\"a$$b\\\"c\\\\\""),
            ("", "\"\""),
        ];
        for (word, written) in table {
            assert_eq!(quoted(word).unwrap(), written);
        }
        assert!(quoted("a\nExecStart=/bin/sh").is_err());
    }

    #[test]
    fn options_are_those_that_were_typed_with_whole_paths() {
        let words = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
        let typed = words(
            "--install --port 7 --socket x.sock --prompt-cache=/c --tls-cert x.sock --system",
        );
        let here = std::env::current_dir().unwrap().join("x.sock").display().to_string();
        let kept = format!("--port 7 --socket {here} --prompt-cache=/c --tls-cert {here}");
        assert_eq!(options(typed).unwrap(), words(&kept));
        let small = std::path::absolute("x.gguf").unwrap().display().to_string();
        let kept = options(words("--draft ./x.gguf --draft=small:1b --draft demo")).unwrap();
        assert_eq!(kept, words(&format!("--draft {small} --draft=small:1b --draft demo")));
    }

    #[test]
    fn a_unit_of_a_system_has_a_user_of_its_own() {
        let variables = [("OPREL_HOST".to_string(), "::1".to_string())];
        let unit = |service| unit(Path::new("/o"), &["-t".into()], &variables, service).unwrap();
        let of = |system| unit(Service { system, grace: 90 });
        assert!(of(true).contains("TimeoutStopSec=120\n"), "longer than answers may take");
        assert!(unit(Service { system: true, grace: u64::MAX }).contains("TimeoutStopSec="));
        assert!(of(false).contains("ExecStart=/o serve -t\n"));
        assert!(of(false).contains("Environment=OPREL_HOST=::1\n"));
        assert!(!of(false).contains("DynamicUser") && of(false).contains("default.target"));
        assert!(of(true).contains("DynamicUser=yes") && of(true).contains("multi-user.target"));
        assert!(!is_for_a_service("OPREL_API_KEY", false) && !is_for_a_service("PATH", false));
        assert!(!is_for_a_service("OPREL_HOME", true) && is_for_a_service("OPREL_HOME", false));
    }
}
