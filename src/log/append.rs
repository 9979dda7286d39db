//! One day's file, appended to without a lock between processes.
//!
//! Each append is one `write` with O_APPEND, which puts the bytes at the end of the file as one
//! piece: writers never interleave. Two things can still go wrong, and both are met here:
//!
//! - A process killed inside its `write` leaves a torn line without a line feed, and the next
//!   line, whoever writes it, is swallowed by it. So after each append the file position tells
//!   where it landed. If that isn't where our last append ended, others wrote in between, and what
//!   stands between the last line feed and ours is looked at; if it's more than spaces, our line
//!   was swallowed: it's written over with spaces, and then written again.
//! - Our own append can be cut short (a full disk, a size limit). The piece that came is written
//!   over with spaces and a line feed at once, which takes no room where the file system writes in
//!   place.
//!
//! Nobody ever writes over a line that may be another living process's: its own copies are known to
//! the byte, and what the dead left is mended under a lock (`mend`).

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::directory::Directory;
use super::disk::{File, How, about};
use super::durable::{Durable, Ticket};
use crate::clock::Timestamp;
use crate::format::name::{DayName, Place};

/// A day's file, open to append to it.
#[derive(Debug)]
pub struct DayFile {
    name: DayName,
    file: Arc<Durable>,
    /// The same file, to write over what stands in it: a write to the other descriptor appends,
    /// wherever it's told to go. Opened beforehand, for there may be no descriptor left when it's
    /// needed.
    over: File,
    /// Where our last append ended; `None` before the first.
    end: Option<u64>,
    /// A piece of ours without a line feed is at the end, and couldn't be written over.
    torn: bool,
    /// The second in which the name was last seen to be this file's.
    seen: [u8; 19],
}

/// A line that was appended, and what was found beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// For the disk to confirm it.
    pub ticket: Ticket,
    /// Where it begins, if that could be told.
    pub start: Option<u64>,
    /// It followed the torn line of another writer.
    pub torn: bool,
    /// The file is shorter than what was written to it.
    pub cut: bool,
}

/// Whatever the piece before is, it's no JSON with this behind it: were it a whole line but for its
/// line feed, its entry would be there twice once it's written again.
const CLOSE: &[u8] = b"x\n";

impl DayFile {
    /// Opens the first file of a day, from `first` on, that isn't finished, and creates it if it is
    /// missing. A name stands for one file, for ever: a plain one beside a compressed one would be
    /// taken for it, one under the name of a file that was removed would seem to be that. `finished`
    /// tells of others.
    pub fn open(
        directory: &Directory,
        first: DayName,
        now: &Timestamp,
        finished: impl Fn(DayName) -> bool,
    ) -> io::Result<DayFile> {
        const MOST: u32 = 10_000;
        for number in first.number..=MOST {
            let name = DayName { number, ..first };
            let compressed = name.compressed();
            if finished(name) || directory.has(compressed)? {
                continue;
            }
            let file = directory.open_day(name, How::Append { new: false })?;
            // It may have come since; whoever puts it there removes the plain one afterwards.
            if !directory.has(compressed)? {
                return DayFile::new(directory, name, file, now);
            }
        }
        Err(io::Error::other(format!(
            "{}: the day has too many files",
            first.file_name()
        )))
    }

    fn new(
        directory: &Directory,
        name: DayName,
        file: File,
        now: &Timestamp,
    ) -> io::Result<DayFile> {
        let over = directory.open_day(name, How::Change)?;
        if !directory.still_names(name, &file) || !directory.still_names(name, &over) {
            return Err(io::Error::other(format!(
                "{} was moved while it was opened",
                name.file_name()
            )));
        }
        Ok(DayFile {
            name,
            file: Arc::new(Durable::new(file)?),
            over,
            end: None,
            torn: false,
            seen: second(now),
        })
    }

    /// Which file it is.
    pub fn name(&self) -> DayName {
        self.name
    }

    /// Whether the file still has its name; looked up once a second. Somebody may have moved or
    /// deleted it, and lines written to it would be lost.
    pub fn is_in_place(&mut self, directory: &Directory, now: &Timestamp) -> bool {
        if self.seen == second(now) {
            return true;
        }
        self.seen = second(now);
        self.has_its_name(directory)
    }

    /// The same, looked up at once.
    pub fn has_its_name(&self, directory: &Directory) -> bool {
        directory.still_names(self.name, &self.file)
    }

    /// For a sync, or a last look, without the lock that guards this value.
    pub fn handle(&self) -> Arc<Durable> {
        Arc::clone(&self.file)
    }

