//! What the library takes of the host's process: nothing that grows.

mod support;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use audit_logger::ffi::*;
use support::calls::{Logger, record};
use support::server::{Server, Then, completion, response};
use support::{Scratch, entries, memory_kib};

/// The tests count what the whole process has, so they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("Linux has it")
        .count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("Linux has it")
        .count()
}

fn logger_for(server: &Server, scratch: &Scratch) -> Logger {
    Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
    }))
}

#[test]
fn a_thousand_calls_make_one_connection_and_no_thread() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let server = Server::always(response(200, &[], completion("hi").as_bytes()));
    let scratch = Scratch::new();
    let logger = logger_for(&server, &scratch);
    logger.ask("hello").expect(AUDIT_OK);
    let (threads_before, descriptors_before) = (threads(), descriptors());
    for _ in 0..1000 {
        logger.ask("hello").expect(AUDIT_OK);
        assert_eq!(threads(), threads_before);
    }
    assert_eq!(descriptors(), descriptors_before);
    let connections = server
        .requests()
        .iter()
        .map(|request| request.connection)
        .max();
    assert_eq!(connections, Some(0));
}

#[test]
fn a_hundred_slow_calls_at_once_all_end_and_leave_no_descriptor() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let before = descriptors();
    let served = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&served);
    let server = Server::start(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let body = response(200, &[], completion("hi").as_bytes());
        for piece in body.chunks(body.len() / 4) {
            stream.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Then::Close)
    });
    let scratch = Scratch::new();
    let logger = logger_for(&server, &scratch);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| drop(logger.ask("hello").expect(AUDIT_OK)));
        }
    });
    assert_eq!(served.load(Ordering::SeqCst), 100);
    assert_eq!(entries(&scratch.join("log")).len(), 100);
    drop(logger);
    drop(server);
    // The server's threads close theirs in their own time.
    let began = Instant::now();
    while descriptors() > before {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{} of {before}",
            descriptors()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn memory_stays_flat_over_a_hundred_thousand_records() {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({"output_path": scratch.join("log")}));
    let log = |count: usize| {
        for _ in 0..count {
            logger.log(&record()).expect(AUDIT_OK);
        }
    };
    // As many as are kept until they are sealed.
    log(20_000);
    let before = (memory_kib("VmRSS:"), descriptors(), threads());
    log(100_000);
    let grown = memory_kib("VmRSS:").saturating_sub(before.0);
    assert!(grown < 1024, "{grown} KiB more are resident");
    assert_eq!((descriptors(), threads()), (before.1, before.2));
}
