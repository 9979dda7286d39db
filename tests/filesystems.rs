//! The promises of a full disk and of a deleted file, on file systems that differ in how they keep them:
//! ext4 and xfs write over in place, btrfs copies, FUSE hides a deleted file under another name.

mod support;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, record, verified};
use support::image::{Image, Overlay};
use support::pace::until;
use support::server::{Server, Then, completion, response};
use support::worker::{Bench, FOREVER, Work, answering};
use support::{Scratch, available, entries, last_file, merged, run};

/// A server that holds its answers back until it's told to give them.
struct Holding {
    server: Server,
    held: Arc<AtomicUsize>,
    go: Arc<AtomicBool>,
}

impl Holding {
    fn start() -> Holding {
        let (held, go) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, told) = (Arc::clone(&held), Arc::clone(&go));
        let answer = response(200, &[], completion("paid").as_bytes());
        let server = Server::start(move |_, stream| {
            count.fetch_add(1, Ordering::SeqCst);
            while !told.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::io::Write::write_all(stream, &answer).map(|()| Then::Keep)
        });
        Holding { server, held, go }
    }

    /// Makes calls while the disk fills, until one has an entry that the log can't take.
    fn ask_while_it_fills(&self, logger: &Logger, image: &Image) -> Answer {
        self.go.store(false, Ordering::SeqCst);
        let before = self.held.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                until("the call", || self.held.load(Ordering::SeqCst) > before);
                image.fill();
                self.go.store(true, Ordering::SeqCst);
            });
            // What is left of the file's last blocks takes some.
            let mut asked = (0..1000).map(|_| logger.ask("full"));
            let waits = asked.find(|answer| answer.status != AUDIT_OK);
            waits.expect("it's full").expect(AUDIT_E_LOG_PENDING)
        })
    }
}

fn logger(log: &Path, server: &Server, more: &Value) -> Logger {
    let config = json!({"output_path": log, "api_key": "sk-test", "base_url": server.base_url()});
    Logger::new(&merged(config, more))
}

fn gaps(entries: &[Value]) -> Vec<u64> {
    let gaps = entries.iter().filter(|e| e["event_type"] == "audit_gap");
    gaps.map(|gap| gap["metadata"]["calls"].as_u64().expect("a count"))
        .collect()
}

/// Answers that came when the disk was full, kept by a process that is killed then.
fn pending_entries_survive(kind: &str, overlaid: bool) {
    for durability in ["os", "disk"] {
        let scratch = Scratch::new();
        let Some(image) = Image::make(&scratch, kind) else {
            return;
        };
        let overlay = overlaid.then(|| Overlay::on(&image));
        let place = overlay.as_ref().map_or(&image.place, |overlay| &overlay.0);
        let holding = Holding::start();
        let config = json!({"base_url": holding.server.base_url(), "durability": durability});
        let mut bench = Bench::at(scratch, place.join("log"), config);
        bench.server = holding.server;
        // The file of the day has some room yet: more entries than fit into it.
        const CALLS: usize = 24;
        // None makes a second one before it's killed, however long the others take: that is two minutes off.
        let work = Work {
            doings: &format!("c{}", "w".repeat(60_000)),
            threads: CALLS,
            expected: "any",
            ..FOREVER
        };
        let worker = bench.start("p", work);
        let held = &holding.held;
        until("calls", || held.load(Ordering::SeqCst) == CALLS);
        image.fill();
        holding.go.store(true, Ordering::SeqCst);
        until("answers", || bench.said().len() == CALLS);
        drop(worker);
        let said = bench.said();
        assert!(said.iter().all(|said| said.what == "chat"), "{said:?}");
        let waited = CALLS - entries(&bench.log).len();
        image.free();
        let counts = bench.check();
        println!("{kind}, {durability}: {waited} entries waited, {counts:?}");
        assert!(waited > 0, "{kind}: the log took all of them");
        assert_eq!((counts.entries, counts.unknown), (CALLS, 0), "{kind}");
    }
}

#[test]
fn what_waits_on_a_full_ext4_outlives_a_killed_process() {
    pending_entries_survive("ext4", false);
}

#[test]
fn what_waits_on_a_full_xfs_outlives_a_killed_process() {
    pending_entries_survive("xfs", false);
}

