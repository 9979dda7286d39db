//! The life of an entry: a call begins, is made by somebody, and ends with exactly one line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::DayFile;
use super::durable::{Durable, Ticket};
use super::journal::Slot;
use super::{Gap, GapEntry, Log, State};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::format::entry::Line;
use crate::format::name::{DayName, Place};

/// More entries don't wait where calls go on without: their room in the journal grows.
const MAX_WAITING: usize = 1000;

/// How often a further file is begun for an entry before it's given up.
const MAX_REFUSALS: usize = 3;

/// The intent of a call, kept until its entry is in the log.
#[derive(Debug)]
pub struct Intent(pub(super) Option<Slot>);

/// Where a line was written.
#[must_use = "what isn't noted isn't sealed in time"]
pub struct Written {
    file: Arc<Durable>,
    ticket: Ticket,
    place: Option<Place>,
}

impl Log {
    /// Writes down that a call is about to be made. `unknown` is the entry that it gets if nothing
    /// more is heard of it, `longest` the length that its entry can have. On an error the call must
    /// not be made; where gaps are counted there is none.
    pub fn begin(&self, unknown: &Line, longest: usize) -> Result<Intent, Error> {
        let mut state = self.lock();
        let now = self.now();
        let result = self.keep(&mut state, &now, unknown, longest);
        let result = result.and_then(|slot| {
            if self.settings.to_disk {
                drop(state);
                // Cleared, for it may have reached the disk all the same, and nothing is sent.
                if let Err(error) = slot.confirm() {
                    slot.clear()?;
                    return Err(error);
                }
            }
            Ok(slot)
        });
        match result {
            Ok(slot) => Ok(Intent(Some(slot))),
            Err(error) => match self.report(&mut self.lock(), now, Err(error)) {
                Err(error) if !self.counts_gaps() => Err(error),
                _ => Ok(Intent(None)),
            },
        }
    }

    fn keep(
        &self,
        state: &mut State,
        now: &Timestamp,
        unknown: &Line,
        longest: usize,
    ) -> io::Result<Slot> {
        let place = self
            .write_waiting(state)
            .and_then(|()| self.day_file(state, now.date(), now)?.place());
        let place = match place {
            // The journal may have room when the log hasn't.
            Err(_) if self.counts_gaps() && state.waiting.len() < MAX_WAITING => {
                Place::head_of(*now.date())
            }
            place => place?,
        };
        self.journal(state)?.keep(place, unknown, longest)
    }

    /// Stamps a line and appends it. On an error it isn't in the log (or, if the disk refused to
    /// confirm it, it may be), and it won't be written later.
    pub fn append(&self, line: &mut Line) -> Result<(), Error> {
        self.stamp_and_append(line, None)
            .or_else(|(now, error)| self.report(&mut self.lock(), now, Err(error)))
    }

    /// Stamps and appends the entry of a call that was begun. On an error it waits, and is written
    /// before any other as soon as the log takes it; where there was no room for an intent, it is
    /// counted instead.
    pub fn finish(&self, Intent(mut slot): Intent, line: &mut Line) -> Result<(), Error> {
        match self.stamp_and_append(line, slot.as_mut()) {
            Ok(()) => {
                if let Some(slot) = slot {
                    // If it stays, the entry is found in the log.
                    let _ = slot.clear();
                }
                Ok(())
            }
            Err((now, error)) => {
                let mut state = self.lock();
                let (counted, kept) = match &self.settings.gap_entry {
                    Some(entry) if slot.is_none() => {
                        let kept = self.count_gap(&mut state, now, entry);
                        ("; the call is counted in an audit_gap entry instead", kept)
                    }
                    _ => ("", self.keep_waiting(&mut state, line.clone(), slot)),
                };
                self.care.start(&self.me);
                self.care.wake();
                let memory_only = kept.err().map_or_else(String::new, |why| {
                    format!("; until the log takes it, it is in memory only ({why})")
                });
                let message = format!("{error}{counted}{memory_only}");
                self.report(&mut state, now, Err(io::Error::new(error.kind(), message)))
            }
        }
    }

    /// Stamps a line and appends it behind all that waits. An error comes with the stamp.
    fn stamp_and_append(
        &self,
        line: &mut Line,
        mut slot: Option<&mut Slot>,
    ) -> Result<(), (Timestamp, io::Error)> {
        let mut state = self.lock();
        let now = self.now();
        line.stamp(&now);
        let written = self
            .write_waiting(&mut state)
            .and_then(|()| self.write(&mut state, line, &now, slot.as_deref_mut()));
        drop(state);
        let confirmed = written.and_then(|written| self.confirmed(written, line, slot));
        // Outside of the lock, for it hashes the line.
        confirmed
            .map(|written| self.wrote(&written, line.as_bytes()))
            .map_err(|error| (now, error))
    }

