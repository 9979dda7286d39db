//! Making the log whole after processes that were killed: what they left is mended, and their
//! calls get their entries.
//!
//! All of it is done under the directory's lock, by whoever finds it, in this order: torn tails are
//! closed, torn lines written over, and then each call's entry is looked for and written if it
//! isn't there. A process killed in the midst of this leaves the journal for the next one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use uuid::Uuid;

use super::day::blank;
use super::disk::Directory;
use super::folder::if_there;
use crate::clock::Timestamp;
use crate::format::entry::Line;
use crate::format::name::{DayName, Place};
use crate::hash::Digest;
use crate::json::Object;
use crate::read::lines::{Lines, line_start};
use crate::sys;

/// Where the bytes of torn lines are kept.
const TORN: &str = "torn";

/// How long a tail without a line feed is looked at, for it may be a living process's that is just
/// writing. (Closed all the same, an empty line would be all that comes of it.)
const STILL: Duration = Duration::from_millis(2);

/// Closes a torn tail with a line feed, and says where the line begins.
pub fn close_tail(directory: &Directory, day: DayName) -> io::Result<Option<u64>> {
    let name = day.file_name();
    let Some(file) = if_there(directory.open_to_mend(&name))? else {
        return Ok(None);
    };
    let open_end = || -> io::Result<Option<u64>> {
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        Ok((last != *b"\n").then_some(length))
    };
    let Some(length) = open_end()? else {
        return Ok(None);
    };
    std::thread::sleep(STILL);
    if open_end()? != Some(length) {
        return Ok(None);
    }
    let start = line_start(&file, length)?;
    (&*directory.open_to_append(&name)?)
        .write_all(b"\n")
        .inspect_err(sys::note_write_error)?;
    Ok(Some(start))
}

/// Writes over every torn line from a place on, and keeps its bytes in `.state/torn`. Returns how
/// many there were.
pub fn mend(directory: &Directory, from: Place, now: &Timestamp) -> io::Result<u64> {
    let day = from.day;
    let Some(file) = if_there(directory.open_to_mend(&day.file_name()))? else {
        return Ok(0);
    };
    let mut mended = 0;
    let mut lines = lines_of(day, &file, from.offset)?;
    while let Some(line) = lines.next()? {
        // What has no end yet may still be written.
        if !line.closed || line.is_sound() {
            continue;
        }
        let range = line.start..line.end;
        // A living process whose write was cut short takes its piece back at once, and what stands
        // behind it is whole then.
        std::thread::sleep(STILL);
        let mut again = vec![0; line.text.len()];
        file.read_exact_at(&mut again, line.start)?;
        if again != line.text {
            continue;
        }
        keep_torn(directory, day, &file, range.clone(), now)?;
        blank(&file, range)?;
        mended += 1;
    }
    Ok(mended)
}

fn keep_torn(
    directory: &Directory,
    day: DayName,
    file: &File,
    range: std::ops::Range<u64>,
    now: &Timestamp,
) -> io::Result<()> {
    /// A long one is kept in pieces.
    const PIECE: u64 = 1 << 20;
    let mut at = range.start;
    while at < range.end {
        let mut bytes = vec![0; (range.end - at).min(PIECE) as usize];
        file.read_exact_at(&mut bytes, at)?;
        let mut record = Vec::new();
        let mut to = Object::begin(&mut record);
        to.text("time", &now.to_string());
        to.text("file", &day.file_name());
        to.json("offset", at);
        to.json("length", bytes.len());
        to.text("sha256", &Digest::of(&bytes).to_string());
        to.text("bytes", &STANDARD.encode(&bytes));
        to.end();
        record.push(b'\n');
        directory.state().append(TORN, &record)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// A torn line that was written over, or a piece of a long one, as `.state/torn` keeps it.
#[derive(Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it was in its file.
    pub offset: u64,
    /// How long it was.
    pub length: u64,
    /// What it was, in hexadecimal.
    pub sha256: String,
}

/// The torn lines of a file that are known.
pub fn torn(directory: &Directory, day: DayName) -> io::Result<Vec<Torn>> {
    let Some(file) = if_there(directory.open_state(TORN))? else {
        return Ok(Vec::new());
    };
    let mut torn = Vec::new();
    let mut lines = Lines::new(part(&file, 0)?, 0);
    while let Some(line) = lines.next()? {
        let value: serde_json::Value = serde_json::from_slice(line.text).unwrap_or_default();
        if value["file"].as_str().and_then(DayName::parse) == Some(day)
            && let Some(offset) = value["offset"].as_u64()
            && let Some(length) = value["length"].as_u64()
            && let Some(sha256) = value["sha256"].as_str()
        {
            let sha256 = sha256.to_owned();
            torn.push(Torn {
                offset,
                length,
                sha256,
            });
        }
    }
    Ok(torn)
}

/// What is found of some entries.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that the log has.
    pub there: HashSet<Uuid>,
    /// Lines of others, as they stand in files that may not be on the disk.
    pub doubtful: HashMap<Uuid, Line>,
}

