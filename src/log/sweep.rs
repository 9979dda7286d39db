//! Making the log whole after processes that were killed: what they left is mended, and their
//! calls get their entries.
//!
//! All of it is done under the directory's lock, by whoever finds it, in this order: what the disk
//! forgot when the machine went down is written over; then, for each dead process, its torn tail is
//! closed, its torn lines are written over, and each call's entry is looked for and written if it
//! isn't there. A process killed in the midst of this leaves the journal for the next one.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::directory::Whole;
use super::disk::{How, wait_for};
use super::find::{self, find};
use super::journal::{self, Journal, Kept, Slot};
use super::mend::{self, Tail};
use super::{Log, SWEEP_PATIENCE, health};
use crate::error::Error;
use crate::format::name::{DayName, Place};

/// What opening a log, or looking after it, found and did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Swept {
    /// Entries written for calls that a process was killed in.
    pub recovered: u64,
    /// Torn lines written over.
    pub torn: u64,
}

impl Log {
    /// Makes whole what is there when the log is opened, unless another process is at it.
    pub(super) fn sweep_at_first(&self) -> Result<Swept, Error> {
        // Another process makes it whole that is just at it.
        let swept = wait_for(SWEEP_PATIENCE, || Ok(()), || self.sweep(true));
        swept.map(Option::unwrap_or_default).or_else(|error| {
            let now = self.now();
            let reported = self.report(&mut self.lock(), now, Err(error));
            reported.map(|()| Swept::default())
        })
    }

    /// Makes whole what dead processes left, and reports the directory's health. `None` if another
    /// process is at it. `all`: every day's tail is looked at, not only the last ones.
    pub(super) fn sweep(&self, all: bool) -> io::Result<Option<Swept>> {
        let Some(_lock) = self.directory.try_lock()? else {
            return Ok(None);
        };
        self.make_whole(all).map(Some)
    }

    /// The same, by one who holds the directory's lock.
    pub(super) fn make_whole(&self, all: bool) -> io::Result<Swept> {
        let mut swept = Swept::default();
        if self.directory.is_booted_anew(Whole::Days) {
            // What the disk forgot of a line when the machine went down can be anywhere in the last files,
            // and hide an entry behind it.
            for day in self.last_days()? {
                swept.torn += self.mend(Place { day, offset: 0 })?;
            }
            self.directory.note_boot(Whole::Days)?;
        }
        let (mut alive, mut dead) = (Vec::new(), Vec::new());
        for name in self.directory.state_names(journal::PREFIX)? {
            let journal = match Journal::adopt(&self.directory, &name) {
                Ok(Some(journal)) => journal,
                Ok(None) => {
                    if let Ok(file) = self.directory.state().open(&name, How::Read) {
                        alive.extend(journal::read_note(&file));
                    }
                    continue;
                }
                Err(error) => {
                    self.directory.warn(error.to_string());
                    continue;
                }
            };
            let note = journal.read_note();
            match self.bury(&journal, note.as_deref(), &mut swept) {
                Ok(()) => dead.extend(note),
                Err(error) => self.fault(&error),
            }
        }
        let days = if all {
            self.plain_days()?
        } else {
            self.last_days()?
        };
        for day in days {
            match self.close_tail(day) {
                Ok(torn) => swept.torn += torn,
                Err(error) => self.directory.warn(error.to_string()),
            }
        }
        self.directory.remove_leftovers()?;
        let before = self.directory.read_state("health.json").unwrap_or_default();
        let report = health::report(&before, &self.now(), &alive, &dead);
        let state = self.directory.state();
        state.replace("health.json", &report, false)?;
        Ok(swept)
    }

    /// The files that may be appended to.
    fn plain_days(&self) -> io::Result<Vec<DayName>> {
        let mut days = self.directory.days()?;
        days.retain(|day| !day.compressed && !self.is_pruned(*day));
        Ok(days)
    }

    /// Those of the last two dates.
    fn last_days(&self) -> io::Result<Vec<DayName>> {
        let mut days = self.plain_days()?;
        let mut dates: Vec<[u8; 10]> = days.iter().map(|day| day.date).collect();
        dates.dedup();
        let last = dates.split_off(dates.len().saturating_sub(2));
        days.retain(|day| last.contains(&day.date));
        Ok(days)
    }

    /// Whether a file was removed as its time was over.
    pub(super) fn is_pruned(&self, day: DayName) -> bool {
        let sealer = self.sealer.get();
        sealer.is_some_and(|sealer| sealer.is_pruned(day))
    }

