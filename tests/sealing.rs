//! The log is sealed in time, by whoever writes to it, whatever happens to those who do.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Logger, record, verified};
use support::pace::{Stopwatch, until};
use support::worker::{Bench, FOREVER, Running, Work};
use support::{Scratch, available, day_files, entries, last_file, merged, run};

/// Seals often.
fn quick() -> Value {
    json!({"integrity": {"seal_interval_ms": 20}})
}

fn logger_in(log: &Path, more: &Value) -> Logger {
    Logger::new(&merged(json!({"output_path": log}), more))
}

fn write(logger: &Logger, count: usize) {
    for _ in 0..count {
        logger.log(&record()).expect(AUDIT_OK);
    }
}

/// The report of a log in which nothing is wrong and everything sealed.
#[track_caller]
fn intact(log: &Path, options: &Value) -> Value {
    let (status, report) = verified(log, options);
    assert_eq!(status, AUDIT_OK, "{report:#}");
    assert_eq!(report["intact"], true, "{report:#}");
    assert_eq!(report["unsealed_lines"], 0, "{report:#}");
    report
}

/// The classes of what was found in a log.
#[track_caller]
fn found(log: &Path, options: &Value) -> Vec<String> {
    let (status, report) = verified(log, options);
    assert_eq!(status, AUDIT_E_TAMPERED, "{report:#}");
    let findings = report["findings"].as_array().expect("an array");
    let class = |finding: &Value| finding["class"].as_str().expect("a text").to_owned();
    findings.iter().map(class).collect()
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

// ---------------------------------------------------------------- in time, by whom

#[test]
fn entries_are_sealed_by_themselves_in_the_time_that_is_configured() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger_in(&log, &json!({}));
    write(&logger, 10);
    let began = Stopwatch::start();
    until("nothing was sealed", || {
        verified(&log, &json!({})).1["unsealed_lines"] == 0
    });
    // One second is configured, five pass between the looks at a quiet log.
    assert!(began.elapsed() < Duration::from_millis(4500));
    let report = intact(&log, &json!({}));
    assert_eq!(report["lines"], 10);
    // What was sealed by then is told a moment later.
    until("stats don't tell the tree's size", || {
        logger.stats()["integrity"]["size"] == report["size"]
    });
}

#[test]
fn a_flush_a_close_and_the_last_one_out_seal() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let never = json!({"integrity": {"seal_interval_ms": 3_600_000}});
    let logger = logger_in(&log, &never);
    write(&logger, 3);
    assert_eq!(verified(&log, &json!({})).1["unsealed_lines"], 3);
    logger.flush().expect(AUDIT_OK);
    assert_eq!(intact(&log, &json!({}))["lines"], 3);
    write(&logger, 3);
    logger.close(-1).expect(AUDIT_OK);
    assert_eq!(intact(&log, &json!({}))["lines"], 6);
    drop(logger);
    let logger = logger_in(&log, &never);
    write(&logger, 3);
    drop(logger);
    assert_eq!(intact(&log, &json!({}))["lines"], 9);
}

#[test]
fn a_quiet_log_gives_signs_of_life_and_a_busy_one_none() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger_in(&log, &json!({"integrity": {"heartbeat_s": 1}}));
    write(&logger, 1);
    until("no sign of life", || {
        verified(&log, &json!({})).1["heartbeats"] != 0
    });
    intact(&log, &json!({}));
    drop(logger);
    let other = scratch.join("other");
    let logger = logger_in(&other, &quick());
    for _ in 0..20 {
        write(&logger, 1);
        std::thread::sleep(Duration::from_millis(30));
    }
    drop(logger);
    assert_eq!(intact(&other, &json!({}))["heartbeats"], 0);
}

#[test]
fn what_a_process_writes_that_doesnt_seal_is_sealed_by_one_that_does() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let without = logger_in(&log, &json!({"integrity": false}));
    write(&without, 5);
    let path = std::ffi::CString::new(log.to_str().expect("UTF-8")).expect("no NUL");
    let (none, no_cancel) = (std::ptr::null(), std::ptr::null_mut());
    // SAFETY: the path is a local, the rest may be NULL.
    let status =
        unsafe { audit_logger_verify(path.as_ptr(), none, no_cancel, std::ptr::null_mut()) };
    assert_eq!(status, AUDIT_E_NOT_FOUND);
    let sealing = logger_in(&log, &quick());
    write(&sealing, 5);
    write(&without, 5);
    until("the other's lines aren't sealed", || {
        verified(&log, &json!({})).1["lines"] == 15
    });
    drop((without, sealing));
    intact(&log, &json!({}));
}

