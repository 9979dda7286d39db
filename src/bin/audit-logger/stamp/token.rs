//! What is asked of a time stamping authority and what it answers: RFC 3161, with the ESSCertIDv2 of RFC 5816.
//!
//! A token is a CMS SignedData (RFC 5652) over a TSTInfo, in DER. A certificate is kept as the bytes that came,
//! for it's named by their hash. The order of sets isn't checked: OpenSSL writes certificates in that of their file.

use std::fmt;
use std::time::Duration;

use audit_logger::tool::stamp::LONGEST_TOKEN;
use chrono::{DateTime, NaiveDateTime, Utc};
use cms::cert::x509::ext::Extension;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    DigestAlgorithmIdentifiers, EncapsulatedContentInfo, SignerIdentifier, SignerInfo,
};
use der::asn1::{BitString, Int, ObjectIdentifier, OctetString, SetOfVec, Uint};
use der::oid::db::rfc3161::ID_CT_TST_INFO;
use der::oid::db::rfc5911::{
    ID_AA_SIGNING_CERTIFICATE, ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST,
    ID_SIGNED_DATA,
};
use der::oid::db::rfc5912::{ID_SHA_256, ID_SHA_384, ID_SHA_512};
use der::{Any, Decode, Encode, Sequence, Tag, Tagged};
use ring::digest::{self, SHA256, SHA384, SHA512, digest};
use x509_cert::attr::Attribute;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The hash functions that are taken.
pub const HASHES: [(ObjectIdentifier, &digest::Algorithm); 3] = [
    (ID_SHA_256, &SHA256),
    (ID_SHA_384, &SHA384),
    (ID_SHA_512, &SHA512),
];

/// RFC 3161, section 2.4.1.
#[derive(Sequence)]
struct MessageImprint {
    algorithm: AlgorithmIdentifierOwned,
    hash: OctetString,
}

/// RFC 3161, section 2.4.1.
#[derive(Sequence)]
struct TimeStampReq {
    version: u8,
    imprint: MessageImprint,
    #[asn1(optional = "true")]
    policy: Option<ObjectIdentifier>,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(default = "Default::default")]
    wants_certificates: bool,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

/// RFC 3161, section 2.4.2.
#[derive(Sequence)]
struct PkiStatusInfo {
    status: u8,
    #[asn1(optional = "true")]
    text: Option<Vec<String>>,
    #[asn1(optional = "true")]
    failure: Option<BitString>,
}

/// RFC 3161, section 2.4.2.
#[derive(Sequence)]
struct TimeStampResp {
    status: PkiStatusInfo,
    #[asn1(optional = "true")]
    token: Option<Any>,
}

/// RFC 3161, section 2.4.2.
#[derive(Sequence)]
struct Accuracy {
    #[asn1(optional = "true")]
    seconds: Option<u64>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    millis: Option<u16>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    micros: Option<u16>,
}

