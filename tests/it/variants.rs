//! Zoo models with switches that the zoo leaves at one value, against llama.cpp's logits.

use oprel_models::{Model, describe};
use oprel_nn::KvType;
use oprel_tests::root;
use oprel_tests::run::{Sequence, executors, median_row_error};
use oprel_tests::zoo::{Set, Skeleton};
use serde_json::Value as Json;

/// Highest median error of the last rows: where two experts are nearly equal, noise chooses between
/// them, and a single row may be far off.
const BAR: f64 = 1e-5;

fn variants() -> Vec<Json> {
    let text = std::fs::read_to_string(root().join("tests/zoo/variants.json"));
    serde_json::from_str(&text.expect("it is committed")).expect("variants are JSON")
}

/// A skeleton of the zoo under the variant's changes, with the weights of seed 7.
fn model(variant: &Json) -> Model {
    let set = if variant["set"] == "hard" { Set::Hard } else { Set::Plain };
    let name = variant["of"].as_str().expect("a name");
    let mut skeleton = Skeleton::load(set, name).expect("variants are of committed skeletons");
    for (key, value) in variant["kv"].as_object().expect("changes") {
        skeleton.replace(key, value.clone());
    }
    for (suffix, shape) in variant["shapes"].as_object().expect("changes") {
        skeleton.reshape(suffix, shape.clone());
    }
    describe(&skeleton.gguf(7)).unwrap_or_else(|e| panic!("{}: {e}", variant["name"]))
}

#[test]
fn variants_of_zoo_models_match_llama_cpp() {
    let bytes = std::fs::read(root().join("tests/zoo/variants.safetensors"));
    let bytes = bytes.expect("it is committed");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid safetensors");
    let tokens: Vec<u32> = (0..100).map(|i| (37 * i + 11) % 128).collect();
    let mut failed = Vec::new();
    for variant in variants() {
        let name = variant["name"].as_str().expect("a name");
        let model = model(&variant);
        let words = file.tensor(name).expect("every variant has logits").data().chunks_exact(4);
        let want: Vec<f32> = words.map(|w| f32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        for (exec_name, exec) in executors() {
            let mut sequence = Sequence::new(exec, &model, 128, KvType::F16);
            for pieces in [vec![], vec![41, 1]] {
                let logits = sequence.logits(&tokens, &pieces);
                let got = &logits[logits.len() - want.len()..];
                let error = median_row_error(&want, got, 128);
                println!("{name:26} {exec_name:7} {error:.1e}");
                if error.is_nan() || error > BAR {
                    failed.push(format!("{name} {exec_name} {pieces:?}: {error:.2e} > {BAR:.0e}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
