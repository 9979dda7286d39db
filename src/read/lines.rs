//! The one reader of lines: one after the other, in bounded memory whatever a line's length.
//!
//! A line that fits the buffer is held whole. A longer one is walked: its beginning is kept, and while
//! the rest streams by it is hashed, and told to be JSON or not.

use std::fmt;
use std::io::{self, Read};

use memchr::memchr;
use sha2::{Digest as _, Sha256};

use super::sound::{Checker, Form};
use crate::format::merkle::Hash;
use crate::format::torn::Remnant;

/// Longer lines aren't held: an entry has at most 1 MiB.
pub const LONGEST: usize = 2 << 20;

/// What is kept of a line that isn't held.
const KEPT: usize = 64 << 10;

/// Reads a file line by line, from a place that is the head of a line.
pub struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// What of the buffer was read and isn't consumed.
    start: usize,
    filled: usize,
    /// Where `start` is in the file.
    at: u64,
    /// The number of the last line.
    number: u64,
    /// What the buffer may grow to.
    most: usize,
    /// The beginning of a line that isn't held.
    kept: Vec<u8>,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Where it begins.
    pub start: u64,
    /// Where it ends, its line feed not counted.
    pub end: u64,
    /// Its text without the line feed; of a line that is too long, its beginning.
    pub text: &'a [u8],
    /// Whether it has its line feed.
    pub closed: bool,
    /// Its number among those that were read, from 1.
    pub number: u64,
    /// What a line that isn't held was found to be.
    walked: Option<Walked>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Walked {
    digest: Hash,
    form: Form,
    made_of: MadeOf,
}

/// What a line consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MadeOf {
    /// Nothing, or spaces.
    Spaces,
    /// White space.
    Blanks,
    /// More.
    Text,
}

impl MadeOf {
    fn of(text: &[u8]) -> MadeOf {
        if text.iter().all(|byte| *byte == b' ') {
            MadeOf::Spaces
        } else if text.trim_ascii().is_empty() {
            MadeOf::Blanks
        } else {
            MadeOf::Text
        }
    }
}

impl<R: Read> Lines<R> {
    /// Reads `from`, which stands at the byte `at` of its file.
    pub fn new(from: R, at: u64) -> Lines<R> {
        Lines::holding(from, at, LONGEST)
    }

    /// The same, with lines held up to another length only.
    pub fn holding(from: R, at: u64, most: usize) -> Lines<R> {
        Lines {
            from,
            buffer: vec![0; most.min(KEPT)],
            start: 0,
            filled: 0,
            at,
            number: 0,
            most,
            kept: Vec::new(),
        }
    }

    /// The same, whose first line comes behind so many others.
    pub fn numbered(mut self, number: u64) -> Lines<R> {
        self.number = number;
        self
    }

    /// Where the next line begins, and the number of the last one.
    pub fn place(&self) -> (u64, u64) {
        (self.at, self.number)
    }

