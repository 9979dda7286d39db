//! What lies in a directory that shouldn't, what can't be read, and what changes while it is read.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use super::hashed::Queue;
use super::prove::{self, check, prove_in};
use super::report::{Class, Report};
use super::source::memory::{InMemory, Node};
use super::source::{Files, Plain};
use super::testlog::{DAY, NEXT, TestLog, gzip};
use super::verify::{Options, verify, verify_in};
use crate::error::{Error, Status};
use crate::format::recent::encode;
use crate::format::record::RecordBody;
use crate::format::tiles::{WIDTH, entries, entries_len};

fn try_verify(files: &dyn Files) -> Result<Report, Error> {
    let queue = Queue::default();
    verify_in(
        files,
        &Options::default(),
        &mut |_, _| {},
        &|| false,
        &queue,
    )
}

#[track_caller]
fn verified(files: &dyn Files) -> Report {
    try_verify(files).unwrap()
}

#[track_caller]
fn assert_intact(report: &Report) {
    assert!(report.intact(), "{:#?}", report.findings);
}

/// All findings: class and file.
fn found(report: &Report) -> Vec<(Class, &str)> {
    let of = |finding: &'_ super::report::Finding| (finding.class, finding.file.clone());
    assert_eq!(report.finding_count as usize, report.findings.len());
    report
        .findings
        .iter()
        .map(|finding| (of(finding).0, &finding.file[..]))
        .collect()
}

/// A log of 100 entries of one day and 60 of the next.
fn two_days() -> TestLog {
    let mut log = TestLog::new();
    log.entries(DAY, 100);
    log.seg(DAY);
    log.entries(NEXT, 50);
    log.seal(NEXT);
    log.entries(NEXT, 10);
    log.seal(NEXT);
    log
}

fn put(memory: &mut InMemory, name: &str, bytes: impl Into<Vec<u8>>) {
    memory.0.insert(name.to_owned(), Node::File(bytes.into()));
}

fn get(memory: &InMemory, name: &str) -> Vec<u8> {
    match &memory.0[name] {
        Node::File(bytes) => bytes.clone(),
        other => panic!("{name} is {other:?}"),
    }
}

/// The day compressed.
fn compress(memory: &mut InMemory, name: &str) -> Vec<u8> {
    let bytes = gzip(&get(memory, name));
    memory.0.remove(name);
    put(memory, &format!("{name}.gz"), &bytes[..]);
    bytes
}

fn pruned(log: &mut TestLog, file: &str) {
    log.record(RecordBody::Prune {
        file: file.to_owned(),
    });
    log.commit();
    log.publish();
}

// ---------------------------------------------------------------- what can't be read

#[test]
fn a_sealed_day_that_cant_be_read_is_named_and_the_rest_is_verified() {
    let log = two_days();
    let zipped = format!("{DAY}.gz");
    let whole = gzip(&get(&log.memory(), DAY));
    let damaged: Vec<(&str, Node)> = vec![
        (&zipped, Node::File(Vec::new())),
        (&zipped, Node::File(whole[..whole.len() / 2].to_vec())),
        (&zipped, Node::File(whole[..whole.len() - 1].to_vec())),
        (&zipped, Node::File(b"no gzip".to_vec())),
        (&zipped, Node::File([&whole[..], b"garbage"].concat())),
        (&zipped, Node::Other),
        (DAY, Node::Other),
        (DAY, Node::Broken(get(&log.memory(), DAY), 3000)),
        (&zipped, Node::Broken(whole.clone(), 300)),
    ];
    for (name, node) in damaged {
        let mut memory = log.memory();
        memory.0.remove(DAY);
        let what = format!("{name}: {node:?}");
        memory.0.insert(name.to_owned(), node);
        let report = verified(&memory);
        assert_eq!(found(&report), [(Class::Unreadable, DAY)], "{what}");
        assert!(report.lines >= 60, "{what}");
        let verdict = report.verdict().unwrap_err();
        assert_eq!(verdict.status, Status::Tampered);
        assert!(verdict.message.contains(DAY), "{}", verdict.message);
    }
    // One byte flipped anywhere: the digest of the whole stands at its end.
    for at in (10..whole.len()).step_by(97) {
        let mut memory = log.memory();
        memory.0.remove(DAY);
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let report = verified(&memory);
        assert!(!report.intact(), "{at}");
        assert!(
            report.findings.iter().all(|found| found.file == DAY),
            "{:?}",
            report.findings
        );
        assert!(report.lines >= 60, "{at}");
    }
}

