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

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Status};
use crate::json::show;
use crate::settings::{Setting, settings};

use super::find::{Found, Near, Wanted, file_of, index_of, line_nearby, lines_with, timestamp_of};
use super::report::Findings;
use super::source::{self, Directory, Files, TREE};
use super::tree::{Entries, Tiles, key, newest, own_checkpoints};
use super::verify::take_key;
use super::witnessed;
use crate::format::checkpoint::{Checkpoint, format_hash, parse_hash, parse_size};
use crate::format::merkle::{Hash, check_inclusion, leaf_hash, prove_inclusion, root_by_inclusion};
use crate::format::note::Verifier;
use crate::format::tiles::Tree;

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
    /// The hashes that lead from its leaf to the root, the leaf's sibling first.
    pub hashes: Vec<Hash>,
    /// The tree.
    pub checkpoint: Checkpoint,
    /// The proof's text.
    pub proof: String,
}

/// What is known beside the entry's id. With the line or the timestamp it's found without reading the
/// log from one end to the other.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The public key's text; that of the directory without it.
    pub vkey: Option<String>,
    /// The entry's line.
    pub line: Option<Vec<u8>>,
    /// Its timestamp, as it stands in it.
    pub timestamp: Option<String>,
}

impl Options {
    /// Reads them from a JSON object.
    pub fn parse(text: &str) -> Result<Options, Error> {
        let mut options = Options::default();
        for setting in settings("options: ", Status::Argument, text)? {
            match setting.key.as_str() {
                "line" => {
                    options.line = setting.or_null(Setting::text)?.map(String::into_bytes);
                }
                "timestamp" => options.timestamp = setting.or_null(Setting::text)?,
                _ => take_key(&mut options.vkey, &setting)?,
            }
        }
        Ok(options)
    }
}

/// Proves the entry with this id.
pub fn prove(path: &Path, id: &str, options: &Options) -> Result<Proved, Error> {
    prove_in(&source::open(path)?, id, options)
}

/// The same, of files wherever they are.
pub fn prove_in(files: &dyn Files, id: &str, options: &Options) -> Result<Proved, Error> {
    let directory = Directory::new(files, &|| false);
    let verifier = key(&directory, options.vkey.as_deref())?;
    let wanted = Wanted::new(id, options.line.as_deref(), options.timestamp.as_deref())?;
    let (mut checkpoint, mut note) = signed(&directory, &verifier)?;
    let mut all = Entries::signed(&directory, &checkpoint);
    let (found, line) = match options.line.as_deref() {
        Some(line) => {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            match line_nearby(&directory, &all, &wanted, line)? {
                Some(found) => found,
                None => line_in_tree(&all, line, id)?,
            }
        }
        None => lines_with(&directory, &all, &wanted)?,
    };
    let (file, index) = found;
    // One that others have signed says more than a newer one.
    let sizes = index + 1..=checkpoint.size;
    if let Some(cosigned) = witnessed::newest(&directory, &verifier, None, sizes) {
        (checkpoint, note) = cosigned;
        all = Entries::signed(&directory, &checkpoint);
    }
    let leaf = leaf_hash(&Sha256::digest(&line));
    let hashes = hashes_of(&all, index)?;
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
    Ok(Proved {
        file,
        line,
        index,
        hashes,
        checkpoint,
        proof,
    })
}

/// Finds a line in the tree alone: its file may be gone.
fn line_in_tree(all: &Entries, line: &[u8], id: &str) -> Result<Found, Error> {
    let digests = [Sha256::digest(line).into()];
    let near = timestamp_of(line).and_then(Near::time);
    let found = match index_of(all, &digests, near)? {
        None if near.is_some() => index_of(all, &digests, None)?,
        found => found,
    };
    let Some((index, _)) = found else {
        return Err(Error::new(
            Status::NotFound,
            format!(
                "the line isn't sealed as it stands: {} is too new, or was changed, which verify tells",
                show(id)
            ),
        ));
    };
    let file = file_of(all, index)?.unwrap_or_default();
    Ok(((file, index), line.to_vec()))
}

fn hashes_of(all: &Entries, index: u64) -> Result<Vec<Hash>, Error> {
    let wrong = |error| tampered(TREE, error);
    let tiles = Tiles::of(all).map_err(wrong)?;
    let tree = Tree::new(&tiles, all.size());
    let hashes = prove_inclusion(index, all.size(), &tree).map_err(wrong)?;
    Ok(hashes.unwrap_or_default())
}

/// Something in the tree isn't what was signed.
pub(super) fn tampered(file: &str, what: impl std::fmt::Display) -> Error {
    Error::new(
        Status::Tampered,
        format!("{file}: {what}; verify tells more"),
    )
}

/// The newest checkpoint that the key has signed, and its note.
pub(super) fn signed(
    directory: &Directory,
    verifier: &Verifier,
) -> Result<(Checkpoint, String), Error> {
    newest(directory, verifier).ok_or_else(|| {
        // Tell a log without any from one whose checkpoints are another key's.
        let mut findings = Findings::default();
        own_checkpoints(directory, Some(verifier), false, &mut findings);
        match findings.first() {
            Some(found) => tampered(&found.file, &found.message),
            None => tampered(TREE, "there is no checkpoint"),
        }
    })
}

/// The root that hashes lead to from a line, as entry `index` of a tree of that size; `None` if they aren't as many
/// as from there.
pub fn root_from(line: &[u8], index: u64, size: u64, hashes: &[Hash]) -> Option<Hash> {
    root_by_inclusion(hashes, index, &leaf_hash(&Sha256::digest(line)), size)
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
