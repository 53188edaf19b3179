//! Kernels for x86-64 with AVX2, FMA and F16C.
//!
//! Functions are compiled with those features, so intrinsics on values are safe in them; what is
//! unsafe is reading and writing memory, and entering from code without the features: at [`entry!`]
//! and in [`Avx2Ops`].
#![expect(unsafe_code, reason = "intrinsics, and calls of functions with target features")]

mod gemm;
mod panel;
mod quantize;
mod vectors;
pub(crate) mod vnni;

use crate::act::{F32Acts, Q8Acts};
use crate::blocks::{Block, Make, dots, entry, kernels_by};
use crate::isa::Isa;
use crate::lanes::{LANES, Ops};
use crate::numbers;
use crate::table::{BlockKernels, Kernels, NumberKernels, Panel, Rows};
use gemm::{Shape, Shaped, Step, WholeShape};
use half::{bf16, f16};
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

// In every function: SAFETY: `self` proves the features, and what is read or written are arrays of
// that size.
impl Ops for Avx2Ops {
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, x: &[bf16; LANES]) -> __m256 {
        // SAFETY: as above.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn exp(self, x: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { exp(x) }
    }

    #[inline(always)]
    fn round_codes(self, x: &[f32; 32], inverse: f32, codes: &mut [i8; 32]) -> [i32; 2] {
        // SAFETY: as above.
        unsafe { round_codes(x, inverse, codes) }
    }

    #[inline(always)]
    fn magnitude(self, x: &[f32; 32]) -> f32 {
        // SAFETY: as above.
        unsafe { magnitude(x) }
    }
}

impl Step for Avx2Ops {
    const FOURS: bool = false;

    #[inline(always)]
    fn add_fours(self, sums: __m256i, codes: __m256i, act: __m256i) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe {
            let pairs = _mm256_maddubs_epi16(codes, act);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn round_codes(x: &[f32; 32], inverse: f32, codes: &mut [i8; 32]) -> [i32; 2] {
    let mut rounded = [_mm256_setzero_si256(); 4];
    let (parts, _) = x.as_chunks::<8>();
    for i in 0..4 {
        // SAFETY: reads an array of eight.
        let v = unsafe { _mm256_loadu_ps(parts[i].as_ptr()) };
        let v = _mm256_mul_ps(v, _mm256_set1_ps(inverse));
        let number = _mm256_cmp_ps::<_CMP_ORD_Q>(v, v);
        let v = _mm256_max_ps(_mm256_min_ps(v, _mm256_set1_ps(127.0)), _mm256_set1_ps(-127.0));
        let v = _mm256_and_ps(v, number);
        rounded[i] = _mm256_cvtps_epi32(v);
    }
    let [a, b, c, d] = rounded;
    let sums = [add_lanes(_mm256_add_epi32(a, b)), add_lanes(_mm256_add_epi32(c, d))];
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    // Packing works in halves: this brings runs of four back into order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = _mm256_permutevar8x32_epi32(bytes, order);
    // SAFETY: writes an array of 32.
    unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes) };
    sums
}

/// The sum of eight integers.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_lanes(x: __m256i) -> i32 {
    let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
    _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x)))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn magnitude(x: &[f32; 32]) -> f32 {
    let mut top = _mm256_setzero_si256();
    for part in x.as_chunks::<8>().0 {
        // SAFETY: reads an array of eight.
        let v = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
        top = _mm256_max_epu32(top, _mm256_and_si256(v, _mm256_set1_epi32(0x7fff_ffff)));
    }
    let x = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256::<1>(top));
    let x = _mm_max_epu32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
    let x = _mm_max_epu32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x));
    f32::from_bits(_mm_cvtsi128_si32(x) as u32)
}

/// The steps of [`math::exp`](crate::math::exp) on eight numbers.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn exp(x: __m256) -> __m256 {
    use crate::math::{EXP_COEFFICIENTS, EXP_HIGHEST, EXP_LOWEST, LN2_HIGH, LN2_LOW, ROUND};
    let all = |x: f32| _mm256_set1_ps(x);
    // Where x is NaN, both instructions give their second operand: x.
    let t = _mm256_min_ps(all(EXP_HIGHEST), _mm256_max_ps(all(EXP_LOWEST), x));
    let shifted = _mm256_fmadd_ps(t, all(std::f32::consts::LOG2_E), all(ROUND));
    let n = _mm256_sub_ps(shifted, all(ROUND));
    let r = _mm256_fmadd_ps(n, all(-LN2_LOW), _mm256_fmadd_ps(n, all(-LN2_HIGH), t));
    let mut p = all(EXP_COEFFICIENTS[0]);
    for c in &EXP_COEFFICIENTS[1..] {
        p = _mm256_fmadd_ps(p, r, all(*c));
    }
    let y = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), all(1.0));
    let n = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(all(ROUND)));
    let half = _mm256_srai_epi32::<1>(n);
    let power = |n: __m256i| {
        let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    };
    let y = _mm256_mul_ps(y, power(half));
    _mm256_mul_ps(y, power(_mm256_sub_epi32(n, half)))
}

