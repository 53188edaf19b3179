//! Why a model could not be loaded or a request could not be taken.

use oprel_api::{Cause, ErrorKind, Failure};
use oprel_engine::fit::TooLarge;

/// Why a model could not be loaded or a request could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such file.
    #[error("no model file at '{path}'")]
    NoFile {
        /// Where it was looked for.
        path: String,
    },
    /// The file is no usable GGUF.
    #[error(transparent)]
    File(#[from] oprel_gguf::Error),
    /// The model in the file could not be described.
    #[error(transparent)]
    Model(#[from] oprel_models::Error),
    /// Its vocabulary cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] oprel_tokenizer::Error),
    /// Its chat template cannot be used, or refuses the messages.
    #[error("the chat template failed: {0}")]
    Template(#[from] oprel_chat::Error),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] oprel_engine::Error),
    /// The request is wrong whatever the model.
    #[error(transparent)]
    Request(#[from] oprel_api::Error),
    /// A field that this backend cannot honour.
    #[error("{field} is not supported by this backend yet")]
    Unsupported {
        /// The field, as a user writes it.
        field: &'static str,
    },
    /// The constraint is wrong, or cannot be kept with this model.
    #[error("constraint: {0}")]
    Constraint(#[from] oprel_constraint::Error),
    /// The request asks for what the model's chat template cannot say.
    #[error("{field}: the model's chat template has no place for it")]
    Incapable {
        /// The field, as a user writes it.
        field: &'static str,
    },
    /// Text or vectors were asked of a model that ranks.
    #[error("this model ranks documents, it makes no text and no embeddings")]
    OnlyRanks,
    /// Of a text that is to be cut nothing would be left.
    #[error(
        "input after truncation exceeds maximum context length: {context} tokens leave no room for text"
    )]
    NoRoom {
        /// Most tokens of an input.
        context: usize,
    },
    /// A ranking was asked of a model that cannot give one.
    #[error("this model has no ranking head")]
    NeverRanks,
    /// The model thinks, but does not mark where that ends in a way that is known.
    #[error("{field}: how this model marks its thinking is not known")]
    Unmarked {
        /// The field, as a user writes it.
        field: &'static str,
    },
    /// An option of loading makes no sense.
    #[error("{option} is {value}: {why}")]
    Option {
        /// The option, as a user writes it.
        option: &'static str,
        /// What it was set to.
        value: String,
        /// What it should be.
        why: String,
    },
    /// It does not fit into memory as it was asked for.
    #[error("{0}")]
    TooLarge(Box<TooLarge>),
    /// The engine failed in the middle.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// The engine's thread is gone.
    #[error("the engine stopped: {why}")]
    Stopped {
        /// What is known of it.
        why: String,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let message = error.to_string();
        let failure = |kind, hint: &str| Failure {
            hint: (!hint.is_empty()).then(|| hint.to_string()),
            ..Failure::new(kind, message.clone())
        };
        match error {
            Error::NoFile { .. } => failure(
                ErrorKind::ModelNotFound,
                "give the path of a GGUF file, or `demo` for the built-in model",
            ),
            Error::File(error) => {
                let failed = failure(ErrorKind::Backend, error.hint());
                match error {
                    oprel_gguf::Error::Io { source, .. } if !is_of_the_file(&source) => failed,
                    _ => failed.because(Cause::Unusable),
                }
            }
            Error::Model(error) => {
                failure(ErrorKind::Backend, error.hint()).because(Cause::Unusable)
            }
            Error::Tokenizer(_) => {
                failure(ErrorKind::Backend, "`oprel show` tells what is in the file")
                    .because(Cause::Unusable)
            }
            Error::NoRoom { .. } => failure(ErrorKind::Validation, "raise num_ctx"),
            Error::OnlyRanks => failure(ErrorKind::Validation, "use `oprel rerank` with it"),
            Error::NeverRanks => failure(
                ErrorKind::Validation,
                "a reranker has `pooling_type` 4 and a `cls.output` in its file",
            ),
            Error::Template(_) => failure(ErrorKind::Validation, "--raw goes without the template"),
            Error::Unsupported { field } => {
                failure(ErrorKind::Validation, "").because(Cause::Unsupported(field.into()))
            }
            Error::Incapable { field } => {
                failure(ErrorKind::Validation, "").because(Cause::Incapable(field.into()))
            }
            Error::Unmarked { field } => {
                failure(ErrorKind::Validation, "").because(Cause::Unsupported(field.into()))
            }
            Error::Request(_) | Error::Option { .. } => failure(ErrorKind::Validation, ""),
            Error::Constraint(error) if error.is_invalid() => failure(ErrorKind::Validation, ""),
            Error::Constraint(_) => failure(ErrorKind::Backend, ""),
            Error::TooLarge(refused) => failure(ErrorKind::Memory, &refused.hint()),
            Error::Engine(error) => Failure::from(error),
            Error::Failed(failure) => failure,
            Error::Stopped { .. } => failure(ErrorKind::Backend, "load the model again"),
        }
    }
}

/// Whether the system refuses this file, and not files as such.
fn is_of_the_file(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, IsADirectory, PermissionDenied, Unsupported};
    /// What cannot be mapped: a device, a file of the system's own.
    const ENODEV: i32 = 19;
    matches!(error.kind(), PermissionDenied | Unsupported | InvalidInput | IsADirectory)
        || error.raw_os_error() == Some(ENODEV)
}
