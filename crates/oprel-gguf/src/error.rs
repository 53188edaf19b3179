//! What can go wrong with a file, in the reader's terms: where, while reading what, and what to do next.

use std::io;
use std::path::PathBuf;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file was refused, a value could not be had, or a file could not be written.
///
/// `offset` is the byte of the file where the refused thing begins. Names from a file are escaped in messages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened, mapped, read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: "open", "map", "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Wraps what was found in a file that was opened by name.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<Error>,
    },
    /// The file does not begin with `GGUF`.
    #[error("not a GGUF file: it begins with the bytes {found:02x?} at byte 0 instead of \"GGUF\"")]
    NotGguf {
        /// The first bytes of the file, at most four.
        found: Vec<u8>,
    },
    /// A version that does not exist yet, or none.
    #[error("GGUF version {version} at byte 4 is not known; 1, 2 and 3 are")]
    Version {
        /// What the file says.
        version: u32,
    },
    /// The file ends before what it announced.
    #[error(
        "the file ends too early: {reading} at byte {offset} needs {needed} bytes, {left} are left"
    )]
    Truncated {
        /// Where the thing begins.
        offset: u64,
        /// What was being read.
        reading: String,
        /// The least number of bytes that it takes.
        needed: u64,
        /// The bytes from `offset` to the end of the file.
        left: u64,
    },
    /// A count or a length beyond the [`limits`](crate::limits).
    #[error("{reading} at byte {offset} is {found}, more than the limit of {limit}")]
    Limit {
        /// Where it was read.
        offset: u64,
        /// What was being read.
        reading: String,
        /// What the file says.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A key or a name without a character.
    #[error("{reading} at byte {offset} is empty")]
    Empty {
        /// Where it was read.
        offset: u64,
        /// What was being read.
        reading: String,
    },
    /// A string that is not UTF-8.
    #[error("{reading} is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// The first byte that is not UTF-8.
        offset: u64,
        /// What was being read.
        reading: String,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{reading} at byte {offset} is {found}, and a boolean is 0 or 1")]
    NotBool {
        /// Where it was read.
        offset: u64,
        /// What was being read.
        reading: String,
        /// What the file says.
        found: u8,
    },
    /// The type of a metadata value is none of the thirteen.
    #[error("{reading} at byte {offset} is {number}, which is no type of a metadata value")]
    UnknownValueType {
        /// Where it was read.
        offset: u64,
        /// What was being read.
        reading: String,
        /// What the file says.
        number: u32,
    },
    /// The quant type of a tensor is not known.
    #[error("type {number} of tensor {tensor:?} at byte {offset} is no known quant type")]
    UnknownQuantType {
        /// Where it was read.
        offset: u64,
        /// The tensor.
        tensor: String,
        /// What the file says.
        number: u32,
    },
    /// Two metadata entries or two tensors of one name.
    #[error("{reading} at byte {offset}: {name:?} is there twice")]
    Duplicate {
        /// Where the second one is.
        offset: u64,
        /// What was being read.
        reading: String,
        /// The name.
        name: String,
    },
    /// `general.alignment` is unusable.
    #[error(
        "`general.alignment` at byte {offset} is {found}; it must be a u32, and a power of two or a multiple of 8"
    )]
    Alignment {
        /// Where the value is.
        offset: u64,
        /// What the file says.
        found: String,
    },
    /// The shape of a tensor cannot be.
    #[error("tensor {tensor:?} at byte {offset}: {problem}")]
    Shape {
        /// Where the shape begins.
        offset: u64,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        problem: ShapeProblem,
    },
    /// The data of a tensor does not begin at a multiple of the alignment.
    #[error(
        "data offset {found} of tensor {tensor:?} at byte {offset} is no multiple of {alignment}"
    )]
    Misaligned {
        /// Where the data offset was read.
        offset: u64,
        /// The tensor.
        tensor: String,
        /// The data offset.
        found: u64,
        /// The alignment of the file.
        alignment: u64,
    },
    /// The data of a tensor is not inside the file.
    #[error(
        "data of tensor {tensor:?} (its offset is at byte {offset}) is {needed} bytes from byte {start} on, \
         and the file has {file_bytes}"
    )]
    Outside {
        /// Where the data offset was read.
        offset: u64,
        /// The tensor.
        tensor: String,
        /// Where in the file the data would begin; `u64::MAX` if that is beyond 64 bits.
        start: u64,
        /// How many bytes the shape needs.
        needed: u64,
        /// How many bytes the file has.
        file_bytes: u64,
    },
    /// Two tensors share bytes.
    #[error(
        "data of tensor {tensor:?} (its offset is at byte {offset}) overlaps that of {other:?}"
    )]
    Overlap {
        /// Where the data offset was read.
        offset: u64,
        /// The tensor.
        tensor: String,
        /// The one that begins before it.
        other: String,
    },
    /// A metadata value is of another kind than asked for.
    #[error("metadata `{key}` is {found}, expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What was asked for.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// A metadata number does not fit the kind asked for.
    #[error("metadata `{key}` is {found}, which does not fit {expected}")]
    OutOfRange {
        /// The key.
        key: String,
        /// What was asked for.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// The parts of a split model do not make one model.
    #[error("{}: {problem}", path.display())]
    Split {
        /// The part.
        path: PathBuf,
        /// What is wrong with it.
        problem: SplitProblem,
    },
    /// The file shrank or could not be read while it was mapped; what was read since may be zeros.
    #[error("{} changed or failed while it was in use", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file that the reader would refuse was about to be written.
    #[error("cannot write {name:?}: {problem}")]
    Unwritable {
        /// The key or tensor name.
        name: String,
        /// Why.
        problem: String,
    },
}

