//! Tools for GGUF files: taking apart, putting together, changing metadata, comparing.
//!
//! Tensor data is passed on as it is. What is written has its name once all of it is on disk; what was there
//! before stays until then.

mod diff;
mod edit;
mod split;

use oprel_gguf::{Gguf, TensorInfo, Writer};

use crate::error::Result;
pub use diff::{Difference, diff};
pub use edit::{Change, Edited, edit};
pub use split::{MaxPart, merge, part_path, split};

/// A writer with version, byte order and alignment of `model`, and nothing in it.
fn like<'a>(model: &Gguf) -> Result<Writer<'a>> {
    let mut writer = Writer::new();
    writer.version(model.version())?;
    writer.big_endian(model.big_endian());
    Ok(writer)
}

/// Adds a tensor of `model` as it is.
fn add<'a>(writer: &mut Writer<'a>, model: &'a Gguf, tensor: &'a TensorInfo) -> Result<()> {
    writer.tensor_with(&tensor.name, &tensor.shape, tensor.ty, |out| {
        out.write_all(&model.bytes(tensor))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
