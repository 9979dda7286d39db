//! The time stamps of a log. Who made them isn't asked here: that takes CMS and certificates.

use std::io;

use super::source::{Directory, TREE};
use crate::format::stamp::{LONGEST_FILE, Stamp, size_in};

/// Their directory, below `.integrity`.
pub const DIRECTORY: &str = "timestamps";

/// So many are read: one an hour, for years.
const MOST: usize = 1 << 15;

/// A file of time stamps, and what is in it.
pub struct Found {
    /// Its path below `.integrity`.
    pub path: String,
    /// The time stamp, or what is wrong with the file.
    pub stamp: Result<Stamp, String>,
}

/// The names of a log's time stamps.
#[derive(Default)]
pub struct Names {
    names: Vec<String>,
    /// There are more of them than any log has: not all are here.
    pub too_many: bool,
}

impl Names {
    /// Those in the directory of a log.
    pub fn of(directory: &Directory<'_>) -> io::Result<Names> {
        let mut found = Names::default();
        directory.names_in(&format!("{TREE}/{DIRECTORY}"), &mut |name| {
            if size_in(name).is_some() {
                found.too_many = found.names.len() == MOST;
                if !found.too_many {
                    found.names.push(name.to_owned());
                }
            }
            !found.too_many
        })?;
        Ok(found)
    }

    /// The same by the sizes of their checkpoints.
    pub fn by_size(mut self) -> Names {
        self.names.sort_unstable_by_key(|name| size_in(name));
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Reads one after the other, until the reader is asked to stop.
    pub fn read(self, directory: &Directory<'_>) -> impl Iterator<Item = Found> {
        let names = self.names.into_iter();
        names.take_while(|_| !directory.is_stopped()).map(|name| {
            let path = format!("{DIRECTORY}/{name}");
            let stamp = match directory.beginning(&path, LONGEST_FILE) {
                Ok(bytes) => Stamp::parse(&bytes.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            };
            let stamp = stamp.and_then(|stamp| match stamp.name() {
                Some(own) if own == name => Ok(stamp),
                _ => Err("isn't what its name says".to_owned()),
            });
            Found { path, stamp }
        })
    }
}
