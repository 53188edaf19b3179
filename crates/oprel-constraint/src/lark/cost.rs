//! What the terminals of a grammar cost when references in them are written out.
//!
//! A few lines may name a terminal of any size, since each can be made of several of the one
//! before. What is counted here is at least as much as llguidance will meet.

use std::collections::{BTreeMap, HashMap};

use super::Scan;
use crate::compile::LONGEST_FORCED;
use crate::regex::{self, MOST_OPTIONAL};
use crate::{Error, Result};

/// Most characters of a terminal.
const MOST_CHARS: usize = 100_000;

/// Most rounds in which the shortest texts of rules are found from those of others.
const MOST_ROUNDS: usize = 50;

/// Most parts of all rules that may be missing.
const MOST_OPTIONAL_IN_RULES: usize = 3000;

/// What one terminal costs.
#[derive(Clone, Copy, Default)]
struct Cost {
    chars: usize,
    optional: usize,
    /// Bytes of its shortest text.
    forced: usize,
}

/// A piece of a definition.
enum Token<'a> {
    Text(Cost),
    Name(&'a str),
    Open,
    Close,
    Or,
    /// Comes at least so many times.
    Times(usize),
}

/// Refuses a grammar with a terminal that is larger than any real one, or a rule that never comes
/// to an end or forces more text than can come as one step.
pub(super) fn check(text: &str) -> Result<()> {
    let definitions = definitions(text)?;
    let mut costs = Costs { definitions: &definitions, known: HashMap::new() };
    for (name, _) in definitions.iter().filter(|(name, _)| is_terminal(name)) {
        costs.of(name).check()?;
    }
    for (name, found) in shortest(&definitions)? {
        if found == usize::MAX && name == "start" {
            let reason = "a text that begins with the rule `start` never comes to an end".into();
            return Err(Error::Grammar { line: None, reason });
        }
        if found > LONGEST_FORCED && found < usize::MAX {
            let (what, unit, most) = ("shortest text of a rule", "bytes", LONGEST_FORCED);
            return Err(Error::TooLarge { what, found, unit, most });
        }
    }
    Ok(())
}

/// Bytes of the shortest text of every rule and terminal; the largest number for none.
fn shortest<'a>(definitions: &Definitions<'a>) -> Result<HashMap<&'a str, usize>> {
    let names: Vec<&str> = definitions.keys().copied().collect();
    let mut known: HashMap<&str, usize> = names.iter().map(|&name| (name, usize::MAX)).collect();
    for _ in 0..MOST_ROUNDS {
        let mut changed = false;
        for name in names.iter().rev().chain(&names) {
            let found = least(&mut definitions[name].iter(), &known);
            changed |= known.insert(name, found) != Some(found);
        }
        if !changed {
            return Ok(known);
        }
    }
    Err(Error::TooComplex { reason: "its rules depend on too many others".into() })
}

/// The same for a definition up to the end of a group; what is not defined counts nothing.
fn least<'a>(tokens: &mut std::slice::Iter<'a, Token<'a>>, known: &HashMap<&str, usize>) -> usize {
    let (mut ways, mut way, mut last) = (usize::MAX, 0usize, 0usize);
    while let Some(token) = tokens.next() {
        let next = match token {
            Token::Close => break,
            Token::Or => {
                ways = ways.min(way.saturating_add(last));
                (way, last) = (0, 0);
                continue;
            }
            Token::Times(times) => {
                last = last.saturating_mul(*times);
                continue;
            }
            Token::Text(cost) => cost.forced,
            Token::Name(name) => known.get(name).copied().unwrap_or(0),
            Token::Open => least(tokens, known),
        };
        way = way.saturating_add(last);
        last = next;
    }
    ways.min(way.saturating_add(last))
}

/// The pieces of every definition.
type Definitions<'a> = BTreeMap<&'a str, Vec<Token<'a>>>;

