//! Tools that a model may call, and its calls, in the shapes that clients and templates share.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use serde_json::{Map, Value, json};

/// A tool that the model may call: a name, what it is for, and a JSON Schema of its arguments.
///
/// On the wire `{"type": "function", "function": {"name", "description", "parameters"}}`; a bare
/// function object is read too. Keys beyond these are kept, for templates that show them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What the model calls it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of its arguments; an object in all that is well formed.
    pub parameters: Option<Value>,
    /// Every other key of the function object, such as `strict` or `return`.
    pub extra: Map<String, Value>,
}

/// A call of a tool.
///
/// On the wire `{"id"?, "type": "function", "function": {"name", "arguments"}}`. Arguments are an
/// object; a string that holds one is read as the object. A bare `{"name", "arguments"}` is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Names this call, so that its result can name it.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// Arguments by name. Text that is no JSON object is kept as a string.
    pub arguments: Value,
}

/// Whether and which tools the model calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

impl Tool {
    /// A tool with a description and a JSON Schema of its arguments.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Tool {
        Tool {
            name: name.into(),
            description: Some(description.into()),
            parameters: Some(parameters),
            extra: Map::new(),
        }
    }

    /// As templates and clients write it.
    pub fn to_json(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".into(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".into(), json!(description));
        }
        if let Some(parameters) = &self.parameters {
            function.insert("parameters".into(), parameters.clone());
        }
        function.extend(self.extra.clone());
        json!({"type": "function", "function": function})
    }
}

impl ToolCall {
    /// A call without an id.
    pub fn new(name: impl Into<String>, arguments: Value) -> ToolCall {
        ToolCall { id: None, name: name.into(), arguments }
    }

    /// The arguments as a text: that of a JSON object, or what the model wrote instead.
    pub fn arguments_text(&self) -> String {
        match &self.arguments {
            Value::String(text) => text.clone(),
            object => object.to_string(),
        }
    }

    /// As templates write it: arguments are an object.
    pub fn to_json(&self) -> Value {
        let mut call = Map::new();
        if let Some(id) = &self.id {
            call.insert("id".into(), json!(id));
        }
        call.insert("type".into(), json!("function"));
        let function = json!({"name": self.name, "arguments": self.arguments});
        call.insert("function".into(), function);
        Value::Object(call)
    }
}

impl Serialize for Tool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tool, D::Error> {
        let mut function = function_object(Map::deserialize(deserializer)?);
        let name = take_string(&mut function, "name")
            .ok_or_else(|| D::Error::custom("a tool needs a function with a name"))?;
        let description = take_string(&mut function, "description");
        let parameters = function.shift_remove("parameters").filter(|p| !p.is_null());
        Ok(Tool { name, description, parameters, extra: function })
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut call = serializer.serialize_map(None)?;
        if let Some(id) = &self.id {
            call.serialize_entry("id", id)?;
        }
        call.serialize_entry("type", "function")?;
        let function = json!({"name": self.name, "arguments": self.arguments});
        call.serialize_entry("function", &function)?;
        call.end()
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ToolCall, D::Error> {
        let mut call = Map::<String, Value>::deserialize(deserializer)?;
        let id = take_string(&mut call, "id");
        let mut function = function_object(call);
        let name = take_string(&mut function, "name")
            .ok_or_else(|| D::Error::custom("a tool call needs a function with a name"))?;
        let arguments = match function.shift_remove("arguments") {
            None | Some(Value::Null) => json!({}),
            Some(Value::String(text)) => object_in(text),
            Some(value) => value,
        };
        Ok(ToolCall { id, name, arguments })
    }
}

/// The inner `function` object, or the object itself where there is none.
fn function_object(mut outer: Map<String, Value>) -> Map<String, Value> {
    match outer.shift_remove("function") {
        Some(Value::Object(function)) => function,
        _ => outer,
    }
}

fn take_string(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// The JSON object that a text holds, else the text.
fn object_in(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(object @ Value::Object(_)) => object,
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_an_object_or_as_a_string_that_holds_one() {
        let object = r#"{"type":"function","function":{"name":"f","arguments":{"a":1}}}"#;
        let string = r#"{"id":"c1","function":{"name":"f","arguments":"{\"a\":1}"}}"#;
        let object: ToolCall = serde_json::from_str(object).unwrap();
        let string: ToolCall = serde_json::from_str(string).unwrap();
        assert_eq!(object.arguments, json!({"a": 1}));
        assert_eq!(string.arguments, object.arguments);
        assert_eq!(string.id.as_deref(), Some("c1"));
    }

    #[test]
    fn arguments_that_are_no_object_stay_a_text() {
        let call: ToolCall = serde_json::from_str(r#"{"name":"f","arguments":"{oops"}"#).unwrap();
        assert_eq!(call.arguments, json!("{oops"));
    }

    #[test]
    fn a_call_without_a_name_is_refused() {
        assert!(serde_json::from_str::<ToolCall>(r#"{"function":{"arguments":{}}}"#).is_err());
    }

    #[test]
    fn unknown_keys_of_a_tool_survive() {
        let wire = json!({"type":"function","function":{"name":"f","description":"d",
            "parameters":{"type":"object"},"strict":true}});
        let tool: Tool = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(tool.extra["strict"], json!(true));
        assert_eq!(serde_json::to_value(&tool).unwrap(), wire);
    }
}
