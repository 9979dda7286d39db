//! The digests of the lines that this process wrote, until they are sealed: what isn't what was written
//! then was changed in between, and doesn't pass for it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use crate::format::record::Range;
use crate::hash::Digest;

use super::directory::Directory;
use super::disk::{File, How, Identity};
use super::known::Known;
use crate::format::name::{DayName, Place};

/// Digests that are kept. Of more lines the oldest aren't compared.
const MOST: usize = 8 * 1024;

/// So many are sealed at once, before their time.
const MANY: usize = 6 * 1024;

/// A line that this process wrote.
#[derive(Debug, Clone, Copy)]
pub struct OwnLine {
    place: Place,
    length: u64,
    digest: Digest,
    /// The device and inode of the file: what has its name now may be another.
    file: Identity,
    /// Read again as it was.
    met: bool,
}

impl OwnLine {
    /// A line, its line feed not counted, and where it was written.
    pub fn new(place: Place, file: Identity, line: &[u8]) -> OwnLine {
        OwnLine {
            place,
            length: line.len() as u64,
            digest: Digest::of(line),
            file,
            met: false,
        }
    }

    /// Where it was written.
    pub fn range(&self) -> Range {
        Range {
            file: self.place.day.file_name(),
            off: self.place.offset,
            len: self.length,
        }
    }

    /// The digest of what was written, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        self.digest.to_string()
    }
}

/// Where the last line of each file ends, its line feed included, and which file that was.
pub type Ends = BTreeMap<DayName, (u64, Identity)>;

/// Those that aren't sealed, as far as this process knows.
#[derive(Debug, Default)]
pub struct OwnLines {
    lines: Vec<OwnLine>,
    /// However many lines there are, and while they are with the one who seals.
    ends: Ends,
}

impl OwnLines {
    /// Adds one.
    pub fn push(&mut self, line: OwnLine) {
        if self.lines.len() >= MOST {
            // Half of them, so that it isn't done for every line.
            let dropped = self.lines.len() - MOST / 2;
            self.lines.drain(..dropped);
        }
        let Place { day, offset } = line.place;
        self.ends.insert(day, (offset + line.length + 1, line.file));
        self.lines.push(line);
    }

    /// Notes where those end that were written before any was added.
    pub fn end_at(&mut self, early: Ends) {
        for (day, end) in early {
            // Of a file that was added to since, the later end counts.
            self.ends.entry(day).or_insert(end);
        }
    }

    /// Adds several.
    pub fn extend(&mut self, lines: Vec<OwnLine>) {
        self.lines.extend(lines);
    }

    /// Takes them all, in the order in which they stand in the log.
    pub fn take(&mut self) -> OwnLines {
        let mut lines = std::mem::take(&mut self.lines);
        lines.sort_unstable_by_key(|line| line.place);
        OwnLines {
            lines,
            ends: Ends::new(),
        }
    }

    /// Puts those back that were taken, in front of what came since.
    pub fn put_back(&mut self, mut taken: OwnLines) {
        taken.lines.append(&mut self.lines);
        self.lines = taken.lines;
    }

    /// Whether there are so many that they should be sealed before their time.
    pub fn are_many(&self) -> bool {
        self.lines.len() >= MANY
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Where the first one of a file is.
    pub fn first_of(&self, day: &DayName) -> Option<u64> {
        let places = self.lines.iter().map(|line| line.place);
        let of_it = places.filter(|place| place.day == *day);
        of_it.map(|place| place.offset).min()
    }

    /// Where the last one of each file ends.
    pub fn ends(&self) -> Ends {
        self.ends.clone()
    }

    /// Forgets where the last lines of files end that are sealed to there.
    pub fn forget_ends(&mut self, sealed: impl Fn(&DayName, u64) -> bool) {
        self.ends.retain(|day, (end, _)| !sealed(day, *end));
    }

    /// Removes those of some files, and returns of which there were any.
    pub fn remove_of(&mut self, files: &HashSet<DayName>) -> BTreeSet<DayName> {
        let is_of_them = |line: &mut OwnLine| files.contains(&line.place.day);
        let removed = self.lines.extract_if(.., is_of_them);
        removed.map(|line| line.place.day).collect()
    }

    /// Whether a line that was read is one of these, which are in order, and as it was written.
    pub fn meet(&mut self, place: Place, digest: &Digest) -> bool {
        let found = self.lines.binary_search_by_key(&place, |line| line.place);
        let line = found.ok().and_then(|at| self.lines.get_mut(at));
        line.is_some_and(|line| {
            line.met = line.digest == *digest;
            line.met
        })
    }

    /// What was met wasn't sealed.
    pub fn forget_meetings(&mut self) {
        self.lines.iter_mut().for_each(|line| line.met = false);
    }

    /// Takes out what was sealed, by whomever, and returns of it what isn't what was written.
    pub fn take_sealed(&mut self, known: &Known, directory: &Directory) -> Vec<OwnLine> {
        let mut file: Option<(DayName, Option<File>)> = None;
        let mut altered = Vec::new();
        self.lines.retain(|line| {
            let Place { day, offset } = line.place;
            let sealed = offset + line.length < known.sealed(&day);
            if sealed && line.met {
                return false;
            }
            if file.as_ref().is_none_or(|(open, _)| *open != day) {
                let opened = match directory.open_day(day, How::Read) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
                    opened => opened.ok(),
                };
                file = Some((day, opened));
            }
            let Some((_, Some(file))) = &file else {
                return true;
            };
            // A file that was moved away took its lines along.
            if file.stat().is_ok_and(|there| there.identity != line.file) {
                return false;
            }
            if !sealed {
                return true;
            }
            let mut bytes = vec![0; line.length as usize];
            match file.read_exact_at(&mut bytes, offset) {
                Ok(()) if Digest::of(&bytes) == line.digest => {}
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return true,
                _ => altered.push(*line),
            }
            false
        });
        altered
    }
}
