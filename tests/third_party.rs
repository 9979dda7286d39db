//! What this library writes is accepted by programs that share no code with it, and by none of them
//! once a bit is changed.

mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;

use support::pace::until;
use support::worker::{Bench, FOREVER, Running, Work};
use support::{Clock, Scratch, available, day_files, entries, python_with, root, run, skip, tool};

/// A program of tests/third_party, in Go, without a network: what it's built from was fetched before.
fn go(directory: &str, arguments: &[&str]) -> Command {
    let mut go = Command::new("go");
    go.current_dir(root().join("tests/third_party").join(directory))
        .args(arguments)
        .env("GOPROXY", "off")
        .env("GOFLAGS", "-mod=readonly");
    go
}

/// Whether everything is there that these tests use beside Rust.
fn all_available() -> bool {
    let programs = ["go", "openssl", "faketime"];
    if !programs.iter().all(|program| available(program)) {
        return false;
    }
    for (directory, arguments) in [
        ("vproof", &["build", "-o", "/dev/null", "."][..]),
        ("fsck", &["build", "-o", "/dev/null", "tool"]),
    ] {
        let built = go(directory, arguments).output().expect("go starts");
        if !built.status.success() {
            skip(&format!(
                "tests/third_party/{directory} can't be built; \"go mod download\" there fetches what \
                 it needs: {}",
                String::from_utf8_lossy(&built.stderr)
            ));
            return false;
        }
    }
    true
}

/// A log of four processes, over a midnight, one of them killed, with a day in it that was removed; and
/// the proof of one entry.
struct Sealed {
    bench: Bench,
    vproof: PathBuf,
    python: OsString,
    id: String,
}

impl Sealed {
    fn new() -> Option<Sealed> {
        if !all_available() {
            return None;
        }
        let python = python_with("json")?;
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let bench = Bench::at(scratch, log, json!({"integrity": {"seal_interval_ms": 50}}));
        let clock = Clock::new(&bench.scratch, "2026-06-30 23:59:58")?;
        fs::create_dir(&bench.log).expect("it can be made");
        let old = r#"{"id":"00000000-0000-4000-8000-000000000001","timestamp":"2026-05-01T10:00:00.000000Z"}"#;
        fs::write(bench.log.join("audit_2026-05-01.jsonl"), format!("{old}\n"))
            .expect("there's room");
        let work = Work {
            doings: "lclbw",
            longest: 400,
            ..FOREVER
        };
        let start = |number: usize| {
            let mut command = bench.command(&format!("p{number}"), work);
            Running(clock.on(&mut command).spawn().expect("it starts"))
        };
        let mut workers: Vec<Running> = (0..4).map(start).collect();
        until("both sides of midnight", || day_files(&bench.log).len() > 2);
        drop(workers.remove(0));
        workers.push(start(4));
        std::thread::sleep(Duration::from_millis(300));
        drop(workers);
        // The first run marks the day, the second removes it.
        for day in ["2026-07-10 12:00:00", "2026-07-12 12:00:00"] {
            clock.set(day);
            let mut maintain = tool();
            maintain.arg("maintain").arg(&bench.log);
            run(clock.on(maintain.args(["--retention-days", "60", "--below-floor"])));
        }
        bench.check();
        let names: Vec<_> = day_files(&bench.log)
            .iter()
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect();
        // The third one has what the killed process left, by today's clock.
        assert!(
            names.len() >= 2 && !names.contains(&"audit_2026-05-01.jsonl".to_owned()),
            "{names:?}"
        );
        let id = entries(&bench.log)[7]["id"]
            .as_str()
            .expect("a text")
            .to_owned();
        let vproof = bench.scratch.join("vproof");
        run(go("vproof", &["build", "-o"]).arg(&vproof).arg("."));
        let mut prove = tool();
        run(prove
            .arg("prove")
            .arg(&bench.log)
            .arg(&id)
            .arg("-o")
            .arg(bench.scratch.join("entry")));
        Some(Sealed {
            bench,
            vproof,
            python,
            id,
        })
    }

    fn vkey(&self) -> PathBuf {
        self.bench.log.join(".integrity/vkey")
    }

    /// A copy, in which the nth bit of a file is another.
    fn changed(&self, file: &str, bit: u64) -> (Scratch, PathBuf) {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        run(Command::new("cp").arg("-a").arg(&self.bench.log).arg(&log));
        flip(&log.join(file), bit);
        (scratch, log)
    }

