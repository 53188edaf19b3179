//! Models between a store and where they come from.

use std::io;
use std::path::PathBuf;

use oprel_api::ollama::ModelName;
use oprel_api::{ErrorKind, Failure};

use crate::catalog::Catalog;
use crate::fetch::{self, Fetcher, Sink, Status, Tell};
use crate::modelfile::Recipe;
use crate::{Digest, Error, HubRef, Manifest, Reference, Source, Store};

/// The last that is told of a model that is fetched.
const SUCCESS: &str = "success";

/// Why a model does not come or go.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It cannot be had, or given.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// The store cannot keep it.
    #[error(transparent)]
    Store(#[from] Error),
    /// A model that another one is to be made of is not here, and cannot be had.
    #[error("model '{name}' not found, and it cannot be fetched: {why}")]
    Absent {
        /// The model.
        name: String,
        /// Why it cannot be had.
        why: fetch::Error,
    },
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Fetch(error) => error.into(),
            Trouble::Store(error) => error.into(),
            Trouble::Absent { ref why, .. } => {
                let message = trouble.to_string();
                let failure = Failure::from(why.clone());
                let kind = match failure.kind {
                    ErrorKind::Download => ErrorKind::ModelNotFound,
                    kind => kind,
                };
                Failure { kind, message, ..failure }
            }
        }
    }
}

/// A store, as what is fetched sees it; the model gets this name there.
struct Shelf<'a> {
    store: &'a Store,
    name: &'a ModelName,
}

impl Sink for Shelf<'_> {
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.store.blob_path(digest)
    }

    fn found_path(&self, digest: &Digest) -> PathBuf {
        // What a store beside this one or a cache of the hub has need not be fetched.
        let found = self.store.find_blob(digest).ok().flatten();
        found.unwrap_or_else(|| self.store.blob_path(digest))
    }

    fn part_folder(&self) -> PathBuf {
        self.store.blobs()
    }

    fn put_manifest(&self, _: &ModelName, manifest: &[u8]) -> io::Result<()> {
        let manifest = Manifest::parse(manifest.to_vec()).map_err(io::Error::other)?;
        self.store.put_manifest(self.name, &manifest).map(|_| ()).map_err(io::Error::other)
    }
}

/// Fetches what a reference stands for into the store, whether it has it or not: what is there already is not
/// fetched again. `insecure` is the user's word that a server without TLS is well.
///
/// # Errors
/// [`Error::Name`] for what is not fetched (a file, the built-in model); why it cannot be had or kept.
pub async fn pull(
    fetcher: &Fetcher,
    store: &Store,
    reference: &Reference,
    insecure: bool,
    tell: Tell<'_>,
) -> Result<(), Trouble> {
    let nothing = || Error::Name { name: reference.to_string() };
    let name = reference.name.as_ref().ok_or_else(nothing)?;
    let shelf = Shelf { store, name };
    match &reference.source {
        Source::Hub(HubRef { repository, pick }) => {
            let pick = pick.as_deref().unwrap_or("latest");
            fetcher.pull_repository(name, repository, pick, &shelf, tell).await?;
        }
        Source::Registry(at) => fetcher.pull(at, insecure, &shelf, tell).await?,
        Source::Url(url) => {
            let url: fetch::Url = url.parse().map_err(|_| Error::Name { name: url.clone() })?;
            if url.scheme() == "http" && !insecure {
                return Err(fetch::Error::Insecure { host: crate::http::host(&url) }.into());
            }
            fetcher.pull_address(&url, name, &shelf, tell).await?;
        }
        Source::Demo | Source::File(_) => return Err(nothing().into()),
    }
    Ok(())
}

/// The model that a recipe begins with, if it has to be fetched first: it is neither in the store nor part of the
/// program. The recipe names it by what the store calls it from here on.
///
/// # Errors
/// If no model can have this name, or the store cannot be read.
pub fn absent_base(
    store: &Store,
    catalog: &Catalog,
    recipe: &mut Recipe,
) -> Result<Option<Reference>, Error> {
    let Some(text) = &recipe.model else { return Ok(None) };
    let reference = Reference::resolve(text, catalog, store)?;
    let Some(name) = &reference.name else { return Ok(None) };
    recipe.model = Some(name.to_string());
    let is_here = store.find(name)?.is_some();
    Ok((!is_here).then_some(reference))
}

/// Fetches what [`absent_base`] found. That it came is not told as the success of what is made of it.
///
/// # Errors
/// [`Trouble::Absent`] if it cannot be had; why it cannot be kept.
pub async fn pull_base(
    fetcher: &Fetcher,
    store: &Store,
    base: &Reference,
    tell: Tell<'_>,
) -> Result<(), Trouble> {
    let tell = |status: Status| {
        if status.status != SUCCESS {
            tell(status);
        }
    };
    pull(fetcher, store, base, false, &tell).await.map_err(|trouble| match trouble {
        Trouble::Fetch(why) => Trouble::Absent { name: base.to_string(), why },
        trouble => trouble,
    })
}

/// Gives a model of the store to the registry of its name.
///
/// # Errors
/// [`Error::NotFound`] if the store has none of this name; why it cannot be given.
pub async fn push(
    fetcher: &Fetcher,
    store: &Store,
    name: &ModelName,
    insecure: bool,
    tell: Tell<'_>,
) -> Result<(), Trouble> {
    let absent = || Error::NotFound { name: name.to_string() };
    let entry = store.find(name)?.ok_or_else(absent)?;
    let manifest = entry.manifest.ok_or_else(absent)?;
    let shelf = Shelf { store, name };
    Ok(fetcher.push(&entry.name, insecure, manifest.bytes(), &shelf, tell).await?)
}
