//! The log on disk: one directory, one file a day, whole lines.

mod day;
mod disk;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

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
    /// Held by the one that flushes; says why an earlier sync failed.
    flushing: Mutex<Option<String>>,
    written: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    day: Option<DayFile>,
    /// Earlier files that were appended to since the last flush, by their handles: their names may
    /// have gone.
    unsynced: Vec<Arc<File>>,
    /// Stamped lines of calls that were made, which the log couldn't take when they ended.
    waiting: VecDeque<Line>,
    last_error: Option<(Timestamp, String)>,
}

/// Looks at a held lock before its thread is parked: some tens of microseconds.
const SPINS: usize = 800;

/// Files kept open for the next flush.
const MAX_UNSYNCED: usize = 8;

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
            flushing: Mutex::default(),
            written: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// A thread that panicked while it held the lock left the state as it was between two steps
    /// of `append`, from where the next append goes on.
    fn lock(&self) -> MutexGuard<'_, State> {
        // An append takes two microseconds; to park a thread and wake it takes many more.
        for _ in 0..SPINS {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
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
        self.append_in_order(&mut self.lock(), line)
    }

    /// The same for a call that has been made: on an error the line waits, and is written before
    /// any other as soon as the log takes it.
    pub fn append_or_keep(&self, line: &mut Line) -> Result<(), Error> {
        let mut state = self.lock();
        let result = self.append_in_order(&mut state, line);
        if result.is_err() {
            state.waiting.push_back(line.clone());
        }
        result
    }

    fn append_in_order(&self, state: &mut State, line: &mut Line) -> Result<(), Error> {
        let now = Timestamp::of((self.now)());
        line.stamp(&now);
        let result = self
            .write_waiting(state)
            .and_then(|()| self.write(state, line, &now));
        self.report(state, now, result)
    }

    /// Writes what waits, and has the disk confirm every file that was appended to. Once the disk has
    /// refused, it never says otherwise: the kernel drops what it couldn't write, and calls the next
    /// attempt a success.
    pub fn flush(&self) -> Result<(), Error> {
        let mut refused = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        let stamp = Timestamp::of((self.now)());
        let result = self.write_waiting(&mut state);
        self.report(&mut state, stamp, result)?;
        let mut files = std::mem::take(&mut state.unsynced);
        files.extend(state.day.as_ref().map(DayFile::handle));
        // Other threads go on writing while the disk works.
        drop(state);

        let confirm = || {
            files.iter().try_for_each(|file| file.sync_data())?;
            self.directory.sync()
        };
        let result = match &*refused {
            Some(earlier) => Err(io::Error::other(earlier.clone())),
            None => confirm().inspect_err(|error| {
                *refused = Some(format!(
                    "entries may not be on disk, an earlier sync failed: {error}"
                ));
            }),
        };
        self.report(&mut self.lock(), stamp, result)
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
        while let Some(line) = state.waiting.front().cloned() {
            let now = Timestamp::of((self.now)());
            self.write(state, &line, &now).or_else(|error| {
                if line.date() == now.date() {
                    return Err(error);
                }
                // Its day is over, and the day's file may be gone for good. Better in the next
                // one, with its own timestamp, than to keep all others waiting.
                self.day_file(state, now.date(), &now)?
                    .append(line.as_bytes())?;
                self.count(&line);
                Ok(())
            })?;
            state.waiting.pop_front();
        }
        Ok(())
    }

    /// Appends a stamped line to the file of its date.
    fn write(&self, state: &mut State, line: &Line, now: &Timestamp) -> io::Result<()> {
        self.day_file(state, line.date(), now)?
            .append(line.as_bytes())?;
        self.count(line);
        Ok(())
    }

    fn count(&self, line: &Line) {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.bytes
            .fetch_add(line.as_bytes().len() as u64, Ordering::Relaxed);
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
                if let Some(earlier) = other {
                    if state.unsynced.len() == MAX_UNSYNCED {
                        // Days old: the kernel has written it long ago.
                        state.unsynced.remove(0);
                    }
                    state.unsynced.push(earlier.handle());
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
