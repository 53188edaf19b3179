//! What one thread does at a time: the queries of a block, over some chunks.

use super::block::{Block, PARTIAL_HEAD, Plan, QUERIES, Shared};
use super::cells::{Bf16, F16, F32};
use super::integers::{I16, query as query_pairs, scales};
use super::keys::score_chunk;
use super::kv_type::KvType;
use super::product::STRIDE;
use super::quantized::{Q4, Q8};
use super::values::add_chunk;
use super::weigh::{Chunk, NOTHING, Peak, bend, merge, share, weigh};
use super::whole::weigh_whole;
use super::wide::{Wide, wide_tiers};
use super::{AttnSpan, CHUNK};
use crate::Worker;

/// Of a chunk and a query: the peak of its scores, and what sums of values are times where they are
/// integers.
type Part = (Peak, Option<f32>);

/// Memory of a task.
pub(super) struct Memory<'a> {
    /// (elements / [`STRIDE`], queries, [`STRIDE`]): numbers, or pairs of integers.
    pub(super) queries: &'a mut [f32],
    /// What dot products with integers are times; 1 with numbers.
    q_scales: [f32; QUERIES],
    /// (queries, [`CHUNK`]).
    pub(super) scores: &'a mut [f32],
    /// Sums of values of the chunk, of all chunks before: (queries, v_wide).
    pub(super) part: &'a mut [f32],
    total: &'a mut [f32],
    /// A piece, unpacked.
    pub(super) piece: &'a mut [f32],
}

