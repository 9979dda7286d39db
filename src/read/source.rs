//! A log's directory, read and never written: the files of its tree, its days, and their lines.
//! Only plain files are opened, and a link in place of one isn't followed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use memchr::memchr;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::format::merkle::Hash;
use crate::format::record::is_file;
use crate::format::tiles::{Fetch, MAX_ENTRY, WIDTH};

/// The directory of the tree, in that of the log.
pub const TREE: &str = ".integrity";

/// Room for the lines of a day: read at once, and still near the processor when they are hashed.
const BUFFER: usize = 256 * 1024;

/// No file of the tree that is read whole is longer: a full tile of the longest entries, or that
/// much of the end of `heads`.
const LONGEST: u64 = (MAX_ENTRY as u64 + 2) * WIDTH;

/// The directory of a log.
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at this path. Nothing is opened yet.
    pub fn new(path: &Path) -> Directory {
        Directory(path.to_owned())
    }

    /// The same, if it is one.
    pub fn open(path: &Path) -> Result<Directory, Error> {
        if path.is_dir() {
            return Ok(Directory::new(path));
        }
        Err(Error::log(format!("{} is no directory", path.display())))
    }

    /// Opens a file of the directory; `None` if it isn't there.
    fn file(&self, name: &str) -> io::Result<Option<File>> {
        open_plain(&self.0.join(name))
    }

    /// The names of the log's files, in order, as the tree knows them: without the `.gz` of a
    /// compressed one.
    pub fn days(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in self.0.read_dir()? {
            if let Ok(name) = item?.file_name().into_string() {
                let name = name.strip_suffix(".gz").unwrap_or(&name);
                if is_file(name) {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The bytes of a day from an offset on, decompressed if need be; `None` if the day isn't there.
    pub fn day(&self, name: &str, offset: u64) -> io::Result<Option<Box<dyn Read>>> {
        if let Some(mut file) = self.file(name)? {
            file.seek(SeekFrom::Start(offset))?;
            return Ok(Some(Box::new(file)));
        }
        let Some(file) = self.file(&format!("{name}.gz"))? else {
            return Ok(None);
        };
        let mut bytes = MultiGzDecoder::new(BufReader::new(file));
        io::copy(&mut (&mut bytes).take(offset), &mut io::sink())?;
        Ok(Some(Box::new(bytes)))
    }

    /// The lines of a day from one on that begins at `offset` and is the one after line `number`.
    pub fn lines(&self, name: &str, offset: u64, number: u64) -> io::Result<Option<Lines>> {
        let source = self.day(name, offset)?;
        Ok(source.map(|source| Lines::new(source, offset, number)))
    }

    /// A text file of the tree; of one that is very long, the end.
    pub fn text(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.fetch(name)
    }
}

impl Fetch for Directory {
    fn fetch(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.file(&format!("{TREE}/{path}"))?
            .map(read_bounded)
            .transpose()
    }
}

/// Reads a small file that the caller names: a guard, a kept checkpoint.
pub fn read_plain(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Unlike those of the log, it may be a link: how a secret is mounted is not our business.
    let path = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        path => path?,
    };
    open_plain(&path)?.map(read_bounded).transpose()
}

/// Opens a plain file to read it; `None` if it isn't there. A link isn't followed.
pub fn open_plain(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // Not blocking, for a FIFO without a writer would hold the caller for ever.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    match options.read(true).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other("is not a plain file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file; of a very long one, the end.
fn read_bounded(mut file: File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A line that isn't blank.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The digest of its bytes, without its line feed.
    pub digest: Hash,
    /// Where it begins in the file.
    pub off: u64,
    /// Where it ends, its line feed included.
    pub end: u64,
    /// Its number, from 1, blank ones counted.
    pub number: u64,
    /// Whether it has its line feed.
    pub whole: bool,
}

/// The digests of the lines of a file. Memory doesn't grow with them, however long one is.
pub struct Lines {
    source: Box<dyn Read>,
    buffer: Box<[u8]>,
    /// What of the buffer isn't consumed.
    start: usize,
    filled: usize,
    /// Where `start` is in the file.
    offset: u64,
    /// The number of the last line.
    number: u64,
}

impl Lines {
    fn new(source: Box<dyn Read>, offset: u64, number: u64) -> Lines {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Lines {
            source,
            buffer,
            start: 0,
            filled: 0,
            offset,
            number,
        }
    }

    /// Where the next line begins, and the number of the last one.
    pub fn place(&self) -> (u64, u64) {
        (self.offset, self.number)
    }

    /// The next line that isn't blank.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut begin = self.offset;
        // The part of a line that is longer than the buffer.
        let mut part: Option<(Sha256, bool)> = None;
        loop {
            let rest = &self.buffer[self.start..self.filled];
            let end = memchr(b'\n', rest);
            let whole = end.is_some();
            if !whole {
                if rest.len() == BUFFER {
                    let (mut hasher, blank) = part.take().unwrap_or((Sha256::new(), true));
                    hasher.update(rest);
                    part = Some((hasher, blank && is_blank(rest)));
                    self.consume(BUFFER);
                }
                if self.fill()? {
                    continue;
                }
                if self.start == self.filled && part.is_none() {
                    return Ok(None);
                }
            }
            let rest = &self.buffer[self.start..self.filled];
            let length = end.unwrap_or(rest.len());
            let bytes = &rest[..length];
            let blank = is_blank(bytes) && part.as_ref().is_none_or(|(_, blank)| *blank);
            let digest = match (part.take(), blank) {
                (_, true) => Hash::default(),
                (None, _) => Sha256::digest(bytes).into(),
                (Some((hasher, _)), _) => hasher.chain_update(bytes).finalize().into(),
            };
            self.consume(length + usize::from(whole));
            self.number += 1;
            if !blank {
                return Ok(Some(Line {
                    digest,
                    off: begin,
                    end: self.offset,
                    number: self.number,
                    whole,
                }));
            }
            begin = self.offset;
        }
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }

    /// Reads more behind what isn't consumed; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        loop {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(count) => {
                    self.filled += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a line holds nothing, or only spaces: what a torn line was overwritten with.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives a few bytes at a time.
    struct Slow(Vec<u8>, usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    #[test]
    fn lines_of_any_length_come_with_their_places_however_they_are_read() {
        let long = "x".repeat(2 * BUFFER);
        let spaces = " ".repeat(BUFFER + 7);
        let exact = "y".repeat(BUFFER);
        let parts = ["a", "", "  ", "bc", &long, &spaces, &exact, " d ", "last"];
        let text = parts.join("\n");
        for step in [1000, BUFFER - 1, BUFFER, usize::MAX] {
            let mut lines = Lines::new(Box::new(Slow(text.clone().into_bytes(), step)), 0, 0);
            let (mut offset, mut number) = (0, 0);
            for part in parts {
                let whole = number < parts.len() as u64 - 1;
                number += 1;
                let end = offset + part.len() as u64 + u64::from(whole);
                if !part.bytes().all(|byte| byte == b' ') {
                    let line = lines.next_line().unwrap().unwrap();
                    assert_eq!(line.digest, Hash::from(Sha256::digest(part)));
                    assert_eq!((line.off, line.end), (offset, end));
                    assert_eq!((line.number, line.whole), (number, whole));
                }
                offset = end;
            }
            assert!(lines.next_line().unwrap().is_none());
            assert_eq!(lines.place(), (text.len() as u64, parts.len() as u64));
        }
    }
}
