//! A machine with one disk, in memory: several processes at once, any of which can be killed at any
//! operation, within a write too; a disk that refuses, and forgets what it wasn't made to sync, in
//! whatever order and piece by piece.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Access, How, Stat};
use crate::sys;

/// Pieces of a write that the disk takes or loses as a whole.
const SECTOR: u64 = 512;

/// Pieces of a write that a process which is killed has written as a whole.
const PAGE: u64 = 4096;

/// The directory beside the log's.
const ELSEWHERE: usize = 1;

/// A machine. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Machine(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    /// Of each process, whether it lives.
    alive: Vec<bool>,
    handles: u64,
    boot: u64,
    random: Random,
    faults: Faults,
    /// How often a file was synced.
    syncs: u64,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// After so many more operations the process that does the next one is killed within it.
    pub kill_in: Option<u64>,
    /// Nothing more fits on the disk.
    pub full: bool,
    /// Syncs wait until it ends.
    pub hangs: bool,
    /// How long syncing a file takes.
    pub sync_takes: Duration,
    /// Syncs are refused, and what they were for is lost to them for ever.
    pub refuses_syncs: bool,
}

/// Numbers that a seed determines (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Those of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound.max(1)
    }

    /// Happens once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[derive(Debug, Clone)]
enum Node {
    File {
        /// What is read.
        bytes: Vec<u8>,
        /// What is on the disk.
        disk: Vec<u8>,
        /// What was written since.
        pending: Vec<Change>,
        mode: u32,
        links: u64,
        /// The process and the handle that have its lock.
        locked: Option<(usize, u64)>,
        /// How often the disk refused to take what was written.
        refusals: u64,
    },
    Folder {
        names: BTreeMap<String, usize>,
        disk: BTreeMap<String, usize>,
        pending: Vec<Naming>,
        mode: u32,
    },
}

/// A copy of a machine's disk.
#[derive(Debug, Clone)]
pub struct Copy(Vec<Node>);

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Clone)]
enum Naming {
    Add(String, usize),
    Remove(String),
    Rename(String, String),
}

