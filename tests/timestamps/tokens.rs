//! What counts as a token, and whose.

use std::fs;
use std::time::{Duration, Instant};

use audit_logger::tool::stamp::Stamp;

use crate::fuzzing;
use crate::site::{P256, RSA, Site};
use crate::stamp::authority::{Anchors, check};
use crate::stamp::token::{Query, Token, token_in};
use crate::support::tsa::STAMPS;

/// A token over the log's checkpoint that `openssl cms` signs, with whatever certificate and algorithm.
fn forged(site: &Site, by: &str, more: &str) -> Vec<u8> {
    let reply = site.reply("tsa");
    for command in [
        format!("ts -reply -in {reply} -token_out -out token"),
        "cms -verify -noverify -inform DER -in token -out info".to_owned(),
        format!(
            "cms -sign -in info -binary -nodetach -econtent_type 1.2.840.113549.1.9.16.1.4 -cades -nosmimecap \
             -outform DER -signer {by}.pem -inkey {by}.key -out signed {more}"
        ),
    ] {
        site.tsa.openssl(&command);
    }
    fs::read(site.tsa.join("signed")).expect("it's there")
}

/// A token that a key of Ed25519 has signed (RFC 8419), which openssl's command doesn't make.
fn by_ed25519(site: &Site) -> Vec<u8> {
    use cms::cert::IssuerAndSerialNumber;
    use cms::cert::x509::Certificate;
    use cms::content_info::ContentInfo;
    use cms::signed_data::{SignedData, SignerIdentifier, SignerInfos};
    use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
    use der::{Any, Decode, Encode};
    use ring::digest::{SHA512, digest};
    use rustls::pki_types::pem::PemObject;

    site.tsa.stamper("ed25519", "ed25519");
    // Its attributes name SHA-512 and the certificate, for another key has signed it so.
    let usual = forged(site, "tsa", "-md sha512");
    let pem = |name: &str| fs::read(site.tsa.join(name)).expect("there");
    let own = rustls::pki_types::CertificateDer::from_pem_slice(&pem("ed25519.pem"));
    let own = own.expect("it's PEM");
    let certificate = Certificate::from_der(&own).expect("it's a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(&pem("ed25519.key"));
    let key = key.expect("it's PEM");
    let key = ring::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
    let key = key.expect("it's a key");

    let mut content = ContentInfo::from_der(&usual).expect("it's DER");
    let mut data: SignedData = content.content.decode_as().expect("it's signed");
    let mut signer = data.signer_infos.0.get(0).expect("there's one").clone();
    signer.sid = SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
        issuer: certificate.tbs_certificate().issuer().clone(),
        serial_number: certificate.tbs_certificate().serial_number().clone(),
    });
    signer.signature_algorithm.oid = ObjectIdentifier::new_unwrap("1.3.101.112");
    signer.signature_algorithm.parameters = None;
    // SigningCertificateV2: a sequence of a sequence of ids, each an algorithm and a hash.
    let hash = OctetString::new(digest(&SHA512, &own).as_ref()).expect("it's short");
    let id = vec![
        Any::encode_from(&signer.digest_alg),
        Any::encode_from(&hash),
    ];
    let id: Result<Vec<Any>, _> = id.into_iter().collect();
    let ids = vec![vec![id.expect("they are DER")]];
    let named = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
    let attributes = signer.signed_attrs.expect("it has some").into_vec();
    let attributes = attributes.into_iter().map(|mut attribute| {
        if attribute.oid == named {
            let value = Any::encode_from(&ids).expect("it's DER");
            attribute.values = SetOfVec::try_from(vec![value]).expect("it's one");
        }
        attribute
    });
    let attributes = SetOfVec::try_from(attributes.collect::<Vec<_>>()).expect("they are DER");
    let signed = attributes.to_der().expect("they are DER");
    signer.signature = OctetString::new(key.sign(&signed).as_ref()).expect("it's short");
    signer.signed_attrs = Some(attributes);
    data.signer_infos = SignerInfos(SetOfVec::try_from(vec![signer]).expect("it's one"));
    let certificates = vec![cms::cert::CertificateChoices::Certificate(certificate)];
    data.certificates = Some(certificates.try_into().expect("it's one"));
    content.content = Any::encode_from(&data).expect("it's DER");
    content.to_der().expect("it's DER")
}

