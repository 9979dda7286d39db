//! A disk that is full, or fails: the host lives, nothing acknowledged is lost, and the log goes on
//! by itself.

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use audit_logger::ffi::*;
use support::calls::Logger;
use support::pace::until;
use support::server::{Server, Then, completion, response};
use support::worker::{Bench, Work};
use support::{Scratch, available, compile, day_files, entries, merged, release, root, run, skip};

/// A file system of its own in memory, unmounted when it's dropped.
struct Small(PathBuf);

impl Small {
    /// `None`, and the test is skipped, where none can be mounted.
    fn mount(scratch: &Scratch, options: &str) -> Option<Small> {
        let place = scratch.join("small");
        std::fs::create_dir(&place).expect("it can be made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&place)
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            skip("only root can mount a file system");
            return None;
        }
        Some(Small(place))
    }

    fn remount(&self, options: &str) {
        // A program that another test just starts may hold a file for a moment.
        until("the mount isn't busy", || {
            let mut mount = Command::new("mount");
            let options = format!("remount,{options}");
            let output = mount.args(["-o", &options]).arg(&self.0).output();
            output.is_ok_and(|output| output.status.success())
        });
    }

    /// What takes all the room when it's filled.
    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes a file until there's no room.
fn fill(filler: &Path) {
    let mut file = std::fs::File::create(filler).expect("it can be made");
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    while file.write_all(b"x").is_ok() {}
}

fn logger(log: &Path, server: &Server, more: &serde_json::Value) -> Logger {
    let config = json!({"output_path": log, "api_key": "sk-test", "base_url": server.base_url()});
    Logger::new(&merged(config, more))
}

/// The same on a disk that is to stay full: what sealing begins to write there, and gives up, would be room again.
fn logger_that_seals_at_its_end(log: &Path, server: &Server, more: &serde_json::Value) -> Logger {
    let never = json!({"integrity": {"seal_interval_ms": 3_600_000}});
    logger(log, server, &merged(never, more))
}

/// A server that fills a disk while it answers, when it's told to.
fn filling(small: &Small, told: &Arc<AtomicBool>) -> Server {
    let (filler, told) = (small.filler(), Arc::clone(told));
    Server::start(move |_, stream| {
        if told.load(Ordering::SeqCst) {
            fill(&filler);
        }
        stream.write_all(&response(200, &[], completion("paid").as_bytes()))?;
        Ok(Then::Keep)
    })
}

/// Whatever page the log's file ends in takes a few more lines.
fn until_full(logger: &Logger) {
    while logger.log(&support::calls::record()).status == AUDIT_OK {}
}

/// Asks until so many calls have gone on without an entry. The one slot that is real takes one call's entry, and the
/// first calls may find room that something else has just given up; the others have no room at all.
fn ask_without_room(logger: &Logger, gaps: u64) {
    until("calls without an entry", || {
        let mut answer = logger.ask("full");
        if answer.status != AUDIT_OK {
            answer = answer.expect(AUDIT_E_LOG_PENDING);
        }
        assert_eq!(answer.text(AUDIT_REPLY_CONTENT), Some("hi"));
        logger.stats()["gaps"] == gaps
    });
}

#[test]
fn a_disk_that_fills_during_a_call_keeps_its_entry_and_the_log_goes_on_by_itself() {
    let scratch = Scratch::new();
    let Some(small) = Small::mount(&scratch, "size=1m") else {
        return;
    };
    let log = small.0.join("log");
    let told = Arc::new(AtomicBool::new(false));
    let server = filling(&small, &told);
    let logger = logger_that_seals_at_its_end(&log, &server, &json!({}));
    logger.ask("with room").expect(AUDIT_OK);
    told.store(true, Ordering::SeqCst);
    // The last page of the file has room for some.
    let mut waits = logger.ask("full");
    for _ in 0..8 {
        if waits.status != AUDIT_OK {
            break;
        }
        waits = logger.ask("full");
    }
    let waits = waits.expect(AUDIT_E_LOG_PENDING);
    assert_eq!(waits.text(AUDIT_REPLY_CONTENT), Some("paid"));
    assert_eq!(logger.stats()["pending"], 1);
    let sent = server.requests().len();
    logger.ask("refused").expect(AUDIT_E_LOG);
    assert_eq!(
        server.requests().len(),
        sent,
        "a call was sent that the log can't take"
    );

    std::fs::remove_file(small.filler()).expect("it's there");
    until("the entry that waits", || logger.stats()["pending"] == 0);
    assert_eq!(entries(&log).last(), Some(&waits.entry()));
}

#[test]
fn an_entry_that_waits_outlives_its_process() {
    let scratch = Scratch::new();
    let Some(small) = Small::mount(&scratch, "size=1m") else {
        return;
    };
    let log = small.0.join("log");
    let told = Arc::new(AtomicBool::new(false));
    let server = filling(&small, &told);
    let waits = {
        let logger = logger_that_seals_at_its_end(&log, &server, &json!({}));
        logger.ask("with room").expect(AUDIT_OK);
        told.store(true, Ordering::SeqCst);
        let mut waits = logger.ask("full");
        while waits.status == AUDIT_OK {
            waits = logger.ask("full");
        }
        waits.expect(AUDIT_E_LOG_PENDING).entry()
    };
    std::fs::remove_file(small.filler()).expect("it's there");
    drop(logger(&log, &server, &json!({})));
    let logged = entries(&log);
    assert_eq!(logged.iter().filter(|entry| **entry == waits).count(), 1);
    assert_eq!(logged.len(), server.requests().len());
}

#[test]
fn calls_that_go_on_without_an_entry_are_counted_in_one() {
    let scratch = Scratch::new();
    let Some(small) = Small::mount(&scratch, "size=1m") else {
        return;
    };
    let log = small.0.join("log");
    let server = support::worker::answering();
    let logger = logger_that_seals_at_its_end(&log, &server, &json!({"on_log_failure": "count"}));
    logger.ask("with room").expect(AUDIT_OK);
    fill(&small.filler());
    until_full(&logger);
    ask_without_room(&logger, 4);
    // Killed or freed, the count stays in the journal.
    drop(logger);
    std::fs::remove_file(small.filler()).expect("it's there");
    drop(self::logger(&log, &server, &json!({})));
    let logged = entries(&log);
    let gap: Vec<_> = logged
        .iter()
        .filter(|entry| entry["event_type"] == "audit_gap")
        .collect();
    assert_eq!(gap.len(), 1);
    assert_eq!(gap[0]["metadata"]["calls"], 4);
    let sent = server.requests().len();
    let calls = logged
        .iter()
        .filter(|entry| entry["details"]["outcome"] == "answered");
    assert_eq!(calls.count() + 4, sent);
}

#[test]
fn the_entry_of_calls_without_one_is_hashed_with_the_key() {
    let scratch = Scratch::new();
    let Some(small) = Small::mount(&scratch, "size=1m") else {
        return;
    };
    let key = scratch.join("key");
    std::fs::write(&key, "ab".repeat(32)).expect("it can be made");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("it's ours");
    let log = small.0.join("log");
    let server = support::worker::answering();
    let config = json!({"on_log_failure": "count", "hash_key_file": key});
    let logger = logger_that_seals_at_its_end(&log, &server, &config);
    let begun = logger.ask("with room").expect(AUDIT_OK).entry();
    fill(&small.filler());
    until_full(&logger);
    ask_without_room(&logger, 1);
    std::fs::remove_file(small.filler()).expect("it's there");
    logger.flush().expect(AUDIT_OK);

    let nothing = logger.hash(b"");
    let nothing = nothing.text(AUDIT_REPLY_CONTENT).expect("it's a hash");
    let logged = entries(&log);
    let gap = logged
        .iter()
        .find(|entry| entry["event_type"] == "audit_gap")
        .expect("a gap has its entry");
    assert_eq!(gap["prompt_hash"], nothing);
    assert_eq!(gap["response_hash"], nothing);
    assert_eq!(
        gap["details"]["hash_key_id"],
        begun["details"]["hash_key_id"]
    );
    assert!(begun["details"]["hash_key_id"].is_string());
}

/// Fails the nth system call of a kind, for every n: once, and from then on. What they fail with takes
/// turns.
#[test]
fn nothing_acknowledged_is_lost_whichever_write_fails() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "clb",
        times: 6,
        threads: 1,
        longest: 200,
        expected: "any",
    };
    let (mut places, mut faults) = (0, 0);
    for (calls, errors) in [
        ("write", ["ENOSPC", "EDQUOT", "EIO", "EROFS"]),
        ("pwrite64", ["EIO", "EROFS", "ENOSPC", "EDQUOT"]),
        ("openat", ["EMFILE", "EDQUOT", "EROFS", "ENOSPC"]),
    ] {
        for (forever, first) in [("", 0), ("+", 1)] {
            for nth in 1.. {
                let error = errors[(nth + first) % errors.len()];
                let bench = Bench::new(json!({}));
                let ended = bench
                    .injected(calls, &format!("error={error}:when={nth}{forever}"), work)
                    .output()
                    .expect("strace starts");
                if bench.faults() == 0 {
                    break;
                }
                if ended.status.code() == Some(127) {
                    // The dynamic linker was hit, not the library.
                    continue;
                }
                assert!(
                    ended.status.code().is_some(),
                    "{calls} {error} {nth}{forever}: the host was ended: {ended:?}"
                );
                bench.check();
                places += 1;
                faults += bench.faults();
                assert!(nth < 400, "{calls}: a worker makes fewer of them");
            }
        }
    }
    println!("{faults} faults injected, from {places} places on");
    assert!(places > 100, "{places}");
}

