use super::*;
use oprel_api::Constraint;
use oprel_constraint::Verifier;
use serde_json::json;

fn expects() -> Expects {
    Expects {
        is_chat: true,
        verifier: None,
        tool_choice: ToolChoice::Auto,
        arguments: Vec::new(),
        most_tokens: None,
        context: 512,
    }
}

/// What an answer of these chunks says, and how it ends.
fn read(expects: Expects, chunks: &[Value]) -> (Vec<Event>, Result<(Usage, EndReason), String>) {
    let (mut reader, mut out) = (Reader::new(expects), Vec::new());
    for chunk in chunks {
        let data = chunk.as_str().map_or_else(|| chunk.to_string(), str::to_string);
        if let Err(wrong) = reader.take(&Said::Data(data), &mut out) {
            return (out, Err(wrong.failure.message));
        }
    }
    let end = reader.end(&mut out).map_err(|wrong| wrong.failure.message);
    (out, end)
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn done() -> Value {
    json!("[DONE]")
}

fn ends(expects: Expects, chunks: &[Value]) -> Result<EndReason, String> {
    read(expects, chunks).1.map(|(_, reason)| reason)
}

#[test]
fn text_thinking_and_usage_are_told() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1}}});
    let (events, end) = read(
        expects(),
        &[
            delta(json!({"role": "assistant", "content": ""})),
            delta(json!({"reasoning_content": "h", "reasoning": "h"})),
            delta(json!({"reasoning": "m"})),
            delta(json!({"content": "ä"})),
            delta(json!({"content": "!"})),
            finish("stop"),
            usage,
            done(),
        ],
    );
    assert_eq!(
        events,
        [Event::thinking("h"), Event::thinking("m"), Event::text("ä"), Event::text("!")]
    );
    let (usage, reason) = end.unwrap();
    assert_eq!(reason, EndReason::EndOfText);
    assert_eq!((usage.prompt_tokens, usage.cached_tokens, usage.generated_tokens), (7, 4, 3));
    assert_eq!(usage.thinking_tokens, 1);
}

#[test]
fn an_error_in_the_middle_is_a_failure_even_if_the_stream_ends_well() {
    let error = json!({"error": {"message": "EngineCore died", "code": 500}});
    let chunks = [delta(json!({"content": "a"})), error, finish("stop"), done()];
    let said = ends(expects(), &chunks).unwrap_err();
    assert_eq!(said, "it failed in its answer: EngineCore died");
    let mut reader = Reader::new(expects());
    let wrong = reader.take(&Said::Error("{\"message\":\"x\",\"code\":400}".into()), &mut vec![]);
    assert!(!wrong.unwrap_err().is_ill);
}

#[test]
fn an_answer_without_a_reason_or_a_stream_without_an_end_broke_off() {
    let text = delta(json!({"content": "a"}));
    assert!(ends(expects(), &[text.clone(), done()]).unwrap_err().contains("no reason"));
    assert!(ends(expects(), &[text.clone(), finish("stop")]).unwrap_err().contains("no end"));
    assert!(ends(expects(), &[]).unwrap_err().contains("broke off"));
    assert!(ends(expects(), &[finish("abort"), done()]).unwrap_err().contains("\"abort\""));
    assert!(ends(expects(), &[json!("{oops")]).unwrap_err().contains("cannot be read"));
    assert!(
        ends(expects(), &[delta(json!({"content": 7}))]).unwrap_err().contains("cannot be read")
    );
}

#[test]
fn reasons_are_told_apart() {
    let with = |key: &str, value: Value| {
        let mut choice = json!({"delta": {}, "finish_reason": "stop"});
        choice[key] = value;
        json!({"choices": [choice]})
    };
    let bounded = Expects { most_tokens: Some(9), ..expects() };
    let table = [
        (expects(), with("stop_reason", json!("\n")), EndReason::StopText("\n".into())),
        (expects(), with("matched_stop", json!(5)), EndReason::StopToken(5)),
        (expects(), with("stop_reason", json!(null)), EndReason::EndOfText),
        (expects(), finish("length"), EndReason::ContextFull),
        (bounded, finish("length"), EndReason::MaxTokens),
    ];
    for (expects, chunk, wanted) in table {
        assert_eq!(ends(expects, &[chunk, done()]), Ok(wanted));
    }
}

#[test]
fn a_bound_that_nobody_asked_for_is_told() {
    let ends = |most_tokens, context, prompt: u32, made: u32| {
        let usage =
            json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": made}});
        let expects = Expects { most_tokens, context, ..expects() };
        ends(expects, &[finish("length"), usage, done()]).unwrap()
    };
    assert_eq!(ends(Some(9), 512, 7, 9), EndReason::MaxTokens);
    assert_eq!(ends(Some(9), 512, 7, 0), EndReason::MaxTokens);
    assert_eq!(ends(Some(400), 512, 7, 16), EndReason::Capped);
    assert_eq!(ends(Some(400), u32::MAX, 7, 16), EndReason::Capped);
    assert_eq!(ends(Some(400), 512, 312, 200), EndReason::ContextFull);
    assert_eq!(ends(None, 512, 312, 199), EndReason::ContextFull);
    assert_eq!(ends(None, 512, 7, 16), EndReason::Capped);
    assert_eq!(ends(None, u32::MAX, 7, 16), EndReason::ContextFull);
}

