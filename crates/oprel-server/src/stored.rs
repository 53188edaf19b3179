//! Models of the store, as they are loaded and asked.

use oprel_api::Failure;
use oprel_api::ollama::{self, ModelName, Tag};
use oprel_backend::ModelSource;
use oprel_hub::{Error, Store};

use crate::models::Here;
use crate::name::Name;

/// The model of a name, which the client wrote as `said`.
///
/// # Errors
/// If there is none, or it is damaged.
pub(crate) fn find(store: &Store, name: &ModelName, said: &str) -> Result<Here, Failure> {
    let stored = store.model(name).map_err(|error| failure(error, said))?;
    let path = store.runnable(&stored).map_err(|error| failure(error, said))?;
    let file_bytes = stored.entry.size;
    Ok(Here { source: ModelSource::File(path), file_bytes, stored: Some(stored) })
}

/// What went wrong in the store, in the words of the field.
pub(crate) fn failure(error: Error, said: &str) -> Failure {
    match &error {
        Error::NotFound { .. } => ollama::absent(said),
        _ => error.into(),
    }
}

/// All models of the store that can be read.
pub(crate) fn tags(store: &Store) -> Vec<Tag> {
    let Ok(listing) = store.list() else { return Vec::new() };
    for broken in &listing.broken {
        tracing::warn!(path = %broken.path.display(), why = %broken.why, "not listed");
    }
    listing.models.iter().filter_map(|entry| store.tag(entry).ok()).collect()
}

/// The same of one, if the store has it.
pub(crate) fn tag_of(store: &Store, name: &Name) -> Option<Tag> {
    let Name::Named(name, _) = name else { return None };
    store.find(name).ok().flatten().and_then(|entry| store.tag(&entry).ok())
}
