//! Types whose blocks are 256 weights with small integer scales: what kernels sum in integers.

use crate::bytes::{f16_at, u16_at};
use crate::k_quants::{scale_min, scale_q3_k};
use crate::{Error, QuantType, RUN, Unpacked, unpack};

/// A block of 256 weights in integers: weight `i` is `d * scales[i / RUN] * codes[i]`, plus
/// `d_min * mins[i / RUN]` of types with minima.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Codes, one a weight.
    pub codes: [i8; 256],
    /// Scales, one for each [`RUN`] of weights.
    pub scales: [i8; 256 / RUN],
    /// Minima, likewise; zeros for types without.
    pub mins: [i8; 256 / RUN],
    /// What scales are multiplied by.
    pub d: f32,
    /// What minima are multiplied by.
    pub d_min: f32,
}

impl Whole {
    /// All zero.
    pub const ZERO: Whole =
        Whole { codes: [0; 256], scales: [0; 256 / RUN], mins: [0; 256 / RUN], d: 0.0, d_min: 0.0 };
}

/// Unpacks one `block` of `ty` in integers.
///
/// # Errors
/// [`Error::Length`] if `block` is not one block, [`Error::CannotDequantize`] if the type has no
/// such form.
pub fn unpack_whole(ty: QuantType, block: &[u8]) -> Result<Whole, Error> {
    use QuantType::*;
    let mut parts = Unpacked::ZERO;
    unpack(ty, block, &mut parts)?;
    let mut out = Whole { codes: parts.codes, ..Whole::ZERO };
    match ty {
        Q2_K => {
            for i in 0..16 {
                (out.scales[i], out.mins[i]) = ((block[i] & 15) as i8, (block[i] >> 4) as i8);
            }
            (out.d, out.d_min) = (f16_at(block, 80), -f16_at(block, 82));
        }
        Q3_K => {
            for i in 0..16 {
                out.scales[i] = scale_q3_k(&block[96..108], i) - 32;
            }
            out.d = f16_at(block, 108);
        }
        Q4_K | Q5_K => {
            for i in 0..16 {
                let (scale, min) = scale_min(&block[4..16], i / 2);
                (out.scales[i], out.mins[i]) = (scale as i8, min as i8);
            }
            (out.d, out.d_min) = (f16_at(block, 0), -f16_at(block, 2));
        }
        Q6_K => {
            for i in 0..16 {
                out.scales[i] = block[192 + i] as i8;
            }
            out.d = f16_at(block, 208);
        }
        IQ4_XS => {
            let (high, low) = (u16_at(block, 2), &block[4..8]);
            for i in 0..16 {
                let b = i / 2;
                let scale = low[b / 2] >> (b % 2 * 4) & 15 | ((high >> (2 * b) & 3) << 4) as u8;
                out.scales[i] = scale as i8 - 32;
            }
            out.d = f16_at(block, 0);
        }
        _ => return Err(Error::CannotDequantize { ty }),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dequantize;

    #[test]
    fn integers_stand_for_the_weights() {
        for ty in QuantType::all() {
            let block: Vec<u8> = (0..ty.block_bytes()).map(|i| (i * 151 % 120) as u8).collect();
            let Ok(whole) = unpack_whole(ty, &block) else { continue };
            let mut weights = [0.0; 256];
            dequantize(ty, &block, &mut weights).unwrap();
            for (i, weight) in weights.iter().enumerate() {
                let scale = whole.d * f32::from(whole.scales[i / RUN]);
                let min = whole.d_min * f32::from(whole.mins[i / RUN]);
                assert_eq!(scale * f32::from(whole.codes[i]) + min, *weight, "{ty} {i}");
            }
        }
    }
}
