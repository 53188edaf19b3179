//! Writes GGUF files: any version, byte order and alignment.
//!
//! Names, shapes and metadata are collected first, since they precede all data in a file; data is taken when
//! its turn comes, so that a model larger than memory can be written. Never writes what the reader refuses.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use oprel_quant::QuantType;

use crate::endian;
use crate::error::{Error, Result};
use crate::limits;
use crate::metadata::Metadata;
use crate::parse::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, alignment_is_usable};
use crate::tensor::sizes;
use crate::value::{Array, Value};

/// A model to be written.
///
/// ```
/// use oprel_gguf::{Gguf, QuantType, Writer};
///
/// let mut writer = Writer::new();
/// writer.set("general.architecture", "llama")?;
/// writer.tensor("output_norm.weight", &[2], QuantType::F32, [0, 0, 128, 63, 0, 0, 128, 63].as_slice())?;
/// let mut file = Vec::new();
/// writer.write(&mut file)?;
///
/// let model = Gguf::from_bytes(file)?;
/// assert_eq!(model.metadata().str("general.architecture")?, Some("llama"));
/// assert_eq!(model.tensors()[0].shape, [2]);
/// # Ok::<(), oprel_gguf::Error>(())
/// ```
pub struct Writer<'a> {
    version: u32,
    big_endian: bool,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<Pending<'a>>,
    names: HashSet<String>,
}

struct Pending<'a> {
    name: String,
    shape: Vec<u64>,
    ty: QuantType,
    n_bytes: u64,
    data: Data<'a>,
}

type Produce<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

