//! Cosignatures: what a witness says of a checkpoint, after C2SP tlog-cosignature v1.0.1, with Ed25519
//! keys (type 0x04).
//!
//! The line of a cosignature in a note is as any other; behind the key's id stand the time, in seconds
//! since 1970 (eight bytes, big-endian), and the signature over this text:
//!
//! ```text
//! cosignature/v1
//! time 1679315147
//! <the text of the checkpoint>
//! ```

use super::note::{NamedKey, Note, NoteError};

/// The type of the keys.
const TYPE: u8 = 0x04;

/// Behind the time.
const SIGNATURE: usize = 64;

/// The public key of a witness.
pub type Cosigner = NamedKey<TYPE>;

impl Cosigner {
    /// When this witness says that it saw the checkpoint in a note, in seconds since 1970; `None` if it
    /// says nothing.
    pub fn cosigned_at(&self, note: &Note<'_>) -> Result<Option<u64>, NoteError> {
        let Some(bytes) = self.signature_in(note) else {
            return Ok(None);
        };
        let time = bytes.split_first_chunk::<8>();
        let (time, signature) = time.ok_or(NoteError::Malformed)?;
        let time = u64::from_be_bytes(*time);
        // No time, or one that the specification doesn't allow.
        if signature.len() != SIGNATURE || time == 0 || i64::try_from(time).is_err() {
            return Err(NoteError::Malformed);
        }
        self.has_signed(&message(time, note.text), signature)?;
        Ok(Some(time))
    }
}

/// What is signed.
fn message(time: u64, checkpoint: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{checkpoint}").into_bytes()
}

#[cfg(test)]
pub mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use sha2::{Digest as _, Sha256};

    use super::super::note::{DASH, Signer};
    use super::*;

    /// A witness of the tests: its public key's text, and the line by which it cosigns at a time.
    pub struct Witness {
        name: String,
        pair: Ed25519KeyPair,
    }

    impl Witness {
        pub fn new(name: &str, seed: u8) -> Witness {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let name = name.to_owned();
            Witness { name, pair }
        }

        fn key(&self) -> Vec<u8> {
            [&[TYPE], self.pair.public_key().as_ref()].concat()
        }

        fn id(&self) -> Vec<u8> {
            let named = [self.name.as_bytes(), b"\n", &self.key()].concat();
            Sha256::digest(named)[..4].to_vec()
        }

        pub fn vkey(&self) -> String {
            let id: String = self.id().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}+{id}+{}", self.name, BASE64.encode(self.key()))
        }

        pub fn line(&self, text: &str, time: u64) -> String {
            let signature = self.pair.sign(&message(time, text));
            let bytes = [&self.id(), &time.to_be_bytes()[..], signature.as_ref()].concat();
            format!("{DASH}{} {}\n", self.name, BASE64.encode(bytes))
        }
    }

    #[test]
    fn a_cosignature_says_when_and_every_changed_bit_of_it_or_its_text_refuses_it() {
        let log = Signer::from_seed("audit.example/llm", &[7; 32]).unwrap();
        let witness = Witness::new("witness.example/w1", 9);
        let cosigner = Cosigner::parse(&witness.vkey()).unwrap();
        assert_eq!(cosigner.to_string(), witness.vkey());
        let text = "audit.example/llm\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        let signed = log.sign(text);
        let at = |note: &str| cosigner.cosigned_at(&Note::parse(note).unwrap());
        assert_eq!(at(&signed), Ok(None));
        let note = format!("{signed}{}", witness.line(text, 1_700_000_000));
        assert_eq!(at(&note), Ok(Some(1_700_000_000)));
        assert_eq!(log.verifier().open(&note), Ok(text));
        let other = note.replacen("\n1\n", "\n2\n", 1);
        assert_eq!(at(&other), Err(NoteError::Forged));
        let start = note.rfind(' ').unwrap() + 1;
        let bytes = BASE64.decode(note[start..].trim_end()).unwrap();
        for bit in 8 * 4..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = format!("{}{}\n", &note[..start], BASE64.encode(bytes));
            assert!(at(&changed).is_err(), "{bit}");
        }
        for time in [0, 1 << 63, u64::MAX] {
            let note = format!("{signed}{}", witness.line(text, time));
            assert_eq!(at(&note), Err(NoteError::Malformed), "{time}");
        }
        // The log's own type of key isn't a witness's, and the other way round.
        assert!(Cosigner::parse(&log.verifier().to_string()).is_err());
        assert!(super::super::note::Verifier::parse(&witness.vkey()).is_err());
    }
}
