//! How fast attention over a cache of keys and values is, measured with the kernel itself: how many bytes it
//! reads says little where queries share them and powers are taken.

use std::time::Instant;

use oprel_cpu::Isa;
use oprel_cpu::attention::{
    AppendSpan, AttnSpan, Heads, Kv, KvLayout, KvMut, KvTypes, MOST_DIM, Seen, append, attention,
    partial_len,
};
use oprel_cpu::pool::Pool;
use serde::{Deserialize, Serialize};

use super::median_of;

/// Positions of a page.
const PAGE: usize = 64;
/// Positions of a cache.
const DEPTH: usize = 1024;
/// Bytes of caches that take turns, as those of layers do.
const CACHES: usize = 48 << 20;
/// Tokens of a prompt that look at once.
const TOKENS: usize = 256;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Heads of queries.
    pub n_heads: usize,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Elements of a key.
    pub k_dim: usize,
    /// Elements of a value.
    pub v_dim: usize,
}

/// How fast queries are multiplied with keys, and weights with values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionRate {
    /// Products a second of one query at a time.
    pub one: f64,
    /// Of many queries of a prompt.
    pub many: f64,
}

impl Look {
    /// Products of a query with one position.
    pub fn products(&self) -> f64 {
        (self.n_heads * (self.k_dim + self.v_dim)) as f64
    }

    fn is_possible(&self) -> bool {
        let Look { n_heads, n_kv_heads, k_dim, v_dim } = *self;
        let least = n_heads.min(n_kv_heads).min(k_dim).min(v_dim);
        least > 0 && n_heads.is_multiple_of(n_kv_heads) && k_dim.max(v_dim) <= MOST_DIM
    }
}

impl AttentionRate {
    /// Measures an attention with some threads: less than half a second. `None` if there is none of such sizes, or
    /// the system refuses threads or memory.
    pub fn measure(of: Look, types: KvTypes, threads: usize, isa: Isa) -> Option<AttentionRate> {
        let mut pool = Pool::new(threads.max(1)).ok()?;
        if !of.is_possible() {
            return None;
        }
        let layout = KvLayout::new(types, of.n_kv_heads, PAGE, of.k_dim, of.v_dim);
        let pages: Vec<u32> = (0..(DEPTH / PAGE) as u32).collect();
        let page_bytes = layout.k_page_bytes() + layout.v_page_bytes();
        let n = (CACHES / (pages.len() * page_bytes)).clamp(2, 256);
        Vec::<u8>::new().try_reserve_exact(n * pages.len() * page_bytes).ok()?;
        let caches: Vec<Cache> =
            (0..n).map(|_| Cache::new(&mut pool, isa, &layout, &pages)).collect();
        let mut run = Run { of, layout, pages: &pages, pool: &mut pool, isa };
        let one = run.time(&caches, DEPTH - 1..DEPTH);
        let many = run.time(&caches[..1], DEPTH - TOKENS..DEPTH);
        let products = |seen: std::ops::Range<usize>| {
            of.products() * seen.map(|at| at + 1).sum::<usize>() as f64
        };
        Some(AttentionRate {
            one: n as f64 * products(DEPTH - 1..DEPTH) / one,
            many: products(DEPTH - TOKENS..DEPTH) / many,
        })
    }
}

/// Keys and values; the first byte of either is at the start of a cache line.
struct Cache {
    k: Vec<u8>,
    v: Vec<u8>,
}

/// Where the first line of `memory` begins.
fn line(memory: &[u8]) -> usize {
    memory.as_ptr().align_offset(64).min(memory.len())
}

impl Cache {
    fn new(pool: &mut Pool, isa: Isa, layout: &KvLayout, pages: &[u32]) -> Cache {
        let room = |page: usize| vec![0; pages.len() * page + 64];
        let mut cache = Cache { k: room(layout.k_page_bytes()), v: room(layout.v_page_bytes()) };
        let keys = numbers(PAGE * layout.n_kv_heads() * layout.k_dim());
        let values = numbers(PAGE * layout.n_kv_heads() * layout.v_dim());
        for page in 0..pages.len() {
            let span = AppendSpan { pages, first: 0, start: page * PAGE, n: PAGE };
            let (k, v) = (line(&cache.k), line(&cache.v));
            let kv = KvMut { k: &mut cache.k[k..], v: &mut cache.v[v..] };
            append(pool, isa, layout, kv, &[span], &keys, &values);
        }
        cache
    }

    fn kv(&self) -> Kv<'_> {
        Kv { k: &self.k[line(&self.k)..], v: &self.v[line(&self.v)..] }
    }
}

/// Numbers from -1 to 1.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1999) as f32 / 1000.0 - 1.0).collect()
}

struct Run<'a> {
    of: Look,
    layout: KvLayout,
    pages: &'a [u32],
    pool: &'a mut Pool,
    isa: Isa,
}

impl Run<'_> {
    /// The usual seconds of queries at some positions, in each cache in turn.
    fn time(&mut self, caches: &[Cache], at: std::ops::Range<usize>) -> f64 {
        let Look { n_heads, k_dim, v_dim, .. } = self.of;
        let scale = 1.0 / (k_dim as f32).sqrt();
        let heads = Heads { n_heads, scale, soft_cap: None, sinks: None, alibi: None };
        let (q, n) = (numbers(at.len() * n_heads * k_dim), at.len());
        let mut out = vec![0.0; n * n_heads * v_dim];
        let mut partials = vec![0.0; partial_len(n_heads, v_dim, DEPTH)];
        let seen: Vec<Seen> = at.map(|at| Seen { start: 0, end: at + 1, at }).collect();
        let span = AttnSpan { pages: self.pages, first: 0, seen: &seen, mask: None };
        median_of(|| {
            let start = Instant::now();
            for cache in caches {
                let (kv, spans) = (cache.kv(), [span]);
                let memory = (&mut out, &mut partials);
                attention(
                    self.pool,
                    self.isa,
                    &heads,
                    &self.layout,
                    kv,
                    &spans,
                    &q,
                    memory.0,
                    memory.1,
                );
            }
            start.elapsed().as_secs_f64()
        })
    }
}

#[cfg(test)]
mod tests {
    use oprel_cpu::attention::KvType;

    use super::*;

    #[test]
    fn attentions_have_a_rate_and_impossible_ones_none() {
        let look = Look { n_heads: 4, n_kv_heads: 2, k_dim: 32, v_dim: 32 };
        for ty in [KvType::I16, KvType::Q8_0] {
            let rate = AttentionRate::measure(look, ty.into(), 2, Isa::detect()).unwrap();
            assert!(rate.one > 0.0 && rate.many > 0.0, "{rate:?}");
        }
        for wrong in [
            Look { n_kv_heads: 3, ..look },
            Look { n_kv_heads: 0, ..look },
            Look { k_dim: 1 << 20, ..look },
        ] {
            assert_eq!(AttentionRate::measure(wrong, KvType::I16.into(), 1, Isa::detect()), None);
        }
    }
}
