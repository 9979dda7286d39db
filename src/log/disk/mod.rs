//! The disk, as the log sees it: directories held open, and the files in them. A rename or a link put
//! in a directory's place later changes nothing, no link in it is followed, and nobody else's file is
//! touched.
//!
//! All that the log does to its files goes through [`Folder`] and [`File`]. Below them is the real
//! disk or, in the tests, a simulated one that forgets, tears and refuses what it wasn't made to sync.

mod part;
mod real;
#[cfg(test)]
pub mod simulated;

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

pub use part::{Part, line_start};

use crate::sys;

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
    fn file_mode(self) -> u32 {
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

/// What a file is opened for. All but the first may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Reading alone.
    Read,
    /// Reading, and writing over what stands in it.
    Change,
    /// The same, and it's created if it is missing.
    Make,
    /// The same, and it must not be there yet.
    New,
    /// Reading, and writing at its end, wherever that is by then.
    Append {
        /// Whether it must not be there yet; else it's created if it is missing.
        new: bool,
    },
}

/// The device and inode of a file: what tells it from another that has its name at the same time.
pub type Identity = (u64, u64);

/// What is known of a file or directory beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Which it is.
    pub identity: Identity,
    /// Bytes.
    pub length: u64,
    /// Whether it's a plain file.
    pub is_file: bool,
    /// How many names it has.
    pub links: u64,
    /// Its permissions.
    pub mode: u32,
    /// The user it belongs to.
    pub owner: u32,
    /// The group it belongs to.
    pub group: u32,
    /// When it was changed.
    pub modified: Option<SystemTime>,
}

impl Stat {
    /// Whoever owns a file can change it, whatever its mode.
    pub fn check_owner(&self) -> io::Result<()> {
        if self.owner == sys::user() || self.owner == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "belongs to user {}, who could change the log; it must be this process's own (user {}) \
             or root's",
            self.owner,
            sys::user()
        )))
    }
}

/// What the names of files begin with that are renamed or linked as soon as they are whole.
pub const TEMPORARY: &str = "new-";

/// A name for such a file that no other has.
pub fn temporary_name() -> String {
    format!("{TEMPORARY}{}", Uuid::new_v4())
}

/// What may be missing.
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// An error that says what it's about.
pub fn about(what: impl Display) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// One of two disks.
#[derive(Debug)]
enum On<R, S> {
    Real(R),
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests' disk"))]
    Simulated(S),
}

#[cfg(not(test))]
mod simulated {
    //! No release has a simulated disk.

    /// No file.
    #[derive(Debug)]
    pub enum File {}
    /// No directory.
    #[derive(Debug)]
    pub enum Folder {}
}

/// Has the disk do it that the value is on.
macro_rules! on {
    ($value:expr, $it:ident => $does:expr) => {
        match $value {
            On::Real($it) => $does,
            #[cfg(test)]
            On::Simulated($it) => $does,
            #[cfg(not(test))]
            On::Simulated(never) => match *never {},
        }
    };
}

/// An open file of the log.
#[derive(Debug)]
pub struct File(On<real::File, simulated::File>);

