//! Vocabularies of `tokenizer.json` and of the older files that it took the place of.

use std::collections::HashMap;

use oprel_gguf::Value;
use serde_json::{Map, Value as Json};

use super::{Files, Vocabulary, base64, kind, pre};
use crate::error::{Error, Result};

const FILE: &str = "tokenizer.json";

fn wrong(problem: impl Into<String>) -> Error {
    Error::Tokenizer { file: FILE, problem: problem.into() }
}

/// The vocabulary of `tokenizer.json`.
pub(super) fn read(
    files: &Files,
    architecture: &str,
    n: u32,
    notes: &mut Vec<String>,
) -> Result<Vocabulary> {
    let model = files.tokenizer.get("model").ok_or_else(|| wrong("has no model"))?;
    let vocab = model.get("vocab");
    let by_text = || vocab.and_then(Json::as_object).ok_or_else(|| wrong("has no vocabulary"));
    // Old files leave the type out of byte-pair encoding.
    match model.get("type").and_then(Json::as_str).unwrap_or("BPE") {
        "BPE" if is_byte_level(files) => {
            let (pre, guessed) = pre::name(&files.tokenizer, architecture);
            note_guess(&pre, guessed, notes);
            let merges = merges(model.get("merges"))?;
            Ok(byte_pairs(by_text()?, merges, pre, files, n, notes))
        }
        "BPE" => sentence_pairs(by_text()?, model, files, n, notes),
        "WordPiece" => {
            let mut made = word_pieces(numbered(by_text()?), files, n, notes);
            let normalizer = files.tokenizer.get("normalizer").unwrap_or(&Json::Null);
            let says = |key: &str| normalizer.get(key).and_then(Json::as_bool);
            if let Some(lowercase) = says("lowercase") {
                made.more.push(("normalizer.lowercase", Value::from(lowercase)));
            }
            if let Some(strip) = says("strip_accents") {
                made.more.push(("normalizer.strip_accents", Value::from(strip)));
            }
            Ok(made)
        }
        "Unigram" => unigram(model, files, n, notes),
        other => Err(wrong(format!("has a model of type '{other}', which GGUF files lack"))),
    }
}

pub(super) fn note_guess(pre: &str, guessed: bool, notes: &mut Vec<String>) {
    if guessed {
        notes.push(format!(
            "the pre-tokenizer is not known and taken to be '{pre}': check that texts come back"
        ));
    }
}

/// Words are spelled in letters for bytes; otherwise in characters with `▁` for a space.
fn is_byte_level(files: &Files) -> bool {
    let says = |key: &str| {
        files.tokenizer.get(key).is_some_and(|v| v.to_string().contains("\"ByteLevel\""))
    };
    says("pre_tokenizer") || says("decoder")
}

fn numbered(vocab: &Map<String, Json>) -> impl Iterator<Item = (&str, u32)> {
    vocab.iter().filter_map(|(text, id)| Some((text.as_str(), u32::try_from(id.as_u64()?).ok()?)))
}

/// Merges as one text each, halves apart by a space.
fn merges(list: Option<&Json>) -> Result<Vec<String>> {
    let list = list.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let merge = |entry: &Json| match entry {
        Json::String(merge) => Some(merge.clone()),
        Json::Array(halves) => match halves.as_slice() {
            // A space in a half would end it; byte letters spell it so.
            [Json::String(a), Json::String(b)] => {
                Some(format!("{} {}", a.replace(' ', "Ġ"), b.replace(' ', "Ġ")))
            }
            _ => None,
        },
        _ => None,
    };
    list.iter().map(|m| merge(m).ok_or_else(|| wrong("has a merge that is none"))).collect()
}

fn byte_pairs(
    vocab: &Map<String, Json>,
    merges: Vec<String>,
    pre: String,
    files: &Files,
    n: u32,
    notes: &mut Vec<String>,
) -> Vocabulary {
    let mut made = Vocabulary::new("gpt2", n);
    made.pre = pre;
    made.merges = merges;
    place(&mut made, numbered(vocab).map(|(text, id)| (text, id, 0.0)), notes);
    made.add(files, notes);
    made
}

