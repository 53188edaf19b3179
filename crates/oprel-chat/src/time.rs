//! A moment as a calendar and a clock show it, and how templates write it.
//!
//! Never reads a clock: the moment is passed in.

use std::fmt::Write;

/// A moment as a calendar and a clock on the wall show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Seconds since 1970-01-01 00:00 on this wall.
    seconds: i64,
    micros: u32,
}

const SECONDS_OF_DAY: i64 = 86_400;
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A date and what follows from it.
struct Date {
    year: i64,
    month: u32,
    day: u32,
    /// 0 is Sunday.
    weekday: i64,
    /// 0 is the first of January.
    day_of_year: i64,
}

impl LocalTime {
    /// The moment so many seconds after 1970-01-01 00:00 UTC, on a wall that is `offset_seconds`
    /// ahead of UTC.
    pub fn from_unix(seconds: i64, offset_seconds: i32) -> LocalTime {
        // Years with four digits, as Python's dates have them.
        let seconds = seconds.saturating_add(offset_seconds.into());
        LocalTime { seconds: seconds.clamp(-62_135_596_800, 253_402_300_799), micros: 0 }
    }

    /// The moment so many seconds after 1970-01-01 00:00 UTC, in UTC.
    pub fn utc(seconds: i64) -> LocalTime {
        LocalTime::from_unix(seconds, 0)
    }

    /// The same moment with so many microseconds.
    #[must_use]
    pub fn with_micros(self, micros: u32) -> LocalTime {
        LocalTime { micros: micros.min(999_999), ..self }
    }

    /// So many seconds later.
    #[must_use]
    pub(crate) fn plus(self, seconds: i32) -> LocalTime {
        LocalTime { seconds: self.seconds.saturating_add(seconds.into()), ..self }
    }

    fn date(self) -> Date {
        let days = self.seconds.div_euclid(SECONDS_OF_DAY);
        let (year, month, day) = civil(days);
        let day_of_year = days - days_until(year, 1, 1);
        Date { year, month, day, weekday: (days + 4).rem_euclid(7), day_of_year }
    }

    /// What C's `strftime` writes in the C locale, with glibc's flags for padding.
    ///
    /// A directive that does not exist is written as it stands.
    pub fn strftime(self, format: &str) -> String {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut flag = None;
            let mut directive = chars.next();
            while let Some(f) = directive.filter(|f| "-_0^#".contains(*f)) {
                flag = Some(f);
                directive = chars.next();
            }
            match directive {
                Some(directive) => self.directive(directive, flag, &mut out),
                None => out.push('%'),
            }
        }
        out
    }

    fn directive(self, directive: char, flag: Option<char>, out: &mut String) {
        let date = self.date();
        let time = self.seconds.rem_euclid(SECONDS_OF_DAY);
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        let hour12 = (hour + 11) % 12 + 1;
        let month = MONTHS[date.month as usize - 1];
        let weekday = DAYS[date.weekday as usize];
        let mut number = |n: i64, width: usize, fill: char| push_number(n, width, fill, flag, out);
        let monday_based = (date.weekday + 6) % 7;
        match directive {
            'd' => return number(date.day.into(), 2, '0'),
            'e' => return number(date.day.into(), 2, ' '),
            'm' => return number(date.month.into(), 2, '0'),
            'Y' => return number(date.year, 1, '0'),
            'y' => return number(date.year.rem_euclid(100), 2, '0'),
            'C' => return number(date.year.div_euclid(100), 2, '0'),
            'H' => return number(hour, 2, '0'),
            'k' => return number(hour, 2, ' '),
            'I' => return number(hour12, 2, '0'),
            'l' => return number(hour12, 2, ' '),
            'M' => return number(minute, 2, '0'),
            'S' => return number(second, 2, '0'),
            'f' => return number(self.micros.into(), 6, '0'),
            'j' => return number(date.day_of_year + 1, 3, '0'),
            'w' => return number(date.weekday, 1, '0'),
            'u' => return number(monday_based + 1, 1, '0'),
            's' => return number(self.seconds, 1, '0'),
            'U' => return number((date.day_of_year + 7 - date.weekday) / 7, 2, '0'),
            'W' => return number((date.day_of_year + 7 - monday_based) / 7, 2, '0'),
            'V' => return number(iso_week(&date).1, 2, '0'),
            'G' => return number(iso_week(&date).0, 1, '0'),
            'g' => return number(iso_week(&date).0.rem_euclid(100), 2, '0'),
            _ => {}
        }
        let text = match directive {
            'a' => weekday[..3].to_owned(),
            'A' => weekday.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'B' => month.to_owned(),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'P' => if hour < 12 { "am" } else { "pm" }.to_owned(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            'z' | 'Z' => String::new(),
            'c' => self.strftime("%a %b %e %H:%M:%S %Y"),
            'D' | 'x' => self.strftime("%m/%d/%y"),
            'F' => self.strftime("%Y-%m-%d"),
            'T' | 'X' => self.strftime("%H:%M:%S"),
            'R' => self.strftime("%H:%M"),
            'r' => self.strftime("%I:%M:%S %p"),
            other => format!("%{other}"),
        };
        match flag {
            Some('^') => out.push_str(&text.to_uppercase()),
            Some('#') if directive == 'p' => out.push_str(&text.to_lowercase()),
            Some('#') => out.push_str(&text.to_uppercase()),
            _ => out.push_str(&text),
        }
    }
}

