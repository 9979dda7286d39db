//! `stats`: what a log adds up to.

use std::path::PathBuf;

use audit_logger::tool::Error;
use audit_logger::tool::source::{self, Directory};
use chrono::NaiveDate;
use clap::{Args, ValueEnum};

use crate::entries::Entry;
use crate::interrupt;
use crate::once::{Once, between};
use crate::output::{Output, Progress, plain};
use crate::sums::{Groups, Sums, gap};

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

/// A log, added up.
struct Log<'a> {
    arguments: &'a Arguments,
    groups: Groups,
    total: Sums,
    /// Calls without an entry, which the log says there were.
    gaps: u64,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let files = source::open(&arguments.directory)?;
    let interrupted = interrupt::watch()?;
    let directory = Directory::new(&files, &interrupted);
    let days = between(&directory, arguments.from, arguments.to)?;
    let mut once = Once::new(&directory);
    let mut log = Log {
        arguments,
        groups: Groups::default(),
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

impl Log<'_> {
    fn add(&mut self, day: &str, entry: &Entry, line: &[u8]) -> Result<(), Error> {
        if let Some(calls) = gap(entry, line) {
            self.gaps += calls;
            return Ok(());
        }
        self.total.add(entry);
        let group = match self.arguments.by {
            By::Day => day,
            By::Model => &entry.model,
            By::User => &entry.user_id,
        };
        self.groups.add(group, entry)
    }
}

/// Row by row: there may be many.
fn print_json(log: &Log, once: &Once, out: &mut Output) {
    let by = log.arguments.by;
    out.raw(b"{\"groups\":[");
    for (number, (name, sums)) in log.groups.0.iter().enumerate() {
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
        let groups = log.groups.0.iter().map(|(name, sums)| row(name, sums));
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
        (
            total.unknown,
            "calls have an unknown outcome: they may have been processed and billed",
        ),
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