/// Puts normal tokens in their places.
pub(super) fn place<'t>(
    made: &mut Vocabulary,
    tokens: impl Iterator<Item = (&'t str, u32, f32)>,
    notes: &mut Vec<String>,
) {
    let left_out =
        tokens.filter(|(text, id, score)| !made.set(*id, text, kind::NORMAL, *score)).count();
    if left_out > 0 {
        let n = made.tokens.len();
        notes.push(format!("{left_out} tokens are left out: the model has {n} rows for tokens"));
    }
}

/// SentencePiece's byte-pair encoding, whose scores `tokenizer.json` has as the order of merges.
fn sentence_pairs(
    vocab: &Map<String, Json>,
    model: &Json,
    files: &Files,
    n: u32,
    notes: &mut Vec<String>,
) -> Result<Vocabulary> {
    let mut scores: HashMap<String, f32> = HashMap::new();
    for (rank, merge) in merges(model.get("merges"))?.iter().enumerate() {
        let joined = merge.replacen(' ', "", 1).replace('Ġ', " ");
        scores.entry(joined).or_insert(-(rank as f32));
    }
    let last = -(scores.len() as f32);
    let mut made = Vocabulary::new("llama", n);
    let scored = numbered(vocab).map(|(text, id)| (text, id, *scores.get(text).unwrap_or(&last)));
    place(&mut made, scored, notes);
    for at in 0..made.tokens.len() {
        if is_byte(&made.tokens[at]) {
            (made.kinds[at], made.scores[at]) = (kind::BYTE, 0.0);
        }
    }
    mark_unknown(&mut made, model.get("unk_token").and_then(Json::as_str));
    made.add(files, notes);
    let prefix = puts_a_space_before(&files.tokenizer);
    if !prefix {
        made.more.push(("add_space_prefix", Value::from(false)));
    }
    Ok(made)
}

fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn mark_unknown(made: &mut Vocabulary, text: Option<&str>) {
    if let Some(at) = made.tokens.iter().position(|t| Some(t.as_str()) == text) {
        made.kinds[at] = kind::UNKNOWN;
    }
}

/// By a normalizer that prepends, or a pre-tokenizer that does.
fn puts_a_space_before(tokenizer: &Json) -> bool {
    let text = |key: &str| tokenizer.get(key).map(Json::to_string).unwrap_or_default();
    let (normalizer, pre) = (text("normalizer"), text("pre_tokenizer"));
    normalizer.contains("\"Prepend\"")
        || (pre.contains("\"Metaspace\"")
            && !pre.contains("\"never\"")
            && !pre.contains("\"add_prefix_space\":false"))
}

/// WordPiece: GGUF marks words that begin, folders those that go on.
fn word_pieces<'t>(
    vocab: impl Iterator<Item = (&'t str, u32)>,
    files: &Files,
    n: u32,
    notes: &mut Vec<String>,
) -> Vocabulary {
    let mut made = Vocabulary::new("bert", n);
    place(&mut made, vocab.map(|(text, id)| (text, id, 0.0)), notes);
    made.add(files, notes);
    for (token, kind) in made.tokens.iter_mut().zip(&made.kinds) {
        if *kind == kind::CONTROL {
            continue;
        }
        *token = match token.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None => format!("\u{2581}{token}"),
        };
    }
    made
}

/// `vocab.txt`: a token a line. Which are structure, its brackets tell.
pub(super) fn from_list(list: &str, files: &Files, n: u32, notes: &mut Vec<String>) -> Vocabulary {
    let mut made = word_pieces(list.lines().zip(0..), files, n, notes);
    for at in 0..made.tokens.len() {
        let bare = made.tokens[at].trim_start_matches('\u{2581}');
        if matches!(bare, "[PAD]" | "[UNK]" | "[CLS]" | "[SEP]" | "[MASK]") {
            made.tokens[at] = bare.to_owned();
            made.kinds[at] = kind::CONTROL;
        }
    }
    if let Some(lowercase) = files.settings.get("do_lower_case").and_then(Json::as_bool) {
        made.more.push(("normalizer.lowercase", Value::from(lowercase)));
    }
    made
}

