//! Constraints on calls of tools, where a model has to call one.

use std::fmt::Write;
use std::sync::Arc;

use oprel_api::{Tool, ToolChoice};
use serde_json::{Value, json};

use crate::compile::{Source, check_size};
use crate::lark::quoted;
use crate::{Error, Matcher, Result, Vocabulary, schema};

/// How a model writes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallFormat {
    /// `<tool_call>`, `{"name": .., "arguments": ..}`, `</tool_call>`, a line each.
    Tagged,
    /// `{"name": .., "parameters": ..}` and nothing around it.
    Bare,
    /// `[TOOL_CALLS]` and a list of `{"name": .., "arguments": ..}`; where the vocabulary has
    /// `[ARGS]`, `[TOOL_CALLS]name[ARGS]{..}`.
    Listed,
    /// Not JSON, by its name.
    Other(String),
}

/// A matcher for an answer of calls: one of the named tool, or one or more of any if a call is
/// required. `None` where the choice is the model's, or no tool is to be called.
///
/// What stands around arguments comes as models were trained to write it, so that most of it is
/// forced.
///
/// # Errors
/// [`Error::CallFormat`] for a format that is not JSON, [`Error::NoTool`], and whatever is wrong
/// with a tool's parameters; pointers begin with `/tools/N/parameters`.
pub fn tool_call_matcher(
    vocabulary: &Arc<Vocabulary>,
    format: &CallFormat,
    tools: &[Tool],
    choice: &ToolChoice,
) -> Result<Option<Matcher>> {
    let (most, wanted): (&str, Vec<(usize, &Tool)>) = match choice {
        ToolChoice::Auto | ToolChoice::None => return Ok(None),
        ToolChoice::Required => ("*", tools.iter().enumerate().collect()),
        ToolChoice::Named(name) => {
            ("{0}", tools.iter().enumerate().filter(|(_, tool)| &tool.name == name).collect())
        }
    };
    if wanted.is_empty() {
        let name = if let ToolChoice::Named(name) = choice { name.clone() } else { String::new() };
        return Err(Error::NoTool { name });
    }
    let mut grammar = frame(vocabulary, format, most)?;
    let names: Vec<String> = wanted.iter().map(|(i, _)| format!("call{i}")).collect();
    // Writing to a text cannot fail.
    let _ = writeln!(grammar, "call: {}", names.join(" | "));
    for (i, tool) in wanted {
        let (before, after) = around(vocabulary, format, &tool.name);
        let schema = parameters(i, tool)?;
        let _ = writeln!(grammar, "call{i}: {before} args{i}{after}\nargs{i}: %json {schema}");
    }
    check_size("list of tools", grammar.len())?;
    Matcher::of(vocabulary, Source::Lark(grammar)).map(Some)
}

/// What stands around calls, and between them; `most` says how many more may follow.
fn frame(vocabulary: &Vocabulary, format: &CallFormat, most: &str) -> Result<String> {
    let more = |between: &str| match most {
        "*" => format!("start: call ({between} call)*\n"),
        _ => "start: call\n".to_owned(),
    };
    let opens = tag(vocabulary, "[TOOL_CALLS]");
    match format {
        CallFormat::Tagged => Ok(more("\"\\n\"")),
        CallFormat::Bare => Ok(more("\"; \"")),
        CallFormat::Listed if vocabulary.control("[ARGS]").is_some() => Ok(more("")),
        CallFormat::Listed => match most {
            "*" => Ok(format!("start: {opens} \"[\" call (\", \" call)* \"]\"\n")),
            _ => Ok(format!("start: {opens} \"[\" call \"]\"\n")),
        },
        CallFormat::Other(format) => Err(Error::CallFormat { format: format.clone() }),
    }
}

/// What stands before and after the arguments of a call.
fn around(vocabulary: &Vocabulary, format: &CallFormat, name: &str) -> (String, String) {
    let object = |arguments: &str| format!("{{\"name\": {}, \"{arguments}\": ", json!(name));
    match format {
        CallFormat::Tagged => (
            format!(
                "{} {}",
                tag(vocabulary, "<tool_call>"),
                quoted(&format!("\n{}", object("arguments")))
            ),
            format!(" {} {}", quoted("}\n"), tag(vocabulary, "</tool_call>")),
        ),
        CallFormat::Bare => (quoted(&object("parameters")), " \"}\"".into()),
        CallFormat::Listed if vocabulary.control("[ARGS]").is_some() => {
            let [calls, args] = ["[TOOL_CALLS]", "[ARGS]"].map(|name| tag(vocabulary, name));
            (format!("{calls} {} {args}", quoted(name)), String::new())
        }
        _ => (quoted(&object("arguments")), " \"}\"".into()),
    }
}

/// A tag in Lark's notation: the control token where there is one, else its text.
fn tag(vocabulary: &Vocabulary, name: &str) -> String {
    vocabulary.control(name).map_or_else(|| quoted(name), |id| format!("<[{id}]>"))
}

/// The schema of a tool's arguments, which are an object.
fn parameters(i: usize, tool: &Tool) -> Result<Value> {
    let mut schema = tool.parameters.clone().unwrap_or_else(|| json!({}));
    if let Value::Object(schema) = &mut schema
        && !schema.contains_key("type")
    {
        schema.insert("type".into(), json!("object"));
    }
    let place = |pointer: String| format!("/tools/{i}/parameters{pointer}");
    schema::prepare(&schema).map_err(|error| match error {
        Error::Keyword { keyword, pointer, reason } => {
            Error::Keyword { keyword, pointer: place(pointer), reason }
        }
        Error::Schema { pointer, reason } => Error::Schema { pointer: place(pointer), reason },
        Error::Regex { position, pointer, reason } => {
            Error::Regex { position, pointer: pointer.map(place), reason }
        }
        other => other,
    })
}

#[cfg(test)]
mod tests;