    /// Has the disk confirm what was written, where it must; what it refuses is written again, to
    /// a further file of the day. Returns where it is.
    fn confirmed(
        &self,
        mut written: Written,
        line: &Line,
        mut slot: Option<&mut Slot>,
    ) -> io::Result<Written> {
        if !self.settings.to_disk {
            return Ok(written);
        }
        for _ in 0..MAX_REFUSALS {
            let Err(error) = self.confirm(&written) else {
                return Ok(written);
            };
            let mut state = self.lock();
            let now = self.now();
            self.leave_refused(&mut state, &written.file);
            let _ = self.report(&mut state, now, Err(error));
            written = self.write(&mut state, line, &now, slot.as_deref_mut())?;
        }
        self.confirm(&written)?;
        Ok(written)
    }

    /// Has the disk confirm a line.
    fn confirm(&self, written: &Written) -> io::Result<()> {
        written.file.confirm(written.ticket)?;
        // The kernel tells one process alone that the disk refused.
        self.refused.look()?;
        match written.place {
            Some(place) if self.refused.contains(place.day) => {
                written.file.distrust();
                written.file.confirm(written.ticket)
            }
            _ => Ok(()),
        }
    }

    /// Has an entry wait until the log takes it. On an error it waits in memory only, and ends with the
    /// process: then the intent stands.
    fn keep_waiting(
        &self,
        state: &mut State,
        line: Line,
        mut slot: Option<Slot>,
    ) -> io::Result<()> {
        let place = state.day.as_ref().and_then(|day| day.place().ok());
        let place = place.unwrap_or(Place::head_of(line.date()));
        let kept = match &mut slot {
            Some(slot) => slot.end(place, &line).and_then(|()| {
                if self.settings.to_disk {
                    slot.confirm()
                } else {
                    Ok(())
                }
            }),
            None => Err(io::Error::other("the call has no room in the journal")),
        };
        state.waiting.push_back((line, slot));
        kept
    }

    /// Counts a call that went on without an entry. On an error the count is in memory only, and ends
    /// with the process.
    fn count_gap(&self, state: &mut State, now: Timestamp, entry: &GapEntry) -> io::Result<()> {
        self.counters.gaps.fetch_add(1, Ordering::Relaxed);
        let before = state.gap.take();
        let (calls, first) = before
            .as_ref()
            .map_or((1, now), |gap| (gap.calls + 1, gap.first));
        let mut line = entry(calls, &first, &now);
        if let Some(gap) = before {
            // Else a kill between two counts could leave two entries for the first ones.
            line.set_id(gap.line.id());
        }
        line.stamp(&now);
        let kept = match &mut state.gap_slot {
            Some(slot) => {
                let place = Place::head_of(*now.date());
                // The outcome of an earlier count holds fewer calls, and would be believed.
                slot.replace(place, &line)
                    .and_then(|()| slot.end(place, &line))
            }
            None => Err(io::Error::other("the journal has no room for it")),
        };
        state.gap = Some(Gap {
            calls,
            first,
            line,
            kept: kept.is_ok(),
        });
        kept
    }

    /// Writes what waits for the log to take it.
    pub(super) fn write_waiting(&self, state: &mut State) -> io::Result<()> {
        while let Some((line, mut slot)) = state.waiting.pop_front() {
            let now = self.now();
            match self.write_late(state, &line, &now, slot.as_mut()) {
                Err(error) => {
                    state.waiting.push_front((line, slot));
                    return Err(error);
                }
                Ok(()) => drop(slot.map(Slot::clear)),
            }
        }
        if let Some(mut gap) = state.gap.take() {
            let now = self.now();
            gap.line.stamp(&now);
            let mut slot = state.gap_slot.take();
            let written = self.write_late(state, &gap.line, &now, slot.as_mut());
            if written.is_err() {
                state.gap = Some(gap);
            } else if let Some(slot) = &slot {
                // If it stays, the entry is found in the log.
                let _ = slot.empty();
            }
            state.gap_slot = slot;
            return written;
        }
        Ok(())
    }

    /// Appends a line that was stamped some time ago.
    pub(super) fn write_late(
        &self,
        state: &mut State,
        line: &Line,
        now: &Timestamp,
        mut slot: Option<&mut Slot>,
    ) -> io::Result<()> {
        let written = self
            .write(state, line, now, slot.as_deref_mut())
            .or_else(|error| {
                if line.date() == *now.date() {
                    return Err(error);
                }
                // Its day is over, and the day's file may be gone for good. Better in the next one,
                // with its own timestamp, than to keep all others waiting.
                self.write_to(state, *now.date(), line, now, slot)
            })?;
        if self.settings.to_disk {
            self.confirm(&written)
                .inspect_err(|_| self.leave_refused(state, &written.file))?;
        }
        self.wrote(&written, line.as_bytes());
        Ok(())
    }

