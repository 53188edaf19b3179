//! Codes out of codebooks: IQ1, IQ2, IQ3. `crates/oprel-quant/src/grid.rs` has the layouts.
//!
//! Words of eight codes are loaded one by one, words of four are permuted out of registers
//! ([`fours`](super::fours)). All are unsigned here: values of a type are its offset above.

use super::blocks::{Block, Group, Order, half_words, load16, load32, load64, no_mins};
use super::eights::{codes_iq2_s, codes_iq2_xs, codes_iq2_xxs};
use super::fields::{f16_all, u32_at, u64_at};
use super::fours::{codes_iq3_s, codes_iq3_xxs};
use oprel_quant::codebook;
use std::arch::x86_64::*;

/// Words of IQ1 in eighths, 16 above.
static IQ1: [u64; 2048] = {
    let mut words = [0; 2048];
    let mut i = 0;
    while i < words.len() {
        let mut bytes = [0; 8];
        let mut j = 0;
        while j < 8 {
            bytes[j] = (codebook::IQ1[i][j] * 8 + 16) as u8;
            j += 1;
        }
        words[i] = u64::from_le_bytes(bytes);
        i += 1;
    }
    words
};

/// Eight words of `book` by number.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn eight_words<const N: usize>(book: &[u64; N], at: [usize; 8]) -> __m512i {
    let word = |i: usize| book[at[i] % N] as i64;
    let pair = |i: usize| _mm_insert_epi64::<1>(_mm_cvtsi64_si128(word(i)), word(i + 1));
    let four = |i: usize| _mm256_set_m128i(pair(i + 2), pair(i));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(four(0)), four(4))
}

/// Which of 32 words, four of each block, come in [`Order::Pairs`].
const PAIRS: [i16; 32] = {
    let mut words = [0; 32];
    let mut i = 0;
    while i < 32 {
        words[i] = (i % 8 * 4 + i / 8) as i16;
        i += 1;
    }
    words
};

/// Numbers of 32 words in [`Order::Pairs`].
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn in_pairs(numbers: __m512i) -> __m512i {
    _mm512_permutexvar_epi16(half_words(&PAIRS), numbers)
}

/// The 32 words whose numbers are 16-bit.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn words_by<const N: usize>(book: &[u64; N], numbers: __m512i) -> [__m512i; 4] {
    let mut at = [0u16; 32];
    // SAFETY: an array of 64 bytes is written.
    unsafe { _mm512_storeu_si512(at.as_mut_ptr().cast(), numbers) };
    let mut codes = [_mm512_setzero_si512(); 4];
    for j in 0..4 {
        let mut eight = [0; 8];
        for i in 0..8 {
            eight[i] = usize::from(at[8 * j + i]);
        }
        codes[j] = eight_words(book, eight);
    }
    codes
}

/// `codes`, `offset` above, with a minus where bits are set.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn signed(codes: [__m512i; 4], offset: u8, minus: [u64; 4]) -> [__m512i; 4] {
    let twice = _mm512_set1_epi8(offset.wrapping_mul(2) as i8);
    let mut signed = codes;
    for j in 0..4 {
        signed[j] = _mm512_mask_sub_epi8(codes[j], minus[j], twice, codes[j]);
    }
    signed
}

/// Sign bits of 256 weights, a byte for each eight, in [`Order::Pairs`].
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn signs_in_pairs(bytes: __m256i) -> [u64; 4] {
    let blocks = _mm512_cvtepu32_epi64(bytes);
    let bits = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
    let mut signs = [0; 4];
    for w in 0..4 {
        // Byte `w` of each block, eight times.
        let (even, odd) = (w as i64, w as i64 + 8);
        let ones = 0x0101_0101_0101_0101;
        let of_lane = _mm_set_epi64x(odd * ones, even * ones);
        let eight_times = _mm512_shuffle_epi8(blocks, _mm512_broadcast_i32x4(of_lane));
        signs[w] = _mm512_test_epi8_mask(eight_times, bits);
    }
    signs
}

/// Eight bits for each seven in a byte: the highest makes their number even.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn eight_signs(sevens: __m256i) -> [u64; 4] {
    // 0x80 for the nibbles with an odd number of bits.
    let odd = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0,
    ));
    let nibble = _mm256_set1_epi8(15);
    let low = _mm256_shuffle_epi8(odd, _mm256_and_si256(sevens, nibble));
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(sevens), nibble);
    let high = _mm256_shuffle_epi8(odd, high);
    signs_in_pairs(_mm256_ternarylogic_epi32::<0b1001_0110>(sevens, low, high))
}

