use super::*;
use crate::Sampled;

fn moment(seconds: u64) -> Moment {
    let id = "abc".to_string();
    Moment { unix_ns: seconds * 1_000_000_000, id, model: "m".into(), ..Moment::default() }
}

fn voice() -> ResponseVoice {
    let space = Space { full: "n.g".into(), namespace: "n".into(), name: "g".into() };
    ResponseVoice::new(json!({"store": false}), vec![space], false, false)
}

/// The objects of a stream; each event's name is its object's type, and they are numbered.
fn stream(voice: &mut ResponseVoice, events: Vec<Event>) -> Vec<Value> {
    let mut bytes = voice.begin(&moment(5));
    for event in events {
        bytes.extend(voice.say(&moment(9), 0, event));
    }
    let text = String::from_utf8(bytes).unwrap();
    let mut values = Vec::new();
    for (number, event) in text.split_terminator("\n\n").enumerate() {
        let (name, data) = event.split_once("\ndata: ").unwrap();
        let value: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name, format!("event: {}", value["type"].as_str().unwrap()));
        assert_eq!(value["sequence_number"], number);
        values.push(value);
    }
    values
}

/// As lines, without the numbers.
fn lines(values: &[Value]) -> String {
    let mut lines = String::new();
    for value in values {
        let mut value = value.clone();
        value.as_object_mut().unwrap().shift_remove("sequence_number");
        lines += &format!("{value}\n");
    }
    lines
}

fn usage() -> Event {
    Event::Usage(Usage {
        prompt_tokens: 5,
        cached_tokens: 2,
        generated_tokens: 4,
        thinking_tokens: 1,
        ..Usage::default()
    })
}

fn called(id: &str, name: &str) -> Event {
    let mut call = ToolCall::new(name, json!({"a": 1}));
    call.id = Some(id.into());
    Event::ToolCall(call)
}

