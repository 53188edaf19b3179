//! Which queries and positions a task is about.

use super::cells::Tile;
use super::layout::KvLayout;
use super::product::{MOST_ROWS, STRIDE};
use super::wide::LANES;
use super::{AttnSpan, CHUNK, Heads, Kv, Seen};
use crate::disjoint::Disjoint;
use crate::pool::SCRATCH_BYTES;
use std::ops::Range;

/// Most queries that one task computes together.
pub(super) const QUERIES: usize = 128;
/// Positions of a piece: of a page, what is unpacked at once.
pub(super) const PIECE: usize = 64;
/// Elements of a partial result besides values.
pub(super) const PARTIAL_HEAD: usize = LANES;

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
    /// Of a block: kv heads, query heads of each, rows.
    n_kv: usize,
    n_heads: usize,
    n_rows: usize,
    /// Sets of queries.
    n_blocks: usize,
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

    /// Queries for which a task has room.
    fn most_queries(&self) -> usize {
        let v_wide = self.layout.v_wide();
        let piece = PIECE * self.layout.k_room().max(v_wide);
        let each = CHUNK + 2 * v_wide + self.layout.k_dim().next_multiple_of(STRIDE);
        let room = (SCRATCH_BYTES / 4).saturating_sub(piece) / each;
        room.clamp(1, QUERIES)
    }

    /// Elements of the partial result of a query and a chunk.
    pub(super) fn partial_len(&self) -> usize {
        self.layout.v_wide() + PARTIAL_HEAD
    }

    /// Cuts a span into tasks, about `tasks` if it is short. Partial results begin at `base`.
    pub(super) fn plan(&self, span: &AttnSpan<'_>, tasks: usize, base: usize) -> Plan {
        let most = self.most_queries();
        let n_heads = self.group().min(most);
        let n_rows = (most / n_heads).min(span.seen.len());
        let n_blocks = match n_rows {
            0 => 0,
            n => {
                self.layout.n_kv_heads()
                    * self.group().div_ceil(n_heads)
                    * span.seen.len().div_ceil(n)
            }
        };
        let plain = Plan { n_kv: 1, n_heads, n_rows, n_blocks, n_splits: 1, base, block_len: 0 };
        if n_rows < span.seen.len() || n_rows == 0 || n_heads < self.group() {
            return plain;
        }
        self.plan_short(span, tasks, plain, most)
    }

    /// All rows in one block: of as many kv heads as leave tasks enough, because pages are read
    /// best from end to end.
    fn plan_short(&self, span: &AttnSpan<'_>, tasks: usize, plain: Plan, most: usize) -> Plan {
        let (start, end) = range(span.seen);
        let (n_kv_heads, n_chunks) =
            (self.layout.n_kv_heads(), end.div_ceil(CHUNK) - start / CHUNK);
        let room = most / (plain.n_heads * plain.n_rows);
        let n_kv = room.min(n_kv_heads * n_chunks / tasks).clamp(1, n_kv_heads);
        let n_blocks = n_kv_heads.div_ceil(n_kv);
        let n_splits = tasks.div_ceil(n_blocks).min(n_chunks.max(1));
        if n_splits == 1 {
            return Plan { n_kv, n_blocks, ..plain };
        }
        let block_len = n_chunks * n_kv * plain.n_heads * plain.n_rows * self.partial_len();
        if plain.base + n_blocks * block_len > self.partials.len() {
            return plain;
        }
        Plan { n_kv, n_blocks, n_splits, block_len, ..plain }
    }
}

impl Plan {
    pub(super) fn n_tasks(&self) -> usize {
        self.n_blocks * self.n_splits
    }

    pub(super) fn is_split(&self) -> bool {
        self.n_splits > 1
    }

    /// Tasks of the second region: a kv head of a block.
    pub(super) fn n_merges(&self) -> usize {
        if self.is_split() { self.n_blocks * self.n_kv } else { 0 }
    }

