//! Grouped-query softmax attention over a KV cache in pages.
//!
//! # The order of sums
//!
//! The cache is taken in chunks of 256 positions, counted from position 0 whatever is visible. In
//! a chunk, scores are sums over a head's elements in the order of all dot products here, their
//! exponentials are summed in eight lanes by position, and values are added position by position.
//! Chunks are merged in ascending order. So a query's result depends on its own row, the cache and
//! what it sees: not on the other queries, the threads or the tier.

use crate::disjoint::Disjoint;
use crate::lanes::{LANES, Number, Ops, dot, dots, tiers};
use crate::math::{exp, tanh};
use crate::softmax::exponentials_lanes;
use crate::{Isa, Pool, Worker};
use half::f16;

/// Positions of a chunk.
pub const CHUNK: usize = 256;
/// Queries that one task computes together.
const QUERIES: usize = 16;
/// Queries that meet a key or a value while it is in registers.
const TOGETHER: usize = 4;

/// Heads of an attention, and what happens to scores.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; each serves a run of `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Factor on scores.
    pub scale: f32,
    /// `cap * tanh(score / cap)` on scaled scores.
    pub soft_cap: Option<f32>,
    /// (n_heads): scores that take part in the softmax and have no value.
    pub sinks: Option<&'a [f32]>,
    /// (n_heads): a score is lowered by this times the distance of its position (ALiBi).
    pub alibi: Option<&'a [f32]>,
}

/// Where keys and values of a head lie in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Positions of a page.
    pub page_len: usize,
    /// Elements of a key.
    pub k_dim: usize,
    /// Elements of a value.
    pub v_dim: usize,
    /// Elements from a value to that of the next position: at least `v_dim`.
    pub v_row: usize,
    /// Elements from a page of keys to the next.
    pub k_page: usize,
    /// Elements from a page of values to the next.
    pub v_page: usize,
}

impl KvLayout {
    /// Pages of keys (kv heads, positions, k_dim), and of values (kv heads, positions, v_dim), each
    /// without gaps.
    pub fn new(n_kv_heads: usize, page_len: usize, k_dim: usize, v_dim: usize) -> KvLayout {
        let k_page = n_kv_heads * page_len * k_dim;
        let v_page = n_kv_heads * page_len * v_dim;
        KvLayout { page_len, k_dim, v_dim, v_row: v_dim, k_page, v_page }
    }

    /// As [`KvLayout::new`], values being the first `v_dim` elements of keys (MLA): give the keys
    /// as values too.
    pub fn aliased(n_kv_heads: usize, page_len: usize, k_dim: usize, v_dim: usize) -> KvLayout {
        let k_page = n_kv_heads * page_len * k_dim;
        KvLayout { page_len, k_dim, v_dim, v_row: k_dim, k_page, v_page: k_page }
    }
}

/// Keys and values, page after page.
#[derive(Clone, Copy, Debug)]
pub enum Kv<'a> {
    /// Exact.
    F32 {
        /// Keys.
        k: &'a [f32],
        /// Values.
        v: &'a [f32],
    },
    /// Half precision.
    F16 {
        /// Keys.
        k: &'a [f16],
        /// Values.
        v: &'a [f16],
    },
}

/// What one query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// First visible position of the cache.
    pub start: usize,
    /// Behind the last visible position.
    pub end: usize,
    /// The query's own position, for distances.
    pub at: usize,
}

/// Which of some positions each query sees: where a range does not say it (trees, prefixes).
#[derive(Clone, Copy, Debug)]
pub struct SeenMask<'a> {
    /// The first position that the mask speaks of; others are visible.
    pub first: usize,
    /// How many positions it speaks of.
    pub width: usize,
    /// (queries, width).
    pub visible: &'a [bool],
}

/// Queries of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct AttnSpan<'a> {
    /// The sequence's pages: entry `i` holds positions from `i * page_len`.
    pub pages: &'a [u32],
    /// Row of the first query, in queries and results.
    pub first: usize,
    /// What each query sees; pages of visible positions must be there.
    pub seen: &'a [Seen],
    /// Narrows it further.
    pub mask: Option<SeenMask<'a>>,
}

