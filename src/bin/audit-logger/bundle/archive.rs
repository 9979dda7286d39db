//! A zip file that is written from front to back, under another name until it's whole.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use audit_logger::tool::Error;
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::output::{NewFile, failed, hex};

/// Log lines are mostly digits of hashes: a higher level takes longer, and saves a few percent.
const LEVEL: i64 = 1;

/// A file in the archive.
pub struct Named {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// The archive.
pub struct Archive {
    path: PathBuf,
    zip: ZipWriter<BufWriter<NewFile>>,
    files: Vec<Named>,
    name: String,
    bytes: u64,
    hasher: Sha256,
}

impl Archive {
    /// Begins a file that isn't there yet.
    pub fn create(path: &Path) -> Result<Archive, Error> {
        Ok(Archive {
            path: path.to_owned(),
            zip: ZipWriter::new(BufWriter::new(NewFile::create(path)?)),
            files: Vec::new(),
            name: String::new(),
            bytes: 0,
            hasher: Sha256::new(),
        })
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
        let begun = self.zip.start_file(name, options);
        begun.map_err(|error| failed(&self.path, error))
    }

    /// Ends the file that was begun.
    pub fn end(&mut self) {
        let digest = std::mem::take(&mut self.hasher).finalize();
        self.files.push(Named {
            name: std::mem::take(&mut self.name),
            bytes: self.bytes,
            sha256: hex(&digest),
        });
    }

    /// Adds a file.
    pub fn add(&mut self, name: &str, mut bytes: &[u8]) -> Result<(), Error> {
        self.copy(name, &mut bytes)
    }

    /// Adds what comes out of another file.
    pub fn copy(&mut self, name: &str, from: &mut impl Read) -> Result<(), Error> {
        self.begin(name)?;
        io::copy(from, self).map_err(|error| failed(&self.path, error))?;
        self.end();
        Ok(())
    }

    /// What is in it so far.
    pub fn files(&self) -> &[Named] {
        &self.files
    }

    /// Ends it, and gives it its name.
    pub fn finish(self) -> Result<(), Error> {
        let Archive { path, zip, .. } = self;
        let done = zip.finish().map_err(io::Error::from);
        let file = done.and_then(|file| file.into_inner().map_err(io::Error::from));
        file.map_err(|error| failed(&path, error))?.keep()
    }
}

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.zip.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.zip.flush()
    }
}
