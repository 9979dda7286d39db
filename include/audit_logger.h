/*
 * audit_logger 0.1.0: LLM calls that each leave exactly one entry in an append-only log.
 *
 * Conventions, for every function:
 *
 *  - A function that can fail returns an AuditStatus and takes, last, an AuditReply ** (but for
 *    audit_cancel_new): the reply carries the answer, or the class and the message of the error.
 *    Nothing is kept per thread, errno is left alone, nothing is ever written to stdout or stderr.
 *  - Out-parameters are written on every return, with NULL where there is nothing.
 *  - Texts go in as AuditText (UTF-8 with a length), come out NUL-terminated with a length, and
 *    belong to the reply they are read from. What the library gave is freed by its own functions.
 *  - A handle that is NULL, freed or of another type is answered with AUDIT_E_HANDLE by functions
 *    that return a status; the others do nothing, or read as if there were no such field. Freeing
 *    while another thread is inside a call is safe.
 *  - Every function may be called from any thread at any time. Calls block the calling thread.
 *  - A panic inside the library becomes AUDIT_E_INTERNAL. A failed allocation aborts.
 *
 * For readers of declarations that know no directives (cffi's and PHP's cdef, LuaJIT's) they are
 * what this leaves: cc -E -P -DAUDIT_CDEF audit_logger.h
 *
 * Which function returns which status, beside AUDIT_OK and AUDIT_E_INTERNAL:
 *
 *                        ARGUMENT    CONFIG      LOG_PENDING CANCELLED   TAMPERED    REENTRANT
 *                              HANDLE      LOG         CALL        TIMEOUT     NOT_FOUND   FORKED
 *  audit_logger_new      x           x     x
 *  audit_logger_flush          x           x                       x
 *  audit_logger_flush_with
 *                        x     x           x                       x    (and AUDIT_E_WITNESS)
 *  audit_logger_close          x           x                       x                 x
 *  audit_logger_stats    x     x           x
 *  audit_logger_hash     x     x
 *  audit_chat            x     x           x     x     x     x                             x
 *  audit_logger_log      x     x           x
 *  audit_logger_begin    x     x           x
 *  audit_logger_finish   x     x                 x                                         x
 *  audit_chat_json       x     x           x     x     x     x                             x
 *  audit_record_json     x     x           x
 *  audit_record_begin_json
 *                        x     x           x
 *  audit_record_finish_json
 *                        x     x                 x                                         x
 *  audit_queue_new       x     x
 *  audit_queue_submit    x     x           x                                               x
 *  audit_queue_next      x     x                                   x                       x
 *  audit_queue_cancel          x                                               x           x
 *  audit_logger_verify   x     x           x                 x           x     x
 *  audit_logger_prove    x                 x                             x     x
 *  audit_logger_maintain x     x     x     x                 x
 *  audit_cancel_new      x
 */
#ifndef AUDIT_LOGGER_H
#define AUDIT_LOGGER_H

#ifndef AUDIT_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

/* This header's version; audit_logger_version has the library's. */
#define AUDIT_LOGGER_VERSION "0.1.0"
#define AUDIT_LOGGER_VERSION_MAJOR 0
#define AUDIT_LOGGER_VERSION_MINOR 1
#define AUDIT_LOGGER_VERSION_PATCH 0

/* A status that is ignored is a failure that nobody notices. Another word can be defined before. */
#ifndef AUDIT_MUST_USE
#if defined(AUDIT_CDEF)
#define AUDIT_MUST_USE
#elif defined(__cplusplus) && __cplusplus >= 201703L
#define AUDIT_MUST_USE [[nodiscard]]
#elif defined(__GNUC__) || defined(__clang__)
#define AUDIT_MUST_USE __attribute__((warn_unused_result))
#else
#define AUDIT_MUST_USE
#endif
#endif

/* AuditChatRequest request = AUDIT_CHAT_REQUEST_INIT; */
#define AUDIT_CHAT_REQUEST_INIT                                                                    \
    {                                                                                              \
        sizeof(AuditChatRequest), 0, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0},        \
            {NULL, 0}, {NULL, 0}, NULL, NULL, NULL, NULL                                           \
    }

/* AuditRecord record = AUDIT_RECORD_INIT; */
#define AUDIT_RECORD_INIT                                                                          \
    {                                                                                              \
        sizeof(AuditRecord), 0, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, 0, 0, 0.0,  \
            {NULL, 0}, {NULL, 0}, {NULL, 0}                                                        \
    }

// Every number of this interface: an int32_t where it is passed or returned, or a flag.
enum {
    // Text: the answer of the model, or the part of it that came before an error; NULL if none
    // came. Of an AUDIT_EVENT_DELTA or AUDIT_EVENT_CHUNK: what came.
    // Of audit_logger_hash: the hash. Of audit_logger_prove: the proof.
    AUDIT_REPLY_CONTENT = 1,

    // Text, JSON: the response's body as received; of a streamed answer, the chat.completion that
    // its chunks add up to. Of audit_logger_new, audit_logger_stats, audit_logger_maintain,
    // audit_logger_verify and audit_logger_prove: what they report. (A body that arrived is here
    // after an error too, even if it isn't JSON.)
    AUDIT_REPLY_JSON = 2,

    // Text, JSON: the entry, as its line stands in the log, without the line feed.
    AUDIT_REPLY_ENTRY = 3,

    // Text: the id of the entry.
    AUDIT_REPLY_ENTRY_ID = 4,

    // Text, never NULL: the class of the error ("RateLimitError"), as the entry has it; for an
    // error that isn't the call's, the name of the status; "" for a success.
    AUDIT_REPLY_ERROR_TYPE = 5,

    // Text, never NULL: what was wrong, for a person; "" for a success. It can repeat the
    // provider's words, which can repeat the prompt.
    AUDIT_REPLY_ERROR_MESSAGE = 6,

    // Text: why generation stopped ("stop", "length", ...).
    AUDIT_REPLY_FINISH_REASON = 7,

