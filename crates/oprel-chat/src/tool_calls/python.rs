//! Calls that are written as in Python: `f(a=1, b="x")`.

use super::cursor::{Cursor, Read, Stop};
use super::tools::Tools;
use oprel_api::ToolCall;
use serde_json::{Map, Number, Value};

/// Deepest nesting of values.
const MOST_LEVELS: u32 = 64;

/// `[f(a=1), g()]`, of one call at least.
pub(super) fn list(cursor: &mut Cursor<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    cursor.expect("[")?;
    let mut calls = Vec::new();
    loop {
        cursor.space();
        calls.push(call(cursor, tools)?);
        cursor.space();
        if cursor.has("]")? {
            return Ok(calls);
        }
        cursor.expect(",")?;
    }
}

/// Calls, a line each or in a list, up to `close`.
pub(super) fn lines(cursor: &mut Cursor<'_>, tools: &Tools, close: &str) -> Read<Vec<ToolCall>> {
    let mut calls = Vec::new();
    loop {
        cursor.space();
        if cursor.has(close)? || (cursor.rest().is_empty() && !calls.is_empty()) {
            return if calls.is_empty() { Err(Stop::No) } else { Ok(calls) };
        }
        if cursor.peek()? == '[' {
            calls.extend(list(cursor, tools)?);
        } else {
            // Some print what they call.
            let printed = !tools.has("print") && cursor.has("print(")?;
            calls.push(call(cursor, tools)?);
            if printed {
                cursor.space();
                cursor.expect(")")?;
            }
        }
    }
}

/// `f(a=1, b="x")`, or `f.call(..)`.
pub(super) fn call(cursor: &mut Cursor<'_>, tools: &Tools) -> Read<ToolCall> {
    let name = name(cursor, tools)?;
    let mut arguments = Map::new();
    let mut unnamed = tools.properties(&name);
    cursor.space();
    while !cursor.has(")")? {
        let key = match key(cursor)? {
            Some(key) => key,
            None => unnamed.next().ok_or(Stop::No)?.to_owned(),
        };
        cursor.space();
        let value = tools.fitted(&name, &key, value(cursor, 0)?);
        arguments.insert(key, value);
        cursor.space();
        if !cursor.has(",")? && cursor.peek()? != ')' {
            return Err(Stop::No);
        }
        cursor.space();
    }
    Ok(ToolCall::new(name, Value::Object(arguments)))
}

/// The name of a tool before a bracket; known not to be one as soon as it can be.
fn name(cursor: &mut Cursor<'_>, tools: &Tools) -> Read<String> {
    let Some(bracket) = cursor.rest().find('(') else {
        let begun = cursor.rest();
        let may = begun.len() <= tools.longest() + ".call".len() && tools.begin_with(begun);
        return Err(if may { cursor.more() } else { Stop::No });
    };
    let written = cursor.rest()[..bracket].trim();
    let name = if tools.has(written) { written } else { written.trim_end_matches(".call") };
    if !tools.has(name) {
        return Err(Stop::No);
    }
    let name = name.to_owned();
    cursor.step(bracket + 1);
    Ok(name)
}

/// `key=`, or nothing where a value stands without.
fn key(cursor: &mut Cursor<'_>) -> Read<Option<String>> {
    let mut ahead = cursor.clone();
    let key = ahead.run(|c| c.is_alphanumeric() || c == '_' || c == '-')?;
    ahead.space();
    if key.is_empty() || !ahead.has("=")? {
        return Ok(None);
    }
    *cursor = ahead;
    Ok(Some(key.to_owned()))
}

/// A value as Python, or JSON, writes it. A number or a word ends before something else.
pub(super) fn value(cursor: &mut Cursor<'_>, depth: u32) -> Read<Value> {
    if depth > MOST_LEVELS {
        return Err(Stop::No);
    }
    match cursor.peek()? {
        quote @ ('"' | '\'') => string(cursor, quote).map(Value::String),
        '[' => items(cursor, ']', depth),
        '(' => items(cursor, ')', depth),
        '{' => object(cursor, depth),
        _ => word(cursor),
    }
}

fn items(cursor: &mut Cursor<'_>, close: char, depth: u32) -> Read<Value> {
    cursor.step(1);
    let mut items = Vec::new();
    loop {
        cursor.space();
        if cursor.peek()? == close {
            cursor.step(1);
            return Ok(Value::Array(items));
        }
        items.push(value(cursor, depth + 1)?);
        cursor.space();
        if !cursor.has(",")? && cursor.peek()? != close {
            return Err(Stop::No);
        }
    }
}

