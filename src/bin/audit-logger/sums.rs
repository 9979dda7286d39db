//! What calls add up to, and by which of their names.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use audit_logger::tool::{Error, pull};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::entries::Entry;
use crate::output::hex;

/// How many rows are told apart, and how many of them have percentiles. What is in no row of its own is
/// in one for all of it.
const ROWS: usize = 1 << 15;
const WITH_LATENCIES: usize = 1 << 11;
pub const OTHERS: &str = "(others)";

/// How many classes of errors are told apart.
const CLASSES: usize = 64;

/// So many characters are kept of a name.
const LONGEST_NAME: usize = 512;

/// The longest latency that is told from longer ones, in microseconds: a hundred days.
const LONGEST_LATENCY: f64 = 8.64e12;

/// A call, as it's added to whatever it belongs to.
pub struct Call<'e> {
    entry: &'e Entry<'e>,
    /// The class of its error, if it failed.
    class: Option<Rc<str>>,
}

/// The classes of errors that are told apart: those met first, each once in memory however many rows have it.
#[derive(Default)]
pub struct Classes(BTreeSet<Rc<str>>);

impl Classes {
    /// The call that an entry is of.
    pub fn call<'e>(&mut self, entry: &'e Entry<'e>) -> Call<'e> {
        let class = (entry.status != "success").then(|| self.class(&kept(entry.outcome())));
        Call { entry, class }
    }

    fn class(&mut self, name: &str) -> Rc<str> {
        match self.0.get(name) {
            Some(known) => Rc::clone(known),
            None if self.0.len() >= CLASSES && name != OTHERS => self.class(OTHERS),
            None => {
                let class: Rc<str> = name.into();
                self.0.insert(Rc::clone(&class));
                class
            }
        }
    }
}

/// What some calls add up to.
pub struct Sums {
    pub calls: u64,
    /// Calls of which nobody knows whether they were processed.
    pub unknown: u64,
    pub errors: BTreeMap<Rc<str>, u64>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Calls of which nobody knows the tokens.
    pub without_tokens: u64,
    cost: f64,
    pub without_cost: u64,
    /// In microseconds. It grows with the longest, not with the calls.
    latencies: Option<Histogram<u32>>,
    /// The longest of them: a histogram only knows what it's near to.
    longest: u64,
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
            longest: 0,
        })
    }

    pub fn add(&mut self, call: &Call) {
        let entry = call.entry;
        self.calls += 1;
        self.unknown += u64::from(entry.is_unknown());
        if let Some(class) = &call.class {
            self.add_errors(class, 1);
        }
        let tokens = (entry.prompt_tokens, entry.completion_tokens);
        self.without_tokens += u64::from(tokens.0.is_none() || tokens.1.is_none());
        self.prompt_tokens = self.prompt_tokens.saturating_add(tokens.0.unwrap_or(0));
        self.completion_tokens = self.completion_tokens.saturating_add(tokens.1.unwrap_or(0));
        match entry.cost {
            Some(cost) => self.add_cost(cost),
            None => self.without_cost += 1,
        }
        if let (Some(latency), Some(latencies)) = (entry.latency_ms, &mut self.latencies) {
            let microseconds = (latency * 1000.0).round().clamp(0.0, LONGEST_LATENCY) as u64;
            // It resizes itself, so nothing is out of its range.
            let _ = latencies.record(microseconds);
            self.longest = self.longest.max(microseconds);
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
        self.add_cost(other.cost);
        self.without_cost += other.without_cost;
        self.longest = self.longest.max(other.longest);
        let latencies = self.latencies.take().zip(other.latencies.as_ref());
        // They resize themselves, so nothing is out of their range.
        self.latencies = latencies.and_then(|(mut all, more)| all.add(more).is_ok().then_some(all));
    }

    /// Costs that no call has may add up to more than a double holds.
    fn add_cost(&mut self, cost: f64) {
        self.cost = (self.cost + cost).clamp(f64::MIN, f64::MAX);
    }

    fn add_errors(&mut self, class: &Rc<str>, count: u64) {
        *self.errors.entry(Rc::clone(class)).or_default() += count;
    }

    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The latency in milliseconds that this share of the calls didn't exceed.
    pub fn latency(&self, quantile: f64) -> Option<f64> {
        let latencies = self.latencies.as_ref().filter(|found| !found.is_empty())?;
        let found = latencies.value_at_quantile(quantile).min(self.longest);
        Some(found as f64 / 1000.0)
    }

    pub fn cost(&self) -> Option<f64> {
        (self.without_cost < self.calls).then_some(self.cost)
    }

    pub fn json(&self) -> Value {
        let errors = self.errors.iter();
        let errors = errors.map(|(class, count)| (class.to_string(), Value::from(*count)));
        json!({
            "calls": self.calls,
            "unknown_outcomes": self.unknown,
            "errors": self.error_count(),
            "errors_by_type": errors.collect::<Map<_, _>>(),
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
pub struct Groups {
    named: HashMap<String, Sums>,
    /// Those whose names were met when there were enough.
    pub others: Option<Sums>,
}

impl Groups {
    /// Adds a call to the group of this name.
    pub fn add(&mut self, name: &str, call: &Call) -> Result<(), Error> {
        let name = kept(name);
        let count = self.named.len();
        let sums = match self.named.get_mut(&*name) {
            Some(sums) => sums,
            None if count < ROWS => {
                let sums = Sums::new(count < WITH_LATENCIES)?;
                self.named.entry(name.into_owned()).or_insert(sums)
            }
            None => self.others.get_or_insert(Sums::new(false)?),
        };
        sums.add(call);
        Ok(())
    }

    /// The groups in the order of their names, but for the others.
    pub fn sorted(&self) -> Vec<(&str, &Sums)> {
        let named = self.named.iter();
        let mut groups: Vec<_> = named.map(|(name, sums)| (&name[..], sums)).collect();
        groups.sort_unstable_by_key(|(name, _)| *name);
        groups
    }
}

/// What is kept of a name: of a long one its beginning, and what tells it from others that begin so.
fn kept(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(LONGEST_NAME) {
        None => name.into(),
        Some((end, _)) => {
            let digest = hex(&Sha256::digest(name)[..8]);
            format!("{}\u{2026} ({digest})", &name[..end]).into()
        }
    }
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