#[test]
fn fifos_links_and_directories_in_a_day_s_place_hold_nobody_up() {
    type Make<'m> = &'m dyn Fn(&std::path::Path);
    let makes: [Make; 4] = [
        &|path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        },
        &|path| symlink("/dev/zero", path).unwrap(),
        &|path| symlink("/no/such/file", path).unwrap(),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for make in makes {
        for name in [DAY, ".integrity/checkpoint", ".integrity/heads"] {
            let log = two_days();
            fs::remove_file(log.file(name)).unwrap();
            make(&log.file(name));
            let report = verify(&log.path(), &Options::default(), &mut |_, _| {}, &|| false);
            let report = report.unwrap();
            assert_eq!(found(&report), [(Class::Unreadable, name)]);
            assert!(report.lines >= 60);
        }
    }
}

#[test]
fn a_day_that_never_was_sealed_and_cant_be_read_is_named_and_is_no_finding() {
    let log = two_days();
    for node in [Node::Other, Node::Broken(b"{}\n{}\n".to_vec(), 3)] {
        let mut memory = log.memory();
        let name = "audit_2026-11-25.jsonl";
        memory.0.insert(name.to_owned(), node);
        let report = verified(&memory);
        assert_intact(&report);
        assert_eq!((report.lines, report.unreadable.count), (160, 1));
        assert_eq!(report.unreadable.kept[0].file, name);
    }
}

#[test]
fn files_of_the_tree_that_cant_be_read_are_findings_and_the_days_are_compared() {
    let mut log = two_days();
    log.entries(NEXT, 400);
    log.seal(NEXT);
    for name in ["heads", "checkpoint", "vkey", "tile/0/000", "tile/0/002"] {
        for node in [Node::Other, Node::Broken(b"x".to_vec(), 0)] {
            let mut memory = log.memory();
            memory.0.insert(format!(".integrity/{name}"), node);
            let report = verified(&memory);
            assert!(!report.intact(), "{name}");
            assert_eq!(report.lines, 560, "{name}: {:#?}", report.findings);
        }
    }
    let mut memory = log.memory();
    for name in ["heads", "checkpoint"] {
        memory.0.insert(format!(".integrity/{name}"), Node::Other);
    }
    let report = verified(&memory);
    assert_eq!((report.finding_count, report.lines), (2, 560));
    let mut memory = log.memory();
    memory.0.remove(".integrity/vkey");
    let report = verified(&memory);
    assert_eq!(found(&report), [(Class::Unreadable, ".integrity/vkey")]);
}

#[test]
fn lines_whose_entries_are_lost_hide_no_others() {
    let mut log = TestLog::new();
    for _ in 0..10 {
        log.entries(DAY, 100);
        log.seal(DAY);
    }
    let mut memory = log.memory();
    memory.0.remove(".integrity/tile/entries/001");
    let report = verified(&memory);
    assert_eq!(found(&report), [(Class::Tree, ".integrity")]);
    assert!(report.lines > 600, "{}", report.lines);
    // And a change behind them is found.
    let text = String::from_utf8(get(&memory, DAY)).unwrap();
    put(&mut memory, DAY, text.replace(":950,", ":951,"));
    assert!(found(&verified(&memory)).contains(&(Class::Edited, DAY)));
}