impl File {
    /// Reads from a place, as far as the file and the room go.
    pub fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        on!(&self.0, file => file.read_at(into, at))
    }

    /// Reads from a place until the room is full; an error of kind `UnexpectedEof` if the file ends
    /// before.
    pub fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let (mut into, mut at) = (into, at);
        while !into.is_empty() {
            match self.read_at(into, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    into = into.get_mut(read..).unwrap_or_default();
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes at a place, all of it. If it was opened to append, that isn't where it goes.
    pub fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let (mut bytes, mut at) = (bytes, at);
        while !bytes.is_empty() {
            match on!(&self.0, file => file.write_at(bytes, at)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    at += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes at the end, in one piece; returns how much of it came to be there.
    pub fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match on!(&self.0, file => file.append(bytes)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                appended => return appended,
            }
        }
    }

    /// Where what was appended last through this handle ends.
    pub fn position(&self) -> io::Result<u64> {
        on!(&self.0, file => file.position())
    }

    /// Cuts it off, or makes it longer with zeros that take no room.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        on!(&self.0, file => file.set_len(length))
    }

    /// Has the disk confirm its bytes.
    pub fn sync_data(&self) -> io::Result<()> {
        on!(&self.0, file => file.sync_data())
    }

    /// Has the disk confirm it with all that is known of it.
    pub fn sync_all(&self) -> io::Result<()> {
        on!(&self.0, file => file.sync_all())
    }

    /// What is known of it.
    pub fn stat(&self) -> io::Result<Stat> {
        on!(&self.0, file => file.stat())
    }

    /// Its length.
    pub fn length(&self) -> io::Result<u64> {
        self.stat().map(|stat| stat.length)
    }

    /// Has those read it who may.
    pub fn own(&self, access: Access) -> io::Result<()> {
        on!(&self.0, file => file.own(access.group(), access.file_mode()))
    }

    /// Has its blocks written over in place, while it's empty, on a file system that would else write each
    /// anew (btrfs): that takes room. An error where there is no such flag.
    pub fn write_in_place(&self) -> io::Result<()> {
        on!(&self.0, file => file.write_in_place())
    }

    /// Whether a snapshot or a copy has blocks of it as well: to write over them takes room.
    pub fn shares_blocks(&self) -> io::Result<bool> {
        on!(&self.0, file => file.shares_blocks())
    }

    /// Locks it, unless another opening of it, in this or another process, is locked.
    pub fn try_lock(&self) -> io::Result<bool> {
        on!(&self.0, file => file.try_lock())
    }

    /// Gives its lock back before it is closed: a child that is forked just then may keep a copy of
    /// the descriptor, and the lock with it.
    pub fn unlock(&self) {
        on!(&self.0, file => file.unlock());
    }
}

/// A directory of the log.
#[derive(Debug)]
pub struct Folder {
    on: On<real::Folder, simulated::Folder>,
    access: Access,
    /// Others keep files there too: those that are there stay as open as they are.
    shared: bool,
}

impl Folder {
    /// The directory at a path, on the real disk.
    pub fn at(path: &Path, access: Access) -> io::Result<Folder> {
        Ok(Folder {
            on: On::Real(real::Folder::at(path)?),
            access,
            shared: false,
        })
    }

    /// A directory that isn't the log's, at a path on the same machine.
    pub fn elsewhere(&self, path: &Path) -> io::Result<Folder> {
        let on = match &self.on {
            On::Real(_) => On::Real(real::Folder::at(path)?),
            #[cfg(test)]
            On::Simulated(folder) => On::Simulated(folder.elsewhere(path)?),
            #[cfg(not(test))]
            On::Simulated(never) => match *never {},
        };
        Ok(Folder {
            on,
            access: Access::Owner,
            shared: true,
        })
    }

    /// One on a simulated disk.
    #[cfg(test)]
    pub fn simulated(folder: simulated::Folder, access: Access) -> Folder {
        Folder {
            on: On::Simulated(folder),
            access,
            shared: false,
        }
    }

