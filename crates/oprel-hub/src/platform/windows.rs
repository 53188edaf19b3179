//! Files on Windows.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, symlink_file};
use std::path::Path;

use oprel_windows::{allocated_bytes, file_id};

/// Whether this is the file of that name.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let named = File::open(path).and_then(|named| file_id(&named));
    matches!((file_id(file), named), (Ok(a), Ok(b)) if a == b)
}

/// Writes at a place.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = file.seek_write(bytes, at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

/// Reads at a place.
pub(crate) fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(into, at)
}

/// Bytes of the disk that a file has already; `known` where that cannot be asked.
pub(crate) fn allocated(file: &File, known: u64) -> u64 {
    allocated_bytes(file).unwrap_or(known)
}

/// Bytes of the disk that a file takes.
pub(crate) fn on_disk(path: &Path) -> u64 {
    let length = fs::metadata(path).map_or(0, |file| file.len());
    File::open(path).map_or(length, |file| allocated(&file, length).min(length))
}

/// The length that a file is given next takes its room.
pub(crate) fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Names are on the disk once they are given.
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A file in a user's own folder is for that user already.
pub(crate) fn private(_: &mut OpenOptions) {}

/// Whether a file may be run is in its name.
pub(crate) fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

/// Makes a link, where this user may.
pub(crate) fn symlink(target: &Path, from: &Path) -> io::Result<()> {
    symlink_file(target, from)
}

/// Gives a file a further name, at which it is not copied. Not every user may make links that lead to it.
pub(crate) fn lead_to(file: &Path, from: &Path) -> io::Result<()> {
    fs::hard_link(file, from)
}
