//! Torn tails, and files and rights that aren't as the library left them.

mod support;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Logger, record};
use support::pace::{Stopwatch, until};
use support::worker::{Bench, Work};
use support::{Scratch, available, entries, last_file, run, skip};

fn logger(log: &Path) -> Logger {
    Logger::new(&json!({"output_path": log}))
}

/// A log with three entries, and the bytes of its file.
fn three(scratch: &Scratch) -> (PathBuf, Vec<u8>) {
    let log = scratch.join("log");
    let logger = logger(&log);
    for _ in 0..3 {
        logger.log(&record()).expect(AUDIT_OK);
    }
    drop(logger);
    let bytes = std::fs::read(last_file(&log)).expect("it's there");
    (log, bytes)
}

#[test]
fn a_log_cut_at_any_byte_is_mended_when_it_is_opened_and_its_bytes_are_kept() {
    let scratch = Scratch::new();
    let (log, whole) = three(&scratch);
    let file = last_file(&log);
    let torn = log.join(".state/torn");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for end in lines[0].len()..whole.len() {
        let cut = &whole[..end];
        std::fs::write(&file, cut).expect("it can be written");
        let _ = std::fs::remove_file(&torn);
        logger(&log).log(&record()).expect(AUDIT_OK);
        let now = std::fs::read(&file).expect("it's there");
        // Lines that were whole stay as they were; one that lacks only its line feed is whole.
        let mut kept = cut
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        if cut.len() - kept + 1 == lines[1].len() {
            kept = cut.len();
        }
        assert_eq!(now[..kept], cut[..kept], "cut at {end}");
        let rest = &cut[kept..];
        if rest.is_empty() {
            assert!(!torn.exists(), "cut at {end}");
        } else {
            let text = std::fs::read_to_string(&torn).expect("the bytes are kept");
            let kept: Value = serde_json::from_str(text.trim_end()).expect("JSON");
            assert_eq!(kept["length"], rest.len(), "cut at {end}");
            assert!(
                now[kept_range(kept["offset"].as_u64(), rest.len())]
                    .iter()
                    .all(|byte| *byte == b' ')
            );
        }
        let whole_lines =
            cut.split_inclusive(|byte| *byte == b'\n').count() - usize::from(!rest.is_empty());
        assert_eq!(entries(&log).len(), whole_lines + 1, "cut at {end}");
    }
}

fn kept_range(offset: Option<u64>, length: usize) -> std::ops::Range<usize> {
    let start = offset.expect("a number") as usize;
    start..start + length
}

#[test]
fn zeros_at_the_end_and_other_line_ends_don_t_hurt() {
    let scratch = Scratch::new();
    let (log, whole) = three(&scratch);
    let file = last_file(&log);
    let crlf = String::from_utf8_lossy(&whole).replace('\n', "\r\n");
    let zeros = [&whole[..], &[0; 5000]].concat();
    for (text, expected) in [
        (crlf.as_bytes(), 4),
        (&zeros, 4),
        (&[&whole[..], b"\n\n   \n"].concat(), 4),
    ] {
        std::fs::write(&file, text).expect("it can be written");
        logger(&log).log(&record()).expect(AUDIT_OK);
        assert_eq!(entries(&log).len(), expected);
    }
}

#[test]
fn a_file_deleted_under_the_writer_loses_no_line() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger(&log);
    let first = logger.log(&record()).expect(AUDIT_OK);
    std::fs::remove_file(last_file(&log)).expect("it can be removed");
    std::thread::sleep(Duration::from_millis(1100));
    let second = logger.log(&record()).expect(AUDIT_OK);
    until("the first line, again", || entries(&log).len() == 2);
    let mut logged = entries(&log);
    logged.sort_by_key(|entry| entry["timestamp"].as_str().map(str::to_owned));
    assert_eq!(logged, [first.entry(), second.entry()]);
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it's there").permissions().mode() & 0o7777
}

#[test]
fn a_group_may_read_the_log_and_nothing_else() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let group = scratch.path().metadata().expect("it's there").gid();
    let logger = Logger::new(&json!({"output_path": log, "access": {"group": group}}));
    logger.log(&record()).expect(AUDIT_OK);
    assert_eq!((mode(&log), mode(&last_file(&log))), (0o2750, 0o640));
    let state = log.join(".state");
    assert_eq!(mode(&state), 0o700);
    for file in std::fs::read_dir(state).expect("it's there") {
        let file = file.expect("readable").path();
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
}