/// Attends: `out` (rows, n_heads * v_dim) from `q` (rows, n_heads * k_dim), for the rows of `spans`.
/// A query that sees nothing gets zeros.
///
/// # Panics
/// If shapes do not fit each other, or a visible position has no page.
pub fn attention(
    pool: &mut Pool,
    isa: Isa,
    heads: &Heads<'_>,
    layout: &KvLayout,
    kv: Kv<'_>,
    spans: &[AttnSpan<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    assert!(heads.n_heads.is_multiple_of(heads.n_kv_heads), "groups of equal size");
    assert_eq!(q.len() * layout.v_dim, out.len() * layout.k_dim, "as many results as queries");
    let shared = Shared { heads, layout, kv, q, out: Disjoint::new(out) };
    let n_tasks = spans.iter().map(|span| shared.n_tasks(span)).sum();
    pool.run(n_tasks, |mut task, worker| {
        for span in spans {
            let n = shared.n_tasks(span);
            if task < n {
                run_task(isa, &shared, span, task, worker);
                return;
            }
            task -= n;
        }
    });
}

/// What all tasks share.
struct Shared<'a> {
    heads: &'a Heads<'a>,
    layout: &'a KvLayout,
    kv: Kv<'a>,
    q: &'a [f32],
    out: Disjoint<'a, f32>,
}

impl Shared<'_> {
    /// Query heads of a kv head.
    fn group(&self) -> usize {
        self.heads.n_heads / self.heads.n_kv_heads
    }

    /// Query heads and rows of a task.
    fn block(&self) -> (usize, usize) {
        let n_heads = self.group().min(QUERIES);
        (n_heads, QUERIES / n_heads)
    }

    fn n_tasks(&self, span: &AttnSpan<'_>) -> usize {
        let (n_heads, n_rows) = self.block();
        self.heads.n_kv_heads * self.group().div_ceil(n_heads) * span.seen.len().div_ceil(n_rows)
    }
}

/// Some queries that share a kv head: rows times heads of a span.
struct Block<'a> {
    shared: &'a Shared<'a>,
    span: &'a AttnSpan<'a>,
    kv_head: usize,
    first_head: usize,
    n_heads: usize,
    first_row: usize,
    n_rows: usize,
}

impl<'a> Block<'a> {
    fn new(shared: &'a Shared<'a>, span: &'a AttnSpan<'a>, task: usize) -> Block<'a> {
        let (block_heads, block_rows) = shared.block();
        let group = shared.group();
        let (head_blocks, row_blocks) =
            (group.div_ceil(block_heads), span.seen.len().div_ceil(block_rows));
        let first_row = task % row_blocks * block_rows;
        let head_block = task / row_blocks;
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

    fn head(&self, query: usize) -> usize {
        self.first_head + query % self.n_heads
    }

    /// Where a query's row of `dim` elements begins among rows of all heads.
    fn offset(&self, query: usize, dim: usize) -> usize {
        let row = self.span.first + self.first_row + query / self.n_heads;
        (row * self.shared.heads.n_heads + self.head(query)) * dim
    }

    fn q(&self, query: usize) -> &'a [f32] {
        let k_dim = self.shared.layout.k_dim;
        &self.shared.q[self.offset(query, k_dim)..][..k_dim]
    }

    /// The positions that any of the queries sees.
    fn range(&self) -> (usize, usize) {
        let seen = &self.span.seen[self.first_row..][..self.n_rows];
        let start = seen.iter().filter(|s| s.start < s.end).map(|s| s.start).min().unwrap_or(0);
        (start, seen.iter().map(|s| s.end).max().unwrap_or(0).max(start))
    }

    /// The runs of positions of `from..to` that lie in one page: page number, first position in
    /// the page, how many, and how far from `from`.
    fn pieces(
        &self,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = (usize, usize, usize, usize)> + use<'_> {
        let page_len = self.shared.layout.page_len;
        (from / page_len..to.div_ceil(page_len)).map(move |p| {
            let start = from.max(p * page_len);
            let end = to.min((p + 1) * page_len);
            (self.span.pages[p] as usize, start - p * page_len, end - start, start - from)
        })
    }
}

tiers! {
    fn run_task(shared: &Shared<'_>, span: &AttnSpan<'_>, task: usize, worker: &mut Worker)
        = run_task_lanes;
}

#[inline(always)]
fn run_task_lanes<O: Ops>(
    ops: O,
    shared: &Shared<'_>,
    span: &AttnSpan<'_>,
    task: usize,
    worker: &mut Worker,
) {
    let block = Block::new(shared, span, task);
    match shared.kv {
        Kv::F32 { k, v } => attend(ops, &block, k, v, worker.scratch()),
        Kv::F16 { k, v } => attend(ops, &block, k, v, worker.scratch()),
    }
}

