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
    /// Arguments in JSON, with this around them.
    Framed(CallFrame),
    /// Not JSON, by its name.
    Other(String),
}

/// What stands around calls with arguments in JSON. Control tokens in texts are found by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallFrame {
    /// May stand before everything else.
    pub may_open: &'static str,
    /// Before the first call.
    pub open: &'static str,
    /// A call.
    pub call: &'static [CallPart],
    /// Between calls; `None` where there is but one.
    pub between: Option<&'static str>,
    /// Behind the last call.
    pub close: &'static str,
}

/// A part of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallPart {
    /// A text as it is.
    Text(&'static str),
    /// The name of the tool.
    Name,
    /// The name of the tool as JSON.
    Quoted,
    /// A number.
    Number,
    /// `[CALL_ID]` and nine characters, which may be left out; nothing where there is no such token.
    CallId,
    /// The arguments.
    Arguments,
}

use CallPart::{Arguments, CallId, Name, Number, Quoted, Text};

const TAGGED: CallFrame = CallFrame {
    may_open: "",
    open: "",
    call: &[
        Text("<tool_call>\n{\"name\": "),
        Quoted,
        Text(", \"arguments\": "),
        Arguments,
        Text("}\n</tool_call>"),
    ],
    between: Some("\n"),
    close: "",
};

const BARE: CallFrame = CallFrame {
    may_open: "",
    open: "",
    call: &[Text("{\"name\": "), Quoted, Text(", \"parameters\": "), Arguments, Text("}")],
    between: Some("; "),
    close: "",
};

const LISTED: CallFrame = CallFrame {
    may_open: "",
    open: "[TOOL_CALLS][",
    call: &[Text("{\"name\": "), Quoted, Text(", \"arguments\": "), Arguments, Text("}")],
    between: Some(", "),
    close: "]",
};

const NAMED: CallFrame = CallFrame {
    may_open: "",
    open: "",
    call: &[Text("[TOOL_CALLS]"), Name, CallId, Text("[ARGS]"), Arguments],
    between: Some(""),
    close: "",
};

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
    let wanted: Vec<(usize, &Tool)> = match choice {
        ToolChoice::Auto | ToolChoice::None => return Ok(None),
        ToolChoice::Required => tools.iter().enumerate().collect(),
        ToolChoice::Named(name) => {
            tools.iter().enumerate().filter(|(_, tool)| &tool.name == name).collect()
        }
    };
    if wanted.is_empty() {
        let name = if let ToolChoice::Named(name) = choice { name.clone() } else { String::new() };
        return Err(Error::NoTool { name });
    }
    let frame = frame(vocabulary, format)?;
    let mut grammar = start(vocabulary, &frame, choice == &ToolChoice::Required);
    let names: Vec<String> = wanted.iter().map(|(i, _)| format!("call{i}")).collect();
    // Writing to a text cannot fail.
    let _ = writeln!(grammar, "call: {}", names.join(" | "));
    for (i, tool) in wanted {
        let call = call(vocabulary, frame.call, i, &tool.name);
        let schema = parameters(i, tool)?;
        let _ = writeln!(grammar, "call{i}: {call}\nargs{i}: %json {schema}");
    }
    check_size("list of tools", grammar.len())?;
    Matcher::of(vocabulary, Source::Lark(grammar)).map(Some)
}

fn frame(vocabulary: &Vocabulary, format: &CallFormat) -> Result<CallFrame> {
    match format {
        CallFormat::Tagged => Ok(TAGGED),
        CallFormat::Bare => Ok(BARE),
        CallFormat::Listed if vocabulary.control("[ARGS]").is_some() => Ok(NAMED),
        CallFormat::Listed => Ok(LISTED),
        CallFormat::Framed(frame) => Ok(*frame),
        CallFormat::Other(format) => Err(Error::CallFormat { format: format.clone() }),
    }
}

/// The rule for all calls; `more` if there may be more than one.
fn start(vocabulary: &Vocabulary, frame: &CallFrame, more: bool) -> String {
    let mut rule = String::from("start:");
    let text = |text: &str| literal(vocabulary, text);
    // Writing to a text cannot fail.
    let _ = match frame.may_open {
        "" => Ok(()),
        may_open => write!(rule, " ({})?", text(may_open)),
    };
    let _ = write!(rule, "{} call", text(frame.open));
    if let Some(between) = frame.between.filter(|_| more) {
        let _ = write!(rule, " ({} call)*", text(between));
    }
    rule + &text(frame.close) + "\n"
}

/// The rule for a call of one tool.
fn call(vocabulary: &Vocabulary, parts: &[CallPart], i: usize, name: &str) -> String {
    let part = |part: &CallPart| match part {
        Text(text) => literal(vocabulary, text),
        Name => format!(" {}", quoted(name)),
        Quoted => format!(" {}", quoted(&json!(name).to_string())),
        Number => " /[0-9]{1,4}/".to_owned(),
        CallId => match vocabulary.control("[CALL_ID]") {
            Some(id) => format!(" (<[{id}]> /[a-zA-Z0-9]{{9}}/)?"),
            None => String::new(),
        },
        Arguments => format!(" args{i}"),
    };
    parts.iter().map(part).collect()
}

/// A text in Lark's notation, each part behind a space: control tokens where there are any, strings
/// between them.
fn literal(vocabulary: &Vocabulary, text: &str) -> String {
    let mut rule = String::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text[at..].find(['<', '[']) {
        let begin = at + found;
        let end = text[begin..].find(['>', ']']).map(|end| begin + end + 1);
        let Some((end, id)) =
            end.and_then(|end| Some((end, vocabulary.control(&text[begin..end])?)))
        else {
            at = begin + 1;
            continue;
        };
        if plain < begin {
            rule += &format!(" {}", quoted(&text[plain..begin]));
        }
        rule += &format!(" <[{id}]>");
        (plain, at) = (end, end);
    }
    if plain < text.len() {
        rule += &format!(" {}", quoted(&text[plain..]));
    }
    rule
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
