//! f32 to stored weights: the quantizers of `oprel-quant`, those that search in the instructions of a tier.
//!
//! All tiers give the same bytes.

use crate::lanes::tiers;
use oprel_quant::{Error, QuantType, quantize_iq, quantize_k};

/// [`oprel_quant::quantize_weighted`] in the tier of `isa`.
///
/// # Errors
/// As there.
pub fn quantize_weighted(
    isa: crate::Isa,
    ty: QuantType,
    src: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    use QuantType::*;
    match ty {
        Q2_K | Q3_K | Q4_K | Q5_K | Q6_K => k_of_tier(isa, ty, src, columns, importance, dst),
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_NL | IQ4_XS => {
            iq_of_tier(isa, ty, src, columns, importance, dst)
        }
        _ => oprel_quant::quantize_weighted(ty, src, columns, importance, dst),
    }
}

tiers! {
    fn k_of_tier(
        ty: QuantType,
        src: &[f32],
        columns: usize,
        importance: Option<&[f32]>,
        dst: &mut [u8],
    ) -> Result<(), Error> = quantize_k;
    fn iq_of_tier(
        ty: QuantType,
        src: &[f32],
        columns: usize,
        importance: Option<&[f32]>,
        dst: &mut [u8],
    ) -> Result<(), Error> = quantize_iq;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::matmul::tests::numbers;

    #[test]
    fn every_tier_gives_the_same_bytes() {
        let (x, mut importance) = (numbers(1, 2 * 512), numbers(2, 512));
        importance.iter_mut().for_each(|w| *w *= *w);
        use QuantType::*;
        let k_types = [Q2_K, Q3_K, Q4_K, Q5_K, Q6_K];
        let iq_types =
            [IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS, MXFP4, TQ1_0];
        for ty in k_types.into_iter().chain(iq_types) {
            for importance in [None, Some(&importance[..])] {
                let mut expected = vec![0; ty.row_bytes(x.len()).unwrap()];
                oprel_quant::quantize_weighted(ty, &x, 512, importance, &mut expected).unwrap();
                for isa in Isa::supported() {
                    let mut bytes = vec![0; expected.len()];
                    quantize_weighted(isa, ty, &x, 512, importance, &mut bytes).unwrap();
                    assert_eq!(bytes, expected, "{ty} {isa}");
                }
            }
        }
    }
}
