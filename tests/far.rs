//! Lines that were gathered elsewhere, compared with the trees of their logs.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::calls::{Logger, record};
use support::witness::Witness;
use support::{Scratch, day_files, sealed, tool};

const LINES: usize = 12;

fn lines_of(log: &Path) -> Vec<String> {
    let read = |path| fs::read_to_string(path).expect("a day is text");
    let text: String = day_files(log).into_iter().map(read).collect();
    text.lines().map(str::to_owned).collect()
}

/// What the tool says of lines, given on its standard input, and its exit code.
fn verified(lines: &[String], arguments: &mut Command) -> (Value, i32) {
    let mut child = arguments
        .arg("--json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut stdin = child.stdin.take().expect("it's piped");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    stdin.write_all(text.as_bytes()).expect("it's read");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {said}"));
    (report, output.status.code().expect("it isn't killed"))
}

fn of_tree(lines: &[String], tree: &Path) -> (Value, i32) {
    let mut tool = tool();
    verified(
        lines,
        tool.args(["verify", "--lines", "-", "--tree"]).arg(tree),
    )
}

/// How many of each were found: altered, missing, unknown, doubled.
fn counts(report: &Value) -> [u64; 4] {
    ["altered", "missing", "unknown", "doubled"]
        .map(|what| report[what].as_u64().unwrap_or_else(|| panic!("{report}")))
}

/// Copies what says what was sealed, and no line.
fn copy_tree(log: &Path, to: &Path) {
    fs::create_dir(to).expect("it can be made");
    support::run(
        Command::new("cp")
            .arg("-r")
            .arg(log.join(".integrity"))
            .arg(to),
    );
}

#[test]
fn each_small_damage_to_gathered_lines_is_named_and_their_order_is_no_matter() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, LINES);
    let lines = lines_of(&log);
    let name = day_files(&log)[0]
        .file_name()
        .expect("it has one")
        .to_owned();
    assert_eq!(lines.len(), LINES);
    let mut shuffled = lines.clone();
    shuffled.reverse();
    shuffled.swap(0, 5);
    // The tree is all that is needed of the log.
    let copy = scratch.join("copy");
    copy_tree(&log, &copy);
    for tree in [&log, &copy] {
        let (report, code) = of_tree(&shuffled, tree);
        assert_eq!((counts(&report), code), ([0, 0, 0, 0], 0), "{report}");
        assert_eq!(report["complete"], true);
    }
    for at in 0..LINES {
        let place = json!([{"host": "", "file": name.to_str(), "line": at + 1}]);
        let mut dropped = shuffled.clone();
        dropped.retain(|line| *line != lines[at]);
        let (report, code) = of_tree(&dropped, &log);
        assert_eq!((counts(&report), code), ([0, 1, 0, 0], 1), "{report}");
        assert_eq!(report["not_there"], place);

        let mut altered = shuffled.clone();
        for line in &mut altered {
            if *line == lines[at] {
                *line = line.replacen("user", "User", 1);
            }
        }
        assert_ne!(altered, shuffled);
        let (report, code) = of_tree(&altered, &log);
        assert_eq!((counts(&report), code), ([1, 0, 0, 0], 1), "{report}");
        assert_eq!(report["not_there"], place);
        assert_eq!(report["not_sealed"][0]["id"], ids[at].as_str());

        let mut doubled = shuffled.clone();
        doubled.insert(at, lines[at].clone());
        let (report, code) = of_tree(&doubled, &log);
        assert_eq!((counts(&report), code), ([0, 0, 0, 1], 0), "{report}");

        let mut foreign = shuffled.clone();
        foreign.insert(at, lines[at].replace(&ids[at], "0"));
        let (report, code) = of_tree(&foreign, &log);
        assert_eq!((counts(&report), code), ([0, 0, 1, 0], 1), "{report}");
        assert_eq!(report["not_sealed"][0]["line"], at + 1);
    }
    let mut garbage = shuffled.clone();
    garbage.extend(["".into(), "   ".into(), "no entry".into()]);
    let (report, code) = of_tree(&garbage, &log);
    assert_eq!((counts(&report), code), ([0, 0, 1, 0], 1), "{report}");
}

