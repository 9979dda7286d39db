//! Verifying and proving through the C interface.

mod support;

use std::ffi::CString;
use std::path::Path;
use std::process::Command;
use std::ptr;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, record};
use support::{Scratch, last_file, run, sealed};

fn verify(path: &Path, options: &str, cancel: *mut AuditCancel) -> Answer {
    let path = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    let options = CString::new(options).expect("no NUL");
    let mut reply = ptr::null_mut();
    // SAFETY: the texts and the reply are locals.
    let status =
        unsafe { audit_logger_verify(path.as_ptr(), options.as_ptr(), cancel, &raw mut reply) };
    Answer { status, reply }
}

fn prove(path: &Path, id: &str, options: &str) -> Answer {
    let path = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    let [id, options] = [id, options].map(|text| CString::new(text).expect("no NUL"));
    let mut reply = ptr::null_mut();
    // SAFETY: the texts and the reply are locals.
    let status =
        unsafe { audit_logger_prove(path.as_ptr(), id.as_ptr(), options.as_ptr(), &raw mut reply) };
    Answer { status, reply }
}

#[test]
fn a_directory_without_a_merkle_log_is_not_found() {
    let scratch = Scratch::new();
    let answer = verify(scratch.path(), "{}", ptr::null_mut()).expect(AUDIT_E_NOT_FOUND);
    assert!(answer.message().contains("vkey"), "{}", answer.message());
    prove(scratch.path(), "id", "{}").expect(AUDIT_E_NOT_FOUND);
    let nowhere = scratch.join("nowhere");
    let answer = verify(&nowhere, "{}", ptr::null_mut()).expect(AUDIT_E_LOG);
    assert!(answer.message().contains("nowhere"), "{}", answer.message());
    prove(&nowhere, "id", "{}").expect(AUDIT_E_LOG);
}

