//! Time in steps: as many as a chart can show and a page can hold, whatever the log.

use chrono::{Datelike, Days, Months, NaiveDate};

/// How many steps there are at most, but of weeks and days somewhat more.
const MOST: i64 = 125;

/// How many labels stand below a chart.
const LABELS: usize = 9;
/// And of those that name a year.
const WITH_YEAR: usize = 6;

/// How long a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
    Years(i32),
}

/// The steps from one day to another, both among them.
#[derive(Clone, Copy)]
pub struct Steps {
    length: Length,
    /// When the first step begins.
    first: NaiveDate,
    pub count: usize,
}

impl Steps {
    pub fn between(first: NaiveDate, last: NaiveDate) -> Steps {
        let days = (last - first).num_days() + 1;
        let months = i64::from(last.year() - first.year()) * 12 + i64::from(last.month())
            - i64::from(first.month())
            + 1;
        let years = last.year() - first.year() + 1;
        let (length, first) = if days * 24 <= MOST {
            (Length::Hour, first)
        } else if days <= MOST {
            (Length::Day, first)
        } else if days <= MOST * 7 {
            let monday = first - Days::new(first.weekday().num_days_from_monday().into());
            (Length::Week, monday)
        } else if months <= MOST {
            (Length::Month, first.with_day(1).unwrap_or(first))
        } else {
            let each = (i64::from(years) + MOST - 1) / MOST;
            (
                Length::Years(each as i32),
                first.with_ordinal(1).unwrap_or(first),
            )
        };
        let mut steps = Steps {
            length,
            first,
            count: 0,
        };
        steps.count = steps.of(last, 23) + 1;
        steps
    }

    /// The step of an hour of a day.
    pub fn of(&self, day: NaiveDate, hour: usize) -> usize {
        let days = (day - self.first).num_days().max(0);
        let years = day.year() - self.first.year();
        match self.length {
            Length::Hour => days as usize * 24 + hour,
            Length::Day => days as usize,
            Length::Week => days as usize / 7,
            Length::Month => {
                (years * 12 + day.month0() as i32 - self.first.month0() as i32) as usize
            }
            Length::Years(each) => (years / each) as usize,
        }
    }

    /// Whether the hour of an entry matters.
    pub fn are_hours(&self) -> bool {
        self.length == Length::Hour
    }

    /// The day on which a step begins, and its hour.
    fn begin(&self, step: usize) -> (NaiveDate, usize) {
        let days = |count: usize| self.first.checked_add_days(Days::new(count as u64));
        let months = |count: usize| self.first.checked_add_months(Months::new(count as u32));
        let day = match self.length {
            Length::Hour => days(step / 24),
            Length::Day => days(step),
            Length::Week => days(step * 7),
            Length::Month => months(step),
            Length::Years(each) => months(step * 12 * each as usize),
        };
        let hour = match self.length {
            Length::Hour => step % 24,
            _ => 0,
        };
        (day.unwrap_or(NaiveDate::MAX), hour)
    }

    /// What a step is called in a table.
    pub fn name(&self, step: usize) -> String {
        let (day, hour) = self.begin(step);
        match self.length {
            Length::Hour => format!("{day} {hour:02}:00"),
            Length::Day | Length::Week => day.to_string(),
            Length::Month => day.format("%Y-%m").to_string(),
            Length::Years(_) => day.year().to_string(),
        }
    }

    /// What one step is.
    pub fn unit(&self) -> String {
        match self.length {
            Length::Hour => "hour".to_owned(),
            Length::Day => "day".to_owned(),
            Length::Week => "week from".to_owned(),
            Length::Month => "month".to_owned(),
            Length::Years(1) => "year".to_owned(),
            Length::Years(each) => format!("{each} years from"),
        }
    }

