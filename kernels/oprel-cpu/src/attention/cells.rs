//! How numbers lie in the tiles of a cache: read sixteen at a time, written a row or a column.

use super::wide::{LANES, Wide};
use half::{bf16, f16};
use std::array::from_fn;

/// Cells that share a scale, where they have one.
pub(super) const BLOCK: usize = 32;

/// A matrix of cells, row after row; where cells have scales, they come behind all cells.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Tile<'_> {
    /// The `N` bytes of two-byte number `i` and those behind it, among the scales of one-byte cells.
    #[inline(always)]
    fn scales<const N: usize>(&self, i: usize) -> &[u8; N] {
        let at = self.rows * self.cols + 2 * i;
        let (bytes, _) = self.bytes[at..at + N].as_chunks();
        &bytes[0]
    }
}

/// Cells of a tile as kernels read them.
pub(super) trait Cells {
    /// Bytes of a cell.
    const SIZE: usize;
    /// What is known about [`BLOCK`] rows, to be kept in registers.
    type Scale<V: Copy>: Copy;

    /// Scales of columns `col..col + 16` of the rows `row..row + BLOCK`.
    fn scale<O: Wide>(ops: O, tile: &Tile<'_>, row: usize, col: usize) -> Self::Scale<O::V>;

    /// Columns `col..col + 16` of a row, of which `cells` are the bytes.
    fn load<O: Wide>(
        ops: O,
        tile: &Tile<'_>,
        scale: Self::Scale<O::V>,
        cells: &[u8],
        at: (usize, usize),
    ) -> O::V;
}

/// How a type of cache stores keys, of which a column belongs to a position, and rows.
pub(super) trait Store {
    /// Cells of tiles that hold a position in a column.
    type Down: Cells;
    /// Cells of tiles that hold a position in a row.
    type Across: Cells;

    /// Writes a row of a tile of `rows` by `cols`.
    fn put_row<O: Wide>(ops: O, tile: &mut [u8], size: (usize, usize), row: usize, x: &[f32]);

    /// Writes a column.
    fn put_column<O: Wide>(ops: O, tile: &mut [u8], size: (usize, usize), col: usize, x: &[f32]);

    /// Writes sixteen columns from `col` on, a multiple of sixteen, out of rows `stride` apart.
    fn put_columns<O: Wide>(
        ops: O,
        tile: &mut [u8],
        size: (usize, usize),
        col: usize,
        (x, stride, len): (&[f32], usize, usize),
    ) {
        for i in 0..LANES {
            Self::put_column(ops, tile, size, col + i, &x[i * stride..][..len]);
        }
    }
}

/// Cells without scales.
pub(super) trait Plain {
    const SIZE: usize;
    fn load<O: Wide>(ops: O, cells: &[u8]) -> O::V;
    /// Sixteen cells; bytes beyond `16 * SIZE` mean nothing.
    fn narrow<O: Wide>(ops: O, x: O::V) -> [u8; 64];
}

/// 4 bytes, exact.
pub(super) enum F32 {}
/// IEEE half precision.
pub(super) enum F16 {}
/// The upper half of an f32.
pub(super) enum Bf16 {}
/// Bytes with a scale for each [`BLOCK`] elements of a position.
pub(super) enum Q8 {}

#[inline(always)]
fn array<const N: usize>(cells: &[u8]) -> &[u8; N] {
    let (arrays, _) = cells[..N].as_chunks();
    &arrays[0]
}

#[inline(always)]
fn lanes<O: Wide>(ops: O, x: O::V) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    ops.store(x, &mut lanes);
    lanes
}

impl Plain for F32 {
    const SIZE: usize = 4;

    #[inline(always)]
    fn load<O: Wide>(ops: O, cells: &[u8]) -> O::V {
        ops.load_f32(array(cells))
    }

    #[inline(always)]
    fn narrow<O: Wide>(ops: O, x: O::V) -> [u8; 64] {
        let x = lanes(ops, x);
        let mut bytes = [0; 64];
        for l in 0..LANES {
            bytes[4 * l..][..4].copy_from_slice(&x[l].to_le_bytes());
        }
        bytes
    }
}

impl Plain for F16 {
    const SIZE: usize = 2;

    #[inline(always)]
    fn load<O: Wide>(ops: O, cells: &[u8]) -> O::V {
        ops.load_f16(array(cells))
    }

    #[inline(always)]
    fn narrow<O: Wide>(ops: O, x: O::V) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&ops.narrow_f16(x));
        bytes
    }
}

impl Plain for Bf16 {
    const SIZE: usize = 2;

    #[inline(always)]
    fn load<O: Wide>(ops: O, cells: &[u8]) -> O::V {
        ops.load_bf16(array(cells))
    }

    #[inline(always)]
    fn narrow<O: Wide>(ops: O, x: O::V) -> [u8; 64] {
        let x = lanes(ops, x);
        let mut bytes = [0; 64];
        for l in 0..LANES {
            bytes[2 * l..][..2].copy_from_slice(&bf16::from_f32(x[l]).to_le_bytes());
        }
        bytes
    }
}

