//! The C interface, and nothing else: each function checks what the host passed, calls one thing,
//! and hands out what came of it.
#![allow(unsafe_code)]

mod guard;
mod handle;
mod reply;
mod types;

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use types::*;

use crate::client::{ChatRequest, Client, Listener};
use crate::config::{Config, Maintenance};
use crate::error::{Error, Status};
use crate::format::entry::Details;
use crate::json;
use crate::log;
use crate::logger::{self, Came, Logger, Pending, Subject};
use crate::read::{prove, verify};
use crate::sys::{self, Event, HostThread};
use guard::{bytes, c_text, put, reply_to, sized, text, value};
use handle::{Held, Table};
use reply::{REPLIES, Reply};

// `.symver` for every function. The linker knows the version from build.rs's script, but rustc's own
// script claims the names first, without one; `.symver` settles it. It works only within the object
// file of the functions, so it must stand in their module.
include!(concat!(env!("OUT_DIR"), "/symbol_versions.rs"));

/// What a logger's handle stands for.
struct Service {
    logger: Arc<Logger>,
    client: Client,
}

static LOGGERS: Table<Service> = Table::new(0xa1);
static PENDINGS: Table<Mutex<Option<Pending>>> = Table::new(0xa3);
static CANCELS: Table<Event> = Table::new(0xa4);

fn cancel_of_this_process(handle: *const AuditCancel) -> Option<Held<'static, Event>> {
    CANCELS.get(handle).filter(|event| event.is_ours())
}

/// The cancel that the host passed, or `None` where it's NULL.
fn cancel_if_given(handle: *const AuditCancel) -> Result<Option<Held<'static, Event>>, Error> {
    let cancel = cancel_of_this_process(handle);
    if cancel.is_none() && !handle.is_null() {
        return Err(Error::new(
            Status::Handle,
            "cancel was freed, was made before a fork, or isn't one; pass what audit_cancel_new \
             gave in this process",
        ));
    }
    Ok(cancel)
}

fn service(handle: *const AuditLogger) -> Result<Held<'static, Service>, Error> {
    LOGGERS.get(handle).ok_or_else(|| {
        let what = if handle.is_null() {
            "is NULL"
        } else {
            "was freed, or isn't a logger"
        };
        Error::new(
            Status::Handle,
            format!("logger {what}; pass what audit_logger_new gave"),
        )
    })
}

