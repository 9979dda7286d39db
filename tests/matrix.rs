//! Real servers that packages bring, each called whole, as a stream and wrongly. Outside CI:
//!
//!     sh tests/matrix/run.sh
//!
//! installs them below target/matrix and runs this. AUDIT_TEST_MATRIX is that directory.

mod support;

use std::ffi::{c_char, c_void};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::ptr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, text};
use support::tls::{Running, free_port};
use support::{Scratch, entries, merged, root, run};

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

unsafe extern "C-unwind" fn on_delta(text: *const c_char, len: usize, heard: *mut c_void) -> i32 {
    let heard = unsafe { &mut *heard.cast::<String>() };
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    heard.push_str(std::str::from_utf8(bytes).expect("whole characters"));
    AUDIT_CONTINUE
}

/// A call, as a whole or as a stream.
struct Call {
    name: &'static str,
    model: &'static str,
    prompt: String,
    params: Value,
    /// Whether it fails.
    fails: bool,
    /// Why the openai client sees the stream otherwise, if it does.
    stream_differs: Option<&'static str>,
}

fn call(name: &'static str, params: Value) -> Call {
    Call {
        name,
        model: "alias",
        prompt: "Who are you?".into(),
        params,
        fails: false,
        stream_differs: None,
    }
}

/// What came of a call, as openai_client.py tells it.
fn said(answer: &Answer) -> Value {
    if answer.status != AUDIT_OK {
        let status = answer.int(AUDIT_REPLY_HTTP_STATUS);
        let status = (status > 0).then_some(status);
        return json!({"raised": answer.error_type(), "status": status});
    }
    let json = answer.text(AUDIT_REPLY_JSON).expect("a success has one");
    let json: Value = serde_json::from_str(json).expect("it is JSON");
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let function = |call: &Value| json!([call["function"]["name"], call["function"]["arguments"]]);
    let choice = |choice: &Value| {
        let message = &choice["message"];
        json!({
            "content": message["content"].as_str().unwrap_or_default(),
            "calls": items(&message["tool_calls"]).iter().map(function).collect::<Vec<_>>(),
            "finish_reason": choice["finish_reason"],
        })
    };
    let usage = &json["usage"];
    json!({
        "model": json["model"],
        "choices": items(&json["choices"]).iter().map(choice).collect::<Vec<_>>(),
        "usage": [usage["prompt_tokens"], usage["completion_tokens"]],
    })
}

/// Text, hash, JSON and what was heard are of one text.
fn check_text(logger: &Logger, answer: &Answer, heard: Option<&str>, what: &str) {
    let text = answer.text(AUDIT_REPLY_CONTENT).unwrap_or_default();
    let (entry, said) = (answer.entry(), said(answer));
    let hash = logger.hash(text.as_bytes());
    let hash = hash.text(AUDIT_REPLY_CONTENT).expect("it is the hash");
    assert_eq!(entry["response_hash"], hash, "{what}");
    assert_eq!(said["choices"][0]["content"], text, "{what}");
    assert_eq!(heard.unwrap_or(text), text, "{what}");
    assert_eq!(entry["details"]["usage_reported"], true, "{what}: {entry}");
}

