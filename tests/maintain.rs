//! Days that are over are compressed and removed, on request, and nothing else is: beside writers,
//! readers and calls that are open, by a clock that is wrong, killed at any instant.

mod support;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::ptr;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Days, Utc};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, record, verified};
use support::pace::{Stopwatch, quickly, until};
use support::worker::{Bench, FOREVER, Work};
use support::{Clock, Scratch, available, compile, release, root, run, tool};

/// The function, as a C host calls it.
fn maintain(path: Option<&Path>, options: Option<&str>, cancel: *mut AuditCancel) -> Answer {
    let text = |text: &str| CString::new(text).expect("no NUL");
    let path = path.map(|path| text(path.to_str().expect("UTF-8")));
    let options = options.map(text);
    let pointer = |text: &Option<CString>| text.as_deref().map_or(ptr::null(), CStr::as_ptr);
    let mut reply = ptr::null_mut();
    let (path, options) = (pointer(&path), pointer(&options));
    let status = unsafe { audit_logger_maintain(path, options, cancel, &raw mut reply) };
    Answer { status, reply }
}

fn report(answer: &Answer) -> Value {
    let json = answer.text(AUDIT_REPLY_JSON).expect("there's a report");
    serde_json::from_str(json).expect("it's JSON")
}

/// What it does by these options, and that it succeeds.
#[track_caller]
fn maintained(log: &Path, options: &Value) -> Value {
    let options = options.to_string();
    report(&maintain(Some(log), Some(&options), ptr::null_mut()).expect(AUDIT_OK))
}

/// The example's program.
fn program(scratch: &Scratch) -> PathBuf {
    let program = scratch.join("maintain");
    if !program.exists() {
        compile(
            &root().join("examples/maintain.c"),
            release(),
            &program,
            &[],
        );
    }
    program
}

/// The date so many days ago.
fn date(days_ago: u64) -> String {
    let now = DateTime::<Utc>::from(SystemTime::now());
    (now.date_naive() - Days::new(days_ago)).to_string()
}

/// The name of a file of the day so many days ago.
fn name(days_ago: u64, number: u32) -> String {
    match number {
        0 => format!("audit_{}.jsonl", date(days_ago)),
        number => format!("audit_{}.{number}.jsonl", date(days_ago)),
    }
}

/// Writes a file of an earlier day, and returns its bytes.
fn write(log: &Path, name: &str, lines: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..lines {
        let id = uuid::Uuid::new_v4();
        writeln!(bytes, r#"{{"id":"{id}","user_id":"é\u2028","n":{number}}}"#).expect("memory");
    }
    let path = log.join(name);
    std::fs::write(&path, &bytes).expect("it can be written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("we own it");
    bytes
}

/// A log with today's entry in it.
fn a_log(scratch: &Scratch) -> PathBuf {
    let log = scratch.join("log");
    let logger = Logger::new(&json!({"output_path": log}));
    logger.log(&record()).expect(AUDIT_OK);
    log
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    MultiGzDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap_or_else(|error| panic!("{path:?}: {error}"));
    bytes
}

fn pack(path: &Path, bytes: &[u8]) {
    let file = File::create(path).expect("it can be made");
    let mut to = GzEncoder::new(file, Compression::fast());
    to.write_all(bytes).expect("there's room");
    to.finish().expect("there's room");
}

/// The names of the log's files, in order, and what they hold.
fn files(log: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = std::fs::read_dir(log).expect("it's there");
    let names = items.map(|item| item.expect("readable").file_name());
    names
        .map(|name| name.into_string().expect("UTF-8"))
        .filter(|name| name.starts_with("audit_"))
        .map(|name| {
            let path = log.join(&name);
            let bytes = match name.ends_with(".gz") {
                true => unpacked(&path),
                false => std::fs::read(&path).expect("readable"),
            };
            (name, bytes)
        })
        .collect()
}

/// Every entry's id, by the files that it's in.
fn ids(log: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, bytes) in files(log) {
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'), "{name} is torn");
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let entry: Value = serde_json::from_str(line).expect("JSON");
            let id = entry["id"].as_str().expect("a text").to_owned();
            found.entry(id).or_default().push(name.clone());
        }
    }
    found
}

