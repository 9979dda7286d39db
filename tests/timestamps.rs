//! Time stamps (RFC 3161), with `openssl ts` as the authority and as another verifier, and with rfc3161-client of
//! tests/timestamps/requirements.txt as a third; skipped without them.

mod support;

// What the tool does with tokens, to be tried on changed ones.
#[allow(dead_code)]
#[path = "../src/fuzzing.rs"]
mod fuzzing;
#[allow(dead_code)]
#[path = "../src/bin/audit-logger/stamp/mod.rs"]
mod stamp;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use audit_logger::ffi::AUDIT_OK;
use stamp::authority::{Anchors, check};
use stamp::kept::{Stamp, keep};
use stamp::token::{Token, shown, token_in};
use support::calls::{Logger, record};
use support::server::{Server, response};
use support::tsa::{STAMPS, Tsa};
use support::{Clock, Scratch, python_with, root, run, sealed, tool};

const RSA: &str = "rsa:2048";

/// What the tool printed and said, and its exit code.
fn tool_with(arguments: &[&str]) -> (Option<i32>, String) {
    let output = tool()
        .args(arguments)
        // No proxy of the machine's.
        .env("no_proxy", "*")
        .output()
        .expect("the tool starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

#[track_caller]
fn ends(arguments: &[&str], code: i32, says: &str) -> String {
    let (ended, said) = tool_with(arguments);
    assert!(
        ended == Some(code) && said.contains(says),
        "{arguments:?}: {ended:?} {said}"
    );
    said
}

/// A sealed log, an authority, and their paths as arguments.
struct Site {
    scratch: Scratch,
    tsa: Arc<Tsa>,
    log: String,
}

impl Site {
    fn new(entries: usize) -> Option<Site> {
        let tsa = Arc::new(Tsa::new()?);
        let scratch = Scratch::new();
        let (log, _) = sealed(&scratch, entries);
        let log = log.to_string_lossy().into_owned();
        Some(Site { scratch, tsa, log })
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).to_string_lossy().into_owned()
    }

    /// A request of a name, written out.
    fn query(&self, name: &str) -> PathBuf {
        let file = self.path(name);
        ends(&["timestamp", &self.log, "--query-out", &file], 0, "wrote");
        PathBuf::from(file)
    }

    /// Has an authority of that name answer a new request, and keeps its token. Returns the file.
    #[track_caller]
    fn stamp(&self, by: &str) -> PathBuf {
        let query = self.query(&format!("query-{}", self.files().len()));
        let reply = query.with_extension("tsr");
        self.tsa.reply(by, &query, &reply);
        let before = self.files();
        ends(
            &["timestamp", &self.log, "--reply-in", &text(&reply)],
            0,
            "kept",
        );
        let mut new = self.files();
        new.retain(|file| !before.contains(file));
        let [one] = &new[..] else {
            panic!("{new:?}");
        };
        one.clone()
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = Path::new(&self.log).join(".integrity/timestamps");
        let mut files: Vec<_> = fs::read_dir(folder)
            .map(|files| files.map(|file| file.expect("readable").path()).collect())
            .unwrap_or_default();
        files.sort();
        files
    }

    #[track_caller]
    fn verified(&self, more: &[&str], code: i32, says: &str) -> String {
        ends(&[&["verify", &self.log], more].concat(), code, says)
    }

    /// What the report's JSON says of time stamps, beside all of it.
    fn report(&self, more: &[&str]) -> Value {
        let arguments = [&["verify", &self.log, "--json"], more].concat();
        let output = tool().args(&arguments).output().expect("the tool starts");
        serde_json::from_slice(&output.stdout).expect("it's JSON")
    }

    /// Adds entries.
    fn write(&self, entries: usize) {
        let logger = Logger::new(&serde_json::json!({
            "output_path": self.log,
            "integrity": {"guard_file": self.scratch.join("guard"), "origin": "audit.example/test"},
        }));
        for _ in 0..entries {
            let _ = logger.log(&record());
        }
        let _ = logger.close(-1).expect(AUDIT_OK);
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Every file below a directory, with what is in it.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in fs::read_dir(directory).expect("it can be read") {
        let path = item.expect("readable").path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("it can be read"));
        }
    }
    found
}

