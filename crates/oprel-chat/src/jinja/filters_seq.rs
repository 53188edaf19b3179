//! Filters of lists, dicts and whatever else can be iterated over.

use super::call::Args;
use super::eval::Machine;
use super::index;
use super::methods::want_int;
use super::ops::{binary, equal, order};
use super::text::str_of;
use super::tree::BinOp;
use super::value::{Missing, Seq, Value, View, room_for};
use crate::{Error, Result};
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

/// The value at a path such as `a.b.0`; the item itself without one.
fn at_path(item: &Value, path: Option<&Value>) -> Result<Value> {
    let Some(path) = path.filter(|path| !matches!(path, Value::None)) else {
        return Ok(item.clone());
    };
    if path.as_int().is_some() {
        return index::item(item, path);
    }
    let mut value = item.clone();
    for part in str_of(path)?.split('.') {
        let key = match part.parse::<i128>() {
            Ok(n) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(n),
            _ => Value::str(part),
        };
        value = index::item(&value, &key)?;
    }
    Ok(value)
}

/// A string without its case, unless case counts.
fn folded(value: Value, case_sensitive: bool) -> Value {
    match &value {
        Value::Str(text) | Value::Markup(text) if !case_sensitive => {
            Value::str(text.to_lowercase())
        }
        _ => value,
    }
}

fn is(value: Option<Value>) -> bool {
    value.is_some_and(|value| value.truthy())
}

/// Sorts by a key, keeping the order of equal ones.
pub(super) fn sort_by<T>(items: &mut [T], key: impl Fn(&T) -> &Value) -> Result<()> {
    let mut failed = None;
    items.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        order(a, b, "<")
            .unwrap_or_else(|error| {
                failed.get_or_insert(error);
                None
            })
            .unwrap_or(Ordering::Equal)
    });
    failed.map_or(Ok(()), Err)
}

/// Each item with what it is sorted by.
fn keyed(input: &Value, path: Option<&Value>, case: bool) -> Result<Vec<(Value, Value)>> {
    let several: Option<Vec<Value>> = match path.and_then(Value::as_str) {
        Some(path) if path.contains(',') => Some(path.split(',').map(Value::str).collect()),
        _ => None,
    };
    let key = |item: &Value| match &several {
        None => Ok(folded(at_path(item, path)?, case)),
        Some(paths) => {
            let keys = paths.iter().map(|p| Ok(folded(at_path(item, Some(p))?, case)));
            Ok(Value::list(keys.collect::<Result<_>>()?))
        }
    };
    input.items()?.iter().map(|item| Ok((key(item)?, item.clone()))).collect()
}

pub(super) fn sort(input: &Value, args: Args) -> Result<Value> {
    let [reverse, case, attribute] =
        args.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let mut items = keyed(input, attribute.as_ref(), is(case))?;
    sorted(&mut items, is(reverse))?;
    Ok(Value::list(items.into_iter().map(|(_, item)| item).collect()))
}

/// Sorts either way; equal items keep their order in both.
fn sorted(items: &mut [(Value, Value)], reverse: bool) -> Result<()> {
    if reverse {
        items.reverse();
    }
    sort_by(items, |pair| &pair.0)?;
    if reverse {
        items.reverse();
    }
    Ok(())
}

