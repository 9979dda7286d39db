//! A sealed log, an authority that stamps it, and what the tool says of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use audit_logger::ffi::AUDIT_OK;

use crate::support::calls::{Logger, record};
use crate::support::tsa::Tsa;
use crate::support::{Scratch, run, sealed, tool};

pub const RSA: &str = "rsa:2048";
pub const P256: &str = "ec -pkeyopt ec_paramgen_curve:prime256v1";
pub const P384: &str = "ec -pkeyopt ec_paramgen_curve:secp384r1";

/// What the tool printed and said, if it ended so.
#[track_caller]
pub fn ends(arguments: &[&str], code: i32, says: &str) -> String {
    let output = tool()
        .args(arguments)
        // No proxy of the machine's.
        .env("no_proxy", "*")
        .output()
        .expect("the tool starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let ended = output.status.code();
    assert!(
        ended == Some(code) && said.contains(says),
        "{arguments:?}: {ended:?} {said}"
    );
    said
}

pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub fn name(path: &Path) -> String {
    text(path.file_name().expect("it has one").as_ref())
}

/// A log of three entries, an authority, and their paths as arguments.
pub struct Site {
    pub scratch: Scratch,
    pub tsa: Arc<Tsa>,
    pub log: String,
    asked: AtomicUsize,
}

impl Site {
    /// With an authority `tsa` by RSA. `None`, and the test is skipped, where openssl is absent.
    pub fn new() -> Option<Site> {
        Site::with(RSA)
    }

    /// With an authority `tsa` that has a key of that kind.
    pub fn with(key: &str) -> Option<Site> {
        let tsa = Arc::new(Tsa::new()?);
        tsa.stamper("tsa", key);
        let scratch = Scratch::new();
        let (log, _) = sealed(&scratch, 3);
        Some(Site {
            log: text(&log),
            scratch,
            tsa,
            asked: AtomicUsize::new(0),
        })
    }

    pub fn path(&self, name: &str) -> String {
        text(&self.scratch.join(name))
    }

    /// The certificate of who issued those of all authorities here.
    pub fn root(&self) -> String {
        self.tsa.path("ca.pem")
    }

    /// A new request, written out.
    pub fn query(&self) -> PathBuf {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let file = self.path(&format!("query-{number}"));
        ends(&["timestamp", &self.log, "--query-out", &file], 0, "wrote");
        PathBuf::from(file)
    }

    /// The file with an authority's reply to a new request.
    pub fn reply(&self, by: &str) -> String {
        self.reply_in_the_way(by, "stamps", "sha256", &[])
    }

    /// The same, in the way of a section of the authority's configuration, by a hash function.
    pub fn reply_in_the_way(&self, by: &str, way: &str, hash: &str, more: &[&str]) -> String {
        let query = self.query();
        let reply = query.with_extension("tsr");
        run(self.tsa.replying(by, way, hash, &query, &reply).args(more));
        text(&reply)
    }

    /// Keeps the token in a reply, or is refused.
    #[track_caller]
    pub fn keep(&self, reply: &str, more: &[&str], code: i32, says: &str) -> String {
        let keep = ["timestamp", &self.log, "--reply-in", reply];
        ends(&[&keep, more].concat(), code, says)
    }

    /// Has an authority of that name answer a new request, and keeps its token. Returns the file.
    #[track_caller]
    pub fn stamp(&self, by: &str) -> PathBuf {
        let before = self.files();
        self.keep(&self.reply(by), &[], 0, "kept");
        let mut new = self.files();
        new.retain(|file| !before.contains(file));
        let [one] = &new[..] else {
            panic!("{new:?}");
        };
        one.clone()
    }

    /// The time stamps that are kept.
    pub fn files(&self) -> Vec<PathBuf> {
        let folder = Path::new(&self.log).join(".integrity/timestamps");
        let mut files: Vec<_> = fs::read_dir(folder)
            .map(|files| files.map(|file| file.expect("readable").path()).collect())
            .unwrap_or_default();
        files.sort();
        files
    }

    #[track_caller]
    pub fn verified(&self, more: &[&str], code: i32, says: &str) -> String {
        ends(&[&["verify", &self.log], more].concat(), code, says)
    }

    /// The report's JSON, with these certificates.
    pub fn report(&self, certificates: &str) -> Value {
        let arguments = ["verify", &self.log, "--json", "--tsa-cert", certificates];
        let output = tool().args(arguments).output().expect("the tool starts");
        serde_json::from_slice(&output.stdout).expect("it's JSON")
    }

    /// What it says of time stamps that count.
    pub fn existed(&self, certificates: &str) -> Vec<Value> {
        let report = self.report(certificates);
        let existed = report["timestamps"]["existed"].as_array();
        existed.expect("it's a list").clone()
    }

    /// A copy of the log as it is now.
    pub fn copy(&self, name: &str) -> PathBuf {
        let copy = self.scratch.join(name);
        run(std::process::Command::new("cp")
            .arg("-a")
            .args([Path::new(&self.log), &copy]));
        copy
    }

    /// Adds entries.
    pub fn write(&self, entries: usize) {
        let logger = Logger::new(&json!({
            "output_path": self.log,
            "integrity": {"guard_file": self.scratch.join("guard"), "origin": "audit.example/test"},
        }));
        for _ in 0..entries {
            let _ = logger.log(&record());
        }
        let _ = logger.close(-1).expect(AUDIT_OK);
    }
}
