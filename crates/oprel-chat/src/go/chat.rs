//! A conversation as templates in Go's language read it.

use serde_json::{Map, Value as Json, json};

use super::exec::{Run, run};
use super::tree::Program;
use super::value::Value;
use crate::jinja::Limits;
use crate::{Gap, LocalTime, RenderInput, Result};

/// What stands between messages that become one.
const BETWEEN: &str = "\n\n";

/// The prompt for these messages.
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) where the template fails on them, others where it goes beyond the
/// limits.
pub(crate) fn render(
    program: &Program,
    input: &RenderInput<'_>,
    messages: &[Json],
    limits: Limits,
) -> Result<String> {
    let run_with = |data: Map<String, Json>, lists: Vec<(&str, Value)>, until| {
        let Value::Map(map) = Value::of_json(&Json::Object(data)) else { return Ok(String::new()) };
        let mut map = std::rc::Rc::unwrap_or_clone(map);
        map.extend(lists.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let data = Value::Map(map.into());
        run(program, data, Run { limits, now: input.now, until })
    };
    let tools = Value::list(input.tools.unwrap_or_default().iter().map(tool));
    let messages = merged(messages);
    let common = common(input);
    if program.reads("Messages") {
        let mut data = common;
        data.insert("System".into(), json!(system(&messages)));
        data.insert("Response".into(), json!(""));
        let list = Value::list(messages.iter().map(message));
        return run_with(data, vec![("Messages", list), ("Tools", tools)], None);
    }
    let mut out = String::new();
    let turns = turns(&messages);
    for (i, turn) in turns.iter().enumerate() {
        let mut data = common.clone();
        data.extend(turn.iter().map(|(name, text)| ((*name).to_owned(), json!(text))));
        let until = if i + 1 == turns.len() { program.answer } else { None };
        out += &run_with(data, vec![("Tools", tools.clone())], until)?;
        // A template that does not say where the answer goes has it at its end.
        if program.answer.is_none() {
            out += &turn[2].1;
        }
        if out.len() > limits.output {
            return Err(crate::Error::OutputTooLong { most: limits.output });
        }
    }
    Ok(out)
}

/// The prompt that asks for a gap to be filled: the template is run once, and all of it counts.
///
/// # Errors
/// As [`render`].
pub(crate) fn render_gap(
    program: &Program,
    gap: &Gap<'_>,
    now: LocalTime,
    limits: Limits,
) -> Result<String> {
    let Gap { system, before, after } = *gap;
    let data = json!({
        "System": system.unwrap_or_default(), "Prompt": before, "Suffix": after, "Response": "",
        "Think": false, "ThinkLevel": "", "IsThinkSet": false,
    });
    run(program, Value::of_json(&data), Run { limits, now, until: None })
}

/// What does not depend on the messages.
fn common(input: &RenderInput<'_>) -> Map<String, Json> {
    let given = |name: &str| input.kwargs.and_then(|kwargs| kwargs.get(name));
    let think = given("enable_thinking").or_else(|| given("thinking"));
    let mut data = input.kwargs.cloned().unwrap_or_default();
    data.insert("IsThinkSet".into(), json!(think.is_some()));
    data.insert("Think".into(), json!(think.and_then(Json::as_bool).unwrap_or(false)));
    let level = given("reasoning_effort").and_then(Json::as_str).unwrap_or("");
    data.insert("ThinkLevel".into(), json!(level));
    data.entry("Suffix").or_insert_with(|| json!(""));
    data
}

fn text<'j>(json: &'j Json, key: &str) -> &'j str {
    json[key].as_str().unwrap_or("")
}

/// The text of a message, whatever else is in it.
fn content(message: &Json) -> String {
    match &message["content"] {
        Json::Array(parts) => parts.iter().map(|part| text(part, "text")).collect(),
        other => other.as_str().unwrap_or("").to_owned(),
    }
}

/// Messages of one role that follow each other become one, but for what tools say.
fn merged(messages: &[Json]) -> Vec<Json> {
    let mut all: Vec<Json> = Vec::new();
    for message in messages {
        let role = text(message, "role");
        match all.last_mut() {
            Some(last) if text(last, "role") == role && role != "tool" => {
                let both = [content(last), content(message)];
                let both: Vec<String> = both.into_iter().filter(|text| !text.is_empty()).collect();
                last["content"] = both.join(BETWEEN).into();
                if let Some(calls) = message["tool_calls"].as_array() {
                    let mut known = last["tool_calls"].as_array().cloned().unwrap_or_default();
                    known.extend(calls.iter().cloned());
                    last["tool_calls"] = known.into();
                }
            }
            _ => all.push(message.clone()),
        }
    }
    all
}

