//! `verify --lines`: whether lines that were gathered somewhere else are those that logs have sealed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use audit_logger::tool::far::{Came, Keys, Sealed};
use audit_logger::tool::lines::Watched;
use audit_logger::tool::report::Report;
use audit_logger::tool::source::not_the_file_s;
use audit_logger::tool::verify::Options;
use audit_logger::tool::{Error, Status};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::interrupt;
use crate::output::{Colour, Output, Progress, plain};

/// A log, and what is known of it beside its tree.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The machine's, as its entries' details have it.
    pub name: String,
    /// The directory that has its `.integrity`.
    pub tree: PathBuf,
    /// The public key's text, or a file with it.
    vkey: Option<String>,
    guard_file: Option<PathBuf>,
    #[serde(default)]
    checkpoints: Vec<PathBuf>,
    /// Whose signatures its tree must have.
    policy: Option<PathBuf>,
    /// It is silent if it hasn't been sealed for so long.
    silent_after_s: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fleet {
    hosts: Vec<Host>,
}

/// Which lines are to be there: of the days from the first to the second, as far as they are given.
#[derive(Default)]
pub struct Days {
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What each host's tree was found to be, or why there is no answer of it: the others have theirs.
struct Answers(Vec<Result<Report, Error>>);

impl Answers {
    /// That of a host by its name.
    fn of<'a>(&'a self, hosts: &[Host], name: &str) -> Option<&'a Result<Report, Error>> {
        let at = hosts.iter().position(|host| host.name == name)?;
        self.0.get(at)
    }
}

/// What was found of one log's day.
#[derive(Default)]
struct Counts {
    missing: u64,
    unknown: u64,
    doubled: u64,
    unsealed: u64,
    /// Of a host whose tree gives no answer.
    unanswered: u64,
}

/// What was found of all.
#[derive(Default)]
struct Found {
    lines: u64,
    sealed: u64,
    /// By log and day.
    days: BTreeMap<(String, String), Counts>,
    /// The first of them.
    missing: Vec<Missing>,
    strange: Vec<Strange>,
}

/// A sealed line that isn't there.
struct Missing {
    host: String,
    file: String,
    line: u64,
}

/// A line that nobody sealed.
struct Strange {
    number: u64,
    host: String,
    id: String,
    timestamp: String,
}

/// How many lines are named.
const NAMED: usize = 100;

impl Host {
    /// The one log of a directory.
    pub fn alone(tree: &Path, options: &Options) -> Host {
        Host {
            name: String::new(),
            tree: tree.to_owned(),
            vkey: options.vkey.clone(),
            guard_file: options.guard.clone(),
            checkpoints: options.checkpoints.clone(),
            policy: options.policy.clone(),
            silent_after_s: None,
        }
    }

