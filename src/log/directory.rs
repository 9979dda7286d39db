//! The log's directory: how it is opened, what is refused, and what is where in it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::disk::{self, Access, Folder, How, Identity, Lock, TEMPORARY, if_there, temporary_name};
use crate::error::Error;
use crate::format::name::DayName;
use crate::sys::{self, Private};

/// Anything from a local disk to a bucket.
const FUSE: u64 = 0x6573_5546;
const BTRFS: u64 = 0x9123_683e;
const NFS: u64 = 0x6969;

/// The directory of the Merkle log, below that of the log.
pub const TREE: &str = ".integrity";

/// That of the library's own files.
const STATE: &str = ".state";

impl Access {
    /// Who may read the log in a directory, as it is now.
    pub fn found_in(path: &Path) -> io::Result<Access> {
        let directory = path.metadata()?;
        let group = directory.gid();
        let lets_group_read = |name: &String| {
            let file = path.join(name).symlink_metadata();
            file.is_ok_and(|file| file.gid() == group && file.mode() & 0o040 != 0)
        };
        let names = sys::names_in(Private::new(|| File::open(path))?.as_fd())?;
        let days = names.iter().filter(|name| DayName::parse(name).is_some());
        let given = directory.mode() & 0o2050 == 0o2050;
        Ok(match days.max() {
            Some(last) if given && lets_group_read(last) => Access::Group(group),
            _ => Access::Owner,
        })
    }
}

/// The version of what this library keeps in a directory. A directory of a later version is
/// refused: an older library could do damage in a newer one's files.
const FORMAT: &str = "audit_logger 2\n";

/// That of a directory in which days are, or were, held: a library that knows no holds would remove
/// them, and refuses it.
const WITH_HOLDS: &str = "audit_logger 3\n";

/// Versions that this one goes on from: FORMAT.md, "Versions", says what differs.
const EARLIER: [&str; 1] = ["audit_logger 1\n"];

/// No file that is read whole because it's small is longer.
pub const SMALL: u64 = 1 << 20;

/// What can't be told from a warning that was given before is not given again, and no more than
/// these are kept.
const MAX_WARNINGS: usize = 16;

/// How a directory is to be opened.
#[derive(Debug, Clone)]
pub struct Opening<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// Whether it is created where it's missing, and made a log's where it is none.
    pub create: bool,
    /// Who may read it.
    pub access: Access,
    /// Whether it may be on a network file system.
    pub allow_network: bool,
    /// Whether the disk is to confirm what is made.
    pub to_disk: bool,
    /// The device and inode it must have, if it was opened before.
    pub identity: Option<Identity>,
}

/// The log's directory, held open.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    log: Folder,
    state: Folder,
    /// The file system's type, as statfs(2) numbers them.
    kind: u64,
    warnings: Mutex<Vec<String>>,
}

impl Directory {
    /// Opens the directory.
    pub fn open(opening: &Opening<'_>) -> Result<Directory, Error> {
        Self::try_open(opening).map_err(|error| failed(opening.path, &error))
    }

