//! Tools and the choice among them.

use serde::Deserialize;
use serde_json::Value;

use crate::body::{Fields, unsupported, wrong};
use crate::{Failure, Tool, ToolChoice};

/// Reads `tools` and `tool_choice`.
pub(super) fn tools(fields: &mut Fields) -> Result<(Vec<Tool>, ToolChoice), Failure> {
    let listed: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let mut tools = listed.into_iter().enumerate().map(tool).collect::<Result<Vec<_>, _>>()?;
    let choice = match fields.value("tool_choice") {
        None => ToolChoice::Auto,
        Some(value) => choice_of(value, &mut tools)?,
    };
    known_choice(&choice, &tools)?;
    Ok((tools, choice))
}

/// Refuses a choice that names what is not there.
pub(crate) fn known_choice(choice: &ToolChoice, tools: &[Tool]) -> Result<(), Failure> {
    match choice {
        ToolChoice::Required if tools.is_empty() => {
            Err(wrong("tool_choice wants a call, but there are no tools"))
        }
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(wrong(format!("tool_choice names {name:?}, which is not among the tools")))
        }
        _ => Ok(()),
    }
}

fn tool((at, value): (usize, Value)) -> Result<Tool, Failure> {
    match value.get("type").and_then(Value::as_str) {
        None | Some("function") => {}
        Some(other) => return Err(unsupported(&format!("tools[{at}]: type {other:?}"))),
    }
    Tool::deserialize(value).map_err(|error| wrong(format!("tools[{at}]: {error}")))
}

/// A word or an object; a list of allowed tools leaves only these.
pub(super) fn choice_of(value: Value, tools: &mut Vec<Tool>) -> Result<ToolChoice, Failure> {
    if let Some(word) = value.as_str() {
        return word_for(word);
    }
    let mut fields = Fields::within(value, "tool_choice")?;
    let kind: String = fields.need("type")?;
    match kind.as_str() {
        "function" => Ok(ToolChoice::Named(name_in(&mut fields)?)),
        "allowed_tools" => {
            let mut fields = fields.object("allowed_tools")?.unwrap_or(fields);
            let mode: String = fields.need("mode")?;
            let listed: Vec<Value> = fields.need("tools")?;
            let path = fields.path("tools");
            let names = listed.into_iter().map(|tool| name_in(&mut Fields::within(tool, &path)?));
            let names = names.collect::<Result<Vec<_>, _>>()?;
            tools.retain(|tool| names.contains(&tool.name));
            word_for(&mode)
        }
        other => Err(unsupported(&format!("tool_choice.type {other:?}"))),
    }
}

fn word_for(word: &str) -> Result<ToolChoice, Failure> {
    Ok(match word {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "required" | "any" => ToolChoice::Required,
        other => {
            let known = "tool_choice must be auto, none, required or one tool";
            return Err(wrong(format!("{known}, not {other:?}")));
        }
    })
}

/// `{"function": {"name": ..}}` or `{"name": ..}`.
fn name_in(fields: &mut Fields) -> Result<String, Failure> {
    match fields.object("function")? {
        Some(mut function) => function.need("name"),
        None => fields.need("name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(choice: Value) -> Result<(Vec<Tool>, ToolChoice), Failure> {
        let tool = |name| json!({"type": "function", "function": {"name": name, "strict": true}});
        let body = json!({"tools": [tool("f"), tool("g")], "tool_choice": choice});
        tools(&mut Fields::within(body, "body")?)
    }

    #[test]
    fn each_choice_is_read() {
        let named = || ToolChoice::Named("g".into());
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required",
            "tools": [{"type": "function", "function": {"name": "g"}}]}});
        let table = [
            (Value::Null, 2, ToolChoice::Auto),
            (json!("auto"), 2, ToolChoice::Auto),
            (json!("none"), 2, ToolChoice::None),
            (json!("required"), 2, ToolChoice::Required),
            (json!({"type": "function", "function": {"name": "g"}}), 2, named()),
            (json!({"type": "function", "name": "g"}), 2, named()),
            (allowed, 1, ToolChoice::Required),
        ];
        for (value, count, wanted) in table {
            let (tools, choice) = read(value.clone()).unwrap();
            assert_eq!((tools.len(), choice), (count, wanted), "{value}");
            assert_eq!(tools[0].extra["strict"], json!(true));
        }
    }

    #[test]
    fn a_choice_of_what_is_not_there_is_refused() {
        for (value, wanted) in [
            (json!("sometimes"), "tool_choice must be"),
            (json!({"type": "function", "function": {"name": "h"}}), "tool_choice names \"h\""),
            (json!({"type": "custom", "custom": {"name": "g"}}), "tool_choice.type \"custom\" is"),
            (json!({"type": "function"}), "tool_choice.name is required"),
        ] {
            let failure = read(value).unwrap_err();
            assert!(failure.message.starts_with(wanted), "{failure}");
        }
        let none = json!({"tool_choice": "required"});
        assert!(tools(&mut Fields::within(none, "body").unwrap()).is_err());
        let custom = json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]});
        let failure = tools(&mut Fields::within(custom, "body").unwrap()).unwrap_err();
        assert_eq!(failure.message, "tools[0]: type \"custom\" is not supported");
    }
}
