//! Chat templates: the one, or several by name.

use std::path::Path;

use oprel_gguf::{StrArray, Value};
use serde_json::Value as Json;

use super::super::config::{read_json, read_text};
use super::Entries;
use crate::error::Result;

const KEY: &str = "tokenizer.chat_template";

/// The templates of `tokenizer_config.json`, `chat_template.jinja` or `chat_template.json`, the first that has any.
pub(super) fn read(folder: &Path, settings: &Json) -> Result<Entries> {
    if let Some(found) = settings.get("chat_template").filter(|t| !t.is_null()) {
        return Ok(entries(found));
    }
    if let Some(text) = read_text(&folder.join("chat_template.jinja"))? {
        return Ok(vec![(KEY.to_owned(), Value::from(text))]);
    }
    let json = read_json(&folder.join("chat_template.json"))?.unwrap_or(Json::Null);
    Ok(json.get("chat_template").map(entries).unwrap_or_default())
}

fn entries(found: &Json) -> Entries {
    if let Some(text) = found.as_str() {
        return vec![(KEY.to_owned(), Value::from(text))];
    }
    let mut entries = Entries::new();
    let mut names = Vec::new();
    for template in found.as_array().into_iter().flatten() {
        let text = |key: &str| template.get(key).and_then(Json::as_str);
        let (Some(name), Some(body)) = (text("name"), text("template")) else { continue };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key = match name {
            "default" => KEY.to_owned(),
            name if !name.is_empty() && name.chars().all(is_word) => {
                names.push(name.to_owned());
                format!("{KEY}.{name}")
            }
            _ => continue,
        };
        if entries.iter().all(|(k, _)| *k != key) {
            entries.push((key, Value::from(body)));
        }
    }
    if !names.is_empty() {
        let names: StrArray = names.into_iter().collect();
        entries.push(("tokenizer.chat_templates".to_owned(), Value::from(names)));
    }
    entries
}
