//! The types and numbers of the C interface.

use std::ffi::{c_char, c_void};

/// What a function that can fail returns: AUDIT_OK, or one of AUDIT_E_*, all negative. The
/// numbers never change.
pub type AuditStatus = i32;

/// Done.
pub const AUDIT_OK: AuditStatus = 0;
/// An argument can't be used; the message says which and what would be right. Nothing was sent
/// and nothing was logged.
pub const AUDIT_E_ARGUMENT: AuditStatus = -1;
/// The handle is NULL, freed, closed, of another type or, for a cancel, of another process.
/// Nothing was sent and nothing was logged.
pub const AUDIT_E_HANDLE: AuditStatus = -2;
/// The configuration can't be used, or doesn't fit the log that is there (its key, its name, the
/// key of its hashes); the message names the key and what is allowed.
pub const AUDIT_E_CONFIG: AuditStatus = -3;
/// The log can't take an entry, or can't be read. Nothing was sent; trying again is safe.
pub const AUDIT_E_LOG: AuditStatus = -4;
/// The call was made, and the reply holds its answer or its error, but the log could not take
/// its entry: it waits in the journal, and is written as soon as the log can take it, also if
/// the process is killed meanwhile. (With on_log_failure "count" it may be counted instead, and
/// where the journal has no room either it is in memory only: the message says so.)
pub const AUDIT_E_LOG_PENDING: AuditStatus = -5;
/// The chat call failed, and its entry is written.
pub const AUDIT_E_CALL: AuditStatus = -6;
/// The call was cancelled. Of a chat call the entry is written, unless it was cancelled before
/// it began: then nothing was sent, and AUDIT_REPLY_ENTRY is NULL.
pub const AUDIT_E_CANCELLED: AuditStatus = -7;
/// The time given to audit_logger_flush or audit_logger_close ran out, or to audit_queue_next,
/// before there was an event.
pub const AUDIT_E_TIMEOUT: AuditStatus = -8;
/// The log isn't what was sealed: the report of audit_logger_verify says where.
pub const AUDIT_E_TAMPERED: AuditStatus = -9;
/// There is no Merkle log in that directory, no sealed entry with that id, or no call with that
/// tag.
pub const AUDIT_E_NOT_FOUND: AuditStatus = -10;
/// A logger can't be closed from a callback of one of its own calls: it would wait for itself.
pub const AUDIT_E_REENTRANT: AuditStatus = -11;
/// The process was forked in a callback of this call, or since the pending or the queue was
/// made, and this is the child: the call is the parent's, which finishes and logs it. The logger
/// works in the child.
pub const AUDIT_E_FORKED: AuditStatus = -12;
/// A defect of the library, or the process is out of descriptors, handles or threads; the
/// message says which. AUDIT_REPLY_OUTCOME says whether anything was sent.
pub const AUDIT_E_INTERNAL: AuditStatus = -13;
/// The quorum of witnesses hasn't signed the log in time: of audit_logger_flush_with alone. The
/// entries are on the disk and sealed.
pub const AUDIT_E_WITNESS: AuditStatus = -14;

/// Text: the answer of the model, or the part of it that came before an error; NULL if none
/// came. Of an AUDIT_EVENT_DELTA or AUDIT_EVENT_CHUNK: what came.
/// Of audit_logger_hash: the hash. Of audit_logger_prove: the proof.
pub const AUDIT_REPLY_CONTENT: i32 = 1;
/// Text, JSON: the response's body as received; of a streamed answer, the chat.completion that
/// its chunks add up to. Of audit_logger_new, audit_logger_stats, audit_logger_maintain,
/// audit_logger_verify and audit_logger_prove: what they report. (A body that arrived is here
/// after an error too, even if it isn't JSON.)
pub const AUDIT_REPLY_JSON: i32 = 2;
/// Text, JSON: the entry, as its line stands in the log, without the line feed.
pub const AUDIT_REPLY_ENTRY: i32 = 3;
/// Text: the id of the entry.
pub const AUDIT_REPLY_ENTRY_ID: i32 = 4;
/// Text, never NULL: the class of the error ("RateLimitError"), as the entry has it; for an
/// error that isn't the call's, the name of the status; "" for a success.
pub const AUDIT_REPLY_ERROR_TYPE: i32 = 5;
/// Text, never NULL: what was wrong, for a person; "" for a success. It can repeat the
/// provider's words, which can repeat the prompt.
pub const AUDIT_REPLY_ERROR_MESSAGE: i32 = 6;
/// Text: why generation stopped ("stop", "length", ...).
pub const AUDIT_REPLY_FINISH_REASON: i32 = 7;
/// Text: the model that answered.
pub const AUDIT_REPLY_MODEL: i32 = 8;
/// Text: the provider that a router chose.
pub const AUDIT_REPLY_PROVIDER: i32 = 9;
/// Text: the provider's name for the answer.
pub const AUDIT_REPLY_GENERATION_ID: i32 = 10;
/// Text: the provider's own class of the error.
pub const AUDIT_REPLY_PROVIDER_ERROR_TYPE: i32 = 11;