#[test]
fn a_log_that_was_never_sealed_is_adopted() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    fs::create_dir(&log).expect("it can be made");
    // Days that the seed wrote, one of them on Windows, and more lines than are sealed at once.
    let line = |day: &str, number: usize| {
        format!(r#"{{"id":"{number}","timestamp":"{day}T10:00:00.000000Z","status":"success"}}"#)
    };
    let mut first = String::new();
    for number in 0..9000 {
        first.push_str(&line("2024-02-29", number));
        first.push('\n');
    }
    fs::write(log.join("audit_2024-02-29.jsonl"), first).expect("it can be written");
    let second = format!(
        "{}\r\n\n{}\r\n",
        line("2024-03-01", 1),
        line("2024-03-01", 2)
    );
    fs::write(log.join("audit_2024-03-01.jsonl"), second).expect("it can be written");
    let logger = logger_in(&log, &quick());
    write(&logger, 1);
    until("the old days aren't sealed", || {
        verified(&log, &json!({})).1["unsealed_lines"] == 0
    });
    drop(logger);
    let report = intact(&log, &json!({}));
    assert_eq!(
        (&report["lines"], &report["files"]),
        (&json!(9003), &json!(3))
    );
    assert!(report["recovered"].as_u64() >= Some(2), "{report:#}");
}

#[test]
fn the_digests_of_torn_lines_are_sealed_in_their_place() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger_in(&log, &quick());
    write(&logger, 3);
    // Another process's, which died in its write.
    let mut torn = OpenOptions::new()
        .append(true)
        .open(last_file(&log))
        .expect("it's there");
    torn.write_all(br#"{"id":"0f8fad5b-"#)
        .expect("it can be written");
    write(&logger, 3);
    until("the torn line isn't sealed", || {
        let report = verified(&log, &json!({})).1;
        report["torn"] == 1 && report["unsealed_lines"] == 0
    });
    drop(logger);
    assert_eq!(intact(&log, &json!({}))["lines"], 6);
    assert_eq!(entries(&log).len(), 6);
}

#[test]
fn a_busy_log_is_sealed_as_often_as_is_configured() {
    let scratch = Scratch::new();
    let logger = logger_in(
        &scratch.join("log"),
        &json!({"integrity": {"seal_interval_ms": 100}}),
    );
    write(&logger, 20);
    // What the disk takes for it is nobody's fault.
    let began = Stopwatch::start();
    logger.flush().expect(AUDIT_OK);
    let once = began.elapsed();
    let (began, mut sizes) = (Stopwatch::start(), BTreeSet::new());
    until("it isn't sealed", || {
        write(&logger, 20);
        sizes.insert(logger.stats()["integrity"]["size"].as_u64());
        sizes.len() > 8
    });
    // The looks at a quiet log alone would take 40 seconds.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20) + 20 * once, "{took:?}");
}

#[test]
fn a_torn_piece_of_any_length_stops_no_sealing_and_is_kept_once() {
    // As a power cut leaves it. What is longer than an entry can be is sealed as it stands.
    for (length, lines, kept) in [(1 << 20, 2, 1 << 20), (3 << 20, 3, 0)] {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let logger = logger_in(&log, &quick());
        write(&logger, 1);
        let mut file = OpenOptions::new()
            .append(true)
            .open(last_file(&log))
            .expect("it's there");
        file.write_all(&vec![0; length]).expect("there's room");
        file.write_all(b"\n").expect("there's room");
        write(&logger, 1);
        until("the line behind it isn't sealed", || {
            let report = verified(&log, &json!({})).1;
            report["lines"] == lines && report["unsealed_lines"] == 0
        });
        logger.flush().expect(AUDIT_OK);
        drop(logger);
        intact(&log, &json!({}));
        let torn = fs::metadata(log.join(".state/torn")).map_or(0, |torn| torn.len());
        assert!((kept..=2 * kept).contains(&torn), "{torn} bytes are kept");
    }
}

