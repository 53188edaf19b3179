//! Choosing a token from the logits of a large vocabulary, by how it is asked for.

#![allow(missing_docs)] // criterion makes functions without them

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use oprel_api::{Dry, Mirostat, Sampling, Xtc};
use oprel_engine::{Breakers, Given, Sampler, Scratch, sampled};

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
        ("min-p alone", Sampling { min_p: 0.05, ..open.clone() }),
        ("typical alone", Sampling { typical_p: 0.9, ..open.clone() }),
        ("top-n-sigma alone", Sampling { top_n_sigma: 1.5, ..open.clone() }),
        ("top-k 5000 alone", Sampling { top_k: 5000, ..open.clone() }),
        ("xtc alone", Sampling { xtc: Xtc { probability: 1.0, threshold: 0.02 }, ..open.clone() }),
        (
            "usual, xtc",
            Sampling { xtc: Xtc { probability: 1.0, threshold: 0.02 }, ..usual.clone() },
        ),
        ("dynamic temperature alone", Sampling { dynatemp_range: 0.5, ..open.clone() }),
        ("usual, dynamic temperature", Sampling { dynatemp_range: 0.5, ..usual.clone() }),
        ("usual, dry", Sampling { dry: Dry { multiplier: 0.8, ..Dry::default() }, ..usual }),
        (
            "mirostat 1",
            Sampling { mirostat: Mirostat { version: 1, ..Mirostat::default() }, ..open.clone() },
        ),
        (
            "mirostat 2",
            Sampling { mirostat: Mirostat { version: 2, ..Mirostat::default() }, ..open },
        ),
    ]
}

/// Constraints: what they are called, and how many tokens of a thousand they allow.
const ALLOWED: [(&str, usize); 4] =
    [("of 20 tokens", 0), ("of 5 %", 50), ("of half", 500), ("of 99 %", 990)];

fn words(n_vocab: usize, per_thousand: usize) -> Vec<u32> {
    let mut words = vec![0_u32; n_vocab.div_ceil(32)];
    for id in 0..n_vocab {
        // The likeliest are not allowed where few are.
        let allows = if per_thousand == 0 {
            id % (n_vocab / 20) == 7
        } else {
            id * 7919 % 1000 < per_thousand
        };
        words[id / 32] |= u32::from(allows) << (id % 32);
    }
    words
}

fn choices(c: &mut Criterion) {
    // No long text repeats itself here, but short pieces do.
    let tokens: Vec<u32> = (0..8192).map(|i| (i * i / 7 + i * 31) % 4000).collect();
    for n_vocab in [128 << 10, 256 << 10] {
        for (kind, logits) in [("peaked", logits(n_vocab)), ("flat", flat(n_vocab))] {
            let mut group = c.benchmark_group(format!("sample {kind} {n_vocab}"));
            let mut measure = |name: &str, how: Sampling, allowed: Option<&[u32]>| {
                let mut sampler = Sampler::new(how).expect("it is in range");
                let mut scratch = Scratch::new();
                let mut length = 4096;
                group.bench_function(BenchmarkId::from_parameter(name), |b| {
                    b.iter(|| {
                        // Another position each time: another draw.
                        length = if length == tokens.len() { 4096 } else { length + 1 };
                        let given = Given { allowed, ..Given::after(&tokens[..length]) };
                        sampler.choose(&mut scratch, &logits, given).expect("finite")
                    });
                });
            };
            for (name, how) in ways() {
                measure(name, how, None);
            }
            for (name, share) in ALLOWED {
                let words = words(n_vocab, share);
                let constrained = ways().into_iter().filter(|(way, _)| {
                    ["greedy", "usual", "usual, penalty", "temperature alone"].contains(way)
                });
                for (way, how) in constrained {
                    measure(&format!("{way}, constraint {name}"), how, Some(&words));
                }
            }
        }
    }
}

/// What else a token or a request may cost: log probabilities, and to find DRY's breakers.
fn beside(c: &mut Criterion) {
    let n_vocab = 128 << 10;
    for (kind, logits) in [("peaked", logits(n_vocab)), ("flat", flat(n_vocab))] {
        let mut group = c.benchmark_group(format!("logprobs {kind} {n_vocab}"));
        for top in [0, 20] {
            group.bench_function(BenchmarkId::from_parameter(top), |b| {
                b.iter(|| sampled(&logits, 77, Some(top)));
            });
        }
    }
    let ending = |i: usize| if i.is_multiple_of(8) { ":" } else { "" };
    let pieces: Vec<String> = (0..n_vocab).map(|i| format!(" {i}{}", ending(i))).collect();
    let breakers = Dry::default().breakers;
    c.bench_function("breakers 131072", |b| {
        b.iter(|| {
            let piece = |id| pieces[id as usize].as_bytes();
            Breakers::find(&breakers, n_vocab as u32, piece, |_| Vec::new())
        });
    });
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
}

criterion_group!(name = benches; config = short(); targets = choices, beside);
criterion_main!(benches);
