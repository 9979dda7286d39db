//! The configuration: the schema and the parser say the same, and every mistake is named.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, text};
use support::{Scratch, root};

fn schema() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(root().join("schema/config.json")).expect("it's there");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    schema["properties"]
        .as_object()
        .expect("the schema lists properties")
        .clone()
}

/// A configuration with one key set, in a directory of its own.
fn with(scratch: &Scratch, key: &str, value: &Value) -> Result<Logger, Answer> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    // A log goes on with some of the settings that it was begun with.
    let log = scratch.join(&format!("log{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let mut config = json!({"output_path": log});
    let value = match key {
        // Not into the directory of the tests.
        "output_path" if value == "audit_logs" || value == "x" => json!(log),
        _ => value.clone(),
    };
    match key.split_once('.') {
        None => config[key] = value,
        Some((object, key)) => config[object] = json!({key: value}),
    }
    Logger::try_new(&config.to_string())
}

/// What an error calls a key, that of an object within the configuration by its own name.
fn quoted(key: &str) -> String {
    format!("\"{}\"", key.rsplit('.').next().unwrap_or_default())
}

#[track_caller]
fn refused(scratch: &Scratch, key: &str, value: &Value) {
    match with(scratch, key, value) {
        Ok(_) => panic!("{key}: {value} is accepted"),
        Err(answer) => {
            assert_eq!(
                answer.status,
                AUDIT_E_CONFIG,
                "{key}: {value}: {}",
                answer.message()
            );
            assert!(
                answer.message().contains(&quoted(key)),
                "{}",
                answer.message()
            );
        }
    }
}

#[track_caller]
fn accepted(scratch: &Scratch, key: &str, value: &Value) {
    if let Err(answer) = with(scratch, key, value) {
        panic!("{key}: {value}: {}", answer.message());
    }
}

#[test]
fn the_parser_accepts_what_the_schema_allows_and_nothing_else() {
    let scratch = Scratch::new();
    let within = |key: &str, rule: &Value| {
        let objects = rule["oneOf"].as_array().cloned().unwrap_or_default();
        let members = objects
            .iter()
            .filter_map(|object| object["properties"].as_object());
        let members = members
            .flatten()
            .filter(|(_, rule)| rule.get("default").is_some());
        members
            .map(|(name, rule)| (format!("{key}.{name}"), rule.clone()))
            .collect::<Vec<_>>()
    };
    let rules = schema()
        .into_iter()
        .flat_map(|(key, rule)| [within(&key, &rule), vec![(key, rule)]].concat());
    for (key, rule) in rules {
        let default = rule
            .get("default")
            .unwrap_or_else(|| panic!("{key} has no default"));
        assert!(rule["description"].is_string(), "{key} isn't described");
        accepted(&scratch, &key, default);

        for known in rule["enum"].as_array().into_iter().flatten() {
            accepted(&scratch, &key, known);
        }
        let types: Vec<&str> = match &rule["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => {
                let fixed = ["enum", "const", "oneOf"];
                assert!(fixed.iter().any(|rest| !rule[rest].is_null()), "{key}");
                vec![]
            }
        };
        for (kind, value) in [
            ("null", json!(null)),
            ("boolean", json!(true)),
            ("integer", json!(20_000)),
            ("string", json!("x")),
            ("object", json!({})),
            ("array", json!([])),
        ] {
            if types.contains(&kind) {
                // What else these must be is tested elsewhere.
                if ![
                    "base_url",
                    "max_retries",
                    "proxy",
                    "ca_file",
                    "client_cert_file",
                    "client_key_file",
                    "hash_key_file",
                    "integrity.key_file",
                    "integrity.guard_file",
                    "integrity.witness_policy",
                ]
                .contains(&key.as_str())
                    || value.is_null()
                {
                    accepted(&scratch, &key, &value);
                }
            } else if value != *default {
                refused(&scratch, &key, &value);
            }
        }
        if types.contains(&"integer") {
            let bound = |name: &str| {
                rule[name]
                    .as_i64()
                    .unwrap_or_else(|| panic!("{key} {name}"))
            };
            accepted(&scratch, &key, &json!(bound("minimum")));
            accepted(&scratch, &key, &json!(bound("maximum")));
            refused(&scratch, &key, &json!(bound("minimum") - 1));
            refused(&scratch, &key, &json!(bound("maximum") + 1));
            refused(&scratch, &key, &json!(20_000.5));
        }
        if types.contains(&"string") {
            assert_eq!(rule["minLength"], 1, "{key}");
            refused(&scratch, &key, &json!(""));
            refused(&scratch, &key, &json!("a\0b"));
        }
        if let Some(most) = rule["maxLength"].as_u64() {
            let most = usize::try_from(most).expect("it fits");
            accepted(&scratch, &key, &json!("k".repeat(most)));
            refused(&scratch, &key, &json!("k".repeat(most + 1)));
        }
    }
}

