use oprel_api::Constraint;
use serde_json::json;

use super::*;
use crate::compile::demo_vocabulary;

fn gate(options: &GateOptions) -> Gate {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "required": ["a"], "additionalProperties": false});
    let matcher = Matcher::new(&demo_vocabulary(), &Constraint::JsonSchema(schema)).unwrap();
    Gate::new(matcher, options)
}

fn thinks(inside: bool) -> GateOptions {
    GateOptions {
        think_open: Some("<think>".into()),
        think_close: Some("</think>".into()),
        inside,
        ..GateOptions::default()
    }
}

/// Takes a text token by token; the text before the first that is refused, if one is.
fn write(gate: &mut Gate, text: &str) -> Result<(), String> {
    let vocabulary = gate.matcher().vocabulary().clone();
    let mut written = Vec::new();
    for token in vocabulary.tokenize(text) {
        let allowed = gate.allowed().unwrap().allows(token);
        let accepted = gate.accept(token);
        assert_eq!(allowed, accepted.is_ok(), "{text:?} after {written:?}: {accepted:?}");
        if !allowed {
            return Err(String::from_utf8(written).unwrap());
        }
        written.extend_from_slice(vocabulary.bytes(token));
    }
    Ok(())
}

#[test]
fn without_tags_the_constraint_applies_from_the_start() {
    let mut gate = gate(&GateOptions::default());
    assert!(gate.is_holding());
    assert_eq!(write(&mut gate, "{\"a\":1}"), Ok(()));
    assert!(gate.is_complete() && gate.may_end().unwrap());
    assert!(write(&mut gate, "x").is_err());
}

#[test]
fn everything_is_allowed_until_thinking_is_closed() {
    let thought = "hm, a < b and </thin air> {\"b\"</think>\n\n";
    for (inside, begin) in [(false, "<think>"), (true, "")] {
        let mut gate = gate(&thinks(inside));
        assert_eq!(write(&mut gate, &format!("{begin}{thought}")), Ok(()));
        assert_eq!(write(&mut gate, "{\"a\":"), Ok(()));
        assert!(write(&mut gate, "x").is_err());
        assert_eq!(write(&mut gate, "7}"), Ok(()));
        assert!(gate.may_end().unwrap());
    }
}

#[test]
fn an_answer_without_thinking_is_held_from_the_start() {
    let mut open = gate(&thinks(false));
    assert_eq!(write(&mut open, "{\"a\":1}"), Ok(()));
    assert!(open.is_complete());
    assert_eq!(write(&mut gate(&thinks(false)), "I"), Err(String::new()));
    // A tag that does not come to its end is no thinking.
    assert!(write(&mut gate(&thinks(false)), "<thin air").is_err());
}

#[test]
fn thinking_neither_ends_the_answer_nor_runs_into_it() {
    let mut open = gate(&thinks(true));
    let vocabulary = open.matcher().vocabulary().clone();
    let end = vocabulary.ends()[0];
    assert!(!open.allowed().unwrap().allows(end));
    assert_eq!(open.accept(end), Err(Error::NotAllowed { token: end }));
    assert_eq!(write(&mut open, "so</think>"), Ok(()));
    assert!(write(&mut open, &" ".repeat(60)).is_err());
}

#[test]
fn a_call_of_a_tool_comes_in_place_of_the_answer() {
    let calls = GateOptions { call_opens: vec!["<tool_call>".into()], ..thinks(false) };
    for before in ["", "<think>I call.</think>\n\n"] {
        let mut open = gate(&calls);
        assert_eq!(write(&mut open, &format!("{before}<tool_call>{{anything goes")), Ok(()));
        assert!(!open.is_holding() && open.may_end().unwrap());
        let end = open.matcher().vocabulary().ends()[0];
        assert_eq!(open.accept(end), Ok(()));
        assert!(open.is_complete() && open.allowed().unwrap().is_empty());
        let mut open = gate(&calls);
        assert_eq!(write(&mut open, &format!("{before}{{\"a\":2}}")), Ok(()));
        assert!(open.is_complete());
    }
}

#[test]
fn a_tag_that_begins_like_the_answer_is_told_apart_when_it_differs() {
    let options = GateOptions { call_opens: vec!["{\"name\": ".into()], ..GateOptions::default() };
    let mut answer = gate(&options);
    assert_eq!(write(&mut answer, "{\"a\":3}"), Ok(()));
    assert!(answer.is_complete());
    let mut call = gate(&options);
    assert_eq!(write(&mut call, "{\"name\": \"f\", no matter"), Ok(()));
    assert!(!call.is_holding());
}

#[test]
fn tokens_are_taken_back_across_tags() {
    let calls = GateOptions { call_opens: vec!["<tool_call>".into()], ..thinks(false) };
    let texts = ["<think>a</think>\n{\"a\":12}", "<tool_call>xyz", "{\"a\":5}"];
    for text in texts {
        let mut open = gate(&calls);
        let tokens = open.matcher().vocabulary().tokenize(text);
        let mut masks = Vec::new();
        for &token in &tokens {
            masks.push(open.allowed().unwrap().clone());
            open.accept(token).unwrap();
        }
        for back in 1..=tokens.len() {
            let mut gone_back = open.fork();
            gone_back.rollback(back).unwrap();
            for at in tokens.len() - back..tokens.len() {
                assert_eq!(gone_back.allowed().unwrap(), &masks[at], "{text:?} {back} {at}");
                gone_back.accept(tokens[at]).unwrap();
            }
        }
        let asked = tokens.len() + 1;
        let remembered = tokens.len();
        assert_eq!(open.rollback(asked), Err(Error::Rollback { asked, remembered }));
    }
}

#[test]
fn masks_come_from_another_thread_as_from_this_one() {
    let ahead = crate::Ahead::new().unwrap();
    let mut here = gate(&thinks(false));
    let mut away = here.fork();
    for token in here.matcher().vocabulary().tokenize("<think>x</think>\n{\"a\": 1}") {
        let pending: Vec<_> = (0..3).map(|_| ahead.begin(away.fork())).collect();
        for gate in pending {
            let mut gate = gate.finish().unwrap();
            assert_eq!(gate.allowed().unwrap(), here.allowed().unwrap());
            away = gate;
        }
        here.accept(token).unwrap();
        away.accept(token).unwrap();
    }
    drop(ahead.begin(away));
}

#[test]
fn a_call_may_open_while_the_model_thinks_where_that_is_said() {
    let calls =
        GateOptions { call_opens: vec!["<tool_call>".into()], calls_within: true, ..thinks(true) };
    let mut gate = gate(&calls);
    write(&mut gate, "hm <tool_call>{\"x\"").unwrap();
    assert!(!gate.is_holding() && gate.may_end().unwrap());
    let mut gate = super::tests::gate(&calls);
    write(&mut gate, "hm</think>{\"a\": 1}").unwrap();
    assert!(gate.may_end().unwrap());
}

#[test]
fn thinking_may_begin_as_the_constraint_does() {
    let options = GateOptions { think_open: Some("{\"a\": think".into()), ..thinks(false) };
    let mut gate = gate(&options);
    write(&mut gate, "{\"a\": think hm</think>").unwrap();
    write(&mut gate, "{\"a\": 1}").unwrap();
    assert!(gate.may_end().unwrap());
    let tokens = gate.past.len();
    gate.rollback(tokens).unwrap();
    write(&mut gate, "{\"a\": 2}").unwrap();
    assert!(gate.may_end().unwrap());
}