/// RFC 3161, section 2.4.2.
#[derive(Sequence)]
struct TstInfo {
    version: u8,
    policy: ObjectIdentifier,
    imprint: MessageImprint,
    serial: Int,
    /// A GeneralizedTime; with a fraction of a second, which der's own doesn't read.
    time: Any,
    #[asn1(optional = "true")]
    accuracy: Option<Accuracy>,
    #[asn1(default = "Default::default")]
    ordering: bool,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    tsa: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

/// RFC 5652, section 5.1, with certificates as they came.
#[derive(Sequence)]
struct SignedData {
    version: CmsVersion,
    digests: DigestAlgorithmIdentifiers,
    content: EncapsulatedContentInfo,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    certificates: Option<SetOfVec<Any>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    crls: Option<SetOfVec<Any>>,
    signers: SetOfVec<SignerInfo>,
}

/// RFC 2634, section 5.4.1, of which RFC 5816's form is taken as well.
#[derive(Sequence)]
struct SigningCertificate {
    certificates: Vec<CertificateId>,
    #[asn1(optional = "true")]
    policies: Option<Any>,
}

/// An ESSCertIDv2, or an ESSCertID, which has no algorithm. The issuer that may follow says no more.
#[derive(Sequence)]
struct CertificateId {
    #[asn1(optional = "true")]
    algorithm: Option<AlgorithmIdentifierOwned>,
    hash: OctetString,
    #[asn1(optional = "true")]
    issuer: Option<Any>,
}

/// A request for a time stamp.
pub struct Query {
    pub der: Vec<u8>,
    nonce: Int,
    imprint: Vec<u8>,
}

/// The hash function of an algorithm's name, and nothing beside it.
pub fn hash_of(algorithm: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    let plain = |parameters: &Any| parameters.is_null();
    let (_, hash) = HASHES.iter().find(|(oid, _)| *oid == algorithm.oid)?;
    algorithm
        .parameters
        .as_ref()
        .is_none_or(plain)
        .then_some(*hash)
}

impl Query {
    /// A request for some bytes, by their SHA-256, with a number that the answer must repeat.
    pub fn new(stamped: &[u8], random: [u8; 8]) -> Result<Query, der::Error> {
        let imprint = digest(&SHA256, stamped).as_ref().to_vec();
        let nonce: Int = Uint::new(&random)?.into();
        let request = TimeStampReq {
            version: 1,
            imprint: MessageImprint {
                algorithm: AlgorithmIdentifierOwned {
                    oid: ID_SHA_256,
                    parameters: None,
                },
                hash: OctetString::new(imprint.clone())?,
            },
            policy: None,
            nonce: Some(nonce.clone()),
            wants_certificates: true,
            extensions: None,
        };
        Ok(Query {
            der: request.to_der()?,
            nonce,
            imprint,
        })
    }

    /// One that was made before.
    pub fn parse(bytes: &[u8]) -> Result<Query, String> {
        let wrong = |error| format!("isn't a request: {error}");
        let request = TimeStampReq::from_der(bytes).map_err(wrong)?;
        Ok(Query {
            der: bytes.to_vec(),
            nonce: request.nonce.ok_or("has no nonce")?,
            imprint: request.imprint.hash.into_bytes().into_vec(),
        })
    }

    /// Whether a token is what was asked for.
    pub fn is_answered_by(&self, token: &Token) -> bool {
        token.imprint == self.imprint && token.nonce.as_ref() == Some(&self.nonce)
    }
}

/// The token in an authority's reply; a token alone will do.
pub fn token_in(reply: &[u8]) -> Result<Vec<u8>, String> {
    if let Ok(response) = TimeStampResp::from_der(reply) {
        let status = &response.status;
        // 0 is granted; 1 is granted, with changes.
        return match (status.status, response.token) {
            (0 | 1, Some(token)) => token.to_der().map_err(|error| error.to_string()),
            (0 | 1, None) => Err("says that it's granted, and has no token".to_owned()),
            _ => Err(refusal(status)),
        };
    }
    match ContentInfo::from_der(reply) {
        Ok(content) if content.content_type == ID_SIGNED_DATA => Ok(reply.to_vec()),
        _ => Err(
            "is neither a response nor a token of RFC 3161; right is its DER, as it came".into(),
        ),
    }
}

/// What an authority says that refuses.
fn refusal(status: &PkiStatusInfo) -> String {
    const REASONS: [(usize, &str); 8] = [
        (0, "it doesn't take the hash function"),
        (2, "it doesn't take such requests"),
        (5, "the request's form is wrong"),
        (14, "it has no time"),
        (15, "it doesn't take the policy"),
        (16, "it doesn't take an extension"),
        (17, "it doesn't have what was asked for beside"),
        (25, "it failed itself"),
    ];
    let mut said = match status.status {
        2 => "refuses".to_owned(),
        3 => "lets wait, which isn't done here".to_owned(),
        number => format!("has status {number}"),
    };
    let bits = status.failure.iter().flat_map(BitString::bits);
    // It may say as much as it likes.
    for (number, _) in bits.enumerate().take(32).filter(|(_, set)| *set) {
        match REASONS.iter().find(|(bit, _)| *bit == number) {
            Some((_, reason)) => said.push_str(&format!(": {reason}")),
            None => said.push_str(&format!(": failure {number}")),
        }
    }
    for text in status.text.iter().flatten().take(4) {
        let text: String = text.chars().take(200).collect();
        said.push_str(&format!(": {text:?}"));
    }
    said
}

impl Accuracy {
    /// What is left out is 0.
    fn whole(&self) -> Duration {
        let millis = Duration::from_millis(self.millis.unwrap_or(0).into());
        let micros = Duration::from_micros(self.micros.unwrap_or(0).into());
        let seconds = Duration::from_secs(self.seconds.unwrap_or(0));
        seconds.saturating_add(millis + micros)
    }
}

/// When something was stamped, by the authority's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    pub time: DateTime<Utc>,
    /// How far off it says that this may be, to either side (RFC 3161, section 2.4.2).
    pub accuracy: Option<Duration>,
}

