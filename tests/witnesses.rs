//! Logs are shown to witnesses of two other implementations: litewitness of filippo.io/torchwood, and
//! omniwitness of transparency-dev. They sign what grows, and nothing else.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, record, verified};
use support::pace::until;
use support::tls::free_port;
use support::{Scratch, available, day_files, python_with, root, run, skip, target, tool};

const TORCHWOOD: &str = "filippo.io/torchwood/cmd/litewitness";
const OMNIWITNESS: &str = "github.com/transparency-dev/witness/cmd/omniwitness";

/// torchwood asks for a newer Go than the others.
const TOOLCHAIN: &str = "go1.27.3";

/// A program of tests/third_party/witnesses, built without a network: its sources were fetched before.
fn built(package: &str) -> Option<PathBuf> {
    if !["go", "ssh-agent", "ssh-keygen"]
        .iter()
        .all(|program| available(program))
    {
        return None;
    }
    let directory = root().join("tests/third_party/witnesses");
    let to = target()
        .join("witnesses")
        .join(Path::new(package).file_name()?);
    let mut go = Command::new("go");
    go.current_dir(&directory)
        .args(["build", "-o"])
        .arg(&to)
        .arg(package)
        .env("GOPROXY", "off")
        .env("GOFLAGS", "-mod=readonly")
        .env("GOTOOLCHAIN", TOOLCHAIN);
    let output = go.output().expect("go starts");
    if !output.status.success() {
        skip(&format!(
            "tests/third_party/witnesses can't be built; \"GOTOOLCHAIN={TOOLCHAIN} go mod download\" there \
             fetches what it needs: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
        return None;
    }
    Some(to)
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A witness: its public key, where it is, and what keeps it there.
struct Witness {
    vkey: String,
    port: u16,
    _running: Vec<Running>,
}

fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// litewitness, which knows the log of a public key.
fn litewitness(scratch: &Scratch, vkey: &str) -> Option<Witness> {
    let program = built(TORCHWOOD)?;
    let python = python_with("sqlite3")?;
    let (key, socket) = (scratch.join("ssh.key"), scratch.join("ssh.sock"));
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key));
    let agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn();
    let agent = Running(agent.expect("ssh-agent starts"));
    until("no agent", || socket.exists());
    run(Command::new("ssh-add")
        .arg("-q")
        .arg(&key)
        .env("SSH_AUTH_SOCK", &socket));
    let listed = run(Command::new("ssh-keygen").arg("-lf").arg(&key));
    let fingerprint = listed.split(' ').nth(1).expect("a fingerprint");
    let (port, db) = (free_port(), scratch.join("lite.db"));
    let mut running = Command::new(program)
        .args([
            "-name",
            "witness.example/lite",
            "-key",
            fingerprint,
            "-ssh-agent",
        ])
        .arg(&socket)
        .arg("-db")
        .arg(&db)
        .args(["-listen", &format!("127.0.0.1:{port}")])
        .stderr(Stdio::piped())
        .spawn()
        .expect("litewitness starts");
    let mut lines = BufReader::new(running.stderr.take().expect("a pipe")).lines();
    let key = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, key) = line.split_once("vkey=")?;
        Some(key.trim_matches('"').to_owned())
    });
    // It would be held up by a full pipe.
    std::thread::spawn(move || lines.count());
    let running = Running(running);
    until("it doesn't listen", || listens(port));
    let add = "import sys, sqlite3, base64, hashlib\n\
               db = sqlite3.connect(sys.argv[1]); key = sys.argv[2]; origin = key.split('+')[0]\n\
               empty = base64.b64encode(hashlib.sha256(b'').digest()).decode()\n\
               db.execute('INSERT INTO log VALUES (?, 0, ?)', (origin, empty))\n\
               db.execute('INSERT INTO key VALUES (?, ?)', (origin, key)); db.commit()\n";
    run(Command::new(python).args(["-c", add]).arg(&db).arg(vkey));
    Some(Witness {
        vkey: key.expect("it says its key"),
        port,
        _running: Vec::from([running, agent]),
    })
}

/// The public key by which a witness signs whose private key is of the log's type: the type is another.
fn cosigning(vkey: &str) -> String {
    let mut parts = vkey.trim().splitn(3, '+');
    let (name, key) = (parts.next().expect("a name"), parts.nth(1).expect("a key"));
    let mut key = BASE64.decode(key).expect("base64");
    key[0] = 4;
    let id = Sha256::digest([name.as_bytes(), b"\n", &key].concat());
    let id: String = id[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}+{id}+{}", BASE64.encode(key))
}

/// omniwitness, which knows the log of a public key.
fn omniwitness(scratch: &Scratch, vkey: &str) -> Option<Witness> {
    let program = built(OMNIWITNESS)?;
    let (key, logs) = (scratch.join("omni.key"), scratch.join("logs.yaml"));
    let own = keygen(&key, "witness.example/omni");
    let origin = vkey.split('+').next().expect("a name");
    let yaml = format!("Logs:\n  - Origin: \"{origin}\"\n    PublicKey: \"{vkey}\"\n");
    fs::write(&logs, yaml).expect("there's room");
    let port = free_port();
    let running = Command::new(program)
        .arg("-private_key_path")
        .arg(&key)
        .arg("-additional_logs")
        .arg(&logs)
        .arg("-db_file")
        .arg(scratch.join("omni.db"))
        .args(["-listen", &format!("127.0.0.1:{port}")])
        .args(["-metrics_listen", &format!("127.0.0.1:{}", free_port())])
        .stderr(Stdio::null())
        .spawn();
    let running = Running(running.expect("omniwitness starts"));
    until("it doesn't listen", || listens(port));
    Some(Witness {
        vkey: cosigning(&own),
        port,
        _running: Vec::from([running]),
    })
}

