//! One file of the log against the digests that the tree holds of its lines.
//!
//! As long as the next line has the next digest, nothing is kept. Where they part, some of both
//! are gathered, and what became of the lines is told from which of them still match.

use std::collections::VecDeque;
use std::io;

use sha2::{Digest as _, Sha256};

use super::hashed::{Hashed, Line, Queue};
use super::report::{Class, Findings, Remarks};
use super::source::{Directory, not_the_file_s};
use crate::error::Error;
use crate::format::merkle::Hash;
use crate::format::name::DayName;

/// How many digests and lines are looked at to tell what happened. Of a longer piece that was cut
/// out or put in, the lines behind it are said to be edited.
const WINDOW: usize = 4096;

/// What is known of a file so far.
pub struct Day<'s> {
    name: DayName,
    lines: Option<Hashed<'s>>,
    /// From where to read on: an offset, and the number of the line before it.
    place: (u64, u64),
    /// Digests whose lines weren't found yet, and the bytes they are sealed in.
    pending: VecDeque<(Hash, u64, u64)>,
    /// Lines that were read and don't have a digest yet.
    ahead: VecDeque<Line>,
    /// Up to where the tree has sealed it, and whether it has at all.
    sealed: Option<u64>,
    /// It isn't there, though so many lines of it are sealed.
    missing: u64,
    /// The first of its digests, and the digest of all that were missed: what tells it by another name.
    missed: Option<(Hash, Sha256)>,
    /// It can't be read.
    broken: bool,
    /// It was removed as its time was over.
    pruned: bool,
    /// In the end it wasn't there.
    vanished: bool,
    /// Lines that are as they were.
    pub intact: u64,
    /// How many findings there are of it.
    found: u64,
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
    /// Where it begins: a place, and the number of the line before it.
    pub from: (u64, u64),
    /// The file is there, as it was sealed, and retention has given it up.
    pub prunable: bool,
}

/// A file that is gone, by what was sealed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// How many lines.
    pub lines: u64,
    /// The digest of the first.
    pub first: Hash,
    /// The SHA-256 over the digests of all.
    pub all: Hash,
}