    // Text: the model that answered.
    AUDIT_REPLY_MODEL = 8,

    // Text: the provider that a router chose.
    AUDIT_REPLY_PROVIDER = 9,

    // Text: the provider's name for the answer.
    AUDIT_REPLY_GENERATION_ID = 10,

    // Text: the provider's own class of the error.
    AUDIT_REPLY_PROVIDER_ERROR_TYPE = 11,

    // Number: the status of the last response.
    AUDIT_REPLY_HTTP_STATUS = 101,

    // Number: how far the call came, one of AUDIT_OUTCOME_*.
    AUDIT_REPLY_OUTCOME = 102,

    // Number: tokens of the prompt, as the provider reports them.
    AUDIT_REPLY_PROMPT_TOKENS = 103,

    // Number: tokens of the answer, as the provider reports them.
    AUDIT_REPLY_COMPLETION_TOKENS = 104,

    // Number: milliseconds that the server asks to wait before trying again.
    AUDIT_REPLY_RETRY_AFTER_MS = 105,

    // Number: how often the request was tried.
    AUDIT_REPLY_ATTEMPTS = 106,

    // Number: of an AUDIT_EVENT_DONE, what audit_chat would have returned.
    AUDIT_REPLY_STATUS = 107,

    // Number: which event audit_queue_next took, one of AUDIT_EVENT_*.
    AUDIT_REPLY_EVENT = 108,

    // Number: the tag of the event's call, all 64 bits of it.
    AUDIT_REPLY_TAG = 109,

    // Text was added to an answer, in whole characters.
    AUDIT_EVENT_DELTA = 1,

    // The payload of an event of the server's came, as it was sent: tool calls, reasoning, usage.
    AUDIT_EVENT_CHUNK = 2,

    // A call is over.
    AUDIT_EVENT_DONE = 3,

    // No byte of the request was sent.
    AUDIT_OUTCOME_NOT_SENT = 0,

    // The server answered, be it with an error.
    AUDIT_OUTCOME_ANSWERED = 1,

    // The request, or a part of it, was sent, and no complete answer came: it may have been
    // processed and billed.
    AUDIT_OUTCOME_UNKNOWN = 2,

    // What a callback returns to go on; anything else cancels the call.
    AUDIT_CONTINUE = 1,

    // A flag of AuditRecord: prompt_tokens and completion_tokens are known. Without it they are
    // logged as null.
    AUDIT_RECORD_HAS_USAGE = 1,

    // Done.
    AUDIT_OK = 0,

    // An argument can't be used; the message says which and what would be right. Nothing was sent
    // and nothing was logged.
    AUDIT_E_ARGUMENT = -1,

    // The handle is NULL, freed, closed, of another type or, for a cancel, of another process.
    // Nothing was sent and nothing was logged.
    AUDIT_E_HANDLE = -2,

    // The configuration can't be used, or doesn't fit the log that is there (its key, its name, the
    // key of its hashes); the message names the key and what is allowed.
    AUDIT_E_CONFIG = -3,

    // The log can't take an entry, or can't be read. Nothing was sent; trying again is safe.
    AUDIT_E_LOG = -4,

    // The call was made, and the reply holds its answer or its error, but the log could not take
    // its entry: it waits in the journal, and is written as soon as the log can take it, also if
    // the process is killed meanwhile. (With on_log_failure "count" it may be counted instead, and
    // where the journal has no room either it is in memory only: the message says so.)
    AUDIT_E_LOG_PENDING = -5,

    // The chat call failed, and its entry is written.
    AUDIT_E_CALL = -6,

    // The call was cancelled. Of a chat call the entry is written, unless it was cancelled before
    // it began: then nothing was sent, and AUDIT_REPLY_ENTRY is NULL.
    AUDIT_E_CANCELLED = -7,

    // The time given to audit_logger_flush or audit_logger_close ran out, or to audit_queue_next,
    // before there was an event.
    AUDIT_E_TIMEOUT = -8,

    // The log isn't what was sealed: the report of audit_logger_verify says where.
    AUDIT_E_TAMPERED = -9,

    // There is no Merkle log in that directory, no sealed entry with that id, or no call with that
    // tag.
    AUDIT_E_NOT_FOUND = -10,

    // A logger can't be closed from a callback of one of its own calls: it would wait for itself.
    AUDIT_E_REENTRANT = -11,

    // The process was forked in a callback of this call, or since the pending or the queue was
    // made, and this is the child: the call is the parent's, which finishes and logs it. The logger
    // works in the child.
    AUDIT_E_FORKED = -12,

    // A defect of the library, or the process is out of descriptors, handles or threads; the
    // message says which. AUDIT_REPLY_OUTCOME says whether anything was sent.
    AUDIT_E_INTERNAL = -13,

    // The quorum of witnesses hasn't signed the log in time: of audit_logger_flush_with alone. The
    // entries are on the disk and sealed.
    AUDIT_E_WITNESS = -14,
};

// Ends calls from outside: from another thread, or from a signal handler. Once triggered it stays
// so, and ends every call that it was or will be given to. It belongs to the process that made it:
// after a fork the child makes its own. Made by audit_cancel_new, freed by
// audit_cancel_free, at any time: calls that run with it go on, and can't be ended by it any more.
typedef struct AuditCancel AuditCancel;

// Writes the entries of one log, and makes calls. Any thread may use it at any time, several at
// once. Made by audit_logger_new, freed by audit_logger_free.
typedef struct AuditLogger AuditLogger;

// A call that the host is making itself, begun by audit_logger_begin. Any thread may finish it, by
// audit_logger_finish, once. It belongs to the process that began it.
typedef struct AuditPending AuditPending;

// Calls that nobody blocks for. Any thread may use it at any time, several at once. It belongs to
// the process that made it. Made by audit_queue_new, freed by audit_queue_free.
typedef struct AuditQueue AuditQueue;

