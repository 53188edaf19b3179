//! Regular expressions and choices, held against the `regex` crate and equality.

use oprel_api::{Constraint, GrammarSyntax};
use oprel_constraint::{Error, Matcher};
use regex::Regex;

use crate::play::{Random, demo, real, text, walk};

const EXPRESSIONS: &[&str] = &[
    "a+?(b|c)*/\\d{3}",
    "^(yes|no|yes!)$",
    "(?i)hello, [[:alpha:]]+\\.",
    "[^\\n\"]{3,9}",
    "(\\p{Lu}\\p{Ll}+ ){1,3}end",
    "(0|[1-9][0-9]*)(\\.[0-9]+)?",
    "\\x41\\u{e9}?\\w\\s\\S",
    "(?s).{0,4}x",
    "a||b",
];

#[test]
fn what_is_written_matches_the_expression_whole() {
    let mut vocabularies = vec![("demo".to_owned(), demo())];
    vocabularies.extend(real(&["gpt-2", "llama-spm", "deepseek-llm"]));
    let mut random = Random(77);
    for (name, vocabulary) in vocabularies {
        for expression in EXPRESSIONS {
            let whole = Regex::new(&format!("^(?:{expression})$")).expect("an expression");
            let constraint = Constraint::Regex((*expression).to_owned());
            let matcher = Matcher::new(&vocabulary, &constraint).expect("compiles");
            let mut found = 0;
            for _ in 0..15 {
                let walked = walk(&mut matcher.fork(), &mut random, 100);
                if walked.complete {
                    let text = String::from_utf8(walked.text).expect("UTF-8");
                    assert!(whole.is_match(&text), "{name} {expression}: {text:?}");
                    found += 1;
                }
            }
            assert!(found > 0, "{name} {expression}");
        }
    }
}

#[test]
fn one_of_the_choices_is_written() {
    let choices = ["a", "ab", "abc\n", "", "naïve \"x\\", "日本", "</s>"].map(str::to_owned);
    let mut vocabularies = vec![("demo".to_owned(), demo())];
    vocabularies.extend(real(&["llama-bpe", "llama-spm"]));
    let mut random = Random(3);
    for (name, vocabulary) in vocabularies {
        let matcher = Matcher::new(&vocabulary, &Constraint::Choice(choices.to_vec())).unwrap();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let walked = walk(&mut matcher.fork(), &mut random, 50);
            assert!(walked.complete);
            let text = String::from_utf8(walked.text).expect("UTF-8");
            assert!(choices.contains(&text), "{name}: {text:?}");
            seen.insert(text);
        }
        assert!(seen.len() > 2, "{name}: {seen:?}");
    }
    assert_eq!(Matcher::new(&demo(), &Constraint::Choice(vec![])).unwrap_err(), Error::NoChoice);
}

#[test]
fn a_choice_that_begins_no_other_is_forced_after_its_first_token() {
    let vocabulary = demo();
    let choices = vec!["positive".to_owned(), "negative".to_owned()];
    let mut matcher = Matcher::new(&vocabulary, &Constraint::Choice(choices)).unwrap();
    assert_eq!(matcher.forced(), Ok(vec![]));
    let first = matcher.allowed().unwrap().tokens().next().expect("one begins");
    let mut written = vec![first];
    matcher.accept(first).unwrap();
    for token in matcher.forced().unwrap() {
        matcher.accept(token).unwrap();
        written.push(token);
    }
    assert!(matcher.is_complete());
    let written = text(&vocabulary, &written);
    assert!(written == b"positive" || written == b"negative");
}

#[test]
fn ends_are_allowed_where_the_text_is_complete_alone() {
    let vocabulary = demo();
    let end = vocabulary.ends()[0];
    let mut matcher = Matcher::new(&vocabulary, &Constraint::Regex("[0-9]{2}".into())).unwrap();
    assert!(!matcher.allowed().unwrap().allows(end) && !matcher.may_end().unwrap());
    assert_eq!(matcher.accept(end), Err(Error::NotAllowed { token: end }));
    for _ in 0..2 {
        assert!(!matcher.is_complete());
        let digit = |&token: &u32| vocabulary.bytes(token).len() == 1;
        let token = matcher.allowed().unwrap().tokens().find(digit).expect("a digit");
        matcher.accept(token).unwrap();
    }
    assert!(matcher.is_complete() && matcher.may_end().unwrap());
    assert!(matcher.allowed().unwrap().tokens().all(|t| vocabulary.ends().contains(&t)));
    matcher.accept(end).unwrap();
    assert!(matcher.is_complete() && matcher.allowed().unwrap().is_empty());
    assert!(matcher.accept(end).is_err());
    matcher.rollback(2).unwrap();
    assert!(!matcher.is_complete());
}

#[test]
fn ids_without_a_token_are_never_allowed() {
    for (_, vocabulary) in real(&["llama-bpe", "gemma-4"]) {
        let any = Constraint::Regex("(?s).*".into());
        let mut matcher = Matcher::new(&vocabulary, &any).unwrap();
        let n_vocab = vocabulary.n_vocab() as u32;
        let mask = matcher.allowed().unwrap();
        assert_eq!(mask.words().len(), (n_vocab as usize).div_ceil(32));
        assert!((n_vocab - 37..n_vocab + 100).all(|id| !mask.allows(id)));
        assert!(mask.count() > 100_000);
        assert!(matcher.accept(n_vocab - 1).is_err() && matcher.accept(u32::MAX).is_err());
        assert!(matcher.may_end().unwrap());
    }
}

#[test]
fn a_lark_grammar_is_kept() {
    let text = "start: NAME \"=\" sum\nsum: NUMBER (\"+\" NUMBER)*\nNAME: /[a-z]+/\n\
                NUMBER: /[0-9]+/\n%ignore / /\n";
    let grammar = Constraint::Grammar { syntax: GrammarSyntax::Lark, text: text.into() };
    let matcher = Matcher::new(&demo(), &grammar).unwrap();
    let whole = Regex::new(r"^[a-z]+ *= *[0-9]+ *(\+ *[0-9]+ *)*$").unwrap();
    let mut random = Random(21);
    for _ in 0..20 {
        let walked = walk(&mut matcher.fork(), &mut random, 60);
        let text = String::from_utf8(walked.text).expect("UTF-8");
        assert!(!walked.complete || whole.is_match(&text), "{text:?}");
    }
    for (text, line) in [("start: \"a\"\nfoo: (\"b\"\n", 2), ("start: \"a\" bar\n", 1)] {
        let grammar = Constraint::Grammar { syntax: GrammarSyntax::Lark, text: text.into() };
        match Matcher::new(&demo(), &grammar) {
            Err(Error::Grammar { line: at, .. }) => assert_eq!(at, Some(line), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
