//! The threads of a queue, and what they share with whoever takes the events.

use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::state::{Help, Job, Kind, State};
use super::{News, Settings};
use crate::client::{Chat, Client, Cut, Said};
use crate::error::Error;
use crate::logger::Logger;
use crate::panics;
use crate::sys;

/// What the threads of a queue share.
pub struct Shared {
    pub logger: Arc<Logger>,
    pub client: Arc<Client>,
    state: Mutex<State>,
    /// Notified when there is an event to take, or none any more.
    pub news: Condvar,
    /// Notified when there is work for a thread, or none any more.
    work: Condvar,
    /// Notified when the keeper has something to do.
    keeping: Condvar,
    /// Notified when there is room for an event.
    room: Condvar,
    /// Notified when the last thread ends.
    ended: Condvar,
    /// Set while events wait, from when somebody asks for it.
    readable: OnceLock<sys::Event>,
}

/// How long a thread without work waits for some.
const LINGER: Duration = Duration::from_secs(5);

/// How often is looked at what wakes nobody: the time, and whether the logger wants calls to end.
const LOOK: Duration = Duration::from_millis(50);

/// As much as calls on threads of the host's are promised to need.
const STACK: usize = 128 * 1024;

impl Shared {
    pub fn new(logger: &Arc<Logger>, client: &Arc<Client>, settings: Settings) -> Shared {
        Shared {
            logger: Arc::clone(logger),
            client: Arc::clone(client),
            state: Mutex::new(State::new(settings)),
            news: Condvar::new(),
            work: Condvar::new(),
            keeping: Condvar::new(),
            room: Condvar::new(),
            ended: Condvar::new(),
            readable: OnceLock::new(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who has to do with a call that is to end: a thread to leave its entry if it waits, or its
    /// own if that waits for room. Not all of them, for there may be thousands.
    pub fn wake_for_one(&self) {
        self.work.notify_one();
        self.keeping.notify_one();
        self.room.notify_all();
    }

    /// Wakes all: every call is to end.
    pub fn wake_all(&self) {
        for all in [&self.news, &self.work, &self.keeping, &self.room] {
            all.notify_all();
        }
    }

    /// Sees to it that calls that wait find a thread, as far as there may be more.
    pub fn reinforce<'s>(
        self: &'s Arc<Self>,
        mut state: MutexGuard<'s, State>,
    ) -> MutexGuard<'s, State> {
        let is_first = !state.has_runners();
        let kind = match state.help() {
            None => return state,
            Some(Help::Idle) => {
                self.work.notify_one();
                return state;
            }
            Some(Help::New(kind)) => kind,
        };
        let made = if is_first {
            // With the lock: nobody is to count on a first one that can't be had.
            self.spawn(kind)
        } else {
            drop(state);
            let made = self.spawn(kind);
            state = self.state();
            made
        };
        if !made {
            state.refuse(kind);
            self.logger.note_thread_refused();
        }
        state
    }

    fn spawn(self: &Arc<Self>, kind: Kind) -> bool {
        let shared = Arc::clone(self);
        let builder = thread::Builder::new()
            .name("audit-queue".into())
            .stack_size(STACK);
        let work: Box<dyn FnOnce() + Send> = match kind {
            Kind::Keeper => Box::new(move || shared.keep()),
            // A descriptor is needed for each as well, to end its call by.
            Kind::Runner => match sys::Event::new() {
                Ok(stop) => Box::new(move || shared.run(&Arc::new(stop))),
                Err(_) => return false,
            },
        };
        sys::without_signals(|| builder.spawn(work)).is_ok()
    }

    /// Makes calls, one after the other.
    fn run(self: &Arc<Self>, stop: &Arc<sys::Event>) {
        let mut state = self.state();
        let mut has_rested = false;
        loop {
            if let Some(job) = state.next_job(stop) {
                drop(self.reinforce(state));
                state = self.perform(job, Some(stop));
                state.rests();
                has_rested = false;
                continue;
            }
            let waits = state.has_waiting();
            if state.is_closed() || (has_rested && !waits) {
                break;
            }
            if waits {
                // There is no room for what they would tell.
                state.abandon_late(Instant::now());
            }
            let patience = if waits { LOOK } else { LINGER };
            (state, has_rested) = wait_for(&self.work, state, patience);
        }
        self.leave(state, Kind::Runner);
    }

    /// Ends the calls that wait when their time is over, or when they are told to.
    fn keep(&self) {
        let mut state = self.state();
        let mut has_rested = false;
        loop {
            if let Some(job) = state.next_abandoned() {
                drop(state);
                state = self.perform(job, None);
                has_rested = false;
                continue;
            }
            let now = Instant::now();
            let next = state.abandon_late(now);
            if next.is_some() && self.logger.is_stopped() {
                state.abandon_all();
            }
            if state.has_abandoned() {
                continue;
            }
            if state.is_closed() || (has_rested && next.is_none()) {
                break;
            }
            let left = |at: Instant| at.saturating_duration_since(now).min(LOOK);
            (state, has_rested) = wait_for(&self.keeping, state, next.map_or(LINGER, left));
        }
        self.leave(state, Kind::Keeper);
    }

    /// Says that a thread ends; the last one to who waits for that.
    fn leave(&self, mut state: MutexGuard<'_, State>, kind: Kind) {
        state.leave(kind);
        if !state.has_threads() {
            self.ended.notify_all();
        }
    }

    /// Makes a call, or leaves its entry; until `stop` happens. The lock isn't held meanwhile.
    fn perform(&self, job: Job, stop: Option<&sys::Event>) -> MutexGuard<'_, State> {
        let tag = job.tag;
        let result = panics::contain(|| self.make(job, stop));
        let mut state = self.state();
        let was_drained = state.is_drained();
        let was_told_to_end = state.end(tag, result.and_then(|result| result));
        if let Some(stop) = stop.filter(|_| was_told_to_end) {
            stop.clear();
        }
        self.tell(was_drained);
        state
    }

