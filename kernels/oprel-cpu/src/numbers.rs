//! Weights stored as numbers times f32 activations, in the order that [`table`](crate::table)
//! defines: element `i` in lane `i % 8`, along rows.

use crate::act::F32Acts;
use crate::blocks::Vectors;
use crate::lanes::{LANES, Lanes, Number};
use crate::row_panel;
use crate::table::{DOT_N, Panel, Rows};
use bytemuck::pod_read_unaligned;
use half::{bf16, f16};
use oprel_quant::QuantType;

/// Elements between two prefetches of a row.
const STRETCH: usize = 32;
/// How far ahead of their use rows are fetched, in bytes. Rows are read side by side but fetched in
/// the order of memory, to the second cache; measured on Zen 4, this reaches the speed of a plain
/// read, and fetching each row ahead of itself does not.
const AHEAD: usize = 16 << 10;

/// Eight stored numbers at element `i` of a row.
#[inline(always)]
fn eight<O: Vectors, T: Number>(ops: O, row: &[u8], i: usize) -> O::V {
    let size = size_of::<T>();
    T::load(ops, &pod_read_unaligned::<[T; LANES]>(&row[i * size..(i + LANES) * size]))
}

/// A stored number.
#[inline(always)]
fn one<T: Number>(bytes: &[u8]) -> f32 {
    pod_read_unaligned::<T>(bytes).to_f32()
}

/// Sums of `R` rows with `N` tokens.
type Tile<O, const R: usize, const N: usize> = [[<O as Lanes>::V; N]; R];

/// Adds the products of elements `i..i + 8` to their lanes.
#[inline(always)]
fn add_eight<O: Vectors, T: Number, const R: usize, const N: usize>(
    ops: O,
    acc: &mut Tile<O, R, N>,
    rows: &[&[u8]; R],
    acts: &[&[f32]; N],
    i: usize,
) {
    let mut x = [ops.splat(0.0); N];
    for n in 0..N {
        x[n] = ops.load(&acts[n][i..i + LANES].as_chunks().0[0]);
    }
    for r in 0..R {
        let w = eight::<O, T>(ops, rows[r], i);
        for n in 0..N {
            acc[r][n] = ops.fma(w, x[n], acc[r][n]);
        }
    }
}

/// Dot products of `R` rows with `N` tokens. Rows that follow one another in memory can be fetched
/// `ahead`.
#[inline(always)]
fn tile<O: Vectors, T: Number, const R: usize, const N: usize>(
    ops: O,
    rows: [&[u8]; R],
    acts: [&[f32]; N],
    ahead: bool,
) -> [[f32; N]; R] {
    let size = size_of::<T>();
    let k = acts[0].len();
    assert!(rows.iter().all(|row| row.len() == k * size), "rows as long as the activations");
    assert!(acts.iter().all(|x| x.len() == k), "activations of one length");
    let mut acc = [[ops.splat(0.0); N]; R];
    let whole = k / STRETCH * STRETCH;
    for i in (0..whole).step_by(STRETCH) {
        if ahead {
            prefetch(ops, rows[0], R * i * size, R * STRETCH * size);
        }
        for j in 0..STRETCH / LANES {
            add_eight::<O, T, R, N>(ops, &mut acc, &rows, &acts, i + j * LANES);
        }
    }
    let eights = k / LANES * LANES;
    for i in (whole..eights).step_by(LANES) {
        add_eight::<O, T, R, N>(ops, &mut acc, &rows, &acts, i);
    }
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            out[r][n] =
                finish::<O, T>(ops, acc[r][n], (&rows[r][eights * size..], &acts[n][eights..]));
        }
    }
    out
}

/// Asks for `len` bytes that lie [`AHEAD`] of those at `at`, counted from the start of `row`.
#[inline(always)]
pub(crate) fn prefetch<O: Vectors>(ops: O, row: &[u8], at: usize, len: usize) {
    for line in (0..len).step_by(64) {
        ops.prefetch_far(row.as_ptr().wrapping_add(AHEAD + at + line));
    }
}

/// Adds the elements beyond the last eight, then all lanes.
#[inline(always)]
fn finish<O: Vectors, T: Number>(ops: O, acc: O::V, (row, x): (&[u8], &[f32])) -> f32 {
    if x.is_empty() {
        return ops.sum(acc);
    }
    let mut lanes = [0.0f32; LANES];
    ops.store(acc, &mut lanes);
    for ((lane, bytes), x) in lanes.iter_mut().zip(row.chunks_exact(size_of::<T>())).zip(x) {
        *lane = one::<T>(bytes).mul_add(*x, *lane);
    }
    ops.sum(ops.load(&lanes))
}

#[inline(always)]
pub(crate) fn dot<O: Vectors>(ops: O, rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    with_tokens(ops, rows, [x], out);
}

