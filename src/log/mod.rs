//! The log on disk: one directory, one file a day, whole lines, and what outlives a killed process.

mod care;
mod day;
mod disk;
mod durable;
mod folder;
mod guard;
mod health;
mod journal;
pub mod keys;
mod maintain;
mod own;
mod recover;
mod seal;
mod tree;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::{Now, Timestamp};
use crate::error::{Error, Status};
use crate::format::entry::Line;
use crate::format::name::{DayName, Place};
use crate::json::Object;

use day::DayFile;

use disk::{Directory, Opening};
use durable::{Synced, Ticket};
pub use folder::Access;
use health::{Counters, Health};
use journal::{Journal, Slot};
pub use maintain::maintain;
pub use seal::Sealing;
use seal::{Found, Sealer};

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
}

/// Of how many calls, the first and the last.
pub type GapEntry = Box<dyn Fn(u64, &Timestamp, &Timestamp) -> Line + Send + Sync>;

/// Appends lines to the file of their date. Shared by any number of threads; other processes may
/// append to the same files.
pub struct Store {
    directory: Arc<Directory>,
    settings: Arc<Settings>,
    sealer: Option<Sealer>,
    state: Mutex<State>,
    counters: Counters,
    /// Held by the one that flushes.
    flushing: Mutex<()>,
    /// Flushes by the keeper, and their ends.
    asked: (Mutex<Asked>, Condvar),
    swept: Mutex<Option<Instant>>,
}

/// Flushes that were asked for, by number.
#[derive(Default)]
struct Asked {
    last: u64,
    done: u64,
    /// What the last one came to.
    result: Option<Error>,
}

/// The intent of a call, kept until its entry is in the log.
#[derive(Debug)]
pub struct Intent(Option<Slot>);

#[derive(Default)]
struct State {
    day: Option<DayFile>,
    /// The file of the day that the disk refused: the next one is to follow it.
    refused: Option<DayName>,
    /// Earlier files that were appended to since the last flush, by their handles: their names may
    /// have gone.
    unsynced: VecDeque<(DayName, Arc<Synced>)>,
    /// Files that lost their names while they were appended to.
    lost: Vec<(DayName, Arc<Synced>)>,
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
}

/// What opening a log, or looking after it, found and did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Swept {
    /// Entries written for calls that a process was killed in.
    pub recovered: u64,
    /// Torn lines written over.
    pub torn: u64,
}

/// Looks at a held lock before its thread is parked: some tens of microseconds.
const SPINS: usize = 800;

/// Files kept open for the next flush.
const MAX_UNSYNCED: usize = 8;

/// How often the dead are looked for.
const SWEEP: Duration = Duration::from_secs(4);

/// How soon the keeper tries to seal again what another process's sealing, or a long backlog, left.
const SEAL_AGAIN: Duration = Duration::from_millis(50);

/// How long a flush waits for another process that is just sealing.
const SEAL_PATIENCE: Duration = Duration::from_secs(10);

/// How long the first and the last of a log wait for another process that is just sweeping or sealing.
const SWEEP_PATIENCE: Duration = Duration::from_secs(1);

/// How often the last one out tries to write the lines of a deleted file again, while another process
/// holds the directory's lock.
const RESCUES: usize = 100;
const RESCUE_PAUSE: Duration = Duration::from_millis(10);

/// More entries don't wait where calls go on without: their room in the journal grows.
const MAX_WAITING: usize = 1000;

/// How often a further file is begun for an entry before it's given up.
const MAX_REFUSALS: usize = 3;

impl Store {
    /// Opens a log, and makes whole what dead processes left. `identity` is the directory's, if it
    /// was opened before.
    pub fn open(
        settings: &Arc<Settings>,
        identity: Option<(u64, u64)>,
    ) -> Result<(Arc<Store>, Swept), Error> {
        let store = Store::at(settings, identity, true)?;
        if let Some(sealer) = &store.sealer {
            sealer.check_hash_key()?;
        }
        let swept = store.sweep_at_first()?;
        care::enlist(&store);
        Ok((store, swept))
    }

