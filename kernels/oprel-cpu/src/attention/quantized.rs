//! Cells with scales: a scale in half precision for each [`BLOCK`] elements of a position, behind all
//! cells of a tile.

use super::cells::{BLOCK, Cells, Store, Tile, array};
use super::wide::Wide;
use half::f16;
use std::array::from_fn;

/// Bytes, as ggml's q8_0.
pub(super) enum Q8 {}
/// Half bytes, as ggml's q4_0.
pub(super) enum Q4 {}

/// [`Q8`] with blocks of rows.
pub(super) enum Q8Down {}
/// [`Q8`] with blocks of columns.
pub(super) enum Q8Across {}
/// [`Q4`] with blocks of rows: a byte has a column's cells of an even row, below, and of the next row.
pub(super) enum Q4Down {}
/// [`Q4`] with blocks of columns: the bytes of a block have its first sixteen cells, below, and the
/// others.
pub(super) enum Q4Across {}

impl Cells for Q8Down {
    const BYTES: usize = 16;
    const HALVES: usize = 2;
    type Scale<V: Copy> = V;

    #[inline(always)]
    fn size(rows: usize, cols: usize) -> usize {
        rows * cols
    }

    #[inline(always)]
    fn offset(tile: &Tile<'_>, row: usize, col: usize) -> usize {
        row * tile.cols + col
    }

    #[inline(always)]
    fn scale<O: Wide>(ops: O, tile: &Tile<'_>, row: usize, col: usize) -> O::V {
        ops.load_f16(tile.scales(row / BLOCK * tile.cols + col))
    }

    #[inline(always)]
    fn load<O: Wide>(ops: O, _: &Tile<'_>, scale: O::V, cells: &[u8], _: (usize, usize)) -> O::V {
        ops.mul(ops.load_i8(array(cells)), scale)
    }
}

impl Cells for Q8Across {
    const BYTES: usize = 16;
    const HALVES: usize = 2;
    type Scale<V: Copy> = ();

    #[inline(always)]
    fn size(rows: usize, cols: usize) -> usize {
        rows * cols
    }

    #[inline(always)]
    fn offset(tile: &Tile<'_>, row: usize, col: usize) -> usize {
        row * tile.cols + col
    }

    #[inline(always)]
    fn scale<O: Wide>(_: O, _: &Tile<'_>, _: usize, _: usize) {}

    #[inline(always)]
    fn load<O: Wide>(
        ops: O,
        tile: &Tile<'_>,
        (): (),
        cells: &[u8],
        (row, col): (usize, usize),
    ) -> O::V {
        let scale = tile.scales::<2>((row * tile.cols + col) / BLOCK);
        ops.mul(ops.load_i8(array(cells)), ops.splat_f16(*scale))
    }
}

impl Cells for Q4Down {
    const BYTES: usize = 16;
    const HALVES: usize = 2;
    type Scale<V: Copy> = V;

    #[inline(always)]
    fn size(rows: usize, cols: usize) -> usize {
        rows.div_ceil(2) * cols
    }

    #[inline(always)]
    fn offset(tile: &Tile<'_>, row: usize, col: usize) -> usize {
        row / 2 * tile.cols + col
    }

    #[inline(always)]
    fn scale<O: Wide>(ops: O, tile: &Tile<'_>, row: usize, col: usize) -> O::V {
        ops.load_f16(tile.scales(row / BLOCK * tile.cols + col))
    }

    #[inline(always)]
    fn load<O: Wide>(
        ops: O,
        _: &Tile<'_>,
        scale: O::V,
        cells: &[u8],
        (row, _): (usize, usize),
    ) -> O::V {
        ops.mul(ops.load_i4(array(cells), !row.is_multiple_of(2)), scale)
    }
}

impl Cells for Q4Across {
    const BYTES: usize = 16;
    const HALVES: usize = 1;
    type Scale<V: Copy> = ();

    #[inline(always)]
    fn size(rows: usize, cols: usize) -> usize {
        rows * cols.div_ceil(BLOCK) * (BLOCK / 2)
    }

    #[inline(always)]
    fn offset(tile: &Tile<'_>, row: usize, col: usize) -> usize {
        (row * tile.cols.div_ceil(BLOCK) + col / BLOCK) * (BLOCK / 2)
    }

