//! The real disk: the system calls behind the interface, each one operation.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::Duration;

use super::{How, Stat};
use crate::sys::{self, Private};

/// An open file. It is this process's alone: a fork closes the child's copy.
#[derive(Debug)]
pub struct File(Private<fs::File>);

impl File {
    pub fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    pub fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let written = self.0.write_at(bytes, at);
        written.inspect_err(sys::note_write_error)
    }

    pub fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&*self.0).write(bytes);
        written.inspect_err(sys::note_write_error)
    }

    pub fn position(&self) -> io::Result<u64> {
        (&*self.0).stream_position()
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length).inspect_err(sys::note_write_error)
    }

    pub fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    pub fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    pub fn stat(&self) -> io::Result<Stat> {
        self.0.metadata().map(|metadata| Stat::of(&metadata))
    }

    pub fn own(&self, group: Option<u32>, mode: u32) -> io::Result<()> {
        own(&self.0, group, mode)
    }

    pub fn write_in_place(&self) -> io::Result<()> {
        sys::write_in_place(self.0.as_fd())
    }

    pub fn shares_blocks(&self) -> io::Result<bool> {
        sys::shares_blocks(self.0.as_fd())
    }

    pub fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn unlock(&self) {
        // In a child of fork the descriptor is closed, and its number may be another file's.
        if self.0.is_ours() {
            // It ends with the descriptor otherwise.
            let _ = self.0.unlock();
        }
    }
}

/// A directory, held open: a rename or a link put in its place later changes nothing.
#[derive(Debug)]
pub struct Folder(Private<fs::File>);

impl Folder {
    /// The directory at a path. Links in it are followed.
    pub fn at(path: &Path) -> io::Result<Folder> {
        Private::new(|| fs::File::open(path)).map(Folder)
    }

    pub fn open(&self, name: &str, how: How, mode: u32) -> io::Result<File> {
        let name = c_name(name)?;
        // A link isn't followed; and not blocking, for a FIFO without a reader would hold the caller
        // for ever.
        let flags = flags_of(how) | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        // Opened again because of a fork, it's there: we made it.
        let again = Cell::new(0);
        let file = Private::new(|| {
            let flags = flags & !again.replace(libc::O_EXCL);
            sys::open_at(self.0.as_fd(), &name, flags, mode).inspect_err(|_| again.set(0))
        });
        file.map(File)
    }

    pub fn folder(&self, name: &str) -> io::Result<Folder> {
        let name = c_name(name)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        Private::new(|| sys::open_at(self.0.as_fd(), &name, flags, 0)).map(Folder)
    }

    pub fn make_folder(&self, name: &str, mode: u32) -> io::Result<()> {
        sys::make_directory_at(self.0.as_fd(), &c_name(name)?, mode)
    }

    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        sys::remove_directory_at(self.0.as_fd(), &c_name(name)?)
    }

    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        sys::rename_at(self.0.as_fd(), &c_name(from)?, &c_name(to)?)
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        sys::remove_at(self.0.as_fd(), &c_name(name)?)
    }

    pub fn link(&self, name: &str, to: &Folder, further: &str) -> io::Result<()> {
        let (from, into) = (self.0.as_fd(), to.0.as_fd());
        sys::link_at(from, &c_name(name)?, into, &c_name(further)?)
    }

    pub fn identity_of(&self, name: &str) -> io::Result<(u64, u64)> {
        sys::identity_at(self.0.as_fd(), &c_name(name)?)
    }

    pub fn names(&self) -> io::Result<Vec<String>> {
        sys::names_in(self.0.as_fd())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    pub fn stat(&self) -> io::Result<Stat> {
        self.0.metadata().map(|metadata| Stat::of(&metadata))
    }

    pub fn own(&self, group: Option<u32>, mode: u32) -> io::Result<()> {
        own(&self.0, group, mode)
    }

    pub fn boot(&self) -> Option<String> {
        sys::boot_id()
    }

    pub fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    pub fn file_system_type(&self) -> io::Result<u64> {
        sys::file_system_type(self.0.as_fd())
    }
}

impl Stat {
    fn of(metadata: &fs::Metadata) -> Stat {
        Stat {
            identity: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            is_file: metadata.is_file(),
            links: metadata.nlink(),
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            group: metadata.gid(),
            modified: metadata.modified().ok(),
        }
    }
}

fn flags_of(how: How) -> i32 {
    let append = match how {
        How::Append { .. } => libc::O_APPEND,
        _ => 0,
    };
    let access = match how {
        How::Read => libc::O_RDONLY,
        _ => libc::O_RDWR,
    };
    let create = match how {
        How::Read | How::Change => 0,
        How::New | How::Append { new: true } => libc::O_CREAT | libc::O_EXCL,
        How::Make | How::Append { new: false } => libc::O_CREAT,
    };
    access | append | create
}

fn own(file: &fs::File, group: Option<u32>, mode: u32) -> io::Result<()> {
    if let Some(group) = group {
        fchown(file, None, Some(group)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "can't be given to group {group} (\"access\"): {error}; the process must be \
                     root or a member of it"
                ),
            )
        })?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}

fn c_name(name: &str) -> io::Result<CString> {
    Ok(CString::new(name)?)
}
