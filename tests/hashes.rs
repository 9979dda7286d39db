//! Hashes with a key: every content of every entry is hashed with it, and nobody but its owner has it.

mod support;

use std::ffi::{c_char, c_void};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::ptr;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, record, text};
use support::server::{Server, Then, completion, response};
use support::{Scratch, available, entries, merged, python_with, root, run};

/// The key of FORMAT.md's test vectors, and its id.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEY_ID: &str = "71168eca1a27c7cb";

fn key_file(scratch: &Scratch, content: &[u8], mode: u32) -> PathBuf {
    let file = scratch.join("key");
    std::fs::write(&file, content).expect("the scratch directory can be written to");
    std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("it's ours");
    file
}

fn config(scratch: &Scratch, more: &Value) -> Value {
    let key = key_file(scratch, format!("{KEY}\n").as_bytes(), 0o600);
    let config = json!({
        "output_path": scratch.join("log"), "hash_key_file": key, "api_key": "sk-test", "max_retries": 0,
    });
    merged(config, more)
}

/// What the log must show for a content.
fn keyed(content: &[u8]) -> String {
    let key: Vec<u8> = (0..32).collect();
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key).expect("any length will do");
    hmac.update(content);
    let hash = hmac.finalize().into_bytes();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown(answer: &Answer) -> String {
    let hash = answer.text(AUDIT_REPLY_CONTENT);
    hash.expect("it's what was asked for").to_owned()
}

/// Every text in a value that looks like a hash, with its place.
fn hashes(place: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            found.push((place.to_owned(), text.clone()));
        }
        Value::Object(members) => members
            .iter()
            .for_each(|(key, value)| hashes(&format!("{place}/{key}"), value, found)),
        Value::Array(items) => items.iter().for_each(|value| hashes(place, value, found)),
        _ => {}
    }
}

/// An entry has these hashes, made with the key, and no others.
#[track_caller]
fn has(entry: &Value, contents: &[(&str, &[u8])]) {
    let mut found = Vec::new();
    hashes("", entry, &mut found);
    found.sort();
    let mut expected: Vec<_> = contents
        .iter()
        .map(|(place, content)| ((*place).to_owned(), keyed(content)))
        .collect();
    expected.sort();
    assert_eq!(found, expected, "hashes made without the key? {entry}");
    assert_eq!(entry["details"]["hash_key_id"], KEY_ID, "{entry}");
}

const PROMPT: &str = "/prompt_hash";
const RESPONSE: &str = "/response_hash";
const REQUEST_BODY: &str = "/details/request_hash";
const RESPONSE_BODY: &str = "/details/response_body_hash";

fn begin(logger: &Logger) -> *mut AuditPending {
    let mut pending = ptr::null_mut();
    let status =
        unsafe { audit_logger_begin(logger.0, &record(), &raw mut pending, ptr::null_mut()) };
    assert_eq!(status, AUDIT_OK);
    pending
}

fn finish(pending: *mut AuditPending) {
    let status = unsafe { audit_logger_finish(pending, &record(), ptr::null_mut()) };
    assert_eq!(status, AUDIT_OK);
}

#[test]
fn a_host_s_own_calls_are_hashed_with_the_key() {
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&scratch, &json!({})));
    logger.log(&record()).expect(AUDIT_OK);
    let failed = AuditRecord {
        response: text(""),
        status: text("error"),
        error_type: text("ClientError"),
        ..record()
    };
    logger.log(&failed).expect(AUDIT_OK);
    let pending = begin(&logger);
    finish(pending);

    let logged = entries(&scratch.join("log"));
    assert_eq!(logged.len(), 3);
    for (entry, answer) in logged.iter().zip(["response", "", "response"]) {
        has(entry, &[(PROMPT, b"prompt"), (RESPONSE, answer.as_bytes())]);
    }
}

