//! Codes out of codebooks (IQ1, IQ2, IQ3) and out of base three (TQ1_0): blocks of 256 weights, two
//! groups each. `crates/oprel-quant/src/grid.rs` has the layouts.

use super::blocks::{
    Block, Group, f16_all, f16_bits_all, load16, load32, no_mins, spread_bits, u16_at, u32_at,
};
use oprel_quant::codebook::{self, EIGHT_SIGNS};
use std::arch::x86_64::*;

/// Four words of eight codes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn four_words<'a>(word: impl Fn(usize) -> &'a [i8; 8]) -> __m256i {
    let word = |i: usize| i64::from_le_bytes(word(i).map(|code| code as u8));
    _mm256_setr_epi64x(word(0), word(1), word(2), word(3))
}

/// Eight words of four codes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn eight_words<'a>(word: impl Fn(usize) -> &'a [i8; 4]) -> __m256i {
    let word = |i: usize| i32::from_le_bytes(word(i).map(|code| code as u8));
    let (a, b) = ([word(0), word(1), word(2), word(3)], [word(4), word(5), word(6), word(7)]);
    _mm256_setr_epi32(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3])
}

/// Codes with a minus where the bit of `signs` is set.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed(codes: __m256i, signs: u32) -> __m256i {
    let minus = spread_bits(signs);
    _mm256_sub_epi8(_mm256_xor_si256(codes, minus), minus)
}

/// 32 sign bits for four times seven.
fn all_signs(sevens: u32) -> u32 {
    let eight = |i: u32| EIGHT_SIGNS[(sevens >> (7 * i) & 127) as usize];
    u32::from_le_bytes([eight(0), eight(1), eight(2), eight(3)])
}

/// Nibble `i` of the bytes from `at` on, low ones first.
fn nibble(bytes: &[u8], at: usize, i: usize) -> f32 {
    f32::from(bytes[at + i / 2] >> (i % 2 * 4) & 15)
}

/// Four numbers, one for each block of 32, in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn of_blocks(x: [f32; 4]) -> __m256 {
    _mm256_setr_ps(x[0], x[1], x[2], x[3], x[0], x[1], x[2], x[3])
}

/// `d * (0.5 + s) * factor`, in that order.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn half_steps(d: __m256, s: __m256, factor: f32) -> __m256 {
    let stepped = _mm256_mul_ps(d, _mm256_add_ps(_mm256_set1_ps(0.5), s));
    _mm256_mul_ps(stepped, _mm256_set1_ps(factor))
}

/// Nibbles of four bytes, one byte for each block: low ones for first runs, high ones for second.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn nibble_pairs(bytes: u32) -> __m256 {
    let (low, high) = (bytes & 0x0f0f_0f0f, bytes >> 4 & 0x0f0f_0f0f);
    let both = _mm_cvtsi64_si128((u64::from(low) | u64::from(high) << 32) as i64);
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(both))
}

pub(crate) struct Iq2Xxs;

impl Block for Iq2Xxs {
    const SPAN_BYTES: usize = 66;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let mut codes = [_mm256_setzero_si256(); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let part = &span[2 + (4 * g + b) * 8..][..8];
            let bits = u32_at(part, 4);
            let word = |l: usize| &codebook::IQ2_XXS[usize::from(part[l])];
            codes[b] = signed(four_words(word), all_signs(bits));
            scales[b] = (bits >> 28) as f32;
        }
        let scales = half_steps(f16_all(span, 0), of_blocks(scales), 0.25);
        Group { codes, scales, mins: no_mins() }
    }
}

pub(crate) struct Iq2Xs;

impl Block for Iq2Xs {
    const SPAN_BYTES: usize = 74;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;
    const HALVES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let mut codes = [_mm256_setzero_si256(); 4];
        for b in 0..4 {
            let q = |l: usize| u16_at(span, 2 + ((4 * g + b) * 4 + l) * 2);
            let word = |l: usize| &codebook::IQ2_XS[usize::from(q(l) & 511)];
            let eight = |l: usize| EIGHT_SIGNS[usize::from(q(l) >> 9)];
            let signs = u32::from_le_bytes([eight(0), eight(1), eight(2), eight(3)]);
            codes[b] = signed(four_words(word), signs);
        }
        let scales = nibble_pairs(u32_at(span, 66 + 4 * g));
        Group { codes, scales: half_steps(f16_all(span, 0), scales, 0.25), mins: no_mins() }
    }
}