#[test]
fn items_come_in_order_with_all_that_ends_them() {
    let values = stream(
        &mut voice(),
        vec![
            Event::thinking("hm"),
            Event::text("Hi"),
            Event::text("!"),
            called("c1", "n.g"),
            Event::text("x"),
            usage(),
            Event::End(EndReason::EndOfText),
            Event::text("late"),
        ],
    );
    let wanted = r#"{"type":"response.created","response":{"id":"resp_abc","object":"response","created_at":5,"completed_at":null,"status":"in_progress","background":false,"error":null,"incomplete_details":null,"model":"m","output":[],"store":false,"usage":null}}
{"type":"response.in_progress","response":{"id":"resp_abc","object":"response","created_at":5,"completed_at":null,"status":"in_progress","background":false,"error":null,"incomplete_details":null,"model":"m","output":[],"store":false,"usage":null}}
{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_abc0","type":"reasoning","status":"in_progress","summary":[]}}
{"type":"response.reasoning_summary_part.added","item_id":"rs_abc0","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}
{"type":"response.reasoning_summary_text.delta","item_id":"rs_abc0","output_index":0,"summary_index":0,"delta":"hm"}
{"type":"response.reasoning_summary_text.done","item_id":"rs_abc0","output_index":0,"summary_index":0,"text":"hm"}
{"type":"response.reasoning_summary_part.done","item_id":"rs_abc0","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":"hm"}}
{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_abc0","type":"reasoning","status":"completed","summary":[{"type":"summary_text","text":"hm"}]}}
{"type":"response.output_item.added","output_index":1,"item":{"id":"msg_abc1","type":"message","status":"in_progress","role":"assistant","content":[]}}
{"type":"response.content_part.added","item_id":"msg_abc1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
{"type":"response.output_text.delta","item_id":"msg_abc1","output_index":1,"content_index":0,"delta":"Hi","logprobs":[]}
{"type":"response.output_text.delta","item_id":"msg_abc1","output_index":1,"content_index":0,"delta":"!","logprobs":[]}
{"type":"response.output_text.done","item_id":"msg_abc1","output_index":1,"content_index":0,"text":"Hi!","logprobs":[]}
{"type":"response.content_part.done","item_id":"msg_abc1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"Hi!","annotations":[],"logprobs":[]}}
{"type":"response.output_item.done","output_index":1,"item":{"id":"msg_abc1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi!","annotations":[],"logprobs":[]}]}}
{"type":"response.output_item.added","output_index":2,"item":{"id":"fc_abc2","type":"function_call","status":"in_progress","call_id":"c1","name":"g","arguments":"","namespace":"n"}}
{"type":"response.function_call_arguments.delta","item_id":"fc_abc2","output_index":2,"delta":"{\"a\":1}"}
{"type":"response.function_call_arguments.done","item_id":"fc_abc2","output_index":2,"name":"g","arguments":"{\"a\":1}"}
{"type":"response.output_item.done","output_index":2,"item":{"id":"fc_abc2","type":"function_call","status":"completed","call_id":"c1","name":"g","arguments":"{\"a\":1}","namespace":"n"}}
"#;
    let all = lines(&values);
    assert!(all.starts_with(wanted), "{all}");
    let last = values.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let response = &last["response"];
    assert_eq!((&response["status"], &response["completed_at"]), (&json!("completed"), &json!(9)));
    assert_eq!(response["created_at"], 5);
    assert_eq!(
        response["usage"].to_string(),
        r#"{"input_tokens":5,"input_tokens_details":{"cached_tokens":2},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":9}"#
    );
    let done = values.iter().filter(|value| value["type"] == "response.output_item.done");
    let done: Vec<&Value> = done.map(|value| &value["item"]).collect();
    assert_eq!(done.len(), 4);
    assert_eq!(response["output"].as_array().unwrap().iter().collect::<Vec<_>>(), done);
}

#[test]
fn an_answer_cut_short_is_incomplete() {
    let cut = Truncation { dropped_tokens: 3, ..Truncation::default() };
    let events = vec![Event::Truncated(cut), Event::text("a"), Event::End(EndReason::MaxTokens)];
    let values = stream(&mut voice(), events.clone());
    let last = values.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    let whole = voice().whole(&moment(5), vec![Answer::fold(events).unwrap()]);
    for response in [&last["response"], &whole] {
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(response["output"][0]["status"], "incomplete");
        assert_eq!(response["oprel"]["truncated"][0]["dropped_tokens"], 3);
    }
}

#[test]
fn a_failure_is_the_last_event() {
    let failure = Failure::new(ErrorKind::Backend, "the engine stopped");
    let events = vec![Event::text("a"), Event::Error(failure), Event::End(EndReason::EndOfText)];
    let values = stream(&mut voice(), events);
    let last = values.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    let error = json!({"code": "server_error", "message": "the engine stopped"});
    assert_eq!(last["response"]["error"], error);
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
}

#[test]
fn a_whole_answer_has_the_items_of_a_stream() {
    let events = || {
        vec![
            Event::thinking("hm"),
            Event::text("Hi"),
            called("c1", "f"),
            usage(),
            Event::End(EndReason::EndOfText),
        ]
    };
    let values = stream(&mut voice(), events());
    let whole = voice().whole(&moment(9), vec![Answer::fold(events()).unwrap()]);
    let mut streamed = values.last().unwrap()["response"].clone();
    streamed["created_at"] = json!(9);
    assert_eq!(whole, streamed);
}

#[test]
fn probabilities_go_with_the_text_that_their_tokens_begin() {
    let piece = |text: &str, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        let token = Sampled { id: 1, bytes, logprob: Some(-0.5), top: vec![] };
        Event::Text(Piece { text: text.into(), tokens: vec![token] })
    };
    let mut voice = ResponseVoice::new(json!({}), vec![], true, false);
    let values = stream(
        &mut voice,
        vec![piece("", &[0xc3]), piece("é", &[0xa9]), piece("", b""), called("c", "f")],
    );
    let deltas: Vec<&Value> =
        values.iter().filter(|value| value["type"] == "response.output_text.delta").collect();
    assert_eq!(deltas.len(), 2);
    assert_eq!(deltas[0]["logprobs"].as_array().unwrap().len(), 2);
    let done = values.iter().find(|value| value["type"] == "response.output_text.done").unwrap();
    assert_eq!(done["logprobs"].as_array().unwrap().len(), 3);
}

#[test]
fn at_most_one_call_where_the_client_says_so() {
    let mut voice = ResponseVoice::new(json!({}), vec![], false, true);
    let values = stream(&mut voice, vec![called("a", "f"), called("b", "g")]);
    assert!(lines(&values).contains("\"f\"") && !lines(&values).contains("\"g\""));
}
