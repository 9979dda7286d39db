//! The entries of a log, as the commands that show them read them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::{self, Read};

use audit_logger::tool::Error;
use audit_logger::tool::lines::{Lines, Seen};
use audit_logger::tool::name::DayName;
use audit_logger::tool::source::Directory;
use audit_logger::tool::twins::{Digest, Ids, sealed_among};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// How many lines of one id are told apart; of how many ids in all.
const VERSIONS: usize = 8;
const CONFLICTS: usize = 1 << 12;

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
    pub prompt_tokens: Tokens,
    pub completion_tokens: Tokens,
    #[serde(borrow)]
    pub details: Option<Details<'l>>,
}

#[derive(Deserialize)]
pub struct Details<'l> {
    pub cost: Option<f64>,
    #[serde(borrow)]
    outcome: Option<Outcome<'l>>,
}

/// How a call ended. Programs that log their own calls may put anything in its place.
#[derive(Deserialize)]
#[serde(untagged)]
enum Outcome<'l> {
    Named(#[serde(borrow)] Cow<'l, str>),
    Other(IgnoredAny),
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

    /// Whether nobody knows if it was processed, and billed.
    pub fn is_unknown(&self) -> bool {
        let details = self.details.as_ref();
        match details.and_then(|details| details.outcome.as_ref()) {
            Some(Outcome::Named(outcome)) => outcome == "unknown",
            Some(Outcome::Other(_)) | None => self.outcome() == "OutcomeUnknown",
        }
    }
}

/// A count of tokens, if it is one. Programs that log their own calls have put other things in its place.
#[derive(Clone, Copy)]
pub struct Tokens(pub Option<u64>);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tokens, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tokens;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_u64<E>(self, count: u64) -> Result<Tokens, E> {
                Ok(Tokens(Some(count)))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tokens, E> {
                Ok(Tokens(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tokens, E> {
                Ok(Tokens(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tokens, E> {
                Ok(Tokens(None))
            }
            fn visit_str<E>(self, _: &str) -> Result<Tokens, E> {
                Ok(Tokens(None))
            }
            fn visit_unit<E>(self) -> Result<Tokens, E> {
                Ok(Tokens(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tokens, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Tokens(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Tokens, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Tokens(None))
            }
        }
        from.deserialize_any(Any)
    }
}

/// The files of a log by their day, those of a day in the order they were begun.
pub fn days(directory: &Directory) -> Result<BTreeMap<String, Vec<DayName>>, Error> {
    let listing = directory
        .list()
        .map_err(|error| Error::log(format!("the log's directory: {error}")))?;
    let mut days: BTreeMap<String, Vec<DayName>> = BTreeMap::new();
    for listed in listing.days {
        let date = String::from_utf8_lossy(&listed.day.date).into_owned();
        days.entry(date).or_default().push(listed.day);
    }
    Ok(days)
}

/// Hands each whole line of a source that stands at `at` to `take`, and returns where the last one ended.
pub fn each_line(source: impl Read, at: u64, mut take: impl FnMut(&Seen)) -> io::Result<u64> {
    let mut lines = Lines::new(source, at);
    let mut taken = at;
    while let Some(line) = lines.next()? {
        if !line.closed {
            break;
        }
        taken = line.end + 1;
        take(&line);
    }
    Ok(taken)
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
