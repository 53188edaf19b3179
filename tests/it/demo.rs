//! The demo model's examination (`models/demo/questions.json`), through the library as users have it.

use oprel::{Model, Request, Sampling};
use oprel_tests::root;
use serde_json::Value;

/// Most tokens of an answer.
const MOST: u32 = 96;
/// How far answers are shifted for the control.
const SHIFTS: [usize; 5] = [1, 7, 13, 19, 31];

/// Whether `word` stands in `text` with nothing alphanumeric on either side; both in lower case.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn words(list: &Value) -> Vec<String> {
    let all = list.as_array().expect("a list").iter();
    all.map(|w| w.as_str().expect("a word").to_lowercase()).collect()
}

fn is_right(question: &Value, answer: &str) -> bool {
    let answer = answer.to_lowercase();
    let has_one = |list: &Value| words(list).iter().any(|w| has_word(&answer, w));
    question["all_of"].as_array().expect("lists").iter().all(has_one)
        && !has_one(&question["none_of"])
}

#[test]
fn the_demo_passes_its_examination() {
    let text =
        std::fs::read_to_string(root().join("models/demo/questions.json")).expect("committed");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let questions = json["questions"].as_array().expect("a list");
    let model = Model::demo().expect("it is built in");
    let answer = |question: &Value| {
        let mut request = Request::prompt(question["question"].as_str().expect("a text"));
        request.sampling = Sampling::greedy();
        request.limits.max_tokens = Some(MOST);
        model.generate(request).and_then(|s| s.answer()).expect("an answer").text
    };
    let answers: Vec<String> = questions.iter().map(answer).collect();
    let right = |shift: usize| {
        let pairs = questions.iter().enumerate();
        pairs.filter(|(i, q)| is_right(q, &answers[(i + shift) % answers.len()])).count()
    };
    let control = SHIFTS.map(right).iter().sum::<usize>() as f64 / SHIFTS.len() as f64;
    println!("right {} of {}, control {control}", right(0), questions.len());
    assert_eq!(questions.len(), 50);
    assert!(right(0) >= 40, "{} of 50 right", right(0));
    assert!(control < 10.0, "answers to other questions score {control}");
}
