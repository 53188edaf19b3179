//! Activations in the order in which a type's codes lie in registers, and what a group adds to sums.

use super::blocks::{Block, Group, Order, Raw, by_lanes, order, reordered, words};
use crate::act::{ActGroup, BLOCKS};
use std::arch::x86_64::*;

/// 256 activations as codes of a type meet them.
pub(super) struct Turned {
    codes: [__m512i; 4],
    /// What makes up for the offset of codes: added to sums of products, by halves or by blocks.
    start: __m512i,
    scales: __m256,
    /// Sums of codes, of blocks or of their halves.
    sums: [__m256; 2],
}

impl Turned {
    /// `act` as one of `N` tokens for codes of `B`: of one token, for raw ones if there are any.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn of<B: Block, const N: usize>(act: &ActGroup) -> Turned {
        let (quarters, _) = act.codes.as_chunks::<64>();
        // SAFETY: arrays of 64 and of 32 bytes are read.
        let (x, [first, second], totals, scales) = unsafe {
            let quarter = |i: usize| _mm512_loadu_si512(quarters[i].as_ptr().cast());
            let eight = |x: &[i32; BLOCKS]| _mm256_loadu_si256(x.as_ptr().cast());
            (
                [quarter(0), quarter(1), quarter(2), quarter(3)],
                [eight(&act.sums[0]), eight(&act.sums[1])],
                eight(&act.totals),
                _mm256_loadu_ps(act.scales.as_ptr()),
            )
        };
        let codes = reordered(x, const { &order::<B>(N).words(Order::Natural) });
        let by_halves = B::HALVES || matches!(const { order::<B>(N) }, Order::Lanes);
        let sums = match by_halves {
            true => _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second),
            false => _mm512_zextsi256_si512(totals),
        };
        let mut start = _mm512_mullo_epi32(sums, _mm512_set1_epi32(-B::OFFSET));
        if N == 1 && B::SHIFTS.is_some() {
            start = _mm512_sllv_epi32(start, words(const { &by_lanes(B::SHIFTS) }));
        }
        let sums = match B::HALVES {
            true => [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)],
            false => [_mm256_cvtepi32_ps(totals), _mm256_setzero_ps()],
        };
        Turned { codes, start, scales, sums }
    }
}

/// Sums of `x` and `y` by pairs of neighbours, in each 128 bits two of `x` and two of `y`.
/// `FIT` says that sums fit 16 bits.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_pairs<const FIT: bool>(x: __m512i, y: __m512i) -> __m512i {
    if FIT {
        return _mm512_madd_epi16(_mm512_packs_epi32(x, y), _mm512_set1_epi16(1));
    }
    let (x, y) = (_mm512_castsi512_ps(x), _mm512_castsi512_ps(y));
    let even = _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(x, y));
    let odd = _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(x, y));
    _mm512_add_epi32(even, odd)
}

/// Whether `n` products of a type's codes with activations always fit 16 bits when summed.
const fn fits<B: Block>(n: i32) -> bool {
    n * 127 * B::MOST <= i16::MAX as i32
}

/// The first eight lanes, then the others.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn halves(x: __m512i) -> [__m256i; 2] {
    [_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x)]
}

/// `start` and the products of four registers, in two chains.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn four_products(start: __m512i, w: &[__m512i; 4], a: &[__m512i; 4]) -> __m512i {
    let x = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, w[0], a[0]), w[1], a[1]);
    let zero = _mm512_setzero_si512();
    let y = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, w[2], a[2]), w[3], a[3]);
    _mm512_add_epi32(x, y)
}

/// Sums of products in blocks, or in their first and second halves where these have scales.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn sums<B: Block, const N: usize>(w: &[__m512i; 4], act: &Turned) -> [__m256i; 2] {
    let a = &act.codes;
    let zero = _mm512_setzero_si512();
    match const { order::<B>(N) } {
        Order::Lanes => {
            let start = if B::OFFSET == 0 { zero } else { act.start };
            by_blocks::<B>(four_products(start, w, a))
        }
        Order::Quads | Order::EvenOdd => {
            let x = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, w[0], a[0]), w[1], a[1]);
            let y = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, w[2], a[2]), w[3], a[3]);
            let pairs = match const { fits::<B>(8) } {
                true => add_pairs::<true>(x, y),
                false => add_pairs::<false>(x, y),
            };
            // Each 128 bits: one block of `x` and one of `y`, twice.
            let both = _mm512_add_epi32(pairs, _mm512_shuffle_epi32::<0b10_11_00_01>(pairs));
            let order = match B::ORDER {
                Order::Quads => {
                    _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0)
                }
                _ => _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0),
            };
            let all = _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, both));
            shifted::<B>(all, act)
        }
        Order::Pairs if B::HALVES => {
            let x = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, w[0], a[0]), w[1], a[1]);
            let y = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, w[2], a[2]), w[3], a[3]);
            let pairs = match const { fits::<B>(8) } {
                true => add_pairs::<true>(x, y),
                false => add_pairs::<false>(x, y),
            };
            let order = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            let all = _mm512_permutexvar_epi32(order, pairs);
            halves(if B::OFFSET == 0 { all } else { _mm512_add_epi32(all, act.start) })
        }
        Order::Pairs => {
            let x = four_products(zero, w, a);
            let pairs = _mm512_add_epi32(x, _mm512_srli_epi64::<32>(x));
            shifted::<B>(_mm512_cvtepi64_epi32(pairs), act)
        }
        Order::Natural => natural_sums::<B>(w, act),
    }
}