#[test]
fn the_log_goes_on_by_itself_when_errors_end() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "clb",
        times: 60,
        threads: 1,
        longest: 200,
        expected: "any",
    };
    // Writes to the journal: what the worker itself writes are plain ones.
    for error in ["EROFS", "EDQUOT", "ENOSPC", "EIO"] {
        let bench = Bench::new(json!({}));
        run(&mut bench.injected("pwrite64", &format!("error={error}:when=20..40"), work));
        bench.check();
        let said = bench.said();
        let failed = said.iter().filter(|said| said.what.starts_with("AUDIT_E"));
        assert!(failed.count() > 0, "{error}: nothing failed");
        let last = said.last().expect("it worked");
        assert!(!last.what.starts_with("AUDIT_E"), "{error}: {last:?}");
    }
}

/// A disk that is only slow holds nothing up but those who wait for it.
#[test]
fn while_the_disk_is_slow_to_confirm_calls_go_on_and_stats_answer_at_once() {
    let (scratch, server) = (Scratch::new(), support::worker::answering());
    let program = scratch.join("slow_disk");
    let source = root().join("tests/c/slow_disk.c");
    compile(&source, release(), &program, &[]);
    run(Command::new(program)
        .arg(scratch.join("log"))
        .arg(server.base_url()));
}