#[test]
fn verifying_can_be_cancelled_inside_a_line() {
    let log = two_days();
    let zeros = gzip(&vec![0; 64 << 20]);
    for (name, node) in [
        ("audit_2026-11-25.jsonl.gz", Node::File(zeros)),
        ("audit_2026-11-25.jsonl", Node::File(vec![b' '; 64 << 20])),
    ] {
        let mut memory = log.memory();
        memory.0.insert(name.to_owned(), node);
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 100
        };
        let queue = Queue::default();
        let ended = verify_in(&memory, &Options::default(), &mut |_, _| {}, &stop, &queue);
        assert!(matches!(ended, Err(error) if error.status == Status::Cancelled));
        assert!(asked.get() < 110);
    }
}

// ---------------------------------------------------------------- what has come back

#[test]
fn a_day_that_was_removed_by_retention_cant_come_back() {
    let mut log = two_days();
    let whole = log.memory();
    let day = get(&whole, DAY);
    pruned(&mut log, DAY);
    let mut memory = log.memory();
    memory.0.remove(DAY);
    let report = verified(&memory);
    assert_intact(&report);
    assert_eq!((report.purged, report.prunable), (1, 0));
    for (name, bytes) in [
        (DAY.to_owned(), b"{\"id\":\"forged\"}\n".to_vec()),
        (DAY.to_owned(), day[..day.len() / 2].to_vec()),
        (
            DAY.to_owned(),
            [&day[..], b"{\"id\":\"forged\"}\n"].concat(),
        ),
        (format!("{DAY}.gz"), gzip(b"{\"id\":\"forged\"}\n")),
    ] {
        let mut memory = memory.clone();
        put(&mut memory, &name, bytes);
        let report = verified(&memory);
        assert_eq!(found(&report), [(Class::Returned, DAY)]);
        assert_eq!(report.unsealed_lines, 0);
    }
    let mut forged = memory.clone();
    forged.0.insert(DAY.to_owned(), Node::Other);
    assert!(!verified(&forged).intact());
    // Nor by sealing what was put there.
    fs::remove_file(log.file(DAY)).unwrap();
    log.forget(DAY, 0);
    log.entries(DAY, 5);
    log.seal(DAY);
    assert_eq!(found(&verified(&log.memory())), [(Class::Returned, DAY)]);
}

#[test]
fn a_removal_that_was_killed_before_the_file_was_gone_is_none() {
    let mut log = two_days();
    pruned(&mut log, DAY);
    for compressed in [false, true] {
        let mut memory = log.memory();
        if compressed {
            compress(&mut memory, DAY);
        }
        let report = verified(&memory);
        assert_intact(&report);
        assert_eq!((report.purged, report.prunable), (1, 1));
    }
    // The next run does it again.
    pruned(&mut log, DAY);
    let mut memory = log.memory();
    memory.0.remove(DAY);
    assert_intact(&verified(&memory));
}

// ---------------------------------------------------------------- what a reader's glob finds

