//! Vocabularies of real models: from GGUF to the files of a folder, and back.

use std::path::PathBuf;

use oprel_gguf::{Gguf, Metadata, Writer};
use oprel_tokenizer::{TokenizeOptions, Tokenizer};
use serde_json::{Map, Value as Json, json};

use super::super::config::Config;
use super::super::tokenizer;
use super::folders::Folder;

/// A vocabulary of the shared fixtures; `None` where they are absent.
pub(super) fn shared(name: &str) -> Option<Gguf> {
    let folder = std::env::var_os("OPREL_SHARED").map(PathBuf::from);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let file =
        folder.unwrap_or(root).join("fixtures/vocabs").join(format!("ggml-vocab-{name}.gguf"));
    if file.exists() {
        return Some(Gguf::open(file).expect("a vocabulary"));
    }
    assert!(std::env::var_os("CI").is_none(), "CI needs {}", file.display());
    eprintln!("skipped: needs {}", file.display());
    None
}

pub(super) const TEXTS: &[&str] = &[
    "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
    " leading space, 123456 numbers\tand\n\n\nlines",
    "déjà vu — naïve Ünïcödé ﷽",
];

/// The metadata that a folder's vocabulary becomes, as a file's.
pub(super) fn taken(folder: &Folder, architecture: &str, n: usize) -> Metadata {
    let config = Config::of(json!({"vocab_size": n})).expect("an object");
    let mut notes = Vec::new();
    let n = u32::try_from(n).expect("few");
    let entries = tokenizer::read(folder.path(), &config, architecture, Some(n), &mut notes);
    let entries = entries.unwrap_or_else(|e| panic!("{e}"));
    assert!(notes.is_empty(), "{notes:?}");
    let mut writer = Writer::new();
    writer.set("general.architecture", architecture).expect("a new key");
    for (key, value) in entries {
        writer.set(&key, value).unwrap_or_else(|e| panic!("{e}"));
    }
    let mut file = Vec::new();
    writer.write(&mut file).expect("memory");
    Gguf::from_bytes(file).expect("a file").metadata().clone()
}

fn same_tokens(before: &Metadata, after: &Metadata) {
    let (a, b) = (
        Tokenizer::from_metadata(before).expect("a tokenizer"),
        Tokenizer::from_metadata(after).expect("a tokenizer"),
    );
    for text in TEXTS {
        for add_special in [true, false] {
            let options = TokenizeOptions { add_special, parse_special: true };
            assert_eq!(a.tokenize(text, options), b.tokenize(text, options), "{text}");
        }
    }
}

pub(super) fn strs(m: &Metadata, key: &str) -> Vec<String> {
    m.strs(key).expect("strings").expect("there").iter().map(str::to_owned).collect()
}

/// `tokenizer.json` and `tokenizer_config.json` of byte-pair encoding.
fn byte_pair_folder(
    m: &Metadata,
    pre_tokenizer: Json,
    ignore_merges: bool,
    in_pairs: bool,
) -> Folder {
    let tokens = strs(m, "tokenizer.ggml.tokens");
    let kinds = m.i32s("tokenizer.ggml.token_type").expect("numbers").expect("there").into_owned();
    let (mut vocab, mut added, mut decoder) = (Map::new(), Vec::new(), Map::new());
    for (id, (token, kind)) in tokens.iter().zip(&kinds).enumerate() {
        match kind {
            1 => {
                vocab.insert(token.clone(), id.into());
            }
            3 | 4 => {
                added.push(json!({"id": id, "content": token, "special": *kind == 3}));
                decoder.insert(id.to_string(), json!({"content": token, "special": *kind == 3}));
            }
            _ => {}
        }
    }
    let merges: Vec<Json> = strs(m, "tokenizer.ggml.merges")
        .into_iter()
        .map(|merge| match (in_pairs, merge.split_once(' ')) {
            (true, Some((a, b))) => json!([a, b]),
            _ => merge.into(),
        })
        .collect();
    let folder = Folder::empty();
    let text = |id: Option<u32>| id.map(|id| tokens[id as usize].clone());
    let id = |role: &str| m.u32(&format!("tokenizer.ggml.{role}_token_id")).expect("a number");
    let model =
        json!({"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": ignore_merges});
    let json = json!({"model": model, "added_tokens": added, "pre_tokenizer": pre_tokenizer,
                      "decoder": {"type": "ByteLevel"}});
    folder.write("tokenizer.json", &json.to_string());
    let settings = json!({"bos_token": text(id("bos")), "eos_token": {"content": text(id("eos"))},
                          "added_tokens_decoder": decoder});
    folder.write("tokenizer_config.json", &settings.to_string());
    folder
}

