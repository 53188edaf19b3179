//! How long a model stays: seconds, or a duration in words such as `1h30m`.

use std::time::Duration;

use serde_json::Value;

use crate::Failure;
use crate::dialect::KeepAlive;

use super::fields::{kind, wrong};

/// What the field `keep_alive` of a request says: seconds, or a duration in words; below zero is for
/// ever.
pub(super) fn read(value: &Value) -> Result<KeepAlive, Failure> {
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
mod tests {
    use super::*;
    use serde_json::json;

    const S: i64 = 1_000_000_000;

    #[test]
    fn durations_are_decimals_with_units() {
        let good = [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5 * S),
            ("+5s", 5 * S),
            ("-5s", -5 * S),
            ("30s", 30 * S),
            ("1478s", 1478 * S),
            ("5.0s", 5 * S),
            ("5.6s", 56 * S / 10),
            ("5.s", 5 * S),
            (".5s", S / 2),
            ("-.5s", -S / 2),
            ("1.0040s", 1004 * S / 1000),
            ("100.00100s", 100_001 * S / 1000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("15m", 900 * S),
            ("16h", 57_600 * S),
            ("3h30m", 12_600 * S),
            ("10.5s4m", 250 * S + S / 2),
            ("-2m3.4s", -(123 * S + 4 * S / 10)),
            ("1h2m3s4ms5us6ns", 3723 * S + 4_005_006),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036s854ms775us807ns", i64::MAX),
            ("0.100000000000000000000h", 360 * S),
        ];
        for (text, ns) in good {
            assert_eq!(duration(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told() {
        let bad = [
            ("", "time: invalid duration \"\""),
            ("30", "time: missing unit in duration \"30\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
            ("-", "time: invalid duration \"-\""),
            ("s", "time: invalid duration \"s\""),
            (".", "time: invalid duration \".\""),
            (".s", "time: invalid duration \".s\""),
            ("+.s", "time: invalid duration \"+.s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1h 5m", "time: unknown unit \"h \" in duration \"1h 5m\""),
            (" 5s", "time: invalid duration \" 5s\""),
            ("1e3s", "time: unknown unit \"e\" in duration \"1e3s\""),
            ("5m3", "time: missing unit in duration \"5m3\""),
            ("--5s", "time: invalid duration \"--5s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
            ("forever", "time: invalid duration \"forever\""),
        ];
        for (text, why) in bad {
            assert_eq!(read(&json!(text)).unwrap_err().message, why);
        }
    }

    #[test]
    fn numbers_are_seconds_and_less_than_zero_is_for_ever() {
        let seconds = |s| KeepAlive::For(Duration::from_secs_f64(s));
        let good = [
            (json!(30), seconds(30.0)),
            (json!(1.5), seconds(1.5)),
            (json!(0), seconds(0.0)),
            (json!(0.0), seconds(0.0)),
            (json!("0"), seconds(0.0)),
            (json!("30s"), seconds(30.0)),
            (json!(-1), KeepAlive::Forever),
            (json!(-0.5), KeepAlive::Forever),
            (json!("-1m"), KeepAlive::Forever),
            (json!("-1s"), KeepAlive::Forever),
            (json!(1e300), KeepAlive::Forever),
            (json!(u64::MAX), KeepAlive::Forever),
        ];
        for (value, stays) in good {
            assert_eq!(read(&value), Ok(stays), "{value}");
        }
        for bad in [json!(true), json!([]), json!({})] {
            assert!(read(&bad).unwrap_err().message.starts_with("keep_alive must be"), "{bad}");
        }
    }

    #[test]
    fn a_variable_may_also_be_a_number_of_seconds() {
        let table = [
            ("5m", Some(KeepAlive::For(Duration::from_secs(300)))),
            ("60", Some(KeepAlive::For(Duration::from_secs(60)))),
            ("0", Some(KeepAlive::For(Duration::ZERO))),
            ("-1", Some(KeepAlive::Forever)),
            ("-1s", Some(KeepAlive::Forever)),
            ("9223372036854775807", Some(KeepAlive::Forever)),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ];
        for (text, stays) in table {
            assert_eq!(env_keep_alive(text), stays, "{text}");
        }
    }
}
