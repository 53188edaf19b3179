//! Grouped-query softmax attention over a KV cache in pages.
//!
//! # The order of sums
//!
//! The cache is taken in chunks of 256 positions, counted from position 0 whatever is visible. In
//! a chunk, a score is the sum of products of a head's elements, one after another; exponentials
//! are summed in sixteen lanes by position; values are added position by position. Chunks are
//! merged in ascending order. So a query's result depends on its own row, the cache and what it
//! sees: not on the other queries, the threads, how chunks are split over them, or the tier.
//!
//! # How it is computed
//!
//! Everything but the softmax is the product of a few rows (queries, or weights of positions) and
//! a tile of the cache, whose neighbouring columns fill vectors: positions where scores are
//! computed, elements of values where those are added up. That is why keys lie transposed in
//! their pages ([`KvLayout`]). Few queries (decode) read tiles where they are, each once for all
//! heads of a group; many (prefill) unpack a piece to f32 first. Tiles of integers
//! ([`KvType::I16`]) are read where they are in either case, by integers made of queries and
//! weights: their sums are exact in any order. Where there are fewer blocks of
//! queries than threads could share, the chunks of a block are split over several tasks, whose
//! partial results are merged in a second region.

mod append;
mod block;
mod cells;
mod integers;
mod keys;
mod kv_type;
mod layout;
mod product;
mod quantized;
mod task;
mod unpack;
mod values;
mod weigh;
mod whole;
mod wide;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

pub use append::{AppendSpan, KvMut, append};
pub use kv_type::{KvType, KvTypes};
pub use layout::KvLayout;

use self::block::{Plan, Shared};
use self::task::{merge_task, run_task};
use crate::disjoint::Disjoint;
use crate::{Isa, Pool};

/// Positions of a chunk.
pub const CHUNK: usize = 256;
/// Most elements of a key or a value.
pub const MOST_DIM: usize = 2048;
/// Tasks for each thread to which contexts are split.
const TASKS: usize = 4;

/// Heads of an attention, and what happens to scores.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Query heads; each kv head of the cache serves a run of them.
    pub n_heads: usize,
    /// Factor on scores.
    pub scale: f32,
    /// `cap * tanh(score / cap)` on scaled scores.
    pub soft_cap: Option<f32>,
    /// (n_heads): scores that take part in the softmax and have no value.
    pub sinks: Option<&'a [f32]>,
    /// (n_heads): a score is lowered by this times the distance of its position (ALiBi).
    pub alibi: Option<&'a [f32]>,
}

/// Keys and values, page after page, as [`KvLayout`] says.
#[derive(Clone, Copy, Debug)]
pub struct Kv<'a> {
    /// Keys.
    pub k: &'a [u8],
    /// Values; the keys again where these hold them.
    pub v: &'a [u8],
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
    /// Row of the first query, in queries and results; behind those of the spans before.
    pub first: usize,
    /// What each query sees; pages of visible positions must be there.
    pub seen: &'a [Seen],
    /// Narrows it further.
    pub mask: Option<SeenMask<'a>>,
}

/// How many elements partial results of a sequence's decode take at most: enough for its context to
/// be split over threads.
pub fn partial_len(n_heads: usize, v_dim: usize, positions: usize) -> usize {
    n_heads * positions.div_ceil(CHUNK) * (v_dim.next_multiple_of(16) + 16)
}

/// Attends: `out` (rows, n_heads * v_dim) from `q` (rows, n_heads * k_dim), for the rows of `spans`.
/// A query that sees nothing gets zeros. `partials` is memory to work in ([`partial_len`] for each
/// sequence); where it is too short, contexts are not split over threads.
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
    partials: &mut [f32],
) {
    assert!(heads.n_heads.is_multiple_of(layout.n_kv_heads()), "groups of equal size");
    assert_eq!(q.len() * layout.v_dim(), out.len() * layout.k_dim(), "as many results as queries");
    assert!(layout.k_dim().max(layout.v_dim()) <= MOST_DIM, "room for a piece");
    let mut rows = 0;
    for span in spans {
        assert!(rows <= span.first, "spans one after another");
        rows = span.first + span.seen.len();
    }
    let (out, partials) = (Disjoint::new(out), Disjoint::new(partials));
    let shared = Shared { heads, layout, kv, q, out, partials };
    let wanted = match pool.n_threads() {
        1 => 1,
        n => (n * TASKS).div_ceil(spans.len().max(1)),
    };
    // Goes through spans and their plans until `f` finds what it looks for.
    let find = |f: &mut dyn FnMut(&AttnSpan<'_>, &Plan) -> bool| {
        let mut base = 0;
        for span in spans {
            let plan = shared.plan(span, wanted, base);
            base = plan.end();
            if f(span, &plan) {
                return;
            }
        }
    };
    let (mut n_tasks, mut n_merges) = (0, 0);
    find(&mut |_, plan| {
        n_tasks += plan.n_tasks();
        n_merges += plan.n_merges();
        false
    });
    pool.run(n_tasks, |mut task, worker| {
        find(&mut |span, plan| {
            let found = task < plan.n_tasks();
            if found {
                run_task(isa, &shared, span, plan, task, worker);
            }
            task = task.saturating_sub(plan.n_tasks());
            found
        });
    });
    pool.run(n_merges, |mut task, worker| {
        find(&mut |span, plan| {
            let found = task < plan.n_merges();
            if found {
                merge_task(isa, &shared, span, plan, task, worker);
            }
            task = task.saturating_sub(plan.n_merges());
            found
        });
    });
}

#[cfg(test)]
mod tests;
