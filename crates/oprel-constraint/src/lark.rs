//! Lark's notation: what is checked before llguidance reads a grammar, and how texts are quoted.

mod cost;

use serde_json::Value;

use crate::compile::{MOST_LEVELS, MOST_RULES};
use crate::{Error, Result, schema};

/// Checks nesting and the number of rules, by which the compiler's stack grows, and the schemas
/// that a grammar holds.
pub(crate) fn check(text: &str) -> Result<()> {
    let mut scan = Scan { text, at: 0, line: 1 };
    let (mut depth, mut rules) = (0usize, 0);
    while let Some(c) = scan.rest().chars().next() {
        match c {
            '"' => scan.quoted('"'),
            '/' if scan.rest().starts_with("//") => scan.skip_line(),
            '/' => scan.quoted('/'),
            '#' => scan.skip_line(),
            '<' => scan.special(),
            '%' => scan.json()?,
            '(' | '[' | '{' => {
                depth += 1;
                scan.step(c);
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                scan.step(c);
            }
            ':' => {
                rules += 1;
                scan.step(c);
            }
            _ => scan.step(c),
        }
        if depth > MOST_LEVELS {
            let reason = format!("brackets are nested more than {MOST_LEVELS} deep");
            return Err(Error::Grammar { line: Some(scan.line), reason });
        }
        check_rules(rules)?;
    }
    cost::check(text)
}

pub(crate) fn check_rules(found: usize) -> Result<()> {
    if found > MOST_RULES {
        return Err(Error::TooLarge { what: "grammar", found, unit: "rules", most: MOST_RULES });
    }
    Ok(())
}

/// A text as a string of the notation.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// An expression as it stands between slashes.
pub(crate) fn inside_slashes(expression: &str) -> String {
    llguidance::regex_to_lark(expression, "")
}

/// The line that a message of llguidance names, and the rest of it.
pub(crate) fn located(message: &str) -> (Option<usize>, String) {
    let rest = message.strip_prefix("at ").unwrap_or(message);
    let place = rest.split_once("): ").and_then(|(place, reason)| {
        let (line, column) = place.split_once('(')?;
        column.parse::<usize>().ok()?;
        Some((line.parse().ok()?, reason))
    });
    match place {
        Some((line, reason)) => (Some(line), reason.to_owned()),
        None => (None, message.to_owned()),
    }
}

/// A place in a grammar; moves over whole tokens where brackets may hide in them.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn step(&mut self, c: char) {
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
    }

    /// Goes on by so many bytes.
    fn skip(&mut self, bytes: usize) {
        self.line += self.rest()[..bytes].matches('\n').count();
        self.at += bytes;
    }

    fn skip_line(&mut self) {
        let bytes = self.rest().find('\n').unwrap_or(self.rest().len());
        self.skip(bytes);
    }

    /// Goes behind a string or an expression, or over its first sign where it has no end.
    fn quoted(&mut self, sign: char) {
        let mut escaped = false;
        let end = self.rest().char_indices().skip(1).find(|&(_, c)| {
            let ends = c == sign && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let bytes = end.map_or(1, |(at, c)| at + c.len_utf8());
        self.skip(bytes);
    }

    /// Goes behind `<name>`.
    fn special(&mut self) {
        let end = self.rest()[1..].find(|c: char| c == '<' || c == '>' || c.is_whitespace());
        let closed = end.filter(|&at| self.rest().as_bytes()[at + 1] == b'>');
        self.skip(closed.map_or(1, |at| at + 2));
    }

    /// Goes behind `%word`, and behind the JSON that follows it; a schema is checked.
    fn json(&mut self) -> Result<()> {
        let word = self.rest()[1..].find(|c: char| !c.is_ascii_alphabetic());
        let word = word.map_or(self.rest().len(), |at| at + 1);
        let name = self.rest()[..word].to_owned();
        self.skip(word);
        if !["%json", "%llguidance", "%regex"].contains(&name.as_str()) {
            return Ok(());
        }
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else {
            let reason = format!("no JSON value follows {name}");
            return Err(Error::Grammar { line: Some(self.line), reason });
        };
        let bytes = values.byte_offset();
        self.skip(bytes);
        if name == "%json" {
            schema::check(&value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_seen_past_what_only_looks_like_brackets() {
        let nested = |n: usize| format!("start: {}\"a\"{}\n", "(".repeat(n), ")".repeat(n));
        assert_eq!(check(&nested(64)), Ok(()));
        assert!(matches!(check(&nested(65)), Err(Error::Grammar { line: Some(1), .. })));
        let strings = "start: ".to_owned() + &"\"(\" /\\/(/ <|(|> ".repeat(100) + "// ((\n";
        assert_eq!(check(&strings), Ok(()));
        let hidden = "start: ".to_owned() + &"( \")\" ".repeat(100);
        assert!(check(&hidden).is_err());
    }

    #[test]
    fn a_schema_in_a_grammar_is_checked() {
        let text = "start: \"x\" obj\nobj: %json {\"type\": \"string\", \"not\": {}}\n";
        assert!(matches!(check(text), Err(Error::Keyword { keyword, .. }) if keyword == "not"));
        assert!(check("start: %json oops").is_err());
    }

    #[test]
    fn places_are_read_from_messages() {
        assert_eq!(located("at 3(7): oops"), (Some(3), "oops".into()));
        assert_eq!(located("12(1): lexer error"), (Some(12), "lexer error".into()));
        assert_eq!(located("no start rule found"), (None, "no start rule found".into()));
    }
}
