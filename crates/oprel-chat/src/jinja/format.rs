//! `"..." % args` and `"...".format(...)`.

use super::call::Args;
use super::index;
use super::number::{exponential, float_repr, general};
use super::ops::{as_float, escape};
use super::text::{repr_of, str_of};
use super::value::{Value, room_for};
use crate::{Error, Result};
use std::rc::Rc;
use std::sync::Arc;

/// Widest field and finest precision.
const MOST_WIDTH: usize = 1 << 16;

/// How a field is laid out.
#[derive(Clone, Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// `format % args`.
///
/// # Errors
/// [`Error::Failed`] in Python's words.
pub(super) fn percent(format: &Value, args: &Value) -> Result<Value> {
    let safe = matches!(format, Value::Markup(_));
    let text = format.as_str().cloned().unwrap_or_default();
    let mut fields = Fields::new(args);
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        rest = fields.field(rest, safe, &mut out)?;
        room_for(out.len())?;
    }
    out.push_str(rest);
    fields.finish()?;
    Ok(if safe { Value::Markup(out.into()) } else { Value::Str(out.into()) })
}

/// The values of a `%` format, taken in order or by name.
struct Fields<'v> {
    args: &'v Value,
    /// Those of a tuple.
    list: Option<&'v [Value]>,
    next: usize,
}

impl<'v> Fields<'v> {
    fn new(args: &'v Value) -> Fields<'v> {
        let list = match args {
            Value::Tuple(items) => Some(&***items),
            _ => None,
        };
        Fields { args, list, next: 0 }
    }

    fn take(&mut self) -> Result<&'v Value> {
        let value = match self.list {
            Some(items) => items.get(self.next),
            None => (self.next == 0).then_some(self.args),
        };
        self.next += 1;
        value.ok_or_else(|| Error::failed("not enough arguments for format string"))
    }

    fn finish(&self) -> Result<()> {
        let left = match self.list {
            Some(items) => self.next < items.len(),
            None => self.next == 0 && !matches!(self.args, Value::Dict(_) | Value::List(_)),
        };
        if left {
            return Err(Error::failed("not all arguments converted during string formatting"));
        }
        Ok(())
    }

    /// Writes the field that begins after a `%`, gives what comes after it.
    fn field<'t>(&mut self, text: &'t str, safe: bool, out: &mut String) -> Result<&'t str> {
        let mut rest = text;
        let mut named = None;
        if let Some(after) = rest.strip_prefix('(') {
            let Some((name, after)) = after.split_once(')') else {
                return Err(Error::failed("incomplete format key"));
            };
            let Value::Dict(dict) = self.args else {
                return Err(Error::failed("format requires a mapping"));
            };
            let value = dict.get_str(name);
            named = Some(value.ok_or_else(|| Error::failed(format!("'{name}'")))?);
            self.next = self.next.max(1);
            rest = after;
        }
        let mut spec = Spec::default();
        while let Some(c) = rest.chars().next().filter(|c| "-+ 0#".contains(*c)) {
            match c {
                '-' => spec.align = Some('<'),
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                sign if spec.sign != Some('+') => spec.sign = Some(sign),
                _ => {}
            }
            rest = &rest[1..];
        }
        (spec.width, rest) = self.size(rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = self.size(after)?;
            spec.precision = Some(precision);
            rest = after;
        }
        rest = rest.trim_start_matches(['h', 'l', 'L']);
        let Some(kind) = rest.chars().next() else {
            return Err(Error::failed("incomplete format"));
        };
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            out.push('%');
            return Ok(rest);
        }
        let value = match named {
            Some(value) => value,
            None => self.take()?,
        };
        out.push_str(&self.convert(value, kind, spec, safe)?);
        Ok(rest)
    }

    /// A width or precision: digits, or `*` for the next value.
    fn size<'t>(&mut self, text: &'t str) -> Result<(usize, &'t str)> {
        if let Some(after) = text.strip_prefix('*') {
            let n = self.take()?.as_int().ok_or_else(|| Error::failed("* wants int"))?;
            return Ok((bounded(usize::try_from(n).unwrap_or(0))?, after));
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let n = if end == 0 { 0 } else { text[..end].parse().unwrap_or(usize::MAX) };
        Ok((bounded(n)?, &text[end..]))
    }

    fn convert(&self, value: &Value, kind: char, mut spec: Spec, safe: bool) -> Result<String> {
        let text = match kind {
            's' => str_of(value)?.to_string(),
            'r' | 'a' => repr_of(value)?,
            'c' => character(value)?,
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                spec.kind = Some(if matches!(kind, 'i' | 'u') { 'd' } else { kind });
                if spec.align.is_some() {
                    spec.zero = false;
                }
                return percent_number(value, kind, &spec);
            }
            other => {
                return Err(Error::failed(format!("unsupported format character '{other}'")));
            }
        };
        let text = match spec.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        };
        let text = if safe && !matches!(value, Value::Markup(_)) { escape(&text) } else { text };
        Ok(pad(&text, spec.align.unwrap_or('>'), ' ', spec.width))
    }
}

