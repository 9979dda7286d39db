//! The log searched for entries.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use uuid::Uuid;

use super::directory::Directory;
use super::disk::{File, How, Part, if_there, line_start};
use crate::format::entry::Line;
use crate::format::name::{DayName, Place};
use crate::read::lines::Lines;

/// What is found of some entries.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that the log has.
    pub there: HashSet<Uuid>,
    /// Lines of others, as they stand in files that may not be on the disk.
    pub doubtful: HashMap<Uuid, Line>,
}

/// Which of some entries the log has, at a place or behind it, in files that count. Files in which some
/// are found are asked for by `is_kept`.
pub fn find(
    directory: &Directory,
    place: Place,
    wanted: &HashSet<Uuid>,
    counts: impl Fn(DayName) -> bool,
    mut is_kept: impl FnMut(DayName) -> bool,
) -> io::Result<Found> {
    let mut found = Found::default();
    for day in directory.days()? {
        if day < place.day || !counts(day) || found.there.len() == wanted.len() {
            continue;
        }
        let mut kept = None;
        let Some(file) = if_there(directory.open_day(day, How::Read))? else {
            continue;
        };
        // A file that is shorter than it was has been cut: its entries may be anywhere in it.
        let cut = file.length()? < place.offset;
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
                && line.is_held()
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

/// Hands over the sound lines of a file from a place on whose entries aren't in any of some other
/// files. Returns whether all lines could be read and were sound.
///
/// However many entries there are, the ids of a few are in memory: the others are read once for each
/// such piece.
pub fn lines_not_in(
    lines: Lines<impl Read>,
    others: &[(DayName, File)],
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    /// Lines whose ids are looked up at once, and their bytes.
    const PIECE: usize = 16 * 1024;
    const PIECE_BYTES: usize = 8 << 20;
    let mut piece: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    let mut hand_over = |piece: &mut Vec<Vec<u8>>| -> io::Result<()> {
        let mut missing: HashSet<Uuid> = piece.iter().filter_map(|line| id_of(line)).collect();
        for (day, file) in others {
            if missing.is_empty() {
                break;
            }
            sound_lines(lines_of(*day, file, 0)?, |line| {
                id_of(line).map(|id| missing.remove(&id));
                Ok(())
            })?;
        }
        for line in piece.drain(..) {
            // Of an entry that stands twice one is enough.
            if id_of(&line).is_none_or(|id| missing.remove(&id)) {
                take(&line)?;
            }
        }
        Ok(())
    };
    let whole = sound_lines(lines, |line| {
        bytes += line.len();
        piece.push(line.to_vec());
        if piece.len() == PIECE || bytes >= PIECE_BYTES {
            bytes = 0;
            hand_over(&mut piece)?;
        }
        Ok(())
    })?;
    hand_over(&mut piece)?;
    Ok(whole)
}

/// Hands over every sound line. Returns whether all of them could be read and were sound.
fn sound_lines(
    mut lines: Lines<impl Read>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let mut whole = true;
    loop {
        match lines.next() {
            Ok(None) => return Ok(whole),
            Ok(Some(line)) if line.is_blank() => {}
            Ok(Some(line)) if line.closed && line.is_held() && line.is_sound() => take(line.text)?,
            Ok(Some(_)) => whole = false,
            // The disk lost it.
            Err(_) => return Ok(false),
        }
    }
}

/// The lines of a day's file, from the one that a place is in; of a compressed file, all.
pub fn lines_of(day: DayName, file: &File, place: u64) -> io::Result<Lines<Box<dyn Read + '_>>> {
    if day.compressed {
        let compressed = Part::from(file, 0)?;
        return Ok(Lines::new(Box::new(MultiGzDecoder::new(compressed)), 0));
    }
    let at = line_start(file, place.min(file.length()?))?;
    Ok(Lines::new(Box::new(Part::from(file, at)?), at))
}
