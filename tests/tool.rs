//! The command line tool.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use support::calls::{Logger, record, text};
use support::pace::{PATIENCE, until};
use support::{Scratch, available, entry_line, last_file, root, run, sealed, tool};

const DAY: &str = "audit_2026-11-23.jsonl";
const FURTHER: &str = "audit_2026-11-23.1.jsonl";
const NEXT: &str = "audit_2026-11-24.jsonl";

/// Runs the tool in a directory.
fn run_in(directory: &Path, arguments: &[&str]) -> Output {
    let mut tool = tool();
    tool.current_dir(directory).args(arguments);
    tool.output().expect("the tool starts")
}

/// Runs the tool, which ends with that exit code, and returns what it printed.
#[track_caller]
fn printed(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = run_in(directory, arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

fn entry(number: u32, timestamp: &str, other: Value) -> String {
    entry_line(number, timestamp, &other)
}

fn append(file: &Path, text: &str) {
    let mut options = OpenOptions::new();
    let mut file = options
        .append(true)
        .create(true)
        .open(file)
        .expect("it can be opened");
    file.write_all(text.as_bytes()).expect("it can be written");
}

/// Two days, with a further file in which a twin stands, a blank and a torn line.
fn log() -> Scratch {
    let scratch = Scratch::new();
    let error = json!({
        "status": "error", "error_type": "RateLimitError", "latency_ms": 300.0,
        "prompt_tokens": 0, "completion_tokens": 0, "details": {"schema": 1},
    });
    append(
        &scratch.join(DAY),
        &[
            entry(1, "2026-11-23T10:00:00.000000Z", json!({})),
            "      \n".to_owned(),
            entry(2, "2026-11-23T11:00:00.000000Z", error),
            "{\"torn\n".to_owned(),
            entry(
                3,
                "2026-11-23T14:00:00.000000Z",
                json!({"user_id": "user-2"}),
            ),
        ]
        .concat(),
    );
    let unknown = json!({
        "prompt_tokens": null, "completion_tokens": null, "latency_ms": null,
        "status": "error", "error_type": "OutcomeUnknown", "model": "other/model",
    });
    append(
        &scratch.join(FURTHER),
        &[
            entry(1, "2026-11-23T10:00:00.000000Z", json!({})),
            entry(4, "2026-11-23T13:00:00.000000Z", unknown),
        ]
        .concat(),
    );
    let gap = json!({
        "event_type": "audit_gap", "status": "error", "error_type": "AuditGap",
        "user_id": "", "model": "", "metadata": {"calls": 7},
    });
    append(
        &scratch.join(NEXT),
        &[
            entry(5, "2026-11-24T00:00:01.000000Z", json!({})),
            entry(6, "2026-11-24T00:00:02.000000Z", gap),
        ]
        .concat(),
    );
    scratch
}

/// The numbers of the entries in what `tail` printed.
fn numbers(printed: &str) -> Vec<u32> {
    let number = |line: &str| line.get(line.len() - 12..)?.parse().ok();
    printed
        .lines()
        .map(|line| number(line).unwrap_or_else(|| panic!("no id ends {line:?}")))
        .collect()
}

#[test]
fn every_command_has_a_help_with_an_example_and_the_exit_codes_are_told() {
    let here = Path::new(".");
    let help = printed(here, &["--help"], 0);
    assert!(help.contains("Exit codes"), "{help}");
    for command in [
        "verify", "prove", "check", "keygen", "maintain", "tail", "stats",
    ] {
        assert!(help.contains(command), "{command} isn't in the help");
        let help = printed(here, &[command, "--help"], 0);
        assert!(help.contains(&format!("audit-logger {command} ")), "{help}");
    }
    printed(here, &["no-such-command"], 2);
    printed(here, &["stats", "--from", "yesterday", "."], 2);
}

#[test]
fn a_day_is_taken_as_files_are_named_and_in_no_other_way() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 1);
    let log = log.to_str().expect("UTF-8");
    for command in [
        &["bundle", log, "-o", "new", "--to", "2026-11-30"][..],
        &["stats", log],
        &["report", log, "-o", "new"],
        &["export", log, "--format", "csv"],
        &["verify", "--lines", "-", "--tree", log],
    ] {
        for day in [
            "26-11-28",
            "2026-1-1",
            "+2026-11-28",
            "2026-11-31",
            "+10000-01-01",
            "today",
        ] {
            let output = run_in(scratch.path(), &[command, &["--from", day]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?} {day}: {said}");
            assert!(said.contains("write it as 2026-11-27"), "{said}");
        }
    }
}

#[test]
fn what_cant_be_read_or_isnt_sealed_ends_with_three_and_says_why() {
    let log = log();
    for arguments in [
        &["verify", "."][..],
        &["prove", ".", "no-such-id"],
        &["tail", "no-such-directory"],
        &["stats", "no-such-directory"],
        &["check", "--vkey", EXAMPLE_KEY, "no-line", "no-proof"],
    ] {
        let output = run_in(log.path(), arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {output:?}");
        assert!(output.stderr.starts_with(b"audit-logger: "), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    for vkey in ["no-such-file", "a+bad+key"] {
        printed(log.path(), &["verify", ".", "--vkey", vkey], 2);
    }
}

/// The example of C2SP signed-note.
const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

#[test]
fn stats_add_up_days_once_for_twins_and_apart_for_gaps() {
    let log = log();
    let report = printed(log.path(), &["stats", ".", "--json"], 0);
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    let groups = report["groups"].as_array().expect("an array");
    assert_eq!(groups.len(), 2);
    let first = &groups[0];
    assert_eq!(first["day"], "2026-11-23");
    assert_eq!(first["calls"], 4);
    assert_eq!(
        first["errors_by_type"],
        json!({"OutcomeUnknown": 1, "RateLimitError": 1})
    );
    assert_eq!(
        (&first["prompt_tokens"], &first["completion_tokens"]),
        (&json!(20), &json!(40))
    );
    assert_eq!(first["unknown_outcomes"], 1);
    assert_eq!(first["calls_without_tokens"], 1);
    assert_eq!(
        (&first["cost"], &first["calls_without_cost"]),
        (&json!(1.5), &json!(1))
    );
    assert_eq!(groups[1]["calls"], 1, "a gap isn't a call");
    assert_eq!(report["total"]["calls"], 5);
    assert_eq!(report["gaps"], 7);
    assert_eq!(
        report["skipped_lines"], 1,
        "a blank line is nothing, a torn one is"
    );

    let table = printed(log.path(), &["stats", "."], 0);
    for line in [
        "1  OutcomeUnknown",
        "1 calls have an unknown outcome",
        "7 calls have no entry",
        "1 lines are no entries",
    ] {
        assert!(table.contains(line), "{line:?} isn't in\n{table}");
    }
    let total = table.lines().find(|line| line.starts_with("total"));
    let cells: Vec<&str> = total.expect("a total").split_whitespace().collect();
    assert_eq!(cells[..6], ["total", "5", "2", "30", "60", "2.0000"]);
}

/// That ids come once is taken for granted until one comes again.
#[test]
fn what_was_added_up_before_an_id_came_twice_counts_once() {
    let log = log();
    let before = entry(7, "2026-11-22T10:00:00.000000Z", json!({}));
    append(
        &log.join("audit_2026-11-22.jsonl"),
        &format!("{before}{{\"torn\n"),
    );
    append(&log.join("audit_2026-11-21.jsonl.gz"), "not compressed");
    let stats = printed(log.path(), &["stats", ".", "--json"], 0);
    let stats: Value = serde_json::from_str(&stats).expect("it is JSON");
    assert_eq!(stats["groups"][0]["calls"], 1);
    assert_eq!(stats["total"]["calls"], 6);
    assert_eq!(stats["skipped_lines"], 2);
    assert_eq!(stats["left_out"], json!(["audit_2026-11-21.jsonl"]));
}

#[test]
fn what_stands_in_the_place_of_a_number_and_is_none_says_nothing() {
    let log = Scratch::new();
    let others = [
        json!({"latency_ms": "12", "prompt_tokens": [1], "details": {"cost": "0.5", "outcome": 1}}),
        json!({"latency_ms": true, "prompt_tokens": 1.5, "details": "0.5"}),
        json!({"latency_ms": null, "prompt_tokens": -1, "details": null}),
    ];
    for (number, other) in (1..).zip(others) {
        append(
            &log.join(DAY),
            &entry(number, "2026-11-23T10:00:00.000000Z", other),
        );
    }
    let stats = printed(log.path(), &["stats", ".", "--json"], 0);
    let total = &serde_json::from_str::<Value>(&stats).expect("it is JSON")["total"];
    assert_eq!(total["calls"], 3);
    assert_eq!(total["calls_without_tokens"], 3);
    assert_eq!(total["calls_without_cost"], 3);
    assert_eq!(total["latency_ms"]["p99"], json!(null));
    assert_eq!(total["unknown_outcomes"], 0);
}

/// A forged line takes neither the place of a sealed entry nor a place beside it.
#[test]
fn of_lines_with_one_id_the_sealed_one_counts_and_the_other_is_named() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 20);
    let day = last_file(&log);
    let text = fs::read_to_string(&day).expect("it can be read");
    let line = text.lines().nth(10).expect("it is there");
    assert!(line.contains(&ids[10]));
    let forged = line.replace("\"prompt_tokens\":", "\"prompt_tokens\":1000");
    assert_ne!(line, forged);
    let name = day.file_name().expect("it has one").to_string_lossy();
    let further = log.join(name.replace(".jsonl", ".1.jsonl"));
    let sum = |code| {
        let printed = run_in(&log, &["stats", ".", "--json"]);
        assert_eq!(printed.status.code(), Some(0));
        let value: Value = serde_json::from_slice(&printed.stdout).expect("it is JSON");
        let said = String::from_utf8_lossy(&printed.stderr).contains(&ids[10]);
        assert_eq!(said, code > 0, "{printed:?}");
        assert_eq!(value["conflicts"], code);
        (
            value["total"]["calls"].clone(),
            value["total"]["prompt_tokens"].clone(),
        )
    };
    let right = sum(0);
    assert_eq!(right.0, 20);
    for (file, place) in [(&day, text.clone()), (&further, String::new())] {
        fs::write(file, format!("{place}{forged}\n")).expect("it can be written");
        assert_eq!(sum(1), right);
        let shown = printed(&log, &["tail", ".", "-n", "30", "--json"], 0);
        assert!(shown.contains(line) && !shown.contains(&forged));
        assert_eq!(shown.lines().count(), 20);
        let report = printed(&log, &["verify", "."], 0);
        assert!(report.contains("not counting: 1"), "{report}");
        let out = scratch.join("proved");
        let out = out.to_str().expect("UTF-8");
        printed(&log, &["prove", ".", &ids[10], "-o", out], 0);
        let proved = fs::read_to_string(format!("{out}.jsonl")).expect("it is there");
        assert_eq!(proved.trim_end(), line);
        for ending in ["jsonl", "tlog-proof"] {
            fs::remove_file(format!("{out}.{ending}")).expect("it is there");
        }
        fs::write(file, place).expect("it can be written");
    }
    // A twin is the entry itself.
    fs::write(&further, format!("{line}\n")).expect("it can be written");
    assert_eq!(sum(0), right);
}

#[test]
fn what_cant_be_read_is_left_out_by_name_and_the_rest_is_shown() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 5);
    fs::write(log.join("audit_2026-01-02.jsonl.gz"), "no gzip").expect("it can be written");
    fs::create_dir(log.join("audit_2026-01-03.jsonl")).expect("it can be made");
    for arguments in [&["stats", "."][..], &["tail", "."]] {
        let output = run_in(&log, arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("2026-01-02") && said.contains("2026-01-03"),
            "{said}"
        );
        assert!(!output.stdout.is_empty());
    }
    let report = printed(&log, &["verify", "."], 0);
    assert!(report.contains("never sealed: 2"), "{report}");
    let absent = run_in(&log, &["prove", ".", "no-such-id"]);
    assert_eq!(absent.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("2026-01-0"));
    let hinted = run_in(&log, &["prove", ".", &ids[2], "--timestamp", "noon"]);
    assert_eq!(hinted.status.code(), Some(2));
}

