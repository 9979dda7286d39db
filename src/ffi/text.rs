//! Texts that need no handle: those that go in, a quoted string, the names of statuses, the version.

use std::ffi::{CStr, c_char};

use super::boundary::{bytes, put, value};
use super::types::*;
use crate::error::Status;
use crate::json;

include!(concat!(env!("OUT_DIR"), "/symbol_versions/text.rs"));

/// Makes a text of a NUL-terminated string.
///
/// s: the string, which the text points to; or NULL.
///
/// Returns the text; for NULL an absent one. Any thread.
///
/// # Safety
///
/// s is NULL or points to a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn audit_text(s: *const c_char) -> AuditText {
    let len = if s.is_null() {
        0
    } else {
        // SAFETY: as the caller promises.
        unsafe { CStr::from_ptr(s) }.count_bytes()
    };
    AuditText { data: s, len }
}

/// Writes a text as a JSON string, quotes included, so that no host builds metadata or params by
/// hand. It can't fail.
///
/// out, size: where at most size bytes go, a NUL included; NULL with 0 to ask for the length.
///
/// text, len: any bytes; what isn't UTF-8 becomes U+FFFD. NULL with 0 is the empty text.
///
/// Returns the length without the NUL that the whole string has, like snprintf: if that is size or
/// more, it was cut. 0 for a length that can't be (more than PTRDIFF_MAX). Any thread.
///
/// # Safety
///
/// out is NULL or valid for size writes; text is as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn audit_json_quote(
    out: *mut c_char,
    size: usize,
    text: *const c_char,
    len: usize,
) -> usize {
    value(0, || {
        // SAFETY: as the caller promises.
        let Ok(text) = (unsafe { bytes("text", text, len) }) else {
            if size > 0 {
                // SAFETY: as the caller promises.
                unsafe { put(out, 0) };
            }
            return 0;
        };
        let mut quoted = Vec::new();
        json::quote(
            &String::from_utf8_lossy(text.unwrap_or_default()),
            &mut quoted,
        );
        if let (false, Some(room)) = (out.is_null(), size.checked_sub(1)) {
            let written = quoted.len().min(room);
            // SAFETY: as the caller promises; `written` is less than `size`.
            unsafe { out.copy_from_nonoverlapping(quoted.as_ptr().cast(), written) };
            // SAFETY: as above.
            let end = unsafe { out.add(written) };
            // SAFETY: as above.
            unsafe { put(end, 0) };
        }
        quoted.len()
    })
}

/// Names a status.
///
/// status: any number.
///
/// Returns its name as this header spells it ("AUDIT_E_ARGUMENT"), or "AUDIT_E_UNKNOWN". Valid for
/// ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_status_name(status: AuditStatus) -> *const c_char {
    let known = Status::ALL
        .into_iter()
        .find(|known| *known as AuditStatus == status);
    known.map_or(c"AUDIT_E_UNKNOWN", Status::name).as_ptr()
}

/// Names the library's version.
///
/// Returns it, as AUDIT_LOGGER_VERSION has it for the header. Valid for ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_logger_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
