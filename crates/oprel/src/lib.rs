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
//! A [`Model`] is one loaded model, in this process: its weights are mapped from the file, its engine runs
//! on a thread of its own, and any thread may send it requests. Everything is public here and nothing
//! is computed here.

mod bench;
mod error;
mod model;
mod show;

pub use bench::{Bench, BenchOptions, ParallelBench, ParallelOptions};
pub use error::OprelError;
pub use model::{Model, ModelBuilder, Stream, Template, render, tokenize};
pub use show::{Details, Show, show};

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
pub use oprel_nn::{KvType, KvTypes};
pub use oprel_tokenizer::TokenizeOptions;

/// Result of this crate.
pub type Result<T, E = OprelError> = std::result::Result<T, E>;
