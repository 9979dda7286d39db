//! Whether lines that are somewhere else, in whatever order, are those that logs have sealed.
//!
//! A log's tree has the digest of every line, and so says of any line whether it is one of them, and
//! of any set of lines which are missing. What is kept of a digest is 64 bits of a hash that is keyed
//! anew each time: who forges a line can't aim at one. In order, they are looked up by their first
//! bits, and a bit each says which has come. So a hundred million lines take less than a gigabyte.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher as _;
use std::path::{Path, PathBuf};

use super::recorded::altered;
use super::report::{Class, Findings, Report};
use super::source::{self, Directory, MOST_FILES};
use super::tree::{Entries, own_checkpoints};
use super::verify::{Known, Options, by_witnesses, reached, remembered};
use super::witnessed::key_by;
use crate::config::read_policy;
use crate::error::{Error, Status};
use crate::format::merkle::{Edge, Hash, leaf_hash};
use crate::format::name::DayName;
pub use crate::format::record::LATE;
use crate::format::record::{Entry, Record, RecordBody};
use crate::format::tiles::{WIDTH, entries};

/// The digests of the lines that logs have sealed, and which of them have come.
#[derive(Default)]
pub struct Sealed {
    keys: Keys,
    logs: Vec<Log>,
    prints: Vec<u64>,
    /// A bit for each.
    came: Vec<u64>,
    /// Where in `prints` those begin that begin with a number's bits.
    starts: Vec<u32>,
    /// Of the bits of a print, those that aren't of that number.
    shift: u32,
}

/// Makes prints of digests. Every thread may have it.
#[derive(Default, Clone)]
pub struct Keys(RandomState);

impl Keys {
    /// The print of a digest.
    pub fn print(&self, digest: &Hash) -> u64 {
        self.0.hash_one(digest)
    }
}

/// A log's tree that was read: the prints of its lines, and what else is needed to read it again.
pub struct Tree {
    /// What was found of it.
    pub report: Report,
    prints: Vec<u64>,
    log: Log,
}

struct Log {
    path: PathBuf,
    size: u64,
    /// Its entries are those that are signed, and lead to all that is known beside it.
    genuine: bool,
    /// The files that retention has removed, in the order in which the tree tells of files.
    pruned: HashSet<usize>,
}

/// Whether a line is one that was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It is, and hadn't come yet.
    First,
    /// It is, and had.
    Again,
    /// It isn't.
    Unknown,
}

/// A sealed line, by its place.
#[derive(Debug, Clone)]
pub struct Place<'t> {
    /// Of which log, in the order in which they were added.
    pub log: usize,
    /// The file that it was sealed in.
    pub file: &'t str,
    /// Its number in that file, from 1; blank lines don't count.
    pub line: u64,
    /// Its digest.
    pub digest: Hash,
}

/// An entry of a tree, as it's walked through.
enum Walked {
    Digest {
        file: usize,
        digest: Hash,
    },
    Record {
        record: Record,
        /// The file that retention has removed.
        pruned: Option<usize>,
    },
}

impl Sealed {
    /// What makes prints of this one's digests.
    pub fn keys(&self) -> Keys {
        self.keys.clone()
    }

    /// How many lines were sealed, those that are the same counted once.
    pub fn lines(&self) -> u64 {
        self.prints.len() as u64
    }

    /// Adds a log's tree, read with the same keys.
    pub fn add(&mut self, tree: Tree) -> Result<Report, Error> {
        if self.prints.len() + tree.prints.len() >= u32::MAX as usize {
            return Err(Error::argument(
                "more than four billion lines were sealed; verify a part of the logs at a time",
            ));
        }
        self.prints.extend(tree.prints);
        self.logs.push(tree.log);
        Ok(tree.report)
    }

    /// Whether a log's entries are those that are signed, and lead to all that is known beside it. It may be and have
    /// findings all the same: what it has recorded of itself.
    pub fn is_genuine(&self, log: usize) -> bool {
        self.logs.get(log).is_some_and(|log| log.genuine)
    }