    /// Those that a file lists. Its paths are relative to it.
    pub fn fleet(path: &Path) -> Result<Vec<Host>, Error> {
        let named = |error: String| Error::argument(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        let fleet: Fleet = serde_json::from_str(&text).map_err(|error| named(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let mut hosts = fleet.hosts;
        let mut names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(named(format!("two hosts are called {:?}", pair[0])));
        }
        for host in &mut hosts {
            let paths = host.checkpoints.iter_mut().chain(&mut host.guard_file);
            paths
                .chain(&mut host.policy)
                .chain([&mut host.tree])
                .for_each(|path| *path = base.join(&*path));
            // A key's text has two plus signs; what hasn't is a path.
            if let Some(vkey) = host.vkey.take_if(|vkey| vkey.split('+').count() < 3) {
                host.vkey = Some(base.join(vkey).to_string_lossy().into_owned());
            }
        }
        Ok(hosts)
    }

    pub fn options(&self) -> Result<Options, Error> {
        Ok(Options {
            policy: self.policy.clone(),
            copy: true,
            vkey: self.vkey.as_deref().map(crate::vkey).transpose()?,
            guard: self.guard_file.clone(),
            checkpoints: self.checkpoints.clone(),
            ..Options::default()
        })
    }

    fn is_silent(&self, report: &Report) -> bool {
        let last = stamp(&report.last_record);
        self.silent_after_s.is_some_and(|seconds| {
            let silence = TimeDelta::seconds(i64::from(seconds));
            let now = DateTime::<Utc>::from(SystemTime::now());
            last.is_none_or(|last| now - last > silence)
        })
    }
}

/// Compares the lines of files with the trees of hosts, and prints what was found.
pub fn run(
    hosts: &[Host],
    files: &[PathBuf],
    days: &Days,
    as_json: bool,
    out: &mut Output,
) -> Result<(), Error> {
    let mut sealed = Sealed::default();
    let mut answers = Vec::new();
    // Which of the hosts the logs are.
    let mut logs = Vec::new();
    let interrupted = interrupt::watch()?;
    let mut progress = Progress::new();
    for (number, host) in hosts.iter().enumerate() {
        let mut show = |done, of| progress.show("reading trees", done, of);
        let added = sealed.add(&host.tree, &host.options()?, &mut show, &interrupted);
        match added {
            Ok(_) => logs.push(number),
            Err(error) if hosts.len() == 1 || error.status == Status::Cancelled => {
                return Err(error);
            }
            Err(_) => {}
        }
        answers.push(added);
    }
    let reports = Answers(answers);
    sealed.sort();
    let mut found = Found {
        sealed: sealed.lines(),
        ..Found::default()
    };
    for (done, path) in (0..).zip(files) {
        progress.show("comparing lines", done, files.len() as u64);
        found.read(path, &mut sealed, hosts, &reports, interrupted)?;
    }
    drop(progress);
    sealed.missing(&interrupted, &mut |place| {
        let day = place.file.get(6..16).unwrap_or_default().to_owned();
        if days.from.as_ref().is_some_and(|from| day < *from)
            || days.to.as_ref().is_some_and(|to| day > *to)
        {
            return;
        }
        let host = hosts[logs[place.log]].name.clone();
        found.day(host.clone(), day).missing += 1;
        if found.missing.len() < NAMED {
            found.missing.push(Missing {
                host,
                file: place.file.to_owned(),
                line: place.line,
            });
        }
    })?;
    if as_json {
        out.line(found.json(hosts, &reports));
    } else {
        found.print(hosts, &reports, out);
    }
    found.verdict(hosts, &reports)
}

impl Found {
    fn day(&mut self, host: String, day: String) -> &mut Counts {
        /// A hostile line may claim any day.
        const MOST: usize = 10_000;
        let mut place = (host, day);
        if self.days.len() >= MOST && !self.days.contains_key(&place) {
            place = (String::new(), "other days".to_owned());
        }
        self.days.entry(place).or_default()
    }

    fn read(
        &mut self,
        path: &Path,
        sealed: &mut Sealed,
        hosts: &[Host],
        reports: &Answers,
        interrupted: fn() -> bool,
    ) -> Result<(), Error> {
        let failed = |error: io::Error| Error::log(format!("{}: {error}", path.display()));
        let reader: Box<dyn Read + Send> = match path.to_str() {
            Some("-") => Box::new(io::stdin()),
            _ => {
                let file = File::open(path).map_err(failed)?;
                match path.extension().is_some_and(|end| end == "gz") {
                    true => Box::new(MultiGzDecoder::new(file)),
                    false => Box::new(file),
                }
            }
        };
        let keys = sealed.keys();
        let mut each = |number: u64, line: &[u8], print: u64| {
            self.lines += 1;
            match sealed.take(print) {
                Came::First => {}
                Came::Again => {
                    let line = Line::read(line, hosts);
                    self.day(line.host, line.day).doubled += 1;
                }
                Came::Unknown => self.strange(number, Line::read(line, hosts), hosts, reports),
            }
        };
        let reader = Box::new(Watched::new(reader, interrupted));
        let read = hash_lines(reader, &keys, &mut each);
        read.map_err(|error| not_the_file_s(&error).unwrap_or_else(|| failed(error)))
    }

    fn strange(&mut self, number: u64, line: Line, hosts: &[Host], reports: &Answers) {
        let answer = reports.of(hosts, &line.host);
        // A line that names no host may be any host's.
        let last = match answer {
            Some(Ok(report)) => Some(&report.last_record),
            _ => reports
                .0
                .iter()
                .flatten()
                .map(|report| &report.last_record)
                .max(),
        };
        let is_unsealed = last.is_some_and(|last| line.may_be_sealed_yet(last));
        let counts = self.day(line.host.clone(), line.day.clone());
        if matches!(answer, Some(Err(_))) {
            counts.unanswered += 1;
            return;
        }
        if is_unsealed {
            counts.unsealed += 1;
            return;
        }
        counts.unknown += 1;
        if self.strange.len() < NAMED {
            self.strange.push(Strange {
                number,
                host: line.host,
                id: line.id,
                timestamp: line.timestamp,
            });
        }
    }

    fn total(&self, of: impl Fn(&Counts) -> u64) -> u64 {
        self.days.values().map(of).sum()
    }

    fn verdict(&self, hosts: &[Host], reports: &Answers) -> Result<(), Error> {
        for (host, answer) in hosts.iter().zip(&reports.0) {
            let named = |error: &Error| {
                let message = format!("{}{}", prefix(&host.name), error.message);
                Error::new(error.status, message)
            };
            match answer {
                Ok(report) => report.verdict().map_err(|error| named(&error))?,
                Err(error) => return Err(named(error)),
            }
        }
        let (missing, unknown) = (self.total(|day| day.missing), self.total(|day| day.unknown));
        if missing + unknown > 0 {
            return Err(Error::new(
                Status::Tampered,
                format!(
                    "{missing} sealed lines aren't there, and {unknown} lines are no sealed ones"
                ),
            ));
        }
        for (host, answer) in hosts.iter().zip(&reports.0) {
            if let Ok(report) = answer
                && host.is_silent(report)
            {
                let (name, since) = (&host.name, &report.last_record);
                return Err(Error::new(
                    Status::Tampered,
                    format!("{name} has been silent since {since}"),
                ));
            }
        }
        Ok(())
    }

    fn json(&self, hosts: &[Host], reports: &Answers) -> serde_json::Value {
        let logs = hosts.iter().zip(&reports.0).map(|(host, answer)| {
            let report = match answer {
                Ok(report) => report,
                Err(error) => {
                    return json!({"host": host.name, "intact": false, "error": error.message});
                }
            };
            let findings = report.findings.iter().map(|finding| {
                json!({"class": finding.class.name(), "file": finding.file, "message": finding.message})
            });
            json!({
                "host": host.name, "origin": report.origin, "grade": report.grade(), "size": report.size, "beyond": report.beyond,
                "intact": report.intact(), "begun": report.begun, "last_seal": report.last_record,
                "silent": host.is_silent(report), "findings": findings.collect::<Vec<_>>(),
            })
        });
        let days = self.days.iter().map(|((host, day), counts)| {
            json!({
                "host": host, "day": day, "altered": counts.altered(),
                "missing": counts.missing - counts.altered(), "unknown": counts.unknown - counts.altered(),
                "doubled": counts.doubled, "unsealed": counts.unsealed, "unanswered": counts.unanswered,
            })
        });
        let missing = self.missing.iter().map(
            |missing| json!({"host": missing.host, "file": missing.file, "line": missing.line}),
        );
        let strange = self.strange.iter().map(|line| {
            json!({"line": line.number, "host": line.host, "id": line.id, "timestamp": line.timestamp})
        });
        json!({
            "complete": self.verdict(hosts, reports).is_ok(), "lines": self.lines, "sealed": self.sealed,
            "altered": self.total(Counts::altered),
            "missing": self.total(|day| day.missing - day.altered()),
            "unknown": self.total(|day| day.unknown - day.altered()),
            "doubled": self.total(|day| day.doubled), "unsealed": self.total(|day| day.unsealed),
            "logs": logs.collect::<Vec<_>>(), "days": days.collect::<Vec<_>>(),
            "not_there": missing.collect::<Vec<_>>(), "not_sealed": strange.collect::<Vec<_>>(),
        })
    }

    fn print(&self, hosts: &[Host], reports: &Answers, out: &mut Output) {
        let verdict = match self.verdict(hosts, reports) {
            Ok(()) => out.coloured(Colour::Green, "complete"),
            Err(_) => out.coloured(Colour::Red, "NOT COMPLETE"),
        };
        out.line(format_args!(
            "{verdict}: {} lines, {} sealed ones",
            self.lines, self.sealed
        ));
        for (host, answer) in hosts.iter().zip(&reports.0) {
            let report = match answer {
                Ok(report) => report,
                Err(error) => {
                    let wrong = out.coloured(Colour::Red, "NO ANSWER");
                    let message = plain(&error.message);
                    out.line(format_args!(
                        "log:      {}{wrong}: {message}",
                        prefix(&host.name)
                    ));
                    continue;
                }
            };
            let silent = match host.is_silent(report) {
                true => out.coloured(Colour::Red, ", SILENT since then"),
                false => "".into(),
            };
            out.line(format_args!(
                "log:      {} {}, {} entries ({}), sealed until {}{silent}",
                plain(&host.name),
                plain(&report.origin),
                report.size,
                report.grade(),
                plain(&report.last_record)
            ));
            if report.beyond > 0 {
                out.line(format_args!(
                    "  {} more entries are known of, and not in this copy",
                    report.beyond
                ));
            }
            for finding in &report.findings {
                let class = out.coloured(Colour::Red, finding.class.name());
                out.line(format_args!(
                    "  {}: {class}: {}",
                    plain(&finding.file),
                    plain(&finding.message)
                ));
            }
        }
        for ((host, day), counts) in self.days.iter().take(NAMED) {
            let counted = [
                (counts.altered(), "altered"),
                (counts.missing - counts.altered(), "missing"),
                (counts.unknown - counts.altered(), "unknown"),
                (counts.doubled, "doubled"),
                (counts.unsealed, "not sealed yet"),
                (counts.unanswered, "of a log without an answer"),
            ];
            let counted: Vec<String> = counted
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            out.line(format_args!(
                "{}{}: {}",
                prefix(host),
                plain(day),
                counted.join(", ")
            ));
        }
        let more = self.days.len().saturating_sub(NAMED);
        if more > 0 {
            out.line(format_args!("... and {more} more days"));
        }
        if self.total(|day| day.unsealed) > 0 {
            out.line("nothing vouches for lines that aren't sealed yet: verify them once they are");
        }
        for missing in &self.missing {
            out.line(format_args!(
                "  not there:  {}{}:{}",
                prefix(&missing.host),
                plain(&missing.file),
                missing.line
            ));
        }
        for line in &self.strange {
            out.line(format_args!(
                "  not sealed: line {}, {}id {}, stamped {}",
                line.number,
                prefix(&line.host),
                plain(&line.id),
                plain(&line.timestamp)
            ));
        }
    }
}

/// A host's name before something of it.
pub fn prefix(host: &str) -> String {
    match host {
        "" => String::new(),
        host => format!("{} ", plain(host)),
    }
}

impl Counts {
    /// A sealed line that isn't there, and one that nobody sealed and that says it's of the same day:
    /// that is the one, changed.
    fn altered(&self) -> u64 {
        self.missing.min(self.unknown)
    }
}

/// What a line says of itself; nothing if it's no entry.
#[derive(Default)]
struct Line {
    host: String,
    day: String,
    id: String,
    timestamp: String,
}

/// What of an entry is looked at.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Named<'l> {
    #[serde(borrow)]
    id: Cow<'l, str>,
    #[serde(borrow)]
    timestamp: Cow<'l, str>,
    #[serde(borrow)]
    details: Option<Details<'l>>,
}

#[derive(Deserialize)]
struct Details<'l> {
    #[serde(borrow, default)]
    host: Cow<'l, str>,
}