    fn at(
        settings: &Arc<Settings>,
        identity: Option<(u64, u64)>,
        create: bool,
    ) -> Result<Arc<Store>, Error> {
        let directory = Directory::open(&Opening {
            path: &settings.path,
            create,
            access: settings.access,
            allow_network: settings.allow_network,
            to_disk: settings.to_disk,
            identity,
        })?;
        let directory = Arc::new(directory);
        let sealer = settings.sealing.as_ref();
        let sealer = sealer.map(|sealing| Sealer::open(&directory, sealing, (settings.now)()));
        Ok(Arc::new(Store {
            directory,
            settings: Arc::clone(settings),
            sealer: sealer.transpose()?,
            state: Mutex::default(),
            counters: Counters::default(),
            flushing: Mutex::default(),
            asked: Default::default(),
            swept: Mutex::default(),
        }))
    }

    fn counts_gaps(&self) -> bool {
        self.settings.gap_entry.is_some()
    }

    fn sweep_at_first(&self) -> Result<Swept, Error> {
        let since = Instant::now();
        loop {
            match self.sweep(true) {
                Ok(Some(swept)) => return Ok(swept),
                Ok(None) if since.elapsed() < SWEEP_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // The other process makes it whole.
                Ok(None) => return Ok(Swept::default()),
                Err(error) => {
                    let now = self.now();
                    self.report(&mut self.lock(), now, Err(error))?;
                }
            }
        }
    }

