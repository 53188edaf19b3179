use super::*;
use crate::dialect::{KeepAlive, Moment};
use crate::{
    Answer, Constraint, EndReason, ErrorKind, Event, Message, Piece, Sampled, SamplingPatch, Tool,
    ToolCall, ToolChoice, TopToken, Truncation, Usage,
};

const MESSAGES: &str = r#""model": "m", "messages": [{"role": "user", "content": "hi"}]"#;

fn read(more: &str) -> Result<Call, Failure> {
    chat(format!("{{{MESSAGES}{more}}}").as_bytes())
}

fn call(more: &str) -> Call {
    read(more).unwrap_or_else(|failure| panic!("{more}: {failure}"))
}

fn chat_of(call: &Call) -> &Chat {
    let Input::Messages(chat) = &call.request.input else { panic!("no chat") };
    chat
}

fn moment(seconds: u64) -> Moment {
    let id = "abc".to_string();
    Moment {
        unix_ns: seconds * 1_000_000_000 + 7,
        id,
        model: "m:latest".into(),
        ..Moment::default()
    }
}

/// The stream of some events, one second after another, without what all chunks begin with.
fn stream(call: &mut Call, events: impl IntoIterator<Item = (usize, Event)>) -> String {
    let mut bytes = call.voice.begin(&moment(5));
    for (at, (answer, event)) in events.into_iter().enumerate() {
        bytes.extend(call.voice.say(&moment(6 + at as u64), answer, event));
    }
    let head = r#"{"id":"chatcmpl-abc","object":"chat.completion.chunk","created":5,"model":"m:latest","system_fingerprint":"fp_oprel","#;
    String::from_utf8(bytes).unwrap().replace(head, "{")
}

fn usage(prompt: u32, generated: u32) -> Event {
    Event::Usage(Usage {
        prompt_tokens: prompt,
        cached_tokens: 2,
        generated_tokens: generated,
        thinking_tokens: 1,
        ..Usage::default()
    })
}

fn one(events: Vec<Event>) -> Vec<(usize, Event)> {
    events.into_iter().map(|event| (0, event)).collect()
}

#[test]
fn a_plain_request_has_the_defaults_of_the_dialect() {
    let call = call("");
    assert_eq!(call.model, "m");
    assert_eq!(call.request, Request::chat(vec![Message::user("hi")]));
    let sampling = call.sampling(&SamplingPatch::default());
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (1.0, 1.0, 0));
    let suggested = SamplingPatch { temperature: Some(0.6), ..SamplingPatch::default() };
    assert_eq!(call.sampling(&suggested).temperature, 0.6);
    assert!(!call.stream && !call.lenient_thinking && call.ignored.is_empty());
}

#[test]
fn every_field_that_changes_the_answer_is_read() {
    let call = call(
        r#", "max_completion_tokens": 9, "max_tokens": 12, "stop": ["a", "b"], "seed": 7, "n": 2,
        "temperature": 0.5, "top_p": 0.25, "top_k": 3, "min_p": 0.125, "logit_bias": {"4": 1},
        "presence_penalty": 1, "frequency_penalty": 2, "logprobs": true, "top_logprobs": 2,
        "response_format": {"type": "json_object"}, "user": "u", "stream": true,
        "reasoning_effort": "high", "keep_alive": "1m", "num_ctx": 64, "chat_template": "{{ x }}",
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required",
        "chat_template_kwargs": {"x": 1}, "parallel_tool_calls": false, "verbosity": "low""#,
    );
    let request = &call.request;
    assert_eq!((request.limits.max_tokens, request.limits.context), (Some(9), Some(64)));
    assert_eq!((request.n, request.logprobs), (2, Some(2)));
    assert_eq!(request.stop, ["a", "b"]);
    assert_eq!(request.constraint, Some(Constraint::JsonObject));
    assert_eq!(request.client, "u");
    let wish = &call.wish;
    assert_eq!((wish.temperature, wish.top_p, wish.seed), (Some(0.5), Some(0.25), Some(7)));
    assert_eq!((wish.top_k, wish.min_p), (Some(3), Some(0.125)));
    assert_eq!((wish.presence_penalty, wish.frequency_penalty), (Some(1.0), Some(2.0)));
    assert_eq!(wish.logit_bias.len(), 1);
    let chat = chat_of(&call);
    assert_eq!((chat.think, &chat.tool_choice), (Some(Think::High), &ToolChoice::Required));
    let tool = Tool { description: None, parameters: None, ..Tool::new("f", "", Value::Null) };
    assert_eq!(chat.tools, [tool]);
    assert_eq!(chat.template.as_deref(), Some("{{ x }}"));
    let kwargs = json!({"x": 1, "parallel_tool_calls": false, "verbosity": "low"});
    assert_eq!(Value::Object(chat.template_kwargs.clone()), kwargs);
    assert_eq!(call.stay.context, Some(64));
    assert_eq!(call.stay.keep_alive, Some(KeepAlive::For(std::time::Duration::from_secs(60))));
    assert_eq!(call.ignored, ["verbosity"]);
    assert!(call.stream);
}