/// Which of some entries the log has, at a place or behind it. Files in which some are found are
/// asked for by `is_kept`.
pub fn find(
    directory: &Directory,
    place: Place,
    wanted: &HashSet<Uuid>,
    mut is_kept: impl FnMut(DayName) -> bool,
) -> io::Result<Found> {
    let mut found = Found::default();
    for day in directory.days()? {
        if day < place.day || found.there.len() == wanted.len() {
            continue;
        }
        let mut kept = None;
        let Some(file) = if_there(directory.open_to_read(&day.file_name()))? else {
            continue;
        };
        // A file that is shorter than it was has been cut: its entries may be anywhere in it.
        let cut = file.metadata()?.len() < place.offset;
        let from = if day == place.day && !cut {
            place.offset
        } else {
            0
        };
        // From the head of the line: an entry behind a torn piece isn't one.
        let mut lines = lines_of(day, &file, from)?;
        loop {
            let line = match lines.next() {
                // Somebody damaged it. The calls get their entries all the same.
                Err(_) if day.compressed => break,
                line => line?,
            };
            let Some(line) = line else { break };
            if let Some(id) = id_of(line.text)
                && wanted.contains(&id)
                && line.closed
                && line.is_sound()
            {
                if *kept.get_or_insert_with(|| is_kept(day)) {
                    found.there.insert(id);
                } else {
                    let text = [line.text.trim_ascii_start(), b"\n"].concat();
                    found
                        .doubtful
                        .extend(Line::from_bytes(text).map(|line| (id, line)));
                }
            }
        }
    }
    Ok(found)
}

/// The id of the entry that a line begins with.
pub fn id_of(line: &[u8]) -> Option<Uuid> {
    let rest = line.trim_ascii_start().strip_prefix(br#"{"id":""#)?;
    Uuid::try_parse_ascii(rest.get(..36)?).ok()
}

/// The ids of all entries in a file.
pub fn ids_in(day: DayName, file: &File) -> io::Result<HashSet<Uuid>> {
    let mut ids = HashSet::new();
    sound_lines(lines_of(day, file, 0)?, |line| {
        ids.extend(id_of(line));
        Ok(())
    })?;
    Ok(ids)
}

/// Hands over every sound line. Returns whether all of them could be read and were sound.
pub fn sound_lines(
    mut lines: Lines<impl Read>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let mut whole = true;
    loop {
        match lines.next() {
            Ok(None) => return Ok(whole),
            Ok(Some(line)) if line.is_blank() => {}
            Ok(Some(line)) if line.closed && line.is_sound() => take(line.text)?,
            Ok(Some(_)) => whole = false,
            // The disk lost it.
            Err(_) => return Ok(false),
        }
    }
}

/// A part of a file, read without the file's own position.
pub struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        let read = self.file.read_at(&mut into[..length], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What a file holds from a place on, as it is now: others may append to it as fast as it's read.
pub fn part(file: &File, at: u64) -> io::Result<Part<'_>> {
    let end = file.metadata()?.len().max(at);
    Ok(Part { file, at, end })
}

/// The lines of a day's file, from the one that a place is in; of a compressed file, all.
pub fn lines_of<'f>(
    day: DayName,
    file: &'f File,
    place: u64,
) -> io::Result<Lines<Box<dyn Read + 'f>>> {
    if day.compressed {
        return Ok(Lines::new(Box::new(MultiGzDecoder::new(file)), 0));
    }
    let at = line_start(file, place.min(file.metadata()?.len()))?;
    Ok(Lines::new(Box::new(part(file, at)?), at))
}