/// Makes a logger: reads the configuration, opens the directory of the log (which it creates if
/// it is missing) and proves that it can be written to.
///
/// config: a JSON object, NUL-terminated, or NULL for all defaults; README lists the keys.
/// The environment is read here and nowhere else (the key, unless the configuration has one, and
/// the proxy if "proxy" is "env"; never in a setuid process).
///
/// logger: where the handle goes; not NULL. Free it with audit_log_free.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_JSON is an object: "path" (the log's absolute
/// path); "recovered" (calls that a process was killed in, which have their entries now); "torn"
/// (torn lines that were written over with spaces, their bytes kept in .state/torn); "warnings"
/// (texts: what an operator should know of the directory's rights and files).
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT (logger is NULL, config isn't UTF-8); AUDIT_E_CONFIG (the
/// message names the key and what is allowed); AUDIT_E_LOG (the directory can't be made, opened
/// or written to); AUDIT_E_INTERNAL. On an error *logger is NULL. Any thread.
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
        if logger.is_null() {
            return Err(Error::argument(
                "logger is NULL; pass the address of a pointer",
            ));
        }
        // SAFETY: as the caller promises.
        let config = Config::parse(unsafe { c_text("config", config) }?)?;
        let (opened, report) = Logger::open(&config)?;
        let service = Service {
            logger: Arc::new(opened),
            client: Client::new(config),
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

/// Makes a chat call, and leaves exactly one entry for it. Blocks until the answer or the error
/// is there and the entry is written, at most about timeout_ms (a disk that hangs, or a callback,
/// can take longer). Failures that may pass are tried again within that time.
///
/// logger: from audit_logger_new.
///
/// request: what to ask; not NULL, and started from AUDIT_CHAT_REQUEST_INIT.
///
/// reply: where the reply goes; not NULL, for the paid answer would be lost. It is set on every
/// return, so free it in every case. AUDIT_REPLY_CONTENT is the answer; ENTRY and ENTRY_ID the
/// entry; JSON the response's body; ERROR_TYPE and ERROR_MESSAGE what went wrong. After an error it
/// holds what came before it.
///
/// Returns AUDIT_OK; AUDIT_E_CALL (the call failed: see ERROR_TYPE); AUDIT_E_CANCELLED (by a
/// callback, request->cancel or audit_logger_close; if that was triggered before the call began,
/// nothing was sent and nothing logged); AUDIT_E_LOG_PENDING (made, but its entry waits); and, with
/// nothing sent and nothing logged, AUDIT_E_ARGUMENT, AUDIT_E_HANDLE, AUDIT_E_LOG. AUDIT_E_FORKED:
/// only in a child that was forked in a callback. AUDIT_E_INTERNAL: see AUDIT_REPLY_OUTCOME. Any
/// thread; it needs 128 KiB of stack.
///
/// # Safety
///
/// Pointers are NULL or valid as described, and texts as long as they say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_chat(
    logger: *mut AuditLogger,
    request: *const AuditChatRequest,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let chat = |host: &HostThread| {
        let service = service(logger)?;
        if reply.is_null() {
            return Err(Error::argument(
                "reply is NULL: the paid answer would be lost; pass the address of an AuditReply pointer",
            ));
        }
        // SAFETY: as the caller promises.
        let request = unsafe { sized("request", request, "AUDIT_CHAT_REQUEST_INIT") }?;
        if request.flags != 0 {
            return Err(Error::argument("request: flags must be 0 in this version"));
        }
        let cancel = cancel_if_given(request.cancel)?;
        let mut callbacks = Callbacks { host, request };
        let listens = request.on_delta.is_some() || request.on_chunk.is_some();
        let listener = listens.then_some(&mut callbacks as &mut dyn Listener);
        let _inside = Inside::enter(logger);
        // SAFETY: as the caller promises, for this text and those below.
        let text = |name, field| unsafe { text(name, field) };
        let request = ChatRequest {
            user_id: required("user_id", text("user_id", request.user_id)?)?,
            prompt: text("prompt", request.prompt)?,
            system: text("system", request.system)?,
            model: text("model", request.model)?,
            metadata: text("metadata", request.metadata)?,
            params: text("params", request.params)?,
            options: text("options", request.options)?,
        };
        service
            .client
            .chat(&service.logger, &request, listener, cancel.as_deref())
            .map(Reply::from)
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, chat) }
}

/// The host's callbacks.
struct Callbacks<'a> {
    host: &'a HostThread,
    request: AuditChatRequest,
}

impl Callbacks<'_> {
    fn call(&self, callback: AuditCallback, text: &[u8]) -> bool {
        let Some(callback) = callback else {
            return true;
        };
        let (data, context) = (text.as_ptr().cast(), self.request.context);
        // SAFETY: the text lives until the callback returns; the host vouches for the callback.
        let call = || unsafe { callback(data, text.len(), context) };
        let process = sys::process_number();
        // The child of a fork in the callback must not touch the call again.
        self.host.lend(call) == AUDIT_CONTINUE && sys::process_number() == process
    }
}

impl Listener for Callbacks<'_> {
    fn delta(&mut self, text: &str) -> bool {
        self.call(self.request.on_delta, text.as_bytes())
    }

    fn chunk(&mut self, json: &[u8]) -> bool {
        self.call(self.request.on_chunk, json)
    }
}

thread_local! {
    /// How deep this thread is inside calls, and of which loggers: 0 is none. Cells without
    /// destructors, for calls may come from exit handlers, when a thread's destructors have run.
    static INSIDE: [Cell<usize>; MAX_NESTED] = const { [const { Cell::new(0) }; MAX_NESTED] };
}

/// Calls from callbacks of calls from callbacks ...; deeper ones aren't told from closing.
const MAX_NESTED: usize = 8;

/// Notes for as long as it lives that this thread is inside a call of a logger.
struct Inside {
    place: Option<usize>,
}

impl Inside {
    fn enter(logger: *const AuditLogger) -> Inside {
        INSIDE.with(|inside| {
            let place = inside.iter().position(|place| place.get() == 0);
            if let Some(place) = place {
                inside[place].set(logger.addr());
            }
            Inside { place }
        })
    }

    fn is_inside(logger: *const AuditLogger) -> bool {
        INSIDE.with(|inside| inside.iter().any(|place| place.get() == logger.addr()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            INSIDE.with(|inside| inside[place].set(0));
        }
    }
}

fn required<'a>(name: &str, text: Option<&'a str>) -> Result<&'a str, Error> {
    text.ok_or_else(|| Error::argument(format!("{name} is absent; it is required")))
}

