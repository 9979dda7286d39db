//! Calls that nobody blocks for: each has the life and the entry of any other, and nothing waits for
//! the host.

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, Queue};
use support::pace::until;
use support::server::{Server, Then, completion, response};
use support::{Scratch, compile, entries, release, root, run};

/// Holds answers back until it's opened, and counts who waits.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self
            .state
            .lock()
            .expect("no test panics while it holds this");
        state.1 += 1;
        self.changed.notify_all();
        let opened = self.changed.wait_while(state, |state| !state.0);
        drop(opened.expect("no test panics while it holds this"));
    }

    fn open(&self) {
        self.state
            .lock()
            .expect("no test panics while it holds this")
            .0 = true;
        self.changed.notify_all();
    }

    /// Until so many have come.
    fn wait_for(&self, count: usize) {
        let state = self
            .state
            .lock()
            .expect("no test panics while it holds this");
        let came = self.changed.wait_while(state, |state| state.1 < count);
        drop(came.expect("no test panics while it holds this"));
    }
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

fn delta(text: &str) -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    format!("data: {chunk}\n\n")
}

/// Repeats the prompt: whole, or in pieces of a word.
fn echoing(gate: Arc<Gate>) -> Server {
    Server::start(move |request, stream| {
        gate.pass();
        let body = request.json();
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
        if body["stream"] != true {
            stream.write_all(&response(200, &[], completion(prompt).as_bytes()))?;
            return Ok(Then::Keep);
        }
        stream.write_all(STREAM.as_bytes())?;
        for word in prompt.split_inclusive(' ') {
            stream.write_all(delta(word).as_bytes())?;
        }
        stream.write_all(END.as_bytes())?;
        Ok(Then::Close)
    })
}

struct Setup {
    queue: Queue,
    logger: Logger,
    gate: Arc<Gate>,
    server: Server,
    scratch: Scratch,
}

/// A queue to a server whose gate is shut.
fn shut(options: Value) -> Setup {
    let gate = Arc::<Gate>::default();
    let server = echoing(Arc::clone(&gate));
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test"
    }));
    Setup {
        queue: Queue::new(&logger, &options),
        logger,
        gate,
        server,
        scratch,
    }
}

/// The same, with an open one.
fn open(options: Value) -> Setup {
    let setup = shut(options);
    setup.gate.open();
    setup
}

impl Setup {
    fn entries(&self) -> Vec<Value> {
        entries(&self.scratch.join("log"))
    }

    /// The next event, which must be that call's end.
    #[track_caller]
    fn done(&self, tag: u64, status: AuditStatus) -> Answer {
        let event = self.queue.next(-1).expect(AUDIT_OK);
        assert_eq!(
            [event.int(AUDIT_REPLY_EVENT), event.int(AUDIT_REPLY_TAG)],
            [AUDIT_EVENT_DONE.into(), tag as i64]
        );
        assert_eq!(
            event.int(AUDIT_REPLY_STATUS),
            i64::from(status),
            "{}",
            event.message()
        );
        event
    }
}

fn asking(prompt: &str) -> Value {
    json!({"user_id": "user-1", "prompt": prompt})
}

fn streaming(prompt: &str, stream: Value) -> Value {
    json!({"user_id": "user-1", "prompt": prompt, "stream": stream})
}

#[test]
fn a_call_s_end_is_what_audit_chat_would_have_returned() {
    let setup = open(json!({}));
    setup.queue.submit(&asking("hello"), 7).expect(AUDIT_OK);
    let done = setup.done(7, AUDIT_OK);
    assert_eq!(done.text(AUDIT_REPLY_CONTENT), Some("hello"));
    assert_eq!(done.int(AUDIT_REPLY_HTTP_STATUS), 200);
    assert_eq!(done.int(AUDIT_REPLY_COMPLETION_TOKENS), 7);
    assert_eq!(done.error_type(), "");
    assert_eq!(setup.entries(), [done.entry()]);
}

