//! Ending calls from outside.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, chat_request, text};
use support::pace::{Stopwatch, quickly, until};
use support::server::{Server, Then, completion, response};
use support::{Scratch, entries};

struct Cancel(*mut AuditCancel);

// A handle may be used by any thread.
unsafe impl Send for Cancel {}
unsafe impl Sync for Cancel {}

impl Cancel {
    fn new() -> Cancel {
        let mut cancel = ptr::null_mut();
        assert_eq!(unsafe { audit_cancel_new(&raw mut cancel) }, AUDIT_OK);
        Cancel(cancel)
    }

    fn trigger(&self) {
        audit_cancel_trigger(self.0);
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        audit_cancel_free(self.0);
    }
}

fn ask(logger: &Logger, cancel: &Cancel) -> Answer {
    logger.chat(&AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("hello"),
        cancel: cancel.0,
        ..chat_request()
    })
}

const AFTER: Duration = Duration::from_millis(100);
const WITHIN: Duration = Duration::from_millis(100);

/// Triggers while the call waits (as soon as there is one more of `waits`, and a while later), and returns
/// how long it then took.
fn cancelled_while_waiting(
    base_url: &str,
    scratch: &Scratch,
    waits: &(dyn Fn() -> usize + Sync),
) -> (Answer, Duration) {
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": base_url, "api_key": "sk-test",
        "connect_timeout_ms": 20_000,
    }));
    let (cancel, before) = (Cancel::new(), waits());
    let ended = Barrier::new(2);
    std::thread::scope(|scope| {
        let trigger = || {
            until("the call", || {
                logger.stats()["running"] == 1 && waits() > before
            });
            std::thread::sleep(AFTER);
            let triggered = Stopwatch::start();
            cancel.trigger();
            ended.wait();
            triggered.elapsed()
        };
        let took = scope.spawn(trigger);
        let answer = ask(&logger, &cancel);
        ended.wait();
        (answer, took.join().expect("it doesn't panic"))
    })
}

/// Asks for another attempt a minute later, and counts the clients that have read that.
fn busy(read: &Arc<AtomicUsize>) -> Server {
    let read = Arc::clone(read);
    Server::start(move |_, stream| {
        let headers = [("retry-after", "60"), ("connection", "close")];
        stream.write_all(&response(503, &headers, b"{}"))?;
        // Until it closes the connection.
        let _ = stream.read(&mut [0]);
        read.fetch_add(1, Ordering::SeqCst);
        Ok(Then::Close)
    })
}

#[test]
fn a_call_ends_within_100_ms_wherever_it_waits() {
    let silent = Server::start(|_, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(Then::Close)
    });
    let within_the_body = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(Then::Close)
    });
    let read = Arc::default();
    let busy = busy(&read);
    // Its queue of connections is full, so that a further one isn't answered.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    full.bind(&loopback.into())
        .expect("loopback has a free port");
    full.listen(0).expect("a bound socket can listen");
    let address = full.local_addr().expect("it has an address");
    let waiting: Vec<Socket> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None);
            let socket = socket.expect("a socket can be made");
            // In progress, for ever once the queue is full.
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let full_url = format!(
        "http://{}/v1",
        address.as_socket().expect("it is one of IP")
    );
    let handshake = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let handshake_url = format!("https://{}/v1", handshake.local_addr().expect("it has one"));
    let asked = |server: &Server| server.requests().len();
    // Of these nothing tells.
    let calls = AtomicUsize::new(0);
    let any = || calls.fetch_add(1, Ordering::SeqCst);
    type Waits<'w> = &'w (dyn Fn() -> usize + Sync);
    let all: [(&str, String, &str, Waits); 5] = [
        ("for the answer", silent.base_url(), "unknown", &|| {
            asked(&silent)
        }),
        (
            "within the body",
            within_the_body.base_url(),
            "unknown",
            &|| asked(&within_the_body),
        ),
        (
            "before the next attempt",
            busy.base_url(),
            "answered",
            &|| read.load(Ordering::SeqCst),
        ),
        ("for the connection", full_url, "not_sent", &any),
        ("within the TLS handshake", handshake_url, "not_sent", &any),
    ];
    for (what, url, outcome, waits) in all {
        quickly(what, WITHIN, || {
            let scratch = Scratch::new();
            let (answer, took) = cancelled_while_waiting(&url, &scratch, waits);
            assert_eq!(
                answer.status,
                AUDIT_E_CANCELLED,
                "{what}: {}",
                answer.message()
            );
            let entry = answer.entry();
            assert_eq!(entry["error_type"], "Cancelled", "{what}");
            assert_eq!(entry["details"]["outcome"], outcome, "{what}: {entry}");
            assert_eq!(entries(&scratch.join("log")), [entry], "{what}");
            took
        });
    }
    drop(waiting);
}

#[test]
fn one_cancel_ends_many_calls_and_all_later_ones_before_they_begin() {
    let silent = Server::start(|_, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": silent.base_url(), "api_key": "sk-test",
    }));
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| drop(ask(&logger, &cancel).expect(AUDIT_E_CANCELLED)));
        }
        until("the calls", || silent.requests().len() == 16);
        cancel.trigger();
    });
    assert_eq!(entries(&scratch.join("log")).len(), 16);

    let sent = silent.requests().len();
    let answer = ask(&logger, &cancel).expect(AUDIT_E_CANCELLED);
    assert_eq!(answer.text(AUDIT_REPLY_ENTRY), None);
    assert_eq!(
        answer.int(AUDIT_REPLY_OUTCOME),
        i64::from(AUDIT_OUTCOME_NOT_SENT)
    );
    assert_eq!(
        entries(&scratch.join("log")).len(),
        16,
        "a call that never began has no entry"
    );
    assert_eq!(silent.requests().len(), sent);
}

#[test]
fn a_cancel_may_be_freed_while_a_call_runs_with_it() {
    let freed = Arc::new(Barrier::new(2));
    let told = Arc::clone(&freed);
    let slow = Server::start(move |_, stream| {
        let _ = told.wait();
        stream.write_all(&response(200, &[], completion("hi").as_bytes()))?;
        Ok(Then::Keep)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": slow.base_url(), "api_key": "sk-test",
    }));
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(ask(&logger, &cancel).expect(AUDIT_OK)));
        until("the call", || slow.requests().len() == 1);
        audit_cancel_free(cancel.0);
        cancel.trigger();
        freed.wait();
    });
    let answer = ask(&logger, &cancel).expect(AUDIT_E_HANDLE);
    assert!(
        answer.message().contains("cancel was freed"),
        "{}",
        answer.message()
    );
}

#[test]
fn null_freed_and_foreign_cancels_do_nothing() {
    assert_eq!(
        unsafe { audit_cancel_new(ptr::null_mut()) },
        AUDIT_E_ARGUMENT
    );
    audit_cancel_trigger(ptr::null_mut());
    audit_cancel_free(ptr::null_mut());
    let cancel = Cancel::new();
    audit_cancel_free(cancel.0);
    cancel.trigger();
    let stack = 0u64;
    audit_cancel_trigger((&raw const stack).cast_mut().cast());
    audit_cancel_free((&raw const stack).cast_mut().cast());
}
