//! `keygen`: makes a key.

use std::path::PathBuf;

use audit_logger::tool::{Error, make_file};
use clap::Args;

use crate::output::Output;

/// Makes a key to sign a log with, and prints the public one
///
/// Note the public key elsewhere: whoever verifies the log with it doesn't take the log's word for it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger keygen -o /etc/audit/log.key
  audit-logger keygen --origin audit.example/llm -o log.key >log.vkey")]
pub struct Arguments {
    /// The log's name, of at most 200 bytes without white space, "+" and "#"; the machine's name and a random suffix if absent
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// The private key's file, mode 0600; one that is there is never overwritten
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let signer = make_file(&arguments.output, arguments.origin.as_deref())?;
    out.line(signer.verifier());
    Ok(())
}
