//! What one thread does at a time: the queries of a block, over some chunks.

use super::block::{Block, PARTIAL_HEAD, PIECE, Piece, Plan, QUERIES, Shared, common, range};
use super::cells::{Bf16, Cells, F16, F32, Store, Tile};
use super::kv_type::KvType;
use super::product::{Product, STRIDE};
use super::quantized::{Q4, Q8};
use super::weigh::{NOTHING, Peak, merge, score, share, weigh};
use super::wide::{LANES, Wide, wide_tiers};
use super::{AttnSpan, CHUNK};
use crate::Worker;
use std::ops::Range;

/// Queries of a kv head from which on unpacking a piece once is cheaper than widening it for
/// every few.
const UNPACKED: usize = 13;

/// Memory of a task.
struct Memory<'a> {
    /// (elements / [`STRIDE`], queries, [`STRIDE`]).
    queries: &'a mut [f32],
    /// (queries, [`CHUNK`]).
    scores: &'a mut [f32],
    /// Sums of values of the chunk, of all chunks before: (queries, v_wide).
    part: &'a mut [f32],
    total: &'a mut [f32],
    /// A piece, unpacked.
    piece: &'a mut [f32],
}

impl<'a> Memory<'a> {
    fn new(block: &Block<'_>, scratch: &'a mut [f32]) -> Memory<'a> {
        let (n, layout) = (block.n(), block.shared.layout);
        let parts = layout.k_dim().div_ceil(STRIDE);
        let (queries, rest) = scratch.split_at_mut(parts * n * STRIDE);
        for query in 0..n {
            for (part, q) in block.q(query).chunks(STRIDE).enumerate() {
                queries[(part * n + query) * STRIDE..][..q.len()].copy_from_slice(q);
            }
        }
        let (scores, rest) = rest.split_at_mut(n * CHUNK);
        let (part, rest) = rest.split_at_mut(n * layout.v_wide());
        let (total, piece) = rest.split_at_mut(n * layout.v_wide());
        Memory { queries, scores, part, total, piece }
    }
}

/// Weights are factors as they lie in the scores.
const _: () = assert!(CHUNK == STRIDE);

wide_tiers! {
    /// Task `task` of a span.
    pub(super) fn run_task(
        shared: &Shared<'_>,
        span: &AttnSpan<'_>,
        plan: &Plan,
        task: usize,
        worker: &mut Worker,
    ) = run_task_wide;
    /// Results out of partial ones, for a kv head of a block.
    pub(super) fn merge_task(
        shared: &Shared<'_>,
        span: &AttnSpan<'_>,
        plan: &Plan,
        task: usize,
        worker: &mut Worker,
    ) = merge_wide;
}

#[inline(always)]
fn run_task_wide<O: Wide>(
    ops: O,
    shared: &Shared<'_>,
    span: &AttnSpan<'_>,
    plan: &Plan,
    task: usize,
    worker: &mut Worker,
) {
    let block = Block::new(shared, span, plan, task / plan.n_splits);
    let split = task % plan.n_splits;
    let scratch = worker.scratch();
    attend(ops, &block, plan, split, scratch);
}

