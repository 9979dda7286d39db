//! Torn lines: tails are closed, and what a dead process left of a line is written over with spaces, for
//! those who read the file stop at it. What anybody else wrote stays, whatever it holds.
//!
//! All of it is done under the directory's lock.

use std::io;
use std::ops::Range;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::append::blank;
use super::directory::Directory;
use super::disk::{File, How, Part, if_there, line_start};
use crate::clock::Timestamp;
use crate::format::entry::Line;
use crate::format::name::{DayName, Place};
use crate::format::torn::{Note, Remnant, note};
use crate::read::lines::Lines;
use crate::read::sound::Form;

/// Where the bytes of torn lines are kept.
const TORN: &str = "torn";

/// From this length on, what is kept of the older torn lines is dropped: their digests are in the tree.
const LONG: u64 = 16 << 20;

/// Of more torn lines of one file the tree says nothing.
const MOST: usize = 100_000;

/// How long a line is looked at, for it may be a living process's that is just writing it, or taking
/// its piece back.
const STILL: Duration = Duration::from_millis(2);

/// Torn lines that are looked at together, and their bytes.
const AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 4 << 20;

/// What became of the end of a file.
pub enum Tail {
    /// There is a line feed, or somebody may still write one.
    Left,
    /// It was written over.
    Blanked,
    /// It was closed, and begins there.
    Closed(u64),
}

/// Closes a torn tail with a line feed. One that somebody else left is closed when the day is over: it
/// could be finished until then.
pub fn close_tail(
    directory: &Directory,
    day: DayName,
    is_over: bool,
    now: &Timestamp,
) -> io::Result<Tail> {
    let Some(file) = if_there(directory.open_day(day, How::Change))? else {
        return Ok(Tail::Left);
    };
    let open_end = || -> io::Result<Option<u64>> {
        let length = file.length()?;
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        Ok((last != *b"\n").then_some(length))
    };
    let Some(length) = open_end()? else {
        return Ok(Tail::Left);
    };
    directory.state().pause(STILL);
    if open_end()? != Some(length) {
        return Ok(Tail::Left);
    }
    let start = line_start(&file, length)?;
    let mut beginning = vec![0; (length - start).min(4096) as usize];
    file.read_exact_at(&mut beginning, start)?;
    let remnant = Remnant::of(&beginning);
    if !is_over && remnant == Remnant::No {
        return Ok(Tail::Left);
    }
    // With a line feed behind it, it would be taken for a line that somebody else wrote.
    let is_blanked = remnant == Remnant::Perhaps
        && !beginning.trim_ascii().is_empty()
        && start + beginning.len() as u64 == length;
    if is_blanked {
        keep(directory, day, start, &beginning, now)?;
        blank(&file, start..length)?;
    }
    let end = directory.open_day(day, How::Append { new: false })?;
    end.append(b"\n")?;
    Ok(match is_blanked {
        true => Tail::Blanked,
        false => Tail::Closed(start),
    })
}

/// Writes over every torn line from a place on that a process of this library left, and keeps its bytes
/// in `.state/torn`. None is written over up to where the file is `sealed`. Returns how many there were.
pub fn mend(directory: &Directory, from: Place, sealed: u64, now: &Timestamp) -> io::Result<u64> {
    let day = from.day;
    let Some(file) = if_there(directory.open_day(day, How::Change))? else {
        return Ok(0);
    };
    let length = file.length()?;
    // One that was cut short is sealed anew from there on.
    let sealed = if sealed > length { 0 } else { sealed };
    let start = line_start(&file, from.offset.max(sealed).min(length))?;
    let mut lines = Lines::new(Part::from(&file, start)?, start);
    let known = Known::read(directory, day)?;
    let mut mended = 0;
    loop {
        let mut torn: Vec<(Range<u64>, Vec<u8>)> = Vec::new();
        let mut held = 0;
        while torn.len() < AT_ONCE
            && held < BYTES_AT_ONCE
            && let Some(line) = lines.next()?
        {
            // What has no end yet may still be written, and no entry is too long to be held.
            let may_be =
                line.closed && line.is_held() && !line.is_blank() && line.form() == Form::Other;
            if may_be && (line.remnant() == Remnant::Yes || known.is_one(line.start)) {
                held += line.text.len();
                torn.push((line.start..line.end, line.text.to_vec()));
            }
        }
        if torn.is_empty() {
            return Ok(mended);
        }
        directory.state().pause(STILL);
        for (mut range, mut text) in torn {
            // A living process took its piece back at once, and what stands behind it is whole now.
            if bytes(&file, &range)? == text {
                // An entry that is whole behind what the disk forgot stays.
                let forgotten = text.iter().rposition(|byte| *byte == 0);
                if let Some(last) = forgotten
                    && Line::from_bytes([&text[last + 1..], b"\n"].concat()).is_some()
                    && serde_json::from_slice::<IgnoredAny>(&text[last + 1..]).is_ok()
                {
                    text.truncate(last + 1);
                    range.end = range.start + text.len() as u64;
                }
                keep(directory, day, range.start, &text, now)?;
                blank(&file, range)?;
                mended += 1;
            }
        }
    }
}

