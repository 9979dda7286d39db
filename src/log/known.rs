//! What is known of the tree: how it grows on, and what its records say of the files.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::format::checkpoint::{Checkpoint, format_hash, parse_hash};
use crate::format::merkle::Hash;
use crate::format::name::DayName;
use crate::format::record::{Entry, Record, RecordBody};
use crate::format::tiles::{Append, Copy, Growth};
use crate::json::Object;

/// How it grows on, up to where each file is sealed, and which files were removed.
#[derive(Debug, Clone, Default)]
pub struct Known {
    growth: Growth,
    sealed: BTreeMap<DayName, u64>,
    pruned: BTreeSet<DayName>,
    holds: BTreeMap<u64, Hold>,
    /// By witnesses, which are few.
    disputes: Vec<(String, u64)>,
}

/// Days of which no file is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The first of them.
    pub from: [u8; 10],
    /// The last of them.
    pub to: [u8; 10],
    /// Whether it's over.
    pub released: bool,
}

impl Hold {
    /// Whether it keeps a day.
    pub fn keeps(&self, date: &[u8; 10]) -> bool {
        !self.released && (self.from..=self.to).contains(date)
    }
}

impl Known {
    /// How many entries it has.
    pub fn size(&self) -> u64 {
        self.growth.edge().size()
    }

    /// What is signed of it.
    pub fn checkpoint(&self, origin: &str) -> Checkpoint {
        Checkpoint {
            origin: origin.to_owned(),
            size: self.size(),
            root: self.growth.edge().root(),
        }
    }

    /// Whether it's the tree of this size and root.
    pub fn is_at(&self, size: u64, root: &Hash) -> bool {
        self.size() == size && self.growth.edge().root() == *root
    }

    /// Up to where a file is sealed.
    pub fn sealed(&self, day: &DayName) -> u64 {
        self.sealed.get(day).copied().unwrap_or_default()
    }

    /// The files that were removed as their time was over. None of them comes back.
    pub fn pruned(&self) -> &BTreeSet<DayName> {
        &self.pruned
    }

    /// The holds that there ever were, by the indexes of their entries.
    pub fn holds(&self) -> &BTreeMap<u64, Hold> {
        &self.holds
    }

    /// At which size a witness, by its key, had seen the log when that was recorded last.
    pub fn disputed_at(&self, witness: &str) -> Option<u64> {
        let mut disputes = self.disputes.iter();
        disputes
            .find(|(by, _)| by == witness)
            .map(|(_, size)| *size)
    }

    /// Adds a record.
    pub fn record(&mut self, now: &Timestamp, body: RecordBody) {
        self.follow(&body);
        let ts = now.to_string();
        // No record is too long: what it names is.
        let _ = self.growth.push(&Record { ts, body }.encode());
    }

    /// Adds the digest of a line that a `seg` announced.
    pub fn digest(&mut self, digest: &Hash) {
        // It has 32 bytes.
        let _ = self.growth.push(digest);
    }

    fn follow(&mut self, body: &RecordBody) {
        let file = |file: &str| DayName::parse(file);
        match body {
            RecordBody::Seg { range, .. } => {
                if let Some(day) = file(&range.file) {
                    self.sealed.insert(day, range.off + range.len);
                }
            }
            RecordBody::Gap(range) => {
                if let Some(day) = file(&range.file) {
                    self.sealed.insert(day, range.off);
                }
            }
            RecordBody::Prune { file: name } => {
                if let Some(day) = file(name) {
                    self.sealed.remove(&day);
                    self.pruned.insert(day);
                }
            }
            RecordBody::Hold { from, to, .. } => {
                if let (Ok(from), Ok(to)) = (from.as_bytes().try_into(), to.as_bytes().try_into()) {
                    let released = false;
                    let hold = Hold { from, to, released };
                    self.holds.insert(self.size(), hold);
                }
            }
            RecordBody::Release { hold, .. } => {
                if let Some(hold) = self.holds.get_mut(hold) {
                    hold.released = true;
                }
            }
            RecordBody::Dispute { witness, size, .. } => {
                self.disputes.retain(|(by, _)| by != witness);
                self.disputes.push((witness.clone(), *size));
            }
            _ => {}
        }
    }

    /// Adds an entry that the tree's files hold.
    pub fn replay(&mut self, entry: &[u8]) -> Result<(), String> {
        if let Entry::Record(record) = Entry::parse(entry)? {
            self.follow(&record.body);
        }
        self.growth
            .push(entry)
            .map_err(|_| "is too long".to_owned())
    }

    /// What has to be written for what was added.
    pub fn take(&mut self) -> Vec<Append> {
        self.growth.take()
    }

    /// What has to be copied before a checkpoint of this size is published.
    pub fn copies(&self) -> Vec<Copy> {
        self.growth.copies()
    }

    /// The same for the next process, as JSON.
    pub fn write(&self, to: &mut Object<'_>) {
        to.json("size", self.size());
        to.text("root", &format_hash(&self.growth.edge().root()));
        to.list("files", &self.sealed, |(day, sealed), out| {
            let mut file = Object::begin(out);
            file.text("file", &day.file_name());
            file.json("sealed", sealed);
            file.end();
        });
        let pruned: Vec<String> = self.pruned.iter().map(|day| day.file_name()).collect();
        to.texts("pruned", &pruned);
        to.list("holds", &self.holds, |(index, hold), out| {
            let mut to = Object::begin(out);
            to.json("hold", index);
            to.text("from", &String::from_utf8_lossy(&hold.from));
            to.text("to", &String::from_utf8_lossy(&hold.to));
            to.json("released", hold.released);
            to.end();
        });
        to.list("disputes", &self.disputes, |(witness, size), out| {
            let mut to = Object::begin(out);
            to.text("witness", witness);
            to.json("size", size);
            to.end();
        });
    }

    /// What another process has written so: its size, and what to make of it if the tree's files grow
    /// on from there and give its root.
    pub fn read(from: &serde_json::Value) -> Option<(u64, impl FnOnce(Growth) -> Option<Known>)> {
        let size = from["size"].as_u64()?;
        let root = parse_hash(from["root"].as_str()?)?;
        let sealed = from["files"].as_array()?.iter().map(|file| {
            let day = DayName::parse(file["file"].as_str()?)?;
            Some((day, file["sealed"].as_u64()?))
        });
        let sealed = sealed.collect::<Option<_>>()?;
        let pruned = from["pruned"].as_array()?.iter();
        let pruned = pruned.map(|day| DayName::parse(day.as_str()?));
        let pruned = pruned.collect::<Option<_>>()?;
        // What a version wrote that knows no holds, or no disputes, isn't taken: the tree may have some.
        let holds = from["holds"].as_array()?.iter().map(|hold| {
            let date = |key: &str| hold[key].as_str()?.as_bytes().try_into().ok();
            let kept = Hold {
                from: date("from")?,
                to: date("to")?,
                released: hold["released"].as_bool()?,
            };
            Some((hold["hold"].as_u64()?, kept))
        });
        let holds = holds.collect::<Option<_>>()?;
        let disputes = from["disputes"].as_array()?.iter().map(|dispute| {
            let witness = dispute["witness"].as_str()?;
            Some((witness.to_owned(), dispute["size"].as_u64()?))
        });
        let disputes = disputes.collect::<Option<_>>()?;
        Some((size, move |growth: Growth| {
            (growth.edge().root() == root).then_some(Known {
                growth,
                sealed,
                pruned,
                holds,
                disputes,
            })
        }))
    }
}
