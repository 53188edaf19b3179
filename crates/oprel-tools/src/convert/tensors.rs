//! The tensors of a folder: one safetensors file or several with an index, read by ranges and never trusted.
//!
//! Layout of a file: the length of the header as u64, the header in JSON (name -> type, shape, range of
//! bytes), the data. What a header says is checked against the length of its file before anything is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use super::config::read_json;
use crate::error::{Error, Result};

/// The longest header that is read; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// How elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    F16,
    BF16,
    /// E4M3; its blocks have scales in another tensor.
    F8,
    /// Bytes of another packing.
    U8,
    /// A type of so many bytes that no weight has.
    Other(u8),
}

impl Stored {
    fn named(name: &str) -> Option<Stored> {
        Some(match name {
            "F32" => Stored::F32,
            "F16" => Stored::F16,
            "BF16" => Stored::BF16,
            "F8_E4M3" => Stored::F8,
            "U8" => Stored::U8,
            "BOOL" | "I8" | "F8_E5M2" | "F8_E8M0" => Stored::Other(1),
            "I16" | "U16" => Stored::Other(2),
            "I32" | "U32" => Stored::Other(4),
            "I64" | "U64" | "F64" | "C64" => Stored::Other(8),
            _ => return None,
        })
    }

    /// Bytes of an element.
    pub(super) fn n_bytes(self) -> u64 {
        match self {
            Stored::F32 => 4,
            Stored::F16 | Stored::BF16 => 2,
            Stored::F8 | Stored::U8 => 1,
            Stored::Other(n) => n.into(),
        }
    }
}

/// One tensor.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) stored: Stored,
    /// Row-major, slowest first.
    pub(super) shape: Vec<u64>,
    file: usize,
    start: u64,
    pub(super) n_bytes: u64,
}

/// All tensors of a folder.
pub(super) struct Tensors {
    files: Vec<(PathBuf, Mutex<File>)>,
    all: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

impl Tensors {
    /// Reads the headers of all files.
    pub(super) fn open(folder: &Path) -> Result<Tensors> {
        let mut tensors = Tensors { files: Vec::new(), all: Vec::new(), by_name: HashMap::new() };
        for name in file_names(folder)? {
            tensors.add_file(folder.join(name))?;
        }
        Ok(tensors)
    }

    fn add_file(&mut self, path: PathBuf) -> Result<()> {
        let mut file = File::open(&path).map_err(Error::io("read", &path))?;
        let header = read_header(&path, &mut file)?;
        for (name, entry) in &header.entries {
            if name == "__metadata__" {
                continue;
            }
            let tensor = tensor(name, entry, self.files.len(), &header)
                .map_err(|problem| Error::Safetensors { path: path.clone(), problem })?;
            if self.by_name.insert(name.clone(), self.all.len()).is_some() {
                return Err(Error::tensor(name, "stands in two files of the folder"));
            }
            self.all.push(tensor);
        }
        self.files.push((path, Mutex::new(file)));
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Tensor)> {
        self.all.iter().enumerate()
    }

    /// The tensor with this index.
    pub(super) fn get(&self, index: usize) -> Option<&Tensor> {
        self.all.get(index)
    }

    /// Index of the tensor of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The scales of an FP8 tensor.
    pub(super) fn scales_of(&self, index: usize) -> Option<usize> {
        let name = &self.get(index)?.name;
        self.find(&format!("{name}_scale_inv"))
    }

    /// Fills `to` with the bytes of a tensor from `at` on.
    pub(super) fn read(&self, index: usize, at: u64, to: &mut [u8]) -> io::Result<()> {
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a range outside its tensor");
        let tensor = self.all.get(index).ok_or_else(outside)?;
        let end = at.checked_add(to.len() as u64).ok_or_else(outside)?;
        let (_, file) = self.files.get(tensor.file).ok_or_else(outside)?;
        if end > tensor.n_bytes {
            return Err(outside());
        }
        let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(tensor.start.saturating_add(at)))?;
        file.read_exact(to)
    }
}

/// The files of the index, or the one file there is.
fn file_names(folder: &Path) -> Result<Vec<String>> {
    const SINGLE: &str = "model.safetensors";
    if let Some(index) = read_json(&folder.join("model.safetensors.index.json"))? {
        let map = index.get("weight_map").and_then(Value::as_object);
        let names = map.into_iter().flat_map(|m| m.values()).filter_map(Value::as_str);
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        // A name in an index must not lead out of the folder.
        if names.is_empty() || names.iter().any(|n| Path::new(n).components().count() != 1) {
            return Err(Error::Safetensors {
                path: folder.join("model.safetensors.index.json"),
                problem: "its weight_map names no files of this folder".into(),
            });
        }
        return Ok(names);
    }
    if folder.join(SINGLE).is_file() {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut found: Vec<String> = names.filter(|n| n.ends_with(".safetensors")).collect();
    found.sort();
    if found.is_empty() {
        return Err(Error::MissingFile {
            folder: folder.to_owned(),
            file: SINGLE,
            hint: "only safetensors are read; a folder of .bin or .pth files must be saved anew by its \
                   makers' tools, and many models are published in both forms",
        });
    }
    Ok(found)
}

struct Header {
    entries: serde_json::Map<String, Value>,
    /// Where the data begins.
    data: u64,
    /// Bytes of the data.
    n_bytes: u64,
}

fn read_header(path: &Path, file: &mut File) -> Result<Header> {
    let bad = |problem: &str| Error::Safetensors { path: path.to_owned(), problem: problem.into() };
    let total = file.metadata().map_err(Error::io("read", path))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| bad("it is shorter than eight bytes"))?;
    let length = u64::from_le_bytes(length);
    let data = length.saturating_add(8);
    if length > MAX_HEADER || data > total {
        return Err(bad("its header is longer than the file, or than 100 MB"));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(Error::io("read", path))?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(entries)) => Ok(Header { entries, data, n_bytes: total - data }),
        _ => Err(bad("its header is not a JSON object")),
    }
}

fn tensor(name: &str, entry: &Value, file: usize, header: &Header) -> Result<Tensor, String> {
    let ty = entry.get("dtype").and_then(Value::as_str).unwrap_or_default();
    let stored = Stored::named(ty).ok_or_else(|| format!("'{name}' is of unknown type '{ty}'"))?;
    let numbers = |key: &str| -> Option<Vec<u64>> {
        entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect()
    };
    let shape = numbers("shape").ok_or_else(|| format!("'{name}' has no shape"))?;
    let offsets = numbers("data_offsets").unwrap_or_default();
    let &[start, end] = offsets.as_slice() else {
        return Err(format!("'{name}' has no range of bytes"));
    };
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    let n_bytes = elements.and_then(|n| n.checked_mul(stored.n_bytes()));
    if start > end || end > header.n_bytes || n_bytes != Some(end - start) {
        return Err(format!(
            "'{name}' has a range of bytes that does not fit its shape or the file"
        ));
    }
    let start = header.data + start;
    Ok(Tensor {
        name: name.to_owned(),
        stored,
        shape,
        file,
        start,
        n_bytes: end - (start - header.data),
    })
}