#[test]
fn calls_come_whole_in_their_order() {
    let piece = |index: usize, id: Value, name: Value, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        delta(json!({"tool_calls": [{"index": index, "id": id, "function": function}]}))
    };
    let (events, end) = read(
        expects(),
        &[
            piece(0, json!("a"), json!("f"), ""),
            piece(0, json!(null), json!(null), "{\"x\":"),
            piece(0, json!(null), json!(null), "1}"),
            piece(1, json!("b"), json!("g"), ""),
            finish("tool_calls"),
            done(),
        ],
    );
    let call = |id: &str, name: &str, arguments| ToolCall {
        id: Some(id.into()),
        ..ToolCall::new(name, arguments)
    };
    let (f, g) = (call("a", "f", json!({"x": 1})), call("b", "g", json!({})));
    assert_eq!(events, [Event::ToolCall(f), Event::ToolCall(g)]);
    assert_eq!(end.unwrap().1, EndReason::EndOfText);
    let broken = [piece(0, json!("a"), json!("f"), "{oops"), finish("tool_calls"), done()];
    assert!(ends(expects(), &broken).unwrap_err().contains("no JSON object"));
    // One that was cut short by the bound on tokens is left out.
    let cut = [piece(0, json!("a"), json!("f"), "{\"x\":"), finish("length"), done()];
    let (events, end) = read(expects(), &cut);
    assert_eq!((events, end.unwrap().1), (vec![], EndReason::ContextFull));
    let wild = [piece(1 << 40, json!("a"), json!("f"), "")];
    assert!(ends(expects(), &wild).unwrap_err().contains("no order"));
}

#[test]
fn a_constraint_and_a_wanted_call_are_checked_in_a_whole_answer() {
    let schema = json!({"type": "object", "required": ["a"]});
    let verifier = Some(Verifier::new(&Constraint::JsonSchema(schema)).unwrap());
    let held = Expects { verifier, ..expects() };
    let says = |text: &str, reason: &str| {
        ends(held.clone(), &[delta(json!({"content": text})), finish(reason), done()])
    };
    assert_eq!(says("{\"a\": 1}", "stop"), Ok(EndReason::EndOfText));
    let broken = says("{\"b\": 1}", "stop").unwrap_err();
    assert!(
        broken.contains("breaks the constraint") && broken.contains("`a` is missing"),
        "{broken}"
    );
    assert_eq!(says("{\"b\"", "length"), Ok(EndReason::ContextFull));
    let wants = |tool_choice| Expects { tool_choice, ..expects() };
    let none = [delta(json!({"content": "no"})), finish("stop"), done()];
    assert!(ends(wants(ToolChoice::Required), &none).unwrap_err().contains("called none"));
    let call =
        delta(json!({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}));
    let called = [call, finish("stop"), done()];
    assert!(ends(wants(ToolChoice::Required), &called).is_ok());
    assert!(ends(wants(ToolChoice::Named("f".into())), &called).is_ok());
    assert!(ends(wants(ToolChoice::Named("g".into())), &called).unwrap_err().contains("\"g\""));
    let schema = Constraint::JsonSchema(json!({"required": ["x"]}));
    let arguments = vec![("f".to_string(), Verifier::new(&schema).unwrap())];
    let broken = ends(Expects { arguments, ..expects() }, &called).unwrap_err();
    assert!(broken.contains("break its schema") && broken.contains("`x` is missing"), "{broken}");
}

#[test]
fn texts_and_log_probabilities_are_read() {
    let text = Expects { is_chat: false, ..expects() };
    let chunk = json!({"choices": [{"text": "ab", "finish_reason": null,
        "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-0.5, null],
            "top_logprobs": [{"a": -0.5, "b": -0.25}, null]}}]});
    let (events, _) = read(text, &[chunk]);
    let Event::Text(piece) = &events[0] else { panic!("{events:?}") };
    assert_eq!((piece.text.as_str(), piece.tokens.len()), ("ab", 2));
    assert_eq!(piece.tokens[0].logprob, Some(-0.5));
    let top: Vec<_> = piece.tokens[0].top.iter().map(|t| (&t.bytes[..], t.logprob)).collect();
    assert_eq!(top, [(&b"b"[..], -0.25), (&b"a"[..], -0.5)]);
    assert!(piece.tokens[1].top.is_empty());
    let chunk = json!({"choices": [{"delta": {"content": "é"}, "logprobs": {"content": [
        {"token": "é", "bytes": [195, 169], "logprob": -1.0,
         "top_logprobs": [{"token": "e", "logprob": -2.0}]}]}}]});
    let (events, _) = read(expects(), &[chunk]);
    let Event::Text(piece) = &events[0] else { panic!("{events:?}") };
    assert_eq!(piece.tokens[0].bytes, "é".as_bytes());
    assert_eq!(piece.tokens[0].top[0].bytes, b"e");
}