/// What is wrong with the shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeProblem {
    /// None, or more than [`limits::DIMENSIONS`](crate::limits::DIMENSIONS).
    #[error("{0} dimensions, and 1 to 4 are possible")]
    Dimensions(u32),
    /// More elements or bytes than 64 bits (signed) can count.
    #[error("shape {0:?} has more elements than can be counted")]
    TooLarge(Vec<u64>),
    /// The first dimension is no multiple of the block of the quant type.
    #[error("rows of {cols} elements do not divide into blocks of {block} ({ty})")]
    Blocks {
        /// Elements of a row.
        cols: u64,
        /// Elements of a block.
        block: u64,
        /// The quant type.
        ty: oprel_quant::QuantType,
    },
}

/// What is wrong with a part of a split model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitProblem {
    /// A split model whose file name does not tell where the other parts are.
    #[error(
        "this is part {no} of {count} of a split model, but its name does not end in {expected:?}"
    )]
    Name {
        /// Which part, counted from 1.
        no: u64,
        /// Of how many.
        count: u64,
        /// How the name would have to end.
        expected: String,
    },
    /// A part that cannot be opened.
    #[error("part {no} of {count} of a split model cannot be opened: {source}")]
    Missing {
        /// Which part, counted from 1.
        no: u64,
        /// Of how many.
        count: u64,
        /// What the system answered.
        source: io::Error,
    },
    /// A part that belongs to another model or another split.
    #[error("`{key}` is {found}, expected {expected} as in the other parts")]
    Mismatch {
        /// The metadata key.
        key: &'static str,
        /// What this part says, "absent" if nothing.
        found: String,
        /// What it should say.
        expected: u64,
    },
    /// A tensor that an earlier part has, too.
    #[error("tensor {tensor:?} is in an earlier part, too")]
    Duplicate {
        /// Its name.
        tensor: String,
    },
    /// More tensors in all parts than [`limits::TENSORS`](crate::limits::TENSORS).
    #[error("the parts have more than {limit} tensors")]
    Tensors {
        /// The most that is accepted.
        limit: u64,
    },
    /// A part given as bytes: the others cannot be found.
    #[error("part {no} of {count} of a split model was given without the others")]
    Alone {
        /// Which part, counted from 1.
        no: u64,
        /// Of how many.
        count: u64,
    },
}

impl Error {
    /// The byte of the file where the refused thing begins, where there is one.
    pub fn offset(&self) -> Option<u64> {
        use Error::*;
        match self {
            InFile { source, .. } => source.offset(),
            NotGguf { .. } => Some(0),
            Version { .. } => Some(4),
            Truncated { offset, .. }
            | Limit { offset, .. }
            | Empty { offset, .. }
            | NotUtf8 { offset, .. }
            | NotBool { offset, .. }
            | UnknownValueType { offset, .. }
            | UnknownQuantType { offset, .. }
            | Duplicate { offset, .. }
            | Alignment { offset, .. }
            | Shape { offset, .. }
            | Misaligned { offset, .. }
            | Outside { offset, .. }
            | Overlap { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// What the user may do about it.
    pub fn hint(&self) -> &'static str {
        use Error::*;
        match self {
            Io { doing: "open", source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
                "name a GGUF file; `oprel convert` makes one of a folder with safetensors"
            }
            Io { .. } => "check the path and its permissions",
            InFile { source, .. } => source.hint(),
            NotGguf { .. } => {
                "the file is of another format, or a web page or a Git LFS pointer was saved in its place"
            }
            Version { .. } | UnknownQuantType { .. } => {
                "the file may be newer than this version of oprel; update oprel, or convert the model again"
            }
            Truncated { .. } | Outside { .. } => {
                "the file is incomplete; compare its size with the original and download it again"
            }
            Split { .. } => {
                "put all parts of the model into one directory under their original names"
            }
            Damaged { .. } => "do not change a model file while it is in use; load the model again",
            WrongType { .. } | OutOfRange { .. } => {
                "the metadata was written by another tool or edited; convert the model again"
            }
            Unwritable { .. } => "change the name, shape or value",
            _ => "the file is damaged or not what it claims to be; download or convert it again",
        }
    }

    /// The error inside [`Error::InFile`], else this one.
    pub fn root(&self) -> &Error {
        match self {
            Error::InFile { source, .. } => source.root(),
            other => other,
        }
    }
}