/// `vocab.json` and `merges.txt`.
pub(super) fn from_merges(
    vocab: &Json,
    merges: &str,
    files: &Files,
    architecture: &str,
    n: u32,
    notes: &mut Vec<String>,
) -> Result<Vocabulary> {
    let problem = || Error::Tokenizer { file: "vocab.json", problem: "holds no tokens".into() };
    let vocab = vocab.as_object().ok_or_else(problem)?;
    let lines = merges.lines().skip(usize::from(merges.starts_with("#version")));
    let merges = lines.filter(|l| l.split(' ').count() == 2).map(str::to_owned).collect();
    let class = files.settings.get("tokenizer_class").and_then(Json::as_str).unwrap_or_default();
    let (pre, guessed) = match (class, architecture) {
        ("", "qwen2" | "qwen2moe" | "qwen3" | "qwen3moe") => ("qwen2", false),
        (class, _) => pre::of_class(class),
    };
    note_guess(pre, guessed, notes);
    Ok(byte_pairs(vocab, merges, pre.to_owned(), files, n, notes))
}

fn unigram(model: &Json, files: &Files, n: u32, notes: &mut Vec<String>) -> Result<Vocabulary> {
    let list = model.get("vocab").and_then(Json::as_array);
    let list = list.ok_or_else(|| wrong("has no vocabulary"))?;
    let piece = |entry: &Json| -> Option<(String, f32)> {
        Some((entry.get(0)?.as_str()?.to_owned(), entry.get(1)?.as_f64()? as f32))
    };
    let pieces: Option<Vec<(String, f32)>> = list.iter().map(piece).collect();
    let pieces = pieces.ok_or_else(|| wrong("has a token without text or score"))?;
    let mut made = Vocabulary::new("t5", n);
    let tokens = (0..).zip(&pieces).map(|(id, (text, score))| (text.as_str(), id, *score));
    place(&mut made, tokens, notes);
    for added in files.added() {
        let kind = if added.special { kind::CONTROL } else { kind::USER_DEFINED };
        let score = made.scores.get(added.id as usize).copied().filter(|s| *s > -10000.0);
        made.set(added.id, &added.text, kind, score.unwrap_or(0.0));
    }
    if let Some(unknown) = model.get("unk_id").and_then(Json::as_u64)
        && let Some(kind) = made.kinds.get_mut(usize::try_from(unknown).unwrap_or(usize::MAX))
    {
        *kind = kind::UNKNOWN;
    }
    let normalizer = files.tokenizer.get("normalizer").unwrap_or(&Json::Null);
    if let Some(coded) = find(normalizer, "precompiled_charsmap", 0).and_then(Json::as_str) {
        let map =
            base64::decode(coded).ok_or_else(|| wrong("has a charsmap that is not base64"))?;
        made.more.push(("precompiled_charsmap", Value::from(map)));
    }
    made.more.push(("add_space_prefix", Value::from(puts_a_space_before(&files.tokenizer))));
    let merge = files.settings.get("clean_up_tokenization_spaces").and_then(Json::as_bool);
    made.more.push(("remove_extra_whitespaces", Value::from(merge.unwrap_or(true))));
    Ok(made)
}

/// The value of `key`, wherever it is.
fn find<'j>(of: &'j Json, key: &str, depth: u8) -> Option<&'j Json> {
    if depth > 8 {
        return None;
    }
    match of {
        Json::Object(map) => {
            map.get(key).or_else(|| map.values().find_map(|v| find(v, key, depth + 1)))
        }
        Json::Array(list) => list.iter().find_map(|v| find(v, key, depth + 1)),
        _ => None,
    }
}
