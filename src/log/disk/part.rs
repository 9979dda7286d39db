//! A part of a file, from one place to another.

use std::io::{self, Read};

use super::File;
use crate::read::lines::start_of_line;

/// A part of a file, read without the file's own position.
pub struct Part<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl<'f> Part<'f> {
    /// What a file holds from a place on, as it is now: others may append to it as fast as it's read.
    pub fn from(file: &'f File, at: u64) -> io::Result<Part<'f>> {
        let end = file.length()?.max(at);
        Ok(Part { file, at, end })
    }
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

/// Where the line begins that a place is in.
pub fn line_start(file: &File, place: u64) -> io::Result<u64> {
    start_of_line(place, |piece, at| file.read_exact_at(piece, at))
}
