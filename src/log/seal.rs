//! Sealing: what stands in the day files is added to the Merkle log, by whichever process gets its
//! lock, off the caller's path.
//!
//! The lines are read back from the files, so that their order in the tree is that in the files,
//! whoever wrote them. A process keeps the digests of its own lines until they are sealed: one that
//! isn't what was written then was changed in between, and that is recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::directory::{Directory, SMALL, TREE};
use super::disk::{Identity, Lock, if_there, wait_for};
use super::gather::{Failed, Found, Gathering};
use super::guard::{self, Guard};
use super::keys;
use super::known::{Hold, Known};
use super::own::{Ends, OwnLine, OwnLines};
use super::refused::Refused;
use super::tiles::is_damage;
use super::tree::{self, Tree};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::format::checkpoint::Checkpoint;
use crate::format::name::{DayName, Place};
use crate::format::record::RecordBody;
use crate::json::Object;
use crate::sys::SecretBytes;

/// How a log is sealed.
#[derive(Clone)]
pub struct Sealing {
    /// The text of the key that signs; else the log has its own in `.state`.
    pub key: Option<Arc<SecretBytes>>,
    /// Where what was signed last is remembered.
    pub guard_file: Option<PathBuf>,
    /// What the log is called.
    pub origin: Option<String>,
    /// How long a line may stand there unsealed.
    pub interval: Duration,
    /// How often a log in which nothing happens gives a sign of life.
    pub heartbeat: Duration,
    /// The id of the key of the hashes in the log, if they are keyed.
    pub hash_key_id: Option<String>,
}

/// How often a checkpoint is published while there is always something to seal.
const PUBLISH: Duration = Duration::from_secs(10);

/// How often all files are looked at, not only the last ones.
const ALL: Duration = Duration::from_secs(60);

/// The last files: today's, yesterday's, and further ones of theirs.
const LAST: usize = 4;

/// How long the lock is held while there is always more to seal.
const HELD: Duration = Duration::from_millis(200);

/// How long another process that has the lock is waited for, to begin the tree or to add records.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before the lock is taken again to go on.
pub const PAUSE: Duration = Duration::from_millis(5);

/// Seals one log.
pub struct Sealer {
    directory: Arc<Directory>,
    refused: Arc<Refused>,
    tree: Tree,
    settings: Sealing,
    /// Whether a line was written since the last sealing began.
    unsealed: AtomicBool,
    /// Whether so many were that they don't wait for their time.
    crowded: AtomicBool,
    own: Mutex<OwnLines>,
    state: Mutex<State>,
    /// This lock isn't held while the disk works.
    last: Mutex<Last>,
}

/// How far the tree had come when this process sealed last.
#[derive(Debug)]
struct Last {
    size: u64,
    /// By the log's clock; `None` if it hasn't yet.
    at: Option<Timestamp>,
    /// When that began, or when the log was opened.
    since: Instant,
    /// The files that were removed as their time was over.
    pruned: BTreeSet<DayName>,
}

#[derive(Debug, Default)]
struct State {
    /// As it was when this process sealed last.
    known: Option<Known>,
    /// When it had grown to this size.
    grown: Option<(u64, Instant)>,
    /// When all files were looked at.
    looked: Option<Instant>,
    published: Option<Instant>,
    /// The device and inode that each sealed file had.
    files: HashMap<DayName, Identity>,
}

/// What is to be sealed, and how.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'w> {
    /// Of some days; else of the last ones, and of all from time to time.
    pub days: Option<&'w dyn Fn(&DayName) -> bool>,
    /// A checkpoint is published in any case.
    pub publish: bool,
}

