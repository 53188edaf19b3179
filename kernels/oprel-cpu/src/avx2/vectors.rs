//! What AVX2 does with 32 bytes and with eight f32.

use super::{Avx2Ops, add_lanes};
use crate::act::{ActGroup, WholeGroup};
use crate::blocks::{Block, Vectors, Wide, intrinsics};
use std::arch::x86_64::*;

impl Vectors for Avx2Ops {
    type B = __m256i;

    const ABOVE: bool = true;

    intrinsics! {
        fn load32(self, bytes: &[u8], at: usize) -> __m256i {
            let bytes = &bytes[at..at + 32];
            _mm256_loadu_si256(bytes.as_ptr().cast())
        }

        fn four_words(self, w: [u64; 4]) -> __m256i {
            _mm256_setr_epi64x(w[0] as i64, w[1] as i64, w[2] as i64, w[3] as i64)
        }

        fn eight_words(self, w: [u32; 8]) -> __m256i {
            let [a, b, c, d, e, f, g, h] = w.map(|w| w as i32);
            _mm256_setr_epi32(a, b, c, d, e, f, g, h)
        }

        fn splat_byte(self, x: i8) -> __m256i {
            _mm256_set1_epi8(x)
        }

        fn nibbles(self, bytes: &[u8], at: usize) -> __m256i {
            let bytes = &bytes[at..at + 16];
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
            _mm256_and_si256(both, _mm256_set1_epi8(15))
        }

        fn spread_bits(self, bits: u32) -> __m256i {
            let bytes = _mm256_shuffle_epi8(
                _mm256_set1_epi32(bits as i32),
                _mm256_setr_epi64x(
                    0,
                    0x0101_0101_0101_0101,
                    0x0202_0202_0202_0202,
                    0x0303_0303_0303_0303,
                ),
            );
            self.test(bytes, _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64))
        }

        fn and(self, a: __m256i, b: __m256i) -> __m256i {
            _mm256_and_si256(a, b)
        }

        fn or(self, a: __m256i, b: __m256i) -> __m256i {
            _mm256_or_si256(a, b)
        }

        fn xor(self, a: __m256i, b: __m256i) -> __m256i {
            _mm256_xor_si256(a, b)
        }

        fn add_bytes(self, a: __m256i, b: __m256i) -> __m256i {
            _mm256_add_epi8(a, b)
        }

        fn sub_bytes(self, a: __m256i, b: __m256i) -> __m256i {
            _mm256_sub_epi8(a, b)
        }

        fn shift_up<const SHIFT: i32>(self, x: __m256i) -> __m256i {
            _mm256_slli_epi16::<SHIFT>(x)
        }

        fn shift_down<const SHIFT: i32>(self, x: __m256i) -> __m256i {
            _mm256_srli_epi16::<SHIFT>(x)
        }

        fn test(self, x: __m256i, mask: __m256i) -> __m256i {
            _mm256_cmpeq_epi8(_mm256_and_si256(x, mask), mask)
        }

        fn at_least(self, x: __m256i, least: u8) -> __m256i {
            _mm256_cmpeq_epi8(_mm256_max_epu8(x, _mm256_set1_epi8(least as i8)), x)
        }

        fn values(self, table: &[i8; 16], indices: __m256i) -> __m256i {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, indices)
        }

        fn negate(self, x: __m256) -> __m256 {
            _mm256_xor_ps(x, _mm256_set1_ps(-0.0))
        }

        fn splat_f16(self, bits: u16) -> __m256 {
            _mm256_cvtph_ps(_mm_set1_epi16(bits as i16))
        }

        fn four_f16(self, bits: u64) -> __m256 {
            let four = _mm_cvtph_ps(_mm_cvtsi64_si128(bits as i64));
            _mm256_set_m128(four, four)
        }

        fn eight_bytes(self, bytes: u64) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes as i64)))
        }

        fn bytes_of_runs(self, bytes: u64) -> __m256 {
            let order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1);
            let bytes = _mm_shuffle_epi8(_mm_cvtsi64_si128(bytes as i64), order);
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
        }

        fn integers(self, x: &[i32; 8]) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_loadu_si256(x.as_ptr().cast()))
        }

        fn firsts(self, a: __m256, b: __m256) -> __m256 {
            _mm256_permute2f128_ps::<0x20>(a, b)
        }

        fn seconds(self, a: __m256, b: __m256) -> __m256 {
            _mm256_permute2f128_ps::<0x31>(a, b)
        }

        fn sum(self, x: __m256) -> f32 {
            let q = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let pairs = _mm_add_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
        }

        fn prefetch(self, at: *const u8) {
            _mm_prefetch::<_MM_HINT_T0>(at.cast())
        }

        fn prefetch_far(self, at: *const u8) {
            _mm_prefetch::<_MM_HINT_T1>(at.cast())
        }
    }

    #[inline(always)]
    fn products<K: Block>(self, codes: &[__m256i; 8], act: &ActGroup) -> [__m256; 2] {
        // SAFETY: `self` proves the features.
        unsafe { products::<K>(codes, act) }
    }

    #[inline(always)]
    fn whole<K: Block>(self, w: &Wide<Avx2Ops>, act: &WholeGroup) -> [i32; 2] {
        // SAFETY: `self` proves the features.
        unsafe { whole::<K>(w, act) }
    }
}

