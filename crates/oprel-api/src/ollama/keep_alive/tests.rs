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
