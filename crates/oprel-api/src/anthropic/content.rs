//! Turns made of blocks to messages of a conversation.

use serde_json::{Map, Value, json};

use super::tools::once;
use crate::body::{Fields, unsupported, wrong};
use crate::openai::{decode, tool_of};
use crate::{Content, Failure, Media, MediaSource, Message, Part, Role, ToolCall};

/// Reads the system's text and the turns. Turns of one speaker in a row are one message; results of
/// tools are messages of their own, before what else their turn says.
pub(super) fn conversation(
    fields: &mut Fields,
    ignored: &mut Vec<String>,
) -> Result<Vec<Message>, Failure> {
    let mut messages = Vec::new();
    if let Some(value) = fields.value("system") {
        let text = system(value, ignored)?;
        messages.extend((!text.is_empty()).then(|| Message::system(text)));
    }
    let turns: Vec<Value> = fields.need("messages")?;
    if turns.is_empty() {
        return Err(wrong("messages: at least one message is required"));
    }
    for (at, turn) in turns.into_iter().enumerate() {
        let path = format!("messages[{at}]");
        let mut turn = Fields::within(turn, &path)?;
        let role: String = turn.need("role")?;
        let role = match role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            other => {
                let known = "role must be \"user\" or \"assistant\"";
                return Err(wrong(format!("{path}.{known}, not {other:?}")));
            }
        };
        let content = turn.value("content");
        let content = content.ok_or_else(|| wrong(format!("{path}.content is required")))?;
        turn.names().for_each(|name| once(ignored, name, "messages"));
        let mut turn = Turn { message: Message::new(role, ""), parts: Vec::new(), messages };
        turn.read(content, &path, ignored)?;
        messages = turn.finish();
    }
    Ok(messages)
}

/// A text, or blocks of text.
fn system(value: Value, ignored: &mut Vec<String>) -> Result<String, Failure> {
    let Value::Array(blocks) = value else {
        return match value {
            Value::String(text) => Ok(text),
            _ => Err(wrong("system must be a text or a list of text blocks")),
        };
    };
    let mut texts = Vec::with_capacity(blocks.len());
    for (at, block) in blocks.into_iter().enumerate() {
        let mut block = Fields::within(block, &format!("system[{at}]"))?;
        let kind: String = block.need("type")?;
        if kind != "text" {
            return Err(unsupported(&format!("{} {kind:?}", block.path("type"))));
        }
        texts.push(block.need::<String>("text")?);
        block.names().for_each(|name| once(ignored, name, "system"));
    }
    Ok(texts.join("\n"))
}

/// A turn while its blocks are read.
struct Turn {
    message: Message,
    parts: Vec<Part>,
    /// What comes before it.
    messages: Vec<Message>,
}

impl Turn {
    fn read(
        &mut self,
        content: Value,
        path: &str,
        ignored: &mut Vec<String>,
    ) -> Result<(), Failure> {
        match content {
            Value::String(text) => self.parts.push(Part::Text(text)),
            Value::Array(blocks) => {
                for (at, block) in blocks.into_iter().enumerate() {
                    let path = format!("{path}.content[{at}]");
                    self.block(Fields::within(block, &path)?, ignored)?;
                }
            }
            _ => return Err(wrong(format!("{path}.content must be a text or a list of blocks"))),
        }
        Ok(())
    }

    fn block(&mut self, mut block: Fields, ignored: &mut Vec<String>) -> Result<(), Failure> {
        let kind: String = block.need("type")?;
        match kind.as_str() {
            "tool_use" => {
                let id = Some(block.need("id")?);
                let arguments = block.value("input").unwrap_or_else(|| json!({}));
                let name = block.need("name")?;
                self.message.tool_calls.push(ToolCall { id, name, arguments });
            }
            "tool_result" => self.result(&mut block, ignored)?,
            "thinking" => {
                let text: String = block.need("thinking")?;
                self.message.thinking.get_or_insert_default().push_str(&text);
                // Ours says nothing, and nobody else's can be checked.
                block.value("signature");
            }
            // Thinking that only its maker can read, and what ran at Anthropic's.
            "redacted_thinking" | "server_tool_use" | "web_search_tool_result" => {
                once(ignored, &kind, "messages.content");
                return Ok(());
            }
            _ => self.parts.push(part(&kind, &mut block)?),
        }
        block.names().for_each(|name| once(ignored, name, "messages.content"));
        Ok(())
    }