fn push_number(n: i64, width: usize, fill: char, flag: Option<char>, out: &mut String) {
    let (width, fill) = match flag {
        Some('-') => (0, fill),
        Some('_') => (width, ' '),
        Some('0') => (width, '0'),
        _ => (width, fill),
    };
    // Writing to a String cannot fail.
    let _ = match fill {
        '0' => write!(out, "{n:0width$}"),
        _ => write!(out, "{n:width$}"),
    };
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// Days from 1970-01-01 to a date: the inverse of [`civil`].
fn days_until(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year and week by ISO 8601: a week belongs to the year of its Thursday.
fn iso_week(date: &Date) -> (i64, i64) {
    let monday_based = (date.weekday + 6) % 7;
    let thursday = date.day_of_year - monday_based + 3;
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let len = |year: i64| if leap(year) { 366 } else { 365 };
    if thursday < 0 {
        return (date.year - 1, (thursday + len(date.year - 1)) / 7 + 1);
    }
    if thursday >= len(date.year) {
        return (date.year + 1, (thursday - len(date.year)) / 7 + 1);
    }
    (date.year, thursday / 7 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-07-26 15:04:05 UTC, a Friday.
    const MOMENT: i64 = 1_722_006_245;

    #[test]
    fn the_directives_of_templates_are_written() {
        let now = LocalTime::utc(MOMENT);
        assert_eq!(now.strftime("%d %b %Y"), "26 Jul 2024");
        assert_eq!(now.strftime("%Y-%m-%d"), "2024-07-26");
        assert_eq!(now.strftime("%B %d, %Y"), "July 26, 2024");
        assert_eq!(now.strftime("%A, %H:%M:%S %p %I"), "Friday, 15:04:05 PM 03");
        assert_eq!(now.strftime("%-d %e %j %U %W %V 100%%"), "26 26 208 29 30 30 100%");
        assert_eq!(now.strftime("%c|%x|%X|%y"), "Fri Jul 26 15:04:05 2024|07/26/24|15:04:05|24");
    }

    #[test]
    fn an_offset_moves_the_day() {
        assert_eq!(LocalTime::from_unix(MOMENT, 9 * 3600).strftime("%F %R"), "2024-07-27 00:04");
        assert_eq!(LocalTime::utc(-1).strftime("%F %T"), "1969-12-31 23:59:59");
    }

    #[test]
    fn weeks_belong_to_the_year_of_their_thursday() {
        let day = |y, m, d| LocalTime::utc(days_until(y, m, d) * SECONDS_OF_DAY).strftime("%G-%V");
        assert_eq!(day(2021, 1, 1), "2020-53");
        assert_eq!(day(2024, 12, 30), "2025-01");
        assert_eq!(day(2023, 1, 1), "2022-52");
    }

    #[test]
    fn any_number_of_seconds_is_some_date() {
        assert_eq!(LocalTime::utc(i64::MIN).strftime("%F"), "1-01-01");
        assert_eq!(LocalTime::from_unix(i64::MAX, i32::MAX).strftime("%F"), "9999-12-31");
    }
}
