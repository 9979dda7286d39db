//! A file that the disk is asked to confirm, by several threads at once.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::folder::{self, OpenFile};

/// A file and how much of what was written to it the disk has confirmed.
///
/// Threads that wait at the same time share one fdatasync: the first does it for all that was
/// written before, the others wait for its result or take their turn.
///
/// After a failed fdatasync the kernel drops what it couldn't write, and calls the next attempt a
/// success. So a file whose sync failed once never confirms anything again.
#[derive(Debug)]
pub struct Synced {
    file: OpenFile,
    identity: (u64, u64),
    written: AtomicU64,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    syncing: bool,
    confirmed: u64,
    /// Bytes of the file that the disk has, or that others wrote before.
    length: u64,
    /// Why it never will confirm more.
    failed: Option<String>,
}

/// How much had been written when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

impl Synced {
    /// A file to which nothing was written yet.
    pub fn new(file: OpenFile) -> Synced {
        let metadata = file.metadata();
        let length = metadata.as_ref().map_or(0, |metadata| metadata.len());
        let identity = metadata.map_or((0, 0), |metadata| folder::identity(&metadata));
        Synced {
            file,
            identity,
            written: AtomicU64::new(0),
            state: Mutex::new(State {
                length,
                ..State::default()
            }),
            done: Condvar::new(),
        }
    }

    /// Its device and inode.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Gives its lock back.
    pub fn unlock(&self) {
        folder::unlock(&self.file);
    }

    /// Notes a write, for the disk to confirm.
    pub fn wrote(&self) -> Ticket {
        Ticket(self.written.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// All that was written so far.
    pub fn all(&self) -> Ticket {
        Ticket(self.written.load(Ordering::SeqCst))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the disk has confirmed what was written before the ticket.
    pub fn confirm(&self, Ticket(wanted): Ticket) -> io::Result<()> {
        let mut state = self.state();
        loop {
            if let Some(why) = &state.failed {
                return Err(io::Error::other(why.clone()));
            }
            if state.confirmed >= wanted {
                return Ok(());
            }
            if state.syncing {
                state = self
                    .done
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            let Ticket(written) = self.all();
            drop(state);
            let length = self.file.metadata().map_or(0, |metadata| metadata.len());
            let result = self.file.sync_data();
            state = self.state();
            state.syncing = false;
            match result {
                Ok(()) => {
                    state.confirmed = written;
                    state.length = length.max(state.length);
                }
                Err(error) => {
                    state.failed = Some(format!("the disk didn't confirm a write: {error}"));
                }
            }
            self.done.notify_all();
        }
    }

    /// How far into the file what was written since the last success begins.
    pub fn confirmed_length(&self) -> u64 {
        self.state().length
    }

    /// Has it confirm nothing more, for the disk refused to confirm it to another descriptor.
    pub fn distrust(&self) {
        let why = || "the disk didn't confirm a write to it".to_owned();
        self.state().failed.get_or_insert_with(why);
    }

    /// Whether the disk ever refused.
    pub fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }
}

impl Deref for Synced {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}
