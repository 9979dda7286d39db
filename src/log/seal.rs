//! Sealing: what stands in the day files is added to the Merkle log, by whichever process gets its
//! lock, off the caller's path.
//!
//! The lines are read back from the files, so that their order in the tree is that in the files,
//! whoever wrote them. A process keeps the digests of its own lines until they are sealed: one that
//! isn't what was written then was changed in between, and that is recorded.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::clock::Timestamp;
use crate::error::Error;
use crate::format::note::Signer;
use crate::format::record::{Range, Said};
use crate::hash::Digest;
use crate::json::Object;
use crate::sys::SecretBytes;

use super::disk::Directory;
use super::folder::{Lock, identity, if_there};
use super::guard::Guard;
use super::own::{OwnLine, OwnLines};
use super::recover;
use super::tree::{self, Known, Tree, is_damage};
use super::{disk, keys};
use crate::format::name::{DayName, Place};
use crate::read::lines::{Lines, line_start};

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

/// Lines that go into the tree with one signature: what they take in memory is bounded.
const BATCH: usize = 4 * 1024;
const BATCH_BYTES: u64 = 4 << 20;

/// How often a checkpoint is published while there is always something to seal.
const PUBLISH: Duration = Duration::from_secs(10);

/// How often all files are looked at, not only the last ones.
const ALL: Duration = Duration::from_secs(60);

/// The last files: today's, yesterday's, and further ones of theirs.
const LAST: usize = 4;

/// Lines that are older when they are sealed weren't sealed in their time.
const LATE: Duration = Duration::from_secs(60);

/// How long the lock is held while there is always more to seal.
const HELD: Duration = Duration::from_millis(200);

/// How long another process that has the lock is waited for, to begin the tree or to add records.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks, and before the lock is taken again to go on.
pub const PAUSE: Duration = Duration::from_millis(5);

/// Seals one log.
pub struct Sealer {
    directory: Arc<Directory>,
    tree: Tree,
    settings: Sealing,
    /// Whether a line was written since the last sealing began.
    unsealed: AtomicBool,
    own: Mutex<OwnLines>,
    state: Mutex<State>,
    /// This lock and the next aren't held while the disk works.
    sealed: Mutex<Sealed>,
    /// Files whose syncs failed, in this process or, as far as it knows, in another.
    distrusted: Mutex<HashSet<DayName>>,
}

/// How far the tree had come when this process sealed last.
#[derive(Debug)]
struct Sealed {
    size: u64,
    /// By the log's clock; `None` if it hasn't yet.
    at: Option<Timestamp>,
    /// When that began, or when the log was opened.
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// None after an error: it's read again then.
    known: Option<Known>,
    /// When it had grown to this size.
    grown: Option<(u64, Instant)>,
    /// When all files were looked at.
    looked: Option<Instant>,
    published: Option<Instant>,
    /// The device and inode that each sealed file had.
    files: HashMap<DayName, (u64, u64)>,
}

/// What sealing came upon.
#[derive(Debug, Default)]
pub struct Found {
    /// Torn lines, before which it stopped.
    pub torn: Vec<Place>,
    /// What an operator should know.
    pub messages: Vec<String>,
    /// Own lines that had been changed.
    pub altered: u64,
    /// It gave the lock back before all was sealed, for others to have it.
    pub more: bool,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.torn.extend(other.torn);
        self.messages.extend(other.messages);
        self.altered += other.altered;
    }
}

