//! The examination: asks every question and counts right answers. It prints scores by the number
//! of the question, never the text of one, so that the corpus can be written without reading it.

use crate::infer::Demo;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// Most tokens of an answer.
const MOST: usize = 96;
/// The control scores each question against the answer given to the one this many places on.
const PLACES: [usize; 5] = [1, 7, 13, 19, 31];

#[derive(Deserialize)]
struct Exam {
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    question: String,
    /// Of every list at least one alternative occurs.
    all_of: Vec<Vec<String>>,
    /// None of these occurs.
    #[serde(default)]
    none_of: Vec<String>,
}

impl Question {
    fn is_right(&self, answer: &str) -> bool {
        let answer = answer.to_lowercase();
        self.all_of.iter().all(|list| list.iter().any(|s| has(&answer, s)))
            && !self.none_of.iter().any(|s| has(&answer, s))
    }
}

/// Whether `words` occurs in a lower-case text with no letter or digit beside it.
fn has(text: &str, words: &str) -> bool {
    let words = words.to_lowercase();
    text.match_indices(&words).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + words.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// Examines a model file.
pub fn exam(model: &Path, questions: &Path) -> Result<()> {
    let text = std::fs::read_to_string(questions).context("no questions")?;
    let exam: Exam = serde_json::from_str(&text).context("the questions are malformed")?;
    let demo = Demo::open(model)?;
    let answers: Vec<String> =
        exam.questions.iter().map(|q| demo.answer(&q.question, MOST)).collect::<Result<_>>()?;
    let n = exam.questions.len();
    let score = |places: usize| {
        let right = |i: &usize| exam.questions[*i].is_right(&answers[(i + places) % n]);
        (0..n).filter(right).collect::<Vec<usize>>()
    };
    let right = score(0);
    let wrong: Vec<String> = (0..n).filter(|i| !right.contains(i)).map(|i| i.to_string()).collect();
    let control: Vec<usize> = PLACES.iter().map(|k| score(*k).len()).collect();
    let mean = control.iter().sum::<usize>() as f64 / PLACES.len() as f64;
    println!("right {} of {n}; wrong: {}", right.len(), wrong.join(" "));
    println!("control {mean:.1} (answers moved by {PLACES:?}: {control:?})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(all_of: &[&[&str]], none_of: &[&str]) -> Question {
        let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Question {
            question: String::new(),
            all_of: all_of.iter().map(|l| owned(l)).collect(),
            none_of: owned(none_of),
        }
    }

    #[test]
    fn an_alternative_counts_only_as_whole_words() {
        let q = question(&[&["port", "11434"]], &[]);
        assert!(q.is_right("It is 11434."));
        assert!(q.is_right("The PORT!"));
        assert!(!q.is_right("It is 114345, an airport."));
    }

    #[test]
    fn an_alternative_may_begin_and_end_with_punctuation() {
        let q = question(&[&["~/.oprel/", "--seed"]], &[]);
        assert!(q.is_right("In `~/.oprel/` it is."));
        assert!(q.is_right("Use --seed."));
        assert!(!q.is_right("Use --seeds."));
    }

    #[test]
    fn every_list_must_be_met_and_nothing_forbidden_said() {
        let q = question(&[&["oprel"], &["serve"]], &["pull"]);
        assert!(q.is_right("`oprel serve`"));
        assert!(!q.is_right("serve"));
        assert!(!q.is_right("`oprel serve`, then `oprel pull`"));
    }
}
