//! Where an entry is: its line in the files, and its place in the tree.
//!
//! Lines stand roughly in the order of their timestamps, and so do the records of the tree, so both are
//! found by bisection where a time is known. What isn't where it should be is looked for everywhere.

use std::io;

use memchr::memmem;

use super::lines::{Lines, start_of_line};
use super::prove::tampered;
use super::source::{Bytes, Directory, Listed, Plain, Span, TREE, not_the_file_s};
use super::tree::Entries;
use super::twins::id_in;
use crate::error::{Error, Status};
use crate::format::merkle::Hash;
use crate::format::name::DayName;
use crate::format::record::{Entry, Range, Record, RecordBody};
use crate::format::tiles::{WIDTH, entries};
use crate::json::show;

/// How far around the place that the time gives lines are looked for first: several processes write at
/// once, and clocks are set.
const AROUND: u64 = 4 << 20;

/// How many tiles before and behind the place that the time gives are looked at first.
const BEFORE: u64 = 64;
const BEHIND: u64 = 1 << 14;

/// How many lines with the id that is wanted are told apart.
const MOST: usize = 256;

/// Only so much of a file is read to find a line with a timestamp.
const STEP: u64 = 4 << 20;

/// The entry that is looked for.
pub struct Wanted<'w> {
    id: &'w str,
    timestamp: Option<&'w str>,
    finder: memmem::Finder<'w>,
}

impl<'w> Wanted<'w> {
    /// An entry by its id, and what else is known of it.
    pub fn new(
        id: &'w str,
        line: Option<&'w [u8]>,
        timestamp: Option<&'w str>,
    ) -> Result<Wanted<'w>, Error> {
        if let Some(timestamp) = timestamp
            && date_of(timestamp).is_none()
        {
            return Err(Error::argument(format!(
                "timestamp: {} isn't one; right is that of the entry, 2026-11-23T15:51:00.123456Z",
                show(timestamp)
            )));
        }
        let wanted = Wanted {
            id,
            timestamp: timestamp.or_else(|| timestamp_of(line?)),
            finder: memmem::Finder::new(id.as_bytes()),
        };
        match line {
            Some(line) if !wanted.is(line) => Err(Error::argument(format!(
                "line: it isn't the entry {}",
                show(id)
            ))),
            _ => Ok(wanted),
        }
    }

    /// Whether a line is that of the entry: it must be its own id, not one that its metadata mentions.
    fn is(&self, line: &[u8]) -> bool {
        self.finder.find(line).is_some() && id_in(line).as_deref() == Some(self.id)
    }
}

/// The timestamp in a line.
pub fn timestamp_of(line: &[u8]) -> Option<&str> {
    const KEY: &[u8] = br#""timestamp":"#;
    let rest = &line[memmem::find(line, KEY)? + KEY.len()..];
    let text = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    std::str::from_utf8(&text[..end]).ok()
}

/// The date that a timestamp begins with, as that of the file that its entry is in.
fn date_of(timestamp: &str) -> Option<[u8; 10]> {
    let date = timestamp.get(..10)?;
    DayName::parse(&format!("audit_{date}.jsonl")).map(|name| name.date)
}

/// A line that was found.
struct Candidate {
    file: DayName,
    start: u64,
    digest: Hash,
}

/// What was looked at, and what of it counts.
struct Search<'s> {
    directory: &'s Directory<'s>,
    all: &'s Entries<'s>,
    wanted: &'s Wanted<'s>,
    candidates: Vec<Candidate>,
    /// Files that can't be read.
    left_out: Vec<String>,
}

/// An entry's file, its place in the tree, and its line.
pub type Found = ((String, u64), Vec<u8>);

/// Finds the line of an entry in the files, and its place in the tree. An entry can stand twice, should
/// a disk have failed or somebody have written another of its id: the sealed one counts.
pub fn lines_with(directory: &Directory, all: &Entries, wanted: &Wanted) -> Result<Found, Error> {
    let (mut search, of_date, others) = Search::begin(directory, all, wanted)?;
    for listed in &of_date {
        if let Some(found) = search.around(listed.day)? {
            return Ok(found);
        }
    }
    if !search.candidates.is_empty()
        && let Some(found) = search.anywhere()?
    {
        return Ok(found);
    }
    for listed in of_date.iter().chain(&others) {
        if let Some(found) = search.in_file(listed.day)? {
            return Ok(found);
        }
    }
    match search.anywhere()? {
        Some(found) => Ok(found),
        None => Err(search.nowhere()),
    }
}

