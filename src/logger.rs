//! The life of one call: it begins, somebody makes it, it finishes with exactly one entry.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::entry::{Details, Entry, Line, MAX_DETAILS, Outcome};
use crate::error::{Error, Status};
use crate::hash::Digest;
use crate::json::{self, Object};
use crate::store::{Directory, Store};
use crate::sys::{self, Event, PerProcess, RandomBytes};

/// Writes the entries of one log.
pub struct Logger {
    directory: Arc<Directory>,
    host: String,
    details: bool,
    max_entry_bytes: usize,
    closed: AtomicBool,
    process: PerProcess<Process>,
}

/// What a forked child must not share with its parent.
struct Process {
    store: Store,
    running: AtomicUsize,
    /// Notified when the last running call of a closed logger ends.
    idle: (Mutex<()>, Condvar),
    /// Happens when running calls are to end at once.
    stop: Event,
    random: Mutex<RandomBytes>,
    /// Asked for once: each time costs as much as a fifth of an entry's write.
    pid: u32,
}

/// What is known of a call before it is made.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// On whose behalf.
    pub user_id: &'a str,
    /// As requested.
    pub model: &'a str,
    /// Of the prompt.
    pub prompt_hash: Digest,
    /// The host's own object, compact JSON.
    pub metadata: Option<&'a str>,
}

/// What is known of a call after it was made.
#[derive(Debug, Clone)]
pub struct Ending<'a> {
    /// Of the answer's text.
    pub response_hash: Digest,
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

/// A call that the host made itself.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// `None` is `chat_completion`.
    pub event_type: Option<&'a str>,
    /// On whose behalf.
    pub user_id: &'a str,
    /// As requested.
    pub model: &'a str,
    /// Hashed, not kept.
    pub prompt: &'a str,
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
    /// The host's own object, JSON.
    pub metadata: Option<&'a str>,
}

/// A call that has begun. However it ends, it leaves one entry.
pub struct Pending<'a> {
    logger: &'a Logger,
    running: Running<'a>,
    id: Uuid,
    subject: Subject<'a>,
    started_at: Timestamp,
    started: Instant,
    /// The process that began the call.
    begun_in: u32,
    finished: bool,
}

/// The entry of a finished call.
pub struct Finished {
    /// As it stands, or will stand, in the log.
    pub line: Line,
    /// An error when the log couldn't take it: then it waits.
    pub written: Result<(), Error>,
}

const CHAT_COMPLETION: &str = "chat_completion";

/// The longest error class that an entry of a call may get.
const MAX_ERROR_TYPE: &str = "................................";

/// How long `close` waits for calls that it told to end.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

impl Logger {
    /// Opens the log that the configuration names.
    pub fn open(config: &Config) -> Result<Logger, Error> {
        sys::watch_forks().map_err(|error| {
            Error::new(
                Status::Internal,
                format!("the fork handler can't be installed: {error}"),
            )
        })?;
        Ok(Logger {
            directory: Arc::new(Directory::open(&config.output_path)?),
            host: sys::host_name(),
            details: config.details,
            max_entry_bytes: config.max_entry_bytes,
            closed: AtomicBool::new(false),
            process: PerProcess::default(),
        })
    }

    fn process(&self) -> Result<&Process, Error> {
        self.process.get_or_try_init(|| {
            let need = |error| Error::log(format!("the process is out of resources: {error}"));
            let stop = Event::new().map_err(need)?;
            Ok(Process {
                store: Store::new(Arc::clone(&self.directory), SystemTime::now),
                running: AtomicUsize::new(0),
                idle: (Mutex::new(()), Condvar::new()),
                stop,
                random: Mutex::new(RandomBytes::new()),
                pid: std::process::id(),
            })
        })
    }

    fn enter(&self) -> Result<Running<'_>, Error> {
        let running = Running {
            logger: self,
            process: self.process()?,
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

    /// Logs a call that the host made itself. Returns its line.
    pub fn log(&self, record: &Record<'_>) -> Result<Line, Error> {
        let wrong = |what: &str| Err(Error::argument(what));
        match (record.status, record.error_type) {
            ("success", None) | ("error", Some(_)) => {}
            ("success", Some(_)) => {
                return wrong("leave error_type absent when status is \"success\"");
            }
            ("error", None) => {
                return wrong("set error_type to the error's class when status is \"error\"");
            }
            _ => return wrong("status must be \"success\" or \"error\""),
        }
        if record
            .tokens
            .is_some_and(|(prompt, completion)| prompt.min(completion) < 0)
        {
            return wrong("prompt_tokens and completion_tokens must be 0 or more");
        }
        if !(record.latency_ms >= 0.0 && record.latency_ms.is_finite()) {
            return wrong("latency_ms must be a finite number, 0 or more");
        }
        let metadata = record.metadata.map(metadata).transpose()?;
        let running = self.enter()?;
        let entry = Entry {
            event_type: record.event_type.unwrap_or(CHAT_COMPLETION),
            user_id: record.user_id,
            model: record.model,
            prompt_hash: self.hash(record.prompt.as_bytes()),
            response_hash: self.hash(record.response.as_bytes()),
            prompt_tokens: record.tokens.map(|(prompt, _)| prompt),
            completion_tokens: record.tokens.map(|(_, completion)| completion),
            // Adding zero turns -0.0 into 0.0.
            latency_ms: record.latency_ms + 0.0,
            error_type: record.error_type,
            metadata: metadata.as_deref(),
            details: self
                .details
                .then(|| self.with_origin(running.process, Details::default())),
        };
        let mut line = entry.line(running.process.new_id()?);
        self.check_length(line.as_bytes().len())?;
        running.process.store.append(&mut line)?;
        Ok(line)
    }

    /// What the log shows for a content.
    pub fn hash(&self, content: &[u8]) -> Digest {
        Digest::of(content)
    }

    /// Begins a call. After an error it must not be made: its entry couldn't be written.
    pub fn begin<'a>(&'a self, subject: Subject<'a>) -> Result<Pending<'a>, Error> {
        let running = self.enter()?;
        let widest = Ending {
            response_hash: Digest::of(b""),
            prompt_tokens: Some(i64::MIN),
            completion_tokens: Some(i64::MIN),
            error_type: Some(MAX_ERROR_TYPE),
            first_token: None,
            details: Details::default(),
        };
        let entry = Entry {
            details: None,
            ..subject.entry(&widest, f64::MIN_POSITIVE)
        };
        let details = if self.details { MAX_DETAILS } else { 0 };
        self.check_length(entry.line(Uuid::nil()).as_bytes().len() + details)?;
        running.process.store.ready()?;
        Ok(Pending {
            logger: self,
            id: running.process.new_id()?,
            running,
            subject,
            started_at: Timestamp::of(SystemTime::now()),
            started: Instant::now(),
            begun_in: sys::process_number(),
            finished: false,
        })
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
            ..details
        }
    }