/// The commands of docs/auditing.md by which openssl checks a file of a log.
fn by_openssl(site: &Site, file: &Path) -> String {
    let page = fs::read_to_string(root().join("docs/auditing.md")).expect("it's there");
    let commands = page.split_once("```shell\nFILE=").expect("it has them").1;
    let commands = commands.split_once("```").expect("the block ends").0;
    let commands = commands.split_once('\n').expect("there are more").1;
    let root = site.tsa.path("ca.pem");
    run(Command::new("sh")
        .current_dir(site.scratch.path())
        .env("FILE", file)
        .args(["-euc", &commands.replace("tsa-ca.pem", &root)]))
}

#[test]
fn openssl_answers_a_request_and_verifies_the_token_that_is_kept_with_each_key_and_hash() {
    let Some(site) = Site::new(3) else { return };
    for (name, key, hash) in [
        ("rsa", RSA, "sha256"),
        ("rsa3", "rsa:3072", "sha384"),
        ("rsa5", RSA, "sha512"),
        ("p256", "ec -pkeyopt ec_paramgen_curve:prime256v1", "sha256"),
        (
            "p256-384",
            "ec -pkeyopt ec_paramgen_curve:prime256v1",
            "sha384",
        ),
        ("p384", "ec -pkeyopt ec_paramgen_curve:secp384r1", "sha384"),
        (
            "p384-256",
            "ec -pkeyopt ec_paramgen_curve:secp384r1",
            "sha256",
        ),
    ] {
        site.tsa.stamper(name, key);
        let query = site.query(name);
        let asked = site
            .tsa
            .openssl(&format!("ts -query -text -in {}", text(&query)));
        assert!(
            asked.contains("sha256") && asked.contains("Certificate required: yes"),
            "{asked}"
        );
        let reply = query.with_extension("tsr");
        run(&mut site.tsa.replying(name, "stamps", hash, &query, &reply));
        let before = site.files();
        let arguments = ["timestamp", &site.log, "--reply-in", &text(&reply)];
        let said = ends(&arguments, 0, &format!("said by CN={name}"));
        assert!(said.contains("entries up to"), "{said}");
        let kept = site.files().into_iter().find(|file| !before.contains(file));
        let said = by_openssl(&site, &kept.expect("it's kept"));
        assert!(said.contains("Verification: OK"), "{said}");
        // The same once more is the same file.
        let kept = site.files();
        ends(&arguments, 0, "kept");
        assert_eq!(site.files(), kept);
    }
    let given = ["--tsa-cert", &site.tsa.path("ca.pem")];
    site.verified(&given, 0, "2 times before these");
    let existed = &site.report(&given)["timestamps"]["existed"];
    let existed = existed.as_array().expect("it's a list");
    let by = |name| existed.iter().filter(move |one| one["by"] == name).count();
    assert!(existed.len() == 7 && by("CN=p384-256") == 1, "{existed:?}");
}

#[test]
fn rfc3161_client_accepts_what_is_kept() {
    let Some(python) = python_with("rfc3161_client") else {
        return;
    };
    let Some(site) = Site::new(3) else { return };
    let other = Tsa::new().expect("openssl is there");
    for (name, key) in [
        ("rsa", RSA),
        ("p256", "ec -pkeyopt ec_paramgen_curve:prime256v1"),
    ] {
        site.tsa.stamper(name, key);
        let kept = site.stamp(name);
        let time = run(Command::new(&python)
            .arg(root().join("tests/timestamps/accepts.py"))
            .arg(kept)
            .args([site.tsa.path("ca.pem"), other.path("ca.pem")]));
        let report = site.report(&["--tsa-cert", &site.tsa.path("ca.pem")]);
        let times = report["timestamps"]["existed"]
            .as_array()
            .expect("there are some");
        assert!(
            times.iter().any(|one| one["time"] == time.trim()),
            "{time} {report}"
        );
    }
}

