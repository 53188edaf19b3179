//! Reads GBNF.

use std::collections::HashMap;

use super::{Chars, Node, Rules};
use crate::compile::MOST_LEVELS;
use crate::lark::check_rules;
use crate::{Error, Result};

/// Most times that something can be asked to come.
const MOST_TIMES: u32 = 10_000;

/// The rules of a grammar, `root` first.
pub(super) fn parse(text: &str) -> Result<Rules> {
    let mut parser = Parser { text, at: 0, ids: HashMap::new(), rules: vec![None], used: vec![1] };
    parser.ids.insert("root".into(), 0);
    parser.space(true);
    while !parser.rest().is_empty() {
        parser.rule()?;
        parser.space(true);
    }
    if parser.rules[0].is_none() {
        let reason = "there is no rule `root`, with which every text begins".into();
        return Err(Error::Grammar { line: None, reason });
    }
    let missing = parser.rules.iter().position(Option::is_none);
    if let Some(id) = missing {
        let name = parser.ids.iter().find(|(_, i)| **i == id).map(|(name, _)| name.as_str());
        let reason = format!("there is no rule `{}`", name.unwrap_or_default());
        return Err(Error::Grammar { line: Some(parser.used[id]), reason });
    }
    Ok(parser.rules.into_iter().flatten().collect())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    ids: HashMap<String, usize>,
    rules: Vec<Option<Node<usize>>>,
    /// The line that first names a rule.
    used: Vec<usize>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn line(&self) -> usize {
        self.text[..self.at].matches('\n').count() + 1
    }

    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(Error::Grammar { line: Some(self.line()), reason: reason.into() })
    }

    /// Goes over space and comments, and over ends of lines where they mean nothing.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if lines => self.at += 1,
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let end = self.rest().find(|c| !is_part(c)).unwrap_or(self.rest().len());
        let name = &self.rest()[..end];
        self.at += end;
        (!name.is_empty()).then_some(name)
    }

    fn id(&mut self, name: &str) -> Result<usize> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        let id = self.rules.len();
        check_rules(id)?;
        self.ids.insert(name.to_owned(), id);
        self.rules.push(None);
        self.used.push(self.line());
        Ok(id)
    }

    fn rule(&mut self) -> Result<()> {
        let Some(name) = self.name() else { return self.wrong("the name of a rule is expected") };
        let id = self.id(name)?;
        self.space(false);
        if !self.take("::=") {
            return self.wrong(format!("`::=` is expected after `{name}`"));
        }
        self.space(true);
        let body = self.alternatives(0)?;
        if !matches!(self.peek(), None | Some('\n' | '\r')) {
            let c = self.peek().unwrap_or_default();
            return self.wrong(format!("`{c}` cannot stand here; a new line is expected"));
        }
        if self.rules[id].is_some() {
            return self.wrong(format!("the rule `{name}` is written twice"));
        }
        self.rules[id] = Some(body);
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Node<usize>> {
        if depth > MOST_LEVELS {
            return self.wrong(format!("brackets are nested more than {MOST_LEVELS} deep"));
        }
        let mut all = vec![self.sequence(depth)?];
        loop {
            // An alternative may begin a line of its own.
            let before = self.at;
            self.space(true);
            if !self.take("|") {
                self.at = if depth > 0 { self.at } else { before };
                break;
            }
            self.space(true);
            all.push(self.sequence(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Alt(all) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node<usize>> {
        let mut items = Vec::new();
        while let Some(item) = self.item(depth)? {
            let item = self.repeated(item)?;
            items.push(item);
            self.space(depth > 0);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Node::Seq(items) })
    }

    fn item(&mut self, depth: usize) -> Result<Option<Node<usize>>> {
        let Some(c) = self.peek() else { return Ok(None) };
        let item = match c {
            '"' => self.literal()?,
            '[' => self.class()?,
            '.' => {
                self.at += 1;
                Node::Class(Chars::any())
            }
            '(' => {
                self.at += 1;
                self.space(true);
                let inner = self.alternatives(depth + 1)?;
                if !self.take(")") {
                    return self.wrong("`)` is expected");
                }
                // What is repeated in brackets may be repeated again.
                if matches!(inner, Node::Repeat(..)) { Node::Seq(vec![inner]) } else { inner }
            }
            '<' | '!' => {
                return self.wrong("tokens in grammars are not supported; write their text");
            }
            '*' | '+' | '?' | '{' => return self.wrong(format!("nothing stands before `{c}`")),
            _ => match self.name() {
                Some(name) => Node::Rule(self.id(name)?),
                None => return Ok(None),
            },
        };
        Ok(Some(item))
    }

    /// The item with the signs behind it that say how often it comes.
    fn repeated(&mut self, mut item: Node<usize>) -> Result<Node<usize>> {
        loop {
            self.space(false);
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.times()?,
                _ => return Ok(item),
            };
            self.at += 1;
            item = match item {
                // `x**` is `x*`; so the nesting of nodes stays that of brackets.
                Node::Repeat(inner, 0 | 1, None) if most.is_none() => {
                    Node::Repeat(inner, least.min(1), None)
                }
                Node::Repeat(inner, a, b) if (least, most) == (0, Some(1)) && a <= 1 => {
                    Node::Repeat(inner, 0, b)
                }
                Node::Repeat(..) => return self.wrong("it is already said how often this comes"),
                item => Node::Repeat(Box::new(item), least, most),
            };
        }
    }

    /// `{m}`, `{m,}`, `{m,n}`, up to the closing bracket.
    fn times(&mut self) -> Result<(u32, Option<u32>)> {
        self.at += 1;
        self.space(false);
        let least = self.number()?;
        self.space(false);
        let most = if self.take(",") {
            self.space(false);
            if self.peek() == Some('}') { None } else { Some(self.number()?) }
        } else {
            Some(least)
        };
        self.space(false);
        match most {
            _ if self.peek() != Some('}') => self.wrong("`}` is expected"),
            Some(most) if most < least => self.wrong(format!("{most} is less than {least}")),
            _ => Ok((least, most)),
        }
    }

    fn number(&mut self) -> Result<u32> {
        let end = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
        let digits = &self.rest()[..end];
        self.at += end;
        match digits.parse() {
            Ok(times) if times <= MOST_TIMES => Ok(times),
            _ if digits.is_empty() => self.wrong("a number is expected"),
            _ => self.wrong(format!("{digits} times are too many; at most {MOST_TIMES}")),
        }
    }

    fn literal(&mut self) -> Result<Node<usize>> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => break,
                None | Some('\n') => return self.wrong("a string has no closing quote"),
                _ => {
                    let c = self.character()?;
                    match char::from_u32(c) {
                        Some(c) => text.push(c),
                        None => return self.wrong(format!("{c:X} is no character")),
                    }
                }
            }
        }
        self.at += 1;
        Ok(Node::literal(&text))
    }

    fn class(&mut self) -> Result<Node<usize>> {
        self.at += 1;
        let negated = self.take("^");
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                Some(']') => break,
                None | Some('\n') => return self.wrong("a class of characters has no `]`"),
                _ => {}
            }
            let from = self.character()?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let to = if is_range {
                self.at += 1;
                if matches!(self.peek(), None | Some('\n')) {
                    return self.wrong("a class of characters has no `]`");
                }
                self.character()?
            } else {
                from
            };
            if to < from {
                return self.wrong("a range of characters goes backwards");
            }
            ranges.push((from, to));
        }
        self.at += 1;
        let chars = Chars::of(ranges);
        Ok(Node::Class(if negated { chars.others() } else { chars }))
    }

    /// One character of a string or class.
    fn character(&mut self) -> Result<u32> {
        let Some(c) = self.next() else { return self.wrong("the grammar ends in a string") };
        if c != '\\' {
            return Ok(c as u32);
        }
        let Some(escape) = self.next() else { return self.wrong("the grammar ends in an escape") };
        match escape {
            'x' => self.hex(2),
            'u' => self.hex(4),
            'U' => self.hex(8),
            't' => Ok(9),
            'r' => Ok(13),
            'n' => Ok(10),
            '\\' | '"' | '[' | ']' | '-' | '^' | '/' => Ok(escape as u32),
            _ => self.wrong(format!("`\\{escape}` is no escape")),
        }
    }

    fn hex(&mut self, digits: usize) -> Result<u32> {
        let text = self.rest().get(..digits).unwrap_or_default();
        let is_hex = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u32::from_str_radix(text, 16) {
            Ok(c) if is_hex && c <= 0x10_ffff => {
                self.at += digits;
                Ok(c)
            }
            _ => self.wrong(format!("{digits} hexadecimal digits of a character are expected")),
        }
    }
}