/// Logs a call that the host made itself: one entry, appended before this returns.
///
/// logger: from audit_logger_new.
///
/// record: what to log; not NULL, and started from AUDIT_RECORD_INIT. The prompt and the response
/// are hashed and not kept.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT, AUDIT_E_HANDLE, AUDIT_E_LOG (nothing was logged; trying
/// again is safe); AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described, and texts as long as they say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_log(
    logger: *mut AuditLogger,
    record: *const AuditRecord,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let log = |_: &HostThread| {
        let service = service(logger)?;
        // SAFETY: as the caller promises.
        let record = unsafe { a_record(record) }?;
        // SAFETY: as the caller promises.
        let (begun, metadata) = unsafe { begun(&service.logger, &record) }?;
        // SAFETY: as the caller promises.
        let came = unsafe { came(&record) }?;
        let subject = Subject {
            metadata: metadata.as_deref(),
            ..begun
        };
        let line = service.logger.log(&subject, &came)?;
        let logged = Reply::ok();
        if reply.is_null() {
            return Ok(logged);
        }
        Ok(logged.with_entry(line))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, log) }
}

/// # Safety
///
/// As for [`sized`].
unsafe fn a_record(record: *const AuditRecord) -> Result<AuditRecord, Error> {
    // SAFETY: as the caller promises.
    let record = unsafe { sized("record", record, "AUDIT_RECORD_INIT") }?;
    if record.flags & !AUDIT_RECORD_HAS_USAGE != 0 {
        return Err(Error::argument(
            "record: flags has bits that this version doesn't know; use 0 or AUDIT_RECORD_HAS_USAGE",
        ));
    }
    Ok(record)
}

/// What a record says of a call before it's made: but for the metadata, which come apart, checked.
///
/// # Safety
///
/// As for [`text`], of the record's texts.
unsafe fn begun<'a>(
    logger: &Logger,
    record: &'a AuditRecord,
) -> Result<(Subject<'a>, Option<String>), Error> {
    // SAFETY: as the caller promises, for this text and those below.
    let text = |name, field| unsafe { text(name, field) };
    let prompt = required("prompt", text("prompt", record.prompt)?)?;
    let subject = Subject {
        event_type: text("event_type", record.event_type)?,
        user_id: required("user_id", text("user_id", record.user_id)?)?,
        model: required("model", text("model", record.model)?)?,
        prompt_hash: logger.hash(prompt.as_bytes()),
        metadata: None,
    };
    let metadata = text("metadata", record.metadata)?;
    Ok((subject, metadata.map(logger::metadata).transpose()?))
}

/// What a record says of a call after it was made.
///
/// # Safety
///
/// As for [`text`], of the record's texts.
unsafe fn came<'a>(record: &'a AuditRecord) -> Result<Came<'a>, Error> {
    // SAFETY: as the caller promises, for this text and those below.
    let text = |name, field| unsafe { text(name, field) };
    Ok(Came {
        response: text("response", record.response)?.unwrap_or_default(),
        tokens: (record.flags & AUDIT_RECORD_HAS_USAGE != 0)
            .then_some((record.prompt_tokens, record.completion_tokens)),
        latency_ms: record.latency_ms,
        status: required("status", text("status", record.status)?)?,
        error_type: text("error_type", record.error_type)?,
    })
}

