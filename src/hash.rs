//! Hashes: of content, which the log shows in its place, and of the library's own records.

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::sys::SecretBytes;

/// The SHA-256 of a record of the library's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// `SHA256(record)`.
    pub fn of(record: &[u8]) -> Digest {
        Digest(Sha256::digest(record).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(digest: [u8; 32]) -> Digest {
        Digest(digest)
    }
}

/// What the log shows in place of a content: 64 lower-case hexadecimal digits. [`Hashing`] alone
/// makes them, so that the log's key can't be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHash(Digest);

impl ContentHash {
    /// Appends the 64 digits.
    pub fn write_hex(&self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        out.extend_from_slice(&hex);
    }
}

/// How a log hashes content: by SHA-256, or by HMAC-SHA256 (RFC 2104) with a key.
#[derive(Clone, Default)]
pub struct Hashing(Option<Arc<Key>>);

struct Key {
    bytes: SecretBytes,
    id: String,
}

const KEY_LEN: usize = 32;

impl Hashing {
    /// By HMAC-SHA256. The key is written as 64 hexadecimal digits.
    pub fn keyed(digits: &[u8]) -> Result<Hashing, &'static str> {
        /// What is hashed with the key to name it.
        const ID_OF: &[u8] = b"audit_logger hash key id";
        const ID_DIGITS: usize = 16;
        let key = decoded(digits)
            .ok_or("must hold 64 hexadecimal digits, as `openssl rand -hex 32` prints them")?;
        let bytes = SecretBytes::copy_of(key.as_slice())
            .map_err(|_| "can't be kept: there's no memory for its key")?;
        let mut id = Hasher::keyed(&bytes);
        id.update(ID_OF);
        let mut id = id.finish().to_string();
        id.truncate(ID_DIGITS);
        Ok(Hashing(Some(Arc::new(Key { bytes, id }))))
    }

    /// Names the key, if there is one, and says nothing else of it.
    pub fn key_id(&self) -> Option<&str> {
        self.0.as_ref().map(|key| key.id.as_str())
    }

    /// The hash of a content.
    pub fn of(&self, content: &[u8]) -> ContentHash {
        let mut hasher = self.hasher();
        hasher.update(content);
        hasher.finish()
    }

    /// For content that comes in pieces.
    pub fn hasher(&self) -> Hasher {
        match &self.0 {
            None => Hasher::Plain(Sha256::new()),
            Some(key) => Hasher::keyed(&key.bytes),
        }
    }
}

/// `None` if they aren't the digits of a key.
fn decoded(digits: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    if digits.len() != 2 * KEY_LEN {
        return None;
    }
    let value = |digit| char::from(digit).to_digit(16);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
    }
    Some(key)
}

/// The hash of a content that comes in pieces.
pub enum Hasher {
    /// SHA-256.
    Plain(Sha256),
    /// HMAC-SHA256.
    Keyed(Hmac<Sha256>),
}

impl Hasher {
    /// Made from the key each time: a state kept ready would be as good as the key, and would stand
    /// where core dumps hold it.
    fn keyed(key: &SecretBytes) -> Hasher {
        // A key shorter than a block is one with zeros behind it.
        let mut block = Zeroizing::new([0; 64]);
        block[..KEY_LEN].copy_from_slice(key.as_bytes());
        Hasher::Keyed(Hmac::new((&*block).into()))
    }

    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        match self {
            Hasher::Plain(sha256) => sha256.update(piece),
            Hasher::Keyed(hmac) => hmac.update(piece),
        }
    }

    /// The hash of all pieces.
    pub fn finish(self) -> ContentHash {
        ContentHash(Digest(match self {
            Hasher::Plain(sha256) => sha256.finalize().into(),
            Hasher::Keyed(hmac) => hmac.finalize().into_bytes().into(),
        }))
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hashing").field(&self.key_id()).finish()
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the one-block and two-block examples, and the empty message.
    #[test]
    fn hashes_without_a_key_match_the_published_vectors() {
        for (content, hex) in [
            (
                "",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            let hash = Hashing::default().of(content.as_bytes());
            let mut written = Vec::new();
            hash.write_hex(&mut written);
            assert_eq!(hash.to_string(), hex);
            assert_eq!(written, hex.as_bytes());
            assert_eq!(Digest::of(content.as_bytes()).to_string(), hex);
        }
    }

    /// RFC 4231, the cases whose key isn't longer than ours: zeros behind a key don't change it.
    #[test]
    fn hashes_with_a_key_match_the_published_vectors() {
        for (key, content, hex) in [
            (
                "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
                b"Hi There".as_slice(),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                "4a656665",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                &[0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                "0102030405060708090a0b0c0d0e0f10111213141516171819",
                &[0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            ),
        ] {
            let hashing = Hashing::keyed(format!("{key:0<64}").as_bytes()).unwrap();
            assert_eq!(hashing.of(content).to_string(), hex);
            let mut hasher = hashing.hasher();
            content.chunks(7).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish().to_string(), hex, "in pieces");
        }
    }

    #[test]
    fn a_key_is_64_digits_and_its_debug_text_doesn_t_show_it() {
        let digits = "0123456789abcdefABCDEF0123456789".repeat(2);
        let hashing = Hashing::keyed(digits.as_bytes()).unwrap();
        let shown = format!("{hashing:?}");
        assert_eq!(
            shown,
            format!("Hashing(Some({:?}))", hashing.key_id().unwrap())
        );
        for wrong in [
            "",
            &digits[1..],
            &format!("{digits}0"),
            &digits.replace('a', "g"),
        ] {
            assert!(Hashing::keyed(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