#[test]
fn certificates_for_other_uses_are_refused_and_rsa_pss_and_ed25519_are_taken() {
    let Some(site) = Site::new() else { return };
    let keep = |token: Vec<u8>, code, says: &str| {
        let file = site.path("signed");
        fs::write(&file, token).expect("it can be written");
        site.keep(&file, &[], code, says)
    };
    for (name, extensions, says) in [
        (
            "server",
            "extendedKeyUsage=critical,serverAuth",
            "isn't for time stamps alone",
        ),
        (
            "both",
            "extendedKeyUsage=critical,timeStamping,serverAuth",
            "isn't for time stamps alone",
        ),
        (
            "lax",
            "extendedKeyUsage=timeStamping",
            "doesn't say critically",
        ),
        (
            "plain",
            "keyUsage=digitalSignature",
            "isn't for time stamps alone",
        ),
        (
            "agrees",
            "extendedKeyUsage=critical,timeStamping\nkeyUsage=keyEncipherment",
            "isn't for signatures",
        ),
    ] {
        site.tsa.issue(name, RSA, extensions, "");
        keep(forged(&site, name, "-md sha256"), 1, says);
    }
    keep(by_ed25519(&site), 0, "said by CN=ed25519");
    for hash in ["sha256", "sha384", "sha512"] {
        let name = format!("pss-{hash}");
        site.tsa.stamper(&name, RSA);
        let pss = "-keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:digest";
        let token = forged(&site, &name, &format!("-md {hash} {pss}"));
        keep(token, 0, &format!("said by CN={name}"));
    }
    site.verified(&["--tsa-cert", &site.root()], 0, "said by CN=pss-sha512");
}

#[test]
fn a_chain_of_certificates_counts_in_whatever_order_it_stands() {
    let Some(site) = Site::new() else { return };
    let tsa = &site.tsa;
    tsa.issue(
        "between",
        RSA,
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n",
        "",
    );
    fs::write(tsa.join("extensions"), STAMPS).expect("it can be written");
    tsa.openssl(&format!(
        "req -newkey {RSA} -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf"
    ));
    tsa.openssl(
        "x509 -req -in leaf.csr -CA between.pem -CAkey between.key -CAcreateserial -days 5 -extfile extensions -out leaf.pem",
    );
    let both = |order: [&str; 2]| {
        let pem = |name: &str| fs::read_to_string(tsa.join(name)).expect("it's there");
        fs::write(tsa.join("both.pem"), order.map(pem).concat()).expect("it can be written");
        tsa.path("both.pem")
    };
    for order in [["between.pem", "ca.pem"], ["ca.pem", "between.pem"]] {
        let reply = site.reply_in_the_way("leaf", "stamps", "sha256", &["-chain", &both(order)]);
        site.keep(&reply, &["--tsa-cert", &site.root()], 0, "CN=leaf");
    }
    // Without the certificate between: it can be given beside.
    let reply = site.reply("leaf");
    let root = site.root();
    site.keep(
        &reply,
        &["--tsa-cert", &root],
        1,
        "nobody in --tsa-cert vouches",
    );
    let given = both(["between.pem", "ca.pem"]);
    site.keep(&reply, &["--tsa-cert", &given], 0, "CN=leaf");
}

