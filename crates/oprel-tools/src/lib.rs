//! Files to files: models of other formats to GGUF, weights to smaller types, what a model needs and how
//! good it is.

pub mod collect;
pub mod convert;
pub mod doctor;
mod error;
pub mod gguf;
pub mod imatrix;
mod output;
pub mod perplexity;
pub mod plan;
pub mod quantize;
pub mod windows;

pub use error::{Error, Result};
pub use output::check_output;
