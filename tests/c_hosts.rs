//! C programs that use, misuse and stress the library as it is shipped, and again under valgrind.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use audit_logger::ffi::AUDIT_OK;
use serde_json::json;
use support::calls::verified;
use support::pace::until;
use support::server::{Server, Then, completion, response};
use support::tls::{Certificates, HERE, nginx};
use support::worker::echoing;
use support::{Scratch, available, compile, entries, last_file, release, root, run, with_faults};

fn program(scratch: &Scratch, name: &str) -> PathBuf {
    let to = scratch.join(name);
    compile(
        &root().join(format!("tests/c/{name}.c")),
        release(),
        &to,
        &[],
    );
    to
}

fn valgrind() -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite,indirect,possible",
        "--num-callers=30",
    ]);
    valgrind
}

fn answering() -> Server {
    Server::always(response(200, &[], completion("hi").as_bytes()))
}

/// Answers each request once there's a file `go-` with its number.
fn answering_when_told(scratch: &Scratch) -> Server {
    let go = scratch.join("go-");
    Server::start(move |request, stream| {
        let go = format!("{}{}", go.display(), request.number);
        until("to be told", || Path::new(&go).exists());
        stream.write_all(&response(200, &[], completion("hi").as_bytes()))?;
        Ok(Then::Keep)
    })
}

/// Runs the program, under a wrapper if there is one.
fn misuse(wrapper: Option<Command>) {
    let (server, scratch) = (answering(), Scratch::new());
    let log = scratch.join("log");
    let program = program(&scratch, "misuse");
    let mut runner = match wrapper {
        None => Command::new(program),
        Some(mut wrapper) => {
            wrapper.arg(program);
            wrapper
        }
    };
    let printed = run(runner.arg(&log).arg(server.base_url()));
    let left: usize = printed.trim().parse().expect("the program prints a number");
    assert_eq!(
        entries(&log).len(),
        left,
        "what was refused must leave no entry"
    );
}

#[test]
fn every_misuse_is_answered_with_a_status_and_a_message() {
    misuse(None);
}

#[test]
fn every_misuse_is_clean_under_valgrind() {
    if available("valgrind") {
        misuse(Some(valgrind()));
    }
}

#[test]
fn one_handle_shared_by_64_threads_writes_as_many_whole_lines_as_were_asked() {
    let (server, scratch) = (answering(), Scratch::new());
    let log = scratch.join("log");
    let program = program(&scratch, "threads");
    run(Command::new(program)
        .arg(&log)
        .arg(server.base_url())
        .args(["500", "20"]));

    let logged = entries(&log);
    assert_eq!(logged.len(), 64 * 520);
    let mut ids: Vec<&str> = logged
        .iter()
        .filter_map(|entry| entry["id"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), logged.len(), "ids are unique");
    assert!(
        logged.is_sorted_by_key(|entry| entry["timestamp"].as_str().map(str::to_owned)),
        "lines stand in the order of their timestamps"
    );
}

#[test]
fn threads_are_clean_under_valgrind() {
    if !available("valgrind") {
        return;
    }
    let (server, scratch) = (answering(), Scratch::new());
    let log = scratch.join("log");
    let program = program(&scratch, "threads");
    run(valgrind()
        .arg(program)
        .arg(&log)
        .arg(server.base_url())
        .args(["20", "2"]));
    assert_eq!(entries(&log).len(), 64 * 22);
}

#[test]
fn a_logger_may_be_freed_or_closed_during_calls() {
    let scratch = Scratch::new();
    let slow = answering_when_told(&scratch);
    let asked = scratch.join("asked");
    let silent = Server::start(move |_, _| {
        std::fs::write(&asked, "")?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(Then::Close)
    });
    let log = scratch.join("log");
    let program = program(&scratch, "lifecycle");
    run(Command::new(program)
        .arg(&log)
        .arg(slow.base_url())
        .arg(silent.base_url())
        .arg(scratch.join("go-"))
        .arg(scratch.join("asked")));

    let logged = entries(&log);
    let classes: Vec<_> = logged
        .iter()
        .map(|entry| entry["error_type"].as_str())
        .collect();
    assert_eq!(classes, [None, None, Some("Cancelled")]);
    assert_eq!(logged[2]["details"]["outcome"], "unknown");
}