impl Sealer {
    /// Opens a directory's Merkle log, or begins it.
    pub fn open(
        directory: &Arc<Directory>,
        refused: &Arc<Refused>,
        settings: &Sealing,
        now: SystemTime,
    ) -> Result<Sealer, Error> {
        let disk = |error: io::Error| {
            let path = directory.path().display();
            Error::log(format!("the log in {path}: {TREE}: {error}"))
        };
        let folder = directory.tree().map_err(disk)?;
        let vkey = if_there(folder.read("vkey", SMALL)).map_err(disk)?;
        let vkey = vkey.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let (key, origin) = (settings.key.as_deref(), settings.origin.as_deref());
        let signer = keys::signer(directory, key, origin, vkey.as_deref())?;
        let name = signer.verifier().name().to_owned();
        keys::check_origin(&name, origin)?;
        let guard = settings.guard_file.as_deref();
        let guard = guard.map(|path| Guard::open(path, &folder)).transpose();
        let guard = guard.map_err(|error| guard::wrong(format!("can't be used: {error}")))?;
        guard::check(&folder, guard.as_ref(), &name)?;
        let tree = Tree::new(
            directory,
            folder,
            signer,
            guard,
            settings.hash_key_id.clone(),
        );
        let sealer = Sealer {
            directory: Arc::clone(directory),
            refused: Arc::clone(refused),
            tree,
            settings: settings.clone(),
            unsealed: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            own: Mutex::default(),
            state: Mutex::default(),
            last: Mutex::new(Last {
                size: 0,
                at: None,
                since: Instant::now(),
                pruned: BTreeSet::new(),
            }),
        };
        match sealer.begin(vkey.is_some(), &Timestamp::of(now)) {
            Ok(()) => Ok(sealer),
            Err(error) if is_damage(&error) => {
                // The log goes on without.
                directory.warn(error.to_string());
                Ok(sealer)
            }
            Err(error) => Err(disk(error)),
        }
    }

    /// Makes sure that the tree has its first entry, and learns what it says of the files.
    fn begin(&self, has_vkey: bool, now: &Timestamp) -> io::Result<()> {
        wait_for(PATIENCE, || Ok(()), || self.tree.restore())?.ok_or_else(|| self.is_locked())?;
        if has_vkey && let Ok(Some(known)) = self.tree.known_now() {
            self.last().pruned.clone_from(known.pruned());
            return Ok(());
        }
        let _lock = self.lock()?;
        self.tree.remove_leftovers()?;
        let (mut known, changed) = match self.tree.known(None, now) {
            Err(error) if is_damage(&error) => {
                // What `recent` holds can be mended.
                self.tree.restore_tiles()?;
                self.tree.known(None, now)?
            }
            known => known?,
        };
        self.last().pruned.clone_from(known.pruned());
        self.tree.write_vkey()?;
        if changed {
            // What is signed must not lose the directory that it's in.
            self.directory.state().sync()?;
            self.directory.sync()?;
            self.tree.commit(&mut known)?;
            self.tree.publish(&known)?;
        }
        Ok(())
    }

    /// The tree's lock, waited for.
    fn lock(&self) -> io::Result<Lock> {
        wait_for(PATIENCE, || Ok(()), || self.tree.try_lock())?.ok_or_else(|| self.is_locked())
    }

    /// Refuses to go on with hashes of another kind than the log's.
    pub fn check_hash_key(&self) -> Result<(), Error> {
        let kept = match self.tree.hash_key_id() {
            Ok(kept) if kept == self.settings.hash_key_id => return Ok(()),
            Ok(kept) => kept,
            Err(error) if is_damage(&error) => {
                self.directory.warn(error.to_string());
                return Ok(());
            }
            Err(error) => {
                let path = self.directory.path().display();
                return Err(Error::log(format!("the log in {path}: {error}")));
            }
        };
        let show = |id: &Option<String>| match id {
            Some(id) => format!("with the key {id}"),
            None => "without a key".to_owned(),
        };
        Err(Error::config(format!(
            "\"hash_key_file\": the log's hashes were begun {}, and would go on {}: two hashes \
             of a text couldn't be compared; begin another directory",
            show(&kept),
            show(&self.settings.hash_key_id)
        )))
    }

    fn own(&self) -> MutexGuard<'_, OwnLines> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes up to where this process wrote before there was a tree: its flushes seal that too.
    pub fn wrote_early(&self, ends: Ends) {
        if !ends.is_empty() {
            self.own().end_at(ends);
            self.unsealed.store(true, Ordering::SeqCst);
        }
    }

    /// Notes a line that was written to a file, its line feed not counted. Returns when it's to be sealed, if
    /// it's the first one since the last sealing, or one too many.
    pub fn wrote(&self, place: Place, file: Identity, line: &[u8]) -> Option<Duration> {
        // Hashed before the lock is taken.
        let line = OwnLine::new(place, file, line);
        let mut own = self.own();
        own.push(line);
        if own.are_many() && !self.crowded.swap(true, Ordering::SeqCst) {
            return Some(Duration::ZERO);
        }
        drop(own);
        let first = !self.unsealed.swap(true, Ordering::SeqCst);
        first.then_some(self.settings.interval)
    }

