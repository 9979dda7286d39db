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
use ring::signature::{
    ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::merkle::Hash;
use crate::sys::Wiped;

/// The type of the keys: Ed25519.
const TYPE: u8 = 0x01;

/// The bytes of a public key.
type PublicKey = [u8; ED25519_PUBLIC_KEY_LEN];

/// The points of small order, in every way they can be written, without their sign: a public key that
/// is one of them fits signatures that nobody made.
const WEAK_KEYS: [PublicKey; 7] = [
    little_endian(0, 0, 0),
    little_endian(1, 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    little_endian(0xec, 0xff, 0x7f),
    little_endian(0xed, 0xff, 0x7f),
    little_endian(0xee, 0xff, 0x7f),
];

/// A number by its lowest byte, its highest, and those in between.
const fn little_endian(lowest: u8, between: u8, highest: u8) -> PublicKey {
    let mut bytes = [between; 32];
    bytes[0] = lowest;
    bytes[31] = highest;
    bytes
}

fn is_weak(key: &PublicKey) -> bool {
    let mut unsigned = *key;
    unsigned[31] &= 0x7f;
    WEAK_KEYS.contains(&unsigned)
}

/// The bytes of a signature.
const SIGNATURE: usize = 64;

/// A note with more signatures is refused: it could keep a reader busy for ever. As many are read by
/// golang.org/x/mod/sumdb/note; the specification asks for 16.
pub const MAX_SIGNATURES: usize = 100;

/// A longer note is refused.
const MAX_NOTE: usize = 256 * 1024;

/// The longest name of a log. Witnesses and policies stumble over longer ones.
pub const MAX_NAME: usize = 200;

/// What begins the line of a signature: an em dash and a space.
pub const DASH: &str = "\u{2014} ";

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

/// Whether a log may be called that: by a key's name that isn't too long, and without the sign that
/// begins a comment for readers of policies.
pub fn is_log_name(name: &str) -> bool {
    name.len() <= MAX_NAME && is_name(name) && !name.contains('#')
}

/// Base64 as it must be written: padded, and nothing in the bits that padding leaves over.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// The id of a key: the first four bytes of `SHA-256(name || 0x0A || type || public key)`.
fn key_id(name: &str, kind: u8, key: &PublicKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update([b'\n', kind]);
    hasher.update(key);
    let [a, b, c, d, ..] = Hash::from(hasher.finalize());
    [a, b, c, d]
}

/// A public key of some type, with its name. Displays as
/// `<name>+<8 hex digits of its id>+<base64 of the type and the key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey<const TYPE: u8> {
    name: String,
    id: [u8; 4],
    key: PublicKey,
}

impl<const TYPE: u8> NamedKey<TYPE> {
    /// Reads its text.
    pub fn parse(text: &str) -> Result<Self, String> {
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
        let Some((_, key)) = bytes.split_first().filter(|(kind, _)| **kind == TYPE) else {
            return Err(wrong(&format!("isn't of type {TYPE}, Ed25519")));
        };
        let key = key
            .try_into()
            .map_err(|_| wrong("isn't an Ed25519 key of 32 bytes"))?;
        if is_weak(&key) {
            return Err(wrong("is one that fits signatures of nobody"));
        }
        let named = NamedKey::new(name, key);
        if hex(named.id) != id {
            return Err(wrong("has an id that doesn't belong to its name and key"));
        }
        Ok(named)
    }

    fn new(name: &str, key: PublicKey) -> Self {
        let id = key_id(name, TYPE, &key);
        let name = name.to_owned();
        NamedKey { name, id, key }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether this is its name and its id.
    pub fn is(&self, name: &str, id: [u8; 4]) -> bool {
        self.id == id && self.name == name
    }

    /// The key without its name.
    pub fn bytes(&self) -> &PublicKey {
        &self.key
    }

    /// The signature in a note that claims to be by this key, if there is one. Of several the first
    /// counts.
    pub fn signature_in<'n>(&self, note: &'n Note<'_>) -> Option<&'n [u8]> {
        let own = |signature: &&Signature<'_>| self.is(signature.name, signature.id);
        let found = note.signatures.iter().find(own)?;
        Some(&found.bytes)
    }

    /// Whether it has signed that.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(message, signature)
            .map_err(|_| NoteError::Forged)
    }
}

impl<const TYPE: u8> fmt::Display for NamedKey<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![TYPE];
        bytes.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, hex(self.id), BASE64.encode(bytes))
    }
}

/// The public key of a log. Its name is the log's origin.
pub type Verifier = NamedKey<TYPE>;

impl Verifier {
    /// The text of a note that this key has signed. Signatures by others are ignored.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let note = Note::parse(note)?;
        self.verify(&note)?;
        Ok(note.text)
    }

    /// Whether this key has signed a note.
    pub fn verify(&self, note: &Note<'_>) -> Result<(), NoteError> {
        let signature = self.signature_in(note).ok_or(NoteError::Unsigned)?;
        if signature.len() != SIGNATURE {
            return Err(NoteError::Malformed);
        }
        self.has_signed(note.text.as_bytes(), signature)
    }
}

fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// A private key with its name, wiped when it goes.
pub struct Signer {
    verifier: Verifier,
    key: Wiped<PrivateKey>,
}

/// What is to be kept secret.
struct PrivateKey {
    seed: [u8; 32],
    /// Grown from the seed.
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The key that grows from 32 random bytes.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Signer, String> {
        if !is_log_name(name) {
            let begin: String = name.chars().take(MAX_NAME).collect();
            return Err(format!(
                "a log can't be called {begin:?}; right is a name of at most {MAX_NAME} bytes without \
                 white space, \"+\" and \"#\""
            ));
        }
        let unusable = || "the private key can't be used".to_owned();
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| unusable())?;
        let public = pair.public_key().as_ref().try_into();
        let verifier = Verifier::new(name, public.map_err(|_| unusable())?);
        let key = Wiped::new(PrivateKey { seed: *seed, pair });
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
        let Some((&TYPE, seed)) = bytes.split_first() else {
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
        let mut bytes = Zeroizing::new([TYPE; 33]);
        bytes[1..].copy_from_slice(&self.key.seed);
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
        bytes.extend_from_slice(&self.sign_bytes(text.as_bytes()));
        format!(
            "{text}\n{DASH}{} {}\n",
            self.verifier.name,
            BASE64.encode(bytes)
        )
    }

    /// The signature alone, over bytes that can't be taken for a note's text.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.pair.sign(bytes).as_ref().to_vec()
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
    /// It has more signatures than are read.
    TooMany,
    /// None of its signatures claims to be by the key.
    Unsigned,
    /// A signature that claims to be by the key isn't.
    Forged,
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoteError::Malformed => f.write_str("isn't a signed note"),
            NoteError::TooMany => write!(f, "has more than {MAX_SIGNATURES} signatures"),
            NoteError::Unsigned => f.write_str("isn't signed by the log's key"),
            NoteError::Forged => f.write_str("has a signature that doesn't fit its text"),
        }
    }
}

/// A note: a text, and who claims to have signed it.
#[derive(Debug)]
pub struct Note<'n> {
    /// Its last line feed included.
    pub text: &'n str,
    signatures: Vec<Signature<'n>>,
}

/// A line of a signature: the key's name, its id, and what follows.
#[derive(Debug)]
struct Signature<'n> {
    name: &'n str,
    id: [u8; 4],
    bytes: Vec<u8>,
    line: &'n str,
}

impl<'n> Note<'n> {
    /// Reads one.
    pub fn parse(note: &'n str) -> Result<Note<'n>, NoteError> {
        let control = |c: char| c < ' ' && c != '\n';
        if note.len() > MAX_NOTE || note.contains(control) || !note.ends_with('\n') {
            return Err(NoteError::Malformed);
        }
        // The last empty line, because the text may hold others.
        let empty = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, lines) = (&note[..=empty], &note[empty + 2..]);
        let mut signatures = Vec::new();
        for line in lines.split_terminator('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooMany);
            }
            signatures.push(Signature::parse(line).ok_or(NoteError::Malformed)?);
        }
        if signatures.is_empty() {
            return Err(NoteError::Malformed);
        }
        Ok(Note { text, signatures })
    }

    /// The note with its signatures and those of another note with this text, one of each key: the
    /// other's, if both have one.
    pub fn joined(&self, other: &Note<'_>) -> String {
        let mut joined = format!("{}\n", self.text);
        let mut written: Vec<(&str, [u8; 4])> = Vec::new();
        for signature in &self.signatures {
            let key = (signature.name, signature.id);
            if written.contains(&key) {
                continue;
            }
            let by_key = |other: &&Signature<'_>| (other.name, other.id) == key;
            let newer = other.signatures.iter().find(by_key);
            joined.push_str(newer.map_or(signature.line, |newer| newer.line));
            joined.push('\n');
            written.push(key);
        }
        for signature in &other.signatures {
            let key = (signature.name, signature.id);
            if !written.contains(&key) {
                joined.push_str(signature.line);
                joined.push('\n');
                written.push(key);
            }
        }
        joined
    }

    /// How many signatures it has.
    pub fn count(&self) -> usize {
        self.signatures.len()
    }

    /// The note with the signatures of some keys only, by name and id.
    pub fn only(&self, is_wanted: impl Fn(&str, [u8; 4]) -> bool) -> String {
        let wanted = self
            .signatures
            .iter()
            .filter(|signature| is_wanted(signature.name, signature.id));
        let lines = wanted.flat_map(|signature| [signature.line, "\n"]);
        let mut note = format!("{}\n", self.text);
        note.extend(lines);
        note
    }
}

