//! Integer products of groups with activations, in the order that [`table`](crate::table) defines.

use super::blocks::{Block, Group};
use crate::act::{ActRow, GROUP, Q8Acts};
use crate::table::{DOT_N, Panel, Rows};
use std::arch::x86_64::*;

/// How far ahead of its use a row is fetched, in bytes: enough to cover the latency of memory at
/// full bandwidth.
const AHEAD: usize = 6 << 10;
/// Bytes that the largest span takes, for a last span that is cut short.
const LONGEST_SPAN: usize = 256;

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

/// Sums of the runs of a group: eight i32, by lane.
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

/// Adds the products of group `g` with a token to its lanes. `MINS` says that there are minima, and
/// that codes are not negative.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_group<const MINS: bool, const SMALL: bool>(
    acc: &mut __m256,
    group: &Group,
    act: &ActRow<'_>,
    g: usize,
) {
    let codes = &act.codes[g * GROUP..][..GROUP];
    let scales = &act.scales[g * 4..][..4];
    // SAFETY: what is read lies in the slices just cut.
    unsafe {
        let load = |b: usize| _mm256_loadu_si256(codes[b * 32..][..32].as_ptr().cast());
        let p = [
            pairs::<MINS>(group.codes[0], load(0)),
            pairs::<MINS>(group.codes[1], load(1)),
            pairs::<MINS>(group.codes[2], load(2)),
            pairs::<MINS>(group.codes[3], load(3)),
        ];
        let sums = _mm256_cvtepi32_ps(run_sums::<SMALL>(p));
        let four = _mm_loadu_ps(scales.as_ptr());
        let scales = _mm256_mul_ps(group.scales, _mm256_set_m128(four, four));
        *acc = _mm256_fmadd_ps(scales, sums, *acc);
        if MINS {
            let act_sums = _mm256_loadu_ps(act.sums[g * 8..][..8].as_ptr());
            *acc = _mm256_fmadd_ps(group.mins, act_sums, *acc);
        }
    }
}

/// The sum of eight lanes, as [`lanes::sum`](crate::lanes::sum).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn sum(x: __m256) -> f32 {
    let q = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let pairs = _mm_add_ps(q, _mm_movehl_ps(q, q));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// Adds the products of one span, whose first group is `g`, with `N` tokens.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_span<B: Block, const N: usize>(
    acc: &mut [__m256; N],
    span: &[u8],
    acts: &[ActRow<'_>; N],
    g: usize,
) {
    for i in 0..B::GROUPS {
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
        let group = unsafe { B::group(span, i) };
        for t in 0..N {
            // The four combinations are constants of the type: one branch is compiled.
            match (B::MINS, B::SMALL) {
                (true, _) => add_group::<true, true>(&mut acc[t], &group, &acts[t], g + i),
                (false, true) => {
                    add_group::<false, true>(&mut acc[t], &group, &acts[t], g + i);
                }
                (false, false) => {
                    add_group::<false, false>(&mut acc[t], &group, &acts[t], g + i);
                }
            }
        }
    }
}

/// Rows with `N` tokens: `out[t * rows + r]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rows_with<B: Block, const N: usize>(rows: Rows<'_>, acts: &[ActRow<'_>; N], out: &mut [f32]) {
    let n_rows = rows.n();
    for (r, row) in rows.iter().enumerate() {
        let mut acc = [_mm256_setzero_ps(); N];
        let spans = row.chunks_exact(B::SPAN_BYTES);
        let tail = spans.remainder();
        let mut g = 0;
        for span in spans {
            prefetch(span);
            add_span::<B, N>(&mut acc, span, acts, g);
            g += B::GROUPS;
        }
        if !tail.is_empty() {
            let span = padded(tail);
            add_span::<B, N>(&mut acc, &span[..B::SPAN_BYTES], acts, g);
        }
        for t in 0..N {
            out[t * n_rows + r] = sum(acc[t]);
        }
    }
}

