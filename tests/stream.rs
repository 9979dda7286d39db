//! Streamed answers: what the host hears, what the reply holds, what the entry says.

mod support;

use std::ffi::{c_char, c_void};
use std::io::Write;
use std::ptr;
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, record, text};
use support::pace::{Stopwatch, quickly};
use support::server::{Server, Then, completion, response};
use support::{Scratch, entries};

/// What the callbacks heard, and what they are to do.
#[derive(Default)]
struct Heard {
    deltas: Vec<String>,
    chunks: Vec<String>,
    /// Cancel at this delta or chunk, counted from 1.
    cancel_at: usize,
    /// Called at every delta.
    at_delta: Option<Box<dyn FnMut()>>,
}

unsafe extern "C-unwind" fn on_delta(text: *const c_char, len: usize, context: *mut c_void) -> i32 {
    let heard = unsafe { &mut *context.cast::<Heard>() };
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    heard.deltas.push(
        std::str::from_utf8(bytes)
            .expect("whole characters")
            .to_owned(),
    );
    if let Some(act) = &mut heard.at_delta {
        act();
    }
    if heard.deltas.len() == heard.cancel_at {
        0
    } else {
        AUDIT_CONTINUE
    }
}

unsafe extern "C-unwind" fn on_chunk(json: *const c_char, len: usize, context: *mut c_void) -> i32 {
    let heard = unsafe { &mut *context.cast::<Heard>() };
    let bytes = unsafe { std::slice::from_raw_parts(json.cast::<u8>(), len) };
    heard
        .chunks
        .push(String::from_utf8_lossy(bytes).into_owned());
    AUDIT_CONTINUE
}

fn stream(logger: &Logger, heard: &mut Heard) -> Answer {
    logger.chat(&AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("hello"),
        on_delta: Some(on_delta),
        on_chunk: Some(on_chunk),
        context: ptr::from_mut(heard).cast(),
        ..chat_request()
    })
}

fn head(stream: &mut impl Write) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )
}

fn piece(stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n", bytes.len())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")
}

