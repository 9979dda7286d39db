//! Every operation on the log's files. Nobody else opens, creates, writes or renames.

use std::ffi::{CStr, CString};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::Error;
use crate::sys;

/// Rights of what we make, whatever the umask: the log names users and models.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The version of what this library keeps in a directory. A directory of another version is
/// refused: an older library could do damage in a newer one's files.
const FORMAT: &str = "audit_logger 1\n";

/// The log's directory, held open: a rename or a link put in its place later changes nothing.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Opens the directory, which is created if it is missing, and proves that it can be
    /// written to.
    pub fn open(path: &Path) -> Result<Directory, Error> {
        Self::try_open(path)
            .map_err(|error| Error::log(format!("the log's directory {}: {error}", path.display())))
    }

    fn try_open(path: &Path) -> io::Result<Directory> {
        if path.exists() && !path.is_dir() {
            return Err(io::Error::other(
                "is not a directory; name one, or a path that is free",
            ));
        }
        create_directory(path)?;
        // Links in the path that the host configured are its own business; below it none is
        // followed.
        let path = path.canonicalize()?;
        let handle = File::open(&path)?;
        let directory = Directory { path, handle };
        directory.prepare_state()?;
        Ok(directory)
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `.state/format`, or checks the one that is there; and writes a file, because only
    /// that tells whether one can be written (root passes every check of rights, and a
    /// read-only mount shows in none).
    fn prepare_state(&self) -> io::Result<()> {
        match sys::make_directory_at(self.handle.as_fd(), c".state", DIRECTORY_MODE) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let state = sys::open_at(self.handle.as_fd(), c".state", flags, 0)
            .map_err(|error| io::Error::new(error.kind(), format!(".state: {error}")))?;

        // Its own name: threads and processes may open the directory at once.
        let probe = CString::new(format!("probe-{}", Uuid::new_v4()))?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let written = open(&state, &probe, flags)
            .and_then(|mut file| file.write_all(FORMAT.as_bytes()))
            .inspect_err(sys::note_write_error);
        // The probe becomes the format, where there is none. Of several that come here at once
        // each puts the same in its place.
        let result = written.and_then(|()| match open(&state, c"format", libc::O_RDONLY) {
            Ok(file) => check_format(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                sys::rename_at(state.as_fd(), &probe, c"format")
            }
            Err(error) => Err(error),
        });
        // It's gone if it was renamed, or never was.
        let _ = sys::remove_at(state.as_fd(), &probe);
        result
    }

    /// Opens a file to append to, created if it is missing. Only a plain file with one name will
    /// do: a link, a FIFO or a device could send the log elsewhere or stop the host.
    pub fn open_to_append(&self, name: &str) -> io::Result<File> {
        // Not blocking, for a FIFO without a reader would hold the caller for ever.
        let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CREAT | libc::O_NONBLOCK;
        open(&self.handle, &CString::new(name)?, flags)
    }

    /// Whether `name` is still the file that `file` was opened as.
    pub fn still_names(&self, name: &str, file: &File) -> bool {
        let identity = file
            .metadata()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        match (CString::new(name), identity) {
            (Ok(name), Ok(identity)) => {
                sys::identity_at(self.handle.as_fd(), &name).is_ok_and(|found| found == identity)
            }
            _ => false,
        }
    }

    /// Has the disk confirm the names in the directory.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

/// Creates a directory and its parents where they are missing.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
}

fn check_format(file: File) -> io::Result<()> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text)?;
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

fn open(directory: &File, name: &CStr, flags: i32) -> io::Result<File> {
    let place = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", name.to_string_lossy()))
    };
    let file = sys::open_at(directory.as_fd(), name, flags | libc::O_NOFOLLOW, FILE_MODE)
        .map_err(place)?;
    let metadata = file.metadata().map_err(place)?;
    if !metadata.is_file() || metadata.nlink() > 1 {
        return Err(place(io::Error::other(
            "is not a plain file with one name; move it away",
        )));
    }
    let too_open = metadata.mode() & 0o077 != 0 && metadata.uid() == sys::user();
    if flags & libc::O_CREAT != 0 && (metadata.len() == 0 || too_open) {
        file.set_permissions(Permissions::from_mode(FILE_MODE))
            .map_err(place)?;
    }
    Ok(file)
}
