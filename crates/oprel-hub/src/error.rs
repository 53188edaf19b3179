//! What can go wrong between a name and the bytes of a model.

use std::io;
use std::path::{Path, PathBuf};

use oprel_api::{ErrorKind, Failure};

use crate::Digest;

/// What can go wrong with names, the store and Modelfiles.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Nothing says where the store is.
    #[error("there is no place for models: this user has no home")]
    NoHome,
    /// A text that can name no model.
    #[error("'{name}' is no name of a model")]
    Name {
        /// The text.
        name: String,
    },
    /// No store has a model of this name.
    #[error("model '{name}' not found")]
    NotFound {
        /// The name as it was asked for.
        name: String,
    },
    /// A manifest that cannot be understood.
    #[error("the manifest {} cannot be read: {why}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file that a manifest names is not there.
    #[error("{digest}, a file of '{name}', is not in the store")]
    Missing {
        /// The model.
        name: String,
        /// The file.
        digest: Digest,
    },
    /// A link in a store that leads out of it.
    #[error("{} leads out of the store", path.display())]
    Outside {
        /// The link.
        path: PathBuf,
    },
    /// Something other than a file stands where a file has to be.
    #[error("{} is no file", path.display())]
    NoFile {
        /// What stands there.
        path: PathBuf,
    },
    /// A text in a store that is longer than any can be.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// A part of a model that is no text or JSON of its kind.
    #[error("{what} of '{name}' cannot be read: {why}")]
    Part {
        /// The model.
        name: String,
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes that are not the ones that were asked for.
    #[error("digest mismatch, expected \"{expected}\", got \"{found}\"")]
    Mismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A store that is read in place was to be changed.
    #[error("{} is only read, never changed", root.display())]
    ReadOnly {
        /// The store.
        root: PathBuf,
    },
    /// Another process is changing the store and does not finish.
    #[error("{} is being changed by {holder}", root.display())]
    Busy {
        /// The store.
        root: PathBuf,
        /// Who changes it.
        holder: String,
    },
    /// A Modelfile that cannot be used.
    #[error(transparent)]
    Modelfile(#[from] crate::modelfile::Problem),
    /// A GGUF file of a store that cannot be read.
    #[error(transparent)]
    Gguf(#[from] oprel_gguf::Error),
    /// A file that a model was to be made of, and that is none.
    #[error(transparent)]
    NoModel(oprel_gguf::Error),
    /// A file of a kind that no model is made from.
    #[error("{}: {why}", path.display())]
    Source {
        /// The file or folder.
        path: PathBuf,
        /// Why nothing is made from it.
        why: String,
    },
    /// The chat template of a model that is being made is none.
    #[error(transparent)]
    Template(Failure),
    /// The weights of a model that is being made could not be stored as another type.
    #[error(transparent)]
    Quantize(Failure),
    /// The catalogue that a user wrote is wrong.
    #[error("the catalogue cannot be used: {why}")]
    Catalog {
        /// What is wrong with it.
        why: String,
    },
}

/// A result of this crate's store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the user may do about it.
    pub fn hint(&self) -> &str {
        match self {
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "give this user access to the folder, or set OPREL_MODELS to another one"
                }
                io::ErrorKind::StorageFull => "make room on the disk and try again",
                _ => "check the path and the disk",
            },
            Error::NoHome => "set OPREL_MODELS or OPREL_HOME to a folder",
            Error::Name { .. } => {
                "write it like llama3.2, llama3.2:1b or hf.co/user/repository:Q4_K_M"
            }
            Error::NotFound { .. } => {
                "`oprel list` shows what is here; `oprel pull` fetches a model"
            }
            Error::Manifest { .. } | Error::Missing { .. } | Error::Part { .. } => {
                "`oprel verify --remove` takes damaged files away; then pull or create the model again"
            }
            Error::Outside { .. } | Error::NoFile { .. } | Error::TooLarge { .. } => {
                "somebody put it there by hand; remove it, then pull the model again"
            }
            Error::Mismatch { .. } => "the bytes were damaged on their way; try again",
            Error::ReadOnly { .. } => {
                "copy the model first, or let the program that made it change it"
            }
            Error::Busy { .. } => "wait until it has finished, or end it",
            Error::Modelfile(problem) => problem.hint(),
            Error::Gguf(error) | Error::NoModel(error) => error.hint(),
            Error::Source { .. } => "name a GGUF file, a folder with one, or a model of the store",
            Error::Quantize(failure) | Error::Template(failure) => {
                failure.hint.as_deref().unwrap_or_default()
            }
            Error::Catalog { .. } => {
                "correct `aliases` in config.yaml: `mine: hf.co/user/repository:Q4_K_M`"
            }
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }
}

/// What every dialect and the command line can say of it.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if let Error::Quantize(failure) | Error::Template(failure) = error {
            return failure;
        }
        let kind = match &error {
            Error::NotFound { .. } => ErrorKind::ModelNotFound,
            Error::Name { .. }
            | Error::Modelfile(_)
            | Error::Source { .. }
            | Error::NoModel(_)
            | Error::Catalog { .. }
            | Error::Mismatch { .. }
            | Error::ReadOnly { .. } => ErrorKind::Validation,
            _ => ErrorKind::Backend,
        };
        let hint = Some(error.hint().to_owned());
        Failure { hint, ..Failure::new(kind, error.to_string()) }
    }
}
