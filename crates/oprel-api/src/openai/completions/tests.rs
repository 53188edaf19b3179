use super::*;
use crate::dialect::Moment;
use crate::{Answer, EndReason, ErrorKind, Event, Piece, Sampled, Usage};

fn read(more: &str) -> Result<Call, Failure> {
    completions(format!("{{\"model\": \"m\", {more}}}").as_bytes())
}

fn call(more: &str) -> Call {
    read(more).unwrap_or_else(|failure| panic!("{more}: {failure}"))
}

fn moment(seconds: u64) -> Moment {
    let id = "abc".to_string();
    Moment { unix_ns: seconds * 1_000_000_000, id, model: "m".into(), ..Moment::default() }
}

fn piece(text: &str, logprob: f32) -> Piece {
    let bytes = text.as_bytes().to_vec();
    let token = Sampled { id: 1, bytes, logprob: Some(logprob), top: vec![] };
    Piece { text: text.into(), tokens: vec![token] }
}

fn events() -> Vec<Event> {
    let prompt = Sampled { id: 1, bytes: b"ab".to_vec(), ..Sampled::default() };
    let usage = Usage { prompt_tokens: 1, generated_tokens: 2, ..Usage::default() };
    vec![
        Event::Prompt(vec![prompt]),
        Event::Text(piece("é", -0.5)),
        Event::Text(piece("c", -0.25)),
        Event::Usage(usage),
        Event::End(EndReason::MaxTokens),
    ]
}

fn stream(mut call: Call, events: Vec<Event>) -> String {
    let mut bytes = call.voice.begin(&moment(5));
    for event in events {
        bytes.extend(call.voice.say(&moment(9), 0, event));
    }
    let head = r#"{"id":"cmpl-abc","object":"text_completion","created":5,"model":"m","system_fingerprint":"fp_oprel","#;
    String::from_utf8(bytes).unwrap().replace(head, "{")
}

#[test]
fn a_prompt_is_a_text_or_tokens_and_only_one() {
    let text = Request::raw("ab");
    for prompt in [r#""ab""#, r#"["ab"]"#] {
        assert_eq!(call(&format!("\"prompt\": {prompt}")).request, text);
    }
    for prompt in ["[1, 2]", "[[1, 2]]"] {
        let request = call(&format!("\"prompt\": {prompt}")).request;
        assert_eq!(request, Request::tokens(vec![1, 2]));
    }
    for (more, wanted) in [
        (r#""prompt": ["a", "b"]"#, "prompt must be one prompt"),
        (r#""prompt": [[1], [2]]"#, "prompt must be one prompt"),
        (r#""prompt": []"#, "tokens is empty"),
        (r#""prompt": {}"#, "prompt: expected a text"),
        (r#""n": 1"#, "prompt is required"),
    ] {
        let failure = read(more).err().expect(more);
        assert!(failure.message.starts_with(wanted), "{more}: {failure}");
    }
}

#[test]
fn fields_of_a_text_are_read_or_refused() {
    let read_all = call(
        r#""prompt": "ab", "suffix": "z", "echo": true, "logprobs": 2, "best_of": 1, "max_tokens": 3,
        "stop": "x", "user": "u", "guided_choice": ["a"], "store": 1"#,
    );
    let request = &read_all.request;
    let Input::Prompt(prompt) = &request.input else { panic!("no prompt") };
    assert_eq!((prompt.suffix.as_deref(), prompt.raw), (Some("z"), true));
    assert_eq!((request.logprobs, request.prompt_logprobs), (Some(2), Some(2)));
    assert_eq!((request.limits.max_tokens, request.client.as_str()), (Some(3), "u"));
    assert_eq!(read_all.ignored, ["store"]);
    for (more, wanted) in [
        (r#""prompt": "a", "best_of": 3"#, "best_of other than n is not supported"),
        (r#""prompt": [1], "echo": true"#, "echo with a prompt of tokens"),
        (r#""prompt": [1], "suffix": "x""#, "suffix with a prompt of tokens"),
        (r#""prompt": "a", "logprobs": 21"#, "logprobs must be between 0 and 20"),
    ] {
        let failure = read(more).err().expect(more);
        assert!(failure.message.starts_with(wanted), "{more}: {failure}");
    }
}

#[test]
fn a_stream_of_text_ends_with_its_reason_and_usage() {
    let call = call(r#""prompt": "ab", "stream_options": {"include_usage": true}"#);
    let wanted = concat!(
        r#"data: {"choices":[{"index":0,"text":"é","logprobs":null,"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"text":"c","logprobs":null,"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
        "\n\ndata: [DONE]\n\n",
    );
    assert_eq!(stream(call, events()), wanted);
}

#[test]
fn an_echo_comes_first_with_its_probabilities() {
    let more = r#""prompt": "ab", "echo": true, "logprobs": 0"#;
    let said = stream(call(more), events());
    let wanted = concat!(
        r#"data: {"choices":[{"index":0,"text":"ab","logprobs":null,"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"text":"","logprobs":{"tokens":["ab"],"token_logprobs":[null],"top_logprobs":[null],"text_offset":[0]},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":0,"text":"é","logprobs":{"tokens":["é"],"token_logprobs":[-0.5],"top_logprobs":[{}],"text_offset":[2]},"finish_reason":null}]}"#,
        "\n\n",
    );
    assert!(said.starts_with(wanted), "{said}");
    let whole = call(more).voice.whole(&moment(5), vec![Answer::fold(events()).unwrap()]);
    assert_eq!(
        whole.to_string(),
        r#"{"id":"cmpl-abc","object":"text_completion","created":5,"model":"m","system_fingerprint":"fp_oprel","choices":[{"index":0,"text":"abéc","logprobs":{"tokens":["ab","é","c"],"token_logprobs":[null,-0.5,-0.25],"top_logprobs":[null,{},{}],"text_offset":[0,2,3]},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#
    );
}

#[test]
fn a_failure_ends_the_stream_without_done() {
    let failure = Failure::new(ErrorKind::Memory, "no room");
    let said = stream(call(r#""prompt": "a""#), vec![Event::Error(failure), Event::text("late")]);
    assert_eq!(
        said,
        "data: {\"error\":{\"message\":\"no room\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"
    );
}
