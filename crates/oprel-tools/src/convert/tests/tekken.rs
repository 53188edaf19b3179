//! Vocabularies of `tekken.json`.

use std::collections::HashMap;

use oprel_gguf::Metadata;
use oprel_tokenizer::{DetokenizeOptions, TokenizeOptions, Tokenizer};
use serde_json::{Value as Json, json};

use super::super::config::Config;
use super::super::tokenizer::{self, tekken::letters};
use super::folders::Folder;
use super::vocabularies::{TEXTS, shared, strs, taken};

const PATTERN: &str = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|\
     [^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| \
     ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/// What Llama 3 splits words by.
const OTHER: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\
     ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        let letter = |i: usize| char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]);
        text.extend((0..4).map(|i| if i <= three.len() { letter(i) } else { '=' }));
    }
    text
}

fn tekken(pieces: &[Vec<u8>], special: &[&str], pattern: &str, size: usize) -> Json {
    let vocab: Vec<Json> = pieces
        .iter()
        .enumerate()
        .map(|(rank, bytes)| json!({"rank": rank, "token_bytes": base64(bytes), "token_str": null}))
        .collect();
    let special: Vec<Json> = special
        .iter()
        .enumerate()
        .map(|(rank, text)| json!({"rank": rank, "token_str": text, "is_control": true}))
        .collect();
    let n_special = special.len() + 2;
    json!({"config": {"pattern": pattern, "num_vocab_tokens": pieces.len(), "version": "v7",
                      "default_vocab_size": size + n_special, "default_num_special_tokens": n_special},
           "vocab": vocab, "special_tokens": special})
}

fn small() -> (Vec<Vec<u8>>, Json) {
    let mut pieces: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for text in ["he", "ll", "hell", "lo", "hello", "é", "never counted"] {
        pieces.push(text.as_bytes().to_vec());
    }
    let json = tekken(&pieces, &["<unk>", "<s>", "</s>", "[INST]"], PATTERN, pieces.len() - 1);
    (pieces, json)
}

fn tokenizer_of(m: &Metadata) -> Tokenizer {
    Tokenizer::from_metadata(m).unwrap()
}

#[test]
fn special_tokens_come_first_and_pairs_are_joined_in_the_order_of_tokens() {
    let (pieces, json) = small();
    let folder = Folder::empty();
    folder.write("tekken.json", &json.to_string());
    let m = taken(&folder, "mistral3", pieces.len() - 1 + 6);
    let tokens = strs(&m, "tokenizer.ggml.tokens");
    assert_eq!(tokens[..6], ["<unk>", "<s>", "</s>", "[INST]", "<SPECIAL_4>", "<SPECIAL_5>"]);
    assert_eq!(tokens[6 + 32], "Ġ", "a space is spelled as byte-level vocabularies do");
    assert_eq!(m.str("tokenizer.ggml.pre").unwrap(), Some("tekken"));
    assert_eq!(m.u32("tokenizer.ggml.bos_token_id").unwrap(), Some(1));
    assert_eq!(m.u32("tokenizer.ggml.eos_token_id").unwrap(), Some(2));
    let tokenizer = tokenizer_of(&m);
    let of = |text: &str, add_special| {
        tokenizer.tokenize(text, TokenizeOptions { add_special, parse_special: true })
    };
    assert_eq!(of("hello", false), [6 + 260]);
    assert_eq!(of("hellé", false), [6 + 258, 6 + 261]);
    assert_eq!(of("[INST]lo", true), [1, 3, 6 + 259]);
    assert_eq!(
        tokenizer.detokenize(&of("hello é!", false), DetokenizeOptions::default()),
        "hello é!"
    );
}

#[test]
fn the_pieces_of_a_real_vocabulary_are_joined_as_before() {
    let Some(file) = shared("llama-bpe") else { return };
    let m = file.metadata();
    let bytes: HashMap<char, u8> =
        (0..=255).map(|byte| (letters(&[byte]).chars().next().unwrap(), byte)).collect();
    let kinds = m.i32s("tokenizer.ggml.token_type").unwrap().unwrap().into_owned();
    let tokens = strs(m, "tokenizer.ggml.tokens");
    let plain = tokens.iter().zip(&kinds).take_while(|(_, kind)| **kind == 1);
    let pieces: Vec<Vec<u8>> =
        plain.map(|(token, _)| token.chars().map(|c| bytes[&c]).collect()).collect();
    assert_eq!(pieces.len(), 128_000);
    let json = tekken(&pieces, &["<unk>", "<s>", "</s>"], OTHER, pieces.len());
    let folder = Folder::empty();
    folder.write("tekken.json", &json.to_string());
    let (before, after) =
        (tokenizer_of(m), tokenizer_of(&taken(&folder, "llama", pieces.len() + 5)));
    let options = TokenizeOptions { add_special: false, parse_special: false };
    for text in TEXTS {
        let shifted: Vec<u32> = before.tokenize(text, options).iter().map(|id| id + 5).collect();
        assert_eq!(after.tokenize(text, options), shifted, "{text}");
    }
}

#[test]
fn what_is_no_vocabulary_is_refused_by_the_name_of_its_file() {
    let read = |json: &Json| {
        let folder = Folder::empty();
        folder.write("tekken.json", &json.to_string());
        let config = Config::of(json!({"vocab_size": 268})).unwrap();
        tokenizer::read(folder.path(), &config, "mistral3", Some(268), &mut Vec::new())
    };
    let (_, good) = small();
    assert!(read(&good).is_ok());
    let changes: &[(&str, Json)] = &[
        ("/config", json!(null)),
        ("/config/default_vocab_size", json!(-1)),
        ("/config/default_vocab_size", json!(2)),
        ("/config/default_vocab_size", json!(1e18)),
        ("/config/default_num_special_tokens", json!(1)),
        ("/config/default_num_special_tokens", json!("x")),
        ("/vocab", json!([])),
        ("/vocab", json!({})),
        ("/vocab/7/rank", json!(8)),
        ("/vocab/7/token_bytes", json!("")),
        ("/vocab/7/token_bytes", json!("*")),
        ("/vocab/7", json!(null)),
        ("/special_tokens/1/token_str", json!(null)),
    ];
    for (at, value) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = value.clone();
        let error = read(&bad).expect_err(at).to_string();
        assert!(error.starts_with("tekken.json"), "{at}: {error}");
    }
    // A pattern that nobody knows is a guess, and told.
    let mut odd = good.clone();
    odd["config"]["pattern"] = json!(7);
    assert!(read(&odd).is_ok());
}
