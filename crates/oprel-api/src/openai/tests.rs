use super::*;
use crate::dialect::Voice;
use crate::{Event, ToolCall};

fn problem(status: u16, kind: ErrorKind) -> Problem {
    let failure = Failure::new(kind, "why");
    Problem { status, failure, id: "id".into() }
}

#[test]
fn a_complaint_has_the_type_of_its_status() {
    let table = [
        (400, ErrorKind::Validation, "invalid_request_error"),
        (413, ErrorKind::Validation, "invalid_request_error"),
        (401, ErrorKind::Validation, "authentication_error"),
        (403, ErrorKind::Validation, "permission_error"),
        (404, ErrorKind::Validation, "not_found_error"),
        (429, ErrorKind::Backend, "rate_limit_error"),
        (500, ErrorKind::Backend, "api_error"),
        (502, ErrorKind::Download, "api_error"),
        (503, ErrorKind::Memory, "server_error"),
    ];
    for (status, kind, wanted) in table {
        assert_eq!(complaint(&problem(status, kind))["error"]["type"], wanted, "{status}");
    }
    assert_eq!(
        complaint(&problem(404, ErrorKind::ModelNotFound)).to_string(),
        r#"{"error":{"message":"why","type":"not_found_error","param":null,"code":"model_not_found"}}"#
    );
    let too_long = Cause::ContextLength { prompt: 9, context: 8 };
    for (cause, param, code) in [
        (too_long, Value::Null, "context_length_exceeded"),
        (Cause::Incapable("tools".into()), json!("tools"), "unsupported_parameter"),
        (Cause::Unsupported("audio".into()), json!("audio"), "unsupported_parameter"),
    ] {
        let mut caused = problem(400, ErrorKind::Validation);
        caused.failure.cause = Some(cause);
        let body = complaint(&caused);
        assert_eq!((&body["error"]["param"], &body["error"]["code"]), (&param, &json!(code)));
    }
    let mut hinted = problem(400, ErrorKind::Validation);
    hinted.failure.hint = Some("do this".into());
    assert_eq!(complaint(&hinted)["error"]["hint"], "do this");
}

#[test]
fn every_word_for_an_effort_is_known() {
    let table = [
        ("none", Think::Off),
        ("minimal", Think::Low),
        ("low", Think::Low),
        ("medium", Think::Medium),
        ("high", Think::High),
        ("xhigh", Think::Max),
        ("ultra", Think::Max),
        ("max", Think::Max),
    ];
    for (word, think) in table {
        assert_eq!(effort(word), Ok(think));
    }
    assert!(effort("some").unwrap_err().message.contains("not \"some\""));
}

/// The routes that read a body, as far as they say whether it is right.
type Route = fn(&[u8]) -> Result<(), Failure>;

/// Whole bodies of all routes that this module and Anthropic's read.
fn bodies() -> Vec<(Route, Value)> {
    let message = json!({"role": "user", "content": [{"type": "text", "text": "é"}]});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let flat = json!({"type": "function", "name": "f", "parameters": {}});
    let turn = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}]}]});
    let item = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    vec![
        (
            |body| chat(body).map(|_| ()),
            json!({"model": "m", "messages": [message], "tools": [tool], "tool_choice": "auto",
                "stop": ["x"], "logit_bias": {"1": 2}, "options": {"top_k": 1}, "seed": 1,
                "response_format": {"type": "json_object"}, "reasoning": {"effort": "low"},
                "stream_options": {"include_usage": true}, "keep_alive": "1m", "n": 1}),
        ),
        (
            |body| completions(body).map(|_| ()),
            json!({"model": "m", "prompt": "a", "logprobs": 1, "echo": true, "suffix": "b"}),
        ),
        (
            |body| embeddings(body).map(|_| ()),
            json!({"model": "m", "input": ["a"], "dimensions": 1, "encoding_format": "float"}),
        ),
        (
            |body| responses(body).map(|_| ()),
            json!({"model": "m", "input": [message, item], "tools": [flat], "include": ["x"],
                "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low"},
                "truncation": "auto", "instructions": "x", "metadata": {"a": "b"}}),
        ),
        (
            |body| crate::anthropic::messages(body).map(|_| ()),
            json!({"model": "m", "max_tokens": 1, "messages": [turn], "system": [],
                "tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "auto"},
                "thinking": {"type": "enabled", "budget_tokens": 1}, "metadata": {"user_id": "u"},
                "output_config": {"effort": "low"}, "stop_sequences": ["x"]}),
        ),
    ]
}

