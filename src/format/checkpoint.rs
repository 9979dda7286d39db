//! Checkpoints, after C2SP tlog-checkpoint v1.0.0: what a log signs, in notes and in guards.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::merkle::Hash;
use super::note::{DASH, NoteError, Verifier, decode};

/// What a log signs: its origin, its size and its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is its key's.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads a checkpoint's text. Lines after the third are ignored, as the format wants it.
    pub fn parse(text: &str) -> Option<Checkpoint> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if origin.is_empty() || lines.any(str::is_empty) {
            return None;
        }
        Some(Checkpoint {
            origin: origin.to_owned(),
            size: parse_size(size)?,
            root: parse_hash(root)?,
        })
    }

    /// Reads a note that `verifier` has signed and that is a checkpoint of its log.
    pub fn open(note: &str, verifier: &Verifier) -> Result<Checkpoint, NoteError> {
        let text = verifier.open(note)?;
        Checkpoint::parse(text)
            .filter(|checkpoint| checkpoint.origin == verifier.name())
            .ok_or(NoteError::Malformed)
    }

    /// The line of a guard file: `<origin> <size> <base64 of the root>`.
    pub fn guard_line(&self) -> String {
        format!(
            "{} {} {}\n",
            self.origin,
            self.size,
            BASE64.encode(self.root)
        )
    }

    /// The last whole line of a guard file that is about `origin`. Others were torn; if all of them are
    /// of another form, the file isn't a guard.
    pub fn guarded(guard: &str, origin: &str) -> Result<Option<Checkpoint>, String> {
        let whole = guard.rfind('\n').map_or("", |end| &guard[..end]);
        let mut wrong = None;
        for (at, line) in whole.split('\n').enumerate() {
            if line.split(' ').next() == Some(origin) {
                wrong = Some(at + 1);
            }
        }
        let read = |line: &str| {
            let mut words = line.split(' ');
            let about = words.next()? == origin;
            let (size, root) = (parse_size(words.next()?)?, parse_hash(words.next()?)?);
            let origin = origin.to_owned();
            (about && words.next().is_none()).then_some(Checkpoint { origin, size, root })
        };
        match (whole.split('\n').rev().find_map(read), wrong) {
            (None, Some(line)) => Err(format!(
                "line {line} isn't <origin> <size> <base64 of the root>"
            )),
            (found, _) => Ok(found),
        }
    }
}

impl fmt::Display for Checkpoint {
    /// The text that is signed: origin, size and base64 of the root, each on its line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = BASE64.encode(self.root);
        write!(f, "{}\n{}\n{root}\n", self.origin, self.size)
    }
}

/// What the line begins with that says what a guard is called: `guard <name>`.
pub const GUARD: &str = "guard ";

/// The name of a guard, from its text.
pub fn guard_name(guard: &str) -> Option<&str> {
    let whole = guard.rfind('\n').map_or("", |end| &guard[..end]);
    let names = whole
        .split('\n')
        .filter_map(|line| line.strip_prefix(GUARD));
    names
        .rev()
        .find(|name| !name.is_empty() && !name.contains(' '))
}

/// A number as it must be written: decimal, no sign, no leading zero.
pub fn parse_size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}

/// The base64 of a hash.
pub fn parse_hash(text: &str) -> Option<Hash> {
    decode(text)?.try_into().ok()
}

/// The base64 of a hash.
pub fn format_hash(hash: &Hash) -> String {
    BASE64.encode(hash)
}

/// The notes of three lines of text in a file of notes one after another, such as `heads`, in the
/// order they stand. They are found by their form alone: what is torn is skipped, and a note
/// begins with the line that its form gives it, so no torn one takes the next one with it, as
/// long as whoever appends ends a torn line with a line feed first.
pub fn notes(bytes: &[u8]) -> Vec<&str> {
    let mark = ["\n\n", DASH].concat();
    let mut found = Vec::new();
    let mut begin = 0;
    for at in memchr::memmem::find_iter(bytes, &mark) {
        // Behind the empty line.
        let first = at + 2;
        let mut end = first;
        while bytes[end..].starts_with(DASH.as_bytes())
            && let Some(length) = memchr::memchr(b'\n', &bytes[end..])
        {
            end += length + 1;
        }
        if end > first
            && at > begin
            && let Some(start) = third_last_line(&bytes[begin..at])
        {
            found.extend(std::str::from_utf8(&bytes[begin + start..end]));
            begin = end;
        }
    }
    found
}

