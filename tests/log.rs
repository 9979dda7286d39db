//! The log: where it goes, what is in it, and what happens when it can't be written.

mod support;

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, record, text};
use support::pace::until;
use support::server::{Server, Then, completion, response};
use support::{Scratch, entries, last_file as today};

fn logger_in(path: &Path) -> Logger {
    Logger::new(&json!({"output_path": path, "api_key": "sk-test"}))
}

#[track_caller]
fn refused(path: &Path, says: &str) -> Answer {
    match Logger::try_new(&json!({"output_path": path}).to_string()) {
        Ok(_) => panic!("a log in {} is accepted", path.display()),
        Err(answer) => {
            assert_eq!(answer.status, AUDIT_E_LOG);
            let message = answer.message();
            assert!(
                message.contains(says) && message.contains(&*path.to_string_lossy()),
                "{message}"
            );
            answer
        }
    }
}

#[test]
fn a_missing_directory_is_created_for_its_owner_alone() {
    let scratch = Scratch::new();
    let log = scratch.join("a/b/log");
    logger_in(&log).log(&record()).expect(AUDIT_OK);
    let mode = |path: &Path| path.metadata().expect("it's there").permissions().mode() & 0o7777;
    assert_eq!(mode(&log), 0o700);
    assert_eq!(mode(&log.join(".state")), 0o700);
    assert_eq!(mode(&today(&log)), 0o600);
}

#[test]
fn a_relative_path_is_resolved_once() {
    // In a process of its own, for the working directory is the process's.
    let scratch = Scratch::new();
    let program = "
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
library.audit_reply_text.restype = ctypes.c_char_p
logger, reply = ctypes.c_void_p(), ctypes.c_void_p()
os.chdir(sys.argv[2])
assert library.audit_logger_new(b'{\"output_path\": \"here\"}', ctypes.byref(logger), ctypes.byref(reply)) == 0
os.chdir('/')
print(library.audit_reply_text(reply, 2, None).decode())
assert library.audit_logger_flush(logger, ctypes.c_int64(-1), None) == 0
library.audit_log_free(logger)
";
    if !support::available("python3") {
        return;
    }
    let printed = support::run(
        Command::new("python3")
            .args(["-c", program])
            .arg(support::release().join("libaudit_logger.so"))
            .arg(scratch.path()),
    );
    let report: Value = serde_json::from_str(&printed).expect("new reports JSON");
    let here = scratch
        .path()
        .canonicalize()
        .expect("it's there")
        .join("here");
    assert_eq!(report["path"], json!(here));
    assert!(here.join(".state/format").is_file());
}

#[test]
fn what_can_t_be_a_log_is_refused_by_new() {
    let scratch = Scratch::new();
    let file = scratch.join("file");
    std::fs::write(&file, "").expect("the scratch directory can be written to");
    refused(&file, "is not a directory; name one");
    refused(&file.join("below"), "Not a directory");
    refused(Path::new("/proc/self/log"), "No such file or directory");
    let linked = scratch.join("linked");
    std::fs::create_dir_all(&linked).expect("it can be made");
    std::os::unix::fs::symlink(scratch.path(), linked.join(".state")).expect("it can be made");
    refused(&linked, ".state: ");

    let newer = scratch.join("newer");
    std::fs::create_dir_all(newer.join(".state")).expect("it can be made");
    std::fs::write(newer.join(".state/format"), "audit_logger 4\n").expect("it can be written");
    refused(&newer, "use a newer library");
}

#[test]
fn threads_may_open_one_directory_at_once() {
    let scratch = Scratch::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..50 {
                    drop(logger_in(&scratch.join(&format!("log{round}"))));
                }
            });
        }
    });
    for round in 0..50 {
        let state = scratch.join(&format!("log{round}/.state"));
        let mut names: Vec<_> = std::fs::read_dir(state)
            .expect("it's there")
            .map(|item| item.expect("it can be read").file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "boot",
                "boot-tiles",
                "format",
                "health.json",
                "key",
                "lock",
                "seal"
            ]
        );
    }
}

