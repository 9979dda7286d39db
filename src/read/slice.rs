//! A slice of a log: the sealed lines of some days, and what proves that they are in its tree.
//!
//! The proof is the tree from left to right: the leaves that are shown, and between them the fewest
//! complete nodes that cover what isn't. Who folds it together, as a tree grows, comes to its root. A
//! slice of everybody's lines shows the tree's records as well, from the last seal of another day before its
//! days to the first one behind them: they say of each line that there is one.
//!
//! Reads the tree twice and the lines once, from front to back, so memory stays flat.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use super::lines::Lines;
use super::prove::{signed, tampered};
use super::source::{Bytes, Directory, TREE, not_the_file_s};
use super::tree::{Entries, Tiles};
use super::witnessed::{self, key_by};
use crate::config::read_policy;
use crate::error::{Error, Status};
use crate::format::checkpoint::{Checkpoint, format_hash};
use crate::format::merkle::{Edge, Nodes, leaf_hash};
use crate::format::name::DayName;
use crate::format::note::Verifier;
use crate::format::policy::Policy;
use crate::format::record::{Record, RecordBody};
use crate::format::tiles::{Tree, WIDTH, entries};

/// The first line of a proof.
const HEAD: &str = "audit_logger slice 1";

/// The length of a digest, which no record has.
const DIGEST: usize = 32;

/// How many files are held open: several are written at once about midnight, and where a disk failed.
const MOST_OPEN: usize = 8;

/// How many nodes are read before the tiles that they are in are forgotten.
const MOST_NODES: u32 = 256;

/// Which slice.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The public key's text; the policy's or that of the directory without it.
    pub vkey: Option<String>,
    /// The file with the policy whose quorum must have signed the checkpoint.
    pub policy: Option<PathBuf>,
    /// The first day, as a file's name has it.
    pub from: String,
    /// The last day.
    pub to: String,
}

/// Whether a line is to be shown.
pub type Wanted<'w> = &'w dyn Fn(&[u8]) -> bool;

/// A slice that was found.
pub struct Slice<'d> {
    directory: &'d Directory<'d>,
    from: [u8; 10],
    to: [u8; 10],
    /// Whose log it is.
    pub verifier: Verifier,
    /// The tree that it's proved to be in.
    pub checkpoint: Checkpoint,
    /// The checkpoint's note, with all signatures.
    pub note: String,
    all: Entries<'d>,
    span: Span,
    /// Of the newest tree that was read, whole.
    edge: Edge,
}

/// Where in the tree the days are.
#[derive(Default)]
struct Span {
    /// The last seal of another day before what is of them, or the tree's beginning.
    first: u64,
    /// Behind their last line.
    end: u64,
    /// Behind the first seal of another day after that, or the tree's end.
    after: u64,
    /// The files that retention has removed.
    removed: BTreeSet<String>,
    /// Up to where each file of the days is sealed.
    sealed: BTreeMap<DayName, u64>,
}

/// What of the days a slice has, and hasn't.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that it shows.
    pub lines: u64,
    /// Sealed lines whose file retention has removed.
    pub removed: u64,
    /// Sealed lines that are too long for an entry.
    pub too_long: u64,
    /// Bytes at the ends of plain files that aren't sealed.
    pub unsealed_bytes: u64,
}