/// A server that streams these pieces, and then ends the body or cuts the connection.
fn serving(pieces: Vec<Vec<u8>>, whole: bool) -> Server {
    Server::start(move |_, stream| {
        head(stream)?;
        for bytes in &pieces {
            piece(stream, bytes)?;
        }
        if !whole {
            return Ok(Then::Close);
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(Then::Keep)
    })
}

fn chunk(delta: Value) -> String {
    let chunk = json!({"id": "gen-1", "object": "chat.completion.chunk", "provider": "Loopback",
        "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    : OPENROUTER PROCESSING\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"cost\":0.5}}\n\n\
    data: [DONE]\n\n";

fn answer_in_pieces() -> String {
    [
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        chunk(json!({"role": "assistant", "content": ""})),
        chunk(json!({"content": "H\u{e9}"})),
        chunk(json!({"content": "llo \u{1f600}"})),
        END.to_owned(),
    ]
    .concat()
}

struct Setup {
    logger: Logger,
    scratch: Scratch,
    server: Server,
}

fn setup(server: Server) -> Setup {
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
        "max_retries": 2
    }));
    Setup {
        logger,
        scratch,
        server,
    }
}

impl Setup {
    /// The one entry that the log must hold.
    #[track_caller]
    fn entry(&self) -> Value {
        let mut found = entries(&self.scratch.join("log"));
        assert_eq!(found.len(), 1);
        found.remove(0)
    }
}

#[test]
fn a_streamed_answer_is_heard_as_it_comes_and_logged_as_a_whole() {
    let setup = setup(serving(vec![answer_in_pieces().into_bytes()], true));
    let mut heard = Heard::default();
    let answer = stream(&setup.logger, &mut heard).expect(AUDIT_OK);
    assert_eq!(heard.deltas, ["H\u{e9}", "llo \u{1f600}"]);
    assert_eq!(heard.chunks.len(), 5);
    let sent = answer_in_pieces();
    assert!(
        heard.chunks.iter().all(|chunk| sent.contains(chunk)),
        "as sent: {:?}",
        heard.chunks
    );

    assert_eq!(
        answer.text(AUDIT_REPLY_CONTENT),
        Some("H\u{e9}llo \u{1f600}")
    );
    assert_eq!(answer.text(AUDIT_REPLY_FINISH_REASON), Some("stop"));
    assert_eq!(answer.int(AUDIT_REPLY_COMPLETION_TOKENS), 7);
    let assembled: Value =
        serde_json::from_str(answer.text(AUDIT_REPLY_JSON).expect("it's there")).expect("JSON");
    assert_eq!(assembled["object"], "chat.completion");
    assert_eq!(
        assembled["choices"][0]["message"]["content"],
        "H\u{e9}llo \u{1f600}"
    );
    assert_eq!(assembled["usage"]["cost"], 0.5);

    let entry = setup.entry();
    let hash = setup.logger.hash("H\u{e9}llo \u{1f600}".as_bytes());
    assert_eq!(
        entry["response_hash"],
        hash.text(AUDIT_REPLY_CONTENT).unwrap()
    );
    assert_eq!(
        (&entry["prompt_tokens"], &entry["completion_tokens"]),
        (&json!(5), &json!(7))
    );
    let details = &entry["details"];
    assert_eq!(details["stream"], true);
    assert_eq!(details["outcome"], "answered");
    assert_eq!(details["served_model"], "m");
    assert!(
        details["time_to_first_token_ms"]
            .as_f64()
            .is_some_and(|time| time > 0.0)
    );
}

#[test]
fn the_request_asks_for_a_stream_with_usage() {
    let setup = setup(serving(vec![answer_in_pieces().into_bytes()], true));
    stream(&setup.logger, &mut Heard::default()).expect(AUDIT_OK);
    let mut heard = Heard::default();
    setup
        .logger
        .chat(&AuditChatRequest {
            user_id: text("user-1"),
            prompt: text("hello"),
            params: text(r#"{"stream_options": {"include_usage": false}}"#),
            on_delta: Some(on_delta),
            context: ptr::from_mut(&mut heard).cast(),
            ..chat_request()
        })
        .expect(AUDIT_OK);
    let bodies: Vec<Value> = setup.server.requests().iter().map(|r| r.json()).collect();
    assert_eq!(bodies[0]["stream"], true);
    assert_eq!(bodies[0]["stream_options"], json!({"include_usage": true}));
    assert_eq!(bodies[1]["stream_options"], json!({"include_usage": false}));
}

#[test]
fn a_stream_cut_at_any_byte_before_its_finish_reason_is_never_a_success() {
    let whole = answer_in_pieces();
    let finish = r#""finish_reason":"stop"}]}"#;
    let finish = whole.find(finish).expect("it's there") + finish.len();
    let done = whole.find("[DONE]").expect("it's there") + "[DONE]".len();
    let scratch = Scratch::new();
    // The server cuts the stream where the request's model says, and ends the body there, or not.
    let bytes = whole.clone().into_bytes();
    let server = Server::start(move |request, stream| {
        let model = request.json()["model"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let (cut, how) = model.split_once(' ').expect("two words");
        let cut: usize = cut.parse().expect("a number");
        head(stream)?;
        if cut > 0 {
            piece(stream, &bytes[..cut])?;
        }
        if how == "cut" {
            return Ok(Then::Close);
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
    }));
    for (cut, how) in (0..=whole.len()).flat_map(|cut| [(cut, "end"), (cut, "cut")]) {
        let mut heard = Heard::default();
        let model = format!("{cut} {how}");
        let answer = logger.chat(&AuditChatRequest {
            user_id: text("user-1"),
            prompt: text("hello"),
            model: text(&model),
            on_delta: Some(on_delta),
            context: ptr::from_mut(&mut heard).cast(),
            ..chat_request()
        });
        let whole_at = if how == "end" { finish } else { done };
        if cut >= whole_at {
            assert_eq!(answer.status, AUDIT_OK, "{model}: {}", answer.message());
            let end = if cut >= done { "done" } else { "last_chunk" };
            assert_eq!(answer.entry()["details"]["stream_end"], end, "{model}");
        } else {
            let class = if how == "end" {
                "IncompleteResponse"
            } else {
                "APIConnectionError"
            };
            assert_eq!(answer.status, AUDIT_E_CALL, "{model}");
            assert_eq!(answer.error_type(), class, "{model}");
            let entry = answer.entry();
            assert_eq!(entry["details"]["outcome"], "unknown", "{model}");
            let hash = logger.hash(heard.deltas.concat().as_bytes());
            assert_eq!(
                entry["response_hash"],
                hash.text(AUDIT_REPLY_CONTENT).unwrap(),
                "the part that was heard is hashed"
            );
        }
        assert_eq!(
            answer.int(AUDIT_REPLY_ATTEMPTS),
            1,
            "a stream that began isn't tried again"
        );
    }
    assert_eq!(entries(&scratch.join("log")).len(), 2 * whole.len() + 2);
}

#[test]
fn pieces_of_any_size_add_up_to_the_same() {
    let whole = answer_in_pieces().into_bytes();
    for size in [1, 2, 3, 5, 7, 64] {
        let setup = setup(serving(
            whole.chunks(size).map(<[u8]>::to_vec).collect(),
            true,
        ));
        let mut heard = Heard::default();
        stream(&setup.logger, &mut heard).expect(AUDIT_OK);
        assert_eq!(heard.deltas, ["H\u{e9}", "llo \u{1f600}"], "{size}");
    }
}

#[test]
fn an_error_after_the_first_token_is_the_call_s_error() {
    for (event, class) in [
        (
            r#"{"error":{"code":502,"message":"secret words"},"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#,
            "InternalServerError",
        ),
        (
            r#"{"error":{"code":"server_error","message":"secret words"}}"#,
            "APIError",
        ),
        (
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#,
            "APIError",
        ),
        (r#"{"choices":[{"index":0,"#, "JSONDecodeError"),
    ] {
        let text = [
            chunk(json!({"content": "par"})),
            format!("data: {event}\n\n"),
            END.into(),
        ]
        .concat();
        let setup = setup(serving(vec![text.into_bytes()], true));
        let mut heard = Heard::default();
        let answer = stream(&setup.logger, &mut heard).expect(AUDIT_E_CALL);
        assert_eq!(answer.error_type(), class);
        assert_eq!(
            answer.text(AUDIT_REPLY_CONTENT),
            Some("par"),
            "what came before it"
        );
        assert_eq!(heard.deltas, ["par"]);
        let entry = setup.entry();
        assert_eq!(entry["error_type"], class);
        assert!(!entry.to_string().contains("secret words"));
        assert_eq!(entry["details"]["http_status"], 200);
    }
}

#[test]
fn an_error_before_the_stream_is_an_ordinary_one_and_is_tried_again() {
    let error = r#"{"error":{"code":503,"message":"m"}}"#;
    let server = Server::always(response(503, &[("retry-after-ms", "5")], error.as_bytes()));
    let setup = setup(server);
    let mut heard = Heard::default();
    let answer = stream(&setup.logger, &mut heard).expect(AUDIT_E_CALL);
    assert_eq!(
        (answer.error_type(), answer.int(AUDIT_REPLY_ATTEMPTS)),
        ("InternalServerError", 3)
    );
    assert!(heard.chunks.is_empty());
    setup.entry();
}

#[test]
fn an_answer_in_one_piece_is_heard_in_one_piece() {
    let setup = setup(Server::always(response(
        200,
        &[],
        completion("whole").as_bytes(),
    )));
    let mut heard = Heard::default();
    let answer = stream(&setup.logger, &mut heard).expect(AUDIT_OK);
    assert_eq!(heard.deltas, ["whole"]);
    assert_eq!(heard.chunks, [completion("whole")]);
    assert_eq!(answer.text(AUDIT_REPLY_CONTENT), Some("whole"));
}

#[test]
fn tool_calls_are_assembled() {
    let text = [
        chunk(json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]})),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":1}"}}]})),
        END.into(),
    ]
    .concat();
    let setup = setup(serving(vec![text.into_bytes()], true));
    let mut heard = Heard::default();
    let answer = stream(&setup.logger, &mut heard).expect(AUDIT_OK);
    let assembled: Value =
        serde_json::from_str(answer.text(AUDIT_REPLY_JSON).expect("it's there")).expect("JSON");
    let call = &assembled["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({"name": "f", "arguments": "{\"x\":1}"}));
    assert!(heard.deltas.is_empty());
    assert!(setup.entry()["details"]["time_to_first_token_ms"].is_number());
}

