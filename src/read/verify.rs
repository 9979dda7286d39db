//! Whether a log is what was sealed. Reads only: no lock, no right but reading, a copy will do.
//!
//! 1. The guard, the kept checkpoints, and the directory's own are read; each of the last must be
//!    signed by the key.
//! 2. The tree is built again from its entries, and compared with every tile, and with every root
//!    that is known.
//! 3. On the way, every line of every file is hashed and compared with its entry (`align`).
//!
//! Files and tree are each read once, from front to back, so memory stays flat.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Setting, settings};
use crate::error::{Error, Status};
use crate::json::Object;

use super::align::{Class, Day, Finding, Findings};
use super::source::{Directory, TREE, read_plain};
use crate::format::checkpoint::{Checkpoint, format_hash, notes};
use crate::format::merkle::{Edge, Hash, leaf_hash};
use crate::format::note::Verifier;
use crate::format::record::{Entry, Record, Said, VERSION};
use crate::format::tiles::{Fetch, Kind, Tile, WIDTH, entries, read};

/// How many findings a report shows; all are counted.
const SHOWN: usize = 100;

/// How many files are kept open. Around midnight a few are written at once, so that their ranges
/// alternate in the tree.
const OPEN: usize = 8;

/// What the log is compared with, beside itself.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The public key's text. Without it that of the directory is taken on faith.
    pub vkey: Option<String>,
    /// The guard file, in which the last size and root stand.
    pub guard: Option<PathBuf>,
    /// Files with checkpoints that were kept elsewhere.
    pub checkpoints: Vec<PathBuf>,
}

impl Options {
    /// Reads them from a JSON object.
    pub fn parse(text: &str) -> Result<Options, Error> {
        let mut options = Options::default();
        for setting in settings("options", Status::Argument, text)? {
            match setting.key.as_str() {
                "guard_file" => options.guard = setting.or_null(Setting::text)?.map(PathBuf::from),
                "checkpoints" => options.checkpoints = setting.paths()?,
                _ => take_key(&mut options.vkey, &setting)?,
            }
        }
        Ok(options)
    }
}

/// The public key in the options of a proof, a JSON object.
pub fn key_in(text: &str) -> Result<Option<String>, Error> {
    let mut vkey = None;
    for setting in settings("options", Status::Argument, text)? {
        take_key(&mut vkey, &setting)?;
    }
    Ok(vkey)
}

fn take_key(vkey: &mut Option<String>, setting: &Setting) -> Result<(), Error> {
    let given = match setting.key.as_str() {
        "vkey" => setting.or_null(Setting::text)?,
        "vkey_file" => match setting.or_null(Setting::text)? {
            Some(path) => Some(text_of(Path::new(&path))?),
            None => None,
        },
        _ => return Err(setting.unknown()),
    };
    if vkey.is_some() && given.is_some() {
        return Err(setting.error("is the second key; set \"vkey\" or \"vkey_file\""));
    }
    *vkey = vkey.take().or(given);
    Ok(())
}

