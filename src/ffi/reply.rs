//! Replies: what a call answers, read field by field.

use std::ffi::c_char;
use std::time::Duration;

use super::boundary::{put, value};
use super::handle::Table;
use super::types::*;
use crate::client::Chat;
use crate::error::{Error, Status};
use crate::format::entry::{Line, Outcome};
use crate::logger::Finished;
use crate::queue::{Event, News};

include!(concat!(env!("OUT_DIR"), "/symbol_versions/reply.rs"));

/// Every reply that a host holds.
pub static REPLIES: Table<Reply> = Table::new(0xa2);

/// The texts and numbers of one answer.
pub struct Reply {
    status: Status,
    /// By field; each ends with a NUL that its length doesn't count.
    texts: [Option<Box<[u8]>>; TEXT_FIELDS],
    ints: [i64; INT_FIELDS],
}

const TEXT_FIELDS: usize = AUDIT_REPLY_PROVIDER_ERROR_TYPE as usize + 1;
const FIRST_INT: i32 = AUDIT_REPLY_HTTP_STATUS;
const INT_FIELDS: usize = (AUDIT_REPLY_TAG - FIRST_INT) as usize + 1;
const UNKNOWN: i64 = -1;

impl Reply {
    /// A success, with nothing in it yet.
    pub fn ok() -> Reply {
        Reply {
            status: Status::Ok,
            texts: [const { None }; TEXT_FIELDS],
            ints: [UNKNOWN; INT_FIELDS],
        }
    }

    /// What the function returns.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Sets a text field.
    pub fn with_text(mut self, field: i32, text: impl Into<Vec<u8>>) -> Reply {
        let mut bytes = text.into();
        // A body isn't copied to one of twice its length for the NUL.
        bytes.reserve_exact(1);
        bytes.push(0);
        if let Some(place) = usize::try_from(field)
            .ok()
            .and_then(|at| self.texts.get_mut(at))
        {
            *place = Some(bytes.into_boxed_slice());
        }
        self
    }

    /// Sets the entry and its id.
    pub fn with_entry(self, line: Line) -> Reply {
        self.with_text(AUDIT_REPLY_ENTRY_ID, line.id().to_string())
            .with_text(AUDIT_REPLY_ENTRY, line.into_text())
    }

    /// The reply for a call that the host made.
    pub fn of_finished(finished: Finished) -> Reply {
        let reply = Reply::ok().with_entry(finished.line);
        match finished.written {
            Ok(()) => reply,
            Err(why) => Reply {
                status: Status::LogPending,
                ..reply
            }
            .with_text(AUDIT_REPLY_ERROR_TYPE, Status::LogPending.name().to_bytes())
            .with_text(AUDIT_REPLY_ERROR_MESSAGE, waits(&why)),
        }
    }

    fn with_text_if(self, field: i32, text: Option<impl Into<Vec<u8>>>) -> Reply {
        match text {
            Some(text) => self.with_text(field, text),
            None => self,
        }
    }

    fn with_int(mut self, field: i32, value: Option<i64>) -> Reply {
        let at = field
            .checked_sub(FIRST_INT)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(place) = at.and_then(|at| self.ints.get_mut(at)) {
            *place = value.unwrap_or(UNKNOWN);
        }
        self
    }

    /// A text field, with its NUL.
    pub fn text(&self, field: i32) -> Option<&[u8]> {
        self.texts.get(usize::try_from(field).ok()?)?.as_deref()
    }

    /// A number field.
    pub fn int(&self, field: i32) -> i64 {
        let at = field
            .checked_sub(FIRST_INT)
            .and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.ints.get(at))
            .copied()
            .unwrap_or(UNKNOWN)
    }
}

/// What to say of an entry that the log couldn't take after the call.
fn waits(why: &Error) -> String {
    format!("the entry waits: {why}")
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        let outcome = match error.status {
            // A defect shows anywhere.
            Status::Internal => AUDIT_OUTCOME_UNKNOWN,
            _ => AUDIT_OUTCOME_NOT_SENT,
        };
        Reply {
            status: error.status,
            ..Reply::ok()
        }
        .with_text(AUDIT_REPLY_ERROR_TYPE, error.status.name().to_bytes())
        .with_text(AUDIT_REPLY_ERROR_MESSAGE, error.message)
        .with_int(AUDIT_REPLY_OUTCOME, Some(outcome.into()))
    }
}

