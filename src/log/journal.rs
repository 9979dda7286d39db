//! What must outlive a process that is killed: the intents and outcomes of its calls.
//!
//! Each process has a journal of its own in `.state`, and holds its lock as long as it lives. A
//! journal whose lock is free is a dead process's: whoever finds it makes the log whole
//! (`sweep`). FORMAT.md describes the bytes.
//!
//! A call takes a slot before its request leaves. The slot is written to its full size then, so
//! that the outcome finds room in it when the disk is full: what stands there is written over in
//! place. Slots are used again and never given back: the file grows to what the most calls at once
//! needed.

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::directory::Directory;
use super::disk::{File, How, about, if_there};
use super::durable::Durable;
use crate::format::entry::Line;
use crate::format::name::{DayName, Place};
use crate::hash::Digest;

/// What the names of journals begin with.
pub const PREFIX: &str = "journal-";

const MAGIC: &[u8] = b"audit_logger journal 1\n";
const NOTE_AT: u64 = 64;
const SLOTS_AT: u64 = 4096;
const SLOT_MAGIC: &[u8] = b"slot";
const SLOT_HEAD: usize = 16;
const RECORD_HEAD: usize = 24;

/// The longest place: a date, two numbers, two spaces and a line feed.
const PLACE: usize = 48;

/// Half of the smallest slot: room for an ordinary call's longest entry; and half of the largest: room
/// for the longest entry that a logger can be told to allow.
const SMALLEST_HALF: usize = 16 * 1024;
const LARGEST_HALF: usize = 2 << 20;

/// How long a slot can be.
const SIZES: RangeInclusive<usize> = 2 * SMALLEST_HALF..=2 * LARGEST_HALF;

/// What a record holds. A record that isn't whole counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What the process is doing, and its counters.
    Note = 1,
    /// The entry of a call that nothing more is heard of.
    Intent = 2,
    /// The entry of a call that ended.
    Outcome = 3,
}

/// One process's journal. Dropped, it's a dead process's for whoever looks next.
#[derive(Debug)]
pub struct Journal {
    directory: Arc<Directory>,
    name: String,
    file: Durable,
    room: Mutex<Room>,
}

#[derive(Debug)]
struct Room {
    /// Where the next slot is made.
    end: u64,
    /// Slots that may be used again: where, and how long.
    free: Vec<(u64, usize)>,
}

/// Room for one call, from its intent until its entry is in the log.
#[derive(Debug)]
pub struct Slot {
    journal: Arc<Journal>,
    at: u64,
    size: usize,
    place: Place,
    /// Whether the outcome stands in it.
    ended: bool,
}

/// What is found in a slot that is in use.
#[derive(Debug)]
pub struct Kept {
    /// The entry to write if it isn't in the log.
    pub line: Line,
    /// Whether the call ended, so that its line is stamped.
    pub ended: bool,
    /// Where to look for it.
    pub place: Place,
}

impl Journal {
    /// Makes this process's journal in a directory.
    pub fn create(directory: &Arc<Directory>) -> io::Result<Arc<Journal>> {
        loop {
            let name = format!("{PREFIX}{}", Uuid::new_v4());
            let file = directory.state().open(&name, How::New)?;
            // Before it's locked another process may take it for a dead one's, and remove it.
            if !file.try_lock()? || !directory.state().still_names(&name, &file) {
                continue;
            }
            // Before anything is in it: later that can't be had.
            if file.write_in_place().is_err() {
                directory.warn_of_copying();
            }
            let mut head = vec![0; SLOTS_AT as usize];
            head[..MAGIC.len()].copy_from_slice(MAGIC);
            if let Err(error) = write_at(&file, &head, 0) {
                let _ = directory.state().remove(&name);
                return Err(error);
            }
            return Ok(Arc::new(Journal::new(
                directory,
                name,
                Durable::new(file)?,
                SLOTS_AT,
            )));
        }
    }

