//! The Merkle log's files, read and written. FORMAT.md, "The Merkle log", says which there are, and in
//! which order they are written; whoever writes holds the lock.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::format::checkpoint::{Checkpoint, newest_checkpoint, notes};
use crate::format::merkle::{Edge, Hash, empty_root, prove_consistency};
use crate::format::note::{DASH, Note, Signer, Verifier};
use crate::format::record::{Record, RecordBody, VERSION};
use crate::format::tiles::{self, Fetch as _, Kind, Tile, WIDTH, entries};
use crate::json::Object;

use super::directory::{Directory, SMALL, Whole};
use super::disk::{Folder, How, Lock, TEMPORARY, about, if_there};
use super::guard::{GUARDED, Guard};
use super::known::Known;
use super::recent::Recent;
use super::tiles::{Tiles, damaged, is_damage, unreadable};

/// The lock under which the tree grows. It's in `.state`: who may only read must not be able to hold
/// it.
pub const LOCK: &str = "seal";

/// What is known of the tree, for the next process; if it's missing or wrong, the tree says it anew.
const CACHE: &str = "state";

/// So much of the end of `heads` holds several notes; and so much is looked through if it doesn't.
const END_OF_HEADS: [u64; 2] = [16 << 10, 1 << 20];

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
    directory: Arc<Directory>,
    tiles: Tiles,
    signer: Signer,
    guard: Option<Guard>,
    /// Of a tree that is begun.
    hash_key_id: Option<String>,
    recent: Recent,
}

impl Tree {
    /// The tree in this directory.
    pub fn new(
        directory: &Arc<Directory>,
        folder: Folder,
        signer: Signer,
        guard: Option<Guard>,
        hash_key_id: Option<String>,
    ) -> Tree {
        Tree {
            directory: Arc::clone(directory),
            tiles: Tiles::new(folder),
            signer,
            guard,
            hash_key_id,
            recent: Recent::default(),
        }
    }

