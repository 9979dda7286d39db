//! The host's thread, as long as the library works on it.

use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

pub(super) use super::kernel::errno_address;
use super::kernel::{CANCEL_DISABLE, discard_signal};

unsafe extern "C" {
    // glibc and musl have it, the libc crate doesn't declare it.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// The state of the host's thread that the library changes while it works, and gives back.
///
/// Cancellation is off, because unwinding by `pthread_cancel` over Rust frames is undefined
/// (RFC 2945). SIGPIPE and SIGXFSZ are blocked, because their default action would end the host
/// over a closed socket or a file size limit that we report as errors.
pub struct HostThread {
    errno: c_int,
    cancel_state: c_int,
    /// The host's, where it was changed.
    mask: Cell<Option<libc::sigset_t>>,
}

thread_local! {
    /// Set when a write of ours met the file size limit, and so raised SIGXFSZ on this thread.
    static RAISED_XFSZ: Cell<bool> = const { Cell::new(false) };
}

fn signals(wanted: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for &signal in wanted {
        // SAFETY: the set was filled above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: as above.
    unsafe { set.assume_init() }
}

impl HostThread {
    /// Takes the calling thread over until the value is dropped.
    pub fn borrow() -> HostThread {
        let thread = HostThread::uncancelled();
        thread.mask.set(Some(block_signals()));
        thread
    }

    /// The same, for work that writes to files alone, and so raises no signal where the size of
    /// files has no limit: to ask costs less than to block. A limit that another thread sets
    /// between here and a write beyond it is met as if the host had written.
    pub fn borrow_for_files() -> HostThread {
        if files_are_limited() {
            HostThread::borrow()
        } else {
            HostThread::uncancelled()
        }
    }

    /// The same, between two callbacks of the host, for what raises no signal: a stream of callbacks
    /// isn't to cost two system calls for each. [`HostThread::take_over`] before anything else.
    pub fn borrow_to_receive() -> HostThread {
        HostThread::uncancelled()
    }

    fn uncancelled() -> HostThread {
        let errno = errno();
        let mut cancel_state = 0;
        // SAFETY: the pointer is to a local of the right type.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut cancel_state) };
        HostThread {
            errno,
            cancel_state,
            mask: Cell::new(None),
        }
    }

    /// Takes the thread over for what may raise a signal.
    pub fn take_over(&self) {
        if self.mask.get().is_none() {
            self.mask.set(Some(block_signals()));
        }
    }

    fn give_back(&self) {
        let (raised, mask) = (RAISED_XFSZ.take(), self.mask.take());
        if raised && mask.is_some() {
            discard_signal(&signals(&[libc::SIGXFSZ]));
        }
        if let Some(mask) = mask {
            // SAFETY: the mask is the one that this thread had.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut()) };
        }
        // SAFETY: as in `errno`.
        unsafe { errno_address().write(self.errno) };
    }
}

impl Drop for HostThread {
    fn drop(&mut self) {
        // First, for it passes a cancellation point.
        self.give_back();
        // SAFETY: the state is the one that this thread had; NULL is allowed for the old one.
        unsafe { pthread_setcancelstate(self.cancel_state, ptr::null_mut()) };
    }
}

/// Blocks the signals that the library's own work can raise. Returns the mask before.
fn block_signals() -> libc::sigset_t {
    let blocked = signals(&[libc::SIGPIPE, libc::SIGXFSZ]);
    let mut mask = MaybeUninit::uninit();
    // SAFETY: both pointers are to locals of the right type.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, mask.as_mut_ptr()) };
    // SAFETY: pthread_sigmask fills it; it fails only for an unknown `how`.
    unsafe { mask.assume_init() }
}

/// Whether a write beyond some size would raise SIGXFSZ.
fn files_are_limited() -> bool {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the structure is a local of the right type.
    if unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, limit.as_mut_ptr()) } != 0 {
        return true;
    }
    // SAFETY: getrlimit succeeded, so it filled the structure.
    unsafe { limit.assume_init() }.rlim_cur != libc::RLIM_INFINITY
}

/// Keeps errno as it is until dropped.
pub struct Errno(c_int);

impl Errno {
    /// Notes it.
    pub fn save() -> Errno {
        Errno(errno())
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as in `errno`.
        unsafe { errno_address().write(self.0) };
    }
}

/// This thread's errno.
pub(super) fn errno() -> c_int {
    // SAFETY: errno's address is valid for the life of the thread.
    unsafe { errno_address().read() }
}

/// Does something with all signals blocked: a thread that it starts inherits that, so that no
/// handler of the host's ever runs on a thread of the library's own.
pub fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    let (mut all, mut mask) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigfillset fills the set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was filled above; the old mask goes to a local.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), mask.as_mut_ptr()) };
    let result = work();
    // SAFETY: the mask is the one that this thread had; NULL is allowed for the old one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut()) };
    result
}

/// To be told of every failed write to a file: one that met the file size limit raised a signal.
pub fn note_write_error(error: &io::Error) {
    if error.raw_os_error() == Some(libc::EFBIG) {
        RAISED_XFSZ.set(true);
    }
}
