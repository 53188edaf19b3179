//! Unpacking an archive that may have been made to do harm: nothing is written outside of the folder, and no more
//! than an archive of its size can sensibly have.
//!
//! Folders, files and links to files of the same folder or below are made, and nothing else. Links come last, so
//! that nothing is written through one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use super::error::{Error, Result};
use crate::platform::{set_mode, symlink};

/// What an archive may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Files, folders and links.
    pub(super) entries: usize,
    /// Bytes of all files.
    pub(super) bytes: u64,
    /// Bytes of all files for each of the archive.
    pub(super) ratio: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        // Programs become a third or a quarter of their size; the largest builds have about a gigabyte.
        Limits { entries: 4096, bytes: 8 << 30, ratio: 64 }
    }
}

/// The longest link that is read.
const MOST_LINK: u64 = 4096;
/// Bytes that are no bomb, however small the archive is.
const ALWAYS: u64 = 4 << 20;

/// Writes below a folder, and counts.
struct Writer<'a> {
    name: &'a str,
    folder: &'a Path,
    entries: usize,
    bytes: u64,
    links: Vec<(PathBuf, PathBuf)>,
}

/// Unpacks a `.tar.gz` or `.zip` into a folder that is not there yet.
///
/// # Errors
/// If the archive is damaged, or has what none of these has: it may then be unpacked in part.
pub(super) fn unpack(archive: &Path, name: &str, folder: &Path, limits: Limits) -> Result<()> {
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    let size = file.metadata().map_err(Error::io("read", archive))?.len();
    let bytes = limits.bytes.min(size.saturating_mul(limits.ratio).max(ALWAYS));
    fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
    let mut writer = Writer { name, folder, entries: limits.entries, bytes, links: Vec::new() };
    match name.ends_with(".zip") {
        true => writer.zip(file)?,
        false => writer.tar(file, bytes)?,
    }
    writer.link()
}

impl Writer<'_> {
    fn refuse(&self, why: impl Into<String>) -> Error {
        Error::Archive { name: self.name.into(), why: why.into() }
    }

    fn damaged(&self, error: &dyn std::error::Error) -> Error {
        self.refuse(format!("it is damaged: {error}"))
    }

    fn tar(&mut self, file: File, bytes: u64) -> Result<()> {
        // Names and headers are read through the same bound as files are.
        let headers = 4096 * self.entries as u64;
        let plain = flate2::read::MultiGzDecoder::new(BufReader::new(file)).take(bytes + headers);
        let mut archive = tar::Archive::new(plain);
        for entry in archive.entries().map_err(|error| self.damaged(&error))? {
            let mut entry = entry.map_err(|error| self.damaged(&error))?;
            let kind = entry.header().entry_type();
            if kind == tar::EntryType::XGlobalHeader {
                continue;
            }
            let path = entry.path().map_err(|error| self.damaged(&error))?.into_owned();
            let Some(to) = self.admit(&path)? else { continue };
            match kind {
                tar::EntryType::Directory => self.make_folder(&to)?,
                tar::EntryType::Regular => {
                    let mode = entry.header().mode().unwrap_or(0);
                    self.write(&to, &mut entry, mode)?;
                }
                tar::EntryType::Symlink => {
                    let target = entry.link_name().map_err(|error| self.damaged(&error))?;
                    let target = target.map(|target| target.into_owned()).unwrap_or_default();
                    self.keep_link(to, target)?;
                }
                _ => {
                    let shown = path.display();
                    return Err(self.refuse(format!("{shown} is neither file, folder nor link")));
                }
            }
        }
        // What follows the last entry has the sum that the whole is checked by.
        let rest = io::copy(&mut archive.into_inner(), &mut io::sink());
        rest.map_err(|error| self.damaged(&error))?;
        Ok(())
    }

    fn zip(&mut self, file: File) -> Result<()> {
        let opened = zip::ZipArchive::new(BufReader::new(file));
        let mut archive = opened.map_err(|error| self.damaged(&error))?;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(|error| self.damaged(&error))?;
            let path = entry.name().map_err(|error| self.damaged(&error))?.into_owned();
            let path = PathBuf::from(path);
            let Some(to) = self.admit(&path)? else { continue };
            if entry.is_dir() {
                self.make_folder(&to)?;
            } else if entry.is_symlink() {
                let mut target = String::new();
                let read = (&mut entry).take(MOST_LINK).read_to_string(&mut target);
                read.map_err(|error| self.damaged(&error))?;
                self.keep_link(to, target.into())?;
            } else {
                // Archives of Windows have no modes.
                let mode = entry.unix_mode().unwrap_or(0);
                self.write(&to, &mut entry, mode)?;
            }
        }
        Ok(())
    }

    /// Where an entry goes; `None` if that is the folder itself.
    fn admit(&mut self, path: &Path) -> Result<Option<PathBuf>> {
        self.entries =
            self.entries.checked_sub(1).ok_or_else(|| self.refuse("it has too many files"))?;
        let below = below(path)
            .ok_or_else(|| self.refuse(format!("{} leads out of its folder", path.display())))?;
        Ok(below.file_name().is_some().then(|| self.folder.join(below)))
    }

    fn make_folder(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).map_err(Error::io("make the folder", path))
    }

    fn write(&mut self, to: &Path, from: &mut dyn Read, mode: u32) -> Result<()> {
        if let Some(parent) = to.parent() {
            self.make_folder(parent)?;
        }
        // Anew: a name that comes twice is refused.
        let opened = OpenOptions::new().write(true).create_new(true).open(to);
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => self.refuse(format!("{} is in it twice", to.display())),
            _ => Error::io("write", to)(error),
        })?;
        let copied = io::copy(&mut from.take(self.bytes + 1), &mut file);
        let copied = copied.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::PermissionDenied => {
                Error::io("write", to)(error)
            }
            _ => self.damaged(&error),
        })?;
        self.bytes = self
            .bytes
            .checked_sub(copied)
            .ok_or_else(|| self.refuse("it has far more bytes in it than its size lets expect"))?;
        set_mode(&file, mode).map_err(Error::io("write", to))
    }

    fn keep_link(&mut self, from: PathBuf, target: PathBuf) -> Result<()> {
        let is_below = below(&target).is_some_and(|below| below.file_name().is_some());
        if !is_below {
            let (from, target) = (from.display(), target.display());
            return Err(self.refuse(format!("{from} is a link that leads out, to {target}")));
        }
        self.links.push((from, target));
        Ok(())
    }

    /// Makes the links.
    fn link(self) -> Result<()> {
        for (from, target) in &self.links {
            if let Some(parent) = from.parent() {
                self.make_folder(parent)?;
            }
            symlink(target, from).map_err(Error::io("make the link", from))?;
        }
        Ok(())
    }
}

/// A path without `.`, if it is one below where it starts on every system.
fn below(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    // Where `\` is no separator and `:` nothing special, no archive of ours has them either.
    if text.contains(['\\', ':', '\0']) {
        return None;
    }
    let mut below = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => below.push(name),
            _ => return None,
        }
    }
    Some(below)
}

#[cfg(test)]
mod tests;
