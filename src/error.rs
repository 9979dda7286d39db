//! The library's statuses, and the error that carries one with the reason.

use std::fmt;

/// What went wrong, as a C caller sees it. The numbers are part of the ABI: written by hand,
/// negative, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The host's mistake: nothing was sent, nothing was logged.
    Argument = -1,
    /// The handle is NULL, freed, closed or of another type.
    Handle = -2,
    /// The configuration can't be used.
    Config = -3,
    /// The log can't take an entry: nothing was sent.
    Log = -4,
    /// The call was made, and its entry waits because the log can't take it now.
    LogPending = -5,
    /// The call failed, and its entry is written.
    Call = -6,
    /// The call was cancelled, and its entry is written.
    Cancelled = -7,
    /// The time given ran out.
    Timeout = -8,
    /// The log isn't what was sealed.
    Tampered = -9,
    /// There is no such thing in the log, or no Merkle log.
    NotFound = -10,
    /// Closing a logger from within one of its own calls.
    Reentrant = -11,
    /// A call that a fork interrupted, in the child: it is the parent's to finish.
    Forked = -12,
    /// A defect of this library.
    Internal = -13,
    /// The quorum of witnesses hasn't seen the log.
    Witness = -14,
}

impl Status {
    /// Every status, for tables and tests.
    pub const ALL: [Status; 15] = [
        Status::Ok,
        Status::Argument,
        Status::Handle,
        Status::Config,
        Status::Log,
        Status::LogPending,
        Status::Call,
        Status::Cancelled,
        Status::Timeout,
        Status::Tampered,
        Status::NotFound,
        Status::Reentrant,
        Status::Forked,
        Status::Internal,
        Status::Witness,
    ];

    /// The name of the C constant, NUL-terminated.
    pub fn name(self) -> &'static std::ffi::CStr {
        match self {
            Status::Ok => c"AUDIT_OK",
            Status::Argument => c"AUDIT_E_ARGUMENT",
            Status::Handle => c"AUDIT_E_HANDLE",
            Status::Config => c"AUDIT_E_CONFIG",
            Status::Log => c"AUDIT_E_LOG",
            Status::LogPending => c"AUDIT_E_LOG_PENDING",
            Status::Call => c"AUDIT_E_CALL",
            Status::Cancelled => c"AUDIT_E_CANCELLED",
            Status::Timeout => c"AUDIT_E_TIMEOUT",
            Status::Tampered => c"AUDIT_E_TAMPERED",
            Status::NotFound => c"AUDIT_E_NOT_FOUND",
            Status::Reentrant => c"AUDIT_E_REENTRANT",
            Status::Forked => c"AUDIT_E_FORKED",
            Status::Internal => c"AUDIT_E_INTERNAL",
            Status::Witness => c"AUDIT_E_WITNESS",
        }
    }
}

/// A status and the reason: what was wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What the C function returns.
    pub status: Status,
    /// For a person; never holds a key, a prompt or a provider's words.
    pub message: String,
}

impl Error {
    /// An error of the given status.
    pub fn new(status: Status, message: impl Into<String>) -> Error {
        Error {
            status,
            message: message.into(),
        }
    }

    /// The host passed something that can't be used.
    pub fn argument(message: impl Into<String>) -> Error {
        Error::new(Status::Argument, message)
    }

    /// The configuration holds something that can't be used.
    pub fn config(message: impl Into<String>) -> Error {
        Error::new(Status::Config, message)
    }

    /// The log can't take an entry.
    pub fn log(message: impl Into<String>) -> Error {
        Error::new(Status::Log, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
