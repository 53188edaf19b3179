//! Items of a conversation to its messages.

use serde_json::{Value, json};

use super::tools::full_name;
use crate::body::{Fields, once, unsupported, wrong};
use crate::openai::{message_in, tool_of};
use crate::{Content, Failure, Message, Part, Role, ToolCall};

/// Reads `input` behind the instructions. What an assistant thought, said and called in a row is
/// one message; so are the texts of the system at the beginning.
pub(super) fn conversation(
    fields: &mut Fields,
    instructions: Option<&str>,
    ignored: &mut Vec<String>,
) -> Result<Vec<Message>, Failure> {
    let mut all = Conversation { messages: Vec::new() };
    all.messages.extend(instructions.filter(|text| !text.is_empty()).map(Message::system));
    match fields.value("input") {
        None => return Err(wrong("input is required")),
        Some(Value::String(text)) => all.messages.push(Message::user(text)),
        Some(Value::Array(items)) if items.is_empty() => return Err(wrong("input is empty")),
        Some(Value::Array(items)) => {
            for (at, item) in items.into_iter().enumerate() {
                all.item(item, &format!("input[{at}]"), ignored)?;
            }
        }
        Some(_) => return Err(wrong("input must be a text or a list of items")),
    }
    Ok(all.messages)
}

struct Conversation {
    messages: Vec<Message>,
}

impl Conversation {
    fn item(&mut self, item: Value, path: &str, ignored: &mut Vec<String>) -> Result<(), Failure> {
        let mut fields = Fields::within(item, path)?;
        let kind = fields.take::<String>("type")?.unwrap_or_else(|| "message".into());
        match kind.as_str() {
            "message" => self.message(&mut fields, path, ignored)?,
            "function_call" => self.call(&mut fields)?,
            "function_call_output" => self.result(&mut fields, path, ignored)?,
            "reasoning" => self.reasoning(&mut fields, path, ignored)?,
            // It ran elsewhere, and what it found is in the text.
            "web_search_call" => {
                once(ignored, "input.web_search_call".into());
                return Ok(());
            }
            other => return Err(unsupported(&format!("{path}.type {other:?}"))),
        }
        // Ids and states of items are for those who keep them.
        for name in fields.names().filter(|&name| name != "id" && name != "status") {
            once(ignored, format!("input.{name}"));
        }
        Ok(())
    }

    fn message(
        &mut self,
        fields: &mut Fields,
        path: &str,
        ignored: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let role: String = fields.need("role")?;
        let content = fields.value("content");
        let content = content.ok_or_else(|| wrong(format!("{path}.content is required")))?;
        let content = parts(content, &format!("{path}.content"))?;
        let message = message_in(json!({"role": role, "content": content}), path, ignored)?;
        let beginning = self.messages.iter().all(|m| m.role == Role::System);
        let joins = match message.role {
            Role::Assistant => true,
            Role::System => beginning,
            _ => false,
        };
        match self.messages.last_mut().filter(|last| joins && last.role == message.role) {
            Some(last) => append(last, message.content),
            None => self.messages.push(message),
        }
        Ok(())
    }

    fn call(&mut self, fields: &mut Fields) -> Result<(), Failure> {
        let name: String = fields.need("name")?;
        let name = match fields.take::<String>("namespace")? {
            Some(namespace) => full_name(&namespace, &name),
            None => name,
        };
        let id = Some(fields.need("call_id")?);
        let arguments: String = fields.need("arguments")?;
        let arguments = match serde_json::from_str(&arguments) {
            Ok(object @ Value::Object(_)) => object,
            _ if arguments.is_empty() => json!({}),
            _ => Value::String(arguments),
        };
        self.assistant().tool_calls.push(ToolCall { id, name, arguments });
        Ok(())
    }

    fn result(
        &mut self,
        fields: &mut Fields,
        path: &str,
        ignored: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let id: String = fields.need("call_id")?;
        let output = fields.value("output").unwrap_or_else(|| json!(""));
        let content = parts(output, &format!("{path}.output"))?;
        let mut message = message_in(json!({"role": "tool", "content": content}), path, ignored)?;
        message.name = tool_of(&id, &self.messages);
        message.tool_call_id = Some(id);
        self.messages.push(message);
        Ok(())
    }

    /// Thinking that can be read; what is encrypted cannot.
    fn reasoning(
        &mut self,
        fields: &mut Fields,
        path: &str,
        ignored: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let mut text = String::new();
        // The thoughts themselves, or else what was told of them.
        for name in ["content", "summary"] {
            let listed: Vec<Value> = fields.take(name)?.unwrap_or_default();
            if !text.is_empty() {
                continue;
            }
            for part in listed {
                let mut part = Fields::within(part, &format!("{path}.{name}"))?;
                text += &part.need::<String>("text")?;
            }
        }
        if fields.value("encrypted_content").is_some() && text.is_empty() {
            once(ignored, "input.encrypted_content".into());
        }
        if !text.is_empty() {
            self.assistant().thinking.get_or_insert_default().push_str(&text);
        }
        Ok(())
    }

    /// The assistant's message that goes on, or a new one.
    fn assistant(&mut self) -> &mut Message {
        if self.messages.last().is_none_or(|last| last.role != Role::Assistant) {
            let content = Content::None;
            self.messages.push(Message { content, ..Message::assistant("") });
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }
}

/// Parts as chats have them.
fn parts(content: Value, path: &str) -> Result<Value, Failure> {
    let Value::Array(listed) = content else { return Ok(content) };
    let part = |(at, value): (usize, Value)| {
        let path = format!("{path}[{at}]");
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind != "input_image" {
            return Ok(value);
        }
        match value.get("image_url") {
            Some(url @ Value::String(_)) => {
                let mut image = json!({"url": url});
                if let Some(detail) = value.get("detail") {
                    image["detail"] = detail.clone();
                }
                Ok(json!({"type": "image_url", "image_url": image}))
            }
            _ => Err(wrong(format!("{path}.image_url is required"))),
        }
    };
    listed.into_iter().enumerate().map(part).collect()
}

/// Puts what is said behind what was said.
fn append(last: &mut Message, content: Content) {
    let parts = |content| match content {
        Content::None => Vec::new(),
        Content::Text(text) => vec![Part::Text(text)],
        Content::Parts(parts) => parts,
    };
    let before = parts(std::mem::take(&mut last.content));
    last.content = match (before.is_empty(), content) {
        (true, content) => content,
        (false, content) => {
            let between = Part::Text("\n\n".into());
            Content::Parts(before.into_iter().chain([between]).chain(parts(content)).collect())
        }
    };
}

#[cfg(test)]
mod tests;