#[test]
fn a_stream_s_events_come_in_order_and_its_end_last() {
    let setup = open(json!({}));
    let heard = |stream: Value, tag: u64| {
        let request = streaming("one two three", stream);
        setup.queue.submit(&request, tag).expect(AUDIT_OK);
        let mut heard = Vec::new();
        loop {
            let event = setup.queue.next(-1).expect(AUDIT_OK);
            assert_eq!(event.int(AUDIT_REPLY_TAG), tag as i64);
            let text = event
                .text(AUDIT_REPLY_CONTENT)
                .unwrap_or_default()
                .to_owned();
            match event.int(AUDIT_REPLY_EVENT) as i32 {
                AUDIT_EVENT_DELTA => heard.push(format!("delta {text}")),
                AUDIT_EVENT_CHUNK => {
                    let chunk: Value = serde_json::from_str(&text).expect("a payload is JSON");
                    heard.push(format!("chunk {}", chunk["choices"][0]["delta"]));
                }
                _ => {
                    heard.push(format!("done {text}"));
                    return heard;
                }
            }
        }
    };
    assert_eq!(heard(json!(false), 1), ["done one two three"]);
    // Text that came together is told together.
    let told = heard(json!(true), 2);
    let (done, deltas) = told.split_last().expect("it's told something");
    let deltas: Vec<_> = deltas
        .iter()
        .map(|told| told.strip_prefix("delta ").expect("it's text"))
        .collect();
    assert_eq!(
        (deltas.concat().as_str(), done.as_str()),
        ("one two three", "done one two three")
    );
    let chunk = |text: &str| format!("chunk {{\"content\":\"{text}\"}}");
    let chunks = [
        chunk("one "),
        chunk("two "),
        chunk("three"),
        "chunk {}".to_owned(),
        "done one two three".to_owned(),
    ];
    assert_eq!(heard(json!("chunks"), u64::MAX), chunks);
    let all = heard(json!("all"), 4);
    assert_eq!(all[..2], [chunk("one "), "delta one ".to_owned()]);
    assert_eq!(all.len(), 8);
}

#[test]
fn text_is_told_as_it_comes() {
    let (go, told) = channel::<()>();
    let told = Mutex::new(told);
    let server = Server::start(move |_, stream| {
        stream.write_all(STREAM.as_bytes())?;
        for word in ["one ", "two ", "three"] {
            stream.write_all(delta(word).as_bytes())?;
            // The next one when this was heard.
            let told = told.lock().expect("no test panics while it holds this");
            let _ = told.recv();
        }
        stream.write_all(END.as_bytes())?;
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test"
    }));
    let queue = Queue::new(&logger, &json!({}));
    let request = streaming("x", json!(true));
    queue.submit(&request, 1).expect(AUDIT_OK);
    for word in ["one ", "two ", "three"] {
        let event = queue.next(-1).expect(AUDIT_OK);
        assert_eq!(event.text(AUDIT_REPLY_CONTENT), Some(word));
        go.send(()).expect("the server waits");
    }
    let done = queue.next(-1).expect(AUDIT_OK);
    assert_eq!(done.text(AUDIT_REPLY_CONTENT), Some("one two three"));
}

#[test]
fn what_audit_chat_refuses_is_refused_at_once_and_leaves_no_event_and_no_entry() {
    let setup = open(json!({}));
    let wrong = [
        (json!([]), "a JSON object"),
        (json!({"prompt": "hi"}), "user_id"),
        (json!({"user_id": "u"}), "prompt is absent"),
        (
            json!({"user_id": "u", "prompt": 1}),
            "\"prompt\" must be a string",
        ),
        (
            json!({"user_id": "u", "prompt": "", "stream": "deltas"}),
            "\"stream\" must be",
        ),
        (
            json!({"user_id": "u", "prompt": "", "metadata": "{}"}),
            "\"metadata\" must be an object",
        ),
        (
            json!({"user_id": "u", "prompt": "", "params": {"model": "m"}}),
            "can't be set here",
        ),
        (
            json!({"user_id": "u", "prompt": "", "options": {"timeout_ms": 0}}),
            "timeout_ms",
        ),
        (
            json!({"user_id": "u", "prompt": "", "temperature": 1}),
            "not a known key",
        ),
    ];
    for (request, says) in wrong {
        let refused = setup.queue.submit(&request, 1).expect(AUDIT_E_ARGUMENT);
        assert!(
            refused.message().contains(says),
            "{request}: {}",
            refused.message()
        );
    }
    setup.queue.next(0).expect(AUDIT_E_TIMEOUT);
    assert!(setup.entries().is_empty());
}

