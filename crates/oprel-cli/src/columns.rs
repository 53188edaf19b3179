//! Tables, sizes and times as programs that read Ollama's output expect them.

use std::time::{Duration, SystemTime};

use crate::commands::print;
use crate::outcome::harmless;

/// Columns as wide as their widest text, four spaces apart.
pub(crate) fn table<const N: usize>(rows: Vec<[String; N]>) -> anyhow::Result<()> {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(text, width)| format!("{text:<width$}    "));
        print(&harmless(cells.collect::<String>().trim_end()))?;
    }
    Ok(())
}

/// A size in decimal units, two digits or more of it: `2.0 GB`, `39 GB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB")];
    let Some((unit, word)) = UNITS.into_iter().find(|(unit, _)| n >= *unit) else {
        return format!("{n} B");
    };
    match n / unit {
        whole if whole >= 10 || n.is_multiple_of(unit) => format!("{whole} {word}"),
        _ => format!("{:.1} {word}", n as f64 / unit as f64),
    }
}

/// How long ago something was: `3 days ago`.
pub(crate) fn ago(time: SystemTime) -> String {
    let now = SystemTime::now();
    match now.duration_since(time) {
        Ok(since) => format!("{} ago", long(since)),
        Err(ahead) => format!("{} from now", long(ahead.duration())),
    }
}

fn long(time: Duration) -> String {
    let (seconds, minutes) = (time.as_secs(), time.as_secs() / 60);
    let hours = (time.as_secs_f64() / 3600.0).round() as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (n, text) in [
            (2_019_377_376, "2.0 GB"),
            (39_969_000_000, "39 GB"),
            (62_141_444, "62 MB"),
            (4_000_000_000, "4 GB"),
            (1_500, "1.5 KB"),
            (999, "999 B"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let hour = 3600;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (119, "About a minute"),
            (59 * 60, "59 minutes"),
            (80 * 60, "About an hour"),
            (47 * hour, "47 hours"),
            (3 * 24 * hour, "3 days"),
            (15 * 24 * hour, "2 weeks"),
            (90 * 24 * hour, "3 months"),
            (3 * 365 * 24 * hour, "3 years"),
        ] {
            assert_eq!(long(Duration::from_secs(seconds)), text);
        }
    }
}
