//! A small log for the tests, written through [`Growth`] as a sealer would, without its care for
//! crashes.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::source::memory::{InMemory, Node};
use crate::format::checkpoint::Checkpoint;
use crate::format::note::Signer;
use crate::format::record::{Range, Record, RecordBody};
use crate::format::tiles::{Append, Copy, Growth};

/// The day most tests write to.
pub const DAY: &str = "audit_2026-11-23.jsonl";
/// The day after.
pub const NEXT: &str = "audit_2026-11-24.jsonl";

/// A log in a directory of its own, and a guard beside it.
pub struct TestLog {
    root: PathBuf,
    keep: bool,
    signer: Signer,
    growth: Growth,
    /// Up to where each file is sealed, and how long it is.
    files: BTreeMap<String, (u64, Vec<u8>)>,
    count: u64,
}

impl TestLog {
    /// A log that is removed with the value.
    pub fn new() -> TestLog {
        let root =
            std::env::temp_dir().join(format!("audit_logger-integrity-{}", uuid::Uuid::new_v4()));
        let mut log = TestLog::at(&root);
        log.keep = false;
        log
    }

    /// A log below `root`, which stays.
    pub fn at(root: &Path) -> TestLog {
        fs::create_dir_all(root.join("log/.integrity")).unwrap();
        let signer = Signer::from_seed("audit.example/test-4f1c", &[7; 32]).unwrap();
        let vkey = format!("{}\n", signer.verifier());
        fs::write(root.join("log/.integrity/vkey"), vkey).unwrap();
        let mut log = TestLog {
            root: root.to_owned(),
            keep: true,
            signer,
            growth: Growth::default(),
            files: BTreeMap::new(),
            count: 0,
        };
        log.record(RecordBody::Settings {
            version: 1,
            origin: "audit.example/test-4f1c".to_owned(),
            hash_key_id: None,
        });
        log
    }

    /// The log's directory.
    pub fn path(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The guard file.
    pub fn guard(&self) -> PathBuf {
        self.root.join("guard")
    }

    /// The public key.
    pub fn vkey(&self) -> String {
        self.signer.verifier().to_string()
    }

    /// A file of the log, or of its tree.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Appends to a file, as it is.
    pub fn append(&mut self, file: &str, bytes: &[u8]) {
        let path = self.file(file);
        let mut opened = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        opened.write_all(bytes).unwrap();
        let known = self.files.entry(file.to_owned()).or_default();
        known.1.extend_from_slice(bytes);
    }

    /// Appends that many entries, and returns the id of the last.
    pub fn entries(&mut self, file: &str, count: u64) -> String {
        let mut bytes = Vec::new();
        let mut id = String::new();
        for _ in 0..count {
            self.count += 1;
            id = format!("00000000-0000-4000-8000-{:012}", self.count);
            let padding = "x".repeat((self.count % 7 * 40) as usize);
            let line = format!(
                r#"{{"id":"{id}","timestamp":"2026-11-23T15:51:00.123456Z","prompt_tokens":{},"metadata":{{"k":"{padding}"}}}}"#,
                self.count
            );
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        self.append(file, &bytes);
        id
    }

    /// Adds a record.
    pub fn record(&mut self, body: RecordBody) {
        let ts = "2026-11-23T15:51:00.123456Z".to_owned();
        self.growth.push(&Record { ts, body }.encode()).unwrap();
    }

    /// Forgets what it knows of a file, as after its removal.
    pub fn forget(&mut self, file: &str, sealed: u64) {
        let known = self.files.get_mut(file).unwrap();
        known.0 = sealed;
        known.1.truncate(sealed as usize);
    }

    /// Adds what isn't sealed of a file, up to its last line feed.
    pub fn seg(&mut self, file: &str) {
        self.sealed_as(file, None);
    }

    fn sealed_as(&mut self, file: &str, said: Option<u64>) {
        use sha2::Digest as _;
        let (sealed, bytes) = self.files[file].clone();
        let new = &bytes[sealed as usize..];
        let len = new
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end as u64 + 1);
        let lines: Vec<_> = new[..len as usize]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.iter().all(|byte| *byte == b' '))
            .collect();
        let range = Range {
            file: file.to_owned(),
            off: sealed,
            len,
        };
        self.record(RecordBody::Seg {
            range,
            lines: said.unwrap_or(lines.len() as u64),
        });
        for line in lines {
            self.growth.push(&sha2::Sha256::digest(line)).unwrap();
        }
        self.files.get_mut(file).unwrap().0 += len;
    }

    /// Adds a digest, whatever stands before it.
    pub fn digest(&mut self, digest: &[u8; 32]) {
        self.growth.push(digest).unwrap();
    }

    /// Adds what isn't sealed of a file, and says that it's so many lines.
    pub fn seg_of(&mut self, file: &str, said: u64) {
        self.sealed_as(file, Some(said));
    }

    /// Writes the tiles, the guard and the head.
    pub fn commit(&mut self) {
        for Append {
            path,
            offset,
            bytes,
            ..
        } in self.growth.take()
        {
            let path = self.file(".integrity").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .unwrap();
            file.write_all_at(&bytes, offset).unwrap();
        }
        let checkpoint = self.checkpoint();
        fs::write(self.guard(), checkpoint.guard_line()).unwrap();
        let mut heads = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file(".integrity/heads"))
            .unwrap();
        heads.write_all(self.note().as_bytes()).unwrap();
    }

    /// Copies the partial tiles and replaces the checkpoint.
    pub fn publish(&mut self) {
        for Copy { from, to, len } in self.growth.copies() {
            let tree = self.file(".integrity");
            let bytes = fs::read(tree.join(from)).unwrap();
            fs::create_dir_all(tree.join(&to).parent().unwrap()).unwrap();
            fs::write(tree.join(to), &bytes[..len as usize]).unwrap();
        }
        fs::write(self.file(".integrity/checkpoint"), self.note()).unwrap();
    }

    /// Seals a file and publishes.
    pub fn seal(&mut self, file: &str) {
        self.seg(file);
        self.commit();
        self.publish();
    }

    /// What is signed now.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            origin: self.signer.verifier().name().to_owned(),
            size: self.growth.edge().size(),
            root: self.growth.edge().root(),
        }
    }

    /// The signed note of it.
    pub fn note(&self) -> String {
        self.signer.sign(&self.checkpoint().to_string())
    }

    /// The files of the log's directory, as they are.
    pub fn memory(&self) -> InMemory {
        fn walk(root: &Path, at: &Path, into: &mut InMemory) {
            for item in fs::read_dir(at).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, into);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                    into.0
                        .insert(name.to_owned(), Node::File(fs::read(&path).unwrap()));
                }
            }
        }
        let mut memory = InMemory::default();
        walk(&self.path(), &self.path(), &mut memory);
        memory
    }

    /// A copy of the log's directory as it is.
    pub fn snapshot(&self) -> PathBuf {
        let to = self.root.join(format!("copy-{}", uuid::Uuid::new_v4()));
        copy(&self.path(), &to);
        to
    }
}

impl Drop for TestLog {
    fn drop(&mut self) {
        if !self.keep && !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

/// What a gzip file of these bytes holds.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