#[test]
fn a_compressed_twin_is_what_the_plain_file_holds_or_a_finding() {
    let log = two_days();
    let day = get(&log.memory(), DAY);
    let zipped = format!("{DAY}.gz");
    // Killed between making the one and removing the other; before that, a line came late.
    let head = day.len() - day.iter().rev().skip(1).position(|b| *b == b'\n').unwrap() - 1;
    for twin in [&day[..], &day[..head]] {
        let mut memory = log.memory();
        put(&mut memory, &zipped, gzip(twin));
        let report = verified(&memory);
        assert_intact(&report);
        assert_eq!((report.lines, report.unsealed_lines), (160, 0));
    }
    // An empty plain file was made a moment too late.
    let mut memory = log.memory();
    put(&mut memory, &zipped, gzip(&day));
    put(&mut memory, DAY, "");
    let report = verified(&memory);
    assert_intact(&report);
    assert_eq!(report.lines, 160);
    let (class, zipped) = (Class::Twin, &zipped[..]);
    for (twin, class) in [
        (gzip(b"{\"id\":\"forged\"}\n"), class),
        (gzip(&[&day[..], b"{\"id\":\"forged\"}\n"].concat()), class),
        (Vec::new(), Class::Unreadable),
        (gzip(&day)[..100].to_vec(), Class::Unreadable),
    ] {
        let mut memory = log.memory();
        put(&mut memory, zipped, twin);
        let report = verified(&memory);
        assert_eq!(found(&report), [(class, zipped)]);
        assert_eq!(report.lines, 160);
    }
    let mut memory = log.memory();
    put(&mut memory, zipped, gzip(&day));
    memory.0.insert(DAY.to_owned(), Node::Other);
    let report = verified(&memory);
    assert_eq!(found(&report), [(Class::Unreadable, DAY)]);
    assert_eq!(report.lines, 160);
}

#[test]
fn names_that_are_nobody_s_are_listed_and_a_renamed_day_is_told_from_a_lost_one() {
    let log = two_days();
    let mut memory = log.memory();
    let names = [
        "audit_2026-11-23.01.jsonl",
        "audit_2026-11-23.jsonl.bak",
        "audit_x.jsonl",
    ];
    for name in names {
        put(&mut memory, name, "{\"id\":\"forged\"}\n");
    }
    put(&mut memory, "other.jsonl", "{}\n");
    let report = verified(&memory);
    assert_intact(&report);
    assert_eq!(
        (report.stranger_count, &report.strangers[..]),
        (3, &names.map(str::to_owned)[..])
    );
    for (name, zipped) in [
        (format!("{DAY}.1"), false),
        (format!("{DAY}-20261124"), false),
        (format!("{DAY}.1.gz"), true),
    ] {
        let mut memory = memory.clone();
        let day = get(&memory, DAY);
        memory.0.remove(DAY);
        put(
            &mut memory,
            &name,
            if zipped { gzip(&day) } else { day.clone() },
        );
        let report = verified(&memory);
        assert_eq!(found(&report), [(Class::Missing, DAY)]);
        assert!(
            report.findings[0]
                .message
                .contains(&format!("{name} holds them"))
        );
        // Another file of such a name doesn't hold them.
        put(&mut memory, &name, [&day[..day.len() - 2], b"\n"].concat());
        let report = verified(&memory);
        assert!(!report.findings[0].message.contains("holds"));
    }
}

#[test]
fn a_line_that_takes_a_sealed_entry_s_id_is_reported_and_a_twin_isnt() {
    let log = two_days();
    let next = get(&log.memory(), NEXT);
    let line = next.split_inclusive(|byte| *byte == b'\n').nth(20).unwrap();
    let forged = String::from_utf8_lossy(line).replace("prompt", "PROMPT");
    for (name, more) in [
        (NEXT.to_owned(), next.clone()),
        (NEXT.replace(".jsonl", ".1.jsonl"), Vec::new()),
    ] {
        let mut memory = log.memory();
        put(&mut memory, &name, [&more[..], line].concat());
        let report = verified(&memory);
        assert_intact(&report);
        assert_eq!(report.conflicts.count, 0);
        put(&mut memory, &name, [&more[..], forged.as_bytes()].concat());
        let report = verified(&memory);
        assert_intact(&report);
        assert_eq!(
            (report.conflicts.count, &report.conflicts.kept[0].file),
            (1, &name)
        );
        assert!(report.conflicts.kept[0].message.contains("line 21 of"));
    }
}

// ---------------------------------------------------------------- what changes meanwhile

/// A directory that is another from some opening on.
struct Changing {
    now: RefCell<InMemory>,
    then: InMemory,
    left: Cell<usize>,
}

impl Changing {
    fn tick(&self) {
        match self.left.get() {
            0 => *self.now.borrow_mut() = self.then.clone(),
            left => self.left.set(left - 1),
        }
    }
}

