//! A copy of a log in a bucket whose objects can't be taken back, made and read by the commands of
//! docs/operations.md, against moto's server.

mod support;

use std::ffi::OsString;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use audit_logger::ffi::*;
use support::calls::{Logger, record};
use support::pace::until;
use support::tls::free_port;
use support::{Scratch, python_with, root, tool};

/// A server of buckets, and the shell that asks it.
struct Buckets {
    server: Child,
    scratch: Scratch,
    port: u16,
    path: OsString,
}

impl Drop for Buckets {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Buckets {
    fn start() -> Option<Buckets> {
        python_with("moto.server")?;
        let python = PathBuf::from(python_with("awscli")?);
        let scratch = Scratch::new();
        let port = free_port();
        let server = Command::new(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        // `aws` and `audit-logger`, as a shell finds them.
        let bin = scratch.join("bin");
        std::fs::create_dir(&bin).expect("it can be made");
        let aws = python.with_file_name("aws");
        std::os::unix::fs::symlink(aws, bin.join("aws")).expect("it can be made");
        let tool = tool();
        std::os::unix::fs::symlink(tool.get_program(), bin.join("audit-logger"))
            .expect("it can be made");
        let mut path = OsString::from(bin);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let buckets = Buckets {
            server,
            scratch,
            port,
            path,
        };
        until("the server listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(buckets)
    }

    fn shell(&self, script: &str) -> Output {
        Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.scratch.path())
            .env("PATH", &self.path)
            .env("HOME", self.scratch.path())
            .env(
                "AWS_ENDPOINT_URL",
                format!("http://127.0.0.1:{}", self.port),
            )
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .expect("it starts")
    }

    #[track_caller]
    fn done(&self, script: &str) -> String {
        let output = self.shell(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// The three blocks of the recipe: once, each time, to verify.
fn recipe() -> [String; 3] {
    let text = std::fs::read_to_string(root().join("docs/operations.md")).expect("it's there");
    let (_, part) = text
        .split_once("## Write-once copies")
        .expect("it's described");
    let (part, _) = part.split_once("\n## ").expect("it ends");
    let blocks = part.split("```shell\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned());
    let blocks: Vec<String> = blocks.collect();
    blocks.try_into().expect("three blocks")
}

/// Whether that is said, among what the other tool says.
fn is_intact(shown: &str) -> bool {
    shown.lines().any(|line| line == "intact (signed)")
}

fn entries(log: &Path, count: usize) {
    let logger = Logger::new(&json!({"output_path": log}));
    for _ in 0..count {
        logger.log(&record()).expect(AUDIT_OK);
    }
    logger.flush().expect(AUDIT_OK);
}

#[test]
fn a_write_once_copy_verifies_and_gives_back_what_was_put_over() {
    let Some(buckets) = Buckets::start() else {
        return;
    };
    let [once, each_time, verify] = recipe();
    let log = buckets.scratch.join("audit_logs");
    entries(&log, 5);
    let vkey = buckets.scratch.join("log.vkey");
    std::fs::copy(log.join(".integrity/vkey"), vkey).expect("it's there");
    buckets.done(&once);
    buckets.done(&each_time);
    entries(&log, 3);
    buckets.done(&each_time);
    let shown = buckets.done(&verify);
    assert!(is_intact(&shown), "{shown}");
    let copy = buckets.scratch.join("copy");
    assert!(!copy.join(".state").exists(), "the key was copied");

    // No version goes.
    let list = |latest: &str| {
        let listed = buckets.done(&format!(
            "aws s3api list-object-versions --bucket audit-copies --prefix audit_logs/audit_ \
             --query 'Versions[?IsLatest==`{latest}`].[Key,VersionId]' --output text"
        ));
        let mut words = listed.split_whitespace().map(str::to_owned);
        (
            words.next().expect("a key"),
            words.next().expect("a version"),
        )
    };
    let (key, version) = list("true");
    let one = format!("--bucket audit-copies --key {key} --version-id {version}");
    let deleted = buckets.shell(&format!("aws s3api delete-object {one}"));
    let said = String::from_utf8_lossy(&deleted.stderr);
    assert!(
        !deleted.status.success() && said.contains("AccessDenied"),
        "{said}"
    );

    // What is put in front of it is found, and what was there can be had.
    std::fs::write(buckets.scratch.join("forged"), "{}\n").expect("it can be written");
    buckets.done(&format!("aws s3 cp forged s3://audit-copies/{key}"));
    let found = buckets.shell(&verify);
    assert_eq!(
        found.status.code(),
        Some(1),
        "the forged file wasn't noticed"
    );
    let name = key.trim_start_matches("audit_logs/");
    buckets.done(&format!("aws s3api get-object {one} copy/{name}"));
    let shown = buckets.done("audit-logger verify copy --copy --vkey log.vkey");
    assert!(is_intact(&shown), "{shown}");
}
