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

pub use bench::{Bench, BenchOptions};
pub use error::OprelError;
pub use model::{Model, ModelBuilder, Stream, Template, render, tokenize};
pub use show::{Details, Show, show};

pub use oprel_api::{
    Answer, Chat, Content, EmbedInput, EmbedRequest, Embeddings, EndReason, Event, Input, Limits,
    Message, Piece, Prompt, Request, Role, Sampled, Sampling, Think, Tool, ToolCall, Usage,
};
pub use oprel_backend::{Capability, Executor, ModelSource, RawChat};
pub use oprel_nn::KvType;
pub use oprel_tokenizer::TokenizeOptions;

/// Result of this crate.
pub type Result<T, E = OprelError> = std::result::Result<T, E>;
