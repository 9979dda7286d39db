//! The names of the log's files, and places in them.

use std::ops::Range;

/// Which of the log's files: the day, and 0 for its first file. Further ones are begun when the
/// disk didn't confirm the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DayName {
    /// `2026-11-23`.
    pub date: [u8; 10],
    /// Of the file within the day.
    pub number: u32,
    /// Whether it's compressed, and so finished.
    pub compressed: bool,
}

impl DayName {
    /// The first file of a date.
    pub fn first(date: [u8; 10]) -> DayName {
        DayName {
            date,
            number: 0,
            compressed: false,
        }
    }

    /// The file of the day that follows it.
    pub fn next(self) -> DayName {
        DayName {
            number: self.number + 1,
            ..self
        }
    }

    /// The same file, compressed.
    pub fn compressed(self) -> DayName {
        DayName {
            compressed: true,
            ..self
        }
    }

    /// The same file as it was before it was compressed, if it is: what the tree calls it.
    pub fn uncompressed(self) -> DayName {
        DayName {
            compressed: false,
            ..self
        }
    }

    /// The name of the file.
    pub fn file_name(&self) -> String {
        let date = String::from_utf8_lossy(&self.date);
        let end = if self.compressed { ".gz" } else { "" };
        match self.number {
            0 => format!("audit_{date}.jsonl{end}"),
            number => format!("audit_{date}.{number}.jsonl{end}"),
        }
    }

    /// The file that has a name, if it's one of a day's.
    pub fn parse(name: &str) -> Option<DayName> {
        let rest = name.strip_prefix("audit_")?;
        let (rest, compressed) = match rest.strip_suffix(".gz") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = rest.strip_suffix(".jsonl")?;
        let (date, number) = match rest.split_once('.') {
            None => (rest, 0),
            Some((date, number)) => (
                date,
                // As many digits as the tree's records allow.
                number
                    .parse()
                    .ok()
                    .filter(|number| (1..1_000_000_000).contains(number))?,
            ),
        };
        let date: [u8; 10] = date.as_bytes().try_into().ok()?;
        let day = DayName {
            date,
            number,
            compressed,
        };
        // One name for each: "audit_2026-11-23.01.jsonl" is nobody's.
        (is_date(&date) && day.file_name() == name).then_some(day)
    }
}

/// Whether a text has the form of a date. Whether the calendar has it isn't asked.
pub fn is_date(text: &[u8]) -> bool {
    let digits = |range: Range<usize>| text[range].iter().all(u8::is_ascii_digit);
    text.len() == 10
        && digits(0..4)
        && text[4] == b'-'
        && digits(5..7)
        && text[7] == b'-'
        && digits(8..10)
}

/// A place in the log that an entry isn't before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub day: DayName,
    /// Bytes from its beginning.
    pub offset: u64,
}

impl Place {
    /// Before every entry of a date.
    pub fn head_of(date: [u8; 10]) -> Place {
        Place {
            day: DayName::first(date),
            offset: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_nobody_s() {
        for name in [
            "audit_2026-11-23.jsonl",
            "audit_2026-11-23.1.jsonl",
            "audit_1970-01-01.120.jsonl.gz",
        ] {
            assert_eq!(
                DayName::parse(name).map(|day| day.file_name()).as_deref(),
                Some(name)
            );
        }
        for name in [
            "audit_2026-11-23.0.jsonl",
            "audit_2026-11-23.01.jsonl",
            "audit_2026-11-23.-1.jsonl",
            "audit_2026-11-2.jsonl",
            "audit_2026/11/23.jsonl",
            "audit_2026-11-23.jsonl.bak",
            "audit_2026-11-23.1.2.jsonl",
            "audit_.jsonl",
        ] {
            assert_eq!(DayName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_files_of_a_day_follow_each_other() {
        let number = |number| DayName {
            number,
            ..DayName::first(*b"2026-11-23")
        };
        assert!(number(0) < number(1) && number(2) < number(10));
        assert!(number(10) < DayName::first(*b"2026-11-24"));
    }
}