struct Costs<'a> {
    definitions: &'a Definitions<'a>,
    /// `None` while it is being counted: a circle is refused later, by llguidance.
    known: HashMap<&'a str, Option<Cost>>,
}

impl<'a> Costs<'a> {
    fn of(&mut self, name: &'a str) -> Cost {
        if let Some(known) = self.known.get(name) {
            return known.unwrap_or_default();
        }
        let Some(tokens) = self.definitions.get(name) else { return Cost::default() };
        self.known.insert(name, None);
        let cost = self.sum(&mut tokens.iter());
        self.known.insert(name, Some(cost));
        cost
    }

    /// The sum up to the end of a group; the ways of a choice count together.
    fn sum(&mut self, tokens: &mut std::slice::Iter<'a, Token<'a>>) -> Cost {
        let (mut sum, mut last) = (Cost::default(), Cost::default());
        while let Some(token) = tokens.next() {
            let next = match token {
                Token::Close => break,
                Token::Or => continue,
                Token::Times(least) => {
                    last.times(*least);
                    continue;
                }
                Token::Text(cost) => *cost,
                Token::Name(name) => self.of(name),
                Token::Open => self.sum(tokens),
            };
            sum.add(last);
            last = next;
        }
        sum.add(last);
        sum
    }
}

impl Cost {
    fn check(self) -> Result<()> {
        for (found, unit, most) in [
            (self.chars, "characters in one terminal", MOST_CHARS),
            (self.optional, "optional parts in one terminal", MOST_OPTIONAL),
        ] {
            if found > most {
                return Err(Error::TooLarge { what: "grammar", found, unit, most });
            }
        }
        Ok(())
    }

    fn add(&mut self, other: Cost) {
        self.chars = self.chars.saturating_add(other.chars);
        self.optional = self.optional.saturating_add(other.optional);
        self.forced = self.forced.saturating_add(other.forced);
    }

    fn times(&mut self, least: usize) {
        self.forced = self.forced.saturating_mul(least);
        self.optional = self.optional.saturating_add(usize::from(least == 0));
    }
}

fn definitions(text: &str) -> Result<Definitions<'_>> {
    let mut scan = Scan { text, at: 0, line: 1 };
    let mut found: Definitions<'_> = BTreeMap::new();
    let (mut name, mut at_start, mut depth) = ("", true, 0usize);
    let mut in_rules = 0;
    while let Some(c) = scan.rest().chars().next() {
        let from = scan.at;
        if c.is_ascii_alphabetic() || c == '_' {
            let word = word(&text[from..]);
            scan.skip(word.len());
            if at_start && depth == 0 {
                name = word;
                found.entry(name).or_default();
            } else if let Some(tokens) = found.get_mut(name) {
                tokens.push(Token::Name(word));
            }
            at_start = false;
            continue;
        }
        at_start = c == '\n' || (at_start && c.is_whitespace());
        let token = piece(&mut scan, c)?;
        match token {
            Some(Token::Open) => depth += 1,
            Some(Token::Close) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let (Some(tokens), Some(token)) = (found.get_mut(name), token) {
            // In a rule each text is a terminal.
            match &token {
                Token::Text(cost) if !is_terminal(name) => cost.check()?,
                Token::Times(0) if !is_terminal(name) => in_rules += 1,
                _ => {}
            }
            tokens.push(token);
            if c == ']' {
                tokens.push(Token::Times(0));
            }
        }
    }
    if in_rules > MOST_OPTIONAL_IN_RULES {
        let (found, most) = (in_rules, MOST_OPTIONAL_IN_RULES);
        return Err(Error::TooLarge { what: "grammar", found, unit: "optional parts", most });
    }
    Ok(found)
}

