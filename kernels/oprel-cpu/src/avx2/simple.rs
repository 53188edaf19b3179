//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q1_0: one scale a block.

use super::blocks::{
    Block, Group, f16_all, f16_of_blocks, load16, load32, nibbles, no_mins, spread_bits, u32_at,
};
use std::arch::x86_64::*;

/// Codes of four blocks.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn four(code: impl Fn(usize) -> __m256i) -> [__m256i; 4] {
    [code(0), code(1), code(2), code(3)]
}

/// Nibbles with the fifth bits of `fifth` above them.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn five_bits(nibbles: __m256i, fifth: u32) -> __m256i {
    let high = _mm256_and_si256(spread_bits(fifth), _mm256_set1_epi8(16));
    _mm256_or_si256(nibbles, high)
}

/// `codes - offset`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn less(codes: __m256i, offset: i8) -> __m256i {
    _mm256_sub_epi8(codes, _mm256_set1_epi8(offset))
}

pub(crate) struct Q4_0;

impl Block for Q4_0 {
    const SPAN_BYTES: usize = 4 * 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 4;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(|b| less(nibbles(load16(span, b * 18 + 2)), 8));
        Group { codes, scales: f16_of_blocks(span, 0, 18), mins: no_mins() }
    }
}

pub(crate) struct Q4_1;

impl Block for Q4_1 {
    const SPAN_BYTES: usize = 4 * 20;
    const GROUPS: usize = 1;
    const MINS: bool = true;
    const BITS: u32 = 4;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(|b| nibbles(load16(span, b * 20 + 4)));
        let mins = f16_of_blocks(span, 2, 20);
        Group { codes, scales: f16_of_blocks(span, 0, 20), mins }
    }
}

pub(crate) struct Q5_0;

impl Block for Q5_0 {
    const SPAN_BYTES: usize = 4 * 22;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(|b| {
            let low = nibbles(load16(span, b * 22 + 6));
            less(five_bits(low, u32_at(span, b * 22 + 2)), 16)
        });
        Group { codes, scales: f16_of_blocks(span, 0, 22), mins: no_mins() }
    }
}

pub(crate) struct Q5_1;

impl Block for Q5_1 {
    const SPAN_BYTES: usize = 4 * 24;
    const GROUPS: usize = 1;
    const MINS: bool = true;
    const BITS: u32 = 5;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(|b| {
            let low = nibbles(load16(span, b * 24 + 8));
            five_bits(low, u32_at(span, b * 24 + 4))
        });
        let mins = f16_of_blocks(span, 2, 24);
        Group { codes, scales: f16_of_blocks(span, 0, 24), mins }
    }
}

pub(crate) struct Q8_0;

impl Block for Q8_0 {
    const SPAN_BYTES: usize = 4 * 34;
    const GROUPS: usize = 1;
    const BITS: u32 = 8;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(|b| load32(span, b * 34 + 2));
        Group { codes, scales: f16_of_blocks(span, 0, 34), mins: no_mins() }
    }
}

pub(crate) struct Q1_0;

impl Block for Q1_0 {
    const SPAN_BYTES: usize = 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 4;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(|b| {
            let set = spread_bits(u32_at(span, 2 + 4 * b));
            let two = _mm256_and_si256(set, _mm256_set1_epi8(2));
            less(two, 1)
        });
        Group { codes, scales: f16_all(span, 0), mins: no_mins() }
    }
}
