//! In place of linux.rs on systems that nobody has ported the library to: so that the code can be checked for
//! them. There is no event, so no logger can be made. DESIGN.md lists what a port has to find.

use std::ffi::c_int;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Socket};

/// No advice: the kernel refuses it.
pub const WIPE_ON_FORK: c_int = -1;
/// Likewise.
pub const NO_DUMP: c_int = -1;
/// Of pthread.h, on macOS.
pub const CANCEL_DISABLE: c_int = 0;

fn unported<T>() -> io::Result<T> {
    let why = "audit_logger isn't ported to this system";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Where this thread's errno stands.
pub fn errno_address() -> *mut c_int {
    // SAFETY: it has no conditions.
    unsafe { libc::__error() }
}

/// The environment isn't trusted.
pub fn is_privileged() -> bool {
    true
}

pub fn random(_bytes: &mut [u8]) -> io::Result<usize> {
    unported()
}

pub fn event() -> io::Result<OwnedFd> {
    unported()
}

pub fn poll(_fds: &mut [libc::pollfd], _timeout: Duration) -> io::Result<c_int> {
    unported()
}

pub fn discard_signal(_set: &libc::sigset_t) {}

pub fn stream_socket(_domain: Domain) -> io::Result<Socket> {
    unported()
}

pub fn write_in_place(_file: BorrowedFd<'_>) -> io::Result<()> {
    unported()
}

pub fn shares_blocks(_file: BorrowedFd<'_>) -> io::Result<bool> {
    unported()
}

pub fn stack() -> Option<Range<usize>> {
    None
}
