//! `bundle`: the lines of some days, in one file, with what proves them and what checks that.

mod archive;
mod page;

use std::borrow::Cow;
use std::io::{BufWriter, Seek, SeekFrom};
use std::path::PathBuf;

use audit_logger::tool::checkpoint::{Checkpoint, format_hash};
use audit_logger::tool::note::Note;
use audit_logger::tool::slice::{Counts, Options, Slice, Wanted};
use audit_logger::tool::source::{self, Directory, end_of_named};
use audit_logger::tool::stamp::Stamp;
use audit_logger::tool::stamps::{DIRECTORY, Names};
use audit_logger::tool::{Error, Status};
use chrono::NaiveDate;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::tempfile_in;

use crate::interrupt;
use crate::output::{Output, Progress, parent};
use crate::stamp::token::{Token, When};
use archive::Archive;

/// Bundles the lines of some days with their proof, for somebody who hasn't the log
///
/// One zip file: the sealed lines as they stand, one proof for all of them, the checkpoint with its cosignatures, time
/// stamps, the public key, a manifest, a page that says what is in it, and a verifier for Python 3.8 and later, with nothing to
/// install. With --user it has that user's lines alone, and nothing of others but hashes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger bundle audit_logs --from 2026-11-01 --to 2026-11-30 -o november.zip
  audit-logger bundle audit_logs --from 2026-11-01 --to 2026-11-30 --user user-1 --user user-2 -o case.zip
  audit-logger bundle audit_logs --from 2026-11-01 --to 2026-11-30 --policy policy.txt -o november.zip

  unzip november.zip verify.py
  python3 verify.py november.zip --vkey log.vkey

A slice of all users proves that no sealed line of these days is missing, one of some users doesn't: whether they
have others isn't proved. The same slice under the same checkpoint gives the same bytes.

Exit codes: 0 made, 1 the log isn't what was sealed, 2 wrong usage, 3 nothing is sealed of these days, or it can't
be read or written")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The first day (UTC)
    #[arg(long, value_name = "DATE", value_parser = crate::date)]
    from: NaiveDate,
    /// The last day (UTC)
    #[arg(long, value_name = "DATE", value_parser = crate::date)]
    to: NaiveDate,
    /// Only the lines of this user; may be repeated
    #[arg(long = "user", value_name = "ID")]
    users: Vec<String>,
    /// The public key, or a file with it; the policy's, or the one in the directory, if absent
    #[arg(long, value_name = "TEXT|FILE")]
    vkey: Option<String>,
    /// A file with a policy (C2SP tlog-policy), whose quorum must have signed the checkpoint; it goes with the bundle
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The file that is made; none is written over
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// The verifier.
const VERIFIER: &[u8] = include_bytes!("verify.py");

/// How many time stamps of each of the two sizes go along.
const MOST_STAMPS: usize = 16;

/// No policy is longer.
const LONGEST_POLICY: u64 = 256 * 1024;

/// What is said of a bundle, in its manifest and on its page.
struct About<'a> {
    from: String,
    to: String,
    users: &'a [String],
    slice: &'a Slice<'a>,
    counts: Counts,
    /// Whose signatures the checkpoint has beside the log's.
    cosigned: usize,
    has_policy: bool,
    /// The time stamps that go along.
    stamps: &'a [Stamped],
}

impl About<'_> {
    fn manifest(&self, files: &[archive::Named]) -> Value {
        let files: Vec<Value> = files
            .iter()
            .map(|file| json!({"name": file.name, "bytes": file.bytes, "sha256": file.sha256}))
            .collect();
        json!({
            "format": "audit_logger bundle 1",
            "tool": concat!("audit-logger ", env!("CARGO_PKG_VERSION")),
            "log": self.slice.verifier.name(),
            "from": self.from,
            "to": self.to,
            "users": if self.users.is_empty() { Value::Null } else { json!(self.users) },
            "checkpoint": {
                "size": self.slice.checkpoint.size,
                "root": format_hash(&self.slice.checkpoint.root),
            },
            "lines": self.counts.lines,
            "left_out": {
                "removed_lines": self.counts.removed,
                "too_long_lines": self.counts.too_long,
                "unsealed_bytes": self.counts.unsealed_bytes,
            },
            "files": files,
        })
    }
}

/// Whose a line is. Programs that log their own calls may leave other members out.
#[derive(Deserialize)]
struct Owned<'l> {
    #[serde(borrow)]
    user_id: Cow<'l, str>,
}

/// A time stamp that goes along.
struct Stamped {
    checkpoint: Checkpoint,
    /// As its token says: who made it isn't asked here.
    when: When,
    stamp: Stamp,
}

