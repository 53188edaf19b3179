//! What one thread does at a time: some queries that share a kv head, over some chunks.

use super::cells::{Bf16, Cells, F16, F32, Q8, Store, Tile};
use super::layout::{KvLayout, KvType};
use super::product::{MOST_ROWS, Product};
use super::weigh::{NOTHING, Peak, merge, score, share, weigh};
use super::wide::{LANES, Wide, wide_tiers};
use super::{AttnSpan, CHUNK, Heads, Kv, Seen};
use crate::Worker;
use crate::disjoint::Disjoint;
use crate::pool::SCRATCH_BYTES;
use std::ops::Range;

/// Most queries that one task computes together.
const QUERIES: usize = 64;
/// Positions of a piece: of a page, what is unpacked at once.
const PIECE: usize = 64;
/// Queries from which on unpacking a piece once is cheaper than widening it for every few.
const UNPACKED: usize = 13;
/// Elements of a partial result besides values.
const PARTIAL_HEAD: usize = LANES;

/// What all tasks share.
pub(super) struct Shared<'a> {
    pub(super) heads: &'a Heads<'a>,
    pub(super) layout: &'a KvLayout,
    pub(super) kv: Kv<'a>,
    pub(super) q: &'a [f32],
    pub(super) out: Disjoint<'a, f32>,
    pub(super) partials: Disjoint<'a, f32>,
}

/// How a span is cut into tasks.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Sets of queries.
    pub(super) n_blocks: usize,
    /// Tasks that share the chunks of a block.
    pub(super) n_splits: usize,
    /// Where the span's partial results begin, if it has more than one split.
    base: usize,
    /// Elements of a block's partial results.
    block_len: usize,
}

impl Shared<'_> {
    /// Query heads of a kv head.
    fn group(&self) -> usize {
        self.heads.n_heads / self.layout.n_kv_heads()
    }

    /// Query heads and rows of a block.
    fn block(&self) -> (usize, usize) {
        let v_wide = self.layout.v_wide();
        let piece = PIECE * self.layout.k_room().max(v_wide);
        let room = (SCRATCH_BYTES / 4).saturating_sub(piece) / (CHUNK + 2 * v_wide);
        let most = room.clamp(1, QUERIES);
        let n_heads = self.group().min(most);
        (n_heads, most / n_heads)
    }

    /// Elements of the partial result of a query and a chunk.
    fn partial_len(&self) -> usize {
        self.layout.v_wide() + PARTIAL_HEAD
    }

    pub(super) fn n_blocks(&self, span: &AttnSpan<'_>) -> usize {
        let (n_heads, n_rows) = self.block();
        let head_blocks = self.layout.n_kv_heads() * self.group().div_ceil(n_heads);
        head_blocks * span.seen.len().div_ceil(n_rows)
    }

    /// Cuts a span into tasks, each block into up to `splits` if its partial results find room from
    /// `base` on.
    pub(super) fn plan(&self, span: &AttnSpan<'_>, splits: usize, base: usize) -> Plan {
        let n_blocks = self.n_blocks(span);
        let whole = Plan { n_blocks, n_splits: 1, base, block_len: 0 };
        let (n_heads, n_rows) = self.block();
        if splits <= 1 || n_blocks == 0 || span.seen.len() > n_rows {
            return whole;
        }
        let (start, end) = range(span.seen);
        let n_chunks = end.div_ceil(CHUNK) - start / CHUNK;
        let block_len = n_chunks * n_heads * span.seen.len() * self.partial_len();
        if n_chunks <= 1 || base + n_blocks * block_len > self.partials.len() {
            return whole;
        }
        Plan { n_splits: splits.min(n_chunks), block_len, ..whole }
    }

    fn head(&self, query: usize, block: &Block<'_>) -> usize {
        block.first_head + query % block.n_heads
    }
}

impl Plan {
    pub(super) fn is_split(&self) -> bool {
        self.n_splits > 1
    }

    /// Where the partial results of the next span begin.
    pub(super) fn end(&self) -> usize {
        self.base + if self.is_split() { self.n_blocks * self.block_len } else { 0 }
    }
}

/// The positions that any query sees.
fn range(seen: &[Seen]) -> (usize, usize) {
    let mut all = (usize::MAX, 0);
    for s in seen {
        if s.start < s.end {
            all = (all.0.min(s.start), all.1.max(s.end));
        }
    }
    (all.0.min(all.1), all.1)
}

/// The positions that all queries see.
fn common(seen: &[Seen]) -> (usize, usize) {
    let mut all = (0, usize::MAX);
    for s in seen {
        all = (all.0.max(s.start), all.1.min(s.end));
    }
    (all.0, all.1.max(all.0))
}

