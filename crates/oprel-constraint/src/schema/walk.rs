//! Visits every schema that can matter to a text, and refuses what is not kept.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::disjoint::Disjoint;
use super::{FORMATS, KEPT, REFUSED, REFUSED_FORMATS};
use crate::compile::MOST_LEVELS;
use crate::{Error, Result, regex};

/// Most schemas that references name; each may be a level of the compiler's stack.
const MOST_REFERENCES: usize = 1000;

/// Most properties of one object that may be missing.
const MOST_OPTIONAL: usize = 400;

/// Most patterns of names; each is compared with every other.
const MOST_NAME_PATTERNS: usize = 200;

/// Largest count of items, characters or properties that a schema may name.
const MOST_COUNT: u64 = 100_000;

/// A change to the schema at a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Remove(&'static str),
    /// Its branches exclude each other.
    OneOfToAnyOf,
}

/// A schema to visit.
struct Place<'a> {
    schema: &'a Value,
    pointer: String,
    depth: usize,
    /// The reference as whose target it applies to the same value, empty for the root.
    from: Option<String>,
}

pub(super) struct Walk<'a> {
    root: &'a Value,
    pending: Vec<Place<'a>>,
    seen: HashSet<String>,
    /// Which references apply to the same value as the target of another.
    in_place: HashMap<String, Vec<String>>,
    edits: Vec<(String, Edit)>,
    n_name_patterns: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Value) -> Walk<'a> {
        let start =
            Place { schema: root, pointer: String::new(), depth: 0, from: Some(String::new()) };
        Walk {
            root,
            pending: vec![start],
            seen: HashSet::from([String::new()]),
            in_place: HashMap::new(),
            edits: Vec::new(),
            n_name_patterns: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<Vec<(String, Edit)>> {
        while let Some(place) = self.pending.pop() {
            self.visit(&place)?;
        }
        match cycle(&self.in_place) {
            Some(pointer) => Err(Error::Schema {
                pointer,
                reason: "the schema refers to itself without anything between".into(),
            }),
            None => Ok(self.edits),
        }
    }

    fn visit(&mut self, place: &Place<'a>) -> Result<()> {
        too_many(place.depth, "levels", MOST_LEVELS)?;
        let object = match place.schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(object) => object,
            _ => return Err(wrong(&place.pointer, "a schema is an object or a boolean")),
        };
        self.drop_option(place, object, "x-guidance");
        for (keyword, value) in object {
            let keyword = keyword.as_str();
            if let Some(&keyword) = REFUSED.iter().find(|k| **k == keyword) {
                self.refuse(place, keyword, value)?;
            } else if KEPT.contains(&keyword) {
                self.keyword(place, object, keyword, value)?;
            }
        }
        Ok(())
    }

    /// llguidance takes options from this key; they are not the schema's to set.
    fn drop_option(&mut self, place: &Place<'a>, object: &Map<String, Value>, key: &'static str) {
        if object.contains_key(key) {
            self.edits.push((place.pointer.clone(), Edit::Remove(key)));
        }
    }

    /// Refuses a keyword, unless with this value it says nothing.
    fn refuse(&mut self, place: &Place<'a>, keyword: &'static str, value: &Value) -> Result<()> {
        let idle = match keyword {
            "uniqueItems" => value == &Value::Bool(false),
            "unevaluatedItems" | "unevaluatedProperties" | "propertyNames" => {
                value == &Value::Bool(true) || value.as_object().is_some_and(Map::is_empty)
            }
            "dependentRequired" | "dependentSchemas" | "dependencies" => {
                value.as_object().is_some_and(Map::is_empty)
            }
            _ => false,
        };
        if idle {
            self.edits.push((place.pointer.clone(), Edit::Remove(keyword)));
            return Ok(());
        }
        Err(lacking(place, keyword, "texts are not checked for it; leave it out".into()))
    }

    fn keyword(
        &mut self,
        place: &Place<'a>,
        object: &'a Map<String, Value>,
        keyword: &str,
        value: &'a Value,
    ) -> Result<()> {
        match keyword {
            "$ref" => self.reference(place, value),
            "allOf" | "anyOf" => self.each(place, keyword, value, true),
            "oneOf" => self.one_of(place, value),
            "prefixItems" => self.each(place, keyword, value, false),
            "items" if value.is_array() => self.each(place, keyword, value, false),
            "items" | "additionalItems" | "additionalProperties" => {
                self.push(place, value, &[keyword], false);
                Ok(())
            }
            "properties" => {
                check_optional(object, value)?;
                self.named(place, keyword, value)
            }
            "patternProperties" => {
                for pattern in value.as_object().into_iter().flat_map(Map::keys) {
                    check_pattern(place, &[keyword, pattern], pattern)?;
                    self.n_name_patterns += 1;
                }
                too_many(self.n_name_patterns, "patterns of names", MOST_NAME_PATTERNS)?;
                self.named(place, keyword, value)
            }
            "pattern" => match value.as_str() {
                Some(pattern) => check_pattern(place, &[keyword], pattern),
                None => Err(wrong(&child(place, &[keyword]), "a pattern is a string")),
            },
            "format" => self.format(place, object, value),
            "minProperties" | "maxProperties" => {
                count(place, keyword, value)?;
                check_counted(place, object, keyword)
            }
            "minItems" | "maxItems" | "minLength" | "maxLength" => count(place, keyword, value),
            _ => Ok(()),
        }
    }

    fn push(&mut self, place: &Place<'a>, schema: &'a Value, path: &[&str], in_place: bool) {
        let from = place.from.clone().filter(|_| in_place);
        let pointer = child(place, path);
        self.pending.push(Place { schema, pointer, depth: place.depth + 1, from });
    }

    fn each(
        &mut self,
        place: &Place<'a>,
        keyword: &str,
        value: &'a Value,
        here: bool,
    ) -> Result<()> {
        let Some(schemas) = value.as_array() else {
            return Err(wrong(&child(place, &[keyword]), "a list of schemas is expected"));
        };
        for (i, schema) in schemas.iter().enumerate() {
            self.push(place, schema, &[keyword, &i.to_string()], here);
        }
        Ok(())
    }

    fn named(&mut self, place: &Place<'a>, keyword: &str, value: &'a Value) -> Result<()> {
        let Some(schemas) = value.as_object() else {
            return Err(wrong(&child(place, &[keyword]), "an object of schemas is expected"));
        };
        for (name, schema) in schemas {
            self.push(place, schema, &[keyword, name], false);
        }
        Ok(())
    }

    fn one_of(&mut self, place: &Place<'a>, value: &'a Value) -> Result<()> {
        self.each(place, "oneOf", value, true)?;
        let branches = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let overlapping = Disjoint::new(self.root).overlap(branches);
        if let Some((first, second)) = overlapping {
            let reason = format!(
                "branches {first} and {second} are not seen to exclude each other; write `anyOf`, \
                 or give each a required property with its own constant"
            );
            return Err(lacking(place, "oneOf", reason));
        }
        self.edits.push((place.pointer.clone(), Edit::OneOfToAnyOf));
        Ok(())
    }

    fn reference(&mut self, place: &Place<'a>, value: &'a Value) -> Result<()> {
        let Some(reference) = value.as_str() else {
            return Err(wrong(&child(place, &["$ref"]), "a reference is a string"));
        };
        let inside = reference == "#" || reference.starts_with("#/");
        if !inside || reference == "#/" || reference.contains(['~', '%']) {
            let reason = format!(
                "`{reference}` is not of the form `#/$defs/name`, with a name without ~ and %"
            );
            return Err(lacking(place, "$ref", reason));
        }
        let target = &reference[1..];
        let Some(schema) = self.root.pointer(target) else {
            return Err(wrong(&child(place, &["$ref"]), &format!("nothing is at `{reference}`")));
        };
        if let Some(from) = &place.from {
            self.in_place.entry(from.clone()).or_default().push(target.to_owned());
        }
        if !self.seen.insert(target.to_owned()) {
            return Ok(());
        }
        too_many(self.seen.len(), "references", MOST_REFERENCES)?;
        let from = Some(target.to_owned());
        self.pending.push(Place { schema, pointer: target.to_owned(), depth: 0, from });
        Ok(())
    }

    fn format(
        &mut self,
        place: &Place<'a>,
        object: &Map<String, Value>,
        value: &Value,
    ) -> Result<()> {
        let Some(name) = value.as_str() else {
            return Err(wrong(&child(place, &["format"]), "a format is a string"));
        };
        let of_strings = match object.get("type") {
            None => true,
            Some(Value::Array(types)) => types.iter().any(|t| t == "string"),
            Some(one) => one == "string",
        };
        if FORMATS.contains(&name) {
            return Ok(());
        }
        if of_strings && REFUSED_FORMATS.contains(&name) {
            let reason = format!("the format `{name}` is not known; write a `pattern`");
            return Err(lacking(place, "format", reason));
        }
        self.edits.push((place.pointer.clone(), Edit::Remove("format")));
        Ok(())
    }
}

