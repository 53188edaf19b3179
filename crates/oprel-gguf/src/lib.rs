//! The GGUF container: reader, writer, memory map, split files.
//!
//! A file is mapped once; its metadata is parsed into [`Metadata`], its tensors stay where they are and
//! are handed out as [`Bytes`]. Versions 1 to 3, little and big endian, any alignment, split models.
//!
//! Never copies tensor data that a consumer can read in place, never trusts a length: what a file says is
//! checked against the bytes that it has before anything is allocated or read, and every malformed file is
//! an [`Error`] that names the byte offset and what was being read there. What is refused, and at which
//! size, is listed in [`limits`].
//!
//! ```no_run
//! let model = oprel_gguf::Gguf::open("model.gguf")?;
//! println!("{:?}", model.metadata().str("general.architecture")?);
//! for tensor in model.tensors() {
//!     println!("{} {:?} {}: {} bytes", tensor.name, tensor.shape, tensor.ty, model.bytes(tensor).len());
//! }
//! model.check()?; // the file was what it was throughout
//! # Ok::<(), oprel_gguf::Error>(())
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod bytes;
mod cursor;
mod endian;
mod error;
mod file;
pub mod limits;
mod map;
mod metadata;
mod parse;
mod split;
mod tensor;
mod value;
mod writer;

pub use bytes::Bytes;
pub use error::{Error, Result, ShapeProblem, SplitProblem};
pub use file::Gguf;
pub use metadata::Metadata;
pub use tensor::TensorInfo;
pub use value::{Array, Kind, StrArray, Value};
pub use writer::Writer;

pub use oprel_quant::{FileType, QuantType};
