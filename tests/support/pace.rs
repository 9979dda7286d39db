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

/// Measures what must be quick: the time that passes, less what others took of it. That is for how long
/// this process's threads could have run and had no processor, as the kernel counts it.
pub struct Stopwatch {
    began: Instant,
    kept: HashMap<String, Duration>,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch {
            kept: kept_from_running().collect(),
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
        passed.saturating_sub(kept_from_running().map(since).sum())
    }
}

/// Each thread, and how long it was kept from running so far.
fn kept_from_running() -> impl Iterator<Item = (String, Duration)> {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    threads.filter_map(|thread| {
        let thread = thread.ok()?;
        // One that just ended has none.
        let counted = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let kept = counted.split(' ').nth(1)?.parse().ok()?;
        let id = thread.file_name().to_string_lossy().into_owned();
        Some((id, Duration::from_nanos(kept)))
    })
}
