//! Signed notes and the checkpoints in them, after C2SP signed-note v1.0.0 and tlog-checkpoint
//! v1.0.0, with Ed25519 keys (type 0x01).
//!
//! A note is a text, an empty line, and a line for each signature:
//!
//! ```text
//! audit.example/llm-4f1c
//! 70013
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — audit.example/llm-4f1c Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q...
//! ```
//!
//! The text above is a checkpoint: the log's origin, its size and its root. The first four bytes
//! of a signature are the key's id, the others sign the text, its last line feed included.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::merkle::Hash;

/// The type of the keys: Ed25519.
const ED25519: u8 = 0x01;

/// A note with more signatures is refused: it could keep a reader busy for ever.
const MAX_SIGNATURES: usize = 16;

/// A longer note is refused. A checkpoint with 16 signatures is far shorter.
const MAX_NOTE: usize = 64 * 1024;

/// What begins the line of a signature: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// What begins the text of a private key.
const PRIVATE: &str = "PRIVATE+KEY+";

/// Whether a key may be called that.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_in_name)
}

/// Whether it may stand in a key's name: no white space, no plus, and, so that a line of a guard
/// file or a note is one line, no control character.
pub fn is_in_name(c: char) -> bool {
    !(c == '+' || c.is_whitespace() || c.is_control())
}

/// Base64 as it must be written: padded, and nothing in the bits that padding leaves over.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// The id of a key: the first four bytes of `SHA-256(name || 0x0A || type || public key)`.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update([b'\n', ED25519]);
    hasher.update(key.as_bytes());
    let [a, b, c, d, ..] = Hash::from(hasher.finalize());
    [a, b, c, d]
}

/// A public key with its name. Displays as `<name>+<8 hex digits of its id>+<base64>`, the base64
/// holding the type and the 32 bytes of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl Verifier {
    /// Reads a public key's text.
    pub fn parse(text: &str) -> Result<Verifier, String> {
        let wrong = |what: &str| {
            format!(
                "the public key {what}; right is <name>+<8 hex digits>+<base64>, as in the file vkey"
            )
        };
        let mut parts = text.trim_end_matches('\n').splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("has not three parts with a plus between them"));
        };
        if !is_name(name) {
            return Err(wrong("has no proper name"));
        }
        let bytes = decode(key).ok_or_else(|| wrong("has a third part that isn't base64"))?;
        let Some((&ED25519, key)) = bytes.split_first() else {
            return Err(wrong("isn't of type 1, Ed25519"));
        };
        let key = key
            .try_into()
            .ok()
            .and_then(|key| VerifyingKey::from_bytes(key).ok())
            .ok_or_else(|| wrong("isn't an Ed25519 key of 32 bytes"))?;
        let verifier = Verifier::new(name, key);
        if hex(verifier.id) != id {
            return Err(wrong("has an id that doesn't belong to its name and key"));
        }
        Ok(verifier)
    }

    fn new(name: &str, key: VerifyingKey) -> Verifier {
        let id = key_id(name, &key);
        let name = name.to_owned();
        Verifier { name, id, key }
    }

    /// The key's name, which is the origin of the log that it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note that this key has signed. Signatures by others are ignored.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let (text, signatures) = split(note)?;
        let mut found = false;
        for signature in signatures {
            let (name, bytes) = signature?;
            let Some((id, signed)) = bytes.split_first_chunk::<4>() else {
                return Err(NoteError::Malformed);
            };
            if name != self.name || *id != self.id {
                continue;
            }
            let signature = Signature::from_slice(signed).map_err(|_| NoteError::Malformed)?;
            self.key
                .verify_strict(text.as_bytes(), &signature)
                .map_err(|_| NoteError::Forged)?;
            found = true;
        }
        if found {
            Ok(text)
        } else {
            Err(NoteError::Unsigned)
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex(self.id), BASE64.encode(bytes))
    }
}

fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// A private key with its name, wiped when it goes.
pub struct Signer {
    verifier: Verifier,
    key: SigningKey,
}

