//! Calls and records as one JSON text each, for hosts that build no C structures.

use std::ffi::c_char;

use zeroize::Zeroizing;

use super::boundary::{needs_reply, reply_of_files, reply_to, required, text};
use super::cancel::cancel_if_given;
use super::logger::service;
use super::record::{self, Asked, Beginning, Begun};
use super::reply::Reply;
use super::types::*;
use crate::client::{ChatRequest, Pieces};
use crate::error::{Error, Status};
use crate::logger::Came;
use crate::settings::{Setting, settings};
use crate::sys::HostThread;

include!(concat!(env!("OUT_DIR"), "/symbol_versions/json.rs"));

/// Makes a chat call, as audit_chat does, of a request that is one JSON text.
///
/// logger: from audit_logger_new.
///
/// request, len: a JSON object, UTF-8, len bytes (schema/request.json is its schema). "user_id" is
/// required; "prompt", "system" and "model" are strings, "metadata", "params" and "options" objects,
/// each as in AuditChatRequest. "stream": true has the answer streamed, so that idle_timeout_ms
/// bounds its silences; the reply holds the whole. A member that is null is absent.
///
/// cancel: ends the call when it is triggered, or NULL.
///
/// reply: where the reply goes, as audit_chat's; not NULL.
///
/// Returns AUDIT_OK, and otherwise what audit_chat returns. Any thread; it needs 128 KiB of stack.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_chat_json(
    logger: *mut AuditLogger,
    request: *const c_char,
    len: usize,
    cancel: *mut AuditCancel,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let chat = |_: &HostThread| {
        let service = service(logger)?;
        needs_reply(reply)?;
        // SAFETY: as the caller promises.
        let request = Request::read(unsafe { json_text("request", request, len) }?)?;
        let cancel = cancel_if_given(cancel)?;
        let streams = request.pieces != Pieces::None;
        service
            .client
            .chat(
                &service.logger,
                &request.request(),
                streams,
                cancel.as_deref(),
            )
            .map(Reply::from)
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, chat) }
}

/// Logs a call that the host made itself, as audit_logger_log does, of a record that is one JSON
/// text.
///
/// logger: from audit_logger_new.
///
/// record, len: a JSON object, UTF-8, len bytes (schema/record.json is its schema): the members of
/// AuditRecord by their names, "metadata" an object. "prompt_tokens" and "completion_tokens" are set
/// both or neither. A member that is null is absent.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
///
/// Returns AUDIT_OK, and otherwise what audit_logger_log returns. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_record_json(
    logger: *mut AuditLogger,
    record: *const c_char,
    len: usize,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let log = || {
        let service = service(logger)?;
        // SAFETY: as the caller promises.
        let record = Record::read(unsafe { json_text("record", record, len) }?)?;
        record::log(&service, &record.asked(), reply, || record.came())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_of_files(reply, log) }
}

/// Begins a call that the host makes itself, as audit_logger_begin does, of a record that is one
/// JSON text.
///
/// logger: from audit_logger_new.
///
/// record, len: as for audit_record_json; what audit_logger_begin reads is read.
///
/// pending: where the handle goes; not NULL. audit_record_finish_json or audit_logger_finish takes
/// it back.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY_ID: the id that the entry will have.
///
/// Returns AUDIT_OK, and otherwise what audit_logger_begin returns. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_record_begin_json(
    logger: *mut AuditLogger,
    record: *const c_char,
    len: usize,
    pending: *mut *mut AuditPending,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let begin = || {
        // SAFETY: as the caller promises.
        let beginning = unsafe { Beginning::of(logger, pending) }?;
        // SAFETY: as the caller promises.
        let record = Record::read(unsafe { json_text("record", record, len) }?)?;
        beginning.begin(&record.asked())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_of_files(reply, begin) }
}

/// Finishes a call that was begun by audit_record_begin_json or audit_logger_begin, as
/// audit_logger_finish does, of a record that is one JSON text.
///
/// pending: from either of them.
///
/// record, len: as for audit_record_json; what audit_logger_finish reads is read.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
///
/// Returns AUDIT_OK, and otherwise what audit_logger_finish returns. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_record_finish_json(
    pending: *mut AuditPending,
    record: *const c_char,
    len: usize,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let finish = || {
        let begun = Begun::find(pending)?;
        // SAFETY: as the caller promises.
        let record = Record::read(unsafe { json_text("record", record, len) }?)?;
        begun.finish(&record.came()?, record.metadata())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_of_files(reply, finish) }
}

