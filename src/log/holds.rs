//! What holds promise, told by random schedules: whatever commands, crashes and clocks come, in whatever
//! order, no file of a held day is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use uuid::Uuid;

use super::directory::Directory;
use super::disk::Access;
use super::disk::simulated::{Faults, Machine, Random};
use super::maintain::Run;
use super::schedules::{self, NOW, line, now};
use super::{Log, Sealing, Settings};
use crate::clock::Timestamp;
use crate::config::Maintenance;
use crate::error::Error;
use crate::format::entry::Line;
use crate::format::name::DayName;
use crate::read::source::memory::InMemory;
use crate::read::verify::{Options, verify_files};

const DAY: u64 = 86_400;

/// In the midst of the days that are played.
const MIDST: u64 = 3000;

#[derive(Default)]
struct Counts {
    /// Runs of maintenance that passed over held days, and files that others removed.
    held: u64,
    deleted: u64,
}

struct Schedule {
    machine: Machine,
    settings: Arc<Settings>,
    random: Random,
    ids: u128,
    /// The entries that were acknowledged, and not meant to be removed since.
    acknowledged: BTreeSet<Uuid>,
    /// By the numbers of holds that were acknowledged and not released: the entries that they keep.
    kept: BTreeMap<u64, (String, String, BTreeSet<Uuid>)>,
    counts: Counts,
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let mut random = Random::new(seed);
        NOW.set(Duration::from_secs(MIDST * DAY));
        let sealing = Sealing {
            key: None,
            guard_file: random.one_in(2).then(|| "/elsewhere/guard".into()),
            origin: None,
            interval: Duration::ZERO,
            heartbeat: Duration::MAX,
            hash_key_id: None,
        };
        let settings = Settings {
            path: "/simulated".into(),
            access: Access::Owner,
            allow_network: false,
            to_disk: true,
            now,
            gap_entry: None,
            sealing: Some(sealing),
            witnessing: None,
        };
        Schedule {
            machine: Machine::new(seed),
            settings: Arc::new(settings),
            random,
            ids: u128::from(seed) << 64,
            acknowledged: BTreeSet::new(),
            kept: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// A process does something with the log, and ends.
    fn by_a_process<T>(&self, work: impl FnOnce(&Log) -> Result<T, Error>) -> Result<T, String> {
        let (root, number) = self.machine.process();
        let directory = Directory::simulated(root).map_err(|error| error.to_string());
        let done = directory.and_then(|directory| {
            let log = Log::of(Arc::new(directory), &self.settings, false);
            let done = log.and_then(|log| {
                log.care.end();
                let done = work(&log);
                log.leave();
                done
            });
            done.map_err(|error| error.message)
        });
        // What is killed within its last step has done it.
        let alive = self.machine.is_alive(number);
        self.machine.kill(number);
        match alive {
            true => done,
            false => Err("killed".into()),
        }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..5 => self.append(),
            5..8 => self.maintain(),
            8..10 => self.hold(),
            10 => self.release(),
            11 => {
                let day = MIDST - 450 + self.random.below(900);
                NOW.set(Duration::from_secs(day * DAY + self.random.below(DAY)));
            }
            12 => NOW.set(NOW.get() + Duration::from_secs(self.random.below(3 * DAY))),
            13 => self.machine.cut_power(),
            14 => {
                let kill_in = Some(self.random.below(200));
                let faults = self.machine.faults();
                self.machine.set_faults(Faults { kill_in, ..faults });
            }
            _ => {
                let full = self.random.one_in(3);
                let refuses_syncs = !full && self.random.one_in(3);
                self.machine.set_faults(Faults {
                    full,
                    refuses_syncs,
                    ..Faults::default()
                });
            }
        }
        self.check_kept();
    }

    fn append(&mut self) {
        for _ in 0..=self.random.below(3) {
            self.ids += 1;
            let id = Uuid::from_u128(self.ids);
            let length = 1 + self.random.below(300);
            let appended = self.by_a_process(|log| {
                log.append(&mut line(id, length))?;
                log.flush()
            });
            if appended.is_ok() {
                self.acknowledged.insert(id);
            }
        }
        self.keep();
    }

    fn maintain(&mut self) {
        let wanted = Maintenance {
            retention_days: (!self.random.one_in(4)).then(|| 1 + self.random.below(200) as i64),
            compress_after_days: self.random.one_in(2).then_some(1),
            ..Maintenance::default()
        };
        let done = self.by_a_process(|log| {
            let mut run = Run::of(log, &|| false);
            let ended = run.all(&wanted, &mut |_, _| {});
            let counts = (run.held.len() as u64, run.deleted.len() as u64);
            ended.map(|()| counts)
        });
        if let Ok((held, deleted)) = done {
            self.counts.held += held;
            self.counts.deleted += deleted;
        }
    }

