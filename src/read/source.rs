//! A log's directory, read and never written: the files of its tree, its days, and what else lies there.
//! Only plain files are opened, and a link in place of one isn't followed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::lines::{Watched, was_stopped};
use crate::error::{Error, Status};
use crate::format::name::DayName;
use crate::format::tiles::{Fetch, MAX_ENTRY, WIDTH};
use crate::sys;

/// The directory of the tree, in that of the log.
pub const TREE: &str = ".integrity";

/// No tile is longer: a full one of the longest entries.
const LONGEST_TILE: u64 = (MAX_ENTRY as u64 + 2) * WIDTH;

/// How much is read of the end of a file of notes: `heads` is thinned from half of it on.
const NOTES: u64 = 2 << 20;

/// How many files may be named as the log's. What is kept of each is small, not nothing.
pub const MOST_FILES: usize = 1 << 15;

/// How many names of strangers are kept; all are counted.
const KEPT: usize = 32;

/// What a reader of files reads.
pub trait Files {
    /// Hands over the names in the log's directory, those that are UTF-8.
    fn names(&self, take: &mut dyn FnMut(&str)) -> io::Result<()>;

    /// The same of a directory below it, until `take` wants no more. One that isn't there has none.
    fn names_in(&self, path: &str, take: &mut dyn FnMut(&str) -> bool) -> io::Result<()>;

    /// Opens a plain file by its path below the log's directory; `None` if there is nothing of that
    /// name. What is there and is no plain file is an error.
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Plain>>>;
}

/// A plain file that is open for reading.
pub trait Plain {
    /// How long it is now.
    fn length(&self) -> io::Result<u64>;

    /// What tells it from another file of its name.
    fn identity(&self) -> io::Result<(u64, u64)>;

    /// Reads from a place on; 0 bytes at the end.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
}

/// A directory of the system, held open.
pub struct OnDisk {
    path: PathBuf,
    handle: File,
}

impl Files for OnDisk {
    fn names(&self, take: &mut dyn FnMut(&str)) -> io::Result<()> {
        for item in fs::read_dir(&self.path)? {
            if let Some(name) = item?.file_name().to_str() {
                take(name);
            }
        }
        Ok(())
    }

    fn names_in(&self, path: &str, take: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
        let listed = match fs::read_dir(self.path.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        for item in listed {
            if item?.file_name().to_str().is_some_and(|name| !take(name)) {
                break;
            }
        }
        Ok(())
    }

    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Plain>>> {
        // Not blocking, for a FIFO without a writer would hold the caller for ever.
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        plain(sys::open_at(
            self.handle.as_fd(),
            &CString::new(path)?,
            flags,
            0,
        ))
    }
}

fn plain(opened: io::Result<File>) -> io::Result<Option<Box<dyn Plain>>> {
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(Box::new(file))),
        Ok(_) => Err(io::Error::other("is not a plain file")),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(None),
            Some(libc::ELOOP | libc::ENXIO) => Err(io::Error::other("is not a plain file")),
            _ => Err(error),
        },
    }
}

impl Plain for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, at)
    }
}

/// A part of an open file.
pub struct Span<'f> {
    file: &'f dyn Plain,
    at: u64,
    end: u64,
}

impl<'f> Span<'f> {
    /// From one place to another, or to the end of the file.
    pub fn new(file: &'f dyn Plain, at: u64, end: u64) -> Span<'f> {
        Span { file, at, end }
    }
}

impl Read for Span<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let room = into.len().min(left);
        let count = self.file.read_at(&mut into[..room], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// An open file from a place on.
struct Reading {
    file: Box<dyn Plain>,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// What a failure to read comes to when it isn't the file's: that the reader was asked to stop, or that
/// this process has no room for more.
pub fn not_the_file_s(error: &io::Error) -> Option<Error> {
    if was_stopped(error) {
        return Some(Error::new(Status::Cancelled, "cancelled"));
    }
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Some(Error::log(error.to_string())),
        _ => None,
    }
}

/// A day's bytes as they were before it was compressed, if it was.
pub type Bytes<'s> = Box<dyn Read + 's>;

/// One of the log's files, as it is found: plain, compressed, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the tree.
    pub day: DayName,
    /// The plain one's name is taken.
    pub plain: bool,
    /// The compressed one's is.
    pub compressed: bool,
}

/// What lies in a log's directory and a reader's glob would find.
#[derive(Debug, Default)]
pub struct Listing {
    /// The log's files, in their order.
    pub days: Vec<Listed>,
    /// Names like theirs that aren't theirs: the first of them.
    pub strangers: Vec<String>,
    /// How many there are.
    pub stranger_count: u64,
    /// There are more of the log's files than any log has: not all are in `days`.
    pub too_many: bool,
}

impl Listing {
    fn add(&mut self, name: &str) {
        let Some(day) = DayName::parse(name) else {
            if name.starts_with("audit_") && name.contains(".jsonl") {
                self.stranger_count += 1;
                if self.strangers.len() < KEPT {
                    self.strangers.push(name.to_owned());
                }
            }
            return;
        };
        if self.days.len() >= 4 * MOST_FILES {
            self.limit();
        }
        self.days.push(Listed {
            day: day.uncompressed(),
            plain: !day.compressed,
            compressed: day.compressed,
        });
    }

