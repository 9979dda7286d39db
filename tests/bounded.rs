//! Whatever lies in a log's directory, the commands that read it and the loggers that write to it take at
//! most 64 MiB, and answer.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use audit_logger::ffi::AUDIT_OK;
use support::calls::{Logger, record, verified};
use support::pace::Stopwatch;
use support::{Scratch, compile, entry_line, last_file, release, root, sealed, tool};

/// What a command may take beyond what it is when it starts.
const ROOM_KIB: u64 = 64 << 10;

/// How long none of them takes: they read what's there once or twice.
const PATIENCE: Duration = Duration::from_secs(240);

/// The address space of the tool when it has started, in KiB.
fn baseline() -> u64 {
    let scratch = Scratch::new();
    let line = entry_line(1, "2026-01-01T00:00:00.000000Z", &serde_json::Value::Null);
    fs::write(scratch.join("audit_2026-01-01.jsonl"), line).expect("there's room");
    let mut idle = tool();
    let mut child = idle
        .args(["tail", "-f"])
        .arg(scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    // It has started when it shows what there is.
    let mut shown = BufReader::new(child.stdout.take().expect("it is piped"));
    shown.read_line(&mut String::new()).expect("it's UTF-8");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let peak = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = peak.and_then(|kib| kib.parse().ok()).expect("a number");
    child.kill().expect("it can be ended");
    child.wait().expect("it ends");
    kib
}

/// Runs every command on a log, under a limit of its address space. Each must end with an exit code that it
/// knows; what they were is returned.
fn every_command(limit: u64, log: &Path, id: &str, more: &[&str]) -> Vec<(i32, String)> {
    let log = log.to_str().expect("UTF-8");
    let out = format!("{log}.proof-{}", fastrand());
    let commands: [Vec<&str>; 5] = [
        [&["verify", log, "--json"], more].concat(),
        vec!["prove", log, id, "-o", &out],
        vec![
            "prove",
            log,
            "00000000-0000-4000-8000-000000000000",
            "-o",
            &out,
        ],
        vec!["stats", log, "--json", "--by", "user"],
        vec!["tail", log, "-n", "100"],
    ];
    let mut ended = Vec::new();
    for arguments in commands {
        let began = Instant::now();
        let (code, said) = limited(limit, &arguments);
        assert!(
            matches!(code, Some(0 | 1 | 3)),
            "{arguments:?}: {code:?} {said}"
        );
        assert!(began.elapsed() < PATIENCE, "{arguments:?}");
        ended.push((code.unwrap_or(-1), said));
    }
    ended
}

/// Runs the tool under a limit of its address space; its exit code, if it wasn't killed, and what it said.
fn limited(limit: u64, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {limit}; exec \"$@\""))
        .arg("sh")
        .arg(tool().get_program())
        .args(arguments)
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

/// A number that no other call gets.
fn fastrand() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn sparse(path: &Path, length: u64) {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(path);
    file.and_then(|file| file.set_len(length))
        .expect("it is made");
}

fn repeated(path: &Path, piece: &[u8], length: usize) {
    let mut file = File::create(path).expect("it is made");
    let piece = piece.repeat((1 << 20) / piece.len());
    for _ in 0..length / piece.len() {
        file.write_all(&piece).expect("it is written");
    }
}

#[test]
fn a_gz_without_end_and_lines_of_any_length_take_no_memory() {
    let limit = baseline() + ROOM_KIB;
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 50);
    let zeros = log.join("audit_2026-01-02.jsonl.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(File::create(&zeros).unwrap(), flate2::Compression::best());
    for _ in 0..128 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap();
    sparse(&log.join("audit_2026-01-03.jsonl"), 256 << 20);
    repeated(&log.join("audit_2026-01-04.jsonl"), b"[", 64 << 20);
    repeated(&log.join("audit_2026-01-05.jsonl"), b"\n", 3 << 20);
    repeated(
        &log.join("audit_2026-01-06.jsonl"),
        b"{\"id\":\"a\"}\n",
        6 << 20,
    );
    let long = format!(
        "{{\"id\":\"b\",\"prompt_tokens\":[{}1]}}\n",
        "[],".repeat(600_000)
    );
    fs::write(log.join("audit_2026-01-07.jsonl"), long).unwrap();
    let ended = every_command(limit, &log, &ids[10], &[]);
    let codes: Vec<i32> = ended.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [0, 0, 3, 0, 0], "{ended:?}");
    assert!(ended[0].1.contains(r#""lines":50,"#), "{}", ended[0].1);

    // And with what is sealed behind such a line.
    sparse(&last_file(&log), 256 << 20);
    let ended = every_command(limit, &log, &ids[10], &[]);
    let codes: Vec<i32> = ended.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [0, 0, 3, 0, 0], "{ended:?}");
}

