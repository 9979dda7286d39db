//! Where the tree lies in files, after C2SP tlog-tiles v0.1.0, and what an appended entry adds
//! to them. No file is touched here: what is read comes through [`Fetch`], what is to be written
//! comes out as [`Append`]s and [`struct@Copy`]s.
//!
//! - `tile/<level>/<number>` holds up to 256 hashes of 32 bytes: the nodes of height 8 * level
//!   from number * 256 on.
//! - `tile/entries/<number>` holds up to 256 entries, each behind its length (two bytes, big-endian).
//!
//! Both grow in place: the file of a full tile is there from its first hash on, and may be ahead
//! of any checkpoint, but never behind. For readers that look for the partial tiles of the
//! specification (`<number>.p/<width>`), they are copied out of it when a checkpoint is published.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::merkle::{Edge, Hash, Nodes, leaf_hash};

/// Hashes or entries in a full tile.
pub const WIDTH: u64 = 256;

/// The height of a tile, as a part of the tree: 256 is 2^8.
const HEIGHT: u32 = 8;

/// What there are tiles of: entries, and the eight levels that a tree of 2^64 entries has.
pub const KINDS: [Kind; 9] = [
    Kind::Entries,
    Kind::Hashes(0),
    Kind::Hashes(1),
    Kind::Hashes(2),
    Kind::Hashes(3),
    Kind::Hashes(4),
    Kind::Hashes(5),
    Kind::Hashes(6),
    Kind::Hashes(7),
];

/// No entry is longer: its length stands in two bytes.
pub const MAX_ENTRY: usize = u16::MAX as usize;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The entries themselves.
    Entries,
    /// The hashes of a level.
    Hashes(u32),
}

/// One tile, at the width that a tree of some size gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its place among those of its kind.
    pub number: u64,
    /// How many hashes or entries, 1 to 256.
    pub width: u64,
}

impl Tile {
    /// The path of the tile when it is full, which is where it grows.
    pub fn full_path(&self) -> String {
        let mut path = match self.kind {
            Kind::Entries => "tile/entries".to_owned(),
            Kind::Hashes(level) => format!("tile/{level}"),
        };
        // Groups of three digits, all but the last behind an x: 1234067 is x001/x234/067.
        let digits = self.number.to_string();
        let digits = format!(
            "{digits:0>width$}",
            width = digits.len().next_multiple_of(3)
        );
        for at in (0..digits.len()).step_by(3) {
            path.push_str(if at + 3 < digits.len() { "/x" } else { "/" });
            path.push_str(&digits[at..at + 3]);
        }
        path
    }

    /// The path that the specification gives it: that of a full tile, or with its width.
    pub fn path(&self) -> String {
        let mut path = self.full_path();
        if self.width < WIDTH {
            path.push_str(&format!(".p/{}", self.width));
        }
        path
    }

    /// The tiles of one kind that a tree of `size` entries has.
    #[cfg(test)]
    pub fn all(kind: Kind, size: u64) -> impl Iterator<Item = Tile> {
        let count = Tile::count(kind, size);
        (0..count.div_ceil(WIDTH)).map(move |number| Tile {
            kind,
            number,
            width: (count - number * WIDTH).min(WIDTH),
        })
    }

    /// The tiles of one kind that hold entries `from` to `to`, or hashes over them, in a tree of `size`.
    pub fn over(kind: Kind, from: u64, to: u64, size: u64) -> impl Iterator<Item = Tile> {
        let above = match kind {
            Kind::Entries => 0,
            Kind::Hashes(level) => HEIGHT * level,
        };
        let count = Tile::count(kind, size);
        let end = to.div_ceil(1 << above).min(count);
        let numbers = (from >> above) / WIDTH..end.div_ceil(WIDTH);
        numbers.map(move |number| Tile {
            kind,
            number,
            width: (count - number * WIDTH).min(WIDTH),
        })
    }

    /// The tiles at the right edge of a tree of `size` entries that aren't full: what is copied
    /// when its checkpoint is published.
    pub fn partial(size: u64) -> impl Iterator<Item = Tile> {
        KINDS.into_iter().filter_map(move |kind| {
            let count = Tile::count(kind, size);
            let (number, width) = (count / WIDTH, count % WIDTH);
            (width > 0).then_some(Tile {
                kind,
                number,
                width,
            })
        })
    }

    /// How many hashes or entries of a kind there are.
    fn count(kind: Kind, size: u64) -> u64 {
        match kind {
            Kind::Entries => size,
            Kind::Hashes(level) => size.checked_shr(HEIGHT * level).unwrap_or(0),
        }
    }
}