/// The log's time stamps that go along: those over the smallest tree with all that is shown, which say the earliest
/// time, and those over the largest, which may be by better algorithms.
fn stamps(directory: &Directory, slice: &Slice) -> Result<Vec<Stamped>, Error> {
    let names = Names::of(directory);
    let names = names.map_err(|error| Error::log(format!("the time stamps: {error}")))?;
    let covering = slice.reach()..=slice.checkpoint.size;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for stamp in names
        .by_size()
        .read(directory)
        .filter_map(|found| found.stamp.ok())
    {
        let Ok(checkpoint) = Checkpoint::open(&stamp.note, &slice.verifier) else {
            continue;
        };
        if !covering.contains(&checkpoint.size) {
            continue;
        }
        // What verify calls forged would have the bundle refused.
        let Some(token) = Token::parse(&stamp.token)
            .ok()
            .filter(|token| token.stamps(stamp.note.as_bytes()))
        else {
            continue;
        };
        let is_of = |of: &[Stamped]| {
            of.first()
                .is_none_or(|of| of.checkpoint.size == checkpoint.size)
        };
        let of_it = if is_of(&first) {
            &mut first
        } else {
            if !is_of(&last) {
                last.clear();
            }
            &mut last
        };
        if of_it.len() < MOST_STAMPS {
            of_it.push(Stamped {
                checkpoint,
                when: token.when,
                stamp,
            });
        }
    }
    first.append(&mut last);
    Ok(first)
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let (from, to) = (arguments.from.to_string(), arguments.to.to_string());
    if arguments.from > arguments.to {
        return Err(Error::argument(format!("--from {from} is after --to {to}")));
    }
    let mut users = arguments.users.clone();
    users.sort_unstable();
    users.dedup();
    let mut archive = Archive::create(&arguments.output)?;
    let policy = arguments.policy.as_deref();
    let policy = policy.map(|path| end_of_named(path, LONGEST_POLICY));
    let policy = policy.transpose()?;
    let files = source::open(&arguments.directory)?;
    let interrupted = interrupt::watch()?;
    let directory = Directory::new(&files, &interrupted);
    let options = Options {
        vkey: arguments.vkey.as_deref().map(crate::vkey).transpose()?,
        policy: arguments.policy.clone(),
        from: from.clone(),
        to: to.clone(),
    };
    let slice = Slice::find(&directory, &options)?;

    let is_wanted = |line: &[u8]| {
        let owned = serde_json::from_slice::<Owned>(line);
        owned.is_ok_and(|owned| users.iter().any(|user| *user == owned.user_id))
    };
    let wanted: Option<Wanted> = match users.is_empty() {
        true => None,
        false => Some(&is_wanted),
    };
    // Lines and proof come out of one reading, and a zip takes one file after the other.
    let unread = |error| Error::log(format!("the proof: {error}"));
    let proof = tempfile_in(parent(&arguments.output)).map_err(unread)?;
    let mut proof = BufWriter::new(proof);
    archive.begin("entries.jsonl")?;
    let mut progress = Progress::new();
    let mut show = |done, of| progress.show("bundling", done, of);
    let stamps = stamps(&directory, &slice)?;
    let stamped = stamps.iter().map(|one| one.checkpoint.clone());
    let stamped: Vec<Checkpoint> = stamped.collect();
    let counts = slice.write(wanted, &stamped, &mut archive, &mut proof, &mut show)?;
    drop(progress);
    if counts.lines == 0 {
        let what =
            format!("no line of {from} to {to} that was asked for is sealed and still there");
        return Err(Error::new(Status::NotFound, what));
    }
    archive.end();
    let mut proof = proof
        .into_inner()
        .map_err(|error| unread(error.into_error()))?;
    proof.seek(SeekFrom::Start(0)).map_err(unread)?;
    archive.copy("proof.txt", &mut proof)?;

    let cosigned = Note::parse(&slice.note).map_or(0, |note| note.count().saturating_sub(1));
    let about = About {
        from,
        to,
        users: &users,
        slice: &slice,
        counts,
        cosigned,
        has_policy: policy.is_some(),
        stamps: &stamps,
    };
    archive.add("checkpoint", slice.note.as_bytes())?;
    archive.add("vkey", format!("{}\n", slice.verifier).as_bytes())?;
    if let Some(policy) = &policy {
        archive.add("policy", policy)?;
    }
    for Stamped { stamp, .. } in &stamps {
        let name = stamp.name().unwrap_or_default();
        archive.add(&format!("{DIRECTORY}/{name}"), stamp.text().as_bytes())?;
    }
    archive.add("index.html", page::page(&about).as_bytes())?;
    archive.add("verify.py", VERIFIER)?;
    let manifest = format!("{:#}\n", about.manifest(archive.files()));
    archive.add("manifest.json", manifest.as_bytes())?;
    let sum = archive.files().last().map(|file| file.sha256.clone());
    let sum = format!("{}  manifest.json\n", sum.unwrap_or_default());
    archive.add("manifest.sha256", sum.as_bytes())?;
    archive.finish()?;
    out.line(format_args!(
        "{} lines of {} to {}, proved by the checkpoint of size {}",
        about.counts.lines, about.from, about.to, slice.checkpoint.size
    ));
    Ok(())
}