/// Sums of 16 bits as words.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn eight_sums(x: &[i16; 8]) -> __m256i {
    // SAFETY: an array of 16 bytes is read.
    _mm256_cvtepi16_epi32(unsafe { _mm_loadu_si128(x.as_ptr().cast()) })
}

/// Sums of activations' runs by halves of blocks.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sums_of_halves(runs: &[i16; 16]) -> [__m256i; 2] {
    // SAFETY: an array of 32 bytes is read.
    let pairs = unsafe { _mm256_loadu_si256(runs.as_ptr().cast()) };
    [_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs)), _mm256_srai_epi32::<16>(pairs)]
}

/// [`Vectors::whole`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn whole<B: Block>(w: &Wide<Avx2Ops>, act: &WholeGroup) -> [i32; 2] {
    let [first, second] = block_sums::<B>(&w.codes, &act.codes);
    let scale = |i: usize| _mm256_cvtps_epi32(w.scales[i]);
    let min = |i: usize, sums: __m256i| _mm256_mullo_epi32(_mm256_cvtps_epi32(w.mins[i]), sums);
    if B::HALVES {
        let [a, b] = sums_of_halves(&act.runs);
        let p = _mm256_mullo_epi32(scale(0), less::<B>(first, a));
        let q = _mm256_mullo_epi32(scale(1), less::<B>(second, b));
        let mins = if B::MINS { add_lanes(_mm256_add_epi32(min(0, a), min(1, b))) } else { 0 };
        return [add_lanes(_mm256_add_epi32(p, q)), mins];
    }
    let totals = eight_sums(&act.totals);
    let sums = less::<B>(_mm256_add_epi32(first, second), totals);
    let mins = if B::MINS { add_lanes(min(0, totals)) } else { 0 };
    [add_lanes(_mm256_mullo_epi32(scale(0), sums)), mins]
}

/// Sums of products of halves of blocks: of the first ones, of the second ones.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn block_sums<B: Block>(codes: &[__m256i; 8], act: &[i8; 256]) -> [__m256i; 2] {
    let (blocks, _) = act.as_chunks::<32>();
    // SAFETY: what is read are arrays of 32 bytes.
    let load = |b: usize| unsafe { _mm256_loadu_si256(blocks[b].as_ptr().cast()) };
    let product = |b: usize| pairs_of::<B>(codes[b], load(b));
    let first = run_sums_of::<B>([product(0), product(1), product(2), product(3)]);
    let second = run_sums_of::<B>([product(4), product(5), product(6), product(7)]);
    [
        _mm256_permute2x128_si256::<0x20>(first, second),
        _mm256_permute2x128_si256::<0x31>(first, second),
    ]
}

/// [`Vectors::products`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn products<B: Block>(codes: &[__m256i; 8], act: &ActGroup) -> [__m256; 2] {
    let halves = block_sums::<B>(codes, &act.codes);
    // SAFETY: an array of eight is read.
    let eight = |x: &[i32; 8]| unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
    if B::HALVES {
        let [first, second] =
            [less::<B>(halves[0], eight(&act.sums[0])), less::<B>(halves[1], eight(&act.sums[1]))];
        return [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)];
    }
    let sums = less::<B>(_mm256_add_epi32(halves[0], halves[1]), eight(&act.totals));
    [_mm256_cvtepi32_ps(sums); 2]
}

/// Sums of products without what codes were too large by; `sums` are those of the activations.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn less<B: Block>(products: __m256i, sums: __m256i) -> __m256i {
    if B::ABOVE == 0 {
        return products;
    }
    let shift = _mm_cvtsi32_si128(B::ABOVE.trailing_zeros() as i32);
    _mm256_sub_epi32(products, _mm256_sll_epi32(sums, shift))
}

/// Products of 32 codes with 32 activations, in pairs: 16 sums of i16.
///
/// Codes are made positive and their signs moved to the activations; both are at least -127 or
/// the code is -128, so a pair is at most 2 * 128 * 127, which an i16 holds.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pairs<const POSITIVE: bool>(codes: __m256i, act: __m256i) -> __m256i {
    if POSITIVE {
        _mm256_maddubs_epi16(codes, act)
    } else {
        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(act, codes))
    }
}

/// Sums of the halves of four blocks: the first halves, then the second ones.
///
/// `SMALL` codes, between -32 and 32, allow to add four pairs in 16 bits first
/// (8 * 32 * 127 = 32512).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn run_sums<const SMALL: bool>(p: [__m256i; 4]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    if SMALL {
        let a =
            _mm256_add_epi16(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
        let b =
            _mm256_add_epi16(_mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
        let c = _mm256_add_epi16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        return _mm256_madd_epi16(c, ones);
    }
    let p = [
        _mm256_madd_epi16(p[0], ones),
        _mm256_madd_epi16(p[1], ones),
        _mm256_madd_epi16(p[2], ones),
        _mm256_madd_epi16(p[3], ones),
    ];
    let a = _mm256_add_epi32(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
    let b = _mm256_add_epi32(_mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
    _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pairs_of<B: Block>(codes: __m256i, act: __m256i) -> __m256i {
    if B::MINS || B::ABOVE != 0 { pairs::<true>(codes, act) } else { pairs::<false>(codes, act) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn run_sums_of<B: Block>(p: [__m256i; 4]) -> __m256i {
    if B::MINS || B::SMALL { run_sums::<true>(p) } else { run_sums::<false>(p) }
}