#[test]
fn an_authority_is_asked_over_http_and_its_answer_kept() {
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    let server = site.tsa.serve("tsa");
    let url = format!("http://{}/tsr", server.address());
    let certificates = site.tsa.path("ca.pem");
    ends(
        &["timestamp", &site.log, "--tsa", &url],
        0,
        "who that is wasn't checked",
    );
    ends(
        &[
            "timestamp",
            &site.log,
            "--tsa",
            &url,
            "--tsa-cert",
            &certificates,
        ],
        0,
        "said by CN=tsa",
    );
    let requests = server.requests();
    assert_eq!(requests[0].path, "/tsr");
    assert_eq!(
        requests[0].header("content-type"),
        Some("application/timestamp-query")
    );
    assert_ne!(
        requests[0].body, requests[1].body,
        "each has its own number"
    );
    assert_eq!(site.files().len(), 2);
    assert_eq!(
        site.report(&["--tsa-cert", &certificates])["timestamps"]["existed"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[test]
fn an_answer_that_is_refused_malformed_or_another_s_leaves_the_log_as_it_was() {
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    // To a request of before, and one that it doesn't want.
    let old = site.query("old");
    let reply = old.with_extension("tsr");
    site.tsa.reply("tsa", &old, &reply);
    let replayed = fs::read(&reply).expect("it's there");
    run(&mut site.tsa.replying("tsa", "strict", "sha256", &old, &reply));
    let refused = fs::read(&reply).expect("it's there");
    let before = snapshot(Path::new(&site.log));
    let typed = [("content-type", "application/timestamp-reply")];
    for (status, body, code, says) in [
        (200, replayed.clone(), 1, "to another request"),
        (
            200,
            refused.clone(),
            3,
            "refuses: it doesn't take the hash function",
        ),
        (
            200,
            b"<html>".to_vec(),
            1,
            "is neither a response nor a token",
        ),
        (200, Vec::new(), 1, "is neither"),
        (
            200,
            replayed[..replayed.len() - 1].to_vec(),
            1,
            "is neither",
        ),
        (200, vec![0x30; 70_000], 3, "bytes"),
        (500, replayed.clone(), 3, "answered 500"),
        (302, Vec::new(), 3, "answered 302"),
    ] {
        let server = Server::always(response(status, &typed, &body));
        let url = format!("http://{}", server.address());
        ends(&["timestamp", &site.log, "--tsa", &url], code, says);
        assert!(snapshot(Path::new(&site.log)) == before, "{says}");
    }
    ends(
        &["timestamp", &site.log, "--tsa", "http://127.0.0.1:1"],
        3,
        "127.0.0.1",
    );
    ends(
        &["timestamp", &site.log, "--tsa", "ftp://127.0.0.1"],
        2,
        "scheme",
    );
    // Another log's.
    let other = Site::new(2).expect("openssl is there");
    let query = other.query("query");
    let foreign = query.with_extension("tsr");
    site.tsa.reply("tsa", &query, &foreign);
    for (reply, code, says) in [
        (text(&foreign), 1, "isn't about a checkpoint of this log"),
        (text(&query), 1, "is neither"),
        (text(&reply), 3, "refuses"),
        (site.path("nothing"), 2, "isn't there"),
    ] {
        ends(&["timestamp", &site.log, "--reply-in", &reply], code, says);
    }
    // By somebody whom nobody vouches for.
    fs::write(&reply, &replayed).expect("it can be written");
    let stranger = Tsa::new().expect("openssl is there").path("ca.pem");
    let arguments = [
        "timestamp",
        &site.log,
        "--reply-in",
        &text(&reply),
        "--tsa-cert",
    ];
    ends(
        &[&arguments[..], &[&site.tsa.path("tsa.key")]].concat(),
        2,
        "holds no certificate",
    );
    assert!(!Path::new(&stranger).exists());
    assert!(snapshot(Path::new(&site.log)) == before);
    ends(&arguments[..4], 0, "kept");
}

#[test]
fn a_request_of_another_program_for_the_checkpoint_is_answered_too() {
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    let (query, reply) = (site.scratch.join("query"), site.scratch.join("reply"));
    for hash in ["sha256", "sha512"] {
        site.tsa.openssl(&format!(
            "ts -query -data {}/.integrity/checkpoint -{hash} -out {}",
            site.log,
            text(&query)
        ));
        site.tsa.reply("tsa", &query, &reply);
        // It asked for no certificates.
        let arguments = ["timestamp", &site.log, "--reply-in", &text(&reply)];
        ends(&arguments, 1, "give it by --tsa-cert");
        let certificate = site.tsa.path("tsa.pem");
        ends(
            &[&arguments[..], &["--tsa-cert", &certificate]].concat(),
            0,
            "kept",
        );
        site.verified(&["--tsa-cert", &certificate], 0, "said by CN=tsa");
    }
    // By its root alone it can't be checked: the certificate between isn't there.
    site.verified(
        &["--tsa-cert", &site.tsa.path("ca.pem")],
        1,
        "is neither in it nor given",
    );
}

#[test]
fn verify_says_since_when_entries_existed_and_by_whom() {
    let Some(site) = Site::new(3) else { return };
    site.verified(&["--tsa-cert", &site.tsa.path("ca.pem")], 1, "unstamped");
    site.tsa.stamper("tsa", RSA);
    site.stamp("tsa");
    site.write(4);
    site.stamp("tsa");
    let said = site.verified(
        &[],
        0,
        "2 time stamps, by whom wasn't checked: give --tsa-cert",
    );
    assert!(!said.contains("existed at"), "{said}");
    for given in ["ca.pem", "tsa.pem"] {
        let given = site.tsa.path(given);
        let report = site.report(&["--tsa-cert", &given]);
        let stamps = &report["timestamps"];
        assert_eq!(
            (&stamps["count"], &stamps["checked"]),
            (&2.into(), &true.into())
        );
        let existed = stamps["existed"].as_array().expect("it's a list");
        let size = |at: usize| existed[at]["entries"].as_u64().expect("it's a number");
        assert!(
            existed.len() == 2
                && size(0) < size(1)
                && size(1) <= report["size"].as_u64().expect("a number")
        );
        for one in existed {
            let said = format!(
                "entries up to {} existed at {}, said by CN=tsa",
                one["entries"],
                one["time"].as_str().expect("a text")
            );
            site.verified(&["--tsa-cert", &given], 0, &said);
            let file = Path::new(&site.log).join(one["file"].as_str().expect("a text"));
            assert!(site.files().contains(&file));
        }
        let grade = report["grade"].as_str().expect("a text");
        assert!(grade.contains("time-stamped at"), "{grade}");
    }
    // Somebody else.
    let other = Tsa::new().expect("openssl is there");
    let said = site.verified(
        &["--tsa-cert", &other.path("ca.pem")],
        1,
        "vouches for the certificate of CN=tsa",
    );
    assert!(
        said.contains("unstamped") && said.contains("forged"),
        "{said}"
    );
}

#[test]
fn a_token_counts_if_its_certificate_was_valid_then_and_is_for_time_stamps_alone() {
    let Some(site) = Site::new(3) else { return };
    let tsa = &site.tsa;
    let Some(clock) = Clock::new(&site.scratch, "2026-01-15 12:00:00") else {
        return;
    };
    let window = "-startdate 20260101000000Z -enddate 20260201000000Z";
    tsa.issue("lapsed", RSA, STAMPS, window);
    let (query, reply) = (site.query("query"), site.scratch.join("reply"));
    run(clock.on(&mut tsa.replying("lapsed", "stamps", "sha256", &query, &reply)));
    let keep = ["timestamp", &site.log, "--reply-in", &text(&reply)];
    ends(&keep, 0, "existed at 2026-01-15T12:00:0");
    for given in ["ca.pem", "lapsed.pem"] {
        let said = site.verified(&["--tsa-cert", &tsa.path(given)], 0, "said by CN=lapsed");
        assert!(
            said.contains("was valid then and has expired since, at 2026-02-01T00:00:00Z"),
            "{said}"
        );
    }
    // Signed when it had expired, or wasn't valid yet. openssl signs all the same.
    for time in ["2026-02-01 00:00:02", "2025-12-31 23:59:50"] {
        clock.set(time);
        let query = site.query(&format!("query {time}"));
        run(clock.on(&mut tsa.replying("lapsed", "stamps", "sha256", &query, &reply)));
        ends(
            &keep,
            1,
            "was valid from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z, and the token is of",
        );
    }
}

/// A token over the log's checkpoint that `openssl cms` signs, with whatever certificate and algorithm.
fn forged(site: &Site, by: &str, more: &str) -> Vec<u8> {
    let query = site.query(&format!("query-of-{by}"));
    let reply = site.scratch.join("reply");
    site.tsa.reply("tsa", &query, &reply);
    for command in [
        format!("ts -reply -in {} -token_out -out token", text(&reply)),
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
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    let reply = site.scratch.join("signed");
    let keep = ["timestamp", &site.log, "--reply-in", &text(&reply)];
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
        fs::write(&reply, forged(&site, name, "-md sha256")).expect("it can be written");
        ends(&keep, 1, says);
    }
    fs::write(&reply, by_ed25519(&site)).expect("it can be written");
    ends(&keep, 0, "said by CN=ed25519");
    for hash in ["sha256", "sha384", "sha512"] {
        let name = format!("pss-{hash}");
        site.tsa.stamper(&name, RSA);
        let pss = "-keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:digest";
        fs::write(&reply, forged(&site, &name, &format!("-md {hash} {pss}")))
            .expect("it can be written");
        ends(&keep, 0, &format!("said by CN={name}"));
    }
    site.verified(
        &["--tsa-cert", &site.tsa.path("ca.pem")],
        0,
        "said by CN=pss-sha512",
    );
}

#[test]
fn a_chain_of_certificates_counts_in_whatever_order_it_stands() {
    let Some(site) = Site::new(3) else { return };
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
    let pem = |name: &str| fs::read_to_string(tsa.join(name)).expect("it's there");
    let orders = [["between.pem", "ca.pem"], ["ca.pem", "between.pem"]];
    for (number, order) in orders.iter().enumerate() {
        fs::write(tsa.join("chain.pem"), order.map(pem).concat()).expect("it can be written");
        let query = site.query(&format!("query-{number}"));
        let reply = query.with_extension("tsr");
        run(tsa
            .replying("leaf", "stamps", "sha256", &query, &reply)
            .args(["-chain", "chain.pem"]));
        ends(
            &[
                "timestamp",
                &site.log,
                "--reply-in",
                &text(&reply),
                "--tsa-cert",
                &tsa.path("ca.pem"),
            ],
            0,
            "CN=leaf",
        );
    }
    // Without the certificate between: it can be given beside.
    let query = site.query("bare");
    let reply = query.with_extension("tsr");
    tsa.reply("leaf", &query, &reply);
    let keep = [
        "timestamp",
        &site.log,
        "--reply-in",
        &text(&reply),
        "--tsa-cert",
    ];
    ends(
        &[&keep[..], &[&tsa.path("ca.pem")]].concat(),
        1,
        "nobody in --tsa-cert vouches",
    );
    fs::write(
        tsa.join("both.pem"),
        ["between.pem", "ca.pem"].map(pem).concat(),
    )
    .expect("it can be written");
    ends(
        &[&keep[..], &[&tsa.path("both.pem")]].concat(),
        0,
        "CN=leaf",
    );
}

#[test]
fn times_finer_than_a_second_and_certificates_named_by_sha_1_are_read() {
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    let query = site.query("query");
    let reply = query.with_extension("tsr");
    run(&mut site
        .tsa
        .replying("tsa", "precise", "sha256", &query, &reply));
    let printed = site
        .tsa
        .openssl(&format!("ts -reply -text -in {}", text(&reply)));
    let time = printed
        .lines()
        .find_map(|line| line.strip_prefix("Time stamp: "))
        .expect("it says so");
    let said = ends(
        &["timestamp", &site.log, "--reply-in", &text(&reply)],
        0,
        "kept",
    );
    // "Nov 27 18:00:00.123 2026 GMT"; zeros at the end aren't shown.
    let clock = time.split_whitespace().nth(2).expect("it has a time");
    let clock = clock.trim_end_matches('0').trim_end_matches('.');
    assert!(said.contains(clock), "{time} {said}");
}

#[test]
fn a_tree_that_was_put_back_or_begun_anew_doesnt_fit_the_time_stamps_that_are_left() {
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    let given = site.tsa.path("ca.pem");
    let old = site.scratch.join("old");
    run(Command::new("cp")
        .arg("-a")
        .args([Path::new(&site.log), &old]));
    site.write(3);
    let kept = site.stamp("tsa");
    let folder = old.join(".integrity/timestamps");
    fs::create_dir(&folder).expect("it can be made");
    let name = kept.file_name().expect("it has one");
    fs::copy(&kept, folder.join(name)).expect("it can be copied");
    let place = format!(".integrity/timestamps/{}", name.to_string_lossy());
    let put_back = text(&old);
    for more in [&[][..], &["--tsa-cert", &given]] {
        let said = ends(&[&["verify", &put_back], more].concat(), 1, "rolled_back");
        assert!(
            said.contains(&place) && !said.contains("existed at"),
            "{said}"
        );
    }
    // Begun anew under the same key, and grown beyond it.
    for file in ["heads", "checkpoint", "state", "recent", "guarded"] {
        fs::remove_file(Path::new(&site.log).join(".integrity").join(file)).ok();
    }
    fs::remove_dir_all(Path::new(&site.log).join(".integrity/tile")).expect("it can be removed");
    fs::remove_file(site.scratch.join("guard")).expect("it can be removed");
    site.write(40);
    let said = site.verified(&["--tsa-cert", &given], 1, "give another root");
    assert!(
        said.contains("rolled_back") && said.contains("unstamped"),
        "{said}"
    );
}

#[test]
fn what_stands_in_a_time_stamp_s_place_and_isnt_one_is_named() {
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    let given = site.tsa.path("ca.pem");
    let kept = site.stamp("tsa");
    site.write(2);
    let newer = site.stamp("tsa");
    let name = |path: &Path| {
        path.file_name()
            .expect("it has one")
            .to_string_lossy()
            .into_owned()
    };
    let (whole, other) = (
        fs::read(&kept).expect("there"),
        fs::read(&newer).expect("there"),
    );
    let stamp = |bytes: &[u8]| Stamp::parse(bytes).expect("it's one");
    // The token of one checkpoint with another.
    let mixed = Stamp {
        note: stamp(&other).note,
        token: stamp(&whole).token,
    };
    let folder = kept.parent().expect("it has one").to_owned();
    let strange = folder.join(mixed.name().expect("it has a size"));
    fs::write(&strange, mixed.text()).expect("it can be written");
    for more in [&[][..], &["--tsa-cert", &given]] {
        let said = site.verified(
            more,
            1,
            "forged: the token is of something else than the checkpoint",
        );
        assert!(said.contains(&name(&strange)), "{said}");
    }
    fs::remove_file(&strange).expect("it can be removed");
    for (bytes, says) in [
        (&whole[..whole.len() / 2], "isn't a checkpoint and a token"),
        (b"", "isn't a checkpoint and a token"),
        (&other[..], "isn't what its name says"),
    ] {
        fs::write(&kept, bytes).expect("it can be written");
        let said = site.verified(&[], 1, says);
        assert!(
            said.contains(&name(&kept)) && said.contains("unreadable"),
            "{said}"
        );
    }
    fs::remove_file(&kept).expect("it can be removed");
    run(Command::new("mkfifo").arg(&kept));
    site.verified(&["--tsa-cert", &given], 1, "not a plain file");
}

#[test]
fn two_that_keep_time_stamps_at_once_are_not_in_each_other_s_way() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 3);
    let note = fs::read_to_string(log.join(".integrity/checkpoint")).expect("it's there");
    let keep_many = &|of: u8| {
        for number in 0..100 {
            let token = Vec::from([of, number]);
            let note = note.clone();
            keep(&log, &Stamp { note, token }).expect("it's kept");
        }
    };
    std::thread::scope(|scope| {
        for of in 0..8 {
            scope.spawn(move || keep_many(of));
        }
    });
    let kept = fs::read_dir(log.join(".integrity/timestamps")).expect("it's there");
    assert_eq!(kept.count(), 800);
}

#[test]
fn a_time_stamp_that_somebody_changed_isn_t_called_kept() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 3);
    let note = fs::read_to_string(log.join(".integrity/checkpoint")).expect("it's there");
    let token = b"one".to_vec();
    let stamp = Stamp { note, token };
    let file = log.join(keep(&log, &stamp).expect("it's kept"));
    keep(&log, &stamp).expect("it's kept already");
    for other in ["", &stamp.text().replace("CMS", "PEM")] {
        fs::write(&file, other).expect("it can be written");
        let error = keep(&log, &stamp).expect_err("another is there");
        assert!(
            error.to_string().contains("holds something else"),
            "{error}"
        );
    }
}

