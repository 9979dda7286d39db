//! The newest entries of the tree, while their tiles may not be on the disk yet: `.integrity/recent`.
//!
//! It is one frame after another: the index of the frame's first entry (8 bytes, little-endian), the
//! length of its entries in bytes (4 bytes, little-endian), 16 bytes of the SHA-256 of both and of the
//! entries, and the entries, as in a tile of entries. A frame begins with the index that the one before
//! it ends with. A torn or wrong one ends it. Nothing in it is believed: entries count if they lead to a
//! root that is signed.

use sha2::{Digest as _, Sha256};

use super::tiles::entries;

/// Readers take no more of the file than this, so whoever writes it settles its tiles before.
pub const MOST: usize = 16 << 20;

/// What stands before the entries of a frame.
pub const HEAD: usize = 8 + 4 + DIGEST;

/// How much of a frame's SHA-256 stands in it.
const DIGEST: usize = 16;

/// Some entries that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'b> {
    /// The index of the first.
    pub first: u64,
    /// How many there are.
    pub count: u64,
    /// Their bytes, as in a tile of entries.
    pub entries: &'b [u8],
}

impl Frame<'_> {
    /// The index behind the last.
    pub fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// What stands before the entries of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The index of the first entry.
    pub first: u64,
    /// How many bytes the entries take.
    pub length: usize,
    digest: [u8; DIGEST],
}

impl Head {
    /// Reads one; `None` if the frame would be longer than any.
    pub fn parse(bytes: &[u8; HEAD]) -> Option<Head> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let (length, digest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        (length <= MOST - HEAD).then_some(Head {
            first: u64::from_le_bytes(*first),
            length,
            digest: digest.try_into().ok()?,
        })
    }

    /// How many entries there are, if these are they.
    pub fn count(&self, payload: &[u8]) -> Option<u64> {
        let length = u32::try_from(payload.len()).ok()?;
        let (mut count, mut whole) = (0, 0);
        for entry in entries(payload) {
            count += 1;
            whole += 2 + entry.len();
        }
        let sound = count > 0
            && payload.len() == self.length
            && whole == payload.len()
            && self.first.checked_add(count).is_some()
            && digest(self.first, length, payload)[..DIGEST] == self.digest;
        sound.then_some(count)
    }
}

fn digest(first: u64, length: u32, entries: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(first.to_le_bytes())
        .chain_update(length.to_le_bytes())
        .chain_update(entries)
        .finalize()
        .into()
}

/// A frame of entries that stand in tile form; `None` if they are too many for one.
pub fn encode(first: u64, entries: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(entries.len()).ok();
    let length = length.filter(|length| *length as usize <= MOST - HEAD)?;
    let mut frame = Vec::with_capacity(HEAD + entries.len());
    frame.extend_from_slice(&first.to_le_bytes());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&digest(first, length, entries)[..DIGEST]);
    frame.extend_from_slice(entries);
    Some(frame)
}

/// The frame at the head of some bytes, and what stands behind it.
fn split(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let head = Head::parse(head)?;
    let (payload, rest) = rest.split_at_checked(head.length)?;
    let frame = Frame {
        first: head.first,
        count: head.count(payload)?,
        entries: payload,
    };
    Some((frame, rest))
}

/// The frames of a file, up to the first that is torn, wrong, or doesn't follow the one before it.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = bytes;
    let mut next = None;
    std::iter::from_fn(move || {
        let (frame, after) = split(rest)?;
        if next.is_some_and(|next| next != frame.first) {
            return None;
        }
        (rest, next) = (after, Some(frame.end()));
        Some(frame)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(entries: &[&[u8]]) -> Vec<u8> {
        let whole = |entry: &&[u8]| [&(entry.len() as u16).to_be_bytes(), *entry].concat();
        entries.iter().flat_map(whole).collect()
    }

    /// Two frames, of two entries and of one, from index 5 on.
    fn two() -> Vec<u8> {
        let first = encode(5, &tile(&[&[1; 32], b"{}"])).unwrap();
        let second = encode(7, &tile(&[&[2; 32]])).unwrap();
        [first, second].concat()
    }

    #[test]
    fn frames_read_back_in_their_order() {
        let bytes = two();
        let read: Vec<_> = frames(&bytes)
            .map(|f| (f.first, f.count, f.end()))
            .collect();
        assert_eq!(read, [(5, 2, 7), (7, 1, 8)]);
        let read: Vec<_> = frames(&bytes).flat_map(|f| entries(f.entries)).collect();
        assert_eq!(read, [&[1; 32][..], b"{}", &[2; 32]]);
        assert_eq!(frames(b"").count(), 0);
    }

    #[test]
    fn a_torn_or_changed_frame_ends_it_wherever_it_is_torn_or_changed() {
        let bytes = two();
        let first = HEAD + 34 + 4;
        for cut in 0..bytes.len() {
            let whole = usize::from(cut >= first);
            assert_eq!(frames(&bytes[..cut]).count(), whole, "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let whole = usize::from(at >= first);
            assert_eq!(frames(&bytes).count(), whole, "{at}");
        }
    }

    #[test]
    fn frames_follow_each_other_or_end_it() {
        let further = encode(9, &tile(&[b"x"])).unwrap();
        assert_eq!(frames(&[two(), further].concat()).count(), 2);
        // Nor is one whose entries aren't whole, or that has none.
        for entries in [&b""[..], b"\x00\x05abc", b"\x00\x01ab"] {
            assert_eq!(frames(&encode(0, entries).unwrap()).count(), 0);
        }
        let last = encode(u64::MAX, &tile(&[b"x"])).unwrap();
        assert_eq!(frames(&last).count(), 0);
    }
}