/// Begins a call that the host makes itself, with a client of its own: writes down that it's about
/// to be made. From then on it has exactly one entry: the one that audit_logger_finish writes, or,
/// if the process ends before, one with the error_type "OutcomeUnknown". Make the call only if this
/// returns AUDIT_OK.
///
/// logger: from audit_logger_new.
///
/// record: what is asked: event_type, user_id, model, prompt and metadata are read, as
/// audit_logger_log reads them; the others aren't. Not NULL, and started from AUDIT_RECORD_INIT. The
/// prompt is hashed and not kept.
///
/// pending: where the handle goes; not NULL. audit_logger_finish takes it back. As long as it isn't
/// finished, audit_logger_close waits for it.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY_ID: the id that the entry will have.
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT, AUDIT_E_HANDLE, AUDIT_E_LOG (the call must not be made;
/// trying again is safe); AUDIT_E_INTERNAL. On an error *pending is NULL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described, and texts as long as they say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_begin(
    logger: *mut AuditLogger,
    record: *const AuditRecord,
    pending: *mut *mut AuditPending,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let begin = |_: &HostThread| {
        // SAFETY: as the caller promises.
        unsafe { put(pending, std::ptr::null_mut()) };
        let service = service(logger)?;
        if pending.is_null() {
            return Err(Error::argument(
                "pending is NULL; pass the address of a pointer",
            ));
        }
        // SAFETY: as the caller promises.
        let record = unsafe { a_record(record) }?;
        // SAFETY: as the caller promises.
        let (begun, metadata) = unsafe { begun(&service.logger, &record) }?;
        let subject = Subject {
            metadata: metadata.as_deref(),
            ..begun
        };
        let call = service.logger.begin(&subject, Details::default())?;
        let id = call.id().to_string();
        let handle = PENDINGS.insert(Mutex::new(Some(call))).ok_or_else(|| {
            Error::new(Status::Internal, "a million calls are begun; finish some")
        })?;
        // SAFETY: as the caller promises.
        unsafe { put(pending, handle) };
        Ok(Reply::ok().with_text(AUDIT_REPLY_ENTRY_ID, id))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, begin) }
}

/// Finishes a call that audit_logger_begin began: writes its entry. Consumes pending, whatever it
/// returns but AUDIT_E_ARGUMENT: then nothing is written, and it can be called again.
///
/// pending: from audit_logger_begin. Its logger may be freed or closed meanwhile.
///
/// record: what came of it: response, prompt_tokens and completion_tokens, latency_ms (0: the time
/// since the call was begun), status and error_type are read, as audit_logger_log reads them; and
/// metadata, which replace those of the beginning if they are present. Not NULL, and started from
/// AUDIT_RECORD_INIT. The response is hashed and not kept.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
///
/// Returns AUDIT_OK; AUDIT_E_LOG_PENDING (the entry waits in the journal); AUDIT_E_ARGUMENT;
/// AUDIT_E_HANDLE (also when it was finished before); AUDIT_E_FORKED (in a child that was forked
/// after the beginning: the call is the parent's); AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described, and texts as long as they say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_finish(
    pending: *mut AuditPending,
    record: *const AuditRecord,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let finish = |_: &HostThread| {
        let gone = || {
            Error::new(
                Status::Handle,
                "pending was finished before, or isn't one; pass what audit_logger_begin gave",
            )
        };
        let held = PENDINGS.get(pending).ok_or_else(gone)?;
        // Of another process's the lock may be held for ever.
        if held.is_poisoned() {
            return Err(gone());
        }
        let mut call = held.try_lock().map_err(|_| gone())?;
        let begun = call.as_ref().ok_or_else(gone)?;
        if begun.is_the_parents() {
            PENDINGS.remove(pending);
            return Err(Error::new(
                Status::Forked,
                "the process was forked since the call was begun, and this is the child: the parent \
                 finishes it",
            ));
        }
        // SAFETY: as the caller promises.
        let record = unsafe { a_record(record) }?;
        // SAFETY: as the caller promises.
        let metadata = unsafe { text("metadata", record.metadata) }?;
        let metadata = metadata.map(logger::metadata).transpose()?;
        // SAFETY: as the caller promises.
        let line = begun.line_of(&unsafe { came(&record) }?, metadata.as_deref())?;
        let call = call.take().ok_or_else(gone)?;
        PENDINGS.remove(pending);
        let finished = call.write(line);
        Ok(Reply::of_finished(finished))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, finish) }
}

/// A time to wait; `None` without a limit.
fn limit(timeout_ms: i64) -> Option<Duration> {
    u64::try_from(timeout_ms).ok().map(Duration::from_millis)
}

/// Writes entries that wait, has the disk confirm every entry of this process that was written before,
/// and seals them, unless the configuration's "integrity" is false.
///
/// logger: from audit_logger_new.
///
/// timeout_ms: how long to wait for the disk; negative for no limit. (Where no thread can be made to wait
/// in the caller's place, a disk that hangs outlasts it.)
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK; AUDIT_E_TIMEOUT (not confirmed or sealed yet); AUDIT_E_HANDLE; AUDIT_E_LOG (not
/// confirmed, or not sealed: the message says which); AUDIT_E_INTERNAL. Any thread.
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
        let flushed = service(logger)?.logger.flush(limit(timeout_ms));
        flushed.map(|()| Reply::ok())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, flush) }
}

