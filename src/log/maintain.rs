//! Days that are over: compressed, and removed when they have expired. Only on request.
//!
//! Nobody appends to such a day, but for a process whose clock is wrong, and nobody looks anything up
//! in it, but for the calls of a process that has just died. So what the dead left is made whole
//! first, and a day is left alone that a living process's journal names.
//!
//! Each step leaves the log whole, and the next run goes on from there. A change is made under the
//! directory's lock; compressing takes long, so it's done before, and what was compressed is compared
//! again under the lock.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::disk::{Directory, Temporary};
use super::folder::{Access, Lock, if_there};
use super::{Sealing, Settings, Store, Swept, journal, recover, seal, tree};
use crate::clock::Timestamp;
use crate::config::{Maintenance, Secret};
use crate::error::{Error, Status};
use crate::format::name::DayName;
use crate::format::record::Said;
use crate::json::Object;
use crate::sys::{self, Event};

/// The marks of expired days, in `.state`.
const MARKS: &str = "expired";

/// How old a mark must be before its day is removed.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// An expired day, and since when it's known to be.
struct Mark {
    date: [u8; 10],
    since: String,
}

/// Why a file is left as it is.
enum Left {
    /// Something needs it.
    Needed(String),
    /// It can't be read, compressed or removed.
    Failed(io::Error),
    /// The run ends here.
    Ended(Error),
}

impl From<io::Error> for Left {
    fn from(error: io::Error) -> Left {
        Left::Failed(error)
    }
}

impl From<Error> for Left {
    fn from(error: Error) -> Left {
        Left::Ended(error)
    }
}

struct Run<'r> {
    store: &'r Store,
    cancel: Option<&'r Event>,
    swept: Swept,
    marked: Vec<Mark>,
    deleted: Vec<String>,
    compressed: Vec<String>,
    skipped: Vec<(String, String)>,
    /// The first failure: the others are done all the same.
    failed: Option<String>,
}

/// Looks after the days of the log in a directory. Returns what was done, as JSON, and whether all
/// of it could be.
pub fn maintain(
    path: &Path,
    wanted: &Maintenance,
    cancel: Option<&Event>,
) -> Result<(Vec<u8>, Result<(), Error>), Error> {
    sys::watch_forks().map_err(|error| Error::new(Status::Internal, error.to_string()))?;
    let settings = Settings {
        path: path.to_owned(),
        access: Access::found_in(path).unwrap_or(Access::Owner),
        allow_network: false,
        // Its loggers may promise so.
        to_disk: true,
        now: SystemTime::now,
        gap_entry: None,
        sealing: sealing(path, wanted),
    };
    let store = Store::at(&Arc::new(settings), None, false)?;
    let mut run = Run {
        store: &store,
        cancel,
        swept: Swept::default(),
        marked: Vec::new(),
        deleted: Vec::new(),
        compressed: Vec::new(),
        skipped: Vec::new(),
        failed: None,
    };
    let ended = run.all(wanted);
    let report = run.report();
    store.leave();
    Ok((report, ended))
}

/// How the log is sealed, if it is: what is done is recorded in its tree.
fn sealing(path: &Path, wanted: &Maintenance) -> Option<Sealing> {
    let is_sealed = path.join(tree::NAME).exists();
    is_sealed.then(|| Sealing {
        key: wanted.key.as_ref().map(Secret::share),
        guard_file: wanted.guard_file.clone(),
        origin: None,
        interval: Duration::MAX,
        heartbeat: Duration::MAX,
        hash_key_id: None,
    })
}

