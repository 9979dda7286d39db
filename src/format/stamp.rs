//! Time stamps: a checkpoint, and what somebody said of it, in a file of `.integrity/timestamps` that never changes.
//!
//! ```text
//! <the checkpoint, a signed note, as it was stamped>
//!
//! -----BEGIN CMS-----
//! <base64 of the token, in lines of 64>
//! -----END CMS-----
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checkpoint::{claimed_size, parse_size};
use crate::hash::Digest;

/// No token is longer, in bytes: they have about 6 KB.
pub const LONGEST_TOKEN: usize = 64 * 1024;

/// Nor is a file: a note, and a token as text.
pub const LONGEST_FILE: u64 = 4 * LONGEST_TOKEN as u64;

/// What a token stands between (RFC 7468, section 9).
const TOKEN: &str = "CMS";

/// A checkpoint, and what somebody said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The checkpoint, to the byte.
    pub note: String,
    /// The token, in DER.
    pub token: Vec<u8>,
}

/// A note and some bytes, as a text.
pub fn joined(note: &str, label: &str, bytes: &[u8]) -> String {
    let mut text = format!("{note}\n-----BEGIN {label}-----\n");
    for line in BASE64.encode(bytes).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Takes them apart again. What would be written otherwise isn't one.
pub fn parted(text: &str, label: &str) -> Option<(String, Vec<u8>)> {
    let (note, rest) = text.split_once(&format!("\n\n-----BEGIN {label}-----\n"))?;
    let lines = rest.strip_suffix(&format!("-----END {label}-----\n"))?;
    let bytes = BASE64.decode(lines.replace('\n', "")).ok()?;
    let note = format!("{note}\n");
    (joined(&note, label, &bytes) == text).then_some((note, bytes))
}

/// 16 digits of a hash.
pub fn short(bytes: &[u8]) -> String {
    let mut digits = Digest::of(bytes).to_string();
    digits.truncate(16);
    digits
}

/// The size in a name of a time stamp.
pub fn size_in(name: &str) -> Option<u64> {
    let (size, rest) = name.split_once('-')?;
    let is_hash = rest.len() == 16 && rest.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    parse_size(size).filter(|_| is_hash)
}

impl Stamp {
    /// What a file of time stamps holds.
    pub fn parse(text: &[u8]) -> Result<Stamp, String> {
        let text = std::str::from_utf8(text).ok();
        let (note, token) = text
            .and_then(|text| parted(text, TOKEN))
            .ok_or("isn't a checkpoint and a token as they are kept")?;
        Ok(Stamp { note, token })
    }

    /// The file's text.
    pub fn text(&self) -> String {
        joined(&self.note, TOKEN, &self.token)
    }

    /// The size that its checkpoint claims.
    pub fn size(&self) -> Option<u64> {
        claimed_size(&self.note)
    }

    /// The file's name, which says the size and tells tokens apart.
    pub fn name(&self) -> Option<String> {
        Some(format!("{}-{}", self.size()?, short(&self.token)))
    }
}
