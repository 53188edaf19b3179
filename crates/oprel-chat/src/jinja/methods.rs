//! Methods of strings, lists, dicts and their kin.

use super::call::Args;
use super::dict::Dict;
use super::format::{braces, pad};
use super::ops::{equal, escape};
use super::strings::{self, byte_of, char_of, is_space};
use super::text::printable;
use super::value::{Value, View, room_for};
use crate::{Error, Result};
use std::rc::Rc;
use std::sync::Arc;

/// Whether the sandbox lets a method through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Safe,
    /// It would change its object.
    Mutating,
}

const OF_STR: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

/// Whether Python finds a method of this name, and whether the sandbox lets it through.
pub(super) fn find(of: &Value, name: &str) -> Option<Kind> {
    let (safe, mutating): (&[&str], &[&str]) = match of {
        Value::Str(_) | Value::Markup(_) => (OF_STR, &[]),
        Value::Dict(_) => (
            &["copy", "fromkeys", "get", "items", "keys", "values"],
            &["clear", "pop", "popitem", "setdefault", "update"],
        ),
        Value::List(_) => (
            &["copy", "count", "index"],
            &["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"],
        ),
        Value::Tuple(_) => (&["count", "index"], &[]),
        Value::Int(_) => (&["bit_length", "conjugate"], &[]),
        Value::Float(_) => (&["is_integer", "conjugate"], &[]),
        _ => (&[], &[]),
    };
    if safe.contains(&name) {
        Some(Kind::Safe)
    } else if mutating.contains(&name) {
        Some(Kind::Mutating)
    } else {
        None
    }
}

/// Calls a method.
///
/// # Errors
/// [`Error::Failed`] in Python's words.
pub(super) fn call(of: &Value, name: &str, args: Args) -> Result<Value> {
    match of {
        Value::Str(text) => Str(text).call(name, args),
        Value::Markup(text) => Ok(marked(Str(text).call(name, escaped(args))?)),
        Value::Dict(dict) => of_dict(dict, of, name, args),
        Value::List(items) | Value::Tuple(items) => of_list(items, of, name, args),
        Value::Loop(state) => state.call(name, args),
        Value::Int(n) if name == "bit_length" => {
            Ok(Value::Int((128 - n.unsigned_abs().leading_zeros()).into()))
        }
        Value::Float(x) if name == "is_integer" => Ok(Value::Bool(x.fract() == 0.0)),
        other => Ok(other.clone()),
    }
}

/// What a method of marked text gives is marked.
fn marked(value: Value) -> Value {
    match value {
        Value::Str(text) => Value::Markup(text),
        Value::List(items) => Value::list(items.iter().cloned().map(marked).collect()),
        Value::Tuple(items) => Value::tuple(items.iter().cloned().map(marked).collect()),
        other => other,
    }
}

/// What is put into marked text gets escaped.
fn escaped(mut args: Args) -> Args {
    for value in &mut args.plain {
        if let Value::Str(text) = value {
            *value = Value::str(escape(text));
        }
    }
    args
}

fn of_dict(dict: &Rc<Dict>, of: &Value, name: &str, args: Args) -> Result<Value> {
    Ok(match name {
        "get" => {
            let [key, default] = args.bind("get", ["key", "default"])?;
            let key =
                key.ok_or_else(|| Error::failed("get expected at least 1 argument, got 0"))?;
            super::ops::hashable(&key)?;
            dict.get(&key).cloned().or(default).unwrap_or(Value::None)
        }
        "keys" | "values" | "items" => {
            let [] = args.bind(name, [])?;
            let view = match name {
                "keys" => View::Keys,
                "values" => View::Values,
                _ => View::Items,
            };
            Value::View(view, dict.clone())
        }
        "fromkeys" => {
            let [keys, value] = args.bind("fromkeys", ["iterable", "value"])?;
            let (keys, value) = (keys.unwrap_or(Value::None), value.unwrap_or(Value::None));
            Value::dict(keys.items()?.iter().map(|key| (key.clone(), value.clone())).collect())
        }
        _ => of.clone(),
    })
}

fn of_list(items: &[Value], of: &Value, name: &str, args: Args) -> Result<Value> {
    if name == "copy" {
        return Ok(of.clone());
    }
    let [item, start, stop] = args.bind(name, ["value", "start", "stop"])?;
    let item = item.ok_or_else(|| Error::failed(format!("{name}() takes an argument")))?;
    if name == "count" {
        return Ok(Value::Int(items.iter().filter(|x| equal(x, &item)).count() as i128));
    }
    let (from, to) = window(&start, &stop, items.len())?;
    let found = items[from..to.max(from)].iter().position(|x| equal(x, &item));
    match found {
        Some(at) => Ok(Value::Int((from + at) as i128)),
        None => {
            let (what, of) = (super::text::repr_of(&item)?, of.type_name());
            Err(Error::failed(format!("{what} is not in {of}")))
        }
    }
}

