//! What is passed on with the library is listed.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use support::{root, run};

#[test]
fn third_party_names_every_crate_that_is_linked_in() {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(root())
        .args([
            "tree",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["-e", "normal,no-proc-macro", "-p", "audit_logger_cdylib"]);
    let tree = run(&mut tree);
    let linked: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!(
                "{} {}",
                words.next()?,
                words.next()?.strip_prefix('v')?
            ))
        })
        .collect();
    let listed = std::fs::read_to_string(root().join("THIRD_PARTY")).expect("it is kept");
    let listed: BTreeSet<String> = listed
        .lines()
        .take_while(|line| !line.starts_with("----"))
        .filter_map(|line| Some(line.split_once(": ")?.0.to_owned()))
        .collect();
    assert!(linked.len() > 30, "{tree}");
    assert_eq!(
        listed, linked,
        "make THIRD_PARTY anew: sh scripts/third-party.sh"
    );
}
