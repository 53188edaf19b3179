//! Room on a disk.

use std::path::Path;

use crate::error::{Error, Result};

/// Fails if the disk of `path`, a file to be written, has less than `needed_bytes` free. Where the system does
/// not say, nothing is refused.
pub(crate) fn check(path: &Path, needed_bytes: u64) -> Result<()> {
    match free_bytes(path) {
        Some(free_bytes) if free_bytes < needed_bytes => {
            Err(Error::Space { path: path.to_owned(), needed_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let stat = rustix::fs::statvfs(folder.unwrap_or(Path::new("."))).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
