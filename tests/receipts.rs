//! COSE receipts (RFC 9942), as another's verifier reads them. Skipped without a Python that has
//! tests/receipts/requirements.txt.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Scratch, python_with, root, run, sealed, tool};

/// Runs the tool in a directory; its exit code and what it said.
fn tool_in(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = tool().current_dir(directory).args(arguments).output();
    let output = output.expect("the tool starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn scitt_cose_accepts_each_receipt_and_no_changed_one() {
    let Some(python) = python_with("scitt_cose") else {
        return;
    };
    let scratch = Scratch::new();
    let (_, ids) = sealed(&scratch, 40);
    for (name, id) in [("first", &ids[0]), ("middle", &ids[17]), ("last", &ids[39])] {
        let prove = ["prove", "log", id, "--format", "cose", "-o", name];
        let (code, said) = tool_in(scratch.path(), &prove);
        assert_eq!(code, Some(0), "{said}");
        run(Command::new(&python)
            .arg(root().join("tests/receipts/accepts.py"))
            .arg(scratch.join(&format!("{name}.cose")))
            .arg(scratch.join(&format!("{name}.jsonl")))
            .arg(scratch.join("log/.integrity/vkey"))
            .arg(id));
    }
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
