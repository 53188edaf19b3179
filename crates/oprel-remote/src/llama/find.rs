//! Where the program is, and whether it is one that is known here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oprel_api::Failure;
use oprel_hub::backends::Folder;

use super::{broken, platform};

/// The first build whose options and routes are those that are used here.
const OLDEST: u32 = 6000;
/// How long it may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// A version of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As it says it.
    text: String,
    build: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The program: what the setting `llama_server` names, else the newest that was installed and runs here, else the
/// first `llama-server` on PATH.
pub fn find() -> Option<PathBuf> {
    let named = oprel_config::current().ok().and_then(|set| set.path("llama_server"));
    if named.is_some() {
        return named;
    }
    installed().or_else(|| oprel_client::on_path(Folder::PROGRAM))
}

/// The newest that was installed and runs here.
fn installed() -> Option<PathBuf> {
    let all = Folder::of(&oprel_config::backends()?).installed();
    all.into_iter().map(|installed| installed.program).find(|program| version(program).is_ok())
}

/// Which version a program is.
///
/// # Errors
/// If it cannot be run, is another program, or is too old.
pub fn version(program: &Path) -> Result<Version, Failure> {
    let shown = program.display();
    let said = output(program).map_err(|e| broken(&format!("cannot run {shown}: {e}")))?;
    let version = read(&said).ok_or_else(|| {
        broken(&format!("{shown} does not say which version of llama.cpp's server it is"))
    })?;
    if version.build < OLDEST {
        let message = format!("{shown} is build {}; {OLDEST} or later is needed", version.build);
        return Err(broken(&message));
    }
    Ok(version)
}

/// What it says when it is asked for its version.
fn output(program: &Path) -> std::io::Result<String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    platform::hide(&mut command);
    let mut child = command.spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    Ok([output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat())
}

/// `version: 0.7.0 (build 11669, commit x)` or `version: 6000 (abc)`.
fn read(said: &str) -> Option<Version> {
    let text = said.lines().find_map(|line| line.trim().strip_prefix("version:"))?.trim();
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    };
    let build = match text.split_once("build ") {
        Some((_, rest)) => digits(rest)?,
        None if text.split(' ').next()?.contains('.') => return None,
        None => digits(text)?,
    };
    Some(Version { text: text.to_string(), build })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_say_them() {
        let build = |text: &str| read(text).map(|v| v.build);
        let debian = "version: 0.7.0 (build 11669, commit Debian)\nbuilt with GNU 16.2.0";
        assert_eq!(build(debian), Some(11669));
        assert_eq!(build("load_backend: x\nversion: 6123 (deadbeef)\n"), Some(6123));
        assert_eq!(build("version: 1.2.3"), None);
        assert_eq!(build("llama something"), None);
    }

    #[test]
    fn what_is_no_such_program_is_refused() {
        let says = |program: &str| version(Path::new(program)).unwrap_err().message;
        assert!(says("/no/such/program").contains("cannot run"));
        assert!(says("/bin/true").contains("does not say which version"));
    }
}
