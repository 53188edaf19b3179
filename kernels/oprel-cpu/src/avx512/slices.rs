//! Slices: 256 weights of 32 rows, rows side by side in registers, in first-level cache.
//!
//! A slice is made and used at once, so codes may stay packed in it: what takes them out of a register
//! runs beside the products.

use super::blocks::Block;
use super::panel::LANES;
use crate::act::BLOCKS;
use std::arch::x86_64::*;

/// A type of which a few tokens meet slices.
pub(super) trait Sliced: Block {
    /// From how many tokens on: fewer meet one row after the other, which memory likes better. (As
    /// measured.)
    const FROM: usize;
    /// What codes of a slice are multiplied by, in each block: powers of two, which scales make up for.
    const TIMES: [i32; BLOCKS] = [1; BLOCKS];

    /// Puts [`Block::BYTES`] of 16 rows into their half of a slice.
    ///
    /// # Safety
    /// As [`Block::group`].
    unsafe fn slice(rows: Sixteen<'_>, to: Half<'_>);

    /// Codes of word `quarter` of block `lane`, of both halves of a slice; unsigned, and times
    /// [`Sliced::TIMES`].
    ///
    /// # Safety
    /// As [`Block::group`].
    unsafe fn codes(slice: &Slice, lane: usize, quarter: usize) -> [__m512i; 2];
}

/// The same 256 weights of 16 rows, as stored: each so many bytes after the one before.
#[derive(Clone, Copy)]
pub(super) struct Sixteen<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Sixteen<'a> {
    /// Rows of which the first begins where `bytes` do.
    pub(super) fn new(bytes: &'a [u8], stride: usize) -> Sixteen<'a> {
        Sixteen { bytes, stride }
    }
}

/// 256 weights of 32 rows. A type writes what it reads again, and no more.
pub(super) struct Slice {
    /// As the type packs them ([`Sliced::codes`]): words of two registers of rows.
    pub(super) codes: [[__m512i; 2]; 64],
    /// Scales of blocks, numbers or integers as the type's; where halves have their own, of first halves, then of second ones.
    pub(super) scales: [[__m512; 2]; 2 * BLOCKS],
    /// Minima of types with minima, two blocks in a word.
    pub(super) mins: [[__m512; 2]; 2 * BLOCKS],
    /// What scales and minima are multiplied by, of types where these are integers; scales are times the
    /// largest of [`Sliced::TIMES`] then, and this is divided by it.
    pub(super) numbers: [[__m512; 2]; 2],
}

impl Slice {
    /// Weights of zero.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn zero() -> Slice {
        let vectors = [[_mm512_setzero_ps(); 2]; 2 * BLOCKS];
        let codes = [[_mm512_setzero_si512(); 2]; 64];
        Slice { codes, scales: vectors, mins: vectors, numbers: [[_mm512_setzero_ps(); 2]; 2] }
    }
}

/// One register of rows of a slice that is being made.
pub(super) struct Half<'a> {
    slice: &'a mut Slice,
    r: usize,
}

impl<'a> Half<'a> {
    /// Register `r` of the two.
    pub(super) fn new(slice: &'a mut Slice, r: usize) -> Half<'a> {
        Half { slice, r }
    }

    /// Writes word `i` of the codes.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn put_codes(&mut self, i: usize, word: __m512i) {
        self.slice.codes[i][self.r] = word;
    }

    /// Writes scales of block `i`, or of the second half of block `i - BLOCKS`.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn put_scales(&mut self, i: usize, scales: __m512) {
        self.slice.scales[i][self.r] = scales;
    }

    /// Writes what multiplies scales and minima.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn put_numbers(&mut self, d: __m512, d_min: __m512) {
        self.slice.numbers[0][self.r] = d;
        self.slice.numbers[1][self.r] = d_min;
    }

    /// Writes minima of blocks `2 * i` and `2 * i + 1`, the latter in the upper halves of words.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn put_mins(&mut self, i: usize, mins: __m512) {
        self.slice.mins[i][self.r] = mins;
    }
}

/// Words of 16 rows: `N` times four columns, of the 16 `N` bytes at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn columns<const N: usize>(rows: Sixteen<'_>, at: usize) -> [[__m512i; 4]; N] {
    let Sixteen { bytes, stride } = rows;
    let bytes = &bytes[at..(LANES - 1) * stride + at + 16 * N];
    let mut out = [[_mm512_setzero_si512(); 4]; N];
    for i in 0..4 {
        for n in 0..N {
            let sixteen = |row: usize| {
                let at = bytes.as_ptr().wrapping_add(row * stride + 16 * n);
                // SAFETY: 16 rows of 16 N bytes are there, as the slice was cut.
                unsafe { _mm_loadu_si128(at.cast()) }
            };
            // Each 128 bits: a row, four rows after the one before. (Loads under a mask leave the ports
            // for shuffles free, which insertions do not.)
            let mut x = _mm512_castsi128_si512(sixteen(i));
            x = _mm512_mask_broadcast_i32x4(x, 0x00f0, sixteen(4 + i));
            x = _mm512_mask_broadcast_i32x4(x, 0x0f00, sixteen(8 + i));
            out[n][i] = _mm512_mask_broadcast_i32x4(x, 0xf000, sixteen(12 + i));
        }
    }
    for x in &mut out {
        *x = four_columns(x);
    }
    out
}

/// Columns of words of what each 128 bits of four registers hold.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn four_columns(x: &[__m512i; 4]) -> [__m512i; 4] {
    let (a, b) = (_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
    let (c, d) = (_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
    [
        _mm512_unpacklo_epi64(a, c),
        _mm512_unpackhi_epi64(a, c),
        _mm512_unpacklo_epi64(b, d),
        _mm512_unpackhi_epi64(b, d),
    ]
}

/// 16-bit numbers in the lower halves of words, as f32.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn f16_low(x: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x))
}

/// 16-bit numbers in the upper halves of words, as f32.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn f16_high(x: __m512i) -> __m512 {
    f16_low(_mm512_srli_epi32::<16>(x))
}

/// A table's number for a block, in all lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn of_lane(table: &[i32; BLOCKS], lane: usize) -> __m512i {
    _mm512_set1_epi32(table[lane % BLOCKS])
}

/// Word `at` of both registers of rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn word(slice: &Slice, at: usize) -> [__m512i; 2] {
    slice.codes[at % 64]
}

/// Words of 16 `N` bytes at `at`, to those of a slice from `first` on.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn put_words<const N: usize>(
    rows: Sixteen<'_>,
    at: usize,
    to: &mut Half<'_>,
    first: usize,
) {
    for (i, columns) in columns::<N>(rows, at).as_flattened().iter().enumerate() {
        to.put_codes(first + i, *columns);
    }
}
