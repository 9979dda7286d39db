//! Servers that misbehave: whatever they send, the host lives, memory stays bounded, the deadline
//! holds, and there is one entry that says what came.

mod support;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use audit_logger::ffi::*;
use support::calls::{Logger, chat_request, text};
use support::pace::{PATIENCE, Stopwatch, quickly, until};
use support::server::{Request, Server, Then, completion, response};
use support::{Scratch, entries};

const TIMEOUT: Duration = Duration::from_millis(1000);
const LIMIT: usize = 1 << 20;

type Respond = fn(&Request, &mut TcpStream) -> io::Result<Then>;

fn logger_for(base_url: &str, scratch: &Scratch) -> Logger {
    logger_within(PATIENCE, base_url, scratch)
}

fn logger_within(timeout: Duration, base_url: &str, scratch: &Scratch) -> Logger {
    Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": base_url, "api_key": "sk-test",
        "timeout_ms": timeout.as_millis() as u64, "max_retries": 0, "max_response_bytes": LIMIT,
    }))
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

fn close_with(stream: &mut TcpStream, parts: &[&[u8]]) -> io::Result<Then> {
    stream.write_all(&parts.concat())?;
    Ok(Then::Close)
}

fn whole(headers: &str, body: &str) -> Vec<u8> {
    [HEAD, headers.as_bytes(), b"\r\n", body.as_bytes()].concat()
}

fn for_ever(stream: &mut TcpStream, piece: &[u8], pause: Duration) -> io::Result<Then> {
    let ends = Instant::now() + 10 * TIMEOUT;
    while Instant::now() < ends {
        stream.write_all(piece)?;
        std::thread::sleep(pause);
    }
    Ok(Then::Close)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory can be written to");
    encoder.finish().expect("memory can be written to")
}

const DRIP: Duration = Duration::from_millis(50);