#[test]
fn rights_that_others_were_given_are_taken_away_and_reported() {
    let scratch = Scratch::new();
    let (log, _) = three(&scratch);
    // As Kubernetes gives a volume to a group.
    std::fs::set_permissions(&log, Permissions::from_mode(0o2775)).expect("we own it");
    std::fs::set_permissions(last_file(&log), Permissions::from_mode(0o664)).expect("we own it");
    let logger = logger(&log);
    logger.log(&record()).expect(AUDIT_OK);
    assert_eq!((mode(&log) & 0o22, mode(&last_file(&log))), (0, 0o600));
    let warnings = logger.stats()["warnings"].to_string();
    assert!(
        warnings.contains("others could write") && warnings.contains("open to others"),
        "{warnings}"
    );
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    let scratch = Scratch::new();
    let (log, _) = three(&scratch);
    if chown(&log, Some(65534), None).is_err() {
        return support::skip("only root can give files away");
    }
    let refused = |what: &str| {
        let Err(answer) = Logger::try_new(&json!({"output_path": log}).to_string()) else {
            panic!("{what} is accepted");
        };
        assert_eq!(answer.status, AUDIT_E_LOG);
        assert!(
            answer.message().contains("belongs to user 65534"),
            "{}",
            answer.message()
        );
    };
    refused("a directory of another user's");
    chown(&log, Some(0), None).expect("we are root");
    chown(log.join(".state"), Some(65534), None).expect("we are root");
    refused(".state of another user's");
    chown(log.join(".state"), Some(0), None).expect("we are root");
    chown(last_file(&log), Some(65534), None).expect("we are root");
    let answer = logger(&log).log(&record()).expect(AUDIT_E_LOG);
    assert!(
        answer.message().contains("belongs to user 65534"),
        "{}",
        answer.message()
    );
}

#[test]
fn a_file_deleted_just_before_its_logger_is_freed_loses_no_line() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let entry = {
        let logger = logger(&log);
        let entry = logger.log(&record()).expect(AUDIT_OK).entry();
        std::fs::remove_file(last_file(&log)).expect("it can be removed");
        entry
    };
    assert_eq!(entries(&log), [entry]);
}

#[test]
fn a_day_that_was_frozen_or_linked_elsewhere_holds_no_recovery_up() {
    let scratch = Scratch::new();
    let (log, _) = three(&scratch);
    // An earlier day's, as a backup by hard links leaves it.
    let earlier = log.join("audit_2020-01-01.jsonl");
    std::fs::write(&earlier, "{}\n").expect("it can be written");
    std::fs::hard_link(&earlier, scratch.join("backup")).expect("it can be made");
    logger(&log).log(&record()).expect(AUDIT_OK);
    assert_eq!(std::fs::read(&earlier).expect("it's there"), b"{}\n");
}

#[test]
fn a_file_cut_short_under_the_writer_is_reported_and_the_next_lines_are_whole() {
    let scratch = Scratch::new();
    // To nothing, to its first line, and to the middle of its second.
    for (number, kept) in [0.0, 1.0, 1.5].into_iter().enumerate() {
        let log = scratch.join(&number.to_string());
        let logger = logger(&log);
        for _ in 0..3 {
            logger.log(&record()).expect(AUDIT_OK);
        }
        assert_eq!(logger.stats()["warnings"], json!([]));
        let file = last_file(&log);
        let line = file.metadata().expect("it's there").len() as f64 / 3.0;
        let cut = std::fs::File::options().write(true).open(&file);
        cut.and_then(|file| file.set_len((line * kept) as u64))
            .expect("it can be cut");
        let after = logger.log(&record()).expect(AUDIT_OK).entry();
        let stats = logger.stats();
        for said in [&stats["warnings"][0], &stats["last_error"]["message"]] {
            let said = said.as_str().expect("it's reported");
            assert!(
                said.contains("was cut short") && said.contains(".jsonl"),
                "{said}"
            );
        }
        drop(logger);
        let logged = entries(&log);
        assert_eq!(logged.len(), kept as usize + 1);
        assert_eq!(logged.last(), Some(&after));
    }
}

/// Puts something at a path; there's another file, outside of the log.
type Put = fn(&Path, &Path);