/// Closes a logger: takes no new calls, waits for the running ones, cancels those that are left
/// when the time is up (their entries are written), and flushes, as audit_logger_flush does. The handle
/// stays valid until it is freed: audit_chat, audit_logger_log and audit_logger_begin answer it with
/// AUDIT_E_HANDLE, the others go on. Closing twice is fine.
///
/// logger: from audit_logger_new.
///
/// timeout_ms: how long to wait for running calls and the disk; negative for no limit. When it's over,
/// calls that were told to end and a disk that is just confirming have five more seconds each.
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK; AUDIT_E_TIMEOUT (calls were cancelled, or, as the message says, one or the disk
/// doesn't end); AUDIT_E_REENTRANT (from a callback of its own call); AUDIT_E_HANDLE; AUDIT_E_LOG (not
/// confirmed or not sealed); AUDIT_E_INTERNAL. Any thread.
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
        if Inside::is_inside(logger) {
            return Err(Error::new(
                Status::Reentrant,
                "a logger can't be closed from a callback of its own call; return from it first",
            ));
        }
        service
            .logger
            .close(limit(timeout_ms))
            .map(|()| Reply::ok())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, close) }
}

/// Frees a logger. The handle is invalid at once, for every thread; calls that are running
/// finish, and the last one of them releases what the logger holds. NULL and a handle that was
/// freed before do nothing. Use audit_logger_close first to wait for running calls and to have
/// the disk confirm the log. Entries that still wait because the log can't take them are tried
/// once more; then they stay in the journal, for whoever opens the log next. The last one out seals what
/// can be sealed within a second or two, and leaves the rest to others.
///
/// logger: from audit_logger_new, or NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_log_free(logger: *mut AuditLogger) {
    // The last one out writes what waits, and closes files.
    let _host = HostThread::borrow();
    value((), || {
        LOGGERS.remove(logger);
    });
}

/// Reports the health of a logger in this process.
///
/// logger: from audit_logger_new.
///
/// reply: where the reply goes; not NULL. AUDIT_REPLY_JSON is an object: "path"; "written", "bytes"
/// (entries, and bytes of them); "failed" (times that the log couldn't take one); "gaps" (calls that
/// went on without one); "recovered" (entries of calls that a process was killed in); "torn" (torn
/// lines mended); "unconfirmed" (times that the disk refused to confirm); "altered" (lines that somebody
/// changed before they were sealed); "pending" (entries that wait); "last_error" (null, or {"time",
/// "message"}); "integrity" (where the logger seals: "origin", and once it has, "size" of the tree and
/// "sealed_at"); "running" (calls); "warnings" (texts). Alarm on pending, gaps, unconfirmed and altered,
/// on failed when it grows, and on a sealed_at that stays behind while entries are written. Numbers are
/// of this process since its first use; .state/health.json has the counters, "pending" and "last_error"
/// for the directory.
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
        if reply.is_null() {
            return Err(Error::argument(
                "reply is NULL; it is what this function is for",
            ));
        }
        let json = service.logger.stats()?;
        Ok(Reply::ok().with_text(AUDIT_REPLY_JSON, json))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, report) }
}

