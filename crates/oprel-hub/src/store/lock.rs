//! One writer at a time, across processes. The system holds the lock, so that nobody's death keeps it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// The right to change what manifests say; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock in the file at `path`.
    ///
    /// # Errors
    /// [`Error::Busy`] with who holds it, if that takes longer than any change of a store does.
    pub(super) fn take(path: &Path, root: &Path) -> Result<Lock> {
        Lock::take_within(path, root, PATIENCE)
    }

    pub(super) fn take_within(path: &Path, root: &Path, patience: Duration) -> Result<Lock> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(Error::io("lock", path))?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(why)) => return Err(Error::io("lock", path)(why)),
                Err(TryLockError::WouldBlock) if begin.elapsed() >= patience => {
                    return Err(Error::Busy { root: root.to_owned(), holder: holder(&mut file) });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
        // Who holds it is told for others to read; the lock itself does not depend on it.
        let _ = sign(&mut file);
        Ok(Lock { _file: file })
    }
}

fn sign(file: &mut File) -> std::io::Result<()> {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    file.rewind()?;
    file.set_len(0)?;
    writeln!(file, "process {} ({program})", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(200).read_to_string(&mut text));
    match (read, text.trim()) {
        (Ok(_), text) if !text.is_empty() => text.to_owned(),
        _ => "another process".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_in_vain_is_told_who_holds_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let held = Lock::take(&path, place.path()).unwrap();
        let refused = Lock::take_within(&path, place.path(), Duration::ZERO).unwrap_err();
        let own = format!("process {}", std::process::id());
        assert!(refused.to_string().contains(&own), "{refused}");
        drop(held);
        Lock::take_within(&path, place.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_lock_that_a_dead_process_left_stops_nobody() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        std::fs::write(&path, "process 1 (gone)\n").unwrap();
        Lock::take_within(&path, place.path(), Duration::ZERO).unwrap();
    }
}
