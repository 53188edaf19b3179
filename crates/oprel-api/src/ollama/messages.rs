//! Messages and tools as the dialect writes them.

use serde_json::{Map, Value, json};

use crate::{Content, Failure, Message, Part, Role, Tool, ToolCall, ToolChoice};

use super::fields::{Fields, wrong};
use super::media;

/// The messages of a conversation, oldest first.
pub(super) fn messages(list: Vec<Value>) -> Result<Vec<Message>, Failure> {
    let list = list.into_iter().enumerate();
    list.map(|(at, value)| message(&format!("messages[{at}]"), value)).collect()
}

/// Keys that are unknown are kept, for templates that read them.
fn message(path: &str, value: Value) -> Result<Message, Failure> {
    let mut fields = Fields::at(path, value)?;
    let role = fields.filled("role")?.ok_or_else(|| wrong(format!("{path} needs a role")))?;
    let text = fields.text("content")?.unwrap_or_default();
    let images = images(&mut fields)?;
    let thinking = fields.filled("thinking")?;
    let tool_calls = tool_calls(&mut fields)?;
    let tool_name = fields.filled("tool_name")?;
    let name = fields.filled("name")?;
    Ok(Message {
        content: content(text, images),
        thinking,
        tool_calls,
        name: tool_name.or(name),
        tool_call_id: fields.filled("tool_call_id")?,
        extra: fields.rest(),
        ..Message::new(Role::from(role.to_lowercase().as_str()), "")
    })
}

fn images(fields: &mut Fields) -> Result<Vec<Part>, Failure> {
    let texts = fields.texts("images")?.into_iter().enumerate();
    texts.map(|(at, text)| media::part(&fields.name(&format!("images[{at}]")), &text)).collect()
}

/// Each image takes the place of the next `[img]` in the text; those left stand before it.
fn content(text: String, images: Vec<Part>) -> Content {
    const PLACE: &str = "[img]";
    if images.is_empty() {
        return Content::Text(text);
    }
    let placed = text.matches(PLACE).count().min(images.len());
    let mut images = images.into_iter();
    let mut within: Vec<Part> = images.by_ref().take(placed).collect();
    let mut parts: Vec<Part> = images.collect();
    let mut within = within.drain(..);
    for piece in text.splitn(placed + 1, PLACE) {
        if !piece.is_empty() {
            parts.push(Part::Text(piece.to_owned()));
        }
        parts.extend(within.next());
    }
    Content::Parts(parts)
}

fn tool_calls(fields: &mut Fields) -> Result<Vec<ToolCall>, Failure> {
    let list = fields.list("tool_calls")?.into_iter().enumerate();
    list.map(|(at, value)| tool_call(&fields.name(&format!("tool_calls[{at}]")), value)).collect()
}

fn tool_call(path: &str, value: Value) -> Result<ToolCall, Failure> {
    let mut outer = Fields::at(path, value)?;
    let function = outer.take("function").unwrap_or_else(|| json!({}));
    let mut function = Fields::at(&outer.name("function"), function)?;
    let name = function.filled("name")?;
    let name = name.ok_or_else(|| wrong(format!("{} is missing", function.name("name"))))?;
    let arguments = function.take("arguments").unwrap_or_else(|| json!({}));
    let arguments = match &arguments {
        // Written by clients of other dialects.
        Value::String(text) => serde_json::from_str(text).unwrap_or(arguments),
        _ => arguments,
    };
    if !arguments.is_object() {
        return Err(wrong(format!("{} must be an object", function.name("arguments"))));
    }
    Ok(ToolCall { id: outer.filled("id")?, name, arguments })
}

/// The tools of a request, with every key of their functions. Names of what is left out go to
/// `ignored`.
pub(super) fn tools(list: Vec<Value>, ignored: &mut Vec<String>) -> Result<Vec<Tool>, Failure> {
    let list = list.into_iter().enumerate();
    list.map(|(at, value)| tool(&format!("tools[{at}]"), value, ignored)).collect()
}

fn tool(path: &str, value: Value, ignored: &mut Vec<String>) -> Result<Tool, Failure> {
    let mut outer = Fields::at(path, value)?;
    if let Some(kind) = outer.filled("type")?.filter(|kind| kind != "function") {
        return Err(wrong(format!("{path}.type must be \"function\", not {kind:?}")));
    }
    let function = outer.take("function");
    let function = function.ok_or_else(|| wrong(format!("{path}.function is missing")))?;
    let mut function = Fields::at(&outer.name("function"), function)?;
    ignored.extend(outer.ignored());
    let name = function.filled("name")?;
    let name = name.ok_or_else(|| wrong(format!("{path}.function.name is missing")))?;
    let description = function.text("description")?;
    let parameters = function.take("parameters");
    if parameters.as_ref().is_some_and(|p| !p.is_object()) {
        return Err(wrong(format!("{path}.function.parameters must be an object")));
    }
    Ok(Tool { name, description, parameters, extra: function.rest() })
}

/// `"auto"`, `"none"`, `"required"` or `{"function": {"name": ...}}`.
pub(super) fn tool_choice(value: Option<Value>, tools: &[Tool]) -> Result<ToolChoice, Failure> {
    let named = |choice: &Map<String, Value>| {
        let function = choice.get("function")?.as_object()?;
        Some(ToolChoice::Named(function.get("name")?.as_str()?.to_owned()))
    };
    let choice = match &value {
        None => Some(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Some(ToolChoice::Auto),
            "none" => Some(ToolChoice::None),
            "required" | "any" => Some(ToolChoice::Required),
            _ => None,
        },
        Some(Value::Object(choice)) => named(choice),
        Some(_) => None,
    };
    let choice = choice.ok_or_else(|| {
        wrong(
            "tool_choice must be \"auto\", \"none\", \"required\" or \
             {\"function\": {\"name\": ...}}",
        )
    })?;
    match &choice {
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(wrong(format!("tool_choice names {name:?}, which is none of the tools")))
        }
        ToolChoice::Required if tools.is_empty() => {
            Err(wrong("tool_choice is \"required\", but there are no tools"))
        }
        _ => Ok(choice),
    }
}

#[cfg(test)]
mod tests;
