//! How much of the disk a store takes.

use std::collections::HashMap;
use std::fs;

use oprel_api::ollama::ModelName;

use super::{Kept, Store};
use crate::platform::on_disk;
use crate::{Digest, Result};

/// How much of the disk a store takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of blobs that a manifest names, each counted once.
    pub named: u64,
    /// Bytes of blobs that none names.
    pub unnamed: u64,
    /// Bytes of what is being fetched or was interrupted.
    pub partial: u64,
    /// Every model of the store itself.
    pub models: Vec<ModelUsage>,
}

/// How much of the disk a model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUsage {
    /// The model.
    pub name: ModelName,
    /// Bytes that go when it is removed.
    pub alone: u64,
    /// Bytes that it has together with others.
    pub shared: u64,
}

impl Store {
    /// How much of the disk the store itself takes.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let models = self.list()?.models;
        let models: Vec<_> = models.into_iter().filter(|model| model.kept == Kept::Own).collect();
        let mut users: HashMap<Digest, u32> = HashMap::new();
        for digest in models.iter().filter_map(|m| m.manifest.as_ref()).flat_map(|m| m.reachable())
        {
            *users.entry(*digest).or_default() += 1;
        }
        let bytes = |digest: &Digest| fs::metadata(self.own.blob(digest)).map_or(0, |m| m.len());
        let mut usage = Usage { named: users.keys().map(bytes).sum(), ..Usage::default() };
        for model in &models {
            let (mut alone, mut shared) = (0, 0);
            for digest in model.manifest.iter().flat_map(|manifest| manifest.reachable()) {
                match users.get(digest) {
                    Some(1) => alone += bytes(digest),
                    _ => shared += bytes(digest),
                }
            }
            usage.models.push(ModelUsage { name: model.name.clone(), alone, shared });
        }
        for (path, digest) in self.files()? {
            let bytes = on_disk(&path);
            match digest {
                Some(digest) if users.contains_key(&digest) => {}
                Some(_) => usage.unnamed += bytes,
                None => usage.partial += bytes,
            }
        }
        Ok(usage)
    }
}