impl Signer {
    /// The key that grows from 32 random bytes.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Signer, String> {
        if !is_name(name) {
            return Err(format!(
                "a key can't be called {name:?}; right is a name without white space and plus"
            ));
        }
        let key = SigningKey::from_bytes(seed);
        let verifier = Verifier::new(name, key.verifying_key());
        Ok(Signer { verifier, key })
    }

    /// Reads a private key's text, as [`Signer::text`] writes it. No message repeats any of it.
    pub fn parse(text: &str) -> Result<Signer, String> {
        let wrong = |what: &str| {
            format!("the private key {what}; right is {PRIVATE}<name>+<8 hex digits>+<base64>")
        };
        let rest = text
            .trim_end_matches('\n')
            .strip_prefix(PRIVATE)
            .ok_or_else(|| wrong("begins otherwise"))?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("has too few parts"));
        };
        let bytes = decode(key).map(Zeroizing::new);
        let bytes = bytes.ok_or_else(|| wrong("has a last part that isn't base64"))?;
        let Some((&ED25519, seed)) = bytes.split_first() else {
            return Err(wrong("isn't of type 1, Ed25519"));
        };
        let seed = seed
            .try_into()
            .map_err(|_| wrong("hasn't a seed of 32 bytes"))?;
        let signer = Signer::from_seed(name, seed)?;
        if hex(signer.verifier.id) != id {
            return Err(wrong("has an id that doesn't belong to its name and key"));
        }
        Ok(signer)
    }

    /// The key as one line of text: `PRIVATE+KEY+<name>+<8 hex digits of its id>+<base64>`, the
    /// base64 holding the type and the seed. golang.org/x/mod/sumdb/note reads it.
    pub fn text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ED25519; 33]);
        let mut seed = self.key.to_bytes();
        bytes[1..].copy_from_slice(&seed);
        seed.zeroize();
        let key = Zeroizing::new(BASE64.encode(*bytes));
        let Verifier { name, id, .. } = &self.verifier;
        Zeroizing::new(format!("{PRIVATE}{name}+{}+{}\n", hex(*id), *key))
    }

    /// The public key.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// A note: `text`, which ends with a line feed, and this key's signature.
    pub fn sign(&self, text: &str) -> String {
        let mut bytes = self.verifier.id.to_vec();
        bytes.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!(
            "{text}\n{DASH}{} {}\n",
            self.verifier.name,
            BASE64.encode(bytes)
        )
    }
}

impl fmt::Debug for Signer {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

/// Why a note isn't believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteError {
    /// It isn't a note.
    Malformed,
    /// None of its signatures claims to be by the key.
    Unsigned,
    /// A signature that claims to be by the key isn't.
    Forged,
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoteError::Malformed => "isn't a signed note",
            NoteError::Unsigned => "isn't signed by the log's key",
            NoteError::Forged => "has a signature that doesn't fit its text",
        })
    }
}

/// A line of a signature: the key's name, and its id with the signature.
type SignatureLine<'n> = Result<(&'n str, Vec<u8>), NoteError>;

/// A note's text and its signatures.
fn split(note: &str) -> Result<(&str, impl Iterator<Item = SignatureLine<'_>>), NoteError> {
    let control = |c: char| c < ' ' && c != '\n';
    if note.len() > MAX_NOTE || note.contains(control) || !note.ends_with('\n') {
        return Err(NoteError::Malformed);
    }
    // The last empty line, because the text may hold others.
    let empty = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, signatures) = (&note[..=empty], &note[empty + 2..]);
    let count = signatures.matches('\n').count();
    if count == 0 || count > MAX_SIGNATURES {
        return Err(NoteError::Malformed);
    }
    let read = |line: &'_ str| {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = decode(bytes)?;
        (is_name(name) && bytes.len() > 4).then_some((name.len(), bytes))
    };
    let lines = signatures.split_terminator('\n').map(move |line| {
        let (length, bytes) = read(line).ok_or(NoteError::Malformed)?;
        Ok((&line[DASH.len()..DASH.len() + length], bytes))
    });
    Ok((text, lines))
}

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
            .filter(|checkpoint| checkpoint.origin == verifier.name)
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
    let mut lines = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        lines.push(start..end + 1);
        start = end + 1;
    }
    let empty = |at: usize| lines[at].len() == 1;
    let dash = |at: usize| bytes[lines[at].clone()].starts_with(DASH.as_bytes());
    let mut found = Vec::new();
    let mut at = 3;
    while at < lines.len() {
        let first = at + 1;
        let mut next = first;
        while next < lines.len() && dash(next) {
            next += 1;
        }
        if empty(at) && next > first && !(at - 3..at).any(empty) {
            let note = &bytes[lines[at - 3].start..lines[next - 1].end];
            found.extend(std::str::from_utf8(note));
            at = next;
        } else {
            at += 1;
        }
    }
    found
}

/// The last of the notes that is a checkpoint signed by `verifier`, and the note itself.
pub fn last_checkpoint<'b>(bytes: &'b [u8], verifier: &Verifier) -> Option<(Checkpoint, &'b str)> {
    notes(bytes).into_iter().rev().find_map(|note| {
        let checkpoint = Checkpoint::open(note, verifier).ok()?;
        Some((checkpoint, note))
    })
}

#[cfg(test)]
mod tests {
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