    fn fsck(&self, log: &Path) -> Output {
        let mut fsck = Command::new("sh");
        fsck.arg(root().join("tests/third_party/fsck.sh"))
            .arg(self.vkey())
            .arg(log);
        fsck.env("GOPROXY", "off")
            .env("GOFLAGS", "-mod=readonly")
            .env("FSCK_SECONDS", "60");
        fsck.output().expect("sh starts")
    }

    fn linecheck(&self, log: &Path) -> Output {
        let mut check = Command::new(&self.python);
        check
            .arg(root().join("tests/third_party/linecheck.py"))
            .arg(log);
        check.output().expect("python starts")
    }

    fn checkpoint(&self, log: &Path) -> Output {
        let mut check = Command::new("sh");
        check
            .arg(root().join("tests/third_party/checkpoint.sh"))
            .arg(self.vkey());
        check
            .arg(log.join(".integrity/checkpoint"))
            .output()
            .expect("sh starts")
    }

    fn vproof(&self, proof: &Path, line: &Path) -> Output {
        let mut check = Command::new(&self.vproof);
        check
            .arg(self.vkey())
            .arg(proof)
            .arg(line)
            .output()
            .expect("it starts")
    }

    fn verify(&self, log: &Path) -> Output {
        let mut verify = tool();
        verify
            .arg("verify")
            .arg(log)
            .arg("--vkey")
            .arg(self.vkey())
            .output()
            .expect("it starts")
    }
}

fn flip(file: &Path, bit: u64) {
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .expect("it's there");
    let mut byte = [0];
    opened
        .read_exact_at(&mut byte, bit / 8)
        .expect("it's so long");
    byte[0] ^= 1 << (bit % 8);
    opened
        .write_all_at(&byte, bit / 8)
        .expect("it can be written");
}

#[track_caller]
fn accepts(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what} refuses what was written: {output:?}"
    );
}

#[track_caller]
fn refuses(what: &str, output: &Output) {
    assert_eq!(
        output.status.code(),
        Some(1),
        "{what} doesn't see the changed bit: {output:?}"
    );
}

#[test]
fn stock_programs_accept_a_log_and_see_every_changed_bit() {
    let Some(sealed) = Sealed::new() else { return };
    let log = &sealed.bench.log;
    let (proof, line) = (
        sealed.bench.scratch.join("entry.tlog-proof"),
        sealed.bench.scratch.join("entry.jsonl"),
    );
    accepts("verify", &sealed.verify(log));
    accepts("fsck", &sealed.fsck(log));
    accepts("linecheck.py", &sealed.linecheck(log));
    accepts("openssl", &sealed.checkpoint(log));
    accepts("vproof", &sealed.vproof(&proof, &line));
    let shown = fs::read_to_string(&line).expect("it's there");
    assert!(
        shown.contains(&sealed.id) && shown.lines().count() == 1,
        "{shown}"
    );

    // In a line: below the control characters it stays UTF-8, and JSON mostly.
    for day in day_files(log) {
        let name = day.file_name().expect("a name").to_string_lossy();
        let (_scratch, log) = sealed.changed(&name, 8 * 60);
        refuses("linecheck.py", &sealed.linecheck(&log));
        refuses("verify", &sealed.verify(&log));
    }
    // In the tree: an entry, a hash of each level; of the highest the copy that was published.
    let published = run(Command::new("find")
        .args([".integrity/tile/1", "-path", "*.p/*"])
        .current_dir(log));
    let published = published.lines().max().expect("it's there");
    for file in [
        ".integrity/tile/entries/000",
        ".integrity/tile/0/000",
        published,
    ] {
        let (_scratch, log) = sealed.changed(file, 8 * 40 + 3);
        // Where it isn't settled `recent` stands in for a tile, which may be behind. Stock programs and
        // mirrors have none.
        let _ = fs::remove_file(log.join(".integrity/recent"));
        refuses("fsck", &sealed.fsck(&log));
        refuses("verify", &sealed.verify(&log));
    }
    // In what is signed, and in the signature.
    let length = fs::read(log.join(".integrity/checkpoint"))
        .expect("it's there")
        .len() as u64;
    for byte in [2, length - 20] {
        let (_scratch, log) = sealed.changed(".integrity/checkpoint", 8 * byte);
        refuses("openssl", &sealed.checkpoint(&log));
        refuses("fsck", &sealed.fsck(&log));
        refuses("verify", &sealed.verify(&log));
    }
    // In the proof of an entry, and in the entry.
    for (file, byte) in [(&proof, 60), (&line, 60)] {
        flip(file, 8 * byte);
        refuses("vproof", &sealed.vproof(&proof, &line));
        flip(file, 8 * byte);
    }
    accepts("vproof", &sealed.vproof(&proof, &line));
}