#[test]
fn times_finer_than_a_second_and_certificates_named_by_sha_1_are_read() {
    let Some(site) = Site::new() else { return };
    let reply = site.reply_in_the_way("tsa", "precise", "sha256", &[]);
    let printed = site.tsa.openssl(&format!("ts -reply -text -in {reply}"));
    let mut lines = printed.lines();
    let time = lines.find_map(|line| line.strip_prefix("Time stamp: "));
    let time = time.expect("it says so");
    let said = site.keep(&reply, &[], 0, "kept");
    // "Nov 27 18:00:00.123 2026 GMT"; zeros at the end aren't shown.
    let clock = time.split_whitespace().nth(2).expect("it has a time");
    let clock = clock.trim_end_matches('0').trim_end_matches('.');
    assert!(said.contains(clock), "{time} {said}");
}

#[test]
fn how_far_off_a_time_may_be_is_shown_as_the_authority_says_it() {
    let Some(site) = Site::new() else { return };
    let configuration = site.tsa.join("configuration");
    let before = fs::read_to_string(&configuration).expect("it's there");
    for (accuracy, printed, shown, seconds) in [
        ("", "Accuracy: unspecified", "Z, said", None),
        (
            "accuracy = secs:1",
            "0x01 seconds, unspecified millis",
            "Z ± 1 s, said",
            Some(1.0),
        ),
        (
            "accuracy = secs:2, millisecs:500, microsecs:100",
            "0x02 seconds, 0x01F4 millis, 0x64 micros",
            "Z ± 2.5001 s, said",
            Some(2.5001),
        ),
        (
            "accuracy = millisecs:20",
            "0x14 millis",
            "Z ± 0.02 s, said",
            Some(0.02),
        ),
        (
            "accuracy = microsecs:7",
            "0x07 micros",
            "Z ± 0.000007 s, said",
            Some(0.000_007),
        ),
        (
            "accuracy = secs:86400",
            "0x015180 seconds",
            "Z ± 86400 s, said",
            Some(86400.0),
        ),
    ] {
        let section = "[of]\nserial = serial.tsa\ndefault_policy = 1.2.3.4.1\ndigests = sha256\n";
        let more = format!("{before}{section}{accuracy}\n");
        fs::write(&configuration, more).expect("it can be written");
        for file in site.files() {
            fs::remove_file(file).expect("it can be removed");
        }
        let reply = site.reply_in_the_way("tsa", "of", "sha256", &[]);
        let text = site.tsa.openssl(&format!("ts -reply -text -in {reply}"));
        assert!(text.contains(printed), "{accuracy}: {text}");
        site.keep(&reply, &[], 0, shown);
        let root = site.root();
        let said = site.verified(&["--tsa-cert", &root], 0, shown);
        let grade = shown.replace(", said", ")");
        assert!(
            said.contains("time-stamped at") && said.contains(&grade),
            "{said}"
        );
        let [one] = &site.existed(&root)[..] else {
            panic!("{accuracy}");
        };
        assert_eq!(
            one.get("accuracy_s").and_then(serde_json::Value::as_f64),
            seconds
        );
    }
}

#[test]
fn whatever_an_authority_says_that_refuses_is_told_in_short() {
    // TLVs in DER, of lengths of two bytes.
    let of = |tag: u8, value: &[u8]| {
        let length = (value.len() as u16).to_be_bytes();
        [&[tag, 0x82], &length[..], value].concat()
    };
    let failures = of(0x03, &[&[0], &[0xff; 20_000][..]].concat());
    let texts = of(0x30, &of(0x0c, &[b'x'; 300]).repeat(100));
    let status = of(0x30, &[b"\x02\x01\x02", &texts[..], &failures].concat());
    let said = token_in(&of(0x30, &status)).expect_err("it refuses");
    assert!(said.starts_with("refuses: it doesn't take the hash function"));
    assert!(said.len() < 3000, "{}", said.len());
}