/// Optional bounds as slices read them.
fn window(start: &Option<Value>, stop: &Option<Value>, len: usize) -> Result<(usize, usize)> {
    let place = |bound: &Option<Value>, default: usize| match bound {
        None | Some(Value::None) => Ok(default),
        Some(value) => match value.as_int() {
            Some(n) if n < 0 => Ok(usize::try_from(n + len as i128).unwrap_or(0).min(len)),
            Some(n) => Ok(usize::try_from(n).unwrap_or(len)),
            None => Err(Error::failed("slice indices must be integers or None")),
        },
    };
    Ok((place(start, 0)?, place(stop, len)?.min(len)))
}

/// Methods of a string.
struct Str<'t>(&'t Arc<str>);

impl Str<'_> {
    fn call(&self, name: &str, args: Args) -> Result<Value> {
        let text: &str = self.0;
        Ok(match name {
            "capitalize" => plain(name, args, strings::capitalize(text))?,
            "casefold" => plain(name, args, text.to_lowercase().replace('ß', "ss"))?,
            "lower" => plain(name, args, text.to_lowercase())?,
            "upper" => plain(name, args, text.to_uppercase())?,
            "title" => plain(name, args, strings::title(text))?,
            "swapcase" => plain(name, args, strings::swap_case(text))?,
            "strip" | "lstrip" | "rstrip" => self.strip(name, args)?,
            "split" | "rsplit" => self.split(name, args)?,
            "splitlines" => {
                let [keep] = args.bind(name, ["keepends"])?;
                let keep = keep.is_some_and(|keep| keep.truthy());
                Value::list(strings::split_lines(text, keep).into_iter().map(Value::str).collect())
            }
            "partition" | "rpartition" => self.partition(name, args)?,
            "startswith" | "endswith" => self.affix(name, args)?,
            "removeprefix" | "removesuffix" => self.remove(name, args)?,
            "find" | "rfind" | "index" | "rindex" | "count" => self.search(name, args)?,
            "replace" => self.replace(args)?,
            "join" => {
                let [items] = args.bind(name, ["iterable"])?;
                join(text, &items.unwrap_or(Value::None))?
            }
            "center" | "ljust" | "rjust" | "zfill" => self.fill(name, args)?,
            "expandtabs" => {
                let [size] = args.bind(name, ["tabsize"])?;
                let size = width_of(&size.unwrap_or(Value::Int(8)))?;
                room_for(text.matches('\t').count().saturating_mul(size) + text.len())?;
                Value::str(strings::expand_tabs(text, size))
            }
            "format" => Value::str(braces(text, &args)?),
            "format_map" => {
                let [map] = args.bind(name, ["mapping"])?;
                let Some(Value::Dict(map)) = map else {
                    return Err(Error::failed("format_map() argument must be a mapping"));
                };
                let named = map.iter().filter_map(|(k, v)| Some((k.as_str()?.clone(), v.clone())));
                Value::str(braces(text, &Args { plain: vec![], named: named.collect() })?)
            }
            _ => Value::Bool(is(name, text)),
        })
    }

    fn strip(&self, name: &str, args: Args) -> Result<Value> {
        let [chars] = args.bind(name, ["chars"])?;
        let text: &str = self.0;
        let set = match &chars {
            None | Some(Value::None) => None,
            Some(value) => Some(want_str(value, &format!("{name} arg must be None or str"))?),
        };
        let out = |c: char| match &set {
            Some(set) => set.contains(c),
            None => is_space(c),
        };
        let kept = match name {
            "lstrip" => text.trim_start_matches(out),
            "rstrip" => text.trim_end_matches(out),
            _ => text.trim_matches(out),
        };
        // Most texts have nothing to strip.
        Ok(if kept.len() == text.len() { Value::Str(self.0.clone()) } else { Value::str(kept) })
    }

    fn split(&self, name: &str, args: Args) -> Result<Value> {
        let [sep, most] = args.bind(name, ["sep", "maxsplit"])?;
        let most = match most {
            None => None,
            Some(most) => usize::try_from(want_int(&most)?).ok(),
        };
        let text: &str = self.0;
        let sep = match &sep {
            None | Some(Value::None) => None,
            Some(value) => Some(want_str(value, "must be str or None")?),
        };
        let parts: Vec<&str> = match (sep, name) {
            (Some(sep), _) if sep.is_empty() => return Err(Error::failed("empty separator")),
            (Some(sep), "split") => match most {
                Some(most) => text.splitn(most.saturating_add(1), &**sep).collect(),
                None => text.split(&**sep).collect(),
            },
            (Some(sep), _) => {
                let mut parts: Vec<&str> = text
                    .rsplitn(most.unwrap_or(usize::MAX - 1).saturating_add(1), &**sep)
                    .collect();
                parts.reverse();
                parts
            }
            (None, "split") => strings::split_space(text, most),
            (None, _) => strings::rsplit_space(text, most),
        };
        Ok(Value::list(parts.into_iter().map(Value::str).collect()))
    }

    fn partition(&self, name: &str, args: Args) -> Result<Value> {
        let [sep] = args.bind(name, ["sep"])?;
        let sep = sep.unwrap_or(Value::None);
        let sep = want_str(&sep, "must be str")?;
        if sep.is_empty() {
            return Err(Error::failed("empty separator"));
        }
        let text: &str = self.0;
        let (found, whole) = if name == "partition" {
            (text.split_once(&**sep), [text, "", ""])
        } else {
            (text.rsplit_once(&**sep), ["", "", text])
        };
        let parts = found.map_or(whole, |(before, after)| [before, sep, after]);
        Ok(Value::tuple(parts.into_iter().map(Value::str).collect()))
    }

    fn affix(&self, name: &str, args: Args) -> Result<Value> {
        let [affix, start, stop] = args.bind(name, ["prefix", "start", "end"])?;
        let affix = affix.unwrap_or(Value::None);
        let text = self.cut(&start, &stop)?.1;
        let fits = |affix: &Value| -> Result<bool> {
            let message = format!(
                "{name} first arg must be str or a tuple of str, not {}",
                affix.type_name()
            );
            let affix = want_str(affix, &message)?;
            Ok(match name {
                "startswith" => text.starts_with(&**affix),
                _ => text.ends_with(&**affix),
            })
        };
        match &affix {
            Value::Tuple(affixes) => {
                for affix in affixes.iter() {
                    if fits(affix)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            one => fits(one).map(Value::Bool),
        }
    }

    fn remove(&self, name: &str, args: Args) -> Result<Value> {
        let [affix] = args.bind(name, ["prefix"])?;
        let affix = affix.unwrap_or(Value::None);
        let affix = want_str(&affix, &format!("{name}() argument must be str"))?;
        let kept = match name {
            "removeprefix" => self.0.strip_prefix(&**affix),
            _ => self.0.strip_suffix(&**affix),
        };
        Ok(Value::str(kept.unwrap_or(self.0)))
    }

    /// The part between two bounds, and the byte where it begins.
    fn cut(&self, start: &Option<Value>, stop: &Option<Value>) -> Result<(usize, &str)> {
        if start.is_none() && stop.is_none() {
            return Ok((0, self.0));
        }
        let (from, to) = window(start, stop, self.0.chars().count())?;
        let (from, to) = (byte_of(self.0, from), byte_of(self.0, to));
        Ok((from, self.0.get(from..to).unwrap_or("")))
    }

    fn search(&self, name: &str, args: Args) -> Result<Value> {
        let [part, start, stop] = args.bind(name, ["sub", "start", "end"])?;
        let part = part.unwrap_or(Value::None);
        let part = want_str(&part, &format!("must be str, not {}", part.type_name()))?;
        let (from, text) = self.cut(&start, &stop)?;
        if name == "count" {
            return Ok(Value::Int(text.matches(&**part).count() as i128));
        }
        let found = if name.starts_with('r') { text.rfind(&**part) } else { text.find(&**part) };
        match found {
            Some(at) => Ok(Value::Int(char_of(self.0, from + at) as i128)),
            None if name.ends_with("index") => Err(Error::failed("substring not found")),
            None => Ok(Value::Int(-1)),
        }
    }

    fn replace(&self, args: Args) -> Result<Value> {
        let [old, new, most] = args.bind("replace", ["old", "new", "count"])?;
        let (Some(old), Some(new)) = (old, new) else {
            return Err(Error::failed("replace expected at least 2 arguments"));
        };
        let message =
            |value: &Value| format!("replace() argument must be str, not {}", value.type_name());
        let (old, new) = (want_str(&old, &message(&old))?, want_str(&new, &message(&new))?);
        let most = most.map(|most| want_int(&most)).transpose()?;
        replace(self.0, old, new, most.and_then(|most| usize::try_from(most).ok())).map(Value::str)
    }

    fn fill(&self, name: &str, args: Args) -> Result<Value> {
        let [width, fill] = args.bind(name, ["width", "fillchar"])?;
        let width = width_of(&width.unwrap_or(Value::None))?;
        room_for(width.saturating_mul(4))?;
        let fill = match fill.as_ref().map(Value::as_str) {
            None => ' ',
            Some(fill) => fill.and_then(|fill| fill.chars().next()).unwrap_or(' '),
        };
        let text: &str = self.0;
        let filled = match name {
            "ljust" => pad(text, '<', fill, width),
            "rjust" => pad(text, '>', fill, width),
            "zfill" => {
                let sign = if text.starts_with(['+', '-']) { 1 } else { 0 };
                let (sign, digits) = text.split_at(sign);
                sign.to_owned() + &pad(digits, '>', '0', width.saturating_sub(sign.len()))
            }
            _ => center(text, fill, width),
        };
        Ok(Value::str(filled))
    }
}

/// `text.center(width, fill)`: of an odd rest, Python puts the larger half before the text where
/// the width is odd.
pub(super) fn center(text: &str, fill: char, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = missing / 2 + (missing & width & 1);
    let fill = |n: usize| std::iter::repeat_n(fill, n).collect::<String>();
    fill(before) + text + &fill(missing - before)
}

/// `sep.join(items)`.
///
/// # Errors
/// [`Error::Failed`] for an item that is no string.
pub(super) fn join(sep: &str, items: &Value) -> Result<Value> {
    let items = items.items()?;
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        let Some(text) = item.as_str() else {
            let got = item.type_name();
            let message = format!("sequence item {i}: expected str instance, {got} found");
            return Err(Error::failed(message));
        };
        if i > 0 {
            out.push_str(sep);
        }
        out.push_str(text);
        room_for(out.len())?;
    }
    Ok(Value::str(out))
}