#[test]
fn stats_are_of_the_days_asked_for_by_what_was_asked_for() {
    let log = log();
    let of = |arguments: &[&str]| {
        let report = printed(
            log.path(),
            &[&["stats", ".", "--json"], arguments].concat(),
            0,
        );
        let report: Value = serde_json::from_str(&report).expect("it is JSON");
        report
    };
    assert_eq!(of(&["--from", "2026-11-24"])["total"]["calls"], 1);
    assert_eq!(of(&["--to", "2026-11-23"])["total"]["calls"], 4);
    assert_eq!(of(&["--to", "2026-11-22"])["total"]["calls"], 0);
    let calls = |by: &str| -> Vec<(String, u64)> {
        let report = of(&["--by", by]);
        let groups = report["groups"].as_array().expect("an array");
        let group =
            |group: &Value| (group[by].as_str()?.to_owned(), group["calls"].as_u64()?).into();
        groups.iter().filter_map(group).collect()
    };
    assert_eq!(
        calls("hour"),
        [
            ("2026-11-23T10".into(), 1),
            ("2026-11-23T11".into(), 1),
            ("2026-11-23T13".into(), 1),
            ("2026-11-23T14".into(), 1),
            ("2026-11-24T00".into(), 1)
        ]
    );
    assert_eq!(calls("user"), [("user-1".into(), 4), ("user-2".into(), 1)]);
    assert_eq!(
        calls("model"),
        [("other/model".into(), 1), ("some/model".into(), 4)]
    );
}

