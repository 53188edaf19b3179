//! The integers of a group: products of codes with activations times scales, and minima times sums of
//! activations, in lanes whose sums are meant.

use super::super::blocks::{Block, Order, Raw, by_lanes, joined, order, reordered, words};
use super::super::turned::four_products;
use crate::act::WholeGroup;
use std::arch::x86_64::*;

/// 256 activations as codes of a type meet them.
pub(super) struct Turned {
    codes: [__m512i; 4],
    /// What makes up for the offset of codes, where each register of sums begins. Unread where there is
    /// no offset.
    starts: [__m512i; 4],
    /// Sums of codes of first halves of blocks, then of second ones; or of whole blocks.
    sums: __m512i,
}

impl Turned {
    /// `act` as one of `N` tokens for codes of `B`: of one token, for raw ones if there are any.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn of<B: Block, const N: usize>(act: &WholeGroup) -> Turned {
        let (quarters, _) = act.codes.as_chunks::<64>();
        // SAFETY: arrays of 64, of 32 and of 16 bytes are read.
        let (x, runs, totals) = unsafe {
            let quarter = |i: usize| _mm512_loadu_si512(quarters[i].as_ptr().cast());
            (
                [quarter(0), quarter(1), quarter(2), quarter(3)],
                _mm512_cvtepi16_epi32(_mm256_loadu_si256(act.runs.as_ptr().cast())),
                _mm256_cvtepi16_epi32(_mm_loadu_si128(act.totals.as_ptr().cast())),
            )
        };
        let codes = reordered(x, const { &order::<B>(N).words(Order::Natural) });
        let by_halves = _mm512_permutexvar_epi32(words(&HALVES), runs);
        let sums = if B::HALVES { by_halves } else { _mm512_zextsi256_si512(totals) };
        let mut starts = [by_halves; 4];
        if B::OFFSET != 0 {
            match const { order::<B>(N) } {
                Order::Natural => {
                    for q in 0..4 {
                        let of_register = _mm512_permutexvar_epi32(words(&RUNS[q]), runs);
                        starts[q] = _mm512_maskz_mov_epi32(0x1111, of_register);
                    }
                }
                Order::Quads => {
                    for q in 0..2 {
                        let totals = _mm512_zextsi256_si512(totals);
                        let of_register = _mm512_permutexvar_epi32(words(&FOURS[q]), totals);
                        starts[q] = _mm512_maskz_mov_epi32(0x1111, of_register);
                    }
                }
                _ => {}
            }
            for start in &mut starts {
                *start = _mm512_mullo_epi32(*start, _mm512_set1_epi32(-B::OFFSET));
                if N == 1 && B::SHIFTS.is_some() {
                    *start = _mm512_sllv_epi32(*start, words(const { &by_lanes(B::SHIFTS) }));
                }
            }
        }
        Turned { codes, starts, sums }
    }
}

/// Runs by halves of blocks.
const HALVES: [i32; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15];
/// Runs of each register of [`Order::Natural`], four words of each.
const RUNS: [[i32; 16]; 4] = by_fours(false);
/// The same as places of [`HALVES`].
const RUNS_BY_HALVES: [[i32; 16]; 4] = by_fours(true);
/// Blocks of four words, as registers of [`Order::Quads`] are.
const FOURS: [[i32; 16]; 4] = by_fours(false);

/// Numbers of four words each of four registers; or where halves of blocks are, whose numbers these are.
const fn by_fours(by_halves: bool) -> [[i32; 16]; 4] {
    let mut numbers = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        let run = i / 4;
        let place = if by_halves { run % 2 * 8 + run / 2 } else { run };
        numbers[i / 16][i % 16] = place as i32;
        i += 1;
    }
    numbers
}

