//! Damaged vocabularies are refused, odd ones are usable, and nothing panics.

mod toy;

use oprel_gguf::{Array, StrArray, Value};
use oprel_tokenizer::{
    Algorithm, DetokenizeOptions, Error, TokenKind, TokenizeOptions, Tokenizer, Warning,
};
use proptest::prelude::*;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const MODEL: &str = "tokenizer.ggml.model";

fn strings(texts: &[&str]) -> Option<Value> {
    Some(Value::Array(Array::Str(texts.iter().collect::<StrArray>())))
}

fn use_it(tokenizer: &Tokenizer, text: &str) {
    for special in [false, true] {
        let options = TokenizeOptions { add_special: special, parse_special: special };
        let ids = tokenizer.tokenize(text, options);
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_tokens()), "{text:?}: {ids:?}");
        let options = DetokenizeOptions { special, clean_spaces: special };
        tokenizer.detokenize(&ids, options);
    }
}

#[test]
fn a_vocabulary_without_model_tokens_or_merges_is_refused() {
    for (file, key) in [("spm.gguf", MODEL), ("spm.gguf", TOKENS), ("llama3.gguf", MERGES)] {
        let error = toy::load(file, &[(key, None)]).expect_err(key);
        assert!(matches!(error, Error::Missing { key: missing } if missing == key), "{error}");
    }
}

#[test]
fn an_unknown_model_is_refused_by_name() {
    let error = toy::load("spm.gguf", &[(MODEL, toy::text("morse"))]).expect_err("unknown");
    assert!(error.to_string().contains("`morse`"), "{error}");
}

#[test]
fn types_and_scores_for_fewer_tokens_than_there_are_are_refused() {
    let types = Some(Value::Array(Array::I32(vec![1; 5])));
    let scores = Some(Value::Array(Array::F32(vec![0.0; 5])));
    for (key, value) in [(TYPES, types), (SCORES, scores)] {
        let error = toy::load("spm.gguf", &[(key, value)]).expect_err(key);
        assert!(matches!(error, Error::TooShort { found: 5, .. }), "{error}");
    }
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    let keys = [TOKENS, TYPES, SCORES, MERGES, MODEL, "tokenizer.ggml.pre"];
    let others = ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token", "general.name"];
    for key in keys.into_iter().chain(others) {
        let wrong = Some(Value::Array(Array::Bool(vec![true])));
        let error = toy::load("llama3.gguf", &[(key, wrong)]).expect_err(key);
        assert!(matches!(error, Error::Metadata(_)), "{key}: {error}");
    }
}

#[test]
fn a_special_id_outside_the_vocabulary_is_ignored_with_a_warning() {
    let key = "tokenizer.ggml.bos_token_id";
    let tokenizer = toy::load("spm.gguf", &[(key, Some(Value::U32(1 << 30)))]).expect("usable");
    assert_eq!(tokenizer.warnings(), [Warning::BadSpecial { key, id: 1 << 30 }]);
    assert_eq!(tokenizer.bos(), Some(1));
}

#[test]
fn an_unknown_pre_tokenizer_warns_and_is_the_default() {
    let load = |pre| toy::load("pre.gguf", &[("tokenizer.ggml.pre", pre)]).expect("usable");
    let default = load(toy::text("default"));
    let unknown = load(toy::text("nobody-knows"));
    let text = "It's 1234 tokens,\n  no?";
    let ids = |t: &Tokenizer| t.tokenize(text, TokenizeOptions::default());
    assert_eq!(ids(&unknown), ids(&default));
    assert_eq!(ids(&load(None)), ids(&default));
    assert_eq!(unknown.warnings(), [Warning::UnknownPre { name: "nobody-knows".into() }]);
    assert_eq!(load(None).warnings(), [Warning::NoPre]);
}

#[test]
fn tokens_spelled_alike_warn_and_the_last_one_counts() {
    let changes = [
        (TOKENS, strings(&["a", "b", "a"])),
        (TYPES, None),
        (SCORES, None),
        ("tokenizer.ggml.add_space_prefix", Some(Value::Bool(false))),
    ];
    let tokenizer = toy::load("spm.gguf", &changes).expect("usable");
    assert_eq!(tokenizer.warnings(), [Warning::Duplicate { first: 0, second: 2 }]);
    assert_eq!(tokenizer.tokenize("ab", TokenizeOptions::default()), [2, 1]);
}

#[test]
fn a_damaged_table_of_replacements_is_refused() {
    let key = "tokenizer.ggml.precompiled_charsmap";
    for blob in [vec![1, 2], vec![255; 8], vec![4, 0, 0, 0, 9, 9, 9, 9]] {
        let error = toy::load("t5.gguf", &[(key, Some(Value::Array(Array::U8(blob))))]);
        assert!(matches!(error, Err(Error::CharsMap { .. })));
    }
}

#[test]
fn a_vocabulary_that_needs_all_bytes_and_lacks_some_is_refused() {
    let changes = [(TOKENS, strings(&["a", "<0x00>"])), (TYPES, None), (SCORES, None)];
    let error = toy::load("plamo2.gguf", &changes).expect_err("no bytes");
    assert!(matches!(error, Error::MissingByte { byte: 0 }), "{error}");
}