    #[inline(always)]
    fn scale<O: Wide>(_: O, _: &Tile<'_>, _: usize, _: usize) {}

    #[inline(always)]
    fn load<O: Wide>(
        ops: O,
        tile: &Tile<'_>,
        (): (),
        cells: &[u8],
        (row, col): (usize, usize),
    ) -> O::V {
        let scale = tile.scales::<2>(row * tile.cols.div_ceil(BLOCK) + col / BLOCK);
        ops.mul(ops.load_i4(array(cells), col % BLOCK != 0), ops.splat_f16(*scale))
    }
}

impl Store for Q8 {
    type Down = Q8Down;
    type Across = Q8Across;

    #[inline(always)]
    fn put_row<O: Wide>(_: O, tile: &mut [u8], size: (usize, usize), row: usize, x: &[f32]) {
        let (rows, cols) = size;
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (scale, codes) = quantize_q8(x);
            tile[row * cols + block * BLOCK..][..BLOCK].copy_from_slice(&codes);
            let at = Q8Across::size(rows, cols) + 2 * (row * cols / BLOCK + block);
            tile[at..at + 2].copy_from_slice(&scale);
        }
    }

    #[inline(always)]
    fn put_column<O: Wide>(_: O, tile: &mut [u8], size: (usize, usize), col: usize, x: &[f32]) {
        let (rows, cols) = size;
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (scale, codes) = quantize_q8(x);
            for (i, code) in codes.iter().enumerate() {
                tile[(block * BLOCK + i) * cols + col] = *code;
            }
            let at = Q8Down::size(rows, cols) + 2 * (block * cols + col);
            tile[at..at + 2].copy_from_slice(&scale);
        }
    }
}

impl Store for Q4 {
    type Down = Q4Down;
    type Across = Q4Across;

    #[inline(always)]
    fn put_row<O: Wide>(_: O, tile: &mut [u8], size: (usize, usize), row: usize, x: &[f32]) {
        let (rows, cols) = size;
        let first = row * cols.div_ceil(BLOCK);
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (scale, codes) = quantize_q4(x);
            let cells = &mut tile[(first + block) * BLOCK / 2..][..BLOCK / 2];
            for (i, cell) in cells.iter_mut().enumerate() {
                *cell = codes[i] | codes[BLOCK / 2 + i] << 4;
            }
            let at = Q4Across::size(rows, cols) + 2 * (first + block);
            tile[at..at + 2].copy_from_slice(&scale);
        }
    }

    #[inline(always)]
    fn put_column<O: Wide>(_: O, tile: &mut [u8], size: (usize, usize), col: usize, x: &[f32]) {
        let (rows, cols) = size;
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (scale, codes) = quantize_q4(x);
            for (i, pair) in codes.as_chunks::<2>().0.iter().enumerate() {
                tile[(block * BLOCK / 2 + i) * cols + col] = pair[0] | pair[1] << 4;
            }
            let at = Q4Down::size(rows, cols) + 2 * (block * cols + col);
            tile[at..at + 2].copy_from_slice(&scale);
        }
    }
}

/// A block as ggml's q8_0 has it: the scale in half precision, codes rounded half away from zero.
#[inline(always)]
fn quantize_q8(x: &[f32]) -> ([u8; 2], [u8; BLOCK]) {
    let mut top = 0f32;
    for v in x {
        top = top.max(v.abs());
    }
    let scale = top / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let code = |i: usize| x.get(i).map_or(0, |v| (v * inverse).round() as i8 as u8);
    (f16::from_f32(scale).to_le_bytes(), from_fn(code))
}

/// A block as ggml's q4_0 has it: the number farthest from zero is -8 scales, codes are 8 more than
/// multiples of the scale.
#[inline(always)]
fn quantize_q4(x: &[f32]) -> ([u8; 2], [u8; BLOCK]) {
    let mut farthest = 0f32;
    for v in x {
        if v.abs() > farthest.abs() {
            farthest = *v;
        }
    }
    let scale = farthest / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let code = |i: usize| x.get(i).map_or(8, |v| ((v * inverse + 8.5) as u8).min(15));
    (f16::from_f32(scale).to_le_bytes(), from_fn(code))
}
