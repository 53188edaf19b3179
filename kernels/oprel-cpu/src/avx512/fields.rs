//! Numbers at a place of stored bytes.

use std::arch::x86_64::*;

/// The half-precision number at `at`, in all lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn f16_all(bytes: &[u8], at: usize) -> __m256 {
    let bits = i16::from_le_bytes([bytes[at], bytes[at + 1]]);
    _mm256_cvtph_ps(_mm_set1_epi16(bits))
}

/// The u32 at `at`.
#[inline(always)]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = &bytes[at..at + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The u64 at `at`.
#[inline(always)]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
