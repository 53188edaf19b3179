//! The k-quants: blocks of 256 weights.

use super::blocks::{
    Block, Group, Order, Raw, integer_halves, load16, load32, load32_twice, load64, no_mins,
    of_halves, plain, words,
};
use super::slices::{
    Half, Sixteen, Slice, Sliced, columns, f16_high, f16_low, of_lane, put_words, word,
};
use crate::act::BLOCKS;
use std::arch::x86_64::*;

/// `bytes >> shift & mask`, shifted by `first` in the first 32 bytes and by `second` in the others;
/// `mask` must drop what comes from the byte above.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn fields(bytes: __m512i, first: i16, second: i16, mask: i8) -> __m512i {
    let shifts = _mm512_inserti64x4::<1>(_mm512_set1_epi16(first), _mm256_set1_epi16(second));
    _mm512_and_si512(_mm512_srlv_epi16(bytes, shifts), _mm512_set1_epi8(mask))
}

/// `a | b & c` of three registers.
const OR_AND: i32 = 0xf8;

/// For each register of [`Order::Lanes`] and each of its places: where the word is that holds it.
type Table = [[i32; 16]; 4];

/// A [`Table`] of words that are `of_half` for the first half of a block, `of_half + 4` for the
/// second one.
const fn table(of_half: [i32; BLOCKS]) -> Table {
    let mut table = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        let (q, half, lane) = (i / 16, i / 8 % 2, i % BLOCKS);
        table[q][half * BLOCKS + lane] = of_half[lane] + 4 * half as i32 + q as i32;
        i += 1;
    }
    table
}

/// Bytes of a mask for each block, in both halves.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn masks(of_block: u64) -> __m512i {
    let masks = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(of_block as i64));
    _mm512_broadcast_i64x4(_mm256_mullo_epi32(masks, _mm256_set1_epi32(0x0101_0101)))
}

/// Nibbles of 128 bytes: of each 32 the low ones are a block, the high ones the next.
const NIBBLES: Table = table([0, 0, 8, 8, 16, 16, 24, 24]);
/// How far those are shifted up.
const NIBBLE_SHIFTS: [i32; BLOCKS] = [0, 4, 0, 4, 0, 4, 0, 4];
/// Two-bit fields of 64 bytes: of each 32 a block by place.
const BIT_PAIRS: Table = table([0, 0, 0, 0, 8, 8, 8, 8]);
/// How far those are shifted up.
pub(super) const PAIR_SHIFTS: [i32; BLOCKS] = [0, 2, 4, 6, 0, 2, 4, 6];
/// Bits of 32 bytes: a block by place.
const BITS: Table = table([0; BLOCKS]);

/// Nibbles of 128 bytes, shifted up.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn raw_nibbles(bytes: &[u8], at: usize) -> [__m512i; 4] {
    let (first, second) = (load64(bytes, at), load64(bytes, at + 64));
    let mask = masks(0xf00f_f00f_f00f_f00f);
    let mut codes = [first; 4];
    for q in 0..4 {
        let bytes = _mm512_permutex2var_epi32(first, words(&NIBBLES[q]), second);
        codes[q] = _mm512_and_si512(bytes, mask);
    }
    codes
}

/// Two-bit fields of 64 bytes, shifted up.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn raw_pairs_of_bits(bytes: &[u8], at: usize) -> [__m512i; 4] {
    let bytes = load64(bytes, at);
    let mask = masks(0xc030_0c03_c030_0c03);
    let mut codes = [bytes; 4];
    for q in 0..4 {
        let bytes = _mm512_permutexvar_epi32(words(&BIT_PAIRS[q]), bytes);
        codes[q] = _mm512_and_si512(bytes, mask);
    }
    codes
}

/// Bits of 32 bytes, shifted up by their block.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn raw_bits(bytes: &[u8], at: usize) -> [__m512i; 4] {
    let bytes = _mm512_castsi256_si512(load32(bytes, at));
    let mask = masks(0x8040_2010_0804_0201);
    let mut bits = [bytes; 4];
    for q in 0..4 {
        let bytes = _mm512_permutexvar_epi32(words(&BITS[q]), bytes);
        bits[q] = _mm512_and_si512(bytes, mask);
    }
    bits
}

/// No upper bits apart.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn no_upper() -> [__m512i; 4] {
    [_mm512_setzero_si512(); 4]
}