/// All chunks of a split for the block's queries, then the results.
#[inline(always)]
fn attend<O: Wide>(ops: O, block: &Block<'_>, plan: &Plan, split: usize, scratch: &mut [f32]) {
    let layout = block.shared.layout;
    let (n, v_wide) = (block.n(), layout.v_wide());
    let mut memory = Memory::new(block, scratch);
    memory.total.fill(0.0);
    let mut peaks = [NOTHING; QUERIES];
    let (start, end) = block.range();
    let chunks = block.chunks(split);
    for chunk in chunks.clone() {
        let base = chunk * CHUNK;
        let (from, to) = (start.max(base), end.min(base + CHUNK));
        let (seen, memory) = ((base, from, to), &mut memory);
        match layout.k_type() {
            KvType::F32 => score_chunk::<O, F32>(ops, block, seen, memory),
            KvType::F16 => score_chunk::<O, F16>(ops, block, seen, memory),
            KvType::Bf16 => score_chunk::<O, Bf16>(ops, block, seen, memory),
            KvType::Q8_0 => score_chunk::<O, Q8>(ops, block, seen, memory),
            KvType::Q4_0 => score_chunk::<O, Q4>(ops, block, seen, memory),
        }
        let mut parts = [NOTHING; QUERIES];
        for query in 0..n {
            let scores = &mut memory.scores[query * CHUNK..][..CHUNK];
            parts[query] = weigh_query(ops, block, query, seen, scores);
        }
        memory.part.fill(0.0);
        let next = (chunk + 1 < chunks.end).then_some(base + CHUNK);
        match layout.v_type() {
            KvType::F32 => add_chunk::<O, F32>(ops, block, seen, next, memory),
            KvType::F16 => add_chunk::<O, F16>(ops, block, seen, next, memory),
            KvType::Bf16 => add_chunk::<O, Bf16>(ops, block, seen, next, memory),
            KvType::Q8_0 => add_chunk::<O, Q8>(ops, block, seen, next, memory),
            KvType::Q4_0 => add_chunk::<O, Q4>(ops, block, seen, next, memory),
        }
        for query in 0..n {
            let values = query * v_wide..(query + 1) * v_wide;
            let part = &memory.part[values.clone()];
            if plan.is_split() {
                keep(block, chunk, query, parts[query], part);
            } else {
                merge(ops, &mut peaks[query], &mut memory.total[values], parts[query], part);
            }
        }
    }
    if !plan.is_split() {
        for query in 0..n {
            finish(block, query, peaks[query], &memory.total[query * v_wide..][..v_wide]);
        }
    }
}

/// Writes a partial result.
fn keep(block: &Block<'_>, chunk: usize, query: usize, peak: Peak, part: &[f32]) {
    // SAFETY: a block's query and chunk belong to one task, and the range is taken once.
    #[expect(unsafe_code, reason = "threads write disjoint results")]
    let kept = unsafe { block.shared.partials.range(block.partial(chunk, query)) };
    (kept[0], kept[1]) = peak;
    kept[PARTIAL_HEAD..].copy_from_slice(part);
}

#[inline(always)]
fn merge_wide<O: Wide>(
    ops: O,
    shared: &Shared<'_>,
    span: &AttnSpan<'_>,
    plan: &Plan,
    task: usize,
    worker: &mut Worker,
) {
    let (index, kv) = plan.merge(task);
    let block = Block::new(shared, span, plan, index);
    let total = &mut worker.scratch()[..shared.layout.v_wide()];
    let (start, end) = block.range();
    let n = block.n_each();
    for query in (kv * n..(kv + 1) * n).take_while(|query| *query < block.n()) {
        total.fill(0.0);
        let mut peak = NOTHING;
        for chunk in start / CHUNK..end.div_ceil(CHUNK) {
            // SAFETY: nobody writes partial results any more; each is taken by one task alone.
            #[expect(unsafe_code, reason = "threads read disjoint results")]
            let part = unsafe { shared.partials.range(block.partial(chunk, query)) };
            let (head, values) = part.split_at(PARTIAL_HEAD);
            merge(ops, &mut peak, total, (head[0], head[1]), values);
        }
        finish(&block, query, peak, total);
    }
}

/// Divides by the sum of weights and writes the result.
#[inline(always)]
fn finish(block: &Block<'_>, query: usize, peak: Peak, total: &[f32]) {
    let v_dim = block.shared.layout.v_dim();
    let at = block.offset(query, v_dim);
    // SAFETY: each pair of row and head belongs to one task, and its range is taken once.
    #[expect(unsafe_code, reason = "threads write disjoint rows of one matrix")]
    let out = unsafe { block.shared.out.range(at..at + v_dim) };
    let factor = share(peak, block.sink(query));
    for (y, v) in out.iter_mut().zip(total) {
        *y = v * factor;
    }
}

/// Dot products of the block's queries and the keys of positions `from..to`.
#[inline(always)]
fn score_chunk<O: Wide, S: Store>(
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
            let ahead = if kv + 1 < block.n_kv {
                block.k_tile(piece.page, kv + 1)
            } else if position < end {
                block.k_tile(block.piece(position, end).page, 0)
            } else {
                block.v_tile(block.piece(from, to).page, 0)
            };
            let keys = Keys { kv, piece, here, base, ahead: ahead.bytes };
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
    ahead: &'a [u8],
}

