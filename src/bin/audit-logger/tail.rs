//! `tail`: the last entries of a log, and those that follow.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use audit_logger::tool::Error;
use audit_logger::tool::source::{Directory, open_plain};
use chrono::{DateTime, Days, Utc};
use clap::Args;

use crate::entries::{Entry, days, each_line};
use crate::output::{Colour, Output, complain, plain};

/// How often a log is looked at for more.
const PAUSE: Duration = Duration::from_millis(200);

/// For how many looks a file is still read after its name has gone: whoever writes it notices that
/// within a second.
const LINGER: u32 = 25;

/// How much of the end of a file is read first; if that hasn't enough entries, eight times as much.
const WINDOW: u64 = 256 << 10;

/// How many ids are kept to tell twins, which follow each other within moments.
const IDS: usize = 1 << 16;

/// Shows the last entries of a log, and follows it
///
/// What is no entry (blank and torn lines) isn't shown, and what stands twice is shown once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger tail audit_logs -n 20
  audit-logger tail audit_logs -f --status error
  audit-logger tail audit_logs -f --user user-42 --json | jq .latency_ms

A line is: time, outcome, user, model, tokens of the prompt + of the answer, latency, id. Following goes on
past midnight, into further files, and through files that are renamed or cut.")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Go on with the entries to come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How many entries
    #[arg(short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,
    /// Only this user's
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only those that asked for this model
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Only those with this status: success or error
    #[arg(long, value_name = "STATUS", value_parser = ["success", "error"])]
    status: Option<String>,
    /// Print the lines as they stand in the log
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Reads a line, if it is an entry that is wanted.
    fn wanted<'l>(&self, line: &'l [u8]) -> Option<Entry<'l>> {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        };
        Entry::parse(line).filter(|entry| {
            is(&self.user, &entry.user_id)
                && is(&self.model, &entry.model)
                && is(&self.status, &entry.status)
        })
    }

    fn print(&self, line: &[u8], entry: &Entry, out: &mut Output) {
        if self.json {
            return out.raw_line(line);
        }
        let colour = match &*entry.status {
            "success" => Colour::Green,
            _ => Colour::Red,
        };
        let outcome = plain(entry.outcome());
        let outcome = out.coloured(colour, &outcome);
        let latency = match entry.latency_ms {
            Some(latency) => format!("{latency:.0} ms"),
            None => "? ms".to_owned(),
        };
        let tokens = |value: &serde_json::Value| match value.as_u64() {
            Some(count) => count.to_string(),
            None => "?".to_owned(),
        };
        out.line(format_args!(
            "{}  {outcome}  {}  {}  {}+{}  {latency}  {}",
            plain(&entry.timestamp),
            plain(&entry.user_id),
            plain(&entry.model),
            tokens(&entry.prompt_tokens),
            tokens(&entry.completion_tokens),
            plain(&entry.id)
        ));
    }
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let mut tail = Tail {
        arguments,
        shown: Shown::default(),
        files: HashMap::new(),
    };
    tail.last(out)?;
    while arguments.follow && out.flush() {
        sleep(PAUSE);
        tail.look(out)?;
    }
    Ok(())
}

/// What has been shown, and up to where files have been read.
struct Tail<'a> {
    arguments: &'a Arguments,
    shown: Shown,
    /// By device and inode, for names change.
    files: HashMap<(u64, u64), Followed>,
}

struct Followed {
    file: File,
    /// Behind the last whole line that was read.
    offset: u64,
    /// How many looks ago it had a name of the log.
    unseen: u32,
}

impl Followed {
    fn from(file: File, offset: u64) -> Followed {
        let unseen = 0;
        Followed {
            file,
            offset,
            unseen,
        }
    }