#[test]
fn options_that_cant_be_used_are_refused_by_name() {
    let scratch = Scratch::new();
    for (options, named) in [
        (r#"{"vkeys": "a"}"#, r#""vkeys""#),
        (r#"{"vkey": 1}"#, r#""vkey""#),
        (r#"{"guard_file": false}"#, r#""guard_file""#),
        (r#"{"checkpoints": "a"}"#, r#""checkpoints""#),
        (r#"{"checkpoints": [1]}"#, r#""checkpoints""#),
        (r#"{"vkey": "nonsense"}"#, "public key"),
        (r#"{"vkey_file": "/no/such/file"}"#, "/no/such/file"),
        ("[]", "options"),
    ] {
        let answer = verify(scratch.path(), options, ptr::null_mut()).expect(AUDIT_E_ARGUMENT);
        assert!(answer.message().contains(named), "{}", answer.message());
    }
    for options in [r#"{"guard_file": "a"}"#, r#"{"vkey": "nonsense"}"#] {
        prove(scratch.path(), "id", options).expect(AUDIT_E_ARGUMENT);
    }
}

#[test]
fn null_and_freed_arguments_are_refused() {
    let mut reply = ptr::null_mut();
    // SAFETY: NULL is allowed, and the reply is a local.
    let status =
        unsafe { audit_logger_verify(ptr::null(), ptr::null(), ptr::null_mut(), &raw mut reply) };
    Answer { status, reply }.expect(AUDIT_E_ARGUMENT);
    // SAFETY: as above.
    let status =
        unsafe { audit_logger_prove(c".".as_ptr(), ptr::null(), ptr::null(), &raw mut reply) };
    Answer { status, reply }.expect(AUDIT_E_ARGUMENT);
    // SAFETY: as above.
    let status =
        unsafe { audit_logger_prove(c".".as_ptr(), c"id".as_ptr(), ptr::null(), ptr::null_mut()) };
    assert_eq!(status, AUDIT_E_ARGUMENT);

    let mut cancel = ptr::null_mut();
    // SAFETY: the handle is a local.
    assert_eq!(unsafe { audit_cancel_new(&raw mut cancel) }, AUDIT_OK);
    audit_cancel_free(cancel);
    verify(Path::new("."), "{}", cancel).expect(AUDIT_E_HANDLE);
}

/// The directory's own public key.
fn vkey(log: &Path) -> String {
    let vkey = std::fs::read_to_string(log.join(".integrity/vkey")).expect("it's there");
    vkey.trim_end().to_owned()
}

#[test]
fn a_sealed_log_is_verified_and_each_thing_brought_raises_the_grade() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 300);
    let kept = scratch.join("kept");
    std::fs::copy(log.join(".integrity/checkpoint"), &kept).expect("it can be kept");
    let vkey_file = scratch.join("vkey");
    std::fs::write(&vkey_file, vkey(&log)).expect("it can be written");
    for (options, grade) in [
        (json!({}), "self-attested"),
        (
            json!({"guard_file": scratch.join("guard")}),
            "self-attested, remembered",
        ),
        (json!({"vkey": vkey(&log)}), "signed"),
        (
            json!({"vkey_file": vkey_file, "checkpoints": [kept]}),
            "signed, remembered",
        ),
    ] {
        let answer = verify(&log, &options.to_string(), ptr::null_mut()).expect(AUDIT_OK);
        let report = report(&answer);
        assert_eq!(report["grade"], grade, "{options}");
        assert_eq!(report["lines"], ids.len(), "{report}");
        assert_eq!(report["intact"], true, "{report}");
    }
}

fn report(answer: &Answer) -> Value {
    let report = answer.text(AUDIT_REPLY_JSON).expect("there is a report");
    serde_json::from_str(report).expect("it is JSON")
}

#[test]
fn a_changed_line_is_tampering_and_named() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 20);
    let file = last_file(&log);
    let text = std::fs::read_to_string(&file).expect("it can be read");
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    lines[6] = lines[6].replace("success", "Success");
    std::fs::write(&file, lines.concat()).expect("it can be written");
    let answer = verify(&log, "{}", ptr::null_mut()).expect(AUDIT_E_TAMPERED);
    let finding = &report(&answer)["findings"][0];
    assert_eq!(
        (&finding["class"], &finding["line"]),
        (&json!("edited"), &json!(7))
    );
    assert!(answer.message().contains("line 7"), "{}", answer.message());
    assert_eq!(answer.error_type(), "AUDIT_E_TAMPERED");
}

#[test]
fn a_changed_tile_that_recent_stands_in_for_is_counted_and_without_it_found() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 300);
    let recent = log.join(".integrity/recent");
    let kept = std::fs::read(&recent).expect("it's there");
    for tile in ["tile/entries/000", "tile/0/000"] {
        let tile = log.join(".integrity").join(tile);
        let whole = std::fs::read(&tile).expect("it's there");
        let mut changed = whole.clone();
        changed[5000] ^= 1;
        std::fs::write(&tile, changed).expect("it can be written");
        let answer = verify(&log, "{}", ptr::null_mut()).expect(AUDIT_OK);
        assert_ne!(report(&answer)["unsettled"], 0, "{}", tile.display());
        std::fs::remove_file(&recent).expect("it's there");
        verify(&log, "{}", ptr::null_mut()).expect(AUDIT_E_TAMPERED);
        std::fs::write(&tile, whole).expect("it can be written");
        let answer = verify(&log, "{}", ptr::null_mut()).expect(AUDIT_OK);
        assert_eq!(report(&answer)["unsettled"], 0);
        std::fs::write(&recent, &kept).expect("it can be written");
    }
}

#[test]
fn an_older_copy_is_seen_by_the_guard() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 20);
    let copy = scratch.join("copy");
    run(Command::new("cp").arg("-r").args([&log, &copy]));
    sealed(&scratch, 20);
    let guard = json!({"guard_file": scratch.join("guard")}).to_string();
    verify(&log, &guard, ptr::null_mut()).expect(AUDIT_OK);
    verify(&copy, "{}", ptr::null_mut()).expect(AUDIT_OK);
    let answer = verify(&copy, &guard, ptr::null_mut()).expect(AUDIT_E_TAMPERED);
    assert_eq!(report(&answer)["findings"][0]["class"], "rolled_back");
}

#[test]
fn verifying_is_cancelled_and_fits_a_small_stack() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 300);
    let mut cancel = ptr::null_mut();
    // SAFETY: the handle is a local.
    assert_eq!(unsafe { audit_cancel_new(&raw mut cancel) }, AUDIT_OK);
    let _ = verify(&log, "{}", cancel).expect(AUDIT_OK);
    audit_cancel_trigger(cancel);
    verify(&log, "{}", cancel).expect(AUDIT_E_CANCELLED);
    audit_cancel_free(cancel);
    let small = std::thread::Builder::new().stack_size(128 << 10);
    let both = small.spawn(move || {
        verify(&log, "{}", ptr::null_mut()).expect(AUDIT_OK);
        prove(&log, &ids[7], "{}").expect(AUDIT_OK);
    });
    both.expect("a thread").join().expect("it fits");
}

