//! What can be wrong with a request to convert weights.

use crate::QuantType;

/// Why weights could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The type is known but weights are not converted from it.
    #[error("weights stored as {ty} cannot be read as numbers")]
    CannotDequantize {
        /// The type asked for.
        ty: QuantType,
    },
    /// There is no quantizer for the type.
    #[error("there is no quantizer to {ty}")]
    CannotQuantize {
        /// The type asked for.
        ty: QuantType,
    },
    /// The number of weights is no whole number of blocks, or not what the bytes hold.
    #[error(
        "{weights} weights of {ty} do not fill {bytes} bytes ({block_len} weights are {block_bytes} bytes)"
    )]
    Length {
        /// The type.
        ty: QuantType,
        /// How many weights there are.
        weights: usize,
        /// How many bytes there are.
        bytes: usize,
        /// Weights of a block.
        block_len: usize,
        /// Bytes of a block.
        block_bytes: usize,
    },
}

impl Error {
    /// `Ok` if `weights` of `ty` take exactly `bytes`.
    pub(crate) fn check_length(ty: QuantType, weights: usize, bytes: usize) -> Result<(), Error> {
        if ty.row_bytes(weights) == Some(bytes) {
            return Ok(());
        }
        let (block_len, block_bytes) = (ty.block_len(), ty.block_bytes());
        Err(Error::Length { ty, weights, bytes, block_len, block_bytes })
    }
}
