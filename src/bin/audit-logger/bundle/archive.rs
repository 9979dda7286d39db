//! A zip file that is written from front to back, under another name until it's whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use audit_logger::tool::Error;
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Log lines are mostly digits of hashes: a higher level takes longer, and saves a few percent.
const LEVEL: i64 = 1;

/// A file in the archive.
pub struct Named {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// The archive. It's removed when it goes before it's finished.
pub struct Archive {
    path: PathBuf,
    partial: PathBuf,
    zip: Option<ZipWriter<BufWriter<File>>>,
    files: Vec<Named>,
    name: String,
    bytes: u64,
    hasher: Sha256,
}

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::log(format!("{}: {error}", path.display()))
}

/// A file that isn't there yet.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).open(path)
}

impl Archive {
    /// Begins a file that isn't there yet.
    pub fn create(path: &Path) -> Result<Archive, Error> {
        if path.symlink_metadata().is_ok() {
            return Err(failed(path, "is there already, and isn't written over"));
        }
        let partial = beside(path, "partial");
        let file = create(&partial).map_err(|error| failed(&partial, error))?;
        Ok(Archive {
            path: path.to_owned(),
            partial,
            zip: Some(ZipWriter::new(BufWriter::new(file))),
            files: Vec::new(),
            name: String::new(),
            bytes: 0,
            hasher: Sha256::new(),
        })
    }

    /// A file beside it, without a name.
    pub fn aside(&self) -> Result<BufWriter<File>, Error> {
        let path = beside(&self.path, "proof");
        let file = create(&path).and_then(|file| fs::remove_file(&path).map(|()| file));
        let file = file.map_err(|error| failed(&path, error))?;
        Ok(BufWriter::new(file))
    }

    fn zip(&mut self) -> io::Result<&mut ZipWriter<BufWriter<File>>> {
        self.zip.as_mut().ok_or(io::ErrorKind::BrokenPipe.into())
    }

    /// Begins a file in it: what is written from now on. Each has the same time and mode, so that the same
    /// content gives the same bytes.
    pub fn begin(&mut self, name: &str) -> Result<(), Error> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(LEVEL))
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644)
            .large_file(true);
        (self.name, self.bytes, self.hasher) = (name.to_owned(), 0, Sha256::new());
        let begun = self
            .zip()
            .and_then(|zip| Ok(zip.start_file(name, options)?));
        begun.map_err(|error| failed(&self.partial, error))
    }

    /// Ends the file that was begun.
    pub fn end(&mut self) {
        let digest = std::mem::take(&mut self.hasher).finalize();
        self.files.push(Named {
            name: std::mem::take(&mut self.name),
            bytes: self.bytes,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        });
    }

    /// Adds a file.
    pub fn add(&mut self, name: &str, mut bytes: &[u8]) -> Result<(), Error> {
        self.copy(name, &mut bytes)
    }

    /// Adds what comes out of another file.
    pub fn copy(&mut self, name: &str, from: &mut impl Read) -> Result<(), Error> {
        self.begin(name)?;
        io::copy(from, self).map_err(|error| failed(&self.partial, error))?;
        self.end();
        Ok(())
    }

    /// What is in it so far.
    pub fn files(&self) -> &[Named] {
        &self.files
    }

    /// Ends it, and gives it its name.
    pub fn finish(mut self) -> Result<(), Error> {
        let done = match self.zip.take() {
            Some(zip) => zip.finish().map_err(io::Error::from),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        let synced = done.and_then(|file| file.into_inner().map_err(io::Error::from)?.sync_all());
        synced.map_err(|error| failed(&self.partial, error))?;
        // A link replaces nothing, which a rename would; not all file systems have links.
        let named = match fs::hard_link(&self.partial, &self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                fs::rename(&self.partial, &self.path)
            }
            named => named,
        };
        named.map_err(|error| failed(&self.path, error))
    }
}

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.zip()?.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.zip()?.flush()
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // After the last step it's a second name, or none.
        let _ = fs::remove_file(&self.partial);
    }
}

/// A name beside another, which only this process has.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{what}", std::process::id()));
    PathBuf::from(name)
}
