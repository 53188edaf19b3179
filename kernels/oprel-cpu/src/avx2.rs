//! Kernels for x86-64 with AVX2, FMA and F16C.
//!
//! [`Avx2Ops`] is made only inside functions compiled with those features; whoever is handed one
//! may use them, and inlined code in the files below is handed one.
#![expect(unsafe_code, reason = "intrinsics, and calls of functions with target features")]

mod blocks;
mod k_quants;
mod lookup;
mod nonlinear;
mod numbers;
mod products;
mod simple;

use crate::act::{ActRow, F32Acts, Q8Acts};
use crate::isa::Isa;
use crate::lanes::{LANES, Ops};
use crate::table::{BlockKernels, Kernels, NumberKernels, Panel, Rows, TypeKernels, is_multiplied};
use half::f16;
use oprel_quant::QuantType;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Proof that the CPU has this tier's features; made only in functions compiled for them.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Ops(());

impl Avx2Ops {
    /// The proof, where it is one.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(crate) fn new() -> Avx2Ops {
        Avx2Ops(())
    }
}

impl Ops for Avx2Ops {
    #[inline(always)]
    fn widen_f16(self, x: &[f16; LANES]) -> [f32; LANES] {
        // SAFETY: `self` proves the features; 16 bytes are read and 32 written in arrays.
        unsafe {
            let wide = _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast()));
            let mut y = [0.0; LANES];
            _mm256_storeu_ps(y.as_mut_ptr(), wide);
            y
        }
    }
}

/// The kernels of this tier.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    // Filled in by whoever comes first with an `Isa` of this tier, which is the proof that the
    // functions inside may be called.
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| Kernels { isa, of: kernels_of, gemm_q8, gemm_f32 })
}

/// A safe function of the table around one compiled with the tier's features.
macro_rules! entry {
    ($(#[$meta:meta])* fn $name:ident$(<$block:ident>)?($($arg:ident: $ty:ty),*) = $body:path) => {
        $(#[$meta])*
        fn $name$(<$block: blocks::Block>)?($($arg: $ty),*) {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn with_features$(<$block: blocks::Block>)?($($arg: $ty),*) {
                $body($($arg),*);
            }
            // SAFETY: this function is reached through the table that `kernels` gives only for
            // an `Isa` of this tier, which exists only where the CPU has the features.
            unsafe { with_features$(::<$block>)?($($arg),*) }
        }
    };
}

entry!(fn dot<B>(rows: Rows<'_>, act: ActRow<'_>, out: &mut [f32]) = products::dot::<B>);
entry!(fn dot_n<B>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) = products::dot_n::<B>);
entry!(fn unpack_panel<B>(rows: Rows<'_>, panel: &mut Panel<'_>) = products::unpack_panel::<B>);
entry!(fn gemm_q8(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) = products::gemm_q8);
entry!(fn dot_numbers(rows: Rows<'_>, x: &[f32], out: &mut [f32]) = numbers::dot);
entry!(fn widen(rows: Rows<'_>, out: &mut [f32]) = numbers::widen);
entry!(fn gemm_f32(w: &[f32], acts: F32Acts<'_>, out: &mut [f32]) = numbers::gemm_f32);

fn block_kernels<B: blocks::Block>() -> TypeKernels {
    TypeKernels::Block(BlockKernels {
        dot: dot::<B>,
        dot_n: dot_n::<B>,
        unpack_panel: unpack_panel::<B>,
    })
}

fn kernels_of(ty: QuantType) -> Option<TypeKernels> {
    use QuantType::*;
    if !is_multiplied(ty) {
        return None;
    }
    Some(match ty {
        Q4_0 => block_kernels::<simple::Q4_0>(),
        Q4_1 => block_kernels::<simple::Q4_1>(),
        Q5_0 => block_kernels::<simple::Q5_0>(),
        Q5_1 => block_kernels::<simple::Q5_1>(),
        Q8_0 => block_kernels::<simple::Q8_0>(),
        Q1_0 => block_kernels::<simple::Q1_0>(),
        Q2_K => block_kernels::<k_quants::Q2K>(),
        Q3_K => block_kernels::<k_quants::Q3K>(),
        Q4_K => block_kernels::<k_quants::Q4K>(),
        Q5_K => block_kernels::<k_quants::Q5K>(),
        Q6_K => block_kernels::<k_quants::Q6K>(),
        TQ2_0 => block_kernels::<k_quants::Tq2>(),
        IQ4_NL => block_kernels::<nonlinear::Iq4Nl>(),
        IQ4_XS => block_kernels::<nonlinear::Iq4Xs>(),
        MXFP4 => block_kernels::<nonlinear::Mxfp4>(),
        NVFP4 => block_kernels::<nonlinear::Nvfp4>(),
        IQ1_S => block_kernels::<lookup::Iq1S>(),
        IQ1_M => block_kernels::<lookup::Iq1M>(),
        IQ2_XXS => block_kernels::<lookup::Iq2Xxs>(),
        IQ2_XS => block_kernels::<lookup::Iq2Xs>(),
        IQ2_S => block_kernels::<lookup::Iq2S>(),
        IQ3_XXS => block_kernels::<lookup::Iq3Xxs>(),
        IQ3_S => block_kernels::<lookup::Iq3S>(),
        TQ1_0 => block_kernels::<lookup::Tq1>(),
        _ => TypeKernels::Number(NumberKernels { dot: dot_numbers, widen }),
    })
}