    /// The lock under which it grows, or `None` while another process holds it.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        self.directory.state().try_lock(LOCK)
    }

    fn folder(&self) -> &Folder {
        self.tiles.folder()
    }

    /// Writes the tiles again that the disk may not have, if the machine was booted since they were
    /// written. `None` while another process holds the lock.
    pub fn restore(&self) -> io::Result<Option<()>> {
        if !self.directory.is_booted_anew(Whole::Tiles) {
            return Ok(Some(()));
        }
        let Some(_lock) = self.try_lock()? else {
            return Ok(None);
        };
        self.restore_tiles()?;
        self.directory.note_boot(Whole::Tiles).map(Some)
    }

    /// Writes those tiles again in any case: somebody damaged one. The lock must be held.
    pub fn restore_tiles(&self) -> io::Result<()> {
        self.recent.restore(&self.tiles)
    }

    /// Removes what killed processes left half done.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        let mut names = self.folder().names()?;
        names.retain(|name| name.starts_with(TEMPORARY));
        names.iter().try_for_each(|name| self.folder().remove(name))
    }

    /// Writes the public key beside it, unless it's there.
    pub fn write_vkey(&self) -> io::Result<()> {
        let text = format!("{}\n", self.signer.verifier());
        match if_there(self.folder().read("vkey", SMALL))? {
            Some(there) if there == text.as_bytes() => return Ok(()),
            Some(_) => return Err(io::Error::other("was just begun with another key")),
            None => {}
        }
        self.folder().replace("vkey", text.as_bytes(), true)?;
        self.folder().sync()
    }

    /// Its name.
    pub fn origin(&self) -> &str {
        self.signer.verifier().name()
    }

    /// The public key of who signs it.
    pub fn verifier(&self) -> &Verifier {
        self.signer.verifier()
    }

    /// The last that was signed.
    pub fn head(&self) -> io::Result<Option<Checkpoint>> {
        let found = |bytes: &[u8]| {
            newest_checkpoint(bytes, self.signer.verifier()).map(|(checkpoint, _)| checkpoint)
        };
        let mut head = None;
        if let Some(file) = if_there(self.folder().open("heads", How::Read))? {
            let length = file.length()?;
            for most in END_OF_HEADS {
                let from = length.saturating_sub(most);
                let mut end = vec![0; usize::try_from(length - from).unwrap_or_default()];
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
        if_there(self.folder().read("checkpoint", SMALL))
    }

    /// The checkpoint that is published, and its note.
    pub fn published_note(&self) -> io::Result<Option<(Checkpoint, String)>> {
        let note = self.published()?.unwrap_or_default();
        let note = String::from_utf8(note).unwrap_or_default();
        let checkpoint = Checkpoint::open(&note, self.verifier()).ok();
        Ok(checkpoint.map(|checkpoint| (checkpoint, note)))
    }

    /// The proof that the tree of an earlier size, from 1, is the beginning of that of another size.
    pub fn consistency(&self, earlier: u64, size: u64) -> io::Result<Vec<Hash>> {
        let proof = prove_consistency(earlier, size, &tiles::Tree::new(&self.tiles, size));
        let proof = proof.map_err(unreadable)?;
        proof.ok_or_else(|| damaged(format!("it has no tree of size {earlier} in one of {size}")))
    }

    /// Adds signatures of witnesses, which a note of the checkpoint has, to the published one, if that is
    /// still the same, and keeps them in `heads`. Nothing is kept of what isn't the tree's.
    pub fn keep_cosignatures(&self, checkpoint: &Checkpoint, cosigned: &str) -> io::Result<()> {
        let Some(head) = self.head()?.filter(|head| head.size >= checkpoint.size) else {
            return Ok(());
        };
        if self.root(checkpoint.size, head.size)? != checkpoint.root {
            return Ok(());
        }
        let wrong = |error| io::Error::other(format!("the cosigned checkpoint {error}"));
        let cosigned = Note::parse(cosigned).map_err(wrong)?;
        let published = self.published_note()?;
        let published = published.filter(|(published, _)| published == checkpoint);
        let own = match &published {
            Some((_, note)) => note.clone(),
            None => self.signer.sign(&checkpoint.to_string()),
        };
        let note = Note::parse(&own).map_err(wrong)?.joined(&cosigned);
        if published.is_some() {
            self.folder().replace("checkpoint", note.as_bytes(), true)?;
            self.folder().sync()?;
        }
        // Who takes the last note for the newest one finds that behind it.
        let again = (head.size > checkpoint.size).then(|| self.signer.sign(&head.to_string()));
        let notes = [note, again.unwrap_or_default()].concat();
        self.folder().append("heads", notes.as_bytes())?.sync_data()
    }

    /// The id of the key of the log's hashes, which its first entry says, if they are keyed.
    pub fn hash_key_id(&self) -> io::Result<Option<String>> {
        let bytes = tiles::read(&self.tiles, &FIRST).map_err(unreadable)?;
        let settings = entries(&bytes).next().map(Record::parse);
        match settings.map(|settings| settings.map(|record| record.body)) {
            Some(Ok(RecordBody::Settings { hash_key_id, .. })) => Ok(hash_key_id),
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
            let settings = RecordBody::Settings {
                version: VERSION,
                origin: origin.to_owned(),
                hash_key_id: self.hash_key_id.clone(),
            };
            known.record(now, settings);
        }
        let Some(Checkpoint { size, root, .. }) = seen else {
            return Ok((known, begins));
        };
        known.record(now, RecordBody::Rollback { size, root });
        Ok((known, true))
    }

    /// Whether it holds no more than what a process left that died while it began it.
    fn is_new(&self) -> io::Result<bool> {
        let first = self.tiles.fetch(&FIRST.full_path())?.unwrap_or_default();
        Ok(entries(&first).nth(1).is_none())
    }

    /// What is known of it, without the lock; `None` if it isn't begun.
    pub fn known_now(&self) -> io::Result<Option<Known>> {
        match self.head()? {
            Some(head) => self.load(head.size, &head.root).map(Some),
            None => Ok(None),
        }
    }

    /// The root at an earlier size.
    pub fn root(&self, earlier: u64, size: u64) -> io::Result<Hash> {
        let edge = Edge::read(earlier, &tiles::Tree::new(&self.tiles, size));
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
        let text = self.folder().read(CACHE, SMALL).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let (cached, known) = Known::read(&value).filter(|(cached, _)| *cached <= size)?;
        known(tiles::Tree::new(&self.tiles, cached).growth().ok()?)
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
            let bytes = tiles::read(&self.tiles, &tile).map_err(unreadable)?;
            for (entry, at) in entries(&bytes).skip(first as usize).zip(at..) {
                let wrong = |wrong| damaged(format!("entry {at} {wrong}"));
                known.replay(entry).map_err(wrong)?;
            }
            if number.is_multiple_of(PIECE / WIDTH) {
                known.take();
            }
        }
        // It's in the files already.
        known.take();
        Ok(known)
    }

    /// Writes what was added, and signs it. The lines must be on the disk.
    pub fn commit(&self, known: &mut Known) -> io::Result<()> {
        let appends = known.take();
        for append in &appends {
            self.tiles.append(append)?;
        }
        // The tiles can be made again from it, so they needn't be on the disk now.
        self.recent.append(&self.tiles, known.size(), &appends)?;
        let checkpoint = known.checkpoint(self.origin());
        if let Some(guard) = &self.guard {
            if !self.folder().has(GUARDED)? {
                let name = format!("{}\n", guard.name());
                self.folder().replace(GUARDED, name.as_bytes(), true)?;
                self.folder().sync()?;
            }
            guard.write(&checkpoint).map_err(about("the guard"))?;
        }
        let note = self.signer.sign(&checkpoint.to_string());
        let heads = self.folder().append("heads", note.as_bytes())?;
        heads.sync_data()?;
        let length = heads.length()?;
        if length == note.len() as u64 {
            self.folder().sync()?;
        }
        if length > LONG_HEADS {
            // It stays long otherwise.
            let _ = self.thin(length);
        }
        Ok(())
    }

    /// Whether there are so many tiles that the disk hasn't confirmed that it must before more come.
    pub fn is_to_settle(&self) -> bool {
        self.recent.is_too_long()
    }

    /// Has the disk confirm tiles, for so long, if there is reason to: there is nothing else to do, or
    /// there are very many that it hasn't. Returns whether more may come.
    pub fn settle(&self, known: &Known, idle: bool, time: Duration) -> io::Result<bool> {
        self.recent.settle(&self.tiles, known.size(), idle, time)
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
        for copy in known.copies() {
            self.tiles.copy(&copy, &mut folders)?;
        }
        self.tiles.sync_folders(folders)?;
        let note = self.signer.sign(&checkpoint.to_string());
        self.folder().replace("checkpoint", note.as_bytes(), true)?;
        self.folder().sync()?;
        self.cache(known)?;
        match before {
            Some(before) => self.tiles.tidy(before.size, known.size()),
            None => Ok(()),
        }
    }

    /// Keeps what is known for the next process.
    fn cache(&self, known: &Known) -> io::Result<()> {
        let mut text = Vec::new();
        let mut to = Object::begin(&mut text);
        known.write(&mut to);
        to.end();
        text.push(b'\n');
        self.folder().replace(CACHE, &text, false)
    }

    /// Leaves every second note of the older half out of `heads`: those that are left grow rarer the
    /// older they are.
    fn thin(&self, length: u64) -> io::Result<()> {
        let heads = self.folder().open("heads", How::Read)?;
        // What somebody else has put before it is no note of ours.
        let from = length.saturating_sub(2 * LONG_HEADS);
        let mut bytes = vec![0; usize::try_from(length - from).unwrap_or_default()];
        heads.read_exact_at(&mut bytes, from)?;
        let notes = notes(&bytes);
        let half = notes.len() / 2;
        // The newest that witnesses have signed says most.
        let signature = ["\n", DASH].concat();
        let cosigned = |note: &&str| note.matches(&signature).count() > 1;
        let newest = notes.iter().rposition(cosigned);
        let kept = notes
            .iter()
            .enumerate()
            .filter(|(at, _)| *at >= half || at % 2 == 0 || newest == Some(*at))
            .map(|(_, note)| *note);
        let kept: String = kept.collect();
        self.folder().replace("heads", kept.as_bytes(), true)?;
        self.folder().sync()
    }
}
