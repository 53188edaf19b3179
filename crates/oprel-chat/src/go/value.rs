//! Values of templates.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// What is not there.
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<[Value]>),
    /// Of JSON: keys in order, as Go ranges over and prints them.
    Map(Rc<BTreeMap<String, Value>>),
    Record(Rc<Record>),
}

/// What Go has a struct for: fields by Go's names, and the JSON that it prints as.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) fields: Vec<(&'static str, Value)>,
    pub(super) json: Json,
}

impl Value {
    pub(super) fn str(text: &str) -> Value {
        Value::Str(text.into())
    }

    pub(super) fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::List(items.into_iter().collect())
    }

    pub(super) fn record(fields: Vec<(&'static str, Value)>, json: Json) -> Value {
        Value::Record(Rc::new(Record { fields, json }))
    }

    /// Nesting is limited by serde_json where it was read.
    pub(super) fn of_json(json: &Json) -> Value {
        match json {
            Json::Null => Value::None,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => Value::Int(n),
                None => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::str(text),
            Json::Array(items) => Value::list(items.iter().map(Value::of_json)),
            Json::Object(map) => {
                let entries = map.iter().map(|(key, value)| (key.clone(), Value::of_json(value)));
                Value::Map(Rc::new(entries.collect()))
            }
        }
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Value::None => Json::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Float(x) => (*x).into(),
            Value::Str(text) => (&**text).into(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(map) => map.iter().map(|(k, v)| (k.clone(), v.to_json())).collect(),
            Value::Record(record) => record.json.clone(),
        }
    }

    /// What `if` makes of it.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Record(_) => true,
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::None => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::List(_) => "slice",
            Value::Map(_) => "map",
            Value::Record(_) => "struct",
        }
    }

    /// As an action writes it: texts bare, lists of plain values in brackets as Go does, all else that is put
    /// together as JSON.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Value::None => out.push_str("<no value>"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Float(x) => out.push_str(&float(*x)),
            Value::Str(text) => out.push_str(text),
            Value::List(items) if items.iter().all(Value::is_plain) && !items.is_empty() => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Value::List(_) | Value::Map(_) | Value::Record(_) => {
                out.push_str(&self.to_json().to_string());
            }
        }
    }

    fn is_plain(&self) -> bool {
        !matches!(self, Value::List(_) | Value::Map(_) | Value::Record(_))
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// As Go's `%v`: the shortest digits that read back, with an exponent where it is large or small.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    if x == 0.0 || (1e-4..1e21).contains(&x.abs()) {
        return format!("{x}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}
