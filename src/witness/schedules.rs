//! The crash story with witnesses, told by schedules: processes of a log that are killed at any operation, lose
//! the power or meet a full disk show it to witnesses that are silent, or whose answers are lost; and the
//! directory is put back to what it was. What the witnesses have signed stays, and is of the log's own tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::notes::milliseconds;
use super::{Settings, Shared, Way, lock};
use crate::config;
use crate::error::Error;
use crate::format::checkpoint::{Checkpoint, notes, parse_hash};
use crate::format::cosignature::tests::Witness as Signing;
use crate::format::merkle::{Hash, check_consistency};
use crate::format::note::Note;
use crate::format::policy::Policy;
use crate::json::Object;
use crate::log::schedules::{NOW, Schedule, Taken, now, play};
use crate::log::{Log, MakeWitnessing, Witnessing};
use crate::sys::Event;

/// How many there are, of which all but one are a quorum.
const WITNESSES: u8 = 3;

/// What a witness does when it's asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Answering,
    Silent,
    /// It signs, and its answer is lost.
    Lost,
}

/// What a witness remembers. It never forgets.
struct Memory {
    doing: Doing,
    /// The size and the root that it signed last.
    size: u64,
    root: Hash,
    /// All that it signed.
    signed: BTreeSet<(u64, Hash)>,
    /// The sizes of which it said that it had seen them, or another tree there.
    disputed: BTreeSet<u64>,
}

/// A witness, by C2SP tlog-witness.
#[derive(Clone)]
struct Simulated {
    key: Arc<Signing>,
    memory: Arc<Mutex<Memory>>,
}

