//! Which tokens have a role, and which of them are put before and after a text.

use oprel_gguf::Value;
use serde_json::Value as Json;

use super::super::config::Config;
use super::{Entries, Files, Vocabulary};

/// Roles as folders call them, and their keys in GGUF.
const ROLES: &[(&str, &str)] = &[
    ("bos", "bos_token_id"),
    ("eos", "eos_token_id"),
    ("eot", "eot_token_id"),
    ("eom", "eom_token_id"),
    ("unk", "unknown_token_id"),
    ("sep", "seperator_token_id"),
    ("pad", "padding_token_id"),
    ("cls", "cls_token_id"),
    ("mask", "mask_token_id"),
];

/// Texts of the tokens with a role, and which are added; by the places of [`ROLES`].
#[derive(Default)]
struct Found {
    texts: [Option<String>; ROLES.len()],
    added: [Option<bool>; ROLES.len()],
}

const BOS: usize = 0;
const EOS: usize = 1;
const EOT: usize = 2;
const SEP: usize = 5;
const CLS: usize = 7;

/// The metadata of the roles.
pub(super) fn find(
    files: &Files,
    config: &Config,
    architecture: &str,
    vocabulary: &Vocabulary,
) -> Entries {
    let mut found = Found::default();
    for ((role, _), text) in ROLES.iter().zip(&mut found.texts) {
        let entry = files.settings.get(format!("{role}_token"));
        let content = entry.and_then(|e| e.get("content")).or(entry);
        *text = content.and_then(Json::as_str).map(str::to_owned);
    }
    // BERT's first and last token have names of their own.
    if found.texts[BOS].is_none() {
        found.texts[BOS] = found.texts[CLS].clone();
    }
    if found.texts[EOS].is_none() {
        found.texts[EOS] = found.texts[SEP].clone();
    }
    found.read_processors(&files.tokenizer);
    for ((role, _), added) in ROLES.iter().zip(&mut found.added) {
        let says = files.settings.get(format!("add_{role}_token")).and_then(Json::as_bool);
        *added = says.or(*added);
    }
    found.adjust(architecture, vocabulary);
    found.into_entries(files, config, vocabulary)
}

impl Found {
    /// What `tokenizer.json` puts around texts.
    fn read_processors(&mut self, tokenizer: &Json) {
        let Some(processor) = tokenizer.get("post_processor") else { return };
        let several = processor.get("processors").and_then(Json::as_array);
        let all = several.map_or(std::slice::from_ref(processor), Vec::as_slice);
        for processor in all {
            match processor.get("type").and_then(Json::as_str) {
                Some("RobertaProcessing") => {
                    for role in [BOS, EOS, SEP] {
                        self.added[role] = Some(true);
                    }
                }
                Some("BertProcessing") => {}
                Some("TemplateProcessing") => self.read_template(processor),
                _ => {}
            }
        }
    }

    fn read_template(&mut self, processor: &Json) {
        let special = |v: &Json| v.get("SpecialToken")?.get("id")?.as_str().map(str::to_owned);
        let list =
            |key: &str| processor.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
        let (single, pair) = (list("single"), list("pair"));
        let (first, last) = match single.as_slice() {
            [first, .., last] => (special(first), special(last)),
            _ => (None, None),
        };
        if let Some(first) = &first {
            let usual = self.texts[BOS].get_or_insert_with(|| first.clone());
            self.added[BOS] = Some(usual == first);
        }
        if let Some(last) = &last {
            // What a text ends with is the end, whatever the settings say; theirs ends a turn.
            let usual = self.texts[EOS].replace(last.clone());
            if let Some(usual) = usual.filter(|usual| usual != last)
                && self.texts[EOT].is_none()
            {
                self.texts[EOT] = Some(usual);
            }
            self.added[EOS] = Some(true);
        }
        self.added[SEP] =
            self.between(&pair, first.as_deref(), last.as_deref()).or(self.added[SEP]);
    }

    /// Whether a separator stands between the two texts of a pair.
    fn between(&self, pair: &[Json], first: Option<&str>, last: Option<&str>) -> Option<bool> {
        let special = |v: &Json| v.get("SpecialToken")?.get("id")?.as_str().map(str::to_owned);
        let is_text = |v: &Json, id: &str| {
            v.get("Sequence").and_then(|s| s.get("id")).and_then(Json::as_str) == Some(id)
        };
        let a = pair.iter().position(|v| is_text(v, "A"))?;
        let b = pair.iter().position(|v| is_text(v, "B"))?;
        let inner = pair.get(a + 1..b).filter(|inner| !inner.is_empty())?;
        let separates = |text: &String| {
            Some(text) == self.texts[SEP].as_ref() || Some(text) == self.texts[EOS].as_ref()
        };
        let mut specials = inner.iter().filter_map(special);
        let leads = specials.next().is_some_and(|text| separates(&text) && last.is_none());
        Some(leads || (first.is_some() && specials.next().is_some_and(|text| separates(&text))))
    }

    /// What is known of families better than their files say it.
    fn adjust(&mut self, architecture: &str, vocabulary: &Vocabulary) {
        match architecture {
            "glm4" => {
                for role in [BOS, EOS, 4] {
                    self.texts[role] = Some("<|endoftext|>".to_owned());
                }
                self.texts[EOT] = Some("<|user|>".to_owned());
            }
            "nemotron_h" => self.added[BOS] = Some(true),
            // Small Granite models, and those that share their vocabulary.
            "llama" if vocabulary.tokens.len() == 49152 => self.added[BOS] = Some(false),
            _ => {}
        }
    }

    fn into_entries(self, files: &Files, config: &Config, vocabulary: &Vocabulary) -> Entries {
        let added_tokens = files.added();
        let mut entries = Entries::new();
        for (place, ((role, key), text)) in ROLES.iter().zip(&self.texts).enumerate() {
            let of_text =
                |text: &String| added_tokens.iter().find(|t| t.text == *text).map(|t| t.id);
            let of_config = || {
                let value = config.get(&format!("{role}_token_id"))?;
                let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
                u32::try_from(value.as_u64()?).ok()
            };
            let of_vocabulary = |text: &String| {
                let at = vocabulary.tokens.iter().position(|t| t == text)?;
                u32::try_from(at).ok()
            };
            let id = text.as_ref().and_then(of_text).or_else(of_config);
            let id = id.or_else(|| text.as_ref().and_then(of_vocabulary));
            if let Some(id) = id.filter(|id| (*id as usize) < vocabulary.tokens.len()) {
                entries.push((format!("tokenizer.ggml.{key}"), Value::from(id)));
            }
            if let Some(added) = self.added[place].filter(|_| matches!(place, BOS | EOS | SEP)) {
                entries.push((format!("tokenizer.ggml.add_{role}_token"), Value::from(added)));
            }
        }
        entries
    }
}
