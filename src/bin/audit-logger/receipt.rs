//! COSE receipts: the proof of one entry as RFC 9942 has it, for who reads those (SCITT, RFC 9943).
//!
//! A receipt is a COSE_Sign1 (RFC 9052) over the tree's root, which isn't in it: who checks it computes the
//! root from the entry and the path. The tree hashes as RFC 9162 does, so the path is that of a tlog-proof.

use audit_logger::tool::note::{Signer, Verifier};
use audit_logger::tool::prove::{Proved, root_from};
use coset::cbor::Value;
use coset::cwt::{ClaimsSet, ClaimsSetBuilder};
use coset::{
    AsCborValue, CborSerializable, CoseError, CoseSign1, CoseSign1Builder, Header, HeaderBuilder,
    Label, RegisteredLabelWithPrivate, TaggedCborSerializable, iana,
};

/// What a receipt begins with, and no text: the tag of a COSE_Sign1, in its shortest form.
pub const FIRST_BYTE: u8 = 0xd2;

// Of COSE's registries.
const CLAIMS: i64 = 15;
/// verifiable-data-structure, of which 1 is RFC9162_SHA256.
const STRUCTURE: i64 = 395;
const RFC9162_SHA256: u8 = 1;
/// verifiable-data-proofs, of which -1 are inclusion proofs.
const PROOFS: i64 = 396;
const INCLUSION: i8 = -1;

/// The receipt of the entry with that id, in the deterministic encoding. Signed are algorithm, key, issuer (the
/// log), subject (the entry), kind of tree, and the root.
pub fn receipt(proved: &Proved, id: &str, signer: &Signer) -> Result<Vec<u8>, CoseError> {
    let log = signer.verifier();
    let claims = ClaimsSetBuilder::new();
    let claims = claims.issuer(log.name().to_owned()).subject(id.to_owned());
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(log.id().to_vec())
        .value(CLAIMS, claims.build().to_cbor_value()?)
        .value(STRUCTURE, RFC9162_SHA256.into());
    let path = proved.hashes.iter().map(|hash| Value::Bytes(hash.to_vec()));
    let inclusion = Value::Array(Vec::from([
        proved.checkpoint.size.into(),
        proved.index.into(),
        Value::Array(path.collect()),
    ]));
    let proofs = Value::Array(Vec::from([Value::Bytes(inclusion.to_vec()?)]));
    let proofs = Value::Map(Vec::from([(INCLUSION.into(), proofs)]));
    CoseSign1Builder::new()
        .protected(protected.build())
        .unprotected(HeaderBuilder::new().value(PROOFS, proofs).build())
        .create_detached_signature(&proved.checkpoint.root, b"", |bytes| {
            signer.sign_bytes(bytes)
        })
        .build()
        .to_tagged_vec()
}

/// Checks that a line is an entry of the log with that key. Returns the entry's id, if the receipt names one.
pub fn check(line: &[u8], receipt: &[u8], log: &Verifier) -> Result<Option<String>, String> {
    let signed = CoseSign1::from_tagged_slice(receipt)
        .map_err(|error| format!("the receipt isn't a COSE_Sign1: {error}"))?;
    // What is read as nothing could be written otherwise.
    if signed.clone().to_tagged_vec().ok().as_deref() != Some(receipt) {
        return Err("the receipt isn't in the deterministic encoding of CBOR".to_owned());
    }
    let protected = &signed.protected.header;
    if protected.alg != Some(RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA)) {
        return Err("the receipt isn't signed by EdDSA, as this log's are".to_owned());
    }
    if !protected.crit.is_empty() {
        return Err("the receipt calls something critical; nothing of that is known".to_owned());
    }
    if value(protected, STRUCTURE) != Some(&RFC9162_SHA256.into()) {
        return Err("the receipt isn't of a tree by RFC 9162 with SHA-256".to_owned());
    }
    if signed.payload.is_some() {
        return Err(
            "the receipt has a payload; right is none, for it's the tree's root".to_owned(),
        );
    }
    let (size, index, hashes) = inclusion(&signed.unprotected)
        .ok_or("the receipt doesn't have one inclusion proof: a size, an index and hashes")?;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let root = root_from(line, index, size, &hashes)
        .ok_or("the receipt's proof isn't as long as its size and index have it")?;
    signed
        .verify_detached_signature(&root, b"", |signature, bytes| {
            log.has_signed(bytes, signature)
        })
        .map_err(|_| "the line isn't what the receipt is of, or another key has signed it")?;
    // One root has many entries: whose receipt it is, its maker says.
    let claims = value(protected, CLAIMS)
        .cloned()
        .map(ClaimsSet::from_cbor_value);
    let claims = claims.transpose();
    let claims = claims.map_err(|error| format!("the receipt's claims can't be read: {error}"))?;
    let ClaimsSet {
        issuer, subject, ..
    } = claims.unwrap_or_default();
    if issuer.is_some_and(|issuer| issuer != log.name()) {
        return Err("the receipt is another log's, by its issuer".to_owned());
    }
    if subject.is_some() && subject != id_of(line) {
        return Err("the receipt is of another entry, by its subject".to_owned());
    }
    Ok(subject)
}

fn value(header: &Header, label: i64) -> Option<&Value> {
    let mut rest = header.rest.iter();
    let found = rest.find(|(found, _)| *found == Label::Int(label));
    found.map(|(_, value)| value)
}

/// Size, index and path. They aren't signed.
fn inclusion(unprotected: &Header) -> Option<(u64, u64, Vec<[u8; 32]>)> {
    let proofs = value(unprotected, PROOFS)?.as_map()?;
    let [(kind, proofs)] = &proofs[..] else {
        return None;
    };
    let [proof] = &proofs.as_array().filter(|_| *kind == INCLUSION.into())?[..] else {
        return None;
    };
    let proof = Value::from_slice(proof.as_bytes()?).ok()?;
    let [size, index, path] = &proof.as_array()?[..] else {
        return None;
    };
    let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
    let hash = |value: &Value| value.as_bytes()?.as_slice().try_into().ok();
    let path: Option<Vec<_>> = path.as_array()?.iter().map(hash).collect();
    Some((number(size)?, number(index)?, path?))
}

fn id_of(line: &[u8]) -> Option<String> {
    let entry: serde_json::Value = serde_json::from_slice(line).ok()?;
    entry["id"].as_str().map(str::to_owned)
}
