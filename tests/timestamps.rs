//! Time stamps (RFC 3161), with `openssl ts` as the authority and as another verifier, and with rfc3161-client of
//! tests/timestamps/requirements.txt as a third; skipped without them.

mod support;

// What the tool does with tokens, to be tried on changed ones.
#[allow(dead_code)]
#[path = "../src/fuzzing.rs"]
mod fuzzing;
#[path = "timestamps/pss.rs"]
mod pss;
#[path = "timestamps/site.rs"]
mod site;
#[allow(dead_code)]
#[path = "../src/bin/audit-logger/stamp/mod.rs"]
mod stamp;
#[path = "timestamps/tokens.rs"]
mod tokens;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use audit_logger::ffi::*;
use audit_logger::tool::stamp::Stamp;

use site::{P256, P384, RSA, Site, ends, name, text};
use stamp::kept::keep;
use support::calls::Answer;
use support::server::{Server, response};
use support::tsa::{STAMPS, Tsa};
use support::{Clock, Scratch, python_with, root, run, sealed, tool};

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
    let root = site.root();
    run(Command::new("sh")
        .current_dir(site.scratch.path())
        .env("FILE", file)
        .args(["-euc", &commands.replace("tsa-ca.pem", &root)]))
}

#[test]
fn openssl_answers_a_request_and_verifies_the_token_that_is_kept_with_each_key_and_hash() {
    let Some(site) = Site::new() else { return };
    for (name, key, hash) in [
        ("rsa", RSA, "sha256"),
        ("rsa3", "rsa:3072", "sha384"),
        ("rsa5", RSA, "sha512"),
        ("p256", P256, "sha256"),
        ("p256-384", P256, "sha384"),
        ("p384", P384, "sha384"),
        ("p384-256", P384, "sha256"),
    ] {
        site.tsa.stamper(name, key);
        let before = site.files();
        let reply = site.reply_in_the_way(name, "stamps", hash, &[]);
        let said = site.keep(&reply, &[], 0, &format!("said by CN={name}"));
        assert!(said.contains("entries up to"), "{said}");
        let kept = site.files().into_iter().find(|file| !before.contains(file));
        let said = by_openssl(&site, &kept.expect("it's kept"));
        assert!(said.contains("Verification: OK"), "{said}");
        // The same once more is the same file.
        let kept = site.files();
        site.keep(&reply, &[], 0, "kept");
        assert_eq!(site.files(), kept);
    }
    let query = text(&site.query());
    let asked = site.tsa.openssl(&format!("ts -query -text -in {query}"));
    assert!(
        asked.contains("sha256") && asked.contains("Certificate required: yes"),
        "{asked}"
    );
    site.verified(&["--tsa-cert", &site.root()], 0, "2 times before these");
    let existed = site.existed(&site.root());
    let by = |name| existed.iter().filter(move |one| one["by"] == name).count();
    assert!(existed.len() == 7 && by("CN=p384-256") == 1, "{existed:?}");
}

#[test]
fn rfc3161_client_accepts_what_is_kept() {
    let Some(python) = python_with("rfc3161_client") else {
        return;
    };
    let Some(site) = Site::new() else { return };
    let other = Tsa::new().expect("openssl is there");
    site.tsa.stamper("p256", P256);
    for name in ["tsa", "p256"] {
        let kept = site.stamp(name);
        let time = run(Command::new(&python)
            .arg(root().join("tests/timestamps/accepts.py"))
            .arg(kept)
            .args([site.root(), other.path("ca.pem")]));
        let existed = site.existed(&site.root());
        let same = |one: &serde_json::Value| one["time"] == time.trim();
        assert!(existed.iter().any(same), "{time} {existed:?}");
    }
}

#[test]
fn an_authority_is_asked_over_http_and_its_answer_kept() {
    let Some(site) = Site::new() else { return };
    let server = site.tsa.serve("tsa");
    let url = format!("http://{}/tsr", server.address());
    let asks = ["timestamp", &site.log, "--tsa", &url];
    ends(&asks, 0, "who that is wasn't checked");
    let given = ["--tsa-cert", &site.root()];
    ends(&[&asks[..], &given].concat(), 0, "said by CN=tsa");
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
    assert_eq!(site.existed(&site.root()).len(), 2);
}

