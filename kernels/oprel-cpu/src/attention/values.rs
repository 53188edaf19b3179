//! Values of positions, times their weights, added up.

use super::CHUNK;
use super::block::{Block, common, range};
use super::cells::{Cells, F32, Store, Tile};
use super::product::Product;
use super::task::Memory;
use super::unpack::{UNPACKED, unpack, unpacked};
use super::wide::{LANES, Wide};
use std::ops::Range;

/// Adds the values of positions `from..to`, times their weights, to the sums of the chunk.
#[inline(always)]
pub(super) fn add_chunk<O: Wide, S: Store>(
    ops: O,
    block: &Block<'_>,
    (base, from, to): (usize, usize, usize),
    next: Option<usize>,
    memory: &mut Memory<'_>,
) {
    let layout = block.shared.layout;
    let unpacks = !S::WHOLE && block.n_each() >= UNPACKED;
    // Weights around what is seen are 0 where they are integers.
    let (from, to) = match S::WHOLE {
        true => (from / LANES * LANES, to.next_multiple_of(LANES)),
        false => (from, to),
    };
    let mut position = from;
    while position < to {
        let piece = block.piece(position, to);
        let here = position;
        position += piece.len;
        for kv in 0..block.n_kv {
            let ahead = match block.later(here, to, kv, S::AHEAD) {
                Ok((page, kv)) => block.v_tile(page, kv),
                Err(kv) => {
                    let next = next.unwrap_or(here);
                    block.k_tile(block.piece(next, next + 1).page, kv)
                }
            };
            let tile = block.v_tile(piece.page, kv);
            if unpacks {
                let (rows, cols) = (piece.at..piece.at + piece.len, 0..layout.v_wide());
                unpack::<O, S::Across>(ops, tile, rows, cols, layout.v_wide(), memory.piece);
            }
            let (tile, first) = match unpacks {
                true => (unpacked(memory.piece, piece.len, layout.v_wide()), 0),
                false => (tile, piece.at),
            };
            let ahead = (!unpacks).then_some(ahead.bytes);
            let mut values = Values { tile, first, here, end: position, base, ahead };
            for set in block.sets(kv) {
                if S::WHOLE {
                    values.add_pairs::<O, S::Across>(ops, block, set, memory.scores, memory.part);
                } else if unpacks {
                    values.add::<O, F32>(ops, block, set, memory.scores, memory.part);
                } else {
                    values.add::<O, S::Across>(ops, block, set, memory.scores, memory.part);
                }
                values.ahead = None;
            }
        }
    }
}

/// The values of a piece.
struct Values<'a> {
    tile: Tile<'a>,
    /// Row of the first.
    first: usize,
    /// Position of the first, and behind the last.
    here: usize,
    end: usize,
    /// Position of the chunk.
    base: usize,
    ahead: Option<&'a [u8]>,
}

impl Values<'_> {
    /// Adds what the queries of a set see: in the middle what all see, around it one by one.
    #[inline(always)]
    fn add<O: Wide, C: Cells>(
        &self,
        ops: O,
        block: &Block<'_>,
        set: Range<usize>,
        scores: &[f32],
        part: &mut [f32],
    ) {
        let all = common(block.seen_by(&set));
        let (start, stop) = (all.0.clamp(self.here, self.end), all.1.clamp(self.here, self.end));
        let around = |query: usize| {
            let seen = block.seen(query);
            let (first, last) =
                (seen.start.clamp(self.here, self.end), seen.end.clamp(self.here, self.end));
            (first..start.min(last), stop.max(first)..last)
        };
        for query in set.clone() {
            self.add_rows::<O, C>(ops, block, query..query + 1, around(query).0, scores, part);
        }
        self.add_rows::<O, C>(ops, block, set.clone(), start..stop, scores, part);
        for query in set {
            self.add_rows::<O, C>(ops, block, query..query + 1, around(query).1, scores, part);
        }
    }

    /// Adds whole vectors of what a set sees, with integers of which two are a factor.
    #[inline(always)]
    fn add_pairs<O: Wide, C: Cells>(
        &self,
        ops: O,
        block: &Block<'_>,
        set: Range<usize>,
        scores: &[f32],
        part: &mut [f32],
    ) {
        let (lowest, highest) = range(block.seen_by(&set));
        let start = lowest.max(self.here) / LANES * LANES;
        let stop = highest.next_multiple_of(LANES).min(self.end);
        if start < stop {
            let first = self.first + start - self.here;
            let rows = first / 2..(first + stop - start) / 2;
            self.sum::<O, C>(ops, block, set, rows, (start - self.base) / 2, scores, part);
        }
    }

    /// Adds some positions for some queries.
    #[inline(always)]
    fn add_rows<O: Wide, C: Cells>(
        &self,
        ops: O,
        block: &Block<'_>,
        set: Range<usize>,
        positions: Range<usize>,
        scores: &[f32],
        part: &mut [f32],
    ) {
        if !positions.is_empty() {
            let first = self.first + positions.start - self.here;
            let rows = first..first + positions.len();
            self.sum::<O, C>(ops, block, set, rows, positions.start - self.base, scores, part);
        }
    }

    /// Adds rows of the tile, times the factors of each query from `factor` on.
    #[inline(always)]
    fn sum<O: Wide, C: Cells>(
        &self,
        ops: O,
        block: &Block<'_>,
        set: Range<usize>,
        rows: Range<usize>,
        factor: usize,
        scores: &[f32],
        part: &mut [f32],
    ) {
        let v_wide = block.shared.layout.v_wide();
        let product = Product {
            tile: self.tile,
            rows,
            cols: 0..v_wide,
            adds: true,
            stride: v_wide,
            ahead: self.ahead,
        };
        let factors = &scores[set.start * CHUNK + factor..];
        ops.product::<C>(&product, set.len(), factors, &mut part[set.start * v_wide..]);
    }
}