impl Line {
    fn read(line: &[u8], hosts: &[Host]) -> Line {
        let named: Named<'_> = serde_json::from_slice(line).unwrap_or_default();
        let host = named.details.map_or("".into(), |details| details.host);
        let is_known = hosts.iter().any(|known| known.name == host);
        let day = stamp(&named.timestamp).map(|time| time.format("%Y-%m-%d").to_string());
        Line {
            host: match is_known {
                true => host.into_owned(),
                false => String::new(),
            },
            day: day.unwrap_or_default(),
            id: named.id.into_owned(),
            timestamp: named.timestamp.into_owned(),
        }
    }

    /// Whether it says that it was written after the last that is sealed, and can have been.
    fn may_be_sealed_yet(&self, last: &str) -> bool {
        /// No clock is to be further ahead.
        const AHEAD: TimeDelta = TimeDelta::minutes(5);
        let now = DateTime::<Utc>::from(SystemTime::now());
        match (stamp(&self.timestamp), stamp(last)) {
            (Some(own), Some(last)) => own > last && own <= now + AHEAD,
            _ => false,
        }
    }
}

/// A time, in the one form that entries and records have it in.
fn stamp(text: &str) -> Option<DateTime<Utc>> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.6fZ").ok()?;
    (text.len() == "2026-11-27T00:00:00.000000Z".len()).then(|| time.and_utc())
}

