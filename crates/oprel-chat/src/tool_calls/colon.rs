//! Calls as Gemma writes them: `call:f{a:1,b:<escape>x<escape>}`.

use super::cursor::{Cursor, Read, Stop};
use super::python;
use super::tools::Tools;
use oprel_api::ToolCall;
use serde_json::{Map, Value};

/// What stands around texts.
const QUOTES: [&str; 2] = ["<escape>", "<|\"|>"];

/// Deepest nesting of values.
const MOST_LEVELS: u32 = 64;

/// One call.
pub(super) fn call(cursor: &mut Cursor<'_>, tools: &Tools) -> Read<ToolCall> {
    cursor.space();
    cursor.expect("call:")?;
    let Some(brace) = cursor.rest().find('{') else {
        let may = tools.begin_with(cursor.rest().trim());
        return Err(if may { cursor.more() } else { Stop::No });
    };
    let name = cursor.rest()[..brace].trim();
    if !tools.has(name) {
        return Err(Stop::No);
    }
    cursor.step(brace);
    let arguments = object(cursor, 0)?;
    tools.call(name, None, arguments).ok_or(Stop::No)
}

fn object(cursor: &mut Cursor<'_>, depth: u32) -> Read<Value> {
    cursor.expect("{")?;
    let mut object = Map::new();
    loop {
        cursor.space();
        if cursor.has("}")? {
            return Ok(Value::Object(object));
        }
        let key = match text(cursor)? {
            Some(key) => key,
            None => cursor.run(|c| !matches!(c, ':' | ',' | '}' | '{'))?.trim().to_owned(),
        };
        cursor.space();
        cursor.expect(":")?;
        object.insert(key, value(cursor, depth + 1)?);
        cursor.space();
        if !cursor.has(",")? && cursor.peek()? != '}' {
            return Err(Stop::No);
        }
    }
}

fn value(cursor: &mut Cursor<'_>, depth: u32) -> Read<Value> {
    if depth > MOST_LEVELS {
        return Err(Stop::No);
    }
    cursor.space();
    if let Some(text) = text(cursor)? {
        return Ok(Value::String(text));
    }
    match cursor.peek()? {
        '{' => object(cursor, depth),
        '[' => list(cursor, depth),
        '"' => python::value(cursor, depth),
        // A text without quotes is one to its end.
        _ => {
            let word = cursor.run(|c| !matches!(c, ',' | '}' | ']' | '\n'))?.trim();
            Ok(python::literal(word).unwrap_or_else(|| Value::String(word.to_owned())))
        }
    }
}

fn list(cursor: &mut Cursor<'_>, depth: u32) -> Read<Value> {
    cursor.expect("[")?;
    let mut items = Vec::new();
    loop {
        cursor.space();
        if cursor.has("]")? {
            return Ok(Value::Array(items));
        }
        items.push(value(cursor, depth + 1)?);
        cursor.space();
        if !cursor.has(",")? && cursor.peek()? != ']' {
            return Err(Stop::No);
        }
    }
}

/// A text between marks, if one stands here.
fn text(cursor: &mut Cursor<'_>) -> Read<Option<String>> {
    for quote in QUOTES {
        if cursor.has(quote)? {
            return Ok(Some(cursor.until(quote)?.to_owned()));
        }
    }
    Ok(None)
}
