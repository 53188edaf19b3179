//! Metadata values: the thirteen types of GGUF, arrays kept compact per element type.

use std::fmt;

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names of the format
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A metadata array. Its elements are of one type; inner arrays may differ among themselves.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names of the format
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Str(StrArray),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// An array of strings: one text and where each string in it ends, so that a vocabulary is two allocations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StrArray {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl StrArray {
    /// Joins strings of together at most 4 GiB, `None` beyond.
    pub fn try_from_iter<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Option<StrArray> {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for s in strings {
            text.push_str(s.as_ref());
            ends.push(u32::try_from(text.len()).ok()?);
        }
        Some(StrArray { text: text.into(), ends: ends.into() })
    }

    /// `ends` must rise, lie on character boundaries, and close with the length of `text`.
    pub(crate) fn from_parts(text: String, ends: Vec<u32>) -> StrArray {
        debug_assert!(ends.iter().all(|end| text.is_char_boundary(*end as usize)));
        StrArray { text: text.into(), ends: ends.into() }
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `i`, in constant time.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)? as usize;
        let start = match i.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.text.get(start..end)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone + '_ {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let range = start..*end as usize;
            start = range.end;
            self.text.get(range).unwrap_or_default()
        })
    }
}

impl fmt::Debug for StrArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Panics beyond 4 GiB of text; [`StrArray::try_from_iter`] does not.
impl<S: AsRef<str>> FromIterator<S> for StrArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> StrArray {
        match StrArray::try_from_iter(strings) {
            Some(array) => array,
            None => panic!("the strings of an array take more than 4 GiB"),
        }
    }
}

impl Array {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(a) => a.len(),
            Array::I8(a) => a.len(),
            Array::U16(a) => a.len(),
            Array::I16(a) => a.len(),
            Array::U32(a) => a.len(),
            Array::I32(a) => a.len(),
            Array::F32(a) => a.len(),
            Array::Bool(a) => a.len(),
            Array::Str(a) => a.len(),
            Array::Array(a) => a.len(),
            Array::U64(a) => a.len(),
            Array::I64(a) => a.len(),
            Array::F64(a) => a.len(),
        }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn kind(&self) -> Kind {
        match self {
            Array::U8(_) => Kind::U8,
            Array::I8(_) => Kind::I8,
            Array::U16(_) => Kind::U16,
            Array::I16(_) => Kind::I16,
            Array::U32(_) => Kind::U32,
            Array::I32(_) => Kind::I32,
            Array::F32(_) => Kind::F32,
            Array::Bool(_) => Kind::Bool,
            Array::Str(_) => Kind::Str,
            Array::Array(_) => Kind::Array,
            Array::U64(_) => Kind::U64,
            Array::I64(_) => Kind::I64,
            Array::F64(_) => Kind::F64,
        }
    }
}

impl Value {
    /// The type of the value.
    pub fn kind(&self) -> Kind {
        match self {
            Value::U8(_) => Kind::U8,
            Value::I8(_) => Kind::I8,
            Value::U16(_) => Kind::U16,
            Value::I16(_) => Kind::I16,
            Value::U32(_) => Kind::U32,
            Value::I32(_) => Kind::I32,
            Value::F32(_) => Kind::F32,
            Value::Bool(_) => Kind::Bool,
            Value::Str(_) => Kind::Str,
            Value::Array(_) => Kind::Array,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
        }
    }

    /// An integer of any width.
    pub(crate) fn integer(&self) -> Option<i128> {
        Some(match self {
            Value::U8(v) => (*v).into(),
            Value::I8(v) => (*v).into(),
            Value::U16(v) => (*v).into(),
            Value::I16(v) => (*v).into(),
            Value::U32(v) => (*v).into(),
            Value::I32(v) => (*v).into(),
            Value::U64(v) => (*v).into(),
            Value::I64(v) => (*v).into(),
            _ => return None,
        })
    }

    /// What kind of thing this is: "a string", "an array of 3 i32".
    pub(crate) fn describe(&self) -> String {
        match self {
            Value::Array(a) => format!("an array of {} {}", a.len(), a.kind()),
            Value::Str(_) => "a string".to_owned(),
            other => format!("one {}", other.kind()),
        }
    }
}

/// The type of a value or of the elements of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names of the format
pub enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [(Kind, &'static str, u64); 13] = [
        (Kind::U8, "u8", 1),
        (Kind::I8, "i8", 1),
        (Kind::U16, "u16", 2),
        (Kind::I16, "i16", 2),
        (Kind::U32, "u32", 4),
        (Kind::I32, "i32", 4),
        (Kind::F32, "f32", 4),
        (Kind::Bool, "bool", 1),
        (Kind::Str, "string", 0),
        (Kind::Array, "array", 0),
        (Kind::U64, "u64", 8),
        (Kind::I64, "i64", 8),
        (Kind::F64, "f64", 8),
    ];

    /// The type with this number in a file.
    pub(crate) fn from_gguf(number: u32) -> Option<Kind> {
        Kind::ALL.get(usize::try_from(number).ok()?).map(|row| row.0)
    }

    /// The number of this type in a file.
    pub(crate) fn gguf_number(self) -> u32 {
        self as u32
    }

    /// The name the field uses: `u32`, `string`.
    pub fn name(self) -> &'static str {
        Kind::ALL.get(self as usize).map_or("", |row| row.1)
    }

    /// Bytes of one in a file; 0 for strings and arrays, which have no fixed size.
    pub(crate) fn width(self) -> u64 {
        Kind::ALL.get(self as usize).map_or(0, |row| row.2)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! values_from {
    ($($variant:ident: $ty:ty),*) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Value {
                Value::$variant(value)
            }
        }

        impl From<Vec<$ty>> for Value {
            fn from(values: Vec<$ty>) -> Value {
                Value::Array(Array::$variant(values))
            }
        }
    )*};
}

values_from!(
    U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, F32: f32, Bool: bool, U64: u64, I64: i64, F64: f64
);

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Str(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Str(value.to_owned())
    }
}

impl From<StrArray> for Value {
    fn from(values: StrArray) -> Value {
        Value::Array(Array::Str(values))
    }
}

impl From<Array> for Value {
    fn from(values: Array) -> Value {
        Value::Array(values)
    }
}
