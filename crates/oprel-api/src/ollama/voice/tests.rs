use super::super::wire::call_id;
use super::*;
use crate::{ErrorKind, ToolCall, TopToken};
use serde_json::json;

const GENERATE: Route = Route::Generate { context: true };

fn moment() -> Moment {
    Moment {
        unix_ns: 1_787_306_400_123_456_789,
        id: "0123456789abcdefghijklmn".into(),
        model: "m:latest".into(),
        prompt_tokens: None,
    }
}

fn usage() -> Usage {
    Usage {
        prompt_tokens: 11,
        cached_tokens: 3,
        generated_tokens: 18,
        load_ns: 41_000_000,
        prefill_ns: 90_000_000,
        decode_ns: 650_000_000,
        total_ns: 812_000_000,
        ..Usage::default()
    }
}

fn tokens(ids: &[u32]) -> Vec<Sampled> {
    ids.iter().map(|&id| Sampled { id, ..Sampled::default() }).collect()
}

/// All that is said of these events, with the moment written as `…`.
fn lines(route: Route, logprobs: bool, events: Vec<Event>) -> String {
    let mut voice = NdJson::new(route, logprobs);
    let mut said = voice.begin(&moment());
    for event in events {
        said.extend(voice.say(&moment(), 0, event));
    }
    String::from_utf8(said).unwrap().replace("2026-08-21T10:00:00.123456789Z", "…")
}

#[test]
fn a_prompt_is_answered_in_these_lines() {
    let piece = |text: &str, ids: &[u32]| Piece { text: text.into(), tokens: tokens(ids) };
    let said = lines(
        GENERATE,
        false,
        vec![
            Event::Prompt(tokens(&[1, 2])),
            Event::Thinking(piece("hm", &[3])),
            Event::Text(piece("", &[4])),
            Event::Text(piece("Hi \"<é>\"\n", &[5])),
            Event::Usage(usage()),
            Event::End(EndReason::EndOfText),
        ],
    );
    let expected = r#"{"model":"m:latest","created_at":"…","response":"","thinking":"hm","done":false}
{"model":"m:latest","created_at":"…","response":"Hi \"<é>\"\n","done":false}
{"model":"m:latest","created_at":"…","response":"","done":true,"done_reason":"stop","context":[1,2,3,4,5],"total_duration":812000000,"load_duration":41000000,"prompt_eval_count":11,"prompt_eval_duration":90000000,"eval_count":18,"eval_duration":650000000}
"#;
    assert_eq!(said, expected);
}

