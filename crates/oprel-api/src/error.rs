//! What can be wrong with a request, and how a request fails.

use serde::{Deserialize, Serialize};

/// What a check of a request says.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that cannot be right, whatever the model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number is NaN, infinite, or outside of what the field means.
    #[error("{field} must be {expected}, not {value}")]
    OutOfRange {
        /// The field, as a user writes it.
        field: &'static str,
        /// The values that are allowed, in words.
        expected: &'static str,
        /// What was given.
        value: String,
    },
    /// A list or a text that must have something in it is empty.
    #[error("{field} is empty")]
    Empty {
        /// The field, as a user writes it.
        field: &'static str,
    },
    /// More of something than anybody needs.
    #[error("{field} has {given} entries; at most {most} are allowed")]
    TooMany {
        /// The field, as a user writes it.
        field: &'static str,
        /// How many were given.
        given: usize,
        /// How many are allowed.
        most: usize,
    },
    /// Two fields that exclude each other.
    #[error("{field} cannot be combined with {other}")]
    Conflict {
        /// One field.
        field: &'static str,
        /// The other.
        other: &'static str,
    },
}

impl Error {
    /// The field that is wrong, as a user writes it.
    pub fn field(&self) -> &'static str {
        match self {
            Error::OutOfRange { field, .. }
            | Error::Empty { field }
            | Error::TooMany { field, .. }
            | Error::Conflict { field, .. } => field,
        }
    }
}

/// The five kinds of failure that a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The named model is not here.
    ModelNotFound,
    /// Fetching a model failed.
    Download,
    /// The engine failed.
    Backend,
    /// There is not enough memory.
    Memory,
    /// The request is wrong.
    Validation,
}

/// How a request failed after it was accepted: the last event of its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the caller can act on.
    pub kind: ErrorKind,
    /// In the user's terms.
    pub message: String,
    /// What to do now, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What dialects have a word of their own for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// Causes of failure that dialects have a word of their own for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// Too many requests wait; later it may go.
    Busy,
    /// The prompt is longer than the context.
    ContextLength {
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens that the context holds.
        context: u32,
    },
    /// The model cannot do what a field asks for: `tools`, `think`, `suffix`, ...
    Incapable(String),
    /// Nobody here can do what a field asks for.
    Unsupported(String),
    /// The process that ran the model ended, and what it was doing could not be taken up again.
    Crashed,
    /// The file that was named holds no model that can be run here.
    Unusable,
    /// The model's file changed while it was in use: what was computed from it is worth nothing.
    Changed,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), hint: None, cause: None }
    }

    /// The same with what to do now.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a cause.
    pub fn because(self, cause: Cause) -> Failure {
        Failure { cause: Some(cause), ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(ErrorKind::Validation, error.to_string())
    }
}
