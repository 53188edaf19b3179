//! Types whose codes come out of codebooks or base three: unpacked by the definition, one block at
//! a time, then multiplied as any other.

use super::blocks::{Block, Group};
use crate::act::lane;
use oprel_quant::{QuantType, RUN, Unpacked, unpack};
use std::arch::x86_64::*;

/// Group `g` of a block of 256 weights.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn group(ty: QuantType, block: &[u8], g: usize) -> Group {
    let mut parts = Unpacked::ZERO;
    let unpacked = unpack(ty, block, &mut parts);
    debug_assert!(unpacked.is_ok());
    let mut scales = [0.0; 8];
    for run in 0..8 {
        scales[lane(run)] = parts.scales[g * 8 + run];
    }
    let codes = &parts.codes[g * 8 * RUN..][..8 * RUN];
    // SAFETY: 32 bytes each are read from slices of 32.
    unsafe {
        let load = |b: usize| _mm256_loadu_si256(codes[b * 32..][..32].as_ptr().cast());
        Group {
            codes: [load(0), load(1), load(2), load(3)],
            scales: _mm256_loadu_ps(scales.as_ptr()),
            mins: _mm256_setzero_ps(),
        }
    }
}

macro_rules! looked_up {
    ($($name:ident $ty:ident $bytes:literal $small:literal),* $(,)?) => {$(
        pub(super) struct $name;

        impl Block for $name {
            const TY: QuantType = QuantType::$ty;
            const SPAN_BYTES: usize = $bytes;
            const GROUPS: usize = 2;
            const SMALL: bool = $small;

            #[target_feature(enable = "avx2,fma,f16c")]
#[inline]
            unsafe fn group(span: &[u8], g: usize) -> Group {
                group(Self::TY, span, g)
            }
        }
    )*};
}

looked_up! {
    Iq1S IQ1_S 50 true,
    Iq1M IQ1_M 56 true,
    Iq2Xxs IQ2_XXS 66 false,
    Iq2Xs IQ2_XS 74 false,
    Iq2S IQ2_S 82 false,
    Iq3Xxs IQ3_XXS 98 false,
    Iq3S IQ3_S 110 true,
    Tq1 TQ1_0 54 true,
}
