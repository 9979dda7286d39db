//! What real servers and gateways send, as they were recorded: each is told as it was.

mod support;

use std::ffi::{c_char, c_void};
use std::io::Write;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, text};
use support::pace::{Stopwatch, quickly};
use support::server::{Server, Then, completion, response};
use support::{Scratch, entries};

unsafe extern "C-unwind" fn on_delta(text: *const c_char, len: usize, heard: *mut c_void) -> i32 {
    let heard = unsafe { &mut *heard.cast::<String>() };
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    heard.push_str(std::str::from_utf8(bytes).expect("whole characters"));
    AUDIT_CONTINUE
}

/// What came of a stream.
struct Streamed {
    heard: String,
    answer: Answer,
    entry: Value,
    json: Value,
}

fn config(server: &Server, scratch: &Scratch) -> Value {
    json!({"output_path": scratch.join("log"), "base_url": server.base_url(),
        "api_key": "sk-test", "max_retries": 0})
}

fn listen(logger: &Logger, params: &str) -> (String, Answer) {
    let mut heard = String::new();
    let answer = logger.chat(&AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("hello"),
        params: text(params),
        on_delta: Some(on_delta),
        context: ptr::from_mut(&mut heard).cast(),
        ..chat_request()
    });
    (heard, answer)
}

/// Streams bytes with these headers, which frame them, from a server of its own. Text, hash and JSON
/// of what came are of one text, whatever it was.
#[track_caller]
fn streamed(headers: &str, bytes: &[u8]) -> Streamed {
    let sent = [b"HTTP/1.1 200 OK\r\n", headers.as_bytes(), b"\r\n", bytes].concat();
    let server = Server::start(move |_, stream| {
        stream.write_all(&sent)?;
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&server, &scratch));
    let (heard, answer) = listen(&logger, "{}");
    assert_eq!(
        server.requests().len(),
        1,
        "what was paid for isn't asked for again"
    );
    let entry = answer.entry();
    let json = answer.text(AUDIT_REPLY_JSON).unwrap_or("null");
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    let text = answer.text(AUDIT_REPLY_CONTENT).unwrap_or_default();
    assert_eq!(heard, text);
    assert_eq!(text_in(&json), text);
    let hash = logger.hash(text.as_bytes());
    assert_eq!(
        entry["response_hash"],
        hash.text(AUDIT_REPLY_CONTENT).unwrap()
    );
    Streamed {
        heard,
        answer,
        entry,
        json,
    }
}

/// The text of the first choice, as a host finds it.
fn text_in(answer: &Value) -> String {
    match &answer["choices"][0]["message"]["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter(|part| part["type"] == "text");
            texts.filter_map(|part| part["text"].as_str()).collect()
        }
        _ => String::new(),
    }
}

/// The same in one chunk of a chunked body, which ends as it should or not.
#[track_caller]
fn events(events: &[Value], done: bool) -> Streamed {
    let data = events.iter().map(|event| format!("data: {event}\n\n"));
    let end = if done { "data: [DONE]\n\n" } else { "" };
    chunked(&(data.collect::<String>() + end))
}

#[track_caller]
fn chunked(text: &str) -> Streamed {
    let body = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    let headers = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    streamed(headers, body.as_bytes())
}

fn delta(delta: Value, finish: Option<&str>) -> Value {
    json!({"id": "gen-1", "object": "chat.completion.chunk", "created": 7, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn hi() -> Value {
    delta(json!({"role": "assistant", "content": "hi"}), None)
}

fn stop() -> Value {
    delta(json!({}), Some("stop"))
}

fn usage(choices: Value) -> Value {
    json!({"id": "gen-1", "model": "m", "choices": choices,
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}})
}

#[test]
fn a_stream_is_complete_when_its_server_s_way_of_ending_it_says_so() {
    let both = json!({"choices": [{"index": 1, "delta": {"content": "ho"}},
        {"index": 0, "delta": {"content": "hi"}}]});
    let first_null = delta(json!({"role": "assistant", "content": null}), None);
    let llama = json!({"choices": [], "timings": {"prompt_n": 1},
        "usage": {"prompt_tokens": 5, "completion_tokens": 7}});
    for (server, sent, done) in [
        (
            "LiteLLM",
            vec![hi(), stop(), usage(json!([{"index": 0, "delta": {}}]))],
            true,
        ),
        ("LiteLLM, n = 2", vec![both, stop(), usage(json!([]))], true),
        (
            "Portkey",
            vec![hi(), stop(), usage(json!([{"delta": {}}]))],
            true,
        ),
        ("llama.cpp", vec![first_null, hi(), stop(), llama], true),
        ("MLflow", vec![hi(), stop(), usage(json!([]))], false),
        (
            "transformers serve",
            vec![
                delta(json!({"role": "assistant"}), None),
                hi(),
                usage(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}])),
            ],
            false,
        ),
    ] {
        let came = events(&sent, done);
        assert_eq!(
            came.answer.status,
            AUDIT_OK,
            "{server}: {}",
            came.answer.message()
        );
        assert_eq!(came.heard, "hi", "{server}");
        assert_eq!(came.entry["prompt_tokens"], 5, "{server}");
        assert_eq!(came.entry["completion_tokens"], 7, "{server}");
        let end = if done { "done" } else { "last_chunk" };
        assert_eq!(came.entry["details"]["stream_end"], end, "{server}");
    }
}

