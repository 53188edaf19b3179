//! Why a file could not be described.

/// Why a file could not be described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No description for this architecture.
    #[error("architecture '{name}' is not supported; supported are: {}", supported.join(", "))]
    Architecture {
        /// What the file says.
        name: String,
        /// What could be run instead.
        supported: Vec<&'static str>,
    },
    /// This architecture is described, but no executor runs it yet.
    #[error(
        "architecture '{name}' is not supported yet: it needs {needs}; supported are: {}",
        supported.join(", ")
    )]
    Pending {
        /// What the file says.
        name: String,
        /// What cannot be run.
        needs: &'static str,
        /// What could be run instead.
        supported: Vec<&'static str>,
    },
    /// A metadata key that this architecture needs is missing.
    #[error("the file has no metadata key '{key}', which this architecture needs")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata value makes no model.
    #[error("metadata key '{key}' is {value}: {why}")]
    Value {
        /// The key.
        key: String,
        /// What it says.
        value: String,
        /// What it should say.
        why: &'static str,
    },
    /// A switch of this architecture that is not described yet.
    #[error("this '{architecture}' file needs {what}, which is not supported yet")]
    Unsupported {
        /// The architecture.
        architecture: String,
        /// What it needs.
        what: &'static str,
    },
    /// Metadata of a wrong type, or a damaged file.
    #[error(transparent)]
    File(#[from] oprel_gguf::Error),
    /// A tensor is missing or has a wrong shape.
    #[error(transparent)]
    Nn(#[from] oprel_nn::Error),
}

impl Error {
    /// What the user may do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Error::Architecture { .. } | Error::Pending { .. } | Error::Unsupported { .. } => {
                "llama.cpp's server may know it: `oprel backend install` fetches that, and `oprel serve` uses it"
            }
            Error::File(error) => error.hint(),
            _ => "`oprel show` tells what is in the file",
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