#[test]
fn a_read_only_directory_is_refused_by_new() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    std::fs::create_dir_all(&log).expect("it can be made");
    let program = scratch.join("new.py");
    std::fs::write(
        &program,
        "
import ctypes, os, sys
os.setgid(65534); os.setuid(65534)
library = ctypes.CDLL(sys.argv[1])
library.audit_reply_text.restype = ctypes.c_char_p
logger, reply = ctypes.c_void_p(), ctypes.c_void_p()
config = b'{\"output_path\": \"' + sys.argv[2].encode() + b'\"}'
print(library.audit_logger_new(config, ctypes.byref(logger), ctypes.byref(reply)))
print(library.audit_reply_text(reply, 6, None).decode())
",
    )
    .expect("the scratch directory can be written to");
    // Only root can become another user, and only another user than root is held by modes.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    if !is_root {
        return support::skip("only root can become a user without rights");
    }
    if !support::available("python3") {
        return;
    }
    // The library must be readable to that user.
    let library = scratch.join("libaudit_logger.so");
    std::fs::copy(support::release().join("libaudit_logger.so"), &library).expect("it's built");
    for mode in [0o555, 0o000] {
        std::fs::set_permissions(&log, Permissions::from_mode(mode)).expect("we own it");
        let printed = support::run(
            Command::new("python3")
                .arg(&program)
                .arg(&library)
                .arg(&log),
        );
        assert!(printed.starts_with("-4\n"), "{printed}");
        assert!(printed.contains("Permission denied"), "{printed}");
    }
    std::fs::set_permissions(&log, Permissions::from_mode(0o755)).expect("we own it");
}

#[test]
fn a_day_file_that_isn_t_a_plain_file_is_refused_and_nothing_is_sent() {
    let server = Server::always(response(200, &[], completion("hi").as_bytes()));
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = Logger::new(&json!({
        "output_path": log, "api_key": "sk-test", "base_url": server.base_url()
    }));
    logger.log(&record()).expect(AUDIT_OK);
    let file = today(&log);
    drop(logger);

    let target = scratch.join("target");
    let plant: [(&str, &dyn Fn()); 4] = [
        ("a link", &|| {
            std::os::unix::fs::symlink(&target, &file).expect("it can be made")
        }),
        ("a directory", &|| {
            std::fs::create_dir(&file).expect("it can be made")
        }),
        ("a FIFO", &|| {
            drop(support::run(Command::new("mkfifo").arg(&file)))
        }),
        ("a hard link", &|| {
            std::fs::write(&target, "kept\n").expect("it can be written");
            std::fs::hard_link(&target, &file).expect("it can be made");
        }),
    ];
    for (what, plant) in plant {
        let _ = std::fs::remove_file(&file);
        plant();
        let logger = Logger::new(&json!({
            "output_path": log, "api_key": "sk-test", "base_url": server.base_url()
        }));
        let answer = logger.ask("hello");
        assert_eq!(answer.status, AUDIT_E_LOG, "{what}: {}", answer.message());
        assert_eq!(logger.log(&record()).status, AUDIT_E_LOG, "{what}");
        if file.is_dir() {
            std::fs::remove_dir(&file).expect("it's empty");
        }
    }
    assert_eq!(
        std::fs::read_to_string(&target).expect("it's there"),
        "kept\n"
    );
    assert!(
        server.requests().is_empty(),
        "a call was sent that the log couldn't take"
    );
}

#[test]
fn a_file_that_was_moved_away_is_made_again_within_a_second() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger_in(&log);
    logger.log(&record()).expect(AUDIT_OK);
    std::fs::rename(today(&log), scratch.join("moved")).expect("it can be moved");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    logger.log(&record()).expect(AUDIT_OK);
    assert_eq!(entries(&log).len(), 1);
}