/// Files that a run should have taken along.
fn leftovers(log: &Path) -> Vec<String> {
    let items = std::fs::read_dir(log.join(".state")).expect("it's there");
    let names = items.map(|item| item.expect("readable").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
    names.retain(|name| name.starts_with("new-"));
    names
}

/// A program that does what it's told: see tests/c/holds.c.
struct Host {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Host {
    fn start(scratch: &Scratch, clock: &Clock, log: &Path) -> Host {
        let program = scratch.join("holds");
        if !program.exists() {
            compile(&root().join("tests/c/holds.c"), release(), &program, &[]);
        }
        let mut command = Command::new(program);
        command.arg(log).env_remove("LD_LIBRARY_PATH");
        let mut child = clock
            .on(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let from = BufReader::new(from.expect("it's piped"));
        Host { child, to, from }
    }

    /// The id of the entry.
    fn does(&mut self, letter: &str) -> String {
        let mut to = self.to.as_ref().expect("it isn't ended");
        to.write_all(letter.as_bytes()).expect("it reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("it answers");
        assert_eq!(line.len(), 37, "{line}");
        line.trim().to_owned()
    }

    fn end(mut self) {
        drop(self.to.take());
        assert!(self.child.wait().expect("it can be waited for").success());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Noon of the day so many days ago, as a clock is set.
fn noon(days_ago: u64) -> String {
    format!("{} 12:00:00", date(days_ago))
}

#[track_caller]
fn skipped<'r>(report: &'r Value, file: &str) -> &'r str {
    let skipped = report["skipped"].as_array().expect("an array");
    let found = skipped.iter().find(|item| item["file"] == file);
    let found = found.unwrap_or_else(|| panic!("{file} isn't skipped: {report}"));
    found["reason"].as_str().expect("a text")
}

// ---------------------------------------------------------------- compressing

#[test]
fn only_days_that_are_over_are_compressed_and_their_bytes_stay_the_same() {
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    let mut before = files(&log);
    for (days_ago, number) in [(1, 0), (2, 0), (3, 0), (3, 1), (400, 0)] {
        let name = name(days_ago, number);
        before.insert(name.clone(), write(&log, &name, 2000));
    }
    // One of a clock that was ahead.
    let ahead = "audit_2999-01-01.jsonl".to_owned();
    before.insert(ahead.clone(), write(&log, &ahead, 1));
    let mut reader = File::open(log.join(name(3, 0))).expect("it's there");

    let report = maintained(&log, &json!({"compress_after_days": 1}));
    let over = [name(400, 0), name(3, 0), name(3, 1), name(2, 0)];
    let mut compressed = report["compressed"].as_array().expect("an array").clone();
    compressed.sort_by_key(|name| over.iter().position(|over| name == over));
    assert_eq!(compressed, over);
    let mut after = files(&log);
    for name in over {
        let packed = format!("{name}.gz");
        let bytes = after.remove(&packed).expect("it's compressed");
        assert!(after.insert(name, bytes).is_none(), "both are there");
        let metadata = log.join(&packed).metadata().expect("it's there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(metadata.len() < 60_000);
    }
    assert_eq!(after, before);
    assert!(leftovers(&log).is_empty());
    let mut read = Vec::new();
    reader.read_to_end(&mut read).expect("it stays readable");
    assert_eq!(read, before[&name(3, 0)]);
    let again = maintained(&log, &json!({"compress_after_days": 1}));
    assert_eq!(again["compressed"], json!([]));
}

#[test]
fn without_options_nothing_is_compressed_or_removed() {
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    write(&log, &name(400, 0), 10);
    let before = files(&log);
    let answer = maintain(Some(&log), None, ptr::null_mut()).expect(AUDIT_OK);
    let report = report(&answer);
    assert_eq!(report["path"], json!(log.canonicalize().expect("there")));
    for done in ["marked", "deleted", "compressed", "skipped"] {
        assert_eq!(report[done], json!([]), "{done}");
    }
    assert_eq!(files(&log), before);
}

#[test]
fn a_group_that_may_read_the_log_may_read_what_is_compressed() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let group = std::os::unix::fs::MetadataExt::gid(&scratch.path().metadata().expect("there"));
    let logger = Logger::new(&json!({"output_path": log, "access": {"group": group}}));
    logger.log(&record()).expect(AUDIT_OK);
    write(&log, &name(3, 0), 10);
    maintained(&log, &json!({"compress_after_days": 1}));
    for name in [name(0, 0), format!("{}.gz", name(3, 0))] {
        let mode = log.join(&name).metadata().expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o640, "{name}");
    }
}

#[test]
fn a_compressed_file_is_never_replaced() {
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    let packed = |days_ago| log.join(format!("{}.gz", name(days_ago, 0)));
    // Killed before the plain file was removed.
    let same = write(&log, &name(3, 0), 100);
    pack(&packed(3), &same);
    // Somebody's own.
    let mine = write(&log, &name(4, 0), 100);
    pack(&packed(4), b"another's\n");
    // Made by a process that saw the compressed one too late.
    write(&log, &name(5, 0), 0);
    pack(&packed(5), &same);
    let before = std::fs::read(packed(4)).expect("there");

    let report = maintained(&log, &json!({"compress_after_days": 1}));
    let reason = skipped(&report, &name(4, 0));
    assert!(reason.contains("holds something else"), "{reason}");
    let after = files(&log);
    assert_eq!(std::fs::read(packed(4)).expect("there"), before);
    assert_eq!(after[&name(4, 0)], mine);
    assert!(!after.contains_key(&name(3, 0)) && !after.contains_key(&name(5, 0)));
    assert_eq!(unpacked(&packed(3)), same);
    assert_eq!(unpacked(&packed(5)), same);

    // A damaged one.
    let whole = write(&log, &name(6, 0), 100);
    std::fs::write(packed(6), b"\x1f\x8b\x08").expect("it can be written");
    let options = Some(r#"{"compress_after_days": 1}"#);
    let answer = maintain(Some(&log), options, ptr::null_mut()).expect(AUDIT_E_LOG);
    assert!(
        answer.message().contains(&name(6, 0)),
        "{}",
        answer.message()
    );
    let plain = std::fs::read(log.join(name(6, 0))).expect("it's there");
    assert_eq!(plain, whole);
}

#[test]
fn a_line_that_comes_late_goes_to_a_file_with_a_name_of_its_own() {
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    let Some(clock) = Clock::new(&scratch, &noon(5)) else {
        return;
    };
    write(&log, &name(5, 0), 10);
    maintained(&log, &json!({"compress_after_days": 1}));
    for number in 1..3 {
        let mut host = Host::start(&scratch, &clock, &log);
        let id = host.does("l");
        host.end();
        assert_eq!(ids(&log)[&id], [name(5, number)]);
        let report = maintained(&log, &json!({"compress_after_days": 1}));
        assert_eq!(report["compressed"], json!([name(5, number)]));
        assert_eq!(ids(&log)[&id], [format!("{}.gz", name(5, number))]);
    }
}

#[test]
fn a_writer_whose_file_somebody_compressed_writes_no_line_twice() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = Logger::new(&json!({"output_path": log}));
    let first = logger.log(&record()).expect(AUDIT_OK);
    let today = name(0, 0);
    let bytes = std::fs::read(log.join(&today)).expect("it's there");
    pack(&log.join(format!("{today}.gz")), &bytes);
    std::fs::remove_file(log.join(&today)).expect("it can be removed");
    // It notices within a second.
    std::thread::sleep(Duration::from_millis(1100));
    let second = logger.log(&record()).expect(AUDIT_OK);
    drop(logger);
    let id = |answer: &Answer| {
        answer
            .text(AUDIT_REPLY_ENTRY_ID)
            .expect("it's there")
            .to_owned()
    };
    let expected = [
        (id(&first), vec![format!("{today}.gz")]),
        (id(&second), vec![name(0, 1)]),
    ];
    assert_eq!(ids(&log), BTreeMap::from(expected));
}

// ---------------------------------------------------------------- removing

/// Runs the example's program at a time.
fn at(clock: &Clock, time: &str, program: &Path, log: &Path, options: &Value) -> Value {
    clock.set(time);
    let mut command = Command::new(program);
    let printed = run(clock.on(command.arg(log).arg(options.to_string())));
    serde_json::from_str(&printed).expect("it prints JSON")
}

#[test]
fn an_expired_day_is_removed_by_a_run_a_day_after_it_was_marked() {
    let scratch = Scratch::new();
    let Some(clock) = Clock::new(&scratch, "2026-06-30 12:00:00") else {
        return;
    };
    let log = a_log(&scratch);
    let program = program(&scratch);
    for file in [
        "audit_2026-05-30.jsonl",
        "audit_2026-05-31.jsonl",
        "audit_2026-05-31.1.jsonl",
    ] {
        write(&log, file, 3);
    }
    pack(&log.join("audit_2026-05-29.jsonl.gz"), b"{}\n");
    let at = |time: &str| {
        let options = json!({"retention_days": 30, "below_floor": true});
        at(&clock, time, &program, &log, &options)
    };
    let days = |report: &Value| -> Vec<String> {
        let marked = report["marked"].as_array().expect("an array");
        let days = marked.iter().map(|mark| mark["day"].as_str());
        days.map(|day| day.expect("a text").to_owned()).collect()
    };
    // 30 days after it was over, at midnight.
    let report = at("2026-06-29 23:50:00");
    assert_eq!(days(&report), ["2026-05-29"]);
    let report = at("2026-06-30 00:00:00");
    assert_eq!(days(&report), ["2026-05-29", "2026-05-30"]);
    let report = at("2026-06-30 23:40:00");
    assert_eq!(report["deleted"], json!([]));
    let report = at("2026-06-30 23:59:55");
    assert_eq!(report["deleted"], json!(["audit_2026-05-29.jsonl.gz"]));
    let report = at("2026-07-01 00:30:00");
    assert_eq!(report["deleted"], json!(["audit_2026-05-30.jsonl"]));
    assert_eq!(days(&report), ["2026-05-31"]);
    // One that isn't expired any more loses its mark.
    let options = json!({"retention_days": 60, "below_floor": true});
    let report = self::at(&clock, "2026-07-03 00:00:00", &program, &log, &options);
    assert_eq!(days(&report), Vec::<String>::new());
    let report = at("2026-07-03 00:01:00");
    assert_eq!(report["deleted"], json!([]));
    let report = at("2026-07-04 00:02:00");
    assert_eq!(
        report["deleted"],
        json!(["audit_2026-05-31.jsonl", "audit_2026-05-31.1.jsonl"])
    );
    assert_eq!(files(&log).into_keys().collect::<Vec<_>>(), [name(0, 0)]);
}

#[test]
fn one_wrong_clock_removes_nothing() {
    let scratch = Scratch::new();
    let Some(clock) = Clock::new(&scratch, "2026-06-30 12:00:00") else {
        return;
    };
    let log = a_log(&scratch);
    let program = program(&scratch);
    for file in ["audit_2026-05-01.jsonl", "audit_2026-06-29.jsonl"] {
        write(&log, file, 3);
    }
    let at = |time: &str| {
        let options = json!({"retention_days": 30, "below_floor": true});
        let report = at(&clock, time, &program, &log, &options);
        report["deleted"].clone()
    };
    // Ahead when it marks: what has expired all the same is marked anew.
    assert_eq!(at("2036-06-30 12:00:00"), json!([]));
    assert_eq!(at("2026-07-01 12:00:00"), json!([]));
    assert_eq!(at("2026-07-02 13:00:00"), json!(["audit_2026-05-01.jsonl"]));
    // Right when it marks, and ahead when it removes: only what was marked by the right one.
    write(&log, "audit_2026-05-02.jsonl", 3);
    assert_eq!(at("2026-07-02 14:00:00"), json!([]));
    assert_eq!(at("2036-07-02 12:00:00"), json!(["audit_2026-05-02.jsonl"]));
    assert_eq!(at("2026-07-03 12:00:00"), json!([]));
    // Before everything.
    assert_eq!(at("1970-01-01 00:00:00"), json!([]));
    assert_eq!(at("2026-07-05 12:00:00"), json!([]));
    assert!(log.join("audit_2026-06-29.jsonl").exists());
}

// ---------------------------------------------------------------- beside others

#[test]
fn a_day_that_a_living_process_needs_is_left_and_follows_later() {
    let scratch = Scratch::new();
    let Some(clock) = Clock::new(&scratch, &noon(10)) else {
        return;
    };
    let log = a_log(&scratch);
    let mut host = Host::start(&scratch, &clock, &log);
    let logged = host.does("l");
    let begun = host.does("b");
    let options = json!({"compress_after_days": 1, "retention_days": 5, "below_floor": true});
    mark(&log, 10);

    // Its clock is wrong.
    let report = maintained(&log, &options);
    assert!(skipped(&report, &name(10, 0)).contains("appends to that day"));
    // Its clock is right again, and its call still open.
    clock.set(&noon(0));
    until("the day is let go", || {
        let report = maintained(&log, &options);
        skipped(&report, &name(10, 0)).contains("a call that began on that day")
    });
    assert_eq!(host.does("f"), begun);
    assert_eq!(ids(&log)[&begun], [name(0, 0)]);
    // The process still lives.
    let report = maintained(&log, &json!({"compress_after_days": 1}));
    assert_eq!(report["compressed"], json!([name(10, 0)]));
    // Long enough for it to notice.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(ids(&log)[&logged], [format!("{}.gz", name(10, 0))]);
    let report = maintained(&log, &options);
    assert_eq!(report["deleted"], json!([format!("{}.gz", name(10, 0))]));
    std::thread::sleep(Duration::from_secs(6));
    host.end();
    let left = ids(&log);
    assert!(left.contains_key(&begun) && !left.contains_key(&logged));
    assert_eq!(left.len(), 2, "{left:?}");
}

/// Marks a day as an earlier run did, two days ago.
fn mark(log: &Path, days_ago: u64) {
    let mark = json!({"day": date(days_ago), "since": format!("{}T00:00:00.000000Z", date(2))});
    std::fs::write(log.join(".state/expired"), format!("{mark}\n")).expect("it can be written");
}

#[test]
fn writers_and_runs_at_once_harm_no_entry() {
    let bench = Bench::new(json!({}));
    let workers: Vec<_> = (0..2)
        .map(|number| bench.start(&format!("p{number}"), FOREVER))
        .collect();
    while support::day_files(&bench.log).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut old = Vec::new();
    for days_ago in 2..12 {
        let file = name(days_ago, 0);
        old.push((format!("{file}.gz"), write(&bench.log, &file, 4000)));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let options = Some(r#"{"compress_after_days": 1}"#);
                    maintain(Some(&bench.log), options, ptr::null_mut()).expect(AUDIT_OK);
                });
            }
        });
    }
    drop(workers);
    bench.check();
    let after = files(&bench.log);
    for (name, bytes) in old {
        assert!(after.get(&name) == Some(&bytes), "{name}");
    }
    assert!(leftovers(&bench.log).is_empty());
}

