//! How far a request may go, what happens at the edge of the context, and what may be cached.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How far a request may go. Unset, the engine's own limits hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most tokens to make.
    pub max_tokens: Option<u32>,
    /// Fewest tokens to make before an end is accepted.
    pub min_tokens: u32,
    /// Most tokens of thinking; then thinking is closed and the answer begins. 0 closes it as soon as
    /// it is opened. Tags are not counted. A model that does not think keeps to any bound.
    pub max_thinking_tokens: Option<u32>,
    /// Context length: most tokens of prompt and answer together.
    pub context: Option<u32>,
    /// Longest time from submission to the last event.
    pub deadline: Option<Duration>,
    /// What to do with a prompt that is longer than the context.
    pub input_overflow: InputOverflow,
    /// What to do when the answer fills the context.
    pub output_overflow: OutputOverflow,
}

/// What to do with a prompt that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputOverflow {
    /// Refuse the request.
    #[default]
    Refuse,
    /// Drop the oldest messages that are not the system's, never the last; of a plain prompt, the
    /// middle. The cut is reported by [`crate::Event::Truncated`].
    DropOldest,
}

/// What to do when the answer fills the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputOverflow {
    /// End with [`crate::EndReason::ContextFull`].
    #[default]
    Stop,
    /// Forget the older half of the text after the first `keep` tokens and go on. The cut is
    /// reported by [`crate::Event::Truncated`].
    Shift {
        /// Tokens at the start that are never forgotten.
        keep: u32,
    },
}

/// What of this request may be cached, and with whom it may be shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CachePolicy {
    /// Take pages of the prompt from the prefix cache.
    pub read: bool,
    /// Leave pages of this sequence to the prefix cache.
    pub write: bool,
    /// Part of every page's name: pages are shared only between equal salts.
    pub salt: Option<String>,
}

impl Default for CachePolicy {
    fn default() -> CachePolicy {
        CachePolicy { read: true, write: true, salt: None }
    }
}

impl Limits {
    /// Checks that the limits leave room for something.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] or [`Error::Conflict`] with the name of the field.
    pub fn validate(&self) -> Result<()> {
        if self.context == Some(0) {
            return Err(Error::OutOfRange {
                field: "context",
                expected: "1 or more",
                value: "0".into(),
            });
        }
        if self.max_tokens.is_some_and(|most| most < self.min_tokens) {
            return Err(Error::Conflict { field: "min_tokens", other: "a smaller max_tokens" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_of_nothing_is_refused() {
        let limits = Limits { context: Some(0), ..Limits::default() };
        assert_eq!(limits.validate().unwrap_err().field(), "context");
        assert_eq!(Limits::default().validate(), Ok(()));
    }

    #[test]
    fn more_tokens_at_least_than_at_most_are_refused() {
        let limits = Limits { max_tokens: Some(3), min_tokens: 4, ..Limits::default() };
        assert_eq!(limits.validate().unwrap_err().field(), "min_tokens");
    }
}
