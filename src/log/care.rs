//! The thread of one log: it looks after it off the callers' path.
//!
//! It's started with the first entry, with all signals blocked, and ends with the log. If it can't be
//! started, calls go on without it, and try again to start it. A forked child's logs make their own.
//! No log waits for another's disk.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Log;
use super::seal::Wanted;
use crate::error::{Error, Status};
use crate::panics::contain;
use crate::sys;

/// How often it looks after a log that is well, and after one that isn't.
const PERIOD: Duration = Duration::from_secs(5);
const SHORT_PERIOD: Duration = Duration::from_secs(1);

/// How often the dead are looked for.
const SWEEP: Duration = Duration::from_secs(4);

/// How soon it tries to seal again what another process's sealing, or a long backlog, left.
const SEAL_AGAIN: Duration = Duration::from_millis(50);

/// It reads and parses lines, in buffers on the heap.
const STACK: usize = 256 * 1024;

thread_local! {
    /// Whether this is such a thread.
    static IS_CARE: Cell<bool> = const { Cell::new(false) };
}

/// The thread, and what it is asked for.
#[derive(Default)]
pub struct Care {
    /// So that a call needn't lock anything to know.
    runs: AtomicBool,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    thread: Option<JoinHandle<()>>,
    tried: Option<Instant>,
    /// When it's to look next, if that's before its time.
    due: Option<Instant>,
    /// Those who wait for a flush.
    flushes: Vec<Arc<Flush>>,
    ends: bool,
}

/// A flush that somebody waits for. (A channel would leave its thread a handle that nobody frees.)
#[derive(Default)]
struct Flush {
    /// What it came to.
    result: Mutex<Option<Result<(), Error>>>,
    done: Condvar,
}