#[test]
fn a_stream_without_a_finish_reason_is_incomplete_whatever_its_end_looks_like() {
    let dead = json!({"model": "", "choices": [{"index": 0, "delta": {"content": ""}}]});
    for (server, sent, done) in [
        (
            "Portkey",
            vec![hi(), json!({"choices": [{"delta": {}}]})],
            true,
        ),
        ("Ollama", vec![hi(), dead], false),
        ("nothing", vec![], true),
        (
            "an empty reason",
            vec![hi(), delta(json!({}), Some(""))],
            true,
        ),
    ] {
        let came = events(&sent, done);
        assert_eq!(came.answer.error_type(), "IncompleteResponse", "{server}");
        assert_eq!(came.entry["details"]["outcome"], "unknown", "{server}");
        assert_eq!(came.entry["completion_tokens"], Value::Null, "{server}");
        if !sent.is_empty() {
            assert_eq!(came.entry["details"]["served_model"], "m", "{server}");
        }
    }
    // Without an end of its own, a finish_reason alone proves nothing.
    let text = format!(
        "data: {}\n\n",
        delta(json!({"content": "hi"}), Some("stop"))
    );
    let label = "content-type: text/event-stream\r\n";
    let closed = streamed(label, text.as_bytes());
    assert_eq!(closed.answer.error_type(), "IncompleteResponse");
    assert_eq!(closed.entry["details"]["stream_end"], "close");
    let broken = format!("{label}content-length: {}\r\n", text.len() + 1);
    let broken = streamed(&broken, text.as_bytes());
    assert_eq!(broken.answer.error_type(), "APIConnectionError");
    let length = format!("{label}content-length: {}\r\n", text.len());
    let whole = streamed(&length, text.as_bytes());
    assert_eq!(whole.answer.status, AUDIT_OK);
    assert_eq!(whole.entry["details"]["stream_end"], "length");
}

#[test]
fn an_error_inside_a_stream_is_the_call_s_in_every_shape_that_servers_use() {
    for (event, class) in [
        (
            r#"data: {"error":{"message":"secret words","type":null,"param":null,"code":"500"}}"#,
            "InternalServerError",
        ),
        (
            "event: error\ndata: {\"message\":\"secret words\"}",
            "APIError",
        ),
        ("event: error\ndata: secret words", "APIError"),
        (
            r#"data: {"type":"error","message":"secret words"}"#,
            "APIError",
        ),
        (
            r#"data: {"object":"error","message":"secret words","code":429}"#,
            "RateLimitError",
        ),
        (
            r#"data: {"errors":[{"message":"secret words"}]}"#,
            "APIError",
        ),
        (r#"data: {"detail":"secret words"}"#, "APIError"),
        (
            r#"data: {"message":"secret words","code":503}"#,
            "InternalServerError",
        ),
        (
            r#"data: {"choices":[{"index":1,"delta":{},"error":"secret words"}]}"#,
            "APIError",
        ),
    ] {
        let text = format!("data: {}\n\n{event}\n\ndata: [DONE]\n\n", hi());
        let came = chunked(&text);
        assert_eq!(came.answer.error_type(), class, "{event}");
        assert!(
            came.answer.message().contains("secret words"),
            "{event}: {}",
            came.answer.message()
        );
        assert_eq!(came.heard, "hi", "{event}");
        let tokens = (
            &came.entry["prompt_tokens"],
            &came.entry["completion_tokens"],
        );
        assert_eq!(
            tokens,
            (&Value::Null, &Value::Null),
            "{event}: unknown isn't 0"
        );
        assert!(!came.entry.to_string().contains("secret words"), "{event}");
    }
    let reported = format!(
        "data: {}\n\ndata: {}\n\ndata: {{\"error\":{{\"code\":502}}}}\n\n",
        hi(),
        usage(json!([]))
    );
    assert_eq!(chunked(&reported).entry["completion_tokens"], 7);
}

#[test]
fn what_says_nothing_is_no_error_and_takes_no_place() {
    let mut empty = stop();
    empty["error"] = json!({"code": 0, "message": ""});
    empty["choices"][0]["error"] = json!({});
    let azure = json!({"id": "", "model": "", "created": 0, "object": "", "usage": null,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "", "content_filter_offsets": {}}]});
    let came = events(&[hi(), empty, usage(json!([])), azure], true);
    assert_eq!(came.answer.status, AUDIT_OK, "{}", came.answer.message());
    assert_eq!(came.answer.text(AUDIT_REPLY_GENERATION_ID), Some("gen-1"));
    assert_eq!(came.answer.text(AUDIT_REPLY_MODEL), Some("m"));
    assert_eq!(came.answer.text(AUDIT_REPLY_FINISH_REASON), Some("stop"));
    assert_eq!(
        (&came.json["created"], &came.entry["prompt_tokens"]),
        (&json!(7), &json!(5))
    );
    let plain = r#"{"error":{},"choices":[{"message":{"content":"hi"}}]}"#;
    let server = Server::always(response(200, &[], plain.as_bytes()));
    let scratch = Scratch::new();
    Logger::new(&config(&server, &scratch))
        .ask("hello")
        .expect(AUDIT_OK);
}