enum Data<'a> {
    Bytes(Cow<'a, [u8]>),
    Produce(Produce<'a>),
}

impl Default for Writer<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Writer<'a> {
    /// A model without metadata and tensors; version 3, little-endian, data aligned to 32 bytes.
    pub fn new() -> Writer<'a> {
        Writer {
            version: 3,
            big_endian: false,
            alignment: DEFAULT_ALIGNMENT,
            metadata: Metadata::default(),
            tensors: Vec::new(),
            names: HashSet::new(),
        }
    }

    /// Writes version 1 or 2, which few programs still read, instead of 3.
    ///
    /// # Errors
    ///
    /// If there is no such version.
    pub fn version(&mut self, version: u32) -> Result<()> {
        if !(1..=3).contains(&version) {
            return Err(Error::Version { version });
        }
        self.version = version;
        Ok(())
    }

    /// Writes numbers with their highest byte first.
    pub fn big_endian(&mut self, big_endian: bool) {
        self.big_endian = big_endian;
    }

    /// Adds a metadata entry. Setting `general.alignment` sets the alignment of the file.
    ///
    /// # Errors
    ///
    /// If the key is there already, or the reader would refuse key or value.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        let value = value.into();
        check_name(key, limits::KEY_BYTES)?;
        check_value(key, &value)?;
        if key == ALIGNMENT_KEY {
            self.alignment = match value {
                Value::U32(n) if alignment_is_usable(n.into()) => n.into(),
                other => return unwritable(key, format!("{} is no alignment", other.describe())),
            };
        }
        if self.metadata.len() as u64 >= limits::METADATA_ENTRIES {
            return unwritable(key, "too many metadata entries");
        }
        match self.metadata.insert(key.into(), value) {
            None => Ok(()),
            Some(_) => unwritable(key, "the key is there already"),
        }
    }

    /// Adds a tensor whose data is at hand: little-endian whatever the file will be.
    ///
    /// # Errors
    ///
    /// If there is one of this name, the shape cannot be, or `bytes` is not of its size.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[u64],
        ty: QuantType,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Result<()> {
        let bytes = bytes.into();
        let n_bytes = self.check_tensor(name, shape, ty)?;
        if bytes.len() as u64 != n_bytes {
            return unwritable(
                name,
                format!("{} bytes for a shape that takes {n_bytes}", bytes.len()),
            );
        }
        self.push(name, shape, ty, n_bytes, Data::Bytes(bytes));
        Ok(())
    }

    /// Adds a tensor whose data `produce` writes when its turn comes: little-endian whatever the file will be.
    ///
    /// # Errors
    ///
    /// If there is one of this name or the shape cannot be.
    pub fn tensor_with(
        &mut self,
        name: &str,
        shape: &[u64],
        ty: QuantType,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()> + 'a,
    ) -> Result<()> {
        let n_bytes = self.check_tensor(name, shape, ty)?;
        self.push(name, shape, ty, n_bytes, Data::Produce(Box::new(produce)));
        Ok(())
    }

    fn push(&mut self, name: &str, shape: &[u64], ty: QuantType, n_bytes: u64, data: Data<'a>) {
        self.names.insert(name.to_owned());
        let (name, shape) = (name.to_owned(), shape.to_owned());
        self.tensors.push(Pending { name, shape, ty, n_bytes, data });
    }

    /// Bytes of the data of such a tensor.
    fn check_tensor(&self, name: &str, shape: &[u64], ty: QuantType) -> Result<u64> {
        check_name(name, limits::TENSOR_NAME_BYTES)?;
        if self.names.contains(name) {
            return unwritable(name, "there is a tensor of this name already");
        }
        if self.tensors.len() as u64 >= limits::TENSORS {
            return unwritable(name, "too many tensors");
        }
        let dims = 1..=limits::DIMENSIONS as usize;
        match sizes(shape, ty) {
            Some((_, n_bytes)) if dims.contains(&shape.len()) => Ok(n_bytes),
            _ => unwritable(name, format!("shape {shape:?} is not possible for {ty}")),
        }
    }

    /// Bytes of the file as it is now.
    ///
    /// # Errors
    ///
    /// If it could not be written for its size, or for numbers too large for version 1.
    pub fn file_bytes(&self) -> Result<u64> {
        let header = self.header()?.len() as u64;
        if self.tensors.is_empty() {
            return Ok(header);
        }
        let padded = |n: u64| n.checked_next_multiple_of(self.alignment);
        let data = self
            .tensors
            .iter()
            .try_fold(0u64, |sum, tensor| sum.checked_add(padded(tensor.n_bytes)?));
        match data.zip(padded(header)).and_then(|(data, header)| header.checked_add(data)) {
            Some(n_bytes) => Ok(n_bytes),
            None => unwritable("data", "the file would be too large"),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// What `out` or a producer of data says; a producer that gives more or fewer bytes than its tensor
    /// takes; numbers too large for version 1.
    pub fn write(self, out: impl Write) -> Result<()> {
        let header = self.header()?;
        self.write_all(&header, out).map_err(|source| Error::Io {
            doing: "write",
            path: "GGUF".into(),
            source,
        })
    }

    /// Writes to `path`, which is replaced when all is written and on disk; until then the name has `.partial`
    /// appended. What cannot be finished is removed.
    ///
    /// # Errors
    ///
    /// As [`write`](Writer::write).
    pub fn write_file(self, path: impl AsRef<Path>) -> Result<()> {
        self.write_checked(path, |_| Ok(()))
    }

    /// As [`write_file`](Writer::write_file), where `check` looks at the whole file before it gets its name.
    ///
    /// # Errors
    ///
    /// As [`write`](Writer::write); what `check` says.
    pub fn write_checked<E: From<Error>>(
        self,
        path: impl AsRef<Path>,
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = path.as_ref();
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = Path::new(&partial);
        let written = self.write_aside(partial, path, check);
        if written.is_err() {
            // That it cannot be removed, or was never there, is not the first concern.
            let _ = fs::remove_file(partial);
        }
        written
    }

    fn write_aside<E: From<Error>>(
        self,
        partial: &Path,
        path: &Path,
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |source| Error::Io { doing: "write", path: path.to_owned(), source };
        let header = self.header()?;
        let file = File::create(partial).map_err(failed)?;
        self.write_all(&header, &file).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        drop(file);
        check(partial)?;
        Ok(fs::rename(partial, path).map_err(failed)?)
    }

    /// Everything before the padding that precedes the data.
    fn header(&self) -> Result<Vec<u8>> {
        let mut out = Encoder {
            bytes: b"GGUF".to_vec(),
            big_endian: self.big_endian,
            wide: self.version > 1,
        };
        out.number(self.version.to_le_bytes());
        out.length("tensor count", self.tensors.len() as u64)?;
        out.length("metadata count", self.metadata.len() as u64)?;
        for (key, value) in self.metadata.iter() {
            out.str(key, key)?;
            out.number(value.kind().gguf_number().to_le_bytes());
            out.value(key, value)?;
        }
        let mut data_offset = 0u64;
        for tensor in &self.tensors {
            out.str(&tensor.name, &tensor.name)?;
            out.number((tensor.shape.len() as u32).to_le_bytes());
            for dim in &tensor.shape {
                out.length(&tensor.name, *dim)?;
            }
            out.number(tensor.ty.gguf_number().to_le_bytes());
            out.number(data_offset.to_le_bytes());
            let padded = tensor.n_bytes.checked_next_multiple_of(self.alignment);
            let Some(next) = padded.and_then(|n| n.checked_add(data_offset)) else {
                return unwritable(&tensor.name, "the file would be too large");
            };
            data_offset = next;
        }
        if out.bytes.len() as u64 > limits::HEADER_BYTES {
            return unwritable("metadata", "larger than 1 GiB");
        }
        Ok(out.bytes)
    }

    fn write_all(self, header: &[u8], out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, out);
        out.write_all(header)?;
        if !self.tensors.is_empty() {
            pad(&mut out, header.len() as u64, self.alignment)?;
        }
        for tensor in self.tensors {
            let (name, n_bytes) = (tensor.name.clone(), tensor.n_bytes);
            let swap = self.big_endian && endian::differs(tensor.ty);
            let mut data = DataWriter::new(&mut out, swap.then_some(tensor.ty), n_bytes);
            match tensor.data {
                Data::Bytes(bytes) => data.write_all(&bytes)?,
                Data::Produce(produce) => produce(&mut data)?,
            }
            if data.left > 0 {
                let missing = format!("tensor `{name}` lacks {} of {n_bytes} bytes", data.left);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
            }
            pad(&mut out, n_bytes, self.alignment)?;
        }
        out.flush()
    }
}