impl<'d> Slice<'d> {
    /// Finds the days in the tree, and the checkpoint: the newest that others have signed, as the policy
    /// wants it if there is one, or else the newest.
    pub fn find(directory: &'d Directory<'d>, options: &Options) -> Result<Slice<'d>, Error> {
        let day = |text: &str| <[u8; 10]>::try_from(text.as_bytes()).ok();
        let (Some(from), Some(to)) = (day(&options.from), day(&options.to)) else {
            return Err(Error::argument("the days must be dates, YYYY-MM-DD"));
        };
        let policy = options.policy.as_deref().map(read_policy).transpose();
        let policy = policy.map_err(|wrong| Error::argument(format!("the policy {wrong}")))?;
        let (verifier, _) = key_by(directory, options.vkey.as_deref(), policy.as_ref())?;
        let (newest, note) = signed(directory, &verifier)?;
        let all = Entries::signed(directory, &newest);
        let mut slice = Slice {
            directory,
            from,
            to,
            verifier,
            checkpoint: newest,
            note,
            all,
            span: Span::default(),
            edge: Edge::default(),
        };
        (slice.span, slice.edge) = slice.locate()?;
        if slice.span.end == 0 {
            return Err(Error::new(
                Status::NotFound,
                format!("nothing is sealed of {} to {}", options.from, options.to),
            ));
        }
        if let Some((checkpoint, note)) = slice.cosigned(policy.as_ref())? {
            slice.all = Entries::signed(directory, &checkpoint);
            slice.span.after = slice.span.after.min(checkpoint.size);
            (slice.checkpoint, slice.note) = (checkpoint, note);
        }
        Ok(slice)
    }

    /// How much of the tree has all that is shown.
    pub fn reach(&self) -> u64 {
        self.span.after
    }

    fn has(&self, day: DayName) -> bool {
        (self.from..=self.to).contains(&day.date)
    }

    fn locate(&self) -> Result<(Span, Edge), Error> {
        let mut span = Span::default();
        let mut edge = Edge::default();
        let (mut found, mut open) = (false, false);
        walk(&self.all, 0, self.all.size(), |index, entry| {
            edge.append(leaf_hash(entry), |_, _, _| {});
            if entry.len() == DIGEST {
                return Ok(());
            }
            let (file, sealed) = match record(entry)?.body {
                RecordBody::Prune { file } => {
                    span.removed.insert(file);
                    return Ok(());
                }
                RecordBody::Seg { range, lines } => (range.file.clone(), Some((range, lines))),
                RecordBody::Torn { range, .. }
                | RecordBody::Altered { range, .. }
                | RecordBody::Gap(range)
                | RecordBody::Recovered(range) => (range.file, None),
                _ => return Ok(()),
            };
            let day = DayName::parse(&file).filter(|day| self.has(*day));
            match (day, sealed) {
                (None, Some(_)) if open => {
                    open = false;
                    span.after = index + 1;
                }
                (None, Some(_)) if !found => span.first = index,
                (None, _) => {}
                (Some(_), None) => found = true,
                (Some(day), Some((range, lines))) => {
                    (found, open) = (true, true);
                    span.end = index + 1 + lines;
                    span.sealed.insert(day, range.off + range.len);
                }
            }
            Ok(())
        })?;
        if open {
            span.after = self.all.size();
        }
        check_root(&edge, &self.checkpoint)?;
        Ok((span, edge))
    }

    /// Whether retention has removed a file since the tree was read: then that is in the tree by now.
    fn was_removed_since(&self, name: &str) -> Result<bool, Error> {
        let (newest, _) = signed(self.directory, &self.verifier)?;
        let all = Entries::signed(self.directory, &newest);
        let mut edge = self.edge.clone();
        let mut removed = false;
        walk(&all, edge.size(), all.size(), |_, entry| {
            edge.append(leaf_hash(entry), |_, _, _| {});
            if entry.len() != DIGEST
                && let RecordBody::Prune { file } = record(entry)?.body
            {
                removed |= file == name;
            }
            Ok(())
        })?;
        check_root(&edge, &newest)?;
        Ok(removed)
    }

    /// The newest checkpoint that covers the days and that others have signed.
    fn cosigned(&self, policy: Option<&Policy>) -> Result<Option<(Checkpoint, String)>, Error> {
        let sizes = self.span.end..=self.checkpoint.size;
        let found = witnessed::newest(self.directory, &self.verifier, policy, sizes);
        match (&found, policy) {
            (None, Some(policy)) if policy.has_quorum() => Err(Error::new(
                Status::NotFound,
                "no checkpoint that covers these days is signed by the quorum of the policy",
            )),
            _ => Ok(found),
        }
    }

    /// Writes the lines and their proof: everybody's, or those that are `wanted`. The proof holds only if
    /// this comes to its end. Older checkpoints that cover all that is shown may be given, in their order: who
    /// folds the proof comes to their roots as well.
    pub fn write(
        &self,
        wanted: Option<Wanted>,
        older: &[Checkpoint],
        lines: &mut dyn Write,
        proof: &mut dyn Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Counts, Error> {
        let tiles = Tiles::of(&self.all).map_err(|error| tampered(TREE, error))?;
        let mut folded = Folded {
            proof,
            tiles: &tiles,
            tree: Tree::new(&tiles, self.checkpoint.size),
            size: self.checkpoint.size,
            read: 0,
            edge: Edge::default(),
            run: 0,
        };
        folded.line(HEAD)?;
        let mut counts = Counts::default();
        let mut files = Files::new(self.directory);
        let mut removed = self.span.removed.clone();
        // What the digests that follow are of.
        let mut sealed: Option<Sealed> = None;
        let to = match wanted {
            None => self.span.after,
            Some(_) => self.span.end,
        };
        walk(&self.all, self.span.first, to, |index, entry| {
            if index % (1 << 12) == 0 {
                progress(index - self.span.first, to - self.span.first);
            }
            if entry.len() != DIGEST {
                if wanted.is_none() {
                    folded.record(index, entry)?;
                }
                sealed = match record(entry)?.body {
                    RecordBody::Seg { range, .. } => match DayName::parse(&range.file) {
                        Some(day) if self.has(day) => Some(Sealed {
                            day,
                            at: range.off,
                            end: range.off + range.len,
                        }),
                        _ => None,
                    },
                    _ => None,
                };
                return Ok(());
            }
            let Some(sealed) = &mut sealed else {
                return Ok(());
            };
            let Some(reader) = files.at(sealed)? else {
                let name = sealed.day.file_name();
                if !removed.contains(&name) {
                    if !self.was_removed_since(&name)? {
                        return Err(tampered(&name, "the file is missing"));
                    }
                    removed.insert(name);
                }
                counts.removed += 1;
                return Ok(());
            };
            let failed = |error: io::Error| failed(sealed.day, &error);
            let line = loop {
                match reader.next().map_err(failed)? {
                    Some(line) if line.start < sealed.at || line.is_spaces() => {}
                    line => break line.filter(|line| line.closed && line.end < sealed.end),
                }
            };
            let Some(line) = line.filter(|line| line.digest() == entry) else {
                let what = format!(
                    "the lines from byte {} on aren't what was sealed",
                    sealed.at
                );
                return Err(tampered(&sealed.day.file_name(), what));
            };
            sealed.at = line.end + 1;
            if !line.is_held() {
                counts.too_long += 1;
            } else if wanted.is_none_or(|wanted| wanted(line.text)) {
                counts.lines += 1;
                folded.digest(index, entry)?;
                lines.write_all(line.text).map_err(unwritten)?;
                lines.write_all(b"\n").map_err(unwritten)?;
            }
            Ok(())
        })?;
        for signed in older.iter().chain([&self.checkpoint]) {
            folded.hide(signed.size)?;
            check_root(&folded.edge, signed)?;
        }
        counts.unsealed_bytes = self.unsealed()?;
        Ok(counts)
    }

    /// How many bytes of the days' plain files aren't sealed.
    fn unsealed(&self) -> Result<u64, Error> {
        let listing = self.directory.list();
        let listing =
            listing.map_err(|error| Error::log(format!("the log's directory: {error}")))?;
        let mut bytes = 0;
        for listed in listing.days.iter().filter(|listed| self.has(listed.day)) {
            let sealed = self.span.sealed.get(&listed.day).copied().unwrap_or(0);
            if let Ok(Some(file)) = self.directory.open(&listed.day.file_name()) {
                bytes += file.length().unwrap_or(0).saturating_sub(sealed);
            }
        }
        Ok(bytes)
    }
}

