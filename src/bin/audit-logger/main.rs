//! Looks into audit logs from a terminal or a script: verifies them, proves entries, makes keys,
//! follows them, adds them up, makes a page of them, looks after their old days, and holds some. Only what does the last two
//! needs other rights than reading; for the rest a copy of a log will do.

#![forbid(unsafe_code)]
#![deny(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod bundle;
mod condition;
mod digests;
mod entries;
mod export;
mod far;
mod formats;
mod hold;
mod interrupt;
mod keygen;
mod maintain;
mod man;
mod numbers;
mod once;
mod output;
mod prove;
mod receipt;
mod report;
mod schema;
mod stamp;
mod stamped;
mod stats;
mod sums;
mod tail;
mod timestamp;
mod verify;

use std::process::ExitCode;

use audit_logger::tool::{Error, Status};
use chrono::NaiveDate;
use clap::{CommandFactory, Parser, Subcommand};

use output::{Output, complain};

/// Verifies audit logs, proves their entries, follows them, adds them up, looks after their old days
#[derive(Parser)]
#[command(name = "audit-logger", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  the log was tampered with, or a proof doesn't hold
  2  wrong usage: an argument can't be used
  3  no answer: the log can't be read, or there is no Merkle log or no such entry in it
Ctrl-C and SIGTERM end it as they end other commands (130 and 143 in a shell): no file is left half written.

Colours are used on a terminal only, and never if NO_COLOR is set.";

#[derive(Subcommand)]
enum Command {
    Verify(verify::Arguments),
    Prove(prove::Arguments),
    Check(prove::CheckArguments),
    Bundle(bundle::Arguments),
    Digests(digests::Arguments),
    Keygen(keygen::Arguments),
    Maintain(maintain::Arguments),
    Hold(hold::Arguments),
    Release(hold::ReleaseArguments),
    Timestamp(timestamp::Arguments),
    Tail(tail::Arguments),
    Stats(stats::Arguments),
    Report(report::Arguments),
    Export(export::Arguments),
    Schema(schema::Arguments),
    #[command(hide = true)]
    Man(man::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = Output::new();
    let done = match arguments.command {
        Command::Verify(arguments) => verify::run(&arguments, &mut out),
        Command::Prove(arguments) => prove::run(&arguments, &mut out),
        Command::Check(arguments) => prove::check(&arguments, &mut out),
        Command::Bundle(arguments) => bundle::run(&arguments, &mut out),
        Command::Digests(arguments) => digests::run(&arguments, &mut out),
        Command::Keygen(arguments) => keygen::run(&arguments, &mut out),
        Command::Maintain(arguments) => maintain::run(&arguments, &mut out),
        Command::Hold(arguments) => hold::run(&arguments, &mut out),
        Command::Release(arguments) => hold::run_release(&arguments, &mut out),
        Command::Timestamp(arguments) => timestamp::run(&arguments, &mut out),
        Command::Tail(arguments) => tail::run(&arguments, &mut out),
        Command::Stats(arguments) => stats::run(&arguments, &mut out),
        Command::Report(arguments) => report::run(&arguments, &mut out),
        Command::Export(arguments) => export::run(&arguments, &mut out),
        Command::Schema(arguments) => schema::run(&arguments, &mut out),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
    };
    let Err(error) = done.and(out.finish()) else {
        return ExitCode::SUCCESS;
    };
    if error.status == Status::Cancelled {
        interrupt::end();
    }
    complain(&error.message);
    ExitCode::from(match error.status {
        Status::Tampered => 1,
        Status::Argument => 2,
        _ => 3,
    })
}

/// What an argument that is a public key's text, or the path of a file with it, stands for.
fn vkey(given: &str) -> Result<String, Error> {
    match audit_logger::tool::note::Verifier::parse(given) {
        Ok(_) => Ok(given.to_owned()),
        // What has two plus signs is rather a mistyped key than a path.
        Err(error) if given.split('+').count() > 2 => Err(Error::argument(error)),
        Err(_) => audit_logger::tool::verify::text_of(given.as_ref()),
    }
}

/// An argument that is a day, written as the log's files are named. No other way is taken: with a year of two
/// digits it would be a day of long ago, and all since then.
fn date(given: &str) -> Result<NaiveDate, String> {
    let date = NaiveDate::parse_from_str(given, "%Y-%m-%d").ok();
    date.filter(|date| given.len() == 10 && date.to_string() == given)
        .ok_or_else(|| "it's no date; write it as 2026-11-27".to_owned())
}
