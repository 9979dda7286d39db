//! Days that are over: compressed, and removed when they have expired. Only on request.
//!
//! Nobody appends to such a day, but for a process whose clock is wrong, and nobody looks anything up
//! in it, but for the calls of a process that has just died. So what the dead left is made whole
//! first, and a day is left alone that a living process's journal names.
//!
//! Each step leaves the log whole, and the next run goes on from there. A change is made under the
//! directory's lock; compressing takes long, so it's done before, and what was compressed is compared
//! again under the lock.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::directory::{Directory, LOCK, TREE};
use super::disk::{Access, File, How, Lock, if_there, wait_for};
use super::expire::Mark;
use super::seal::Wanted;
use super::{Log, Sealing, Settings, Swept, journal, seal};
use crate::config::{Maintenance, Secret};
use crate::error::{Error, Status};
use crate::format::name::DayName;
use crate::format::record::RecordBody;
use crate::json::Object;
use crate::sys;

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a file is left as it is.
pub enum Left {
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

/// One run.
pub struct Run<'r> {
    pub(super) log: &'r Log,
    cancelled: &'r dyn Fn() -> bool,
    swept: Swept,
    pub(super) marked: Vec<Mark>,
    pub(super) held: Vec<String>,
    pub(super) deleted: Vec<String>,
    compressed: Vec<String>,
    skipped: Vec<(String, String)>,
    /// The first failure: the others are done all the same.
    failed: Option<String>,
}