#[test]
fn content_in_parts_and_in_texts_loses_nothing_of_either() {
    let thought = json!({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]});
    let came = events(
        &[
            delta(json!({"content": [thought.clone()]}), None),
            delta(json!({"content": [{"type": "text", "text": "a"}]}), None),
            delta(json!({"content": "b"}), None),
            stop(),
        ],
        true,
    );
    assert_eq!(came.heard, "ab");
    let content = &came.json["choices"][0]["message"]["content"];
    assert_eq!(content, &json!([thought, {"type": "text", "text": "ab"}]));
}

#[test]
fn a_message_at_the_end_adds_what_its_deltas_didn_t_bring() {
    let mut end = stop();
    end["choices"][0]["message"] = json!({"role": "assistant", "content": "hi there",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let came = events(&[hi(), end], true);
    assert_eq!(came.heard, "hi there");
    assert_eq!(came.entry["details"]["tool_calls"], 1);
}

#[test]
fn a_stream_and_a_whole_answer_are_told_by_their_bytes_not_by_their_labels() {
    let text = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", hi(), stop());
    for label in [
        "content-type: application/json\r\n",
        "content-type: text/plain\r\n",
        "",
    ] {
        let headers = format!("{label}content-length: {}\r\n", text.len());
        let came = streamed(&headers, text.as_bytes());
        assert_eq!(
            (came.answer.status, &*came.heard),
            (AUDIT_OK, "hi"),
            "{label}"
        );
    }
    let whole = format!("\n\n  {}", completion("hi"));
    let label = "content-type: text/event-stream\r\n";
    let headers = format!("{label}content-length: {}\r\n", whole.len());
    let came = streamed(&headers, whole.as_bytes());
    assert_eq!((came.answer.status, &*came.heard), (AUDIT_OK, "hi"));
}

#[test]
fn a_success_with_odd_headers_is_read_within_bounds_and_never_asked_for_again() {
    let many: String = (0..150)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    let long = format!("x-long: {}\r\n", "y".repeat(70 * 1024));
    let most = format!("x-long: {}\r\n", "y".repeat(300 * 1024));
    for (what, headers, is_read) in [
        ("150 headers", many, true),
        ("folded", "x-folded: a\r\n b\r\n\tc\r\n".into(), true),
        ("70 KB", long, true),
        ("one without a colon", "nonsense\r\n".into(), true),
        ("300 KB", most, false),
        ("2000 headers", "x: y\r\n".repeat(2000), false),
    ] {
        let body = completion("hi");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        let server = Server::always([head.as_bytes(), body.as_bytes()].concat());
        let scratch = Scratch::new();
        let mut config = config(&server, &scratch);
        config["max_retries"] = json!(2);
        let answer = Logger::new(&config).ask("hello");
        let expected = if is_read { AUDIT_OK } else { AUDIT_E_CALL };
        assert_eq!(answer.status, expected, "{what}: {}", answer.message());
        assert_eq!(server.requests().len(), 1, "{what}");
    }
}

#[test]
fn the_entry_has_what_an_auditor_asks_for() {
    let calls = json!([{"id": "c1", "type": "function",
        "function": {"name": "f", "arguments": "{\"x\":1}"}}]);
    let body = json!({
        "id": "gen-1", "model": "m", "provider": "Google AI Studio", "system_fingerprint": "fp_1",
        "service_tier": "default",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "native_finish_reason": "STOP",
            "message": {"role": "assistant", "content": null, "refusal": "I can't", "tool_calls": calls}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "cost": 0.25, "is_byok": true,
            "cost_details": {"upstream_inference_cost": 2},
            "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2}}
    });
    let headers = [
        ("x-request-id", "req_1"),
        ("x-litellm-model-name", "azure/gpt-4o"),
        ("x-litellm-response-cost", "1e-05"),
        ("x-litellm-call-id", "call-1"),
    ];
    let server = Server::always(response(200, &headers, body.to_string().as_bytes()));
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&server, &scratch));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let options = json!({"traceparent": trace, "session_id": "s-1"}).to_string();
    let answer = logger.chat(&AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("hello"),
        options: text(&options),
        ..chat_request()
    });
    let answer = answer.expect(AUDIT_OK);
    let entry = answer.entry();
    let details = &entry["details"];
    let canonical = serde_json_canonicalizer::to_vec(&calls).expect("it's JSON");
    let hash = |bytes: &[u8]| {
        logger
            .hash(bytes)
            .text(AUDIT_REPLY_CONTENT)
            .map(str::to_owned)
    };
    for (field, value) in [
        ("schema", json!(2)),
        ("provider", json!("Google AI Studio")),
        ("native_finish_reason", json!("STOP")),
        ("refusal_hash", json!(hash(b"I can't"))),
        ("tool_calls", json!(1)),
        ("tool_calls_hash", json!(hash(&canonical))),
        ("cache_write_tokens", json!(2)),
        ("is_byok", json!(true)),
        ("cost", json!(0.25)),
        ("upstream_cost", json!(2.0)),
        ("system_fingerprint", json!("fp_1")),
        ("service_tier", json!("default")),
        ("request_id", json!("req_1")),
        ("gateway_model", json!("azure/gpt-4o")),
        ("gateway_cost", json!(0.00001)),
        ("gateway_call_id", json!("call-1")),
        ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("span_id", json!("00f067aa0ba902b7")),
        ("session_id", json!("s-1")),
    ] {
        assert_eq!(details[field], value, "{field}");
    }
    let sent = server.requests();
    assert_eq!(sent[0].header("traceparent"), Some(trace));
    assert_eq!(sent[0].header("x-session-id"), Some("s-1"));
    for wrong in [
        r#"{"traceparent":"x"}"#,
        r#"{"session_id":"a b"}"#,
        r#"{"session_id":""}"#,
    ] {
        let refused = logger.chat(&AuditChatRequest {
            user_id: text("user-1"),
            prompt: text("hello"),
            options: text(wrong),
            ..chat_request()
        });
        assert_eq!(refused.status, AUDIT_E_ARGUMENT, "{wrong}");
    }
}