/// Lines as they were read: whole ones.
struct Block {
    bytes: Vec<u8>,
    /// How many came before.
    before: u64,
    /// Of a line that is too long to be held: its digest. The bytes are its beginning.
    long: Option<[u8; 32]>,
}

/// Its lines that aren't blank: their numbers, where they are, their prints.
type Hashed = (Block, Vec<(u64, std::ops::Range<usize>, u64)>);

/// Hashes the lines of a reader on all processors, and hands them out one by one.
fn hash_lines(
    reader: Box<dyn Read + Send>,
    keys: &Keys,
    each: &mut dyn FnMut(u64, &[u8], u64),
) -> io::Result<()> {
    const WAITING: usize = 4;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (blocks, to_hash) = sync_channel::<Block>(WAITING);
    let (hashed, done) = sync_channel::<Hashed>(WAITING);
    let to_hash = Arc::new(Mutex::new(to_hash));
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_blocks(reader, &blocks_of(blocks)));
        for _ in 0..workers {
            let (to_hash, hashed) = (Arc::clone(&to_hash), hashed.clone());
            scope.spawn(move || hash_blocks(&to_hash, hashed, keys));
        }
        // The workers' alone: with them both ends end.
        drop((to_hash, hashed));
        for (block, lines) in done {
            for (number, range, print) in lines {
                each(number, &block.bytes[range], print);
            }
        }
        reading
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))
    })
}

