//! Conversations that the server remembers: messages by an id, appended in order, each turn against the
//! version that its author saw.

mod embedded;
#[cfg(feature = "redis")]
mod shared;

use std::time::Duration;

use oprel_api::Message;
use serde::{Deserialize, Serialize};

pub use embedded::Embedded;
#[cfg(feature = "redis")]
pub use shared::Shared;

/// Limits of what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages of a conversation.
    pub messages: u64,
    /// Bytes of a conversation.
    pub bytes: u64,
    /// How long one lasts after its last message.
    pub lasts: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { messages: 10_000, bytes: 16 << 20, lasts: Duration::from_secs(90 * 86_400) }
    }
}

/// What is known of a conversation besides its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its id.
    pub id: String,
    /// How many messages were ever appended: what the next append must know.
    pub version: u64,
    /// Bytes of its messages.
    pub bytes: u64,
    /// When it was begun: seconds since 1970.
    pub created: u64,
    /// When something was appended last.
    pub updated: u64,
}

/// A message and whether it is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The message.
    pub message: Message,
    /// When it was appended: seconds since 1970.
    pub at: u64,
    /// An answer that was cut: by its reader, or by a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else appended in between.
    #[error("conversation '{id}' has moved on: it is at version {version}")]
    Conflict {
        /// The conversation.
        id: String,
        /// Where it is.
        version: u64,
    },
    /// It cannot grow.
    #[error("conversation '{id}' is full: begin another one")]
    Full {
        /// The conversation.
        id: String,
    },
    /// The store failed.
    #[error("conversations cannot be reached: {why}")]
    Unreachable {
        /// What it says.
        why: String,
    },
}

/// Result of a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where conversations are. An `owner` sees only its own. Methods may wait for a disk: they are called
/// where waiting is allowed.
pub trait Store: Send + Sync {
    /// Appends messages, all or none, to a conversation at a version; 0 is one that does not exist yet.
    fn append(&self, owner: &str, id: &str, version: u64, items: &[Item]) -> Result<Head>;

    /// A conversation and all its messages, if it exists and has not expired.
    fn get(&self, owner: &str, id: &str) -> Result<Option<(Head, Vec<Item>)>>;

    /// An owner's conversations, at most so many, those after an id.
    fn list(&self, owner: &str, after: &str, most: usize) -> Result<Vec<Head>>;

    /// Forgets a conversation. Whether there was one.
    fn delete(&self, owner: &str, id: &str) -> Result<bool>;

    /// Forgets what has expired. How many.
    fn expire(&self) -> Result<usize>;
}

/// Whether a text can be a conversation's id.
pub(crate) fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    (1..=128).contains(&text.len()) && text.chars().all(plain)
}
