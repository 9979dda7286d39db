//! The C interface, and nothing else: each function checks what the host passed, calls one thing,
//! and hands out what came of it. A file for each handle; the header has their functions in the
//! order that build.rs names the files in.
#![allow(unsafe_code)]

mod boundary;
mod cancel;
mod chat;
mod handle;
mod json;
mod logger;
mod maintain;
mod queue;
mod record;
mod reply;
mod talk;
mod text;
mod types;
mod verify;

pub use cancel::{audit_cancel_free, audit_cancel_new, audit_cancel_trigger};
pub use chat::{audit_chat, audit_chat_request_init};
pub use json::{
    audit_chat_json, audit_record_begin_json, audit_record_finish_json, audit_record_json,
};
pub use logger::{
    audit_log_free, audit_logger_close, audit_logger_flush, audit_logger_flush_with,
    audit_logger_free, audit_logger_hash, audit_logger_new, audit_logger_stats,
};
pub use maintain::audit_logger_maintain;
pub use queue::{
    audit_queue_cancel, audit_queue_fd, audit_queue_free, audit_queue_new, audit_queue_next,
    audit_queue_submit,
};
pub use record::{audit_logger_begin, audit_logger_finish, audit_logger_log, audit_record_init};
pub use reply::{audit_reply_free, audit_reply_int, audit_reply_text};
pub use text::{audit_json_quote, audit_logger_version, audit_status_name, audit_text};
pub use types::*;
pub use verify::{audit_logger_prove, audit_logger_verify};