impl<'a> Memory<'a> {
    #[inline(always)]
    fn new<O: Wide>(ops: O, block: &Block<'_>, scratch: &'a mut [f32]) -> Memory<'a> {
        let (n, layout) = (block.n(), block.shared.layout);
        let parts = layout.k_dim().div_ceil(STRIDE);
        let (queries, rest) = scratch.split_at_mut(parts * n * STRIDE);
        let mut q_scales = [1.0; QUERIES];
        for query in 0..n {
            let place = |i: usize| (i / STRIDE * n + query) * STRIDE + i % STRIDE;
            if layout.k_type() == KvType::I16 {
                let put = |i: usize, pair: f32| queries[place(i)] = pair;
                q_scales[query] = query_pairs(ops, block.q(query), put);
                continue;
            }
            for (part, q) in block.q(query).chunks(STRIDE).enumerate() {
                queries[place(part * STRIDE)..][..q.len()].copy_from_slice(q);
            }
        }
        let (scores, rest) = rest.split_at_mut(n * CHUNK);
        let (part, rest) = rest.split_at_mut(n * layout.v_wide());
        let (total, piece) = rest.split_at_mut(n * layout.v_wide());
        Memory { queries, q_scales, scores, part, total, piece }
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
    let mut memory = Memory::new(ops, block, scratch);
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
            KvType::I16 => score_chunk::<O, I16>(ops, block, seen, memory),
            KvType::F16 => score_chunk::<O, F16>(ops, block, seen, memory),
            KvType::Bf16 => score_chunk::<O, Bf16>(ops, block, seen, memory),
            KvType::Q8_0 => score_chunk::<O, Q8>(ops, block, seen, memory),
            KvType::Q4_0 => score_chunk::<O, Q4>(ops, block, seen, memory),
        }
        let mut parts = [(NOTHING, None); QUERIES];
        for kv in 0..block.n_kv {
            weigh_head(ops, block, kv, seen, memory, &mut parts);
        }
        memory.part.fill(0.0);
        let next = (chunk + 1 < chunks.end).then_some(base + CHUNK);
        match layout.v_type() {
            KvType::F32 => add_chunk::<O, F32>(ops, block, seen, next, memory),
            KvType::I16 => add_chunk::<O, I16>(ops, block, seen, next, memory),
            KvType::F16 => add_chunk::<O, F16>(ops, block, seen, next, memory),
            KvType::Bf16 => add_chunk::<O, Bf16>(ops, block, seen, next, memory),
            KvType::Q8_0 => add_chunk::<O, Q8>(ops, block, seen, next, memory),
            KvType::Q4_0 => add_chunk::<O, Q4>(ops, block, seen, next, memory),
        }
        for query in 0..n {
            let values = query * v_wide..(query + 1) * v_wide;
            let (part, (peak, whole)) = (&memory.part[values.clone()], parts[query]);
            if plan.is_split() {
                keep(block, chunk, query, parts[query], part);
            } else {
                merge(ops, &mut peaks[query], &mut memory.total[values], peak, part, whole);
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
fn keep(block: &Block<'_>, chunk: usize, query: usize, ((top, sum), whole): Part, part: &[f32]) {
    // SAFETY: a block's query and chunk belong to one task, and the range is taken once.
    #[expect(unsafe_code, reason = "threads write disjoint results")]
    let kept = unsafe { block.shared.partials.range(block.partial(chunk, query)) };
    (kept[0], kept[1], kept[2]) = (top, sum, whole.unwrap_or(1.0));
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
    let is_whole = shared.layout.v_type() == KvType::I16;
    for query in (kv * n..(kv + 1) * n).take_while(|query| *query < block.n()) {
        total.fill(0.0);
        let mut peak = NOTHING;
        for chunk in start / CHUNK..end.div_ceil(CHUNK) {
            // SAFETY: nobody writes partial results any more; each is taken by one task alone.
            #[expect(unsafe_code, reason = "threads read disjoint results")]
            let part = unsafe { shared.partials.range(block.partial(chunk, query)) };
            let (head, values) = part.split_at(PARTIAL_HEAD);
            let whole = is_whole.then_some(head[2]);
            merge(ops, &mut peak, total, (head[0], head[1]), values, whole);
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

/// Makes weights of the dot products of the queries of kv head `kv` with the keys of a chunk.
#[inline(always)]
fn weigh_head<O: Wide>(
    ops: O,
    block: &Block<'_>,
    kv: usize,
    seen: (usize, usize, usize),
    memory: &mut Memory<'_>,
    parts: &mut [Part; QUERIES],
) {
    let layout = block.shared.layout;
    let keys = scales(block, (layout.k_type(), Block::k_tile), kv, seen);
    let values = scales(block, (layout.v_type(), Block::v_tile), kv, seen);
    for query in kv * block.n_each()..(kv + 1) * block.n_each() {
        let factor = block.shared.heads.scale * memory.q_scales[query];
        let chunk = Chunk { factor, keys: keys.as_ref() };
        let scores = &mut memory.scores[query * CHUNK..][..CHUNK];
        let (chunk, range) = score_query(ops, block, query, seen, chunk, scores);
        parts[query] = match &values {
            Some(values) => {
                let (peak, whole) = weigh_whole(ops, &chunk, values, range, scores);
                (peak, Some(whole))
            }
            None => (weigh(ops, &chunk, range, scores), None),
        };
    }
}

/// What a query sees of a chunk, and what weighs it: where more happens to scores than a factor,
/// they are made of the dot products.
#[inline(always)]
fn score_query<'c, O: Wide>(
    ops: O,
    block: &Block<'_>,
    query: usize,
    (base, from, to): (usize, usize, usize),
    chunk: Chunk<'c>,
    scores: &mut [f32],
) -> (Chunk<'c>, (usize, usize)) {
    let (heads, seen) = (block.shared.heads, block.seen(query));
    let start = seen.start.clamp(from, to) - base;
    let end = (seen.end.clamp(from, to) - base).max(start);
    let mask = block.mask(query);
    let bends = heads.soft_cap.is_some() || heads.alibi.is_some() || mask.is_some();
    // The largest dot product is that of the largest score.
    if !bends && chunk.factor >= 0.0 {
        return (chunk, (start, end));
    }
    let chunk = chunk.scale(ops, (start, end), scores);
    let seen_scores = &mut scores[start..end];
    bend(heads, block.head(query), base + start, seen.at, seen_scores);
    if let Some((first, visible)) = mask {
        for (i, s) in seen_scores.iter_mut().enumerate() {
            let at = (base + start + i).checked_sub(first);
            if at.and_then(|at| visible.get(at)) == Some(&false) {
                *s = f32::NEG_INFINITY;
            }
        }
    }
    (chunk, (start, end))
}
