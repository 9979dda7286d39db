//! The proof that one entry is in the log, after C2SP tlog-proof, and its check. Nothing else of
//! the log is shown.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 12
//! <base64 of a hash, the leaf's sibling first>
//! ...
//!
//! <the checkpoint, a signed note>
//! ```
//!
//! The leaf is the entry of the tree: `SHA-256(0x00 || SHA-256(line))`, the line without its line
//! feed.

use std::io::{BufRead, BufReader};
use std::path::Path;

use memchr::memmem;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Status};
use crate::json::show;

use super::align::Findings;
use super::source::{Directory, TREE};
use super::verify::{key, own_checkpoints};
use crate::format::checkpoint::{Checkpoint, format_hash, last_checkpoint, parse_hash, parse_size};
use crate::format::merkle::{Hash, check_inclusion, leaf_hash, prove_inclusion};
use crate::format::note::Verifier;
use crate::format::tiles::{Kind, Tile, Tree, entries, read};

/// The first line of a proof.
const HEAD: &str = "c2sp.org/tlog-proof@v1";

/// A tree of 2^64 entries has no longer proof.
const MAX_HASHES: usize = 64;

/// An entry and its proof.
#[derive(Debug, Clone)]
pub struct Proved {
    /// The file that the line is in.
    pub file: String,
    /// The line, without its line feed.
    pub line: Vec<u8>,
    /// Its place in the tree.
    pub index: u64,
    /// The proof's text.
    pub proof: String,
}

/// Proves the entry with this id, with the public key that is given or the directory's own.
pub fn prove(path: &Path, id: &str, vkey: Option<&str>) -> Result<Proved, Error> {
    let absent = |why: String| Error::new(Status::NotFound, why);
    let directory = Directory::open(path)?;
    let verifier = key(&directory, vkey)?;
    // An entry can stand twice, should a disk have failed; one of the two may not be sealed.
    let candidates = lines_of(&directory, id).map_err(Error::log)?;
    if candidates.is_empty() {
        return Err(absent(format!("no entry has the id {}", show(id))));
    }
    let (checkpoint, note) = newest(&directory, &verifier)?;
    let digests: Vec<Hash> = candidates
        .iter()
        .map(|(_, line)| Sha256::digest(line).into())
        .collect();
    let (index, at) = index_of(&directory, checkpoint.size, &digests)?.ok_or_else(|| {
        let (file, _) = &candidates[0];
        absent(format!(
            "{file}: the entry isn't sealed as it stands: it is too new, or was changed, which verify tells"
        ))
    })?;

    let hashes = prove_inclusion(
        index,
        checkpoint.size,
        &Tree::new(&directory, checkpoint.size),
    )
    .map_err(|error| tampered(TREE, error))?
    .unwrap_or_default();
    let leaf = leaf_hash(&digests[at]);
    if !check_inclusion(&hashes, index, &leaf, checkpoint.size, &checkpoint.root) {
        return Err(tampered(TREE, "the tree isn't the one that was signed"));
    }
    let mut proof = format!("{HEAD}\nindex {index}\n");
    for hash in &hashes {
        proof.push_str(&format_hash(hash));
        proof.push('\n');
    }
    proof.push('\n');
    proof.push_str(&note);
    let (file, line) = candidates.into_iter().nth(at).unwrap_or_default();
    Ok(Proved {
        file,
        line,
        index,
        proof,
    })
}

/// Something in the tree isn't what was signed.
fn tampered(file: &str, what: impl std::fmt::Display) -> Error {
    Error::new(
        Status::Tampered,
        format!("{file}: {what}; verify tells more"),
    )
}

