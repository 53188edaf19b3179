//! JSON to values.

use super::dict::Dict;
use super::value::{MOST_DEPTH, Value};
use crate::{Error, Result};

/// A value that says what the JSON says.
///
/// # Errors
/// [`Error::TooDeep`].
pub(crate) fn from_json(json: &serde_json::Value) -> Result<Value> {
    convert(json, MOST_DEPTH)
}

fn convert(json: &serde_json::Value, levels: u32) -> Result<Value> {
    use serde_json::Value as Json;
    let Some(below) = levels.checked_sub(1) else {
        return Err(Error::TooDeep { most: MOST_DEPTH });
    };
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::Int(n.into()),
            (None, Some(n)) => Value::Int(n.into()),
            (None, None) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::str(text.as_str()),
        Json::Array(items) => {
            Value::list(items.iter().map(|item| convert(item, below)).collect::<Result<_>>()?)
        }
        Json::Object(pairs) => {
            let mut dict = Dict::default();
            for (key, value) in pairs {
                dict.set(Value::str(key.as_str()), convert(value, below)?);
            }
            Value::dict(dict)
        }
    })
}