#[test]
fn nothing_that_a_server_sends_brings_the_prompt_or_a_secret_into_the_log() {
    const PROMPT: &str = "Who is the patient with the rare disease?";
    const SECRET: &str = "tok-0123456789abcdef";
    for said in [PROMPT, SECRET] {
        let body = json!({"id": said, "model": said, "provider": said, "system_fingerprint": said,
            "service_tier": said, "choices": [{"finish_reason": said, "native_finish_reason": said,
            "message": {"content": "x", "refusal": said}}],
            "error": {"type": said, "code": said, "message": said}});
        let chunk = json!({"id": said, "model": said, "provider": said, "choices": [{"index": 0,
            "delta": {"content": said}, "finish_reason": said, "native_finish_reason": said}]});
        let stream = format!("data: {chunk}\n\ndata: [DONE]\n\n");
        let headers = [
            ("x-request-id", said),
            ("x-generation-id", said),
            ("x-litellm-model-name", said),
            ("x-litellm-call-id", said),
        ];
        for (status, body) in [
            (200, body.to_string()),
            (400, body.to_string()),
            (200, stream),
        ] {
            let server = Server::always(response(status, &headers, body.as_bytes()));
            let scratch = Scratch::new();
            let mut config = config(&server, &scratch);
            config["headers"] = json!({"x-tenant-token": SECRET});
            let logger = Logger::new(&config);
            let answer = listen(&logger, "{}").1;
            let logged = answer.entry().to_string();
            assert!(!logged.contains(said), "{logged}");
            assert!(!answer.message().contains(SECRET), "{}", answer.message());
            let model = &answer.entry()["details"]["served_model"];
            if said == PROMPT && status == 200 {
                let hash = logger.hash(said.as_bytes());
                assert_eq!(*model, hash.text(AUDIT_REPLY_CONTENT).unwrap());
            }
        }
    }
}