#[test]
fn only_a_line_that_can_have_been_written_since_counts_as_not_sealed_yet() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    let lines = lines_of(&log);
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
    let stamped = |seconds| {
        let time = now + chrono::TimeDelta::seconds(seconds);
        time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    };
    for (timestamp, unknown, unsealed) in [
        (stamped(60), 0, 1),
        (stamped(-86_400), 1, 0),
        (stamped(86_400), 1, 0),
        ("9998-01-01T00:00:00.000000Z".to_owned(), 1, 0),
        ("zzz".to_owned(), 1, 0),
        (stamped(60).replace('Z', "+00:00"), 1, 0),
    ] {
        let mut more = lines.clone();
        more.push(json!({"id": "forged", "timestamp": timestamp}).to_string());
        let (report, code) = of_tree(&more, &log);
        assert_eq!(counts(&report), [0, 0, unknown, 0], "{timestamp}: {report}");
        assert_eq!(report["unsealed"], unsealed, "{timestamp}");
        assert_eq!(code, i32::from(unknown > 0), "{timestamp}");
    }
}

#[test]
fn a_line_of_any_length_is_a_line() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    let mut lines = lines_of(&log);
    for length in [(1 << 20) - 1, 1 << 20, (16 << 20) + 1, 40 << 20] {
        lines.insert(3, "x".repeat(length));
    }
    let (report, code) = of_tree(&lines, &log);
    assert_eq!((counts(&report), code), ([0, 0, 4, 0], 1));
    assert_eq!(report["lines"], LINES + 4);
    let places = [0, 1, 2, 3].map(|at| report["not_sealed"][at]["line"].as_u64());
    let mut places: Vec<u64> = places.into_iter().flatten().collect();
    places.sort_unstable();
    assert_eq!(places, [4, 5, 6, 7]);
}

#[test]
fn days_outside_of_those_that_are_asked_for_need_not_be_there() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    for (from, to, missing, code) in [
        ("2000-01-01", "2100-01-01", LINES as u64, 1),
        ("2100-01-01", "2100-01-02", 0, 0),
        ("2000-01-01", "2000-01-02", 0, 0),
    ] {
        let mut tool = tool();
        tool.args([
            "verify", "--lines", "-", "--from", from, "--to", to, "--tree",
        ]);
        let (report, exit) = verified(&[], tool.arg(&log));
        assert_eq!((counts(&report)[1], exit), (missing, code), "{report}");
    }
}

#[test]
fn a_fleet_s_lines_come_as_one_and_each_host_s_are_told_apart() {
    let scratch = Scratch::new();
    let mut all = Vec::new();
    let mut hosts = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        let place = Scratch::new();
        let (log, _) = sealed(&place, LINES);
        let tree = scratch.join(name);
        support::run(Command::new("cp").arg("-r").arg(&log).arg(&tree));
        all.extend(lines_of(&tree));
        hosts.push(json!({"name": name, "tree": name, "silent_after_s": 3600}));
    }
    let fleet = scratch.join("fleet.json");
    let told = |hosts: &[Value], lines: &[String]| {
        fs::write(&fleet, json!({"hosts": hosts}).to_string()).expect("it can be written");
        let mut tool = tool();
        verified(
            lines,
            tool.args(["verify", "--lines", "-", "--fleet"]).arg(&fleet),
        )
    };
    all.sort();
    let (report, code) = told(&hosts, &all);
    assert_eq!((counts(&report), code), ([0, 0, 0, 0], 0), "{report}");
    assert_eq!(report["sealed"], 3 * LINES);

    let lost = lines_of(&scratch.join("web-2"))[4].clone();
    let without: Vec<String> = all.iter().filter(|line| **line != lost).cloned().collect();
    let (report, code) = told(&hosts, &without);
    assert_eq!((counts(&report), code), ([0, 1, 0, 0], 1), "{report}");
    assert_eq!(report["not_there"][0]["host"], "web-2");
    assert_eq!(report["not_there"][0]["line"], 5);

    // An older tree in a host's place, when a later checkpoint was kept.
    let kept = scratch.join("kept");
    fs::copy(scratch.join("web-1/.integrity/heads"), &kept).expect("it can be copied");
    hosts[2]["checkpoints"] = json!(["kept"]);
    let (report, code) = told(&hosts, &all);
    assert_eq!(code, 1);
    assert_eq!(report["logs"][2]["intact"], false, "{report}");
    hosts[2]["checkpoints"] = json!([]);

    // One without a tree: the others have their answers all the same.
    hosts.push(json!({"name": "web-4", "tree": "nowhere"}));
    let (report, code) = told(&hosts, &without);
    assert_eq!((counts(&report), code), ([0, 1, 0, 0], 3), "{report}");
    assert_eq!(report["not_there"][0]["host"], "web-2");
    assert!(report["logs"][3]["error"].is_string(), "{report}");
    hosts.pop();

    hosts[1]["silent_after_s"] = json!(0);
    let (report, code) = told(&hosts, &all);
    assert_eq!((counts(&report), code), ([0, 0, 0, 0], 1), "{report}");
    let silent = [0, 1, 2].map(|host| report["logs"][host]["silent"].clone());
    assert_eq!(silent, [json!(false), json!(true), json!(false)]);
}

