//! `stats`: what a log adds up to.

use std::borrow::Cow;
use std::path::PathBuf;

use audit_logger::tool::Error;
use audit_logger::tool::source::{self, Directory};
use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::condition::Where;
use crate::entries::Entry;
use crate::interrupt;
use crate::numbers::cost_decimals;
use crate::once::{Once, add_up, between};
use crate::output::{Output, plain};
use crate::sums::{Classes, Groups, OTHERS, Sums, gap};

/// Adds up a log: calls, errors, tokens, cost, latency
///
/// Compressed days are read too. An entry that stands twice, because a disk had failed, counts once. Of
/// lines with one id that differ, the sealed one counts. What can't be read is left out, and named.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger stats audit_logs
  audit-logger stats audit_logs --from 2026-11-01 --to 2026-11-30 --by model
  audit-logger stats audit_logs --by hour --where model=openai/gpt-4o --where 'latency_ms>1000'
  audit-logger stats audit_logs --by user --json | jq '.groups[] | [.user, .cost]'

Latencies are those of all calls that have one, failed ones too, and right to within 1 % or a
microsecond. Tokens and costs
are what providers reported; calls without are counted beside them.")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The first day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::date)]
    from: Option<NaiveDate>,
    /// The last day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::date)]
    to: Option<NaiveDate>,
    #[command(flatten)]
    filter: Where,
    /// What makes a row
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// By the hour of the entry's timestamp (UTC)
    Hour,
    /// By the day of its file
    Day,
    Model,
    User,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Hour => "hour",
            By::Day => "day",
            By::Model => "model",
            By::User => "user",
        }
    }
}

/// A log, added up.
struct Log<'a> {
    arguments: &'a Arguments,
    classes: Classes,
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
    let begin = || {
        Ok(Log {
            arguments,
            classes: Classes::default(),
            groups: Groups::default(),
            total: Sums::new(true)?,
            gaps: 0,
        })
    };
    let (log, once) = add_up(&directory, &days, begin, |log, day, entry, line| {
        log.add(day, entry, line.text)
    })?;
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
            self.gaps = self.gaps.saturating_add(calls);
            return Ok(());
        }
        if !self.arguments.filter.holds(entry) {
            return Ok(());
        }
        let call = self.classes.call(entry);
        self.total.add(&call);
        let group = match self.arguments.by {
            By::Hour => entry.timestamp.get(..13).unwrap_or(&entry.timestamp),
            By::Day => day,
            By::Model => &entry.model,
            By::User => &entry.user_id,
        };
        self.groups.add(group, &call)
    }
}

/// Row by row: there may be many.
fn print_json(log: &Log, once: &Once, out: &mut Output) {
    let by = log.arguments.by;
    out.raw(b"{\"groups\":[");
    let named = log.groups.sorted().into_iter();
    let named = named.map(|(name, sums)| (Some(name), sums));
    let others = log.groups.others.iter().map(|sums| (None, sums));
    for (number, (name, sums)) in named.chain(others).enumerate() {
        let mut json = sums.json();
        json[by.name()] = name.into();
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
    let mut groups = log.groups.sorted();
    groups.extend(log.groups.others.iter().map(|sums| (OTHERS, sums)));
    // Made twice, to know their widths: there may be many.
    let rows = || {
        let groups = groups.iter().map(|(name, sums)| row(name, sums));
        std::iter::once(heads.map(str::to_owned))
            .chain(groups)
            .chain([row("total", total)])
    };
    let mut widths = [0; 9];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = cell.width().max(*width);
        }
    }
    let hidden = fit(&mut widths, out.columns());
    for row in rows() {
        let name = shortened(&row[0], widths[0]);
        let padding = " ".repeat(widths[0] - name.width());
        let cells = row.iter().zip(widths).skip(1);
        let shown = cells.filter(|(_, width)| *width > 0);
        let numbers: String = shown
            .map(|(cell, width)| format!("  {cell:>width$}"))
            .collect();
        out.line(format_args!("{name}{padding}{numbers}"));
    }
    if hidden > 0 {
        out.line(format_args!(
            "\n{hidden} columns have no room here; a wider terminal, a pipe or --json shows them"
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

/// Makes columns fit: the names' gets narrower, and those that say least go, as 0. Returns how many went.
fn fit(widths: &mut [usize; 9], columns: Option<usize>) -> usize {
    /// The percentiles between, the tokens, the last percentile, the cost.
    const FIRST_TO_GO: [usize; 6] = [7, 6, 4, 3, 8, 5];
    const NARROWEST_NAME: usize = 16;
    let Some(columns) = columns else {
        return 0;
    };
    let mut hidden = 0;
    loop {
        let others = widths.iter().skip(1).filter(|width| **width > 0);
        let others: usize = others.map(|width| width + 2).sum();
        let room = columns.saturating_sub(others);
        if widths[0] <= room || room >= NARROWEST_NAME || hidden == FIRST_TO_GO.len() {
            widths[0] = widths[0].min(room.max(NARROWEST_NAME));
            return hidden;
        }
        widths[FIRST_TO_GO[hidden]] = 0;
        hidden += 1;
    }
}

/// A name in so many columns of a terminal.
fn shortened(name: &str, columns: usize) -> Cow<'_, str> {
    if name.width() <= columns {
        return name.into();
    }
    let mut taken = 0;
    let fits = name.chars().take_while(|c| {
        taken += c.width().unwrap_or(0);
        taken < columns
    });
    fits.chain(['…']).collect::<String>().into()
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
        sums.cost().map_or("-".to_owned(), |cost| {
            format!("{cost:.*}", cost_decimals(cost))
        }),
        latency(0.5),
        latency(0.9),
        latency(0.99),
    ]
}