/// A site, an authority's reply with the certificate of its issuer, and the token in it.
fn answered() -> Option<(Site, String, Vec<u8>)> {
    let site = Site::with(P256)?;
    let reply = site.reply_in_the_way("tsa", "stamps", "sha256", &["-chain", "ca.pem"]);
    let token = token_in(&fs::read(&reply).expect("there")).expect("it's granted");
    Some((site, reply, token))
}

#[test]
fn of_a_token_each_changed_byte_is_noticed_but_in_certificates_that_arent_the_signer_s() {
    let Some((site, reply, token)) = answered() else {
        return;
    };
    let tsa = &site.tsa;
    let anchors = Anchors::read(&tsa.join("ca.pem")).expect("it's PEM");
    let der = |name: &str| {
        tsa.openssl(&format!("x509 -in {name}.pem -outform DER -out {name}.der"));
        fs::read(tsa.join(&format!("{name}.der"))).expect("there")
    };
    let (own, root) = (der("tsa"), der("ca"));
    let find = |part: &[u8]| {
        token
            .windows(part.len())
            .position(|window| window == part)
            .expect("it's in it")
    };
    let unsigned = find(&root)..find(&root) + root.len();
    assert!(find(&own) > 0);
    let begun = Instant::now();
    let said = |bytes: &[u8]| {
        check(&Token::parse(bytes).ok()?, Some(&anchors))
            .ok()
            .map(|said| said.when.to_string())
    };
    let good = said(&token).expect("it's good");
    let stamped = Token::parse(&token).expect("it's good").imprint;
    for at in 0..token.len() {
        for change in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            let mut changed = token.clone();
            changed[at] ^= change;
            if let Some(time) = said(&changed) {
                let parsed = Token::parse(&changed).expect("it was read");
                assert!(
                    unsigned.contains(&at),
                    "byte {at}, {change:#x} of {}",
                    token.len()
                );
                assert!(time == good && parsed.imprint == stamped);
            }
        }
        assert!(said(&token[..at]).is_none(), "cut at {at}");
    }
    assert!(said(&[&token[..], b"\0"].concat()).is_none());
    assert!(
        begun.elapsed() < Duration::from_secs(300),
        "{:?}",
        begun.elapsed()
    );
    // Of the file that is kept no byte can be changed at all.
    site.keep(&reply, &[], 0, "kept");
    let whole = fs::read(&site.files()[0]).expect("there");
    let kept = Stamp::parse(&whole).expect("it's one");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        if let Ok(other) = Stamp::parse(&changed) {
            assert!(
                other != kept && other.text().as_bytes() == changed,
                "byte {at}"
            );
        }
    }
}

#[test]
fn fuzzed_replies_tokens_and_files_are_refused_or_say_what_was_signed() {
    let Some((site, reply, token)) = answered() else {
        return;
    };
    site.keep(&reply, &[], 0, "kept");
    let kept = fs::read(&site.files()[0]).expect("there");
    let reply = fs::read(&reply).expect("there");
    let anchors = Anchors::read(&site.tsa.join("ca.pem")).expect("it's PEM");
    let good = Token::parse(&token).expect("it's good");
    let pieces: [&[u8]; 8] = [
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x00\x00",
        b"\x05\x00",
        b"\x02\x01\x02",
        b"\xa0\x82\x01\x00",
        b"\n",
        b"-----END CMS-----\n",
    ];
    fuzzing::fuzz(&[&reply, &token, &kept], &pieces, |_, input| {
        let _ = Query::parse(input);
        if let Ok(stamp) = Stamp::parse(input) {
            assert_eq!(stamp.text().as_bytes(), input);
        }
        for bytes in [Some(input.to_vec()), token_in(input).ok()]
            .into_iter()
            .flatten()
        {
            if let Ok(token) = Token::parse(&bytes)
                && check(&token, Some(&anchors)).is_ok()
            {
                assert_eq!(
                    (token.imprint, token.when),
                    (good.imprint.clone(), good.when)
                );
            }
        }
    });
}
