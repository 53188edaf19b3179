//! A template's text, made ready for the parser.
//!
//! Normalizes line ends, refuses what would exhaust a recursive parser, and rewrites the few
//! things that the parser reads otherwise than Jinja2 does: `{% generation %}` blocks, which it
//! does not know, string escapes, tuples without parentheses, a plus before a number, and the
//! line end after `{% raw %}`.

use crate::{Error, Result};
use minijinja::machinery::{Span, Token, Tokenizer, WhitespaceConfig};
use std::ops::Range;

/// Longest template. Real ones have up to some 40 KB.
const MOST_BYTES: usize = 1 << 20;
/// Most tokens of one tag or expression; the parser recurses over some of them. Real ones have
/// fewer than a hundred.
const MOST_TOKENS: usize = 1_000;
/// Most `elif` of one `if`; the parser recurses over them.
const MOST_ELIFS: usize = 100;

/// How Jinja2 is set up for chat templates.
pub(super) const WHITESPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// The text to be parsed.
///
/// # Errors
/// [`Error::TemplateTooLarge`], [`Error::Syntax`].
pub(super) fn prepare(template: &str) -> Result<String> {
    if template.len() > MOST_BYTES {
        return Err(Error::TemplateTooLarge { bytes: template.len(), most: MOST_BYTES });
    }
    let source = keep_after_raw(&template.replace("\r\n", "\n").replace('\r', "\n"));
    let mut scan = Scan::default();
    let mut tokens = Tokenizer::new(&source, "", false, Default::default(), WHITESPACE);
    while let Some((token, span)) = tokens.next_token().map_err(syntax)? {
        scan.take(&token, span, &source)?;
    }
    scan.finish()?;
    scan.edits.sort_by_key(|(range, _)| range.start);
    Ok(rewrite(&source, &scan.edits))
}

/// A parser's error in this crate's terms.
pub(super) fn syntax(error: minijinja::Error) -> Error {
    let message = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    Error::Syntax { line: error.line().unwrap_or(0), message }
}

/// A block that has begun and not ended.
struct Open {
    ends_with: String,
    line: usize,
    elifs: usize,
}

/// What is known after some tokens.
#[derive(Default)]
struct Scan {
    edits: Vec<(Range<usize>, String)>,
    open: Vec<Open>,
    /// Tokens since the tag began; 0 outside of tags.
    tokens: usize,
    tag: Option<Tag>,
    /// Whether an operand may begin at the next token.
    operand: bool,
}

/// The tag or expression being read.
#[derive(Default)]
struct Tag {
    /// Empty for an expression.
    name: String,
    line: usize,
    assigns: bool,
    /// Brackets that are open.
    level: usize,
    /// Where the expression begins that may be a tuple.
    begin: Option<usize>,
    is_tuple: bool,
}

impl Scan {
    fn take(&mut self, token: &Token<'_>, span: Span, source: &str) -> Result<()> {
        self.tokens += 1;
        if self.tokens > MOST_TOKENS {
            let message = format!("a tag has more than {MOST_TOKENS} tokens");
            return Err(Error::Syntax { line: span.start_line.into(), message });
        }
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        match token {
            Token::TemplateData(_) => self.tokens = 0,
            Token::BlockStart => self.tokens = 1,
            Token::VariableStart => {
                self.tokens = 1;
                self.tag = Some(Tag { begin: Some(end), ..Tag::default() });
            }
            Token::Ident(name) if self.tokens == 2 && self.tag.is_none() => {
                self.begin_tag(name, span)?;
            }
            Token::Ident(word) => self.word(word, start, end),
            Token::String(read) => self.check_escapes(read, span, source),
            Token::Plus if self.operand => self.edits.push((start..end, String::new())),
            Token::VariableEnd | Token::BlockEnd => self.end_tag(start)?,
            _ => self.bracket_or_mark(token),
        }
        self.operand = expects_operand(token);
        Ok(())
    }

    /// Where a loop's items begin and end.
    fn word(&mut self, word: &str, start: usize, end: usize) {
        let Some(tag) = &mut self.tag else { return };
        if tag.name != "for" || tag.level > 0 {
            return;
        }
        match word {
            "in" if tag.begin.is_none() => {
                tag.begin = Some(end);
                tag.is_tuple = false;
            }
            "if" | "recursive" => self.end_tuple(start),
            _ => {}
        }
    }