fn system(messages: &[Json]) -> String {
    let system = messages.iter().filter(|m| text(m, "role") == "system").map(content);
    system.collect::<Vec<_>>().join(BETWEEN)
}

/// System, prompt and response of each turn, for templates that know nothing else. What would be a second of
/// its kind begins a new turn.
fn turns(messages: &[Json]) -> Vec<[(&'static str, String); 3]> {
    const NAMES: [&str; 3] = ["System", "Prompt", "Response"];
    let empty = || NAMES.map(|name| (name, String::new()));
    let mut turns = Vec::new();
    let mut turn = empty();
    for message in messages {
        let at = match text(message, "role") {
            "system" => 0,
            "assistant" => 2,
            _ => 1,
        };
        if turn[at..].iter().any(|(_, text)| !text.is_empty()) {
            turns.push(std::mem::replace(&mut turn, empty()));
        }
        turn[at].1 = content(message);
    }
    turns.push(turn);
    turns
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn message(json: &Json) -> Value {
    let images = list(&json["content"]).iter().filter(|part| text(part, "type") == "image");
    let calls = list(&json["tool_calls"]);
    let fields = vec![
        ("Role", Value::str(text(json, "role"))),
        ("Content", Value::str(&content(json))),
        ("Thinking", Value::str(text(json, "thinking"))),
        ("Images", Value::list(images.map(Value::of_json))),
        ("ToolCalls", Value::list(calls.iter().enumerate().map(call))),
        ("ToolName", Value::str(text(json, "name"))),
        ("ToolCallID", Value::str(text(json, "tool_call_id"))),
    ];
    Value::record(fields, json.clone())
}

fn call((index, json): (usize, &Json)) -> Value {
    let function = &json["function"];
    let fields = vec![
        ("Index", Value::Int(index as i64)),
        ("Name", Value::str(text(function, "name"))),
        ("Arguments", Value::of_json(&function["arguments"])),
    ];
    let mut shown = function.clone();
    shown["arguments"] = Value::of_json(&function["arguments"]).to_json();
    let id = text(json, "id");
    let mut whole = Map::new();
    if !id.is_empty() {
        whole.insert("id".into(), json!(id));
    }
    whole.insert("function".into(), shown.clone());
    let function = Value::record(fields, shown);
    Value::record(vec![("ID", Value::str(id)), ("Function", function)], Json::Object(whole))
}

fn tool(json: &Json) -> Value {
    let function = &json["function"];
    let schema = &function["parameters"];
    let properties = schema["properties"].as_object();
    let properties = properties.into_iter().flatten();
    let properties = properties.map(|(name, json)| (name.clone(), property(json)));
    let properties = std::collections::BTreeMap::from_iter(properties);
    let fields = vec![
        ("Type", Value::str(text(schema, "type"))),
        ("Defs", Value::of_json(&schema["$defs"])),
        ("Items", Value::of_json(&schema["items"])),
        ("Required", Value::list(list(&schema["required"]).iter().map(Value::of_json))),
        ("Properties", Value::Map(properties.into())),
    ];
    let parameters = Value::record(fields, schema.clone());
    let fields = vec![
        ("Name", Value::str(text(function, "name"))),
        ("Description", Value::str(text(function, "description"))),
        ("Parameters", parameters),
    ];
    let fields = vec![
        ("Type", Value::str(text(json, "type"))),
        ("Items", Value::of_json(&json["items"])),
        ("Function", Value::record(fields, function.clone())),
    ];
    Value::record(fields, json.clone())
}

/// A property of a tool's parameters. Its type prints bare where there is only one.
fn property(json: &Json) -> Value {
    let kind = match &json["type"] {
        Json::Array(names) if names.len() == 1 => Value::of_json(&names[0]),
        Json::Null => Value::str(""),
        other => Value::of_json(other),
    };
    let properties = json["properties"].as_object().into_iter().flatten();
    let properties = properties.map(|(name, json)| (name.clone(), property(json)));
    let properties = std::collections::BTreeMap::from_iter(properties);
    let fields = vec![
        ("Type", kind),
        ("AnyOf", Value::list(list(&json["anyOf"]).iter().map(property))),
        ("Items", Value::of_json(&json["items"])),
        ("Description", Value::str(text(json, "description"))),
        ("Enum", Value::list(list(&json["enum"]).iter().map(Value::of_json))),
        ("Required", Value::list(list(&json["required"]).iter().map(Value::of_json))),
        ("Properties", Value::Map(properties.into())),
    ];
    Value::record(fields, json.clone())
}