/// The lines with this id, and their files.
fn lines_of(directory: &Directory, id: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut found = Vec::new();
    for file in directory.days().map_err(|error| error.to_string())? {
        let wrong = |error: std::io::Error| format!("{file}: {error}");
        let Some(source) = directory.day(&file, 0).map_err(wrong)? else {
            continue;
        };
        let finder = memmem::Finder::new(id.as_bytes());
        let mut source = BufReader::with_capacity(256 * 1024, source);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).map_err(wrong)? > 0 {
            if finder.find(&line).is_some() {
                line.pop_if(|last| *last == b'\n');
                // It must be the line's own id, not one that its metadata mentions.
                let read: Result<serde_json::Value, _> = serde_json::from_slice(&line);
                if read.is_ok_and(|value| value.get("id").and_then(|id| id.as_str()) == Some(id)) {
                    found.push((file.clone(), line.clone()));
                }
            }
            line.clear();
        }
    }
    Ok(found)
}

/// The newest checkpoint that the key has signed, and its note.
fn newest(directory: &Directory, verifier: &Verifier) -> Result<(Checkpoint, String), Error> {
    let mut newest: Option<(Checkpoint, String)> = None;
    for name in ["checkpoint", "heads"] {
        let bytes = directory
            .text(name)
            .map_err(|error| Error::log(format!("{TREE}/{name}: {error}")))?
            .unwrap_or_default();
        if let Some((checkpoint, note)) = last_checkpoint(&bytes, verifier)
            && newest
                .as_ref()
                .is_none_or(|(newest, _)| newest.size < checkpoint.size)
        {
            newest = Some((checkpoint, note.to_owned()));
        }
    }
    match newest {
        Some(newest) => Ok(newest),
        None => {
            // Tell a log without any from one whose checkpoints are another key's.
            let mut findings = Findings::default();
            own_checkpoints(directory, verifier, &mut findings)?;
            Err(match findings.kept.first() {
                Some(found) => tampered(&found.file, &found.message),
                None => tampered(TREE, "there is no checkpoint"),
            })
        }
    }
}

/// The first place in the tree that holds one of the digests, and which.
fn index_of(
    directory: &Directory,
    size: u64,
    digests: &[Hash],
) -> Result<Option<(u64, usize)>, Error> {
    let mut index = 0;
    for tile in Tile::all(Kind::Entries, size) {
        let bytes = read(directory, &tile).map_err(|error| tampered(TREE, error))?;
        for entry in entries(&bytes) {
            if let Some(at) = digests.iter().position(|digest| digest == entry) {
                return Ok(Some((index, at)));
            }
            index += 1;
        }
    }
    Ok(None)
}

/// What a proof shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The line's place in the tree.
    pub index: u64,
    /// The tree.
    pub checkpoint: Checkpoint,
}

/// Checks that `line` is an entry of the log that `vkey` signs.
pub fn check(line: &[u8], proof: &str, vkey: &str) -> Result<Checked, String> {
    let verifier = Verifier::parse(vkey)?;
    let form = |what: &str| format!("the proof {what}; right is a {HEAD} text");
    let (head, note) = proof
        .split_once("\n\n")
        .ok_or_else(|| form("has no empty line"))?;
    let mut lines = head.split('\n').peekable();
    if lines.next() != Some(HEAD) {
        return Err(form("begins otherwise"));
    }
    lines.next_if(|line| line.starts_with("extra "));
    let index = lines
        .next()
        .and_then(|line| line.strip_prefix("index "))
        .and_then(parse_size)
        .ok_or_else(|| form("has no index"))?;
    let hashes = lines
        .take(MAX_HASHES + 1)
        .map(parse_hash)
        .collect::<Option<Vec<Hash>>>()
        .filter(|hashes| hashes.len() <= MAX_HASHES)
        .ok_or_else(|| form("has a line that isn't a hash, or too many"))?;
    let checkpoint = Checkpoint::open(note, &verifier)
        .map_err(|error| format!("the proof's checkpoint {error}"))?;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let leaf = leaf_hash(&Sha256::digest(line));
    if !check_inclusion(&hashes, index, &leaf, checkpoint.size, &checkpoint.root) {
        return Err(format!(
            "the line isn't entry {index} of {}: the proof leads to another root",
            checkpoint.origin
        ));
    }
    Ok(Checked { index, checkpoint })
}