/// Has a run wait for a lock that is held too long, and for one that is given back.
fn waits_for(name: &str) {
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    let lock = File::open(log.join(name)).expect("it's there");
    lock.lock().expect("it's free");
    let (since, watch) = (Instant::now(), Stopwatch::start());
    let answer = maintain(Some(&log), None, ptr::null_mut()).expect(AUDIT_E_LOG);
    let waited = (since.elapsed(), watch.elapsed());
    assert!(
        waited.0 > Duration::from_secs(9) && waited.1 < Duration::from_secs(15),
        "{waited:?}"
    );
    let holder = format!("process {} holds {name}: wait", std::process::id());
    assert!(answer.message().contains(&holder), "{}", answer.message());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            maintain(Some(&log), None, ptr::null_mut()).expect(AUDIT_OK);
        });
        std::thread::sleep(Duration::from_millis(300));
        lock.unlock().expect("it's held");
        waits.join().expect("it gets its turn");
    });
}

#[test]
fn a_run_waits_for_each_lock_and_says_who_holds_it() {
    std::thread::scope(|scope| {
        for name in [".state/lock", ".state/seal"] {
            scope.spawn(move || waits_for(name));
        }
    });
}

#[test]
fn a_run_that_is_cancelled_ends_soon_and_leaves_every_file_whole() {
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    let line = [&b"{\"fill\":\""[..], &[b'x'; 4000], b"\"}\n"].concat();
    let bytes = line.repeat(100_000);
    std::fs::write(log.join(name(3, 0)), &bytes).expect("there's room");
    let options = Some(r#"{"compress_after_days": 1}"#);
    quickly("the end of a run", Duration::from_millis(500), || {
        let mut cancel = ptr::null_mut();
        assert_eq!(unsafe { audit_cancel_new(&raw mut cancel) }, AUDIT_OK);
        let handle = cancel.addr();
        let (answer, took) = std::thread::scope(|scope| {
            let trigger = scope.spawn(|| {
                until("it compresses", || !leftovers(&log).is_empty());
                let triggered = Stopwatch::start();
                audit_cancel_trigger(ptr::without_provenance_mut(handle));
                triggered
            });
            let answer = maintain(Some(&log), options, cancel).expect(AUDIT_E_CANCELLED);
            (answer, trigger.join().expect("it doesn't panic").elapsed())
        });
        assert_eq!(report(&answer)["compressed"], json!([]));
        assert!(!log.join(format!("{}.gz", name(3, 0))).exists());
        assert!(leftovers(&log).is_empty());
        audit_cancel_free(cancel);
        maintain(Some(&log), options, cancel).expect(AUDIT_E_HANDLE);
        took
    });
}

// ---------------------------------------------------------------- mistakes

#[test]
fn a_directory_that_holds_no_log_is_left_as_it_is() {
    let scratch = Scratch::new();
    let options = Some(r#"{"retention_days": 1, "below_floor": true}"#);
    let missing = scratch.join("missing");
    let answer = maintain(Some(&missing), options, ptr::null_mut()).expect(AUDIT_E_LOG);
    assert!(
        answer.message().contains("holds no log"),
        "{}",
        answer.message()
    );
    assert!(!missing.exists());
    let other = scratch.join("other");
    std::fs::create_dir(&other).expect("it can be made");
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o777)).expect("we own it");
    write(&other, &name(9, 0), 1);
    maintain(Some(&other), options, ptr::null_mut()).expect(AUDIT_E_LOG);
    let mode = other.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
    assert_eq!(std::fs::read_dir(&other).expect("there").count(), 1);
}

