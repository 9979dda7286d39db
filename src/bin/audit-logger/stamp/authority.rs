//! Who signed a time stamp, and whether he may be believed.

use std::path::Path;
use std::time::Duration;

use audit_logger::tool::Error;
use audit_logger::tool::source::end_of_named;
use chrono::{DateTime, Utc};
use cms::signed_data::SignerIdentifier;
use der::asn1::ObjectIdentifier;
use der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, ID_KP_TIME_STAMPING, ID_MGF_1,
    ID_RSASSA_PSS, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SHA_256_WITH_RSA_ENCRYPTION,
    SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use der::oid::db::rfc8410::ID_ED_25519;
use der::{Decode, Sequence};
use ring::digest::{self, SHA256, SHA384, SHA512, digest};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_cert::certificate::{Certificate, Version};
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::token::{Token, When, hash_of, shown};

/// How long a file of certificates may be.
const LONGEST: u64 = 16 << 20;

/// Whom the reader of a log believes: authorities that issue certificates, or stamp themselves.
pub struct Anchors {
    given: Vec<CertificateDer<'static>>,
    issuers: Vec<TrustAnchor<'static>>,
}

/// What a token says, once it's checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub when: When,
    /// The name in the signer's certificate.
    pub by: String,
    /// Until when that was valid.
    pub valid_until: DateTime<Utc>,
}

impl Anchors {
    /// Reads a file of certificates in PEM.
    pub fn read(path: &Path) -> Result<Anchors, Error> {
        let wrong = |what: String| Error::argument(format!("{}: {what}", path.display()));
        let text = end_of_named(path, LONGEST)?;
        let given: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let given = given.map_err(|error| wrong(format!("can't be read as PEM: {error}")))?;
        if given.is_empty() {
            return Err(wrong(
                "holds no certificate; it must hold some in PEM".to_owned(),
            ));
        }
        for (number, one) in (1..).zip(&given) {
            Certificate::from_der(one)
                .map_err(|error| wrong(format!("certificate {number} can't be read: {error}")))?;
        }
        let issuers = given.iter().filter(|one| issues(one) == Some(true));
        let issuers =
            issuers.filter_map(|one| Some(webpki::anchor_from_trusted_cert(one).ok()?.to_owned()));
        let issuers = issuers.collect();
        Ok(Anchors { given, issuers })
    }
}

/// Whether a certificate's owner issues others: not servers and stampers.
fn issues(certificate: &CertificateDer<'_>) -> Option<bool> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let certificate = certificate.tbs_certificate();
    Some(
        match certificate.get_extension::<BasicConstraints>().ok()? {
            Some((_, constraints)) => constraints.ca,
            // Of that version none says it.
            None => certificate.version() == Version::V1,
        },
    )
}

/// The time of a certificate.
fn when(time: &Time) -> DateTime<Utc> {
    DateTime::from_timestamp(time.to_unix_duration().as_secs() as i64, 0).unwrap_or_default()
}

/// Checks who signed a token. Without anchors: that the signer's certificate fits, whoever issued it.
pub fn check(token: &Token, anchors: Option<&Anchors>) -> Result<Said, String> {
    let inside = token.certificates.iter().map(Vec::as_slice);
    let given = anchors.iter().flat_map(|anchors| &anchors.given);
    let mut all = inside.chain(given.map(|one| one.as_ref()));
    let is_named = |hash: &'static digest::Algorithm, of: &[u8], certificate: &[u8]| {
        digest(hash, certificate).as_ref() == of
    };
    let ids = &token.certificate_ids;
    let signer = all.find(|one| ids.iter().all(|(hash, of)| is_named(hash, of, one)));
    let Some(der) = signer else {
        return Err(match anchors {
            Some(_) => {
                "the certificate that it's signed with is neither in it nor given".to_owned()
            }
            None => "the certificate that it's signed with isn't in it; give it by --tsa-cert"
                .to_owned(),
        });
    };
    let signer = Certificate::from_der(der)
        .map_err(|error| format!("the certificate that it's signed with can't be read: {error}"))?;
    if !is_meant(&token.signer.sid, &signer) {
        return Err("it names two certificates as its signer's".to_owned());
    }
    let by = signer.tbs_certificate().subject().to_string();
    verify(token, &signer).map_err(|error| format!("signed by {by}: {error}"))?;
    check_use(&signer).map_err(|error| format!("the certificate of {by} {error}"))?;
    let validity = signer.tbs_certificate().validity();
    let (since, until) = (when(&validity.not_before), when(&validity.not_after));
    // Both ends are in it, and that of a second until the next.
    let time = token.when.time;
    if time < since || time >= until + chrono::TimeDelta::seconds(1) {
        return Err(format!(
            "the certificate of {by} was valid from {} to {}, and the token is of {}",
            shown(since),
            shown(until),
            shown(time)
        ));
    }
    if let Some(anchors) = anchors {
        trace(der, token, anchors).map_err(|error| {
            format!("nobody in --tsa-cert vouches for the certificate of {by}: {error}")
        })?;
    }
    Ok(Said {
        when: token.when,
        by,
        valid_until: until,
    })
}