fn pre_tokenizer(patterns: &[&str]) -> Json {
    let mut steps: Vec<Json> = patterns
        .iter()
        .map(|p| json!({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated"}))
        .collect();
    steps.push(
        json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": patterns.is_empty()}),
    );
    json!({"type": "Sequence", "pretokenizers": steps})
}

#[test]
fn byte_pair_vocabularies_come_back() {
    let start = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
    let tail = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    let llama3 = format!("{start}\\p{{N}}{{1,3}}|{tail}");
    let qwen2 = format!("{start}\\p{{N}}|{tail}");
    let cases = [
        ("llama-bpe", "llama", pre_tokenizer(&[&llama3]), true, "llama-bpe"),
        ("qwen2", "qwen2", pre_tokenizer(&[&qwen2]), false, "qwen2"),
        ("gpt-2", "gpt2", pre_tokenizer(&[]), false, "gpt-2"),
    ];
    for (name, architecture, pre_tokenizer, ignore_merges, pre) in cases {
        let Some(file) = shared(name) else { return };
        let before = file.metadata();
        let tokens = strs(before, "tokenizer.ggml.tokens");
        for in_pairs in [false, true] {
            let folder = byte_pair_folder(before, pre_tokenizer.clone(), ignore_merges, in_pairs);
            let after = taken(&folder, architecture, tokens.len());
            assert_eq!(strs(&after, "tokenizer.ggml.tokens"), tokens, "{name}");
            let merges = "tokenizer.ggml.merges";
            assert_eq!(strs(&after, merges), strs(before, merges), "{name}");
            let kinds = "tokenizer.ggml.token_type";
            assert_eq!(after.i32s(kinds).unwrap(), before.i32s(kinds).unwrap(), "{name}");
            assert_eq!(after.str("tokenizer.ggml.pre").unwrap(), Some(pre), "{name}");
            for key in ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"] {
                assert_eq!(after.u32(key).unwrap(), before.u32(key).unwrap(), "{name}: {key}");
            }
            same_tokens(before, &after);
        }
    }
}

/// A message of protobuf fields.
fn piece(text: &str, score: f32, kind: i32) -> Vec<u8> {
    let mut bytes = vec![0x0a];
    varint(text.len(), &mut bytes);
    bytes.extend(text.as_bytes());
    bytes.push(0x15);
    bytes.extend(score.to_le_bytes());
    bytes.extend([0x18, kind as u8]);
    bytes
}

fn varint(mut n: usize, to: &mut Vec<u8>) {
    while n > 127 {
        to.push(n as u8 | 128);
        n >>= 7;
    }
    to.push(n as u8);
}

#[test]
fn sentence_piece_vocabularies_come_back_from_both_of_their_files() {
    let Some(file) = shared("llama-spm") else { return };
    let before = file.metadata();
    let tokens = strs(before, "tokenizer.ggml.tokens");
    let scores = before.f32s("tokenizer.ggml.scores").unwrap().expect("there").into_owned();
    let kinds = before.i32s("tokenizer.ggml.token_type").unwrap().expect("there").into_owned();

    let mut model = Vec::new();
    for ((token, score), kind) in tokens.iter().zip(&scores).zip(&kinds) {
        let piece = piece(token, *score, *kind);
        model.push(0x0a);
        varint(piece.len(), &mut model);
        model.extend(piece);
    }
    let folder = Folder::empty();
    folder.write_bytes("tokenizer.model", &model);
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                          "add_bos_token": true, "add_eos_token": false});
    folder.write("tokenizer_config.json", &settings.to_string());
    let after = taken(&folder, "llama", tokens.len());
    assert_eq!(strs(&after, "tokenizer.ggml.tokens"), tokens);
    assert_eq!(after.f32s("tokenizer.ggml.scores").unwrap().unwrap(), scores);
    assert_eq!(after.i32s("tokenizer.ggml.token_type").unwrap().unwrap(), kinds);
    assert_eq!(after.u32("tokenizer.ggml.bos_token_id").unwrap(), Some(1));
    assert_eq!(after.u32("tokenizer.ggml.unknown_token_id").unwrap(), Some(0));
    assert_eq!(after.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    same_tokens(before, &after);

    folder.remove("tokenizer.model");
    folder.write("tokenizer.json", &as_sentence_pairs(&tokens, &scores, &kinds).to_string());
    same_tokens(before, &taken(&folder, "llama", tokens.len()));
}

/// The `tokenizer.json` of a SentencePiece vocabulary: merges in the order of their scores, all that give a token.
fn as_sentence_pairs(tokens: &[String], scores: &[f32], kinds: &[i32]) -> Json {
    let vocab: Map<String, Json> =
        tokens.iter().enumerate().map(|(id, t)| (t.clone(), id.into())).collect();
    let mut normal: Vec<usize> = (0..tokens.len()).filter(|id| kinds[*id] == 1).collect();
    normal.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut merges = Vec::new();
    for id in normal {
        let token = &tokens[id];
        for (at, _) in token.char_indices().skip(1) {
            let (a, b) = token.split_at(at);
            if vocab.contains_key(a) && vocab.contains_key(b) {
                merges.push(json!([a, b]));
            }
        }
    }
    json!({"model": {"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": true, "unk_token": "<unk>"},
           "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]},
           "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                            {"id": 1, "content": "<s>", "special": true},
                            {"id": 2, "content": "</s>", "special": true}]})
}

