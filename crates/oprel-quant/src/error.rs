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
    /// The importance is not one finite number, at least 0, for each column of whole rows.
    #[error(
        "{weights} weights in rows of {columns} columns cannot be weighted by {importance} numbers, of which each must be finite and not negative"
    )]
    Importance {
        /// How many weights there are.
        weights: usize,
        /// Weights of a row.
        columns: usize,
        /// Numbers of the importance.
        importance: usize,
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

    /// `Ok` if `weights` of `ty` are whole rows of `columns` that `importance` can weigh.
    pub(crate) fn check_importance(
        ty: QuantType,
        weights: usize,
        columns: usize,
        importance: Option<&[f32]>,
    ) -> Result<(), Error> {
        if columns > 0 && ty.row_bytes(columns).is_none() {
            return Error::check_length(ty, columns, 0);
        }
        let whole = if columns == 0 { weights == 0 } else { weights.is_multiple_of(columns) };
        let usable = |values: &[f32]| {
            values.len() == columns && values.iter().all(|v| v.is_finite() && *v >= 0.0)
        };
        if whole && importance.is_none_or(usable) {
            return Ok(());
        }
        Err(Error::Importance { weights, columns, importance: importance.map_or(0, <[f32]>::len) })
    }
}
