//! The life of one call: it begins, somebody makes it, it finishes with exactly one entry.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::config::{Config, Durability, OnLogFailure, Secret};
use crate::error::{Error, Status};
use crate::format::entry::{Details, Entry, Line, MAX_DETAILS, Outcome};
use crate::hash::{ContentHash, Hashing};
use crate::json::{self, Numbers, Object};
use crate::log::{self, Access, Intent, Log, MakeWitnessing, Sealing};
use crate::sys::{self, Event, PerProcess, RandomBytes};

/// The logs of this process, also of loggers that were freed while calls of theirs run.
static LIVING: PerProcess<Mutex<Vec<Weak<Process>>>> = PerProcess::new();

/// Writes the entries of one log.
pub struct Logger {
    settings: Arc<log::Settings>,
    /// The directory's, as it was first opened: a forked child must find the same.
    identity: OnceLock<(u64, u64)>,
    host: String,
    details: bool,
    hashing: Hashing,
    metadata_numbers: Numbers,
    max_entry_bytes: usize,
    closed: AtomicBool,
    process: PerProcess<Arc<Process>>,
}

/// What a forked child must not share with its parent.
struct Process {
    log: Arc<Log>,
    running: AtomicUsize,
    /// Notified when the last running call of a closed logger ends.
    idle: (Mutex<()>, Condvar),
    /// Of them, those that the host makes itself.
    held: AtomicUsize,
    /// Happens when running calls are to end at once.
    stop: Event,
    /// Whether it has: asked for each call of a queue.
    stopping: AtomicBool,
    /// Whether it is to stay so: the logger is closed.
    closing: AtomicBool,
    random: Mutex<RandomBytes>,
    /// Times that a thread for calls that wait couldn't be made.
    threads_refused: AtomicUsize,
    /// Asked for once: each time costs as much as a fifth of an entry's write.
    pid: u32,
}

/// What is known of a call before it is made.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// `None` is `chat_completion`.
    pub event_type: Option<&'a str>,
    /// On whose behalf.
    pub user_id: &'a str,
    /// As requested.
    pub model: &'a str,
    /// Of the prompt.
    pub prompt_hash: ContentHash,
    /// The host's own object, compact JSON.
    pub metadata: Option<&'a str>,
}

/// What is known of a call after it was made.
#[derive(Debug, Clone)]
pub struct Ending<'a> {
    /// Of the answer's text.
    pub response_hash: ContentHash,
    /// As reported.
    pub prompt_tokens: Option<i64>,
    /// As reported.
    pub completion_tokens: Option<i64>,
    /// The class of the error, if it failed.
    pub error_type: Option<&'a str>,
    /// When the first piece of a streamed answer came.
    pub first_token: Option<Instant>,
    /// All but the origin and the times, which the logger adds.
    pub details: Details<'a>,
}

/// What came of a call that the host made itself.
#[derive(Debug, Clone, Copy)]
pub struct Came<'a> {
    /// Hashed, not kept.
    pub response: &'a str,
    /// Of the prompt and the answer, if they are known.
    pub tokens: Option<(i64, i64)>,
    /// How long the call took.
    pub latency_ms: f64,
    /// `success` or `error`.
    pub status: &'a str,
    /// The class of the error, with an error.
    pub error_type: Option<&'a str>,
}

/// A call that has begun. However it ends, it leaves one entry.
pub struct Pending {
    running: Running,
    id: Uuid,
    event_type: String,
    user_id: String,
    model: String,
    prompt_hash: ContentHash,
    metadata: Option<String>,
    started_at: Timestamp,
    started: Instant,
    /// The entry it gets if nothing more is heard of it, its intent in the log's directory, and the
    /// longest that its entry can be; until it's finished.
    open: Option<(Line, Intent, usize)>,
}

/// The entry of a finished call.
pub struct Finished {
    /// As it stands, or will stand, in the log.
    pub line: Line,
    /// An error when the log couldn't take it: then it waits.
    pub written: Result<(), Error>,
}

const CHAT_COMPLETION: &str = "chat_completion";

/// The class of an error whose entry says no more than that the call was begun.
const OUTCOME_UNKNOWN: &str = "OutcomeUnknown";

/// How much longer than the entry of an unknown outcome, `details` aside, an entry can be: numbers
/// in place of nulls, and another class of error.
const MAX_GROWTH: usize = 128;