#[test]
fn a_note_that_was_cut_anywhere_is_no_forgery() {
    let scratch = Scratch::new();
    let (log, config, options) = sealed(&scratch, 3);
    let heads = log.join(".integrity/heads");
    let note = fs::read(log.join(".integrity/checkpoint")).expect("it's there");
    for end in (1..note.len()).step_by(7) {
        let mut file = OpenOptions::new()
            .append(true)
            .open(&heads)
            .expect("it's there");
        file.write_all(&note[..end]).expect("there's room");
        write(&logger_in(&log, &config), 1);
        intact(&log, &options);
    }
}

#[test]
fn many_seals_leave_few_files_and_short_lists() {
    let scratch = Scratch::new();
    let (log, guard) = (scratch.join("log"), scratch.join("guard"));
    let logger = logger_in(
        &log,
        &json!({"integrity": {"seal_interval_ms": 3_600_000, "guard_file": guard}}),
    );
    for _ in 0..700 {
        write(&logger, 1);
        logger.flush().expect(AUDIT_OK);
    }
    drop(logger);
    let report = intact(&log, &json!({"guard_file": guard}));
    assert_eq!(report["lines"], 700);
    let partial = run(Command::new("find")
        .arg(log.join(".integrity"))
        .args(["-path", "*.p/*"]));
    // Of the entries and two levels, those of the last two checkpoints.
    assert!(partial.lines().count() <= 6, "{partial}");
    let left = run(Command::new("find").arg(&log).args(["-name", "new-*"]));
    assert_eq!(left, "");
    let length = |path: PathBuf| path.metadata().expect("it's there").len();
    assert!(length(guard) < 80 << 10);
    assert!(length(log.join(".integrity/heads")) < 1200 << 10);
}

// ---------------------------------------------------------------- killed, failing, forked

/// Seals after every other entry, with a guard.
const SEALING: Work = Work {
    doings: "lfclf",
    times: 5,
    threads: 1,
    longest: 200,
    expected: "AUDIT_OK",
};

fn guarded(scratch: &Scratch) -> Value {
    json!({"integrity": {"guard_file": scratch.join("guard"), "seal_interval_ms": 3_600_000}})
}

fn guarded_bench() -> (Bench, PathBuf) {
    let scratch = Scratch::new();
    let (config, log, guard) = (
        guarded(&scratch),
        scratch.join("log"),
        scratch.join("guard"),
    );
    (Bench::at(scratch, log, config), guard)
}

/// Each system call that changes something. strace counts each of a list by itself, so only those
/// that are seldom made stand together.
const CALLS: [&str; 8] = [
    "write",
    "pwrite64",
    "openat",
    "fdatasync",
    "fsync",
    "rename,renameat,unlinkat,linkat",
    "mkdirat",
    "flock",
];

#[test]
fn a_kill_at_every_step_of_sealing_is_rolled_forward() {
    if !available("strace") {
        return;
    }
    let mut kills = 0;
    for calls in CALLS {
        for nth in 1.. {
            let (bench, guard) = guarded_bench();
            let ended = bench
                .injected(calls, &format!("signal=SIGKILL:when={nth}"), SEALING)
                .status()
                .expect("strace starts");
            bench.check();
            let report = intact(&bench.log, &json!({"guard_file": guard}));
            assert_eq!(report["rollbacks"], 0, "{calls} {nth}: {report:#}");
            if ended.success() {
                break;
            }
            kills += 1;
            assert!(nth < 600, "{calls}: a worker makes fewer of them");
        }
    }
    println!("{kills} kills, each at another system call");
    assert!(kills > 150, "{kills}");
}

