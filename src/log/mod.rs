//! The log on disk: one directory, one file a day, whole lines, and what outlives a killed process.
//!
//! [`Log`] is one log in one process. What it does is said in the files that it is about: `calls` (the
//! life of an entry), `current` (the file that is appended to, and the journal), `flush`, `sweep` (the
//! dead), `care` (its thread), `maintain`. DESIGN.md has a table of its locks.

mod append;
mod calls;
mod care;
mod compress;
mod current;
mod directory;
mod disk;
mod durable;
mod expire;
mod find;
mod flush;
mod gather;
mod guard;
mod health;
mod hold;
mod journal;
pub mod keys;
mod known;
mod maintain;
mod mend;
mod own;
mod recent;
mod refused;
mod seal;
mod sweep;
mod tiles;
mod tree;
mod witness;

#[cfg(test)]
mod accidents;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod holds;
#[cfg(test)]
mod late;
#[cfg(test)]
pub mod schedules;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::clock::{Now, Timestamp};
use crate::error::{Error, Status};
use crate::format::entry::Line;
use crate::format::name::{DayName, Place};
use crate::json::Object;

use append::DayFile;
pub use calls::Intent;
use care::Care;
use directory::{Directory, Opening};
use disk::Identity;
pub use disk::{Access, if_there};
use durable::Durable;
use health::{Counters, Health};
pub use hold::{hold, release};
use journal::{Journal, Slot};
pub use maintain::maintain;
use own::Ends;
use refused::Refused;
use seal::Sealer;
pub use seal::Sealing;
pub use sweep::Swept;
pub use witness::{MakeWitnessing, Offer, Witnessing};

/// What a log is asked to be.
pub struct Settings {
    /// Its directory.
    pub path: PathBuf,
    /// Who may read it.
    pub access: Access,
    /// Whether it may be on a network file system.
    pub allow_network: bool,
    /// Whether an acknowledged entry, and an intent, is on disk; otherwise it survives the process.
    pub to_disk: bool,
    /// The clock.
    pub now: Now,
    /// Makes the entry that stands for calls without one: calls go on that the log can't take, and
    /// are counted. Without it they aren't made.
    pub gap_entry: Option<GapEntry>,
    /// How the log is sealed, if it is.
    pub sealing: Option<Sealing>,
    /// Makes, in each process, what shows the tree to witnesses, if they are to see it.
    pub witnessing: Option<MakeWitnessing>,
}

/// Of how many calls, the first and the last.
pub type GapEntry = Box<dyn Fn(u64, &Timestamp, &Timestamp) -> Line + Send + Sync>;

/// Appends lines to the file of their date. Shared by any number of threads; other processes may
/// append to the same files.
pub struct Log {
    /// Itself, for its thread.
    me: Weak<Log>,
    directory: Arc<Directory>,
    settings: Arc<Settings>,
    refused: Arc<Refused>,
    /// Whether all was made that a log needs: on a full disk it may not be yet.
    is_complete: AtomicBool,
    /// Not set where it isn't sealed, or can't be yet.
    sealer: OnceLock<Sealer>,
    /// Where the last line of each file ends that was written before.
    early: Mutex<Ends>,
    state: Mutex<State>,
    counters: Counters,
    /// Held by the one that has the disk confirm the log.
    flushing: Mutex<()>,
    swept: Mutex<Option<Instant>>,
    care: Arc<Care>,
    /// Shows the tree to witnesses, if they are to see it.
    witnessing: Option<Box<dyn Witnessing>>,
}

/// What changes with each entry.
#[derive(Default)]
struct State {
    day: Option<DayFile>,
    /// Whether a file was opened, and maybe made, since the disk confirmed the names in the directory.
    has_new_names: bool,
    /// Earlier files that were appended to since the last flush, by their handles: their names may
    /// have gone.
    unsynced: VecDeque<(DayName, Arc<Durable>)>,
    /// Files that lost their names while they were appended to.
    lost: Vec<(DayName, Arc<Durable>)>,
    /// Files in which a torn line was met, and a place that isn't behind it.
    torn: Vec<Place>,
    /// Entries of calls that were made, which the log couldn't take when they ended.
    waiting: VecDeque<(Line, Option<Slot>)>,
    journal: Option<Arc<Journal>>,
    gap: Option<Gap>,
    /// Kept for the gap's entry, so that the count outlives the process when the disk is full.
    gap_slot: Option<Slot>,
    last_error: Option<(Timestamp, String)>,
}