    /// Puts the files in order, and keeps no more of them than there may be: the first ones of their days
    /// rather than further ones.
    fn limit(&mut self) {
        let by_name = |listed: &Listed| listed.day;
        self.days.sort_unstable_by_key(by_name);
        self.days.dedup_by(|next, kept| {
            let same = next.day == kept.day;
            if same {
                kept.plain |= next.plain;
                kept.compressed |= next.compressed;
            }
            same
        });
        if self.days.len() > MOST_FILES {
            self.too_many = true;
            self.days.sort_unstable_by_key(|listed| listed.day.number);
            self.days.truncate(MOST_FILES);
            self.days.sort_unstable_by_key(by_name);
        }
    }
}

/// The directory of a log, and who may say that reading it shall end.
pub struct Directory<'s> {
    files: &'s dyn Files,
    stop: &'s dyn Fn() -> bool,
}

/// Opens the directory at a path.
pub fn open(path: &Path) -> Result<OnDisk, Error> {
    if !path.is_dir() {
        return Err(Error::log(format!("{} is no directory", path.display())));
    }
    let handle =
        File::open(path).map_err(|error| Error::log(format!("{}: {error}", path.display())))?;
    Ok(OnDisk {
        path: path.to_owned(),
        handle,
    })
}

impl<'s> Directory<'s> {
    /// A directory that is read until `stop` says so.
    pub fn new(files: &'s dyn Files, stop: &'s dyn Fn() -> bool) -> Directory<'s> {
        Directory { files, stop }
    }

    /// Whether reading it shall end.
    pub fn is_stopped(&self) -> bool {
        (self.stop)()
    }

    /// What lies there.
    pub fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        self.files.names(&mut |name| listing.add(name))?;
        listing.strangers.sort_unstable();
        listing.limit();
        Ok(listing)
    }

    /// Opens a file of the log by its name.
    pub fn open(&self, name: &str) -> io::Result<Option<Box<dyn Plain>>> {
        self.files.open(name)
    }

    /// The bytes of a plain file from an offset on.
    pub fn plain(&self, name: DayName, offset: u64) -> io::Result<Option<Bytes<'s>>> {
        let file = self.files.open(&name.uncompressed().file_name())?;
        Ok(file.map(|file| self.reading(file, offset)))
    }

    fn reading(&self, file: Box<dyn Plain>, at: u64) -> Bytes<'s> {
        Box::new(Watched::new(Reading { file, at }, self.stop))
    }

    /// The bytes of a compressed file from an offset on.
    pub fn compressed(&self, name: DayName, offset: u64) -> io::Result<Option<Bytes<'s>>> {
        match self.files.open(&name.compressed().file_name())? {
            Some(file) => self.decompressed(file, offset).map(Some),
            None => Ok(None),
        }
    }

    fn decompressed(&self, file: Box<dyn Plain>, offset: u64) -> io::Result<Bytes<'s>> {
        if file.length()? == 0 {
            return Err(io::Error::other("is empty, and so no gzip file"));
        }
        // Of what is read and of what comes out of it, either may be without end.
        let file = Watched::new(Reading { file, at: 0 }, self.stop);
        let mut bytes = Watched::new(MultiGzDecoder::new(BufReader::new(file)), self.stop);
        io::copy(&mut (&mut bytes).take(offset), &mut io::sink())?;
        Ok(Box::new(bytes))
    }

    /// The bytes of a day from an offset on, whether it is compressed or not; `None` if it isn't there.
    /// Where both are, the plain one counts, unless it's empty: then it was made by a process that saw
    /// the compressed one a moment too late.
    pub fn day(&self, name: DayName, offset: u64) -> io::Result<Option<Bytes<'s>>> {
        let plain = match self.files.open(&name.uncompressed().file_name()) {
            Ok(Some(file)) if file.length()? > 0 => return Ok(Some(self.reading(file, offset))),
            plain => plain,
        };
        match self.compressed(name, offset)? {
            Some(bytes) => Ok(Some(bytes)),
            None => Ok(plain?.map(|file| self.reading(file, offset))),
        }
    }

    /// How many bytes of the disk are read for a day's file; 0 if it can't be.
    pub fn length(&self, name: DayName) -> u64 {
        let length = |name: DayName| -> io::Result<u64> {
            let file = self.files.open(&name.file_name())?;
            file.map_or(Ok(0), |file| file.length())
        };
        match length(name.uncompressed()) {
            Ok(length @ 1..) => length,
            _ => length(name.compressed()).unwrap_or(0),
        }
    }

    /// The bytes of any file, decompressed if it's compressed, whatever its name.
    pub fn stranger(&self, name: &str) -> io::Result<Option<Bytes<'s>>> {
        let Some(file) = self.files.open(name)? else {
            return Ok(None);
        };
        let mut magic = [0; 2];
        let count = file.read_at(&mut magic, 0)?;
        match count == 2 && magic == [0x1f, 0x8b] {
            true => self.decompressed(file, 0).map(Some),
            false => Ok(Some(self.reading(file, 0))),
        }
    }

    /// The names in a directory below it, until `take` wants no more.
    pub fn names_in(&self, path: &str, take: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
        self.files.names_in(path, take)
    }

    /// A file of the tree, up to so many bytes from its beginning.
    pub fn beginning(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.beginning_of(&format!("{TREE}/{path}"), most)
    }

    /// The same of any file, by its path below the log's directory.
    pub fn beginning_of(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.part(path, |_| 0, most)
    }

    /// The end of a file of the tree that holds notes.
    pub fn notes(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let from = |length: u64| length.saturating_sub(NOTES);
        self.part(&format!("{TREE}/{path}"), from, NOTES)
    }

    fn part(
        &self,
        path: &str,
        from: impl Fn(u64) -> u64,
        most: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        match self.files.open(path)? {
            Some(file) => read_part(&*file, from, most).map(Some),
            None => Ok(None),
        }
    }
}