    fn bracket_or_mark(&mut self, token: &Token<'_>) {
        let Some(tag) = &mut self.tag else { return };
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => tag.level += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                tag.level = tag.level.saturating_sub(1);
            }
            Token::Comma if tag.level == 0 => tag.is_tuple = true,
            Token::Assign => tag.assigns = true,
            _ => {}
        }
    }

    /// Puts parentheses around a tuple that has none.
    fn end_tuple(&mut self, at: usize) {
        let Some(tag) = &mut self.tag else { return };
        if let Some(begin) = tag.begin.take().filter(|_| tag.is_tuple) {
            self.edits.push((begin..begin, "(".into()));
            self.edits.push((at..at, ")".into()));
        }
        tag.is_tuple = false;
    }

    fn begin_tag(&mut self, name: &str, span: Span) -> Result<()> {
        let line = span.start_line.into();
        let range = span.start_offset as usize..span.end_offset as usize;
        match name {
            "generation" => self.edits.push((range, "with".into())),
            "endgeneration" => self.edits.push((range, "endwith".into())),
            "elif" => self.count_elif(line)?,
            "do" => {
                return Err(Error::Syntax { line, message: "unknown statement do".into() });
            }
            _ => {}
        }
        self.tag = Some(Tag { name: name.to_owned(), line, ..Tag::default() });
        Ok(())
    }

    fn count_elif(&mut self, line: usize) -> Result<()> {
        if let Some(open) = self.open.last_mut() {
            open.elifs += 1;
            if open.elifs > MOST_ELIFS {
                let message = format!("an if has more than {MOST_ELIFS} elif");
                return Err(Error::Syntax { line, message });
            }
        }
        Ok(())
    }

    fn end_tag(&mut self, at: usize) -> Result<()> {
        self.end_tuple(at);
        self.tokens = 0;
        let Some(tag) = self.tag.take() else { return Ok(()) };
        let opens = match tag.name.as_str() {
            "for" | "if" | "with" | "filter" | "macro" | "call" | "block" | "autoescape"
            | "generation" => true,
            "set" => !tag.assigns,
            _ => false,
        };
        if opens {
            let ends_with = format!("end{}", tag.name);
            self.open.push(Open { ends_with, line: tag.line, elifs: 0 });
        } else if self.open.last().is_some_and(|open| open.ends_with == tag.name) {
            self.open.pop();
        } else if tag.name.starts_with("end") {
            let message = format!("unexpected {}", tag.name);
            return Err(Error::Syntax { line: tag.line, message });
        }
        Ok(())
    }

    fn check_escapes(&mut self, read: &str, span: Span, source: &str) {
        let range = span.start_offset as usize..span.end_offset as usize;
        let Some(literal) = source.get(range.start + 1..range.end.saturating_sub(1)) else {
            return;
        };
        let meant = unescape(literal);
        if meant != read {
            self.edits.push((range, escape(&meant)));
        }
    }

    fn finish(self: &Scan) -> Result<()> {
        match self.open.last() {
            None => Ok(()),
            Some(open) => {
                let message = format!("the block is never closed by {}", open.ends_with);
                Err(Error::Syntax { line: open.line, message })
            }
        }
    }
}

/// Whether what comes after a token is an operand, so that a plus is a sign.
fn expects_operand(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => matches!(*word, "if" | "elif" | "else" | "in" | "and" | "or" | "not"),
        Token::Str(_)
        | Token::String(_)
        | Token::Int(_)
        | Token::Int128(_)
        | Token::Float(_)
        | Token::BracketClose
        | Token::ParenClose
        | Token::BraceClose => false,
        _ => true,
    }
}

/// Jinja2 keeps the line end after `{% raw %}`; the parser does so where it ends with `+%}`.
fn keep_after_raw(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        let after = inner.strip_prefix("raw").map(str::trim_start);
        rest = tag;
        if let Some(after) = after.filter(|after| after.starts_with("%}")) {
            let end = tag.len() - after.len();
            out.push_str(&tag[..end]);
            out.push('+');
            rest = after;
        }
    }
    out + rest
}

fn rewrite(source: &str, edits: &[(Range<usize>, String)]) -> String {
    let mut text = String::with_capacity(source.len());
    let mut from = 0;
    for (range, new) in edits {
        text.push_str(&source[from..range.start]);
        text.push_str(new);
        from = range.end;
    }
    text + &source[from..]
}