fn too_many(found: usize, unit: &'static str, most: usize) -> Result<()> {
    if found > most {
        return Err(Error::TooLarge { what: "JSON Schema", found, unit, most });
    }
    Ok(())
}

fn check_optional(object: &Map<String, Value>, properties: &Value) -> Result<()> {
    let n_required = object.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    let n_properties = properties.as_object().map_or(0, Map::len);
    let found = n_properties.saturating_sub(n_required);
    too_many(found, "properties in one object that are not required", MOST_OPTIONAL)
}

/// Refuses to count properties where llguidance cannot, which knows the order of those with a name.
fn check_counted(place: &Place<'_>, object: &Map<String, Value>, keyword: &str) -> Result<()> {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    let required: HashSet<&str> = object
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let named = object.get("properties").and_then(Value::as_object);
    let n_optional =
        named.map_or(0, |p| p.keys().filter(|k| !required.contains(k.as_str())).count());
    let n_required = required.len() as u64;
    let least = number("minProperties").unwrap_or(0).saturating_sub(n_required);
    let most = number("maxProperties").map(|most| most.saturating_sub(n_required));
    let closed = object.get("additionalProperties") == Some(&Value::Bool(false));
    let alone = closed && !object.contains_key("patternProperties");
    let one = alone && least <= 1 && most.is_none_or(|most| most == 1);
    if n_optional == 0 || (least == 0 && most.is_none()) || one {
        return Ok(());
    }
    Err(lacking(place, keyword, super::COUNTED_WHERE_REQUIRED.into()))
}

