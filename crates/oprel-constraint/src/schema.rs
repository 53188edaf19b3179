//! JSON Schemas: which keywords are kept, and how a schema is prepared for llguidance.

mod disjoint;
mod walk;

use serde_json::{Map, Value};

use crate::compile::{MOST_BYTES, check_size, json_options};
use crate::{Error, Result};

use walk::{Edit, Walk};

/// Deepest nesting of a schema's JSON, whatever it means.
const MOST_JSON_LEVELS: usize = 128;

/// Keywords that are kept.
const KEPT: &[&str] = &[
    "$ref",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "required",
    "type",
];

/// Keywords with a meaning that is not kept.
const REFUSED: &[&str] = &[
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Where the number of properties is kept.
pub(crate) const COUNTED_WHERE_REQUIRED: &str = "properties are counted only where all that \
    `properties` names are required, or where one at least or at most may be given and no others";

/// Formats that are kept.
const FORMATS: &[&str] =
    &["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];

/// Formats that JSON Schema defines and that are not kept. Others are names that it ignores.
const REFUSED_FORMATS: &[&str] = &[
    "idn-email",
    "idn-hostname",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "uri-reference",
    "uri-template",
];

/// The schema as llguidance is given it.
///
/// # Errors
/// What is not kept, by keyword and JSON pointer; what is wrong; what is too large.
pub(crate) fn prepare(schema: &Value) -> Result<Value> {
    let edits = check(schema)?;
    let mut prepared = match schema {
        Value::Bool(true) => Value::Object(Map::new()),
        _ => schema.clone(),
    };
    for (pointer, edit) in edits {
        if let Some(Value::Object(at)) = prepared.pointer_mut(&pointer) {
            apply(at, edit);
        }
    }
    if let Value::Object(root) = &mut prepared {
        root.insert("x-guidance".into(), json_options());
    }
    Ok(prepared)
}

/// Checks a schema, and says what has to be changed where before llguidance reads it.
pub(crate) fn check(schema: &Value) -> Result<Vec<(String, Edit)>> {
    check_levels(schema, 0)?;
    check_size("JSON Schema", json_len(schema))?;
    if schema == &Value::Bool(false) {
        let reason = "no text fits the schema `false`".into();
        return Err(Error::Schema { pointer: String::new(), reason });
    }
    Walk::new(schema).run()
}

fn apply(at: &mut Map<String, Value>, edit: Edit) {
    match edit {
        Edit::Remove(keyword) => {
            at.shift_remove(keyword);
        }
        Edit::OneOfToAnyOf => {
            let Some(either) = at.shift_remove("oneOf") else { return };
            let any = Value::Object(Map::from_iter([("anyOf".to_owned(), either)]));
            match at.get_mut("allOf") {
                Some(Value::Array(all)) => all.push(any),
                _ => drop(at.insert("allOf".into(), Value::Array(vec![any]))),
            }
        }
    }
}

fn check_levels(value: &Value, depth: usize) -> Result<()> {
    if depth > MOST_JSON_LEVELS {
        let (found, most) = (depth, MOST_JSON_LEVELS);
        return Err(Error::TooLarge { what: "JSON Schema", found, unit: "levels", most });
    }
    match value {
        Value::Array(values) => values.iter().try_for_each(|v| check_levels(v, depth + 1)),
        Value::Object(map) => map.values().try_for_each(|v| check_levels(v, depth + 1)),
        _ => Ok(()),
    }
}

/// How many bytes a value takes as JSON; counting ends soon after the limit.
fn json_len(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            let full = self.0 > MOST_BYTES;
            if full { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // It fails at the limit alone, and the count says so.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests;