#[test]
fn a_step_of_sealing_that_fails_is_made_up_for() {
    if !available("strace") {
        return;
    }
    let work = Work {
        expected: "any",
        ..SEALING
    };
    let (mut faults, mut distrusted) = (0, 0);
    for (calls, error) in [
        ("write", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("openat", "EMFILE"),
        ("fdatasync", "EIO"),
        ("fsync", "EIO"),
        ("renameat", "EROFS"),
        ("mkdirat,linkat,unlinkat", "EDQUOT"),
        ("flock", "ENOLCK"),
    ] {
        for forever in ["", "+"] {
            for nth in (1..40).step_by(4) {
                let (bench, guard) = guarded_bench();
                let ended = bench
                    .injected(calls, &format!("error={error}:when={nth}{forever}"), work)
                    .output()
                    .expect("strace starts");
                if ended.status.code() == Some(127) {
                    // The dynamic linker was hit, not the library.
                    continue;
                }
                let host = ended.status.code();
                assert!(host.is_some(), "{calls} {error} {nth}{forever}: {ended:?}");
                bench.open();
                let what = format!("{calls} {error} {nth}{forever}");
                let (status, report) = verified(&bench.log, &json!({"guard_file": guard}));
                assert_eq!(status, AUDIT_OK, "{what}: {report:#}");
                // What the disk may not have is sealed by nobody, until the machine has booted.
                let noted = bench.log.join(".state/refused");
                if let Ok(text) = fs::read_to_string(&noted) {
                    distrusted += usize::from(report["unsealed_lines"] != 0);
                    let (boot, _) = text.split_once(' ').expect("a boot and a name");
                    fs::write(&noted, text.replace(boot, "before")).expect("it can be written");
                    bench.open();
                }
                let report = intact(&bench.log, &json!({"guard_file": guard}));
                assert_eq!(report["rollbacks"], 0, "{what}: {report:#}");
                faults += 1;
            }
        }
    }
    println!("{faults} faults injected, {distrusted} of them met a day's file");
    assert!(faults > 100, "{faults}");
    assert!(distrusted > 0, "a file that the disk refused was sealed");
}

#[test]
fn four_processes_that_are_killed_at_random_leave_a_log_that_verifies() {
    let scratch = Scratch::new();
    let guard = scratch.join("guard");
    let config = json!({"integrity": {"guard_file": guard, "seal_interval_ms": 10}});
    let log = scratch.join("log");
    let bench = Bench::at(scratch, log, config);
    let work = Work {
        doings: "lclblf",
        ..FOREVER
    };
    let mut running: Vec<Running> = Vec::new();
    for number in 0..60 {
        while running.len() < 4 {
            running.push(bench.start(&format!("p{number}.{}", running.len()), work));
        }
        std::thread::sleep(Duration::from_millis(15 + number * 7 % 40));
        drop(running.remove(number as usize * 5 % 4));
    }
    drop(running);
    let counts = bench.check();
    // Each that comes and goes seals as much as can be done soon.
    until("not all is sealed", || {
        bench.open();
        verified(&bench.log, &json!({})).1["unsealed_lines"] == 0
    });
    let report = intact(&bench.log, &json!({"guard_file": guard}));
    assert_eq!(report["rollbacks"], 0, "{report:#}");
    assert_eq!(report["lines"].as_u64(), Some(counts.entries as u64));
}

/// Notes, as another process would, that the disk refused to confirm a log's first file.
fn distrust(log: &Path) -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux has it");
    let first = day_files(log).remove(0);
    let name = first.file_name().expect("a name").display();
    let noted = format!("{} {name}\n", boot.trim());
    fs::write(log.join(".state/refused"), noted).expect("it can be written");
    first
}

#[test]
fn what_is_on_the_disk_and_not_sealed_is_written_anew_where_it_will_be() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let rarely = json!({"durability": "disk", "integrity": {"seal_interval_ms": 3_600_000}});
    let logger = logger_in(&log, &rarely);
    write(&logger, 2);
    logger.flush().expect(AUDIT_OK);
    write(&logger, 3);
    let first = distrust(&log);
    for _ in 0..2 {
        logger.flush().expect(AUDIT_OK);
        assert_eq!(day_files(&log).len(), 2);
    }
    let (status, report) = verified(&log, &json!({}));
    assert_eq!(status, AUDIT_OK, "{report:#}");
    assert_eq!(
        (&report["lines"], &report["unsealed_lines"]),
        (&json!(2 + 3), &json!(3)),
        "{report:#}"
    );
    let text = fs::read_to_string(&first).expect("it can be read");
    let last: Vec<&str> = text.lines().skip(2).collect();
    let further = day_files(&log).into_iter().find(|path| *path != first);
    let further = fs::read_to_string(further.expect("a second file")).expect("it can be read");
    assert_eq!(further.lines().collect::<Vec<_>>(), last);
}