    /// The block of a merge, and which of the block's kv heads it is.
    pub(super) fn merge(&self, merge: usize) -> (usize, usize) {
        (merge / self.n_kv, merge % self.n_kv)
    }

    /// Where the partial results of the next span begin.
    pub(super) fn end(&self) -> usize {
        self.base + if self.is_split() { self.n_blocks * self.block_len } else { 0 }
    }
}

/// The positions that any query sees.
pub(super) fn range(seen: &[Seen]) -> (usize, usize) {
    let mut all = (usize::MAX, 0);
    for s in seen {
        if s.start < s.end {
            all = (all.0.min(s.start), all.1.max(s.end));
        }
    }
    (all.0.min(all.1), all.1)
}

/// The positions that all queries see.
pub(super) fn common(seen: &[Seen]) -> (usize, usize) {
    let mut all = (0, usize::MAX);
    for s in seen {
        all = (all.0.max(s.start), all.1.min(s.end));
    }
    (all.0, all.1.max(all.0))
}

/// Some queries of a span: for each of some kv heads, for each of some rows, the heads of its
/// group or some of them.
pub(super) struct Block<'a> {
    pub(super) shared: &'a Shared<'a>,
    span: &'a AttnSpan<'a>,
    plan: &'a Plan,
    /// Which of the span's blocks this is.
    index: usize,
    first_kv: usize,
    pub(super) n_kv: usize,
    n_heads: usize,
    first_row: usize,
    n_rows: usize,
    /// Row in the span, and head, of each query.
    queries: [(u32, u32); QUERIES],
}

/// A run of positions that lie in one page.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) page: usize,
    /// The first position in the page.
    pub(super) at: usize,
    pub(super) len: usize,
}

