//! Models of the store: what is loaded of them, and what they bring with them.

use oprel_api::ollama::Preset;
use oprel_api::{ErrorKind, Failure};
use oprel_backend::{LoadOptions, ModelSource};
use oprel_hub::{Access, Reference, Source, Store, StoredModel};

use crate::{OprelError, Result};

/// The model that a name stands for in this user's store.
///
/// # Errors
/// [`OprelError::ModelNotFound`] if there is none, [`OprelError::Backend`] if it is damaged.
pub(crate) fn find(name: &str) -> Result<(ModelSource, StoredModel)> {
    let store = Store::at(crate::places()?, Access::Read)?;
    let reference = Reference::resolve(name, &crate::catalog()?, &store)?;
    if let Source::File(path) = &reference.source {
        return Err(OprelError::validation(format!("'{path}' is a path, and no name")));
    }
    let name = reference.name.ok_or_else(|| OprelError::ModelNotFound {
        message: format!("model '{name}' not found"),
        hint: None,
        source: None,
    })?;
    let stored = store.model(&name)?;
    let path = store.runnable(&stored)?;
    Ok((ModelSource::File(path), stored))
}

/// The file of a model of this user's store.
///
/// # Errors
/// [`OprelError::ModelNotFound`] if there is none of this name, [`OprelError::Backend`] if it is damaged.
pub fn locate(name: &str) -> Result<ModelSource> {
    find(name).map(|(source, _)| source)
}

/// What a model brings with it, for requests that do not say otherwise.
///
/// # Errors
/// If one of its parameters is not of its type.
#[doc(hidden)]
pub fn preset(model: &StoredModel) -> Result<Preset, Failure> {
    let messages = model.messages.iter().map(|m| (m.role.clone(), m.content.clone()));
    Preset::new(&model.params, model.system.clone(), messages)
}

/// How a model wants to be loaded, over what is usual.
///
/// # Errors
/// If it has a part that our engine does not know.
#[doc(hidden)]
pub fn overlay(model: &StoredModel, options: &mut LoadOptions) -> Result<(), Failure> {
    if !model.adapters.is_empty() {
        let name = &model.entry.name;
        let message = format!("'{name}' has an adapter, and adapters are not there yet");
        return Err(Failure::new(ErrorKind::Backend, message)
            .with_hint("merge the adapter into the model, or create it without ADAPTER"));
    }
    options.template.clone_from(&model.template);
    if let Some(draft) = model.draft.first().filter(|_| options.draft.is_none()) {
        options.draft = Some(ModelSource::File(draft.clone()));
    }
    Ok(())
}