#[test]
fn a_callback_that_doesn_t_say_continue_cancels() {
    for cancel_at in 1..=2 {
        let setup = setup(serving(vec![answer_in_pieces().into_bytes()], true));
        let mut heard = Heard {
            cancel_at,
            ..Heard::default()
        };
        let answer = stream(&setup.logger, &mut heard).expect(AUDIT_E_CANCELLED);
        assert_eq!(heard.deltas.len(), cancel_at);
        assert_eq!(answer.error_type(), "Cancelled");
        let entry = setup.entry();
        let hash = setup.logger.hash(heard.deltas.concat().as_bytes());
        assert_eq!(
            entry["response_hash"],
            hash.text(AUDIT_REPLY_CONTENT).unwrap()
        );
        assert_eq!(entry["details"]["outcome"], "unknown");
    }
}

#[test]
fn a_stalled_stream_ends_at_the_idle_timeout() {
    let server = Server::start(|_, stream| {
        head(stream)?;
        piece(stream, chunk(json!({"content": "par"})).as_bytes())?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
        "idle_timeout_ms": 1000
    }));
    let began = Stopwatch::start();
    let answer = stream(&logger, &mut Heard::default()).expect(AUDIT_E_CALL);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(answer.error_type(), "APITimeoutError");
    assert!(
        answer.message().contains("idle_timeout_ms"),
        "{}",
        answer.message()
    );
    assert_eq!(answer.entry()["details"]["outcome"], "unknown");
}

