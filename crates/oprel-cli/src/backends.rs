//! The one place where backends are made: which engine runs a file, and which models are elsewhere.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oprel::OprelError;
use oprel_api::Failure;
use oprel_backend::{Backend, Launch, LoadOptions, ModelSource, Worker, why_unsupported};
use oprel_remote::{LlamaLaunch, LlamaPatience, LlamaServer, Patience, Place, Remote};
use oprel_server::{Elsewhere, Start};

use crate::args::BackendArg;

/// What starts a backend for a file. `own` is this program.
pub(crate) fn starts(own: PathBuf, chosen: BackendArg) -> Result<Start, OprelError> {
    let llama = match chosen {
        BackendArg::Native => None,
        BackendArg::Auto | BackendArg::LlamaServer => oprel_remote::find(),
    };
    if chosen == BackendArg::LlamaServer && llama.is_none() {
        return Err(OprelError::Validation {
            message: "llama-server is neither installed nor on PATH".into(),
            hint: Some("`oprel backend install` fetches it; OPREL_LLAMA_SERVER names one".into()),
            source: None,
        });
    }
    Ok(Arc::new(move |source, options| {
        let asked = chosen == BackendArg::LlamaServer;
        match (source, &llama) {
            (ModelSource::File(file), Some(program)) if asked => {
                by_llama(&own, program, file, options)
            }
            (ModelSource::File(file), Some(program)) => match why_unsupported(source) {
                Some(why) => {
                    let why = why.split(';').next();
                    tracing::info!(file = %file.display(), why, "goes to llama-server");
                    by_llama(&own, program, file, options)
                }
                None => by_worker(&own, source, options),
            },
            (_, None) if chosen == BackendArg::Auto => {
                by_worker(&own, source, options).map_err(|failure| hinted(source, failure))
            }
            _ => by_worker(&own, source, options),
        }
    }))
}

/// What else could run a file that our engine does not know.
fn hinted(source: &ModelSource, failure: Failure) -> Failure {
    let hint = "llama.cpp's server may know it: put `llama-server` on PATH, or name it with OPREL_LLAMA_SERVER";
    match why_unsupported(source) {
        Some(_) => Failure { hint: Some(hint.into()), ..failure },
        None => failure,
    }
}

/// Our engine, in a process of its own.
fn by_worker(
    own: &Path,
    source: &ModelSource,
    options: &LoadOptions,
) -> Result<Arc<dyn Backend>, Failure> {
    let launch = Launch {
        program: own.to_path_buf(),
        args: vec!["worker".into()],
        source: source.clone(),
        options: options.clone(),
        patience: oprel_backend::Patience::default(),
    };
    Ok(Arc::new(Worker::start(launch)?))
}

/// llama.cpp's server, which dies with this process.
fn by_llama(
    own: &Path,
    program: &Path,
    file: &Path,
    options: &LoadOptions,
) -> Result<Arc<dyn Backend>, Failure> {
    let parent = std::process::id().to_string();
    let leash: [OsString; 3] = [own.into(), "leash".into(), parent.into()];
    let launch = LlamaLaunch {
        program: program.to_path_buf(),
        leash: leash.into(),
        model: file.to_path_buf(),
        options: options.clone(),
        patience: LlamaPatience::default(),
    };
    Ok(Arc::new(LlamaServer::start(&launch)?))
}

/// The models of `--remote`.
pub(crate) fn models(places: &[String]) -> Result<Vec<Elsewhere>, OprelError> {
    let mut models: Vec<Elsewhere> = Vec::new();
    for text in places {
        let refused = |failure: Failure| OprelError::validation(format!("--remote: {failure}"));
        let place = Place::parse(text).map_err(refused)?;
        let name = place.name.clone();
        if models.iter().any(|known| known.name.key() == name.key()) {
            let message = format!("--remote names '{name}' twice; list its servers with commas");
            return Err(OprelError::validation(message));
        }
        let read = |name: &String| std::env::var(name).ok().filter(|key| !key.is_empty());
        let key = place.key_variables().iter().find_map(read);
        let start = move || -> Result<Arc<dyn Backend>, Failure> {
            Ok(Arc::new(Remote::start(&place, key.as_deref(), Patience::default(), None)?))
        };
        models.push(Elsewhere { name, start: Arc::new(start) });
    }
    Ok(models)
}