#[test]
fn conditions_choose_entries_by_their_members() {
    let log = log();
    for (conditions, expected) in [
        (&["user_id=user-2"][..], &[3][..]),
        (&["user_id!=user-2", "timestamp<2026-11-23T12"], &[1, 2]),
        (&["latency_ms>100"], &[2]),
        (&["latency_ms >= 100", "status=success"], &[1, 3, 5]),
        // What has none is unequal to each, and neither less nor more.
        (&["latency_ms!=100"], &[2, 4]),
        (&["latency_ms<1e9"], &[1, 2, 3, 5, 6]),
        (&["error_type!=RateLimitError"], &[1, 4, 3, 5, 6]),
        (
            &[
                "cost=0.5",
                "model=some/model",
                "prompt_tokens<=10",
                "completion_tokens>19",
            ],
            &[1, 3, 5],
        ),
        (&["model="], &[6]),
    ] {
        let conditions: Vec<&str> = conditions.iter().flat_map(|is| ["--where", is]).collect();
        let tail = printed(log.path(), &[&["tail", "."], &conditions[..]].concat(), 0);
        assert_eq!(numbers(&tail), expected, "{conditions:?}");
        let export = ["export", ".", "--format", "csv"];
        let export = printed(log.path(), &[&export[..], &conditions].concat(), 0);
        assert_eq!(export.lines().count(), 1 + expected.len(), "{conditions:?}");
        let stats = printed(
            log.path(),
            &[&["stats", ".", "--json"], &conditions[..]].concat(),
            0,
        );
        let stats: Value = serde_json::from_str(&stats).expect("it is JSON");
        // The last one stands for calls that have no entry.
        let calls = expected.iter().filter(|number| **number != 6).count();
        assert_eq!(stats["total"]["calls"], calls, "{conditions:?}");
    }
    for wrong in ["user=x", "latency_ms>slow", "latency_ms", "cost=NaN", "=1"] {
        printed(log.path(), &["stats", ".", "--where", wrong], 2);
    }
}