#[test]
fn access_is_the_owner_s_or_a_group_s_that_the_system_knows() {
    let scratch = Scratch::new();
    // Everybody may give a directory of their own to the group that they are in.
    let own = std::fs::metadata(scratch.path()).expect("it's there");
    let own = std::os::unix::fs::MetadataExt::gid(&own);
    accepted(&scratch, "access", &json!({"group": own}));
    for wrong in [
        json!({"group": "no such group"}),
        json!({"group": ""}),
        json!({"group": "a\0b"}),
        json!({"group": -1}),
        json!({"group": 4_294_967_295_u32}),
        json!({"group": null}),
        json!({"user": "root"}),
        json!({"group": own, "user": "root"}),
        json!("group"),
    ] {
        refused(&scratch, "access", &wrong);
    }
}

#[test]
fn a_text_that_is_no_object_of_known_keys_is_refused() {
    for (config, says) in [
        ("", "a JSON object expected at byte 0"),
        ("null", "a JSON object expected at byte 0"),
        ("[]", "a JSON object expected at byte 0"),
        ("{", "a key in double quotes expected at byte 1"),
        (r#"{"model":"a","model":"b"}"#, "duplicate key \"model\""),
        (r#"{"modle":"a"}"#, "\"modle\" is not a known key"),
        (r#"{"api_key":"a","api_key_file":"b"}"#, "set one of them"),
    ] {
        let Err(answer) = Logger::try_new(config) else {
            panic!("{config} is accepted")
        };
        assert_eq!(answer.status, AUDIT_E_CONFIG);
        assert!(
            answer.message().contains(says),
            "{config}: {}",
            answer.message()
        );
    }
}

#[test]
fn a_base_url_that_isn_t_one_is_refused() {
    let scratch = Scratch::new();
    for url in [
        "openrouter.ai/api/v1",
        "https://",
        "https:///api",
        "ftp://host/v1",
        "file:///etc/passwd",
        "http://example.com/v1",
        "http://192.168.1.1/v1",
        "https://user:secret@host/v1",
        "https://host/v1?key=secret",
        "https://host/v1#secret",
        "https://host:0/v1",
        "https://host:65536/v1",
        "https://host:/v1",
        "https://ho st/v1",
        "https://host/v1\r\nX: y",
        "https://[::1",
        "https://[fe80::1%25eth0]/v1",
    ] {
        refused(&scratch, "base_url", &json!(url));
        let Err(answer) = with(&scratch, "base_url", &json!(url)) else {
            unreachable!()
        };
        assert!(!answer.message().contains("secret"), "{}", answer.message());
    }
    refused(
        &scratch,
        "base_url",
        &json!(format!("https://{}/v1", "a".repeat(300))),
    );
    for url in [
        "https://host",
        "https://host/",
        "https://host:8443/some/path/",
        "http://localhost:8080/v1",
        "http://127.0.0.1:8080/v1",
        "http://127.8.8.8/v1",
        "http://[::1]:8080/v1",
    ] {
        accepted(&scratch, "base_url", &json!(url));
    }
    let config = json!({
        "output_path": scratch.join("log"), "base_url": "http://10.0.0.1/v1", "allow_http": true
    });
    assert!(Logger::try_new(&config.to_string()).is_ok());
}

#[test]
fn keys_and_headers_that_could_break_a_request_are_refused_and_not_repeated() {
    let scratch = Scratch::new();
    for key in [
        "sec\rret",
        "sec\nret",
        "sec ret",
        "secr\u{e9}t",
        "sec\0ret",
        "secret\n",
    ] {
        refused(&scratch, "api_key", &json!(key));
    }
    for headers in [
        json!({"X-Title": "sec\r\nret"}),
        json!({"X-Title": "secr\u{e9}t"}),
        json!({"X-Title": 1}),
        json!({"X Title": "secret"}),
        json!({"": "secret"}),
        json!({"Host": "secret"}),
        json!({"content-length": "1"}),
        json!({"Transfer-Encoding": "chunked"}),
    ] {
        refused(&scratch, "headers", &headers);
        let Err(answer) = with(&scratch, "headers", &headers) else {
            unreachable!()
        };
        assert!(!answer.message().contains("ret\""), "{}", answer.message());
    }
    accepted(
        &scratch,
        "headers",
        &json!({"X-Title": "t", "HTTP-Referer": "https://a.example"}),
    );
}

#[test]
fn a_missing_key_is_an_error_of_the_call() {
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"),
        "base_url": "http://127.0.0.1:9/v1",
        "api_key_env": "AUDIT_LOGGER_TEST_NOT_SET",
    }));
    let answer = logger.ask("hello").expect(AUDIT_E_CALL);
    assert_eq!(answer.error_type(), "OpenAIError");
    assert!(
        answer.message().contains("AUDIT_LOGGER_TEST_NOT_SET"),
        "{}",
        answer.message()
    );
    assert_eq!(
        answer.int(AUDIT_REPLY_OUTCOME),
        i64::from(AUDIT_OUTCOME_NOT_SENT)
    );
    assert_eq!(answer.int(AUDIT_REPLY_ATTEMPTS), 0);
    assert_eq!(support::entries(&scratch.join("log")), [answer.entry()]);
}

