//! JSON Schema over values. Only schemas that [`crate::schema::check`] let pass come here: what is not
//! looked at below says nothing or was refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use regex::Regex;
use serde_json::{Map, Value};

/// Deepest value that is looked into, references that lead to others included.
const MOST_LEVELS: usize = 512;

type Fits = Result<(), String>;

/// Whether `value` fits the schema `root`.
pub(super) fn fits(root: &Value, value: &Value) -> Fits {
    let compiled = Patterns::default();
    Place { root, compiled: &compiled, path: "$".into(), level: 0 }.check(root, value)
}

/// Expressions that were compiled for this value, so that a long list needs each but once.
#[derive(Default)]
struct Patterns(RefCell<HashMap<String, Option<Regex>>>);

impl Patterns {
    /// Whether the expression matches somewhere; one that cannot be compiled never does.
    fn matches(&self, expression: &str, text: &str) -> bool {
        let mut known = self.0.borrow_mut();
        if let Some(compiled) = known.get(expression) {
            return compiled.as_ref().is_some_and(|e| e.is_match(text));
        }
        let compiled = super::compile(expression).ok();
        let is_match = compiled.as_ref().is_some_and(|e| e.is_match(text));
        known.insert(expression.to_owned(), compiled);
        is_match
    }
}

/// Where in a value a check is.
struct Place<'a> {
    root: &'a Value,
    compiled: &'a Patterns,
    path: String,
    level: usize,
}

