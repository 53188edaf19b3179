//! One block as integers and scales, whatever its type.

use crate::{Error, QuantType, fp4, grid, k_quants, nonlinear, simple, ternary};

/// Weights that share one scale in [`Unpacked`]; the finest any type has.
pub const RUN: usize = 16;

/// A block in its plain form: weight `i` is `scales[i / RUN] * codes[i]`, plus `mins[i / RUN]` if
/// the type [has minima](has_mins). Entries beyond the block's length are left as they were.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// Codes, one a weight.
    pub codes: [i8; 256],
    /// Scales, one for each [`RUN`] of weights.
    pub scales: [f32; 256 / RUN],
    /// Minima, one for each [`RUN`] of weights; meaningless for types without.
    pub mins: [f32; 256 / RUN],
}

impl Unpacked {
    /// All zero.
    pub const ZERO: Unpacked =
        Unpacked { codes: [0; 256], scales: [0.0; 256 / RUN], mins: [0.0; 256 / RUN] };

    /// One scale for the first `n` weights.
    pub(crate) fn fill_scales(&mut self, n: usize, scale: f32) {
        self.scales[..n / RUN].fill(scale);
    }

    /// One minimum for the first `n` weights.
    pub(crate) fn fill_mins(&mut self, n: usize, min: f32) {
        self.mins[..n / RUN].fill(min);
    }
}

/// Whether weights of this type are a scaled code plus a minimum, not a scaled code alone.
pub fn has_mins(ty: QuantType) -> bool {
    use QuantType::*;
    matches!(ty, Q4_1 | Q5_1 | Q2_K | Q4_K | Q5_K)
}

/// Unpacks one `block` of `ty`.
///
/// # Errors
/// [`Error::Length`] if `block` is not one block, [`Error::CannotDequantize`] if the type is not
/// stored in blocks or is one that only holds intermediate results.
pub fn unpack(ty: QuantType, block: &[u8], out: &mut Unpacked) -> Result<(), Error> {
    Error::check_length(ty, ty.block_len(), block.len())?;
    unpacker(ty).ok_or(Error::CannotDequantize { ty })?(block, out);
    Ok(())
}

/// The function that unpacks a whole block of `ty`; it may assume the block's length.
pub(crate) fn unpacker(ty: QuantType) -> Option<fn(&[u8], &mut Unpacked)> {
    use QuantType::*;
    Some(match ty {
        Q4_0 => simple::unpack_q4_0,
        Q4_1 => simple::unpack_q4_1,
        Q5_0 => simple::unpack_q5_0,
        Q5_1 => simple::unpack_q5_1,
        Q8_0 => simple::unpack_q8_0,
        Q1_0 => simple::unpack_q1_0,
        Q2_K => k_quants::unpack_q2_k,
        Q3_K => k_quants::unpack_q3_k,
        Q4_K => k_quants::unpack_q4_k,
        Q5_K => k_quants::unpack_q5_k,
        Q6_K => k_quants::unpack_q6_k,
        IQ1_S => grid::unpack_iq1_s,
        IQ1_M => grid::unpack_iq1_m,
        IQ2_XXS => grid::unpack_iq2_xxs,
        IQ2_XS => grid::unpack_iq2_xs,
        IQ2_S => grid::unpack_iq2_s,
        IQ3_XXS => grid::unpack_iq3_xxs,
        IQ3_S => grid::unpack_iq3_s,
        IQ4_NL => nonlinear::unpack_iq4_nl,
        IQ4_XS => nonlinear::unpack_iq4_xs,
        TQ1_0 => ternary::unpack_tq1_0,
        TQ2_0 => ternary::unpack_tq2_0,
        MXFP4 => fp4::unpack_mxfp4,
        NVFP4 => fp4::unpack_nvfp4,
        F32 | F16 | BF16 | F64 | I8 | I16 | I32 | I64 | Q8_1 | Q8_K => return None,
    })
}
