use serde_json::json;

use super::*;
use crate::compile::demo_vocabulary;

fn tools() -> Vec<Tool> {
    let place = json!({"type": "object", "properties": {"place": {"type": "string"},
        "unit": {"enum": ["C", "F"]}}, "required": ["place"], "additionalProperties": false});
    vec![Tool::new("weather", "", place), Tool::new("weather_now", "", json!({}))]
}

fn matcher(format: CallFormat, choice: ToolChoice) -> Result<Option<Matcher>> {
    tool_call_matcher(&demo_vocabulary(), &format, &tools(), &choice)
}

fn reads(format: CallFormat, choice: ToolChoice, text: &str) -> bool {
    let mut matcher = matcher(format, choice).unwrap().unwrap();
    let tokens = matcher.vocabulary().tokenize(text);
    tokens.into_iter().all(|token| matcher.accept(token).is_ok()) && matcher.may_end().unwrap()
}

#[test]
fn calls_are_written_as_models_were_trained_to() {
    let named = || ToolChoice::Named("weather".into());
    let tagged = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Rome\"}}\n\
                  </tool_call>";
    let other = "<tool_call>\n{\"name\": \"weather_now\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    assert!(reads(CallFormat::Tagged, ToolChoice::Required, tagged));
    assert!(reads(CallFormat::Tagged, ToolChoice::Required, &format!("{tagged}\n{other}")));
    assert!(reads(CallFormat::Tagged, named(), tagged));
    assert!(!reads(CallFormat::Tagged, named(), other));
    assert!(!reads(CallFormat::Tagged, named(), &format!("{tagged}\n{tagged}")));
    assert!(!reads(CallFormat::Tagged, named(), &tagged.replace("Rome\"", "Rome\", \"unit\": 1")));
    let bare = "{\"name\": \"weather\", \"parameters\": {\"place\": \"Oslo\", \"unit\": \"C\"}}";
    assert!(reads(CallFormat::Bare, named(), bare));
    assert!(reads(CallFormat::Bare, ToolChoice::Required, &format!("{bare}; {bare}")));
    let listed = "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"place\": \"\"}}]";
    assert!(reads(CallFormat::Listed, ToolChoice::Required, listed));
    assert!(!reads(CallFormat::Listed, ToolChoice::Required, "[TOOL_CALLS][]"));
}

#[test]
fn what_stands_around_arguments_is_forced() {
    let mut matcher =
        matcher(CallFormat::Tagged, ToolChoice::Named("weather".into())).unwrap().unwrap();
    let mut text = Vec::new();
    for token in matcher.forced().unwrap() {
        text.extend_from_slice(matcher.vocabulary().bytes(token));
        matcher.accept(token).unwrap();
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("<tool_call>\n{\"name\": \"weather\", \"arguments\":"), "{text}");
}

#[test]
fn what_cannot_be_forced_is_refused_by_name() {
    let format = CallFormat::Other("Xml".into());
    let refused = matcher(format, ToolChoice::Required).unwrap_err();
    assert_eq!(refused, Error::CallFormat { format: "Xml".into() });
    let refused = matcher(CallFormat::Bare, ToolChoice::Named("none".into())).unwrap_err();
    assert_eq!(refused, Error::NoTool { name: "none".into() });
    assert!(matcher(CallFormat::Bare, ToolChoice::Auto).unwrap().is_none());
    assert!(matcher(CallFormat::Bare, ToolChoice::None).unwrap().is_none());
    let bad = Tool::new("f", "", json!({"properties": {"a/b": {"not": {}}}}));
    let tools = [tools().remove(0), bad];
    let choice = ToolChoice::Required;
    let refused = tool_call_matcher(&demo_vocabulary(), &CallFormat::Bare, &tools, &choice);
    let Err(Error::Keyword { keyword, pointer, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(
        (keyword.as_str(), pointer.as_str()),
        ("not", "/tools/1/parameters/properties/a~1b")
    );
}

const KIMI: CallFrame = CallFrame {
    may_open: "",
    open: "<|tool_calls_section_begin|>",
    call: &[
        Text("<|tool_call_begin|>functions."),
        Name,
        Text(":"),
        Number,
        Text("<|tool_call_argument_begin|>"),
        Arguments,
        Text("<|tool_call_end|>"),
    ],
    between: Some(""),
    close: "<|tool_calls_section_end|>",
};

#[test]
fn any_frame_is_kept() {
    let call = "<|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>\
                {\"place\": \"Rome\"}<|tool_call_end|>";
    let all = format!("<|tool_calls_section_begin|>{call}{call}<|tool_calls_section_end|>");
    let format = CallFormat::Framed(KIMI);
    assert!(reads(format.clone(), ToolChoice::Required, &all));
    assert!(!reads(format.clone(), ToolChoice::Named("weather".into()), &all));
    assert!(!reads(format, ToolChoice::Required, call));
    let message = CallFrame {
        may_open: "<|start|>assistant",
        open: "",
        call: &[
            Text("<|channel|>commentary to=functions."),
            Name,
            Text(" <|constrain|>json<|message|>"),
            Arguments,
        ],
        between: None,
        close: "",
    };
    let one = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>\
               {\"place\": \"Rome\"}";
    let format = CallFormat::Framed(message);
    assert!(reads(format.clone(), ToolChoice::Required, one));
    assert!(reads(format.clone(), ToolChoice::Required, &format!("<|start|>assistant{one}")));
    assert!(!reads(format, ToolChoice::Required, &format!("{one}{one}")));
}

#[test]
fn control_tokens_are_found_in_texts() {
    let vocabulary = demo_vocabulary();
    assert_eq!(literal(&vocabulary, ""), "");
    assert_eq!(literal(&vocabulary, "a <b> [c"), " \"a <b> [c\"");
    let control = |name: &str| vocabulary.control(name).map(|id| format!("<[{id}]>"));
    if let Some(id) = control("<|im_end|>") {
        assert_eq!(literal(&vocabulary, "a<|im_end|><b"), format!(" \"a\" {id} \"<b\""));
    }
}
