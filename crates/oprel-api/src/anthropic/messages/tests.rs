use super::*;
use crate::{ErrorKind, SamplingPatch, Tool, ToolChoice};
use serde_json::json;

const MESSAGES: &str = r#""model": "m", "messages": [{"role": "user", "content": "hi"}]"#;

fn read(more: &str) -> Result<Call, Failure> {
    messages(format!("{{{MESSAGES}, \"max_tokens\": 9{more}}}").as_bytes())
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
    let mut request = Request::chat(vec![Message::user("hi")]);
    request.limits.max_tokens = Some(9);
    assert_eq!(call.request, request);
    let sampling = call.sampling(&SamplingPatch::default());
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (1.0, 1.0, 0));
    assert!(call.lenient_thinking && !call.stream && call.ignored.is_empty());
}

#[test]
fn every_field_that_changes_the_answer_is_read() {
    let call = call(
        r#", "system": "s", "stop_sequences": ["x"], "temperature": 0.5, "top_p": 0.25, "top_k": 3,
        "stream": true, "metadata": {"user_id": "u", "else": 1}, "min_p": 0.125, "num_ctx": 64,
        "tools": [{"name": "f", "description": "d", "input_schema": {}}],
        "tool_choice": {"type": "tool", "name": "f"}, "service_tier": "auto", "mcp_servers": [],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}"#,
    );
    let request = &call.request;
    assert_eq!((request.limits.max_tokens, request.limits.context), (Some(9), Some(64)));
    assert_eq!((request.client.as_str(), &request.stop[..]), ("u", &["x".to_string()][..]));
    assert_eq!(request.constraint, Some(Constraint::JsonSchema(json!({"type": "object"}))));
    let wish = &call.wish;
    assert_eq!((wish.temperature, wish.top_p, wish.top_k), (Some(0.5), Some(0.25), Some(3)));
    assert_eq!(wish.min_p, Some(0.125));
    let chat = chat_of(&call);
    assert_eq!(chat.tools, [Tool::new("f", "d", json!({}))]);
    assert_eq!(chat.tool_choice, ToolChoice::Named("f".into()));
    assert_eq!(chat.messages[0], Message::system("s"));
    assert!(call.stream && !chat.continue_last);
    assert_eq!(call.ignored, ["metadata.else", "service_tier"]);
}

#[test]
fn each_way_to_say_how_to_think_is_read() {
    let table = [
        ("", None, None),
        (r#", "thinking": {"type": "disabled"}"#, Some(Think::Off), None),
        (r#", "thinking": {"type": "adaptive"}"#, Some(Think::On), None),
        (r#", "thinking": {"type": "enabled", "budget_tokens": 5}"#, Some(Think::On), Some(5)),
        (r#", "output_config": {"effort": "xhigh"}"#, Some(Think::Max), None),
        (
            r#", "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}"#,
            Some(Think::Low),
            None,
        ),
        (
            r#", "thinking": {"type": "disabled"}, "output_config": {"effort": "low"}"#,
            Some(Think::Off),
            None,
        ),
    ];
    for (more, think, most) in table {
        let call = call(more);
        assert_eq!(chat_of(&call).think, think, "{more}");
        assert_eq!(call.request.limits.max_thinking_tokens, most, "{more}");
    }
}

#[test]
fn a_last_turn_of_the_assistant_goes_on() {
    let body = r#"{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"},
        {"role": "assistant", "content": "{"}]}"#;
    let call = messages(body.as_bytes()).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(chat_of(&call).continue_last);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_its_name() {
    let table = [
        (r#", "mcp_servers": [{"url": "x"}]"#, "mcp_servers is not supported"),
        (r#", "container": "x""#, "container is not supported"),
        (r#", "thinking": {"type": "some"}"#, "thinking.type must be"),
        (r#", "output_config": {"effort": "some"}"#, "reasoning effort must be"),
        (r#", "output_format": {"type": "xml"}"#, "output_format.type \"xml\" is not supported"),
        (
            r#", "output_format": {"type": "json_schema", "schema": {}}, "guided_regex": "a""#,
            "output_config.format cannot be combined",
        ),
        (r#", "temperature": -1"#, "temperature must be"),
        (r#", "stop_sequences": [""]"#, "stop_sequences must not have an empty text"),
        (r#", "stop_sequences": [1]"#, "stop_sequences: expected a text"),
    ];
    for (more, wanted) in table {
        let failure = read(more).err().expect(more);
        assert!(failure.message.starts_with(wanted), "{more}: {failure}");
        assert_eq!(failure.kind, ErrorKind::Validation);
    }
    for most in ["", r#", "max_tokens": 0"#, r#", "max_tokens": -1"#] {
        let failure = messages(format!("{{{MESSAGES}{most}}}").as_bytes()).err().expect(most);
        assert_eq!(failure.message, "max_tokens is required and must be positive");
    }
}

#[test]
fn a_count_has_the_same_prompt_and_needs_no_limit() {
    let more = r#", "system": "s", "tools": [{"name": "f", "input_schema": {}}]"#;
    let body = format!("{{{MESSAGES}{more}}}");
    let mut count = count_tokens(body.as_bytes()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(count.request.input, call(more).request.input);
    let moment = crate::dialect::Moment { prompt_tokens: Some(12), ..Default::default() };
    assert_eq!(count.voice.whole(&moment, vec![]), json!({"input_tokens": 12}));
}
