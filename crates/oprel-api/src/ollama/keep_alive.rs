//! How long a model stays: seconds, or a duration in words such as `1h30m`.

use std::time::Duration;

use serde_json::Value;

use crate::Failure;
use crate::dialect::KeepAlive;

use super::fields::{kind, wrong};

/// What the field `keep_alive` of a request says: seconds, or a duration in words; below zero is
/// for ever.
pub(crate) fn read(value: &Value) -> Result<KeepAlive, Failure> {
    match value {
        Value::Number(n) => Ok(of_seconds(n.as_f64().unwrap_or(f64::MAX))),
        Value::String(text) => duration(text).map(of_ns).map_err(|why| wrong(why.text(text))),
        other => {
            let kind = kind(other);
            Err(wrong(format!("keep_alive must be a number of seconds or a text, not {kind}")))
        }
    }
}

/// What an environment variable says: a duration in words or a whole number of seconds. `None` if
/// it is neither.
pub fn env_keep_alive(text: &str) -> Option<KeepAlive> {
    if let Ok(ns) = duration(text) {
        return Some(of_ns(ns));
    }
    text.parse::<i64>().ok().map(|seconds| of_seconds(seconds as f64))
}

fn of_seconds(seconds: f64) -> KeepAlive {
    if seconds < 0.0 {
        return KeepAlive::Forever;
    }
    // Casts saturate.
    of_ns((seconds * 1e9) as i64)
}

fn of_ns(ns: i64) -> KeepAlive {
    match u64::try_from(ns) {
        Ok(ns) if ns < i64::MAX as u64 => KeepAlive::For(Duration::from_nanos(ns)),
        _ => KeepAlive::Forever,
    }
}

/// What is wrong with a duration.
#[derive(Debug, PartialEq)]
enum Why<'a> {
    Invalid,
    NoUnit,
    Unit(&'a str),
}

impl Why<'_> {
    fn text(&self, duration: &str) -> String {
        match self {
            Why::Invalid => format!("time: invalid duration {duration:?}"),
            Why::NoUnit => format!("time: missing unit in duration {duration:?}"),
            Why::Unit(unit) => format!("time: unknown unit {unit:?} in duration {duration:?}"),
        }
    }
}

/// Nanoseconds of a sign and a sequence of decimals with units, or of a bare 0.
fn duration(text: &str) -> Result<i64, Why<'_>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(Why::Invalid);
    }
    let mut rest = unsigned;
    let mut sum = 0_u128;
    while !rest.is_empty() {
        let number = take_while(&mut rest, |c| c.is_ascii_digit() || c == '.');
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(Why::Invalid);
        }
        let unit = take_while(&mut rest, |c| !c.is_ascii_digit() && c != '.');
        if unit.is_empty() {
            return Err(Why::NoUnit);
        }
        let unit = ns_of(unit).ok_or(Why::Unit(unit))?;
        let ns = parts(whole, fraction, unit).ok_or(Why::Invalid)?;
        sum += ns;
        if sum > i64::MAX as u128 {
            return Err(Why::Invalid);
        }
    }
    let sum = sum as i64;
    Ok(if text.starts_with('-') { -sum } else { sum })
}

fn take_while<'a>(rest: &mut &'a str, is: impl Fn(char) -> bool) -> &'a str {
    let at = rest.find(|c| !is(c)).unwrap_or(rest.len());
    let (taken, left) = rest.split_at(at);
    *rest = left;
    taken
}

fn ns_of(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `whole.fraction` units in nanoseconds, cut. More than fits is none.
fn parts(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole = whole.bytes().try_fold(0_u64, |sum, c| {
        sum.checked_mul(10)?.checked_add(u64::from(c - b'0')).filter(|&n| n <= i64::MAX as u64)
    })?;
    // Further digits are less than a nanosecond of an hour.
    let digits = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(digits.len() as u32);
    let digits = digits.bytes().fold(0_u128, |sum, c| sum * 10 + u128::from(c - b'0'));
    Some(u128::from(whole) * unit + digits * unit / scale)
}

#[cfg(test)]
mod tests;
