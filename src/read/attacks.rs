//! What somebody who can write the directory may do, and what of it is seen.

use std::fs;
use std::path::Path;

use super::prove::{self, Proved, check};
use super::report::{Class, Report};
use super::testlog::{DAY, NEXT, TestLog, copy};
use super::verify::{Options, verify};
use crate::error::Error;
use crate::error::Status;
use crate::format::note::Signer;
use crate::format::record::{Range, RecordBody};

fn verified(path: &Path, options: &Options) -> Report {
    verify(path, options, &mut |_, _| {}, &|| false).unwrap()
}

fn prove(path: &Path, id: &str) -> Result<Proved, Error> {
    prove::prove(path, id, &prove::Options::default())
}

/// Verifies with nothing from outside.
fn alone(log: &TestLog) -> Report {
    verified(&log.path(), &Options::default())
}

fn guarded(log: &TestLog) -> Options {
    let guard = Some(log.guard());
    Options {
        guard,
        ..Options::default()
    }
}

#[track_caller]
fn assert_intact(report: &Report) {
    assert!(report.intact(), "{:#?}", report.findings);
}

/// The first finding: class, file, line.
#[track_caller]
fn first(report: &Report) -> (Class, &str, u64) {
    let finding = report.findings.first().expect("something was changed");
    (finding.class, &finding.file, finding.line)
}

/// A log of two days whose ranges alternate, with blank lines, records, and an unsealed tail.
fn two_days() -> TestLog {
    let mut log = TestLog::new();
    log.entries(DAY, 100);
    log.append(DAY, b"          \n\n");
    log.seg(DAY);
    log.entries(NEXT, 50);
    log.record(RecordBody::Torn {
        range: Range {
            file: DAY.to_owned(),
            off: 0,
            len: 10,
        },
        sha256: "00".repeat(32),
    });
    log.seal(NEXT);
    log.entries(DAY, 300);
    log.record(RecordBody::Heartbeat);
    log.seg(DAY);
    log.entries(NEXT, 20);
    log.seal(NEXT);
    log
}

/// Changes the lines of a file, which are counted from 1 to the caller, blank ones included.
fn change(log: &TestLog, file: &str, edit: impl FnOnce(&mut Vec<String>)) {
    let path = log.file(file);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    edit(&mut lines);
    fs::write(path, lines.concat()).unwrap();
}

#[test]
fn an_untouched_log_is_intact_and_the_report_counts_what_is_in_it() {
    let mut log = two_days();
    log.entries(NEXT, 3);
    log.append(NEXT, b"{\"torn");
    let report = alone(&log);
    assert_intact(&report);
    assert_eq!((report.lines, report.files), (470, 2));
    assert_eq!((report.unsealed_lines, report.torn_tails), (4, 1));
    assert_eq!((report.torn, report.heartbeats), (1, 1));
    assert_eq!(report.root, log.checkpoint().root);
    assert_eq!(report.grade(), "self-attested");
    assert_eq!(report.blind_spots().len(), 5);

    let options = Options {
        vkey: Some(log.vkey()),
        ..guarded(&log)
    };
    let report = verified(&log.path(), &options);
    assert_intact(&report);
    assert_eq!(report.grade(), "signed, remembered");
    let mut out = Vec::new();
    report.write(&mut out, |_| {});
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["intact"], true);
    assert_eq!(value["lines"], 470);
    assert_eq!(value["cannot_detect"].as_array().unwrap().len(), 4);
}

#[test]
fn every_single_edit_is_named_with_its_line() {
    for line in [1, 2, 50, 100, 103, 250, 402] {
        let log = two_days();
        change(&log, DAY, |lines| {
            lines[line - 1] = lines[line - 1].replace("id", "iD")
        });
        let report = alone(&log);
        assert_eq!(first(&report), (Class::Edited, DAY, line as u64));
        assert_eq!(report.finding_count, 1);
        assert_eq!(report.lines, 469);
    }
}

#[test]
fn every_deletion_is_named_with_its_line() {
    for (line, count) in [
        (1, 1),
        (1, 30),
        (50, 20),
        (99, 2),
        (103, 1),
        (300, 100),
        (402, 1),
    ] {
        let log = two_days();
        change(&log, DAY, |lines| {
            drop(lines.drain(line - 1..line - 1 + count))
        });
        let report = alone(&log);
        let place = match line {
            // Behind the last line left stands a blank one.
            99 => 101,
            _ => line as u64,
        };
        assert_eq!(first(&report), (Class::Deleted, DAY, place));
        assert_eq!(
            (report.finding_count, report.lines),
            (1, 470 - count as u64)
        );
    }
}

