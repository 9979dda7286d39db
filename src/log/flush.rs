//! What was written is confirmed by the disk, and written anew where the disk refuses or somebody
//! deleted it.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::append::DayFile;
use super::directory::Directory;
use super::disk::{File, How};
use super::durable::Durable;
use super::find::{lines_not_in, lines_of};
use super::gather::Found;
use super::{Log, seal};
use crate::error::Error;
use crate::format::name::{DayName, Place};

/// How long a flush waits for another process that is just sealing.
const SEAL_PATIENCE: Duration = Duration::from_secs(10);

/// How often the last one out tries to write the lines of a deleted file again, while another process
/// holds the directory's lock.
const RESCUES: usize = 100;
const RESCUE_PAUSE: Duration = Duration::from_millis(10);

impl Log {
    /// Writes what waits, has the disk confirm every file that was appended to, and seals them.
    pub fn flush(&self) -> Result<(), Error> {
        self.complete_late()?;
        self.confirm_and_seal().map_err(|error| {
            self.fault(&error);
            Error::log(self.message(&error))
        })
    }

    fn confirm_and_seal(&self) -> io::Result<()> {
        /// Before each of them torn lines are mended.
        const MOST: usize = 2100;
        self.confirm_all()?;
        let Some(sealer) = self.sealer.get() else {
            return Ok(());
        };
        let since = Instant::now();
        for _ in 0..MOST {
            let found = sealer.seal_all((self.settings.now)(), SEAL_PATIENCE)?;
            let more = found.more;
            self.note_found(found);
            if !more {
                return Ok(());
            }
            // Once more for what could be mended: what is left of the dead is in the way.
            self.sweep(false)?;
            match self.mend_what_was_met() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if since.elapsed() > SEAL_PATIENCE => return Err(error),
                _ => self.directory.state().pause(seal::PAUSE),
            }
        }
        Err(io::Error::other(
            "torn lines are in the way of sealing, and come again when they are written over",
        ))
    }

    /// Notes what sealing came upon.
    pub(super) fn note_found(&self, found: Found) {
        self.counters
            .altered
            .fetch_add(found.altered, Ordering::Relaxed);
        let now = self.now();
        let mut state = self.lock();
        let torn: Vec<Place> = found.torn;
        let new: Vec<Place> = torn
            .into_iter()
            .filter(|place| !state.torn.contains(place))
            .collect();
        if !new.is_empty() {
            state.torn.extend(new);
            self.care.wake();
        }
        for message in found.messages {
            self.directory.warn(message.clone());
            state.last_error = Some((now, message));
        }
    }

    /// Writes what waits, and has the disk confirm every file that was appended to.
    pub(super) fn confirm_all(&self) -> io::Result<()> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.refused.look()?;
        let mut state = self.lock();
        self.write_waiting(&mut state)?;
        let mut files = std::mem::take(&mut state.unsynced);
        files.extend(state.day.as_ref().map(|day| (day.name(), day.handle())));
        let has_new_names = std::mem::take(&mut state.has_new_names);
        // Other threads go on writing while the disk works.
        drop(state);
        for (day, file) in &files {
            if self.refused.contains(*day) {
                file.distrust();
            }
        }

        let mut result = Ok(());
        for (day, file) in files {
            if result.is_err() {
                // One further file a round is enough while the disk refuses.
                self.lock().unsynced.push_back((day, file));
                continue;
            }
            let confirmed = file.confirmed_length();
            let Err(refused) = file.confirm(file.all()) else {
                continue;
            };
            // What is on the disk and isn't sealed won't be, where it is.
            let sealer = self.sealer.get();
            let unsealed = sealer.and_then(|sealer| sealer.first_own(&day));
            let from = unsealed.map_or(confirmed, |unsealed| unsealed.min(confirmed));
            result = match self.write_anew(day, &file, from) {
                Ok(None) => Ok(()),
                Ok(Some(further)) => Err(io::Error::other(format!(
                    "entries of {} from byte {from} on may be lost ({refused}); what could be read \
                     of them is in {}",
                    day.file_name(),
                    further.file_name()
                ))),
                Err(error) => {
                    // Nothing may call it durable before it's written anew.
                    self.lock().unsynced.push_back((day, file));
                    Err(error)
                }
            };
        }
        if has_new_names {
            let synced = self.directory.sync();
            result = result.and(synced.inspect_err(|_| self.lock().has_new_names = true));
        }
        result
    }

    /// Appends to a further file of the day what the disk refused to confirm of one. If not all of it
    /// could be read, says where the rest is.
    fn write_anew(
        &self,
        day: DayName,
        file: &Arc<Durable>,
        from: u64,
    ) -> io::Result<Option<DayName>> {
        let mut state = self.lock();
        self.leave_refused(&mut state, file);
        state
            .unsynced
            .retain(|(_, other)| !Arc::ptr_eq(other, file));
        drop(state);
        // It may be one that isn't appended to any more.
        self.refuse(day);
        let mut further = self.open_day(day.next(), &self.now())?;
        // Another process, or the entry's own call, may have written it there.
        let there = (
            further.name(),
            self.directory.open_day(further.name(), How::Read)?,
        );
        let whole = self.write_again(&mut further, day, file, from, &[there])?;
        let handle = further.handle();
        handle
            .confirm(handle.all())
            .inspect_err(|_| self.refuse(further.name()))?;
        self.directory.sync()?;
        Ok((!whole).then_some(further.name()))
    }

    /// Appends the sound lines of a file from a place on to another one, as far as some files don't have
    /// their entries. Returns whether all could be read and were sound.
    fn write_again(
        &self,
        into: &mut DayFile,
        day: DayName,
        file: &File,
        from: u64,
        known: &[(DayName, File)],
    ) -> io::Result<bool> {
        lines_not_in(lines_of(day, file, from)?, known, |line| {
            let line = [line, b"\n"].concat();
            let (written, torn, cut) = self.put(into, &line)?;
            self.note_met(&mut self.lock(), torn, cut, &self.now());
            self.wrote(&written, &line);
            Ok(())
        })
    }

    /// Writes the lines of unlinked files to their days' files, unless another process has.
    pub(super) fn rescue_the_lost(&self) -> bool {
        let lost = std::mem::take(&mut self.lock().lost);
        let left: Vec<_> = lost
            .into_iter()
            .filter(|(day, file)| self.rescue(*day, file).is_err())
            .collect();
        let all = left.is_empty();
        self.lock().lost.extend(left);
        all
    }

    fn rescue(&self, day: DayName, file: &Durable) -> io::Result<()> {
        let Some(_lock) = self.directory.try_lock()? else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let known = files_of(&self.directory, day.date)?;
        let mut into = self.open_day(day, &self.now())?;
        self.write_again(&mut into, day, file, 0, &known)?;
        if self.settings.to_disk {
            let handle = into.handle();
            handle
                .confirm(handle.all())
                .inspect_err(|_| self.refuse(into.name()))?;
            self.directory.sync()?;
        } else {
            let mut state = self.lock();
            state.has_new_names = true;
            self.keep_unsynced(&mut state, into.name(), into.handle());
        }
        Ok(())
    }

    /// The same by the last one out, who waits for another process that holds the lock.
    pub(super) fn rescue_at_last(&self) {
        for _ in 0..RESCUES {
            if self.rescue_the_lost() {
                break;
            }
            self.directory.state().pause(RESCUE_PAUSE);
        }
    }
}

/// The files of a date, open to read them.
fn files_of(directory: &Directory, date: [u8; 10]) -> io::Result<Vec<(DayName, File)>> {
    let days = directory.days()?.into_iter();
    let of_it = days.filter(|day| day.date == date);
    of_it
        .map(|day| Ok((day, directory.open_day(day, How::Read)?)))
        .collect()
}
