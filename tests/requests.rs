//! Requests and records as one JSON text: the same calls and entries as by the C structures, and the
//! schemas say what is taken.

mod support;

use std::ptr;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, record, text};
use support::server::{Server, completion, response};
use support::{Scratch, entries, root};

struct Setup {
    logger: Logger,
    server: Server,
    scratch: Scratch,
}

fn setup() -> Setup {
    let server = Server::always(response(200, &[], completion("hi").as_bytes()));
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test"
    }));
    Setup {
        logger,
        server,
        scratch,
    }
}

impl Setup {
    fn chat(&self, request: &str) -> Answer {
        let (data, mut reply) = (request.as_ptr().cast(), ptr::null_mut());
        let cancel = ptr::null_mut();
        let status =
            unsafe { audit_chat_json(self.logger.0, data, request.len(), cancel, &raw mut reply) };
        Answer { status, reply }
    }

    fn log(&self, record: &str) -> Answer {
        let (data, mut reply) = (record.as_ptr().cast(), ptr::null_mut());
        let status =
            unsafe { audit_record_json(self.logger.0, data, record.len(), &raw mut reply) };
        Answer { status, reply }
    }

    fn begin(&self, record: &Value) -> (*mut AuditPending, Answer) {
        let record = record.to_string();
        let (mut pending, mut reply) = (ptr::null_mut(), ptr::null_mut());
        let (data, len) = (record.as_ptr().cast(), record.len());
        let status = unsafe {
            audit_record_begin_json(self.logger.0, data, len, &raw mut pending, &raw mut reply)
        };
        (pending, Answer { status, reply })
    }
}

fn finish(pending: *mut AuditPending, record: &Value) -> Answer {
    finish_text(pending, &record.to_string())
}

fn finish_text(pending: *mut AuditPending, record: &str) -> Answer {
    let mut reply = ptr::null_mut();
    let (data, len) = (record.as_ptr().cast(), record.len());
    let status = unsafe { audit_record_finish_json(pending, data, len, &raw mut reply) };
    Answer { status, reply }
}

/// An entry without what no two of them share.
fn without_itself(mut entry: Value) -> Value {
    for own in ["id", "timestamp", "latency_ms"] {
        entry[own].take();
    }
    entry["details"]["started_at"].take();
    entry["details"]["attempts"].take();
    entry
}

#[test]
fn a_request_as_json_sends_and_logs_what_the_structure_does() {
    let setup = setup();
    let by_structure = setup.logger.chat(&AuditChatRequest {
        user_id: text("us\0er"),
        prompt: text("caf\u{e9} \"\u{202e}\n"),
        system: text("be brief"),
        model: text("a/b"),
        metadata: text(r#"{"a": 1.50, "b": "x"}"#),
        params: text(r#"{"temperature": 0.10}"#),
        options: text(r#"{"timeout_ms": 5000}"#),
        ..chat_request()
    });
    let by_json = setup.chat(
        r#"{"user_id": "us\u0000er", "prompt": "caf\u00e9 \"\u202e\n", "system": "be brief",
            "model": "a/b", "metadata": {"a": 1.50, "b": "x"}, "params": {"temperature": 0.10},
            "options": {"timeout_ms": 5000}, "stream": null}"#,
    );
    let (by_structure, by_json) = (by_structure.expect(AUDIT_OK), by_json.expect(AUDIT_OK));
    assert_eq!(by_json.text(AUDIT_REPLY_CONTENT), Some("hi"));
    assert_eq!(
        without_itself(by_json.entry()),
        without_itself(by_structure.entry())
    );
    let requests = setup.server.requests();
    assert_eq!(requests[0].body, requests[1].body);
}

#[test]
fn a_stream_that_nobody_hears_is_put_together_all_the_same() {
    let chunk = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let body = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    let kind = [("content-type", "text/event-stream")];
    let server = Server::always(response(200, &kind, body.as_bytes()));
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test"
    }));
    let setup = Setup {
        logger,
        server,
        scratch,
    };
    let answer = setup
        .chat(r#"{"user_id": "u", "prompt": "p", "stream": true}"#)
        .expect(AUDIT_OK);
    assert_eq!(answer.text(AUDIT_REPLY_CONTENT), Some("hi"));
    assert_eq!(setup.server.requests()[0].json()["stream"], true);
    assert_eq!(answer.entry()["details"]["stream"], true);
}