fn pad(out: &mut impl Write, written: u64, alignment: u64) -> io::Result<()> {
    let padded = written.checked_next_multiple_of(alignment).unwrap_or(written);
    io::copy(&mut io::Read::take(io::repeat(0), padded.saturating_sub(written)), out).map(|_| ())
}

/// Passes on the data of one tensor, swapped if need be, and no more than it takes.
struct DataWriter<'w, W: Write> {
    out: &'w mut W,
    swap: Option<QuantType>,
    /// A block that is not yet whole.
    block: Vec<u8>,
    left: u64,
}

impl<'w, W: Write> DataWriter<'w, W> {
    fn new(out: &'w mut W, swap: Option<QuantType>, n_bytes: u64) -> Self {
        DataWriter { out, swap, block: Vec::new(), left: n_bytes }
    }

    /// Adds to the unfinished block, and writes it once it is whole. How much it took.
    fn swapped(&mut self, bytes: &[u8], ty: QuantType) -> io::Result<usize> {
        let missing = ty.block_bytes().saturating_sub(self.block.len());
        let taken = bytes.get(..missing.min(bytes.len())).unwrap_or_default();
        self.block.extend_from_slice(taken);
        if self.block.len() == ty.block_bytes() {
            endian::swap(ty, &mut self.block);
            self.out.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(taken.len())
    }
}

impl<W: Write> Write for DataWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more bytes than the shape of the tensor takes",
            ));
        }
        let taken = match self.swap {
            Some(ty) => self.swapped(bytes, ty)?,
            None => self.out.write(bytes)?,
        };
        self.left = self.left.saturating_sub(taken as u64);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends numbers and strings in the byte order and width of the file.
struct Encoder {
    bytes: Vec<u8>,
    big_endian: bool,
    wide: bool,
}

