//! Sixteen lanes in two registers: x86-64 with AVX2, FMA and F16C.
#![expect(unsafe_code, reason = "intrinsics")]

use super::cells::Cells;
use super::product::Product;
use super::wide::{LANES, ONE_BITS, Wide};
use crate::avx2::Avx2Ops;
use crate::lanes::{Lanes, Ops, halves};
use std::arch::x86_64::*;

/// Proof that the CPU has this tier's features; made only in functions compiled for them.
#[derive(Clone, Copy)]
pub(super) struct Avx2(Avx2Ops);

impl Avx2 {
    /// The proof, where it is one.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn new() -> Avx2 {
        Avx2(Avx2Ops::new())
    }
}

// In every function: SAFETY: `self` proves the features, and what is read or written are arrays of
// that size.
impl Wide for Avx2 {
    type V = [__m256; 2];

    const MANY: bool = false;

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [__m256; 2] {
        let [low, high] = halves(x);
        [self.0.load(low), self.0.load(high)]
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { [_mm256_loadu_ps(x.as_ptr().cast()), _mm256_loadu_ps(x[32..].as_ptr().cast())] }
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            let (low, high) = (x.as_ptr().cast(), x[16..].as_ptr().cast());
            [_mm256_cvtph_ps(_mm_loadu_si128(low)), _mm256_cvtph_ps(_mm_loadu_si128(high))]
        }
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            let wide = |at: *const u8| {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            };
            [wide(x.as_ptr()), wide(x[16..].as_ptr())]
        }
    }

    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { widen(_mm_loadu_si128(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_i4(self, x: &[u8; 16], upper: bool) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { widen(halves_of(_mm_loadu_si128(x.as_ptr().cast()), upper)) }
    }

    #[inline(always)]
    fn load_pairs(self, x: &[u8; 64]) -> [__m256; 2] {
        self.load_f32(x)
    }

    #[inline(always)]
    fn dot_pairs(self, pairs: [__m256; 2], factor: [__m256; 2], acc: [__m256; 2]) -> [__m256; 2] {
        let mut sums = acc;
        for half in 0..2 {
            // SAFETY: as above.
            unsafe {
                let a = _mm256_castps_si256(pairs[half]);
                let b = _mm256_castps_si256(factor[half]);
                let acc = _mm256_castps_si256(acc[half]);
                let sum = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
                sums[half] = _mm256_castsi256_ps(sum);
            }
        }
        sums
    }

    #[inline(always)]
    fn widen_i32(self, x: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            let (low, high) = (_mm256_castps_si256(x[0]), _mm256_castps_si256(x[1]));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }

    #[inline(always)]
    fn times_power(self, x: [__m256; 2], n: [__m256; 2]) -> [__m256; 2] {
        let mut y = x;
        for half in 0..2 {
            // SAFETY: as above.
            unsafe {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(n[half]));
                let power = _mm256_add_epi32(exponent, _mm256_set1_epi32(ONE_BITS as i32));
                y[half] = _mm256_mul_ps(x[half], _mm256_castsi256_ps(power));
            }
        }
        y
    }

    #[inline(always)]
    fn pairs(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { [lower_halves(a), lower_halves(b)] }
    }

    #[inline(always)]
    fn to_i16(self, x: [__m256; 2]) -> [i16; LANES] {
        let mut codes = [0; LANES];
        // SAFETY: as above.
        unsafe {
            // Lane groups of four: the lower ones of both halves, then the upper ones.
            let mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1]));
            let narrow = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
            _mm256_storeu_si256(codes.as_mut_ptr().cast(), narrow);
        }
        codes
    }

    #[inline(always)]
    fn store(self, x: [__m256; 2], to: &mut [f32; LANES]) {
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), x[1]);
        }
    }

    #[inline(always)]
    fn narrow_f16(self, x: [__m256; 2]) -> [u8; 32] {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
        let mut bytes = [0; 32];
        // SAFETY: as above.
        unsafe {
            let (low, high) = (_mm256_cvtps_ph::<NEAREST>(x[0]), _mm256_cvtps_ph::<NEAREST>(x[1]));
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), _mm256_set_m128i(high, low));
        }
        bytes
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [__m256; 2] {
        [self.0.splat(x); 2]
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            let x = _mm_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes(x)));
            [_mm256_broadcastss_ps(x); 2]
        }
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        [self.0.add(a[0], b[0]), self.0.add(a[1], b[1])]
    }

    #[inline(always)]
    fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        [self.0.fma(a[0], b[0], c[0]), self.0.fma(a[1], b[1], c[1])]
    }

    #[inline(always)]
    fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        [self.0.max(a[0], b[0]), self.0.max(a[1], b[1])]
    }

    #[inline(always)]
    fn exp(self, x: [__m256; 2]) -> [__m256; 2] {
        [self.0.exp(x[0]), self.0.exp(x[1])]
    }

    #[inline(always)]
    fn keep(self, x: [__m256; 2], from: usize, to: usize, other: [__m256; 2]) -> [__m256; 2] {
        let (from, to) = (from as i32, to.min(LANES) as i32);
        // SAFETY: as above.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let mut kept = other;
            for half in 0..2 {
                let lane = _mm256_add_epi32(lanes, _mm256_set1_epi32(8 * half as i32));
                let not_below = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(from - 1));
                let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(to), lane);
                let mask = _mm256_castsi256_ps(_mm256_and_si256(not_below, below));
                kept[half] = _mm256_blendv_ps(other[half], x[half], mask);
            }
            kept
        }
    }

    #[inline(always)]
    fn transpose(self, x: [[__m256; 2]; LANES]) -> [[__m256; 2]; LANES] {
        let mut y = x;
        for rows in 0..2 {
            for cols in 0..2 {
                let mut block = [x[0][0]; 8];
                for i in 0..8 {
                    block[i] = x[8 * rows + i][cols];
                }
                // SAFETY: as above.
                let block = unsafe { transpose(block) };
                for i in 0..8 {
                    y[8 * cols + i][rows] = block[i];
                }
            }
        }
        y
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

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn run_product<C: Cells>(product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]) {
    product.run_wide::<Avx2, C>(Avx2::new(), m, a, c);
}

