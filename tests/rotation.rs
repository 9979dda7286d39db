//! Days end, and clocks are set: every line stands in the file of its own timestamp.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::pace::{PATIENCE, until};
use support::worker::{Bench, Running, Work};
use support::{Clock, day_files, entries};

/// Workers on a clock of their own, which the test sets.
struct OnClock {
    bench: Bench,
    clock: Clock,
}

impl OnClock {
    fn new(second: i64, config: Value) -> Option<OnClock> {
        let bench = Bench::new(config);
        let clock = Clock::new(&bench.scratch, "1970-01-01 00:00:00")?;
        clock.set_second(second);
        Some(OnClock { bench, clock })
    }

    fn set(&self, second: i64) {
        self.clock.set_second(second);
    }

    fn start(&self, name: &str, work: Work) -> Running {
        let mut command = self.bench.command(name, work);
        Running(self.clock.on(&mut command).spawn().expect("it starts"))
    }

    /// How much stands in the file of a second's day.
    fn written(&self, second: i64) -> u64 {
        let day = chrono::DateTime::from_timestamp(second, 0).expect("it has a date");
        let file = day.format("audit_%Y-%m-%d.jsonl").to_string();
        std::fs::metadata(self.bench.log.join(file)).map_or(0, |file| file.len())
    }

    /// Lets the clock go over midnight by itself until lines were written on both sides.
    #[track_caller]
    fn passes(&self, midnight: i64) {
        until("lines around midnight", || {
            self.set(midnight - 1);
            std::thread::sleep(Duration::from_millis(1500));
            self.written(midnight - 1) > 0 && self.written(midnight) > 0
        });
    }

    /// Holds every line to the file that it's in, and returns the dates of those that the workers wrote
    /// (what a kill left gets its entry now, by the clock of this test).
    #[track_caller]
    fn check(&self) -> Vec<String> {
        let counts = self.bench.check();
        let mut dates = BTreeSet::new();
        for file in day_files(&self.bench.log) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let text = std::fs::read_to_string(&file).expect("UTF-8");
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let entry: Value = serde_json::from_str(line).expect("JSON");
                let stamp = entry["timestamp"].as_str().expect("a text");
                assert_eq!(stamp.len(), "1970-01-01T00:00:00.000000Z".len(), "{stamp}");
                assert_eq!(name, format!("audit_{}.jsonl", &stamp[..10]));
                if entry["error_type"] != "OutcomeUnknown" {
                    dates.insert(stamp[..10].to_owned());
                }
            }
        }
        println!("{counts:?} in {dates:?}");
        dates.into_iter().collect()
    }
}

const BUSY: Work = Work {
    doings: "lbwlcw",
    times: 0,
    threads: 8,
    longest: 100,
    expected: "AUDIT_OK",
};

const DAY: i64 = 86_400;
/// 2026-11-24, 2028-03-01, 2038-01-19, and the last day that has a name: 9999-12-31.
const MIDNIGHT: i64 = 1_795_478_400;
const AFTER_LEAP_DAY: i64 = 1_835_481_600;
const IN_2038: i64 = 2_147_472_000;
const LAST_DAY: i64 = 253_402_214_400;

#[test]
fn whatever_the_clock_does_every_line_is_in_the_file_of_its_own_date() {
    let Some(clock) = OnClock::new(MIDNIGHT - 1, json!({})) else {
        return;
    };
    let worker = clock.start("p", BUSY);
    for midnight in [MIDNIGHT, DAY, AFTER_LEAP_DAY, IN_2038, LAST_DAY, MIDNIGHT] {
        clock.passes(midnight);
    }
    // Past the second that 32 bits hold.
    clock.set((1 << 31) - 1);
    std::thread::sleep(Duration::from_millis(1500));
    drop(worker);
    assert_eq!(
        clock.check(),
        [
            "1970-01-01",
            "1970-01-02",
            "2026-11-23",
            "2026-11-24",
            "2028-02-29",
            "2028-03-01",
            "2038-01-18",
            "2038-01-19",
            "9999-12-30",
            "9999-12-31",
        ]
    );
}

#[test]
fn a_clock_that_goes_back_and_forth_over_midnight_under_load_loses_and_moves_no_line() {
    let Some(clock) = OnClock::new(MIDNIGHT, json!({})) else {
        return;
    };
    let workers: Vec<_> = ["p", "q"].map(|name| clock.start(name, BUSY)).into();
    let mut times = 0;
    until("lines on both days", || {
        for second in [-1, 0] {
            clock.set(MIDNIGHT + second);
            std::thread::sleep(Duration::from_millis(20));
        }
        times += 1;
        times > 25 && clock.written(MIDNIGHT - 1) > 0 && clock.written(MIDNIGHT) > 0
    });
    drop(workers);
    assert_eq!(clock.check(), ["2026-11-23", "2026-11-24"]);
}

#[test]
fn a_clock_beyond_the_year_9999_writes_to_its_last_day() {
    let Some(clock) = OnClock::new(LAST_DAY + DAY - 1, json!({})) else {
        return;
    };
    let worker = clock.start("p", BUSY);
    until("lines of the last day", || clock.written(LAST_DAY) > 0);
    std::thread::sleep(Duration::from_millis(1500));
    clock.set(LAST_DAY * 20);
    let before = clock.written(LAST_DAY);
    until("more of them", || clock.written(LAST_DAY) > before + 10_000);
    drop(worker);
    assert_eq!(clock.check(), ["9999-12-31"]);
}

#[test]
fn deadlines_hold_while_the_clock_jumps() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!(
        "http://{}/v1",
        silent.local_addr().expect("it has an address")
    );
    let config = json!({"base_url": url, "timeout_ms": 1000});
    let Some(clock) = OnClock::new(MIDNIGHT, config) else {
        return;
    };
    let work = Work {
        doings: "c",
        times: 2,
        threads: 4,
        longest: 100,
        expected: "AUDIT_E_CALL",
    };
    let began = Instant::now();
    let mut worker = clock.start("p", work);
    let ended = loop {
        for second in [DAY, IN_2038, MIDNIGHT] {
            clock.set(second);
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(ended) = worker.0.try_wait().expect("a child can be waited for") {
            break ended;
        }
        assert!(began.elapsed() < PATIENCE, "calls don't end");
    };
    assert!(ended.success());
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(1900),
        "two calls of a second took {took:?}"
    );
    clock.check();
    for entry in entries(&clock.bench.log) {
        assert_eq!(entry["error_type"], "APITimeoutError");
        let latency = entry["latency_ms"].as_f64().expect("a number");
        // By the clock it would be a day, or less than nothing.
        assert!((950.0..30_000.0).contains(&latency), "{latency}");
    }
}
