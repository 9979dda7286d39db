//! What a report adds up, in one pass and in bounded memory.

use audit_logger::tool::Error;
use chrono::NaiveDate;

use super::steps::Steps;
use crate::entries::Entry;
use crate::sums::{Groups, OTHERS, Sums, gap};

/// How many models and users have a row of their own: those with the most calls.
const TOP: usize = 20;

/// How many classes of errors have a column and a colour of their own.
const CLASSES: usize = 5;

/// A log, added up.
pub struct Added {
    pub steps: Steps,
    pub by_step: Vec<Sums>,
    pub total: Sums,
    pub models: Groups,
    pub users: Groups,
    /// Calls without an entry, which the log says there were.
    pub gaps: u64,
}

impl Added {
    pub fn new(steps: Steps) -> Result<Added, Error> {
        let by_step: Result<Vec<Sums>, Error> = (0..steps.count).map(|_| Sums::new(true)).collect();
        Ok(Added {
            by_step: by_step?,
            steps,
            total: Sums::new(true)?,
            models: Groups::default(),
            users: Groups::default(),
            gaps: 0,
        })
    }

    /// Adds an entry of a day.
    pub fn add(&mut self, day: NaiveDate, entry: &Entry, line: &[u8]) -> Result<(), Error> {
        if let Some(calls) = gap(entry, line) {
            self.gaps += calls;
            return Ok(());
        }
        let hour = match self.steps.are_hours() {
            true => hour(&entry.timestamp),
            false => 0,
        };
        if let Some(sums) = self.by_step.get_mut(self.steps.of(day, hour)) {
            sums.add(entry);
        }
        self.total.add(entry);
        self.models.add(&entry.model, entry)?;
        self.users.add(&entry.user_id, entry)
    }

    /// The classes of errors that have a column of their own, the most frequent first; whether there are more.
    pub fn classes(&self) -> (Vec<&str>, bool) {
        let mut classes: Vec<_> = self.total.errors.iter().collect();
        classes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        // One more would take no more room than what stands for it.
        let most = match classes.len() {
            count if count == CLASSES + 1 => count,
            _ => CLASSES,
        };
        let more = classes.len() > most;
        let named = classes.into_iter().take(most);
        (named.map(|(class, _)| &class[..]).collect(), more)
    }
}

/// The hour of a timestamp, as the log writes it.
fn hour(timestamp: &str) -> usize {
    let hour = timestamp.get(11..13).and_then(|hour| hour.parse().ok());
    hour.filter(|hour| *hour < 24).unwrap_or(0)
}

/// Those of some groups that have the most calls, and what the others add up to.
pub struct Top<'a> {
    pub rows: Vec<(&'a str, &'a Sums)>,
    pub others: Option<(usize, Sums)>,
    /// Some were never told apart.
    pub more: bool,
}

impl<'a> Top<'a> {
    pub fn of(groups: &'a Groups) -> Result<Top<'a>, Error> {
        let mut rows = groups.sorted();
        let more = rows.iter().any(|(name, _)| *name == OTHERS);
        rows.sort_by_key(|(name, sums)| (*name == OTHERS, std::cmp::Reverse(sums.calls)));
        let most = match rows.len() {
            count if count == TOP + 1 && !more => count,
            _ => TOP.min(rows.len() - usize::from(more)),
        };
        let rest = rows.split_off(most);
        let others = match rest.len() {
            0 => None,
            count => {
                let mut sums = Sums::new(true)?;
                rest.iter().for_each(|(_, other)| sums.merge(other));
                Some((count - usize::from(more), sums))
            }
        };
        Ok(Top { rows, others, more })
    }

    /// How many there are, as far as they were told apart.
    pub fn count(&self) -> usize {
        self.rows.len() + self.others.as_ref().map_or(0, |(count, _)| *count)
    }
}
