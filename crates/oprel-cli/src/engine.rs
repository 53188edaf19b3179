//! Where answers are made: by a daemon that answers, else in this process.

use anyhow::Context;
use oprel::{Client, Daemon, Endpoint, Model, ModelSource, OprelError};

use crate::args::{Load, Place};
use crate::commands::{Meant, builder, meant, source, usual_draft};
use crate::terminal::Spinner;
use crate::transfer;

/// Loads a model where the command line says, or where it is best.
pub(crate) fn open(
    model: &str,
    load: &Load,
    place: &Place,
    draft: Option<&str>,
) -> anyhow::Result<Model> {
    match open_present(model, load, place, draft) {
        Err(error) if is_absent(&error) && matches!(meant(model), Meant::Named(_)) => {
            fetch(model, load, place, draft, error)?;
            open_present(model, load, place, draft)
        }
        opened => opened,
    }
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<OprelError>(), Some(OprelError::ModelNotFound { .. }))
}

/// Fetches a model to where it is to run.
fn fetch(
    model: &str,
    load: &Load,
    place: &Place,
    draft: Option<&str>,
    absent: anyhow::Error,
) -> anyhow::Result<()> {
    let elsewhere = daemon(load, place, draft)?.filter(|daemon| !daemon.endpoint().is_here());
    let Some(daemon) = elsewhere else {
        return transfer::fetch_absent(model).map_err(|error| transfer::instead(error, absent));
    };
    let client = Client::new(daemon.client()).map_err(OprelError::from)?;
    transfer::fetch_there(&client, model, false, &transfer::Told::new(false))
}

/// Loads a model that is there.
fn open_present(
    model: &str,
    load: &Load,
    place: &Place,
    draft: Option<&str>,
) -> anyhow::Result<Model> {
    let _spinner = Spinner::start("loading the model");
    if let Some(daemon) = daemon(load, place, draft)? {
        let known = match meant(model) {
            Meant::Source(ModelSource::File(path)) if !path.exists() => Model::named(model),
            Meant::Source(source) => Model::builder(source),
            Meant::Named(name) => Model::named(name),
        };
        let known = load.size.ctx_size.iter().fold(known, |known, tokens| known.context(*tokens));
        return Ok(known.server(daemon).load()?);
    }
    let mut builder = builder(model, load)?;
    if let Some(draft) = draft {
        builder = builder.draft(source(draft)?);
    } else if let Some(draft) = usual_draft(None)? {
        builder = builder.usual_draft(draft);
    }
    Ok(builder.load()?)
}

/// The daemon that is to answer, if one is.
fn daemon(load: &Load, place: &Place, draft: Option<&str>) -> anyhow::Result<Option<Daemon>> {
    if let Some(url) = &place.server {
        let program = std::env::current_exe().context("cannot find this program")?;
        return Ok(Some(named(url.as_deref())?.started_as(program)));
    }
    if place.local || draft.is_some() || !fits_a_daemon(load) {
        return Ok(None);
    }
    let daemon = named(None)?;
    let client = Client::new(daemon.client()).map_err(OprelError::from)?;
    Ok(client.is_there().then_some(daemon))
}

/// The daemon at an address that was typed, else the one of this user.
///
/// # Errors
/// If what was typed or set is no address.
pub(crate) fn named(url: Option<&str>) -> Result<Daemon, OprelError> {
    let usual = Daemon::from_env()?;
    let Some(url) = url else { return Ok(usual) };
    let place = Endpoint::parse(url)
        .map_err(|error| OprelError::validation(format!("--server: {error}")))?;
    Ok(usual.moved(place))
}

/// Whether nothing was typed that only this process can do.
fn fits_a_daemon(load: &Load) -> bool {
    load.size.threads.is_none()
        && load.size.batch_size.is_none()
        && load.prompt_cache.is_none()
        && load.size.kv.is_none()
        && !load.overcommit
        && oprel_config::setting("isa").is_none()
}

/// Refuses a model that is for something else, before anything is asked.
pub(crate) fn check_speaks(model: &Model) -> Result<(), OprelError> {
    let (message, hint) = match (model.only_embeds(), model.ranks()) {
        (true, _) => ("this model makes embeddings, not text", "use `oprel embed` with it"),
        (_, true) => ("this model ranks documents, it makes no text", "use `oprel rerank` with it"),
        _ => return Ok(()),
    };
    let (message, hint) = (message.to_string(), Some(hint.to_string()));
    Err(OprelError::Validation { message, hint, source: None })
}