/// What the server does, the class that the entry must have ("" for a success), and the outcome.
const CASES: &[(&str, Respond, &str, &str)] = &[
    (
        "never answers",
        |_, stream| {
            let mut byte = [0];
            stream.read(&mut byte).map(|_| Then::Close)
        },
        "APITimeoutError",
        "unknown",
    ),
    (
        "drips the headers",
        |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-slow: ")?;
            for_ever(stream, b"a", DRIP)
        },
        "APITimeoutError",
        "unknown",
    ),
    (
        "drips the body",
        |_, stream| {
            stream.write_all(&whole("content-length: 100000\r\n", ""))?;
            for_ever(stream, b" ", DRIP)
        },
        "APITimeoutError",
        "unknown",
    ),
    (
        "sends blank lines for ever",
        |_, stream| {
            stream.write_all(&whole("transfer-encoding: chunked\r\n", ""))?;
            for_ever(stream, b"1\r\n\n\r\n", DRIP)
        },
        "APITimeoutError",
        "unknown",
    ),
    (
        "sends headers for ever",
        |_, stream| {
            stream.write_all(HEAD)?;
            for_ever(
                stream,
                &b"x-more: 0123456789\r\n".repeat(1000),
                Duration::ZERO,
            )
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "sends one header of a megabyte",
        |_, stream| close_with(stream, &[HEAD, b"x: ", &vec![b'a'; 1 << 20], b"\r\n\r\n"]),
        "APIConnectionError",
        "unknown",
    ),
    (
        "sends 5000 headers",
        |_, stream| {
            close_with(
                stream,
                &[
                    HEAD,
                    &b"x: y\r\n".repeat(5000),
                    b"content-length: 0\r\n\r\n",
                ],
            )
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "sends a body without end and length",
        |_, stream| {
            stream.write_all(&whole("connection: close\r\n", ""))?;
            for_ever(stream, &[b' '; 64 * 1024], Duration::ZERO)
        },
        "ResponseTooLarge",
        "unknown",
    ),
    (
        "sends chunks for ever",
        |_, stream| {
            stream.write_all(&whole("transfer-encoding: chunked\r\n", ""))?;
            let chunk = [&b"10000\r\n"[..], &[b' '; 65536], b"\r\n"].concat();
            for_ever(stream, &chunk, Duration::ZERO)
        },
        "ResponseTooLarge",
        "unknown",
    ),
    (
        "announces more than the limit",
        |_, stream| {
            stream.write_all(&whole(&format!("content-length: {}\r\n", 100 * LIMIT), ""))?;
            for_ever(stream, &[b' '; 64 * 1024], Duration::ZERO)
        },
        "ResponseTooLarge",
        "unknown",
    ),
    (
        "sends a gzip bomb",
        |_, stream| {
            let bomb = gzip(&vec![b' '; 16 * LIMIT]);
            let head = format!(
                "content-encoding: gzip\r\ncontent-length: {}\r\n",
                bomb.len()
            );
            close_with(stream, &[&whole(&head, ""), &bomb])
        },
        "ResponseTooLarge",
        "unknown",
    ),
    (
        "compresses its answer",
        |_, stream| {
            let body = gzip(completion("hi").as_bytes());
            let head = format!(
                "content-encoding: gzip\r\ncontent-length: {}\r\n",
                body.len()
            );
            close_with(stream, &[&whole(&head, ""), &body])
        },
        "",
        "answered",
    ),
    (
        "compresses its answer twice",
        |_, stream| {
            let body = gzip(&gzip(completion("hi").as_bytes()));
            let head = format!(
                "content-encoding: gzip, gzip\r\ncontent-length: {}\r\n",
                body.len()
            );
            close_with(stream, &[&whole(&head, ""), &body])
        },
        "",
        "answered",
    ),
    (
        "says gzip and sends text",
        |_, stream| {
            let body = completion("hi");
            let head = format!(
                "content-encoding: gzip\r\ncontent-length: {}\r\n",
                body.len()
            );
            close_with(stream, &[&whole(&head, &body)])
        },
        "",
        "answered",
    ),
    (
        "closes before the announced end",
        |_, stream| {
            close_with(
                stream,
                &[&whole("content-length: 5000\r\n", &completion("hi"))],
            )
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "announces less than it sends",
        |_, stream| {
            close_with(
                stream,
                &[&whole("content-length: 10\r\n", &completion("hi"))],
            )
        },
        "JSONDecodeError",
        "answered",
    ),
    (
        "announces two lengths",
        |_, stream| {
            let head = "content-length: 5\r\ncontent-length: 5000\r\n";
            close_with(stream, &[&whole(head, &completion("hi"))])
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "announces a negative length",
        |_, stream| {
            close_with(
                stream,
                &[&whole("content-length: -1\r\n", &completion("hi"))],
            )
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "cuts a chunk",
        |_, stream| {
            close_with(
                stream,
                &[&whole(
                    "transfer-encoding: chunked\r\n",
                    "1000\r\n{\"choices\"",
                )],
            )
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "sends a chunk of a bad size",
        |_, stream| {
            close_with(
                stream,
                &[&whole(
                    "transfer-encoding: chunked\r\n",
                    "zz\r\n{}\r\n0\r\n\r\n",
                )],
            )
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "sends a chunk of 2^64 bytes",
        |_, stream| {
            let body = "10000000000000000\r\n{}\r\n0\r\n\r\n";
            close_with(stream, &[&whole("transfer-encoding: chunked\r\n", body)])
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "closes without a word",
        |_, _| Ok(Then::Close),
        "APIConnectionError",
        "unknown",
    ),
    (
        "doesn't speak HTTP",
        |_, stream| close_with(stream, &[b"220 mail.example ESMTP\r\n"]),
        "APIConnectionError",
        "unknown",
    ),
    (
        "speaks HTTP 1.0 and closes",
        |_, stream| {
            let body = completion("hi");
            close_with(
                stream,
                &[
                    b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n",
                    body.as_bytes(),
                ],
            )
        },
        "",
        "answered",
    ),
    (
        "continues a hundred times",
        |_, stream| {
            stream.write_all(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100))?;
            stream.write_all(&response(200, &[], completion("hi").as_bytes()))?;
            Ok(Then::Keep)
        },
        "",
        "answered",
    ),
    (
        "continues for ever",
        |_, stream| {
            for_ever(
                stream,
                b"HTTP/1.1 100 Continue\r\n\r\n",
                Duration::from_millis(1),
            )
        },
        "APITimeoutError",
        "unknown",
    ),
    (
        "switches protocols",
        |_, stream| {
            close_with(
                stream,
                &[b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"],
            )
        },
        "APIStatusError",
        "answered",
    ),
    (
        "redirects to itself",
        |request, stream| {
            let location = request.path.clone();
            stream.write_all(&response(307, &[("location", &location)], b""))?;
            Ok(Then::Keep)
        },
        "APIStatusError",
        "answered",
    ),
    (
        "asks to wait for 30 years",
        |_, stream| {
            stream.write_all(&response(503, &[("retry-after", "1000000000")], b"{}"))?;
            Ok(Then::Keep)
        },
        "InternalServerError",
        "answered",
    ),
    (
        "streams without being asked",
        |_, stream| {
            let headers = [("content-type", "text/event-stream")];
            stream.write_all(&response(200, &headers, b"data: {}\n\ndata: [DONE]\n\n"))?;
            Ok(Then::Keep)
        },
        "APIResponseValidationError",
        "answered",
    ),
    (
        "resets the connection within its answer",
        |_, stream| {
            stream.write_all(&whole("connection: close\r\n", "{\"choices\""))?;
            std::thread::sleep(Duration::from_millis(50));
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
            stream.shutdown(std::net::Shutdown::Read)?;
            Ok(Then::Close)
        },
        "APIConnectionError",
        "unknown",
    ),
    (
        "continues before a large answer",
        |_, stream| {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            let answer = completion(&"x".repeat(300_000));
            stream.write_all(&response(200, &[], answer.as_bytes()))?;
            Ok(Then::Keep)
        },
        "",
        "answered",
    ),
    (
        "nests its answer too deep",
        |_, stream| {
            let body = "[".repeat(100_000);
            stream.write_all(&response(200, &[], body.as_bytes()))?;
            Ok(Then::Keep)
        },
        "JSONDecodeError",
        "answered",
    ),
];

/// All that this file's tests take at once, since they share the process: an answer without a bound
/// brings gigabytes before its call's time is over.
fn no_answer_filled_the_memory() {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let peak = status.split("VmHWM:").nth(1).expect("it's there");
    let kib = peak.split_whitespace().next().expect("a number");
    let kib: usize = kib.parse().expect("a number");
    assert!(kib < 400 * 1024, "{kib} KiB were resident");
}

#[test]
fn each_misbehaviour_ends_in_time_with_one_entry_that_says_what_came() {
    for (what, respond, class, outcome) in CASES {
        // A busy machine may need long for what doesn't take until the deadline.
        let is_late = *class == "APITimeoutError";
        let timeout = if is_late { TIMEOUT } else { PATIENCE };
        let expected = if class.is_empty() {
            AUDIT_OK
        } else {
            AUDIT_E_CALL
        };
        quickly(what, TIMEOUT + Duration::from_millis(700), || {
            let (server, scratch) = (Server::start(respond), Scratch::new());
            let logger = logger_within(timeout, &server.base_url(), &scratch);
            let began = Stopwatch::start();
            let answer = logger.ask("hello");
            let took = began.elapsed();
            assert_eq!(
                (answer.status, answer.error_type()),
                (expected, *class),
                "{what}: {}",
                answer.message()
            );
            let logged = entries(&scratch.join("log"));
            assert_eq!(logged.len(), 1, "{what}");
            let found = &logged[0]["details"]["outcome"];
            if is_late && found == "not_sent" && server.requests().is_empty() {
                // It had no processor before its time was over.
                return Duration::MAX;
            }
            assert_eq!(found, *outcome, "{what}: {}", logged[0]);
            took
        });
    }
    no_answer_filled_the_memory();
}

unsafe extern "C-unwind" fn go_on(
    _: *const std::ffi::c_char,
    _: usize,
    _: *mut std::ffi::c_void,
) -> i32 {
    AUDIT_CONTINUE
}

#[test]
fn an_answer_of_countless_values_is_refused_before_it_fills_the_memory() {
    let body = format!("[{}{{}}]", "{\"\":0},".repeat(2_000_000));
    let server = Server::always(response(200, &[], body.as_bytes()));
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
    }));
    let answer = logger.ask("hello").expect(AUDIT_E_CALL);
    assert_eq!(answer.error_type(), "ResponseTooLarge");

    // The same as one event of a stream.
    let headers = [("content-type", "text/event-stream")];
    let server = Server::always(response(
        200,
        &headers,
        format!("data: {body}\n\n").as_bytes(),
    ));
    let logger = Logger::new(&json!({
        "output_path": scratch.join("stream"), "base_url": server.base_url(), "api_key": "sk-test",
    }));
    let answer = logger.chat(&AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("hello"),
        on_delta: Some(go_on),
        ..chat_request()
    });
    assert_eq!(answer.error_type(), "ResponseTooLarge");
    no_answer_filled_the_memory();
}

#[test]
fn a_stream_of_one_endless_line_stops_at_the_limit() {
    let server = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ")?;
        for_ever(stream, &[b'a'; 64 * 1024], Duration::ZERO)
    });
    let scratch = Scratch::new();
    let logger = logger_for(&server.base_url(), &scratch);
    let answer = logger.chat(&AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("hello"),
        on_delta: Some(go_on),
        ..chat_request()
    });
    assert_eq!(
        answer.error_type(),
        "ResponseTooLarge",
        "{}",
        answer.message()
    );
    assert_eq!(entries(&scratch.join("log")).len(), 1);
}

