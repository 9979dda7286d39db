//! A directory held open, and the files in it. A rename or a link put in its place later changes
//! nothing, no link in it is followed, and nobody else's file is touched.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use uuid::Uuid;

use crate::read::lines::line_start;
use crate::sys::{self, Private};

/// A file of the log. It is this process's alone: a fork closes the child's copy.
pub type OpenFile = Private<File>;

/// Who may read the log beside its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    Owner,
    /// The members of a group, by its id. What is in `.state` stays the owner's.
    Group(u32),
}

impl Access {
    /// Of its directories. Whatever the umask: the log names users and models.
    pub fn directory_mode(self) -> u32 {
        match self {
            Access::Owner => 0o700,
            // New files belong to the group, whoever makes them.
            Access::Group(_) => 0o2750,
        }
    }

    /// Of its files.
    pub fn file_mode(self) -> u32 {
        match self {
            Access::Owner => 0o600,
            Access::Group(_) => 0o640,
        }
    }

    fn group(self) -> Option<u32> {
        match self {
            Access::Owner => None,
            Access::Group(group) => Some(group),
        }
    }
}

/// What the names of files begin with that are renamed at once.
pub const TEMPORARY: &str = "new-";

/// The device and inode of a file: what tells it from another of its name.
pub fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// What may be missing.
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// A directory of the log.
#[derive(Debug)]
pub struct Folder {
    handle: OpenFile,
    access: Access,
}

impl Folder {
    /// The directory that `handle` is.
    pub fn new(handle: OpenFile, access: Access) -> Folder {
        Folder { handle, access }
    }

    /// Opens the directory `name` in this one, which is made if it is missing.
    pub fn folder(&self, name: &str, access: Access) -> io::Result<Folder> {
        let place = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let c_name = c_name(name)?;
        let mode = access.directory_mode();
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let open = || Private::new(|| sys::open_at(self.handle.as_fd(), &c_name, flags, 0));
        // First, for it nearly always is: sealing opens some dozens at once.
        let there = if_there(open()).map_err(place)?;
        let handle = match there {
            Some(handle) => handle,
            None => match sys::make_directory_at(self.handle.as_fd(), &c_name, mode) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(place(error));
                }
                _ => open().map_err(place)?,
            },
        };
        let metadata = handle.metadata().map_err(place)?;
        check_owner(&metadata).map_err(place)?;
        // The set-group-id bit comes with a directory above that has it.
        if metadata.mode() & 0o7777 != mode && metadata.uid() == sys::user() {
            own(&handle, access, mode).map_err(place)?;
        }
        Ok(Folder { handle, access })
    }

    /// Removes a directory in it, which must be empty.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        sys::remove_directory_at(self.handle.as_fd(), &c_name(name)?)
    }

    /// Who may read it.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The directory's own handle.
    pub fn handle(&self) -> &File {
        &self.handle
    }

    /// Opens a file. Only a plain file with one name will do.
    pub fn open(&self, name: &str, flags: i32) -> io::Result<OpenFile> {
        self.open_tightened(name, flags).map(|(file, _)| file)
    }

    /// The same, and says whether it was open to more than it should be and isn't any more.
    pub fn open_tightened(&self, name: &str, flags: i32) -> io::Result<(OpenFile, bool)> {
        let place = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let c_name = c_name(name)?;
        let mode = self.access.file_mode();
        // Not blocking, for a FIFO without a reader would hold the caller for ever.
        let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        // Opened again because of a fork, it's there: we made it.
        let again = Cell::new(0);
        let file = Private::new(|| {
            let flags = flags & !again.replace(libc::O_EXCL);
            sys::open_at(self.handle.as_fd(), &c_name, flags, mode).inspect_err(|_| again.set(0))
        });
        let file = file.map_err(place)?;
        let metadata = file.metadata().map_err(place)?;
        // Reading another name's file harms nobody.
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        if !metadata.is_file() || writes && metadata.nlink() > 1 {
            return Err(place(io::Error::other(
                "is not a plain file with one name; move it away",
            )));
        }
        check_owner(&metadata).map_err(place)?;
        let ours = metadata.uid() == sys::user();
        let other_group = self
            .access
            .group()
            .is_some_and(|group| group != metadata.gid());
        let too_open = metadata.mode() & 0o777 & !mode != 0 && metadata.len() > 0;
        let unreadable = self.access != Access::Owner && metadata.mode() & 0o040 == 0;
        if ours && writes && (too_open || other_group || unreadable || metadata.len() == 0) {
            own(&file, self.access, mode).map_err(place)?;
        }
        Ok((file, ours && writes && too_open))
    }

    /// Whether `name` is still the file that `file` was opened as.
    pub fn still_names(&self, name: &str, file: &File) -> bool {
        match (c_name(name), file.metadata()) {
            (Ok(name), Ok(metadata)) => sys::identity_at(self.handle.as_fd(), &name)
                .is_ok_and(|found| found == identity(&metadata)),
            _ => false,
        }
    }

    /// A file, whole, as far as it isn't longer than `longest`.
    pub fn read(&self, name: &str, longest: u64) -> io::Result<Vec<u8>> {
        let file = self.open(name, libc::O_RDONLY)?;
        let mut bytes = Vec::new();
        (&*file).take(longest).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a file that isn't there yet.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<OpenFile> {
        let file = self.open(name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL)?;
        (&*file)
            .write_all(bytes)
            .inspect_err(sys::note_write_error)?;
        Ok(file)
    }

    /// Appends lines to a file of which a lock is held, created if it is missing.
    pub fn append(&self, name: &str, lines: &[u8]) -> io::Result<OpenFile> {
        let file = self.open(name, libc::O_RDWR | libc::O_APPEND | libc::O_CREAT)?;
        append_lines(&file, lines)?;
        Ok(file)
    }

    /// Replaces a file as a whole: readers see the old one or the new one. `to_disk`: after a power
    /// cut as well, once the directory is synced.
    pub fn replace(&self, name: &str, bytes: &[u8], to_disk: bool) -> io::Result<()> {
        let temporary = format!("{TEMPORARY}{}", Uuid::new_v4());
        let replaced = self.write(&temporary, bytes).and_then(|file| {
            if to_disk {
                file.sync_all()?;
            }
            self.rename(&temporary, name)
        });
        replaced.map_err(|error| {
            let _ = self.remove(&temporary);
            io::Error::new(error.kind(), format!("{name}: {error}"))
        })
    }

    /// Renames a file, in the place of another if there is one.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        sys::rename_at(self.handle.as_fd(), &c_name(from)?, &c_name(to)?)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        sys::remove_at(self.handle.as_fd(), &c_name(name)?)
    }

    /// Gives a file a further name, here or in another folder: an error of kind `AlreadyExists` if it
    /// isn't free.
    pub fn link(&self, name: &str, to: &Folder, further: &str) -> io::Result<()> {
        let (from, into) = (self.handle.as_fd(), to.handle.as_fd());
        sys::link_at(from, &c_name(name)?, into, &c_name(further)?)
    }

    /// Whether a name is taken.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        let found = sys::identity_at(self.handle.as_fd(), &c_name(name)?);
        if_there(found).map(|found| found.is_some())
    }

    /// The names of the files in it.
    pub fn names(&self) -> io::Result<Vec<String>> {
        sys::names_in(self.handle.as_fd())
    }

    /// Has the disk confirm the names in it.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Has the disk confirm the names in a directory below it.
    pub fn sync_below(&self, path: &str) -> io::Result<()> {
        let (path, flags) = (c_name(path)?, libc::O_RDONLY | libc::O_DIRECTORY);
        Private::new(|| sys::open_at(self.handle.as_fd(), &path, flags, 0))?.sync_all()
    }

    /// The lock of the file `name`, or `None` while another process holds it. It ends with the value,
    /// or with the process.
    pub fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        Lock::try_on(self.open(name, libc::O_RDWR | libc::O_CREAT)?)
    }
}