// What a function answers. It has one owner, who frees it with audit_reply_free; reading it from
// several threads at once is fine until then.
typedef struct AuditReply AuditReply;

// What a function that can fail returns: AUDIT_OK, or one of AUDIT_E_*, all negative. The
// numbers never change.
typedef int32_t AuditStatus;

// A text that is passed in: UTF-8, len bytes, no NUL needed. With data NULL and len 0 it is
// absent; with data not NULL and len 0 it is empty. It is only read during the call that it is
// passed to.
typedef struct AuditText {
    // The first byte.
    const char *data;
    // How many bytes.
    size_t len;
} AuditText;

// A callback of a streamed call: it is given len bytes of UTF-8 with a NUL after them, valid until
// the callback returns, and the request's context. It runs on the calling thread, whose signal
// mask, errno and cancellation are the host's meanwhile. It may call every function but
// audit_logger_close of the same logger. Returns AUDIT_CONTINUE to go on; anything else cancels the
// call.
//
// It may leave audit_chat for good. That cancels the call, whose reply stays NULL. Its entry is
// written when its thread ends or calls another function that takes a reply, when
// audit_logger_close ends it (once its own time is over, or the call's, as the entry then says), or
// when the process exits.
// So may leave: in C longjmp, pthread_exit and pthread_cancel; in C++ an exception, which comes out
// of audit_chat; in Go a panic that is recovered; in Ruby an exception or a throw; in LuaJIT an
// error; in PHP an exception, which is fatal to the script as PHP has it; in Python a daemon thread
// whose interpreter ends (an exception in a callback only cancels); in Rust a panic of an
// extern "C-unwind" function. What isn't the library's to help: an exception in a callback ends the
// whole process in Java's FFM API and in C#.
//
// A coroutine that has a stack of its own may switch away in a callback and come back. One whose
// stack is copied away from the thread's (greenlet, and gevent with it) must not: its call is taken
// for one that was left, and is cancelled.
typedef int32_t (*AuditCallback)(const char *text, size_t len, void *context);

// A chat call. Start from AUDIT_CHAT_REQUEST_INIT, so that members of later versions are zero.
typedef struct AuditChatRequest {
    // sizeof(AuditChatRequest).
    size_t struct_size;
    // 0.
    uint64_t flags;
    // Required: on whose behalf the call is made.
    AuditText user_id;
    // The user's message. Required, unless params hold "messages".
    AuditText prompt;
    // A system message before it, or absent.
    AuditText system;
    // The model; absent for the configured one.
    AuditText model;
    // A JSON object that goes into the entry and not to the provider, or absent.
    AuditText metadata;
    // A JSON object of further parameters of the request ("temperature", "tools", ...), or
    // absent. "messages" stands in place of prompt and system; "model" and "stream" are refused.
    AuditText params;
    // A JSON object for this call alone, or absent: "timeout_ms", "idle_timeout_ms",
    // "max_retries", "headers", "api_key"; "traceparent" (W3C) and "session_id", what the call
    // belongs to, for the entry and as headers.
    AuditText options;
    // Set: the answer is streamed, and this is called with its text as it comes, in whole
    // characters. The request then carries "stream": true and, unless params set it (null leaves
    // it out), "stream_options": {"include_usage": true}.
    AuditCallback on_delta;
    // Set: the answer is streamed, and this is called with the payload of each event as it was
    // sent (tool calls, reasoning, usage), before on_delta.
    AuditCallback on_chunk;
    // Passed to the callbacks.
    void *context;
    // Ends the call when it is triggered, or NULL.
    AuditCancel *cancel;
} AuditChatRequest;

// A call that the host makes or made itself. Start from AUDIT_RECORD_INIT. "Required" is what
// audit_logger_log requires; audit_logger_begin and audit_logger_finish each read a part.
typedef struct AuditRecord {
    // sizeof(AuditRecord).
    size_t struct_size;
    // 0, or AUDIT_RECORD_HAS_USAGE.
    uint64_t flags;
    // What happened; absent for "chat_completion".
    AuditText event_type;
    // Required: on whose behalf.
    AuditText user_id;
    // Required: the model.
    AuditText model;
    // Required, may be empty: only its hash is logged.
    AuditText prompt;
    // The answer, absent or empty if there was none: only its hash is logged.
    AuditText response;
    // Tokens of the prompt, 0 or more; see AUDIT_RECORD_HAS_USAGE.
    int64_t prompt_tokens;
    // Tokens of the answer, 0 or more.
    int64_t completion_tokens;
    // How long the call took, in milliseconds; finite, 0 or more. For audit_logger_finish 0 is the
    // time since audit_logger_begin.
    double latency_ms;
    // Required: "success" or "error".
    AuditText status;
    // The class of the error; required for "error", absent for "success".
    AuditText error_type;
    // A JSON object, or absent.
    AuditText metadata;
} AuditRecord;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Makes a logger: reads the configuration, opens the directory of the log (which it creates if
// it is missing) and proves that it can be written to.
//
// config: a JSON object, NUL-terminated, or NULL for all defaults; docs/configuration.md
// lists the keys.
// The environment is read here and nowhere else (the key, unless the configuration has one, and
// the proxy if "proxy" is "env"; never in a setuid process).
//
// logger: where the handle goes; not NULL. Free it with audit_logger_free.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_JSON is an object: "path" (the log's absolute
// path); "recovered" (calls that a process was killed in, which have their entries now); "torn"
// (torn lines that were written over with spaces, their bytes kept in .state/torn); "warnings"
// (texts: what an operator should know of the directory's rights and files, and that there is no
// API key, which only chat calls need).
//
// Returns AUDIT_OK; AUDIT_E_ARGUMENT (logger is NULL, config isn't UTF-8); AUDIT_E_CONFIG (the
// message names the key and what is allowed); AUDIT_E_LOG (the directory can't be made, opened
// or written to; if only the disk is full, that is a warning with on_log_failure "count");
// AUDIT_E_INTERNAL. On an error *logger is NULL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_new(const char *config,
                             AuditLogger **logger,
                             AuditReply **reply);

