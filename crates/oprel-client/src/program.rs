//! The program that is a daemon: where it is, and what it says when it does not start.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::{Error, Result, platform};

/// Bytes from which a log begins anew.
const MOST_LOG: u64 = 16 << 20;
/// Bytes of a log that are looked at for an error.
const LOOKED_AT: u64 = 64 << 10;

/// The program by `OPREL_BIN`, then `PATH`. What is set and wrong is an error: nothing else is taken for it.
pub(crate) fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(std::env::var_os("OPREL_BIN"), &path)
}

fn find_in(set: Option<OsString>, path: &OsString) -> Result<PathBuf> {
    if let Some(set) = set.filter(|set| !set.is_empty()) {
        let program = PathBuf::from(set);
        return match is_program(&program) {
            true => Ok(program),
            false => Err(Error::NoProgram {
                what: format!("OPREL_BIN is '{}', which is no program", program.display()),
            }),
        };
    }
    first_on(path, "oprel")
        .ok_or_else(|| Error::NoProgram { what: "there is no program 'oprel' on PATH".into() })
}

/// The first program of a name on `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    first_on(&std::env::var_os("PATH")?, name)
}

fn first_on(path: &OsString, name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(path)
        // What is on a path by accident of the working directory is not run.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&name))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    let Ok(metadata) = path.metadata() else { return false };
    metadata.is_file() && platform::may_run(&metadata)
}

/// The log of daemons that nobody sees.
pub(crate) struct Log {
    path: PathBuf,
    /// Where the one begins that is being started.
    from: u64,
}

impl Log {
    /// Opens `logs/serve.log` in `OPREL_HOME`, or `None` where there is no place for it.
    pub(crate) fn open() -> Option<(Log, File)> {
        Log::at(oprel_config::home()?.join("logs/serve.log"))
    }

    fn at(path: PathBuf) -> Option<(Log, File)> {
        std::fs::create_dir_all(path.parent()?).ok()?;
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        platform::private(&mut options);
        let file = options.open(&path).ok()?;
        if file.metadata().ok()?.len() > MOST_LOG {
            file.set_len(0).ok()?;
        }
        let from = file.metadata().ok()?.len();
        Some((Log { path, from }, file))
    }

    /// What was said last as an error, and as its hint.
    pub(crate) fn error(&self) -> Option<(String, Option<String>)> {
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(self.from)).ok()?;
        let mut bytes = Vec::new();
        file.take(LOOKED_AT).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let last = |what: &str| text.lines().rev().find_map(|l| l.strip_prefix(what));
        Some((last("error: ")?.to_string(), last("hint: ").map(str::to_string)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_is_set_comes_before_the_path_and_is_never_replaced_by_it() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("oprel");
        let path = place.path().as_os_str().to_os_string();
        std::fs::write(&program, "").unwrap();
        let said = |set: Option<&str>| match find_in(set.map(OsString::from), &path) {
            Ok(found) => found.display().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said(None).contains("no program 'oprel' on PATH"), "it may not be run");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(said(None), program.display().to_string());
        assert_eq!(said(Some("")), program.display().to_string());
        assert!(said(Some("/no/such")).contains("OPREL_BIN is '/no/such'"));
        assert_eq!(said(Some("/bin/sh")), "/bin/sh");
    }

    #[test]
    fn the_last_error_of_the_one_that_was_started_is_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("logs/serve.log");
        let (_, mut file) = Log::at(path.clone()).unwrap();
        file.write_all(b"error: an old one\n").unwrap();
        let (log, mut file) = Log::at(path).unwrap();
        assert_eq!(log.error(), None);
        file.write_all(b"INFO x\nerror: the port is taken\nhint: take another\n").unwrap();
        let told = ("the port is taken".to_string(), Some("take another".to_string()));
        assert_eq!(log.error(), Some(told));
    }
}