#[test]
fn an_entry_follows_a_torn_line_on_a_line_of_its_own() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    logger_in(&log).log(&record()).expect(AUDIT_OK);
    let file = today(&log);
    let whole = std::fs::read(&file).expect("it's there");
    // A writer that was killed at any byte of its line, and one that wrote only its line feed.
    for end in whole.len() + 1..2 * whole.len() {
        let torn = [&whole[..], &whole[..]].concat();
        std::fs::write(&file, &torn[..end]).expect("it can be written");
        let answer = logger_in(&log).log(&record()).expect(AUDIT_OK);
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        let id = answer.text(AUDIT_REPLY_ENTRY_ID).expect("it's there");
        let found = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| entry["id"] == id)
            .count();
        assert_eq!(found, 1, "cut at {end}");
    }
}

#[test]
fn an_entry_that_the_log_can_t_take_after_the_call_waits_and_follows() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    // While the call is made, the day's file is replaced by a directory.
    let (place, aside) = (log.clone(), scratch.join("aside"));
    let server = Server::start(move |_, stream| {
        let file = today(&place);
        std::fs::rename(&file, &aside).expect("it can be moved");
        std::fs::create_dir(&file).expect("it can be made");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        stream.write_all(&response(200, &[], completion("paid").as_bytes()))?;
        Ok(Then::Keep)
    });
    let logger = Logger::new(&json!({
        "output_path": log, "api_key": "sk-test", "base_url": server.base_url()
    }));
    let answer = logger.ask("hello").expect(AUDIT_E_LOG_PENDING);
    assert_eq!(answer.text(AUDIT_REPLY_CONTENT), Some("paid"));
    assert_eq!(answer.error_type(), "AUDIT_E_LOG_PENDING");
    assert!(
        answer.message().contains("the entry waits"),
        "{}",
        answer.message()
    );
    assert_eq!(logger.stats()["pending"], 1);
    logger.log(&record()).expect(AUDIT_E_LOG);
    assert_eq!(
        logger.ask("again").status,
        AUDIT_E_LOG,
        "no further call is made meanwhile"
    );
    assert_eq!(server.requests().len(), 1);

    std::fs::remove_dir(today(&log)).expect("it's empty");
    logger.log(&record()).expect(AUDIT_OK);
    let logged = entries(&log);
    assert_eq!(
        logged.len(),
        2,
        "what waited, and the new one; what failed isn't logged"
    );
    assert_eq!(logged[0], answer.entry());
    assert_eq!(logger.stats()["pending"], 0);
}

#[test]
fn a_record_of_the_host_is_logged_as_it_is() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = Logger::new(&json!({"output_path": log, "metadata_numbers": "any"}));
    let answer = logger
        .log(&AuditRecord {
            event_type: text("embedding"),
            user_id: text("user-\u{202e}7"),
            latency_ms: 0.1,
            metadata: text("{ \"n\" : 123456789012345678901234567890 }"),
            status: text("error"),
            error_type: text("RateLimitError"),
            ..record()
        })
        .expect(AUDIT_OK);
    let line = answer
        .text(AUDIT_REPLY_ENTRY)
        .expect("it's there")
        .to_owned();
    assert_eq!(
        std::fs::read_to_string(today(&log)).expect("UTF-8"),
        format!("{line}\n")
    );
    assert!(
        line.contains(r#""metadata":{"n":123456789012345678901234567890}"#),
        "{line}"
    );

    let entry = answer.entry();
    assert_eq!(entry["event_type"], "embedding");
    assert_eq!(entry["user_id"], "user-\u{202e}7");
    assert_eq!(
        (&entry["status"], &entry["error_type"]),
        (&json!("error"), &json!("RateLimitError"))
    );
    assert_eq!(
        (&entry["prompt_tokens"], &entry["completion_tokens"]),
        (&json!(5), &json!(7))
    );
    assert_eq!(entry["latency_ms"], 0.1);
    assert_eq!(
        entry["prompt_hash"],
        logger.hash(b"prompt").text(AUDIT_REPLY_CONTENT).unwrap()
    );
    assert_eq!(
        entry["response_hash"],
        logger.hash(b"response").text(AUDIT_REPLY_CONTENT).unwrap()
    );
    assert_eq!(entry["details"]["pid"], std::process::id());
}