/// Queries that share a kv head: rows times heads of a span.
struct Block<'a> {
    shared: &'a Shared<'a>,
    span: &'a AttnSpan<'a>,
    kv_head: usize,
    first_head: usize,
    n_heads: usize,
    first_row: usize,
    n_rows: usize,
}

/// A run of positions that lie in one page.
#[derive(Clone, Copy)]
struct Piece {
    page: usize,
    /// The first position in the page.
    at: usize,
    len: usize,
}

impl<'a> Block<'a> {
    fn new(shared: &'a Shared<'a>, span: &'a AttnSpan<'a>, block: usize) -> Block<'a> {
        let (block_heads, block_rows) = shared.block();
        let group = shared.group();
        let (head_blocks, row_blocks) =
            (group.div_ceil(block_heads), span.seen.len().div_ceil(block_rows));
        // The last rows see most: they come first, so that threads end together.
        let first_row = (row_blocks - 1 - block % row_blocks) * block_rows;
        let head_block = block / row_blocks;
        let (kv_head, in_group) =
            (head_block / head_blocks, head_block % head_blocks * block_heads);
        Block {
            shared,
            span,
            kv_head,
            first_head: kv_head * group + in_group,
            n_heads: block_heads.min(group - in_group),
            first_row,
            n_rows: block_rows.min(span.seen.len() - first_row),
        }
    }

    fn n(&self) -> usize {
        self.n_rows * self.n_heads
    }

    fn seen(&self, query: usize) -> Seen {
        self.span.seen[self.first_row + query / self.n_heads]
    }

    /// What the rows of some queries see.
    fn seen_by(&self, queries: Range<usize>) -> &'a [Seen] {
        let (first, last) = (queries.start / self.n_heads, (queries.end - 1) / self.n_heads);
        &self.span.seen[self.first_row + first..=self.first_row + last]
    }

    /// Where a query's row of `dim` elements begins among rows of all heads.
    fn offset(&self, query: usize, dim: usize) -> usize {
        let row = self.span.first + self.first_row + query / self.n_heads;
        (row * self.shared.heads.n_heads + self.shared.head(query, self)) * dim
    }

    fn q(&self, query: usize) -> &'a [f32] {
        let k_dim = self.shared.layout.k_dim();
        &self.shared.q[self.offset(query, k_dim)..][..k_dim]
    }

    /// The positions that any of the queries sees.
    fn range(&self) -> (usize, usize) {
        range(&self.span.seen[self.first_row..][..self.n_rows])
    }

    /// The piece that begins at a position and goes no further than `to`.
    fn piece(&self, from: usize, to: usize) -> Piece {
        let page_len = self.shared.layout.page_len();
        let at = from % page_len;
        let end = (from / PIECE + 1) * PIECE;
        Piece {
            page: self.span.pages[from / page_len] as usize,
            at,
            len: end.min(to).min(from - at + page_len) - from,
        }
    }

    fn k_tile(&self, page: usize) -> Tile<'a> {
        let layout = self.shared.layout;
        let (rows, cols) = layout.k_size();
        Tile { bytes: &self.shared.kv.k[layout.k_tile(page, self.kv_head)], rows, cols }
    }

    fn v_tile(&self, page: usize) -> Tile<'a> {
        let layout = self.shared.layout;
        let (rows, cols) = layout.v_size();
        Tile { bytes: &self.shared.kv.v[layout.v_tile(page, self.kv_head)], rows, cols }
    }

    /// Sets of queries that meet a tile together, about equally large.
    fn sets(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.n();
        let size = n.div_ceil(n.div_ceil(MOST_ROWS));
        (0..n).step_by(size).map(move |i| i..(i + size).min(n))
    }

    /// Where the sink of a query's head lies on the scale of scores.
    fn sink(&self, query: usize) -> Option<f32> {
        self.shared.heads.sinks.map(|sinks| sinks[self.shared.head(query, self)])
    }
}

/// Memory of a task.
struct Memory<'a> {
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
        let values = block.n() * block.shared.layout.v_wide();
        let (scores, rest) = scratch.split_at_mut(block.n() * CHUNK);
        let (part, rest) = rest.split_at_mut(values);
        let (total, piece) = rest.split_at_mut(values);
        Memory { scores, part, total, piece }
    }
}

