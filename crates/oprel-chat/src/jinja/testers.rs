//! Tests: what stands after `is`.

use super::call::Args;
use super::eval::Machine;
use super::methods::is;
use super::ops::{binary, contains};
use super::text::str_of;
use super::tree::BinOp;
use super::value::Value;
use crate::{Error, Result};
use std::rc::Rc;

impl Machine<'_> {
    /// Whether a value passes a test.
    ///
    /// # Errors
    /// [`Error::Failed`] for a test that does not exist, or whose comparison fails.
    pub(super) fn test(&mut self, name: &str, value: &Value, args: Args) -> Result<bool> {
        self.charge(value.size().weight.saturating_add(args.weight()))?;
        if let Some(op) = comparison(name) {
            let [other] = args.bind(name, ["other"])?;
            let other = other.ok_or_else(|| missing(name))?;
            return Ok(binary(op, value, &other)?.truthy());
        }
        match name {
            "divisibleby" => {
                let [num] = args.bind(name, ["num"])?;
                let rem = binary(BinOp::Rem, value, &num.ok_or_else(|| missing(name))?)?;
                return Ok(!rem.truthy());
            }
            "in" => {
                let [seq] = args.bind(name, ["seq"])?;
                return contains(&seq.ok_or_else(|| missing(name))?, value);
            }
            "sameas" => {
                let [other] = args.bind(name, ["other"])?;
                return Ok(same(value, &other.ok_or_else(|| missing(name))?));
            }
            "filter" => return Ok(value.as_str().is_some_and(|n| super::filters::exists(n))),
            "test" => return Ok(value.as_str().is_some_and(|n| exists(n))),
            _ => {}
        }
        let [] = args.bind(name, [])?;
        unary(name, value)
    }
}

/// Whether there is a test of this name.
pub(super) fn exists(name: &str) -> bool {
    comparison(name).is_some()
        || matches!(name, "divisibleby" | "in" | "sameas" | "filter" | "test" | "odd" | "even")
        || unary(name, &Value::None).is_ok()
}

fn comparison(name: &str) -> Option<BinOp> {
    Some(match name {
        "eq" | "equalto" | "==" => BinOp::Eq,
        "ne" | "!=" => BinOp::Ne,
        "lt" | "lessthan" | "<" => BinOp::Lt,
        "le" | "<=" => BinOp::Le,
        "gt" | "greaterthan" | ">" => BinOp::Gt,
        "ge" | ">=" => BinOp::Ge,
        _ => return None,
    })
}

fn missing(name: &str) -> Error {
    Error::failed(format!("the test '{name}' takes an argument"))
}

fn unary(name: &str, value: &Value) -> Result<bool> {
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => value.as_str().is_some(),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Str(_)
                | Value::Markup(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(_)
                | Value::Undefined(_)
        ),
        "iterable" => !matches!(
            value,
            Value::None
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::Namespace(_)
                | Value::Method(_)
                | Value::Function(_)
                | Value::Macro(_)
        ),
        "callable" => matches!(
            value,
            Value::Method(_)
                | Value::Function(_)
                | Value::Macro(_)
                | Value::Loop(_)
                | Value::Undefined(_)
        ),
        "escaped" => matches!(value, Value::Markup(_)),
        "lower" => is("islower", &str_of(value)?),
        "upper" => is("isupper", &str_of(value)?),
        "odd" | "even" => {
            let rem = binary(BinOp::Rem, value, &Value::Int(2))?;
            rem.truthy() == (name == "odd")
        }
        other => return Err(Error::failed(format!("No test named '{other}'."))),
    })
}

/// `a is b`, as far as values can be told apart.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(_), _) | (Value::Bool(_), _) | (_, Value::Bool(_)) => false,
        (Value::Undefined(_), _) => false,
        _ => a.type_name() == b.type_name() && super::ops::equal(a, b),
    }
}