/// One task: all chunks for its queries, then the results.
#[inline(always)]
fn attend<O: Ops, T: Number>(ops: O, block: &Block<'_>, k: &[T], v: &[T], scratch: &mut [f32]) {
    let (n, v_dim) = (block.n(), block.shared.layout.v_dim);
    let mut queries: [&[f32]; QUERIES] = [&[]; QUERIES];
    for (query, q) in queries[..n].iter_mut().enumerate() {
        *q = block.q(query);
    }
    let queries = &queries[..n];
    let (scores, rest) = scratch.split_at_mut(QUERIES * CHUNK);
    let (total, rest) = rest.split_at_mut(n * v_dim);
    let part = &mut rest[..n * v_dim];
    let mut state = [(f32::NEG_INFINITY, 0.0); QUERIES];
    total.fill(0.0);
    let (start, end) = block.range();
    for chunk in start / CHUNK..end.div_ceil(CHUNK) {
        let base = chunk * CHUNK;
        let (from, to) = (start.max(base), end.min(base + CHUNK));
        score(ops, block, queries, k, (base, from, to), scores);
        let mut parts = [(0.0, 0.0); QUERIES];
        for query in 0..n {
            let scores = &mut scores[query * CHUNK..][..CHUNK];
            parts[query] = weigh(ops, block, query, (base, from, to), scores);
        }
        part.fill(0.0);
        add_values(ops, block, v, (base, from, to), scores, part);
        for query in 0..n {
            let range = query * v_dim..(query + 1) * v_dim;
            merge(&mut state[query], &mut total[range.clone()], parts[query], &part[range]);
        }
    }
    for query in 0..n {
        finish(block, query, state[query], &total[query * v_dim..][..v_dim]);
    }
}

/// Dot products of queries and keys of positions `from..to`.
#[inline(always)]
fn score<O: Ops, T: Number>(
    ops: O,
    block: &Block<'_>,
    queries: &[&[f32]],
    k: &[T],
    (base, from, to): (usize, usize, usize),
    scores: &mut [f32],
) {
    let layout = block.shared.layout;
    let (fours, rest) = queries.as_chunks::<TOGETHER>();
    for (page, in_page, len, at) in block.pieces(from, to) {
        let head = page * layout.k_page + block.kv_head * layout.page_len * layout.k_dim;
        let keys = &k[head + in_page * layout.k_dim..][..len * layout.k_dim];
        for (i, key) in keys.chunks_exact(layout.k_dim).enumerate() {
            let column = from - base + at + i;
            for (i, four) in fours.iter().enumerate() {
                let products = dots(ops, key, *four);
                for j in 0..TOGETHER {
                    scores[(i * TOGETHER + j) * CHUNK + column] = products[j];
                }
            }
            for (j, q) in rest.iter().enumerate() {
                scores[(fours.len() * TOGETHER + j) * CHUNK + column] = dot(ops, key, q);
            }
        }
    }
}

/// Makes weights of a chunk out of dot products, 0 for what is not seen; gives the largest score
/// and the sum of weights.
#[inline(always)]
fn weigh<O: Ops>(
    ops: O,
    block: &Block<'_>,
    query: usize,
    (base, from, to): (usize, usize, usize),
    scores: &mut [f32],
) -> (f32, f32) {
    let seen = block.seen(query);
    let start = seen.start.clamp(from, to) - base;
    let end = (seen.end.clamp(from, to) - base).max(start);
    // Whole vectors, so that a position's lane depends on the position alone.
    let (first, last) = (start / LANES * LANES, end.next_multiple_of(LANES));
    scores[..first].fill(0.0);
    scores[first..start].fill(f32::NEG_INFINITY);
    scores[end..last].fill(f32::NEG_INFINITY);
    scores[last..].fill(0.0);
    score_seen(block, query, base + start, &mut scores[start..end]);
    exponentials_lanes(ops, &mut scores[first..last])
}

/// Makes scores of positions from `start` on out of dot products; what a mask hides becomes minus
/// infinity.
#[inline(always)]
fn score_seen(block: &Block<'_>, query: usize, start: usize, scores: &mut [f32]) {
    let heads = block.shared.heads;
    scores.iter_mut().for_each(|s| *s *= heads.scale);
    if let Some(cap) = heads.soft_cap {
        scores.iter_mut().for_each(|s| *s = cap * tanh(*s / cap));
    }
    if let Some(slopes) = heads.alibi {
        let (slope, at) = (slopes[block.head(query)], block.seen(query).at);
        for (i, s) in scores.iter_mut().enumerate() {
            *s -= slope * (start + i).abs_diff(at) as f32;
        }
    }
    if let Some(mask) = block.span.mask {
        let row = block.first_row + query / block.n_heads;
        let visible = &mask.visible[row * mask.width..][..mask.width];
        for (i, s) in scores.iter_mut().enumerate() {
            let at = (start + i).checked_sub(mask.first);
            if at.and_then(|at| visible.get(at)) == Some(&false) {
                *s = f32::NEG_INFINITY;
            }
        }
    }
}

