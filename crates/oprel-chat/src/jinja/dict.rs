//! A dict: pairs in the order they were first set.

use super::ops;
use super::value::{Size, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Below so many pairs, looking at each is faster than hashing.
const SMALL: usize = 12;

/// Pairs in the order they were first set, found by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dict {
    pairs: Vec<(Value, Value)>,
    /// Places of string keys, once there are many pairs.
    places: HashMap<Arc<str>, usize>,
    size: Size,
}

impl Dict {
    /// What it costs to walk through it; never shrinks.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn get(&self, key: &Value) -> Option<&Value> {
        match key.as_str() {
            Some(text) => self.get_str(text),
            None => self.pairs.iter().find(|(k, _)| ops::equal(k, key)).map(|(_, v)| v),
        }
    }

    pub(super) fn get_str(&self, key: &str) -> Option<&Value> {
        self.place(key).map(|at| &self.pairs[at].1)
    }

    fn place(&self, key: &str) -> Option<usize> {
        if self.pairs.len() > SMALL {
            return self.places.get(key).copied();
        }
        self.pairs.iter().position(|(k, _)| k.as_str().is_some_and(|k| &**k == key))
    }

    /// Sets a key; one that is there keeps its place.
    pub(crate) fn set(&mut self, key: Value, value: Value) {
        self.size = self.size.around(key.size()).around(value.size());
        let place = match key.as_str() {
            Some(text) => self.place(text),
            None => self.pairs.iter().position(|(k, _)| ops::equal(k, &key)),
        };
        match place {
            Some(at) => self.pairs[at].1 = value,
            None => self.push(key, value),
        }
    }

    fn push(&mut self, key: Value, value: Value) {
        let at = self.pairs.len();
        if at == SMALL {
            let places = self.pairs.iter().enumerate();
            self.places =
                places.filter_map(|(at, (k, _))| Some((k.as_str()?.clone(), at))).collect();
        }
        if at >= SMALL
            && let Some(text) = key.as_str()
        {
            self.places.insert(text.clone(), at);
        }
        self.pairs.push((key, value));
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Value, &Value)> {
        self.pairs.iter().map(|(k, v)| (k, v))
    }

    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.pairs.iter().map(|(k, _)| k)
    }

    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.pairs.iter().map(|(_, v)| v)
    }

    /// Each pair as a tuple.
    pub(super) fn pairs(&self) -> Vec<Value> {
        self.iter().map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()])).collect()
    }
}

impl FromIterator<(Value, Value)> for Dict {
    fn from_iter<I: IntoIterator<Item = (Value, Value)>>(pairs: I) -> Dict {
        let mut dict = Dict::default();
        pairs.into_iter().for_each(|(key, value)| dict.set(key, value));
        dict
    }
}