/// The integers of a group with a token: sixteen lanes of products; of types with minima eight, and
/// eight of minima.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn integers_of<B: Block, const N: usize>(w: &Raw, act: &Turned) -> __m512i {
    let zero = _mm512_setzero_si512();
    let (codes, a) = (&w.codes, &act.codes);
    let start = |i: usize| if B::OFFSET == 0 { zero } else { act.starts[i] };
    let scales = joined(w.scales[0], w.scales[1]);
    if N == 1 && B::SHIFTS.is_some() {
        let sums = four_products(start(0), codes, a);
        // Exact: codes, and so their sums, are multiples of what is divided by.
        let mut sums = _mm512_srav_epi32(sums, words(const { &by_lanes(B::SHIFTS) }));
        if let Some(up) = B::UPPER {
            let more = four_products(zero, &w.upper, a);
            let more = _mm512_sllv_epi32(more, _mm512_set1_epi32(up as i32));
            let blocks = words(const { &by_lanes(Some([0, 1, 2, 3, 4, 5, 6, 7])) });
            sums = _mm512_add_epi32(sums, _mm512_srav_epi32(more, blocks));
        }
        return with_mins::<B>(sums, scales, w, act);
    }
    match const { order::<B>(N) } {
        Order::Natural => {
            let mut p = zero;
            for q in 0..4 {
                let sums = _mm512_dpbusd_epi32(start(q), codes[q], a[q]);
                let scale = _mm512_permutexvar_epi32(words(&RUNS_BY_HALVES[q]), scales);
                p = _mm512_add_epi32(p, _mm512_mullo_epi32(sums, scale));
            }
            p
        }
        Order::Quads => {
            let two = |i: usize| {
                let sums = _mm512_dpbusd_epi32(start(i), codes[2 * i], a[2 * i]);
                let sums = _mm512_dpbusd_epi32(sums, codes[2 * i + 1], a[2 * i + 1]);
                let scale = _mm512_permutexvar_epi32(words(&FOURS[i]), scales);
                _mm512_mullo_epi32(sums, scale)
            };
            _mm512_add_epi32(two(0), two(1))
        }
        Order::Lanes => with_mins::<B>(four_products(start(0), codes, a), scales, w, act),
        Order::EvenOdd | Order::Pairs => unreachable!("no type of whole blocks has this order"),
    }
}

/// Sums of halves of blocks times scales; with minima where there are any.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn with_mins<B: Block>(sums: __m512i, scales: __m512i, w: &Raw, act: &Turned) -> __m512i {
    if !B::MINS {
        return _mm512_mullo_epi32(sums, scales);
    }
    let high = |x: __m512i| _mm512_extracti64x4_epi64::<1>(x);
    if B::HALVES {
        let p = _mm512_mullo_epi32(sums, scales);
        let m = _mm512_mullo_epi32(act.sums, joined(w.mins[0], w.mins[1]));
        let low = _mm512_inserti64x4::<1>(p, _mm512_castsi512_si256(m));
        return _mm512_add_epi32(low, _mm512_shuffle_i64x2::<0b11_10_11_10>(p, m));
    }
    let sums = _mm256_add_epi32(_mm512_castsi512_si256(sums), high(sums));
    let both =
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(sums), _mm512_castsi512_si256(act.sums));
    _mm512_mullo_epi32(both, joined(w.scales[0], w.mins[0]))
}

/// Lanes of two groups, added by pairs: in each 128 bits two of the one and two of the other.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn add_twos(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// The same of two times two groups: in each 128 bits one of each.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn add_fours(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Integers of eight groups: products, and minima where there are any.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn add_eights<B: Block>([first, second]: [__m512i; 2]) -> [__m256i; 2] {
    let all = _mm512_add_epi32(
        _mm512_shuffle_i32x4::<0b10_00_10_00>(first, second),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(first, second),
    );
    let even = _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0b00_00_10_00>(all, all));
    let odd = _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0b00_00_11_01>(all, all));
    if B::MINS { [even, odd] } else { [_mm256_add_epi32(even, odd), odd] }
}
