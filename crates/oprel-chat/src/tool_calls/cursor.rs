//! A place in a text of which more may come.

use serde_json::Value;

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More text may make it one.
    More,
    /// It is none, whatever comes.
    No,
}

pub(super) type Read<T> = Result<T, Stop>;

/// A place in a text.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Nothing more comes.
    end: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, end: bool) -> Cursor<'a> {
        Cursor { text, at: 0, end }
    }

    /// Bytes that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// What it means that the text ends here.
    pub(super) fn more(&self) -> Stop {
        if self.end { Stop::No } else { Stop::More }
    }

    pub(super) fn step(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// The next character.
    pub(super) fn peek(&self) -> Read<char> {
        self.rest().chars().next().ok_or(self.more())
    }

    /// Goes over space.
    pub(super) fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Goes over these characters; whether they stand here.
    pub(super) fn has(&mut self, literal: &str) -> Read<bool> {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            return Ok(true);
        }
        if !self.end && literal.starts_with(self.rest()) {
            return Err(Stop::More);
        }
        Ok(false)
    }

    /// Goes over these characters, which must stand here.
    pub(super) fn expect(&mut self, literal: &str) -> Read<()> {
        if self.has(literal)? { Ok(()) } else { Err(Stop::No) }
    }

    /// The text before these characters; goes behind them.
    pub(super) fn until(&mut self, literal: &str) -> Read<&'a str> {
        let found = self.rest().find(literal).ok_or(self.more())?;
        let text = &self.rest()[..found];
        self.at += found + literal.len();
        Ok(text)
    }

    /// As long as characters are of a kind; there must be an end to them.
    pub(super) fn run(&mut self, of: impl Fn(char) -> bool) -> Read<&'a str> {
        let found = self.rest().find(|c| !of(c)).ok_or(self.more())?;
        let text = &self.rest()[..found];
        self.at += found;
        Ok(text)
    }

    /// A JSON object or list.
    pub(super) fn json(&mut self) -> Read<Value> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) if value.is_object() || value.is_array() => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) if error.is_eof() => Err(self.more()),
            None => Err(self.more()),
            _ => Err(Stop::No),
        }
    }

    /// A JSON object.
    pub(super) fn object(&mut self) -> Read<Value> {
        if self.peek()? != '{' {
            return Err(Stop::No);
        }
        self.json()
    }
}
