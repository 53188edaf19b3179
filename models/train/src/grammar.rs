//! The little language of the corpus files: `[a|b]` chooses, nested at will; `{name}` is a word
//! list. Nothing here knows what a text is about.

use crate::random::Random;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;

/// Word lists by name.
pub type Words = HashMap<String, String>;

/// Reads `name: a|b|c` lines.
pub fn words(text: &str) -> Result<Words> {
    lines(text)
        .map(|line| {
            let (name, list) = line.split_once(": ").context("a word list is `name: a|b`")?;
            Ok((name.to_owned(), format!("[{list}]")))
        })
        .collect()
}

/// The lines of a corpus file that say something.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

/// Expands a pattern once.
pub fn expand(pattern: &str, words: &Words, random: &mut Random) -> Result<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['[', '{']) {
        out.push_str(&rest[..at]);
        let close = closing(&rest[at..]).with_context(|| format!("no end in: {pattern}"))?;
        let inner = &rest[at + 1..at + close];
        if rest[at..].starts_with('[') {
            let branches = branches(inner);
            let branch = *random.pick(&branches);
            out.push_str(&expand(branch, words, random)?);
        } else if let Some(list) = words.get(inner) {
            out.push_str(&expand(list, words, random)?);
        } else {
            bail!("no word list is named {inner}: {pattern}");
        }
        rest = &rest[at + close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Offset of the bracket that closes the one `text` starts with.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

/// Splits at the `|` that stand in no inner bracket.
pub fn branches(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut out) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            '|' if depth == 0 => {
                out.push(&text[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[from..]);
    out
}

/// `a` before a vowel becomes `an`, two spaces become one, sentences begin with a capital letter.
pub fn tidy(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let all: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
    let mut begins = true;
    for (i, word) in all.iter().enumerate() {
        let next = all.get(i + 1).and_then(|w| w.chars().next()).unwrap_or('x');
        let mut word = match *word {
            "a" if "aeiou".contains(next) => "an".to_owned(),
            "A" if "aeiou".contains(next) => "An".to_owned(),
            w => w.to_owned(),
        };
        if begins && !word.starts_with("oprel") {
            word = capital(&word);
        }
        begins = word.ends_with(['.', '!', '?']);
        out.push(word);
    }
    out.join(" ")
}

/// The text with its first letter in upper case.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().collect::<String>() + chars.as_str())
}
