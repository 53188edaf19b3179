//! A request's body while it is read: each field is taken by its name, and what nobody took is
//! told.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Number, Value};

use crate::{Cause, ErrorKind, Failure};

/// The fields of a JSON object that nobody took yet. A field that is `null` is not there.
pub(crate) struct Fields {
    /// What its fields' names begin with in messages: empty, or `outer.`.
    prefix: String,
    map: Map<String, Value>,
}

/// A request is wrong, for this reason.
pub(crate) fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Validation, message)
}

/// A field asks for what is not done here.
pub(crate) fn unsupported(field: &str) -> Failure {
    wrong(format!("{field} is not supported")).because(Cause::Unsupported(field.to_string()))
}

/// Names a field that stands in many places once.
pub(crate) fn once(ignored: &mut Vec<String>, name: String) {
    if !ignored.contains(&name) {
        ignored.push(name);
    }
}

impl Fields {
    /// Reads a body, whatever the type of its content was said to be.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, Failure> {
        if body.trim_ascii().is_empty() {
            return Err(wrong("missing request body"));
        }
        let value = serde_json::from_slice(body)
            .map_err(|error| wrong(format!("the request body is not JSON: {error}")))?;
        match value {
            Value::Object(map) => Ok(Fields::of(map, String::new())),
            _ => Err(wrong("the request body must be a JSON object")),
        }
    }

    /// The object that stands at `path`.
    pub(crate) fn within(value: Value, path: &str) -> Result<Fields, Failure> {
        match value {
            Value::Object(map) => Ok(Fields::of(map, format!("{path}."))),
            _ => Err(wrong(format!("{path} must be an object"))),
        }
    }

    fn of(mut map: Map<String, Value>, prefix: String) -> Fields {
        map.retain(|_, value| !value.is_null());
        Fields { prefix, map }
    }

    /// The name of a field as a user finds it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The field, as it is.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.map.shift_remove(name)
    }

    /// The field, read as a `T`.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match T::deserialize(whole(value)) {
            Ok(read) => Ok(Some(read)),
            Err(error) => Err(wrong(format!("{}: {error}", self.path(name)))),
        }
    }

    /// The field, read as a `T`; it must be there.
    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        self.take(name)?.ok_or_else(|| wrong(format!("{} is required", self.path(name))))
    }

    /// The field's own fields.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>, Failure> {
        let path = self.path(name);
        self.value(name).map(|value| Fields::within(value, &path)).transpose()
    }

    /// Refuses a field that would change the answer and cannot be honoured. One that is `false` or
    /// empty asks for nothing.
    pub(crate) fn refuse(&mut self, name: &str) -> Result<(), Failure> {
        match self.value(name) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Array(list)) if list.is_empty() => Ok(()),
            Some(_) => Err(unsupported(&self.path(name))),
        }
    }

    /// Puts fields of `other` beside those here; what is here stays.
    pub(crate) fn fill(&mut self, other: &mut Fields, names: &[&str]) {
        for &name in names {
            if let Some(value) = other.value(name) {
                self.map.entry(name).or_insert(value);
            }
        }
    }

    /// The fields that nobody took, by their own names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// The names of fields that nobody took, as a user finds them.
    pub(crate) fn left(self) -> Vec<String> {
        self.map.keys().map(|name| self.path(name)).collect()
    }
}

/// A text or a list of texts.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Vec<String> {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

/// `40.0` is a count to clients whose language has one kind of number.
fn whole(value: Value) -> Value {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => {
            Value::Number(Number::from(float as i64))
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        let why = |body: &str| Fields::parse(body.as_bytes()).err().expect("accepted").message;
        assert_eq!(why(" \n"), "missing request body");
        assert_eq!(why("[]"), "the request body must be a JSON object");
        assert!(why("{\"a\":").starts_with("the request body is not JSON: EOF"));
        assert!(why(&"[".repeat(5000)).contains("recursion limit"));
    }

    #[test]
    fn what_nobody_took_is_told_and_null_is_not_there() {
        let mut fields = fields(r#"{"a": 1, "b": null, "c": {"d": 2, "e": 3}, "f": "x"}"#);
        assert_eq!(fields.take::<u32>("a").unwrap(), Some(1));
        let mut inner = fields.object("c").unwrap().unwrap();
        assert_eq!(inner.need::<f32>("d").unwrap(), 2.0);
        assert_eq!(inner.left(), ["c.e"]);
        assert_eq!(fields.left(), ["f"]);
    }

    #[test]
    fn a_wrong_type_is_refused_by_the_name_of_its_field() {
        let mut fields = fields(r#"{"a": "x", "c": {}, "n": 40.0}"#);
        let failure = fields.take::<u32>("a").unwrap_err();
        assert_eq!(failure.message, "a: invalid type: string \"x\", expected u32");
        let mut inner = fields.object("c").unwrap().unwrap();
        assert_eq!(inner.need::<u32>("d").unwrap_err().message, "c.d is required");
        assert_eq!(fields.take::<u32>("n").unwrap(), Some(40));
    }

    #[test]
    fn a_field_that_cannot_be_honoured_may_ask_for_nothing() {
        let mut fields = fields(r#"{"a": false, "b": [], "c": 1}"#);
        assert_eq!((fields.refuse("a"), fields.refuse("b")), (Ok(()), Ok(())));
        assert_eq!(fields.refuse("c").unwrap_err().message, "c is not supported");
    }
}
