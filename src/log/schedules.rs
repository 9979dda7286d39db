//! The crash story, told by schedules: processes of one log do what they do on a simulated machine, are
//! killed at any operation, lose the power, and meet a disk that is full or refuses. Then what was
//! promised must be there, once.
//!
//! Each schedule follows from its seed, which a failure prints. `AUDIT_TEST_SEED=n` runs that one alone,
//! `AUDIT_TEST_SCHEDULES=n` so many.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::directory::Directory;
use super::disk::Access;
use super::disk::simulated::{Copy, Faults, Machine, Random};
use super::{Intent, Log, MakeWitnessing, Sealing, Settings};
use crate::clock::Timestamp;
use crate::error::Status;
use crate::format::entry::Line;
use crate::format::name::DayName;
use crate::read::source::memory::InMemory;
use crate::read::verify::{Options, verify_files};

thread_local! {
    pub static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub fn now() -> SystemTime {
    UNIX_EPOCH + NOW.get()
}

pub fn line(id: Uuid, length: u64) -> Line {
    let filling = "x".repeat(length as usize);
    let text = format!(
        "{{\"id\":\"{id}\",\"timestamp\":\"0000-00-00T00:00:00.000000Z\",\"event_type\":\"{filling}\"}}\n"
    );
    Line::from_bytes(text.into_bytes()).unwrap()
}

/// Tells one schedule.
const SEED: &str = "AUDIT_TEST_SEED";

/// What is known of an entry, whose id is the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It must be there, and is on the disk.
    OnDisk,
    /// It must be there unless the power went.
    Written,
    /// Its call was begun, so it must have an entry, of whatever outcome, likewise.
    Begun,
    /// Likewise, and also after the power went.
    BegunOnDisk,
    /// It may be there.
    Perhaps,
}

/// One process of the log.
pub struct Process {
    /// The log in it.
    pub log: Arc<Log>,
    number: usize,
    open: Vec<(Uuid, Intent)>,
}

impl Process {
    /// Does what the log's thread does from time to time.
    pub fn look_after(&self) {
        self.log.look_after();
    }
}

/// What happens to a log, one thing after another.
pub struct Schedule {
    machine: Machine,
    settings: Arc<Settings>,
    /// What comes next.
    pub random: Random,
    /// Those that live.
    pub processes: Vec<Process>,
    due: BTreeMap<Uuid, Due>,
    ids: u128,
    /// Whether a log was ever opened.
    is_begun: bool,
    power_was_cut: bool,
    /// Whether what happens is printed.
    told: bool,
}

/// The disk at some time, and what was due then.
pub struct Taken {
    copy: Copy,
    due: BTreeMap<Uuid, Due>,
}

/// What verify says of what stands on the disk, by a policy.
pub struct Witnessed {
    /// How many entries the quorum has signed.
    pub size: u64,
    /// How many disputes are recorded.
    pub disputes: u64,
    /// The classes of what was found.
    pub found: Vec<&'static str>,
}

impl Schedule {
    /// One that follows from a seed. A log that has witnesses is sealed, and has no guard.
    pub fn new(seed: u64, witnessing: Option<MakeWitnessing>) -> Schedule {
        let mut random = Random::new(seed);
        NOW.set(Duration::from_secs(200 * 86_400 + random.below(3) * 43_000));
        let to_disk = random.one_in(2);
        let witnessed = witnessing.is_some();
        let sealing = (witnessed || !random.one_in(4)).then(|| Sealing {
            key: None,
            guard_file: (!witnessed && random.one_in(2)).then(|| "/elsewhere/guard".into()),
            origin: None,
            interval: Duration::ZERO,
            heartbeat: Duration::from_secs(900),
            hash_key_id: None,
        });
        let settings = Settings {
            path: "/simulated".into(),
            access: Access::Owner,
            allow_network: false,
            to_disk,
            now,
            gap_entry: None,
            sealing,
            witnessing,
        };
        Schedule {
            machine: Machine::new(seed),
            settings: Arc::new(settings),
            random,
            processes: Vec::new(),
            due: BTreeMap::new(),
            ids: u128::from(seed) << 64,
            is_begun: false,
            power_was_cut: false,
            told: std::env::var_os(SEED).is_some(),
        }
    }

