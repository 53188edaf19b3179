//! Kernels for x86-64 with AVX-512 (F, BW, DQ, VL, VNNI).
//!
//! Functions are compiled with those features, so intrinsics on values are safe in them; what is
//! unsafe is reading and writing memory, and entering from code without the features.
#![expect(unsafe_code, reason = "intrinsics, and calls of functions with target features")]

mod blocks;
mod dots;
mod gemm;
mod k_quants;
mod panel;
mod simple;

use crate::act::{ActRow, Q8Acts};
use crate::avx2;
use crate::isa::Isa;
use crate::table::{BlockKernels, Kernels, Panel, Rows, TypeKernels, is_multiplied};
use blocks::{Block, Joined};
use oprel_quant::QuantType;
use std::sync::OnceLock;

/// The kernels of this tier.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    // Filled in by whoever comes first with an `Isa` of this tier, which is the proof that the
    // functions inside may be called.
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| Kernels {
        isa,
        of: kernels_of,
        panel_size: panel::size,
        ..avx2::table(isa)
    })
}

/// A safe function of the table around one compiled with the tier's features.
macro_rules! entry {
    (fn $name:ident<$block:ident>($($arg:ident: $ty:ty),*) = $body:path) => {
        fn $name<$block: Block>($($arg: $ty),*) {
            #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
            fn with_features<$block: Block>($($arg: $ty),*) {
                $body($($arg),*);
            }
            // SAFETY: this function is reached through the table that `kernels` gives only for
            // an `Isa` of this tier, which exists only where the CPU has the features.
            unsafe { with_features::<$block>($($arg),*) }
        }
    };
}

entry!(fn dot<B>(rows: Rows<'_>, act: ActRow<'_>, out: &mut [f32]) = dots::dot::<B>);
entry!(fn dot_n<B>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) = dots::dot_n::<B>);
entry!(fn unpack_panel<B>(rows: Rows<'_>, panel: &mut Panel<'_>) = panel::unpack::<B>);
entry!(fn gemm<B>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) = gemm::gemm::<B>);

fn block_kernels<B: Block>() -> TypeKernels {
    TypeKernels::Block(BlockKernels {
        dot: dot::<B>,
        dot_n: dot_n::<B>,
        unpack_panel: unpack_panel::<B>,
        gemm: gemm::<B>,
    })
}

fn kernels_of(ty: QuantType) -> Option<TypeKernels> {
    use QuantType::*;
    use avx2::{k_quants as avx2_k_quants, lookup, nonlinear, simple as avx2_simple};
    if !is_multiplied(ty) {
        return None;
    }
    Some(match ty {
        Q4_0 => block_kernels::<simple::Q4_0>(),
        Q4_1 => block_kernels::<simple::Q4_1>(),
        Q5_0 => block_kernels::<simple::Q5_0>(),
        Q5_1 => block_kernels::<simple::Q5_1>(),
        Q8_0 => block_kernels::<simple::Q8_0>(),
        Q1_0 => block_kernels::<Joined<avx2_simple::Q1_0>>(),
        Q2_K => block_kernels::<k_quants::Q2K>(),
        Q3_K => block_kernels::<k_quants::Q3K>(),
        Q4_K => block_kernels::<k_quants::Q4K>(),
        Q5_K => block_kernels::<k_quants::Q5K>(),
        Q6_K => block_kernels::<k_quants::Q6K>(),
        TQ2_0 => block_kernels::<Joined<avx2_k_quants::Tq2>>(),
        IQ4_NL => block_kernels::<Joined<nonlinear::Iq4Nl>>(),
        IQ4_XS => block_kernels::<Joined<nonlinear::Iq4Xs>>(),
        MXFP4 => block_kernels::<Joined<nonlinear::Mxfp4>>(),
        NVFP4 => block_kernels::<Joined<nonlinear::Nvfp4>>(),
        IQ1_S => block_kernels::<Joined<lookup::Iq1S>>(),
        IQ1_M => block_kernels::<Joined<lookup::Iq1M>>(),
        IQ2_XXS => block_kernels::<Joined<lookup::Iq2Xxs>>(),
        IQ2_XS => block_kernels::<Joined<lookup::Iq2Xs>>(),
        IQ2_S => block_kernels::<Joined<lookup::Iq2S>>(),
        IQ3_XXS => block_kernels::<Joined<lookup::Iq3Xxs>>(),
        IQ3_S => block_kernels::<Joined<lookup::Iq3S>>(),
        TQ1_0 => block_kernels::<Joined<lookup::Tq1>>(),
        _ => return avx2::kernels_of(ty),
    })
}
