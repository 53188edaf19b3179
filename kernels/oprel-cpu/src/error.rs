//! What can be wrong before a kernel runs; kernels themselves do not fail.

use oprel_quant::QuantType;

/// Why a kernel, a matrix or a pool could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No instruction set is called so.
    #[error("there is no instruction set called {name:?}; known are {known}")]
    UnknownIsa {
        /// What was asked for.
        name: String,
        /// The names that mean something, separated by commas.
        known: String,
    },
    /// The instruction set exists, but this CPU lacks it.
    #[error("this CPU does not have {name}")]
    IsaMissing {
        /// The instruction set asked for.
        name: &'static str,
    },
    /// Keys and values are not stored in any type of this name.
    #[error("there is no type of keys and values called {name:?}; known are {known}")]
    UnknownKvType {
        /// What was asked for.
        name: String,
        /// The names that mean something, separated by commas.
        known: String,
    },
    /// Weights of this type cannot be multiplied.
    #[error("weights stored as {ty} cannot be multiplied")]
    Type {
        /// The type.
        ty: QuantType,
    },
    /// A matrix's bytes do not fit its shape.
    #[error("{rows} x {cols} weights of {ty} do not take {bytes} bytes")]
    Matrix {
        /// How the weights are stored.
        ty: QuantType,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// The bytes given.
        bytes: usize,
    },
    /// A token id beyond the rows of the embedding matrix.
    #[error("token {id} is beyond the {rows} rows of the embedding")]
    Token {
        /// The token id.
        id: u32,
        /// Rows of the embedding matrix.
        rows: usize,
    },
    /// More threads than a pool may have.
    #[error("{asked} threads cannot work together; it must be from 1 to {most}", most = crate::pool::MOST_THREADS)]
    Threads {
        /// Threads that were asked for.
        asked: usize,
    },
    /// There is not enough memory for all threads of the pool, or the system allows no more.
    #[error(
        "only {started} of {asked} threads could be started: memory ran out, or the system allows no more"
    )]
    Memory {
        /// Threads that there are, the caller's among them.
        started: usize,
        /// Threads that were asked for.
        asked: usize,
    },
    /// The system refused to start a thread.
    #[error("cannot start a thread of the pool: {0}")]
    Thread(#[source] std::io::Error),
}
