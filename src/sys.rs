//! The system calls that std lacks, each wrapped safely.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

unsafe extern "C" {
    // glibc and musl have it, the libc crate doesn't declare it.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}
const PTHREAD_CANCEL_DISABLE: c_int = 1;

// ---------------------------------------------------------------- the host's thread

/// The state of the host's thread that the library changes while it works, and gives back.
///
/// Cancellation is off, because unwinding by `pthread_cancel` over Rust frames is undefined
/// (RFC 2945). SIGPIPE and SIGXFSZ are blocked, because their default action would end the host
/// over a closed socket or a file size limit that we report as errors.
pub struct HostThread {
    errno: c_int,
    cancel_state: c_int,
    mask: Cell<libc::sigset_t>,
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
        let errno = errno();
        let mut cancel_state = 0;
        // SAFETY: the pointer is to a local of the right type.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut cancel_state) };
        HostThread {
            errno,
            cancel_state,
            mask: Cell::new(block_signals()),
        }
    }

    /// Gives the thread back for a callback of the host. Cancellation stays off: the frames below
    /// the callback are still ours.
    pub fn lend<T>(&self, callback: impl FnOnce() -> T) -> T {
        self.give_back();
        let result = callback();
        self.mask.set(block_signals());
        result
    }

    fn give_back(&self) {
        if RAISED_XFSZ.take() {
            let xfsz = signals(&[libc::SIGXFSZ]);
            let now = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: the pointers are to locals; the information about the signal isn't asked for.
            unsafe { libc::sigtimedwait(&raw const xfsz, ptr::null_mut(), &raw const now) };
        }
        let mask = self.mask.get();
        // SAFETY: the mask is the one that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut()) };
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

fn errno_address() -> *mut c_int {
    // SAFETY: it has no conditions.
    unsafe { libc::__errno_location() }
}

fn errno() -> c_int {
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

// ---------------------------------------------------------------- fork

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

// ---------------------------------------------------------------- waiting

/// A flag that wakes every thread that waits for it, and stays set.
#[derive(Debug)]
pub struct Event(Private<OwnedFd>);

impl Event {
    /// An event that hasn't happened.
    pub fn new() -> io::Result<Event> {
        let make = || {
            // SAFETY: no pointers are passed.
            let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
            // SAFETY: the descriptor is new and ours alone.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        };
        Private::new(make).map(Event)
    }

    /// Makes it happen.
    pub fn set(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer and the length are those of a local. The write fails only when
        // the counter is full, and then the event has happened long ago.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Whether this is the process that made it. In a forked child it never happens.
    pub fn is_ours(&self) -> bool {
        self.0.is_ours()
    }

    /// Whether it has happened.
    pub fn has_happened(&self) -> bool {
        matches!(
            wait([(self.fd(), Readiness::Read)], Duration::ZERO),
            Ok(Some(_))
        )
    }

    /// Readable once it has happened.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Data, or the end of them.
    Read,
    /// Room.
    Write,
}

/// Waits until one of the descriptors is ready, and says which (the first, if several are), or
/// `None` when the time is up or a signal came.
pub fn wait<const N: usize>(
    fds: [(RawFd, Readiness); N],
    timeout: Duration,
) -> io::Result<Option<usize>> {
    let mut polled = fds.map(|(fd, readiness)| libc::pollfd {
        fd,
        events: match readiness {
            Readiness::Read => libc::POLLIN,
            Readiness::Write => libc::POLLOUT,
        },
        revents: 0,
    });
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: pointer and length are those of a local array; the mask may be NULL.
    let ready = check(unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            N as libc::nfds_t,
            &raw const timeout,
            ptr::null(),
        )
    });
    match ready {
        Ok(_) => Ok(polled.iter().position(|entry| entry.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

// ---------------------------------------------------------------- secrets

/// Anonymous pages of their own, which are wiped when dropped.
struct Pages {
    start: ptr::NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Pages for `len` bytes, with a property (MADV_*) that the kernel gives them.
    fn new(len: usize, advice: c_int) -> io::Result<Pages> {
        const PAGE: usize = 4096;
        let len = len.max(1).next_multiple_of(PAGE);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing else.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        let start = ptr::NonNull::new(start.cast::<u8>())
            .filter(|start| start.as_ptr().cast() != libc::MAP_FAILED)
            .ok_or_else(io::Error::last_os_error)?;
        let pages = Pages { start, len };
        // SAFETY: the pages are mapped with this length.
        check(unsafe { libc::madvise(start.as_ptr().cast(), len, advice) })?;
        Ok(pages)
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: the pages are mapped with this length, and filled with zeros at first.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(self.as_mut_slice());
        // SAFETY: the pages are mapped with this length, and nobody holds them any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the pages are owned, and shared only as slices.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

/// Bytes that core dumps leave out, wiped when dropped.
pub struct SecretBytes {
    pages: Pages,
    len: usize,
}

impl SecretBytes {
    /// A copy of `bytes`. The original is the caller's to wipe.
    pub fn copy_of(bytes: &[u8]) -> io::Result<SecretBytes> {
        let mut pages = Pages::new(bytes.len(), libc::MADV_DONTDUMP)?;
        pages.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        Ok(SecretBytes {
            pages,
            len: bytes.len(),
        })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.pages.as_slice()[..self.len]
    }
}

/// Random bytes, fetched from the kernel a page at a time: the call costs as much as the bytes. The
/// kernel empties the page in every child of a fork, however that was made, so that parent and child
/// never give out the same.
pub struct RandomBytes {
    /// The bytes that are left stand at the end; the first 16 hold, as a number, how many. Without
    /// a kernel that empties it (before Linux 4.14, and gVisor) there is none, and each id is
    /// fetched by itself.
    pages: Option<Pages>,
}

impl RandomBytes {
    /// Random bytes, none of them fetched yet.
    pub fn new() -> RandomBytes {
        RandomBytes {
            pages: Pages::new(1, libc::MADV_WIPEONFORK).ok(),
        }
    }

    /// The next 16.
    pub fn take(&mut self) -> io::Result<[u8; 16]> {
        let Some(pages) = &mut self.pages else {
            let mut bytes = [0; 16];
            return match fetch_random(&mut bytes)? {
                16 => Ok(bytes),
                _ => Err(io::Error::other("the kernel gives no random bytes")),
            };
        };
        let (count, bytes) = pages.as_mut_slice().split_at_mut(16);
        let held = |count: &[u8]| {
            count
                .first_chunk()
                .map_or(0, |count| usize::from_ne_bytes(*count))
        };
        let mut left = held(count).min(bytes.len());
        if left < 16 {
            // Up to 256 bytes come whole; more can be cut short by a signal.
            left = fetch_random(bytes)?;
            let len = bytes.len();
            bytes.copy_within(..left, len - left);
        }
        let at = bytes.len() - left;
        let next = bytes.get_mut(at..at + 16);
        let next = next.ok_or_else(|| io::Error::other("the kernel gives no random bytes"))?;
        let mut taken = [0; 16];
        taken.copy_from_slice(next);
        next.fill(0);
        // After the bytes were taken: a fork before this line wipes both.
        count[..size_of::<usize>()].copy_from_slice(&(left - 16).to_ne_bytes());
        Ok(taken)
    }
}

fn fetch_random(bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of the slice.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

// ---------------------------------------------------------------- files and the machine

/// Opens `name` below the directory `dir`.
pub fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: c_int, mode: u32) -> io::Result<File> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, mode) })?;
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The names in the directory `dir`, those that are UTF-8.
pub fn names_in(dir: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    struct Stream(*mut libc::DIR);
    impl Drop for Stream {
        fn drop(&mut self) {
            // SAFETY: opened below, and closed only here.
            unsafe { libc::closedir(self.0) };
        }
    }
    // Opened anew, for a position of its own. A fork between here and the end leaves the child a
    // copy that does nothing.
    let own = open_at(dir, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    // SAFETY: the descriptor is a directory's.
    let stream = unsafe { libc::fdopendir(own.as_raw_fd()) };
    if stream.is_null() {
        return Err(io::Error::last_os_error());
    }
    let stream = Stream(stream);
    // It's the stream's from here on.
    let _ = own.into_raw_fd();
    let mut names = Vec::new();
    loop {
        // SAFETY: as in `errno`.
        unsafe { errno_address().write(0) };
        // SAFETY: the stream is open, and this thread's alone.
        let item = unsafe { libc::readdir(stream.0) };
        if item.is_null() {
            return match errno() {
                0 => Ok(names),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        // SAFETY: readdir returned an entry, which stays until the next call.
        let name = unsafe { &raw const (*item).d_name };
        // SAFETY: the name ends with NUL within the entry.
        let name = unsafe { CStr::from_ptr(name.cast()) };
        if let Ok(name) = name.to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
}

/// Makes the directory `name` below `dir`.
pub fn make_directory_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Removes the file `name` below `dir`.
pub fn remove_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Removes the directory `name` below `dir`, which must be empty.
pub fn remove_directory_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let (fd, flags) = (dir.as_raw_fd(), libc::AT_REMOVEDIR);
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(fd, name.as_ptr(), flags) }).map(drop)
}

/// Gives the file `from` below `from_dir` the further name `to` below `to_dir`, unless that is taken.
pub fn link_at(
    from_dir: BorrowedFd<'_>,
    from: &CStr,
    to_dir: BorrowedFd<'_>,
    to: &CStr,
) -> io::Result<()> {
    let (from_dir, to_dir) = (from_dir.as_raw_fd(), to_dir.as_raw_fd());
    // SAFETY: the names are NUL-terminated and outlive the call.
    check(unsafe { libc::linkat(from_dir, from.as_ptr(), to_dir, to.as_ptr(), 0) }).map(drop)
}

/// Renames `from` to `to`, both below `dir`.
pub fn rename_at(dir: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    let fd = dir.as_raw_fd();
    // SAFETY: the names are NUL-terminated and outlive the call.
    check(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) }).map(drop)
}

/// The identity of what `name` below `dir` is now, links not followed: device and inode.
pub fn identity_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is NUL-terminated; the structure is a local of the right type.
    check(unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: fstatat succeeded, so it filled the structure.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.st_dev, stat.st_ino))
}

/// The type of the file system that `file` is on, as statfs(2) numbers them.
pub fn file_system_type(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the structure is a local of the right type.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstatfs succeeded, so it filled the structure.
    let stat = unsafe { stat.assume_init() };
    // The field is 32 bits wide in some places; magic numbers have no more.
    Ok(u64::from(stat.f_type as u32))
}

/// The id of the group that the system's database has under a name.
pub fn group_id(name: &CStr) -> io::Result<Option<u32>> {
    // A group's members are listed in it, and there may be thousands.
    const LARGEST: usize = 1 << 22;
    let mut buffer = vec![0; 1 << 12];
    loop {
        let mut group = MaybeUninit::<libc::group>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: the name is NUL-terminated; the rest points to locals with their lengths.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                group.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            0 if found.is_null() => return Ok(None),
            // SAFETY: a group was found, so the structure is filled.
            0 => return Ok(Some(unsafe { group.assume_init() }.gr_gid)),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The machine's name.
pub fn host_name() -> String {
    let mut name = [0u8; 256];
    // SAFETY: pointer and length are those of a local; one byte is kept for the NUL.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|&byte| byte == 0).unwrap_or_default();
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// What tells this boot of the machine from others, where the kernel says it.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The user that files are made as.
pub fn user() -> u32 {
    // SAFETY: it has no conditions.
    unsafe { libc::geteuid() }
}

/// Whether the process runs with more rights than its caller has (setuid, setgid, capabilities),
/// so that its environment is the caller's word and not to be trusted.
pub fn is_privileged() -> bool {
    // SAFETY: no pointers are passed.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_pages_that_no_core_dump_holds() {
        let secret = SecretBytes::copy_of(b"sk-secret").unwrap();
        assert_eq!(secret.as_bytes(), b"sk-secret");
        let address = secret.as_bytes().as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds_it = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            (number(start)?..number(end)?)
                .contains(&address)
                .then_some(())
        };
        let mut own = maps.lines().skip_while(|line| holds_it(line).is_none());
        let flags = own.find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn secrets_of_any_length_are_kept() {
        for len in [0, 1, 4095, 4096, 4097, 8192] {
            let bytes = vec![7; len];
            assert_eq!(SecretBytes::copy_of(&bytes).unwrap().as_bytes(), bytes);
        }
    }

    #[test]
    fn random_bytes_never_come_twice() {
        let mut random = RandomBytes::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let bytes = random.take().unwrap();
            assert!(seen.insert(bytes) && bytes != [0; 16]);
        }
    }

    #[test]
    fn a_child_that_no_handler_heard_of_has_other_random_bytes() {
        let mut random = RandomBytes::new();
        random.take().unwrap();
        let mut ends = [0; 2];
        // SAFETY: the pointer is to a local of the right type.
        check(unsafe { libc::pipe(ends.as_mut_ptr()) }).unwrap();
        // Without the C library's handlers, as a bare clone makes it.
        // SAFETY: the child makes system calls only.
        let child = unsafe { libc::syscall(libc::SYS_fork) };
        if child == 0 {
            let bytes = random.take().unwrap_or_default();
            // SAFETY: pointer and length are those of a local.
            unsafe { libc::write(ends[1], bytes.as_ptr().cast(), 16) };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        let mut theirs = [0; 16];
        // SAFETY: pointer and length are those of a local.
        let read = unsafe { libc::read(ends[0], theirs.as_mut_ptr().cast(), 16) };
        assert_eq!(read, 16);
        assert_ne!(random.take().unwrap(), theirs);
        // SAFETY: waits for the child made above; its status isn't asked for.
        unsafe { libc::waitpid(child as libc::pid_t, ptr::null_mut(), 0) };
    }

    #[test]
    fn a_value_is_made_once_in_a_process_and_anew_in_a_forked_child() {
        watch_forks().unwrap();
        let value = PerProcess::default();
        let get = |number| *value.get_or_try_init(|| Ok::<_, ()>(number)).unwrap();
        assert_eq!((get(1), get(2), value.get()), (1, 1, Some(&1)));
        PROCESS.fetch_add(1, Ordering::Relaxed); // what the handler does in a child
        assert_eq!((value.get(), get(3), get(4)), (None, 3, 3));
    }

    #[test]
    fn a_fork_closes_the_child_s_copies_and_nothing_is_closed_twice() {
        watch_forks().unwrap();
        let file = Private::new(|| File::open("/dev/null")).unwrap();
        let fd = file.as_raw_fd();
        // SAFETY: the child makes system calls only.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: no pointers are passed.
            let gone = unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1;
            let other = !file.is_ours();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if gone && other { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0, "the child has the file still open");
        assert!(file.is_ours() && file.metadata().is_ok());
    }

    #[test]
    fn an_event_stays_happened() {
        let event = Event::new().unwrap();
        assert!(!event.has_happened());
        event.set();
        event.set();
        assert!(event.has_happened() && event.has_happened());
    }
}
