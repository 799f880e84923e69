//! Today, for templates that say it (`strftime_now`), in UTC.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

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
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
const SECONDS_OF_A_DAY: u64 = 86_400;

/// Seconds since the beginning of 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(pub u64);

impl Date {
    /// What the system says; 1970 if its clock stands before that.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, |since| since.as_secs()))
    }

    /// The date in C's notation (`%d %b %Y`). What is not known of it stays as it is.
    pub fn format(&self, format: &str) -> String {
        let (year, month, day) = self.civil();
        let second = self.0 % SECONDS_OF_A_DAY;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let name = |names: &[&'static str], at: u64| names[at as usize];
        let weekday = self.0 / SECONDS_OF_A_DAY % 7;
        let mut text = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            let written = match letters.next() {
                Some('Y') => write!(text, "{year}"),
                Some('y') => write!(text, "{:02}", year % 100),
                Some('m') => write!(text, "{month:02}"),
                Some('d') => write!(text, "{day:02}"),
                Some('B') => write!(text, "{}", name(&MONTHS, month - 1)),
                Some('b' | 'h') => write!(text, "{}", &name(&MONTHS, month - 1)[..3]),
                Some('A') => write!(text, "{}", name(&DAYS, weekday)),
                Some('a') => write!(text, "{}", &name(&DAYS, weekday)[..3]),
                Some('H') => write!(text, "{hour:02}"),
                Some('I') => write!(text, "{:02}", (hour + 11) % 12 + 1),
                Some('p') => write!(text, "{}", if hour < 12 { "AM" } else { "PM" }),
                Some('M') => write!(text, "{minute:02}"),
                Some('S') => write!(text, "{:02}", second % 60),
                Some('F') => write!(text, "{year}-{month:02}-{day:02}"),
                Some('T') => write!(text, "{hour:02}:{minute:02}:{:02}", second % 60),
                Some('%') => write!(text, "%"),
                Some(other) => write!(text, "%{other}"),
                None => write!(text, "%"),
            };
            written.expect("a string takes everything");
        }
        text
    }

    /// Year, month and day by counting from a first of March, so that the leap day comes last (Hinnant, "chrono-compatible
    /// low-level date algorithms").
    fn civil(&self) -> (u64, u64, u64) {
        const DAYS_OF_400_YEARS: u64 = 146_097;
        let days = self.0 / SECONDS_OF_A_DAY + 719_468;
        let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, later) = match month {
            0..=9 => (month + 3, 0),
            _ => (month - 9, 1),
        };
        (era * 400 + year + later, month, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, expected: &str) {
        let found = Date(seconds).format("%a %d %b %Y, %H:%M:%S %p %I");
        assert_eq!(found, expected);
    }

    #[test]
    fn dates_that_a_calendar_has() {
        check(0, "Thu 01 Jan 1970, 00:00:00 AM 12");
        check(951_782_400, "Tue 29 Feb 2000, 00:00:00 AM 12");
        check(1_709_210_096, "Thu 29 Feb 2024, 12:34:56 PM 12");
        check(4_102_444_799, "Thu 31 Dec 2099, 23:59:59 PM 11");
        assert_eq!(
            Date(0).format("%B %A %F %q%%%"),
            "January Thursday 1970-01-01 %q%%"
        );
    }
}
