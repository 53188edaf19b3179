//! Items of an answer, while they are made and when they are done.

use serde_json::{Value, json};

use super::tools::Space;
use crate::dialect::Moment;
use crate::openai::logprobs;
use crate::{Sampled, ToolCall};

/// Kinds of items that grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Message,
    Reasoning,
}

/// An item that grows.
#[derive(Clone, Debug)]
pub(super) struct Growing {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) text: String,
    pub(super) tokens: Vec<Sampled>,
}

impl Growing {
    pub(super) fn new(kind: Kind, moment: &Moment, index: usize) -> Growing {
        let prefix = match kind {
            Kind::Message => "msg",
            Kind::Reasoning => "rs",
        };
        let id = format!("{prefix}_{}{index}", moment.id);
        Growing { kind, id, text: String::new(), tokens: Vec::new() }
    }

    /// Its one part, as it is now.
    pub(super) fn part(&self) -> Value {
        match self.kind {
            Kind::Message => json!({
                "type": "output_text",
                "text": self.text,
                "annotations": [],
                "logprobs": entries(&self.tokens),
            }),
            Kind::Reasoning => json!({"type": "summary_text", "text": self.text}),
        }
    }

    /// The item before its part was added.
    pub(super) fn begun(&self) -> Value {
        self.item("in_progress", json!([]))
    }

    /// The whole item.
    pub(super) fn done(&self, status: &str) -> Value {
        self.item(status, json!([self.part()]))
    }

    fn item(&self, status: &str, parts: Value) -> Value {
        match self.kind {
            Kind::Message => json!({
                "id": self.id,
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": parts,
            }),
            Kind::Reasoning => json!({
                "id": self.id,
                "type": "reasoning",
                "status": status,
                "summary": parts,
            }),
        }
    }
}

/// A call as an item, whole. A tool of a namespace is told as the client knows it.
pub(super) fn call_item(moment: &Moment, index: usize, call: &ToolCall, spaces: &[Space]) -> Value {
    let call_id = call.id.clone().unwrap_or_else(|| format!("call_{}{index}", moment.id));
    let space = spaces.iter().find(|space| space.full == call.name);
    let mut item = json!({
        "id": format!("fc_{}{index}", moment.id),
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": space.map_or(&call.name, |space| &space.name),
        "arguments": call.arguments_text(),
    });
    if let Some(space) = space {
        item["namespace"] = json!(space.namespace);
    }
    item
}

/// Log probabilities: one entry for each token.
pub(super) fn entries(tokens: &[Sampled]) -> Value {
    logprobs::of_chat(tokens)["content"].take()
}
