//! Files of which the disk refused to confirm what was written to them.
//!
//! The kernel reports that once, to one process, and what is read of such a file until the next boot
//! may not be on the disk. So the file is noted in `.state` for all processes: none appends to it,
//! takes what stands in it for written, or seals more of it, and all go on in the same next one.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::directory::{Directory, SMALL};
use super::disk::{How, if_there};
use crate::format::name::DayName;

/// Their list in `.state`: the kernel's boot id, a space, the name, for each.
const NAME: &str = "refused";

/// The refused files of a log, as far as this process knows.
#[derive(Debug)]
pub struct Refused {
    directory: Arc<Directory>,
    known: Mutex<HashSet<DayName>>,
}

impl Refused {
    /// Those of a log, of which none is known yet.
    pub fn new(directory: &Arc<Directory>) -> Refused {
        Refused {
            directory: Arc::clone(directory),
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<DayName>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks which ones were noted since the machine was booted: what is in others is on the disk.
    pub fn look(&self) -> io::Result<()> {
        let state = self.directory.state();
        let Some(noted) = if_there(state.read(NAME, SMALL))? else {
            return Ok(());
        };
        let noted = String::from_utf8_lossy(&noted);
        let this_boot = state.boot();
        let lines = noted.lines().filter_map(|line| line.split_once(' '));
        let names = lines.filter(|(boot, _)| Some(*boot) == this_boot.as_deref());
        self.known()
            .extend(names.filter_map(|(_, name)| DayName::parse(name)));
        Ok(())
    }

    /// Adds one. Returns false if it was known.
    pub fn note(&self, day: DayName) -> bool {
        let new = self.known().insert(day);
        if new {
            // If it can't be noted for other processes, this one knows.
            let _ = self.note_for_others(day);
        }
        new
    }

    fn note_for_others(&self, day: DayName) -> io::Result<()> {
        let state = self.directory.state();
        let boot = state.boot().ok_or(io::ErrorKind::Unsupported)?;
        let file = state.open(NAME, How::Append { new: false })?;
        let line = format!("{boot} {}\n", day.file_name());
        file.append(line.as_bytes()).map(drop)
    }

    /// Whether a file is one.
    pub fn contains(&self, day: DayName) -> bool {
        self.known().contains(&day)
    }

    /// Whether a date has one.
    pub fn has_of(&self, date: &[u8; 10]) -> bool {
        self.known().iter().any(|day| day.date == *date)
    }

    /// All of them.
    pub fn all(&self) -> HashSet<DayName> {
        self.known().clone()
    }
}