    fn try_open(opening: &Opening<'_>) -> io::Result<Directory> {
        let access = opening.access;
        let path = &std::path::absolute(opening.path)?;
        if !opening.create {
            // A directory that was named by mistake stays as it is.
            std::fs::metadata(path.join(STATE).join("format")).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("holds no log ({STATE}/format: {error}); name a logger's output_path"),
                )
            })?;
        }
        if path.exists() && !path.is_dir() {
            return Err(io::Error::other(
                "is not a directory; name one, or a path that is free",
            ));
        }
        let created = create_directory(path, access, opening.to_disk)?;
        // Links in the path that the host configured are its own business; below it none is
        // followed.
        let path = path.canonicalize()?;
        let log = Folder::at(&path, access)?;
        let found = log.stat()?;
        if opening
            .identity
            .is_some_and(|before| before != found.identity)
        {
            return Err(io::Error::other(
                "is another directory than it was; make a new logger",
            ));
        }
        let mut warnings = Vec::new();
        let kind = check_file_system(&log, opening.allow_network, &mut warnings)?;
        found.check_owner()?;
        let ours = found.owner == sys::user();
        let writable = found.mode & 0o022;
        if created || access != Access::Owner {
            log.own(access.directory_mode())?;
        } else if writable != 0 && ours {
            log.own(found.mode & 0o7755)?;
            warnings.push("others could write to the log's directory: that was taken away".into());
        } else if writable != 0 {
            warnings.push(format!(
                "others can write to the log's directory (mode {:o}, owner {}), and so forge or \
                 remove entries: let it belong to the user that the service runs as",
                found.mode, found.owner
            ));
        }
        Directory::of(log, path, warnings, kind)
    }

    /// The log in a directory that was opened.
    fn of(log: Folder, path: PathBuf, warnings: Vec<String>, kind: u64) -> io::Result<Directory> {
        // Nobody but the owner may enter.
        let state = log.folder(STATE, Access::Owner)?;
        Ok(Directory {
            path,
            log,
            state,
            kind,
            warnings: Mutex::new(warnings),
        })
    }

    /// The log on a simulated disk.
    #[cfg(test)]
    pub fn simulated(log: Folder) -> io::Result<Directory> {
        Directory::of(log, "/simulated".into(), Vec::new(), 0)
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its device and inode.
    pub fn identity(&self) -> io::Result<Identity> {
        self.log.stat().map(|found| found.identity)
    }

    /// What an operator should know of the directory and its files.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes what an operator should know.
    pub fn warn(&self, warning: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Says what it means that a file here can't be written over in place, where the file system
    /// doesn't do so by itself.
    pub fn warn_of_copying(&self) {
        if self.kind == BTRFS {
            self.warn(in_memory_only(
                "btrfs, and the journal can't be excepted from copy-on-write (chattr +C)",
            ));
        }
    }

    /// Makes `.state/format`, or checks the one that is there; and writes a file, because only
    /// that tells whether one can be written (root passes every check of rights, and a
    /// read-only mount shows in none).
    pub fn prepare_state(&self) -> Result<(), Error> {
        let prepared = self.try_prepare_state();
        prepared.map_err(|error| failed(&self.path, &error))
    }

    fn try_prepare_state(&self) -> io::Result<()> {
        let format = if_there(self.read_state("format"))?.unwrap_or_default();
        // Where a power cut left its name and took its text, it's made anew.
        let lost = format.is_empty() || format.contains('\0');
        let is_current = format == FORMAT || format == WITH_HOLDS;
        if !lost && !is_current && !EARLIER.contains(&format.as_str()) {
            return Err(io::Error::other(format!(
                "holds a log of format {:?}, this library knows none behind {:?}; use a newer library \
                 or another directory",
                format.trim_end().chars().take(40).collect::<String>(),
                WITH_HOLDS.trim_end()
            )));
        }
        // Its own name: threads and processes may open the directory at once.
        let probe = format!("{PROBE}{}", Uuid::new_v4());
        let written = self.state.write(&probe, FORMAT.as_bytes());
        // The probe becomes the format, where there is none, or an earlier one. Of several that come
        // here at once each puts the same in its place.
        let result = written.and_then(|file| {
            if is_current {
                return Ok(());
            }
            // Once for each log: a torn one would be taken for another library's.
            file.sync_all()?;
            self.state.rename(&probe, "format")
        });
        // It's gone if it was renamed, or never was.
        let _ = self.state.remove(&probe);
        result
    }

    /// Whether days are, or were, held, as the format says.
    pub fn may_have_holds(&self) -> io::Result<bool> {
        let format = if_there(self.read_state("format"))?.unwrap_or_default();
        Ok(format == WITH_HOLDS)
    }

    /// Has libraries that know no holds refuse the directory. It's on the disk then. The lock must be
    /// held.
    pub fn refuse_without_holds(&self) -> io::Result<()> {
        if !self.may_have_holds()? {
            self.state.replace("format", WITH_HOLDS.as_bytes(), true)?;
        }
        self.state.sync()
    }

    /// Whether there is no room for another small file in it.
    pub fn is_full(&self) -> bool {
        static SMALL_FILE: [u8; 1 << 16] = [0; 1 << 16];
        let made = self.temporary();
        let written = made.and_then(|made| made.file.write_all_at(&SMALL_FILE, 0));
        written.is_err_and(|error| {
            [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
        })
    }

    // ------------------------------------------------------------ days

    /// Opens a day's file.
    pub fn open_day(&self, day: DayName, how: How) -> io::Result<disk::File> {
        let name = day.file_name();
        let (file, tightened) = self.log.open_tightened(&name, how)?;
        if tightened {
            self.warn(format!(
                "{name} was open to others: that was taken away (\"access\" lets a group read)"
            ));
        }
        Ok(file)
    }

    /// Whether a day's name is still the file that `file` was opened as.
    pub fn still_names(&self, day: DayName, file: &disk::File) -> bool {
        self.log.still_names(&day.file_name(), file)
    }

    /// Which file has a day's name.
    pub fn identity_of(&self, day: DayName) -> io::Result<Identity> {
        self.log.identity_of(&day.file_name())
    }

    /// Whether a file that isn't in its place any more was deleted. FUSE and NFS give one that is
    /// still open a hidden name instead (`.fuse_hidden*`, `.nfs*`), so that its links don't tell: there,
    /// one that was moved out of the directory is taken for deleted.
    pub fn has_deleted(&self, file: &disk::File) -> bool {
        let unlinked = file.stat().is_ok_and(|stat| stat.links == 0);
        let hides = self.kind == FUSE || self.kind == NFS;
        unlinked || hides && self.log.shows(file).is_ok_and(|shown| !shown)
    }

    /// Whether a day's file is there.
    pub fn has(&self, day: DayName) -> io::Result<bool> {
        self.log.has(&day.file_name())
    }

    /// Gives what was made in `.state` the name of a day's file, unless that is taken.
    pub fn publish(&self, made: &Temporary<'_>, day: DayName) -> io::Result<()> {
        made.file.own(self.log.access())?;
        self.state.link(&made.name, &self.log, &day.file_name())
    }

    /// Removes a day's file.
    pub fn remove(&self, day: DayName) -> io::Result<()> {
        self.log.remove(&day.file_name())
    }

    /// Has the disk confirm the names in the directory.
    pub fn sync(&self) -> io::Result<()> {
        self.log.sync()
    }

    /// The day files that are there, in order.
    pub fn days(&self) -> io::Result<Vec<DayName>> {
        let names = self.log.names()?;
        let mut days: Vec<DayName> = names
            .iter()
            .filter_map(|name| DayName::parse(name))
            .collect();
        days.sort();
        Ok(days)
    }

    /// The directory of the Merkle log, made if it is missing.
    pub fn tree(&self) -> io::Result<Folder> {
        self.log.folder(TREE, self.log.access())
    }

    // ------------------------------------------------------------ .state

    /// `.state` itself.
    pub fn state(&self) -> &Folder {
        &self.state
    }

    /// The names in `.state` that begin with a prefix.
    pub fn state_names(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut found = self.state.names()?;
        found.retain(|name| name.starts_with(prefix));
        found.sort();
        Ok(found)
    }

    /// A small file of `.state`, whole.
    pub fn read_state(&self, name: &str) -> io::Result<String> {
        let bytes = self.state.read(name, SMALL)?;
        String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Whether the machine was booted since it was noted that something is whole.
    pub fn is_booted_anew(&self, whole: Whole) -> bool {
        let noted = self.state.read(whole.name(), SMALL).ok();
        let boot = self.state.boot();
        boot.is_none() || noted.as_deref() != boot.as_deref().map(str::as_bytes)
    }

    /// Notes that it's whole now, whatever the disk forgot when the machine went down.
    pub fn note_boot(&self, whole: Whole) -> io::Result<()> {
        match self.state.boot() {
            Some(boot) => self.state.replace(whole.name(), boot.as_bytes(), false),
            None => Ok(()),
        }
    }

    /// Creates a file in `.state` that goes with the value.
    pub fn temporary(&self) -> io::Result<Temporary<'_>> {
        let name = temporary_name();
        let file = self.state.open(&name, How::New)?;
        Ok(Temporary {
            directory: self,
            name,
            file,
        })
    }

    /// Removes what killed processes left half done in `.state`: files that are renamed at once, or
    /// removed.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        const OLD: Duration = Duration::from_secs(3600);
        for name in self.state_names("")? {
            let temporary = [TEMPORARY, PROBE].iter().any(|with| name.starts_with(with));
            if temporary
                // To read it, for it may have a second name: that of a day's file.
                && let Ok(file) = self.state.open(&name, How::Read)
                && let Some(modified) = file.stat()?.modified
                && modified.elapsed().is_ok_and(|age| age > OLD)
            {
                self.state.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The lock under which lines of the dead are mended and files removed, or `None` while another
    /// process holds it.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        self.state.try_lock(LOCK)
    }

    /// The error where another process has held a lock of `.state` for too long.
    pub fn is_held(&self, lock: &str) -> io::Error {
        let holder = self.holder(lock);
        let holder = holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
        io::Error::other(format!(
            "{holder} holds .state/{lock}: wait until it has ended, or end it"
        ))
    }

    /// The process that holds a lock, if the kernel tells.
    fn holder(&self, lock: &str) -> Option<u32> {
        let (_, inode) = self.state.identity_of(lock).ok()?;
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else {
                return None;
            };
            file.ends_with(&format!(":{inode}"))
                .then(|| pid.parse().ok())?
        })
    }
}

/// The name of the lock in `.state`.
pub const LOCK: &str = "lock";

/// What is made whole after a boot. Its file in `.state` has the boot in which it was.
#[derive(Debug, Clone, Copy)]
pub enum Whole {
    /// The last days' lines.
    Days,
    /// The tree's tiles: only processes that seal see to them.
    Tiles,
}

impl Whole {
    fn name(self) -> &'static str {
        match self {
            Whole::Days => "boot",
            Whole::Tiles => "boot-tiles",
        }
    }
}

