//! Loggers: making, flushing, closing and freeing them, and what they tell.

use std::ffi::c_char;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::boundary::{bytes, c_text, held, needs_place, needs_reply, put, reply_to, value};
use super::handle::{Held, Table};
use super::reply::Reply;
use super::talk;
use super::types::*;
use crate::client::Client;
use crate::config::{Config, Flushing};
use crate::error::{Error, Status};
use crate::logger::{self, Logger};
use crate::panics::contain;
use crate::sys::{self, HostThread};
use crate::witness;

include!(concat!(env!("OUT_DIR"), "/symbol_versions/logger.rs"));

/// What a logger's handle stands for.
pub struct Service {
    /// Writes its entries.
    pub logger: Arc<Logger>,
    /// Makes its calls.
    pub client: Arc<Client>,
}

static LOGGERS: Table<Service> = Table::new(0xa1);

/// Ends the calls that run when the process exits, so that their entries say so: whoever comes next
/// would find that nobody knows what became of them. Waits for it, but not for long.
extern "C" fn end_calls() {
    const PATIENCE: Duration = Duration::from_secs(2);
    const OFTEN: Duration = Duration::from_millis(1);
    let _host = HostThread::borrow();
    let _ = contain(|| {
        if !logger::are_busy() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        logger::stop_all();
        // On a thread of its own: the disk may hang, and this one may be in the midst of an append, if
        // the host exits from a signal handler.
        let leave = move || {
            while logger::are_busy() && Instant::now() < until {
                talk::leave_waiting(None, false);
                std::thread::sleep(OFTEN);
            }
        };
        let helper = std::thread::Builder::new().name("audit-exit".into());
        let _ = sys::without_signals(|| helper.spawn(move || contain(leave)));
        while logger::are_busy() && Instant::now() < until {
            std::thread::sleep(OFTEN);
        }
        // Other handlers of the host's may come, and make calls.
        logger::resume_all();
    });
}

/// Has the calls ended at the process's exit; once.
fn watch_exit() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.swap(true, Ordering::Relaxed) && !sys::at_exit(end_calls) {
        WATCHED.store(false, Ordering::Relaxed);
    }
}

/// The logger that the host passed.
pub fn service(handle: *const AuditLogger) -> Result<Held<'static, Service>, Error> {
    held(&LOGGERS, handle, "logger", "audit_logger_new")
}

/// Makes a logger: reads the configuration, opens the directory of the log (which it creates if
/// it is missing) and proves that it can be written to.
///
/// config: a JSON object, NUL-terminated, or NULL for all defaults; docs/configuration.md
/// lists the keys.
/// The environment is read here and nowhere else (the key, unless the configuration has one, and
/// the proxy if "proxy" is "env"; never in a setuid process).
///
/// logger: where the handle goes; not NULL. Free it with audit_logger_free.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_JSON is an object: "path" (the log's absolute
/// path); "recovered" (calls that a process was killed in, which have their entries now); "torn"
/// (torn lines that were written over with spaces, their bytes kept in .state/torn); "warnings"
/// (texts: what an operator should know of the directory's rights and files, and that there is no
/// API key, which only chat calls need).
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT (logger is NULL, config isn't UTF-8); AUDIT_E_CONFIG (the
/// message names the key and what is allowed); AUDIT_E_LOG (the directory can't be made, opened
/// or written to; if only the disk is full, that is a warning with on_log_failure "count");
/// AUDIT_E_INTERNAL. On an error *logger is NULL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_new(
    config: *const c_char,
    logger: *mut *mut AuditLogger,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let make = |_: &HostThread| {
        // SAFETY: as the caller promises.
        unsafe { put(logger, std::ptr::null_mut()) };
        needs_place("logger", logger)?;
        // SAFETY: as the caller promises.
        let config = Config::parse(unsafe { c_text("config", config) }?)?;
        let (opened, report) = Logger::open(&config, witness::of(&config))?;
        watch_exit();
        let service = Service {
            logger: Arc::new(opened),
            client: Arc::new(Client::new(config)),
        };
        let handle = LOGGERS.insert(service).ok_or_else(|| {
            Error::new(Status::Internal, "a million loggers are in use; free some")
        })?;
        // SAFETY: as the caller promises.
        unsafe { put(logger, handle) };
        Ok(Reply::ok().with_text(AUDIT_REPLY_JSON, report))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, make) }
}