impl<'s> Day<'s> {
    /// A file of which nothing is known.
    pub fn new(name: DayName) -> Day<'s> {
        Day {
            name,
            lines: None,
            place: (0, 0),
            pending: VecDeque::new(),
            ahead: VecDeque::new(),
            sealed: None,
            missing: 0,
            missed: None,
            broken: false,
            pruned: false,
            vanished: false,
            intact: 0,
            found: 0,
        }
    }

    /// Its name.
    pub fn name(&self) -> DayName {
        self.name
    }

    /// Whether anything of it is sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Whether lines of it are gone with the whole file, and nothing in the tree says why.
    pub fn is_missing(&self) -> bool {
        self.missing > 0 && !self.pruned
    }

    /// What it was, if it's gone.
    pub fn gone(&self) -> Option<Gone> {
        let (first, all) = self.missed.as_ref().filter(|_| self.is_missing())?;
        Some(Gone {
            lines: self.missing,
            first: *first,
            all: all.clone().finalize().into(),
        })
    }

    /// Begins a range of lines. Says what is wrong with it. `lost`: entries of the tree are, so lines that
    /// stand before it may have nothing to be compared with.
    pub fn begin(
        &mut self,
        directory: &Directory<'s>,
        queue: &'s Queue,
        (off, len): (u64, u64),
        lost: bool,
        to: &mut Findings,
    ) -> io::Result<Result<(), String>> {
        if self.pruned {
            let message =
                "retention had removed the file, and lines under its name were sealed later";
            *self = Day {
                found: self.found,
                intact: self.intact,
                ..Day::new(self.name)
            };
            self.find(to, Class::Returned, 0, message.to_owned());
        }
        let expected = self.sealed.unwrap_or(0);
        self.sealed = Some(off + len);
        self.open(directory, queue)?;
        if lost && off > expected {
            self.resolve(0, expected, to)?;
            while let Some(line) = self.next_line()? {
                if line.off >= off {
                    self.ahead.push_front(line);
                    break;
                }
            }
        }
        Ok(if off == expected || lost {
            Ok(())
        } else {
            let name = self.name.file_name();
            Err(format!("begins {name} at byte {off}, not {expected}"))
        })
    }

    fn open(&mut self, directory: &Directory<'s>, queue: &'s Queue) -> io::Result<()> {
        if self.lines.is_none() && !self.broken {
            let (offset, number) = self.place;
            let source = directory.day(self.name, offset)?;
            self.lines = source.map(|source| Hashed::new(source, offset, number, queue));
        }
        Ok(())
    }

    /// Compares the next digest, of a line in the bytes from `off` to `end`.
    pub fn expect(
        &mut self,
        digest: Hash,
        off: u64,
        end: u64,
        to: &mut Findings,
    ) -> io::Result<()> {
        if self.broken {
            return Ok(());
        }
        if self.lines.is_none() {
            self.missing += 1;
            let (_, all) = self.missed.get_or_insert_with(|| (digest, Sha256::new()));
            all.update(digest);
            return Ok(());
        }
        if self.pending.is_empty() {
            match self.next_line()? {
                Some(line) if line.digest == digest => {
                    self.matched(&line, off, end, to);
                    return Ok(());
                }
                Some(line) => self.ahead.push_front(line),
                None => {}
            }
        }
        self.pending.push_back((digest, off, end));
        if self.pending.len() >= WINDOW {
            self.resolve(WINDOW / 2, u64::MAX, to)?;
        }
        Ok(())
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        match (self.ahead.pop_front(), &mut self.lines) {
            (None, Some(lines)) => lines.next_line(),
            (line, _) => Ok(line),
        }
    }

    fn matched(&mut self, line: &Line, off: u64, end: u64, to: &mut Findings) {
        self.intact += 1;
        if !line.whole {
            let message = format!("line {} has lost its line feed", line.number);
            self.find(to, Class::Torn, line.number, message);
        } else if (line.off < off || line.end > end) && self.found == 0 {
            let message = format!(
                "line {} is as it was, but not in its place: blanks before it were added or removed",
                line.number
            );
            self.find(to, Class::Edited, line.number, message);
        }
    }

    /// Adds a finding about it.
    pub fn find(&mut self, to: &mut Findings, class: Class, line: u64, message: String) {
        to.add(class, &self.name.file_name(), self.found, line, message);
        self.found += 1;
    }

    /// Whether something of it is sealed, and in the end it wasn't there.
    pub fn has_vanished(&self) -> bool {
        self.vanished && !self.pruned
    }

    /// Whether it was there to the end.
    pub fn is_there(&self) -> bool {
        !self.vanished
    }

    /// It vanished because retention removed it while it was read: that it's gone is no finding.
    pub fn forgive(&mut self, to: &mut Findings) {
        self.pruned = true;
        self.withdraw(to);
    }

    /// What was found of it doesn't count.
    fn withdraw(&mut self, to: &mut Findings) {
        to.withdraw(&self.name.file_name(), self.found);
        self.found = 0;
    }

    /// It can't be read on. What is sealed of it is lost; of what never was, it's only said.
    pub fn unreadable(
        &mut self,
        error: &io::Error,
        to: &mut Findings,
        remarks: &mut Remarks,
    ) -> Result<(), Error> {
        let name = self.name.file_name();
        if let Some(error) = not_the_file_s(error) {
            return Err(Error::new(
                error.status,
                format!("{name}: {}", error.message),
            ));
        }
        let (_, line) = self.here();
        let message = match line {
            0 => format!("it can't be read: {error}"),
            line => format!("it can't be read behind line {line}: {error}"),
        };
        match self.is_sealed() {
            true => self.find(to, Class::Unreadable, 0, message),
            false => remarks.add(&name, message),
        }
        self.broken = true;
        self.lines = None;
        self.pending.clear();
        self.ahead.clear();
        Ok(())
    }

    /// Where the next line begins that has no digest yet, and the number of the last one that has.
    fn here(&self) -> (u64, u64) {
        match (self.ahead.front(), &self.lines) {
            (Some(line), _) => (line.off, line.number - 1),
            (None, Some(lines)) => lines.place(),
            (None, None) => self.place,
        }
    }

    /// Tells what became of pending lines, until fewer than `keep` are left, which may still
    /// be found further on. Lines from byte `limit` on aren't theirs.
    fn resolve(&mut self, keep: usize, limit: u64, to: &mut Findings) -> io::Result<()> {
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
                self.find(to, Class::Deleted, last + 1, message);
                self.pending.clear();
                return Ok(());
            };
            if line.digest == digest {
                self.pending.pop_front();
                self.ahead.pop_front();
                self.matched(&line, off, end, to);
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
                    self.find(to, Class::Reordered, number, message);
                    // Both are there, each in the other's way.
                    self.pending.remove(expected);
                    self.pending.pop_front();
                    self.ahead.remove(found);
                    self.ahead.pop_front();
                    self.intact += 2;
                }
                (Some(count), None) => {
                    let message = format!("before line {number}, sealed lines are gone: {count}");
                    self.find(to, Class::Deleted, number, message);
                    self.pending.drain(..count);
                }
                (None, Some(count)) => {
                    let message = format!("from line {number} on, lines weren't there: {count}");
                    self.find(to, Class::Inserted, number, message);
                    self.ahead.drain(..count);
                }
                (None, None) if !line.whole => {
                    let message = format!("line {number} is cut off");
                    self.find(to, Class::Torn, number, message);
                    self.pending.pop_front();
                    self.ahead.pop_front();
                }
                (None, None) => {
                    let message = format!("line {number} isn't what was sealed");
                    self.find(to, Class::Edited, number, message);
                    self.pending.pop_front();
                    self.ahead.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Closes the file until more of it comes.
    pub fn rest(&mut self, to: &mut Findings) -> io::Result<()> {
        self.resolve(0, u64::MAX, to)?;
        self.place = self.here();
        self.lines = None;
        self.ahead.clear();
        Ok(())
    }

    /// Bytes from `off` on were gone, and what was appended since stands there.
    pub fn gap(&mut self, off: u64, to: &mut Findings) -> io::Result<()> {
        self.resolve(0, off, to)?;
        self.sealed = Some(off);
        Ok(())
    }

    /// The file was removed as its time was over. Whether it's gone is seen in the end.
    pub fn prune(&mut self) {
        self.pruned = true;
    }

    /// Compares what is left, and counts what isn't sealed.
    pub fn finish(
        &mut self,
        directory: &Directory<'s>,
        queue: &'s Queue,
        to: &mut Findings,
    ) -> io::Result<Tail> {
        let tail = self.last(directory, queue, to)?;
        if !self.pruned || !self.is_sealed() {
            return Ok(tail);
        }
        // A run of maintenance that was killed left it as it was; nothing else has a reason to be there.
        let as_sealed = self.found == 0 && self.missing == 0 && tail.lines == 0;
        let there = match self.broken {
            true => !matches!(directory.day(self.name, 0), Ok(None)),
            false => self.lines.is_some(),
        };
        self.withdraw(to);
        if there && !as_sealed {
            let message =
                "retention had removed the file, and there is one of its name that isn't it";
            self.find(to, Class::Returned, 0, message.to_owned());
        }
        Ok(Tail {
            prunable: there && as_sealed,
            from: tail.from,
            ..Tail::default()
        })
    }

    fn last(
        &mut self,
        directory: &Directory<'s>,
        queue: &'s Queue,
        to: &mut Findings,
    ) -> io::Result<Tail> {
        self.resolve(0, u64::MAX, to)?;
        let sealed = self.sealed.unwrap_or(0);
        let mut tail = Tail::default();
        self.open(directory, queue)?;
        if self.broken {
            return Ok(tail);
        }
        self.vanished = self.is_sealed() && self.lines.is_none();
        if self.is_missing() {
            let message = format!("the file is gone; sealed lines in it: {}", self.missing);
            self.find(to, Class::Missing, 0, message);
            return Ok(tail);
        }
        tail.from = self.here();
        while let Some(line) = self.next_line()? {
            if line.off < sealed && self.found == 0 {
                let message = format!("line {} wasn't there", line.number);
                self.find(to, Class::Inserted, line.number, message);
                continue;
            }
            tail.lines += 1;
            tail.bytes += line.end - line.off;
            tail.torn = !line.whole;
        }
        // Where only blanks were sealed last, no line tells that they are gone.
        let length = self.lines.as_ref().map_or(0, |lines| lines.place().0);
        if length < sealed && self.found == 0 && !self.pruned {
            let message = match self.lines {
                Some(_) => format!("the file ends at byte {length}, and was sealed to {sealed}"),
                None => format!("the file is gone; it was sealed to byte {sealed}, without a line"),
            };
            self.find(to, Class::Deleted, 0, message);
        }
        Ok(tail)
    }

    /// Lets go of what is open.
    pub fn close(&mut self) {
        self.lines = None;
        self.pending = VecDeque::new();
        self.ahead = VecDeque::new();
    }
}