/// Hands over a tree's entries between two places.
fn walk(
    all: &Entries<'_>,
    from: u64,
    to: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut next = from;
    while next < to {
        let number = next / WIDTH;
        let bytes = all.tile(number);
        let bytes = bytes.map_err(|error| tampered(TREE, error))?;
        for (index, entry) in (number * WIDTH..to).zip(entries(&bytes)) {
            if index == next {
                take(index, entry)?;
                next += 1;
            }
        }
        if next < to && next / WIDTH == number {
            return Err(tampered(TREE, format!("entry {next} is missing")));
        }
    }
    Ok(())
}

fn check_root(edge: &Edge, signed: &Checkpoint) -> Result<(), Error> {
    match edge.root() == signed.root {
        true => Ok(()),
        false => Err(tampered(TREE, "the tree isn't the one that was signed")),
    }
}

fn record(entry: &[u8]) -> Result<Record, Error> {
    Record::parse(entry).map_err(|error| tampered(TREE, format!("a record {error}")))
}

fn failed(day: DayName, error: &io::Error) -> Error {
    let other = || Error::log(format!("{}: {error}", day.file_name()));
    not_the_file_s(error).unwrap_or_else(other)
}

fn unwritten(error: io::Error) -> Error {
    Error::log(format!("the slice can't be written: {error}"))
}

