//! Verifying and proving through the C interface.

mod support;

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use audit_logger::ffi::*;
use support::Scratch;
use support::calls::Answer;

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
    for directory in [scratch.path().to_owned(), scratch.join("nowhere")] {
        let answer = verify(&directory, "{}", ptr::null_mut()).expect(AUDIT_E_NOT_FOUND);
        assert!(answer.message().contains("vkey"), "{}", answer.message());
        prove(&directory, "id", "{}").expect(AUDIT_E_NOT_FOUND);
    }
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