    /// The example of the specification: C2SP signed-note, section "Example".
    const EXAMPLE_KEY: &str =
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    #[test]
    fn the_example_of_the_specification_verifies() {
        let signature = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=";
        let note = format!("This is an example message.\n\n{DASH}example.com/foo {signature}\n");
        let verifier = Verifier::parse(EXAMPLE_KEY).unwrap();
        assert_eq!(verifier.open(&note), Ok("This is an example message.\n"));
        let other = note.replace("example m", "Example m");
        assert_eq!(verifier.open(&other), Err(NoteError::Forged));
    }

    /// RFC 8032, section 7.1, test 1: a seed and its public key.
    #[test]
    fn a_seed_gives_the_key_that_rfc_8032_gives() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let seed: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let signer = Signer::from_seed("a", seed[..].try_into().unwrap()).unwrap();
        let bytes = signer.verifier.key.to_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, key);
    }

    #[test]
    fn keys_read_back_as_they_were_written() {
        let signer = signer();
        let text = signer.text();
        assert!(text.starts_with("PRIVATE+KEY+audit.example/llm+"));
        let again = Signer::parse(&text).unwrap();
        assert_eq!(again.verifier, signer.verifier);
        assert_eq!(*again.text(), *text);
        let public = signer.verifier.to_string();
        assert_eq!(Verifier::parse(&public).unwrap(), signer.verifier);
        assert_eq!(
            Verifier::parse(EXAMPLE_KEY).unwrap().to_string(),
            EXAMPLE_KEY
        );
    }

    #[test]
    fn every_changed_character_of_a_key_is_refused() {
        let private = signer().text();
        let public = signer().verifier.to_string();
        for at in 0..private.trim_end().len() {
            let mut bytes = private.as_bytes().to_vec();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(Signer::parse(&text).is_err(), "{at}");
            assert!(Signer::parse(&private[..at]).is_err());
        }
        for at in 0..public.len() {
            let mut bytes = public.as_bytes().to_vec();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(Verifier::parse(&text).is_err(), "{at}");
            assert!(Verifier::parse(&public[..at]).is_err());
        }
    }

    #[test]
    fn no_debug_text_and_no_error_shows_a_private_key() {
        let signer = signer();
        let text = signer.text();
        let secret = text.trim_end().rsplit('+').next().unwrap();
        assert!(!format!("{signer:?}").contains(secret));
        let mangled = text.replace("llm", "lln");
        assert!(!Signer::parse(&mangled).unwrap_err().contains(secret));
    }

    #[test]
    fn names_without_white_space_and_plus_are_names() {
        for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\u{7f}"] {
            assert!(Signer::from_seed(name, &SEED).is_err(), "{name:?}");
        }
        assert!(is_name("audit.example/llm-ä"));
    }

    #[test]
    fn every_changed_byte_of_a_note_is_refused() {
        let signer = signer();
        let note = signer.sign(&checkpoint(12).to_string());
        assert_eq!(
            Checkpoint::open(&note, &signer.verifier),
            Ok(checkpoint(12))
        );
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(signer.verifier.open(&text).is_err(), "{at} {bit}");
            }
            if note.is_char_boundary(at) {
                assert!(signer.verifier.open(&note[..at]).is_err());
            }
        }
    }

    #[test]
    fn sixteen_signatures_are_read_and_seventeen_refused() {
        let signer = signer();
        let mut note = signer.sign("text\n");
        for number in 0..15 {
            let other = Signer::from_seed(&format!("other{number}"), &[number; 32]).unwrap();
            let signed = other.sign("text\n");
            note.push_str(&signed["text\n\n".len()..]);
        }
        assert_eq!(signer.verifier.open(&note), Ok("text\n"));
        let line = note["text\n\n".len()..]
            .split_inclusive('\n')
            .next()
            .unwrap();
        assert_eq!(
            signer.verifier.open(&format!("{note}{line}")),
            Err(NoteError::Malformed)
        );
        let stranger = Signer::from_seed("stranger", &SEED).unwrap();
        assert_eq!(stranger.verifier.open(&note), Err(NoteError::Unsigned));
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
            let (found, note) = last_checkpoint(&heads, &signer.verifier).unwrap();
            assert_eq!((found.size, note), (1, &first[..]), "{cut}");

            // And what is appended after it isn't lost.
            if heads.last() != Some(&b'\n') {
                heads.push(b'\n');
            }
            heads.extend_from_slice(third.as_bytes());
            let (found, note) = last_checkpoint(&heads, &signer.verifier).unwrap();
            assert_eq!((found.size, note), (3, &third[..]), "{cut}");
        }
        let all = [first, second, third].concat();
        assert_eq!(notes(all.as_bytes()).len(), 3);
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