impl Place<'_> {
    fn below(&self, step: &str) -> Place<'_> {
        let path = format!("{}{step}", self.path);
        Place { root: self.root, compiled: self.compiled, path, level: self.level + 1 }
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Fits {
        Err(format!("{}: {what}", self.path))
    }

    fn check(&self, schema: &Value, value: &Value) -> Fits {
        if self.level > MOST_LEVELS {
            return self.wrong("it is nested too deeply");
        }
        let schema = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Object(schema) => schema,
            _ => return self.wrong("nothing may stand there"),
        };
        self.refer(schema, value)?;
        self.same(schema, value)?;
        self.combine(schema, value)?;
        match value {
            Value::Number(number) => self.number(schema, number),
            Value::String(text) => self.text(schema, text),
            Value::Array(items) => self.items(schema, items),
            Value::Object(object) => self.object(schema, object),
            _ => Ok(()),
        }
    }

    fn refer(&self, schema: &Map<String, Value>, value: &Value) -> Fits {
        let Some(pointer) = schema.get("$ref").and_then(Value::as_str) else { return Ok(()) };
        let target = pointer
            .strip_prefix('#')
            .map(unescaped)
            .and_then(|p| if p.is_empty() { Some(self.root) } else { self.root.pointer(&p) });
        match target {
            Some(target) => self.below("").check(target, value),
            None => self.wrong(format!("the schema {pointer:?} is not there")),
        }
    }

    fn same(&self, schema: &Map<String, Value>, value: &Value) -> Fits {
        let is = |kind: &Value| kind.as_str().is_some_and(|kind| is_of(kind, value));
        let fits = match schema.get("type") {
            None => true,
            Some(Value::Array(kinds)) => kinds.iter().any(is),
            Some(kind) => is(kind),
        };
        if !fits {
            return self.wrong(format!("it is not of type {}", schema["type"]));
        }
        match schema.get("enum") {
            Some(Value::Array(all)) if !all.iter().any(|one| equal(one, value)) => {
                return self.wrong("it is none of the values allowed");
            }
            _ => {}
        }
        match schema.get("const") {
            Some(one) if !equal(one, value) => self.wrong(format!("it is not {one}")),
            _ => Ok(()),
        }
    }

    fn combine(&self, schema: &Map<String, Value>, value: &Value) -> Fits {
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        let passes = |branch: &&Value| self.below("").check(branch, value).is_ok();
        for branch in list("allOf").into_iter().flatten() {
            self.below("").check(branch, value)?;
        }
        if list("anyOf").is_some_and(|any| !any.iter().any(|branch| passes(&branch))) {
            return self.wrong("it fits nothing of `anyOf`");
        }
        match list("oneOf").map(|one| one.iter().filter(passes).count()) {
            None | Some(1) => Ok(()),
            Some(n) => self.wrong(format!("it fits {n} of `oneOf`")),
        }
    }

    fn number(&self, schema: &Map<String, Value>, number: &serde_json::Number) -> Fits {
        let Some(x) = number.as_f64() else { return self.wrong("it is no number") };
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let below = |key: &str, y: f64| self.wrong(format!("it breaks `{key}` {y}"));
        // Bounds of draft 4 are exclusive by a flag beside them.
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        match bound("minimum") {
            Some(y) if x < y || (x == y && flag("exclusiveMinimum")) => return below("minimum", y),
            _ => {}
        }
        match bound("maximum") {
            Some(y) if x > y || (x == y && flag("exclusiveMaximum")) => return below("maximum", y),
            _ => {}
        }
        match bound("exclusiveMinimum") {
            Some(y) if x <= y => return below("exclusiveMinimum", y),
            _ => {}
        }
        match bound("exclusiveMaximum") {
            Some(y) if x >= y => return below("exclusiveMaximum", y),
            _ => {}
        }
        match bound("multipleOf") {
            Some(y) if y > 0.0 && !is_multiple(x, y) => below("multipleOf", y),
            _ => Ok(()),
        }
    }

    fn text(&self, schema: &Map<String, Value>, text: &str) -> Fits {
        self.counted(schema, text.chars().count(), "minLength", "maxLength", "characters")?;
        let pattern = schema.get("pattern").and_then(Value::as_str);
        if let Some(pattern) = pattern.filter(|pattern| !self.compiled.matches(pattern, text)) {
            return self.wrong(format!("it does not match {pattern:?}"));
        }
        match schema.get("format").and_then(Value::as_str) {
            Some(format) if !self.is_format(format, text) => {
                self.wrong(format!("it is no {format}"))
            }
            _ => Ok(()),
        }
    }

    fn items(&self, schema: &Map<String, Value>, items: &[Value]) -> Fits {
        self.counted(schema, items.len(), "minItems", "maxItems", "items")?;
        let listed = ["prefixItems", "items"].map(|key| schema.get(key).and_then(Value::as_array));
        let first = listed.into_iter().flatten().next().map(Vec::as_slice).unwrap_or_default();
        let rest = match schema.get("items") {
            Some(Value::Array(_)) => schema.get("additionalItems"),
            other => other,
        };
        for (at, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(at).or(rest) {
                self.below(&format!("[{at}]")).check(schema, item)?;
            }
        }
        Ok(())
    }

    fn object(&self, schema: &Map<String, Value>, object: &Map<String, Value>) -> Fits {
        self.counted(schema, object.len(), "minProperties", "maxProperties", "properties")?;
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                return self.wrong(format!("`{name}` is missing"));
            }
        }
        let named = |key: &str| schema.get(key).and_then(Value::as_object);
        for (name, value) in object {
            let place = self.below(&format!(".{name}"));
            let mut known = false;
            if let Some(schema) = named("properties").and_then(|all| all.get(name)) {
                place.check(schema, value)?;
                known = true;
            }
            for (pattern, schema) in named("patternProperties").into_iter().flatten() {
                if self.compiled.matches(pattern, name) {
                    place.check(schema, value)?;
                    known = true;
                }
            }
            if let Some(schema) = schema.get("additionalProperties").filter(|_| !known) {
                place.check(schema, value)?;
            }
        }
        Ok(())
    }

    /// Formats whose texts can be told apart in short; others say what a text means, not what it looks like.
    fn is_format(&self, format: &str, text: &str) -> bool {
        const DATE: &str = r"\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])";
        const TIME: &str = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([zZ]|[+-]\d\d:\d\d)";
        let matches =
            |expression: String| self.compiled.matches(&format!("^(?:{expression})$"), text);
        match format {
            "date" => matches(DATE.into()),
            "time" => matches(TIME.into()),
            "date-time" => matches(format!("{DATE}[tT ]{TIME}")),
            "uuid" => matches(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}".into()),
            "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
            "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
            "email" => matches(r"[^@\s]+@[^@\s]+".into()),
            _ => true,
        }
    }

    fn counted(
        &self,
        schema: &Map<String, Value>,
        n: usize,
        least: &str,
        most: &str,
        unit: &str,
    ) -> Fits {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let n_as_number = n as f64;
        let fits = bound(least).is_none_or(|least| n_as_number >= least)
            && bound(most).is_none_or(|most| n_as_number <= most);
        if fits { Ok(()) } else { self.wrong(format!("it has {n} {unit}")) }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|x| x.fract() == 0.0),
        _ => false,
    }
}

