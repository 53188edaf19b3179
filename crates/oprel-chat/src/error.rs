//! What can go wrong with a chat template.

/// What this crate's functions give.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a template cannot be compiled or rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The template's text is longer than any real one.
    #[error("the chat template has {bytes} bytes; at most {most} are read")]
    TemplateTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// The template is not well formed.
    #[error("the chat template is malformed in line {line}: {message}")]
    Syntax {
        /// Where, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The template uses something that is not available to chat templates.
    #[error("the chat template uses {what} in line {line}, which is not supported")]
    Unsupported {
        /// Where, counted from 1.
        line: usize,
        /// What it uses.
        what: String,
    },
    /// The template itself refuses these messages, in its own words.
    #[error("the chat template refuses the messages: {message}")]
    Raised {
        /// What the template says.
        message: String,
    },
    /// The template fails on these messages: something is undefined, or of the wrong type.
    #[error("the chat template fails in line {line}: {message}")]
    Failed {
        /// Where, counted from 1; 0 where no line is known.
        line: usize,
        /// Why, in the words that Python uses.
        message: String,
    },
    /// The template takes more steps than any real one.
    #[error("the chat template takes more than {most} steps")]
    OutOfFuel {
        /// The limit.
        most: u64,
    },
    /// The template writes more than fits in any context.
    #[error("the chat template writes more than {most} bytes")]
    OutputTooLong {
        /// The limit.
        most: usize,
    },
    /// The template nests expressions, blocks or macro calls too deep.
    #[error("the chat template nests deeper than {most} levels")]
    TooDeep {
        /// The limit.
        most: u32,
    },
    /// The message to be continued does not show up in what the template writes.
    #[error("the chat template does not write the last message, so it cannot be continued")]
    NothingToContinue,
    /// Whoever asked for it went away; see [`while_wanted`](crate::while_wanted).
    #[error("nobody waits for the prompt any more")]
    Unwanted,
}

impl Error {
    /// A failure whose line is not known yet.
    pub(crate) fn failed(message: impl Into<String>) -> Error {
        Error::Failed { line: 0, message: message.into() }
    }

    /// The same error, with the line where it happened if none is known.
    pub(crate) fn at(self, at: usize) -> Error {
        match self {
            Error::Failed { line: 0, message } => Error::Failed { line: at, message },
            Error::Unsupported { line: 0, what } => Error::Unsupported { line: at, what },
            other => other,
        }
    }
}
