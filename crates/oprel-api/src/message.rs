//! Messages of a conversation, read from the shapes that clients send.

use crate::ToolCall;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// One message. Reads OpenAI-shaped JSON: `content` is a string, null or a list of parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(default)]
    pub content: Content,
    /// What was thought before it was said.
    #[serde(
        default,
        alias = "reasoning_content",
        alias = "reasoning",
        skip_serializing_if = "Option::is_none"
    )]
    pub thinking: Option<String>,
    /// Calls of tools that the message makes.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's result: the tool. Of others: the name of who speaks.
    #[serde(default, alias = "tool_name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of a tool's result: the id of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Every other key, for templates that read it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sets the rules.
    System,
    /// Asks.
    User,
    /// Answers: the model.
    Assistant,
    /// Gives the result of a tool.
    Tool,
    /// Whatever else a template knows, such as `developer` or `ipython`.
    Other(String),
}

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Nothing: a message of tool calls only.
    #[default]
    None,
    /// A text.
    Text(String),
    /// Texts, images and sounds in their order.
    Parts(Vec<Part>),
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// A text.
    Text(String),
    /// An image.
    Image(Media),
    /// A sound.
    Audio(Media),
    /// A part of a type unknown here, as it came, for templates that know it.
    Other(Value),
}

/// An image or a sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Where its bytes are.
    pub source: MediaSource,
    /// `image/png`, `audio/wav`; `None` lets the reader find out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
}

/// Where the bytes of an image or a sound are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// Here.
    Bytes(Arc<[u8]>),
    /// Here, in base64, not yet decoded.
    Base64(String),
    /// At an address, as a client wrote it; nothing below the server fetches it.
    Url(String),
}

impl Role {
    /// As templates write it.
    pub fn as_str(&self) -> &str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Other(role) => role,
        }
    }
}

impl From<&str> for Role {
    fn from(role: &str) -> Role {
        match role {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => Role::Other(other.to_owned()),
        }
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        Ok(Role::from(String::deserialize(deserializer)?.as_str()))
    }
}

impl Message {
    /// A message of a role and a text.
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message {
            role,
            content: Content::Text(text.into()),
            thinking: None,
            tool_calls: Vec::new(),
            name: None,
            tool_call_id: None,
            extra: Map::new(),
        }
    }

    /// What sets the rules.
    pub fn system(text: impl Into<String>) -> Message {
        Message::new(Role::System, text)
    }

    /// What is asked.
    pub fn user(text: impl Into<String>) -> Message {
        Message::new(Role::User, text)
    }

    /// What the model said.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message::new(Role::Assistant, text)
    }

    /// What a tool gave.
    pub fn tool(name: impl Into<String>, text: impl Into<String>) -> Message {
        Message { name: Some(name.into()), ..Message::new(Role::Tool, text) }
    }
}

impl Content {
    /// All text, joined; images and sounds are left out.
    pub fn text(&self) -> String {
        match self {
            Content::None => String::new(),
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => parts.iter().filter_map(Part::text).collect(),
        }
    }

    /// Whether there is anything but text.
    pub fn has_media(&self) -> bool {
        matches!(self, Content::Parts(parts) if parts.iter().any(|p| p.text().is_none()))
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Content {
        Content::Text(text.to_owned())
    }
}

impl Part {
    /// The text of a text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Part::Text(text) => Some(text),
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Part::Text(text) => json!({"type": "text", "text": text}),
            Part::Image(media) => json!({"type": "image", "image": media}),
            Part::Audio(media) => json!({"type": "audio", "audio": media}),
            Part::Other(value) => value.clone(),
        }
    }

    fn from_json(value: Value) -> Part {
        if let Value::String(text) = value {
            return Part::Text(text);
        }
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let known = match kind {
            "text" => value.get("text").and_then(Value::as_str).map(|t| Part::Text(t.to_owned())),
            "image" => media_in(&value, "image").map(Part::Image),
            "image_url" => url_in(&value, "image_url").map(Part::Image),
            "audio" => media_in(&value, "audio").map(Part::Audio),
            "audio_url" => url_in(&value, "audio_url").map(Part::Audio),
            "input_audio" => sound_in(&value).map(Part::Audio),
            _ => None,
        };
        known.unwrap_or(Part::Other(value))
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Part, D::Error> {
        Ok(Part::from_json(Value::deserialize(deserializer)?))
    }
}

/// Our own form of a medium, or a bare address.
fn media_in(part: &Value, key: &str) -> Option<Media> {
    match part.get(key)? {
        Value::String(url) => Some(media_at(url)),
        media => Media::deserialize(media).ok(),
    }
}

/// `{"image_url": {"url": "..."}}` or `{"image_url": "..."}`.
fn url_in(part: &Value, key: &str) -> Option<Media> {
    let holder = part.get(key)?;
    holder.as_str().or_else(|| holder.get("url")?.as_str()).map(media_at)
}

/// `{"input_audio": {"data": "<base64>", "format": "wav"}}`.
fn sound_in(part: &Value) -> Option<Media> {
    let sound = part.get("input_audio")?;
    let data = sound.get("data")?.as_str()?.to_owned();
    let mime = sound.get("format").and_then(Value::as_str).map(|format| format!("audio/{format}"));
    Some(Media { source: MediaSource::Base64(data), mime })
}

/// The data of a `data:` address, or the address.
fn media_at(url: &str) -> Media {
    let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match data {
        Some((mime, data)) => Media {
            source: MediaSource::Base64(data.to_owned()),
            mime: (!mime.is_empty()).then(|| mime.to_owned()),
        },
        None => Media { source: MediaSource::Url(url.to_owned()), mime: None },
    }
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ToolCall>, D::Error> {
    Ok(Option::<Vec<ToolCall>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Value) -> Message {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn content_is_a_text_a_list_of_parts_or_nothing() {
        assert_eq!(read(json!({"role": "user", "content": "hi"})), Message::user("hi"));
        assert_eq!(read(json!({"role": "user", "content": null})).content, Content::None);
        assert_eq!(read(json!({"role": "user"})).content, Content::None);
        let parts = read(json!({"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}));
        assert_eq!(parts.content.text(), "ab");
        assert!(!parts.content.has_media());
    }

    #[test]
    fn an_image_in_a_data_address_keeps_its_type() {
        let message = read(json!({"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}}]}));
        let Content::Parts(parts) = &message.content else { panic!("no parts") };
        let media =
            Media { source: MediaSource::Base64("AAEC".into()), mime: Some("image/png".into()) };
        assert_eq!(parts[0], Part::Image(media));
        assert!(message.content.has_media());
    }

    #[test]
    fn an_unknown_role_part_and_key_survive() {
        let wire = json!({"role": "developer", "content": [{"type": "video", "video": "v"}],
            "cache": true});
        let message = read(wire.clone());
        assert_eq!(message.role, Role::Other("developer".into()));
        assert_eq!(message.extra["cache"], json!(true));
        assert_eq!(serde_json::to_value(&message).unwrap(), wire);
    }

    #[test]
    fn thinking_is_read_by_each_of_its_names() {
        for key in ["thinking", "reasoning", "reasoning_content"] {
            let message = read(json!({"role": "assistant", "content": "a", key: "t"}));
            assert_eq!(message.thinking.as_deref(), Some("t"), "{key}");
        }
    }

    #[test]
    fn null_tool_calls_are_none() {
        let message = read(json!({"role": "assistant", "content": "a", "tool_calls": null}));
        assert!(message.tool_calls.is_empty());
    }
}