impl Files for Changing {
    fn names(&self, take: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.tick();
        self.now.borrow().names(take)
    }

    fn names_in(&self, path: &str, take: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
        self.tick();
        self.now.borrow().names_in(path, take)
    }

    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Plain>>> {
        self.tick();
        self.now.borrow().open(path)
    }
}

/// Verifies while one directory becomes another at every step, and proves likewise.
fn at_every_step(before: &InMemory, after: &InMemory, id: &str) {
    for step in 0.. {
        let changing = || Changing {
            now: RefCell::new(before.clone()),
            then: after.clone(),
            left: Cell::new(step),
        };
        let files = changing();
        let report = verified(&files);
        assert!(report.intact(), "at step {step}: {:#?}", report.findings);
        let proved = prove_in(&changing(), id, &prove::Options::default());
        assert!(proved.is_ok(), "at step {step}: {proved:?}");
        if files.left.get() > 0 {
            break;
        }
    }
}

#[test]
fn maintenance_and_writers_beside_it_are_never_taken_for_tampering() {
    let mut log = two_days();
    let id = log.entries(NEXT, 300);
    log.seal(NEXT);
    let before = log.memory();

    let mut both = before.clone();
    put(&mut both, &format!("{DAY}.gz"), gzip(&get(&before, DAY)));
    let mut compressed = before.clone();
    compress(&mut compressed, DAY);
    at_every_step(&before, &both, &id);
    at_every_step(&both, &compressed, &id);
    at_every_step(&before, &compressed, &id);

    log.record(RecordBody::Expired {
        day: "2026-11-23".to_owned(),
        retention_days: None,
    });
    pruned(&mut log, DAY);
    let announced = log.memory();
    let mut removed = announced.clone();
    removed.0.remove(DAY);
    at_every_step(&before, &announced, &id);
    at_every_step(&announced, &removed, &id);
    at_every_step(&before, &removed, &id);
    at_every_step(&compressed, &removed, &id);

    log.entries(NEXT, 300);
    log.seal(NEXT);
    at_every_step(&before, &log.memory(), &id);
    let mut grown = log.memory();
    grown.0.remove(DAY);
    at_every_step(&before, &grown, &id);
    // Only what the tree says is gone may be.
    grown.0.remove(NEXT);
    let files = Changing {
        now: RefCell::new(before),
        then: grown,
        left: Cell::new(3),
    };
    assert!(found(&verified(&files)).contains(&(Class::Missing, NEXT)));
}

// ---------------------------------------------------------------- tiles that aren't settled

/// The same log with the entries from `base` on in `recent`, and in no tile.
fn unsettled(memory: &InMemory, base: u64, frame: usize) -> InMemory {
    let mut memory = memory.clone();
    let mut all: Vec<Vec<u8>> = Vec::new();
    for number in 0.. {
        let Some(Node::File(tile)) = memory
            .0
            .get(&format!(".integrity/tile/entries/{number:03}"))
        else {
            break;
        };
        all.extend(entries(tile).map(<[u8]>::to_vec));
    }
    let mut recent = Vec::new();
    let mut first = base;
    for some in all[base as usize..].chunks(frame) {
        let whole = |entry: &Vec<u8>| [&(entry.len() as u16).to_be_bytes(), &entry[..]].concat();
        let bytes: Vec<u8> = some.iter().flat_map(whole).collect();
        recent.extend(encode(first, &bytes).unwrap());
        first += some.len() as u64;
    }
    put(&mut memory, ".integrity/recent", recent);
    let paths: Vec<String> = memory.0.keys().cloned().collect();
    for path in paths {
        let mut parts = path
            .strip_prefix(".integrity/tile/")
            .into_iter()
            .flat_map(|p| p.split('/'));
        let (Some(kind), Some(number)) = (parts.next(), parts.next()) else {
            continue;
        };
        if number.contains(".p") || parts.next().is_some() {
            memory.0.remove(&path);
            continue;
        }
        let number: u64 = number.parse().unwrap();
        let bytes = get(&memory, &path);
        let kept = match kind {
            "entries" => {
                let width = base.saturating_sub(number * WIDTH).min(WIDTH);
                entries_len(&bytes, width).unwrap_or(bytes.len())
            }
            level => {
                let settled = base >> (8 * level.parse::<u32>().unwrap());
                (settled.saturating_sub(number * WIDTH) as usize * 32).min(bytes.len())
            }
        };
        match kept {
            0 => drop(memory.0.remove(&path)),
            kept => put(&mut memory, &path, &bytes[..kept]),
        }
    }
    memory
}

