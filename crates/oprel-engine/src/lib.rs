//! Sequences, their state, who runs next, and how the next token is chosen.
//!
//! An [`Engine`] holds one prepared executor. [`Engine::submit`] queues a sequence, [`Engine::step`] moves
//! all that run by one batch and says what came of it. It works on token ids: text, templates and
//! stop texts are its caller's. One thread, no I/O, no clock of its own: time is passed in.

mod bounds;
mod draft;
mod engine;
mod error;
pub mod fit;
mod guide;
mod index;
mod logprob;
mod name;
mod pace;
mod pages;
mod queue;
mod rows;
mod sampler;
mod sequence;
mod spans;
mod state;
mod store;

pub use bounds::Bounds;
pub use draft::{DraftModel, why_no_draft};
pub use engine::{Becomes, Engine, Options, Scope};
pub use error::{Error, Result};
pub use guide::{Constraint, Guide};
pub use logprob::sampled;
pub use name::Name;
pub use oprel_nn::batch::SeqId;
pub use sampler::{Breakers, Given, Sampler, Scratch, State};
pub use sequence::{Ask, Says};
pub use store::{PageKey, PageStore, Part};
