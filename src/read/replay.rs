//! The tree, built again from its entries: compared with every tile and every root that is known, and on
//! the way with every line of every file.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::align::Day;
use super::hashed::Queue;
use super::recorded::altered;
use super::report::{Class, Findings, Report};
use super::source::{Directory, MOST_FILES};
use super::tree::Entries;
use super::verify::Known;
use crate::error::{Error, Status};
use crate::format::checkpoint::Checkpoint;
use crate::format::merkle::{Edge, Hash, leaf_hash};
use crate::format::name::DayName;
use crate::format::note::Verifier;
use crate::format::policy::Policy;
use crate::format::record::{Entry, Record, RecordBody};
use crate::format::tiles::{Fetch, Kind, Tile, WIDTH, entries, read};

/// How many files are kept open. Around midnight a few are written at once, so that their ranges
/// alternate in the tree.
const OPEN: usize = 8;

/// A range whose digests are coming.
pub(super) struct Segment {
    day: usize,
    off: u64,
    end: u64,
    left: u64,
}

/// A verification under way.
pub(super) struct Run<'a> {
    pub(super) directory: &'a Directory<'a>,
    pub(super) queue: &'a Queue,
    pub(super) verifier: Option<Verifier>,
    /// Whose witnesses are believed.
    pub(super) policy: Option<&'a Policy>,
    /// The newest of the directory's own checkpoints.
    pub(super) newest: Option<Checkpoint>,
    /// A copy's tiles may all be behind, each as it was when it was copied.
    pub(super) copy: bool,
    /// From which entry on tiles may be behind.
    pub(super) settled: u64,
    pub(super) report: Report,
    pub(super) findings: Findings,
    /// In the order of their sizes.
    pub(super) known: Vec<Known>,
    pub(super) edge: Edge,
    /// The hashes of the last tile of each level.
    pub(super) levels: Vec<Vec<u8>>,
    pub(super) days: Vec<Day<'a>>,
    pub(super) names: BTreeMap<DayName, usize>,
    /// Which files are open, the one used last at the end.
    pub(super) open: VecDeque<usize>,
    pub(super) segment: Option<Segment>,
    /// Entries of the tree couldn't be read.
    pub(super) lost: bool,
}

