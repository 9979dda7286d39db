//! What was found of the lines that came, and of those that didn't: counted by host and day, and judged.

use std::collections::BTreeMap;
use std::path::Path;

use audit_logger::tool::far::Place;
use audit_logger::tool::report::Report;
use audit_logger::tool::{Error, Status};

use super::fleet::Host;
use super::line::{Line, Standing};
use super::prefix;

/// How many lines are named.
pub const NAMED: usize = 100;

/// What each host's tree was found to be, or why there is no answer of it: the others have theirs.
pub struct Answers<'h> {
    hosts: &'h [Host],
    /// In the same order.
    answers: Vec<Result<Report, Error>>,
}

/// What was found of one log's day.
#[derive(Default)]
pub struct Counts {
    missing: u64,
    unknown: u64,
    overdue: u64,
    recent: u64,
    unsealed: u64,
    doubled: u64,
    /// Of a host whose tree gives no answer.
    unanswered: u64,
}

/// The same, as it's told: each line once.
#[derive(Default)]
pub struct Told {
    pub altered: u64,
    pub missing: u64,
    pub unknown: u64,
    pub overdue: u64,
    pub unsealed: u64,
    pub doubled: u64,
    pub unanswered: u64,
}

/// What was found of all.
pub struct Found<'h> {
    pub answers: Answers<'h>,
    pub lines: u64,
    pub sealed: u64,
    /// By log and day.
    pub days: BTreeMap<(String, String), Counts>,
    /// The first of them.
    pub missing: Vec<Missing>,
    pub strange: Vec<Strange>,
}

/// A sealed line that isn't there.
pub struct Missing {
    pub host: String,
    pub file: String,
    pub line: u64,
}

/// A line that nobody sealed.
pub struct Strange {
    /// Of what was given: the file, and the number in it.
    pub file: String,
    pub number: u64,
    pub standing: Standing,
    pub line: Line,
}

