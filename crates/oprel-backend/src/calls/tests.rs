//! Frames of calls: constraint and parser agree on them.

use oprel_api::{Tool, ToolCall, ToolChoice};
use oprel_chat::{Said, Spoken, ThinkSplitter, ThinkTags, ToolCallParser};
use oprel_constraint::{Vocabulary, tool_call_matcher};
use oprel_tokenizer::TokenizeOptions;
use serde_json::{Value, json};

use super::*;
use crate::ModelSource;
use crate::load::describe;

const FRAMED: &[ToolFormat] = &[
    ToolFormat::Harmony,
    ToolFormat::DeepSeek,
    ToolFormat::DeepSeekPlain,
    ToolFormat::Kimi,
    ToolFormat::ActionBlock,
    ToolFormat::Action,
    ToolFormat::ToolCallList,
    ToolFormat::ToolCallsList,
    ToolFormat::MarkedList,
    ToolFormat::Functools,
    ToolFormat::FunctionCall,
    ToolFormat::Keyed,
    ToolFormat::FunctionTag,
    ToolFormat::Recipient,
];

fn tool() -> Tool {
    let schema = json!({"type": "object", "properties": {"place": {"type": "string"}},
        "required": ["place"], "additionalProperties": false});
    Tool::new("weather", "", schema)
}

/// Two calls, or one where there may be but one, as the frame has them.
fn spelled(frame: &CallFrame, arguments: &Value) -> (String, usize) {
    let call: String = frame
        .call
        .iter()
        .map(|part| match part {
            Text(text) => (*text).to_owned(),
            Name => "weather".into(),
            Quoted => "\"weather\"".into(),
            Number => "0".into(),
            Arguments => arguments.to_string(),
            _ => String::new(),
        })
        .collect();
    match frame.between {
        Some(between) => (format!("{}{call}{between}{call}{}", frame.open, frame.close), 2),
        None => (format!("{}{call}{}", frame.open, frame.close), 1),
    }
}

/// The calls that are read from a text, and what else it says.
fn read(format: ToolFormat, text: &str) -> (Vec<ToolCall>, String) {
    let mut parser = ToolCallParser::new(format, &[tool()]);
    let mut spoken = Vec::new();
    let tags =
        ThinkTags::of("<|channel|>final<|message|>").filter(|_| format == ToolFormat::Harmony);
    match tags {
        Some(tags) => {
            for said in ThinkSplitter::behind(tags, "<|start|>assistant").push(text) {
                if let Said::Answer(text) = said {
                    spoken.extend(parser.push(&text));
                }
            }
        }
        None => spoken.extend(parser.push(text)),
    }
    spoken.extend(parser.finish());
    let (mut calls, mut rest) = (Vec::new(), String::new());
    for piece in spoken {
        match piece {
            Spoken::Call(call) => calls.push(call),
            Spoken::Text(text) => rest += &text,
        }
    }
    (calls, rest)
}

#[test]
fn what_a_frame_forces_is_read_as_calls() {
    let facts = describe(&ModelSource::Demo, None).unwrap().0;
    let vocabulary = Vocabulary::new(&facts.tokenizer, facts.n_vocab as usize).unwrap();
    let arguments = json!({"place": "São {x}"});
    for &format in FRAMED {
        let CallFormat::Framed(frame) = call_format(format) else { panic!("{format:?}") };
        let (text, n) = spelled(&frame, &arguments);
        let choice = ToolChoice::Required;
        let matcher = tool_call_matcher(&vocabulary, &call_format(format), &[tool()], &choice);
        let mut matcher = matcher.unwrap().unwrap();
        let options = TokenizeOptions { add_special: false, parse_special: true };
        for token in facts.tokenizer.tokenize(&text, options) {
            matcher.accept(token).unwrap_or_else(|error| panic!("{format:?} {text:?}: {error}"));
        }
        assert!(matcher.may_end().unwrap(), "{format:?}");
        let (calls, rest) = read(format, &text);
        assert_eq!((calls.len(), rest.as_str()), (n, ""), "{format:?} {text:?}");
        assert!(calls.iter().all(|call| call.arguments == arguments), "{format:?}");
    }
}

#[test]
fn what_is_certain_is_no_prose() {
    assert_eq!(certain_opens(ToolFormat::Tagged), ["<tool_call>"]);
    assert!(certain_opens(ToolFormat::ActionBlock).is_empty());
    assert!(certain_opens(ToolFormat::Bare).is_empty());
    assert_eq!(opens(ToolFormat::Bare)[0], "<|python_tag|>");
}

#[test]
fn formats_without_json_have_a_name_only() {
    let refused = CallFormat::Other("ParameterTags".into());
    assert_eq!(call_format(ToolFormat::ParameterTags), refused);
}
