//! Integer products of groups with activations, in the order that [`table`](crate::table) defines.

use super::blocks::{Block, Group};
use crate::act::{ActRow, Q8Acts};
use crate::table::{DOT_N, Rows};
use std::arch::x86_64::*;

/// How far ahead of its use a row is fetched, in bytes: enough to cover the latency of memory at
/// full bandwidth.
pub(super) const AHEAD: usize = 6 << 10;
/// Bytes that 256 weights take at most, for a last group that is cut short.
const LONGEST: usize = 8 * 34;

/// Asks for the bytes `AHEAD` of `span`, every cache line of them.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn prefetch(span: &[u8]) {
    for line in (0..span.len()).step_by(64) {
        _mm_prefetch::<_MM_HINT_T0>(span.as_ptr().wrapping_add(AHEAD + line).cast());
    }
}

/// Products of 32 codes with 32 activations, in pairs: 16 sums of i16.
///
/// Codes are made positive and their signs moved to the activations; both are at least -127 or
/// the code is -128, so a pair is at most 2 * 128 * 127, which an i16 holds.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pairs<const POSITIVE: bool>(codes: __m256i, act: __m256i) -> __m256i {
    if POSITIVE {
        _mm256_maddubs_epi16(codes, act)
    } else {
        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(act, codes))
    }
}

/// Sums of the halves of four blocks: the first halves, then the second ones.
///
/// `SMALL` codes, at most 32 away from 0, allow to add four pairs in 16 bits first
/// (8 * 32 * 127 = 32512).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn run_sums<const SMALL: bool>(p: [__m256i; 4]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    if SMALL {
        let a =
            _mm256_add_epi16(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
        let b =
            _mm256_add_epi16(_mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
        let c = _mm256_add_epi16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        return _mm256_madd_epi16(c, ones);
    }
    let p = [
        _mm256_madd_epi16(p[0], ones),
        _mm256_madd_epi16(p[1], ones),
        _mm256_madd_epi16(p[2], ones),
        _mm256_madd_epi16(p[3], ones),
    ];
    let a = _mm256_add_epi32(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
    let b = _mm256_add_epi32(_mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
    _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// 256 weights in registers.
pub(super) struct Wide {
    pub(super) codes: [__m256i; 8],
    /// By half, then by block.
    pub(super) scales: [__m256; 2],
    pub(super) mins: [__m256; 2],
}

/// Two groups of 128 side by side.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn wide<B: Block>(a: Group, b: Group) -> Wide {
    let [a0, a1, a2, a3] = a.codes;
    let [b0, b1, b2, b3] = b.codes;
    let firsts = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
    let seconds = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
    Wide {
        codes: [a0, a1, a2, a3, b0, b1, b2, b3],
        scales: [firsts(a.scales, b.scales), seconds(a.scales, b.scales)],
        mins: [firsts(a.mins, b.mins), seconds(a.mins, b.mins)],
    }
}

/// Bytes of 256 weights.
pub(super) const fn wide_bytes<B: Block>() -> usize {
    B::SPAN_BYTES * 2 / B::GROUPS
}

/// Unpacks [`wide_bytes`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn unpack<B: Block>(bytes: &[u8]) -> Wide {
    let (first, second) = match B::GROUPS {
        1 => bytes.split_at(B::SPAN_BYTES),
        _ => (bytes, bytes),
    };
    // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
    unsafe { wide::<B>(B::group(first, 0), B::group(second, B::GROUPS - 1)) }
}

/// Adds the products of group `g` with a token to its lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_group<B: Block>(acc: &mut __m256, w: &Wide, act: ActRow<'_>, g: usize) {
    let act = &act[g];
    // SAFETY: what is read are arrays of 32 bytes.
    unsafe {
        let (codes, _) = act.codes.as_chunks::<32>();
        let product =
            |b: usize| pairs_of::<B>(w.codes[b], _mm256_loadu_si256(codes[b].as_ptr().cast()));
        let first = run_sums_of::<B>([product(0), product(1), product(2), product(3)]);
        let second = run_sums_of::<B>([product(4), product(5), product(6), product(7)]);
        let halves = [
            _mm256_permute2x128_si256::<0x20>(first, second),
            _mm256_permute2x128_si256::<0x31>(first, second),
        ];
        let float = |x: __m256i| _mm256_cvtepi32_ps(x);
        let mut p;
        if B::HALVES {
            p = _mm256_mul_ps(w.scales[0], float(halves[0]));
            p = _mm256_fmadd_ps(w.scales[1], float(halves[1]), p);
        } else {
            p = _mm256_mul_ps(w.scales[0], float(_mm256_add_epi32(halves[0], halves[1])));
        }
        if B::MINS && B::HALVES {
            let sum = |half: usize| float(_mm256_loadu_si256(act.sums[half].as_ptr().cast()));
            p = _mm256_fmadd_ps(w.mins[0], sum(0), p);
            p = _mm256_fmadd_ps(w.mins[1], sum(1), p);
        } else if B::MINS {
            let totals = float(_mm256_loadu_si256(act.totals.as_ptr().cast()));
            p = _mm256_fmadd_ps(w.mins[0], totals, p);
        }
        *acc = _mm256_fmadd_ps(p, _mm256_loadu_ps(act.scales.as_ptr()), *acc);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pairs_of<B: Block>(codes: __m256i, act: __m256i) -> __m256i {
    if B::MINS { pairs::<true>(codes, act) } else { pairs::<false>(codes, act) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn run_sums_of<B: Block>(p: [__m256i; 4]) -> __m256i {
    if B::MINS || B::SMALL { run_sums::<true>(p) } else { run_sums::<false>(p) }
}

/// The sum of eight lanes, as [`lanes::sum`](crate::lanes::sum).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn sum(x: __m256) -> f32 {
    let q = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let pairs = _mm_add_ps(q, _mm_movehl_ps(q, q));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// Rows with `N` tokens: `out[t * rows + r]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rows_with<B: Block, const N: usize>(rows: Rows<'_>, acts: &[ActRow<'_>; N], out: &mut [f32]) {
    let n_rows = rows.n();
    for (r, row) in rows.iter().enumerate() {
        let mut acc = [_mm256_setzero_ps(); N];
        let groups = row.chunks_exact(wide_bytes::<B>());
        let tail = groups.remainder();
        let n_groups = groups.len();
        for (g, bytes) in groups.enumerate() {
            prefetch(bytes);
            let w = unpack::<B>(bytes);
            for t in 0..N {
                add_group::<B>(&mut acc[t], &w, acts[t], g);
            }
        }
        if !tail.is_empty() {
            let w = unpack::<B>(&padded(tail)[..wide_bytes::<B>()]);
            for t in 0..N {
                add_group::<B>(&mut acc[t], &w, acts[t], n_groups);
            }
        }
        for t in 0..N {
            out[t * n_rows + r] = sum(acc[t]);
        }
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

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn dot<B: Block>(rows: Rows<'_>, act: ActRow<'_>, out: &mut [f32]) {
    rows_with::<B, 1>(rows, &[act], out);
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let row = |t| acts.row(t);
    match acts.n() {
        0 => {}
        1 => rows_with::<B, 1>(rows, &[row(0)], out),
        2 => rows_with::<B, 2>(rows, &[row(0), row(1)], out),
        3 => rows_with::<B, 3>(rows, &[row(0), row(1), row(2)], out),
        DOT_N => rows_with::<B, 4>(rows, &[row(0), row(1), row(2), row(3)], out),
        n => unreachable!("{n} tokens at once"),
    }
}