/// The entries in the bytes of a tile of entries, as far as they are whole.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (entry, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        rest = after;
        Some(entry)
    })
}

/// How many bytes the first `count` entries take in a tile of entries; `None` if it hasn't that
/// many.
pub fn entries_len(bytes: &[u8], count: u64) -> Option<usize> {
    let (mut found, mut length) = (0, 0);
    for entry in entries(bytes) {
        if found == count {
            break;
        }
        found += 1;
        length += 2 + entry.len();
    }
    (found == count).then_some(length)
}

/// Bytes that are to be added to a file at an offset, which is where it ends, unless a crash
/// left more behind. Then what is there is the same bytes, or was never signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// What the file holds.
    pub kind: Kind,
    /// Below the directory of the tree.
    pub path: String,
    /// Where the bytes begin.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The beginning of a file that is to be copied to a new file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The full tile's path.
    pub from: String,
    /// The partial tile's path.
    pub to: String,
    /// How many bytes.
    pub len: u64,
}

/// An entry that can't be one: it is longer than [`MAX_ENTRY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// A tree that grows: what it needs to know of itself, and what has to be written for the entries
/// that were added.
#[derive(Debug, Clone, Default)]
pub struct Growth {
    edge: Edge,
    /// Bytes in the last tile of entries, if it isn't full.
    entries_len: u64,
    appends: BTreeMap<(Kind, u64), Append>,
}

impl Growth {
    /// Goes on from a tree: its right edge, and how many bytes its entries take in the last tile
    /// of entries if that isn't full ([`entries_len`]), else 0.
    pub fn new(edge: Edge, entries_len: u64) -> Growth {
        let appends = BTreeMap::new();
        Growth {
            edge,
            entries_len,
            appends,
        }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &[u8]) -> Result<(), TooLong> {
        let length = u16::try_from(entry.len()).map_err(|_| TooLong)?;
        let index = self.edge.size();
        if index.is_multiple_of(WIDTH) {
            self.entries_len = 0;
        }
        let appends = &mut self.appends;
        let mut add = |kind, number, offset, bytes: &[&[u8]]| {
            let append = appends.entry((kind, number)).or_insert_with(|| Append {
                kind,
                path: Tile {
                    kind,
                    number,
                    width: WIDTH,
                }
                .full_path(),
                offset,
                bytes: Vec::new(),
            });
            bytes
                .iter()
                .for_each(|bytes| append.bytes.extend_from_slice(bytes));
        };
        let offset = self.entries_len;
        add(
            Kind::Entries,
            index / WIDTH,
            offset,
            &[&length.to_be_bytes(), entry],
        );
        self.entries_len += 2 + u64::from(length);
        self.edge.append(leaf_hash(entry), |height, index, hash| {
            if height % HEIGHT == 0 {
                let offset = index % WIDTH * 32;
                add(
                    Kind::Hashes(height / HEIGHT),
                    index / WIDTH,
                    offset,
                    &[hash],
                );
            }
        });
        Ok(())
    }

    /// The tree with all that was pushed.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// What has to be written, entries first, each file at most once. Nothing reads any of it
    /// before a checkpoint covers it, so the order among them is free.
    pub fn take(&mut self) -> Vec<Append> {
        std::mem::take(&mut self.appends).into_values().collect()
    }

    /// What has to be copied before the checkpoint of this size is published.
    pub fn copies(&self) -> Vec<Copy> {
        Tile::partial(self.edge.size())
            .map(|tile| Copy {
                from: tile.full_path(),
                to: tile.path(),
                len: match tile.kind {
                    Kind::Entries => self.entries_len,
                    Kind::Hashes(_) => tile.width * 32,
                },
            })
            .collect()
    }
}

/// Where the files of a tree are read from, by their paths below its directory.
pub trait Fetch {
    /// The file's bytes; `None` if there is no such file.
    fn fetch(&self, path: &str) -> std::io::Result<Option<Vec<u8>>>;
}

/// Why a tile can't be read.
#[derive(Debug)]
pub enum TileError {
    /// Neither the full nor the partial one is there.
    Missing(String),
    /// It is there, but ends too early.
    Short(String),
    /// The system won't read it.
    Io(String, std::io::Error),
}

impl fmt::Display for TileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileError::Missing(path) => write!(f, "{path} is missing"),
            TileError::Short(path) => write!(f, "{path} holds less than the checkpoint covers"),
            TileError::Io(path, error) => write!(f, "{path}: {error}"),
        }
    }
}

