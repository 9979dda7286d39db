//! A time stamping authority on loopback: `openssl ts`, with certificates made for a test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::{Server, Then, response};
use super::{Scratch, available, run};
use std::io::Write as _;

/// What a certificate of an authority must say.
pub const STAMPS: &str =
    "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n";

const CONFIGURATION: &str = "
[tsa]
default_tsa = stamps
[stamps]
serial = serial.tsa
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
[precise]
serial = serial.tsa
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha1
clock_precision_digits = 3
[strict]
serial = serial.tsa
default_policy = 1.2.3.4.1
digests = sha512
[ca]
default_ca = issues
[issues]
database = index
serial = serial.ca
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
";

/// An authority that issues certificates, and those that it issued.
pub struct Tsa {
    scratch: Scratch,
    asked: AtomicUsize,
}

impl Tsa {
    /// `None`, and the test is skipped, where openssl is absent.
    pub fn new() -> Option<Tsa> {
        if !available("openssl") {
            return None;
        }
        let tsa = Tsa {
            scratch: Scratch::new(),
            asked: AtomicUsize::new(0),
        };
        for (name, text) in [
            ("configuration", CONFIGURATION),
            ("index", ""),
            ("serial.ca", "1000\n"),
        ] {
            std::fs::write(tsa.join(name), text).expect("it can be written");
        }
        tsa.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -keyout ca.key \
             -out ca.pem -subj /CN=Root -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign",
        );
        Some(tsa)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The path of a file of the authority's, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.join(name).to_string_lossy().into_owned()
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut openssl = Command::new("openssl");
        openssl
            .current_dir(self.scratch.path())
            .args(arguments.split_whitespace());
        openssl
    }

    pub fn openssl(&self, arguments: &str) -> String {
        run(&mut self.command(arguments))
    }

    /// A certificate `<name>.pem` by `ca`, with a new key of a kind, for what its extensions say. It's valid for
    /// some days unless dates are given.
    pub fn issue(&self, name: &str, key: &str, extensions: &str, dates: &str) {
        self.openssl(&format!(
            "req -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        self.certified(name, extensions, dates);
    }

    /// The same for the key in `<name>.key`.
    pub fn certify(&self, name: &str, extensions: &str, dates: &str) {
        self.openssl(&format!(
            "req -new -key {name}.key -out {name}.csr -subj /CN={name}"
        ));
        self.certified(name, extensions, dates);
    }

    fn certified(&self, name: &str, extensions: &str, dates: &str) {
        std::fs::write(self.join("extensions"), extensions).expect("it can be written");
        let dates = if dates.is_empty() { "-days 5" } else { dates };
        self.openssl(&format!(
            "ca -batch -notext -config configuration -cert ca.pem -keyfile ca.key -in {name}.csr \
             -out {name}.pem -extfile extensions {dates}"
        ));
    }

    /// An authority's certificate with a key of that kind.
    pub fn stamper(&self, name: &str, key: &str) {
        self.issue(name, key, STAMPS, "");
    }

    /// How `name` is asked for a reply: in which section's way, by which hash function.
    pub fn replying(
        &self,
        name: &str,
        section: &str,
        hash: &str,
        query: &Path,
        reply: &Path,
    ) -> Command {
        let mut openssl = self.command(&format!(
            "ts -reply -config configuration -section {section} -signer {name}.pem -inkey {name}.key -{hash}"
        ));
        openssl.arg("-queryfile").arg(query).arg("-out").arg(reply);
        openssl
    }

    /// The reply of `name` to a query.
    pub fn reply(&self, name: &str, query: &Path, reply: &Path) {
        run(&mut self.replying(name, "stamps", "sha256", query, reply));
    }

    /// `name` answers over HTTP.
    pub fn serve(self: &Arc<Self>, name: &'static str) -> Server {
        let tsa = Arc::clone(self);
        Server::start(move |request, stream| {
            let number = tsa.asked.fetch_add(1, Ordering::SeqCst);
            let query = tsa.join(&format!("asked-{number}"));
            let reply = tsa.join(&format!("said-{number}"));
            std::fs::write(&query, &request.body)?;
            tsa.reply(name, &query, &reply);
            let headers = [("content-type", "application/timestamp-reply")];
            stream.write_all(&response(200, &headers, &std::fs::read(&reply)?))?;
            Ok(Then::Keep)
        })
    }
}