    /// Where the first line of a file is that this process wrote, and that isn't sealed.
    pub fn first_own(&self, day: &DayName) -> Option<u64> {
        // While it seals, they are with the one who does.
        let _state = self.state();
        self.own().first_of(day)
    }

    /// Whether a file was removed as its time was over: nothing is written to one of its name.
    pub fn is_pruned(&self, day: DayName) -> bool {
        self.last().pruned.contains(&day.uncompressed())
    }

    /// The files that were removed as their time was over.
    pub fn removed(&self) -> BTreeSet<DayName> {
        self.last().pruned.clone()
    }

    /// How long it is until it's time to seal again.
    pub fn due_in(&self) -> Duration {
        if self.crowded.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let elapsed = self.last().since.elapsed();
        self.settings.interval.saturating_sub(elapsed)
    }

    /// Whether lines were written since the last sealing began.
    pub fn has_unsealed(&self) -> bool {
        self.unsealed.load(Ordering::SeqCst)
    }

    /// Writes the tree's name and size, and when it was last sealed in this process, into a report.
    pub fn health(&self, mut to: Object<'_>) {
        let last = self.last();
        to.text("origin", self.tree.origin());
        if let Some(at) = last.at {
            to.json("size", last.size);
            to.text("sealed_at", &at.to_string());
        }
        to.end();
    }

    /// Seals what there is, or does nothing while another process seals.
    pub fn seal(&self, now: SystemTime, wanted: Wanted<'_>) -> io::Result<Option<Found>> {
        let mut state = self.state();
        let Some(_lock) = self.tree.try_lock()? else {
            return Ok(None);
        };
        let began = Instant::now();
        // Before the files are read: what is written from now on asks for the next sealing.
        self.unsealed.store(false, Ordering::SeqCst);
        self.crowded.store(false, Ordering::SeqCst);
        let mut own = self.own().take();
        let sealed = self.seal_locked(&mut state, &mut own, now, wanted);
        let more = sealed.as_ref().is_ok_and(|found| found.more);
        if let Err(error) = &sealed {
            own.forget_meetings();
            if is_damage(error) {
                // The next time it may be whole.
                let _ = self.tree.restore_tiles();
            }
        }
        if more || !own.is_empty() {
            self.unsealed.store(true, Ordering::SeqCst);
        }
        let mut waiting = self.own();
        waiting.put_back(own);
        if let Some(known) = &state.known {
            waiting.forget_ends(|day, end| known.sealed(day) >= end);
        }
        drop(waiting);
        if let Ok(found) = &sealed
            && !found.more
        {
            self.last().since = began;
        }
        sealed.map(Some)
    }

    /// Adds records, and publishes them. Returns the index of the first.
    pub fn record(&self, records: Vec<RecordBody>, now: SystemTime) -> io::Result<u64> {
        self.record_if(now, |_| records)
    }

    /// The same of what is to be recorded by what the tree says already; that may be nothing.
    pub fn record_if(
        &self,
        now: SystemTime,
        records: impl FnOnce(&Known) -> Vec<RecordBody>,
    ) -> io::Result<u64> {
        let mut state = self.state();
        let _lock = self.lock()?;
        let now = &Timestamp::of(now);
        let (mut known, _) = self.tree.known(state.known.clone(), now)?;
        let first = known.size();
        let records = records(&known);
        if records.is_empty() {
            return Ok(first);
        }
        for body in records {
            known.record(now, body);
        }
        self.tree.commit(&mut known)?;
        self.tree.publish(&known)?;
        self.last().pruned.clone_from(known.pruned());
        state.known = Some(known);
        Ok(first)
    }

    /// The holds that there ever were, as the tree has them now.
    pub fn holds(&self, now: SystemTime) -> io::Result<BTreeMap<u64, Hold>> {
        let state = self.state();
        let _lock = self.lock()?;
        let now = &Timestamp::of(now);
        let (known, _) = self.tree.known(state.known.clone(), now)?;
        Ok(known.holds().clone())
    }

