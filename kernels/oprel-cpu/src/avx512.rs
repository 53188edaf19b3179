//! Kernels for x86-64 with AVX-512 (F, BW, DQ, VL, VNNI), and BF16 where there is that too.
//!
//! Functions are compiled with those features, so intrinsics on values are safe in them; what is
//! unsafe is reading and writing memory, and entering from code without the features.
#![expect(unsafe_code, reason = "intrinsics, and calls of functions with target features")]

mod bf16;
mod blocks;
mod codebooks;
mod dots;
mod eights;
mod few;
mod fields;
mod fours;
mod gemm;
mod k_quants;
mod nonlinear;
mod numbers;
mod panel;
mod simple;
mod slices;
mod ternary;
mod turned;
mod whole;

use crate::act::{F32Acts, Q8Acts, Turn};
use crate::avx2::Avx2Ops;
use crate::blocks::entry;
use crate::isa::{Isa, Tier};
use crate::table::{
    BlockKernels, Few, Kernels, NumberKernels, Panel, PanelSize, Rows, TypeKernels, is_multiplied,
    is_whole,
};
use blocks::Block;
use numbers::Words;
use oprel_quant::QuantType;
use slices::Sliced;
use std::sync::OnceLock;

/// The kernels of this tier, or of the one with BF16.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    // Filled in by whoever comes first with an `Isa` of the tier, which is the proof that the
    // functions inside may be called.
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    static WITH_BF16: OnceLock<Kernels> = OnceLock::new();
    if isa.tier() == Tier::Avx512Bf16 {
        let of = |ty| match ty {
            QuantType::BF16 => Some(BF16_PAIRS),
            _ => kernels_of(ty),
        };
        return WITH_BF16.get_or_init(|| Kernels { isa, of, panel_size: panel_size_bf16 });
    }
    KERNELS.get_or_init(|| Kernels { isa, of: kernels_of, panel_size })
}

fn panel_size(ty: QuantType, k: usize) -> PanelSize {
    match ty.is_quantized() {
        true if is_whole(ty) => whole::size(ty, k),
        true => panel::size(ty, k),
        false => numbers::panel_size(k, 1),
    }
}

fn panel_size_bf16(ty: QuantType, k: usize) -> PanelSize {
    if ty == QuantType::BF16 { numbers::panel_size(k, 2) } else { panel_size(ty, k) }
}

/// When tokens that meet a type in blocks are few. (As measured; `benches/` has the kernels by type.)
pub(crate) fn few(ty: QuantType) -> Few {
    use QuantType::*;
    match ty {
        // Dear to unpack, or their sums are dear to take apart.
        Q4_0 | Q8_0 | Q4_K | Q5_K | Q6_K => Few { at_once: few::MOST, most: few::MOST },
        Q1_0 | TQ1_0 | IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S => {
            Few { at_once: 8, most: 8 }
        }
        _ => Few { at_once: 8, most: 16 },
    }
}

entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn dot<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = dots::dot::<B>(rows, acts.row(0), out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = dots::dot_n::<B>(rows, acts, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn few_tokens<B: Sliced>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = few::few::<B>(rows, acts, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn unpack_panel<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>)
    = panel::unpack::<B>(rows, panel));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn gemm<B: Block>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = gemm::gemm::<B>(panel, acts, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn dot_whole<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = whole::dot::<B>(rows, acts, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn dot_n_whole<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = whole::dot_n::<B>(rows, acts, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn unpack_whole<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>)
    = whole::unpack::<B>(rows, panel));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn gemm_whole<B: Block>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = whole::gemm::<B>(panel, acts, out));
// One token or a few with numbers: as with AVX2.
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn dot_numbers(rows: Rows<'_>, x: &[f32], out: &mut [f32])
    = crate::numbers::dot(Avx2Ops::new(), rows, x, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn dot_n_numbers(rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32])
    = crate::numbers::dot_n(Avx2Ops::new(), rows, acts, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn unpack_numbers<W: Words>(rows: Rows<'_>, panel: &mut Panel<'_>)
    = numbers::unpack::<W>(rows, panel));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn gemm_numbers<W: Words>(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32])
    = numbers::gemm::<W>(panel, acts, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni",
    fn turn<W: Words>(x: &[f32], words: &mut [u32])
    = numbers::turn::<W>(x, words));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16",
    fn dot_bf16(rows: Rows<'_>, x: &[f32], out: &mut [f32])
    = bf16::dot(rows, x, out));
entry!("avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16",
    fn dot_n_bf16(rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32])
    = bf16::dot_n(rows, acts, out));

