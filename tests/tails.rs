//! Torn tails, and files and rights that aren't as the library left them.

mod support;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Logger, record};
use support::{Scratch, entries, last_file};

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
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = logger.log(&record()).expect(AUDIT_OK);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while entries(&log).len() < 2 {
        assert!(std::time::Instant::now() < until, "the first line is lost");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
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