#[test]
fn the_server_s_words_and_its_code_reach_the_caller() {
    for (status, media, body, words, code) in [
        (
            400,
            "application/json",
            r#"{"status":"failure","message":"no provider"}"#,
            "no provider",
            None,
        ),
        (
            422,
            "application/json",
            r#"{"detail":[{"loc":["body"],"msg":"wrong"}]}"#,
            "body: wrong",
            None,
        ),
        (
            404,
            "application/json",
            r#"{"detail":"Not Found"}"#,
            "Not Found",
            None,
        ),
        (
            500,
            "text/plain",
            "Internal Server Error",
            "Internal Server Error",
            None,
        ),
        (
            401,
            "application/json",
            r#"{"error":{"message":"no","type":"auth_error","param":"None","code":"401"}}"#,
            "no",
            Some("401"),
        ),
    ] {
        let headers = [("content-type", media)];
        let server = Server::always(response(status, &headers, body.as_bytes()));
        let scratch = Scratch::new();
        let answer = Logger::new(&config(&server, &scratch))
            .ask("hello")
            .expect(AUDIT_E_CALL);
        assert_eq!(answer.message(), format!("HTTP {status}: {words}"));
        assert_eq!(
            answer.entry()["details"]["provider_error_code"],
            json!(code)
        );
    }
}

#[test]
fn stream_options_are_left_out_for_servers_that_refuse_them() {
    let text = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", hi(), stop());
    let server = Server::always(response(200, &[], text.as_bytes()));
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&server, &scratch));
    let _ = listen(&logger, r#"{"stream_options": null}"#)
        .1
        .expect(AUDIT_OK);
    assert_eq!(server.requests()[0].json().get("stream_options"), None);
}

#[test]
fn a_call_that_is_over_ends_within_an_event_however_much_that_holds() {
    let fragment = r#"{"index":0,"function":{"arguments":"x"}}"#;
    let fragments = vec![fragment; 180_000].join(",");
    let merging = format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{fragments}]}}}}]}}"#);
    let keys = r#""key":0,"#.repeat(1_500_000);
    let duplicates = format!("{{{keys}\"choices\":[]}}");
    for (what, event) in [("fragments", merging), ("keys", duplicates)] {
        let bytes = Arc::new(format!("data: {event}\n\n"));
        for timeout in [100, 300, 600] {
            let bytes = Arc::clone(&bytes);
            let server = Server::start(move |_, stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
                stream.write_all(bytes.as_bytes())?;
                std::thread::sleep(Duration::from_secs(2));
                Ok(Then::Close)
            });
            let scratch = Scratch::new();
            let mut config = config(&server, &scratch);
            config["timeout_ms"] = json!(timeout);
            let logger = Logger::new(&config);
            // Tests are built without optimising, and run beside each other.
            let bound = Duration::from_millis(timeout + 400);
            quickly(what, bound, || {
                let began = Stopwatch::start();
                let answer = listen(&logger, "{}").1.expect(AUDIT_E_CALL);
                let took = began.elapsed();
                let said = answer.message();
                assert_eq!(answer.error_type(), "APITimeoutError", "{what}: {said}");
                took
            });
        }
    }
}

#[test]
fn a_kept_connection_that_the_server_closed_is_replaced_without_a_retry() {
    // It reads the second request, and closes without a byte: between the look and the answer.
    let server = Server::start(|request, stream| {
        if request.number == 1 {
            return Ok(Then::Close);
        }
        stream.write_all(&response(200, &[], completion("hi").as_bytes()))?;
        Ok(Then::Keep)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&config(&server, &scratch));
    for _ in 0..3 {
        let answer = logger.ask("hello").expect(AUDIT_OK);
        assert_eq!(answer.int(AUDIT_REPLY_ATTEMPTS), 1);
    }
    let connections: Vec<usize> = server.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1]);
    assert_eq!(entries(&scratch.join("log")).len(), 3);
}
