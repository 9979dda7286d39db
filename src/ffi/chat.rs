//! Chat calls.

use super::boundary::{contained, hand_out, init, put, reply_to, required, sized, text, value};
use super::cancel::cancel_if_given;
use super::logger::service;
use super::reply::Reply;
use super::talk::{self, Callbacks, Talk};
use super::types::*;
use crate::client::{Chat, ChatRequest, Pieces};
use crate::error::Error;
use crate::sys::{Event, HostThread};

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
pub unsafe extern "C-unwind" fn audit_chat(
    logger: *mut AuditLogger,
    request: *const AuditChatRequest,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    // Nothing here has a destructor: the host may jump over this frame.
    // SAFETY: as the caller promises.
    match unsafe { begin(logger, request, reply) } {
        Begun::Over(status) => status,
        Begun::Talks(talk, callbacks) => {
            // SAFETY: as the caller promises.
            unsafe { talk::converse(talk, logger, callbacks) };
            // SAFETY: as the caller promises.
            unsafe { reply_to(reply, |_| talk::end(talk).map(Reply::from)) }
        }
    }
}

/// How far a call has come: plain values.
#[derive(Clone, Copy)]
enum Begun {
    /// To its end.
    Over(AuditStatus),
    /// To where the host is called back.
    Talks(talk::Handle, Callbacks),
}

/// # Safety
///
/// As for [`audit_chat`].
unsafe fn begin(
    logger: *mut AuditLogger,
    request: *const AuditChatRequest,
    reply: *mut *mut AuditReply,
) -> Begun {
    let mut talks = None;
    let ask = || -> Result<Option<Chat>, Error> {
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
        let callbacks = Callbacks {
            on_delta: request.on_delta,
            on_chunk: request.on_chunk,
            context: request.context,
        };
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
        let (logger, client) = (&service.logger, &service.client);
        let wants = callbacks.wants();
        if wants == Pieces::None {
            return client
                .chat(logger, &request, false, cancel.as_deref())
                .map(Some);
        }
        let begin = |cancel: Option<&Event>| {
            let run = client.start(logger, &request, true, wants, cancel)?;
            Ok(run.into_owned())
        };
        talks = Some((Talk::begin(logger, client, cancel, begin)?, callbacks));
        Ok(None)
    };
    talk::notice();
    let _host = HostThread::borrow();
    let over = contained(ask).transpose();
    if let Some((talk, callbacks)) = talks {
        // SAFETY: as the caller promises. It may be all that is ever written there.
        unsafe { put(reply, std::ptr::null_mut()) };
        return Begun::Talks(talk, callbacks);
    }
    let over = over.unwrap_or_else(|| Err(talk::gone()));
    // SAFETY: as the caller promises.
    Begun::Over(unsafe { hand_out(reply, over.map(Reply::from)) })
}