#[test]
fn a_record_as_json_leaves_the_entry_that_the_structure_does() {
    let setup = setup();
    let by_structure = setup.logger.log(&record()).expect(AUDIT_OK);
    let as_json = json!({"user_id": "user-1", "model": "openai/gpt-4-turbo", "prompt": "prompt",
        "response": "response", "prompt_tokens": 5, "completion_tokens": 7, "latency_ms": 12.5,
        "status": "success"});
    let by_json = setup.log(&as_json.to_string()).expect(AUDIT_OK);
    assert_eq!(
        without_itself(by_json.entry()),
        without_itself(by_structure.entry())
    );
    assert_eq!(by_json.entry()["latency_ms"], 12.5);

    let asked = json!({"user_id": "u", "model": "m", "prompt": "p", "metadata": {"a": 1}});
    let (pending, begun) = setup.begin(&asked);
    let id = begun
        .expect(AUDIT_OK)
        .text(AUDIT_REPLY_ENTRY_ID)
        .map(str::to_owned);
    let refused = finish(pending, &json!({"status": "error"})).expect(AUDIT_E_ARGUMENT);
    assert!(
        refused.message().contains("error_type"),
        "{}",
        refused.message()
    );
    let came = json!({"status": "error", "error_type": "Boom", "metadata": {"b": 2}});
    let entry = finish(pending, &came).expect(AUDIT_OK).entry();
    assert_eq!(entry["id"].as_str().map(str::to_owned), id);
    assert_eq!(entry["metadata"], json!({"b": 2}));
    assert_eq!(entry["prompt_tokens"], Value::Null);
    finish(pending, &came).expect(AUDIT_E_HANDLE);
    assert_eq!(entries(&setup.scratch.join("log")).len(), 3);
}

/// Readers lose the line or its whole file to one.
#[test]
fn numbers_that_readers_cannot_hold_are_refused_in_metadata_unless_they_are_asked_for() {
    let setup = setup();
    let log = setup.scratch.join("any");
    let any = Logger::new(&json!({
        "output_path": log, "base_url": setup.server.base_url(), "api_key": "sk-test",
        "metadata_numbers": "any"
    }));
    for number in ["18446744073709551616", "1e400", "1e-400"] {
        let metadata = format!("{{\"n\":{number}}}");
        let request = AuditChatRequest {
            user_id: text("u"),
            prompt: text("p"),
            metadata: text(&metadata),
            ..chat_request()
        };
        let logged = AuditRecord {
            metadata: text(&metadata),
            ..record()
        };
        let asked = json!({"user_id": "u", "model": "m", "prompt": "p"});
        let (pending, begun) = setup.begin(&asked);
        begun.expect(AUDIT_OK);
        let came = format!("{{\"status\":\"success\",\"metadata\":{metadata}}}");
        for refused in [
            setup.logger.chat(&request),
            setup.logger.log(&logged),
            finish_text(pending, &came),
        ] {
            let refused = refused.expect(AUDIT_E_ARGUMENT);
            let says = format!(
                "metadata: a number that fits neither a 64-bit integer nor a normal double (\"{number}\"; \
                 write it as a string, or set \"metadata_numbers\" to \"any\") at byte 5"
            );
            assert!(refused.message().contains(&says), "{}", refused.message());
        }
        finish(pending, &json!({"status": "success"})).expect(AUDIT_OK);
        for taken in [any.chat(&request), any.log(&logged)] {
            let taken = taken.expect(AUDIT_OK);
            let line = taken.text(AUDIT_REPLY_ENTRY).expect("it's there");
            assert!(
                line.contains(&format!("\"metadata\":{metadata},")),
                "{line}"
            );
        }
    }
    assert_eq!(setup.server.requests().len(), 3);
    assert_eq!(entries(&setup.scratch.join("log")).len(), 3);
}

