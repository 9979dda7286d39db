//! The lines of a file, one after the other, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use serde::de::IgnoredAny;

/// Longer lines are no entry's: an entry has at most 1 MiB.
pub const LONGEST: usize = 2 << 20;

/// Reads a file line by line, from a place that is the head of a line.
pub struct Lines<R> {
    from: BufReader<R>,
    at: u64,
    line: Vec<u8>,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Where it begins.
    pub start: u64,
    /// Where it ends, its line feed not counted.
    pub end: u64,
    /// Its text without the line feed; of a line that is too long, its beginning.
    pub text: &'a [u8],
    /// Whether it has its line feed.
    pub closed: bool,
    /// What it consists of, however long it is.
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
        Lines {
            from: BufReader::with_capacity(64 * 1024, from),
            at,
            line: Vec::new(),
        }
    }

    /// The next line, or `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Seen<'_>>> {
        self.line.clear();
        let start = self.at;
        let mut made_of = MadeOf::Spaces;
        loop {
            let piece = match self.from.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                piece => piece?,
            };
            let end = memchr::memchr(b'\n', piece);
            let text = &piece[..end.unwrap_or(piece.len())];
            if made_of != MadeOf::Text {
                made_of = made_of.max(MadeOf::of(text));
            }
            let room = LONGEST.saturating_sub(self.line.len()).min(text.len());
            self.line.extend_from_slice(&text[..room]);
            let taken = end.map_or(piece.len(), |end| end + 1);
            let at_end = piece.is_empty();
            self.from.consume(taken);
            self.at += taken as u64;
            let closed = end.is_some();
            if at_end && self.at == start {
                return Ok(None);
            }
            if closed || at_end {
                return Ok(Some(Seen {
                    start,
                    end: self.at - u64::from(closed),
                    text: &self.line,
                    closed,
                    made_of,
                }));
            }
        }
    }
}

impl Seen<'_> {
    /// Whether nothing but white space is on it.
    pub fn is_blank(&self) -> bool {
        self.made_of != MadeOf::Text
    }

    /// Whether nothing but spaces is on it: torn lines were written over with them.
    pub fn is_spaces(&self) -> bool {
        self.made_of == MadeOf::Spaces
    }

    /// Whether it's JSON in UTF-8, or blank: anything else stops those who read the file.
    pub fn is_sound(&self) -> bool {
        self.is_blank()
            || self.is_whole()
                && std::str::from_utf8(self.text)
                    .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    }

    fn is_whole(&self) -> bool {
        (self.end - self.start) as usize == self.text.len()
    }
}

/// Where the line begins that a place is in.
pub fn line_start(file: &File, place: u64) -> io::Result<u64> {
    let mut at = place;
    let mut piece = [0; 4096];
    while at > 0 {
        let from = at.saturating_sub(piece.len() as u64);
        let part = &mut piece[..(at - from) as usize];
        file.read_exact_at(part, from)?;
        if let Some(last) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + last as u64 + 1);
        }
        at = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_with_their_places() {
        let mut lines = Lines::new(&b"ab\n\n  \nlast"[..], 10);
        let mut seen = |start, end, text: &str, closed| {
            let text = text.as_bytes();
            let line = Seen {
                start,
                end,
                text,
                closed,
                made_of: MadeOf::of(text),
            };
            assert_eq!(lines.next().unwrap(), Some(line));
        };
        seen(10, 12, "ab", true);
        seen(13, 13, "", true);
        seen(14, 16, "  ", true);
        seen(17, 21, "last", false);
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory_than_the_longest() {
        let mut lines = Lines::new(io::repeat(b'x').take(3 * LONGEST as u64), 0);
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.end, 3 * LONGEST as u64);
        assert!(line.text.len() == LONGEST && !line.is_sound() && !line.is_blank());
    }

    #[test]
    fn spaces_are_blank_however_many() {
        let mut lines = Lines::new(io::repeat(b' ').take(3 * LONGEST as u64), 0);
        let line = lines.next().unwrap().unwrap();
        assert!(line.is_blank() && line.is_spaces() && line.is_sound());
    }

    #[test]
    fn a_line_is_sound_or_torn() {
        let sound = |text: &[u8]| Lines::new(text, 0).next().unwrap().unwrap().is_sound();
        for text in [&b"{}\n"[..], b"   {\"a\":1}  \r\n", b" \n", b"\r\n", b"[1]"] {
            assert!(sound(text), "{text:?}");
        }
        for text in [
            &b"{\"a\":1\n"[..],
            b"{}{}\n",
            b"\0\0\n",
            b"{\"a\":\"\xff\"}\n",
            b"x",
        ] {
            assert!(!sound(text), "{text:?}");
        }
    }
}