fn bounded(n: usize) -> Result<usize> {
    if n > MOST_WIDTH { Err(Error::OutputTooLong { most: MOST_WIDTH }) } else { Ok(n) }
}

fn character(value: &Value) -> Result<String> {
    match (value.as_int(), value.as_str()) {
        (Some(n), _) => u32::try_from(n)
            .ok()
            .and_then(char::from_u32)
            .map(String::from)
            .ok_or_else(|| Error::failed("%c arg not in range(0x110000)")),
        (None, Some(text)) if text.chars().count() == 1 => Ok(text.to_string()),
        _ => Err(Error::failed("%c requires int or char")),
    }
}

fn percent_number(value: &Value, kind: char, spec: &Spec) -> Result<String> {
    let wants_int = matches!(kind, 'd' | 'i' | 'u' | 'x' | 'X' | 'o');
    let value = match value {
        Value::Float(x) if matches!(kind, 'd' | 'i' | 'u') && x.is_finite() => {
            Value::Int(x.trunc() as i128)
        }
        other => other.clone(),
    };
    if (wants_int && value.as_int().is_none()) || as_float(&value).is_none() {
        let (need, got) =
            (if wants_int { "a real number" } else { "real number" }, value.type_name());
        let message = match wants_int {
            true => format!("%{kind} format: {need} is required, not {got}"),
            false => format!("must be {need}, not {got}"),
        };
        return Err(Error::failed(message));
    }
    number(&value, spec)
}

/// `format.format(...)`.
///
/// # Errors
/// [`Error::Failed`] in Python's words.
pub(super) fn braces(format: &str, args: &Args) -> Result<String> {
    let mut out = String::new();
    let mut auto = 0;
    write_braces(format, args, &mut auto, 0, &mut out)?;
    Ok(out)
}

fn write_braces(
    format: &str,
    args: &Args,
    auto: &mut usize,
    level: u32,
    out: &mut String,
) -> Result<()> {
    if level > 2 {
        return Err(Error::failed("Max string recursion exceeded"));
    }
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if after.starts_with(brace) {
            out.push_str(brace);
            rest = &after[1..];
            continue;
        }
        if brace == "}" {
            return Err(Error::failed("Single '}' encountered in format string"));
        }
        let end = closing(after)?;
        write_field(&after[..end], args, auto, level, out)?;
        room_for(out.len())?;
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(())
}

/// Where the brace closes that is open.
fn closing(text: &str) -> Result<usize> {
    let mut level = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 0 => return Ok(at),
            '}' => level -= 1,
            _ => {}
        }
    }
    Err(Error::failed("expected '}' before end of string"))
}