#[test]
fn a_host_s_tree_must_have_the_signatures_that_its_policy_asks_for() {
    let scratch = Scratch::new();
    let (asked, other) = (Witness::start(1), Witness::start(2));
    for (name, witness) in [("policy", &asked), ("another", &other)] {
        let policy = format!("{}quorum w\n", witness.line("w"));
        fs::write(scratch.join(name), policy).expect("there's room");
    }
    let (log, fleet) = (scratch.join("log"), scratch.join("fleet.json"));
    let logger = Logger::new(&json!({
        "output_path": log, "integrity": {"witness_policy": scratch.join("policy")},
    }));
    let _ = logger.log(&record()).expect(audit_logger::ffi::AUDIT_OK);
    logger
        .flush_with(60_000, r#"{"witnessed":true}"#)
        .expect(audit_logger::ffi::AUDIT_OK);
    logger.close(-1);
    let lines = lines_of(&log);
    let with_policy = |policy: &str| {
        let hosts = json!({"hosts": [{"name": "web-1", "tree": "log", "policy": policy}]});
        fs::write(&fleet, hosts.to_string()).expect("it can be written");
        let mut tool = tool();
        tool.args(["verify", "--lines", "-", "--fleet"]).arg(&fleet);
        verified(&lines, &mut tool)
    };
    let (report, code) = with_policy("policy");
    assert_eq!((counts(&report), code), ([0, 0, 0, 0], 0), "{report}");
    let grade = report["logs"][0]["grade"].as_str().expect("it has one");
    assert!(grade.starts_with("witnessed, as of 20"), "{grade}");
    let (report, code) = with_policy("another");
    assert_eq!((counts(&report), code), ([0, 0, 0, 0], 1), "{report}");
    assert_eq!(report["logs"][0]["findings"][0]["class"], "unwitnessed");

    // One log takes it as an option.
    let mut tool = tool();
    tool.args(["verify", "--lines", "-", "--tree"]).arg(&log);
    let (report, code) = verified(&lines, tool.arg("--policy").arg(scratch.join("another")));
    assert_eq!((counts(&report), code), ([0, 0, 0, 0], 1), "{report}");
}

#[test]
fn a_tree_that_was_copied_while_it_grew_counts_as_far_as_it_s_whole() {
    let scratch = Scratch::new();
    let (log, copy) = (scratch.join("log"), scratch.join("copy"));
    let logger = Logger::new(&json!({"output_path": log, "integrity": {}}));
    let more = |count| {
        for _ in 0..count {
            logger.log(&record()).expect(audit_logger::ffi::AUDIT_OK);
        }
        logger.flush().expect(audit_logger::ffi::AUDIT_OK);
    };
    more(LINES);
    copy_tree(&log, &copy);
    more(5);
    // What is signed is copied last.
    for name in ["heads", "checkpoint"] {
        let from = log.join(".integrity").join(name);
        fs::copy(from, copy.join(".integrity").join(name)).expect("it can be copied");
    }
    logger.close(-1);
    let (report, code) = of_tree(&lines_of(&log), &copy);
    assert_eq!((counts(&report), code), ([0, 0, 0, 0], 0), "{report}");
    assert_eq!(report["unsealed"], 5, "{report}");
    assert!(report["logs"][0]["beyond"].as_u64() >= Some(5), "{report}");
}

/// What the view in deploy/clickhouse finds by host and day, as the tool's report has it.
const VIEW: &str = r#"
import json, sys
from chdb.session import Session
session = Session("database")
for statement in open(sys.argv[1]).read().split(";\n"):
    session.query(statement)
session.query("INSERT INTO audit_sealed (host, file, number, hex, finding) SELECT * FROM file('sealed', TSV, 'host String, file String, number UInt64, hex String, finding String')")
session.query("INSERT INTO audit_lines SELECT * FROM file('lines', LineAsString, 'line String')")
print(session.query("SELECT * EXCEPT findings FROM audit_found_by_day FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0"))
print(session.query("SELECT host, file, number AS line FROM audit_found WHERE what = 'missing' ORDER BY file, line FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0"))
"#;

#[test]
fn the_view_in_clickhouse_finds_what_the_tool_finds() {
    let Some(python) = support::python_with("chdb") else {
        return;
    };
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, LINES);
    let mut lines = lines_of(&log);
    let host: Value = serde_json::from_str(&lines[0]).expect("it is JSON");
    let host = host["details"]["host"].as_str().expect("it has one");
    let hosts = json!({"hosts": [{"name": host, "tree": "log"}]});
    let fleet = scratch.join("fleet.json");
    fs::write(&fleet, hosts.to_string()).expect("it can be written");

    // One altered, one doubled, one dropped, one that nobody sealed of another day and one of no day, one that isn't
    // sealed yet, and blank ones.
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
    let now = (now + chrono::TimeDelta::seconds(60)).format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let stamped = |timestamp: &str| {
        json!({"id": "0", "timestamp": timestamp, "details": {"host": host}}).to_string()
    };
    lines[3] = lines[3].replace(&ids[3], "0");
    lines.push(lines[5].clone());
    lines.remove(7);
    lines.extend([
        stamped("2000-01-01T00:00:00.000000Z"),
        stamped("9998-01-01T00:00:00.000000Z"),
        stamped(&now.to_string()),
        "no entry".to_owned(),
        "   ".to_owned(),
        String::new(),
    ]);
    lines.reverse();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(scratch.join("lines"), text).expect("there's room");

    let mut command = tool();
    let (report, code) = verified(
        &lines,
        command
            .args(["verify", "--lines", "-", "--fleet"])
            .arg(&fleet),
    );
    assert_eq!((counts(&report), code), ([1, 1, 3, 1], 1), "{report}");
    let mut command = tool();
    let digests = support::run(command.args(["digests", "--fleet"]).arg(&fleet));
    assert_eq!(digests.lines().count(), LINES);
    // Inserted twice it's the same.
    fs::write(scratch.join("sealed"), digests.repeat(2)).expect("there's room");
    let mut python = Command::new(python);
    python
        .current_dir(scratch.path())
        .args(["-c", VIEW])
        .arg(support::root().join("deploy/clickhouse/far_end.sql"));
    let said = support::run(&mut python);
    let rows = said
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).expect("it is JSON"));
    let rows: Vec<Value> = rows.collect();
    let (days, missing): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row["line"].is_null());
    let mut wanted = report["days"].as_array().expect("it has days").clone();
    for day in &mut wanted {
        day.as_object_mut().expect("it's one").remove("unanswered");
    }
    assert_eq!(days, wanted, "{said}");
    assert_eq!(json!(missing), report["not_there"], "{said}");
}