impl Sealer {
    /// Opens a directory's Merkle log, or begins it.
    pub fn open(
        directory: &Arc<Directory>,
        settings: &Sealing,
        now: SystemTime,
    ) -> Result<Sealer, Error> {
        let disk = |error: io::Error| {
            let path = directory.path().display();
            Error::log(format!("the log in {path}: {}: {error}", tree::NAME))
        };
        let folder = directory.tree().map_err(disk)?;
        let vkey = if_there(folder.read("vkey", disk::SMALL)).map_err(disk)?;
        let vkey = vkey.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let signer = signer(directory, settings, vkey.as_deref())?;
        let name = signer.verifier().name().to_owned();
        if let Some(origin) = &settings.origin
            && !keys::is_called(&name, origin)
        {
            return Err(Error::config(format!(
                "config: \"integrity\": \"origin\" is {origin:?}, and the log's key is called \
                 {name:?}; leave it out, or begin another directory"
            )));
        }
        let guard = settings.guard_file.as_deref().map(Guard::open).transpose();
        let guard = guard.map_err(|error| {
            Error::config(format!(
                "config: \"integrity\": \"guard_file\" can't be used: {error}"
            ))
        })?;
        // What it sealed after a crash of a process with the guard would be taken for a rollback.
        if guard.is_none() && folder.has(tree::GUARDED).map_err(disk)? {
            return Err(Error::config(format!(
                "config: \"integrity\": \"guard_file\" is missing: the log has a guard; give the one \
                 that it was sealed with, or, to do without from now on, remove {}/{}",
                tree::NAME,
                tree::GUARDED
            )));
        }
        let tree = Tree::new(folder, signer, guard, settings.hash_key_id.clone());
        let distrusted = tree.distrusted().map_err(disk)?;
        let sealer = Sealer {
            directory: Arc::clone(directory),
            tree,
            settings: settings.clone(),
            unsealed: AtomicBool::new(false),
            own: Mutex::default(),
            state: Mutex::default(),
            sealed: Mutex::new(Sealed {
                size: 0,
                at: None,
                since: Instant::now(),
            }),
            distrusted: Mutex::new(distrusted),
        };
        let has_vkey = vkey.is_some();
        match sealer.begin(has_vkey, &Timestamp::of(now)) {
            Ok(()) => Ok(sealer),
            Err(error) if is_damage(&error) => {
                // The log goes on without.
                directory.warn(error.to_string());
                Ok(sealer)
            }
            Err(error) => Err(disk(error)),
        }
    }

    /// Makes sure that the tree has its first entry.
    fn begin(&self, has_vkey: bool, now: &Timestamp) -> io::Result<()> {
        if has_vkey && self.tree.head()?.is_some() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.tree.remove_leftovers()?;
        let (mut known, changed) = self.tree.known(None, now)?;
        self.tree.write_vkey()?;
        if changed {
            self.tree.commit(&mut known)?;
            self.tree.publish(&known)?;
        }
        Ok(())
    }