/// Where the last three of some lines begin, if there are three and none of them is empty.
fn third_last_line(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    let mut start = end;
    for line in 0..3 {
        if line > 0 {
            end = start.checked_sub(1)?;
        }
        start = memchr::memrchr(b'\n', &bytes[..end]).map_or(0, |at| at + 1);
        if start == end {
            return None;
        }
    }
    Some(start)
}

/// The size that a note is a checkpoint of, if its signatures hold.
pub fn claimed_size(note: &str) -> Option<u64> {
    note.split('\n').nth(1).and_then(parse_size)
}

/// The newest of the notes that is a checkpoint signed by `verifier`, and the note itself: that of the
/// greatest size, and of several the last. (One that got cosignatures stands behind a newer one for a
/// moment.)
pub fn newest_checkpoint<'b>(
    bytes: &'b [u8],
    verifier: &Verifier,
) -> Option<(Checkpoint, &'b str)> {
    let mut notes = notes(bytes);
    // What is claimed is compared first: to check a signature takes far longer.
    notes.sort_by_key(|note| claimed_size(note));
    notes.into_iter().rev().find_map(|note| {
        let checkpoint = Checkpoint::open(note, verifier).ok()?;
        Some((checkpoint, note))
    })
}

#[cfg(test)]
mod tests {
    use super::super::note::Signer;
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn signer() -> Signer {
        Signer::from_seed("audit.example/llm", &SEED).unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        let origin = "audit.example/llm".to_owned();
        let root = [size as u8; 32];
        Checkpoint { origin, size, root }
    }

    #[test]
    fn every_changed_byte_of_a_note_is_refused() {
        let signer = signer();
        let note = signer.sign(&checkpoint(12).to_string());
        assert_eq!(
            Checkpoint::open(&note, signer.verifier()),
            Ok(checkpoint(12))
        );
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(signer.verifier().open(&text).is_err(), "{at} {bit}");
            }
            if note.is_char_boundary(at) {
                assert!(signer.verifier().open(&note[..at]).is_err());
            }
        }
    }

    #[test]
    fn checkpoints_have_one_form() {
        for text in [
            "",
            "a\n",
            "a\n1\n",
            "a\n01\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
            "a\n+1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
            "a\n-1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
            "a\n18446744073709551616\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
            "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
            "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n",
            "a\n1\nAAAA\n",
            "\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
            "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n",
        ] {
            assert_eq!(Checkpoint::parse(text), None, "{text:?}");
        }
        let text = "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nmore\n";
        assert_eq!(Checkpoint::parse(text).map(|c| c.size), Some(1));
    }

    #[test]
    fn the_last_whole_note_is_found_behind_any_torn_tail() {
        let signer = signer();
        let first = signer.sign(&checkpoint(1).to_string());
        let second = signer.sign(&checkpoint(2).to_string());
        let third = signer.sign(&checkpoint(3).to_string());
        for cut in 0..second.len() {
            let mut heads = first.clone().into_bytes();
            heads.extend_from_slice(&second.as_bytes()[..cut]);
            let (found, note) = newest_checkpoint(&heads, signer.verifier()).unwrap();
            assert_eq!((found.size, note), (1, &first[..]), "{cut}");

            // And what is appended after it isn't lost.
            if heads.last() != Some(&b'\n') {
                heads.push(b'\n');
            }
            heads.extend_from_slice(third.as_bytes());
            let (found, note) = newest_checkpoint(&heads, signer.verifier()).unwrap();
            assert_eq!((found.size, note), (3, &third[..]), "{cut}");
        }
        let all = [&third[..], &first, &second].concat();
        let (found, _) = newest_checkpoint(all.as_bytes(), signer.verifier()).unwrap();
        assert_eq!(found.size, 3);
        assert_eq!(notes(all.as_bytes()).len(), 3);
        // What stands between them and has no such form is passed over, however much it is.
        let garbage =
            ["\n", "x\n", "\n\n\u{2014} x", "\u{2014} x\n"].map(|piece| piece.repeat(50_000));
        let mixed: String = garbage
            .iter()
            .map(|piece| format!("{piece}\n{all}"))
            .collect();
        assert_eq!(notes(mixed.as_bytes()).len(), 12);
    }

    #[test]
    fn a_guard_is_read_by_origin_and_its_last_word_counts() {
        let guard = format!(
            "other 9 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n{}{}torn",
            checkpoint(1).guard_line(),
            checkpoint(2).guard_line()
        );
        assert_eq!(
            Checkpoint::guarded(&guard, "audit.example/llm"),
            Ok(Some(checkpoint(2)))
        );
        assert_eq!(Checkpoint::guarded(&guard, "nobody"), Ok(None));
        assert!(Checkpoint::guarded("a x y\n", "a").is_err());
    }
}
