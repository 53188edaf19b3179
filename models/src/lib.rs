//! Architectures: GGUF metadata and tensors to a model description; the demo model.
//!
//! One short file an architecture family. A family reads hyper-parameters, names tensors and turns the
//! switches of [`Decoder`]; it computes nothing and knows no device.

mod demo;
mod error;
mod families;
mod hyper;
mod parts;
mod recurrent;
mod source;

pub use demo::{demo, demo_file};
pub use error::{Error, Result};
pub use hyper::Hyper;

use oprel_gguf::Gguf;
use oprel_nn::{Decoder, Pooling, Weights};

/// A described model, ready for an executor.
#[derive(Clone, Debug)]
pub struct Model {
    /// `general.architecture`.
    pub architecture: String,
    /// What runs.
    pub decoder: Decoder,
    /// On which weights.
    pub weights: Weights,
    /// Tokens see only what is before them; encoders see all.
    pub causal: bool,
    /// How an embedder or a reranker makes one vector of a text; `None` for models that generate.
    pub pooling: Option<Pooling>,
}

/// Describes the model in a file.
///
/// # Errors
/// If the architecture is not described here (the error names it and lists what is), or its metadata
/// or tensors are missing or wrong.
pub fn describe(file: &Gguf) -> Result<Model> {
    let name = architecture(file)?;
    match families::find(name) {
        Some(family) => describe_as(file, family),
        None => Err(unsupported(name)),
    }
}

/// Describes a model even if no executor runs its architecture yet: preparing it will fail. For
/// tools that look at models, and for tests of what a description can say.
///
/// # Errors
/// Like [`describe`], but for architectures that wait for an executor.
pub fn describe_pending(file: &Gguf) -> Result<Model> {
    let name = architecture(file)?;
    match (families::find(name), families::find_pending(name)) {
        (Some(family), _) => describe_as(file, family),
        (None, Some(pending)) => describe_as(file, &pending.family),
        (None, None) => Err(unsupported(name)),
    }
}

fn architecture(file: &Gguf) -> Result<&str> {
    let name = file.metadata().str("general.architecture")?;
    name.ok_or_else(|| Error::MissingKey { key: "general.architecture".into() })
}

fn unsupported(name: &str) -> Error {
    let supported = supported();
    match families::find_pending(name) {
        Some(pending) => Error::Pending { name: name.into(), needs: pending.needs, supported },
        None => Error::Architecture { name: name.into(), supported },
    }
}

fn describe_as(file: &Gguf, family: &families::Family) -> Result<Model> {
    let architecture = family.architecture;
    let mut source = source::Source::new(file, architecture);
    let described = (family.describe)(&mut source)?;
    Ok(Model {
        architecture: architecture.into(),
        decoder: described.decoder,
        weights: source.into_weights(),
        causal: described.causal,
        pooling: described.pooling,
    })
}

/// Names of the architectures that can be run, sorted.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<_> = families::ALL.iter().map(|f| f.architecture).collect();
    names.sort_unstable();
    names
}
