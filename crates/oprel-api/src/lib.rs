//! The one request and event type that every dialect is translated to and from.
//!
//! A dialect is two functions: its wire type to a [`Request`], a stream of [`Event`]s to its wire
//! type. Nothing here computes, does I/O or reads a clock, and nothing here knows a model. What a
//! request says and an engine cannot do, the engine refuses by the field's name; it ignores nothing.

mod answer;
mod constraint;
mod embed;
mod error;
mod event;
mod limits;
mod message;
mod request;
mod rerank;
mod sampling;
mod tool;

pub use answer::Answer;
pub use constraint::{Constraint, GrammarSyntax};
pub use embed::{EmbedInput, EmbedRequest, Embeddings};
pub use error::{Error, ErrorKind, Failure, Result};
pub use event::{EndReason, Event, Piece, Sampled, TopToken, Truncation, Usage};
pub use limits::{CachePolicy, InputOverflow, Limits, OutputOverflow};
pub use message::{Content, Media, MediaSource, Message, Part, Role};
pub use request::{AdapterChoice, Chat, Input, Prompt, Request, Think};
pub use rerank::{Ranked, Ranking, RerankRequest};
pub use sampling::{Dry, LogitBias, Mirostat, Sampling, Xtc};
pub use tool::{Tool, ToolCall, ToolChoice};
