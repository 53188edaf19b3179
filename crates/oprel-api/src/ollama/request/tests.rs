use super::*;
use crate::{Media, MediaSource, SamplingPatch, ToolChoice};
use serde_json::json;
use std::time::Duration;

const PNG: &str = "iVBORw0KGgo=";

/// A body of `/api/generate` with further fields.
fn generate_with(fields: Value) -> Result<Generate, Failure> {
    let mut body = json!({"model": "m", "prompt": "hi"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    generate(body.to_string().as_bytes())
}

/// A body of `/api/chat` with further fields.
fn chat_with(fields: Value) -> Result<Generate, Failure> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    chat(body.to_string().as_bytes())
}

fn call(read: Result<Generate, Failure>) -> Call {
    match read {
        Ok(Generate::Call(call)) => call,
        Ok(_) => panic!("no call"),
        Err(failure) => panic!("{failure}"),
    }
}

fn why(read: Result<Generate, Failure>) -> String {
    let failure = read.err().expect("accepted");
    assert_eq!(failure.kind, ErrorKind::Validation);
    failure.message
}

fn prompt_of(call: &Call) -> &Prompt {
    let Input::Prompt(prompt) = &call.request.input else { panic!("no prompt") };
    prompt
}

fn chat_of(call: &Call) -> &Chat {
    let Input::Messages(chat) = &call.request.input else { panic!("no conversation") };
    chat
}

/// Both routes with the same further fields.
fn both(fields: Value) -> [Result<Generate, Failure>; 2] {
    [generate_with(fields.clone()), chat_with(fields)]
}

#[test]
fn what_is_not_said_has_the_dialects_defaults() {
    for call in both(json!({})).map(call) {
        assert_eq!(call.model, "m");
        assert!(call.stream && call.ignored.is_empty() && !call.lenient_thinking);
        assert_eq!(call.stay, Stay::default());
        let limits = Limits {
            input_overflow: InputOverflow::DropOldest,
            output_overflow: OutputOverflow::Shift { keep: 4 },
            ..Limits::default()
        };
        // `/api/generate` gives the prompt's tokens back.
        let prompt_ids = matches!(call.request.input, Input::Prompt(_));
        let expected = Request { limits, prompt_ids, ..Request::new(call.request.input.clone()) };
        assert_eq!(call.request, expected);
        assert_eq!(call.sampling(&SamplingPatch::default()), Sampling::default());
        assert_eq!(call.request.validate(), Ok(()));
        assert_eq!(call.voice.stream_type(), "application/x-ndjson");
    }
    let call = call(generate_with(json!({})));
    assert_eq!(*prompt_of(&call), Prompt { text: "hi".into(), ..Prompt::default() });
}

#[test]
fn null_is_as_if_it_were_not_there() {
    let fields = [
        "stream",
        "format",
        "options",
        "keep_alive",
        "think",
        "truncate",
        "shift",
        "logprobs",
        "top_logprobs",
        "raw",
        "system",
        "images",
        "context",
        "n",
        "priority",
        "tools",
    ];
    let nulls: serde_json::Map<String, Value> =
        fields.iter().map(|key| (key.to_string(), Value::Null)).collect();
    for (nulls, plain) in both(Value::Object(nulls)).map(call).iter().zip(both(json!({})).map(call))
    {
        assert_eq!(nulls.request, plain.request);
        assert_eq!((nulls.stream, &nulls.stay), (plain.stream, &plain.stay));
    }
}

#[test]
fn fields_go_where_they_belong() {
    let fields = json!({"STREAM": false, "keep_alive": "30s", "think": "high", "truncate": false,
        "logprobs": true, "top_logprobs": 5, "format": "json", "max_thinking_tokens": 9,
        "priority": -2, "n": 1, "options": {"num_ctx": 8192, "num_predict": 7, "num_keep": 3,
            "num_thread": 2, "stop": ["a"], "seed": 5, "temperature": 0.25, "draft_num_predict": 0}});
    for call in both(fields).map(call) {
        assert!(!call.stream && call.ignored.is_empty());
        let stay = Stay {
            keep_alive: Some(KeepAlive::For(Duration::from_secs(30))),
            context: Some(8192),
            threads: Some(2),
        };
        assert_eq!(call.stay, stay);
        let request = &call.request;
        let limits = Limits {
            max_tokens: Some(7),
            max_thinking_tokens: Some(9),
            context: Some(8192),
            input_overflow: InputOverflow::Refuse,
            output_overflow: OutputOverflow::Shift { keep: 3 },
            ..Limits::default()
        };
        assert_eq!(request.limits, limits);
        assert_eq!((request.logprobs, request.priority, request.speculate), (Some(5), -2, false));
        assert_eq!(request.constraint, Some(Constraint::JsonObject));
        assert_eq!(request.stop, ["a"]);
        let wish = SamplingPatch { temperature: Some(0.25), seed: Some(5), ..Default::default() };
        assert_eq!(call.wish, wish);
    }
}

#[test]
fn what_a_model_suggests_stands_between_the_dialect_and_the_client() {
    let call = call(generate_with(json!({"options": {"top_k": 5}})));
    let suggested = SamplingPatch { top_k: Some(20), top_p: Some(0.5), ..SamplingPatch::default() };
    let sampling = call.sampling(&suggested);
    assert_eq!((sampling.top_k, sampling.top_p, sampling.temperature), (5, 0.5, 0.8));
}

#[test]
fn a_full_context_shifts_or_ends() {
    let table = [
        (json!({}), OutputOverflow::Shift { keep: 4 }),
        (json!({"shift": true}), OutputOverflow::Shift { keep: 4 }),
        (json!({"shift": false}), OutputOverflow::Stop),
        (json!({"options": {"num_predict": -2}}), OutputOverflow::Stop),
        (json!({"options": {"num_predict": -1}}), OutputOverflow::Shift { keep: 4 }),
    ];
    for (fields, overflow) in table {
        for call in both(fields.clone()).map(call) {
            assert_eq!(call.request.limits.output_overflow, overflow, "{fields}");
        }
    }
    // A raw text is all that there is to cut.
    let input = |fields| call(generate_with(fields)).request.limits.input_overflow;
    assert_eq!(input(json!({"raw": true})), InputOverflow::DropOldest);
    assert_eq!(input(json!({"raw": true, "shift": false})), InputOverflow::Refuse);
    assert_eq!(input(json!({"raw": true, "truncate": false})), InputOverflow::Refuse);
}

#[test]
fn an_answer_without_limit_ends_after_ten_contexts() {
    let bounded = |max_tokens, context, output_overflow| {
        let mut limits = Limits { max_tokens, context, output_overflow, ..Limits::default() };
        bound(&mut limits, 4096);
        limits.max_tokens
    };
    let shift = OutputOverflow::Shift { keep: 4 };
    assert_eq!(bounded(None, None, shift), Some(40_960));
    assert_eq!(bounded(None, Some(100), shift), Some(1000));
    assert_eq!(bounded(None, Some(1 << 30), shift), Some(40_960));
    assert_eq!(bounded(Some(100_000), None, shift), Some(100_000));
    assert_eq!(bounded(None, None, OutputOverflow::Stop), None);
}

#[test]
fn think_is_a_boolean_or_an_effort() {
    let table = [
        (json!(true), Think::On),
        (json!(false), Think::Off),
        (json!("low"), Think::Low),
        (json!("medium"), Think::Medium),
        (json!("high"), Think::High),
        (json!("max"), Think::Max),
    ];
    for (value, think) in table {
        let fields = json!({"think": value});
        assert_eq!(prompt_of(&call(generate_with(fields.clone()))).think, Some(think));
        assert_eq!(chat_of(&call(chat_with(fields))).think, Some(think));
    }
    let must = r#"(must be "high", "medium", "low", "max", true, or false)"#;
    for bad in [json!("x"), json!(""), json!("HIGH"), json!(1), json!([]), json!({})] {
        for read in both(json!({"think": bad})) {
            assert_eq!(why(read), format!("invalid think value: {bad} {must}"));
        }
    }
    // In a raw text nothing thinks anyway; a wish for it is the backend's to refuse.
    let raw = |think: bool| call(generate_with(json!({"raw": true, "think": think})));
    assert_eq!(prompt_of(&raw(false)).think, None);
    assert_eq!(prompt_of(&raw(true)).think, Some(Think::On));
}

#[test]
fn a_format_is_json_or_a_schema() {
    let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
    let table = [
        (json!(""), None),
        (Value::Null, None),
        (json!("json"), Some(Constraint::JsonObject)),
        (schema.clone(), Some(Constraint::JsonSchema(schema))),
        (json!({}), Some(Constraint::JsonSchema(json!({})))),
    ];
    for (format, constraint) in table {
        for call in both(json!({"format": format})).map(call) {
            assert_eq!(call.request.constraint, constraint);
        }
    }
    let expected = "expected \"json\" or a valid JSON Schema object";
    for (bad, given) in [(json!("xml"), r#""\"xml\"""#), (json!(1), "\"1\""), (json!([]), "\"[]\"")]
    {
        for read in both(json!({"format": bad})) {
            assert_eq!(why(read), format!("invalid format: {given}; {expected}"));
        }
    }
}

#[test]
fn alternatives_are_at_most_twenty_and_only_with_log_probabilities() {
    for bad in [-1, 21] {
        for read in both(json!({"logprobs": true, "top_logprobs": bad})) {
            assert_eq!(why(read), "top_logprobs must be between 0 and 20");
        }
    }
    for call in both(json!({"logprobs": true})).map(call) {
        assert_eq!(call.request.logprobs, Some(0));
    }
    for call in both(json!({"top_logprobs": 3})).map(call) {
        assert_eq!((call.request.logprobs, call.ignored), (None, vec!["top_logprobs".into()]));
    }
}

#[test]
fn raw_goes_around_the_template() {
    let text = "raw mode does not support template, system, or context";
    for other in [json!({"template": "x"}), json!({"system": "x"}), json!({"context": [1]})] {
        let mut fields = other;
        fields["raw"] = json!(true);
        assert_eq!(why(generate_with(fields)), text);
    }
    let call = call(generate_with(json!({"raw": true, "system": "", "context": []})));
    let expected =
        Prompt { text: "hi".into(), raw: true, parse_special: true, ..Prompt::default() };
    assert_eq!(*prompt_of(&call), expected);
}

#[test]
fn a_prompt_has_much_around_it() {
    let call = call(generate_with(json!({"suffix": "s", "system": "y", "template": "t",
        "context": [1, 2.0], "images": [PNG]})));
    let source = MediaSource::Bytes(b"\x89PNG\r\n\x1a\n"[..].into());
    let expected = Prompt {
        text: "hi".into(),
        suffix: Some("s".into()),
        system: Some("y".into()),
        template: Some("t".into()),
        media: vec![Media { source, mime: Some("image/png".into()) }],
        context: vec![1, 2],
        ..Prompt::default()
    };
    assert_eq!(*prompt_of(&call), expected);
    for bad in [json!([-1]), json!(["1"]), json!([1.5]), json!([4_294_967_296_u64])] {
        let read = generate_with(json!({"context": bad}));
        assert_eq!(why(read), "context must be a list of tokens");
    }
}

#[test]
fn a_conversation_has_tools() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let fields = json!({"tools": [tool], "tool_choice": {"function": {"name": "f"}}});
    let call = call(chat_with(fields));
    let chat = chat_of(&call);
    assert_eq!((chat.messages[0].role.clone(), chat.tools[0].name.as_str()), (Role::User, "f"));
    assert_eq!(chat.tool_choice, ToolChoice::Named("f".into()));
}

#[test]
fn without_a_model_there_is_nothing() {
    for body in ["{}", r#"{"model": ""}"#, r#"{"model": " ", "prompt": "x"}"#] {
        let absent = generate(body.as_bytes()).err().unwrap();
        assert_eq!(absent, Failure::new(ErrorKind::ModelNotFound, "model '' not found"));
        assert_eq!(why(chat(body.as_bytes())), "model is required");
    }
    for read in [generate, chat] {
        assert_eq!(why(read(b"")), "missing request body");
        assert!(why(read(b"{")).starts_with("the body is not JSON"));
    }
}

#[test]
fn nothing_to_say_loads_or_unloads() {
    let moment = Moment { model: "m:latest".into(), ..Moment::default() };
    let generate_says = json!({"model": "m:latest", "created_at": "1970-01-01T00:00:00Z",
        "response": "", "done": true, "done_reason": "?"});
    let chat_says = json!({"model": "m:latest", "created_at": "1970-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "?"});
    let table = [
        (json!({}), "load", None),
        (json!({"keep_alive": 60}), "load", Some(KeepAlive::For(Duration::from_secs(60)))),
        (json!({"keep_alive": -1}), "load", Some(KeepAlive::Forever)),
        (json!({"keep_alive": 0}), "unload", Some(KeepAlive::For(Duration::ZERO))),
        (json!({"keep_alive": "0"}), "unload", Some(KeepAlive::For(Duration::ZERO))),
        (json!({"keep_alive": "0s"}), "unload", Some(KeepAlive::For(Duration::ZERO))),
    ];
    type Read = fn(Value) -> Result<Generate, Failure>;
    let routes: [(Read, Value, Value); 2] = [
        (generate_with, json!({"prompt": ""}), generate_says),
        (chat_with, json!({"messages": []}), chat_says),
    ];
    for (read, empty, mut says) in routes {
        for (fields, reason, keep_alive) in &table {
            let mut body = empty.clone();
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let (idle, does) = match read(body) {
                Ok(Generate::Load(idle)) => (idle, "load"),
                Ok(Generate::Unload(idle)) => (idle, "unload"),
                _ => panic!("{fields}"),
            };
            assert_eq!((does, idle.stay.keep_alive), (*reason, *keep_alive));
            assert!(idle.model == "m" && idle.ignored.is_empty());
            says["done_reason"] = json!(reason);
            assert_eq!((idle.done)(&moment).to_string(), says.to_string());
        }
    }
}

#[test]
fn a_load_names_what_is_only_for_an_answer() {
    let read = generate_with(json!({"prompt": null, "System": "x", "weight": 1, "think": true,
        "options": {"num_ctx": 2, "temperature": 1, "numa": true}}));
    let Ok(Generate::Load(idle)) = read else { panic!("no load") };
    assert_eq!(idle.stay.context, Some(4));
    let names = ["System", "weight", "think", "options.numa", "options.temperature"];
    assert_eq!(idle.ignored, names);
}

#[test]
fn what_is_unknown_is_named_and_what_cannot_be_done_is_refused() {
    for call in both(json!({"weight": 1, "options": {"num_gpu": 1}})).map(call) {
        assert_eq!(call.ignored, ["options.num_gpu", "weight"]);
    }
    let fields = json!({"raw": true, "suffix": "x"});
    assert_eq!(call(chat_with(fields)).ignored, ["raw", "suffix"]);
    let bad = [
        (json!({"n": 2}), "n must be 1 here, not 2"),
        (json!({"n": 0}), "n must be 1 here, not 0"),
        (json!({"_debug_render_only": true}), "_debug_render_only is not supported"),
        (json!({"stream": "no"}), "stream must be a boolean, not a string"),
        (json!({"model": 1}), "model must be a string, not 1"),
        (json!({"keep_alive": "30"}), "time: missing unit in duration \"30\""),
        (json!({"options": {"top_k": "x"}}), "option \"top_k\" must be of type integer"),
        (json!({"priority": 3_000_000_000_u64}), "priority is out of range: 3000000000"),
        (json!({"max_thinking_tokens": -1}), "max_thinking_tokens is out of range: -1"),
    ];
    for (fields, text) in bad {
        for read in both(fields) {
            assert_eq!(why(read), text);
        }
    }
    let image = why(generate_with(json!({"images": ["%"]})));
    assert_eq!(image, "images[0] is not base64: illegal base64 data at input byte 0");
    assert_eq!(call(chat_with(json!({"_debug_render_only": false}))).ignored, [] as [&str; 0]);
}

#[test]
fn an_answer_that_was_begun_goes_on() {
    let call_of_f = json!([{"function": {"name": "f"}}]);
    let table = [
        (json!({"role": "assistant", "content": "It is"}), true),
        (json!({"role": "assistant", "content": " "}), false),
        (json!({"role": "assistant", "content": "It is", "tool_calls": call_of_f}), false),
        (json!({"role": "assistant", "content": "It is", "images": [PNG]}), false),
        (json!({"role": "user", "content": "It is"}), false),
        (json!({"role": "tool", "content": "It is"}), false),
    ];
    for (last, begun) in table {
        let messages = json!([{"role": "user", "content": "What?"}, last]);
        let call = call(chat_with(json!({"messages": messages})));
        assert_eq!(chat_of(&call).continue_last, begun, "{last}");
    }
}

#[test]
fn every_body_that_is_cut_is_refused() {
    let message = json!({"role": "user", "content": "é [img] \u{1f600}", "images": [PNG],
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]});
    let body = json!({"model": "m", "prompt": "hi", "messages": [message], "think": "low",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "options": {"stop": ["a"], "num_ctx": 4.5, "logit_bias": {"1": 2}}, "keep_alive": "1h2.5m"});
    let body = body.to_string();
    for read in [generate, chat] {
        assert!(read(body.as_bytes()).is_ok());
        for end in 0..body.len() {
            assert!(read(&body.as_bytes()[..end]).is_err(), "{}", &body[..end]);
        }
    }
}

#[test]
fn a_field_of_any_kind_is_read_or_refused_by_its_name() {
    let fields = [
        "model",
        "prompt",
        "suffix",
        "system",
        "template",
        "context",
        "stream",
        "raw",
        "format",
        "keep_alive",
        "images",
        "options",
        "think",
        "truncate",
        "shift",
        "logprobs",
        "top_logprobs",
        "messages",
        "tools",
        "tool_choice",
        "max_thinking_tokens",
        "priority",
        "n",
        "_debug_render_only",
    ];
    let values = [
        json!(true),
        json!(-7),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!("x"),
        json!(["x"]),
        json!([[1]]),
        json!([{"x": 1}]),
        json!({"x": [1]}),
        json!([null]),
    ];
    let known = |why: &str, field: &str| {
        let known = ["think value", "format: ", "time: ", "model '' not found"];
        why.contains(field) || known.iter().any(|k| why.contains(k))
    };
    for field in fields {
        for value in &values {
            for read in both(json!({field: value})) {
                if let Err(failure) = read {
                    assert!(known(&failure.message, field), "{field} {value}: {failure}");
                }
            }
        }
    }
}