    /// A place that nothing appended from now on stands before.
    pub fn place(&self) -> io::Result<Place> {
        let offset = match self.end {
            Some(end) => end,
            None => self.file.length()?,
        };
        Ok(Place {
            day: self.name,
            offset,
        })
    }

    /// Appends a whole line, line feed included.
    pub fn append(&mut self, line: &[u8]) -> io::Result<Appended> {
        let (mut torn, mut cut) = (false, false);
        loop {
            let start = if self.torn {
                let start = self.write(&[CLOSE, line].concat())?;
                torn = true;
                start.map(|at| at + CLOSE.len() as u64)
            } else {
                self.write(line)?
            };
            let before = self.end;
            self.end = start.map(|start| start + line.len() as u64);
            // If its place can't be told, the line is in the file all the same, and there's no
            // reason to write it twice.
            if let Some(start) = start {
                cut |= before.is_some_and(|before| start < before);
                if before != Some(start) && !self.is_at_the_head_of_a_line(start) {
                    torn = true;
                    // First, so that it never stands twice: whoever mends the torn line must not find
                    // a whole one behind it. If we are killed before it's written again, the journal
                    // has it.
                    self.write_over(start..start + line.len() as u64 - 1, b"")?;
                    continue;
                }
            }
            return Ok(Appended {
                ticket: self.file.wrote(),
                start,
                torn,
                cut,
            });
        }
    }

    /// Writes at the end, and says where, if that can be told.
    fn write(&mut self, bytes: &[u8]) -> io::Result<Option<u64>> {
        let error = match self.file.append(bytes) {
            Ok(written) if written == bytes.len() => {
                self.torn = false;
                let end = self.file.position().ok();
                return Ok(end.and_then(|end| end.checked_sub(written as u64)));
            }
            Ok(written) => {
                // The rest can't follow: another process may have appended by now.
                self.take_back(written as u64, (bytes.len() - written) as u64);
                io::Error::new(
                    io::ErrorKind::StorageFull,
                    "the line was cut short: the disk is full, or the file at its limit",
                )
            }
            Err(error) => error,
        };
        Err(about(self.name.file_name())(error))
    }

    /// Writes over the piece of our own that a short write left at the end of the file, and closes it.
    /// So many bytes were `lacking`.
    fn take_back(&mut self, written: u64, lacking: u64) {
        // What closes an earlier piece stays: without it that might be a whole line.
        let closing = if self.torn { CLOSE.len() as u64 } else { 0 };
        if written <= closing {
            self.torn |= written > 0;
            return;
        }
        let taken = self.file.position().and_then(|end| {
            let piece = end - (written - closing)..end - 1;
            if lacking == 1 {
                // With its line feed it would be an entry.
                self.write_over(piece, b"\n")?;
            } else {
                self.over.write_all_at(b"\n", piece.end)?;
                // Where there's no room for it, what is left can be told by how it begins, and is mended.
                let _ = blank(&self.over, piece);
            }
            self.end = Some(end);
            Ok(())
        });
        self.torn = taken.is_err();
    }

    /// Writes spaces over a range of the file, and something more behind it.
    fn write_over(&self, range: Range<u64>, more: &[u8]) -> io::Result<()> {
        blank(&self.over, range.clone())?;
        self.over.write_all_at(more, range.end)
    }

    /// Whether nothing but spaces stands between the last line feed and a place in the file.
    fn is_at_the_head_of_a_line(&self, place: u64) -> bool {
        let mut at = place;
        let mut piece = [0; 512];
        while at > 0 {
            let from = at.saturating_sub(piece.len() as u64);
            let Some(part) = piece.get_mut(..(at - from) as usize) else {
                return true;
            };
            if self.file.read_exact_at(part, from).is_err() {
                // What can't be read can't be told to be torn.
                return true;
            }
            match part.iter().rposition(|byte| *byte != b' ') {
                Some(last) => return part[last] == b'\n',
                None => at = from,
            }
        }
        true
    }
}

/// Writes spaces over a range of a file: the end first and page by page, none of which is torn by a kill.
/// So what is left of a line when this is cut off can still be told by how it begins.
pub fn blank(file: &File, range: Range<u64>) -> io::Result<()> {
    const PAGE: u64 = 4096;
    const SPACES: [u8; PAGE as usize] = [b' '; PAGE as usize];
    let mut end = range.end;
    while end > range.start {
        let start = ((end - 1) / PAGE * PAGE).max(range.start);
        file.write_all_at(&SPACES[..(end - start) as usize], start)?;
        end = start;
    }
    Ok(())
}

fn second(stamp: &Timestamp) -> [u8; 19] {
    *stamp.as_bytes().first_chunk().unwrap_or(&[0; 19])
}
