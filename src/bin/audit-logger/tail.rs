//! `tail`: the last entries of a log, and those that follow.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use audit_logger::tool::Error;
use audit_logger::tool::lines::Seen;
use audit_logger::tool::name::DayName;
use audit_logger::tool::source::{self, Directory, Plain, Span};
use audit_logger::tool::twins::{Digest, Ids};
use chrono::{DateTime, Days, Utc};
use clap::Args;

use crate::condition::Where;
use crate::entries::{Entry, Versions, days, each_line};
use crate::formats::{Format, Writer};
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

/// How many bytes of lines are kept, and how many files are followed.
const KEPT: usize = 16 << 20;
const FOLLOWED: usize = 256;

/// Shows the last entries of a log, and follows it
///
/// What is no entry (blank and torn lines) isn't shown, and what stands twice is shown once. Of lines with
/// one id that differ, as far as they are read, the sealed one is shown. What can't be read is named.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger tail audit_logs -n 20
  audit-logger tail audit_logs -f --status error
  audit-logger tail audit_logs -f --user user-42 --json | jq .latency_ms
  audit-logger tail audit_logs -f -n 0 --format otel >> spans.jsonl

A line is: time, outcome, user, model, tokens of the prompt + of the answer, latency, id. Following goes on
past midnight, into further files, and through files that are renamed, cut or compressed. It ends when whoever
reads what it prints does, and begins anew when it's started again: it keeps no place.

Exit codes: 0 shown, 2 wrong usage, 3 the log can't be read")]
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
    #[command(flatten)]
    filter: Where,
    /// Print the lines as they stand in the log
    #[arg(long)]
    json: bool,
    /// Print them in another format, as export does
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<Format>,
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
                && self.filter.holds(entry)
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
        let tokens = |tokens: Option<u64>| match tokens {
            Some(count) => count.to_string(),
            None => "?".to_owned(),
        };
        out.line(format_args!(
            "{}  {outcome}  {}  {}  {}+{}  {latency}  {}",
            plain(&entry.timestamp),
            plain(&entry.user_id),
            plain(&entry.model),
            tokens(entry.prompt_tokens),
            tokens(entry.completion_tokens),
            plain(&entry.id)
        ));
    }
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let files = source::open(&arguments.directory)?;
    let directory = &Directory::new(&files, &|| false);
    let format = arguments.format;
    let mut tail = Tail {
        arguments,
        directory,
        shown: Shown {
            writer: format.map(|format| Writer::new(format, directory)),
            ..Shown::default()
        },
        files: HashMap::new(),
        floor: String::new(),
        met: HashSet::new(),
        left_out: Vec::new(),
    };
    if let Some(writer) = &tail.shown.writer {
        writer.begin(out);
    }
    tail.last(out)?;
    while arguments.follow && out.flush() && out.pause(PAUSE) {
        tail.look(out)?;
    }
    Ok(())
}

/// What has been shown, and up to where files have been read.
struct Tail<'a> {
    arguments: &'a Arguments,
    directory: &'a Directory<'a>,
    shown: Shown,
    /// By device and inode, for names change.
    files: HashMap<(u64, u64), Followed>,
    /// The first day whose files are looked for, and those of them that were found.
    floor: String,
    met: HashSet<DayName>,
    /// What was said to be unreadable.
    left_out: Vec<DayName>,
}

struct Followed {
    /// Its name when it had one.
    name: DayName,
    file: Box<dyn Plain>,
    /// Behind the last whole line that was read.
    offset: u64,
    /// How many looks ago it had a name of the log.
    unseen: u32,
}

impl Followed {
    fn from(name: DayName, file: Box<dyn Plain>, offset: u64) -> Followed {
        Followed {
            name,
            file,
            offset,
            unseen: 0,
        }
    }

    /// Hands on the whole lines that were appended since.
    fn more(&mut self, take: impl FnMut(&Seen)) -> io::Result<()> {
        let length = self.file.length()?;
        if length < self.offset {
            complain("a file of the log was cut; it is read from its beginning");
            self.offset = 0;
        }
        if length > self.offset {
            let source = Span::new(&*self.file, self.offset, u64::MAX);
            self.offset = each_line(source, self.offset, take)?.at;
        }
        Ok(())
    }
}

/// The first day whose files are followed: yesterday, for some may still be writing to it, or the last
/// one there is, in a log whose clock is another.
fn floor(days: &BTreeMap<String, Vec<DayName>>) -> String {
    let today = DateTime::<Utc>::from(SystemTime::now()).date_naive();
    let yesterday = today.checked_sub_days(Days::new(1)).unwrap_or(today);
    let last = days.keys().next_back().cloned();
    yesterday.to_string().min(last.unwrap_or_default())
}

