//! The files that a manifest names, as far as fetching needs to know.

use serde::Deserialize;

use crate::Digest;
use crate::fetch::error::{Error, Result};

/// More than any model has.
const MOST_LAYERS: usize = 10_000;

/// The files that a manifest names. Every digest is one.
#[derive(Debug)]
pub(super) struct Layers(Vec<Layer>);

/// A file that a manifest names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Named>,
    #[serde(default)]
    layers: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    digest: String,
    size: u64,
}

impl Layers {
    /// Reads a manifest.
    ///
    /// # Errors
    /// If it is none, or names something by what is no digest.
    pub(super) fn parse(manifest: &[u8]) -> Result<Layers> {
        let wrong = |why: String| Error::Malformed(format!("the manifest is none: {why}"));
        let read: Manifest =
            serde_json::from_slice(manifest).map_err(|error| wrong(error.to_string()))?;
        let named: Vec<_> =
            read.layers.unwrap_or_default().into_iter().chain(read.config).collect();
        if named.is_empty() || named.len() > MOST_LAYERS {
            return Err(wrong(format!("it names {} files", named.len())));
        }
        let mut layers: Vec<Layer> = Vec::new();
        for Named { digest, size } in named {
            let digest =
                digest.parse().map_err(|error: crate::NoDigest| wrong(error.to_string()))?;
            // A file that is named twice is fetched once.
            if !layers.iter().any(|known| known.digest == digest) {
                layers.push(Layer { digest, size });
            }
        }
        Ok(Layers(layers))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter()
    }
}
