//! A log is shown to its witnesses, and what they sign is kept; whatever they do, nobody waits for them who
//! didn't ask to.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, record, verified};
use support::pace::{Stopwatch, until};
use support::witness::{Doing, Witness};
use support::{Scratch, run, tool};

/// A log with a policy, in a directory of the test's own.
struct Bench {
    scratch: Scratch,
    log: PathBuf,
    policy: PathBuf,
    integrity: Value,
}

impl Bench {
    /// `rule` is what the policy says beside the witnesses, which are called w1, w2, and so on.
    fn new(witnesses: &[&Witness], rule: &str, integrity: Value) -> Bench {
        let scratch = Scratch::new();
        let policy = scratch.join("policy");
        let lines = witnesses.iter().zip(1..);
        let lines: String = lines
            .map(|(witness, number)| witness.line(&format!("w{number}")))
            .collect();
        fs::write(&policy, format!("{lines}{rule}\n")).expect("there's room");
        let log = scratch.join("log");
        Bench {
            integrity: support::merged(json!({"witness_policy": policy}), &integrity),
            scratch,
            log,
            policy,
        }
    }

    fn logger(&self) -> Logger {
        self.logger_in(&self.log)
    }

    fn logger_in(&self, log: &Path) -> Logger {
        Logger::new(&json!({"output_path": log, "integrity": self.integrity}))
    }

    fn verified(&self) -> (AuditStatus, Value) {
        verified(&self.log, &json!({"policy_file": self.policy}))
    }

    /// The report of a log in which nothing is wrong.
    #[track_caller]
    fn intact(&self) -> Value {
        let (status, report) = self.verified();
        assert_eq!(status, AUDIT_OK, "{report:#}");
        report
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.log.join(".integrity").join(name)).expect("it's there")
    }
}

fn write(logger: &Logger, count: usize) {
    for _ in 0..count {
        logger.log(&record()).expect(AUDIT_OK);
    }
}