    fn close_tail(&self, day: DayName) -> io::Result<u64> {
        let is_over = self.now().is_over(&day.date);
        match mend::close_tail(&self.directory, day, is_over, &self.now())? {
            Tail::Closed(offset) => self.mend(Place { day, offset }),
            Tail::Blanked => {
                self.counters.torn.fetch_add(1, Ordering::Relaxed);
                Ok(1)
            }
            Tail::Left => Ok(0),
        }
    }

    /// Writes over the torn lines from a place on that dead processes left.
    pub(super) fn mend(&self, from: Place) -> io::Result<u64> {
        let now = self.now();
        let mend = |sealed: u64| mend::mend(&self.directory, from, sealed, &now);
        let torn = match self.sealer.get() {
            None => mend(0)?,
            // Nobody may seal a line that is just written over.
            Some(sealer) => {
                let attempt = || sealer.hold(&from.day, (self.settings.now)(), mend);
                let torn = wait_for(SWEEP_PATIENCE, || Ok(()), attempt)?;
                torn.ok_or_else(|| sealer.is_locked())?
            }
        };
        self.counters.torn.fetch_add(torn, Ordering::Relaxed);
        Ok(torn)
    }

    /// Writes over the torn lines that appends and sealing have met. An error of kind `WouldBlock` while
    /// another process holds the directory's lock.
    pub(super) fn mend_what_was_met(&self) -> io::Result<()> {
        let torn = std::mem::take(&mut self.lock().torn);
        if torn.is_empty() {
            return Ok(());
        }
        let mended = match self.directory.try_lock() {
            Ok(Some(_lock)) => torn
                .iter()
                .try_for_each(|place| self.mend(*place).map(drop)),
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error),
        };
        if mended.is_err() {
            self.lock().torn.extend(torn);
        }
        mended
    }

    /// Makes whole what one dead process left.
    fn bury(
        &self,
        journal: &Arc<Journal>,
        note: Option<&str>,
        swept: &mut Swept,
    ) -> io::Result<()> {
        let note: serde_json::Value =
            serde_json::from_str(note.unwrap_or_default()).unwrap_or_default();
        let day = note["file"].as_str().and_then(DayName::parse);
        let day = day.filter(|day| !self.is_pruned(*day));
        if let (Some(day), Some(offset)) = (day, note["offset"].as_u64()) {
            let mended = self.close_tail(day).and_then(|torn| {
                let from = Place { day, offset };
                Ok(torn + self.mend(from)?)
            });
            match mended {
                Ok(torn) => swept.torn += torn,
                // The calls get their entries all the same.
                Err(error) => self.directory.warn(error.to_string()),
            }
        }
        let mut from = None;
        loop {
            let calls = journal.kept(&mut from)?;
            if calls.is_empty() {
                return journal.remove();
            }
            self.enter(calls, swept)?;
        }
    }

    /// Writes the entries of calls that a process was killed in, as far as the log doesn't have them.
    fn enter(&self, calls: Vec<(Slot, Kept)>, swept: &mut Swept) -> io::Result<()> {
        let ids = calls.iter().map(|(_, kept)| kept.line.id()).collect();
        let first = calls.iter().map(|(_, kept)| kept.place).min();
        let mut found = match first {
            Some(place) => self.find(place, &ids)?,
            None => find::Found::default(),
        };
        for (mut slot, kept) in calls {
            let id = kept.line.id();
            if !found.there.contains(&id) {
                // What the disk may have lost is written again as it was; whoever reads folds the twins.
                let line = found.doubtful.remove(&id).unwrap_or_else(|| {
                    let mut line = kept.line;
                    if !kept.ended {
                        line.stamp(&self.now());
                    }
                    line
                });
                self.write_recovered(&line, Some(&mut slot))?;
                self.counters.recovered.fetch_add(1, Ordering::Relaxed);
                swept.recovered += 1;
            }
            slot.clear()?;
        }
        Ok(())
    }

    /// Which entries the log has, and the disk with it if it must.
    pub(super) fn find(&self, place: Place, ids: &HashSet<Uuid>) -> io::Result<find::Found> {
        self.refused.look()?;
        let counts = |day| !self.is_pruned(day);
        find(&self.directory, place, ids, counts, |day| {
            !self.settings.to_disk || self.is_kept(day)
        })
    }

    /// Whether the disk has all of a file.
    fn is_kept(&self, day: DayName) -> bool {
        if day.compressed {
            return true;
        }
        // A file that can't be written to any more has been confirmed long ago.
        let Ok(file) = self.directory.open_day(day, How::Change) else {
            return true;
        };
        if !self.refused.contains(day) && file.sync_data().is_ok() {
            return true;
        }
        self.refuse(day);
        let mut state = self.lock();
        let current = state.day.as_ref().filter(|current| current.name() == day);
        if let Some(file) = current.map(super::append::DayFile::handle) {
            file.distrust();
            self.leave_refused(&mut state, &file);
        }
        false
    }
}
