//! Why a sequence was refused or failed.

use oprel_api::{Cause, ErrorKind, Failure};

/// Why a sequence was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {tokens} tokens; the context holds {context}, with the answer")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Context length of this sequence.
        context: u32,
    },
    /// A text that shall become a vector is longer than one step.
    #[error("the text has {tokens} tokens; at most {most} are read at once")]
    TextTooLong {
        /// Tokens of the text.
        tokens: usize,
        /// The limit.
        most: u32,
    },
    /// Nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token id beyond the vocabulary.
    #[error("token {token} is not in the vocabulary of {n_vocab}")]
    Token {
        /// The id.
        token: u32,
        /// Tokens of the vocabulary.
        n_vocab: u32,
    },
    /// A field of the request that this engine cannot honour.
    #[error("{field} is not supported by this engine yet")]
    Unsupported {
        /// The field, as a user writes it.
        field: &'static str,
    },
    /// A number of the sampling is out of range.
    #[error(transparent)]
    Sampling(#[from] oprel_api::Error),
    /// Text was asked of a model that only embeds.
    #[error("this model makes embeddings, not text")]
    OnlyEmbeds,
    /// The model gave numbers that are no logits.
    #[error("the model gave no usable logits: {what}")]
    Logits {
        /// What was wrong with them.
        what: &'static str,
    },
    /// Too many sequences wait, or those that run leave no room.
    #[error("the engine is busy: {waiting} requests wait")]
    Busy {
        /// Sequences that wait.
        waiting: usize,
    },
    /// The constraint of an answer cannot go on.
    #[error("the constraint cannot be kept: {why}")]
    Constraint {
        /// What it says.
        why: String,
    },
    /// A model that cannot propose tokens for another one.
    #[error("the draft model cannot be used: {why}")]
    Draft {
        /// What is wrong with it.
        why: String,
    },
    /// The executor failed.
    #[error(transparent)]
    Nn(#[from] oprel_nn::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        error.failure()
    }
}

impl Error {
    /// As it is said to a user.
    pub(crate) fn failure(&self) -> Failure {
        let (kind, hint) = match self {
            Error::PromptTooLong { .. } => {
                (ErrorKind::Validation, Some("shorten the prompt or raise --ctx-size"))
            }
            Error::TextTooLong { .. } => {
                (ErrorKind::Validation, Some("shorten the text, or let it be cut"))
            }
            Error::EmptyPrompt
            | Error::Token { .. }
            | Error::Unsupported { .. }
            | Error::Sampling(_) => (ErrorKind::Validation, None),
            Error::Draft { .. } => (
                ErrorKind::Validation,
                Some(
                    "a draft model is a smaller model of the same family, with the same vocabulary",
                ),
            ),
            Error::OnlyEmbeds => (ErrorKind::Validation, Some("use `oprel embed` with it")),
            Error::Nn(oprel_nn::Error::Memory { .. }) => (
                ErrorKind::Memory,
                Some(
                    "use a shorter context (--ctx-size), a smaller quantization or a smaller model",
                ),
            ),
            Error::Nn(oprel_nn::Error::Threads { .. }) => (
                ErrorKind::Memory,
                Some("use fewer threads (--threads), or allow more memory and more threads"),
            ),
            Error::Logits { .. } => (ErrorKind::Backend, Some("the file may be damaged")),
            Error::Busy { .. } => (ErrorKind::Backend, Some("try again later")),
            Error::Constraint { .. } => (ErrorKind::Backend, None),
            Error::Nn(_) => (ErrorKind::Backend, None),
        };
        let cause = match self {
            Error::Busy { .. } => Some(Cause::Busy),
            Error::PromptTooLong { tokens, context } => {
                let prompt = u32::try_from(*tokens).unwrap_or(u32::MAX);
                Some(Cause::ContextLength { prompt, context: *context })
            }
            Error::TextTooLong { tokens, most } => {
                let prompt = u32::try_from(*tokens).unwrap_or(u32::MAX);
                Some(Cause::ContextLength { prompt, context: *most })
            }
            Error::Unsupported { field } => Some(Cause::Unsupported((*field).into())),
            Error::Nn(error) if error.file_changed() => Some(Cause::Changed),
            Error::Nn(error) if error.is_of_the_file() => Some(Cause::Unusable),
            _ => None,
        };
        Failure { kind, message: self.to_string(), hint: hint.map(str::to_string), cause }
    }
}