    /// Takes a dead process's journal over, or returns `None` if its process lives (or another
    /// one is at it, or has just removed it).
    pub fn adopt(directory: &Arc<Directory>, name: &str) -> io::Result<Option<Arc<Journal>>> {
        let Some(file) = if_there(directory.state().open(name, How::Change))? else {
            return Ok(None);
        };
        if !file.try_lock()? || !directory.state().still_names(name, &file) {
            return Ok(None);
        }
        let end = file.length()?.max(SLOTS_AT);
        let journal = Journal::new(directory, name.to_owned(), Durable::new(file)?, end);
        Ok(Some(Arc::new(journal)))
    }

    fn new(directory: &Arc<Directory>, name: String, file: Durable, end: u64) -> Journal {
        Journal {
            directory: Arc::clone(directory),
            name,
            file,
            room: Mutex::new(Room {
                end,
                free: Vec::new(),
            }),
        }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes its file, when nothing in it is needed any more.
    pub fn remove(&self) -> io::Result<()> {
        self.directory.state().remove(&self.name)
    }

    /// Writes down what the process is doing. At most 4,000 bytes of text.
    pub fn note(&self, text: &str) -> io::Result<()> {
        let record = record(Kind::Note, &[text.as_bytes()]);
        if record.len() as u64 > SLOTS_AT - NOTE_AT {
            return Err(io::Error::other("the journal's note is too long"));
        }
        write_at(&self.file, &record, NOTE_AT)
    }

    /// Keeps an intent: `line` is the entry to be written if nothing more is heard of the call,
    /// `longest` the length that its entry can have.
    pub fn keep(self: &Arc<Self>, place: Place, line: &Line, longest: usize) -> io::Result<Slot> {
        let intent = kept(Kind::Intent, place, line);
        let half = (SLOT_HEAD + intent.len()).max(RECORD_HEAD + PLACE + longest);
        let size = 2 * half.max(SMALLEST_HALF).next_power_of_two();
        if !SIZES.contains(&size) {
            return Err(io::Error::other(
                "the entry could be longer than a journal's slot",
            ));
        }
        let mut room = self.room();
        let free = room.free.iter().position(|(_, free)| *free >= size);
        let (at, size) = match free {
            Some(found) => {
                let (at, size) = room.free.swap_remove(found);
                drop(room);
                if let Err(error) = write_at(&self.file, &intent, at + SLOT_HEAD as u64) {
                    // A piece of it may be there, and then the slot isn't used again.
                    if self.clear(at).is_ok() {
                        self.room().free.push((at, size));
                    }
                    return Err(error);
                }
                (at, size)
            }
            None => {
                let at = self.make_slot(&mut room, size, &intent)?;
                (at, size)
            }
        };
        Ok(Slot {
            journal: Arc::clone(self),
            at,
            size,
            place,
            ended: false,
        })
    }

    /// Makes a slot that holds no intent yet, so that there's room for one when the disk is full.
    pub fn reserve(self: &Arc<Self>, place: Place) -> io::Result<Slot> {
        let size = 2 * SMALLEST_HALF;
        let at = self.make_slot(&mut self.room(), size, b"")?;
        Ok(Slot {
            journal: Arc::clone(self),
            at,
            size,
            place,
            ended: false,
        })
    }

    /// Needs the lock all the while: a slot behind one that couldn't be made would never be found.
    fn make_slot(&self, room: &mut Room, size: usize, intent: &[u8]) -> io::Result<u64> {
        let at = room.end;
        let mut bytes = vec![0; size];
        bytes[..SLOT_MAGIC.len()].copy_from_slice(SLOT_MAGIC);
        bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
        bytes[SLOT_HEAD..SLOT_HEAD + intent.len()].copy_from_slice(intent);
        write_at(&self.file, &bytes, at)?;
        room.end += size as u64;
        Ok(at)
    }

    fn clear(&self, at: u64) -> io::Result<()> {
        write_at(&self.file, &[0; RECORD_HEAD], at + SLOT_HEAD as u64)
    }

    /// Has the disk confirm all that was written to it.
    pub fn confirm(&self) -> io::Result<()> {
        self.file.confirm(self.file.wrote())
    }

    /// Whether the disk refused once, so that it never confirms anything again.
    pub fn has_failed(&self) -> bool {
        self.file.has_failed()
    }

    /// Whether a snapshot or a copy has blocks of it, so far as the file system tells.
    pub fn shares_blocks(&self) -> bool {
        self.file.shares_blocks().unwrap_or_default()
    }

    /// As if the disk had refused.
    #[cfg(test)]
    pub fn distrust(&self) {
        self.file.distrust();
    }

    /// The next slots in use of a journal that was taken over, and with them where to go on: so many
    /// that they take little memory, however many there are. None at the end.
    pub fn kept(self: &Arc<Self>, from: &mut Option<u64>) -> io::Result<Vec<(Slot, Kept)>> {
        /// Calls, and bytes of their entries.
        const MOST: usize = 4096;
        const MOST_BYTES: usize = 8 << 20;
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut slots = Slots::from(&self.file, from.unwrap_or(SLOTS_AT))?;
        while found.len() < MOST
            && bytes < MOST_BYTES
            && let Some(slot) = slots.next()
        {
            let (at, size, kept) = slot?;
            bytes += kept.line.as_bytes().len();
            let slot = Slot {
                journal: Arc::clone(self),
                at,
                size,
                place: kept.place,
                ended: kept.ended,
            };
            found.push((slot, kept));
        }
        *from = Some(slots.at);
        Ok(found)
    }

    /// The note of its process.
    pub fn read_note(&self) -> Option<String> {
        read_note(&self.file)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.file.unlock();
    }
}

impl Slot {
    /// Where the search of the log for its entry begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Writes the entry of a call that ended and that the log can't take yet, or is to take before
    /// the intent's place.
    pub fn end(&mut self, place: Place, line: &Line) -> io::Result<()> {
        let outcome = kept(Kind::Outcome, place, line);
        if outcome.len() > self.size / 2 {
            return Err(io::Error::other(
                "the entry is longer than its journal's slot",
            ));
        }
        write_at(&self.journal.file, &outcome, self.at + self.size as u64 / 2)?;
        self.place = place;
        self.ended = true;
        Ok(())
    }