/// The sender is the reader's own: with its end the workers end.
fn blocks_of(blocks: SyncSender<Block>) -> impl Fn(Block) -> bool {
    move |block| blocks.send(block).is_ok()
}

fn read_blocks(mut reader: Box<dyn Read + Send>, send: &dyn Fn(Block) -> bool) -> io::Result<()> {
    const SIZE: u64 = 1 << 20;
    /// A longer line isn't held.
    const LONGEST: usize = 16 << 20;
    let (mut left, mut before) = (Vec::new(), 0);
    loop {
        let mut bytes = std::mem::take(&mut left);
        let read = reader.by_ref().take(SIZE).read_to_end(&mut bytes)?;
        if read > 0 {
            // What isn't a whole line waits for the rest of it.
            let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
            left = bytes.split_off(end);
        }
        let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
        let block = Block {
            bytes,
            before,
            long: None,
        };
        if !block.bytes.is_empty() && !send(block) {
            return Ok(());
        }
        before += lines;
        if left.len() > LONGEST {
            let (block, rest) = long_line(&mut reader, std::mem::take(&mut left), before)?;
            left = rest;
            before += 1;
            if !send(block) {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Hashes a line as it comes. What came of the next one is given beside it.
fn long_line(
    reader: &mut dyn Read,
    mut begun: Vec<u8>,
    before: u64,
) -> io::Result<(Block, Vec<u8>)> {
    const SHOWN: usize = 4096;
    let mut hash = Sha256::new_with_prefix(&begun);
    begun.truncate(SHOWN);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = match reader.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let came = piece.get(..read).unwrap_or_default();
        let end = memchr::memchr(b'\n', came);
        hash.update(came.get(..end.unwrap_or(read)).unwrap_or_default());
        if end.is_some() || read == 0 {
            let rest = end.and_then(|end| came.get(end + 1..)).unwrap_or_default();
            let block = Block {
                bytes: begun,
                before,
                long: Some(hash.finalize().into()),
            };
            return Ok((block, rest.to_vec()));
        }
    }
}

fn hash_blocks(blocks: &Mutex<Receiver<Block>>, hashed: SyncSender<Hashed>, keys: &Keys) {
    loop {
        let block = match blocks.lock() {
            Ok(blocks) => blocks.recv(),
            Err(_) => return,
        };
        let Ok(block) = block else { return };
        let mut lines = Vec::new();
        if let Some(digest) = &block.long {
            let print = keys.print(digest);
            lines.push((block.before + 1, 0..block.bytes.len(), print));
            if hashed.send((block, lines)).is_err() {
                return;
            }
            continue;
        }
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', &block.bytes).chain([block.bytes.len()]);
        for (number, end) in (block.before + 1..).zip(ends) {
            let line = block.bytes.get(start..end).unwrap_or_default();
            if !line.iter().all(|byte| *byte == b' ') {
                let print = keys.print(&Sha256::digest(line).into());
                lines.push((number, start..end, print));
            }
            start = end + 1;
        }
        if hashed.send((block, lines)).is_err() {
            return;
        }
    }
}
