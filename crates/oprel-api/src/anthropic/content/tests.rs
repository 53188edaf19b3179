use super::*;

fn read(body: Value) -> Result<(Vec<Message>, Vec<String>), Failure> {
    let mut fields = Fields::parse(body.to_string().as_bytes())?;
    let mut ignored = Vec::new();
    let messages = conversation(&mut fields, &mut ignored)?;
    Ok((messages, ignored))
}

fn turns(turns: Value) -> Vec<Message> {
    read(json!({"messages": turns})).unwrap().0
}

#[test]
fn the_system_is_a_text_or_blocks() {
    let hi = json!([{"role": "user", "content": "hi"}]);
    for system in [
        json!("a\nb"),
        json!([{"type": "text", "text": "a"},
            {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]),
    ] {
        let (messages, ignored) = read(json!({"system": system, "messages": hi})).unwrap();
        assert_eq!(messages, [Message::system("a\nb"), Message::user("hi")]);
        assert!(ignored.is_empty() || ignored == ["cache_control"]);
    }
    let (messages, _) = read(json!({"system": "", "messages": hi})).unwrap();
    assert_eq!(messages, [Message::user("hi")]);
}

#[test]
fn a_dialogue_with_tools_becomes_messages_in_order() {
    let messages = turns(json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "look", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "one moment"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}}]},
        {"role": "user", "content": [
            {"type": "text", "text": "here"},
            {"type": "tool_result", "tool_use_id": "t2", "content": "2"},
            {"type": "tool_result", "tool_use_id": "t1", "is_error": true,
                "content": [{"type": "text", "text": "1"}]}]},
    ]));
    let call = |id: &str, name: &str, arguments| ToolCall {
        id: Some(id.into()),
        ..ToolCall::new(name, arguments)
    };
    let result = |id: &str, name: &str, text: &str| Message {
        tool_call_id: Some(id.into()),
        ..Message::tool(name, text)
    };
    let mut failed = result("t1", "f", "1");
    failed.extra.insert("is_error".into(), json!(true));
    let asked = Message {
        thinking: Some("look".into()),
        tool_calls: vec![call("t1", "f", json!({"a": 1})), call("t2", "g", json!({}))],
        ..Message::assistant("one moment")
    };
    let wanted =
        [Message::user("weather?"), asked, result("t2", "g", "2"), failed, Message::user("here")];
    assert_eq!(messages, wanted);
}

#[test]
fn turns_of_one_speaker_in_a_row_are_one_message() {
    let messages = turns(json!([
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": []},
        {"role": "user", "content": "c"},
    ]));
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].content.text(), "a\nb\nc");
}

#[test]
fn images_and_plain_documents_are_parts() {
    let messages = turns(json!([{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}]}]));
    let source = MediaSource::Bytes(vec![0].into());
    let media = Media { source, mime: Some("image/png".into()) };
    let parts = vec![Part::Image(media), Part::Text("d".into())];
    assert_eq!(messages[0].content, Content::Parts(parts));
}

#[test]
fn what_changes_nothing_is_named_once() {
    let cached = json!({"type": "text", "text": "a", "cache_control": {}, "citations": []});
    let (_, ignored) = read(json!({"messages": [
        {"role": "user", "content": [cached, cached]},
        {"role": "assistant", "content": [{"type": "server_tool_use", "id": "x"}, cached]},
    ]}))
    .unwrap();
    let named = ["cache_control", "messages.content.citations", "messages.content.server_tool_use"];
    assert_eq!(ignored, named);
}

#[test]
fn what_cannot_be_read_is_refused_by_its_place() {
    let user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let table = [
        (json!({}), "messages is required"),
        (json!({"messages": []}), "messages: at least one message is required"),
        (json!({"messages": [{"role": "tool", "content": ""}]}), "messages[0].role must be"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content is required"),
        (json!({"messages": [{"role": "user", "content": 1}]}), "messages[0].content must be"),
        (json!({"system": [{"type": "image"}], "messages": []}), "system[0].type \"image\" is not"),
        (
            user(json!({"type": "search_result"})),
            "messages[0].content[0].type \"search_result\" is",
        ),
        (user(json!({"type": "image"})), "messages[0].content[0].source is required"),
        (
            user(json!({"type": "image", "source": {"type": "url", "url": "https://x"}})),
            "messages[0].content[0].source of type \"url\" in a block \"image\" is not supported",
        ),
        (user(json!({"type": "tool_result"})), "messages[0].content[0].tool_use_id is required"),
        (
            user(json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "x"}]})),
            "messages[0].content[0].content[0].type \"x\" is not supported",
        ),
    ];
    for (body, wanted) in table {
        let failure = read(body.clone()).unwrap_err();
        assert!(failure.message.starts_with(wanted), "{body}: {failure}");
    }
}
