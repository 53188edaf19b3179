//! The store: blobs named by their SHA-256, and manifests that name blobs.
//!
//! The layout is Ollama's, so that a store of Ollama is read in place and ours is readable by it:
//! `manifests/HOST/NAMESPACE/MODEL/TAG` and `blobs/sha256-HEX`, and `manifests-v2` of its newer versions, whose
//! entries are links to blobs. A store may stand beside others, which are read and never changed, and
//! beside caches of the hub.
//!
//! Blobs are written without a lock: two writers of one digest write the same bytes. Whoever changes what
//! manifests say, or removes blobs, holds the lock. A file comes into being under another name, is forced
//! to disk and renamed, and a manifest is the last thing written of a model and the first thing removed: when
//! the machine stops at any moment, every model is there whole or not at all, and what is left over is garbage
//! that a collection finds.
//!
//! No name and no manifest leads out of the store: names are made of checked parts, manifests name digests,
//! and a link that leads elsewhere is refused.

mod collect;
mod disk;
mod hub_cache;
mod lock;
mod parts;
mod places;
mod read;
mod root;
mod usage;
mod verify;
mod write;

use std::path::{Path, PathBuf};

pub use collect::{Collected, Grace};
pub use places::Places;
pub use read::{Broken, Entry, Kept, Listing, StoredMessage, StoredModel};
pub use usage::{ModelUsage, Usage};
pub use verify::{Damage, Wrong};
pub use write::{Blob, Freed};

use crate::{Digest, Result};
use hub_cache::HubCache;
use root::Root;

/// What may be done with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading. Folders that are missing stay so.
    Read,
    /// Reading and changing.
    Write,
}

/// A store, those that are read beside it, and caches of the hub.
#[derive(Clone, Debug)]
pub struct Store {
    own: Root,
    others: Vec<Root>,
    caches: Vec<HubCache>,
    access: Access,
    prune: bool,
}

impl Store {
    /// The store at `root` alone.
    ///
    /// # Errors
    /// If it is to be changed and its folders cannot be made.
    pub fn open(root: impl Into<PathBuf>, access: Access) -> Result<Store> {
        let own = Root::new(root.into());
        if access == Access::Write {
            own.create()?;
        }
        Ok(Store { own, others: Vec::new(), caches: Vec::new(), access, prune: true })
    }

    /// The store of this user and all that is found beside it, by the environment.
    ///
    /// # Errors
    /// As [`Places::usual`] and [`open`](Store::open).
    pub fn usual(access: Access) -> Result<Store> {
        Store::at(Places::usual()?, access)
    }

    /// The store at these places.
    ///
    /// # Errors
    /// As [`open`](Store::open).
    pub fn at(places: Places, access: Access) -> Result<Store> {
        let store = Store::open(places.root, access)?;
        let own = store.own.path.canonicalize().unwrap_or_else(|_| store.own.path.clone());
        let mut others: Vec<Root> = Vec::new();
        for path in places.beside {
            let Ok(real) = path.canonicalize() else { continue };
            if real != own && others.iter().all(|other| other.path != real) {
                others.push(Root::new(real));
            }
        }
        let caches = places.hub_caches.into_iter().filter(|path| path.is_dir());
        let caches = caches.map(HubCache::new).collect();
        Ok(Store { others, caches, prune: places.prune, ..store })
    }

    /// The folder that is written to.
    pub fn root(&self) -> &Path {
        &self.own.path
    }

    /// The folder of blobs, where what is fetched is put together.
    pub fn blobs(&self) -> PathBuf {
        self.own.blobs()
    }

    /// Where the store keeps a blob, whether it has it or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.own.blob(digest)
    }

    /// Whether this store or one beside it has a blob. [`Store::put_manifest`] brings in what only others have.
    pub fn has(&self, digest: &Digest) -> bool {
        self.roots().any(|root| root.blob(digest).is_file())
    }

    /// Whether something of `user/repository` of the hub is here: in a store, or in a cache of the hub.
    pub fn has_repository(&self, repository: &str) -> bool {
        let is_of = |site: root::Site| {
            let name = site.name.filter(|name| name.host.eq_ignore_ascii_case(hub_cache::HOST))?;
            Some(format!("{}/{}", name.namespace, name.model))
        };
        let mut stored = self.roots().flat_map(|root| root.sites().unwrap_or_default());
        let in_store =
            stored.any(|site| is_of(site).is_some_and(|r| r.eq_ignore_ascii_case(repository)));
        in_store || self.caches.iter().any(|cache| cache.has(repository))
    }

    /// The file of a blob, wherever it is: in this store, in one beside it, or in a cache of the hub.
    ///
    /// # Errors
    /// If it is a link that leads out of its store, or no file.
    pub fn find_blob(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        for root in self.roots() {
            if let Some(path) = root.checked_blob(digest)? {
                return Ok(Some(path));
            }
        }
        Ok(self.caches.iter().find_map(|cache| cache.blob(digest)))
    }

    fn roots(&self) -> impl Iterator<Item = &Root> {
        std::iter::once(&self.own).chain(&self.others)
    }
}

#[cfg(test)]
mod tests;
