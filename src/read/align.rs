//! One file of the log against the digests that the tree holds of its lines.
//!
//! As long as the next line has the next digest, nothing is kept. Where they part, some of both
//! are gathered, and what became of the lines is told from which of them still match.

use std::collections::VecDeque;
use std::io;

use super::source::{Directory, Line, Lines};
use crate::format::merkle::Hash;
use crate::format::record::Range;

/// How many digests and lines are looked at to tell what happened. Of a longer piece that was cut
/// out or put in, the lines behind it are said to be edited.
const WINDOW: usize = 4096;

/// How many findings of one file are kept; all are counted.
const KEPT: usize = 20;

/// What can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A line isn't what it was, or blanks around it aren't.
    Edited,
    /// Lines are gone.
    Deleted,
    /// There are lines that weren't there.
    Inserted,
    /// Lines stand in another order.
    Reordered,
    /// A sealed line was cut in the middle, or lost its line feed.
    Torn,
    /// A whole file is gone.
    Missing,
    /// The tree is older than what is known of it, or another.
    RolledBack,
    /// The entries, the tiles and the checkpoint don't fit each other.
    Tree,
    /// A checkpoint isn't signed by the key.
    Forged,
}

impl Class {
    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Class::Edited => "edited",
            Class::Deleted => "deleted",
            Class::Inserted => "inserted",
            Class::Reordered => "reordered",
            Class::Torn => "torn",
            Class::Missing => "missing",
            Class::RolledBack => "rolled_back",
            Class::Tree => "tree",
            Class::Forged => "forged",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub class: Class,
    /// In which file.
    pub file: String,
    /// In which line, from 1; 0 where it isn't about a line.
    pub line: u64,
    /// What, for a person.
    pub message: String,
}

/// Findings, of which the first are kept.
#[derive(Debug, Default)]
pub struct Findings {
    /// The first.
    pub kept: Vec<Finding>,
    /// How many there are.
    pub count: u64,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, class: Class, file: &str, line: u64, message: String) {
        self.count += 1;
        if self.kept.len() < KEPT {
            let file = file.to_owned();
            self.kept.push(Finding {
                class,
                file,
                line,
                message,
            });
        }
    }
}

/// What is known of a file so far.
pub struct Day {
    name: String,
    lines: Option<Lines>,
    /// From where to read on: an offset, and the number of the line before it.
    place: (u64, u64),
    /// Digests whose lines weren't found yet, and the bytes they are sealed in.
    pending: VecDeque<(Hash, u64, u64)>,
    /// Lines that were read and don't have a digest yet.
    ahead: VecDeque<Line>,
    /// Up to where the tree has sealed it.
    sealed: u64,
    /// It isn't there, though so many lines of it are sealed.
    missing: u64,
    /// It was removed as its time was over.
    pruned: bool,
    /// Lines that are as they were.
    pub intact: u64,
    /// What was found.
    pub findings: Findings,
}

/// What stands behind the last sealed line of a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Lines.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the last one lacks its line feed.
    pub torn: bool,
}

impl Day {
    /// A file of which nothing is known.
    pub fn new(name: &str) -> Day {
        Day {
            name: name.to_owned(),
            lines: None,
            place: (0, 0),
            pending: VecDeque::new(),
            ahead: VecDeque::new(),
            sealed: 0,
            missing: 0,
            pruned: false,
            intact: 0,
            findings: Findings::default(),
        }
    }

    /// Begins a range of lines. Says what is wrong with it.
    pub fn begin(
        &mut self,
        directory: &Directory,
        range: &Range,
        lines: u64,
    ) -> io::Result<Result<(), String>> {
        let expected = self.sealed;
        self.sealed = range.off + range.len;
        self.pruned = false;
        if self.lines.is_none() {
            let (offset, number) = self.place;
            self.lines = directory.lines(&self.name, offset, number)?;
        }
        if self.lines.is_none() {
            self.missing += lines;
        }
        Ok(if range.off == expected {
            Ok(())
        } else {
            Err(format!(
                "begins {} at byte {}, not {expected}",
                self.name, range.off
            ))
        })
    }

    /// Compares the next digest, of a line in the bytes from `off` to `end`.
    pub fn expect(&mut self, digest: Hash, off: u64, end: u64) -> io::Result<()> {
        if self.lines.is_none() {
            return Ok(());
        }
        if self.pending.is_empty() {
            match self.next_line()? {
                Some(line) if line.digest == digest => {
                    self.matched(&line, off, end);
                    return Ok(());
                }
                Some(line) => self.ahead.push_front(line),
                None => {}
            }
        }
        self.pending.push_back((digest, off, end));
        if self.pending.len() >= WINDOW {
            self.resolve(WINDOW / 2, u64::MAX)?;
        }
        Ok(())
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        match (self.ahead.pop_front(), &mut self.lines) {
            (None, Some(lines)) => lines.next_line(),
            (line, _) => Ok(line),
        }
    }