/// Finds a line that is known, if it stands where its time gives it in the files: from there its place in
/// the tree is found at once.
pub fn line_nearby(
    directory: &Directory,
    all: &Entries,
    wanted: &Wanted,
    line: &[u8],
) -> Result<Option<Found>, Error> {
    let (mut search, of_date, _) = Search::begin(directory, all, wanted)?;
    for listed in &of_date {
        let found = search.around(listed.day)?;
        if let Some(found) = found.filter(|(_, found)| found == line) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl<'s> Search<'s> {
    /// A search, and the files: those of the entry's day, and the others, the newest first.
    fn begin(
        directory: &'s Directory<'s>,
        all: &'s Entries<'s>,
        wanted: &'s Wanted<'s>,
    ) -> Result<(Search<'s>, Vec<Listed>, Vec<Listed>), Error> {
        let mut listing = directory
            .list()
            .map_err(|error| Error::log(format!("the log's directory: {error}")))?;
        listing.days.reverse();
        let date = wanted.timestamp.and_then(date_of);
        let of_date = |listed: &Listed| date == Some(listed.day.date);
        let (of_date, others) = listing.days.into_iter().partition(of_date);
        let search = Search {
            directory,
            all,
            wanted,
            candidates: Vec::new(),
            left_out: Vec::new(),
        };
        Ok((search, of_date, others))
    }
}

impl Search<'_> {
    /// Looks at a file around the place that the time gives.
    fn around(&mut self, day: DayName) -> Result<Option<Found>, Error> {
        let Some(timestamp) = self.wanted.timestamp else {
            return Ok(None);
        };
        let range = || -> io::Result<Option<(u64, u64)>> {
            let Some(file) = self.directory.open(&day.file_name())? else {
                return Ok(None);
            };
            let place = bisect(&*file, timestamp)?;
            let from = start_of_line(place.saturating_sub(AROUND), |piece, at| {
                read_exact(&*file, piece, at)
            })?;
            Ok(Some((from, place + AROUND)))
        };
        // What can't be read this way is read from its beginning, and what comes of it is told.
        match range() {
            Ok(Some((from, to))) => self.lines(day, from, to),
            _ => Ok(None),
        }
    }

    /// Looks at all lines of a file.
    fn in_file(&mut self, day: DayName) -> Result<Option<Found>, Error> {
        self.lines(day, 0, u64::MAX)
    }

    fn lines(&mut self, day: DayName, from: u64, to: u64) -> Result<Option<Found>, Error> {
        match self.read_lines(day, from, to) {
            Ok(found) => found,
            Err(error) => match not_the_file_s(&error) {
                Some(error) => Err(error),
                None => {
                    self.left_out.push(format!("{}: {error}", day.file_name()));
                    Ok(None)
                }
            },
        }
    }

    fn read_lines(
        &mut self,
        day: DayName,
        from: u64,
        to: u64,
    ) -> io::Result<Result<Option<Found>, Error>> {
        let Some(source) = self.directory.day(day, from)? else {
            return Ok(Ok(None));
        };
        let mut lines = Lines::new(source, from);
        while let Some(line) = lines.next()? {
            if line.start >= to {
                break;
            }
            if !line.is_held() || !self.wanted.is(line.text) {
                continue;
            }
            let digest = line.digest();
            let known = self.candidates.iter().any(|known| known.digest == digest);
            if known || self.candidates.len() == MOST {
                continue;
            }
            let near = timestamp_of(line.text).unwrap_or_default();
            let near = Near {
                date: day.date,
                timestamp: near,
                place: Some((day, line.start)),
            };
            match index_of(self.all, &[digest], Some(near)) {
                Ok(Some((index, _))) => {
                    return Ok(Ok(Some(((day.file_name(), index), line.text.to_vec()))));
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
            self.candidates.push(Candidate {
                file: day,
                start: line.start,
                digest,
            });
        }
        Ok(Ok(None))
    }

    /// Looks for what was found in the whole tree.
    fn anywhere(&self) -> Result<Option<Found>, Error> {
        let digests: Vec<Hash> = self.candidates.iter().map(|found| found.digest).collect();
        let found = match digests.is_empty() {
            true => None,
            false => index_of(self.all, &digests, None)?,
        };
        let Some((index, at)) = found else {
            return Ok(None);
        };
        let found = &self.candidates[at];
        let file = found.file.file_name();
        let failed = |error: io::Error| Error::log(format!("{file}: {error}"));
        let source: Option<Bytes> = self
            .directory
            .day(found.file, found.start)
            .map_err(failed)?;
        let mut lines = Lines::new(source.unwrap_or(Box::new(io::empty())), found.start);
        Ok(match lines.next().map_err(failed)? {
            Some(line) if line.digest() == found.digest => {
                Some(((file, index), line.text.to_vec()))
            }
            // It was changed meanwhile.
            _ => None,
        })
    }

    /// Why there is nothing to prove.
    fn nowhere(&self) -> Error {
        let mut why = match self.candidates.first() {
            None => format!("no entry has the id {}", show(self.wanted.id)),
            Some(first) => format!(
                "{}: the entry isn't sealed as it stands: it is too new, or was changed, which verify tells",
                first.file.file_name()
            ),
        };
        if let Some(first) = self.left_out.first() {
            let count = self.left_out.len();
            why.push_str(&format!("; not all files could be read ({count}): {first}"));
        }
        Error::new(Status::NotFound, why)
    }
}

fn read_exact(file: &dyn Plain, piece: &mut [u8], at: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read_at(&mut piece[filled..], at + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}

/// The place in a file before which lines are older than a time, as far as they are in order.
fn bisect(file: &dyn Plain, timestamp: &str) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.length()?);
    while high - low > AROUND / 4 {
        let middle = low + (high - low) / 2;
        // The first line behind the middle that has a timestamp.
        let mut lines = Lines::new(Span::new(file, middle, middle + STEP), middle);
        let mut later = true;
        let mut first = true;
        while let Some(line) = lines.next()? {
            let stamp = timestamp_of(line.text).filter(|_| !std::mem::take(&mut first));
            if let Some(stamp) = stamp {
                later = stamp >= timestamp;
                break;
            }
        }
        match later {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(low)
}

/// About where a line was sealed: what is known of its place in the files.
#[derive(Clone, Copy)]
pub struct Near<'n> {
    date: [u8; 10],
    timestamp: &'n str,
    /// Its file, and where in it.
    place: Option<(DayName, u64)>,
}

impl<'n> Near<'n> {
    /// A line with that timestamp.
    pub fn time(timestamp: &'n str) -> Option<Near<'n>> {
        Some(Near {
            date: date_of(timestamp)?,
            timestamp,
            place: None,
        })
    }

    /// Whether bytes were sealed before it, if all went in order: the days, and the bytes of a file, or
    /// else the times.
    fn is_behind(&self, ts: &str, range: &Range) -> bool {
        let Some(file) = DayName::parse(&range.file) else {
            return false;
        };
        match self.place {
            _ if file.date != self.date => file.date < self.date,
            Some((day, offset)) if day.number == file.number => range.off + range.len <= offset,
            _ => ts < self.timestamp,
        }
    }
}

/// The place in the tree that holds one of some digests, and which: where it should be if that is known,
/// else anywhere.
pub fn index_of(
    all: &Entries,
    digests: &[Hash],
    near: Option<Near>,
) -> Result<Option<(u64, usize)>, Error> {
    let tiles = all.size().div_ceil(WIDTH);
    let range = match near {
        Some(near) => {
            let place = sealed_about(all, near)?;
            place..place.saturating_add(BEHIND).min(tiles)
        }
        None => 0..tiles,
    };
    for number in range {
        let bytes = tile(all, number)?;
        for (index, entry) in (number * WIDTH..).zip(entries(&bytes)) {
            if let Some(at) = digests.iter().position(|digest| digest == entry) {
                return Ok(Some((index, at)));
            }
        }
    }
    Ok(None)
}

fn tile(all: &Entries, number: u64) -> Result<Vec<u8>, Error> {
    all.tile(number).map_err(|error| tampered(TREE, error))
}

/// The tile from which on a line was sealed, as far as lines were sealed in order.
pub fn sealed_about(all: &Entries, near: Near) -> Result<u64, Error> {
    let (mut low, mut high) = (0, all.size().div_ceil(WIDTH));
    while low < high {
        let middle = low + (high - low) / 2;
        let mut at = middle;
        let behind = loop {
            if at == high {
                break false;
            }
            if let Some((ts, range)) = first_seg(&tile(all, at)?) {
                break near.is_behind(&ts, &range);
            }
            at += 1;
        };
        match behind {
            true => low = at + 1,
            false => high = middle,
        }
    }
    Ok(low.saturating_sub(BEFORE))
}

fn first_seg(tile: &[u8]) -> Option<(String, Range)> {
    entries(tile).find_map(|entry| match Entry::parse(entry) {
        Ok(Entry::Record(Record {
            ts,
            body: RecordBody::Seg { range, .. },
        })) => Some((ts, range)),
        _ => None,
    })
}

/// The file that the tree says an entry is in.
pub fn file_of(all: &Entries, index: u64) -> Result<Option<String>, Error> {
    for number in (0..=index / WIDTH).rev() {
        let bytes = tile(all, number)?;
        let before = (index + 1).saturating_sub(number * WIDTH) as usize;
        let records = entries(&bytes)
            .take(before)
            .filter_map(|entry| match Entry::parse(entry) {
                Ok(Entry::Record(record)) => Some(record.body),
                _ => None,
            });
        if let Some(last) = records.last() {
            return Ok(match last {
                RecordBody::Seg { range, .. } => Some(range.file),
                _ => None,
            });
        }
    }
    Ok(None)
}
