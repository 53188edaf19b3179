//! An open model: one file or all parts of a split one.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::bytes::{Bytes, Source};
use crate::error::{Error, Result};
use crate::map::Map;
use crate::metadata::Metadata;
use crate::parse::{Names, Parsed, parse};
use crate::split;
use crate::tensor::TensorInfo;
use crate::{FileType, QuantType, endian};

/// A GGUF model, open for reading. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Gguf {
    inner: Arc<Inner>,
}

struct Inner {
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    names: Names,
    parts: Vec<Part>,
    /// For each tensor that cannot be read where it is: the copy that can, once it was asked for.
    copies: Vec<OnceLock<Bytes>>,
}

/// One file.
pub(crate) struct Part {
    /// `None` for bytes that are no file.
    path: Option<PathBuf>,
    source: Source,
    big_endian: bool,
    alignment: u64,
}

/// Where [`Gguf::bytes`] of a tensor begin, at least.
const DATA_ALIGN: usize = 8;

impl Gguf {
    /// Maps a file and reads its metadata. Given one part of a split model (`-00001-of-00003.gguf`, whichever),
    /// opens all of them.
    ///
    /// The file must not be changed while it is in use. If it is, reads give zeros or other wrong numbers and
    /// [`check`](Gguf::check) an error; the process survives.
    ///
    /// # Errors
    ///
    /// What the system says of the file; what is malformed in it; what its other parts lack.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf> {
        let path = path.as_ref();
        let (part, parsed) = open_part(path)?;
        let Some(split) = split::position(&parsed.metadata).map_err(|e| in_file(path, e))? else {
            return Ok(Gguf::assemble(parsed, vec![part]));
        };
        let (parsed, parts) = split::open_all(path, split, (part, parsed))?;
        Ok(Gguf::assemble(parsed, parts))
    }

    /// Maps all parts of a model, in their order. What they are called does not matter: a store names files
    /// by their contents. One path is a model by itself.
    ///
    /// # Errors
    ///
    /// As [`open`](Gguf::open); if a part is missing, twice there, or of another model.
    pub fn open_parts<P: AsRef<Path>>(paths: &[P]) -> Result<Gguf> {
        let mut parts = Vec::new();
        for path in paths {
            parts.push((path.as_ref().to_owned(), open_part(path.as_ref())?));
        }
        let (parsed, parts) = split::join(parts)?;
        Ok(Gguf::assemble(parsed, parts))
    }

    /// Reads a model that is part of the program.
    ///
    /// # Errors
    ///
    /// What is malformed in it.
    pub fn from_static(bytes: &'static [u8]) -> Result<Gguf> {
        Gguf::from_source(Source::Static(bytes))
    }

    /// Reads a model that is in memory.
    ///
    /// # Errors
    ///
    /// What is malformed in it.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Gguf> {
        Gguf::from_source(Source::Heap(bytes.into()))
    }

    fn from_source(source: Source) -> Result<Gguf> {
        let parsed = parse(source.as_slice())?;
        if let Some(split) = split::position(&parsed.metadata)? {
            return Err(split.alone());
        }
        let part = Part::new(None, source, &parsed);
        Ok(Gguf::assemble(parsed, vec![part]))
    }

    fn assemble(parsed: Parsed, parts: Vec<Part>) -> Gguf {
        let Parsed { version, metadata, tensors, names, .. } = parsed;
        let mut inner = Inner { version, metadata, tensors, names, parts, copies: Vec::new() };
        if inner.tensors.iter().any(|tensor| inner.needs_copy(tensor)) {
            inner.copies.resize_with(inner.tensors.len(), OnceLock::new);
        }
        Gguf { inner: Arc::new(inner) }
    }

    /// The version of the format, 1 to 3.
    pub fn version(&self) -> u32 {
        self.inner.version
    }

    /// The metadata; of a split model that of its first part, which has all.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// All tensors, in the order of the file and of the parts.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.inner.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.inner.tensors.get(*self.inner.names.get(name)?)
    }

    /// The data of a tensor, little-endian whatever the file is, beginning at a multiple of 8 bytes.
    ///
    /// Nothing is copied where the file has it so, which is nearly always. A tensor of a big-endian file is
    /// swapped into a copy, one that begins elsewhere is moved into one, at the first call; the copy is kept
    /// for the next.
    ///
    /// # Panics
    ///
    /// If `tensor` is of another model.
    pub fn bytes(&self, tensor: &TensorInfo) -> Bytes {
        let raw = self.bytes_in_file(tensor);
        if !self.inner.needs_copy(tensor) {
            return raw;
        }
        let copy = || {
            Bytes::aligned_copy(&raw, DATA_ALIGN, |bytes| {
                if self.inner.part(tensor).big_endian {
                    endian::swap(tensor.ty, bytes);
                }
            })
        };
        self.inner.copies.get(tensor.index).map_or_else(copy, |kept| kept.get_or_init(copy).clone())
    }

    /// The data of a tensor exactly as and where the file has it; [`big_endian`](Gguf::big_endian) tells how
    /// to read it.
    ///
    /// # Panics
    ///
    /// If `tensor` is of another model.
    pub fn bytes_in_file(&self, tensor: &TensorInfo) -> Bytes {
        assert_eq!(self.inner.tensors.get(tensor.index), Some(tensor), "a tensor of another model");
        let range = tensor.start..tensor.start.saturating_add(tensor.n_bytes);
        Bytes::all(self.inner.part(tensor).source.clone()).slice(range)
    }

    /// Numbers in the file (the first part) have their highest byte first. [`bytes`](Gguf::bytes) hides it.
    pub fn big_endian(&self) -> bool {
        self.inner.parts.first().is_some_and(|part| part.big_endian)
    }

    /// What the data offsets of the file (the first part) are multiples of.
    pub fn alignment(&self) -> u64 {
        self.inner.parts.first().map_or(0, |part| part.alignment)
    }

    /// Bytes of the file, of all parts together.
    pub fn total_bytes(&self) -> u64 {
        self.inner.parts.iter().map(|part| part.source.as_slice().len() as u64).sum()
    }

    /// The file type that the metadata names, in the word that clients of the field know; else the type that
    /// most weights have.
    pub fn file_type(&self) -> &'static str {
        let named = self.metadata().u32("general.file_type").ok().flatten();
        match named.and_then(FileType::from_gguf) {
            Some(FileType::MXFP4_MOE) => return "MXFP4",
            Some(ty) => return ty.name(),
            None => {}
        }
        let mut sizes: Vec<(QuantType, u64)> = Vec::new();
        for tensor in self.tensors() {
            let n = tensor.n_elements();
            match sizes.iter_mut().find(|(ty, _)| *ty == tensor.ty) {
                Some((_, sum)) => *sum = sum.saturating_add(n),
                None => sizes.push((tensor.ty, n)),
            }
        }
        sizes.into_iter().max_by_key(|(_, n)| *n).map_or("unknown", |(ty, _)| ty.name())
    }

    /// Files of the model; none if it was given as bytes.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.inner.parts.iter().filter_map(|part| part.path.as_deref())
    }

    /// Whether all that was read so far was the file: call it after each step that read tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if a file has become shorter or could not be read at some place. It stays so.
    pub fn check(&self) -> Result<()> {
        let damaged = |part: &&Part| matches!(&part.source, Source::Map(map) if map.is_damaged());
        match self.inner.parts.iter().find(damaged) {
            None => Ok(()),
            Some(part) => Err(Error::Damaged { path: part.path.clone().unwrap_or_default() }),
        }
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.version())
            .field("big_endian", &self.big_endian())
            .field("metadata", &self.metadata().len())
            .field("tensors", &self.tensors().len())
            .field("paths", &self.paths().collect::<Vec<_>>())
            .finish()
    }
}