    /// Whether the entry of the call's end stands in it, so that it outlives the process.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Writes another intent over this one, no longer than a page.
    pub fn replace(&mut self, place: Place, line: &Line) -> io::Result<()> {
        let intent = kept(Kind::Intent, place, line);
        write_at(&self.journal.file, &intent, self.at + SLOT_HEAD as u64)?;
        self.place = place;
        Ok(())
    }

    /// Empties the slot, and keeps it.
    pub fn empty(&self) -> io::Result<()> {
        self.journal.clear(self.at)
    }

    /// Gives the slot back: the entry is in the log.
    pub fn clear(self) -> io::Result<()> {
        self.empty()?;
        self.journal.room().free.push((self.at, self.size));
        Ok(())
    }

    /// Has the disk confirm what was written to it.
    pub fn confirm(&self) -> io::Result<()> {
        self.journal.confirm()
    }
}

/// The note in a journal, be its process dead or alive.
pub fn read_note(file: &File) -> Option<String> {
    let note = read_record(file, NOTE_AT, Kind::Note, SLOTS_AT)?;
    String::from_utf8(note).ok()
}

/// The slots in use in a journal, be its process dead or alive: where, how long, and what's in them.
pub struct Slots<'f> {
    file: &'f File,
    at: u64,
    length: u64,
}