/// Writes entries that wait, has the disk confirm every entry of this process that was written
/// before, and seals them, unless the configuration's "integrity" is false.
///
/// logger: from audit_logger_new.
///
/// timeout_ms: how long to wait for the disk; negative for no limit. (Where no thread can be made
/// to wait in the caller's place, a disk that hangs outlasts it.)
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK; AUDIT_E_TIMEOUT (not confirmed or sealed yet); AUDIT_E_HANDLE; AUDIT_E_LOG
/// (not confirmed, or not sealed: the message says which); AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_flush(
    logger: *mut AuditLogger,
    timeout_ms: i64,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let flush = |_: &HostThread| {
        let flushed = service(logger)?.logger.flush(limit(timeout_ms), false);
        flushed.map(|()| Reply::ok())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, flush) }
}

/// Flushes, as audit_logger_flush does, with options.
///
/// logger: from audit_logger_new.
///
/// timeout_ms: how long to wait in all; negative for no limit, and then each witness is asked once.
///
/// options: a JSON object, NUL-terminated, or NULL for none. "witnessed" (true or false): shows the
/// log's checkpoint to its witnesses at once, and waits until those that the policy of the
/// configuration calls a quorum have signed it. With "witness_mode" "best_effort" a quorum that
/// isn't complete in that time is no error; with "required" it is.
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK; AUDIT_E_WITNESS (the entries are on the disk and sealed, and the quorum hasn't
/// signed; the message says what each witness came to); AUDIT_E_ARGUMENT (also "witnessed" for a log
/// that has no witnesses); and what audit_logger_flush returns. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_flush_with(
    logger: *mut AuditLogger,
    timeout_ms: i64,
    options: *const c_char,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let flush = |_: &HostThread| {
        let service = service(logger)?;
        // SAFETY: as the caller promises.
        let options = Flushing::parse(unsafe { c_text("options", options) }?)?;
        let flushed = service.logger.flush(limit(timeout_ms), options.witnessed);
        flushed.map(|()| Reply::ok())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, flush) }
}

/// Closes a logger: takes no new calls, waits for the running ones, cancels those that are left
/// when the time is up (their entries are written), and flushes, as audit_logger_flush does. The
/// handle stays valid until it is freed: audit_chat, audit_logger_log and audit_logger_begin answer
/// it with AUDIT_E_HANDLE, the others go on. Closing twice is fine.
///
/// logger: from audit_logger_new.
///
/// timeout_ms: how long to wait for running calls and the disk; negative for no limit. When it's
/// over, calls that were told to end and a disk that is just confirming have five more seconds
/// each.
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK; AUDIT_E_TIMEOUT (calls were cancelled, or, as the message says, one or the
/// disk doesn't end); AUDIT_E_REENTRANT (from a callback of its own call); AUDIT_E_HANDLE;
/// AUDIT_E_LOG (not confirmed or not sealed); AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_close(
    logger: *mut AuditLogger,
    timeout_ms: i64,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let close = |_: &HostThread| {
        let service = service(logger)?;
        // One that was left, and whose time is over, holds nobody up.
        talk::leave_waiting(Some(&service.logger), true);
        if talk::is_inside(logger) {
            return Err(Error::new(
                Status::Reentrant,
                "a logger can't be closed from a callback of its own call; return from it first",
            ));
        }
        let logger = &service.logger;
        let end = |all: bool| talk::leave_waiting(Some(logger), !all);
        logger.close(limit(timeout_ms), &end).map(|()| Reply::ok())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, close) }
}