macro_rules! encode_numbers {
    ($self:ident, $array:ident, $($variant:ident)*) => {
        match $array {
            $(Array::$variant(a) => a.iter().for_each(|n| $self.number(n.to_le_bytes())),)*
            _ => {}
        }
    };
}

impl Encoder {
    /// A number, given lowest byte first.
    fn number<const N: usize>(&mut self, mut number: [u8; N]) {
        if self.big_endian {
            number.reverse();
        }
        self.bytes.extend_from_slice(&number);
    }

    fn length(&mut self, name: &str, n: u64) -> Result<()> {
        if self.wide {
            self.number(n.to_le_bytes());
        } else if let Ok(n) = u32::try_from(n) {
            self.number(n.to_le_bytes());
        } else {
            return unwritable(name, format!("{n} does not fit version 1"));
        }
        Ok(())
    }

    fn str(&mut self, name: &str, s: &str) -> Result<()> {
        self.length(name, s.len() as u64)?;
        self.bytes.extend_from_slice(s.as_bytes());
        Ok(())
    }

    fn value(&mut self, key: &str, value: &Value) -> Result<()> {
        match value {
            Value::U8(v) => self.number(v.to_le_bytes()),
            Value::I8(v) => self.number(v.to_le_bytes()),
            Value::U16(v) => self.number(v.to_le_bytes()),
            Value::I16(v) => self.number(v.to_le_bytes()),
            Value::U32(v) => self.number(v.to_le_bytes()),
            Value::I32(v) => self.number(v.to_le_bytes()),
            Value::F32(v) => self.number(v.to_le_bytes()),
            Value::U64(v) => self.number(v.to_le_bytes()),
            Value::I64(v) => self.number(v.to_le_bytes()),
            Value::F64(v) => self.number(v.to_le_bytes()),
            Value::Bool(v) => self.bytes.push((*v).into()),
            Value::Str(v) => self.str(key, v)?,
            Value::Array(a) => self.array(key, a)?,
        }
        Ok(())
    }

    fn array(&mut self, key: &str, array: &Array) -> Result<()> {
        self.number(array.kind().gguf_number().to_le_bytes());
        self.length(key, array.len() as u64)?;
        match array {
            Array::Bool(a) => self.bytes.extend(a.iter().map(|b| u8::from(*b))),
            Array::Str(a) => a.iter().try_for_each(|s| self.str(key, s))?,
            Array::Array(a) => a.iter().try_for_each(|inner| self.array(key, inner))?,
            numbers => encode_numbers!(self, numbers, U8 I8 U16 I16 U32 I32 F32 U64 I64 F64),
        }
        Ok(())
    }
}

fn unwritable<T>(name: &str, problem: impl Into<String>) -> Result<T> {
    Err(Error::Unwritable { name: name.to_owned(), problem: problem.into() })
}

fn check_name(name: &str, limit: u64) -> Result<()> {
    if name.is_empty() || name.len() as u64 > limit {
        return unwritable(name, format!("a name has 1 to {limit} bytes"));
    }
    Ok(())
}

fn check_value(key: &str, value: &Value) -> Result<()> {
    match value {
        Value::Str(s) => check_str(key, s),
        Value::Array(a) => check_array(key, a, 1),
        _ => Ok(()),
    }
}

fn check_str(key: &str, s: &str) -> Result<()> {
    if s.len() as u64 > limits::STRING_BYTES {
        return unwritable(key, "a string is too long");
    }
    Ok(())
}

fn check_array(key: &str, array: &Array, depth: u32) -> Result<()> {
    if depth > limits::ARRAY_DEPTH {
        return unwritable(key, "arrays are nested too deeply");
    }
    if array.len() as u64 > limits::ARRAY_LEN {
        return unwritable(key, "an array is too long");
    }
    match array {
        Array::Str(a) => a.iter().try_for_each(|s| check_str(key, s)),
        Array::Array(a) => {
            a.iter().try_for_each(|inner| check_array(key, inner, depth.saturating_add(1)))
        }
        _ => Ok(()),
    }
}
