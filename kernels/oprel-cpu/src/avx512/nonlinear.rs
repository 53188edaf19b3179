//! Nibbles that index sixteen values: IQ4_NL, IQ4_XS, MXFP4, NVFP4.

use super::blocks::{
    Block, Group, Order, half_words, integers, load16, load32, load64, no_mins, of_halves, words,
};
use super::simple::{Nibbles, eight};
use oprel_quant::codebook;
use std::arch::x86_64::*;

/// The values of IQ4, 128 above.
const IQ4: [u8; 16] = above(codebook::IQ4, 128);
/// Twice the E2M1 numbers, 16 above.
const FP4: [u8; 16] = above(codebook::FP4, 16);

/// Values that an offset makes unsigned.
const fn above(values: [i8; 16], offset: i16) -> [u8; 16] {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        codes[i] = (values[i] as i16 + offset) as u8;
        i += 1;
    }
    codes
}

/// What each byte below 16 stands for.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn values(table: &[u8; 16], indices: __m512i) -> __m512i {
    // SAFETY: 16 bytes are read from an array of 16.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), indices)
}

/// Values of low nibbles, then of high ones.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn both_values(table: &[u8; 16], x: __m512i) -> [__m512i; 2] {
    let nibble = _mm512_set1_epi8(15);
    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(x), nibble);
    [values(table, _mm512_and_si512(x, nibble)), values(table, high)]
}

/// Values of all codes in [`Order::Quads`], or [`Order::EvenOdd`]: of four blocks, then of the other
/// four.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn all_values(table: &[u8; 16], x: __m512i, y: __m512i) -> [__m512i; 4] {
    let ([a, b], [c, d]) = (both_values(table, x), both_values(table, y));
    [a, b, c, d]
}

/// Eight 16-bit words of the first 128 bytes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn words_at(bytes: &[u8], at: [i16; 8]) -> __m128i {
    let (first, second) = (load64(bytes, 0), load64(bytes, 64));
    let [a, b, c, d, e, f, g, h] = at;
    let at = _mm512_castsi128_si512(_mm_setr_epi16(a, b, c, d, e, f, g, h));
    _mm512_castsi512_si128(_mm512_permutex2var_epi16(first, at, second))
}

pub(super) struct Iq4Nl;

impl Nibbles for Iq4Nl {
    const STEP: usize = 18;
    const CODES: usize = 2;
}

impl Block for Iq4Nl {
    const BYTES: usize = 8 * 18;
    const OFFSET: i32 = 128;
    const MOST: i32 = 241;
    const ORDER: Order = Order::Quads;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let w = eight::<Self>(bytes);
        let [a, b, c, d] = w.codes;
        let codes = [values(&IQ4, a), values(&IQ4, b), values(&IQ4, c), values(&IQ4, d)];
        Group { codes, scales: [w.scales; 2], mins: no_mins() }
    }
}

pub(super) struct Iq4Xs;

impl Block for Iq4Xs {
    const BYTES: usize = 136;
    const OFFSET: i32 = 128;
    const MOST: i32 = 241;
    const ORDER: Order = Order::Quads;
    const WHOLE: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // Words: the scale and upper bits, lower bits of all blocks.
        let head = _mm256_castsi128_si256(load16(bytes, 0));
        let low = _mm256_permutevar8x32_epi32(head, _mm256_set1_epi32(1));
        let high = _mm256_permutevar8x32_epi32(head, _mm256_setzero_si256());
        let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(12, 14, 16, 18, 20, 22, 24, 26));
        let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
        let high = _mm256_and_si256(high, _mm256_set1_epi32(0x30));
        let scales = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
        let scales = integers(scales);
        let codes = all_values(&IQ4, load64(bytes, 8), load64(bytes, 72));
        Group { codes, scales: [scales; 2], mins: no_mins() }
    }
}

pub(super) struct Mxfp4;