#[test]
fn digests_are_printed_of_trees_without_findings_alone() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    let file = day_files(&log)[0]
        .file_name()
        .expect("it has one")
        .to_string_lossy()
        .into_owned();
    let mut command = tool();
    let printed = support::run(command.arg("digests").arg(&log));
    let wanted: String = lines_of(&log)
        .iter()
        .zip(1..)
        .map(|(line, number)| {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(line);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\t{file}\t{number}\t{digest}\t\n")
        })
        .collect();
    assert_eq!(printed, wanted);

    // An older copy, when more of it is known.
    let older = scratch.join("older");
    fs::create_dir(&older).expect("it can be made");
    let kept = scratch.join("kept");
    support::run(
        Command::new("cp")
            .arg("-r")
            .arg(log.join(".integrity"))
            .arg(&older),
    );
    let logger = Logger::new(&json!({
        "output_path": log, "integrity": {"guard_file": scratch.join("guard")},
    }));
    logger.log(&record()).expect(audit_logger::ffi::AUDIT_OK);
    logger.close(-1);
    fs::copy(log.join(".integrity/checkpoint"), &kept).expect("it can be copied");
    let mut command = tool();
    command
        .arg("digests")
        .arg(&older)
        .arg("--checkpoint")
        .arg(&kept);
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.starts_with("\t\t0\t\trolled_back: "), "{printed}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
}

#[test]
fn a_tree_that_isn_t_what_was_signed_vouches_for_nothing() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    let lines = lines_of(&log);
    let tile = log.join(".integrity/tile/entries/000");
    let recent = log.join(".integrity/recent");
    for path in [tile, recent] {
        let Ok(bytes) = fs::read(&path) else { continue };
        let mut changed = bytes.clone();
        *changed.last_mut().expect("it holds entries") ^= 1;
        fs::write(&path, changed).expect("it can be written");
        let mut tool = tool();
        let mut command = tool.args(["verify", "--lines", "-", "--tree"]).arg(&log);
        command = command.stdin(Stdio::null());
        let before = command.output().expect("the tool starts").status.code();
        fs::write(&path, bytes).expect("it can be written");
        assert_eq!(before, Some(1), "{}", path.display());
    }
    assert_eq!(of_tree(&lines, &log).1, 0);
}
