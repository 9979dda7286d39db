//! A call that calls its host back, and may be left by it.
//!
//! A callback may never return: a Go panic that is recovered, an exception, longjmp and pthread_exit
//! take the host past the library. So nothing that matters stands on the host's stack while a callback
//! runs: the call is kept here, under a handle, and the frames below the callback hold plain values
//! that nobody need clean up. A call that was left is noticed when its thread uses the library again
//! or ends, and ended by whoever closes its logger or ends the process.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use super::handle::Table;
use super::types::*;
use crate::client::{Chat, Client, Pieces, Run, Said};
use crate::error::{Error, Status};
use crate::logger::Logger;
use crate::panics::contain;
use crate::sys::{self, Event, HostThread};

static TALKS: Table<Talk> = Table::new(0xa6);

/// A call, as it stands while a callback of its host runs.
pub struct Talk {
    /// Of which it is.
    process: u32,
    logger: Arc<Logger>,
    client: Arc<Client>,
    /// Kept as long as the run waits for it.
    _cancel: Option<Arc<Event>>,
    state: Mutex<State>,
    /// What the callbacks are given: touched by the call's own thread alone, for a callback may be
    /// reading it.
    said: Mutex<Said>,
}

struct State {
    /// `None` once it's over.
    run: Option<Run<'static>>,
    /// What came of it.
    chat: Option<Result<Chat, Error>>,
    /// After the chunk its text is to be heard.
    delta_follows: bool,
}

/// What the host is called back with: plain values.
#[derive(Clone, Copy)]
pub struct Callbacks {
    pub on_delta: AuditCallback,
    pub on_chunk: AuditCallback,
    pub context: *mut c_void,
}

impl Callbacks {
    /// Which pieces of the answer they are for.
    pub fn wants(&self) -> Pieces {
        match (self.on_delta, self.on_chunk) {
            (None, None) => Pieces::None,
            (Some(_), None) => Pieces::Deltas,
            (None, Some(_)) => Pieces::Chunks,
            (Some(_), Some(_)) => Pieces::All,
        }
    }
}

/// What is next.
#[derive(Clone, Copy)]
enum Step {
    Delta(*const c_char, usize),
    Chunk(*const c_char, usize),
    Over,
}

/// The handle of a talk.
pub type Handle = *mut Talk;