pub(crate) struct Iq2S;

impl Block for Iq2S {
    const SPAN_BYTES: usize = 82;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;
    const HALVES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let mut codes = [_mm256_setzero_si256(); 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let high = usize::from(span[66 + block]);
            let low = |l: usize| usize::from(span[2 + block * 4 + l]);
            let word = |l: usize| &codebook::IQ2_S[low(l) | (high >> (2 * l) & 3) << 8];
            let signs = u32_at(span, 34 + block * 4);
            codes[b] = signed(four_words(word), signs);
        }
        let scales = nibble_pairs(u32_at(span, 74 + 4 * g));
        Group { codes, scales: half_steps(f16_all(span, 0), scales, 0.25), mins: no_mins() }
    }
}

pub(crate) struct Iq3Xxs;

impl Block for Iq3Xxs {
    const SPAN_BYTES: usize = 98;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let mut codes = [_mm256_setzero_si256(); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let words = &span[2 + block * 8..][..8];
            let bits = u32_at(span, 66 + 4 * block);
            let word = |l: usize| &codebook::IQ3_XXS[usize::from(words[l])];
            codes[b] = signed(eight_words(word), all_signs(bits));
            scales[b] = (bits >> 28) as f32;
        }
        let scales = half_steps(f16_all(span, 0), of_blocks(scales), 0.5);
        Group { codes, scales, mins: no_mins() }
    }
}

pub(crate) struct Iq3S;

impl Block for Iq3S {
    const SPAN_BYTES: usize = 110;
    const GROUPS: usize = 2;
    const BITS: u32 = 5;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let mut codes = [_mm256_setzero_si256(); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let low = &span[2 + block * 8..][..8];
            let ninth = usize::from(span[66 + block]);
            let word = |l: usize| &codebook::IQ3_S[usize::from(low[l]) | (ninth >> l & 1) << 8];
            codes[b] = signed(eight_words(word), u32_at(span, 74 + 4 * block));
            scales[b] = 1.0 + 2.0 * nibble(span, 106, block);
        }
        let scales = _mm256_mul_ps(f16_all(span, 0), of_blocks(scales));
        Group { codes, scales, mins: no_mins() }
    }
}

/// Words of IQ1 in eighths, each moved an eighth up or, where `down` is -1, down.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn shifted(words: __m256i, down: __m256i) -> __m256i {
    // Bits that cross into the next byte are cut off.
    let eighths = _mm256_and_si256(_mm256_slli_epi16::<3>(words), _mm256_set1_epi8(-8));
    _mm256_add_epi8(eighths, _mm256_or_si256(down, _mm256_set1_epi8(1)))
}

/// `d * (2 s + 1) / 8` for scales by lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn odd_eighths(d: __m256, s: __m256) -> __m256 {
    let odd = _mm256_fmadd_ps(s, _mm256_set1_ps(2.0), _mm256_set1_ps(1.0));
    _mm256_mul_ps(_mm256_mul_ps(d, odd), _mm256_set1_ps(0.125))
}

pub(crate) struct Iq1S;

impl Block for Iq1S {
    const SPAN_BYTES: usize = 50;
    const GROUPS: usize = 2;
    const BITS: u32 = 5;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let mut codes = [_mm256_setzero_si256(); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let high = usize::from(u16_at(span, 34 + 2 * block));
            let low = |l: usize| usize::from(span[2 + block * 4 + l]);
            let word = |l: usize| &codebook::IQ1[low(l) | (high >> (3 * l) & 7) << 8];
            let words = four_words(word);
            codes[b] = shifted(words, _mm256_set1_epi8(-((high >> 15) as i8)));
            scales[b] = (high >> 12 & 7) as f32;
        }
        let scales = odd_eighths(f16_all(span, 0), of_blocks(scales));
        Group { codes, scales, mins: no_mins() }
    }
}