    /// Opens the directory `name` in this one, which is made if it is missing.
    pub fn folder(&self, name: &str, access: Access) -> io::Result<Folder> {
        let open = || {
            Ok::<_, io::Error>(match &self.on {
                On::Real(folder) => On::Real(folder.folder(name)?),
                #[cfg(test)]
                On::Simulated(folder) => On::Simulated(folder.folder(name)?),
                #[cfg(not(test))]
                On::Simulated(never) => match *never {},
            })
        };
        let mode = access.directory_mode();
        // First, for it nearly always is: sealing opens some dozens at once.
        let there = if_there(open()).map_err(about(name))?;
        let on = match there {
            Some(on) => on,
            None => match on!(&self.on, folder => folder.make_folder(name, mode)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(about(name)(error));
                }
                _ => open().map_err(about(name))?,
            },
        };
        let folder = Folder {
            on,
            access,
            shared: false,
        };
        let stat = folder.stat().map_err(about(name))?;
        stat.check_owner().map_err(about(name))?;
        // The set-group-id bit comes with a directory above that has it.
        if stat.mode != mode && stat.owner == sys::user() {
            folder.own(mode).map_err(about(name))?;
        }
        Ok(folder)
    }

    /// Removes a directory in it, which must be empty.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        on!(&self.on, folder => folder.remove_folder(name))
    }

    /// Who may read it.
    pub fn access(&self) -> Access {
        self.access
    }

    /// What is known of the directory itself.
    pub fn stat(&self) -> io::Result<Stat> {
        on!(&self.on, folder => folder.stat())
    }

    /// Sets the directory's own mode, and its group if there is one.
    pub fn own(&self, mode: u32) -> io::Result<()> {
        on!(&self.on, folder => folder.own(self.access.group(), mode))
    }

    /// The magic number of its file system (`statfs(2)`).
    pub fn file_system_type(&self) -> io::Result<u64> {
        on!(&self.on, folder => folder.file_system_type())
    }

    /// Names the time since the machine was booted, if the kernel does: in another, what is read is what
    /// the disk has.
    pub fn boot(&self) -> Option<String> {
        on!(&self.on, folder => folder.boot())
    }

    /// Waits.
    pub fn pause(&self, time: Duration) {
        on!(&self.on, folder => folder.pause(time));
    }

    /// Opens a file. Only a plain file will do, and one with a second name only to read it: a link, a
    /// FIFO or a device could send the log elsewhere or stop the host.
    pub fn open(&self, name: &str, how: How) -> io::Result<File> {
        self.open_tightened(name, how).map(|(file, _)| file)
    }

    /// The same, and says whether it was open to more than it should be and isn't any more.
    pub fn open_tightened(&self, name: &str, how: How) -> io::Result<(File, bool)> {
        let opened = self.open_and_check(name, how);
        opened.map_err(about(name))
    }

    fn open_and_check(&self, name: &str, how: How) -> io::Result<(File, bool)> {
        let mode = self.access.file_mode();
        let file = File(match &self.on {
            On::Real(folder) => On::Real(folder.open(name, how, mode)?),
            #[cfg(test)]
            On::Simulated(folder) => On::Simulated(folder.open(name, how, mode)?),
            #[cfg(not(test))]
            On::Simulated(never) => match *never {},
        });
        let stat = file.stat()?;
        let writes = how != How::Read;
        if !stat.is_file || writes && stat.links > 1 {
            return Err(io::Error::other(
                "is not a plain file with one name; move it away",
            ));
        }
        stat.check_owner()?;
        let group = self.access.group();
        let other_group = group.is_some_and(|group| group != stat.group);
        let too_open = !self.shared && stat.mode & 0o777 & !mode != 0 && stat.length > 0;
        let unreadable = self.access != Access::Owner && stat.mode & 0o040 == 0;
        let ours = stat.owner == sys::user();
        if ours && writes && (too_open || other_group || unreadable || stat.length == 0) {
            file.own(self.access)?;
        }
        Ok((file, ours && writes && too_open))
    }

    /// Whether `name` is still the file that `file` was opened as.
    pub fn still_names(&self, name: &str, file: &File) -> bool {
        match (self.identity_of(name), file.stat()) {
            (Ok(found), Ok(stat)) => found == stat.identity,
            _ => false,
        }
    }

    /// Whether a file has a name in it that isn't hidden.
    pub fn shows(&self, file: &File) -> io::Result<bool> {
        let names = self.names()?;
        let mut visible = names.iter().filter(|name| !name.starts_with('.'));
        Ok(visible.any(|name| self.still_names(name, file)))
    }

    /// Which file or directory has a name. A link isn't followed.
    pub fn identity_of(&self, name: &str) -> io::Result<Identity> {
        on!(&self.on, folder => folder.identity_of(name))
    }

    /// Whether a name is taken.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        if_there(self.identity_of(name)).map(|found| found.is_some())
    }

    /// A file, whole, as far as it isn't longer than `longest`.
    pub fn read(&self, name: &str, longest: u64) -> io::Result<Vec<u8>> {
        let file = self.open(name, How::Read)?;
        let length = file.length()?.min(longest);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], read as u64) {
                // It was cut off meanwhile.
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Writes a file that isn't there yet.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        let file = self.open(name, How::New)?;
        file.write_all_at(bytes, 0)?;
        Ok(file)
    }

    /// Appends lines to a file of which a lock is held, created if it is missing.
    pub fn append(&self, name: &str, lines: &[u8]) -> io::Result<File> {
        let file = self.open(name, How::Append { new: false })?;
        append_lines(&file, lines).map_err(about(name))?;
        Ok(file)
    }

    /// Replaces a file as a whole: readers see the old one or the new one. `to_disk`: after a power
    /// cut as well, once the directory is synced.
    pub fn replace(&self, name: &str, bytes: &[u8], to_disk: bool) -> io::Result<()> {
        let temporary = temporary_name();
        let replaced = self.write(&temporary, bytes).and_then(|file| {
            if to_disk {
                file.sync_all()?;
            }
            self.rename(&temporary, name)
        });
        replaced.map_err(|error| {
            let _ = self.remove(&temporary);
            about(name)(error)
        })
    }

    /// Renames a file, in the place of another if there is one.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        on!(&self.on, folder => folder.rename(from, to))
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        on!(&self.on, folder => folder.remove(name))
    }

    /// Gives a file a further name, here or in another folder: an error of kind `AlreadyExists` if it
    /// isn't free.
    pub fn link(&self, name: &str, to: &Folder, further: &str) -> io::Result<()> {
        match (&self.on, &to.on) {
            (On::Real(from), On::Real(into)) => from.link(name, into, further),
            #[cfg(test)]
            (On::Simulated(from), On::Simulated(into)) => from.link(name, into, further),
            _ => Err(io::ErrorKind::CrossesDevices.into()),
        }
    }

    /// The names of the files in it.
    pub fn names(&self) -> io::Result<Vec<String>> {
        on!(&self.on, folder => folder.names())
    }

    /// Has the disk confirm the names in it.
    pub fn sync(&self) -> io::Result<()> {
        on!(&self.on, folder => folder.sync())
    }

    /// The lock of the file `name`, or `None` while another process holds it.
    pub fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let file = self.open(name, How::Make)?;
        Lock::on(file, |file| self.still_names(name, file))
    }
}

