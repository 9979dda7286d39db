//! `hold` and `release`: days that maintenance may not remove.

use std::path::PathBuf;

use audit_logger::tool::{Error, hold, release};
use clap::Args;
use serde_json::json;

use crate::maintain::Access;
use crate::output::Output;

/// Holds days of a log: no run of maintenance removes a file of theirs until the hold is released
///
/// It writes to the log: run it as the user that the log belongs to. The hold is recorded in the log's Merkle
/// tree, and verify shows it. Prints it as JSON, with its number, which release takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger hold audit_logs --from 2026-03-01 --to 2026-05-31 --reason 'case 4711'
  audit-logger release audit_logs --hold 1049 --reason 'case 4711 is closed'

Libraries before this one, which know no holds, refuse the directory from then on. Other tools, and rm, know
none either.

Exit codes: 0 done, 2 wrong usage, 3 the log isn't sealed, or can't be written to")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The first day (UTC)
    #[arg(long, value_name = "DATE")]
    from: String,
    /// The last day (UTC); it may be to come
    #[arg(long, value_name = "DATE")]
    to: String,
    /// Why: a text of at most 1,000 bytes, for whoever verifies the log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    access: Access,
}

/// Releases days of a log that are held
///
/// Where they have expired, maintenance marks them at its next run, and removes them a day later.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger release audit_logs --hold 1049 --reason 'case 4711 is closed'

Exit codes: 0 done, 2 there is no such hold, 3 the log isn't sealed, or can't be written to")]
pub struct ReleaseArguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The hold's number, as hold has printed it and verify shows it
    #[arg(long, value_name = "NUMBER")]
    hold: u64,
    /// Why: a text of at most 1,000 bytes, for whoever verifies the log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    access: Access,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let Arguments {
        directory,
        from,
        to,
        reason,
        access,
    } = arguments;
    out.raw_line(&hold(
        directory,
        &access.with(json!({}))?,
        from,
        to,
        reason,
    )?);
    Ok(())
}

pub fn run_release(arguments: &ReleaseArguments, out: &mut Output) -> Result<(), Error> {
    let access = arguments.access.with(json!({}))?;
    let released = release(
        &arguments.directory,
        &access,
        arguments.hold,
        &arguments.reason,
    )?;
    out.raw_line(&released);
    Ok(())
}