/// The value with something else in each of its places.
fn spoiled(value: &Value, bad: &Value) -> Vec<Value> {
    let mut all = vec![bad.clone()];
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                all.extend(spoiled(inner, bad).into_iter().map(|inner| {
                    let mut map = map.clone();
                    map.insert(key.clone(), inner);
                    Value::Object(map)
                }));
            }
        }
        Value::Array(list) => {
            for (at, inner) in list.iter().enumerate() {
                all.extend(spoiled(inner, bad).into_iter().map(|inner| {
                    let mut list = list.clone();
                    list[at] = inner;
                    Value::Array(list)
                }));
            }
        }
        _ => {}
    }
    all
}

#[test]
fn no_value_in_no_place_breaks_a_route() {
    let bads = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("é"),
        json!([]),
        json!([null]),
        json!([[1]]),
        json!({}),
        json!({"type": "x"}),
    ];
    for (route, body) in bodies() {
        route(body.to_string().as_bytes()).unwrap();
        for body in bads.iter().flat_map(|bad| spoiled(&body, bad)) {
            if let Err(failure) = route(body.to_string().as_bytes()) {
                assert_eq!(failure.kind, ErrorKind::Validation, "{body}");
                assert!(!failure.message.is_empty());
            }
        }
    }
}

#[test]
fn every_body_that_is_cut_is_refused() {
    for (route, body) in bodies() {
        let body = body.to_string();
        for end in 0..body.len() {
            assert!(route(&body.as_bytes()[..end]).is_err());
        }
    }
}

/// Voices of two answers where the dialect has more than one, and how their streams end.
fn voices() -> Vec<(Box<dyn Voice>, usize, &'static str, &'static str)> {
    let chats = br#"{"model": "m", "n": 2, "messages": [{"role": "user", "content": "x"}]}"#;
    let texts = br#"{"model": "m", "n": 2, "prompt": "x"}"#;
    let items = br#"{"model": "m", "input": "x"}"#;
    let turns =
        br#"{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}"#;
    let (done, error) = ("data: [DONE]\n\n", "data: {\"error\"");
    vec![
        (chat(chats).unwrap().voice, 2, done, error),
        (completions(texts).unwrap().voice, 2, done, error),
        (responses(items).unwrap().voice, 1, "response.completed\n", "response.failed\n"),
        (crate::anthropic::messages(turns).unwrap().voice, 1, "message_stop\n", "event: error\n"),
    ]
}

#[test]
fn every_stream_ends_once_and_says_nothing_after() {
    let mut state = 1_u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let moment = Moment::default();
    for _ in 0..200 {
        for (mut voice, answers, end, error) in voices() {
            let mut said = String::from_utf8(voice.begin(&moment)).unwrap();
            let mut failed = false;
            let mut ended = vec![false; answers];
            while !failed && ended.iter().any(|ended| !ended) {
                let answer = draw(answers as u64) as usize;
                let event = match draw(12) {
                    0..3 => Event::text("a"),
                    3..5 => Event::thinking("b"),
                    5 => Event::text(""),
                    6 => Event::ToolCall(ToolCall::new("f", json!({}))),
                    7 => Event::Truncated(Truncation::default()),
                    8 => Event::Usage(Usage::default()),
                    9 if draw(4) == 0 => Event::Error(Failure::new(ErrorKind::Backend, "why")),
                    _ => Event::End(EndReason::EndOfText),
                };
                // What comes after an answer's end is nobody's, too.
                failed |= matches!(event, Event::Error(_)) && !ended[answer];
                ended[answer] |= matches!(event, Event::End(_));
                said += &String::from_utf8(voice.say(&moment, answer, event)).unwrap();
            }
            let (ends, errors) = (said.matches(end).count(), said.matches(error).count());
            assert_eq!((ends, errors), if failed { (0, 1) } else { (1, 0) }, "{said}");
            for event in [Event::text("late"), Event::End(EndReason::MaxTokens)] {
                assert!(voice.say(&moment, 0, event).is_empty());
            }
        }
    }
}