/// Calls that went on without an entry.
struct Gap {
    calls: u64,
    first: Timestamp,
    line: Line,
    /// Whether the journal has it, so that it outlives the process.
    kept: bool,
}

/// Looks at a held lock before its thread is parked: some tens of microseconds.
const SPINS: usize = 800;

/// How long the first and the last of a log wait for another process that is just sweeping or sealing.
const SWEEP_PATIENCE: Duration = Duration::from_secs(1);

impl Log {
    /// Opens a log, and makes whole what dead processes left. `identity` is the directory's, if it
    /// was opened before.
    pub fn open(
        settings: &Arc<Settings>,
        identity: Option<Identity>,
    ) -> Result<(Arc<Log>, Swept), Error> {
        let log = Log::at(settings, identity, true)?;
        let swept = log.or_count(log.sweep_at_first())?;
        Ok((log, swept))
    }

    fn at(
        settings: &Arc<Settings>,
        identity: Option<Identity>,
        create: bool,
    ) -> Result<Arc<Log>, Error> {
        let directory = Directory::open(&Opening {
            path: &settings.path,
            create,
            access: settings.access,
            allow_network: settings.allow_network,
            to_disk: settings.to_disk,
            identity,
        })?;
        Log::of(Arc::new(directory), settings, create)
    }

    /// The log in a directory that was opened. Whether `its_hashes` are to go on with the configured key.
    fn of(
        directory: Arc<Directory>,
        settings: &Arc<Settings>,
        its_hashes: bool,
    ) -> Result<Arc<Log>, Error> {
        let log = Arc::new_cyclic(|me| Log {
            me: Weak::clone(me),
            refused: Arc::new(Refused::new(&directory)),
            directory,
            settings: Arc::clone(settings),
            is_complete: AtomicBool::new(false),
            sealer: OnceLock::new(),
            early: Mutex::default(),
            state: Mutex::default(),
            counters: Counters::default(),
            flushing: Mutex::default(),
            swept: Mutex::default(),
            care: Arc::default(),
            witnessing: settings.witnessing.as_ref().map(|make| make()),
        });
        let completed = log.complete(its_hashes);
        log.is_complete.store(completed.is_ok(), Ordering::Release);
        log.or_count(completed)?;
        Ok(log)
    }

    /// Makes what a log needs beside its days, and opens its tree.
    fn complete(&self, its_hashes: bool) -> Result<(), Error> {
        self.directory.prepare_state()?;
        let looked = self.refused.look();
        looked.map_err(|error| Error::log(self.message(&error)))?;
        if let (Some(sealing), None) = (&self.settings.sealing, self.sealer.get()) {
            let now = (self.settings.now)();
            let sealer = Sealer::open(&self.directory, &self.refused, sealing, now)?;
            if its_hashes {
                sealer.check_hash_key()?;
            }
            // If another thread was faster, its one is as good.
            let _ = self.sealer.set(sealer);
        }
        Ok(())
    }

    /// The same, where there was no room for it when the log was opened.
    fn complete_late(&self) -> Result<(), Error> {
        if self.is_complete.load(Ordering::Acquire) {
            return Ok(());
        }
        self.complete(true)?;
        if let Some(sealer) = self.sealer.get() {
            let early = std::mem::take(&mut *self.early());
            sealer.wrote_early(early);
        }
        self.is_complete.store(true, Ordering::Release);
        Ok(())
    }

