//! The tree as its files hold it: the entries, those included whose tiles aren't settled yet, and what
//! is signed.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::error::{Error, Status};
use crate::format::checkpoint::{Checkpoint, notes};
use crate::format::merkle::{Edge, leaf_hash};
use crate::format::note::Verifier;
use crate::format::recent::{self, frames};
use crate::format::tiles::{
    Append, Fetch, Growth, Kind, Tile, TileError, Tree, WIDTH, entries, entries_len, read,
};

use super::report::{Class, Findings};
use super::source::{Directory, TREE};

/// The public key that is given, or the directory's own.
pub fn key(directory: &Directory, given: Option<&str>) -> Result<Verifier, Error> {
    if let Some(text) = given {
        return Verifier::parse(text).map_err(Error::argument);
    }
    let wrong = |what: String| Error::new(Status::Tampered, format!("{TREE}/vkey: {what}"));
    let bytes = directory
        .beginning("vkey", 4096)
        .map_err(|error| wrong(error.to_string()))?;
    let Some(bytes) = bytes else {
        // A log that was ever sealed has heads.
        return Err(match directory.notes("heads") {
            Ok(None) => Error::new(
                Status::NotFound,
                format!(
                    "there is no {TREE}/vkey: the log isn't sealed, or was until its tree was removed"
                ),
            ),
            _ => wrong("is missing".to_owned()),
        });
    };
    Verifier::parse(&String::from_utf8_lossy(&bytes)).map_err(wrong)
}

/// A checkpoint of the directory's own, and its note.
pub type Signed = (Checkpoint, String);

/// The directory's own checkpoints: those in `heads`, and the published one. What isn't signed by the
/// key, or can't be read, is found. Where there is no key, any is taken. A copy may lack the published one.
pub fn own_checkpoints(
    directory: &Directory,
    verifier: Option<&Verifier>,
    copy: bool,
    findings: &mut Findings,
) -> Vec<Checkpoint> {
    let mut found = Vec::new();
    for name in ["heads", "checkpoint"] {
        let bytes = match directory.notes(name) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                findings.tree(Class::Unreadable, name, error.to_string());
                continue;
            }
        };
        let candidates = match name {
            "heads" => notes(&bytes),
            _ => Vec::from([std::str::from_utf8(&bytes).unwrap_or_default()]),
        };
        for (at, note) in candidates.into_iter().enumerate() {
            match open(note, verifier) {
                Ok(checkpoint) => found.push(checkpoint),
                Err(_) if bytes.is_empty() && copy => {}
                Err(_) if bytes.is_empty() => {
                    let message = "there is no checkpoint".to_owned();
                    findings.tree(Class::Missing, name, message);
                }
                Err(error) => {
                    let message = format!("checkpoint {} {error}", at + 1);
                    findings.tree(Class::Forged, name, message);
                }
            }
        }
    }
    found
}

fn open(note: &str, verifier: Option<&Verifier>) -> Result<Checkpoint, String> {
    match verifier {
        Some(verifier) => Checkpoint::open(note, verifier).map_err(|error| error.to_string()),
        None => note
            .split_once("\n\n")
            .and_then(|(text, _)| Checkpoint::parse(&format!("{text}\n")))
            .ok_or_else(|| "isn't one".to_owned()),
    }
}

/// How many entries there are in tiles, signed or not: what can be compared where no checkpoint can be read.
pub fn unsigned_size(directory: &Directory) -> u64 {
    let tile = |number| Tile {
        kind: Kind::Entries,
        number,
        width: WIDTH,
    };
    let is_there = |number| {
        let opened = directory.open(&format!("{TREE}/{}", tile(number).full_path()));
        matches!(opened, Ok(Some(_)))
    };
    let mut beyond = 1;
    while is_there(beyond) {
        beyond *= 2;
    }
    let mut last = beyond / 2;
    while beyond - last > 1 {
        let middle = last + (beyond - last) / 2;
        match is_there(middle) {
            true => last = middle,
            false => beyond = middle,
        }
    }
    let bytes = directory.fetch(&tile(last).full_path());
    let bytes = bytes.ok().flatten().unwrap_or_default();
    last * WIDTH + entries(&bytes).take(WIDTH as usize).count() as u64
}

