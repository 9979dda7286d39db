//! Cancels: what ends calls from outside.

use std::sync::Arc;

use super::boundary::{put, value};
use super::handle::{Held, Table};
use super::types::*;
use crate::error::{Error, Status};
use crate::sys::{self, Event, HostThread};

include!(concat!(env!("OUT_DIR"), "/symbol_versions/cancel.rs"));

static CANCELS: Table<Arc<Event>> = Table::new(0xa4);

/// The cancel that the host passed, or `None` where it's NULL.
pub fn cancel_if_given(handle: *const AuditCancel) -> Result<Option<Arc<Event>>, Error> {
    let cancel = cancel_of_this_process(handle);
    if cancel.is_none() && !handle.is_null() {
        return Err(Error::new(
            Status::Handle,
            "cancel was freed, was made before a fork, or isn't one; pass what audit_cancel_new \
             gave in this process",
        ));
    }
    Ok(cancel.map(|cancel| Arc::clone(&cancel)))
}

fn cancel_of_this_process(handle: *const AuditCancel) -> Option<Held<'static, Arc<Event>>> {
    CANCELS.get(handle).filter(|event| event.is_ours())
}

/// Makes something that can end calls: give it to any number of them in AuditChatRequest.cancel.
///
/// cancel: where the handle goes; not NULL. Free it with audit_cancel_free.
///
/// Returns AUDIT_OK; AUDIT_E_ARGUMENT (cancel is NULL); AUDIT_E_INTERNAL (out of file descriptors:
/// each takes one). On an error *cancel is NULL. Any thread.
///
/// # Safety
///
/// cancel is NULL or valid for one write.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn audit_cancel_new(cancel: *mut *mut AuditCancel) -> AuditStatus {
    let _host = HostThread::borrow();
    value(AUDIT_E_INTERNAL, || {
        if cancel.is_null() {
            return AUDIT_E_ARGUMENT;
        }
        // The child of a fork is told from its parent only if forks are counted.
        let event = sys::watch_forks().and_then(|()| Event::new()).ok();
        let made = event.and_then(|event| CANCELS.insert(Arc::new(event)));
        // SAFETY: as the caller promises.
        unsafe { put(cancel, made.unwrap_or(std::ptr::null_mut())) };
        if made.is_some() {
            AUDIT_OK
        } else {
            AUDIT_E_INTERNAL
        }
    })
}

/// Ends the calls that it was given to, and all that it will be given to: each returns
/// AUDIT_E_CANCELLED within 100 ms (but for the time that a callback or a hanging disk takes). NULL
/// and one that was freed do nothing.
///
/// cancel: from audit_cancel_new, or NULL. Any thread, and signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn audit_cancel_trigger(cancel: *mut AuditCancel) {
    // No boundary: this may be a signal handler, and nothing in it can panic.
    let errno = sys::Errno::save();
    if let Some(event) = cancel_of_this_process(cancel) {
        event.set();
    }
    drop(errno);
}

/// Frees it. Calls that run with it go on. NULL and one that was freed before do nothing.
///
/// cancel: from audit_cancel_new, or NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn audit_cancel_free(cancel: *mut AuditCancel) {
    let _host = HostThread::borrow();
    value((), || {
        CANCELS.remove(cancel);
    });
}
