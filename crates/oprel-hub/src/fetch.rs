//! Fetching models: from hubs that speak Hugging Face's protocol, registries that speak Ollama's, or any address.
//!
//! A file is on the disk under its own name only once all of its bytes are there and its SHA-256 is right. Whatever
//! stops a download before, it goes on where it was. Nothing here asks or prints.

mod downloads;
mod error;
mod fetcher;
mod hasher;
mod hub;
mod journal;
mod key;
mod link;
mod pace;
mod part;
mod pull;
mod ranges;
mod registry;
mod settings;
mod transfer;

pub use downloads::Download;
pub use error::{Error, Result};
pub use fetcher::Fetcher;
pub use hub::{Choice, File, Found, Variant, choose, variants};
pub use key::Key;
pub use pull::{Sink, Status, Tell};
pub use reqwest::Url;
pub use settings::Settings;
pub use transfer::{Fetched, Progress};