impl<'h> Answers<'h> {
    pub fn new(hosts: &'h [Host], answers: Vec<Result<Report, Error>>) -> Answers<'h> {
        Answers { hosts, answers }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'h Host, &Result<Report, Error>)> {
        self.hosts.iter().zip(&self.answers)
    }

    /// That of a host by its name.
    fn of(&self, name: &str) -> Option<&Result<Report, Error>> {
        let mut hosts = self.iter();
        hosts.find_map(|(host, answer)| (host.name == name).then_some(answer))
    }

    /// When a host was last sealed. A line that names none of them may be any host's.
    pub fn last_seal(&self, name: &str) -> &str {
        let seals = || {
            self.answers
                .iter()
                .flatten()
                .map(|report| &report.last_seal)
        };
        let last = match self.of(name) {
            Some(Ok(report)) => Some(&report.last_seal),
            _ => seals().max(),
        };
        last.map_or("", String::as_str)
    }
}

impl Counts {
    pub fn told(&self) -> Told {
        let mut told = Told {
            missing: self.missing,
            unknown: self.unknown,
            overdue: self.overdue,
            unsealed: self.unsealed,
            doubled: self.doubled,
            unanswered: self.unanswered,
            ..Told::default()
        };
        let mut recent = self.recent;
        // A sealed line that isn't there, and one that isn't sealed and says it's of the same day: that is the one,
        // changed. One that was written since wouldn't be sealed in any case.
        for count in [&mut told.overdue, &mut told.unknown, &mut recent] {
            let pairs = told.missing.min(*count);
            told.missing -= pairs;
            *count -= pairs;
            told.altered += pairs;
        }
        told.unsealed += recent;
        told
    }
}

impl Told {
    fn add(&mut self, other: &Told) {
        self.altered += other.altered;
        self.missing += other.missing;
        self.unknown += other.unknown;
        self.overdue += other.overdue;
        self.unsealed += other.unsealed;
        self.doubled += other.doubled;
        self.unanswered += other.unanswered;
    }
}

impl<'h> Found<'h> {
    /// Nothing yet, of so many sealed lines.
    pub fn new(answers: Answers<'h>, sealed: u64) -> Found<'h> {
        Found {
            answers,
            lines: 0,
            sealed,
            days: BTreeMap::new(),
            missing: Vec::new(),
            strange: Vec::new(),
        }
    }

    fn day(&mut self, host: &str, day: &str) -> &mut Counts {
        /// A hostile line may claim any day.
        const MOST: usize = 10_000;
        // Nor is any host that it may claim one of these.
        let host = self.answers.of(host).map_or("", |_| host);
        let mut place = (host.to_owned(), day.to_owned());
        if self.days.len() >= MOST && !self.days.contains_key(&place) {
            place = (String::new(), "other days".to_owned());
        }
        self.days.entry(place).or_default()
    }

    /// A sealed line came once more.
    pub fn came_again(&mut self, line: &Line) {
        self.day(&line.host, &line.day).doubled += 1;
    }

    /// A line came that isn't sealed.
    pub fn isn_t_sealed(&mut self, file: &Path, number: u64, line: Line) {
        let is_answered = !matches!(self.answers.of(&line.host), Some(Err(_)));
        let standing = line.standing(self.answers.last_seal(&line.host));
        let counts = self.day(&line.host, &line.day);
        match standing {
            _ if !is_answered => {
                counts.unanswered += 1;
                return;
            }
            Standing::Unsealed => {
                counts.unsealed += 1;
                return;
            }
            Standing::Recent => counts.recent += 1,
            Standing::Overdue => counts.overdue += 1,
            Standing::Unknown => counts.unknown += 1,
        }
        if self.strange.len() < NAMED {
            self.strange.push(Strange {
                file: file.display().to_string(),
                number,
                standing,
                line,
            });
        }
    }

    /// A sealed line didn't come.
    pub fn misses(&mut self, host: &str, day: &str, place: &Place<'_>) {
        self.day(host, day).missing += 1;
        if self.missing.len() < NAMED {
            self.missing.push(Missing {
                host: host.to_owned(),
                file: place.file.to_owned(),
                line: place.line,
            });
        }
    }

    /// Of all days; of one host's, if one is named.
    pub fn told(&self, host: Option<&str>) -> Told {
        let mut told = Told::default();
        for ((of, _), counts) in &self.days {
            if host.is_none_or(|host| host == of) {
                told.add(&counts.told());
            }
        }
        told
    }

    /// An error that says what is wrong, if something is.
    pub fn verdict(&self) -> Result<(), Error> {
        let tampered = |message| Err(Error::new(Status::Tampered, message));
        for (host, answer) in self.answers.iter() {
            let verdict = match answer {
                Ok(report) => report.verdict(),
                Err(error) => Err(Error::new(error.status, error.message.clone())),
            };
            verdict.map_err(|error| {
                Error::new(
                    error.status,
                    format!("{}{}", prefix(&host.name), error.message),
                )
            })?;
        }
        let told = self.told(None);
        let (missing, unknown) = (told.missing + told.altered, told.unknown + told.altered);
        if missing + unknown > 0 {
            return tampered(format!(
                "{missing} sealed lines aren't there, and {unknown} lines are no sealed ones"
            ));
        }
        if let Some(message) = self.overdue() {
            return tampered(message);
        }
        for (host, answer) in self.answers.iter() {
            if let Ok(report) = answer
                && host.is_silent(report)
            {
                let (name, since) = (&host.name, &report.last_seal);
                let more = match self.told(Some(name)).unsealed {
                    0 => String::new(),
                    count => format!(
                        ", and {count} of its lines came that were stamped since: it isn't sealed any more, or its \
                         tree isn't copied"
                    ),
                };
                return tampered(format!("{name} has been silent since {since}{more}"));
            }
        }
        Ok(())
    }

    /// What is said of lines that should have been sealed, if there are some.
    pub fn overdue(&self) -> Option<String> {
        let is_one = |((host, day), counts): (&(String, String), &Counts)| {
            let count = counts.told().overdue;
            (count > 0).then(|| (host.clone(), day.clone(), count))
        };
        let (host, day, _) = self.days.iter().find_map(is_one)?;
        let last_seal = self.answers.last_seal(&host);
        Some(format!(
            "{} lines should be sealed and aren't, the first of {}{day}: they were stamped more than a minute before \
             {last_seal}, when their log was sealed; it has left them out, or they were put in",
            self.told(None).overdue,
            prefix(&host),
        ))
    }
}
