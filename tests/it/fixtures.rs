//! Real trained models of `../shared/fixtures` against what llama.cpp made of them.

use oprel_gguf::Gguf;
use oprel_models::{Model, describe};
use oprel_nn::{KvType, What};
use oprel_tests::run::{Sequence, executors};
use oprel_tests::shared;
use serde_json::Value as Json;

fn reference() -> Option<Json> {
    let text = std::fs::read_to_string(shared("fixtures/reference.json")?);
    Some(serde_json::from_str(&text.expect("readable")).expect("JSON"))
}

fn model(name: &str) -> Option<Model> {
    let file = Gguf::open(shared(&format!("fixtures/{name}"))?).expect("a GGUF file");
    Some(describe(&file).expect("can be described"))
}

fn tokens(json: &Json) -> Vec<u32> {
    json.as_array().expect("tokens").iter().map(|t| t.as_u64().expect("a token") as u32).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn minilm_gives_the_embeddings_of_llama_cpp() {
    let (Some(reference), Some(model)) = (reference(), model("all-minilm-l6-v2-q8_0.gguf")) else {
        return;
    };
    let pooling = model.pooling.expect("an embedder");
    for (name, exec) in executors() {
        let mut sequence = Sequence::new(exec, &model, 64, KvType::F16);
        for case in reference["minilm_embeddings"].as_array().expect("cases") {
            sequence.restart();
            let got = sequence.feed(&tokens(&case["tokens"]), What::Pool(pooling));
            let want: Vec<f32> = case["embedding"]
                .as_array()
                .expect("a vector")
                .iter()
                .map(|x| x.as_f64().expect("a number") as f32)
                .collect();
            let cosine = cosine(&want, &got);
            println!("{name} {} {cosine:.6}", case["text"]);
            assert!(cosine >= 0.999, "{name} {}: {cosine}", case["text"]);
        }
    }
}

#[test]
fn stories260k_continues_like_llama_cpp() {
    let (Some(reference), Some(model)) = (reference(), model("stories260k-f32.gguf")) else {
        return;
    };
    for (name, exec) in executors() {
        let mut sequence = Sequence::new(exec, &model, 256, KvType::F16);
        for case in reference["stories260k_greedy"].as_array().expect("cases") {
            let want = tokens(&case["tokens"]);
            sequence.restart();
            let n_vocab = model.decoder.n_vocab as usize;
            let mut logits = sequence.feed(&tokens(&case["prompt_tokens"]), What::Logits);
            let mut got = Vec::new();
            for _ in &want {
                let last = &logits[logits.len() - n_vocab..];
                let best = (0..n_vocab).max_by(|&a, &b| last[a].total_cmp(&last[b]));
                got.push(best.expect("a vocabulary") as u32);
                logits = sequence.feed(&got[got.len() - 1..], What::Logits);
            }
            assert_eq!(want, got, "{name} {}", case["prompt"]);
        }
    }
}