#[test]
fn a_log_on_a_disk_that_hangs_delays_nothing_of_another() {
    let (scratch, server) = (Scratch::new(), support::worker::answering());
    let program = scratch.join("two_disks");
    let source = root().join("tests/c/two_disks.c");
    compile(&source, release(), &program, &[]);
    run(Command::new(program)
        .arg(scratch.join("slow"))
        .arg(scratch.join("fast"))
        .arg(server.base_url()));
}

#[test]
fn slow_writes_lose_nothing() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "clb",
        times: 9,
        threads: 4,
        longest: 200,
        expected: "AUDIT_OK",
    };
    let bench = Bench::new(json!({"durability": "disk"}));
    let calls = "write,pwrite64,fdatasync";
    run(&mut bench.injected(calls, "delay_enter=3000:delay_exit=3000", work));
    assert!(bench.faults() > 100, "hardly a write was slow");
    let counts = bench.check();
    assert_eq!(counts.entries, 4 * 9);
}

#[test]
fn a_file_system_mounted_read_only_refuses_calls_until_it_can_be_written_to() {
    let scratch = Scratch::new();
    let Some(small) = Small::mount(&scratch, "size=1m") else {
        return;
    };
    let (log, server) = (small.0.join("log"), support::worker::answering());
    // Of a file that is open to write to it, Linux lets nobody take the rights: so before the first.
    let logger = logger(&log, &server, &json!({}));
    small.remount("ro");
    let answer = logger.ask("refused").expect(AUDIT_E_LOG);
    assert!(
        answer.message().contains("ead-only"),
        "{}",
        answer.message()
    );
    logger.log(&support::calls::record()).expect(AUDIT_E_LOG);
    let Err(answer) = Logger::try_new(&json!({"output_path": log}).to_string()) else {
        panic!("a logger is made that can't write");
    };
    assert_eq!(answer.status, AUDIT_E_LOG);
    assert_eq!(server.requests().len(), 0, "a call was sent");
    small.remount("rw");
    let answer = logger.ask("with room").expect(AUDIT_OK);
    assert_eq!(entries(&log), [answer.entry()]);
}

