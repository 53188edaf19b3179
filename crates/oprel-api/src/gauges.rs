//! What an engine is doing.

use serde::{Deserialize, Serialize};

/// What an engine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gauges {
    /// Sequences that run.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Pages that sequences hold, of the group that has fewest left.
    pub pages_held: usize,
    /// Pages of it that only the prefix cache remembers.
    pub pages_cached: usize,
    /// Pages of it.
    pub pages: usize,
    /// Names that the prefix cache knows.
    pub names: usize,
    /// Steps made.
    pub steps: u64,
    /// Tokens of prompts that were fed.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were found.
    pub cached_tokens: u64,
    /// Tokens that were made.
    pub generated_tokens: u64,
    /// Tokens that were proposed.
    pub drafted_tokens: u64,
    /// Of these, taken.
    pub accepted_tokens: u64,
    /// Tokens of texts that a smaller model read before it could propose any.
    pub draft_read_tokens: u64,
    /// Sequences that had to give up their pages.
    pub preemptions: u64,
}
