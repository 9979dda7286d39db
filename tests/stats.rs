//! The tool's `stats`, and the other commands that add up a log or go through it: whatever the lines say, no number is
//! wrong without a word.

mod support;

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use support::{Scratch, available, entry_line, run, sealed, tool};

const DAY: &str = "audit_2026-11-23.jsonl";
const AT: &str = "2026-11-23T10:00:00.000000Z";

/// A log of one day with these lines.
fn log(lines: &[String]) -> Scratch {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("log")).expect("it can be made");
    fs::write(scratch.join("log").join(DAY), lines.concat()).expect("there's room");
    scratch
}

/// Entries of one time, numbered, with other members than usual.
fn entries(others: impl IntoIterator<Item = Value>) -> Vec<String> {
    let others = (1..).zip(others);
    others
        .map(|(number, other)| entry_line(number, AT, &other))
        .collect()
}

/// What a command on the log prints, and what it says on the standard error.
#[track_caller]
fn said(scratch: &Scratch, arguments: &[&str]) -> (String, String) {
    let mut tool = tool();
    tool.current_dir(scratch.path()).args(arguments);
    let output = tool.output().expect("the tool starts");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("it's UTF-8");
    (text(output.stdout), text(output.stderr))
}

#[track_caller]
fn stats(scratch: &Scratch, more: &[&str]) -> Value {
    let arguments = [&["stats", "log", "--json"], more].concat();
    serde_json::from_str(&said(scratch, &arguments).0).expect("it is JSON")
}

/// What a report of the log says.
#[track_caller]
fn page(scratch: &Scratch, more: &[&str]) -> String {
    let arguments = ["report", "log", "--no-verify", "-o", "page.html"];
    said(scratch, &[&arguments[..], more].concat());
    let page = fs::read_to_string(scratch.join("page.html")).expect("it's written");
    fs::remove_file(scratch.join("page.html")).expect("it's there");
    page
}

#[test]
fn numbers_at_their_limits_add_up_to_the_limit() {
    let gap = |calls: u64| json!({"event_type": "audit_gap", "metadata": {"calls": calls}});
    let huge = |cost: f64| json!({"prompt_tokens": u64::MAX, "latency_ms": f64::MAX, "details": {"cost": cost}});
    let scratch = log(&entries([
        gap(u64::MAX),
        gap(7),
        huge(f64::MAX),
        huge(f64::MAX),
    ]));
    let stats = stats(&scratch, &[]);
    assert_eq!(stats["gaps"], u64::MAX);
    let total = &stats["total"];
    assert_eq!(total["prompt_tokens"], u64::MAX);
    assert_eq!(total["cost"], f64::MAX);
    let latency = total["latency_ms"]["p50"].as_f64().expect("a number");
    let longest = 100.0 * 86_400_000.0;
    assert!((latency / longest - 1.0).abs() < 0.01, "{latency}");
    assert!(page(&scratch, &[]).contains("18,446,744,073,709,551,615"));
}

/// What a host records of its own may take longer than a call can.
#[test]
fn latencies_of_days_are_told_apart() {
    let latency = |hours: f64| json!({"latency_ms": hours * 3_600_000.0});
    let scratch = log(&entries([latency(30.0), latency(200.0), latency(2000.0)]));
    let found = stats(&scratch, &[])["total"]["latency_ms"].clone();
    for (name, hours) in [("p50", 200.0), ("p99", 2000.0)] {
        let found = found[name].as_f64().expect("a number") / 3_600_000.0;
        assert!((found / hours - 1.0).abs() < 0.01, "{name}: {found}");
    }
}

#[test]
fn calls_without_an_entry_are_in_the_report_of_every_user() {
    let gap = json!({"event_type": "audit_gap", "user_id": "", "metadata": {"calls": 7}});
    let scratch = log(&entries([json!({}), gap, json!({"user_id": "user-2"})]));
    assert_eq!(stats(&scratch, &["--where", "user_id=user-2"])["gaps"], 7);
    let page = page(&scratch, &["--user", "user-2"]);
    let words = "Calls without an entry, which the log couldn\u{2019}t take: 7.";
    assert!(page.contains(words), "{page}");
}

#[test]
fn names_are_told_apart_whatever_they_are_and_however_long() {
    let long = |end: &str| "x".repeat(600) + end;
    let names = ["(others)".to_owned(), long("a"), long("b"), long("b")];
    let scratch = log(&entries(names.map(
        |name| json!({"user_id": name, "status": "error", "error_type": name}),
    )));
    let stats = stats(&scratch, &["--by", "user"]);
    let groups = stats["groups"].as_array().expect("an array");
    let calls: Vec<_> = groups.iter().map(|group| &group["calls"]).collect();
    assert_eq!(calls.iter().filter(|calls| **calls == 2).count(), 1);
    assert_eq!((calls.len(), &groups[0]["user"]), (3, &json!("(others)")));
    let errors = stats["total"]["errors_by_type"].as_object();
    assert_eq!(errors.expect("an object").len(), 3);
    let page = page(&scratch, &[]);
    assert!(!page.contains("too many to tell all of them apart"));
}