#[test]
fn comments_for_ever_end_at_the_deadline() {
    let server = Server::start(|_, stream| {
        head(stream)?;
        for _ in 0..200 {
            piece(stream, b": OPENROUTER PROCESSING\n\n")?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
        "timeout_ms": 1000
    }));
    quickly("a call", Duration::from_millis(1500), || {
        let began = Stopwatch::start();
        let answer = stream(&logger, &mut Heard::default()).expect(AUDIT_E_CALL);
        let took = began.elapsed();
        assert_eq!(answer.error_type(), "APITimeoutError");
        took
    });
}

#[test]
fn events_that_came_at_once_don_t_outlast_the_deadline_or_a_cancel() {
    let events: String = (0..200).map(|_| chunk(json!({"content": "a"}))).collect();
    let text = [events, END.into()].concat();
    for cancelled in [false, true] {
        let server = serving(vec![text.clone().into_bytes()], true);
        let scratch = Scratch::new();
        let logger = Logger::new(&json!({
            "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
            "timeout_ms": if cancelled { 60_000 } else { 300 },
        }));
        let mut cancel = ptr::null_mut();
        assert_eq!(unsafe { audit_cancel_new(&raw mut cancel) }, AUDIT_OK);
        let address = cancel.addr();
        let mut left = 10;
        let act = move || {
            std::thread::sleep(Duration::from_millis(20));
            left -= 1;
            if cancelled && left == 0 {
                audit_cancel_trigger(ptr::without_provenance_mut(address));
            }
        };
        let mut heard = Heard {
            at_delta: Some(Box::new(act)),
            ..Heard::default()
        };
        let answer = logger.chat(&AuditChatRequest {
            user_id: support::calls::text("user-1"),
            prompt: support::calls::text("hello"),
            on_delta: Some(on_delta),
            context: ptr::from_mut(&mut heard).cast(),
            cancel,
            ..chat_request()
        });
        audit_cancel_free(cancel);
        let (status, class) = match cancelled {
            true => (AUDIT_E_CANCELLED, "Cancelled"),
            false => (AUDIT_E_CALL, "APITimeoutError"),
        };
        assert_eq!(
            (answer.status, answer.error_type()),
            (status, class),
            "{}",
            answer.message()
        );
        assert!(heard.deltas.len() < 20, "{} were heard", heard.deltas.len());
        let hash = logger.hash(heard.deltas.concat().as_bytes());
        let hashed = answer.entry()["response_hash"].clone();
        assert_eq!(
            hashed,
            hash.text(AUDIT_REPLY_CONTENT).unwrap(),
            "what was heard is hashed"
        );
    }
}

