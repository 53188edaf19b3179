//! A real server, named by `OPREL_TEST_REMOTE=PROFILE:URL[,URL...][#MODEL]`; its key by `OPREL_REMOTE_KEY`.
//! Without it nothing is tested. A model of any quality does, if its context is below 100,000 tokens.

use std::time::{Duration, Instant};

use oprel_api::{
    Answer, Cause, Constraint, EndReason, Failure, Input, InputOverflow, Message, Request,
    ToolChoice,
};
use oprel_backend::{Backend, Health, wait};
use oprel_remote::{Patience, Place, Remote};
use serde_json::json;

fn remote() -> Option<Remote> {
    let Ok(place) = std::env::var("OPREL_TEST_REMOTE") else {
        eprintln!("skipped: OPREL_TEST_REMOTE names no server");
        return None;
    };
    let place = Place::parse(&format!("real={place}")).unwrap();
    let key = std::env::var("OPREL_REMOTE_KEY").ok();
    Some(Remote::start(&place, key.as_deref(), Patience::default(), None).unwrap())
}

fn ask(remote: &Remote, request: Request) -> Result<Answer, Failure> {
    Answer::fold(wait(remote.generate(request))?.remove(0))
}

fn chat(n: u32) -> Request {
    let mut request = Request::chat(vec![Message::user("Tell me a story.")]);
    request.sampling.temperature = 0.0;
    request.sampling.top_k = 0;
    request.limits.max_tokens = Some(n);
    request
}

#[test]
fn answers_are_bounded_counted_and_the_same_again() {
    let Some(remote) = remote() else { return };
    let first = ask(&remote, chat(8)).unwrap();
    assert_eq!((first.end.clone(), first.usage.generated_tokens), (Some(EndReason::MaxTokens), 8));
    assert!(first.usage.prompt_tokens > 0 && first.usage.total_ns > 0);
    assert!(!(first.text.clone() + &first.thinking).is_empty());
    let again = ask(&remote, chat(8)).unwrap();
    assert_eq!((again.text, again.thinking), (first.text, first.thinking));
    let mut raw = Request::raw("Once upon a time");
    raw.sampling.top_k = 0;
    raw.limits.max_tokens = Some(4);
    assert_eq!(ask(&remote, raw).unwrap().usage.generated_tokens, 4);
    let streams = wait(remote.generate(Request { n: 2, ..chat(4) })).unwrap();
    let answers = streams.into_iter().map(|s| Answer::fold(s).unwrap().usage.generated_tokens);
    assert_eq!(answers.collect::<Vec<_>>(), [4, 4]);
    assert_eq!(remote.health(), Health::Ready);
}

#[test]
fn a_schema_is_kept_or_the_answer_fails() {
    let Some(remote) = remote() else { return };
    let schema = json!({"type": "object", "properties": {"kind": {"enum": ["cat", "dog"]}},
        "required": ["kind"], "additionalProperties": false});
    let mut request = chat(400);
    request.constraint = Some(Constraint::JsonSchema(schema));
    let answer = ask(&remote, request).unwrap();
    if answer.end == Some(EndReason::EndOfText) {
        let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert!(value["kind"] == "cat" || value["kind"] == "dog");
    }
}

#[test]
fn a_reader_that_goes_away_frees_its_place() {
    let Some(remote) = remote() else { return };
    for _ in 0..8 {
        let mut events = wait(remote.generate(chat(300))).unwrap().remove(0);
        assert!(events.next().is_some());
    }
    let begun = Instant::now();
    ask(&remote, chat(1)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(wait(remote.gauges()).unwrap().running, 0);
}

#[test]
fn what_is_too_long_is_refused_and_spoils_nothing() {
    let Some(remote) = remote() else { return };
    let mut long = chat(4);
    long.input = Request::chat(vec![Message::user("word ".repeat(100_000))]).input;
    let failure = ask(&remote, long).unwrap_err();
    let known = remote.describe().context < u32::MAX;
    let told = matches!(failure.cause, Some(Cause::ContextLength { .. }));
    assert!(told || !known, "{failure:?}");
    assert!(ask(&remote, chat(1)).is_ok());
}

#[test]
fn a_conversation_many_times_too_long_is_cut() {
    let Some(remote) = remote() else { return };
    let long = "word by word ".repeat(100);
    let mut request = chat(4);
    request.input = Request::chat(vec![Message::user(long); 200]).input;
    request.limits.input_overflow = InputOverflow::DropOldest;
    if remote.describe().context < 16_384 {
        let answer = ask(&remote, request).unwrap();
        assert!(answer.truncated[0].dropped_messages > 100, "{:?}", answer.truncated);
    }
}

#[test]
fn a_demanded_call_keeps_its_schema() {
    let Some(remote) = remote() else { return };
    let tool = json!({"name": "pick", "description": "Picks an animal.", "parameters": {
        "type": "object", "properties": {"kind": {"enum": ["cat", "dog"]}},
        "required": ["kind"], "additionalProperties": false}});
    let mut request = chat(400);
    let Input::Messages(chat) = &mut request.input else { unreachable!() };
    chat.tools = vec![serde_json::from_value(tool).unwrap()];
    chat.tool_choice = ToolChoice::Named("pick".into());
    let answer = ask(&remote, request).unwrap();
    if answer.end == Some(EndReason::EndOfText) {
        let kind = &answer.tool_calls[0].arguments["kind"];
        assert!(kind == "cat" || kind == "dog");
    }
}

#[test]
fn tokens_go_there_and_back() {
    let Some(remote) = remote() else { return };
    match wait(remote.tokenize("Hello there".into(), Default::default(), None)) {
        Ok(tokens) => {
            assert_eq!(wait(remote.detokenize(tokens, None)).unwrap().trim(), "Hello there")
        }
        Err(failure) => assert!(matches!(failure.cause, Some(Cause::Unsupported(_))), "{failure}"),
    }
}