#[test]
fn word_piece_vocabularies_come_back_from_both_of_their_files() {
    let Some(file) = shared("bert-bge") else { return };
    let before = file.metadata();
    let tokens = strs(before, "tokenizer.ggml.tokens");
    let kinds = before.i32s("tokenizer.ggml.token_type").unwrap().expect("there").into_owned();
    let original: Vec<String> = tokens
        .iter()
        .zip(&kinds)
        .map(|(t, kind)| match (kind, t.strip_prefix('\u{2581}')) {
            (3, _) => t.clone(),
            (_, Some(word)) => word.to_owned(),
            (_, None) => format!("##{t}"),
        })
        .collect();
    let vocab: Map<String, Json> =
        original.iter().enumerate().map(|(id, t)| (t.clone(), id.into())).collect();
    let special: Vec<Json> = (0..tokens.len())
        .filter(|id| kinds[*id] == 3)
        .map(|id| json!({"id": id, "content": tokens[id], "special": true}))
        .collect();
    let json = json!({"model": {"type": "WordPiece", "vocab": vocab}, "added_tokens": special,
                      "normalizer": {"type": "BertNormalizer", "lowercase": true, "strip_accents": null}});
    let folder = Folder::empty();
    let settings = json!({"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
                          "mask_token": "[MASK]", "do_lower_case": true});
    folder.write("tokenizer_config.json", &settings.to_string());
    folder.write("tokenizer.json", &json.to_string());
    let after = taken(&folder, "bert", tokens.len());
    assert_eq!(strs(&after, "tokenizer.ggml.tokens"), tokens);
    assert_eq!(after.i32s("tokenizer.ggml.token_type").unwrap().unwrap(), kinds);
    assert_eq!(after.u32("tokenizer.ggml.bos_token_id").unwrap(), Some(101));
    assert_eq!(after.u32("tokenizer.ggml.seperator_token_id").unwrap(), Some(102));
    same_tokens(before, &after);

    folder.remove("tokenizer.json");
    folder.write("vocab.txt", &original.join("\n"));
    same_tokens(before, &taken(&folder, "bert", tokens.len()));
}

#[test]
fn unigram_vocabularies_keep_scores_and_the_table_of_characters() {
    let folder = Folder::empty();
    let json = json!({"model": {"type": "Unigram", "unk_id": 3,
                                "vocab": [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁a", -1.5]]},
                      "normalizer": {"type": "Sequence", "normalizers": [
                          {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}]},
                      "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "always"},
                      "post_processor": {"type": "TemplateProcessing",
                          "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}},
                                     {"SpecialToken": {"id": "</s>"}}]},
                      "added_tokens": [{"id": 0, "content": "<s>", "special": true},
                                       {"id": 2, "content": "</s>", "special": true},
                                       {"id": 3, "content": "<unk>", "special": true}]});
    folder.write("tokenizer.json", &json.to_string());
    folder.write("tokenizer_config.json", r#"{"bos_token": "<s>", "eos_token": "</s>"}"#);
    let m = taken(&folder, "bert", 5);
    assert_eq!(m.str("tokenizer.ggml.model").unwrap(), Some("t5"));
    assert_eq!(m.f32s("tokenizer.ggml.scores").unwrap().unwrap()[..], [0.0, 0.0, 0.0, 0.0, -1.5]);
    assert_eq!(m.i32s("tokenizer.ggml.token_type").unwrap().unwrap()[..], [3, 1, 3, 2, 1]);
    assert_eq!(m.bool("tokenizer.ggml.add_space_prefix").unwrap(), Some(true));
    assert_eq!(m.bool("tokenizer.ggml.add_eos_token").unwrap(), Some(true));
    assert_eq!(m.u32("tokenizer.ggml.eos_token_id").unwrap(), Some(2));
}

#[test]
fn chat_templates_are_taken_from_wherever_they_are() {
    let key = "tokenizer.chat_template";
    let Some(file) = shared("gpt-2") else { return };
    let folder = byte_pair_folder(file.metadata(), pre_tokenizer(&[]), false, false);
    let n = strs(file.metadata(), "tokenizer.ggml.tokens").len();
    folder.write("chat_template.jinja", "{{ one }}");
    assert_eq!(taken(&folder, "qwen2", n).str(key).unwrap(), Some("{{ one }}"));
    let templates = json!({"chat_template": [{"name": "default", "template": "{{ two }}"},
                                             {"name": "tool_use", "template": "{{ three }}"}]});
    folder.write("tokenizer_config.json", &templates.to_string());
    let m = taken(&folder, "qwen2", n);
    assert_eq!(m.str(key).unwrap(), Some("{{ two }}"));
    assert_eq!(m.str("tokenizer.chat_template.tool_use").unwrap(), Some("{{ three }}"));
    assert_eq!(strs(&m, "tokenizer.chat_templates"), ["tool_use"]);
}