/// A small file that was named: a key, a guard, a kept checkpoint.
pub fn text_of(path: &Path) -> Result<String, Error> {
    match read_plain(path) {
        Ok(Some(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(None) => Err(Error::argument(format!("{} isn't there", path.display()))),
        Err(error) => Err(Error::log(format!("{}: {error}", path.display()))),
    }
}

/// What was verified, and what was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// The size of the tree.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The public key was given; else the directory itself vouches for the directory.
    pub key_given: bool,
    /// How many sizes and roots from outside the directory were compared.
    pub remembered: u64,
    /// Files with sealed lines.
    pub files: u64,
    /// Sealed lines that are as they were.
    pub lines: u64,
    /// Lines and bytes that aren't sealed yet.
    pub unsealed_lines: u64,
    /// See `unsealed_lines`.
    pub unsealed_bytes: u64,
    /// Files whose last line, not sealed yet, has no line feed.
    pub torn_tails: u64,
    /// Torn lines that were blanked.
    pub torn: u64,
    /// Files that were removed as their time was over.
    pub purged: u64,
    /// Times that the logger itself found sealed bytes missing.
    pub gaps: u64,
    /// Times that it sealed bytes late.
    pub recovered: u64,
    /// Times that it found the directory put back to an older state.
    pub rollbacks: u64,
    /// Signs of life.
    pub heartbeats: u64,
    /// When the tree was begun.
    pub begun: String,
    /// When the last record was made.
    pub last_record: String,
    /// How many things are wrong.
    pub finding_count: u64,
    /// The first of them, by file and line.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn intact(&self) -> bool {
        self.finding_count == 0
    }

    /// An error that names the first finding, if something is wrong.
    pub fn verdict(&self) -> Result<(), Error> {
        let Some(first) = self.findings.first() else {
            return Ok(());
        };
        let place = match first.line {
            0 => String::new(),
            line => format!(", line {line}"),
        };
        Err(Error::new(
            Status::Tampered,
            format!(
                "{}{place}: {}: {} (findings: {})",
                first.file,
                first.class.name(),
                first.message,
                self.finding_count
            ),
        ))
    }

    /// How much the verdict is worth.
    pub fn grade(&self) -> &'static str {
        match (self.key_given, self.remembered > 0) {
            (false, false) => "self-attested",
            (false, true) => "self-attested, remembered",
            (true, false) => "signed",
            (true, true) => "signed, remembered",
        }
    }

    /// What this verification could not have seen.
    pub fn blind_spots(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.key_given {
            found.push(
                "a log that was changed and signed anew with another key: the key is the one that \
                 lies in the directory; give the one that was noted when the log was made"
                    .to_owned(),
            );
        }
        let key = "a forgery by whoever has the private key, which is whoever can read .state/key \
                   unless the log was given another";
        if self.remembered == 0 {
            found.push(key.to_owned());
            found.push(
                "an older copy of the whole directory in its place, or a tree begun anew over changed \
                 lines: nothing outside it says how far the log had come; give a guard file or a kept \
                 checkpoint, or compare \"begun\""
                    .to_owned(),
            );
        } else {
            found.push(format!(
                "{key}, in what came after the guard and every kept checkpoint"
            ));
            found.push(
                "an older copy that is still newer than the guard and every kept checkpoint"
                    .to_owned(),
            );
        }
        if self.unsealed_lines > 0 {
            found.push(format!(
                "a change in the {} lines ({} bytes) that aren't sealed yet",
                self.unsealed_lines, self.unsealed_bytes
            ));
        }
        found.push("a change made before its line was sealed".to_owned());
        found
    }

    /// Appends the report as a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.json("intact", self.intact());
        object.text("grade", self.grade());
        object.text("origin", &self.origin);
        object.json("size", self.size);
        object.text("root", &format_hash(&self.root));
        for (key, value) in [
            ("remembered", self.remembered),
            ("files", self.files),
            ("lines", self.lines),
            ("unsealed_lines", self.unsealed_lines),
            ("unsealed_bytes", self.unsealed_bytes),
            ("torn_tails", self.torn_tails),
            ("torn", self.torn),
            ("purged", self.purged),
            ("gaps", self.gaps),
            ("recovered", self.recovered),
            ("rollbacks", self.rollbacks),
            ("heartbeats", self.heartbeats),
        ] {
            object.json(key, value);
        }
        object.text("begun", &self.begun);
        object.text("last_record", &self.last_record);
        object.json("finding_count", self.finding_count);
        object.list("findings", &self.findings, |finding, out| {
            let mut object = Object::begin(out);
            object.text("class", finding.class.name());
            object.text("file", &finding.file);
            object.json_if("line", (finding.line > 0).then_some(finding.line));
            object.text("message", &finding.message);
            object.end();
        });
        object.texts("cannot_detect", &self.blind_spots());
        object.end();
    }
}

/// A size and a root that somebody knows, and who.
struct Known {
    who: String,
    /// Not the directory itself.
    outside: bool,
    checkpoint: Checkpoint,
}

