//! When a call must end, and the waits that obey it.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::sys::{self, Readiness};

/// When a call must end.
#[derive(Debug, Clone)]
pub struct Limits {
    pub deadline: Instant,
    pub idle: Duration,
    pub connect: Duration,
    /// Each readable when the call is to end at once; -1 is never.
    pub stop: [RawFd; 2],
    /// When it was last looked whether it's to end at once.
    looked: Cell<Option<Instant>>,
}

/// Why a wait, or work, ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Deadline,
    Connect,
    Idle,
    Cancelled,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::Deadline => "the call's time (timeout_ms) is over",
            Cut::Connect => "no connection within connect_timeout_ms",
            Cut::Idle => "silence for longer than idle_timeout_ms",
            Cut::Cancelled => "the call was cancelled",
        })
    }
}

/// What a wait is part of, for each has a bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Until then a connection must be made.
    Connecting(Instant),
    /// The request is being sent, or its answer hasn't begun: a model may think for long.
    Requesting,
    /// The answer has begun.
    Answering,
    /// All that matters has come; what is left may take until then.
    Ending(Instant),
}

/// A wait that ended otherwise than by what it waited for.
#[derive(Debug)]
pub enum Ended {
    Cut(Cut),
    Io(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Io(error)
    }
}

impl Limits {
    pub fn new(deadline: Instant, idle: Duration, connect: Duration, stop: [RawFd; 2]) -> Limits {
        Limits {
            deadline,
            idle,
            connect,
            stop,
            looked: Cell::new(None),
        }
    }

    /// Whether the call is to end at once, and why: for work between two waits. Asked for every
    /// chunk, so it makes a system call only now and then.
    pub fn reached(&self) -> Option<Cut> {
        const SELDOM: Duration = Duration::from_millis(1);
        let now = Instant::now();
        if now >= self.deadline {
            return Some(Cut::Deadline);
        }
        let is_recent = |looked: Instant| now.saturating_duration_since(looked) < SELDOM;
        if self.looked.get().is_some_and(is_recent) {
            return None;
        }
        self.looked.set(Some(now));
        let stopped = sys::wait(self.stops(), Duration::ZERO);
        (!matches!(stopped, Ok(None))).then_some(Cut::Cancelled)
    }

    /// Sleeps before the next attempt.
    pub fn sleep(&self, time: Duration) -> Result<(), Cut> {
        match wait_for(self.stops(), Instant::now() + time) {
            Ok(None) => Ok(()),
            _ => Err(Cut::Cancelled),
        }
    }

    /// Waits until one of the descriptors is ready, and says which.
    pub fn wait<const N: usize>(
        &self,
        phase: Phase,
        fds: [(RawFd, Readiness); N],
        until: Option<Instant>,
    ) -> Result<Option<usize>, Ended> {
        let now = Instant::now();
        let idle = now + self.idle;
        let asks = fds
            .iter()
            .any(|(_, readiness)| *readiness == Readiness::Write);
        let (bound, cut) = match phase {
            Phase::Connecting(bound) => (bound, Cut::Connect),
            Phase::Ending(bound) => (bound, Cut::Idle),
            Phase::Requesting if !asks => (self.deadline, Cut::Deadline),
            Phase::Requesting | Phase::Answering => (idle, Cut::Idle),
        };
        let (bound, cut) = if self.deadline <= bound {
            (self.deadline, Cut::Deadline)
        } else {
            (bound, cut)
        };
        let until = until.filter(|until| *until < bound);
        let mut all = [(-1, Readiness::Read); MOST];
        let places = all.iter_mut().zip(self.stops().into_iter().chain(fds));
        places.for_each(|(place, fd)| *place = fd);
        let ready = match N {
            1 => wait_for([all[0], all[1], all[2]], bound)?,
            _ => wait_for(all, until.unwrap_or(bound))?,
        };
        let now = Instant::now();
        self.looked.set(Some(now));
        match ready {
            Some(0 | 1) => Err(Ended::Cut(Cut::Cancelled)),
            Some(at) if now < bound => Ok(Some(at - 2)),
            None if until.is_some() => Ok(None),
            // Ready, but too late: a server that drips bytes doesn't extend the deadline.
            _ => Err(Ended::Cut(cut)),
        }
    }

    fn stops(&self) -> [(RawFd, Readiness); 2] {
        self.stop.map(|stop| (stop, Readiness::Read))
    }
}

/// The most descriptors that a wait takes, those that end the call included.
const MOST: usize = 10;

/// Waits for one of the descriptors until the given moment; signals don't cut it short.
fn wait_for<const N: usize>(
    fds: [(RawFd, Readiness); N],
    until: Instant,
) -> io::Result<Option<usize>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match sys::wait(fds, left)? {
            None if left.is_zero() => return Ok(None),
            None => {}
            ready => return Ok(ready),
        }
    }
}