/// How long `close` waits for calls that it told to end, and, when its time is up, for the disk.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

impl Logger {
    /// Opens the log that the configuration names, and has it shown to witnesses if it is to be. Returns
    /// what it found, as JSON, with it.
    pub fn open(
        config: &Config,
        witnessing: Option<MakeWitnessing>,
    ) -> Result<(Logger, Vec<u8>), Error> {
        sys::watch_forks().map_err(|error| {
            Error::new(
                Status::Internal,
                format!("the fork handler can't be installed: {error}"),
            )
        })?;
        let (host, details) = (sys::host_name(), config.details);
        let count_gaps = config.on_log_failure == OnLogFailure::Count;
        let settings = log::Settings {
            path: config.output_path.clone(),
            access: config.group.map_or(Access::Owner, Access::Group),
            allow_network: config.allow_network_filesystem,
            to_disk: config.durability == Durability::Disk,
            now: SystemTime::now,
            sealing: config.integrity.as_ref().map(|integrity| Sealing {
                key: integrity.key.as_ref().map(Secret::share),
                guard_file: integrity.guard_file.clone(),
                origin: integrity.origin.clone(),
                interval: integrity.seal_interval,
                heartbeat: integrity.heartbeat,
                hash_key_id: config.hashing.key_id().map(str::to_owned),
            }),
            witnessing,
            gap_entry: count_gaps.then(|| -> log::GapEntry {
                let (host, hashing) = (host.clone(), config.hashing.clone());
                Box::new(move |calls, first, last| {
                    gap_entry(&host, details, &hashing, calls, first, last)
                })
            }),
        };
        let logger = Logger {
            settings: Arc::new(settings),
            identity: OnceLock::new(),
            host,
            details,
            hashing: config.hashing.clone(),
            metadata_numbers: config.metadata_numbers,
            max_entry_bytes: config.max_entry_bytes,
            closed: AtomicBool::new(false),
            process: PerProcess::default(),
        };
        let mut swept = log::Swept::default();
        let log = &logger.process_with(&mut swept)?.log;
        check_policy(config, log).inspect_err(|_| log.close())?;
        let mut report = Vec::new();
        let mut to = Object::begin(&mut report);
        to.text("path", &log.path().to_string_lossy());
        to.json("recovered", swept.recovered);
        to.json("torn", swept.torn);
        let warnings = log.warnings().into_iter().chain(config.without_key());
        to.texts("warnings", &warnings.collect::<Vec<_>>());
        to.end();
        Ok((logger, report))
    }

    fn process(&self) -> Result<&Arc<Process>, Error> {
        self.process_with(&mut log::Swept::default())
    }

    fn process_with(&self, swept: &mut log::Swept) -> Result<&Arc<Process>, Error> {
        self.process.get_or_try_init(|| {
            let need = |error| Error::log(format!("the process is out of resources: {error}"));
            let stop = Event::new().map_err(need)?;
            let log;
            let before = self.identity.get().copied();
            (log, *swept) = Log::open(&self.settings, before).map_err(|error| {
                // In a forked child: what was right for its parent isn't the host's mistake now.
                match error.status {
                    Status::Config if before.is_some() => Error::log(error.message),
                    _ => error,
                }
            })?;
            if let Some(identity) = log.identity() {
                let _ = self.identity.set(identity);
            }
            let process = Arc::new(Process {
                log,
                running: AtomicUsize::new(0),
                held: AtomicUsize::new(0),
                idle: (Mutex::new(()), Condvar::new()),
                stop,
                stopping: AtomicBool::new(false),
                closing: AtomicBool::new(false),
                random: Mutex::new(RandomBytes::new()),
                threads_refused: AtomicUsize::new(0),
                pid: std::process::id(),
            });
            living(|all| {
                all.retain(|known| known.strong_count() > 0);
                all.push(Arc::downgrade(&process));
            });
            Ok(process)
        })
    }

