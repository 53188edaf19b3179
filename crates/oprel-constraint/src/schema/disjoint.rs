//! Whether schemas exclude each other, so that `oneOf` means `anyOf`.

use serde_json::{Map, Value};

/// How many references and properties are followed to tell.
const MOST_STEPS: usize = 8;

/// Most pairs of branches that are compared.
const MOST_BRANCHES: usize = 256;

/// Tells by types, constants, and required properties that have them. What it cannot tell, it
/// takes to overlap.
pub(super) struct Disjoint<'a> {
    root: &'a Value,
}

impl<'a> Disjoint<'a> {
    pub(super) fn new(root: &'a Value) -> Disjoint<'a> {
        Disjoint { root }
    }

    /// Two branches that may both fit a value.
    pub(super) fn overlap(&self, branches: &'a [Value]) -> Option<(usize, usize)> {
        if branches.len() > MOST_BRANCHES {
            return Some((0, 1));
        }
        let pairs = (0..branches.len()).flat_map(|i| (i + 1..branches.len()).map(move |j| (i, j)));
        let mut pairs = pairs;
        pairs.find(|&(i, j)| !self.exclude(&branches[i], &branches[j], MOST_STEPS))
    }

    fn exclude(&self, a: &'a Value, b: &'a Value, steps: usize) -> bool {
        let Some(steps) = steps.checked_sub(1) else { return false };
        let (Some(a), Some(b)) = (self.resolve(a), self.resolve(b)) else { return false };
        if a == &Value::Bool(false) || b == &Value::Bool(false) {
            return true;
        }
        let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
        types_exclude(a, b)
            || constants_exclude(a, b)
            || self.properties_exclude(a, b, steps)
            || self.parts_exclude(a, b, steps)
            || self.parts_exclude(b, a, steps)
    }

    /// The schema behind a reference.
    fn resolve(&self, mut schema: &'a Value) -> Option<&'a Value> {
        for _ in 0..MOST_STEPS {
            match schema.get("$ref").and_then(Value::as_str) {
                Some(reference) => schema = self.root.pointer(reference.strip_prefix('#')?)?,
                None => return Some(schema),
            }
        }
        None
    }

    /// Both are objects, and a property that one of them requires cannot fit the other.
    fn properties_exclude(
        &self,
        a: &'a Map<String, Value>,
        b: &'a Map<String, Value>,
        steps: usize,
    ) -> bool {
        if !only_objects(a) || !only_objects(b) {
            return false;
        }
        required(a).chain(required(b)).any(|name| {
            let (in_a, in_b) = (property(a, name), property(b, name));
            match (in_a, in_b) {
                (Some(in_a), Some(in_b)) => self.exclude(in_a, in_b, steps),
                (None, Some(_)) => is_closed(a),
                (Some(_), None) => is_closed(b),
                (None, None) => false,
            }
        })
    }

    /// Every branch of `a`'s alternatives excludes `b`, or some part of all its parts does.
    fn parts_exclude(
        &self,
        a: &'a Map<String, Value>,
        b: &'a Map<String, Value>,
        steps: usize,
    ) -> bool {
        let list = |key: &str| a.get(key).and_then(Value::as_array);
        let exclude = |part: &'a Value| match self.resolve(part).and_then(Value::as_object) {
            Some(part) => {
                types_exclude(part, b)
                    || constants_exclude(part, b)
                    || steps.checked_sub(1).is_some_and(|s| self.properties_exclude(part, b, s))
            }
            None => false,
        };
        ["anyOf", "oneOf"].iter().filter_map(|key| list(key)).any(|l| l.iter().all(exclude))
            || list("allOf").is_some_and(|l| l.iter().any(exclude))
    }
}

/// The types that a schema names, integers as numbers; all where it names none.
fn types(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    let number = |name| if name == "integer" { "number" } else { name };
    match schema.get("type")? {
        Value::String(name) => Some(vec![number(name)]),
        Value::Array(names) => names.iter().map(|n| n.as_str().map(number)).collect(),
        _ => None,
    }
}

fn types_exclude(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    match (types(a), types(b)) {
        (Some(a), Some(b)) => a.iter().all(|name| !b.contains(name)),
        _ => false,
    }
}

/// The values that a schema names.
fn constants(schema: &Map<String, Value>) -> Option<&[Value]> {
    match schema.get("const") {
        Some(value) => Some(std::slice::from_ref(value)),
        None => schema.get("enum")?.as_array().map(Vec::as_slice),
    }
}

fn constants_exclude(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    match (constants(a), constants(b)) {
        (Some(a), Some(b)) => a.iter().all(|x| !b.iter().any(|y| same(x, y))),
        (Some(values), None) => values.iter().all(|value| !has_type_of(b, value)),
        (None, Some(values)) => values.iter().all(|value| !has_type_of(a, value)),
        (None, None) => false,
    }
}

/// Whether two values are one to JSON Schema, in which 1 is 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        // What is nested may hold such numbers too.
        _ => a == b || (a.is_object() && b.is_object()) || (a.is_array() && b.is_array()),
    }
}

fn has_type_of(schema: &Map<String, Value>, value: &Value) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    types(schema).is_none_or(|types| types.contains(&name))
}

fn only_objects(schema: &Map<String, Value>) -> bool {
    types(schema).is_some_and(|types| types == ["object"])
}

fn required(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn property<'a>(schema: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

/// Whether an object has no other properties than those it names.
fn is_closed(schema: &Map<String, Value>) -> bool {
    schema.get("additionalProperties") == Some(&Value::Bool(false))
        && !schema.contains_key("patternProperties")
}