#[test]
fn the_entry_of_a_call_that_a_killed_process_left_is_hashed_with_the_key() {
    let scratch = Scratch::new();
    let config = config(&scratch, &json!({}));
    let logger = Logger::new(&config);
    let pending = begin(&logger);
    // A copy of the directory is what a kill would leave: nobody holds its journal.
    let killed = scratch.join("killed");
    run(Command::new("cp")
        .arg("-R")
        .arg(scratch.join("log"))
        .arg(&killed));
    finish(pending);

    // Whoever opens it needs no key for what was begun with one.
    drop(Logger::new(
        &json!({"output_path": killed, "integrity": false}),
    ));
    let logged = entries(&killed);
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0]["error_type"], "OutcomeUnknown");
    has(&logged[0], &[(PROMPT, b"prompt"), (RESPONSE, b"")]);
}

unsafe extern "C-unwind" fn go_on(_: *const c_char, _: usize, _: *mut c_void) -> i32 {
    AUDIT_CONTINUE
}

#[test]
fn a_chat_call_is_hashed_with_the_key_however_it_ends() {
    let sse = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"he\"}}]}\n\n\
               data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"llo\"}}]}\n\n";
    let stream = [("content-type", "text/event-stream")];
    let whole = completion("hi");
    let end = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";
    let streamed = format!("{sse}{end}data: [DONE]\n\n");
    let refusal = r#"{"error":{"code":400,"message":"no"}}"#;
    let empty = r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#;
    let messages = r#"{"messages": [{"role": "user", "content": "why?"}]}"#;
    let canonical = r#"[{"content":"why?","role":"user"}]"#;
    // What it is, whether it is streamed, the params, the response, how much of its body comes, the
    // error, the prompt, the answer's text.
    for (what, listens, params, status, headers, body, class, prompt, answer) in [
        (
            "an answer",
            false,
            "{}",
            200,
            &[][..],
            &*whole,
            "",
            "why?",
            "hi",
        ),
        (
            "messages",
            false,
            messages,
            200,
            &[],
            &whole,
            "",
            canonical,
            "hi",
        ),
        ("no text", false, "{}", 200, &[], empty, "", "why?", ""),
        (
            "a refusal",
            false,
            "{}",
            400,
            &[],
            refusal,
            "BadRequestError",
            "why?",
            "",
        ),
        (
            "a stream", true, "{}", 200, &stream, &streamed, "", "why?", "hello",
        ),
        (
            "a stream cut off",
            true,
            "{}",
            200,
            &stream,
            sse,
            "IncompleteResponse",
            "why?",
            "hello",
        ),
        (
            "a refused stream",
            true,
            "{}",
            400,
            &[],
            refusal,
            "BadRequestError",
            "why?",
            "",
        ),
    ] {
        let server = Server::always(response(status, headers, body.as_bytes()));
        let scratch = Scratch::new();
        let logger = Logger::new(&config(&scratch, &json!({"base_url": server.base_url()})));
        let mut request = AuditChatRequest {
            user_id: text("user-1"),
            params: text(params),
            on_delta: listens.then_some(go_on as _),
            ..chat_request()
        };
        if prompt != canonical {
            request.prompt = text(prompt);
        }
        let answered = logger.chat(&request);
        assert_eq!(
            answered.error_type(),
            class,
            "{what}: {}",
            answered.message()
        );
        let sent = server.requests().remove(0).body;
        has(
            &entries(&scratch.join("log"))[0],
            &[
                (PROMPT, prompt.as_bytes()),
                (RESPONSE, answer.as_bytes()),
                (REQUEST_BODY, &sent),
                (RESPONSE_BODY, body.as_bytes()),
            ],
        );
    }
}

#[test]
fn a_chat_call_without_a_whole_answer_is_hashed_with_the_key() {
    // Reads the request and says nothing, or half of an answer.
    for half in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\":",
    ] {
        let server = Server::start(move |_, stream| {
            stream.write_all(half.as_bytes())?;
            Ok(Then::Close)
        });
        let scratch = Scratch::new();
        let logger = Logger::new(&config(&scratch, &json!({"base_url": server.base_url()})));
        let answer = logger.ask("why?").expect(AUDIT_E_CALL);
        assert_eq!(
            answer.int(AUDIT_REPLY_OUTCOME),
            i64::from(AUDIT_OUTCOME_UNKNOWN)
        );
        let sent = server.requests().remove(0).body;
        let mut contents = vec![
            (PROMPT, b"why?".as_slice()),
            (RESPONSE, b""),
            (REQUEST_BODY, &sent),
        ];
        if !half.is_empty() {
            contents.push((RESPONSE_BODY, b"{\"choices\":"));
        }
        has(&entries(&scratch.join("log"))[0], &contents);
    }
}