#[test]
fn a_call_whose_outcome_nobody_knows_is_found_whatever_its_error_is() {
    let log = log();
    let with = |number, outcome| {
        let details = json!({"schema": 2, "outcome": outcome});
        entry(
            number,
            "2026-11-24T00:00:03.000000Z",
            json!({"error_type": "APITimeoutError", "details": details}),
        )
    };
    append(
        &log.join(NEXT),
        &(with(7, "unknown") + &with(8, "answered")),
    );
    let unknown = printed(log.path(), &["tail", ".", "--where", "outcome=unknown"], 0);
    assert_eq!(numbers(&unknown), [4, 7]);
    let stats = printed(log.path(), &["stats", ".", "--json"], 0);
    let stats: Value = serde_json::from_str(&stats).expect("it is JSON");
    assert_eq!(stats["total"]["unknown_outcomes"], 2);
}

#[test]
fn percentiles_are_no_longer_than_the_longest_call_and_small_costs_are_seen() {
    let scratch = Scratch::new();
    let other = json!({"latency_ms": 600_000.0, "details": {"cost": 1e-9}});
    append(
        &scratch.join(DAY),
        &entry(1, "2026-11-23T10:00:00.000000Z", other),
    );
    let stats = printed(scratch.path(), &["stats", "."], 0);
    assert!(
        stats.contains("600000.0") && stats.contains("0.0000000010"),
        "{stats}"
    );
}

#[test]
fn a_table_fits_the_terminal() {
    if !available("script") || !available("stty") {
        return;
    }
    let log = log();
    let name = "a".repeat(60);
    append(
        &log.join(NEXT),
        &entry(7, "2026-11-24T00:00:03.000000Z", json!({"user_id": name})),
    );
    append(
        &log.join(NEXT),
        &entry(
            8,
            "2026-11-24T00:00:04.000000Z",
            json!({"user_id": "\u{5b57}".repeat(30)}),
        ),
    );
    let program = tool().get_program().to_string_lossy().into_owned();
    for columns in [40, 60, 80, 100, 120, 200] {
        let command = format!("stty rows 24 cols {columns} && {program} stats . --by user");
        let mut script = Command::new("script");
        script
            .current_dir(log.path())
            .args(["-qec", &command, "/dev/null"]);
        let shown = run(&mut script);
        // Behind the progress, which is wiped.
        let shown = shown.rsplit("\x1b[K").next().unwrap_or_default();
        let table: Vec<&str> = shown.lines().take(6).collect();
        for line in &table {
            let wide = line
                .trim_end()
                .chars()
                .map(|c| if c == '\u{5b57}' { 2 } else { 1 });
            assert!(wide.sum::<usize>() <= columns, "{columns}: {shown}");
        }
        assert_eq!(shown.contains(&name), columns == 200, "{columns}: {shown}");
        assert_eq!(
            shown.contains("have no room here"),
            columns < 100,
            "{columns}: {shown}"
        );
        assert!(table[0].contains("calls"), "{columns}: {shown}");
    }
    assert!(printed(log.path(), &["stats", ".", "--by", "user"], 0).contains(&name));
}

#[test]
fn percentiles_are_right_to_within_one_percent() {
    let scratch = Scratch::new();
    let lines: String = (0..1000)
        .map(|number| {
            let latency = f64::from(1 + number * 7919 % 1000) * 1.7;
            entry(
                number,
                "2026-11-23T10:00:00.000000Z",
                json!({"latency_ms": latency}),
            )
        })
        .collect();
    append(&scratch.join(DAY), &lines);
    let report = printed(scratch.path(), &["stats", ".", "--json"], 0);
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    for (name, exact) in [
        ("p50", 500.0 * 1.7),
        ("p90", 900.0 * 1.7),
        ("p99", 990.0 * 1.7),
    ] {
        let found = report["total"]["latency_ms"][name]
            .as_f64()
            .expect("a number");
        assert!(
            (found / exact - 1.0).abs() < 0.01,
            "{name}: {found}, exactly {exact}"
        );
    }
}

#[test]
fn compressed_days_are_read_like_others() {
    if !available("gzip") {
        return;
    }
    let log = log();
    let stats = printed(log.path(), &["stats", "."], 0);
    let tail = printed(log.path(), &["tail", "."], 0);
    run(Command::new("gzip").args([log.join(DAY), log.join(FURTHER)]));
    assert_eq!(printed(log.path(), &["stats", "."], 0), stats);
    assert_eq!(printed(log.path(), &["tail", "."], 0), tail);
}

#[test]
fn a_log_of_the_library_is_read_as_it_was_written() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    let logger = Logger::new(&json!({"output_path": path}));
    for user in ["a", "b", "b"] {
        let mut record = record();
        record.user_id = text(user);
        logger.log(&record).expect(audit_logger::ffi::AUDIT_OK);
    }
    let report = printed(&path, &["stats", ".", "--by", "user", "--json"], 0);
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    assert_eq!(report["groups"][1]["calls"], 2);
    assert_eq!(report["total"]["prompt_tokens"], 15);
    let latency = report["total"]["latency_ms"]["p50"].as_f64();
    assert!(latency.is_some_and(|latency| (latency / 12.5 - 1.0).abs() < 0.01));
    let lines = fs::read_to_string(last_file(&path)).expect("it can be read");
    assert_eq!(printed(&path, &["tail", ".", "--json"], 0), lines);
}

