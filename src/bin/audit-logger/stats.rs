//! `stats`: what a log adds up to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use audit_logger::tool::Error;
use audit_logger::tool::source::{self, Directory};
use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::entries::Entry;
use crate::once::{Once, between};
use crate::output::{Output, Progress, plain};

/// How many rows are told apart, and how many of them have percentiles. What is in no row of its own is
/// in one for all of it.
const ROWS: usize = 1 << 15;
const WITH_LATENCIES: usize = 1 << 11;
const OTHERS: &str = "(others)";

/// How many classes of errors a row tells apart.
const CLASSES: usize = 64;

/// Names are cut here: an entry's are shorter, a stranger's may not be.
const LONGEST_NAME: usize = 512;

/// Adds up a log: calls, errors, tokens, cost, latency
///
/// Compressed days are read too. An entry that stands twice, because a disk had failed, counts once. Of
/// lines with one id that differ, the sealed one counts. What can't be read is left out, and named.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger stats audit_logs
  audit-logger stats audit_logs --from 2026-11-01 --to 2026-11-30 --by model
  audit-logger stats audit_logs --by user --json | jq '.groups[] | [.user, .cost]'

Latencies are those of all calls that have one, failed ones too, and right to within 1 %. Tokens and costs
are what providers reported; calls without are counted beside them.")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The first day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<NaiveDate>,
    /// The last day
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<NaiveDate>,
    /// What makes a row
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    Day,
    Model,
    User,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Day => "day",
            By::Model => "model",
            By::User => "user",
        }
    }
}

/// What some calls add up to.
struct Sums {
    calls: u64,
    errors: BTreeMap<String, u64>,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// Calls of which nobody knows the tokens.
    without_tokens: u64,
    cost: f64,
    without_cost: u64,
    /// In microseconds. It grows with the longest, not with the calls.
    latencies: Option<Histogram<u32>>,
}

impl Sums {
    fn new(with_latencies: bool) -> Result<Sums, Error> {
        let new = || Histogram::new(2).map_err(|error| Error::log(error.to_string()));
        let latencies = with_latencies.then(new).transpose()?;
        Ok(Sums {
            calls: 0,
            errors: BTreeMap::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            without_tokens: 0,
            cost: 0.0,
            without_cost: 0,
            latencies,
        })
    }