/// # Safety
///
/// `data` is NULL or valid for reads of `len` bytes for the life of the result.
pub unsafe fn json_text<'a>(name: &str, data: *const c_char, len: usize) -> Result<&'a str, Error> {
    // SAFETY: as the caller promises.
    let text = unsafe { text(name, AuditText { data, len }) }?;
    required(name, text)
}

/// A chat request.
#[derive(Default)]
pub struct Request {
    user_id: String,
    prompt: Option<String>,
    system: Option<String>,
    model: Option<String>,
    metadata: Option<Zeroizing<String>>,
    params: Option<Zeroizing<String>>,
    /// May hold a key.
    options: Option<Zeroizing<String>>,
    /// What is to be heard of the answer.
    pub pieces: Pieces,
}

impl Request {
    /// Reads one.
    pub fn read(text: &str) -> Result<Request, Error> {
        let mut request = Request::default();
        let mut user_id = None;
        for member in settings("request: ", Status::Argument, text)? {
            match member.key.as_str() {
                "user_id" => user_id = member.or_null(Setting::string)?,
                "prompt" => request.prompt = member.or_null(Setting::string)?,
                "system" => request.system = member.or_null(Setting::string)?,
                "model" => request.model = member.or_null(Setting::string)?,
                "metadata" => request.metadata = member.or_null(Setting::object)?,
                "params" => request.params = member.or_null(Setting::object)?,
                "options" => request.options = member.or_null(Setting::object)?,
                "stream" => request.pieces = member.or_null(pieces)?.unwrap_or_default(),
                _ => return Err(member.unknown()),
            }
        }
        request.user_id = required("user_id", user_id)?;
        Ok(request)
    }

    /// The same, of borrowed texts.
    pub fn request(&self) -> ChatRequest<'_> {
        ChatRequest {
            user_id: &self.user_id,
            prompt: self.prompt.as_deref(),
            system: self.system.as_deref(),
            model: self.model.as_deref(),
            metadata: self.metadata.as_deref().map(String::as_str),
            params: self.params.as_deref().map(String::as_str),
            options: self.options.as_deref().map(String::as_str),
        }
    }
}

fn pieces(member: &Setting) -> Result<Pieces, Error> {
    Ok(match member.json() {
        "false" => Pieces::None,
        "true" => Pieces::Deltas,
        "\"chunks\"" => Pieces::Chunks,
        "\"all\"" => Pieces::All,
        _ => return Err(member.error("must be true, false, \"chunks\" or \"all\"")),
    })
}

/// A record of a call.
#[derive(Default)]
struct Record {
    event_type: Option<String>,
    user_id: Option<String>,
    model: Option<String>,
    prompt: Option<String>,
    response: Option<String>,
    prompt_tokens: Option<i64>,
    completion_tokens: Option<i64>,
    latency_ms: f64,
    status: Option<String>,
    error_type: Option<String>,
    metadata: Option<Zeroizing<String>>,
}

impl Record {
    fn read(text: &str) -> Result<Record, Error> {
        let mut record = Record::default();
        for member in settings("record: ", Status::Argument, text)? {
            let text = || member.or_null(Setting::string);
            let count = || member.or_null(|count| count.integer(0, i64::MAX as u64));
            let count = || Ok(count()?.and_then(|count| i64::try_from(count).ok()));
            match member.key.as_str() {
                "event_type" => record.event_type = text()?,
                "user_id" => record.user_id = text()?,
                "model" => record.model = text()?,
                "prompt" => record.prompt = text()?,
                "response" => record.response = text()?,
                "prompt_tokens" => record.prompt_tokens = count()?,
                "completion_tokens" => record.completion_tokens = count()?,
                "latency_ms" => record.latency_ms = member.or_null(Setting::number)?.unwrap_or(0.0),
                "status" => record.status = text()?,
                "error_type" => record.error_type = text()?,
                "metadata" => record.metadata = member.or_null(Setting::object)?,
                _ => return Err(member.unknown()),
            }
        }
        if record.prompt_tokens.is_some() != record.completion_tokens.is_some() {
            return Err(Error::argument(
                "record: set both prompt_tokens and completion_tokens, or neither",
            ));
        }
        Ok(record)
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            event_type: self.event_type.as_deref(),
            user_id: self.user_id.as_deref(),
            model: self.model.as_deref(),
            prompt: self.prompt.as_deref(),
            metadata: self.metadata(),
        }
    }

    fn came(&self) -> Result<Came<'_>, Error> {
        Ok(Came {
            response: self.response.as_deref().unwrap_or_default(),
            tokens: self.prompt_tokens.zip(self.completion_tokens),
            latency_ms: self.latency_ms,
            status: required("status", self.status.as_deref())?,
            error_type: self.error_type.as_deref(),
        })
    }

    fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref().map(String::as_str)
    }
}
