//! COSE receipts: the proof of one entry as RFC 9942 has it, for who reads those (SCITT, RFC 9943).
//!
//! A receipt is a COSE_Sign1 (RFC 9052) over the tree's root, which isn't in it: who checks it computes the
//! root from the entry and the path. The tree hashes as RFC 9162 does, so the path is that of a tlog-proof.
//! Its items are CBOR (RFC 8949) in the deterministic encoding.

use audit_logger::tool::note::Signer;
use audit_logger::tool::prove::Proved;

// The major types of CBOR that a receipt has.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The payload that isn't there.
const NULL: u8 = 0xf6;

// Of COSE's and CWT's registries.
const COSE_SIGN1: u64 = 18;
const ALGORITHM: u64 = 1;
const KEY_ID: u64 = 4;
const CLAIMS: u64 = 15;
const ISSUER: u64 = 1;
const SUBJECT: u64 = 2;
/// verifiable-data-structure, of which 1 is RFC9162_SHA256.
const STRUCTURE: u64 = 395;
const RFC9162_SHA256: u64 = 1;
/// verifiable-data-proofs.
const PROOFS: u64 = 396;

/// A negative number is written as what is below -1: EdDSA is -8.
const EDDSA: u64 = 7;
/// Inclusion proofs are -1.
const INCLUSION: u64 = 0;

/// The beginning of an item: its type, and its value or length in the shortest form.
fn head(major: u8, value: u64, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let (low, length) = match value {
        0..=23 => (value as u8, 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | low);
    out.extend_from_slice(&bytes[8 - length..]);
}

/// An item of bytes or text.
fn string(major: u8, bytes: &[u8], out: &mut Vec<u8>) {
    head(major, bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// What is signed beside the root: algorithm, key, issuer (the log), subject (the entry), kind of tree.
fn protected(signer: &Signer, id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    head(MAP, 4, &mut out);
    head(UNSIGNED, ALGORITHM, &mut out);
    head(NEGATIVE, EDDSA, &mut out);
    head(UNSIGNED, KEY_ID, &mut out);
    string(BYTES, &signer.verifier().id(), &mut out);
    head(UNSIGNED, CLAIMS, &mut out);
    head(MAP, 2, &mut out);
    head(UNSIGNED, ISSUER, &mut out);
    string(TEXT, signer.verifier().name().as_bytes(), &mut out);
    head(UNSIGNED, SUBJECT, &mut out);
    string(TEXT, id.as_bytes(), &mut out);
    head(UNSIGNED, STRUCTURE, &mut out);
    head(UNSIGNED, RFC9162_SHA256, &mut out);
    out
}

/// Size, index and path. They aren't signed.
fn inclusion(proved: &Proved) -> Vec<u8> {
    let mut out = Vec::new();
    head(ARRAY, 3, &mut out);
    head(UNSIGNED, proved.checkpoint.size, &mut out);
    head(UNSIGNED, proved.index, &mut out);
    head(ARRAY, proved.hashes.len() as u64, &mut out);
    for hash in &proved.hashes {
        string(BYTES, hash, &mut out);
    }
    out
}

/// What the signature is over (RFC 9052, section 4.4). No checkpoint's text begins so: it isn't UTF-8.
fn to_be_signed(protected: &[u8], root: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    head(ARRAY, 4, &mut out);
    string(TEXT, b"Signature1", &mut out);
    string(BYTES, protected, &mut out);
    // No data from outside.
    string(BYTES, b"", &mut out);
    string(BYTES, root, &mut out);
    out
}

/// The receipt of the entry with that id.
pub fn receipt(proved: &Proved, id: &str, signer: &Signer) -> Vec<u8> {
    let protected = protected(signer, id);
    let signature = signer.sign_bytes(&to_be_signed(&protected, &proved.checkpoint.root));
    let mut out = Vec::new();
    head(TAG, COSE_SIGN1, &mut out);
    head(ARRAY, 4, &mut out);
    string(BYTES, &protected, &mut out);
    head(MAP, 1, &mut out);
    head(UNSIGNED, PROOFS, &mut out);
    head(MAP, 1, &mut out);
    head(NEGATIVE, INCLUSION, &mut out);
    head(ARRAY, 1, &mut out);
    string(BYTES, &inclusion(proved), &mut out);
    out.push(NULL);
    string(BYTES, &signature, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8949, appendix A.
    #[test]
    fn numbers_are_encoded_as_the_rfc_s_examples() {
        let examples: [(u8, u64, &[u8]); 11] = [
            (UNSIGNED, 0, &[0x00]),
            (UNSIGNED, 23, &[0x17]),
            (UNSIGNED, 24, &[0x18, 0x18]),
            (UNSIGNED, 100, &[0x18, 0x64]),
            (UNSIGNED, 1000, &[0x19, 0x03, 0xe8]),
            (UNSIGNED, 1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (
                UNSIGNED,
                1_000_000_000_000,
                &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00],
            ),
            (NEGATIVE, 0, &[0x20]),
            (NEGATIVE, 9, &[0x29]),
            (NEGATIVE, 99, &[0x38, 0x63]),
            (ARRAY, 0, &[0x80]),
        ];
        for (major, value, bytes) in examples {
            let mut out = Vec::new();
            head(major, value, &mut out);
            assert_eq!(out, bytes);
        }
    }
}