impl<'f> Slots<'f> {
    /// All of them.
    pub fn of(file: &'f File) -> io::Result<Slots<'f>> {
        Slots::from(file, SLOTS_AT)
    }

    fn from(file: &'f File, at: u64) -> io::Result<Slots<'f>> {
        let length = file.length()?;
        Ok(Slots { file, at, length })
    }

    /// The next slot: where, how long, and what's in it if it's in use.
    fn slot(&self) -> io::Result<Option<(u64, usize, Option<Kept>)>> {
        let (file, at) = (self.file, self.at);
        let mut head = [0; SLOT_HEAD];
        if at + (SLOT_HEAD as u64) >= self.length {
            return Ok(None);
        }
        file.read_exact_at(&mut head, at)?;
        let [_, _, _, _, size @ ..] = head;
        let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
        let end = at + size as u64;
        // A slot that was being made when its process died holds nothing, nor does one that no process
        // of this library makes.
        let is_one = size.is_power_of_two() && SIZES.contains(&size);
        if !head.starts_with(SLOT_MAGIC) || !is_one || end > self.length {
            return Ok(None);
        }
        let middle = at + size as u64 / 2;
        let intent = read_kept(file, at + SLOT_HEAD as u64, Kind::Intent, middle);
        let kept = intent.map(|intent| {
            // The outcome of an earlier call may still stand there.
            let outcome = read_kept(file, middle, Kind::Outcome, end)
                .filter(|outcome| outcome.line.id() == intent.line.id());
            outcome.unwrap_or(intent)
        });
        Ok(Some((at, size, kept)))
    }
}

impl Iterator for Slots<'_> {
    type Item = io::Result<(u64, usize, Kept)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (at, size, kept) = match self.slot() {
                Ok(found) => found?,
                Err(error) => {
                    self.at = self.length;
                    return Some(Err(error));
                }
            };
            self.at = at + size as u64;
            if let Some(kept) = kept {
                return Some(Ok((at, size, kept)));
            }
        }
    }
}

fn read_kept(file: &File, at: u64, kind: Kind, end: u64) -> Option<Kept> {
    let payload = read_record(file, at, kind, end)?;
    let split = payload.iter().position(|byte| *byte == b'\n')?;
    let (place, line) = payload.split_at(split + 1);
    let mut parts = std::str::from_utf8(place).ok()?.trim_ascii_end().split(' ');
    let date: [u8; 10] = parts.next()?.as_bytes().try_into().ok()?;
    let number = parts.next()?.parse().ok()?;
    let offset = parts.next()?.parse().ok()?;
    Some(Kept {
        line: Line::from_bytes(line.to_vec())?,
        ended: kind == Kind::Outcome,
        place: Place {
            day: DayName {
                number,
                ..DayName::first(date)
            },
            offset,
        },
    })
}

fn read_record(file: &File, at: u64, kind: Kind, end: u64) -> Option<Vec<u8>> {
    let mut head = [0; RECORD_HEAD];
    file.read_exact_at(&mut head, at).ok()?;
    let number = |from: usize| {
        head.get(from..from + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let length = number(20)? as usize;
    if number(16)? != kind as u32 || at + (RECORD_HEAD + length) as u64 > end {
        return None;
    }
    let mut checked = vec![0; 8 + length];
    checked[..8].copy_from_slice(&head[16..]);
    file.read_exact_at(&mut checked[8..], at + RECORD_HEAD as u64)
        .ok()?;
    if Digest::of(&checked).as_bytes()[..16] != head[..16] {
        return None;
    }
    Some(checked.split_off(8))
}

fn kept(kind: Kind, place: Place, line: &Line) -> Vec<u8> {
    let date = String::from_utf8_lossy(&place.day.date);
    let place = format!("{date} {} {}\n", place.day.number, place.offset);
    record(kind, &[place.as_bytes(), line.as_bytes()])
}

/// 16 bytes of the SHA-256 of all that follows; the kind and the length of the payload, each four
/// bytes, the lowest first; the payload.
fn record(kind: Kind, payload: &[&[u8]]) -> Vec<u8> {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let mut record = Vec::with_capacity(RECORD_HEAD + length);
    record.extend_from_slice(&[0; 16]);
    record.extend_from_slice(&(kind as u32).to_le_bytes());
    record.extend_from_slice(&(length as u32).to_le_bytes());
    for part in payload {
        record.extend_from_slice(part);
    }
    let digest = Digest::of(&record[16..]);
    record[..16].copy_from_slice(&digest.as_bytes()[..16]);
    record
}

fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let written = file.write_all_at(bytes, at);
    written.map_err(about("the journal in .state"))
}
