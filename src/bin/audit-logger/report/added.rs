//! What a report adds up, in one pass and in bounded memory.

use audit_logger::tool::Error;
use chrono::NaiveDate;

use super::steps::Steps;
use crate::entries::Entry;
use crate::sums::{Classes, Groups, Sums, gap};

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
    classes: Classes,
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
            classes: Classes::default(),
            gaps: 0,
        })
    }

    /// Adds an entry of a day, if it's of the user whose calls alone are asked for. Of calls without an entry nobody
    /// knows whose they were.
    pub fn add(
        &mut self,
        day: NaiveDate,
        entry: &Entry,
        line: &[u8],
        user: Option<&str>,
    ) -> Result<(), Error> {
        if let Some(calls) = gap(entry, line) {
            self.gaps = self.gaps.saturating_add(calls);
            return Ok(());
        }
        if user.is_some_and(|user| user != entry.user_id) {
            return Ok(());
        }
        let call = self.classes.call(entry);
        let hour = match self.steps.are_hours() {
            true => hour(&entry.timestamp),
            false => 0,
        };
        if let Some(sums) = self.by_step.get_mut(self.steps.of(day, hour)) {
            sums.add(&call);
        }
        self.total.add(&call);
        self.models.add(&entry.model, &call)?;
        self.users.add(&entry.user_id, &call)
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
        rows.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.calls));
        let more = groups.others.is_some();
        let most = match rows.len() {
            // One more takes no more room than a line for the others.
            count if count == TOP + 1 && !more => count,
            count => count.min(TOP),
        };
        let rest = rows.split_off(most);
        let others = match rest.len() {
            0 => None,
            count => {
                let mut sums = Sums::new(true)?;
                let rest = rest.into_iter().map(|(_, sums)| sums);
                rest.chain(&groups.others)
                    .for_each(|other| sums.merge(other));
                Some((count, sums))
            }
        };
        Ok(Top { rows, others, more })
    }

    /// How many there are, as far as they were told apart.
    pub fn count(&self) -> usize {
        self.rows.len() + self.others.as_ref().map_or(0, |(count, _)| *count)
    }
}
