//! The engine in a process of its own: a crash, a kill or a bad file takes down one model, not the daemon,
//! and what was being said goes on where it was.

mod child;
mod desks;
mod parent;
mod platform;
mod wire;

pub use child::run_worker;
pub use parent::{Launch, Patience, Worker};
#[cfg(unix)]
pub use platform::leash;
