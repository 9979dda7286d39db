//! `timestamp`: somebody else says when the log's checkpoint existed (RFC 3161).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use audit_logger::tool::checkpoint::{Checkpoint, notes};
use audit_logger::tool::note::Verifier;
use audit_logger::tool::source::{self, Directory, TREE, end_of_named};
use audit_logger::tool::stamp::{LONGEST_TOKEN, Stamp};
use audit_logger::tool::tree::{key, newest};
use audit_logger::tool::{Error, Place, Post, Proxy, Status, Trust, authority};
use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};

use crate::output::{Output, plain, write_new};
use crate::stamp::authority::{Anchors, check};
use crate::stamp::kept::{self, Open, keep, waiting};
use crate::stamp::token::{Query, Token, token_in};

/// How long an authority may take, and the connection to it.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

/// Has a time stamping authority say that the log existed, and keeps what it says
///
/// The authority (TSA) signs the hash of the log's newest checkpoint with the time, by RFC 3161. Its token goes to
/// .integrity/timestamps, so run it as the user that the log belongs to; verify --tsa-cert then says since when
/// each entry has existed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger timestamp audit_logs --tsa http://timestamp.example.com
  7 4 * * *  audit-logger timestamp /var/lib/myservice/audit_logs --tsa http://timestamp.example.com    # cron

Where the host may talk to nobody, the request and its reply are carried:
  audit-logger timestamp audit_logs --query-out request.tsq
  curl -H 'Content-Type: application/timestamp-query' --data-binary @request.tsq http://timestamp.example.com > reply.tsr
  audit-logger timestamp audit_logs --reply-in reply.tsr

With --tsa, the environment's proxy is used (https_proxy, http_proxy, all_proxy, no_proxy).
A reply that is refused changes nothing.

Exit codes: 0 done, 1 the reply isn't good for this log, 2 wrong usage, 3 no answer: the authority can't be reached or
refuses, or the log isn't sealed or can't be written to")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    way: Way,
    /// A file with certificates in PEM: only what they vouch for is kept
    #[arg(long, value_name = "FILE", conflicts_with = "query_out")]
    tsa_cert: Option<PathBuf>,
    /// The public key that was noted when the log was made, or a file with it
    #[arg(long, value_name = "TEXT|FILE")]
    vkey: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Way {
    /// Ask the authority with this URL
    #[arg(long, value_name = "URL")]
    tsa: Option<String>,
    /// Write the request to a file that isn't there yet, for --reply-in to know later
    #[arg(long, value_name = "FILE")]
    query_out: Option<PathBuf>,
    /// Keep the token in an authority's reply, or a token alone, to a request of --query-out, or to one that another
    /// program made for .integrity/checkpoint
    #[arg(long, value_name = "FILE")]
    reply_in: Option<PathBuf>,
}

/// Something was refused, and nothing changed.
fn refused(what: impl std::fmt::Display) -> Error {
    Error::new(Status::Tampered, what.to_string())
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let path = &arguments.directory;
    let vkey = arguments.vkey.as_deref().map(crate::vkey).transpose()?;
    let anchors = arguments.tsa_cert.as_deref().map(Anchors::read);
    let anchors = anchors.transpose()?;
    let files = source::open(path)?;
    let directory = Directory::new(&files, &|| false);
    let verifier = key(&directory, vkey.as_deref())?;
    let failed = |error: std::io::Error| Error::log(format!("{}: {error}", path.display()));
    let request = || {
        let none = || format!("{TREE}: there is no checkpoint by the log's key; verify tells more");
        let (checkpoint, note) = newest(&directory, &verifier).ok_or_else(|| refused(none()))?;
        let query = query(&note)?;
        Ok::<_, Error>((checkpoint, note, query))
    };
    if let Some(file) = &arguments.way.query_out {
        let (checkpoint, note, query) = request()?;
        let open = kept::open(path, &note, query).map_err(failed)?;
        if let Err(error) = write_new(file, &open.query.der) {
            open.close(path).map_err(failed)?;
            return Err(error);
        }
        let (size, file) = (checkpoint.size, file.display().to_string());
        let file = plain(&file);
        out.line(format_args!(
            "wrote {file}: a request for the checkpoint of size {size}"
        ));
        return Ok(());
    }
    let (bytes, token, note, open) = if let Some(url) = &arguments.way.tsa {
        let (_, note, query) = request()?;
        let (bytes, token) = read(&ask(url, &query)?)?;
        if !query.is_answered_by(&token) {
            return Err(refused("the authority's reply is to another request"));
        }
        (bytes, token, note, None)
    } else {
        let file = arguments.way.reply_in.as_deref().unwrap_or(Path::new(""));
        let (bytes, token) = read(&end_of_named(file, 2 * LONGEST_TOKEN as u64)?)?;
        let mut waiting = waiting(path, &directory).map_err(failed)?;
        let at = waiting
            .iter()
            .position(|open| open.query.is_answered_by(&token));
        match at.map(|at| waiting.swap_remove(at)) {
            Some(open) => (bytes, token, open.note.clone(), Some(open)),
            None => {
                let note = of_another_s_request(&waiting, &directory, &token)?;
                (bytes, token, note, None)
            }
        }
    };
    let checkpoint = signed(&note, &verifier)?;
    let said = check(&token, anchors.as_ref())
        .map_err(|error| refused(format!("the reply's token: {error}")))?;
    let stamp = Stamp { note, token: bytes };
    let kept = keep(path, &stamp).map_err(failed)?;
    if let Some(open) = open {
        open.close(path).map_err(failed)?;
    }
    out.line(format_args!(
        "kept {kept}: entries up to {} existed at {}, said by {}",
        checkpoint.size,
        said.when,
        plain(&said.by)
    ));
    if anchors.is_none() {
        out.line("who that is wasn't checked: give --tsa-cert, here or to verify");
    }
    Ok(())
}