#[test]
fn a_proof_shows_one_line_and_holds_by_the_public_key() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 300);
    for id in [&ids[0], &ids[150], &ids[299]] {
        let answer = prove(&log, id, "{}").expect(AUDIT_OK);
        let line = answer.text(AUDIT_REPLY_ENTRY).expect("the line");
        assert!(line.contains(id.as_str()));
        let proof = answer.text(AUDIT_REPLY_CONTENT).expect("the proof");
        assert!(ids.iter().all(|id| !proof.contains(id.as_str())));
        let checked = audit_logger::tool::prove::check(line.as_bytes(), proof, &vkey(&log));
        let index = checked.expect("it holds").index;
        assert_eq!(report(&answer)["index"], index);
        let other = line.replace("success", "Success");
        audit_logger::tool::prove::check(other.as_bytes(), proof, &vkey(&log))
            .expect_err("another line has no such proof");
    }
    let answer = prove(&log, "00000000-0000-4000-8000-000000000000", "{}");
    assert!(
        answer
            .expect(AUDIT_E_NOT_FOUND)
            .message()
            .contains("no entry")
    );
}

#[test]
fn an_entry_that_isnt_sealed_is_told_from_one_that_isnt_there() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 3);
    let plain = Logger::new(&json!({"output_path": log, "integrity": false}));
    let logged = plain.log(&record()).expect(AUDIT_OK);
    let id = logged.text(AUDIT_REPLY_ENTRY_ID).expect("it has one");
    let answer = prove(&log, id, "{}").expect(AUDIT_E_NOT_FOUND);
    assert!(
        answer.message().contains("isn't sealed"),
        "{}",
        answer.message()
    );
}

#[test]
fn an_entry_is_proved_by_its_line_or_its_timestamp_too() {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 300);
    let proved = prove(&log, &ids[200], "{}").expect(AUDIT_OK);
    let line = proved
        .text(AUDIT_REPLY_ENTRY)
        .expect("it is there")
        .to_owned();
    let entry: Value = serde_json::from_str(&line).expect("it is JSON");
    for options in [
        json!({"line": line}),
        json!({"line": format!("{line}\n")}),
        json!({"timestamp": entry["timestamp"]}),
        json!({"timestamp": null, "line": null}),
    ] {
        let again = prove(&log, &ids[200], &options.to_string()).expect(AUDIT_OK);
        for field in [AUDIT_REPLY_ENTRY, AUDIT_REPLY_CONTENT, AUDIT_REPLY_JSON] {
            assert_eq!(again.text(field), proved.text(field), "{options}");
        }
    }
    let other = prove(&log, &ids[201], &json!({"line": line}).to_string());
    let other = other.expect(AUDIT_E_ARGUMENT);
    assert!(other.message().contains("line"), "{}", other.message());
    let noon = prove(&log, &ids[200], r#"{"timestamp": "noon"}"#).expect(AUDIT_E_ARGUMENT);
    assert!(noon.message().contains("timestamp"), "{}", noon.message());
}

#[test]
fn a_sealed_day_that_cant_be_read_is_tampering_and_the_rest_is_verified() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 10);
    let day = last_file(&log);
    let name = day
        .file_name()
        .expect("it has one")
        .to_string_lossy()
        .into_owned();
    std::fs::remove_file(&day).expect("it can be removed");
    run(Command::new("mkfifo").arg(&day));
    let answer = verify(&log, "{}", ptr::null_mut()).expect(AUDIT_E_TAMPERED);
    assert!(
        answer.message().contains("unreadable"),
        "{}",
        answer.message()
    );
    let report = answer.text(AUDIT_REPLY_JSON).expect("there is a report");
    let report: Value = serde_json::from_str(report).expect("it is JSON");
    assert_eq!(report["findings"][0]["class"], "unreadable");
    assert_eq!(report["findings"][0]["file"], name);
    assert_eq!(report["size"], 12);
}