/// The newest checkpoint that the key has signed.
pub fn newest(directory: &Directory, verifier: &Verifier) -> Option<Signed> {
    let mut newest: Option<Signed> = None;
    for name in ["checkpoint", "heads"] {
        let bytes = directory.notes(name).ok().flatten().unwrap_or_default();
        if let Some((checkpoint, note)) =
            crate::format::checkpoint::newest_checkpoint(&bytes, verifier)
            && newest
                .as_ref()
                .is_none_or(|(newest, _)| newest.size < checkpoint.size)
        {
            newest = Some((checkpoint, note.to_owned()));
        }
    }
    newest
}

/// The entries that `recent` holds.
struct Recent {
    bytes: Vec<u8>,
    /// Of each frame: the index of its first entry, and where its entries are.
    frames: Vec<(u64, std::ops::Range<usize>)>,
    end: u64,
}

impl Recent {
    fn read(directory: &Directory) -> Option<Recent> {
        // Whatever is wrong with it, it only isn't there: entries are missed, or they aren't.
        let bytes = directory
            .beginning("recent", recent::MOST as u64)
            .ok()
            .flatten()?;
        let mut found = Vec::new();
        let (mut end, mut at) = (0, 0);
        for frame in frames(&bytes) {
            // The payload stands behind the head of its frame.
            let start = frame.entries.as_ptr() as usize - bytes.as_ptr() as usize;
            at = start + frame.entries.len();
            found.push((frame.first, start..at));
            end = frame.end();
        }
        let mut bytes = bytes;
        bytes.truncate(at);
        bytes.shrink_to_fit();
        (!found.is_empty()).then_some(Recent {
            bytes,
            frames: found,
            end,
        })
    }

    fn base(&self) -> u64 {
        self.frames.first().map_or(0, |(first, _)| *first)
    }

    /// The entries from `from`, at least the base, to `to`, in tile form, as far as they are there.
    fn between(&self, from: u64, to: u64) -> Vec<u8> {
        let at = self.frames.partition_point(|(first, _)| *first <= from);
        let mut out = Vec::new();
        for (first, range) in self.frames.iter().skip(at.saturating_sub(1)) {
            if *first >= to {
                break;
            }
            for (index, entry) in (*first..).zip(entries(&self.bytes[range.clone()])) {
                if (from..to).contains(&index) {
                    out.extend_from_slice(&(entry.len() as u16).to_be_bytes());
                    out.extend_from_slice(entry);
                }
            }
        }
        out
    }
}

/// The entries of a tree of some size, and its tiles.
pub struct Entries<'d> {
    directory: &'d Directory<'d>,
    size: u64,
    recent: Option<Rc<Recent>>,
}