#[test]
fn entries_whose_tiles_arent_settled_are_read_from_recent() {
    let mut log = two_days();
    let id = log.entries(NEXT, 700);
    log.seal(NEXT);
    let whole = log.memory();
    let size = log.checkpoint().size;
    for base in [0, 1, 100, 255, 256, 300, 511, 512, 700, size - 1] {
        for frame in [1, 100, 2000] {
            let memory = unsettled(&whole, base, frame);
            let report = verified(&memory);
            assert_intact(&report);
            assert_eq!((report.lines, report.root), (860, log.checkpoint().root));
            assert!(report.unsettled > 0);
            let proved = prove_in(&memory, &id, &prove::Options::default()).unwrap();
            assert!(check(&proved.line, &proved.proof, &log.vkey()).is_ok());

            // Stale bytes where they are to be written again are nobody's.
            let mut stale = memory.clone();
            let path = ".integrity/tile/0/002";
            let mut bytes = stale.0.get(path).map_or(Vec::new(), |_| get(&memory, path));
            bytes.extend([7; 64]);
            put(&mut stale, path, bytes);
            assert_intact(&verified(&stale));

            // An edit is found all the same.
            let text = String::from_utf8(get(&memory, NEXT)).unwrap();
            let mut edited = memory.clone();
            put(&mut edited, NEXT, text.replace(":850,", ":851,"));
            assert_eq!(found(&verified(&edited)), [(Class::Edited, NEXT)]);

            // Without it, what it holds is missed.
            let mut lost = memory.clone();
            lost.0.remove(".integrity/recent");
            assert!(!verified(&lost).intact());
        }
    }
}

#[test]
fn a_wrong_recent_hides_nothing_and_costs_nothing_where_the_tiles_are_whole() {
    let mut log = two_days();
    let id = log.entries(NEXT, 700);
    log.seal(NEXT);
    let whole = log.memory();
    let other = {
        let mut log = two_days();
        log.entries(NEXT, 699);
        log.append(NEXT, b"{\"id\":\"another\"}\n");
        log.seal(NEXT);
        unsettled(&log.memory(), 300, 100)
    };
    let mut wrong = vec![
        get(&other, ".integrity/recent"),
        b"garbage".repeat(100),
        Vec::new(),
    ];
    let right = get(&unsettled(&whole, 300, 100), ".integrity/recent");
    // One that was settled since, or whose end is torn.
    wrong.push(right[..right.len() - 10].to_vec());
    wrong.push(get(&unsettled(&whole, 700, 7), ".integrity/recent"));
    for recent in wrong {
        let mut memory = whole.clone();
        put(&mut memory, ".integrity/recent", recent);
        assert_intact(&verified(&memory));
        assert!(prove_in(&memory, &id, &prove::Options::default()).is_ok());
        // A tile that was changed behind what it says isn't settled is found.
        if get(&memory, ".integrity/recent").len() != right.len() - 10 {
            let mut tile = get(&memory, ".integrity/tile/0/001");
            tile[5] ^= 1;
            put(&mut memory, ".integrity/tile/0/001", tile);
            assert!(!verified(&memory).intact());
        }
    }
    // So is a copy of a tile's beginning, which was made for a checkpoint.
    let width = log.checkpoint().size % WIDTH;
    for kind in ["0", "entries"] {
        let mut memory = whole.clone();
        put(&mut memory, ".integrity/recent", &right[..]);
        let path = format!(".integrity/tile/{kind}/003.p/{width}");
        let mut copy = get(&memory, &path);
        copy[5] ^= 1;
        put(&mut memory, &path, copy);
        assert!(!verified(&memory).intact(), "{path}");
    }
    // In the place of what is missing, another's entries are no entries.
    let mut memory = unsettled(&whole, 300, 100);
    put(
        &mut memory,
        ".integrity/recent",
        get(&other, ".integrity/recent"),
    );
    assert!(!verified(&memory).intact());
}

