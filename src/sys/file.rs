//! Files and directories by their names below an open directory.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};

use super::check;
use super::thread::{errno, errno_address};

/// Opens `name` below the directory `dir`.
pub fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: c_int, mode: u32) -> io::Result<File> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, mode) })?;
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The names in the directory `dir`, those that are UTF-8.
pub fn names_in(dir: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    struct Stream(*mut libc::DIR);
    impl Drop for Stream {
        fn drop(&mut self) {
            // SAFETY: opened below, and closed only here.
            unsafe { libc::closedir(self.0) };
        }
    }
    // Opened anew, for a position of its own. A fork between here and the end leaves the child a
    // copy that does nothing.
    let own = open_at(dir, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    // SAFETY: the descriptor is a directory's.
    let stream = unsafe { libc::fdopendir(own.as_raw_fd()) };
    if stream.is_null() {
        return Err(io::Error::last_os_error());
    }
    let stream = Stream(stream);
    // It's the stream's from here on.
    let _ = own.into_raw_fd();
    let mut names = Vec::new();
    loop {
        // SAFETY: as in `errno`.
        unsafe { errno_address().write(0) };
        // SAFETY: the stream is open, and this thread's alone.
        let item = unsafe { libc::readdir(stream.0) };
        if item.is_null() {
            return match errno() {
                0 => Ok(names),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        // SAFETY: readdir returned an entry, which stays until the next call.
        let name = unsafe { &raw const (*item).d_name };
        // SAFETY: the name ends with NUL within the entry.
        let name = unsafe { CStr::from_ptr(name.cast()) };
        if let Ok(name) = name.to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
}

/// Makes the directory `name` below `dir`.
pub fn make_directory_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    let mode = mode as libc::mode_t;
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Removes the file `name` below `dir`.
pub fn remove_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Removes the directory `name` below `dir`, which must be empty.
pub fn remove_directory_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let (fd, flags) = (dir.as_raw_fd(), libc::AT_REMOVEDIR);
    // SAFETY: the name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(fd, name.as_ptr(), flags) }).map(drop)
}

/// Gives the file `from` below `from_dir` the further name `to` below `to_dir`, unless that is
/// taken.
pub fn link_at(
    from_dir: BorrowedFd<'_>,
    from: &CStr,
    to_dir: BorrowedFd<'_>,
    to: &CStr,
) -> io::Result<()> {
    let (from_dir, to_dir) = (from_dir.as_raw_fd(), to_dir.as_raw_fd());
    // SAFETY: the names are NUL-terminated and outlive the call.
    check(unsafe { libc::linkat(from_dir, from.as_ptr(), to_dir, to.as_ptr(), 0) }).map(drop)
}

/// Renames `from` to `to`, both below `dir`.
pub fn rename_at(dir: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    let fd = dir.as_raw_fd();
    // SAFETY: the names are NUL-terminated and outlive the call.
    check(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) }).map(drop)
}

/// The identity of what `name` below `dir` is now, links not followed: device and inode.
pub fn identity_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is NUL-terminated; the structure is a local of the right type.
    check(unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: fstatat succeeded, so it filled the structure.
    let stat = unsafe { stat.assume_init() };
    // The device is an i32 on macOS.
    #[allow(clippy::unnecessary_cast)]
    Ok((stat.st_dev as u64, stat.st_ino))
}

/// The type of the file system that `file` is on, as statfs(2) numbers them.
pub fn file_system_type(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the structure is a local of the right type.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstatfs succeeded, so it filled the structure.
    let stat = unsafe { stat.assume_init() };
    // The field is 32 bits wide in some places; magic numbers have no more.
    Ok(u64::from(stat.f_type as u32))
}
