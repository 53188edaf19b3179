//! Bodies that say which models there are and what they are.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::time::Timestamp;

/// The body of `/` and what clients look for to know that somebody is there.
pub const RUNNING: &str = "Ollama is running";

/// A model that is here: an entry of `/api/tags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tag {
    /// The shortest name, with its tag.
    pub name: String,
    /// The same.
    pub model: String,
    /// When it changed last.
    pub modified_at: Timestamp,
    /// Bytes of all its files.
    pub size: u64,
    /// SHA-256 of its manifest, in hexadecimal without a prefix.
    pub digest: String,
    /// Sizes and kinds in short.
    pub details: Details,
    /// What it can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// A model that is loaded: an entry of `/api/ps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Running {
    /// The shortest name, with its tag.
    pub name: String,
    /// The same.
    pub model: String,
    /// Bytes that it takes.
    pub size: u64,
    /// SHA-256 of its manifest, in hexadecimal without a prefix.
    pub digest: String,
    /// Sizes and kinds in short.
    pub details: Details,
    /// When it goes; see [`Timestamp::never`].
    pub expires_at: Timestamp,
    /// Bytes of these in memory of a GPU.
    pub size_vram: u64,
    /// Context length that it was given.
    pub context_length: u32,
    /// Who runs it; a field of our own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backend: String,
}

/// Sizes and kinds in short. Every text is there, if only empty: strict clients want them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Details {
    /// Model that it was derived from.
    pub parent_model: String,
    /// `gguf`.
    pub format: String,
    /// Architecture.
    pub family: String,
    /// Architectures of all its parts.
    pub families: Vec<String>,
    /// Number of weights, rounded: `1.2B`.
    pub parameter_size: String,
    /// File type: `Q4_K_M`.
    pub quantization_level: String,
    /// Longest context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Width of a token's vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
}

/// What a model is: the body of `/api/show`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Show {
    /// Licence texts, one after the other.
    pub license: String,
    /// How the model could be made again.
    pub modelfile: String,
    /// Its options, a line each: see [`parameter_lines`].
    pub parameters: String,
    /// The template in use.
    pub template: String,
    /// Its system text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// Sizes and kinds in short.
    pub details: Details,
    /// Messages that come before every conversation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Value>,
    /// Metadata of its file. Always there: clients fail without.
    pub model_info: Map<String, Value>,
    /// Metadata of the file that reads images and sounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projector_info: Option<Map<String, Value>>,
    /// Tensors: name, type, shape.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<Value>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// When it changed last.
    pub modified_at: Timestamp,
}

impl Timestamp {
    /// When a model goes that stays for ever, used last at this moment: in 292 years, as far as
    /// clients can count.
    pub fn never(self) -> Timestamp {
        Timestamp { unix_ns: self.unix_ns.saturating_add(i64::MAX as u64), ..self }
    }
}

/// The body of `/api/version`.
pub fn version(version: &str) -> Value {
    json!({ "version": version })
}

/// The body of `/api/tags`: what changed last comes first.
pub fn tags(mut tags: Vec<Tag>) -> Value {
    tags.sort_by(|a, b| b.modified_at.cmp(&a.modified_at).then_with(|| a.name.cmp(&b.name)));
    json!({ "models": tags })
}

/// The body of `/api/ps`: what stays longest comes first.
pub fn ps(mut running: Vec<Running>) -> Value {
    running.sort_by(|a, b| b.expires_at.cmp(&a.expires_at).then_with(|| a.name.cmp(&b.name)));
    json!({ "models": running })
}

/// The body of `/api/show`.
pub fn show(show: &Show) -> Value {
    serde_json::to_value(show).unwrap_or_default()
}

/// The lines of [`Show::parameters`]: a name, filled up to 30 characters, and a value, texts in
/// quotes. A list has a line for each of its values.
pub fn parameter_lines(parameters: &Map<String, Value>) -> String {
    let line = |name: &str, value: &Value| format!("{name:<30} {value}");
    let mut lines: Vec<String> = Vec::new();
    for (name, value) in parameters {
        match value {
            Value::Array(list) => lines.extend(list.iter().map(|value| line(name, value))),
            one => lines.push(line(name, one)),
        }
    }
    lines.sort();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
