//! Messages of a conversation, as OpenAI's clients write them, and as they send back what they were
//! sent.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body::{once, unsupported, wrong};
use crate::ollama::media;
use crate::{Content, Failure, Media, MediaSource, Message, Part, Role};

/// Reads them. Each stays one message, whatever parts it has.
pub(super) fn messages(
    listed: Vec<Value>,
    ignored: &mut Vec<String>,
) -> Result<Vec<Message>, Failure> {
    let mut read: Vec<Message> = Vec::with_capacity(listed.len());
    for (at, value) in listed.into_iter().enumerate() {
        let mut message = message_in(value, &format!("messages[{at}]"), ignored)?;
        if message.role == Role::Tool && message.name.is_none() {
            message.name = message.tool_call_id.as_deref().and_then(|id| tool_of(id, &read));
        }
        read.push(message);
    }
    Ok(read)
}

/// The tool that a call of this id called.
pub(crate) fn tool_of(id: &str, messages: &[Message]) -> Option<String> {
    let mut calls = messages.iter().rev().flat_map(|message| &message.tool_calls);
    calls.find(|call| call.id.as_deref() == Some(id)).map(|call| call.name.clone())
}

/// Reads one, which stands at `path`.
pub(super) fn message_in(
    value: Value,
    path: &str,
    ignored: &mut Vec<String>,
) -> Result<Message, Failure> {
    let Value::Object(mut map) = value else {
        return Err(wrong(format!("{path} must be an object")));
    };
    map.retain(|_, value| !value.is_null());
    if !map.contains_key("role") {
        return Err(wrong(format!("{path}.role is required")));
    }
    if map.contains_key("audio") {
        return Err(unsupported(&format!("{path}.audio")));
    }
    settle(&mut map);
    if let Some(Value::Array(parts)) = map.get_mut("content") {
        for (at, part) in parts.iter_mut().enumerate() {
            plain(part, &format!("{path}.content[{at}]"), ignored)?;
        }
    }
    let mut message = Message::deserialize(Value::Object(map))
        .map_err(|error| wrong(format!("{path}: {error}")))?;
    message.role = match message.role.as_str() {
        "developer" => Role::System,
        "function" => Role::Tool,
        _ => message.role,
    };
    check(&mut message, path)?;
    Ok(message)
}

/// One name for what has several, and nothing of what only says that there is nothing.
fn settle(map: &mut Map<String, Value>) {
    // What was sent under both names comes back under both.
    let thinking = ["reasoning_content", "reasoning", "thinking"]
        .map(|name| map.shift_remove(name))
        .into_iter()
        .flatten()
        .find(Value::is_string);
    map.extend(thinking.map(|value| ("thinking".to_string(), value)));
    let tool = map.shift_remove("tool_name");
    if let Some(tool) = tool {
        map.entry("name").or_insert(tool);
    }
    map.shift_remove("annotations");
    let refusal = map.shift_remove("refusal");
    if let Some(refusal) = refusal {
        map.entry("content").or_insert(refusal);
    }
    let call = map.shift_remove("function_call");
    if let Some(call) = call {
        map.entry("tool_calls").or_insert(json!([call]));
    }
}

/// A part by a name that a message knows; others are refused.
fn plain(part: &mut Value, path: &str, ignored: &mut Vec<String>) -> Result<(), Failure> {
    name_ignored(part, path, ignored);
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("");
    let text = match kind {
        "text" | "input_text" | "output_text" => part.get("text"),
        "refusal" => part.get("refusal"),
        "image_url" | "input_audio" | "image" | "audio" | "audio_url" => return Ok(()),
        _ if part.is_string() => return Ok(()),
        other => return Err(unsupported(&format!("{path}: type {other:?}"))),
    };
    let text = text.filter(|text| text.is_string());
    let text = text.ok_or_else(|| wrong(format!("{path}.text is required")))?;
    *part = json!({"type": "text", "text": text});
    Ok(())
}

/// Names what changes nothing in a part: how closely to look at an image, what may be cached.
fn name_ignored(part: &Value, path: &str, ignored: &mut Vec<String>) {
    let place = path.split('[').next().unwrap_or_default();
    let image = part.get("image_url").and_then(Value::as_object);
    for key in image.into_iter().flat_map(Map::keys).filter(|&key| key != "url") {
        once(ignored, format!("{place}.content.image_url.{key}"));
    }
    let known = |key: &str| {
        // What an answer said of its text comes back with it.
        matches!(key, "type" | "text" | "refusal" | "annotations" | "logprobs")
            || ["image", "audio"].iter().any(|kind| key.contains(kind))
    };
    for (key, _) in part.as_object().into_iter().flatten().filter(|(key, _)| !known(key)) {
        once(ignored, format!("{place}.content.{key}"));
    }
}

