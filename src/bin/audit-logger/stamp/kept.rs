//! Where a log keeps its time stamps: `.integrity/timestamps`, a file for each, which never changes.
//!
//! ```text
//! <the checkpoint, a signed note, as it was stamped>
//!
//! -----BEGIN CMS-----
//! <base64 of the token, in lines of 64>
//! -----END CMS-----
//! ```
//!
//! A request that was written out stands likewise in `.state`, until its answer comes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use audit_logger::tool::checkpoint::{claimed_size, parse_size};
use audit_logger::tool::if_there;
use audit_logger::tool::source::{Directory, TREE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::token::{LONGEST, Query};

/// Their directory, below `.integrity`.
pub const DIRECTORY: &str = "timestamps";

/// What a token stands between (RFC 7468, section 9).
const TOKEN: &str = "CMS";

/// What a request stands between.
const QUERY: &str = "TIMESTAMP QUERY";

/// A request's name in `.state` begins so.
const OPEN: &str = "timestamp-";

/// What isn't whole yet begins so.
const TEMPORARY: &str = "new-";

/// A note, and a token as text.
const LONGEST_FILE: u64 = 4 * LONGEST as u64;

/// So many are read: one an hour, for years.
const MOST: usize = 1 << 15;

/// So many requests may wait for their answers.
const MOST_OPEN: usize = 64;

/// A checkpoint, and what somebody said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub note: String,
    pub token: Vec<u8>,
}

/// A note and some bytes, as a text.
fn joined(note: &str, label: &str, bytes: &[u8]) -> String {
    let mut text = format!("{note}\n-----BEGIN {label}-----\n");
    for line in BASE64.encode(bytes).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Takes them apart again. What would be written otherwise isn't one.
fn parted(text: &str, label: &str) -> Option<(String, Vec<u8>)> {
    let (note, rest) = text.split_once(&format!("\n\n-----BEGIN {label}-----\n"))?;
    let lines = rest.strip_suffix(&format!("-----END {label}-----\n"))?;
    let bytes = BASE64.decode(lines.replace('\n', "")).ok()?;
    let note = format!("{note}\n");
    (joined(&note, label, &bytes) == text).then_some((note, bytes))
}

impl Stamp {
    /// What a file of time stamps holds.
    pub fn parse(text: &[u8]) -> Result<Stamp, String> {
        let text = std::str::from_utf8(text).ok();
        let (note, token) = text
            .and_then(|text| parted(text, TOKEN))
            .ok_or("isn't a checkpoint and a token as they are kept")?;
        Ok(Stamp { note, token })
    }

    /// The file's text.
    pub fn text(&self) -> String {
        joined(&self.note, TOKEN, &self.token)
    }

    /// The size that its checkpoint claims.
    pub fn size(&self) -> Option<u64> {
        claimed_size(&self.note)
    }

    /// The file's name, which says the size and tells tokens apart.
    pub fn name(&self) -> Option<String> {
        Some(format!("{}-{}", self.size()?, short(&self.token)))
    }
}

/// 16 digits of a hash.
fn short(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The size in a name of a time stamp.
fn size_in(name: &str) -> Option<u64> {
    let (size, rest) = name.split_once('-')?;
    let is_hash = rest.len() == 16 && rest.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    parse_size(size).filter(|_| is_hash)
}

/// A file of time stamps, and what is in it.
pub struct Found {
    /// Its path below `.integrity`.
    pub path: String,
    pub stamp: Result<Stamp, String>,
}

/// The names of a log's time stamps.
pub struct Names {
    /// By their sizes.
    names: Vec<(u64, String)>,
    /// There are more of them than any log has: not all are here.
    pub too_many: bool,
}

impl Names {
    /// Those in the directory of a log.
    pub fn of(path: &Path) -> io::Result<Names> {
        let listed = if_there(fs::read_dir(path.join(TREE).join(DIRECTORY)))?;
        let mut names = Vec::new();
        let mut too_many = false;
        for item in listed.into_iter().flatten() {
            if let Some(name) = item?.file_name().to_str()
                && let Some(size) = size_in(name)
            {
                too_many = names.len() == MOST;
                if too_many {
                    break;
                }
                names.push((size, name.to_owned()));
            }
        }
        names.sort_unstable();
        Ok(Names { names, too_many })
    }

    /// Reads one after the other.
    pub fn read(self, directory: &Directory<'_>) -> impl Iterator<Item = Found> {
        self.names.into_iter().map(|(_, name)| {
            let path = format!("{DIRECTORY}/{name}");
            let stamp = match directory.beginning(&path, LONGEST_FILE) {
                Ok(bytes) => Stamp::parse(&bytes.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            };
            let stamp = stamp.and_then(|stamp| match stamp.name() {
                Some(own) if own == name => Ok(stamp),
                _ => Err("isn't what its name says".to_owned()),
            });
            Found { path, stamp }
        })
    }
}

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

/// Notes a request that is written out.
pub fn open(path: &Path, note: &str, query: Query) -> io::Result<Open> {
    let state = path.join(".state");
    let text = joined(note, QUERY, &query.der);
    let name = format!("{OPEN}{}", short(&query.der));
    let mut there = named(&state, OPEN)?;
    there.sort_by_key(|(_, age)| *age);
    for (name, _) in there.iter().skip(MOST_OPEN - 1) {
        if_there(fs::remove_file(state.join(name)))?;
    }
    write(&state, &name, &text, &state.join("format"))?;
    let note = note.to_owned();
    Ok(Open { name, note, query })
}

/// The requests that were noted. What can't be read is none that could be answered.
pub fn waiting(path: &Path) -> io::Result<Vec<Open>> {
    let state = path.join(".state");
    let mut found = Vec::new();
    // A copy has none.
    for (name, _) in named(&state, OPEN)? {
        let bytes = if_there(fs::read(state.join(&name)))?.unwrap_or_default();
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
        if_there(fs::remove_file(path.join(".state").join(self.name))).map(drop)
    }
}