fn object(cursor: &mut Cursor<'_>, depth: u32) -> Read<Value> {
    cursor.step(1);
    let mut object = Map::new();
    loop {
        cursor.space();
        if cursor.has("}")? {
            return Ok(Value::Object(object));
        }
        let key = match value(cursor, depth + 1)? {
            Value::String(key) => key,
            other => other.to_string(),
        };
        cursor.space();
        cursor.expect(":")?;
        cursor.space();
        object.insert(key, value(cursor, depth + 1)?);
        cursor.space();
        if !cursor.has(",")? && cursor.peek()? != '}' {
            return Err(Stop::No);
        }
    }
}

fn word(cursor: &mut Cursor<'_>) -> Read<Value> {
    let word = cursor.run(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.'))?;
    literal(word).ok_or(Stop::No)
}

/// A number, a truth value or nothing, as Python or JSON writes it.
pub(super) fn literal(word: &str) -> Option<Value> {
    match word {
        "True" | "true" => return Some(Value::Bool(true)),
        "False" | "false" => return Some(Value::Bool(false)),
        "None" | "null" => return Some(Value::Null),
        _ => {}
    }
    let digits = word.strip_prefix('+').unwrap_or(word);
    if !digits.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    digits.parse::<Number>().ok().map(Value::Number).or_else(|| {
        let number = digits.parse::<f64>().ok()?;
        Number::from_f64(number).map(Value::Number)
    })
}

/// A whole text that is one value of Python.
pub(super) fn whole(text: &str) -> Option<Value> {
    if let Some(value) = literal(text) {
        return Some(value);
    }
    let mut cursor = Cursor::new(text, true);
    let value = value(&mut cursor, 0).ok()?;
    cursor.space();
    cursor.rest().is_empty().then_some(value)
}

fn string(cursor: &mut Cursor<'_>, quote: char) -> Read<String> {
    let triple: String = [quote; 3].iter().collect();
    let triple = cursor.has(&triple)?;
    if !triple {
        cursor.step(1);
    }
    let mut text = String::new();
    loop {
        let c = cursor.peek()?;
        if c == quote {
            if !triple && closes(cursor)? {
                cursor.step(1);
                return Ok(text);
            }
            let close: String = [quote; 3].iter().collect();
            if triple && cursor.has(&close)? {
                return Ok(text);
            }
        }
        cursor.step(c.len_utf8());
        if c == '\\' { escape(cursor, &mut text)? } else { text.push(c) }
    }
}

/// Whether a quote ends a text: some templates write texts with quotes in them as they are, so it
/// must stand before something that may follow a value.
fn closes(cursor: &Cursor<'_>) -> Read<bool> {
    let mut behind = cursor.clone();
    behind.step(1);
    behind.space();
    match behind.peek() {
        Ok(c) => Ok(matches!(c, ',' | ')' | ']' | '}' | ':')),
        Err(Stop::More) => Err(Stop::More),
        Err(Stop::No) => Ok(true),
    }
}

fn escape(cursor: &mut Cursor<'_>, text: &mut String) -> Read<()> {
    let c = cursor.peek()?;
    cursor.step(c.len_utf8());
    match c {
        'n' => text.push('\n'),
        't' => text.push('\t'),
        'r' => text.push('\r'),
        'b' => text.push('\u{8}'),
        'f' => text.push('\u{c}'),
        '\n' => {}
        'x' => text.push(code(cursor, 2)?),
        'u' => {
            let first = number(cursor, 4)?;
            text.push(match first {
                0xd800..0xdc00 => {
                    cursor.expect("\\u")?;
                    let second = number(cursor, 4)?.checked_sub(0xdc00).ok_or(Stop::No)?;
                    let both = 0x10000 + ((first - 0xd800) << 10) + second;
                    char::from_u32(both).ok_or(Stop::No)?
                }
                _ => char::from_u32(first).ok_or(Stop::No)?,
            });
        }
        'U' => text.push(code(cursor, 8)?),
        '\\' | '"' | '\'' | '/' => text.push(c),
        // As Python does it.
        other => text.extend(['\\', other]),
    }
    Ok(())
}

fn code(cursor: &mut Cursor<'_>, digits: usize) -> Read<char> {
    char::from_u32(number(cursor, digits)?).ok_or(Stop::No)
}

fn number(cursor: &mut Cursor<'_>, digits: usize) -> Read<u32> {
    let rest = cursor.rest();
    let written =
        rest.get(..digits).ok_or(if rest.len() < digits { cursor.more() } else { Stop::No })?;
    let number = u32::from_str_radix(written, 16).map_err(|_| Stop::No)?;
    cursor.step(digits);
    Ok(number)
}
