//! Moments as the dialect writes them: RFC 3339 with as many digits of a second as it takes.

use serde::{Serialize, Serializer};
use std::fmt;
use std::time::SystemTime;

const NS: u64 = 1_000_000_000;
const SECONDS_OF_DAY: i64 = 86_400;

/// A moment at a place: it is ordered by the moment alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Nanoseconds since 1970, UTC.
    pub unix_ns: u64,
    /// Seconds that the place's clock is ahead of UTC.
    pub offset_s: i32,
}

impl Timestamp {
    /// A moment in UTC.
    pub fn utc(unix_ns: u64) -> Timestamp {
        Timestamp { unix_ns, offset_s: 0 }
    }
}

/// In UTC. Before 1970 it is 1970.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::utc(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = (self.unix_ns / NS) as i64 + i64::from(self.offset_s);
        let (year, month, day) = civil(seconds.div_euclid(SECONDS_OF_DAY));
        let of_day = seconds.rem_euclid(SECONDS_OF_DAY);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        let fraction = self.unix_ns % NS;
        if fraction != 0 {
            let digits = format!("{fraction:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        if self.offset_s == 0 {
            return f.write_str("Z");
        }
        let minutes = self.offset_s.unsigned_abs() / 60;
        let sign = if self.offset_s < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, so that the day
/// that only some have is the last.
fn civil(day: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    // From 0000-03-01, the beginning of a cycle of 400 years.
    let day = day + 719_468;
    let cycle = day.div_euclid(DAYS_OF_400_YEARS);
    let day = day.rem_euclid(DAYS_OF_400_YEARS);
    let leap_days = day / 1_460 - day / 36_524 + day / (DAYS_OF_400_YEARS - 1);
    let year = (day - leap_days) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 153 days in every five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let january_or_february = month >= 10;
    let month = if january_or_february { month - 9 } else { month + 3 };
    (400 * cycle + year + i64::from(january_or_february), month, day)
}

#[cfg(test)]
mod tests;