impl When {
    /// The accuracy in seconds, as a decimal.
    pub fn accuracy_s(&self) -> Option<String> {
        let accuracy = self.accuracy?;
        let digits = format!("{}.{:06}", accuracy.as_secs(), accuracy.subsec_micros());
        let short = digits.trim_end_matches('0');
        Some(short.to_owned() + if short.ends_with('.') { "0" } else { "" })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.time))?;
        match self.accuracy_s() {
            Some(seconds) => write!(f, " ± {} s", seconds.trim_end_matches(".0")),
            None => Ok(()),
        }
    }
}

/// A token, of which nothing is believed yet.
#[derive(Debug)]
pub struct Token {
    /// The hash of what was stamped, and by which function.
    pub imprint: Vec<u8>,
    pub hash: &'static digest::Algorithm,
    pub when: When,
    /// What the request had.
    nonce: Option<Int>,
    pub signer: SignerInfo,
    /// What is signed: the attributes of the signer, which hold the digest of the rest.
    pub signed: Vec<u8>,
    /// The certificates in it, of which one may be the signer's.
    pub certificates: Vec<Vec<u8>>,
    /// What the signer's certificate hashes to, by which function.
    pub certificate_ids: Vec<(&'static digest::Algorithm, Vec<u8>)>,
}

impl Token {
    /// Reads a token: its form, and that what is signed is what is in it.
    pub fn parse(bytes: &[u8]) -> Result<Token, String> {
        if bytes.len() > LONGEST_TOKEN {
            return Err(format!("has more than {LONGEST_TOKEN} bytes"));
        }
        let not_one = |error: der::Error| format!("isn't a token of RFC 3161 in DER: {error}");
        let content = ContentInfo::from_der(bytes).map_err(not_one)?;
        if content.content_type != ID_SIGNED_DATA {
            return Err("isn't signed".to_owned());
        }
        let data: SignedData = content.content.decode_as().map_err(not_one)?;
        if data.version != CmsVersion::V3 || data.content.econtent_type != ID_CT_TST_INFO {
            return Err("isn't a time stamp: something else is signed".to_owned());
        }
        let info = data.content.econtent.as_ref();
        let info: OctetString = info.ok_or("has no content")?.decode_as().map_err(not_one)?;
        let [signer] = data.signers.as_slice() else {
            let count = data.signers.len();
            return Err(format!("has {count} signatures; a time stamp has one"));
        };
        let version = match signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(_) => CmsVersion::V1,
            SignerIdentifier::SubjectKeyIdentifier(_) => CmsVersion::V3,
        };
        if signer.version != version {
            return Err("has a signature of another version than its signer's name".to_owned());
        }
        let hash = hash_of(&signer.digest_alg).ok_or_else(|| {
            format!(
                "hashes by {}; SHA-256, SHA-384 and SHA-512 are taken",
                signer.digest_alg.oid
            )
        })?;
        let is_signer_s = |algorithm: &AlgorithmIdentifierOwned| {
            algorithm.oid == signer.digest_alg.oid && hash_of(algorithm).is_some()
        };
        if !data.digests.iter().all(is_signer_s) {
            return Err("names another hash function than its signer".to_owned());
        }
        let attributes = signer.signed_attrs.as_ref().ok_or("has no attributes")?;
        let value = |oid| value_of(attributes.as_slice(), oid);
        let content_type = value(ID_CONTENT_TYPE)?.ok_or("doesn't sign its content's type")?;
        let content_type: ObjectIdentifier = content_type.decode_as().map_err(not_one)?;
        let own = value(ID_MESSAGE_DIGEST)?.ok_or("doesn't sign its content")?;
        let own: OctetString = own.decode_as().map_err(not_one)?;
        if content_type != ID_CT_TST_INFO
            || own.as_bytes() != digest(hash, info.as_bytes()).as_ref()
        {
            return Err("signs something else than its content".to_owned());
        }
        let mut certificate_ids = Vec::new();
        let versions = [
            (ID_AA_SIGNING_CERTIFICATE, &digest::SHA1_FOR_LEGACY_USE_ONLY),
            (ID_AA_SIGNING_CERTIFICATE_V_2, &SHA256),
        ];
        for (oid, usual) in versions {
            let Some(value) = value(oid)? else { continue };
            let signing: SigningCertificate = value.decode_as().map_err(not_one)?;
            let first = signing.certificates.first();
            let first = first.ok_or("names no certificate of its signer")?;
            let hash = match &first.algorithm {
                None => usual,
                Some(algorithm) => {
                    hash_of(algorithm).ok_or("names its signer's certificate by an unknown hash")?
                }
            };
            certificate_ids.push((hash, first.hash.as_bytes().to_vec()));
        }
        if certificate_ids.is_empty() {
            return Err("doesn't sign which certificate is its signer's (RFC 3161, 2.4.2)".into());
        }
        let signed = attributes.to_der().map_err(not_one)?;
        let info = TstInfo::from_der(info.as_bytes()).map_err(not_one)?;
        if info.version != 1 {
            return Err(format!("is of version {}; 1 is known", info.version));
        }
        if info.extensions.iter().flatten().any(|other| other.critical) {
            return Err("has a critical extension that isn't known".to_owned());
        }
        let algorithm = &info.imprint.algorithm;
        let stamped_by = hash_of(algorithm)
            .ok_or_else(|| format!("stamps a hash by {}, which isn't taken", algorithm.oid))?;
        let certificates = data.certificates.iter().flat_map(SetOfVec::iter);
        let certificates: Result<_, _> = certificates.map(Encode::to_der).collect();
        Ok(Token {
            imprint: info.imprint.hash.as_bytes().to_vec(),
            hash: stamped_by,
            when: When {
                time: time_of(&info.time).ok_or("has a time that isn't one")?,
                accuracy: info.accuracy.as_ref().map(Accuracy::whole),
            },
            nonce: info.nonce,
            signer: signer.clone(),
            signed,
            certificates: certificates.map_err(not_one)?,
            certificate_ids,
        })
    }

    /// Whether it's about these bytes.
    pub fn stamps(&self, bytes: &[u8]) -> bool {
        digest(self.hash, bytes).as_ref() == self.imprint
    }
}

/// The one value of an attribute that may stand there once.
fn value_of(attributes: &[Attribute], oid: ObjectIdentifier) -> Result<Option<&Any>, String> {
    let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if one.values.len() == 1 => Ok(one.values.get(0)),
        _ => Err(format!("has the attribute {oid} more than once")),
    }
}

/// A GeneralizedTime in UTC, to the second or finer.
fn time_of(time: &Any) -> Option<DateTime<Utc>> {
    let text = std::str::from_utf8(time.value()).ok()?.strip_suffix('Z')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if time.tag() != Tag::GeneralizedTime || seconds.len() != 14 || fraction.len() > 9 {
        return None;
    }
    if !digits(seconds) || !digits(fraction) {
        return None;
    }
    let parsed = NaiveDateTime::parse_from_str(seconds, "%Y%m%d%H%M%S").ok()?;
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(parsed.and_utc() + chrono::TimeDelta::nanoseconds(nanos))
}

/// A time as it's shown.
pub fn shown(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string()
}