/// Goes behind the piece that begins with `c`; says it if it counts.
fn piece(scan: &mut Scan<'_>, c: char) -> Result<Option<Token<'static>>> {
    let from = scan.at;
    let token = match c {
        '"' => {
            scan.quoted('"');
            let len = scan.at - from;
            Token::Text(Cost { chars: len, optional: 0, forced: len })
        }
        '/' if scan.rest().starts_with("//") => {
            scan.skip_line();
            return Ok(None);
        }
        '/' => {
            scan.quoted('/');
            let inner = scan.text[from + 1..scan.at].trim_end_matches('/');
            let (chars, optional, forced) = regex::cost(inner);
            Token::Text(Cost { chars, optional, forced })
        }
        '#' => {
            scan.skip_line();
            return Ok(None);
        }
        '<' => {
            scan.special();
            Token::Text(Cost { chars: 1, optional: 0, forced: 1 })
        }
        '%' => {
            scan.json()?;
            return Ok(None);
        }
        '|' => {
            scan.step(c);
            Token::Or
        }
        '{' | '~' => {
            scan.step(c);
            let digits = scan.rest().trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            match digits[..end].parse() {
                Ok(times) => Token::Times(times),
                // Without a number it is not said how often.
                Err(_) if end == 0 => return Ok(None),
                Err(_) => Token::Times(usize::MAX),
            }
        }
        '?' | '*' => {
            scan.step(c);
            Token::Times(0)
        }
        '(' | '[' => {
            scan.step(c);
            Token::Open
        }
        ')' | ']' => {
            scan.step(c);
            Token::Close
        }
        _ => {
            scan.step(c);
            return Ok(None);
        }
    };
    Ok(Some(token))
}

fn word(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    &text[..text.find(|c| !is_part(c)).unwrap_or(text.len())]
}

fn is_terminal(word: &str) -> bool {
    word.trim_start_matches('_').starts_with(|c: char| c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_made_of_terminals_are_counted_written_out() {
        let doubled = |first: &str| {
            let lines = (1..40).map(|i| format!("T{i}: T{0} T{0}\n", i - 1));
            format!("start: T39\nT0: {first}\n{}", lines.collect::<String>())
        };
        for first in ["\"ab\"", "/[ab]?/", "\"a\"? | \"b\"", "(\"a\" | \"b\")*"] {
            assert!(matches!(check(&doubled(first)), Err(Error::TooLarge { .. })), "{first}");
        }
        let forced = "start: T\nT: (\"a\"{1000}){1000}\n";
        assert!(matches!(check(forced), Err(Error::TooLarge { .. })));
        assert!(check("start: T\nT: (/a{1000}/)~1000\n").is_err());
        assert!(check(&format!("start: T\nT: {}\n", "\"a\"? ".repeat(2000))).is_err());
    }

    #[test]
    fn usual_grammars_pass() {
        let text = "// a comment (\nstart: word+ NUMBER? | \"(\" start \")\"\n\
                    word: WORD\nWORD: /[a-z]+/i\n  | \"x\"{2,3}\nNUMBER.2: DIGIT+ (\".\" DIGIT+)?\n\
                    DIGIT: \"0\"..\"9\"\n%ignore /\\s+/\nLONG: /a{0,500}/ & /.{3,}/\n";
        assert_eq!(check(text), Ok(()));
        assert_eq!(check("start: \"x\" | A\nA: B\nB: A\n"), Ok(()));
        let deep = (1..20).map(|i| format!("r{i}: r{0} | r{0} [\"+\" r{i}]\n", i - 1));
        assert_eq!(check(&format!("start: r19\nr0: \"x\"\n{}", deep.collect::<String>())), Ok(()));
    }

    #[test]
    fn rules_that_never_end_or_force_too_much_are_refused() {
        assert!(matches!(check("start: s\ns: s \"a\"\n"), Err(Error::Grammar { .. })));
        let doubled = (1..40).map(|i| format!("r{i}: r{0} r{0}\n", i - 1)).collect::<String>();
        let text = format!("start: \"x\" | r39\nr0: \"b\"\n{doubled}");
        assert!(matches!(check(&text), Err(Error::TooLarge { .. })));
    }
}
