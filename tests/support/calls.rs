//! The C functions, called from Rust as a C host calls them.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use audit_logger::ffi::*;

/// A text as the C interface takes it.
pub fn text(text: &str) -> AuditText {
    AuditText {
        data: text.as_ptr().cast(),
        len: text.len(),
    }
}

pub const ABSENT: AuditText = AuditText {
    data: ptr::null(),
    len: 0,
};

/// AUDIT_CHAT_REQUEST_INIT.
pub fn chat_request() -> AuditChatRequest {
    AuditChatRequest {
        struct_size: size_of::<AuditChatRequest>(),
        flags: 0,
        user_id: ABSENT,
        prompt: ABSENT,
        system: ABSENT,
        model: ABSENT,
        metadata: ABSENT,
        params: ABSENT,
        options: ABSENT,
        on_delta: None,
        on_chunk: None,
        context: ptr::null_mut(),
        cancel: ptr::null_mut(),
    }
}

/// AUDIT_RECORD_INIT, with what is required.
pub fn record() -> AuditRecord {
    AuditRecord {
        struct_size: size_of::<AuditRecord>(),
        flags: AUDIT_RECORD_HAS_USAGE,
        event_type: ABSENT,
        user_id: text("user-1"),
        model: text("openai/gpt-4-turbo"),
        prompt: text("prompt"),
        response: text("response"),
        prompt_tokens: 5,
        completion_tokens: 7,
        latency_ms: 12.5,
        status: text("success"),
        error_type: ABSENT,
        metadata: ABSENT,
    }
}

/// A status and the reply that came with it.
pub struct Answer {
    pub status: AuditStatus,
    pub reply: *mut AuditReply,
}

impl Answer {
    pub fn text(&self, field: i32) -> Option<&str> {
        let mut len = 0;
        // SAFETY: the length is a local; the text lives as long as the reply.
        let text = unsafe { audit_reply_text(self.reply, field, &raw mut len) };
        if text.is_null() {
            return None;
        }
        let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len + 1) };
        assert_eq!(bytes[len], 0, "field {field} doesn't end with a NUL");
        Some(std::str::from_utf8(&bytes[..len]).expect("replies are UTF-8"))
    }

    pub fn int(&self, field: i32) -> i64 {
        audit_reply_int(self.reply, field)
    }

    pub fn error_type(&self) -> &str {
        self.text(AUDIT_REPLY_ERROR_TYPE).expect("never NULL")
    }

    pub fn message(&self) -> &str {
        self.text(AUDIT_REPLY_ERROR_MESSAGE).expect("never NULL")
    }

    /// The entry, read.
    pub fn entry(&self) -> serde_json::Value {
        let entry = self.text(AUDIT_REPLY_ENTRY).expect("the call has an entry");
        serde_json::from_str(entry).expect("an entry is JSON")
    }

    #[track_caller]
    pub fn expect(self, status: AuditStatus) -> Answer {
        let name = |status| unsafe { CStr::from_ptr(audit_status_name(status)) };
        assert_eq!(
            self.status,
            status,
            "{:?} instead of {:?}: {}: {}",
            name(self.status),
            name(status),
            self.error_type(),
            self.message()
        );
        self
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        audit_reply_free(self.reply);
    }
}

/// A queue, freed when dropped.
pub struct Queue(pub *mut AuditQueue);

// A handle may be used by any thread.
unsafe impl Send for Queue {}
unsafe impl Sync for Queue {}

impl Queue {
    pub fn try_new(logger: &Logger, options: &str) -> Result<Queue, Answer> {
        let options = CString::new(options).expect("no NUL");
        let (mut queue, mut reply) = (ptr::null_mut(), ptr::null_mut());
        let status =
            unsafe { audit_queue_new(logger.0, options.as_ptr(), &raw mut queue, &raw mut reply) };
        let answer = Answer { status, reply };
        if status == AUDIT_OK {
            Ok(Queue(queue))
        } else {
            Err(answer)
        }
    }

    #[track_caller]
    pub fn new(logger: &Logger, options: &serde_json::Value) -> Queue {
        match Queue::try_new(logger, &options.to_string()) {
            Ok(queue) => queue,
            Err(answer) => panic!("{}: {}", answer.error_type(), answer.message()),
        }
    }

    pub fn submit(&self, request: &serde_json::Value, tag: u64) -> Answer {
        let (text, mut reply) = (request.to_string(), ptr::null_mut());
        let (data, len) = (text.as_ptr().cast(), text.len());
        let status = unsafe { audit_queue_submit(self.0, data, len, tag, &raw mut reply) };
        Answer { status, reply }
    }

