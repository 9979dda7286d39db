//! What binding generators make of the header: each is asked for bindings, by which a program then makes a
//! streamed call, logs one of its own and is refused a configuration.
//!
//! jextract isn't among them: no package registry has it.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use support::server::{Server, Then, response};
use support::{Scratch, available, declarations, entries, python_with, release, root, run};

/// A place for bindings, and a program on them.
struct Bindings {
    scratch: Scratch,
    server: Server,
}

impl Bindings {
    fn new() -> Bindings {
        let chunk = |content: &str, finish: Value| {
            let choice =
                json!({"index": 0, "delta": {"content": content}, "finish_reason": finish});
            format!("data: {}\n\n", json!({"choices": [choice]}))
        };
        let events =
            chunk("to", json!(null)) + &chunk("gether", json!("stop")) + "data: [DONE]\n\n";
        let headers = [("content-type", "text/event-stream")];
        let answer = response(200, &headers, events.as_bytes());
        let server = Server::start(move |_, stream| {
            std::io::Write::write_all(stream, &answer).map(|()| Then::Keep)
        });
        let scratch = Scratch::new();
        std::fs::write(scratch.join("declarations.h"), declarations()).expect("it can be written");
        Bindings { scratch, server }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A program of tests/generators, copied beside the bindings.
    fn program(&self, name: &str) -> PathBuf {
        let program = self.join(name);
        std::fs::copy(root().join("tests/generators").join(name), &program)
            .expect("it can be copied");
        program
    }

    /// Runs the program on a configuration, its last argument.
    #[track_caller]
    fn ask(&self, program: &mut Command) {
        let log = self.join("log");
        let config = json!({
            "output_path": log, "base_url": self.server.base_url(), "api_key": "sk-test",
        });
        let printed = run(program
            .arg(config.to_string())
            .current_dir(self.scratch.path()));
        let entries = entries(&log);
        assert_eq!(entries.len(), 2, "{entries:?}");
        let id = entries[1]["id"].as_str().expect("it has one");
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(printed, ["together", id, "AUDIT_E_CONFIG"]);
        assert!(entries.iter().all(|entry| entry["status"] == "success"));
    }

    /// Runs a program that reads the declarations and opens the library itself.
    #[track_caller]
    fn interpret(&self, interpreter: impl AsRef<std::ffi::OsStr>, program: &str) {
        self.ask(
            Command::new(interpreter)
                .arg(self.program(program))
                .arg(self.join("declarations.h"))
                .arg(library()),
        );
    }
}

fn header() -> PathBuf {
    root().join("include/audit_logger.h")
}

fn library() -> PathBuf {
    release().join("libaudit_logger.so")
}

#[test]
fn rust_by_bindgen() {
    if !available("bindgen") {
        return;
    }
    let bindings = Bindings::new();
    let program = bindings.join("ask");
    run(Command::new("bindgen")
        .arg(header())
        .arg("--output")
        .arg(bindings.join("audit_logger.rs")));
    run(
        Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition", "2024", "-laudit_logger", "-L"])
            .arg(release())
            .arg(format!("-Clink-arg=-Wl,-rpath,{}", release().display()))
            .arg("-o")
            .arg(&program)
            .arg(bindings.program("ask.rs")),
    );
    bindings.ask(&mut Command::new(program));
}

#[test]
fn python_by_cffi() {
    if let Some(python) = python_with("cffi") {
        Bindings::new().interpret(python, "ask_cffi.py");
    }
}

#[test]
fn python_by_ctypesgen() {
    let Some(python) = python_with("ctypesgen") else {
        return;
    };
    let bindings = Bindings::new();
    run(Command::new(&python)
        .args(["-c", "from ctypesgen.main import main; main()", "-l"])
        .arg(library())
        .arg("-o")
        .arg(bindings.join("audit_logger.py"))
        .arg(header()));
    bindings.ask(Command::new(python).arg(bindings.program("ask_ctypesgen.py")));
}

#[test]
fn php_by_its_ffi() {
    if available("php") {
        Bindings::new().interpret("php", "ask.php");
    }
}

#[test]
fn lua_by_luajit() {
    if available("luajit") {
        Bindings::new().interpret("luajit", "ask.lua");
    }
}

#[test]
fn zig_by_translate_c() {
    let Some(python) = python_with("ziglang") else {
        return;
    };
    let bindings = Bindings::new();
    let zig = |arguments: &[&str], more: &[&Path]| {
        run(Command::new(&python)
            .args(["-m", "ziglang"])
            .args(arguments)
            .args(more)
            .current_dir(bindings.scratch.path())
            .env("ZIG_GLOBAL_CACHE_DIR", bindings.join("zig"))
            .env("ZIG_LOCAL_CACHE_DIR", bindings.join("zig")))
    };
    let translated = zig(&["translate-c", "-lc"], &[&header()]);
    std::fs::write(bindings.join("audit_logger.zig"), translated).expect("it can be written");
    bindings.program("ask.zig");
    let rpath = release().display().to_string();
    zig(
        &["build-exe", "ask.zig", "-lc", "-rpath", &rpath],
        &[&library()],
    );
    bindings.ask(&mut Command::new(bindings.join("ask")));
}
