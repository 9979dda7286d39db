//! Days end, and clocks are set: every line stands in the file of its own timestamp.

mod support;

use std::time::Duration;

use serde_json::{Value, json};

use support::worker::{Bench, Running, Work};
use support::{Clock, day_files};

#[test]
fn whatever_the_clock_does_every_line_is_in_the_file_of_its_own_date() {
    let bench = Bench::new(json!({}));
    let Some(clock) = Clock::new(&bench.scratch, "2026-11-23 23:59:59") else {
        return;
    };
    let work = Work {
        doings: "lblw",
        times: 0,
        threads: 8,
        longest: 100,
        expected: "AUDIT_OK",
    };
    let mut command = bench.command("p", work);
    let worker = Running(clock.on(&mut command).spawn().expect("it starts"));
    std::thread::sleep(Duration::from_millis(1500));
    for time in [
        "2026-11-23 23:59:59",
        "2026-11-24 00:00:00",
        "2028-02-29 23:59:59",
        "2038-01-19 03:14:07",
        "1970-01-02 00:00:00",
        "2026-11-23 12:00:00",
    ] {
        clock.set(time);
        std::thread::sleep(Duration::from_millis(400));
    }
    drop(worker);
    let counts = bench.check();
    let mut dates = Vec::new();
    for file in day_files(&bench.log) {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let entry: Value = serde_json::from_str(line).expect("JSON");
            let stamp = entry["timestamp"].as_str().expect("a text");
            assert_eq!(name, format!("audit_{}.jsonl", &stamp[..10]));
        }
        dates.push(name);
    }
    println!("{counts:?} in {dates:?}");
    assert!(dates.len() >= 5, "the clock wasn't obeyed: {dates:?}");
}
