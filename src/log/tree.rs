//! The Merkle log's files, read and written. FORMAT.md, "The Merkle log", says which there are, and in
//! which order they are written; whoever writes holds the lock.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;

use crate::clock::Timestamp;
use crate::format::checkpoint::{Checkpoint, format_hash, last_checkpoint, notes, parse_hash};
use crate::format::merkle::{Edge, Hash, empty_root};
use crate::format::note::Signer;
use crate::format::record::{Entry, Record, Said, VERSION};
use crate::format::tiles::{self, Append, Fetch, Growth, Kind, Tile, TileError, WIDTH, entries};
use crate::json::Object;
use crate::sys;

use super::disk::SMALL;
use super::folder::{Folder, Lock, TEMPORARY, if_there};
use super::guard::Guard;
use crate::format::name::DayName;

/// Below the log's directory.
pub const NAME: &str = ".integrity";

/// The file that says that the log has a guard.
pub const GUARDED: &str = "guarded";

/// The file that names day files whose syncs failed.
const DISTRUSTED: &str = "distrusted";

/// No file of the tree that is read whole is longer.
const LONGEST: u64 = 17 << 20;

/// So much of the end of `heads` holds several notes.
const END_OF_HEADS: u64 = 4096;

/// From this length on older notes are left out of `heads`.
const LONG_HEADS: u64 = 1 << 20;

/// The tile that begins with the settings.
const FIRST: Tile = Tile {
    kind: Kind::Entries,
    number: 0,
    width: 1,
};

/// Entries that are replayed at once.
const PIECE: u64 = 64 * WIDTH;

/// The tree in a log's directory, and who signs it.
#[derive(Debug)]
pub struct Tree {
    folder: Folder,
    signer: Signer,
    guard: Option<Guard>,
    /// Of a tree that is begun.
    hash_key_id: Option<String>,
}

/// What is known of a tree: how it grows on, and up to where each file is sealed.
#[derive(Debug, Clone, Default)]
pub struct Known {
    growth: Growth,
    sealed: BTreeMap<DayName, u64>,
}

impl Known {
    /// How many entries it has.
    pub fn size(&self) -> u64 {
        self.growth.edge().size()
    }

    fn checkpoint(&self, origin: &str) -> Checkpoint {
        Checkpoint {
            origin: origin.to_owned(),
            size: self.size(),
            root: self.growth.edge().root(),
        }
    }

    fn is_at(&self, size: u64, root: &Hash) -> bool {
        self.size() == size && self.growth.edge().root() == *root
    }

    /// Up to where a file is sealed.
    pub fn sealed(&self, day: &DayName) -> u64 {
        self.sealed.get(day).copied().unwrap_or_default()
    }

    /// Adds a record.
    pub fn record(&mut self, now: &Timestamp, said: Said) {
        self.follow(&said);
        let ts = now.to_string();
        // No record is too long: what it names is.
        let _ = self.growth.push(&Record { ts, said }.encode());
    }

    /// Adds the digest of a line that a `seg` announced.
    pub fn digest(&mut self, digest: &Hash) {
        // It has 32 bytes.
        let _ = self.growth.push(digest);
    }

    fn follow(&mut self, said: &Said) {
        let file = |file: &str| DayName::parse(file);
        match said {
            Said::Seg { range, .. } => {
                if let Some(day) = file(&range.file) {
                    self.sealed.insert(day, range.off + range.len);
                }
            }
            Said::Gap(range) => {
                if let Some(day) = file(&range.file) {
                    self.sealed.insert(day, range.off);
                }
            }
            Said::Prune { file: name } => {
                if let Some(day) = file(name) {
                    self.sealed.remove(&day);
                }
            }
            _ => {}
        }
    }

    /// Adds an entry that the tree's files hold.
    fn replay(&mut self, entry: &[u8]) -> Result<(), String> {
        if let Entry::Record(record) = Entry::parse(entry)? {
            self.follow(&record.said);
        }
        self.growth
            .push(entry)
            .map_err(|_| "is too long".to_owned())
    }
}

