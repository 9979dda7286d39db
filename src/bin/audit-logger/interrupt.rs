//! Ctrl-C, and SIGTERM: long work ends at its next step, and leaves nothing half done under a name.

use std::process;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use audit_logger::tool::Error;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::output::{Progress, complain};

/// For how long work may go on to its next step. What waits for a pipe or a server comes to none.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which signal came first; 0 if none has.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// From now on a signal asks for the end, instead of being it. What is returned says whether one did.
pub fn watch() -> Result<fn() -> bool, Error> {
    let failed = |error| Error::log(format!("Ctrl-C can't be watched for: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            SIGNAL.store(signal, Ordering::Relaxed);
            thread::sleep(PATIENCE);
            end();
        }
    });
    Ok(came)
}

fn came() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// Says so, and ends the process as the signal that came would have: a shell's loop around it ends as well.
pub fn end() -> ! {
    complain(&format!("interrupted{}", Progress::reached()));
    let signal = SIGNAL.load(Ordering::Relaxed);
    let _ = emulate_default_handler(signal);
    process::exit(128 + signal)
}
