//! Keys and values as 16-bit integers, and attention in integers.
//!
//! A key or a value is a row of integers and one scale, which also queries and weights of positions
//! are made into for products. Their sums are exact, whatever their order, and a CPU multiplies
//! twice as many integers of this size as f32 numbers. As many bytes as half precision take hold
//! more here, because elements share an exponent: [`K_NORM`] bounds the length of a row, so an
//! error is 1/64000 of the length at most, however few elements make it up.
//!
//! # Why sums never overflow
//!
//! Queries and keys: by Cauchy and Schwarz, a product is no larger than that of the lengths, `K_NORM`
//! each and rounding on top: below 2^31. Values: none is above [`V_MOST`], and weights of a chunk sum
//! to no more than [`WEIGHTS`](super::whole) and half for each by rounding: below 2^31.

use super::block::Block;
use super::cells::{Cells, Store, Tile, array, padded};
use super::wide::{LANES, Wide, sum};
use super::{CHUNK, KvType, MOST_DIM};

/// Length of a key or query in integers.
const K_NORM: f32 = 32000.0;
/// The largest element of a value in integers.
pub(super) const V_MOST: f32 = 16383.0;
/// Rows whose elements are this small are rows of zeros.
pub(super) const TINY: f32 = 1e-15;
/// Bytes of a pair of integers.
const PAIR: usize = 4;

const _: () =
    assert!((K_NORM + 23.0) * (K_NORM + 23.0) < 2_147_483_648.0 && MOST_DIM < 4 * 23 * 23);

/// Pairs of integers: cells of two neighbouring rows, of keys or of positions, behind each other.
/// The scales of positions, f32, come behind all cells.
pub(super) enum I16 {}

impl Cells for I16 {
    const BYTES: usize = LANES * PAIR;
    const HALVES: usize = 2 * PAIR;
    type Scale<V: Copy> = ();

    #[inline(always)]
    fn size(rows: usize, cols: usize) -> usize {
        rows * cols * PAIR
    }

    #[inline(always)]
    fn offset(tile: &Tile<'_>, row: usize, col: usize) -> usize {
        (row * tile.cols + col) * PAIR
    }

    #[inline(always)]
    fn scale<O: Wide>(_: O, _: &Tile<'_>, _: usize, _: usize) {}

    #[inline(always)]
    fn load<O: Wide>(ops: O, _: &Tile<'_>, (): (), cells: &[u8], _: (usize, usize)) -> O::V {
        ops.load_pairs(array(cells))
    }

    #[inline(always)]
    fn mac<O: Wide>(ops: O, cells: O::V, factor: O::V, acc: O::V) -> O::V {
        ops.dot_pairs(cells, factor, acc)
    }
}

impl Store for I16 {
    type Down = I16;
    type Across = I16;
    const WHOLE: bool = true;
    const AHEAD: usize = 2;

    #[inline(always)]
    fn put_row<O: Wide>(ops: O, tile: &mut [u8], size: (usize, usize), row: usize, x: &[f32]) {
        let scale = Scale::of_value(ops, x);
        let first = (row / 2 * size.1) * PAIR + row % 2 * 2;
        for (i, x) in x.chunks(LANES).enumerate() {
            let cells = &mut tile[first + i * LANES * PAIR..];
            for (j, code) in scale.codes(ops, x)[..x.len()].iter().enumerate() {
                cells[j * PAIR..][..2].copy_from_slice(&code.to_le_bytes());
            }
        }
        scale.put(tile, size, row);
    }

    #[inline(always)]
    fn put_column<O: Wide>(ops: O, tile: &mut [u8], size: (usize, usize), col: usize, x: &[f32]) {
        let scale = Scale::of_key(ops, x);
        for (i, x) in x.chunks(LANES).enumerate() {
            let codes = scale.codes(ops, x);
            let (pairs, _) = codes.as_chunks::<2>();
            for (j, [low, high]) in pairs[..x.len().div_ceil(2)].iter().enumerate() {
                let at = ((i * LANES / 2 + j) * size.1 + col) * PAIR;
                tile[at..at + 2].copy_from_slice(&low.to_le_bytes());
                tile[at + 2..at + PAIR].copy_from_slice(&high.to_le_bytes());
            }
        }
        scale.put(tile, size, col);
    }
}

/// What a row of integers is times, and one by it.
#[derive(Clone, Copy)]
struct Scale {
    scale: f32,
    inverse: f32,
}

impl Scale {
    /// So that `most` becomes `of`; what is no number is the row's scale, and the integers are 0.
    fn new(most: f32, of: f32) -> Scale {
        match most.is_finite() {
            true if most < TINY => Scale { scale: 0.0, inverse: 0.0 },
            true => Scale { scale: most / of, inverse: of / most },
            false => Scale { scale: f32::NAN, inverse: 0.0 },
        }
    }

