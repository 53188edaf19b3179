//! Keys and values into their pages, and attention over them.

use std::sync::Arc;

use oprel_cpu::attention::{
    AppendSpan, AttnSpan, Heads, MOST_DIM, Seen, SeenMask, append, attention, partial_len,
};

use super::arena::Buf;
use super::compile::{Compiler, unsupported};
use super::kv::KvStore;
use super::run::{Memories, Run, SpanAt};
use super::spans::visible;
use crate::batch::See;
use crate::describe::{Mask, Reach, SlotId, StateSpec};
use crate::weights::WeightId;
use crate::{Error, Result};

/// Spans whose attention runs in one region.
const SPANS: usize = 16;
/// Sequences whose partial results have room in memory at once.
const SPLIT_SPANS: usize = 4;

/// Where keys and values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// In a slot of the description.
    Kept(usize),
    /// Nowhere after the step.
    Uncached(usize),
}

/// Sizes of an attention, and what happens to its scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scores {
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) k_dim: usize,
    pub(super) v_dim: usize,
    pub(super) scale: f32,
    pub(super) soft_cap: Option<f32>,
    pub(super) mask: Mask,
}

/// Attention over the pages of a slot.
#[derive(Debug)]
pub(super) struct Attend {
    slot: Slot,
    scores: Scores,
    sinks: Option<Arc<[f32]>>,
    alibi: Option<Arc<[f32]>>,
    /// (n, n_heads * k_dim).
    q: Buf,
    /// (n, n_heads * v_dim).
    pub(super) out: Buf,
}

impl Slot {
    /// The slot of the description with this id, which must fit.
    pub(super) fn kept(c: &Compiler<'_>, id: SlotId, scores: &Scores) -> Result<Slot> {
        let index = c.kv_slot(id, (scores.n_kv_heads, scores.k_dim, scores.v_dim))?;
        let reach = c.decoder.slots.get(index).and_then(StateSpec::reach);
        let kept = match (scores.mask, reach) {
            (_, Some(Reach::Full)) => true,
            (Mask::Window(n) | Mask::Chunk(n), Some(Reach::Window(kept))) => n <= kept,
            _ => false,
        };
        if kept {
            return Ok(Slot::Kept(index));
        }
        Err(Error::Description(format!("{:?} over a slot that keeps {reach:?}", scores.mask)))
    }

    /// A place for one step.
    pub(super) fn uncached(c: &mut Compiler<'_>, scores: &Scores) -> Slot {
        let shape = (scores.n_kv_heads, scores.k_dim, scores.v_dim);
        let index = c.uncached.iter().position(|s| *s == shape).unwrap_or_else(|| {
            c.uncached.push(shape);
            c.uncached.len() - 1
        });
        Slot::Uncached(index)
    }

    fn store<'m>(
        self,
        kv: &'m mut [Option<KvStore>],
        uncached: &'m mut [KvStore],
    ) -> &'m mut KvStore {
        let store = match self {
            Slot::Kept(index) => kv[index].as_mut(),
            Slot::Uncached(index) => uncached.get_mut(index),
        };
        match store {
            Some(store) => store,
            None => panic!("{self:?} was checked when it was compiled"),
        }
    }

    /// Position of a span's first token among what is kept.
    fn start(self, span: &SpanAt) -> usize {
        match self {
            Slot::Kept(_) => span.start,
            Slot::Uncached(_) => 0,
        }
    }
}

impl Attend {
    pub(super) fn compile(
        c: &mut Compiler<'_>,
        slot: Slot,
        scores: Scores,
        sinks: Option<WeightId>,
        alibi: Option<f32>,
        (q, out): (Buf, Buf),
    ) -> Result<Attend> {
        if let Mask::Window(0) | Mask::Chunk(0) = scores.mask {
            return Err(Error::Description("a window of no positions".into()));
        }
        if scores.k_dim.max(scores.v_dim) > MOST_DIM {
            let Scores { k_dim, v_dim, .. } = scores;
            return Err(unsupported(format!("keys and values of {k_dim} and {v_dim} elements")));
        }
        let spans = (c.limits.spans as usize).min(SPLIT_SPANS);
        let partials = partial_len(scores.n_heads, scores.v_dim, c.limits.context as usize);
        c.partials = c.partials.max(partials.saturating_mul(spans));
        let sinks = sinks.map(|id| c.vector(id, scores.n_heads)).transpose()?;
        let alibi = alibi.map(|most| slopes(scores.n_heads, most));
        Ok(Attend { slot, scores, sinks, alibi, q, out })
    }

