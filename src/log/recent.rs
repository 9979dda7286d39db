//! Entries whose tiles the disk may not have: kept in one file, which it has.
//!
//! To sync every tile that a batch touches would take a sync for each 128 entries. So the entries of
//! a batch are appended to `recent`, and that is synced; from it the tiles are written again after the
//! machine went down. When there is nothing else to do, the tiles are synced and the file is emptied.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{File, How, about, if_there};
use super::tiles::{Tiles, unreadable};
use crate::format::recent::{HEAD, Head, MOST, encode};
use crate::format::tiles::{self, Append, Growth, Kind, Tile, WIDTH, entries};

/// The file's name.
const NAME: &str = "recent";

/// From this length on tiles are synced when there is nothing else to do, and from the second on all
/// the same.
const LONG: u64 = 1 << 20;
const TOO_LONG: u64 = 12 << 20;

/// Tiles of entries that are synced between two looks at the time.
const STEP: u64 = 16;

/// It has no more entries: the least that one takes is a digest and its length.
const MOST_ENTRIES: u64 = MOST as u64 / 34;

/// Restored entries that are written to their tiles at once.
const PIECE: u64 = 64 * WIDTH;

/// What this process knows of the file.
#[derive(Debug, Default)]
pub struct Recent(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// An entry's index, and where its frame begins or is to begin.
    at: (u64, u64),
    /// Up to which entry the tiles were synced.
    settled: u64,
}

impl Recent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what was added to the tree, which has this size with it, and has the disk confirm it.
    pub fn append(&self, tiles: &Tiles, size: u64, appends: &[Append]) -> io::Result<()> {
        let added = appends.iter().filter(|append| append.kind == Kind::Entries);
        let payload: Vec<u8> = added.flat_map(|append| &append.bytes).copied().collect();
        if payload.is_empty() {
            return Ok(());
        }
        let first = size - entries(&payload).count() as u64;
        let file = tiles.folder().open(NAME, How::Make)?;
        let frame = encode(first, &payload).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut state = self.state();
        let end = match end_for(&file, first, state.at)? {
            Some(end) if end + frame.len() as u64 <= MOST as u64 => end,
            // Readers take no more of it, or somebody changed it, and it is no help any more. The tiles are
            // as they were written.
            _ => {
                sync_tiles(tiles, first.saturating_sub(MOST_ENTRIES), first, first)?;
                0
            }
        };
        if file.length()? > end {
            // A crash left more, which was never signed.
            file.set_len(end)?;
        }
        file.write_all_at(&frame, end)
            .and_then(|()| file.sync_data())
            .map_err(about(NAME))?;
        if end == 0 {
            tiles.folder().sync()?;
            state.settled = first;
        }
        state.at = (size, end + frame.len() as u64);
        Ok(())
    }

    /// Writes all that it holds to the tiles again, as the machine went down.
    pub fn restore(&self, tiles: &Tiles) -> io::Result<()> {
        let Some(file) = if_there(tiles.folder().open(NAME, How::Read))? else {
            return Ok(());
        };
        let mut growth: Option<Growth> = None;
        let mut at = 0;
        let mut written = 0;
        while let Some((head, payload)) = read(&file, at)? {
            let growth = match &mut growth {
                Some(growth) if growth.edge().size() != head.first => break,
                Some(growth) => growth,
                none => {
                    let before = tiles::Tree::new(tiles, head.first).growth();
                    none.insert(before.map_err(unreadable)?)
                }
            };
            for entry in entries(&payload) {
                // It stands behind a length of two bytes.
                let _ = growth.push(entry);
            }
            at += (HEAD + payload.len()) as u64;
            if growth.edge().size() - written > PIECE {
                growth
                    .take()
                    .iter()
                    .try_for_each(|append| tiles.append(append))?;
                written = growth.edge().size();
            }
        }
        let mut left = growth.map(|mut growth| growth.take()).unwrap_or_default();
        left.iter_mut().try_for_each(|append| tiles.append(append))
    }

    /// Whether it's so long that tiles must be synced before more is added. As far as this process knows.
    pub fn is_too_long(&self) -> bool {
        self.state().at.1 >= TOO_LONG
    }

    /// Has the disk confirm the tiles of a tree of this size, for so long, where there is reason to:
    /// the file is long and the caller is `idle`, or it is too long. When the disk has all, it's emptied.
    /// Returns whether more may be added.
    pub fn settle(&self, tiles: &Tiles, size: u64, idle: bool, time: Duration) -> io::Result<bool> {
        let Some(file) = if_there(tiles.folder().open(NAME, How::Change))? else {
            return Ok(true);
        };
        let length = file.length()?;
        if length < if idle { LONG } else { TOO_LONG } {
            return Ok(true);
        }
        let mut state = self.state();
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0)?;
        let first = Head::parse(&head).map_or(0, |head| head.first);
        let began = Instant::now();
        state.settled = state.settled.max(first);
        while state.settled < size {
            let to = (state.settled / WIDTH + STEP)
                .saturating_mul(WIDTH)
                .min(size);
            sync_tiles(tiles, state.settled, to, size)?;
            state.settled = to;
            if began.elapsed() > time {
                return Ok(length < TOO_LONG);
            }
        }
        // Should it stay, it says what the tiles say.
        file.set_len(0)?;
        *state = State::default();
        Ok(true)
    }
}

/// Has the disk confirm the tiles that hold entries from one to another, and the hashes over them, of
/// a tree of this size.
fn sync_tiles(tiles: &Tiles, from: u64, to: u64, size: u64) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for kind in tiles::KINDS {
        for tile in Tile::over(kind, from, to, size) {
            tiles.sync_tile(&tile, &mut folders)?;
        }
    }
    tiles.sync_folders(folders)
}

/// The frame at a place, if it's whole, and its entries.
fn read(file: &File, at: u64) -> io::Result<Option<(Head, Vec<u8>)>> {
    let Some(head) = read_head(file, at)? else {
        return Ok(None);
    };
    let mut payload = vec![0; head.length];
    match file.read_exact_at(&mut payload, at + HEAD as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok(head.count(&payload).map(|_| (head, payload)))
}

fn read_head(file: &File, at: u64) -> io::Result<Option<Head>> {
    let mut head = [0; HEAD];
    match file.read_exact_at(&mut head, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Head::parse(&head)),
    }
}

/// Where the frame of an entry begins, or is to begin, going on from what was known. `None` if what is
/// there doesn't lead to it.
fn end_for(file: &File, first: u64, known: (u64, u64)) -> io::Result<Option<u64>> {
    let length = file.length()?;
    let (index, at) = known;
    if index == first && at == length {
        return Ok(Some(at));
    }
    let mut at = 0;
    // Another process may have appended to it, or emptied it, since.
    if index <= first && read_head(file, known.1)?.is_some_and(|head| head.first == index) {
        at = known.1;
    }
    let mut last = None;
    while let Some(head) = read_head(file, at)? {
        if head.first >= first {
            return Ok((head.first == first).then_some(at));
        }
        last = Some(at);
        at += (HEAD + head.length) as u64;
    }
    let Some(last) = last else {
        return Ok(Some(0));
    };
    let leads_to_it =
        |(head, payload): (Head, Vec<u8>)| head.first + entries(&payload).count() as u64 == first;
    Ok(read(file, last)?.is_some_and(leads_to_it).then_some(at))
}
