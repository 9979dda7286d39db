//! The guard: a file, best kept elsewhere, that remembers how far a log had come. A directory that was
//! put back to an older state is told from it. Several logs may share one.
//!
//! A guard has a name of its own, and the log remembers it: another guard, or an empty one in its
//! place, would know nothing, and everything would seem to be right.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use super::directory::{SMALL, TREE};
use super::disk::{File, Folder, How, Lock, append_lines, if_there, wait_for};
use crate::error::Error;
use crate::format::checkpoint::{Checkpoint, GUARD, guard_name};

/// The file in the tree's directory that names the guard that the log has.
pub const GUARDED: &str = "guarded";

/// From this length on only the last line of each log is kept.
const LONG: u64 = 64 * 1024;

/// Of a longer one, the end is read.
const LONGEST: u64 = 16 << 20;

/// How long another log's writing to it is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A guard file.
#[derive(Debug)]
pub struct Guard {
    folder: Folder,
    file: String,
    name: String,
}

impl Guard {
    /// The guard at a path, which is created, and given a name, where it has none. A link is followed
    /// once, now. `log` is the log's directory.
    pub fn open(path: &Path, log: &Folder) -> io::Result<Guard> {
        let path = match if_there(path.canonicalize())? {
            Some(path) => path,
            None => std::path::absolute(path)?,
        };
        let (Some(above), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("names no file"));
        };
        let folder = log.elsewhere(above)?;
        Guard::in_folder(folder, &file.to_string_lossy())
    }

    /// The guard of that name in a directory.
    pub fn in_folder(folder: Folder, file: &str) -> io::Result<Guard> {
        let mut guard = Guard {
            folder,
            file: file.to_owned(),
            name: String::new(),
        };
        let named = guard_name(&text(&guard.open_file()?)?).map(str::to_owned);
        guard.name = match named {
            Some(name) => name,
            None => guard.give_name()?,
        };
        Ok(guard)
    }

    /// Gives it a name, unless another process was faster.
    fn give_name(&self) -> io::Result<String> {
        let lock = self.lock()?.ok_or_else(is_locked)?;
        if let Some(name) = guard_name(&text(lock.file())?) {
            return Ok(name.to_owned());
        }
        let name = Uuid::new_v4().simple().to_string();
        append_lines(lock.file(), format!("{GUARD}{name}\n").as_bytes())?;
        lock.file().sync_data()?;
        self.folder.sync()?;
        Ok(name)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn open_file(&self) -> io::Result<File> {
        self.folder.open(&self.file, How::Append { new: false })
    }

    /// What it knows of a log.
    pub fn read(&self, origin: &str) -> io::Result<Option<Checkpoint>> {
        let text = text(&self.open_file()?)?;
        if guard_name(&text) != Some(&self.name) {
            return Err(io::Error::other(format!(
                "isn't the guard {} any more, but another file in its place",
                self.name
            )));
        }
        Checkpoint::guarded(&text, origin).map_err(io::Error::other)
    }

    /// Has it know that, on the disk.
    pub fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let line = checkpoint.guard_line();
        let Some(lock) = self.lock()? else {
            return self.write_unlocked(&line);
        };
        let file = lock.file();
        append_lines(file, line.as_bytes())?;
        file.sync_data()?;
        if file.length()? > LONG {
            // Where its directory can't be written to, it grows.
            let _ = self.shorten(file);
        }
        Ok(())
    }

    /// Writes to it where others may read it: one of them can hold its lock for ever, and isn't to stop
    /// sealing.
    fn write_unlocked(&self, line: &str) -> io::Result<()> {
        let file = self.open_file()?;
        if file.stat()?.mode & 0o044 == 0 {
            return Err(is_locked());
        }
        // What is there may be torn. Should this be cut off by who has the lock and is just writing, the
        // guard knows of one sealing less.
        let line = format!("\n{line}");
        if file.append(line.as_bytes())? < line.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.sync_data()
    }

    /// The file, locked, and still the one of that name. `None` if somebody holds its lock.
    fn lock(&self) -> io::Result<Option<Lock>> {
        let attempt = || {
            Lock::on(self.open_file()?, |file| {
                self.folder.still_names(&self.file, file)
            })
        };
        wait_for(PATIENCE, || Ok(()), attempt)
    }

    fn shorten(&self, file: &File) -> io::Result<()> {
        /// No guard is shared by more logs; whoever makes one up is not to fill the memory.
        const MOST: usize = 100_000;
        if file.length()? > LONGEST {
            return Err(io::Error::other("is too long to be read whole"));
        }
        let text = text(file)?;
        let mut last = BTreeMap::new();
        for line in text.split_inclusive('\n') {
            // A log's line has three words, the guard's own has two.
            last.insert((line.split(' ').next(), line.split(' ').count()), line);
            if last.len() > MOST {
                return Err(io::Error::other("has lines of too many logs"));
            }
        }
        let kept: String = last.into_values().collect();
        self.folder.replace(&self.file, kept.as_bytes(), true)?;
        self.folder.sync()
    }
}

