//! Trees at the far end: what a log has recorded counts there as elsewhere, and nothing that somebody put in the place
//! of a tree's file is taken for what was sealed.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::far::{self, Came, Sealed};
use super::report::{Class, Report};
use super::testlog::{DAY, NEXT, TestLog};
use super::verify::{Options, verify};
use crate::error::{Error, Status};
use crate::format::merkle::Hash;
use crate::format::record::{Range, RecordBody};
use crate::fuzzing::Random;

const GONE: &str = "audit_2026-11-20.jsonl";

fn added(log: &TestLog) -> (Sealed, Result<Report, Error>) {
    let options = Options {
        vkey: Some(log.vkey()),
        copy: true,
        ..Options::default()
    };
    let mut sealed = Sealed::default();
    let keys = sealed.keys();
    let read = far::read(&log.path(), &options, &keys, &mut |_, _| {}, &|| false);
    let report = read.and_then(|read| sealed.add(read));
    sealed.sort();
    (sealed, report)
}

fn digests(sealed: &Sealed) -> Vec<Hash> {
    let mut digests = Vec::new();
    let each = sealed.each(0, &|| false, &mut |place| digests.push(place.digest));
    each.expect("the tree can be read again");
    digests
}

fn range(file: &str) -> Range {
    Range {
        file: file.to_owned(),
        off: 0,
        len: 1,
    }
}

/// A record of each kind that tells of something, but for those that a log at rest can't have.
fn every_record(log: &mut TestLog) {
    let sha256 = "0".repeat(64);
    for body in [
        RecordBody::Torn {
            range: range(DAY),
            sha256: sha256.clone(),
        },
        RecordBody::Altered {
            range: range(DAY),
            sha256,
        },
        RecordBody::Heartbeat,
        RecordBody::Expired {
            day: "2026-11-20".into(),
            retention_days: Some(1),
        },
        RecordBody::Prune { file: GONE.into() },
        RecordBody::Hold {
            from: "2026-11-23".into(),
            to: "2026-11-23".into(),
            reason: "a case".into(),
        },
        RecordBody::Hold {
            from: "2026-11-24".into(),
            to: "2026-11-24".into(),
            reason: "another".into(),
        },
        RecordBody::Release {
            hold: log.checkpoint().size + 5,
            reason: "over".into(),
        },
        RecordBody::Recovered(range(NEXT)),
        RecordBody::Rollback {
            size: 7,
            root: [0; 32],
        },
        RecordBody::Dispute {
            witness: "w+00000000+AAAA".into(),
            size: 9,
            known: 7,
        },
    ] {
        log.record(body);
    }
}

#[test]
fn what_a_log_has_recorded_counts_as_it_does_where_the_log_is() {
    let mut log = TestLog::new();
    log.entries(DAY, 3);
    log.seg(DAY);
    every_record(&mut log);
    log.entries(NEXT, 2);
    log.seal(NEXT);
    let (sealed, report) = added(&log);
    let far = report.expect("the tree can be read");
    let near = verify(&log.path(), &Options::default(), &mut |_, _| {}, &|| false);
    let near = near.expect("there is a verdict");
    let counts = |report: &Report| {
        [
            report.torn,
            report.purged,
            report.below_floor,
            report.released,
            report.gaps,
            report.recovered,
            report.rollbacks,
            report.disputes,
            report.heartbeats,
        ]
    };
    assert_eq!(counts(&far), [1, 1, 1, 1, 0, 1, 1, 1, 1]);
    assert_eq!(counts(&far), counts(&near));
    assert_eq!(far.holds, near.holds);
    assert_eq!(
        (&far.begun, &far.last_record),
        (&near.begun, &near.last_record)
    );
    // Lines are lines, and records aren't.
    assert_eq!((sealed.lines(), far.size), (5, near.size));
    assert_eq!(digests(&sealed).len(), 5);
    // What no log should have to record is found; the tree stands for its lines all the same.
    let classes = |report: &Report| -> Vec<Class> {
        report.findings.iter().map(|found| found.class).collect()
    };
    assert_eq!(classes(&far), [Class::Edited, Class::RolledBack]);
    assert_eq!(classes(&far), classes(&near));
    assert!(sealed.is_genuine(0));
}

#[test]
fn a_gap_is_told_of_and_what_was_sealed_in_it_is_still_asked_for() {
    let mut log = TestLog::new();
    log.entries(DAY, 3);
    log.seg(DAY);
    log.record(RecordBody::Gap(range(DAY)));
    log.commit();
    let (sealed, report) = added(&log);
    let report = report.expect("the tree can be read");
    assert_eq!((report.gaps, report.intact()), (1, true));
    assert_eq!((sealed.lines(), digests(&sealed).len()), (3, 3));
}

