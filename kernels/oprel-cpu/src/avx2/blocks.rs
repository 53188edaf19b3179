//! Groups of 128 weights in registers, and how types give them.

use std::arch::x86_64::*;

/// 128 weights: codes in order; scales and minima of the first halves of the four blocks, then of the
/// second halves.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) codes: [__m256i; 4],
    pub(crate) scales: __m256,
    /// Read only where the type has minima.
    pub(crate) mins: __m256,
}

/// A type stored in blocks, as this tier unpacks it.
pub(crate) trait Block: 'static {
    /// Bytes of a span: as many whole blocks as fill whole groups.
    const SPAN_BYTES: usize;
    /// Groups of a span.
    const GROUPS: usize;
    /// Whether weights have a minimum; then codes are not negative.
    const MINS: bool = false;
    /// Bits that hold every code: unsigned with minima, else in two's complement. At least 4.
    const BITS: u32;
    /// Whether codes are between -32 and 32.
    const SMALL: bool = Self::BITS <= 6;
    /// Whether halves of blocks have scales of their own.
    const HALVES: bool = false;

    /// Unpacks group `g` of a span of [`Block::SPAN_BYTES`].
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn group(span: &[u8], g: usize) -> Group;
}

/// 16 bytes at `at`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn load16(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: 16 bytes are there.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// 32 bytes at `at`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn load32(bytes: &[u8], at: usize) -> __m256i {
    let bytes = &bytes[at..at + 32];
    // SAFETY: 32 bytes are there.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The u16 at `at`.
#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The u32 at `at`.
#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The half-precision number at `at`, in all lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn f16_all(bytes: &[u8], at: usize) -> __m256 {
    f16_bits_all(u16_at(bytes, at))
}

/// The half-precision number of these bits, in all lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn f16_bits_all(bits: u16) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(bits as i16))
}

/// Half-precision numbers at `at`, `at + step`, ...: one for each of four blocks, in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn f16_of_blocks(span: &[u8], at: usize, step: usize) -> __m256 {
    let bits = |b: usize| u64::from(u16_at(span, at + b * step)) << (16 * b);
    let bits = bits(0) | bits(1) | bits(2) | bits(3);
    let four = _mm_cvtph_ps(_mm_cvtsi64_si128(bits as i64));
    _mm256_set_m128(four, four)
}

/// 32 nibbles of 16 bytes: the low ones, then the high ones.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn nibbles(bytes: __m128i) -> __m256i {
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// 32 bits as 32 bytes: all ones where set.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn spread_bits(bits: u32) -> __m256i {
    let bytes = _mm256_shuffle_epi8(
        _mm256_set1_epi32(bits as i32),
        _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303),
    );
    let masks = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    _mm256_cmpeq_epi8(_mm256_and_si256(bytes, masks), masks)
}

/// Four bytes as f32, one for each of four blocks, in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn bytes_of_blocks(bytes: u32) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_set1_epi32(bytes as i32)))
}

/// Eight signed bytes, one for each run, as f32 in the order of lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn bytes_of_runs(bytes: u64) -> __m256 {
    let order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1);
    let bytes = _mm_shuffle_epi8(_mm_cvtsi64_si128(bytes as i64), order);
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}

/// No minima.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn no_mins() -> __m256 {
    _mm256_setzero_ps()
}
