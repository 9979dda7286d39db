//! What is read from a log on disk, without a logger: its verification, and proofs of entries.

use std::ffi::c_char;
use std::path::Path;

use super::boundary::{c_text, needs_reply, reply_to, required};
use super::cancel::cancel_if_given;
use super::reply::Reply;
use super::types::*;
use crate::json;
use crate::read::{prove, verify};
use crate::sys::HostThread;

include!(concat!(env!("OUT_DIR"), "/symbol_versions/verify.rs"));

/// Verifies the log in a directory: every line against its digest, every digest against the tree,
/// the tree against the signed checkpoint. Reads only: it takes no lock, needs no right but
/// reading, and works on a copy, and on a log that is being written or maintained. It takes at most
/// 64 MiB, whatever lies there. A thread of its own helps it, and has ended when it returns.
///
/// path: the directory of the log, NUL-terminated; not NULL.
///
/// options: a JSON object, NUL-terminated, or NULL: "vkey" (the public key's text) or "vkey_file"
/// (a file with it), without which the one in the directory is taken on faith; "guard_file" (the
/// guard, which knows how far the log had come); "checkpoints" (an array of paths: files with
/// checkpoints that were kept); "policy_file" (a policy in the form of C2SP tlog-policy: the log's
/// key, and whose signatures are asked for); "copy" (true: the directory is a copy that was taken
/// file by file while the log was written, .integrity in any order and then the days' files. It's
/// verified up to the last checkpoint that it has all entries of; "beyond" counts those behind it
/// that are known of).
///
/// cancel: ends it when it is triggered, or NULL.
///
/// reply: where the reply goes, or NULL. With AUDIT_OK and AUDIT_E_TAMPERED, AUDIT_REPLY_JSON is
/// the report, an object: "intact"; "grade" (how much the verdict is worth: "self-attested" or
/// "signed", or "witnessed, as of" a time if the policy's quorum has signed it, and "remembered" if
/// a guard or a kept checkpoint was compared); "witnessed" (then: "size", "as_of", "in_future",
/// "witnesses": their names); "origin", "size" and
/// "root" of the tree; "files" and "lines" that are as they were sealed, "unsealed_lines" and what
/// else was counted; "timestamps" ("count": how many are kept; "checked": false, for only their
/// checkpoints are compared with the tree here. Who made them, and so since when entries have
/// existed, isn't asked: `audit-logger verify --tsa-cert` does that); "begun" and "last_record"
/// (when the tree was begun, and grew last);
/// "finding_count" and "findings" (at most 20 of a file and 100 in all: "class", "file", "line",
/// "message"); "cannot_detect" (texts: what this verification could not have seen). Classes are
/// "edited", "deleted", "inserted", "reordered", "torn" (a sealed line was cut), "missing" (a file
/// is gone), "rolled_back" (the tree is older than what is known of it, or another), "tree" (its
/// parts don't fit), "forged" (not signed by the key), "unreadable" (damaged, or no plain file; the
/// rest is verified), "returned" (a file that retention had removed), "twin" (a compressed file
/// beside the plain one that holds something else), "unwitnessed" (the policy's quorum has signed no
/// checkpoint). What is no finding is reported beside them:
/// "strangers" (names like those of the log's files that aren't theirs, at most 32, and
/// "stranger_count"); "unreadable" (files of which nothing was sealed) and "conflicts" (lines that
/// aren't sealed and have a sealed entry's id, which counts), at most 32 of "file" and "message"
/// each; "prunable" (files that retention has given up and that are still there, as they were);
/// "holds" (the days that audit-logger hold keeps: "hold", "since", "from", "to", "reason").
///
/// Returns AUDIT_OK (nothing is wrong); AUDIT_E_TAMPERED (something is: the message names the
/// first); AUDIT_E_NOT_FOUND (there is no Merkle log; where a key is given, that is
/// AUDIT_E_TAMPERED); AUDIT_E_LOG (the directory can't be read); AUDIT_E_ARGUMENT (the message
/// names the option); AUDIT_E_HANDLE (cancel); AUDIT_E_CANCELLED; AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_verify(
    path: *const c_char,
    options: *const c_char,
    cancel: *mut AuditCancel,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let verify = |_: &HostThread| {
        // SAFETY: as the caller promises.
        let path = required("path", unsafe { c_text("path", path) }?)?;
        // SAFETY: as the caller promises.
        let options = unsafe { c_text("options", options) }?.unwrap_or("{}");
        let options = verify::Options::parse(options)?;
        let cancel = cancel_if_given(cancel)?;
        let cancelled = || cancel.as_ref().is_some_and(|cancel| cancel.has_happened());
        let report = verify::verify(Path::new(path), &options, &mut |_, _| {}, &cancelled)?;
        let reply = match report.verdict() {
            Ok(()) => Reply::ok(),
            Err(tampered) => Reply::from(tampered),
        };
        let mut json = Vec::new();
        report.write(&mut json, |_| {});
        Ok(reply.with_text(AUDIT_REPLY_JSON, json))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, verify) }
}