#[test]
fn a_kill_after_the_disk_refused_a_file_leaves_no_second_story_of_a_call() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "c",
        times: 2,
        threads: 1,
        longest: 200,
        expected: "AUDIT_OK",
    };
    let (mut kills, mut twins) = (0, 0);
    for nth in 1.. {
        let bench = Bench::new(json!({"durability": "disk"}));
        let ended = bench
            .injected("pwrite64", &format!("signal=SIGKILL:when={nth}"), work)
            .status()
            .expect("strace starts");
        if ended.success() {
            break;
        }
        kills += 1;
        if day_files(&bench.log).is_empty() {
            continue;
        }
        distrust(&bench.log);
        bench.open();
        let mut stories = HashMap::new();
        for entry in entries(&bench.log) {
            let earlier = stories.insert(entry["id"].to_string(), entry.clone());
            twins += usize::from(earlier.is_some());
            assert!(
                earlier.is_none_or(|earlier| earlier == entry),
                "kill {nth}: {entry:#}"
            );
        }
    }
    println!("{kills} kills, {twins} entries written again");
    assert!(twins > 0, "no kill came between an entry and its slot");
}

#[test]
fn what_the_disk_refused_to_one_process_is_written_anew_by_all_to_one_further_file() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let rarely = json!({"integrity": {"seal_interval_ms": 3_600_000}});
    let loggers: Vec<Logger> = (0..3).map(|_| logger_in(&log, &rarely)).collect();
    for logger in &loggers {
        write(logger, 2);
    }
    loggers[0].flush().expect(AUDIT_OK);
    write(&loggers[1], 1);
    let first = distrust(&log);
    write(&loggers[2], 1);
    for logger in &loggers {
        logger.flush().expect(AUDIT_OK);
        write(logger, 1);
        logger.flush().expect(AUDIT_OK);
    }
    for _ in 0..3 {
        write(&logger_in(&log, &rarely), 1);
    }
    assert_eq!(day_files(&log).len(), 2, "they share it");
    let (status, report) = verified(&log, &json!({}));
    assert_eq!((status, &report["intact"]), (AUDIT_OK, &json!(true)));
    // Two of the first file weren't sealed: they are, where they were written anew.
    assert_eq!(report["unsealed_lines"], 2, "{report:#}");
    let further = day_files(&log).into_iter().find(|path| *path != first);
    let first = fs::read_to_string(first).expect("it can be read");
    let further = fs::read_to_string(further.expect("a second file")).expect("it can be read");
    let id =
        |line: &str| line[..r#"{"id":"00000000-0000-0000-0000-000000000000""#.len()].to_owned();
    let ids = |text: &str| text.lines().map(id).collect::<Vec<_>>();
    let (first, further) = (ids(&first), ids(&further));
    assert_eq!(first.len(), 6 + 2);
    assert!(first[6..].iter().all(|id| further.contains(id)));
    let all: BTreeSet<_> = first.iter().chain(&further).collect();
    assert_eq!(all.len(), 6 + 2 + 3 + 3);
}

// ---------------------------------------------------------------- changed behind its back

/// A sealed log of some entries, and its guard.
fn sealed(scratch: &Scratch, count: usize) -> (PathBuf, Value, Value) {
    let (log, guard) = (scratch.join("log"), scratch.join("guard"));
    let config = guarded(scratch);
    write(&logger_in(&log, &config), count);
    (log, config, json!({"guard_file": guard}))
}

#[test]
fn a_line_that_is_changed_before_it_is_sealed_is_recorded() {
    let scratch = Scratch::new();
    let (log, config, options) = sealed(&scratch, 3);
    let logger = logger_in(&log, &config);
    write(&logger, 3);
    let file = last_file(&log);
    let text = fs::read(&file).expect("it's there");
    let at = text
        .windows(6)
        .rposition(|part| part == b"user-1")
        .expect("a user");
    let opened = OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("it's there");
    opened
        .write_all_at(b"user-2", at as u64)
        .expect("it can be written");
    logger.flush().expect(AUDIT_OK);
    let stats = logger.stats();
    assert_eq!(stats["altered"], 1, "{stats:#}");
    let warning = stats["warnings"].to_string();
    assert!(warning.contains("changed by somebody"), "{warning}");
    assert_eq!(found(&log, &options), ["edited"]);
}

#[test]
fn a_file_that_is_cut_short_is_recorded_and_the_log_goes_on() {
    let scratch = Scratch::new();
    let (log, config, options) = sealed(&scratch, 6);
    let file = last_file(&log);
    let length = file.metadata().expect("it's there").len();
    let opened = OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("it's there");
    opened.set_len(length * 2 / 3 - 20).expect("it can be cut");
    let logger = logger_in(&log, &config);
    write(&logger, 6);
    logger.flush().expect(AUDIT_OK);
    let (status, report) = verified(&log, &options);
    assert_eq!(
        (status, &report["gaps"]),
        (AUDIT_E_TAMPERED, &json!(1)),
        "{report:#}"
    );
    assert_eq!(report["unsealed_lines"], 0);
    let classes = found(&log, &options);
    assert!(
        classes.iter().all(|class| class == "deleted"),
        "{classes:?}"
    );
}