/// Scales and minima of Q4_K and Q5_K, from the first 16 bytes: two numbers, then eight scales and
/// eight minima of six bits.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scales_and_mins(bytes: &[u8]) -> [__m256; 2] {
    let head = load16(bytes, 0);
    // Words: four scales, four minima, and the low nibbles of four more of each, whose high bits
    // are the top bits of the first ones.
    let low = _mm_shuffle_epi32::<0b11_10_11_01>(head);
    let low = _mm_srlv_epi32(low, _mm_setr_epi32(0, 0, 0, 4));
    let low =
        _mm_and_si128(low, _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
    let high = _mm_srli_epi16::<2>(_mm_shuffle_epi32::<0b10_00_01_00>(head));
    let high = _mm_and_si128(high, _mm_setr_epi32(0, 0x3030_3030, 0, 0x3030_3030));
    integer_halves(_mm512_cvtepu8_epi32(_mm_or_si128(low, high)))
}

/// Scales and minima of Q4_K and Q5_K of 16 rows; scales of even blocks times 2 to the power of `up`, and
/// the number that multiplies all of them divided by that.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put_heads(rows: Sixteen<'_>, up: u32, to: &mut Half<'_>) {
    let [[numbers, a, b, c]] = columns::<1>(rows, 0);
    let down = _mm512_set1_ps(1.0 / (1 << up) as f32);
    to.put_numbers(_mm512_mul_ps(f16_low(numbers), down), f16_high(numbers));
    let top = |x| _mm512_and_si512(_mm512_srli_epi32::<2>(x), _mm512_set1_epi8(0x30));
    let (six, nibble) = (_mm512_set1_epi8(0x3f), _mm512_set1_epi8(15));
    let upper = _mm512_srli_epi32::<4>(c);
    let scales = [_mm512_and_si512(a, six), _mm512_or_si512(_mm512_and_si512(c, nibble), top(a))];
    let mins = [_mm512_and_si512(b, six), _mm512_or_si512(_mm512_and_si512(upper, nibble), top(b))];
    for i in 0..BLOCKS {
        let low = _mm512_srlv_epi32(scales[i / 4], _mm512_set1_epi32(8 * (i as i32 % 4)));
        let scale = _mm512_and_si512(low, _mm512_set1_epi32(0xff));
        let up = if i.is_multiple_of(2) { up } else { 0 };
        to.put_scales(
            i,
            _mm512_castsi512_ps(_mm512_sllv_epi32(scale, _mm512_set1_epi32(up as i32))),
        );
    }
    for i in 0..BLOCKS / 2 {
        let two = _mm512_srlv_epi32(mins[i / 2], _mm512_set1_epi32(16 * (i as i32 % 2)));
        let first = _mm512_and_si512(two, _mm512_set1_epi32(0xff));
        let second = _mm512_and_si512(_mm512_slli_epi32::<8>(two), _mm512_set1_epi32(0x00ff_0000));
        to.put_mins(i, _mm512_castsi512_ps(_mm512_or_si512(first, second)));
    }
}

pub(super) struct Q4K;

impl Block for Q4K {
    const BYTES: usize = 144;
    const OFFSET: i32 = 0;
    const MOST: i32 = 15;
    const MINS: bool = true;
    const ORDER: Order = Order::Lanes;
    const SHIFTS: Option<[i32; BLOCKS]> = Some(NIBBLE_SHIFTS);
    const WHOLE: bool = true;
    const NUMBERS: usize = 0;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // SAFETY: the CPU has the features, as the caller says.
        plain::<Self>(unsafe { Self::raw::<N, PLACE>(bytes) })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn raw<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Raw {
        let [scales, mins] = scales_and_mins(bytes);
        let codes = raw_nibbles(bytes, 16);
        Raw { codes, upper: no_upper(), scales: [scales; 2], mins: [mins; 2] }
    }
}

