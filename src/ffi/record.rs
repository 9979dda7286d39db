//! Records of calls that the host makes itself: logged whole, or begun and finished.

use std::sync::{Mutex, MutexGuard};

use super::boundary::{init, needs_place, put, reply_of_files, required, sized, text, value};
use super::handle::{Held, Table};
use super::logger::{Service, service};
use super::reply::Reply;
use super::types::*;
use crate::error::{Error, Status};
use crate::format::entry::Details;
use crate::logger::{Came, Logger, Pending, Subject};

include!(concat!(env!("OUT_DIR"), "/symbol_versions/record.rs"));

static PENDINGS: Table<Mutex<Option<Pending>>> = Table::new(0xa3);

/// Makes a record what AUDIT_RECORD_INIT makes it, for languages that have no macros of C.
///
/// record: what is set; NULL does nothing.
///
/// size: sizeof(AuditRecord), as the caller knows it. Any thread.
///
/// # Safety
///
/// record is NULL or valid for writes of size bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn audit_record_init(record: *mut AuditRecord, size: usize) {
    // SAFETY: as the caller promises.
    value((), || unsafe { init(record, size) });
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
    let log = || {
        let service = service(logger)?;
        // SAFETY: as the caller promises.
        let record = unsafe { a_record(record) }?;
        // SAFETY: as the caller promises.
        let asked = unsafe { asked(&record) }?;
        // SAFETY: as the caller promises.
        log(&service, &asked, reply, || unsafe { came(&record) })
    };
    // SAFETY: as the caller promises.
    unsafe { reply_of_files(reply, log) }
}

/// Begins a call that the host makes itself, with a client of its own: writes down that it's about
/// to be made. From then on it has exactly one entry: the one that audit_logger_finish writes, or,
/// if the process ends before, one with the error_type "OutcomeUnknown". Make the call only if this
/// returns AUDIT_OK.
///
/// logger: from audit_logger_new.
///
/// record: what is asked: event_type, user_id, model, prompt and metadata are read, as
/// audit_logger_log reads them; the others aren't. Not NULL, and started from AUDIT_RECORD_INIT.
/// The prompt is hashed and not kept.
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
    let begin = || {
        // SAFETY: as the caller promises.
        let beginning = unsafe { Beginning::of(logger, pending) }?;
        // SAFETY: as the caller promises.
        let record = unsafe { a_record(record) }?;
        // SAFETY: as the caller promises.
        beginning.begin(&unsafe { asked(&record) }?)
    };
    // SAFETY: as the caller promises.
    unsafe { reply_of_files(reply, begin) }
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
    let finish = || {
        let begun = Begun::find(pending)?;
        // SAFETY: as the caller promises.
        let record = unsafe { a_record(record) }?;
        // SAFETY: as the caller promises.
        let metadata = unsafe { text("metadata", record.metadata) }?;
        // SAFETY: as the caller promises.
        begun.finish(&unsafe { came(&record) }?, metadata)
    };
    // SAFETY: as the caller promises.
    unsafe { reply_of_files(reply, finish) }
}

/// What is asked for, as the host says it.
pub struct Asked<'a> {
    pub event_type: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub model: Option<&'a str>,
    pub prompt: Option<&'a str>,
    pub metadata: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Checked; but for the metadata, which come apart.
    fn subject(&self, logger: &Logger) -> Result<(Subject<'a>, Option<String>), Error> {
        let prompt = required("prompt", self.prompt)?;
        let subject = Subject {
            event_type: self.event_type,
            user_id: required("user_id", self.user_id)?,
            model: required("model", self.model)?,
            prompt_hash: logger.hash(prompt.as_bytes()),
            metadata: None,
        };
        let metadata = self.metadata.map(|text| logger.metadata(text));
        Ok((subject, metadata.transpose()?))
    }
}

/// Logs a call.
pub fn log<'a>(
    service: &Service,
    asked: &Asked<'_>,
    reply: *mut *mut AuditReply,
    came: impl FnOnce() -> Result<Came<'a>, Error>,
) -> Result<Reply, Error> {
    let (subject, metadata) = asked.subject(&service.logger)?;
    let subject = Subject {
        metadata: metadata.as_deref(),
        ..subject
    };
    let line = service.logger.log(&subject, &came()?)?;
    let logged = Reply::ok();
    if reply.is_null() {
        return Ok(logged);
    }
    Ok(logged.with_entry(line))
}