/// Puts a time stamp beside the others that is none: the log's own checkpoint, with more lines, and some bytes.
fn stamped(log: &Path, size: &str, note: &str, token: u32) {
    use base64::Engine as _;
    use sha2::Digest as _;
    let token = token.to_be_bytes();
    let hash = sha2::Sha256::digest(token);
    let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let token = base64::engine::general_purpose::STANDARD.encode(token);
    let text = format!("{note}\n-----BEGIN CMS-----\n{token}\n-----END CMS-----\n");
    let folder = log.join(".integrity/timestamps");
    fs::write(folder.join(format!("{size}-{hash}")), text).expect("it is written");
}

#[test]
fn time_stamps_of_any_number_and_length_take_no_memory() {
    let limit = baseline() + ROOM_KIB;
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 50);
    let log_s = log.to_str().expect("UTF-8");
    let note = fs::read_to_string(log.join(".integrity/checkpoint")).expect("it's there");
    let size = note.lines().nth(1).expect("it has one").to_owned();
    fs::create_dir(log.join(".integrity/timestamps")).expect("it is made");
    let long = note.clone() + &"\u{2014} another AAAAAAAAAAAA\n".repeat(5000);
    for (count, note) in [(600, &long), (40_000, &note)] {
        for token in 0..count {
            stamped(&log, &size, note, token);
        }
        let (code, said) = limited(limit, &["verify", log_s]);
        assert_eq!(code, Some(1), "{said:.2000}");
        let out = format!("{log_s}-{count}.zip");
        let bundle = [
            "bundle",
            log_s,
            "--from",
            "2000-01-01",
            "--to",
            "9999-12-31",
        ];
        let bundle = [&bundle[..], &["-o", &out]].concat();
        assert_eq!(limited(limit, &bundle).0, Some(0));
    }
}

#[test]
fn a_tree_of_garbage_takes_no_memory_and_is_read_at_its_end_alone() {
    let limit = baseline() + ROOM_KIB;
    let garbage = [&b"\n"[..], b"\0", "a\nb\nc\n\n\u{2014} d\n".as_bytes()];
    for (number, name) in [
        "heads",
        "heads",
        "heads",
        "checkpoint",
        "recent",
        "tile/0/000",
        "tile/entries/000",
        "guard",
        "kept",
    ]
    .into_iter()
    .enumerate()
    {
        {
            let scratch = Scratch::new();
            let (log, ids) = sealed(&scratch, 50);
            let path = match name {
                "guard" | "kept" => scratch.join(name),
                name => log.join(".integrity").join(name),
            };
            repeated(&path, garbage[number % 3], 20 << 20);
            sparse(&path, 4 << 30);
            let more = match name {
                "guard" => vec!["--guard", path.to_str().unwrap()],
                "kept" => vec!["--checkpoint", path.to_str().unwrap()],
                _ => Vec::new(),
            };
            // A guard or a kept checkpoint that is none is a wrong argument.
            if more.is_empty() {
                every_command(limit, &log, &ids[10], &more);
            } else {
                let verify = [&["verify", log.to_str().unwrap()], &more[..]].concat();
                let (code, said) = limited(limit, &verify);
                assert!(matches!(code, Some(0..=3)), "{name}: {code:?} {said}");
            }
        }
    }
}

#[test]
fn ids_users_and_files_without_number_take_no_memory() {
    let limit = baseline() + ROOM_KIB;
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 50);
    let entry = |id: u32, user: u32, more: &str| {
        format!(
            r#"{{"id":"{id}","timestamp":"2026-01-02T00:00:00.000000Z","event_type":"e","user_id":"user-{user}","model":"m","prompt_tokens":1,"completion_tokens":1,"latency_ms":1.5,"status":"error","error_type":"{more}"}}"#
        ) + "\n"
    };
    let lines: String = (0..100_000)
        .map(|number| entry(number, number, &format!("class-{number}")))
        .chain((0..100_000).map(|number| entry(number, number, "again")))
        .collect();
    fs::write(log.join("audit_2026-01-02.jsonl"), lines).unwrap();
    for number in 1..34_000 {
        File::create(log.join(format!("audit_2026-01-03.{number}.jsonl"))).unwrap();
    }
    let ended = every_command(limit, &log, &ids[10], &[]);
    let codes: Vec<i32> = ended.iter().map(|(code, _)| *code).collect();
    // So many files are a finding.
    assert_eq!(codes, [1, 0, 3, 0, 0], "{}", ended[0].1);
    let stats: serde_json::Value = ended[3]
        .1
        .lines()
        .next()
        .map_or(serde_json::Value::Null, |line| {
            serde_json::from_str(line).expect("it is JSON")
        });
    assert_eq!(stats["total"]["calls"], 100_050);
    assert_eq!(stats["conflicts"], 100_000);
}

