//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 weights with one scale.

use super::blocks::{Block, Group, Order, f16_of_blocks, half_words, load32, load64, no_mins};
use super::slices::{Half, Sixteen, Slice, Sliced, columns, f16_low, put_words, word};
use crate::act::BLOCKS;
use std::arch::x86_64::*;

/// Eight blocks with 32 codes of four bits in 16 bytes: where they are.
pub(super) trait Nibbles {
    /// Bytes of a block.
    const STEP: usize;
    /// Where in a block the codes begin.
    const CODES: usize;
    /// Where the fifth bits of codes begin, if there are any.
    const FIFTH: usize = 0;
    /// 16-bit words of the blocks' codes.
    const CODE_WORDS: [[i16; 32]; 2] = code_words(Self::STEP, Self::CODES);
    /// 16-bit words of the rest.
    const HEAD_WORDS: [[i16; 32]; 2] = head_words(Self::STEP, Self::FIFTH);
}

/// Where the 128 bytes begin that hold the first four blocks, or the last four.
const fn window(step: usize, which: usize) -> usize {
    if which == 0 { 0 } else { BLOCKS * step - 128 }
}

/// Which 16-bit words of the 128 bytes are the codes of four blocks.
const fn code_words(step: usize, codes: usize) -> [[i16; 32]; 2] {
    let mut words = [[0; 32]; 2];
    let mut i = 0;
    while i < 64 {
        let (block, word) = (i / 8, i % 8);
        let which = block / 4;
        let byte = block * step + codes + 2 * word - window(step, which);
        words[which][i % 32] = (byte / 2) as i16;
        i += 1;
    }
    words
}

/// Which 16-bit words of the 128 bytes are the scales of four blocks, the minima behind them, the
/// first halves of fifth bits, the second halves.
const fn head_words(step: usize, fifth: usize) -> [[i16; 32]; 2] {
    let mut words = [[0; 32]; 2];
    let mut i = 0;
    while i < 32 {
        let (which, part, block) = (i / 16, i / 4 % 4, i / 16 * 4 + i % 4);
        let within = [0, 2, fifth, fifth + 2][part];
        words[which][i % 16] = ((block * step + within - window(step, which)) / 2) as i16;
        i += 1;
    }
    words
}

/// Eight blocks.
pub(super) struct Eight {
    /// Codes without their fifth bits, in [`Order::Quads`].
    pub(super) codes: [__m512i; 4],
    pub(super) scales: __m256,
    /// Numbers behind the scales.
    mins: __m256,
    /// Fifth bits.
    fifth: [u64; 4],
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn eight<T: Nibbles>(bytes: &[u8]) -> Eight {
    let second = const { window(T::STEP, 1) };
    let (a, b) = (load64(bytes, 0), load64(bytes, 64));
    let (c, d) = (load64(bytes, second), load64(bytes, second + 64));
    let x = _mm512_permutex2var_epi16(a, half_words(const { &T::CODE_WORDS[0] }), b);
    let y = _mm512_permutex2var_epi16(c, half_words(const { &T::CODE_WORDS[1] }), d);
    let nibble = _mm512_set1_epi8(15);
    let codes = [
        _mm512_and_si512(x, nibble),
        _mm512_and_si512(_mm512_srli_epi16::<4>(x), nibble),
        _mm512_and_si512(y, nibble),
        _mm512_and_si512(_mm512_srli_epi16::<4>(y), nibble),
    ];
    let first = _mm512_permutex2var_epi16(a, half_words(const { &T::HEAD_WORDS[0] }), b);
    let second = _mm512_permutex2var_epi16(c, half_words(const { &T::HEAD_WORDS[1] }), d);
    let (p, q) = (_mm512_castsi512_si128(first), _mm512_castsi512_si128(second));
    let bits = |x: __m512i| {
        let x = _mm256_extracti128_si256::<1>(_mm512_castsi512_si256(x));
        [_mm_cvtsi128_si64(x) as u64, _mm_extract_epi64::<1>(x) as u64]
    };
    let ([e, f], [g, h]) = (bits(first), bits(second));
    Eight {
        codes,
        scales: _mm256_cvtph_ps(_mm_unpacklo_epi64(p, q)),
        mins: _mm256_cvtph_ps(_mm_unpackhi_epi64(p, q)),
        fifth: [e, f, g, h],
    }
}

/// `codes`, and 16 more where bits are set.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_fifth(codes: [__m512i; 4], bits: [u64; 4]) -> [__m512i; 4] {
    let mut sums = codes;
    for i in 0..4 {
        sums[i] = _mm512_mask_add_epi8(codes[i], bits[i], codes[i], _mm512_set1_epi8(16));
    }
    sums
}

