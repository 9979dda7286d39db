//! Where a log keeps its time stamps, which is said in `format/stamp`; and the requests that wait for their answers, which stand
//! likewise in `.state`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use audit_logger::tool::if_there;
use audit_logger::tool::source::{Directory, TREE};
use audit_logger::tool::stamp::{LONGEST_FILE, Stamp, joined, parted, short};
use audit_logger::tool::stamps::DIRECTORY;
use uuid::Uuid;

use super::token::Query;

/// Where requests wait for their answers.
const STATE: &str = ".state";

/// What a request stands between.
const QUERY: &str = "TIMESTAMP QUERY";

/// A request's name in `.state` begins so.
const OPEN: &str = "timestamp-";

/// What isn't whole yet begins so.
const TEMPORARY: &str = "new-";

/// So many requests may wait for their answers.
const MOST_OPEN: usize = 64;

/// Writes a whole file that nobody else writes: to the disk, or not at all. One that is there stays, and must be
/// the same.
fn write(folder: &Path, name: &str, text: &str, like: &Path) -> io::Result<()> {
    let temporary = folder.join(format!("{TEMPORARY}{}", Uuid::new_v4().simple()));
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let (own, like) = (file.metadata()?, fs::metadata(like)?);
        if own.uid() != like.uid() {
            return Err(io::Error::other(format!(
                "the log belongs to the user {}: run it as that one",
                like.uid()
            )));
        }
        file.write_all(text.as_bytes())?;
        // Who may read the checkpoint may read what is said of it.
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o640))?;
        file.sync_all()?;
        let path = folder.join(name);
        match fs::hard_link(&temporary, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match is(&path, text)? {
                true => Ok(()),
                false => Err(io::Error::other(format!(
                    "{name} is there already, and holds something else: somebody changed it; move it away"
                ))),
            },
            linked => linked,
        }
    })();
    let _ = fs::remove_file(&temporary);
    written?;
    File::open(folder)?.sync_all()
}

/// Whether a plain file holds that.
fn is(path: &Path, text: &str) -> io::Result<bool> {
    let there = fs::symlink_metadata(path)?;
    Ok(there.is_file() && there.len() == text.len() as u64 && fs::read(path)? == text.as_bytes())
}

/// Removes what a killed process left half done.
fn clear(folder: &Path) -> io::Result<()> {
    const ABANDONED: Duration = Duration::from_secs(3600);
    for (name, age) in named(folder, TEMPORARY)? {
        if age > ABANDONED {
            if_there(fs::remove_file(folder.join(name)))?;
        }
    }
    Ok(())
}

/// The files in a directory whose names begin so, and how old each is. Others come and go meanwhile.
fn named(folder: &Path, beginning: &str) -> io::Result<Vec<(String, Duration)>> {
    let mut found = Vec::new();
    for item in if_there(fs::read_dir(folder))?.into_iter().flatten() {
        let item = item?;
        let name = item.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with(beginning))
            && let Some(metadata) = if_there(item.metadata())?
        {
            let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((name.to_owned(), since.elapsed().unwrap_or_default()));
        }
    }
    Ok(found)
}

/// Keeps a time stamp. Returns its path below the log's directory.
pub fn keep(path: &Path, stamp: &Stamp) -> io::Result<String> {
    let name = stamp
        .name()
        .ok_or_else(|| io::Error::other("the checkpoint has no size"))?;
    let tree = path.join(TREE);
    let folder = tree.join(DIRECTORY);
    let mode = fs::metadata(&tree)?.mode();
    match DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode & 0o2750))?;
            File::open(&tree)?.sync_all()?;
        }
        // Nothing is written through a link to somewhere else.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(&folder)?.is_dir() {
                return Err(io::Error::other(format!("{DIRECTORY} isn't a directory")));
            }
        }
        Err(error) => return Err(error),
    }
    clear(&folder)?;
    write(&folder, &name, &stamp.text(), &tree.join("checkpoint"))?;
    Ok(format!("{TREE}/{DIRECTORY}/{name}"))
}

/// A request that waits for its answer, and the checkpoint that it's about.
pub struct Open {
    name: String,
    pub note: String,
    pub query: Query,
}

/// The files of requests, the newest first.
fn newest(state: &Path) -> io::Result<Vec<(String, Duration)>> {
    let mut there = named(state, OPEN)?;
    there.sort_by_key(|(_, age)| *age);
    Ok(there)
}

/// Notes a request that is written out.
pub fn open(path: &Path, note: &str, query: Query) -> io::Result<Open> {
    let state = path.join(STATE);
    let text = joined(note, QUERY, &query.der);
    let name = format!("{OPEN}{}", short(&query.der));
    for (name, _) in newest(&state)?.iter().skip(MOST_OPEN - 1) {
        if_there(fs::remove_file(state.join(name)))?;
    }
    write(&state, &name, &text, &state.join("format"))?;
    let note = note.to_owned();
    Ok(Open { name, note, query })
}

/// The requests that were noted. What can't be read is none that could be answered.
pub fn waiting(path: &Path, directory: &Directory<'_>) -> io::Result<Vec<Open>> {
    let mut found = Vec::new();
    // A copy has none.
    for (name, _) in newest(&path.join(STATE))?.into_iter().take(MOST_OPEN) {
        let read = directory.beginning_of(&format!("{STATE}/{name}"), LONGEST_FILE);
        let Ok(Some(bytes)) = read else { continue };
        if let Some((note, der)) = parted(&String::from_utf8_lossy(&bytes), QUERY)
            && let Ok(query) = Query::parse(&der)
        {
            found.push(Open { name, note, query });
        }
    }
    Ok(found)
}

impl Open {
    /// It doesn't wait any more.
    pub fn close(self, path: &Path) -> io::Result<()> {
        if_there(fs::remove_file(path.join(STATE).join(self.name))).map(drop)
    }
}