/// 32 sign bits for four times seven, of eight words.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn signs_of_words(words: __m256i) -> [u64; 4] {
    let seven = |shifted: __m256i, byte: u32| {
        _mm256_and_si256(shifted, _mm256_set1_epi32(0x7f << (8 * byte)))
    };
    let (a, b) = (seven(words, 0), seven(_mm256_slli_epi32::<1>(words), 1));
    let c = seven(_mm256_slli_epi32::<2>(words), 2);
    let d = seven(_mm256_slli_epi32::<3>(words), 3);
    eight_signs(_mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)))
}

/// `d * (0.5 + s) * factor` for blocks.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn half_steps(d: __m256, s: __m256i, factor: f32) -> [__m256; 2] {
    let s = _mm256_add_ps(_mm256_set1_ps(0.5), _mm256_cvtepi32_ps(s));
    [_mm256_mul_ps(_mm256_mul_ps(d, s), _mm256_set1_ps(factor)); 2]
}

/// Scales of IQ2_XS and IQ2_S: nibbles of the eight bytes at `at`, low ones for first halves.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scales_iq2(bytes: &[u8], at: usize) -> [__m256; 2] {
    let both = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(u64_at(bytes, at) as i64));
    let d = f16_all(bytes, 0);
    let [first, _] = half_steps(d, _mm256_and_si256(both, _mm256_set1_epi32(15)), 0.25);
    let [second, _] = half_steps(d, _mm256_srli_epi32::<4>(both), 0.25);
    [first, second]
}

pub(super) struct Iq2Xxs;

impl Block for Iq2Xxs {
    const BYTES: usize = 66;
    const OFFSET: i32 = 64;
    const MOST: i32 = 64 + 43;
    const ORDER: Order = Order::Pairs;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let numbers = _mm512_cvtepu8_epi16(_mm512_cvtepi64_epi32(load64(bytes, 2)));
        let codes = codes_iq2_xxs(numbers);
        let words = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(load64(bytes, 2)));
        let codes = signed(codes, 64, signs_of_words(words));
        let scales = half_steps(f16_all(bytes, 0), _mm256_srli_epi32::<28>(words), 0.25);
        Group { codes, scales, mins: no_mins() }
    }
}

pub(super) struct Iq2Xs;

impl Block for Iq2Xs {
    const BYTES: usize = 74;
    const OFFSET: i32 = 64;
    const MOST: i32 = 64 + 43;
    const HALVES: bool = true;
    const ORDER: Order = Order::Pairs;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let codes = codes_iq2_xs(load64(bytes, 2));
        let sevens = _mm512_cvtepi16_epi8(_mm512_srli_epi16::<9>(load64(bytes, 2)));
        let codes = signed(codes, 64, eight_signs(sevens));
        Group { codes, scales: scales_iq2(bytes, 66), mins: no_mins() }
    }
}

pub(super) struct Iq2S;

impl Block for Iq2S {
    const BYTES: usize = 82;
    const OFFSET: i32 = 64;
    const MOST: i32 = 64 + 43;
    const HALVES: bool = true;
    const ORDER: Order = Order::Pairs;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let low = _mm512_cvtepu8_epi16(load32(bytes, 2));
        // Two upper bits for each of the four words of a block.
        let high = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(u64_at(bytes, 66) as i64));
        let shifts = _mm512_set1_epi64(0x0002_0004_0006_0008);
        let high = _mm512_sllv_epi16(four_times(high), shifts);
        let high = _mm512_and_si512(high, _mm512_set1_epi16(0x300));
        let codes = codes_iq2_s(_mm512_or_si512(low, high));
        let codes = signed(codes, 64, signs_in_pairs(load32(bytes, 34)));
        Group { codes, scales: scales_iq2(bytes, 74), mins: no_mins() }
    }
}

/// Each of eight 16-bit numbers four times.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn four_times(x: __m128i) -> __m512i {
    let once = _mm512_cvtepu16_epi64(x);
    let twice = _mm512_or_si512(once, _mm512_slli_epi64::<16>(once));
    _mm512_or_si512(twice, _mm512_slli_epi64::<32>(twice))
}

pub(super) struct Iq3Xxs;

impl Block for Iq3Xxs {
    const BYTES: usize = 98;
    const OFFSET: i32 = 64;
    const MOST: i32 = 64 + 62;
    const ORDER: Order = Order::Pairs;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let words = load32(bytes, 66);
        let codes = codes_iq3_xxs(load64(bytes, 2));
        let codes = signed(codes, 64, signs_of_words(words));
        let scales = half_steps(f16_all(bytes, 0), _mm256_srli_epi32::<28>(words), 0.5);
        Group { codes, scales, mins: no_mins() }
    }
}

pub(super) struct Iq3S;

