//! The entries of a log, as the commands that show them read them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};

use audit_logger::tool::Error;
use audit_logger::tool::lines::{Lines, Seen};
use audit_logger::tool::name::DayName;
use audit_logger::tool::source::Directory;
use audit_logger::tool::twins::{Digest, Ids, sealed_among};
use audit_logger::tool::{layout::Layouts, pull};

/// How many lines of one id are told apart; of how many ids in all.
const VERSIONS: usize = 8;
const CONFLICTS: usize = 1 << 12;

/// What is read of an entry.
pub struct Entry<'l> {
    pub id: Cow<'l, str>,
    pub timestamp: Cow<'l, str>,
    pub event_type: Cow<'l, str>,
    pub user_id: Cow<'l, str>,
    pub model: Cow<'l, str>,
    pub status: Cow<'l, str>,
    pub error_type: Option<Cow<'l, str>>,
    pub latency_ms: Option<f64>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub cost: Option<f64>,
    /// How the call ended.
    pub outcome: Option<Cow<'l, str>>,
}

thread_local! {
    static LAYOUTS: RefCell<Layouts<12>> = RefCell::new(Layouts::new([
        &["id"],
        &["timestamp"],
        &["event_type"],
        &["user_id"],
        &["model"],
        &["status"],
        &["error_type"],
        &["latency_ms"],
        &["prompt_tokens"],
        &["completion_tokens"],
        &["details", "cost"],
        &["details", "outcome"],
    ]));
}

impl<'l> Entry<'l> {
    /// Reads a line; `None` if it's blank, torn, or no entry. Programs that log their own calls have put other things
    /// than numbers in the place of one: they say nothing.
    pub fn parse(line: &'l [u8]) -> Option<Entry<'l>> {
        let [
            id,
            timestamp,
            event_type,
            user_id,
            model,
            status,
            error_type,
            latency_ms,
            prompt_tokens,
            completion_tokens,
            cost,
            outcome,
        ] = LAYOUTS.with_borrow_mut(|layouts| layouts.read(line))?;
        Some(Entry {
            id: pull::text(id?)?,
            timestamp: pull::text(timestamp?)?,
            event_type: pull::text(event_type?)?,
            user_id: pull::text(user_id?)?,
            model: pull::text(model?)?,
            status: pull::text(status?)?,
            error_type: error_type.and_then(pull::text),
            latency_ms: latency_ms.and_then(double),
            prompt_tokens: prompt_tokens?.parse().ok(),
            completion_tokens: completion_tokens?.parse().ok(),
            cost: cost.and_then(double),
            outcome: outcome.and_then(pull::text),
        })
    }

    /// "success", or the class of the error.
    pub fn outcome(&self) -> &str {
        self.error_type.as_deref().unwrap_or(&self.status)
    }

    /// Whether nobody knows if it was processed, and billed.
    pub fn is_unknown(&self) -> bool {
        match &self.outcome {
            Some(outcome) => outcome == "unknown",
            None => self.outcome() == "OutcomeUnknown",
        }
    }
}

/// A number that a double holds.
fn double(written: &str) -> Option<f64> {
    written
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

/// The files of a log.
pub struct Days {
    /// By their day, those of a day in the order they were begun.
    pub files: BTreeMap<String, Vec<DayName>>,
    /// There are more than that.
    pub too_many: bool,
}

/// The files of the log in a directory.
pub fn days(directory: &Directory) -> Result<Days, Error> {
    let listing = directory
        .list()
        .map_err(|error| Error::log(format!("the log's directory: {error}")))?;
    let mut files: BTreeMap<String, Vec<DayName>> = BTreeMap::new();
    for listed in listing.days {
        let date = String::from_utf8_lossy(&listed.day.date).into_owned();
        files.entry(date).or_default().push(listed.day);
    }
    let too_many = listing.too_many;
    Ok(Days { files, too_many })
}

/// Where the whole lines of a source end.
pub struct Ended {
    /// The place behind the last one.
    pub at: u64,
    /// What stands there isn't a line yet, or not any more.
    pub is_cut: bool,
}

/// Hands each whole line of a source that stands at `at` to `take`.
pub fn each_line(source: impl Read, at: u64, mut take: impl FnMut(&Seen)) -> io::Result<Ended> {
    let mut lines = Lines::new(source, at);
    let mut ended = Ended { at, is_cut: false };
    while let Some(line) = lines.next()? {
        if !line.closed {
            ended.is_cut = !line.is_blank();
            break;
        }
        ended.at = line.end + 1;
        take(&line);
    }
    Ok(ended)
}

/// The lines of entries whose id comes more than once, told apart.
#[derive(Default)]
pub struct Versions {
    /// Of each id the lines by their digests, in the order they were met.
    by_id: HashMap<u64, Vec<Digest>>,
    /// How many ids have several.
    conflicts: usize,
    oldest: Option<String>,
}

impl Versions {
    /// Takes a line into account.
    pub fn add(&mut self, id: u64, digest: Digest, timestamp: &str) {
        let known = self.by_id.entry(id).or_default();
        if known.contains(&digest) || known.len() == VERSIONS {
            return;
        }
        if known.len() == 1 {
            if self.conflicts == CONFLICTS {
                return;
            }
            self.conflicts += 1;
        }
        known.push(digest);
        if self
            .oldest
            .as_deref()
            .is_none_or(|oldest| timestamp < oldest)
        {
            self.oldest = Some(timestamp.chars().take(64).collect());
        }
    }

    /// Of each id the one line that counts: that which is sealed, else the first.
    pub fn decide(mut self, directory: &Directory) -> Result<HashMap<u64, Digest>, Error> {
        let several = self.by_id.values().filter(|known| known.len() > 1);
        let digests: HashSet<Digest> = several.flatten().copied().collect();
        if !digests.is_empty() {
            let oldest = self.oldest.take().unwrap_or_default();
            let sealed = sealed_among(directory, &digests, &oldest)?;
            for known in self.by_id.values_mut() {
                known.sort_by_key(|digest| !sealed.contains(digest));
            }
        }
        let first = |(id, known): (u64, Vec<Digest>)| Some((id, *known.first()?));
        Ok(self.by_id.into_iter().filter_map(first).collect())
    }
}

/// The key of a line's id, and its digest.
pub fn key(ids: &Ids, line: &Seen) -> Option<(u64, Digest)> {
    Some((ids.of(line.text)?, line.digest()))
}