    /// Ready for lines, once all logs were added.
    pub fn sort(&mut self) {
        self.prints.sort_unstable();
        self.prints.dedup();
        self.prints.shrink_to_fit();
        // About four to a beginning.
        let bits = self.prints.len().max(16).ilog2().saturating_sub(2).min(28);
        self.shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, print) in self.prints.iter().enumerate() {
            while starts.len() <= (print >> self.shift) as usize {
                starts.push(at as u32);
            }
        }
        starts.resize((1 << bits) + 1, self.prints.len() as u32);
        self.starts = starts;
        self.came = vec![0; self.prints.len().div_ceil(64)];
    }

    fn find(&self, print: u64) -> Option<usize> {
        let beginning = (print >> self.shift) as usize;
        let from = *self.starts.get(beginning)? as usize;
        let to = *self.starts.get(beginning + 1)? as usize;
        let found = self.prints.get(from..to)?.binary_search(&print).ok()?;
        Some(from + found)
    }

    /// A line with that print has come.
    pub fn take(&mut self, print: u64) -> Came {
        let Some(at) = self.find(print) else {
            return Came::Unknown;
        };
        let (word, bit) = (&mut self.came[at / 64], 1 << (at % 64));
        let before = *word & bit != 0;
        *word |= bit;
        if before { Came::Again } else { Came::First }
    }

    /// Tells of every sealed line that hasn't come. `progress` is told how many sealed lines of how many are done.
    pub fn missing(
        &self,
        progress: &mut dyn FnMut(u64, u64),
        cancelled: &dyn Fn() -> bool,
        each: &mut dyn FnMut(&Place<'_>),
    ) -> Result<(), Error> {
        /// More aren't looked up by themselves.
        const FEW: usize = 1 << 20;
        let come = self.came.iter().map(|word| word.count_ones() as usize);
        let gone = self.prints.len() - come.sum::<usize>();
        if gone == 0 {
            return Ok(());
        }
        // Few are near at hand, where each of all would have to be fetched from memory.
        let is_gone = |at: usize| self.came[at / 64] & (1 << (at % 64)) == 0;
        let few: Option<Vec<u64>> = (gone <= FEW).then(|| {
            let all = self.prints.iter().enumerate();
            let gone = all.filter(|(at, _)| is_gone(*at));
            gone.map(|(_, print)| *print).collect()
        });
        let mut done = 0_u64;
        (0..self.logs.len()).try_for_each(|log| {
            self.each(log, cancelled, &mut |place| {
                done += 1;
                if done.is_multiple_of(WIDTH) {
                    progress(done, self.lines());
                }
                let print = self.keys.print(&place.digest);
                let is_missing = match &few {
                    Some(few) => few.binary_search(&print).is_ok(),
                    None => self.find(print).is_some_and(is_gone),
                };
                if is_missing {
                    each(place);
                }
            })
        })
    }

    /// Tells of every sealed line of a log, but of files that retention has removed: those are nobody's to
    /// have. Reads the tree once more, as far as it was read before.
    pub fn each(
        &self,
        log: usize,
        cancelled: &dyn Fn() -> bool,
        each: &mut dyn FnMut(&Place<'_>),
    ) -> Result<(), Error> {
        let Some(Log {
            path, size, pruned, ..
        }) = self.logs.get(log)
        else {
            return Ok(());
        };
        let files = source::open(path)?;
        let directory = Directory::new(&files, cancelled);
        let all = Entries::read(&directory, *size);
        let mut lines: Vec<u64> = Vec::new();
        walk(&directory, &all, &mut |_, names, walked| {
            let Walked::Digest { file, digest } = walked else {
                return Ok(());
            };
            lines.resize(names.len(), 0);
            lines[file] += 1;
            if !pruned.contains(&file) {
                each(&Place {
                    log,
                    file: &names[file],
                    line: lines[file],
                    digest,
                });
            }
            Ok(())
        })
    }
}

/// Reads a log's tree, and verifies it: its root must be the one that is signed, and lead to all that is known beside
/// it. Its files aren't looked at. What is wrong is in the report. `progress` is told how many entries of how many are done.
pub fn read(
    path: &Path,
    options: &Options,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<Tree, Error> {
    let files = source::open(path)?;
    let directory = Directory::new(&files, cancelled);
    read_in(path, &directory, options, keys, progress).map_err(|error| match error.status {
        // What was asked for says itself what is wrong with it.
        Status::Argument | Status::Cancelled => error,
        status => Error::new(status, format!("{}: {}", path.display(), error.message)),
    })
}

fn read_in(
    path: &Path,
    directory: &Directory<'_>,
    options: &Options,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Tree, Error> {
    let policy = options.policy.as_deref().map(read_policy).transpose();
    let policy = policy.map_err(|wrong| Error::argument(format!("the policy {wrong}")))?;
    let (verifier, key_given) = key_by(directory, options.vkey.as_deref(), policy.as_ref())?;
    let mut findings = Findings::default();
    let mut known = remembered(directory, options, &verifier, key_given, &mut findings)?;
    let remembered = known.len() as u64;
    let own = own_checkpoints(directory, Some(&verifier), true, &mut findings);
    // It may have been copied file by file while it grew: what its checkpoints are ahead isn't sealed yet.
    let newest = reached(directory, &own)?;
    let ahead = own.iter().map(|own| own.size).max().unwrap_or_default();
    let own = own.into_iter().filter(|own| own.size <= newest.size);
    let witnessed = match &policy {
        Some(policy) => by_witnesses(directory, options, &verifier, policy, &mut findings)?,
        None => None,
    };
    let (by_them, witnessed) = witnessed.unzip();
    known.extend(by_them.map(Known::by_witnesses));
    known.extend(own.map(Known::own));
    let mut report = Report {
        origin: verifier.name().to_owned(),
        size: newest.size,
        root: newest.root,
        beyond: ahead - newest.size,
        key_given,
        remembered,
        witnessed,
        ..Report::default()
    };
    let all = Entries::signed(directory, &newest);
    let mut edge = Edge::default();
    known.sort_by_key(|known| known.checkpoint.size);
    known.reverse();
    // What the log says of itself, and what takes nothing from what its tree stands for.
    let mut recorded = Findings::default();
    // Each has its tile, so no size claims more than is there.
    let (mut prints, mut pruned) = (Vec::with_capacity(newest.size as usize), HashSet::new());
    walk(directory, &all, &mut |bytes, _, walked| {
        edge.append(leaf_hash(bytes), |_, _, _| {});
        while let Some(due) = known.pop_if(|known| known.checkpoint.size <= edge.size()) {
            if due.checkpoint.size == edge.size() && due.checkpoint.root != edge.root() {
                let class = match due.outside {
                    true => Class::RolledBack,
                    false => Class::Tree,
                };
                let message = format!(
                    "at size {} the entries give another root than {}",
                    edge.size(),
                    due.who
                );
                findings.tree(class, "", message);
            }
        }
        match walked {
            Walked::Digest { digest, .. } => prints.push(keys.print(&digest)),
            Walked::Record {
                record,
                pruned: file,
            } => {
                pruned.extend(file);
                let index = edge.size() - 1;
                let into = match &record.body {
                    RecordBody::Altered { range, .. } => {
                        recorded.add(Class::Edited, &range.file, 0, 0, altered(index, range));
                        &mut recorded
                    }
                    RecordBody::Rollback { .. } | RecordBody::Dispute { .. } => &mut recorded,
                    _ => &mut findings,
                };
                report.record(index, &record, policy.as_ref(), into)?;
            }
        }
        if edge.size() % WIDTH == 0 {
            progress(edge.size(), newest.size);
        }
        Ok(())
    })?;
    for ahead in known {
        let message = format!(
            "the tree has {} entries, and {} knows {}",
            newest.size, ahead.who, ahead.checkpoint.size
        );
        findings.tree(Class::RolledBack, "", message);
    }
    let genuine = findings.first().is_none();
    findings.append(recorded);
    findings.into_report(&mut report);
    let log = Log {
        path: path.to_owned(),
        size: newest.size,
        genuine,
        pruned,
    };
    Ok(Tree {
        report,
        prints,
        log,
    })
}

/// Is given an entry's bytes, the names of the files so far, and what it is.
type Each<'e> = dyn FnMut(&[u8], &[String], Walked) -> Result<(), Error> + 'e;

/// Walks through the entries of a tree.
fn walk(directory: &Directory<'_>, all: &Entries<'_>, each: &mut Each<'_>) -> Result<(), Error> {
    let broken = |what: String| Error::new(Status::Tampered, format!("the tree: {what}"));
    let mut files = Names::default();
    let mut segment: Option<(usize, u64)> = None;
    let mut index = 0;
    for number in 0..all.size().div_ceil(WIDTH) {
        if directory.is_stopped() {
            return Err(Error::new(Status::Cancelled, "cancelled"));
        }
        let bytes = all
            .tile(number)
            .map_err(|error| broken(error.to_string()))?;
        for entry in entries(&bytes) {
            let wrong = |what: &str| broken(format!("entry {index} {what}"));
            let walked = match Entry::parse(entry).map_err(|what| wrong(&what))? {
                Entry::Digest(digest) => {
                    let (file, left) = segment
                        .take()
                        .ok_or_else(|| wrong("is a digest that no seg announced"))?;
                    segment = (left > 1).then_some((file, left - 1));
                    Walked::Digest { file, digest }
                }
                Entry::Record(_) if segment.is_some() => {
                    return Err(wrong("stands within a seg"));
                }
                Entry::Record(record) => {
                    let mut pruned = None;
                    match &record.body {
                        RecordBody::Seg { range, lines } => {
                            let file = files.number(&range.file).map_err(broken)?;
                            segment = (*lines > 0).then_some((file, *lines));
                        }
                        RecordBody::Prune { file } => {
                            pruned = Some(files.number(file).map_err(broken)?);
                        }
                        _ => {}
                    }
                    Walked::Record { record, pruned }
                }
            };
            each(entry, &files.names, walked)?;
            index += 1;
        }
    }
    match segment {
        Some(_) => Err(broken("it ends within a seg".to_owned())),
        None => Ok(()),
    }
}

/// The files that a tree tells of, by numbers.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    numbers: BTreeMap<DayName, usize>,
}

impl Names {
    fn number(&mut self, file: &str) -> Result<usize, String> {
        let name = DayName::parse(file).ok_or_else(|| format!("{file} isn't a day's file"))?;
        let next = self.names.len();
        let number = *self.numbers.entry(name).or_insert(next);
        if number == next {
            if next == MOST_FILES {
                return Err(format!("it tells of more than {MOST_FILES} files"));
            }
            self.names.push(file.to_owned());
        }
        Ok(number)
    }
}
