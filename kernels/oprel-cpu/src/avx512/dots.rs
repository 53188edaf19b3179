//! Rows times one token or a few, in the order that [`table`](crate::table) defines: 256 weights
//! at a time, a lane for each of their blocks.

use super::blocks::{Block, Group};
use crate::act::{ActGroup, ActRow, BLOCKS, Q8Acts};
use crate::table::{DOT_N, Rows};
use std::arch::x86_64::*;

/// How far ahead of its use a row is fetched, in bytes: enough to cover the latency of memory at
/// full bandwidth.
const AHEAD: usize = 4 << 10;
/// Groups of fewer bytes are asked for line by line: their arithmetic fills the time that a line
/// takes to come, and the processor alone does not look far enough ahead. Larger ones would fill
/// all places for missing lines; there one line a group keeps the processor's own fetching going.
const FEW_BYTES: usize = 192;
/// Bytes that 256 weights take at most, for a last group that is cut short.
const LONGEST: usize = 8 * 34;

/// Asks for the bytes `AHEAD` of these. (Measured on Zen 4; `benches/` has the kernels by type.)
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn prefetch(bytes: &[u8]) {
    let ahead = bytes.as_ptr().wrapping_add(AHEAD).cast::<i8>();
    if bytes.len() >= FEW_BYTES {
        _mm_prefetch::<_MM_HINT_T1>(ahead);
        return;
    }
    for line in (0..bytes.len()).step_by(64) {
        _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(line));
    }
}

/// A group that is cut short, with zeros behind it. Their scales may mean anything finite: the
/// activations there are zero.
#[inline]
pub(super) fn padded(tail: &[u8]) -> [u8; LONGEST] {
    let mut bytes = [0; LONGEST];
    bytes[..tail.len()].copy_from_slice(tail);
    bytes
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

/// Sums of products of a group's codes with a token's: of the first halves of its eight blocks, and of
/// the second ones.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn half_sums<B: Block>(codes: &[__m512i; 4], act: &ActGroup) -> [__m256i; 2] {
    let product = |i: usize| {
        // SAFETY: 64 bytes are read from an array of 256, `i` being below 4.
        let act = unsafe { _mm512_loadu_si512(act.codes[64 * i..][..64].as_ptr().cast()) };
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[i], act)
    };
    let (a, b, c, d) = (product(0), product(1), product(2), product(3));
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
    let mut all = _mm512_permutexvar_epi32(order, all);
    if B::OFFSET != 0 {
        // SAFETY: an array of 64 bytes is read.
        let sums = unsafe { _mm512_loadu_si512(act.sums.as_ptr().cast()) };
        all = _mm512_sub_epi32(all, _mm512_mullo_epi32(sums, _mm512_set1_epi32(B::OFFSET)));
    }
    [_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all)]
}

/// Eight numbers.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load(x: &[f32; BLOCKS]) -> __m256 {
    // SAFETY: an array of 32 bytes is read.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

/// Eight integers as numbers.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load_sums(x: &[i32; BLOCKS]) -> __m256 {
    // SAFETY: an array of 32 bytes is read.
    _mm256_cvtepi32_ps(unsafe { _mm256_loadu_si256(x.as_ptr().cast()) })
}

/// Adds the products of a group with a token's to its lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_group<B: Block>(acc: &mut __m256, w: &Group, act: &ActGroup) {
    let [first, second] = half_sums::<B>(&w.codes, act);
    let mut p;
    if B::HALVES {
        p = _mm256_mul_ps(w.scales[0], _mm256_cvtepi32_ps(first));
        p = _mm256_fmadd_ps(w.scales[1], _mm256_cvtepi32_ps(second), p);
    } else {
        p = _mm256_mul_ps(w.scales[0], _mm256_cvtepi32_ps(_mm256_add_epi32(first, second)));
    }
    if B::MINS && B::HALVES {
        p = _mm256_fmadd_ps(w.mins[0], load_sums(&act.sums[0]), p);
        p = _mm256_fmadd_ps(w.mins[1], load_sums(&act.sums[1]), p);
    } else if B::MINS {
        p = _mm256_fmadd_ps(w.mins[0], load_sums(&act.totals), p);
    }
    *acc = _mm256_fmadd_ps(p, load(&act.scales), *acc);
}

/// The sum of eight lanes, as [`lanes::sum`](crate::lanes::sum).
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn sum(x: __m256) -> f32 {
    let q = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let pairs = _mm_add_ps(q, _mm_movehl_ps(q, q));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// Rows with `N` tokens: `out[t * rows + r]`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn rows_with<B: Block, const N: usize>(rows: Rows<'_>, acts: [ActRow<'_>; N], out: &mut [f32]) {
    let n_rows = rows.n();
    for (r, row) in rows.iter().enumerate() {
        let mut acc = [_mm256_setzero_ps(); N];
        let groups = row.chunks_exact(B::BYTES);
        let tail = groups.remainder();
        let n_groups = groups.len();
        for (g, bytes) in groups.enumerate() {
            prefetch(bytes);
            // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
            let w = unsafe { B::group(bytes) };
            for t in 0..N {
                add_group::<B>(&mut acc[t], &w, &acts[t][g]);
            }
        }
        if !tail.is_empty() {
            // SAFETY: as above.
            let w = unsafe { B::group(&padded(tail)[..B::BYTES]) };
            for t in 0..N {
                add_group::<B>(&mut acc[t], &w, &acts[t][n_groups]);
            }
        }
        for t in 0..N {
            out[t * n_rows + r] = sum(acc[t]);
        }
    }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn dot<B: Block>(rows: Rows<'_>, act: ActRow<'_>, out: &mut [f32]) {
    rows_with::<B, 1>(rows, [act], out);
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let row = |t| acts.row(t);
    match acts.n() {
        0 => {}
        1 => rows_with::<B, 1>(rows, [row(0)], out),
        2 => rows_with::<B, 2>(rows, [row(0), row(1)], out),
        3 => rows_with::<B, 3>(rows, [row(0), row(1), row(2)], out),
        DOT_N => rows_with::<B, 4>(rows, [row(0), row(1), row(2), row(3)], out),
        n => unreachable!("{n} tokens at once"),
    }
}
