//! Tools and the choice among them.

use serde_json::{Map, Value};

use crate::body::{self, Fields, unsupported, wrong};
use crate::openai::known_choice;
use crate::{Failure, Tool, ToolChoice};

/// What a request says about tools.
pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    /// No answer calls more than one.
    pub(super) one_call: bool,
}

/// Reads `tools` and `tool_choice`.
pub(super) fn tools(fields: &mut Fields, ignored: &mut Vec<String>) -> Result<Tools, Failure> {
    let listed: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let mut tools = Vec::with_capacity(listed.len());
    for (at, value) in listed.into_iter().enumerate() {
        tools.push(tool(Fields::within(value, &format!("tools[{at}]"))?, ignored)?);
    }
    let mut choice = ToolChoice::Auto;
    let mut one_call = false;
    if let Some(mut fields) = fields.object("tool_choice")? {
        let kind: String = fields.need("type")?;
        choice = match kind.as_str() {
            "auto" => ToolChoice::Auto,
            "any" => ToolChoice::Required,
            "none" => ToolChoice::None,
            "tool" => ToolChoice::Named(fields.need("name")?),
            other => {
                let known = "tool_choice.type must be auto, any, tool or none";
                return Err(wrong(format!("{known}, not {other:?}")));
            }
        };
        one_call = fields.take("disable_parallel_tool_use")?.unwrap_or(false);
        ignored.extend(fields.left());
    }
    known_choice(&choice, &tools)?;
    Ok(Tools { tools, choice, one_call })
}

/// A tool of the client's; those that run at Anthropic's do not run here.
fn tool(mut fields: Fields, ignored: &mut Vec<String>) -> Result<Tool, Failure> {
    match fields.take::<String>("type")?.as_deref() {
        None | Some("custom") => {}
        Some(other) => return Err(unsupported(&format!("{} {other:?}", fields.path("type")))),
    }
    let name = fields.need("name")?;
    let description = fields.take("description")?;
    let parameters = fields.value("input_schema");
    if parameters.is_none() {
        return Err(wrong(format!("{} is required", fields.path("input_schema"))));
    }
    for name in fields.names() {
        once(ignored, name, "tools");
    }
    Ok(Tool { name, description, parameters, extra: Map::new() })
}

/// Names a field of many places once, what is said about caching without its place.
pub(super) fn once(ignored: &mut Vec<String>, name: &str, place: &str) {
    body::once(
        ignored,
        match name {
            "cache_control" => name.to_string(),
            other => format!("{place}.{other}"),
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(choice: Value) -> Result<Tools, Failure> {
        let tool = |name| {
            json!({"name": name, "description": "d", "input_schema": {"type": "object"},
            "cache_control": {"type": "ephemeral"}, "strict": true})
        };
        let body = json!({"tools": [tool("f"), tool("g")], "tool_choice": choice});
        let mut ignored = Vec::new();
        let tools = tools(&mut Fields::within(body, "body")?, &mut ignored)?;
        assert_eq!(ignored, ["cache_control", "tools.strict"]);
        Ok(tools)
    }

    #[test]
    fn each_choice_is_read() {
        let table = [
            (Value::Null, ToolChoice::Auto),
            (json!({"type": "auto"}), ToolChoice::Auto),
            (json!({"type": "any"}), ToolChoice::Required),
            (json!({"type": "none"}), ToolChoice::None),
            (json!({"type": "tool", "name": "g"}), ToolChoice::Named("g".into())),
        ];
        for (value, wanted) in table {
            let tools = read(value).unwrap();
            assert_eq!(tools.choice, wanted);
            assert_eq!(tools.tools[1], Tool::new("g", "d", json!({"type": "object"})));
            assert!(!tools.one_call);
        }
        assert!(read(json!({"type": "any", "disable_parallel_tool_use": true})).unwrap().one_call);
    }

    #[test]
    fn what_is_no_tool_of_the_client_is_refused_by_its_place() {
        for (body, wanted) in [
            (
                json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
                "tools[0].type \"web_search_20250305\" is not supported",
            ),
            (json!({"tools": [{"name": "f"}]}), "tools[0].input_schema is required"),
            (json!({"tools": [{"input_schema": {}}]}), "tools[0].name is required"),
            (json!({"tool_choice": {"type": "any"}}), "tool_choice wants a call"),
            (json!({"tool_choice": {"type": "some"}}), "tool_choice.type must be"),
            (json!({"tool_choice": {"type": "tool", "name": "h"}}), "tool_choice names \"h\""),
        ] {
            let body = body.to_string();
            let mut fields = Fields::parse(body.as_bytes()).unwrap_or_else(|f| panic!("{f}"));
            let failure = tools(&mut fields, &mut Vec::new()).err().expect("accepted");
            assert!(failure.message.starts_with(wanted), "{failure}");
        }
    }
}