fn write_field(
    field: &str,
    args: &Args,
    auto: &mut usize,
    level: u32,
    out: &mut String,
) -> Result<()> {
    let (head, spec) = match field.find(':') {
        Some(at) => (&field[..at], &field[at + 1..]),
        None => (field, ""),
    };
    let (path, conversion) = head.split_once('!').unwrap_or((head, ""));
    let mut value = lookup(path, args, auto)?;
    match conversion {
        "" => {}
        "s" => value = Value::Str(str_of(&value)?),
        "r" | "a" => value = Value::str(repr_of(&value)?),
        _ => return Err(Error::failed("unknown conversion specifier")),
    }
    let mut inner = String::new();
    write_braces(spec, args, auto, level + 1, &mut inner)?;
    out.push_str(&with_spec(&value, &inner)?);
    Ok(())
}

/// `0.name[key]`: an argument, then attributes and items of it.
fn lookup(path: &str, args: &Args, auto: &mut usize) -> Result<Value> {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (first, mut rest) = path.split_at(end);
    let mut value = if first.is_empty() || first.bytes().all(|b| b.is_ascii_digit()) {
        let at = if first.is_empty() {
            *auto += 1;
            *auto - 1
        } else {
            first.parse().unwrap_or(usize::MAX)
        };
        args.plain.get(at).cloned().ok_or_else(|| {
            Error::failed(format!("Replacement index {at} out of range for positional args tuple"))
        })?
    } else {
        let named = args.named.iter().find(|(name, _)| &**name == first);
        named.map(|(_, v)| v.clone()).ok_or_else(|| Error::failed(format!("'{first}'")))?
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            value = index::attr(&value, &Arc::from(&after[..end]))?;
            rest = &after[end..];
        } else {
            let Some((key, after)) = rest[1..].split_once(']') else {
                return Err(Error::failed("Missing ']' in format string"));
            };
            let key = key.parse().map_or_else(|_| Value::str(key), Value::Int);
            value = index::item(&value, &key)?;
            rest = after;
        }
        value.defined()?;
    }
    Ok(value)
}

/// `format(value, spec)`.
fn with_spec(value: &Value, text: &str) -> Result<String> {
    if text.is_empty() {
        return str_of(value).map(|text| text.to_string());
    }
    let spec = parse_spec(text)?;
    match value {
        Value::Str(_) | Value::Markup(_) => {
            if spec.kind.is_some_and(|kind| kind != 's') {
                return Err(unknown_code(spec.kind, value));
            }
            let text = str_of(value)?;
            let text: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
            Ok(pad(&text, spec.align.unwrap_or('<'), spec.fill.unwrap_or(' '), spec.width))
        }
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => number(value, &spec),
        other => Err(Error::failed(format!(
            "unsupported format string passed to {}.__format__",
            other.type_name()
        ))),
    }
}

fn unknown_code(kind: Option<char>, value: &Value) -> Error {
    let kind = kind.unwrap_or(' ');
    let of = value.type_name();
    Error::failed(format!("Unknown format code '{kind}' for object of type '{of}'"))
}

fn parse_spec(text: &str) -> Result<Spec> {
    let chars: Vec<char> = text.chars().collect();
    let mut spec = Spec::default();
    let mut at = 0;
    let is_align = |c: Option<&char>| c.is_some_and(|c| "<>=^".contains(*c));
    if is_align(chars.get(1)) {
        (spec.fill, spec.align) = (chars.first().copied(), chars.get(1).copied());
        at = 2;
    } else if is_align(chars.first()) {
        spec.align = chars.first().copied();
        at = 1;
    }
    let mut take = |wanted: &str| {
        let c = chars.get(at).copied().filter(|c| wanted.contains(*c))?;
        at += 1;
        Some(c)
    };
    spec.sign = take("+- ");
    spec.alternate = take("#").is_some();
    spec.zero = take("0").is_some();
    let mut digits = String::new();
    while let Some(c) = take("0123456789") {
        digits.push(c);
    }
    spec.width = bounded(digits.parse().unwrap_or(0))?;
    spec.grouping = take(",_");
    if take(".").is_some() {
        let mut digits = String::new();
        while let Some(c) = take("0123456789") {
            digits.push(c);
        }
        spec.precision = Some(bounded(digits.parse().unwrap_or(0))?);
    }
    spec.kind = take("bcdeEfFgGnosxX%");
    if at < chars.len() {
        return Err(Error::failed("Invalid format specifier"));
    }
    Ok(spec)
}