#[test]
fn tokens_longer_than_any_real_one_are_refused() {
    let huge = "é".repeat(1 << 16);
    for file in toy::files() {
        let changes = [(TOKENS, strings(&["a", &huge])), (TYPES, None), (SCORES, None)];
        let error = toy::load(&file, &changes).expect_err("too long");
        assert!(matches!(error, Error::TooLong { key: TOKENS, .. }), "{file}: {error}");
    }
}

#[test]
fn a_table_larger_than_any_real_one_is_refused() {
    let mut tokens: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
    tokens.insert(0, "a".repeat(4000));
    let types = [1].into_iter().chain([6; 256]).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let changes = [
        (TOKENS, strings(&tokens)),
        (TYPES, Some(Value::Array(Array::I32(types)))),
        (SCORES, None),
    ];
    let error = toy::load("plamo2.gguf", &changes).expect_err("too much work");
    assert!(matches!(error, Error::TooLong { key: TOKENS, .. }), "{error}");
}

#[test]
fn a_token_of_letters_that_stand_for_no_byte_does_not_swell() {
    let long = "▁".repeat(10_000);
    let changes = [(TOKENS, strings(&["▁a", &long])), (TYPES, None), (SCORES, None)];
    let tokenizer = toy::load("llama3.gguf", &changes).expect("usable");
    assert_eq!(tokenizer.piece(0), "[UNK_BYTE_0xe29681▁a]a".as_bytes());
    assert_eq!(tokenizer.piece(1), long.as_bytes());
}

#[test]
fn no_vocabulary_gives_no_tokens() {
    let changes = [(MODEL, toy::text("none")), ("llama.vocab_size", Some(Value::U32(7)))];
    let tokenizer = toy::load("spm.gguf", &changes).expect("usable");
    assert_eq!((tokenizer.n_tokens(), tokenizer.algorithm()), (7, Algorithm::None));
    assert_eq!(tokenizer.kind(3), TokenKind::Undefined);
    use_it(&tokenizer, "text");
}

#[test]
fn a_vocabulary_of_no_tokens_is_usable() {
    for file in toy::files().iter().filter(|file| *file != "plamo2.gguf") {
        let changes = [(TOKENS, strings(&[])), (TYPES, None), (SCORES, None)];
        let tokenizer = toy::load(file, &changes).expect("usable");
        use_it(&tokenizer, "some text\n é🚀<think> ");
        assert_eq!(tokenizer.piece(0), b"");
        assert_eq!(tokenizer.raw_piece(0), None);
    }
}

#[test]
fn ids_outside_the_vocabulary_are_nothing() {
    let tokenizer = toy::named("spm.gguf");
    for id in [tokenizer.n_tokens() as u32, u32::MAX] {
        assert_eq!(tokenizer.piece(id), b"");
        assert_eq!(tokenizer.raw_piece(id), None);
        assert_eq!(tokenizer.kind(id), TokenKind::Undefined);
        assert!(!tokenizer.is_end_of_generation(id));
        assert_eq!(tokenizer.detokenize(&[id], DetokenizeOptions::default()), "");
    }
}

#[test]
fn long_runs_are_merged_in_less_than_quadratic_time() {
    for file in ["llama3.gguf", "gemma4.gguf", "spm.gguf", "t5.gguf", "bert.gguf", "plamo2.gguf"] {
        let tokenizer = toy::named(file);
        for run in ["a", " ", "\n", "é", "ab "] {
            let text = run.repeat(100_000);
            tokenizer.tokenize(&text, TokenizeOptions::default());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_text_makes_any_vocabulary_panic(text in ".{0,60}|(\\PC|\\s){0,60}") {
        for file in toy::files() {
            use_it(&toy::named(&file), &text);
        }
    }

    #[test]
    fn no_list_of_tokens_makes_a_vocabulary_panic(
        tokens in prop::collection::vec("[ab▁<0xF>\\\\é ]{0,6}", 0..40),
        types in prop::collection::vec(-1..8i32, 40),
        scores in prop::collection::vec(any::<f32>(), 40),
        merges in prop::collection::vec("[ab é]{0,5}", 0..20),
        blob in prop::collection::vec(any::<u8>(), 0..60),
        text in "[ab▁<0xF>é ]{0,30}",
    ) {
        let array = |texts: &[String]| Some(Value::Array(Array::Str(texts.iter().collect())));
        let mut sized = 12u32.to_le_bytes().to_vec();
        sized.extend(blob);
        for file in toy::files() {
            let changes = [
                (TOKENS, array(&tokens)),
                (TYPES, Some(Value::Array(Array::I32(types.clone())))),
                (SCORES, Some(Value::Array(Array::F32(scores.clone())))),
                (MERGES, array(&merges)),
                ("tokenizer.ggml.precompiled_charsmap", Some(Value::Array(Array::U8(sized.clone())))),
            ];
            if let Ok(tokenizer) = toy::load(&file, &changes) {
                use_it(&tokenizer, &text);
            }
        }
    }
}