/// Bytes whose lines are read.
struct Sealed {
    day: DayName,
    /// Where the next line is, or blanks before it.
    at: u64,
    end: u64,
}

/// The files that are read, each from front to back.
struct Files<'d> {
    directory: &'d Directory<'d>,
    open: BTreeMap<DayName, Lines<Bytes<'d>>>,
}

impl<'d> Files<'d> {
    fn new(directory: &'d Directory<'d>) -> Files<'d> {
        let open = BTreeMap::new();
        Files { directory, open }
    }

    /// A file, at that place or before it; `None` if it isn't there.
    fn at(&mut self, sealed: &Sealed) -> Result<Option<&mut Lines<Bytes<'d>>>, Error> {
        let day = sealed.day;
        let read = self.open.get(&day).map(|lines| lines.place().0);
        if read.is_none_or(|read| read > sealed.at) {
            if self.open.len() == MOST_OPEN {
                self.open.clear();
            }
            let bytes = self.directory.day(day, sealed.at);
            match bytes.map_err(|error| failed(day, &error))? {
                Some(bytes) => self.open.insert(day, Lines::new(bytes, sealed.at)),
                None => return Ok(None),
            };
        }
        Ok(self.open.get_mut(&day))
    }
}

/// A proof that is being written, and what it leads to.
struct Folded<'t, 'e> {
    proof: &'t mut dyn Write,
    tiles: &'t Tiles<'e>,
    tree: Tree<'t, Tiles<'e>>,
    size: u64,
    /// How many nodes were read of that tree.
    read: u32,
    edge: Edge,
    /// How many digests of lines weren't written yet.
    run: u64,
}

impl Folded<'_, '_> {
    fn line(&mut self, line: &str) -> Result<(), Error> {
        writeln!(self.proof, "{line}").map_err(unwritten)
    }

    fn digest(&mut self, index: u64, digest: &[u8]) -> Result<(), Error> {
        self.hide(index)?;
        self.run += 1;
        self.edge.append(leaf_hash(digest), |_, _, _| {});
        Ok(())
    }

    fn record(&mut self, index: u64, record: &[u8]) -> Result<(), Error> {
        self.hide(index)?;
        self.lines()?;
        let text = std::str::from_utf8(record).ok();
        let text = text.filter(|text| !text.contains('\n'));
        let text = text.ok_or_else(|| tampered(TREE, "a record isn't one line of text"))?;
        self.line(&format!("record {text}"))?;
        self.edge.append(leaf_hash(record), |_, _, _| {});
        Ok(())
    }