    pub fn next(&self, timeout_ms: i64) -> Answer {
        let mut reply = ptr::null_mut();
        let status = unsafe { audit_queue_next(self.0, timeout_ms, &raw mut reply) };
        Answer { status, reply }
    }

    pub fn cancel(&self, tag: u64) -> Answer {
        let mut reply = ptr::null_mut();
        let status = unsafe { audit_queue_cancel(self.0, tag, &raw mut reply) };
        Answer { status, reply }
    }

    pub fn free(&self) {
        audit_queue_free(self.0);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.free();
    }
}

/// A logger, freed when dropped.
pub struct Logger(pub *mut AuditLogger);

// A handle may be used by any thread.
unsafe impl Send for Logger {}
unsafe impl Sync for Logger {}

impl Logger {
    pub fn try_new(config: &str) -> Result<Logger, Answer> {
        let config = CString::new(config).expect("no NUL");
        let (mut logger, mut reply) = (ptr::null_mut(), ptr::null_mut());
        let status = unsafe { audit_logger_new(config.as_ptr(), &raw mut logger, &raw mut reply) };
        let answer = Answer { status, reply };
        if status == AUDIT_OK {
            Ok(Logger(logger))
        } else {
            Err(answer)
        }
    }

    #[track_caller]
    pub fn new(config: &serde_json::Value) -> Logger {
        match Logger::try_new(&config.to_string()) {
            Ok(logger) => logger,
            Err(answer) => panic!("{}: {}", answer.error_type(), answer.message()),
        }
    }

    pub fn chat(&self, request: &AuditChatRequest) -> Answer {
        let mut reply = ptr::null_mut();
        let status = unsafe { audit_chat(self.0, request, &raw mut reply) };
        Answer { status, reply }
    }

    /// An ordinary call.
    pub fn ask(&self, prompt: &str) -> Answer {
        self.chat(&AuditChatRequest {
            user_id: text("user-1"),
            prompt: text(prompt),
            ..chat_request()
        })
    }

    pub fn log(&self, record: &AuditRecord) -> Answer {
        let mut reply = ptr::null_mut();
        let status = unsafe { audit_logger_log(self.0, record, &raw mut reply) };
        Answer { status, reply }
    }

    pub fn flush(&self) -> Answer {
        let mut reply = ptr::null_mut();
        let status = unsafe { audit_logger_flush(self.0, -1, &raw mut reply) };
        Answer { status, reply }
    }

    pub fn flush_with(&self, timeout_ms: i64, options: &str) -> Answer {
        let options = CString::new(options).expect("no NUL");
        let mut reply = ptr::null_mut();
        // SAFETY: the text and the reply are locals.
        let status = unsafe {
            audit_logger_flush_with(self.0, timeout_ms, options.as_ptr(), &raw mut reply)
        };
        Answer { status, reply }
    }

    pub fn close(&self, timeout_ms: i64) -> Answer {
        let mut reply = ptr::null_mut();
        let status = unsafe { audit_logger_close(self.0, timeout_ms, &raw mut reply) };
        Answer { status, reply }
    }

    pub fn stats(&self) -> serde_json::Value {
        let mut reply = ptr::null_mut();
        let status = unsafe { audit_logger_stats(self.0, &raw mut reply) };
        let answer = Answer { status, reply }.expect(AUDIT_OK);
        let json = answer
            .text(AUDIT_REPLY_JSON)
            .expect("stats answer with JSON");
        serde_json::from_str(json).expect("stats are JSON")
    }

    pub fn hash(&self, bytes: &[u8]) -> Answer {
        let (mut reply, data) = (ptr::null_mut(), bytes.as_ptr().cast::<c_char>());
        let status = unsafe { audit_logger_hash(self.0, data, bytes.len(), &raw mut reply) };
        Answer { status, reply }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        audit_log_free(self.0);
    }
}

/// What audit_logger_verify finds: the reply's report.
pub fn verified(
    log: &std::path::Path,
    options: &serde_json::Value,
) -> (AuditStatus, serde_json::Value) {
    let path = CString::new(log.to_str().expect("UTF-8")).expect("no NUL");
    let options = CString::new(options.to_string()).expect("no NUL");
    let mut reply = ptr::null_mut();
    // SAFETY: the texts and the reply are locals.
    let status = unsafe {
        audit_logger_verify(
            path.as_ptr(),
            options.as_ptr(),
            ptr::null_mut(),
            &raw mut reply,
        )
    };
    let answer = Answer { status, reply };
    let report = answer.text(AUDIT_REPLY_JSON).map(serde_json::from_str);
    let report = report.unwrap_or_else(|| panic!("no report: {}", answer.message()));
    (status, report.expect("a report is JSON"))
}