/// Adds the values of positions `from..to`, times their weights, to `part` (queries, v_dim).
#[inline(always)]
fn add_values<O: Ops, T: Number>(
    ops: O,
    block: &Block<'_>,
    v: &[T],
    (base, from, to): (usize, usize, usize),
    weights: &[f32],
    part: &mut [f32],
) {
    let layout = block.shared.layout;
    let n = block.n();
    for (page, in_page, len, at) in block.pieces(from, to) {
        let head = page * layout.v_page + block.kv_head * layout.page_len * layout.v_row;
        let values = &v[head + in_page * layout.v_row..];
        let column = from - base + at;
        let mut query = 0;
        while query < n {
            let weights = &weights[query * CHUNK + column..];
            let part = &mut part[query * layout.v_dim..];
            if query + TOGETHER <= n {
                add_rows::<O, T, TOGETHER>(ops, values, layout, len, weights, part);
                query += TOGETHER;
            } else {
                add_rows::<O, T, 1>(ops, values, layout, len, weights, part);
                query += 1;
            }
        }
    }
}

/// Adds `len` rows of values to the rows of `N` queries.
#[inline(always)]
fn add_rows<O: Ops, T: Number, const N: usize>(
    ops: O,
    values: &[T],
    layout: &KvLayout,
    len: usize,
    weights: &[f32],
    part: &mut [f32],
) {
    let v_dim = layout.v_dim;
    let whole = v_dim / 16 * 16;
    for d in (0..whole).step_by(16) {
        let mut acc = [[ops.splat(0.0); 2]; N];
        for j in 0..N {
            let (chunks, _) = part[j * v_dim + d..][..16].as_chunks::<LANES>();
            acc[j] = [ops.load(&chunks[0]), ops.load(&chunks[1])];
        }
        for i in 0..len {
            let (value, _) = values[i * layout.v_row + d..][..16].as_chunks::<LANES>();
            let (first, second) = (T::load(ops, &value[0]), T::load(ops, &value[1]));
            for j in 0..N {
                let weight = ops.splat(weights[j * CHUNK + i]);
                acc[j][0] = ops.fma(first, weight, acc[j][0]);
                acc[j][1] = ops.fma(second, weight, acc[j][1]);
            }
        }
        for j in 0..N {
            let (chunks, _) = part[j * v_dim + d..][..16].as_chunks_mut::<LANES>();
            ops.store(acc[j][0], &mut chunks[0]);
            ops.store(acc[j][1], &mut chunks[1]);
        }
    }
    for d in whole..v_dim {
        for j in 0..N {
            let y = &mut part[j * v_dim + d];
            for i in 0..len {
                *y = values[i * layout.v_row + d].to_f32().mul_add(weights[j * CHUNK + i], *y);
            }
        }
    }
}

/// Adds a chunk's (largest score, sum, values) to those of the chunks before.
#[inline(always)]
fn merge(state: &mut (f32, f32), total: &mut [f32], part: (f32, f32), values: &[f32]) {
    if part.1 == 0.0 {
        return;
    }
    let top = state.0.max(part.0);
    let (old, new) = (exp(state.0 - top), exp(part.0 - top));
    *state = (top, part.1.mul_add(new, state.1 * old));
    for (y, v) in total.iter_mut().zip(values) {
        *y = v.mul_add(new, *y * old);
    }
}

/// Divides by the sum, the sink included, and writes the result.
#[inline(always)]
fn finish(block: &Block<'_>, query: usize, (top, sum): (f32, f32), total: &[f32]) {
    let v_dim = total.len();
    let at = block.offset(query, v_dim);
    // SAFETY: each pair of row and head belongs to one task, and its range is taken once.
    #[expect(unsafe_code, reason = "threads write disjoint rows of one matrix")]
    let out = unsafe { block.shared.out.range(at..at + v_dim) };
    let mut factor = if sum == 0.0 { 0.0 } else { 1.0 / sum };
    if let Some(sinks) = block.shared.heads.sinks {
        let sink = sinks[block.head(query)];
        let with_sink = top.max(sink);
        let kept = exp(top - with_sink);
        factor = kept / sum.mul_add(kept, exp(sink - with_sink));
    }
    for (y, v) in out.iter_mut().zip(total) {
        *y = v * factor;
    }
}

#[cfg(test)]
mod tests;
