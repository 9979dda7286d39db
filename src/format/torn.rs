//! Torn lines: what a process leaves of an entry when it dies in the midst of writing it, and the notes
//! in `.state/torn` that keep what was written over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::name::DayName;
use crate::clock::Timestamp;
use crate::hash::Digest;
use crate::json::Object;

/// How an entry of this library begins, digits and letters of its id and time left open.
const BEGINNING: &[u8] =
    br#"{"id":"????????-????-????-????-????????????","timestamp":"????-??-??T??:??:??.??????Z","event_type":""#;

/// So much of it tells it from how anybody else's line may begin.
const TELLING: usize = br#"{"id":""#.len();

/// How sure it is that a line that isn't JSON was left by a process of this library that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remnant {
    /// It wasn't: somebody else wrote it.
    No,
    /// It may have been, as long as it has no line feed: with one it may be anybody's.
    Perhaps,
    /// It was.
    Yes,
}

impl Remnant {
    /// Of a line, or of the beginning of one.
    ///
    /// What a process leaves is the beginning of an entry. It may stand behind another one, of a process
    /// that died before, and before spaces, which a third one has put in the place of its own line, or
    /// the `x` that closes it. And zeros are what the disk has of a line when the machine goes down.
    pub fn of(line: &[u8]) -> Remnant {
        if line.is_empty() {
            return Remnant::No;
        }
        if has_forgotten(line) {
            return Remnant::Yes;
        }
        let fits = |(byte, right): &(&u8, &u8)| match right {
            b'?' => byte.is_ascii_hexdigit(),
            right => byte == right,
        };
        let mut surely = Remnant::Perhaps;
        let mut rest = line;
        loop {
            let behind = rest.trim_ascii_start();
            let is_begun = rest.len() < line.len();
            // As much as an entry that was written over, or what closes a piece that nobody could take
            // back.
            let is_blanked = rest.len() - behind.len() >= BEGINNING.len();
            let is_end = matches!(behind, b"" | b"x" | b"x\r");
            if is_begun && (is_blanked || is_end && !behind.is_empty()) {
                surely = Remnant::Yes;
            }
            if is_end {
                return surely;
            }
            rest = behind;
            let begun = rest.iter().zip(BEGINNING).take_while(fits).count();
            if begun == 0 {
                return Remnant::No;
            }
            if begun >= TELLING {
                surely = Remnant::Yes;
            }
            if begun == BEGINNING.len() {
                // What stands in it is the caller's word.
                return surely;
            }
            rest = &rest[begun..];
        }
    }
}

/// Whether the disk forgot a part of a line of ours. Two zeros stand in no text; one may, in an encoding of
/// two bytes.
fn has_forgotten(line: &[u8]) -> bool {
    let Some(first) = memchr::memchr(0, line) else {
        return false;
    };
    let opening = &BEGINNING[..TELLING];
    let (before, behind) = (line[..first].trim_ascii_start(), &line[first + 1..]);
    before.starts_with(opening)
        || behind.starts_with(opening)
        || behind.starts_with(&opening[1..])
        || memchr::memmem::find(line, b"\0\0").is_some()
}

/// A torn line that was written over, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// In which file.
    pub day: DayName,
    /// Where it was in it.
    pub offset: u64,
    /// How long it was.
    pub length: u64,
    /// The digest of what it was, in hexadecimal.
    pub sha256: String,
}

impl Note {
    /// Reads a line of `.state/torn`.
    pub fn parse(line: &[u8]) -> Option<Note> {
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        Some(Note {
            day: DayName::parse(value["file"].as_str()?)?,
            offset: value["offset"].as_u64()?,
            length: value["length"].as_u64()?,
            sha256: value["sha256"].as_str()?.to_owned(),
        })
    }
}

/// The line of `.state/torn` for bytes that stood at a place of a file, its line feed included.
pub fn note(day: DayName, offset: u64, bytes: &[u8], now: &Timestamp) -> Vec<u8> {
    let mut line = Vec::new();
    let mut to = Object::begin(&mut line);
    to.text("time", &now.to_string());
    to.text("file", &day.file_name());
    to.json("offset", offset);
    to.json("length", bytes.len());
    to.text("sha256", &Digest::of(bytes).to_string());
    to.text("bytes", &STANDARD.encode(bytes));
    to.end();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &[u8] = br#"{"id":"0f8fad5b-d9cb-469f-a165-70867728950e","timestamp":"2026-11-23T15:51:00.123456Z","event_type":"chat_completion","user_id":"u"}"#;

    #[test]
    fn the_beginning_of_an_entry_is_a_remnant_wherever_it_was_cut() {
        for cut in 1..ENTRY.len() {
            let piece = &ENTRY[..cut];
            let expected = match cut {
                ..TELLING => Remnant::Perhaps,
                _ => Remnant::Yes,
            };
            assert_eq!(Remnant::of(piece), expected, "{cut}");
            for behind in [&b"   "[..], &ENTRY[..1]] {
                let line = [piece, behind].concat();
                assert!(Remnant::of(&line) >= expected, "{cut}");
            }
            for behind in [&[b' '; 200][..], b"x", b"x\r", ENTRY] {
                let line = [piece, behind].concat();
                assert_eq!(Remnant::of(&line), Remnant::Yes, "{cut}");
            }
            assert_eq!(
                Remnant::of(&[piece, b"\0\0"].concat()),
                Remnant::Yes,
                "{cut}"
            );
            assert_eq!(
                Remnant::of(&[b"\0\0", piece].concat()),
                Remnant::Yes,
                "{cut}"
            );
        }
        assert_eq!(Remnant::of(b"\0\0\0"), Remnant::Yes);
        for line in [
            [&b"\0"[..], &ENTRY[1..]].concat(),
            [ENTRY, b"\0", ENTRY].concat(),
            [b"   \0", ENTRY].concat(),
        ] {
            assert_eq!(Remnant::of(&line), Remnant::Yes);
        }
    }

    #[test]
    fn what_other_programs_write_is_no_remnant() {
        for line in [
            &br#"{"id": "0f8fad5b-d9cb-469f-a165-70867728950e", "latency_ms": NaN}"#[..],
            br#"{"id":"x","timestamp":"#,
            b"plain text",
            b"",
            b"}",
            b"{\"a\":1",
            b"\xff\xfe",
            b"\0{\0\"\0i\0d\0\"\0",
            b"xx",
            b"  xx",
        ] {
            assert_eq!(Remnant::of(line), Remnant::No, "{line:?}");
        }
        // The first line of an object over several lines, or the only byte that came of an entry.
        for line in [&b"{"[..], b"{ ", b"x", b"  x"] {
            assert_eq!(Remnant::of(line), Remnant::Perhaps, "{line:?}");
        }
    }

    #[test]
    fn a_note_reads_back() {
        let day = DayName::first(*b"2026-11-23");
        let now = Timestamp::of(std::time::UNIX_EPOCH);
        let line = note(day, 7, b"abc", &now);
        let read = Note::parse(&line).unwrap();
        assert_eq!((read.day, read.offset, read.length), (day, 7, 3));
        assert_eq!(read.sha256, Digest::of(b"abc").to_string());
        assert_eq!(Note::parse(&line[1..]), None);
    }
}
