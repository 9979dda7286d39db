//! `stats`: what a log adds up to.

use std::collections::{BTreeMap, HashSet};
use std::io::BufReader;
use std::path::PathBuf;

use audit_logger::tool::Error;
use audit_logger::tool::source::Directory;
use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::entries::{Entry, days, each_line};
use crate::output::{Output, Progress, plain};

/// Adds up a log: calls, errors, tokens, cost, latency
///
/// Compressed days are read too. An entry that stands twice, because a disk had failed, counts once.
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
    latencies: Histogram<u32>,
}

impl Sums {
    fn new() -> Result<Sums, Error> {
        let latencies = Histogram::new(2).map_err(|error| Error::log(error.to_string()))?;
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
            let class = entry.outcome().to_owned();
            *self.errors.entry(class).or_default() += 1;
        }
        let tokens = (
            entry.prompt_tokens.as_u64(),
            entry.completion_tokens.as_u64(),
        );
        self.without_tokens += u64::from(tokens.0.is_none() || tokens.1.is_none());
        self.prompt_tokens = self.prompt_tokens.saturating_add(tokens.0.unwrap_or(0));
        self.completion_tokens = self.completion_tokens.saturating_add(tokens.1.unwrap_or(0));
        match entry.details.as_ref().and_then(|details| details.cost) {
            Some(cost) => self.cost += cost,
            None => self.without_cost += 1,
        }
        if let Some(latency) = entry.latency_ms {
            // A day is the longest time that a call may take.
            let microseconds = (latency * 1000.0).clamp(0.0, 86_400e6) as u64;
            // It resizes itself, so nothing is out of its range.
            let _ = self.latencies.record(microseconds);
        }
    }

    fn merge(&mut self, other: &Sums) {
        self.calls += other.calls;
        for (class, count) in &other.errors {
            *self.errors.entry(class.clone()).or_default() += count;
        }
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self
            .completion_tokens
            .saturating_add(other.completion_tokens);
        self.without_tokens += other.without_tokens;
        self.cost += other.cost;
        self.without_cost += other.without_cost;
        let _ = self.latencies.add(&other.latencies);
    }

    fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The latency in milliseconds that this share of the calls didn't exceed.
    fn latency(&self, quantile: f64) -> Option<f64> {
        (!self.latencies.is_empty())
            .then(|| self.latencies.value_at_quantile(quantile) as f64 / 1000.0)
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
#[derive(Default)]
struct Log {
    groups: BTreeMap<String, Sums>,
    /// Calls without an entry, which the log says there were.
    gaps: u64,
    /// Lines that are no entries.
    skipped: u64,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let mut days = days(&arguments.directory)?;
    let within = |day: &String| {
        arguments.from.is_none_or(|from| *day >= from.to_string())
            && arguments.to.is_none_or(|to| *day <= to.to_string())
    };
    days.retain(|day, _| within(day));
    let mut log = Log::default();
    let mut progress = Progress::new();
    let count = days.len() as u64;
    for (done, (day, files)) in (0..).zip(&days) {
        progress.show("adding up", done, count);
        log.add_day(arguments, day, files)?;
    }
    drop(progress);
    let mut total = Sums::new()?;
    for sums in log.groups.values() {
        total.merge(sums);
    }
    if arguments.json {
        print_json(arguments.by, &log, &total, out);
    } else {
        print_table(arguments.by, &log, &total, out);
    }
    Ok(())
}

impl Log {
    /// Adds a day. Twins stand in further files of the same day, which are short or not there: so their
    /// ids are kept, and those of the first file aren't.
    fn add_day(&mut self, arguments: &Arguments, day: &str, files: &[String]) -> Result<(), Error> {
        let mut ids = HashSet::new();
        for (number, file) in files.iter().enumerate().rev() {
            let failed = |error| Error::log(format!("{file}: {error}"));
            let source = Directory::new(&arguments.directory)
                .day(file, 0)
                .map_err(failed)?;
            // It may have been removed since the directory was listed.
            let Some(source) = source else { continue };
            let mut added = Ok(());
            let source = BufReader::with_capacity(1 << 18, source);
            each_line(source, |line| {
                let Some(entry) = Entry::parse(line) else {
                    self.skipped += u64::from(!line.trim_ascii().is_empty());
                    return;
                };
                let twin = match number {
                    0 => ids.contains(&*entry.id),
                    _ => !ids.insert(entry.id.clone().into_owned()),
                };
                if !twin && added.is_ok() {
                    added = self.add(arguments.by, day, &entry, line);
                }
            })
            .map_err(failed)?;
            added?;
        }
        Ok(())
    }

    fn add(&mut self, by: By, day: &str, entry: &Entry, line: &[u8]) -> Result<(), Error> {
        if entry.event_type == "audit_gap" {
            let value: Value = serde_json::from_slice(line).unwrap_or_default();
            self.gaps += value["metadata"]["calls"].as_u64().unwrap_or(0);
            return Ok(());
        }
        let group = match by {
            By::Day => day,
            By::Model => &entry.model,
            By::User => &entry.user_id,
        };
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), Sums::new()?);
        }
        if let Some(sums) = self.groups.get_mut(group) {
            sums.add(entry);
        }
        Ok(())
    }
}

fn print_json(by: By, log: &Log, total: &Sums, out: &mut Output) {
    let groups = log.groups.iter().map(|(name, sums)| {
        let mut json = sums.json();
        json[by.name()] = name.as_str().into();
        json
    });
    let report = json!({
        "groups": groups.collect::<Vec<_>>(),
        "total": total.json(),
        "gaps": log.gaps,
        "skipped_lines": log.skipped,
    });
    out.raw_line(report.to_string().as_bytes());
}

fn print_table(by: By, log: &Log, total: &Sums, out: &mut Output) {
    let heads = [
        by.name(),
        "calls",
        "errors",
        "prompt tokens",
        "completion tokens",
        "cost",
        "p50 ms",
        "p90 ms",
        "p99 ms",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(log.groups.iter().map(|(name, sums)| row(name, sums)));
    rows.push(row("total", total));
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
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
        (log.skipped, "lines are no entries"),
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
