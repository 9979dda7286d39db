//! What is done with the days of a log that are over.

use std::ffi::c_char;
use std::path::Path;

use super::boundary::{c_text, reply_to, required};
use super::cancel::cancel_if_given;
use super::reply::Reply;
use super::types::*;
use crate::config::Maintenance;
use crate::log;
use crate::sys::HostThread;

include!(concat!(env!("OUT_DIR"), "/symbol_versions/maintain.rs"));

/// Looks after the days of a log that are over: compresses them, and removes those that have
/// expired. Nothing else ever does. Today and yesterday (UTC) stay as they are. It needs no logger,
/// and may run beside any: from cron or a timer, say once a day, as the user that the service runs
/// as.
///
/// First what killed processes left is made whole, as audit_logger_new does it. Then expired days
/// are marked, and those removed that an earlier run, at least 24 hours ago, marked: a clock that
/// is wrong once removes nothing. Then days are compressed, audit_D.jsonl to audit_D.jsonl.gz,
/// which never replaces a file, and is read back before the plain one is removed. A run that is
/// killed is completed by the next.
///
/// path: the log's directory, NUL-terminated; not NULL. It isn't created.
///
/// options: a JSON object, NUL-terminated, or NULL for none of these: "retention_days" (a day
/// expires when it has been over for so many days, 1 to 36500; without it none does); "below_floor"
/// (true where that is meant to be less than 183: six months, which laws ask of some logs at
/// least); "compress_after_days" (as "retention_days"; without it none is compressed); "key_file"
/// and "guard_file", as the configuration's "integrity" has them, and "allow_network_filesystem":
/// give what the loggers are given. The days that are over are sealed first, if the log is; a file
/// that isn't sealed to its end is skipped.
///
/// cancel: ends the run when it is triggered, or NULL. What was done by then stays done.
///
/// reply: where the reply goes, or NULL. AUDIT_REPLY_JSON is an object: "path", "recovered", "torn"
/// and "warnings" as audit_logger_new has them; "marked" (expired days that wait to be removed:
/// {"day", "since"}); "held" (files of expired days that audit-logger hold keeps); "deleted" and
/// "compressed" (names of files); "skipped" (files that should have been one of these: {"file",
/// "reason"}). It is there also when a file failed and after cancelling.
///
/// Returns AUDIT_OK (also if files were skipped: their "reason" says why); AUDIT_E_ARGUMENT (also
/// "retention_days" below 183 without "below_floor"); AUDIT_E_HANDLE (cancel); AUDIT_E_CONFIG (the
/// log is sealed with a key or a guard that isn't given, or the guard can't be used: nothing was
/// done); AUDIT_E_LOG (the directory isn't a log's or can't be written to or sealed, another
/// process holds its lock for ten seconds, or a file failed: the rest was done; or there were
/// holds, and the Merkle log tells of none: nothing was removed); AUDIT_E_CANCELLED;
/// AUDIT_E_INTERNAL. Any thread; no logger of this process is disturbed.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_maintain(
    path: *const c_char,
    options: *const c_char,
    cancel: *mut AuditCancel,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let maintain = |_: &HostThread| {
        // SAFETY: as the caller promises.
        let path = required("path", unsafe { c_text("path", path) }?)?;
        // SAFETY: as the caller promises.
        let wanted = Maintenance::parse(unsafe { c_text("options", options) }?)?;
        let cancel = cancel_if_given(cancel)?;
        let cancelled = || cancel.as_ref().is_some_and(|cancel| cancel.has_happened());
        let path = Path::new(path);
        let (report, ended) = log::maintain(path, &wanted, &mut |_, _| {}, &cancelled)?;
        let reply = ended.map_or_else(Reply::from, |()| Reply::ok());
        Ok(reply.with_text(AUDIT_REPLY_JSON, report))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, maintain) }
}
