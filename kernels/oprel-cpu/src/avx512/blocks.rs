//! Groups of 256 weights in registers, and how types give them.

use crate::act::BLOCKS;
use std::arch::x86_64::*;

/// How the registers of a group hold its codes, in words of four: so that the sums of their products
/// come apart by blocks in few steps. Activations are put in the same order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As the weights are.
    Natural,
    /// Register `q` holds word `q` of each half: first halves of all blocks, then second ones. The
    /// sums of a half fall in one lane.
    Lanes,
    /// First halves of blocks 0 to 3, their second halves, and those of blocks 4 to 7.
    Quads,
    /// First halves of even blocks, their second halves, and those of odd blocks.
    EvenOdd,
    /// Register `w` holds word pair `w` of each block.
    Pairs,
}

impl Order {
    /// Register and place of a word of block `lane`, of its eight.
    pub(super) const fn place(self, lane: usize, word: usize) -> (usize, usize) {
        let (half, q) = (word / 4, word % 4);
        match self {
            Order::Natural => (lane / 2, lane % 2 * 8 + word),
            Order::Lanes => (q, half * BLOCKS + lane),
            Order::Quads => (lane / 4 * 2 + half, lane % 4 * 4 + q),
            Order::EvenOdd => (lane % 2 * 2 + half, lane / 2 * 4 + q),
            Order::Pairs => (word / 2, lane * 2 + word % 2),
        }
    }

    /// For each place of each register the word of the group that is there, counted in another order.
    pub(super) const fn words(self, from: Order) -> [[i32; 16]; 4] {
        let mut words = [[0; 16]; 4];
        let mut i = 0;
        while i < 64 {
            let (register, at) = self.place(i / 8, i % 8);
            let (from_register, from_at) = from.place(i / 8, i % 8);
            words[register][at] = (from_register * 16 + from_at) as i32;
            i += 1;
        }
        words
    }
}

/// The order in which codes of a type meet `n` tokens: where several do, it is cheaper to turn the codes
/// once than to take the sums of each token apart.
pub(super) const fn order<B: Block>(n: usize) -> Order {
    match B::ORDER {
        Order::Natural if n >= TURNED => Order::Lanes,
        order => order,
    }
}

/// Tokens from which on codes are turned.
const TURNED: usize = 3;

/// Words of four registers, put in another order: each is the one of that number.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn reordered(x: [__m512i; 4], order: &[[i32; 16]; 4]) -> [__m512i; 4] {
    let mut y = x;
    for r in 0..4 {
        let at = words(&order[r]);
        let low = _mm512_permutex2var_epi32(x[0], at, x[1]);
        let high = _mm512_permutex2var_epi32(x[2], at, x[3]);
        let is_high = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
        y[r] = _mm512_mask_mov_epi32(low, is_high, high);
    }
    y
}

/// 256 weights.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Codes in [`Block::ORDER`], unsigned: each is [`Block::OFFSET`] above the code it stands for.
    pub(super) codes: [__m512i; 4],
    /// Scales of the eight blocks; where halves have their own, of the first and the second ones. Of
    /// [`Block::WHOLE`] types they are integers ([`integers`]).
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

/// Codes where the stored bytes have them: what one token meets, since it is cheaper to shift the
/// sums. Only of types in [`Order::Lanes`].
#[derive(Clone, Copy)]
pub(super) struct Raw {
    /// Codes times 2 to the [`Block::SHIFTS`] of their lane; without the upper bit, if that is apart.
    pub(super) codes: [__m512i; 4],
    /// Read only where there is [`Block::UPPER`]: the upper bits, times 2 to the power of their
    /// block.
    pub(super) upper: [__m512i; 4],
    /// As those of a [`Group`].
    pub(super) scales: [__m256; 2],
    /// As those of a [`Group`].
    pub(super) mins: [__m256; 2],
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
    /// How codes lie in registers.
    const ORDER: Order = Order::Natural;
    /// Whether scales and minima of a group are integers.
    const WHOLE: bool = false;
    /// Of such types: where the half-precision number is that multiplies scales; the one for minima, which
    /// are subtracted, is behind it.
    const NUMBERS: usize = 0;
    /// Whether there are [`Raw`] codes, and how far they are shifted up in each block.
    const SHIFTS: Option<[i32; BLOCKS]> = None;
    /// Whether the upper bit of raw codes is apart, and what power of 2 it counts.
    const UPPER: Option<u32> = None;

    /// Unpacks [`Block::BYTES`], for `N` tokens (0: for a panel). `PLACE` is another number for each
    /// place that calls it: what is called from one place alone is inlined, however long it is.
    ///
    /// # Safety
    /// The CPU has the features of this tier.
    unsafe fn group<const N: usize, const PLACE: u8>(bytes: &[u8]) -> Group;

    /// Unpacks [`Block::BYTES`] of a type with [`Block::SHIFTS`].
    ///
    /// # Safety
    /// As [`Block::group`].
    unsafe fn raw<const N: usize, const PLACE: u8>(_bytes: &[u8]) -> Raw {
        unreachable!("asked of types with raw codes alone")
    }
}

/// Words of a table.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn words(x: &[i32; 16]) -> __m512i {
    // SAFETY: an array of 64 bytes is read.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

/// 16-bit words of a table.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn half_words(x: &[i16; 32]) -> __m512i {
    // SAFETY: an array of 64 bytes is read.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

/// The plain codes of raw ones.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn plain<B: Block>(raw: Raw) -> Group {
    let shifts = words(const { &by_lanes(B::SHIFTS) });
    let places = _mm512_and_si512(
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7),
        _mm512_set1_epi32(7),
    );
    let mut codes = raw.codes;
    for q in 0..4 {
        // Nothing is below a code in its byte.
        codes[q] = _mm512_srlv_epi32(raw.codes[q], shifts);
        if let Some(up) = B::UPPER {
            let up = _mm_cvtsi32_si128(up as i32);
            let upper = _mm512_srlv_epi32(raw.upper[q], places);
            codes[q] = _mm512_or_si512(codes[q], _mm512_sll_epi32(upper, up));
        }
    }
    Group { codes, scales: raw.scales, mins: raw.mins }
}

/// Numbers of blocks for all lanes of [`Order::Lanes`].
pub(super) const fn by_lanes(blocks: Option<[i32; BLOCKS]>) -> [i32; 16] {
    let mut lanes = [0; 16];
    if let Some(blocks) = blocks {
        let mut i = 0;
        while i < 16 {
            lanes[i] = blocks[i % BLOCKS];
            i += 1;
        }
    }
    lanes
}

/// Integers in the place of numbers.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn integers(x: __m256i) -> __m256 {
    _mm256_castsi256_ps(x)
}

/// 16 integers, in two parts.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn integer_halves(x: __m512i) -> [__m256; 2] {
    [integers(_mm512_castsi512_si256(x)), integers(_mm512_extracti64x4_epi64::<1>(x))]
}

/// Two parts of integers as one.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn joined(a: __m256, b: __m256) -> __m512i {
    _mm512_castps_si512(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(a), b))
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