impl Inner {
    fn part(&self, tensor: &TensorInfo) -> &Part {
        match self.parts.get(tensor.part) {
            Some(part) => part,
            None => unreachable!("every tensor is in a part"),
        }
    }

    /// The data cannot be read where it is.
    fn needs_copy(&self, tensor: &TensorInfo) -> bool {
        let part = self.part(tensor);
        let address = part.source.as_slice().as_ptr().addr().wrapping_add(tensor.start);
        tensor.n_bytes > 0
            && (!address.is_multiple_of(DATA_ALIGN)
                || (part.big_endian && endian::differs(tensor.ty)))
    }
}

impl Part {
    fn new(path: Option<PathBuf>, source: Source, parsed: &Parsed) -> Part {
        Part { path, source, big_endian: parsed.big_endian, alignment: parsed.alignment }
    }
}

/// Maps and parses one file.
pub(crate) fn open_part(path: &Path) -> Result<(Part, Parsed)> {
    let io_error = |doing| move |source| Error::Io { doing, path: path.to_owned(), source };
    let file = open_file(path).map_err(io_error("open"))?;
    let map = Map::new(file).map_err(io_error("map"))?;
    let parsed = parse(&map);
    if map.is_damaged() {
        return Err(Error::Damaged { path: path.to_owned() });
    }
    let parsed = parsed.map_err(|e| in_file(path, e))?;
    let source = Source::Map(Arc::new(map));
    let part = Part::new(Some(path.to_owned()), source, &parsed);
    Ok((part, parsed))
}

/// A regular file: anything else (a pipe, a directory) would wait or fail in less clear words.
fn open_file(path: &Path) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    File::open(path)
}

pub(crate) fn in_file(path: &Path, source: Error) -> Error {
    Error::InFile { path: path.to_owned(), source: Box::new(source) }
}
