//! Why a constraint cannot be kept.

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a constraint cannot be compiled or kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tokens of a vocabulary are more or longer than what a constraint can search.
    #[error("constraints cannot use this vocabulary: {reason}")]
    Vocabulary {
        /// Why.
        reason: String,
    },
    /// A text or a list is larger than any real one.
    #[error("the {what} has {found} {unit}; at most {most} are allowed")]
    TooLarge {
        /// Schema, grammar, regular expression, choices.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// The unit of both counts.
        unit: &'static str,
        /// How large it may be.
        most: usize,
    },
    /// A keyword of JSON Schema that cannot be kept here, or not with this value.
    #[error("the JSON Schema keyword `{keyword}` at `{pointer}` is not supported: {reason}")]
    Keyword {
        /// The keyword.
        keyword: String,
        /// JSON pointer to the schema that has it.
        pointer: String,
        /// Why, and what to write instead.
        reason: String,
    },
    /// A value in a schema that JSON Schema does not allow there.
    #[error("the JSON Schema is wrong at `{pointer}`: {reason}")]
    Schema {
        /// JSON pointer to the wrong value.
        pointer: String,
        /// What is wrong.
        reason: String,
    },
    /// A regular expression that is wrong, or has what cannot be kept.
    #[error("the regular expression is wrong at byte {position}{}: {reason}", at(pointer))]
    Regex {
        /// Where in the expression, in bytes.
        position: usize,
        /// JSON pointer to the expression, where it stands in a schema.
        pointer: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// A grammar that is wrong.
    #[error("the grammar is wrong{}: {reason}", on_line(line))]
    Grammar {
        /// Line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A list of choices without an entry.
    #[error("there is nothing to choose from")]
    NoChoice,
    /// It takes more time or memory to compile or to keep than a request is granted.
    #[error("the constraint takes too much time or memory; make it smaller ({reason})")]
    TooComplex {
        /// What ran out.
        reason: String,
    },
    /// A token that the constraint does not allow here.
    #[error("the constraint does not allow token {token} here")]
    NotAllowed {
        /// The token.
        token: u32,
    },
    /// No token of the vocabulary can go on with the text that the constraint wants.
    #[error("the vocabulary has no token with which the constrained text could go on")]
    DeadEnd,
    /// More tokens are to be taken back than are remembered.
    #[error("{asked} tokens cannot be taken back; {remembered} are remembered")]
    Rollback {
        /// How many tokens are to be taken back.
        asked: usize,
        /// How many can be.
        remembered: usize,
    },
    /// Calls of tools that are not written as JSON.
    #[error(
        "calls of tools cannot be forced: the model writes them in the format `{format}`, which is not JSON"
    )]
    CallFormat {
        /// The format's name.
        format: String,
    },
    /// A tool that is to be called and does not exist.
    #[error("there is no tool `{name}` to call")]
    NoTool {
        /// The name, empty where there is no tool at all.
        name: String,
    },
    /// The thread that computes masks is gone.
    #[error("the thread that computes constraints ended")]
    Lost,
    /// A defect of the matcher; the request fails, others go on.
    #[error("the constraint failed inside: {reason}")]
    Internal {
        /// What is known of it.
        reason: String,
    },
}

impl Error {
    /// Whether the constraint itself is at fault, so that the same request fails again.
    pub fn is_invalid(&self) -> bool {
        !matches!(self, Error::Lost | Error::Internal { .. } | Error::Vocabulary { .. })
    }
}

fn at(pointer: &Option<String>) -> String {
    pointer.as_ref().map(|p| format!(" of `{p}`")).unwrap_or_default()
}

fn on_line(line: &Option<usize>) -> String {
    line.map(|line| format!(" on line {line}")).unwrap_or_default()
}
