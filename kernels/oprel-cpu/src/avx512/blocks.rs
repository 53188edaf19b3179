//! Groups of 256 weights in registers, and how types give them.

use crate::avx2::blocks as avx2;
use std::arch::x86_64::*;
use std::marker::PhantomData;

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

/// A type as the AVX2 tier unpacks it, two groups of 128 joined.
pub(super) struct Joined<B>(PhantomData<B>);

impl<B: avx2::Block> Block for Joined<B> {
    const BYTES: usize = B::SPAN_BYTES * 2 / B::GROUPS;
    const OFFSET: i32 = if B::MINS {
        0
    } else if B::SMALL {
        32
    } else {
        128
    };
    const MOST: i32 = if B::MINS {
        31
    } else if B::SMALL {
        64
    } else {
        255
    };
    const MINS: bool = B::MINS;
    const HALVES: bool = B::HALVES;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn group(bytes: &[u8]) -> Group {
        let (first, second) = match B::GROUPS {
            1 => bytes.split_at(B::SPAN_BYTES),
            _ => (bytes, bytes),
        };
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
        let (a, b) = unsafe { (B::group(first, 0), B::group(second, B::GROUPS - 1)) };
        let join = |low: __m256i, high: __m256i| {
            let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            _mm512_add_epi8(codes, _mm512_set1_epi8(Self::OFFSET as u8 as i8))
        };
        let codes = [
            join(a.codes[0], a.codes[1]),
            join(a.codes[2], a.codes[3]),
            join(b.codes[0], b.codes[1]),
            join(b.codes[2], b.codes[3]),
        ];
        let firsts = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
        let seconds = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
        Group {
            codes,
            scales: [firsts(a.scales, b.scales), seconds(a.scales, b.scales)],
            mins: [firsts(a.mins, b.mins), seconds(a.mins, b.mins)],
        }
    }
}
