//! Random changes to whole directories: of bytes, files and names, with older copies at hand. Each is
//! found, or harmless: whoever reads the files reads every sealed line as it was sealed.
//!
//! It runs for AUDIT_TEST_FUZZ_SECONDS (2 by default). A failure prints the seed of its round, which
//! AUDIT_TEST_FUZZ_SEED plays again.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::hashed::Queue;
use super::prove::{self, check, prove_in};
use super::source::memory::{InMemory, Node};
use super::testlog::{DAY, NEXT, TestLog, gzip};
use super::verify::{Options, verify_in};
use crate::format::record::RecordBody;
use crate::fuzzing::Random;

const FURTHER: &str = "audit_2026-11-24.1.jsonl";
const GONE: &str = "audit_2026-11-20.jsonl";

/// Names that somebody may give to a file, beside those that are there.
const NAMES: [&str; 10] = [
    GONE,
    "audit_2026-11-20.jsonl.gz",
    "audit_2026-11-24.jsonl.gz",
    "audit_2026-11-24.2.jsonl",
    "audit_2026-11-23.jsonl",
    "audit_2026-11-23.jsonl.1",
    "audit_2026-11-22.jsonl",
    ".integrity/recent",
    ".integrity/tile/0/001",
    ".integrity/tile/entries/001",
];

const PIECES: [&[u8]; 8] = [
    b"\n",
    b" ",
    b"\n\n",
    b"{\"id\":\"forged\"}\n",
    b"{\"id\":\"00000000-0000-4000-8000-000000000007\",\"forged\":1}\n",
    "\u{2014} ".as_bytes(),
    b"\0",
    b"\x00\x20",
];