pub(super) fn dict_sort(input: &Value, args: Args) -> Result<Value> {
    let [case, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let by = by.map_or(Ok("key".into()), |by| str_of(&by))?;
    let place = match &*by {
        "key" => 0,
        "value" => 1,
        _ => return Err(Error::failed("You can only sort by either \"key\" or \"value\"")),
    };
    let Value::Dict(dict) = input.defined()? else {
        let name = input.type_name();
        return Err(Error::failed(format!("'{name}' object has no attribute 'items'")));
    };
    let case = is(case);
    let key = |pair: &(Value, Value)| {
        folded(if place == 0 { pair.0.clone() } else { pair.1.clone() }, case)
    };
    let pairs = dict.iter().map(|(k, v)| (k.clone(), v.clone()));
    let mut items: Vec<(Value, Value)> =
        pairs.map(|pair| (key(&pair), Value::tuple(vec![pair.0, pair.1]))).collect();
    sorted(&mut items, is(reverse))?;
    Ok(Value::list(items.into_iter().map(|(_, item)| item).collect()))
}

pub(super) fn extreme(name: &str, input: &Value, args: Args) -> Result<Value> {
    let [case, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
    let mut best: Option<(Value, Value)> = None;
    for (key, item) in keyed(input, attribute.as_ref(), is(case))? {
        let better = match &best {
            None => true,
            Some((old, _)) if name == "max" => order(&key, old, ">")?.is_some_and(Ordering::is_gt),
            Some((old, _)) => order(&key, old, "<")?.is_some_and(Ordering::is_lt),
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| empty("No aggregated item, sequence was empty."), |(_, item)| item))
}

fn empty(words: &str) -> Value {
    Value::Undefined(Missing::Said(words.into()))
}

pub(super) fn unique(input: &Value, args: Args) -> Result<Value> {
    let [case, attribute] = args.bind("unique", ["case_sensitive", "attribute"])?;
    let mut seen: Vec<Value> = Vec::new();
    let mut kept = Vec::new();
    for (key, item) in keyed(input, attribute.as_ref(), is(case))? {
        if !seen.iter().any(|old| equal(old, &key)) {
            seen.push(key);
            kept.push(item);
        }
    }
    Ok(Value::iter(kept))
}

pub(super) fn group_by(input: &Value, args: Args) -> Result<Value> {
    let [attribute, default, case] =
        args.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let case = is(case);
    let mut items = Vec::new();
    for item in input.items()?.iter() {
        let mut key = at_path(item, attribute.as_ref())?;
        if let (true, Some(default)) = (key.is_undefined(), &default) {
            key = default.clone();
        }
        items.push((folded(key.clone(), case), Value::tuple(vec![key, item.clone()])));
    }
    sort_by(&mut items, |pair| &pair.0)?;
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (key, pair) in items {
        let Value::Tuple(pair) = pair else { continue };
        match groups.last_mut() {
            Some((last, _, group)) if equal(last, &key) => group.push(pair[1].clone()),
            _ => groups.push((key, pair[0].clone(), vec![pair[1].clone()])),
        }
    }
    let groups =
        groups.into_iter().map(|(_, key, group)| Value::tuple(vec![key, Value::list(group)]));
    Ok(Value::list(groups.collect()))
}

/// The items of anything true; Jinja2 does not look at what counts as false, be it iterable or not.
fn items_or_none(input: &Value) -> Result<Rc<Seq>> {
    if input.truthy() { input.items() } else { Ok(Rc::default()) }
}

pub(super) fn map(machine: &mut Machine<'_>, input: &Value, mut args: Args) -> Result<Value> {
    let items = items_or_none(input)?;
    if args.plain.is_empty() && args.named.iter().any(|(name, _)| &**name == "attribute") {
        let [attribute, default] = args.bind("map", ["attribute", "default"])?;
        let pick = |item: &Value| {
            let value = at_path(item, attribute.as_ref())?;
            Ok(match &default {
                Some(default) if value.is_undefined() => default.clone(),
                _ => value,
            })
        };
        return Ok(Value::iter(items.iter().map(pick).collect::<Result<_>>()?));
    }
    if args.plain.is_empty() {
        return Err(Error::failed("map requires a filter argument"));
    }
    let name = str_of(&args.plain.remove(0))?;
    let mut out = Vec::with_capacity(items.len());
    for item in items.iter() {
        let args = Args { plain: args.plain.clone(), named: args.named.clone() };
        out.push(machine.filter(&name, item.clone(), args)?.bounded()?);
    }
    Ok(Value::iter(out))
}

/// `select`, `reject`, `selectattr` and `rejectattr`.
pub(super) fn select(
    machine: &mut Machine<'_>,
    name: &str,
    input: &Value,
    mut args: Args,
) -> Result<Value> {
    let items = items_or_none(input)?;
    let attribute = match name.ends_with("attr") {
        true if args.plain.is_empty() => {
            return Err(Error::failed("Missing parameter for attribute name"));
        }
        true => Some(args.plain.remove(0)),
        false => None,
    };
    let test = match args.plain.is_empty() {
        true => None,
        false => Some(str_of(&args.plain.remove(0))?),
    };
    let wanted = name.starts_with("select");
    let mut kept = Vec::new();
    for item in items.iter() {
        let value = at_path(item, attribute.as_ref())?;
        let passes = match &test {
            None => value.truthy(),
            Some(test) => {
                let args = Args { plain: args.plain.clone(), named: args.named.clone() };
                machine.test(test, &value, args)?
            }
        };
        if passes == wanted {
            kept.push(item.clone());
        }
    }
    Ok(Value::iter(kept))
}

pub(super) fn batch(input: &Value, args: Args) -> Result<Value> {
    let [count, fill] = args.bind("batch", ["linecount", "fill_with"])?;
    let count = positive(count)?;
    let mut batches: Vec<Vec<Value>> = input.items()?.chunks(count).map(<[_]>::to_vec).collect();
    if let (Some(last), Some(fill)) =
        (batches.last_mut(), fill.filter(|f| !matches!(f, Value::None)))
    {
        room_for(count.saturating_mul(16))?;
        last.resize(count, fill);
    }
    Ok(Value::iter(batches.into_iter().map(Value::list).collect()))
}

pub(super) fn slices(input: &Value, args: Args) -> Result<Value> {
    let [count, fill] = args.bind("slice", ["slices", "fill_with"])?;
    let count = positive(count)?;
    room_for(count.saturating_mul(16))?;
    let items = input.items()?;
    let (each, more) = (items.len() / count, items.len() % count);
    let mut rest = &items[..];
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        let (slice, after) = rest.split_at(each + usize::from(i < more));
        rest = after;
        let mut slice = slice.to_vec();
        if let Some(fill) = fill.as_ref().filter(|f| !matches!(f, Value::None))
            && i >= more
        {
            slice.push(fill.clone());
        }
        out.push(Value::list(slice));
    }
    Ok(Value::iter(out))
}

fn positive(count: Option<Value>) -> Result<usize> {
    let count = want_int(&count.unwrap_or(Value::None))?;
    usize::try_from(count)
        .ok()
        .filter(|&count| count > 0)
        .ok_or_else(|| Error::failed("a count must be above zero"))
}

/// `first` and `last`.
pub(super) fn end(name: &str, input: &Value, args: Args) -> Result<Value> {
    super::filters::none(name, args)?;
    let found = match (input, name) {
        (Value::Iter(lazy), "first") => lazy.rest.borrow_mut().pop_front(),
        (Value::Iter(_), _) => {
            return Err(Error::failed("'generator' object is not reversible"));
        }
        (_, "first") => input.items()?.first().cloned(),
        _ => input.items()?.last().cloned(),
    };
    Ok(found.unwrap_or_else(|| {
        let words = if name == "first" {
            "No first item, sequence was empty."
        } else {
            "No last item, sequence was empty."
        };
        empty(words)
    }))
}

pub(super) fn length(input: &Value, args: Args) -> Result<Value> {
    super::filters::none("length", args)?;
    match input.len() {
        Some(n) => Ok(Value::Int(n as i128)),
        None => {
            let name = input.type_name();
            Err(Error::failed(format!("object of type '{name}' has no len()")))
        }
    }
}

pub(super) fn list(input: &Value) -> Result<Value> {
    input.items().map(Value::List)
}

pub(super) fn items(input: &Value) -> Result<Value> {
    match input {
        Value::Undefined(_) => Ok(Value::iter(Vec::new())),
        Value::Dict(dict) => Ok(Value::iter(View::Items.of(dict))),
        _ => Err(Error::failed("Can only get item pairs from a mapping.")),
    }
}

pub(super) fn reverse(input: &Value) -> Result<Value> {
    if let Some(text) = input.as_str() {
        return Ok(Value::str(text.chars().rev().collect::<String>()));
    }
    let mut items = input.items()?.to_vec();
    items.reverse();
    Ok(Value::iter(items))
}

pub(super) fn sum(input: &Value, args: Args) -> Result<Value> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"])?;
    let mut total = start.unwrap_or(Value::Int(0));
    for item in input.items()?.iter() {
        total = binary(BinOp::Add, &total, &at_path(item, attribute.as_ref())?)?;
    }
    Ok(total)
}

pub(super) fn join(input: &Value, args: Args) -> Result<Value> {
    let [sep, attribute] = args.bind("join", ["d", "attribute"])?;
    let sep: Arc<str> = sep.map_or(Ok("".into()), |sep| str_of(&sep))?;
    let mut out = String::new();
    for (i, item) in input.items()?.iter().enumerate() {
        if i > 0 {
            out.push_str(&sep);
        }
        out.push_str(&str_of(&at_path(item, attribute.as_ref())?)?);
        room_for(out.len())?;
    }
    Ok(Value::str(out))
}
