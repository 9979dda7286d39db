//! Panics: each is a defect of this library, becomes an error, and is heard of nowhere else.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Status};

thread_local! {
    /// How deep this thread is inside the library.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Where the last panic was.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Does something of which a panic becomes an error. What it works on must be its own, or guarded
/// by locks that outlive a panic.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    silence();
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|panic| {
        let message = format!(
            "a defect of the library, please report it: {}{}",
            message_of(&*panic),
            PLACE
                .try_with(Cell::take)
                .ok()
                .flatten()
                .unwrap_or_default()
        );
        // What a panic carries may panic again when it's dropped.
        std::mem::forget(panic);
        Error::new(Status::Internal, message)
    })
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

/// Panics if the environment asks for one at this place, for the tests of what becomes of it.
#[cfg(feature = "faults")]
#[allow(clippy::panic)]
pub fn on_demand(place: &str) {
    if std::env::var_os("AUDIT_LOGGER_PANIC").is_some_and(|wanted| wanted == place) {
        panic!("a panic on demand");
    }
}

/// The default hook writes to stderr, which is the host's. Panics of the host's own Rust code, if
/// it links the library as Rust, go where they went.
fn silence() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    let outer = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if DEPTH.get() == 0 {
            return outer(panic);
        }
        let place = panic.location();
        let place = place.map(|place| format!(" ({}:{})", place.file(), place.line()));
        // A thread that is ending may have none any more.
        let _ = PLACE.try_with(|noted| noted.set(place));
    }));
}