/// Makes calls, each as a whole and as a stream, by the library and by the openai client.
fn check(server: &Real, calls: &[Call], scratch: &Scratch) {
    let log = scratch.join(&format!("{}-log", server.name));
    let logger = Logger::new(&json!({
        "output_path": log, "base_url": server.base_url, "api_key": "none", "max_retries": 0,
    }));
    let both = || calls.iter().flat_map(|call| [(call, false), (call, true)]);
    let sent = both().map(|(call, stream)| {
        let mut sent = merged(call.params.clone(), &json!({
            "model": call.model, "messages": [{"role": "user", "content": call.prompt}], "stream": stream,
        }));
        if stream {
            sent["stream_options"] = json!({"include_usage": true});
        }
        sent
    });
    let sent: Value = sent.collect();
    let script = root().join("tests/matrix/openai_client.py");
    let python = installed().join("openai/bin/python");
    let theirs = run(Command::new(python)
        .arg(script)
        .arg(&server.base_url)
        .arg(sent.to_string()));
    let theirs: Vec<Value> = serde_json::from_str(&theirs).expect("a list");
    for ((call, stream), theirs) in both().zip(theirs) {
        let what = format!("{}, {}, stream {stream}", server.name, call.name);
        let mut heard = String::new();
        let params = call.params.to_string();
        let mut request = AuditChatRequest {
            user_id: text("user-1"),
            prompt: text(&call.prompt),
            model: text(call.model),
            params: text(&params),
            ..chat_request()
        };
        if stream {
            request.on_delta = Some(on_delta);
            request.context = ptr::from_mut(&mut heard).cast();
        }
        let answer = logger.chat(&request);
        let ours = said(&answer);
        println!("{what}: {ours}\n  {}", answer.entry()["details"]);
        assert_eq!(
            answer.status != AUDIT_OK,
            call.fails,
            "{what}: {}",
            answer.message()
        );
        match call.stream_differs.filter(|_| stream) {
            None => assert_eq!(ours, theirs, "{what}"),
            Some(why) => assert_ne!(ours, theirs, "{what}: {why}"),
        }
        if call.fails {
            assert!(
                answer.message().contains(": "),
                "{what}: {}",
                answer.message()
            );
            assert_eq!(heard, "", "{what}");
        } else {
            check_text(&logger, &answer, stream.then_some(&heard), &what);
        }
    }
    assert_eq!(entries(&log).len(), 2 * calls.len(), "{}", server.name);
}

#[test]
#[ignore = "installs servers: sh tests/matrix/run.sh"]
fn litellm_is_understood_and_mlflow_before_it() {
    let scratch = Scratch::new();
    let wrong_model = Call {
        model: "no-such-model",
        fails: true,
        ..call("an unknown model", json!({}))
    };
    let answer_and_error = [call("an answer", json!({})), wrong_model];
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
    check(&litellm, &answer_and_error, &scratch);

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
    check(&mlflow, &answer_and_error, &scratch);
}

#[test]
#[ignore = "installs servers: sh tests/matrix/run.sh"]
fn llama_cpp_is_understood() {
    let scratch = Scratch::new();
    let port = free_port();
    let model = scratch.join("model.gguf");
    let python = installed().join("llama/bin/python");
    let script = |name: &str| root().join("tests/matrix").join(name);
    run(Command::new(python)
        .arg(script("llama_model.py"))
        .arg(&model));
    let (server, number) = (script("llama_server.py"), port.to_string());
    let arguments = [&server, &model].map(|path| path.to_str().expect("UTF-8"));
    let arguments = [arguments[0], arguments[1], &number];
    let llama = start("llama", "python", &arguments, port, &scratch);
    // The same words however it is asked, and whatever was asked before.
    let steady = |more: Value| merged(json!({"temperature": 0, "cache_prompt": false}), &more);
    let hello = r#"root ::= "Hello from a mock""#;
    let cut = Call {
        stream_differs: Some("the client's accumulator raises where an answer is cut"),
        ..call("an answer that is cut", steady(json!({"max_tokens": 8})))
    };
    let two = Call {
        stream_differs: Some("the client's accumulator fails where a second choice begins"),
        ..call("two choices", steady(json!({"grammar": hello, "n": 2})))
    };
    let long = Call {
        prompt: "Who are you? ".repeat(200),
        fails: true,
        ..call("a prompt that is too long", json!({}))
    };
    let calls = [
        call("an answer", steady(json!({"grammar": hello}))),
        cut,
        call("a call of a tool", steady(tool_call())),
        two,
        long,
    ];
    check(&llama, &calls, &scratch);
}

/// What makes a random model call a tool, and then end.
fn tool_call() -> Value {
    // <tool_call> and </s>, as llama_model.py numbers them. Its grammar allows each where it belongs.
    let favoured = json!({"3": 50, "2": 100});
    let parameters = json!({"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]});
    let weather = json!({"name": "weather", "description": "Says it.", "parameters": parameters});
    json!({
        "tool_choice": "required", "logit_bias": favoured,
        "tools": [{"type": "function", "function": weather}],
    })
}