    fn matched(&mut self, line: &Line, off: u64, end: u64) {
        self.intact += 1;
        if !line.whole {
            let message = format!("line {} has lost its line feed", line.number);
            self.find(Class::Torn, line.number, message);
        } else if (line.off < off || line.end > end) && self.findings.count == 0 {
            let message = format!(
                "line {} is as it was, but not in its place: blanks before it were added or removed",
                line.number
            );
            self.find(Class::Edited, line.number, message);
        }
    }

    fn find(&mut self, class: Class, line: u64, message: String) {
        self.findings.add(class, &self.name, line, message);
    }

    /// Tells what became of pending lines, until fewer than `keep` are left, which may still
    /// be found further on. Lines from byte `limit` on aren't theirs.
    fn resolve(&mut self, keep: usize, limit: u64) -> io::Result<()> {
        while let Some(&(digest, off, end)) = self.pending.front() {
            while self.ahead.len() < WINDOW
                && let Some(lines) = &mut self.lines
                && let Some(line) = lines.next_line()?
            {
                self.ahead.push_back(line);
            }
            let Some(&line) = self.ahead.front().filter(|line| line.off < limit) else {
                let count = self.pending.len();
                let last = match self.ahead.front() {
                    Some(line) => line.number - 1,
                    None => self.lines.as_ref().map_or(0, |lines| lines.place().1),
                };
                let message = format!("after line {last}, sealed lines are gone: {count}");
                self.find(Class::Deleted, last + 1, message);
                self.pending.clear();
                return Ok(());
            };
            if line.digest == digest {
                self.pending.pop_front();
                self.ahead.pop_front();
                self.matched(&line, off, end);
                continue;
            }
            if self.pending.len() < keep {
                return Ok(());
            }
            let number = line.number;
            let expected = self
                .pending
                .iter()
                .position(|(digest, ..)| *digest == line.digest);
            let found = self.ahead.iter().position(|line| line.digest == digest);
            match (expected, found) {
                (Some(expected), Some(found)) => {
                    let here = self.ahead[found].number;
                    let message = format!("line {here} stood before line {number}");
                    self.find(Class::Reordered, number, message);
                    // Both are there, each in the other's way.
                    self.pending.remove(expected);
                    self.pending.pop_front();
                    self.ahead.remove(found);
                    self.ahead.pop_front();
                    self.intact += 2;
                }
                (Some(count), None) => {
                    let message = format!("before line {number}, sealed lines are gone: {count}");
                    self.find(Class::Deleted, number, message);
                    self.pending.drain(..count);
                }
                (None, Some(count)) => {
                    let message = format!("from line {number} on, lines weren't there: {count}");
                    self.find(Class::Inserted, number, message);
                    self.ahead.drain(..count);
                }
                (None, None) if !line.whole => {
                    let message = format!("line {number} is cut off");
                    self.find(Class::Torn, number, message);
                    self.pending.pop_front();
                    self.ahead.pop_front();
                }
                (None, None) => {
                    let message = format!("line {number} isn't what was sealed");
                    self.find(Class::Edited, number, message);
                    self.pending.pop_front();
                    self.ahead.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Closes the file until more of it comes.
    pub fn rest(&mut self) -> io::Result<()> {
        self.resolve(0, u64::MAX)?;
        if let Some(lines) = self.lines.take() {
            self.place = match self.ahead.front() {
                Some(line) => (line.off, line.number - 1),
                None => lines.place(),
            };
        }
        self.ahead.clear();
        Ok(())
    }

    /// Bytes from `off` on were gone, and what was appended since stands there.
    pub fn gap(&mut self, off: u64) -> io::Result<()> {
        self.resolve(0, off)?;
        self.sealed = off;
        Ok(())
    }

    /// The file was removed as its time was over: what was found of it doesn't count.
    pub fn prune(&mut self) {
        *self = Day {
            pruned: true,
            ..Day::new(&self.name)
        };
    }

    /// Compares what is left, and counts what isn't sealed.
    pub fn finish(
        &mut self,
        directory: &Directory,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Tail> {
        let mut tail = Tail::default();
        if self.pruned {
            return Ok(tail);
        }
        self.resolve(0, u64::MAX)?;
        if self.missing > 0 {
            let message = format!("the file is gone; sealed lines in it: {}", self.missing);
            self.find(Class::Missing, 0, message);
            return Ok(tail);
        }
        if self.lines.is_none() {
            let (offset, number) = self.place;
            self.lines = directory.lines(&self.name, offset, number)?;
        }
        while let Some(line) = self.next_line()? {
            if line.off < self.sealed && self.findings.count == 0 {
                let message = format!("line {} wasn't there", line.number);
                self.find(Class::Inserted, line.number, message);
                continue;
            }
            tail.lines += 1;
            tail.bytes += line.end - line.off;
            tail.torn = !line.whole;
            if tail.lines % 4096 == 0 && cancelled() {
                break;
            }
        }
        // Where only blanks were sealed last, no line tells that they are gone.
        let length = self.lines.as_ref().map_or(0, |lines| lines.place().0);
        if length < self.sealed && self.findings.count == 0 && !cancelled() {
            let message = format!(
                "the file ends at byte {length}, and was sealed to {}",
                self.sealed
            );
            self.find(Class::Deleted, 0, message);
        }
        Ok(tail)
    }
}
