//! The one place where backends are made: which engine runs a file, and which models are elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oprel::OprelError;
use oprel_api::Failure;
use oprel_backend::{Backend, Launch, LoadOptions, ModelSource, Worker, why_unsupported};
use oprel_remote::{LlamaLaunch, LlamaPatience, LlamaServer, Patience, Place, Remote};
use oprel_server::{Elsewhere, Start};

use crate::args::BackendArg;

/// What starts a backend for a file. `own` is this program; `load_timeout` is how long loading may take, where that
/// is set.
pub(crate) fn starts(
    own: PathBuf,
    chosen: BackendArg,
    load_timeout: Option<Duration>,
) -> Result<Start, OprelError> {
    let starter = Starter { own, load_timeout };
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
                starter.by_llama(program, file, options)
            }
            (ModelSource::File(file), Some(program)) => match why_unsupported(source) {
                Some(why) => {
                    let why = why.split(';').next();
                    tracing::info!(file = %file.display(), why, "goes to llama-server");
                    starter.by_llama(program, file, options)
                }
                None => starter.by_worker(source, options),
            },
            (_, None) if chosen == BackendArg::Auto => {
                starter.by_worker(source, options).map_err(|failure| hinted(source, failure))
            }
            _ => starter.by_worker(source, options),
        }
    }))
}

/// What else could run a file that our engine does not know.
fn hinted(source: &ModelSource, failure: Failure) -> Failure {
    let hint = "llama.cpp's server may know it: `oprel backend install` fetches that; then start `oprel serve` again";
    match why_unsupported(source) {
        Some(_) => Failure { hint: Some(hint.into()), ..failure },
        None => failure,
    }
}

/// What starts processes.
struct Starter {
    /// This program.
    own: PathBuf,
    /// How long loading may take, where that is set.
    load_timeout: Option<Duration>,
}

impl Starter {
    /// Our engine, in a process of its own.
    fn by_worker(
        &self,
        source: &ModelSource,
        options: &LoadOptions,
    ) -> Result<Arc<dyn Backend>, Failure> {
        let usual = oprel_backend::Patience::default();
        let load = self.load_timeout.unwrap_or(usual.load);
        let launch = Launch {
            program: self.own.clone(),
            args: vec!["worker".into()],
            source: source.clone(),
            options: options.clone(),
            patience: oprel_backend::Patience { load, ..usual },
        };
        Ok(Arc::new(Worker::start(launch)?))
    }

    /// llama.cpp's server, which dies with this process.
    fn by_llama(
        &self,
        program: &Path,
        file: &Path,
        options: &LoadOptions,
    ) -> Result<Arc<dyn Backend>, Failure> {
        let usual = LlamaPatience::default();
        let stall = self.load_timeout.unwrap_or(usual.stall);
        let launch = LlamaLaunch {
            program: program.to_path_buf(),
            leash: crate::platform::leash(&self.own),
            model: file.to_path_buf(),
            options: options.clone(),
            patience: LlamaPatience { stall, ..usual },
        };
        Ok(Arc::new(LlamaServer::start(&launch)?))
    }
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