    /// The steps that have a label below a chart, and those labels.
    pub fn labels(&self) -> Vec<(usize, String)> {
        let strides: &[usize] = match self.length {
            Length::Hour => &[1, 2, 3, 6, 12, 24],
            Length::Day => &[1, 2, 7, 14, 28],
            Length::Week => &[1, 2, 4, 13, 26],
            Length::Month => &[1, 3, 6, 12, 24],
            Length::Years(_) => &[1, 2, 5, 10, 20, 50],
        };
        // A day and its month say which day it is within one year alone.
        let last = self.begin(self.count.saturating_sub(1)).0;
        let is_one_year = self.first.year() == last.year();
        let date = if is_one_year { "%-d %b" } else { "%-d %b %Y" };
        let most = match self.length {
            Length::Month | Length::Years(_) => LABELS,
            _ if is_one_year => LABELS,
            _ => WITH_YEAR,
        };
        let fits = |stride: &&usize| self.count.div_ceil(**stride) <= most;
        let longest = strides.last().unwrap_or(&1);
        let stride = strides.iter().find(fits).unwrap_or(longest);
        let label = |step| {
            let (day, hour) = self.begin(step);
            let label = match self.length {
                Length::Hour if hour == 0 => day.format(date).to_string(),
                Length::Hour => format!("{hour:02}:00"),
                Length::Day | Length::Week => day.format(date).to_string(),
                Length::Month => day.format("%b %Y").to_string(),
                Length::Years(_) => day.year().to_string(),
            };
            (step, label)
        };
        (0..self.count).step_by(*stride).map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    #[test]
    fn whatever_the_range_each_day_has_a_step_and_there_are_few() {
        let first = date("2024-02-28");
        let ends = (0..2000).chain([20_000, 200_000, 2_900_000]);
        for days in ends {
            let last = first + Days::new(days);
            let steps = Steps::between(first, last);
            assert!((1..=130).contains(&steps.count), "{days}: {}", steps.count);
            assert_eq!(steps.of(first, 0), 0);
            assert!(steps.labels().len() <= 10, "{days}: {:?}", steps.labels());
            for day in [0, days / 3, days / 2, days] {
                let day = first + Days::new(day);
                let step = steps.of(day, 23);
                assert!(step < steps.count, "{days}");
                assert!(steps.begin(step).0 <= day, "{days}");
                if step + 1 < steps.count {
                    assert!(steps.begin(step + 1) > (day, 23), "{days}");
                }
            }
        }
    }

    #[test]
    fn the_marks_of_a_year_s_end_say_which_year_they_are_of() {
        for (first, last, marks) in [
            (
                "2026-12-31",
                "2027-01-02",
                "31 Dec 2026, 12:00, 1 Jan 2027, 12:00, 2 Jan 2027, 12:00",
            ),
            (
                "2026-12-01",
                "2027-01-31",
                "1 Dec 2026, 15 Dec 2026, 29 Dec 2026, 12 Jan 2027, 26 Jan 2027",
            ),
            (
                "2025-10-23",
                "2026-11-27",
                "20 Oct 2025, 19 Jan 2026, 20 Apr 2026, 20 Jul 2026, 19 Oct 2026",
            ),
            (
                "2026-11-01",
                "2026-11-09",
                "1 Nov, 2 Nov, 3 Nov, 4 Nov, 5 Nov, 6 Nov, 7 Nov, 8 Nov, 9 Nov",
            ),
        ] {
            let labels = Steps::between(date(first), date(last)).labels();
            let labels: Vec<String> = labels.into_iter().map(|(_, label)| label).collect();
            assert_eq!(labels.join(", "), marks);
        }
    }

    #[test]
    fn the_length_of_a_step_follows_the_range() {
        for (last, unit, name) in [
            ("2026-11-05", "hour", "2026-11-01 00:00"),
            ("2026-11-06", "day", "2026-11-01"),
            ("2027-03-05", "day", "2026-11-01"),
            ("2027-04-05", "week from", "2026-10-26"),
            ("2030-04-05", "month", "2026-11"),
            ("2040-04-05", "year", "2026"),
            ("2300-04-05", "3 years from", "2026"),
        ] {
            let steps = Steps::between(date("2026-11-01"), date(last));
            assert_eq!((&*steps.unit(), &*steps.name(0)), (unit, name), "{last}");
        }
    }
}