#[test]
fn every_insertion_is_named_with_its_line() {
    for (line, count) in [
        (1, 1),
        (1, 10),
        (50, 3),
        (101, 1),
        (103, 1),
        (300, 100),
        (402, 1),
    ] {
        let log = two_days();
        change(&log, DAY, |lines| {
            for number in 0..count {
                lines.insert(line - 1, format!("{{\"id\":\"forged {number}\"}}\n"));
            }
        });
        let report = alone(&log);
        assert_eq!(first(&report), (Class::Inserted, DAY, line as u64));
        assert_eq!((report.finding_count, report.lines), (1, 470));
    }
}

#[test]
fn a_line_put_in_the_place_of_a_blank_one_is_seen() {
    let log = two_days();
    change(&log, DAY, |lines| lines[100] = "{\"id\":123}\n".to_owned());
    assert_eq!(first(&alone(&log)), (Class::Inserted, DAY, 101));

    // And as the last thing that is sealed.
    let mut log = TestLog::new();
    log.entries(DAY, 10);
    log.append(DAY, b"          \n");
    log.seal(DAY);
    assert_intact(&alone(&log));
    change(&log, DAY, |lines| lines[10] = "{\"id\":123}\n".to_owned());
    assert_eq!(first(&alone(&log)), (Class::Inserted, DAY, 11));
}

#[test]
fn blanks_that_were_added_or_removed_are_seen() {
    let log = two_days();
    change(&log, DAY, |lines| drop(lines.remove(100)));
    assert_eq!(first(&alone(&log)).0, Class::Edited);
    let log = two_days();
    change(&log, DAY, |lines| lines.insert(400, "\n".to_owned()));
    assert_eq!(first(&alone(&log)), (Class::Edited, DAY, 403));
}

#[test]
fn every_reordering_is_named_with_its_line() {
    for (one, other) in [(1, 2), (50, 60), (100, 103), (103, 402)] {
        let log = two_days();
        change(&log, DAY, |lines| lines.swap(one - 1, other - 1));
        let report = alone(&log);
        assert_eq!(first(&report), (Class::Reordered, DAY, one as u64));
    }
}

#[test]
fn several_changes_are_all_found() {
    let log = two_days();
    change(&log, DAY, |lines| {
        lines[9] = "{\"id\":\"edited\"}\n".to_owned();
        lines.drain(19..22);
        lines.insert(40, "{\"id\":\"inserted\"}\n".to_owned());
        lines.swap(200, 201);
    });
    let report = alone(&log);
    let classes: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.class)
        .collect();
    assert_eq!(
        classes,
        [
            Class::Edited,
            Class::Deleted,
            Class::Inserted,
            Class::Reordered
        ]
    );
}