impl Run<'_> {
    fn wrong(&mut self, message: String) {
        self.findings.tree(Class::Tree, "", message);
    }

    /// Finds what is known and lies beyond the tree.
    pub(super) fn find_what_is_ahead(&mut self) {
        self.known.sort_by_key(|known| known.checkpoint.size);
        let size = self.report.size;
        while let Some(known) = self.known.pop_if(|known| known.checkpoint.size > size) {
            let message = format!(
                "the tree has {size} entries, and {} knows {}",
                known.who, known.checkpoint.size
            );
            self.findings.tree(Class::RolledBack, &known.path, message);
        }
        self.known.reverse();
        self.compare_roots();
    }

    /// Compares the root with those that are known of this size.
    fn compare_roots(&mut self) {
        let size = self.edge.size();
        while let Some(known) = self.known.pop_if(|known| known.checkpoint.size == size) {
            if known.checkpoint.root != self.edge.root() {
                let message = format!(
                    "at size {size} the entries give another root than {}",
                    known.who
                );
                // The directory's own says that the entries were changed, another one that the
                // whole tree was.
                let class = if known.outside {
                    Class::RolledBack
                } else {
                    Class::Tree
                };
                self.findings.tree(class, &known.path, message);
            }
        }
    }

    /// Builds the tree again.
    pub(super) fn tree(
        &mut self,
        mut all: Entries<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let size = all.size();
        for number in 0..size.div_ceil(WIDTH) {
            self.check_stopped()?;
            if number == self.settled / WIDTH
                && let Some(newest) = self.newest.as_ref().filter(|newest| newest.size <= size)
                && !all.lead_to(self.edge.clone(), newest)
            {
                // What isn't in the tiles isn't what was signed: nothing of it counts.
                all.drop_recent();
                self.settled = all.settled();
            }
            let tile = Tile {
                kind: Kind::Entries,
                number,
                width: (size - number * WIDTH).min(WIDTH),
            };
            match all.tile(number) {
                Ok(bytes) => {
                    for entry in entries(&bytes) {
                        self.entry(entry)?;
                    }
                    // What isn't in it as it is came from elsewhere.
                    let behind = self.settled_width(&tile) < tile.width
                        && !read(self.directory, &tile).is_ok_and(|there| there == bytes);
                    self.report.unsettled += u64::from(behind);
                    if tile.width < WIDTH {
                        self.copies(&tile, &bytes);
                    }
                }
                Err(error) => {
                    self.wrong(error.to_string());
                    // Its lines have nothing to be compared with. Those of the next ones do, if the
                    // hashes are there.
                    self.lost = true;
                    self.segment = None;
                    let hashes = Tile {
                        kind: Kind::Hashes(0),
                        ..tile
                    };
                    let Ok(bytes) = read(self.directory, &hashes) else {
                        self.known.clear();
                        return Ok(());
                    };
                    for hash in bytes.as_chunks::<32>().0 {
                        self.leaf(*hash);
                    }
                }
            }
            progress(self.edge.size(), size);
        }
        for level in 0..self.levels.len() {
            let hashes = std::mem::take(&mut self.levels[level]);
            if let Some(tile) =
                Tile::partial(size).find(|tile| tile.kind == Kind::Hashes(level as u32))
            {
                self.compare(&tile, &hashes);
                self.copies(&tile, &hashes);
            }
        }
        if self.segment.is_some() {
            self.wrong("the tree ends within a seg".to_owned());
        }
        self.report.root = self.edge.root();
        Ok(())
    }

    pub(super) fn check_stopped(&self) -> Result<(), Error> {
        match self.directory.is_stopped() {
            true => Err(Error::new(Status::Cancelled, "cancelled")),
            false => Ok(()),
        }
    }

    /// Adds a leaf to the tree, and compares the tiles that are full with it.
    fn leaf(&mut self, hash: Hash) {
        let mut full = Vec::new();
        let levels = &mut self.levels;
        self.edge.append(hash, |height, index, hash| {
            if height % 8 == 0 {
                let level = (height / 8) as usize;
                if levels.len() == level {
                    levels.push(Vec::new());
                }
                levels[level].extend_from_slice(hash);
                if index % WIDTH == WIDTH - 1 {
                    let tile = Tile {
                        kind: Kind::Hashes(height / 8),
                        number: index / WIDTH,
                        width: WIDTH,
                    };
                    full.push((tile, std::mem::take(&mut levels[level])));
                }
            }
        });
        for (tile, hashes) in full {
            self.compare(&tile, &hashes);
        }
        let size = self.edge.size();
        if self
            .known
            .last()
            .is_some_and(|known| known.checkpoint.size == size)
        {
            self.compare_roots();
        }
    }

    fn entry(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let index = self.edge.size();
        self.leaf(leaf_hash(bytes));
        match Entry::parse(bytes) {
            Ok(Entry::Digest(digest)) => self.digest(index, digest),
            Ok(Entry::Record(record)) => self.record(index, record),
            Err(error) => {
                self.wrong(format!("entry {index} {error}"));
                Ok(())
            }
        }
    }

    /// How much of a tile must be there: what stands behind may be made anew.
    fn settled_width(&self, tile: &Tile) -> u64 {
        let settled = match tile.kind {
            Kind::Entries => self.settled,
            Kind::Hashes(level) => self.settled.checked_shr(8 * level).unwrap_or(0),
        };
        settled.saturating_sub(tile.number * WIDTH).min(tile.width)
    }

    /// Compares a tile with the hashes that its entries give.
    fn compare(&mut self, tile: &Tile, hashes: &[u8]) {
        if self.copy {
            return self.compare_copy(tile, hashes);
        }
        let width = self.settled_width(tile);
        let mut found = read(self.directory, tile);
        if width < tile.width && !found.as_ref().is_ok_and(|bytes| bytes == hashes) {
            self.report.unsettled += 1;
            if width == 0 {
                return;
            }
            found = read(self.directory, &Tile { width, ..*tile });
        }
        match found {
            Ok(bytes) => {
                let wanted = hashes.iter().take(bytes.len());
                let same = bytes.iter().zip(wanted).take_while(|(a, b)| a == b).count();
                if same < (32 * width) as usize {
                    let path = tile.full_path();
                    self.wrong(format!(
                        "{path}: hash {} isn't what its entries give",
                        same / 32
                    ));
                }
            }
            Err(error) => self.wrong(error.to_string()),
        }
    }

    /// The same of a copy's: as far as the tile is there.
    fn compare_copy(&mut self, tile: &Tile, hashes: &[u8]) {
        match self.directory.fetch(&tile.full_path()) {
            Ok(found) => {
                let found = found.unwrap_or_default();
                let there = found.len().min(hashes.len()) / 32 * 32;
                if found[..there] != hashes[..there] {
                    let path = tile.full_path();
                    self.wrong(format!("{path} isn't what its entries give"));
                }
                self.report.unsettled += u64::from(there < hashes.len());
            }
            Err(error) => self.wrong(format!("{}: {error}", tile.full_path())),
        }
    }

    /// Compares the partial tile that was copied out for a checkpoint, if it was. It was on the disk before
    /// the checkpoint, so that it isn't behind even where the tile itself may be.
    fn copies(&mut self, tile: &Tile, bytes: &[u8]) {
        match self.directory.fetch(&tile.path()) {
            Ok(Some(copy)) if copy != bytes => {
                self.wrong(format!(
                    "{} isn't a copy of {}",
                    tile.path(),
                    tile.full_path()
                ));
            }
            Ok(_) => {}
            Err(error) => self.wrong(format!("{}: {error}", tile.path())),
        }
    }

    fn digest(&mut self, index: u64, digest: Hash) -> Result<(), Error> {
        let Some(mut segment) = self.segment.take() else {
            if !self.lost {
                self.wrong(format!("entry {index} is a digest that no seg announced"));
            }
            return Ok(());
        };
        let (off, end) = (segment.off, segment.end);
        let compared = self.days[segment.day].expect(digest, off, end, &mut self.findings);
        self.or_unreadable(segment.day, compared)?;
        segment.left -= 1;
        self.segment = (segment.left > 0).then_some(segment);
        Ok(())
    }

    /// What was read of a file; if it couldn't be, that is found.
    pub(super) fn or_unreadable<T>(
        &mut self,
        day: usize,
        read: io::Result<T>,
    ) -> Result<Option<T>, Error> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) => {
                let remarks = &mut self.report.unreadable;
                self.days[day].unreadable(&error, &mut self.findings, remarks)?;
                Ok(None)
            }
        }
    }

    fn record(&mut self, index: u64, record: Record) -> Result<(), Error> {
        if self.segment.take().is_some() {
            self.wrong(format!("entry {index} stands within a seg"));
        }
        let (policy, findings) = (self.policy, &mut self.findings);
        self.report.record(index, &record, policy, findings)?;
        match record.body {
            RecordBody::Seg { range, lines } => {
                let Some(day) = self.day(&range.file)? else {
                    return Ok(());
                };
                let begun = self.days[day].begin(
                    self.directory,
                    self.queue,
                    (range.off, range.len),
                    self.lost,
                    &mut self.findings,
                );
                if let Some(Err(error)) = self.or_unreadable(day, begun)? {
                    self.wrong(format!("entry {index} {error}"));
                }
                self.segment = (lines > 0).then_some(Segment {
                    day,
                    off: range.off,
                    end: range.off + range.len,
                    left: lines,
                });
            }
            RecordBody::Gap(range) => {
                if let Some(day) = self.day(&range.file)? {
                    let gap = self.days[day].gap(range.off, &mut self.findings);
                    self.or_unreadable(day, gap)?;
                }
            }
            RecordBody::Prune { file } => {
                if let Some(day) = self.day(&file)? {
                    self.days[day].prune();
                }
            }
            RecordBody::Altered { range, .. } => {
                let message = altered(index, &range);
                if let Some(day) = self.day(&range.file)? {
                    self.days[day].find(&mut self.findings, Class::Edited, 0, message);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The file of that name, as the one used last. Others are closed when too many are open.
    fn day(&mut self, name: &str) -> Result<Option<usize>, Error> {
        let Some(name) = DayName::parse(name) else {
            return Ok(None);
        };
        let day = match self.names.get(&name) {
            Some(day) => *day,
            None if self.days.len() == MOST_FILES => {
                self.wrong(format!("the tree tells of more than {MOST_FILES} files"));
                return Ok(None);
            }
            None => {
                self.days.push(Day::new(name));
                self.names.insert(name, self.days.len() - 1);
                self.days.len() - 1
            }
        };
        self.open.retain(|open| *open != day);
        self.open.push_back(day);
        if self.open.len() > OPEN
            && let Some(oldest) = self.open.pop_front()
        {
            let rest = self.days[oldest].rest(&mut self.findings);
            self.or_unreadable(oldest, rest)?;
        }
        Ok(Some(day))
    }
}