#[test]
fn tail_shows_the_last_entries_over_files_and_days_in_their_order() {
    let log = log();
    let tail = |arguments: &[&str]| {
        numbers(&printed(
            log.path(),
            &[&["tail", "."], arguments].concat(),
            0,
        ))
    };
    assert_eq!(tail(&[]), [1, 2, 4, 3, 5, 6]);
    assert_eq!(tail(&["-n", "1"]), [6]);
    assert_eq!(tail(&["-n", "4"]), [4, 3, 5, 6]);
    assert!(tail(&["-n", "0"]).is_empty());
    assert_eq!(tail(&["--user", "user-2"]), [3]);
    assert_eq!(tail(&["--model", "some/model"]), [1, 2, 3, 5]);
    assert_eq!(tail(&["--model", "some/model", "--status", "error"]), [2]);
    let line = printed(log.path(), &["tail", ".", "-n", "1", "--user", "user-1"], 0);
    assert_eq!(
        line,
        "2026-11-24T00:00:01.000000Z  success  user-1  some/model  10+20  100 ms  \
         00000000-0000-4000-8000-000000000005\n"
    );
}

#[test]
fn tail_finds_few_entries_far_from_the_end_of_a_long_file() {
    let scratch = Scratch::new();
    let mut lines = entry(1, "2026-11-23T10:00:00.000000Z", json!({"user_id": "rare"}));
    for number in 2..6000 {
        lines.push_str(&entry(number, "2026-11-23T10:00:00.000000Z", json!({})));
    }
    append(&scratch.join(DAY), &lines);
    let tail = |arguments: &[&str]| {
        numbers(&printed(
            scratch.path(),
            &[&["tail", "."], arguments].concat(),
            0,
        ))
    };
    assert_eq!(tail(&["--user", "rare"]), [1]);
    assert_eq!(tail(&["-n", "3"]), [5997, 5998, 5999]);
    assert_eq!(tail(&["-n", "5000"]).len(), 5000);
}

#[test]
fn what_a_terminal_would_obey_is_escaped() {
    let scratch = Scratch::new();
    let user = "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\r\n";
    let line = entry(
        1,
        "2026-11-23T10:00:00.000000Z",
        json!({"user_id": user, "model": user}),
    );
    append(&scratch.join(DAY), &line);
    for arguments in [
        &["tail", "."][..],
        &["stats", ".", "--by", "user"],
        &["stats", ".", "--by", "model"],
    ] {
        let printed = printed(scratch.path(), arguments, 0);
        let obeyed = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
        assert_eq!(printed.chars().find(obeyed), None, "{printed:?}");
        assert!(
            printed.contains(r"\u001b]0;title\u0007\u009b31m\u202e"),
            "{printed:?}"
        );
    }
}

#[test]
fn colours_are_for_terminals_and_not_with_no_color() {
    if !available("script") {
        return;
    }
    let log = log();
    let command = format!("{} tail .", tool().get_program().to_string_lossy());
    let on_a_terminal = |no_color: &str| {
        let mut script = Command::new("script");
        script
            .current_dir(log.path())
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color)
            .args(["-qec", &command, "/dev/null"]);
        run(&mut script)
    };
    assert!(on_a_terminal("").contains("\x1b[32msuccess\x1b[0m"));
    assert!(!on_a_terminal("1").contains('\x1b'));
    assert!(!printed(log.path(), &["tail", "."], 0).contains('\x1b'));
}