    /// Writes what waits and has the disk confirm the log.
    pub fn flush(&self) -> Result<(), Error> {
        self.process()?.store.flush()
    }

    /// Takes no new calls, waits for the running ones until the time is up, ends those that are
    /// left, and flushes. Without a limit it waits for all of them.
    pub fn close(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let process = self.process()?;
        self.closed.store(true, Ordering::SeqCst);
        let cut = process.wait_until_idle(timeout);
        if cut > 0 {
            process.stop.set();
            process.wait_until_idle(Some(CANCEL_GRACE));
        }
        process.store.flush()?;
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

    /// The log's directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The log's health in this process, as JSON.
    pub fn stats(&self) -> Result<Vec<u8>, Error> {
        let process = self.process()?;
        let health = process.store.health();
        let mut json = Vec::new();
        let mut to = Object::begin(&mut json);
        to.text("path", &self.path().to_string_lossy());
        to.json("written", health.written);
        to.json("bytes", health.bytes);
        to.json("failed", health.failed);
        to.json("waiting", health.waiting);
        to.json("running", process.running.load(Ordering::SeqCst));
        match &health.last_error {
            None => to.json("last_error", "null"),
            Some((time, message)) => {
                let mut error = to.nested("last_error");
                error.text("time", &time.to_string());
                error.text("message", message);
                error.end();
            }
        }
        to.end();
        Ok(json)
    }
}

/// The host's own object for an entry: checked, and compact.
pub fn metadata(text: &str) -> Result<String, Error> {
    json::compact_object(text).map_err(|error| Error::argument(format!("metadata: {error}")))
}

impl Drop for Logger {
    fn drop(&mut self) {
        if let Some(process) = self.process.get() {
            // Nobody is left to report an error to.
            let _ = process.store.ready();
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

    /// How many calls were still running when the time was up.
    fn wait_until_idle(&self, timeout: Option<Duration>) -> usize {
        let (lock, idle) = &self.idle;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let running = self.running.load(Ordering::SeqCst);
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if running == 0 || left == Some(Duration::ZERO) {
                return running;
            }
            guard = match left {
                None => idle.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    idle.wait_timeout(guard, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

/// Counts a call as running while it lives.
struct Running<'a> {
    logger: &'a Logger,
    process: &'a Process,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
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
    fn entry(&self, ending: &Ending<'a>, latency_ms: f64) -> Entry<'a> {
        Entry {
            event_type: CHAT_COMPLETION,
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

/// With three digits: microseconds.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

impl<'a> Pending<'a> {
    /// When the call began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Happens when the call is to end at once.
    pub fn stop(&self) -> &'a Event {
        &self.running.process.stop
    }

    /// Whether this is the child of a fork that interrupted the call, which is the parent's.
    pub fn is_the_parents(&self) -> bool {
        self.begun_in != sys::process_number()
    }

    /// Writes the entry.
    pub fn finish(mut self, ending: &Ending<'_>) -> Finished {
        self.write(ending)
    }

    fn write(&mut self, ending: &Ending<'_>) -> Finished {
        self.finished = true;
        let since_start = |moment: Instant| milliseconds(moment.duration_since(self.started));
        let mut entry = self.subject.entry(ending, since_start(Instant::now()));
        entry.details = entry
            .details
            .filter(|_| self.logger.details)
            .map(|details| Details {
                started_at: Some(self.started_at),
                time_to_first_token_ms: ending.first_token.map(since_start),
                ..self.logger.with_origin(self.running.process, details)
            });
        let mut line = entry.line(self.id);
        let written = self.running.process.store.append_or_keep(&mut line);
        Finished { line, written }
    }
}

impl Drop for Pending<'_> {
    /// Only a panic between the beginning and the end comes here unfinished.
    fn drop(&mut self) {
        if !self.finished && !self.is_the_parents() {
            self.write(&Ending {
                response_hash: Digest::of(b""),
                prompt_tokens: None,
                completion_tokens: None,
                error_type: Some("OutcomeUnknown"),
                first_token: None,
                details: Details {
                    outcome: Some(Outcome::Unknown),
                    ..Details::default()
                },
            });
        }
    }
}