    fn hold(&mut self) {
        let first = MIDST - 450 + self.random.below(900);
        let last = first + self.random.below(300);
        let date = |day: u64| {
            let at = std::time::UNIX_EPOCH + Duration::from_secs(day * DAY);
            String::from_utf8_lossy(Timestamp::of(at).date()).into_owned()
        };
        let (from, to) = (date(first), date(last));
        let held = self.by_a_process(|log| Run::of(log, &|| false).hold(&from, &to, "a case"));
        if let Ok(report) = held {
            let report: Value = serde_json::from_slice(&report).expect("it's JSON");
            let number = report["hold"].as_u64().expect("a number");
            self.kept.insert(number, (from, to, BTreeSet::new()));
            self.keep();
        }
    }

    fn release(&mut self) {
        let which = self.random.below(self.kept.len() as u64) as usize;
        let Some(number) = self.kept.keys().nth(which).copied() else {
            return;
        };
        // Killed within it, it may be released or not.
        self.kept.remove(&number);
        let _ = self.by_a_process(|log| Run::of(log, &|| false).release(number, "over"));
    }

    /// The entries that are there, and the dates of their files.
    fn entries(&self) -> BTreeMap<Uuid, BTreeSet<String>> {
        let mut found: BTreeMap<Uuid, BTreeSet<String>> = BTreeMap::new();
        for (name, bytes) in self.machine.files() {
            let Some(day) = DayName::parse(&name) else {
                continue;
            };
            let mut text = Vec::new();
            match day.compressed {
                // One that is just being made isn't called so yet.
                true => drop(MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text)),
                false => text = bytes,
            }
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                if let Some(line) = Line::from_bytes(line.to_vec()) {
                    let date = String::from_utf8_lossy(&day.date).into_owned();
                    found.entry(line.id()).or_default().insert(date);
                }
            }
        }
        found
    }

    /// From now on, acknowledged entries of held days may not go.
    fn keep(&mut self) {
        let there = self.entries();
        for (from, to, kept) in self.kept.values_mut() {
            let range = from.as_str()..=to.as_str();
            let held = |dates: &BTreeSet<String>| dates.iter().all(|date| range.contains(&&**date));
            let new = there
                .iter()
                .filter(|(id, dates)| self.acknowledged.contains(id) && held(dates));
            kept.extend(new.map(|(id, _)| *id));
        }
    }

    fn check_kept(&self) {
        let there = self.entries();
        for (number, (from, to, kept)) in &self.kept {
            for id in kept {
                let text = there.contains_key(id);
                assert!(
                    text,
                    "{id} is gone, which hold {number} of {from} to {to} kept"
                );
            }
        }
    }

    /// With nothing going wrong, a run keeps what is held, and the log is what was sealed.
    fn check(&mut self) {
        self.machine.set_faults(Faults::default());
        self.machine.reboot();
        NOW.set(Duration::from_secs((MIDST + 5000) * DAY));
        for _ in 0..2 {
            NOW.set(NOW.get() + Duration::from_secs(2 * DAY));
            self.maintain();
            self.check_kept();
        }
        let files = InMemory::of(self.machine.files());
        let Ok(report) = verify_files(&files, &Options::default()) else {
            // Nobody came to begin it.
            assert!(self.kept.is_empty() && self.acknowledged.is_empty());
            return;
        };
        assert_eq!(report.findings, []);
        let shown: BTreeSet<u64> = report.holds.iter().map(|held| held.number).collect();
        assert!(self.kept.keys().all(|number| shown.contains(number)));
    }
}

fn run(seed: u64) -> Counts {
    let mut schedule = Schedule::new(seed);
    for _ in 0..10 + schedule.random.below(40) {
        schedule.step();
    }
    schedule.check();
    schedule.counts
}

#[test]
fn whatever_is_commanded_dies_or_turns_the_clock_no_held_day_is_removed() {
    let mut all = Counts::default();
    schedules::play(300, |seed| {
        let counts = run(seed);
        all.held += counts.held;
        all.deleted += counts.deleted;
    });
    println!("{} held and {} removed", all.held, all.deleted);
    // What is never in danger shows nothing.
    assert!(all.held > 0 && all.deleted > 0);
}