#[test]
fn who_is_met_when_there_are_enough_is_among_others_without_a_name() {
    let told = 1 << 15;
    let users = (0..told + 5).map(|number| json!({"user_id": format!("user-{number}")}));
    let scratch = log(&entries(users));
    let stats = stats(&scratch, &["--by", "user"]);
    let groups = stats["groups"].as_array().expect("an array");
    assert_eq!(groups.len(), told + 1);
    assert_eq!(groups[told]["user"], Value::Null);
    assert_eq!(groups[told]["calls"], 5);
    let table = said(&scratch, &["stats", "log", "--by", "user"]).0;
    assert!(table.contains("\n(others) "), "the table names them");
    let page = page(&scratch, &[]);
    assert!(page.contains("too many to tell all of them apart"));
    assert!(page.contains("more than 32,748 others"));
}

/// An entry as other programs could have written it.
fn by_others() -> Vec<String> {
    let plain = entry_line(1, AT, &json!({"metadata": {"a": "b"}}));
    let other = |from: &str, to: &str| {
        let line = plain.replace(from, to);
        assert_ne!(line, plain, "{from}");
        line
    };
    [
        other("{\"a\":\"b\"}", "{\"a\":1,\"a\":2}"),
        other("\"b\"", r#""\ud800""#),
        other("\"a\"", r#""\udc00""#),
        other("\"b\"", "1e400"),
        other("\"schema\":1", "\"schema\":1e400"),
        other("\"schema\":1", r#""schema":"\ud800","x":1,"x":2"#),
        other("\"b\"", &format!("{}{}", "[".repeat(100), "]".repeat(100))),
        other("100.0", "1e400"),
        other("\"b\"", " \"b\" , \"c\" : [ ] "),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, line)| line.replace("000001\"", &format!("00001{number}\"")))
    .collect()
}

#[test]
fn every_entry_that_counts_is_exported_with_what_can_be_held_of_it() {
    let lines = by_others();
    let scratch = log(&lines);
    assert_eq!(stats(&scratch, &[])["total"]["calls"], lines.len());
    assert_eq!(stats(&scratch, &[])["total"]["calls_without_cost"], 0);
    for format in ["otel", "ocsf", "ecs", "csv"] {
        let (printed, complained) = said(&scratch, &["export", "log", "--format", format]);
        let header = usize::from(format == "csv");
        assert_eq!(printed.lines().count(), lines.len() + header, "{format}");
        assert_eq!(complained, "", "{format}");
    }
    let (csv, _) = said(&scratch, &["export", "log", "--format", "csv"]);
    for line in csv.lines().skip(1) {
        assert!(line.contains(",0.5,"), "the cost isn't in {line}");
    }
}

#[test]
fn what_is_no_entry_or_no_whole_line_is_told_by_all() {
    let mut lines = entries([json!({}), json!({})]);
    lines.push("{\"torn\n".to_owned());
    lines.push(entry_line(3, AT, &json!({})).trim_end().to_owned());
    let scratch = log(&lines);
    assert_eq!(stats(&scratch, &[])["total"]["calls"], 2);
    assert_eq!(stats(&scratch, &[])["skipped_lines"], 2);
    let words = "2 lines are no entries";
    assert!(said(&scratch, &["stats", "log"]).0.contains(words));
    assert!(page(&scratch, &[]).contains("Lines that are no entries: 2."));
    let (_, complained) = said(&scratch, &["export", "log", "--format", "csv"]);
    assert!(complained.contains(words), "{complained}");
    // What waits for more and is blank is nothing.
    fs::write(scratch.join("log").join(DAY), format!("{}   ", lines[0])).expect("there's room");
    assert_eq!(stats(&scratch, &[])["skipped_lines"], 0);
}

#[test]
fn files_without_number_are_told_to_be_too_many() {
    let scratch = log(&entries([json!({})]));
    for number in 1..(1 << 15) + 2 {
        let name = format!("log/audit_2026-11-23.{number}.jsonl");
        File::create(scratch.join(&name)).expect("it can be made");
    }
    let (printed, complained) = said(&scratch, &["stats", "log", "--json"]);
    let stats: Value = serde_json::from_str(&printed).expect("it is JSON");
    assert_eq!(stats["left_out"], json!(["audit_*"]));
    assert!(complained.contains("more than 32768 files"), "{complained}");
    assert!(page(&scratch, &[]).contains("more than 32768 files"));
    let mut export = tool();
    let export = export.current_dir(scratch.path());
    let export = export.args(["export", "log", "--format", "csv"]).output();
    assert_eq!(export.expect("it starts").status.code(), Some(3));
}

#[test]
fn what_lies_in_the_place_of_the_key_holds_nobody_up() {
    let scratch = log(&entries([json!({})]));
    fs::create_dir(scratch.join("log/.integrity")).expect("it can be made");
    run(Command::new("mkfifo").arg(scratch.join("log/.integrity/vkey")));
    for arguments in [
        &["export", "log", "--format", "ecs"][..],
        &["tail", "log", "--format", "ecs"],
    ] {
        // Who opened it would wait for a writer.
        let program = tool().get_program().to_owned();
        let mut command = Command::new("timeout");
        let command = command.current_dir(scratch.path()).arg("60").arg(program);
        assert_eq!(run(command.args(arguments)).lines().count(), 1);
    }
}

/// What a command shows on a terminal, what it wipes included.
fn on_a_terminal(scratch: &Scratch, arguments: &str) -> String {
    let program = tool().get_program().to_string_lossy().into_owned();
    run(Command::new("script").current_dir(scratch.path()).args([
        "-qec",
        &format!("{program} {arguments}"),
        "/dev/null",
    ]))
}

#[test]
fn who_waits_for_one_long_day_sees_how_far_it_is() {
    if !available("script") {
        return;
    }
    let scratch = log(&entries((0..5000).map(|_| json!({}))));
    for (arguments, what) in [
        ("stats log", "adding up: 40 %"),
        ("report log --no-verify -o page.html", "adding up: 40 %"),
        ("export log --format csv", "exporting: 40 %"),
    ] {
        let shown = on_a_terminal(&scratch, arguments);
        assert!(shown.contains(what), "{arguments}: {shown:.2000}");
    }
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 3000);
    let mut lines = Vec::new();
    for entry in fs::read_dir(log).expect("it's there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            lines = fs::read(path).expect("it can be read");
        }
    }
    // Some lines of many are missing, and the others stand often enough that there is something to wait for.
    let begin = lines.len() / 2;
    let begin = begin
        + lines[begin..]
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("it's there")
        + 1;
    fs::write(scratch.join("lines"), lines[begin..].repeat(10)).expect("there's room");
    let verify = "verify --tree log --lines lines; true";
    let shown = on_a_terminal(&scratch, verify);
    for what in [
        "reading trees: ",
        "comparing lines: ",
        "looking for missing lines: ",
    ] {
        assert!(shown.contains(what), "{what}: {shown:.2000}");
    }
}

