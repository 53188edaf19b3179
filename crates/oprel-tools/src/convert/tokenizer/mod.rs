//! The vocabulary of a folder as GGUF metadata: which algorithm, tokens with their types and scores, merges, the
//! ids with a role, chat templates.
//!
//! Sources, in this order: `tokenizer.model` (SentencePiece), `tokenizer.json`, `vocab.json` with `merges.txt`,
//! `vocab.txt`, `tekken.json`. Tokens that were added later stand in `tokenizer.json`, `tokenizer_config.json` and
//! `added_tokens.json`.

mod base64;
mod json;
mod pre;
mod roles;
mod sentencepiece;
pub(super) mod tekken;
mod template;

use std::collections::BTreeMap;
use std::path::Path;

use oprel_gguf::{StrArray, Value};
use serde_json::Value as Json;

use super::config::{Config, read_json, read_text};
use crate::error::{Error, Result};
use sentencepiece::Model;

/// Metadata of a file, in order.
pub(super) type Entries = Vec<(String, Value)>;

/// Most tokens that are taken.
const MAX_TOKENS: u32 = 1 << 24;

/// The largest SentencePiece model that is read, in bytes.
const MAX_MODEL: u64 = 1 << 28;

/// What a token is for, by GGUF's number.
pub(super) mod kind {
    pub(crate) const NORMAL: i32 = 1;
    pub(crate) const UNKNOWN: i32 = 2;
    pub(crate) const CONTROL: i32 = 3;
    pub(crate) const USER_DEFINED: i32 = 4;
    pub(crate) const UNUSED: i32 = 5;
    pub(crate) const BYTE: i32 = 6;
}

/// The files that tell of a vocabulary.
pub(super) struct Files {
    /// `tokenizer.json`, or null.
    tokenizer: Json,
    /// `tokenizer_config.json`, or null.
    settings: Json,
    /// `added_tokens.json`, or null.
    added: Json,
}

/// A token that stands outside of what the algorithm makes.
struct Added {
    id: u32,
    text: String,
    special: bool,
}

impl Files {
    fn read(folder: &Path) -> Result<Files> {
        let json = |name: &str| -> Result<Json> {
            Ok(read_json(&folder.join(name))?.unwrap_or(Json::Null))
        };
        Ok(Files {
            tokenizer: json("tokenizer.json")?,
            settings: json("tokenizer_config.json")?,
            added: json("added_tokens.json")?,
        })
    }

    /// Added tokens; of those that stand in several files, the last says what they are.
    fn added(&self) -> Vec<Added> {
        let text = |v: &Json| v.get("content").and_then(Json::as_str).map(str::to_owned);
        let special = |v: &Json| v.get("special").and_then(Json::as_bool).unwrap_or(false);
        let id = |v: &Json| v.as_u64().and_then(|id| u32::try_from(id).ok());
        let plain =
            self.added.as_object().into_iter().flatten().filter_map(|(text, v)| {
                Some(Added { id: id(v)?, text: text.clone(), special: false })
            });
        let decoder = self.settings.get("added_tokens_decoder").and_then(Json::as_object);
        let decoder = decoder.into_iter().flatten().filter_map(|(id, v)| {
            Some(Added { id: id.parse().ok()?, text: text(v)?, special: special(v) })
        });
        let own = self.tokenizer.get("added_tokens").and_then(Json::as_array);
        let own = own.into_iter().flatten().filter_map(|v| {
            Some(Added { id: id(v.get("id")?)?, text: text(v)?, special: special(v) })
        });
        plain.chain(decoder).chain(own).collect()
    }
}

/// A vocabulary in the making.
pub(super) struct Vocabulary {
    /// `tokenizer.ggml.model`.
    model: &'static str,
    /// `tokenizer.ggml.pre`.
    pre: String,
    tokens: Vec<String>,
    kinds: Vec<i32>,
    scores: Vec<f32>,
    merges: Vec<String>,
    /// What else the algorithm needs, keys without `tokenizer.ggml.`.
    more: Vec<(&'static str, Value)>,
}

impl Vocabulary {
    /// `n` places that no token has taken yet.
    fn new(model: &'static str, n: u32) -> Vocabulary {
        Vocabulary {
            model,
            pre: "default".to_owned(),
            tokens: (0..n).map(|i| format!("[PAD{i}]")).collect(),
            kinds: vec![kind::UNUSED; n as usize],
            scores: vec![-10000.0; n as usize],
            merges: Vec::new(),
            more: Vec::new(),
        }
    }

    /// Puts a token in its place. Whether there is such a place.
    fn set(&mut self, id: u32, text: &str, kind: i32, score: f32) -> bool {
        let at = id as usize;
        let (Some(token), Some(of_kind), Some(of_score)) =
            (self.tokens.get_mut(at), self.kinds.get_mut(at), self.scores.get_mut(at))
        else {
            return false;
        };
        text.clone_into(token);
        (*of_kind, *of_score) = (kind, score);
        true
    }

    /// Puts added tokens in their places.
    fn add(&mut self, files: &Files, notes: &mut Vec<String>) {
        let mut left_out = BTreeMap::new();
        for added in files.added() {
            let control = added.special || looks_special(&added.text);
            let (kind, text) = match control {
                true => (kind::CONTROL, added.text.clone()),
                // User-defined tokens are looked for in the text as it is.
                false => (kind::USER_DEFINED, added.text.replace('\u{2581}', " ")),
            };
            let was_unknown =
                self.kinds.get(added.id as usize).is_some_and(|k| *k == kind::UNKNOWN);
            let kind = if was_unknown { kind::UNKNOWN } else { kind };
            if !self.set(added.id, &text, kind, -1000.0) {
                left_out.insert(added.id, added.text);
            }
        }
        if let Some((id, text)) = left_out.first_key_value() {
            let (n, rows) = (left_out.len(), self.tokens.len());
            notes.push(format!(
                "{n} added tokens are left out, of which '{text}' ({id}) is the first: the model has \
                 {rows} rows for tokens"
            ));
        }
    }

