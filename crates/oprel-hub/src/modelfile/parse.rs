//! The grammar: `COMMAND value` line by line.
//!
//! A value goes to the end of its line; one that begins with a quote, or with three, goes to a line
//! that ends with as many, and has quotes within. Nothing is escaped. `#` begins a comment where a command could begin.

use super::{Command, Modelfile, Problem};

/// Characters of a text, and the line that is being read.
struct Cursor {
    chars: std::iter::Peekable<std::vec::IntoIter<char>>,
    line: usize,
}

/// How a word ended.
enum Ended {
    Space,
    Other,
    Eof,
}

impl Modelfile {
    /// Reads a Modelfile: UTF-8, or UTF-16 with a mark of its byte order.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Ollama.
    pub fn parse(bytes: &[u8]) -> Result<Modelfile, Problem> {
        let chars: Vec<char> = text(bytes).chars().collect();
        let mut cursor = Cursor { chars: chars.into_iter().peekable(), line: 1 };
        let mut file = Modelfile::default();
        while cursor.skip_to_command() {
            file.commands.push(cursor.command()?);
        }
        match file.commands.iter().any(|command| matches!(command, Command::From(_))) {
            true => Ok(file),
            false => Err(Problem::NoFrom),
        }
    }
}

impl Cursor {
    /// Skips blanks and comments; whether something follows.
    fn skip_to_command(&mut self) -> bool {
        while let Some(&c) = self.chars.peek() {
            match c {
                '#' => while self.next().is_some_and(|c| !is_newline(c)) {},
                c if is_space(c) || is_newline(c) => {
                    self.next();
                }
                _ => return true,
            }
        }
        false
    }

    fn command(&mut self) -> Result<Command, Problem> {
        let line = self.line;
        let (word, ended) = self.word(|c| c.is_ascii_alphabetic());
        match ended {
            Ended::Space => {}
            Ended::Other => return Err(Problem::Command { line }),
            Ended::Eof => return Err(Problem::Eof { after: String::new() }),
        }
        Ok(match word.to_ascii_lowercase().as_str() {
            "from" => Command::From(self.value()?),
            "license" => Command::License(self.value()?),
            "template" => Command::Template(self.value()?),
            "system" => Command::System(self.value()?),
            "adapter" => Command::Adapter(self.value()?),
            "draft" => Command::Draft(self.value()?),
            "renderer" => Command::Renderer(self.value()?),
            "parser" => Command::Parser(self.value()?),
            "requires" => Command::Requires(self.value()?),
            "parameter" => {
                let name = self.argument(|c| c.is_ascii_alphanumeric() || c == '_')?;
                Command::Parameter { name, value: self.value()? }
            }
            "message" => {
                let role = self.argument(|c| c.is_ascii_alphabetic())?;
                if !["system", "user", "assistant"].contains(&role.as_str()) {
                    return Err(Problem::Role { line });
                }
                Command::Message { role, content: self.value()? }
            }
            _ => return Err(Problem::Command { line }),
        })
    }

    /// A word between a command and its value.
    fn argument(&mut self, may: impl Fn(char) -> bool) -> Result<String, Problem> {
        while self.chars.next_if(|&c| is_space(c)).is_some() {}
        match self.word(may) {
            (word, Ended::Space) => Ok(word),
            (word, Ended::Other) => Err(Problem::Eof { after: word }),
            (_, Ended::Eof) => Err(Problem::Eof { after: String::new() }),
        }
    }

    /// Characters up to the first that may not be, which is taken too.
    fn word(&mut self, may: impl Fn(char) -> bool) -> (String, Ended) {
        let mut word = String::new();
        loop {
            match self.next() {
                None => return (word, Ended::Eof),
                Some(c) if may(c) => word.push(c),
                Some(c) if is_space(c) => return (word, Ended::Space),
                Some(_) => return (word, Ended::Other),
            }
        }
    }

    fn value(&mut self) -> Result<String, Problem> {
        let mut raw = String::new();
        loop {
            let Some(c) = self.next() else {
                return unquoted(raw.trim()).ok_or(Problem::Eof { after: String::new() });
            };
            if is_newline(c)
                && let Some(value) = unquoted(raw.trim())
            {
                return Ok(value);
            }
            if is_newline(c) || is_space(c) || is_printable(c) {
                raw.push(c);
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        let half = c == '\r' && self.chars.peek() == Some(&'\n');
        if is_newline(c) && !half {
            self.line += 1;
        }
        Some(c)
    }
}

/// What stands between quotes, or all; `None` while the closing ones are missing.
fn unquoted(text: &str) -> Option<String> {
    let inner = match text.strip_prefix(r#"""""#) {
        Some(rest) => rest.strip_suffix(r#"""""#)?,
        None => match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => text,
        },
    };
    Some(inner.to_owned())
}

pub(super) fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

pub(super) fn is_newline(c: char) -> bool {
    c == '\n' || c == '\r'
}

/// Whether a character leaves a mark, or is a space. No other stays in a value.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The standard library tells it by what it escapes. The first character of a text would be escaped for a
    // further reason, that it combines with nothing.
    let mut buffer = [b'a'; 5];
    let n = c.len_utf8();
    let Some(rest) = buffer.get_mut(1..) else { return false };
    c.encode_utf8(rest);
    let text = buffer.get(..=n).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| text.escape_debug().count() == 2)
}

/// The text of a file; what is no character becomes the replacement character.
fn text(bytes: &[u8]) -> String {
    let wide = |of: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let pairs = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok());
        String::from_utf16_lossy(&pairs.map(of).collect::<Vec<_>>())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => wide(u16::from_be_bytes, rest),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
