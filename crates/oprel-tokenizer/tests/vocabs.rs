//! The seven real vocabularies: exactly llama.cpp's ids, and the text back byte for byte.

use std::path::PathBuf;

use oprel_gguf::Gguf;
use oprel_tokenizer::{DetokenizeOptions, TokenizeOptions, Tokenizer};

/// The folder of vocabularies, or `None` where it is absent and need not be there.
fn folder() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("OPREL_SHARED").map_or_else(beside, PathBuf::from);
    let folder = shared.join("fixtures/vocabs");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "needs ../shared/fixtures/vocabs");
    println!("skipped: needs ../shared/fixtures/vocabs");
    None
}

fn check(name: &str) {
    let Some(folder) = folder() else { return };
    let file = folder.join(format!("ggml-vocab-{name}.gguf"));
    let read = |ending: &str| {
        std::fs::read_to_string(folder.join(format!("ggml-vocab-{name}.gguf.{ending}")))
            .expect("the cases are beside the vocabulary")
    };
    let gguf = Gguf::open(file).expect("a readable file");
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).expect("a vocabulary");
    let (inputs, outputs) = (read("inp"), read("out"));
    let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let outputs: Vec<&str> = outputs.lines().collect();
    assert!(inputs.len() >= outputs.len() && outputs.len() > 40, "{name}");
    for (text, ids) in inputs.into_iter().zip(outputs) {
        let expected: Vec<u32> =
            ids.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        let ids = tokenizer.tokenize(text, TokenizeOptions::default());
        assert_eq!(ids, expected, "{name}: {text:?}");
        if name != "bert-bge" {
            let bytes = tokenizer.detokenize_bytes(&ids, DetokenizeOptions::default());
            assert_eq!(bytes, text.as_bytes(), "{name}");
        }
    }
}

#[test]
fn bert_bge() {
    check("bert-bge");
}

#[test]
fn deepseek_llm() {
    check("deepseek-llm");
}

#[test]
fn gemma_4() {
    check("gemma-4");
}

#[test]
fn gpt_2() {
    check("gpt-2");
}

#[test]
fn llama_bpe() {
    check("llama-bpe");
}

#[test]
fn llama_spm() {
    check("llama-spm");
}

#[test]
fn qwen2() {
    check("qwen2");
}
