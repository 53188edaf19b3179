//! Where a file is about to be written: room on the disk, and not over what it is made from.

use std::io;
use std::path::Path;

use oprel_gguf::Gguf;
use oprel_telemetry::Disk;

use crate::error::{Error, Result};

/// Fails if the disk of `path`, a file to be written, has less than `needed_bytes` free. Where the system does
/// not say, nothing is refused.
pub(crate) fn check_space(path: &Path, needed_bytes: u64) -> Result<()> {
    // A file that is there already may be a link to another disk; the new one is written beside it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match Disk::of(folder.unwrap_or(Path::new("."))).free_bytes {
        Some(free_bytes) if free_bytes < needed_bytes => {
            Err(Error::Space { path: path.to_owned(), needed_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}

/// Fails if what is made of `model` cannot be written at `path`: it is one of the model's files, a folder stands
/// there, or there is none for it to be in. For work that takes long before it writes.
///
/// # Errors
/// [`Error::Same`], [`Error::Io`].
pub fn check_output(model: &Gguf, path: &Path) -> Result<()> {
    refuse_same(model, path)?;
    let refuse = |kind, why| Err(Error::io("write", path)(io::Error::new(kind, why)));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match (path.is_dir(), folder.is_none_or(Path::is_dir)) {
        (true, _) => refuse(io::ErrorKind::IsADirectory, "a folder is there"),
        (_, false) => refuse(io::ErrorKind::NotFound, "there is no such folder"),
        (false, true) => Ok(()),
    }
}

/// Fails if `path` is one of the files of `model`.
pub(crate) fn refuse_same(model: &Gguf, path: &Path) -> Result<()> {
    let Ok(there) = path.canonicalize() else { return Ok(()) };
    let is_input = model.paths().any(|path| path.canonicalize().is_ok_and(|path| path == there));
    if is_input { Err(Error::Same { path: path.to_owned() }) } else { Ok(()) }
}

/// Fails if `path` is a file of `folder` that a model is made from: one that is there, and no GGUF file.
pub(crate) fn refuse_input(folder: &Path, path: &Path) -> Result<()> {
    let (Ok(folder), Ok(there)) = (folder.canonicalize(), path.canonicalize()) else {
        return Ok(());
    };
    let is_gguf = there.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf"));
    match there.starts_with(folder) && !is_gguf {
        true => Err(Error::Same { path: path.to_owned() }),
        false => Ok(()),
    }
}
