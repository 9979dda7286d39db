//! Days that are held: no run of maintenance removes a file of theirs until the hold is released.
//!
//! Holds are records of the tree, so that none can be taken away unnoticed. They are made under
//! `.state/lock`, under which files are removed: a hold that was acknowledged keeps what is there then.

use std::path::Path;

use super::known::Hold;
use super::maintain::{Run, opened};
use super::seal::Sealer;
use crate::clock::is_in_calendar;
use crate::config::Maintenance;
use crate::error::{Error, Status};
use crate::format::name::DayName;
use crate::format::record::RecordBody;
use crate::json::Object;

/// How long a reason may be, in bytes.
const LONGEST_REASON: usize = 1000;

/// Has no file of the days from one date to another removed. Returns what is held, as JSON: the hold's
/// number, the files that are there, and those that were removed before.
pub fn hold(
    path: &Path,
    access: &Maintenance,
    from: &str,
    to: &str,
    reason: &str,
) -> Result<Vec<u8>, Error> {
    let log = opened(path, access)?;
    let held = Run::of(&log, &|| false).hold(from, to, reason);
    log.leave();
    held
}

/// Ends a hold, by its number. Its days are marked, and removed, as if they had expired just now.
pub fn release(
    path: &Path,
    access: &Maintenance,
    number: u64,
    reason: &str,
) -> Result<Vec<u8>, Error> {
    let log = opened(path, access)?;
    let released = Run::of(&log, &|| false).release(number, reason);
    log.leave();
    released
}

impl Run<'_> {
    pub(super) fn hold(&self, from: &str, to: &str, reason: &str) -> Result<Vec<u8>, Error> {
        check_reason(reason)?;
        let (first, last) = (date(from)?, date(to)?);
        if first > last {
            return Err(Error::argument(format!("{from} is behind {to}")));
        }
        let hold = Hold {
            from: first,
            to: last,
            released: false,
        };
        let sealer = self.sealer()?;
        let _lock = self.lock()?;
        // Before there is one: between the two, nothing is removed at all.
        self.logged(self.directory().refuse_without_holds())?;
        let body = RecordBody::Hold {
            from: from.to_owned(),
            to: to.to_owned(),
            reason: reason.to_owned(),
        };
        let number = self.logged(sealer.record(vec![body], (self.log.settings.now)()))?;
        let files = self.logged(self.directory().days())?;
        let files = files.iter().filter(|day| hold.keeps(&day.date));
        let files: Vec<String> = files.map(DayName::file_name).collect();
        let removed = sealer.removed();
        let removed = removed.iter().filter(|day| hold.keeps(&day.date));
        let removed: Vec<String> = removed.map(DayName::file_name).collect();
        let mut report = Vec::new();
        let mut to_report = Object::begin(&mut report);
        to_report.json("hold", number);
        to_report.text("from", from);
        to_report.text("to", to);
        to_report.text("reason", reason);
        to_report.texts("files", &files);
        to_report.texts("removed_before", &removed);
        to_report.end();
        Ok(report)
    }

    pub(super) fn release(&self, number: u64, reason: &str) -> Result<Vec<u8>, Error> {
        check_reason(reason)?;
        let sealer = self.sealer()?;
        let _lock = self.lock()?;
        let now = (self.log.settings.now)();
        let holds = self.logged(sealer.holds(now))?;
        let in_force = |hold: &&Hold| !hold.released;
        let Some(hold) = holds.get(&number).filter(in_force) else {
            let there = holds.iter().filter(|(_, hold)| !hold.released);
            let there: Vec<String> = there.map(|(number, _)| number.to_string()).collect();
            return Err(Error::argument(match &there[..] {
                [] => format!("there is no hold {number}: none is in force"),
                there => format!("there is no hold {number}; in force: {}", there.join(", ")),
            }));
        };
        let body = RecordBody::Release {
            hold: number,
            reason: reason.to_owned(),
        };
        self.record(vec![body])?;
        let mut report = Vec::new();
        let mut to_report = Object::begin(&mut report);
        to_report.json("released", number);
        to_report.text("from", &String::from_utf8_lossy(&hold.from));
        to_report.text("to", &String::from_utf8_lossy(&hold.to));
        to_report.text("reason", reason);
        to_report.end();
        Ok(report)
    }

    fn sealer(&self) -> Result<&Sealer, Error> {
        self.log.sealer.get().ok_or_else(|| {
            Error::new(
                Status::NotFound,
                "the log isn't sealed: a hold is a record of its Merkle log, and could be lost unseen \
                 without (\"integrity\" in the configuration seals it)",
            )
        })
    }

    /// Takes the held days from those to be removed. The lock must be held until they are.
    pub(super) fn leave_held(&mut self, files: &mut Vec<DayName>) -> Result<(), Error> {
        let noted = self.logged(self.directory().may_have_holds())?;
        let holds = match self.log.sealer.get() {
            Some(sealer) => self.logged(sealer.holds((self.log.settings.now)()))?,
            None => Default::default(),
        };
        if noted && holds.is_empty() {
            return Err(Error::log(self.log.message(&std::io::Error::other(
                "days are held, or were about to be, and the Merkle log tells of no hold: was it \
                 removed, or begun anew? Nothing is removed until the days are held again (and released)",
            ))));
        }
        if !noted && !holds.is_empty() {
            self.logged(self.directory().refuse_without_holds())?;
        }
        let is_held = |day: &DayName| holds.values().any(|hold| hold.keeps(&day.date));
        let held = files.extract_if(.., |day| is_held(day));
        self.held.extend(held.map(|day| day.file_name()));
        Ok(())
    }
}

fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.trim().is_empty()
        || reason.len() > LONGEST_REASON
        || reason.chars().any(char::is_control)
    {
        return Err(Error::argument(format!(
            "the reason must have 1 to {LONGEST_REASON} bytes, and no control characters"
        )));
    }
    Ok(())
}

fn date(text: &str) -> Result<[u8; 10], Error> {
    let date = text.as_bytes().try_into().ok();
    date.filter(|_| is_in_calendar(text))
        .ok_or_else(|| Error::argument(format!("{text:?} isn't a date (2026-11-23)")))
}