#[test]
fn without_details_the_13_fields_are_hashed_with_the_key_and_nothing_names_it() {
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&scratch, &json!({"details": false})));
    logger.log(&record()).expect(AUDIT_OK);
    let entry = &entries(&scratch.join("log"))[0];
    assert_eq!(entry["prompt_hash"], keyed(b"prompt"));
    assert_eq!(entry["response_hash"], keyed(b"response"));
    assert_eq!(entry.as_object().map(serde_json::Map::len), Some(13));
}

#[test]
fn without_a_key_hashes_are_sha_256_and_nothing_names_a_key() {
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&scratch, &json!({"hash_key_file": null})));
    logger.log(&record()).expect(AUDIT_OK);
    let entry = &entries(&scratch.join("log"))[0];
    // printf %s prompt | sha256sum
    let plain = "cf07194ee232eb531e15f690000d19846dea69cf05504782658afcfacb9228a2";
    assert_eq!(entry["prompt_hash"], plain);
    assert_eq!(entry["details"]["hash_key_id"], Value::Null);
}

/// The texts of FORMAT.md's test vectors with the key.
const TEXTS: [&str; 3] = [
    "",
    "abc",
    "[{\"content\":\"h\u{e9}\\n\",\"role\":\"user\",\"weight\":1}]",
];

fn format_md() -> String {
    std::fs::read_to_string(root().join("FORMAT.md")).expect("it's there")
}

#[test]
fn the_published_vectors_are_what_the_log_shows() {
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&scratch, &json!({})));
    let published = format_md();
    for said in [KEY, KEY_ID] {
        assert!(
            published.contains(&format!("`{said}`")),
            "FORMAT.md lacks {said}"
        );
    }
    for text in TEXTS {
        let hash = shown(&logger.hash(text.as_bytes()).expect(AUDIT_OK));
        assert_eq!(hash, keyed(text.as_bytes()), "{text}");
        assert!(
            published.contains(&format!("| `{hash}` |")),
            "FORMAT.md lacks {hash}, of {text:?}"
        );
    }
}