/// A log, what it was before, and what was sealed.
struct Scene {
    log: TestLog,
    whole: InMemory,
    older: Vec<InMemory>,
    options: Options,
    /// The lines that are sealed of each file that is there.
    sealed: Vec<(&'static str, Vec<Vec<u8>>)>,
    gone: Vec<u8>,
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let not_blank = |line: &&[u8]| !line.iter().all(|byte| *byte == b' ');
    lines.filter(not_blank).map(<[u8]>::to_vec).collect()
}

fn bytes_of(memory: &InMemory, name: &str) -> Option<Vec<u8>> {
    match memory.0.get(name)? {
        Node::File(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

impl Scene {
    fn new() -> Scene {
        let mut log = TestLog::new();
        log.entries(GONE, 4);
        log.seg(GONE);
        log.entries(DAY, 40);
        log.append(DAY, b"        \n");
        log.seal(DAY);
        let mut older = vec![log.memory()];
        log.entries(NEXT, 130);
        log.seg(NEXT);
        log.entries(DAY, 20);
        log.seal(DAY);
        older.push(log.memory());
        log.entries(FURTHER, 10);
        log.seg(FURTHER);
        log.record(RecordBody::Prune {
            file: GONE.to_owned(),
        });
        log.entries(NEXT, 60);
        log.seal(NEXT);
        let mut whole = log.memory();
        let gone = bytes_of(&whole, GONE).unwrap();
        whole.0.remove(GONE);
        let mut sealed = Vec::new();
        for name in [DAY, NEXT, FURTHER] {
            sealed.push((name, lines(&bytes_of(&whole, name).unwrap())));
        }
        let day = bytes_of(&whole, DAY).unwrap();
        whole.0.remove(DAY);
        whole.0.insert(format!("{DAY}.gz"), Node::File(gzip(&day)));
        let options = Options {
            vkey: Some(log.vkey()),
            guard: Some(log.guard()),
            ..Options::default()
        };
        Scene {
            log,
            whole,
            older,
            options,
            sealed,
            gone,
        }
    }

    fn change(&self, random: &mut Random, memory: &mut InMemory) {
        let names: Vec<String> = memory.0.keys().cloned().collect();
        let name = names[random.below(names.len())].clone();
        let another = match random.below(2) {
            0 => names[random.below(names.len())].clone(),
            _ => NAMES[random.below(NAMES.len())].to_owned(),
        };
        let mut bytes = bytes_of(memory, &name).unwrap_or_default();
        let at = random.below(bytes.len() + 1);
        match random.below(12) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let piece = PIECES[random.below(PIECES.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            3 => bytes.extend_from_slice(PIECES[random.below(PIECES.len())]),
            4 => drop(bytes.drain(at..(at + random.below(300)).min(bytes.len()))),
            5 => {
                // A line put elsewhere.
                let mut all: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
                let (one, other) = (random.below(all.len()), random.below(all.len()));
                if !all.is_empty() {
                    all.swap(one, other);
                }
                bytes = all.concat();
            }
            6 => {
                memory.0.remove(&name);
                return;
            }
            7 => {
                let node = memory.0.remove(&name).unwrap();
                memory.0.insert(another, node);
                return;
            }
            8 => {
                let older = &self.older[random.below(self.older.len())];
                match older.0.get(&name) {
                    Some(node) => memory.0.insert(name, node.clone()),
                    None => memory.0.insert(another, Node::File(self.gone.clone())),
                };
                return;
            }
            9 => {
                let node = match random.below(2) {
                    0 => Node::Other,
                    _ => Node::Broken(bytes, at as u64),
                };
                memory.0.insert(name, node);
                return;
            }
            10 => {
                let (Some(one), Some(other)) = (memory.0.get(&name), memory.0.get(&another)) else {
                    return;
                };
                let (one, other) = (one.clone(), other.clone());
                memory.0.insert(name, other);
                memory.0.insert(another, one);
                return;
            }
            _ => {
                if name.ends_with(".jsonl") {
                    memory
                        .0
                        .insert(format!("{name}.gz"), Node::File(gzip(&bytes)));
                    if random.below(2) == 0 {
                        memory.0.remove(&name);
                    }
                } else {
                    memory.0.insert(another, Node::File(bytes));
                }
                return;
            }
        }
        memory.0.insert(name, Node::File(bytes));
    }

    /// What is wrong with a directory that was told to be intact.
    fn harm(&self, memory: &InMemory) -> Option<String> {
        let read = |name: &str| {
            let plain = bytes_of(memory, name);
            if plain.as_ref().is_some_and(|bytes| !bytes.is_empty()) {
                return plain;
            }
            let compressed = bytes_of(memory, &format!("{name}.gz"));
            let unpacked = compressed.map(|bytes| {
                let mut out = Vec::new();
                let read = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut out);
                read.map_or(Vec::new(), |_| out)
            });
            unpacked.or(plain)
        };
        for (name, sealed) in &self.sealed {
            let Some(found) = read(name).map(|bytes| lines(&bytes)) else {
                return Some(format!("{name} is gone"));
            };
            if found.len() < sealed.len() || found[..sealed.len()] != sealed[..] {
                return Some(format!("{name} reads otherwise"));
            }
        }
        match read(GONE) {
            Some(bytes) if bytes != self.gone => Some(format!("{GONE} is back")),
            _ => None,
        }
    }

    fn round(&self, seed: u64) {
        let mut random = Random::new(seed);
        let mut memory = self.whole.clone();
        for _ in 0..=random.below(3) {
            self.change(&mut random, &mut memory);
        }
        let queue = Queue::default();
        let report = verify_in(&memory, &self.options, &mut |_, _| {}, &|| false, &queue);
        let report = report.expect("there is a verdict");
        if report.intact() {
            assert_eq!(self.harm(&memory), None, "told to be intact");
        } else {
            assert!(report.verdict().is_err() && !report.findings.is_empty());
        }
        if !seed.is_multiple_of(4) {
            return;
        }
        let (_, sealed) = &self.sealed[random.below(self.sealed.len())];
        let line = &sealed[random.below(sealed.len())];
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        let id = value["id"].as_str().unwrap();
        let options = prove::Options {
            vkey: self.options.vkey.clone(),
            timestamp: (random.below(2) == 0).then(|| value["timestamp"].as_str().unwrap().into()),
            line: None,
        };
        if let Ok(proved) = prove_in(&memory, id, &options) {
            assert_eq!(&proved.line, line, "another line was proved");
            check(&proved.line, &proved.proof, &self.log.vkey()).expect("the proof holds");
        }
    }
}

#[test]
fn any_change_to_a_directory_is_found_or_harmless() {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let scene = Scene::new();
    assert_eq!(scene.harm(&scene.whole), None);
    if let Some(seed) = variable("AUDIT_TEST_FUZZ_SEED") {
        return scene.round(seed);
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let first = now.as_nanos() as u64;
    let ends =
        Instant::now() + Duration::from_secs(variable("AUDIT_TEST_FUZZ_SECONDS").unwrap_or(2));
    let mut rounds = 0;
    while Instant::now() < ends {
        let seed = first.wrapping_add(rounds);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scene.round(seed))) {
            eprintln!("AUDIT_TEST_FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
        rounds += 1;
    }
    println!("{rounds} directories");
}
