//! Every entry of a log once: what stands twice is folded, and of lines with one id that differ one counts.

use std::collections::{HashMap, HashSet};

use audit_logger::tool::Error;
use audit_logger::tool::lines::Seen;
use audit_logger::tool::name::DayName;
use audit_logger::tool::report::Remarks;
use audit_logger::tool::source::{Directory, MOST_FILES, not_the_file_s};
use audit_logger::tool::twins::{Ids, Repeated};
use chrono::NaiveDate;

use crate::entries::{Days, Entry, Versions, days, each_line, key};
use crate::output::{Progress, complain, plain};

/// How many lines are read between two looks at how far it is.
const LINES: u64 = 1 << 10;

/// Of a stranger's id so much is shown: an entry's is shorter.
const LONGEST_ID: usize = 64;

/// The files of the days from one to another, both among them.
pub fn between(
    directory: &Directory,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<Days, Error> {
    let mut days = days(directory)?;
    days.files.retain(|day, _| {
        from.is_none_or(|from| *day >= from.to_string())
            && to.is_none_or(|to| *day <= to.to_string())
    });
    Ok(days)
}

/// Adds up a log: hands each entry of some days, with its line, to `take`, and returns what that made of what `begin`
/// made.
///
/// That no id comes more than once is taken for granted, and checked. Where one does, it begins anew, and reads the ids
/// of each day first.
pub fn add_up<'d, A>(
    directory: &'d Directory<'d>,
    days: &Days,
    begin: impl Fn() -> Result<A, Error>,
    mut take: impl FnMut(&mut A, &str, &Entry, &Seen) -> Result<(), Error>,
) -> Result<(A, Once<'d>), Error> {
    let mut ids_first = false;
    'anew: loop {
        let mut once = Once::new(directory, days, "adding up");
        let mut sums = begin()?;
        for (day, files) in &days.files {
            let take = |entry: &Entry, line: &Seen| take(&mut sums, day, entry, line);
            if ids_first {
                once.day(day, files, take)?;
            } else if !once.try_day(files, take)? {
                ids_first = true;
                continue 'anew;
            }
        }
        once.progress.end();
        return Ok((sums, once));
    }
}

/// A log that is read day by day.
pub struct Once<'a> {
    directory: &'a Directory<'a>,
    ids: Ids,
    pub progress: Progress,
    /// What is done with it, and how many bytes of how many are.
    what: &'static str,
    done: u64,
    of: u64,
    /// Lines that are no entries, and what is cut off of lines at the ends of files.
    pub skipped: u64,
    /// Lines with the id of an entry that counts, and that aren't it.
    pub conflicts: Remarks,
    /// What couldn't be read.
    pub left_out: Remarks,
}