#[test]
fn lines_of_a_file_that_retention_removed_are_known_and_not_asked_for() {
    let mut log = TestLog::new();
    log.entries(GONE, 3);
    log.seg(GONE);
    log.record(RecordBody::Prune { file: GONE.into() });
    log.entries(DAY, 2);
    log.seal(DAY);
    let (mut sealed, _) = added(&log);
    assert_eq!((sealed.lines(), digests(&sealed).len()), (5, 2));
    let keys = sealed.keys();
    for digest in digests(&sealed) {
        assert_eq!(sealed.take(keys.print(&digest)), Came::First);
        assert_eq!(sealed.take(keys.print(&digest)), Came::Again);
    }
    assert_eq!(sealed.take(keys.print(&[0; 32])), Came::Unknown);
}

#[test]
fn a_tree_that_contradicts_itself_is_refused_where_it_does() {
    type Grow = fn(&mut TestLog);
    let cases: [(Grow, &str); 3] = [
        (
            |log| log.digest(&[1; 32]),
            "entry 1 is a digest that no seg",
        ),
        (
            |log| {
                log.entries(DAY, 2);
                log.seg_of(DAY, 3);
                log.record(RecordBody::Heartbeat);
            },
            "entry 4 stands within a seg",
        ),
        (
            |log| {
                log.entries(DAY, 2);
                log.seg_of(DAY, 3);
            },
            "it ends within a seg",
        ),
    ];
    for (grow, wanted) in cases {
        let mut log = TestLog::new();
        grow(&mut log);
        log.commit();
        let (sealed, report) = added(&log);
        let error = report.expect_err(wanted);
        assert_eq!(error.status, Status::Tampered, "{wanted}");
        assert!(error.message.contains(wanted), "{}", error.message);
        assert!(error.message.contains(&log.path().display().to_string()));
        assert_eq!(sealed.lines(), 0, "{wanted}");
    }
}

/// Adds a log in which a file was changed. Whatever it holds: there is an error that says where, a finding, or nothing
/// that wasn't sealed.
fn check(log: &TestLog, name: &str, bytes: &[u8], genuine: &HashSet<Hash>) {
    fs::write(log.file(name), bytes).expect("there's room");
    let (sealed, report) = added(log);
    let kept: u64 = fs::read_dir(log.file(".integrity/tile/entries"))
        .expect("it can be read")
        .filter_map(|item| Some(item.ok()?.metadata().ok()?.len()))
        .sum();
    assert!(
        sealed.lines() <= kept / 34,
        "more lines than the tiles hold"
    );
    match report {
        Err(error) => {
            let places = [".integrity", "tile/", "entry ", "checkpoint", "vkey"];
            let says = |place: &&str| error.message.contains(*place);
            assert!(places.iter().any(says), "{}", error.message);
        }
        Ok(_) if sealed.is_genuine(0) => {
            assert!(
                digests(&sealed)
                    .iter()
                    .all(|digest| genuine.contains(digest))
            );
        }
        Ok(report) => assert!(report.verdict().is_err()),
    }
}

#[test]
fn no_cut_and_no_change_of_a_tree_s_file_is_taken_for_what_was_sealed() {
    let mut log = TestLog::new();
    for _ in 0..3 {
        log.entries(DAY, 100);
        log.seal(DAY);
    }
    every_record(&mut log);
    log.entries(NEXT, 20);
    log.seal(NEXT);
    let (sealed, report) = added(&log);
    report.expect("the tree can be read");
    let genuine: HashSet<Hash> = digests(&sealed).into_iter().collect();
    let tile = ".integrity/tile/entries";
    let tiles = ["000", "001"].map(|tile_name| format!("{tile}/{tile_name}"));
    let others = ["heads", "checkpoint", "vkey", "recent"].map(|name| format!(".integrity/{name}"));
    for (name, seed) in tiles.iter().chain(&others).zip(1..) {
        let whole = fs::read(log.file(name)).unwrap_or_default();
        let mut inputs: Vec<Vec<u8>> = Vec::new();
        // Every cut of what is short, and some of what is long.
        let step = (whole.len() / 60).max(1);
        inputs.extend(
            (0..whole.len())
                .step_by(step)
                .map(|at| whole[..at].to_vec()),
        );
        let mut random = Random::new(seed);
        for _ in 0..120 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() + 1);
                match random.below(4) {
                    0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                    1 => drop(bytes.splice(at..at, *b"\xff\xff")),
                    2 => drop(bytes.drain(at..(at + random.below(100)).min(bytes.len()))),
                    _ => {
                        let from = random.below(bytes.len() + 1);
                        let piece =
                            bytes[from..(from + random.below(300)).min(bytes.len())].to_vec();
                        drop(bytes.splice(at..at, piece));
                    }
                }
            }
            inputs.push(bytes);
        }
        for input in inputs {
            let checked = || check(&log, name, &input, &genuine);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(checked)) {
                eprintln!("{name}: {:?}", String::from_utf8_lossy(&input));
                resume_unwind(panic);
            }
        }
        match whole.is_empty() {
            true => fs::remove_file(log.file(name)).expect("it was written"),
            false => fs::write(log.file(name), &whole).expect("there's room"),
        }
    }
    assert!(added(&log).0.is_genuine(0), "all is as it was");
}
