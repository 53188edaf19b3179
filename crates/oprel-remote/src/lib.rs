//! Engines of others behind the one seam for engines: servers that speak OpenAI's protocol, and llama.cpp's server
//! as a child process.
//!
//! A [`Remote`] is a model that one or several such servers have. What is asked is translated field by field;
//! what cannot be said to such a server is refused by its name, and no JSON of a client is passed on unread. What
//! comes back is not believed: an answer without an end, with an error in its middle or against its
//! constraint is a failure, whatever its status was.

mod ask;
mod body;
mod breaker;
mod choose;
mod far;
mod fit;
mod fleet;
mod knobs;
mod llama;
mod place;
mod probe;
mod profile;
mod pump;
mod reader;
mod remote;
mod sse;
mod tokens;
mod wire;

pub use llama::{LlamaLaunch, LlamaPatience, LlamaServer, find, version};
pub use place::{Address, Place};
pub use profile::Profile;
pub use remote::{Patience, Remote};