impl Talk {
    /// Keeps a call that `begin` begins.
    pub fn begin(
        logger: &Arc<Logger>,
        client: &Arc<Client>,
        cancel: Option<Arc<Event>>,
        begin: impl FnOnce(Option<&Event>) -> Result<Run<'static>, Error>,
    ) -> Result<Handle, Error> {
        let talk = Talk {
            process: sys::process_number(),
            logger: Arc::clone(logger),
            client: Arc::clone(client),
            _cancel: cancel.clone(),
            state: Mutex::new(State {
                run: None,
                chat: None,
                delta_follows: false,
            }),
            said: Mutex::default(),
        };
        // First, for it can be refused, and a call that has begun can't.
        let handle: Handle = TALKS.insert(talk).ok_or_else(|| {
            Error::new(
                Status::Internal,
                "a million calls with callbacks are running; wait for some",
            )
        })?;
        let begun = contain(|| begin(cancel.as_deref())).and_then(|begun| begun);
        match (begun, TALKS.get(handle)) {
            (Ok(run), Some(talk)) => talk.state().run = Some(run),
            (begun, _) => {
                TALKS.remove(handle);
                begun?;
            }
        }
        Ok(handle)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ours(&self) -> bool {
        self.process == sys::process_number()
    }

    /// Goes on, after a callback with its answer.
    fn step(&self, answer: i32, host: &HostThread) -> Step {
        // In the child of a fork its lock may be held for ever.
        if !self.is_ours() {
            return Step::Over;
        }
        let mut state = self.state();
        let State {
            run: Some(run),
            delta_follows,
            ..
        } = &mut *state
        else {
            return Step::Over;
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if answer != AUDIT_CONTINUE {
            *delta_follows = false;
            run.cancel();
        }
        if std::mem::take(delta_follows)
            && let Some(delta) = said.delta()
        {
            return Step::Delta(delta.as_ptr().cast(), delta.len());
        }
        loop {
            if run.hear(&self.client, &mut said) {
                let (chunk, delta) = (said.chunk(), said.delta());
                *delta_follows = chunk.is_some() && delta.is_some();
                let chunk = chunk.map(|text| Step::Chunk(text.as_ptr().cast(), text.len()));
                let delta = delta.map(|text| Step::Delta(text.as_ptr().cast(), text.len()));
                if let Some(step) = chunk.or(delta) {
                    return step;
                }
            }
            host.take_over();
            if !run.proceed(&self.client) {
                break;
            }
        }
        self.finish(&mut state);
        Step::Over
    }

    fn finish(&self, state: &mut State) {
        if let Some(run) = state.run.take() {
            state.chat = Some(run.finish(&self.client));
        }
    }

    /// It can't go on. Its entry says that its outcome is unknown.
    fn fail(&self, panic: Error) {
        let _ = contain(|| {
            let mut state = self.state();
            state.run = None;
            state.chat = Some(Err(panic));
        });
    }

    /// Whether there is more of it to come.
    fn is_running(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => state.run.is_some(),
            Err(_) => true,
        }
    }

    /// What came of it.
    fn end(&self) -> Result<Chat, Error> {
        if !self.is_ours() {
            return Err(Error::new(
                Status::Forked,
                "the process was forked in a callback, and this is the child: the parent finishes the call",
            ));
        }
        let chat = self.state().chat.take();
        chat.unwrap_or_else(|| Err(gone()))
    }

    /// Ends it, if it waits for its host: as cancelled, or, if it `is_late`, as its time ends it. Its host
    /// may yet come back, and finds it over.
    fn leave(&self, is_late: bool, applies: impl FnOnce(&Talk, &Run<'_>) -> bool) {
        if !self.is_ours() {
            return;
        }
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            // Whoever holds the lock works on it.
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(run) = state.run.as_mut().filter(|run| applies(self, run)) else {
            return;
        };
        if !is_late {
            run.cancel();
        }
        let mut nothing = Said::default();
        while run.hear(&self.client, &mut nothing) || run.proceed(&self.client) {}
        self.finish(&mut state);
    }
}

/// Who comes back to a call finds none.
pub fn gone() -> Error {
    Error::new(
        Status::Internal,
        "the call was cancelled: it was taken for one that its callback had left; a coroutine whose \
         stack is copied away must not switch in a callback",
    )
}

/// Ends the calls that wait for their host: of one logger or of all; only those whose time is over,
/// or whatever time they have.
pub fn leave_waiting(logger: Option<&Arc<Logger>>, only_late: bool) {
    let now = Instant::now();
    TALKS.each(|talk| {
        let applies = |talk: &Talk, run: &Run<'_>| {
            logger.is_none_or(|logger| Arc::ptr_eq(logger, &talk.logger))
                && (!only_late || run.deadline() <= now)
        };
        if let Err(panic) = contain(|| talk.leave(only_late, applies)) {
            talk.fail(panic);
        }
    });
}

/// Calls the host back for as long as there is something to hear. Only plain values stand on the
/// stack from the caller's frame to the callback's, so the host may jump over them.
///
/// # Safety
///
/// The host vouches for its callbacks.
pub unsafe fn converse(talk: Handle, logger: *const AuditLogger, callbacks: Callbacks) {
    // Whatever function the host calls after it jumped, from the frame that called this one or from
    // one above: it finds itself above the mark.
    const DISTANCE: usize = 4096;
    let distance = MaybeUninit::<[u8; DISTANCE]>::uninit();
    std::hint::black_box(&distance);
    // SAFETY: as the caller promises.
    unsafe { call_back(talk, logger, callbacks) };
    std::hint::black_box(&distance);
}

/// # Safety
///
/// As for [`converse`].
#[inline(never)]
unsafe fn call_back(talk: Handle, logger: *const AuditLogger, callbacks: Callbacks) {
    let mark = talk.addr();
    let place = enter(Place {
        talk,
        logger: logger.addr(),
        mark: std::hint::black_box(&raw const mark),
    });
    let mut answer = AUDIT_CONTINUE;
    loop {
        let (callback, text, len) = match step(talk, answer) {
            Step::Delta(text, len) => (callbacks.on_delta, text, len),
            Step::Chunk(text, len) => (callbacks.on_chunk, text, len),
            Step::Over => break,
        };
        answer = match callback {
            // SAFETY: the text lives until the next step; the host vouches for the callback.
            Some(callback) => unsafe { callback(text, len, callbacks.context) },
            None => AUDIT_CONTINUE,
        };
    }
    leave(place, talk);
}

fn step(handle: Handle, answer: i32) -> Step {
    let host = HostThread::borrow_to_receive();
    let step = contain(|| TALKS.get(handle).map(|talk| talk.step(answer, &host)));
    match step {
        Ok(step) => step.unwrap_or(Step::Over),
        Err(panic) => {
            // Its entry is written.
            host.take_over();
            if let Some(talk) = TALKS.get(handle) {
                talk.fail(panic);
            }
            Step::Over
        }
    }
}

/// What came of a call that is over. Its handle isn't one any more.
pub fn end(handle: Handle) -> Result<Chat, Error> {
    let result = TALKS
        .get(handle)
        .map_or_else(|| Err(gone()), |talk| talk.end());
    TALKS.remove(handle);
    result
}

/// Where on a thread's stack a call is that may be calling its host back.
#[derive(Clone, Copy)]
struct Place {
    talk: Handle,
    logger: usize,
    /// Holds the talk's address as long as the frame is there.
    mark: *const usize,
}

/// Calls from callbacks of calls from callbacks ...; deeper ones are noticed by others alone.
const MAX_NESTED: usize = 8;

thread_local! {
    /// Cells without destructors, for calls may come from exit handlers, when a thread's destructors
    /// have run.
    static PLACES: [Cell<Option<Place>>; MAX_NESTED] = const { [const { Cell::new(None) }; MAX_NESTED] };
    static AT_END: AtEnd = const { AtEnd };
    static STACK: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Ends what its thread left, when the thread ends.
struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        end_places(|_| true);
    }
}

