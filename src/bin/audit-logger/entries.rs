//! The entries of a log, as the commands that show them read them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::path::Path;

use audit_logger::tool::Error;
use audit_logger::tool::source::Directory;
use serde::Deserialize;
use serde_json::Value;

/// No entry is longer than a mebibyte (`max_entry_bytes`); of what is, a piece is kept, which is no JSON.
const LONGEST: u64 = 1 << 20;

/// What is read of an entry.
#[derive(Deserialize)]
pub struct Entry<'l> {
    #[serde(borrow)]
    pub id: Cow<'l, str>,
    #[serde(borrow)]
    pub timestamp: Cow<'l, str>,
    #[serde(borrow)]
    pub event_type: Cow<'l, str>,
    #[serde(borrow)]
    pub user_id: Cow<'l, str>,
    #[serde(borrow)]
    pub model: Cow<'l, str>,
    #[serde(borrow)]
    pub status: Cow<'l, str>,
    #[serde(borrow)]
    pub error_type: Option<Cow<'l, str>>,
    pub latency_ms: Option<f64>,
    // Programs that log their own calls have put other things here.
    pub prompt_tokens: Value,
    pub completion_tokens: Value,
    pub details: Option<Details>,
}

#[derive(Deserialize)]
pub struct Details {
    pub cost: Option<f64>,
}

impl Entry<'_> {
    /// Reads a line; `None` if it's blank, torn, or no entry.
    pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
        serde_json::from_slice(line).ok()
    }

    /// "success", or the class of the error.
    pub fn outcome(&self) -> &str {
        self.error_type.as_deref().unwrap_or(&self.status)
    }
}

/// The names of a log's files by their day, those of a day in the order they were begun.
pub fn days(directory: &Path) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let names = Directory::new(directory)
        .days()
        .map_err(|error| Error::log(format!("{}: {error}", directory.display())))?;
    let mut days: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        days.entry(day(&name).to_owned()).or_default().push(name);
    }
    for names in days.values_mut() {
        // The first has no number, and is shorter than all others.
        names.sort_by_key(|name| (name.len(), name.clone()));
    }
    Ok(days)
}

/// The day of a file: the date in `audit_YYYY-MM-DD.jsonl`.
fn day(name: &str) -> &str {
    name.get("audit_".len().."audit_".len() + "YYYY-MM-DD".len())
        .unwrap_or_default()
}

/// Hands each whole line to `take`, without its line feed, and returns how many bytes they had.
pub fn each_line(mut source: impl BufRead, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut line = Vec::new();
    let mut taken = 0;
    loop {
        line.clear();
        let mut length = (&mut source)
            .take(LONGEST + 1)
            .read_until(b'\n', &mut line)? as u64;
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        if !whole {
            if length <= LONGEST {
                return Ok(taken);
            }
            length += source.skip_until(b'\n')? as u64;
        }
        taken += length;
        take(&line);
    }
}
