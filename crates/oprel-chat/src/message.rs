//! Messages and tools in the shape that chat templates expect.

use oprel_api::{Content, Message, Part, Tool};
use serde_json::{Map, Value, json};

/// A message as templates read it: `role`, `content`, `tool_calls`, `name`, `tool_call_id`, and
/// thinking as `reasoning_content` and `thinking`, for templates know it by either name.
///
/// Content is a text, unless there are images or sounds in it: then it is a list of parts. A
/// message without content has an empty text, since many templates write whatever they find.
pub fn message_json(message: &Message) -> Value {
    let mut json = Map::new();
    json.insert("role".into(), json!(message.role.as_str()));
    json.insert("content".into(), content(&message.content));
    if let Some(thinking) = &message.thinking {
        json.insert("reasoning_content".into(), json!(thinking));
        json.insert("thinking".into(), json!(thinking));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| call.to_json()).collect();
        json.insert("tool_calls".into(), Value::Array(calls));
    }
    for (key, value) in [("name", &message.name), ("tool_call_id", &message.tool_call_id)] {
        if let Some(value) = value {
            json.insert(key.into(), json!(value));
        }
    }
    for (key, value) in &message.extra {
        json.entry(key.as_str()).or_insert_with(|| value.clone());
    }
    Value::Object(json)
}

/// A tool as templates read it: `{"type": "function", "function": {..}}`.
pub fn tool_json(tool: &Tool) -> Value {
    tool.to_json()
}

fn content(content: &Content) -> Value {
    match content {
        Content::Parts(parts) if content.has_media() => parts.iter().map(part).collect(),
        other => Value::String(other.text()),
    }
}

/// Templates look at the type of an image or a sound and never at its bytes.
fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(_) => json!({"type": "image"}),
        Part::Audio(_) => json!({"type": "audio"}),
        Part::Other(value) => value.clone(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oprel_api::ToolCall;

    #[test]
    fn a_call_of_a_tool_keeps_its_arguments_as_an_object() {
        let mut message = Message::assistant("");
        message.content = Content::None;
        message.thinking = Some("hm".into());
        message.tool_calls.push(ToolCall::new("f", json!({"a": 1})));
        assert_eq!(
            message_json(&message),
            json!({"role": "assistant", "content": "", "reasoning_content": "hm", "thinking": "hm",
                "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]})
        );
    }

    #[test]
    fn parts_stay_apart_only_where_there_is_more_than_text() {
        let read = |json| message_json(&serde_json::from_value::<Message>(json).unwrap());
        let text = read(json!({"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}));
        assert_eq!(text["content"], json!("ab"));
        let image = read(json!({"role": "user", "content": [
            {"type": "image_url", "image_url": "data:image/png;base64,AA"},
            {"type": "text", "text": "b"}]}));
        assert_eq!(image["content"], json!([{"type": "image"}, {"type": "text", "text": "b"}]));
    }
}
