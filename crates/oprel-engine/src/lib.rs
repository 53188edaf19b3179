//! Sequences, their state, who runs next, and how the next token is chosen.
//!
//! An [`Engine`] holds one prepared executor. [`Engine::submit`] queues a sequence, [`Engine::step`] moves
//! what is running by one batch and says what came of it. It works on token ids: text, templates and
//! stop texts are its caller's. One thread, no I/O, no clock of its own: time is passed in.

mod bounds;
mod engine;
mod error;
mod logprob;
mod sampler;
mod sequence;

pub use bounds::Bounds;
pub use engine::{Engine, Options, Scope};
pub use error::{Error, Result};
pub use logprob::sampled;
pub use oprel_nn::batch::SeqId;
pub use sampler::{Breakers, Given, Sampler, Scratch, State};
pub use sequence::{Ask, Says};