/// Numbers are equal by their value, however they are written.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            let same = |(key, x): (&String, &Value)| y.get(key).is_some_and(|y| equal(x, y));
            x.len() == y.len() && x.iter().all(same)
        }
        _ => a == b,
    }
}

/// Up to what decimal fractions lose in binary.
fn is_multiple(x: f64, of: f64) -> bool {
    let ratio = x / of;
    (ratio - ratio.round()).abs() <= 1e-9 * ratio.abs().max(1.0)
}

/// A pointer out of a reference: `%` escapes of an address are read.
fn unescaped(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_fit_or_it_is_said_where_they_do_not() {
        let tree = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["n"]});
        let list = json!({"type": "array", "prefixItems": [{"const": 1.0}], "minItems": 1,
            "items": {"type": "string", "pattern": "^a", "maxLength": 2}});
        let either = json!({"oneOf": [{"type": "integer"}, {"type": "number", "multipleOf": 0.1}]});
        let named = json!({"patternProperties": {"^x": {"enum": [1, "one"]}},
            "additionalProperties": {"type": "boolean"}, "maxProperties": 2});
        let day = json!({"type": "string", "format": "date"});
        let referred = json!({"$defs": {"a b": {"type": "null"}}, "$ref": "#/$defs/a%20b"});
        let table = [
            (&tree, json!({"n": 2, "next": {"n": 1.0, "next": null}}), ""),
            (&tree, json!({"n": 2, "next": {"n": 0}}), "$.next: it fits nothing"),
            (&tree, json!({"n": 0}), "$.n: it breaks `minimum`"),
            (&tree, json!({"n": 1.5}), "$.n: it is not of type"),
            (&tree, json!([]), "$: it is not of type"),
            (&tree, json!({}), "$: `n` is missing"),
            (&list, json!([1, "ab", "a"]), ""),
            (&list, json!([1, "b"]), "$[1]: it does not match"),
            (&list, json!([1, "abc"]), "$[1]: it has 3 characters"),
            (&list, json!([2]), "$[0]: it is not 1.0"),
            (&list, json!([]), "$: it has 0 items"),
            (&either, json!(0.3), ""),
            (&either, json!(3), "$: it fits 2 of"),
            (&either, json!(0.35), "$: it fits 0 of"),
            (&named, json!({"xy": "one", "b": true}), ""),
            (&named, json!({"b": 1}), "$.b: it is not of type"),
            (&named, json!({"x": 2}), "$.x: it is none"),
            (&named, json!({"a": true, "b": true, "c": true}), "$: it has 3 properties"),
            (&day, json!("2026-01-31"), ""),
            (&day, json!("31.1.2026"), "$: it is no date"),
            (&referred, json!(null), ""),
            (&referred, json!(1), "$: it is not of type"),
        ];
        for (schema, value, wanted) in table {
            let said = fits(schema, &value).err().unwrap_or_default();
            let right = if wanted.is_empty() { said.is_empty() } else { said.contains(wanted) };
            assert!(right, "{value}: {said:?}");
        }
    }
}
