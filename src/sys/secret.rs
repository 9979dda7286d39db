//! Memory for what nobody else may see.

use std::ffi::c_int;
use std::io;
use std::ops::Deref;
use std::ptr;

use super::check;
use super::kernel::NO_DUMP;

/// Anonymous pages of their own, which are wiped when dropped.
pub(super) struct Pages {
    start: ptr::NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Pages for `len` bytes, with a property (MADV_*) that the kernel gives them.
    pub(super) fn new(len: usize, advice: c_int) -> io::Result<Pages> {
        const PAGE: usize = 4096;
        let len = len.max(1).next_multiple_of(PAGE);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing else.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        let start = ptr::NonNull::new(start.cast::<u8>())
            .filter(|start| start.as_ptr().cast() != libc::MAP_FAILED)
            .ok_or_else(io::Error::last_os_error)?;
        let pages = Pages { start, len };
        // SAFETY: the pages are mapped with this length.
        check(unsafe { libc::madvise(start.as_ptr().cast(), len, advice) })?;
        Ok(pages)
    }

    /// Their bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        // SAFETY: the pages are mapped with this length, and filled with zeros at first.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Their bytes, to be written to.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(self.as_mut_slice());
        // SAFETY: the pages are mapped with this length, and nobody holds them any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the pages are owned, and shared only as slices.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

/// Bytes that core dumps leave out, wiped when dropped.
pub struct SecretBytes {
    pages: Pages,
    len: usize,
}

impl SecretBytes {
    /// A copy of `bytes`. The original is the caller's to wipe.
    pub fn copy_of(bytes: &[u8]) -> io::Result<SecretBytes> {
        let mut pages = Pages::new(bytes.len(), NO_DUMP)?;
        pages.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        Ok(SecretBytes {
            pages,
            len: bytes.len(),
        })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.pages.as_slice()[..self.len]
    }
}

/// A value of plain bytes, which stays in one place and is wiped when dropped: for what others made,
/// and don't wipe.
pub struct Wiped<T>(Box<T>);

impl<T> Wiped<T> {
    /// Keeps the value.
    pub fn new(value: T) -> Wiped<T> {
        const { assert!(!std::mem::needs_drop::<T>(), "it owns more than its bytes") };
        Wiped(Box::new(value))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        let value: *mut T = &raw mut *self.0;
        // SAFETY: nobody looks at the value again: nothing is dropped in it, as `new` makes sure of.
        unsafe { zeroize::zeroize_flat_type(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_pages_that_no_core_dump_holds() {
        let secret = SecretBytes::copy_of(b"sk-secret").unwrap();
        assert_eq!(secret.as_bytes(), b"sk-secret");
        let address = secret.as_bytes().as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds_it = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            (number(start)?..number(end)?)
                .contains(&address)
                .then_some(())
        };
        let mut own = maps.lines().skip_while(|line| holds_it(line).is_none());
        let flags = own.find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn secrets_of_any_length_are_kept() {
        for len in [0, 1, 4095, 4096, 4097, 8192] {
            let bytes = vec![7; len];
            assert_eq!(SecretBytes::copy_of(&bytes).unwrap().as_bytes(), bytes);
        }
    }
}