#[test]
fn a_file_that_was_moved_away_takes_its_lines_along_and_the_next_one_is_sealed_whole() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger_in(&log, &quick());
    write(&logger, 20);
    logger.flush().expect(AUDIT_OK);
    fs::rename(last_file(&log), scratch.join("moved")).expect("it can be moved");
    // It's looked for once a second.
    std::thread::sleep(Duration::from_millis(1100));
    write(&logger, 3);
    logger.flush().expect(AUDIT_OK);
    assert_eq!(logger.stats()["altered"], 0);
    drop(logger);
    let (_, report) = verified(&log, &json!({}));
    assert_eq!(
        (&report["lines"], &report["gaps"]),
        (&json!(3), &json!(1)),
        "{report:#}"
    );
    assert_eq!(found(&log, &json!({})), ["deleted"]);
}

#[test]
fn a_directory_that_is_put_back_is_told_from_its_guard_and_says_so_for_ever() {
    let scratch = Scratch::new();
    let (log, config, options) = sealed(&scratch, 3);
    let kept = scratch.join("kept");
    copy(&log, &kept);
    write(&logger_in(&log, &config), 3);
    fs::remove_dir_all(&log).expect("it can be removed");
    copy(&kept, &log);
    assert_eq!(found(&log, &options), ["rolled_back"]);
    // Without the guard nothing is to be seen.
    intact(&log, &json!({}));

    write(&logger_in(&log, &config), 3);
    let (_, report) = verified(&log, &options);
    assert_eq!(report["rollbacks"], 1, "{report:#}");
    assert_eq!(found(&log, &json!({})), ["rolled_back"]);
}

#[test]
fn a_directory_that_is_put_back_under_a_living_process_is_noticed_by_it() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger_in(&log, &json!({}));
    write(&logger, 3);
    logger.flush().expect(AUDIT_OK);
    let (tree, kept) = (log.join(".integrity"), scratch.join("kept"));
    copy(&tree, &kept);
    write(&logger, 3);
    logger.flush().expect(AUDIT_OK);
    for name in ["heads", "checkpoint"] {
        fs::copy(kept.join(name), tree.join(name)).expect("it can be copied");
    }
    write(&logger, 3);
    logger.flush().expect(AUDIT_OK);
    assert_eq!(found(&log, &json!({})), ["rolled_back"]);
}

#[test]
fn a_state_that_is_missing_or_wrong_is_made_anew() {
    let scratch = Scratch::new();
    let (log, config, options) = sealed(&scratch, 300);
    let state = log.join(".integrity/state");
    let text = fs::read_to_string(&state).expect("it's there");
    for wrong in [
        None,
        Some(""),
        Some("{"),
        Some("null"),
        Some(&text.replace("300", "299")),
    ] {
        match wrong {
            None => fs::remove_file(&state).expect("it's there"),
            Some(wrong) => fs::write(&state, wrong).expect("it can be written"),
        }
        write(&logger_in(&log, &config), 1);
        intact(&log, &options);
    }
}

#[test]
fn tiles_that_are_gone_are_made_again_from_what_is_kept() {
    for opened in [false, true] {
        let scratch = Scratch::new();
        let (log, config, options) = sealed(&scratch, 300);
        let remove = || {
            fs::remove_dir_all(log.join(".integrity/tile")).expect("it's there");
            fs::remove_file(log.join(".integrity/state")).expect("it's there");
        };
        if !opened {
            remove();
        }
        let logger = logger_in(&log, &config);
        if opened {
            remove();
        }
        write(&logger, 3);
        // The first may come upon the damage.
        let _ = logger.flush();
        write(&logger, 3);
        logger.flush().expect(AUDIT_OK);
        drop(logger);
        let (status, report) = verified(&log, &options);
        assert_eq!(
            (status, &report["lines"]),
            (AUDIT_OK, &json!(306)),
            "{report:#}"
        );
    }
}

