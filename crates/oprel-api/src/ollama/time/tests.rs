use super::*;

#[test]
fn days_have_dates() {
    let days = [
        (0, (1970, 1, 1)),
        (58, (1970, 2, 28)),
        (59, (1970, 3, 1)),
        (11_016, (2000, 2, 29)),
        (11_017, (2000, 3, 1)),
        (19_782, (2024, 2, 29)),
        (20_088, (2024, 12, 31)),
        (20_089, (2025, 1, 1)),
        (47_540, (2100, 2, 28)),
        (47_541, (2100, 3, 1)),
        (-1, (1969, 12, 31)),
    ];
    for (day, date) in days {
        assert_eq!(civil(day), date, "{day}");
    }
}

#[test]
fn every_day_follows_the_one_before() {
    let mut before = civil(-1);
    for day in 0..220_000 {
        let now = civil(day);
        let next_day = now == (before.0, before.1, before.2 + 1);
        let next_month = now == (before.0, before.1 + 1, 1) && before.2 >= 28;
        let next_year = now == (before.0 + 1, 1, 1) && (before.1, before.2) == (12, 31);
        assert!(next_day || next_month || next_year, "{before:?} {now:?}");
        before = now;
    }
}

#[test]
fn zeros_at_the_end_of_a_fraction_are_not_written() {
    let at = |ns| Timestamp::utc(1_787_306_400 * NS + ns).to_string();
    assert_eq!(at(0), "2026-08-21T10:00:00Z");
    assert_eq!(at(123_456_789), "2026-08-21T10:00:00.123456789Z");
    assert_eq!(at(120_000_000), "2026-08-21T10:00:00.12Z");
    assert_eq!(at(1), "2026-08-21T10:00:00.000000001Z");
    assert_eq!(Timestamp::utc(u64::MAX).to_string(), "2554-07-21T23:34:33.709551615Z");
}

#[test]
fn a_place_has_its_own_clock() {
    let at = |offset_s| Timestamp { unix_ns: 1_787_306_400 * NS, offset_s }.to_string();
    assert_eq!(at(7200), "2026-08-21T12:00:00+02:00");
    assert_eq!(at(-12_600), "2026-08-21T06:30:00-03:30");
    assert_eq!(at(50_400), "2026-08-22T00:00:00+14:00");
    let early = Timestamp { unix_ns: 5, offset_s: -3600 };
    assert_eq!(early.to_string(), "1969-12-31T23:00:00.000000005-01:00");
    assert!(early < Timestamp::utc(6));
}