// Writes entries that wait, has the disk confirm every entry of this process that was written
// before, and seals them, unless the configuration's "integrity" is false.
//
// logger: from audit_logger_new.
//
// timeout_ms: how long to wait for the disk; negative for no limit. (Where no thread can be made
// to wait in the caller's place, a disk that hangs outlasts it.)
//
// reply: where the reply goes, or NULL.
//
// Returns AUDIT_OK; AUDIT_E_TIMEOUT (not confirmed or sealed yet); AUDIT_E_HANDLE; AUDIT_E_LOG
// (not confirmed, or not sealed: the message says which); AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_flush(AuditLogger *logger,
                               int64_t timeout_ms,
                               AuditReply **reply);

// Flushes, as audit_logger_flush does, with options.
//
// logger: from audit_logger_new.
//
// timeout_ms: how long to wait in all; negative for no limit, and then each witness is asked once.
//
// options: a JSON object, NUL-terminated, or NULL for none. "witnessed" (true or false): shows the
// log's checkpoint to its witnesses at once, and waits until those that the policy of the
// configuration calls a quorum have signed it. With "witness_mode" "best_effort" a quorum that
// isn't complete in that time is no error; with "required" it is.
//
// reply: where the reply goes, or NULL.
//
// Returns AUDIT_OK; AUDIT_E_WITNESS (the entries are on the disk and sealed, and the quorum hasn't
// signed; the message says what each witness came to); AUDIT_E_ARGUMENT (also "witnessed" for a log
// that has no witnesses); and what audit_logger_flush returns. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_flush_with(AuditLogger *logger,
                                    int64_t timeout_ms,
                                    const char *options,
                                    AuditReply **reply);

// Closes a logger: takes no new calls, waits for the running ones, cancels those that are left
// when the time is up (their entries are written), and flushes, as audit_logger_flush does. The
// handle stays valid until it is freed: audit_chat, audit_logger_log and audit_logger_begin answer
// it with AUDIT_E_HANDLE, the others go on. Closing twice is fine.
//
// logger: from audit_logger_new.
//
// timeout_ms: how long to wait for running calls and the disk; negative for no limit. When it's
// over, calls that were told to end and a disk that is just confirming have five more seconds
// each.
//
// reply: where the reply goes, or NULL.
//
// Returns AUDIT_OK; AUDIT_E_TIMEOUT (calls were cancelled, or, as the message says, one or the
// disk doesn't end); AUDIT_E_REENTRANT (from a callback of its own call); AUDIT_E_HANDLE;
// AUDIT_E_LOG (not confirmed or not sealed); AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_close(AuditLogger *logger,
                               int64_t timeout_ms,
                               AuditReply **reply);

// Frees a logger. The handle is invalid at once, for every thread; calls that are running finish,
// and the last one of them releases what the logger holds. NULL and a handle that was freed before
// do nothing. Use audit_logger_close first to wait for running calls and to have the disk confirm
// the log. Entries that still wait because the log can't take them are tried once more; then they
// stay in the journal, for whoever opens the log next. The last one out seals what can be sealed
// within a second or two, and leaves the rest to others.
//
// logger: from audit_logger_new, or NULL. Any thread.
void audit_logger_free(AuditLogger *logger);

// The same as audit_logger_free, by its other name. Both stay.
//
// logger: from audit_logger_new, or NULL. Any thread.
void audit_log_free(AuditLogger *logger);

// Reports the health of a logger in this process.
//
// logger: from audit_logger_new.
//
// reply: where the reply goes; not NULL. AUDIT_REPLY_JSON is an object: "path"; "written", "bytes"
// (entries, and bytes of them); "failed" (times that the log couldn't take one); "gaps" (calls
// that went on without one); "recovered" (entries of calls that a process was killed in); "torn"
// (torn lines mended); "unconfirmed" (times that the disk refused to confirm); "altered" (lines
// that somebody changed before they were sealed); "pending" (entries that wait); "in_memory_only"
// (those of them that a kill would lose); "last_error" (null, or {"time", "message"}); "integrity"
// (where the logger seals: "origin", and once it has, "size" of the tree and "sealed_at");
// "witnesses" (where it has some: "size" and "witnessed_at" of what the quorum signed last; "each":
// "name", "size" and "cosigned_at" of what it signed last, "failures" since, the last "error" or
// null, and "disputes": whether it has seen more of the log than there is, or another tree);
// "running" (calls, those that wait in a queue among them); "threads_refused" (times that a queue's
// call found no thread, and waits for another's); "warnings" (texts). Alarm on pending, gaps,
// unconfirmed and altered, on failed when it grows, and on a sealed_at that stays behind while
// entries are written. Numbers are of this process since its first use; .state/health.json has the
// counters, "pending" and "last_error" for the directory.
//
// Returns AUDIT_OK; AUDIT_E_ARGUMENT; AUDIT_E_HANDLE; AUDIT_E_LOG (out of descriptors);
// AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_stats(AuditLogger *logger,
                               AuditReply **reply);

// Says what the log shows for a text, to find the entries of a known prompt or answer: its
// SHA-256, or, if the configuration sets hash_key_file, its HMAC-SHA256 with that key.
//
// logger: from audit_logger_new.
//
// text, len: UTF-8 or any other bytes. NULL with 0 is the empty text.
//
// reply: where the reply goes; not NULL. AUDIT_REPLY_CONTENT: 64 hexadecimal digits.
//
// Returns AUDIT_OK; AUDIT_E_ARGUMENT; AUDIT_E_HANDLE; AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_hash(AuditLogger *logger,
                              const char *text,
                              size_t len,
                              AuditReply **reply);

// Makes a request what AUDIT_CHAT_REQUEST_INIT makes it, for languages that have no macros of C.
//
// request: what is set; NULL does nothing.
//
// size: sizeof(AuditChatRequest), as the caller knows it. Any thread.
void audit_chat_request_init(AuditChatRequest *request, size_t size);

