//! Where `oprel run` has its answers made: by a daemon that answers, else in this process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use oprel::{Event, Model, OprelError, Request, Sampling, SamplingPatch};
use oprel_api::native::Generate;
use oprel_client::Client;

use crate::args::Run;
use crate::commands::{builder, source};
use crate::daemon::{client, failed};

/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(10);

/// Who makes answers.
#[allow(clippy::large_enum_variant)] // one a command
pub(crate) enum Engine {
    /// This process.
    Here(Box<Model>),
    /// A daemon.
    There {
        client: Client,
        /// The model, as the daemon is to find it.
        model: String,
    },
}

impl Engine {
    /// Who makes the answers that a command line asks for.
    pub(crate) fn of(args: &Run) -> anyhow::Result<Engine> {
        if args.server || (!args.local && fits_a_daemon(args)) {
            let client = client()?;
            if args.server {
                start(&client)?;
            }
            if args.server || client.is_there() {
                return Ok(Engine::There { client, model: whole(&args.model) });
            }
        }
        let mut builder = builder(&args.model, &args.load);
        if let Some(draft) = &args.draft {
            builder = builder.draft(source(draft));
        }
        let model = builder.load()?;
        check_speaks(&model)?;
        Ok(Engine::Here(Box::new(model)))
    }

    /// Answers a request; its sampling is what was typed, over what the model's makers suggest.
    pub(crate) fn generate(
        &self,
        mut request: Request,
        wish: &SamplingPatch,
    ) -> anyhow::Result<Box<dyn Iterator<Item = Event>>> {
        match self {
            Engine::Here(model) => {
                request.sampling = wish.over(model.sampling());
                Ok(Box::new(model.generate(request)?))
            }
            Engine::There { client, model } => {
                request.sampling = Sampling::default();
                let body = Generate {
                    model: model.clone(),
                    stream: true,
                    keep_alive_ms: None,
                    sampling: wish.clone(),
                    request,
                };
                let events = client.generate(&body).map_err(failed)?;
                Ok(Box::new(events.map(|(_, event)| event)))
            }
        }
    }

    /// How long the model took to load, where it was loaded here.
    pub(crate) fn load_time(&self) -> Option<Duration> {
        match self {
            Engine::Here(model) => Some(model.load_time()),
            Engine::There { .. } => None,
        }
    }
}

/// Whether nothing was typed that only this process can do.
fn fits_a_daemon(args: &Run) -> bool {
    let load = &args.load;
    let isa = std::env::var("OPREL_ISA").is_ok_and(|isa| !isa.is_empty());
    load.threads.is_none()
        && load.prompt_cache.is_none()
        && load.kv == oprel::KvTypes::default()
        && args.draft.is_none()
        && !isa
}

/// A path that means the same in another process.
fn whole(model: &str) -> String {
    let path = Path::new(model);
    match model != "demo" && path.exists() {
        true => std::path::absolute(path).map_or(model.into(), |p| p.to_string_lossy().into()),
        false => model.into(),
    }
}

/// Starts a daemon, if none answers, which stays when this process ends.
fn start(client: &Client) -> anyhow::Result<()> {
    if client.is_there() {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().context("cannot start a server")?;
    let until = Instant::now() + START;
    while Instant::now() < until {
        if client.is_there() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            let message = format!("the server ended at once with {status}");
            return Err(OprelError::Backend {
                message,
                hint: Some("`oprel serve` says why".into()),
                source: None,
            }
            .into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(OprelError::validation("the server that was started does not answer").into())
}

/// Refuses a model that is for something else, before a chat begins.
fn check_speaks(model: &Model) -> Result<(), OprelError> {
    let (message, hint) = match (model.only_embeds(), model.ranks()) {
        (true, _) => ("this model makes embeddings, not text", "use `oprel embed` with it"),
        (_, true) => ("this model ranks documents, it makes no text", "use `oprel rerank` with it"),
        _ => return Ok(()),
    };
    let (message, hint) = (message.to_string(), Some(hint.to_string()));
    Err(OprelError::Validation { message, hint, source: None })
}