    /// The next line, or `None` at the end. No iterator's: it lends.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Option<Seen<'_>>> {
        let mut scanned = 0;
        let closed = loop {
            let rest = &self.buffer[self.start + scanned..self.filled];
            if let Some(end) = memchr(b'\n', rest) {
                scanned += end;
                break true;
            }
            scanned += rest.len();
            if scanned >= self.most {
                return self.walk().map(Some);
            }
            if !self.fill()? {
                break false;
            }
        };
        if scanned == 0 && !closed {
            return Ok(None);
        }
        let (from, start) = (self.start, self.at);
        self.consume(scanned + usize::from(closed));
        self.number += 1;
        Ok(Some(Seen {
            start,
            end: start + scanned as u64,
            text: &self.buffer[from..from + scanned],
            closed,
            number: self.number,
            walked: None,
        }))
    }

    /// The line that the full buffer begins.
    fn walk(&mut self) -> io::Result<Seen<'_>> {
        let start = self.at;
        self.kept.clear();
        self.kept
            .extend_from_slice(&self.buffer[self.start..][..self.most.min(KEPT)]);
        let mut hasher = Sha256::new();
        let mut checker = Checker::default();
        let mut made_of = MadeOf::Spaces;
        let closed = loop {
            let rest = &self.buffer[self.start..self.filled];
            let end = memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            hasher.update(piece);
            if made_of != MadeOf::Text {
                made_of = made_of.max(MadeOf::of(piece));
            }
            checker.push(piece);
            let length = piece.len();
            self.consume(length + usize::from(end.is_some()));
            if end.is_some() {
                break true;
            }
            if !self.fill()? {
                break false;
            }
        };
        self.number += 1;
        Ok(Seen {
            start,
            end: self.at - u64::from(closed),
            text: &self.kept,
            closed,
            number: self.number,
            walked: Some(Walked {
                digest: hasher.finalize().into(),
                form: checker.end(),
                made_of,
            }),
        })
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.at += length as u64;
    }

    /// Reads more behind what isn't consumed; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if self.filled == self.buffer.len() {
            let length = (2 * self.filled).min(self.most);
            self.buffer.resize(length, 0);
        }
        loop {
            match self.from.read(&mut self.buffer[self.filled..]) {
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

impl Seen<'_> {
    /// The SHA-256 of the line, however long it is.
    pub fn digest(&self) -> Hash {
        match &self.walked {
            Some(walked) => walked.digest,
            None => Sha256::digest(self.text).into(),
        }
    }

    /// Whether `text` is all of it.
    pub fn is_held(&self) -> bool {
        self.walked.is_none()
    }

    fn made_of(&self) -> MadeOf {
        self.walked
            .map_or_else(|| MadeOf::of(self.text), |walked| walked.made_of)
    }

    /// Whether nothing but white space is on it.
    pub fn is_blank(&self) -> bool {
        self.made_of() != MadeOf::Text
    }

    /// Whether nothing but spaces is on it: torn lines were written over with them.
    pub fn is_spaces(&self) -> bool {
        self.made_of() == MadeOf::Spaces
    }

    /// What it is, if it isn't blank.
    pub fn form(&self) -> Form {
        self.walked
            .map_or_else(|| Form::of(self.text), |walked| walked.form)
    }

    /// Whether it's JSON in UTF-8, or blank: anything else stops those who read the file.
    pub fn is_sound(&self) -> bool {
        self.is_blank() || self.form() == Form::Json
    }

    /// How surely a process of this library has left it when it was killed, or the machine when it lost
    /// power: what was to be an entry. What other programs write is none, whatever it holds.
    pub fn remnant(&self) -> Remnant {
        // No entry is too long to be held.
        if self.is_held() && !self.is_blank() && self.form() == Form::Other {
            Remnant::of(self.text)
        } else {
            Remnant::No
        }
    }
}

/// A source that is read until somebody says stop: that is asked at every piece, so inside of lines too.
pub struct Watched<R, S> {
    from: R,
    stop: S,
}

impl<R, S: Fn() -> bool> Watched<R, S> {
    /// Reads `from` until `stop` says so.
    pub fn new(from: R, stop: S) -> Watched<R, S> {
        Watched { from, stop }
    }
}

impl<R: Read, S: Fn() -> bool> Read for Watched<R, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match (self.stop)() {
            true => Err(io::Error::other(Stopped)),
            false => self.from.read(into),
        }
    }
}

/// Whoever reads was told to stop.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Stopped {}

/// Whether a failure means that the reader was told to stop.
pub fn was_stopped(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Stopped>())
}