// Makes a chat call, and leaves exactly one entry for it. Blocks until the answer or the error
// is there and the entry is written, at most about timeout_ms (a disk that hangs, or a callback,
// can take longer). Failures that may pass are tried again within that time.
//
// logger: from audit_logger_new.
//
// request: what to ask; not NULL, and started from AUDIT_CHAT_REQUEST_INIT.
//
// reply: where the reply goes; not NULL, for the paid answer would be lost. It is set on every
// return, so free it in every case. AUDIT_REPLY_CONTENT is the answer; ENTRY and ENTRY_ID the
// entry; JSON the response's body; ERROR_TYPE and ERROR_MESSAGE what went wrong. After an error it
// holds what came before it.
//
// Returns AUDIT_OK; AUDIT_E_CALL (the call failed: see ERROR_TYPE); AUDIT_E_CANCELLED (by a
// callback, request->cancel or audit_logger_close; if that was triggered before the call began,
// nothing was sent and nothing logged); AUDIT_E_LOG_PENDING (made, but its entry waits); and, with
// nothing sent and nothing logged, AUDIT_E_ARGUMENT, AUDIT_E_HANDLE, AUDIT_E_LOG. AUDIT_E_FORKED:
// only in a child that was forked in a callback. AUDIT_E_INTERNAL: see AUDIT_REPLY_OUTCOME. Any
// thread; it needs 128 KiB of stack.
AUDIT_MUST_USE
AuditStatus audit_chat(AuditLogger *logger,
                       const AuditChatRequest *request,
                       AuditReply **reply);

// Makes a record what AUDIT_RECORD_INIT makes it, for languages that have no macros of C.
//
// record: what is set; NULL does nothing.
//
// size: sizeof(AuditRecord), as the caller knows it. Any thread.
void audit_record_init(AuditRecord *record, size_t size);

// Logs a call that the host made itself: one entry, appended before this returns.
//
// logger: from audit_logger_new.
//
// record: what to log; not NULL, and started from AUDIT_RECORD_INIT. The prompt and the response
// are hashed and not kept.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
//
// Returns AUDIT_OK; AUDIT_E_ARGUMENT, AUDIT_E_HANDLE, AUDIT_E_LOG (nothing was logged; trying
// again is safe); AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_log(AuditLogger *logger,
                             const AuditRecord *record,
                             AuditReply **reply);

// Begins a call that the host makes itself, with a client of its own: writes down that it's about
// to be made. From then on it has exactly one entry: the one that audit_logger_finish writes, or,
// if the process ends before, one with the error_type "OutcomeUnknown". Make the call only if this
// returns AUDIT_OK.
//
// logger: from audit_logger_new.
//
// record: what is asked: event_type, user_id, model, prompt and metadata are read, as
// audit_logger_log reads them; the others aren't. Not NULL, and started from AUDIT_RECORD_INIT.
// The prompt is hashed and not kept.
//
// pending: where the handle goes; not NULL. audit_logger_finish takes it back. As long as it isn't
// finished, audit_logger_close waits for it.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY_ID: the id that the entry will have.
//
// Returns AUDIT_OK; AUDIT_E_ARGUMENT, AUDIT_E_HANDLE, AUDIT_E_LOG (the call must not be made;
// trying again is safe); AUDIT_E_INTERNAL. On an error *pending is NULL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_begin(AuditLogger *logger,
                               const AuditRecord *record,
                               AuditPending **pending,
                               AuditReply **reply);

// Finishes a call that audit_logger_begin began: writes its entry. Consumes pending, whatever it
// returns but AUDIT_E_ARGUMENT: then nothing is written, and it can be called again.
//
// pending: from audit_logger_begin. Its logger may be freed or closed meanwhile.
//
// record: what came of it: response, prompt_tokens and completion_tokens, latency_ms (0: the time
// since the call was begun), status and error_type are read, as audit_logger_log reads them; and
// metadata, which replace those of the beginning if they are present. Not NULL, and started from
// AUDIT_RECORD_INIT. The response is hashed and not kept.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
//
// Returns AUDIT_OK; AUDIT_E_LOG_PENDING (the entry waits in the journal); AUDIT_E_ARGUMENT;
// AUDIT_E_HANDLE (also when it was finished before); AUDIT_E_FORKED (in a child that was forked
// after the beginning: the call is the parent's); AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_finish(AuditPending *pending,
                                const AuditRecord *record,
                                AuditReply **reply);

// Makes a chat call, as audit_chat does, of a request that is one JSON text.
//
// logger: from audit_logger_new.
//
// request, len: a JSON object, UTF-8, len bytes (schema/request.json is its schema). "user_id" is
// required; "prompt", "system" and "model" are strings, "metadata", "params" and "options" objects,
// each as in AuditChatRequest. "stream": true has the answer streamed, so that idle_timeout_ms
// bounds its silences; the reply holds the whole. A member that is null is absent.
//
// cancel: ends the call when it is triggered, or NULL.
//
// reply: where the reply goes, as audit_chat's; not NULL.
//
// Returns AUDIT_OK, and otherwise what audit_chat returns. Any thread; it needs 128 KiB of stack.
AUDIT_MUST_USE
AuditStatus audit_chat_json(AuditLogger *logger,
                            const char *request,
                            size_t len,
                            AuditCancel *cancel,
                            AuditReply **reply);

// Logs a call that the host made itself, as audit_logger_log does, of a record that is one JSON
// text.
//
// logger: from audit_logger_new.
//
// record, len: a JSON object, UTF-8, len bytes (schema/record.json is its schema): the members of
// AuditRecord by their names, "metadata" an object. "prompt_tokens" and "completion_tokens" are set
// both or neither. A member that is null is absent.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
//
// Returns AUDIT_OK, and otherwise what audit_logger_log returns. Any thread.
AUDIT_MUST_USE
AuditStatus audit_record_json(AuditLogger *logger,
                              const char *record,
                              size_t len,
                              AuditReply **reply);