impl Keys<'_> {
    #[inline(always)]
    fn score<O: Wide, S: Store>(&self, ops: O, block: &Block<'_>, memory: &mut Memory<'_>) {
        let layout = block.shared.layout;
        let tile = block.k_tile(self.piece.page, self.kv);
        let unpacks = block.n_each() >= UNPACKED || layout.is_aliased();
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
        let mut ahead = (!unpacks).then_some(self.ahead);
        for set in block.sets(self.kv) {
            // Whole vectors of what the set sees of the piece.
            let (lowest, highest) = range(block.seen_by(&set));
            let start = lowest.max(self.here) / LANES * LANES;
            let stop = highest.next_multiple_of(LANES).min(self.here + self.piece.len);
            if start >= stop {
                continue;
            }
            let scores = &mut memory.scores[set.start * CHUNK + start - self.base..];
            for (part, from) in (0..layout.k_dim()).step_by(STRIDE).enumerate() {
                let product = Product {
                    tile,
                    rows: from..layout.k_dim().min(from + STRIDE),
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

/// Makes weights of a query's dot products.
#[inline(always)]
fn weigh_query<O: Wide>(
    ops: O,
    block: &Block<'_>,
    query: usize,
    (base, from, to): (usize, usize, usize),
    scores: &mut [f32],
) -> Peak {
    let (heads, seen) = (block.shared.heads, block.seen(query));
    let start = seen.start.clamp(from, to) - base;
    let end = (seen.end.clamp(from, to) - base).max(start);
    let mask = block.mask(query);
    if heads.soft_cap.is_none() && heads.alibi.is_none() && mask.is_none() {
        return weigh(ops, heads.scale, (start, end), scores);
    }
    let seen_scores = &mut scores[start..end];
    score(heads, block.head(query), base + start, seen.at, seen_scores);
    if let Some((first, visible)) = mask {
        for (i, s) in seen_scores.iter_mut().enumerate() {
            let at = (base + start + i).checked_sub(first);
            if at.and_then(|at| visible.get(at)) == Some(&false) {
                *s = f32::NEG_INFINITY;
            }
        }
    }
    weigh(ops, 1.0, (start, end), scores)
}

/// Adds the values of positions `from..to`, times their weights, to the sums of the chunk.
#[inline(always)]
fn add_chunk<O: Wide, S: Store>(
    ops: O,
    block: &Block<'_>,
    (base, from, to): (usize, usize, usize),
    next: Option<usize>,
    memory: &mut Memory<'_>,
) {
    let layout = block.shared.layout;
    let unpacks = block.n_each() >= UNPACKED;
    let mut position = from;
    while position < to {
        let piece = block.piece(position, to);
        let here = position;
        position += piece.len;
        for kv in 0..block.n_kv {
            let ahead = if kv + 1 < block.n_kv {
                block.v_tile(piece.page, kv + 1)
            } else if position < to {
                block.v_tile(block.piece(position, to).page, 0)
            } else {
                let next = next.unwrap_or(here);
                block.k_tile(block.piece(next, next + 1).page, 0)
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
                if unpacks {
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
        if positions.is_empty() {
            return;
        }
        let v_wide = block.shared.layout.v_wide();
        let first = self.first + positions.start - self.here;
        let column = positions.start - self.base;
        let product = Product {
            tile: self.tile,
            rows: first..first + positions.len(),
            cols: 0..v_wide,
            adds: true,
            stride: v_wide,
            ahead: self.ahead,
        };
        let weights = &scores[set.start * CHUNK + column..];
        ops.product::<C>(&product, set.len(), weights, &mut part[set.start * v_wide..]);
    }
}

/// Memory as a tile of f32.
fn unpacked(piece: &[f32], rows: usize, cols: usize) -> Tile<'_> {
    Tile { bytes: bytemuck::cast_slice(&piece[..rows * cols]), rows, cols }
}

/// Widens a part of a tile, to rows of `stride`.
#[inline(always)]
fn unpack<O: Wide, C: Cells>(
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
fn unpack_across<O: Wide, C: Cells>(ops: O, tile: Tile<'_>, piece: Piece, to: &mut [f32]) {
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
