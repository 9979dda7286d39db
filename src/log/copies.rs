//! A copy of a log that is written meanwhile, its tree file by file: whatever order the files are taken in,
//! and however much is written between two of them, it's intact up to some size, or says what it lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::directory::Directory;
use super::disk::Access;
use super::disk::simulated::Machine;
use super::schedules::{NOW, line, now};
use super::{Log, Sealing, Settings};
use crate::error::Status;
use crate::read::source::memory::InMemory;
use crate::read::verify::{Options, verify_files};

type Files = BTreeMap<String, Vec<u8>>;

/// What the directory held at some moments, so many entries apart.
fn moments(entries: &[usize]) -> Vec<Files> {
    NOW.set(Duration::from_secs(86_400 * 3000));
    let machine = Machine::new(1);
    let settings = Settings {
        path: "/simulated".into(),
        access: Access::Owner,
        allow_network: false,
        to_disk: false,
        now: now as fn() -> SystemTime,
        gap_entry: None,
        sealing: Some(Sealing {
            key: None,
            guard_file: None,
            origin: None,
            interval: Duration::ZERO,
            heartbeat: Duration::MAX,
            hash_key_id: None,
        }),
        witnessing: None,
    };
    let (root, _) = machine.process();
    let directory = Directory::simulated(root).unwrap();
    let log = Log::of(Arc::new(directory), &Arc::new(settings), true).unwrap();
    log.care.end();
    let mut ids = 0;
    let mut taken = Vec::new();
    for count in entries {
        for _ in 0..*count {
            ids += 1;
            log.append(&mut line(Uuid::from_u128(ids), 1)).unwrap();
        }
        log.flush().unwrap();
        taken.push(machine.files());
    }
    taken
}

/// Copies each file of the tree at each of the moments, in every combination, and verifies.
#[track_caller]
fn every_copy(moments: &[Files], with: &[&str]) {
    let is_of_tree = |name: &&String| {
        name.starts_with(".integrity/") && with.iter().any(|with| name.ends_with(with))
    };
    let names: BTreeSet<&String> = moments.iter().flat_map(|files| files.keys()).collect();
    let names: Vec<&String> = names.into_iter().filter(is_of_tree).collect();
    let last = moments.last().unwrap();
    // What isn't varied, and the days' files, which are copied behind the tree.
    let base: Files = last
        .iter()
        .filter(|(name, _)| !names.contains(name))
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect();
    // Beside the moments: the tiles were just settled, and `recent` emptied.
    let emptied = Files::from([(".integrity/recent".to_owned(), Vec::new())]);
    let choices = |name: &String| {
        let further = (*name == ".integrity/recent").then_some(&emptied);
        moments.iter().chain(further).collect::<Vec<_>>()
    };
    let choices: Vec<Vec<&Files>> = names.iter().map(|name| choices(name)).collect();
    let mut at = vec![0; names.len()];
    let (mut copies, mut sizes, mut lacking) = (0, BTreeSet::new(), 0);
    let options = Options {
        copy: true,
        ..Options::default()
    };
    loop {
        let mut copy = base.clone();
        for (number, name) in names.iter().enumerate() {
            if let Some(bytes) = choices[number][at[number]].get(*name) {
                copy.insert((*name).clone(), bytes.clone());
            }
        }
        copies += 1;
        match verify_files(&InMemory::of(copy), &options) {
            Ok(report) => {
                assert_eq!(report.findings, [], "{names:?}: {at:?}");
                sizes.insert(report.size);
            }
            Err(error) => {
                assert_eq!(
                    error.status,
                    Status::NotFound,
                    "{names:?}: {at:?}: {error:?}"
                );
                assert!(error.message.contains("the copy "), "{}", error.message);
                lacking += 1;
            }
        }
        let Some(next) = (0..at.len()).find(|number| at[*number] + 1 < choices[*number].len())
        else {
            break;
        };
        at[next] += 1;
        at[..next].fill(0);
    }
    println!("{copies} copies of {names:?}: intact up to {sizes:?}, {lacking} lacked something");
    // All moments were come to, and not only the first.
    let whole = moments.iter().filter(|files| !files.is_empty());
    assert!(sizes.len() >= whole.count(), "{sizes:?}");
}

#[test]
fn a_copy_of_a_tree_that_grows_meanwhile_is_intact_up_to_some_size() {
    let files = [
        "checkpoint",
        "heads",
        "recent",
        "tile/0/000",
        "tile/entries/000",
    ];
    let mut moments = moments(&[1, 2, 3]);
    // It was just being begun when the first were copied.
    moments.insert(0, Files::new());
    every_copy(&moments, &files);
}

#[test]
fn so_is_one_that_grows_over_the_end_of_a_tile() {
    let files = [
        "checkpoint",
        "heads",
        "recent",
        "0/000",
        "0/001",
        "1/000",
        "entries/000",
        "entries/001",
    ];
    every_copy(&moments(&[250, 10]), &files);
}

#[test]
fn so_is_one_with_whichever_partial_tiles_were_caught() {
    let moments = moments(&[1, 2, 1]);
    let names: BTreeSet<&String> = moments.iter().flat_map(|files| files.keys()).collect();
    let partial = names.into_iter().filter(|name| name.contains(".p/"));
    let partial: Vec<&str> = partial.map(String::as_str).collect();
    let files = [&["checkpoint", "recent", "tile/entries/000"][..], &partial].concat();
    every_copy(&moments, &files[..7.min(files.len())]);
}

#[test]
fn a_copy_that_was_changed_is_none() {
    let moments = moments(&[1, 2, 1]);
    let options = Options {
        copy: true,
        ..Options::default()
    };
    let last = moments.last().unwrap();
    for name in last.keys().filter(|name| {
        [
            "tile/0/000",
            "tile/entries/000",
            "checkpoint",
            "heads",
            ".jsonl",
        ]
        .iter()
        .any(|end| name.ends_with(end))
    }) {
        let mut copy = last.clone();
        let bytes = copy.get_mut(name).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        // Without `recent`, which would stand in for a tile.
        copy.remove(".integrity/recent");
        let found = verify_files(&InMemory::of(copy), &options);
        assert!(
            !found.is_ok_and(|report| report.intact()),
            "{name} was changed, and nothing said"
        );
    }
}
