//! Hosts that leave their calls: what jumps over the library, and what ends the process, leaves
//! entries and nothing else.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::server::{Server, Then};
use support::{
    Scratch, available, compile, declarations, entries, python, release, root, run, skip,
};

/// A server that streams a letter, and is then silent for so long.
fn silent_for(silence: Duration) -> Server {
    Server::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let event = r#"data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}"#;
        stream.write_all(format!("{head}{event}\n\n").as_bytes())?;
        std::thread::sleep(silence);
        // Whoever is still there hears more.
        while stream.write_all(format!("{event}\n\n").as_bytes()).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Then::Close)
    })
}

fn silent() -> Server {
    silent_for(Duration::from_secs(60))
}

fn program(scratch: &Scratch, name: &str) -> PathBuf {
    let to = scratch.join(name);
    let source = root().join(format!("tests/c/{name}.c"));
    compile(&source, release(), &to, &["-pthread"]);
    to
}

/// Each call has its one entry, which says that it was cancelled, and nothing waits to be recovered.
fn were_cancelled(log: &Path, calls: usize) {
    ended(log, &vec!["Cancelled"; calls]);
}

/// Each call has its one entry, of that class.
fn ended(log: &Path, classes: &[&str]) {
    let logged = entries(log);
    let said: Vec<_> = logged.iter().map(|entry| &entry["error_type"]).collect();
    assert_eq!(said, classes);
    for entry in &logged {
        assert_eq!(entry["details"]["outcome"], "unknown", "{entry}");
    }
}

/// Leaves calls so, and the one that each way begins with.
fn leaves(way: &str, calls: usize, wrapper: &mut Command) {
    were_cancelled(&left(way, wrapper).1, calls + 1);
}

fn left(way: &str, wrapper: &mut Command) -> (Scratch, PathBuf) {
    let (server, scratch) = (silent(), Scratch::new());
    let log = scratch.join("log");
    let printed = run(wrapper
        .arg(program(&scratch, "leaves"))
        .arg(&log)
        .arg(server.base_url())
        .arg(way));
    assert_eq!(printed, "");
    (scratch, log)
}

fn env() -> Command {
    Command::new("env")
}

fn valgrind() -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--error-exitcode=9"]);
    valgrind
}

#[test]
fn a_call_that_longjmp_left_has_its_entry_when_its_thread_uses_the_library_again() {
    leaves("jump", 20, &mut env());
}

#[test]
fn a_call_that_was_left_is_noticed_from_deeper_in_the_stack_too() {
    leaves("below", 1, &mut env());
}

#[test]
fn a_call_in_a_callback_that_was_left_and_the_call_around_it_have_their_entries() {
    leaves("nested", 2, &mut env());
}

#[test]
fn a_call_whose_thread_exits_in_a_callback_has_its_entry_and_the_process_goes_on() {
    leaves("thread", 1, &mut env());
}

#[test]
fn a_call_whose_thread_is_cancelled_in_a_callback_has_its_entry_and_the_process_goes_on() {
    leaves("cancel", 1, &mut env());
}

#[test]
fn a_callback_that_doesn_t_return_holds_up_no_close_and_finds_its_call_over() {
    leaves("blocked", 1, &mut env());
}

#[test]
fn a_call_whose_time_is_over_is_ended_by_a_close_without_a_limit_and_its_entry_says_so() {
    let (_scratch, log) = left("late", &mut env());
    ended(&log, &["Cancelled", "APITimeoutError"]);
}

#[test]
fn an_exit_during_streams_gives_each_its_entry() {
    leaves("exit", 8, &mut env());
}

#[test]
fn an_exit_in_a_callback_gives_its_call_an_entry() {
    leaves("exit_inside", 1, &mut env());
}

#[test]
fn leaving_calls_touches_no_memory_that_isn_t_there() {
    if !available("valgrind") {
        return;
    }
    for (way, calls) in [
        ("jump", 20),
        ("below", 1),
        ("nested", 2),
        ("blocked", 1),
        ("exit", 8),
    ] {
        leaves(way, calls, &mut valgrind());
    }
}

