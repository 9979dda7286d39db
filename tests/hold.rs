//! Held days stay: whoever runs maintenance, until they are released, and whoever verifies the log sees it.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use support::calls::{Logger, record};
use support::{Clock, Scratch, run, tool};

use audit_logger::ffi::*;

/// A log, and the clock by which the tool looks after it.
struct Hold {
    scratch: Scratch,
    clock: Clock,
    log: PathBuf,
}

impl Hold {
    /// A sealed log of today's, with files of three days of 2025 before it.
    fn set() -> Option<Hold> {
        let scratch = Scratch::new();
        let clock = Clock::new(&scratch, "2026-06-30 12:00:00")?;
        let log = scratch.join("log");
        std::fs::create_dir(&log).expect("it can be made");
        for (number, day) in ["2025-01-01", "2025-01-02", "2025-01-03"]
            .iter()
            .enumerate()
        {
            let id = uuid::Uuid::from_u128(number as u128 + 1);
            let line = format!("{{\"id\":\"{id}\",\"day\":\"{day}\"}}\n");
            let path = log.join(format!("audit_{day}.jsonl"));
            std::fs::write(path, line).expect("it can be written");
        }
        let logger = Logger::new(&json!({"output_path": log}));
        logger.log(&record()).expect(AUDIT_OK);
        logger.flush().expect(AUDIT_OK);
        drop(logger);
        Some(Hold {
            scratch,
            clock,
            log,
        })
    }

    fn tool(&self, command: &str, arguments: &[&str]) -> Output {
        let mut tool = tool();
        tool.arg(command).arg(&self.log).args(arguments);
        self.clock.on(&mut tool).output().expect("it starts")
    }