#[test]
fn what_waits_on_a_full_btrfs_outlives_a_killed_process() {
    pending_entries_survive("btrfs", false);
}

#[test]
fn what_waits_on_an_overlay_on_a_full_btrfs_outlives_a_killed_process() {
    pending_entries_survive("btrfs", true);
}

/// Entries that were acknowledged before and after the day's file is taken away.
fn log_around(log: &Path, take_away: impl Fn(&Path)) -> (Vec<String>, Vec<String>) {
    let logger = logger(log, &answering(), &json!({}));
    let write = |count: usize| -> Vec<String> {
        let ids = (0..count).map(|_| {
            let logged = logger.log(&record()).expect(AUDIT_OK);
            logged
                .text(AUDIT_REPLY_ENTRY_ID)
                .expect("it has one")
                .to_owned()
        });
        ids.collect()
    };
    let before = write(25);
    take_away(&last_file(log));
    // The name is looked up once a second.
    std::thread::sleep(Duration::from_millis(1100));
    let after = write(5);
    drop(logger);
    (before, after)
}

fn ids(log: &Path) -> Vec<String> {
    let entries = entries(log);
    let ids = entries
        .iter()
        .map(|entry| entry["id"].as_str().expect("a text").to_owned());
    ids.collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

fn a_deleted_file_loses_nothing(log: &Path) {
    let (before, after) = log_around(log, |file| std::fs::remove_file(file).expect("it's there"));
    let all: Vec<String> = before.into_iter().chain(after).collect();
    assert_eq!(sorted(ids(log)), sorted(all), "entries of a deleted file");
}

fn a_file_renamed_beside_is_left_alone(log: &Path) {
    let aside = |file: &Path| file.with_extension("jsonl-1");
    let (_, after) = log_around(log, |file| {
        std::fs::rename(file, aside(file)).expect("it can be")
    });
    assert_eq!(
        sorted(ids(log)),
        sorted(after),
        "lines of a moved file are written again"
    );
}

#[test]
fn a_file_that_is_deleted_on_ntfs_loses_no_entry_and_one_that_is_renamed_stays() {
    let scratch = Scratch::new();
    let Some(image) = Image::make(&scratch, "ntfs") else {
        return;
    };
    a_deleted_file_loses_nothing(&image.place.join("deleted"));
    a_file_renamed_beside_is_left_alone(&image.place.join("renamed"));
}

#[test]
fn a_file_that_is_deleted_on_fuse_overlayfs_loses_no_entry_and_one_that_is_renamed_stays() {
    let scratch = Scratch::new();
    let Some(overlay) = Overlay::by_fuse(&scratch) else {
        return;
    };
    a_deleted_file_loses_nothing(&overlay.0.join("deleted"));
    a_file_renamed_beside_is_left_alone(&overlay.0.join("renamed"));
}

/// Calls that went on on a full disk, counted by a process that is killed then.
fn counts_survive(kind: &str) {
    let scratch = Scratch::new();
    let Some(image) = Image::make(&scratch, kind) else {
        return;
    };
    let config = json!({"on_log_failure": "count"});
    let bench = Bench::at(scratch, image.place.join("log"), config);
    const THREADS: usize = 4;
    let work = Work {
        doings: "c",
        threads: THREADS,
        expected: "any",
        ..FOREVER
    };
    let worker = bench.start("p", work);
    until("calls", || !bench.said().is_empty());
    image.fill();
    let before = bench.said().len();
    until("calls on a full disk", || bench.said().len() > before + 200);
    // What was written is on the disk by now, and is no longer to be changed in memory alone.
    run(&mut Command::new("sync"));
    let synced = bench.said().len();
    until("calls after a sync", || bench.said().len() > synced + 100);
    drop(worker);
    image.free();
    bench.open();
    let said = bench.said();
    assert!(
        said.iter().all(|said| said.what == "chat"),
        "a call was refused"
    );
    let logged: HashSet<String> = ids(&bench.log).into_iter().collect();
    let missing = said
        .iter()
        .filter(|said| !logged.contains(&said.id))
        .count();
    let gaps = gaps(&entries(&bench.log));
    println!(
        "{kind}: {} calls, {missing} without an entry, counted in {gaps:?}",
        said.len()
    );
    let [counted] = gaps[..] else {
        panic!("{kind}: {missing} calls without an entry are counted in {gaps:?}");
    };
    let counted = counted as usize;
    // A call that was counted may not have been said yet.
    assert!(
        (missing..=missing + THREADS).contains(&counted),
        "{kind}: {missing}, {counted}"
    );
    assert!(missing > 200, "{kind}: the log had room");
}

#[test]
fn the_count_of_calls_without_an_entry_outlives_a_process_killed_on_a_full_ext4() {
    counts_survive("ext4");
}

#[test]
fn the_count_of_calls_without_an_entry_outlives_a_process_killed_on_a_full_xfs() {
    counts_survive("xfs");
}

#[test]
fn the_count_of_calls_without_an_entry_outlives_a_process_killed_on_a_full_btrfs() {
    counts_survive("btrfs");
}

/// A log with a journal that something else has blocks of keeps what waits all the same, once its thread
/// has seen it.
fn pending_entries_survive_sharing(image: &Image, log: &Path, share: impl Fn()) {
    let journals = || -> Vec<PathBuf> {
        let files = std::fs::read_dir(log.join(".state")).expect("it's there");
        let paths = files.map(|file| file.expect("readable").path());
        let is_journal = |path: &PathBuf| path.to_string_lossy().contains("/journal-");
        paths.filter(is_journal).collect()
    };
    let holding = Holding::start();
    holding.go.store(true, Ordering::SeqCst);
    let logger = logger(
        log,
        &holding.server,
        &json!({"integrity": {"seal_interval_ms": 10}}),
    );
    logger.ask("first").expect(AUDIT_OK);
    let before = journals();
    share();
    until("another journal", || {
        logger.log(&record()).expect(AUDIT_OK);
        journals().iter().any(|path| !before.contains(path))
    });
    let waits = holding.ask_while_it_fills(&logger, image);
    assert!(
        !waits.message().contains("in memory only"),
        "{}",
        waits.message()
    );
    assert_eq!(logger.stats()["in_memory_only"], 0);
    // It ends without room for its entry.
    drop(logger);
    assert!(!entries(log).contains(&waits.entry()));
    image.free();
    drop(self::logger(log, &holding.server, &json!({})));
    assert!(entries(log).contains(&waits.entry()), "the entry is lost");
}

#[test]
fn what_waits_outlives_its_process_on_a_btrfs_that_was_snapshotted() {
    let scratch = Scratch::new();
    if !available("btrfs") {
        return;
    }
    let Some(image) = Image::make(&scratch, "btrfs") else {
        return;
    };
    let volume = image.place.join("volume");
    let subvolume = |what: &str| {
        let mut btrfs = Command::new("btrfs");
        btrfs.args(["subvolume", what]).arg(&volume);
        btrfs
    };
    run(&mut subvolume("create"));
    pending_entries_survive_sharing(&image, &volume.join("log"), || {
        run(subvolume("snapshot").arg(image.place.join("snapshot")));
    });
}

#[test]
fn what_waits_outlives_its_process_on_an_xfs_that_was_copied_by_reference() {
    let scratch = Scratch::new();
    let Some(image) = Image::make(&scratch, "xfs") else {
        return;
    };
    let log = image.place.join("log");
    pending_entries_survive_sharing(&image, &log, || {
        // The log is written meanwhile: a file may go before it's copied.
        until("all is copied", || {
            let mut copy = Command::new("cp");
            copy.args(["-rT", "--reflink=always"]).arg(&log);
            let copied = copy.arg(image.place.join("copy")).output();
            copied.is_ok_and(|copied| copied.status.success())
        });
    });
}

/// Where a file system takes room for what is written over, nothing else is promised.
#[test]
fn on_a_file_system_that_keeps_no_room_the_log_says_what_is_in_memory_only() {
    let scratch = Scratch::new();
    let Some(image) = Image::make(&scratch, "fuse2fs") else {
        return;
    };
    let (log, holding) = (image.place.join("log"), Holding::start());
    let logger = logger(&log, &holding.server, &json!({}));
    let warnings = logger.stats()["warnings"].to_string();
    assert!(warnings.contains("in memory only"), "{warnings}");
    let waits = holding.ask_while_it_fills(&logger, &image);
    assert!(
        waits.message().contains("in memory only"),
        "{}",
        waits.message()
    );
    let stats = logger.stats();
    assert_eq!(
        (&stats["pending"], &stats["in_memory_only"]),
        (&json!(1), &json!(1))
    );
    image.free();
    logger.flush().expect(AUDIT_OK);
    assert_eq!(logger.stats()["in_memory_only"], 0);
    assert_eq!(entries(&log).last(), Some(&waits.entry()));
}

/// A process that starts on a full disk.
fn opens_when_full(kind: &str) {
    let scratch = Scratch::new();
    let Some(image) = Image::make(&scratch, kind) else {
        return;
    };
    let server = answering();
    // A log that was sealed, and one whose tree isn't begun yet.
    for (name, before) in [
        ("sealed", json!({})),
        ("plain", json!({"integrity": false})),
    ] {
        let log = image.place.join(name);
        logger(&log, &server, &before)
            .ask("with room")
            .expect(AUDIT_OK);
        image.fill();
        let refusing = json!({"output_path": log, "on_log_failure": "refuse"});
        match Logger::try_new(&refusing.to_string()) {
            Ok(_) => panic!("{kind}, {name}: a logger is made that can't write"),
            Err(answer) => drop(answer.expect(AUDIT_E_LOG)),
        }
        let counting = logger(&log, &server, &json!({"on_log_failure": "count"}));
        let warnings = counting.stats()["warnings"].to_string();
        assert!(
            warnings.contains("until there is room"),
            "{kind}, {name}: {warnings}"
        );
        for _ in 0..3 {
            let answer = counting.ask("full").expect(AUDIT_E_LOG_PENDING);
            assert_eq!(answer.text(AUDIT_REPLY_CONTENT), Some("hi"));
            assert!(answer.message().contains("counted"), "{}", answer.message());
        }
        assert_eq!(counting.stats()["gaps"], 3);
        image.free();
        until("room", || counting.stats()["pending"] == 0);
        let logged = entries(&log);
        assert_eq!(
            (logged.len(), gaps(&logged)),
            (2, vec![3]),
            "{kind}, {name}"
        );
        counting.ask("with room again").expect(AUDIT_OK);
        counting.flush().expect(AUDIT_OK);
        let (status, report) = verified(&log, &json!({}));
        assert_eq!(status, AUDIT_OK, "{kind}, {name}: {report:#}");
        assert_eq!(
            (&report["lines"], &report["unsealed_lines"]),
            (&json!(3), &json!(0)),
            "{kind}, {name}: {report:#}"
        );
    }
}

#[test]
fn a_logger_that_counts_opens_on_a_full_ext4() {
    opens_when_full("ext4");
}

#[test]
fn a_logger_that_counts_opens_on_a_full_xfs() {
    opens_when_full("xfs");
}

#[test]
fn a_logger_that_counts_opens_on_a_full_btrfs() {
    opens_when_full("btrfs");
}

fn killed_at_random(kind: &str) {
    for durability in ["os", "disk"] {
        let scratch = Scratch::new();
        let Some(image) = Image::make(&scratch, kind) else {
            return;
        };
        let config = json!({"durability": durability});
        let bench = Bench::at(scratch, image.place.join("log"), config);
        let mut running = Vec::new();
        for number in 0..10 {
            while running.len() < 2 {
                running.push(bench.start(&format!("p{number}.{}", running.len()), FOREVER));
            }
            // However long they take to start.
            until("they work", || bench.said().len() > number as usize);
            std::thread::sleep(Duration::from_millis(40 + number * 7));
            drop(running.swap_remove(number as usize % 2));
        }
        drop(running);
        let counts = bench.check();
        println!("{kind}, {durability}: 10 kills, {counts:?}");
        assert!(counts.said > 10, "the workers hardly worked: {counts:?}");
        let (status, report) = verified(&bench.log, &json!({}));
        assert_eq!(status, AUDIT_OK, "{kind}, {durability}: {report:#}");
    }
}

#[test]
fn killed_on_ext4_a_process_leaves_one_entry_for_each_call() {
    killed_at_random("ext4");
}

#[test]
fn killed_on_xfs_a_process_leaves_one_entry_for_each_call() {
    killed_at_random("xfs");
}

#[test]
fn killed_on_btrfs_a_process_leaves_one_entry_for_each_call() {
    killed_at_random("btrfs");
}
