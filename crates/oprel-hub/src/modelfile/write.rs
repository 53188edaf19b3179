//! Writing a Modelfile so that reading it gives the same again.

use std::fmt;

use super::parse::{is_newline, is_printable, is_space};
use super::{Command, Modelfile, Problem};

const THREE: &str = r#"""""#;

impl Modelfile {
    /// Whether [`to_string`](ToString::to_string) says all of it.
    ///
    /// # Errors
    /// [`Problem::Unwritable`] for a value that the grammar has no way to say, because no character can be escaped.
    pub fn check_writable(&self) -> Result<(), Problem> {
        self.commands.iter().try_for_each(|command| {
            let (what, word, value) = command.parts();
            let word_is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let says = quoted(value).is_some() && word_is_plain;
            if says { Ok(()) } else { Err(Problem::Unwritable { what }) }
        })
    }
}

impl Command {
    /// The command, the word before the value if there is one, the value.
    fn parts(&self) -> (&'static str, &str, &str) {
        match self {
            Command::From(value) => ("FROM", "", value),
            Command::Parameter { name, value } => ("PARAMETER", name, value),
            Command::Template(value) => ("TEMPLATE", "", value),
            Command::System(value) => ("SYSTEM", "", value),
            Command::Adapter(value) => ("ADAPTER", "", value),
            Command::License(value) => ("LICENSE", "", value),
            Command::Message { role, content } => ("MESSAGE", role, content),
            Command::Draft(value) => ("DRAFT", "", value),
            Command::Renderer(value) => ("RENDERER", "", value),
            Command::Parser(value) => ("PARSER", "", value),
            Command::Requires(value) => ("REQUIRES", "", value),
        }
    }
}

impl fmt::Display for Modelfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.commands.iter().try_for_each(|command| writeln!(f, "{command}"))
    }
}

/// One line, or more where a value has more. What cannot be said comes as near as it can.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, word, value) = self.parts();
        let value = quoted(value).unwrap_or_else(|| format!("{THREE}{value}{THREE}"));
        match word {
            "" => write!(f, "{what} {value}"),
            word => write!(f, "{what} {word} {value}"),
        }
    }
}

/// A value with as few quotes as it needs; `None` if none are enough.
fn quoted(value: &str) -> Option<String> {
    if !value.chars().all(|c| is_newline(c) || is_space(c) || is_printable(c)) {
        return None;
    }
    let is_bare = !value.is_empty()
        && value.trim() == value
        && !value.starts_with('"')
        && !value.contains(is_newline);
    if is_bare {
        return Some(value.to_owned());
    }
    let one = format!("\"{value}\"");
    if !value.contains('"') {
        return Some(one);
    }
    let three = format!("{THREE}{value}{THREE}");
    if closes_at_its_end(&three, THREE) {
        return Some(three);
    }
    // One quote before two of the value's would be read as three.
    (!one.starts_with(THREE) && closes_at_its_end(&one, "\"")).then_some(one)
}

/// Whether no line before the last ends with the quotes that the text begins with.
fn closes_at_its_end(text: &str, quote: &str) -> bool {
    let mut newlines = text.char_indices().filter(|(_, c)| is_newline(*c));
    newlines.all(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim();
        before.len() < 2 * quote.len() || !before.ends_with(quote)
    })
}
