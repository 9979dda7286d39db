//! Queues: calls that nobody blocks for.

use std::ffi::c_char;

use super::boundary::{c_text, held, needs_place, needs_reply, put, reply_to, value};
use super::handle::{Held, Table};
use super::json::{Request, json_text};
use super::logger::{limit, service};
use super::reply::Reply;
use super::types::*;
use crate::error::{Error, Status};
use crate::queue::{Queue, Settings};
use crate::sys::HostThread;

include!(concat!(env!("OUT_DIR"), "/symbol_versions/queue.rs"));

static QUEUES: Table<Queue> = Table::new(0xa5);

fn queue(handle: *const AuditQueue) -> Result<Held<'static, Queue>, Error> {
    held(&QUEUES, handle, "queue", "audit_queue_new")
}

/// Makes a queue: for chat calls that nobody blocks for. Threads of the library's own make them,
/// all signals blocked, one for each call that runs; what they have to tell waits as events, which
/// audit_queue_next takes.
///
/// logger: from audit_logger_new. The queue keeps what it stands for: the handles may be freed in
/// either order. Once audit_logger_close was called, nothing can be submitted any more, and it waits
/// for the queue's calls as for others.
///
/// options: a JSON object, NUL-terminated, or NULL for all defaults. "running" (64; 1 to 4,096): how
/// many calls run at once; the rest waits in order. "event_bytes" (4,194,304; 1,024 to 2^30): how
/// much may wait to be taken; while it does, no call is begun, and none that streams reads on, so
/// that the server waits too. (Calls that run and don't stream may add their answers.) Each call
/// that runs takes a descriptor beside its connection.
///
/// queue: where the handle goes; not NULL. Free it with audit_queue_free.
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT; AUDIT_E_HANDLE; AUDIT_E_INTERNAL. On an error *queue is NULL.
/// Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_queue_new(
    logger: *mut AuditLogger,
    options: *const c_char,
    queue: *mut *mut AuditQueue,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let make = |_: &HostThread| {
        // SAFETY: as the caller promises.
        unsafe { put(queue, std::ptr::null_mut()) };
        let service = service(logger)?;
        needs_place("queue", queue)?;
        // SAFETY: as the caller promises.
        let settings = Settings::parse(unsafe { c_text("options", options) }?)?;
        let made = Queue::new(&service.logger, &service.client, settings);
        let handle = QUEUES.insert(made).ok_or_else(|| {
            Error::new(Status::Internal, "a million queues are in use; free some")
        })?;
        // SAFETY: as the caller promises.
        unsafe { put(queue, handle) };
        Ok(Reply::ok())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, make) }
}

/// Submits a chat call, and returns at once. It has the life, the limits and the entry of a call by
/// audit_chat; timeout_ms counts from here. If its time is over, or it is cancelled, before it could
/// begin, its entry says that nothing was sent ("not_sent").
///
/// queue: from audit_queue_new.
///
/// request, len: as for audit_chat_json, and "stream": true has AUDIT_EVENT_DELTA events come,
/// "chunks" AUDIT_EVENT_CHUNK ones, "all" both. All that it needs is copied.
///
/// tag: comes back with each event of the call, which another thread may take, AUDIT_EVENT_DONE
/// too, before this returns. No two calls have the same at once; it is free again when
/// AUDIT_EVENT_DONE was taken.
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK: one AUDIT_EVENT_DONE will come, unless the queue is freed before. Otherwise
/// nothing was sent and nothing logged, and no event comes: AUDIT_E_ARGUMENT; AUDIT_E_HANDLE (also
/// of a closed logger); AUDIT_E_FORKED (in a child, of its parent's queue); AUDIT_E_LOG (out of
/// descriptors); AUDIT_E_INTERNAL (no thread can be made, and none is there). Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_queue_submit(
    queue: *mut AuditQueue,
    request: *const c_char,
    len: usize,
    tag: u64,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let submit = |_: &HostThread| {
        let queue = self::queue(queue)?;
        // SAFETY: as the caller promises.
        let request = Request::read(unsafe { json_text("request", request, len) }?)?;
        queue
            .submit(&request.request(), request.pieces, tag)
            .map(|()| Reply::ok())
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, submit) }
}