/// The lower halves of lanes, one behind another.
#[target_feature(enable = "avx2")]
#[inline]
fn lower_halves(x: [__m256; 2]) -> __m256 {
    let lower = _mm256_set1_epi32(0xffff);
    let low = _mm256_and_si256(_mm256_castps_si256(x[0]), lower);
    let high = _mm256_and_si256(_mm256_castps_si256(x[1]), lower);
    // Lane groups of four: the lower ones of both halves, then the upper ones.
    let mixed = _mm256_packus_epi32(low, high);
    _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(mixed))
}

/// Sixteen signed bytes as numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(codes: __m128i) -> [__m256; 2] {
    let high = _mm_unpackhi_epi64(codes, codes);
    [
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)),
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)),
    ]
}

/// The lower half of each byte, or the upper ones, less 8.
#[target_feature(enable = "avx2")]
#[inline]
fn halves_of(bytes: __m128i, upper: bool) -> __m128i {
    let shifted = _mm_srl_epi16(bytes, _mm_cvtsi32_si128(if upper { 4 } else { 0 }));
    _mm_sub_epi8(_mm_and_si128(shifted, _mm_set1_epi8(15)), _mm_set1_epi8(8))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn transpose(x: [__m256; 8]) -> [__m256; 8] {
    // Lane group `g` of `fours[4 * i + j]` is column `4 * g + j` of rows `4 * i..4 * i + 4`.
    let mut fours = x;
    for i in 0..2 {
        let [a, b, c, d] = [x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]];
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (ef, gh) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        fours[4 * i] = _mm256_shuffle_ps::<0x44>(ab, cd);
        fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
        fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(ef, gh);
        fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(ef, gh);
    }
    let mut y = x;
    for j in 0..4 {
        y[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]);
        y[4 + j] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]);
    }
    y
}
