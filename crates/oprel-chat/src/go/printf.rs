//! `printf`, as far as templates go.

use super::value::{Value, float};
use crate::{Error, Result};

/// Wider than anything that is written to be read.
const MOST_WIDTH: usize = 4096;

/// A directive: `%`, flags, width, precision, verb.
#[derive(Default)]
struct Directive {
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// What Go's `fmt.Sprintf` makes of a format and its arguments. A value that does not suit its verb is written
/// as it is.
pub(super) fn sprintf(format: &str, arguments: &[Value]) -> Result<String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = chars.next_if(|c| "-0+# ".contains(*c)) {
            directive.left |= flag == '-';
            directive.zeros |= flag == '0';
            directive.plus |= flag == '+';
        }
        let mut number = |least: Option<usize>| -> Result<Option<usize>> {
            let mut n = least;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                let digit = digit.to_digit(10).unwrap_or(0) as usize;
                n = Some(n.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            }
            match n {
                Some(n) if n > MOST_WIDTH => Err(Error::OutputTooLong { most: MOST_WIDTH }),
                n => Ok(n),
            }
        };
        directive.width = number(None)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            let mut precision = 0;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                precision =
                    (precision * 10 + digit.to_digit(10).unwrap_or(0) as usize).min(MOST_WIDTH);
            }
            directive.precision = Some(precision);
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.next() {
                Some(value) => out.push_str(&directive.write(verb, value)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    Ok(out)
}

impl Directive {
    fn write(&self, verb: char, value: &Value) -> String {
        let (text, is_number) = match (verb, value) {
            ('q', value) => (serde_json::Value::from(value.text()).to_string(), false),
            ('x', Value::Int(n)) => (format!("{n:x}"), true),
            ('X', Value::Int(n)) => (format!("{n:X}"), true),
            ('c', Value::Int(n)) => {
                let c = u32::try_from(*n).ok().and_then(char::from_u32);
                (c.unwrap_or(char::REPLACEMENT_CHARACTER).to_string(), false)
            }
            ('f' | 'F', Value::Int(n)) => (self.fixed(*n as f64), true),
            ('f' | 'F', Value::Float(x)) => (self.fixed(*x), true),
            ('d', Value::Float(x)) => (float(*x), true),
            ('s' | 'v', Value::Str(text)) => {
                let most = self.precision.unwrap_or(usize::MAX);
                (text.chars().take(most).collect(), false)
            }
            (_, value) => (value.text(), matches!(value, Value::Int(_) | Value::Float(_))),
        };
        self.padded(&text, is_number)
    }

    fn fixed(&self, x: f64) -> String {
        format!("{x:.*}", self.precision.unwrap_or(6))
    }

    fn padded(&self, text: &str, is_number: bool) -> String {
        let plus = if self.plus && is_number && !text.starts_with('-') { "+" } else { "" };
        let missing = self.width.saturating_sub(text.chars().count() + plus.len());
        if self.left {
            return format!("{plus}{text}{}", " ".repeat(missing));
        }
        if self.zeros && is_number {
            let (sign, digits) =
                text.strip_prefix('-').map_or((plus, text), |digits| ("-", digits));
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        format!("{}{plus}{text}", " ".repeat(missing))
    }
}