/// The public key, and whether it was given.
pub fn key(directory: &Directory, given: Option<&str>) -> Result<Verifier, Error> {
    if let Some(text) = given {
        return Verifier::parse(text).map_err(Error::argument);
    }
    let bytes = directory
        .text("vkey")
        .map_err(|error| Error::log(format!("{TREE}/vkey: {error}")))?
        .ok_or_else(|| {
            Error::new(Status::NotFound, format!(
                "there is no {TREE}/vkey: the log isn't sealed, or was until its tree was removed"
            ))
        })?;
    Verifier::parse(&String::from_utf8_lossy(&bytes))
        .map_err(|error| Error::log(format!("{TREE}/vkey: {error}")))
}

/// The directory's own checkpoints: the published one, and all in `heads`. What isn't signed by
/// the key is found, not taken.
pub fn own_checkpoints(
    directory: &Directory,
    verifier: &Verifier,
    findings: &mut Findings,
) -> Result<Vec<Checkpoint>, Error> {
    let mut found = Vec::new();
    for name in ["heads", "checkpoint"] {
        let path = format!("{TREE}/{name}");
        let bytes = directory
            .text(name)
            .map_err(|error| Error::log(format!("{path}: {error}")))?
            .unwrap_or_default();
        let candidates = match name {
            "heads" => notes(&bytes),
            _ => Vec::from([std::str::from_utf8(&bytes).unwrap_or_default()]),
        };
        for (at, note) in candidates.into_iter().enumerate() {
            match Checkpoint::open(note, verifier) {
                Ok(checkpoint) => found.push(checkpoint),
                Err(_) if bytes.is_empty() => {
                    findings.add(
                        Class::Missing,
                        &path,
                        0,
                        "there is no checkpoint".to_owned(),
                    );
                }
                Err(error) => {
                    let message = format!("checkpoint {} {error}", at + 1);
                    findings.add(Class::Forged, &path, 0, message);
                }
            }
        }
    }
    Ok(found)
}

/// What the guard and the kept checkpoints know. Where the key is the directory's own, it's found that
/// they don't know it: it may have been replaced.
fn remembered(
    options: &Options,
    verifier: &Verifier,
    findings: &mut Findings,
) -> Result<Vec<Known>, Error> {
    let mut known = Vec::new();
    let mut stranger = |message: String| {
        if options.vkey.is_some() {
            return Err(Error::argument(message));
        }
        let path = format!("{TREE}/vkey");
        findings.add(Class::Forged, &path, 0, message);
        Ok(())
    };
    let remember = |who: String, checkpoint| Known {
        who,
        outside: true,
        checkpoint,
    };
    if let Some(path) = &options.guard {
        let who = format!("the guard {}", path.display());
        let guarded = Checkpoint::guarded(&text_of(path)?, verifier.name())
            .map_err(|error| Error::argument(format!("{who}: {error}")))?;
        match guarded {
            Some(checkpoint) => known.push(remember(who, checkpoint)),
            None => stranger(format!("{who} knows nothing of {}", verifier.name()))?,
        }
    }
    for path in &options.checkpoints {
        let text = text_of(path)?;
        let kept = notes(text.as_bytes());
        let who = format!("the kept checkpoint {}", path.display());
        if kept.is_empty() {
            return Err(Error::argument(format!("{who} isn't a signed note")));
        }
        for note in kept {
            match Checkpoint::open(note, verifier) {
                Ok(checkpoint) => known.push(remember(who.clone(), checkpoint)),
                Err(error) => stranger(format!("{who} {error}"))?,
            }
        }
    }
    Ok(known)
}

