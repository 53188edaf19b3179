//! Every described architecture against llama.cpp's logits, through both executors.

use oprel_models::{Model, describe};
use oprel_nn::KvType;
use oprel_tests::run::{Sequence, error, executors, median_row_error};
use oprel_tests::zoo::{Reference, Set, Skeleton, hard_bar};

/// Highest error over all rows in the plain set.
const PLAIN_BAR: f64 = 1e-5;

const MODELS: &[&str] = &[
    "deepseek2-moe",
    "falcon-h1-dense",
    "gemma-dense",
    "gemma2-dense",
    "gemma3-dense",
    "glm4-dense",
    "gpt-oss-moe",
    "granite-moe",
    "lfm2-dense",
    "lfm2moe-moe",
    "llama-dense",
    "llama-moe",
    "mamba-dense",
    "mamba2-dense",
    "mistral3-dense",
    "nemotron_h-dense",
    "nemotron_h_moe-dense",
    "olmo2-dense",
    "phi3-dense",
    "qwen2-dense",
    "qwen2moe-moe",
    "qwen3-dense",
    "qwen35-dense",
    "qwen35moe-moe",
    "qwen3moe-moe",
];

fn model(set: Set, name: &str, seed: u64) -> Option<Model> {
    let file = Skeleton::load(set, name)?.gguf(seed);
    Some(describe(&file).unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// Error of a model's logits, fed in pieces: over all rows, or the median row of the hard set.
fn error_of(set: Set, reference: &Reference, name: &str, logits: &[f32]) -> f64 {
    let want = &reference.logits[name];
    let n_vocab = logits.len() / reference.tokens.len();
    let got = &logits[reference.first_row * n_vocab..];
    match set {
        Set::Plain => error(want, got),
        Set::Hard => median_row_error(want, got, n_vocab),
    }
}

fn check(set: Set) {
    let reference = Reference::load(set);
    let n = reference.tokens.len();
    let ways: [(&str, Vec<usize>); 4] = [
        ("one batch", vec![]),
        ("token by token", vec![1; n]),
        ("split at 7", vec![7]),
        ("split at 33, 1, 9", vec![33, 1, 9]),
    ];
    let mut failed = Vec::new();
    for name in MODELS {
        let Some(model) = model(set, name, 1) else {
            assert_eq!(set, Set::Hard, "{name} is in the plain set");
            continue;
        };
        let bar = if set == Set::Plain { PLAIN_BAR } else { hard_bar(name) };
        let half = executors().into_iter().map(|(name, exec)| (name, exec, KvType::F16));
        // What only our own kernels have.
        let integers = executors().into_iter().filter(|(name, _)| *name == "cpu");
        let integers = integers.map(|(name, exec)| (name, exec, KvType::I16));
        for (exec_name, exec, kv) in half.chain(integers) {
            // The reference has a cache in half precision, too, and so the same errors of rounding.
            let bar = if kv == KvType::F16 { bar } else { 1.5 * bar };
            let mut sequence = Sequence::new(exec, &model, 256, kv);
            for (way, pieces) in &ways {
                let logits = sequence.logits(&reference.tokens, pieces);
                let error = error_of(set, &reference, name, &logits);
                println!("{name:20} {exec_name:7} {kv} {way:18} {error:.1e} (bar {bar:.1e})");
                if error.is_nan() || error > bar {
                    failed.push(format!("{name} {exec_name} {kv} {way}: {error:.2e} > {bar:.1e}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn plain_models_match_llama_cpp() {
    check(Set::Plain);
}

#[test]
fn hard_models_match_llama_cpp() {
    check(Set::Hard);
}