fn count(place: &Place<'_>, keyword: &str, value: &Value) -> Result<()> {
    let count = value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0)?;
        Some(number as u64)
    });
    let Some(count) = count else {
        return Err(wrong(&child(place, &[keyword]), "a count is a whole number from 0"));
    };
    // A bound above that no answer reaches says nothing, but it would be counted to all the same.
    if count > MOST_COUNT {
        let reason = format!("{count} is more than {MOST_COUNT}");
        return Err(lacking(place, keyword, reason));
    }
    Ok(())
}

fn check_pattern(place: &Place<'_>, path: &[&str], pattern: &str) -> Result<()> {
    regex::searched(pattern).map_err(|error| match error {
        Error::Regex { position, reason, .. } => {
            Error::Regex { position, pointer: Some(child(place, path)), reason }
        }
        other => other,
    })
}

/// A reference from which in-place references lead back to it.
fn cycle(edges: &HashMap<String, Vec<String>>) -> Option<String> {
    let mut done: HashSet<&str> = HashSet::new();
    for start in edges.keys() {
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((node, next)) = path.last_mut() {
            let target = edges.get(*node).and_then(|targets| targets.get(*next));
            *next += 1;
            match target {
                Some(target) if path.iter().any(|(node, _)| node == target) => {
                    return Some(target.clone());
                }
                Some(target) if !done.contains(target.as_str()) => path.push((target, 0)),
                Some(_) => {}
                None => {
                    done.extend(path.pop().map(|(node, _)| node));
                }
            }
        }
    }
    None
}

fn child(place: &Place<'_>, path: &[&str]) -> String {
    let mut pointer = place.pointer.clone();
    for name in path {
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

fn lacking(place: &Place<'_>, keyword: &str, reason: String) -> Error {
    Error::Keyword { keyword: keyword.into(), pointer: place.pointer.clone(), reason }
}

fn wrong(pointer: &str, reason: &str) -> Error {
    Error::Schema { pointer: pointer.into(), reason: reason.into() }
}