#[test]
fn a_reader_who_stops_early_ends_it_quietly() {
    let scratch = Scratch::new();
    let lines: String = (0..3000)
        .map(|number| entry(number, "2026-11-23T10:00:00.000000Z", json!({})))
        .collect();
    append(&scratch.join(DAY), &lines);
    let mut tool = tool();
    tool.current_dir(scratch.path())
        .args(["tail", ".", "-n", "3000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tool.spawn().expect("the tool starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn keygen_makes_a_key_that_only_its_owner_reads_and_never_overwrites_one() {
    let scratch = Scratch::new();
    let vkey = printed(
        scratch.path(),
        &["keygen", "--origin", "a.example/log", "-o", "key"],
        0,
    );
    assert!(vkey.starts_with("a.example/log+"), "{vkey}");
    let key = scratch.join("key");
    let private = fs::read_to_string(&key).expect("it can be read");
    assert!(private.starts_with("PRIVATE+KEY+a.example/log+"));
    let mode = fs::metadata(&key)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = run_in(scratch.path(), &["keygen", "-o", "key"]);
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    assert!(again.stdout.is_empty(), "{again:?}");
    assert_eq!(fs::read_to_string(&key).expect("it can be read"), private);
    printed(
        scratch.path(),
        &["keygen", "--origin", "a b", "-o", "other"],
        2,
    );
    assert!(!scratch.join("other").exists());
    let other = printed(scratch.path(), &["keygen", "-o", "other"], 0);
    assert_ne!(other, vkey);
}

#[test]
fn verify_says_what_holds_what_it_is_worth_and_what_it_cant_see() {
    let scratch = Scratch::new();
    sealed(&scratch, 300);
    let alone = printed(scratch.path(), &["verify", "log"], 0);
    assert!(alone.starts_with("intact (self-attested)\n"), "{alone}");
    assert!(alone.contains("300 lines in 1 files"), "{alone}");
    assert!(
        alone.contains("older copy of the whole directory"),
        "{alone}"
    );

    let kept = "log/.integrity/checkpoint";
    let key = fs::read_to_string(scratch.join("log/.integrity/vkey")).expect("it is there");
    for vkey in [key.trim_end(), "log/.integrity/vkey"] {
        let arguments = [
            "verify",
            "log",
            "--vkey",
            vkey,
            "--guard",
            "guard",
            "--checkpoint",
            kept,
        ];
        let report = printed(scratch.path(), &arguments, 0);
        assert!(
            report.starts_with("intact (signed, remembered)\n"),
            "{report}"
        );
    }
    let report = printed(scratch.path(), &["verify", "log", "--json"], 0);
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    assert_eq!(report["lines"], 300);
    assert_eq!(
        printed(scratch.path(), &["verify", "log", "--vkey", EXAMPLE_KEY], 1)
            .lines()
            .next(),
        Some("TAMPERED (signed)")
    );
}

#[test]
fn verify_names_file_line_and_class_and_ends_with_one_whoever_reads_it() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 20);
    let file = last_file(&log);
    let text = fs::read_to_string(&file).expect("it can be read");
    fs::write(&file, text.replacen("success", "Success", 1)).expect("it can be written");
    let report = printed(scratch.path(), &["verify", "log"], 1);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    assert!(report.starts_with("TAMPERED"), "{report}");
    assert!(report.contains(&format!("{name}:1: edited: ")), "{report}");

    let mut unread = tool();
    unread.current_dir(scratch.path()).args(["verify", "log"]);
    let mut child = unread
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn verifying_needs_no_right_but_reading_what_auditors_may_read_and_writes_nothing() {
    if !available("setpriv") {
        return;
    }
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 20);
    // As `access` a group would have it: not .state, where the key is.
    run(Command::new("chmod").arg("a+rx").arg(&log));
    run(Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(log.join(".integrity"))
        .arg(last_file(&log)));
    let copied = scratch.join("audit-logger");
    fs::copy(tool().get_program(), &copied).expect("it can be copied");
    let list = || {
        let mut find = Command::new("find");
        run(find.arg(&log).args(["-printf", "%p %s %T@ %i\n"]))
    };
    let before = list();
    let mut verify = Command::new(&copied);
    // SAFETY: asking for the user has no conditions.
    if unsafe { libc::geteuid() } == 0 {
        verify = Command::new("setpriv");
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        verify.args(nobody).arg(&copied);
    }
    run(verify.arg("verify").arg(&log));
    assert_eq!(list(), before);
}

#[test]
fn a_proof_is_made_checked_and_refused_for_another_line() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 20);
    let here = scratch.path();
    printed(here, &["prove", "log", &ids[7], "-o", "entry"], 0);
    let vkey = "log/.integrity/vkey";
    let check = ["check", "--vkey", vkey, "entry.jsonl", "entry.tlog-proof"];
    let said = printed(here, &check, 0);
    assert!(said.contains("audit.example/test"), "{said}");
    let line = fs::read_to_string(scratch.join("entry.jsonl")).expect("it can be read");
    assert!(line.contains(&ids[7]));

    // Without -o the line is printed, and the proof bears the entry's name.
    assert_eq!(printed(here, &["prove", "log", &ids[7]], 0), line);
    assert!(scratch.join(&format!("{}.tlog-proof", ids[7])).exists());
    // What is there is never overwritten.
    printed(here, &["prove", "log", &ids[8], "-o", "entry"], 3);

    fs::write(
        scratch.join("entry.jsonl"),
        line.replace("success", "Success"),
    )
    .expect("written");
    printed(here, &check, 1);
    printed(here, &["prove", "log", "no-such-id"], 3);
    drop(log);
}

#[test]
fn maintain_compresses_old_days_that_the_other_commands_still_read() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    drop(Logger::new(
        &json!({"output_path": path, "integrity": false}),
    ));
    let old = path.join("audit_2020-02-02.jsonl");
    append(&old, &entry(1, "2020-02-02T10:00:00.000000Z", json!({})));
    let done = printed(
        scratch.path(),
        &["maintain", "log", "--compress-after-days", "7"],
        0,
    );
    let done: Value = serde_json::from_str(&done).expect("it is JSON");
    assert_eq!(
        done["compressed"],
        json!(["audit_2020-02-02.jsonl"]),
        "{done}"
    );
    assert!(!old.exists());
    assert_eq!(numbers(&printed(scratch.path(), &["tail", "log"], 0)), [1]);
    printed(
        scratch.path(),
        &["maintain", "log", "--retention-days", "0"],
        2,
    );
    printed(scratch.path(), &["maintain", "no-such-directory"], 3);
}