/// BF16 weights by pairs.
const BF16_PAIRS: TypeKernels = TypeKernels::Number(NumberKernels {
    dot: dot_bf16,
    dot_n: dot_n_bf16,
    unpack_panel: unpack_numbers::<bf16::Pairs>,
    gemm: gemm_numbers::<bf16::Pairs>,
    turn: Some(Turn { elements: 2, run: turn::<bf16::Pairs> }),
});

fn number_kernels<W: Words>() -> TypeKernels {
    TypeKernels::Number(NumberKernels {
        dot: dot_numbers,
        dot_n: dot_n_numbers,
        unpack_panel: unpack_numbers::<W>,
        gemm: gemm_numbers::<W>,
        turn: Some(Turn { elements: 1, run: turn::<f32> }),
    })
}

fn block_kernels<B: Block>() -> TypeKernels {
    TypeKernels::Block(BlockKernels {
        dot: dot::<B>,
        dot_n: dot_n::<B>,
        unpack_panel: unpack_panel::<B>,
        gemm: gemm::<B>,
    })
}

/// The same with slices for a few tokens.
fn sliced_kernels<B: Sliced>() -> TypeKernels {
    TypeKernels::Block(BlockKernels {
        dot: dot::<B>,
        dot_n: |rows, acts, out| match acts.n() < B::FROM {
            true => dot_n::<B>(rows, acts, out),
            false => few_tokens::<B>(rows, acts, out),
        },
        unpack_panel: unpack_panel::<B>,
        gemm: gemm::<B>,
    })
}

/// Kernels of a type whose blocks are 256 weights with integer scales.
fn whole_kernels<B: Block>() -> TypeKernels {
    TypeKernels::Block(BlockKernels {
        dot: dot_whole::<B>,
        dot_n: dot_n_whole::<B>,
        unpack_panel: unpack_whole::<B>,
        gemm: gemm_whole::<B>,
    })
}

/// The same with slices for a few tokens.
fn whole_sliced_kernels<B: Sliced>() -> TypeKernels {
    TypeKernels::Block(BlockKernels {
        dot: dot_whole::<B>,
        dot_n: |rows, acts, out| match acts.n() < B::FROM {
            true => dot_n_whole::<B>(rows, acts, out),
            false => few_tokens::<B>(rows, acts, out),
        },
        unpack_panel: unpack_whole::<B>,
        gemm: gemm_whole::<B>,
    })
}

fn kernels_of(ty: QuantType) -> Option<TypeKernels> {
    use QuantType::*;
    if !is_multiplied(ty) {
        return None;
    }
    Some(match ty {
        Q4_0 => sliced_kernels::<simple::Q4_0>(),
        Q4_1 => block_kernels::<simple::Q4_1>(),
        Q5_0 => block_kernels::<simple::Q5_0>(),
        Q5_1 => block_kernels::<simple::Q5_1>(),
        Q8_0 => sliced_kernels::<simple::Q8_0>(),
        Q1_0 => block_kernels::<ternary::Q1_0>(),
        Q2_K => whole_kernels::<k_quants::Q2K>(),
        Q3_K => whole_kernels::<k_quants::Q3K>(),
        Q4_K => whole_sliced_kernels::<k_quants::Q4K>(),
        Q5_K => whole_sliced_kernels::<k_quants::Q5K>(),
        Q6_K => whole_sliced_kernels::<k_quants::Q6K>(),
        TQ2_0 => block_kernels::<ternary::Tq2>(),
        IQ4_NL => block_kernels::<nonlinear::Iq4Nl>(),
        IQ4_XS => whole_kernels::<nonlinear::Iq4Xs>(),
        MXFP4 => block_kernels::<nonlinear::Mxfp4>(),
        NVFP4 => block_kernels::<nonlinear::Nvfp4>(),
        IQ1_S => block_kernels::<codebooks::Iq1S>(),
        IQ1_M => block_kernels::<codebooks::Iq1M>(),
        IQ2_XXS => block_kernels::<codebooks::Iq2Xxs>(),
        IQ2_XS => block_kernels::<codebooks::Iq2Xs>(),
        IQ2_S => block_kernels::<codebooks::Iq2S>(),
        IQ3_XXS => block_kernels::<codebooks::Iq3Xxs>(),
        IQ3_S => block_kernels::<codebooks::Iq3S>(),
        TQ1_0 => block_kernels::<ternary::Tq1>(),
        F32 => number_kernels::<f32>(),
        F16 => number_kernels::<half::f16>(),
        BF16 => number_kernels::<half::bf16>(),
        _ => return None,
    })
}
