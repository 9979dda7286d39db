//! The trees of a fleet, as a sealer that is always a second behind would leave them; but without the tiles of hashes,
//! which nobody reads at the far end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use audit_logger::tool::checkpoint::Checkpoint;
use audit_logger::tool::note::Signer;
use audit_logger::tool::record::{Range, Record, RecordBody};
use audit_logger::tool::tiles::{Growth, Kind};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Result;
use crate::line::Fleet;

/// How many lines are sealed at once: of a million a day, those of a second.
const SEALED_AT_ONCE: u64 = 12;
/// How many checkpoints `heads` has, as it's thinned.
const HEADS: u64 = 4000;
/// Entries that wait to be written.
const WAITING: u64 = 1 << 16;

/// Writes the tree of each host, and the list of them. Returns its path.
pub fn write(room: &Path, fleet: &Fleet) -> Result<PathBuf> {
    let next = AtomicU64::new(0);
    let work = || -> std::result::Result<(), String> {
        loop {
            let host = next.fetch_add(1, Ordering::Relaxed);
            if host >= fleet.hosts {
                return Ok(());
            }
            write_one(room, fleet, host).map_err(|error| error.to_string())?;
        }
    };
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    let hosts = (0..fleet.hosts).map(|host| fleet.name(host));
    let hosts: Vec<_> = hosts
        .map(|name| json!({"name": name, "tree": name}))
        .collect();
    let list = room.join("fleet.json");
    fs::write(&list, json!({"hosts": hosts}).to_string())?;
    Ok(list)
}

fn write_one(room: &Path, fleet: &Fleet, host: u64) -> Result<()> {
    let name = fleet.name(host);
    let tree = room.join(&name).join(".integrity");
    fs::create_dir_all(&tree)?;
    let signer = Signer::from_seed(&name, &[7; 32])?;
    fs::write(tree.join("vkey"), format!("{}\n", signer.verifier()))?;
    let mut growth = Growth::default();
    let mut heads = String::new();
    let record = |growth: &mut Growth, body| {
        let ts = "2026-11-24T00:00:00.000000Z".to_owned();
        growth
            .push(&Record { ts, body }.encode())
            .map_err(|_| "a record is short")
    };
    let origin = name.clone();
    record(
        &mut growth,
        RecordBody::Settings {
            version: 1,
            origin,
            hash_key_id: None,
        },
    )?;
    let every = fleet.lines.div_ceil(HEADS).max(SEALED_AT_ONCE);
    let mut line = Vec::new();
    let mut noted = 0;
    for from in (0..fleet.lines).step_by(SEALED_AT_ONCE as usize) {
        let to = (from + SEALED_AT_ONCE).min(fleet.lines);
        let length = fleet.length() as u64;
        let range = Range {
            file: "audit_2026-11-23.jsonl".to_owned(),
            off: from * length,
            len: (to - from) * length,
        };
        record(
            &mut growth,
            RecordBody::Seg {
                range,
                lines: to - from,
            },
        )?;
        for number in from..to {
            line.clear();
            fleet.write(host * fleet.lines + number, &mut line);
            let digest = Sha256::digest(&line[..line.len() - 1]);
            growth.push(&digest).map_err(|_| "a digest is short")?;
        }
        if to - noted >= every || to == fleet.lines {
            noted = to;
            heads += &note(&signer, &growth);
        }
        if from % WAITING < SEALED_AT_ONCE || to == fleet.lines {
            flush(&tree, &mut growth)?;
        }
    }
    fs::write(tree.join("heads"), heads)?;
    fs::write(tree.join("checkpoint"), note(&signer, &growth))?;
    Ok(())
}

fn note(signer: &Signer, growth: &Growth) -> String {
    let edge = growth.edge();
    let checkpoint = Checkpoint {
        origin: signer.verifier().name().to_owned(),
        size: edge.size(),
        root: edge.root(),
    };
    signer.sign(&checkpoint.to_string())
}

fn flush(tree: &Path, growth: &mut Growth) -> Result<()> {
    for append in growth
        .take()
        .into_iter()
        .filter(|append| append.kind == Kind::Entries)
    {
        let path = tree.join(&append.path);
        let mut bytes = match append.offset {
            0 => Vec::new(),
            _ => fs::read(&path)?,
        };
        fs::create_dir_all(path.parent().ok_or("a tile has a directory")?)?;
        bytes.extend_from_slice(&append.bytes);
        fs::write(path, bytes)?;
    }
    Ok(())
}