/// Runs the tool until it can be interrupted and `so` is true of its process, and ends it with a signal.
#[track_caller]
fn interrupted(
    directory: &Path,
    arguments: &[&str],
    signal: i32,
    so: impl Fn(&Path) -> bool,
) -> Output {
    let mut tool = tool();
    tool.current_dir(directory).args(arguments);
    let pipes = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
    let [stdin, stdout, stderr] = pipes;
    let mut child = tool
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("it starts");
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    until(&format!("{arguments:?} is at it"), || {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|caught| u64::from_str_radix(caught.trim(), 16).ok());
        caught.is_some_and(|caught| caught >> (signal - 1) & 1 == 1) && so(&process)
    });
    run(Command::new("kill").args([format!("-{signal}"), child.id().to_string()]));
    // What it reads has no end, and what it writes isn't read, until it has ended.
    let ended = child.wait().expect("it ends");
    assert_eq!(ended.signal(), Some(signal), "{arguments:?}");
    child.wait_with_output().expect("it has ended")
}

/// What lies in a directory.
fn names(directory: &Path) -> BTreeSet<PathBuf> {
    let listed = fs::read_dir(directory).expect("it can be read");
    listed
        .map(|item| item.expect("it can be read").path())
        .collect()
}

#[test]
fn long_work_ends_when_it_is_interrupted_says_so_and_leaves_nothing() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 3);
    let endless = log.join("audit_2020-02-02.jsonl");
    let file = fs::File::create(&endless).expect("it can be made");
    file.set_len(200 << 30).expect("it may have a hole");
    let before = names(&log);
    let whole = last_file(&log);
    let whole = whole.to_str().expect("it is UTF-8");
    let reads_it = |process: &Path| {
        let open = fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut open = open.filter_map(|open| fs::read_link(open.path()).ok());
        open.any(|open| open == endless)
    };
    for arguments in [
        &["verify", "log"][..],
        &[
            "verify",
            "--tree",
            "log",
            "--lines",
            whole,
            "--lines",
            "log/audit_2020-02-02.jsonl",
        ],
        &["stats", "log"],
        &["report", "log", "-o", "log/report.html"],
        &["export", "log", "--format", "csv"],
        &[
            "maintain",
            "log",
            "--compress-after-days",
            "1",
            "--guard",
            "guard",
        ],
    ] {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            let output = interrupted(scratch.path(), arguments, signal, reads_it);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                said.contains("audit-logger: interrupted"),
                "{arguments:?}: {said}"
            );
            assert_eq!(names(&log), before, "{arguments:?}");
        }
    }
}

#[test]
fn what_waits_for_others_ends_too_when_it_is_interrupted() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 3);
    let lines: String = (1..400)
        .map(|number| entry(number, "2020-02-02T10:00:00.000000Z", json!({})))
        .collect();
    append(&log.join("audit_2020-02-02.jsonl"), &lines);
    for arguments in [
        &["verify", "--lines", "-", "--tree", "log"][..],
        &["export", "log", "--format", "csv"],
    ] {
        let output = interrupted(scratch.path(), arguments, libc::SIGINT, |_| true);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("audit-logger: interrupted"),
            "{arguments:?}: {said}"
        );
    }
}

