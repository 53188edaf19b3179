use super::*;

fn read(input: Value) -> Result<(Vec<Message>, Vec<String>), Failure> {
    let mut fields = Fields::parse(json!({"input": input}).to_string().as_bytes())?;
    let mut ignored = Vec::new();
    let messages = conversation(&mut fields, Some("rules"), &mut ignored)?;
    Ok((messages, ignored))
}

#[test]
fn items_of_one_turn_are_one_message() {
    let (messages, ignored) = read(json!([
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "more"}]},
        {"role": "user", "content": "weather?"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "look"}],
            "encrypted_content": null},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "x",
            "content": [{"type": "output_text", "text": "one ", "annotations": [], "logprobs": []},
                {"type": "output_text", "text": "moment"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f",
            "arguments": "{\"a\":1}", "status": "completed"},
        {"type": "function_call", "call_id": "c2", "namespace": "n", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2",
            "output": [{"type": "input_text", "text": "2"}]},
        {"type": "web_search_call", "id": "ws_1"},
        {"role": "developer", "content": "late"},
    ]))
    .unwrap();
    assert_eq!(ignored, ["input.phase", "input.web_search_call"]);
    let call = |id: &str, name: &str, arguments| ToolCall {
        id: Some(id.into()),
        ..ToolCall::new(name, arguments)
    };
    assert_eq!(messages.len(), 6);
    assert_eq!(
        (&messages[0].role, messages[0].content.text()),
        (&Role::System, "rules\n\nmore".into())
    );
    let turn = &messages[2];
    assert_eq!(turn.thinking.as_deref(), Some("look"));
    assert_eq!(turn.content.text(), "one moment");
    assert_eq!(turn.tool_calls, [call("c1", "f", json!({"a": 1})), call("c2", "n.g", json!({}))]);
    assert_eq!(messages[3].name.as_deref(), Some("f"));
    assert_eq!(messages[4].name.as_deref(), Some("n.g"));
    assert_eq!(messages[4].content.text(), "2");
    assert_eq!(messages[5], Message::system("late"));
}

#[test]
fn thinking_that_cannot_be_read_is_named() {
    let (messages, ignored) = read(json!([
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        {"role": "user", "content": "hi"},
    ]))
    .unwrap();
    assert_eq!(messages, [Message::system("rules"), Message::user("hi")]);
    assert_eq!(ignored, ["input.encrypted_content"]);
}

#[test]
fn images_are_parts() {
    let (messages, ignored) = read(json!([{"role": "user", "content": [
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}]}]))
    .unwrap();
    assert!(messages[1].content.has_media());
    assert_eq!(ignored, ["input.content.image_url.detail"]);
}

#[test]
fn what_cannot_be_read_is_refused_by_its_place() {
    let user = |part: Value| json!([{"role": "user", "content": [part]}]);
    let table = [
        (Value::Null, "input is required"),
        (json!([]), "input is empty"),
        (json!(1), "input must be a text or a list of items"),
        (json!([{"type": "item_reference", "id": "x"}]), "input[0].type \"item_reference\" is"),
        (json!([{"type": "function_call", "name": "f", "arguments": ""}]), "input[0].call_id is"),
        (json!([{"role": "user"}]), "input[0].content is required"),
        (json!([{"content": "x"}]), "input[0].role is required"),
        (
            user(json!({"type": "input_file", "file_id": "x"})),
            "input[0].content[0]: type \"input_file\"",
        ),
        (user(json!({"type": "input_image", "file_id": "x"})), "input[0].content[0].image_url is"),
        (user(json!({"type": "input_image", "image_url": "https://x"})), "image URLs are not"),
    ];
    for (input, wanted) in table {
        let failure = read(input.clone()).unwrap_err();
        assert!(failure.message.starts_with(wanted), "{input}: {failure}");
    }
}