/// What may stand where a file of `.state` should.
fn strangers() -> [(&'static str, Put); 5] {
    [
        ("a link", |path, other| {
            symlink(other, path).expect("it can be made");
        }),
        ("a hard link", |path, other| {
            std::fs::hard_link(other, path).expect("it can be made");
        }),
        ("a directory", |path, _| {
            std::fs::create_dir(path).expect("it can be made");
        }),
        ("a FIFO", |path, _| {
            run(Command::new("mkfifo").arg(path));
        }),
        ("a device", |path, _| {
            // /dev/null.
            let made = Command::new("mknod")
                .arg(path)
                .args(["c", "1", "3"])
                .output();
            if !made.is_ok_and(|output| output.status.success()) {
                skip("only root can make a device");
            }
        }),
    ]
}

#[test]
fn what_stands_in_place_of_a_file_of_the_library_s_own_is_refused_or_replaced_and_never_followed() {
    for name in [
        "format",
        "lock",
        "health.json",
        "torn",
        "journal-00000000-0000-4000-8000-000000000000",
    ] {
        for (what, put) in strangers() {
            let scratch = Scratch::new();
            let (log, whole) = three(&scratch);
            let file = last_file(&log);
            // So that something is to be written to "torn".
            std::fs::write(&file, &whole[..whole.len() - 20]).expect("it can be written");
            let (path, other) = (log.join(".state").join(name), scratch.join("other"));
            let _ = std::fs::remove_file(&path);
            std::fs::write(&other, "another's").expect("it can be written");
            put(&path, &other);
            let began = Stopwatch::start();
            let opened = Logger::try_new(&json!({"output_path": log}).to_string());
            assert!(began.elapsed() < Duration::from_secs(5), "{what} as {name}");
            match opened {
                Err(answer) => {
                    assert_eq!(answer.status, AUDIT_E_LOG, "{what} as {name}");
                    assert!(answer.message().contains(name), "{}", answer.message());
                }
                Ok(logger) => {
                    let entry = logger.log(&record()).expect(AUDIT_OK).entry();
                    let warned = logger.stats()["warnings"].to_string().contains(name);
                    drop(logger);
                    let text = std::fs::read_to_string(&file).expect("UTF-8");
                    let last = text.lines().last().expect("a line");
                    assert_eq!(serde_json::from_str::<Value>(last).ok(), Some(entry));
                    let plain = path
                        .symlink_metadata()
                        .is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1);
                    assert!(
                        plain || warned,
                        "{what} as {name} stays, and nobody is told"
                    );
                }
            }
            let left = std::fs::read_to_string(&other).expect("it's there");
            assert_eq!(left, "another's", "{what} as {name} was written to");
        }
    }
}

const ONCE: Work = Work {
    doings: "lc",
    times: 2,
    threads: 1,
    longest: 100,
    expected: "AUDIT_OK",
};

#[test]
fn a_network_file_system_is_refused_unless_it_is_allowed() {
    if !available("strace") {
        return;
    }
    // What statfs(2) would say of the type, in its bytes.
    for (name, bytes) in [
        ("NFS", "6969000000000000"),
        ("SMB2", "424d53fe00000000"),
        ("9p", "9719020100000000"),
        ("Ceph", "0064c30000000000"),
    ] {
        for allowed in [false, true] {
            let bench = Bench::new(json!({"allow_network_filesystem": allowed}));
            let answered = format!("poke_exit=@arg2={bytes}");
            let output = bench.injected("fstatfs", &answered, ONCE).output();
            let output = output.expect("strace starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), allowed, "{name}: {said}");
            let named = said.contains(&format!("network file system ({name})"));
            assert!(
                allowed || named && said.starts_with("AUDIT_E_LOG"),
                "{said}"
            );
            assert_eq!(entries(&bench.log).len(), if allowed { 2 } else { 0 });
        }
    }
}

#[test]
fn on_a_read_only_root_file_system_the_log_needs_one_writable_directory_and_no_more() {
    let scratch = Scratch::new();
    let (volume, log) = (scratch.join("volume"), scratch.join("volume/log"));
    std::fs::create_dir(&volume).expect("it can be made");
    let bench = Bench::at(scratch, log, json!({}));
    let read_only = |config: &Bench, name: &str| {
        // The test's own directory, and the root; the volume stays as it is.
        let script = "mount --make-rprivate / && mount --bind \"$1\" \"$1\" &&
            mount --bind \"$1/volume\" \"$1/volume\" && mount -o remount,bind,ro \"$1\" &&
            mount -o remount,bind,ro / && shift && exec \"$@\"";
        let worker = config.command(name, ONCE);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(bench.scratch.path())
            .arg(worker.get_program())
            .args(worker.get_args())
            .env_remove("LD_LIBRARY_PATH");
        command.output().expect("unshare starts")
    };
    let output = read_only(&bench, "p");
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare") || said.contains("mount:") {
        return skip("only root can mount a file system");
    }
    assert!(output.status.success(), "{said}");
    assert_eq!(entries(&bench.log).len(), 2);

    let elsewhere = Bench::at(Scratch::new(), bench.scratch.join("log"), json!({}));
    let output = read_only(&elsewhere, "p");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "a log was made there");
    assert!(
        said.starts_with("AUDIT_E_LOG") && said.contains("ead-only"),
        "{said}"
    );
}
