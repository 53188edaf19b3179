//! Filters: what stands after `|`. Here the table, and those that belong nowhere else.

use super::call::Args;
use super::eval::Machine;
use super::filters_seq as seq;
use super::filters_text as text;
use super::format::{filter_args, percent};
use super::index;
use super::json::{Style, dumps};
use super::methods::{want_int, width_of};
use super::number;
use super::ops::as_float;
use super::text::str_of;
use super::value::{Missing, Value, room_for};
use crate::{Error, Result};
use std::sync::Arc;

const NAMES: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "wordwrap",
];

/// Whether there is a filter of this name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Machine<'_> {
    /// Applies a filter.
    ///
    /// # Errors
    /// [`Error::Failed`] for a filter that does not exist, or in Python's words.
    pub(super) fn filter(&mut self, name: &str, input: Value, args: Args) -> Result<Value> {
        self.charge(input.size().weight.saturating_add(args.weight()))?;
        match name {
            "map" => seq::map(self, &input, args),
            "select" | "reject" | "selectattr" | "rejectattr" => {
                seq::select(self, name, &input, args)
            }
            "unique" | "groupby" => {
                // These compare every item with every other.
                let n = input.len().unwrap_or(0) as u64;
                self.charge(n.saturating_mul(n) / 4)?;
                if name == "unique" {
                    seq::unique(&input, args)
                } else {
                    seq::group_by(&input, args)
                }
            }
            "sort" => seq::sort(&input, args),
            "min" | "max" => seq::extreme(name, &input, args),
            "dictsort" => seq::dict_sort(&input, args),
            "batch" => seq::batch(&input, args),
            "slice" => seq::slices(&input, args),
            "first" | "last" => seq::end(name, &input, args),
            "length" | "count" => seq::length(&input, args),
            "list" => none(name, args).and_then(|()| seq::list(&input)),
            "items" => none(name, args).and_then(|()| seq::items(&input)),
            "reverse" => none(name, args).and_then(|()| seq::reverse(&input)),
            "sum" => seq::sum(&input, args),
            "join" => seq::join(&input, args),
            "default" | "d" => default(input, args),
            "attr" => {
                let [attr] = args.bind(name, ["name"])?;
                let attr = str_of(&attr.unwrap_or(Value::None))?;
                input.defined()?;
                Ok(index::own_attr(&input, &attr).unwrap_or_else(|| {
                    Value::Undefined(Missing::Attr(input.owner_name(), attr.clone()))
                }))
            }
            "tojson" => to_json(&input, args),
            "int" => int(&input, args),
            "float" => float(&input, args),
            "abs" => none(name, args).and_then(|()| abs(&input)),
            "round" => round(&input, args),
            "string" => none(name, args).and_then(|()| string(input)),
            "format" => percent(&string(input)?, &filter_args(args)),
            "safe" => none(name, args).and_then(|()| Ok(Value::Markup(str_of(&input)?))),
            other => text::filter(other, &input, args),
        }
    }
}

/// Refuses arguments.
pub(super) fn none(name: &str, args: Args) -> Result<()> {
    let [] = args.bind(name, [])?;
    Ok(())
}

fn string(input: Value) -> Result<Value> {
    match input {
        text @ (Value::Str(_) | Value::Markup(_)) => Ok(text),
        other => str_of(&other).map(Value::Str),
    }
}

fn default(input: Value, args: Args) -> Result<Value> {
    let [value, falsy] = args.bind("default", ["default_value", "boolean"])?;
    let falsy = falsy.is_some_and(|falsy| falsy.truthy());
    if input.is_undefined() || (falsy && !input.truthy()) {
        return Ok(value.unwrap_or_else(|| Value::str("")));
    }
    Ok(input)
}

fn to_json(input: &Value, args: Args) -> Result<Value> {
    let params = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort] = args.bind("tojson", params)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text.to_string()),
        Some(n) => {
            let width = width_of(&n)?;
            room_for(width.saturating_mul(256))?;
            Some(" ".repeat(width))
        }
    };
    let (between_items, after_key): (Arc<str>, Arc<str>) = match separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
        Some(pair) => {
            let pair = pair.items()?;
            match &pair[..] {
                [between, after] => (str_of(between)?, str_of(after)?),
                _ => return Err(Error::failed("separators must be two strings")),
            }
        }
    };
    let is = |value: Option<Value>| value.is_some_and(|value| value.truthy());
    let style = Style { ascii: is(ascii), indent, between_items, after_key, sort_keys: is(sort) };
    dumps(input, &style).map(Value::str)
}

fn int(input: &Value, args: Args) -> Result<Value> {
    let [default, base] = args.bind("int", ["default", "base"])?;
    input.defined()?;
    let base = u32::try_from(base.map_or(Ok(10), |base| want_int(&base))?).unwrap_or(1);
    if base != 0 && !(2..=36).contains(&base) {
        return Ok(default.unwrap_or(Value::Int(0)));
    }
    let found = match input {
        Value::Str(text) | Value::Markup(text) => {
            number::parse_int(text, base).or_else(|| number::parse_float(text).and_then(whole))
        }
        Value::Float(x) => whole(*x),
        other => other.as_int(),
    };
    Ok(found.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
}

fn whole(x: f64) -> Option<i128> {
    (x.is_finite() && x.abs() < 1e38).then_some(x.trunc() as i128)
}

fn float(input: &Value, args: Args) -> Result<Value> {
    let [default] = args.bind("float", ["default"])?;
    input.defined()?;
    let found = match input {
        Value::Str(text) | Value::Markup(text) => number::parse_float(text),
        other => as_float(other),
    };
    Ok(found.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
}

fn abs(input: &Value) -> Result<Value> {
    match (input.defined()?.as_int(), input) {
        (Some(n), _) => Ok(Value::Int(n.saturating_abs())),
        (None, Value::Float(x)) => Ok(Value::Float(x.abs())),
        _ => {
            let name = input.type_name();
            Err(Error::failed(format!("bad operand type for abs(): '{name}'")))
        }
    }
}

fn round(input: &Value, args: Args) -> Result<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let digits = precision.map_or(Ok(0), |precision| want_int(&precision))?;
    let digits = i32::try_from(digits.clamp(-400, 400)).unwrap_or(0);
    let method = method.map_or(Ok("common".into()), |method| str_of(&method))?;
    let Some(x) = as_float(input.defined()?) else {
        let name = input.type_name();
        return Err(Error::failed(format!("type {name} doesn't define __round__ method")));
    };
    let scaled = x * 10f64.powi(digits);
    match (&*method, input.as_int()) {
        ("common", Some(n)) if digits >= 0 => Ok(Value::Int(n)),
        ("common", Some(_)) => Ok(Value::Int(number::round(x, digits) as i128)),
        ("common", None) => Ok(Value::Float(number::round(x, digits))),
        ("ceil", _) => Ok(Value::Float(scaled.ceil() / 10f64.powi(digits))),
        ("floor", _) => Ok(Value::Float(scaled.floor() / 10f64.powi(digits))),
        _ => Err(Error::failed("method must be common, ceil or floor")),
    }
}
