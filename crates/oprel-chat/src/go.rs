//! Go's `text/template`, as models of Ollama's library use it for their chat templates.
//!
//! The language is Go's: actions, pipelines, variables, `range`, `if`, `with`, `break`, `continue`, the
//! functions for comparing, indexing, cutting and printing, and the four that Ollama adds. What differs is
//! meant: where Go would print a struct in its own syntax, JSON is printed, which is what such templates
//! were written for, and `<`, `>` and `&` stay in JSON what they are. `define`, `template` and `block` are
//! refused by name, since no template is known to use them.
//!
//! Nothing here does I/O, reads a clock or goes on for ever.

mod chat;
mod exec;
mod functions;
mod lex;
mod parse;
mod printf;
mod tree;
mod value;

pub(crate) use chat::{render, render_gap};
pub(crate) use tree::Program;

use crate::Result;

/// Reads a template.
///
/// # Errors
/// [`Error::TemplateTooLarge`](crate::Error::TemplateTooLarge), [`Error::Syntax`](crate::Error::Syntax),
/// [`Error::Unsupported`](crate::Error::Unsupported).
pub(crate) fn compile(source: &str) -> Result<Program> {
    parse::program(source)
}

/// Whether a text is written in Go's language rather than in Jinja: it has no `{%`, and an action that
/// begins as Go's do.
pub(crate) fn is_go(source: &str) -> bool {
    const WORDS: &[&str] = &["if", "range", "with", "else", "end", "break", "continue", "json"];
    if source.contains("{%") {
        return false;
    }
    source.split("{{").skip(1).any(|action| {
        let action = action.strip_prefix('-').unwrap_or(action).trim_start();
        let word = action.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
        let next = action[word.len()..].chars().next();
        match action.chars().next() {
            Some('$') => true,
            Some('.') => !action[1..].starts_with(|c: char| c.is_ascii_digit()),
            Some('/') => action.starts_with("/*"),
            // Jinja calls `range(3)`.
            _ => WORDS.contains(&word) && next.is_some_and(|c| c.is_whitespace() || c == '}'),
        }
    })
}
