//! The next lines of one file, read back and added to the tree.

use std::io;
use std::ops::Range as Bytes;
use std::time::SystemTime;

use super::directory::Directory;
use super::disk::{File, How, Identity, Part, if_there, line_start};
use super::known::Known;
use super::mend;
use super::own::OwnLines;
use crate::clock::Timestamp;
use crate::format::name::{DayName, Place};
use crate::format::record::{LATE, Range, RecordBody};
use crate::format::torn::Remnant;
use crate::hash::Digest;
use crate::read::lines::{Lines, Seen};

/// Lines that go into the tree with one signature: what they take in memory is bounded.
const BATCH: usize = 4 * 1024;
const BATCH_BYTES: u64 = 4 << 20;

/// What gathering came upon.
#[derive(Debug, Default)]
pub struct Found {
    /// Torn lines, before which it stopped.
    pub torn: Vec<Place>,
    /// What an operator should know.
    pub messages: Vec<String>,
    /// Own lines that had been changed.
    pub altered: u64,
    /// It gave the lock back before all was sealed, for others to have it.
    pub more: bool,
}

impl Found {
    /// Adds what was found later.
    pub fn add(&mut self, other: Found) {
        self.torn.extend(other.torn);
        self.messages.extend(other.messages);
        self.altered += other.altered;
    }
}

/// A file whose next lines are to be sealed.
pub struct Gathering<'g> {
    /// The log's directory.
    pub directory: &'g Directory,
    /// Which file.
    pub day: DayName,
    /// What it was when it was read last, if it was.
    pub before: Option<Identity>,
    /// The log's clock.
    pub now: SystemTime,
}

/// Why a file can't be sealed.
pub enum Failed {
    /// The disk refused to confirm it.
    Refused(io::Error),
    /// It can't be read.
    Unreadable(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Unreadable(error)
    }
}

/// The lines that were read.
#[derive(Default)]
struct Batch {
    digests: Vec<Digest>,
    /// Lines of spaces.
    blanks: Vec<Bytes<u64>>,
    /// Where the last one ends.
    end: u64,
    /// The first was stamped long ago.
    late: bool,
    /// It was cut off because it's long enough.
    full: bool,
}

impl Gathering<'_> {
    /// Adds the next lines to the tree. Returns whether there may be more, and which file it is.
    pub fn gather(
        &self,
        known: &mut Known,
        own: &mut OwnLines,
        found: &mut Found,
    ) -> Result<Option<(bool, Identity)>, Failed> {
        let now = &Timestamp::of(self.now);
        let name = self.day.file_name();
        let sealed = known.sealed(&self.day);
        let Some(file) = if_there(self.directory.open_day(self.day, How::Read))? else {
            return Ok(None);
        };
        let stat = file.stat()?;
        let from = match self.before {
            // Another file has its name.
            Some(before) if before != stat.identity => 0,
            _ => sealed_part(&file, sealed, stat.length)?,
        };
        if from < sealed {
            found.messages.push(format!(
                "{name} was cut short or replaced by somebody: what was sealed of it from byte {from} \
                 on is missing"
            ));
            known.record(now, RecordBody::Gap(self.range(from, sealed)));
        }
        if from == stat.length {
            return Ok(Some((from < sealed, stat.identity)));
        }
        let batch = self.read(&file, from, own, found)?;
        if batch.end == from {
            return Ok(Some((false, stat.identity)));
        }
        // Nothing is signed that a power cut could take. A second try would be believed, and prove
        // nothing.
        file.sync_data().map_err(Failed::Refused)?;
        if sealed == 0 {
            self.directory.sync()?;
        }
        if batch.late {
            known.record(now, RecordBody::Recovered(self.range(from, batch.end)));
        }
        self.record_torn(known, &batch.blanks, now)?;
        known.record(
            now,
            RecordBody::Seg {
                range: self.range(from, batch.end),
                lines: batch.digests.len() as u64,
            },
        );
        for digest in &batch.digests {
            known.digest(digest.as_bytes());
        }
        Ok(Some((batch.full, stat.identity)))
    }

    fn range(&self, off: u64, end: u64) -> Range {
        Range {
            file: self.day.file_name(),
            off,
            len: end - off,
        }
    }

    fn read(
        &self,
        file: &File,
        from: u64,
        own: &mut OwnLines,
        found: &mut Found,
    ) -> io::Result<Batch> {
        let in_time = Timestamp::of(self.now.checked_sub(LATE).unwrap_or(self.now));
        let mut lines = Lines::new(Part::from(file, from)?, from);
        let mut batch = Batch {
            end: from,
            ..Batch::default()
        };
        let mut noted = None;
        while let Some(line) = lines.next()? {
            if !line.closed {
                break;
            }
            if !line.is_spaces() {
                let place = Place {
                    day: self.day,
                    offset: line.start,
                };
                let digest = Digest::from(line.digest());
                // What this process wrote, and finds again, is sound.
                let met = own.meet(place, &digest);
                if !met && self.is_torn(&line, &mut noted)? {
                    found.torn.push(place);
                    break;
                }
                batch.late |= batch.digests.is_empty() && !met && is_older(line.text, &in_time);
                batch.digests.push(digest);
            } else if line.end > line.start {
                batch.blanks.push(line.start..line.end);
            }
            batch.end = line.end + 1;
            if batch.digests.len() == BATCH || batch.end - from >= BATCH_BYTES {
                batch.full = true;
                break;
            }
        }
        Ok(batch)
    }

    /// Whether a line must be written over before it can be sealed. `noted` are the torn lines that
    /// `.state/torn` knows, once they are read: anybody may write many that are none.
    fn is_torn(&self, line: &Seen<'_>, noted: &mut Option<mend::Known>) -> io::Result<bool> {
        if line.remnant() == Remnant::Yes {
            return Ok(true);
        }
        if !line.is_held() || line.is_sound() {
            return Ok(false);
        }
        // Who wrote over one may have been cut off.
        let noted = match noted {
            Some(noted) => noted,
            none => none.insert(mend::Known::read(self.directory, self.day)?),
        };
        Ok(noted.is_one(line.start))
    }

    /// Records the torn lines that were written over, of which `.state/torn` knows what they were.
    fn record_torn(
        &self,
        known: &mut Known,
        blanks: &[Bytes<u64>],
        now: &Timestamp,
    ) -> io::Result<()> {
        if blanks.is_empty() {
            return Ok(());
        }
        for torn in mend::Known::read(self.directory, self.day)?.0 {
            if blanks.iter().any(|blank| blank.contains(&torn.offset)) {
                let range = self.range(torn.offset, torn.offset + torn.length);
                let sha256 = torn.sha256;
                known.record(now, RecordBody::Torn { range, sha256 });
            }
        }
        Ok(())
    }
}

/// Up to where what was sealed of a file is still there.
fn sealed_part(file: &File, sealed: u64, length: u64) -> io::Result<u64> {
    if length < sealed {
        return line_start(file, length);
    }
    let mut last = [b'\n'];
    if sealed > 0 {
        file.read_exact_at(&mut last, sealed - 1)?;
    }
    // Another file may have its name.
    Ok(if last == *b"\n" { sealed } else { 0 })
}

/// Whether an entry was stamped before a time.
fn is_older(line: &[u8], time: &Timestamp) -> bool {
    const KEY: &[u8] = br#""timestamp":""#;
    let at = memchr::memmem::find(line, KEY);
    let stamp = at.and_then(|at| line.get(at + KEY.len()..)?.get(..Timestamp::LEN));
    stamp.is_some_and(|stamp| stamp < &time.as_bytes()[..])
}
