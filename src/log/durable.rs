//! A file that the disk is asked to confirm, by several threads at once.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::disk::{File, Identity};

/// A file and how much of what was written to it the disk has confirmed.
///
/// Threads that wait at the same time share one fdatasync: the first does it for all that was
/// written before, the others wait for its result or take their turn.
///
/// After a failed fdatasync the kernel drops what it couldn't write, and calls the next attempt a
/// success. So a file whose sync failed once never confirms anything again.
#[derive(Debug)]
pub struct Durable {
    file: File,
    identity: Identity,
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

impl Durable {
    /// A file to which nothing was written yet.
    pub fn new(file: File) -> io::Result<Durable> {
        let stat = file.stat()?;
        Ok(Durable {
            file,
            identity: stat.identity,
            written: AtomicU64::new(0),
            state: Mutex::new(State {
                length: stat.length,
                ..State::default()
            }),
            done: Condvar::new(),
        })
    }

    /// Its device and inode.
    pub fn identity(&self) -> Identity {
        self.identity
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
            let length = self.file.length().unwrap_or(0);
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

impl Deref for Durable {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}
