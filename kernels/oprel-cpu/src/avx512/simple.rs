//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 weights with one scale.

use super::blocks::{Block, Group, f16_of_blocks, load16, load32, no_mins};
use std::arch::x86_64::*;

/// Four times the codes of two blocks.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn four(codes: impl Fn(usize) -> __m512i) -> [__m512i; 4] {
    [codes(0), codes(2), codes(4), codes(6)]
}

/// Nibbles of the 16 bytes at `at` and of those at `at + step`: of each the low ones, then the high
/// ones.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn nibbles(bytes: &[u8], at: usize, step: usize) -> __m512i {
    let first = _mm512_broadcast_i32x4(load16(bytes, at));
    let both = _mm512_mask_broadcast_i32x4(first, 0xff00, load16(bytes, at + step));
    let shifts = _mm512_set_epi64(
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0,
        0,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0,
        0,
    );
    _mm512_and_si512(_mm512_srlv_epi16(both, shifts), _mm512_set1_epi8(15))
}

/// `codes`, and 16 more where bits of the 4 bytes at `at` and of those at `at + step` are set.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_fifth(codes: __m512i, bytes: &[u8], at: usize, step: usize) -> __m512i {
    let bits = |at: usize| {
        let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        u64::from(u32::from_le_bytes(four))
    };
    let set = bits(at) | bits(at + step) << 32;
    _mm512_mask_add_epi8(codes, set, codes, _mm512_set1_epi8(16))
}

pub(super) struct Q4_0;

impl Block for Q4_0 {
    const BYTES: usize = 8 * 18;
    const OFFSET: i32 = 8;
    const MOST: i32 = 15;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let codes = four(|b| nibbles(bytes, b * 18 + 2, 18));
        Group { codes, scales: [f16_of_blocks::<18>(bytes, 0); 2], mins: no_mins() }
    }
}

pub(super) struct Q4_1;

impl Block for Q4_1 {
    const BYTES: usize = 8 * 20;
    const OFFSET: i32 = 0;
    const MOST: i32 = 15;
    const MINS: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let codes = four(|b| nibbles(bytes, b * 20 + 4, 20));
        let (scales, mins) = (f16_of_blocks::<20>(bytes, 0), f16_of_blocks::<20>(bytes, 2));
        Group { codes, scales: [scales; 2], mins: [mins; 2] }
    }
}

pub(super) struct Q5_0;

impl Block for Q5_0 {
    const BYTES: usize = 8 * 22;
    const OFFSET: i32 = 16;
    const MOST: i32 = 31;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let codes = four(|b| add_fifth(nibbles(bytes, b * 22 + 6, 22), bytes, b * 22 + 2, 22));
        Group { codes, scales: [f16_of_blocks::<22>(bytes, 0); 2], mins: no_mins() }
    }
}

pub(super) struct Q5_1;

impl Block for Q5_1 {
    const BYTES: usize = 8 * 24;
    const OFFSET: i32 = 0;
    const MOST: i32 = 31;
    const MINS: bool = true;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let codes = four(|b| add_fifth(nibbles(bytes, b * 24 + 8, 24), bytes, b * 24 + 4, 24));
        let (scales, mins) = (f16_of_blocks::<24>(bytes, 0), f16_of_blocks::<24>(bytes, 2));
        Group { codes, scales: [scales; 2], mins: [mins; 2] }
    }
}

pub(super) struct Q8_0;

impl Block for Q8_0 {
    const BYTES: usize = 8 * 34;
    const OFFSET: i32 = 128;
    const MOST: i32 = 255;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let codes = four(|b| {
            let first = _mm512_castsi256_si512(load32(bytes, b * 34 + 2));
            let both = _mm512_inserti64x4::<1>(first, load32(bytes, b * 34 + 36));
            _mm512_xor_si512(both, _mm512_set1_epi8(-128))
        });
        Group { codes, scales: [f16_of_blocks::<34>(bytes, 0); 2], mins: no_mins() }
    }
}