/// Looks after the days of a log that are over: compresses them, and removes those that have
/// expired. Nothing else ever does. Today and yesterday (UTC) stay as they are. It needs no logger,
/// and may run beside any: from cron or a timer, say once a day, as the user that the service runs as.
///
/// First what killed processes left is made whole, as audit_logger_new does it. Then expired days are
/// marked, and those removed that an earlier run, at least 24 hours ago, marked: a clock that is wrong
/// once removes nothing. Then days are compressed, audit_D.jsonl to audit_D.jsonl.gz, which never
/// replaces a file, and is read back before the plain one is removed. A run that is killed is
/// completed by the next.
///
/// path: the log's directory, NUL-terminated; not NULL. It isn't created.
///
/// options: a JSON object, NUL-terminated, or NULL for none of these: "retention_days" (a day
/// expires when it has been over for so many days, 1 to 36500; without it none does);
/// "compress_after_days" (likewise; without it none is compressed); "key_file" and "guard_file", as the
/// configuration's "integrity" has them: give what the loggers are given. The days that are over are
/// sealed first, if the log is; a file that isn't sealed to its end is skipped.
///
/// cancel: ends the run when it is triggered, or NULL. What was done by then stays done.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_JSON is an object: "path", "recovered", "torn"
/// and "warnings" as audit_logger_new has them; "marked" (expired days that wait to be removed:
/// {"day", "since"}); "deleted" and "compressed" (names of files); "skipped" (files that should have
/// been one of these: {"file", "reason"}). It is there also when a file failed and after cancelling.
///
/// Returns AUDIT_OK (also if files were skipped: their "reason" says why); AUDIT_E_ARGUMENT;
/// AUDIT_E_HANDLE (cancel); AUDIT_E_CONFIG (the log is sealed with a key or a guard that isn't given,
/// or the guard can't be used: nothing was done); AUDIT_E_LOG (the directory isn't a log's or can't be written to or
/// sealed, another process holds its lock for ten seconds, or a file failed: the rest was done);
/// AUDIT_E_CANCELLED; AUDIT_E_INTERNAL. Any thread; no logger of this process is
/// disturbed.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_maintain(
    path: *const c_char,
    options: *const c_char,
    cancel: *mut AuditCancel,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let maintain = |_: &HostThread| {
        // SAFETY: as the caller promises.
        let path = required("path", unsafe { c_text("path", path) }?)?;
        // SAFETY: as the caller promises.
        let wanted = Maintenance::parse(unsafe { c_text("options", options) }?)?;
        let cancel = cancel_if_given(cancel)?;
        let (report, ended) = log::maintain(Path::new(path), &wanted, cancel.as_deref())?;
        let reply = ended.map_or_else(Reply::from, |()| Reply::ok());
        Ok(reply.with_text(AUDIT_REPLY_JSON, report))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, maintain) }
}

/// Says what the log shows for a text, to find the entries of a known prompt or answer: its SHA-256,
/// or, if the configuration sets hash_key_file, its HMAC-SHA256 with that key.
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
        if reply.is_null() {
            return Err(Error::argument(
                "reply is NULL; it is what this function is for",
            ));
        }
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

/// Verifies the log in a directory: every line against its digest, every digest against the tree, the
/// tree against the signed checkpoint. Reads only: it takes no lock, needs no right but reading, and
/// works on a copy, and on a log that is being written. Memory stays flat, however long the log is.
///
/// path: the directory of the log, NUL-terminated; not NULL.
///
/// options: a JSON object, NUL-terminated, or NULL: "vkey" (the public key's text) or "vkey_file" (a
/// file with it), without which the one in the directory is taken on faith; "guard_file" (the guard,
/// which knows how far the log had come); "checkpoints" (an array of paths: files with checkpoints that
/// were kept).
///
/// cancel: ends it when it is triggered, or NULL.
///
/// reply: where the reply goes, or NULL. With AUDIT_OK and AUDIT_E_TAMPERED, AUDIT_REPLY_JSON is the
/// report, an object: "intact"; "grade" (how much the verdict is worth: "self-attested" or "signed",
/// and "remembered" if a guard or a kept checkpoint was compared); "origin", "size" and "root" of the
/// tree; "files" and "lines" that are as they were sealed, "unsealed_lines" and what else was counted;
/// "begun" and "last_record" (when the tree was begun, and grew last); "finding_count" and "findings"
/// (at most 20 of a file and 100 in all: "class", "file", "line", "message"); "cannot_detect" (texts: what
/// this verification could not have seen). Classes are "edited", "deleted", "inserted", "reordered",
/// "torn" (a sealed line was cut), "missing" (a file is gone), "rolled_back" (the tree is older than what
/// is known of it, or another), "tree" (its parts don't fit), "forged" (not signed by the key).
///
/// Returns AUDIT_OK (nothing is wrong); AUDIT_E_TAMPERED (something is: the message names the first);
/// AUDIT_E_NOT_FOUND (there is no Merkle log; where a key is given, that is AUDIT_E_TAMPERED);
/// AUDIT_E_LOG (it can't be read); AUDIT_E_ARGUMENT (the
/// message names the option); AUDIT_E_HANDLE (cancel); AUDIT_E_CANCELLED; AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_verify(
    path: *const c_char,
    options: *const c_char,
    cancel: *mut AuditCancel,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let verify = |_: &HostThread| {
        // SAFETY: as the caller promises.
        let path = required("path", unsafe { c_text("path", path) }?)?;
        // SAFETY: as the caller promises.
        let options = unsafe { c_text("options", options) }?.unwrap_or("{}");
        let options = verify::Options::parse(options)?;
        let cancel = cancel_if_given(cancel)?;
        let cancelled = || cancel.as_ref().is_some_and(|cancel| cancel.has_happened());
        let report = verify::verify(Path::new(path), &options, &mut |_, _| {}, &cancelled)?;
        let reply = match report.verdict() {
            Ok(()) => Reply::ok(),
            Err(tampered) => Reply::from(tampered),
        };
        let mut json = Vec::new();
        report.write(&mut json);
        Ok(reply.with_text(AUDIT_REPLY_JSON, json))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, verify) }
}