#[test]
fn a_refused_connection_and_an_unknown_name_were_never_sent() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.local_addr().expect("it has an address")
    };
    for url in [
        format!("http://{closed}/v1"),
        "https://no-such-host.invalid/v1".into(),
    ] {
        let scratch = Scratch::new();
        let answer = logger_for(&url, &scratch).ask("hello").expect(AUDIT_E_CALL);
        assert_eq!(
            answer.error_type(),
            "APIConnectionError",
            "{}",
            answer.message()
        );
        assert_eq!(
            answer.int(AUDIT_REPLY_OUTCOME),
            i64::from(AUDIT_OUTCOME_NOT_SENT)
        );
        let entry = answer.entry();
        assert_eq!(entry["details"]["outcome"], "not_sent");
        assert_eq!(
            (&entry["prompt_tokens"], &entry["completion_tokens"]),
            (&json!(0), &json!(0))
        );
    }
}

#[test]
fn a_handshake_that_stalls_ends_at_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        let accepted: Vec<_> = listener.incoming().take(5).collect();
        std::thread::sleep(Duration::from_secs(20));
        drop(accepted);
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": format!("https://{address}/v1"),
        "api_key": "sk-test", "max_retries": 0, "connect_timeout_ms": 300,
    }));
    quickly("a call", Duration::from_millis(1000), || {
        let began = Stopwatch::start();
        let answer = logger.ask("hello").expect(AUDIT_E_CALL);
        let took = began.elapsed();
        assert_eq!(answer.error_type(), "APITimeoutError");
        assert_eq!(answer.entry()["details"]["outcome"], "not_sent");
        took
    });
}

