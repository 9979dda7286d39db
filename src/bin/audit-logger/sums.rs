//! What calls add up to, and by which of their names.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};

use audit_logger::tool::{Error, pull};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::entries::Entry;

/// How many rows are told apart, and how many of them have percentiles. What is in no row of its own is
/// in one for all of it.
const ROWS: usize = 1 << 15;
const WITH_LATENCIES: usize = 1 << 11;
pub const OTHERS: &str = "(others)";

/// How many classes of errors a row tells apart.
const CLASSES: usize = 64;

/// Names are cut here: an entry's are shorter, a stranger's may not be.
const LONGEST_NAME: usize = 512;

/// What some calls add up to.
pub struct Sums {
    pub calls: u64,
    /// Calls of which nobody knows whether they were processed.
    pub unknown: u64,
    pub errors: BTreeMap<String, u64>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Calls of which nobody knows the tokens.
    pub without_tokens: u64,
    cost: f64,
    pub without_cost: u64,
    /// In microseconds. It grows with the longest, not with the calls.
    latencies: Option<Histogram<u32>>,
}

impl Sums {
    pub fn new(with_latencies: bool) -> Result<Sums, Error> {
        let new = || Histogram::new(2).map_err(|error| Error::log(error.to_string()));
        let latencies = with_latencies.then(new).transpose()?;
        Ok(Sums {
            calls: 0,
            unknown: 0,
            errors: BTreeMap::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            without_tokens: 0,
            cost: 0.0,
            without_cost: 0,
            latencies,
        })
    }

    pub fn add(&mut self, entry: &Entry) {
        self.calls += 1;
        self.unknown += u64::from(entry.is_unknown());
        if entry.status != "success" {
            self.add_errors(cut(entry.outcome()), 1);
        }
        let tokens = (entry.prompt_tokens, entry.completion_tokens);
        self.without_tokens += u64::from(tokens.0.is_none() || tokens.1.is_none());
        self.prompt_tokens = self.prompt_tokens.saturating_add(tokens.0.unwrap_or(0));
        self.completion_tokens = self.completion_tokens.saturating_add(tokens.1.unwrap_or(0));
        match entry.cost {
            Some(cost) => self.cost += cost,
            None => self.without_cost += 1,
        }
        if let (Some(latency), Some(latencies)) = (entry.latency_ms, &mut self.latencies) {
            // A day is the longest time that a call may take.
            let microseconds = (latency * 1000.0).clamp(0.0, 86_400e6) as u64;
            // It resizes itself, so nothing is out of its range.
            let _ = latencies.record(microseconds);
        }
    }

    /// Adds what other calls add up to. There are latencies of all of them, or of none.
    pub fn merge(&mut self, other: &Sums) {
        self.calls += other.calls;
        self.unknown += other.unknown;
        for (class, count) in &other.errors {
            self.add_errors(class, *count);
        }
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self
            .completion_tokens
            .saturating_add(other.completion_tokens);
        self.without_tokens += other.without_tokens;
        self.cost += other.cost;
        self.without_cost += other.without_cost;
        let latencies = self.latencies.take().zip(other.latencies.as_ref());
        // They resize themselves, so nothing is out of their range.
        self.latencies = latencies.and_then(|(mut all, more)| all.add(more).is_ok().then_some(all));
    }

    fn add_errors(&mut self, class: &str, count: u64) {
        let known = self.errors.contains_key(class) || self.errors.len() < CLASSES;
        let class = if known { class } else { OTHERS };
        *self.errors.entry(class.to_owned()).or_default() += count;
    }

    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The latency in milliseconds that this share of the calls didn't exceed.
    pub fn latency(&self, quantile: f64) -> Option<f64> {
        let latencies = self.latencies.as_ref().filter(|found| !found.is_empty())?;
        Some(latencies.value_at_quantile(quantile) as f64 / 1000.0)
    }

    pub fn cost(&self) -> Option<f64> {
        (self.without_cost < self.calls).then_some(self.cost)
    }

    pub fn json(&self) -> Value {
        json!({
            "calls": self.calls,
            "unknown_outcomes": self.unknown,
            "errors": self.error_count(),
            "errors_by_type": self.errors,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "calls_without_tokens": self.without_tokens,
            "cost": self.cost(),
            "calls_without_cost": self.without_cost,
            "latency_ms": {
                "p50": self.latency(0.5),
                "p90": self.latency(0.9),
                "p99": self.latency(0.99),
            },
        })
    }
}

/// What calls add up to by one of their names.
#[derive(Default)]
pub struct Groups(HashMap<String, Sums>);

impl Groups {
    /// Adds a call to the group of this name.
    pub fn add(&mut self, name: &str, entry: &Entry) -> Result<(), Error> {
        let name = cut(name);
        if let Some(sums) = self.0.get_mut(name) {
            sums.add(entry);
            return Ok(());
        }
        let count = self.0.len();
        let name = if count < ROWS { name } else { OTHERS };
        let sums = match self.0.entry(name.to_owned()) {
            Vacant(vacant) => vacant.insert(Sums::new(count < WITH_LATENCIES)?),
            Occupied(others) => others.into_mut(),
        };
        sums.add(entry);
        Ok(())
    }

    /// The groups in the order of their names.
    pub fn sorted(&self) -> Vec<(&str, &Sums)> {
        let mut groups: Vec<_> = self
            .0
            .iter()
            .map(|(name, sums)| (&name[..], sums))
            .collect();
        groups.sort_unstable_by_key(|(name, _)| *name);
        groups
    }
}

/// The beginning of a name, if it's longer than any entry's.
fn cut(name: &str) -> &str {
    let end = name.char_indices().nth(LONGEST_NAME);
    end.map_or(name, |(end, _)| &name[..end])
}

/// How many calls without an entry an entry stands for; `None` if it stands for a call.
pub fn gap(entry: &Entry, line: &[u8]) -> Option<u64> {
    if entry.event_type != "audit_gap" {
        return None;
    }
    let mut calls = None;
    let read = pull::object(line, |key, value| match key {
        "metadata" => value.object(|key, value| match key {
            "calls" => value
                .number()?
                .parse()
                .ok()
                .map(|count| calls = Some(count)),
            _ => value.skip(),
        }),
        _ => value.skip(),
    });
    Some(read.and(calls).unwrap_or(0))
}