/// Appends lines to a file that is open to append and locked. What a killed or failing write left of a
/// line is cut off: it could be taken for one.
pub fn append_lines(file: &File, lines: &[u8]) -> io::Result<()> {
    /// No line that is appended so is longer; what is, somebody else has put there, and it is ended.
    const LONGEST: u64 = 64 * 1024;
    let length = file.length()?;
    let from = length.saturating_sub(LONGEST);
    let mut end = vec![0; usize::try_from(length - from).unwrap_or_default()];
    file.read_exact_at(&mut end, from)?;
    let whole = match end.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => from + last as u64 + 1,
        None if from == 0 => 0,
        None => {
            file.append(b"\n")?;
            file.length()?
        }
    };
    if whole < length {
        file.set_len(whole)?;
    }
    match file.append(lines) {
        Ok(written) if written == lines.len() => Ok(()),
        failed => {
            // If it stays, the next one cuts it off.
            let _ = file.set_len(whole);
            Err(failed.err().unwrap_or(io::ErrorKind::StorageFull.into()))
        }
    }
}

/// A lock. It ends with the value, or with the process.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Locks a file, unless another opening of it is locked. Locked, it must still be the one that is
    /// meant: a lock on a file that was removed keeps nobody out.
    pub fn on(file: File, is_it: impl Fn(&File) -> bool) -> io::Result<Option<Lock>> {
        if !file.try_lock()? {
            return Ok(None);
        }
        let lock = Lock(file);
        Ok(is_it(&lock.0).then_some(lock))
    }

    /// The file that is locked.
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// Waits until something is to be had, or for so long, or until the caller gives up. `None` if it
/// isn't by then.
pub fn wait_for<T, E>(
    patience: Duration,
    mut gives_up: impl FnMut() -> Result<(), E>,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    const PAUSE: Duration = Duration::from_millis(5);
    let since = Instant::now();
    loop {
        gives_up()?;
        match attempt()? {
            None if since.elapsed() < patience => std::thread::sleep(PAUSE),
            found => return Ok(found),
        }
    }
}