impl From<Chat> for Reply {
    fn from(chat: Chat) -> Reply {
        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let retry_after = chat.last.retry_after();
        let last = chat.last;
        let outcome = match last.outcome {
            Outcome::NotSent => AUDIT_OUTCOME_NOT_SENT,
            Outcome::Answered => AUDIT_OUTCOME_ANSWERED,
            Outcome::Unknown => AUDIT_OUTCOME_UNKNOWN,
        };
        let answer = last.completion;
        let reply = Reply {
            status: chat.status,
            ..Reply::ok()
        }
        .with_entry(chat.line)
        .with_text_if(AUDIT_REPLY_JSON, last.body)
        .with_text_if(AUDIT_REPLY_FINISH_REASON, answer.finish_reason)
        .with_text_if(AUDIT_REPLY_MODEL, answer.model)
        .with_text_if(AUDIT_REPLY_PROVIDER, answer.provider)
        .with_text_if(AUDIT_REPLY_GENERATION_ID, answer.id)
        .with_int(AUDIT_REPLY_PROMPT_TOKENS, answer.prompt_tokens)
        .with_int(AUDIT_REPLY_COMPLETION_TOKENS, answer.completion_tokens)
        .with_int(AUDIT_REPLY_HTTP_STATUS, last.status.map(i64::from))
        .with_int(AUDIT_REPLY_OUTCOME, Some(outcome.into()))
        .with_int(AUDIT_REPLY_RETRY_AFTER_MS, retry_after.map(milliseconds))
        .with_int(AUDIT_REPLY_ATTEMPTS, i64::try_from(chat.attempts).ok());
        // The part of an answer that came before an error may have been heard, and is paid for.
        let came = last.fault.is_none() || !answer.text.is_empty();
        let reply = reply.with_text_if(AUDIT_REPLY_CONTENT, came.then_some(answer.text));

        let waits = chat.log_error.as_ref().map(waits);
        let (class, message) = match (last.fault, waits) {
            (None, None) => return reply,
            (None, Some(waits)) => (chat.status.name().to_bytes(), waits),
            (Some(fault), waits) => {
                let message = [Some(fault.message), waits].into_iter().flatten();
                let message = message.collect::<Vec<_>>().join("; ");
                let reply =
                    reply.with_text_if(AUDIT_REPLY_PROVIDER_ERROR_TYPE, fault.provider_error_type);
                return reply
                    .with_text(AUDIT_REPLY_ERROR_TYPE, fault.class)
                    .with_text(AUDIT_REPLY_ERROR_MESSAGE, message);
            }
        };
        reply
            .with_text(AUDIT_REPLY_ERROR_TYPE, class)
            .with_text(AUDIT_REPLY_ERROR_MESSAGE, message)
    }
}

impl From<Event> for Reply {
    fn from(event: Event) -> Reply {
        let (kind, reply) = match event.news {
            News::Delta(text) => (
                AUDIT_EVENT_DELTA,
                Reply::ok().with_text(AUDIT_REPLY_CONTENT, text),
            ),
            News::Chunk(json) => (
                AUDIT_EVENT_CHUNK,
                Reply::ok().with_text(AUDIT_REPLY_CONTENT, json),
            ),
            News::Done(result) => {
                let reply = result.map_or_else(Reply::from, Reply::from);
                let status = reply.status as AuditStatus;
                (
                    AUDIT_EVENT_DONE,
                    reply.with_int(AUDIT_REPLY_STATUS, Some(status.into())),
                )
            }
        };
        let reply = Reply {
            status: Status::Ok,
            ..reply
        };
        reply
            .with_int(AUDIT_REPLY_EVENT, Some(kind.into()))
            .with_int(AUDIT_REPLY_TAG, Some(event.tag.cast_signed()))
    }
}

/// Reads a text field of a reply.
///
/// reply: what a function gave, or NULL.
///
/// field: AUDIT_REPLY_CONTENT to AUDIT_REPLY_PROVIDER_ERROR_TYPE.
///
/// len: where the length without the NUL goes (a text may hold NULs of its own), or NULL.
///
/// Returns the text, NUL-terminated UTF-8 (AUDIT_REPLY_JSON: the bytes that came), valid until the
/// reply is freed; NULL if the reply has no such field. ERROR_TYPE and ERROR_MESSAGE are never NULL,
/// also for a reply that is NULL or freed. Any thread.
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

/// Reads a number field of a reply.
///
/// reply: what a function gave, or NULL.
///
/// field: AUDIT_REPLY_HTTP_STATUS to AUDIT_REPLY_TAG.
///
/// Returns the number, or -1 if it isn't known. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_reply_int(reply: *const AuditReply, field: i32) -> i64 {
    value(-1, || {
        REPLIES.get(reply).map_or(-1, |reply| reply.int(field))
    })
}

/// Frees a reply and its texts. NULL and a reply that was freed before do nothing.
///
/// reply: what a function gave, or NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_reply_free(reply: *mut AuditReply) {
    value((), || {
        REPLIES.remove(reply);
    });
}