/// A call that is to begin, and where its handle goes.
pub struct Beginning {
    service: Held<'static, Service>,
    place: *mut *mut AuditPending,
}

impl Beginning {
    /// # Safety
    ///
    /// `place` is NULL or valid for one write for the life of the result.
    pub unsafe fn of(
        logger: *mut AuditLogger,
        place: *mut *mut AuditPending,
    ) -> Result<Beginning, Error> {
        // SAFETY: as the caller promises.
        unsafe { put(place, std::ptr::null_mut()) };
        let service = service(logger)?;
        needs_place("pending", place)?;
        Ok(Beginning { service, place })
    }

    /// Begins it.
    pub fn begin(self, asked: &Asked<'_>) -> Result<Reply, Error> {
        let logger = &self.service.logger;
        let (subject, metadata) = asked.subject(logger)?;
        let subject = Subject {
            metadata: metadata.as_deref(),
            ..subject
        };
        let call = logger.begin(&subject, Details::default())?;
        let id = call.id().to_string();
        let handle = PENDINGS.insert(Mutex::new(Some(call))).ok_or_else(|| {
            Error::new(Status::Internal, "a million calls are begun; finish some")
        })?;
        // SAFETY: as the caller of `of` promised.
        unsafe { put(self.place, handle) };
        Ok(Reply::ok().with_text(AUDIT_REPLY_ENTRY_ID, id))
    }
}

/// A call that was begun.
pub struct Begun {
    handle: *mut AuditPending,
    held: Held<'static, Mutex<Option<Pending>>>,
}

impl Begun {
    /// That of a handle, in the process that began it.
    pub fn find(handle: *mut AuditPending) -> Result<Begun, Error> {
        let begun = Begun {
            handle,
            held: PENDINGS.get(handle).ok_or_else(Begun::gone)?,
        };
        if begun.call()?.as_ref().is_some_and(Pending::is_the_parents) {
            PENDINGS.remove(handle);
            return Err(Error::new(
                Status::Forked,
                "the process was forked since the call was begun, and this is the child: the \
                 parent finishes it",
            ));
        }
        Ok(begun)
    }

    /// What another thread finishes just now, or did, is gone; of another process's the lock may be
    /// held for ever.
    fn call(&self) -> Result<MutexGuard<'_, Option<Pending>>, Error> {
        let call = self.held.try_lock().map_err(|_| Begun::gone())?;
        if call.is_none() {
            return Err(Begun::gone());
        }
        Ok(call)
    }

    fn gone() -> Error {
        Error::new(
            Status::Handle,
            "pending was finished before, or isn't one; pass what audit_logger_begin gave",
        )
    }

    /// Finishes it. `metadata` replace those of its beginning.
    pub fn finish(&self, came: &Came<'_>, metadata: Option<&str>) -> Result<Reply, Error> {
        let mut call = self.call()?;
        let begun = call.as_ref().ok_or_else(Begun::gone)?;
        let line = begun.line_of(came, metadata)?;
        let call = call.take().ok_or_else(Begun::gone)?;
        PENDINGS.remove(self.handle);
        Ok(Reply::of_finished(call.write(line)))
    }
}

/// # Safety
///
/// As for [`sized`].
unsafe fn a_record(record: *const AuditRecord) -> Result<AuditRecord, Error> {
    // SAFETY: as the caller promises.
    let record = unsafe { sized("record", record, "AUDIT_RECORD_INIT") }?;
    if record.flags & !AUDIT_RECORD_HAS_USAGE != 0 {
        return Err(Error::argument(
            "record: flags has bits that this version doesn't know; use 0 or \
             AUDIT_RECORD_HAS_USAGE",
        ));
    }
    Ok(record)
}

/// What a record says of a call before it's made.
///
/// # Safety
///
/// As for [`text`], of the record's texts.
unsafe fn asked<'a>(record: &'a AuditRecord) -> Result<Asked<'a>, Error> {
    // SAFETY: as the caller promises, for this text and those below.
    let text = |name, field| unsafe { text(name, field) };
    Ok(Asked {
        prompt: text("prompt", record.prompt)?,
        event_type: text("event_type", record.event_type)?,
        user_id: text("user_id", record.user_id)?,
        model: text("model", record.model)?,
        metadata: text("metadata", record.metadata)?,
    })
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
