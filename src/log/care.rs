//! The one thread of a process: it looks after every log that the process has open.
//!
//! It's started with the first entry, with all signals blocked, and ends with the last log. If it
//! can't be started, calls go on without it, and try again to start it. A forked child makes its
//! own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Store;
use crate::sys::{self, PerProcess};

static KEEPER: PerProcess<Keeper> = PerProcess::new();

/// How often it looks after a log that is well, and after one that isn't.
const PERIOD: Duration = Duration::from_secs(5);
const SHORT_PERIOD: Duration = Duration::from_secs(1);

/// It reads and parses lines, in buffers on the heap.
const STACK: usize = 256 * 1024;

#[derive(Default)]
struct Keeper {
    /// So that a call needn't lock anything to know.
    runs: AtomicBool,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    stores: Vec<Weak<Store>>,
    thread: Option<JoinHandle<()>>,
    tried: Option<Instant>,
    /// When it's to look next, if that's before its time.
    due: Option<Instant>,
    /// Which thread is wanted: an earlier one ends, even if the next is started before it has.
    generation: u64,
}

impl Keeper {
    fn of_this_process() -> Option<&'static Keeper> {
        KEEPER
            .get_or_try_init(|| Ok::<_, ()>(Keeper::default()))
            .ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, generation: u64) {
        let mut period = Duration::ZERO;
        loop {
            let mut state = self.state();
            let until = Instant::now() + period;
            while state.generation == generation {
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
            if state.generation != generation {
                return;
            }
            state.due = None;
            state.stores.retain(|store| store.strong_count() > 0);
            let stores = state.stores.clone();
            drop(state);
            let stores = stores.iter().filter_map(Weak::upgrade);
            let unwell = stores.filter(|store| !store.look_after()).count();
            period = if unwell == 0 { PERIOD } else { SHORT_PERIOD };
        }
    }
}

/// Has a log looked after, once the thread runs.
pub fn enlist(store: &Arc<Store>) {
    if let Some(keeper) = Keeper::of_this_process() {
        keeper.state().stores.push(Arc::downgrade(store));
    }
}

/// Starts the thread, unless it runs. Costs next to nothing then.
pub fn start() {
    let Some(keeper) = Keeper::of_this_process() else {
        return;
    };
    if keeper.runs.load(Ordering::Acquire) {
        return;
    }
    let mut state = keeper.state();
    let recently = state
        .tried
        .is_some_and(|tried| tried.elapsed() < SHORT_PERIOD);
    if state.thread.is_some() || recently {
        return;
    }
    state.tried = Some(Instant::now());
    let generation = state.generation;
    let builder = thread::Builder::new()
        .name("audit-keeper".into())
        .stack_size(STACK);
    let thread = sys::without_signals(|| builder.spawn(move || keeper.run(generation)));
    keeper.runs.store(thread.is_ok(), Ordering::Release);
    state.thread = thread.ok();
}

/// Whether the thread runs.
pub fn runs() -> bool {
    KEEPER
        .get()
        .is_some_and(|keeper| keeper.runs.load(Ordering::Acquire))
}

/// Has the thread look after the logs soon.
pub fn wake_in(time: Duration) {
    let Some(keeper) = KEEPER.get() else {
        return;
    };
    let due = Instant::now() + time;
    let mut state = keeper.state();
    if state.due.is_none_or(|known| due < known) {
        state.due = Some(due);
        keeper.woken.notify_all();
    }
}

/// Has the thread look after the logs now.
pub fn wake() {
    wake_in(Duration::ZERO);
}

/// Ends the looking after of a log, and with the last one the thread. Waits for what the thread is
/// just doing.
pub fn dismiss(store: &Arc<Store>) {
    let Some(keeper) = KEEPER.get() else {
        return;
    };
    let mut state = keeper.state();
    let ours = Arc::downgrade(store);
    state
        .stores
        .retain(|known| !known.ptr_eq(&ours) && known.strong_count() > 0);
    if !state.stores.is_empty() {
        return;
    }
    state.generation += 1;
    state.tried = None;
    let thread = state.thread.take();
    keeper.runs.store(false, Ordering::Release);
    drop(state);
    keeper.woken.notify_all();
    if let Some(thread) = thread {
        // It doesn't panic; and if it did, there would be nothing to do about it.
        let _ = thread.join();
    }
}