#[test]
fn who_waits_for_the_verifying_of_a_report_sees_how_far_it_is_and_can_end_it() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 600);
    // It isn't of the days that are counted, and has no end.
    let endless = File::create(log.join("audit_2020-02-02.jsonl")).expect("it can be made");
    endless.set_len(200 << 30).expect("it may have a hole");
    let mut report = tool();
    let report = report.current_dir(scratch.path());
    let report = report.args(["report", "log", "-o", "page.html", "--from", "2099-01-01"]);
    let child = report.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    // It reads that file for minutes.
    support::pace::until("the file is read", || {
        let open = fs::read_dir(format!("/proc/{}/fd", child.id()));
        let mut open = open.into_iter().flatten().flatten();
        open.any(|open| {
            fs::read_link(open.path()).is_ok_and(|open| open.ends_with("audit_2020-02-02.jsonl"))
        })
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    let reached = said.split("interrupted at ").nth(1);
    let percent = reached.and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(percent.is_some_and(|percent| percent > 50), "{said}");
    let mut left = String::new();
    for entry in fs::read_dir(scratch.path()).expect("it's there") {
        let _ = write!(left, "{:?} ", entry.expect("it can be read").file_name());
    }
    assert!(!left.contains("page") && !left.contains("tmp"), "{left}");
}

/// The log is looked at while a line is appended in pieces, and its file cut.
#[test]
fn a_log_that_changes_meanwhile_is_added_up_as_it_was_at_some_moment() {
    let scratch = log(&entries((0..200).map(|_| json!({}))));
    let path = scratch.join("log").join(DAY);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for number in 1000..1040 {
                let line = entry_line(number, AT, &json!({}));
                let (begin, end) = line.split_at(line.len() / 2);
                let mut file = OpenOptions::new()
                    .append(true)
                    .open(&path)
                    .expect("it's there");
                file.write_all(begin.as_bytes()).expect("there's room");
                std::thread::sleep(std::time::Duration::from_millis(20));
                file.write_all(end.as_bytes()).expect("there's room");
            }
        });
        let mut last = 200;
        while !writing.is_finished() {
            let stats = stats(&scratch, &[]);
            let calls = stats["total"]["calls"].as_u64().expect("a number");
            assert!((last..=240).contains(&calls), "{calls} after {last}");
            assert!(stats["skipped_lines"].as_u64() <= Some(1), "{stats}");
            last = calls;
        }
    });
    assert_eq!(stats(&scratch, &[])["total"]["calls"], 240);
}
