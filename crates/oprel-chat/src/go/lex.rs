//! A template's text to texts and actions of tokens.

use crate::{Error, Result};

/// What stands between actions, or the tokens of an action; and where it begins.
#[derive(Debug, PartialEq)]
pub(super) struct Item {
    pub(super) at: usize,
    pub(super) line: usize,
    pub(super) what: What,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// Space stands before it.
    pub(super) spaced: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Word(String),
    /// `.Name`
    Field(String),
    /// `$` or `$name`, without the `$`.
    Variable(String),
    Dot,
    Str(String),
    Int(i64),
    Float(f64),
    Bar,
    Open,
    Close,
    Declare,
    Assign,
    Comma,
}

/// Cuts a template into its items.
pub(super) fn items(source: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut at = 0;
    let mut trims = false;
    let mut line = Lines::new(source);
    loop {
        let rest = &source[at..];
        let open = rest.find("{{");
        let mut text = &rest[..open.unwrap_or(rest.len())];
        if trims {
            text = text.trim_start_matches(SPACE);
        }
        let inside = open.map(|open| at + open + 2);
        let trims_before = inside.is_some_and(|i| opens_with_trim(&source[i..]));
        if trims_before {
            text = text.trim_end_matches(SPACE);
        }
        if !text.is_empty() {
            items.push(Item { at, line: line.of(at), what: What::Text(text.to_owned()) });
        }
        let Some(inside) = inside else { return Ok(items) };
        let from = if trims_before { inside + 1 } else { inside };
        let mut lexer = Lexer { source, at: from, line: line.of(inside) };
        let tokens = lexer.action()?;
        if let Some(tokens) = tokens {
            items.push(Item { at: inside, line: lexer.line, what: What::Action(tokens) });
        }
        let end = lexer.at;
        trims = source[..end].ends_with("-") && {
            let before = &source[from..end - 1];
            before.ends_with(SPACE) || before.ends_with("*/")
        };
        at = end + 2;
    }
}

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// A number as it is written, with one sign at most; the lowest is one, though its digits alone are not.
fn number_of(text: &str) -> Option<TokenKind> {
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let whole = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.starts_with(['+', '-']) => None,
        Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16).ok(),
        None => text.parse::<i64>().ok(),
    };
    whole.map(TokenKind::Int).or_else(|| text.parse::<f64>().ok().map(TokenKind::Float))
}

/// Whether an action begins with `-` and a space.
fn opens_with_trim(inside: &str) -> bool {
    inside.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACE))
}

