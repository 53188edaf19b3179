//! Dot products of queries and keys.

use super::CHUNK;
use super::block::{Block, PIECE, Piece, range};
use super::cells::{F32, Store, Tile};
use super::product::{Product, STRIDE};
use super::task::Memory;
use super::unpack::{UNPACKED, unpack, unpack_across, unpacked};
use super::wide::{LANES, Wide};

/// Dot products of the block's queries and the keys of positions `from..to`.
#[inline(always)]
pub(super) fn score_chunk<O: Wide, S: Store>(
    ops: O,
    block: &Block<'_>,
    (base, from, to): (usize, usize, usize),
    memory: &mut Memory<'_>,
) {
    let end = to.next_multiple_of(LANES);
    let mut position = from / LANES * LANES;
    while position < end {
        let piece = block.piece(position, end);
        let here = position;
        position += piece.len;
        for kv in 0..block.n_kv {
            let ahead = match block.later(here, end, kv, S::AHEAD) {
                Ok((page, kv)) => block.k_tile(page, kv),
                Err(kv) => block.v_tile(block.piece(from, to).page, kv),
            };
            let keys = Keys { kv, piece, here, base, ahead };
            keys.score::<O, S>(ops, block, memory);
        }
    }
}

/// The keys of a piece, of one kv head.
struct Keys<'a> {
    kv: usize,
    piece: Piece,
    /// Position of the first.
    here: usize,
    /// Position of the chunk.
    base: usize,
    /// A tile that is used soon.
    ahead: Tile<'a>,
}

impl Keys<'_> {
    #[inline(always)]
    fn score<O: Wide, S: Store>(&self, ops: O, block: &Block<'_>, memory: &mut Memory<'_>) {
        let layout = block.shared.layout;
        let tile = block.k_tile(self.piece.page, self.kv);
        let unpacks = !S::WHOLE && (block.n_each() >= UNPACKED || layout.is_aliased());
        // Of the tile, in which a row is a pair of a matrix' rows where cells are pairs.
        let n_rows = if S::WHOLE { layout.k_dim().div_ceil(2) } else { layout.k_dim() };
        if unpacks && layout.is_aliased() {
            unpack_across::<O, S::Across>(ops, tile, self.piece, memory.piece);
        } else if unpacks {
            let (rows, cols) = (0..layout.k_dim(), self.piece.at..self.piece.at + self.piece.len);
            unpack::<O, S::Down>(ops, tile, rows, cols, PIECE, memory.piece);
        }
        let (tile, first) = match unpacks {
            true => (unpacked(memory.piece, layout.k_room(), PIECE), 0),
            false => (tile, self.piece.at),
        };
        let mut ahead = (!unpacks).then_some(self.ahead.bytes);
        if !unpacks {
            self.ahead.prefetch_scales(ops);
            // They are looked at before their values.
            block.v_tile(self.piece.page, self.kv).prefetch_scales(ops);
        }
        for set in block.sets(self.kv) {
            // Whole vectors of what the set sees of the piece.
            let (lowest, highest) = range(block.seen_by(&set));
            let start = lowest.max(self.here) / LANES * LANES;
            let stop = highest.next_multiple_of(LANES).min(self.here + self.piece.len);
            if start >= stop {
                continue;
            }
            let scores = &mut memory.scores[set.start * CHUNK + start - self.base..];
            for (part, from) in (0..n_rows).step_by(STRIDE).enumerate() {
                let product = Product {
                    tile,
                    rows: from..n_rows.min(from + STRIDE),
                    cols: first + start - self.here..first + stop - self.here,
                    adds: part > 0,
                    stride: CHUNK,
                    ahead,
                };
                let queries = &memory.queries[(part * block.n() + set.start) * STRIDE..];
                if unpacks {
                    ops.product::<F32>(&product, set.len(), queries, scores);
                } else {
                    ops.product::<S::Down>(&product, set.len(), queries, scores);
                }
            }
            ahead = None;
        }
    }
}