    /// Of a key or query, by its length.
    #[inline(always)]
    fn of_key<O: Wide>(ops: O, x: &[f32]) -> Scale {
        let mut squares = ops.splat(0.0);
        for x in x.chunks(LANES) {
            let x = padded(ops, x);
            squares = ops.fma(x, x, squares);
        }
        let mut lanes = [0.0; LANES];
        ops.store(squares, &mut lanes);
        Scale::new(sum(lanes).sqrt(), K_NORM)
    }

    /// Of a value, by its largest element.
    #[inline(always)]
    fn of_value<O: Wide>(ops: O, x: &[f32]) -> Scale {
        let mut most = ops.splat(0.0);
        // Zero times what is no number is no number, and is kept.
        let mut odd = ops.splat(0.0);
        for x in x.chunks(LANES) {
            let x = padded(ops, x);
            let negative = ops.mul(x, ops.splat(-1.0));
            most = ops.max(ops.max(x, negative), most);
            odd = ops.fma(x, ops.splat(0.0), odd);
        }
        let (mut lanes, mut odds) = ([0.0; LANES], [0.0; LANES]);
        ops.store(most, &mut lanes);
        ops.store(odd, &mut odds);
        let most = lanes.iter().copied().fold(0.0, f32::max);
        Scale::new(most + sum(odds), V_MOST)
    }

    /// Up to sixteen numbers as integers, zeros behind them.
    #[inline(always)]
    fn codes<O: Wide>(self, ops: O, x: &[f32]) -> [i16; LANES] {
        if self.inverse == 0.0 {
            return [0; LANES];
        }
        ops.to_i16(ops.mul(padded(ops, x), ops.splat(self.inverse)))
    }

    /// Writes the scale of a position to its tile.
    fn put(self, tile: &mut [u8], (rows, cols): (usize, usize), position: usize) {
        let at = I16::size(rows, cols) + 4 * position;
        tile[at..at + 4].copy_from_slice(&self.scale.to_le_bytes());
    }
}

/// Makes pairs of integers of a query, as factors; returns its scale.
#[inline(always)]
pub(super) fn query<O: Wide>(ops: O, q: &[f32], mut put: impl FnMut(usize, f32)) -> f32 {
    let scale = Scale::of_key(ops, q);
    for (i, x) in q.chunks(LANES).enumerate() {
        let codes = scale.codes(ops, x);
        let (pairs, _) = codes.as_chunks::<2>();
        for (j, [low, high]) in pairs[..x.len().div_ceil(2)].iter().enumerate() {
            put(i * LANES / 2 + j, pair(*low, *high));
        }
    }
    scale.scale
}

/// Two integers in the bits of a number, the first one lower.
fn pair(low: i16, high: i16) -> f32 {
    f32::from_bits(u32::from(low as u16) | u32::from(high as u16) << 16)
}

/// Scales of the positions of a chunk; 0 for those that no query sees.
pub(super) type Scales = [f32; CHUNK];

/// Which tiles of a head.
pub(super) type TileOf<'a> = fn(&Block<'a>, usize, usize) -> Tile<'a>;

/// Scales of positions `from..to` of a chunk, of the block's kv head `kv`, for cells of type `ty`.
pub(super) fn scales<'a>(
    block: &Block<'a>,
    (ty, tile_of): (KvType, TileOf<'a>),
    kv: usize,
    (base, from, to): (usize, usize, usize),
) -> Option<Scales> {
    if ty != KvType::I16 {
        return None;
    }
    let mut scales = [0.0; CHUNK];
    let mut position = from;
    while position < to {
        let piece = block.piece(position, to);
        let tile = tile_of(block, piece.page, kv);
        let start = tile.cells + 4 * piece.at;
        let (bytes, _) = tile.bytes[start..start + 4 * piece.len].as_chunks();
        for (scale, bytes) in scales[position - base..].iter_mut().zip(bytes) {
            *scale = f32::from_le_bytes(*bytes);
        }
        position += piece.len;
    }
    Some(scales)
}