#[test]
fn a_copy_that_was_taken_while_the_log_grew_is_intact_with_newer_time_stamps() {
    let Some(site) = Site::new(3) else { return };
    site.tsa.stamper("tsa", RSA);
    let given = site.tsa.path("ca.pem");
    let copy = site.scratch.join("copy");
    site.stamp("tsa");
    run(Command::new("cp")
        .arg("-a")
        .args([Path::new(&site.log), &copy]));
    site.write(4);
    let newer = site.stamp("tsa");
    let into = copy
        .join(".integrity/timestamps")
        .join(newer.file_name().expect("it has one"));
    fs::copy(&newer, &into).expect("it can be copied");
    let copy = text(&copy);
    let arguments = ["verify", &copy, "--copy", "--tsa-cert", &given];
    let said = ends(&arguments, 0, "more are known of");
    assert_eq!(said.matches("existed at").count(), 1, "{said}");
    // With the newer one alone, nothing that is there is stamped, and nothing is wrong.
    for file in fs::read_dir(Path::new(&copy).join(".integrity/timestamps")).expect("there") {
        let file = file.expect("readable").path();
        if file != into {
            fs::remove_file(file).expect("it can be removed");
        }
    }
    let said = ends(&arguments, 0, "intact");
    assert!(!said.contains("existed at"), "{said}");
}

