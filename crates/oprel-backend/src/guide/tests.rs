//! What a guide allows, with the vocabulary and the template of the demo model.

use oprel_api::Tool;
use oprel_tokenizer::TokenizeOptions;
use serde_json::json;

use super::*;
use crate::ModelSource;
use crate::load::describe;

const FORMAT: ToolFormat = ToolFormat::Tagged;

fn facts(format: ToolFormat) -> Facts {
    let mut facts = describe(&ModelSource::Demo, None).unwrap().0;
    facts.can.tool_format = Some(format);
    facts
}

fn request(choice: ToolChoice) -> Request {
    let place = json!({"type": "object", "properties": {"place": {"type": "string"}},
        "required": ["place"], "additionalProperties": false});
    let tools = vec![Tool::new("weather", "", place)];
    let chat = Chat { tools, tool_choice: choice, ..Chat::default() };
    Request { input: Input::Messages(chat), ..Request::raw("x") }
}

fn guide(facts: &Facts, choice: ToolChoice) -> Option<Guide> {
    Guides::default().of(facts, &request(choice), Some("")).unwrap()
}

fn tokens(facts: &Facts, text: &str) -> Vec<u32> {
    let options = TokenizeOptions { add_special: false, parse_special: true };
    facts.tokenizer.tokenize(text, options)
}

/// Takes a text token by token.
fn write(facts: &Facts, guide: &mut Guide, text: &str) -> Result<(), String> {
    for id in tokens(facts, text) {
        guide.0.prepare();
        guide.0.accept(id)?;
    }
    Ok(())
}

/// Whether the first token of a text may come.
fn allows(facts: &Facts, guide: &mut Guide, text: &str) -> bool {
    let id = tokens(facts, text)[0];
    let may = |words: &[u32]| words[id as usize / 32] >> (id % 32) & 1 == 1;
    guide.0.allowed().unwrap().is_none_or(may)
}

#[test]
fn a_call_of_the_models_own_choice_is_held_to_its_tool() {
    let facts = facts(FORMAT);
    let mut guide = guide(&facts, ToolChoice::Auto).unwrap();
    write(&facts, &mut guide, "I look.\n<think>").unwrap();
    assert_eq!(guide.0.allowed().unwrap(), None);
    let mut other = guide.clone();
    write(&facts, &mut guide, "<tool_call>").unwrap();
    // What was thought opened none.
    assert_eq!(guide.0.allowed().unwrap(), None);
    let call = "</think>\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\":";
    write(&facts, &mut other, call).unwrap();
    assert!(other.0.allowed().unwrap().is_some() && !other.0.is_complete());
    assert!(!allows(&facts, &mut other, " 5") && allows(&facts, &mut other, " \""));
    write(&facts, &mut other, " \"Rome\"}}\n</tool_call>").unwrap();
    assert!(!allows(&facts, &mut other, "So"));
}

#[test]
fn without_a_call_nothing_is_held() {
    let facts = facts(FORMAT);
    let mut guide = guide(&facts, ToolChoice::Auto).unwrap();
    write(&facts, &mut guide, "The <tool> is {\"name\": 1}.").unwrap();
    assert_eq!(guide.0.allowed().unwrap(), None);
    assert!(guide.0.forced().is_empty() && !guide.0.is_complete());
}

#[test]
fn formats_that_cannot_be_held_are_free_by_choice_and_refused_by_name() {
    let facts = facts(ToolFormat::ParameterTags);
    assert!(guide(&facts, ToolChoice::Auto).is_none());
    let refused = Guides::default().of(&facts, &request(ToolChoice::Required), Some(""));
    assert!(refused.unwrap_err().to_string().contains("ParameterTags"));
}

#[test]
fn a_message_to_a_tool_is_required_behind_thinking() {
    let mut facts = facts(ToolFormat::Harmony);
    facts.can.think_tags = ThinkTags::of("<|channel|>final<|message|>");
    let mut guide = guide(&facts, ToolChoice::Required).unwrap();
    let thought = "<|channel|>analysis<|message|>hm<|end|>";
    let call = "<|start|>assistant<|channel|>commentary to=functions.weather \
                <|constrain|>json<|message|>{\"place\": \"Rome\"}";
    let mut none = guide.clone();
    write(&facts, &mut guide, &format!("{thought}{call}")).unwrap();
    assert!(guide.0.is_complete());
    let answer = "<|start|>assistant<|channel|>final<|message|>";
    assert!(write(&facts, &mut none, &format!("{thought}{answer}")).is_err());
}