    /// The tree's lock, waited for.
    fn lock(&self) -> io::Result<Lock> {
        let since = Instant::now();
        loop {
            match self.tree.try_lock()? {
                Some(lock) => return Ok(lock),
                None if since.elapsed() > PATIENCE => return Err(self.is_locked()),
                None => std::thread::sleep(PAUSE),
            }
        }
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
            "config: \"hash_key_file\": the log's hashes were begun {}, and would go on {}: two hashes \
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

    /// Notes a line that was written to a file, its line feed not counted. Returns true if it's the first
    /// one since the last sealing.
    pub fn wrote(&self, place: Place, file: (u64, u64), line: &[u8]) -> bool {
        // Hashed before the lock is taken.
        let line = OwnLine::new(place, file, line);
        self.own().push(line);
        !self.unsealed.swap(true, Ordering::SeqCst)
    }

    /// Has nobody seal more of a file whose sync failed: what it holds may not be on the disk.
    pub fn distrust(&self, day: DayName) {
        if self.distrusted().insert(day) {
            // If it can't be noted for other processes, this one knows.
            let _ = self.tree.distrust(&day);
        }
    }

    /// Looks which files other processes have noted.
    pub fn look_for_distrusted(&self) -> io::Result<()> {
        let noted = self.tree.distrusted()?;
        self.distrusted().extend(noted);
        Ok(())
    }

    /// Where the first line of a file is that this process wrote, and that isn't sealed.
    pub fn first_own(&self, day: &DayName) -> Option<u64> {
        // While it seals, they are with the one who does.
        let _state = self.state();
        self.own().first_of(day)
    }

    /// Whether nobody seals more of a file.
    pub fn distrusts(&self, day: &DayName) -> bool {
        self.distrusted().contains(day)
    }

    /// The last file of a date of which nobody seals more.
    pub fn last_distrusted(&self, date: &[u8; 10]) -> Option<DayName> {
        let distrusted = self.distrusted();
        distrusted
            .iter()
            .filter(|day| day.date == *date)
            .max()
            .copied()
    }

    fn distrusted(&self) -> MutexGuard<'_, HashSet<DayName>> {
        self.distrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a line may stand there unsealed.
    pub fn interval(&self) -> Duration {
        self.settings.interval
    }

    /// How long it is until it's time to seal again.
    pub fn due_in(&self) -> Duration {
        let elapsed = self.last().since.elapsed();
        self.settings.interval.saturating_sub(elapsed)
    }

    fn last(&self) -> MutexGuard<'_, Sealed> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether lines were written since the last sealing began.
    pub fn has_unsealed(&self) -> bool {
        self.unsealed.load(Ordering::SeqCst)
    }

    /// Writes the tree's name and size, and when it was last sealed in this process, into a report.
    pub fn health(&self, mut to: Object<'_>) {
        let sealed = self.last();
        to.text("origin", self.tree.origin());
        if let Some(at) = sealed.at {
            to.json("size", sealed.size);
            to.text("sealed_at", &at.to_string());
        }
        to.end();
    }

    /// Seals what there is, or does nothing while another process seals. Of some days, if they are
    /// named, else of the last ones, and of all from time to time.
    pub fn seal(
        &self,
        now: SystemTime,
        publish: bool,
        days: Option<&dyn Fn(&DayName) -> bool>,
    ) -> io::Result<Option<Found>> {
        let mut state = self.state();
        let Some(_lock) = self.tree.try_lock()? else {
            return Ok(None);
        };
        let began = Instant::now();
        // Before the files are read: what is written from now on asks for the next sealing.
        self.unsealed.store(false, Ordering::SeqCst);
        let mut own = self.own().take();
        let sealed = self.seal_locked(&mut state, &mut own, now, publish, days);
        let more = sealed.as_ref().is_ok_and(|found| found.more);
        if sealed.is_err() {
            own.forget_meetings();
        }
        if more || !own.is_empty() {
            self.unsealed.store(true, Ordering::SeqCst);
        }
        self.own().put_back(own);
        if let Ok(found) = &sealed
            && !found.more
        {
            self.last().since = began;
        }
        sealed.map(Some)
    }

    /// Adds records, and publishes them.
    pub fn record(&self, records: Vec<Said>, now: SystemTime) -> io::Result<()> {
        let mut state = self.state();
        let _lock = self.lock()?;
        let now = &Timestamp::of(now);
        let (mut known, _) = self.tree.known(state.known.clone(), now)?;
        for said in records {
            known.record(now, said);
        }
        self.tree.commit(&mut known)?;
        self.tree.publish(&known)?;
        state.known = Some(known);
        Ok(())
    }

    /// Up to where a file was sealed when this process sealed last.
    pub fn sealed(&self, day: &DayName) -> u64 {
        let state = self.state();
        state.known.as_ref().map_or(0, |known| known.sealed(day))
    }

    /// The error where another process held the lock for too long.
    pub fn is_locked(&self) -> io::Error {
        io::Error::other(format!("{}: another process holds its lock", tree::NAME))
    }

    /// Seals and publishes all that this process has written, waiting so long for another process that
    /// seals. Torn lines that are in the way are found.
    pub fn seal_all(&self, now: SystemTime, patience: Duration) -> io::Result<Found> {
        // Others may write as fast as this seals.
        let written = self.own().last_of_each_file();
        let ours = |day: &DayName| written.contains_key(day);
        let mut all = Found::default();
        let mut since = Instant::now();
        loop {
            match self.seal(now, true, Some(&ours))? {
                Some(found) => {
                    let more = found.more;
                    all.add(found);
                    if !self.own().any_up_to(&written) || !all.torn.is_empty() {
                        return Ok(all);
                    }
                    if !more {
                        let why = all.messages.pop();
                        let why = why.unwrap_or_else(|| "not all entries could be sealed".into());
                        return Err(io::Error::other(why));
                    }
                    since = Instant::now();
                    std::thread::sleep(PAUSE);
                }
                None if since.elapsed() > patience => return Err(self.is_locked()),
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    fn seal_locked(
        &self,
        state: &mut State,
        own: &mut OwnLines,
        now: SystemTime,
        publish: bool,
        wanted: Option<&dyn Fn(&DayName) -> bool>,
    ) -> io::Result<Found> {
        let (clock, now) = (now, &Timestamp::of(now));
        let mut found = Found::default();
        let (mut known, mut changed) = self.tree.known(state.known.clone(), now)?;
        if changed {
            found.messages.push(format!(
                "{} was older than what is known of it, or a crash came between two steps; see \
                 verify",
                tree::NAME
            ));
        }
        let mut days = self.directory.days()?;
        let finished: HashSet<DayName> =
            days.iter().filter(|day| day.compressed).copied().collect();
        // A plain file beside its compressed one is what a killed run of maintenance left.
        self.look_for_distrusted()?;
        let distrusted = self.distrusted();
        days.retain(|day| {
            !day.compressed && !finished.contains(&day.compressed()) && !distrusted.contains(day)
        });
        // What this process wrote to them, a flush writes anew before it seals.
        let left = own.remove_of(&distrusted);
        drop(distrusted);
        found.messages.extend(left.iter().map(|day| {
            format!(
                "{}: the disk refused to confirm some of it; what isn't sealed of it stays so until \
                 the next boot",
                day.file_name()
            )
        }));
        let all = wanted.is_none() && state.looked.is_none_or(|at| at.elapsed() >= ALL);
        match wanted {
            Some(wanted) => days.retain(wanted),
            None if all => self.tree.remove_leftovers()?,
            None => drop(days.drain(..days.len().saturating_sub(LAST))),
        }
        let since = Instant::now();
        for day in days {
            while !found.more {
                let before = known.size();
                let more = self.gather(state, &mut known, day, own, clock, &mut found);
                // One that can't be read keeps no other from being sealed.
                let more = more.unwrap_or_else(|error| {
                    let message = format!("{} isn't sealed: {error}", day.file_name());
                    found.messages.push(message);
                    false
                });
                changed |= known.size() > before;
                if !more {
                    break;
                }
                self.tree.commit(&mut known)?;
                changed = false;
                found.more = since.elapsed() > HELD;
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
            known.record(now, Said::Altered { range, sha256 });
        }
        changed |= !altered.is_empty();
        let quiet = state.grown.is_some_and(|(size, at)| {
            size == known.size() && at.elapsed() >= self.settings.heartbeat
        });
        if quiet {
            known.record(now, Said::Heartbeat);
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
        if publish || !changed || due {
            self.tree.publish(&known)?;
            state.published = Some(Instant::now());
        }
        let mut last = self.last();
        last.size = known.size();
        last.at = Some(*now);
        drop(last);
        state.known = Some(known);
        Ok(found)
    }

    /// Adds the next lines of a file. Returns whether there may be more.
    fn gather(
        &self,
        state: &mut State,
        known: &mut Known,
        day: DayName,
        own: &mut OwnLines,
        now: SystemTime,
        found: &mut Found,
    ) -> io::Result<bool> {
        let in_time = Timestamp::of(now.checked_sub(LATE).unwrap_or(now));
        let now = &Timestamp::of(now);
        let name = day.file_name();
        let sealed = known.sealed(&day);
        let Some(file) = if_there(self.directory.open_to_read(&name))? else {
            return Ok(false);
        };
        let metadata = file.metadata()?;
        let length = metadata.len();
        let identity = identity(&metadata);
        let before = state.files.insert(day, identity);
        let from = match before {
            // Another file has its name.
            Some(before) if before != identity => 0,
            _ => sealed_part(&file, sealed, length)?,
        };
        if from < sealed {
            found.messages.push(format!(
                "{name} was cut short or replaced by somebody: what was sealed of it from byte {from} \
                 on is missing"
            ));
            let file = name.clone();
            let (off, len) = (from, sealed - from);
            known.record(now, Said::Gap(Range { file, off, len }));
        }
        if from == length {
            return Ok(from < sealed);
        }
        let mut lines = Lines::new(recover::part(&file, from)?, from);
        let mut digests = Vec::new();
        let mut torn = Vec::new();
        let mut end = from;
        let mut late = false;
        let mut more = false;
        while let Some(line) = lines.next()? {
            if !line.closed {
                break;
            }
            if !line.is_spaces() {
                let digest = Digest::of(line.text);
                let place = Place {
                    day,
                    offset: line.start,
                };
                let met = own.meet(place, &digest);
                // What this process wrote, and finds again, is sound.
                if !met && !line.is_sound() {
                    found.torn.push(place);
                    break;
                }
                late |= digests.is_empty() && !met && is_older(line.text, &in_time);
                digests.push(digest);
            } else if line.end > line.start {
                torn.push(line.start..line.end);
            }
            end = line.end + 1;
            if digests.len() == BATCH || end - from >= BATCH_BYTES {
                more = true;
                break;
            }
        }
        if end == from {
            return Ok(false);
        }
        // Nothing is signed that a power cut could take. A second try would be believed, and prove
        // nothing.
        if let Err(error) = file.sync_data() {
            self.distrust(day);
            return Err(error);
        }
        if sealed == 0 {
            self.directory.sync()?;
        }
        let range = |off: u64, end: u64| Range {
            file: name.clone(),
            off,
            len: end - off,
        };
        if late {
            known.record(now, Said::Recovered(range(from, end)));
        }
        self.record_torn(known, day, &torn, now)?;
        known.record(
            now,
            Said::Seg {
                range: range(from, end),
                lines: digests.len() as u64,
            },
        );
        for digest in &digests {
            known.digest(digest.as_bytes());
        }
        Ok(more)
    }

    /// Records the torn lines that were written over, of which `.state/torn` knows what they were.
    fn record_torn(
        &self,
        known: &mut Known,
        day: DayName,
        blanks: &[std::ops::Range<u64>],
        now: &Timestamp,
    ) -> io::Result<()> {
        if blanks.is_empty() {
            return Ok(());
        }
        for torn in recover::torn(&self.directory, day)? {
            if blanks.iter().any(|blank| blank.contains(&torn.offset)) {
                let range = Range {
                    file: day.file_name(),
                    off: torn.offset,
                    len: torn.length,
                };
                let sha256 = torn.sha256;
                known.record(now, Said::Torn { range, sha256 });
            }
        }
        Ok(())
    }
}

/// The key that signs, which must be the one that signed before, if any did.
fn signer(directory: &Directory, settings: &Sealing, vkey: Option<&str>) -> Result<Signer, Error> {
    let config = |wrong: String| Error::config(format!("config: \"integrity\": {wrong}"));
    let own = |error: io::Error| {
        let path = directory.path().display();
        Error::log(format!("the log's own key in {path}/.state: {error}"))
    };
    let signer = match &settings.key {
        Some(key) => {
            keys::parse(key.as_bytes()).map_err(|error| config(format!("\"key_file\": {error}")))?
        }
        None => match keys::own(directory.state()).map_err(own)? {
            Some(signer) => signer,
            None => {
                if let Some(vkey) = vkey {
                    return Err(config(format!(
                        "the log is signed with {}, whose private key isn't in .state; give it by \
                         \"key_file\", or begin another directory",
                        vkey.trim_end()
                    )));
                }
                let name = keys::new_name(settings.origin.as_deref(), directory.path());
                keys::make(directory.state(), &name).map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidInput => config(format!("\"origin\": {error}")),
                    _ => own(error),
                })?
            }
        },
    };
    match vkey {
        Some(vkey) if vkey.trim_end() != signer.verifier().to_string() => Err(config(format!(
            "the log is signed with {}, and the key given is {}; give the one that it was begun with, \
             or begin another directory",
            vkey.trim_end(),
            signer.verifier()
        ))),
        _ => Ok(signer),
    }
}

/// Up to where what was sealed of a file is still there.
fn sealed_part(file: &File, sealed: u64, length: u64) -> io::Result<u64> {
    if length < sealed {
        return line_start(file, length);
    }
    let mut last = [b'\n'];
    if sealed > 0 {
        file.read_exact_at(&mut last, sealed - 1)?;
    }
    // Another file may have its name.
    Ok(if last == *b"\n" { sealed } else { 0 })
}

/// Whether an entry was stamped before a time.
fn is_older(line: &[u8], time: &Timestamp) -> bool {
    const KEY: &[u8] = br#""timestamp":""#;
    let at = memchr::memmem::find(line, KEY);
    let stamp = at.and_then(|at| line.get(at + KEY.len()..)?.get(..Timestamp::LEN));
    stamp.is_some_and(|stamp| stamp < &time.as_bytes()[..])
}
