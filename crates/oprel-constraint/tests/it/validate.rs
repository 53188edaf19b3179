//! Checks JSON values against schemas, for the keywords that are kept. Written from the
//! specification and sharing nothing with what it checks.

use regex::Regex;
use serde_json::{Map, Value};

/// Why `value` does not fit, or nothing.
pub(crate) fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let object = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(object) => object,
        _ => return Err("the schema is false".into()),
    };
    for (keyword, wanted) in object {
        let fits = keyword_fits(root, object, keyword, wanted, value)?;
        if !fits {
            return Err(format!("{value} breaks {keyword}: {wanted}"));
        }
    }
    Ok(())
}

fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    check(root, schema, value).is_ok()
}

fn keyword_fits(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    wanted: &Value,
    value: &Value,
) -> Result<bool, String> {
    let each = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let count = || wanted.as_u64().expect("a count") as usize;
    let number = || wanted.as_f64().expect("a number");
    Ok(match keyword {
        "type" => match wanted {
            Value::String(name) => has_type(name, value),
            names => each(names).iter().any(|name| has_type(name.as_str().unwrap(), value)),
        },
        "const" => same(wanted, value),
        "enum" => each(wanted).iter().any(|one| same(one, value)),
        "anyOf" => each(wanted).iter().any(|schema| fits(root, schema, value)),
        "oneOf" => each(wanted).iter().filter(|schema| fits(root, schema, value)).count() == 1,
        "allOf" => {
            return each(wanted).iter().try_for_each(|s| check(root, s, value)).map(|()| true);
        }
        "$ref" => {
            let pointer = &wanted.as_str().unwrap()[1..];
            return check(root, root.pointer(pointer).expect("a target"), value).map(|()| true);
        }
        "minimum" => value.as_f64().is_none_or(|n| n >= number()),
        "maximum" => value.as_f64().is_none_or(|n| n <= number()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|n| n > number()),
        "exclusiveMaximum" => value.as_f64().is_none_or(|n| n < number()),
        "multipleOf" => value.as_f64().is_none_or(|n| {
            let times = n / number();
            (times - times.round()).abs() < 1e-6 * times.abs().max(1.0)
        }),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= count()),
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= count()),
        "pattern" => value.as_str().is_none_or(|text| found(wanted, text)),
        "format" => value.as_str().is_none_or(|text| has_format(wanted.as_str().unwrap(), text)),
        "minItems" => value.as_array().is_none_or(|items| items.len() >= count()),
        "maxItems" => value.as_array().is_none_or(|items| items.len() <= count()),
        "minProperties" => value.as_object().is_none_or(|object| object.len() >= count()),
        "maxProperties" => value.as_object().is_none_or(|object| object.len() <= count()),
        "required" => value.as_object().is_none_or(|object| {
            each(wanted).iter().all(|name| object.contains_key(name.as_str().unwrap()))
        }),
        "prefixItems" | "items" => return items(root, schema, keyword, wanted, value),
        "properties" | "patternProperties" | "additionalProperties" => {
            return properties(root, schema, keyword, wanted, value);
        }
        "$defs" | "title" | "description" | "nullable" => true,
        _ => return Err(format!("{keyword} is not checked")),
    })
}

fn items(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    wanted: &Value,
    value: &Value,
) -> Result<bool, String> {
    let Some(items) = value.as_array() else { return Ok(true) };
    let prefix = schema.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
    if keyword == "prefixItems" {
        let wanted = wanted.as_array().expect("a list");
        return wanted.iter().zip(items).try_for_each(|(s, v)| check(root, s, v)).map(|()| true);
    }
    items.iter().skip(prefix).try_for_each(|item| check(root, wanted, item)).map(|()| true)
}

fn properties(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    wanted: &Value,
    value: &Value,
) -> Result<bool, String> {
    let Some(object) = value.as_object() else { return Ok(true) };
    let named = schema.get("properties").and_then(Value::as_object);
    let patterns = schema.get("patternProperties").and_then(Value::as_object);
    for (name, value) in object {
        let in_named = named.is_some_and(|named| named.contains_key(name));
        let in_patterns =
            patterns.is_some_and(|p| p.keys().any(|p| found(&Value::from(p.as_str()), name)));
        match keyword {
            "properties" if in_named => check(root, &wanted[name.as_str()], value)?,
            "patternProperties" => {
                for (pattern, schema) in wanted.as_object().expect("an object") {
                    if found(&Value::from(pattern.as_str()), name) {
                        check(root, schema, value)?;
                    }
                }
            }
            "additionalProperties" if !in_named && !in_patterns => check(root, wanted, value)?,
            _ => {}
        }
    }
    Ok(true)
}

fn has_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => false,
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn found(pattern: &Value, text: &str) -> bool {
    Regex::new(pattern.as_str().expect("a pattern")).expect("a pattern").is_match(text)
}

fn has_format(name: &str, text: &str) -> bool {
    let whole = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text);
    match name {
        "date" => whole(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"),
        "time" => whole(r"([01]\d|2[0-3]):[0-5]\d:[0-6]\d(\.\d+)?([zZ]|[+-][0-2]\d:[0-5]\d)"),
        "date-time" => match text.split_once(['T', 't']) {
            Some((date, time)) => has_format("date", date) && has_format("time", time),
            None => false,
        },
        "email" => whole(r"[^@\s]+@[^@\s]+"),
        "uuid" => whole(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "hostname" => whole(r"[A-Za-z0-9][A-Za-z0-9.-]*"),
        "duration" => whole(r"P[0-9YMWDTHS]+"),
        "uri" => whole(r"[a-zA-Z][a-zA-Z0-9+.-]*:.*"),
        _ => false,
    }
}
