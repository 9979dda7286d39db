//! What stands between the host and every function: its thread, its panics, its pointers.

use std::ffi::{CStr, c_char};

use super::handle::{Held, Table};
use super::reply::{REPLIES, Reply};
use super::talk::notice;
use super::types::{AuditReply, AuditStatus, AuditText};
use crate::error::{Error, Status};
use crate::panics::contain;
use crate::sys::HostThread;

/// Runs the body of a function that answers with a reply.
///
/// # Safety
///
/// `out` is NULL or valid for one write.
pub unsafe fn reply_to(
    out: *mut *mut AuditReply,
    body: impl FnOnce(&HostThread) -> Result<Reply, Error>,
) -> AuditStatus {
    notice();
    let host = HostThread::borrow();
    // SAFETY: as the caller promises.
    unsafe { hand_out(out, contained(|| body(&host))) }
}

/// The same, for a body that writes to files alone: no socket, no callback.
///
/// # Safety
///
/// `out` is NULL or valid for one write.
pub unsafe fn reply_of_files(
    out: *mut *mut AuditReply,
    body: impl FnOnce() -> Result<Reply, Error>,
) -> AuditStatus {
    notice();
    let _host = HostThread::borrow_for_files();
    // SAFETY: as the caller promises.
    unsafe { hand_out(out, contained(body)) }
}

/// Runs a body of which a panic is an error.
pub fn contained<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    contain(body).and_then(|result| result)
}

/// Writes what came of a function, and says its status.
///
/// # Safety
///
/// `out` is NULL or valid for one write.
pub unsafe fn hand_out(out: *mut *mut AuditReply, result: Result<Reply, Error>) -> AuditStatus {
    let reply = result.unwrap_or_else(Reply::from);
    let status = reply.status() as AuditStatus;
    // A reply that can't be handed out (a million are in use) is dropped; the status remains.
    let handle = if out.is_null() {
        None
    } else {
        REPLIES.insert(reply)
    };
    // SAFETY: as the caller promises.
    unsafe { put(out, handle.unwrap_or(std::ptr::null_mut())) };
    status
}

/// Runs the body of a function that answers with a plain value; `otherwise` after a panic. Such a
/// body makes no system call, so the host's thread stays as it is.
pub fn value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    contain(body).unwrap_or(otherwise)
}

/// Refuses a call without a reply, of a function that is of no use without one.
pub fn needs_reply(reply: *mut *mut AuditReply) -> Result<(), Error> {
    if reply.is_null() {
        return Err(Error::argument(
            "reply is NULL; it is what this function is for",
        ));
    }
    Ok(())
}

/// What a handle stands for; `name` and `maker` are for the error.
pub fn held<T: Send + Sync, H>(
    table: &'static Table<T>,
    handle: *const H,
    name: &str,
    maker: &str,
) -> Result<Held<'static, T>, Error> {
    table.get(handle).ok_or_else(|| {
        let what = if handle.is_null() {
            "is NULL".to_owned()
        } else {
            format!("was freed, or isn't a {name}")
        };
        Error::new(
            Status::Handle,
            format!("{name} {what}; pass what {maker} gave"),
        )
    })
}

/// Refuses an out-parameter that is left out though a handle goes there.
pub fn needs_place<H>(name: &str, place: *mut *mut H) -> Result<(), Error> {
    if place.is_null() {
        return Err(Error::argument(format!(
            "{name} is NULL; pass the address of a pointer"
        )));
    }
    Ok(())
}

/// Writes an out-parameter that the host may leave out.
///
/// # Safety
///
/// `out` is NULL or valid for one write.
pub unsafe fn put<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: as the caller promises; hosts needn't align what they pack.
        unsafe { out.write_unaligned(value) };
    }
}

