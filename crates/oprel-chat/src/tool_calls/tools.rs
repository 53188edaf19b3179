//! The tools that may be called: what a text must name to be a call, and what its arguments are.

use super::python;
use oprel_api::{Tool, ToolCall};
use serde_json::{Map, Value};

/// How some models say that they call nothing.
const NO_CALL: &[&str] = &["directly_answer", "directly-answer"];

/// The tools that may be called.
#[derive(Clone, Debug)]
pub(super) struct Tools(Vec<(String, Option<Value>)>);

impl Tools {
    pub(super) fn new(tools: &[Tool]) -> Tools {
        Tools(tools.iter().map(|tool| (tool.name.clone(), tool.parameters.clone())).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(tool, _)| tool == name)
    }

    /// Whether a name, or a name and more, begins with this.
    pub(super) fn begin_with(&self, begun: &str) -> bool {
        self.0.iter().any(|(tool, _)| tool.starts_with(begun) || begun.starts_with(tool.as_str()))
    }

    /// Bytes of the longest name.
    pub(super) fn longest(&self) -> usize {
        self.0.iter().map(|(tool, _)| tool.len()).max().unwrap_or(0)
    }

    /// The names of a tool's arguments, in the order of its schema.
    pub(super) fn properties<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.schemas(name).into_iter().flat_map(Map::keys).map(String::as_str)
    }

    fn schemas(&self, name: &str) -> Option<&Map<String, Value>> {
        let (_, parameters) = self.0.iter().find(|(tool, _)| tool == name)?;
        parameters.as_ref()?.get("properties")?.as_object()
    }

    /// A call of a tool that exists.
    pub(super) fn call(
        &self,
        name: &str,
        id: Option<String>,
        arguments: Value,
    ) -> Option<ToolCall> {
        let fits = self.has(name) && arguments.is_object();
        fits.then(|| ToolCall { id, name: name.to_owned(), arguments })
    }

    /// The calls that an object says, or a list of objects; `None` if one of them is none.
    pub(super) fn calls(&self, value: &Value) -> Option<Vec<ToolCall>> {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let mut calls = Vec::new();
        for value in values {
            let name = ["name", "tool_name"].iter().find_map(|key| value.get(key)?.as_str());
            if !name.is_some_and(|name| NO_CALL.contains(&name) && !self.has(name)) {
                calls.push(self.call_of(value)?);
            }
        }
        (!values.is_empty()).then_some(calls)
    }

    fn call_of(&self, value: &Value) -> Option<ToolCall> {
        if let Some(function @ Value::Object(_)) = value.get("function") {
            return self.call_of(function);
        }
        let named =
            ["name", "tool_name", "function"].iter().find_map(|key| value.get(key)?.as_str());
        let Some(name) = named else {
            // {"f": {"a": 1}}
            let (name, arguments) = value.as_object().filter(|o| o.len() == 1)?.iter().next()?;
            return self.call(name, None, arguments.clone());
        };
        let arguments = ["arguments", "parameters"].iter().find_map(|key| value.get(key));
        let arguments = match arguments {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            Some(other) => other.clone(),
        };
        let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
        self.call(name, id, arguments)
    }

    /// An argument in quotes that its tool's schema wants to be no text: some models quote all.
    pub(super) fn fitted(&self, name: &str, key: &str, value: Value) -> Value {
        let schema = self.schemas(name).and_then(|schemas| schemas.get(key));
        let types = schema.map(types).unwrap_or_default();
        match value {
            Value::String(text) if !types.is_empty() && !types.contains(&"string") => {
                self.typed(name, key, &text)
            }
            other => other,
        }
    }

    /// An argument that is written without quotes: a text where the tool's schema says so, else what it
    /// reads as in JSON or Python, else a text.
    pub(super) fn typed(&self, name: &str, key: &str, written: &str) -> Value {
        let schema = self.schemas(name).and_then(|schemas| schemas.get(key));
        let text = || Value::String(written.to_owned());
        let types = schema.map(types).unwrap_or_default();
        if types == ["string"] {
            return text();
        }
        let bare = written.trim();
        let value = serde_json::from_str(bare).ok().or_else(|| python::whole(bare));
        match value {
            // Where a text may be meant, only what the schema names is anything else.
            Some(value) if types.contains(&"string") => {
                let of = |t: &&str| is_a(&value, t);
                if types.iter().any(of) && !value.is_string() { value } else { text() }
            }
            Some(Value::String(quoted)) if types.is_empty() && bare.starts_with('"') => {
                Value::String(quoted)
            }
            Some(Value::String(_)) | None => text(),
            Some(value) => value,
        }
    }
}

/// The types that a schema names, each once.
fn types(schema: &Value) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    let mut add = |name| {
        if !found.contains(&name) {
            found.push(name);
        }
    };
    match schema.get("type") {
        Some(Value::String(name)) => add(name.as_str()),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).for_each(&mut add),
        _ => {}
    }
    for either in ["anyOf", "oneOf"] {
        let schemas = schema.get(either).and_then(Value::as_array);
        schemas.into_iter().flatten().flat_map(types).for_each(&mut add);
    }
    if let (None, Some(Value::Array(listed))) = (schema.get("type"), schema.get("enum")) {
        listed.iter().for_each(|value| add(type_of(value)));
    }
    found
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    let found = type_of(value);
    found == name || (found == "number" && name == "integer" && (value.is_i64() || value.is_u64()))
}
