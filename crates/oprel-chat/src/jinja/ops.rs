//! Operators.

use super::format::percent;
use super::text::str_of;
use super::tree::BinOp;
use super::value::{Value, room_for};
use crate::{Error, Result};
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

/// Applies an operator, other than `and` and `or`, to two values.
///
/// # Errors
/// [`Error::Failed`] in Python's words, where Python raises.
pub(super) fn binary(op: BinOp, a: &Value, b: &Value) -> Result<Value> {
    Ok(match op {
        BinOp::Eq => Value::Bool(equal(a, b)),
        BinOp::Ne => Value::Bool(!equal(a, b)),
        BinOp::Lt => Value::Bool(order(a, b, "<")?.is_some_and(Ordering::is_lt)),
        BinOp::Le => Value::Bool(order(a, b, "<=")?.is_some_and(Ordering::is_le)),
        BinOp::Gt => Value::Bool(order(a, b, ">")?.is_some_and(Ordering::is_gt)),
        BinOp::Ge => Value::Bool(order(a, b, ">=")?.is_some_and(Ordering::is_ge)),
        BinOp::In => Value::Bool(contains(b, a)?),
        BinOp::NotIn => Value::Bool(!contains(b, a)?),
        BinOp::Concat => concat(a, b)?,
        BinOp::Add => add(a, b)?,
        BinOp::Mul => mul(a, b)?,
        BinOp::Rem if a.as_str().is_some() => percent(a, b)?,
        BinOp::And | BinOp::Or => a.clone(),
        BinOp::Sub | BinOp::Div | BinOp::FloorDiv | BinOp::Rem | BinOp::Pow => {
            arithmetic(op, a, b)?
        }
    })
}

/// `-a`.
pub(super) fn negate(a: &Value) -> Result<Value> {
    match a.defined()? {
        Value::Float(x) => Ok(Value::Float(-x)),
        other => match other.as_int() {
            Some(n) => n.checked_neg().map(Value::Int).ok_or_else(too_large),
            None => {
                let message = format!("bad operand type for unary -: '{}'", a.type_name());
                Err(Error::failed(message))
            }
        },
    }
}

/// `a ~ b`: the text of both.
fn concat(a: &Value, b: &Value) -> Result<Value> {
    let (a, b) = (str_of(a)?, str_of(b)?);
    joined(&a, &b).map(Value::Str)
}

fn joined(a: &str, b: &str) -> Result<Arc<str>> {
    room_for(a.len() + b.len())?;
    let mut text = String::with_capacity(a.len() + b.len());
    text.push_str(a);
    text.push_str(b);
    Ok(text.into())
}

fn add(a: &Value, b: &Value) -> Result<Value> {
    a.defined()?;
    b.defined()?;
    match (a, b) {
        (Value::Str(x), Value::Str(y)) => joined(x, y).map(Value::Str),
        (Value::Markup(x), Value::Markup(y)) => joined(x, y).map(Value::Markup),
        (Value::Markup(x), Value::Str(y)) => joined(x, &escape(y)).map(Value::Markup),
        (Value::Str(x), Value::Markup(y)) => joined(&escape(x), y).map(Value::Markup),
        (Value::List(x), Value::List(y)) => both(x, y).map(Value::list),
        (Value::Tuple(x), Value::Tuple(y)) => both(x, y).map(Value::tuple),
        (Value::Str(_) | Value::Markup(_), _) => Err(Error::failed(format!(
            "can only concatenate str (not \"{}\") to str",
            b.type_name()
        ))),
        (Value::List(_), _) => Err(Error::failed(format!(
            "can only concatenate list (not \"{}\") to list",
            b.type_name()
        ))),
        _ => arithmetic(BinOp::Add, a, b),
    }
}

fn both(a: &[Value], b: &[Value]) -> Result<Vec<Value>> {
    room_for((a.len() + b.len()) * 16)?;
    Ok([a, b].concat())
}

fn mul(a: &Value, b: &Value) -> Result<Value> {
    a.defined()?;
    b.defined()?;
    match (a, b) {
        (Value::Str(text), n) | (n, Value::Str(text)) if n.as_int().is_some() => {
            Ok(Value::str(text.repeat(times(n, text.len())?)))
        }
        (Value::List(items), n) | (n, Value::List(items)) if n.as_int().is_some() => {
            Ok(Value::list(repeat(items, n)?))
        }
        (Value::Tuple(items), n) | (n, Value::Tuple(items)) if n.as_int().is_some() => {
            Ok(Value::tuple(repeat(items, n)?))
        }
        _ => arithmetic(BinOp::Mul, a, b),
    }
}

fn repeat(items: &[Value], n: &Value) -> Result<Vec<Value>> {
    let n = times(n, items.len() * 16)?;
    Ok(std::iter::repeat_n(items, n).flatten().cloned().collect())
}

/// How often something of this length is to be repeated.
fn times(n: &Value, len: usize) -> Result<usize> {
    let n = usize::try_from(n.as_int().unwrap_or(0).max(0)).map_err(|_| too_large())?;
    room_for(n.saturating_mul(len))?;
    Ok(if len == 0 { 0 } else { n })
}

fn too_large() -> Error {
    Error::failed("a number is too large")
}