    /// Stores the keys (n, kv heads * k_dim) and values (n, kv heads * v_dim) of the batch; `None`
    /// where keys hold the values.
    pub(super) fn append(&self, run: &mut Run<'_>, keys: Buf, values: Option<Buf>) {
        let Memories { arena, spans, tables, kv, uncached, .. } = &mut *run.mem;
        let store = self.slot.store(kv, uncached);
        let values = values.map_or(0..0, |v| v.range(run.n));
        let [keys, values] = arena.ranges([keys.range(run.n), values]);
        let (isa, layout, group) = (run.kernels.isa(), store.layout, store.group);
        for (chunk, few) in spans.chunks(SPANS).enumerate() {
            let of_span: [AppendSpan<'_>; SPANS] = std::array::from_fn(|i| {
                let SpanAt { first, n, .. } = few.get(i).copied().unwrap_or_default();
                let start = few.get(i).map_or(0, |span| self.slot.start(span));
                let index = chunk * SPANS + i.min(few.len() - 1);
                AppendSpan { pages: tables.of(index, group), first, start, n }
            });
            let cells = store.cells_mut();
            append(run.pool, isa, &layout, cells, &of_span[..few.len()], keys, values);
        }
    }

    /// Attends with the queries of the batch.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        self.fill_seen(run);
        let Memories { arena, spans, tables, kv, uncached, seen, trees, partials, .. } =
            &mut *run.mem;
        let store = self.slot.store(kv, uncached);
        let scores = &self.scores;
        let heads = Heads {
            n_heads: scores.n_heads,
            scale: scores.scale,
            soft_cap: scores.soft_cap,
            sinks: self.sinks.as_deref(),
            alibi: self.alibi.as_deref(),
        };
        let (layout, cells) = (store.layout, store.cells());
        let [q, out] = arena.rows(run.n, [self.q, self.out]);
        let mut tree = 0;
        for (chunk, few) in spans.chunks(SPANS).enumerate() {
            // Places beyond the spans hold spans of no tokens.
            let of_span: [AttnSpan<'_>; SPANS] = std::array::from_fn(|i| {
                let span = few.get(i).copied().unwrap_or_default();
                let index = chunk * SPANS + i.min(few.len() - 1);
                let is_tree = i < few.len() && matches!(run.batch.spans[index].see, See::Tree(_));
                let mask = is_tree.then(|| {
                    let visible = &trees[tree..tree + span.n * span.n];
                    tree += visible.len();
                    SeenMask { first: self.slot.start(&span), width: span.n, visible }
                });
                let seen = &seen[span.first..span.first + span.n];
                AttnSpan { pages: tables.of(index, store.group), first: span.first, seen, mask }
            });
            let isa = run.kernels.isa();
            let of_span = &of_span[..few.len()];
            attention(run.pool, isa, &heads, &layout, cells, of_span, q, out, partials);
        }
    }

    fn fill_seen(&self, run: &mut Run<'_>) {
        let Memories { spans, seen, .. } = &mut *run.mem;
        seen.clear();
        for (span, see) in spans.iter().zip(run.batch.spans.iter().map(|s| s.see)) {
            let span = SpanAt { start: self.slot.start(span), ..*span };
            seen.extend((0..span.n).map(|i| {
                let (start, end) = visible(self.scores.mask, see, span, i);
                Seen { start, end, at: span.start + i }
            }));
        }
    }
}

/// ALiBi's slope of each head, as ggml spaces them for head counts that are no power of two.
fn slopes(n_heads: usize, most: f32) -> Arc<[f32]> {
    let whole = 1 << n_heads.max(1).ilog2();
    let (step, half_step) = ((-most / whole as f32).exp2(), (-most / 2.0 / whole as f32).exp2());
    let slope = |head: usize| {
        if head < whole {
            step.powi(head as i32 + 1)
        } else {
            half_step.powi(2 * (head - whole) as i32 + 1)
        }
    };
    (0..n_heads).map(slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_halve_from_head_to_head_and_fill_the_gaps_beyond_a_power_of_two() {
        let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
        let eight = slopes(8, 8.0);
        assert!(near(eight[0], 0.5) && near(eight[7], 1.0 / 256.0));
        let six = slopes(6, 8.0);
        assert!(near(six[0], 0.25) && near(six[4], 0.5) && near(six[5], 0.125));
    }
}
