//! Lines that were gathered elsewhere, compared with the trees of their logs.

mod support;

use std::ffi::OsString;
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

/// A line, stamped a year before.
fn stamped_before(line: &str) -> String {
    let at = line.find(r#""timestamp":""#).expect("it has one") + r#""timestamp":""#.len();
    let year: u32 = line[at..at + 4].parse().expect("it begins with the year");
    format!("{}{}{}", &line[..at], year - 1, &line[at + 4..])
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
        foreign.insert(at, stamped_before(&lines[at].replace(&ids[at], "0")));
        let (report, code) = of_tree(&foreign, &log);
        assert_eq!((counts(&report), code), ([0, 0, 0, 0], 1), "{report}");
        assert_eq!(report["overdue"], 1, "{report}");
        assert_eq!(report["not_sealed"][0]["line"], at + 1);
    }
    let mut garbage = shuffled.clone();
    garbage.extend(["".into(), "   ".into(), "no entry".into()]);
    let (report, code) = of_tree(&garbage, &log);
    assert_eq!((counts(&report), code), ([0, 0, 1, 0], 1), "{report}");
}

/// A time, so many seconds from another one.
fn seconds_from(time: &str, seconds: i64) -> String {
    let time: chrono::DateTime<chrono::Utc> = time.parse().expect("it's a time");
    let time = time + chrono::TimeDelta::seconds(seconds);
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn now() -> String {
    let now = std::time::UNIX_EPOCH.elapsed().expect("it's later");
    seconds_from("1970-01-01T00:00:00Z", now.as_secs() as i64)
}

/// An entry that nobody sealed.
fn entry(host: &str, timestamp: &str) -> String {
    json!({"id": "forged", "timestamp": timestamp, "details": {"host": host}}).to_string()
}

#[test]
fn a_line_is_overdue_when_its_log_was_sealed_more_than_a_minute_after_it_was_stamped() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    let lines = lines_of(&log);
    let (report, _) = of_tree(&lines, &log);
    let last_seal = report["logs"][0]["last_seal"].as_str().expect("it has one");
    let near = |seconds| seconds_from(last_seal, seconds);
    // Since then, and while it was sealed: in a log that lives there always are some.
    for (timestamp, what) in [
        (near(1), "unsealed"),
        (near(0), "unsealed"),
        (near(-1), "unsealed"),
        (near(-59), "unsealed"),
        (seconds_from(&now(), 60), "unsealed"),
        (near(-61), "overdue"),
        (near(-86_400), "overdue"),
        ("1970-01-01T00:00:00.000000Z".to_owned(), "overdue"),
        // No entry of a log says that.
        (seconds_from(&now(), 86_400), "unknown"),
        ("9998-01-01T00:00:00.000000Z".to_owned(), "unknown"),
        ("zzz".to_owned(), "unknown"),
        (near(1).replace('Z', "+00:00"), "unknown"),
    ] {
        let mut more = lines.clone();
        more.push(entry("", &timestamp));
        let (report, code) = of_tree(&more, &log);
        for class in ["unsealed", "overdue", "unknown"] {
            let wanted = u64::from(class == what);
            assert_eq!(report[class], wanted, "{timestamp}: {report}");
        }
        assert_eq!(code, i32::from(what != "unsealed"), "{timestamp}");
    }
}

