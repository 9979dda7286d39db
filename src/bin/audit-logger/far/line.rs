//! What a line that no log has sealed, or that came again, says of itself.

use std::borrow::Cow;
use std::time::SystemTime;

use audit_logger::tool::far::LATE;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::Deserialize;

/// What a line says; nothing if it's no entry.
#[derive(Default)]
pub struct Line {
    pub host: String,
    pub day: String,
    pub id: String,
    pub timestamp: String,
}

/// What a line that isn't sealed can be, by the time that it says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Written since its log was last sealed.
    Unsealed,
    /// Written while that was done, or left to the next time.
    Recent,
    /// To be sealed by then: its log has left it out, or somebody has put it in.
    Overdue,
    /// No entry that a log can have.
    Unknown,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Standing::Unsealed | Standing::Recent => "unsealed",
            Standing::Overdue => "overdue",
            Standing::Unknown => "unknown",
        }
    }
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
    pub fn read(line: &[u8]) -> Line {
        let named: Named<'_> = serde_json::from_slice(line).unwrap_or_default();
        let day = stamp(&named.timestamp).map(|time| time.format("%Y-%m-%d").to_string());
        Line {
            host: named
                .details
                .map(|details| details.host.into_owned())
                .unwrap_or_default(),
            day: day.unwrap_or_default(),
            id: named.id.into_owned(),
            timestamp: named.timestamp.into_owned(),
        }
    }

    /// What it can be when its log, which hasn't sealed it, was last sealed at that time. A line is stamped just
    /// before it's written, and then sealed with all that stands before it.
    pub fn standing(&self, last_seal: &str) -> Standing {
        /// No clock is to be further ahead.
        const AHEAD: TimeDelta = TimeDelta::minutes(5);
        let now = DateTime::<Utc>::from(SystemTime::now());
        let late = TimeDelta::from_std(LATE).unwrap_or(TimeDelta::MAX);
        match (stamp(&self.timestamp), stamp(last_seal)) {
            (Some(own), Some(last)) if own <= now + AHEAD => match last - own {
                before if before > late => Standing::Overdue,
                before if before >= TimeDelta::zero() => Standing::Recent,
                _ => Standing::Unsealed,
            },
            _ => Standing::Unknown,
        }
    }
}

/// A time, in the one form that entries and records have it in.
pub fn stamp(text: &str) -> Option<DateTime<Utc>> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.6fZ").ok()?;
    (text.len() == "2026-11-27T00:00:00.000000Z".len()).then(|| time.and_utc())
}