#[test]
fn what_changes_nothing_is_named() {
    let call = call(
        r#", "store": true, "metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "k",
        "prediction": {}, "foo": 1, "bar": null, "stream_options": {"include_obfuscation": false},
        "modalities": ["text"], "function_call": null, "safety_identifier": "s",
        "reasoning": {"effort": "low", "summary": "auto"}"#,
    );
    let named = [
        "stream_options.include_obfuscation",
        "reasoning.summary",
        "store",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prediction",
        "foo",
    ];
    assert_eq!(call.ignored, named);
    assert_eq!(call.request.client, "s");
    assert_eq!(chat_of(&call).think, Some(Think::Low));
}

#[test]
fn each_way_to_say_how_to_think_is_read() {
    let table = [
        (r#", "reasoning_effort": "none""#, Some(Think::Off), None),
        (r#", "reasoning": {"effort": "minimal"}"#, Some(Think::Low), None),
        (r#", "reasoning": {"enabled": false}"#, Some(Think::Off), None),
        (r#", "reasoning": {"enabled": true}"#, Some(Think::On), None),
        (r#", "reasoning": {"max_tokens": 50}"#, Some(Think::On), Some(50)),
        (r#", "max_thinking_tokens": 40"#, None, Some(40)),
        (r#", "reasoning_effort": null"#, None, None),
    ];
    for (more, think, most) in table {
        let call = call(more);
        assert_eq!(chat_of(&call).think, think, "{more}");
        assert_eq!(call.request.limits.max_thinking_tokens, most, "{more}");
    }
}

#[test]
fn the_last_message_can_go_on() {
    assert!(chat_of(&call(r#", "continue_final_message": true"#)).continue_last);
    assert!(!chat_of(&call(r#", "add_generation_prompt": true"#)).continue_last);
    assert!(read(r#", "continue_final_message": true, "add_generation_prompt": true"#).is_err());
}

#[test]
fn what_cannot_be_honoured_is_refused_by_its_name() {
    let table = [
        (r#", "audio": {"voice": "x"}"#, "audio is not supported"),
        (r#", "modalities": ["text", "audio"]"#, "modalities: \"audio\" is not supported"),
        (r#", "functions": [{"name": "f"}]"#, "functions is not supported"),
        (r#", "web_search_options": {}"#, "web_search_options is not supported"),
        (r#", "top_logprobs": 3"#, "top_logprobs needs logprobs"),
        (r#", "logprobs": true, "top_logprobs": 21"#, "top_logprobs must be between 0 and 20"),
        (r#", "n": 0"#, "n must be between 1 and 128"),
        (r#", "n": 4294967295"#, "n must be between 1 and 128"),
        (r#", "temperature": -1"#, "temperature must be"),
        (r#", "temperature": "hot""#, "temperature: invalid type"),
        (r#", "stop": 7"#, "stop: expected a text or a list of texts"),
        (r#", "stop": """#, "stop is empty"),
        (r#", "reasoning_effort": "some""#, "reasoning effort must be"),
        (r#", "tool_choice": "required""#, "tool_choice wants a call"),
    ];
    for (more, wanted) in table {
        let failure = read(more).err().expect(more);
        assert!(failure.message.starts_with(wanted), "{more}: {failure}");
        assert_eq!(failure.kind, ErrorKind::Validation);
    }
    let empty = chat(br#"{"model": "m", "messages": []}"#).err().expect("accepted");
    assert_eq!(empty.message, "[] is too short - 'messages'");
    let unnamed = chat(br#"{"messages": [{"role": "user", "content": "hi"}]}"#);
    assert_eq!(unnamed.err().expect("accepted").message, "model is required");
}

#[test]
fn a_stream_thinks_speaks_and_counts() {
    let mut call = call(r#", "stream": true, "stream_options": {"include_usage": true}"#);
    let said = stream(
        &mut call,
        one(vec![
            Event::thinking("hm"),
            Event::text("Hi"),
            Event::text(""),
            Event::text(" <there>"),
            usage(5, 4),
            Event::End(EndReason::EndOfText),
            Event::text("late"),
        ]),
    );
    let wanted = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"reasoning":"hm","reasoning_content":"hm"},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"content":" <there>"},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}"#,
        "\n\ndata: [DONE]\n\n",
    );
    assert_eq!(said, wanted);
    assert_eq!(call.voice.stream_type(), "text/event-stream");
}

#[test]
fn calls_of_tools_are_whole_and_have_an_id() {
    let mut first = ToolCall::new("f", json!({"city": "Oslo"}));
    first.id = Some("c1".into());
    let second = ToolCall::new("g", json!("{oops"));
    let events =
        vec![Event::ToolCall(first), Event::ToolCall(second), Event::End(EndReason::EndOfText)];
    let said = stream(&mut call(""), one(events.clone()));
    let wanted = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":"{\"city\":\"Oslo\"}"}}]},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_abc1","type":"function","function":{"name":"g","arguments":"{oops"}}]},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        "\n\ndata: [DONE]\n\n",
    );
    assert_eq!(said, wanted);
    let lone = stream(&mut call(r#", "parallel_tool_calls": false"#), one(events));
    assert!(lone.contains("Oslo") && !lone.contains("oops"));
}

#[test]
fn several_answers_share_a_stream_and_its_end() {
    let mut call = call(r#", "n": 2, "stream_options": {"include_usage": true}"#);
    let said = stream(
        &mut call,
        [
            (1, Event::text("b")),
            (1, usage(5, 3)),
            (1, Event::End(EndReason::MaxTokens)),
            (0, Event::text("a")),
            (0, usage(5, 2)),
            (2, Event::text("nobody")),
            (0, Event::End(EndReason::StopText("x".into()))),
        ],
    );
    let wanted = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":1,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":5,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
        "\n\ndata: [DONE]\n\n",
    );
    assert_eq!(said, wanted);
}

#[test]
fn a_failure_ends_the_stream_without_done() {
    let failure = Failure::new(ErrorKind::Backend, "the engine stopped");
    let said = stream(
        &mut call(""),
        one(vec![
            Event::text("a"),
            Event::Error(failure),
            Event::text("b"),
            Event::End(EndReason::EndOfText),
        ]),
    );
    let end = concat!(
        r#"data: {"error":{"message":"the engine stopped","type":"api_error","param":null,"code":null}}"#,
        "\n\n"
    );
    assert!(said.ends_with(end) && !said.contains("[DONE]"), "{said}");
}

#[test]
fn what_was_left_out_is_told_at_the_end() {
    let cut = Truncation { dropped_messages: 1, dropped_tokens: 9, ..Truncation::default() };
    let events = vec![Event::Truncated(cut), Event::text("a"), Event::End(EndReason::ContextFull)];
    let said = stream(&mut call(""), one(events.clone()));
    let more = r#""finish_reason":"length"}],"oprel":{"truncated":[{"dropped_messages":1,"dropped_tokens":9,"kept_tokens":0,"during_answer":false}],"end":"context_full"}}"#;
    assert!(said.contains(more), "{said}");
    let answer = Answer::fold(events).unwrap();
    let whole = call("").voice.whole(&moment(5), vec![answer]);
    assert_eq!(whole["oprel"]["truncated"][0]["dropped_tokens"], 9);
}

fn token() -> Sampled {
    let top = vec![TopToken { id: 2, bytes: b"b".to_vec(), logprob: -1.5 }];
    Sampled { id: 1, bytes: b"a".to_vec(), logprob: Some(-0.25), top }
}

#[test]
fn probabilities_are_said_to_those_who_ask() {
    let events = |text: &str| {
        let piece = Piece { text: text.into(), tokens: vec![token()] };
        one(vec![Event::Text(piece), Event::End(EndReason::EndOfText)])
    };
    let entry = r#"{"token":"a","logprob":-0.25,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1.5,"bytes":[98]}]}"#;
    for text in ["a", ""] {
        let said = stream(&mut call(r#", "logprobs": true, "top_logprobs": 1"#), events(text));
        let chunk = format!(
            "{{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"logprobs\":\
             {{\"content\":[{entry}],\"refusal\":null}},\"finish_reason\":null}}]}}"
        );
        assert!(said.contains(&chunk), "{said}");
        assert!(!stream(&mut call(""), events(text)).contains("logprobs"));
    }
}

#[test]
fn a_whole_answer_has_every_required_field() {
    let answer = Answer::fold([
        Event::thinking("hm"),
        Event::Text(Piece { text: "a".into(), tokens: vec![token()] }),
        usage(5, 4),
        Event::End(EndReason::EndOfText),
    ])
    .unwrap();
    let whole = call("").voice.whole(&moment(5), vec![answer]);
    assert_eq!(
        whole.to_string(),
        r#"{"id":"chatcmpl-abc","object":"chat.completion","created":5,"model":"m:latest","system_fingerprint":"fp_oprel","choices":[{"index":0,"message":{"role":"assistant","content":"a","refusal":null,"reasoning":"hm","reasoning_content":"hm"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}"#
    );
}

#[test]
fn whole_answers_with_calls_have_no_text_and_ids_of_their_own() {
    let calls = || {
        Answer::fold([
            Event::ToolCall(ToolCall::new("f", json!({"a": 1}))),
            Event::ToolCall(ToolCall::new("g", json!({}))),
            Event::End(EndReason::Complete),
        ])
        .unwrap()
    };
    let whole = call(r#", "n": 2"#).voice.whole(&moment(5), vec![calls(), calls()]);
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let ids = |at: usize| whole["choices"][at]["message"]["tool_calls"].as_array().unwrap().clone();
    assert_eq!(ids(0)[0]["function"]["arguments"], "{\"a\":1}");
    assert_eq!((&ids(0)[1]["id"], &ids(1)[0]["id"]), (&json!("call_abc1"), &json!("call_abc2")));
    let lone = call(r#", "parallel_tool_calls": false"#).voice.whole(&moment(5), vec![calls()]);
    assert_eq!(lone["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
}
