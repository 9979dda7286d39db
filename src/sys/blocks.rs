//! The blocks of files on file systems that copy what is written over.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Has the blocks of a file that is empty yet written over in place, on a file system that would else
/// write each anew (btrfs): that takes room. An error where there is no such flag.
pub fn write_in_place(file: BorrowedFd<'_>) -> io::Result<()> {
    /// FS_NOCOW_FL in linux/fs.h.
    const NO_COPY_ON_WRITE: c_int = 0x0080_0000;
    let mut flags: c_int = 0;
    let fd = file.as_raw_fd();
    // SAFETY: the kernel writes an int, whatever the request's number says, and the local is one.
    check(unsafe { libc::ioctl(fd, libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    flags |= NO_COPY_ON_WRITE;
    // SAFETY: as above; it reads one.
    check(unsafe { libc::ioctl(fd, libc::FS_IOC_SETFLAGS, &raw const flags) }).map(drop)
}

/// Whether another file has blocks of this one as well, in a snapshot or a copy by reference: to write
/// over them takes room.
pub fn shares_blocks(file: BorrowedFd<'_>) -> io::Result<bool> {
    /// `struct fiemap_extent` in linux/fiemap.h.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Extent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved: [u64; 2],
        flags: u32,
        reserved_too: [u32; 3],
    }
    /// `struct fiemap`, with room for some extents behind it.
    #[repr(C)]
    #[derive(Default)]
    struct Map {
        start: u64,
        length: u64,
        flags: u32,
        found: u32,
        room: u32,
        reserved: u32,
        extents: [Extent; 32],
    }
    const FIEMAP: libc::Ioctl = libc::_IOWR::<[u8; 32]>(b'f' as u32, 11);
    const LAST: u32 = 0x1;
    const SHARED: u32 = 0x2000;
    let mut start = 0;
    loop {
        let mut map = Map {
            start,
            length: u64::MAX - start,
            room: 32,
            ..Map::default()
        };
        // SAFETY: the kernel writes at most the extents that there is room for.
        check(unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP, &raw mut map) })?;
        let extents = map.extents.get(..map.found as usize).unwrap_or_default();
        if extents.iter().any(|extent| extent.flags & SHARED != 0) {
            return Ok(true);
        }
        match extents.last() {
            Some(last) if last.flags & LAST == 0 && last.length > 0 => {
                start = last.logical.saturating_add(last.length);
            }
            _ => return Ok(false),
        }
    }
}
