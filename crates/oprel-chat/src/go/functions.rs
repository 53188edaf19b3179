//! The functions that templates call. `and` and `or` are in `exec`, since they do not look at all of their
//! arguments.

use std::cmp::Ordering;

use super::printf::sprintf;
use super::value::Value;
use crate::{Error, LocalTime, Result};

const KNOWN: &[&str] = &[
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "json",
    "currentDate",
    "yesterdayDate",
    "toTypeScriptType",
];

const SECONDS_OF_DAY: i32 = 86_400;

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Calls a function.
///
/// # Errors
/// [`Error::Failed`] for arguments that it cannot take.
pub(super) fn call(name: &str, arguments: &[Value], now: LocalTime) -> Result<Value> {
    let wants = |n: std::ops::RangeInclusive<usize>| {
        let (least, most) = (*n.start(), *n.end());
        if n.contains(&arguments.len()) {
            return Ok(());
        }
        let wanted = match least == most {
            true => least.to_string(),
            false => format!("at least {least}"),
        };
        let n = arguments.len();
        Err(Error::failed(format!("{name} takes {wanted} arguments, and there are {n}")))
    };
    let any = usize::MAX;
    match name {
        "not" => {
            wants(1..=1)?;
            Ok(Value::Bool(!arguments[0].is_true()))
        }
        "eq" => {
            wants(2..=any)?;
            Ok(Value::Bool(arguments[1..].iter().any(|other| equal(&arguments[0], other))))
        }
        "ne" => {
            wants(2..=2)?;
            Ok(Value::Bool(!equal(&arguments[0], &arguments[1])))
        }
        "lt" | "le" | "gt" | "ge" => {
            wants(2..=2)?;
            let holds = match name {
                "lt" => Ordering::is_lt,
                "le" => Ordering::is_le,
                "gt" => Ordering::is_gt,
                _ => Ordering::is_ge,
            };
            Ok(Value::Bool(order(&arguments[0], &arguments[1])?.is_some_and(holds)))
        }
        "len" => {
            wants(1..=1)?;
            len(&arguments[0]).map(|n| Value::Int(n as i64))
        }
        "index" => {
            wants(1..=any)?;
            arguments[1..].iter().try_fold(arguments[0].clone(), |value, key| index(&value, key))
        }
        "slice" => {
            wants(1..=4)?;
            slice(&arguments[0], &arguments[1..])
        }
        "print" => Ok(Value::str(&print(arguments))),
        "println" => {
            let texts: Vec<String> = arguments.iter().map(Value::text).collect();
            Ok(Value::str(&(texts.join(" ") + "\n")))
        }
        "printf" => {
            let Some((Value::Str(format), rest)) = arguments.split_first() else {
                return Err(Error::failed("printf takes a format first"));
            };
            Ok(Value::str(&sprintf(format, rest)?))
        }
        "json" => {
            wants(1..=1)?;
            Ok(Value::str(&arguments[0].to_json().to_string()))
        }
        "currentDate" => Ok(Value::str(&now.strftime("%Y-%m-%d"))),
        "yesterdayDate" => Ok(Value::str(&now.plus(-SECONDS_OF_DAY).strftime("%Y-%m-%d"))),
        "toTypeScriptType" => {
            wants(1..=1)?;
            Ok(Value::str(&typescript(&arguments[0].to_json())))
        }
        _ => Err(Error::failed(format!("there is no function '{name}'"))),
    }
}

/// Unlike Go, values of different kinds are different rather than an error.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::Str(a), Value::Str(b)) => a == b,
        // The type of a property is a list that prints as a text where it is one.
        (Value::List(list), Value::Str(text)) | (Value::Str(text), Value::List(list)) => {
            matches!(&**list, [Value::Str(one)] if one == text)
        }
        _ => false,
    }
}

fn order(a: &Value, b: &Value) -> Result<Option<Ordering>> {
    let number = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::Float(x) => Some(*x),
        _ => None,
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Str(a), Value::Str(b)) => Ok(Some(a.cmp(b))),
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            _ => {
                let (a, b) = (a.type_name(), b.type_name());
                Err(Error::failed(format!("{a} and {b} cannot be compared")))
            }
        },
    }
}

fn len(value: &Value) -> Result<usize> {
    match value {
        Value::Str(text) => Ok(text.len()),
        Value::List(items) => Ok(items.len()),
        Value::Map(map) => Ok(map.len()),
        // A list that a message does not have is an empty one.
        Value::None => Ok(0),
        other => Err(Error::failed(format!("{} has no length", other.type_name()))),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::List(items), Value::Int(n)) => {
            let item = usize::try_from(*n).ok().and_then(|n| items.get(n));
            let outside = || Error::failed(format!("index {n} of a list of {}", items.len()));
            item.cloned().ok_or_else(outside)
        }
        (Value::Str(text), Value::Int(n)) => {
            let byte = usize::try_from(*n).ok().and_then(|n| text.as_bytes().get(n));
            let outside = || Error::failed(format!("index {n} of a text of {}", text.len()));
            byte.map(|b| Value::Int((*b).into())).ok_or_else(outside)
        }
        (Value::Map(map), Value::Str(key)) => Ok(map.get(&**key).cloned().unwrap_or(Value::None)),
        (value, key) => {
            let (value, key) = (value.type_name(), key.type_name());
            Err(Error::failed(format!("{value} cannot be indexed by {key}")))
        }
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value> {
    let n = len(value)?;
    let bound = |i: usize, default: usize| match bounds.get(i) {
        None => Ok(default),
        Some(Value::Int(at)) => {
            let inside = usize::try_from(*at).ok().filter(|at| *at <= n);
            inside.ok_or_else(|| Error::failed(format!("slice at {at} of {n}")))
        }
        Some(other) => Err(Error::failed(format!("slice at a {}", other.type_name()))),
    };
    let (from, to) = (bound(0, 0)?, bound(1, n)?);
    if from > to {
        return Err(Error::failed(format!("slice from {from} to {to}")));
    }
    match value {
        Value::List(items) => Ok(Value::List(items[from..to].into())),
        Value::Str(text) => Ok(Value::str(&String::from_utf8_lossy(&text.as_bytes()[from..to]))),
        other => Err(Error::failed(format!("{} cannot be sliced", other.type_name()))),
    }
}

/// Go puts a space between two operands that are both no texts.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in arguments.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Str(_));
        if i > 0 && !is_text(value) && !is_text(&arguments[i - 1]) {
            out.push(' ');
        }
        value.write(&mut out);
    }
    out
}

/// The type of a tool's property as TypeScript writes it.
fn typescript(property: &serde_json::Value) -> String {
    if let Some(several) = property["anyOf"].as_array().filter(|several| !several.is_empty()) {
        return several.iter().map(typescript).collect::<Vec<_>>().join(" | ");
    }
    let one = |name: &str| match name {
        "string" | "boolean" | "null" => name.to_owned(),
        "integer" | "number" => "number".into(),
        "array" => "any[]".into(),
        "object" => "Record<string, any>".into(),
        _ => "any".into(),
    };
    match &property["type"] {
        serde_json::Value::String(name) => one(name),
        serde_json::Value::Array(names) if !names.is_empty() => {
            let names = names.iter().map(|name| one(name.as_str().unwrap_or("")));
            names.collect::<Vec<_>>().join(" | ")
        }
        _ => "any".into(),
    }
}
