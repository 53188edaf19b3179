//! Files on Unix.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Whether this is the file of that name.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(a), Ok(b)) = (file.metadata(), fs::metadata(path)) else { return false };
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Writes at a place, without moving where others write.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    FileExt::write_all_at(file, bytes, at)
}

/// Reads at a place.
pub(crate) fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    FileExt::read_at(file, into, at)
}

/// Bytes of the disk that a file has already; `known` where that cannot be asked.
pub(crate) fn allocated(file: &File, known: u64) -> u64 {
    file.metadata().map_or(known, |metadata| metadata.blocks().saturating_mul(512))
}

/// Bytes of the disk that a file takes. Those that are being fetched have their full length from the beginning,
/// and holes.
pub(crate) fn on_disk(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len().min(file.blocks().saturating_mul(512)))
}

/// Takes room on the disk for so many bytes, where the system can do that.
#[cfg(target_os = "linux")]
pub(crate) fn reserve(file: &File, size: u64) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        // Not every file system can; writing will then find out whether it fits.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writing will find out whether it fits.
#[cfg(not(target_os = "linux"))]
pub(crate) fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Forces the names in a folder to disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Lets only its owner read a file that is made.
pub(crate) fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Whether a program is one is kept; whose it is to change, and all else, is not.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let mode = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Makes a link.
pub(crate) fn symlink(target: &Path, from: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, from)
}

/// Gives a file a further name, at which it is not copied.
pub(crate) fn lead_to(file: &Path, from: &Path) -> io::Result<()> {
    symlink(&file.canonicalize().unwrap_or_else(|_| file.to_owned()), from)
}
