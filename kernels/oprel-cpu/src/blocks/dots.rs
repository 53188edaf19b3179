//! Dot products of rows of blocks, in the order that [`table`](crate::table) defines.

use super::{Block, Vectors, Wide, padded, unpack, unpack_above, wide_bytes};
use crate::act::{ActRow, Q8Acts};
use crate::table::{DOT_N, Rows};

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

#[inline(always)]
pub(crate) fn dot<O: Vectors, B: Block>(ops: O, rows: Rows<'_>, act: ActRow<'_>, out: &mut [f32]) {
    rows_with::<O, B, 1>(ops, rows, &[act], out);
}

#[inline(always)]
pub(crate) fn dot_n<O: Vectors, B: Block>(
    ops: O,
    rows: Rows<'_>,
    acts: Q8Acts<'_>,
    out: &mut [f32],
) {
    let row = |t| acts.row(t);
    match acts.n() {
        0 => {}
        1 => rows_with::<O, B, 1>(ops, rows, &[row(0)], out),
        2 => rows_with::<O, B, 2>(ops, rows, &[row(0), row(1)], out),
        3 => rows_with::<O, B, 3>(ops, rows, &[row(0), row(1), row(2)], out),
        DOT_N => rows_with::<O, B, 4>(ops, rows, &[row(0), row(1), row(2), row(3)], out),
        n => unreachable!("{n} tokens at once"),
    }
}