/// Takes the next event. Those of one call come in order, AUDIT_EVENT_DONE last.
///
/// queue: from audit_queue_new.
///
/// timeout_ms: how long to wait for one; 0 for not at all, negative for no limit.
///
/// reply: where the reply goes; not NULL. AUDIT_REPLY_EVENT is one of AUDIT_EVENT_*, AUDIT_REPLY_TAG
/// the call's. Of AUDIT_EVENT_DELTA and AUDIT_EVENT_CHUNK, AUDIT_REPLY_CONTENT is the text; of
/// AUDIT_EVENT_DONE, AUDIT_REPLY_STATUS is what audit_chat would have returned, and the rest what
/// its reply would have.
///
/// Returns AUDIT_OK (an event, whatever came of its call); AUDIT_E_TIMEOUT (none in that time);
/// AUDIT_E_ARGUMENT; AUDIT_E_HANDLE (also when the queue is freed meanwhile); AUDIT_E_FORKED;
/// AUDIT_E_INTERNAL. Any thread; each event is given once.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_queue_next(
    queue: *mut AuditQueue,
    timeout_ms: i64,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let next = |_: &HostThread| {
        let queue = self::queue(queue)?;
        needs_reply(reply)?;
        let event = queue.next(limit(timeout_ms))?;
        event
            .map(Reply::from)
            .ok_or_else(|| Error::new(Status::Timeout, "no event came in that time; ask again"))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, next) }
}

/// A descriptor that is readable while events wait, for poll, epoll and what stands on them (libuv,
/// asyncio). It's the queue's: not to be read, written or closed. Take events until AUDIT_E_TIMEOUT
/// with timeout_ms 0, or one for each time it's readable.
///
/// queue: from audit_queue_new.
///
/// Returns the descriptor, the same each time; -1 if there is no such queue in this process, or no
/// descriptor is left. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_queue_fd(queue: *const AuditQueue) -> i32 {
    let _host = HostThread::borrow();
    value(-1, || {
        let queue = QUEUES.get(queue);
        queue.and_then(|queue| queue.readable()).unwrap_or(-1)
    })
}

/// Ends a call, as a cancel does: within 100 ms its AUDIT_EVENT_DONE comes.
///
/// queue: from audit_queue_new.
///
/// tag: the call's.
///
/// reply: where the reply goes, or NULL.
///
/// Returns AUDIT_OK (it may end otherwise all the same: an answer may have come just before);
/// AUDIT_E_NOT_FOUND (there is none, or its end waits to be taken); AUDIT_E_HANDLE; AUDIT_E_FORKED;
/// AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_queue_cancel(
    queue: *mut AuditQueue,
    tag: u64,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let cancel = |_: &HostThread| match self::queue(queue)?.cancel(tag)? {
        true => Ok(Reply::ok()),
        false => Err(Error::new(
            Status::NotFound,
            format!("no call with the tag {tag} waits or runs"),
        )),
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, cancel) }
}

/// Frees a queue. Its calls are cancelled, those that wait too, and each has its entry when this
/// returns; a disk that hangs is waited for no longer than 5 seconds. Events that weren't taken are
/// gone. Who waits in audit_queue_next gets AUDIT_E_HANDLE. NULL and a queue that was freed before
/// do nothing; in a child of fork its parent's goes on.
///
/// queue: from audit_queue_new, or NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_queue_free(queue: *mut AuditQueue) {
    let _host = HostThread::borrow();
    value((), || {
        let Some(held) = QUEUES.get(queue) else {
            return;
        };
        if QUEUES.remove(queue) {
            held.close();
        }
    });
}
