//! Groups of 256 weights in registers, and how types give them.

use crate::act::BLOCKS;
use std::arch::x86_64::*;

/// 256 weights.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Codes in order, unsigned: each is [`Block::OFFSET`] above the code it stands for.
    pub(super) codes: [__m512i; 4],
    /// Scales of the eight blocks; where halves have their own, of the first and the second ones.
    pub(super) scales: [__m256; 2],
    /// Read only where the type has minima; as `scales`.
    pub(super) mins: [__m256; 2],
}

impl Group {
    /// Weights of zero.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn zero() -> Group {
        let none = [_mm256_setzero_ps(); 2];
        Group { codes: [_mm512_setzero_si512(); 4], scales: none, mins: none }
    }
}

/// A type stored in blocks, as this tier unpacks it.
pub(super) trait Block: 'static {
    /// Bytes of 256 weights.
    const BYTES: usize;
    /// What is added to codes to make them unsigned: 0 or a power of two.
    const OFFSET: i32;
    /// The largest unsigned code.
    const MOST: i32;
    /// Whether weights have a minimum.
    const MINS: bool = false;
    /// Whether halves of blocks have scales of their own.
    const HALVES: bool = false;

    /// Unpacks [`Block::BYTES`].
    ///
    /// # Safety
    /// The CPU has the features of this tier.
    unsafe fn group(bytes: &[u8]) -> Group;
}

/// 16 bytes at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn load16(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: 16 bytes are there.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// 32 bytes at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn load32(bytes: &[u8], at: usize) -> __m256i {
    let bytes = &bytes[at..at + 32];
    // SAFETY: 32 bytes are there.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 32 bytes at `at`, twice.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn load32_twice(bytes: &[u8], at: usize) -> __m512i {
    _mm512_broadcast_i64x4(load32(bytes, at))
}

/// 64 bytes at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn load64(bytes: &[u8], at: usize) -> __m512i {
    let bytes = &bytes[at..at + 64];
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// `a` in the first eight lanes, `b` in the others.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn two(a: f32, b: f32) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_set1_ps(a), _mm256_set1_ps(b))
}

/// The two half-precision numbers in the first four bytes: one in the first eight lanes, the other
/// in the rest.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn f16_pair(bytes: __m128i) -> __m512 {
    let order = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    _mm512_permutexvar_ps(order, _mm512_castps128_ps512(_mm_cvtph_ps(bytes)))
}

/// Half-precision numbers at `at`, `at + STEP`, ...: one for each of eight blocks.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn f16_of_blocks<const STEP: usize>(bytes: &[u8], at: usize) -> __m256 {
    let mut bits = [0u64; BLOCKS];
    for b in 0..BLOCKS {
        let at = at + b * STEP;
        bits[b] = u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    }
    let low = bits[0] | bits[1] << 16 | bits[2] << 32 | bits[3] << 48;
    let high = bits[4] | bits[5] << 16 | bits[6] << 32 | bits[7] << 48;
    _mm256_cvtph_ps(_mm_set_epi64x(high as i64, low as i64))
}

/// Bytes of sixteen halves of blocks: those of first halves, then those of second ones.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn of_halves(bytes: __m128i) -> __m128i {
    let order = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    _mm_shuffle_epi8(bytes, order)
}

/// For types without minima.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn no_mins() -> [__m256; 2] {
    [_mm256_setzero_ps(); 2]
}