/// A request for a note, with a number that nobody else chose.
fn query(note: &str) -> Result<Query, Error> {
    let mut nonce = [0; 8];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| Error::log("the system gives no random numbers"))?;
    Query::new(note.as_bytes(), nonce).map_err(|error| Error::log(error.to_string()))
}

/// The checkpoint in a note, if the log's key has signed it.
fn signed(note: &str, verifier: &Verifier) -> Result<Checkpoint, Error> {
    Checkpoint::open(note, verifier).map_err(|error| {
        refused(format!(
            "the reply is about a checkpoint that {error}: it's another log's"
        ))
    })
}

/// The token in a reply.
fn read(reply: &[u8]) -> Result<(Vec<u8>, Token), Error> {
    if reply.len() > LONGEST_TOKEN {
        return Err(refused(format!(
            "the reply has more than {LONGEST_TOKEN} bytes; none is that long"
        )));
    }
    let bytes = token_in(reply).map_err(|error| match error {
        // It was asked, and says no.
        error if error.starts_with("is ") => refused(format!("the reply {error}")),
        error => Error::new(Status::Call, format!("the authority {error}")),
    })?;
    let token = Token::parse(&bytes);
    let token = token.map_err(|error| refused(format!("the reply's token {error}")))?;
    Ok((bytes, token))
}

/// Asks an authority.
fn ask(url: &str, query: &Query) -> Result<Vec<u8>, Error> {
    let wrong = |what: &dyn std::fmt::Display| Error::argument(format!("--tsa {url:?} {what}"));
    let place = authority(url).map_err(|what| wrong(&what))?;
    let proxy = Proxy::from_environment(&place).map_err(Error::argument)?;
    let mut trust = Trust::default();
    trust.add_from_environment().map_err(Error::argument)?;
    let place = Place { url: place, proxy };
    let post = Post::to(&place, &trust, CONNECT, "application/timestamp-query");
    let no_answer = |what: String| Error::new(Status::Call, format!("{url}: {what}"));
    let sent = post.send(&query.der, Instant::now() + PATIENCE, None);
    match sent.map_err(no_answer)? {
        (200, reply) => Ok(reply),
        (status, _) => Err(no_answer(format!("answered {status}, and no time stamp"))),
    }
}

/// The note that a token is of, where another program made the request: one that the log still has.
fn of_another_s_request(
    waiting: &[Open],
    directory: &Directory<'_>,
    token: &Token,
) -> Result<String, Error> {
    if waiting
        .iter()
        .any(|open| token.stamps(open.note.as_bytes()))
    {
        return Err(refused(
            "the reply is about a checkpoint of this log, but to another request: its nonce differs",
        ));
    }
    for name in ["checkpoint", "heads"] {
        let bytes = directory.notes(name).ok().flatten().unwrap_or_default();
        let all = notes(&bytes);
        let note = all.iter().rev().find(|note| token.stamps(note.as_bytes()));
        if let Some(note) = note {
            return Ok((*note).to_owned());
        }
    }
    Err(refused(
        "the reply isn't about a checkpoint of this log: it's another log's, or its request wasn't written by \
         --query-out here, or was answered already",
    ))
}
