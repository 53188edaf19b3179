//! Choosing a token from the logits of a large vocabulary, by how it is asked for.

#![allow(missing_docs)] // criterion makes functions without them

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use oprel_api::Sampling;
use oprel_engine::Sampler;

/// Logits as a model gives them: most in a bell of deviation 2, a few far above it.
fn logits(n_vocab: usize) -> Vec<f32> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut bell = || 2.0 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0);
    let mut logits: Vec<f32> = (0..n_vocab).map(|_| bell()).collect();
    for i in 0..50 {
        logits[(i * 7919 + 13) % n_vocab] = 20.0 - i as f32 * 0.25;
    }
    logits
}

/// The same without the few: what a model with random weights gives.
fn flat(n_vocab: usize) -> Vec<f32> {
    logits(n_vocab).into_iter().map(|x| x.min(8.0) * 0.5).collect()
}

fn ways() -> Vec<(&'static str, Sampling)> {
    let usual = Sampling { top_p: 0.95, min_p: 0.05, ..Sampling::default() };
    let open = Sampling { top_k: 0, top_p: 1.0, ..Sampling::default() };
    vec![
        ("greedy", Sampling::greedy()),
        ("greedy, penalty", Sampling { repeat_penalty: 1.1, ..Sampling::greedy() }),
        ("usual", usual.clone()),
        ("usual, penalty", Sampling { repeat_penalty: 1.1, ..usual.clone() }),
        (
            "usual, penalty on all",
            Sampling { repeat_penalty: 1.1, repeat_last_n: -1, ..usual.clone() },
        ),
        ("temperature alone", open.clone()),
        ("top-p alone", Sampling { top_p: 0.95, ..open.clone() }),
        ("min-p alone", Sampling { min_p: 0.05, ..open }),
    ]
}

fn choices(c: &mut Criterion) {
    let tokens: Vec<u32> = (0..8192).map(|i| i * 31 % 120_000).collect();
    for n_vocab in [128 << 10, 256 << 10] {
        for (kind, logits) in [("peaked", logits(n_vocab)), ("flat", flat(n_vocab))] {
            let mut group = c.benchmark_group(format!("sample {kind} {n_vocab}"));
            for (name, how) in ways() {
                let mut sampler = Sampler::new(how).expect("it is there");
                let mut length = 4096;
                group.bench_function(BenchmarkId::from_parameter(name), |b| {
                    b.iter(|| {
                        // Another position each time: another draw.
                        length = if length == tokens.len() { 4096 } else { length + 1 };
                        sampler.choose(&logits, &tokens[..length], &[]).expect("finite")
                    });
                });
            }
        }
    }
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
}

criterion_group!(name = benches; config = short(); targets = choices);
criterion_main!(benches);
