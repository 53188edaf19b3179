//! Messages, tools and texts as OpenAI's protocol writes them. Keys that a client made up are not passed on.

use std::collections::VecDeque;

use oprel_api::{Content, Failure, Message, Part, Prompt, Role, Tool, ToolCall, ToolChoice};
use serde_json::{Map, Value, json};

use crate::Profile;
use crate::knobs::unsupported;

/// A prompt for a template as the conversation that it is: messages of system and user.
pub(crate) fn messages_of(prompt: &Prompt) -> Vec<Message> {
    let system = prompt.system.as_deref().map(Message::system);
    system.into_iter().chain([Message::user(prompt.text.as_str())]).collect()
}

/// Messages of a conversation. The protocol wants an id of every call, and of every result the id of its call:
/// where a client has none, results are those of the open calls in their order, of one name if they say it.
pub(crate) fn messages(profile: &Profile, all: &[Message]) -> Result<Value, Failure> {
    let (mut open, mut written) = (Open::new(), Vec::with_capacity(all.len()));
    for (at, one) in all.iter().enumerate() {
        written.push(message(profile, one, at, &mut open)?);
    }
    Ok(Value::Array(written))
}

/// Ids and names of calls that have no result yet.
type Open = VecDeque<(String, String)>;

fn message(
    profile: &Profile,
    message: &Message,
    at: usize,
    open: &mut Open,
) -> Result<Value, Failure> {
    let mut written = Map::new();
    written.insert("role".into(), json!(message.role.as_str()));
    written.insert("content".into(), content(profile, &message.content)?);
    if let Some(thought) = &message.thinking {
        written.insert(profile.thought.into(), json!(thought));
    }
    if !message.tool_calls.is_empty() {
        open.clear();
        let calls = message.tool_calls.iter().enumerate().map(|(i, one)| {
            let id = one.id.clone().unwrap_or_else(|| format!("call_{at}_{i}"));
            open.push_back((id.clone(), one.name.clone()));
            call(&id, one)
        });
        written.insert("tool_calls".into(), Value::Array(calls.collect()));
    }
    if let Some(name) = &message.name {
        written.insert("name".into(), json!(name));
    }
    if message.role == Role::Tool {
        let id = message.tool_call_id.clone().or_else(|| result_of(message, open));
        let id = id.unwrap_or_else(|| format!("call_{at}"));
        open.retain(|(call, _)| *call != id);
        written.insert("tool_call_id".into(), json!(id));
    }
    Ok(Value::Object(written))
}

fn content(profile: &Profile, content: &Content) -> Result<Value, Failure> {
    match content {
        Content::None => Ok(Value::Null),
        Content::Text(text) => Ok(json!(text)),
        Content::Parts(parts) => {
            let text = |part: &Part| match part {
                Part::Text(text) => Ok(json!({"type": "text", "text": text})),
                Part::Image(_) => Err(unsupported(profile, "images")),
                Part::Audio(_) => Err(unsupported(profile, "audio")),
                _ => Err(unsupported(profile, "messages.content")),
            };
            parts.iter().map(text).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
    }
}

/// The open call whose result a message is.
fn result_of(message: &Message, open: &Open) -> Option<String> {
    let named = open.iter().find(|(_, name)| message.name.as_ref() == Some(name));
    named.or(open.front()).map(|(id, _)| id.clone())
}

/// A call; the protocol wants its arguments as a text.
fn call(id: &str, call: &ToolCall) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments_text()});
    json!({"id": id, "type": "function", "function": function})
}

/// Tools.
pub(crate) fn tools(all: &[Tool]) -> Value {
    let tool = |tool: &Tool| {
        let mut function = Map::new();
        function.insert("name".into(), json!(tool.name));
        let description = tool.description.as_ref().map(|d| ("description".into(), json!(d)));
        function.extend(description);
        function.extend(tool.parameters.as_ref().map(|p| ("parameters".into(), p.clone())));
        let strict = tool.extra.get("strict").filter(|strict| strict.is_boolean());
        function.extend(strict.map(|strict| ("strict".into(), strict.clone())));
        json!({"type": "function", "function": function})
    };
    Value::Array(all.iter().map(tool).collect())
}

/// The choice among them.
pub(crate) fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    }
}

/// A regular expression for one of these texts.
pub(crate) fn alternatives(texts: &[String]) -> String {
    let escaped = |text: &String| {
        let mut plain = String::new();
        for c in text.chars() {
            if c.is_ascii_punctuation() {
                plain.push('\\');
            }
            plain.push(c);
        }
        plain
    };
    format!("({})", texts.iter().map(escaped).collect::<Vec<_>>().join("|"))
}

/// A GBNF grammar for one of these texts.
pub(crate) fn rules(texts: &[String]) -> String {
    let quoted = |text: &String| {
        let mut literal = String::from('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => literal.extend(['\\', c]),
                '\n' => literal.push_str("\\n"),
                '\r' => literal.push_str("\\r"),
                '\t' => literal.push_str("\\t"),
                c if c.is_control() => literal.push_str(&format!("\\U{:08X}", c as u32)),
                c => literal.push(c),
            }
        }
        literal.push('"');
        literal
    };
    format!("root ::= {}\n", texts.iter().map(quoted).collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oprel_api::Constraint;
    use oprel_constraint::Verifier;

    #[test]
    fn results_find_their_calls() {
        let calls = |names: &[&str]| Message {
            tool_calls: names.iter().map(|name| ToolCall::new(*name, json!({}))).collect(),
            ..Message::assistant("")
        };
        let named = |name: &str, text: &str| Message::tool(name, text);
        let bare = |text: &str| Message { name: None, ..Message::tool("", text) };
        let all = [
            calls(&["f", "g", "f"]),
            named("g", "1"),
            named("f", "2"),
            named("f", "3"),
            calls(&["f", "g"]),
            bare("4"),
            bare("5"),
            bare("nobody's"),
        ];
        let profile = Profile::named("vllm").unwrap();
        let written = messages(profile, &all).unwrap();
        let ids: Vec<_> =
            written.as_array().unwrap().iter().filter_map(|m| m["tool_call_id"].as_str()).collect();
        assert_eq!(ids, ["call_0_1", "call_0_0", "call_0_2", "call_4_0", "call_4_1", "call_7"]);
        assert_eq!(written[4]["tool_calls"][1]["id"], "call_4_1");
    }

    #[test]
    fn choices_as_expressions_and_rules_mean_the_same() {
        let texts = ["a.b|c".to_string(), "say \"no\"\n\\".into(), "(ü)\t#".into()];
        let regex = Verifier::new(&Constraint::Regex(alternatives(&texts))).unwrap();
        let syntax = oprel_api::GrammarSyntax::Gbnf;
        let gbnf = Verifier::new(&Constraint::Grammar { syntax, text: rules(&texts) }).unwrap();
        for text in &texts {
            assert_eq!((regex.verify(text), gbnf.verify(text)), (Ok(()), Ok(())), "{text:?}");
        }
        assert!(regex.verify("axb|c").is_err() && gbnf.verify("a.b").is_err());
    }
}
