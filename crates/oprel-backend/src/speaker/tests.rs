//! What a speaker says of tokens, with the vocabulary and the template of the demo model.

use std::sync::LazyLock;

use oprel_api::{Answer, Message, Tool};
use oprel_chat::{Capabilities, ToolFormat};
use oprel_tokenizer::TokenizeOptions;
use serde_json::json;

use super::*;
use crate::ModelSource;
use crate::load::describe;

static FACTS: LazyLock<Facts> = LazyLock::new(|| describe(&ModelSource::Demo, None).unwrap().0);

fn stopping(stop: &[&str]) -> Request {
    Request { stop: stop.iter().map(|s| s.to_string()).collect(), ..Request::raw("x") }
}

/// All that is said of a text, until it ends or is stopped.
fn events(request: &Request, rendered: Option<&str>, text: &str) -> Vec<Event> {
    let options = TokenizeOptions { add_special: false, parse_special: true };
    let ids = FACTS.tokenizer.tokenize(text, options);
    let mut speaker = Speaker::new(&FACTS, request, rendered);
    let mut events = Vec::new();
    for id in ids {
        let token = Sampled { id, ..Sampled::default() };
        if let After::Stopped(reason) = speaker.token(token, &mut events) {
            speaker.end(reason, Usage::default(), &mut events);
            return events;
        }
    }
    speaker.end(EndReason::EndOfText, Usage::default(), &mut events);
    events
}

fn said(request: &Request, rendered: Option<&str>, text: &str) -> Answer {
    Answer::fold(events(request, rendered, text)).unwrap()
}

#[test]
fn a_stop_text_is_found_wherever_tokens_cut_it() {
    let text = "One two three, four five six seven.";
    for (from, _) in text.char_indices() {
        for to in (from + 1..text.len()).step_by(3) {
            let stop = &text[from..to];
            let answer = said(&stopping(&[stop]), None, text);
            assert_eq!(answer.text, text[..text.find(stop).unwrap()], "{stop:?}");
            assert_eq!(answer.end, Some(EndReason::StopText(stop.into())));
        }
    }
}

#[test]
fn no_piece_holds_part_of_a_stop_text() {
    for event in events(&stopping(&["four five"]), None, "One four four fi four five six") {
        if let Event::Text(piece) = event {
            assert!(!piece.text.ends_with("four f"), "{piece:?}");
        }
    }
}

#[test]
fn what_was_held_back_is_said_at_the_end() {
    let answer = said(&stopping(&["seven!"]), None, "five six seven");
    assert_eq!((answer.text.as_str(), answer.end), ("five six seven", Some(EndReason::EndOfText)));
}

#[test]
fn the_first_of_several_stop_texts_wins() {
    let answer = said(&stopping(&["six", "two", "five"]), None, "One two three, five six");
    assert_eq!(
        (answer.text.as_str(), answer.end),
        ("One ", Some(EndReason::StopText("two".into())))
    );
}

#[test]
fn a_stop_text_before_the_fewest_tokens_is_text() {
    let text = "one two three, one two three, one two three";
    let n = FACTS.tokenizer.tokenize("one two three,", TokenizeOptions::default()).len();
    let mut request = stopping(&["two"]);
    assert_eq!(said(&request, None, text).text, "one ");
    request.limits.min_tokens = n as u32;
    assert_eq!(said(&request, None, text).text, "one two three, one ");
}

#[test]
fn every_token_is_told_of_once() {
    let options = TokenizeOptions { add_special: false, parse_special: true };
    for (stop, text) in [(vec![], "é 漢字 🦀 x"), (vec!["zzz"], "fizz zz z"), (vec![], "")] {
        let ids: Vec<u32> =
            said(&stopping(&stop), None, text).tokens.iter().map(|t| t.id).collect();
        assert_eq!(ids, FACTS.tokenizer.tokenize(text, options), "{text:?}");
    }
}

#[test]
fn characters_are_never_cut() {
    let text = "naïve 漢字 🦀🦀 é";
    for event in events(&stopping(&["zz"]), None, text) {
        if let Event::Text(piece) = event {
            assert!(!piece.text.contains('\u{FFFD}'), "{piece:?}");
        }
    }
    assert_eq!(said(&stopping(&[]), None, text).text, text);
}

