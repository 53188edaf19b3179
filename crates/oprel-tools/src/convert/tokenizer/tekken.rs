//! Mistral's `tekken.json`: tokens as bytes, in the order in which pairs of them are joined, behind the special ones.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::{Files, Vocabulary, base64, json as tokenizer_json, kind, pre};
use crate::error::{Error, Result};

const FILE: &str = "tekken.json";

/// Roles of special tokens. The file does not say them: they are the same in all of these.
const ROLES: &[(&str, &str)] =
    &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")];

fn wrong(problem: impl Into<String>) -> Error {
    Error::Tokenizer { file: FILE, problem: problem.into() }
}

/// The vocabulary of `tekken.json`. `files` learn the roles that its tokens have.
pub(super) fn read(
    tekken: &Json,
    files: &mut Files,
    architecture: &str,
    n: u32,
    notes: &mut Vec<String>,
) -> Result<Vocabulary> {
    let count = |key: &str| -> Result<usize> {
        let value = tekken.get("config").and_then(|config| config.get(key)).and_then(Json::as_u64);
        let value = value.filter(|count| *count <= u64::from(super::MAX_TOKENS));
        value.map(|count| count as usize).ok_or_else(|| wrong(format!("has no '{key}'")))
    };
    let (size, n_special) = (count("default_vocab_size")?, count("default_num_special_tokens")?);
    let n_plain = size.checked_sub(n_special).ok_or_else(|| wrong("is all special tokens"))?;
    let pieces = pieces(tekken, n_plain)?;

    let mut made = Vocabulary::new("gpt2", n);
    let pattern = tekken.get("config").and_then(|config| config.get("pattern"));
    let (name, guessed) = pre::name(
        &json!({"model": {"ignore_merges": true},
                "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}}}),
        architecture,
    );
    tokenizer_json::note_guess(&name, guessed, notes);
    made.pre = name;
    let texts: Vec<String> = pieces.iter().map(|piece| letters(piece)).collect();
    let places = (n_special as u32..).zip(&texts).map(|(id, text)| (text.as_str(), id, 0.0));
    tokenizer_json::place(&mut made, places, notes);
    set_special(&mut made, tekken, n_special)?;
    made.merges = merges(&pieces);
    set_roles(files, &made);
    made.add(files, notes);
    Ok(made)
}

/// The bytes of the first `n` tokens.
fn pieces(tekken: &Json, n: usize) -> Result<Vec<Vec<u8>>> {
    let vocab = tekken.get("vocab").and_then(Json::as_array);
    let vocab = vocab.ok_or_else(|| wrong("has no vocabulary"))?;
    if vocab.len() < n {
        return Err(wrong(format!("has {} tokens where its config says {n}", vocab.len())));
    }
    let piece = |(rank, entry): (usize, &Json)| {
        if entry.get("rank").and_then(Json::as_u64) != Some(rank as u64) {
            return Err(wrong(format!("lacks the token of rank {rank} in its place")));
        }
        let coded = entry.get("token_bytes").and_then(Json::as_str);
        let bytes = coded.and_then(base64::decode).filter(|bytes| !bytes.is_empty());
        bytes.ok_or_else(|| wrong(format!("has no bytes for the token of rank {rank}")))
    };
    vocab.iter().take(n).enumerate().map(piece).collect()
}

/// Special tokens in their places; older files leave them out, and all that is known are the first.
fn set_special(made: &mut Vocabulary, tekken: &Json, n_special: usize) -> Result<()> {
    const OLD: &[&str] = &[
        "<unk>",
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
        "[TOOL_CALLS]",
        "[IMG]",
        "<pad>",
        "[IMG_BREAK]",
        "[IMG_END]",
        "[PREFIX]",
        "[MIDDLE]",
        "[SUFFIX]",
    ];
    let text = |entry: &Json| entry.get("token_str").and_then(Json::as_str).map(str::to_owned);
    let texts = match tekken.get("special_tokens").and_then(Json::as_array) {
        None => OLD.iter().map(|text| Some((*text).to_owned())).collect(),
        Some(all) => all.iter().map(text).collect::<Vec<_>>(),
    };
    let in_all = n_special.min(made.tokens.len());
    if texts.len() > in_all {
        return Err(wrong(format!("has {} special tokens in {in_all} places", texts.len())));
    }
    for id in 0..in_all {
        let text = texts.get(id).cloned().unwrap_or_else(|| Some(format!("<SPECIAL_{id}>")));
        let text = text.ok_or_else(|| wrong(format!("has no text for special token {id}")))?;
        let kind = if text == "<unk>" { kind::UNKNOWN } else { kind::CONTROL };
        made.set(id as u32, &text, kind, 0.0);
    }
    Ok(())
}

/// What joins into each token, in the order of tokens: any two that are tokens themselves.
fn merges(pieces: &[Vec<u8>]) -> Vec<String> {
    let ranks: HashMap<&[u8], usize> =
        pieces.iter().enumerate().map(|(rank, piece)| (piece.as_slice(), rank)).collect();
    let mut merges = Vec::new();
    for piece in pieces {
        let halves = (1..piece.len()).map(|at| piece.split_at(at));
        let mut joined: Vec<_> =
            halves.filter_map(|(a, b)| Some(((*ranks.get(a)?, *ranks.get(b)?), (a, b)))).collect();
        joined.sort_unstable();
        merges.extend(joined.iter().map(|(_, (a, b))| format!("{} {}", letters(a), letters(b))));
    }
    merges
}

/// Bytes as byte-level vocabularies spell them: those that cannot be seen as letters from U+0100 on.
pub(in super::super) fn letters(bytes: &[u8]) -> String {
    let is_seen = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let letter = |byte: &u8| match is_seen(byte) {
        true => char::from(*byte),
        false => {
            let before = (0..*byte).filter(|other| !is_seen(other)).count() as u32;
            char::from_u32(0x100 + before).unwrap_or_default()
        }
    };
    bytes.iter().map(letter).collect()
}

/// Roles that `tokenizer_config.json` does not give.
fn set_roles(files: &mut Files, made: &Vocabulary) {
    if !files.settings.is_object() {
        files.settings = json!({});
    }
    let Json::Object(settings) = &mut files.settings else { return };
    for (role, text) in ROLES {
        if made.tokens.iter().any(|token| token == text) {
            settings.entry(*role).or_insert_with(|| (*text).into());
        }
    }
    settings.entry("add_bos_token").or_insert(true.into());
    settings.entry("add_eos_token").or_insert(false.into());
}