/// Verifies the log in a directory. `progress` is told how many entries of how many are done.
/// What is found is in the report; a failure means that there is no verdict.
pub fn verify(
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<Report, Error> {
    let directory = Directory::open(path)?;
    let verifier = key(&directory, options.vkey.as_deref())?;
    let mut findings = Findings::default();
    // First the guard: of a log that is being written it would run ahead of a tree read before.
    let mut known = remembered(options, &verifier, &mut findings)?;
    let own = own_checkpoints(&directory, &verifier, &mut findings)?;
    let signed = own.iter().map(|checkpoint| checkpoint.size).max();
    let mut report = Report {
        origin: verifier.name().to_owned(),
        key_given: options.vkey.is_some(),
        remembered: known.len() as u64,
        ..Report::default()
    };
    known.extend(own.into_iter().map(|checkpoint| Known {
        who: format!("the log's own checkpoint of size {}", checkpoint.size),
        outside: false,
        checkpoint,
    }));

    // A crash between the guard and the checkpoint leaves the guard ahead. Then the entries are
    // there, and must give its root.
    let signed = signed.unwrap_or(0);
    let ahead = known
        .iter()
        .map(|known| known.checkpoint.size)
        .max()
        .unwrap_or(0);
    let reached = Tile::all(Kind::Entries, ahead)
        .last()
        .is_none_or(|tile| read(&directory, &tile).is_ok());
    report.size = if reached { ahead } else { signed };

    let mut run = Run {
        directory: &directory,
        cancelled,
        report,
        findings,
        known,
        edge: Edge::default(),
        levels: Vec::new(),
        days: Vec::new(),
        names: BTreeMap::new(),
        open: VecDeque::new(),
        segment: None,
    };
    run.outrun();
    run.tree(progress)?;
    run.finish()
}

/// A range whose digests are coming.
struct Segment {
    day: usize,
    off: u64,
    end: u64,
    left: u64,
}

/// A verification under way.
struct Run<'a> {
    directory: &'a Directory,
    cancelled: &'a dyn Fn() -> bool,
    report: Report,
    /// What isn't about a file of the log.
    findings: Findings,
    /// In the order of their sizes.
    known: Vec<Known>,
    edge: Edge,
    /// The hashes of the last tile of each level.
    levels: Vec<Vec<u8>>,
    days: Vec<Day>,
    names: BTreeMap<String, usize>,
    /// Which files are open, the one used last at the end.
    open: VecDeque<usize>,
    segment: Option<Segment>,
}