#[test]
fn no_more_calls_run_at_once_than_was_asked_for() {
    let setup = shut(json!({"running": 3}));
    for tag in 0..12 {
        setup
            .queue
            .submit(&asking(&tag.to_string()), tag)
            .expect(AUDIT_OK);
    }
    setup.gate.wait_for(3);
    assert_eq!(setup.logger.stats()["running"], 12);
    assert_eq!(setup.server.requests().len(), 3);
    setup.gate.open();
    for _ in 0..12 {
        let done = setup.queue.next(-1).expect(AUDIT_OK);
        assert_eq!(done.int(AUDIT_REPLY_STATUS), 0);
        let tag = done.int(AUDIT_REPLY_TAG).to_string();
        assert_eq!(done.text(AUDIT_REPLY_CONTENT), Some(tag.as_str()));
    }
    assert_eq!(setup.entries().len(), 12);
}

#[test]
fn calls_that_wait_are_begun_in_their_order() {
    // Of several that run at once, any may be the first to reach the server.
    let setup = shut(json!({"running": 1}));
    for tag in 0..12 {
        setup
            .queue
            .submit(&asking(&tag.to_string()), tag)
            .expect(AUDIT_OK);
    }
    setup.gate.open();
    for tag in 0..12 {
        let done = setup.queue.next(-1).expect(AUDIT_OK);
        assert_eq!(done.int(AUDIT_REPLY_TAG), tag);
        assert_eq!(
            done.text(AUDIT_REPLY_CONTENT),
            Some(tag.to_string().as_str())
        );
    }
}

#[test]
fn a_tag_is_of_one_call_at_once_and_free_again_when_its_end_was_taken() {
    let setup = open(json!({}));
    setup.queue.submit(&asking("a"), 5).expect(AUDIT_OK);
    let refused = setup.queue.submit(&asking("b"), 5).expect(AUDIT_E_ARGUMENT);
    assert!(refused.message().contains("tag 5"), "{}", refused.message());
    setup.done(5, AUDIT_OK);
    setup.queue.submit(&asking("c"), 5).expect(AUDIT_OK);
    setup.done(5, AUDIT_OK);
}

#[test]
fn a_call_that_runs_and_one_that_waits_are_cancelled_and_each_has_its_entry() {
    let setup = shut(json!({"running": 1}));
    setup.queue.submit(&asking("runs"), 1).expect(AUDIT_OK);
    setup.gate.wait_for(1);
    setup.queue.submit(&asking("waits"), 2).expect(AUDIT_OK);
    setup.queue.submit(&asking("stays"), 3).expect(AUDIT_OK);

    setup.queue.cancel(2).expect(AUDIT_OK);
    let waited = setup.done(2, AUDIT_E_CANCELLED);
    assert_eq!(waited.error_type(), "Cancelled");
    assert_eq!(
        waited.int(AUDIT_REPLY_OUTCOME),
        i64::from(AUDIT_OUTCOME_NOT_SENT)
    );
    assert_eq!(waited.entry()["details"]["outcome"], "not_sent");
    setup.queue.cancel(2).expect(AUDIT_E_NOT_FOUND);

    setup.queue.cancel(1).expect(AUDIT_OK);
    let ran = setup.done(1, AUDIT_E_CANCELLED);
    assert_eq!(ran.entry()["details"]["outcome"], "unknown");
    // What ended that one doesn't end the next on the same thread.
    setup.gate.open();
    setup.done(3, AUDIT_OK);
    assert_eq!(setup.entries().len(), 3);
}

#[test]
fn a_call_s_time_counts_from_its_submission_also_while_it_waits() {
    let setup = shut(json!({"running": 1}));
    setup.queue.submit(&asking("runs"), 1).expect(AUDIT_OK);
    setup.gate.wait_for(1);
    let mut late = asking("waits");
    late["options"] = json!({"timeout_ms": 50});
    setup.queue.submit(&late, 2).expect(AUDIT_OK);
    let done = setup.done(2, AUDIT_E_CALL);
    assert_eq!(done.error_type(), "APITimeoutError");
    let entry = done.entry();
    assert_eq!(entry["details"]["outcome"], "not_sent");
    assert_eq!(
        [&entry["prompt_tokens"], &entry["completion_tokens"]],
        [&json!(0), &json!(0)]
    );
    assert_eq!(setup.server.requests().len(), 1);
    setup.gate.open();
    setup.done(1, AUDIT_OK);
}