    /// Counts a call as running, from before it begins: `close` waits for it.
    pub fn enter(self: &Arc<Self>) -> Result<Running, Error> {
        let running = Running {
            logger: Arc::clone(self),
            process: Arc::clone(self.process()?),
            entered_in: sys::process_number(),
            is_held: false,
        };
        running.process.running.fetch_add(1, Ordering::SeqCst);
        // Looked up after counting: `close` sets it and then waits for the count, so a call
        // either is counted or sees it.
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(
                Status::Handle,
                "the logger is closed; make a new one",
            ));
        }
        Ok(running)
    }

    /// Logs a call that the host made itself. Returns its line. `metadata` is compact JSON.
    pub fn log(self: &Arc<Self>, subject: &Subject<'_>, came: &Came<'_>) -> Result<Line, Error> {
        came.check()?;
        let running = self.enter()?;
        let details = self
            .details
            .then(|| self.with_origin(&running.process, Details::default()));
        let mut line = Entry {
            details,
            ..came.entry(
                subject,
                self.hash(came.response.as_bytes()),
                came.latency_ms,
            )
        }
        .line(running.process.new_id()?);
        self.check_length(line.as_bytes().len())?;
        running.process.log.append(&mut line)?;
        Ok(line)
    }

    /// What the log shows for a content.
    pub fn hash(&self, content: &[u8]) -> ContentHash {
        self.hashing.of(content)
    }

    /// The host's own object for an entry, compact.
    pub fn metadata(&self, text: &str) -> Result<String, Error> {
        metadata(text, self.metadata_numbers)
    }

    /// Begins a call that the host makes itself, as [`Running::begin`] does.
    pub fn begin(
        self: &Arc<Self>,
        subject: &Subject<'_>,
        known: Details<'_>,
    ) -> Result<Pending, Error> {
        let mut running = self.enter()?;
        running.process.held.fetch_add(1, Ordering::SeqCst);
        running.is_held = true;
        running.begin(subject, known)
    }

    fn check_length(&self, bytes: usize) -> Result<(), Error> {
        if bytes <= self.max_entry_bytes {
            return Ok(());
        }
        Err(Error::argument(format!(
            "the entry could take {bytes} bytes, more than max_entry_bytes ({}): shorten \
             user_id, model, event_type, error_type or metadata, or raise the limit",
            self.max_entry_bytes
        )))
    }

    fn with_origin<'a>(&'a self, process: &Process, details: Details<'a>) -> Details<'a> {
        Details {
            host: &self.host,
            pid: process.pid,
            hash_key_id: self.hashing.key_id(),
            ..details
        }
    }

    /// Writes what waits and has the disk confirm the log, in that time if there's a limit; if it's to be
    /// `witnessed`, the quorum of witnesses as well.
    pub fn flush(&self, timeout: Option<Duration>, witnessed: bool) -> Result<(), Error> {
        let began = Instant::now();
        let log = &self.process()?.log;
        let witnessing = witnessed.then(|| log.witnessing());
        if let Some(None) = witnessing {
            return Err(Error::argument(
                "\"witnessed\": the log has no witnesses; set \"witness_policy\" in \"integrity\" of \
                 the configuration",
            ));
        }
        log.flush_within(timeout)?;
        let Some(witnessing) = witnessing.flatten() else {
            return Ok(());
        };
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        witnessing.wait(log, left)
    }

    /// Takes no new calls, waits for the running ones until the time is up, ends those that are
    /// left, and flushes. Without a limit it waits for all of them, and for the disk. `end` is called
    /// now and then: it ends those that wait for their host, which may have left them; all of them if
    /// it's given true, else those whose time is over.
    pub fn close(&self, timeout: Option<Duration>, end: &dyn Fn(bool)) -> Result<(), Error> {
        let began = Instant::now();
        let process = self.process()?;
        self.closed.store(true, Ordering::SeqCst);
        let cut = process.wait_until_idle(timeout, || end(false));
        if cut > 0 {
            process.closing.store(true, Ordering::SeqCst);
            process.stop();
            process.wait_until_idle(Some(CLOSE_GRACE), || end(true));
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()) + CLOSE_GRACE);
        process.log.flush_within(left)?;
        match (cut, process.running.load(Ordering::SeqCst)) {
            (0, _) => Ok(()),
            (cut, 0) => Err(Error::new(
                Status::Timeout,
                format!(
                    "calls cancelled because the time was up: {cut}; their entries are written"
                ),
            )),
            (_, left) => Err(Error::new(
                Status::Timeout,
                format!(
                    "{left} calls don't end (a disk that doesn't answer, or a callback that doesn't return?); \
                         each writes its entry when it does"
                ),
            )),
        }
    }

    /// Whether the calls that run are to end at once.
    pub fn is_stopped(&self) -> bool {
        let process = self.process.get();
        process.is_some_and(|process| process.stopping.load(Ordering::SeqCst))
    }

    /// Notes, for its health, that a thread for calls that wait couldn't be made.
    pub fn note_thread_refused(&self) {
        if let Some(process) = self.process.get() {
            process.threads_refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The log's health in this process, as JSON.
    pub fn stats(&self) -> Result<Vec<u8>, Error> {
        let process = self.process()?;
        let mut json = Vec::new();
        let mut to = Object::begin(&mut json);
        to.text("path", &process.log.path().to_string_lossy());
        process.log.health(&mut to);
        to.json("running", process.running.load(Ordering::SeqCst));
        to.json(
            "threads_refused",
            process.threads_refused.load(Ordering::Relaxed),
        );
        to.texts("warnings", &process.log.warnings());
        to.end();
        Ok(json)
    }
}

/// Refuses a policy that is for other logs.
fn check_policy(config: &Config, log: &Log) -> Result<(), Error> {
    let integrity = config.integrity.as_ref();
    let witnesses = integrity.and_then(|integrity| integrity.witnesses.as_ref());
    let (Some(witnesses), Some(key)) = (witnesses, log.verifier()) else {
        return Ok(());
    };
    let logs = witnesses.policy.logs();
    if logs.is_empty() || logs.contains(key) {
        return Ok(());
    }
    Err(Error::config(format!(
        "\"integrity\": \"witness_policy\" is for other logs; its line for this one is \"log {key}\""
    )))
}

/// Does something with the logs of this process.
fn living<T>(work: impl FnOnce(&mut Vec<Weak<Process>>) -> T) -> Option<T> {
    let all = LIVING
        .get_or_try_init(|| Ok::<_, ()>(Mutex::default()))
        .ok()?;
    Some(work(
        &mut all.lock().unwrap_or_else(PoisonError::into_inner),
    ))
}

fn all_living() -> Vec<Arc<Process>> {
    living(|all| all.iter().filter_map(Weak::upgrade).collect()).unwrap_or_default()
}

/// Whether calls run in this process, beside those that the host makes itself.
pub fn are_busy() -> bool {
    all_living().iter().any(|process| {
        let held = process.held.load(Ordering::SeqCst);
        process.running.load(Ordering::SeqCst) > held
    })
}

/// Tells all calls that run in this process to end at once.
pub fn stop_all() {
    all_living().iter().for_each(|process| process.stop());
}

/// Lets calls run again, but those of loggers that are closed.
pub fn resume_all() {
    for process in all_living() {
        process.stopping.store(false, Ordering::SeqCst);
        process.stop.clear();
        // It may have been closed just now.
        if process.closing.load(Ordering::SeqCst) {
            process.stop();
        }
    }
}

/// The entry that stands for calls that went on when the log couldn't take theirs.
fn gap_entry(
    host: &str,
    details: bool,
    hashing: &Hashing,
    calls: u64,
    first: &Timestamp,
    last: &Timestamp,
) -> Line {
    let metadata = format!(r#"{{"calls":{calls},"first":"{first}","last":"{last}"}}"#);
    let details = details.then(|| Details {
        host,
        pid: std::process::id(),
        hash_key_id: hashing.key_id(),
        ..Details::default()
    });
    Entry {
        event_type: "audit_gap",
        user_id: "",
        model: "",
        prompt_hash: hashing.of(b""),
        response_hash: hashing.of(b""),
        prompt_tokens: None,
        completion_tokens: None,
        latency_ms: None,
        error_type: Some("AuditGap"),
        metadata: Some(&metadata),
        details,
    }
    .line(Uuid::new_v4())
}

/// The host's own object for an entry: checked, and compact.
pub fn metadata(text: &str, numbers: Numbers) -> Result<String, Error> {
    json::compact_object(text, numbers)
        .map_err(|error| Error::argument(format!("metadata: {error}")))
}

impl Drop for Logger {
    fn drop(&mut self) {
        if let Some(process) = self.process.get() {
            process.log.close();
        }
    }
}

impl Process {
    fn new_id(&self) -> Result<Uuid, Error> {
        let bytes = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let bytes =
            bytes.map_err(|error| Error::log(format!("no random id for the entry: {error}")))?;
        Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.set();
    }

    /// How many calls were still running when the time was up. Does something now and then.
    fn wait_until_idle(&self, timeout: Option<Duration>, between: impl Fn()) -> usize {
        const OFTEN: Duration = Duration::from_millis(50);
        let (lock, idle) = &self.idle;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // Without the lock: it may end calls.
            between();
            let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
            let running = self.running.load(Ordering::SeqCst);
            let left = deadline.map_or(OFTEN, |at| at.saturating_duration_since(Instant::now()));
            if running == 0 || left.is_zero() {
                return running;
            }
            let waited = idle.wait_timeout(guard, left.min(OFTEN));
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Counts a call as running while it lives.
pub struct Running {
    logger: Arc<Logger>,
    process: Arc<Process>,
    /// The process that made the call.
    entered_in: u32,
    /// Whether the host makes it itself.
    is_held: bool,
}

impl Running {
    /// Begins a call: from now on it has an entry, also if the process is killed. After an error it
    /// must not be made: its entry couldn't be written. `known` is what its details hold already.
    pub fn begin(self, subject: &Subject<'_>, known: Details<'_>) -> Result<Pending, Error> {
        let (logger, process) = (&self.logger, &self.process);
        let started_at = Timestamp::of(SystemTime::now());
        let id = process.new_id()?;
        let unknown = Ending {
            response_hash: logger.hash(b""),
            prompt_tokens: None,
            completion_tokens: None,
            error_type: Some(OUTCOME_UNKNOWN),
            first_token: None,
            details: Details::default(),
        };
        let details = logger.details.then(|| Details {
            started_at: Some(started_at),
            outcome: Some(Outcome::Unknown),
            ..logger.with_origin(process, known)
        });
        let unknown = Entry {
            details,
            ..subject.entry(&unknown, None)
        }
        .line(id);
        let details = if logger.details { MAX_DETAILS } else { 0 };
        let longest = unknown.as_bytes().len() + MAX_GROWTH + details;
        logger.check_length(longest)?;
        let intent = process.log.begin(&unknown, longest)?;
        Ok(Pending {
            running: self,
            id,
            event_type: subject.event_type.unwrap_or(CHAT_COMPLETION).to_owned(),
            user_id: subject.user_id.to_owned(),
            model: subject.model.to_owned(),
            prompt_hash: subject.prompt_hash,
            metadata: subject.metadata.map(str::to_owned),
            started_at,
            started: Instant::now(),
            open: Some((unknown, intent, longest)),
        })
    }

    fn is_the_parents(&self) -> bool {
        self.entered_in != sys::process_number()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In a child of fork all of it is the parent's; its locks may be held for ever.
        if self.is_the_parents() {
            return;
        }
        if self.is_held {
            self.process.held.fetch_sub(1, Ordering::SeqCst);
        }
        let last = self.process.running.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.logger.closed.load(Ordering::SeqCst) {
            // With the lock, so that it can't fall between `close`'s look and its wait.
            let _guard = self
                .process
                .idle
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.process.idle.1.notify_all();
        }
    }
}

impl<'a> Subject<'a> {
    fn entry(&self, ending: &Ending<'a>, latency_ms: Option<f64>) -> Entry<'a> {
        Entry {
            event_type: self.event_type.unwrap_or(CHAT_COMPLETION),
            user_id: self.user_id,
            model: self.model,
            prompt_hash: self.prompt_hash,
            response_hash: ending.response_hash,
            prompt_tokens: ending.prompt_tokens,
            completion_tokens: ending.completion_tokens,
            latency_ms,
            error_type: ending.error_type,
            metadata: self.metadata,
            details: Some(ending.details.clone()),
        }
    }
}

impl<'a> Came<'a> {
    fn check(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::argument(what));
        match (self.status, self.error_type) {
            ("success", None) | ("error", Some(_)) => {}
            ("success", Some(_)) => {
                return wrong("leave error_type absent when status is \"success\"");
            }
            ("error", None) => {
                return wrong("set error_type to the error's class when status is \"error\"");
            }
            _ => return wrong("status must be \"success\" or \"error\""),
        }
        if self
            .tokens
            .is_some_and(|(prompt, completion)| prompt.min(completion) < 0)
        {
            return wrong("prompt_tokens and completion_tokens must be 0 or more");
        }
        if !(self.latency_ms >= 0.0 && self.latency_ms.is_finite()) {
            return wrong("latency_ms must be a finite number, 0 or more");
        }
        Ok(())
    }

    /// The entry, without details.
    fn entry(
        &self,
        subject: &Subject<'a>,
        response_hash: ContentHash,
        latency_ms: f64,
    ) -> Entry<'a> {
        let ending = Ending {
            response_hash,
            prompt_tokens: self.tokens.map(|(prompt, _)| prompt),
            completion_tokens: self.tokens.map(|(_, completion)| completion),
            error_type: self.error_type,
            first_token: None,
            details: Details::default(),
        };
        // Adding zero turns -0.0 into 0.0.
        subject.entry(&ending, Some(latency_ms + 0.0))
    }
}

/// With three digits: microseconds.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

impl Pending {
    /// The id of its entry.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// When the call began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Happens when the call is to end at once.
    pub fn stop(&self) -> &Event {
        &self.running.process.stop
    }

    /// Whether this is the child of a fork that interrupted the call, which is the parent's.
    pub fn is_the_parents(&self) -> bool {
        self.running.is_the_parents()
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            event_type: Some(&self.event_type),
            user_id: &self.user_id,
            model: &self.model,
            prompt_hash: self.prompt_hash,
            metadata: self.metadata.as_deref(),
        }
    }

    fn since_start(&self, moment: Instant) -> f64 {
        milliseconds(moment.duration_since(self.started))
    }

    /// The details of its entry.
    fn details<'a>(&'a self, known: Details<'a>) -> Option<Details<'a>> {
        let logger = &self.running.logger;
        logger.details.then(|| Details {
            started_at: Some(self.started_at),
            ..logger.with_origin(&self.running.process, known)
        })
    }

    /// Writes the entry.
    pub fn finish(self, ending: &Ending<'_>) -> Finished {
        let latency = self.since_start(Instant::now());
        let details = self.details(Details {
            time_to_first_token_ms: ending.first_token.map(|moment| self.since_start(moment)),
            ..ending.details.clone()
        });
        let line = Entry {
            details,
            ..self.subject().entry(ending, Some(latency))
        }
        .line(self.id);
        self.write(line)
    }

    /// The entry of a call that the host made itself: with other metadata if it brings any, and
    /// with the time since the call began if it brings no latency.
    pub fn line_of(&self, came: &Came<'_>, metadata: Option<&str>) -> Result<Line, Error> {
        came.check()?;
        let logger = &self.running.logger;
        let latency = match came.latency_ms {
            0.0 => self.since_start(Instant::now()),
            given => given,
        };
        let metadata = metadata.map(|text| logger.metadata(text)).transpose()?;
        let subject = Subject {
            metadata: metadata.as_deref().or(self.metadata.as_deref()),
            ..self.subject()
        };
        let line = Entry {
            details: self.details(Details::default()),
            ..came.entry(&subject, logger.hash(came.response.as_bytes()), latency)
        }
        .line(self.id);
        let longest = self.open.as_ref().map_or(0, |(_, _, longest)| *longest);
        if line.as_bytes().len() > longest {
            return Err(Error::argument(format!(
                "the entry would take {} bytes, more than the {longest} that there is room for \
                 since the call began: shorten error_type or metadata",
                line.as_bytes().len()
            )));
        }
        Ok(line)
    }

    /// Writes its entry.
    pub fn write(mut self, line: Line) -> Finished {
        self.write_line(line)
    }

    fn write_line(&mut self, mut line: Line) -> Finished {
        let written = match self.open.take() {
            Some((_, intent, _)) => self.running.process.log.finish(intent, &mut line),
            None => Ok(()),
        };
        Finished { line, written }
    }
}

impl Drop for Pending {
    /// Only a panic between the beginning and the end comes here unfinished, and the child of a
    /// fork.
    fn drop(&mut self) {
        if self.is_the_parents() {
            return;
        }
        if let Some((unknown, intent, _)) = self.open.take() {
            let mut unknown = unknown;
            // Nobody is left to hear of an error; the entry waits then.
            let _ = self.running.process.log.finish(intent, &mut unknown);
        }
    }
}
