//! COSE receipts (RFC 9942), as another's verifier reads them. Skipped without a Python that has
//! tests/receipts/requirements.txt.

mod support;

// What the tool does with receipts, to be tried on changed ones.
#[allow(dead_code)]
#[path = "../src/bin/audit-logger/receipt.rs"]
mod receipt;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Scratch, python_with, root, run, sealed, tool};

use audit_logger::tool::note::Verifier;

/// Runs the tool in a directory; its exit code and what it said.
fn tool_in(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = tool().current_dir(directory).args(arguments).output();
    let output = output.expect("the tool starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Proves an entry of `log`, as files of that name.
#[track_caller]
fn prove(scratch: &Scratch, id: &str, name: &str) {
    let prove = ["prove", "log", id, "--format", "cose", "-o", name];
    let (code, said) = tool_in(scratch.path(), &prove);
    assert_eq!(code, Some(0), "{said}");
}

fn check(scratch: &Scratch, line: &str, receipt: &str) -> (Option<i32>, String) {
    let check = ["check", "--vkey", "log/.integrity/vkey", line, receipt];
    tool_in(scratch.path(), &check)
}

fn log_of(scratch: &Scratch) -> Verifier {
    let vkey = fs::read_to_string(scratch.join("log/.integrity/vkey")).expect("it's there");
    Verifier::parse(vkey.trim_end()).expect("it's one")
}

#[test]
fn scitt_cose_accepts_each_receipt_and_no_changed_one_and_check_says_the_same_of_each() {
    let Some(python) = python_with("scitt_cose") else {
        return;
    };
    let scratch = Scratch::new();
    let (_, ids) = sealed(&scratch, 40);
    let log = log_of(&scratch);
    for (name, id) in [("first", &ids[0]), ("middle", &ids[17]), ("last", &ids[39])] {
        prove(&scratch, id, name);
        let file = |ending: &str| scratch.join(&format!("{name}.{ending}"));
        let said = run(Command::new(&python)
            .arg(root().join("tests/receipts/accepts.py"))
            .args([file("cose"), file("jsonl")])
            .arg(scratch.join("log/.integrity/vkey"))
            .arg(id));
        let [line, whole] =
            ["jsonl", "cose"].map(|ending| fs::read(file(ending)).expect("it's there"));
        assert_eq!(receipt::check(&line, &whole, &log), Ok(Some(id.clone())));
        let mut unsigned = String::new();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                if receipt::check(&line, &changed, &log).is_ok() {
                    let _ = writeln!(unsigned, "{at} {bit}");
                }
            }
            assert!(receipt::check(&line, &whole[..at], &log).is_err(), "{at}");
        }
        assert_eq!(unsigned, said);
    }
}

#[test]
fn check_reads_the_receipts_that_scitt_cose_makes() {
    let Some(python) = python_with("scitt_cose") else {
        return;
    };
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 12);
    prove(&scratch, &ids[7], "entry");
    run(Command::new(&python)
        .arg(root().join("tests/receipts/makes.py"))
        .arg(&log)
        .args([scratch.join("entry.jsonl"), scratch.join("made.cose")]));
    assert_ne!(
        fs::read(scratch.join("made.cose")).expect("it's there"),
        fs::read(scratch.join("entry.cose")).expect("it's there"),
        "it says when it was made"
    );
    assert_eq!(
        check(&scratch, "entry.jsonl", "made.cose"),
        (Some(0), String::new())
    );
}

