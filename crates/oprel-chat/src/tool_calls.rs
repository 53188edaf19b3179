//! Finds calls of tools in what a model writes.

use crate::thinking::begun_at_end;
use oprel_api::ToolCall;
use serde_json::{Value, json};

/// Longest call that is waited for; more than that is text.
const MOST_BYTES: usize = 1 << 18;

/// How a model writes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolFormat {
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>`: Hermes, Qwen and many more.
    Tagged,
    /// `{"name": .., "parameters": ..}` and nothing else, perhaps behind `<|python_tag|>`: Llama 3.
    Bare,
    /// `[TOOL_CALLS][{"name": .., "arguments": ..}]`, or `[TOOL_CALLS]name[ARGS]{..}`: Mistral.
    Listed,
}

/// A piece of what a model writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Spoken {
    /// Text of the answer.
    Text(String),
    /// A call, whole.
    Call(ToolCall),
}

impl ToolFormat {
    /// The format that a template shows, `None` if it shows none that is known.
    pub fn of(template: &str) -> Option<ToolFormat> {
        let has = |text| template.contains(text);
        // Some write the call as XML, inside of the same tags.
        let xml = ["<function=", "<arg_key>", "<invoke"].into_iter().any(has);
        if has("[TOOL_CALLS]") {
            Some(ToolFormat::Listed)
        } else if has("<tool_call>") {
            (!xml).then_some(ToolFormat::Tagged)
        } else if has("<|python_tag|>") || has("\"parameters\": dictionary") {
            (!xml).then_some(ToolFormat::Bare)
        } else {
            None
        }
    }

    fn marker(self) -> &'static str {
        match self {
            ToolFormat::Tagged => "<tool_call>",
            ToolFormat::Bare => "<|python_tag|>",
            ToolFormat::Listed => "[TOOL_CALLS]",
        }
    }
}

/// Finds calls in a stream of text, which may be cut anywhere. What looks like a call and is none
/// comes out as text: nothing is lost.
#[derive(Clone, Debug)]
pub struct ToolCallParser {
    format: ToolFormat,
    /// Names of the tools; a call of another is text.
    tools: Vec<String>,
    held: String,
    /// The space and marker before the call in `held`; `None` outside of calls.
    announced: Option<String>,
    /// Whether anything but space and calls was written before.
    begun: bool,
    /// Whether a call was found before.
    called: bool,
}

/// What can be said of the text behind a marker.
enum Found {
    /// Calls, and how many bytes they take.
    Calls(Vec<ToolCall>, usize),
    /// It may yet become one.
    Unfinished,
    /// It is none.
    Nothing,
}

impl ToolCallParser {
    /// A parser for calls of these tools.
    pub fn new(format: ToolFormat, tools: impl IntoIterator<Item = String>) -> ToolCallParser {
        let tools = tools.into_iter().collect();
        let held = String::new();
        ToolCallParser { format, tools, held, announced: None, begun: false, called: false }
    }

    /// Takes a piece of text, gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Spoken> {
        self.held.push_str(text);
        let mut out = Vec::new();
        while self.step(&mut out) {}
        out
    }

    /// Gives what is left when nothing more comes.
    pub fn finish(mut self) -> Vec<Spoken> {
        let mut out = Vec::new();
        let announced = self.announced.take().unwrap_or_default();
        self.text(announced, &mut out);
        let rest = std::mem::take(&mut self.held);
        self.text(rest, &mut out);
        out
    }

    fn text(&mut self, text: String, out: &mut Vec<Spoken>) {
        if text.is_empty() {
            return;
        }
        self.begun |= !text.trim().is_empty();
        match out.last_mut() {
            Some(Spoken::Text(last)) => last.push_str(&text),
            _ => out.push(Spoken::Text(text)),
        }
    }

    fn step(&mut self, out: &mut Vec<Spoken>) -> bool {
        if self.announced.is_some() { self.read_call(out) } else { self.look_for_call(out) }
    }

    fn look_for_call(&mut self, out: &mut Vec<Spoken>) -> bool {
        let marker = self.format.marker();
        if let Some(at) = self.held.find(marker) {
            let said = self.held[..at].trim_end().len();
            let before = self.held.drain(..said).collect();
            self.announced = Some(self.held.drain(..at - said + marker.len()).collect());
            self.text(before, out);
            return true;
        }
        if self.format == ToolFormat::Bare && !self.begun {
            let between = |c: char| c.is_whitespace() || (self.called && c == ';');
            let start = self.held.len() - self.held.trim_start_matches(between).len();
            if self.held[start..].starts_with('{') {
                self.announced = Some(self.held.drain(..start).collect());
                return true;
            }
            if start == self.held.len() {
                return false;
            }
        }
        // Space before a call is nobody's, so it waits for what comes.
        let sure = self.held.len() - begun_at_end(&self.held, marker);
        let sure = self.held[..sure].trim_end().len();
        let text: String = self.held.drain(..sure).collect();
        self.text(text, out);
        false
    }

    fn read_call(&mut self, out: &mut Vec<Spoken>) -> bool {
        let body = self.held.as_str();
        let found = match self.format {
            _ if body.len() > MOST_BYTES => Found::Nothing,
            ToolFormat::Tagged => self.tagged(body),
            ToolFormat::Bare => self.bare(body),
            ToolFormat::Listed => self.listed(body),
        };
        match found {
            Found::Unfinished => false,
            Found::Calls(calls, used) => {
                out.extend(calls.into_iter().map(Spoken::Call));
                self.held.drain(..used);
                self.announced = None;
                self.called = true;
                true
            }
            Found::Nothing => {
                // What announced it is text; what follows may hold another marker.
                let announced = self.announced.take().unwrap_or_default();
                self.text(announced, out);
                self.begun = true;
                !self.held.is_empty()
            }
        }
    }

    fn tagged(&self, body: &str) -> Found {
        const CLOSE: &str = "</tool_call>";
        let Some((value, used)) = first_json(body) else {
            // A closing tag may stand in a string, so it does not tell.
            return if may_be_json(body) { Found::Unfinished } else { Found::Nothing };
        };
        let Some(call) = self.call(&value) else { return Found::Nothing };
        let rest = body[used..].trim_start();
        let space = body.len() - used - rest.len();
        if rest.starts_with(CLOSE) {
            return Found::Calls(vec![call], used + space + CLOSE.len());
        }
        // The closing tag may be still to come, or be left out.
        if CLOSE.starts_with(rest) { Found::Unfinished } else { Found::Calls(vec![call], used) }
    }

    fn bare(&self, body: &str) -> Found {
        match first_json(body) {
            Some((value, used)) => match self.call(&value) {
                Some(call) => Found::Calls(vec![call], used),
                None => Found::Nothing,
            },
            None if may_be_json(body) => Found::Unfinished,
            None => Found::Nothing,
        }
    }

    fn listed(&self, body: &str) -> Found {
        let begun = body.trim_start();
        let space = body.len() - begun.len();
        if begun.is_empty() {
            return Found::Unfinished;
        }
        if begun.starts_with(['[', '{']) {
            return match first_json(begun) {
                Some((value, used)) => {
                    let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                    let calls: Option<Vec<_>> = values.iter().map(|v| self.call(v)).collect();
                    match calls.filter(|calls| !calls.is_empty()) {
                        Some(calls) => Found::Calls(calls, space + used),
                        None => Found::Nothing,
                    }
                }
                None if may_be_json(begun) => Found::Unfinished,
                None => Found::Nothing,
            };
        }
        let Some(at) = begun.find('{') else {
            return if begun.len() < 256 { Found::Unfinished } else { Found::Nothing };
        };
        let name = begun[..at].trim();
        let name = name.split("[CALL_ID]").next().unwrap_or(name).trim_end_matches("[ARGS]");
        match first_json(&begun[at..]) {
            Some((arguments, used)) => {
                match self.call(&json!({"name": name, "arguments": arguments})) {
                    Some(call) => Found::Calls(vec![call], space + at + used),
                    None => Found::Nothing,
                }
            }
            None if may_be_json(&begun[at..]) => Found::Unfinished,
            None => Found::Nothing,
        }
    }

    /// The call that an object says, if it is one of a tool that exists.
    fn call(&self, value: &Value) -> Option<ToolCall> {
        let name = value.get("name")?.as_str()?;
        if !self.tools.iter().any(|tool| tool == name) {
            return None;
        }
        let arguments = value.get("arguments").or_else(|| value.get("parameters"));
        let arguments = match arguments {
            None | Some(Value::Null) => json!({}),
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            Some(other) => other.clone(),
        };
        let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
        arguments.is_object().then(|| ToolCall { id, name: name.to_owned(), arguments })
    }
}

/// The JSON value that a text begins with, and how many bytes it takes.
fn first_json(text: &str) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let closed = value.is_object() || value.is_array();
    closed.then(|| (value, values.byte_offset()))
}

/// Whether more text could make it JSON.
fn may_be_json(text: &str) -> bool {
    if text.trim().is_empty() {
        return true;
    }
    match serde_json::Deserializer::from_str(text).into_iter::<Value>().next() {
        Some(Err(error)) => error.is_eof(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and calls of a text that comes in pieces of so many characters.
    fn parse(format: ToolFormat, text: &str, size: usize) -> (String, Vec<(String, Value)>) {
        let mut parser = ToolCallParser::new(format, ["f".to_owned(), "g".to_owned()]);
        let chars: Vec<char> = text.chars().collect();
        let mut spoken = Vec::new();
        for piece in chars.chunks(size) {
            spoken.extend(parser.push(&piece.iter().collect::<String>()));
        }
        spoken.extend(parser.finish());
        let (mut said, mut calls) = (String::new(), Vec::new());
        for piece in spoken {
            match piece {
                Spoken::Text(text) => said += &text,
                Spoken::Call(call) => calls.push((call.name, call.arguments)),
            }
        }
        (said, calls)
    }

    fn check(format: ToolFormat, text: &str, said: &str, calls: &[(&str, Value)]) {
        let calls: Vec<_> = calls.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
        for size in 1..=text.chars().count().max(1) {
            let parsed = parse(format, text, size);
            assert_eq!(parsed, (said.to_owned(), calls.clone()), "{text:?} by {size}");
        }
    }

    #[test]
    fn tagged_calls_are_found_between_texts() {
        let text = "Let me look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"q\": \
                    \"</tool_call>\"}}\n</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>";
        let calls = [("f", json!({"q": "</tool_call>"})), ("g", json!({}))];
        check(ToolFormat::Tagged, text, "Let me look.", &calls);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "a <tool_call>oops</tool_call> b",
            "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"argum",
            "a < b and <tool",
        ] {
            check(ToolFormat::Tagged, text, text, &[]);
        }
        for text in ["{\"a\": 1}", "{not json", "so {\"name\": \"f\", \"parameters\": {}}"] {
            check(ToolFormat::Bare, text, text, &[]);
        }
        check(ToolFormat::Listed, "[TOOL_CALLS][1]", "[TOOL_CALLS][1]", &[]);
    }

    #[test]
    fn a_bare_call_is_found_at_the_start_only() {
        let call = "{\"name\": \"f\", \"parameters\": {\"x\": [1, {\"y\": 2}]}}";
        let calls = [("f", json!({"x": [1, {"y": 2}]}))];
        check(ToolFormat::Bare, call, "", &calls);
        check(ToolFormat::Bare, &format!("\n<|python_tag|>{call}"), "", &calls);
        let two = format!("{call}; {call}");
        check(ToolFormat::Bare, &two, "", &[calls[0].clone(), calls[0].clone()]);
    }

    #[test]
    fn listed_calls_are_found_in_both_shapes() {
        let calls = [("f", json!({"a": "é"})), ("g", json!({}))];
        let list = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": \"é\"}}, \
                    {\"name\": \"g\", \"arguments\": {}}]";
        check(ToolFormat::Listed, list, "", &calls);
        let named = "[TOOL_CALLS]f[ARGS]{\"a\": \"é\"}[TOOL_CALLS]g{}";
        check(ToolFormat::Listed, named, "", &calls);
    }

    #[test]
    fn the_format_comes_from_the_template() {
        assert_eq!(ToolFormat::of("... <tool_call>\\n ..."), Some(ToolFormat::Tagged));
        assert_eq!(ToolFormat::of("<tool_call><function=f>"), None);
        assert_eq!(ToolFormat::of("{{ '[TOOL_CALLS]' }}"), Some(ToolFormat::Listed));
        assert_eq!(ToolFormat::of("{{ '<|python_tag|>' }}"), Some(ToolFormat::Bare));
        assert_eq!(ToolFormat::of("plain"), None);
    }

    #[test]
    fn text_is_not_held_back() {
        let mut parser = ToolCallParser::new(ToolFormat::Tagged, ["f".to_owned()]);
        assert_eq!(parser.push("Hello"), [Spoken::Text("Hello".into())]);
        assert_eq!(parser.push(" <"), []);
        assert_eq!(parser.push("b>"), [Spoken::Text(" <b>".into())]);
    }
}