/// A text that the host passed, or `None` where it's absent.
///
/// # Safety
///
/// `text.data` is NULL or valid for reads of `text.len` bytes for the life of the result.
pub unsafe fn text<'a>(name: &str, text: AuditText) -> Result<Option<&'a str>, Error> {
    // SAFETY: as the caller promises.
    let Some(bytes) = (unsafe { bytes(name, text.data, text.len) })? else {
        return Ok(None);
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(Error::argument(format!(
            "{name} isn't UTF-8 (at byte {}); convert it",
            error.valid_up_to()
        ))),
    }
}

/// A text that must not be absent.
pub fn required<T>(name: &str, text: Option<T>) -> Result<T, Error> {
    text.ok_or_else(|| Error::argument(format!("{name} is absent; it is required")))
}

/// Bytes that the host passed, or `None` where they are absent.
///
/// # Safety
///
/// `data` is NULL or valid for reads of `len` bytes for the life of the result.
pub unsafe fn bytes<'a>(
    name: &str,
    data: *const c_char,
    len: usize,
) -> Result<Option<&'a [u8]>, Error> {
    if data.is_null() {
        return match len {
            0 => Ok(None),
            _ => Err(Error::argument(format!(
                "{name} is NULL with the length {len}; absent is NULL and 0"
            ))),
        };
    }
    if isize::try_from(len).is_err() {
        return Err(Error::argument(format!(
            "{name} has the impossible length {len}"
        )));
    }
    // SAFETY: as the caller promises; the length fits an isize.
    Ok(Some(unsafe {
        std::slice::from_raw_parts(data.cast(), len)
    }))
}

/// A NUL-terminated text that the host passed, or `None` where it's NULL.
///
/// # Safety
///
/// `text` is NULL or points to a NUL-terminated string that stays as it is for the life of the
/// result.
pub unsafe fn c_text<'a>(name: &str, text: *const c_char) -> Result<Option<&'a str>, Error> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(Error::argument(format!(
            "{name} isn't UTF-8 (at byte {})",
            error.valid_up_to()
        ))),
    }
}

/// Gives a structure of `size` bytes the value of its `_INIT` macro: its size, and zeros.
///
/// # Safety
///
/// `to` is NULL or valid for writes of `size` bytes. `T` is `repr(C)` and starts with its size.
pub unsafe fn init<T>(to: *mut T, size: usize) {
    if to.is_null() || size < size_of::<usize>() {
        return;
    }
    // SAFETY: as the caller promises.
    unsafe { to.cast::<u8>().write_bytes(0, size) };
    // SAFETY: as the caller promises; the size fits.
    unsafe { to.cast::<usize>().write_unaligned(size) };
}

/// A structure that starts with its size, as this version knows it.
///
/// # Safety
///
/// `from` is NULL or valid for reads of a `size_t` and of as many bytes as that says. All-zero
/// bytes are a valid `T`, and `T` is `repr(C)` and starts with its size.
pub unsafe fn sized<T: Copy>(name: &str, from: *const T, init: &str) -> Result<T, Error> {
    /// Far beyond any version's size: what says so isn't a structure.
    const IMPLAUSIBLE: usize = 4096;
    let known = size_of::<T>();
    if from.is_null() {
        return Err(Error::argument(format!(
            "{name} is NULL; pass one that starts from {init}"
        )));
    }
    // SAFETY: as the caller promises.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    if size < known || size > IMPLAUSIBLE {
        return Err(Error::argument(format!(
            "{name}: struct_size is {size}, {known} expected; start from {init}"
        )));
    }
    // SAFETY: the structure is at least as long as this version's.
    let value = unsafe { from.read_unaligned() };
    // SAFETY: the tail lies within the size that the structure says it has.
    let tail = unsafe { from.cast::<u8>().add(known) };
    // SAFETY: as above.
    let tail = unsafe { std::slice::from_raw_parts(tail, size - known) };
    if tail.iter().any(|byte| *byte != 0) {
        return Err(Error::argument(format!(
            "{name}: a member is set that this version of the library doesn't know; use a newer one"
        )));
    }
    Ok(value)
}
