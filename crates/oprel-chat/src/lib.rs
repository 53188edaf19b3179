//! Chat templates: messages to the text that a model continues, byte for byte what it was
//! trained on.
//!
//! Text only: nothing here knows a model, a token or a file, does I/O or reads a clock. Templates
//! come out of files that strangers made, so they are limited in size, steps, output and nesting;
//! a bad one gives an error, never a panic.

mod error;
mod jinja;
mod template;
mod time;

pub use error::{Error, Result};
pub use template::{ChatTemplate, RenderInput, SpecialTokens};
pub use time::LocalTime;
