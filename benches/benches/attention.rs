//! Attention over a KV cache: decode (bytes of cache a second), prefill and a few queries at a time
//! (operations a second), in the shape of Llama 3.2 1B.

#![allow(missing_docs)] // criterion makes functions without them

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oprel_cpu::attention::{
    AppendSpan, AttnSpan, Heads, Kv, KvLayout, KvMut, KvType, KvTypes, Seen, append, attention,
    partial_len,
};
use oprel_cpu::{Isa, Pool};

const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const DIM: usize = 64;
const PAGE: usize = 64;
/// Caches that take turns, as those of layers do, so that none stays in the processor's.
const LAYERS: usize = 16;
/// Types of keys and values: one for both, then two.
const TYPES: [KvTypes; 8] = [
    KvTypes::both(KvType::I16),
    KvTypes::both(KvType::F32),
    KvTypes::both(KvType::F16),
    KvTypes::both(KvType::Bf16),
    KvTypes::both(KvType::Q8_0),
    KvTypes::both(KvType::Q4_0),
    KvTypes { k: KvType::Q8_0, v: KvType::Q4_0 },
    KvTypes { k: KvType::F16, v: KvType::Q4_0 },
];

/// Keys and values; the first byte of either is at the start of a cache line.
struct Cache {
    k: Vec<u8>,
    v: Vec<u8>,
}

/// The bytes of `memory` from the start of a line on.
fn lines(memory: &mut [u8]) -> &mut [u8] {
    let start = memory.as_ptr().align_offset(64);
    &mut memory[start..]
}

impl Cache {
    fn new(pool: &mut Pool, isa: Isa, layout: &KvLayout, pages: &[u32]) -> Cache {
        let room = |page: usize| vec![0; pages.len() * page + 64];
        let mut cache = Cache { k: room(layout.k_page_bytes()), v: room(layout.v_page_bytes()) };
        let rows = numbers(PAGE * KV_HEADS * DIM);
        for page in 0..pages.len() {
            let span = AppendSpan { pages, first: 0, start: page * PAGE, n: PAGE };
            let kv = KvMut { k: lines(&mut cache.k), v: lines(&mut cache.v) };
            append(pool, isa, layout, kv, &[span], &rows, &rows);
        }
        cache
    }

    fn kv(&mut self) -> Kv<'_> {
        Kv { k: lines(&mut self.k), v: lines(&mut self.v) }
    }
}

/// Numbers from -1 to 1.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1999) as f32 / 1000.0 - 1.0).collect()
}

fn heads() -> Heads<'static> {
    Heads { n_heads: HEADS, scale: 0.125, soft_cap: None, sinks: None, alibi: None }
}

fn decode(c: &mut Criterion) {
    let isa = Isa::detect();
    let mut pool = Pool::new(2).expect("threads");
    for depth in [4096, 16384] {
        for types in TYPES {
            let layout = KvLayout::new(types, KV_HEADS, PAGE, DIM, DIM);
            let pages: Vec<u32> = (0..(depth / PAGE) as u32).collect();
            let mut caches: Vec<Cache> =
                (0..LAYERS).map(|_| Cache::new(&mut pool, isa, &layout, &pages)).collect();
            let q = numbers(HEADS * DIM);
            let mut out = vec![0.0; HEADS * DIM];
            let mut partials = vec![0.0; partial_len(HEADS, DIM, depth)];
            let seen = [Seen { start: 0, end: depth, at: depth - 1 }];
            let span = AttnSpan { pages: &pages, first: 0, seen: &seen, mask: None };
            let mut group = c.benchmark_group(format!("attention {isa} decode"));
            let page_bytes = layout.k_page_bytes() + layout.v_page_bytes();
            group.throughput(Throughput::Bytes((pages.len() * page_bytes) as u64));
            let mut turn = 0;
            group.bench_function(BenchmarkId::new(types.to_string(), depth), |b| {
                b.iter(|| {
                    turn = (turn + 1) % LAYERS;
                    let (kv, out, partials) = (caches[turn].kv(), &mut out, &mut partials);
                    attention(&mut pool, isa, &heads(), &layout, kv, &[span], &q, out, partials);
                });
            });
        }
    }
}

fn prefill(c: &mut Criterion) {
    let isa = Isa::detect();
    let mut pool = Pool::new(2).expect("threads");
    let n = 512;
    for depth in [0, 3584] {
        for types in TYPES {
            let layout = KvLayout::new(types, KV_HEADS, PAGE, DIM, DIM);
            let pages: Vec<u32> = (0..((depth + n) / PAGE) as u32).collect();
            let mut cache = Cache::new(&mut pool, isa, &layout, &pages);
            let q = numbers(n * HEADS * DIM);
            let mut out = vec![0.0; n * HEADS * DIM];
            let seen: Vec<Seen> =
                (depth..depth + n).map(|at| Seen { start: 0, end: at + 1, at }).collect();
            let span = AttnSpan { pages: &pages, first: 0, seen: &seen, mask: None };
            let pairs: usize = seen.iter().map(|seen| seen.end).sum();
            let mut group = c.benchmark_group(format!("attention {isa} prefill of {n}"));
            group.sample_size(20);
            group.throughput(Throughput::Elements((4 * pairs * HEADS * DIM) as u64));
            group.bench_function(BenchmarkId::new(types.to_string(), depth), |b| {
                b.iter(|| {
                    let (kv, out) = (cache.kv(), &mut out);
                    attention(&mut pool, isa, &heads(), &layout, kv, &[span], &q, out, &mut []);
                });
            });
        }
    }
}

/// A piece of a prompt, or proposals: a few queries deep in a text, caches in turn.
fn few(c: &mut Criterion) {
    let isa = Isa::detect();
    let mut pool = Pool::new(2).expect("threads");
    let depth = 4096;
    let layout = KvLayout::new(KvTypes::both(KvType::I16), KV_HEADS, PAGE, DIM, DIM);
    let pages: Vec<u32> = (0..(depth / PAGE) as u32).collect();
    let mut caches: Vec<Cache> =
        (0..LAYERS).map(|_| Cache::new(&mut pool, isa, &layout, &pages)).collect();
    let mut partials = vec![0.0; partial_len(HEADS, DIM, depth)];
    for n in [1, 2, 4, 6, 8, 16, 32] {
        let q = numbers(n * HEADS * DIM);
        let mut out = vec![0.0; n * HEADS * DIM];
        let seen: Vec<Seen> =
            (depth - n..depth).map(|at| Seen { start: 0, end: at + 1, at }).collect();
        let span = AttnSpan { pages: &pages, first: 0, seen: &seen, mask: None };
        let pairs: usize = seen.iter().map(|seen| seen.end).sum();
        let mut group = c.benchmark_group(format!("attention {isa} few at {depth}"));
        group.throughput(Throughput::Elements((4 * pairs * HEADS * DIM) as u64));
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter(|| {
                turn = (turn + 1) % LAYERS;
                let (kv, out, partials) = (caches[turn].kv(), &mut out, &mut partials);
                attention(&mut pool, isa, &heads(), &layout, kv, &[span], &q, out, partials);
            });
        });
    }
}

criterion_group!(benches, decode, prefill, few);
criterion_main!(benches);
