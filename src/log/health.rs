//! What an operator would alarm on: counted in each process, added up for the directory.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::clock::Timestamp;
use crate::json::Object;

/// Counters of one process, by their names in every report.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries appended.
    pub written: AtomicU64,
    /// Bytes of them.
    pub bytes: AtomicU64,
    /// Times that the log couldn't take an entry.
    pub failed: AtomicU64,
    /// Calls that went on without an entry.
    pub gaps: AtomicU64,
    /// Entries of calls that a process was killed in.
    pub recovered: AtomicU64,
    /// Torn lines that were written over with spaces.
    pub torn: AtomicU64,
    /// Times that the disk didn't confirm what was written.
    pub unconfirmed: AtomicU64,
    /// Lines that somebody changed before they were sealed.
    pub altered: AtomicU64,
}

/// The names of the counters, in the order of [`Counters::values`].
const NAMES: [&str; 8] = [
    "written",
    "bytes",
    "failed",
    "gaps",
    "recovered",
    "torn",
    "unconfirmed",
    "altered",
];

impl Counters {
    fn values(&self) -> Totals {
        Totals(
            [
                &self.written,
                &self.bytes,
                &self.failed,
                &self.gaps,
                &self.recovered,
                &self.torn,
                &self.unconfirmed,
                &self.altered,
            ]
            .map(|counter| counter.load(Ordering::Relaxed)),
        )
    }
}

/// The counters' values, of one process or of several.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Totals([u64; NAMES.len()]);

impl Totals {
    fn read(from: &Value) -> Totals {
        Totals(NAMES.map(|name| from[name].as_u64().unwrap_or_default()))
    }

    fn add(&mut self, other: Totals) {
        for (sum, value) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(value);
        }
    }

    fn write(self, to: &mut Object<'_>) {
        for (name, value) in NAMES.into_iter().zip(self.0) {
            to.json(name, value);
        }
    }
}

/// The state of one process's log.
#[derive(Debug)]
pub struct Health<'a> {
    /// What it counted.
    pub counters: &'a Counters,
    /// Entries that wait because the log couldn't take them.
    pub pending: usize,
    /// Those of them that a kill would lose, for the journal has no room.
    pub in_memory_only: usize,
    /// What went wrong last, and when.
    pub last_error: Option<(Timestamp, String)>,
}

impl Health<'_> {
    /// Writes it into a report.
    pub fn write(&self, to: &mut Object<'_>) {
        self.counters.values().write(to);
        to.json("pending", self.pending);
        to.json("in_memory_only", self.in_memory_only);
        write_error(
            to,
            self.last_error
                .as_ref()
                .map(|(time, message)| (time.to_string(), message.as_str())),
        );
    }
}

fn write_error(to: &mut Object<'_>, error: Option<(String, &str)>) {
    /// A journal's note has room for a page.
    const LONGEST: usize = 400;
    let Some((time, message)) = error else {
        return to.json("last_error", "null");
    };
    let end = message.char_indices().nth(LONGEST);
    let mut error = to.nested("last_error");
    error.text("time", &time);
    error.text(
        "message",
        &message[..end.map_or(message.len(), |(end, _)| end)],
    );
    error.end();
}

/// Adds the notes of living and dead processes to what `health.json` says, and returns its new
/// text. Its `past` holds what those that are gone had counted.
pub fn report(before: &str, now: &Timestamp, alive: &[String], dead: &[String]) -> Vec<u8> {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let before: Value = parse(before);
    let mut past = Totals::read(&before["past"]);
    let mut sum = Totals::default();
    let mut pending = 0;
    let mut last_error = latest(None, &before["last_error"]);
    let notes = |texts: &[String]| texts.iter().map(|text| parse(text)).collect::<Vec<Value>>();
    let (alive, dead) = (notes(alive), notes(dead));
    for note in &dead {
        past.add(Totals::read(note));
    }
    for note in &alive {
        sum.add(Totals::read(note));
        pending += note["pending"].as_u64().unwrap_or_default();
    }
    for note in alive.iter().chain(&dead) {
        last_error = latest(last_error, &note["last_error"]);
    }
    sum.add(past);

    let mut text = Vec::new();
    let mut to = Object::begin(&mut text);
    to.text("updated", &now.to_string());
    // A process that had to begin another journal names itself there alone.
    let processes = alive.iter().filter(|note| !note["pid"].is_null()).count();
    to.json("processes", processes);
    sum.write(&mut to);
    to.json("pending", pending);
    write_error(&mut to, last_error);
    let mut nested = to.nested("past");
    past.write(&mut nested);
    nested.end();
    to.end();
    text.push(b'\n');
    text
}

/// The later of two errors.
fn latest<'a>(known: Option<(String, &'a str)>, error: &'a Value) -> Option<(String, &'a str)> {
    let found = error["time"].as_str().zip(error["message"].as_str());
    match (known, found) {
        (Some(known), Some((time, message))) if known.0.as_str() < time => {
            Some((time.to_owned(), message))
        }
        (None, Some((time, message))) => Some((time.to_owned(), message)),
        (known, _) => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn what_the_dead_counted_stays_in_the_sum() {
        let now = Timestamp::of(UNIX_EPOCH);
        let note = |written: u64, time: &str| {
            format!(
                r#"{{"pid":1,"written":{written},"pending":1,"last_error":{{"time":"{time}","message":"m{written}"}}}}"#
            )
        };
        let first = report("", &now, &[note(5, "2"), note(7, "1")], &[]);
        let second = report(
            std::str::from_utf8(&first).unwrap(),
            &now,
            &[note(8, "1")],
            &[note(5, "2")],
        );
        let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
        let (first, second) = (read(&first), read(&second));
        assert_eq!(
            (&first["written"], &second["written"]),
            (&12.into(), &13.into())
        );
        assert_eq!(
            (&first["pending"], &second["pending"]),
            (&2.into(), &1.into())
        );
        assert_eq!(
            (&first["processes"], &second["processes"]),
            (&2.into(), &1.into())
        );
        assert_eq!(second["past"]["written"], 5);
        assert_eq!(second["last_error"]["message"], "m5");
    }
}