/// Whether the signer calls himself what the certificate does.
fn is_meant(signer: &SignerIdentifier, certificate: &Certificate) -> bool {
    let certificate = certificate.tbs_certificate();
    match signer {
        SignerIdentifier::IssuerAndSerialNumber(named) => {
            named.issuer == *certificate.issuer()
                && named.serial_number == *certificate.serial_number()
        }
        SignerIdentifier::SubjectKeyIdentifier(named) => {
            let own = certificate.get_extension::<SubjectKeyIdentifier>();
            matches!(own, Ok(Some((_, own))) if own == *named)
        }
    }
}

/// Whether a certificate is for time stamps and nothing else (RFC 3161, section 2.3).
fn check_use(certificate: &Certificate) -> Result<(), String> {
    let certificate = certificate.tbs_certificate();
    let wrong = |error: der::Error| format!("can't be read: {error}");
    match certificate.get_extension::<ExtendedKeyUsage>() {
        Ok(Some((true, ExtendedKeyUsage(uses)))) if uses == [ID_KP_TIME_STAMPING] => {}
        Ok(Some((false, ExtendedKeyUsage(uses)))) if uses == [ID_KP_TIME_STAMPING] => {
            return Err("doesn't say critically that it's for time stamps alone".to_owned());
        }
        Ok(_) => return Err("isn't for time stamps alone".to_owned()),
        Err(error) => return Err(wrong(error)),
    }
    let usage = certificate.get_extension::<KeyUsage>().map_err(wrong)?;
    let signs = |usage: &KeyUsage| {
        usage.0.contains(KeyUsages::DigitalSignature) || usage.0.contains(KeyUsages::NonRepudiation)
    };
    match usage {
        Some((_, usage)) if !signs(&usage) => Err("isn't for signatures".to_owned()),
        _ => Ok(()),
    }
}

/// Of an issuer's certificate: it may be for all, or for time stamps among others.
struct TimeStamping;

impl ExtendedKeyUsageValidator for TimeStamping {
    fn validate(&self, uses: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        // 2.5.29.37.0 is any use.
        let wanted: [Vec<usize>; 2] = [vec![1, 3, 6, 1, 5, 5, 7, 3, 8], vec![2, 5, 29, 37, 0]];
        let mut any = false;
        for one in uses {
            if wanted.contains(&one?.to_decoded_oid()) {
                return Ok(());
            }
            any = true;
        }
        match any {
            true => Err(webpki::Error::EmptyEkuExtension),
            false => Ok(()),
        }
    }
}

/// Whether somebody who is believed vouches for a certificate, at the token's time.
fn trace(signer: &[u8], token: &Token, anchors: &Anchors) -> Result<(), String> {
    if anchors.given.iter().any(|given| given.as_ref() == signer) {
        return Ok(());
    }
    let own = CertificateDer::from(signer);
    let end = EndEntityCert::try_from(&own).map_err(|error| error.to_string())?;
    let others = token.certificates.iter().filter(|one| **one != signer);
    let others: Vec<_> = others.map(|one| CertificateDer::from(&one[..])).collect();
    let seconds = u64::try_from(token.when.time.timestamp()).unwrap_or(0);
    let traced = end.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors.issuers,
        &others,
        UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        TimeStamping,
        None,
        None,
    );
    traced.map(|_| ()).map_err(|error| error.to_string())
}

/// RFC 4055, section 3.1: what RSA-PSS is done with.
#[derive(Sequence)]
struct PssParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    salt: Option<u32>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    trailer: Option<u8>,
}

/// What RSA-PSS is done with, and with no other trailer than 1.
struct Pss {
    hash: &'static digest::Algorithm,
    /// That of the mask, which MGF1 makes.
    mask: &'static digest::Algorithm,
    /// How long the salt is, in bytes; of a key, how long at least.
    salt: usize,
}

impl Pss {
    /// `None` if the algorithm's parameters aren't read, or are what isn't taken. SHA-1, which is meant where
    /// there is no hash function, isn't.
    fn of(algorithm: &AlgorithmIdentifierOwned) -> Option<Pss> {
        const USUAL_SALT: u32 = 20;
        let parameters: PssParameters = algorithm.parameters.as_ref()?.decode_as().ok()?;
        let mask = parameters.mask.filter(|mask| mask.oid == ID_MGF_1)?;
        let of_mask: AlgorithmIdentifierOwned = mask.parameters?.decode_as().ok()?;
        (parameters.trailer.unwrap_or(1) == 1).then_some(Pss {
            hash: hash_of(&parameters.hash?)?,
            mask: hash_of(&of_mask)?,
            salt: parameters.salt.unwrap_or(USUAL_SALT) as usize,
        })
    }