// ---------------------------------------------------------------- proofs

#[test]
fn an_entry_is_proved_by_id_line_or_time_and_the_sealed_one_of_two() {
    let mut log = two_days();
    let id = log.entries(DAY, 50);
    log.seal(DAY);
    let memory = log.memory();
    let by_id = prove_in(&memory, &id, &prove::Options::default()).unwrap();
    let line = Some([&by_id.line[..], b"\n"].concat());
    let timestamp = Some("2026-11-23T15:51:00.123456Z".to_owned());
    for options in [
        prove::Options {
            line: line.clone(),
            ..Default::default()
        },
        prove::Options {
            timestamp: timestamp.clone(),
            ..Default::default()
        },
        prove::Options {
            timestamp: Some("2026-11-24T00:00:00.000000Z".to_owned()),
            ..Default::default()
        },
    ] {
        let proved = prove_in(&memory, &id, &options).unwrap();
        assert_eq!((proved.index, &proved.file[..]), (by_id.index, DAY));
        assert_eq!((&proved.proof, &proved.line), (&by_id.proof, &by_id.line));
    }
    for (options, status) in [
        (
            prove::Options {
                timestamp: Some("yesterday".to_owned()),
                ..Default::default()
            },
            Status::Argument,
        ),
        (
            prove::Options {
                line: Some(b"{}".to_vec()),
                ..Default::default()
            },
            Status::Argument,
        ),
        (
            prove::Options {
                line: Some(format!("{{\"id\":\"{id}\"}}").into_bytes()),
                ..Default::default()
            },
            Status::NotFound,
        ),
    ] {
        let refused = prove_in(&memory, &id, &options);
        assert!(matches!(refused, Err(error) if error.status == status));
    }
    // Its line is enough where the file is gone.
    let mut without = memory.clone();
    without.0.remove(DAY);
    let options = prove::Options {
        line,
        ..Default::default()
    };
    let proved = prove_in(&without, &id, &options).unwrap();
    assert_eq!((&proved.proof, &proved.file[..]), (&by_id.proof, DAY));
    // A forged one before it, and one in a newer file, don't take its place.
    let forged = format!("{{\"id\":\"{id}\",\"timestamp\":\"2026-11-23T15:51:00.123456Z\"}}\n");
    for name in [
        DAY.replace(".jsonl", ".1.jsonl"),
        "audit_2026-12-01.jsonl".to_owned(),
    ] {
        let mut memory = memory.clone();
        put(&mut memory, &name, &forged[..]);
        let proved = prove_in(&memory, &id, &prove::Options::default()).unwrap();
        assert_eq!(proved.line, by_id.line);
    }
    // A file that can't be read is named if it may be in there, and else no matter.
    let mut memory = memory.clone();
    memory.0.insert(NEXT.to_owned(), Node::Other);
    assert!(prove_in(&memory, &id, &prove::Options::default()).is_ok());
    let Err(error) = prove_in(&memory, "nobody", &prove::Options::default()) else {
        panic!("there is no such entry");
    };
    assert!(error.message.contains(NEXT), "{}", error.message);
}
