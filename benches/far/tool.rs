//! The tool, started with a pipe, and what it takes.

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;
use crate::line::Fleet;

/// Seconds that passed, and seconds of all processors together.
#[derive(Default, Clone, Copy)]
pub struct Took {
    pub passed: f64,
    pub worked: f64,
}

pub struct Measured {
    /// Until it takes lines.
    pub trees: Took,
    /// While it takes them.
    pub lines: Took,
    /// From then on: which lines are missing is looked for in the trees.
    pub missing: Took,
    /// Seconds of the processor for making the lines.
    pub made: f64,
    /// The most memory that it had, in bytes.
    pub resident: u64,
}

/// The tool as it's shipped.
pub fn build() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--offline",
        "--features",
        "cli",
        "--bin",
        "audit-logger",
    ]);
    crate::outer_cargo::forget(&mut cargo);
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    if !built.success() {
        return Err("the tool can't be built".into());
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .ok_or("it's in a directory")?;
    Ok(target.join("release/audit-logger"))
}

/// Lets it compare all lines of a fleet but one, which it must say, as that another one was altered and a third came twice.
pub fn run(program: &Path, list: &Path, fleet: &Fleet) -> Result<Measured> {
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(["verify", "--json", "--lines", "-", "--fleet"])
        .arg(list)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("it's piped")?;
    let stdout = child.stdout.take().ok_or("it's piped")?;
    let watched = Watched::new(child.id());
    let (trees, lines, missing, made, text) = thread::scope(|scope| -> Result<_> {
        scope.spawn(|| watched.watch());
        let said = scope.spawn(move || {
            let mut text = String::new();
            BufReader::new(stdout)
                .read_to_string(&mut text)
                .map(|_| text)
        });
        let took = |since: Took| Took {
            passed: began.elapsed().as_secs_f64() - since.passed,
            worked: watched.worked() - since.worked,
        };
        let (dropped, altered, doubled) = (1, fleet.count() / 2, fleet.count() - 1);
        let mut piece = Vec::with_capacity(2 << 20);
        let before = worked("thread-self");
        let (mut at, mut trees) = (0, Took::default());
        while at < fleet.count() {
            piece.clear();
            while piece.len() < 1 << 20 && at < fleet.count() {
                let number = fleet.shuffled(at);
                let start = piece.len();
                fleet.write(number, &mut piece);
                if number == dropped {
                    piece.truncate(start);
                } else if number == altered {
                    // A digit of its id.
                    piece[start + 42] ^= 1;
                } else if number == doubled {
                    fleet.write(number, &mut piece);
                }
                at += 1;
            }
            stdin.write_all(&piece)?;
            // A pipe takes less than that before somebody reads.
            if trees.passed == 0.0 {
                trees = took(Took::default());
            }
        }
        drop(stdin);
        let made = worked("thread-self") - before;
        let lines = took(trees);
        let text = said.join().map_err(|_| "the reader panicked")??;
        let so_far = Took {
            passed: trees.passed + lines.passed,
            worked: trees.worked + lines.worked,
        };
        let missing = took(so_far);
        watched.over.store(true, Ordering::Relaxed);
        Ok((trees, lines, missing, made, text))
    })?;
    child.wait()?;
    let report: Value = serde_json::from_str(&text)?;
    let counts = ["missing", "altered", "doubled"].map(|what| report[what].as_u64());
    let rest = ["overdue", "unknown", "unsealed"].map(|what| report[what].as_u64());
    if counts != [Some(1); 3] || rest != [Some(0); 3] || report["sealed"] != fleet.count() {
        return Err(format!("the tool says {counts:?}, {rest:?} of {}", report["sealed"]).into());
    }
    let resident = watched.resident.load(Ordering::Relaxed);
    Ok(Measured {
        trees,
        lines,
        missing,
        made,
        resident,
    })
}

/// A process, as the kernel sees it until it ends.
struct Watched {
    process: u32,
    resident: AtomicU64,
    /// In microseconds.
    worked: AtomicU64,
    over: AtomicBool,
}

impl Watched {
    fn new(process: u32) -> Watched {
        Watched {
            process,
            resident: AtomicU64::new(0),
            worked: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    fn watch(&self) {
        while !self.over.load(Ordering::Relaxed) {
            self.worked();
            let status =
                fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap_or_default();
            let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let most = most.and_then(|most| most.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            self.resident
                .fetch_max(most.unwrap_or_default() * 1024, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Seconds of the processor so far.
    fn worked(&self) -> f64 {
        let micros = (worked(&self.process.to_string()) * 1e6) as u64;
        self.worked.fetch_max(micros, Ordering::Relaxed);
        self.worked.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// The seconds of the processor that a process, or this thread, has had, by the kernel's count.
pub fn worked(who: &str) -> f64 {
    /// Of a second, in /proc.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{who}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields = after_name.split(' ').skip(11).take(2);
    fields
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}