    /// The tree that is sealed.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Keeps what witnesses have signed. Waits for who seals, and keeps nobody from it meanwhile.
    pub fn keep_cosignatures(&self, checkpoint: &Checkpoint, cosigned: &str) -> io::Result<()> {
        let attempt = || {
            let _state = self.state();
            let Some(_lock) = self.tree.try_lock()? else {
                return Ok(None);
            };
            self.tree.keep_cosignatures(checkpoint, cosigned).map(Some)
        };
        wait_for(PATIENCE, || Ok(()), attempt)?.ok_or_else(|| self.is_locked())
    }

    /// Does something to a file while nobody seals, and is told up to where it's sealed. `None` while
    /// another process seals.
    pub fn hold<T>(
        &self,
        day: &DayName,
        now: SystemTime,
        work: impl FnOnce(u64) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let mut state = self.state();
        let Some(_lock) = self.tree.try_lock()? else {
            return Ok(None);
        };
        let (known, changed) = match self.tree.known(state.known.clone(), &Timestamp::of(now)) {
            Ok(known) => known,
            // Then nothing is sealed until it's put right.
            Err(error) if is_damage(&error) => return work(0).map(Some),
            Err(error) => return Err(error),
        };
        let sealed = known.sealed(day);
        if !changed {
            state.known = Some(known);
        }
        work(sealed).map(Some)
    }

    /// Up to where a file was sealed when this process sealed last.
    pub fn sealed(&self, day: &DayName) -> u64 {
        let state = self.state();
        state.known.as_ref().map_or(0, |known| known.sealed(day))
    }

    /// The error where another process held the lock for too long.
    pub fn is_locked(&self) -> io::Error {
        self.directory.is_held(tree::LOCK)
    }

    /// Seals and publishes all that this process has written, waiting so long for another process that
    /// seals. If torn lines are in the way, they are found, and there is more to seal.
    pub fn seal_all(&self, now: SystemTime, patience: Duration) -> io::Result<Found> {
        // Others may write as fast as this seals.
        let written = self.own().ends();
        let wanted = Wanted {
            days: Some(&|day| written.contains_key(day)),
            publish: true,
        };
        let mut all = Found::default();
        let mut since = Instant::now();
        loop {
            match self.seal(now, wanted)? {
                Some(found) => {
                    let more = found.more;
                    all.add(found);
                    let sealed = self.is_sealed(&written);
                    if sealed || !all.torn.is_empty() {
                        all.more = !sealed;
                        return Ok(all);
                    }
                    if !more {
                        let why = all.messages.pop();
                        let why = why.unwrap_or_else(|| "not all entries could be sealed".into());
                        return Err(io::Error::other(why));
                    }
                    since = Instant::now();
                }
                None if since.elapsed() > patience => return Err(self.is_locked()),
                None => {}
            }
            self.directory.state().pause(PAUSE);
        }
    }

    /// Whether files are sealed up to where this process wrote, so far as they are there.
    fn is_sealed(&self, written: &Ends) -> bool {
        let state = self.state();
        written.iter().all(|(day, (end, identity))| {
            let sealed = state
                .known
                .as_ref()
                .is_some_and(|known| known.sealed(day) >= *end);
            // One that was moved away took its lines along, one that the disk refused waits for a boot.
            sealed
                || self.refused.contains(*day)
                || self.directory.identity_of(*day).ok() != Some(*identity)
        })
    }

