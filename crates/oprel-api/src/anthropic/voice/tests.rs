use super::*;
use crate::{ErrorKind, Failure};

fn moment() -> Moment {
    Moment { unix_ns: 0, id: "abc".into(), model: "m:latest".into(), prompt_tokens: Some(42) }
}

fn voice() -> MessageVoice {
    MessageVoice::new(vec!["x".into()], false)
}

/// The objects of a stream, one a line; each event's name is its object's type.
fn stream(mut voice: MessageVoice, events: Vec<Event>) -> String {
    let mut bytes = voice.begin(&moment());
    for event in events {
        bytes.extend(voice.say(&moment(), 0, event));
    }
    let text = String::from_utf8(bytes).unwrap();
    let mut lines = String::new();
    for event in text.split_terminator("\n\n") {
        let (name, data) = event.split_once("\ndata: ").unwrap();
        let value: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name, format!("event: {}", value["type"].as_str().unwrap()));
        lines += data;
        lines.push('\n');
    }
    lines
}

fn usage() -> Event {
    Event::Usage(Usage {
        prompt_tokens: 42,
        cached_tokens: 2,
        generated_tokens: 17,
        ..Usage::default()
    })
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_abc","type":"message","role":"assistant","model":"m:latest","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":42,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}
"#;

#[test]
fn thinking_text_and_calls_are_blocks_of_their_own() {
    let mut call = ToolCall::new("f", json!({"a": 1}));
    call.id = Some("t1".into());
    let said = stream(
        voice(),
        vec![
            Event::thinking("hm"),
            Event::thinking("m"),
            Event::text(""),
            Event::text("Hi"),
            Event::thinking("so"),
            Event::text("!"),
            Event::ToolCall(call),
            Event::ToolCall(ToolCall::new("g", json!("oops"))),
            Event::text("done"),
            usage(),
            Event::End(EndReason::EndOfText),
            Event::text("late"),
        ],
    );
    let wanted = r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}
{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m"}}
{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"b3ByZWw="}}
{"type":"content_block_stop","index":0}
{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hi"}}
{"type":"content_block_stop","index":1}
{"type":"content_block_start","index":2,"content_block":{"type":"thinking","thinking":"","signature":""}}
{"type":"content_block_delta","index":2,"delta":{"type":"thinking_delta","thinking":"so"}}
{"type":"content_block_delta","index":2,"delta":{"type":"signature_delta","signature":"b3ByZWw="}}
{"type":"content_block_stop","index":2}
{"type":"content_block_start","index":3,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"!"}}
{"type":"content_block_stop","index":3}
{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}
{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}
{"type":"content_block_stop","index":4}
{"type":"content_block_start","index":5,"content_block":{"type":"tool_use","id":"toolu_abc1","name":"g","input":{}}}
{"type":"content_block_delta","index":5,"delta":{"type":"input_json_delta","partial_json":"{\"arguments\":\"oops\"}"}}
{"type":"content_block_stop","index":5}
{"type":"content_block_start","index":6,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":6,"delta":{"type":"text_delta","text":"done"}}
{"type":"content_block_stop","index":6}
{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":40,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":17}}
{"type":"message_stop"}
"#;
    assert_eq!(said, format!("{START}{wanted}"));
}

#[test]
fn a_stop_text_of_the_client_is_told() {
    let end = Event::End(EndReason::StopText("x".into()));
    let said = stream(voice(), vec![end]);
    let wanted = r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"x"},"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}
{"type":"message_stop"}
"#;
    assert_eq!(said, format!("{START}{wanted}"));
}

#[test]
fn a_failure_is_the_last_event() {
    let failure = Failure::new(ErrorKind::Backend, "the engine stopped");
    let events = vec![Event::text("a"), Event::Error(failure), Event::End(EndReason::EndOfText)];
    let said = stream(voice(), events);
    let last = r#"{"type":"error","error":{"type":"api_error","message":"the engine stopped"},"request_id":"req_abc"}"#;
    assert_eq!(said.lines().last(), Some(last));
    assert!(!said.contains("message_stop"));
}

#[test]
fn what_was_left_out_is_told_at_the_end() {
    let cut = Truncation { dropped_messages: 1, ..Truncation::default() };
    let said = stream(voice(), vec![Event::Truncated(cut), Event::End(EndReason::ContextFull)]);
    let more = r#""oprel":{"truncated":[{"dropped_messages":1,"dropped_tokens":0,"kept_tokens":0,"during_answer":false}],"end":"context_full"}}"#;
    assert!(said.contains(more) && said.contains("\"max_tokens\""), "{said}");
}

#[test]
fn at_most_one_call_where_the_client_says_so() {
    let call = |name: &str| Event::ToolCall(ToolCall::new(name, json!({})));
    let events = vec![call("f"), call("g"), Event::End(EndReason::EndOfText)];
    let said = stream(MessageVoice::new(vec![], true), events.clone());
    assert!(said.contains("\"f\"") && !said.contains("\"g\""));
    let answer = Answer::fold(events).unwrap();
    let whole = MessageVoice::new(vec![], true).whole(&moment(), vec![answer]);
    assert_eq!(whole["content"].as_array().unwrap().len(), 1);
}

#[test]
fn a_whole_answer_has_every_required_field() {
    let answer = Answer::fold([
        Event::thinking("hm"),
        Event::text("a"),
        Event::ToolCall(ToolCall::new("f", json!({"a": 1}))),
        usage(),
        Event::End(EndReason::EndOfText),
    ])
    .unwrap();
    assert_eq!(
        voice().whole(&moment(), vec![answer]).to_string(),
        r#"{"id":"msg_abc","type":"message","role":"assistant","model":"m:latest","content":[{"type":"thinking","thinking":"hm","signature":"b3ByZWw="},{"type":"text","text":"a"},{"type":"tool_use","id":"toolu_abc0","name":"f","input":{"a":1}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":40,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":17}}"#
    );
}
