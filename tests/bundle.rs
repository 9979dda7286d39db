//! Bundles: what the tool makes, and the verifier in them, run by a stock Python. Skipped without one.
//!
//! `AUDIT_TEST_SOAK=1 cargo test --test bundle` makes and verifies one of a million entries.

mod support;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use support::calls::{Logger, record};
use support::tsa::Tsa;
use support::witness::Witness;
use support::{Clock, Scratch, python, root, run, skip, tool};

use audit_logger::ffi::*;

const DAYS: [&str; 3] = ["2024-03-03", "2024-03-04", "2024-03-05"];
const USERS: [&str; 3] = ["user-1", "user-2", "<b>user</b>"];

/// A Python, if there is one: the standard library is enough.
fn stock_python() -> Option<OsString> {
    let found = Command::new(python()).arg("--version").output().is_ok();
    if !found {
        skip("no Python is installed");
    }
    found.then(python)
}

fn line(day: &str, number: usize) -> String {
    let user = USERS[number % USERS.len()];
    let hash = |of: &str| -> String {
        let digest = Sha256::digest(format!("{of} {number}"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let entry = json!({
        "id": uuid::Uuid::from_u128(number as u128).to_string(),
        "timestamp": format!("{day}T10:00:00.000000Z"),
        "user_id": user,
        "event_type": "chat_completion",
        "model": "openai/gpt-4-turbo",
        "prompt_hash": hash("prompt"),
        "response_hash": hash("response"),
        "metadata": {"who": format!("it is {user}'s")},
        "details": {"request_hash": hash("request"), "response_body_hash": hash("body")},
    });
    format!("{entry}\n")
}

/// A log of three days, with so many lines in the middle one and at most 1,000 in the others, and today's.
struct Bench {
    scratch: Scratch,
    log: PathBuf,
}

impl Bench {
    fn of(lines: usize, integrity: serde_json::Value) -> Bench {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        fs::create_dir(&log).expect("there's room");
        for (at, day) in DAYS.iter().enumerate() {
            let mut text = String::new();
            let lines = if at == 1 { lines } else { lines.min(1000) };
            for number in 0..lines {
                text.push_str(&line(day, at << 32 | number));
            }
            let _ = write!(text, "   \n{{\"another\":\"program's\"}}\n");
            fs::write(log.join(format!("audit_{day}.jsonl")), text).expect("there's room");
        }
        let logger = Logger::new(&json!({"output_path": log, "integrity": integrity}));
        logger.log(&record()).expect(AUDIT_OK);
        let _ = logger.close(-1).expect(AUDIT_OK);
        // Whatever isn't sealed yet, which of a large one takes several runs.
        let mut runs = 0..20;
        let maintained = |_| {
            tool()
                .arg("maintain")
                .arg(&log)
                .output()
                .expect("it starts")
        };
        let sealed = |run| maintained(run).status.success();
        assert!(runs.any(sealed), "the log can't be sealed");
        Bench { scratch, log }
    }

    fn new(lines: usize) -> Bench {
        Bench::of(lines, json!({"origin": "audit.example/test"}))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn tool(&self, to: &str, arguments: &[&str]) -> Output {
        let mut tool = tool();
        tool.arg("bundle").arg(&self.log).args(arguments);
        tool.arg("-o").arg(self.at(to)).output().expect("it starts")
    }

    #[track_caller]
    fn bundle(&self, to: &str, arguments: &[&str]) -> PathBuf {
        let output = self.tool(to, arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        self.at(to)
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, says: &str) {
        let output = self.tool("refused.zip", arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
        let names = fs::read_dir(self.scratch.path()).expect("it's there");
        let names = names.map(|name| name.expect("it's read").file_name());
        let left = names.filter(|name| name.to_string_lossy().starts_with("refused"));
        assert_eq!(left.count(), 0);
    }

    fn sealed(&self, day: &str) -> String {
        let text = fs::read_to_string(self.log.join(format!("audit_{day}.jsonl")));
        text.expect("it's there").replace("   \n", "")
    }
}

const VERIFIER: &str = "src/bin/audit-logger/bundle/verify.py";

/// Runs the project's verifier on a bundle.
fn verify(python: &OsString, bundle: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut verify = Command::new(python);
    verify.arg(root().join(VERIFIER)).arg(bundle).args(more);
    let output = verify.output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn unpacked(python: &OsString, bundle: &Path, to: &Path) {
    run(Command::new(python)
        .args(["-m", "zipfile", "-e"])
        .arg(bundle)
        .arg(to));
}

fn names(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).expect("it's there");
    let name = |file: std::io::Result<fs::DirEntry>| file.expect("it's read").file_name();
    let mut names: Vec<_> = files
        .map(|file| name(file).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bundle_of_days_has_all_their_lines_and_its_verifier_says_that_none_is_missing() {
    let Some(python) = stock_python() else { return };
    let bench = Bench::new(40);
    let days = ["--from", DAYS[0], "--to", DAYS[1]];
    let bundle = bench.bundle("a.zip", &days);
    assert_eq!(
        fs::read(&bundle).expect("it's there"),
        fs::read(bench.bundle("b.zip", &days)).expect("it's there"),
        "the same slice gives the same bytes"
    );
    let vkey = bench.log.join(".integrity/vkey");
    let vkey = vkey.to_str().expect("it's UTF-8");
    let (code, said) = verify(&python, &bundle, &["--vkey", vkey]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("82 lines") && said.contains("all that the log had sealed, in 2 files"));

    // Unpacked, with its own verifier.
    let to = bench.at("unpacked");
    unpacked(&python, &bundle, &to);
    let lines = fs::read_to_string(to.join("entries.jsonl")).expect("it's there");
    assert_eq!(
        lines,
        [bench.sealed(DAYS[0]), bench.sealed(DAYS[1])].concat()
    );
    let said = run(Command::new(&python).arg("-B").arg(to.join("verify.py")));
    assert!(
        said.contains("the public key is the bundle's own"),
        "{said}"
    );
    let listed = [
        "checkpoint",
        "entries.jsonl",
        "index.html",
        "manifest.json",
        "manifest.sha256",
    ];
    assert_eq!(
        names(&to),
        [&listed[..], &["proof.txt", "verify.py", "vkey"]].concat()
    );

    // All days, today's among them, to the end of the tree.
    let all = bench.bundle("all.zip", &["--from", DAYS[0], "--to", "9999-12-31"]);
    let (code, said) = verify(&python, &all, &[]);
    assert!(code == Some(0) && said.contains("124 lines"), "{said}");

    // Another's key; another's log; what isn't a bundle.
    let other = Bench::new(1);
    let key = other.log.join(".integrity/vkey");
    let key = ["--vkey", key.to_str().expect("it's UTF-8")];
    let (code, said) = verify(&python, &bundle, &key);
    assert!(code == Some(1) && said.contains("another log"), "{said}");
    let (code, said) = verify(&python, &bench.log, &[]);
    assert!(
        code == Some(1) && said.contains("REFUSED: manifest.json"),
        "{said}"
    );
    assert_eq!(verify(&python, &bench.at("nothing"), &[]).0, Some(3));
}

#[test]
fn a_bundle_of_users_has_their_lines_and_nothing_of_others() {
    let Some(python) = stock_python() else { return };
    let bench = Bench::new(40);
    let days = ["--from", DAYS[1], "--to", DAYS[2]];
    let of = |user| [&days[..], &["--user", user]].concat();
    let bundle = bench.bundle("a.zip", &of(USERS[2]));
    let (code, said) = verify(&python, &bundle, &[]);
    assert!(
        code == Some(0) && said.contains("others of theirs may be missing"),
        "{said}"
    );
    let to = bench.at("unpacked");
    unpacked(&python, &bundle, &to);
    let all = [bench.sealed(DAYS[1]), bench.sealed(DAYS[2])].concat();
    let theirs = all
        .split_inclusive('\n')
        .filter(|line| line.contains(USERS[2]));
    let lines = fs::read_to_string(to.join("entries.jsonl")).expect("it's there");
    assert_eq!(lines, theirs.collect::<String>());
    for name in names(&to) {
        let text = fs::read_to_string(to.join(&name)).expect("it's there");
        assert!(!text.contains("user-"), "{name}");
        assert!(name != "proof.txt" || !text.contains("record"), "{text}");
    }
    let page = fs::read_to_string(to.join("index.html")).expect("it's there");
    assert!(page.contains("&lt;b&gt;user&lt;/b&gt;") && !page.contains("<b>"));
    assert!(page.contains("default-src 'none'") && !page.contains("<script"));

    let both = [&of(USERS[0])[..], &["--user", USERS[1]]].concat();
    let (code, said) = verify(&python, &bench.bundle("both.zip", &both), &[]);
    assert_eq!(code, Some(0), "{said}");
    bench.refused(&of("nobody"), 3, "no line");
}

#[test]
fn every_flipped_bit_and_every_other_change_is_refused() {
    let Some(python) = stock_python() else { return };
    let bench = Bench::new(9);
    let days = ["--from", DAYS[1], "--to", DAYS[1]];
    let user = [&days[..], &["--user", USERS[1]]].concat();
    for (name, arguments) in [("all.zip", &days[..]), ("user.zip", &user)] {
        run(Command::new(&python)
            .arg("-B")
            .arg(root().join("tests/bundle/changes.py"))
            .arg(root().join(VERIFIER))
            .arg(bench.bundle(name, arguments)));
    }
    // And the process says so.
    let bundle = bench.at("all.zip");
    let bytes = fs::read(&bundle).expect("it's there");
    for at in (40..bytes.len() / 2).step_by(bytes.len() / 20) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&bundle, changed).expect("there's room");
        let (code, said) = verify(&python, &bundle, &[]);
        assert!(code == Some(1) && said.starts_with("REFUSED: "), "{said}");
    }
}

#[test]
fn a_log_that_isn_t_what_was_sealed_isn_t_bundled_and_nothing_is_written_over() {
    let bench = Bench::new(20);
    let days = ["--from", DAYS[0], "--to", DAYS[2]];
    fs::write(bench.at("there.zip"), "mine").expect("there's room");
    let output = bench.tool("there.zip", &days);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(
        fs::read(bench.at("there.zip")).expect("it's there"),
        b"mine"
    );
    bench.refused(&["--from", DAYS[1], "--to", DAYS[0]], 2, "after");
    bench.refused(
        &["--from", "2020-01-01", "--to", "2020-12-31"],
        3,
        "nothing is sealed",
    );

    let file = bench.log.join(format!("audit_{}.jsonl", DAYS[1]));
    let text = fs::read_to_string(&file).expect("it's there");
    fs::write(&file, text.replacen("it is user-2", "it is user-3", 1)).expect("there's room");
    bench.refused(&days, 1, &format!("audit_{}.jsonl", DAYS[1]));
    fs::write(&file, &text[..text.len() - 1]).expect("there's room");
    bench.refused(&days, 1, &format!("audit_{}.jsonl", DAYS[1]));
    fs::remove_file(&file).expect("it's there");
    bench.refused(&days, 1, "missing");
}

#[test]
fn the_newest_checkpoint_that_witnesses_signed_and_that_covers_the_days_goes_with_them() {
    let Some(python) = stock_python() else { return };
    let witness = Witness::start(1);
    let scratch = Scratch::new();
    let policy = scratch.join("policy");
    fs::write(&policy, format!("{}quorum w1\n", witness.line("w1"))).expect("there's room");
    let integrity = json!({"origin": "audit.example/test", "witness_policy": policy});
    let bench = Bench::of(12, integrity.clone());
    let logger = Logger::new(&json!({"output_path": bench.log, "integrity": integrity}));
    logger.log(&record()).expect(AUDIT_OK);
    logger
        .flush_with(30_000, r#"{"witnessed":true}"#)
        .expect(AUDIT_OK);
    let _ = logger.close(-1).expect(AUDIT_OK);
    drop(witness);
    // Newer ones, which nobody has signed.
    let logger = Logger::new(&json!({"output_path": bench.log, "integrity": integrity}));
    logger.log(&record()).expect(AUDIT_OK);
    let _ = logger.close(-1).expect(AUDIT_OK);

    let days = ["--from", DAYS[0], "--to", DAYS[2]];
    let given = ["--policy", policy.to_str().expect("it's UTF-8")];
    let bundle = bench.bundle("a.zip", &[&days[..], &given].concat());
    let (code, said) = verify(&python, &bundle, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("witnessed by witness.example/w1") && said.contains("policy in the bundle")
    );
    // Without a policy it's the same checkpoint, and the verifier can be given the policy.
    let bundle = bench.bundle("b.zip", &days);
    let (code, said) = verify(&python, &bundle, &[]);
    assert!(
        code == Some(0) && said.contains("1 cosignatures weren't checked"),
        "{said}"
    );
    let (code, said) = verify(&python, &bundle, &given);
    assert!(code == Some(0) && said.contains("witnessed by"), "{said}");
    // A policy of somebody else's witness.
    let other = Witness::start(2);
    let stranger = scratch.join("stranger");
    fs::write(&stranger, format!("{}quorum w2\n", other.line("w2"))).expect("there's room");
    let stranger = ["--policy", stranger.to_str().expect("it's UTF-8")];
    let (code, said) = verify(&python, &bundle, &stranger);
    assert!(code == Some(1) && said.contains("quorum"), "{said}");
    bench.refused(&[&days[..], &stranger].concat(), 3, "quorum");

    // What came after it isn't covered.
    let today = ["--from", DAYS[0], "--to", "9999-12-31"];
    bench.refused(&[&today[..], &given].concat(), 3, "quorum");
    let (code, said) = verify(&python, &bench.bundle("c.zip", &today), &[]);
    assert!(code == Some(0) && !said.contains("cosignatures"), "{said}");
}

#[test]
fn time_stamps_that_cover_the_days_go_with_them_and_are_of_the_same_tree() {
    let (Some(python), Some(tsa)) = (stock_python(), Tsa::new()) else {
        return;
    };
    tsa.stamper("tsa", "rsa:2048");
    let bench = Bench::new(6);
    let (query, reply) = (bench.at("query"), bench.at("reply"));
    let timestamp = |option: &str, file: &Path| {
        run(tool()
            .arg("timestamp")
            .arg(&bench.log)
            .arg(option)
            .arg(file));
    };
    let mut sizes = Vec::new();
    for _ in 0..3 {
        timestamp("--query-out", &query);
        tsa.reply("tsa", &query, &reply);
        timestamp("--reply-in", &reply);
        fs::remove_file(&query).expect("it's there");
        sizes.push(names(&bench.log.join(".integrity/timestamps")).len());
        let logger = Logger::new(&json!({"output_path": bench.log}));
        logger.log(&record()).expect(AUDIT_OK);
        let _ = logger.close(-1).expect(AUDIT_OK);
    }
    assert_eq!(sizes, [1, 2, 3]);
    let days = ["--from", DAYS[0], "--to", DAYS[1]];
    let bundle = bench.bundle("a.zip", &days);
    let (code, said) = verify(&python, &bundle, &[]);
    assert_eq!(code, Some(0), "{said}");
    // The earliest and the latest, with the times that verify says, and how far off they may be.
    assert_eq!(said.matches("covers them").count(), 2, "{said}");
    let given = tsa.join("ca.pem");
    let verified = run(tool()
        .arg("verify")
        .arg(&bench.log)
        .arg("--tsa-cert")
        .arg(&given));
    let times = verified.lines().filter_map(|line| {
        let (_, time) = line.split_once("existed at ")?;
        time.split_once(", said by").map(|(time, _)| time)
    });
    let times: Vec<&str> = times.collect();
    assert_eq!(times.len(), 3, "{verified}");
    let to = bench.at("unpacked");
    unpacked(&python, &bundle, &to);
    let page = fs::read_to_string(to.join("index.html")).expect("it's there");
    for time in [times[0], times[2]] {
        assert!(time.ends_with("Z ± 1 s"), "{time}");
        assert!(said.contains(&format!("and says {time}")), "{time} {said}");
        assert!(page.contains(time), "{time} {page}");
    }
    // One that verify calls forged doesn't go along.
    let folder = bench.log.join(".integrity/timestamps");
    for (name, text) in names(&folder).iter().map(|name| {
        let text = fs::read_to_string(folder.join(name)).expect("it's there");
        let at = text.find("-----BEGIN CMS-----").expect("it has a token");
        let mut forged = text[..at].to_owned();
        forged.push_str("-----BEGIN CMS-----\nAAAA\n-----END CMS-----\n");
        let size = name.split('-').next().expect("it has a size");
        (format!("{size}-709e80c88487a241"), forged)
    }) {
        fs::write(folder.join(name), text).expect("there's room");
    }
    let again = bench.bundle("b.zip", &days);
    let same = fs::read(&again).expect("it's there") == fs::read(&bundle).expect("it's there");
    assert!(same, "what is forged changes nothing");
    run(Command::new(&python)
        .arg("-B")
        .arg(root().join("tests/bundle/changes.py"))
        .arg(root().join(VERIFIER))
        .arg(&bundle));
}

#[test]
fn a_bundle_of_days_that_retention_removed_and_a_hold_kept_says_what_is_left_out() {
    let Some(python) = stock_python() else { return };
    let bench = Bench::new(6);
    let later = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
    let later = later + chrono::TimeDelta::days(3);
    let later = later.format("%Y-%m-%d %H:%M:%S").to_string();
    let Some(clock) = Clock::new(&bench.scratch, &later) else {
        return;
    };
    let on_the_log = |command: &str, more: &[&str]| {
        let mut tool = tool();
        tool.arg(command).arg(&bench.log).args(more);
        tool
    };
    let held = [
        "--from",
        DAYS[1],
        "--to",
        DAYS[1],
        "--reason",
        "a <b>case</b>",
    ];
    run(&mut on_the_log("hold", &held));
    let retention = ["--retention-days", "365"];
    run(&mut on_the_log("maintain", &retention));
    run(clock.on(&mut on_the_log("maintain", &retention)));
    let gone = |day: &&str| !bench.log.join(format!("audit_{day}.jsonl")).exists();
    let gone: Vec<&str> = DAYS.into_iter().filter(gone).collect();
    assert_eq!(gone, [DAYS[0], DAYS[2]]);

    let days = ["--from", DAYS[0], "--to", DAYS[2]];
    let bundle = bench.bundle("a.zip", &days);
    let (code, said) = verify(&python, &bundle, &[]);
    assert_eq!(code, Some(0), "{said}");
    for says in [
        "7 lines, each as it was sealed",
        "all that the log had sealed, in 3 files, but for 14 lines",
        "14 lines are left out, says its maker, because retention had removed their files",
    ] {
        assert!(said.contains(says), "{said}");
    }
    let users = [&days[..], &["--user", USERS[0], "--user", USERS[1]]].concat();
    let (code, said) = verify(&python, &bench.bundle("b.zip", &users), &[]);
    assert!(
        code == Some(0)
            && said.contains("14 lines, of whichever users, are left out, says its maker"),
        "{said}"
    );
    let (code, said) = verify(
        &python,
        &bench.bundle("c.zip", &["--from", DAYS[1], "--to", DAYS[1]]),
        &[],
    );
    assert!(
        code == Some(0) && !said.contains("left out") && !said.contains("but for"),
        "{said}"
    );
    bench.refused(&["--from", DAYS[0], "--to", DAYS[0]], 3, "no line");
    run(Command::new(&python)
        .arg("-B")
        .arg(root().join("tests/bundle/changes.py"))
        .arg(root().join(VERIFIER))
        .arg(&bundle));
}

/// Runs a command, and prints the most memory that it took, in KiB.
const MEASURE: &str = "import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";

#[test]
fn a_large_bundle_takes_no_more_memory_than_a_small_one() {
    let Some(python) = stock_python() else { return };
    let largest = match std::env::var_os("AUDIT_TEST_SOAK") {
        Some(_) => 1_000_000,
        None => 30_000,
    };
    let mut peaks = Vec::new();
    for lines in [largest / 10, largest] {
        // One of three days, so that there is something on both sides.
        let bench = Bench::new(lines);
        for (name, more) in [("all.zip", &[][..]), ("user.zip", &["--user", USERS[0]])] {
            let mut measured = Command::new(&python);
            measured.args(["-c", MEASURE]).arg(tool().get_program());
            measured.arg("bundle").arg(&bench.log);
            measured
                .args(["--from", DAYS[1], "--to", DAYS[1]])
                .args(more);
            let begun = std::time::Instant::now();
            let peak = run(measured.arg("-o").arg(bench.at(name)));
            let made = begun.elapsed();
            let peak: u64 = peak.trim().parse().expect("it's a number");
            let begun = std::time::Instant::now();
            let (code, said) = verify(&python, &bench.at(name), &[]);
            assert_eq!(code, Some(0), "{said}");
            println!(
                "{lines} {name}: made in {made:?} with {peak} KiB, verified in {:?}",
                begun.elapsed()
            );
            peaks.push(peak);
        }
    }
    for (small, large) in [(0, 2), (1, 3)] {
        assert!(peaks[large] < peaks[small] + 8192, "{peaks:?}");
    }
}
