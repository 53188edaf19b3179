//! Byte-pair encoding against the `tokenizers` crate, on random Unicode.

mod toy;

use oprel_gguf::Gguf;
use oprel_tokenizer::TokenizeOptions;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

/// Names with the pattern that Hugging Face's files have for them.
const PATTERNS: [(&str, &str); 4] = [
    ("gpt-2", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    (
        "llama3",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "qwen2",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "qwen35",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
];

fn oracle(pattern: &str) -> Tokenizer {
    let gguf = Gguf::open(toy::folder().join("pre.gguf")).expect("a readable file");
    let strings = |key| gguf.metadata().strs(key).expect("a list").expect("present");
    let vocab: serde_json::Map<String, Value> = strings("tokenizer.ggml.tokens")
        .iter()
        .map(str::to_owned)
        .zip((0..).map(Value::from))
        .collect();
    let merges: Vec<&str> = strings("tokenizer.ggml.merges").iter().collect();
    let bpe = json!({ "type": "BPE", "vocab": vocab, "merges": merges }).to_string();
    let mut tokenizer =
        Tokenizer::new(serde_json::from_str::<BPE>(&bpe).expect("merges of tokens"));
    let split = Split::new(
        SplitPattern::Regex(pattern.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    );
    let steps = Sequence::new(vec![
        split.expect("a pattern").into(),
        ByteLevel::new(false, false, false).into(),
    ]);
    tokenizer.with_pre_tokenizer(Some(steps));
    tokenizer
}

/// Characters that no recent Unicode has added, for the crate's tables are of another version.
fn old_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-zA-Z]{1,8}",
        "[0-9]{1,7}",
        "[ \\t\\r\\n]{1,5}",
        "'(s|S|t|re|LL|ve|M|d|x)",
        "[!-/:-@\\[-`{-~]{1,4}",
        "[\u{a0}-\u{17f}\u{391}-\u{3a1}\u{410}-\u{44f}\u{5d0}-\u{5ea}\u{627}-\u{64a}]{1,6}",
        "[\u{300}-\u{340}\u{940}-\u{94d}\u{915}-\u{939}\u{966}-\u{96f}]{1,5}",
        "[\u{4e00}-\u{4eff}\u{3041}-\u{3096}\u{ac00}-\u{acff}\u{3000}-\u{3002}]{1,6}",
        "[\u{1f300}-\u{1f5ff}\u{200d}\u{fe0f}\u{2000}-\u{2029}\u{b2}\u{bd}\u{2160}]{1,4}",
    ];
    prop::collection::vec(word, 0..14).prop_map(|words| words.concat())
}

#[test]
fn ids_are_those_of_the_tokenizers_crate() {
    let pairs = PATTERNS.map(|(name, pattern)| {
        let ours = toy::load("pre.gguf", &[("tokenizer.ggml.pre", toy::text(name))]);
        (name, ours.expect("a vocabulary"), oracle(pattern))
    });
    proptest!(ProptestConfig::with_cases(300), |(text in old_text())| {
        for (name, ours, theirs) in &pairs {
            let expected = theirs.encode(text.as_str(), false).expect("any text");
            let ids = ours.tokenize(&text, TokenizeOptions::default());
            prop_assert_eq!(&ids[..], expected.get_ids(), "{}", name);
        }
    });
}