impl<T: Plain> Cells for T {
    const SIZE: usize = T::SIZE;
    type Scale<V: Copy> = ();

    #[inline(always)]
    fn scale<O: Wide>(_: O, _: &Tile<'_>, _: usize, _: usize) {}

    #[inline(always)]
    fn load<O: Wide>(ops: O, _: &Tile<'_>, (): (), cells: &[u8], _: (usize, usize)) -> O::V {
        T::load(ops, cells)
    }
}

impl<T: Plain> Store for T {
    type Down = T;
    type Across = T;

    #[inline(always)]
    fn put_row<O: Wide>(ops: O, tile: &mut [u8], size: (usize, usize), row: usize, x: &[f32]) {
        let cells = &mut tile[row * size.1 * T::SIZE..][..size.1 * T::SIZE];
        let (cells, x) = (cells.chunks_mut(LANES * T::SIZE), x.chunks(LANES));
        for (cells, x) in cells.zip(x) {
            let len = x.len() * T::SIZE;
            cells[..len].copy_from_slice(&T::narrow(ops, padded(ops, x))[..len]);
        }
    }

    #[inline(always)]
    fn put_column<O: Wide>(ops: O, tile: &mut [u8], size: (usize, usize), col: usize, x: &[f32]) {
        for (i, x) in x.chunks(LANES).enumerate() {
            let cells = T::narrow(ops, padded(ops, x));
            for j in 0..x.len() {
                let at = ((i * LANES + j) * size.1 + col) * T::SIZE;
                tile[at..at + T::SIZE].copy_from_slice(&cells[j * T::SIZE..][..T::SIZE]);
            }
        }
    }

    #[inline(always)]
    fn put_columns<O: Wide>(
        ops: O,
        tile: &mut [u8],
        size: (usize, usize),
        col: usize,
        (x, stride, len): (&[f32], usize, usize),
    ) {
        for d in (0..len).step_by(LANES) {
            let n = LANES.min(len - d);
            let mut rows = [ops.splat(0.0); LANES];
            for i in 0..LANES {
                rows[i] = padded(ops, &x[i * stride + d..][..n]);
            }
            let cols = ops.transpose(rows);
            for i in 0..n {
                let cells = T::narrow(ops, cols[i]);
                let at = ((d + i) * size.1 + col) * T::SIZE;
                tile[at..at + LANES * T::SIZE].copy_from_slice(&cells[..LANES * T::SIZE]);
            }
        }
    }
}

/// Up to sixteen numbers, zeros behind them.
#[inline(always)]
fn padded<O: Wide>(ops: O, x: &[f32]) -> O::V {
    if let (&[whole], _) = x.as_chunks() {
        return ops.load(&whole);
    }
    let mut lanes = [0.0; LANES];
    lanes[..x.len()].copy_from_slice(x);
    ops.load(&lanes)
}

/// [`Q8`] with blocks of rows.
pub(super) enum Q8Down {}
/// [`Q8`] with blocks of columns.
pub(super) enum Q8Across {}

impl Cells for Q8Down {
    const SIZE: usize = 1;
    type Scale<V: Copy> = V;

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
    const SIZE: usize = 1;
    type Scale<V: Copy> = ();

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

impl Store for Q8 {
    type Down = Q8Down;
    type Across = Q8Across;

    #[inline(always)]
    fn put_row<O: Wide>(_: O, tile: &mut [u8], size: (usize, usize), row: usize, x: &[f32]) {
        let (rows, cols) = size;
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (scale, codes) = quantize(x);
            tile[row * cols + block * BLOCK..][..BLOCK].copy_from_slice(&codes);
            let at = rows * cols + 2 * (row * cols / BLOCK + block);
            tile[at..at + 2].copy_from_slice(&scale);
        }
    }

    #[inline(always)]
    fn put_column<O: Wide>(_: O, tile: &mut [u8], size: (usize, usize), col: usize, x: &[f32]) {
        let (rows, cols) = size;
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (scale, codes) = quantize(x);
            for (i, code) in codes.iter().enumerate() {
                tile[(block * BLOCK + i) * cols + col] = *code;
            }
            let at = rows * cols + 2 * (block * cols + col);
            tile[at..at + 2].copy_from_slice(&scale);
        }
    }
}

/// A block as ggml's q8_0 has it: the scale in half precision, codes rounded half away from zero.
#[inline(always)]
fn quantize(x: &[f32]) -> ([u8; 2], [u8; BLOCK]) {
    let mut top = 0f32;
    for v in x {
        top = top.max(v.abs());
    }
    let scale = top / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let code = |i: usize| x.get(i).map_or(0, |v| (v * inverse).round() as i8 as u8);
    (f16::from_f32(scale).to_le_bytes(), from_fn(code))
}
