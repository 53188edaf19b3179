//! The one request and event type that every dialect is translated to and from.
//!
//! A dialect is two functions: its wire type to a [`Request`], a stream of [`Event`]s to its wire
//! type. Nothing here computes, does I/O or reads a clock, and nothing here knows a model. What a
//! request says and an engine cannot do, the engine refuses by the field's name; it ignores nothing.

mod answer;
pub mod anthropic;
mod base64;
mod body;
mod constraint;
pub mod dialect;
mod embed;
mod error;
mod event;
mod extension;
mod gauges;
mod limits;
mod message;
pub mod native;
pub mod ollama;
pub mod openai;
mod patch;
mod request;
mod rerank;
mod sampling;
mod sse;
mod tool;
mod trace;

pub use answer::Answer;
pub use constraint::{Constraint, GrammarSyntax};
pub use embed::{EmbedInput, EmbedRequest, Embeddings};
pub use error::{Cause, Error, ErrorKind, Failure, Result};
pub use event::{EndReason, Event, Piece, Sampled, TopToken, Truncation, Usage};
pub use gauges::Gauges;
pub use limits::{CachePolicy, InputOverflow, Limits, OutputOverflow};
pub use message::{Content, Media, MediaSource, Message, Part, Role};
pub use patch::SamplingPatch;
pub use request::{AdapterChoice, Chat, Input, Prompt, Request, Think};
pub use rerank::{Ranked, Ranking, RerankRequest};
pub use sampling::{Dry, LogitBias, Mirostat, Sampling, Xtc};
pub use tool::{Tool, ToolCall, ToolChoice};
pub use trace::Trace;
