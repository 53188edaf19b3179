//! Jinja as Python runs it for chat templates.
//!
//! `minijinja` reads a template; what it read is evaluated here with Python's values, because a
//! prompt must be byte for byte what the model was trained on, and the two languages print,
//! compare, divide, index and scope differently in places that templates use. Nothing here knows
//! what a message is. Nothing here does I/O, reads a clock, or goes on for ever: steps, bytes and
//! nesting are limited.
//!
//! Left out, since no chat template is known to use them: `include`, `import`, `extends` (there is
//! nothing to load), `autoescape` other than false, `cycler`, `joiner`, `lipsum`, and the filters
//! `random`, `urlize`, `xmlattr`. Each is refused by its name.

mod call;
mod convert;
mod dict;
mod eval;
mod filters;
mod filters_seq;
mod filters_text;
mod format;
mod index;
mod json;
mod lower;
mod methods;
mod number;
mod ops;
mod scope;
mod source;
mod strings;
mod testers;
mod text;
mod tree;
mod value;

pub(crate) use convert::from_json;
pub(crate) use eval::{Limits, Machine};
pub(crate) use lower::compile;
pub(crate) use tree::Tree;
pub(crate) use value::Value;
