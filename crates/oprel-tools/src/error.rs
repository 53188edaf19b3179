//! What can go wrong with files, in the user's terms, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use oprel_api::{ErrorKind, Failure};
use oprel_cpu::pool::MOST_THREADS;
use oprel_gguf::QuantType;

/// Why a file could not be made, measured or planned for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model cannot be read or written.
    #[error(transparent)]
    Gguf(#[from] oprel_gguf::Error),
    /// The model in a file is none that can be described.
    #[error(transparent)]
    Model(#[from] oprel_models::Error),
    /// A vocabulary cannot be read.
    #[error(transparent)]
    Vocabulary(#[from] oprel_tokenizer::Error),
    /// A model cannot be run.
    #[error(transparent)]
    Run(#[from] oprel_nn::Error),
    /// A model does not suit the engine.
    #[error(transparent)]
    Engine(#[from] oprel_engine::Error),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// No file type of this name.
    #[error("there is no file type called {name:?}")]
    UnknownFileType {
        /// What was asked for.
        name: String,
    },
    /// The input and the output are one file.
    #[error("{} would replace the model that it is made from", path.display())]
    Same {
        /// The file.
        path: PathBuf,
    },
    /// The disk has not enough room.
    #[error(
        "{} takes {} MB, and its disk has {} MB", path.display(), needed_bytes.div_ceil(1_000_000),
        free_bytes / 1_000_000
    )]
    Space {
        /// The file to be written.
        path: PathBuf,
        /// What it takes.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// Weights that are quantized already would be quantized again.
    #[error(
        "{tensor} is stored as {ty}, and quantizing it again to {to} loses more than quantizing the original"
    )]
    Requantize {
        /// The tensor.
        tensor: String,
        /// How it is stored.
        ty: QuantType,
        /// What it would become.
        to: QuantType,
    },
    /// A tensor of this type is not converted.
    #[error("{tensor} is stored as {ty}, which is not converted")]
    Unconvertible {
        /// The tensor.
        tensor: String,
        /// How it is stored.
        ty: QuantType,
    },
    /// A weight is NaN or infinite.
    #[error("{tensor} has a weight that is no finite number")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// The importance matrix belongs to another model.
    #[error(
        "the importance of {tensor} has {found} numbers, its columns and experts are {expected}"
    )]
    ImportanceSize {
        /// The tensor.
        tensor: String,
        /// Numbers there are.
        found: usize,
        /// Numbers there should be.
        expected: usize,
    },
    /// An importance matrix that is malformed.
    #[error("{} is no importance matrix: {problem}", path.display())]
    Imatrix {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No mix is this small.
    #[error("the smallest mix takes {least_bytes} bytes, more than {target_bytes}")]
    TargetTooSmall {
        /// What the smallest takes.
        least_bytes: u64,
        /// What was asked for.
        target_bytes: u64,
    },
    /// A tensor's type that was asked for by pattern does not fit its shape.
    #[error("{tensor} has rows of {columns} weights, which cannot be stored as {ty}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Weights of a row.
        columns: u64,
        /// The type.
        ty: QuantType,
    },
    /// No work is shared by so many threads.
    #[error("threads is {threads}: must be from {least} to {MOST_THREADS}")]
    ThreadCount {
        /// What was asked for.
        threads: usize,
        /// The fewest.
        least: usize,
    },
    /// Something asked for that cannot be.
    #[error("{0}")]
    Request(&'static str),
    /// A metadata key that is not there, or may not be changed.
    #[error("{key}: {problem}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The text has too few tokens.
    #[error("the text has {found} tokens, and {needed} are needed for a context of {context}")]
    Short {
        /// Tokens of the text.
        found: usize,
        /// Tokens that are needed.
        needed: usize,
        /// Tokens of a window.
        context: u32,
    },
    /// No context of this length.
    #[error("a context of {context} tokens is not possible: it must be from 8 to {most}")]
    Context {
        /// What was asked for.
        context: u32,
        /// What the model was made for.
        most: u32,
    },
    /// An embedder has no next token to be measured by.
    #[error(
        "this model makes vectors of texts; perplexity and importance are measured on models that generate"
    )]
    NotCausal,
    /// A base file is of another model or text, or no such file.
    #[error("{} cannot be the base: {problem}", path.display())]
    Base {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The model gave something that is no number.
    #[error(
        "the model's output is not finite at token {at}: the file is damaged, or its weights overflow"
    )]
    Overflow {
        /// Which token of the text.
        at: usize,
    },
    /// There is no folder where one is named.
    #[error("there is no folder {}", path.display())]
    NoFolder {
        /// What is named.
        path: PathBuf,
    },
    /// A folder lacks a file that a model needs.
    #[error("{} has no {file}", folder.display())]
    MissingFile {
        /// Where it was looked for.
        folder: PathBuf,
        /// What is missing.
        file: &'static str,
        /// What to do.
        hint: &'static str,
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
    /// The vocabulary of a folder cannot be taken over.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The file.
        file: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// `config.json` and the tensors contradict each other, so that what was made is no model.
    #[error("config.json and the tensors of this folder do not fit each other: {0}")]
    NoModel(oprel_models::Error),
    /// What was made of the vocabulary cannot be read.
    #[error("the vocabulary of this folder makes none: {0}")]
    NoVocabulary(oprel_tokenizer::Error),
    /// There is nothing to choose from.
    #[error("no file was given to choose from")]
    Nothing,
    /// Threads could not be started.
    #[error(transparent)]
    Threads(#[from] oprel_cpu::Error),
    /// The caller asked to stop.
    #[error("stopped; nothing was changed")]
    Stopped,
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What to do next, if there is something to say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Gguf(error) => error.hint().into(),
            Error::Model(error) => error.hint().into(),
            Error::UnknownFileType { .. } => {
                let names: Vec<_> = crate::quantize::FileType::all().map(|ty| ty.name()).collect();
                format!("known are {}", names.join(", "))
            }
            Error::Same { .. } => "write to another name, then move it".into(),
            Error::Space { .. } => "free some space, or write to another disk".into(),
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, or write to another disk".into()
            }
            Error::Io { .. } => "check the path and its permissions".into(),
            Error::Requantize { .. } => {
                "start from the F32, F16 or BF16 model, or allow it (--allow-requantize)".into()
            }
            Error::NotFinite { .. } => {
                "the model is damaged: fetch or convert it again, and compare its digest".into()
            }
            Error::ImportanceSize { .. } => {
                "collect the importance matrix from this model (oprel imatrix)".into()
            }
            Error::TargetTooSmall { least_bytes, .. } => {
                format!("ask for at least {least_bytes} bytes, or take a smaller model")
            }
            Error::Short { .. } => "take a longer text, or a shorter context".into(),
            Error::Base { .. } => {
                "make it anew with the unquantized model, the same text and the same context".into()
            }
            Error::NoFolder { .. } => "name the folder of a Hugging Face model".into(),
            Error::MissingFile { hint, .. } => (*hint).into(),
            Error::Architecture { supported, .. } => format!(
                "architectures that can be converted: {}; many others are published as GGUF",
                supported.join(", ")
            ),
            Error::Packed { .. } => {
                "convert the model that it was made from (its page names it as base model), then `oprel quantize` the GGUF file"
                    .into()
            }
            Error::Safetensors { .. } | Error::Json { .. } => {
                "download the file again: it is damaged or incomplete".into()
            }
            _ => return None,
        })
    }

    /// Whether the system or the program failed, and not what it was given.
    fn is_of_this_machine(&self) -> bool {
        use oprel_gguf::Error::Io as FileIo;
        match self {
            Error::Gguf(FileIo { doing, .. }) => *doing == "write",
            Error::Threads(oprel_cpu::Error::Threads { .. }) => false,
            Error::Io { .. } | Error::Space { .. } | Error::Threads(_) => true,
            _ => false,
        }
    }

    pub(crate) fn config(key: &str, problem: impl Into<String>) -> Error {
        Error::Config { key: key.to_owned(), problem: problem.into() }
    }

    pub(crate) fn tensor(name: &str, problem: impl Into<String>) -> Error {
        Error::Tensor { name: name.to_owned(), problem: problem.into() }
    }

    /// A closure that says what was tried with a file.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }
}

/// Fails if work cannot be shared by so many threads.
pub(crate) fn check_threads(threads: usize, least: usize) -> Result<()> {
    match (least..=MOST_THREADS).contains(&threads) {
        true => Ok(()),
        false => Err(Error::ThreadCount { threads, least }),
    }
}

/// What every dialect and the command line can say of it.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let kind = match error.is_of_this_machine() {
            true => ErrorKind::Backend,
            false => ErrorKind::Validation,
        };
        Failure { hint: error.hint(), ..Failure::new(kind, error.to_string()) }
    }
}