    fn new_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// A process that opens the log.
    pub fn open(&mut self) -> Result<Process, String> {
        let (root, number) = self.machine.process();
        let opened = Directory::simulated(root)
            .map_err(|error| error.to_string())
            .and_then(|directory| {
                let log = Log::of(Arc::new(directory), &self.settings, true);
                log.map_err(|error| error.message)
            })
            .and_then(|log| {
                log.care.end();
                let swept = log.sweep_at_first();
                swept.map(|_| log).map_err(|error| error.message)
            });
        match opened {
            Ok(log) => {
                self.is_begun = true;
                Ok(Process {
                    log,
                    number,
                    open: Vec::new(),
                })
            }
            Err(error) => {
                self.machine.kill(number);
                Err(error)
            }
        }
    }

    /// What the files hold, in short.
    fn show(&self) -> String {
        let files = self.machine.files().into_iter();
        let shown = files.map(|(path, bytes)| {
            if !path.starts_with("audit_") {
                return format!("\n  {path}: {}", bytes.len());
            }
            let text = String::from_utf8_lossy(&bytes).replace('\0', "_");
            let mut text = text.replace("\"timestamp\":", "");
            for byte in ["x", "_", " "] {
                while text.contains(&byte.repeat(2)) {
                    text = text.replace(&byte.repeat(2), byte);
                }
            }
            format!("\n  {path}: {text:?}")
        });
        shown.collect()
    }

    /// Does one thing, by one of the processes.
    pub fn step(&mut self) {
        NOW.set(NOW.get() + Duration::from_millis(self.random.below(2000)));
        if self.processes.len() < 2 || self.random.one_in(12) && self.processes.len() < 4 {
            if let Ok(process) = self.open() {
                self.processes.push(process);
            }
            self.bury();
            return;
        }
        let at = self.random.below(self.processes.len() as u64) as usize;
        let what = self.random.below(32);
        self.tell(|| format!("process {}: {what}", self.processes[at].number));
        match what {
            0..10 => self.append(at),
            10..15 => self.begin(at),
            15..20 => self.finish(at),
            20..24 => drop(self.processes[at].log.look_after()),
            24 => drop(self.processes[at].log.flush()),
            25 => self.machine.kill(self.processes[at].number),
            26 => self.processes[at].log.close(),
            27 => NOW.set(NOW.get() + Duration::from_secs(40_000)),
            28 => self.cut_power(),
            29 => {
                let full = !self.machine.faults().full;
                // A disk that does both leaves no room to tell the others of a refusal.
                self.change_faults(|faults| {
                    faults.full = full;
                    faults.refuses_syncs = false;
                });
            }
            30 => {
                let refuses = !self.machine.faults().refuses_syncs;
                self.change_faults(|faults| {
                    faults.refuses_syncs = refuses;
                    faults.full = false;
                });
            }
            _ => {
                let kill_in = Some(self.random.below(60));
                self.change_faults(|faults| faults.kill_in = kill_in);
            }
        }
        self.bury();
    }

    fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.machine.faults();
        change(&mut faults);
        self.machine.set_faults(faults);
    }

    /// Says what happens, if one schedule is told alone.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{} {}", Timestamp::of(now()), what());
        }
    }

    fn append(&mut self, at: usize) {
        let id = self.new_id();
        let length = 1 + self.random.below(6000);
        let appended = self.processes[at].log.append(&mut line(id, length));
        let due = match appended {
            Ok(()) if self.settings.to_disk => Due::OnDisk,
            Ok(()) => Due::Written,
            Err(_) => Due::Perhaps,
        };
        self.tell(|| format!("appended {id}: {due:?}"));
        self.due.insert(id, due);
    }

    fn begin(&mut self, at: usize) {
        let id = self.new_id();
        let process = &mut self.processes[at];
        match process.log.begin(&line(id, 3), 7000) {
            Ok(intent) => {
                process.open.push((id, intent));
                let due = match self.settings.to_disk {
                    true => Due::BegunOnDisk,
                    false => Due::Begun,
                };
                self.due.insert(id, due);
            }
            Err(_) => drop(self.due.insert(id, Due::Perhaps)),
        }
    }

    fn finish(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if process.open.is_empty() {
            return;
        }
        let which = self.random.below(process.open.len() as u64) as usize;
        let (id, intent) = process.open.swap_remove(which);
        let length = 4 + self.random.below(6000);
        if process.log.finish(intent, &mut line(id, length)).is_ok() {
            let due = match self.settings.to_disk {
                true => Due::OnDisk,
                false => Due::Written,
            };
            self.due.insert(id, due);
        }
    }

    fn cut_power(&mut self) {
        self.machine.cut_power();
        self.power_was_cut = true;
        for due in self.due.values_mut() {
            if matches!(due, Due::Written | Due::Begun) {
                *due = Due::Perhaps;
            }
        }
    }

    /// A copy of the directory as it is now.
    pub fn take(&self) -> Taken {
        Taken {
            copy: self.machine.copy(),
            due: self.due.clone(),
        }
    }

    /// The directory is put back to what it was.
    pub fn put_back(&mut self, taken: &Taken) {
        self.processes.clear();
        self.machine.put_back(&taken.copy);
        self.due.clone_from(&taken.due);
    }

    /// What is there of a file of the log's directory.
    pub fn file(&self, path: &str) -> Vec<u8> {
        self.machine.files().remove(path).unwrap_or_default()
    }

    /// What verify says by the policy in a file.
    pub fn witnessed(&self, policy: &Path) -> Witnessed {
        let options = Options {
            policy: Some(policy.to_owned()),
            ..Options::default()
        };
        let files = InMemory::of(self.machine.files());
        let report = verify_files(&files, &options).expect("it can be verified");
        Witnessed {
            size: report.witnessed.map_or(0, |witnessed| witnessed.size),
            disputes: report.disputes,
            found: report.findings.iter().map(|one| one.class.name()).collect(),
        }
    }

    /// Whether a process lives.
    pub fn is_alive(&self, process: &Process) -> bool {
        self.machine.is_alive(process.number)
    }

    /// Forgets the processes that were killed.
    pub fn bury(&mut self) {
        let machine = &self.machine;
        self.processes
            .retain(|process| machine.is_alive(process.number));
    }

    /// The lines of each entry, as readers see them.
    fn entries(&self) -> HashMap<Uuid, BTreeSet<Vec<u8>>> {
        let mut found: HashMap<Uuid, BTreeSet<Vec<u8>>> = HashMap::new();
        for (path, bytes) in self.machine.files() {
            if !path.starts_with("audit_") {
                continue;
            }
            for text in bytes.split(|byte| *byte == b'\n') {
                let text = text.trim_ascii_start();
                let line = [text, b"\n"].concat();
                if let Some(line) = Line::from_bytes(line) {
                    found.entry(line.id()).or_default().insert(text.to_vec());
                }
            }
        }
        found
    }

    /// Has all faults go, and looks whether what was promised is there.
    pub fn check(&mut self) {
        self.machine.set_faults(Faults::default());
        if self.random.one_in(2) {
            self.cut_power();
        }
        for process in &self.processes {
            self.machine.kill(process.number);
        }
        self.processes.clear();
        // Before anybody makes it whole, and when somebody has.
        self.verify();
        self.look_after_it();
        self.verify();
        self.check_entries();
        // What the disk refused to confirm is left as it is until then.
        self.machine.reboot();
        self.verify();
        self.look_after_it();
        self.verify();
        self.check_entries();
        self.check_lines();
    }

    /// Verifies what stands on the disk, with what the guard knows.
    fn verify(&self) {
        if self.settings.sealing.is_none() {
            return;
        }
        let files = InMemory::of(self.machine.files());
        let report = match verify_files(&files, &Options::default()) {
            // Nobody came to begin it.
            Err(error) if error.status == Status::NotFound && !self.is_begun => return,
            report => report.expect("it can be verified"),
        };
        assert_eq!(report.findings, []);
        assert_eq!(report.rollbacks, 0);
    }

    /// Opens the log when nothing is wrong, and has done what is to be done.
    fn look_after_it(&mut self) {
        let process = self.open().expect("it opens when nothing is wrong");
        let flushed = process.log.flush();
        flushed.expect("it can be flushed when nothing is wrong");
        for _ in 0..3 {
            process.log.look_after();
        }
        self.tell(|| {
            let error = process.log.lock().last_error.clone();
            format!("{error:?}, {:?}", process.log.warnings())
        });
        process.log.close();
    }

    fn check_entries(&self) {
        let entries = self.entries();
        for (id, due) in &self.due {
            let lines = entries.get(id).map_or(0, BTreeSet::len);
            // With durability "os" nothing is promised of a power cut: a journal may be older than the log.
            let may_be_twice = self.power_was_cut && !self.settings.to_disk;
            assert!(
                lines < 2 || may_be_twice,
                "{id}: stands there as {}",
                self.show()
            );
            assert!(lines == 1 || *due == Due::Perhaps, "{id}: {due:?} and lost");
        }
    }

    /// Whatever other programs read a file stop at no line.
    fn check_lines(&self) {
        let files = self.machine.files();
        let mut days: Vec<_> = files
            .keys()
            .filter_map(|path| DayName::parse(path))
            .collect();
        days.sort();
        let mut dates: Vec<_> = days.iter().map(|day| day.date).collect();
        dates.dedup();
        // Where sealing doesn't come upon it, the last days are looked through after a boot: nothing
        // older waits for the disk.
        if self.power_was_cut && self.settings.sealing.is_none() {
            dates.drain(..dates.len().saturating_sub(2));
        }
        for day in days.iter().filter(|day| dates.contains(&day.date)) {
            for text in files[&day.file_name()].split(|byte| *byte == b'\n') {
                // What a writer was just taking back when the power went is nobody's to tell.
                let sound = text.iter().all(|byte| *byte == b' ')
                    || self.power_was_cut && text.contains(&b' ')
                    || serde_json::from_slice::<serde_json::Value>(text).is_ok();
                let shown = String::from_utf8_lossy(text).replace('\0', "_");
                assert!(
                    sound,
                    "{}: {}",
                    day.file_name(),
                    shown.replace("xxxxxxxxxx", "")
                );
            }
        }
    }
}

fn run(seed: u64) {
    let mut schedule = Schedule::new(seed, None);
    let steps = 10 + schedule.random.below(50);
    for _ in 0..steps {
        schedule.step();
        schedule.tell(|| schedule.show());
    }
    schedule.check();
}

/// Plays so many schedules, or as many or the one that the environment asks for.
pub fn play(count: u64, mut run: impl FnMut(u64)) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    if let Some(seed) = number(SEED) {
        return run(seed);
    }
    let began = Instant::now();
    let count: u64 = number("AUDIT_TEST_SCHEDULES").unwrap_or(count);
    let first = u64::from(Timestamp::of(SystemTime::now()).as_bytes()[25]) << 32;
    for seed in first..first + count {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        assert!(ran.is_ok(), "AUDIT_TEST_SEED={seed} tells it again");
    }
    println!("{count} schedules in {:?}", began.elapsed());
}

#[test]
fn whatever_dies_fills_or_refuses_each_entry_is_there_once() {
    play(1000, run);
}