    fn lines(&mut self) -> Result<(), Error> {
        match std::mem::take(&mut self.run) {
            0 => Ok(()),
            run => self.line(&format!("lines {run}")),
        }
    }

    /// Covers what comes before an entry, or the end, and wasn't shown.
    fn hide(&mut self, to: u64) -> Result<(), Error> {
        if self.edge.size() < to || to == self.size {
            self.lines()?;
        }
        while self.edge.size() < to {
            let at = self.edge.size();
            let height = (to - at).ilog2().min(at.trailing_zeros());
            if self.read == MOST_NODES {
                self.tree = Tree::new(self.tiles, self.size);
                self.read = 0;
            }
            self.read += 1;
            let node = self.tree.node(height, at >> height);
            let node = node.map_err(|error| tampered(TREE, error))?;
            self.line(&format!("hidden {height} {}", format_hash(&node)))?;
            self.edge.append_node(height, node);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::source;
    use super::super::testlog::{DAY, NEXT, TestLog};
    use super::*;

    fn two_days() -> TestLog {
        let mut log = TestLog::new();
        for day in [DAY, NEXT] {
            log.entries(day, 3);
            log.seal(day);
        }
        log
    }

    fn date(file: &str) -> String {
        file["audit_".len()..][..10].to_owned()
    }

    /// Finds the slice up to a day, has something done to the log, and writes it.
    fn written(
        log: &mut TestLog,
        to: &str,
        meanwhile: impl FnOnce(&mut TestLog),
    ) -> Result<Counts, Error> {
        let files = source::open(&log.path()).expect("it's there");
        let directory = Directory::new(&files, &|| false);
        let options = Options {
            from: date(DAY),
            to: date(to),
            ..Options::default()
        };
        let slice = Slice::find(&directory, &options)?;
        meanwhile(log);
        slice.write(None, &[], &mut Vec::new(), &mut Vec::new(), &mut |_, _| {})
    }

    fn prune(log: &mut TestLog, file: &str) {
        log.record(RecordBody::Prune {
            file: file.to_owned(),
        });
        log.commit();
        log.publish();
    }

    fn remove(log: &TestLog, file: &str) {
        fs::remove_file(log.file(file)).expect("it's there");
    }

    #[test]
    fn a_file_that_retention_removes_meanwhile_is_left_out_and_one_that_is_just_gone_isnt() {
        let mut log = two_days();
        let counts = written(&mut log, NEXT, |log| {
            prune(log, DAY);
            remove(log, DAY);
        });
        let counts = counts.expect("it's written");
        assert_eq!((counts.lines, counts.removed), (3, 3));
        let gone = written(&mut log, NEXT, |log| remove(log, NEXT));
        let error = gone.expect_err("it's gone");
        assert!(error.status == Status::Tampered && error.message.contains(NEXT));
    }

    #[test]
    fn what_says_that_a_file_was_removed_must_be_signed() {
        let mut log = two_days();
        log.record(RecordBody::Heartbeat);
        log.commit();
        log.publish();
        remove(&log, DAY);
        let tile = log.file(".integrity/tile/entries/000");
        let whole = fs::read(&tile).expect("it's there");
        let encoded = |body| {
            let ts = "2026-11-23T15:51:00.123456Z".to_owned();
            let record = Record { ts, body }.encode();
            [&(record.len() as u16).to_be_bytes()[..], &record].concat()
        };
        let heartbeat = whole.len() - encoded(RecordBody::Heartbeat).len();
        let file = DAY.to_owned();
        let prune = encoded(RecordBody::Prune { file });
        // Behind what is signed, and in the place of what is, where the slice shows nothing.
        for before in [whole.len(), heartbeat] {
            fs::write(&tile, [&whole[..before], &prune].concat()).expect("it can be written");
            let error = written(&mut log, DAY, |_| {}).expect_err("nobody has signed it");
            assert_eq!(error.status, Status::Tampered, "{error:?}");
        }
    }
}
