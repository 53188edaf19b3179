//! The k-quants and TQ2_0: blocks of 256 weights, two groups each.

use super::blocks::{
    Block, Group, bytes_of_blocks, bytes_of_runs, f16_all, load32, no_mins, u32_at,
};
use std::arch::x86_64::*;

/// `(bytes >> SHIFT) & mask` for each byte; `mask` must drop what comes from the byte above.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn field<const SHIFT: i32>(bytes: __m256i, mask: i8) -> __m256i {
    _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(bytes), _mm256_set1_epi8(mask))
}

/// The four two-bit fields of 32 bytes, lowest first.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn two_bits(bytes: __m256i) -> [__m256i; 4] {
    [field::<0>(bytes, 3), field::<2>(bytes, 3), field::<4>(bytes, 3), field::<6>(bytes, 3)]
}

/// `value` in the bytes where bit `bit` of `bytes` is set.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn where_set(bytes: __m256i, bit: usize, value: i8) -> __m256i {
    let mask = _mm256_set1_epi8((1u8 << bit) as i8);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), mask);
    _mm256_and_si256(set, _mm256_set1_epi8(value))
}

/// `-x`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn negative(x: __m256) -> __m256 {
    _mm256_xor_ps(x, _mm256_set1_ps(-0.0))
}

/// Four scales and four minima of six bits, of group `g`, from the 12 bytes at 4.
#[inline]
fn six_bit_pairs(block: &[u8], g: usize) -> (u32, u32) {
    let (a, b, c) = (u32_at(block, 4), u32_at(block, 8), u32_at(block, 12));
    if g == 0 {
        return (a & 0x3f3f_3f3f, b & 0x3f3f_3f3f);
    }
    let scales = c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4;
    let mins = c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4;
    (scales, mins)
}

/// Scales and minima of group `g` of Q4_K and Q5_K.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scales_and_mins(block: &[u8], g: usize) -> (__m256, __m256) {
    let (scales, mins) = six_bit_pairs(block, g);
    let scales = _mm256_mul_ps(f16_all(block, 0), bytes_of_blocks(scales));
    let mins = _mm256_mul_ps(f16_all(block, 2), bytes_of_blocks(mins));
    (scales, negative(mins))
}

pub(crate) struct Q4K;

impl Block for Q4K {
    const SPAN_BYTES: usize = 144;
    const GROUPS: usize = 2;
    const MINS: bool = true;
    const BITS: u32 = 4;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let (scales, mins) = scales_and_mins(span, g);
        let (a, b) = (load32(span, 16 + 64 * g), load32(span, 48 + 64 * g));
        let codes = [field::<0>(a, 15), field::<4>(a, 15), field::<0>(b, 15), field::<4>(b, 15)];
        Group { codes, scales, mins }
    }
}

pub(crate) struct Q5K;

impl Block for Q5K {
    const SPAN_BYTES: usize = 176;
    const GROUPS: usize = 2;
    const MINS: bool = true;
    const BITS: u32 = 5;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let (scales, mins) = scales_and_mins(span, g);
        let fifth = load32(span, 16);
        let (a, b) = (load32(span, 48 + 64 * g), load32(span, 80 + 64 * g));
        let low = [field::<0>(a, 15), field::<4>(a, 15), field::<0>(b, 15), field::<4>(b, 15)];
        let high = |i: usize| where_set(fifth, 4 * g + i, 16);
        let codes = [
            _mm256_or_si256(low[0], high(0)),
            _mm256_or_si256(low[1], high(1)),
            _mm256_or_si256(low[2], high(2)),
            _mm256_or_si256(low[3], high(3)),
        ];
        Group { codes, scales, mins }
    }
}

pub(crate) struct Q6K;

impl Block for Q6K {
    const SPAN_BYTES: usize = 210;
    const GROUPS: usize = 2;
    const BITS: u32 = 6;
    const HALVES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let (a, b) = (load32(span, 64 * g), load32(span, 64 * g + 32));
        let high = two_bits(load32(span, 128 + 32 * g));
        let low = [field::<0>(a, 15), field::<0>(b, 15), field::<4>(a, 15), field::<4>(b, 15)];
        let code = |i: usize| {
            let both = _mm256_or_si256(low[i], _mm256_slli_epi16::<4>(high[i]));
            _mm256_sub_epi8(both, _mm256_set1_epi8(32))
        };
        let scales = bytes_of_runs(u64_at(span, 192 + 8 * g));
        let scales = _mm256_mul_ps(f16_all(span, 208), scales);
        Group { codes: [code(0), code(1), code(2), code(3)], scales, mins: no_mins() }
    }
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(crate) struct Q2K;

impl Block for Q2K {
    const SPAN_BYTES: usize = 84;
    const GROUPS: usize = 2;
    const MINS: bool = true;
    const BITS: u32 = 4;
    const HALVES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let both = u64_at(span, 8 * g);
        let low = 0x0f0f_0f0f_0f0f_0f0f;
        let scales = _mm256_mul_ps(f16_all(span, 80), bytes_of_runs(both & low));
        let mins = _mm256_mul_ps(f16_all(span, 82), bytes_of_runs(both >> 4 & low));
        let codes = two_bits(load32(span, 16 + 32 * g));
        Group { codes, scales, mins: negative(mins) }
    }
}

pub(crate) struct Q3K;

impl Block for Q3K {
    const SPAN_BYTES: usize = 110;
    const GROUPS: usize = 2;
    const BITS: u32 = 4;
    const HALVES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let third = load32(span, 0);
        let low = two_bits(load32(span, 32 + 32 * g));
        let code = |i: usize| {
            let plus = where_set(third, 4 * g + i, 4);
            _mm256_sub_epi8(_mm256_add_epi8(low[i], plus), _mm256_set1_epi8(4))
        };
        let scales = _mm256_mul_ps(f16_all(span, 108), bytes_of_runs(scales_q3(span, g)));
        Group { codes: [code(0), code(1), code(2), code(3)], scales, mins: no_mins() }
    }
}

/// Eight scales of six bits, less 32, of group `g`, from the 12 bytes at 96.
#[inline]
fn scales_q3(block: &[u8], g: usize) -> u64 {
    let low = u64_at(block, 96) >> (4 * g) & 0x0f0f_0f0f_0f0f_0f0f;
    let high = u32_at(block, 104) >> (4 * g);
    let high = u64::from(high & 0x0303_0303) | u64::from(high >> 2 & 0x0303_0303) << 32;
    // Bytes are below 64, so setting bit 7 keeps the subtraction within each byte; flipping the
    // bit back gives the difference.
    let six = low | high << 4;
    ((six | 0x8080_8080_8080_8080) - 0x2020_2020_2020_2020) ^ 0x8080_8080_8080_8080
}

pub(crate) struct Tq2;

impl Block for Tq2 {
    const SPAN_BYTES: usize = 66;
    const GROUPS: usize = 2;
    const BITS: u32 = 4;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let digits = two_bits(load32(span, 32 * g));
        let code = |i: usize| _mm256_sub_epi8(digits[i], _mm256_set1_epi8(1));
        let codes = [code(0), code(1), code(2), code(3)];
        Group { codes, scales: f16_all(span, 64), mins: no_mins() }
    }
}