fn witnessed(logger: &Logger, timeout_ms: i64) -> Answer {
    logger.flush_with(timeout_ms, r#"{"witnessed":true}"#)
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// What the stats say of the first witness.
fn first(logger: &Logger) -> Value {
    logger.stats()["witnesses"]["each"][0].clone()
}

/// The log is shown to them by itself once, now or a second later; beyond that only a flush does it.
fn required() -> Value {
    json!({"witness_mode": "required", "witness_interval_s": 86_400})
}

#[test]
fn a_flush_waits_for_the_quorum_and_the_signatures_are_in_the_checkpoint_and_in_heads() {
    let witnesses = [1, 2, 3].map(Witness::start);
    let dead = Witness::doing(4, Doing::Answering(500, Vec::new()));
    let all = [&dead, &witnesses[0], &witnesses[1], &witnesses[2]];
    let rule = "group all 3 w1 w2 w3 w4\nquorum all";
    let bench = Bench::new(&all, rule, required());
    let logger = bench.logger();
    for step in 1..=5 {
        write(&logger, 10 * step);
        witnessed(&logger, 60_000).expect(AUDIT_OK);
        let checkpoint = bench.file("checkpoint");
        let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
        for witness in &witnesses {
            assert_eq!(witness.state().signed.last(), Some(&size));
        }
        assert_eq!(checkpoint.matches("\n\u{2014} ").count(), 4, "{checkpoint}");
        assert!(bench.file("heads").contains(&checkpoint));
        let report = bench.intact();
        assert_eq!(report["witnessed"]["size"], size);
        let grade = report["grade"].as_str().unwrap();
        assert!(grade.starts_with("witnessed, as of 20"), "{grade}");
        assert_eq!(
            report["witnessed"]["witnesses"].as_array().unwrap().len(),
            3
        );
        let stats = logger.stats();
        assert_eq!(stats["witnesses"]["size"], size, "{stats:#}");
        assert_eq!(first(&logger)["error"], "answered 500");
    }
    // What was said before stays with the log, though it goes on.
    let size = bench.intact()["witnessed"]["size"].clone();
    let all_do = |doing: Doing| {
        let states = witnesses.iter().map(Witness::state);
        states.for_each(|mut state| state.doing = doing.clone());
    };
    all_do(Doing::Answering(500, Vec::new()));
    write(&logger, 5000);
    logger.flush().expect(AUDIT_OK);
    let report = bench.intact();
    assert_eq!(report["witnessed"]["size"], size);
    assert!(report["size"].as_u64() > size.as_u64());
    drop(logger);
    all_do(Doing::Signing);
    // The next process asks each with the size that it knows, at once.
    let asked = witnesses[0].server.requests().len();
    let logger = bench.logger();
    write(&logger, 1);
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    let first = &witnesses[0].server.requests()[asked];
    let known = format!("old {size}\n");
    assert!(first.body.starts_with(known.as_bytes()), "{first:?}");
}

#[test]
fn checkpoints_are_shown_by_themselves_and_at_most_once_an_interval() {
    let witness = Witness::start(1);
    let quick = json!({"witness_interval_s": 2, "seal_interval_ms": 20});
    let bench = Bench::new(&[&witness], "quorum w1", quick);
    let loggers = [bench.logger(), bench.logger()];
    let began = Instant::now();
    while witness.state().signed.len() < 3 {
        loggers.iter().for_each(|logger| write(logger, 1));
        std::thread::sleep(Duration::from_millis(30));
    }
    let passed = began.elapsed();
    assert!(passed >= Duration::from_millis(3900), "{passed:?}");
    // The second logger need not be the one that asks, and knows what was said all the same.
    until("both know", || {
        loggers
            .iter()
            .all(|logger| logger.stats()["witnesses"]["size"].as_u64() > Some(0))
    });
    drop(loggers);
    bench.intact();
}

#[test]
fn a_proof_carries_the_signatures_of_witnesses_where_they_cover_the_entry() {
    let witness = Witness::start(1);
    let bench = Bench::new(&[&witness], "quorum w1", required());
    let logger = bench.logger();
    write(&logger, 3);
    witnessed(&logger, -1).expect(AUDIT_OK);
    let size = {
        let mut state = witness.state();
        state.doing = Doing::Answering(500, Vec::new());
        *state.signed.last().expect("it signed")
    };
    write(&logger, 300);
    logger.close(-1).expect(AUDIT_OK);
    let ids = support::entries(&bench.log);
    for (number, signatures) in [(0, 2), (2, 2), (3, 1), (302, 1)] {
        let id = ids[number]["id"].as_str().expect("a text");
        let to = bench.scratch.join(&format!("entry{number}"));
        run(tool()
            .arg("prove")
            .arg(&bench.log)
            .arg(id)
            .arg("-o")
            .arg(&to));
        let proof = fs::read_to_string(to.with_extension("tlog-proof")).expect("it's there");
        let by = proof.matches("\n\u{2014} ").count();
        assert_eq!(by, signatures, "{number}: {proof}");
        let of = proof
            .split("\n\n")
            .nth(1)
            .and_then(|note| note.lines().nth(1));
        let of: u64 = of.and_then(|size| size.parse().ok()).expect("a size");
        assert_eq!(of == size, signatures == 2, "{number}: {proof}");
        let vkey = bench.log.join(".integrity/vkey");
        let files = ["jsonl", "tlog-proof"].map(|ending| to.with_extension(ending));
        run(tool().arg("check").arg("--vkey").arg(vkey).args(files));
    }
}

#[test]
fn a_witness_that_is_busy_is_asked_again_a_moment_later() {
    for status in [429, 503] {
        let witness = Witness::doing(1, Doing::Busy(status, 3));
        let bench = Bench::new(&[&witness], "quorum w1", required());
        let logger = bench.logger();
        write(&logger, 3);
        witnessed(&logger, -1).expect(AUDIT_OK);
    }
}

#[test]
fn a_witness_that_is_dead_slow_lying_or_malformed_costs_nothing_and_is_in_health() {
    let signed = |body: &str| Doing::Answering(200, body.as_bytes().to_vec());
    let conflict = |body: &str| Doing::Answering(409, body.as_bytes().to_vec());
    for (doing, says) in [
        (Doing::Silent, ""),
        (Doing::Dripping, ""),
        (
            Doing::SigningAnother,
            "a signature that doesn't fit its text",
        ),
        (signed(""), "without a signature by its key"),
        (signed("\n"), "isn't a signed note"),
        (signed("nonsense\n"), "isn't a signed note"),
        (
            signed("\u{2014} witness.example/w1 AAAA\n"),
            "isn't a signed note",
        ),
        (
            signed("\u{2014} other.example/w AAAAAAAAAA==\n"),
            "without a signature by its key",
        ),
        (
            signed(&"\u{2014} other.example/w AAAAAAAAAA==\n".repeat(200)),
            "more than 100 signatures",
        ),
        (signed(&"x".repeat(1 << 20)), "longer than"),
        (
            Doing::Answering(200, vec![0xff; 100]),
            "without a signature by its key",
        ),
        (conflict(""), "without the size"),
        (conflict("1"), "without the size"),
        (conflict("01\n"), "without the size"),
        (conflict("-1\n"), "without the size"),
        (conflict("99999999999999999999\n"), "without the size"),
        (conflict("1\n"), "answered 409 8 times"),
        (Doing::Answering(307, Vec::new()), "answered 307"),
        (Doing::Answering(403, Vec::new()), "another key"),
        (Doing::Answering(404, Vec::new()), "doesn't know the log"),
        (Doing::Answering(422, Vec::new()), "answered 422"),
        (Doing::Answering(429, Vec::new()), "is busy: answered 429"),
        (Doing::Answering(999, Vec::new()), "answered 999"),
    ] {
        let witness = Witness::doing(1, doing.clone());
        let bench = Bench::new(&[&witness], "quorum w1", required());
        let logger = bench.logger();
        write(&logger, 3);
        let began = Stopwatch::start();
        logger.flush().expect(AUDIT_OK);
        // Without a limit it's asked once, and one that says nothing isn't waited for that long.
        let mut limit = if says.is_empty() { 700 } else { -1 };
        let mut answer = witnessed(&logger, limit);
        while first(&logger)["failures"] == 0 {
            // The disk took all that time.
            limit *= 2;
            answer = witnessed(&logger, limit);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{doing:?}");
        let message = answer.message().to_owned();
        answer.expect(AUDIT_E_WITNESS);
        assert!(
            message.contains("witness.example/w1"),
            "{doing:?}: {message}"
        );
        assert!(message.contains(says), "{doing:?}: {message}");
        let health = first(&logger);
        assert!(health["failures"].as_u64() > Some(0), "{doing:?}: {health}");
        assert!(
            health["error"].as_str().unwrap().contains(says),
            "{doing:?}: {health}"
        );
        assert_eq!(health["disputes"], false, "{doing:?}");
        // The log is whole and sealed, and only whoever asks for the quorum misses it.
        let (status, report) = verified(&bench.log, &json!({}));
        assert_eq!(
            (status, &report["unsealed_lines"]),
            (AUDIT_OK, &json!(0)),
            "{report:#}"
        );
        let (status, report) = bench.verified();
        assert_eq!(status, AUDIT_E_TAMPERED);
        assert_eq!(report["findings"][0]["class"], "unwitnessed");
        assert_eq!(report["finding_count"], 1, "{report:#}");
        // When it comes to its senses, all is well.
        witness.state().doing = Doing::Signing;
        (witness.state().size, witness.state().signed) = (0, Vec::new());
        witnessed(&logger, 60_000).expect(AUDIT_OK);
        bench.intact();
    }
}

#[test]
fn a_slow_witness_delays_no_sealing_no_flush_and_no_end() {
    let witness = Witness::doing(1, Doing::Silent);
    let quick = json!({"witness_interval_s": 1, "seal_interval_ms": 20});
    let bench = Bench::new(&[&witness], "quorum w1", quick);
    let since = Instant::now();
    let logger = bench.logger();
    write(&logger, 1);
    until("it's asked", || !witness.server.requests().is_empty());
    // It's waited for, for ten seconds; all this happens meanwhile.
    for _ in 0..20 {
        write(&logger, 10);
        until("sealed", || {
            verified(&bench.log, &json!({})).1["unsealed_lines"] == 0
        });
    }
    logger.flush().expect(AUDIT_OK);
    // Best effort: who asks for witnesses waits as long as he says, and no longer.
    let mut waited = 0;
    until("a disk that confirms in time", || {
        waited += 1;
        let answer = witnessed(&logger, 300 * waited);
        assert!([AUDIT_OK, AUDIT_E_TIMEOUT].contains(&answer.status));
        answer.status == AUDIT_OK
    });
    let began = Stopwatch::start();
    drop(logger);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // Who waited asked it once each time, and the logger by itself at first and after each ten seconds.
    let by_itself = 1 + since.elapsed().as_secs() / 10;
    let asked = u64::try_from(witness.server.requests().len()).unwrap();
    assert!(asked <= by_itself + waited.unsigned_abs());
}

#[test]
fn a_log_that_was_put_back_is_disputed_once_and_found_by_who_trusts_the_witness() {
    let witness = Witness::start(1);
    let bench = Bench::new(&[&witness], "quorum w1", required());
    let logger = bench.logger();
    write(&logger, 10);
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    drop(logger);
    let older = bench.scratch.join("older");
    copy(&bench.log, &older);
    let logger = bench.logger();
    write(&logger, 10);
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    drop(logger);
    fs::remove_dir_all(&bench.log).unwrap();
    fs::rename(&older, &bench.log).unwrap();

    let logger = bench.logger();
    for _ in 0..3 {
        write(&logger, 1);
        let answer = witnessed(&logger, -1);
        let message = answer.message().to_owned();
        answer.expect(AUDIT_E_WITNESS);
        assert!(message.contains("was put back"), "{message}");
        let stats = logger.stats();
        assert_eq!(stats["witnesses"]["each"][0]["disputes"], true, "{stats:#}");
        let last = stats["last_error"]["message"].as_str().unwrap();
        assert!(last.contains("the directory was put back"), "{last}");
    }
    let (status, report) = verified(&bench.log, &json!({}));
    assert_eq!(
        (status, &report["disputes"]),
        (AUDIT_OK, &json!(1)),
        "{report:#}"
    );
    let (status, report) = bench.verified();
    assert_eq!(status, AUDIT_E_TAMPERED);
    assert_eq!(report["findings"][0]["class"], "rolled_back", "{report:#}");
    // Of a witness that somebody else trusts, it's only told.
    let other = Witness::start(2);
    let policy = bench.scratch.join("other");
    fs::write(&policy, format!("{}quorum none\n", other.line("w"))).unwrap();
    let (status, report) = verified(&bench.log, &json!({"policy_file": policy}));
    assert_eq!(
        (status, &report["disputes"]),
        (AUDIT_OK, &json!(1)),
        "{report:#}"
    );
}

#[test]
fn what_a_process_finds_signed_counts_once_the_witnesses_have_signed_for_it_too() {
    let witness = Witness::start(1);
    let bench = Bench::new(&[&witness], "quorum w1", required());
    let logger = bench.logger();
    write(&logger, 3);
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    let _ = logger.close(-1).expect(AUDIT_OK);
    // It may be an older copy that was put back, with what was noted then.
    let logger = bench.logger();
    witness.state().doing = Doing::Answering(500, Vec::new());
    for _ in 0..3 {
        witnessed(&logger, -1).expect(AUDIT_E_WITNESS);
    }
    witness.state().doing = Doing::Signing;
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    let asked = witness.server.requests().len();
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    assert_eq!(witness.server.requests().len(), asked, "nothing is new");
    let _ = logger.close(-1).expect(AUDIT_OK);
}

#[test]
fn an_old_signature_counts_and_one_from_the_future_is_shown_as_that() {
    let witness = Witness::start(1);
    let bench = Bench::new(&[&witness], "quorum w1", required());
    let logger = bench.logger();
    for (clock, as_of, in_future) in [
        (1_700_000_000, "2023-11-14T22:13:20.000000Z", false),
        // A day earlier: clocks are set back.
        (1_699_913_600, "2023-11-13T22:13:20.000000Z", false),
        (32_503_680_000, "3000-01-01T00:00:00.000000Z", true),
    ] {
        witness.state().clock = Some(clock);
        write(&logger, 1);
        witnessed(&logger, 60_000).expect(AUDIT_OK);
        let report = bench.intact();
        assert_eq!(report["witnessed"]["as_of"], as_of);
        assert_eq!(report["witnessed"]["in_future"], in_future);
    }
}

#[test]
fn every_changed_signature_of_a_witness_is_found() {
    let witness = Witness::start(1);
    let bench = Bench::new(&[&witness], "quorum w1", required());
    let logger = bench.logger();
    write(&logger, 3);
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    drop(logger);
    bench.intact();
    // Without the lines there's no quorum.
    let cosigned = bench.file("checkpoint");
    let line = cosigned.rfind('\u{2014}').expect("it's there");
    let without = |text: &str| -> String {
        let lines = text.split_inclusive('\n');
        lines
            .filter(|line| !line.contains("witness.example"))
            .collect()
    };
    let own = without(&cosigned);
    let heads = without(&bench.file("heads"));
    fs::write(bench.log.join(".integrity/checkpoint"), &own).unwrap();
    let put = |note: &str| {
        fs::write(bench.log.join(".integrity/heads"), format!("{heads}{note}")).unwrap();
    };
    put("");
    assert_eq!(bench.verified().1["findings"][0]["class"], "unwitnessed");
    put(&cosigned);
    bench.intact();
    let text = cosigned;
    let base64 = line + "\u{2014} witness.example/w1 ".len();
    for at in (base64 + 8..text.trim_end().len() - 2).step_by(7) {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        put(std::str::from_utf8(&changed).unwrap());
        let (status, report) = bench.verified();
        assert_eq!(status, AUDIT_E_TAMPERED, "{at}");
        let classes: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
        let classes: Vec<_> = classes.iter().map(|found| &found["class"]).collect();
        assert_eq!(classes, ["forged", "unwitnessed"], "{at}: {report:#}");
    }
}

#[test]
fn a_policy_that_can_t_be_used_or_is_for_other_logs_is_refused() {
    let witness = Witness::start(1);
    let bench = Bench::new(&[&witness], "quorum w1", required());
    let refused = |policy: &str, part: &str| {
        fs::write(&bench.policy, policy).unwrap();
        let config = json!({"output_path": bench.log, "integrity": bench.integrity});
        let refused = Logger::try_new(&config.to_string())
            .err()
            .expect("it's refused");
        assert_eq!(refused.status, AUDIT_E_CONFIG);
        assert!(refused.message().contains(part), "{}", refused.message());
    };
    let line = witness.line("w1");
    let without = format!("witness w1 {}\nquorum w1\n", witness.vkey());
    refused(&without, "names no witness with a URL");
    let ftp = format!(
        "witness w1 {} ftp://w.example/\nquorum w1\n",
        witness.vkey()
    );
    refused(&ftp, "a scheme other than https and http");
    refused(&format!("{line}quorum w2\n"), "line 2 names \"w2\"");
    refused("", "line feed");
    let other = "log example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n";
    refused(
        &format!("{other}{line}quorum w1\n"),
        "is for other logs; its line for this one is",
    );
    // Named with the log's own key, it's that key which verify goes by.
    let vkey = bench.file("vkey");
    fs::write(&bench.policy, format!("log {vkey}{line}quorum w1\n")).unwrap();
    let logger = bench.logger();
    write(&logger, 1);
    witnessed(&logger, 60_000).expect(AUDIT_OK);
    drop(logger);
    bench.intact();
    fs::write(&bench.policy, format!("{other}{line}quorum w1\n")).unwrap();
    assert_eq!(bench.verified().0, AUDIT_E_TAMPERED);
    fs::write(&bench.policy, format!("{other}log {vkey}{line}quorum w1\n")).unwrap();
    bench.intact();
}

#[test]
fn witnesses_are_asked_for_only_where_there_are_some() {
    let scratch = Scratch::new();
    let logger = Logger::new(&json!({"output_path": scratch.join("log")}));
    write(&logger, 1);
    let answer = witnessed(&logger, 1000);
    assert!(
        answer.message().contains("witness_policy"),
        "{}",
        answer.message()
    );
    answer.expect(AUDIT_E_ARGUMENT);
    logger.flush_with(-1, "{}").expect(AUDIT_OK);
    logger
        .flush_with(-1, r#"{"witnessed":false}"#)
        .expect(AUDIT_OK);
    for wrong in ["", "[]", r#"{"witnessed":1}"#, r#"{"witness":true}"#] {
        logger.flush_with(-1, wrong).expect(AUDIT_E_ARGUMENT);
    }
    assert_eq!(logger.stats().get("witnesses"), None);
}