/// Counts lines while offsets grow.
struct Lines<'s> {
    source: &'s str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn new(source: &str) -> Lines<'_> {
        Lines { source, at: 0, line: 1 }
    }

    fn of(&mut self, at: usize) -> usize {
        let new = self.source.as_bytes().get(self.at..at).unwrap_or_default();
        self.line += new.iter().filter(|b| **b == b'\n').count();
        self.at = self.at.max(at);
        self.line
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn wrong<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::Syntax { line: self.line, message: message.into() })
    }

    /// The tokens up to `}}`, where it stops; `None` for a comment.
    fn action(&mut self) -> Result<Option<Vec<Token>>> {
        let start = self.rest().trim_start_matches(SPACE);
        if start.starts_with("/*") {
            let Some(end) = start.find("*/") else { return self.wrong("a comment does not end") };
            self.at = self.source.len() - start.len() + end + 2;
            let rest = self.rest().trim_start_matches(SPACE);
            let closes = rest.starts_with("}}") || rest.starts_with("-}}");
            if !closes {
                return self.wrong("a comment must be an action of its own");
            }
            self.at = self.source.len() - rest.len() + usize::from(rest.starts_with('-'));
            return Ok(None);
        }
        let mut tokens = Vec::new();
        loop {
            let skipped = self.rest().len() - self.rest().trim_start_matches(SPACE).len();
            self.at += skipped;
            let rest = self.rest();
            if rest.starts_with("}}") {
                return Ok(Some(tokens));
            }
            if rest.starts_with("-}}") && skipped > 0 {
                self.at += 1;
                return Ok(Some(tokens));
            }
            if rest.is_empty() {
                return self.wrong("an action does not end: `}}` is missing");
            }
            let kind = self.token()?;
            tokens.push(Token { kind, spaced: skipped > 0 });
        }
    }

    fn token(&mut self) -> Result<TokenKind> {
        let rest = self.rest();
        let fixed = [
            (":=", TokenKind::Declare),
            ("=", TokenKind::Assign),
            ("|", TokenKind::Bar),
            ("(", TokenKind::Open),
            (")", TokenKind::Close),
            (",", TokenKind::Comma),
        ];
        if let Some((text, kind)) = fixed.into_iter().find(|(text, _)| rest.starts_with(text)) {
            self.at += text.len();
            return Ok(kind);
        }
        let first = rest.chars().next().unwrap_or(' ');
        let second = rest.chars().nth(1).unwrap_or(' ');
        match first {
            '"' | '\'' => self.quoted(first),
            '`' => self.raw(),
            '$' => {
                self.at += 1;
                Ok(TokenKind::Variable(self.name()))
            }
            '.' if !second.is_ascii_digit() => {
                self.at += 1;
                let name = self.name();
                Ok(if name.is_empty() { TokenKind::Dot } else { TokenKind::Field(name) })
            }
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => self.number(),
            c if is_name(c) => Ok(TokenKind::Word(self.name())),
            c => self.wrong(format!("unexpected {c:?}")),
        }
    }

    /// Letters, digits and `_` from here.
    fn name(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        self.at += end;
        name
    }

    fn number(&mut self) -> Result<TokenKind> {
        let rest = self.rest();
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        // In `1 -}}` the minus is apart; in `1-}}` Go reads it as part of the number, and refuses it.
        let text = rest[..end].replace('_', "");
        let Some(number) = number_of(&text) else {
            return self.wrong(format!("'{text}' is no number"));
        };
        self.at += end;
        Ok(number)
    }

    fn raw(&mut self) -> Result<TokenKind> {
        let rest = &self.rest()[1..];
        let Some(end) = rest.find('`') else { return self.wrong("a text in ` does not end") };
        let text = rest[..end].replace('\r', "");
        self.at += end + 2;
        Ok(TokenKind::Str(text))
    }

    fn quoted(&mut self, quote: char) -> Result<TokenKind> {
        let mut text = Vec::new();
        let mut chars = self.source[self.at + 1..].char_indices();
        loop {
            let Some((offset, c)) = chars.next() else { return self.wrong("a text does not end") };
            match c {
                '\n' => return self.wrong("a text does not end in its line"),
                '\\' => match escape(&mut chars) {
                    Some(bytes) => text.extend(bytes),
                    None => return self.wrong("an unknown escape in a text"),
                },
                c if c == quote => {
                    self.at += offset + 2;
                    break;
                }
                c => text.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut chars = text.chars();
        match (quote, chars.next(), chars.next()) {
            ('"', ..) => Ok(TokenKind::Str(text)),
            // A character is its number.
            (_, Some(c), None) => Ok(TokenKind::Int(u32::from(c).into())),
            _ => self.wrong("more than one character between '"),
        }
    }
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// What stands for what follows a backslash.
fn escape(chars: &mut std::str::CharIndices<'_>) -> Option<Vec<u8>> {
    let (_, c) = chars.next()?;
    let mut digits = |n: usize, radix: u32, first: &str| {
        let more = (0..n).map(|_| chars.next().map(|(_, c)| c));
        let text: String = more.collect::<Option<_>>()?;
        u32::from_str_radix(&format!("{first}{text}"), radix).ok()
    };
    let byte = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '"' | '\'' => c as u8,
        'x' => digits(2, 16, "")?.try_into().ok()?,
        '0'..='7' => digits(2, 8, &c.to_string())?.try_into().ok()?,
        'u' | 'U' => {
            let n = if c == 'u' { 4 } else { 8 };
            let c = char::from_u32(digits(n, 16, "")?)?;
            return Some(c.encode_utf8(&mut [0; 4]).as_bytes().to_vec());
        }
        _ => return None,
    };
    Some(vec![byte])
}
