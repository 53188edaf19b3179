//! `a.b`, `a[b]` and `a[b:c:d]`.

use super::methods;
use super::value::{Missing, Range, Value, char_value};
use crate::{Error, Result};
use std::rc::Rc;
use std::sync::Arc;

/// Longest step of a slice: no sequence is as long.
const MOST_STEP: i128 = 1 << 62;

/// `of.name`: an attribute if there is one, else the item of that key, else undefined.
///
/// # Errors
/// [`Error::Failed`] if `of` itself is undefined.
pub(super) fn attr(of: &Value, name: &Arc<str>) -> Result<Value> {
    of.defined()?;
    if let Some(value) = own_attr(of, name) {
        return Ok(value);
    }
    if let Value::Dict(dict) = of
        && let Some(value) = dict.get_str(name)
    {
        return Ok(value.clone());
    }
    Ok(Value::Undefined(Missing::Attr(of.owner_name(), name.clone())))
}

/// What Python's `getattr` finds, as far as the sandbox lets it through.
pub(super) fn own_attr(of: &Value, name: &Arc<str>) -> Option<Value> {
    match of {
        Value::Namespace(names) => names.borrow().get_str(name).cloned(),
        Value::Loop(state) => state.attr(name, of),
        Value::Macro(m) if &**name == "name" => Some(Value::Str(m.name.clone())),
        // What `groupby` gives; no other pair is asked for these.
        Value::Tuple(pair) if pair.len() == 2 && matches!(&**name, "grouper" | "list") => {
            Some(pair[usize::from(&**name == "list")].clone())
        }
        Value::Tuple(_)
        | Value::Dict(_)
        | Value::List(_)
        | Value::Str(_)
        | Value::Markup(_)
        | Value::Int(_)
        | Value::Float(_) => {
            let kind = methods::find(of, name)?;
            Some(match kind {
                methods::Kind::Safe => Value::Method(Rc::new((of.clone(), name.clone()))),
                methods::Kind::Mutating => {
                    Value::Undefined(Missing::Unsafe(of.type_name(), name.clone()))
                }
            })
        }
        _ => None,
    }
}

/// `of[key]`: the item if there is one, else for a string key the attribute, else undefined.
///
/// # Errors
/// [`Error::Failed`] if `of` itself is undefined.
pub(super) fn item(of: &Value, key: &Value) -> Result<Value> {
    of.defined()?;
    let found = match of {
        Value::Dict(dict) => dict.get(key).cloned(),
        Value::List(items) | Value::Tuple(items) => {
            place(key, items.len()).map(|at| items[at].clone())
        }
        Value::Str(text) | Value::Markup(text) => char_at(text, key),
        Value::Range(range) => place(key, usize::try_from(range.len()).unwrap_or(0))
            .map(|at| Value::Int(range.at(at as i128))),
        _ => None,
    };
    if let Some(value) = found {
        return Ok(value);
    }
    match key {
        Value::Str(name) | Value::Markup(name) => Ok(own_attr(of, name)
            .unwrap_or_else(|| Value::Undefined(Missing::Attr(of.owner_name(), name.clone())))),
        Value::Undefined(_) => Ok(Value::Undefined(Missing::Said(
            format!("{} has no element Undefined", of.owner_name()).into(),
        ))),
        other => {
            let words =
                format!("{} has no element {}", of.owner_name(), super::text::repr_of(other)?);
            Ok(Value::Undefined(Missing::Said(words.into())))
        }
    }
}

/// The place that an index names; a negative one counts from the end.
fn place(key: &Value, len: usize) -> Option<usize> {
    let i = key.as_int()?;
    let i = if i < 0 { i + len as i128 } else { i };
    usize::try_from(i).ok().filter(|&i| i < len)
}

fn char_at(text: &str, key: &Value) -> Option<Value> {
    let i = key.as_int()?;
    let c = match usize::try_from(i) {
        Ok(i) => text.chars().nth(i),
        Err(_) => text.chars().rev().nth(usize::try_from(-1 - i).ok()?),
    };
    c.map(char_value)
}

/// `of[start:stop:step]`.
///
/// # Errors
/// [`Error::Failed`] for what cannot be sliced, bounds that are no integers, a step of 0.
pub(super) fn slice(of: &Value, bounds: [&Value; 3]) -> Result<Value> {
    of.defined()?;
    let pick = |len: usize| places(bounds, len);
    Ok(match of {
        Value::Str(text) => Value::Str(slice_text(text, bounds)?),
        Value::Markup(text) => Value::Markup(slice_text(text, bounds)?),
        Value::List(items) => {
            Value::list(pick(items.len())?.into_iter().map(|at| items[at].clone()).collect())
        }
        Value::Tuple(items) => {
            Value::tuple(pick(items.len())?.into_iter().map(|at| items[at].clone()).collect())
        }
        Value::Range(range) => {
            let (start, stop, step) = indices(bounds, range.len())?;
            let step = range.step.saturating_mul(step).clamp(-MOST_STEP, MOST_STEP);
            Value::Range(Rc::new(Range { start: range.at(start), stop: range.at(stop), step }))
        }
        Value::Dict(_) => return Err(Error::failed("unhashable type: 'slice'")),
        other => {
            let name = other.type_name();
            return Err(Error::failed(format!("'{name}' object is not subscriptable")));
        }
    })
}

fn slice_text(text: &str, bounds: [&Value; 3]) -> Result<Arc<str>> {
    let chars: Vec<char> = text.chars().collect();
    let places = places(bounds, chars.len())?;
    Ok(places.into_iter().map(|at| chars[at]).collect::<String>().into())
}

/// The places that a slice takes of so many.
fn places(bounds: [&Value; 3], len: usize) -> Result<Vec<usize>> {
    let (mut at, stop, step) = indices(bounds, len as i128)?;
    let mut places = Vec::new();
    while if step > 0 { at < stop } else { at > stop } {
        places.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(places)
}

/// Where a slice of so many begins, where it ends, and its step.
fn indices(bounds: [&Value; 3], len: i128) -> Result<(i128, i128, i128)> {
    let [start, stop, step] = [bound(bounds[0])?, bound(bounds[1])?, bound(bounds[2])?];
    let step = step.unwrap_or(1).clamp(-MOST_STEP, MOST_STEP);
    if step == 0 {
        return Err(Error::failed("slice step cannot be zero"));
    }
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |i: i128| (if i < 0 { i.saturating_add(len) } else { i }).clamp(low, high);
    let start = start.map_or(if step > 0 { low } else { high }, clamp);
    let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
    Ok((start, stop, step))
}

fn bound(value: &Value) -> Result<Option<i128>> {
    match value {
        Value::None => Ok(None),
        other => match other.as_int() {
            Some(n) => Ok(Some(n)),
            None => Err(Error::failed(
                "slice indices must be integers or None or have an __index__ method",
            )),
        },
    }
}