#[test]
fn overdue_lines_are_named_by_host_day_and_place_and_a_fleet_that_lives_has_none() {
    let scratch = Scratch::new();
    let (mut hosts, mut lines) = (Vec::new(), Vec::new());
    for name in ["web-1", "web-2"] {
        let place = Scratch::new();
        let (log, _) = sealed(&place, LINES);
        copy_tree(&log, &scratch.join(name));
        lines.extend(lines_of(&log));
        hosts.push(json!({"name": name, "tree": name}));
        // Written since, as always between two sealings.
        lines.push(entry(name, &now()));
    }
    let (fleet, gathered) = (scratch.join("fleet.json"), scratch.join("gathered"));
    fs::write(&fleet, json!({"hosts": hosts}).to_string()).expect("there's room");
    let told = |lines: &[String]| {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&gathered, text).expect("there's room");
        let mut tool = tool();
        tool.args(["verify", "--lines"]).arg(&gathered);
        let output = tool.arg("--fleet").arg(&fleet).output().expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        (
            String::from_utf8_lossy(&text).into_owned(),
            output.status.code(),
        )
    };
    let (text, code) = told(&lines);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("1 not sealed yet") && !text.contains("overdue"),
        "{text}"
    );

    lines.insert(3, entry("web-2", "2026-01-02T03:04:05.000000Z"));
    let (text, code) = told(&lines);
    assert_eq!(code, Some(1), "{text}");
    let place = format!(
        "{}:4, web-2 id forged, stamped 2026-01-02T03:04:05",
        gathered.display()
    );
    for wanted in [
        "web-2 2026-01-02: 1 overdue",
        "1 lines should be sealed and aren't, the first of web-2 2026-01-02",
        &place,
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
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
    let day = day_files(&log)[0]
        .file_name()
        .expect("it has one")
        .to_owned();
    let day = &day.to_str().expect("it's ASCII")[6..16];
    let (before, after) = (
        &seconds_from(&format!("{day}T00:00:00Z"), -1)[..10],
        &seconds_from(&format!("{day}T00:00:00Z"), 86_400)[..10],
    );
    let of = |given: &[&str], lines: &[String]| {
        let mut tool = tool();
        tool.args(["verify", "--lines", "-"]).args(given);
        verified(lines, tool.arg("--tree").arg(&log))
    };
    let all = LINES as u64;
    for (given, missing) in [
        (&["--from", day, "--to", day][..], all),
        (&["--from", before, "--to", after], all),
        (&["--from", day], all),
        (&["--to", day], all),
        (&["--from", after], 0),
        (&["--to", before], 0),
        (&["--from", after, "--to", before], 0),
        (&["--from", "2000-01-01", "--to", "2000-01-02"], 0),
    ] {
        let (report, exit) = of(given, &[]);
        assert_eq!(counts(&report)[1], missing, "{given:?}: {report}");
        assert_eq!(exit, i32::from(missing > 0), "{given:?}");
        // What came and wasn't sealed is named whatever day it says.
        let (report, exit) = of(given, &["no entry".to_owned()]);
        assert_eq!((counts(&report)[2], exit), (1, 1), "{given:?}: {report}");
    }
    for wrong in ["2026-13-01", "yesterday", ""] {
        let mut tool = tool();
        tool.args(["verify", "--lines", "-", "--from", wrong, "--tree"]);
        let output = tool
            .arg(&log)
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{wrong}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("'{wrong}'")));
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