impl<'d> Entries<'d> {
    /// The entries of the first `size`. Read behind what told the size: from then on each entry is in a
    /// tile or in `recent`.
    pub fn read(directory: &'d Directory<'d>, size: u64) -> Entries<'d> {
        let recent = Recent::read(directory).map(Rc::new);
        let all = Entries {
            directory,
            size,
            recent,
        };
        all.first(size)
    }

    /// The first so many of them. Nothing is read for that.
    pub fn first(&self, size: u64) -> Entries<'d> {
        let recent = self.recent.as_ref().filter(|recent| recent.base() < size);
        Entries {
            directory: self.directory,
            size,
            recent: recent.cloned(),
        }
    }

    /// The entries that a checkpoint covers. What isn't in the tiles counts only if it leads to its root.
    pub fn signed(directory: &'d Directory<'d>, checkpoint: &Checkpoint) -> Entries<'d> {
        let mut all = Entries::read(directory, checkpoint.size);
        let settled = all.settled();
        if settled < all.size {
            let edge = Edge::read(settled, &Tree::new(directory, settled));
            if !edge.is_ok_and(|edge| all.lead_to(edge, checkpoint)) {
                all.drop_recent();
            }
        }
        all
    }

    /// How many there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// From which entry on tiles may be behind.
    pub fn settled(&self) -> u64 {
        self.recent
            .as_ref()
            .map_or(self.size, |recent| recent.base())
    }

    /// From now on only what the tiles hold counts.
    pub fn drop_recent(&mut self) {
        self.recent = None;
    }

    /// Whether the entries lead from an edge, where what is settled ends, to a root that is signed.
    pub fn lead_to(&self, mut edge: Edge, signed: &Checkpoint) -> bool {
        while edge.size() < signed.size.min(self.size) {
            let number = edge.size() / WIDTH;
            let Ok(bytes) = self.tile(number) else {
                return false;
            };
            let before = edge.size();
            let skipped = (before % WIDTH) as usize;
            let left = (signed.size - before) as usize;
            for entry in entries(&bytes).skip(skipped).take(left) {
                edge.append(leaf_hash(entry), |_, _, _| {});
            }
            if edge.size() == before {
                return false;
            }
        }
        edge.size() == signed.size && edge.root() == signed.root
    }

    /// The tile of entries of a number, as wide as the size has it.
    pub fn tile(&self, number: u64) -> Result<Vec<u8>, TileError> {
        let first = number * WIDTH;
        let tile = |width| Tile {
            kind: Kind::Entries,
            number,
            width,
        };
        let whole = tile((self.size - first).min(WIDTH));
        let end = first + whole.width;
        let Some(recent) = self.recent.as_ref().filter(|recent| recent.base() < end) else {
            return read(self.directory, &whole);
        };
        let from = first.max(recent.base());
        let to = end.min(recent.end);
        if to <= from {
            return read(self.directory, &whole);
        }
        let mut bytes = match from - first {
            0 => Vec::new(),
            width => read(self.directory, &tile(width))?,
        };
        bytes.extend(recent.between(from, to));
        if to < end {
            let all = read(self.directory, &whole)?;
            let before = entries_len(&all, to - first).unwrap_or(all.len());
            bytes.extend_from_slice(&all[before..]);
        }
        Ok(bytes)
    }
}

/// The tiles of a tree, with those that aren't settled made from the entries.
pub struct Tiles<'e> {
    directory: &'e Directory<'e>,
    made: BTreeMap<String, Append>,
}

impl<'e> Tiles<'e> {
    /// The tiles of the entries.
    pub fn of(entries: &Entries<'e>) -> Result<Tiles<'e>, TileError> {
        let settled = entries.settled();
        let mut made = BTreeMap::new();
        if settled < entries.size {
            let known = Tiles {
                directory: entries.directory,
                made: BTreeMap::new(),
            };
            let mut growth: Growth = Tree::new(&known, settled).growth()?;
            for number in settled / WIDTH..entries.size.div_ceil(WIDTH) {
                let bytes = entries.tile(number)?;
                let skipped = settled.saturating_sub(number * WIDTH) as usize;
                for entry in crate::format::tiles::entries(&bytes).skip(skipped) {
                    // An entry that was read is no longer than one may be.
                    let _ = growth.push(entry);
                }
            }
            // Of what is taken, only the hashes are asked for.
            let hashes = growth
                .take()
                .into_iter()
                .filter(|append| !append.path.starts_with("tile/entries"));
            made.extend(hashes.map(|append| (append.path.clone(), append)));
        }
        Ok(Tiles {
            directory: entries.directory,
            made,
        })
    }
}

impl Fetch for Tiles<'_> {
    fn fetch(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(append) = self.made.get(path) else {
            return self.directory.fetch(path);
        };
        let mut bytes = match append.offset {
            0 => Vec::new(),
            _ => self.directory.fetch(path)?.unwrap_or_default(),
        };
        bytes.truncate(append.offset as usize);
        bytes.extend_from_slice(&append.bytes);
        Ok(Some(bytes))
    }
}
