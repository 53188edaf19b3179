//! Where thinking ends, with the vocabulary of the demo model.

use std::sync::LazyLock;

use oprel_chat::Capabilities;

use super::*;
use crate::ModelSource;
use crate::load::describe;

static FACTS: LazyLock<Facts> = LazyLock::new(|| describe(&ModelSource::Demo, None).unwrap().0);

fn tokens(text: &str) -> Vec<u32> {
    FACTS.tokenizer.tokenize(text, TokenizeOptions { add_special: false, parse_special: true })
}

fn text(tokens: &[u32]) -> String {
    tokens.iter().map(|&t| String::from_utf8_lossy(FACTS.tokenizer.piece(t)).into_owned()).collect()
}

/// What becomes of a text that a model wants to say, under a bound, and how much was thought. It goes
/// on with its answer, `Yes.`, where the end of thinking was forced.
fn said(tags: &ThinkTags, inside: bool, most: u32, wish: &str) -> (String, u32) {
    let meter = Meter::new(&FACTS.tokenizer, tags, inside);
    let mut counted = meter.clone();
    let mut budget = Budget::new(meter, most, tokens(&tags.close), FACTS.n_vocab, None);
    let mut out = Vec::new();
    let mut wish = tokens(wish).into_iter();
    let mut cut = false;
    loop {
        let allowed = budget.allowed().unwrap().map(<[u32]>::to_vec);
        let forced = budget.forced();
        let token = match forced.first() {
            Some(&token) => {
                let words = allowed.unwrap();
                assert!(words[token as usize / 32] == 1 << (token % 32), "one token is allowed");
                assert_eq!(words.iter().filter(|w| **w != 0).count(), 1);
                cut = true;
                token
            }
            None if std::mem::take(&mut cut) => {
                let rest = text(wish.as_slice());
                let at = rest.find("Yes.").unwrap();
                wish = tokens(&rest[at..]).into_iter();
                continue;
            }
            None => match wish.next() {
                Some(token) => token,
                None => break,
            },
        };
        budget = *fork(&budget);
        budget.accept(token).unwrap();
        counted.take(token);
        out.push(token);
    }
    (text(&out), counted.thought())
}

/// The same constraint, as it is made for another answer.
fn fork(budget: &Budget) -> Box<Budget> {
    let Budget { meter, most, close, forced, closed, n_vocab, .. } = budget;
    Box::new(Budget {
        meter: meter.clone(),
        most: *most,
        close: close.clone(),
        forced: *forced,
        closed: *closed,
        n_vocab: *n_vocab,
        mask: Vec::new(),
        then: None,
    })
}

#[test]
fn thinking_ends_after_as_many_tokens_as_are_allowed() {
    let tags = ThinkTags::new("<think>", "</think>");
    let wish = "<think>one two three four five six</think>Yes.";
    let n = tokens("one two three four five six").len() as u32;
    for most in 0..n + 3 {
        let (text, thought) = said(&tags, false, most, wish);
        assert_eq!(thought, most.min(n), "{text}");
        let (thinking, answer) = text.split_once("</think>").unwrap();
        assert!(wish.starts_with(thinking) && answer == "Yes.", "{text}");
    }
    assert_eq!(said(&tags, false, 0, wish).0, "<think></think>Yes.");
    assert_eq!(said(&tags, true, 0, &wish[7..]).0, "</think>Yes.");
    assert_eq!(said(&tags, false, 0, "Yes, <think> is a tag.").0, "Yes, <think> is a tag.");
}

#[test]
fn a_tag_of_several_tokens_that_was_begun_goes_on() {
    let tags = ThinkTags::new("((", "/end))");
    let n = tokens(&tags.close).len();
    assert!(n > 1, "{:?}", tokens(&tags.close));
    for most in 0..8 {
        let (text, thought) = said(&tags, false, most, "((one two/end))Yes.");
        assert!(text.ends_with("/end))Yes.") && thought <= most, "{most}: {text} {thought}");
    }
}

#[test]
fn harmony_is_switched_to_its_final_channel() {
    let tags = ThinkTags::of("<|channel|>analysis<|message|> <|channel|>final<|message|>").unwrap();
    let wish = format!("{}one two three{}Yes.", tags.open, tags.close);
    for most in [0, 2, 90] {
        let (text, thought) = said(&tags, false, most, &wish);
        assert!(text.starts_with(&tags.open), "{text}");
        assert!(text.ends_with(&format!("{}Yes.", tags.close)), "{text}");
        assert!(thought <= most, "{thought}");
    }
}

#[test]
fn a_bound_that_cannot_be_kept_is_refused_and_one_that_is_kept_anyway_is_not() {
    let mut bound = Request::prompt("hi");
    bound.limits.max_thinking_tokens = Some(3);
    let guide = |facts: &Facts, request: &Request, rendered| {
        bounded(facts, request, rendered, None).map(|guide| guide.is_some())
    };
    assert!(guide(&FACTS, &bound, Some("")).unwrap());
    assert!(!guide(&FACTS, &Request::prompt("hi"), Some("")).unwrap());
    for (input, other) in [(Request::raw("hi"), "raw"), (Request::tokens(vec![1]), "tokens")] {
        let request = Request { limits: bound.limits.clone(), ..input };
        let error = guide(&FACTS, &request, None).unwrap_err().to_string();
        assert_eq!(error, format!("max_thinking_tokens cannot be combined with {other}"));
    }
    let (mut facts, _) = describe(&ModelSource::Demo, None).unwrap();
    facts.can = Capabilities { think_tags: None, ..facts.can };
    let error = guide(&facts, &bound, Some("")).unwrap_err();
    assert!(error.to_string().starts_with("max_thinking_tokens"), "{error}");
    facts.can.thinking = false;
    assert!(!guide(&facts, &bound, Some("")).unwrap());
    assert!(!guide(&facts, &bound, None).unwrap());
}

#[test]
fn what_was_closed_for_the_model_it_does_not_close_again() {
    let tags = ThinkTags::new("<think>", "</think>");
    let meter = Meter::new(&FACTS.tokenizer, &tags, true);
    let close = tokens(&tags.close);
    let mut budget = Budget::new(meter, 0, close.clone(), FACTS.n_vocab, None);
    budget.accept(close[0]).unwrap();
    assert!(budget.forced().is_empty());
    let allowed = budget.allowed().unwrap().unwrap();
    let is_allowed = |token: u32| allowed[token as usize / 32] >> (token % 32) & 1 == 1;
    let barred: Vec<u32> = (0..FACTS.n_vocab).filter(|&t| !is_allowed(t)).collect();
    assert_eq!(barred, close);
}