    fn make(&self, job: Job, stop: Option<&sys::Event>) -> Result<Chat, Error> {
        let mut teller = Teller {
            shared: self,
            tag: job.tag,
            deadline: job.deadline(),
            stop,
            news: Vec::new(),
            bytes: 0,
        };
        let wants = job.pieces;
        let (call, cut) = job.into_call();
        // A call that begins now would be cut at once, and nobody would know how far it came.
        let stopped = self.logger.is_stopped().then_some(Cut::Cancelled);
        if let Some(cut) = cut.or(stopped) {
            return self.client.abandon(call, cut);
        }
        let mut run = self.client.begin(call, wants, stop)?;
        let mut said = Said::default();
        while run.proceed(&self.client) {
            while run.hear(&self.client, &mut said) {
                teller.note(&said);
                // What came together is told together.
                while teller.has_room() && run.hear_more(&mut said) {
                    teller.note(&said);
                }
                teller.tell();
            }
        }
        run.finish(&self.client)
    }

    /// Says that events came; the first of them, if there were none.
    fn tell(&self, was_drained: bool) {
        if was_drained && let Some(readable) = self.readable.get() {
            readable.set();
        }
        self.news.notify_one();
    }

    /// Goes on after an event was taken.
    pub fn taken(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        if state.is_drained()
            && let Some(readable) = self.readable.get()
        {
            readable.clear();
        }
        if state.has_room() {
            self.room.notify_one();
        }
        drop(self.reinforce(state));
    }

    /// Readable while events wait; `None` where there is no descriptor for it.
    pub fn readable(&self) -> Option<RawFd> {
        // With the lock, so that no event comes meanwhile.
        let state = self.state();
        if self.readable.get().is_none() {
            let event = sys::Event::new().ok()?;
            if !state.is_drained() {
                event.set();
            }
            let _ = self.readable.set(event);
        }
        self.readable.get().map(sys::Event::fd)
    }

    /// Waits until every thread has ended. What none is there to do, is done here.
    pub fn wait_for_threads(&self, until: Instant) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.next_abandoned() {
                drop(state);
                state = self.perform(job, None);
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if !state.has_threads() || left.is_zero() {
                return;
            }
            (state, _) = wait_for(&self.ended, state, left);
        }
    }
}

/// Makes events of what a call brings.
struct Teller<'s> {
    shared: &'s Shared,
    tag: u64,
    deadline: Option<Instant>,
    stop: Option<&'s sys::Event>,
    /// What is to be told, and how much that is.
    news: Vec<News>,
    bytes: usize,
}

impl Teller<'_> {
    /// So much is told at a time.
    const MOST: usize = 16 * 1024;

    fn has_room(&self) -> bool {
        self.bytes < Self::MOST
    }

    /// Notes what is to be told. Text that follows text is one text.
    fn note(&mut self, said: &Said) {
        if let Some(chunk) = said.chunk() {
            self.bytes += chunk.len();
            self.news.push(News::Chunk(copy(chunk)));
        }
        let Some(delta) = said.delta() else {
            return;
        };
        self.bytes += delta.len();
        match self.news.last_mut() {
            Some(News::Delta(text)) => text.extend_from_slice(delta),
            _ => self.news.push(News::Delta(copy(delta))),
        }
    }

    /// Makes events of it, once there is room for them. A call that is to end doesn't wait: what has
    /// come is told.
    fn tell(&mut self) {
        let mut state = self.shared.state();
        while !state.has_room() && !self.must_end() {
            (state, _) = wait_for(&self.shared.room, state, LOOK);
        }
        let was_drained = state.is_drained();
        for news in self.news.drain(..) {
            state.add(self.tag, news);
        }
        self.bytes = 0;
        self.shared.tell(was_drained);
        if state.has_room() {
            // For another that waits.
            self.shared.room.notify_one();
        }
    }

    fn must_end(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
            || self.stop.is_some_and(sys::Event::has_happened)
            || self.shared.logger.is_stopped()
    }
}

/// The host is given it with a NUL after its end.
fn copy(text: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(text.len() + 1);
    copy.extend_from_slice(text);
    copy
}

/// Waits to be notified, and says whether the time was up before.
pub fn wait_for<'s>(
    condition: &Condvar,
    state: MutexGuard<'s, State>,
    time: Duration,
) -> (MutexGuard<'s, State>, bool) {
    let waited = condition.wait_timeout(state, time);
    let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
    (state, result.timed_out())
}