    /// On a full disk a log is opened with a warning, where calls go on that it can't take.
    fn or_count<T: Default>(&self, opened: Result<T, Error>) -> Result<T, Error> {
        opened.or_else(|error| {
            if error.status != Status::Log || !self.counts_gaps() || !self.directory.is_full() {
                return Err(error);
            }
            let message = format!("{}: calls are counted until there is room", error.message);
            self.directory.warn(message);
            Ok(T::default())
        })
    }

    fn counts_gaps(&self) -> bool {
        self.settings.gap_entry.is_some()
    }

    /// Its absolute path.
    pub fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The directory's device and inode.
    pub fn identity(&self) -> Option<Identity> {
        self.directory.identity().ok()
    }

    /// What an operator should know of the directory.
    pub fn warnings(&self) -> Vec<String> {
        self.directory.warnings()
    }

    fn early(&self) -> MutexGuard<'_, Ends> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp::of((self.settings.now)())
    }

    /// A thread that panicked while it held the lock left the state as it was between two steps
    /// of an append, from where the next append goes on.
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

    /// The last of a log in this process: writes what waits, leaves the rest to others, and seals as
    /// much as can be done soon.
    pub fn close(&self) {
        if let Some(witnessing) = &self.witnessing {
            witnessing.end();
        }
        self.leave();
        let Some(sealer) = self.sealer.get() else {
            return;
        };
        let wanted = seal::Wanted {
            publish: true,
            ..seal::Wanted::default()
        };
        let since = Instant::now();
        loop {
            match sealer.seal((self.settings.now)(), wanted) {
                Ok(Some(found)) if found.more => {}
                Ok(None) => {}
                _ => return,
            }
            if since.elapsed() >= SWEEP_PATIENCE {
                return;
            }
            self.directory.state().pause(seal::PAUSE);
        }
    }

    /// Writes what waits, and leaves the rest to others.
    fn leave(&self) {
        self.care.end();
        let now = self.now();
        let mut state = self.lock();
        let result = self.write_waiting(&mut state);
        // Nobody is left to report an error to.
        let _ = self.report(&mut state, now, result);
        self.leave_what_was_moved(&mut state);
        drop(state);
        self.rescue_at_last();
        let mut state = self.lock();
        self.note(&state, state.day.as_ref());
        // From here on it's a dead process's, and found as such.
        *state = State {
            torn: std::mem::take(&mut state.torn),
            ..State::default()
        };
        drop(state);
        let _ = self.mend_what_was_met();
        let _ = self.sweep(false);
    }

    /// Writes the log's health in this process into a report.
    pub fn health(&self, to: &mut Object<'_>) {
        self.health_of(&self.lock()).write(to);
        if let Some(sealer) = self.sealer.get() {
            sealer.health(to.nested("integrity"));
        }
        if let Some(witnessing) = &self.witnessing {
            witnessing.health(to.nested("witnesses"));
        }
    }

    fn health_of(&self, state: &State) -> Health<'_> {
        let has_ended = |slot: &Option<Slot>| slot.as_ref().is_some_and(Slot::has_ended);
        let waiting = state.waiting.iter();
        let in_memory_only = waiting.filter(|(_, slot)| !has_ended(slot)).count();
        let gap_in_memory_only = state.gap.as_ref().is_some_and(|gap| !gap.kept);
        Health {
            counters: &self.counters,
            in_memory_only: in_memory_only + usize::from(gap_in_memory_only),
            pending: state.waiting.len() + usize::from(state.gap.is_some()),
            last_error: state.last_error.clone(),
        }
    }

    fn message(&self, error: &io::Error) -> String {
        format!("the log in {}: {error}", self.directory.path().display())
    }

    /// Notes what went wrong, for health.
    fn fault(&self, error: &io::Error) {
        let now = self.now();
        self.lock().last_error = Some((now, self.message(error)));
    }

    /// The error of a caller whose entry the log couldn't take.
    fn report(
        &self,
        state: &mut State,
        now: Timestamp,
        result: io::Result<()>,
    ) -> Result<(), Error> {
        result.map_err(|error| {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            let message = self.message(&error);
            state.last_error = Some((now, message.clone()));
            Error::log(message)
        })
    }
}