impl<'a> Once<'a> {
    /// Some days of a log, of which `what` will be done.
    pub fn new(directory: &'a Directory<'a>, days: &Days, what: &'static str) -> Once<'a> {
        let mut left_out = Remarks::default();
        if days.too_many {
            let message = format!("there are more than {MOST_FILES} files, and not all are read");
            left_out.add("audit_*", message);
        }
        let files = days.files.values().flatten();
        let lengths = files.map(|file| directory.length(*file));
        Once {
            directory,
            ids: Ids::default(),
            progress: Progress::new(),
            what,
            done: 0,
            of: lengths.fold(0, u64::saturating_add),
            skipped: 0,
            conflicts: Remarks::default(),
            left_out,
        }
    }

    /// Hands over each entry of a day. False if an id came more than once: then none of it counts.
    fn try_day(
        &mut self,
        files: &[DayName],
        mut take: impl FnMut(&Entry, &Seen) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut repeated = Repeated::default();
        self.read(files, true, |log, _, line| {
            let Some(entry) = log.entry(line) else {
                return Ok(());
            };
            repeated.add(log.ids.of_id(&entry.id));
            take(&entry, line)
        })?;
        while repeated.end() {
            self.read_ids(files, &mut repeated)?;
        }
        Ok(repeated.found.is_empty())
    }

    /// Hands over each entry of a day. First its ids alone are read, for those that come more than once: of such
    /// the lines are compared, and one of them counts.
    pub fn day(
        &mut self,
        day: &str,
        files: &[DayName],
        mut take: impl FnMut(&Entry, &Seen) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut repeated = Repeated::default();
        loop {
            self.read_ids(files, &mut repeated)?;
            if !repeated.end() {
                break;
            }
        }
        if repeated.too_many {
            let message = format!(
                "more than {} ids come twice: others count twice",
                Repeated::MOST
            );
            self.conflicts.add(day, message);
        }
        let mut counts = HashMap::new();
        if !repeated.found.is_empty() {
            let mut versions = Versions::default();
            self.read(files, false, |log, _, line| {
                if let Some((id, digest)) = key(&log.ids, line)
                    && repeated.found.contains(&id)
                    && let Some(entry) = Entry::parse(line.text)
                {
                    versions.add(id, digest, &entry.timestamp);
                }
                Ok(())
            })?;
            counts = versions.decide(self.directory)?;
        }
        let mut counted = HashSet::new();
        self.read(files, true, |log, file, line| {
            let Some(entry) = log.entry(line) else {
                return Ok(());
            };
            if !counts.is_empty()
                && let Some((id, digest)) = key(&log.ids, line)
                && let Some(counting) = counts.get(&id)
            {
                if *counting != digest {
                    let id: String = plain(&entry.id).chars().take(LONGEST_ID).collect();
                    let message =
                        format!("another line has the id {id}, and is the one that counts");
                    log.conflicts
                        .add(&format!("{}:{}", file.file_name(), line.number), message);
                    return Ok(());
                }
                if !counted.insert(id) {
                    return Ok(());
                }
            }
            take(&entry, line)
        })
    }

    /// The entry in a line.
    fn entry<'l>(&mut self, line: &Seen<'l>) -> Option<Entry<'l>> {
        let entry = Entry::parse(line.text);
        self.skipped += u64::from(entry.is_none() && !line.is_blank());
        entry
    }

    fn read_ids(&mut self, files: &[DayName], repeated: &mut Repeated) -> Result<(), Error> {
        self.read(files, false, |log, _, line| {
            log.ids
                .of(line.text)
                .into_iter()
                .for_each(|id| repeated.add(id));
            Ok(())
        })
    }

    /// Hands over all whole lines of some files. What can't be read, or isn't a whole line, is left out. If this is
    /// the reading that counts, that is noted, and shown how far it is.
    fn read(
        &mut self,
        files: &[DayName],
        counts: bool,
        mut take: impl FnMut(&mut Self, DayName, &Seen) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for file in files {
            let length = match counts {
                true => self.directory.length(*file),
                false => 0,
            };
            let mut taken = Ok(());
            // It may have been removed since the directory was listed.
            let read = self
                .directory
                .day(*file, 0)
                .and_then(|source| match source {
                    Some(source) => each_line(source, 0, |line| {
                        if counts && line.number.is_multiple_of(LINES) {
                            // What is compressed has more.
                            self.show(line.end.min(length));
                        }
                        if taken.is_ok() {
                            taken = take(self, *file, line);
                        }
                    })
                    .map(|ended| ended.is_cut),
                    None => Ok(false),
                });
            taken?;
            match read {
                Ok(is_cut) => self.skipped += u64::from(is_cut && counts),
                Err(error) => {
                    if let Some(ended) = not_the_file_s(&error) {
                        return Err(ended);
                    }
                    if counts {
                        self.left_out.add(&file.file_name(), error.to_string());
                    }
                }
            }
            if counts {
                self.done = self.done.saturating_add(length);
                self.show(0);
            }
        }
        Ok(())
    }

    /// Shows how far it is, with so many bytes of the file that is read.
    fn show(&mut self, bytes: u64) {
        let done = self.done.saturating_add(bytes);
        self.progress.show(self.what, done, self.of);
    }

    /// Says on the standard error what doesn't count.
    pub fn complain(&self) {
        for (remarks, what) in [
            (&self.left_out, "is left out"),
            (&self.conflicts, "doesn't count"),
        ] {
            for remark in &remarks.kept {
                complain(&format!("{} {what}: {}", remark.file, remark.message));
            }
            let more = remarks.count - remarks.kept.len() as u64;
            if more > 0 {
                complain(&format!("and {more} more"));
            }
        }
    }
}