// Begins a call that the host makes itself, as audit_logger_begin does, of a record that is one
// JSON text.
//
// logger: from audit_logger_new.
//
// record, len: as for audit_record_json; what audit_logger_begin reads is read.
//
// pending: where the handle goes; not NULL. audit_record_finish_json or audit_logger_finish takes
// it back.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY_ID: the id that the entry will have.
//
// Returns AUDIT_OK, and otherwise what audit_logger_begin returns. Any thread.
AUDIT_MUST_USE
AuditStatus audit_record_begin_json(AuditLogger *logger,
                                    const char *record,
                                    size_t len,
                                    AuditPending **pending,
                                    AuditReply **reply);

// Finishes a call that was begun by audit_record_begin_json or audit_logger_begin, as
// audit_logger_finish does, of a record that is one JSON text.
//
// pending: from either of them.
//
// record, len: as for audit_record_json; what audit_logger_finish reads is read.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_ENTRY and AUDIT_REPLY_ENTRY_ID: the entry.
//
// Returns AUDIT_OK, and otherwise what audit_logger_finish returns. Any thread.
AUDIT_MUST_USE
AuditStatus audit_record_finish_json(AuditPending *pending,
                                     const char *record,
                                     size_t len,
                                     AuditReply **reply);

// Makes a queue: for chat calls that nobody blocks for. Threads of the library's own make them,
// all signals blocked, one for each call that runs; what they have to tell waits as events, which
// audit_queue_next takes.
//
// logger: from audit_logger_new. The queue keeps what it stands for: the handles may be freed in
// either order. Once audit_logger_close was called, nothing can be submitted any more, and it waits
// for the queue's calls as for others.
//
// options: a JSON object, NUL-terminated, or NULL for all defaults. "running" (64; 1 to 4,096): how
// many calls run at once; the rest waits in order. "event_bytes" (4,194,304; 1,024 to 2^30): how
// much may wait to be taken; while it does, no call is begun, and none that streams reads on, so
// that the server waits too. (Calls that run and don't stream may add their answers.) Each call
// that runs takes a descriptor beside its connection.
//
// queue: where the handle goes; not NULL. Free it with audit_queue_free.
//
// reply: where the reply goes, or NULL.
//
// Returns AUDIT_OK; AUDIT_E_ARGUMENT; AUDIT_E_HANDLE; AUDIT_E_INTERNAL. On an error *queue is NULL.
// Any thread.
AUDIT_MUST_USE
AuditStatus audit_queue_new(AuditLogger *logger,
                            const char *options,
                            AuditQueue **queue,
                            AuditReply **reply);

// Submits a chat call, and returns at once. It has the life, the limits and the entry of a call by
// audit_chat; timeout_ms counts from here. If its time is over, or it is cancelled, before it could
// begin, its entry says that nothing was sent ("not_sent").
//
// queue: from audit_queue_new.
//
// request, len: as for audit_chat_json, and "stream": true has AUDIT_EVENT_DELTA events come,
// "chunks" AUDIT_EVENT_CHUNK ones, "all" both. All that it needs is copied.
//
// tag: comes back with each event of the call, which another thread may take, AUDIT_EVENT_DONE
// too, before this returns. No two calls have the same at once; it is free again when
// AUDIT_EVENT_DONE was taken.
//
// reply: where the reply goes, or NULL.
//
// Returns AUDIT_OK: one AUDIT_EVENT_DONE will come, unless the queue is freed before. Otherwise
// nothing was sent and nothing logged, and no event comes: AUDIT_E_ARGUMENT; AUDIT_E_HANDLE (also
// of a closed logger); AUDIT_E_FORKED (in a child, of its parent's queue); AUDIT_E_LOG (out of
// descriptors); AUDIT_E_INTERNAL (no thread can be made, and none is there). Any thread.
AUDIT_MUST_USE
AuditStatus audit_queue_submit(AuditQueue *queue,
                               const char *request,
                               size_t len,
                               uint64_t tag,
                               AuditReply **reply);

// Takes the next event. Those of one call come in order, AUDIT_EVENT_DONE last.
//
// queue: from audit_queue_new.
//
// timeout_ms: how long to wait for one; 0 for not at all, negative for no limit.
//
// reply: where the reply goes; not NULL. AUDIT_REPLY_EVENT is one of AUDIT_EVENT_*, AUDIT_REPLY_TAG
// the call's. Of AUDIT_EVENT_DELTA and AUDIT_EVENT_CHUNK, AUDIT_REPLY_CONTENT is the text; of
// AUDIT_EVENT_DONE, AUDIT_REPLY_STATUS is what audit_chat would have returned, and the rest what
// its reply would have.
//
// Returns AUDIT_OK (an event, whatever came of its call); AUDIT_E_TIMEOUT (none in that time);
// AUDIT_E_ARGUMENT; AUDIT_E_HANDLE (also when the queue is freed meanwhile); AUDIT_E_FORKED;
// AUDIT_E_INTERNAL. Any thread; each event is given once.
AUDIT_MUST_USE
AuditStatus audit_queue_next(AuditQueue *queue,
                             int64_t timeout_ms,
                             AuditReply **reply);

// A descriptor that is readable while events wait, for poll, epoll and what stands on them (libuv,
// asyncio). It's the queue's: not to be read, written or closed. Take events until AUDIT_E_TIMEOUT
// with timeout_ms 0, or one for each time it's readable.
//
// queue: from audit_queue_new.
//
// Returns the descriptor, the same each time; -1 if there is no such queue in this process, or no
// descriptor is left. Any thread.
int32_t audit_queue_fd(const AuditQueue *queue);