/// `text.replace(old, new, most)`.
///
/// # Errors
/// [`Error::OutputTooLong`].
pub(super) fn replace(text: &str, old: &str, new: &str, most: Option<usize>) -> Result<String> {
    if new.len() > old.len() {
        let n = text.matches(old).count().min(most.unwrap_or(usize::MAX));
        room_for(n.saturating_mul(new.len()).saturating_add(text.len()))?;
    }
    Ok(strings::replace(text, old, new, most))
}

/// The result of a method that takes no arguments.
fn plain(name: &str, args: Args, text: String) -> Result<Value> {
    let [] = args.bind(name, [])?;
    Ok(Value::str(text))
}

fn want_str<'v>(value: &'v Value, message: &str) -> Result<&'v Arc<str>> {
    value.defined()?.as_str().ok_or_else(|| Error::failed(message))
}

pub(super) fn want_int(value: &Value) -> Result<i128> {
    value.defined()?.as_int().ok_or_else(|| {
        let name = value.type_name();
        Error::failed(format!("'{name}' object cannot be interpreted as an integer"))
    })
}

pub(super) fn width_of(value: &Value) -> Result<usize> {
    Ok(usize::try_from(want_int(value)?.max(0)).unwrap_or(usize::MAX))
}

/// `text.isalpha()` and its kin.
pub(super) fn is(name: &str, text: &str) -> bool {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    let cased = || text.chars().any(strings::is_cased);
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(|c| is_decimal(c) || is_raised_or_circled(c)),
        "isnumeric" => all(char::is_numeric),
        "isidentifier" => {
            let mut chars = text.chars();
            chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
                && chars.all(|c| c == '_' || c.is_alphanumeric())
        }
        "islower" => cased() && !text.chars().any(char::is_uppercase),
        "isupper" => cased() && !text.chars().any(char::is_lowercase),
        "isspace" => all(is_space),
        "isprintable" => text.chars().all(printable),
        "istitle" => cased() && strings::title(text) == text,
        _ => false,
    }
}

/// Whether a character is a digit of a decimal script: those come in runs of ten.
fn is_decimal(c: char) -> bool {
    const ZEROS: &[u32] = &[
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
        0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
        0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0,
        0xff10,
    ];
    let c = c as u32;
    ZEROS.iter().any(|&zero| (zero..zero + 10).contains(&c)) || (0x1d7ce..0x1d800).contains(&c)
}

/// Digits that Python counts as such though they are no decimals: superscripts, subscripts and
/// digits in circles, brackets and with a full stop.
fn is_raised_or_circled(c: char) -> bool {
    matches!(
        c,
        '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{2079}' | '\u{2080}'..='\u{2089}'
            | '\u{2460}'..='\u{2468}' | '\u{2474}'..='\u{247c}' | '\u{2488}'..='\u{2490}'
            | '\u{24ea}' | '\u{24f5}'..='\u{24fd}' | '\u{24ff}' | '\u{2776}'..='\u{277e}'
            | '\u{2780}'..='\u{2788}' | '\u{278a}'..='\u{2792}'
    )
}
