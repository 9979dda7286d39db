//! The guard: a file, best kept elsewhere, that remembers how far a log had come. A directory that was
//! put back to an older state is told from it. Several logs may share one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::folder::{Lock, OpenFile, append_lines, check_owner, identity};
use crate::format::checkpoint::Checkpoint;
use crate::sys::Private;

/// From this length on only the last line of each log is kept.
const LONG: u64 = 64 * 1024;

/// Of a longer one, the end is read.
const LONGEST: u64 = 16 << 20;

/// How long another log's writing to it is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A guard file.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
}

impl Guard {
    /// The guard at a path, which is created if it is missing.
    pub fn open(path: &Path) -> io::Result<Guard> {
        let path = path.to_owned();
        let guard = Guard { path };
        guard.file().map(|_| guard)
    }

    fn file(&self) -> io::Result<OpenFile> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = Private::new(|| options.open(&self.path))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("isn't a plain file"));
        }
        check_owner(&metadata)?;
        Ok(file)
    }

    /// What it knows of a log.
    pub fn read(&self, origin: &str) -> io::Result<Option<Checkpoint>> {
        let file = self.file()?;
        Checkpoint::guarded(&text(&file)?, origin).map_err(io::Error::other)
    }

    /// Has it know that, on the disk.
    pub fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let lock = self.lock()?;
        let file = lock.file();
        append_lines(file, checkpoint.guard_line().as_bytes())?;
        file.sync_data()?;
        if file.metadata()?.len() > LONG {
            // Where its directory can't be written to, it grows.
            let _ = self.shorten(file);
        }
        Ok(())
    }

    /// The file, locked, and still the one at the path.
    fn lock(&self) -> io::Result<Lock> {
        let since = Instant::now();
        loop {
            let lock = Lock::try_on(self.file()?)?;
            if let Some(lock) = lock {
                let there = std::fs::metadata(&self.path)?;
                let ours = lock.file().metadata()?;
                if identity(&there) == identity(&ours) {
                    return Ok(lock);
                }
            } else if since.elapsed() > PATIENCE {
                return Err(io::Error::other("another process holds its lock"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn shorten(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.len() > LONGEST {
            return Err(io::Error::other("is too long to be read whole"));
        }
        let text = text(file)?;
        let mut last = BTreeMap::new();
        for line in text.split_inclusive('\n') {
            last.insert(line.split(' ').next(), line);
        }
        let kept: String = last.into_values().collect();
        // A link is kept, and what it leads to replaced.
        let path = self.path.canonicalize()?;
        let temporary = path.with_file_name(format!(".guard-{}", Uuid::new_v4()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let new = Private::new(|| options.open(&temporary))?;
        let replaced = (&*new).write_all(kept.as_bytes());
        let replaced = replaced.and_then(|()| new.sync_all());
        let replaced = replaced.and_then(|()| std::fs::rename(&temporary, &path));
        if replaced.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        replaced
    }
}

/// The file's text; of a very long one, the end.
fn text(mut file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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

    #[test]
    fn a_guard_knows_the_last_of_each_log_however_long_it_gets() {
        let path = std::env::temp_dir().join(format!("audit_logger-guard-{}", Uuid::new_v4()));
        let guard = Guard::open(&path).unwrap();
        guard.write(&checkpoint("other", 7)).unwrap();
        let mut longest = 0;
        for size in 1..2000 {
            guard.write(&checkpoint("ours", size)).unwrap();
            let length = std::fs::metadata(&path).unwrap().len();
            longest = longest.max(length);
            // As if a write had been cut short.
            if size % 500 == 0 {
                let torn = OpenOptions::new().append(true).open(&path);
                torn.unwrap().write_all(b"ours 9999").unwrap();
            }
            let known = guard.read("ours").unwrap().unwrap();
            assert_eq!(known.size, size);
        }
        assert_eq!(guard.read("other").unwrap().unwrap().size, 7);
        assert_eq!(guard.read("nobody").unwrap(), None);
        assert!(longest < LONG + 200, "{longest}");
        std::fs::remove_file(path).unwrap();
    }
}
