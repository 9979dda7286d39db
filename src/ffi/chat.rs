//! Chat calls, and the host's callbacks in them.

use std::cell::Cell;

use super::boundary::{init, reply_to, required, sized, text, value};
use super::cancel::cancel_if_given;
use super::logger::service;
use super::reply::Reply;
use super::types::*;
use crate::client::{ChatRequest, Listener};
use crate::error::Error;
use crate::sys::{self, HostThread};

include!(concat!(env!("OUT_DIR"), "/symbol_versions/chat.rs"));

/// Makes a request what AUDIT_CHAT_REQUEST_INIT makes it, for languages that have no macros of C.
///
/// request: what is set; NULL does nothing.
///
/// size: sizeof(AuditChatRequest), as the caller knows it. Any thread.
///
/// # Safety
///
/// request is NULL or valid for writes of size bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn audit_chat_request_init(request: *mut AuditChatRequest, size: usize) {
    // SAFETY: as the caller promises.
    value((), || unsafe { init(request, size) });
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
                "reply is NULL: the paid answer would be lost; pass the address of an AuditReply \
                 pointer",
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

    fn end(&mut self) {
        self.host.take_back();
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
pub struct Inside {
    place: Option<usize>,
}

impl Inside {
    /// From now on.
    pub fn enter(logger: *const AuditLogger) -> Inside {
        INSIDE.with(|inside| {
            let place = inside.iter().position(|place| place.get() == 0);
            if let Some(place) = place {
                inside[place].set(logger.addr());
            }
            Inside { place }
        })
    }

    /// Whether this thread is inside a call of that logger.
    pub fn is_inside(logger: *const AuditLogger) -> bool {
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
