//! What the tests share: the built library, a server on loopback, temporary directories, and the
//! C functions called from Rust.
#![allow(dead_code)]

pub mod browser;
pub mod calls;
pub mod example;
pub mod image;
pub mod outer_cargo;
pub mod pace;
pub mod server;
pub mod tls;
pub mod tsa;
pub mod witness;
pub mod worker;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory with the library as it is shipped.
pub fn release() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        run(cargo().args(["build", "--release", "--locked", "--offline", "--lib"]));
        target().join("release")
    })
}

/// The library with the feature `faults`.
pub fn with_faults() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directory = target().join("faults");
        run(cargo()
            .args([
                "build",
                "--locked",
                "--offline",
                "--lib",
                "--features",
                "faults",
            ])
            .arg("--target-dir")
            .arg(&directory));
        directory.join("debug")
    })
}

/// The command line tool.
pub fn tool() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        // Beside the tests, for all that it depends on but its own is built there already.
        run(cargo().args([
            "build",
            "--locked",
            "--offline",
            "--features",
            "cli",
            "--bin",
            "audit-logger",
        ]));
        target().join("debug/audit-logger")
    });
    let mut tool = Command::new(built);
    tool.env_remove("NO_COLOR").env_remove("LD_LIBRARY_PATH");
    tool
}

/// GNU make on the project's Makefile, which builds nothing that is built already.
pub fn make() -> Command {
    let mut make = Command::new("make");
    make.current_dir(root())
        .env("CARGO", env!("CARGO"))
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("MAKEFLAGS");
    make
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root());
    cargo
}

/// Where cargo puts what it builds: above the directory of the test that runs.
pub fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path is known");
    test.ancestors()
        .nth(3)
        .expect("tests are built in <target>/<profile>/deps")
        .to_owned()
}

/// The project's directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program, and fails the test with all that it printed if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    outer_cargo::forget(command);
    let output = command
        // cargo sets it for the tests, and it would win over the path that a program names.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// Whether a program that a test needs beside Rust and a C compiler is there. If not, the test is
/// reported as skipped; where AUDIT_TEST_NO_SKIP is set, as in CI, that is a failure.
pub fn available(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        skip(&format!("{program} isn't installed"));
    }
    found
}

/// The Python that tests use: AUDIT_TEST_PYTHON, or python3.
pub fn python() -> std::ffi::OsString {
    std::env::var_os("AUDIT_TEST_PYTHON").unwrap_or_else(|| "python3".into())
}

/// That Python, if it has a module. If not, the test is reported as skipped.
pub fn python_with(module: &str) -> Option<std::ffi::OsString> {
    let python = python();
    let found = Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        skip(&format!("no Python with {module} is installed"));
    }
    found.then_some(python)
}

/// Reports the running test as skipped.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var_os("AUDIT_TEST_NO_SKIP").is_none(),
        "{test} can't run: {why}, and AUDIT_TEST_NO_SKIP is set"
    );
    // Not by a macro: those are captured, and nobody would see it.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// The C compiler.
pub fn cc() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// The text of the header.
pub fn header() -> String {
    std::fs::read_to_string(root().join("include/audit_logger.h")).expect("the header is there")
}

/// The functions that the header declares, each with the comment above it.
pub fn functions(header: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = header.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line
            .split_once('(')
            .and_then(|(before, _)| before.rsplit([' ', '*']).next())
            .filter(|name| name.starts_with("audit_"))
        else {
            continue;
        };
        if line.starts_with([' ', '#', '/']) {
            continue;
        }
        let mut comment: Vec<&str> = lines[..at]
            .iter()
            .rev()
            .skip_while(|line| **line == "AUDIT_MUST_USE")
            .map_while(|line| line.strip_prefix("//"))
            .collect();
        comment.reverse();
        found.push((name.to_owned(), comment.join("")));
    }
    found
}

/// What the header declares, without directives, by the command that it gives for that.
pub fn declarations() -> String {
    let header = header();
    let command = header.lines().find_map(|line| line.split_once(": cc "));
    let (_, arguments) = command.expect("the header says how");
    run(cc()
        .args(arguments.split_whitespace())
        .current_dir(root().join("include")))
}

/// Has a compiler look at a source that needs the header alone, by that standard, and mind everything.
pub fn compiles_alone(compiler: &mut Command, standard: &str, source: &Path, more: &[&str]) {
    run(compiler
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"])
        .arg(format!("-std={standard}"))
        .arg("-I")
        .arg(root().join("include"))
        .args(more)
        .arg(source));
}