#[inline(always)]
pub(crate) fn dot_n<O: Vectors>(ops: O, rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let x = |t| acts.row(t);
    match acts.n() {
        0 => {}
        1 => with_tokens(ops, rows, [x(0)], out),
        2 => with_tokens(ops, rows, [x(0), x(1)], out),
        3 => with_tokens(ops, rows, [x(0), x(1), x(2)], out),
        DOT_N => with_tokens(ops, rows, [x(0), x(1), x(2), x(3)], out),
        n => unreachable!("{n} tokens at once"),
    }
}

#[inline(always)]
fn with_tokens<O: Vectors, const N: usize>(
    ops: O,
    rows: Rows<'_>,
    acts: [&[f32]; N],
    out: &mut [f32],
) {
    match rows.ty {
        QuantType::F32 => rows_with::<O, f32, N>(ops, rows, acts, out),
        QuantType::F16 => rows_with::<O, f16, N>(ops, rows, acts, out),
        _ => rows_with::<O, bf16, N>(ops, rows, acts, out),
    }
}

/// Four rows at a time for one token, two for more, so that additions of one row do not wait for
/// those of another.
#[inline(always)]
fn rows_with<O: Vectors, T: Number, const N: usize>(
    ops: O,
    rows: Rows<'_>,
    acts: [&[f32]; N],
    out: &mut [f32],
) {
    let row = |r: usize| &rows.bytes[r * rows.row_bytes..][..rows.row_bytes];
    let n_rows = rows.n();
    let mut put = |r: usize, sums: [f32; N]| {
        for t in 0..N {
            out[t * n_rows + r] = sums[t];
        }
    };
    let mut r = 0;
    while N == 1 && r + 4 <= n_rows {
        let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
        let sums = tile::<O, T, 4, N>(ops, four, acts, true);
        (0..4).for_each(|i| put(r + i, sums[i]));
        r += 4;
    }
    while r + 2 <= n_rows {
        let sums = tile::<O, T, 2, N>(ops, [row(r), row(r + 1)], acts, true);
        (0..2).for_each(|i| put(r + i, sums[i]));
        r += 2;
    }
    if r < n_rows {
        put(r, tile::<O, T, 1, N>(ops, [row(r)], acts, false)[0]);
    }
}

/// Writes the rows to the panel as f32.
#[inline(always)]
pub(crate) fn unpack_panel<O: Vectors>(ops: O, rows: Rows<'_>, panel: &mut Panel<'_>) {
    let out = &mut panel.memory[..rows.n() * rows.k];
    match rows.ty {
        QuantType::F32 => widen::<O, f32>(ops, rows.bytes, out),
        QuantType::F16 => widen::<O, f16>(ops, rows.bytes, out),
        _ => widen::<O, bf16>(ops, rows.bytes, out),
    }
}

#[inline(always)]
fn widen<O: Vectors, T: Number>(ops: O, bytes: &[u8], out: &mut [f32]) {
    let (eights, tail) = out.as_chunks_mut::<LANES>();
    let size = size_of::<T>();
    for (i, y) in eights.iter_mut().enumerate() {
        ops.store(eight::<O, T>(ops, bytes, i * LANES), y);
    }
    let rest = &bytes[eights.len() * LANES * size..];
    for (y, bytes) in tail.iter_mut().zip(rest.chunks_exact(size)) {
        *y = one::<T>(bytes);
    }
}

/// Tiles of four rows by three tokens.
#[inline(always)]
pub(crate) fn gemm<O: Vectors>(ops: O, panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let (n, x) = (acts.n(), |t| acts.row(t));
    for t in (0..n).step_by(3) {
        match n - t {
            1 => panel_with(ops, panel, [x(t)], t, out),
            2 => panel_with(ops, panel, [x(t), x(t + 1)], t, out),
            _ => panel_with(ops, panel, [x(t), x(t + 1), x(t + 2)], t, out),
        }
    }
}

/// All rows of a panel with `N` tokens, of which `first` is the first.
#[inline(always)]
fn panel_with<O: Vectors, const N: usize>(
    ops: O,
    panel: &Panel<'_>,
    acts: [&[f32]; N],
    first: usize,
    out: &mut [f32],
) {
    let stride = row_panel::size(panel.ty, panel.k).rows;
    let row = |r: usize| bytemuck::cast_slice(&panel.memory[r * panel.k..][..panel.k]);
    let mut put = |r: usize, sums: [f32; N]| {
        for t in 0..N {
            out[(first + t) * stride + r] = sums[t];
        }
    };
    let mut r = 0;
    while r + 4 <= panel.n_rows {
        let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
        let sums = tile::<O, f32, 4, N>(ops, four, acts, false);
        (0..4).for_each(|i| put(r + i, sums[i]));
        r += 4;
    }
    while r < panel.n_rows {
        put(r, tile::<O, f32, 1, N>(ops, [row(r)], acts, false)[0]);
        r += 1;
    }
}
