//! What the answer's text must look like.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the answer's text must look like. It never applies to thinking or to tool calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that fits a JSON Schema; the order of its properties is that of the schema.
    JsonSchema(Value),
    /// A text of a grammar.
    Grammar {
        /// The notation of `text`.
        syntax: GrammarSyntax,
        /// The grammar.
        text: String,
    },
    /// A text that a regular expression matches whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// Notations of grammars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrammarSyntax {
    /// llama.cpp's.
    Gbnf,
    /// Lark's.
    Lark,
}