fn arithmetic(op: BinOp, a: &Value, b: &Value) -> Result<Value> {
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int())
        && let Some(result) = on_ints(op, x, y)
    {
        return result.map(Value::Int);
    }
    match (as_float(a), as_float(b)) {
        (Some(x), Some(y)) => on_floats(op, x, y).map(Value::Float),
        _ => {
            a.defined()?;
            b.defined()?;
            Err(Error::failed(format!(
                "unsupported operand type(s) for {}: '{}' and '{}'",
                sign(op),
                a.type_name(),
                b.type_name()
            )))
        }
    }
}

fn sign(op: BinOp) -> &'static str {
    match op {
        BinOp::Add => "+",
        BinOp::Sub => "-",
        BinOp::Mul => "*",
        BinOp::Div => "/",
        BinOp::FloorDiv => "//",
        BinOp::Rem => "%",
        _ => "** or pow()",
    }
}

pub(super) fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(x) => Some(*x),
        other => other.as_int().map(|n| n as f64),
    }
}

/// `None` where integers give a float.
fn on_ints(op: BinOp, x: i128, y: i128) -> Option<Result<i128>> {
    let result = match op {
        BinOp::Add => x.checked_add(y),
        BinOp::Sub => x.checked_sub(y),
        BinOp::Mul => x.checked_mul(y),
        BinOp::FloorDiv | BinOp::Rem if y == 0 => {
            return Some(Err(Error::failed("integer division or modulo by zero")));
        }
        BinOp::FloorDiv => {
            x.checked_div(y).map(|q| q - i128::from(q * y != x && (x < 0) != (y < 0)))
        }
        BinOp::Rem => {
            x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r })
        }
        BinOp::Pow if y >= 0 => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
        _ => return None,
    };
    Some(result.ok_or_else(too_large))
}

fn on_floats(op: BinOp, x: f64, y: f64) -> Result<f64> {
    Ok(match op {
        BinOp::Add => x + y,
        BinOp::Sub => x - y,
        BinOp::Mul => x * y,
        BinOp::Div if y == 0.0 => return Err(Error::failed("division by zero")),
        BinOp::Div => x / y,
        BinOp::FloorDiv | BinOp::Rem if y == 0.0 => {
            return Err(Error::failed("float floor division by zero"));
        }
        BinOp::FloorDiv => (x / y).floor(),
        BinOp::Rem => {
            let r = x % y;
            if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
        }
        _ => x.powf(y),
    })
}

/// `a == b`.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        return x == y;
    }
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return x == y;
    }
    if let (Some(x), Some(y)) = (as_float(a), as_float(b)) {
        return x == y;
    }
    let all =
        |x: &[Value], y: &[Value]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y));
    match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
            Rc::ptr_eq(x, y) || all(x, y)
        }
        (Value::Dict(x), Value::Dict(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| equal(v, w)))
        }
        (Value::View(v, x), Value::View(w, y)) => v == w && all(&v.of(x), &w.of(y)),
        (Value::Range(x), Value::Range(y)) => x == y,
        (Value::Namespace(x), Value::Namespace(y)) => Rc::ptr_eq(x, y),
        (Value::Iter(x), Value::Iter(y)) => Rc::ptr_eq(x, y),
        (Value::Macro(x), Value::Macro(y)) => Rc::ptr_eq(x, y),
        (Value::Loop(x), Value::Loop(y)) => Rc::ptr_eq(x, y),
        (Value::Function(x), Value::Function(y)) => x == y,
        _ => false,
    }
}

/// How two values are ordered; `None` if not at all, as with NaN.
///
/// # Errors
/// [`Error::Failed`] where Python has no order.
pub(super) fn order(a: &Value, b: &Value, sign: &str) -> Result<Option<Ordering>> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        return Ok(Some(x.cmp(y)));
    }
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return Ok(Some(x.cmp(&y)));
    }
    if let (Some(x), Some(y)) = (as_float(a), as_float(b)) {
        return Ok(x.partial_cmp(&y));
    }
    match (a, b) {
        (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
            match x.iter().zip(y.iter()).find(|(x, y)| !equal(x, y)) {
                Some((x, y)) => order(x, y, sign),
                None => Ok(Some(x.len().cmp(&y.len()))),
            }
        }
        _ => {
            a.defined()?;
            b.defined()?;
            Err(Error::failed(format!(
                "'{sign}' not supported between instances of '{}' and '{}'",
                a.type_name(),
                b.type_name()
            )))
        }
    }
}

/// `item in container`.
///
/// # Errors
/// [`Error::Failed`] if the container is none.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Str(text) | Value::Markup(text) => match item.as_str() {
            Some(part) => Ok(text.contains(&**part)),
            None => {
                item.defined()?;
                Err(Error::failed(format!(
                    "'in <string>' requires string as left operand, not {}",
                    item.type_name()
                )))
            }
        },
        Value::Dict(dict) | Value::View(super::value::View::Keys, dict) => {
            hashable(item)?;
            Ok(dict.get(item).is_some())
        }
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => Err(Error::failed(
            format!("argument of type '{}' is not iterable", container.type_name()),
        )),
        other => Ok(other.items()?.iter().any(|x| equal(x, item))),
    }
}

/// Refuses what cannot be a key.
pub(super) fn hashable(key: &Value) -> Result<()> {
    match key {
        Value::List(_) | Value::Dict(_) => {
            Err(Error::failed(format!("unhashable type: '{}'", key.type_name())))
        }
        Value::Tuple(items) => items.iter().try_for_each(hashable),
        _ => Ok(()),
    }
}

/// Text with the characters that HTML gives a meaning written otherwise.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
