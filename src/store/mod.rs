//! The log on disk: one directory, one file a day, whole lines.

mod day;
mod disk;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Now, Timestamp};
use crate::entry::Line;
use crate::error::Error;

use day::DayFile;
pub use disk::Directory;

/// Appends lines to the file of their date. Shared by any number of threads; other processes may
/// append to the same files.
#[derive(Debug)]
pub struct Store {
    directory: Arc<Directory>,
    now: Now,
    state: Mutex<State>,
    written: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    day: Option<DayFile>,
    /// Dates of earlier files that were appended to since the last flush.
    unsynced: Vec<Vec<u8>>,
    /// Stamped lines of calls that were made, which the log couldn't take when they ended.
    waiting: Vec<Line>,
    last_error: Option<(Timestamp, String)>,
}

/// The store's health in numbers.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Entries appended.
    pub written: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Times that an entry couldn't be appended.
    pub failed: u64,
    /// Entries that wait for the log to take them.
    pub waiting: usize,
    /// What went wrong last, and when.
    pub last_error: Option<(Timestamp, String)>,
}

impl Store {
    /// A store in `directory`.
    pub fn new(directory: Arc<Directory>, now: Now) -> Store {
        Store {
            directory,
            now,
            state: Mutex::default(),
            written: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// A thread that panicked while it held the lock left the state as it was between two steps
    /// of `append`, from where the next append goes on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log can take entries: what waits is written, today's file is open.
    pub fn ready(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let stamp = Timestamp::of((self.now)());
        let result = self
            .write_waiting(&mut state)
            .and_then(|()| self.day_file(&mut state, stamp.date(), &stamp).map(drop));
        self.report(&mut state, stamp, result)
    }

    /// Stamps a line and appends it. On an error it isn't in the log, and it never will be.
    pub fn append(&self, line: &mut Line) -> Result<(), Error> {
        let mut state = self.lock();
        let stamp = Timestamp::of((self.now)());
        line.stamp(&stamp);
        let result = self
            .write_waiting(&mut state)
            .and_then(|()| self.write(&mut state, line, &stamp));
        self.report(&mut state, stamp, result)
    }

    /// The same for a call that has been made: on an error the line waits, and is written before
    /// any other as soon as the log takes it.
    pub fn append_or_keep(&self, line: &mut Line) -> Result<(), Error> {
        let result = self.append(line);
        if result.is_err() {
            self.lock().waiting.push(line.clone());
        }
        result
    }

    /// Writes what waits, and has the disk confirm the current file.
    pub fn flush(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let stamp = Timestamp::of((self.now)());
        let result = self.write_waiting(&mut state);
        self.report(&mut state, stamp, result)?;
        let current = state.day.as_ref().map(DayFile::handle);
        let earlier = std::mem::take(&mut state.unsynced);
        // Other threads go on while the disk works.
        drop(state);

        let confirm = || {
            for date in &earlier {
                self.directory
                    .open_to_sync(&day::file_name(date))?
                    .sync_data()?;
            }
            current.map_or(Ok(()), |file| file.sync_data())?;
            self.directory.sync()
        };
        let result = confirm();
        let mut state = self.lock();
        if result.is_err() {
            state.unsynced.extend(earlier);
        }
        self.report(&mut state, stamp, result)
    }

    /// The store's counters and its last error.
    pub fn health(&self) -> Health {
        let state = self.lock();
        Health {
            written: self.written.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            waiting: state.waiting.len(),
            last_error: state.last_error.clone(),
        }
    }

    fn write_waiting(&self, state: &mut State) -> io::Result<()> {
        while let Some(line) = state.waiting.first().cloned() {
            let now = Timestamp::of((self.now)());
            self.write(state, &line, &now)?;
            state.waiting.remove(0);
        }
        Ok(())
    }

    /// Appends a stamped line to the file of its date.
    fn write(&self, state: &mut State, line: &Line, now: &Timestamp) -> io::Result<()> {
        self.day_file(state, line.date(), now)?
            .append(line.as_bytes())?;
        self.written.fetch_add(1, Ordering::Relaxed);
        self.bytes
            .fetch_add(line.as_bytes().len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn day_file<'s>(
        &self,
        state: &'s mut State,
        date: &[u8],
        now: &Timestamp,
    ) -> io::Result<&'s mut DayFile> {
        let day = match state.day.take() {
            Some(day) if day.is_of(date) && day.is_in_place(&self.directory, now) => day,
            other => {
                if let Some(earlier) = other.filter(|earlier| !earlier.is_of(date)) {
                    state.unsynced.push(earlier.date().to_vec());
                }
                DayFile::open(&self.directory, date, now)?
            }
        };
        Ok(state.day.insert(day))
    }

    fn report(
        &self,
        state: &mut State,
        now: Timestamp,
        result: io::Result<()>,
    ) -> Result<(), Error> {
        result.map_err(|error| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let message = format!("the log in {}: {error}", self.directory.path().display());
            state.last_error = Some((now, message.clone()));
            Error::log(message)
        })
    }
}
