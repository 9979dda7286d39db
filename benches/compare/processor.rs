//! Keeping to one processor.

use std::mem::{MaybeUninit, size_of};

/// Keeps this thread, and every thread and process that it starts from now on, on the processor
/// that it's on now. Where that isn't allowed everything stays as it is.
///
/// A client and its server wake each other for each call. Between two processors the cost of that
/// is the machine's and not theirs: on a virtual one it makes the CPU time of the same call vary
/// threefold.
pub fn keep_to_one() {
    // SAFETY: no pointers are passed.
    let Ok(here) = usize::try_from(unsafe { libc::sched_getcpu() }) else {
        return;
    };
    if here >= libc::CPU_SETSIZE as usize {
        return;
    }
    // SAFETY: all zeros is a valid set: the empty one.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the number is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(here, &mut set) };
    // SAFETY: the pointer and the size are those of a local.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}
