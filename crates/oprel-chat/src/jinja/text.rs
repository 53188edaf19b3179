//! `str()` and `repr()`.

use super::dict::Dict;
use super::number::float_repr;
use super::value::{MOST_DEPTH, Value, View, room_for};
use crate::{Error, Result};
use std::fmt::Write;
use std::sync::Arc;

/// `str(value)`.
///
/// # Errors
/// [`Error::TooDeep`].
pub(super) fn str_of(value: &Value) -> Result<Arc<str>> {
    match value {
        Value::Str(text) | Value::Markup(text) => Ok(text.clone()),
        Value::Undefined(_) => Ok("".into()),
        other => repr_of(other).map(Into::into),
    }
}

/// `repr(value)`.
///
/// # Errors
/// [`Error::TooDeep`].
pub(super) fn repr_of(value: &Value) -> Result<String> {
    let mut out = String::new();
    write(value, &mut out, 0)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String, depth: u32) -> Result<()> {
    // A namespace may hold itself, and values may share what they hold.
    if depth > MOST_DEPTH {
        return Err(Error::TooDeep { most: MOST_DEPTH });
    }
    room_for(out.len())?;
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(n) => push(out, format_args!("{n}")),
        Value::Float(x) => out.push_str(&float_repr(*x)),
        Value::Str(text) => quote(text, out),
        Value::Markup(text) => {
            out.push_str("Markup(");
            quote(text, out);
            out.push(')');
        }
        Value::List(items) => sequence(items, out, depth, ("[", "]"))?,
        Value::Tuple(items) if items.len() == 1 => {
            sequence(items, out, depth, ("(", ",)"))?;
        }
        Value::Tuple(items) => sequence(items, out, depth, ("(", ")"))?,
        Value::Dict(dict) => pairs(dict, out, depth)?,
        Value::View(view, dict) => write_view(*view, dict, out, depth)?,
        Value::Range(range) if range.step == 1 => {
            push(out, format_args!("range({}, {})", range.start, range.stop));
        }
        Value::Range(range) => {
            push(out, format_args!("range({}, {}, {})", range.start, range.stop, range.step));
        }
        Value::Namespace(names) => {
            out.push_str("<Namespace ");
            pairs(&names.borrow(), out, depth)?;
            out.push('>');
        }
        Value::Macro(m) => push(out, format_args!("<Macro '{}'>", m.name)),
        Value::Loop(state) => {
            let (at, len) = (state.at.get() + 1, state.items.len());
            push(out, format_args!("<LoopContext {at}/{len}>"));
        }
        Value::Method(method) => {
            let (of, name) = (method.0.type_name(), &method.1);
            push(out, format_args!("<built-in method {name} of {of} object>"));
        }
        other => push(out, format_args!("<{} object>", other.type_name())),
    }
    Ok(())
}

fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(args);
}

fn sequence(items: &[Value], out: &mut String, depth: u32, ends: (&str, &str)) -> Result<()> {
    out.push_str(ends.0);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(item, out, depth + 1)?;
    }
    out.push_str(ends.1);
    Ok(())
}

fn pairs(dict: &Dict, out: &mut String, depth: u32) -> Result<()> {
    out.push('{');
    for (i, (key, value)) in dict.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(key, out, depth + 1)?;
        out.push_str(": ");
        write(value, out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

fn write_view(view: View, dict: &Dict, out: &mut String, depth: u32) -> Result<()> {
    out.push_str(match view {
        View::Keys => "dict_keys(",
        View::Values => "dict_values(",
        View::Items => "dict_items(",
    });
    sequence(&view.of(dict), out, depth + 1, ("[", "]"))?;
    out.push(')');
    Ok(())
}

/// A string in quotes: single ones, unless only single ones are in it.
fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            c if printable(c) => out.push(c),
            c if (c as u32) < 0x100 => push(out, format_args!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x10000 => push(out, format_args!("\\u{:04x}", c as u32)),
            c => push(out, format_args!("\\U{:08x}", c as u32)),
        }
    }
    out.push(mark);
}

/// Whether Python's `repr` leaves a character as it is: neither control, format, surrogate,
/// private, unassigned, nor a space other than the usual one.
///
/// Rust's debug form draws the same line, but for marks that begin a text; so none begins it here.
pub(super) fn printable(c: char) -> bool {
    if c == ' ' {
        return true;
    }
    if c.is_whitespace() {
        return false;
    }
    let mut buffer = [b'a'; 5];
    let n = c.encode_utf8(&mut buffer[1..]).len();
    let text = std::str::from_utf8(&buffer[..=n]).unwrap_or("a");
    text.escape_debug().nth(1) == Some(c) || matches!(c, '\\' | '\'' | '"')
}