#[test]
fn a_damaged_tree_is_not_signed_further_and_the_log_goes_on() {
    for damage in ["tile and recent", "heads and checkpoint"] {
        let scratch = Scratch::new();
        let (log, config, options) = sealed(&scratch, 300);
        let tree = log.join(".integrity");
        fs::remove_file(tree.join("state")).expect("it's there");
        if damage == "tile and recent" {
            fs::remove_dir_all(tree.join("tile")).expect("it's there");
            fs::remove_file(tree.join("recent")).expect("it's there");
        } else {
            fs::remove_file(tree.join("heads")).expect("it's there");
            fs::remove_file(tree.join("checkpoint")).expect("it's there");
            // What the service would sign anew, were it to begin anew.
            let file = last_file(&log);
            let text = fs::read_to_string(&file).expect("UTF-8");
            fs::write(&file, text.replacen("user-1", "user-2", 1)).expect("it can be written");
        }
        let logger = logger_in(&log, &config);
        let warnings = logger.stats()["warnings"].to_string();
        assert!(warnings.contains("is damaged"), "{damage}: {warnings}");
        write(&logger, 3);
        let answer = logger.flush().expect(AUDIT_E_LOG);
        assert!(
            answer.message().contains("is damaged"),
            "{damage}: {}",
            answer.message()
        );
        drop(logger);
        assert_eq!(entries(&log).len(), 303, "{damage}");
        let (status, report) = verified(&log, &options);
        assert_eq!(status, AUDIT_E_TAMPERED, "{damage}: {report:#}");
    }
}

#[test]
fn a_tree_that_was_removed_is_told_from_the_guard_and_the_log_goes_on() {
    let scratch = Scratch::new();
    let (log, config, options) = sealed(&scratch, 3);
    fs::remove_dir_all(log.join(".integrity")).expect("it's there");
    write(&logger_in(&log, &config), 3);
    write(&logger_in(&log, &config), 3);
    let (_, report) = verified(&log, &options);
    assert_eq!(report["lines"], 9, "{report:#}");
    assert_eq!(found(&log, &options), ["rolled_back"]);
}

#[test]
fn a_replaced_key_is_found_by_what_was_kept_of_the_right_one() {
    let scratch = Scratch::new();
    let (log, _, options) = sealed(&scratch, 3);
    let kept = scratch.join("kept.checkpoint");
    fs::copy(log.join(".integrity/checkpoint"), &kept).expect("it can be copied");
    for path in [log.join(".integrity"), log.join(".state")] {
        fs::remove_dir_all(path).expect("it's there");
    }
    write(&logger_in(&log, &json!({})), 1);
    intact(&log, &json!({}));
    for known in [options, json!({"checkpoints": [kept]})] {
        assert_eq!(found(&log, &known), ["forged"]);
    }
}

// ---------------------------------------------------------------- keys and settings

fn key_in(scratch: &Scratch, name: &str, origin: &str) -> PathBuf {
    let path = scratch.join(name);
    run(support::tool()
        .args(["keygen", "--origin", origin, "-o"])
        .arg(&path));
    path
}

#[track_caller]
fn refused(log: &Path, integrity: &Value, named: &str) {
    let config = json!({"output_path": log, "integrity": integrity});
    let Err(answer) = Logger::try_new(&config.to_string()) else {
        panic!("{integrity} is accepted");
    };
    assert_eq!(answer.status, AUDIT_E_CONFIG, "{}", answer.message());
    assert!(answer.message().contains(named), "{}", answer.message());
}

#[test]
fn a_log_goes_on_with_the_settings_that_it_was_begun_with_and_no_others() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let key = key_in(&scratch, "key", "audit.example/one");
    let other = key_in(&scratch, "other", "audit.example/two");
    let with = |key: &Path| json!({"integrity": {"key_file": key}});
    write(&logger_in(&log, &with(&key)), 1);
    refused(&log, &json!({"key_file": other}), "audit.example/one");
    refused(&log, &json!({}), "key_file");
    refused(
        &log,
        &json!({"key_file": key, "origin": "audit.example/two"}),
        "origin",
    );
    write(
        &logger_in(
            &log,
            &json!({"integrity": {"key_file": key, "origin": "audit.example/one"}}),
        ),
        1,
    );

    let hash_key = scratch.join("hash_key");
    fs::write(&hash_key, "ab".repeat(32)).expect("it can be written");
    fs::set_permissions(&hash_key, Permissions::from_mode(0o600)).expect("it's ours");
    let mut keyed = with(&key);
    keyed["output_path"] = json!(log);
    keyed["hash_key_file"] = json!(hash_key);
    let Err(answer) = Logger::try_new(&keyed.to_string()) else {
        panic!("keyed hashes are mixed with plain ones");
    };
    assert_eq!(answer.status, AUDIT_E_CONFIG);
    assert!(
        answer.message().contains("hash_key_file"),
        "{}",
        answer.message()
    );
    keyed["output_path"] = json!(scratch.join("keyed"));
    write(&Logger::new(&keyed), 1);
    intact(&scratch.join("keyed"), &json!({}));
    intact(&log, &json!({}));
}