/// The last of the lines that came, no more than so many, and no more bytes than are kept.
#[derive(Default)]
struct Last {
    lines: VecDeque<(Vec<u8>, Digest)>,
    bytes: usize,
}

impl Last {
    fn push(&mut self, line: (Vec<u8>, Digest), count: usize) {
        self.bytes += line.0.len();
        self.lines.push_back(line);
        while self.lines.len() > count || self.bytes > KEPT && self.lines.len() > 1 {
            let first = self.lines.pop_front().unwrap_or_default();
            self.bytes -= first.0.len();
        }
    }
}

impl Tail<'_> {
    /// Shows the last entries. The newest days are looked at first.
    fn last(&mut self, out: &mut Output) -> Result<(), Error> {
        let count = self.arguments.count;
        let days = days(self.directory)?.files;
        self.floor = floor(&days);
        let mut last: Vec<(Vec<u8>, Digest)> = Vec::new();
        let mut bytes = 0;
        for (day, files) in days.iter().rev() {
            let follow = self.arguments.follow && *day >= self.floor;
            if !follow && (last.len() >= count || bytes >= KEPT) {
                break;
            }
            let mut of_day = Last::default();
            for name in files {
                match self.last_of(*name, follow) {
                    Ok(found) => {
                        if follow {
                            self.met.insert(*name);
                        }
                        for line in found.lines {
                            of_day.push(line, count.saturating_mul(files.len()));
                        }
                    }
                    Err(error) => self.leave_out(*name, &error),
                }
            }
            bytes += of_day.bytes;
            let mut lines = self.once(of_day.lines.into())?;
            if files.len() > 1 {
                lines.sort_by_cached_key(|(line, _)| {
                    Entry::parse(line).map(|entry| entry.timestamp.into_owned())
                });
            }
            lines.append(&mut last);
            last = lines;
        }
        if last.len() < count && bytes >= KEPT {
            complain("the lines are long: fewer of them are shown");
        }
        for (line, digest) in &last[last.len().saturating_sub(count)..] {
            self.shown.show(self.arguments, line, *digest, out);
        }
        Ok(())
    }

    fn leave_out(&mut self, name: DayName, error: &io::Error) {
        if !self.left_out.contains(&name) && self.left_out.len() < FOLLOWED {
            self.left_out.push(name);
            complain(&format!("{} is left out: {error}", name.file_name()));
        }
    }

    /// Of lines with one id the one that counts.
    fn once(&self, lines: Vec<(Vec<u8>, Digest)>) -> Result<Vec<(Vec<u8>, Digest)>, Error> {
        let ids = &self.shown.keys;
        let mut versions = Versions::default();
        for (line, digest) in &lines {
            if let (Some(id), Some(entry)) = (ids.of(line), Entry::parse(line)) {
                versions.add(id, *digest, &entry.timestamp);
            }
        }
        let counts = versions.decide(self.directory)?;
        let mut kept = Vec::new();
        for (line, digest) in lines {
            let Some(id) = ids.of(&line) else {
                continue;
            };
            match counts.get(&id) {
                Some(counting) if *counting != digest => another(&line),
                _ => kept.push((line, digest)),
            }
        }
        Ok(kept)
    }

    /// The last lines of a file that are wanted; from here on it's followed, if that is wanted.
    fn last_of(&mut self, name: DayName, follow: bool) -> io::Result<Last> {
        let file = match self.directory.open(&name.file_name()) {
            Ok(Some(file)) if file.length()? > 0 || follow => file,
            _ => {
                let source = self.directory.day(name, 0)?;
                return Ok(match source {
                    Some(source) => self.wanted_of(source, 0)?.0,
                    None => Last::default(),
                });
            }
        };
        let length = file.length()?;
        let mut window = WINDOW;
        let (last, offset) = loop {
            // The piece of a line that a window may begin with is never JSON.
            let start = length.saturating_sub(window);
            let (last, read) = self.wanted_of(Span::new(&*file, start, length), start)?;
            if start == 0 || last.lines.len() >= self.arguments.count || last.bytes >= KEPT {
                break (last, read);
            }
            window = window.saturating_mul(8);
        };
        if follow && self.files.len() < FOLLOWED {
            let identity = file.identity()?;
            self.files
                .insert(identity, Followed::from(name, file, offset));
        }
        Ok(last)
    }

    /// The last whole lines of a source that are wanted, and where all whole lines end.
    fn wanted_of(&self, source: impl Read, at: u64) -> io::Result<(Last, u64)> {
        let mut last = Last::default();
        let read = each_line(source, at, |line| {
            if self.arguments.wanted(line.text).is_some() {
                last.push((line.text.to_vec(), line.digest()), self.arguments.count);
            }
        })?;
        Ok((last, read.at))
    }

    /// Shows what was appended since.
    fn look(&mut self, out: &mut Output) -> Result<(), Error> {
        let days = days(self.directory)?.files;
        for followed in self.files.values_mut() {
            followed.unseen += 1;
        }
        let mut compressed = Vec::new();
        // From what was the first day at the last look: that may be long ago, for who reads what is printed may have
        // stopped to, and machines sleep.
        let names = days.range(self.floor.clone()..);
        for name in names.flat_map(|(_, names)| names) {
            match self.meet(*name) {
                Ok(true) => {}
                Ok(false) => compressed.push((*name, None)),
                Err(error) => self.leave_out(*name, &error),
            }
        }
        // In the order of their names, for there may be more than one day's.
        let followed = self.files.iter().map(|(id, file)| (file.name, Some(*id)));
        let mut order: Vec<_> = followed.chain(compressed).collect();
        order.sort_unstable();
        for (name, id) in order {
            match id {
                Some(id) => self.more_of(id, out),
                None => self.all_of(name, out),
            }
        }
        self.files.retain(|_, followed| followed.unseen < LINGER);
        self.floor = floor(&days).max(std::mem::take(&mut self.floor));
        let floor = self.floor.as_bytes();
        self.met.retain(|name| name.date[..] >= *floor);
        Ok(())
    }

    /// Sees to it that a file is followed; false if it was compressed before it could be.
    fn meet(&mut self, name: DayName) -> io::Result<bool> {
        let Some(file) = self.directory.open(&name.file_name())? else {
            return Ok(!self.met.insert(name));
        };
        let id = file.identity()?;
        if let Some(followed) = self.files.get_mut(&id) {
            followed.unseen = 0;
            followed.name = name;
        } else if self.files.len() < FOLLOWED {
            self.files.insert(id, Followed::from(name, file, 0));
        } else {
            return Err(io::Error::other("so many files can't be followed"));
        }
        self.met.insert(name);
        Ok(true)
    }

    /// Shows what was appended to a file.
    fn more_of(&mut self, id: (u64, u64), out: &mut Output) {
        let (shown, arguments) = (&mut self.shown, self.arguments);
        let Some(followed) = self.files.get_mut(&id) else {
            return;
        };
        let read = followed.more(|line| {
            if line.is_held() {
                shown.show(arguments, line.text, line.digest(), out);
            }
        });
        // It's tried again, from where it was.
        if let Err(error) = read {
            let name = followed.name;
            self.leave_out(name, &error);
        }
    }

    /// Shows a file that was compressed before it was looked at.
    fn all_of(&mut self, name: DayName, out: &mut Output) {
        let (shown, arguments) = (&mut self.shown, self.arguments);
        let read = self.directory.compressed(name, 0).and_then(|source| {
            let Some(source) = source else {
                return Ok(());
            };
            each_line(source, 0, |line| {
                if line.is_held() {
                    shown.show(arguments, line.text, line.digest(), out);
                }
            })
            .map(drop)
        });
        if let Err(error) = read {
            self.leave_out(name, &error);
        }
    }
}

