//! Waiting: for descriptors, and for events that end waits.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::{Private, kernel};

/// A flag that wakes every thread that waits for it, and stays set until it's cleared.
#[derive(Debug)]
pub struct Event(Private<OwnedFd>);

impl Event {
    /// An event that hasn't happened.
    pub fn new() -> io::Result<Event> {
        Private::new(kernel::event).map(Event)
    }

    /// Makes it happen.
    pub fn set(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer and the length are those of a local. The write fails only when
        // the counter is full, and then the event has happened long ago.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it not have happened, for whoever alone knows what it stands for.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // SAFETY: the pointer and the length are those of a local. The read fails only when it
        // hasn't happened.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
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
    /// That whoever reads the other end has gone: of a pipe, a socket or a terminal. A file is never.
    Gone,
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
            // What it always tells of: POLLERR and POLLHUP.
            Readiness::Gone => 0,
        },
        revents: 0,
    });
    match kernel::poll(&mut polled, timeout) {
        Ok(_) => Ok(polled.iter().position(|entry| entry.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_a_pipe_is_missed_when_gone_and_not_before() {
        let (reader, writer) = io::pipe().unwrap();
        let gone = || wait([(writer.as_raw_fd(), Readiness::Gone)], Duration::ZERO).unwrap();
        assert_eq!(gone(), None);
        drop(reader);
        assert_eq!(gone(), Some(0));
        let file = std::fs::File::open("/dev/null").unwrap();
        let file = [(file.as_raw_fd(), Readiness::Gone)];
        assert_eq!(wait(file, Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn an_event_stays_happened_until_it_is_cleared() {
        let event = Event::new().unwrap();
        assert!(!event.has_happened());
        event.set();
        event.set();
        assert!(event.has_happened() && event.has_happened());
        event.clear();
        assert!(!event.has_happened());
    }
}