#[test]
fn an_answer_that_is_refused_malformed_or_another_s_leaves_the_log_as_it_was() {
    let Some(site) = Site::new() else { return };
    // To a request of before, and to one that it doesn't want.
    let replayed = site.reply("tsa");
    let refused = site.reply_in_the_way("tsa", "strict", "sha256", &[]);
    let [old, no] = [&replayed, &refused].map(|file| fs::read(file).expect("it's there"));
    let before = snapshot(Path::new(&site.log));
    let unchanged = || snapshot(Path::new(&site.log)) == before;
    let typed = [("content-type", "application/timestamp-reply")];
    let cut = &old[..old.len() - 1];
    for (status, body, code, says) in [
        (200, &old[..], 1, "to another request"),
        (200, &no, 3, "refuses: it doesn't take the hash function"),
        (200, b"<html>", 1, "is neither a response nor a token"),
        (200, b"", 1, "is neither"),
        (200, cut, 1, "is neither"),
        (200, &[0x30; 70_000], 3, "bytes"),
        (500, &old, 3, "answered 500"),
        (302, b"", 3, "answered 302"),
    ] {
        let server = Server::always(response(status, &typed, body));
        let url = format!("http://{}", server.address());
        ends(&["timestamp", &site.log, "--tsa", &url], code, says);
        assert!(unchanged(), "{says}");
    }
    for (url, code, says) in [
        ("http://127.0.0.1:1", 3, "127.0.0.1"),
        ("ftp://127.0.0.1", 2, "scheme"),
    ] {
        ends(&["timestamp", &site.log, "--tsa", url], code, says);
    }
    let other = Site::new().expect("openssl is there");
    for (reply, code, says) in [
        (
            other.reply("tsa"),
            1,
            "isn't about a checkpoint of this log",
        ),
        (text(&other.query()), 1, "is neither"),
        (refused, 3, "refuses"),
        (site.path("nothing"), 2, "isn't there"),
    ] {
        site.keep(&reply, &[], code, says);
    }
    let no_certificate = ["--tsa-cert", &site.tsa.path("tsa.key")];
    site.keep(&replayed, &no_certificate, 2, "holds no certificate");
    // By somebody whom nobody vouches for.
    let stranger = ["--tsa-cert", &other.root()];
    site.keep(&replayed, &stranger, 1, "nobody in --tsa-cert vouches");
    assert!(unchanged());
    site.keep(&replayed, &[], 0, "kept");
}

#[test]
fn a_request_of_another_program_for_the_checkpoint_is_answered_too() {
    let Some(site) = Site::new() else { return };
    let (query, reply) = (site.path("query"), site.path("reply"));
    for hash in ["sha256", "sha512"] {
        site.tsa.openssl(&format!(
            "ts -query -data {}/.integrity/checkpoint -{hash} -out {query}",
            site.log
        ));
        site.tsa.reply("tsa", query.as_ref(), reply.as_ref());
        // It asked for no certificates.
        site.keep(&reply, &[], 1, "give it by --tsa-cert");
        let given = ["--tsa-cert", &site.tsa.path("tsa.pem")];
        site.keep(&reply, &given, 0, "kept");
        site.verified(&given, 0, "said by CN=tsa");
    }
    // By its root alone it can't be checked: the certificate between isn't there.
    let root = ["--tsa-cert", &site.root()];
    site.verified(&root, 1, "is neither in it nor given");
}

#[test]
fn requests_of_any_number_and_length_and_what_is_none_keep_no_reply_from_its_own() {
    let Some(site) = Site::new() else { return };
    let state = Path::new(&site.log).join(".state");
    let aged = |name: &str, age: u64| {
        let file = fs::File::options().write(true).open(state.join(name));
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        file.expect("it opens")
            .set_modified(then)
            .expect("it's set");
    };
    // One that is larger than all that may be kept, one that would wait for a writer, one elsewhere.
    let large = fs::File::create(state.join("timestamp-0000000000000000")).expect("it's made");
    large.set_len(1 << 40).expect("it's sparse");
    run(Command::new("mkfifo").arg(state.join("timestamp-1111111111111111")));
    std::os::unix::fs::symlink("/dev/zero", state.join("timestamp-2222222222222222"))
        .expect("it's made");
    for number in 0..200 {
        let name = format!("timestamp-33333333{number:08}");
        fs::write(state.join(&name), "").expect("it's made");
        aged(&name, 3600);
    }
    let reply = site.reply("tsa");
    let mut keep = Command::new("prlimit");
    keep.arg("--as=1000000000").arg("timeout").arg("60");
    keep.arg(tool().get_program())
        .args(["timestamp", &site.log, "--reply-in", &reply]);
    let said = run(&mut keep);
    assert!(said.contains("kept"), "{said}");
}

