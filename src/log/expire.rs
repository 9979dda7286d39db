//! Days whose time is over, marked and removed.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::disk::{File, How, Stat, if_there};
use super::maintain::{Left, Run};
use super::mend;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::format::name::DayName;
use crate::format::record::RecordBody;
use crate::json::Object;

/// The marks of expired days, in `.state`.
pub const MARKS: &str = "expired";

/// The files that are about to be removed, in `.state`: name, length, device, inode.
pub const REMOVING: &str = "removing";

/// How old a mark must be before its day is removed.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// An expired day, and since when it's known to be.
pub struct Mark {
    date: [u8; 10],
    since: String,
}

impl Run<'_> {
    /// Marks the expired days, and removes those whose marks are old enough.
    pub(super) fn expire(&mut self, retention_days: i64) -> Result<(), Error> {
        let mut files = self.days_older_than(retention_days)?;
        self.leave_held(&mut files)?;
        let mut dates: Vec<[u8; 10]> = files.iter().map(|day| day.date).collect();
        dates.dedup();
        let known = self.logged(self.marks())?;
        let now = self.log.now().to_string();
        let unknown = |date: &&[u8; 10]| known.iter().all(|mark| mark.date != **date);
        let expired = dates
            .iter()
            .filter(unknown)
            .map(|date| RecordBody::Expired {
                day: String::from_utf8_lossy(date).into_owned(),
                retention_days: retention_days.try_into().ok(),
            });
        self.record(expired.collect())?;
        for date in dates {
            let mark = known.iter().find(|mark| mark.date == date);
            // One of the future was made by a clock that was wrong then, or is now.
            let since = mark.map(|mark| &mark.since).filter(|since| **since <= now);
            let since = since.unwrap_or(&now).clone();
            self.marked.push(Mark { date, since });
        }
        let ripe = (self.log.settings.now)().checked_sub(GRACE);
        let ripe = Timestamp::of(ripe.unwrap_or(UNIX_EPOCH)).to_string();
        let removed = self.remove_marked_before(&ripe, &files);
        let mut marks = Vec::new();
        for mark in &self.marked {
            mark.write(&mut marks);
            marks.push(b'\n');
        }
        let kept = self.directory().state().replace(MARKS, &marks, false);
        removed.and(self.logged(kept))
    }

    fn remove_marked_before(&mut self, ripe: &str, files: &[DayName]) -> Result<(), Error> {
        let mut removable = Vec::new();
        for file in files {
            let is_ripe = |mark: &Mark| mark.date == file.date && mark.since.as_str() <= ripe;
            if self.marked.iter().any(is_ripe) {
                match self.check_removable(*file) {
                    Ok(()) => removable.push(*file),
                    Err(left) => self.leave(*file, left)?,
                }
            }
        }
        self.logged(self.note_removal(&removable, files))?;
        let mut names: Vec<String> = removable
            .iter()
            .filter(|file| !self.log.is_pruned(**file))
            .map(|file| file.uncompressed().file_name())
            .collect();
        names.dedup();
        let prune = |file| RecordBody::Prune { file };
        self.record(names.into_iter().map(prune).collect())?;
        let mut removed = Vec::new();
        for file in removable {
            match self.directory().remove(file) {
                Ok(()) => removed.push(file),
                Err(error) => self.leave(file, error.into())?,
            }
        }
        self.logged(mend::forget(self.directory(), &removed))?;
        self.deleted
            .extend(removed.iter().map(|file| file.file_name()));
        let left = self.logged(self.directory().days())?;
        self.marked
            .retain(|mark| left.iter().any(|day| day.date == mark.date));
        self.logged(self.directory().sync())
    }

    fn check_removable(&self, day: DayName) -> Result<(), Left> {
        self.check_cancelled()?;
        self.check_needed(day)?;
        // Whatever else has such a name isn't ours.
        let file = self.directory().open_day(day, How::Read)?;
        if self.log.is_pruned(day) {
            return self.check_left(day, &file);
        }
        if day.compressed {
            return Ok(());
        }
        self.check_sealed(day, &file)
    }

    /// Whether a file that the tree calls removed is the one that a killed run didn't come to remove.
    /// Another one shows that somebody put it there.
    fn check_left(&self, day: DayName, file: &File) -> Result<(), Left> {
        let noted = if_there(self.directory().read_state(REMOVING))?.unwrap_or_default();
        let this = removal(day, &file.stat()?);
        if noted.lines().any(|line| line == this) {
            return Ok(());
        }
        Err(Left::Needed(
            "was removed as its time was over, and is there again; see verify, and move it away"
                .into(),
        ))
    }

    /// Notes which files are about to be removed, beside those that an earlier run didn't come to remove
    /// and that are there still.
    fn note_removal(&self, removable: &[DayName], there: &[DayName]) -> io::Result<()> {
        let noted = if_there(self.directory().read_state(REMOVING))?.unwrap_or_default();
        let is_left = |line: &&str| {
            let day = line.split(' ').next().and_then(DayName::parse);
            day.is_some_and(|day| {
                self.log.is_pruned(day) && there.contains(&day) && !removable.contains(&day)
            })
        };
        let mut text = String::new();
        for line in noted.lines().filter(is_left) {
            text.push_str(line);
            text.push('\n');
        }
        for file in removable {
            let stat = self.directory().open_day(*file, How::Read)?.stat()?;
            text.push_str(&removal(*file, &stat));
            text.push('\n');
        }
        let state = self.directory().state();
        state.replace(REMOVING, text.as_bytes(), true)?;
        state.sync()
    }

    fn marks(&self) -> io::Result<Vec<Mark>> {
        let text = if_there(self.directory().read_state(MARKS))?.unwrap_or_default();
        // What a power cut left of one counts as none: its day is marked again.
        Ok(text.lines().filter_map(Mark::read).collect())
    }
}

/// What tells a file that is to be removed from another one in its place.
fn removal(day: DayName, stat: &Stat) -> String {
    let (device, inode) = stat.identity;
    format!("{} {} {device} {inode}", day.file_name(), stat.length)
}

impl Mark {
    fn read(line: &str) -> Option<Mark> {
        let mark: Value = serde_json::from_str(line).ok()?;
        let (day, since) = (mark["day"].as_str()?, mark["since"].as_str()?);
        Some(Mark {
            date: day.as_bytes().try_into().ok()?,
            since: (since.len() == Timestamp::LEN).then(|| since.to_owned())?,
        })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let mut to = Object::begin(out);
        to.text("day", &String::from_utf8_lossy(&self.date));
        to.text("since", &self.since);
        to.end();
    }
}
