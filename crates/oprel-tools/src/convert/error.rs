//! Why a folder could not be converted, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model folder could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder lacks a file that a model needs.
    #[error("{} has no {file}", folder.display())]
    MissingFile {
        /// Where it was looked for.
        folder: PathBuf,
        /// What is missing.
        file: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The system refused a file.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A safetensors file is malformed.
    #[error("{} is not a valid safetensors file: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No table for this architecture.
    #[error("models of architecture '{name}' cannot be converted")]
    Architecture {
        /// What `config.json` says.
        name: String,
        /// What can be converted.
        supported: Vec<&'static str>,
    },
    /// The weights are quantized in a way that is not read.
    #[error("the weights of this folder are packed by '{method}', which is not read")]
    Packed {
        /// What `config.json` calls it.
        method: String,
    },
    /// A value of `config.json` is missing or makes no model.
    #[error("config.json: '{key}' {problem}")]
    Config {
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor is not what the architecture needs.
    #[error("tensor '{name}' {problem}")]
    Tensor {
        /// Its name in the folder.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The vocabulary cannot be taken over.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The file.
        file: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// `config.json` and the tensors contradict each other, so that what was made is no model.
    #[error("config.json and the tensors of this folder do not fit each other: {0}")]
    NoModel(#[from] oprel_models::Error),
    /// What was made of the vocabulary cannot be read.
    #[error("the vocabulary of this folder makes none: {0}")]
    NoVocabulary(#[from] oprel_tokenizer::Error),
    /// The GGUF file cannot be written.
    #[error(transparent)]
    Gguf(#[from] oprel_gguf::Error),
}

/// Result of a conversion.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::MissingFile { hint, .. } => Some((*hint).to_owned()),
            Error::Architecture { supported, .. } => Some(format!(
                "architectures that can be converted: {}; many others are published as GGUF",
                supported.join(", ")
            )),
            Error::Packed { .. } => Some(
                "convert the model that it was made from, then quantize the GGUF file".to_owned(),
            ),
            Error::Safetensors { .. } | Error::Json { .. } => {
                Some("download the file again: it is damaged or incomplete".to_owned())
            }
            _ => None,
        }
    }

    pub(super) fn config(key: &str, problem: impl Into<String>) -> Error {
        Error::Config { key: key.to_owned(), problem: problem.into() }
    }

    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Error {
        Error::Tensor { name: name.to_owned(), problem: problem.into() }
    }

    pub(super) fn reading(path: &Path, source: io::Error) -> Error {
        Error::Io { doing: "read", path: path.to_owned(), source }
    }
}
