//! Changing the metadata of a file.
//!
//! Where the changed metadata takes exactly as many bytes up to the data as before, padding included, only these are written
//! over, after the new ones lie whole beside the file; otherwise the file is written anew beside the old one and takes
//! its name at the end. Either way there is a whole file at any moment to go back to. A file that has a further name,
//! as one that a store took in, is never written over: under that name its bytes stay what they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oprel_gguf::{Gguf, Metadata, TensorInfo, Value, Writer};

use super::{GoesOn, add, like, write};
use crate::error::{Error, Result};
use crate::output::{check_space, refuse_same};

/// A change of one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The key has this value, new or instead of another.
    Set(String, Value),
    /// The key is gone.
    Remove(String),
}

/// How a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The metadata was written over; the data was not touched.
    InPlace,
    /// The whole file was written.
    Rewritten,
}

/// Changes the metadata of the model at `path`, in the order of `changes`; into `output` if given, else the file
/// itself. A key that is set keeps its place, a new one comes last.
///
/// # Errors
/// What cannot be read or written; a key to be removed that is not there; the architecture, the alignment and what tells
/// parts of a split model apart, which cannot be changed without changing the rest; a model of several files.
pub fn edit(
    path: &Path,
    output: Option<&Path>,
    changes: &[Change],
    goes_on: &GoesOn<'_>,
) -> Result<Edited> {
    // A link stays one: what it leads to is changed.
    let real = path.canonicalize();
    let path = real.as_deref().unwrap_or(path);
    restore(path)?;
    let model = Gguf::open(path)?;
    if model.paths().count() > 1 {
        return Err(Error::Request("the model is split: merge it, edit it, and split it again"));
    }
    if let Some(output) = output {
        refuse_same(&model, output)?;
        return rewrite(&model, output, changes, goes_on);
    }
    match new_head(&model, changes, goes_on)?.filter(|_| has_one_name(path)) {
        Some(head) => {
            drop(model);
            overwrite(path, &head).map(|()| Edited::InPlace)
        }
        None => {
            let before = fs::metadata(path).map_err(Error::io("read", path))?.permissions();
            let rewritten = rewrite(&model, path, changes, goes_on)?;
            fs::set_permissions(path, before)
                .map_err(Error::io("keep the permissions of", path))?;
            Ok(rewritten)
        }
    }
}

/// Whether the file is known by this name alone.
#[cfg(unix)]
fn has_one_name(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.nlink() == 1)
}

/// Whether the file is known by this name alone: here nobody says so.
#[cfg(not(unix))]
fn has_one_name(_: &Path) -> bool {
    false
}

/// A writer of the model with all changes.
fn writer<'a>(model: &'a Gguf, changes: &[Change], goes_on: &'a GoesOn<'_>) -> Result<Writer<'a>> {
    let mut writer = like(model)?;
    for (key, value) in changed(model.metadata(), changes)? {
        writer.set(&key, value)?;
    }
    for tensor in model.tensors() {
        add(&mut writer, model, tensor, goes_on)?;
    }
    Ok(writer)
}

fn rewrite(model: &Gguf, to: &Path, changes: &[Change], goes_on: &GoesOn<'_>) -> Result<Edited> {
    let writer = writer(model, changes, goes_on)?;
    check_space(to, writer.file_bytes()?)?;
    write(writer, to, model, goes_on)?;
    Ok(Edited::Rewritten)
}

/// All before the data, if that takes as many bytes as before and the data lies as a writer puts it.
fn new_head(model: &Gguf, changes: &[Change], goes_on: &GoesOn<'_>) -> Result<Option<Vec<u8>>> {
    let writer = writer(model, changes, goes_on)?;
    let data = model.tensors().iter().map(TensorInfo::file_offset).min();
    let is_same = writer.file_bytes()? == model.total_bytes();
    let Some(data) = data.filter(|data| is_same && is_laid_out(model, *data)) else {
        return Ok(None);
    };
    let mut head = Head { bytes: Vec::new(), most: data as usize };
    // The writer stops with an error where the head is full.
    let _ = writer.write(&mut head);
    Ok((head.bytes.len() as u64 == data).then_some(head.bytes))
}

/// Tensors follow each other in order, each at the next multiple of the alignment.
fn is_laid_out(model: &Gguf, data: u64) -> bool {
    let mut at = data;
    model.tensors().iter().all(|tensor| {
        let is_there = tensor.file_offset() == at;
        at += tensor.n_bytes().next_multiple_of(model.alignment().max(1));
        is_there
    })
}

/// Keeps what is written until it is full, and then fails.
struct Head {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.most - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `path` with `ending`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Writes `head` over the beginning of the file. Until that is done what was there lies beside it, whole, as
/// `.head`, from where [`restore`] takes it back.
fn overwrite(path: &Path, head: &[u8]) -> Result<()> {
    let (aside, partial) = (beside(path, ".head"), beside(path, ".head.partial"));
    let keep = || -> io::Result<()> {
        let mut before = vec![0; head.len()];
        File::open(path)?.read_exact(&mut before)?;
        let mut file = File::create(&partial)?;
        file.write_all(&before)?;
        file.sync_all()?;
        fs::rename(&partial, &aside)
    };
    keep().map_err(Error::io("keep the metadata of", path))?;
    match put(path, head) {
        Ok(()) => fs::remove_file(&aside).map_err(Error::io("remove", &aside)),
        Err(error) => {
            // If not even the old bytes can be written, they lie aside for the next edit.
            let _ = restore(path);
            Err(Error::io("write", path)(error))
        }
    }
}

/// Takes back the metadata of an edit that was cut off.
fn restore(path: &Path) -> Result<()> {
    let aside = beside(path, ".head");
    let before = match fs::read(&aside) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", &aside)(error)),
    };
    put(path, &before).map_err(Error::io("write", path))?;
    fs::remove_file(&aside).map_err(Error::io("remove", &aside))
}

/// Writes over the beginning of the file.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The metadata with all changes.
fn changed(metadata: &Metadata, changes: &[Change]) -> Result<Vec<(String, Value)>> {
    let mut all: Vec<(String, Value)> =
        metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    for change in changes {
        let (Change::Set(key, _) | Change::Remove(key)) = change;
        let refuse = |problem: &str| Err(Error::Key { key: key.clone(), problem: problem.into() });
        if matches!(
            key.as_str(),
            "general.alignment" | "split.no" | "split.count" | "split.tensors.count"
        ) {
            return refuse("says how the file is laid out, and is not edited");
        }
        let at = all.iter().position(|(other, _)| other == key);
        match (change, at) {
            (Change::Set(_, value), Some(at)) => all[at].1 = value.clone(),
            (Change::Set(_, value), None) => all.push((key.clone(), value.clone())),
            (Change::Remove(_), _) if key == "general.architecture" => {
                return refuse("no model is without it");
            }
            (Change::Remove(_), Some(at)) => drop(all.remove(at)),
            (Change::Remove(_), None) => return refuse("there is no such key"),
        }
    }
    Ok(all)
}