fn another(line: &[u8]) {
    if let Some(entry) = Entry::parse(line) {
        complain(&format!(
            "another line has the id {}, and is the one that counts",
            plain(&entry.id)
        ));
    }
}

/// The ids of what was shown, and which lines they were.
#[derive(Default)]
struct Shown {
    /// Shows them in another format.
    writer: Option<Writer>,
    keys: Ids,
    lines: HashMap<u64, Digest>,
    order: VecDeque<u64>,
}

impl Shown {
    /// Shows a line if it is an entry that is wanted, and wasn't shown before.
    fn show(&mut self, arguments: &Arguments, line: &[u8], digest: Digest, out: &mut Output) {
        if let Some(entry) = arguments.wanted(line)
            && self.remember(line, digest)
        {
            match &self.writer {
                Some(writer) => writer.write(line, &digest, out),
                None => arguments.print(line, &entry, out),
            }
        }
    }

    /// Keeps an id; false if it was shown before.
    fn remember(&mut self, line: &[u8], digest: Digest) -> bool {
        let Some(id) = self.keys.of(line) else {
            return true;
        };
        match self.lines.get(&id) {
            Some(known) if *known == digest => return false,
            Some(_) => {
                another(line);
                return false;
            }
            None => {}
        }
        self.lines.insert(id, digest);
        self.order.push_back(id);
        if self.order.len() > IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.lines.remove(&oldest);
        }
        true
    }
}