    /// Hands on the whole lines that were appended since.
    fn more(&mut self, take: impl FnMut(&[u8])) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.offset {
            complain("a file of the log was cut; it is read from its beginning");
            self.offset = 0;
        }
        if length > self.offset {
            self.file.seek(SeekFrom::Start(self.offset))?;
            self.offset += each_line(BufReader::new(&self.file), take)?;
        }
        Ok(())
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The first day whose files are followed: yesterday, for some may still be writing to it, or the last
/// one there is, in a log whose clock is another.
fn floor(days: &BTreeMap<String, Vec<String>>) -> String {
    let today = DateTime::<Utc>::from(SystemTime::now()).date_naive();
    let yesterday = today.checked_sub_days(Days::new(1)).unwrap_or(today);
    let last = days.keys().next_back().cloned();
    yesterday.to_string().min(last.unwrap_or_default())
}

impl Tail<'_> {
    /// Shows the last entries. The newest days are looked at first.
    fn last(&mut self, out: &mut Output) -> Result<(), Error> {
        let count = self.arguments.count;
        let days = days(&self.arguments.directory)?;
        let floor = floor(&days);
        let mut last: Vec<Vec<u8>> = Vec::new();
        for (day, files) in days.iter().rev() {
            let follow = self.arguments.follow && *day >= floor;
            if !follow && last.len() >= count {
                break;
            }
            let mut lines = Vec::new();
            for name in files {
                let found = self.last_of(name, follow);
                lines.extend(found.map_err(|error| Error::log(format!("{name}: {error}")))?);
            }
            if files.len() > 1 {
                lines = by_time_and_once(lines);
            }
            lines.append(&mut last);
            last = lines;
        }
        for line in &last[last.len().saturating_sub(count)..] {
            self.shown.show(self.arguments, line, out);
        }
        Ok(())
    }

    /// The last lines of a file that are wanted; from here on it's followed, if that is wanted.
    fn last_of(&mut self, name: &str, follow: bool) -> io::Result<VecDeque<Vec<u8>>> {
        let directory = &self.arguments.directory;
        let Some(mut file) = open_plain(&directory.join(name))? else {
            let compressed = Directory::new(directory).day(name, 0)?;
            return Ok(match compressed {
                Some(source) => self.wanted_of(source)?.0,
                None => VecDeque::new(),
            });
        };
        let length = file.metadata()?.len();
        let mut window = WINDOW;
        let (last, offset) = loop {
            // The piece of a line that a window may begin with is never JSON.
            let start = length.saturating_sub(window);
            file.seek(SeekFrom::Start(start))?;
            let (last, read) = self.wanted_of((&file).take(length - start))?;
            if start == 0 || last.len() >= self.arguments.count {
                break (last, start + read);
            }
            window = window.saturating_mul(8);
        };
        if follow {
            self.files
                .insert(identity(&file)?, Followed::from(file, offset));
        }
        Ok(last)
    }

    /// The last whole lines of a source that are wanted, and how many bytes all whole lines had.
    fn wanted_of(&self, source: impl Read) -> io::Result<(VecDeque<Vec<u8>>, u64)> {
        let mut last = VecDeque::new();
        let read = each_line(BufReader::new(source), |line| {
            if self.arguments.wanted(line).is_some() {
                last.push_back(line.to_vec());
                if last.len() > self.arguments.count {
                    last.pop_front();
                }
            }
        })?;
        Ok((last, read))
    }

    /// Shows what was appended since.
    fn look(&mut self, out: &mut Output) -> Result<(), Error> {
        let days = days(&self.arguments.directory)?;
        for followed in self.files.values_mut() {
            followed.unseen += 1;
        }
        for name in days.range(floor(&days)..).flat_map(|(_, names)| names) {
            let failed = |error| Error::log(format!("{name}: {error}"));
            let file = open_plain(&self.arguments.directory.join(name)).map_err(failed)?;
            let Some(file) = file else { continue };
            let identity = identity(&file).map_err(failed)?;
            let followed = self.files.entry(identity);
            followed.or_insert_with(|| Followed::from(file, 0)).unseen = 0;
        }
        for followed in self.files.values_mut() {
            followed
                .more(|line| self.shown.show(self.arguments, line, out))
                .map_err(|error| Error::log(format!("a file of the log: {error}")))?;
        }
        self.files.retain(|_, followed| followed.unseen < LINGER);
        Ok(())
    }
}

/// The entries of a day's files as if they were one: twins once, and all by their time.
fn by_time_and_once(lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut ids = HashSet::new();
    let mut timed: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines {
        if let Some(entry) = Entry::parse(&line)
            && ids.insert(entry.id.clone().into_owned())
        {
            timed.push((entry.timestamp.into_owned(), line));
        }
    }
    timed.sort_by(|a, b| a.0.cmp(&b.0));
    timed.into_iter().map(|(_, line)| line).collect()
}

/// The ids of what was shown.
#[derive(Default)]
struct Shown {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Shown {
    /// Shows a line if it is an entry that is wanted, and wasn't shown before.
    fn show(&mut self, arguments: &Arguments, line: &[u8], out: &mut Output) {
        if let Some(entry) = arguments.wanted(line)
            && self.remember(&entry.id)
        {
            arguments.print(line, &entry, out);
        }
    }

    /// Keeps an id; false if it was shown before.
    fn remember(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
