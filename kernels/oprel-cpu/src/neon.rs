//! Kernels for aarch64 with NEON, and with its dot products (FEAT_DotProd) or matrix products
//! (FEAT_I8MM) of bytes where there are those: one code, over what a tier says of [`Fours`] and
//! [`Step`].
//!
//! Functions are compiled with those features, so intrinsics on values are safe in them; what is
//! unsafe is reading and writing memory, and entering from code without the features: at [`entry!`]
//! and in [`NeonOps`].
#![expect(unsafe_code, reason = "intrinsics, and calls of functions with target features")]

mod gemm;
mod panel;
mod quantize;
mod steps;
mod vectors;

use crate::act::{F32Acts, Q8Acts};
use crate::blocks::{Block, Make, dots, entry, intrinsics, kernels_by};
use crate::isa::{Isa, Tier};
use crate::lanes::{LANES, Ops};
use crate::numbers;
use crate::table::{BlockKernels, Kernels, NumberKernels, Panel, Rows, TypeKernels};
use gemm::{Shape, Shaped, WholeShape};
use half::{bf16, f16};
use oprel_quant::QuantType;
pub(crate) use panel::transpose;
use std::arch::aarch64::*;
use std::marker::PhantomData;
use std::sync::OnceLock;
use steps::{DotProd, Fours, I8mm, Plain, Step};
pub(crate) use steps::{add_products, prefetch, sdot, smmla};

/// Proof that the CPU has NEON, and that for which `F` stands; made only in functions compiled for
/// them.
#[derive(Clone, Copy)]
pub(crate) struct NeonOps<F = Plain>(F);

impl NeonOps {
    /// The proof, where it is one.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn new() -> NeonOps {
        NeonOps(Plain::new())
    }
}

/// Eight numbers.
type Eight = [float32x4_t; 2];

impl<F: Fours> Ops for NeonOps<F> {
    intrinsics! {
        fn load_f16(self, x: &[f16; LANES]) -> Eight {
            widen(vld1q_u16(x.as_ptr().cast()))
        }

        fn load_bf16(self, x: &[bf16; LANES]) -> Eight {
            widen_bf16(vld1q_u16(x.as_ptr().cast()))
        }

        fn fma(self, a: Eight, b: Eight, c: Eight) -> Eight {
            [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])]
        }

        fn exp(self, x: Eight) -> Eight {
            [exp(x[0]), exp(x[1])]
        }

        fn round_codes(self, x: &[f32; 32], inverse: f32, codes: &mut [i8; 32]) -> [i32; 2] {
            round_codes(x, inverse, codes)
        }

        fn magnitude(self, x: &[f32; 32]) -> f32 {
            magnitude(x)
        }
    }
}

/// Half-precision numbers as f32.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn widen(bits: uint16x8_t) -> Eight {
    let half = |bits: uint16x4_t| vcvt_f32_f16(vreinterpret_f16_u16(bits));
    [half(vget_low_u16(bits)), half(vget_high_u16(bits))]
}

/// bfloat16 numbers as f32.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn widen_bf16(bits: uint16x8_t) -> Eight {
    let (low, high) = (vshll_n_u16::<16>(vget_low_u16(bits)), vshll_high_n_u16::<16>(bits));
    [vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high)]
}

/// The larger of `a` and `b`; `b` where one is NaN, which the instruction for it would give.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

#[target_feature(enable = "neon")]
#[inline]
fn round_codes(x: &[f32; 32], inverse: f32, codes: &mut [i8; 32]) -> [i32; 2] {
    let mut sums = [0; 2];
    let (halves, _) = x.as_chunks::<16>();
    let (codes, _) = codes.as_chunks_mut::<16>();
    for half in 0..2 {
        let mut rounded = [vdupq_n_s32(0); 4];
        for (i, four) in halves[half].as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: reads an array of four.
            let v = unsafe { vld1q_f32(four.as_ptr()) };
            // To the nearest, ties to even; NaN gives 0, and what is too large the largest integer.
            let v = vcvtnq_s32_f32(vmulq_n_f32(v, inverse));
            rounded[i] = vmaxq_s32(vminq_s32(v, vdupq_n_s32(127)), vdupq_n_s32(-127));
        }
        let [a, b, c, d] = rounded;
        sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d)));
        let pack = |a, b| vcombine_s16(vmovn_s32(a), vmovn_s32(b));
        let bytes = vcombine_s8(vmovn_s16(pack(a, b)), vmovn_s16(pack(c, d)));
        // SAFETY: writes an array of 16.
        unsafe { vst1q_s8(codes[half].as_mut_ptr(), bytes) };
    }
    sums
}

#[target_feature(enable = "neon")]
#[inline]
fn magnitude(x: &[f32; 32]) -> f32 {
    let mut top = vdupq_n_u32(0);
    for four in x.as_chunks::<4>().0 {
        // SAFETY: reads an array of four.
        let v = unsafe { vld1q_f32(four.as_ptr()) };
        // As integers, magnitudes compare alike, and NaN is above all.
        top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(v)));
    }
    f32::from_bits(vmaxvq_u32(top))
}