pub(crate) struct Iq1M;

impl Block for Iq1M {
    const SPAN_BYTES: usize = 56;
    const GROUPS: usize = 2;
    const BITS: u32 = 5;
    const HALVES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let mut codes = [_mm256_setzero_si256(); 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let high = usize::from(u16_at(span, 32 + 2 * block));
            let low = |l: usize| usize::from(span[block * 4 + l]);
            let word = |l: usize| &codebook::IQ1[low(l) | (high >> (4 * l) & 7) << 8];
            let words = four_words(word);
            // All ones for the words that move down.
            let down = |l: usize| -((high >> (4 * l + 3) & 1) as i64);
            codes[b] = shifted(words, _mm256_setr_epi64x(down(0), down(1), down(2), down(3)));
        }
        let packed = [u16_at(span, 48), u16_at(span, 50), u16_at(span, 52), u16_at(span, 54)];
        let d = packed[0] >> 12
            | packed[1] >> 8 & 0x00f0
            | packed[2] >> 4 & 0x0f00
            | packed[3] & 0xf000;
        // Four scales of three bits in each number: two blocks of two runs.
        let of = |run: usize| f32::from(packed[2 * g + run / 4] >> (run % 4 * 3) & 7);
        let (even, odd) = ([of(0), of(2), of(4), of(6)], [of(1), of(3), of(5), of(7)]);
        let scales =
            _mm256_setr_ps(even[0], even[1], even[2], even[3], odd[0], odd[1], odd[2], odd[3]);
        Group { codes, scales: odd_eighths(f16_bits_all(d), scales), mins: no_mins() }
    }
}

pub(crate) struct Tq1;

impl Block for Tq1 {
    const SPAN_BYTES: usize = 54;
    const GROUPS: usize = 2;
    const BITS: u32 = 4;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let first = load32(span, 0);
        let scales = f16_all(span, 52);
        let (x3, x9) = (times_three(first), times_three(times_three(first)));
        let x27 = times_three(x9);
        if g == 0 {
            let codes = [first_digit(first), first_digit(x3), first_digit(x9), first_digit(x27)];
            return Group { codes, scales, mins: no_mins() };
        }
        let second = load16(span, 32);
        let y = powers(second);
        let last = powers(_mm_set1_epi32(u32_at(span, 48) as i32));
        // The last sixteen: four bytes, then their triples, and so on.
        let last = _mm_unpacklo_epi64(
            _mm_unpacklo_epi32(last[0], last[1]),
            _mm_unpacklo_epi32(last[2], last[3]),
        );
        let codes = [
            first_digit(times_three(x27)),
            first_digit(_mm256_set_m128i(y[1], y[0])),
            first_digit(_mm256_set_m128i(y[3], y[2])),
            first_digit(_mm256_set_m128i(last, y[4])),
        ];
        Group { codes, scales, mins: no_mins() }
    }
}

/// Three times each byte, without what does not fit.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn times_three(x: __m256i) -> __m256i {
    _mm256_add_epi8(x, _mm256_add_epi8(x, x))
}

/// Each byte times 1, 3, 9, 27 and 81, without what does not fit.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn powers(x: __m128i) -> [__m128i; 5] {
    let mut powers = [x; 5];
    for i in 1..5 {
        let before = powers[i - 1];
        powers[i] = _mm_add_epi8(before, _mm_add_epi8(before, before));
    }
    powers
}

/// The first ternary digit of each byte, less 1: what of three times the byte goes beyond it.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn first_digit(x: __m256i) -> __m256i {
    let at_least = |n: u8| {
        let n = _mm256_set1_epi8(n as i8);
        _mm256_cmpeq_epi8(_mm256_max_epu8(x, n), x)
    };
    // Each comparison gives -1 where it holds: 3 * 86 > 256, 3 * 171 > 512.
    let minus_digit = _mm256_add_epi8(at_least(86), at_least(171));
    _mm256_sub_epi8(_mm256_set1_epi8(-1), minus_digit)
}