/// Sums of blocks without what the offset of codes adds.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn shifted<B: Block>(sums: __m256i, act: &Turned) -> [__m256i; 2] {
    let start = _mm512_castsi512_si256(act.start);
    let sums = if B::OFFSET == 0 { sums } else { _mm256_add_epi32(sums, start) };
    [sums, _mm256_setzero_si256()]
}

/// Sums of first halves and of second ones, added where they need not be apart.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn by_blocks<B: Block>(sums: __m512i) -> [__m256i; 2] {
    let [first, second] = halves(sums);
    if B::HALVES {
        return [first, second];
    }
    [_mm256_add_epi32(first, second), _mm256_setzero_si256()]
}

/// [`sums`] of [`Order::Natural`].
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn natural_sums<B: Block>(w: &[__m512i; 4], act: &Turned) -> [__m256i; 2] {
    let zero = _mm512_setzero_si512();
    let (a, b) = (
        _mm512_dpbusd_epi32(zero, w[0], act.codes[0]),
        _mm512_dpbusd_epi32(zero, w[1], act.codes[1]),
    );
    let (c, d) = (
        _mm512_dpbusd_epi32(zero, w[2], act.codes[2]),
        _mm512_dpbusd_epi32(zero, w[3], act.codes[3]),
    );
    let (ab, cd) = match const { fits::<B>(4) } {
        true => (add_pairs::<true>(a, b), add_pairs::<true>(c, d)),
        false => (add_pairs::<false>(a, b), add_pairs::<false>(c, d)),
    };
    let all = match const { fits::<B>(8) } {
        true => add_pairs::<true>(ab, cd),
        false => add_pairs::<false>(ab, cd),
    };
    // Each 128 bits hold one half of every second block.
    let order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    let all = _mm512_permutexvar_epi32(order, all);
    if B::HALVES && B::OFFSET != 0 {
        return halves(_mm512_add_epi32(all, act.start));
    }
    let [first, second] = halves(all);
    match B::HALVES {
        true => [first, second],
        false => shifted::<B>(_mm256_add_epi32(first, second), act),
    }
}

/// [`sums`] of raw codes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn raw_sums<B: Block>(w: &[__m512i; 4], upper: &[__m512i; 4], act: &Turned) -> [__m256i; 2] {
    let zero = _mm512_setzero_si512();
    let a = &act.codes;
    let start = if B::OFFSET == 0 { zero } else { act.start };
    let sums = four_products(start, w, a);
    // Exact: codes, and so their sums, are multiples of what is divided by.
    let mut sums = _mm512_srav_epi32(sums, words(const { &by_lanes(B::SHIFTS) }));
    if let Some(up) = B::UPPER {
        let more = four_products(zero, upper, a);
        let more = _mm512_sllv_epi32(more, _mm512_set1_epi32(up as i32));
        let blocks = words(const { &by_lanes(Some([0, 1, 2, 3, 4, 5, 6, 7])) });
        sums = _mm512_add_epi32(sums, _mm512_srav_epi32(more, blocks));
    }
    by_blocks::<B>(sums)
}

/// Unpacks a group for `N` tokens: raw codes for one token, of types that have them.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn unpack<B: Block, const N: usize, const PLACE: u8>(bytes: &[u8]) -> Raw {
    // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
    unsafe {
        if N == 1 && B::SHIFTS.is_some() {
            return B::raw::<N, PLACE>(bytes);
        }
        let Group { codes, scales, mins } = B::group::<N, PLACE>(bytes);
        let codes = match order::<B>(N) == B::ORDER {
            true => codes,
            false => reordered(codes, const { &order::<B>(N).words(B::ORDER) }),
        };
        Raw { codes, upper: codes, scales, mins }
    }
}

/// Adds the products of a group with those of `N` tokens to their lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn add_group<B: Block, const N: usize>(
    acc: &mut [__m256; N],
    w: &Raw,
    act: &[Turned; N],
) {
    for t in 0..N {
        let sums = match N == 1 && B::SHIFTS.is_some() {
            true => raw_sums::<B>(&w.codes, &w.upper, &act[t]),
            false => sums::<B, N>(&w.codes, &act[t]),
        };
        add_scaled::<B>(&mut acc[t], sums, &w.scales, &w.mins, &act[t]);
    }
}

/// Adds scaled sums of products, and minima, to lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_scaled<B: Block>(
    acc: &mut __m256,
    [first, second]: [__m256i; 2],
    scales: &[__m256; 2],
    mins: &[__m256; 2],
    act: &Turned,
) {
    let mut p = _mm256_mul_ps(scales[0], _mm256_cvtepi32_ps(first));
    if B::HALVES {
        p = _mm256_fmadd_ps(scales[1], _mm256_cvtepi32_ps(second), p);
    }
    if B::MINS {
        p = _mm256_fmadd_ps(mins[0], act.sums[0], p);
    }
    if B::MINS && B::HALVES {
        p = _mm256_fmadd_ps(mins[1], act.sums[1], p);
    }
    *acc = _mm256_fmadd_ps(p, act.scales, *acc);
}