    #[track_caller]
    fn printed(&self, command: &str, arguments: &[&str]) -> Value {
        let output = self.tool(command, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }

    #[track_caller]
    fn refused(&self, command: &str, arguments: &[&str], status: i32, says: &str) {
        let output = self.tool(command, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(says), "{said}");
    }

    fn maintain(&self, time: &str) -> Value {
        self.clock.set(time);
        self.printed("maintain", &["--retention-days", "200"])
    }

    fn verified(&self) -> Value {
        self.printed("verify", &["--json"])
    }

    fn has(&self, day: &str) -> bool {
        self.log.join(format!("audit_{day}.jsonl")).exists()
    }
}

fn format_of(log: &Path) -> String {
    std::fs::read_to_string(log.join(".state/format")).expect("it's there")
}

#[test]
fn a_held_day_stays_until_a_day_after_its_release() {
    let Some(hold) = Hold::set() else {
        return;
    };
    assert_eq!(format_of(&hold.log), "audit_logger 2\n");
    hold.maintain("2026-06-30 12:00:00");
    let range = ["--from", "2025-01-02", "--to", "2025-01-02"];
    let asked = [&range[..], &["--reason", "case 4711"]].concat();
    let held = hold.printed("hold", &asked);
    assert_eq!(held["files"], json!(["audit_2025-01-02.jsonl"]));
    assert_eq!(held["removed_before"], json!([]));
    // What knows no holds refuses the directory from now on; this library opens it.
    assert_eq!(format_of(&hold.log), "audit_logger 3\n");
    Logger::new(&json!({"output_path": hold.log}))
        .log(&record())
        .expect(AUDIT_OK);
    // Marked before it was held, and by a clock that is years ahead.
    let report = hold.maintain("2026-07-02 12:00:00");
    let deleted = json!(["audit_2025-01-01.jsonl", "audit_2025-01-03.jsonl"]);
    assert_eq!(report["deleted"], deleted, "{report:#}");
    assert_eq!(report["held"], json!(["audit_2025-01-02.jsonl"]));
    hold.maintain("2066-07-02 12:00:00");
    hold.maintain("2066-07-04 12:00:00");
    assert!(hold.has("2025-01-02"));
    hold.clock.set("2026-07-05 12:00:00");
    let found = hold.verified();
    assert_eq!(found["holds"][0]["hold"], held["hold"], "{found:#}");
    assert_eq!(found["holds"][0]["reason"], "case 4711");
    let shown = run(tool().arg("verify").arg(&hold.log));
    assert!(
        shown.contains("held:       2025-01-02 to 2025-01-02"),
        "{shown}"
    );
    assert!(shown.contains("case 4711"), "{shown}");
    // Released, it's given up like a day that has just expired.
    let number = held["hold"].to_string();
    hold.refused(
        "release",
        &["--hold", "7777", "--reason", "x"],
        2,
        &format!("there is no hold 7777; in force: {number}"),
    );
    hold.printed("release", &["--hold", &number, "--reason", "over"]);
    let again = ["--hold", &number, "--reason", "over"];
    hold.refused("release", &again, 2, "none is in force");
    let report = hold.maintain("2026-07-05 13:00:00");
    assert_eq!(report["deleted"], json!([]), "{report:#}");
    let report = hold.maintain("2026-07-06 14:00:00");
    assert_eq!(report["deleted"], json!(["audit_2025-01-02.jsonl"]));
    let found = hold.verified();
    assert_eq!(found["holds"], json!([]));
    assert_eq!(found["released"], 1, "{found:#}");
    // Who holds what is gone is told so.
    let held = hold.printed("hold", &asked);
    assert_eq!(held["files"], json!([]));
    assert_eq!(held["removed_before"], json!(["audit_2025-01-02.jsonl"]));
}

#[test]
fn of_two_holds_of_a_day_each_keeps_it() {
    let Some(hold) = Hold::set() else {
        return;
    };
    let held = |to: &str| {
        let asked = ["--from", "2025-01-01", "--to", to, "--reason", "a case"];
        hold.printed("hold", &asked)["hold"].to_string()
    };
    let (one, _other) = (held("2025-01-03"), held("2025-01-02"));
    hold.printed("release", &["--hold", &one, "--reason", "over"]);
    hold.maintain("2026-07-01 12:00:00");
    let report = hold.maintain("2026-07-03 12:00:00");
    assert_eq!(report["deleted"], json!(["audit_2025-01-03.jsonl"]));
    assert!(hold.has("2025-01-01") && hold.has("2025-01-02"));
}

#[test]
fn where_the_tree_with_the_holds_is_gone_nothing_is_removed() {
    let Some(hold) = Hold::set() else {
        return;
    };
    let asked = [
        "--from",
        "2025-01-01",
        "--to",
        "2025-01-02",
        "--reason",
        "x",
    ];
    hold.printed("hold", &asked);
    let tree = hold.log.join(".integrity");
    std::fs::rename(&tree, hold.scratch.join("tree")).expect("it's there");
    let retention = ["--retention-days", "200"];
    hold.refused("maintain", &retention, 3, "tells of no hold");
    // Begun anew by its service, it knows of none either.
    let logger = Logger::new(&json!({"output_path": hold.log}));
    logger.log(&record()).expect(AUDIT_OK);
    logger.flush().expect(AUDIT_OK);
    drop(logger);
    hold.refused("maintain", &retention, 3, "tells of no hold");
    hold.printed("hold", &asked);
    hold.maintain("2026-07-01 12:00:00");
    let report = hold.maintain("2026-07-03 12:00:00");
    assert_eq!(report["deleted"], json!(["audit_2025-01-03.jsonl"]));
}

#[test]
fn what_can_t_be_held_is_said() {
    let Some(hold) = Hold::set() else {
        return;
    };
    for (from, to, reason, says) in [
        ("2025-01-02", "2025-01-01", "x", "is behind"),
        ("2025-02-30", "2025-03-01", "x", "isn't a date"),
        ("2025-02-3", "2025-03-01", "x", "isn't a date"),
        ("2025-01-01", "2025-01-02", " ", "the reason must have"),
        ("2025-01-01", "2025-01-02", "a\nb", "the reason must have"),
        (
            "2025-01-01",
            "2025-01-02",
            &"x".repeat(1001),
            "the reason must have",
        ),
    ] {
        let asked = ["--from", from, "--to", to, "--reason", reason];
        hold.refused("hold", &asked, 2, says);
    }
    hold.refused("maintain", &["--retention-days", "30"], 2, "--below-floor");
    let plain = hold.scratch.join("plain");
    let logger = Logger::new(&json!({"output_path": plain, "integrity": false}));
    logger.log(&record()).expect(AUDIT_OK);
    drop(logger);
    let output = tool()
        .arg("hold")
        .arg(&plain)
        .args([
            "--from",
            "2025-01-01",
            "--to",
            "2025-01-02",
            "--reason",
            "x",
        ])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("isn't sealed"), "{said}");
}
