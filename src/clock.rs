//! Wall-clock time as the log writes it: UTC, six digits, whatever TZ and the locale say.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::NaiveDate;

/// Where the time comes from; the tests put their own in its place.
pub type Now = fn() -> SystemTime;

/// A moment as text: `2026-11-23T15:51:00.123456Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp([u8; Timestamp::LEN]);

impl Timestamp {
    /// Bytes of the text; the same for every year, so that a line can be stamped in place.
    pub const LEN: usize = 27;

    /// The text of `time`. A clock before 1970 or after 9999 is held at that bound: the entry
    /// is worth more than the error.
    pub fn of(time: SystemTime) -> Timestamp {
        const LAST_SECOND: u64 = 253_402_300_799; // 9999-12-31T23:59:59Z
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs().min(LAST_SECOND);
        let (year, month, day) = date_of(seconds / 86_400);
        let second = seconds % 86_400;

        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |at: usize, width: usize, mut value: u64| {
            for digit in text[at..at + width].iter_mut().rev() {
                *digit = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, second / 3600);
        put(14, 2, second / 60 % 60);
        put(17, 2, second % 60);
        put(20, 6, since.subsec_micros().into());
        Timestamp(text)
    }

    /// The whole text.
    pub fn as_bytes(&self) -> &[u8; Timestamp::LEN] {
        &self.0
    }

    /// The date alone: `2026-11-23`.
    pub fn date(&self) -> &[u8; 10] {
        // The slice's length is a constant; the fallback is never taken.
        self.0.first_chunk().unwrap_or(b"0000-00-00")
    }

    /// Whether a date is over for good: today isn't, nor is yesterday, which clocks that differ a
    /// little still call today.
    pub fn is_over(&self, date: &[u8; 10]) -> bool {
        self.days_since(date).is_some_and(|days| days > 1)
    }

    /// How many days ago a date was; negative for one to come, `None` for what is no date.
    pub fn days_since(&self, date: &[u8; 10]) -> Option<i64> {
        let day = |date: &[u8; 10]| std::str::from_utf8(date).ok()?.parse::<NaiveDate>().ok();
        Some((day(self.date())? - day(date)?).num_days())
    }
}

/// Whether the calendar has a date, in the form in which files are named.
pub fn is_in_calendar(date: &str) -> bool {
    date.len() == 10 && date.parse::<NaiveDate>().is_ok()
}

/// The year, the month and the day of the month, by the days since 1970.
fn date_of(days: u64) -> (u64, u64, u64) {
    // From here on years begin with March, so that the leap day is their last, and time is counted
    // in periods of 400 years, which are all alike.
    const UNTIL_1970: u64 = 719_468;
    const PERIOD: u64 = 146_097;
    let (period, day) = ((days + UNTIL_1970) / PERIOD, (days + UNTIL_1970) % PERIOD);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on repeat a pattern of 153 days in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (period * 400 + year + next, month, day)
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use std::time::Duration;

    #[test]
    fn stamps_read_back_as_the_same_microsecond_in_every_year() {
        for year in 1970..=9999 {
            let text = format!("{year:04}-02-28T23:59:59.999999Z");
            let time: DateTime<Utc> = text.parse().unwrap();
            let since = Duration::from_micros(time.timestamp_micros() as u64);
            assert_eq!(Timestamp::of(UNIX_EPOCH + since).to_string(), text);
        }
    }

    #[test]
    fn every_day_of_two_periods_of_400_years_has_its_date() {
        let mut date = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let last = NaiveDate::from_ymd_opt(2800, 12, 31).unwrap();
        for day in 0.. {
            let stamp = Timestamp::of(UNIX_EPOCH + Duration::from_secs(day * 86_400));
            assert_eq!(stamp.date(), date.to_string().as_bytes());
            if date == last {
                break;
            }
            date = date.succ_opt().unwrap();
        }
    }

    #[test]
    fn days_are_counted_by_the_calendar() {
        let now = Timestamp(*b"2028-03-01T00:00:00.000000Z");
        let since = |date| now.days_since(date);
        assert_eq!(since(b"2028-02-28"), Some(2));
        assert_eq!(since(b"2028-03-02"), Some(-1));
        assert_eq!((since(b"2027-02-29"), since(b"2028-13-01")), (None, None));
    }

    #[test]
    fn clocks_out_of_range_are_held_at_the_bound() {
        assert_eq!(
            Timestamp::of(UNIX_EPOCH - Duration::from_secs(1)).to_string(),
            "1970-01-01T00:00:00.000000Z"
        );
        let late = Timestamp::of(UNIX_EPOCH + Duration::from_secs(400_000_000_000));
        assert_eq!(late.date(), b"9999-12-31");
    }
}
