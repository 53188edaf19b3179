//! Templates of model families, where they are at hand: each shows its format of calls, and what it
//! writes for a call is read back as that call.
//!
//! `OPREL_TEMPLATES` names a folder of `*.jinja`, such as llama.cpp's `models/templates`.

use oprel_api::{Tool, ToolCall};
use oprel_chat::{
    Capabilities, ChatTemplate, Error, LocalTime, RenderInput, Said, SpecialTokens, Spoken,
    ThinkSplitter, ToolCallParser, ToolFormat,
};
use serde_json::{Value, json};
use std::path::Path;

const ANSWER: &str = "oprel_answer_5f2c";
const THOUGHT: &str = "oprel_thought_5f2c";

/// The tool; some templates fail on what is not a plain value.
fn tool(plain: bool) -> Tool {
    let mut properties = json!({
        "city": {"type": "string", "description": "d"},
        "days": {"type": "integer", "description": "d"},
        "exact": {"type": "boolean", "description": "d"},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "d"},
        "more": {"type": "object", "properties": {"k": {"type": "number"}}, "description": "d"}});
    if plain {
        properties = json!({"city": {"type": "string", "description": "d"}});
    }
    let schema = json!({"type": "object", "properties": properties, "required": ["city"]});
    Tool::new("get_weather", "Tells the weather.", schema)
}

fn arguments(plain: bool) -> Value {
    if plain {
        return json!({"city": "São \"P\" <b>"});
    }
    json!({"city": "São \"P\" <b>, {x}\n it's", "days": 3, "exact": true, "tags": ["p", "q r"],
        "more": {"k": 1.5}})
}

/// The assistant's message as a template writes it behind a question.
fn rendered(template: &ChatTemplate, message: Value, plain: bool) -> Result<String, Error> {
    let messages = [json!({"role": "user", "content": "How is the weather?"}), message];
    let tools = [tool(plain).to_json()];
    template.render(&RenderInput {
        tools: Some(&tools),
        add_generation_prompt: false,
        ..RenderInput::new(&messages, LocalTime::utc(0))
    })
}

/// What stands before an answer, and what the template writes for a call in its place.
fn written(template: &ChatTemplate, how: How) -> Result<(String, String), Error> {
    let mut arguments = arguments(how.plain);
    if how.as_text {
        arguments = json!(arguments.to_string());
    }
    let call = json!({"id": "abcdef123", "type": "function",
        "function": {"name": "get_weather", "arguments": arguments}});
    let mut called = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    if how.thinks {
        for key in ["reasoning_content", "thinking", "reasoning"] {
            called[key] = json!(THOUGHT);
        }
    }
    let called = rendered(template, called, how.plain)?;
    let answer = json!({"role": "assistant", "content": ANSWER});
    let answered = rendered(template, answer, how.plain)?;
    let same = called.chars().zip(answered.chars()).take_while(|(a, b)| a == b);
    let mut same: usize = same.map(|(c, _)| c.len_utf8()).sum();
    // A mark may begin as what stands before an answer does, or be whole before both.
    let within = |at: &usize| {
        let begun = called[*at..same].trim_end();
        same - at < 14 && !begun[..begun.len() - 1].contains(['>', ']', '\n'])
    };
    same = called[..same].rfind(['<', '[']).filter(within).unwrap_or(same);
    Ok((called[..same].to_owned(), called[same..].to_owned()))
}

#[derive(Clone, Copy, Debug)]
struct How {
    plain: bool,
    /// Arguments are a text.
    as_text: bool,
    thinks: bool,
}

#[derive(Debug, Default)]
struct Heard {
    thought: String,
    said: String,
    calls: Vec<ToolCall>,
}

impl Heard {
    fn speak(&mut self, spoken: Vec<Spoken>) {
        for piece in spoken {
            match piece {
                Spoken::Text(text) => self.said += &text,
                Spoken::Call(call) => self.calls.push(call),
            }
        }
    }

    fn hear(&mut self, said: Vec<Said>, parser: &mut ToolCallParser) {
        for piece in said {
            match piece {
                Said::Thinking(text) => self.thought += &text,
                Said::Answer(text) => self.speak(parser.push(&text)),
            }
        }
    }
}

/// What is heard of a text behind a prompt, in pieces of so many characters.
fn heard(can: &Capabilities, format: ToolFormat, prompt: &str, text: &str, size: usize) -> Heard {
    let mut splitter = can.think_tags.clone().map(|tags| ThinkSplitter::behind(tags, prompt));
    let mut parser = ToolCallParser::new(format, &[tool(false)]);
    let mut heard = Heard::default();
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(size) {
        let piece: String = piece.iter().collect();
        match &mut splitter {
            Some(splitter) => heard.hear(splitter.push(&piece), &mut parser),
            None => heard.speak(parser.push(&piece)),
        }
    }
    if let Some(splitter) = splitter {
        heard.hear(splitter.finish(), &mut parser);
    }
    heard.speak(parser.finish());
    heard
}

/// What became of a template's own call, and whether that is well.
fn round_trip(template: &ChatTemplate, thinks: bool) -> (String, bool) {
    let can = Capabilities::of(template);
    let Some(format) = ToolFormat::of(template.source()) else {
        return (String::from("no format"), true);
    };
    let mut failed = None;
    for (plain, as_text) in [(false, false), (true, false), (false, true)] {
        let (prompt, text) = match written(template, How { plain, as_text, thinks }) {
            Ok(written) => written,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        if !text.contains("get_weather") || (thinks && !text.contains(THOUGHT)) {
            return ("not written".into(), true);
        }
        for size in [1, 5, text.len()] {
            let heard = heard(&can, format, &prompt, &text, size);
            let called = matches!(&heard.calls[..], [call] if call.arguments == arguments(plain));
            let thought = can.think_tags.is_none() || !thinks || heard.thought.trim() == THOUGHT;
            if !called || !thought {
                return (format!("{text:?} was read as {heard:?}"), false);
            }
        }
        return ("read back".into(), true);
    }
    (failed.map(|error| error.to_string()).unwrap_or_default(), true)
}

#[test]
fn what_templates_write_is_read_back() {
    let Some(folder) = std::env::var_os("OPREL_TEMPLATES") else {
        eprintln!("skipped: OPREL_TEMPLATES names no folder of templates");
        return;
    };
    let files = std::fs::read_dir(Path::new(&folder)).expect("OPREL_TEMPLATES is a folder");
    let mut paths: Vec<_> = files.map(|file| file.expect("it can be read").path()).collect();
    paths.sort();
    let mut failed = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "jinja")) {
        let source = std::fs::read_to_string(path).expect("a template is text");
        let special = SpecialTokens {
            bos: Some("<s>".into()),
            eos: Some("</s>".into()),
            ..SpecialTokens::default()
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let template = ChatTemplate::compile(&source, special).expect("it compiles");
        let can = Capabilities::of(&template);
        let (calls, called) = round_trip(&template, false);
        let (thinking, thought) = match &can.think_tags {
            Some(_) => round_trip(&template, true),
            None => (String::new(), true),
        };
        let format = ToolFormat::of(&source).map(|format| format!("{format:?}"));
        let format = format.unwrap_or_default();
        let tags = can.think_tags.map(|tags| tags.open).unwrap_or_default();
        println!("| {name} | {} | {format} | {calls} | {tags:?} | {thinking} |", can.tools);
        if !called || !thought {
            failed.push(name.into_owned());
        }
    }
    assert!(failed.is_empty(), "not read back: {failed:?}");
}
