use super::*;

const PNG: &str = "iVBORw0KGgo=";
const WAV: &str = "UklGRgAAAABXQVZF";

fn one(value: Value) -> Message {
    messages(vec![value]).unwrap().remove(0)
}

fn why(value: Value) -> String {
    messages(vec![json!({"role": "user"}), value]).unwrap_err().message
}

/// `t` for a text, `i` for an image, `a` for a sound.
fn shape(content: &Content) -> String {
    let Content::Parts(parts) = content else { return "-".into() };
    let letter = |part: &Part| match part {
        Part::Text(text) => format!("t({text})"),
        Part::Image(_) => "i".into(),
        Part::Audio(_) => "a".into(),
        Part::Other(_) => "?".into(),
    };
    parts.iter().map(letter).collect()
}

#[test]
fn roles_are_lower_cased_and_others_passed_on() {
    let roles = [
        ("USER", Role::User),
        ("System", Role::System),
        ("assistant", Role::Assistant),
        ("tOOl", Role::Tool),
        ("Developer", Role::Other("developer".into())),
    ];
    for (text, role) in roles {
        assert_eq!(one(json!({"role": text, "content": "x"})), Message::new(role, "x"));
    }
    assert_eq!(one(json!({"Role": "user", "CONTENT": "x"})), Message::user("x"));
    assert_eq!(one(json!({"role": "user", "content": null})), Message::user(""));
}

#[test]
fn a_message_that_is_none_is_refused_by_its_place() {
    assert_eq!(why(json!({"content": "x"})), "messages[1] needs a role");
    assert_eq!(why(json!("x")), "messages[1] must be an object, not a string");
    let parts = json!({"role": "user", "content": [{"type": "text", "text": "x"}]});
    assert_eq!(why(parts), "messages[1].content must be a string, not a list");
    let image = json!({"role": "user", "images": ["AA"]});
    let expected = "messages[1].images[0] is not base64: illegal base64 data at input byte 2";
    assert_eq!(why(image), expected);
}

#[test]
fn images_stand_before_the_text_or_where_it_wants_them() {
    let with = |text: &str, images: &[&str]| {
        shape(&one(json!({"role": "user", "content": text, "images": images})).content)
    };
    assert_eq!(with("what", &[PNG]), "it(what)");
    assert_eq!(with("what", &[PNG, WAV]), "iat(what)");
    assert_eq!(with("", &[PNG]), "i");
    assert_eq!(with("a [img] b", &[PNG]), "t(a )it( b)");
    assert_eq!(with("a [img] b", &[WAV, PNG]), "it(a )at( b)");
    assert_eq!(with("[img][img][img]", &[PNG, WAV]), "iat([img])");
    assert_eq!(with("[img]", &[]), "-");
}

#[test]
fn calls_and_results_of_tools_keep_what_names_them() {
    let calls = one(json!({"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
        {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"b": 1, "a": [2]}}},
        {"type": "function", "Function": {"Name": "g", "Arguments": "{\"x\": 1}"}},
        {"function": {"name": "h"}}]}));
    assert_eq!(calls.thinking.as_deref(), Some("hm"));
    let f = ToolCall { id: Some("c1".into()), ..ToolCall::new("f", json!({"b": 1, "a": [2]})) };
    let g = ToolCall::new("g", json!({"x": 1}));
    assert_eq!(calls.tool_calls, [f, g, ToolCall::new("h", json!({}))]);
    let result =
        one(json!({"role": "tool", "content": "3", "tool_name": "f", "tool_call_id": "c1"}));
    let expected = Message { tool_call_id: Some("c1".into()), ..Message::tool("f", "3") };
    assert_eq!(result, expected);
}

#[test]
fn a_call_without_name_or_object_is_refused() {
    let call = |call| why(json!({"role": "assistant", "tool_calls": [call]}));
    let at = "messages[1].tool_calls[0].function";
    assert_eq!(call(json!({})), format!("{at}.name is missing"));
    for bad in [json!([1]), json!("x"), json!("[1]"), json!(1)] {
        let text = call(json!({"function": {"name": "f", "arguments": bad}}));
        assert_eq!(text, format!("{at}.arguments must be an object"));
    }
}

#[test]
fn unknown_keys_of_a_message_are_kept_for_templates() {
    let message = one(json!({"role": "user", "content": "x", "weight": 2}));
    assert_eq!(message.extra["weight"], json!(2));
}

#[test]
fn every_key_of_a_schema_is_kept() {
    let wire = json!({"type": "function", "function": {"name": "f", "description": "d",
        "parameters": {"type": "object", "required": ["b"], "additionalProperties": false,
            "properties": {"b": {"type": ["string", "null"], "pattern": "^x", "default": "x"},
                "a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"minimum": 1}}},
        "strict": true}});
    let mut ignored = Vec::new();
    let read = tools(vec![wire.clone()], &mut ignored).unwrap();
    assert_eq!(read[0].to_json().to_string(), wire.to_string());
    assert!(ignored.is_empty());
    let odd = json!({"Items": 1, "FUNCTION": {"Name": "f"}});
    assert_eq!(tools(vec![odd], &mut ignored).unwrap()[0].name, "f");
    assert_eq!(ignored, ["tools[0].Items"]);
}

#[test]
fn a_tool_that_is_no_function_is_refused() {
    let bad = [
        (json!({"type": "web_search"}), "tools[0].type must be \"function\", not \"web_search\""),
        (json!({"type": "function"}), "tools[0].function is missing"),
        (json!({"function": {"description": "d"}}), "tools[0].function.name is missing"),
        (json!(1), "tools[0] must be an object, not a number"),
        (
            json!({"function": {"name": "f", "parameters": []}}),
            "tools[0].function.parameters must be an object",
        ),
    ];
    for (tool, why) in bad {
        assert_eq!(tools(vec![tool], &mut Vec::new()).unwrap_err().message, why);
    }
}

#[test]
fn which_tool_is_called_can_be_said() {
    let f = [Tool::new("f", "", json!({}))];
    let good = [
        (json!("auto"), ToolChoice::Auto),
        (json!("none"), ToolChoice::None),
        (json!("required"), ToolChoice::Required),
        (json!({"type": "function", "function": {"name": "f"}}), ToolChoice::Named("f".into())),
    ];
    for (value, choice) in good {
        assert_eq!(tool_choice(Some(value), &f), Ok(choice));
    }
    assert_eq!(tool_choice(None, &[]), Ok(ToolChoice::Auto));
    for bad in [json!("f"), json!({"name": "f"}), json!(1), json!({"function": {"name": "g"}})] {
        assert!(tool_choice(Some(bad), &f).unwrap_err().message.starts_with("tool_choice"));
    }
    assert!(tool_choice(Some(json!("required")), &[]).is_err());
}