#[test]
fn without_an_inode_for_its_files_the_log_refuses_calls_until_there_is_one() {
    let mut refused = 0;
    for left in 0..4 {
        let scratch = Scratch::new();
        let Some(small) = Small::mount(&scratch, "size=4m,nr_inodes=64") else {
            return;
        };
        let (log, server) = (small.0.join("log"), support::worker::answering());
        let logger = logger_that_seals_at_its_end(&log, &server, &json!({}));
        let mut fillers: Vec<_> = (0..64)
            .map(|number| small.0.join(number.to_string()))
            .take_while(|path| std::fs::File::create(path).is_ok())
            .collect();
        let remove = |path: &PathBuf| std::fs::remove_file(path).expect("it's there");
        fillers.drain(..left).for_each(|path| remove(&path));
        let first = logger.ask("first");
        if first.status != AUDIT_OK {
            assert_eq!(first.status, AUDIT_E_LOG);
            assert_eq!(server.requests().len(), 0, "a call was sent");
            refused += 1;
        }
        fillers.iter().for_each(remove);
        logger.ask("second").expect(AUDIT_OK);
        assert_eq!(entries(&log).len(), server.requests().len());
        drop(logger);
        assert_eq!(entries(&log).len(), server.requests().len());
    }
    assert_eq!(
        refused, 2,
        "without room for a journal, and for the day's file"
    );
}

#[test]
fn what_the_disk_refuses_to_confirm_goes_to_a_further_file_and_is_never_called_durable() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "clb",
        times: 4,
        threads: 1,
        longest: 200,
        expected: "any",
    };
    let mut further = 0;
    for nth in 1..14 {
        let bench = Bench::new(json!({"durability": "disk", "integrity": false}));
        run(&mut bench.injected("fdatasync", &format!("error=EIO:when={nth}"), work));
        bench.open();
        let ids = bench.ids();
        for said in bench.said().iter().filter(|said| said.id.len() == 36) {
            assert!(ids.contains(&said.id), "fault {nth}: {said:?} is lost");
        }
        further += day_files(&bench.log).len() - 1;
    }
    assert!(further > 0, "no fault met a day's file");
}

#[test]
fn a_flush_that_the_disk_refuses_writes_the_entries_to_a_further_file() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "llf",
        times: 3,
        threads: 1,
        longest: 200,
        expected: "any",
    };
    // Once, and then for the further file too: then nothing is called durable.
    for (when, status) in [("1", "flush"), ("1+", "AUDIT_E_LOG")] {
        let bench = Bench::new(json!({"integrity": false}));
        run(&mut bench.injected("fdatasync", &format!("error=EIO:when={when}"), work));
        let said = bench.said();
        assert_eq!(said.last().map(|said| said.what.as_str()), Some(status));
        let logged = entries(&bench.log).len();
        assert_eq!(logged, 4, "each stands in both files");
        assert_eq!(bench.ids().len(), 2);
    }
}