    fn seal_locked(
        &self,
        state: &mut State,
        own: &mut OwnLines,
        clock: SystemTime,
        wanted: Wanted<'_>,
    ) -> io::Result<Found> {
        let now = &Timestamp::of(clock);
        let mut found = Found::default();
        let (mut known, mut changed) = self.tree.known(state.known.clone(), now)?;
        if changed {
            found.messages.push(format!(
                "{TREE} was older than what is known of it, or a crash came between two steps; see \
                 verify"
            ));
        }
        // All at once would hold the lock for as long as thousands of syncs take.
        if !changed && !self.tree.settle(&known, false, HELD)? {
            state.known = Some(known);
            found.more = true;
            return Ok(found);
        }
        let (days, all) = self.days_to_seal(state, own, &known, wanted, &mut found)?;
        let since = Instant::now();
        for day in days {
            while !found.more {
                let before = known.size();
                let gathering = Gathering {
                    directory: &self.directory,
                    day,
                    before: state.files.get(&day).copied(),
                    now: clock,
                };
                let more = match gathering.gather(&mut known, own, &mut found) {
                    Ok(Some((more, identity))) => {
                        state.files.insert(day, identity);
                        more
                    }
                    Ok(None) => false,
                    // One that can't be read keeps no other from being sealed.
                    Err(failed) => {
                        let error = match failed {
                            Failed::Refused(error) => {
                                self.refused.note(day);
                                error
                            }
                            Failed::Unreadable(error) => error,
                        };
                        let name = day.file_name();
                        found.messages.push(format!("{name} isn't sealed: {error}"));
                        false
                    }
                };
                changed |= known.size() > before;
                if !more {
                    break;
                }
                self.tree.commit(&mut known)?;
                changed = false;
                found.more = since.elapsed() > HELD || self.tree.is_to_settle();
            }
        }
        if all && !found.more && found.torn.is_empty() {
            state.looked = Some(Instant::now());
        }
        let altered = own.take_sealed(&known, &self.directory);
        for line in &altered {
            let (range, sha256) = (line.range(), line.sha256());
            found.altered += 1;
            found.messages.push(format!(
                "{}: the line at byte {} was changed by somebody before it was sealed",
                range.file, range.off
            ));
            known.record(now, RecordBody::Altered { range, sha256 });
        }
        changed |= !altered.is_empty();
        let quiet = state.grown.is_some_and(|(size, at)| {
            size == known.size() && at.elapsed() >= self.settings.heartbeat
        });
        if quiet {
            known.record(now, RecordBody::Heartbeat);
            changed = true;
        }
        if changed && let Err(error) = self.tree.commit(&mut known) {
            // To be recorded the next time.
            own.extend(altered);
            return Err(error);
        }
        if state.grown.is_none_or(|(size, _)| size != known.size()) {
            state.grown = Some((known.size(), Instant::now()));
        }
        let due = state.published.is_none_or(|at| at.elapsed() >= PUBLISH);
        if wanted.publish || !changed || due {
            self.tree.publish(&known)?;
            state.published = Some(Instant::now());
        }
        self.tree.settle(&known, !changed && !found.more, HELD)?;
        let mut last = self.last();
        last.size = known.size();
        last.at = Some(*now);
        if last.pruned.len() != known.pruned().len() {
            last.pruned.clone_from(known.pruned());
        }
        drop(last);
        state.known = Some(known);
        Ok(found)
    }

    /// The files of which more is to be sealed, and whether these are all there are.
    fn days_to_seal(
        &self,
        state: &State,
        own: &mut OwnLines,
        known: &Known,
        wanted: Wanted<'_>,
        found: &mut Found,
    ) -> io::Result<(Vec<DayName>, bool)> {
        let mut days = self.directory.days()?;
        let finished: HashSet<DayName> =
            days.iter().filter(|day| day.compressed).copied().collect();
        for day in &days {
            if known.pruned().contains(&day.uncompressed()) {
                found.messages.push(format!(
                    "{} is there, and was removed as its time was over: it isn't sealed; see verify",
                    day.file_name()
                ));
            }
        }
        self.refused.look()?;
        let refused = self.refused.all();
        // A plain file beside its compressed one is what a killed run of maintenance left.
        days.retain(|day| {
            !day.compressed
                && !finished.contains(&day.compressed())
                && !known.pruned().contains(day)
                && !refused.contains(day)
        });
        // What this process wrote to them, a flush writes anew before it seals.
        let left = own.remove_of(&refused);
        self.own().forget_ends(|day, _| refused.contains(day));
        found.messages.extend(left.iter().map(|day| {
            format!(
                "{}: the disk refused to confirm some of it; what isn't sealed of it stays so until \
                 the next boot",
                day.file_name()
            )
        }));
        let all = wanted.days.is_none() && state.looked.is_none_or(|at| at.elapsed() >= ALL);
        match wanted.days {
            Some(wanted) => days.retain(wanted),
            None if all => self.tree.remove_leftovers()?,
            None => drop(days.drain(..days.len().saturating_sub(LAST))),
        }
        Ok((days, all))
    }
}
