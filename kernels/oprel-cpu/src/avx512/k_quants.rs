//! The k-quants: blocks of 256 weights.

use super::blocks::{
    Block, Group, f16_pair, load16, load32_twice, load64, no_mins, of_halves, two,
};
use std::arch::x86_64::*;

/// `bytes >> shift & mask`, shifted by `first` in the first 32 bytes and by `second` in the others;
/// `mask` must drop what comes from the byte above.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn fields(bytes: __m512i, first: i16, second: i16, mask: i8) -> __m512i {
    let shifts = _mm512_inserti64x4::<1>(_mm512_set1_epi16(first), _mm256_set1_epi16(second));
    _mm512_and_si512(_mm512_srlv_epi16(bytes, shifts), _mm512_set1_epi8(mask))
}

/// `codes`, and `value` more where bit `first` of the first 32 bytes, or bit `first + 1` of the
/// others, is set in `bits`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_where(codes: __m512i, bits: __m512i, first: usize, value: i8) -> __m512i {
    let low = _mm512_set1_epi8((1u8 << first) as i8);
    let wanted = _mm512_inserti64x4::<1>(low, _mm256_set1_epi8((2u8 << first) as i8));
    let set = _mm512_test_epi8_mask(bits, wanted);
    _mm512_mask_add_epi8(codes, set, codes, _mm512_set1_epi8(value))
}

/// Nibbles of 32 bytes: the low ones, then the high ones.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn nibbles(bytes: &[u8], at: usize) -> __m512i {
    fields(load32_twice(bytes, at), 0, 4, 15)
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
    let six = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_or_si128(low, high)));
    // Minima are subtracted.
    let factors = _mm512_xor_ps(f16_pair(head), two(0.0, -0.0));
    let both = _mm512_mul_ps(six, factors);
    [_mm512_castps512_ps256(both), _mm512_extractf32x8_ps::<1>(both)]
}

pub(super) struct Q4K;

impl Block for Q4K {
    const BYTES: usize = 144;
    const OFFSET: i32 = 0;
    const MOST: i32 = 15;
    const MINS: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let [scales, mins] = scales_and_mins(bytes);
        let codes = |i: usize| nibbles(bytes, 16 + 32 * i);
        let codes = [codes(0), codes(1), codes(2), codes(3)];
        Group { codes, scales: [scales; 2], mins: [mins; 2] }
    }
}

pub(super) struct Q5K;

impl Block for Q5K {
    const BYTES: usize = 176;
    const OFFSET: i32 = 0;
    const MOST: i32 = 31;
    const MINS: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let [scales, mins] = scales_and_mins(bytes);
        let fifth = load32_twice(bytes, 16);
        let codes = |i: usize| add_where(nibbles(bytes, 48 + 32 * i), fifth, 2 * i, 16);
        let codes = [codes(0), codes(1), codes(2), codes(3)];
        Group { codes, scales: [scales; 2], mins: [mins; 2] }
    }
}

pub(super) struct Q6K;

impl Block for Q6K {
    const BYTES: usize = 210;
    const OFFSET: i32 = 32;
    const MOST: i32 = 63;
    const HALVES: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
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
        let scales = _mm512_cvtepi8_epi32(of_halves(load16(bytes, 192)));
        let scales = scaled(scales, f16_at(bytes, 208));
        Group { codes, scales, mins: no_mins() }
    }
}

/// The half-precision number at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// Integers times `d`, in two parts.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scaled(x: __m512i, d: f32) -> [__m256; 2] {
    let y = _mm512_mul_ps(_mm512_cvtepi32_ps(x), _mm512_set1_ps(d));
    [_mm512_castps512_ps256(y), _mm512_extractf32x8_ps::<1>(y)]
}

pub(super) struct Q2K;

impl Block for Q2K {
    const BYTES: usize = 84;
    const OFFSET: i32 = 0;
    const MOST: i32 = 3;
    const MINS: bool = true;
    const HALVES: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let both = of_halves(load16(bytes, 0));
        let nibble = _mm_set1_epi8(15);
        let scales = _mm512_cvtepu8_epi32(_mm_and_si128(both, nibble));
        let mins = _mm512_cvtepu8_epi32(_mm_and_si128(_mm_srli_epi16::<4>(both), nibble));
        Group {
            codes: pairs_of_bits(bytes, 16),
            scales: scaled(scales, f16_at(bytes, 80)),
            mins: scaled(mins, -f16_at(bytes, 82)),
        }
    }
}

/// The two-bit fields of 64 bytes: those of 32 bytes by place, then those of the others.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn pairs_of_bits(bytes: &[u8], at: usize) -> [__m512i; 4] {
    let (first, second) = (load32_twice(bytes, at), load32_twice(bytes, at + 32));
    [
        fields(first, 0, 2, 3),
        fields(first, 4, 6, 3),
        fields(second, 0, 2, 3),
        fields(second, 4, 6, 3),
    ]
}

pub(super) struct Q3K;

impl Block for Q3K {
    const BYTES: usize = 110;
    const OFFSET: i32 = 4;
    const MOST: i32 = 7;
    const HALVES: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let third = load32_twice(bytes, 0);
        let low = pairs_of_bits(bytes, 32);
        let codes = |i: usize| add_where(low[i], third, 2 * i, 4);
        let scales = _mm512_cvtepi8_epi32(of_halves(scales_q3(bytes)));
        Group {
            codes: [codes(0), codes(1), codes(2), codes(3)],
            scales: scaled(scales, f16_at(bytes, 108)),
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
