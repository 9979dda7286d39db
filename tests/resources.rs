//! What the library takes of the host's process: nothing that grows.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use audit_logger::ffi::*;
use support::calls::Logger;
use support::pace::until;
use support::server::{Server, Then, completion, response};
use support::worker::{Bench, Work};
use support::{Scratch, available, compile, day_files, entries, release, root, run};

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

/// Has a test run in a process of its own, where no other test's threads and descriptors come and go.
/// Whether this is that process.
fn is_by_itself(test: &str) -> bool {
    const IS: &str = "AUDIT_TEST_BY_ITSELF";
    if std::env::var_os(IS).is_some() {
        return true;
    }
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let printed = run(Command::new(std::env::current_exe().expect("it's known"))
        .args(["--exact", test])
        .env(IS, "1"));
    assert!(printed.contains("1 passed"), "{printed}");
    false
}

#[test]
fn a_thousand_calls_make_one_connection_and_no_thread() {
    if !is_by_itself("a_thousand_calls_make_one_connection_and_no_thread") {
        return;
    }
    let server = Server::always(response(200, &[], completion("hi").as_bytes()));
    let scratch = Scratch::new();
    let logger = logger_for(&server, &scratch);
    logger.ask("hello").expect(AUDIT_OK);
    let (threads_before, descriptors_before) = (threads(), descriptors());
    for _ in 0..1000 {
        logger.ask("hello").expect(AUDIT_OK);
        assert_eq!(threads(), threads_before);
    }
    // The log's thread has some open now and then.
    until("no descriptor is left", || {
        descriptors() <= descriptors_before
    });
    let connections = server
        .requests()
        .iter()
        .map(|request| request.connection)
        .max();
    assert_eq!(connections, Some(0));
}

#[test]
fn a_hundred_slow_calls_at_once_all_end_and_leave_no_descriptor() {
    if !is_by_itself("a_hundred_slow_calls_at_once_all_end_and_leave_no_descriptor") {
        return;
    }
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
    until("their descriptors' end", || descriptors() <= before);
}

/// What a process has: KiB resident, descriptors, threads.
fn taken(process: u32) -> Option<[usize; 3]> {
    let place = PathBuf::from(format!("/proc/{process}"));
    let status = std::fs::read_to_string(place.join("status")).ok()?;
    let resident = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let count = |name| Some(std::fs::read_dir(place.join(name)).ok()?.count());
    Some([
        resident.split_whitespace().nth(1)?.parse().ok()?,
        count("fd")?,
        count("task")?,
    ])
}

/// Has a worker do something `times` over, and holds what it takes after a tenth of that to what it
/// takes until the end. With AUDIT_TEST_SOAK set it does it `soaking` times.
fn takes_no_more_and_more(doing: &str, times: usize, soaking: usize) {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let times = match std::env::var_os("AUDIT_TEST_SOAK") {
        Some(_) => soaking,
        None => times,
    };
    let bench = Bench::new(json!({}));
    let work = Work {
        doings: doing,
        times,
        threads: 1,
        longest: 100,
        expected: "AUDIT_OK",
    };
    let said = bench.scratch.join("said");
    let mut worker = bench.start("p", work);
    let (process, mut looks) = (worker.0.id(), Vec::new());
    let ended = loop {
        let length = said.metadata().map_or(0, |metadata| metadata.len());
        if length > times as u64 * 5 {
            looks.extend(taken(process));
        }
        if let Some(ended) = worker.0.try_wait().expect("a child can be waited for") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended.success(), "the worker failed or took too long");
    // At any one look files may be open that are closed at once.
    let least = |looks: &[[usize; 3]]| -> [usize; 3] {
        std::array::from_fn(|at| looks.iter().map(|look| look[at]).min().unwrap_or_default())
    };
    assert!(looks.len() > 16, "it ends before it can be looked at");
    // And at its end it may wait for the disk with some.
    let (before, after) = (least(&looks[..8]), least(&looks[looks.len() / 2..]));
    let resident = looks.iter().map(|look| look[0]).max().unwrap_or_default();
    println!("{times} x {doing}: {before:?} and {after:?}, at most {resident} KiB");
    // What lines are sealed in fills up in its own time, and then stays.
    assert!(resident < before[0] + 2048, "its memory grows");
    assert!(
        after[1] <= before[1] && after[2] <= before[2],
        "its descriptors or threads grow: {before:?}, {after:?}"
    );

    let mut ids = std::collections::HashSet::new();
    for file in day_files(&bench.log) {
        let file = BufReader::new(std::fs::File::open(file).expect("it's there"));
        for line in file.lines() {
            let line = line.expect("UTF-8");
            let id = line.get(7..43).expect("an entry begins with its id");
            let id = u128::from_str_radix(&id.replace('-', ""), 16).expect("hexadecimal");
            assert!(ids.insert(id), "an entry is there twice");
        }
    }
    assert_eq!(ids.len(), times, "each has its entry");
}