/// Proves one entry: that its line is in the log that a key signs, with nothing else of the log shown.
/// Reads only, as audit_logger_verify does.
///
/// path: the directory of the log, NUL-terminated; not NULL.
///
/// entry_id: the entry's id, NUL-terminated; not NULL.
///
/// options: a JSON object, NUL-terminated, or NULL: "vkey" (the public key's text) or "vkey_file" (a
/// file with it), without which the one in the directory is taken.
///
/// reply: where the reply goes; not NULL. AUDIT_REPLY_ENTRY: the line, as it was sealed.
/// AUDIT_REPLY_CONTENT: the proof, the text of a .tlog-proof file (C2SP). AUDIT_REPLY_JSON: an object,
/// "file" (the line's) and "index" (its place in the tree).
///
/// Returns AUDIT_OK; AUDIT_E_NOT_FOUND (no sealed entry has that id: the message says whether one is
/// there that isn't sealed; or there is no Merkle log); AUDIT_E_TAMPERED (the tree isn't what was
/// signed); AUDIT_E_LOG (the log can't be read); AUDIT_E_ARGUMENT; AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_prove(
    path: *const c_char,
    entry_id: *const c_char,
    options: *const c_char,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let prove = |_: &HostThread| {
        if reply.is_null() {
            return Err(Error::argument(
                "reply is NULL; it is what this function is for",
            ));
        }
        // SAFETY: as the caller promises.
        let path = required("path", unsafe { c_text("path", path) }?)?;
        // SAFETY: as the caller promises.
        let id = required("entry_id", unsafe { c_text("entry_id", entry_id) }?)?;
        // SAFETY: as the caller promises.
        let options = unsafe { c_text("options", options) }?.unwrap_or("{}");
        let vkey = verify::key_in(options)?;
        let proved = prove::prove(Path::new(path), id, vkey.as_deref())?;
        let mut json = Vec::new();
        let mut object = json::Object::begin(&mut json);
        object.text("file", &proved.file);
        object.json("index", proved.index);
        object.end();
        Ok(Reply::ok()
            .with_text(AUDIT_REPLY_ENTRY_ID, id)
            .with_text(AUDIT_REPLY_ENTRY, proved.line)
            .with_text(AUDIT_REPLY_CONTENT, proved.proof)
            .with_text(AUDIT_REPLY_JSON, json))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, prove) }
}

/// A text field of a reply: NUL-terminated UTF-8 (AUDIT_REPLY_JSON: the bytes that came), valid
/// until the reply is freed, or NULL if the reply has no such field.
///
/// reply: what a function gave, or NULL.
///
/// field: AUDIT_REPLY_CONTENT to AUDIT_REPLY_PROVIDER_ERROR_TYPE. ERROR_TYPE and ERROR_MESSAGE
/// are never NULL, also for a reply that is NULL or freed.
///
/// len: where the length without the NUL goes (a text may hold NULs of its own), or NULL. Any
/// thread.
///
/// # Safety
///
/// len is NULL or valid for one write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn audit_reply_text(
    reply: *const AuditReply,
    field: i32,
    len: *mut usize,
) -> *const c_char {
    let nothing: Option<&[u8]> = match field {
        AUDIT_REPLY_ERROR_TYPE | AUDIT_REPLY_ERROR_MESSAGE => Some(b"\0"),
        _ => None,
    };
    value(std::ptr::null(), || {
        let reply = REPLIES.get(reply);
        // The text lives as long as the reply, not only as long as it's held here.
        let text = reply
            .as_ref()
            .and_then(|reply| reply.text(field))
            .or(nothing);
        // SAFETY: as the caller promises.
        unsafe { put(len, text.map_or(0, |text| text.len() - 1)) };
        text.map_or(std::ptr::null(), |text| text.as_ptr().cast())
    })
}

/// A number field of a reply, or -1 if it isn't known.
///
/// reply: what a function gave, or NULL.
///
/// field: AUDIT_REPLY_HTTP_STATUS to AUDIT_REPLY_ATTEMPTS. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_reply_int(reply: *const AuditReply, field: i32) -> i64 {
    value(-1, || {
        REPLIES.get(reply).map_or(-1, |reply| reply.int(field))
    })
}

