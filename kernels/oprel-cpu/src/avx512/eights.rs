//! Codebooks of words of eight codes, of IQ2: a word is eight digits of two bits, and so, as in
//! [`fours`](super::fours), 64 words are two registers, out of which one instruction picks 32.

use super::blocks::half_words;
use super::fours::{Digits, of_256};
use oprel_quant::codebook;
use std::arch::x86_64::*;

/// Words of IQ2_XXS.
static IQ2_XXS: Digits<256> = Digits(digits(&codebook::IQ2_XXS));
/// Words of IQ2_XS.
static IQ2_XS: Digits<512> = Digits(digits(&codebook::IQ2_XS));
/// Words of IQ2_S.
static IQ2_S: Digits<1024> = Digits(digits(&codebook::IQ2_S));
/// What digits stand for, 64 above.
const VALUES: [u8; 16] = [64 + 8, 64 + 25, 64 + 43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Words as digits: the even ones in the lower byte, the odd ones in the upper.
const fn digits<const N: usize>(words: &[[i8; 8]; N]) -> [u16; N] {
    let mut numbers = [0; N];
    let mut i = 0;
    while i < 8 * N {
        let (word, at) = (i / 8, i % 8);
        let digit = match words[word][at] {
            8 => 0,
            25 => 1,
            _ => 2,
        };
        numbers[word] |= digit << (at / 2 * 2 + at % 2 * 8);
        i += 1;
    }
    numbers
}

/// Codes of IQ2_XXS, 64 above, for the words of these numbers, in [`Order::Pairs`].
///
/// [`Order::Pairs`]: super::blocks::Order::Pairs
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn codes_iq2_xxs(numbers: __m512i) -> [__m512i; 4] {
    spread(of_256(&IQ2_XXS.0, numbers))
}

/// The same of IQ2_XS.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn codes_iq2_xs(numbers: __m512i) -> [__m512i; 4] {
    spread(of_512(&IQ2_XS.0, numbers))
}

/// The same of IQ2_S.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn codes_iq2_s(numbers: __m512i) -> [__m512i; 4] {
    let (low, high) = IQ2_S.0.split_at(512);
    let tenth = _mm512_test_epi16_mask(numbers, _mm512_set1_epi16(512));
    spread(_mm512_mask_mov_epi16(of_512(low, numbers), tenth, of_512(high, numbers)))
}

/// The words of these numbers out of 512.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn of_512(book: &[u16], numbers: __m512i) -> __m512i {
    let (low, high) = book.split_at(256);
    let ninth = _mm512_test_epi16_mask(numbers, _mm512_set1_epi16(256));
    _mm512_mask_mov_epi16(of_256(low, numbers), ninth, of_256(high, numbers))
}

/// What the digits of 32 words stand for, in [`Order::Pairs`](super::blocks::Order::Pairs).
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn spread(all: __m512i) -> [__m512i; 4] {
    // SAFETY: an array of 16 bytes is read.
    let values = unsafe { _mm_loadu_si128(VALUES.as_ptr().cast()) };
    let values = _mm512_broadcast_i32x4(values);
    let shifts = _mm512_set1_epi64(0x0006_0004_0002_0000);
    let mut codes = [all; 4];
    for w in 0..4 {
        // A word four times, for its four pairs of digits.
        let four_times = _mm512_permutexvar_epi16(half_words(&FOUR_TIMES[w]), all);
        let digits = _mm512_and_si512(_mm512_srlv_epi16(four_times, shifts), _mm512_set1_epi8(3));
        codes[w] = _mm512_shuffle_epi8(values, digits);
    }
    codes
}

/// Which words come four times in each register.
const FOUR_TIMES: [[i16; 32]; 4] = {
    let mut words = [[0; 32]; 4];
    let mut i = 0;
    while i < 128 {
        words[i / 32][i % 32] = (i % 32 / 4 * 4 + i / 32) as i16;
        i += 1;
    }
    words
};
