//! Time in tests, on machines that have other things to do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// For what comes by itself: longer than any machine needs. A test that waits so long fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Has something done that must be quick, again where it wasn't, up to five times: a disk may be busy with
/// others' work, which no stopwatch sees. What is slow by itself is slow each time.
#[track_caller]
pub fn quickly(what: &str, bound: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut took = Vec::new();
    while took.len() < 5 {
        took.push(attempt());
        if took.last().is_some_and(|took| *took < bound) {
            return;
        }
    }
    panic!("{what} took {took:?}");
}

/// Measures what must be quick: the time that passes, less what others took of it. That is for how long
/// a process's threads could have run and had no processor, as the kernel counts it.
pub struct Stopwatch {
    process: String,
    began: Instant,
    kept: HashMap<String, Duration>,
}

impl Stopwatch {
    /// Of this process.
    pub fn start() -> Stopwatch {
        Stopwatch::of("self".to_owned())
    }

    /// Of another process.
    pub fn of(process: String) -> Stopwatch {
        Stopwatch {
            kept: kept_from_running(&process).collect(),
            process,
            began: Instant::now(),
        }
    }

    /// So far, of threads that still are.
    pub fn elapsed(&self) -> Duration {
        let passed = self.began.elapsed();
        let since = |(thread, kept): (String, Duration)| {
            let before = self.kept.get(&thread).copied().unwrap_or_default();
            kept.saturating_sub(before)
        };
        passed.saturating_sub(kept_from_running(&self.process).map(since).sum())
    }
}

/// Each thread, and how long it was kept from running so far.
fn kept_from_running(process: &str) -> impl Iterator<Item = (String, Duration)> + use<> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter();
    threads.flatten().filter_map(|thread| {
        let thread = thread.ok()?;
        // One that just ended has none.
        let counted = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let kept = counted.split(' ').nth(1)?.parse().ok()?;
        let id = thread.file_name().to_string_lossy().into_owned();
        Some((id, Duration::from_nanos(kept)))
    })
}