/// Proves one entry: that its line is in the log that a key signs, with nothing else of the log
/// shown. Reads only, as audit_logger_verify does.
///
/// path: the directory of the log, NUL-terminated; not NULL.
///
/// entry_id: the entry's id, NUL-terminated; not NULL.
///
/// options: a JSON object, NUL-terminated, or NULL: "vkey" (the public key's text) or "vkey_file"
/// (a file with it), without which the one in the directory is taken; "line" (the entry's line, as
/// a text) or "timestamp" (as it stands in the entry), with which it's found at once. With the id
/// alone the files are read from the newest back until it's found, which takes as long as reading
/// them does.
///
/// reply: where the reply goes; not NULL. AUDIT_REPLY_ENTRY: the line, as it was sealed.
/// AUDIT_REPLY_CONTENT: the proof, the text of a .tlog-proof file (C2SP). AUDIT_REPLY_JSON: an
/// object, "file" (the line's) and "index" (its place in the tree).
///
/// Returns AUDIT_OK; AUDIT_E_NOT_FOUND (no sealed entry has that id: the message says whether one
/// is there that isn't sealed, and which files couldn't be read; or there is no Merkle log);
/// AUDIT_E_TAMPERED (the tree isn't what was signed); AUDIT_E_LOG (the log can't be read);
/// AUDIT_E_ARGUMENT; AUDIT_E_INTERNAL. Any thread.
///
/// # Safety
///
/// Pointers are NULL or valid as described.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_logger_prove(
    path: *const c_char,
    entry_id: *const c_char,
    options: *const c_char,
    reply: *mut *mut AuditReply,
) -> AuditStatus {
    let prove = |_: &HostThread| {
        needs_reply(reply)?;
        // SAFETY: as the caller promises.
        let path = required("path", unsafe { c_text("path", path) }?)?;
        // SAFETY: as the caller promises.
        let id = required("entry_id", unsafe { c_text("entry_id", entry_id) }?)?;
        // SAFETY: as the caller promises.
        let options = unsafe { c_text("options", options) }?.unwrap_or("{}");
        let options = prove::Options::parse(options)?;
        let proved = prove::prove(Path::new(path), id, &options)?;
        let mut json = Vec::new();
        let mut object = json::Object::begin(&mut json);
        object.text("file", &proved.file);
        object.json("index", proved.index);
        object.end();
        Ok(Reply::ok()
            .with_text(AUDIT_REPLY_ENTRY_ID, id)
            .with_text(AUDIT_REPLY_ENTRY, proved.line)
            .with_text(AUDIT_REPLY_CONTENT, proved.proof)
            .with_text(AUDIT_REPLY_JSON, json))
    };
    // SAFETY: as the caller promises.
    unsafe { reply_to(reply, prove) }
}
