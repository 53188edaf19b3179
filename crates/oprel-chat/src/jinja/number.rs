//! Numbers as Python writes, reads and rounds them.

/// `repr` of a float: the fewest digits that read back as the same number.
pub(super) fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let (sign, digits, exponent) = shortest(x);
    let mut text = String::from(sign);
    if !(-4..16).contains(&exponent) {
        text.push_str(&digits[..1]);
        if digits.len() > 1 {
            text.push('.');
            text.push_str(&digits[1..]);
        }
        text.push_str(&exponent_text(exponent));
    } else if exponent < 0 {
        text.push_str("0.");
        text.push_str(&"0".repeat((-exponent - 1) as usize));
        text.push_str(&digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            text.push_str(&digits);
            text.push_str(&"0".repeat(whole - digits.len()));
            text.push_str(".0");
        } else {
            text.push_str(&digits[..whole]);
            text.push('.');
            text.push_str(&digits[whole..]);
        }
    }
    text
}

/// Sign, significant digits and decimal exponent of the first of them.
fn shortest(x: f64) -> (&'static str, String, i32) {
    let text = format!("{:e}", x.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let sign = if x.is_sign_negative() { "-" } else { "" };
    (sign, mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

/// `e+05`: a sign and at least two digits.
pub(super) fn exponent_text(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("e{sign}{:02}", exponent.abs())
}

/// `%.{precision}e`.
pub(super) fn exponential(x: f64, precision: usize) -> String {
    let text = format!("{x:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            mantissa.to_owned() + &exponent_text(exponent.parse().unwrap_or(0))
        }
        None => text,
    }
}

/// `%.{precision}g`; `alternate` keeps trailing zeros.
pub(super) fn general(x: f64, precision: usize, alternate: bool) -> String {
    if !x.is_finite() {
        return float_repr(x);
    }
    let precision = precision.max(1);
    let rounded = format!("{:.*e}", precision - 1, x);
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let text = if exponent < -4 || exponent >= precision as i32 {
        exponential(x, precision - 1)
    } else {
        format!("{:.*}", (precision as i32 - 1 - exponent).max(0) as usize, x)
    };
    if alternate { text } else { without_zeros(&text) }
}

fn without_zeros(text: &str) -> String {
    let (mantissa, exponent) = match text.find('e') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    if !mantissa.contains('.') {
        return text.to_owned();
    }
    mantissa.trim_end_matches('0').trim_end_matches('.').to_owned() + exponent
}

/// `int(text, base)`: signs, underscores between digits and space around are read.
pub(super) fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = super::strings::trim(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match (base, lower.get(..2)) {
        (16 | 0, Some("0x")) => (16, &lower[2..]),
        (8 | 0, Some("0o")) => (8, &lower[2..]),
        (2 | 0, Some("0b")) => (2, &lower[2..]),
        (0, _) => (10, &*lower),
        (base, _) => (base, &*lower),
    };
    let magnitude = i128::from_str_radix(&without_underscores(digits)?, base).ok()?;
    if digits.starts_with(['+', '-']) {
        return None;
    }
    Some(if negative { -magnitude } else { magnitude })
}

/// `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = without_underscores(super::strings::trim(text))?;
    let known = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    if known.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(known.as_str(), "inf" | "infinity" | "nan")
    {
        return None;
    }
    text.parse().ok()
}

/// Underscores may only stand between digits.
fn without_underscores(text: &str) -> Option<String> {
    let bad = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!bad).then(|| text.replace('_', ""))
}

/// `round(x, digits)`: to the nearest, ties to the even neighbour, judged on the exact value.
pub(super) fn round(x: f64, digits: i32) -> f64 {
    if !x.is_finite() || digits > 300 {
        return x;
    }
    if digits >= 0 {
        // Rust writes the exact value rounded half to even.
        return format!("{:.*}", digits as usize, x).parse().unwrap_or(x);
    }
    let power = 10f64.powi(-digits);
    (x / power).round_ties_even() * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456.789, "123456.789"),
            (1.0 / 3.0, "0.3333333333333333"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (x, text) in cases {
            assert_eq!(float_repr(x), text);
        }
    }

    #[test]
    fn general_format_drops_zeros_and_switches_to_exponents() {
        assert_eq!(general(100000.0, 6, false), "100000");
        assert_eq!(general(1000000.0, 6, false), "1e+06");
        assert_eq!(general(0.0001, 6, false), "0.0001");
        assert_eq!(general(0.00001234, 6, false), "1.234e-05");
    }

    #[test]
    fn integers_are_read_with_base_sign_and_underscores() {
        assert_eq!(parse_int(" -1_000 ", 10), Some(-1000));
        assert_eq!(parse_int("0xff", 16), Some(255));
        assert_eq!(parse_int("ff", 16), Some(255));
        assert_eq!(parse_int("1.5", 10), None);
        assert_eq!(parse_int("--1", 10), None);
        assert_eq!(parse_int("", 10), None);
    }

    #[test]
    fn rounding_is_to_even_on_the_exact_value() {
        assert_eq!(round(0.5, 0), 0.0);
        assert_eq!(round(1.5, 0), 2.0);
        assert_eq!(round(2.675, 2), 2.67);
        assert_eq!(round(1234.0, -2), 1200.0);
    }
}