#[test]
fn a_signal_handler_may_end_a_call() {
    let silent = Server::start(|_, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let program = program(&scratch, "cancel_by_signal");
    run(Command::new(program).arg(&log).arg(silent.base_url()));
    assert_eq!(entries(&log)[0]["error_type"], "Cancelled");
}

#[test]
fn exit_handlers_may_call_and_limits_don_t_end_the_host() {
    let (server, scratch) = (answering(), Scratch::new());
    let log = scratch.join("log");
    let program = program(&scratch, "exits");
    run(Command::new(program).arg(&log).arg(server.base_url()));
    assert_eq!(entries(&log).len(), 2);
}

/// A hundred rounds of forks, with calls on both sides, to a server that repeats the prompt.
fn forks(scratch: &Scratch, base_url: &str, more: &str) {
    let log = scratch.join("log");
    let program = program(scratch, "forks");
    let printed = run(Command::new(program)
        .arg(&log)
        .arg(base_url)
        .arg("100")
        .arg(more));
    let calls: usize = printed.trim().parse().expect("it prints a number");
    println!("{calls} calls to {base_url}");
    // The first, the last, a hundred on each side, one with a cancel, the forked one, and its
    // child's own; and those of the thread that always calls.
    assert!(calls > 205 + 10, "the thread hardly called: {calls}");
    let logged = entries(&log);
    assert_eq!(logged.len(), calls);
    assert!(logged.iter().all(|entry| entry["status"] == "success"));
}

#[test]
fn a_fork_leaves_each_side_its_own_calls_answers_and_entries() {
    let server = echoing();
    forks(&Scratch::new(), &server.base_url(), "");
}

#[test]
fn a_fork_leaves_each_side_its_own_connections_of_tls() {
    if !(available("openssl") && available("nginx")) {
        return;
    }
    let (server, scratch) = (echoing(), Scratch::new());
    Certificates::new(&scratch).sign("server", HERE, "2");
    let (_nginx, port) = nginx(&scratch, &server);
    let authority = scratch.join("ca.pem");
    let more = format!(", \"ca_file\": \"{}\"", authority.display());
    forks(&scratch, &format!("https://localhost:{port}/api/v1"), &more);
}

#[test]
fn a_chdir_of_the_process_or_of_a_child_changes_no_path() {
    let (server, scratch) = (answering(), Scratch::new());
    let [home, elsewhere] = ["home", "elsewhere"].map(|name| scratch.join(name));
    for directory in [&home, &elsewhere] {
        std::fs::create_dir(directory).expect("the scratch directory can be written to");
    }
    std::fs::write(home.join("key"), "sk-test").expect("it can be written to");
    run(Command::new(program(&scratch, "moves"))
        .args([&home, &elsewhere])
        .arg(server.base_url()));

    let made = std::fs::read_dir(&elsewhere).expect("it's there").count();
    assert_eq!(made, 0, "something was made where the process went");
    for (log, calls) in [("used", 3), ("unused", 1)] {
        assert_eq!(entries(&home.join(log)).len(), 3 * calls, "{log}");
        let guard = home.join(format!("{log}.guard"));
        let (status, report) = verified(&home.join(log), &json!({"guard_file": guard}));
        assert_eq!(status, AUDIT_OK, "{report}");
        assert_eq!(report["grade"], "self-attested, remembered");
    }
}

#[test]
fn the_host_s_thread_is_given_back_as_it_was() {
    let scratch = Scratch::new();
    let slow = answering_when_told(&scratch);
    let log = scratch.join("log");
    let program = program(&scratch, "thread_state");
    run(Command::new(program)
        .arg(&log)
        .arg(slow.base_url())
        .arg(scratch.join("go-")));

    // The file size limit tore a line; the next entry starts on a line of its own.
    let text = std::fs::read_to_string(last_file(&log)).expect("the log is UTF-8");
    let torn: Vec<&str> = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err())
        .collect();
    assert!(torn.len() <= 1, "{torn:?}");
    assert!(text.ends_with("}\n"));
}

#[test]
fn a_panic_of_the_log_s_thread_is_in_its_health_and_nothing_reaches_stderr() {
    let scratch = Scratch::new();
    let (log, program) = (scratch.join("log"), scratch.join("sick"));
    let source = root().join("tests/c/sick.c");
    compile(&source, with_faults(), &program, &[]);
    let output = Command::new(program)
        .arg(&log)
        .env("AUDIT_LOGGER_PANIC", "care")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(entries(&log).len(), 1);
}

#[test]
fn a_panic_becomes_an_internal_error_and_nothing_reaches_stderr() {
    let (server, scratch) = (answering(), Scratch::new());
    let log = scratch.join("log");
    let program = scratch.join("panic");
    compile(
        &root().join("tests/c/panic.c"),
        with_faults(),
        &program,
        &[],
    );
    let output = Command::new(program)
        .arg(&log)
        .arg(server.base_url())
        .env("AUDIT_LOGGER_PANIC", "chat")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");

    // The call that panicked had begun, so it has its entry.
    let logged = entries(&log);
    let classes: Vec<_> = logged
        .iter()
        .map(|entry| entry["error_type"].as_str())
        .collect();
    assert_eq!(classes, [Some("OutcomeUnknown"), None]);
}