    fn result(&mut self, block: &mut Fields, ignored: &mut Vec<String>) -> Result<(), Failure> {
        let id: String = block.need("tool_use_id")?;
        let mut parts = Vec::new();
        match block.value("content") {
            None => {}
            Some(Value::String(text)) => parts.push(Part::Text(text)),
            Some(Value::Array(blocks)) => {
                for (at, inner) in blocks.into_iter().enumerate() {
                    let path = format!("{}[{at}]", block.path("content"));
                    let mut inner = Fields::within(inner, &path)?;
                    let kind: String = inner.need("type")?;
                    parts.push(part(&kind, &mut inner)?);
                    inner.names().for_each(|name| once(ignored, name, "messages.content"));
                }
            }
            Some(_) => {
                let path = block.path("content");
                return Err(wrong(format!("{path} must be a text or a list of blocks")));
            }
        }
        let mut extra = Map::new();
        if block.take("is_error")?.unwrap_or(false) {
            extra.insert("is_error".into(), json!(true));
        }
        self.messages.push(Message {
            content: content_of(parts),
            name: tool_of(&id, &self.messages),
            tool_call_id: Some(id),
            extra,
            ..Message::new(Role::Tool, "")
        });
        Ok(())
    }

    /// The messages with this turn.
    fn finish(mut self) -> Vec<Message> {
        let empty = self.parts.is_empty()
            && self.message.tool_calls.is_empty()
            && self.message.thinking.is_none();
        if empty {
            return self.messages;
        }
        let speaker = &self.message.role;
        match self.messages.last_mut().filter(|last| last.role == *speaker) {
            Some(last) => join(last, self.message, self.parts),
            None => {
                self.message.content = content_of(self.parts);
                self.messages.push(self.message);
            }
        }
        self.messages
    }
}

/// Puts a turn behind an earlier one of the same speaker.
fn join(last: &mut Message, message: Message, parts: Vec<Part>) {
    let mut all = match std::mem::take(&mut last.content) {
        Content::None => Vec::new(),
        Content::Text(text) => vec![Part::Text(text)],
        Content::Parts(parts) => parts,
    };
    if !all.is_empty() && !parts.is_empty() {
        all.push(Part::Text("\n".into()));
    }
    all.extend(parts);
    last.content = content_of(all);
    last.tool_calls.extend(message.tool_calls);
    if let Some(thinking) = message.thinking {
        last.thinking.get_or_insert_default().push_str(&thinking);
    }
}

/// One text is a text.
fn content_of(mut parts: Vec<Part>) -> Content {
    match parts.as_mut_slice() {
        [] => Content::None,
        [Part::Text(text)] => Content::Text(std::mem::take(text)),
        _ => Content::Parts(parts),
    }
}

/// A block that is a part of what is said.
fn part(kind: &str, block: &mut Fields) -> Result<Part, Failure> {
    let source = block.path("source");
    match kind {
        "text" => Ok(Part::Text(block.need("text")?)),
        "image" | "document" => {
            let mut from = block.object("source")?;
            let from = from.as_mut().ok_or_else(|| wrong(format!("{source} is required")))?;
            let how: String = from.need("type")?;
            match (kind, how.as_str()) {
                ("image", "base64") => {
                    let data = MediaSource::Base64(from.need("data")?);
                    let mut media = Media { source: data, mime: from.take("media_type")? };
                    decode(&mut media, "image", &from.path("data"))?;
                    Ok(Part::Image(media))
                }
                ("document", "text") => Ok(Part::Text(from.need("data")?)),
                _ => Err(unsupported(&format!("{source} of type {how:?} in a block {kind:?}"))),
            }
        }
        other => Err(unsupported(&format!("{} {other:?}", block.path("type")))),
    }
}

#[cfg(test)]
mod tests;
