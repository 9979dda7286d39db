//! A log is shown to witnesses, who remember how far it had come: whoever has its key can't rewrite it
//! any more without being seen. What they sign is kept in the log.
//!
//! A thread of its own does it, so that a witness that is dead, slow or lying delays neither a call nor
//! a sealing. Of all the processes of a log one asks by itself in an interval; who waits for the quorum
//! asks at once, whoever else does.

mod ask;
mod notes;
#[cfg(test)]
mod schedules;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Post;
use crate::config::{self, Config};
use crate::error::{Error, Status};
use crate::format::note::Note;
use crate::json::Object;
use crate::log::{Log, MakeWitnessing, Offer, Witnessing};
use crate::panics;
use crate::sys::{self, Event, Readiness};

use ask::{Answer, Asking, Way, own_note};
use notes::{Notes, milliseconds};

/// How long one witness may take, its connection included.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon it's looked again when another process is just noting something.
const AGAIN: Duration = Duration::from_secs(1);

/// The same for who waits, and how soon witnesses that failed are asked again for the quorum.
const SOON: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_millis(500);

/// It does what a call does and what sealing does.
const STACK: usize = 256 * 1024;

/// Who asks the witnesses.
struct Witnesses(Arc<Shared>);

struct Shared {
    settings: Arc<Settings>,
    /// Whether the thread was started, so that nobody need lock anything to know.
    runs: AtomicBool,
    thread: Mutex<Thread>,
    /// Happens when it's over.
    stop: OnceLock<Event>,
    /// Which witnesses have signed for this process, in the policy's order. What it finds signed by others says
    /// nothing: it would be there in an older copy of the directory as well.
    signed: Vec<AtomicBool>,
    /// As they were read or written last.
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Thread {
    handle: Option<JoinHandle<()>>,
    ends: bool,
}

/// What all processes of a logger have in common.
struct Settings {
    config: config::Witnesses,
    /// How each is asked, in the policy's order, if it's known where.
    ways: Vec<Option<Box<dyn Way>>>,
}

/// Makes, in each process, what shows a log to its witnesses, if it's configured to have any.
pub fn of(config: &Config) -> Option<MakeWitnessing> {
    let integrity = config.integrity.as_ref()?;
    let witnesses = integrity.witnesses.as_ref()?;
    let post = |place: &Option<config::Place>| {
        let (trust, connect) = (&config.trust, config.connect_timeout);
        let place = place.as_ref()?;
        let post = Post::to(place, trust, connect, "text/plain; charset=utf-8");
        Some(Box::new(post) as Box<dyn Way>)
    };
    let settings = Arc::new(Settings {
        ways: witnesses.places.iter().map(post).collect(),
        config: witnesses.clone(),
    });
    Some(Box::new(move || {
        Box::new(Witnesses(Arc::new(Shared::of(&settings))))
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witnessing for Witnesses {
    fn published(&self, log: &Weak<Log>) {
        let shared = &self.0;
        if shared.runs.load(Ordering::Acquire) {
            return;
        }
        let mut thread = lock(&shared.thread);
        if thread.handle.is_some() || thread.ends {
            return;
        }
        if shared.stop.get().is_none() {
            // Without a descriptor or a thread it's tried again with the next sealing.
            let Ok(stop) = Event::new() else {
                return;
            };
            let _ = shared.stop.set(stop);
        }
        let (mine, log) = (Arc::clone(shared), Weak::clone(log));
        let builder = thread::Builder::new()
            .name("audit-witness".into())
            .stack_size(STACK);
        let made = sys::without_signals(|| builder.spawn(move || mine.run(&log)));
        shared.runs.store(made.is_ok(), Ordering::Release);
        thread.handle = made.ok();
    }

    fn wait(&self, log: &Log, timeout: Option<Duration>) -> Result<(), Error> {
        self.0.wait(log, timeout)
    }

    fn health(&self, to: Object<'_>) {
        lock(&self.0.notes).health(&self.0.settings.config.policy, to);
    }

    fn end(&self) {
        let mut thread = lock(&self.0.thread);
        thread.ends = true;
        let handle = thread.handle.take();
        drop(thread);
        if let Some(stop) = self.0.stop.get() {
            stop.set();
        }
        let is_other = |handle: &JoinHandle<()>| handle.thread().id() != thread::current().id();
        if let Some(handle) = handle.filter(is_other) {
            // What it panics of is contained.
            let _ = handle.join();
        }
    }
}

/// What a look at the witnesses came to, for who waits for the quorum.
enum Looked {
    /// The quorum has seen it.
    Complete,
    /// Some have seen more that is published by now.
    Stale,
    /// They were asked, and it hasn't.
    Incomplete,
}

impl Shared {
    fn of(settings: &Arc<Settings>) -> Shared {
        Shared {
            settings: Arc::clone(settings),
            runs: AtomicBool::new(false),
            thread: Mutex::default(),
            stop: OnceLock::new(),
            signed: settings
                .ways
                .iter()
                .map(|_| AtomicBool::default())
                .collect(),
            notes: Mutex::new(Notes::read(b"", &settings.config.policy)),
        }
    }

    fn run(&self, log: &Weak<Log>) {
        let mut pause = Duration::ZERO;
        while !self.stops_within(pause) {
            let Some(log) = log.upgrade() else {
                return;
            };
            let looked = panics::contain(|| self.ask_if_due(&log));
            // What can't be read or written now is tried again at its time, as a defect is.
            let interval = self.settings.config.interval;
            pause = looked.ok().and_then(Result::ok).unwrap_or(interval);
        }
    }

    /// Sleeps so long, unless it's over before.
    fn stops_within(&self, pause: Duration) -> bool {
        let stop = self.stop.get().map_or(-1, Event::fd);
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match sys::wait([(stop, Readiness::Read)], left) {
                Ok(None) if left.is_zero() => return false,
                Ok(None) => {}
                _ => return true,
            }
        }
    }

    /// Asks the witnesses if it's time. Returns when to look again.
    fn ask_if_due(&self, log: &Log) -> io::Result<Duration> {
        let interval = self.settings.config.interval;
        let Some(left) = self.note(log, |notes| {
            let now = milliseconds(log.clock());
            // A clock that was put back counts for nothing.
            let since = now.checked_sub(notes.asked_at).map(Duration::from_millis);
            let left = since.and_then(|since| interval.checked_sub(since));
            if left.is_none() {
                // From now on it's this process's turn.
                notes.asked_at = now;
            }
            left
        })?
        else {
            return Ok(AGAIN);
        };
        if let Some(left) = left {
            return Ok(left);
        }
        if let Some(offer) = log.offer()? {
            self.ask(log, &offer, None)?;
        }
        Ok(interval)
    }

    fn read(&self, log: &Log) -> io::Result<Notes> {
        let text = log.witness_notes()?.unwrap_or_default();
        let notes = Notes::read(&text, &self.settings.config.policy);
        lock(&self.notes).clone_from(&notes);
        Ok(notes)
    }

    /// Changes the notes, unless another process is just doing that.
    fn note<T>(&self, log: &Log, change: impl FnOnce(&mut Notes) -> T) -> io::Result<Option<T>> {
        let Some(_lock) = log.try_lock_witnesses()? else {
            return Ok(None);
        };
        let mut notes = self.read(log)?;
        let before = notes.clone();
        let changed = change(&mut notes);
        if notes != before {
            log.keep_witness_notes(&notes.text(&self.settings.config.policy))?;
            *lock(&self.notes) = notes;
        }
        Ok(Some(changed))
    }

    /// Notes what came of asking: the lock is held for a moment only, so it's waited for.
    fn note_answers<T>(
        &self,
        log: &Log,
        change: impl Fn(&mut Notes) -> T,
    ) -> io::Result<Option<T>> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let since = Instant::now();
        loop {
            let noted = self.note(log, &change)?;
            if noted.is_some() || since.elapsed() >= PATIENCE {
                return Ok(noted);
            }
            thread::sleep(SOON);
        }
    }

    /// Asks all who haven't signed it and don't rest; or, before a deadline, until the quorum is complete.
    fn ask(&self, log: &Log, offer: &Offer, deadline: Option<Instant>) -> io::Result<Looked> {
        let config = &self.settings.config;
        let policy = &config.policy;
        let Some(own) = log.verifier().and_then(|log| own_note(offer, log)) else {
            return Ok(Looked::Incomplete);
        };
        let notes = self.read(log)?;
        let now = milliseconds(log.clock());
        let size = offer.checkpoint.size;
        let mut cosigned = self.cosigned(offer);
        let mut gained: Option<String> = None;
        let mut is_stale = false;
        // Those that answered last time come first.
        let mut order: Vec<_> = notes.each.iter().enumerate().collect();
        order.sort_by_key(|(_, told)| told.failures);
        for (at, told) in order {
            let Some(way) = self.settings.ways[at].as_deref() else {
                continue;
            };
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let is_enough = deadline.is_some() && policy.complete_at(&cosigned).is_some();
            if is_over || is_enough || self.stops_within(Duration::ZERO) {
                break;
            }
            if cosigned[at].is_some() || deadline.is_none() && told.rests(now, config.interval) {
                continue;
            }
            let patience = Instant::now() + PATIENCE;
            let asking = Asking {
                log,
                offer,
                witness: &policy.witnesses()[at].key,
                way,
                deadline: deadline.map_or(patience, |deadline| deadline.min(patience)),
                stop: self.stop.get(),
            };
            let answer = asking.ask(&own, told.size);
            if self.stops_within(Duration::ZERO) {
                break;
            }
            let error = match answer {
                Ok(Answer::Cosigned(time, note)) => {
                    cosigned[at] = Some(time);
                    self.signed[at].store(true, Ordering::Relaxed);
                    gained = Some(match gained {
                        Some(gained) => joined(&gained, &note),
                        None => note,
                    });
                    self.note_answers(log, |notes| notes.each[at].signed(size, time, now))?;
                    continue;
                }
                // Another process or thread has shown it what was published meanwhile.
                Ok(Answer::Disputed(known)) if is_published(log, size, known)? => {
                    is_stale = true;
                    continue;
                }
                Ok(Answer::Disputed(known)) => {
                    // Under the lock, for others may just have been told the same.
                    let noted: Option<io::Result<()>> = self.note_answers(log, |notes| {
                        if !notes.each[at].disputes {
                            log.note_dispute(&asking.witness.to_string(), known, size)?;
                            notes.each[at].disputes = true;
                        }
                        Ok(())
                    })?;
                    noted.unwrap_or(Ok(()))?;
                    format!("has seen the log at size {known}, or another tree: it was put back")
                }
                Err(wrong) => wrong,
            };
            self.note_answers(log, |notes| notes.each[at].failed(error.clone(), now))?;
        }
        if let Some(gained) = gained {
            log.keep_cosignatures(&offer.checkpoint, &gained)?;
        }
        Ok(match policy.complete_at(&cosigned) {
            Some(at) => {
                self.note_answers(log, |notes| notes.complete(&offer.checkpoint, at))?;
                Looked::Complete
            }
            None if is_stale => Looked::Stale,
            None => Looked::Incomplete,
        })
    }

    /// When each witness has signed what is offered already, of those that have signed for this process.
    fn cosigned(&self, offer: &Offer) -> Vec<Option<u64>> {
        let note = Note::parse(&offer.note).ok();
        let witnesses = self.settings.config.policy.witnesses().iter();
        let cosigned = witnesses.zip(&self.signed).map(|(witness, signed)| {
            let note = note.as_ref().filter(|_| signed.load(Ordering::Relaxed))?;
            witness.key.cosigned_at(note).ok()?
        });
        cosigned.collect()
    }

    /// Whether a quorum has signed for this process.
    fn has_quorum(&self) -> bool {
        let signed = self.signed.iter();
        let signed: Vec<Option<u64>> = signed
            .map(|signed| signed.load(Ordering::Relaxed).then_some(0))
            .collect();
        self.settings.config.policy.complete_at(&signed).is_some()
    }

    /// Waits until the quorum has seen all that is published by now. Without a limit each witness is
    /// asked once.
    fn wait(&self, log: &Log, timeout: Option<Duration>) -> Result<(), Error> {
        let failed = |error: io::Error| Error::log(format!("the log's witnesses: {error}"));
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let target = log.offer().map_err(failed)?.ok_or_else(|| {
            Error::log("the log has no checkpoint yet that witnesses could be shown")
        })?;
        loop {
            let pause = match self.look(log, &target, deadline).map_err(failed)? {
                Looked::Complete => return Ok(()),
                Looked::Incomplete if !self.settings.config.required => return Ok(()),
                Looked::Incomplete if deadline.is_none() => return Err(self.incomplete(&target)),
                Looked::Incomplete => RETRY,
                Looked::Stale => SOON,
            };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO)
                || self.stops_within(left.map_or(pause, |left| left.min(pause)))
            {
                return match self.settings.config.required {
                    true => Err(self.incomplete(&target)),
                    false => Ok(()),
                };
            }
        }
    }

    fn look(&self, log: &Log, target: &Offer, deadline: Option<Instant>) -> io::Result<Looked> {
        let Some(offer) = log.offer()? else {
            return Ok(Looked::Incomplete);
        };
        if let Some(witnessed) = &self.read(log)?.witnessed
            && self.has_quorum()
        {
            let newest = offer.checkpoint.size;
            // What was noted of another tree counts for nothing.
            if (target.checkpoint.size..=newest).contains(&witnessed.size)
                && log.root_at(witnessed.size, newest)? == witnessed.root
            {
                return Ok(Looked::Complete);
            }
        }
        let reachable = self.settings.ways.iter().flatten().map(|_| PATIENCE);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + reachable.sum());
        self.ask(log, &offer, Some(deadline))
    }

    fn incomplete(&self, target: &Offer) -> Error {
        /// More of them would say no more.
        const MOST: usize = 8;
        let policy = &self.settings.config.policy;
        let notes = lock(&self.notes);
        let each = notes.each.iter().zip(policy.witnesses());
        let wrong = each.filter_map(|(told, witness)| {
            let error = told.error.as_deref()?;
            Some(format!("; {}: {error}", witness.key.name()))
        });
        let wrong: String = wrong.take(MOST).collect();
        Error::new(
            Status::Witness,
            format!(
                "the quorum of witnesses hasn't seen the log at size {}, which is on the disk and \
                 sealed{wrong}",
                target.checkpoint.size
            ),
        )
    }
}

/// Whether a witness that has seen this size, and not the smaller one that it was offered, has seen what
/// is published by now.
fn is_published(log: &Log, offered: u64, seen: u64) -> io::Result<bool> {
    let newest = log.offer()?.map_or(0, |offer| offer.checkpoint.size);
    Ok((offered + 1..=newest).contains(&seen))
}

/// Two notes of one checkpoint as one.
fn joined(note: &str, other: &str) -> String {
    match (Note::parse(note), Note::parse(other)) {
        (Ok(note), Ok(other)) => note.joined(&other),
        _ => note.to_owned(),
    }
}
