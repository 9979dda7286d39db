//! `prove` and `check`: one entry, with nothing else of the log shown.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use audit_logger::tool::note::{Signer, Verifier};
use audit_logger::tool::prove;
use audit_logger::tool::source::end_of_named;
use audit_logger::tool::{Error, Status};
use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use crate::output::{Output, plain, write_new};
use crate::receipt;

/// No line with an entry is longer, nor any proof.
const LONGEST: u64 = 4 << 20;

/// Proves that an entry is in a log
///
/// Writes the entry's line and its proof (C2SP tlog-proof, or a COSE receipt), which show nothing else of the
/// log.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger prove audit_logs 3f2b8c1e-5a47-4d9e-9c36-0e1f7b6a2d58 -o entry
  audit-logger prove audit_logs 3f2b8c1e-5a47-4d9e-9c36-0e1f7b6a2d58 --timestamp 2026-11-23T15:51:00.123456Z
  audit-logger prove audit_logs 3f2b8c1e-5a47-4d9e-9c36-0e1f7b6a2d58 --format cose --key log.key -o entry
  audit-logger check --vkey log.vkey entry.jsonl entry.tlog-proof

With --line or --timestamp the entry is found at once. With its id alone the log is read from its newest
day back until it is found.

With -o FILE they go to FILE.jsonl and FILE.tlog-proof; without, the line goes to the standard output, and
the proof to ENTRY_ID.tlog-proof. A receipt's ending is .cose.

A receipt (RFC 9942) is signed when it is made, so that takes the log's private key. It proves that the log
holds the entry; its size and index aren't signed, which in a tlog-proof they are.

Exit codes: 0 proved, 1 the tree isn't what was signed, 2 wrong usage, 3 no such sealed entry, or it can't be
read")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The entry's id
    #[arg(value_name = "ENTRY_ID")]
    id: String,
    /// A file with the entry's line, or - for the standard input
    #[arg(long, value_name = "FILE")]
    line: Option<PathBuf>,
    /// The entry's timestamp, as it stands in it
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
    /// The public key, or a file with it; the one in the directory if absent
    #[arg(long, value_name = "TEXT|FILE")]
    vkey: Option<String>,
    /// What the proof is written as
    #[arg(long, value_enum, default_value_t = Format::TlogProof)]
    format: Format,
    /// The log's private key, which signs a receipt; the one in the directory if absent
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where line and proof go, without the ending
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a proof is written as.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// C2SP tlog-proof
    TlogProof,
    /// One COSE receipt (RFC 9942, EdDSA)
    Cose,
}

/// Checks that a line is an entry of the log that a key signs
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger check --vkey log.vkey entry.jsonl entry.tlog-proof
  audit-logger check --vkey log.vkey entry.jsonl entry.cose

Exit codes: 0 it is, 1 it isn't, 2 wrong usage, 3 a file can't be read")]
pub struct CheckArguments {
    /// The public key, or a file with it
    #[arg(long, value_name = "TEXT|FILE")]
    vkey: String,
    /// The file with the line
    #[arg(value_name = "LINE_FILE")]
    line: PathBuf,
    /// The file with the proof: C2SP tlog-proof, or a COSE receipt
    #[arg(value_name = "PROOF_FILE")]
    proof: PathBuf,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let signer = match arguments.format {
        Format::Cose => Some(private_key(arguments)?),
        Format::TlogProof if arguments.key.is_some() => {
            return Err(Error::argument("--key is for --format cose alone"));
        }
        Format::TlogProof => None,
    };
    let mut options = prove::Options {
        vkey: arguments.vkey.as_deref().map(crate::vkey).transpose()?,
        line: arguments.line.as_deref().map(line_in).transpose()?,
        timestamp: arguments.timestamp.clone(),
    };
    if let Some(signer) = &signer {
        let vkey = signer.verifier().to_string();
        if options.vkey.is_some_and(|given| given.trim_end() != vkey) {
            return Err(Error::argument("the private key isn't that of --vkey"));
        }
        // So what is signed is a root that this key has signed before.
        options.vkey = Some(vkey);
    }
    let proved = prove::prove(&arguments.directory, &arguments.id, &options)?;
    let (ending, proof) = match &signer {
        Some(signer) => {
            let receipt = receipt::receipt(&proved, &arguments.id, signer);
            let wrong = |error| Error::new(Status::Internal, format!("the receipt: {error}"));
            (".cose", receipt.map_err(wrong)?)
        }
        None => (".tlog-proof", proved.proof.into_bytes()),
    };
    let with = |path: &Path, ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    match &arguments.output {
        Some(path) => {
            write_new(&with(path, ending), &proof)?;
            write_new(&with(path, ".jsonl"), &[&proved.line[..], b"\n"].concat())
        }
        None => {
            // It was found, so it is the id of an entry; but who writes the log could call one "/etc/x".
            let name = Path::new(&arguments.id);
            if name.file_name() != Some(name.as_os_str()) {
                return Err(Error::argument("the id can't name a file; use -o FILE"));
            }
            write_new(&with(name, ending), &proof)?;
            out.raw_line(&proved.line);
            Ok(())
        }
    }
}

/// The key that signs a receipt. No message repeats any of it.
fn private_key(arguments: &Arguments) -> Result<Signer, Error> {
    let path = match &arguments.key {
        Some(path) => path.clone(),
        None => arguments.directory.join(".state/key"),
    };
    let text = Zeroizing::new(end_of_named(&path, 4096)?);
    // No key is that long, and text that is cut or no UTF-8 isn't one.
    let parsed = Signer::parse(std::str::from_utf8(&text).unwrap_or_default());
    parsed.map_err(|error| Error::argument(format!("{}: {error}", path.display())))
}

/// The line in a file, or what the standard input holds of one.
fn line_in(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let read = io::stdin().take(LONGEST).read_to_end(&mut bytes);
        read.map_err(|error| Error::log(format!("the standard input: {error}")))?;
    } else {
        bytes = end_of_named(path, LONGEST)?;
    }
    match bytes.strip_suffix(b"\n").unwrap_or(&bytes) {
        line if line.contains(&b'\n') => Err(Error::argument(format!(
            "{}: there is more than one line in it",
            path.display()
        ))),
        line => Ok(line.to_vec()),
    }
}

pub fn check(arguments: &CheckArguments, out: &mut Output) -> Result<(), Error> {
    let vkey = crate::vkey(&arguments.vkey)?;
    let log = Verifier::parse(&vkey).map_err(Error::argument)?;
    let read = |path: &Path| end_of_named(path, LONGEST).map_err(|error| Error::log(error.message));
    let (line, proof) = (read(&arguments.line)?, read(&arguments.proof)?);
    let refused = |error| Error::new(Status::Tampered, error);
    if proof.first() == Some(&receipt::FIRST_BYTE) {
        let id = receipt::check(&line, &proof, &log).map_err(refused)?;
        let id = id.map_or("an entry".to_owned(), |id| format!("the entry {id}"));
        out.line(format_args!("the line is {} of {}", plain(&id), log.name()));
        return Ok(());
    }
    let proof = String::from_utf8_lossy(&proof);
    let checked = prove::check(&line, &proof, &vkey).map_err(refused)?;
    out.line(format_args!(
        "the line is entry {} of {} in {}",
        checked.index, checked.checkpoint.size, checked.checkpoint.origin
    ));
    Ok(())
}
