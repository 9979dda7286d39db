//! Killed at any instant, by kill -9: no call without its entry, none doubled, no neighbour harmed.
//!
//! AUDIT_TEST_KILLS says how many random kills each test makes; docs/evidence.md names the
//! command for thousands.

mod support;

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use support::pace::{Stopwatch, until};
use support::worker::{Bench, FOREVER, Running, Work};
use support::{Scratch, available, cc, entries, last_file, root, run};

/// How many random kills each test makes.
fn kills(default: usize) -> usize {
    std::env::var("AUDIT_TEST_KILLS")
        .ok()
        .map_or(default, |text| {
            text.parse().expect("AUDIT_TEST_KILLS is a number")
        })
}

/// Numbers that differ from run to run, and are printed so that a run can be told.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |time| time.as_nanos() as u64);
        println!("seed {seed}");
        Random(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn killed_at_random(processes: usize, kills: usize, work: Work) {
    let bench = Bench::new(json!({}));
    let mut random = Random::new();
    let (mut running, mut said) = (Vec::new(), 0);
    for number in 0..kills {
        while running.len() < processes {
            running.push(bench.start(&format!("p{number}.{}", running.len()), work));
        }
        // However long they take to start.
        if said <= number {
            until("they work", || {
                said = bench.said().len();
                said > number
            });
        }
        std::thread::sleep(Duration::from_micros(12_000 + random.below(40_000)));
        drop(running.swap_remove(random.below(processes as u64) as usize));
    }
    drop(running);
    let counts = bench.check();
    println!("{kills} kills, {processes} processes: {counts:?}");
    assert!(counts.said > kills, "the workers hardly worked: {counts:?}");
    bench.check_by_others(counts.entries);
}

#[test]
fn a_process_killed_at_random_leaves_exactly_one_entry_for_each_call() {
    killed_at_random(1, kills(60), FOREVER);
}

#[test]
fn one_of_four_processes_killed_at_random_harms_no_other() {
    killed_at_random(4, kills(120), FOREVER);
}

#[test]
fn long_lines_are_torn_by_kills_and_none_is_lost() {
    let work = Work {
        doings: "l",
        longest: 150_000,
        threads: 1,
        ..FOREVER
    };
    killed_at_random(4, kills(60), work);
}

#[test]
fn a_living_process_makes_the_log_whole_within_ten_seconds() {
    let bench = Bench::new(json!({}));
    let living = bench.start(
        "living",
        Work {
            doings: "lw",
            threads: 1,
            ..FOREVER
        },
    );
    let works = |name: &str| {
        let said = bench.said();
        said.iter().any(|said| said.prompt.starts_with(name))
    };
    until("it works", || works("living"));
    for number in 0..5 {
        let name = format!("victim{number}");
        let victim = bench.start(&name, FOREVER);
        until("a victim works", || works(&name));
        drop(victim);
    }
    let since = Stopwatch::of(living.0.id().to_string());
    let journals = || {
        std::fs::read_dir(bench.log.join(".state"))
            .expect("it's there")
            .filter(|file| {
                let name = file.as_ref().expect("readable").file_name();
                name.to_string_lossy().starts_with("journal-")
            })
            .count()
    };
    until("the dead's journals go", || journals() <= 1);
    let took = since.elapsed();
    assert!(took < Duration::from_secs(11), "{took:?}");
    drop(living);
    bench.check();
}

/// Kills a worker before its nth system call of a kind, for every n.
#[test]
fn a_kill_at_every_system_call_of_a_call_s_life_leaves_one_entry() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "clbf",
        times: 8,
        threads: 1,
        longest: 200,
        expected: "AUDIT_OK",
    };
    let mut kills = 0;
    for calls in [
        "write",
        "pwrite64",
        "openat",
        "fdatasync,fsync",
        "rename,renameat,unlinkat",
        "sendto",
    ] {
        for nth in 1.. {
            let bench = Bench::new(json!({"durability": "disk", "integrity": false}));
            let ended = bench
                .injected(calls, &format!("signal=SIGKILL:when={nth}"), work)
                .status()
                .expect("strace starts");
            bench.check();
            if ended.success() {
                break;
            }
            kills += 1;
            assert!(nth < 400, "{calls}: a worker makes fewer of them");
        }
    }
    println!("{kills} kills, each at another system call");
    assert!(kills > 50, "{kills}");
}

#[test]
fn a_kill_after_somebody_cut_the_file_short_doubles_no_entry() {
    if !available("strace") {
        return;
    }
    let work = Work {
        doings: "llbtb",
        times: 5,
        threads: 1,
        longest: 200,
        expected: "AUDIT_OK",
    };
    for nth in 1..100 {
        let bench = Bench::new(json!({}));
        let first = Work {
            doings: "l",
            times: 1,
            ..work
        };
        run(&mut bench.command("first", first));
        let ended = bench
            .injected("pwrite64", &format!("signal=SIGKILL:when={nth}"), work)
            .env("WORKER_CUTS", last_file(&bench.log))
            .status()
            .expect("strace starts");
        bench.open();
        let logged = entries(&bench.log);
        let ids: HashSet<_> = logged.iter().map(|entry| entry["id"].as_str()).collect();
        assert_eq!(ids.len(), logged.len(), "killed at {nth}: {logged:?}");
        if ended.success() {
            assert!(nth > 4, "it was never killed");
            return;
        }
    }
    panic!("a worker makes fewer writes");
}

/// The control: were nothing lost this way, the tests above would show nothing.
#[test]
fn lines_appended_plainly_are_lost_by_kills_of_others() {
    const ROUNDS: usize = 600;
    let scratch = Scratch::new();
    let program = scratch.join("plain");
    run(cc()
        .arg(root().join("tests/c/plain.c"))
        .arg("-o")
        .arg(&program));
    let mut random = Random::new();
    for round in 1..=ROUNDS {
        let (file, said) = (scratch.join("file"), scratch.join("said"));
        let append = || {
            let mut options = std::fs::OpenOptions::new();
            options
                .create(true)
                .append(true)
                .open(&said)
                .expect("it can be made")
        };
        let mut running: Vec<Running> = (0..4)
            .map(|name| {
                let mut command = Command::new(&program);
                command.arg(&file).arg(name.to_string()).stdout(append());
                Running(command.spawn().expect("it starts"))
            })
            .collect();
        let has_begun = |name: usize| {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            said.contains(&format!("<{name}-"))
        };
        until("all write", || (0..4).all(has_begun));
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        drop(running.swap_remove(0));
        std::thread::sleep(Duration::from_millis(1));
        drop(running);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let whole: HashSet<&str> = text
            .lines()
            .filter(|line| line.len() == 8999 && line.matches('<').count() == 1)
            .filter_map(|line| line.split_inclusive('>').next())
            .collect();
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        let mut acknowledged: Vec<&str> = said.split_inclusive('\n').collect();
        acknowledged.retain(|line| line.ends_with('\n'));
        let lost = acknowledged
            .iter()
            .filter(|line| !whole.contains(line.trim_end()))
            .count();
        if lost > 0 {
            println!(
                "{round} kills: {lost} acknowledged lines of {} lost",
                acknowledged.len()
            );
            return;
        }
        for file in ["file", "said"] {
            let _ = std::fs::remove_file(scratch.join(file));
        }
    }
    panic!("plain appending lost nothing in {ROUNDS} kills: the kills don't tear lines here");
}