#[test]
fn of_a_token_each_changed_byte_is_noticed_but_in_certificates_that_arent_the_signer_s() {
    let Some(site) = Site::new(3) else { return };
    let tsa = &site.tsa;
    tsa.stamper("tsa", "ec -pkeyopt ec_paramgen_curve:prime256v1");
    let query = site.query("query");
    let reply = query.with_extension("tsr");
    run(tsa
        .replying("tsa", "stamps", "sha256", &query, &reply)
        .args(["-chain", "ca.pem"]));
    let token = token_in(&fs::read(&reply).expect("there")).expect("it's granted");
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
            .map(|said| shown(said.time))
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
    ends(
        &["timestamp", &site.log, "--reply-in", &text(&reply)],
        0,
        "kept",
    );
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
    let Some(site) = Site::new(3) else { return };
    let tsa = &site.tsa;
    tsa.stamper("tsa", "ec -pkeyopt ec_paramgen_curve:prime256v1");
    let query = site.query("query");
    let reply = query.with_extension("tsr");
    run(tsa
        .replying("tsa", "stamps", "sha256", &query, &reply)
        .args(["-chain", "ca.pem"]));
    ends(
        &["timestamp", &site.log, "--reply-in", &text(&reply)],
        0,
        "kept",
    );
    let kept = fs::read(&site.files()[0]).expect("there");
    let reply = fs::read(&reply).expect("there");
    let token = token_in(&reply).expect("it's granted");
    let anchors = Anchors::read(&tsa.join("ca.pem")).expect("it's PEM");
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
        let _ = stamp::token::Query::parse(input);
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
                    (token.imprint, token.time),
                    (good.imprint.clone(), good.time)
                );
            }
        }
    });
}