#[test]
fn what_was_heard_is_what_is_hashed_whatever_the_server_says_at_the_end() {
    let text = [
        chunk(json!({"content": "Hel"})),
        chunk(json!({"content": [{"type": "text", "text": "lo"}]})),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"message\":{\"role\":\"assistant\"}}]}\n\n"
            .into(),
        END.into(),
    ]
    .concat();
    let setup = setup(serving(vec![text.into_bytes()], true));
    let mut heard = Heard::default();
    let answer = stream(&setup.logger, &mut heard).expect(AUDIT_OK);
    assert_eq!(heard.deltas, ["Hel", "lo"]);
    assert_eq!(answer.text(AUDIT_REPLY_CONTENT), Some("Hello"));
}

#[test]
fn callbacks_may_call_every_function_but_close_of_the_same_logger() {
    let setup = setup(serving(vec![answer_in_pieces().into_bytes()], true));
    let inner_server = Server::always(response(200, &[], completion("inner").as_bytes()));
    let inner = Logger::new(&json!({
        "output_path": setup.scratch.join("inner"), "base_url": inner_server.base_url(),
        "api_key": "sk-test"
    }));
    let outer = setup.logger.0.addr();
    let act = move || {
        let outer = std::mem::ManuallyDrop::new(Logger(ptr::without_provenance_mut(outer)));
        assert_eq!(outer.close(0).status, AUDIT_E_REENTRANT);
        outer.log(&record()).expect(AUDIT_OK);
        outer.flush().expect(AUDIT_OK);
        assert_eq!(outer.stats()["running"], 1);
        inner.ask("hello").expect(AUDIT_OK);
    };
    let mut heard = Heard {
        at_delta: Some(Box::new(act)),
        ..Heard::default()
    };
    stream(&setup.logger, &mut heard).expect(AUDIT_OK);
    assert_eq!(heard.deltas.len(), 2);
    drop(heard);
    assert_eq!(entries(&setup.scratch.join("log")).len(), 3);
    assert_eq!(entries(&setup.scratch.join("inner")).len(), 2);
    setup.logger.close(-1).expect(AUDIT_OK);
}

#[test]
fn streams_keep_their_connection_for_the_next_call() {
    // All of it comes at once: who has the answer waits for no more than a moment for the body's end.
    let mut whole = Vec::new();
    head(&mut whole).expect("memory can be written to");
    piece(&mut whole, answer_in_pieces().as_bytes()).expect("memory can be written to");
    whole.extend_from_slice(b"0\r\n\r\n");
    let setup = setup(Server::always(whole));
    for _ in 0..20 {
        stream(&setup.logger, &mut Heard::default()).expect(AUDIT_OK);
    }
    let last = setup
        .server
        .requests()
        .last()
        .map(|request| request.connection);
    assert_eq!(last, Some(0), "each stream made a new connection");
}

#[test]
fn a_stream_that_goes_on_after_its_end_marker_doesn_t_hold_the_answer_back() {
    let server = Server::start(|_, stream| {
        head(stream)?;
        piece(stream, answer_in_pieces().as_bytes())?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(Then::Close)
    });
    let setup = setup(server);
    quickly("an answer", Duration::from_millis(500), || {
        let began = Stopwatch::start();
        stream(&setup.logger, &mut Heard::default()).expect(AUDIT_OK);
        began.elapsed()
    });
}
