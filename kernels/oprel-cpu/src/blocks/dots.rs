//! Dot products of rows of blocks, in the order that [`table`](crate::table) defines.

use super::{Block, Vectors, Wide, padded, unpack, unpack_above, wide_bytes};
use crate::act::{ActRow, BLOCKS, Q8Acts, WholeRow};
use crate::table::{DOT_N, Rows};
use half::f16;

/// How far ahead of its use a row is fetched, in bytes: enough to cover the latency of memory at
/// full bandwidth.
pub(crate) const AHEAD: usize = 6 << 10;
/// Bytes of a cache line, or a part of one.
const LINE: usize = 64;

/// Asks for the bytes `AHEAD` of `span`, every cache line of them.
#[inline(always)]
pub(super) fn prefetch_span<O: Vectors>(ops: O, span: &[u8]) {
    for line in (0..span.len()).step_by(LINE) {
        ops.prefetch(span.as_ptr().wrapping_add(AHEAD + line));
    }
}

/// Adds the products of group `g` with a token to its lanes.
#[inline(always)]
fn add_group<O: Vectors, B: Block>(ops: O, acc: &mut O::V, w: &Wide<O>, act: ActRow<'_>, g: usize) {
    let act = &act[g];
    let sums = ops.products::<B>(&w.codes, act);
    let mut p = ops.mul(w.scales[0], sums[0]);
    if B::HALVES {
        p = ops.fma(w.scales[1], sums[1], p);
    }
    if B::MINS && B::HALVES {
        p = ops.fma(w.mins[0], ops.integers(&act.sums[0]), p);
        p = ops.fma(w.mins[1], ops.integers(&act.sums[1]), p);
    } else if B::MINS {
        p = ops.fma(w.mins[0], ops.integers(&act.totals), p);
    }
    *acc = ops.fma(p, ops.load(&act.scales), *acc);
}

/// Weights with codes as [`Vectors::products`] takes them.
#[inline(always)]
fn codes_of<O: Vectors, B: Block>(ops: O, bytes: &[u8]) -> Wide<O> {
    if O::ABOVE { unpack_above::<O, B>(ops, bytes) } else { unpack::<O, B>(ops, bytes) }
}

/// Rows with `N` tokens: `out[t * rows + r]`.
#[inline(always)]
fn rows_with<O: Vectors, B: Block, const N: usize>(
    ops: O,
    rows: Rows<'_>,
    acts: &[ActRow<'_>; N],
    out: &mut [f32],
) {
    let n_rows = rows.n();
    for (r, row) in rows.iter().enumerate() {
        let mut acc = [ops.splat(0.0); N];
        let groups = row.chunks_exact(wide_bytes::<B>());
        let (n_groups, tail) = (groups.len(), groups.remainder());
        for (g, bytes) in groups.enumerate() {
            prefetch_span(ops, bytes);
            let w = codes_of::<O, B>(ops, bytes);
            for t in 0..N {
                add_group::<O, B>(ops, &mut acc[t], &w, acts[t], g);
            }
        }
        // A block of two groups is never cut short.
        if B::GROUPS == 1 && !tail.is_empty() {
            let w = codes_of::<O, B>(ops, &padded(tail)[..wide_bytes::<B>()]);
            for t in 0..N {
                add_group::<O, B>(ops, &mut acc[t], &w, acts[t], n_groups);
            }
        }
        for t in 0..N {
            out[t * n_rows + r] = ops.sum(acc[t]);
        }
    }
}

/// Integers of eight groups with `N` tokens.
type Eight<const N: usize> = [[i32; BLOCKS]; N];

/// [`rows_with`] for types of [`Block::WHOLE`], eight groups at a time.
#[inline(always)]
fn whole_rows_with<O: Vectors, B: Block, const N: usize>(
    ops: O,
    rows: Rows<'_>,
    acts: &[WholeRow<'_>; N],
    out: &mut [f32],
) {
    let n_rows = rows.n();
    for (r, row) in rows.iter().enumerate() {
        let mut acc = [ops.splat(0.0); N];
        for (e, eight) in row.chunks(BLOCKS * B::SPAN_BYTES).enumerate() {
            let (mut products, mut mins): (Eight<N>, Eight<N>) = ([[0; 8]; N], [[0; 8]; N]);
            let mut numbers = [[f16::ZERO; BLOCKS]; 2];
            // What adds nothing, not even the sign of a zero, where there is no group.
            let mut scales = [[-0.0; BLOCKS]; N];
            for (i, bytes) in eight.chunks_exact(B::SPAN_BYTES).enumerate().take(BLOCKS) {
                prefetch_span(ops, bytes);
                let w = codes_of::<O, B>(ops, bytes);
                let [d, d_min] = B::numbers(bytes);
                (numbers[0][i], numbers[1][i]) = (f16::from_bits(d), f16::from_bits(d_min));
                for t in 0..N {
                    let act = &acts[t][BLOCKS * e + i];
                    [products[t][i], mins[t][i]] = ops.whole::<B>(&w, act);
                    scales[t][i] = act.scale;
                }
            }
            let d = ops.load_f16(&numbers[0]);
            let d_min = ops.negate(ops.load_f16(&numbers[1]));
            for t in 0..N {
                let mut p = ops.mul(d, ops.integers(&products[t]));
                if B::MINS {
                    p = ops.fma(d_min, ops.integers(&mins[t]), p);
                }
                acc[t] = ops.fma(p, ops.load(&scales[t]), acc[t]);
            }
        }
        for t in 0..N {
            out[t * n_rows + r] = ops.sum(acc[t]);
        }
    }
}

/// Rows with the first `N` tokens.
#[inline(always)]
fn first_with<O: Vectors, B: Block, const N: usize>(
    ops: O,
    rows: Rows<'_>,
    acts: Q8Acts<'_>,
    out: &mut [f32],
) {
    if B::WHOLE {
        let mut of: [WholeRow<'_>; N] = [&[]; N];
        for t in 0..N {
            of[t] = acts.whole_row(t);
        }
        whole_rows_with::<O, B, N>(ops, rows, &of, out);
    } else {
        let mut of: [ActRow<'_>; N] = [&[]; N];
        for t in 0..N {
            of[t] = acts.row(t);
        }
        rows_with::<O, B, N>(ops, rows, &of, out);
    }
}

#[inline(always)]
pub(crate) fn dot<O: Vectors, B: Block>(ops: O, rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    first_with::<O, B, 1>(ops, rows, acts, out);
}

#[inline(always)]
pub(crate) fn dot_n<O: Vectors, B: Block>(
    ops: O,
    rows: Rows<'_>,
    acts: Q8Acts<'_>,
    out: &mut [f32],
) {
    match acts.n() {
        0 => {}
        1 => first_with::<O, B, 1>(ops, rows, acts, out),
        2 => first_with::<O, B, 2>(ops, rows, acts, out),
        3 => first_with::<O, B, 3>(ops, rows, acts, out),
        DOT_N => first_with::<O, B, 4>(ops, rows, acts, out),
        n => unreachable!("{n} tokens at once"),
    }
}
