//! Random bytes.

use std::io;

use super::kernel::{WIPE_ON_FORK, random};
use super::secret::Pages;

/// Random bytes, fetched from the kernel a page at a time: the call costs as much as the bytes. The
/// kernel empties the page in every child of a fork, however that was made, so that parent and
/// child never give out the same.
pub struct RandomBytes {
    /// The bytes that are left stand at the end; the first 16 hold, as a number, how many. Without
    /// a kernel that empties it (before Linux 4.14, and gVisor) there is none, and each id is
    /// fetched by itself.
    pages: Option<Pages>,
}

impl RandomBytes {
    /// Random bytes, none of them fetched yet.
    pub fn new() -> RandomBytes {
        RandomBytes {
            pages: Pages::new(1, WIPE_ON_FORK).ok(),
        }
    }

    /// The next 16.
    pub fn take(&mut self) -> io::Result<[u8; 16]> {
        let Some(pages) = &mut self.pages else {
            let mut bytes = [0; 16];
            return match random(&mut bytes)? {
                16 => Ok(bytes),
                _ => Err(io::Error::other("the kernel gives no random bytes")),
            };
        };
        let (count, bytes) = pages.as_mut_slice().split_at_mut(16);
        let held = |count: &[u8]| {
            count
                .first_chunk()
                .map_or(0, |count| usize::from_ne_bytes(*count))
        };
        let mut left = held(count).min(bytes.len());
        if left < 16 {
            // Up to 256 bytes come whole; more can be cut short by a signal.
            left = random(bytes)?;
            let len = bytes.len();
            bytes.copy_within(..left, len - left);
        }
        let at = bytes.len() - left;
        let next = bytes.get_mut(at..at + 16);
        let next = next.ok_or_else(|| io::Error::other("the kernel gives no random bytes"))?;
        let mut taken = [0; 16];
        taken.copy_from_slice(next);
        next.fill(0);
        // After the bytes were taken: a fork before this line wipes both.
        count[..size_of::<usize>()].copy_from_slice(&(left - 16).to_ne_bytes());
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::super::check;
    use super::*;

    #[test]
    fn random_bytes_never_come_twice() {
        let mut random = RandomBytes::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let bytes = random.take().unwrap();
            assert!(seen.insert(bytes) && bytes != [0; 16]);
        }
    }

    #[test]
    fn a_child_that_no_handler_heard_of_has_other_random_bytes() {
        let mut random = RandomBytes::new();
        random.take().unwrap();
        let mut ends = [0; 2];
        // SAFETY: the pointer is to a local of the right type.
        check(unsafe { libc::pipe(ends.as_mut_ptr()) }).unwrap();
        // Without the C library's handlers, as a bare clone makes it.
        // SAFETY: the child makes system calls only.
        let child = unsafe { libc::syscall(libc::SYS_fork) };
        if child == 0 {
            let bytes = random.take().unwrap_or_default();
            // SAFETY: pointer and length are those of a local.
            unsafe { libc::write(ends[1], bytes.as_ptr().cast(), 16) };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        let mut theirs = [0; 16];
        // SAFETY: pointer and length are those of a local.
        let read = unsafe { libc::read(ends[0], theirs.as_mut_ptr().cast(), 16) };
        assert_eq!(read, 16);
        assert_ne!(random.take().unwrap(), theirs);
        // SAFETY: waits for the child made above; its status isn't asked for.
        unsafe { libc::waitpid(child as libc::pid_t, ptr::null_mut(), 0) };
    }
}