/// A span that is cut short, with zeros behind it. Their scales may mean anything finite: the
/// activations there are zero.
#[inline]
fn padded(tail: &[u8]) -> [u8; LONGEST_SPAN] {
    let mut span = [0; LONGEST_SPAN];
    span[..tail.len()].copy_from_slice(tail);
    span
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

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn unpack_panel<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let n_groups = panel.padded_k / GROUP;
    for (r, row) in rows.iter().enumerate() {
        let spans = row.chunks_exact(B::SPAN_BYTES);
        let tail = spans.remainder();
        let mut g = r * n_groups;
        for span in spans {
            prefetch(span);
            put_span::<B>(panel, span, g);
            g += B::GROUPS;
        }
        if !tail.is_empty() {
            put_span::<B>(panel, &padded(tail)[..B::SPAN_BYTES], g);
        }
    }
}

/// Writes a span to the panel, its first group being the panel's `g`th.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn put_span<B: Block>(panel: &mut Panel<'_>, span: &[u8], g: usize) {
    for i in 0..B::GROUPS {
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
        let group = unsafe { B::group(span, i) };
        let codes = &mut panel.codes[(g + i) * GROUP..][..GROUP];
        let scales = &mut panel.scales[(g + i) * 8..][..8];
        // SAFETY: what is written lies in the slices just cut.
        unsafe {
            for b in 0..4 {
                let codes = &mut codes[b * 32..][..32];
                _mm256_storeu_si256(codes.as_mut_ptr().cast(), group.codes[b]);
            }
            _mm256_storeu_ps(scales.as_mut_ptr(), group.scales);
            if B::MINS {
                let mins = &mut panel.mins[(g + i) * 8..][..8];
                _mm256_storeu_ps(mins.as_mut_ptr(), group.mins);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn gemm_q8(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    match (panel.mins.is_empty(), panel.small) {
        (false, _) => gemm_tokens::<true, true>(panel, acts, out),
        (true, true) => gemm_tokens::<false, true>(panel, acts, out),
        (true, false) => gemm_tokens::<false, false>(panel, acts, out),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn gemm_tokens<const MINS: bool, const SMALL: bool>(
    panel: &Panel<'_>,
    acts: Q8Acts<'_>,
    out: &mut [f32],
) {
    let n = acts.n();
    let mut t = 0;
    while t + 4 <= n {
        let tokens = [acts.row(t), acts.row(t + 1), acts.row(t + 2), acts.row(t + 3)];
        gemm_tile::<MINS, SMALL, 4>(panel, &tokens, &mut out[t * panel.n_rows..]);
        t += 4;
    }
    for t in t..n {
        gemm_tile::<MINS, SMALL, 1>(panel, &[acts.row(t)], &mut out[t * panel.n_rows..]);
    }
}

/// All rows of the panel with `N` tokens.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn gemm_tile<const MINS: bool, const SMALL: bool, const N: usize>(
    panel: &Panel<'_>,
    acts: &[ActRow<'_>; N],
    out: &mut [f32],
) {
    for r in 0..panel.n_rows {
        let (codes, scales, mins) = panel.row(r);
        let mut acc = [_mm256_setzero_ps(); N];
        for g in 0..panel.padded_k / GROUP {
            let group = load_group::<MINS>(codes, scales, mins, g);
            for t in 0..N {
                add_group::<MINS, SMALL>(&mut acc[t], &group, &acts[t], g);
            }
        }
        for t in 0..N {
            out[t * panel.n_rows + r] = sum(acc[t]);
        }
    }
}

/// Group `g` of a row of the panel.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_group<const MINS: bool>(codes: &[i8], scales: &[f32], mins: &[f32], g: usize) -> Group {
    let codes = &codes[g * GROUP..][..GROUP];
    // SAFETY: what is read lies in the slices cut here.
    unsafe {
        let load = |b: usize| _mm256_loadu_si256(codes[b * 32..][..32].as_ptr().cast());
        let mins =
            if MINS { _mm256_loadu_ps(mins[g * 8..][..8].as_ptr()) } else { _mm256_setzero_ps() };
        Group {
            codes: [load(0), load(1), load(2), load(3)],
            scales: _mm256_loadu_ps(scales[g * 8..][..8].as_ptr()),
            mins,
        }
    }
}
