//! What is asked of Linux that other systems lack, or have otherwise. unported.rs has the same for those.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::check;

pub use super::blocks::{shares_blocks, write_in_place};

/// Has the kernel empty pages in a child of fork.
pub const WIPE_ON_FORK: c_int = libc::MADV_WIPEONFORK;
/// Has the kernel leave pages out of core dumps.
pub const NO_DUMP: c_int = libc::MADV_DONTDUMP;
/// Of pthread.h, for pthread_setcancelstate.
pub const CANCEL_DISABLE: c_int = 1;

/// Where this thread's errno stands.
pub fn errno_address() -> *mut c_int {
    // SAFETY: it has no conditions.
    unsafe { libc::__errno_location() }
}

/// Whether the process runs with more rights than its caller has (setuid, setgid, capabilities),
/// so that its environment is the caller's word and not to be trusted.
pub fn is_privileged() -> bool {
    // SAFETY: no pointers are passed.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Fills the slice with random bytes, or its beginning, and says how many.
pub fn random(bytes: &mut [u8]) -> io::Result<usize> {
    let (start, len) = (bytes.as_mut_ptr(), bytes.len());
    // Not by libc's function, which glibc has since 2.25.
    // SAFETY: pointer and length are those of the slice.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, start, len, 0) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// A descriptor that is readable once eight bytes were written to it.
pub fn event() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// poll(2), to the nanosecond.
pub fn poll(fds: &mut [libc::pollfd], timeout: Duration) -> io::Result<c_int> {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let (start, count) = (fds.as_mut_ptr(), fds.len() as libc::nfds_t);
    // SAFETY: pointer and length are those of the slice; the mask may be NULL.
    check(unsafe { libc::ppoll(start, count, &raw const timeout, ptr::null()) })
}

/// Takes a blocked signal of the set that waits for this thread, if there is one.
pub fn discard_signal(set: &libc::sigset_t) {
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointers are to values that live; the information about the signal isn't asked for.
    unsafe { libc::sigtimedwait(set, ptr::null_mut(), &raw const now) };
}

/// A stream socket that never blocks, and that no program started meanwhile inherits.
pub fn stream_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)
}

/// Where this thread's own stack lies, which isn't the one that it's on if its host has coroutines.
pub fn stack() -> Option<Range<usize>> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: it has no conditions.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: the attributes are a local of the right type.
    if unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut low, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the attributes were filled above; the results go to locals.
    let found =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size) };
    // SAFETY: as above, and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (found == 0).then(|| low.addr()..low.addr() + size)
}