/// Where the line begins that a place is in, of what `read` reads: it fills the piece from a place on.
pub fn start_of_line(
    place: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<u64> {
    let mut at = place;
    let mut piece = vec![0; 4096];
    while at > 0 {
        let from = at.saturating_sub(piece.len() as u64);
        let part = &mut piece[..(at - from) as usize];
        read(part, from)?;
        if let Some(last) = memchr::memrchr(b'\n', part) {
            return Ok(from + last as u64 + 1);
        }
        at = from;
        // Not for ever in steps of a page, should the line be one of gigabytes.
        if piece.len() < KEPT {
            piece = vec![0; 2 * piece.len()];
        }
    }
    Ok(0)
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
    fn lines_of_any_length_come_with_places_and_digests_however_they_are_read() {
        const MOST: usize = 256 * 1024;
        let long = "x".repeat(2 * MOST);
        let spaces = " ".repeat(MOST + 7);
        let exact = "y".repeat(MOST);
        let below = "z".repeat(MOST - 1);
        let parts = [
            "ab", "", "  ", "bc", &long, &spaces, &exact, &below, " d ", "last",
        ];
        let text = parts.join("\n");
        for step in [1000, MOST - 1, MOST, usize::MAX] {
            let source = Slow(text.clone().into_bytes(), step);
            let mut lines = Lines::holding(source, 10, MOST).numbered(3);
            let (mut at, mut number) = (10, 3);
            for part in parts {
                number += 1;
                let line = lines.next().unwrap().unwrap();
                let end = at + part.len() as u64;
                assert_eq!((line.start, line.end, line.number), (at, end, number));
                assert_eq!(line.closed, part != "last");
                assert_eq!(line.digest(), Hash::from(Sha256::digest(part)));
                assert_eq!(line.is_held(), part.len() < MOST);
                assert!(part.as_bytes().starts_with(line.text));
                assert_eq!(line.is_spaces(), part.trim().is_empty());
                at = end + 1;
            }
            assert!(lines.next().unwrap().is_none());
            assert_eq!(lines.place(), (at - 1, number));
        }
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory_than_the_longest() {
        let mut lines = Lines::new(io::repeat(b'x').take(9 * LONGEST as u64), 0);
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.end, 9 * LONGEST as u64);
        assert!(line.text.len() == KEPT && !line.is_sound() && !line.is_blank());
        assert!(lines.buffer.len() == LONGEST);
    }

    #[test]
    fn a_long_line_is_told_to_be_json_or_blank_or_neither() {
        let padding = "é".repeat(LONGEST);
        for (text, form) in [
            (format!(r#"{{"a":"{padding}"}}"#), Form::Json),
            (format!(r#"{{"a":"{padding}","b":NaN}}"#), Form::Python),
            (format!(r#"{{"id":"{padding}"#), Form::Other),
        ] {
            let line = text.as_bytes();
            let mut lines = Lines::new(line, 0);
            let line = lines.next().unwrap().unwrap();
            assert_eq!((line.form(), line.is_held()), (form, false));
            assert_eq!(line.is_sound(), form == Form::Json);
            assert_eq!(line.remnant(), Remnant::No);
        }
        let mut lines = Lines::new(io::repeat(b' ').take(3 * LONGEST as u64), 0);
        let line = lines.next().unwrap().unwrap();
        assert!(line.is_blank() && line.is_spaces() && line.is_sound());
    }

    #[test]
    fn a_line_is_sound_or_torn_or_another_program_s() {
        let told = |text: &[u8]| {
            let mut lines = Lines::new(text, 0);
            let line = lines.next().unwrap().unwrap();
            (line.is_sound(), line.remnant() != Remnant::No)
        };
        for text in [&b"{}\n"[..], b"   {\"a\":1}  \r\n", b" \n", b"\r\n", b"[1]"] {
            assert_eq!(told(text), (true, false), "{text:?}");
        }
        for text in [
            &b"{\"id\n"[..],
            b"{\"id\":\"0000{\"id\":\"1\n",
            b"\0\0\n",
            b"\0\0\"status\":\"success\"}\n",
            b"   {\"id\":\"",
            b"{",
        ] {
            assert_eq!(told(text), (false, true), "{text:?}");
        }
        for text in [
            &b"{\"a\":1\n"[..],
            b"{\"id\":1,\"x\":NaN}\n",
            b"{\"id\":\"\xff\"}\n",
            b"{}{}\n",
            b"log: x\n",
        ] {
            assert_eq!(told(text), (false, false), "{text:?}");
        }
    }

    #[test]
    fn reading_ends_inside_a_line_when_it_is_told_to() {
        let left = std::cell::Cell::new(100);
        let stop = || left.replace(left.get() - 1) == 0;
        let mut lines = Lines::new(Watched::new(io::repeat(b'x'), &stop), 0);
        let error = lines.next().unwrap_err();
        assert!(was_stopped(&error) && !was_stopped(&io::Error::other("else")));
    }

    #[test]
    fn the_head_of_a_line_is_found_however_far_it_is() {
        let mut text = b"first\n".to_vec();
        text.extend(b"x".repeat(3 * KEPT));
        let read = |piece: &mut [u8], at: u64| {
            piece.copy_from_slice(&text[at as usize..][..piece.len()]);
            Ok(())
        };
        for (place, head) in [(0, 0), (5, 0), (6, 6), (7, 6), (text.len(), 6)] {
            assert_eq!(start_of_line(place as u64, read).unwrap(), head);
        }
    }
}
