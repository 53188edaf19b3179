//! How long a model stays: seconds as a number, or a duration such as `1h30m`; negative is forever.

use std::time::Duration;

use serde_json::Value;

use crate::Failure;
use crate::body::wrong;
use crate::dialect::KeepAlive;

/// Reads a `keep_alive`.
pub(super) fn read(value: &Value) -> Result<KeepAlive, Failure> {
    let seconds = match value {
        Value::String(text) => duration(text),
        number => number.as_f64(),
    };
    let seconds = seconds.ok_or_else(|| {
        wrong(format!("keep_alive must be seconds or a duration such as \"5m\", not {value}"))
    })?;
    if seconds < 0.0 {
        return Ok(KeepAlive::Forever);
    }
    // What no duration can hold is longer than anybody waits.
    Ok(Duration::try_from_secs_f64(seconds).map_or(KeepAlive::Forever, KeepAlive::For))
}

/// Seconds of a sequence of numbers with units; a lone 0 needs none.
fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut seconds = (!rest.is_empty()).then_some(0.0)?;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        seconds += number.parse::<f64>().ok()? * seconds_of(unit)?;
        rest = after;
    }
    Some(sign * seconds)
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_seconds_and_texts_have_units() {
        let lasts = |ms| Some(KeepAlive::For(Duration::from_millis(ms)));
        let table = [
            (json!(30), lasts(30_000)),
            (json!(1.5), lasts(1500)),
            (json!(0), lasts(0)),
            (json!("0"), lasts(0)),
            (json!("1h30m"), lasts(5_400_000)),
            (json!("1.5s20ms"), lasts(1520)),
            (json!(-1), Some(KeepAlive::Forever)),
            (json!("-1m"), Some(KeepAlive::Forever)),
            (json!(1e300), Some(KeepAlive::Forever)),
            (json!("30"), None),
            (json!("1d"), None),
            (json!(""), None),
            (json!("-"), None),
            (json!("."), None),
            (json!(true), None),
        ];
        for (value, wanted) in table {
            assert_eq!(read(&value).ok(), wanted, "{value}");
        }
    }
}
