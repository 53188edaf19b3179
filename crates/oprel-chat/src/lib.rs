//! Chat templates in Jinja and in Go's language, and the parsers of what comes back: messages to the
//! text that a model continues, byte for byte what it was trained on; what it writes to thinking,
//! answer and calls of tools.
//!
//! Text only: nothing here knows a model, a token or a file, does I/O or reads a clock. Templates
//! come out of files that strangers made, so they are limited in size, steps, output and nesting;
//! a bad one gives an error, never a panic.

mod capabilities;
mod chat;
mod choose;
mod error;
mod go;
mod jinja;
mod message;
mod template;
mod thinking;
mod time;
mod tool_calls;
mod wanted;

pub use capabilities::Capabilities;
pub use choose::{CHATML, Chosen, Templates};
pub use error::{Error, Result};
pub use message::{message_json, tool_json};
pub use template::{ChatTemplate, Gap, RenderInput, SpecialTokens};
pub use thinking::{Said, ThinkSplitter, ThinkTags};
pub use time::LocalTime;
pub use tool_calls::{Spoken, ToolCallParser, ToolFormat};
pub use wanted::while_wanted;
