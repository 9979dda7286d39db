//! The tiles of the tree, in their files.

use std::collections::BTreeSet;
use std::io;

use super::directory::TREE;
use super::disk::{Folder, How, about, if_there};
use crate::format::tiles::{Append, Copy, Fetch, Tile, TileError};

/// No file of the tree that is read whole is longer.
const LONGEST: u64 = 17 << 20;

/// The directory of the tree.
#[derive(Debug)]
pub struct Tiles {
    folder: Folder,
}

impl Tiles {
    /// Those in a directory.
    pub fn new(folder: Folder) -> Tiles {
        Tiles { folder }
    }

    /// The directory.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Writes what was added to a tile behind what it holds.
    pub fn append(&self, append: &Append) -> io::Result<()> {
        let (folder, name) = self.place(&append.path)?;
        // A tile that was there and is gone isn't replaced by an empty one.
        let how = match append.offset {
            0 => How::Make,
            _ => How::Change,
        };
        let file = match if_there(folder.open(name, how))? {
            Some(file) => file,
            None => return Err(damaged(format!("{} is missing", append.path))),
        };
        let length = file.length()?;
        if length < append.offset {
            return Err(damaged(format!(
                "{} holds less than was sealed",
                append.path
            )));
        }
        let written = file.write_all_at(&append.bytes, append.offset);
        written.map_err(about(&append.path))?;
        let end = append.offset + append.bytes.len() as u64;
        if length > end {
            // A crash left more, which was never signed.
            file.set_len(end).map_err(about(&append.path))?;
        }
        Ok(())
    }

    /// Copies the beginning of a tile to a file of its own. Notes the folders in which there are new
    /// names.
    pub fn copy(&self, copy: &Copy, folders: &mut BTreeSet<String>) -> io::Result<()> {
        let bytes = self.fetch(&copy.from)?;
        let bytes = bytes
            .as_ref()
            .and_then(|bytes| bytes.get(..copy.len as usize))
            .ok_or_else(|| damaged(format!("{} holds less than was sealed", copy.from)))?;
        let (folder, name) = self.place(&copy.to)?;
        folder.replace(name, bytes, true)?;
        note_folders(&copy.to, folders);
        Ok(())
    }

    /// Has the disk confirm a tile. Notes the folders in which its name may be new.
    pub fn sync_tile(&self, tile: &Tile, folders: &mut BTreeSet<String>) -> io::Result<()> {
        let path = tile.full_path();
        let (folder, name) = self.place(&path)?;
        let file = folder.open(name, How::Change)?;
        file.sync_data().map_err(about(&path))?;
        note_folders(&path, folders);
        Ok(())
    }

    /// Has the disk confirm the names in folders.
    pub fn sync_folders(&self, folders: BTreeSet<String>) -> io::Result<()> {
        let access = self.folder.access();
        // The innermost first: a name is of no use before what it leads to is there.
        folders.iter().rev().try_for_each(|path| {
            let mut parts = path.split('/').filter(|part| !part.is_empty());
            let Some(first) = parts.next() else {
                return self.folder.sync();
            };
            let first = self.folder.folder(first, access)?;
            let folder = parts.try_fold(first, |above, part| above.folder(part, access))?;
            folder.sync()
        })
    }

    /// Removes partial tiles that neither the checkpoint of one size nor that of an earlier one needs:
    /// whoever still reads that one finds them.
    pub fn tidy(&self, before: u64, size: u64) -> io::Result<()> {
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
}

impl Fetch for Tiles {
    fn fetch(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        // No folder is made for what is only read.
        if_there(self.folder.read(path, LONGEST))
    }
}

/// Notes the folders above a new file, for the disk to confirm its name.
fn note_folders(path: &str, folders: &mut BTreeSet<String>) {
    folders.insert(String::new());
    let ends = path.match_indices('/').map(|(end, _)| end);
    folders.extend(ends.map(|end| path[..end].to_owned()));
}

/// Whether the tree isn't what was written, whatever is read again: then nothing is sealed.
pub fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Why a tile can't be read, as an error of the log.
pub fn unreadable(error: TileError) -> io::Error {
    match error {
        TileError::Io(path, error) => io::Error::other(format!("{path}: {error}")),
        error => damaged(error),
    }
}

/// The error where the tree isn't what was written.
pub fn damaged(what: impl std::fmt::Display) -> io::Error {
    let message = format!(
        "{TREE} is damaged, and nothing is sealed until it is put right: {what}; verify says more"
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}
