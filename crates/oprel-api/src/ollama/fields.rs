//! A JSON object read field by field. Keys match whatever their case; null is as if it were not
//! there; what nobody took is known in the end.

use serde_json::{Map, Value};

use crate::{ErrorKind, Failure};

/// The fields of an object that are not taken yet.
pub(super) struct Fields {
    /// Where the object stands, with what comes between that and a key: `messages[0].`.
    path: String,
    entries: Vec<(String, Value)>,
}

/// A request that is wrong.
pub(super) fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Validation, message)
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Fields {
    /// The fields of a body, whatever its content type says.
    pub(super) fn of_body(body: &[u8]) -> Result<Fields, Failure> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(wrong("missing request body"));
        }
        let value: Value = serde_json::from_slice(body)
            .map_err(|why| wrong(format!("the body is not JSON: {why}")))?;
        match value {
            Value::Object(object) => Ok(Fields::of("", object)),
            Value::Null => Ok(Fields::of("", Map::new())),
            other => Err(wrong(format!("the body must be an object, not {}", kind(&other)))),
        }
    }

    /// The fields of the object at a path.
    pub(super) fn at(path: &str, value: Value) -> Result<Fields, Failure> {
        match value {
            Value::Object(object) => Ok(Fields::of(&format!("{path}."), object)),
            other => Err(wrong(format!("{path} must be an object, not {}", kind(&other)))),
        }
    }

    fn of(path: &str, object: Map<String, Value>) -> Fields {
        Fields { path: path.to_owned(), entries: object.into_iter().collect() }
    }

    /// The name of a field, as a user finds it.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The names of all fields that say something.
    pub(super) fn said(&self) -> Vec<String> {
        let saying = self.entries.iter().filter(|(_, value)| !value.is_null());
        saying.map(|(key, _)| self.name(key)).collect()
    }

    /// A field's value. Of several that differ in case alone, the last counts.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        let mut found = None;
        for (_, value) in self.entries.extract_if(.., |(k, _)| k.eq_ignore_ascii_case(key)) {
            if !value.is_null() {
                found = Some(value);
            }
        }
        found
    }

    /// A text.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.not("a string", key, &other)),
        }
    }

    /// A text that says something.
    pub(super) fn filled(&mut self, key: &str) -> Result<Option<String>, Failure> {
        Ok(self.text(key)?.filter(|text| !text.is_empty()))
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.not("a boolean", key, &other)),
        }
    }

    /// A whole number.
    pub(super) fn whole(&mut self, key: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match whole(&value) {
            Some(n) => Ok(Some(n)),
            None => Err(self.not("a whole number", key, &value)),
        }
    }

    /// A list; empty if it is not there.
    pub(super) fn list(&mut self, key: &str) -> Result<Vec<Value>, Failure> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(self.not("a list", key, &other)),
        }
    }

    /// A list of texts; empty if it is not there.
    pub(super) fn texts(&mut self, key: &str) -> Result<Vec<String>, Failure> {
        let list = self.list(key)?.into_iter().enumerate();
        list.map(|(at, value)| match value {
            Value::String(text) => Ok(text),
            other => Err(self.not("a string", &format!("{key}[{at}]"), &other)),
        })
        .collect()
    }

    /// What nobody took.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.entries.into_iter().collect()
    }

    /// The names of what nobody took.
    pub(super) fn ignored(self) -> Vec<String> {
        self.entries.iter().map(|(key, _)| self.name(key)).collect()
    }

    fn not(&self, expected: &str, key: &str, value: &Value) -> Failure {
        let given = match value {
            Value::Number(n) => n.to_string(),
            other => kind(other).to_owned(),
        };
        wrong(format!("{} must be {expected}, not {given}", self.name(key)))
    }
}

/// A number without a fraction.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let of_float = || value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9e18);
    value.as_i64().or_else(|| of_float().map(|x| x as i64))
}

#[cfg(test)]
mod tests;