#[test]
fn check_takes_a_receipt_for_the_entry_that_it_is_of_and_for_no_other() {
    use coset::{CborSerializable as _, CoseSign1, TaggedCborSerializable as _};
    let scratch = Scratch::new();
    let (_, ids) = sealed(&scratch, 12);
    for (name, id) in [("one", &ids[3]), ("other", &ids[8])] {
        prove(&scratch, id, name);
        let output = tool()
            .current_dir(scratch.path())
            .args(["check", "--vkey", "log/.integrity/vkey"])
            .args([format!("{name}.jsonl"), format!("{name}.cose")])
            .output()
            .expect("the tool starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.starts_with(&format!("the line is the entry {id} of audit.example/test")),
            "{said}"
        );
    }
    let refused = |line: &str, receipt: &str, says: &str| {
        let (code, said) = check(&scratch, line, receipt);
        assert!(code == Some(1) && said.contains(says), "{code:?} {said}");
    };
    refused("other.jsonl", "one.cose", "isn't what the receipt is of");
    // Under the same root the proof of another entry leads to what was signed.
    let read = |name: &str| fs::read(scratch.join(name)).expect("it's there");
    let [one, other] = ["one.cose", "other.cose"].map(read);
    let parsed = |bytes: &[u8]| CoseSign1::from_tagged_slice(bytes).expect("it's one");
    let mixed = CoseSign1 {
        unprotected: parsed(&other).unprotected,
        ..parsed(&one)
    };
    let write =
        |name: &str, bytes: Vec<u8>| fs::write(scratch.join(name), bytes).expect("there's room");
    write("mixed.cose", mixed.to_tagged_vec().expect("it's CBOR"));
    refused(
        "other.jsonl",
        "mixed.cose",
        "of another entry, by its subject",
    );
    let attached = CoseSign1 {
        payload: Some(Vec::from([0; 32])),
        ..parsed(&one)
    };
    write(
        "attached.cose",
        attached.to_tagged_vec().expect("it's CBOR"),
    );
    refused("one.jsonl", "attached.cose", "has a payload");
    let mut bare = parsed(&one);
    bare.unprotected.rest.clear();
    write("bare.cose", bare.to_tagged_vec().expect("it's CBOR"));
    refused("one.jsonl", "bare.cose", "one inclusion proof");
    write("none.cose", [&[receipt::FIRST_BYTE], &one[2..]].concat());
    refused("one.jsonl", "none.cose", "isn't a COSE_Sign1");
    write("untagged.cose", parsed(&one).to_vec().expect("it's CBOR"));
    refused("one.jsonl", "untagged.cose", "right is");
    // Another log's.
    let elsewhere = Scratch::new();
    let (another, _) = sealed(&elsewhere, 1);
    let vkey = another.join(".integrity/vkey");
    let vkey = vkey.to_str().expect("it's UTF-8");
    let check = ["check", "--vkey", vkey, "one.jsonl", "one.cose"];
    let (code, said) = tool_in(scratch.path(), &check);
    assert!(code == Some(1) && said.contains("another key"), "{said}");
}

#[test]
fn a_receipt_takes_the_key_that_signed_the_log_and_no_other() {
    let scratch = Scratch::new();
    let (_, ids) = sealed(&scratch, 3);
    let here = scratch.path();
    let with = |more: &[&str]| {
        let mut all = vec!["prove", "log", &ids[1]];
        all.extend(more);
        tool_in(here, &all)
    };
    let own = std::fs::rename(scratch.join("log/.state/key"), scratch.join("elsewhere"));
    own.expect("the key can be moved");
    let (code, said) = with(&["--format", "cose"]);
    assert!(code == Some(2) && said.contains("key"), "{code:?} {said}");
    let cose = ["--format", "cose", "-o", "entry", "--key"];
    let given = |key| [&cose[..], &[key]].concat();
    assert_eq!(with(&given("elsewhere")).0, Some(0));
    assert!(scratch.join("entry.cose").exists() && scratch.join("entry.jsonl").exists());

    // Another's key, of the same name.
    let made = ["keygen", "--origin", "audit.example/test", "-o", "other"];
    assert_eq!(tool_in(here, &made).0, Some(0));
    assert_eq!(with(&given("other")).0, Some(1));
    let mixed = [&given("other")[..], &["--vkey", "log/.integrity/vkey"]].concat();
    assert_eq!(with(&mixed).0, Some(2));
    // A proof of the other kind is signed already.
    assert_eq!(with(&["--key", "elsewhere"]).0, Some(2));
}