#[test]
fn events_that_nobody_takes_hold_the_server_up_and_none_is_lost() {
    // Each piece is larger than what may wait, so that one waits and the server is held up by the
    // next few: those that the socket's buffers take.
    const PIECES: usize = 2000;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let server = Server::start(move |_, stream| {
        stream.write_all(STREAM.as_bytes())?;
        for _ in 0..PIECES {
            stream.write_all(delta(&"x".repeat(16 * 1024)).as_bytes())?;
            counter.fetch_add(1, Ordering::SeqCst);
        }
        stream.write_all(END.as_bytes())?;
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
        "max_response_bytes": 100_000_000
    }));
    let queue = Queue::new(&logger, &json!({"event_bytes": 1024}));
    queue
        .submit(&streaming("x", json!(true)), 1)
        .expect(AUDIT_OK);
    let mut before = usize::MAX;
    while before != sent.load(Ordering::SeqCst) || before == 0 {
        before = sent.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(before < PIECES, "the server was never held up");
    // A call that waits isn't begun either.
    queue
        .submit(&streaming("y", json!(true)), 2)
        .expect(AUDIT_OK);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.requests().len(), 1);

    let mut deltas = HashMap::new();
    let mut ends = 0;
    while ends < 2 {
        let event = queue.next(-1).expect(AUDIT_OK);
        match event.int(AUDIT_REPLY_EVENT) as i32 {
            AUDIT_EVENT_DELTA => *deltas.entry(event.int(AUDIT_REPLY_TAG)).or_insert(0) += 1,
            _ => {
                assert_eq!(event.int(AUDIT_REPLY_STATUS), 0, "{}", event.message());
                ends += 1;
            }
        }
    }
    assert_eq!(deltas, HashMap::from([(1, PIECES), (2, PIECES)]));
}

#[test]
fn a_call_held_up_by_events_that_nobody_takes_is_cancelled_and_times_out_all_the_same() {
    let setup = open(json!({"event_bytes": 1024}));
    let prompt = "word ".repeat(1000);
    let mut late = streaming(&prompt, json!(true));
    late["options"] = json!({"timeout_ms": 300});
    setup.queue.submit(&late, 1).expect(AUDIT_OK);
    std::thread::sleep(Duration::from_millis(100));
    let ended = |tag: u64| {
        loop {
            let event = setup.queue.next(-1).expect(AUDIT_OK);
            if event.int(AUDIT_REPLY_EVENT) == i64::from(AUDIT_EVENT_DONE) {
                assert_eq!(event.int(AUDIT_REPLY_TAG), tag as i64);
                return event;
            }
        }
    };
    let entry = |count: usize| {
        until("its entry", || {
            setup.logger.stats()["written"] == count && setup.logger.stats()["running"] == 0
        });
        setup.entries()[count - 1]["error_type"].clone()
    };
    assert_eq!(entry(1), "APITimeoutError");
    assert_eq!(ended(1).int(AUDIT_REPLY_STATUS), i64::from(AUDIT_E_CALL));
    setup
        .queue
        .submit(&streaming(&prompt, json!(true)), 2)
        .expect(AUDIT_OK);
    std::thread::sleep(Duration::from_millis(100));
    setup.queue.cancel(2).expect(AUDIT_OK);
    assert_eq!(entry(2), "Cancelled");
    assert_eq!(
        ended(2).int(AUDIT_REPLY_STATUS),
        i64::from(AUDIT_E_CANCELLED)
    );
}

