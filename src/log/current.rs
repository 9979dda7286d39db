//! What this process has open to write to: the day's file, and its journal.

use std::io;
use std::sync::Arc;

use super::append::DayFile;
use super::durable::Durable;
use super::journal::Journal;
use super::{Log, State};
use crate::clock::Timestamp;
use crate::format::name::{DayName, Place};
use crate::json::Object;

/// Files kept open for the next flush.
const MAX_UNSYNCED: usize = 8;

impl Log {
    /// The file of a date, open.
    pub(super) fn day_file<'s>(
        &self,
        state: &'s mut State,
        date: &[u8; 10],
        now: &Timestamp,
    ) -> io::Result<&'s mut DayFile> {
        let directory = &self.directory;
        let current = state
            .day
            .take_if(|day| day.name().date == *date && day.is_in_place(directory, now));
        let day = match current {
            Some(day) => day,
            None => {
                if let Some(earlier) = state.day.take() {
                    self.retire(state, &earlier);
                }
                self.journal(state)?;
                let day = self.open_day(DayName::first(*date), now)?;
                // Its name, if it was just created.
                match self.settings.to_disk {
                    true => directory.sync()?,
                    false => state.has_new_names = true,
                }
                self.note(state, Some(&day));
                day
            }
        };
        self.care.start(&self.me);
        Ok(state.day.insert(day))
    }

    /// Opens the first file of a day, from one on, that may be appended to.
    pub(super) fn open_day(&self, from: DayName, now: &Timestamp) -> io::Result<DayFile> {
        let sealer = self.sealer.get();
        DayFile::open(&self.directory, from, now, |day| {
            self.refused.contains(day) || sealer.is_some_and(|sealer| sealer.is_pruned(day))
        })
    }

    /// Leaves a file that isn't the current one any more.
    fn retire(&self, state: &mut State, day: &DayFile) {
        let file = day.handle();
        if self.directory.has_deleted(&file) {
            state.lost.push((day.name(), file));
            self.care.wake();
            return;
        }
        self.keep_unsynced(state, day.name(), file);
    }

    /// Keeps a file that was appended to for the next flush.
    pub(super) fn keep_unsynced(&self, state: &mut State, day: DayName, file: Arc<Durable>) {
        if state.unsynced.len() >= MAX_UNSYNCED {
            // Days old: the kernel has written it long ago.
            state.unsynced.pop_front();
        }
        state.unsynced.push_back((day, file));
    }

    /// Leaves the current file if it has lost its name.
    pub(super) fn leave_what_was_moved(&self, state: &mut State) {
        let moved = state.day.take_if(|day| !day.has_its_name(&self.directory));
        if let Some(day) = moved {
            self.retire(state, &day);
        }
    }

    /// Leaves the current file if its day is over, so that it can be compressed or removed: nobody
    /// has appended since.
    pub(super) fn leave_what_is_over(&self, state: &mut State, now: &Timestamp) {
        let over = state.day.take_if(|day| now.is_over(&day.name().date));
        if let Some(day) = over {
            self.retire(state, &day);
        }
    }

    /// This process's journal, made if there is none.
    pub(super) fn journal<'s>(&self, state: &'s mut State) -> io::Result<&'s Arc<Journal>> {
        let usable = state.journal.take_if(|journal| !journal.has_failed());
        let journal = match usable {
            Some(journal) => journal,
            None => self.begin_journal(state)?,
        };
        Ok(state.journal.insert(journal))
    }

    /// Makes a journal that takes the place of the one there is. What that one still holds stays in it.
    fn begin_journal(&self, state: &mut State) -> io::Result<Arc<Journal>> {
        let journal = Journal::create(&self.directory)?;
        if let Err(error) = self.prepare(state, &journal) {
            let _ = journal.remove();
            return Err(error);
        }
        if let Some(earlier) = &state.journal {
            // It goes on in the next one, and would be counted twice.
            let _ = journal.note(&earlier.read_note().unwrap_or_default());
            let _ = earlier.note("{}");
        }
        Ok(journal)
    }

    /// Begins another journal where a snapshot or a copy has blocks of this one: on a full disk it
    /// couldn't be written over any more.
    pub(super) fn leave_shared_journal(&self) {
        let journal = self.lock().journal.clone();
        if journal.is_some_and(|journal| journal.shares_blocks()) {
            let mut state = self.lock();
            // Without room for another, this one does what it can.
            if let Ok(journal) = self.begin_journal(&mut state) {
                state.journal = Some(journal);
            }
        }
    }

    fn prepare(&self, state: &mut State, journal: &Arc<Journal>) -> io::Result<()> {
        if self.settings.to_disk {
            self.directory.state().sync()?;
        }
        if self.counts_gaps() {
            let place = Place::head_of(*self.now().date());
            let mut slot = journal.reserve(place)?;
            if let Some(gap) = &mut state.gap {
                slot.replace(place, &gap.line)?;
                gap.kept = true;
            }
            if let Some(earlier) = state.gap_slot.replace(slot) {
                // What it holds is in the new one.
                let _ = earlier.empty();
            }
        }
        Ok(())
    }

    /// Writes into the journal where this process appends, so that its torn lines are found, and
    /// what it counted.
    pub(super) fn note(&self, state: &State, day: Option<&DayFile>) {
        let Some(journal) = &state.journal else {
            return;
        };
        let mut text = Vec::new();
        let mut to = Object::begin(&mut text);
        to.json("pid", std::process::id());
        if let Some(Ok(place)) = day.map(DayFile::place) {
            to.text("file", &place.day.file_name());
            to.json("offset", place.offset);
        }
        self.health_of(state).write(&mut to);
        to.end();
        // It costs a longer search for torn lines if it can't be written.
        let _ = journal.note(&String::from_utf8_lossy(&text));
    }
}
