//! Real servers that packages bring, each called whole, as a stream and wrongly. Outside CI:
//!
//!     sh tests/matrix/run.sh
//!
//! installs them below target/matrix and runs this. AUDIT_TEST_MATRIX is that directory.

mod support;

use std::ffi::{c_char, c_void};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::ptr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, text};
use support::tls::{Running, free_port};
use support::{Scratch, entries, root};

/// The directory with the servers.
fn installed() -> PathBuf {
    let path = std::env::var_os("AUDIT_TEST_MATRIX").expect("tests/matrix/run.sh sets it");
    path.into()
}

/// A server, once it answers.
struct Real {
    name: &'static str,
    base_url: String,
    _running: Running,
}

/// Starts a program of a server's own environment, and waits until it listens and answers.
fn start(
    name: &'static str,
    program: &str,
    arguments: &[&str],
    port: u16,
    scratch: &Scratch,
) -> Real {
    let log = File::create(scratch.join(&format!("{name}.log"))).expect("it can be written");
    let both = log.try_clone().expect("it can be written");
    let command = &mut Command::new(installed().join(name).join("bin").join(program));
    // Nothing of it is to leave this machine.
    command
        .args(arguments)
        .current_dir(scratch.path())
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env(
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY",
            "true",
        )
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(both));
    let running = Running::start(command);
    let until = Instant::now() + Duration::from_secs(120);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            Instant::now() < until,
            "{name} doesn't listen: see {:?}",
            scratch.path()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    Real {
        name,
        base_url: format!("http://127.0.0.1:{port}/v1"),
        _running: running,
    }
}

fn written(scratch: &Scratch, name: &str, port: Option<u16>) -> String {
    let source = root().join("tests/matrix").join(name);
    let text = std::fs::read_to_string(source).expect("it's there");
    let port = port.map(|port| port.to_string()).unwrap_or_default();
    let path = scratch.join(name);
    std::fs::write(&path, text.replace("UPSTREAM_PORT", &port)).expect("it can be written");
    path.to_str().expect("UTF-8").to_owned()
}

unsafe extern "C" fn on_delta(text: *const c_char, len: usize, heard: *mut c_void) -> i32 {
    let heard = unsafe { &mut *heard.cast::<String>() };
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    heard.push_str(std::str::from_utf8(bytes).expect("whole characters"));
    AUDIT_CONTINUE
}

fn ask(logger: &Logger, model: &str, heard: Option<&mut String>) -> Answer {
    let mut request = AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("Who are you?"),
        model: text(model),
        ..chat_request()
    };
    if let Some(heard) = heard {
        request.on_delta = Some(on_delta);
        request.context = ptr::from_mut(heard).cast();
    }
    logger.chat(&request)
}

fn check(server: &Real, log: &Path) {
    let name = server.name;
    let logger = Logger::new(&json!({
        "output_path": log, "base_url": server.base_url, "api_key": "none", "max_retries": 0,
    }));
    let whole = ask(&logger, "alias", None).expect(AUDIT_OK);
    let mut heard = String::new();
    let stream = ask(&logger, "alias", Some(&mut heard)).expect(AUDIT_OK);
    for answer in [&whole, &stream] {
        let entry = answer.entry();
        let said = answer
            .text(AUDIT_REPLY_CONTENT)
            .expect("a success has a text");
        assert_eq!(said, "Hello from a mock", "{name}");
        let json: Value = serde_json::from_str(answer.text(AUDIT_REPLY_JSON).unwrap_or_default())
            .expect("a success has its JSON");
        assert_eq!(json["choices"][0]["message"]["content"], said, "{name}");
        let hash = logger.hash(said.as_bytes());
        assert_eq!(
            entry["response_hash"],
            hash.text(AUDIT_REPLY_CONTENT).unwrap(),
            "{name}"
        );
        assert_eq!(entry["details"]["finish_reason"], "stop", "{name}: {entry}");
        assert_eq!(entry["details"]["usage_reported"], true, "{name}: {entry}");
    }
    assert_eq!(heard, "Hello from a mock", "{name}");
    let end = &stream.entry()["details"]["stream_end"];
    assert!(end == "done" || end == "last_chunk", "{name}: {end}");
    let wrong = ask(&logger, "no-such-model", None).expect(AUDIT_E_CALL);
    assert!(
        wrong.message().contains(": "),
        "{name}: {}",
        wrong.message()
    );
    let mut heard = String::new();
    let _ = ask(&logger, "no-such-model", Some(&mut heard)).expect(AUDIT_E_CALL);
    assert_eq!((entries(log).len(), heard.as_str()), (4, ""), "{name}");
    println!("{name}: {}", entries(log)[1]["details"]);
}

#[test]
#[ignore = "installs servers: sh tests/matrix/run.sh"]
fn real_servers_are_understood() {
    let scratch = Scratch::new();
    let port = free_port();
    let config = written(&scratch, "litellm.yaml", None);
    let number = port.to_string();
    let arguments = [
        "--config",
        &config,
        "--host",
        "127.0.0.1",
        "--port",
        &number,
    ];
    let litellm = start("litellm", "litellm", &arguments, port, &scratch);
    check(&litellm, &scratch.join("litellm-log"));

    // Before the former, whose answers it hands on.
    let next = free_port();
    let config = written(&scratch, "mlflow.yaml", Some(port));
    let number = next.to_string();
    let arguments = [
        "gateway",
        "start",
        "--config-path",
        &config,
        "--host",
        "127.0.0.1",
        "--port",
        &number,
        "--workers",
        "1",
    ];
    let mlflow = start("mlflow", "mlflow", &arguments, next, &scratch);
    check(&mlflow, &scratch.join("mlflow-log"));
}
