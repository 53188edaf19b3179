//! Templates of model families, where they are at hand: each shows its format of calls, and what it
//! writes for a call is read back as that call.
//!
//! `OPREL_TEMPLATES` names a folder of `*.jinja`, such as llama.cpp's `models/templates`.

use oprel_api::{Tool, ToolCall};
use oprel_chat::{
    Capabilities, ChatTemplate, LocalTime, RenderInput, Said, SpecialTokens, Spoken, ThinkSplitter,
    ToolCallParser, ToolFormat,
};
use serde_json::{Value, json};
use std::path::Path;

const ANSWER: &str = "oprel_answer_5f2c";

fn tool() -> Tool {
    let properties = json!({
        "city": {"type": "string", "description": "d"},
        "days": {"type": "integer", "description": "d"},
        "exact": {"type": "boolean", "description": "d"},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "d"},
        "more": {"type": "object", "properties": {"k": {"type": "number"}}, "description": "d"}});
    let schema = json!({"type": "object", "properties": properties, "required": ["city"]});
    Tool::new("get_weather", "Tells the weather.", schema)
}

fn arguments() -> Value {
    json!({"city": "São \"P\" <b>, {x}\n it's", "days": 3, "exact": true, "tags": ["p", "q r"],
        "more": {"k": 1.5}})
}

/// The assistant's message as a template writes it behind a question.
fn rendered(template: &ChatTemplate, message: Value) -> Result<String, oprel_chat::Error> {
    let messages = [json!({"role": "user", "content": "How is the weather?"}), message];
    let tools = [tool().to_json()];
    template.render(&RenderInput {
        tools: Some(&tools),
        add_generation_prompt: false,
        ..RenderInput::new(&messages, LocalTime::utc(0))
    })
}

/// What the template writes for a call, from where it would write an answer.
fn written(template: &ChatTemplate, arguments: Value) -> Result<String, oprel_chat::Error> {
    let call = json!({"id": "abcdef123", "type": "function",
        "function": {"name": "get_weather", "arguments": arguments}});
    let called = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let called = rendered(template, called)?;
    let answered = rendered(template, json!({"role": "assistant", "content": ANSWER}))?;
    let same = called.chars().zip(answered.chars()).take_while(|(a, b)| a == b);
    let same: usize = same.map(|(c, _)| c.len_utf8()).sum();
    // A mark may begin as what stands before an answer does.
    let begun = called[..same]
        .rfind(['<', '['])
        .filter(|at| same - at < 12 && !called[*at..same].contains(['>', ']', '\n']));
    Ok(called[begun.unwrap_or(same)..].to_owned())
}

fn read_back(
    can: &Capabilities,
    format: ToolFormat,
    text: &str,
    size: usize,
) -> (String, Vec<ToolCall>) {
    let mut splitter =
        can.think_tags.clone().map(|tags| ThinkSplitter::new(tags, "<|start|>assistant"));
    let mut parser = ToolCallParser::new(format, &[tool()]);
    let (mut said, mut calls) = (String::new(), Vec::new());
    let mut take = |spoken: Vec<Spoken>| {
        for piece in spoken {
            match piece {
                Spoken::Text(text) => said += &text,
                Spoken::Call(call) => calls.push(call),
            }
        }
    };
    let answers = |said: Vec<Said>| {
        said.into_iter().filter_map(|said| match said {
            Said::Answer(text) => Some(text),
            Said::Thinking(_) => None,
        })
    };
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(size) {
        let piece: String = piece.iter().collect();
        match &mut splitter {
            Some(splitter) => {
                answers(splitter.push(&piece)).for_each(|text| take(parser.push(&text)))
            }
            None => take(parser.push(&piece)),
        }
    }
    if let Some(splitter) = splitter {
        answers(splitter.finish()).for_each(|text| take(parser.push(&text)));
    }
    take(parser.finish());
    (said, calls)
}

/// What became of a template's own call.
fn round_trip(template: &ChatTemplate) -> (Option<ToolFormat>, String, bool) {
    let can = Capabilities::of(template);
    let Some(format) = ToolFormat::of(template.source()) else {
        return (None, String::new(), true);
    };
    let text = match written(template, arguments()) {
        Ok(text) => text,
        // Some take arguments as texts only.
        Err(first) => match written(template, json!(arguments().to_string())) {
            Ok(text) => text,
            Err(_) => return (Some(format), first.to_string(), true),
        },
    };
    if !text.contains("get_weather") {
        return (Some(format), "writes no calls".into(), true);
    }
    for size in [1, 5, text.len()] {
        let (said, calls) = read_back(&can, format, &text, size);
        let fits = matches!(&calls[..], [call] if call.arguments == arguments());
        if !fits {
            return (Some(format), format!("{text:?} was read as {calls:?} and {said:?}"), false);
        }
    }
    (Some(format), "read back".into(), true)
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
        let (format, outcome, fits) = round_trip(&template);
        let tags = can.think_tags.map(|tags| tags.open).unwrap_or_default();
        println!("| {name} | {} | {format:?} | {tags:?} | {outcome} |", can.tools);
        if !fits {
            failed.push(name.into_owned());
        }
    }
    assert!(failed.is_empty(), "not read back: {failed:?}");
}
