//! Typed access to the metadata of a file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::value::{Array, StrArray, Value};

/// The metadata of a model, in the order of the file, found by key in constant time.
///
/// The typed methods give `Ok(None)` for a key that is absent and an [`Error`] for a value of another kind:
/// integers of any width convert when they fit, `f64` and `f32` convert to each other, nothing else converts.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(Arc<str>, Value)>,
    index: HashMap<Arc<str>, usize>,
}

macro_rules! integer {
    ($($name:ident, $ty:ty, $names:ident, $variant:ident;)*) => {$(
        #[doc = concat!("The value of `key` as `", stringify!($ty), "`, from an integer of any width.")]
        pub fn $name(&self, key: &str) -> Result<Option<$ty>> {
            let Some(value) = self.get(key) else { return Ok(None) };
            let Some(n) = value.integer() else {
                return Err(wrong_type(key, concat!("an integer (", stringify!($ty), ")"), value));
            };
            <$ty>::try_from(n).map(Some).map_err(|_| out_of_range(key, stringify!($ty), n))
        }

        #[doc = concat!("The array at `key` as `", stringify!($ty), "`, from integers of any width.")]
        pub fn $names(&self, key: &str) -> Result<Option<Cow<'_, [$ty]>>> {
            let Some(value) = self.get(key) else { return Ok(None) };
            let expected = concat!("an array of integers (", stringify!($ty), ")");
            let Value::Array(array) = value else { return Err(wrong_type(key, expected, value)) };
            let fit = |n: i128| <$ty>::try_from(n).map_err(|_| out_of_range(key, stringify!($ty), n));
            #[allow(unreachable_patterns)] // the type that needs no conversion is named twice
            Ok(Some(match array {
                Array::$variant(a) => Cow::Borrowed(a),
                Array::U8(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                Array::I8(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                Array::U16(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                Array::I16(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                Array::U32(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                Array::I32(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                Array::U64(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                Array::I64(a) => a.iter().map(|n| fit((*n).into())).collect::<Result<_>>()?,
                _ => return Err(wrong_type(key, expected, value)),
            }))
        }
    )*};
}

impl Metadata {
    /// The value of `key`, whatever it is.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(*self.index.get(key)?).map(|(_, value)| value)
    }

    /// There is a value for `key`.
    pub fn contains(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    /// All entries in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + Clone + '_ {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry, or gives its value back if the key is taken.
    pub(crate) fn insert(&mut self, key: Arc<str>, value: Value) -> Option<Value> {
        if self.contains(&key) {
            return Some(value);
        }
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        None
    }

    integer! {
        u8, u8, u8s, U8;
        u16, u16, u16s, U16;
        u32, u32, u32s, U32;
        u64, u64, u64s, U64;
        i32, i32, i32s, I32;
        i64, i64, i64s, I64;
    }

    /// The value of `key` as `f32`; an `f64` is rounded.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) => Ok(Some(*v)),
            Some(Value::F64(v)) => Ok(Some(*v as f32)),
            Some(other) => Err(wrong_type(key, "a floating-point number (f32)", other)),
        }
    }

    /// The value of `key` as `f64`.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) => Ok(Some(f64::from(*v))),
            Some(Value::F64(v)) => Ok(Some(*v)),
            Some(other) => Err(wrong_type(key, "a floating-point number (f64)", other)),
        }
    }

    /// The value of `key` as a boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(other) => Err(wrong_type(key, "a boolean", other)),
        }
    }

    /// The value of `key` as a string.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Str(v)) => Ok(Some(v)),
            Some(other) => Err(wrong_type(key, "a string", other)),
        }
    }

    /// The array of strings at `key`.
    pub fn strs(&self, key: &str) -> Result<Option<&StrArray>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Str(a))) => Ok(Some(a)),
            Some(other) => Err(wrong_type(key, "an array of strings", other)),
        }
    }

    /// The array of floating-point numbers at `key`; `f64` are rounded.
    pub fn f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::F32(a))) => Ok(Some(Cow::Borrowed(a))),
            Some(Value::Array(Array::F64(a))) => Ok(Some(a.iter().map(|v| *v as f32).collect())),
            Some(other) => Err(wrong_type(key, "an array of floating-point numbers (f32)", other)),
        }
    }

    /// The array of booleans at `key`.
    pub fn bools(&self, key: &str) -> Result<Option<&[bool]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(a))) => Ok(Some(a)),
            Some(other) => Err(wrong_type(key, "an array of booleans", other)),
        }
    }
}

fn wrong_type(key: &str, expected: &'static str, found: &Value) -> Error {
    Error::WrongType { key: key.to_owned(), expected, found: found.describe() }
}

fn out_of_range(key: &str, expected: &'static str, found: i128) -> Error {
    Error::OutOfRange { key: key.to_owned(), expected, found: found.to_string() }
}
