//! One day's file, appended to without a lock between processes.
//!
//! Each append is one `write` with O_APPEND, which puts the bytes at the end of the file as one
//! piece: writers never interleave. Two things can still go wrong, and both are met here:
//!
//! - A process killed inside its `write` leaves a torn line without a line feed, and the next
//!   line, whoever writes it, is swallowed by it. So after each append the file position tells
//!   where it landed. If that isn't where our last append ended, others wrote in between, and the
//!   byte before ours must be a line feed; if it isn't, our line was swallowed and is written
//!   again. (Its own line feed has closed the torn line by then.)
//! - Our own append can be cut short (a full disk, a size limit). Then the torn line is ours, and
//!   the next append starts with a line feed to close it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::disk::Directory;
use crate::clock::Timestamp;
use crate::sys;

/// The name of the file for the entries of a date.
pub(super) fn file_name(date: &[u8]) -> String {
    format!("audit_{}.jsonl", String::from_utf8_lossy(date))
}

#[derive(Debug)]
pub(super) struct DayFile {
    date: Vec<u8>,
    name: String,
    file: Arc<File>,
    /// Where our last append ended; `None` before the first.
    end: Option<u64>,
    /// Our last append was cut short.
    torn: bool,
    /// The second in which the name was last seen to be this file's.
    seen: Cell<[u8; 19]>,
}

impl DayFile {
    pub(super) fn open(directory: &Directory, date: &[u8], now: &Timestamp) -> io::Result<DayFile> {
        let name = file_name(date);
        let file = Arc::new(directory.open_to_append(&name)?);
        Ok(DayFile {
            date: date.to_vec(),
            name,
            file,
            end: None,
            torn: false,
            seen: Cell::new(second(now)),
        })
    }

    pub(super) fn is_of(&self, date: &[u8]) -> bool {
        self.date == date
    }

    /// Whether the file still has its name; looked up once a second. Somebody may have moved or
    /// deleted it, and lines written to it would be lost.
    pub(super) fn is_in_place(&self, directory: &Directory, now: &Timestamp) -> bool {
        if self.seen.get() == second(now) {
            return true;
        }
        self.seen.set(second(now));
        directory.still_names(&self.name, &self.file)
    }

    /// For a sync without the lock that guards this value.
    pub(super) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Appends a whole line, line feed included.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        loop {
            if self.torn {
                self.write(&[b"\n", line].concat())?;
            } else {
                self.write(line)?;
            }
            if self.landed_on_a_line_of_its_own(line.len()) {
                return Ok(());
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            let error = match (&*self.file).write(bytes) {
                Ok(written) => {
                    if let Some(last) = bytes[..written].last() {
                        self.torn = *last != b'\n';
                    }
                    if written == bytes.len() {
                        return Ok(());
                    }
                    // The rest can't follow: another process may have appended by now.
                    io::Error::other(
                        "the line was cut short: the disk is full, or the file at its limit",
                    )
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    sys::note_write_error(&error);
                    error
                }
            };
            return Err(io::Error::new(
                error.kind(),
                format!("{}: {error}", self.name),
            ));
        }
    }

    /// To be asked after a line of `length` bytes was written in full.
    fn landed_on_a_line_of_its_own(&mut self, length: usize) -> bool {
        // The line is in the file. If its place can't be told, there's no reason to write it
        // twice.
        let Ok(end) = (&*self.file).stream_position() else {
            self.end = None;
            return true;
        };
        let start = end.saturating_sub(length as u64);
        let follows_ours = self.end == Some(start);
        self.end = Some(end);
        if follows_ours || start == 0 {
            return true;
        }
        let mut before = [0];
        match self.file.read_exact_at(&mut before, start - 1) {
            Ok(()) => before[0] == b'\n',
            Err(_) => true,
        }
    }
}

fn second(stamp: &Timestamp) -> [u8; 19] {
    *stamp.as_bytes().first_chunk().unwrap_or(&[0; 19])
}