/// The kernels of this tier.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    // Filled in by whoever comes first with an `Isa` of this tier, which is the proof that the
    // functions inside may be called.
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| table(isa))
}

/// The table of this tier, for `isa` or a higher tier.
pub(crate) fn table(isa: Isa) -> Kernels {
    Kernels { isa, of: kernels_by::<Plain>, panel_size: panel::size }
}

entry!("avx2,fma,f16c", fn dot<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = dots::dot::<_, B>(Avx2Ops::new(), rows, acts, out));
entry!("avx2,fma,f16c", fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = dots::dot_n::<_, B>(Avx2Ops::new(), rows, acts, out));
entry!("avx2,fma,f16c", fn unpack_panel<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>)
    = panel::fill::<B>(rows, panel, const { gemm::offset(shape_bits::<B>(), B::MINS, false) as i8 }));
entry!("avx2,fma,f16c", fn gemm<S: Shaped>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32])
    = gemm::gemm::<Avx2Ops, S>(Avx2Ops::new(), panel, acts, out));
entry!("avx2,fma,f16c", fn dot_numbers(rows: Rows<'_>, x: &[f32], out: &mut [f32])
    = numbers::dot(Avx2Ops::new(), rows, x, out));
entry!("avx2,fma,f16c", fn dot_n_numbers(rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32])
    = numbers::dot_n(Avx2Ops::new(), rows, acts, out));
entry!("avx2,fma,f16c", fn unpack_numbers(rows: Rows<'_>, panel: &mut Panel<'_>)
    = numbers::unpack_panel(Avx2Ops::new(), rows, panel));
entry!("avx2,fma,f16c", fn gemm_numbers(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32])
    = numbers::gemm(Avx2Ops::new(), panel, acts, out));

/// The bits by which the product takes codes of a type: some types share a kernel.
const fn shape_bits<B: Block>() -> u32 {
    match (B::BITS, B::HALVES) {
        (4, true) if !B::MINS => 5,
        (bits, _) => bits,
    }
}

/// Kernels of types stored as numbers.
const NUMBERS: NumberKernels = NumberKernels {
    dot: dot_numbers,
    dot_n: dot_n_numbers,
    unpack_panel: unpack_numbers,
    gemm: gemm_numbers,
    turn: None,
};

/// Kernels of this tier.
struct Plain;

impl Make for Plain {
    const NUMBERS: NumberKernels = NUMBERS;

    fn make<B: Block>() -> BlockKernels {
        let gemm = match (shape_bits::<B>(), B::MINS, B::HALVES) {
            (8, false, false) if B::WHOLE => gemm::<WholeShape<8, false, false>>,
            (5, false, true) if B::WHOLE => gemm::<WholeShape<5, false, true>>,
            (6, false, true) => gemm::<WholeShape<6, false, true>>,
            (4, true, false) if B::WHOLE => gemm::<WholeShape<4, true, false>>,
            (5, true, false) if B::WHOLE => gemm::<WholeShape<5, true, false>>,
            (4, true, true) => gemm::<WholeShape<4, true, true>>,
            (4, false, false) => gemm::<Shape<4, false, false>>,
            (5, false, false) => gemm::<Shape<5, false, false>>,
            (7, false, false) => gemm::<Shape<7, false, false>>,
            (8, false, false) => gemm::<Shape<8, false, false>>,
            (5, false, true) => gemm::<Shape<5, false, true>>,
            (7, false, true) => gemm::<Shape<7, false, true>>,
            (4, true, false) => gemm::<Shape<4, true, false>>,
            (5, true, false) => gemm::<Shape<5, true, false>>,
            shape => unreachable!("no type is of the shape {shape:?}"),
        };
        BlockKernels { dot: dot::<B>, dot_n: dot_n::<B>, unpack_panel: unpack_panel::<B>, gemm }
    }
}