    /// The same of a recovered entry: what the disk refuses goes to a further file at once, for later
    /// it would be found where it is.
    pub(super) fn write_recovered(
        &self,
        line: &Line,
        mut slot: Option<&mut Slot>,
    ) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let mut state = self.lock();
            let now = self.now();
            match self.write_late(&mut state, line, &now, slot.as_deref_mut()) {
                Err(_) if tries < MAX_REFUSALS && self.refused.has_of(&line.date()) => tries += 1,
                written => return written,
            }
        }
    }

    /// Appends a stamped line to the file of its date.
    pub(super) fn write(
        &self,
        state: &mut State,
        line: &Line,
        now: &Timestamp,
        slot: Option<&mut Slot>,
    ) -> io::Result<Written> {
        self.write_to(state, line.date(), line, now, slot)
    }

    fn write_to(
        &self,
        state: &mut State,
        date: [u8; 10],
        line: &Line,
        now: &Timestamp,
        slot: Option<&mut Slot>,
    ) -> io::Result<Written> {
        let day = self.day_file(state, &date, now)?;
        let here = day.place()?;
        if let Some(slot) = slot {
            let intent = slot.place();
            // Where the clock was set back, or the file begun anew, the entry would be looked for too
            // far on if we are killed; and in the file that the disk refused before, it would be found
            // and believed.
            if here < intent || here.day.number > intent.day.number {
                slot.end(here, line)?;
                if self.settings.to_disk {
                    // Before the entry is: after a power cut it would be looked for where the intent says.
                    slot.confirm()?;
                }
            }
        }
        let (written, torn, cut) = self.put(day, line.as_bytes())?;
        self.note_met(state, torn, cut, now);
        Ok(written)
    }

    /// Appends a line to a day's file: the one place that does. Also returns where a torn line was met,
    /// and what an operator should know.
    pub(super) fn put(
        &self,
        day: &mut DayFile,
        line: &[u8],
    ) -> io::Result<(Written, Option<Place>, Option<String>)> {
        let here = day.place()?;
        let appended = day.append(line)?;
        self.counters.written.fetch_add(1, Ordering::Relaxed);
        self.counters
            .bytes
            .fetch_add(line.len() as u64, Ordering::Relaxed);
        let written = Written {
            file: day.handle(),
            ticket: appended.ticket,
            place: appended.start.map(|offset| Place { offset, ..here }),
        };
        // In a file that was cut short, the torn line is before where we had been.
        let offset = if appended.cut { 0 } else { here.offset };
        let torn = appended.torn.then_some(Place { offset, ..here });
        let cut = appended.cut.then(|| {
            format!(
                "{} was cut short by somebody: entries are missing",
                here.day.file_name()
            )
        });
        Ok((written, torn, cut))
    }

    /// Notes what an append came upon.
    pub(super) fn note_met(
        &self,
        state: &mut State,
        torn: Option<Place>,
        message: Option<String>,
        now: &Timestamp,
    ) {
        if let Some(place) = torn {
            state.torn.push(place);
            self.care.wake();
        }
        if let Some(message) = message {
            self.directory.warn(message.clone());
            state.last_error = Some((*now, message));
        }
    }

    /// Has a line sealed that was written, and isn't yet.
    pub(super) fn wrote(&self, written: &Written, line: &[u8]) {
        let Some(place) = written.place.filter(|_| self.settings.sealing.is_some()) else {
            return;
        };
        let file = written.file.identity();
        let sealer = self.sealer.get().or_else(|| {
            let mut early = self.early();
            // It may just have come, and have taken what was there.
            let sealer = self.sealer.get();
            if sealer.is_none() {
                early.insert(place.day, (place.offset + line.len() as u64, file));
            }
            sealer
        });
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(time) = sealer.and_then(|sealer| sealer.wrote(place, file, text)) {
            self.care.wake_in(time);
        }
    }

    /// Turns away from a file whose sync failed.
    pub(super) fn leave_refused(&self, state: &mut State, file: &Arc<Durable>) {
        let current = state.day.take_if(|day| Arc::ptr_eq(&day.handle(), file));
        if let Some(day) = current {
            self.refuse(day.name());
            if self.sealer.get().is_some() {
                // What isn't sealed of it is to be written anew; the rest is its writers' to write again.
                self.keep_unsynced(state, day.name(), Arc::clone(file));
            }
        }
    }

    /// Notes for every process that the disk refused to confirm a file.
    pub(super) fn refuse(&self, day: DayName) {
        if self.refused.note(day) {
            self.counters.unconfirmed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