#[test]
fn a_key_may_be_linked_and_must_be_private() {
    let scratch = Scratch::new();
    let key = key_in(&scratch, "key", "audit.example/one");
    let link = scratch.join("link");
    symlink(&key, &link).expect("it can be made");
    let log = scratch.join("log");
    write(
        &logger_in(&log, &json!({"integrity": {"key_file": link}})),
        1,
    );
    intact(&log, &json!({}));
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("it's ours");
    refused(&log, &json!({"key_file": key}), "key_file");
    refused(
        &log,
        &json!({"key_file": scratch.join("nowhere")}),
        "key_file",
    );
    let nonsense = scratch.join("nonsense");
    fs::write(&nonsense, "PRIVATE+KEY+secret").expect("it can be written");
    fs::set_permissions(&nonsense, Permissions::from_mode(0o600)).expect("it's ours");
    refused(
        &scratch.join("log2"),
        &json!({"key_file": nonsense}),
        "private key",
    );
    // A lost key is nobody's to replace.
    let own = scratch.join("own");
    write(&logger_in(&own, &json!({})), 1);
    fs::remove_file(own.join(".state/key")).expect("it's there");
    refused(&own, &json!({}), "key_file");
}

#[test]
fn an_own_key_is_the_owners_alone_and_a_group_reads_the_tree() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    // SAFETY: it has no conditions.
    let group = unsafe { libc::getgid() };
    write(&logger_in(&log, &json!({"access": {"group": group}})), 300);
    let mode = |name: &str| {
        log.join(name)
            .metadata()
            .expect("it's there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(".state"), 0o700);
    assert_eq!(mode(".state/key"), 0o600);
    for folder in [".integrity", ".integrity/tile", ".integrity/tile/entries"] {
        assert_eq!(mode(folder), 0o750, "{folder}");
    }
    let files = run(Command::new("find")
        .arg(log.join(".integrity"))
        .args(["-type", "f", "!", "-perm", "640"]));
    assert_eq!(files, "", "files that the group can't read, or others can");
}

#[test]
fn a_log_that_has_a_guard_isn_t_sealed_without_it() {
    let scratch = Scratch::new();
    let (log, config, options) = sealed(&scratch, 3);
    refused(&log, &json!({}), "\"guard_file\" is missing");
    refused(&log, &json!({"guard_file": null}), ".integrity/guarded");
    // Who doesn't seal at all writes beside the others.
    write(&logger_in(&log, &json!({"integrity": false})), 2);
    write(&logger_in(&log, &config), 2);
    assert_eq!(intact(&log, &options)["lines"], 7);

    fs::remove_file(log.join(".integrity/guarded")).expect("it is there");
    write(&logger_in(&log, &json!({})), 1);
    assert_eq!(intact(&log, &options)["lines"], 8);
}

#[test]
fn several_logs_share_a_guard() {
    let scratch = Scratch::new();
    let guard = scratch.join("guard");
    let config = json!({"integrity": {"guard_file": guard, "seal_interval_ms": 10}});
    let logs: Vec<PathBuf> = (0..4)
        .map(|number| scratch.join(&format!("log{number}")))
        .collect();
    std::thread::scope(|scope| {
        for log in &logs {
            let config = &config;
            scope.spawn(move || {
                let logger = logger_in(log, config);
                for _ in 0..20 {
                    write(&logger, 2);
                    logger.flush().expect(AUDIT_OK);
                }
            });
        }
    });
    for log in &logs {
        let report = intact(log, &json!({"guard_file": guard}));
        assert_eq!(report["lines"], 40);
    }
    assert!(day_files(&logs[0]).len() == 1);
}
