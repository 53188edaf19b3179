//! Python's values, as far as templates meet them.
//!
//! Lists and dicts never change once made: Jinja2's sandbox forbids the methods that would.

use super::dict::Dict;
use super::scope::Scope;
use super::tree::Name;
use crate::{Error, Result};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Undefined(Missing),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    /// Text that is marked as safe HTML: what is added to it gets escaped.
    Markup(Arc<str>),
    List(Rc<Seq>),
    Tuple(Rc<Seq>),
    Dict(Rc<Dict>),
    View(View, Rc<Dict>),
    Range(Rc<Range>),
    /// What lazy filters give: read once, always true, without a length.
    Iter(Rc<Lazy>),
    Namespace(Rc<RefCell<Dict>>),
    /// A method and what it belongs to.
    Method(Rc<(Value, Name)>),
    Function(Function),
    Macro(Rc<Macro>),
    Loop(Rc<LoopState>),
}

/// Deepest nesting of lists, dicts and what else holds values: each level costs stack when the
/// value is written, compared or dropped.
pub(super) const MOST_DEPTH: u32 = 150;

/// Largest [`Size::weight`] of one value.
const MOST_WEIGHT: u64 = 1 << 22;
/// Longest text, in bytes, and sixteen times the longest list that one operation makes.
pub(super) const MOST_LEN: usize = 1 << 24;

/// What it costs to walk through a value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// How deep values nest in it.
    pub(super) depth: u32,
    /// How many values are in it at any depth, with one more for each 16 bytes of text. A value
    /// that is in it twice counts twice: this bounds the time of a walk, not the memory.
    pub(super) weight: u64,
}

impl Size {
    /// The size of what holds values of these sizes.
    pub(super) fn around(self, inner: Size) -> Size {
        Size {
            depth: self.depth.max(inner.depth + 1),
            weight: self.weight.saturating_add(inner.weight).saturating_add(1),
        }
    }
}

/// Items, and what it costs to walk through them.
#[derive(Debug, Default)]
pub(crate) struct Seq {
    items: Vec<Value>,
    size: Size,
}

/// Items that are read once.
#[derive(Debug)]
pub(crate) struct Lazy {
    pub(super) rest: RefCell<VecDeque<Value>>,
    size: Size,
}

/// Why a value is undefined.
#[derive(Clone, Debug)]
pub(crate) enum Missing {
    Name(Name),
    /// An attribute or key that something of this type lacks.
    Attr(&'static str, Name),
    /// Words of their own.
    Said(Arc<str>),
    /// An attribute that the sandbox forbids: its name and the type it belongs to.
    Unsafe(&'static str, Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Keys,
    Values,
    Items,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(super) start: i128,
    pub(super) stop: i128,
    pub(super) step: i128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Range,
    Dict,
    Namespace,
    RaiseException,
    StrftimeNow,
}

/// A macro and the scope it was made in.
#[derive(Debug)]
pub(crate) struct Macro {
    /// Index into the tree's macros.
    pub(super) def: usize,
    pub(super) name: Name,
    pub(super) scope: Rc<Scope>,
}

/// The `loop` of a running loop.
#[derive(Debug)]
pub(crate) struct LoopState {
    /// Index into the tree's loops.
    pub(super) def: usize,
    pub(super) scope: Rc<Scope>,
    pub(super) items: Rc<Seq>,
    pub(super) at: Cell<usize>,
    pub(super) depth0: usize,
    pub(super) last_changed: RefCell<Option<Vec<Value>>>,
}

impl From<Vec<Value>> for Seq {
    fn from(items: Vec<Value>) -> Seq {
        let size = items.iter().fold(Size::default(), |size, item| size.around(item.size()));
        Seq { items, size }
    }
}

impl std::ops::Deref for Seq {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items
    }
}

impl Range {
    pub(super) fn len(&self) -> i128 {
        let span = if self.step > 0 { self.stop - self.start } else { self.start - self.stop };
        if span <= 0 { 0 } else { (span - 1) / self.step.abs() + 1 }
    }

    pub(super) fn at(&self, i: i128) -> i128 {
        self.start + i * self.step
    }
}

impl Missing {
    /// What Jinja2 says when the value is used.
    pub(super) fn message(&self) -> String {
        match self {
            Missing::Name(name) => format!("'{name}' is undefined"),
            Missing::Attr(of, name) => format!("'{of}' has no attribute '{name}'"),
            Missing::Said(words) => words.to_string(),
            Missing::Unsafe(of, name) => {
                format!("access to attribute '{name}' of '{of}' object is unsafe.")
            }
        }
    }

    pub(super) fn error(&self) -> Error {
        Error::failed(self.message())
    }
}

impl Value {
    pub(crate) fn str(text: impl Into<Arc<str>>) -> Value {
        Value::Str(text.into())
    }