/// `tail -f`, ended with the value.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(directory: &Path) -> Following {
        Following::with(directory, &[])
    }

    fn with(directory: &Path, more: &[&str]) -> Following {
        let mut tool = tool();
        tool.current_dir(directory)
            .args(["tail", ".", "-f"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = tool.spawn().expect("the tool starts");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Following { child, lines }
    }

    /// The next entries that it shows have these numbers.
    #[track_caller]
    fn shows(&self, expected: &[u32]) {
        for number in expected {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("entry {number} isn't shown"));
            assert_eq!(numbers(&line), [*number]);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An entry of the day of the tests' own.
fn at(number: u32) -> String {
    entry(number, "2026-11-24T01:00:00.000000Z", json!({}))
}

#[test]
fn following_goes_on_past_midnight_into_further_files_and_shows_whole_lines_once() {
    let log = log();
    let following = Following::start(log.path());
    following.shows(&[1, 2, 4, 3, 5, 6]);
    append(&log.join(NEXT), &at(11));
    following.shows(&[11]);
    let line = at(12);
    let (begun, rest) = line.split_at(50);
    append(&log.join(NEXT), begun);
    std::thread::sleep(Duration::from_millis(500));
    append(&log.join(NEXT), rest);
    following.shows(&[12]);
    append(&log.join("audit_2026-11-24.1.jsonl"), &(at(12) + &at(13)));
    following.shows(&[13]);
    append(&log.join("audit_2026-11-25.jsonl"), &at(14));
    following.shows(&[14]);
    append(&log.join(NEXT), &("{torn\n".to_owned() + &at(15)));
    following.shows(&[15]);
}

#[test]
fn following_goes_on_with_each_day_that_was_begun_while_it_was_stopped() {
    let log = log();
    let following = Following::start(log.path());
    following.shows(&[1, 2, 4, 3, 5, 6]);
    let signal = |name: &str| {
        let id = following.child.id().to_string();
        run(Command::new("kill").args([name, &id]));
    };
    signal("-STOP");
    append(&log.join("audit_2026-11-25.jsonl"), &at(31));
    // One was compressed before it could be looked at, one of those that it follows is, and its bytes come once.
    for (plain, compressed) in [("audit_2026-11-26.jsonl", Some(at(32))), (NEXT, None)] {
        let plain = log.join(plain);
        let text =
            compressed.map_or_else(|| fs::read(&plain).expect("it's there"), String::into_bytes);
        let file = fs::File::create(plain.with_extension("jsonl.gz")).expect("it can be made");
        let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        file.write_all(&text).expect("there's room");
        file.finish().expect("there's room");
        let _ = fs::remove_file(plain);
    }
    append(&log.join("audit_2026-11-27.jsonl"), &at(33));
    append(&log.join("audit_2026-11-28.jsonl"), &at(34));
    signal("-CONT");
    following.shows(&[31, 32, 33, 34]);
}

#[test]
fn following_shows_no_older_day_when_the_last_one_goes() {
    let log = log();
    append(&log.join("audit_2026-11-25.jsonl"), &at(11));
    let following = Following::with(log.path(), &["-n", "1"]);
    following.shows(&[11]);
    fs::remove_file(log.join("audit_2026-11-25.jsonl")).expect("it can be removed");
    std::thread::sleep(Duration::from_secs(1));
    append(&log.join("audit_2026-11-26.jsonl"), &at(12));
    following.shows(&[12]);
}

#[test]
fn following_ends_when_nobody_reads_what_it_shows_even_if_nothing_comes() {
    let log = log();
    let mut tool = tool();
    tool.current_dir(log.path())
        .args(["tail", ".", "-f", "-n", "1"]);
    let mut child = tool
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut shown = BufReader::new(child.stdout.take().expect("it is piped"));
    let (_, lines) = channel();
    let mut following = Following { child, lines };
    let mut line = String::new();
    shown.read_line(&mut line).expect("it can be read");
    assert_eq!(numbers(&line), [6]);
    drop(shown);
    let mut ended = None;
    until("it ends", || {
        ended = following.child.try_wait().expect("it can be asked");
        ended.is_some()
    });
    assert!(ended.is_some_and(|status| status.success()));
}

#[test]
fn following_survives_files_that_are_renamed_cut_or_removed() {
    let log = log();
    let today = log.join(NEXT);
    let following = Following::start(log.path());
    following.shows(&[1, 2, 4, 3, 5, 6]);

    // A rotation: who still writes to the old file is heard, and the new one is begun.
    let renamed = PathBuf::from(format!("{}.old", today.display()));
    fs::rename(&today, &renamed).expect("it can be renamed");
    append(&renamed, &at(21));
    following.shows(&[21]);
    append(&today, &at(22));
    following.shows(&[22]);
    // Under another name of the log it's the same file still.
    fs::rename(&today, log.join("audit_2026-11-24.1.jsonl")).expect("it can be renamed");
    append(&log.join("audit_2026-11-24.1.jsonl"), &at(23));
    following.shows(&[23]);

    append(&today, &(at(24) + &at(25)));
    following.shows(&[24, 25]);
    fs::write(&today, at(26)).expect("it can be written");
    following.shows(&[26]);
    fs::remove_file(&today).expect("it can be removed");
    append(&today, &at(27));
    following.shows(&[27]);
}

#[test]
fn every_field_of_an_entry_is_in_the_schema_of_every_reader() {
    let scratch = Scratch::new();
    let schema = |reader| printed(scratch.path(), &["schema", "--for", reader], 0);
    let source = fs::read_to_string(root().join("schema/entry.json")).expect("it's there");
    assert_eq!(schema("jsonschema"), source);
    let source: Value = serde_json::from_str(&source).expect("it is JSON");
    let fields = &source["properties"];
    let details = &fields["details"]["properties"];
    for reader in ["duckdb", "clickhouse", "polars", "arrow", "spark"] {
        let said = schema(reader);
        let both = [fields, details].map(|object| object.as_object().expect("it's one"));
        for field in both.into_iter().flat_map(|object| object.keys()) {
            // Arrow has no type for objects of any members.
            let left_out = reader == "arrow" && field == "metadata";
            let is_there = [format!("\"{field}\""), format!("`{field}`")]
                .iter()
                .any(|quoted| said.contains(quoted));
            assert_eq!(is_there, !left_out, "{reader}: {field}");
        }
    }
}

#[test]
fn the_manual_says_what_the_help_says() {
    let (scratch, kept) = (Scratch::new(), root().join("man"));
    printed(scratch.path(), &["man", "."], 0);
    let pages = |directory: &Path| -> Vec<(String, String)> {
        let mut pages: Vec<_> = fs::read_dir(directory)
            .expect("it can be read")
            .map(|page| page.expect("it can be read").path())
            .map(|page| {
                (
                    page.file_name()
                        .expect("it has one")
                        .to_string_lossy()
                        .into_owned(),
                    fs::read_to_string(&page).expect("a page is UTF-8"),
                )
            })
            .collect();
        pages.sort();
        pages
    };
    let (made, kept) = (pages(scratch.path()), pages(&kept));
    assert!(made.len() > 8);
    assert!(
        made == kept,
        "man/ is old: cargo run --features cli -- man man"
    );
}

#[test]
fn man_reads_the_manual_without_a_warning() {
    if !available("man") {
        return;
    }
    for page in fs::read_dir(root().join("man")).expect("it is there") {
        let output = Command::new("man")
            .args(["--warnings", "--encoding=UTF-8", "--local-file"])
            .arg(page.expect("it can be read").path())
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .output()
            .expect("man starts");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}