#[test]
fn a_character_that_never_ends_is_shown_as_such() {
    let crab = FACTS.tokenizer.tokenize("🦀", TokenizeOptions::default());
    assert!(crab.len() > 1, "the vocabulary spells it in bytes");
    let mut speaker = Speaker::new(&FACTS, &stopping(&["zz"]), None);
    let mut events = Vec::new();
    let word = FACTS.tokenizer.tokenize("word", TokenizeOptions::default());
    for id in word.into_iter().chain([crab[0]]) {
        speaker.token(Sampled { id, ..Sampled::default() }, &mut events);
    }
    speaker.end(EndReason::MaxTokens, Usage::default(), &mut events);
    assert_eq!(Answer::fold(events).unwrap().text, "word\u{FFFD}");
}

fn chat(tools: Vec<Tool>) -> Request {
    let mut request = Request::chat(vec![Message::user("hi")]);
    let Input::Messages(chat) = &mut request.input else { unreachable!() };
    chat.tools = tools;
    request
}

#[test]
fn thinking_is_told_from_the_answer() {
    let answer = said(&chat(vec![]), Some("user: hi\n"), "<think>\nhm, so\n</think>\n\nYes.");
    assert_eq!((answer.thinking.as_str(), answer.text.as_str()), ("hm, so", "Yes."));
    assert!(answer.usage.thinking_tokens > 0);
    let open = said(&chat(vec![]), Some("user: hi\n<think>\n"), "hm</think>Yes.");
    assert_eq!((open.thinking.as_str(), open.text.as_str()), ("hm", "Yes."));
}

#[test]
fn a_raw_text_is_not_looked_at() {
    let answer = said(&stopping(&[]), None, "a <b> c");
    assert_eq!((answer.thinking.as_str(), answer.text.as_str()), ("", "a <b> c"));
}

#[test]
fn calls_of_tools_come_whole_and_only_where_there_are_tools() {
    let text = "<tool_call>\n{\"name\": \"find\", \"arguments\": {\"what\": \"é\"}}\n</tool_call>";
    let tool = Tool::new("find", "finds", json!({"type": "object", "properties": {}}));
    let answer = said(&chat(vec![tool]), Some("hi"), text);
    assert_eq!(answer.tool_calls.len(), 1, "{answer:?}");
    assert_eq!(answer.tool_calls[0].arguments, json!({"what": "é"}));
    assert_eq!(answer.text.trim(), "");
    assert!(said(&chat(vec![]), Some("hi"), text).tool_calls.is_empty());
}

#[test]
fn nothing_follows_the_end() {
    for stop in [&["two"][..], &[]] {
        let events = events(&stopping(stop), None, "One two three");
        assert_eq!(events.iter().filter(|e| e.is_last()).count(), 1);
        assert!(events.last().is_some_and(Event::is_last));
        assert!(matches!(events[events.len() - 2], Event::Usage(_)));
    }
}

/// What is said by a model with other tags and calls than the demo's.
fn said_by(can: Capabilities, prompt: &str, text: &str) -> Answer {
    let mut facts = describe(&ModelSource::Demo, None).unwrap().0;
    facts.can = can;
    let chat = oprel_api::Chat {
        tools: vec![Tool::new("weather", "", json!({}))],
        ..oprel_api::Chat::default()
    };
    let request = Request { input: Input::Messages(chat), ..Request::raw("x") };
    let options = TokenizeOptions { add_special: false, parse_special: true };
    let mut speaker = Speaker::new(&facts, &request, Some(prompt));
    let mut events = Vec::new();
    for id in facts.tokenizer.tokenize(text, options) {
        speaker.token(Sampled { id, ..Sampled::default() }, &mut events);
    }
    speaker.end(EndReason::EndOfText, Usage::default(), &mut events);
    Answer::fold(events).unwrap()
}

#[test]
fn other_families_are_read_by_their_own_marks() {
    let channels = Capabilities {
        think_tags: ThinkTags::of("<|channel|>final<|message|>"),
        tool_format: Some(ToolFormat::Harmony),
        ..FACTS.can.clone()
    };
    let text = "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>commentary \
                to=functions.weather <|constrain|>json<|message|>{\"place\": \"Rome\"}";
    let answer = said_by(channels, "<|start|>assistant", text);
    assert_eq!((answer.thinking.as_str(), answer.text.as_str()), ("I look.", ""));
    assert_eq!(answer.tool_calls[0].arguments, json!({"place": "Rome"}));
    let python = Capabilities {
        think_tags: None,
        tool_format: Some(ToolFormat::Pythonic),
        ..FACTS.can.clone()
    };
    let answer = said_by(python, "", "[weather(place='Rome')]");
    assert_eq!(answer.tool_calls[0].arguments, json!({"place": "Rome"}));
    assert_eq!(answer.text, "");
}