impl Simulated {
    fn new(number: u8) -> Simulated {
        Simulated {
            key: Arc::new(Signing::new(&format!("witness.example/w{number}"), number)),
            memory: Arc::new(Mutex::new(Memory {
                doing: Doing::Answering,
                size: 0,
                root: [0; 32],
                signed: BTreeSet::new(),
                disputed: BTreeSet::new(),
            })),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    fn answer(&self, body: &str) -> (u16, String) {
        let (asked, note) = body.split_once("\n\n").expect("an empty line");
        let mut lines = asked.lines();
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old: u64 = old.and_then(|old| old.parse().ok()).expect("a size");
        let proof: Vec<Hash> = lines
            .map(|line| parse_hash(line).expect("a hash"))
            .collect();
        let note = Note::parse(note).expect("a signed note");
        let Checkpoint { size, root, .. } = Checkpoint::parse(note.text).expect("a checkpoint");
        let mut memory = self.memory();
        assert!(old <= size, "the log asks by the rules");
        if old != memory.size {
            if memory.size > size {
                let known = memory.size;
                memory.disputed.insert(known);
            }
            return (409, format!("{}\n", memory.size));
        }
        if old > 0 && !check_consistency(&proof, old, &memory.root, size, &root) {
            memory.disputed.insert(old);
            return (422, String::new());
        }
        (memory.size, memory.root) = (size, root);
        memory.signed.insert((size, root));
        (200, self.key.line(note.text, milliseconds(now()) / 1000))
    }
}

impl Way for Simulated {
    fn send(&self, body: &[u8], _: Instant, _: Option<&Event>) -> Result<(u16, Vec<u8>), String> {
        let doing = self.memory().doing;
        if doing == Doing::Silent {
            return Err("is silent".to_owned());
        }
        let (status, answer) = self.answer(std::str::from_utf8(body).expect("UTF-8"));
        match doing {
            Doing::Lost => Err("was cut off".to_owned()),
            _ => Ok((status, answer.into_bytes())),
        }
    }
}

/// Asks without a thread: when the log's thread would have one asked.
struct AtOnce(Shared);

impl Witnessing for AtOnce {
    fn published(&self, log: &Weak<Log>) {
        if let Some(log) = log.upgrade() {
            let _ = self.0.ask_if_due(&log);
        }
    }

    fn wait(&self, log: &Log, timeout: Option<Duration>) -> Result<(), Error> {
        self.0.wait(log, timeout)
    }

    fn health(&self, to: Object<'_>) {
        to.end();
    }

    fn end(&self) {}
}

/// What is promised of a directory: at which size a flush that waited for the witnesses came back, and which
/// witnesses disputed which size of it.
#[derive(Clone, Default)]
struct Promised {
    witnessed: u64,
    disputes: BTreeSet<(usize, u64)>,
}

#[derive(Default)]
struct Counts {
    witnessed: u64,
    put_back: u64,
    disputes: u64,
    cosigned: u64,
}

struct World {
    schedule: Schedule,
    witnesses: Vec<Simulated>,
    policy: PathBuf,
    promised: Promised,
    taken: Vec<(Taken, Promised)>,
    counts: Counts,
}

/// The policy's text.
fn policy_of(witnesses: &[Simulated]) -> String {
    let mut text = String::new();
    let mut names = String::new();
    for (at, witness) in witnesses.iter().enumerate() {
        text.push_str(&format!("witness w{at} {}\n", witness.key.vkey()));
        names.push_str(&format!(" w{at}"));
    }
    format!(
        "{text}group most {}{names}\nquorum most\n",
        witnesses.len() - 1
    )
}

impl World {
    fn new(seed: u64, policy: PathBuf) -> World {
        let witnesses: Vec<Simulated> = (1..=WITNESSES).map(Simulated::new).collect();
        let way = |witness: &Simulated| Some(Box::new(witness.clone()) as Box<dyn Way>);
        let text = policy_of(&witnesses);
        let settings = Arc::new(Settings {
            ways: witnesses.iter().map(way).collect(),
            config: config::Witnesses {
                policy: Policy::parse(text.as_bytes()).expect("it's one"),
                places: witnesses.iter().map(|_| None).collect(),
                required: true,
                interval: Duration::from_secs(5),
            },
        });
        let make: MakeWitnessing = Box::new(move || Box::new(AtOnce(Shared::of(&settings))));
        World {
            schedule: Schedule::new(seed, Some(make)),
            witnesses,
            policy,
            promised: Promised::default(),
            taken: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn step(&mut self) {
        match self.schedule.random.below(24) {
            0..5 => self.flush(),
            5..8 => {
                let at = self.schedule.random.below(WITNESSES.into()) as usize;
                let doing = [
                    Doing::Answering,
                    Doing::Answering,
                    Doing::Silent,
                    Doing::Lost,
                ];
                let doing = doing[self.schedule.random.below(4) as usize];
                self.witnesses[at].memory().doing = doing;
            }
            // Of a directory with a log.
            8 if self.taken.len() < 3
                && !self.schedule.file(".integrity/checkpoint").is_empty() =>
            {
                let taken = self.schedule.take();
                self.taken.push((taken, self.promised.clone()));
            }
            9 if !self.taken.is_empty() => {
                let at = self.schedule.random.below(self.taken.len() as u64) as usize;
                let (taken, promised) = &self.taken[at];
                self.schedule.put_back(taken);
                self.promised.clone_from(promised);
                self.counts.put_back += 1;
                self.schedule.tell(|| "put back".to_owned());
            }
            _ => self.schedule.step(),
        }
        self.note_disputes();
    }

    /// Those that came since are of the directory that is there.
    fn note_disputes(&mut self) {
        for (at, witness) in self.witnesses.iter().enumerate() {
            let disputed = std::mem::take(&mut witness.memory().disputed);
            self.counts.disputes += disputed.len() as u64;
            self.promised
                .disputes
                .extend(disputed.into_iter().map(|size| (at, size)));
        }
    }

    /// A process flushes, and waits for the witnesses.
    fn flush(&mut self) {
        let count = self.schedule.processes.len() as u64;
        let at = self.schedule.random.below(count) as usize;
        let Some(process) = self.schedule.processes.get(at) else {
            return;
        };
        let log = Arc::clone(&process.log);
        let flushed = log.flush();
        let offer = log.offer().ok().flatten();
        if let (Ok(()), Some(offer), Some(witnessing)) = (flushed, offer, log.witnessing())
            && witnessing.wait(&log, None).is_ok()
            && self.schedule.is_alive(process)
        {
            let size = offer.checkpoint.size;
            self.schedule.tell(|| format!("witnessed at {size}"));
            self.promised.witnessed = self.promised.witnessed.max(size);
            self.counts.witnessed += 1;
        }
        self.schedule.bury();
    }

    fn verify(&self) {
        let Promised {
            witnessed,
            disputes,
        } = &self.promised;
        let said = self.schedule.witnessed(&self.policy);
        assert!(
            said.size >= *witnessed,
            "{} entries are witnessed, and {witnessed} were",
            said.size
        );
        assert!(
            said.disputes <= disputes.len() as u64,
            "{} are recorded of {disputes:?}",
            said.disputes
        );
        for class in said.found {
            let expected = match class {
                "unwitnessed" => said.size == 0,
                "rolled_back" => said.disputes > 0,
                _ => false,
            };
            assert!(expected, "{class} is found");
        }
    }

    /// Has everything go right, and looks whether what was promised is there.
    fn check(&mut self) {
        self.schedule.check();
        self.note_disputes();
        self.verify();
        let witnesses = self.witnesses.iter();
        witnesses.for_each(|witness| witness.memory().doing = Doing::Answering);
        for _ in 0..2 {
            NOW.set(NOW.get() + Duration::from_secs(86_400));
            let process = self
                .schedule
                .open()
                .expect("it opens when nothing is wrong");
            process
                .log
                .flush()
                .expect("it's flushed when nothing is wrong");
            let (waited, log) = (process.log.witnessing().expect("it has some"), &process.log);
            let complete = waited.wait(log, None).is_ok();
            for _ in 0..3 {
                NOW.set(NOW.get() + Duration::from_secs(3600));
                process.look_after();
            }
            self.note_disputes();
            self.verify();
            // Who has seen another tree says so, and that is recorded.
            let size = log
                .offer()
                .expect("it's read")
                .expect("it's there")
                .checkpoint
                .size;
            let differs = |witness: &&Simulated| {
                let memory = witness.memory();
                memory.size > size
                    || memory.size > 0
                        && log.root_at(memory.size, size).expect("it's read") != memory.root
            };
            let differ = self.witnesses.iter().filter(differs).count();
            assert_eq!(complete, differ < 2, "{differ} have seen another tree");
            let again = waited.wait(log, None).is_ok();
            assert_eq!(again, complete, "{differ} have seen another tree");
            let recorded = self.schedule.witnessed(&self.policy).disputes;
            assert!(
                recorded >= differ as u64,
                "{differ} differ, and {recorded} are recorded"
            );
            self.check_cosigned(log, size);
            log.close();
        }
    }

    /// Each cosignature that is kept is of the tree as it is, and by a witness that has signed it.
    fn check_cosigned(&mut self, log: &Log, size: u64) {
        let policy = Policy::parse(policy_of(&self.witnesses).as_bytes()).expect("it's one");
        let mut roots = BTreeMap::new();
        for name in [".integrity/heads", ".integrity/checkpoint"] {
            for note in notes(&self.schedule.file(name)) {
                let parsed = Note::parse(note).expect("it's one");
                if parsed.count() == 1 {
                    continue;
                }
                let verifier = log.verifier().expect("it's sealed");
                let signed = Checkpoint::open(note, verifier).expect("the log has signed it");
                assert!(signed.size <= size, "{} is beyond {size}", signed.size);
                let root = roots
                    .entry(signed.size)
                    .or_insert_with(|| log.root_at(signed.size, size).expect("it's read"));
                assert_eq!(*root, signed.root, "at size {}", signed.size);
                for (witness, key) in self.witnesses.iter().zip(policy.witnesses()) {
                    if key
                        .key
                        .cosigned_at(&parsed)
                        .expect("it's by its key")
                        .is_some()
                    {
                        assert!(
                            witness
                                .memory()
                                .signed
                                .contains(&(signed.size, signed.root))
                        );
                        self.counts.cosigned += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn what_witnesses_signed_is_there_whatever_crashes_or_is_put_back_and_disputes_are_told_once() {
    let policy = std::env::temp_dir().join(format!("audit_logger-policy-{}", uuid::Uuid::new_v4()));
    let witnesses: Vec<Simulated> = (1..=WITNESSES).map(Simulated::new).collect();
    std::fs::write(&policy, policy_of(&witnesses)).expect("there's room");
    let mut all = Counts::default();
    play(200, |seed| {
        let mut world = World::new(seed, policy.clone());
        for _ in 0..10 + world.schedule.random.below(60) {
            world.step();
        }
        world.check();
        all.witnessed += world.counts.witnessed;
        all.put_back += world.counts.put_back;
        all.disputes += world.counts.disputes;
        all.cosigned += world.counts.cosigned;
    });
    std::fs::remove_file(&policy).expect("it's there");
    println!(
        "{} flushes were witnessed, {} cosignatures kept, {} times it was put back, {} disputes",
        all.witnessed, all.cosigned, all.put_back, all.disputes
    );
    // What never happens shows nothing.
    let least = all
        .witnessed
        .min(all.cosigned)
        .min(all.put_back)
        .min(all.disputes);
    assert!(least > 0 || std::env::var_os("AUDIT_TEST_SEED").is_some());
}
