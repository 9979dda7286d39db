//! Keeping to one processor, so that who wakes whom, and from how far, is the same in each round.

use std::mem::{MaybeUninit, size_of};

const SIZE: usize = size_of::<libc::cpu_set_t>();

/// The processors that this process may use.
pub fn allowed() -> Vec<usize> {
    let mut set = none();
    // SAFETY: the pointer and the size are those of a local.
    if unsafe { libc::sched_getaffinity(0, SIZE, &raw mut set) } != 0 {
        return Vec::new();
    }
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: the number is below CPU_SETSIZE.
        .filter(|number| unsafe { libc::CPU_ISSET(*number, &set) })
        .collect()
}

/// Keeps this thread, and every thread and process that it starts from now on, on a processor of
/// `allowed`. Where that is refused everything stays as it is.
pub fn keep_to(number: usize) {
    let mut set = none();
    // SAFETY: the number is below CPU_SETSIZE, as all of `allowed` are.
    unsafe { libc::CPU_SET(number, &mut set) };
    // SAFETY: the pointer and the size are those of a local.
    unsafe { libc::sched_setaffinity(0, SIZE, &raw const set) };
}

fn none() -> libc::cpu_set_t {
    // SAFETY: all zeros is a valid set: the empty one.
    unsafe { MaybeUninit::zeroed().assume_init() }
}