/// What the names of files begin with that only show that one can be written.
const PROBE: &str = "probe-";

/// A file in `.state` that is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary<'d> {
    directory: &'d Directory,
    name: String,
    /// Open to read and write it.
    pub file: disk::File,
}

impl Temporary<'_> {
    /// Gives it another name in `.state`, in the place of what has it.
    pub fn rename(&self, name: &str) -> io::Result<()> {
        self.directory.state.rename(&self.name, name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // If it stays, a sweep removes it in an hour.
        let _ = self.directory.state.remove(&self.name);
    }
}

/// Creates a directory and its parents where they are missing. Whether it made the directory.
fn create_directory(path: &Path, access: Access, to_disk: bool) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|above| !above.is_dir())
        .collect();
    DirBuilder::new()
        .recursive(true)
        .mode(access.directory_mode())
        .create(path)?;
    for made in missing.into_iter().filter(|_| to_disk) {
        if let Some(above) = made.parent() {
            Private::new(|| File::open(above))?.sync_all()?;
        }
    }
    Ok(true)
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::log(format!("the log's directory {}: {error}", path.display()))
}

/// Appending relies on writes with O_APPEND that the kernel does in one piece, and on locks; neither
/// can be had over a network.
fn check_file_system(
    log: &Folder,
    allow_network: bool,
    warnings: &mut Vec<String>,
) -> io::Result<u64> {
    /// From linux/magic.h and the file systems' own sources.
    const NETWORK: [(u64, &str); 19] = [
        (NFS, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x0102_1997, "9p"),
        (0x5346_414f, "AFS"),
        (0x6b41_4653, "AFS"),
        (0x00c3_6400, "Ceph"),
        (0x7375_7245, "Coda"),
        (0x564c, "NCP"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x7461_636f, "OCFS2"),
        (0x0116_1970, "GFS2"),
        (0x1983_0326, "BeeGFS"),
        (0x2003_0528, "OrangeFS"),
        (0xaad7_aaea, "PanFS"),
        (0x786f_4256, "VirtualBox's shared folders"),
        (0xbacb_acbc, "VMware's shared folders"),
    ];
    /// They write nothing in place.
    const COPYING: [(u64, &str); 5] = [
        (0x2fc1_2fc1, "ZFS"),
        (0xca45_1a4e, "bcachefs"),
        (0x3434, "NILFS"),
        (0x2405_1905, "UBIFS"),
        (0x72b6, "JFFS2"),
    ];
    let kind = log.file_system_type()?;
    match NETWORK.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) if !allow_network => {
            return Err(io::Error::other(format!(
                "is on a network file system ({name}), where appending isn't safe with several \
                 writers; use a local disk, or set \"allow_network_filesystem\" if this process is \
                 the only one that ever writes there"
            )));
        }
        None if kind == FUSE => warnings.push(format!(
            "{}; use a local disk if that stands for a network",
            in_memory_only("a FUSE file system")
        )),
        _ => {}
    }
    if let Some((_, name)) = COPYING.iter().find(|(magic, _)| *magic == kind) {
        warnings.push(in_memory_only(name));
    }
    Ok(kind)
}

/// What is to be said of a file system on which nothing tells whether the journal keeps its room.
fn in_memory_only(place: &str) -> String {
    format!(
        "the log's directory is on {place}: while the disk is full, entries that wait may be kept in \
         memory only"
    )
}
