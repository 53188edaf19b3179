//! The product of a few rows of numbers and a tile of cells: scores and sums of values alike.
#![expect(unsafe_code, reason = "the inner loop reads what was checked before it")]

use super::cells::{BLOCK, Cells, LINE, Tile};
use super::wide::{LANES, Wide};
use std::ops::Range;

/// Rows that meet a tile's cells while those are in registers.
pub(super) const MOST_ROWS: usize = 6;
/// Vectors side by side in a tile of registers, where there are registers enough.
const MANY: usize = 4;
/// Elements from a row of factors to the next: one address and constant distances for all rows.
pub(super) const STRIDE: usize = 256;

/// What a product reads and writes.
pub(super) struct Product<'a> {
    pub(super) tile: Tile<'a>,
    /// Rows of the tile that are added up, at most [`STRIDE`].
    pub(super) rows: Range<usize>,
    /// Columns, a multiple of sixteen of them.
    pub(super) cols: Range<usize>,
    /// Adds to what is in the results; else they begin at 0.
    pub(super) adds: bool,
    /// Elements from a row of results to the next.
    pub(super) stride: usize,
    /// What to have in the cache for the next product.
    pub(super) ahead: Option<&'a [u8]>,
}

impl Product<'_> {
    /// `c[j][col] (+)= sum of a[j][i] * tile[rows.start + i][col]` for `m` rows of `a`, one product after
    /// another in the order of the tile's rows; the first of `c` is column `cols.start`.
    #[inline(always)]
    pub(super) fn run_wide<O: Wide, C: Cells>(&self, ops: O, m: usize, a: &[f32], c: &mut [f32]) {
        match m {
            1 => self.columns::<O, C, 1>(ops, a, c),
            2 => self.columns::<O, C, 2>(ops, a, c),
            3 => self.columns::<O, C, 3>(ops, a, c),
            4 => self.columns::<O, C, 4>(ops, a, c),
            5 => self.columns::<O, C, 5>(ops, a, c),
            MOST_ROWS => self.columns::<O, C, MOST_ROWS>(ops, a, c),
            _ => debug_assert!(m == 0, "at most {MOST_ROWS} rows"),
        }
    }

    #[inline(always)]
    fn columns<O: Wide, C: Cells, const M: usize>(&self, ops: O, a: &[f32], c: &mut [f32]) {
        let mut col = self.cols.start;
        while O::MANY && col + MANY * LANES <= self.cols.end {
            self.block::<O, C, M, MANY>(ops, a, col, c);
            col += MANY * LANES;
        }
        while col < self.cols.end {
            self.block::<O, C, M, 1>(ops, a, col, c);
            col += LANES;
        }
    }

    /// `M` rows by `N` vectors.
    #[inline(always)]
    fn block<O: Wide, C: Cells, const M: usize, const N: usize>(
        &self,
        ops: O,
        a: &[f32],
        col: usize,
        c: &mut [f32],
    ) {
        let (n, tile) = (self.rows.len(), &self.tile);
        assert!(n <= STRIDE && a.len() >= (M - 1) * STRIDE + n, "rows of factors");
        assert!(self.rows.end <= tile.rows && col + N * LANES <= tile.cols, "inside the tile");
        assert!(tile.bytes.len() >= C::size(tile.rows, tile.cols), "a whole tile");
        assert!(col.is_multiple_of(LANES), "whole vectors");
        let at = col - self.cols.start;
        let mut acc = [[ops.splat(0.0); N]; M];
        if self.adds {
            for j in 0..M {
                let (c, _) = c[j * self.stride + at..][..N * LANES].as_chunks::<LANES>();
                for v in 0..N {
                    acc[j][v] = ops.load(&c[v]);
                }
            }
        }
        for from in (0..n).step_by(BLOCK) {
            let mut scales = [C::scale(ops, tile, self.rows.start + from, col); N];
            for v in 1..N {
                scales[v] = C::scale(ops, tile, self.rows.start + from, col + v * LANES);
            }
            for k in from..n.min(from + BLOCK) {
                let row = self.rows.start + k;
                if let Some(ahead) = self.ahead {
                    let start = C::offset(tile, row, col);
                    for line in 0..(N * LANES * C::HALVES / 2).div_ceil(LINE) {
                        ops.prefetch(ahead.as_ptr().wrapping_add(start + line * LINE));
                    }
                }
                let mut values = [ops.splat(0.0); N];
                for v in 0..N {
                    let at = (row, col + v * LANES);
                    let start = C::offset(tile, at.0, at.1);
                    // SAFETY: the row is below `rows.end`, these columns are in it, and the tile is
                    // whole (asserted above).
                    let cells = unsafe { tile.bytes.get_unchecked(start..start + C::BYTES) };
                    values[v] = C::load(ops, tile, scales[v], cells, at);
                }
                for j in 0..M {
                    // SAFETY: `j < M` and `k < n` (asserted above).
                    let factor = ops.splat(unsafe { *a.get_unchecked(j * STRIDE + k) });
                    for v in 0..N {
                        acc[j][v] = C::mac(ops, values[v], factor, acc[j][v]);
                    }
                }
            }
        }
        for j in 0..M {
            let (c, _) = c[j * self.stride + at..][..N * LANES].as_chunks_mut::<LANES>();
            for v in 0..N {
                ops.store(acc[j][v], &mut c[v]);
            }
        }
    }
}
