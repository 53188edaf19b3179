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
//! let daemon = Daemon::from_env().started();
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
mod error;
mod model;
mod quick;
mod served;
mod show;
mod stored;
mod stream;
mod text;

pub use bench::{Bench, BenchOptions, ParallelBench, ParallelOptions};
pub use builder::{Mode, ModelBuilder};
pub use error::OprelError;
pub use model::{Ask, Model};
pub use quick::{Listed, chat, embed, generate, list, running};
pub use show::{Details, Show, show, show_with_template};
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
#[cfg(unix)]
#[doc(hidden)]
pub use oprel_backend::run_worker;
pub use oprel_backend::{Capability, Executor, ModelSource, RawChat};
pub use oprel_client::{
    AsyncClient, AsyncEvents, Client, Daemon, Endpoint, Error as ClientError, Events, Generate,
};
pub use oprel_nn::{KvType, KvTypes};
pub use oprel_tokenizer::TokenizeOptions;

/// Where the user's store of models is and what is read beside it, by settings.
///
/// # Errors
/// If there is no place for one.
#[doc(hidden)]
pub fn places() -> Result<oprel_hub::Places> {
    let mut places =
        oprel_hub::Places::usual().map_err(|error| OprelError::from(Failure::from(error)))?;
    if let Some(root) = oprel_config::current().ok().and_then(|set| set.path("models")) {
        places.root = root;
    }
    Ok(places)
}

/// Result of this crate.
pub type Result<T, E = OprelError> = std::result::Result<T, E>;
