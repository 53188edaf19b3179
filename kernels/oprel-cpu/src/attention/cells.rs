//! How numbers lie in the tiles of a cache: read sixteen at a time, written a row or a column.

use super::wide::{LANES, Wide};
use half::bf16;

/// Cells that share a scale, where they have one.
pub(super) const BLOCK: usize = 32;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// A matrix of cells, row after row; where cells have scales, they come behind all cells.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Bytes of cells; scales are behind.
    pub(super) cells: usize,
}

impl<'a> Tile<'a> {
    /// The bytes of columns `col..col + 16` of a row.
    #[inline(always)]
    pub(super) fn cells<C: Cells>(&self, row: usize, col: usize) -> &'a [u8] {
        &self.bytes[C::offset(self, row, col)..][..C::BYTES]
    }

    /// Asks for the scales, to be read soon.
    #[inline(always)]
    pub(super) fn prefetch_scales<O: Wide>(&self, ops: O) {
        for at in (self.cells..self.bytes.len()).step_by(LINE) {
            ops.prefetch(self.bytes[at..].as_ptr());
        }
    }

    /// The `N` bytes of two-byte number `i` and those behind it, among the scales.
    #[inline(always)]
    pub(super) fn scales<const N: usize>(&self, i: usize) -> &[u8; N] {
        let at = self.cells + 2 * i;
        let (bytes, _) = self.bytes[at..at + N].as_chunks();
        &bytes[0]
    }
}

/// Cells of a tile as kernels read them.
pub(super) trait Cells {
    /// Bytes in which sixteen neighbouring cells of a row are found.
    const BYTES: usize;
    /// Half bytes from a cell to the next one of its row.
    const HALVES: usize;
    /// What is known about [`BLOCK`] rows, to be kept in registers.
    type Scale<V: Copy>: Copy;

    /// Bytes that the cells of `rows` by `cols` take, without scales.
    fn size(rows: usize, cols: usize) -> usize;

    /// Where the bytes of columns `col..col + 16` of a row begin, `col` being a multiple of sixteen. If
    /// the columns are in the tile, the bytes are within [`Cells::size`].
    fn offset(tile: &Tile<'_>, row: usize, col: usize) -> usize;

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

    /// Adds what cells are times a factor to sums.
    #[inline(always)]
    fn mac<O: Wide>(ops: O, cells: O::V, factor: O::V, acc: O::V) -> O::V {
        ops.fma(cells, factor, acc)
    }
}

/// How a type of cache stores keys, of which a column belongs to a position, and rows.
pub(super) trait Store {
    /// Cells of tiles that hold a position in a column.
    type Down: Cells;
    /// Cells of tiles that hold a position in a row.
    type Across: Cells;
    /// Whether cells are pairs of integers, which meet integers: two rows of a matrix in one of cells.
    const WHOLE: bool = false;
    /// How many tiles before it is used one is asked for: the less is done with one, the more.
    const AHEAD: usize = 1;

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

/// The first bytes of cells.
#[inline(always)]
pub(super) fn array<const N: usize>(cells: &[u8]) -> &[u8; N] {
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
    const BYTES: usize = LANES * T::SIZE;
    const HALVES: usize = 2 * T::SIZE;
    type Scale<V: Copy> = ();

    #[inline(always)]
    fn size(rows: usize, cols: usize) -> usize {
        rows * cols * T::SIZE
    }

    #[inline(always)]
    fn offset(tile: &Tile<'_>, row: usize, col: usize) -> usize {
        (row * tile.cols + col) * T::SIZE
    }

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
pub(super) fn padded<O: Wide>(ops: O, x: &[f32]) -> O::V {
    if let (&[whole], _) = x.as_chunks() {
        return ops.load(&whole);
    }
    let mut lanes = [0.0; LANES];
    lanes[..x.len()].copy_from_slice(x);
    ops.load(&lanes)
}