    fn into_entries(self) -> Entries {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let strings = |all: Vec<String>| Value::from(all.into_iter().collect::<StrArray>());
        let mut entries = vec![
            (key("model"), Value::from(self.model)),
            (key("pre"), Value::from(self.pre)),
            (key("tokens"), strings(self.tokens)),
            (key("token_type"), Value::from(self.kinds)),
        ];
        if matches!(self.model, "llama" | "t5") {
            entries.push((key("scores"), Value::from(self.scores)));
        }
        if !self.merges.is_empty() {
            entries.push((key("merges"), strings(self.merges)));
        }
        entries.extend(self.more.into_iter().map(|(name, value)| (key(name), value)));
        entries
    }
}

/// Some makers do not mark what is clearly structure.
fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// Reads the vocabulary of a model with `rows` rows for tokens.
pub(super) fn read(
    folder: &Path,
    config: &Config,
    architecture: &str,
    rows: Option<u32>,
    notes: &mut Vec<String>,
) -> Result<Entries> {
    let mut files = Files::read(folder)?;
    let n = rows.map_or_else(|| config.u32(&["vocab_size"]), Ok)?;
    if n > MAX_TOKENS {
        return Err(Error::config("vocab_size", "is larger than 16 million"));
    }
    // GLM's vocabularies are of one kind, also in models that share another's tensors.
    let is_glm = config.architecture().is_ok_and(|class| class.starts_with("Glm4"));
    let kind = if is_glm { "glm4" } else { architecture };
    let mut vocabulary = vocabulary(folder, &mut files, kind, n, notes)?;
    if architecture == "bert" {
        let types = config.maybe_u32(&["type_vocab_size"])?.unwrap_or(1);
        vocabulary.more.push(("token_type_count", Value::from(types)));
    }
    let roles = roles::find(&files, config, architecture, &vocabulary);
    let mut entries = vocabulary.into_entries();
    entries.extend(roles);
    entries.extend(template::read(folder, &files.settings)?);
    Ok(entries)
}

fn vocabulary(
    folder: &Path,
    files: &mut Files,
    architecture: &str,
    n: u32,
    notes: &mut Vec<String>,
) -> Result<Vocabulary> {
    let is_bert = architecture == "bert";
    if !is_bert && let Some(model) = sentence_piece(folder, files)? {
        return Ok(from_sentence_piece(&model, files, architecture, n, notes));
    }
    if !files.tokenizer.is_null() {
        return json::read(files, architecture, n, notes);
    }
    if let (Some(vocab), Some(merges)) =
        (read_json(&folder.join("vocab.json"))?, read_text(&folder.join("merges.txt"))?)
    {
        return json::from_merges(&vocab, &merges, files, architecture, n, notes);
    }
    if is_bert && let Some(list) = read_text(&folder.join("vocab.txt"))? {
        return Ok(json::from_list(&list, files, n, notes));
    }
    if let Some(tekken) = read_json(&folder.join("tekken.json"))? {
        return tekken::read(&tekken, files, architecture, n, notes);
    }
    Err(Error::MissingFile {
        folder: folder.to_owned(),
        file: "tokenizer.json",
        hint: "a vocabulary is read from tokenizer.json, tokenizer.model, tekken.json, or vocab.json with merges.txt; \
               download those of the model, or of the model that it was made from",
    })
}

/// `tokenizer.model`, if it is SentencePiece's; others put other things under this name, beside
/// `tokenizer.json`.
fn sentence_piece(folder: &Path, files: &Files) -> Result<Option<Model>> {
    let path = folder.join("tokenizer.model");
    let class = files.settings.get("tokenizer_class").and_then(Json::as_str);
    if !path.is_file() || class == Some("GPT2Tokenizer") {
        return Ok(None);
    }
    let len = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
    if len > MAX_MODEL {
        let problem = "is larger than 256 MiB".into();
        return Err(Error::Tokenizer { file: "tokenizer.model", problem });
    }
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    match sentencepiece::parse(&bytes) {
        Some(model) => Ok(Some(model)),
        None if !files.tokenizer.is_null() => Ok(None),
        None => Err(Error::Tokenizer {
            file: "tokenizer.model",
            problem: "is not a SentencePiece model, and there is no tokenizer.json".into(),
        }),
    }
}

fn from_sentence_piece(
    model: &Model,
    files: &Files,
    architecture: &str,
    n: u32,
    notes: &mut Vec<String>,
) -> Vocabulary {
    let mut made = Vocabulary::new("llama", n);
    let mut left_out = 0;
    for (id, piece) in (0..).zip(&model.pieces) {
        if !made.set(id, &piece.text, piece.kind, piece.score) {
            left_out += 1;
        }
    }
    if left_out > 0 {
        notes.push(format!("{left_out} tokens are left out: the model has {n} rows for tokens"));
    }
    made.add(files, notes);
    let says = files.settings.get("add_prefix_space").and_then(Json::as_bool);
    let says = says.filter(|_| matches!(architecture, "llama" | "mistral3"));
    let prefix = says.unwrap_or(model.add_prefix);
    if says.is_some() || !prefix {
        made.more.push(("add_space_prefix", Value::from(prefix)));
    }
    made
}