#[test]
fn without_details_an_entry_has_the_seed_s_fields_and_no_other() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = Logger::new(&json!({"output_path": log, "details": false}));
    let answer = logger
        .log(&AuditRecord {
            flags: 0,
            ..record()
        })
        .expect(AUDIT_OK);
    let line = answer.text(AUDIT_REPLY_ENTRY).expect("it's there");
    let mut at = 0;
    for field in [
        "id",
        "timestamp",
        "event_type",
        "user_id",
        "model",
        "prompt_hash",
        "response_hash",
        "prompt_tokens",
        "completion_tokens",
        "latency_ms",
        "status",
        "error_type",
        "metadata",
    ] {
        let found = line
            .find(&format!("\"{field}\":"))
            .unwrap_or_else(|| panic!("no {field}"));
        assert!(found >= at, "{field} is out of order");
        at = found;
    }
    let entry = answer.entry();
    assert_eq!(entry.as_object().expect("an object").len(), 13);
    assert_eq!(
        (&entry["prompt_tokens"], &entry["metadata"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn an_entry_that_could_grow_too_long_is_refused_before_anything_is_sent() {
    let server = Server::always(response(200, &[], completion("hi").as_bytes()));
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({
        "output_path": scratch.join("log"), "base_url": server.base_url(), "api_key": "sk-test",
    }));
    let long = "u".repeat(40_000);
    for answer in [
        logger.log(&AuditRecord {
            user_id: text(&long),
            ..record()
        }),
        logger.chat(&AuditChatRequest {
            user_id: text(&long),
            prompt: text("hello"),
            ..support::calls::chat_request()
        }),
    ] {
        assert_eq!(answer.status, AUDIT_E_ARGUMENT);
        assert!(
            answer.message().contains("max_entry_bytes"),
            "{}",
            answer.message()
        );
    }
    assert!(server.requests().is_empty());
    assert!(entries(&scratch.join("log")).is_empty());
}

#[test]
fn stats_count_what_was_written_and_what_failed() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let logger = logger_in(&log);
    for _ in 0..3 {
        logger.log(&record()).expect(AUDIT_OK);
    }
    logger.flush().expect(AUDIT_OK);
    let stats = logger.stats();
    assert_eq!(
        (&stats["written"], &stats["failed"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(
        (&stats["pending"], &stats["running"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        stats["bytes"],
        std::fs::read(today(&log)).expect("it's there").len()
    );
    assert_eq!(stats["last_error"], Value::Null);

    // Lines of a deleted file would be written again, and counted, should the log's thread look now.
    std::fs::rename(today(&log), scratch.join("moved")).expect("it can be moved");
    // The library's thread may just be writing into it.
    until("nothing is left of it", || {
        std::fs::remove_dir_all(&log).is_ok()
    });
    std::thread::sleep(std::time::Duration::from_millis(1100));
    logger.log(&record()).expect(AUDIT_E_LOG);
    let stats = logger.stats();
    assert_eq!(
        (&stats["written"], &stats["failed"]),
        (&json!(3), &json!(1))
    );
    assert!(
        stats["last_error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("audit_"))
    );
}

#[test]
fn loggers_that_come_and_go_on_many_threads_leave_no_thread_behind() {
    let scratch = Scratch::new();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let log = scratch.join(&format!("log{number}"));
            scope.spawn(move || {
                for _ in 0..200 {
                    logger_in(&log).log(&record()).expect(AUDIT_OK);
                }
            });
        }
    });
    for number in 0..4 {
        assert_eq!(entries(&scratch.join(&format!("log{number}"))).len(), 200);
    }
}
