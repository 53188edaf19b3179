//! Speaking to a daemon: over TCP, a Unix socket or a named pipe, awaited or waited for; and starting one where none is.
//!
//! Connections are kept and used again. A request is sent once: only a connection that could not be made, or
//! one that turned out to be closed before anything was sent, is tried again.

mod asynchronous;
mod blocking;
mod connect;
mod daemon;
mod endpoint;
mod error;
mod events;
mod lines;
mod platform;
mod program;
mod upload;

pub use asynchronous::AsyncClient;
pub use blocking::{Client, Events};
pub use connect::{Connect, Stream};
pub use daemon::Daemon;
pub use endpoint::Endpoint;
pub use error::{DISTRUST, Error, Result, innermost};
pub use events::AsyncEvents;
pub use oprel_api::native::Generate;
pub use program::on_path;