/// The text that Python's "unicode-escape" finds in a literal; what is no escape stays.
fn unescape(literal: &str) -> String {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(kind) = rest.chars().next() else {
            text.push('\\');
            break;
        };
        let after = &rest[kind.len_utf8()..];
        let (c, used) = match kind {
            '\n' => (None, 0),
            '\\' | '\'' | '"' => (Some(kind), 0),
            'a' => (Some('\x07'), 0),
            'b' => (Some('\x08'), 0),
            'f' => (Some('\x0c'), 0),
            'n' => (Some('\n'), 0),
            'r' => (Some('\r'), 0),
            't' => (Some('\t'), 0),
            'v' => (Some('\x0b'), 0),
            'x' => coded(after, 2),
            'u' => paired(after),
            'U' => coded(after, 8),
            '0'..='7' => octal(rest),
            _ => {
                text.push('\\');
                (Some(kind), 0)
            }
        };
        text.extend(c);
        rest = &after[used..];
    }
    text + rest
}

/// A character by so many hexadecimal digits, and how many bytes they take.
fn coded(digits: &str, n: usize) -> (Option<char>, usize) {
    let code = digits.get(..n).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (code.and_then(char::from_u32), code.map_or(0, |_| n))
}

/// `uXXXX`, or two of them that are the halves of one character.
fn paired(digits: &str) -> (Option<char>, usize) {
    let half = |at: usize| digits.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let Some(first) = half(0) else { return (None, 0) };
    if let Some(c) = char::from_u32(first.into()) {
        return (Some(c), 4);
    }
    let second = (digits.get(4..6) == Some("\\u")).then(|| half(6)).flatten();
    match second.map(|second| char::decode_utf16([first, second]).next()) {
        Some(Some(Ok(c))) => (Some(c), 10),
        _ => (Some(char::REPLACEMENT_CHARACTER), 4),
    }
}

fn octal(digits: &str) -> (Option<char>, usize) {
    let n = digits.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
    let code = u32::from_str_radix(&digits[..n], 8).ok();
    (code.and_then(char::from_u32), n - 1)
}

/// A literal that every reader reads alike.
fn escape(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            c if (c as u32) < 0x20 => literal.push_str(&format!("\\u{:04x}", c as u32)),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_newlines() {
        assert_eq!(prepare("a\r\nb\rc\n").unwrap(), "a\nb\nc\n");
    }

    #[test]
    fn generation_becomes_a_block_that_the_parser_knows() {
        let source = "{%- generation -%}x{% endgeneration %}{{ generation }}";
        assert_eq!(prepare(source).unwrap(), "{%- with -%}x{% endwith %}{{ generation }}");
    }

    #[test]
    fn escapes_are_those_of_python() {
        assert_eq!(unescape(r"a\nb\/c\d\x41\u00e9\U0001F600\101"), "a\nb\\/c\\dAé😀A");
        assert_eq!(unescape(r"\ud83d\ude00"), "😀");
        assert_eq!(prepare(r#"{{ "\/" }}"#).unwrap(), r#"{{ "\\/" }}"#);
        assert_eq!(prepare(r#"{{ "\n" }}"#).unwrap(), r#"{{ "\n" }}"#);
    }

    #[test]
    fn tuples_get_parentheses_and_signs_go() {
        assert_eq!(prepare("{{ a, f(b, c) }}").unwrap(), "{{( a, f(b, c) )}}");
        assert_eq!(prepare("{{ f(a, b) }}").unwrap(), "{{ f(a, b) }}");
        let source = "{% for a, b in c, d if e %}{% endfor %}";
        assert_eq!(prepare(source).unwrap(), "{% for a, b in( c, d )if e %}{% endfor %}");
        assert_eq!(prepare("{{ +1 + 2 }}").unwrap(), "{{ 1 + 2 }}");
    }

    #[test]
    fn a_block_that_is_never_closed_is_refused() {
        let error = prepare("a\n{% for x in y %}\n{{ x }}").unwrap_err();
        assert!(matches!(error, Error::Syntax { line: 2, .. }), "{error}");
        assert!(matches!(prepare("{% endif %}"), Err(Error::Syntax { .. })));
        assert!(prepare("{% set x %}a{% endset %}{% set y = 1 %}").is_ok());
    }

    #[test]
    fn what_would_exhaust_the_parser_is_refused() {
        let long = format!("{{{{ {} x }}}}", "not ".repeat(3000));
        assert!(matches!(prepare(&long), Err(Error::Syntax { .. })));
        let elifs = format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(300));
        assert!(matches!(prepare(&elifs), Err(Error::Syntax { .. })));
        assert!(matches!(prepare(&"x".repeat(2 << 20)), Err(Error::TemplateTooLarge { .. })));
    }
}