// Ends a call, as a cancel does: within 100 ms its AUDIT_EVENT_DONE comes.
//
// queue: from audit_queue_new.
//
// tag: the call's.
//
// reply: where the reply goes, or NULL.
//
// Returns AUDIT_OK (it may end otherwise all the same: an answer may have come just before);
// AUDIT_E_NOT_FOUND (there is none, or its end waits to be taken); AUDIT_E_HANDLE; AUDIT_E_FORKED;
// AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_queue_cancel(AuditQueue *queue,
                               uint64_t tag,
                               AuditReply **reply);

// Frees a queue. Its calls are cancelled, those that wait too, and each has its entry when this
// returns; a disk that hangs is waited for no longer than 5 seconds. Events that weren't taken are
// gone. Who waits in audit_queue_next gets AUDIT_E_HANDLE. NULL and a queue that was freed before
// do nothing; in a child of fork its parent's goes on.
//
// queue: from audit_queue_new, or NULL. Any thread.
void audit_queue_free(AuditQueue *queue);

// Verifies the log in a directory: every line against its digest, every digest against the tree,
// the tree against the signed checkpoint. Reads only: it takes no lock, needs no right but
// reading, and works on a copy, and on a log that is being written or maintained. It takes at most
// 64 MiB, whatever lies there. A thread of its own helps it, and has ended when it returns.
//
// path: the directory of the log, NUL-terminated; not NULL.
//
// options: a JSON object, NUL-terminated, or NULL: "vkey" (the public key's text) or "vkey_file"
// (a file with it), without which the one in the directory is taken on faith; "guard_file" (the
// guard, which knows how far the log had come); "checkpoints" (an array of paths: files with
// checkpoints that were kept); "policy_file" (a policy in the form of C2SP tlog-policy: the log's
// key, and whose signatures are asked for); "copy" (true: the directory is a copy that was taken
// file by file while the log was written, .integrity in any order and then the days' files. It's
// verified up to the last checkpoint that it has all entries of; "beyond" counts those behind it
// that are known of).
//
// cancel: ends it when it is triggered, or NULL.
//
// reply: where the reply goes, or NULL. With AUDIT_OK and AUDIT_E_TAMPERED, AUDIT_REPLY_JSON is
// the report, an object: "intact"; "grade" (how much the verdict is worth: "self-attested" or
// "signed", or "witnessed, as of" a time if the policy's quorum has signed it, and "remembered" if
// a guard or a kept checkpoint was compared); "witnessed" (then: "size", "as_of", "in_future",
// "witnesses": their names); "origin", "size" and
// "root" of the tree; "files" and "lines" that are as they were sealed, "unsealed_lines" and what
// else was counted; "timestamps" ("count": how many are kept; "checked": false, for only their
// checkpoints are compared with the tree here. Who made them, and so since when entries have
// existed, isn't asked: `audit-logger verify --tsa-cert` does that); "begun" and "last_record"
// (when the tree was begun, and grew last);
// "finding_count" and "findings" (at most 20 of a file and 100 in all: "class", "file", "line",
// "message"); "cannot_detect" (texts: what this verification could not have seen). Classes are
// "edited", "deleted", "inserted", "reordered", "torn" (a sealed line was cut), "missing" (a file
// is gone), "rolled_back" (the tree is older than what is known of it, or another), "tree" (its
// parts don't fit), "forged" (not signed by the key), "unreadable" (damaged, or no plain file; the
// rest is verified), "returned" (a file that retention had removed), "twin" (a compressed file
// beside the plain one that holds something else), "unwitnessed" (the policy's quorum has signed no
// checkpoint). What is no finding is reported beside them:
// "strangers" (names like those of the log's files that aren't theirs, at most 32, and
// "stranger_count"); "unreadable" (files of which nothing was sealed) and "conflicts" (lines that
// aren't sealed and have a sealed entry's id, which counts), at most 32 of "file" and "message"
// each; "prunable" (files that retention has given up and that are still there, as they were);
// "holds" (the days that audit-logger hold keeps: "hold", "since", "from", "to", "reason").
//
// Returns AUDIT_OK (nothing is wrong); AUDIT_E_TAMPERED (something is: the message names the
// first); AUDIT_E_NOT_FOUND (there is no Merkle log; where a key is given, that is
// AUDIT_E_TAMPERED); AUDIT_E_LOG (the directory can't be read); AUDIT_E_ARGUMENT (the message
// names the option); AUDIT_E_HANDLE (cancel); AUDIT_E_CANCELLED; AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_verify(const char *path,
                                const char *options,
                                AuditCancel *cancel,
                                AuditReply **reply);

// Proves one entry: that its line is in the log that a key signs, with nothing else of the log
// shown. Reads only, as audit_logger_verify does.
//
// path: the directory of the log, NUL-terminated; not NULL.
//
// entry_id: the entry's id, NUL-terminated; not NULL.
//
// options: a JSON object, NUL-terminated, or NULL: "vkey" (the public key's text) or "vkey_file"
// (a file with it), without which the one in the directory is taken; "line" (the entry's line, as
// a text) or "timestamp" (as it stands in the entry), with which it's found at once. With the id
// alone the files are read from the newest back until it's found, which takes as long as reading
// them does.
//
// reply: where the reply goes; not NULL. AUDIT_REPLY_ENTRY: the line, as it was sealed.
// AUDIT_REPLY_CONTENT: the proof, the text of a .tlog-proof file (C2SP). AUDIT_REPLY_JSON: an
// object, "file" (the line's) and "index" (its place in the tree).
//
// Returns AUDIT_OK; AUDIT_E_NOT_FOUND (no sealed entry has that id: the message says whether one
// is there that isn't sealed, and which files couldn't be read; or there is no Merkle log);
// AUDIT_E_TAMPERED (the tree isn't what was signed); AUDIT_E_LOG (the log can't be read);
// AUDIT_E_ARGUMENT; AUDIT_E_INTERNAL. Any thread.
AUDIT_MUST_USE
AuditStatus audit_logger_prove(const char *path,
                               const char *entry_id,
                               const char *options,
                               AuditReply **reply);

