//! What becomes of results: a tile of them is written out while it is in cache.
#![expect(unsafe_code, reason = "threads write disjoint columns of one matrix")]

use super::product::Tile;
use crate::Isa;
use crate::act::Q8Mut;
use crate::activation::{Activation, activate, activate_gated, add_times_lanes};
use crate::disjoint::Disjoint;
use crate::lanes::{Ops, tiers};

/// Where results of a matrix of `rows` rows go.
#[derive(Clone, Copy)]
pub(super) enum To<'a> {
    /// Stored: (n, rows).
    Store(Disjoint<'a, f32>),
    /// Added to (n, rows), times a factor.
    Add(Disjoint<'a, f32>, f32),
    /// Quantized as tokens from `first` on; (n, rows) keeps those that come in parts of blocks.
    Quantize { wide: Disjoint<'a, f32>, acts: &'a Q8Mut<'a>, first: usize },
}

/// Activates a tile, or the tile of its gate times it; gives the one with the result.
pub(super) fn activated<'t>(
    isa: Isa,
    f: Option<Activation>,
    tile: Tile<'t>,
    gate: Option<Tile<'t>>,
) -> Tile<'t> {
    let f = f.unwrap_or(Activation::Identity);
    match gate {
        None if f == Activation::Identity => tile,
        None => {
            activate(isa, f, tile.y);
            tile
        }
        Some(gate) if gate.stride == tile.stride => {
            activate_gated(isa, f, gate.y, tile.y);
            gate
        }
        Some(gate) => {
            let rows = gate.y.chunks_exact_mut(gate.stride).zip(tile.y.chunks_exact(tile.stride));
            for (gate_row, row) in rows {
                activate_gated(isa, f, &mut gate_row[..tile.n_rows], &row[..tile.n_rows]);
            }
            gate
        }
    }
}

impl To<'_> {
    /// Writes out a tile that begins at token `t` and row `r`, of a matrix of `rows` rows; `in_blocks`
    /// if its rows are whole blocks of what may be quantized, or the matrix's last.
    ///
    /// # Safety
    /// The columns of the tile's rows belong to this thread.
    pub(super) unsafe fn put(
        self,
        isa: Isa,
        rows: usize,
        (t, r): (usize, usize),
        tile: &Tile<'_>,
        in_blocks: bool,
    ) {
        match self {
            To::Store(out) => store(isa, &Columns { out, rows }, t, r, tile),
            To::Add(out, factor) => add(isa, &Columns { out, rows }, t, r, tile, factor),
            To::Quantize { acts, first, .. } if in_blocks => {
                for (i, row) in tile.y.chunks_exact(tile.stride).enumerate() {
                    // SAFETY: the caller promises that these rows are this thread's.
                    unsafe { acts.put(isa, first + t + i, r, &row[..tile.n_rows]) };
                }
            }
            To::Quantize { wide, .. } => store(isa, &Columns { out: wide, rows }, t, r, tile),
        }
    }

    /// Quantizes rows `start..end` of all `n` tokens, of which tiles were parts of blocks.
    ///
    /// # Safety
    /// As [`To::put`].
    pub(super) unsafe fn finish(
        self,
        isa: Isa,
        rows: usize,
        n: usize,
        (start, end): (usize, usize),
    ) {
        let To::Quantize { wide, acts, first } = self else { return };
        for t in 0..n {
            // SAFETY: the caller promises that these rows are this thread's.
            unsafe {
                acts.put(isa, first + t, start, wide.range(t * rows + start..t * rows + end));
            }
        }
    }
}

/// A matrix (n, rows) of which this thread has some columns.
struct Columns<'a> {
    out: Disjoint<'a, f32>,
    rows: usize,
}

impl<'a> Columns<'a> {
    /// Token `t`'s elements from row `r` on.
    #[inline(always)]
    fn of(&self, t: usize, r: usize, n: usize) -> &'a mut [f32] {
        let at = t * self.rows + r;
        // SAFETY: a chunk's rows belong to one thread (promise of `To::put`), which takes one range
        // at a time.
        unsafe { self.out.range(at..at + n) }
    }
}

tiers! {
    fn store(out: &Columns<'_>, t: usize, r: usize, tile: &Tile<'_>) = store_lanes;
    fn add(out: &Columns<'_>, t: usize, r: usize, tile: &Tile<'_>, factor: f32) = add_lanes;
}

/// Rows of a full tile of the widest tier: their copy has a length that the compiler knows.
const FULL: usize = 32;

#[inline(always)]
fn store_lanes<O: Ops>(_: O, out: &Columns<'_>, t: usize, r: usize, tile: &Tile<'_>) {
    for (i, row) in tile.y.chunks_exact(tile.stride).enumerate() {
        let to = out.of(t + i, r, tile.n_rows);
        let from = &row[..tile.n_rows];
        match (<&mut [f32; FULL]>::try_from(&mut *to), <&[f32; FULL]>::try_from(from)) {
            (Ok(to), Ok(from)) => *to = *from,
            _ => to.copy_from_slice(from),
        }
    }
}

#[inline(always)]
fn add_lanes<O: Ops>(ops: O, out: &Columns<'_>, t: usize, r: usize, tile: &Tile<'_>, factor: f32) {
    for (i, row) in tile.y.chunks_exact(tile.stride).enumerate() {
        let to = out.of(t + i, r, tile.n_rows);
        let from = &row[..tile.n_rows];
        match (<&mut [f32; FULL]>::try_from(&mut *to), <&[f32; FULL]>::try_from(from)) {
            (Ok(to), Ok(from)) => add_times_lanes(ops, to, from, factor),
            _ => add_times_lanes(ops, to, from, factor),
        }
    }
}