impl Run<'_> {
    fn wrong(&mut self, message: String) {
        self.findings.add(Class::Tree, TREE, 0, message);
    }

    /// Finds what is known and lies beyond the tree.
    fn outrun(&mut self) {
        self.known.sort_by_key(|known| known.checkpoint.size);
        let size = self.report.size;
        while let Some(known) = self.known.pop_if(|known| known.checkpoint.size > size) {
            let message = format!(
                "the tree has {size} entries, and {} knows {}",
                known.who, known.checkpoint.size
            );
            self.findings.add(Class::RolledBack, TREE, 0, message);
        }
        self.known.reverse();
        self.meet();
    }

    /// Compares the root with those that are known of this size.
    fn meet(&mut self) {
        let size = self.edge.size();
        while let Some(known) = self.known.pop_if(|known| known.checkpoint.size == size) {
            if known.checkpoint.root != self.edge.root() {
                let message = format!(
                    "at size {size} the entries give another root than {}",
                    known.who
                );
                // The directory's own says that the entries were changed, another one that the
                // whole tree was.
                let class = if known.outside {
                    Class::RolledBack
                } else {
                    Class::Tree
                };
                self.findings.add(class, TREE, 0, message);
            }
        }
    }

    /// Builds the tree again.
    fn tree(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let size = self.report.size;
        for tile in Tile::all(Kind::Entries, size) {
            if (self.cancelled)() {
                return Err(Error::new(Status::Cancelled, "cancelled"));
            }
            let bytes = match read(self.directory, &tile) {
                Ok(bytes) => bytes,
                Err(error) => {
                    // Without its entries there is nothing to compare the rest with.
                    self.wrong(error.to_string());
                    self.known.clear();
                    return Ok(());
                }
            };
            for entry in entries(&bytes) {
                self.entry(entry)?;
            }
            if tile.width < WIDTH {
                self.copies(&tile, &bytes);
            }
            progress(self.edge.size(), size);
        }
        for level in 0..self.levels.len() {
            let hashes = std::mem::take(&mut self.levels[level]);
            if let Some(tile) =
                Tile::partial(size).find(|tile| tile.kind == Kind::Hashes(level as u32))
            {
                self.compare(&tile, &hashes);
                self.copies(&tile, &hashes);
            }
        }
        if self.segment.is_some() {
            self.wrong("the tree ends within a seg".to_owned());
        }
        self.report.root = self.edge.root();
        Ok(())
    }

    fn entry(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let index = self.edge.size();
        let mut full = Vec::new();
        let levels = &mut self.levels;
        self.edge.append(leaf_hash(bytes), |height, index, hash| {
            if height % 8 == 0 {
                let level = (height / 8) as usize;
                if levels.len() == level {
                    levels.push(Vec::new());
                }
                levels[level].extend_from_slice(hash);
                if index % WIDTH == WIDTH - 1 {
                    let tile = Tile {
                        kind: Kind::Hashes(height / 8),
                        number: index / WIDTH,
                        width: WIDTH,
                    };
                    full.push((tile, std::mem::take(&mut levels[level])));
                }
            }
        });
        for (tile, hashes) in full {
            self.compare(&tile, &hashes);
        }
        if self
            .known
            .last()
            .is_some_and(|known| known.checkpoint.size == index + 1)
        {
            self.meet();
        }
        match Entry::parse(bytes) {
            Ok(Entry::Digest(digest)) => self.digest(index, digest),
            Ok(Entry::Record(record)) => self.record(index, record),
            Err(error) => {
                self.wrong(format!("entry {index} {error}"));
                Ok(())
            }
        }
    }

    /// Compares a tile with the hashes that its entries give.
    fn compare(&mut self, tile: &Tile, hashes: &[u8]) {
        match read(self.directory, tile) {
            Ok(bytes) if bytes == hashes => {}
            Ok(bytes) => {
                let same = bytes.iter().zip(hashes).take_while(|(a, b)| a == b).count();
                let path = tile.full_path();
                self.wrong(format!(
                    "{path}: hash {} isn't what its entries give",
                    same / 32
                ));
            }
            Err(error) => self.wrong(error.to_string()),
        }
    }

    /// Compares the partial tile that was copied out for a checkpoint, if it was.
    fn copies(&mut self, tile: &Tile, bytes: &[u8]) {
        match self.directory.fetch(&tile.path()) {
            Ok(Some(copy)) if copy != bytes => {
                self.wrong(format!(
                    "{} isn't a copy of {}",
                    tile.path(),
                    tile.full_path()
                ));
            }
            Ok(_) => {}
            Err(error) => self.wrong(format!("{}: {error}", tile.path())),
        }
    }

    fn digest(&mut self, index: u64, digest: Hash) -> Result<(), Error> {
        let Some(mut segment) = self.segment.take() else {
            self.wrong(format!("entry {index} is a digest that no seg announced"));
            return Ok(());
        };
        let compared = self.days[segment.day].expect(digest, segment.off, segment.end);
        compared.map_err(|error| self.unreadable(segment.day, &error))?;
        segment.left -= 1;
        self.segment = (segment.left > 0).then_some(segment);
        Ok(())
    }

    fn unreadable(&self, day: usize, error: &io::Error) -> Error {
        let name = self.names.iter().find(|(_, at)| **at == day);
        Error::log(format!("{}: {error}", name.map_or("", |(name, _)| name)))
    }

    fn record(&mut self, index: u64, record: Record) -> Result<(), Error> {
        if self.segment.take().is_some() {
            self.wrong(format!("entry {index} stands within a seg"));
        }
        if (index == 0) != matches!(record.said, Said::Settings { .. }) {
            self.wrong(format!(
                "entry {index}: settings are entry 0, and only that"
            ));
        }
        if !record.ts.is_empty() {
            if index == 0 {
                self.report.begun.clone_from(&record.ts);
            }
            self.report.last_record = record.ts;
        }
        match record.said {
            Said::Settings {
                version, origin, ..
            } => {
                if version > VERSION {
                    return Err(Error::log(format!(
                        "the log is of version {version}, and this library knows {VERSION}; a later one can verify it"
                    )));
                }
                if origin != self.report.origin {
                    self.wrong(format!(
                        "the log calls itself {origin}, and its key {}",
                        self.report.origin
                    ));
                }
            }
            Said::Seg { range, lines } => {
                let day = self.day(&range.file)?;
                let begun = self.days[day].begin(self.directory, &range, lines);
                match begun.map_err(|error| self.unreadable(day, &error))? {
                    Ok(()) => {}
                    Err(error) => self.wrong(format!("entry {index} {error}")),
                }
                self.segment = (lines > 0).then_some(Segment {
                    day,
                    off: range.off,
                    end: range.off + range.len,
                    left: lines,
                });
            }
            Said::Gap(range) => {
                self.report.gaps += 1;
                let day = self.day(&range.file)?;
                let gap = self.days[day].gap(range.off);
                gap.map_err(|error| self.unreadable(day, &error))?;
            }
            Said::Prune { file } => {
                self.report.purged += 1;
                let day = self.day(&file)?;
                self.days[day].prune();
            }
            Said::Torn { .. } => self.report.torn += 1,
            Said::Altered { range, .. } => {
                let message = format!(
                    "entry {index}: the line at byte {} was changed between its writing and its \
                     sealing",
                    range.off
                );
                self.findings.add(Class::Edited, &range.file, 0, message);
            }
            Said::Recovered(_) => self.report.recovered += 1,
            Said::Rollback { size, .. } => {
                self.report.rollbacks += 1;
                let message = format!(
                    "entry {index}: the directory had been put back; the log had come to size {size}, \
                     with entries that aren't there any more"
                );
                self.findings.add(Class::RolledBack, TREE, 0, message);
            }
            Said::Heartbeat => self.report.heartbeats += 1,
            Said::Expired { .. } | Said::Unknown => {}
        }
        Ok(())
    }

    /// The file of that name, as the one used last. Others are closed when too many are open.
    fn day(&mut self, name: &str) -> Result<usize, Error> {
        let day = match self.names.get(name) {
            Some(day) => *day,
            None => {
                self.days.push(Day::new(name));
                self.names.insert(name.to_owned(), self.days.len() - 1);
                self.days.len() - 1
            }
        };
        self.open.retain(|open| *open != day);
        self.open.push_back(day);
        if self.open.len() > OPEN
            && let Some(oldest) = self.open.pop_front()
        {
            let rest = self.days[oldest].rest();
            rest.map_err(|error| self.unreadable(oldest, &error))?;
        }
        Ok(day)
    }

    /// Finishes every file, those that the tree doesn't know included, and makes the report.
    fn finish(mut self) -> Result<Report, Error> {
        let listed = self.directory.days();
        let listed = listed.map_err(|error| Error::log(format!("the log's directory: {error}")))?;
        for name in listed {
            if !self.names.contains_key(&name) {
                self.days.push(Day::new(&name));
                self.names.insert(name, self.days.len() - 1);
            } else {
                self.report.files += 1;
            }
        }
        let mut report = self.report;
        let mut findings = self.findings.kept;
        report.finding_count = self.findings.count;
        for (name, at) in &self.names {
            let day = &mut self.days[*at];
            let tail = day
                .finish(self.directory, self.cancelled)
                .map_err(|error| Error::log(format!("{name}: {error}")))?;
            if (self.cancelled)() {
                return Err(Error::new(Status::Cancelled, "cancelled"));
            }
            report.unsealed_lines += tail.lines;
            report.unsealed_bytes += tail.bytes;
            report.torn_tails += u64::from(tail.torn);
            report.lines += day.intact;
            report.finding_count += day.findings.count;
            day.findings.kept.sort_by_key(|finding| finding.line);
            let room = SHOWN.saturating_sub(findings.len());
            findings.extend(day.findings.kept.drain(..).take(room));
            // What a day held is not needed any more.
            *day = Day::new("");
        }
        // Files first: they say most about what happened. The order among them is that of their days.
        findings.sort_by_key(|finding| finding.file.starts_with(TREE));
        report.findings = findings;
        Ok(report)
    }
}