// Looks after the days of a log that are over: compresses them, and removes those that have
// expired. Nothing else ever does. Today and yesterday (UTC) stay as they are. It needs no logger,
// and may run beside any: from cron or a timer, say once a day, as the user that the service runs
// as.
//
// First what killed processes left is made whole, as audit_logger_new does it. Then expired days
// are marked, and those removed that an earlier run, at least 24 hours ago, marked: a clock that
// is wrong once removes nothing. Then days are compressed, audit_D.jsonl to audit_D.jsonl.gz,
// which never replaces a file, and is read back before the plain one is removed. A run that is
// killed is completed by the next.
//
// path: the log's directory, NUL-terminated; not NULL. It isn't created.
//
// options: a JSON object, NUL-terminated, or NULL for none of these: "retention_days" (a day
// expires when it has been over for so many days, 1 to 36500; without it none does); "below_floor"
// (true where that is meant to be less than 183: six months, which laws ask of some logs at
// least); "compress_after_days" (as "retention_days"; without it none is compressed); "key_file"
// and "guard_file", as the configuration's "integrity" has them, and "allow_network_filesystem":
// give what the loggers are given. The days that are over are sealed first, if the log is; a file
// that isn't sealed to its end is skipped.
//
// cancel: ends the run when it is triggered, or NULL. What was done by then stays done.
//
// reply: where the reply goes, or NULL. AUDIT_REPLY_JSON is an object: "path", "recovered", "torn"
// and "warnings" as audit_logger_new has them; "marked" (expired days that wait to be removed:
// {"day", "since"}); "held" (files of expired days that audit-logger hold keeps); "deleted" and
// "compressed" (names of files); "skipped" (files that should have been one of these: {"file",
// "reason"}). It is there also when a file failed and after cancelling.
//
// Returns AUDIT_OK (also if files were skipped: their "reason" says why); AUDIT_E_ARGUMENT (also
// "retention_days" below 183 without "below_floor"); AUDIT_E_HANDLE (cancel); AUDIT_E_CONFIG (the
// log is sealed with a key or a guard that isn't given, or the guard can't be used: nothing was
// done); AUDIT_E_LOG (the directory isn't a log's or can't be written to or sealed, another
// process holds its lock for ten seconds, or a file failed: the rest was done; or there were
// holds, and the Merkle log tells of none: nothing was removed); AUDIT_E_CANCELLED;
// AUDIT_E_INTERNAL. Any thread; no logger of this process is disturbed.
AUDIT_MUST_USE
AuditStatus audit_logger_maintain(const char *path,
                                  const char *options,
                                  AuditCancel *cancel,
                                  AuditReply **reply);

// Reads a text field of a reply.
//
// reply: what a function gave, or NULL.
//
// field: AUDIT_REPLY_CONTENT to AUDIT_REPLY_PROVIDER_ERROR_TYPE.
//
// len: where the length without the NUL goes (a text may hold NULs of its own), or NULL.
//
// Returns the text, NUL-terminated UTF-8 (AUDIT_REPLY_JSON: the bytes that came), valid until the
// reply is freed; NULL if the reply has no such field. ERROR_TYPE and ERROR_MESSAGE are never NULL,
// also for a reply that is NULL or freed. Any thread.
const char *audit_reply_text(const AuditReply *reply, int32_t field, size_t *len);

// Reads a number field of a reply.
//
// reply: what a function gave, or NULL.
//
// field: AUDIT_REPLY_HTTP_STATUS to AUDIT_REPLY_TAG.
//
// Returns the number, or -1 if it isn't known. Any thread.
int64_t audit_reply_int(const AuditReply *reply, int32_t field);

// Frees a reply and its texts. NULL and a reply that was freed before do nothing.
//
// reply: what a function gave, or NULL. Any thread.
void audit_reply_free(AuditReply *reply);

// Makes something that can end calls: give it to any number of them in AuditChatRequest.cancel.
//
// cancel: where the handle goes; not NULL. Free it with audit_cancel_free.
//
// Returns AUDIT_OK; AUDIT_E_ARGUMENT (cancel is NULL); AUDIT_E_INTERNAL (out of file descriptors:
// each takes one). On an error *cancel is NULL. Any thread.
AUDIT_MUST_USE AuditStatus audit_cancel_new(AuditCancel **cancel);

// Ends the calls that it was given to, and all that it will be given to: each returns
// AUDIT_E_CANCELLED within 100 ms (but for the time that a callback or a hanging disk takes). NULL
// and one that was freed do nothing.
//
// cancel: from audit_cancel_new, or NULL. Any thread, and signal handlers.
void audit_cancel_trigger(AuditCancel *cancel);

// Frees it. Calls that run with it go on. NULL and one that was freed before do nothing.
//
// cancel: from audit_cancel_new, or NULL. Any thread.
void audit_cancel_free(AuditCancel *cancel);

// Makes a text of a NUL-terminated string.
//
// s: the string, which the text points to; or NULL.
//
// Returns the text; for NULL an absent one. Any thread.
AuditText audit_text(const char *s);

// Writes a text as a JSON string, quotes included, so that no host builds metadata or params by
// hand. It can't fail.
//
// out, size: where at most size bytes go, a NUL included; NULL with 0 to ask for the length.
//
// text, len: any bytes; what isn't UTF-8 becomes U+FFFD. NULL with 0 is the empty text.
//
// Returns the length without the NUL that the whole string has, like snprintf: if that is size or
// more, it was cut. 0 for a length that can't be (more than PTRDIFF_MAX). Any thread.
size_t audit_json_quote(char *out, size_t size, const char *text, size_t len);

// Names a status.
//
// status: any number.
//
// Returns its name as this header spells it ("AUDIT_E_ARGUMENT"), or "AUDIT_E_UNKNOWN". Valid for
// ever. Any thread.
const char *audit_status_name(AuditStatus status);

// Names the library's version.
//
// Returns it, as AUDIT_LOGGER_VERSION has it for the header. Valid for ever. Any thread.
const char *audit_logger_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif /* AUDIT_LOGGER_H */
