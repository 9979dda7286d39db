//! An entry in the words of others: each format is a table of what stands where.

mod csv;
mod ecs;
mod ocsf;
mod otel;

use audit_logger::tool::{pull, source::Directory, twins::Digest};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::output::{Output, hex};

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// OpenTelemetry: spans as OTLP JSON
    Otel,
    /// OCSF 1.9: API Activity
    Ocsf,
    /// Elastic Common Schema
    Ecs,
    /// For spreadsheets
    Csv,
}

/// Writes entries in a format.
pub struct Writer {
    format: Format,
    /// The log's name, if it is sealed.
    origin: Option<String>,
}

impl Writer {
    pub fn new(format: Format, directory: &Directory) -> Writer {
        /// A key is far shorter.
        const MOST: u64 = 4096;
        let vkey = directory.beginning("vkey", MOST).ok().flatten();
        let vkey = vkey.and_then(|key| String::from_utf8(key).ok());
        // It's of the form <name>+<id>+<key>, and no name has a plus sign.
        let origin = vkey.and_then(|key| Some(key.split_once('+')?.0.to_owned()));
        Writer { format, origin }
    }

    /// What stands before all entries.
    pub fn begin(&self, out: &mut Output) {
        if let Format::Csv = self.format {
            out.raw(csv::header().as_bytes());
        }
    }

    /// Writes the entry of a line that is one.
    pub fn write(&self, line: &[u8], digest: &Digest, out: &mut Output) {
        let entry = Entry {
            value: &read(line),
            line,
            digest: hex(digest),
            origin: self.origin.as_deref(),
        };
        let text = match self.format {
            Format::Otel => otel::span(&entry).to_string(),
            Format::Ocsf => ocsf::event(&entry).to_string(),
            Format::Ecs => ecs::document(&entry).to_string(),
            Format::Csv => return out.raw(csv::record(&entry).as_bytes()),
        };
        out.raw_line(text.as_bytes());
    }
}

/// Reads an object. Metadata stay a text: they can have numbers that nothing else holds. What else can't be held, in
/// lines by other programs, isn't there.
fn read(text: &[u8]) -> Value {
    let mut members = Map::new();
    // What is no object has no members.
    let _ = pull::object(text, |key, value| {
        let written = value.written()?;
        let value = match key {
            "metadata" if written != "null" => Some(written.into()),
            "details" => Some(read(written.as_bytes())),
            _ => serde_json::from_str(written).ok(),
        };
        members.extend(value.map(|value| (key.to_owned(), value)));
        Some(())
    });
    members.into()
}

/// An entry, and where it comes from.
pub struct Entry<'a> {
    value: &'a Value,
    line: &'a [u8],
    /// SHA-256 of the line, in hexadecimal.
    digest: String,
    origin: Option<&'a str>,
}

impl Entry<'_> {
    /// What stands at a place ("/details/cost"); null if nothing does.
    fn at(&self, place: &str) -> &Value {
        self.value.pointer(place).unwrap_or(&Value::Null)
    }

    /// A text; empty if there's none.
    fn text(&self, place: &str) -> &str {
        self.at(place).as_str().unwrap_or_default()
    }

    fn time(&self, place: &str) -> Option<DateTime<Utc>> {
        self.text(place).parse().ok()
    }

    /// When the call began and when it ended, in nanoseconds since 1970. An entry is stamped when it's written.
    fn span(&self) -> (i64, i64) {
        let nanoseconds = |time: DateTime<Utc>| time.timestamp_nanos_opt().unwrap_or_default();
        let took = (self.at("/latency_ms").as_f64().unwrap_or_default() * 1e6) as i64;
        let stamp = self.time("/timestamp").map_or(0, nanoseconds);
        match self.time("/details/started_at").map(nanoseconds) {
            Some(began) => (began, began.saturating_add(took)),
            None => (stamp.saturating_sub(took), stamp),
        }
    }

    fn is_error(&self) -> bool {
        self.text("/status") == "error"
    }

    /// Whether nobody knows what came of the call.
    fn is_unknown(&self) -> bool {
        self.text("/details/outcome") == "unknown" || self.text("/error_type") == "OutcomeUnknown"
    }

    /// What was done, as the conventions of OpenTelemetry call it, where they have a name for it.
    fn operation(&self) -> &str {
        match self.text("/event_type") {
            "chat_completion" => "chat",
            "embedding" | "embeddings" => "embeddings",
            other => other,
        }
    }

    /// Who answered, or was asked: the provider behind a router, else what stands before the slash of a model's name.
    fn provider(&self) -> &str {
        let model = self.text("/model").split_once('/');
        match (self.text("/details/provider"), model) {
            ("", Some((provider, _))) if !provider.is_empty() => provider,
            ("", _) => "unknown",
            (provider, _) => provider,
        }
    }
}

/// An object of those members that aren't null.
fn object<'k>(members: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        members
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}