impl Run<'_> {
    fn directory(&self) -> &Arc<Directory> {
        &self.store.directory
    }

    fn all(&mut self, wanted: &Maintenance) -> Result<(), Error> {
        let lock = self.lock()?;
        self.swept = self.logged(self.store.make_whole(true))?;
        let unburied = self.store.lock().last_error.take();
        self.failed = unburied.map(|(_, message)| message);
        drop(lock);
        self.seal()?;
        if let Some(days) = wanted.retention_days {
            let _lock = self.lock()?;
            self.expire(days)?;
        }
        if let Some(days) = wanted.compress_after_days {
            for day in self.days_older_than(days)? {
                if !day.compressed {
                    match self.compress(day) {
                        Ok(()) => self.compressed.push(day.file_name()),
                        Err(left) => self.leave(day, left)?,
                    }
                }
            }
        }
        self.failed
            .take()
            .map_or(Ok(()), |why| Err(Error::log(why)))
    }

    /// Seals the days that are over: of what is removed the tree must know all.
    fn seal(&self) -> Result<(), Error> {
        let Some(sealer) = &self.store.sealer else {
            return Ok(());
        };
        self.logged(self.store.confirm_all())?;
        let mut since = Instant::now();
        let mut torn = Vec::new();
        loop {
            self.check_cancelled()?;
            let over = |day: &DayName| self.store.now().is_over(&day.date);
            let sealed = sealer.seal((self.store.settings.now)(), true, Some(&over));
            match self.logged(sealed)? {
                None if since.elapsed() >= PATIENCE => {
                    return self.logged(Err(sealer.is_locked()));
                }
                None => std::thread::sleep(PAUSE),
                Some(found) => {
                    since = Instant::now();
                    // A line that can't be mended stays, and the file with it.
                    let done = !found.more && (found.torn.is_empty() || found.torn == torn);
                    torn.clone_from(&found.torn);
                    self.store.note_found(found);
                    if done {
                        return Ok(());
                    }
                    // Others want the lock as well.
                    std::thread::sleep(seal::PAUSE);
                    let _lock = self.lock()?;
                    torn.iter()
                        .try_for_each(|place| self.logged(self.store.mend(*place)).map(drop))?;
                }
            }
        }
    }

    /// Records what is done to days, before it's done.
    fn record(&self, records: Vec<Said>) -> Result<(), Error> {
        match &self.store.sealer {
            Some(sealer) if !records.is_empty() => {
                self.logged(sealer.record(records, (self.store.settings.now)()))
            }
            _ => Ok(()),
        }
    }

    fn logged<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| Error::log(self.store.message(&error)))
    }

    /// The files of the days that have been over for so many days.
    fn days_older_than(&self, days: i64) -> Result<Vec<DayName>, Error> {
        let now = self.store.now();
        let mut found = self.logged(self.directory().days())?;
        let age = |day: &DayName| now.days_since(&day.date);
        found.retain(|day| now.is_over(&day.date) && age(day).is_some_and(|age| age > days));
        Ok(found)
    }

    fn leave(&mut self, day: DayName, left: Left) -> Result<(), Error> {
        let name = day.file_name();
        let reason = match left {
            Left::Ended(error) => return Err(error),
            Left::Needed(reason) => reason,
            Left::Failed(error) => {
                let reason = error.to_string();
                let why = format!("{name} was left as it is: {reason}");
                let why = self.store.message(&io::Error::other(why));
                self.failed.get_or_insert(why);
                reason
            }
        };
        self.skipped.push((name, reason));
        Ok(())
    }

    // ------------------------------------------------------------ removing

    /// Marks the expired days, and removes those whose marks are old enough.
    fn expire(&mut self, retention_days: i64) -> Result<(), Error> {
        let files = self.days_older_than(retention_days)?;
        let mut dates: Vec<[u8; 10]> = files.iter().map(|day| day.date).collect();
        dates.dedup();
        let known = self.logged(self.marks())?;
        let now = self.store.now().to_string();
        let unknown = |date: &&[u8; 10]| known.iter().all(|mark| mark.date != **date);
        let expired = dates.iter().filter(unknown).map(|date| Said::Expired {
            day: String::from_utf8_lossy(date).into_owned(),
        });
        self.record(expired.collect())?;
        for date in dates {
            let mark = known.iter().find(|mark| mark.date == date);
            // One of the future was made by a clock that was wrong then, or is now.
            let since = mark.map(|mark| &mark.since).filter(|since| **since <= now);
            let since = since.unwrap_or(&now).clone();
            self.marked.push(Mark { date, since });
        }
        let ripe = (self.store.settings.now)().checked_sub(GRACE);
        let ripe = Timestamp::of(ripe.unwrap_or(UNIX_EPOCH)).to_string();
        let removed = self.remove_marked_before(&ripe, &files);
        let mut marks = Vec::new();
        for mark in &self.marked {
            mark.write(&mut marks);
            marks.push(b'\n');
        }
        let kept = self.directory().state().replace(MARKS, &marks, false);
        removed.and(self.logged(kept))
    }

    fn remove_marked_before(&mut self, ripe: &str, files: &[DayName]) -> Result<(), Error> {
        let mut removable = Vec::new();
        for file in files {
            let is_ripe = |mark: &Mark| mark.date == file.date && mark.since.as_str() <= ripe;
            if self.marked.iter().any(is_ripe) {
                match self.check_removable(*file) {
                    Ok(()) => removable.push(*file),
                    Err(left) => self.leave(*file, left)?,
                }
            }
        }
        let mut names: Vec<String> = removable
            .iter()
            .map(|file| file.uncompressed().file_name())
            .collect();
        names.dedup();
        let prune = |file| Said::Prune { file };
        self.record(names.into_iter().map(prune).collect())?;
        for file in removable {
            match self.directory().remove(&file.file_name()) {
                Ok(()) => self.deleted.push(file.file_name()),
                Err(error) => self.leave(file, error.into())?,
            }
        }
        let left = self.logged(self.directory().days())?;
        self.marked
            .retain(|mark| left.iter().any(|day| day.date == mark.date));
        self.logged(self.directory().sync())
    }

    fn check_removable(&self, day: DayName) -> Result<(), Left> {
        self.check_cancelled()?;
        self.check_needed(day)?;
        // Whatever else has such a name isn't ours.
        let file = self.directory().open_to_read(&day.file_name())?;
        if day.compressed {
            return Ok(());
        }
        self.check_sealed(day, &file)
    }

    /// What isn't sealed would be gone unseen.
    fn check_sealed(&self, day: DayName, file: &File) -> Result<(), Left> {
        match &self.store.sealer {
            Some(sealer) if sealer.sealed(&day) != file.metadata()?.len() => {
                Err(Left::Needed("isn't sealed to its end".into()))
            }
            _ => Ok(()),
        }
    }

    fn marks(&self) -> io::Result<Vec<Mark>> {
        let text = if_there(self.directory().read_state(MARKS))?.unwrap_or_default();
        // What a power cut left of one counts as none: its day is marked again.
        Ok(text.lines().filter_map(Mark::read).collect())
    }

    // ------------------------------------------------------------ compressing

    fn compress(&self, day: DayName) -> Result<(), Left> {
        self.check_cancelled()?;
        self.check_needed(day)?;
        let plain = self.directory().open_to_read(&day.file_name())?;
        let compressed = day.compressed().file_name();
        if self.directory().has(&compressed)? {
            // A run was killed before it removed the plain file, or somebody else put it there.
            let there = self.directory().open_to_read(&compressed)?;
            return self.replace(day, &plain, &there, None);
        }
        let made = self.directory().temporary()?;
        let mut to = GzEncoder::new(&*made.file, Compression::default());
        self.read(recover::part(&plain, 0)?, |piece| to.write_all(piece))
            .and_then(|()| Ok(to.try_finish()?))
            .inspect_err(|left| {
                if let Left::Failed(error) = left {
                    sys::note_write_error(error);
                }
            })?;
        self.replace(day, &plain, &made.file, Some(&made))
    }

    /// Puts a compressed file in the place of the plain one, if it holds the same.
    fn replace(
        &self,
        day: DayName,
        plain: &File,
        mut compressed: &File,
        made: Option<&Temporary<'_>>,
    ) -> Result<(), Left> {
        let directory = self.directory();
        let (name, to) = (day.file_name(), day.compressed().file_name());
        compressed.sync_all()?;
        compressed.rewind()?;
        let holds = self
            .digest(MultiGzDecoder::new(compressed))
            .map_err(|left| match left {
                Left::Failed(error) => Left::Failed(io::Error::other(format!("{to}: {error}"))),
                left => left,
            })?;
        let _lock = self.lock()?;
        let same = self.digest(recover::part(plain, 0)?)? == holds;
        self.check_needed(day)?;
        if !directory.still_names(&name, plain) {
            return Err(Left::Needed("was moved or deleted meanwhile".into()));
        }
        match made {
            Some(_) if !same => return Err(Left::Needed("was changed meanwhile".into())),
            Some(made) => {
                self.check_sealed(day, plain)?;
                directory.publish(made, &to)?;
            }
            // An empty one was made by a process that saw the compressed one a moment too late.
            None if same || plain.metadata()?.len() == 0 => {}
            None => {
                return Err(Left::Needed(format!(
                    "{to} is there and holds something else; move one of them away"
                )));
            }
        }
        directory.sync()?;
        Ok(directory.remove(&name)?)
    }

    fn digest(&self, from: impl Read) -> Result<[u8; 32], Left> {
        let mut digest = Sha256::new();
        self.read(from, |piece| {
            digest.update(piece);
            Ok(())
        })?;
        Ok(digest.finalize().into())
    }

    /// Reads to the end, unless the run is cancelled.
    fn read(
        &self,
        mut from: impl Read,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Left> {
        let mut piece = vec![0; 256 * 1024];
        loop {
            self.check_cancelled()?;
            match from.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => take(&piece[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    // ------------------------------------------------------------ who else is there

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_some_and(Event::has_happened) {
            return Err(Error::new(
                Status::Cancelled,
                "cancelled: what was done by then stays done, and the next run does the rest",
            ));
        }
        Ok(())
    }

    /// Whether a journal leads to a day: it's a living process's, or one that couldn't be made whole.
    fn check_needed(&self, day: DayName) -> Result<(), Left> {
        for name in self.directory().state_names(journal::PREFIX)? {
            let Some(file) = if_there(self.directory().open_state(&name))? else {
                continue;
            };
            let note = journal::read_note(&file).unwrap_or_default();
            let note: Value = serde_json::from_str(&note).unwrap_or_default();
            let appends_to = note["file"].as_str().and_then(DayName::parse);
            let calls = journal::read_slots(&file)?;
            let why = if appends_to.is_some_and(|file| file.date == day.date) {
                "appends to that day (a clock that is wrong?)"
            } else if calls
                .iter()
                .any(|(_, _, kept)| kept.place.day.date == day.date)
            {
                "has a call that began on that day and isn't in the log yet"
            } else {
                continue;
            };
            let pid = &note["pid"];
            return Err(Left::Needed(format!("process {pid} ({name}) {why}")));
        }
        Ok(())
    }

    fn lock(&self) -> Result<Lock, Error> {
        let since = Instant::now();
        loop {
            self.check_cancelled()?;
            if let Some(lock) = self.logged(self.directory().try_lock())? {
                return Ok(lock);
            }
            if since.elapsed() >= PATIENCE {
                let holder = self.directory().lock_holder();
                let holder =
                    holder.map_or("another process".into(), |pid| format!("process {pid}"));
                let why = format!("{holder} holds .state/lock: wait until it has ended, or end it");
                return self.logged(Err(io::Error::other(why)));
            }
            std::thread::sleep(PAUSE);
        }
    }

    // ------------------------------------------------------------ what was done

    fn report(&self) -> Vec<u8> {
        let mut report = Vec::new();
        let mut to = Object::begin(&mut report);
        to.text("path", &self.directory().path().to_string_lossy());
        to.json("recovered", self.swept.recovered);
        to.json("torn", self.swept.torn);
        to.list("marked", &self.marked, Mark::write);
        to.texts("deleted", &self.deleted);
        to.texts("compressed", &self.compressed);
        to.list("skipped", &self.skipped, |(file, reason), out| {
            let mut to = Object::begin(out);
            to.text("file", file);
            to.text("reason", reason);
            to.end();
        });
        to.texts("warnings", &self.directory().warnings());
        to.end();
        report
    }
}

impl Mark {
    fn read(line: &str) -> Option<Mark> {
        let mark: Value = serde_json::from_str(line).ok()?;
        let (day, since) = (mark["day"].as_str()?, mark["since"].as_str()?);
        Some(Mark {
            date: day.as_bytes().try_into().ok()?,
            since: (since.len() == Timestamp::LEN).then(|| since.to_owned())?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut to = Object::begin(out);
        to.text("day", &String::from_utf8_lossy(&self.date));
        to.text("since", &self.since);
        to.end();
    }
}
