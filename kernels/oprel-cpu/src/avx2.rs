//! AVX2.
#![expect(unsafe_code, reason = "intrinsics")]
use crate::isa::Isa;
use crate::lanes::{LANES, Ops};
use crate::table::Kernels;
use half::f16;

/// Instructions of this tier; made only inside functions that have its features.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Ops(());

impl Avx2Ops {
    /// The operations, for code that runs with the tier's features.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(crate) fn new() -> Avx2Ops {
        Avx2Ops(())
    }
}

impl Ops for Avx2Ops {
    #[inline(always)]
    fn widen_f16(self, x: &[f16; LANES]) -> [f32; LANES] {
        use std::arch::x86_64::*;
        // SAFETY: an `Avx2Ops` is made only where AVX2 and F16C are there.
        unsafe {
            let x: __m128i = _mm_loadu_si128(x.as_ptr().cast());
            let mut y = [0.0; LANES];
            _mm256_storeu_ps(y.as_mut_ptr(), _mm256_cvtph_ps(x));
            y
        }
    }
}

pub(crate) fn kernels(_: Isa) -> &'static Kernels {
    &crate::scalar::KERNELS
}
