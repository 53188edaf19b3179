//! Constraints on an answer's text: which tokens may come next, token by token.
//!
//! A [`Vocabulary`] is made once a model; a [`Matcher`] turns an [`oprel_api::Constraint`] into
//! sets of tokens over it, and a [`Gate`] holds the matcher back while the model thinks or calls a
//! tool. [`Ahead`] computes the next set on a thread of its own, beside the forward pass.
//!
//! Nothing here knows a model or a sampler, and nothing reads a clock. What a user writes is
//! hostile until it is compiled: sizes and nesting are limited, searching has a budget, and a
//! defect inside is an [`Error`] of that one request.
//!
//! # What is kept, and how
//!
//! - **JSON**: properties come in the order of the schema, then those it does not name. Between
//!   the parts of a text stands nothing, one space, or one line break and an indentation; none
//!   stands before or after the text. Keywords that JSON Schema gives a meaning and that cannot be
//!   kept are refused by name; those it gives none are ignored, as it says.
//! - **Regular expressions** are those of Rust's `regex` crate, matched whole.
//! - **Grammars** in Lark's notation are read as `llguidance` reads them, those in GBNF as
//!   llama.cpp does: from the rule `root`, character by character.

mod ahead;
mod compile;
mod error;
mod gate;
mod gbnf;
mod lark;
mod mask;
mod matcher;
mod regex;
mod schema;
mod tools;
mod verify;
mod vocabulary;
mod watch;

pub use ahead::{Ahead, Pending};
pub use error::{Error, Result};
pub use gate::{Gate, GateOptions};
pub use mask::Mask;
pub use matcher::Matcher;
pub use tools::{CallFormat, CallFrame, CallPart, tool_call_matcher};
pub use verify::Verifier;
pub use vocabulary::Vocabulary;
pub use watch::{Prepared, Watch};
