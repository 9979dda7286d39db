//! `report`: a log as a page for those who don't read logs.

mod added;
mod charts;
mod page;
mod state;
mod steps;

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use audit_logger::tool::report::Remarks;
use audit_logger::tool::source::{self, Directory};
use audit_logger::tool::{Error, Status};
use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;

use crate::interrupt;
use crate::once::{add_up, between};
use crate::output::{NewFile, Output, Progress, plain};
use crate::verify::Against;

use added::Added;
use page::Page;
use steps::Steps;

/// How often it's looked how far the verifying is.
const LOOK: Duration = Duration::from_millis(20);

/// Makes a page of a log, for managers and auditors
///
/// One HTML file without scripts, that asks for nothing else: calls, errors by class, unknown outcomes, tokens, cost
/// and latencies over time, by model and by user, as charts and as tables; and what verify says of the log. To read
/// on a screen, light or dark, or to print. Its numbers are those of stats.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger report audit_logs -o report.html
  audit-logger report audit_logs --from 2026-11-01 --to 2026-11-30 --vkey log.vkey --guard guard -o november.html
  audit-logger report audit_logs --user user-42 -o user-42.html

The page has the 20 models and the 20 users with the most calls, and a line for the others; its steps are hours, days,
weeks, months or years, by the range. So it stays below 1 MB. Users are told apart up to 32,768, and have
percentiles up to 2,048.

Exit codes: 0 written, 1 written, and the log was tampered with, 2 wrong usage, 3 it can't be read or written")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The page's file; one that is there is never overwritten
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The first day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::date)]
    from: Option<NaiveDate>,
    /// The last day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::date)]
    to: Option<NaiveDate>,
    /// The calls of this user alone
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    #[command(flatten)]
    against: Against,
    /// Don't verify the log: the page says that it wasn't
    #[arg(long, conflicts_with_all = ["vkey", "guard", "checkpoints", "policy", "copy", "tsa_cert"])]
    no_verify: bool,
}

pub fn run(arguments: &Arguments, _: &mut Output) -> Result<(), Error> {
    let interrupted = interrupt::watch()?;
    let mut file = NewFile::create(&arguments.output)?;
    let (done, of) = (AtomicU64::new(0), AtomicU64::new(0));
    // Side by side, for both read the whole log: whoever comes second finds it in memory.
    let (read, verified) = thread::scope(|scope| {
        let verify = || {
            let mut note = |entries, of_all| {
                done.store(entries, Ordering::Relaxed);
                of.store(of_all, Ordering::Relaxed);
            };
            let (directory, against) = (&arguments.directory, &arguments.against);
            against.verify(directory, &mut note, &interrupted)
        };
        let verifying = (!arguments.no_verify).then(|| scope.spawn(verify));
        let read = Read::of(arguments, interrupted);
        let verified = verifying.map(|verifying| {
            // What is left to wait for is shown.
            let mut progress = Progress::new();
            while !verifying.is_finished() {
                let (done, of) = (done.load(Ordering::Relaxed), of.load(Ordering::Relaxed));
                progress.show("verifying", done, of);
                thread::sleep(LOOK);
            }
            match verifying.join() {
                Ok(verified) => verified,
                Err(panic) => resume_unwind(panic),
            }
        });
        (read, verified)
    });
    let read = read?;
    let (verified, wrong) = match verified {
        // The page could say so, but who asked for it is to know it.
        Some(Err(error)) if matches!(error.status, Status::Argument | Status::Cancelled) => {
            return Err(error);
        }
        Some(Err(error)) if error.status == Status::NotFound => (Some(Err(error.message)), Ok(())),
        Some(Err(error)) => (Some(Err(error.message.clone())), Err(error)),
        Some(Ok(verified)) => {
            let verdict = verified.0.verdict();
            (Some(Ok(verified)), verdict)
        }
        None => (None, Ok(())),
    };
    let page = Page {
        log: arguments.directory.display().to_string(),
        made: DateTime::<Utc>::from(SystemTime::now())
            .format("%Y-%m-%d %H:%M UTC")
            .to_string(),
        user: arguments.user.as_deref(),
        read: &read,
        verified: verified.as_ref(),
    };
    file.add(page.html()?.as_bytes())?;
    file.keep()?;
    wrong
}

/// What was read of a log.
struct Read {
    added: Added,
    /// The first and the last of its days.
    days: Option<(String, String)>,
    /// Lines that are no entries.
    skipped: u64,
    conflicts: Remarks,
    left_out: Remarks,
}

impl Read {
    fn of(arguments: &Arguments, interrupted: fn() -> bool) -> Result<Read, Error> {
        let files = source::open(&arguments.directory)?;
        let directory = Directory::new(&files, &interrupted);
        let days = between(&directory, arguments.from, arguments.to)?;
        let date = |day: &String| day.parse::<NaiveDate>().ok();
        let first = days.files.keys().find_map(date).unwrap_or_default();
        let last = days.files.keys().rev().find_map(date).unwrap_or(first);
        let steps = Steps::between(first, last);
        let dated = days
            .files
            .keys()
            .filter_map(|day| Some((&day[..], date(day)?)));
        let dates: HashMap<&str, NaiveDate> = dated.collect();
        let begin = || Added::new(steps);
        let user = arguments.user.as_deref();
        let (added, once) = add_up(&directory, &days, begin, |added, day, entry, line| {
            // A file may have a name that the calendar hasn't.
            let date = dates.get(day).unwrap_or(&first);
            added.add(*date, entry, line.text, user)
        })?;
        once.complain();
        let ends = days.files.keys().next().zip(days.files.keys().next_back());
        Ok(Read {
            added,
            days: ends.map(|(first, last)| (first.clone(), last.clone())),
            skipped: once.skipped,
            conflicts: once.conflicts,
            left_out: once.left_out,
        })
    }
}

/// A text with what isn't seen of it, or changes how the rest is seen, escaped as JSON has it: two names that
/// look the same are to be told apart.
fn visible(text: &str) -> Cow<'_, str> {
    let unseen = |c: char| {
        matches!(c, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
    };
    let text = plain(text);
    if !text.contains(unseen) {
        return text;
    }
    let mut out = String::new();
    for c in text.chars() {
        match unseen(c) {
            true => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            false => out.push(c),
        }
    }
    out.into()
}
