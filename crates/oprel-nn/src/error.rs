//! What can go wrong between a description and its logits.

/// Why a model could not be prepared, or a step could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor that the description needs is not in the file.
    #[error("the file has no tensor '{name}', which this architecture needs")]
    MissingTensor {
        /// GGUF name of the tensor.
        name: String,
    },
    /// A tensor is there, but of another shape.
    #[error("tensor '{name}' has shape {found:?}, expected {expected:?} (fastest dimension first)")]
    Shape {
        /// GGUF name of the tensor.
        name: String,
        /// Shape in the file, fastest dimension first.
        found: Vec<u64>,
        /// Shape that the metadata implies.
        expected: Vec<u64>,
    },
    /// The executor cannot do something that the description or the batch asks for.
    #[error("{executor} does not support {what} yet")]
    Unsupported {
        /// Which executor.
        executor: &'static str,
        /// What was asked, in the terms of the description.
        what: String,
    },
    /// The description contradicts itself or its weights.
    #[error("the model description is inconsistent: {0}")]
    Description(String),
    /// A batch breaks a rule of [`Batch`](crate::Batch) or exceeds the prepared limits.
    #[error("invalid batch: {0}")]
    Batch(String),
    /// The mapped file changed under us.
    #[error(transparent)]
    File(#[from] oprel_gguf::Error),
    /// A weight could not be dequantized.
    #[error(transparent)]
    Quant(#[from] oprel_quant::Error),
    /// The CPU kernels refused a matrix or a thread.
    #[error(transparent)]
    Kernel(oprel_cpu::Error),
    /// candle refused an operation.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// Memory for weights, state or scratch could not be had.
    #[error("{what} needs {bytes} bytes, more than can be allocated")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// How much.
        bytes: u64,
    },
    /// There is not enough memory for all threads.
    #[error(
        "only {started} of {asked} threads could be started: memory ran out, or the system allows no more"
    )]
    Threads {
        /// Threads that there are, the caller's among them.
        started: usize,
        /// Threads that were asked for.
        asked: usize,
    },
}

impl Error {
    /// Whether the model's file changed while it was in use.
    pub fn file_changed(&self) -> bool {
        matches!(self, Error::File(oprel_gguf::Error::Damaged { .. }))
    }

    /// Whether the model in the file is to blame: it lacks something, contradicts itself or needs what is not
    /// there.
    pub fn is_of_the_file(&self) -> bool {
        use Error::{Description, File, MissingTensor, Quant, Shape, Unsupported};
        matches!(
            self,
            MissingTensor { .. }
                | Shape { .. }
                | Unsupported { .. }
                | Description(_)
                | File(_)
                | Quant(_)
        )
    }
}

impl From<oprel_cpu::Error> for Error {
    fn from(error: oprel_cpu::Error) -> Error {
        match error {
            oprel_cpu::Error::Memory { started, asked } => Error::Threads { started, asked },
            error => Error::Kernel(error),
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
