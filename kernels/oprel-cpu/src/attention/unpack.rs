//! Cells widened to f32, where many queries meet them.

use super::block::{PIECE, Piece};
use super::cells::{Cells, Tile};
use super::wide::{LANES, Wide};
use std::ops::Range;

/// Queries of a kv head from which on unpacking a piece once is cheaper than widening it for
/// every few.
pub(super) const UNPACKED: usize = 13;

/// Memory as a tile of f32.
pub(super) fn unpacked(piece: &[f32], rows: usize, cols: usize) -> Tile<'_> {
    let bytes: &[u8] = bytemuck::cast_slice(&piece[..rows * cols]);
    Tile { bytes, rows, cols, cells: bytes.len() }
}

/// Widens a part of a tile, to rows of `stride`.
#[inline(always)]
pub(super) fn unpack<O: Wide, C: Cells>(
    ops: O,
    tile: Tile<'_>,
    rows: Range<usize>,
    cols: Range<usize>,
    stride: usize,
    to: &mut [f32],
) {
    for (i, row) in rows.enumerate() {
        for col in cols.clone().step_by(LANES) {
            let scale = C::scale(ops, &tile, row, col);
            let cells = tile.cells::<C>(row, col);
            let x = C::load(ops, &tile, scale, cells, (row, col));
            let (to, _) = to[i * stride + col - cols.start..][..LANES].as_chunks_mut();
            ops.store(x, &mut to[0]);
        }
    }
}

/// Widens a piece of keys that lie in rows, to columns.
#[inline(always)]
pub(super) fn unpack_across<O: Wide, C: Cells>(
    ops: O,
    tile: Tile<'_>,
    piece: Piece,
    to: &mut [f32],
) {
    for col in (0..tile.cols).step_by(LANES) {
        for i in (0..piece.len).step_by(LANES) {
            let mut keys = [ops.splat(0.0); LANES];
            for j in 0..LANES {
                let row = piece.at + i + j;
                let scale = C::scale(ops, &tile, row, col);
                let cells = tile.cells::<C>(row, col);
                keys[j] = C::load(ops, &tile, scale, cells, (row, col));
            }
            let elements = ops.transpose(keys);
            for j in 0..LANES {
                let (to, _) = to[(col + j) * PIECE + i..][..LANES].as_chunks_mut();
                ops.store(elements[j], &mut to[0]);
            }
        }
    }
}