impl Tree {
    /// The tree in this directory.
    pub fn new(
        folder: Folder,
        signer: Signer,
        guard: Option<Guard>,
        hash_key_id: Option<String>,
    ) -> Tree {
        Tree {
            folder,
            signer,
            guard,
            hash_key_id,
        }
    }

    /// The lock under which it grows, or `None` while another process holds it.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        self.folder.try_lock("lock")
    }

    /// Removes what killed processes left half done.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        let mut names = self.folder.names()?;
        names.retain(|name| name.starts_with(TEMPORARY));
        names.iter().try_for_each(|name| self.folder.remove(name))
    }

    /// Writes the public key beside it, unless it's there.
    pub fn write_vkey(&self) -> io::Result<()> {
        let text = format!("{}\n", self.signer.verifier());
        match if_there(self.folder.read("vkey", SMALL))? {
            Some(there) if there == text.as_bytes() => return Ok(()),
            Some(_) => return Err(io::Error::other("was just begun with another key")),
            None => {}
        }
        self.folder.replace("vkey", text.as_bytes(), true)?;
        self.folder.sync()
    }

    /// Notes for every process that the disk refused to confirm a day's file, and that what is read
    /// of it may not be there after a power cut.
    pub fn distrust(&self, day: &DayName) -> io::Result<()> {
        let Some(boot) = sys::boot_id() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let line = format!("{boot} {}\n", day.file_name());
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
        let file = self.folder.open(DISTRUSTED, flags)?;
        (&*file)
            .write_all(line.as_bytes())
            .inspect_err(sys::note_write_error)
    }

    /// The files that were noted since the machine booted: what is in one then is on the disk.
    pub fn distrusted(&self) -> io::Result<HashSet<DayName>> {
        let Some(noted) = if_there(self.folder.read(DISTRUSTED, LONGEST))? else {
            return Ok(HashSet::new());
        };
        let noted = String::from_utf8_lossy(&noted);
        let this_boot = sys::boot_id();
        let lines = noted.lines().filter_map(|line| line.split_once(' '));
        let names = lines.filter(|(boot, _)| Some(*boot) == this_boot.as_deref());
        Ok(names.filter_map(|(_, name)| DayName::parse(name)).collect())
    }

    /// Its name.
    pub fn origin(&self) -> &str {
        self.signer.verifier().name()
    }

    /// The last that was signed.
    pub fn head(&self) -> io::Result<Option<Checkpoint>> {
        let found = |bytes: &[u8]| {
            last_checkpoint(bytes, self.signer.verifier()).map(|(checkpoint, _)| checkpoint)
        };
        let mut head = None;
        if let Some(file) = if_there(self.folder.open("heads", libc::O_RDONLY))? {
            let length = file.metadata()?.len();
            for most in [END_OF_HEADS, LONGEST] {
                let from = length.saturating_sub(most);
                let mut end = vec![0; (length - from) as usize];
                file.read_exact_at(&mut end, from)?;
                head = found(&end);
                if head.is_some() || from == 0 {
                    break;
                }
            }
        }
        let published = self.published()?.as_deref().and_then(found);
        Ok([head, published]
            .into_iter()
            .flatten()
            .max_by_key(|checkpoint| checkpoint.size))
    }

    fn published(&self) -> io::Result<Option<Vec<u8>>> {
        if_there(self.folder.read("checkpoint", LONGEST))
    }

    /// The id of the key of the log's hashes, which its first entry says, if they are keyed.
    pub fn hash_key_id(&self) -> io::Result<Option<String>> {
        let bytes = tiles::read(self, &FIRST).map_err(unreadable)?;
        let settings = entries(&bytes).next().map(Record::parse);
        match settings.map(|settings| settings.map(|record| record.said)) {
            Some(Ok(Said::Settings { hash_key_id, .. })) => Ok(hash_key_id),
            _ => Err(damaged("its first entry isn't its settings")),
        }
    }

    /// What is known of it now, from what was known before. Where it is older than what this process
    /// or the guard has seen, that is recorded, and a new one gets its settings. Also returns whether
    /// there is something to commit, be it only the head.
    pub fn known(&self, before: Option<Known>, now: &Timestamp) -> io::Result<(Known, bool)> {
        let origin = self.origin();
        let head = self.head()?;
        if head.is_none() && !self.is_new()? {
            return Err(damaged("its checkpoints are gone"));
        }
        let size = head.as_ref().map_or(0, |head| head.size);
        let root = head.map_or_else(empty_root, |head| head.root);
        let mut seen = None;
        let mut known = match before {
            Some(known) if known.is_at(size, &root) => known,
            Some(before) if before.size() < size => {
                let checkpoint = before.checkpoint(origin);
                match self.replayed(before, size) {
                    Ok(known) if known.is_at(size, &root) => known,
                    Err(error) if !is_damage(&error) => return Err(error),
                    _ => {
                        seen = Some(checkpoint);
                        self.load(size, &root)?
                    }
                }
            }
            before => {
                seen = before.map(|known| known.checkpoint(origin));
                self.load(size, &root)?
            }
        };
        let guarded = match &self.guard {
            Some(guard) => {
                let guarded = guard.read(origin);
                guarded.map_err(|error| io::Error::other(format!("the guard: {error}")))?
            }
            None => None,
        };
        if let Some(guarded) = guarded {
            if guarded.size > size {
                // A crash came between the guard and the head, or the directory was put back.
                match self.replayed(known.clone(), guarded.size) {
                    Ok(further) if further.is_at(guarded.size, &guarded.root) => {
                        return Ok((further, true));
                    }
                    // Nothing is said of what can't be read just now.
                    Err(error) if !is_damage(&error) => return Err(error),
                    _ => seen = Some(guarded),
                }
            } else if self.root(guarded.size, size)? != guarded.root {
                seen = Some(guarded);
            }
        }
        let begins = known.size() == 0;
        if begins {
            let settings = Said::Settings {
                version: VERSION,
                origin: origin.to_owned(),
                hash_key_id: self.hash_key_id.clone(),
            };
            known.record(now, settings);
        }
        let Some(Checkpoint { size, root, .. }) = seen else {
            return Ok((known, begins));
        };
        known.record(now, Said::Rollback { size, root });
        Ok((known, true))
    }

    /// Whether it holds no more than what a process left that died while it began it.
    fn is_new(&self) -> io::Result<bool> {
        let first = self.fetch(&FIRST.full_path())?.unwrap_or_default();
        Ok(entries(&first).nth(1).is_none())
    }

    /// The root at an earlier size.
    fn root(&self, earlier: u64, size: u64) -> io::Result<Hash> {
        let edge = Edge::read(earlier, &tiles::Tree::new(self, size));
        edge.map(|edge| edge.root()).map_err(unreadable)
    }

    /// What is known of the tree at a size, from its files.
    fn load(&self, size: u64, root: &Hash) -> io::Result<Known> {
        let start = self.cached(size).unwrap_or_default();
        let known = match self.replayed(start, size) {
            Ok(known) if known.is_at(size, root) => known,
            Err(error) if !is_damage(&error) => return Err(error),
            // The cache may be wrong.
            _ => self.replayed(Known::default(), size)?,
        };
        if known.is_at(size, root) {
            return Ok(known);
        }
        Err(damaged(format!(
            "its entries don't give the root that was signed at size {size}"
        )))
    }

    /// What `state` knows, if it's of this tree.
    fn cached(&self, size: u64) -> Option<Known> {
        let text = self.folder.read("state", SMALL).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let cached = value["size"].as_u64().filter(|cached| *cached <= size)?;
        let root = parse_hash(value["root"].as_str()?)?;
        let growth = tiles::Tree::new(self, cached).growth().ok()?;
        let sealed = value["files"].as_array()?.iter();
        let sealed = sealed.map(|file| {
            let day = DayName::parse(file["file"].as_str()?)?;
            Some((day, file["sealed"].as_u64()?))
        });
        let sealed = sealed.collect::<Option<_>>()?;
        (growth.edge().root() == root).then_some(Known { growth, sealed })
    }

    /// What is known, and what the entries behind it say up to a size.
    fn replayed(&self, mut known: Known, size: u64) -> io::Result<Known> {
        while known.size() < size {
            let at = known.size();
            let (number, first) = (at / WIDTH, at % WIDTH);
            let width = (size - number * WIDTH).min(WIDTH);
            let tile = Tile {
                kind: Kind::Entries,
                number,
                width,
            };
            let bytes = tiles::read(self, &tile).map_err(unreadable)?;
            for (entry, at) in entries(&bytes).skip(first as usize).zip(at..) {
                let wrong = |wrong| damaged(format!("entry {at} {wrong}"));
                known.replay(entry).map_err(wrong)?;
            }
            if number.is_multiple_of(PIECE / WIDTH) {
                known.growth.take();
            }
        }
        // It's in the files already.
        known.growth.take();
        Ok(known)
    }

    /// Writes what was added, and signs it. The lines must be on the disk.
    pub fn commit(&self, known: &mut Known) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for append in known.growth.take() {
            self.append(&append, &mut folders)?;
        }
        self.sync(folders)?;
        let checkpoint = known.checkpoint(self.origin());
        if let Some(guard) = &self.guard {
            if !self.folder.has(GUARDED)? {
                self.folder.open(GUARDED, libc::O_RDWR | libc::O_CREAT)?;
                self.folder.sync()?;
            }
            guard
                .write(&checkpoint)
                .map_err(|error| io::Error::new(error.kind(), format!("the guard: {error}")))?;
        }
        let note = self.signer.sign(&checkpoint.to_string());
        let heads = self.folder.append("heads", note.as_bytes())?;
        heads.sync_data()?;
        let length = heads.metadata()?.len();
        if length == note.len() as u64 {
            self.folder.sync()?;
        }
        if length > LONG_HEADS {
            // It stays long otherwise.
            let _ = self.thin();
        }
        Ok(())
    }

    fn append(&self, append: &Append, folders: &mut BTreeSet<String>) -> io::Result<()> {
        let (folder, name) = self.place(&append.path)?;
        let file = folder.open(name, libc::O_RDWR | libc::O_CREAT)?;
        let length = file.metadata()?.len();
        if length < append.offset {
            return Err(damaged(format!(
                "{} holds less than was sealed",
                append.path
            )));
        }
        let place =
            |error| io::Error::new(io::Error::kind(&error), format!("{}: {error}", append.path));
        file.write_all_at(&append.bytes, append.offset)
            .inspect_err(sys::note_write_error)
            .map_err(place)?;
        let end = append.offset + append.bytes.len() as u64;
        if length > end {
            // A crash left more, which was never signed.
            file.set_len(end).map_err(place)?;
        }
        file.sync_data().map_err(place)?;
        if append.offset == 0 {
            note_folders(&append.path, folders);
        }
        Ok(())
    }

    /// Copies out what a checkpoint of this size needs, and puts it in the place of the last one.
    pub fn publish(&self, known: &Known) -> io::Result<()> {
        let checkpoint = known.checkpoint(self.origin());
        let before = self.published()?;
        let before = before.and_then(|before| {
            let note = std::str::from_utf8(&before).ok()?;
            Checkpoint::open(note, self.signer.verifier()).ok()
        });
        if before.as_ref() == Some(&checkpoint) {
            return Ok(());
        }
        let mut folders = BTreeSet::new();
        for copy in known.growth.copies() {
            let bytes = self.fetch(&copy.from)?.unwrap_or_default();
            let bytes = bytes.get(..copy.len as usize);
            let bytes = bytes
                .ok_or_else(|| damaged(format!("{} holds less than was sealed", copy.from)))?;
            let (folder, name) = self.place(&copy.to)?;
            folder.replace(name, bytes, true)?;
            note_folders(&copy.to, &mut folders);
        }
        self.sync(folders)?;
        let note = self.signer.sign(&checkpoint.to_string());
        self.folder.replace("checkpoint", note.as_bytes(), true)?;
        self.folder.sync()?;
        self.cache(known)?;
        match before {
            Some(before) => self.tidy(before.size, known.size()),
            None => Ok(()),
        }
    }

    /// Keeps what is known for the next process.
    fn cache(&self, known: &Known) -> io::Result<()> {
        let mut text = Vec::new();
        let mut to = Object::begin(&mut text);
        to.json("size", known.size());
        to.text("root", &format_hash(&known.growth.edge().root()));
        let files: Vec<_> = known.sealed.iter().collect();
        to.list("files", &files, |(day, sealed), out| {
            let mut file = Object::begin(out);
            file.text("file", &day.file_name());
            file.json("sealed", sealed);
            file.end();
        });
        to.end();
        text.push(b'\n');
        self.folder.replace("state", &text, false)
    }

    /// Removes partial tiles that neither this checkpoint nor the one before needs: whoever still
    /// reads that one finds them.
    fn tidy(&self, before: u64, size: u64) -> io::Result<()> {
        for old in Tile::partial(before) {
            let new = Tile::partial(size).find(|new| new.kind == old.kind);
            let keep = new.filter(|new| new.number == old.number);
            let path = format!("{}.p", old.full_path());
            let (above, name) = self.place(&path)?;
            let folder = above.folder(name, self.folder.access())?;
            for width in folder.names()? {
                let needed = keep.is_some_and(|new| {
                    [new.width, old.width]
                        .map(|width| width.to_string())
                        .contains(&width)
                });
                if !needed {
                    folder.remove(&width)?;
                }
            }
            if keep.is_none() {
                above.remove_folder(name)?;
            }
        }
        Ok(())
    }

    /// Leaves every second note of the older half out of `heads`: those that are left grow rarer the
    /// older they are.
    fn thin(&self) -> io::Result<()> {
        let bytes = self.folder.read("heads", LONGEST + 1)?;
        if bytes.len() as u64 > LONGEST {
            return Err(io::Error::other("heads is too long to be read whole"));
        }
        let notes = notes(&bytes);
        let half = notes.len() / 2;
        let kept = notes
            .iter()
            .enumerate()
            .filter(|(at, _)| *at >= half || at % 2 == 0)
            .map(|(_, note)| *note);
        let kept: String = kept.collect();
        self.folder.replace("heads", kept.as_bytes(), true)?;
        self.folder.sync()
    }

    /// The folder of a file in the tree, made if it is missing, and the file's name in it.
    fn place<'p>(&self, path: &'p str) -> io::Result<(Folder, &'p str)> {
        let access = self.folder.access();
        let mut parts = path.split('/');
        let name = parts.next_back().unwrap_or_default();
        let first = parts.next().unwrap_or_default();
        let first = self.folder.folder(first, access)?;
        let folder = parts.try_fold(first, |above, part| above.folder(part, access))?;
        Ok((folder, name))
    }

    fn sync(&self, folders: BTreeSet<String>) -> io::Result<()> {
        // The innermost first: a name is of no use before what it leads to is there.
        let mut folders = folders.iter().rev();
        folders.try_for_each(|path| self.folder.sync_below(path))
    }
}

/// Notes the folders above a new file, for the disk to confirm its name.
fn note_folders(path: &str, folders: &mut BTreeSet<String>) {
    folders.insert(".".to_owned());
    let ends = path.match_indices('/').map(|(end, _)| end);
    folders.extend(ends.map(|end| path[..end].to_owned()));
}

impl Fetch for Tree {
    fn fetch(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if_there(self.folder.read(path, LONGEST))
    }
}

/// Whether the tree isn't what was written, whatever is read again: then nothing is sealed.
pub fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn unreadable(error: TileError) -> io::Error {
    match error {
        TileError::Io(path, error) => io::Error::other(format!("{path}: {error}")),
        error => damaged(error),
    }
}

fn damaged(what: impl std::fmt::Display) -> io::Error {
    let message = format!(
        "{NAME} is damaged, and nothing is sealed until it is put right: {what}; verify says more"
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}