#[test]
fn a_file_that_was_cut_is_seen_wherever_the_cut_is() {
    let log = two_days();
    let whole = fs::read(log.file(NEXT)).unwrap();
    for cut in (0..whole.len())
        .step_by(whole.len() / 50)
        .chain([whole.len() - 1])
    {
        fs::write(log.file(NEXT), &whole[..cut]).unwrap();
        let report = alone(&log);
        let (class, file, _) = first(&report);
        assert!(
            matches!(class, Class::Torn | Class::Deleted),
            "{cut}: {class:?}"
        );
        assert_eq!(file, NEXT);
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_line_is_seen() {
    let log = two_days();
    let whole = fs::read(log.file(NEXT)).unwrap();
    for at in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(log.file(NEXT), bytes).unwrap();
        assert!(!alone(&log).intact(), "{at}");
    }
}

#[test]
fn a_file_that_is_gone_is_seen_unless_its_removal_is_sealed() {
    let mut log = two_days();
    fs::remove_file(log.file(DAY)).unwrap();
    let report = alone(&log);
    assert_eq!(first(&report), (Class::Missing, DAY, 0));
    assert_eq!((report.finding_count, report.lines), (1, 70));

    log.record(RecordBody::Expired {
        day: "2026-11-23".to_owned(),
        retention_days: None,
    });
    log.record(RecordBody::Prune {
        file: DAY.to_owned(),
    });
    log.commit();
    log.publish();
    let report = alone(&log);
    assert_intact(&report);
    // What is said to be there as it was sealed is there.
    assert_eq!((report.purged, report.files, report.lines), (1, 1, 70));
}

#[test]
fn a_loss_that_the_logger_found_itself_stays_a_finding() {
    let mut log = two_days();
    let cut = fs::read_to_string(log.file(DAY))
        .unwrap()
        .match_indices('\n')
        .nth(199)
        .unwrap()
        .0
        + 1;
    let length = fs::read(log.file(DAY)).unwrap().len();
    change(&log, DAY, |lines| lines.truncate(200));
    log.forget(DAY, cut as u64);
    let (off, len) = (cut as u64, (length - cut) as u64);
    log.record(RecordBody::Gap(Range {
        file: DAY.to_owned(),
        off,
        len,
    }));
    log.entries(DAY, 30);
    log.seal(DAY);
    let report = alone(&log);
    assert_eq!(first(&report), (Class::Deleted, DAY, 201));
    assert_eq!((report.finding_count, report.gaps), (1, 1));
    assert_eq!(report.lines, 470 - 202 + 30);
}

#[test]
fn a_compressed_day_is_the_day() {
    let log = two_days();
    let bytes = fs::read(log.file(DAY)).unwrap();
    let compress = |bytes: &[u8]| {
        let file = fs::File::create(log.file(&format!("{DAY}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap();
    };
    compress(&bytes);
    fs::remove_file(log.file(DAY)).unwrap();
    let report = alone(&log);
    assert_intact(&report);
    assert_eq!(report.lines, 470);
    compress(&bytes[..bytes.len() - 400]);
    assert!(!alone(&log).intact());
}

#[test]
fn every_flipped_bit_of_the_tree_is_seen() {
    let log = two_days();
    for name in [
        "checkpoint",
        "heads",
        "tile/0/000",
        "tile/0/001",
        "tile/1/000",
        "tile/entries/000",
        "tile/entries/001",
        "vkey",
    ] {
        let path = log.file(&format!(".integrity/{name}"));
        let whole = fs::read(&path).unwrap();
        // Of heads, its last checkpoint; the form of an older one may look torn.
        let from = if name == "heads" {
            whole.len() - 100
        } else {
            0
        };
        for at in (from..whole.len()).step_by(whole.len() / 40 + 1) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let report = verify(&log.path(), &Options::default(), &mut |_, _| {}, &|| false);
            assert!(report.is_err() || !report.unwrap().intact(), "{name} {at}");
        }
        fs::write(&path, whole).unwrap();
    }
    let partial = log.checkpoint().size % 256;
    for kind in ["entries/001", "0/001"] {
        let path = log.file(&format!(".integrity/tile/{kind}.p/{partial}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[40] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(alone(&log).finding_count, 2);
    // Of a partial one, the copy would do: a mirror has no other.
    for name in ["checkpoint", "tile/0/000", "tile/entries/000"] {
        let log = two_days();
        fs::remove_file(log.file(&format!(".integrity/{name}"))).unwrap();
        assert!(!alone(&log).intact(), "{name}");
    }
}

#[test]
fn an_older_copy_is_seen_by_guard_and_kept_checkpoint_and_by_nothing_else() {
    let mut log = two_days();
    let older = log.snapshot();
    log.entries(NEXT, 20);
    log.seal(NEXT);
    let kept = log.guard().with_file_name("kept");
    fs::write(&kept, log.note()).unwrap();
    let checkpoints = Options {
        checkpoints: vec![kept],
        ..Options::default()
    };
    assert_intact(&verified(&log.path(), &guarded(&log)));
    assert_intact(&verified(&log.path(), &checkpoints));

    let report = verified(&older, &Options::default());
    assert_intact(&report);
    assert!(
        report
            .blind_spots()
            .iter()
            .any(|text| text.contains("older copy"))
    );
    assert_eq!(
        first(&verified(&older, &guarded(&log))).0,
        Class::RolledBack
    );
    assert_eq!(first(&verified(&older, &checkpoints)).0, Class::RolledBack);

    // It goes on from there, past the size that is known.
    let _ = fs::remove_dir_all(log.path());
    copy(&older, &log.path());
    let mut forked = TestLog::new();
    forked.entries(DAY, 600);
    forked.seal(DAY);
    assert_eq!(
        first(&verified(&forked.path(), &guarded(&log))).0,
        Class::RolledBack
    );
    assert_eq!(
        first(&verified(&forked.path(), &checkpoints)).0,
        Class::RolledBack
    );
}

#[test]
fn an_older_checkpoint_is_consistent_and_one_of_another_tree_isnt() {
    let mut log = two_days();
    let kept = log.guard().with_file_name("kept");
    fs::write(&kept, log.note()).unwrap();
    log.entries(NEXT, 1000);
    log.seal(NEXT);
    let options = Options {
        checkpoints: vec![kept.clone()],
        ..Options::default()
    };
    assert_intact(&verified(&log.path(), &options));

    let mut other = TestLog::new();
    other.entries(DAY, 100);
    other.seal(DAY);
    fs::write(&kept, other.note()).unwrap();
    assert_eq!(first(&verified(&log.path(), &options)).0, Class::RolledBack);
    fs::write(&kept, "nonsense").unwrap();
    let failure = verify(&log.path(), &options, &mut |_, _| {}, &|| false);
    assert!(matches!(failure, Err(error) if error.status == Status::Argument));
}

#[test]
fn another_guard_than_the_log_s_is_never_remembered() {
    let log = two_days();
    let line = fs::read_to_string(log.guard()).unwrap();
    fs::write(log.file(".integrity/guarded"), "0badc0de\n").unwrap();
    for (text, is_it) in [
        (format!("guard 0badc0de\n{line}"), true),
        (format!("guard 600dc0de\n{line}"), false),
        (line, false),
        (String::new(), false),
    ] {
        fs::write(log.guard(), &text).unwrap();
        let report = verified(&log.path(), &guarded(&log));
        assert_eq!(
            (report.intact(), report.remembered),
            (is_it, u64::from(is_it)),
            "{text}"
        );
        let options = Options {
            vkey: Some(log.vkey()),
            ..guarded(&log)
        };
        let report = verify(&log.path(), &options, &mut |_, _| {}, &|| false);
        let refused = report.is_err_and(|error| error.status == Status::Argument);
        assert_eq!(refused, !is_it, "{text}");
    }
}

#[test]
fn a_crash_between_guard_and_checkpoint_is_no_rollback() {
    let mut log = two_days();
    let heads = fs::read(log.file(".integrity/heads")).unwrap();
    log.entries(NEXT, 20);
    log.seg(NEXT);
    log.commit();
    // Neither is the checkpoint published, nor the head whole.
    fs::write(
        log.file(".integrity/heads"),
        [&heads[..], b"audit.exam"].concat(),
    )
    .unwrap();
    let report = verified(&log.path(), &guarded(&log));
    assert_intact(&report);
    assert_eq!(report.lines, 490);
}

#[test]
fn a_log_signed_anew_is_seen_by_who_has_the_key() {
    let log = two_days();
    let vkey = log.vkey();
    let stranger = Signer::from_seed("audit.example/test-4f1c", &[8; 32]).unwrap();
    let note = stranger.sign(&log.checkpoint().to_string());
    fs::write(log.file(".integrity/vkey"), stranger.verifier().to_string()).unwrap();
    fs::write(log.file(".integrity/checkpoint"), &note).unwrap();
    fs::write(log.file(".integrity/heads"), &note).unwrap();
    let report = alone(&log);
    assert_intact(&report);
    assert!(report.blind_spots()[0].contains("another key"));
    let options = Options {
        vkey: Some(vkey),
        ..Options::default()
    };
    let report = verified(&log.path(), &options);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.class == Class::Forged)
    );
}

#[test]
fn a_directory_without_a_tree_has_no_verdict() {
    let log = two_days();
    fs::remove_dir_all(log.file(".integrity")).unwrap();
    let failure = verify(&log.path(), &Options::default(), &mut |_, _| {}, &|| false);
    assert!(matches!(failure, Err(error) if error.status == Status::NotFound));
    let options = Options {
        vkey: Some(log.vkey()),
        ..guarded(&log)
    };
    let report = verified(&log.path(), &options);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.class == Class::RolledBack)
    );
}

#[test]
fn verifying_can_be_cancelled() {
    let log = two_days();
    let cancelled = verify(&log.path(), &Options::default(), &mut |_, _| {}, &|| true);
    assert!(matches!(cancelled, Err(error) if error.status == Status::Cancelled));
}

#[test]
fn a_log_of_many_tiles_and_more_days_than_are_kept_open_verifies() {
    let mut log = TestLog::new();
    let days: Vec<_> = (1..=20)
        .map(|day| format!("audit_2026-10-{day:02}.jsonl"))
        .collect();
    for round in 0..4 {
        for day in &days {
            log.entries(day, 880 + round);
            log.seg(day);
        }
        log.commit();
    }
    log.publish();
    assert!(log.checkpoint().size > 70_000);
    let mut last = 0;
    let report = verify(
        &log.path(),
        &guarded(&log),
        &mut |done, total| {
            assert!(done > last && done <= total);
            last = done;
        },
        &|| false,
    )
    .unwrap();
    assert_intact(&report);
    assert_eq!((report.lines, report.files), (70_520, 20));
    change(&log, &days[7], |lines| drop(lines.remove(1999)));
    let report = alone(&log);
    assert_eq!(first(&report), (Class::Deleted, &days[7][..], 2000));
    assert_eq!(report.finding_count, 1);
}

#[test]
fn a_proof_holds_for_its_line_and_for_nothing_else() {
    let mut log = two_days();
    let id = log.entries(NEXT, 700);
    log.entries(NEXT, 300);
    let unsealed = prove(&log.path(), &id);
    assert!(matches!(unsealed, Err(error) if error.status == Status::NotFound));
    log.seal(NEXT);
    let proved = prove(&log.path(), &id).unwrap();
    assert_eq!(proved.file, NEXT);
    let checked = check(&proved.line, &proved.proof, &log.vkey()).unwrap();
    assert_eq!(checked.index, proved.index);
    assert_eq!(checked.checkpoint, log.checkpoint());

    for at in 0..proved.line.len() {
        let mut line = proved.line.clone();
        line[at] ^= 1;
        assert!(check(&line, &proved.proof, &log.vkey()).is_err());
    }
    for at in 0..proved.proof.len() {
        let mut proof = proved.proof.clone().into_bytes();
        proof[at] ^= 1;
        let Ok(proof) = String::from_utf8(proof) else {
            continue;
        };
        assert!(check(&proved.line, &proof, &log.vkey()).is_err(), "{at}");
    }
    assert!(matches!(
        prove(&log.path(), "no such id"),
        Err(error) if error.status == Status::NotFound
    ));
    change(&log, NEXT, |lines| {
        lines[769] = lines[769].replace("id", "i d")
    });
    assert!(matches!(
        prove(&log.path(), &id),
        Err(error) if error.status == Status::NotFound
    ));
}

/// Writes a log for the verifiers of others: into the directory that AUDIT_TEST_LOG names, with
/// AUDIT_TEST_ENTRIES entries (70,000 if it isn't set) of two days, a proof and its line.
#[test]
#[ignore = "writes where it is told to"]
fn write_a_log() {
    let root = std::env::var_os("AUDIT_TEST_LOG").expect("AUDIT_TEST_LOG names a directory");
    let count = std::env::var("AUDIT_TEST_ENTRIES").map_or(70_000, |count| count.parse().unwrap());
    let root = Path::new(&root);
    let mut log = TestLog::at(root);
    let mut id = String::new();
    for _ in 0..10 {
        id = log.entries(DAY, count / 20);
        log.seg(DAY);
        log.entries(NEXT, count / 20);
        log.seg(NEXT);
        log.commit();
    }
    log.publish();
    fs::write(root.join("vkey"), format!("{}\n", log.vkey())).unwrap();
    let proved = prove(&log.path(), &id).unwrap();
    fs::write(root.join("entry.json"), proved.line).unwrap();
    fs::write(root.join("entry.tlog-proof"), proved.proof).unwrap();
}

/// Verifies the log that AUDIT_TEST_LOG names, and says how long it took.
#[test]
#[ignore = "measures"]
fn measure_verify() {
    let root = std::env::var_os("AUDIT_TEST_LOG").expect("AUDIT_TEST_LOG names a directory");
    let start = std::time::Instant::now();
    let report = verified(&Path::new(&root).join("log"), &Options::default());
    println!("{:?} for {} lines", start.elapsed(), report.lines);
    assert_intact(&report);
}