/// What a message must have, and what no part may be; images and sounds are decoded.
fn check(message: &mut Message, path: &str) -> Result<(), Failure> {
    match &mut message.content {
        Content::None if message.role != Role::Assistant => {
            Err(wrong(format!("{path}.content is required")))
        }
        Content::Parts(parts) => parts.iter_mut().enumerate().try_for_each(|(at, part)| {
            let path = format!("{path}.content[{at}]");
            match part {
                Part::Image(media) => decode(media, "image", &path),
                Part::Audio(media) => decode(media, "audio", &path),
                Part::Other(_) => Err(wrong(format!("{path} cannot be read"))),
                Part::Text(_) => Ok(()),
            }
        }),
        _ => Ok(()),
    }
}

/// The bytes of an image or a sound. Nothing is fetched for a client.
pub(crate) fn decode(media: &mut Media, what: &str, path: &str) -> Result<(), Failure> {
    match &media.source {
        MediaSource::Url(_) => Err(wrong(format!(
            "{what} URLs are not currently supported, please use base64 encoded data instead"
        ))),
        MediaSource::Base64(text) => {
            let read = media::media(path, text)?;
            let said = media.mime.take();
            *media = Media { mime: said.or(read.mime), ..read };
            Ok(())
        }
        MediaSource::Bytes(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ToolCall;

    fn read(listed: Value) -> Result<Vec<Message>, Failure> {
        messages(listed.as_array().unwrap().clone(), &mut Vec::new())
    }

    #[test]
    fn developers_are_the_system_and_parts_are_one_message() {
        let read = read(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "what "},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}},
                {"type": "input_text", "text": "is it?"}]},
        ]))
        .unwrap();
        assert_eq!(read[0], Message::system("be brief"));
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].content.text(), "what is it?");
        assert!(read[1].content.has_media());
    }

    #[test]
    fn what_an_answer_said_can_be_sent_back() {
        let read = read(json!([
            {"role": "assistant", "content": null, "refusal": null, "annotations": [],
             "audio": null, "function_call": null, "reasoning": "hm", "reasoning_content": "hm",
             "tool_calls": [{"id": "c1", "type": "function", "index": 0,
                 "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ]))
        .unwrap();
        let call = ToolCall { id: Some("c1".into()), ..ToolCall::new("f", json!({"a": 1})) };
        assert_eq!(read[0].tool_calls, [call]);
        assert_eq!(read[0].thinking.as_deref(), Some("hm"));
        assert!(read[0].extra.is_empty());
        assert_eq!(read[1].name.as_deref(), Some("f"));
    }

    #[test]
    fn what_changes_nothing_in_a_part_is_named_once() {
        let url = json!({"url": "data:;base64,AAEC", "detail": "low"});
        let image = json!({"type": "image_url", "image_url": url});
        let text = json!({"type": "text", "text": "a", "annotations": [], "cache_control": {}});
        let listed = json!([{"role": "user", "content": [image, image, text, text]}]);
        let mut ignored = Vec::new();
        messages(listed.as_array().unwrap().clone(), &mut ignored).unwrap();
        assert_eq!(
            ignored,
            ["messages.content.image_url.detail", "messages.content.cache_control"]
        );
    }

    #[test]
    fn old_calls_of_functions_are_calls_of_tools() {
        let read = read(json!([
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "2"},
        ]))
        .unwrap();
        assert_eq!(read[0].tool_calls, [ToolCall::new("f", json!({}))]);
        assert_eq!(read[1], Message::tool("f", "2"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_place() {
        let user = |part: Value| json!([{"role": "user", "content": [part]}]);
        let table = [
            (json!([1]), "messages[0] must be an object"),
            (json!([{"content": "x"}]), "messages[0].role is required"),
            (json!([{"role": "user", "content": null}]), "messages[0].content is required"),
            (json!([{"role": "user", "content": 7}]), "messages[0]: data did not match"),
            (user(json!({"type": "file", "file": {}})), "messages[0].content[0]: type \"file\" is"),
            (user(json!({"type": "text"})), "messages[0].content[0].text is required"),
            (user(json!({"type": "image_url"})), "messages[0].content[0] cannot be read"),
            (
                user(json!({"type": "image_url", "image_url": "https://x/y.png"})),
                "image URLs are not currently supported",
            ),
        ];
        for (listed, wanted) in table {
            let failure = read(listed.clone()).unwrap_err();
            assert!(failure.message.starts_with(wanted), "{listed}: {failure}");
        }
    }
}