/// A time to wait; `None` without a limit.
pub fn limit(timeout_ms: i64) -> Option<Duration> {
    u64::try_from(timeout_ms).ok().map(Duration::from_millis)
}

/// Frees a logger. The handle is invalid at once, for every thread; calls that are running finish,
/// and the last one of them releases what the logger holds. NULL and a handle that was freed before
/// do nothing. Use audit_logger_close first to wait for running calls and to have the disk confirm
/// the log. Entries that still wait because the log can't take them are tried once more; then they
/// stay in the journal, for whoever opens the log next. The last one out seals what can be sealed
/// within a second or two, and leaves the rest to others.
///
/// logger: from audit_logger_new, or NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_logger_free(logger: *mut AuditLogger) {
    talk::notice();
    // The last one out writes what waits, and closes files.
    let _host = HostThread::borrow();
    value((), || {
        LOGGERS.remove(logger);
    });
}

/// The same as audit_logger_free, by its other name. Both stay.
///
/// logger: from audit_logger_new, or NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_log_free(logger: *mut AuditLogger) {
    audit_logger_free(logger);
}

/// Reports the health of a logger in this process.
///
/// logger: from audit_logger_new.
///
/// reply: where the reply goes; not NULL. AUDIT_REPLY_JSON is an object: "path"; "written", "bytes"
/// (entries, and bytes of them); "failed" (times that the log couldn't take one); "gaps" (calls
/// that went on without one); "recovered" (entries of calls that a process was killed in); "torn"
/// (torn lines mended); "unconfirmed" (times that the disk refused to confirm); "altered" (lines
/// that somebody changed before they were sealed); "pending" (entries that wait); "in_memory_only"
/// (those of them that a kill would lose); "last_error" (null, or {"time", "message"}); "integrity"
/// (where the logger seals: "origin", and once it has, "size" of the tree and "sealed_at");
/// "witnesses" (where it has some: "size" and "witnessed_at" of what the quorum signed last; "each":
/// "name", "size" and "cosigned_at" of what it signed last, "failures" since, the last "error" or
/// null, and "disputes": whether it has seen more of the log than there is, or another tree);
/// "running" (calls, those that wait in a queue among them); "threads_refused" (times that a queue's
/// call found no thread, and waits for another's); "warnings" (texts). Alarm on pending, gaps,
/// unconfirmed and altered, on failed when it grows, and on a sealed_at that stays behind while
/// entries are written. Numbers are of this process since its first use; .state/health.json has the
/// counters, "pending" and "last_error" for the directory.
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT; AUDIT_E_HANDLE; AUDIT_E_LOG (out of descriptors);
/// AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_stats(
    logger: *mut AuditLogger,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let report = |_: &HostThread| {
        let service = service(logger)?;
        needs_reply(reply)?;
        let json = service.logger.stats()?;
        Ok(Reply::ok().with_text(AUDIT_REPLY_JSON, json))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, report) }
}

/// Says what the log shows for a text, to find the entries of a known prompt or answer: its
/// SHA-256, or, if the configuration sets hash_key_file, its HMAC-SHA256 with that key.
///
/// logger: from audit_logger_new.
///
/// text, len: UTF-8 or any other bytes. NULL with 0 is the empty text.
///
/// reply: where the reply goes; not NULL. AUDIT_REPLY_CONTENT: 64 hexadecimal digits.
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT; AUDIT_E_HANDLE; AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described, and text as long as it says.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_hash(
    logger: *mut AuditLogger,
    text: *const c_char,
    len: usize,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let hash = |_: &HostThread| {
        let service = service(logger)?;
        needs_reply(reply)?;
        // SAFETY: as the caller promises.
        let content = unsafe { bytes("text", text, len) }?.unwrap_or_default();
        Ok(Reply::ok().with_text(
            AUDIT_REPLY_CONTENT,
            service.logger.hash(content).to_string(),
        ))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, hash) }
}