fn is_locked() -> io::Error {
    io::Error::other("another process holds its lock")
}

/// The file's text; of a very long one, the end. Lines that aren't UTF-8 are nobody's.
fn text(file: &File) -> io::Result<String> {
    let length = file.length()?;
    let from = length.saturating_sub(LONGEST);
    let mut bytes = vec![0; usize::try_from(length - from).unwrap_or_default()];
    file.read_exact_at(&mut bytes, from)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| {
        let lines = error.as_bytes().split_inclusive(|byte| *byte == b'\n');
        lines.flat_map(str::from_utf8).collect()
    }))
}

/// The error of a configured guard that can't be used.
pub fn wrong(wrong: impl std::fmt::Display) -> Error {
    Error::config(format!("\"integrity\": \"guard_file\" {wrong}"))
}

/// Refuses another guard than the one that the log remembers: what it sealed after a crash of a process
/// with that one would be taken for a rollback, and a rollback would go unseen.
pub fn check(folder: &Folder, guard: Option<&Guard>, origin: &str) -> Result<(), Error> {
    let log = |error: io::Error| Error::log(format!("{TREE}/{GUARDED}: {error}"));
    let Some(named) = if_there(folder.read(GUARDED, SMALL)).map_err(log)? else {
        return Ok(());
    };
    let named = String::from_utf8_lossy(&named);
    let named = named.trim_end();
    let way_out = format!(
        "give the one that it was sealed with, or, to go on without what that knows, remove \
         {TREE}/{GUARDED}"
    );
    let Some(guard) = guard else {
        return Err(wrong(format!("is missing: the log has a guard; {way_out}")));
    };
    if named == guard.name() {
        return Ok(());
    }
    let knows_it = || {
        let knows = guard.read(origin);
        knows.map_err(|error| wrong(format!("can't be used: {error}")))
    };
    // Version 1 didn't write its name.
    if named.is_empty() && knows_it()?.is_some() {
        let name = format!("{}\n", guard.name());
        let written = folder.replace(GUARDED, name.as_bytes(), true);
        return written.and_then(|()| folder.sync()).map_err(log);
    }
    Err(wrong(format!(
        "is another one than the log's, or a new one in its place; {way_out}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(origin: &str, size: u64) -> Checkpoint {
        Checkpoint {
            origin: origin.into(),
            size,
            root: [1; 32],
        }
    }

    fn log() -> Folder {
        Folder::at(&std::env::temp_dir(), super::super::disk::Access::Owner).unwrap()
    }

    fn path() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("audit_logger-guard-{}", Uuid::new_v4()))
    }

    #[test]
    fn a_guard_knows_the_last_of_each_log_however_long_it_gets() {
        let path = path();
        let guard = Guard::open(&path, &log()).unwrap();
        guard.write(&checkpoint("other", 7)).unwrap();
        let mut longest = 0;
        for size in 1..2000 {
            guard.write(&checkpoint("ours", size)).unwrap();
            let length = std::fs::metadata(&path).unwrap().len();
            longest = longest.max(length);
            // As if a write had been cut short.
            if size % 500 == 0 {
                guard.open_file().unwrap().append(b"ours 9999").unwrap();
            }
            let known = guard.read("ours").unwrap().unwrap();
            assert_eq!(known.size, size);
        }
        assert_eq!(guard.read("other").unwrap().unwrap().size, 7);
        assert_eq!(guard.read("nobody").unwrap(), None);
        assert_eq!(Guard::open(&path, &log()).unwrap().name(), guard.name());
        assert!(longest < LONG + 200, "{longest}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn who_may_only_read_a_guard_stops_no_writing_to_it() {
        use std::os::unix::fs::PermissionsExt;
        let path = path();
        let guard = Guard::open(&path, &log()).unwrap();
        guard.write(&checkpoint("ours", 7)).unwrap();
        let held = std::fs::File::open(&path).unwrap();
        held.lock().unwrap();
        // Nobody else may read it: it's a writer's lock.
        assert!(guard.write(&checkpoint("ours", 8)).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        guard.open_file().unwrap().append(b"ours 9999").unwrap();
        guard.write(&checkpoint("ours", 9)).unwrap();
        assert_eq!(guard.read("ours").unwrap().unwrap().size, 9);
        assert_eq!(Guard::open(&path, &log()).unwrap().name(), guard.name());
        drop(held);
        guard.write(&checkpoint("ours", 10)).unwrap();
        assert_eq!(guard.read("ours").unwrap().unwrap().size, 10);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn another_guard_in_the_place_of_one_is_noticed() {
        let path = path();
        let guard = Guard::open(&path, &log()).unwrap();
        guard.write(&checkpoint("ours", 7)).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(guard.read("ours").is_err());
        assert_ne!(Guard::open(&path, &log()).unwrap().name(), guard.name());
        assert!(guard.read("ours").is_err());
        std::fs::remove_file(path).unwrap();
    }
}