wide_tiers! {
    /// Task `task` of a span.
    pub(super) fn run_task(
        shared: &Shared<'_>,
        span: &AttnSpan<'_>,
        plan: &Plan,
        task: usize,
        worker: &mut Worker,
    ) = run_task_wide;
    /// Results of query `query` of a block out of the partial ones.
    pub(super) fn merge_task(
        shared: &Shared<'_>,
        span: &AttnSpan<'_>,
        plan: &Plan,
        block: usize,
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
    let block = Block::new(shared, span, task / plan.n_splits);
    let work = Work { block: &block, plan, index: task / plan.n_splits };
    let split = task % plan.n_splits;
    let scratch = worker.scratch();
    match shared.layout.ty() {
        KvType::F32 => work.run::<O, F32>(ops, split, scratch),
        KvType::F16 => work.run::<O, F16>(ops, split, scratch),
        KvType::Bf16 => work.run::<O, Bf16>(ops, split, scratch),
        KvType::Q8_0 => work.run::<O, Q8>(ops, split, scratch),
    }
}

#[inline(always)]
fn merge_wide<O: Wide>(
    ops: O,
    shared: &Shared<'_>,
    span: &AttnSpan<'_>,
    plan: &Plan,
    block: usize,
    worker: &mut Worker,
) {
    let (index, block) = (block, Block::new(shared, span, block));
    let (work, v_wide) = (Work { block: &block, plan, index }, shared.layout.v_wide());
    let total = &mut worker.scratch()[..v_wide];
    let (start, end) = block.range();
    for query in 0..block.n() {
        total.fill(0.0);
        let mut peak = NOTHING;
        for chunk in 0..end.div_ceil(CHUNK) - start / CHUNK {
            // SAFETY: nobody writes partial results any more; each is taken by one task alone.
            #[expect(unsafe_code, reason = "threads read disjoint results")]
            let part = unsafe { shared.partials.range(work.partial(chunk, query)) };
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

/// A block's work, or a split of it.
struct Work<'a> {
    block: &'a Block<'a>,
    plan: &'a Plan,
    /// Which of the span's blocks this is.
    index: usize,
}

impl Work<'_> {
    /// Where the partial result of a query lies; chunks count from the first of the block.
    fn partial(&self, chunk: usize, query: usize) -> Range<usize> {
        let len = self.block.shared.partial_len();
        let start = self.plan.base
            + self.index * self.plan.block_len
            + (chunk * self.block.n() + query) * len;
        start..start + len
    }

    /// All chunks of a split for the block's queries, then the results.
    #[inline(always)]
    fn run<O: Wide, S: Store>(&self, ops: O, split: usize, scratch: &mut [f32]) {
        let block = self.block;
        let (n, v_wide) = (block.n(), block.shared.layout.v_wide());
        let mut memory = Memory::new(block, scratch);
        memory.total.fill(0.0);
        let mut peaks = [NOTHING; QUERIES];
        let (start, end) = block.range();
        let (first, last) = (start / CHUNK, end.div_ceil(CHUNK));
        let cut = |i: usize| first + (last - first) * i / self.plan.n_splits;
        for chunk in cut(split)..cut(split + 1) {
            let base = chunk * CHUNK;
            let (from, to) = (start.max(base), end.min(base + CHUNK));
            // What comes after this chunk in this task.
            let next = (chunk + 1 < cut(split + 1)).then_some(base + CHUNK);
            score_chunk::<O, S>(ops, block, (base, from, to), &mut memory);
            let mut parts = [NOTHING; QUERIES];
            for query in 0..n {
                let scores = &mut memory.scores[query * CHUNK..][..CHUNK];
                parts[query] = weigh_query(ops, block, query, (base, from, to), scores);
            }
            memory.part.fill(0.0);
            add_chunk::<O, S>(ops, block, (base, from, to), next, &mut memory);
            for query in 0..n {
                let values = query * v_wide..(query + 1) * v_wide;
                let part = &memory.part[values.clone()];
                if self.plan.is_split() {
                    self.keep(chunk - first, query, parts[query], part);
                } else {
                    merge(ops, &mut peaks[query], &mut memory.total[values], parts[query], part);
                }
            }
        }
        if !self.plan.is_split() {
            for query in 0..n {
                finish(block, query, peaks[query], &memory.total[query * v_wide..][..v_wide]);
            }
        }
    }

    /// Writes a partial result.
    fn keep(&self, chunk: usize, query: usize, peak: Peak, part: &[f32]) {
        // SAFETY: a block's query and chunk belong to one task, and the range is taken once.
        #[expect(unsafe_code, reason = "threads write disjoint results")]
        let kept = unsafe { self.block.shared.partials.range(self.partial(chunk, query)) };
        (kept[0], kept[1]) = peak;
        kept[PARTIAL_HEAD..].copy_from_slice(part);
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
    let layout = block.shared.layout;
    let unpacks = block.n() >= UNPACKED || layout.is_aliased();
    let end = to.next_multiple_of(LANES);
    let mut position = from / LANES * LANES;
    while position < end {
        let piece = block.piece(position, end);
        let here = position;
        position += piece.len;
        let tile = block.k_tile(piece.page);
        let mut ahead = None;
        if unpacks && layout.is_aliased() {
            unpack_across::<O, S::Across>(ops, tile, piece, memory.piece);
        } else if unpacks {
            let (rows, cols) = (0..layout.k_dim(), piece.at..piece.at + piece.len);
            unpack::<O, S::Down>(ops, tile, rows, cols, PIECE, memory.piece);
        } else if position < end {
            ahead = Some(block.k_tile(block.piece(position, end).page).bytes);
        } else {
            ahead = Some(block.v_tile(block.piece(from, to).page).bytes);
        }
        let (tile, first) = match unpacks {
            true => (unpacked(memory.piece, layout.k_room(), PIECE), 0),
            false => (tile, piece.at),
        };
        for set in block.sets() {
            // Whole vectors of what the set sees of the piece.
            let (lowest, highest) = range(block.seen_by(set.clone()));
            let start = lowest.max(here) / LANES * LANES;
            let stop = highest.next_multiple_of(LANES).min(here + piece.len);
            if start >= stop {
                continue;
            }
            let rows: [&[f32]; MOST_ROWS] =
                std::array::from_fn(|i| if i < set.len() { block.q(set.start + i) } else { &[] });
            let product = Product {
                tile,
                rows: 0..layout.k_dim(),
                cols: first + start - here..first + stop - here,
                adds: false,
                stride: CHUNK,
                ahead: ahead.take(),
            };
            let scores = &mut memory.scores[set.start * CHUNK + start - base..];
            if unpacks {
                ops.product::<F32>(&product, &rows[..set.len()], scores);
            } else {
                ops.product::<S::Down>(&product, &rows[..set.len()], scores);
            }
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
    if heads.soft_cap.is_none() && heads.alibi.is_none() && block.span.mask.is_none() {
        return weigh(ops, heads.scale, (start, end), scores);
    }
    let seen_scores = &mut scores[start..end];
    score(heads, block.shared.head(query, block), base + start, seen.at, seen_scores);
    if let Some(mask) = block.span.mask {
        let row = block.first_row + query / block.n_heads;
        let visible = &mask.visible[row * mask.width..][..mask.width];
        for (i, s) in seen_scores.iter_mut().enumerate() {
            let at = (base + start + i).checked_sub(mask.first);
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
    let unpacks = block.n() >= UNPACKED;
    let mut position = from;
    while position < to {
        let piece = block.piece(position, to);
        let here = position;
        position += piece.len;
        let tile = block.v_tile(piece.page);
        let mut ahead = None;
        if unpacks {
            let (rows, cols) = (piece.at..piece.at + piece.len, 0..layout.v_wide());
            unpack::<O, S::Across>(ops, tile, rows, cols, layout.v_wide(), memory.piece);
        } else if position < to {
            ahead = Some(block.v_tile(block.piece(position, to).page).bytes);
        } else if let Some(next) = next {
            ahead = Some(block.k_tile(block.piece(next, next + 1).page).bytes);
        }
        let (tile, first) = match unpacks {
            true => (unpacked(memory.piece, piece.len, layout.v_wide()), 0),
            false => (tile, piece.at),
        };
        let mut values = Values { tile, first, here, end: position, base, ahead };
        for set in block.sets() {
            if unpacks {
                values.add::<O, F32>(ops, block, set, memory.scores, memory.part);
            } else {
                values.add::<O, S::Across>(ops, block, set, memory.scores, memory.part);
            }
            values.ahead = None;
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
        let all = common(block.seen_by(set.clone()));
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
        let mut weights: [&[f32]; MOST_ROWS] = [&[]; MOST_ROWS];
        for i in 0..set.len() {
            weights[i] = &scores[(set.start + i) * CHUNK + column..][..positions.len()];
        }
        let product = Product {
            tile: self.tile,
            rows: first..first + positions.len(),
            cols: 0..v_wide,
            adds: true,
            stride: v_wide,
            ahead: self.ahead,
        };
        ops.product::<C>(&product, &weights[..set.len()], &mut part[set.start * v_wide..]);
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
            let cells = &tile.bytes[(row * tile.cols + col) * C::SIZE..][..LANES * C::SIZE];
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
                let cells = &tile.bytes[(row * tile.cols + col) * C::SIZE..][..LANES * C::SIZE];
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