/// How long no step of a logger takes, whatever lies there.
const SOON: Duration = Duration::from_secs(10);

/// Garbage of several kinds in a file, behind what it holds, and gigabytes of nothing.
fn spoil(path: &Path, number: usize) {
    let garbage = [
        &b"\n"[..],
        b"\xff\xfe\n",
        "a\nb\nc\n\n\u{2014} d\n".as_bytes(),
        b"[",
    ];
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .append(true)
        .open(path)
        .expect("it is made");
    let piece = garbage[number % garbage.len()];
    let piece = piece.repeat((1 << 20) / piece.len());
    for _ in 0..20 {
        file.write_all(&piece).expect("it is written");
    }
    sparse(path, 4 << 30);
    // So that nobody else waits for the disk to have all of that.
    file.sync_all().expect("there's room");
}

/// A slot of a journal, and what it says that it is.
fn journal(size: u32) -> Vec<u8> {
    let mut bytes = b"audit_logger journal 1\n".to_vec();
    bytes.resize(4096, 0);
    bytes.extend_from_slice(b"slot");
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&[0; 24]);
    // The kind and the length of what the call is to leave.
    bytes.extend_from_slice(&2_u32.to_le_bytes());
    bytes.extend_from_slice(&(size / 2 - 64).to_le_bytes());
    bytes
}

#[test]
fn a_logger_opens_makes_whole_and_seals_whatever_lies_there_in_little_memory() {
    let scratch = Scratch::new();
    let program = scratch.join("garbage");
    compile(&root().join("tests/c/garbage.c"), release(), &program, &[]);
    let names = [
        "",
        "day",
        ".state/journal-sparse",
        ".state/journal-slot",
        ".state/torn",
        ".state/refused",
        ".state/health.json",
        ".state/boot",
        ".state/removing",
        ".state/expired",
        ".integrity/heads",
        ".integrity/recent",
        ".integrity/state",
        ".integrity/checkpoint",
        "../guard",
    ];
    for (number, name) in names.into_iter().enumerate() {
        for kind in 0..if name.is_empty() { 1 } else { 2 } {
            let scratch = Scratch::new();
            let (log, _) = sealed(&scratch, 50);
            let path = log.join(name);
            match name {
                "" => {}
                "day" if kind == 0 => sparse(&last_file(&log), 256 << 20),
                // Torn lines, each as long as one that is looked at can be.
                "day" => {
                    let torn = format!("{{\"id\":\"0f{}\n", "x".repeat((2 << 20) - 64));
                    let day = log.join("audit_2026-01-02.jsonl");
                    fs::write(day, torn.repeat(100)).expect("it is made");
                }
                ".state/journal-slot" => {
                    fs::write(&path, journal(u32::MAX >> kind)).expect("it is made");
                    sparse(&path, 8 << 30);
                }
                _ => spoil(&path, number + kind),
            }
            let output = Command::new(&program)
                .arg(&log)
                .arg(scratch.join("guard"))
                .arg(SOON.as_secs().to_string())
                .env_remove("LD_LIBRARY_PATH")
                .output()
                .expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            // A guard that holds no more than garbage isn't the log's.
            let expected = if name == "../guard" { 3 } else { 0 };
            assert_eq!(
                output.status.code(),
                Some(expected),
                "{name} {kind}: {said}"
            );
            // No journal of the dead stays.
            assert!(!name.contains("journal") || !path.exists(), "{name}");
        }
    }
}

#[test]
fn what_swells_under_a_living_logger_delays_no_flush() {
    for (number, name) in [
        ".integrity/heads",
        ".integrity/recent",
        ".integrity/state",
        ".state/torn",
        ".state/refused",
        ".state/health.json",
    ]
    .into_iter()
    .enumerate()
    {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let logger = Logger::new(&serde_json::json!({"output_path": log}));
        logger.log(&record()).expect(AUDIT_OK);
        logger.flush().expect(AUDIT_OK);
        spoil(&log.join(name), number);
        for _ in 0..3 {
            let began = Stopwatch::start();
            logger.log(&record()).expect(AUDIT_OK);
            logger.flush().expect(AUDIT_OK);
            logger.stats();
            assert!(began.elapsed() < Duration::from_secs(5), "{name}");
        }
        let (_, report) = verified(&log, &serde_json::json!({}));
        assert_eq!(report["unsealed_lines"], 0, "{name}: {report}");
    }
}