fn enter(place: Place) -> Option<usize> {
    // A thread whose destructors have run has none any more.
    let _ = AT_END.try_with(|_| ());
    PLACES.with(|places| {
        let free = places.iter().position(|place| place.get().is_none())?;
        places[free].set(Some(place));
        Some(free)
    })
}

fn leave(place: Option<usize>, talk: Handle) {
    let Some(place) = place else { return };
    PLACES.with(|places| {
        // It may have been given up, and be another's.
        if places[place].get().is_some_and(|place| place.talk == talk) {
            places[place].set(None);
        }
    });
}

/// Whether this thread is inside a call of that logger which isn't over.
pub fn is_inside(logger: *const AuditLogger) -> bool {
    let is_there = |place: &Cell<Option<Place>>| {
        let place = place.get().filter(|place| place.logger == logger.addr());
        let talk = place.and_then(|place| TALKS.get(place.talk));
        talk.is_some_and(|talk| talk.is_running())
    };
    PLACES.with(|places| places.iter().any(is_there))
}

/// Ends the calls that this thread left: to be called first in whatever the host calls.
pub fn notice() {
    end_places(was_left);
}

fn end_places(is_over: impl Fn(Place) -> bool) {
    PLACES.with(|places| {
        for cell in places {
            let Some(place) = cell.get().filter(|place| is_over(*place)) else {
                continue;
            };
            cell.set(None);
            let _host = HostThread::borrow();
            let _ = contain(|| {
                if let Some(talk) = TALKS.get(place.talk) {
                    talk.leave(false, |_, _| true);
                }
                TALKS.remove(place.talk);
            });
        }
    });
}

/// Whether the frame that calls back is gone for certain. On another stack than the thread's own (a
/// coroutine's) that can't be told.
#[inline(never)]
fn was_left(place: Place) -> bool {
    let here = std::hint::black_box(&raw const place).addr();
    let (low, high) = STACK.get().unwrap_or_else(|| {
        let found = sys::stack().map_or((0, 0), |stack| (stack.start, stack.end));
        STACK.set(Some(found));
        found
    });
    let is_on_it = |address: usize| (low..high).contains(&address);
    if !is_on_it(here) || !is_on_it(place.mark.addr()) {
        return false;
    }
    // The stack grows down. Where it has grown again over the frame, it has seldom left the mark.
    here > place.mark.addr() || {
        // SAFETY: it lies in the part of this thread's stack that is in use, and is aligned.
        let mark = unsafe { place.mark.read_volatile() };
        mark != place.talk.addr()
    }
}
