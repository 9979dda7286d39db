//! `verify --lines`: whether lines that were gathered somewhere else are those that logs have sealed.

mod fleet;
mod found;
mod hashing;
mod line;
mod print;
mod trees;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit_logger::tool::far::{Came, Sealed};
use audit_logger::tool::lines::Watched;
use audit_logger::tool::source::not_the_file_s;
use audit_logger::tool::{Error, Status};
use flate2::read::MultiGzDecoder;

pub use self::fleet::Host;
use self::found::{Answers, Found};
use self::hashing::hash_lines;
use self::line::Line;
use crate::interrupt;
use crate::output::{Output, Progress, plain};

/// How many lines are compared between two looks at how far it is.
const LINES: u64 = 1 << 12;

/// Which lines are to be there: of the days from the first to the second, as far as they are given.
#[derive(Default)]
pub struct Days {
    pub from: Option<String>,
    pub to: Option<String>,
}

impl Days {
    fn has(&self, day: &str) -> bool {
        self.from.as_deref().is_none_or(|from| from <= day)
            && self.to.as_deref().is_none_or(|to| day <= to)
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
    // Which of the hosts the logs are.
    let mut logs = Vec::new();
    let interrupted = interrupt::watch()?;
    let mut progress = Progress::new();
    let mut answers: Vec<_> = hosts
        .iter()
        .map(|_| Err(Error::log("it wasn't read")))
        .collect();
    trees::read(
        hosts,
        &sealed.keys(),
        interrupted,
        &mut progress,
        &mut |number, read| {
            let added = read.and_then(|read| sealed.add(read));
            if added.is_ok() {
                logs.push(number);
            }
            answers[number] = added;
        },
    );
    let stops = |error: &Error| hosts.len() == 1 || error.status == Status::Cancelled;
    if let Some(at) = answers
        .iter()
        .position(|answer| answer.as_ref().is_err_and(stops))
    {
        return answers.swap_remove(at).map(drop);
    }
    sealed.sort();
    let mut found = Found::new(Answers::new(hosts, answers), sealed.lines());
    let lengths = files.iter().filter_map(|path| path.metadata().ok());
    let all = lengths.map(|found| found.len()).sum();
    let read = Arc::default();
    let mut show = |read| progress.show("comparing lines", read, all);
    for path in files {
        compare(path, &read, &mut sealed, &mut found, &mut show, interrupted)?;
    }
    let mut show = |done, of| progress.show("looking for missing lines", done, of);
    sealed.missing(&mut show, &interrupted, &mut |place| {
        let day = place.file.get(6..16).unwrap_or_default();
        if days.has(day) {
            found.misses(&hosts[logs[place.log]].name, day, place);
        }
    })?;
    drop(progress);
    if as_json {
        out.line(found.json());
    } else {
        found.print(out);
    }
    found.verdict()
}

/// A file, of which others are told how many bytes were read.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Compares the lines of a file with what was sealed. `show` is told how many bytes of all files were `read`.
fn compare(
    path: &Path,
    read: &Arc<AtomicU64>,
    sealed: &mut Sealed,
    found: &mut Found<'_>,
    show: &mut dyn FnMut(u64),
    interrupted: fn() -> bool,
) -> Result<(), Error> {
    let failed = |error: io::Error| Error::log(format!("{}: {error}", path.display()));
    let reader: Box<dyn Read + Send> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => {
            let file = Counted {
                file: File::open(path).map_err(failed)?,
                read: Arc::clone(read),
            };
            match path.extension().is_some_and(|end| end == "gz") {
                true => Box::new(MultiGzDecoder::new(file)),
                false => Box::new(file),
            }
        }
    };
    let keys = sealed.keys();
    let mut each = |number: u64, line: &[u8], print: u64| {
        found.lines += 1;
        if found.lines.is_multiple_of(LINES) {
            show(read.load(Ordering::Relaxed));
        }
        match sealed.take(print) {
            Came::First => {}
            Came::Again => found.came_again(&Line::read(line)),
            Came::Unknown => found.isn_t_sealed(path, number, Line::read(line)),
        }
    };
    let reader = Box::new(Watched::new(reader, interrupted));
    let done = hash_lines(reader, &keys, &mut each);
    done.map_err(|error| not_the_file_s(&error).unwrap_or_else(|| failed(error)))
}

/// A host's name before something of it.
pub fn prefix(host: &str) -> String {
    match host {
        "" => String::new(),
        host => format!("{} ", plain(host)),
    }
}
