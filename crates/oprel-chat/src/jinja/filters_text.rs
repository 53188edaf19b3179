//! Filters of text.

use super::call::Args;
use super::filters::none;
use super::methods::{center, replace, want_int, width_of};
use super::ops::{as_float, escape};
use super::strings::{self, capitalize, split_lines, trim};
use super::text::{repr_of, str_of};
use super::value::{Value, room_for};
use crate::{Error, Result};
use std::rc::Rc;
use std::sync::Arc;

/// Applies a filter of text.
///
/// # Errors
/// [`Error::Failed`] for a filter that does not exist, or in Python's words.
pub(super) fn filter(name: &str, input: &Value, args: Args) -> Result<Value> {
    if matches!(name, "indent" | "wordwrap" | "truncate") && input.as_str().is_none() {
        input.defined()?;
        return Err(Error::failed(format!("{name} takes a text, not {}", input.type_name())));
    }
    let text = str_of(input)?;
    let like_input = |text: String| match input {
        Value::Markup(_) => Value::Markup(text.into()),
        _ => Value::str(text),
    };
    Ok(match name {
        "upper" => none(name, args).map(|()| like_input(text.to_uppercase()))?,
        "lower" => none(name, args).map(|()| like_input(text.to_lowercase()))?,
        "capitalize" => none(name, args).map(|()| like_input(capitalize(&text)))?,
        "title" => none(name, args).map(|()| Value::str(title(&text)))?,
        "trim" => {
            let [chars] = args.bind(name, ["chars"])?;
            match chars.filter(|chars| !matches!(chars, Value::None)) {
                Some(chars) => {
                    let set = str_of(&chars)?;
                    like_input(text.trim_matches(|c| set.contains(c)).to_owned())
                }
                None => like_input(trim(&text).to_owned()),
            }
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else {
                return Err(Error::failed("replace takes an old and a new text"));
            };
            let count = count.filter(|count| !matches!(count, Value::None));
            let count = count.map(|count| want_int(&count)).transpose()?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            like_input(replace(&text, &str_of(&old)?, &str_of(&new)?, count)?)
        }
        "escape" | "e" | "forceescape" => {
            none(name, args)?;
            let safe = matches!(input, Value::Markup(_)) && name != "forceescape";
            Value::Markup(if safe { text } else { escape(&text).into() })
        }
        "indent" => indent(&text, args).map(like_input)?,
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            let width = width.map_or(Ok(80), |width| width_of(&width))?;
            room_for(width)?;
            like_input(center(&text, ' ', width))
        }
        "truncate" => truncate(&text, args).map(like_input)?,
        "wordcount" => none(name, args).map(|()| Value::Int(word_count(&text) as i128))?,
        "wordwrap" => word_wrap(&text, args).map(Value::str)?,
        "striptags" => none(name, args).map(|()| Value::str(strip_tags(&text)))?,
        "urlencode" => none(name, args).and_then(|()| url_encode(input).map(Value::str))?,
        "filesizeformat" => file_size(input, args).map(Value::str)?,
        "pprint" => {
            let [_verbose] = args.bind(name, ["verbose"])?;
            Value::str(repr_of(input)?)
        }
        other => return Err(Error::failed(format!("No filter named '{other}'."))),
    })
}

/// Each part after space, a dash or an opening bracket begins with a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut first = true;
    for c in text.chars() {
        if c == '-' || strings::is_space(c) || "({[<".contains(c) {
            out.push(c);
            first = true;
        } else if first {
            out.extend(c.to_uppercase());
            first = false;
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn indent(text: &str, args: Args) -> Result<String> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let by: Arc<str> = match width {
        None => "    ".into(),
        Some(Value::Str(text)) => text,
        Some(width) => {
            let width = width_of(&width)?;
            room_for(width)?;
            " ".repeat(width).into()
        }
    };
    let is = |value: Option<Value>| value.is_some_and(|value| value.truthy());
    let (first, blank) = (is(first), is(blank));
    let whole = format!("{text}\n");
    let lines = split_lines(&whole, false);
    room_for(lines.len().saturating_mul(by.len()).saturating_add(text.len()))?;
    let mut out = String::from(if first { &*by } else { "" });
    for (i, line) in lines.into_iter().enumerate() {
        if i > 0 {
            out.push('\n');
            if blank || !line.is_empty() {
                out.push_str(&by);
            }
        }
        out.push_str(line);
    }
    Ok(out)
}

fn truncate(text: &str, args: Args) -> Result<String> {
    let [length, kill, end, leeway] =
        args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let length = length.map_or(Ok(255), |length| width_of(&length))?;
    let end = end.map_or(Ok("...".into()), |end| str_of(&end))?;
    let leeway = match leeway {
        None | Some(Value::None) => 5,
        Some(leeway) => width_of(&leeway)?,
    };
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = chars[..length.saturating_sub(end.chars().count())].iter().collect();
    let kept = match (kill.is_some_and(|kill| kill.truthy()), cut.rsplit_once(' ')) {
        (false, Some((before, _))) => before,
        _ => &cut,
    };
    Ok(format!("{kept}{end}"))
}

fn word_count(text: &str) -> usize {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).count()
}