impl Flush {
    fn result(&self) -> MutexGuard<'_, Option<Result<(), Error>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, result: Result<(), Error>) {
        *self.result() = Some(result);
        self.done.notify_all();
    }

    /// Waits for what it comes to; `None` if the time is up before.
    fn wait(&self, timeout: Duration) -> Option<Result<(), Error>> {
        let waited = self
            .done
            .wait_timeout_while(self.result(), timeout, |result| result.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

impl Care {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread, unless it runs. Costs next to nothing then.
    pub fn start(self: &Arc<Self>, log: &Weak<Log>) {
        if self.runs.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        let recently = state
            .tried
            .is_some_and(|tried| tried.elapsed() < SHORT_PERIOD);
        if state.thread.is_some() || state.ends || recently {
            return;
        }
        state.tried = Some(Instant::now());
        let builder = thread::Builder::new()
            .name("audit-log".into())
            .stack_size(STACK);
        let (care, log) = (Arc::clone(self), Weak::clone(log));
        let thread = sys::without_signals(|| builder.spawn(move || care.run(&log)));
        self.runs.store(thread.is_ok(), Ordering::Release);
        state.thread = thread.ok();
    }

    /// Has the thread look after the log soon.
    pub fn wake_in(&self, time: Duration) {
        let Some(due) = Instant::now().checked_add(time) else {
            return;
        };
        let mut state = self.state();
        if state.due.is_none_or(|known| due < known) {
            state.due = Some(due);
            self.woken.notify_all();
        }
    }

    /// Has the thread look after the log now.
    pub fn wake(&self) {
        self.wake_in(Duration::ZERO);
    }

    /// Ends the looking after. Waits for what the thread is just doing.
    pub fn end(&self) {
        let mut state = self.state();
        state.ends = true;
        self.runs.store(false, Ordering::Release);
        let thread = state.thread.take();
        drop(state);
        self.woken.notify_all();
        // The last of the log may be the thread's own.
        if let Some(thread) = thread.filter(|_| !IS_CARE.get()) {
            // Its panics are errors.
            let _ = thread.join();
        }
    }

    fn run(&self, log: &Weak<Log>) {
        IS_CARE.set(true);
        let mut period = Duration::ZERO;
        loop {
            let until = Instant::now() + period;
            let mut state = self.state();
            while !state.ends && state.flushes.is_empty() {
                let until = state.due.map_or(until, |due| due.min(until));
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self
                    .woken
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            let flushes = std::mem::take(&mut state.flushes);
            let ends = state.ends && flushes.is_empty();
            state.due = None;
            drop(state);
            let Some(log) = log.upgrade().filter(|_| !ends) else {
                return;
            };
            if !flushes.is_empty() {
                let result = contain(|| log.flush()).and_then(|result| result);
                flushes.iter().for_each(|flush| flush.end(result.clone()));
            }
            period = match contain(|| log.look_after()) {
                Ok(true) => PERIOD,
                Ok(false) => SHORT_PERIOD,
                Err(defect) => {
                    log.fault(&io::Error::other(defect.message));
                    SHORT_PERIOD
                }
            };
        }
    }

    /// Has the thread flush the log. `None` if there is no thread.
    fn ask(&self) -> Option<Arc<Flush>> {
        let mut state = self.state();
        if state.ends || state.thread.is_none() {
            return None;
        }
        let flush = Arc::<Flush>::default();
        state.flushes.push(Arc::clone(&flush));
        drop(state);
        self.woken.notify_all();
        Some(flush)
    }
}

impl Log {
    /// Flushes within a time: the log's thread can wait for the disk longer than the caller does. Without
    /// a thread or a limit, the caller waits.
    pub fn flush_within(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let asked = timeout.and_then(|timeout| Some((timeout, self.care.ask()?)));
        let Some((timeout, flush)) = asked else {
            return self.flush();
        };
        flush.wait(timeout).unwrap_or_else(|| {
            Err(Error::new(
                Status::Timeout,
                "the log wasn't confirmed by the disk and sealed in time; it may yet be",
            ))
        })
    }

    /// What is done from time to time. Returns whether all is well.
    pub(super) fn look_after(&self) -> bool {
        #[cfg(feature = "faults")]
        crate::panics::on_demand("care");
        let completed = self.complete_late();
        let now = self.now();
        let mut state = self.lock();
        let result = self.write_waiting(&mut state);
        if let Err(error) = result {
            state.last_error = Some((now, self.message(&error)));
        }
        self.leave_what_was_moved(&mut state);
        self.leave_what_is_over(&mut state, &now);
        self.note(&state, state.day.as_ref());
        drop(state);

        let rescued = self.rescue_the_lost();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            *swept = Some(Instant::now());
            drop(swept);
            self.leave_shared_journal();
            if let Err(error) = self.sweep(false) {
                self.fault(&error);
            }
        }
        let mended = self.mend_what_was_met().is_ok();
        let sealed = self.seal_if_due();
        self.start_witnessing();
        let state = self.lock();
        completed.is_ok()
            && rescued
            && mended
            && sealed
            && state.waiting.is_empty()
            && state.gap.is_none()
    }

    /// Seals what there is, if it's time. Returns whether all is well.
    fn seal_if_due(&self) -> bool {
        let Some(sealer) = self.sealer.get() else {
            return true;
        };
        let due_in = sealer.due_in();
        if !due_in.is_zero() {
            if sealer.has_unsealed() {
                self.care.wake_in(due_in);
            }
            return true;
        }
        // What the disk refuses to confirm is written anew, and not signed where it is.
        let sealed = self
            .confirm_all()
            .and_then(|()| sealer.seal((self.settings.now)(), Wanted::default()));
        match sealed {
            Ok(found) => found.into_iter().for_each(|found| self.note_found(found)),
            Err(error) => {
                self.fault(&error);
                return false;
            }
        }
        if sealer.has_unsealed() {
            self.care.wake_in(sealer.due_in().max(SEAL_AGAIN));
        }
        true
    }
}