/// Makes a private key, and returns the public one.
fn keygen(path: &Path, name: &str) -> String {
    let mut command = tool();
    command.args(["keygen", "--origin", name, "-o"]).arg(path);
    run(&mut command).trim().to_owned()
}

/// A log with one witness.
struct Bench {
    scratch: Scratch,
    witness: Witness,
    policy: PathBuf,
    key: PathBuf,
}

impl Bench {
    fn new(start: impl Fn(&Scratch, &str) -> Option<Witness>) -> Option<Bench> {
        let scratch = Scratch::new();
        let key = scratch.join("log.key");
        let vkey = keygen(&key, "audit.example/llm");
        let witness = start(&scratch, &vkey)?;
        let policy = scratch.join("policy");
        let text = format!(
            "log {vkey}\nwitness w {} http://127.0.0.1:{}\nquorum w\n",
            witness.vkey, witness.port
        );
        fs::write(&policy, text).expect("there's room");
        Some(Bench {
            scratch,
            witness,
            policy,
            key,
        })
    }

    fn logger(&self, log: &Path) -> Logger {
        Logger::new(&json!({"output_path": log, "integrity": {
            "key_file": self.key, "witness_policy": self.policy, "witness_mode": "required",
            "witness_interval_s": 86_400, "seal_interval_ms": 3_600_000,
        }}))
    }

    /// Writes so many lines, and asks the witness.
    fn grow(&self, log: &Path, lines: usize) -> Answer {
        let logger = self.logger(log);
        for _ in 0..lines {
            logger.log(&record()).expect(AUDIT_OK);
        }
        logger.flush_with(-1, r#"{"witnessed":true}"#)
    }

    fn verified(&self, log: &Path) -> (AuditStatus, Value) {
        verified(log, &json!({"policy_file": self.policy}))
    }
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// The size that a log was witnessed at.
fn size(report: &Value) -> u64 {
    report["witnessed"]["size"].as_u64().unwrap_or_default()
}

/// A log grows under the eyes of a witness, and 100 rollbacks, 100 forks and 100 truncations of it, by
/// somebody who has its key, are refused.
fn signs_what_grows_and_nothing_else(bench: &Bench) {
    assert!(bench.witness.port > 0);
    let log = bench.scratch.join("log");
    let mut kept = Vec::new();
    for (step, lines) in [1, 2, 60, 1, 70, 0, 40].into_iter().enumerate() {
        bench.grow(&log, lines).expect(AUDIT_OK);
        let (status, report) = bench.verified(&log);
        assert_eq!(status, AUDIT_OK, "{report:#}");
        assert_eq!(size(&report), report["size"].as_u64().expect("a size"));
        let copied = bench.scratch.join(&format!("kept{step}"));
        copy(&log, &copied);
        kept.push(copied);
    }
    let newest = size(&bench.verified(&log).1);
    kept.pop();
    let attacked = bench.scratch.join("attacked");
    let is_refused = |what: &str, lines: usize| {
        let answer = bench.grow(&attacked, lines);
        let message = answer.message().to_owned();
        assert_eq!(answer.status, AUDIT_E_WITNESS, "{what} {lines}: {message}");
        assert!(
            message.contains("it was put back"),
            "{what} {lines}: {message}"
        );
        let (status, report) = bench.verified(&attacked);
        assert_eq!(status, AUDIT_E_TAMPERED, "{what} {lines}: {report:#}");
        assert!(size(&report) < newest, "{what} {lines}: {report:#}");
        fs::remove_dir_all(&attacked).expect("it's ours");
    };
    for number in 0..100 {
        // An older copy, as it was or with a few lines more.
        copy(&kept[number % kept.len()], &attacked);
        is_refused("rollback", number % 3);
        // An older copy, with so many other lines that it is longer.
        copy(&kept[number % kept.len()], &attacked);
        is_refused("fork", newest as usize + number);
        // Lines are cut off, and what is left is sealed and signed anew.
        let lines = fs::read_to_string(&day_files(&log)[0]).expect("it's there");
        let left: String = lines.split_inclusive('\n').take(7 * number % 173).collect();
        fs::create_dir(&attacked).expect("there's room");
        let day = day_files(&log)[0].file_name().expect("a name").to_owned();
        fs::write(attacked.join(day), left).expect("there's room");
        is_refused("truncation", 1);
    }
    // And the log itself goes on.
    bench.grow(&log, 10).expect(AUDIT_OK);
    let (status, report) = bench.verified(&log);
    assert_eq!(
        (status, size(&report) > newest),
        (AUDIT_OK, true),
        "{report:#}"
    );
}

#[test]
fn litewitness_signs_what_grows_and_refuses_rollbacks_forks_and_truncations() {
    if let Some(bench) = Bench::new(litewitness) {
        signs_what_grows_and_nothing_else(&bench);
    }
}

#[test]
fn omniwitness_signs_what_grows_and_refuses_rollbacks_forks_and_truncations() {
    if let Some(bench) = Bench::new(omniwitness) {
        signs_what_grows_and_nothing_else(&bench);
    }
}