#[test]
fn a_request_that_can_t_be_written_isnt_waited_for() {
    let Some(site) = Site::new() else { return };
    let (there, state) = (site.path("there"), Path::new(&site.log).join(".state"));
    fs::write(&there, "mine").expect("it can be written");
    let before = snapshot(&state);
    ends(
        &["timestamp", &site.log, "--query-out", &there],
        3,
        "is there already",
    );
    assert!(snapshot(&state) == before);
}

#[test]
fn verify_says_since_when_entries_existed_and_by_whom() {
    let Some(site) = Site::new() else { return };
    site.verified(&["--tsa-cert", &site.root()], 1, "unstamped");
    site.stamp("tsa");
    site.write(4);
    site.stamp("tsa");
    let unchecked = "2 time stamps, by whom wasn't checked: give --tsa-cert";
    let said = site.verified(&[], 0, unchecked);
    assert!(!said.contains("existed at"), "{said}");
    for given in ["ca.pem", "tsa.pem"] {
        let given = site.tsa.path(given);
        let report = site.report(&given);
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
                "entries up to {} existed at {} ± 1 s, said by CN=tsa",
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
    let stranger = ["--tsa-cert", &other.path("ca.pem")];
    let said = site.verified(&stranger, 1, "vouches for the certificate of CN=tsa");
    assert!(
        said.contains("unstamped") && said.contains("forged"),
        "{said}"
    );
}

#[test]
fn a_token_counts_if_its_certificate_was_valid_then() {
    let Some(site) = Site::new() else { return };
    let Some(clock) = Clock::new(&site.scratch, "2026-01-15 12:00:00") else {
        return;
    };
    let window = "-startdate 20260101000000Z -enddate 20260201000000Z";
    site.tsa.issue("lapsed", RSA, STAMPS, window);
    let signed_at = |time: &str| {
        clock.set(time);
        let query = site.query();
        let reply = query.with_extension("tsr");
        let mut replying = (site.tsa).replying("lapsed", "stamps", "sha256", &query, &reply);
        run(clock.on(&mut replying));
        text(&reply)
    };
    let reply = signed_at("2026-01-15 12:00:00");
    site.keep(&reply, &[], 0, "existed at 2026-01-15T12:00:0");
    for given in ["ca.pem", "lapsed.pem"] {
        let given = ["--tsa-cert", &site.tsa.path(given)];
        let said = site.verified(&given, 0, "said by CN=lapsed");
        assert!(
            said.contains("was valid then and has expired since, at 2026-02-01T00:00:00Z"),
            "{said}"
        );
    }
    // Signed when it had expired, or wasn't valid yet. openssl signs all the same.
    for time in ["2026-02-01 00:00:02", "2025-12-31 23:59:50"] {
        let says =
            "was valid from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z, and the token is of";
        site.keep(&signed_at(time), &[], 1, says);
    }
}

#[test]
fn a_tree_that_was_put_back_or_begun_anew_doesnt_fit_the_time_stamps_that_are_left() {
    let Some(site) = Site::new() else { return };
    let old = site.copy("old");
    site.write(3);
    let kept = site.stamp("tsa");
    let folder = old.join(".integrity/timestamps");
    fs::create_dir(&folder).expect("it can be made");
    fs::copy(&kept, folder.join(name(&kept))).expect("it can be copied");
    let place = format!(".integrity/timestamps/{}", name(&kept));
    let put_back = text(&old);
    let given = site.root();
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

/// What audit_logger_verify says of a log: its status, and its report.
fn by_the_library(log: &Path) -> (AuditStatus, serde_json::Value) {
    let path = std::ffi::CString::new(text(log)).expect("no NUL");
    let mut reply = std::ptr::null_mut();
    // SAFETY: NULL is allowed, and the others are locals.
    let status = unsafe {
        audit_logger_verify(
            path.as_ptr(),
            std::ptr::null(),
            std::ptr::null_mut(),
            &raw mut reply,
        )
    };
    let answer = Answer { status, reply };
    let report = answer.text(AUDIT_REPLY_JSON).expect("there's a report");
    let report = serde_json::from_str(report).expect("it's JSON");
    (status, report)
}

#[test]
fn the_library_compares_stamped_checkpoints_and_says_that_it_asked_nobody_s_signature() {
    let Some(site) = Site::new() else { return };
    let log = Path::new(&site.log);
    let blind =
        |report: &serde_json::Value| report["cannot_detect"].to_string().contains("time stamp");
    let (status, report) = by_the_library(log);
    assert_eq!(
        report["timestamps"],
        serde_json::json!({"count": 0, "checked": false})
    );
    assert!(status == AUDIT_OK && !blind(&report), "{report}");
    let old = site.copy("old");
    site.write(3);
    let kept = site.stamp("tsa");
    let (status, report) = by_the_library(log);
    assert_eq!(
        report["timestamps"],
        serde_json::json!({"count": 1, "checked": false})
    );
    assert!(status == AUDIT_OK && blind(&report), "{report}");
    // The tool, which asks, says so.
    let checked = site.report(&site.root());
    assert!(
        !blind(&checked) && checked["timestamps"]["checked"] == true,
        "{checked}"
    );
    // An older copy with the newer one's time stamp.
    let folder = old.join(".integrity/timestamps");
    fs::create_dir(&folder).expect("it can be made");
    fs::copy(&kept, folder.join(name(&kept))).expect("it can be copied");
    let (status, report) = by_the_library(&old);
    assert_eq!(status, AUDIT_E_TAMPERED);
    assert_eq!(report["findings"][0]["class"], "rolled_back", "{report}");
    // What is none, and what is no directory.
    fs::write(&kept, "").expect("it can be written");
    let (status, report) = by_the_library(log);
    assert_eq!(status, AUDIT_E_TAMPERED);
    assert_eq!(report["findings"][0]["class"], "unreadable", "{report}");
    fs::remove_dir_all(log.join(".integrity/timestamps")).expect("it can be removed");
    fs::write(log.join(".integrity/timestamps"), "").expect("it can be written");
    let (status, report) = by_the_library(log);
    assert_eq!(status, AUDIT_E_TAMPERED);
    assert_eq!(
        report["findings"][0]["file"], ".integrity/timestamps",
        "{report}"
    );
    site.verified(
        &["--tsa-cert", &site.root()],
        1,
        ".integrity/timestamps: unreadable",
    );
}

#[test]
fn what_stands_in_a_time_stamp_s_place_and_isnt_one_is_named() {
    let Some(site) = Site::new() else { return };
    let given = site.root();
    let kept = site.stamp("tsa");
    site.write(2);
    let newer = site.stamp("tsa");
    let [whole, other] = [&kept, &newer].map(|file| fs::read(file).expect("there"));
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
    let Some(site) = Site::new() else { return };
    site.stamp("tsa");
    let copy = site.copy("copy");
    site.write(4);
    let newer = site.stamp("tsa");
    let folder = copy.join(".integrity/timestamps");
    let into = folder.join(name(&newer));
    fs::copy(&newer, &into).expect("it can be copied");
    let (copy, given) = (text(&copy), site.root());
    let arguments = ["verify", &copy, "--copy", "--tsa-cert", &given];
    let said = ends(&arguments, 0, "more are known of");
    assert_eq!(said.matches("existed at").count(), 1, "{said}");
    // With the newer one alone, nothing that is there is stamped, and nothing is wrong.
    for file in fs::read_dir(&folder).expect("there") {
        let file = file.expect("readable").path();
        if file != into {
            fs::remove_file(file).expect("it can be removed");
        }
    }
    let said = ends(&arguments, 0, "intact");
    assert!(!said.contains("existed at"), "{said}");
}