fn apply(change: &Change, bytes: &mut Vec<u8>) {
    match change {
        Change::Write(at, written) => {
            let (at, end) = (*at as usize, *at as usize + written.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[at..end].copy_from_slice(written);
        }
        Change::Length(length) => bytes.resize(*length as usize, 0),
    }
}

fn name(naming: &Naming, names: &mut BTreeMap<String, usize>) {
    match naming {
        Naming::Add(name, node) => drop(names.insert(name.clone(), *node)),
        Naming::Remove(name) => drop(names.remove(name)),
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

impl Machine {
    /// A machine whose disk is empty. What chance decides on it follows from the seed.
    pub fn new(seed: u64) -> Machine {
        Machine(Arc::new(Mutex::new(State {
            nodes: vec![folder(0o700), folder(0o700)],
            alive: Vec::new(),
            handles: 0,
            boot: 0,
            random: Random::new(seed ^ 0x00d1_5c0f),
            faults: Faults::default(),
            syncs: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The root of its disk, as a new process sees it, and the process's number.
    pub fn process(&self) -> (super::Folder, usize) {
        let mut state = self.state();
        state.alive.push(true);
        let process = state.alive.len() - 1;
        let root = Folder {
            machine: self.clone(),
            process,
            node: 0,
        };
        (super::Folder::simulated(root, Access::Owner), process)
    }

    /// Whether a process lives.
    pub fn is_alive(&self, process: usize) -> bool {
        self.state().alive[process]
    }

    /// Kills a process. Its locks go with it.
    pub fn kill(&self, process: usize) {
        self.state().kill(process);
    }

    /// Has things go wrong, or right again.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// What goes wrong.
    pub fn faults(&self) -> Faults {
        self.state().faults
    }

    /// How often a file was synced.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Takes the power away: all processes die, and of what wasn't synced the disk has some pieces.
    pub fn cut_power(&self) {
        let mut state = self.state();
        let State {
            nodes,
            alive,
            random,
            boot,
            ..
        } = &mut *state;
        alive.fill(false);
        *boot += 1;
        for node in nodes.iter_mut() {
            match node {
                Node::File {
                    bytes,
                    disk,
                    pending,
                    locked,
                    ..
                } => {
                    for change in pending.drain(..) {
                        match change {
                            Change::Write(at, written) => {
                                for piece in pieces(at, &written) {
                                    if random.one_in(2) {
                                        apply(&piece, disk);
                                    }
                                }
                            }
                            length if random.one_in(2) => apply(&length, disk),
                            Change::Length(_) => {}
                        }
                    }
                    bytes.clone_from(disk);
                    *locked = None;
                }
                Node::Folder {
                    names,
                    disk,
                    pending,
                    ..
                } => {
                    let kept = random.below(pending.len() as u64 + 1) as usize;
                    pending
                        .drain(..)
                        .take(kept)
                        .for_each(|naming| name(&naming, disk));
                    names.clone_from(disk);
                }
            }
        }
        let mut counts = vec![0; nodes.len()];
        for node in nodes.iter() {
            if let Node::Folder { names, .. } = node {
                names.values().for_each(|named| counts[*named] += 1);
            }
        }
        for (node, count) in nodes.iter_mut().zip(counts) {
            if let Node::File { links, .. } = node {
                *links = count;
            }
        }
    }

    /// Boots it anew, after the disk has got all.
    pub fn reboot(&self) {
        let mut state = self.state();
        state.alive.fill(false);
        state.boot += 1;
        for node in &mut state.nodes {
            if let Node::File {
                bytes,
                disk,
                pending,
                locked,
                ..
            } = node
            {
                pending.clear();
                disk.clone_from(bytes);
                *locked = None;
            }
        }
    }

    /// A copy of the disk as it is read now.
    pub fn copy(&self) -> Copy {
        let mut nodes = self.state().nodes.clone();
        for node in &mut nodes {
            match node {
                Node::File {
                    bytes,
                    disk,
                    pending,
                    locked,
                    ..
                } => {
                    pending.clear();
                    disk.clone_from(bytes);
                    *locked = None;
                }
                Node::Folder {
                    names,
                    disk,
                    pending,
                    ..
                } => {
                    pending.clear();
                    disk.clone_from(names);
                }
            }
        }
        Copy(nodes)
    }

    /// Puts a copy in the disk's place. No process may be left, nor a handle of one.
    pub fn put_back(&self, copy: &Copy) {
        let mut state = self.state();
        state.alive.fill(false);
        state.nodes.clone_from(&copy.0);
    }

    /// All that is on the disk now, by the paths of the files.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let mut found = BTreeMap::new();
        let mut left = vec![(String::new(), 0)];
        while let Some((path, node)) = left.pop() {
            match &state.nodes[node] {
                Node::File { bytes, .. } => drop(found.insert(path, bytes.clone())),
                Node::Folder { names, .. } => {
                    let slash = if path.is_empty() { "" } else { "/" };
                    left.extend(
                        names
                            .iter()
                            .map(|(name, node)| (format!("{path}{slash}{name}"), *node)),
                    );
                }
            }
        }
        found
    }
}

/// A write in the pieces that the disk takes as a whole.
fn pieces(at: u64, written: &[u8]) -> Vec<Change> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (at, written);
    while !rest.is_empty() {
        let room = (SECTOR - at % SECTOR) as usize;
        let (piece, behind) = rest.split_at(room.min(rest.len()));
        pieces.push(Change::Write(at, piece.to_vec()));
        at += piece.len() as u64;
        rest = behind;
    }
    pieces
}

fn folder(mode: u32) -> Node {
    Node::Folder {
        names: BTreeMap::new(),
        disk: BTreeMap::new(),
        pending: Vec::new(),
        mode,
    }
}

/// What a process that was killed gets for an answer, which nobody reads any more.
fn killed() -> io::Error {
    io::Error::other("killed")
}

impl State {
    fn kill(&mut self, process: usize) {
        self.alive[process] = false;
        self.faults.kill_in = None;
    }

    /// One operation of a process. `Ok(true)` if it is killed within it.
    fn step(&mut self, process: usize) -> io::Result<bool> {
        if !self.alive[process] {
            return Err(killed());
        }
        if let Some(left) = &mut self.faults.kill_in {
            if *left == 0 {
                self.kill(process);
                return Ok(true);
            }
            *left -= 1;
        }
        Ok(false)
    }

    /// One that is done whole or not at all.
    fn whole_step(&mut self, process: usize) -> io::Result<()> {
        match self.step(process)? {
            // Before it or behind it is the same to whoever comes later.
            true => Err(killed()),
            false => Ok(()),
        }
    }

    fn names(&mut self, node: usize) -> io::Result<&mut BTreeMap<String, usize>> {
        match &mut self.nodes[node] {
            Node::Folder { names, .. } => Ok(names),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&mut self, folder: usize, name: &str) -> io::Result<usize> {
        let found = self.names(folder)?.get(name);
        found.copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn change_names(&mut self, folder: usize, naming: Naming) {
        if let Node::Folder { names, pending, .. } = &mut self.nodes[folder] {
            name(&naming, names);
            pending.push(naming);
        }
    }

    /// Counts a further name, or one less.
    fn count_link(&mut self, node: usize, further: bool) {
        if let Node::File { links, .. } = &mut self.nodes[node] {
            *links = if further { *links + 1 } else { *links - 1 };
        }
    }

    /// Writes to a file, as far as there is room and the process lives. Returns how much.
    fn write(
        &mut self,
        process: usize,
        node: usize,
        at: Option<u64>,
        new: &[u8],
    ) -> io::Result<(u64, usize)> {
        let dies = self.step(process)?;
        let (full, length) = (self.faults.full, self.length(node));
        let at = at.unwrap_or(length);
        let mut count = new.len() as u64;
        if dies {
            // A write is cut off between two pages.
            let cut = (at + self.random.below(count + 1)) / PAGE * PAGE;
            count = cut.saturating_sub(at);
        }
        if full {
            // What is there already can be written over; behind it, a piece may fit.
            let inside = length.saturating_sub(at).min(count);
            count = inside + self.random.below(2) * self.random.below(count - inside + 1);
            if count == 0 && !new.is_empty() && !dies {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let change = Change::Write(at, new[..count as usize].to_vec());
        if let Node::File { bytes, pending, .. } = &mut self.nodes[node] {
            apply(&change, bytes);
            pending.push(change);
        }
        match dies {
            true => Err(killed()),
            false => Ok((at, count as usize)),
        }
    }

    fn length(&self, node: usize) -> u64 {
        match &self.nodes[node] {
            Node::File { bytes, .. } => bytes.len() as u64,
            Node::Folder { .. } => 0,
        }
    }
}

/// An open file of a process.
#[derive(Debug)]
pub struct File {
    machine: Machine,
    process: usize,
    node: usize,
    handle: u64,
    position: AtomicU64,
    /// Refusals that it was told of: each handle that was open is, once.
    told: AtomicU64,
}

impl File {
    pub fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.machine.state();
        if !state.alive[self.process] {
            return Err(killed());
        }
        let Node::File { bytes, .. } = &state.nodes[self.node] else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let rest = bytes.get(at as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    pub fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut state = self.machine.state();
        let written = state.write(self.process, self.node, Some(at), bytes);
        written.map(|(_, count)| count)
    }

    pub fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.machine.state();
        let (at, count) = state.write(self.process, self.node, None, bytes)?;
        self.position.store(at + count as u64, Ordering::SeqCst);
        Ok(count)
    }

    pub fn position(&self) -> io::Result<u64> {
        Ok(self.position.load(Ordering::SeqCst))
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        if let Node::File { bytes, pending, .. } = &mut state.nodes[self.node] {
            apply(&Change::Length(length), bytes);
            pending.push(Change::Length(length));
        }
        Ok(())
    }

    pub fn sync_data(&self) -> io::Result<()> {
        while self.machine.faults().hangs {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(self.machine.faults().sync_takes);
        let mut state = self.machine.state();
        state.syncs += 1;
        state.whole_step(self.process)?;
        let refuses = state.faults.refuses_syncs;
        let Node::File {
            disk,
            pending,
            refusals,
            ..
        } = &mut state.nodes[self.node]
        else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let pending = std::mem::take(pending);
        if refuses && !pending.is_empty() {
            // The kernel forgets that it has anything to write: the next sync succeeds.
            *refusals += 1;
        } else {
            pending.iter().for_each(|change| apply(change, disk));
        }
        let refusals = *refusals;
        if self.told.swap(refusals, Ordering::SeqCst) == refusals {
            return Ok(());
        }
        // Killed before it can tell, nobody else might ever know; FORMAT.md says so.
        let kill_in = &mut state.faults.kill_in;
        *kill_in = kill_in.map(|left| left.max(8));
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    pub fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    pub fn stat(&self) -> io::Result<Stat> {
        let state = self.machine.state();
        if !state.alive[self.process] {
            return Err(killed());
        }
        Ok(stat(&state, self.node))
    }

    pub fn own(&self, _group: Option<u32>, new: u32) -> io::Result<()> {
        if let Node::File { mode, .. } = &mut self.machine.state().nodes[self.node] {
            *mode = new;
        }
        Ok(())
    }

    pub fn write_in_place(&self) -> io::Result<()> {
        Ok(())
    }

    pub fn shares_blocks(&self) -> io::Result<bool> {
        Ok(false)
    }

    pub fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        let State { nodes, alive, .. } = &mut *state;
        let Node::File { locked, .. } = &mut nodes[self.node] else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        match locked {
            Some((process, handle)) if *handle != self.handle && alive[*process] => Ok(false),
            locked => {
                *locked = Some((self.process, self.handle));
                Ok(true)
            }
        }
    }

    pub fn unlock(&self) {
        // Where a copy was put back there may be nothing of that number.
        if let Some(Node::File { locked, .. }) = self.machine.state().nodes.get_mut(self.node) {
            locked.take_if(|(_, handle)| *handle == self.handle);
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.unlock();
    }
}

fn stat(state: &State, node: usize) -> Stat {
    let (is_file, links, mode) = match &state.nodes[node] {
        Node::File { links, mode, .. } => (true, *links, *mode),
        Node::Folder { mode, .. } => (false, 1, *mode),
    };
    Stat {
        identity: (1, node as u64),
        length: state.length(node),
        is_file,
        links,
        mode,
        owner: sys::user(),
        group: 0,
        modified: Some(SystemTime::now()),
    }
}

/// A directory that a process has open.
#[derive(Debug)]
pub struct Folder {
    machine: Machine,
    process: usize,
    node: usize,
}

impl Folder {
    fn at(&self, node: usize) -> Folder {
        Folder {
            machine: self.machine.clone(),
            process: self.process,
            node,
        }
    }

    /// There is one other directory, whatever its path.
    pub fn elsewhere(&self, _path: &Path) -> io::Result<Folder> {
        Ok(self.at(ELSEWHERE))
    }

    pub fn open(&self, path: &str, how: How, mode: u32) -> io::Result<File> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        // What is only read is opened by its path.
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = self.node;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            folder = state.find(folder, part)?;
        }
        let there = super::if_there(state.find(folder, name))?;
        let makes = match how {
            How::Read | How::Change => false,
            How::Make | How::Append { new: false } => true,
            How::New | How::Append { new: true } if there.is_some() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            How::New | How::Append { new: true } => true,
        };
        let node = match there {
            Some(node) => node,
            None if !makes => return Err(io::ErrorKind::NotFound.into()),
            None if state.faults.full && state.random.one_in(2) => {
                return Err(io::ErrorKind::StorageFull.into());
            }
            None => {
                state.nodes.push(Node::File {
                    bytes: Vec::new(),
                    disk: Vec::new(),
                    pending: Vec::new(),
                    mode,
                    links: 1,
                    locked: None,
                    refusals: 0,
                });
                let node = state.nodes.len() - 1;
                state.change_names(folder, Naming::Add(name.to_owned(), node));
                node
            }
        };
        state.handles += 1;
        let told = match &state.nodes[node] {
            Node::File { refusals, .. } => *refusals,
            Node::Folder { .. } => 0,
        };
        Ok(File {
            machine: self.machine.clone(),
            process: self.process,
            node,
            handle: state.handles,
            position: AtomicU64::new(0),
            told: AtomicU64::new(told),
        })
    }

    pub fn folder(&self, name: &str) -> io::Result<Folder> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        let node = state.find(self.node, name)?;
        Ok(self.at(node))
    }

    pub fn make_folder(&self, name: &str, mode: u32) -> io::Result<()> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        if state.find(self.node, name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.nodes.push(folder(mode));
        let node = state.nodes.len() - 1;
        state.change_names(self.node, Naming::Add(name.to_owned(), node));
        Ok(())
    }

    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        let node = state.find(self.node, name)?;
        if !state.names(node)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change_names(self.node, Naming::Remove(name.to_owned()));
        Ok(())
    }

    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        state.find(self.node, from)?;
        if let Ok(replaced) = state.find(self.node, to) {
            state.count_link(replaced, false);
        }
        let naming = Naming::Rename(from.to_owned(), to.to_owned());
        state.change_names(self.node, naming);
        Ok(())
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        let node = state.find(self.node, name)?;
        state.count_link(node, false);
        state.change_names(self.node, Naming::Remove(name.to_owned()));
        Ok(())
    }

    pub fn link(&self, name: &str, to: &Folder, further: &str) -> io::Result<()> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        let node = state.find(self.node, name)?;
        if state.find(to.node, further).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.count_link(node, true);
        state.change_names(to.node, Naming::Add(further.to_owned(), node));
        Ok(())
    }

    pub fn identity_of(&self, name: &str) -> io::Result<(u64, u64)> {
        let mut state = self.machine.state();
        if !state.alive[self.process] {
            return Err(killed());
        }
        let node = state.find(self.node, name)?;
        Ok((1, node as u64))
    }

    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        Ok(state.names(self.node)?.keys().cloned().collect())
    }

    pub fn sync(&self) -> io::Result<()> {
        let mut state = self.machine.state();
        state.whole_step(self.process)?;
        let refuses = state.faults.refuses_syncs;
        if let Node::Folder { disk, pending, .. } = &mut state.nodes[self.node] {
            if refuses && !pending.is_empty() {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let pending = std::mem::take(pending);
            pending.iter().for_each(|naming| name(naming, disk));
        }
        Ok(())
    }

    pub fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&self.machine.state(), self.node))
    }

    pub fn own(&self, _group: Option<u32>, new: u32) -> io::Result<()> {
        if let Node::Folder { mode, .. } = &mut self.machine.state().nodes[self.node] {
            *mode = new;
        }
        Ok(())
    }

    pub fn boot(&self) -> Option<String> {
        Some(self.machine.state().boot.to_string())
    }

    pub fn pause(&self, _time: Duration) {}

    pub fn file_system_type(&self) -> io::Result<u64> {
        Ok(0)
    }
}
