//! Codebooks of words of four codes, of IQ3: a word is four digits in 16 bits, so that 64 words are two
//! registers, out of which one instruction picks 32.

use super::blocks::half_words;
use oprel_quant::codebook;
use std::arch::x86_64::*;

/// Words as digits: nibbles in the order 0, 2, 1, 3.
#[repr(align(64))]
pub(super) struct Digits<const N: usize>(pub(super) [u16; N]);

/// Words of IQ3_XXS.
static IQ3_XXS: Digits<256> = Digits(digits(&codebook::IQ3_XXS, 8));
/// Words of IQ3_S, whose digits are the values.
static IQ3_S: Digits<512> = Digits(digits(&codebook::IQ3_S, 1));
/// What the digits of IQ3_XXS stand for, 64 above.
const IQ3_XXS_VALUES: [u8; 16] = [68, 76, 84, 92, 100, 108, 116, 126, 0, 0, 0, 0, 0, 0, 0, 0];

/// Words whose digits are their values over `unit`.
const fn digits<const N: usize>(words: &[[i8; 4]; N], unit: i8) -> [u16; N] {
    let mut numbers = [0; N];
    let mut i = 0;
    while i < N {
        let [a, b, c, d] = words[i];
        let low = (a / unit) as u8 | ((c / unit) as u8) << 4;
        let high = (b / unit) as u8 | ((d / unit) as u8) << 4;
        numbers[i] = u16::from_le_bytes([low, high]);
        i += 1;
    }
    numbers
}

/// Codes of IQ3_XXS, 64 above, for the words of these numbers, in [`Order::Pairs`].
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn codes_iq3_xxs(numbers: __m512i) -> [__m512i; 4] {
    let [first, second] = halves(numbers);
    // SAFETY: an array of 16 bytes is read.
    let table = unsafe { _mm_loadu_si128(IQ3_XXS_VALUES.as_ptr().cast()) };
    let table = _mm512_broadcast_i32x4(table);
    let mut codes = spread(of_256(&IQ3_XXS.0, first), of_256(&IQ3_XXS.0, second));
    for w in 0..4 {
        codes[w] = _mm512_shuffle_epi8(table, codes[w]);
    }
    codes
}

/// Codes of IQ3_S, 16 above, for the words of these numbers, whose ninth bits are in `ninth`, in
/// [`Order::Pairs`].
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn codes_iq3_s(numbers: __m512i, ninth: u64) -> [__m512i; 4] {
    let (low, high) = IQ3_S.0.split_at(256);
    let [first, second] = halves(numbers);
    let word = |numbers: __m512i, ninth: u32| {
        _mm512_mask_mov_epi16(of_256(low, numbers), ninth, of_256(high, numbers))
    };
    let mut codes = spread(word(first, ninth as u32), word(second, (ninth >> 32) as u32));
    for w in 0..4 {
        codes[w] = _mm512_or_si512(codes[w], _mm512_set1_epi8(16));
    }
    codes
}

/// Bytes as 16-bit numbers.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn halves(bytes: __m512i) -> [__m512i; 2] {
    [
        _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes)),
        _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(bytes)),
    ]
}

/// The words of these numbers out of 256.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn of_256(book: &[u16], numbers: __m512i) -> __m512i {
    let (parts, _) = book.as_chunks::<32>();
    let of_64 = |i: usize| {
        // SAFETY: arrays of 64 bytes are read.
        let part = |i: usize| unsafe { _mm512_loadu_si512(parts[i].as_ptr().cast()) };
        _mm512_permutex2var_epi16(part(2 * i), numbers, part(2 * i + 1))
    };
    let seventh = _mm512_test_epi16_mask(numbers, _mm512_set1_epi16(64));
    let eighth = _mm512_test_epi16_mask(numbers, _mm512_set1_epi16(128));
    let low = _mm512_mask_mov_epi16(of_64(0), seventh, of_64(1));
    let high = _mm512_mask_mov_epi16(of_64(2), seventh, of_64(3));
    _mm512_mask_mov_epi16(low, eighth, high)
}

/// Digits as bytes in [`Order::Pairs`], of 64 words that are as weights are.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn spread(first: __m512i, second: __m512i) -> [__m512i; 4] {
    let mut digits = [first; 4];
    for w in 0..4 {
        // A word twice, for its two pairs of digits.
        let twice = _mm512_permutex2var_epi16(first, half_words(&TWICE[w]), second);
        let shifted = _mm512_srlv_epi16(twice, _mm512_set1_epi32(4 << 16));
        digits[w] = _mm512_and_si512(shifted, _mm512_set1_epi8(15));
    }
    digits
}

/// Which words come twice in each register.
const TWICE: [[i16; 32]; 4] = {
    let mut words = [[0; 32]; 4];
    let mut i = 0;
    while i < 128 {
        let (w, block, word) = (i / 32, i % 32 / 4, i % 4 / 2);
        words[w][i % 32] = (8 * block + 2 * w + word) as i16;
        i += 1;
    }
    words
};
