//! The steps that change a disk. All changes of the store go through here, so that a test can stop the
//! machine before any of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// A name that no other file has.
pub(super) fn fresh_name(folder: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("oprel-{}-{n}.tmp", std::process::id()))
}

pub(super) fn create_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    step().and_then(|()| fs::create_dir_all(path)).map_err(Error::io("create", path))
}

/// A new file, open for writing.
pub(super) fn create(path: &Path) -> Result<File> {
    let open = || OpenOptions::new().write(true).create(true).truncate(true).open(path);
    step().and_then(|()| open()).map_err(Error::io("create", path))
}

/// Writes a whole file and forces it to disk.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    let written = step().and_then(|()| file.write_all(bytes));
    written.map_err(Error::io("write", path))?;
    sync(&file, path)
}

pub(super) fn sync(file: &File, path: &Path) -> Result<()> {
    step().and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

/// Gives a file its name, in place of what had it, and forces both folders to disk.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    step().and_then(|()| fs::rename(from, to)).map_err(Error::io("write", to))?;
    sync_folder(to)
}

/// Gives a file a further name, after its bytes were forced to disk: who wrote it may not have done that.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    if cfg!(unix) {
        step().and_then(|()| File::open(from)?.sync_all())?;
    }
    step().and_then(|()| fs::hard_link(from, to))
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match step().and_then(|()| fs::remove_file(path)) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(why)),
        _ => Ok(()),
    }
}

/// Removes folders upwards while they are empty, up to `root`, which stays.
pub(super) fn remove_empty(path: &Path, root: &Path) {
    let mut folder = Some(path);
    while let Some(path) = folder.filter(|path| *path != root && path.starts_with(root)) {
        if step().and_then(|()| fs::remove_dir(path)).is_err() {
            return;
        }
        folder = path.parent();
    }
}

/// Makes a file new for those who look when it was changed.
pub(super) fn touch(path: &Path) {
    if let Ok(file) = OpenOptions::new().append(true).open(path) {
        // A time that cannot be set costs nothing but a file that is collected earlier.
        let _ = file.set_modified(std::time::SystemTime::now());
    }
}

/// Forces the names in the folder of `path` to disk, where the system can do that.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|_| cfg!(unix)) else { return Ok(()) };
    let force = || File::open(folder)?.sync_all();
    step().and_then(|()| force()).map_err(Error::io("write", folder))
}

#[cfg(not(test))]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use stop::{step, stop_before};

/// The machine that stops: after so many steps of this thread nothing changes any more.
#[cfg(test)]
mod stop {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets `n` steps be done and no more; `None` lets all.
    pub(crate) fn stop_before(n: Option<u32>) {
        LEFT.set(n);
    }

    pub(crate) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the machine stopped")),
            Some(n) => {
                LEFT.set(Some(n - 1));
                Ok(())
            }
        }
    }
}