/// A number laid out by its spec.
fn number(value: &Value, spec: &Spec) -> Result<String> {
    let is_int = value.as_int().is_some();
    let kind = spec.kind.unwrap_or(if is_int { 'd' } else { ' ' });
    let (negative, prefix, body) = match (kind, value.as_int()) {
        ('d' | 'n' | 'b' | 'o' | 'x' | 'X' | 'c', Some(n)) => {
            let (prefix, body) = integer(n.unsigned_abs(), kind, spec.alternate)?;
            (n < 0, prefix, body)
        }
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%' | ' ', _) => {
            let x = as_float(value).unwrap_or(f64::NAN);
            (x.is_sign_negative() && !x.is_nan(), "", real(x.abs(), kind, spec))
        }
        _ => return Err(unknown_code(spec.kind, value)),
    };
    let body = match spec.grouping {
        Some(mark) => grouped(&body, mark),
        None => body,
    };
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    };
    let head = format!("{sign}{prefix}");
    let align = spec.align.unwrap_or(if spec.zero { '=' } else { '>' });
    let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
    if align == '=' {
        let width = spec.width.saturating_sub(head.chars().count());
        return Ok(head + &pad(&body, '>', fill, width));
    }
    Ok(pad(&(head + &body), align, fill, spec.width))
}

fn integer(n: u128, kind: char, alternate: bool) -> Result<(&'static str, String)> {
    let shown = |prefix| if alternate { prefix } else { "" };
    Ok(match kind {
        'b' => (shown("0b"), format!("{n:b}")),
        'o' => (shown("0o"), format!("{n:o}")),
        'x' => (shown("0x"), format!("{n:x}")),
        'X' => (shown("0X"), format!("{n:X}")),
        'c' => ("", character(&Value::Int(i128::try_from(n).unwrap_or(-1)))?),
        _ => ("", n.to_string()),
    })
}

fn real(x: f64, kind: char, spec: &Spec) -> String {
    let precision = spec.precision.unwrap_or(6);
    let text = match kind {
        _ if !x.is_finite() => float_repr(x),
        'e' | 'E' => exponential(x, precision),
        'f' | 'F' => format!("{x:.precision$}"),
        '%' => format!("{:.precision$}%", x * 100.0),
        ' ' if spec.precision.is_none() => float_repr(x),
        _ => general(x, precision, spec.alternate),
    };
    if kind.is_ascii_uppercase() { text.to_uppercase() } else { text }
}

/// The whole part in groups of three.
fn grouped(body: &str, mark: char) -> String {
    let end = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
    let mut out = String::with_capacity(body.len() + end / 3);
    for (i, c) in body[..end].chars().enumerate() {
        if i > 0 && (end - i) % 3 == 0 {
            out.push(mark);
        }
        out.push(c);
    }
    out + &body[end..]
}

/// Text filled up to a width.
pub(super) fn pad(text: &str, align: char, fill: char, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = match align {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    let mut out = String::with_capacity(text.len() + missing);
    out.extend(std::iter::repeat_n(fill, before));
    out.push_str(text);
    out.extend(std::iter::repeat_n(fill, missing - before));
    out
}

/// The arguments of the `format` filter: a tuple, or a dict where there are named ones.
pub(super) fn filter_args(args: Args) -> Value {
    if args.named.is_empty() {
        return Value::tuple(args.plain);
    }
    let pairs = args.named.into_iter().map(|(name, value)| (Value::Str(name), value));
    Value::Dict(Rc::new(pairs.collect()))
}