/// Looks after the days of the log in a directory. Returns what was done, as JSON, and whether all
/// of it could be. `progress` is told how many days of how many are compressed.
pub fn maintain(
    path: &Path,
    wanted: &Maintenance,
    progress: &mut dyn FnMut(u64, u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<(Vec<u8>, Result<(), Error>), Error> {
    let log = opened(path, wanted)?;
    let mut run = Run::of(&log, cancelled);
    let ended = run.all(wanted, progress);
    let report = run.report();
    log.leave();
    Ok((report, ended))
}

/// The log in a directory that isn't made.
pub(super) fn opened(path: &Path, wanted: &Maintenance) -> Result<Arc<Log>, Error> {
    sys::watch_forks().map_err(|error| Error::new(Status::Internal, error.to_string()))?;
    let settings = Settings {
        path: path.to_owned(),
        access: Access::found_in(path).unwrap_or(Access::Owner),
        allow_network: wanted.allow_network_filesystem,
        // Its loggers may promise so.
        to_disk: true,
        now: SystemTime::now,
        gap_entry: None,
        sealing: sealing(path, wanted),
        witnessing: None,
    };
    Log::at(&Arc::new(settings), None, false)
}

/// How the log is sealed, if it is: what is done is recorded in its tree.
fn sealing(path: &Path, wanted: &Maintenance) -> Option<Sealing> {
    let is_sealed = path.join(TREE).exists();
    is_sealed.then(|| Sealing {
        key: wanted.key.as_ref().map(Secret::share),
        guard_file: wanted.guard_file.clone(),
        origin: None,
        interval: Duration::MAX,
        heartbeat: Duration::MAX,
        hash_key_id: None,
    })
}

impl<'r> Run<'r> {
    /// One that has done nothing yet.
    pub(super) fn of(log: &'r Log, cancelled: &'r dyn Fn() -> bool) -> Run<'r> {
        Run {
            log,
            cancelled,
            swept: Swept::default(),
            marked: Vec::new(),
            held: Vec::new(),
            deleted: Vec::new(),
            compressed: Vec::new(),
            skipped: Vec::new(),
            failed: None,
        }
    }

    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.log.directory
    }

    pub(super) fn all(
        &mut self,
        wanted: &Maintenance,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let lock = self.lock()?;
        self.swept = self.logged(self.log.make_whole(true))?;
        let unburied = self.log.lock().last_error.take();
        self.failed = unburied.map(|(_, message)| message);
        drop(lock);
        self.seal()?;
        if let Some(days) = wanted.retention_days {
            let _lock = self.lock()?;
            self.expire(days)?;
        }
        if let Some(days) = wanted.compress_after_days {
            let mut plain = self.days_older_than(days)?;
            plain.retain(|day| !day.compressed);
            for (done, day) in (0..).zip(&plain) {
                progress(done, plain.len() as u64);
                match self.compress(*day) {
                    Ok(()) => self.compressed.push(day.file_name()),
                    Err(left) => self.leave(*day, left)?,
                }
            }
        }
        self.failed
            .take()
            .map_or(Ok(()), |why| Err(Error::log(why)))
    }

    /// Seals the days that are over: of what is removed the tree must know all.
    fn seal(&self) -> Result<(), Error> {
        let Some(sealer) = self.log.sealer.get() else {
            return Ok(());
        };
        self.logged(self.log.confirm_all())?;
        let mut since = Instant::now();
        let mut torn = Vec::new();
        let wanted = Wanted {
            days: Some(&|day| self.log.now().is_over(&day.date)),
            publish: true,
        };
        loop {
            self.check_cancelled()?;
            let sealed = sealer.seal((self.log.settings.now)(), wanted);
            match self.logged(sealed)? {
                None if since.elapsed() >= PATIENCE => {
                    return self.logged(Err(sealer.is_locked()));
                }
                None => self.directory().state().pause(seal::PAUSE),
                Some(found) => {
                    // A line that can't be mended stays, and the file with it.
                    let done = !found.more && (found.torn.is_empty() || found.torn == torn);
                    torn.clone_from(&found.torn);
                    self.log.note_found(found);
                    if done {
                        return Ok(());
                    }
                    // Others want the lock as well.
                    self.directory().state().pause(seal::PAUSE);
                    let _lock = self.lock()?;
                    torn.iter()
                        .try_for_each(|place| self.logged(self.log.mend(*place)).map(drop))?;
                    since = Instant::now();
                }
            }
        }
    }

    /// Records what is done to days, before it's done.
    pub(super) fn record(&self, records: Vec<RecordBody>) -> Result<(), Error> {
        match self.log.sealer.get() {
            Some(sealer) if !records.is_empty() => self
                .logged(sealer.record(records, (self.log.settings.now)()))
                .map(drop),
            _ => Ok(()),
        }
    }

    pub(super) fn logged<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| Error::log(self.log.message(&error)))
    }

    /// The files of the days that have been over for so many days.
    pub(super) fn days_older_than(&self, days: i64) -> Result<Vec<DayName>, Error> {
        let now = self.log.now();
        let mut found = self.logged(self.directory().days())?;
        let age = |day: &DayName| now.days_since(&day.date);
        found.retain(|day| now.is_over(&day.date) && age(day).is_some_and(|age| age > days));
        Ok(found)
    }

    pub(super) fn leave(&mut self, day: DayName, left: Left) -> Result<(), Error> {
        let name = day.file_name();
        let reason = match left {
            Left::Ended(error) => return Err(error),
            Left::Needed(reason) => reason,
            Left::Failed(error) => {
                let reason = error.to_string();
                let why = format!("{name} was left as it is: {reason}");
                let why = self.log.message(&io::Error::other(why));
                self.failed.get_or_insert(why);
                reason
            }
        };
        self.skipped.push((name, reason));
        Ok(())
    }

    // ------------------------------------------------------------ who else is there

    pub(super) fn check_cancelled(&self) -> Result<(), Error> {
        if (self.cancelled)() {
            return Err(Error::new(
                Status::Cancelled,
                "cancelled: what was done by then stays done, and the next run does the rest",
            ));
        }
        Ok(())
    }

    /// Whether a journal leads to a day: it's a living process's, or one that couldn't be made whole.
    pub(super) fn check_needed(&self, day: DayName) -> Result<(), Left> {
        for name in self.directory().state_names(journal::PREFIX)? {
            let Some(file) = if_there(self.directory().state().open(&name, How::Read))? else {
                continue;
            };
            let note = journal::read_note(&file).unwrap_or_default();
            let note: Value = serde_json::from_str(&note).unwrap_or_default();
            let appends_to = note["file"].as_str().and_then(DayName::parse);
            let mut calls = journal::Slots::of(&file)?;
            let of_it = |slot: io::Result<(_, _, journal::Kept)>| {
                slot.map_or(true, |(_, _, kept)| kept.place.day.date == day.date)
            };
            let why = if appends_to.is_some_and(|file| file.date == day.date) {
                "appends to that day (a clock that is wrong?)"
            } else if calls.any(of_it) {
                "has a call that began on that day and isn't in the log yet"
            } else {
                continue;
            };
            let pid = &note["pid"];
            return Err(Left::Needed(format!("process {pid} ({name}) {why}")));
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let attempt = || self.logged(self.directory().try_lock());
        let lock = wait_for(PATIENCE, || self.check_cancelled(), attempt)?;
        lock.map_or_else(|| self.logged(Err(self.directory().is_held(LOCK))), Ok)
    }

    /// Reads to the end, unless the run is cancelled.
    pub(super) fn read(
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

    /// What isn't sealed would be gone unseen.
    pub(super) fn check_sealed(&self, day: DayName, file: &File) -> Result<(), Left> {
        match self.log.sealer.get() {
            Some(sealer) if sealer.sealed(&day) != file.length()? => {
                Err(Left::Needed("isn't sealed to its end".into()))
            }
            _ => Ok(()),
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
        to.texts("held", &self.held);
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