#[test]
fn whatever_a_fleet_s_file_holds_is_taken_as_it_says_or_refused_by_its_name() {
    let scratch = Scratch::new();
    let (_, _) = sealed(&scratch, 1);
    let host = json!({"name": "web-1", "tree": "log", "checkpoints": [], "silent_after_s": 900});
    let whole = json!({"hosts": [host]}).to_string();
    let path = scratch.join("fleet.json");
    let told = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("there's room");
        let mut tool = tool();
        tool.args(["verify", "--lines", "/dev/null", "--fleet"]);
        let output = tool.arg(&path).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().expect("no signal ended it"), said)
    };
    // It lacks its lines.
    assert_eq!(told(whole.as_bytes()).0, 1);
    let mut inputs: Vec<Vec<u8>> = (0..whole.len()).map(|at| whole[..at].into()).collect();
    for at in 0..whole.len() {
        let mut bytes = whole.clone().into_bytes();
        bytes[at] ^= 1 << (at % 8);
        inputs.push(bytes);
    }
    for input in inputs {
        let (code, said) = told(&input);
        // A name or a path may be another one: then there is no such tree.
        let shown = String::from_utf8_lossy(&input);
        assert!([1, 2, 3].contains(&code), "{shown}: {code}: {said}");
        if code == 2 {
            assert!(said.contains("fleet.json: "), "{shown}: {said}");
        }
    }
    let twice = json!({"hosts": [host, host]}).to_string();
    let more = json!({"hosts": [{"name": "a", "tree": "log", "vkeys": []}]}).to_string();
    let deep = "[".repeat(1 << 20);
    let long = " ".repeat((16 << 20) + 1);
    for (text, wanted) in [
        (r#"{"hosts": []}"#, "no hosts"),
        (r#"{"hosts": [{"name": "a"}]}"#, "tree"),
        (&twice, "two hosts are called \"web-1\""),
        (&more, "vkeys"),
        (&deep, "invalid type"),
        (&long, "longer than 16 MiB"),
    ] {
        let (code, said) = told(text.as_bytes());
        assert_eq!(code, 2, "{said}");
        assert!(
            said.contains("fleet.json: ") && said.contains(wanted),
            "{wanted}: {said}"
        );
        assert!(said.len() < 1000, "{said}");
    }
}

/// Makes the tables and views of deploy/clickhouse, fills them from the files `sealed` and, if it's there, `lines`, and
/// prints the answers to queries.
const CLICKHOUSE: &str = r#"
import os, sys
from chdb.session import Session
session = Session("database")
for statement in open(sys.argv[1]).read().split(";\n"):
    session.query(statement)
session.query("INSERT INTO audit_sealed (host, file, number, hex, said) SELECT * FROM file('sealed', TSV, 'host String, file String, number UInt64, hex String, said String')")
if os.path.exists("lines"):
    session.query("INSERT INTO audit_lines SELECT * FROM file('lines', LineAsString, 'line String')")
for query in sys.argv[2:]:
    print(session.query(query))
"#;

/// What ClickHouse answers to queries, by lines.
fn asked_in_clickhouse(python: OsString, scratch: &Scratch, queries: &[&str]) -> Vec<String> {
    let mut python = Command::new(python);
    python
        .current_dir(scratch.path())
        .args(["-c", CLICKHOUSE])
        .arg(support::root().join("deploy/clickhouse/far_end.sql"))
        .args(queries);
    let said = support::run(&mut python);
    let lines = said.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// What the view finds by host and day, and what is missing, as the tool's report has it.
const FOUND: [&str; 2] = [
    "SELECT * EXCEPT findings FROM audit_found_by_day FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0",
    "SELECT host, file, number AS line FROM audit_found WHERE what = 'missing' ORDER BY file, line FORMAT JSONEachRow \
     SETTINGS output_format_json_quote_64bit_integers = 0",
];

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

    // One altered, one doubled, two dropped, one that is overdue, one of the future and one that is none, one that isn't
    // sealed yet and one that was stamped just before its log was sealed, and blank ones.
    let (report, _) = of_tree(&[], &scratch.join("log"));
    let last_seal = report["logs"][0]["last_seal"].as_str().expect("it has one");
    let now = seconds_from(&now(), 60);
    lines[3] = lines[3].replace(&ids[3], "0");
    lines.push(lines[5].clone());
    lines.drain(7..9);
    lines.extend([
        entry(host, "2000-01-01T00:00:00.000000Z"),
        entry(host, "9998-01-01T00:00:00.000000Z"),
        entry(host, &now),
        entry(host, &seconds_from(last_seal, -30)),
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
    // The one stamped just before may be one of those that are missing, changed.
    assert_eq!((counts(&report), code), ([2, 1, 2, 1], 1), "{report}");
    assert_eq!(report["overdue"], 1, "{report}");
    let mut command = tool();
    let digests = support::run(command.args(["digests", "--fleet"]).arg(&fleet));
    assert_eq!(digests.lines().count(), LINES + 1);
    // Inserted twice it's the same.
    fs::write(scratch.join("sealed"), digests.repeat(2)).expect("there's room");
    let said = asked_in_clickhouse(python, &scratch, &FOUND);
    let rows = said
        .iter()
        .map(|line| serde_json::from_str(line).expect("it is JSON"));
    let rows: Vec<Value> = rows.collect();
    let (days, missing): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row["line"].is_null());
    assert_eq!(json!(days), report["days"], "{said:?}");
    assert_eq!(json!(missing), report["not_there"], "{said:?}");
}

#[test]
fn the_view_in_clickhouse_names_the_hosts_that_are_silent() {
    let Some(python) = support::python_with("chdb") else {
        return;
    };
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    let (report, _) = of_tree(&[], &log);
    let last_seal = report["logs"][0]["last_seal"].as_str().expect("it has one");
    let hosts = json!({"hosts": [
        {"name": "may", "tree": "log"},
        {"name": "not yet", "tree": "log", "silent_after_s": 36_000},
        {"name": "silent", "tree": "log", "silent_after_s": 0},
        {"name": "unanswered", "tree": "nothing", "silent_after_s": 36_000},
    ]});
    let fleet = scratch.join("fleet.json");
    fs::write(&fleet, hosts.to_string()).expect("it can be written");
    let mut command = tool();
    command.args(["digests", "--fleet"]).arg(&fleet);
    let digests = command.output().expect("it starts");
    assert_eq!(digests.status.code(), Some(3), "one can't be read");
    fs::write(scratch.join("sealed"), digests.stdout).expect("there's room");
    let silent = "SELECT host, last_seal FROM audit_silent FORMAT TSV";
    let found = "SELECT host, what FROM audit_found WHERE what != 'missing' FORMAT TSV";
    let said = asked_in_clickhouse(python, &scratch, &[silent, found]);
    let silent = format!("silent\t{last_seal}");
    assert_eq!(said, [&silent, "unanswered\t", "unanswered\tno answer"]);
}

#[test]
fn what_a_log_has_recorded_is_told_beside_its_lines() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, LINES);
    // Its last lines are lost, and it goes on.
    let day = &day_files(&log)[0];
    let lines = lines_of(&log);
    let kept: String = lines[..LINES - 2]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(day, kept).expect("there's room");
    let logger = Logger::new(&json!({
        "output_path": log, "integrity": {"guard_file": scratch.join("guard")},
    }));
    logger.log(&record()).expect(audit_logger::ffi::AUDIT_OK);
    logger.close(-1);
    let more = lines_of(&log).pop().expect("there is one");
    let all: Vec<String> = lines.into_iter().chain([more]).collect();
    // The far end has what the host has lost.
    let (report, code) = of_tree(&all, &log);
    assert_eq!((counts(&report), code), ([0, 0, 0, 0], 0), "{report}");
    assert_eq!(report["logs"][0]["gaps"], 1, "{report}");
    let mut command = tool();
    let printed = support::run(command.arg("digests").arg(&log));
    let said: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("\t\t0"))
        .collect();
    assert_eq!(said.len(), 2, "{printed}");
    assert_eq!(
        said[0],
        "\t\t0\t\trecorded: 1 times sealed bytes were missing"
    );
    let mut command = tool();
    command.args(["verify", "--lines", "/dev/null", "--tree"]);
    let output = command.arg(&log).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("  recorded: 1 times sealed bytes were missing\n"),
        "{text}"
    );
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
    let (report, _) = of_tree(&[], &log);
    let last_seal = report["logs"][0]["last_seal"].as_str().expect("it has one");
    let mut wanted: String = lines_of(&log)
        .iter()
        .zip(1..)
        .map(|(line, number)| {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(line);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\t{file}\t{number}\t{digest}\t\n")
        })
        .collect();
    wanted += &format!("\t\t0\t\tsealed: {last_seal}\n");
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