/// How many bytes of a file belong to a tile; `None` if it is too short.
fn tile_len(tile: &Tile, bytes: &[u8]) -> Option<usize> {
    match tile.kind {
        Kind::Entries => entries_len(bytes, tile.width),
        Kind::Hashes(_) => {
            let length = usize::try_from(tile.width * 32).ok()?;
            (bytes.len() >= length).then_some(length)
        }
    }
}

/// Reads a tile: from the full one's file, which may be ahead of the tree, or, as in a mirror that
/// holds only what was published, from the partial one's. Returns exactly the tile's bytes.
pub fn read(files: &impl Fetch, tile: &Tile) -> Result<Vec<u8>, TileError> {
    let mut paths = vec![tile.full_path()];
    if tile.width < WIDTH {
        paths.push(tile.path());
    }
    for path in paths {
        return match files.fetch(&path) {
            Err(error) => Err(TileError::Io(path, error)),
            Ok(None) => continue,
            Ok(Some(mut bytes)) => match tile_len(tile, &bytes) {
                None => Err(TileError::Short(path)),
                Some(length) => {
                    bytes.truncate(length);
                    // Whatever else was in the file isn't kept.
                    bytes.shrink_to_fit();
                    Ok(bytes)
                }
            },
        };
    }
    Err(TileError::Missing(tile.full_path()))
}

/// A tree in files, at some size: what edges and proofs are read from. Each tile is read once.
pub struct Tree<'f, F> {
    files: &'f F,
    size: u64,
    seen: RefCell<BTreeMap<(Kind, u64), Vec<u8>>>,
}

impl<'f, F: Fetch> Tree<'f, F> {
    /// The tree of the first `size` entries.
    pub fn new(files: &'f F, size: u64) -> Tree<'f, F> {
        let seen = RefCell::default();
        Tree { files, size, seen }
    }

    /// What is needed to go on from here.
    pub fn growth(&self) -> Result<Growth, TileError> {
        let edge = Edge::read(self.size, self)?;
        let partial = Tile::partial(self.size).find(|tile| tile.kind == Kind::Entries);
        let length = match partial {
            Some(tile) => read(self.files, &tile)?.len(),
            None => 0,
        };
        Ok(Growth::new(edge, length as u64))
    }
}

impl<F: Fetch> Nodes for Tree<'_, F> {
    type Error = TileError;