#[test]
fn a_conversation_goes_on_in_these_lines() {
    let call = ToolCall::new("get_weather", json!({"city": "Oslo", "at": [1]}));
    let named = ToolCall { id: Some("123456789".into()), ..ToolCall::new("f", json!({})) };
    let said = lines(
        Route::Chat,
        false,
        vec![
            Event::thinking("I should look"),
            Event::text("So"),
            Event::ToolCall(call),
            Event::ToolCall(named),
            Event::Usage(Usage { total_ns: 1, generated_tokens: 1, ..Usage::default() }),
            Event::End(EndReason::EndOfText),
        ],
    );
    let id = call_id(&moment().id, 0);
    let expected = r#"{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":"","thinking":"I should look"},"done":false}
{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":"So"},"done":false}
{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":"","tool_calls":[{"id":"ID","function":{"index":0,"name":"get_weather","arguments":{"city":"Oslo","at":[1]}}}]},"done":false}
{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":"","tool_calls":[{"id":"123456789","function":{"index":1,"name":"f","arguments":{}}}]},"done":false}
{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":1,"eval_count":1}
"#;
    assert_eq!(said, expected.replace("ID", &id));
}

#[test]
fn ids_of_calls_are_eight_letters_and_digits_and_differ() {
    let ids: Vec<String> = (0..200).map(|i| call_id("0123456789abcdefghijklmn", i)).collect();
    for id in &ids {
        let name = id.strip_prefix("call_").unwrap();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(name.len() == 8 && name.chars().all(plain), "{id}");
    }
    let different: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len());
    assert_ne!(call_id("a", 0), call_id("b", 0));
    assert_eq!(call_id("a", 0), call_id("a", 0));
}

#[test]
fn an_end_has_a_reason() {
    let reasons = [
        (EndReason::EndOfText, Some("stop")),
        (EndReason::StopText("x".into()), Some("stop")),
        (EndReason::Complete, Some("stop")),
        (EndReason::MaxTokens, Some("length")),
        (EndReason::ContextFull, Some("length")),
        (EndReason::Capped, Some("length")),
        (EndReason::Deadline, Some("length")),
        (EndReason::Cancelled, None),
    ];
    for (reason, text) in reasons {
        for route in [GENERATE, Route::Chat] {
            let said = lines(route, false, vec![Event::End(reason.clone())]);
            let said: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(said["done"], json!(true));
            assert_eq!(said.get("done_reason").and_then(Value::as_str), text);
            let besides = said["oprel"]["end"].as_str();
            let word = json!(reason);
            let is_besides = reason.is_told_besides() && text.is_some();
            assert_eq!(besides, word.as_str().filter(|_| is_besides), "{reason:?}");
        }
    }
}

#[test]
fn a_failure_is_a_line_and_the_last() {
    let failure = Failure::new(ErrorKind::Backend, "an explanation");
    for route in [GENERATE, Route::Chat] {
        let after = vec![
            Event::text("a"),
            Event::Error(failure.clone()),
            Event::text("b"),
            Event::End(EndReason::EndOfText),
        ];
        let said = lines(route, false, after);
        assert_eq!(said.lines().count(), 2);
        assert!(said.ends_with("\n{\"error\":\"an explanation\"}\n"), "{said}");
        let ended = vec![Event::End(EndReason::EndOfText), Event::Error(failure.clone())];
        assert_eq!(lines(route, false, ended).lines().count(), 1);
    }
    let hinted = Failure { hint: Some("try again".into()), ..failure };
    let expected = r#"{"error":"an explanation","hint":"try again"}"#;
    assert_eq!(complaint(&hinted).to_string(), expected);
}

#[test]
fn log_probabilities_are_a_list_of_tokens_with_their_bytes() {
    let top = |bytes: &[u8], logprob| TopToken { id: 1, bytes: bytes.to_vec(), logprob };
    let token = Sampled {
        id: 1,
        bytes: b"Hi".to_vec(),
        logprob: Some(-0.01),
        top: vec![top(b"Hi", -0.01), top(b"Ho", f32::NEG_INFINITY)],
    };
    let half = Sampled { id: 2, bytes: vec![0xc3], logprob: Some(-1.5), top: Vec::new() };
    let piece = |text: &str, token: &Sampled| {
        Event::Text(Piece { text: text.into(), tokens: vec![token.clone()] })
    };
    let said = lines(Route::Chat, true, vec![piece("Hi", &token), piece("", &half)]);
    let expected = r#"{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":"Hi"},"done":false,"logprobs":[{"token":"Hi","logprob":-0.01,"bytes":[72,105],"top_logprobs":[{"token":"Hi","logprob":-0.01,"bytes":[72,105]},{"token":"Ho","logprob":-9999.0,"bytes":[72,111]}]}]}
{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":""},"done":false,"logprobs":[{"token":"�","logprob":-1.5,"bytes":[195]}]}
"#;
    assert_eq!(said, expected);
    let silent = lines(GENERATE, false, vec![piece("Hi", &token), piece("", &half)]);
    assert_eq!(silent.lines().count(), 1);
    assert!(!silent.contains("logprobs"));
}

#[test]
fn what_was_left_out_is_told_at_the_end() {
    let cut = |messages, tokens, kept, during_answer| {
        Event::Truncated(Truncation {
            dropped_messages: messages,
            dropped_tokens: tokens,
            kept_tokens: kept,
            during_answer,
        })
    };
    let events =
        vec![cut(2, 100, 50, false), cut(0, 30, 40, true), Event::End(EndReason::MaxTokens)];
    let said = lines(Route::Chat, false, events);
    let expected = r#"{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":""},"done":true,"done_reason":"length","oprel":{"truncated":{"dropped_messages":2,"dropped_tokens":130,"kept_tokens":40,"during_answer":true}}}
"#;
    assert_eq!(said, expected);
}

#[test]
fn context_is_given_back_only_where_it_is_known_and_can_be() {
    let ends = |route| {
        let events = vec![Event::Prompt(tokens(&[1])), Event::End(EndReason::EndOfText)];
        lines(route, false, events).contains("\"context\":[1]")
    };
    assert!(ends(GENERATE));
    assert!(!ends(Route::Generate { context: false }) && !ends(Route::Chat));
    let unknown = vec![
        Event::Text(Piece { text: "a".into(), tokens: tokens(&[7]) }),
        Event::End(EndReason::EndOfText),
    ];
    assert!(!lines(GENERATE, false, unknown).contains("context"));
}

#[test]
fn a_whole_answer_is_the_last_object_with_all_that_was_said() {
    let events = || {
        vec![
            Event::Prompt(tokens(&[1])),
            Event::thinking("hm"),
            Event::Text(Piece { text: "Hi".into(), tokens: tokens(&[2]) }),
            Event::text("!"),
            Event::ToolCall(ToolCall::new("f", json!("oops"))),
            Event::Usage(usage()),
            Event::End(EndReason::MaxTokens),
        ]
    };
    let whole = |route| {
        let answer = Answer::fold(events()).unwrap();
        let body = NdJson::new(route, true).whole(&moment(), vec![answer]).to_string();
        body.replace("2026-08-21T10:00:00.123456789Z", "…").replace(&call_id(&moment().id, 0), "ID")
    };
    let generated = r#"{"model":"m:latest","created_at":"…","response":"Hi!","thinking":"hm","done":true,"done_reason":"length","context":[1,2],"total_duration":812000000,"load_duration":41000000,"prompt_eval_count":11,"prompt_eval_duration":90000000,"eval_count":18,"eval_duration":650000000,"tool_calls":[{"id":"ID","function":{"index":0,"name":"f","arguments":{"arguments":"oops"}}}],"logprobs":[{"token":"","logprob":0.0,"bytes":[]}]}"#;
    assert_eq!(whole(GENERATE), generated);
    let chatted = r#"{"model":"m:latest","created_at":"…","message":{"role":"assistant","content":"Hi!","thinking":"hm","tool_calls":[{"id":"ID","function":{"index":0,"name":"f","arguments":{"arguments":"oops"}}}]},"done":true,"done_reason":"length","logprobs":[{"token":"","logprob":0.0,"bytes":[]}],"total_duration":812000000,"load_duration":41000000,"prompt_eval_count":11,"prompt_eval_duration":90000000,"eval_count":18,"eval_duration":650000000}"#;
    assert_eq!(whole(Route::Chat), chatted);
    let nothing = NdJson::new(Route::Chat, false).whole(&moment(), Vec::new());
    assert_eq!(nothing["done"], json!(true));
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    let pieces = ["a", "é", "", "日本", "🙂", "\u{1}"];
    let mut events: Vec<Event> = pieces.iter().map(|p| Event::text(*p)).collect();
    events.push(Event::Usage(usage()));
    events.push(Event::End(EndReason::EndOfText));
    let streamed = lines(GENERATE, false, events.clone());
    let streamed = streamed.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    let text: String = streamed.map(|l| l["response"].as_str().unwrap().to_owned()).collect();
    let answer = Answer::fold(events).unwrap();
    let whole = NdJson::new(GENERATE, false).whole(&moment(), vec![answer]);
    assert_eq!(whole["response"], json!(text));
    assert_eq!(text, pieces.concat());
}