#[test]
fn a_queue_that_is_freed_leaves_one_entry_for_every_call_that_was_submitted() {
    let setup = shut(json!({"running": 2}));
    for tag in 0..50 {
        setup.queue.submit(&asking("x"), tag).expect(AUDIT_OK);
    }
    setup.gate.wait_for(2);
    setup.queue.free();
    let entries = setup.entries();
    assert_eq!(entries.len(), 50);
    assert!(
        entries
            .iter()
            .all(|entry| entry["error_type"] == "Cancelled")
    );
    let unsent = |entry: &&Value| entry["details"]["outcome"] == "not_sent";
    assert_eq!(entries.iter().filter(unsent).count(), 48);
    assert_eq!(setup.logger.stats()["running"], 0);

    setup.queue.next(0).expect(AUDIT_E_HANDLE);
    setup.queue.submit(&asking("x"), 1).expect(AUDIT_E_HANDLE);
    setup.queue.cancel(1).expect(AUDIT_E_HANDLE);
    assert_eq!(audit_queue_fd(setup.queue.0), -1);
}

#[test]
fn who_waits_for_an_event_is_told_that_the_queue_was_freed() {
    let setup = shut(json!({}));
    setup.queue.submit(&asking("x"), 1).expect(AUDIT_OK);
    setup.gate.wait_for(1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| setup.queue.next(-1).status);
        std::thread::sleep(Duration::from_millis(50));
        setup.queue.free();
        assert_eq!(waiting.join().expect("it's told"), AUDIT_E_HANDLE);
    });
}

#[test]
fn closing_the_logger_waits_for_the_queue_s_calls_and_then_ends_them() {
    let setup = shut(json!({"running": 1}));
    for tag in 0..5 {
        setup.queue.submit(&asking("x"), tag).expect(AUDIT_OK);
    }
    setup.gate.wait_for(1);
    setup.logger.close(100).expect(AUDIT_E_TIMEOUT);
    let entries = setup.entries();
    assert_eq!(entries.len(), 5);
    assert!(
        entries
            .iter()
            .all(|entry| entry["error_type"] == "Cancelled")
    );
    let refused = setup.queue.submit(&asking("x"), 9).expect(AUDIT_E_HANDLE);
    assert!(
        refused.message().contains("closed"),
        "{}",
        refused.message()
    );
    for _ in 0..5 {
        let done = setup.queue.next(-1).expect(AUDIT_OK);
        assert_eq!(done.int(AUDIT_REPLY_STATUS), i64::from(AUDIT_E_CANCELLED));
    }
}

#[test]
fn a_queue_outlives_the_handle_of_its_logger() {
    let setup = open(json!({}));
    audit_log_free(setup.logger.0);
    setup.queue.submit(&asking("x"), 1).expect(AUDIT_OK);
    setup.done(1, AUDIT_OK);
    assert_eq!(setup.entries().len(), 1);
}

#[test]
fn options_that_are_out_of_range_are_refused_by_name() {
    let setup = open(json!({}));
    for (options, says) in [
        (
            r#"{"running": 0}"#,
            "\"running\" must be an integer from 1 to 4096",
        ),
        (r#"{"running": 4097}"#, "\"running\" must be an integer"),
        (
            r#"{"event_bytes": 1}"#,
            "\"event_bytes\" must be an integer",
        ),
        (r#"{"threads": 1}"#, "\"threads\" is not a known key"),
        ("[]", "options: a JSON object"),
    ] {
        let Err(refused) = Queue::try_new(&setup.logger, options) else {
            panic!("{options} was taken");
        };
        let refused = refused.expect(AUDIT_E_ARGUMENT);
        assert!(refused.message().contains(says), "{}", refused.message());
    }
}

#[test]
fn a_c_host_polls_the_queue_and_a_child_of_fork_has_none_of_it() {
    let server = support::worker::echoing();
    let scratch = Scratch::new();
    let (log, program) = (scratch.join("log"), scratch.join("queue"));
    compile(&root().join("tests/c/queue.c"), release(), &program, &[]);
    run(Command::new(program).arg(&log).arg(server.base_url()));
    // A hundred of the parent's, one of its child's own queue.
    assert_eq!(entries(&log).len(), 101);
}

#[test]
fn where_threads_cannot_be_had_fewer_run_and_nothing_is_lost() {
    let server = support::worker::echoing();
    let scratch = Scratch::new();
    let (log, program) = (scratch.join("log"), scratch.join("few_threads"));
    compile(
        &root().join("tests/c/few_threads.c"),
        release(),
        &program,
        &[],
    );
    run(Command::new(program).arg(&log).arg(server.base_url()));
    assert_eq!(entries(&log).len(), 40);
}