    fn node(&self, height: u32, index: u64) -> Result<Hash, TileError> {
        // The tile that holds the node, or, for one between two levels, the hashes it covers.
        let (level, above) = (height / HEIGHT, height % HEIGHT);
        let kind = Kind::Hashes(level);
        let first = index << above;
        let number = first / WIDTH;
        let width = (Tile::count(kind, self.size) - number * WIDTH).min(WIDTH);
        let tile = Tile {
            kind,
            number,
            width,
        };
        let mut seen = self.seen.borrow_mut();
        let bytes = match seen.entry((kind, number)) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(read(self.files, &tile)?)
            }
        };
        let at = (first % WIDTH) as usize;
        let mut edge = Edge::default();
        let (hashes, _) = bytes.as_chunks::<32>();
        for hash in hashes.iter().skip(at).take(1 << above) {
            edge.append(*hash, |_, _, _| {});
        }
        Ok(edge.root())
    }
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{check_consistency, check_inclusion};
    use super::super::merkle::{prove_consistency, prove_inclusion};
    use super::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Memory(HashMap<String, Vec<u8>>);

    impl Memory {
        fn write(&mut self, growth: &mut Growth) {
            for Append {
                path,
                offset,
                bytes,
                ..
            } in growth.take()
            {
                let file = self.0.entry(path).or_default();
                assert_eq!(file.len() as u64, offset);
                file.extend_from_slice(&bytes);
            }
        }
    }

    impl Fetch for Memory {
        fn fetch(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
            Ok(self.0.get(path).cloned())
        }
    }

    fn entry(index: u64) -> Vec<u8> {
        vec![index as u8; (index % 40) as usize]
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |kind, number, width| {
            Tile {
                kind,
                number,
                width,
            }
            .path()
        };
        assert_eq!(path(Kind::Hashes(0), 0, 256), "tile/0/000");
        assert_eq!(path(Kind::Hashes(2), 999, 3), "tile/2/999.p/3");
        assert_eq!(
            path(Kind::Entries, 1000, 255),
            "tile/entries/x001/000.p/255"
        );
        assert_eq!(
            path(Kind::Hashes(0), 1_234_067, 256),
            "tile/0/x001/x234/067"
        );
        assert_eq!(path(Kind::Hashes(7), 0, 1), "tile/7/000.p/1");
    }

    /// The example of the specification, section "Merkle Tree": a tree of 70,000.
    #[test]
    fn a_tree_of_70000_has_the_tiles_of_the_specification() {
        let level = |level| Tile::all(Kind::Hashes(level), 70_000).collect::<Vec<_>>();
        assert_eq!(level(0).len(), 274);
        assert_eq!(level(0)[273].path(), "tile/0/273.p/112");
        assert_eq!(level(1).len(), 2);
        assert_eq!(level(1)[1].path(), "tile/1/001.p/17");
        assert_eq!(level(2)[0].path(), "tile/2/000.p/1");
        assert_eq!(level(3).len(), 0);
        let partial: Vec<_> = Tile::partial(70_000).map(|tile| tile.path()).collect();
        assert_eq!(
            partial,
            [
                "tile/entries/273.p/112",
                "tile/0/273.p/112",
                "tile/1/001.p/17",
                "tile/2/000.p/1"
            ]
        );
        assert_eq!(Tile::partial(65_536).count(), 1);
        assert_eq!(Tile::partial(0).count(), 0);
    }

    #[test]
    fn entries_read_back_and_a_torn_one_is_left_out() {
        let mut growth = Growth::default();
        for index in 0..200 {
            growth.push(&entry(index)).unwrap();
        }
        let bytes = growth.take().remove(0).bytes;
        assert!(entries(&bytes).eq((0..200).map(entry)));
        assert_eq!(entries_len(&bytes, 200), Some(bytes.len()));
        assert_eq!(entries_len(&bytes, 201), None);
        assert_eq!(entries_len(&bytes[..bytes.len() - 1], 200), None);
        assert_eq!(entries(&bytes[..bytes.len() - 1]).count(), 199);
        assert_eq!(growth.push(&vec![0; MAX_ENTRY + 1]), Err(TooLong));
        assert_eq!(growth.push(&vec![0; MAX_ENTRY]), Ok(()));
    }

    #[test]
    fn growing_in_steps_writes_what_growing_at_once_does() {
        let mut once = Growth::default();
        let mut whole = Memory::default();
        for index in 0..2000 {
            once.push(&entry(index)).unwrap();
        }
        whole.write(&mut once);

        let mut steps = Memory::default();
        let mut growth = Growth::default();
        let mut index = 0;
        for step in (1..).take_while(|step| step * (step + 1) / 2 < 2000) {
            for _ in 0..step {
                growth.push(&entry(index)).unwrap();
                index += 1;
            }
            steps.write(&mut growth);
            // What the files say is what a growth that goes on from them needs.
            let read = Tree::new(&steps, index).growth().unwrap();
            assert_eq!(read.edge(), growth.edge());
            assert_eq!(read.copies(), growth.copies());
            growth = read;
        }
        while index < 2000 {
            growth.push(&entry(index)).unwrap();
            index += 1;
        }
        steps.write(&mut growth);
        assert_eq!(steps.0, whole.0);
    }

    #[test]
    fn proofs_come_from_files_ahead_of_the_tree_and_from_partial_copies() {
        let mut files = Memory::default();
        let mut growth = Growth::default();
        let mut roots = vec![growth.edge().root()];
        for index in 0..66_000 {
            growth.push(&entry(index)).unwrap();
            roots.push(growth.edge().root());
        }
        files.write(&mut growth);
        let mut mirror = Memory::default();
        for Copy { from, to, len } in growth.copies() {
            mirror.0.insert(to, files.0[&from][..len as usize].to_vec());
        }
        for (path, bytes) in &files.0 {
            if !growth.copies().iter().any(|copy| copy.from == *path) {
                mirror.0.insert(path.clone(), bytes.clone());
            }
        }
        for (files, size) in [
            (&files, 65_537),
            (&files, 700),
            (&files, 66_000),
            (&mirror, 66_000),
        ] {
            let tree = Tree::new(files, size);
            let root = &roots[size as usize];
            assert_eq!(Edge::read(size, &tree).unwrap().root(), *root);
            for index in (0..size).step_by(997).chain([size - 1]) {
                let proof = prove_inclusion(index, size, &tree).unwrap().unwrap();
                let leaf = leaf_hash(&entry(index));
                assert!(check_inclusion(&proof, index, &leaf, size, root));
                let old = &roots[index as usize];
                let proof = prove_consistency(index, size, &tree).unwrap().unwrap();
                assert!(check_consistency(&proof, index, old, size, root));
            }
        }
        files.0.remove("tile/0/001");
        assert!(Tree::new(&files, 700).growth().is_ok());
        let proof = prove_inclusion(300, 700, &Tree::new(&files, 700));
        assert!(matches!(proof, Err(TileError::Missing(path)) if path == "tile/0/001"));
    }
}