#[test]
fn a_run_goes_on_a_network_file_system_only_where_that_is_allowed() {
    if !available("strace") {
        return;
    }
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    let tool = tool();
    for allowed in [false, true] {
        // What statfs(2) would say of NFS, in its bytes.
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fstatfs", "-e"])
            .arg("inject=fstatfs:poke_exit=@arg2=6969000000000000")
            .arg(tool.get_program())
            .arg("maintain")
            .arg(&log)
            .args(allowed.then_some("--allow-network-filesystem"))
            .output()
            .expect("strace starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), allowed, "{said}");
        assert!(
            allowed || said.contains("network file system (NFS)"),
            "{said}"
        );
    }
}

#[test]
fn a_mistake_in_the_arguments_is_named() {
    let scratch = Scratch::new();
    let log = a_log(&scratch);
    fn refused(path: Option<&Path>, options: Option<&str>, says: &str) {
        let answer = maintain(path, options, ptr::null_mut()).expect(AUDIT_E_ARGUMENT);
        assert!(answer.message().contains(says), "{}", answer.message());
        assert_eq!(answer.text(AUDIT_REPLY_JSON), None);
    }
    refused(None, None, "path is absent");
    let key = "\"retention_days\" must be an integer from 1 to 36500";
    for value in ["0", "-1", "1.5", "36501", "\"30\"", "null", "true", "1e1"] {
        let options = format!("{{\"retention_days\": {value}}}");
        refused(Some(&log), Some(&options), key);
    }
    for (options, says) in [
        (r#"{"keep": 1}"#, "\"keep\" is not a known key; there are"),
        (
            r#"{"retention_days": 1, "retention_days": 2}"#,
            "retention_days",
        ),
        ("[]", "options"),
        ("", "options"),
        (
            r#"{"retention_days": 182}"#,
            "\"retention_days\" is 182, and six months (183 days)",
        ),
        (r#"{"below_floor": 1}"#, "\"below_floor\""),
        (
            r#"{"compress_after_days": 0}"#,
            "\"compress_after_days\" must be",
        ),
    ] {
        refused(Some(&log), Some(options), says);
    }
}

// ---------------------------------------------------------------- killed, failing

/// A log for a run that does everything there is: it finds what killed processes left, removes a day,
/// marks one, compresses others, and completes what a killed run began.
struct Stage {
    bench: Bench,
    /// The ids of the entries that must be there afterwards, each once.
    kept: Vec<String>,
}

/// In the report of a run that left nothing.
const DONE: &str = r#""skipped":[]"#;

const OPTIONS: &str = r#"{"retention_days": 30, "below_floor": true, "compress_after_days": 1}"#;

impl Stage {
    fn set() -> Option<Stage> {
        if !available("strace") {
            return None;
        }
        let bench = Bench::new(json!({"integrity": false}));
        let clock = Clock::new(&bench.scratch, &noon(12))?;
        // Killed between its entry and the end of its intent, long ago; which of its writes that is
        // depends on when its thread begins.
        let work = Work {
            doings: "b",
            times: 1,
            threads: 1,
            longest: 100,
            expected: "AUDIT_OK",
        };
        let mut nth = 7;
        loop {
            let mut worker =
                bench.injected("pwrite64", &format!("signal=SIGKILL:when={nth}"), work);
            let ended = clock.on(&mut worker).status().expect("strace starts");
            assert!(!ended.success(), "it isn't killed");
            let day = std::fs::read(bench.log.join(name(12, 0))).unwrap_or_default();
            if !day.is_empty() {
                break;
            }
            std::fs::remove_dir_all(&bench.log).expect("it can be removed");
            std::fs::remove_file(bench.scratch.join("said")).expect("it's there");
            nth = if nth == 7 { 8 } else { 7 };
        }
        // Killed before its entry; in a log of its own, for it would look after the other.
        let other = Bench::new(json!({"integrity": false}));
        let mut worker = other.injected(
            "sendto",
            "signal=SIGKILL:when=1",
            Work {
                doings: "c",
                ..work
            },
        );
        assert!(!worker.status().expect("strace starts").success());
        run(Command::new("cp")
            .args(["-a", "-n"])
            .arg(other.log.join("."))
            .arg(&bench.log));
        for (days_ago, number) in [(40, 0), (40, 1), (35, 0), (8, 0), (8, 1), (1, 0)] {
            write(&bench.log, &name(days_ago, number), 20);
        }
        let half = write(&bench.log, &name(6, 0), 20);
        let kept = ids(&bench.log)
            .into_iter()
            .filter(|(_, files)| !files[0].contains(&date(40)))
            .map(|(id, _)| id)
            .collect();
        pack(&bench.log.join(format!("{}.gz", name(6, 0))), &half);
        mark(&bench.log, 40);
        program(&bench.scratch);
        Some(Stage { bench, kept })
    }

    /// A copy of the log, to run on.
    fn copy(&self) -> Scratch {
        let scratch = Scratch::new();
        run(Command::new("cp")
            .arg("-a")
            .arg(&self.bench.log)
            .arg(scratch.join("log")));
        scratch
    }

    fn run(&self, scratch: &Scratch, fault: Option<(&str, &str)>) -> Output {
        let program = program(&self.bench.scratch);
        let mut command = match fault {
            None => Command::new(program),
            Some((calls, fault)) => {
                let mut strace = Command::new("strace");
                let inject = format!("inject={calls}:{fault}");
                strace.args(["-f", "-qq", "-o"]).arg(scratch.join("trace"));
                strace.args(["-e", &format!("trace={calls}"), "-e", &inject]);
                strace.arg(program);
                strace
            }
        };
        command.arg(scratch.join("log")).arg(OPTIONS);
        let output = command.env_remove("LD_LIBRARY_PATH").output();
        output.expect("it starts")
    }

    /// Whether the log is as a whole run leaves it. `folded`: after a refused sync an entry may stand
    /// in two files of its day.
    fn check(&self, scratch: &Scratch, folded: bool, after: &str) {
        let log = scratch.join("log");
        let ids = ids(&log);
        for id in &self.kept {
            assert!(ids.contains_key(id), "{after}: {id} is lost");
        }
        // One entry more: that of the call that was killed.
        assert_eq!(ids.len(), self.kept.len() + 1, "{after}");
        for (id, files) in &ids {
            assert!(folded || files.len() == 1, "{after}: {id} is in {files:?}");
        }
        let names: Vec<String> = files(&log).into_keys().collect();
        for days_ago in [35, 12, 8, 6] {
            let plain = name(days_ago, 0);
            assert!(names.contains(&format!("{plain}.gz")), "{after}: {names:?}");
            assert!(!names.contains(&plain), "{after}: {names:?}");
        }
        assert!(names.contains(&name(1, 0)), "{after}: {names:?}");
        assert!(
            !names.iter().any(|name| name.contains(&date(40))),
            "{after}"
        );
        let marks = std::fs::read_to_string(log.join(".state/expired")).expect("it's there");
        assert!(
            marks.contains(&date(35)) && marks.lines().count() == 1,
            "{after}: {marks}"
        );
    }
}

#[test]
fn a_call_whose_entry_is_in_a_compressed_file_isn_t_entered_again() {
    let Some(stage) = Stage::set() else {
        return;
    };
    // Before anybody has looked after the process that was killed.
    let (log, plain) = (&stage.bench.log, stage.bench.log.join(name(12, 0)));
    let bytes = std::fs::read(&plain).expect("it's there");
    pack(&log.join(format!("{}.gz", name(12, 0))), &bytes);
    std::fs::remove_file(&plain).expect("it can be removed");
    stage.bench.open();
    for (id, files) in ids(log) {
        let copy = files.iter().any(|file| file.contains(&date(6)));
        assert_eq!(files.len(), 1 + usize::from(copy), "{id} is in {files:?}");
    }
}

/// What changes anything, and what it's done by.
const CALLS: [&str; 8] = [
    "openat",
    "write",
    "pwrite64",
    "linkat",
    "unlinkat",
    "rename,renameat,renameat2",
    "fsync,fdatasync",
    "fchmod,fchown,mkdirat,flock",
];

#[test]
fn a_run_killed_at_any_system_call_is_completed_by_the_next() {
    let Some(stage) = Stage::set() else {
        return;
    };
    let mut kills = 0;
    for calls in CALLS {
        for nth in 1.. {
            let scratch = stage.copy();
            let fault = format!("signal=SIGKILL:when={nth}");
            let ended = stage.run(&scratch, Some((calls, &fault)));
            if !ended.status.success() {
                let next = stage.run(&scratch, None);
                assert!(next.status.success(), "{calls} {nth}: {next:?}");
            }
            stage.check(&scratch, false, &format!("killed at {calls} {nth}"));
            if ended.status.success() {
                break;
            }
            kills += 1;
            assert!(nth < 400, "{calls}: a run makes fewer of them");
        }
    }
    println!("{kills} kills, each at another system call");
    assert!(kills > 100, "{kills}");
}

#[test]
fn a_run_in_which_a_system_call_fails_is_completed_by_the_next() {
    let Some(stage) = Stage::set() else {
        return;
    };
    let mut faults = 0;
    for calls in CALLS {
        for error in ["EIO", "ENOSPC"] {
            for nth in 1.. {
                let scratch = stage.copy();
                let fault = format!("error={error}:when={nth}");
                let ended = stage.run(&scratch, Some((calls, &fault)));
                let trace = std::fs::read_to_string(scratch.join("trace")).expect("it's there");
                if !trace.contains("(INJECTED)") {
                    break;
                }
                let after = format!("{calls} {nth} failed with {error}");
                match ended.status.code() {
                    // The dynamic linker was hit, not the library.
                    Some(127) => continue,
                    // It's said to be done, so it is.
                    Some(0) if String::from_utf8_lossy(&ended.stdout).contains(DONE) => {}
                    Some(0 | 1) => {
                        let next = stage.run(&scratch, None);
                        assert!(next.status.success(), "{after}: {next:?}");
                    }
                    _ => panic!("{after}: the host was ended: {ended:?}"),
                }
                // Or if it can't be read which files were refused.
                let of = trace.lines().find(|line| line.contains("(INJECTED)"));
                let unsure =
                    of.is_some_and(|line| line.contains("sync(") || line.contains("\"refused\""));
                stage.check(&scratch, unsure, &after);
                faults += 1;
                assert!(nth < 400, "{calls}: a run makes fewer of them");
            }
        }
    }
    println!("{faults} faults");
}

// ---------------------------------------------------------------- a sealed log

/// The options of a run that removes and compresses.
fn options() -> Value {
    serde_json::from_str(OPTIONS).expect("it's JSON")
}

/// A log whose old days are sealed, one of them marked for removal long enough ago.
fn a_sealed_log(scratch: &Scratch, integrity: &Value) -> PathBuf {
    let log = scratch.join("log");
    std::fs::create_dir(&log).expect("it can be made");
    for (days_ago, number) in [(40, 0), (40, 1), (35, 0), (8, 0), (1, 0)] {
        write(&log, &name(days_ago, number), 20);
    }
    let logger = Logger::new(&json!({"output_path": log, "integrity": integrity}));
    logger.log(&record()).expect(AUDIT_OK);
    logger.flush().expect(AUDIT_OK);
    mark(&log, 40);
    log
}

#[track_caller]
fn intact(log: &Path, options: &Value) -> Value {
    let (status, report) = verified(log, options);
    assert_eq!(status, AUDIT_OK, "{report:#}");
    assert_eq!(report["unsealed_lines"], 0, "{report:#}");
    report
}

#[test]
fn a_sealed_log_verifies_after_days_of_it_were_removed_and_compressed() {
    let scratch = Scratch::new();
    let guard = scratch.join("guard");
    let log = a_sealed_log(&scratch, &json!({"guard_file": guard}));
    // Not sealed yet, and behind its last line another program's that is no JSON.
    let late = log.join(name(8, 1));
    std::fs::write(&late, "{\"id\":\"late\"}\n{\"to\n").expect("it can be written");
    let refused = maintain(Some(&log), Some(OPTIONS), ptr::null_mut()).expect(AUDIT_E_CONFIG);
    assert!(
        refused.message().contains("guard_file"),
        "{}",
        refused.message()
    );
    let mut options = options();
    options["guard_file"] = json!(guard);
    let report = maintained(&log, &options);
    assert_eq!(report["deleted"], json!([name(40, 0), name(40, 1)]));
    let compressed = json!([name(35, 0), name(8, 0), name(8, 1)]);
    assert_eq!(report["compressed"], compressed, "{report:#}");
    let found = intact(&log, &json!({"guard_file": guard}));
    assert_eq!(found["purged"], 2, "{found:#}");
    assert_eq!(found["lines"], 20 + 20 + 1 + 20 + 2);
    let entries = run(Command::new("cat").arg(log.join(".integrity/tile/entries/000")));
    let expired = format!(r#""day":"{}""#, date(35));
    assert!(entries.contains(&expired), "the mark isn't recorded");
    assert!(
        entries.contains(r#""retention_days":30"#),
        "nor what was asked"
    );
    assert_eq!(found["below_floor"], 1, "{found:#}");
    // What is removed without being asked for is found.
    std::fs::remove_file(log.join(format!("{}.gz", name(8, 0)))).expect("it's there");
    assert_eq!(verified(&log, &json!({})).0, AUDIT_E_TAMPERED);
}

#[test]
fn a_run_on_a_sealed_log_needs_the_key_that_it_was_sealed_with() {
    let scratch = Scratch::new();
    let key = scratch.join("key");
    run(support::tool().args(["keygen", "-o"]).arg(&key));
    let log = a_sealed_log(&scratch, &json!({"key_file": key}));
    let before = files(&log);
    let mut options = options();
    let refused = maintain(Some(&log), Some(OPTIONS), ptr::null_mut()).expect(AUDIT_E_CONFIG);
    assert!(
        refused.message().contains("key_file"),
        "{}",
        refused.message()
    );
    assert_eq!(files(&log), before, "nothing is done without it");
    options["key_file"] = json!(key);
    maintained(&log, &options);
    assert_eq!(intact(&log, &json!({}))["purged"], 2);
}

#[test]
fn a_run_on_a_sealed_log_that_is_killed_at_any_step_leaves_one_that_verifies() {
    if !available("strace") {
        return;
    }
    let (scratch, mut kills) = (Scratch::new(), 0);
    let program = program(&scratch);
    let sealed = a_sealed_log(&scratch, &json!({}));
    for calls in [
        "pwrite64,write",
        "unlinkat",
        "linkat,renameat",
        "fdatasync,fsync",
    ] {
        for nth in 1.. {
            let copy = Scratch::new();
            run(Command::new("cp")
                .arg("-a")
                .arg(&sealed)
                .arg(copy.join("log")));
            let ended = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e"])
                .arg(format!("trace={calls}"))
                .arg("-e")
                .arg(format!("inject={calls}:signal=SIGKILL:when={nth}"))
                .arg(&program)
                .arg(copy.join("log"))
                .arg(OPTIONS)
                .env_remove("LD_LIBRARY_PATH")
                .output()
                .expect("strace starts");
            let log = copy.join("log");
            // Whatever it was killed at, a removed day is never a missing one.
            let (status, found) = verified(&log, &json!({}));
            assert_eq!(status, AUDIT_OK, "{calls} {nth}: {found:#}");
            maintained(&log, &options());
            let found = intact(&log, &json!({}));
            assert_eq!(found["lines"], 61, "{calls} {nth}: {found:#}");
            assert!(
                found["purged"].as_u64() >= Some(2),
                "{calls} {nth}: {found:#}"
            );
            let names: Vec<String> = files(&log).into_keys().collect();
            assert!(
                !names.iter().any(|name| name.contains(&date(40))),
                "{names:?}"
            );
            if ended.status.success() {
                break;
            }
            kills += 1;
        }
    }
    println!("{kills} kills, each at another system call");
    assert!(kills > 50, "{kills}");
}
