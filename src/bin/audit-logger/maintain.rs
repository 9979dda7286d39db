//! `maintain`: compresses old days, and removes those that have expired.

use std::path::PathBuf;

use audit_logger::tool::{Error, Maintenance, maintain};
use clap::Args;
use serde_json::{Value, json};

use crate::interrupt;
use crate::output::{Output, Progress};

/// Compresses the days of a log that are over, and removes those that have expired
///
/// It writes to the log: run it as the user that the log belongs to. Prints what was done, as JSON.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger maintain audit_logs --compress-after-days 7 --retention-days 365
  17 3 * * *  audit-logger maintain /var/lib/myservice/audit_logs --compress-after-days 7    # cron

An expired day is marked, and removed by a run at least 24 hours later: a clock that is wrong once removes
nothing.

Exit codes: 0 done, 2 wrong usage, 3 the log can't be written to, or something failed and the rest was done")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Remove days that have been over for so long; without it none
    #[arg(long, value_name = "N", value_parser = days())]
    retention_days: Option<i64>,
    /// Let it be less than 183 days: six months, which laws ask of some logs at least
    #[arg(long, requires = "retention_days")]
    below_floor: bool,
    /// Compress days that have been over for so long; without it none
    #[arg(long, value_name = "N", value_parser = days())]
    compress_after_days: Option<i64>,
    #[command(flatten)]
    access: Access,
}

/// What a log is changed with.
#[derive(Args)]
pub struct Access {
    /// The private key of a log that isn't sealed with its own
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The guard file of a log that has one
    #[arg(long, value_name = "FILE")]
    guard: Option<PathBuf>,
    /// The log may be on a network file system
    #[arg(long)]
    allow_network_filesystem: bool,
}

impl Access {
    /// Maintenance with it, and these options.
    pub fn with(&self, mut options: Value) -> Result<Maintenance, Error> {
        options["key_file"] = json!(self.key);
        options["guard_file"] = json!(self.guard);
        options["allow_network_filesystem"] = json!(self.allow_network_filesystem);
        if let Some(options) = options.as_object_mut() {
            options.retain(|_, value| !value.is_null());
        }
        Maintenance::parse(Some(&options.to_string()))
    }
}

fn days() -> clap::builder::RangedI64ValueParser {
    clap::value_parser!(i64).range(1..=36_500)
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let wanted = arguments.access.with(json!({
        "retention_days": arguments.retention_days,
        "below_floor": arguments.below_floor,
        "compress_after_days": arguments.compress_after_days,
    }))?;
    let mut progress = Progress::new();
    let mut show = |done, of| progress.show("compressing", done, of);
    let interrupted = interrupt::watch()?;
    let done = maintain(&arguments.directory, &wanted, &mut show, &interrupted);
    drop(progress);
    let (report, ended) = done?;
    out.raw_line(&report);
    ended
}
