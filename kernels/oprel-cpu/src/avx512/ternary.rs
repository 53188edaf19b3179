//! Codes of two or three values: Q1_0, TQ1_0, TQ2_0.

use super::blocks::{Block, Group, Order, Raw, load16, load32, no_mins, plain};
use super::fields::{f16_all, u32_at, u64_at};
use super::k_quants::{PAIR_SHIFTS, no_upper, raw_pairs_of_bits};
use crate::act::BLOCKS;
use std::arch::x86_64::*;

pub(super) struct Q1_0;

impl Block for Q1_0 {
    const BYTES: usize = 2 * 18;
    const OFFSET: i32 = 1;
    const MOST: i32 = 2;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        let codes = |at: usize| _mm512_maskz_set1_epi8(u64_at(bytes, at), 2);
        let codes = [codes(2), codes(10), codes(20), codes(28)];
        let scales = _mm256_blend_ps::<0xf0>(f16_all(bytes, 0), f16_all(bytes, 18));
        Group { codes, scales: [scales; 2], mins: no_mins() }
    }
}

pub(super) struct Tq2;

impl Block for Tq2 {
    const BYTES: usize = 66;
    const OFFSET: i32 = 1;
    const MOST: i32 = 3;
    const ORDER: Order = Order::Lanes;
    const SHIFTS: Option<[i32; BLOCKS]> = Some(PAIR_SHIFTS);

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // SAFETY: the CPU has the features, as the caller says.
        plain::<Self>(unsafe { Self::raw::<N, PLACE>(bytes) })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn raw<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Raw {
        Raw {
            codes: raw_pairs_of_bits(bytes, 0),
            upper: no_upper(),
            scales: [f16_all(bytes, 64); 2],
            mins: no_mins(),
        }
    }
}

pub(super) struct Tq1;

impl Block for Tq1 {
    const BYTES: usize = 54;
    const OFFSET: i32 = 1;
    const MOST: i32 = 2;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group {
        // 32 bytes of five digits, 16 of five, four of four; each times the powers of three.
        let x = load32(bytes, 0);
        let x01 = join(x, times_three(x));
        let x23 = times_nine(x01);
        let x4 = times_three(_mm512_extracti64x4_epi64::<1>(x23));
        let y = load16(bytes, 32);
        let y01 = _mm256_set_m128i(times_three_short(y), y);
        let y23 = times_three(times_three(y01));
        let y4 = times_three_short(_mm256_extracti128_si256::<1>(y23));
        let last = times_powers(_mm_set1_epi32(u32_at(bytes, 48) as i32));
        let codes = [
            first_digits(x01),
            first_digits(x23),
            first_digits(join(x4, y01)),
            first_digits(join(y23, _mm256_set_m128i(last, y4))),
        ];
        Group { codes, scales: [f16_all(bytes, 52); 2], mins: no_mins() }
    }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn join(low: __m256i, high: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// Three times each byte, without what does not fit.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn times_three(x: __m256i) -> __m256i {
    _mm256_add_epi8(x, _mm256_add_epi8(x, x))
}

/// The same of 16 bytes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn times_three_short(x: __m128i) -> __m128i {
    _mm_add_epi8(x, _mm_add_epi8(x, x))
}

/// Nine times each byte, without what does not fit.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn times_nine(x: __m512i) -> __m512i {
    let three = _mm512_add_epi8(x, _mm512_add_epi8(x, x));
    _mm512_add_epi8(three, _mm512_add_epi8(three, three))
}

/// Four times the same four bytes: times 1, 3, 9 and 27.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn times_powers(x: __m128i) -> __m128i {
    let (low, high) = (_mm_set1_epi16(255), _mm_setr_epi16(1, 1, 3, 3, 9, 9, 27, 27));
    let even = _mm_mullo_epi16(_mm_and_si128(x, low), high);
    let odd = _mm_mullo_epi16(_mm_srli_epi16::<8>(x), high);
    _mm_or_si128(_mm_and_si128(even, low), _mm_slli_epi16::<8>(odd))
}

/// The first ternary digit of each byte: what of three times the byte goes beyond it.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn first_digits(x: __m512i) -> __m512i {
    // 3 * 86 > 256, 3 * 171 > 512.
    let some = _mm512_cmpge_epu8_mask(x, _mm512_set1_epi8(86));
    let two = _mm512_cmpge_epu8_mask(x, _mm512_set1_epi8(171_u8 as i8));
    _mm512_mask_mov_epi8(_mm512_maskz_set1_epi8(some, 1), two, _mm512_set1_epi8(2))
}
