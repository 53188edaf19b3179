//! Tools and the choice among them.

use serde_json::{Map, Value, json};

use crate::body::{Fields, unsupported};
use crate::openai::{choice_of, known_choice};
use crate::{Failure, Tool, ToolChoice};

/// What a request says about tools.
pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    pub(super) spaces: Vec<Space>,
    pub(super) as_sent: AsSent,
}

/// As the client sent them.
pub(super) struct AsSent {
    pub(super) tools: Value,
    pub(super) choice: Value,
}

/// A tool of a namespace: models know it by one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Space {
    pub(super) full: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The one name of a tool of a namespace.
pub(super) fn full_name(namespace: &str, name: &str) -> String {
    format!("{namespace}.{name}")
}

/// Reads `tools` and `tool_choice`.
pub(super) fn tools(fields: &mut Fields, ignored: &mut Vec<String>) -> Result<Tools, Failure> {
    let listed: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let as_sent = AsSent { tools: json!(listed), choice: json!("auto") };
    let mut all =
        Tools { tools: Vec::new(), choice: ToolChoice::Auto, spaces: Vec::new(), as_sent };
    for (at, value) in listed.into_iter().enumerate() {
        all.read(Fields::within(value, &format!("tools[{at}]"))?, ignored)?;
    }
    if let Some(value) = fields.value("tool_choice") {
        all.as_sent.choice = value.clone();
        all.choice = choice_of(value, &mut all.tools)?;
    }
    known_choice(&all.choice, &all.tools)?;
    Ok(all)
}

impl Tools {
    fn read(&mut self, mut fields: Fields, ignored: &mut Vec<String>) -> Result<(), Failure> {
        let kind: String = fields.need("type")?;
        match kind.as_str() {
            "function" => self.tools.push(function(fields)?),
            "namespace" => {
                let namespace: String = fields.need("name")?;
                let inner: Vec<Value> = fields.need("tools")?;
                for value in inner {
                    let mut tool = Fields::within(value, &fields.path("tools"))?;
                    let kind: String = tool.need("type")?;
                    if kind != "function" {
                        return Err(unsupported(&format!("{} {kind:?}", tool.path("type"))));
                    }
                    let mut tool = function(tool)?;
                    let full = full_name(&namespace, &tool.name);
                    let name = std::mem::replace(&mut tool.name, full.clone());
                    self.spaces.push(Space { full, namespace: namespace.clone(), name });
                    self.tools.push(tool);
                }
            }
            // Agents offer it with every request. Nobody here searches, so no model is told of it.
            "web_search" | "web_search_preview" => ignored.push(format!("tools.{kind}")),
            other => return Err(unsupported(&format!("{} {other:?}", fields.path("type")))),
        }
        Ok(())
    }
}

fn function(mut fields: Fields) -> Result<Tool, Failure> {
    let name = fields.need("name")?;
    let description = fields.take("description")?;
    let parameters = fields.value("parameters");
    let mut extra = Map::new();
    extra.extend(fields.value("strict").map(|strict| ("strict".to_string(), strict)));
    Ok(Tool { name, description, parameters, extra })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<(Tools, Vec<String>), Failure> {
        let mut fields = Fields::within(body, "body")?;
        let mut ignored = Vec::new();
        Ok((tools(&mut fields, &mut ignored)?, ignored))
    }

    #[test]
    fn functions_and_those_of_a_namespace_are_tools() {
        let function = |name| {
            json!({"type": "function", "name": name, "description": "d",
            "parameters": {"type": "object"}, "strict": true})
        };
        let (all, ignored) = read(json!({
            "tools": [function("f"), {"type": "web_search"},
                {"type": "namespace", "name": "n", "tools": [function("g")]}],
            "tool_choice": {"type": "function", "name": "n.g"}}))
        .unwrap();
        let names: Vec<&str> = all.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["f", "n.g"]);
        assert_eq!(all.tools[0].extra, *json!({"strict": true}).as_object().unwrap());
        let space = Space { full: "n.g".into(), namespace: "n".into(), name: "g".into() };
        assert_eq!(all.spaces, [space]);
        assert_eq!(all.choice, ToolChoice::Named("n.g".into()));
        assert_eq!(ignored, ["tools.web_search"]);
    }

    #[test]
    fn tools_that_run_elsewhere_are_refused() {
        for (body, wanted) in [
            (json!({"tools": [{"type": "file_search"}]}), "tools[0].type \"file_search\" is not"),
            (json!({"tools": [{"name": "f"}]}), "tools[0].type is required"),
            (
                json!({"tools": [{"type": "web_search"}], "tool_choice": "required"}),
                "tool_choice wants a call",
            ),
            (json!({"tool_choice": {"type": "web_search"}}), "tool_choice.type \"web_search\" is"),
        ] {
            let failure = read(body).err().expect("accepted");
            assert!(failure.message.starts_with(wanted), "{failure}");
        }
    }
}
