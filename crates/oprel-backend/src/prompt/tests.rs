//! Prompts of the demo model.

use std::sync::LazyLock;

use oprel_api::{AdapterChoice, Think, Tool};
use serde_json::json;

use super::*;
use crate::ModelSource;
use crate::load::describe;

static FACTS: LazyLock<Facts> = LazyLock::new(|| describe(&ModelSource::Demo, None).unwrap().0);
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}";

fn made(request: &Request, room: u32) -> Tokens {
    tokens(&FACTS, request, room, LocalTime::utc(0)).unwrap()
}

fn cutting(mut request: Request) -> Request {
    request.limits.input_overflow = InputOverflow::DropOldest;
    request
}

/// Rounds of a conversation under a system message, the last one without an answer.
fn conversation(rounds: usize) -> Vec<Message> {
    let mut messages = vec![Message::system("Be brief.")];
    for i in 0..rounds {
        messages.push(Message::user(format!("question {i}")));
        messages.push(Message::assistant(format!("answer {i}")));
    }
    messages.pop();
    messages
}

fn chat(messages: Vec<Message>, change: impl FnOnce(&mut Chat)) -> Request {
    let mut chat = Chat { messages, template: Some(TEMPLATE.into()), ..Chat::default() };
    change(&mut chat);
    Request::new(Input::Messages(chat))
}

fn prompt(change: impl FnOnce(&mut Prompt)) -> Request {
    let mut prompt = Prompt { text: "hi".into(), ..Prompt::default() };
    change(&mut prompt);
    Request::new(Input::Prompt(prompt))
}

#[test]
fn whole_rounds_are_dropped_oldest_first() {
    let request = cutting(chat(conversation(6), |_| {}));
    let whole = made(&request, u32::MAX);
    assert_eq!(whole.truncated, None);
    let room = whole.tokens.len() as u32 - 1;
    let cut = made(&request, room);
    let truncation = cut.truncated.unwrap();
    assert_eq!(truncation.dropped_messages, 2);
    assert_eq!(truncation.kept_tokens as usize, cut.tokens.len());
    assert_eq!(truncation.dropped_tokens as usize, whole.tokens.len() - cut.tokens.len());
    let text = cut.rendered.unwrap();
    assert!(text.starts_with("[system] Be brief.\n[user] question 1\n"), "{text}");
    assert!(text.ends_with("[user] question 5\n"), "{text}");
}

#[test]
fn the_system_and_the_last_message_stay_whatever_the_room() {
    let cut = made(&cutting(chat(conversation(4), |_| {})), 1);
    assert_eq!(cut.rendered.as_deref(), Some("[system] Be brief.\n[user] question 3\n"));
    assert_eq!(cut.truncated.map(|t| t.dropped_messages), Some(6));
}

#[test]
fn nothing_is_dropped_unless_it_may_be() {
    let made = made(&chat(conversation(4), |_| {}), 1);
    assert!(made.truncated.is_none() && made.tokens.len() > 1);
}

#[test]
fn of_tokens_the_middle_is_dropped() {
    let request = cutting(Request::tokens((0..10).collect()));
    let cut = made(&request, 5);
    assert_eq!(cut.tokens, [0, 1, 7, 8, 9]);
    assert_eq!(cut.truncated.map(|t| (t.dropped_tokens, t.kept_tokens)), Some((5, 5)));
    assert_eq!(made(&request, 10).truncated, None);
}

#[test]
fn a_bos_that_the_template_wrote_is_not_added_again() {
    let Some(bos) = FACTS.tokenizer.bos() else { return };
    let text = FACTS.tokenizer.raw_piece(bos).unwrap().to_string();
    let ids = tokenize_rendered(&FACTS, &format!("{text}hi"), true);
    assert_eq!(ids.iter().filter(|&&t| t == bos).count(), 1, "{ids:?}");
}

#[test]
fn tokens_before_a_text_take_the_place_of_bos() {
    let request = prompt(|p| {
        p.template = Some(TEMPLATE.into());
        p.context = vec![5, 6];
    });
    assert_eq!(made(&request, u32::MAX).tokens[..2], [5, 6]);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let refused = |field: &str, request: Request| {
        let error = check(&FACTS, &request).unwrap_err();
        assert!(error.to_string().starts_with(field), "{field}: {error}");
    };
    let with = |change: fn(&mut Request)| {
        let mut request = Request::prompt("hi");
        change(&mut request);
        request
    };
    refused(
        "adapters",
        with(|r| r.adapters = vec![AdapterChoice { name: "a".into(), scale: 1.0 }]),
    );
    refused("suffix", prompt(|p| p.suffix = Some("x".into())));
    refused("think", prompt(|p| (p.raw, p.think) = (true, Some(Think::On))));
    check(&FACTS, &Request::prompt("hi")).unwrap();
}

#[test]
fn what_the_template_cannot_say_is_refused_by_name() {
    let (mut facts, _) = describe(&ModelSource::Demo, None).unwrap();
    (facts.can.tools, facts.can.thinking, facts.can.system) = (false, false, false);
    let tool = Tool::new("f", "does it", json!({"type": "object"}));
    let asks: [(&str, Request); 3] = [
        ("tools", chat(vec![Message::user("hi")], |c| c.tools.push(tool))),
        ("think", prompt(|p| p.think = Some(Think::High))),
        ("system", prompt(|p| p.system = Some("be brief".into()))),
    ];
    for (field, mut request) in asks {
        if let Input::Messages(chat) = &mut request.input {
            chat.template = None;
        }
        let error = check(&facts, &request).unwrap_err();
        assert!(error.to_string().starts_with(field), "{field}: {error}");
        check(&FACTS, &request).unwrap();
    }
    check(&facts, &prompt(|p| p.think = Some(Think::Off))).unwrap();
}

#[test]
fn no_more_is_dropped_than_must_be_and_that_is_found_in_few_steps() {
    for most in [1, 2, 7, 1000] {
        for enough in 1..=most + 1 {
            let steps = std::cell::Cell::new(0);
            let make = |n| {
                steps.set(steps.get() + 1);
                Ok(n)
            };
            let (n, made) = fewest(most, 0, make, |&n| n >= enough).unwrap();
            assert_eq!((n, made), (enough.min(most), enough.min(most)));
            assert!(steps.get() <= 20, "{} steps", steps.get());
        }
    }
    // What cannot be made is of no consequence where less is enough.
    let fails = |n| if n > 5 { Err(Error::Unsupported { field: "x" }) } else { Ok(n) };
    assert_eq!(fewest(9, 0, fails, |&n| n >= 5).unwrap(), (5, 5));
    assert!(fewest(9, 0, fails, |&n| n >= 6).is_err());
}

#[test]
fn the_pieces_that_may_go_leave_the_system_and_the_last_message() {
    let mut messages = conversation(3);
    assert_eq!(oldest(&messages), [1..3, 3..5]);
    assert_eq!(without(&messages, &[1..3, 3..5]).len(), 2);
    messages.push(Message::assistant("answer 2"));
    assert_eq!(oldest(&messages), [1..3, 3..5, 5..6]);
    assert!(oldest(&[Message::system("x")]).is_empty() && oldest(&[]).is_empty());
    assert!(oldest(&[Message::user("x")]).is_empty());
}