/// The steps of [`math::exp`](crate::math::exp) on four numbers.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn exp(x: float32x4_t) -> float32x4_t {
    use crate::math::{EXP_COEFFICIENTS, EXP_HIGHEST, EXP_LOWEST, LN2_HIGH, LN2_LOW, ROUND};
    let all = |x: f32| vdupq_n_f32(x);
    // Where x is NaN, both instructions give that.
    let t = vminq_f32(vmaxq_f32(x, all(EXP_LOWEST)), all(EXP_HIGHEST));
    let shifted = vfmaq_f32(all(ROUND), t, all(std::f32::consts::LOG2_E));
    let n = vsubq_f32(shifted, all(ROUND));
    let r = vfmaq_f32(vfmaq_f32(t, n, all(-LN2_HIGH)), n, all(-LN2_LOW));
    let mut p = all(EXP_COEFFICIENTS[0]);
    for c in &EXP_COEFFICIENTS[1..] {
        p = vfmaq_f32(all(*c), p, r);
    }
    let y = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), all(1.0));
    let n = vsubq_s32(vreinterpretq_s32_f32(shifted), vreinterpretq_s32_f32(all(ROUND)));
    let half = vshrq_n_s32::<1>(n);
    let power = |n: int32x4_t| {
        let biased = vaddq_s32(n, vdupq_n_s32(127));
        vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
    };
    vmulq_f32(vmulq_f32(y, power(half)), power(vsubq_s32(n, half)))
}

/// The kernels of `isa`, one of the tiers with NEON.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    // Filled in by whoever comes first with an `Isa` of the tier, which is the proof that the
    // functions inside may be called.
    static KERNELS: [OnceLock<Kernels>; 3] = [const { OnceLock::new() }; 3];
    let (i, of): (usize, fn(QuantType) -> Option<TypeKernels>) = match isa.tier() {
        Tier::I8mm => (2, kernels_by::<Made<DotProd, I8mm>>),
        Tier::DotProd => (1, kernels_by::<Made<DotProd, DotProd>>),
        _ => (0, kernels_by::<Made<Plain, Plain>>),
    };
    KERNELS[i].get_or_init(|| Kernels { isa, of, panel_size: panel::size })
}

/// Functions of the table that a tier has for dot products.
trait Dots: Fours {
    fn dot<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]);
    fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]);
}

macro_rules! dots {
    ($fours:ty, $features:literal) => {
        impl Dots for $fours {
            entry!($features, fn dot<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
                = dots::dot::<_, B>(NeonOps(<$fours>::new()), rows, acts, out));
            entry!($features, fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
                = dots::dot_n::<_, B>(NeonOps(<$fours>::new()), rows, acts, out));
        }
    };
}

dots!(Plain, "neon");
dots!(DotProd, "neon,dotprod");

/// The function of the table that a tier has for matrix products.
trait Gemm: Step {
    fn gemm<S: Shaped>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]);
}

macro_rules! gemm {
    ($step:ty, $features:literal) => {
        impl Gemm for $step {
            entry!($features,
                fn gemm<S: Shaped>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32])
                = gemm::gemm::<_, S>(<$step>::new(), panel, acts, out));
        }
    };
}

gemm!(Plain, "neon");
gemm!(DotProd, "neon,dotprod");
gemm!(I8mm, "neon,i8mm");

entry!("neon", fn unpack_by_rows<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>)
    = panel::fill::<B, false>(rows, panel));
entry!("neon", fn unpack_by_pairs<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>)
    = panel::fill::<B, true>(rows, panel));
entry!("neon", fn dot_numbers(rows: Rows<'_>, x: &[f32], out: &mut [f32])
    = numbers::dot(NeonOps::new(), rows, x, out));
entry!("neon", fn dot_n_numbers(rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32])
    = numbers::dot_n(NeonOps::new(), rows, acts, out));
entry!("neon", fn unpack_numbers(rows: Rows<'_>, panel: &mut Panel<'_>)
    = numbers::unpack_panel(NeonOps::new(), rows, panel));
entry!("neon", fn gemm_numbers(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32])
    = numbers::gemm(NeonOps::new(), panel, acts, out));

/// Kernels of one tier.
struct Made<D, P>(PhantomData<(D, P)>);

impl<D: Dots, P: Gemm> Make for Made<D, P> {
    const NUMBERS: NumberKernels = NumberKernels {
        dot: dot_numbers,
        dot_n: dot_n_numbers,
        unpack_panel: unpack_numbers,
        gemm: gemm_numbers,
        turn: None,
    };

    fn make<B: Block>() -> BlockKernels {
        let gemm = match (B::MINS, B::HALVES) {
            (false, false) if B::WHOLE => P::gemm::<WholeShape<false, false>>,
            (false, true) if B::WHOLE => P::gemm::<WholeShape<false, true>>,
            (true, false) if B::WHOLE => P::gemm::<WholeShape<true, false>>,
            (true, true) => P::gemm::<WholeShape<true, true>>,
            (false, false) => P::gemm::<Shape<false, false>>,
            (false, true) => P::gemm::<Shape<false, true>>,
            (true, false) => P::gemm::<Shape<true, false>>,
        };
        let unpack_panel = if P::PAIRS { unpack_by_pairs::<B> } else { unpack_by_rows::<B> };
        BlockKernels { dot: D::dot::<B>, dot_n: D::dot_n::<B>, unpack_panel, gemm }
    }
}
