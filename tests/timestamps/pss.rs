//! Keys whose certificates say how they may be used (RFC 4055): who signs otherwise is refused, as by openssl.

use std::fs;

use der::asn1::OctetString;
use der::{Decode, Encode, Sequence};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::site::Site;
use crate::stamp::authority::{Anchors, check};
use crate::stamp::token::Token;
use crate::support::tsa::STAMPS;

/// A private key (RFC 5958).
#[derive(Sequence)]
struct PrivateKey {
    version: u8,
    algorithm: AlgorithmIdentifierOwned,
    key: OctetString,
}

/// The hash function, that of the mask, and the salt's length.
type Pss = (&'static str, &'static str, usize);

const HASHES: [(&str, usize); 3] = [("sha256", 32), ("sha384", 48), ("sha512", 64)];

/// For every hash function its own as the mask's and another, with short, usual and long salts.
fn all(salts: impl Fn(usize) -> Vec<usize>) -> Vec<Pss> {
    let mut found = Vec::new();
    for (at, (hash, length)) in HASHES.into_iter().enumerate() {
        for mask in [hash, HASHES[(at + 1) % 3].0] {
            found.extend(salts(length).into_iter().map(|salt| (hash, mask, salt)));
        }
    }
    found
}

#[test]
fn what_a_key_s_certificate_says_of_rsa_pss_holds_here_as_for_openssl() {
    let Some(site) = Site::new() else { return };
    let tsa = &site.tsa;
    let reply = site.reply("tsa");
    tsa.openssl(&format!("ts -reply -in {reply} -token_out -out token"));
    tsa.openssl("cms -verify -noverify -inform DER -in token -out info");
    let anchors = Anchors::read(&tsa.join("ca.pem")).expect("it's PEM");

    let mut keys = all(|length| vec![20, length, length + 1]);
    // All that is usual, which the parameters then needn't say: empty ones mean SHA-1.
    keys.push(("sha1", "sha1", 20));
    let keys = [None].into_iter().chain(keys.into_iter().map(Some));
    let mut taken = 0;
    for (number, key) in keys.enumerate() {
        let name = format!("pss{number}");
        let restricted = key.map(|(hash, mask, salt)| {
            format!(
                "-pkeyopt rsa_pss_keygen_md:{hash} -pkeyopt rsa_pss_keygen_mgf1_md:{mask} \
                 -pkeyopt rsa_pss_keygen_saltlen:{salt}"
            )
        });
        tsa.openssl(&format!(
            "genpkey -quiet -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 {} -out {name}.key",
            restricted.unwrap_or_default()
        ));
        tsa.certify(
            &name,
            STAMPS,
            "-startdate 20200101000000Z -enddate 20400101000000Z",
        );
        // The same key, which doesn't know of it.
        tsa.openssl(&format!("pkey -in {name}.key -outform DER -out free.der"));
        let free = fs::read(tsa.join("free.der")).expect("it's there");
        let mut free = PrivateKey::from_der(&free).expect("it's a key");
        assert_eq!(free.algorithm.parameters.is_some(), key.is_some());
        free.algorithm.parameters = None;
        let free = free.to_der().expect("it's DER");
        fs::write(tsa.join("free.der"), free).expect("it can be written");
        for signed in all(|length| vec![20, length]) {
            let (hash, mask, salt) = signed;
            tsa.openssl(&format!(
                "cms -sign -in info -binary -nodetach -econtent_type 1.2.840.113549.1.9.16.1.4 -cades -nosmimecap \
                 -outform DER -signer {name}.pem -inkey free.der -keyform DER -out signed -md {hash} \
                 -keyopt rsa_padding_mode:pss -keyopt rsa_mgf1_md:{mask} -keyopt rsa_pss_saltlen:{salt}"
            ));
            let verifying = "cms -verify -inform DER -in signed -CAfile ca.pem -purpose timestampsign -out verified";
            let verified = tsa.command(verifying).output().expect("openssl starts");
            let by_openssl = verified.status.success();
            let expected = key.is_none_or(|(own, of_mask, least)| {
                (own, of_mask) == (hash, mask) && least <= salt
            });
            assert_eq!(by_openssl, expected, "{key:?} {signed:?}: {verified:?}");
            // Only what is usual is taken at all.
            let is_usual = mask == hash && HASHES.contains(&(hash, salt));
            let token = fs::read(tsa.join("signed")).expect("it's there");
            let token = Token::parse(&token).expect("it's a token");
            let said = check(&token, Some(&anchors));
            assert_eq!(
                said.is_ok(),
                by_openssl && is_usual,
                "{key:?} {signed:?}: {said:?}"
            );
            taken += usize::from(said.is_ok());
        }
    }
    // With the free key each hash, with the others its own unless they ask for a longer salt.
    assert_eq!(taken, 3 + 3 * 2);
}
