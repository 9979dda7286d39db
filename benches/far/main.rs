//! Lines of a fleet at the far end: how fast `audit-logger verify --lines - --fleet` compares them with what was
//! sealed, and what memory that takes.
//!
//!     cargo bench --bench far
//!     AUDIT_BENCH_LINES=1000000 cargo bench --bench far
//!
//! 100 hosts (AUDIT_BENCH_HOSTS) with 100,000 lines each, or as many as AUDIT_BENCH_LINES says. Only the hosts' trees
//! stand on the disk, 51 bytes a line, below target/tmp; the lines are made on the way into the tool's pipe, in an
//! order that jumps between hosts and days. So what makes them has a share of the processors: what it takes is told
//! beside what the tool takes. The first takes about a minute, the second some eight.
//!
//! Three runs, with fewer lines, with fewer hosts and with all, tell what a line and what a host take of memory. In each
//! a line is dropped, one is altered and one comes twice, and the tool must say so.

mod line;
#[path = "../../tests/support/outer_cargo.rs"]
mod outer_cargo;
mod tool;
mod tree;

use std::error::Error;
use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use line::Fleet;
use tool::Measured;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // `cargo test --all-targets` starts benchmarks too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("measures only when started by cargo bench");
        return Ok(());
    }
    let given = |name, default| match std::env::var(name) {
        Ok(text) => text.parse::<u64>(),
        Err(_) => Ok(default),
    };
    let hosts = given("AUDIT_BENCH_HOSTS", 100)?.max(4);
    let lines = given("AUDIT_BENCH_LINES", 100_000)?.max(1000);
    let program = tool::build()?;
    let rooms = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut runs = Vec::new();
    for fleet in [(hosts, lines / 4), (hosts / 4, lines), (hosts, lines)] {
        let fleet = Fleet::new(fleet.0, fleet.1);
        let room = tempfile::tempdir_in(rooms)?;
        let list = tree::write(room.path(), &fleet)?;
        let measured = tool::run(&program, &list, &fleet)?;
        print(&fleet, &measured);
        runs.push((fleet, measured));
        // Each is the larger part of a disk's room.
        fs::remove_dir_all(room.path())?;
    }
    let [(_, fewer_lines), (fewer_hosts, fewer), (all, last)] = &runs[..] else {
        return Err("there are three runs".into());
    };
    let more_lines = all.count() - all.hosts * (lines / 4);
    let a_line = (last.resident as f64 - fewer_lines.resident as f64) / more_lines as f64;
    let more_hosts = (all.hosts - fewer_hosts.hosts) as f64;
    let a_host =
        (last.resident as f64 - fewer.resident as f64) / more_hosts - a_line * lines as f64;
    println!(
        "a line takes {a_line:.1} bytes of memory, a host {:.0} KB beside its lines",
        a_host / 1e3
    );
    Ok(())
}

fn print(fleet: &Fleet, measured: &Measured) {
    let count = fleet.count() as f64;
    let lines = &measured.lines;
    println!(
        "{} hosts x {} lines of {} bytes:",
        fleet.hosts,
        fleet.lines,
        fleet.length()
    );
    println!(
        "  trees:    {:.1} s, {:.1} s of processor: {:.0} lines/s",
        measured.trees.passed,
        measured.trees.worked,
        count / measured.trees.passed
    );
    println!(
        "  lines:    {:.1} s: {:.0} lines/s; {:.1} s of processor, and {:.1} s what made them",
        lines.passed,
        count / lines.passed,
        lines.worked,
        measured.made
    );
    println!(
        "  missing:  {:.1} s, {:.1} s of processor",
        measured.missing.passed, measured.missing.worked
    );
    println!(
        "  a line takes {:.2} us of processor, where its SHA-256 alone takes {:.2}",
        lines.worked / count * 1e6,
        hashing_alone(fleet) * 1e6
    );
    println!(
        "  resident: {:.0} MB at most",
        measured.resident as f64 / 1e6
    );
}

/// The seconds of the processor that the SHA-256 of a line takes.
fn hashing_alone(fleet: &Fleet) -> f64 {
    const COUNT: u64 = 1_000_000;
    let mut text = Vec::new();
    (0..1000).for_each(|at| fleet.write(at, &mut text));
    let began = tool::worked("thread-self");
    let mut hashed = 0;
    while hashed < COUNT {
        for line in text.split(|byte| *byte == b'\n') {
            std::hint::black_box(Sha256::digest(line));
            hashed += 1;
        }
    }
    (tool::worked("thread-self") - began) / hashed as f64
}