/// Number: the status of the last response.
pub const AUDIT_REPLY_HTTP_STATUS: i32 = 101;
/// Number: how far the call came, one of AUDIT_OUTCOME_*.
pub const AUDIT_REPLY_OUTCOME: i32 = 102;
/// Number: tokens of the prompt, as the provider reports them.
pub const AUDIT_REPLY_PROMPT_TOKENS: i32 = 103;
/// Number: tokens of the answer, as the provider reports them.
pub const AUDIT_REPLY_COMPLETION_TOKENS: i32 = 104;
/// Number: milliseconds that the server asks to wait before trying again.
pub const AUDIT_REPLY_RETRY_AFTER_MS: i32 = 105;
/// Number: how often the request was tried.
pub const AUDIT_REPLY_ATTEMPTS: i32 = 106;

/// Number: of an AUDIT_EVENT_DONE, what audit_chat would have returned.
pub const AUDIT_REPLY_STATUS: i32 = 107;
/// Number: which event audit_queue_next took, one of AUDIT_EVENT_*.
pub const AUDIT_REPLY_EVENT: i32 = 108;
/// Number: the tag of the event's call, all 64 bits of it.
pub const AUDIT_REPLY_TAG: i32 = 109;

/// Text was added to an answer, in whole characters.
pub const AUDIT_EVENT_DELTA: i32 = 1;
/// The payload of an event of the server's came, as it was sent: tool calls, reasoning, usage.
pub const AUDIT_EVENT_CHUNK: i32 = 2;
/// A call is over.
pub const AUDIT_EVENT_DONE: i32 = 3;

/// No byte of the request was sent.
pub const AUDIT_OUTCOME_NOT_SENT: i32 = 0;
/// The server answered, be it with an error.
pub const AUDIT_OUTCOME_ANSWERED: i32 = 1;
/// The request, or a part of it, was sent, and no complete answer came: it may have been
/// processed and billed.
pub const AUDIT_OUTCOME_UNKNOWN: i32 = 2;

/// What a callback returns to go on; anything else cancels the call.
pub const AUDIT_CONTINUE: i32 = 1;

/// A flag of AuditRecord: prompt_tokens and completion_tokens are known. Without it they are
/// logged as null.
pub const AUDIT_RECORD_HAS_USAGE: u64 = 1;

/// Writes the entries of one log, and makes calls. Any thread may use it at any time, several at
/// once. Made by audit_logger_new, freed by audit_logger_free.
pub struct AuditLogger(());

/// A call that the host is making itself, begun by audit_logger_begin. Any thread may finish it, by
/// audit_logger_finish, once. It belongs to the process that began it.
pub struct AuditPending(());

/// What a function answers. It has one owner, who frees it with audit_reply_free; reading it from
/// several threads at once is fine until then.
pub struct AuditReply(());

/// Ends calls from outside: from another thread, or from a signal handler. Once triggered it stays
/// so, and ends every call that it was or will be given to. It belongs to the process that made it:
/// after a fork the child makes its own. Made by audit_cancel_new, freed by
/// audit_cancel_free, at any time: calls that run with it go on, and can't be ended by it any more.
pub struct AuditCancel(());

/// Calls that nobody blocks for. Any thread may use it at any time, several at once. It belongs to
/// the process that made it. Made by audit_queue_new, freed by audit_queue_free.
pub struct AuditQueue(());