impl<'a> Block<'a> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        span: &'a AttnSpan<'a>,
        plan: &'a Plan,
        index: usize,
    ) -> Block<'a> {
        let (n_kv_heads, group) = (shared.layout.n_kv_heads(), shared.group());
        let (head_blocks, row_blocks) =
            (group.div_ceil(plan.n_heads), span.seen.len().div_ceil(plan.n_rows));
        // The last rows see most: they come first, so that threads end together.
        let first_row = (row_blocks - 1 - index % row_blocks) * plan.n_rows;
        let head_block = index / row_blocks;
        let first_kv = head_block / head_blocks * plan.n_kv;
        let in_group = head_block % head_blocks * plan.n_heads;
        let first_head = first_kv * group + in_group;
        let mut block = Block {
            shared,
            span,
            plan,
            index,
            first_kv,
            n_kv: plan.n_kv.min(n_kv_heads - first_kv),
            n_heads: plan.n_heads.min(group - in_group),
            first_row,
            n_rows: plan.n_rows.min(span.seen.len() - first_row),
            queries: [(0, 0); QUERIES],
        };
        let mut query = 0;
        for kv in 0..block.n_kv {
            for row in first_row..first_row + block.n_rows {
                for head in 0..block.n_heads {
                    let head = first_head + kv * group + head;
                    block.queries[query] = (row as u32, head as u32);
                    query += 1;
                }
            }
        }
        block
    }

    /// Queries of a kv head.
    pub(super) fn n_each(&self) -> usize {
        self.n_rows * self.n_heads
    }

    /// Queries.
    pub(super) fn n(&self) -> usize {
        self.n_kv * self.n_each()
    }

    fn row(&self, query: usize) -> usize {
        self.queries[query].0 as usize
    }

    pub(super) fn head(&self, query: usize) -> usize {
        self.queries[query].1 as usize
    }

    pub(super) fn seen(&self, query: usize) -> Seen {
        self.span.seen[self.row(query)]
    }

    /// What the rows of some queries of one kv head see.
    pub(super) fn seen_by(&self, queries: &Range<usize>) -> &'a [Seen] {
        &self.span.seen[self.row(queries.start)..=self.row(queries.end - 1)]
    }

    /// Which positions from one on the mask shows to a query, where there is a mask.
    pub(super) fn mask(&self, query: usize) -> Option<(usize, &'a [bool])> {
        let row = self.row(query);
        self.span.mask.map(|mask| (mask.first, &mask.visible[row * mask.width..][..mask.width]))
    }

    /// Where a query's row of `dim` elements begins among rows of all heads.
    pub(super) fn offset(&self, query: usize, dim: usize) -> usize {
        let row = self.span.first + self.row(query);
        (row * self.shared.heads.n_heads + self.head(query)) * dim
    }

    pub(super) fn q(&self, query: usize) -> &'a [f32] {
        let k_dim = self.shared.layout.k_dim();
        &self.shared.q[self.offset(query, k_dim)..][..k_dim]
    }

    /// The positions that any of the queries sees.
    pub(super) fn range(&self) -> (usize, usize) {
        range(&self.span.seen[self.first_row..][..self.n_rows])
    }

    /// The chunks that a split is about, counted from the start of the cache.
    pub(super) fn chunks(&self, split: usize) -> Range<usize> {
        let (start, end) = self.range();
        let (first, last) = (start / CHUNK, end.div_ceil(CHUNK));
        let cut = |i: usize| first + (last - first) * i / self.plan.n_splits;
        cut(split)..cut(split + 1)
    }

    /// Where the partial result of a query for a chunk lies.
    pub(super) fn partial(&self, chunk: usize, query: usize) -> Range<usize> {
        let len = self.shared.partial_len();
        let chunk = chunk - self.range().0 / CHUNK;
        let block = self.plan.base + self.index * self.plan.block_len;
        let start = block + (chunk * self.n() + query) * len;
        start..start + len
    }

    /// The piece that begins at a position and goes no further than `to`.
    pub(super) fn piece(&self, from: usize, to: usize) -> Piece {
        let page_len = self.shared.layout.page_len();
        let at = from % page_len;
        let end = (from / PIECE + 1) * PIECE;
        Piece {
            page: self.span.pages[from / page_len] as usize,
            at,
            len: end.min(to).min(from - at + page_len) - from,
        }
    }

    /// Of the tile that is used `n` tiles after that of `kv` at a position, where heads follow each
    /// other and then pieces as far as `to`: page and kv head, or the head alone behind `to`.
    pub(super) fn later(
        &self,
        position: usize,
        to: usize,
        kv: usize,
        n: usize,
    ) -> Result<(usize, usize), usize> {
        let (pieces, kv) = ((kv + n) / self.n_kv, (kv + n) % self.n_kv);
        let mut at = position;
        for _ in 0..pieces {
            if at < to {
                at += self.piece(at, to).len;
            }
        }
        if at < to { Ok((self.piece(at, to).page, kv)) } else { Err(kv) }
    }

    /// Keys of a page, of the block's kv head `kv`.
    pub(super) fn k_tile(&self, page: usize, kv: usize) -> Tile<'a> {
        let layout = self.shared.layout;
        let (rows, cols) = layout.k_size();
        let bytes = &self.shared.kv.k[layout.k_tile(page, self.first_kv + kv)];
        Tile { bytes, rows, cols, cells: layout.k_cells() }
    }

    /// Values of a page.
    pub(super) fn v_tile(&self, page: usize, kv: usize) -> Tile<'a> {
        let layout = self.shared.layout;
        let (rows, cols) = layout.v_size();
        let bytes = &self.shared.kv.v[layout.v_tile(page, self.first_kv + kv)];
        Tile { bytes, rows, cols, cells: layout.v_cells() }
    }

    /// Queries of a kv head in sets that meet a tile together, about equally large.
    pub(super) fn sets(&self, kv: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.n_each();
        let size = n.div_ceil(n.div_ceil(MOST_ROWS));
        (0..n).step_by(size).map(move |i| kv * n + i..kv * n + (i + size).min(n))
    }

    /// Where the sink of a query's head lies on the scale of scores.
    pub(super) fn sink(&self, query: usize) -> Option<f32> {
        self.shared.heads.sinks.map(|sinks| sinks[self.head(query)])
    }
}