#[test]
fn a_refusal_before_the_request_was_read_is_heard_and_the_request_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!(
        "http://{}/v1",
        listener.local_addr().expect("it has an address")
    );
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::SeqCst);
            let mut first = [0; 1000];
            let _ = stream.read_exact(&mut first);
            let _ = stream
                .write_all(b"HTTP/1.1 413 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
        }
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": url, "api_key": "sk-test",
    }));
    let long = "word ".repeat(1 << 20);
    for calls in 1..=5 {
        let answer = logger.ask(&long).expect(AUDIT_E_CALL);
        assert_eq!(
            answer.error_type(),
            "APIStatusError",
            "{}",
            answer.message()
        );
        assert_eq!(answer.int(AUDIT_REPLY_HTTP_STATUS), 413);
        assert_eq!(sent.load(Ordering::SeqCst), calls);
    }
}

#[test]
fn a_redirect_to_another_host_takes_neither_key_nor_prompt_there() {
    let other = Server::always(response(200, &[], completion("hi").as_bytes()));
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/elsewhere", other.base_url());
        let server = Server::start(move |_, stream| {
            stream.write_all(&response(status, &[("location", &location)], b""))?;
            Ok(Then::Keep)
        });
        let scratch = Scratch::new();
        let answer = logger_for(&server.base_url(), &scratch)
            .ask("hello")
            .expect(AUDIT_E_CALL);
        assert_eq!(answer.error_type(), "APIStatusError");
        assert_eq!(answer.int(AUDIT_REPLY_HTTP_STATUS), i64::from(status));
    }
    assert!(other.requests().is_empty());
}

#[test]
fn bytes_that_nobody_asked_for_are_not_taken_for_the_next_answer() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = Server::start(move |request, stream| {
        let wanted = completion(&format!("answer {}", request.number));
        stream.write_all(&response(200, &[], wanted.as_bytes()))?;
        stream.write_all(&response(200, &[], completion("unasked").as_bytes()))?;
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Then::Keep)
    });
    let scratch = Scratch::new();
    let logger = logger_for(&server.base_url(), &scratch);
    for number in 0..10 {
        let answer = logger.ask("hello").expect(AUDIT_OK);
        assert_eq!(
            answer.text(AUDIT_REPLY_CONTENT),
            Some(&*format!("answer {number}"))
        );
        until("what nobody asked for", || {
            sent.load(Ordering::SeqCst) > number
        });
    }
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_not_used() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let server = Server::start(move |_, stream| {
        stream.write_all(&response(200, &[], completion("hi").as_bytes()))?;
        stream.shutdown(Shutdown::Both)?;
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = logger_for(&server.base_url(), &scratch);
    for calls in 1..=20 {
        let answer = logger.ask("hello").expect(AUDIT_OK);
        assert_eq!(answer.int(AUDIT_REPLY_ATTEMPTS), 1);
        until("the server closes", || {
            closed.load(Ordering::SeqCst) == calls
        });
        assert_eq!(server.requests().len(), calls);
    }
}
