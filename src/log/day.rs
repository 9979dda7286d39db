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
//!   over with spaces and a line feed at once, which takes no room.
//!
//! Nobody ever writes over a line that may be another living process's: its own copies are known to
//! the byte, and what the dead left is mended under a lock (`recover`).

use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::disk::Directory;
use super::durable::{Synced, Ticket};
use super::folder::OpenFile;
use crate::clock::Timestamp;
use crate::format::name::{DayName, Place};
use crate::sys;

/// A day's file, open to append to it.
#[derive(Debug)]
pub struct DayFile {
    name: DayName,
    file: Arc<Synced>,
    /// The same file, to write over what stands in it: a write to the other descriptor appends,
    /// wherever it's told to go. Opened beforehand, for there may be no descriptor left when it's
    /// needed.
    over: OpenFile,
    /// Where our last append ended; `None` before the first.
    end: Option<u64>,
    /// A piece of ours without a line feed is at the end, and couldn't be written over.
    torn: bool,
    /// The second in which the name was last seen to be this file's.
    seen: [u8; 19],
}

/// What an append found beside its own line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The torn line of another writer that ours followed.
    pub torn: bool,
    /// The file is shorter than what was written to it.
    pub cut: bool,
}

impl DayFile {
    /// Opens the file of that name, or creates it. One that is compressed is finished: then it's the
    /// next one of the day.
    pub fn open(directory: &Directory, name: DayName, now: &Timestamp) -> io::Result<DayFile> {
        let open = |name: &str| directory.open_to_append(name);
        DayFile::first_unfinished(directory, name, now, open)
    }

    /// Creates the next further file of a day.
    pub fn create_after(
        directory: &Directory,
        earlier: DayName,
        now: &Timestamp,
    ) -> io::Result<DayFile> {
        let create = |name: &str| directory.create_to_append(name);
        DayFile::first_unfinished(directory, earlier.next(), now, create)
    }

    /// A name stands for one file, plain or compressed: a plain one beside a compressed one would
    /// be taken for it.
    fn first_unfinished(
        directory: &Directory,
        first: DayName,
        now: &Timestamp,
        open: impl Fn(&str) -> io::Result<OpenFile>,
    ) -> io::Result<DayFile> {
        const MOST: u32 = 10_000;
        for number in first.number..=MOST {
            let name = DayName { number, ..first };
            let compressed = name.compressed().file_name();
            if directory.has(&compressed)? {
                continue;
            }
            let file = match open(&name.file_name()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // It may have come since; whoever puts it there removes the plain one afterwards.
            if !directory.has(&compressed)? {
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
        file: OpenFile,
        now: &Timestamp,
    ) -> io::Result<DayFile> {
        let over = directory.open_to_mend(&name.file_name())?;
        if !directory.still_names(&name.file_name(), &file)
            || !directory.still_names(&name.file_name(), &over)
        {
            return Err(io::Error::other(format!(
                "{} was moved while it was opened",
                name.file_name()
            )));
        }
        Ok(DayFile {
            name,
            file: Arc::new(Synced::new(file)),
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
        directory.still_names(&self.name.file_name(), &self.file)
    }

    /// For a sync, or a last look, without the lock that guards this value.
    pub fn handle(&self) -> Arc<Synced> {
        Arc::clone(&self.file)
    }

    /// Where the last append of so many bytes began, if that could be told.
    pub fn start_of_last(&self, bytes: u64) -> Option<u64> {
        self.end.and_then(|end| end.checked_sub(bytes))
    }

    /// A place that nothing appended from now on stands before.
    pub fn place(&self) -> io::Result<Place> {
        let offset = match self.end {
            Some(end) => end,
            None => self.file.metadata()?.len(),
        };
        Ok(Place {
            day: self.name,
            offset,
        })
    }

    /// Appends a whole line, line feed included.
    pub fn append(&mut self, line: &[u8]) -> io::Result<(Ticket, Found)> {
        /// Whatever the piece is, it's no JSON with this behind it: were it a whole line but for its
        /// line feed, its entry would be there twice once it's written again.
        const CLOSE: &[u8] = b"x\n";
        let mut found = Found::default();
        loop {
            let start = if self.torn {
                let start = self.write(&[CLOSE, line].concat())?;
                found.torn = true;
                start.map(|at| at + CLOSE.len() as u64)
            } else {
                self.write(line)?
            };
            // If its place can't be told, the line is in the file all the same, and there's no
            // reason to write it twice.
            let Some(start) = start else {
                self.end = None;
                return Ok((self.file.wrote(), found));
            };
            let before = self.end.replace(start + line.len() as u64);
            found.cut |= before.is_some_and(|before| start < before);
            if before == Some(start) || self.is_at_the_head_of_a_line(start) {
                return Ok((self.file.wrote(), found));
            }
            found.torn = true;
            // First, so that it never stands twice: whoever mends the torn line must not find a
            // whole one behind it. If we are killed before it's written again, the journal has it.
            let copy = start..start + line.len() as u64 - 1;
            self.write_over(copy, b"")?;
        }
    }

    /// Writes at the end, and says where, if that can be told.
    fn write(&mut self, bytes: &[u8]) -> io::Result<Option<u64>> {
        let error = loop {
            match (&**self.file).write(bytes) {
                Ok(written) if written == bytes.len() => {
                    self.torn = false;
                    let end = (&**self.file).stream_position().ok();
                    return Ok(end.and_then(|end| end.checked_sub(written as u64)));
                }
                Ok(written) => {
                    // The rest can't follow: another process may have appended by now.
                    self.take_back(written as u64);
                    break io::Error::new(
                        io::ErrorKind::StorageFull,
                        "the line was cut short: the disk is full, or the file at its limit",
                    );
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    sys::note_write_error(&error);
                    break error;
                }
            }
        };
        Err(io::Error::new(
            error.kind(),
            format!("{}: {error}", self.name.file_name()),
        ))
    }

    /// Writes over the piece of our own that a short write left at the end of the file.
    fn take_back(&mut self, written: u64) {
        if written == 0 {
            return;
        }
        let taken = (&**self.file).stream_position().and_then(|end| {
            let start = end.saturating_sub(written);
            self.write_over(start..end - 1, b"\n")?;
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

/// Writes spaces over a range of a file.
pub fn blank(file: &File, range: Range<u64>) -> io::Result<()> {
    const SPACES: [u8; 4096] = [b' '; 4096];
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(SPACES.len() as u64);
        file.write_all_at(&SPACES[..length as usize], at)?;
        at += length;
    }
    Ok(())
}

fn second(stamp: &Timestamp) -> [u8; 19] {
    *stamp.as_bytes().first_chunk().unwrap_or(&[0; 19])
}
