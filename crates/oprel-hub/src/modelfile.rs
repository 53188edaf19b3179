//! Modelfiles: what a model is made from and what it says, line by line.
//!
//! [`Modelfile::parse`] reads the whole grammar of Ollama's, [`Modelfile::resolve`] finds the files that it names,
//! and [`create`] makes a model of them in a store.

mod create;
mod parameters;
mod parse;
mod sources;
mod write;

pub use create::{Maker, Step, create, parts};
pub use parameters::{deprecated, typed};
pub use sources::{Piece, PieceAt, Recipe};

/// A Modelfile, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modelfile {
    /// What it says.
    pub commands: Vec<Command>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `FROM`: a model, a file or a folder.
    From(String),
    /// `PARAMETER`: an option and its value.
    Parameter {
        /// The option.
        name: String,
        /// Its value, as it is written.
        value: String,
    },
    /// `TEMPLATE`: the chat template.
    Template(String),
    /// `SYSTEM`: the system message.
    System(String),
    /// `ADAPTER`: a LoRA adapter's file.
    Adapter(String),
    /// `LICENSE`: a licence.
    License(String),
    /// `MESSAGE`: a message that stands before every conversation.
    Message {
        /// `system`, `user` or `assistant`.
        role: String,
        /// What it says.
        content: String,
    },
    /// `DRAFT`: a smaller model that proposes tokens.
    Draft(String),
    /// `RENDERER`: who writes the prompt.
    Renderer(String),
    /// `PARSER`: who reads the answer.
    Parser(String),
    /// `REQUIRES`: the version that is needed.
    Requires(String),
}

/// Why a Modelfile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A line begins with what is no command.
    #[error(
        "(line {line}): command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", \
         \"draft\", \"renderer\", \"parser\", \"parameter\", \"message\", or \"requires\""
    )]
    Command {
        /// The line, from 1.
        line: usize,
    },
    /// A message of nobody.
    #[error("(line {line}): message role must be one of \"system\", \"user\", or \"assistant\"")]
    Role {
        /// The line, from 1.
        line: usize,
    },
    /// It ends, or a line does, where something must follow.
    #[error("unexpected EOF{}{after}", if after.is_empty() { "" } else { ": " })]
    Eof {
        /// What stands before that.
        after: String,
    },
    /// Nothing says what the model is made from.
    #[error("no FROM line")]
    NoFrom,
    /// No option has this name.
    #[error("unknown parameter '{0}'")]
    Unknown(String),
    /// A value that the option cannot have.
    #[error("invalid {kind} value [{value}]")]
    Value {
        /// `int`, `float` or `bool`.
        kind: &'static str,
        /// The value.
        value: String,
    },
    /// `REQUIRES` without a version.
    #[error("requires must be a valid semver (e.g. 0.14.0)")]
    Requires,
    /// A folder that no model can be made from.
    #[error("no Modelfile or safetensors files found")]
    NoFiles,
    /// A link that leads out of the folder of a model.
    #[error("insecure path: {0}")]
    Insecure(String),
    /// `~` where nobody has a home.
    #[error("failed to find the home of '{0}'")]
    NoHome(String),
    /// A file that is not there.
    #[error("open {0}: no such file or directory")]
    NoSuch(String),
    /// Draft and model are one file.
    #[error("DRAFT must not reference the same local path as FROM: {0}")]
    SameAsDraft(String),
    /// A value that no Modelfile can say.
    #[error("{what} cannot be written in a Modelfile")]
    Unwritable {
        /// Which one.
        what: &'static str,
    },
}

impl Problem {
    /// What the user may do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Problem::Command { .. } => "every line begins with a command; `#` begins a comment",
            Problem::Eof { .. } => "close the quotes, and give every command a value",
            Problem::NoFrom => "begin with `FROM model` or `FROM ./file.gguf`",
            Problem::Unknown(_) | Problem::Value { .. } => {
                "options are named and typed as in requests"
            }
            Problem::Insecure(_) => "put the file itself into the folder",
            Problem::NoSuch(_) => "paths begin where the Modelfile is; check this one",
            Problem::NoFiles => "name a GGUF file, or a folder with one",
            _ => "correct the Modelfile",
        }
    }
}

#[cfg(test)]
mod tests;
