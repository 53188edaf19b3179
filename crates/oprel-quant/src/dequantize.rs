//! Stored weights to f32.

use crate::unpack::unpacker;
use crate::{Error, QuantType, RUN, Unpacked, has_mins};
use half::{bf16, f16};

/// Writes the weights that `src` holds as `ty` to `dst`, with the bits that ggml gives.
///
/// # Errors
/// [`Error::Length`] if `src` is not exactly the bytes of `dst.len()` weights,
/// [`Error::CannotDequantize`] for integer types, F64, Q8_1 and Q8_K.
///
/// # Examples
/// ```
/// use oprel_quant::{QuantType, dequantize};
/// let mut block = [1u8; 34];
/// block[..2].copy_from_slice(&[0, 0x38]); // the scale: 0.5 in half precision
/// let mut weights = [0.0; 32];
/// dequantize(QuantType::Q8_0, &block, &mut weights)?;
/// assert_eq!(weights, [0.5; 32]);
/// # Ok::<(), oprel_quant::Error>(())
/// ```
pub fn dequantize(ty: QuantType, src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
    Error::check_length(ty, dst.len(), src.len())?;
    match ty {
        QuantType::F32 => numbers(src, dst, f32::from_le_bytes),
        QuantType::F16 => numbers(src, dst, |b| f16::from_le_bytes(b).to_f32()),
        QuantType::BF16 => numbers(src, dst, |b| bf16::from_le_bytes(b).to_f32()),
        _ => blocks(ty, src, dst)?,
    }
    Ok(())
}

fn numbers<const N: usize>(src: &[u8], dst: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    for (y, bytes) in dst.iter_mut().zip(src.as_chunks().0) {
        *y = read(*bytes);
    }
}

fn blocks(ty: QuantType, src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
    let unpack = unpacker(ty).ok_or(Error::CannotDequantize { ty })?;
    let mut parts = Unpacked::ZERO;
    let stored = src.chunks_exact(ty.block_bytes());
    for (block, weights) in stored.zip(dst.chunks_exact_mut(ty.block_len())) {
        unpack(block, &mut parts);
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight = parts.scales[i / RUN] * f32::from(parts.codes[i]);
            if has_mins(ty) {
                *weight += parts.mins[i / RUN];
            }
        }
    }
    Ok(())
}