/// Appends lines to a file that is open to append and locked. What a killed or failing write left of a
/// line is cut off: it could be taken for one.
pub fn append_lines(mut file: &File, lines: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    let whole = line_start(file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    let written = file.write_all(lines).inspect_err(sys::note_write_error);
    if written.is_err() {
        // If it stays, the next one cuts it off.
        let _ = file.set_len(whole);
    }
    written
}

/// A lock, held while it lives.
#[derive(Debug)]
pub struct Lock {
    file: OpenFile,
}

impl Lock {
    /// Locks a file, unless another opening of it is locked.
    pub fn try_on(file: OpenFile) -> io::Result<Option<Lock>> {
        Ok(try_lock(&file)?.then_some(Lock { file }))
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        unlock(&self.file);
    }
}

/// Gives a lock back before its file is closed: a child that is forked just then may keep a copy of
/// the descriptor, and the lock with it.
pub fn unlock(file: &OpenFile) {
    if file.is_ours() {
        // It ends with the descriptor otherwise.
        let _ = file.unlock();
    }
}

/// Locks a file, unless another process or another opening of it holds its lock.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn c_name(name: &str) -> io::Result<CString> {
    Ok(CString::new(name)?)
}

/// Whoever owns a file can change it, whatever its mode.
pub fn check_owner(metadata: &Metadata) -> io::Result<()> {
    if metadata.uid() == sys::user() || metadata.uid() == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "belongs to user {}, who could change the log; it must be this process's own (user {}) or \
         root's",
        metadata.uid(),
        sys::user()
    )))
}

/// Sets the mode, and the group if there is one.
pub fn own(file: &File, access: Access, mode: u32) -> io::Result<()> {
    if let Some(group) = access.group() {
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
