//! Several processes on one directory, and forks: nobody's entry, lock or connection is another's.

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use support::pace::until;
use support::worker::{Bench, Work, answering, echoing, hex};
use support::{Scratch, compile, entries, python_with, release, root, run};

#[test]
fn eight_processes_of_eight_threads_write_every_entry_once() {
    let bench = Bench::new(json!({}));
    let work = Work {
        doings: "lclb",
        times: 40,
        threads: 8,
        longest: 60_000,
        expected: "AUDIT_OK",
    };
    let mut running: Vec<_> = (0..8)
        .map(|number| bench.start(&format!("p{number}"), work))
        .collect();
    for worker in &mut running {
        let ended = worker.0.wait().expect("a child can be waited for");
        assert!(ended.success());
    }
    let counts = bench.check();
    assert_eq!(counts.entries, 8 * 8 * 40);
    assert_eq!((counts.sent, counts.unknown), (8 * 8 * 10, 0));
    bench.check_by_others(counts.entries);
}

#[test]
fn a_process_beside_others_takes_no_lock_of_theirs() {
    // Stopped in the midst of its calls, it holds nobody up.
    let bench = Bench::new(json!({}));
    let stopped = bench.start(
        "stopped",
        Work {
            times: 0,
            ..support::worker::FOREVER
        },
    );
    until("its first calls", || bench.said().len() > 10);
    let stop = |signal: &str| {
        run(Command::new("kill").args([signal, &stopped.0.id().to_string()]));
    };
    stop("-STOP");
    let work = Work {
        times: 20,
        ..support::worker::FOREVER
    };
    let ended = bench.command("other", work).status();
    assert!(ended.expect("it starts").success());
    stop("-CONT");
    drop(stopped);
    bench.check();
}

fn child() -> (Scratch, std::path::PathBuf) {
    let scratch = Scratch::new();
    let program = scratch.join("child");
    compile(&root().join("tests/c/child.c"), release(), &program, &[]);
    (scratch, program)
}

#[test]
fn a_forked_child_has_none_of_the_parent_s_descriptors_and_works() {
    let (scratch, program) = child();
    let (log, server) = (scratch.join("log"), answering());
    run(Command::new(program).arg(&log).arg(server.base_url()));
    // The parent's call, the child's record, the call that was begun.
    assert_eq!(entries(&log).len(), 3);
}

#[test]
fn a_killed_parent_is_swept_while_its_idle_child_lives() {
    let (scratch, program) = child();
    let (log, server) = (scratch.join("log"), answering());
    let output = Command::new(program)
        .arg(&log)
        .arg(server.base_url())
        .arg("idle")
        .env_remove("LD_LIBRARY_PATH")
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .stdout(std::fs::File::create(scratch.join("pid")).expect("it can be made"))
        .status();
    assert!(!output.expect("it starts").success(), "it kills itself");
    let child = std::fs::read_to_string(scratch.join("pid")).expect("it's there");
    drop(support::calls::Logger::new(&json!({"output_path": log})));
    let logged = entries(&log);
    run(Command::new("kill").arg(child.trim()));
    assert_eq!(logged.len(), 2);
    assert_eq!(logged[1]["error_type"], "OutcomeUnknown");
    assert_eq!(logged[1]["latency_ms"], json!(null));
}

/// Every one of the prompts has as many entries as it was sent or logged, each with an id of its own.
fn check(log: &Path, prompts: impl Iterator<Item = String>, each: usize) {
    let logged = entries(log);
    let ids: HashSet<_> = logged.iter().map(|entry| entry["id"].as_str()).collect();
    assert_eq!(ids.len(), logged.len(), "ids are shared");
    for prompt in prompts {
        let hash = hex(&prompt);
        let count = logged.iter().filter(|entry| entry["prompt_hash"] == *hash);
        assert_eq!(count.count(), each, "entries of {prompt:?}");
    }
}

#[test]
fn workers_forked_after_the_logger_was_made_call_and_log_at_once() {
    let (scratch, server) = (Scratch::new(), echoing());
    let (log, program) = (scratch.join("log"), scratch.join("prefork"));
    compile(&root().join("tests/c/prefork.c"), release(), &program, &[]);
    run(Command::new(program)
        .arg(&log)
        .arg(server.base_url())
        .args(["4", "50"]));
    let prompts = (0..5).flat_map(|worker| {
        (0..2).flat_map(move |thread| (0..50).map(move |i| format!("{worker}-{thread}-{i}")))
    });
    check(&log, prompts, 2);
    assert_eq!(entries(&log).len(), 1 + 5 * 2 * 50 * 2);
    assert_eq!(server.requests().len(), 5 * 2 * 50);
}

#[test]
fn a_pool_of_python_s_multiprocessing_shares_a_logger() {
    let Some(python) = python_with("ctypes, multiprocessing") else {
        return;
    };
    let (scratch, server) = (Scratch::new(), echoing());
    let log = scratch.join("log");
    run(Command::new(python)
        .arg(root().join("tests/python/prefork.py"))
        .arg(root().join("bindings/python/src"))
        .arg(&log)
        .arg(server.base_url())
        .arg("200")
        .env("AUDIT_LOGGER_LIBRARY", release().join("libaudit_logger.so")));
    check(&log, (0..200).map(|number| format!("call {number}")), 1);
    assert_eq!(entries(&log).len(), 221);
}