#[test]
fn an_exception_of_a_callback_comes_out_of_the_call() {
    let (server, scratch) = (silent(), Scratch::new());
    for compiler in ["g++", "clang++"] {
        if !available(compiler) {
            continue;
        }
        for optimised in ["-O0", "-O2"] {
            let program = scratch.join(&format!("throws-{compiler}{optimised}"));
            run(Command::new(compiler)
                .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", optimised, "-I"])
                .arg(root().join("include"))
                .arg(root().join("tests/c/throws.cpp"))
                .arg("-o")
                .arg(&program)
                .arg("-L")
                .arg(release())
                .arg("-laudit_logger")
                .arg(format!("-Wl,-rpath,{}", release().display())));
            let log = scratch.join(&format!("log-{compiler}{optimised}"));
            run(Command::new(&program).arg(&log).arg(server.base_url()));
            were_cancelled(&log, 3);
        }
    }
}

fn library() -> PathBuf {
    release().join("libaudit_logger.so")
}

#[test]
fn a_daemon_thread_of_a_python_that_exits_leaves_an_entry_and_aborts_nothing() {
    if !available("python3") {
        return;
    }
    // The thread hears more while the interpreter ends, or is in the midst of silence.
    for silence in [0, 60_000] {
        let (server, scratch) = (silent_for(Duration::from_millis(silence)), Scratch::new());
        let log = scratch.join("log");
        run(Command::new(python())
            .arg(root().join("tests/left/left.py"))
            .arg(library())
            .arg(&log)
            .arg(server.base_url()));
        were_cancelled(&log, 1);
    }
}

#[test]
fn calls_that_ruby_exceptions_left_have_their_entries() {
    if !available("ruby") {
        return;
    }
    let (server, scratch) = (silent(), Scratch::new());
    let log = scratch.join("log");
    run(Command::new("ruby")
        .arg(root().join("tests/left/left.rb"))
        .arg(library())
        .arg(&log)
        .arg(server.base_url()));
    were_cancelled(&log, 3);
}

#[test]
fn a_call_that_a_php_exception_left_has_its_entry() {
    if !available("php") {
        return;
    }
    let (server, scratch) = (silent(), Scratch::new());
    let (log, header) = (scratch.join("log"), scratch.join("declarations.h"));
    fs::write(&header, declarations()).expect("the scratch directory can be written to");
    let php = Command::new("php")
        .args(["-d", "ffi.enable=1", "-d", "zend.assertions=1"])
        .arg(root().join("tests/left/left.php"))
        .arg(library())
        .arg(&header)
        .arg(&log)
        .arg(server.base_url())
        .output()
        .expect("php starts");
    let printed = String::from_utf8_lossy(&php.stdout);
    // The exception is fatal to the script, as PHP has it; what is to be shut down is.
    assert!(printed.ends_with("closed\n"), "{printed}");
    were_cancelled(&log, 1);
}

#[test]
fn a_call_that_a_lua_error_left_has_its_entry() {
    if !available("luajit") {
        return;
    }
    let (server, scratch) = (silent(), Scratch::new());
    let (log, header) = (scratch.join("log"), scratch.join("declarations.h"));
    fs::write(&header, declarations()).expect("the scratch directory can be written to");
    run(Command::new("luajit")
        .arg(root().join("tests/left/left.lua"))
        .arg(library())
        .arg(&header)
        .arg(&log)
        .arg(server.base_url()));
    were_cancelled(&log, 1);
}

#[test]
fn calls_that_recovered_panics_of_go_left_have_their_entries() {
    if !available("go") {
        return;
    }
    let (server, scratch) = (silent(), Scratch::new());
    let (log, program) = (scratch.join("log"), scratch.join("left"));
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(root().join("tests/left/left.go"))
        .env("CGO_ENABLED", "1")
        .env("CGO_CFLAGS", format!("-I{}/include", root().display()))
        .env(
            "CGO_LDFLAGS",
            format!("-L{0} -Wl,-rpath,{0}", release().display()),
        )
        .env("GOFLAGS", "-mod=mod")
        .output()
        .expect("go starts");
    if !built.status.success() {
        skip(&String::from_utf8_lossy(&built.stderr));
        return;
    }
    run(Command::new(&program).arg(&log).arg(server.base_url()));
    were_cancelled(&log, 32);
}
