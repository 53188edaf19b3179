//! Toy vocabularies of every kind, and every pre-tokenizer name: the ids are llama.cpp's.
//!
//! `golden/make.py` wrote the vocabularies and what llama.cpp makes of them.

mod toy;

use oprel_tokenizer::{TokenizeOptions, Tokenizer};
use serde_json::Value;

fn golden() -> Value {
    let text = std::fs::read_to_string(toy::folder().join("golden.json")).expect("the file");
    serde_json::from_str(&text).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn ids(value: &Value) -> Vec<u32> {
    list(value).iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// FNV-1a, a number a step.
fn sum(numbers: impl IntoIterator<Item = u32>) -> u32 {
    numbers.into_iter().fold(2_166_136_261, |h, n| (h ^ n).wrapping_mul(16_777_619))
}

/// The first texts must give the ids, the others the sums.
fn check(tokenizer: &Tokenizer, golden: &Value, expected: &Value, special: bool, name: &str) {
    let options = TokenizeOptions { add_special: special, parse_special: special };
    let mut texts = list(&golden["texts"]).iter().map(|text| text.as_str().expect("a text"));
    for expected in list(&expected["ids"]) {
        let text = texts.next().expect("a text for each");
        assert_eq!(tokenizer.tokenize(text, options), ids(expected), "{name}: {text:?}");
    }
    for (text, expected) in texts.zip(list(&expected["sums"])) {
        let sum = sum(tokenizer.tokenize(text, options));
        assert_eq!(u64::from(sum), expected.as_u64().expect("a sum"), "{name}: {text:?}");
    }
}

#[test]
fn every_pre_tokenizer_name_cuts_as_the_reference() {
    let golden = golden();
    let mut names = 0;
    for group in list(&golden["pre"]) {
        for name in list(&group["names"]) {
            let name = name.as_str().expect("a name");
            let tokenizer =
                toy::load("pre.gguf", &[("tokenizer.ggml.pre", toy::text(name))]).expect(name);
            assert_eq!(tokenizer.warnings(), [], "{name}");
            check(&tokenizer, &golden, group, false, name);
            names += 1;
        }
    }
    assert_eq!(names, 90);
}

#[test]
fn every_kind_of_vocabulary_tokenizes_as_the_reference() {
    let golden = golden();
    for vocab in list(&golden["vocabs"]) {
        let file = vocab["file"].as_str().expect("a name");
        let tokenizer = toy::named(file);
        check(&tokenizer, &golden, &vocab["plain"], false, file);
        check(&tokenizer, &golden, &vocab["special"], true, file);
    }
}

#[test]
fn pieces_and_ends_of_generation_are_those_of_the_reference() {
    for vocab in list(&golden()["vocabs"]) {
        let file = vocab["file"].as_str().expect("a name");
        let tokenizer = toy::named(file);
        assert_eq!(tokenizer.end_ids(), ids(&vocab["ends"]), "{file}");
        let bytes = (0..tokenizer.n_tokens() as u32).flat_map(|id| {
            tokenizer.piece(id).iter().map(|&b| b.into()).chain([id]).collect::<Vec<u32>>()
        });
        assert_eq!(u64::from(sum(bytes)), vocab["pieces"].as_u64().expect("a sum"), "{file}");
    }
}