impl Block for Iq3S {
    const BYTES: usize = 110;
    const OFFSET: i32 = 16;
    const MOST: i32 = 31;
    const ORDER: Order = Order::Pairs;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let codes = codes_iq3_s(load64(bytes, 2), u64_at(bytes, 66));
        let codes = signed(codes, 16, signs_in_pairs(load32(bytes, 74)));
        let nibbles = _mm256_set1_epi32(u32_at(bytes, 106) as i32);
        let s = _mm256_srlv_epi32(nibbles, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let s = _mm256_and_si256(s, _mm256_set1_epi32(15));
        let odd =
            _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(s, s), _mm256_set1_epi32(1)));
        Group { codes, scales: [_mm256_mul_ps(f16_all(bytes, 0), odd); 2], mins: no_mins() }
    }
}

pub(super) struct Iq1S;

impl Block for Iq1S {
    const BYTES: usize = 50;
    const OFFSET: i32 = 16;
    const MOST: i32 = 25;
    const ORDER: Order = Order::Pairs;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let high = load16(bytes, 34);
        let numbers = {
            let shifts = _mm512_set1_epi64(0x0009_0006_0003_0000);
            let upper = _mm512_srlv_epi16(four_times(high), shifts);
            let upper = _mm512_and_si512(upper, _mm512_set1_epi16(7));
            let low = _mm512_cvtepu8_epi16(load32(bytes, 2));
            _mm512_or_si512(low, _mm512_slli_epi16::<8>(upper))
        };
        let mut codes = words_by(&IQ1, in_pairs(numbers));
        // An eighth up or down, the same for a block.
        let down = _mm512_srai_epi64::<63>(_mm512_slli_epi64::<48>(_mm512_cvtepu16_epi64(high)));
        let shift = _mm512_or_si512(down, _mm512_set1_epi8(1));
        for codes in &mut codes {
            *codes = _mm512_add_epi8(*codes, shift);
        }
        let s = _mm256_srli_epi32::<12>(_mm256_cvtepu16_epi32(high));
        let s = _mm256_and_si256(s, _mm256_set1_epi32(7));
        let scales = [odd_eighths(f16_all(bytes, 0), s); 2];
        Group { codes, scales, mins: no_mins() }
    }
}

/// `d * (2 s + 1) / 8`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn odd_eighths(d: __m256, s: __m256i) -> __m256 {
    let odd = _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(s, s), _mm256_set1_epi32(1)));
    _mm256_mul_ps(_mm256_mul_ps(d, odd), _mm256_set1_ps(0.125))
}

pub(super) struct Iq1M;

impl Block for Iq1M {
    const BYTES: usize = 56;
    const OFFSET: i32 = 16;
    const MOST: i32 = 25;
    const HALVES: bool = true;
    const ORDER: Order = Order::Pairs;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // Nibbles: three upper bits of a number, and whether the word moves an eighth down.
        let high = _mm512_cvtepu8_epi32(load16(bytes, 32));
        let high = _mm512_or_si512(high, _mm512_slli_epi32::<12>(high));
        let high = in_pairs(high);
        let upper = _mm512_and_si512(high, _mm512_set1_epi16(7));
        let low = in_pairs(_mm512_cvtepu8_epi16(load32(bytes, 0)));
        let mut codes = words_by(&IQ1, _mm512_or_si512(low, _mm512_slli_epi16::<8>(upper)));
        let down = _mm512_test_epi16_mask(high, _mm512_set1_epi16(8));
        for (j, codes) in codes.iter_mut().enumerate() {
            let up = _mm512_set1_epi8(1);
            let down = (down >> (8 * j)) as u8;
            let shift = _mm512_mask_set1_epi64(up, down, -1);
            *codes = _mm512_add_epi8(*codes, shift);
        }
        Group { codes, scales: scales_iq1_m(u64_at(bytes, 48)), mins: no_mins() }
    }
}

/// Sixteen scales of three bits, four in each of four 16-bit numbers, whose upper four bits are those
/// of the scale of them all.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scales_iq1_m(packed: u64) -> [__m256; 2] {
    let d = packed >> 12 & 0xf | packed >> 24 & 0xf0 | packed >> 36 & 0xf00 | packed >> 48 & 0xf000;
    let d = _mm256_cvtph_ps(_mm_set1_epi16(d as i16));
    let four = _mm_cvtsi64_si128(packed as i64);
    let order = _mm_setr_epi8(0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7);
    let of_blocks = _mm256_cvtepu16_epi32(_mm_shuffle_epi8(four, order));
    let scales = |first: i32| {
        let (even, odd) = (first, first + 6);
        let shifts = _mm256_setr_epi32(even, odd, even, odd, even, odd, even, odd);
        let s = _mm256_and_si256(_mm256_srlv_epi32(of_blocks, shifts), _mm256_set1_epi32(7));
        odd_eighths(d, s)
    };
    [scales(0), scales(3)]
}