    pub(crate) fn list(items: Vec<Value>) -> Value {
        Value::List(Rc::new(items.into()))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Value {
        Value::Tuple(Rc::new(items.into()))
    }

    pub(super) fn iter(items: Vec<Value>) -> Value {
        let Seq { items, size } = items.into();
        Value::Iter(Rc::new(Lazy { rest: RefCell::new(items.into()), size }))
    }

    pub(super) fn dict(dict: Dict) -> Value {
        Value::Dict(Rc::new(dict))
    }

    /// The text of a string, marked or not.
    pub(super) fn as_str(&self) -> Option<&Arc<str>> {
        match self {
            Value::Str(text) | Value::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The integer of an integer or a boolean.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bool(b) => Some((*b).into()),
            _ => None,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    /// The name of its type in Python.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Markup(_) => "Markup",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Range(_) => "range",
            Value::Iter(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Method(_) => "builtin_function_or_method",
            Value::Function(_) => "function",
            Value::Macro(_) => "Macro",
            Value::Loop(_) => "LoopContext",
        }
    }

    /// How Jinja2 names it in messages about attributes.
    pub(super) fn owner_name(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "bool object",
            Value::Int(_) => "int object",
            Value::Float(_) => "float object",
            Value::Str(_) => "str object",
            Value::List(_) => "list object",
            Value::Tuple(_) => "tuple object",
            Value::Dict(_) => "dict object",
            Value::Range(_) => "range object",
            Value::Namespace(_) => "jinja2.utils.Namespace object",
            Value::Loop(_) => "jinja2.runtime.LoopContext object",
            Value::Macro(_) => "jinja2.runtime.Macro object",
            other => other.type_name(),
        }
    }

    /// Whether it counts as true.
    pub(super) fn truthy(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(text) | Value::Markup(text) => !text.is_empty(),
            Value::List(items) | Value::Tuple(items) => !items.is_empty(),
            Value::Dict(dict) | Value::View(_, dict) => dict.len() > 0,
            Value::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    /// How many items it has, `None` if it has no length.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Value::Undefined(_) => Some(0),
            Value::Str(text) | Value::Markup(text) => Some(text.chars().count()),
            Value::List(items) | Value::Tuple(items) => Some(items.len()),
            Value::Dict(dict) | Value::View(_, dict) => Some(dict.len()),
            Value::Range(range) => usize::try_from(range.len()).ok(),
            Value::Loop(state) => Some(state.items.len()),
            _ => None,
        }
    }

    /// Its items, in order. Takes those of a lazy value.
    ///
    /// # Errors
    /// [`Error::Failed`] for what cannot be iterated over.
    pub(super) fn items(&self) -> Result<Rc<Seq>> {
        let items: Vec<Value> = match self {
            Value::List(items) | Value::Tuple(items) => return Ok(items.clone()),
            Value::Undefined(_) => Vec::new(),
            Value::Str(text) | Value::Markup(text) => text.chars().map(char_value).collect(),
            Value::Dict(dict) => dict.keys().cloned().collect(),
            Value::View(view, dict) => view.of(dict),
            Value::Range(range) => (0..range.len()).map(|i| Value::Int(range.at(i))).collect(),
            Value::Iter(lazy) => lazy.rest.borrow_mut().drain(..).collect(),
            other => {
                let message = format!("'{}' object is not iterable", other.type_name());
                return Err(Error::failed(message));
            }
        };
        Ok(Rc::new(items.into()))
    }

    /// What it costs to walk through it.
    pub(super) fn size(&self) -> Size {
        let one = Size::default();
        match self {
            Value::Str(text) | Value::Markup(text) => {
                Size { weight: text.len() as u64 / 16, ..one }
            }
            Value::List(items) | Value::Tuple(items) => one.around(items.size),
            Value::Dict(dict) | Value::View(_, dict) => one.around(dict.size()),
            Value::Range(range) => Size { weight: range.len() as u64, ..one },
            Value::Iter(lazy) => one.around(lazy.size),
            Value::Method(method) => one.around(method.0.size()),
            Value::Loop(state) => one.around(state.items.size),
            _ => one,
        }
    }

    /// Refuses a value that nests too deep or is too large.
    pub(super) fn bounded(self) -> Result<Value> {
        let Size { depth, weight } = self.size();
        if depth > MOST_DEPTH {
            return Err(Error::TooDeep { most: MOST_DEPTH });
        }
        if weight > MOST_WEIGHT { Err(Error::OutputTooLong { most: MOST_LEN }) } else { Ok(self) }
    }

    /// Refuses an undefined value.
    pub(super) fn defined(&self) -> Result<&Value> {
        match self {
            Value::Undefined(missing) => Err(missing.error()),
            other => Ok(other),
        }
    }
}

impl View {
    pub(super) fn of(self, dict: &Dict) -> Vec<Value> {
        match self {
            View::Keys => dict.keys().cloned().collect(),
            View::Values => dict.values().cloned().collect(),
            View::Items => dict.pairs(),
        }
    }
}

pub(super) fn char_value(c: char) -> Value {
    let mut buffer = [0; 4];
    Value::Str(Arc::from(&*c.encode_utf8(&mut buffer)))
}

/// Refuses a text that would be longer than any real one, before it is made.
///
/// # Errors
/// [`Error::OutputTooLong`].
pub(super) fn room_for(bytes: usize) -> Result<()> {
    if bytes > MOST_LEN { Err(Error::OutputTooLong { most: MOST_LEN }) } else { Ok(()) }
}
