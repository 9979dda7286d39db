//! Every operation on the log's files. Nobody else opens, creates, renames or removes.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::folder::{Access, Folder, Lock, OpenFile, TEMPORARY, check_owner, identity, own};
use super::tree;
use crate::error::Error;
use crate::format::name::DayName;
use crate::sys::{self, Private};

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

/// The version of what this library keeps in a directory. A directory of another version is
/// refused: an older library could do damage in a newer one's files.
const FORMAT: &str = "audit_logger 1\n";

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
    pub identity: Option<(u64, u64)>,
}

/// The log's directory, held open: a rename or a link put in its place later changes nothing.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    log: Folder,
    state: Folder,
    warnings: Mutex<Vec<String>>,
}

impl Directory {
    /// Opens the directory, and proves that it can be written to.
    pub fn open(opening: &Opening<'_>) -> Result<Directory, Error> {
        Self::try_open(opening).map_err(|error| {
            Error::log(format!(
                "the log's directory {}: {error}",
                opening.path.display()
            ))
        })
    }

    fn try_open(opening: &Opening<'_>) -> io::Result<Directory> {
        let &Opening { path, access, .. } = opening;
        if !opening.create {
            // A directory that was named by mistake stays as it is.
            std::fs::metadata(path.join(".state/format")).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("holds no log (.state/format: {error}); name a logger's output_path"),
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
        let handle = Private::new(|| File::open(&path))?;
        let metadata = handle.metadata()?;
        let found = identity(&metadata);
        if opening.identity.is_some_and(|before| before != found) {
            return Err(io::Error::other(
                "is another directory than it was; make a new logger",
            ));
        }
        let mut warnings = Vec::new();
        check_file_system(&handle, opening.allow_network, &mut warnings)?;
        check_owner(&metadata)?;
        let ours = metadata.uid() == sys::user();
        let writable = metadata.mode() & 0o022;
        if created || access != Access::Owner {
            let mode = access.directory_mode();
            own(&handle, access, mode)?;
        } else if writable != 0 && ours {
            let mode = metadata.mode() & 0o7755;
            handle.set_permissions(Permissions::from_mode(mode))?;
            warnings.push("others could write to the log's directory: that was taken away".into());
        } else if writable != 0 {
            warnings.push(format!(
                "others can write to the log's directory (mode {:o}, owner {}), and so forge or \
                 remove entries: let it belong to the user that the service runs as",
                metadata.mode() & 0o7777,
                metadata.uid()
            ));
        }
        let log = Folder::new(handle, access);
        // Nobody but the owner may enter.
        let state = log.folder(".state", Access::Owner)?;
        let directory = Directory {
            path,
            log,
            state,
            warnings: Mutex::new(warnings),
        };
        directory.prepare_state(opening.to_disk)?;
        Ok(directory)
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its device and inode.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        self.log.handle().metadata().map(|found| identity(&found))
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

    /// Makes `.state/format`, or checks the one that is there; and writes a file, because only
    /// that tells whether one can be written (root passes every check of rights, and a
    /// read-only mount shows in none).
    fn prepare_state(&self, to_disk: bool) -> io::Result<()> {
        // Its own name: threads and processes may open the directory at once.
        let probe = format!("probe-{}", Uuid::new_v4());
        let written = self.state.write(&probe, FORMAT.as_bytes());
        // The probe becomes the format, where there is none. Of several that come here at once
        // each puts the same in its place.
        let put = || -> io::Result<()> {
            if to_disk {
                self.open_state(&probe)?.sync_all()?;
            }
            self.state.rename(&probe, "format")
        };
        let result = written.and_then(|_| match self.read_state("format") {
            // A power cut left its name and took its text.
            Ok(text) if text.trim_matches('\0').is_empty() => put(),
            Ok(text) => check_format(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => put(),
            Err(error) => Err(error),
        });
        // It's gone if it was renamed, or never was.
        let _ = self.state.remove(&probe);
        result
    }

    /// Opens a day's file to append to, created if it is missing. Only a plain file with one name
    /// will do: a link, a FIFO or a device could send the log elsewhere or stop the host.
    pub fn open_to_append(&self, name: &str) -> io::Result<OpenFile> {
        self.open_log(name, libc::O_RDWR | libc::O_APPEND | libc::O_CREAT)
    }

    /// Creates a day's file that isn't there yet, to append to it.
    pub fn create_to_append(&self, name: &str) -> io::Result<OpenFile> {
        let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CREAT | libc::O_EXCL;
        self.open_log(name, flags)
    }

    /// Opens a day's file to read it, and to write over what stands in it.
    pub fn open_to_mend(&self, name: &str) -> io::Result<OpenFile> {
        self.open_log(name, libc::O_RDWR)
    }

    /// Opens a day's file to read it alone: one that was frozen or linked elsewhere will do.
    pub fn open_to_read(&self, name: &str) -> io::Result<OpenFile> {
        self.open_log(name, libc::O_RDONLY)
    }

    fn open_log(&self, name: &str, flags: i32) -> io::Result<OpenFile> {
        let (file, tightened) = self.log.open_tightened(name, flags)?;
        if tightened {
            self.warn(format!(
                "{name} was open to others: that was taken away (\"access\" lets a group read)"
            ));
        }
        Ok(file)
    }

    /// Whether `name` is still the file that `file` was opened as.
    pub fn still_names(&self, name: &str, file: &File) -> bool {
        self.log.still_names(name, file)
    }

    /// Whether a name is taken.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        self.log.has(name)
    }

    /// Gives what was made in `.state` the name of a day's file, unless that is taken.
    pub fn publish(&self, made: &Temporary<'_>, name: &str) -> io::Result<()> {
        let access = self.log.access();
        own(&made.file, access, access.file_mode())?;
        self.state.link(&made.name, &self.log, name)
    }

    /// Removes a day's file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.log.remove(name)
    }

    /// Has the disk confirm the names in the directory.
    pub fn sync(&self) -> io::Result<()> {
        self.log.sync()
    }

    /// The day files that are there, in order.
    pub fn days(&self) -> io::Result<Vec<DayName>> {
        let mut days: Vec<DayName> = self
            .log
            .names()?
            .iter()
            .filter_map(|name| DayName::parse(name))
            .collect();
        days.sort();
        Ok(days)
    }

    /// `.integrity`, where the Merkle log is, made if it is missing.
    pub fn tree(&self) -> io::Result<Folder> {
        self.log.folder(tree::NAME, self.log.access())
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

    /// Opens a file in `.state` to read and write it.
    pub fn open_state(&self, name: &str) -> io::Result<OpenFile> {
        self.state.open(name, libc::O_RDWR)
    }

    /// Creates a file in `.state` that isn't there yet.
    pub fn create_state(&self, name: &str) -> io::Result<OpenFile> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        self.state.open(name, flags)
    }

    /// A small file of `.state`, whole.
    pub fn read_state(&self, name: &str) -> io::Result<String> {
        let bytes = self.state.read(name, SMALL)?;
        String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Creates a file in `.state` that goes with the value.
    pub fn temporary(&self) -> io::Result<Temporary<'_>> {
        let name = format!("{TEMPORARY}{}", Uuid::new_v4());
        let file = self.create_state(&name)?;
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
            let temporary = [TEMPORARY, "probe-"]
                .iter()
                .any(|with| name.starts_with(with));
            if temporary
                // To read it, for it may have a second name: that of a day's file.
                && let Ok(file) = self.state.open(&name, libc::O_RDONLY)
                && let Ok(age) = file.metadata()?.modified()?.elapsed()
                && age > OLD
            {
                self.state.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The lock under which lines of the dead are mended and files removed, or `None` while another
    /// process holds it. It ends with the value, or with the process.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        self.state.try_lock("lock")
    }

    /// The process that holds the lock, if the kernel tells.
    pub fn lock_holder(&self) -> Option<u32> {
        let inode = self
            .state
            .open("lock", libc::O_RDONLY)
            .ok()?
            .metadata()
            .ok()?
            .ino();
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

/// A file in `.state` that is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary<'d> {
    directory: &'d Directory,
    name: String,
    /// Open to read and write it.
    pub file: OpenFile,
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
        .take_while(|above| !above.as_os_str().is_empty() && !above.is_dir())
        .collect();
    DirBuilder::new()
        .recursive(true)
        .mode(access.directory_mode())
        .create(path)?;
    for made in missing.into_iter().filter(|_| to_disk) {
        let above = made
            .parent()
            .filter(|above| !above.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Private::new(|| File::open(above))?.sync_all()?;
    }
    Ok(true)
}

fn check_format(text: &str) -> io::Result<()> {
    if text == FORMAT {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "holds a log of format {:?}, this library knows only {:?}; use a newer library or another \
         directory",
        text.trim_end(),
        FORMAT.trim_end()
    )))
}

/// Appending relies on writes with O_APPEND that the kernel does in one piece, and on locks; neither
/// can be had over a network.
fn check_file_system(
    handle: &File,
    allow_network: bool,
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    /// From linux/magic.h and the file systems' own sources.
    const NETWORK: [(u64, &str); 19] = [
        (0x6969, "NFS"),
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
    /// Anything from a local disk to a bucket.
    const FUSE: u64 = 0x6573_5546;
    let kind = sys::file_system_type(handle.as_fd())?;
    match NETWORK.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) if !allow_network => Err(io::Error::other(format!(
            "is on a network file system ({name}), where appending isn't safe with several \
             writers; use a local disk, or set \"allow_network_filesystem\" if this process is \
             the only one that ever writes there"
        ))),
        None if kind == FUSE => {
            warnings.push(
                "the log's directory is on a FUSE file system: use a local disk if that stands for \
                 a network"
                    .into(),
            );
            Ok(())
        }
        _ => Ok(()),
    }
}