#[test]
fn entries_by_the_hundred_thousand_take_no_more_memory_descriptors_or_threads() {
    takes_no_more_and_more("l", 100_000, 1_000_000);
}

#[test]
fn calls_by_the_thousand_take_no_more_memory_descriptors_or_threads() {
    takes_no_more_and_more("c", 5000, 100_000);
}

/// Runs tests/c/limits.c, and counts its entries.
fn meets_a_limit(server: &Server, limit: &str) {
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let scratch = Scratch::new();
    let (log, program) = (scratch.join("log"), scratch.join("limits"));
    compile(&root().join("tests/c/limits.c"), release(), &program, &[]);
    // Else the C library sets 64 MiB of address space apart for the log's thread whenever it can,
    // between the library's look for room and its use of it; DESIGN.md says that this is no promise.
    let printed = run(Command::new(program)
        .env("MALLOC_ARENA_MAX", "1")
        .arg(&log)
        .arg(server.base_url())
        .arg(limit));
    let count: usize = printed.trim().parse().expect("it prints a number");
    assert_eq!(entries(&log).len(), count);
}

#[test]
fn out_of_descriptors_every_step_fails_with_an_error_and_then_all_works_again() {
    meets_a_limit(&support::worker::answering(), "descriptors");
}

#[test]
fn a_large_answer_in_little_memory_is_refused_and_never_ends_the_host() {
    // Escapes: they are copied once more than other texts.
    let text = "\n".repeat(10 << 20);
    let chunk = |text: &str| {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
        format!("data: {delta}\n\n")
    };
    let end = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let streamed = [("content-type", "text/event-stream")];
    let whole = response(200, &[], completion(&text).as_bytes());
    let one = response(200, &streamed, (chunk(&text) + end).as_bytes());
    let many = chunk(&text[..1 << 10]).repeat(10 << 10) + end;
    let many = response(200, &streamed, many.as_bytes());
    let server = Server::start(move |request, stream| {
        let body = request.json();
        stream.write_all(match (body["model"] == "large", body["stream"] == true) {
            (true, false) => &whole,
            (true, true) => &many,
            _ => &one,
        })?;
        Ok(Then::Keep)
    });
    meets_a_limit(&server, "memory");
}

#[test]
fn without_a_thread_to_be_had_calls_go_on() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "clbf",
        times: 40,
        threads: 1,
        longest: 100,
        expected: "AUDIT_OK",
    };
    let _alone = ALONE.lock().unwrap_or_else(|error| error.into_inner());
    let bench = Bench::new(json!({}));
    run(&mut bench.injected("clone,clone3", "error=EAGAIN", work));
    assert!(bench.faults() > 0, "no thread was asked for");
    bench.check();

    // A name can't be looked up then: an error, with its entry.
    let url = bench.server.base_url().replace("127.0.0.1", "localhost");
    let bench = Bench::new(json!({"base_url": url}));
    let work = Work {
        doings: "c",
        expected: "AUDIT_E_CALL",
        ..work
    };
    run(&mut bench.injected("clone,clone3", "error=EAGAIN", work));
    assert_eq!(bench.check().entries, work.times);
    let logged = entries(&bench.log);
    assert!(
        logged
            .iter()
            .all(|entry| entry["error_type"] == "APIConnectionError")
    );
}