/// Frees a reply and its texts. NULL and a reply that was freed before do nothing. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_reply_free(reply: *mut AuditReply) {
    value((), || {
        REPLIES.remove(reply);
    });
}

/// Makes something that can end calls: give it to any number of them in AuditChatRequest.cancel.
///
/// cancel: where the handle goes; not NULL. Free it with audit_cancel_free.
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT (cancel is NULL); AUDIT_E_INTERNAL (out of file descriptors:
/// each takes one). On an error *cancel is NULL. Any thread.
///
/// # Safety
///
/// cancel is NULL or valid for one write.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_cancel_new(cancel: *mut *mut AuditCancel) -> AuditStatus {
    let _host = HostThread::borrow();
    value(AUDIT_E_INTERNAL, || {
        if cancel.is_null() {
            return AUDIT_E_ARGUMENT;
        }
        // The child of a fork is told from its parent only if forks are counted.
        let event = sys::watch_forks().and_then(|()| Event::new()).ok();
        let made = event.and_then(|event| CANCELS.insert(event));
        // SAFETY: as the caller promises.
        unsafe { put(cancel, made.unwrap_or(std::ptr::null_mut())) };
        if made.is_some() {
            AUDIT_OK
        } else {
            AUDIT_E_INTERNAL
        }
    })
}

/// Ends the calls that it was given to, and all that it will be given to: each returns
/// AUDIT_E_CANCELLED within 100 ms (but for the time that a callback or a hanging disk takes). NULL
/// and one that was freed do nothing.
///
/// cancel: from audit_cancel_new, or NULL. Any thread, and signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn audit_cancel_trigger(cancel: *mut AuditCancel) {
    // No guard: this may be a signal handler, and nothing in it can panic.
    let errno = sys::Errno::save();
    if let Some(event) = cancel_of_this_process(cancel) {
        event.set();
    }
    drop(errno);
}

/// Frees it. Calls that run with it go on. NULL and one that was freed before do nothing.
///
/// cancel: from audit_cancel_new, or NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_cancel_free(cancel: *mut AuditCancel) {
    let _host = HostThread::borrow();
    value((), || {
        CANCELS.remove(cancel);
    });
}

/// Writes a text as a JSON string, quotes included, so that no host builds metadata or params by
/// hand. Like snprintf: writes at most size bytes, a NUL included, and returns the length without
/// the NUL that the whole string has; if that is size or more, it was cut.
///
/// out: where it goes; NULL with size 0 to ask for the length.
///
/// text, len: any bytes; what isn't UTF-8 becomes U+FFFD. NULL with 0 is the empty text.
///
/// Any thread. It can't fail; a length that can't be (more than PTRDIFF_MAX) returns 0.
///
/// # Safety
///
/// out is NULL or valid for size writes; text is as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn audit_json_quote(
    out: *mut c_char,
    size: usize,
    text: *const c_char,
    len: usize,
) -> usize {
    value(0, || {
        // SAFETY: as the caller promises.
        let Ok(text) = (unsafe { bytes("text", text, len) }) else {
            if size > 0 {
                // SAFETY: as the caller promises.
                unsafe { put(out, 0) };
            }
            return 0;
        };
        let mut quoted = Vec::new();
        json::quote(
            &String::from_utf8_lossy(text.unwrap_or_default()),
            &mut quoted,
        );
        if let (false, Some(room)) = (out.is_null(), size.checked_sub(1)) {
            let written = quoted.len().min(room);
            // SAFETY: as the caller promises; `written` is less than `size`.
            unsafe { out.copy_from_nonoverlapping(quoted.as_ptr().cast(), written) };
            // SAFETY: as above.
            let end = unsafe { out.add(written) };
            // SAFETY: as above.
            unsafe { put(end, 0) };
        }
        quoted.len()
    })
}

/// The name of a status, as this header spells it ("AUDIT_E_ARGUMENT"); "AUDIT_E_UNKNOWN" for
/// any other number. Valid for ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_status_name(status: AuditStatus) -> *const c_char {
    let known = Status::ALL
        .into_iter()
        .find(|known| *known as AuditStatus == status);
    known.map_or(c"AUDIT_E_UNKNOWN", Status::name).as_ptr()
}

/// The library's version, as AUDIT_LOGGER_VERSION has it for the header. Valid for ever. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_logger_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
