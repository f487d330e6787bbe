//! Wall-clock time as text, without a dependency: converts days to a date of the proleptic Gregorian calendar.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A date and time of day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: usize,
    second_of_day: u64,
}

fn civil(unix_s: u64) -> Civil {
    let days = unix_s / 86_400;
    // Count from 1 March of year 0, so that the leap day is the last day of a year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    // 1 January 1970 was a Thursday.
    Civil { year, month, day, weekday: ((days + 4) % 7) as usize, second_of_day: unix_s % 86_400 }
}

/// `2025-11-29T21:56:00.000Z`, the format of the runbook's log lines.
pub fn rfc3339_ms(unix_ms: u64) -> String {
    let at = civil(unix_ms / 1000);
    let (hour, minute, second) = (at.second_of_day / 3600, at.second_of_day / 60 % 60, at.second_of_day % 60);
    let milli = unix_ms % 1000;
    format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", at.year, at.month, at.day)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the IMF-fixdate of RFC 9110 section 5.6.7.
pub fn http_date(unix_s: u64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = civil(unix_s);
    let (hour, minute, second) = (at.second_of_day / 3600, at.second_of_day / 60 % 60, at.second_of_day % 60);
    let (weekday, month) = (DAYS[at.weekday], MONTHS[at.month as usize - 1]);
    format!("{weekday}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} GMT", at.day, at.year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_formatted() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339_ms(1_764_453_360_007), "2025-11-29T21:56:00.007Z");
        // The example of RFC 9110 section 5.6.7.
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