    fn add(&mut self, entry: &Entry) {
        self.calls += 1;
        if entry.status != "success" {
            self.add_error(cut(entry.outcome()));
        }
        let tokens = (entry.prompt_tokens.0, entry.completion_tokens.0);
        self.without_tokens += u64::from(tokens.0.is_none() || tokens.1.is_none());
        self.prompt_tokens = self.prompt_tokens.saturating_add(tokens.0.unwrap_or(0));
        self.completion_tokens = self.completion_tokens.saturating_add(tokens.1.unwrap_or(0));
        match entry.details.as_ref().and_then(|details| details.cost) {
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

    fn add_error(&mut self, class: &str) {
        let known = self.errors.contains_key(class) || self.errors.len() < CLASSES;
        let class = if known { class } else { OTHERS };
        *self.errors.entry(class.to_owned()).or_default() += 1;
    }

    fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The latency in milliseconds that this share of the calls didn't exceed.
    fn latency(&self, quantile: f64) -> Option<f64> {
        let latencies = self.latencies.as_ref().filter(|found| !found.is_empty())?;
        Some(latencies.value_at_quantile(quantile) as f64 / 1000.0)
    }

    fn cost(&self) -> Option<f64> {
        (self.without_cost < self.calls).then_some(self.cost)
    }

    fn json(&self) -> Value {
        json!({
            "calls": self.calls,
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

/// A log, added up.
struct Log<'a> {
    arguments: &'a Arguments,
    groups: BTreeMap<String, Sums>,
    total: Sums,
    /// Calls without an entry, which the log says there were.
    gaps: u64,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let files = source::open(&arguments.directory)?;
    let directory = Directory::new(&files, &|| false);
    let days = between(&directory, arguments.from, arguments.to)?;
    let mut once = Once::new(&directory);
    let mut log = Log {
        arguments,
        groups: BTreeMap::new(),
        total: Sums::new(true)?,
        gaps: 0,
    };
    let mut progress = Progress::new();
    let count = days.len() as u64;
    for (done, (day, files)) in (0..).zip(&days) {
        progress.show("adding up", done, count);
        once.day(day, files, |entry, line| log.add(day, entry, line.text))?;
    }
    drop(progress);
    if arguments.json {
        print_json(&log, &once, out);
    } else {
        print_table(&log, &once, out);
    }
    once.complain();
    Ok(())
}

/// The beginning of a name, if it's longer than any entry's.
fn cut(name: &str) -> &str {
    let end = name.char_indices().nth(LONGEST_NAME);
    end.map_or(name, |(end, _)| &name[..end])
}

impl Log<'_> {
    fn add(&mut self, day: &str, entry: &Entry, line: &[u8]) -> Result<(), Error> {
        if entry.event_type == "audit_gap" {
            self.gaps += Gap::parse(line).map_or(0, |gap| gap.metadata.calls);
            return Ok(());
        }
        self.total.add(entry);
        let group = match self.arguments.by {
            By::Day => day,
            By::Model => cut(&entry.model),
            By::User => cut(&entry.user_id),
        };
        let known = self.groups.contains_key(group);
        let group = match known || self.groups.len() < ROWS {
            true => group,
            false => OTHERS,
        };
        if !self.groups.contains_key(group) {
            let sums = Sums::new(self.groups.len() < WITH_LATENCIES)?;
            self.groups.insert(group.to_owned(), sums);
        }
        if let Some(sums) = self.groups.get_mut(group) {
            sums.add(entry);
        }
        Ok(())
    }
}

/// What is read of an entry that stands for calls without one.
#[derive(Deserialize)]
struct Gap {
    metadata: Calls,
}

#[derive(Deserialize)]
struct Calls {
    calls: u64,
}

impl Gap {
    fn parse(line: &[u8]) -> Option<Gap> {
        serde_json::from_slice(line).ok()
    }
}

/// Row by row: there may be many.
fn print_json(log: &Log, once: &Once, out: &mut Output) {
    let by = log.arguments.by;
    out.raw(b"{\"groups\":[");
    for (number, (name, sums)) in log.groups.iter().enumerate() {
        let mut json = sums.json();
        json[by.name()] = name.as_str().into();
        let comma = if number > 0 { "," } else { "" };
        out.raw(format!("{comma}{json}").as_bytes());
    }
    let left_out: Vec<&str> = once
        .left_out
        .kept
        .iter()
        .map(|left| &left.file[..])
        .collect();
    for (key, value) in [
        ("total", log.total.json()),
        ("gaps", log.gaps.into()),
        ("skipped_lines", once.skipped.into()),
        ("conflicts", once.conflicts.count.into()),
        ("left_out", left_out.into()),
    ] {
        let before = if key == "total" { "]," } else { "," };
        out.raw(format!("{before}\"{key}\":{value}").as_bytes());
    }
    out.raw_line(b"}");
}

fn print_table(log: &Log, once: &Once, out: &mut Output) {
    let total = &log.total;
    let heads = [
        log.arguments.by.name(),
        "calls",
        "errors",
        "prompt tokens",
        "completion tokens",
        "cost",
        "p50 ms",
        "p90 ms",
        "p99 ms",
    ];
    // Made twice, to know their widths: there may be many.
    let rows = || {
        let groups = log.groups.iter().map(|(name, sums)| row(name, sums));
        std::iter::once(heads.map(str::to_owned))
            .chain(groups)
            .chain([row("total", total)])
    };
    let mut widths = [0; 9];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows() {
        let cells = row.iter().zip(widths).skip(1);
        let numbers: String = cells
            .map(|(cell, width)| format!("  {cell:>width$}"))
            .collect();
        out.line(format_args!(
            "{:<width$}{numbers}",
            row[0],
            width = widths[0]
        ));
    }
    let mut errors: Vec<_> = total.errors.iter().collect();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    if !errors.is_empty() {
        out.line("\nerrors:");
    }
    for (class, count) in errors {
        out.line(format_args!("  {count:>7}  {}", plain(class)));
    }
    let notes = [
        (total.without_tokens, "calls have no token counts"),
        (total.without_cost, "calls have no cost"),
        (log.gaps, "calls have no entry: the log couldn't take them"),
        (once.skipped, "lines are no entries"),
        (
            once.conflicts.count,
            "lines have the id of another entry that counts",
        ),
        (once.left_out.count, "files can't be read, and are left out"),
    ];
    if notes.iter().any(|(count, _)| *count > 0) {
        out.line("");
    }
    for (count, what) in notes.into_iter().filter(|(count, _)| *count > 0) {
        out.line(format_args!("{count} {what}"));
    }
}

fn row(name: &str, sums: &Sums) -> [String; 9] {
    let latency = |quantile| match sums.latency(quantile) {
        Some(ms) => format!("{ms:.1}"),
        None => "-".to_owned(),
    };
    [
        plain(name).into_owned(),
        sums.calls.to_string(),
        sums.error_count().to_string(),
        sums.prompt_tokens.to_string(),
        sums.completion_tokens.to_string(),
        sums.cost()
            .map_or("-".to_owned(), |cost| format!("{cost:.4}")),
        latency(0.5),
        latency(0.9),
        latency(0.99),
    ]
}