/// A callback of a streamed call: it is given len bytes of UTF-8 with a NUL after them, valid until
/// the callback returns, and the request's context. It runs on the calling thread, whose signal
/// mask, errno and cancellation are the host's meanwhile. It may call every function but
/// audit_logger_close of the same logger. Returns AUDIT_CONTINUE to go on; anything else cancels the
/// call.
///
/// It may leave audit_chat for good. That cancels the call, whose reply stays NULL. Its entry is
/// written when its thread ends or calls another function that takes a reply, when
/// audit_logger_close ends it (once its own time is over, or the call's, as the entry then says), or
/// when the process exits.
/// So may leave: in C longjmp, pthread_exit and pthread_cancel; in C++ an exception, which comes out
/// of audit_chat; in Go a panic that is recovered; in Ruby an exception or a throw; in LuaJIT an
/// error; in PHP an exception, which is fatal to the script as PHP has it; in Python a daemon thread
/// whose interpreter ends (an exception in a callback only cancels); in Rust a panic of an
/// extern "C-unwind" function. What isn't the library's to help: an exception in a callback ends the
/// whole process in Java's FFM API and in C#.
///
/// A coroutine that has a stack of its own may switch away in a callback and come back. One whose
/// stack is copied away from the thread's (greenlet, and gevent with it) must not: its call is taken
/// for one that was left, and is cancelled.
pub type AuditCallback = Option<
    unsafe extern "C-unwind" fn(text: *const c_char, len: usize, context: *mut c_void) -> i32,
>;

/// A text that is passed in: UTF-8, len bytes, no NUL needed. With data NULL and len 0 it is
/// absent; with data not NULL and len 0 it is empty. It is only read during the call that it is
/// passed to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AuditText {
    /// The first byte.
    pub data: *const c_char,
    /// How many bytes.
    pub len: usize,
}

/// A chat call. Start from AUDIT_CHAT_REQUEST_INIT, so that members of later versions are zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AuditChatRequest {
    /// sizeof(AuditChatRequest).
    pub struct_size: usize,
    /// 0.
    pub flags: u64,
    /// Required: on whose behalf the call is made.
    pub user_id: AuditText,
    /// The user's message. Required, unless params hold "messages".
    pub prompt: AuditText,
    /// A system message before it, or absent.
    pub system: AuditText,
    /// The model; absent for the configured one.
    pub model: AuditText,
    /// A JSON object that goes into the entry and not to the provider, or absent.
    pub metadata: AuditText,
    /// A JSON object of further parameters of the request ("temperature", "tools", ...), or
    /// absent. "messages" stands in place of prompt and system; "model" and "stream" are refused.
    pub params: AuditText,
    /// A JSON object for this call alone, or absent: "timeout_ms", "idle_timeout_ms",
    /// "max_retries", "headers", "api_key"; "traceparent" (W3C) and "session_id", what the call
    /// belongs to, for the entry and as headers.
    pub options: AuditText,
    /// Set: the answer is streamed, and this is called with its text as it comes, in whole
    /// characters. The request then carries "stream": true and, unless params set it (null leaves
    /// it out), "stream_options": {"include_usage": true}.
    pub on_delta: AuditCallback,
    /// Set: the answer is streamed, and this is called with the payload of each event as it was
    /// sent (tool calls, reasoning, usage), before on_delta.
    pub on_chunk: AuditCallback,
    /// Passed to the callbacks.
    pub context: *mut c_void,
    /// Ends the call when it is triggered, or NULL.
    pub cancel: *mut AuditCancel,
}

/// A call that the host makes or made itself. Start from AUDIT_RECORD_INIT. "Required" is what
/// audit_logger_log requires; audit_logger_begin and audit_logger_finish each read a part.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AuditRecord {
    /// sizeof(AuditRecord).
    pub struct_size: usize,
    /// 0, or AUDIT_RECORD_HAS_USAGE.
    pub flags: u64,
    /// What happened; absent for "chat_completion".
    pub event_type: AuditText,
    /// Required: on whose behalf.
    pub user_id: AuditText,
    /// Required: the model.
    pub model: AuditText,
    /// Required, may be empty: only its hash is logged.
    pub prompt: AuditText,
    /// The answer, absent or empty if there was none: only its hash is logged.
    pub response: AuditText,
    /// Tokens of the prompt, 0 or more; see AUDIT_RECORD_HAS_USAGE.
    pub prompt_tokens: i64,
    /// Tokens of the answer, 0 or more.
    pub completion_tokens: i64,
    /// How long the call took, in milliseconds; finite, 0 or more. For audit_logger_finish 0 is the
    /// time since audit_logger_begin.
    pub latency_ms: f64,
    /// Required: "success" or "error".
    pub status: AuditText,
    /// The class of the error; required for "error", absent for "success".
    pub error_type: AuditText,
    /// A JSON object, or absent.
    pub metadata: AuditText,
}
