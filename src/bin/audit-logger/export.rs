//! `export`: a log in the words of others.

use std::path::PathBuf;

use audit_logger::tool::source::{self, Directory};
use audit_logger::tool::{Error, lines::Seen};
use chrono::NaiveDate;
use clap::Args;

use crate::condition::Where;
use crate::formats::{Format, Writer};
use crate::interrupt;
use crate::once::{Once, between};
use crate::output::{Output, complain};

/// Prints a log in a format that other programs take
///
/// Each entry once, in the order of the log, one a line: as spans of OpenTelemetry by its conventions for generative
/// AI (OTLP JSON), as API Activity of OCSF 1.9, as documents of the Elastic Common Schema, or as CSV. What a format
/// has no name for stands under names of our own. docs/reading.md has the tables.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger export audit_logs --format csv --from 2026-11-01 > november.csv
  audit-logger export audit_logs --format ocsf | gzip > activity.jsonl.gz
  audit-logger tail audit_logs -f --format otel    # goes on with what comes

Exit codes: 0 printed, 2 wrong usage, 3 the log can't be read, or a part of it was left out")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Which format
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The first day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::date)]
    from: Option<NaiveDate>,
    /// The last day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::date)]
    to: Option<NaiveDate>,
    #[command(flatten)]
    filter: Where,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let files = source::open(&arguments.directory)?;
    let interrupted = interrupt::watch()?;
    let directory = Directory::new(&files, &interrupted);
    let days = between(&directory, arguments.from, arguments.to)?;
    let writer = Writer::new(arguments.format, &directory);
    let mut log = Once::new(&directory, &days, "exporting");
    writer.begin(out);
    for (day, files) in &days.files {
        log.day(day, files, |entry, line: &Seen| {
            if arguments.filter.holds(entry) {
                writer.write(line.text, &line.digest(), out);
            }
            Ok(())
        })?;
        // Nobody reads any more.
        if !out.flush() {
            break;
        }
    }
    log.progress.end();
    log.complain();
    if log.skipped > 0 {
        complain(&format!("{} lines are no entries", log.skipped));
    }
    match log.left_out.count {
        0 => Ok(()),
        count => Err(Error::log(format!(
            "{count} files of the log were left out"
        ))),
    }
}