#[test]
fn openssl_finds_the_same_hashes() {
    if !available("openssl") {
        return;
    }
    for text in TEXTS {
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-r", "-mac", "HMAC", "-macopt"])
            .arg(format!("hexkey:{KEY}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl starts");
        let mut input = openssl.stdin.take().expect("it's piped");
        input.write_all(text.as_bytes()).expect("openssl reads it");
        drop(input);
        let output = openssl.wait_with_output().expect("openssl ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.split(' ').next(), Some(&*keyed(text.as_bytes())));
    }
}

#[test]
fn the_published_program_finds_the_same_hashes() {
    let Some(python) = python_with("hmac") else {
        return;
    };
    let scratch = Scratch::new();
    let key = key_file(&scratch, format!("{KEY}\n").as_bytes(), 0o600);
    let published = format_md();
    let program = published
        .split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let program = program.expect("FORMAT.md shows a program");
    for text in TEXTS {
        let said = run(Command::new(&python)
            .args(["-c", program])
            .arg(&key)
            .arg(text));
        let expected = format!("{KEY_ID} {}\n", keyed(text.as_bytes()));
        assert_eq!(said, expected);
    }
}

fn with_key_file(scratch: &Scratch, file: &Path) -> Result<Logger, Answer> {
    let config = json!({"output_path": scratch.join("log"), "hash_key_file": file});
    Logger::try_new(&config.to_string())
}

#[test]
fn a_key_file_is_64_digits_that_others_can_t_read() {
    let scratch = Scratch::new();
    let lines = [
        KEY.to_owned(),
        format!("{KEY}\n"),
        format!("{KEY}\r\n"),
        KEY.to_uppercase(),
    ];
    for (content, mode) in lines.iter().zip([0o400, 0o600, 0o440, 0o640]) {
        let file = key_file(&scratch, content.as_bytes(), mode);
        let logger = with_key_file(&scratch, &file)
            .unwrap_or_else(|answer| panic!("{mode:o}: {}", answer.message()));
        assert_eq!(shown(&logger.hash(b"abc")), keyed(b"abc"));
        std::fs::remove_file(file).expect("it's ours");
    }
}

/// Kubernetes mounts a secret as a link to a link.
#[test]
fn a_key_file_may_be_a_link() {
    let scratch = Scratch::new();
    let file = key_file(&scratch, KEY.as_bytes(), 0o400);
    let (data, link) = (scratch.join("..data"), scratch.join("link"));
    std::os::unix::fs::symlink(file, &data).expect("it can be made");
    std::os::unix::fs::symlink(data, &link).expect("it can be made");
    let logger = with_key_file(&scratch, &link).unwrap_or_else(|a| panic!("{}", a.message()));
    assert_eq!(shown(&logger.hash(b"abc")), keyed(b"abc"));
}

#[track_caller]
fn refused(scratch: &Scratch, file: &Path, says: &str) {
    let Err(answer) = with_key_file(scratch, file) else {
        panic!("{} is accepted", file.display());
    };
    assert_eq!(answer.status, AUDIT_E_CONFIG);
    let message = answer.message();
    assert!(
        message.starts_with("\"hash_key_file\" ") && message.contains(says),
        "{message}"
    );
    assert!(!message.contains("cafe"), "it shows the key: {message}");
    assert!(!scratch.join("log").exists(), "a log was begun without it");
}

#[test]
fn a_key_file_that_can_t_be_used_is_refused_and_not_repeated() {
    let scratch = Scratch::new();
    let right = "cafe".repeat(16);
    for wrong in [
        b"".as_slice(),
        b"\n",
        &right.as_bytes()[1..],
        format!("{right}0").as_bytes(),
        format!("{right}\n{right}").as_bytes(),
        format!(" {right}").as_bytes(),
        right.replace('f', "g").as_bytes(),
        format!("0x{}", &right[2..]).as_bytes(),
        &[0xca; 32],
        &[0xff; 64],
        right.repeat(1000).as_bytes(),
    ] {
        let file = key_file(&scratch, wrong, 0o600);
        refused(&scratch, &file, "must hold 64 hexadecimal digits");
    }
    for mode in [0o644, 0o604, 0o602, 0o666] {
        let file = key_file(&scratch, right.as_bytes(), mode);
        refused(
            &scratch,
            &file,
            &format!("(mode {mode:04o}); give it mode 0400"),
        );
    }
    refused(&scratch, &scratch.join("cafe"), "No such file");
    refused(&scratch, scratch.path(), "it isn't a plain file");
    let fifo = scratch.join("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    refused(&scratch, &fifo, "it isn't a plain file");
    let file = key_file(&scratch, right.as_bytes(), 0o600);
    match std::os::unix::fs::chown(&file, Some(12345), None) {
        Ok(()) => refused(&scratch, &file, "of the user 12345"),
        Err(_) => support::skip("only root can give a file away"),
    }
}

#[test]
fn the_key_is_read_when_a_logger_is_made_and_only_then() {
    let scratch = Scratch::new();
    let config = config(&scratch, &json!({}));
    let first = Logger::new(&config);
    key_file(&scratch, "ab".repeat(32).as_bytes(), 0o600);
    let mut other = config.clone();
    other["output_path"] = json!(scratch.join("other"));
    let second = Logger::new(&other);
    std::fs::remove_file(scratch.join("key")).expect("it's there");
    assert_eq!(shown(&first.hash(b"abc")), keyed(b"abc"));
    assert_ne!(shown(&second.hash(b"abc")), keyed(b"abc"));
}