impl Sliced for Q4K {
    const FROM: usize = 4;
    const TIMES: [i32; BLOCKS] = [1, 16, 1, 16, 1, 16, 1, 16];

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn slice(rows: Sixteen<'_>, mut to: Half<'_>) {
        // Codes of odd blocks are left where they are.
        put_heads(rows, 4, &mut to);
        put_words::<4>(rows, 16, &mut to, 0);
        put_words::<4>(rows, 80, &mut to, 16);
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn codes(slice: &Slice, lane: usize, quarter: usize) -> [__m512i; 2] {
        let mut codes = word(slice, lane / 2 * 8 + quarter);
        let mask = _mm512_set1_epi8(if lane.is_multiple_of(2) { 15 } else { -16 });
        for codes in &mut codes {
            *codes = _mm512_and_si512(*codes, mask);
        }
        codes
    }
}

pub(super) struct Q5K;

impl Block for Q5K {
    const BYTES: usize = 176;
    const OFFSET: i32 = 0;
    const MOST: i32 = 31;
    const MINS: bool = true;
    const ORDER: Order = Order::Lanes;
    const SHIFTS: Option<[i32; BLOCKS]> = Some(NIBBLE_SHIFTS);
    const UPPER: Option<u32> = Some(4);
    const WHOLE: bool = true;
    const NUMBERS: usize = 0;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // SAFETY: the CPU has the features, as the caller says.
        plain::<Self>(unsafe { Self::raw::<N, PLACE>(bytes) })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn raw<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Raw {
        let [scales, mins] = scales_and_mins(bytes);
        let (codes, upper) = (raw_nibbles(bytes, 48), raw_bits(bytes, 16));
        Raw { codes, upper, scales: [scales; 2], mins: [mins; 2] }
    }
}

impl Sliced for Q5K {
    const FROM: usize = 5;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn slice(rows: Sixteen<'_>, mut to: Half<'_>) {
        put_heads(rows, 0, &mut to);
        put_words::<4>(rows, 48, &mut to, 0);
        put_words::<4>(rows, 112, &mut to, 16);
        put_words::<2>(rows, 16, &mut to, 32);
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn codes(slice: &Slice, lane: usize, quarter: usize) -> [__m512i; 2] {
        let low = word(slice, lane / 2 * 8 + quarter);
        let fifth = word(slice, 32 + quarter);
        let down = of_lane(&NIBBLE_SHIFTS, lane);
        let around = of_lane(&[28, 29, 30, 31, 0, 1, 2, 3], lane);
        let mut codes = low;
        for r in 0..2 {
            let low = _mm512_and_si512(_mm512_srlv_epi32(low[r], down), _mm512_set1_epi8(15));
            let fifth = _mm512_rorv_epi32(fifth[r], around);
            codes[r] = _mm512_ternarylogic_epi32::<OR_AND>(low, fifth, _mm512_set1_epi8(16));
        }
        codes
    }
}

pub(super) struct Q6K;

impl Block for Q6K {
    const BYTES: usize = 210;
    const OFFSET: i32 = 32;
    const MOST: i32 = 63;
    const HALVES: bool = true;
    const WHOLE: bool = true;
    const NUMBERS: usize = 208;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let mut codes = [_mm512_setzero_si512(); 4];
        for h in 0..2 {
            let low = load64(bytes, 64 * h);
            let high = load32_twice(bytes, 128 + 32 * h);
            let nibble = _mm512_set1_epi8(15);
            let first = _mm512_and_si512(low, nibble);
            let second = _mm512_and_si512(_mm512_srli_epi16::<4>(low), nibble);
            let left = _mm512_inserti64x4::<1>(_mm512_set1_epi16(4), _mm256_set1_epi16(2));
            let above = _mm512_and_si512(_mm512_sllv_epi16(high, left), _mm512_set1_epi8(0x30));
            codes[2 * h] = _mm512_or_si512(first, above);
            codes[2 * h + 1] = _mm512_or_si512(second, fields(high, 0, 2, 0x30));
        }
        let scales = integer_halves(_mm512_cvtepi8_epi32(of_halves(load16(bytes, 192))));
        Group { codes, scales, mins: no_mins() }
    }
}

impl Sliced for Q6K {
    const FROM: usize = 5;
    const TIMES: [i32; BLOCKS] = [1, 1, 1, 4, 1, 1, 1, 4];

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn slice(rows: Sixteen<'_>, mut to: Half<'_>) {
        // The four words of scales, and what ends with the number that multiplies them.
        let [[scales], [last]] = [columns::<1>(rows, 192), columns::<1>(rows, 194)];
        let d = _mm512_mul_ps(f16_high(last[3]), _mm512_set1_ps(0.25));
        to.put_numbers(d, _mm512_setzero_ps());
        for i in 0..16 {
            let up = _mm512_set1_epi32(24 - 8 * (i as i32 % 4));
            let scale = _mm512_srai_epi32::<24>(_mm512_sllv_epi32(scales[i / 4], up));
            // Four times the scale, where codes are not.
            let up = _mm512_set1_epi32(if Self::TIMES[i / 2] == 4 { 0 } else { 2 });
            let scale = _mm512_sllv_epi32(scale, up);
            to.put_scales(i % 2 * BLOCKS + i / 2, _mm512_castsi512_ps(scale));
        }
        put_words::<4>(rows, 0, &mut to, 0);
        put_words::<4>(rows, 64, &mut to, 16);
        put_words::<4>(rows, 128, &mut to, 32);
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn codes(slice: &Slice, lane: usize, quarter: usize) -> [__m512i; 2] {
        // Of low and high bits, one are where they should be, the others are moved around to them.
        let (half, place) = (lane / 4, lane % 4);
        let low = 16 * half + 8 * (place % 2) + quarter;
        let high = 32 + 8 * half + quarter;
        let (still, moved) = if place < 2 { (low, high) } else { (high, low) };
        let (still, moved) = (word(slice, still), word(slice, moved));
        let mask = of_lane(const { &bytes_of([15, 15, 0x30, 0xc0]) }, lane);
        let moved_mask = of_lane(const { &bytes_of([0x30, 0x30, 15, 0x3c]) }, lane);
        let around = of_lane(&[28, 30, 4, 2, 28, 30, 4, 2], lane);
        let mut codes = still;
        for r in 0..2 {
            let still = _mm512_and_si512(still[r], mask);
            let moved = _mm512_rorv_epi32(moved[r], around);
            codes[r] = _mm512_ternarylogic_epi32::<OR_AND>(still, moved, moved_mask);
        }
        codes
    }
}

/// Words of four times a byte, for four blocks and for four more.
const fn bytes_of(bytes: [i32; 4]) -> [i32; BLOCKS] {
    let mut words = [0; BLOCKS];
    let mut i = 0;
    while i < BLOCKS {
        words[i] = (bytes[i % 4] as u32 * 0x0101_0101) as i32;
        i += 1;
    }
    words
}

pub(super) struct Q2K;

impl Block for Q2K {
    const BYTES: usize = 84;
    const OFFSET: i32 = 0;
    const MOST: i32 = 3;
    const MINS: bool = true;
    const HALVES: bool = true;
    const ORDER: Order = Order::Lanes;
    const SHIFTS: Option<[i32; BLOCKS]> = Some(PAIR_SHIFTS);
    const WHOLE: bool = true;
    const NUMBERS: usize = 80;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // SAFETY: the CPU has the features, as the caller says.
        plain::<Self>(unsafe { Self::raw::<N, PLACE>(bytes) })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn raw<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Raw {
        // Each block: nibbles of the first scale, the first minimum, the second scale, the second
        // minimum.
        let four = _mm512_broadcast_i64x4(_mm256_cvtepu16_epi32(load16(bytes, 0)));
        let down = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi32(8));
        let four = _mm512_srlv_epi32(four, down);
        let nibble = _mm512_set1_epi32(15);
        Raw {
            codes: raw_pairs_of_bits(bytes, 16),
            upper: no_upper(),
            scales: integer_halves(_mm512_and_si512(four, nibble)),
            mins: integer_halves(_mm512_and_si512(_mm512_srli_epi32::<4>(four), nibble)),
        }
    }
}

pub(super) struct Q3K;

impl Block for Q3K {
    const BYTES: usize = 110;
    const OFFSET: i32 = 4;
    const MOST: i32 = 7;
    const HALVES: bool = true;
    const ORDER: Order = Order::Lanes;
    const SHIFTS: Option<[i32; BLOCKS]> = Some(PAIR_SHIFTS);
    const UPPER: Option<u32> = Some(2);
    const WHOLE: bool = true;
    const NUMBERS: usize = 108;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // SAFETY: the CPU has the features, as the caller says.
        plain::<Self>(unsafe { Self::raw::<N, PLACE>(bytes) })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn raw<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Raw {
        let scales = _mm512_cvtepi8_epi32(of_halves(scales_q3(bytes)));
        Raw {
            codes: raw_pairs_of_bits(bytes, 32),
            upper: raw_bits(bytes, 0),
            scales: integer_halves(scales),
            mins: no_mins(),
        }
    }
}

/// Sixteen scales of six bits, less 32, from the 12 bytes at 96: low nibbles of the first eight
/// bytes, then high ones; above them the bit pairs of the last four bytes by place.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scales_q3(bytes: &[u8]) -> __m128i {
    // The 16 bytes that end with the twelve.
    let all = load16(bytes, 92);
    let low = _mm_shuffle_epi32::<0b10_01_10_01>(all);
    let low = _mm_srlv_epi32(low, _mm_setr_epi32(0, 0, 4, 4));
    let low = _mm_and_si128(low, _mm_set1_epi8(15));
    let high = _mm_srlv_epi32(_mm_shuffle_epi32::<0xff>(all), _mm_setr_epi32(0, 2, 4, 6));
    let high = _mm_slli_epi16::<4>(_mm_and_si128(high, _mm_set1_epi8(3)));
    _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32))
}
