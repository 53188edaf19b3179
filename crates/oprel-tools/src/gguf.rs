//! Tools for GGUF files: taking apart, putting together, changing metadata, comparing.
//!
//! Tensor data is passed on as it is. What is written has its name once all of it is on disk; what was there
//! before stays until then.

mod diff;
mod edit;
mod split;

use std::io;
use std::path::Path;

use oprel_gguf::{Gguf, TensorInfo, Writer};

use crate::error::{Error, Result};
pub use diff::{Difference, diff};
pub use edit::{Change, Edited, edit};
pub use split::{MaxPart, merge, part_path, split};

/// Bytes that are written at once.
const PIECE: usize = 16 << 20;

/// A writer with version, byte order and alignment of `model`, and nothing in it.
fn like<'a>(model: &Gguf) -> Result<Writer<'a>> {
    let mut writer = Writer::new();
    writer.version(model.version())?;
    writer.big_endian(model.big_endian());
    Ok(writer)
}

/// Asked between pieces of what is written whether the work goes on.
pub type GoesOn<'a> = dyn Fn() -> bool + 'a;

/// Adds a tensor of `model` as it is.
fn add<'a>(
    writer: &mut Writer<'a>,
    model: &'a Gguf,
    tensor: &'a TensorInfo,
    goes_on: &'a GoesOn<'_>,
) -> Result<()> {
    writer.tensor_with(&tensor.name, &tensor.shape, tensor.ty, |out| {
        model.bytes(tensor).chunks(PIECE).try_for_each(|piece| match goes_on() {
            true => out.write_all(piece),
            false => Err(io::Error::other("stopped")),
        })
    })?;
    Ok(())
}

/// Writes a file of tensors of `model`, which gets its name if the model was what it was throughout.
fn write(writer: Writer<'_>, path: &Path, model: &Gguf, goes_on: &GoesOn<'_>) -> Result<()> {
    let written = writer.write_checked(path, |_| Ok::<_, Error>(model.check()?));
    // A writer only knows errors of the system.
    if written.is_err() && !goes_on() { Err(Error::Stopped) } else { written }
}

#[cfg(test)]
mod tests;
