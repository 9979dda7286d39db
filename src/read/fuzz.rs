//! Random inputs for what reads the tree, its notes, keys and proofs: whoever can write the directory
//! chooses them.

use super::prove::check;
use super::testlog::{DAY, TestLog};
use super::verify::{Options, verify};
use crate::format::checkpoint::{Checkpoint, newest_checkpoint, notes};
use crate::format::note::{Signer, Verifier};
use crate::format::record::{Entry, Range, Record, RecordBody};
use crate::format::tiles::{entries, entries_len};
use crate::fuzzing::fuzz;

const PIECES: [&[u8]; 16] = [
    b"\n",
    b"\n\n",
    "\u{2014} ".as_bytes(),
    b" ",
    b"+",
    b"=",
    b"AAAA",
    b"\x00\x20",
    b"\xff\xff",
    b"\xff",
    b"\"",
    b"{\"t\":\"seg\",\"ts\":\"\",",
    b"18446744073709551615",
    b"-1",
    b"index 0\n",
    b"extra AAAA\n",
];

fn signer() -> Signer {
    Signer::from_seed("audit.example/llm", &[7; 32]).unwrap()
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint {
        origin: "audit.example/llm".to_owned(),
        size,
        root: [size as u8; 32],
    }
}

#[test]
fn any_key_is_refused_or_is_written_as_it_was_read() {
    let seeds = [signer().text().to_string(), signer().verifier().to_string()];
    fuzz(&seeds, &PIECES, |_, input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        if let Ok(verifier) = Verifier::parse(text) {
            assert_eq!(verifier.to_string(), text.trim_end_matches('\n'));
        }
        if let Ok(signer) = Signer::parse(text) {
            assert_eq!(signer.text().trim_end(), text.trim_end_matches('\n'));
        }
    });
}

#[test]
fn no_changed_note_says_what_its_signer_didnt_and_a_whole_one_behind_it_is_found() {
    let signer = signer();
    let note = |size| signer.sign(&checkpoint(size).to_string());
    let seeds = [note(1), [note(1), note(2)].concat()];
    let last = note(3);
    fuzz(&seeds, &PIECES, |_, input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(opened) = Checkpoint::open(&text, signer.verifier()) {
            assert!([1, 2].map(checkpoint).contains(&opened), "{opened:?}");
        }
        for note in notes(input) {
            assert!(text.contains(note));
        }
        let heads = [input, b"\n", last.as_bytes()].concat();
        let found = newest_checkpoint(&heads, signer.verifier());
        assert_eq!(found, Some((checkpoint(3), &*last)));
    });
}

#[test]
fn any_guard_is_read_or_refused_and_a_whole_line_behind_it_counts() {
    let guard = checkpoint(1).guard_line() + &checkpoint(2).guard_line();
    fuzz(&[guard], &PIECES, |_, input| {
        let guard = String::from_utf8_lossy(input);
        let origin = "audit.example/llm";
        let read = Checkpoint::guarded(&guard, origin);
        if let Ok(Some(found)) = &read {
            assert_eq!(found.origin, origin);
        }
        let more = Checkpoint::guarded(&format!("{guard}\n{}", checkpoint(3).guard_line()), origin);
        // A torn line before it is refused or passed over, never taken for more than it is.
        assert!(
            matches!(more, Ok(Some(found)) if found == checkpoint(3)) || more_is_refused(&guard)
        );
    });
}

/// Whether a guard has a line of the origin that can't be read, were it whole.
fn more_is_refused(guard: &str) -> bool {
    Checkpoint::guarded(&format!("{guard}\n"), "audit.example/llm").is_err()
}

#[test]
fn any_entries_are_read_or_refused_and_records_are_written_as_they_were_read() {
    let range = || Range {
        file: DAY.to_owned(),
        off: 10,
        len: 20,
    };
    let tile: Vec<u8> = [
        RecordBody::Seg {
            range: range(),
            lines: 3,
        },
        RecordBody::Gap(range()),
        RecordBody::Rollback {
            size: 7,
            root: [0; 32],
        },
        RecordBody::Prune {
            file: DAY.to_owned(),
        },
    ]
    .map(|body| {
        let ts = "2026-11-23T15:51:00.123456Z".to_owned();
        let record = Record { ts, body }.encode();
        [&(record.len() as u16).to_be_bytes(), &record[..]].concat()
    })
    .concat();
    fuzz(&[tile], &PIECES, |random, input| {
        let read: Vec<&[u8]> = entries(input).collect();
        let bytes: usize = read.iter().map(|entry| 2 + entry.len()).sum();
        assert!(bytes <= input.len());
        let count = random.below(read.len() + 2) as u64;
        assert!(entries_len(input, count).is_none_or(|length| length <= input.len()));
        for entry in read.into_iter().chain([input]) {
            if let Ok(Entry::Record(record)) = Entry::parse(entry)
                && record.body != RecordBody::Unknown
            {
                assert_eq!(Entry::parse(&record.encode()), Ok(Entry::Record(record)));
            }
        }
    });
}

#[test]
fn no_changed_proof_proves_anything_else() {
    let mut log = TestLog::new();
    let id = log.entries(DAY, 300);
    log.seal(DAY);
    let proved = super::prove::prove(&log.path(), &id, &Default::default()).unwrap();
    let right = check(&proved.line, &proved.proof, &log.vkey()).unwrap();
    fuzz(&[&proved.proof], &PIECES, |random, input| {
        let proof = String::from_utf8_lossy(input);
        if let Ok(checked) = check(&proved.line, &proof, &log.vkey()) {
            assert_eq!(checked, right);
        }
        let mut line = proved.line.clone();
        let at = random.below(line.len());
        line[at] ^= 1 << random.below(8);
        assert!(check(&line, &proof, &log.vkey()).is_err());
    });
}

#[test]
fn a_log_with_any_file_changed_is_verified_to_the_end_and_never_taken_for_intact() {
    let mut log = TestLog::new();
    for _ in 0..3 {
        log.entries(DAY, 100);
        log.seal(DAY);
    }
    let options = Options {
        vkey: Some(log.vkey()),
        ..Options::default()
    };
    let names = [
        DAY,
        ".integrity/checkpoint",
        ".integrity/tile/0/000",
        ".integrity/tile/entries/000",
        ".integrity/tile/entries/001",
    ];
    let seeds = names.map(|name| std::fs::read(log.file(name)).unwrap());
    fuzz(&[b"0"], &PIECES, |random, _| {
        let which = random.below(names.len());
        let mut bytes = seeds[which].clone();
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        }
        if bytes == seeds[which] {
            return;
        }
        std::fs::write(log.file(names[which]), &bytes).unwrap();
        let report = verify(&log.path(), &options, &mut |_, _| {}, &|| false).unwrap();
        // Blanks behind the last line, and what is appended there, aren't sealed.
        let appended = which == 0 && bytes.starts_with(&seeds[0]);
        assert!(
            !report.intact() || appended,
            "{} at byte {at}",
            names[which]
        );
        std::fs::write(log.file(names[which]), &seeds[which]).unwrap();
    });
}