impl Fetch for Directory<'_> {
    fn fetch(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.beginning(path, LONGEST_TILE)
    }
}

fn read_part(file: &dyn Plain, from: impl Fn(u64) -> u64, most: u64) -> io::Result<Vec<u8>> {
    let length = file.length()?;
    let from = from(length);
    let mut bytes = vec![0; length.saturating_sub(from).min(most) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Opens a file that the caller names: a guard, a kept checkpoint, a key.
fn open_named(path: &Path) -> io::Result<Option<Box<dyn Plain>>> {
    // Unlike those of the log, it may be a link: how a secret is mounted is not our business.
    let path = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        path => path?,
    };
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    plain(sys::open_at(
        directory.as_fd(),
        &CString::new(name)?,
        flags,
        0,
    ))
}

/// The end of a file that the caller names, as far as it may be long.
pub fn end_of_named(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| Error::log(format!("{}: {error}", path.display()));
    match open_named(path).map_err(failed)? {
        Some(file) => read_part(&*file, |length| length.saturating_sub(most), most).map_err(failed),
        None => Err(Error::argument(format!("{} isn't there", path.display()))),
    }
}

#[cfg(test)]
pub mod memory {
    //! A directory that is in memory.

    use std::collections::BTreeMap;

    use super::*;

    /// What has a name.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub enum Node {
        /// A plain file.
        File(Vec<u8>),
        /// A FIFO, a device, a link or a directory.
        Other,
        /// A file that can't be read from a place on.
        Broken(Vec<u8>, u64),
    }

    /// Files by their paths.
    #[derive(Clone, Default, PartialEq, Eq, Debug)]
    pub struct InMemory(pub BTreeMap<String, Node>);

    impl InMemory {
        /// Plain files.
        pub fn of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> InMemory {
            let node = |(path, bytes)| (path, Node::File(bytes));
            InMemory(files.into_iter().map(node).collect())
        }
    }

    impl Files for InMemory {
        fn names(&self, take: &mut dyn FnMut(&str)) -> io::Result<()> {
            let heads = self
                .0
                .keys()
                .map(|path| path.split('/').next().unwrap_or(path));
            let mut last = "";
            for name in heads {
                if name != last {
                    take(name);
                }
                last = name;
            }
            Ok(())
        }

        fn names_in(&self, path: &str, take: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
            let below = format!("{path}/");
            let names = self.0.keys().filter_map(|name| name.strip_prefix(&below));
            for name in names.filter(|name| !name.contains('/')) {
                if !take(name) {
                    break;
                }
            }
            Ok(())
        }

        fn open(&self, path: &str) -> io::Result<Option<Box<dyn Plain>>> {
            match self.0.get(path) {
                None => Ok(None),
                Some(Node::Other) => Err(io::Error::other("is not a plain file")),
                Some(Node::File(bytes)) => Ok(Some(Box::new((bytes.clone(), u64::MAX)))),
                Some(Node::Broken(bytes, from)) => Ok(Some(Box::new((bytes.clone(), *from)))),
            }
        }
    }

    impl Plain for (Vec<u8>, u64) {
        fn length(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn identity(&self) -> io::Result<(u64, u64)> {
            Ok((0, 0))
        }

        fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
            if at >= self.1 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let rest = self.0.get(at as usize..).unwrap_or_default();
            let count = rest.len().min(into.len()).min((self.1 - at) as usize);
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
    }
}