#[test]
fn what_is_no_request_is_named_and_leaves_nothing() {
    let setup = setup();
    for (request, says) in [
        ("", "request: a JSON object expected"),
        (
            "{\"user_id\": \"u\", \"user_id\": \"v\"}",
            "duplicate key \"user_id\"",
        ),
        (
            "{\"user_id\": \"\\ud800\", \"prompt\": \"\"}",
            "lone surrogate",
        ),
        (
            "{\"user_id\": \"u\", \"prompt\": \"\", \"metadata\": {\"a\": 1, \"a\": 2}}",
            "duplicate",
        ),
        ("{\"user_id\": null, \"prompt\": \"\"}", "user_id is absent"),
    ] {
        let refused = setup.chat(request).expect(AUDIT_E_ARGUMENT);
        assert!(
            refused.message().contains(says),
            "{request}: {}",
            refused.message()
        );
    }
    let mut reply = ptr::null_mut();
    let none = ptr::null();
    let status =
        unsafe { audit_chat_json(setup.logger.0, none, 0, ptr::null_mut(), &raw mut reply) };
    let refused = Answer { status, reply }.expect(AUDIT_E_ARGUMENT);
    assert!(
        refused.message().contains("request is absent"),
        "{}",
        refused.message()
    );
    let half =
        r#"{"user_id": "u", "model": "m", "prompt": "", "status": "success", "prompt_tokens": 1}"#;
    let refused = setup.log(half).expect(AUDIT_E_ARGUMENT);
    assert!(
        refused.message().contains("or neither"),
        "{}",
        refused.message()
    );
    assert!(entries(&setup.scratch.join("log")).is_empty());
}

/// Whether a rule of the schema takes a value.
fn takes(rule: &Value, value: &Value) -> bool {
    if let Some(known) = rule["enum"].as_array() {
        return known.contains(value);
    }
    let kinds = match &rule["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let is_of = |kind: &Value| match kind.as_str().expect("a type is a text") {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "object" => value.is_object(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("the schema has the type {other}, which this test doesn't know"),
    };
    let minimum = rule["minimum"].as_f64().unwrap_or(f64::MIN);
    let maximum = rule["maximum"].as_f64().unwrap_or(f64::MAX);
    let within = value
        .as_f64()
        .is_none_or(|number| (minimum..=maximum).contains(&number));
    kinds.iter().any(is_of) && within
}

/// Sets each property of a schema to values of every kind, and compares.
fn compare(name: &str, base: &Value, send: impl Fn(&str) -> Answer) {
    let text = std::fs::read_to_string(root().join("schema").join(name)).expect("it's there");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    assert_eq!(schema["additionalProperties"], false);
    let properties = schema["properties"].as_object().expect("it has properties");
    for (key, rule) in properties {
        assert!(rule["description"].is_string(), "{key} isn't described");
        for value in [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(-1),
            json!(1.5),
            json!(i64::MAX),
            json!("all"),
            json!("success"),
            json!(""),
            json!({}),
            json!([]),
        ] {
            let mut sent = base.clone();
            sent[key] = value.clone();
            // Set with it what it depends on; an error may name that.
            let mut named = vec![key.as_str()];
            let others = schema["dependentRequired"][key].as_array();
            for other in others.into_iter().flatten().filter_map(Value::as_str) {
                sent[other] = value.clone();
                named.push(other);
            }
            if key == "error_type" && value.is_string() {
                sent["status"] = json!("error");
            }
            if key == "model" && value == "" && name == "request.json" {
                continue;
            }
            let answer = send(&sent.to_string());
            let taken = answer.status == AUDIT_OK;
            assert_eq!(
                taken,
                takes(rule, &value),
                "{key}: {value}: {}",
                answer.message()
            );
            let is_named = |name: &&str| answer.message().contains(*name);
            assert!(taken || named.iter().any(is_named), "{}", answer.message());
        }
    }
    for required in schema["required"]
        .as_array()
        .expect("something is required")
    {
        let mut sent = base.clone();
        let key = required.as_str().expect("a name");
        sent.as_object_mut().expect("an object").remove(key);
        let refused = send(&sent.to_string()).expect(AUDIT_E_ARGUMENT);
        assert!(refused.message().contains(key), "{}", refused.message());
    }
}

#[test]
fn the_schemas_say_what_is_taken() {
    let setup = setup();
    let request = json!({"user_id": "u", "prompt": "p"});
    compare("request.json", &request, |sent| {
        let mut sent: Value = serde_json::from_str(sent).expect("it's JSON");
        if sent["prompt"].is_null() {
            sent["params"] = json!({"messages": []});
        }
        setup.chat(&sent.to_string())
    });
    let record = json!({"user_id": "u", "model": "m", "prompt": "p", "status": "success"});
    compare("record.json", &record, |sent| setup.log(sent));
}