impl<'n> Signature<'n> {
    fn parse(line: &'n str) -> Option<Signature<'n>> {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = decode(bytes)?;
        let (id, rest) = bytes.split_first_chunk::<4>()?;
        let whole = is_name(name) && !rest.is_empty();
        whole.then(|| Signature {
            name,
            id: *id,
            bytes: rest.to_vec(),
            line,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn signer() -> Signer {
        Signer::from_seed("audit.example/llm", &SEED).unwrap()
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
        let bytes = signer.verifier.key;
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

    /// A public key's text, whatever key it is.
    fn public_text(key: PublicKey) -> String {
        Verifier::new("a", key).to_string()
    }

    /// A note whose signature has a point that everybody knows, and the number 0.
    fn signed_by_nobody(verifier: &Verifier, text: &str) -> String {
        let mut bytes = verifier.id.to_vec();
        bytes.extend_from_slice(&little_endian(1, 0, 0));
        bytes.extend_from_slice(&[0; 32]);
        format!("{text}\n{DASH}a {}\n", BASE64.encode(bytes))
    }

    #[test]
    fn keys_that_fit_signatures_of_nobody_are_refused() {
        for key in WEAK_KEYS {
            for sign in [0, 0x80] {
                let mut key = key;
                key[31] |= sign;
                assert!(Verifier::parse(&public_text(key)).is_err(), "{key:x?}");
                let verifier = Verifier::new("a", key);
                let believed = (0..200).any(|number| {
                    let note = signed_by_nobody(&verifier, &format!("{number}\n"));
                    verifier.open(&note).is_ok()
                });
                assert!(believed, "{key:x?}");
            }
        }
    }

    #[test]
    fn a_signature_counts_in_one_form_only() {
        let signer = signer();
        let note = signer.sign("text\n");
        let (text, signature) = note.trim_end().rsplit_once(' ').unwrap();
        let mut bytes = decode(signature).unwrap();
        let as_signed = |bytes: &[u8]| format!("{text} {}\n", BASE64.encode(bytes));
        assert!(signer.verifier.open(&as_signed(&bytes)).is_ok());
        for bytes in [&bytes[..67], &[&bytes[..], &[0]].concat()] {
            let note = as_signed(bytes);
            assert_eq!(signer.verifier.open(&note), Err(NoteError::Malformed));
        }
        // The same number plus the order of the group: equal to it for who doesn't look.
        let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
        let mut carry = 0;
        for at in 0..32 {
            let digit = u16::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap();
            let sum = u16::from(bytes[36 + at]) + digit + carry;
            bytes[36 + at] = sum as u8;
            carry = sum >> 8;
        }
        let note = as_signed(&bytes);
        assert_eq!(signer.verifier.open(&note), Err(NoteError::Forged));
    }

    #[test]
    fn no_debug_text_and_no_error_shows_a_private_key() {
        let signer = signer();
        let text = signer.text();
        let secret = text.trim_end().splitn(5, '+').nth(4).unwrap();
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

    /// A note of the signer's with some more signatures, by other keys.
    fn note_with(others: u8) -> String {
        let mut note = signer().sign("text\n");
        for number in 0..others {
            let other = Signer::from_seed(&format!("other{number}"), &[number; 32]).unwrap();
            let signed = other.sign("text\n");
            note.push_str(&signed["text\n\n".len()..]);
        }
        note
    }

    #[test]
    fn a_hundred_signatures_are_read_and_one_more_refused_by_a_name_of_its_own() {
        let verifier = signer().verifier.clone();
        let note = note_with(99);
        assert_eq!(verifier.open(&note), Ok("text\n"));
        let more = note_with(100);
        assert_eq!(verifier.open(&more), Err(NoteError::TooMany));
        let stranger = Signer::from_seed("stranger", &SEED).unwrap();
        assert_eq!(stranger.verifier.open(&note), Err(NoteError::Unsigned));
    }

    #[test]
    fn of_several_lines_of_a_key_the_first_counts_and_joining_keeps_one() {
        let signer = signer();
        let note = signer.sign("text\n");
        let line = &note["text\n\n".len()..];
        let twice = format!("{note}{line}");
        assert_eq!(signer.verifier.open(&twice), Ok("text\n"));
        let mut other = line.trim_end().to_owned();
        let last = other.pop().map(|_| "AAAA=");
        other.truncate(other.len() - 4);
        let bad = format!("{other}{}\n", last.unwrap());
        assert_eq!(signer.verifier.open(&format!("{note}{bad}")), Ok("text\n"));
        assert_eq!(
            signer.verifier.open(&format!("text\n\n{bad}{line}")),
            Err(NoteError::Forged)
        );
        let (twice, more) = (Note::parse(&twice).unwrap(), note_with(2));
        let joined = twice.joined(&Note::parse(&more).unwrap());
        assert_eq!(joined, more);
    }

    #[test]
    fn logs_have_names_that_witnesses_and_policies_read() {
        let longest = "n".repeat(MAX_NAME);
        assert!(Signer::from_seed(&longest, &SEED).is_ok());
        for name in [format!("{longest}n"), "audit#1".into(), "n".repeat(5000)] {
            let refused = Signer::from_seed(&name, &SEED).unwrap_err();
            assert!(refused.contains("at most 200 bytes"), "{refused}");
            assert!(refused.len() < 400, "{refused}");
        }
    }
}