    /// Its absolute path.
    pub fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The directory's device and inode.
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.directory.identity().ok()
    }

    /// What an operator should know of the directory.
    pub fn warnings(&self) -> Vec<String> {
        self.directory.warnings()
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

    // ------------------------------------------------------------ the life of an entry

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
        let mut state = self.lock();
        let now = self.now();
        line.stamp(&now);
        let result = self.put(&mut state, line, &now, None);
        let result = self.confirmed(state, result, line, None);
        let result = result.map(|written| self.wrote(&written, line));
        result.or_else(|error| self.report(&mut self.lock(), now, Err(error)))
    }

    /// Stamps and appends the entry of a call that was begun. On an error it waits, and is written
    /// before any other as soon as the log takes it; where there was no room for an intent, it is
    /// counted instead.
    pub fn finish(&self, Intent(mut slot): Intent, line: &mut Line) -> Result<(), Error> {
        let mut state = self.lock();
        let now = self.now();
        line.stamp(&now);
        let result = self.put(&mut state, line, &now, slot.as_mut());
        match self.confirmed(state, result, line, slot.as_mut()) {
            Ok(written) => {
                self.wrote(&written, line);
                if let Some(slot) = slot {
                    // If it stays, the entry is found in the log.
                    let _ = slot.clear();
                }
                Ok(())
            }
            Err(error) => {
                let mut state = self.lock();
                match &self.settings.gap_entry {
                    Some(entry) if slot.is_none() => self.count_gap(&mut state, now, entry),
                    _ => self.keep_waiting(&mut state, line.clone(), slot),
                }
                care::wake();
                self.report(&mut state, now, Err(error))
            }
        }
    }

    /// Appends a line behind all that waits.
    fn put(
        &self,
        state: &mut State,
        line: &Line,
        now: &Timestamp,
        slot: Option<&mut Slot>,
    ) -> io::Result<Written> {
        self.write_waiting(state)
            .and_then(|()| self.write(state, line, now, slot))
    }

    /// Has a line sealed that was written, and isn't yet.
    fn wrote(&self, written: &Written, line: &Line) {
        if let (Some(sealer), Some(place)) = (&self.sealer, written.place)
            && sealer.wrote(
                place,
                written.file.identity(),
                line.as_bytes().trim_ascii_end(),
            )
        {
            care::wake_in(sealer.interval());
        }
    }

    /// Has the disk confirm what was written, where it must; what it refuses is written again, to
    /// a further file of the day. Returns where it is.
    fn confirmed(
        &self,
        state: MutexGuard<'_, State>,
        written: io::Result<Written>,
        line: &Line,
        mut slot: Option<&mut Slot>,
    ) -> io::Result<Written> {
        let mut written = written?;
        if !self.settings.to_disk {
            return Ok(written);
        }
        drop(state);
        for _ in 0..MAX_REFUSALS {
            let Err(error) = written.file.confirm(written.ticket) else {
                return Ok(written);
            };
            let mut state = self.lock();
            let now = self.now();
            self.refuse(&mut state, &written.file);
            let _ = self.report(&mut state, now, Err(error));
            written = self.write(&mut state, line, &now, slot.as_deref_mut())?;
        }
        written.file.confirm(written.ticket)?;
        Ok(written)
    }

    /// Turns away from a file whose sync failed. What isn't sealed of it is to be written anew; the rest
    /// is its writers' to write again.
    fn refuse(&self, state: &mut State, file: &Arc<Synced>) {
        if let Some(day) = self.turn_away(state, file)
            && self.sealer.is_some()
        {
            keep_unsynced(state, day, Arc::clone(file));
        }
    }

    /// The same, but for what it holds. Returns which file it is if it was the current one.
    fn turn_away(&self, state: &mut State, file: &Arc<Synced>) -> Option<DayName> {
        let current = state.day.take_if(|day| Arc::ptr_eq(&day.handle(), file));
        let day = current?.name();
        self.distrust(day);
        self.counters.unconfirmed.fetch_add(1, Ordering::Relaxed);
        state.refused = Some(day);
        Some(day)
    }

    /// Has nobody seal more of a file.
    fn distrust(&self, day: DayName) {
        if let Some(sealer) = &self.sealer {
            sealer.distrust(day);
        }
    }

    /// Whether nobody seals more of a file.
    fn distrusts(&self, day: &DayName) -> bool {
        let sealer = self.sealer.as_ref();
        sealer.is_some_and(|sealer| sealer.distrusts(day))
    }

    fn keep_waiting(&self, state: &mut State, line: Line, mut slot: Option<Slot>) {
        if let Some(slot) = &mut slot {
            let place = state.day.as_ref().and_then(|day| day.place().ok());
            let place = place.unwrap_or(Place::head_of(line.date()));
            // If it can't be written, the intent stands.
            let _ = slot.end(place, &line);
            if self.settings.to_disk {
                let _ = slot.confirm();
            }
        }
        state.waiting.push_back((line, slot));
    }

    fn count_gap(&self, state: &mut State, now: Timestamp, entry: &GapEntry) {
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
        if let Some(slot) = &mut state.gap_slot {
            let place = Place::head_of(*now.date());
            // If it can't be written, the count lives as long as the process. The outcome of an earlier
            // count holds fewer calls, and would be believed.
            line.stamp(&now);
            let _ = slot
                .replace(place, &line)
                .and_then(|()| slot.end(place, &line));
        }
        state.gap = Some(Gap { calls, first, line });
    }

    fn write_waiting(&self, state: &mut State) -> io::Result<()> {
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
    fn write_late(
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
            written
                .file
                .confirm(written.ticket)
                .inspect_err(|_| self.refuse(state, &written.file))?;
        }
        Ok(())
    }

    /// Appends a stamped line to the file of its date.
    fn write(
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
            }
        }
        let (ticket, found) = day.append(line.as_bytes())?;
        let bytes = line.as_bytes().len() as u64;
        let start = day.start_of_last(bytes);
        let place = start.map(|offset| Place { offset, ..here });
        let file = day.handle();
        if found.torn {
            // In a file that was cut short, the torn line is before where we had been.
            let offset = if found.cut { 0 } else { here.offset };
            state.torn.push(Place { offset, ..here });
            care::wake();
        }
        if found.cut {
            let message = format!(
                "{} was cut short by somebody: entries are missing",
                here.day.file_name()
            );
            self.directory.warn(message.clone());
            state.last_error = Some((*now, message));
        }
        self.counters.written.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Written {
            file,
            ticket,
            place,
        })
    }

    /// The file of a date, open.
    fn day_file<'s>(
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
                let refused = state.refused.take_if(|refused| refused.date == *date);
                let day = self.open_day(date, refused, now)?;
                if self.settings.to_disk {
                    // Its name, if it was just created.
                    directory.sync()?;
                }
                self.note(state, Some(&day));
                day
            }
        };
        care::start();
        Ok(state.day.insert(day))
    }

    /// Opens the file of a date behind what the disk refused to confirm.
    fn open_day(
        &self,
        date: &[u8; 10],
        refused: Option<DayName>,
        now: &Timestamp,
    ) -> io::Result<DayFile> {
        let sealer = self.sealer.as_ref();
        let distrusted = sealer.and_then(|sealer| sealer.last_distrusted(date));
        match (distrusted, refused) {
            // All processes that seal go on in the same one.
            (Some(distrusted), _) => DayFile::open(&self.directory, distrusted.next(), now),
            // Whether others were refused what is there already, nobody knows.
            (None, Some(refused)) => DayFile::create_after(&self.directory, refused, now),
            (None, None) => DayFile::open(&self.directory, DayName::first(*date), now),
        }
    }

    /// Leaves a file that isn't the current one any more.
    fn retire(&self, state: &mut State, day: &DayFile) {
        let file = day.handle();
        let gone = file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        if gone {
            state.lost.push((day.name(), file));
            care::wake();
            return;
        }
        keep_unsynced(state, day.name(), file);
    }

    /// Leaves the current file if it has lost its name.
    fn leave_what_was_moved(&self, state: &mut State) {
        let moved = state.day.take_if(|day| !day.has_its_name(&self.directory));
        if let Some(day) = moved {
            self.retire(state, &day);
        }
    }

    /// Leaves the current file if its day is over, so that it can be compressed or removed: nobody
    /// has appended since.
    fn leave_what_is_over(&self, state: &mut State, now: &Timestamp) {
        let over = state.day.take_if(|day| now.is_over(&day.name().date));
        if let Some(day) = over {
            self.retire(state, &day);
        }
    }

    /// This process's journal, made if there is none.
    fn journal<'s>(&self, state: &'s mut State) -> io::Result<&'s Arc<Journal>> {
        // What a refused one still holds stays in it.
        let usable = state.journal.take_if(|journal| !journal.has_failed());
        let journal = match usable {
            Some(journal) => journal,
            None => {
                let journal = Journal::create(&self.directory)?;
                if let Err(error) = self.prepare(state, &journal) {
                    let _ = journal.remove();
                    return Err(error);
                }
                if let Some(refused) = &state.journal {
                    // It goes on in the next one, and would be counted twice.
                    let _ = journal.note(&refused.read_note().unwrap_or_default());
                    let _ = refused.note("{}");
                }
                journal
            }
        };
        Ok(state.journal.insert(journal))
    }

    fn prepare(&self, state: &mut State, journal: &Arc<Journal>) -> io::Result<()> {
        if self.settings.to_disk {
            self.directory.state().sync()?;
        }
        if self.counts_gaps() {
            let place = Place::head_of(*self.now().date());
            let mut slot = journal.reserve(place)?;
            if let Some(gap) = &state.gap {
                slot.replace(place, &gap.line)?;
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
    fn note(&self, state: &State, day: Option<&DayFile>) {
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

    // ------------------------------------------------------------ on request

    /// Writes what waits, has the disk confirm every file that was appended to, and seals them.
    pub fn flush(&self) -> Result<(), Error> {
        /// Before each of them a torn line is mended, or can't be.
        const MOST: usize = 100;
        let mut result = self.confirm_all();
        let mut torn = Vec::new();
        for _ in 0..MOST {
            let (Ok(()), Some(sealer)) = (&result, &self.sealer) else {
                break;
            };
            let found = sealer.seal_all((self.settings.now)(), SEAL_PATIENCE);
            let met = found
                .as_ref()
                .map_or(Vec::new(), |found| found.torn.clone());
            result = found.map(|found| self.note_found(found));
            // Once more for what could be mended.
            if met.is_empty() || met == torn || !self.mend_what_was_met() {
                break;
            }
            torn = met;
        }
        let now = self.now();
        self.fault(&mut self.lock(), now, result)
    }

    /// Notes what sealing came upon.
    fn note_found(&self, found: Found) {
        self.counters
            .altered
            .fetch_add(found.altered, Ordering::Relaxed);
        let mut state = self.lock();
        let mut torn = false;
        for place in found.torn {
            if !state.torn.contains(&place) {
                state.torn.push(place);
                torn = true;
            }
        }
        let now = self.now();
        for message in found.messages {
            self.directory.warn(message.clone());
            state.last_error = Some((now, message));
        }
        drop(state);
        if torn {
            care::wake();
        }
    }

    /// Writes what waits, and has the disk confirm every file that was appended to.
    fn confirm_all(&self) -> io::Result<()> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealer) = &self.sealer {
            sealer.look_for_distrusted()?;
        }
        let mut state = self.lock();
        self.write_waiting(&mut state)?;
        let mut files = std::mem::take(&mut state.unsynced);
        files.extend(state.day.as_ref().map(|day| (day.name(), day.handle())));
        // Other threads go on writing while the disk works.
        drop(state);
        for (day, file) in &files {
            if self.distrusts(day) {
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
            let unsealed = self
                .sealer
                .as_ref()
                .and_then(|sealer| sealer.first_own(&day));
            let from = unsealed.map_or(confirmed, |unsealed| unsealed.min(confirmed));
            result = match self.write_anew(day, &file, from) {
                Ok(None) => result,
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
        result.and_then(|()| self.directory.sync())
    }

    /// The same, but by the keeper, whose thread can wait for the disk longer than the caller does.
    /// Without a keeper or a limit, the caller waits.
    pub fn flush_within(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let Some(timeout) = timeout.filter(|_| care::runs()) else {
            return self.flush();
        };
        let (lock, ended) = &self.asked;
        let mut asked = lock.lock().unwrap_or_else(PoisonError::into_inner);
        asked.last += 1;
        let ours = asked.last;
        care::wake();
        let (asked, waited) = ended
            .wait_timeout_while(asked, timeout, |asked| asked.done < ours)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(Error::new(
                Status::Timeout,
                "the log wasn't confirmed by the disk and sealed in time; it may yet be",
            ));
        }
        asked.result.clone().map_or(Ok(()), Err)
    }

    /// Does the flushes that were asked for until now, all at once.
    fn flush_as_asked(&self) {
        let (lock, ended) = &self.asked;
        let asked = || lock.lock().unwrap_or_else(PoisonError::into_inner);
        let until = asked().last;
        if asked().done == until {
            return;
        }
        let result = self.flush().err();
        let mut asked = asked();
        asked.done = until;
        asked.result = result;
        ended.notify_all();
    }

    /// Appends to a further file of the day what the disk refused to confirm of one. If not all of it
    /// could be read, says where the rest is.
    fn write_anew(
        &self,
        day: DayName,
        file: &Arc<Synced>,
        from: u64,
    ) -> io::Result<Option<DayName>> {
        self.turn_away(&mut self.lock(), file);
        // It may be one that isn't appended to any more.
        self.distrust(day);
        let mut further = self.open_day(&day.date, Some(day), &self.now())?;
        let handle = further.handle();
        // Another process, or the entry's own call, may have written it there.
        let known = recover::ids_in(further.name(), &handle)?;
        let whole = recover::sound_lines(recover::lines_of(day, file, from)?, |line| {
            if recover::id_of(line).is_some_and(|id| known.contains(&id)) {
                return Ok(());
            }
            let text = [line, b"\n"].concat();
            further.append(&text)?;
            let start = further.start_of_last(text.len() as u64);
            if let (Some(sealer), Some(offset)) = (&self.sealer, start) {
                let day = further.name();
                sealer.wrote(Place { day, offset }, handle.identity(), line);
            }
            Ok(())
        })?;
        handle
            .confirm(handle.all())
            .inspect_err(|_| self.distrust(further.name()))?;
        self.directory.sync()?;
        Ok((!whole).then_some(further.name()))
    }

    /// Writes the log's health in this process into a report.
    pub fn health(&self, to: &mut Object<'_>) {
        self.health_of(&self.lock()).write(to);
        if let Some(sealer) = &self.sealer {
            sealer.health(to.nested("integrity"));
        }
    }

    fn health_of(&self, state: &State) -> Health<'_> {
        Health {
            counters: &self.counters,
            pending: state.waiting.len() + usize::from(state.gap.is_some()),
            last_error: state.last_error.clone(),
        }
    }

    /// The last of a log in this process: writes what waits, leaves the rest to others, and seals as
    /// much as can be done soon.
    pub fn close(self: &Arc<Self>) {
        self.leave();
        let Some(sealer) = &self.sealer else {
            return;
        };
        let since = Instant::now();
        while since.elapsed() < SWEEP_PATIENCE {
            match sealer.seal((self.settings.now)(), true, None) {
                Ok(Some(found)) if found.more => {}
                Ok(None) => {}
                _ => return,
            }
            std::thread::sleep(seal::PAUSE);
        }
    }

    /// Writes what waits, and leaves the rest to others.
    fn leave(self: &Arc<Self>) {
        care::dismiss(self);
        let now = self.now();
        let mut state = self.lock();
        let result = self.write_waiting(&mut state);
        // Nobody is left to report an error to.
        let _ = self.report(&mut state, now, result);
        self.leave_what_was_moved(&mut state);
        drop(state);
        for _ in 0..RESCUES {
            if self.rescue_the_lost() {
                break;
            }
            std::thread::sleep(RESCUE_PAUSE);
        }
        let mut state = self.lock();
        self.note(&state, state.day.as_ref());
        // From here on it's a dead process's, and found as such.
        *state = State {
            torn: std::mem::take(&mut state.torn),
            ..State::default()
        };
        drop(state);
        self.mend_what_was_met();
        let _ = self.sweep(false);
    }

    // ------------------------------------------------------------ looking after

    /// What the keeper does from time to time. Returns whether all is well.
    fn look_after(&self) -> bool {
        self.flush_as_asked();
        let now = self.now();
        let mut state = self.lock();
        let result = self.write_waiting(&mut state);
        if let Err(error) = result {
            state.last_error = Some((now, self.message(&error)));
        }
        self.leave_what_was_moved(&mut state);
        self.leave_what_is_over(&mut state, &now);
        self.note(&state, state.day.as_ref());
        drop(state);

        let rescued = self.rescue_the_lost();
        let mended = self.mend_what_was_met();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            *swept = Some(Instant::now());
            drop(swept);
            if let Err(error) = self.sweep(false) {
                self.lock().last_error = Some((now, self.message(&error)));
            }
        }
        let sealed = self.seal();
        let state = self.lock();
        rescued && mended && sealed && state.waiting.is_empty() && state.gap.is_none()
    }

    /// Seals what there is, if it's time. Returns whether all is well.
    fn seal(&self) -> bool {
        let Some(sealer) = &self.sealer else {
            return true;
        };
        let due_in = sealer.due_in();
        if !due_in.is_zero() {
            if sealer.has_unsealed() {
                care::wake_in(due_in);
            }
            return true;
        }
        // What the disk refuses to confirm is written anew, and not signed where it is.
        let sealed = self
            .confirm_all()
            .and_then(|()| sealer.seal((self.settings.now)(), false, None));
        match sealed {
            Ok(found) => found.into_iter().for_each(|found| self.note_found(found)),
            Err(error) => {
                self.lock().last_error = Some((self.now(), self.message(&error)));
                return false;
            }
        }
        if sealer.has_unsealed() {
            care::wake_in(sealer.due_in().max(SEAL_AGAIN));
        }
        true
    }

    /// Writes the lines of unlinked files to their days' files, unless another process has.
    fn rescue_the_lost(&self) -> bool {
        let lost = std::mem::take(&mut self.lock().lost);
        if lost.is_empty() {
            return true;
        }
        let rescue = |day: DayName, file: &Synced| -> io::Result<()> {
            let Some(_lock) = self.directory.try_lock()? else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            let mut known = HashSet::new();
            for other in self.directory.days()? {
                if other.date == day.date {
                    let open = self.directory.open_to_read(&other.file_name())?;
                    known.extend(recover::ids_in(other, &open)?);
                }
            }
            let mut into = None;
            recover::sound_lines(recover::lines_of(day, file, 0)?, |line| {
                if recover::id_of(line).is_some_and(|id| known.contains(&id)) {
                    return Ok(());
                }
                let into = match &mut into {
                    Some(into) => into,
                    none => none.insert(DayFile::open(&self.directory, day, &self.now())?),
                };
                let line = [line, b"\n"].concat();
                into.append(&line).map(drop)
            })?;
            Ok(())
        };
        let left: Vec<_> = lost
            .into_iter()
            .filter(|(day, file)| rescue(*day, file).is_err())
            .collect();
        let all = left.is_empty();
        self.lock().lost.extend(left);
        all
    }

    /// Writes over the torn lines that appends have met.
    fn mend_what_was_met(&self) -> bool {
        let torn = std::mem::take(&mut self.lock().torn);
        if torn.is_empty() {
            return true;
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
        mended.is_ok()
    }

    fn mend(&self, from: Place) -> io::Result<u64> {
        let torn = recover::mend(&self.directory, from, &self.now())?;
        self.counters.torn.fetch_add(torn, Ordering::Relaxed);
        Ok(torn)
    }

    /// Makes whole what dead processes left, and reports the directory's health. `None` if another
    /// process is at it. `all`: every day's tail is looked at, not only the last ones.
    fn sweep(&self, all: bool) -> io::Result<Option<Swept>> {
        let Some(_lock) = self.directory.try_lock()? else {
            return Ok(None);
        };
        self.make_whole(all).map(Some)
    }

    /// The same, by one who holds the directory's lock.
    fn make_whole(&self, all: bool) -> io::Result<Swept> {
        /// The file of today, that of yesterday, and further ones of theirs.
        const LAST: usize = 4;
        let mut swept = Swept::default();
        let (mut alive, mut dead) = (Vec::new(), Vec::new());
        for name in self.directory.state_names(journal::PREFIX)? {
            let journal = match Journal::adopt(&self.directory, &name) {
                Ok(Some(journal)) => journal,
                Ok(None) => {
                    if let Ok(file) = self.directory.open_state(&name) {
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
                Err(error) => self.lock().last_error = Some((self.now(), self.message(&error))),
            }
        }
        let mut days = self.directory.days()?;
        days.retain(|day| !day.compressed);
        let skip = if all {
            0
        } else {
            days.len().saturating_sub(LAST)
        };
        for day in days.into_iter().skip(skip) {
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

    fn close_tail(&self, day: DayName) -> io::Result<u64> {
        match recover::close_tail(&self.directory, day)? {
            Some(offset) => self.mend(Place { day, offset }),
            None => Ok(0),
        }
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
        if let (Some(day), Some(offset)) = (day, note["offset"].as_u64()) {
            let mended = self
                .close_tail(day)
                .and_then(|torn| Ok(torn + self.mend(Place { day, offset })?));
            match mended {
                Ok(torn) => swept.torn += torn,
                // The calls get their entries all the same.
                Err(error) => self.directory.warn(error.to_string()),
            }
        }
        let calls = journal.kept()?;
        let ids = calls.iter().map(|(_, kept)| kept.line.id()).collect();
        let first = calls.iter().map(|(_, kept)| kept.place).min();
        let mut found = match first {
            Some(place) => self.find(place, &ids)?,
            None => recover::Found::default(),
        };
        for (mut slot, kept) in calls {
            let id = kept.line.id();
            if !found.there.contains(&id) {
                let mut state = self.lock();
                let now = self.now();
                // What the disk may have lost is written again as it was; whoever reads folds the twins.
                let line = found.doubtful.remove(&id).unwrap_or_else(|| {
                    let mut line = kept.line;
                    if !kept.ended {
                        line.stamp(&now);
                    }
                    line
                });
                let mut tries = 0;
                // What the disk refuses goes to a further file, now: later it would be found here.
                while let Err(error) = self.write_late(&mut state, &line, &now, Some(&mut slot)) {
                    tries += 1;
                    if state.refused.is_none() || tries > MAX_REFUSALS {
                        return Err(error);
                    }
                }
                drop(state);
                self.counters.recovered.fetch_add(1, Ordering::Relaxed);
                swept.recovered += 1;
            }
            slot.clear()?;
        }
        journal.remove()
    }

    /// Which entries the log has, and the disk with it if it must.
    fn find(&self, place: Place, ids: &HashSet<Uuid>) -> io::Result<recover::Found> {
        if let Some(sealer) = &self.sealer {
            sealer.look_for_distrusted()?;
        }
        recover::find(&self.directory, place, ids, |day| {
            !self.settings.to_disk || self.is_kept(day)
        })
    }

    /// Whether the disk has all of a file.
    fn is_kept(&self, day: DayName) -> bool {
        if day.compressed {
            return true;
        }
        // A file that can't be written to any more has been confirmed long ago.
        let Ok(file) = self.directory.open_to_mend(&day.file_name()) else {
            return true;
        };
        if !self.distrusts(&day) && file.sync_data().is_ok() {
            return true;
        }
        self.distrust(day);
        let mut state = self.lock();
        let current = state.day.as_ref().filter(|current| current.name() == day);
        if let Some(file) = current.map(DayFile::handle) {
            file.distrust();
            self.refuse(&mut state, &file);
        }
        state.refused = Some(day);
        false
    }

    fn message(&self, error: &io::Error) -> String {
        format!("the log in {}: {error}", self.directory.path().display())
    }

    fn report(
        &self,
        state: &mut State,
        now: Timestamp,
        result: io::Result<()>,
    ) -> Result<(), Error> {
        if result.is_err() {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.fault(state, now, result)
    }

    /// The same of what isn't an entry that the log couldn't take.
    fn fault(
        &self,
        state: &mut State,
        now: Timestamp,
        result: io::Result<()>,
    ) -> Result<(), Error> {
        result.map_err(|error| {
            let message = self.message(&error);
            state.last_error = Some((now, message.clone()));
            Error::log(message)
        })
    }
}

/// Keeps a file that was appended to for the next flush.
fn keep_unsynced(state: &mut State, day: DayName, file: Arc<Synced>) {
    if state.unsynced.len() >= MAX_UNSYNCED {
        // Days old: the kernel has written it long ago.
        state.unsynced.pop_front();
    }
    state.unsynced.push_back((day, file));
}

/// Where a line was written.
struct Written {
    file: Arc<Synced>,
    ticket: Ticket,
    place: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::{SystemTime, UNIX_EPOCH};

    /// The day that the log's clock shows.
    static DAY: AtomicU64 = AtomicU64::new(0);

    fn noon() -> SystemTime {
        let days = DAY.load(Ordering::SeqCst);
        UNIX_EPOCH + Duration::from_secs(days * 86_400 + 43_200)
    }

    fn line() -> Line {
        let id = Uuid::new_v4();
        let text =
            format!("{{\"id\":\"{id}\",\"timestamp\":\"0000-00-00T00:00:00.000000Z\",\"n\":1}}\n");
        Line::from_bytes(text.into_bytes()).unwrap()
    }

    fn settings(path: &std::path::Path, now: Now) -> Arc<Settings> {
        Arc::new(Settings {
            path: path.to_owned(),
            access: Access::Owner,
            allow_network: false,
            to_disk: false,
            now,
            gap_entry: None,
            sealing: None,
        })
    }

    /// Has the keeper look after it no more.
    fn leave_alone(store: &Arc<Store>) {
        care::dismiss(store);
        while Arc::strong_count(store) > 1 {
            std::thread::yield_now();
        }
    }

    fn scratch() -> PathBuf {
        std::env::temp_dir().join(format!("audit_logger-store-{}", Uuid::new_v4()))
    }

    #[test]
    fn a_kill_between_an_entry_and_its_slot_leaves_one_whatever_the_clock_did() {
        let path = scratch();
        let settings = settings(&path, noon);
        for (begun, ended) in [(200, 200), (200, 201), (200, 199), (202, 100)] {
            for written in [false, true] {
                DAY.store(begun, Ordering::SeqCst);
                let (store, _) = Store::open(&settings, None).unwrap();
                let mut entry = line();
                let Intent(slot) = store.begin(&entry, 1000).unwrap();
                let mut slot = slot.unwrap();
                DAY.store(ended, Ordering::SeqCst);
                if written {
                    let now = store.now();
                    entry.stamp(&now);
                    let mut state = store.lock();
                    store
                        .write(&mut state, &entry, &now, Some(&mut slot))
                        .unwrap();
                }
                leave_alone(&store);
                drop((store, slot));

                let (store, swept) = Store::open(&settings, None).unwrap();
                let found = store.find(Place::head_of(*b"1970-01-01"), &[entry.id()].into());
                let times: usize = store
                    .directory
                    .days()
                    .unwrap()
                    .iter()
                    .map(|day| std::fs::read_to_string(path.join(day.file_name())).unwrap())
                    .map(|text| text.matches(&entry.id().to_string()).count())
                    .sum();
                let what = format!("begun on day {begun}, ended on {ended}, written: {written}");
                assert_eq!(found.unwrap().there.len(), 1, "{what}");
                assert_eq!((times, swept.recovered), (1, u64::from(!written)), "{what}");
                leave_alone(&store);
            }
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_process_that_had_to_begin_another_journal_is_counted_once() {
        let path = scratch();
        let (store, _) = Store::open(&settings(&path, SystemTime::now), None).unwrap();
        let write_and_note = || {
            store.append(&mut line()).unwrap();
            let state = store.lock();
            store.note(&state, state.day.as_ref());
            Arc::clone(state.journal.as_ref().unwrap())
        };
        // A call that is still open holds it.
        let refused = write_and_note();
        refused.distrust();
        store.begin(&line(), 1000).unwrap();
        write_and_note();
        // The keeper may just be at it.
        while store.sweep(false).unwrap().is_none() {
            std::thread::yield_now();
        }
        let health = std::fs::read(path.join(".state/health.json")).unwrap();
        let health: serde_json::Value = serde_json::from_slice(&health).unwrap();
        assert_eq!(
            (&health["written"], &health["processes"]),
            (&2.into(), &1.into())
        );
        leave_alone(&store);
        std::fs::remove_dir_all(path).unwrap();
    }
}