impl Block for Mxfp4 {
    const BYTES: usize = 8 * 17;
    const OFFSET: i32 = 16;
    const MOST: i32 = 28;
    const ORDER: Order = Order::EvenOdd;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // Exponents of odd blocks are the upper bytes of words.
        let words = words_at(bytes, [0, 8, 17, 25, 34, 42, 51, 59]);
        let e = _mm256_srlv_epi32(
            _mm256_cvtepu16_epi32(words),
            _mm256_setr_epi32(0, 8, 0, 8, 0, 8, 0, 8),
        );
        let e = _mm256_and_si256(e, _mm256_set1_epi32(255));
        // 2^(e - 128): an exponent field of e - 1, or below that a subnormal number.
        let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
        let small = _mm256_cmplt_epi32_mask(e, _mm256_set1_epi32(2));
        let bits = _mm256_mask_sllv_epi32(normal, small, _mm256_set1_epi32(0x0020_0000), e);
        let scales = _mm256_castsi256_ps(bits);
        // Words from an odd byte on hold the codes of even blocks, from an even byte those of odd ones.
        let even = half_words(const { &every_other(1, 1) });
        let even = _mm512_permutex2var_epi16(load64(bytes, 1), even, load64(bytes, 65));
        let odd = half_words(const { &every_other(18, 8) });
        let odd = _mm512_permutex2var_epi16(load64(bytes, 8), odd, load64(bytes, 72));
        let codes = all_values(&FP4, even, odd);
        Group { codes, scales: [scales; 2], mins: no_mins() }
    }
}

/// Which 16-bit words, counted from byte `from`, are the codes of every other block of MXFP4, the
/// first of them being at `first`.
const fn every_other(first: usize, from: usize) -> [i16; 32] {
    let mut words = [0; 32];
    let mut i = 0;
    while i < 32 {
        words[i] = ((first + i / 8 * 34 + i % 8 * 2 - from) / 2) as i16;
        i += 1;
    }
    words
}

pub(super) struct Nvfp4;

impl Block for Nvfp4 {
    const BYTES: usize = 4 * 36;
    const OFFSET: i32 = 16;
    const MOST: i32 = 28;
    const ORDER: Order = Order::Lanes;
    const HALVES: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // 32 bytes of codes behind four of scales; each half of a block has 8 bytes, low nibbles
        // first.
        let two = |at: usize| {
            let first = _mm512_castsi256_si512(load32(bytes, at));
            _mm512_inserti64x4::<1>(first, load32(bytes, at + 36))
        };
        let (x, y) = (two(4), two(76));
        let first = _mm512_permutex2var_epi32(x, words(const { &words_of_halves(0) }), y);
        let second = _mm512_permutex2var_epi32(x, words(const { &words_of_halves(1) }), y);
        let ([a, c], [b, d]) = (both_values(&FP4, first), both_values(&FP4, second));
        let codes = [a, b, c, d];
        let scales = {
            let (first, second) = (load64(bytes, 0), load64(bytes, 64));
            let at = _mm512_castsi128_si512(_mm_setr_epi32(0, 9, 18, 27));
            halves_of_e4m3(_mm512_castsi512_si128(_mm512_permutex2var_epi32(first, at, second)))
        };
        Group { codes, scales, mins: no_mins() }
    }
}

/// Word `word` of the two of each half of a block: those of first halves, then of second ones.
const fn words_of_halves(word: i32) -> [i32; 16] {
    let mut words = [0; 16];
    let mut i = 0;
    while i < 16 {
        let (half, block) = (i / 8, i % 8);
        words[i] = (block * 4 + half * 2) as i32 + word;
        i += 1;
    }
    words
}

/// Half of each unsigned E4M3 number, by halves of blocks.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn halves_of_e4m3(x: __m128i) -> [__m256; 2] {
    let number = _mm_cmpneq_epi8_mask(x, _mm_set1_epi8(0x7f));
    let x = of_halves(_mm_maskz_mov_epi8(number, x));
    // The exponent and the mantissa as those of a half-precision number, whose bias is 8 more.
    let half = _mm256_slli_epi16::<7>(_mm256_cvtepu8_epi16(x));
    let half = _mm256_and_si256(half, _mm256_set1_epi16(0x3f80));
    let y = _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(128.0));
    [_mm512_castps512_ps256(y), _mm512_extractf32x8_ps::<1>(y)]
}
