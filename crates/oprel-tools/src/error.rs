//! What can go wrong with files, in the user's terms, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use oprel_gguf::QuantType;

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model cannot be read or written.
    #[error(transparent)]
    Gguf(#[from] oprel_gguf::Error),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// No file type of this name.
    #[error("there is no file type called {name:?}")]
    UnknownFileType {
        /// What was asked for.
        name: String,
    },
    /// The input and the output are one file.
    #[error("{} would replace the model that it is made from", path.display())]
    Same {
        /// The file.
        path: PathBuf,
    },
    /// The disk has not enough room.
    #[error("{} needs {needed_bytes} bytes and its disk has {free_bytes}", path.display())]
    Space {
        /// The file to be written.
        path: PathBuf,
        /// What it takes.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// Weights that are quantized already would be quantized again.
    #[error(
        "{tensor} is stored as {ty}, and quantizing it again to {to} loses more than quantizing the original"
    )]
    Requantize {
        /// The tensor.
        tensor: String,
        /// How it is stored.
        ty: QuantType,
        /// What it would become.
        to: QuantType,
    },
    /// A tensor of this type is not converted.
    #[error("{tensor} is stored as {ty}, which is not converted")]
    Unconvertible {
        /// The tensor.
        tensor: String,
        /// How it is stored.
        ty: QuantType,
    },
    /// A weight is NaN or infinite.
    #[error("{tensor} has a weight that is no finite number")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// The importance matrix belongs to another model.
    #[error(
        "the importance of {tensor} has {found} numbers, its columns and experts are {expected}"
    )]
    ImportanceSize {
        /// The tensor.
        tensor: String,
        /// Numbers there are.
        found: usize,
        /// Numbers there should be.
        expected: usize,
    },
    /// An importance matrix that is malformed.
    #[error("{} is no importance matrix: {problem}", path.display())]
    Imatrix {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No mix is this small.
    #[error("the smallest mix takes {least_bytes} bytes, more than {target_bytes}")]
    TargetTooSmall {
        /// What the smallest takes.
        least_bytes: u64,
        /// What was asked for.
        target_bytes: u64,
    },
    /// A tensor's type that was asked for by pattern does not fit its shape.
    #[error("{tensor} has rows of {columns} weights, which cannot be stored as {ty}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Weights of a row.
        columns: u64,
        /// The type.
        ty: QuantType,
    },
    /// Something asked for that cannot be.
    #[error("{0}")]
    Request(&'static str),
    /// A metadata key that is not there, or may not be changed.
    #[error("{key}: {problem}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Threads could not be started.
    #[error(transparent)]
    Threads(#[from] oprel_cpu::Error),
    /// The caller asked to stop.
    #[error("stopped; nothing was changed")]
    Stopped,
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What to do next, if there is something to say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::UnknownFileType { .. } => {
                let names: Vec<_> = crate::quantize::FileType::all().map(|ty| ty.name()).collect();
                format!("known are {}", names.join(", "))
            }
            Error::Same { .. } => "write to another name, then move it".into(),
            Error::Space { .. } => "free some space, or write to another disk".into(),
            Error::Requantize { .. } => {
                "start from the F32, F16 or BF16 model, or allow it (--allow-requantize)".into()
            }
            Error::NotFinite { .. } => {
                "the model is damaged: fetch or convert it again, and compare its digest".into()
            }
            Error::ImportanceSize { .. } => {
                "collect the importance matrix from this model (oprel imatrix)".into()
            }
            Error::TargetTooSmall { least_bytes, .. } => {
                format!("ask for at least {least_bytes} bytes, or take a smaller model")
            }
            _ => return None,
        })
    }

    /// A closure that says what was tried with a file.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }
}
