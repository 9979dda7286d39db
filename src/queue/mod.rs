//! Calls that nobody blocks for: threads of the library's own make them, and what comes of them
//! waits as events to be taken.
//!
//! Each running call has a thread, for a call blocks; a thread without one ends after a while. One
//! more, the keeper, ends the calls that still wait when their time is up. How much waits to be taken
//! is bounded: a thread that has more to tell waits until there is room, and the server with it.

mod state;
mod threads;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{Chat, ChatRequest, Client, Pieces};
use crate::error::{Error, Status};
use crate::logger::Logger;
use crate::settings;
use crate::sys;

use threads::{Shared, wait_for};

/// How much a queue takes on at once.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Calls that run; the rest waits in order.
    running: usize,
    /// Bytes of events that may wait to be taken.
    event_bytes: usize,
}

/// What a call has to tell.
pub struct Event {
    /// Which call.
    pub tag: u64,
    /// What.
    pub news: News,
}

/// News of a call.
pub enum News {
    /// Text that was added to the answer.
    Delta(Vec<u8>),
    /// The payload of an event of the server's.
    Chunk(Vec<u8>),
    /// It's over, with that.
    Done(Box<Result<Chat, Error>>),
}

/// A queue; of the process that made it.
pub struct Queue {
    /// Always there, but in its drop.
    shared: Option<Arc<Shared>>,
    process: u32,
}

/// Without a limit it's waited again and again.
const LONG: Duration = Duration::from_secs(3600);

/// How long the end of a queue waits for its calls, which a disk that hangs holds up.
const GRACE: Duration = Duration::from_secs(5);

impl Settings {
    /// From a JSON object; `None` is all defaults.
    pub fn parse(text: Option<&str>) -> Result<Settings, Error> {
        const MOST_RUNNING: u64 = 4096;
        const MOST_BYTES: u64 = 1 << 30;
        let mut settings = Settings {
            running: 64,
            event_bytes: 4 << 20,
        };
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        for setting in settings::settings("options: ", Status::Argument, text.unwrap_or("{}"))? {
            match setting.key.as_str() {
                "running" => settings.running = size(setting.integer(1, MOST_RUNNING)?),
                "event_bytes" => settings.event_bytes = size(setting.integer(1024, MOST_BYTES)?),
                _ => return Err(setting.unknown()),
            }
        }
        Ok(settings)
    }
}

impl Queue {
    /// A queue whose calls are the client's to make, and the logger's to log.
    pub fn new(logger: &Arc<Logger>, client: &Arc<Client>, settings: Settings) -> Queue {
        Queue {
            shared: Some(Arc::new(Shared::new(logger, client, settings))),
            process: sys::process_number(),
        }
    }

    /// In a child of fork the queue is the parent's: its threads aren't there, and its lock may be
    /// held for ever.
    fn shared(&self) -> Result<&Arc<Shared>, Error> {
        let ours = self.process == sys::process_number();
        self.shared.as_ref().filter(|_| ours).ok_or_else(|| {
            Error::new(
                Status::Forked,
                "the process was forked since the queue was made, and this is the child: its \
                 calls are the parent's; make a queue here",
            )
        })
    }

    /// Takes a call, to be made as soon as may be. `tag` tells it from the others until its end was
    /// taken. After an error it isn't made, and isn't logged.
    pub fn submit(&self, request: &ChatRequest<'_>, pieces: Pieces, tag: u64) -> Result<(), Error> {
        let shared = self.shared()?;
        let streams = pieces != Pieces::None;
        let call = shared.client.prepare(&shared.logger, request, streams)?;
        let mut state = shared.state();
        if state.is_closed() {
            return Err(gone());
        }
        state.submit(tag, call.into_owned(), pieces)?;
        state = shared.reinforce(state);
        if !state.has_runners() && state.withdraw(tag) {
            return Err(Error::new(
                Status::Internal,
                "no thread can be made for calls: the process, or its container, is allowed no \
                 more; nothing was sent",
            ));
        }
        Ok(())
    }

    /// Takes the next event; `None` if there is none in that time. Without a limit it waits for one.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        let shared = self.shared()?;
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = shared.state();
        loop {
            if state.is_closed() {
                return Err(gone());
            }
            if let Some(event) = state.take() {
                shared.taken(state);
                return Ok(Some(event));
            }
            let left = until.map_or(LONG, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Ok(None);
            }
            (state, _) = wait_for(&shared.news, state, left);
        }
    }

    /// Readable while events wait; `None` where there is no descriptor for it.
    pub fn readable(&self) -> Option<RawFd> {
        self.shared().ok()?.readable()
    }

    /// Ends a call; says whether there is one that hasn't ended.
    pub fn cancel(&self, tag: u64) -> Result<bool, Error> {
        let shared = self.shared()?;
        let known = shared.state().cancel(tag);
        if known {
            shared.wake_for_one();
        }
        Ok(known)
    }

    /// Ends all calls, and waits until each has its entry; no longer than for a disk that hangs.
    pub fn close(&self) {
        if let Ok(shared) = self.shared() {
            shared.state().close();
            shared.wake_all();
            let until = Instant::now() + GRACE;
            shared.wait_for_threads(until);
            // The last of the logger is to be this thread's to drop, not of one that is just ending.
            while Arc::strong_count(shared) > 1 && Instant::now() < until {
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.process != sys::process_number() {
            std::mem::forget(self.shared.take());
        }
    }
}

fn gone() -> Error {
    Error::new(
        Status::Handle,
        "queue was freed; pass what audit_queue_new gave",
    )
}
