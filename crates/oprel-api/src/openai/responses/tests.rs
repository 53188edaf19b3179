use super::*;
use crate::{ErrorKind, Message, SamplingPatch, Think, ToolChoice};

fn read(more: &str) -> Result<Call, Failure> {
    responses(format!("{{\"model\": \"m\", \"input\": \"hi\"{more}}}").as_bytes())
}

fn call(more: &str) -> Call {
    read(more).unwrap_or_else(|failure| panic!("{more}: {failure}"))
}

fn chat_of(call: &Call) -> &Chat {
    let Input::Messages(chat) = &call.request.input else { panic!("no chat") };
    chat
}

#[test]
fn a_plain_request_has_the_defaults_of_the_dialect() {
    let call = call("");
    assert_eq!(call.request, Request::chat(vec![Message::user("hi")]));
    let sampling = call.sampling(&SamplingPatch::default());
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (1.0, 1.0, 0));
    assert!(!call.stream && call.ignored.is_empty());
}

#[test]
fn every_field_that_changes_the_answer_is_read() {
    let call = call(
        r#", "instructions": "s", "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.25,
        "truncation": "auto", "top_logprobs": 2, "safety_identifier": "u", "stream": true,
        "reasoning": {"effort": "high"}, "tool_choice": "required", "min_p": 0.125,
        "tools": [{"type": "function", "name": "f", "parameters": {}}], "num_ctx": 64,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "parallel_tool_calls": true, "background": false, "previous_response_id": null"#,
    );
    let request = &call.request;
    assert_eq!((request.limits.max_tokens, request.limits.context), (Some(9), Some(64)));
    assert_eq!(request.limits.input_overflow, InputOverflow::DropOldest);
    assert_eq!((request.logprobs, request.client.as_str()), (Some(2), "u"));
    assert_eq!(request.constraint, Some(Constraint::JsonSchema(json!({"type": "object"}))));
    let wish = &call.wish;
    assert_eq!((wish.temperature, wish.top_p, wish.min_p), (Some(0.5), Some(0.25), Some(0.125)));
    let chat = chat_of(&call);
    assert_eq!(chat.messages, [Message::system("s"), Message::user("hi")]);
    assert_eq!((chat.think, &chat.tool_choice), (Some(Think::High), &ToolChoice::Required));
    assert_eq!(chat.tools[0].name, "f");
    assert!(call.stream && call.ignored.is_empty());
}

#[test]
fn what_changes_nothing_is_named() {
    let call = call(
        r#", "store": true, "metadata": {"a": "b"}, "service_tier": "auto", "foo": 1,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "reasoning": {"effort": "low", "summary": "auto"}, "text": {"verbosity": "low"},
        "tools": [{"type": "web_search"}], "prompt_cache_key": "k""#,
    );
    let named = [
        "include.reasoning.encrypted_content",
        "reasoning.summary",
        "text.verbosity",
        "tools.web_search",
        "metadata",
        "store",
        "service_tier",
        "foo",
        "prompt_cache_key",
    ];
    assert_eq!(call.ignored, named);
    assert_eq!(call.request.logprobs, Some(0));
    assert_eq!(chat_of(&call).template_kwargs["verbosity"], "low");
}

#[test]
fn what_needs_a_memory_is_refused_by_its_name() {
    let table = [
        (r#", "previous_response_id": "resp_1""#, "previous_response_id is not supported"),
        (r#", "conversation": "conv_1""#, "conversation is not supported"),
        (r#", "background": true"#, "background is not supported"),
        (r#", "prompt": {"id": "x"}"#, "prompt is not supported"),
        (r#", "truncation": "some""#, "truncation must be"),
        (r#", "top_logprobs": 21"#, "top_logprobs must be between 0 and 20"),
        (r#", "text": {"format": {"type": "xml"}}"#, "text.format.type \"xml\" is not supported"),
        (r#", "text": {"format": {"type": "json_schema"}}"#, "text.format.schema is required"),
        (
            r#", "text": {"format": {"type": "json_object"}}, "guided_regex": "a""#,
            "text.format cannot be combined",
        ),
        (r#", "temperature": -1"#, "temperature must be"),
    ];
    for (more, wanted) in table {
        let failure = read(more).err().expect(more);
        assert!(failure.message.starts_with(wanted), "{more}: {failure}");
        assert_eq!(failure.kind, ErrorKind::Validation);
    }
}

#[test]
fn the_answer_repeats_what_was_asked() {
    let mut call = call(
        r#", "temperature": 0.6, "max_output_tokens": 9, "metadata": {"a": "b"},
        "reasoning": {"effort": "max"}, "tools": [{"type": "function", "name": "f"}],
        "tool_choice": {"type": "function", "name": "f"}, "truncation": "auto""#,
    );
    let whole = call.voice.whole(&crate::dialect::Moment::default(), vec![]);
    let repeated: Map<String, Value> = whole
        .as_object()
        .unwrap()
        .iter()
        .skip_while(|(key, _)| *key != "instructions")
        .take_while(|(key, _)| *key != "usage")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let wanted = json!({
        "instructions": null,
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": "xhigh", "summary": null},
        "service_tier": "default",
        "store": false,
        "temperature": 0.6,
        "text": {"format": {"type": "text"}},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [{"type": "function", "name": "f"}],
        "top_logprobs": 0,
        "top_p": null,
        "truncation": "auto",
    });
    assert_eq!(Value::Object(repeated), wanted);
}
