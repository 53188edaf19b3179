//! `tojson` as `transformers` defines it: `json.dumps` with its options.

use super::dict::Dict;
use super::number::float_repr;
use super::value::{Value, room_for};
use crate::{Error, Result};
use std::fmt::Write;
use std::sync::Arc;

/// How JSON is written.
pub(super) struct Style {
    pub(super) ascii: bool,
    /// What one level is indented by; `None` writes one line.
    pub(super) indent: Option<String>,
    pub(super) between_items: Arc<str>,
    pub(super) after_key: Arc<str>,
    pub(super) sort_keys: bool,
}

/// `json.dumps(value)`.
///
/// # Errors
/// [`Error::Failed`] for what JSON cannot say.
pub(super) fn dumps(value: &Value, style: &Style) -> Result<String> {
    let mut writer = Writer { style, out: String::new(), level: 0 };
    writer.value(value)?;
    Ok(writer.out)
}

struct Writer<'s> {
    style: &'s Style,
    out: String,
    level: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) -> Result<()> {
        room_for(self.out.len())?;
        match value {
            Value::None => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            // Writing to a String cannot fail.
            Value::Int(n) => drop(write!(self.out, "{n}")),
            Value::Float(x) => self.out.push_str(&float_text(*x)),
            Value::Str(text) | Value::Markup(text) => quote(text, self.style.ascii, &mut self.out),
            Value::List(items) | Value::Tuple(items) => self.list(items)?,
            Value::Dict(dict) => self.dict(dict)?,
            other => {
                let name = other.type_name();
                let message = format!("Object of type {name} is not JSON serializable");
                return Err(Error::failed(message));
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &[Value]) -> Result<()> {
        if items.is_empty() {
            self.out.push_str("[]");
            return Ok(());
        }
        self.open('[');
        for (i, item) in items.iter().enumerate() {
            self.between(i);
            self.value(item)?;
        }
        self.close(']');
        Ok(())
    }

    fn dict(&mut self, dict: &Dict) -> Result<()> {
        if dict.len() == 0 {
            self.out.push_str("{}");
            return Ok(());
        }
        let mut pairs: Vec<(&Value, &Value)> = dict.iter().collect();
        if self.style.sort_keys {
            super::filters_seq::sort_by(&mut pairs, |pair| pair.0)?;
        }
        self.open('{');
        for (i, (key, value)) in pairs.into_iter().enumerate() {
            self.between(i);
            quote(&key_text(key)?, self.style.ascii, &mut self.out);
            self.out.push_str(&self.style.after_key);
            self.value(value)?;
        }
        self.close('}');
        Ok(())
    }

    fn open(&mut self, bracket: char) {
        self.out.push(bracket);
        self.level += 1;
        self.new_line();
    }

    fn close(&mut self, bracket: char) {
        self.level -= 1;
        self.new_line();
        self.out.push(bracket);
    }

    fn between(&mut self, i: usize) {
        if i > 0 {
            self.out.push_str(&self.style.between_items);
            self.new_line();
        }
    }

    fn new_line(&mut self) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.level));
        }
    }
}

fn key_text(key: &Value) -> Result<Arc<str>> {
    Ok(match key {
        Value::Str(text) | Value::Markup(text) => text.clone(),
        Value::None => "null".into(),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::Int(n) => n.to_string().into(),
        Value::Float(x) => float_text(*x).into(),
        other => {
            return Err(Error::failed(format!(
                "keys must be str, int, float, bool or None, not {}",
                other.type_name()
            )));
        }
    })
}

fn float_text(x: f64) -> String {
    if x.is_nan() {
        "NaN".into()
    } else if x.is_infinite() {
        if x > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        float_repr(x)
    }
}

fn quote(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (ascii && (c as u32) > 0x7e) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