/// Compiles a C program against the header and the built library in `built`.
pub fn compile(source: &Path, built: &Path, to: &Path, more: &[&str]) {
    run(cc()
        .args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-g",
            "-pthread",
        ])
        .arg("-D_GNU_SOURCE")
        .arg("-I")
        .arg(root().join("include"))
        .arg(source)
        .arg("-o")
        .arg(to)
        .arg("-L")
        .arg(built)
        .arg("-laudit_logger")
        .arg(joined(&["-Wl,-rpath,", &built.to_string_lossy()]))
        .args(more));
}

fn joined(parts: &[impl AsRef<OsStr>]) -> std::ffi::OsString {
    parts.iter().map(AsRef::as_ref).collect()
}

/// A clock that programs are started under in place of the machine's.
pub struct Clock(PathBuf);

impl Clock {
    /// `None`, and the test is skipped, where libfaketime is absent.
    pub fn new(scratch: &Scratch, time: &str) -> Option<Clock> {
        if !Path::new(FAKETIME).exists() {
            skip("libfaketime isn't installed, or isn't where it was looked for");
            return None;
        }
        let clock = Clock(scratch.join("clock"));
        clock.set(time);
        Some(clock)
    }

    /// From now on it's `2026-11-23 23:59:59`, UTC, and goes on from there.
    pub fn set(&self, time: &str) {
        let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S");
        self.set_second(time.expect("it's a time").and_utc().timestamp());
    }

    /// The same, of a second since 1970.
    pub fn set_second(&self, second: i64) {
        // By renaming: the programs read it all the time.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("@{second}\n")).expect("it can be written");
        std::fs::rename(&new, &self.0).expect("it can be moved");
    }

    /// Has a program started under it.
    pub fn on<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("LD_PRELOAD", FAKETIME)
            .env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .env("FAKETIME_FMT", "%s")
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("TZ", "UTC")
    }
}

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A directory of the test's own, removed when it passes.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("audit_logger-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary directory can be written to");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Every entry in the log below `directory`, in the order of files and lines.
pub fn entries(directory: &Path) -> Vec<serde_json::Value> {
    let mut entries = Vec::new();
    for file in day_files(directory) {
        let text = std::fs::read_to_string(&file).expect("the log is UTF-8");
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{file:?} ends within a line"
        );
        // A torn line that was written over is left as spaces.
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            entries.push(
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{file:?}: {e}: {line}")),
            );
        }
    }
    entries
}

/// The files of a log's days, in order; none if there's no log.
pub fn day_files(log: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(log)
        .map(|files| files.map(|file| file.expect("readable").path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension() == Some(OsStr::new("jsonl")));
    files.sort();
    files
}

/// The last day's file of a log.
pub fn last_file(log: &Path) -> PathBuf {
    day_files(log).pop().expect("the log has a file")
}

/// The entry of that number, as a line, with other members than usual.
pub fn entry_line(
    number: impl std::fmt::Display,
    timestamp: &str,
    other: &serde_json::Value,
) -> String {
    let entry = serde_json::json!({
        "id": format!("00000000-0000-4000-8000-{number:012}"),
        "timestamp": timestamp,
        "event_type": "chat_completion",
        "user_id": "user-1",
        "model": "some/model",
        "prompt_hash": "0".repeat(64),
        "response_hash": "0".repeat(64),
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "latency_ms": 100.0,
        "status": "success",
        "error_type": null,
        "metadata": {},
        "details": {"schema": 1, "cost": 0.5},
    });
    format!("{}\n", merged(entry, other))
}

/// A JSON object with further members, or others in place of its own.
pub fn merged(mut base: serde_json::Value, more: &serde_json::Value) -> serde_json::Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}

/// A log of that many entries, sealed, with a guard beside it, and what the log calls its entries.
pub fn sealed(scratch: &Scratch, entries: usize) -> (PathBuf, Vec<String>) {
    let path = scratch.join("log");
    let logger = calls::Logger::new(&serde_json::json!({
        "output_path": path,
        "integrity": {"guard_file": scratch.join("guard"), "origin": "audit.example/test"},
    }));
    let ids = (0..entries)
        .map(|_| {
            let logged = logger.log(&calls::record());
            let id = logged.text(audit_logger::ffi::AUDIT_REPLY_ENTRY_ID);
            id.expect("it is logged").to_owned()
        })
        .collect();
    // On the disk, and sealed.
    let _ = logger.close(-1).expect(audit_logger::ffi::AUDIT_OK);
    (path, ids)
}