    /// Whether a key with these parameters may sign so (RFC 4055, section 3.3).
    fn allows(&self, signed: &Pss) -> bool {
        self.hash == signed.hash && self.mask == signed.mask && self.salt <= signed.salt
    }
}

/// How a signature is checked, by its own words and its key's.
fn method(
    token: &Token,
    key: &AlgorithmIdentifierOwned,
) -> Option<&'static dyn VerificationAlgorithm> {
    let own = &token.signer.signature_algorithm;
    let hash = hash_of(&token.signer.digest_alg)?;
    let plain = own.parameters.as_ref().is_none_or(der::Any::is_null);
    let is_rsa = key.oid == RSA_ENCRYPTION || (key.oid == ID_RSASSA_PSS && own.oid == key.oid);
    if is_rsa {
        let with = |oid| match oid {
            RSA_ENCRYPTION => Some(hash),
            SHA_256_WITH_RSA_ENCRYPTION => Some(&SHA256),
            SHA_384_WITH_RSA_ENCRYPTION => Some(&SHA384),
            SHA_512_WITH_RSA_ENCRYPTION => Some(&SHA512),
            _ => None,
        };
        return match own.oid {
            ID_RSASSA_PSS => by_pss(own, key, hash),
            oid if plain && with(oid) == Some(hash) => by_hash(
                hash,
                [
                    &signature::RSA_PKCS1_2048_8192_SHA256,
                    &signature::RSA_PKCS1_2048_8192_SHA384,
                    &signature::RSA_PKCS1_2048_8192_SHA512,
                ],
            ),
            _ => None,
        };
    }
    if own.parameters.is_some() {
        return None;
    }
    let curve = key.parameters.as_ref().map(|curve| curve.decode_as());
    let curve: Option<ObjectIdentifier> = curve.and_then(Result::ok);
    match (key.oid, curve, own.oid) {
        (ID_EC_PUBLIC_KEY, Some(SECP_256_R_1), ECDSA_WITH_SHA_256) if *hash == SHA256 => {
            Some(&signature::ECDSA_P256_SHA256_ASN1)
        }
        (ID_EC_PUBLIC_KEY, Some(SECP_256_R_1), ECDSA_WITH_SHA_384) if *hash == SHA384 => {
            Some(&signature::ECDSA_P256_SHA384_ASN1)
        }
        (ID_EC_PUBLIC_KEY, Some(SECP_384_R_1), ECDSA_WITH_SHA_256) if *hash == SHA256 => {
            Some(&signature::ECDSA_P384_SHA256_ASN1)
        }
        (ID_EC_PUBLIC_KEY, Some(SECP_384_R_1), ECDSA_WITH_SHA_384) if *hash == SHA384 => {
            Some(&signature::ECDSA_P384_SHA384_ASN1)
        }
        (ID_ED_25519, None, ID_ED_25519) => Some(&signature::ED25519),
        _ => None,
    }
}

fn by_hash(
    hash: &digest::Algorithm,
    [first, second, third]: [&'static dyn VerificationAlgorithm; 3],
) -> Option<&'static dyn VerificationAlgorithm> {
    match hash {
        hash if *hash == SHA256 => Some(first),
        hash if *hash == SHA384 => Some(second),
        hash if *hash == SHA512 => Some(third),
        _ => None,
    }
}

/// RSA-PSS with one hash function throughout, and a salt as long as its output; and as the key's certificate
/// allows, where that says how the key may be used.
fn by_pss(
    own: &AlgorithmIdentifierOwned,
    key: &AlgorithmIdentifierOwned,
    hash: &'static digest::Algorithm,
) -> Option<&'static dyn VerificationAlgorithm> {
    let signed = Pss::of(own)?;
    let is_restricted = key.oid == ID_RSASSA_PSS && key.parameters.is_some();
    if is_restricted && !Pss::of(key)?.allows(&signed) {
        return None;
    }
    if signed.hash != hash || signed.mask != hash || signed.salt != hash.output_len() {
        return None;
    }
    by_hash(
        hash,
        [
            &signature::RSA_PSS_2048_8192_SHA256,
            &signature::RSA_PSS_2048_8192_SHA384,
            &signature::RSA_PSS_2048_8192_SHA512,
        ],
    )
}

/// Whether the certificate's key has signed the token.
fn verify(token: &Token, certificate: &Certificate) -> Result<(), String> {
    let key = certificate.tbs_certificate().subject_public_key_info();
    let own = &token.signer.signature_algorithm.oid;
    let how = method(token, &key.algorithm).ok_or_else(|| {
        let (digest, key) = (&token.signer.digest_alg.oid, &key.algorithm.oid);
        format!("a signature by {own} over {digest} with a key of {key} can't be checked here")
    })?;
    let bytes = key.subject_public_key.raw_bytes();
    UnparsedPublicKey::new(how, bytes)
        .verify(&token.signed, token.signer.signature.as_bytes())
        .map_err(|_| "the signature doesn't fit".to_owned())
}