fn bytes(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Keeps the bytes of a torn line, on the disk before they are written over.
fn keep(
    directory: &Directory,
    day: DayName,
    offset: u64,
    bytes: &[u8],
    now: &Timestamp,
) -> io::Result<()> {
    /// A long one is kept in pieces.
    const PIECE: usize = 1 << 18;
    let state = directory.state();
    for (at, piece) in (0..).step_by(PIECE).zip(bytes.chunks(PIECE)) {
        let file = state.append(TORN, &note(day, offset + at, piece, now))?;
        file.sync_data()?;
        if file.length()? > LONG {
            retain(directory, LONG / 2, |_| true)?;
        }
    }
    Ok(())
}

/// Drops what is kept of a file's torn lines: it is removed itself.
pub fn forget(directory: &Directory, removed: &[DayName]) -> io::Result<()> {
    retain(directory, LONG, |note| !removed.contains(&note.day))
}

/// Keeps the notes that are wanted of so many bytes at the end.
fn retain(directory: &Directory, most: u64, wanted: impl Fn(&Note) -> bool) -> io::Result<()> {
    let state = directory.state();
    let Some(file) = if_there(state.open(TORN, How::Read))? else {
        return Ok(());
    };
    let mut lines = end_of_notes(&file, most)?;
    let made = directory.temporary()?;
    let mut dropped = file.length()? > most;
    while let Some(line) = lines.next()? {
        match Note::parse(line.text) {
            Some(note) if wanted(&note) => {
                made.file.write_all_at(line.text, made.file.length()?)?;
                made.file.write_all_at(b"\n", made.file.length()?)?;
            }
            _ => dropped = true,
        }
    }
    if dropped {
        made.file.sync_all()?;
        made.rename(TORN)?;
    }
    Ok(())
}

/// The notes in so many bytes at the end of `.state/torn`, behind what may be left of an earlier one.
fn end_of_notes(file: &File, most: u64) -> io::Result<Lines<Part<'_>>> {
    let from = file.length()?.saturating_sub(most);
    Ok(Lines::new(Part::from(file, from)?, from))
}

/// The torn lines of a file that `.state/torn` knows.
#[derive(Debug, Default)]
pub struct Known(pub Vec<Note>);

impl Known {
    /// Reads them.
    pub fn read(directory: &Directory, day: DayName) -> io::Result<Known> {
        let mut notes = Vec::new();
        let Some(file) = if_there(directory.state().open(TORN, How::Read))? else {
            return Ok(Known(notes));
        };
        // What somebody else has put before it is no note of ours.
        let mut lines = end_of_notes(&file, 2 * LONG)?;
        while notes.len() < MOST
            && let Some(line) = lines.next()?
        {
            notes.extend(Note::parse(line.text).filter(|note| note.day == day));
        }
        Ok(Known(notes))
    }

    /// Whether a line that begins there is one: who wrote over it may have been cut off.
    pub fn is_one(&self, offset: u64) -> bool {
        self.0.iter().any(|note| note.offset == offset)
    }
}
