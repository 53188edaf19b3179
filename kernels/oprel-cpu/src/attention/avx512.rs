//! Sixteen lanes in one register: x86-64 with AVX-512.
#![expect(unsafe_code, reason = "intrinsics")]

use super::cells::Cells;
use super::product::Product;
use super::wide::{LANES, ONE_BITS, Wide};
use crate::math::{EXP_COEFFICIENTS, EXP_LOWEST, LN2_HIGH, LN2_LOW, ROUND};
use std::arch::x86_64::*;

/// What half bytes stand for.
static HALVES: [f32; LANES] =
    [-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];

/// Every other half of the lanes of two registers.
static EVEN: [u16; 2 * LANES] = {
    let mut even = [0; 2 * LANES];
    let mut i = 0;
    while i < 2 * LANES {
        even[i] = 2 * i as u16;
        i += 1;
    }
    even
};

/// Proof that the CPU has this tier's features; made only in functions compiled for them.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The proof, where it is one.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new() -> Avx512 {
        Avx512(())
    }
}

// In every function: SAFETY: `self` proves the features, and what is read or written are arrays of
// that size.
impl Wide for Avx512 {
    type V = __m512;

    const MANY: bool = true;

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let codes = _mm_loadu_si128(x.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))
        }
    }

    #[inline(always)]
    fn load_i4(self, x: &[u8; 16], upper: bool) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let shift = _mm_cvtsi32_si128(if upper { 4 } else { 0 });
            // The permutation looks at the lowest four bits of each lane.
            _mm512_permutexvar_ps(_mm512_srl_epi32(codes, shift), _mm512_loadu_ps(HALVES.as_ptr()))
        }
    }

    #[inline(always)]
    fn load_pairs(self, x: &[u8; 64]) -> __m512 {
        self.load_f32(x)
    }

    #[inline(always)]
    fn dot_pairs(self, pairs: __m512, factor: __m512, acc: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let (a, b) = (_mm512_castps_si512(pairs), _mm512_castps_si512(factor));
            _mm512_castsi512_ps(_mm512_dpwssd_epi32(_mm512_castps_si512(acc), a, b))
        }
    }

    #[inline(always)]
    fn widen_i32(self, x: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(x)) }
    }

    #[inline(always)]
    fn times_power(self, x: __m512, n: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(n));
            let power = _mm512_add_epi32(exponent, _mm512_set1_epi32(ONE_BITS as i32));
            _mm512_mul_ps(x, _mm512_castsi512_ps(power))
        }
    }

    #[inline(always)]
    fn pairs(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let even = _mm512_loadu_si512(EVEN.as_ptr().cast());
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_permutex2var_epi16(a, even, b))
        }
    }

    #[inline(always)]
    fn to_i16(self, x: __m512) -> [i16; LANES] {
        let mut codes = [0; LANES];
        // SAFETY: as above.
        unsafe {
            let narrow = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x));
            _mm256_storeu_si256(codes.as_mut_ptr().cast(), narrow);
        }
        codes
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; LANES]) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn narrow_f16(self, x: __m512) -> [u8; 32] {
        let mut bytes = [0; 32];
        // SAFETY: as above.
        unsafe {
            let half = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), half);
        }
        bytes
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes(x)))) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above. Where one is NaN, the instruction gives its second operand.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn exp(self, x: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { exp(x) }
    }

    #[inline(always)]
    fn keep(self, x: __m512, from: usize, to: usize, other: __m512) -> __m512 {
        let below = |n: usize| ((1u32 << n.min(LANES)) - 1) as u16;
        // SAFETY: as above.
        unsafe { _mm512_mask_blend_ps(below(to) & !below(from), other, x) }
    }

    #[inline(always)]
    fn transpose(self, x: [__m512; LANES]) -> [__m512; LANES] {
        // SAFETY: as above.
        unsafe { transpose(x) }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: as above; a prefetch of any address is no access.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    fn product<C: Cells>(self, product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]) {
        // SAFETY: as above.
        unsafe { run_product::<C>(product, m, a, c) }
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn run_product<C: Cells>(product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]) {
    product.run_wide::<Avx512, C>(Avx512::new(), m, a, c);
}

/// As [`math::exp`](crate::math::exp) of what is not above 0. Scaling by 2^n rounds once, as the
/// two factors there do.
#[target_feature(enable = "avx512f")]
#[inline]
fn exp(x: __m512) -> __m512 {
    // Where x is NaN, the instruction gives its second operand: x.
    let t = _mm512_max_ps(_mm512_set1_ps(EXP_LOWEST), x);
    let round = _mm512_set1_ps(ROUND);
    let shifted = _mm512_fmadd_ps(t, _mm512_set1_ps(std::f32::consts::LOG2_E), round);
    let n = _mm512_sub_ps(shifted, round);
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_HIGH), t);
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_LOW), r);
    let mut p = _mm512_set1_ps(EXP_COEFFICIENTS[0]);
    for c in &EXP_COEFFICIENTS[1..] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*c));
    }
    let y = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0));
    _mm512_scalef_ps(y, n)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(x: [__m512; LANES]) -> [__m512; LANES] {
    // Pairs of rows, then fours: lane group `g` of `fours[4 * i + j]` is column `4 * g + j` of
    // rows `4 * i..4 * i + 4`.
    let mut fours = x;
    for i in 0..4 {
        let [a, b, c, d] = [x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]];
        let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
        let (ef, gh) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
        fours[4 * i] = low_pairs(ab, cd);
        fours[4 * i + 1] = high_pairs(ab, cd);
        fours[4 * i + 2] = low_pairs(ef, gh);
        fours[4 * i + 3] = high_pairs(ef, gh);
    }
    // Then groups of four lanes.
    let mut y = x;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let (even_ab, even_cd) =
            (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
        let (odd_ab, odd_cd) =
            (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
        y[j] = _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd);
        y[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd);
        y[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd);
        y[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd);
    }
    y
}

#[target_feature(enable = "avx512f")]
#[inline]
fn low_pairs(a: __m512, b: __m512) -> __m512 {
    _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn high_pairs(a: __m512, b: __m512) -> __m512 {
    _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
}
