//! Run language models from GGUF files on your own machine.
//!
//! ```no_run
//! use oprel::{Event, Model};
//!
//! let model = Model::load("model.gguf")?;
//! for event in model.generate("Why is the sky blue?")? {
//!     if let Event::Text(piece) = event {
//!         print!("{}", piece.text);
//!     }
//! }
//! # Ok::<(), oprel::OprelError>(())
//! ```
//!
//! A [`Model`] is one loaded model. In direct mode, as above, it is in this process: its weights are mapped from
//! the file, its engine runs on a thread of its own, and any thread may send it requests. In server mode
//! it is in a daemon's, which programs share, and which outlives a crash of the model:
//!
//! ```no_run
//! use oprel::{Daemon, Event, Model, ModelSource};
//!
//! // The daemon of this user (`OPREL_HOST`), which is started if none answers: the program that
//! // `OPREL_BIN` names, else `oprel` on `PATH`.
//! let daemon = Daemon::from_env()?.started();
//! let model = Model::builder(ModelSource::File("model.gguf".into())).server(daemon).load()?;
//! for event in model.generate("Why is the sky blue?")? {
//!     if let Event::Text(piece) = event {
//!         print!("{}", piece.text);
//!     }
//! }
//! # Ok::<(), oprel::OprelError>(())
//! ```
//!
//! Both modes take the same requests and give the same events. Neither stands in for the other: where no daemon
//! answers, server mode is an error. [`chat`], [`generate`] and [`embed`] ask the daemon one thing; [`Client`] and
//! [`AsyncClient`] speak to it without a model. Everything is public here and nothing is computed here.

mod bench;
mod builder;
mod create;
mod error;
mod model;
mod quick;
mod served;
mod show;
mod stored;
mod stream;
mod text;

use oprel_hub::catalog::{Alias, Catalog};

pub use bench::{Bench, BenchOptions, ParallelBench, ParallelOptions};
pub use builder::{Mode, ModelBuilder};
#[doc(hidden)]
pub use create::{Making, copy, create, file_type};
pub use error::OprelError;
pub use model::{Ask, Model};
pub use quick::{Listed, chat, embed, generate, list, running};
pub use show::{Details, Show, show, show_with_template};
#[doc(hidden)]
pub use show::{overlay_show, show_body, show_details};
pub use stored::locate;
#[doc(hidden)]
pub use stored::{overlay, preset};
pub use stream::Stream;
pub use text::{Template, render, tokenize};

pub use oprel_api::{
    AdapterChoice, Answer, CachePolicy, Chat, Constraint, Content, Dry, EmbedInput, EmbedRequest,
    Embeddings, EndReason, ErrorKind, Event, Failure, GrammarSyntax, Input, InputOverflow, Limits,
    LogitBias, Media, MediaSource, Message, Mirostat, OutputOverflow, Part, Piece, Prompt, Ranked,
    Ranking, Request, RerankRequest, Role, Sampled, Sampling, SamplingPatch, Think, Tool, ToolCall,
    ToolChoice, TopToken, Truncation, Usage, Xtc,
};
#[doc(hidden)]
pub use oprel_backend::run_worker;
pub use oprel_backend::{Capability, Executor, ModelSource, RawChat};
pub use oprel_client::{
    AsyncClient, AsyncEvents, Client, Daemon, Endpoint, Error as ClientError, Events, Generate,
};
pub use oprel_nn::{KvType, KvTypes};
pub use oprel_tokenizer::TokenizeOptions;

/// What fetches models, by settings and by the variables of the hub's own tools.
///
/// # Errors
/// If a setting makes no sense, or TLS or a proxy cannot be set up.
#[doc(hidden)]
pub fn fetcher() -> Result<oprel_hub::fetch::Fetcher> {
    let lookup = |name: &str| {
        let own = match name {
            "HF_ENDPOINT" => oprel_config::setting("hub"),
            // In the one word for yes that is read there.
            "OPREL_OFFLINE" => {
                let set = oprel_config::current().ok()?;
                set.is_on("offline").then(|| "1".to_owned())
            }
            _ => name
                .strip_prefix("OPREL_")
                .and_then(|name| oprel_config::setting(&name.to_lowercase())),
        };
        // Of the hub's variables ours is the more special one.
        own.or_else(|| std::env::var(name).ok())
    };
    let settings = oprel_hub::fetch::Settings::from_lookup(&lookup)?;
    Ok(oprel_hub::fetch::Fetcher::new(settings)?)
}

/// The catalogue, with the user's own names.
///
/// # Errors
/// If one of them can be no name, or stands for what is neither in the catalogue nor at the hub.
#[doc(hidden)]
pub fn catalog() -> Result<Catalog> {
    let own = oprel_config::current().map(oprel_config::Config::aliases).unwrap_or_default();
    let own: Vec<_> = own.iter().map(own_alias).collect::<Result<_>>()?;
    Ok(Catalog::built_in().clone().with(own)?)
}

/// What a user's own name stands for.
fn own_alias(own: &oprel_config::Alias) -> Result<Alias> {
    let name = own.name.clone();
    if let Some(known) = Catalog::built_in().alias(&own.model) {
        return Ok(Alias { name, also: Vec::new(), ..known.clone() });
    }
    match oprel_hub::Reference::parse(&own.model).map(|reference| reference.source) {
        Ok(oprel_hub::Source::Hub(hub)) => {
            let file = hub.pick.unwrap_or_else(|| "latest".into());
            let repository = hub.repository;
            Ok(Alias { name, repository, file, native: true, ..Alias::default() })
        }
        _ => Err(OprelError::Validation {
            message: format!(
                "the alias '{name}' in line {} of {} stands for '{}', which is neither in the catalogue nor at the hub",
                own.line,
                oprel_config::FILE,
                own.model
            ),
            hint: Some(
                "write hf.co/user/repository:Q4_K_M, or a name that `oprel list-models` shows; a file gets a name \
                 by `oprel create`"
                    .into(),
            ),
            source: None,
        }),
    }
}

/// Where the user's store of models is and what is read beside it, by settings.
///
/// # Errors
/// If there is no place for one.
#[doc(hidden)]
pub fn places() -> Result<oprel_hub::Places> {
    let mut places = oprel_hub::Places::usual()?;
    if let Ok(set) = oprel_config::current() {
        places.root = set.path("models").unwrap_or(places.root);
        places.prune &= !set.is_on("noprune");
    }
    Ok(places)
}

/// Result of this crate.
pub type Result<T, E = OprelError> = std::result::Result<T, E>;