#[test]
fn a_key_file_is_read_for_every_call() {
    let server = support::server::Server::always(support::server::response(
        200,
        &[],
        support::server::completion("hi").as_bytes(),
    ));
    let scratch = Scratch::new();
    let file = scratch.join("key");
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key_file": file,
    }));
    assert_eq!(
        logger.ask("a").expect(AUDIT_E_CALL).error_type(),
        "OpenAIError"
    );
    for key in ["first-key", "second-key\n"] {
        std::fs::write(&file, key).expect("the scratch directory can be written to");
        logger.ask("b").expect(AUDIT_OK);
    }
    std::fs::write(&file, "not a key").expect("the scratch directory can be written to");
    let answer = logger.ask("c").expect(AUDIT_E_CALL);
    assert!(
        !answer.message().contains("not a key"),
        "{}",
        answer.message()
    );

    let sent: Vec<String> = server
        .requests()
        .iter()
        .filter_map(|request| request.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(sent, ["Bearer first-key", "Bearer second-key"]);
}

#[test]
fn a_call_s_options_override_the_configuration() {
    let server = support::server::Server::always(support::server::response(
        200,
        &[],
        support::server::completion("hi").as_bytes(),
    ));
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"),
        "base_url": server.base_url(),
        "api_key": "configured",
        "headers": {"X-Title": "configured", "X-Other": "kept"},
    }));
    let options = r#"{"api_key": "own", "headers": {"x-title": "own"}, "timeout_ms": 5000}"#;
    logger
        .chat(&AuditChatRequest {
            user_id: text("user-1"),
            prompt: text("hello"),
            options: text(options),
            ..chat_request()
        })
        .expect(AUDIT_OK);
    // Credentials in a header of the host's own take the key's place.
    let keyless = Logger::new(&json!({
        "output_path": scratch.join("log"),
        "base_url": server.base_url(),
        "api_key_env": "AUDIT_LOGGER_TEST_NOT_SET",
        "headers": {"api-key": "azure"},
    }));
    keyless.ask("hello").expect(AUDIT_OK);

    let requests = server.requests();
    assert_eq!(requests[0].header("authorization"), Some("Bearer own"));
    assert_eq!(requests[0].header("x-title"), Some("own"));
    assert_eq!(requests[0].header("x-other"), Some("kept"));
    assert_eq!(requests[1].header("authorization"), None);
    assert_eq!(requests[1].header("api-key"), Some("azure"));
}