pub(super) struct Q4_0;

impl Nibbles for Q4_0 {
    const STEP: usize = 18;
    const CODES: usize = 2;
}

impl Block for Q4_0 {
    const BYTES: usize = 8 * 18;
    const OFFSET: i32 = 8;
    const MOST: i32 = 15;
    const ORDER: Order = Order::Quads;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let w = eight::<Self>(bytes);
        Group { codes: w.codes, scales: [w.scales; 2], mins: no_mins() }
    }
}

impl Sliced for Q4_0 {
    const FROM: usize = 4;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn slice(rows: Sixteen<'_>, mut to: Half<'_>) {
        for b in 0..BLOCKS {
            let [[number, ..]] = columns::<1>(rows, 18 * b);
            to.put_scales(b, f16_low(number));
            put_words::<1>(rows, 18 * b + 2, &mut to, 4 * b);
        }
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn codes(slice: &Slice, lane: usize, quarter: usize) -> [__m512i; 2] {
        let mut codes = word(slice, 4 * lane + quarter % 4);
        for codes in &mut codes {
            if quarter >= 4 {
                *codes = _mm512_srli_epi32::<4>(*codes);
            }
            *codes = _mm512_and_si512(*codes, _mm512_set1_epi8(15));
        }
        codes
    }
}

pub(super) struct Q4_1;

impl Nibbles for Q4_1 {
    const STEP: usize = 20;
    const CODES: usize = 4;
}

impl Block for Q4_1 {
    const BYTES: usize = 8 * 20;
    const OFFSET: i32 = 0;
    const MOST: i32 = 15;
    const MINS: bool = true;
    const ORDER: Order = Order::Quads;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let w = eight::<Self>(bytes);
        Group { codes: w.codes, scales: [w.scales; 2], mins: [w.mins; 2] }
    }
}

pub(super) struct Q5_0;

impl Nibbles for Q5_0 {
    const STEP: usize = 22;
    const CODES: usize = 6;
    const FIFTH: usize = 2;
}

impl Block for Q5_0 {
    const BYTES: usize = 8 * 22;
    const OFFSET: i32 = 16;
    const MOST: i32 = 31;
    const ORDER: Order = Order::Quads;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let w = eight::<Self>(bytes);
        Group { codes: add_fifth(w.codes, w.fifth), scales: [w.scales; 2], mins: no_mins() }
    }
}

pub(super) struct Q5_1;

impl Nibbles for Q5_1 {
    const STEP: usize = 24;
    const CODES: usize = 8;
    const FIFTH: usize = 4;
}

impl Block for Q5_1 {
    const BYTES: usize = 8 * 24;
    const OFFSET: i32 = 0;
    const MOST: i32 = 31;
    const MINS: bool = true;
    const ORDER: Order = Order::Quads;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let w = eight::<Self>(bytes);
        Group { codes: add_fifth(w.codes, w.fifth), scales: [w.scales; 2], mins: [w.mins; 2] }
    }
}

pub(super) struct Q8_0;

impl Block for Q8_0 {
    const BYTES: usize = 8 * 34;
    const OFFSET: i32 = 128;
    const MOST: i32 = 255;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let codes = |b: usize| {
            let first = _mm512_castsi256_si512(load32(bytes, b * 34 + 2));
            let both = _mm512_inserti64x4::<1>(first, load32(bytes, b * 34 + 36));
            _mm512_xor_si512(both, _mm512_set1_epi8(-128))
        };
        let codes = [codes(0), codes(2), codes(4), codes(6)];
        Group { codes, scales: [f16_of_blocks::<34>(bytes, 0); 2], mins: no_mins() }
    }
}

impl Sliced for Q8_0 {
    const FROM: usize = 5;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn slice(rows: Sixteen<'_>, mut to: Half<'_>) {
        for b in 0..BLOCKS {
            let [[number, ..]] = columns::<1>(rows, 34 * b);
            to.put_scales(b, f16_low(number));
            let columns = columns::<2>(rows, 34 * b + 2);
            for (i, codes) in columns.as_flattened().iter().enumerate() {
                to.put_codes(8 * b + i, _mm512_xor_si512(*codes, _mm512_set1_epi8(-128)));
            }
        }
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn codes(slice: &Slice, lane: usize, quarter: usize) -> [__m512i; 2] {
        word(slice, 8 * lane + quarter)
    }
}
