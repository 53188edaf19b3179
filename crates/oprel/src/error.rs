//! The five kinds of error that a caller can act on.

use oprel_api::{ErrorKind, Failure};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error, by what a caller can do about it. Each says what happened and, where there is something
/// to do, what.
///
/// # Examples
/// ```
/// let error = oprel::Model::load("no such file.gguf").unwrap_err();
/// assert_eq!(error.to_string(), "no model file at 'no such file.gguf'");
/// assert!(error.hint().is_some());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OprelError {
    /// The named model is not here.
    #[error("{message}")]
    ModelNotFound {
        /// What happened.
        message: String,
        /// What to do now.
        hint: Option<String>,
        /// Why.
        source: Option<Source>,
    },
    /// Fetching a model failed.
    #[error("{message}")]
    Download {
        /// What happened.
        message: String,
        /// What to do now.
        hint: Option<String>,
        /// Why.
        source: Option<Source>,
    },
    /// The engine, or the file that it runs, failed.
    #[error("{message}")]
    Backend {
        /// What happened.
        message: String,
        /// What to do now.
        hint: Option<String>,
        /// Why.
        source: Option<Source>,
    },
    /// There is not enough memory.
    #[error("{message}")]
    Memory {
        /// What happened.
        message: String,
        /// What to do now.
        hint: Option<String>,
        /// Why.
        source: Option<Source>,
    },
    /// The request or an option is wrong.
    #[error("{message}")]
    Validation {
        /// What happened.
        message: String,
        /// What to do now.
        hint: Option<String>,
        /// Why.
        source: Option<Source>,
    },
}

impl OprelError {
    /// What to do now, where there is something to do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            OprelError::ModelNotFound { hint, .. }
            | OprelError::Download { hint, .. }
            | OprelError::Backend { hint, .. }
            | OprelError::Memory { hint, .. }
            | OprelError::Validation { hint, .. } => hint.as_deref(),
        }
    }

    /// A wrong argument of a caller.
    pub fn validation(message: impl Into<String>) -> OprelError {
        OprelError::Validation { message: message.into(), hint: None, source: None }
    }

    fn of(failure: Failure, source: Option<Source>) -> OprelError {
        let Failure { kind, message, hint, .. } = failure;
        match kind {
            ErrorKind::ModelNotFound => OprelError::ModelNotFound { message, hint, source },
            ErrorKind::Download => OprelError::Download { message, hint, source },
            ErrorKind::Backend => OprelError::Backend { message, hint, source },
            ErrorKind::Memory => OprelError::Memory { message, hint, source },
            ErrorKind::Validation => OprelError::Validation { message, hint, source },
        }
    }
}

/// The failure of a stream.
impl From<Failure> for OprelError {
    fn from(failure: Failure) -> OprelError {
        OprelError::of(failure, None)
    }
}

/// Errors of what stands below, whose failures say all that they and their sources say.
macro_rules! of_failures {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for OprelError {
            fn from(error: $error) -> OprelError {
                OprelError::of(Failure::from(error), None)
            }
        }
    )*};
}

of_failures!(
    oprel_backend::Error,
    oprel_client::Error,
    oprel_hub::Error,
    oprel_hub::Trouble,
    oprel_hub::backends::Error,
    oprel_hub::fetch::Error,
);