/// Lines of at most so many characters, broken at spaces.
fn word_wrap(text: &str, args: Args) -> Result<String> {
    let params = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let [width, long, with, _] = args.bind("wordwrap", params)?;
    let width = width.map_or(Ok(79), |width| width_of(&width))?.max(1);
    let long = long.is_none_or(|long| long.truthy());
    let with = with.map_or(Ok("\n".into()), |with| str_of(&with))?;
    let mut out: Vec<String> = Vec::new();
    for line in split_lines(text, false) {
        let mut wrapped = vec![String::new()];
        for word in line.split(' ') {
            wrap_word(&mut wrapped, word, width, long);
        }
        out.extend(wrapped);
    }
    room_for(out.len().saturating_mul(with.len()).saturating_add(text.len()))?;
    Ok(out.join(&with))
}

fn wrap_word(lines: &mut Vec<String>, word: &str, width: usize, break_long: bool) {
    let last = lines.last().map_or(0, |line| line.chars().count());
    let fits = last + usize::from(last > 0) + word.chars().count() <= width;
    if last > 0 && !fits {
        lines.push(String::new());
    }
    let Some(line) = lines.last_mut() else { return };
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(word);
    while break_long && lines.last().is_some_and(|line| line.chars().count() > width) {
        let Some(line) = lines.last_mut() else { return };
        let rest = line.split_off(strings::byte_of(line, width));
        lines.push(rest);
    }
}

fn strip_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let Some(end) = rest[at..].find('>') else { break };
        out.push_str(&rest[..at]);
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    strings::split_space(&out, None).join(" ")
}

fn url_encode(input: &Value) -> Result<String> {
    let quote = |value: &Value, plus: bool| -> Result<String> {
        let mut out = String::new();
        for byte in str_of(value)?.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                    out.push(byte.into());
                }
                b'/' if !plus => out.push('/'),
                b' ' if plus => out.push('+'),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
        Ok(out)
    };
    match input {
        Value::Dict(_) | Value::List(_) | Value::Tuple(_) => {
            let pairs = match input {
                Value::Dict(dict) => Rc::new(dict.pairs().into()),
                other => other.items()?,
            };
            let mut out = Vec::with_capacity(pairs.len());
            for pair in pairs.iter() {
                match &pair.items()?[..] {
                    [key, value] => {
                        out.push(format!("{}={}", quote(key, true)?, quote(value, true)?))
                    }
                    _ => return Err(Error::failed("urlencode takes pairs")),
                }
            }
            Ok(out.join("&"))
        }
        other => quote(other, false),
    }
}

fn file_size(input: &Value, args: Args) -> Result<String> {
    let [binary] = args.bind("filesizeformat", ["binary"])?;
    let binary = binary.is_some_and(|binary| binary.truthy());
    let bytes = as_float(input).or_else(|| super::number::parse_float(input.as_str()?));
    let bytes = bytes.ok_or_else(|| Error::failed("a file size must be a number"))?;
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes as i64));
    }
    let units = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let power = (1..units.len() as i32).find(|&i| bytes < base.powi(i + 1)).unwrap_or(8);
    let unit = units[power as usize - 1];
    let suffix = match (binary, unit) {
        (true, "k") => "KiB".into(),
        (true, unit) => format!("{unit}iB"),
        (false, unit) => format!("{unit}B"),
    };
    Ok(format!("{:.1} {suffix}", bytes / base.powi(power)))
}
