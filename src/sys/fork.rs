//! Forks: which process this is, and what must not live on in a child.

use std::ffi::c_int;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often this process's ancestors forked since the library was loaded: the process's number.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Forks that began and ended in this process: unequal while one is under way.
static FORKS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

extern "C" fn before_fork() {
    FORKS[0].fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_parent() {
    FORKS[1].fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_child() {
    PROCESS.fetch_add(1, Ordering::SeqCst);
    FORKS[1].store(FORKS[0].load(Ordering::SeqCst), Ordering::SeqCst);
    OPEN.close_all();
}

/// A number that a forked child doesn't share with its parent.
pub fn process_number() -> u32 {
    PROCESS.load(Ordering::Relaxed)
}

/// Starts counting forks. To be called before anything is put in a [`PerProcess`] or [`Private`].
pub fn watch_forks() -> io::Result<()> {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    // SAFETY: the handlers only use atomics and close(), which are async-signal-safe, and the
    // library is never unloaded (-z nodelete), so their addresses stay valid.
    match unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) } {
        0 => Ok(()),
        error => {
            WATCHED.store(false, Ordering::Release);
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

/// The library's open descriptors, a bit for each number.
struct OpenSet {
    words: [AtomicU64; OpenSet::WORDS],
    /// Words that were ever used.
    used: AtomicUsize,
}

static OPEN: OpenSet = OpenSet {
    words: [const { AtomicU64::new(0) }; OpenSet::WORDS],
    used: AtomicUsize::new(0),
};

impl OpenSet {
    /// Descriptors beyond 262,144 aren't noted: a child keeps its copies of those.
    const WORDS: usize = 4096;

    fn place(fd: RawFd) -> Option<(usize, u64)> {
        let fd = usize::try_from(fd).ok()?;
        (fd / 64 < Self::WORDS).then_some((fd / 64, 1 << (fd % 64)))
    }

    fn insert(&self, fd: RawFd) {
        if let Some((word, bit)) = Self::place(fd) {
            self.used.fetch_max(word + 1, Ordering::SeqCst);
            self.words[word].fetch_or(bit, Ordering::SeqCst);
        }
    }

    fn remove(&self, fd: RawFd) {
        if let Some((word, bit)) = Self::place(fd) {
            self.words[word].fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// In a child of fork: a lock or a connection must not live on in it.
    fn close_all(&self) {
        let used = self.used.load(Ordering::SeqCst);
        for (word, bits) in self.words.iter().enumerate().take(used) {
            let mut left = bits.swap(0, Ordering::SeqCst);
            while left != 0 {
                let fd = word * 64 + left.trailing_zeros() as usize;
                // SAFETY: the child's copy of a descriptor of ours; whoever owns it knows by the
                // process's number that it is gone.
                unsafe { libc::close(fd as c_int) };
                left &= left - 1;
            }
        }
    }
}

/// Something with a descriptor that belongs to the process that made it. A forked child's copy is
/// closed by the fork, before the child can do anything, and dropping the value there does
/// nothing: the number may be another file's by then.
#[derive(Debug)]
pub struct Private<T: AsRawFd> {
    value: ManuallyDrop<T>,
    process: u32,
}

impl<T: AsRawFd> Private<T> {
    /// Makes one. `make` is called again when the process was forked meanwhile: that child would
    /// keep a copy that nobody closes. A lock must be taken on it afterwards, not in `make`.
    pub fn new(make: impl Fn() -> io::Result<T>) -> io::Result<Private<T>> {
        // A fork handler of the host's may wait for a lock that the host holds around this very
        // call, so this doesn't wait for ever. A copy left behind is the lesser evil.
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut since = None;
        loop {
            let ended = FORKS[1].load(Ordering::SeqCst);
            let begun = FORKS[0].load(Ordering::SeqCst);
            let private = Private {
                value: ManuallyDrop::new(make()?),
                process: process_number(),
            };
            OPEN.insert(private.as_raw_fd());
            if begun == ended && FORKS[0].load(Ordering::SeqCst) == begun {
                return Ok(private);
            }
            if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return Ok(private);
            }
            drop(private);
            std::thread::yield_now();
        }
    }

    /// Whether this is the process that made it.
    pub fn is_ours(&self) -> bool {
        self.process == process_number()
    }
}

impl<T: AsRawFd> Deref for Private<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: AsRawFd> AsRawFd for Private<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.value.as_raw_fd()
    }
}

impl<T: AsRawFd> Drop for Private<T> {
    fn drop(&mut self) {
        if self.is_ours() {
            // Before it's closed: another thread may be given the number at once.
            OPEN.remove(self.as_raw_fd());
            // SAFETY: dropped only here.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// A value that each process makes for itself.
///
/// After a fork the child must not touch what it inherited: a lock may be held by a thread that
/// doesn't exist there, a TLS session or a file position would be used by two processes. The
/// inherited value is left alone (leaked: dropping it would say goodbye on the parent's sockets).
pub struct PerProcess<T> {
    newest: AtomicPtr<Node<T>>,
}

struct Node<T> {
    process: u32,
    value: T,
    /// Of the parent process; kept so that leak checkers see that it's still known.
    _inherited: *mut Node<T>,
}

impl<T> PerProcess<T> {
    /// A value that no process has made yet.
    pub const fn new() -> PerProcess<T> {
        PerProcess {
            newest: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        PerProcess::new()
    }
}

impl<T: Send + Sync> PerProcess<T> {
    /// This process's value, made by `make` if there is none yet. Threads that come first at
    /// once may each make one; one of them is kept.
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let newest = self.newest.load(Ordering::Acquire);
        if let Some(value) = self.of_this_process(newest) {
            return Ok(value);
        }
        let node = Box::into_raw(Box::new(Node {
            process: process_number(),
            value: make()?,
            _inherited: newest,
        }));
        let kept =
            match self
                .newest
                .compare_exchange(newest, node, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => node,
                Err(winner) => {
                    // SAFETY: made above and never shared.
                    drop(unsafe { Box::from_raw(node) });
                    winner
                }
            };
        // SAFETY: nodes are freed only when `self` is. A winner is of this process too: a child
        // starts with a single thread.
        Ok(unsafe { &(*kept).value })
    }

    /// This process's value, if there is one.
    pub fn get(&self) -> Option<&T> {
        self.of_this_process(self.newest.load(Ordering::Acquire))
    }

    fn of_this_process(&self, node: *mut Node<T>) -> Option<&T> {
        // SAFETY: nodes are freed only when `self` is.
        let node = unsafe { node.as_ref() }?;
        (node.process == process_number()).then_some(&node.value)
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let node = *self.newest.get_mut();
        // SAFETY: nodes are freed only here, and nobody else holds `self` any more.
        let ours = unsafe { node.as_ref() }.is_some_and(|node| node.process == process_number());
        if ours {
            // SAFETY: as above; an inherited node behind it is left alone.
            drop(unsafe { Box::from_raw(node) });
        }
    }
}

// SAFETY: the nodes are reached through atomics and hand out shared references only.
unsafe impl<T: Send + Sync> Send for PerProcess<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Whether something holds in a forked child.
    fn in_a_child(holds: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child, whose allocator glibc keeps usable, only looks and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = if holds() { 0 } else { 1 };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) };
        }
        let mut status = -1;
        // SAFETY: waits for the child made above; the status goes to a local.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        status == 0
    }

    #[test]
    fn a_value_is_made_once_in_a_process_and_anew_in_a_forked_child() {
        watch_forks().unwrap();
        let value = PerProcess::default();
        let get = |number| *value.get_or_try_init(|| Ok::<_, ()>(number)).unwrap();
        assert_eq!((get(1), get(2), value.get()), (1, 1, Some(&1)));
        assert!(in_a_child(|| (value.get(), get(3), get(4)) == (None, 3, 3)));
        assert_eq!(value.get(), Some(&1));
    }

    #[test]
    fn a_fork_closes_the_child_s_copies_and_nothing_is_closed_twice() {
        watch_forks().unwrap();
        let file = Private::new(|| File::open("/dev/null")).unwrap();
        let fd = file.as_raw_fd();
        // SAFETY: no pointers are passed.
        let gone = || unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1;
        assert!(in_a_child(|| gone() && !file.is_ours()));
        assert!(file.is_ours() && file.metadata().is_ok());
    }
}
