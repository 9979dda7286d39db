//! What a verification found, and what it is worth.

use super::source::TREE;
pub use super::witnessed::Witnessed;
use crate::error::{Error, Status};
use crate::format::checkpoint::format_hash;
use crate::format::merkle::Hash;
use crate::json::Object;

/// How many findings of one file are kept; all are counted.
const KEPT: usize = 20;

/// How many findings are kept at all, until they are sorted.
const HELD: usize = 1000;

/// How many findings a report shows.
const SHOWN: usize = 100;

/// How many of what is no finding a report names.
const NAMED: usize = 32;

/// What can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A line isn't what it was, or blanks around it aren't.
    Edited,
    /// Lines are gone.
    Deleted,
    /// There are lines that weren't there.
    Inserted,
    /// Lines stand in another order.
    Reordered,
    /// A sealed line was cut in the middle, or lost its line feed.
    Torn,
    /// A whole file is gone.
    Missing,
    /// The tree is older than what is known of it, or another.
    RolledBack,
    /// The entries, the tiles and the checkpoint don't fit each other.
    Tree,
    /// A checkpoint isn't signed by the key.
    Forged,
    /// It can't be read: damaged, or no plain file.
    Unreadable,
    /// Retention removed the file, and another one has its name.
    Returned,
    /// A compressed file stands beside the plain one of its name, and holds something else.
    Twin,
    /// The policy's quorum of witnesses has signed no checkpoint.
    Unwitnessed,
    /// No time stamp of whom the reader believes is there.
    Unstamped,
}

impl Class {
    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Class::Edited => "edited",
            Class::Deleted => "deleted",
            Class::Inserted => "inserted",
            Class::Reordered => "reordered",
            Class::Torn => "torn",
            Class::Missing => "missing",
            Class::RolledBack => "rolled_back",
            Class::Tree => "tree",
            Class::Forged => "forged",
            Class::Unreadable => "unreadable",
            Class::Returned => "returned",
            Class::Twin => "twin",
            Class::Unwitnessed => "unwitnessed",
            Class::Unstamped => "unstamped",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub class: Class,
    /// In which file.
    pub file: String,
    /// In which line, from 1; 0 where it isn't about a line.
    pub line: u64,
    /// What, for a person.
    pub message: String,
}

/// Findings, of which the first are kept.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    count: u64,
}

impl Findings {
    /// Adds one. `before` is how many there are of this file.
    pub fn add(&mut self, class: Class, file: &str, before: u64, line: u64, message: String) {
        self.count += 1;
        if self.kept.len() < HELD && before < KEPT as u64 {
            let file = file.to_owned();
            self.kept.push(Finding {
                class,
                file,
                line,
                message,
            });
        }
    }

    /// Adds one about the tree or a file of it.
    pub fn tree(&mut self, class: Class, path: &str, message: String) {
        let path = match path {
            "" => TREE.to_owned(),
            path => format!("{TREE}/{path}"),
        };
        let before = self.kept.iter().filter(|found| found.file == path).count();
        self.add(class, &path, before as u64, 0, message);
    }

    /// Takes back what was found of a file.
    pub fn withdraw(&mut self, file: &str, count: u64) {
        self.count -= count;
        self.kept.retain(|found| found.file != file);
    }

    /// Says more of a file that is missing.
    pub fn explain(&mut self, file: &str, more: &str) {
        let missing = |found: &&mut Finding| found.file == file && found.class == Class::Missing;
        if let Some(found) = self.kept.iter_mut().find(missing) {
            found.message.push_str(more);
        }
    }

    /// Adds those of another list.
    pub fn append(&mut self, other: Findings) {
        self.count += other.count;
        self.kept.extend(other.kept);
        self.kept.truncate(HELD);
    }

    /// The first one.
    pub fn first(&self) -> Option<&Finding> {
        self.kept.first()
    }

    /// Hands them over to a report: files first, which say most about what happened, in the order of
    /// their days.
    pub fn into_report(mut self, report: &mut Report) {
        self.kept.sort_by(|a, b| {
            let key = |finding: &Finding| (finding.file.starts_with(TREE), finding.line);
            let by_file = || a.file.cmp(&b.file);
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then_with(by_file).then(a.1.cmp(&b.1))
        });
        self.kept.truncate(SHOWN);
        report.finding_count = self.count;
        report.findings = self.kept;
    }
}

/// Something that is said of a file and is no finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The file.
    pub file: String,
    /// What, for a person.
    pub message: String,
}

/// Remarks, of which the first are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// The first.
    pub kept: Vec<Remark>,
    /// How many there are.
    pub count: u64,
}

impl Remarks {
    /// Adds one.
    pub fn add(&mut self, file: &str, message: String) {
        self.count += 1;
        if self.kept.len() < NAMED {
            let file = file.to_owned();
            self.kept.push(Remark { file, message });
        }
    }
}

/// Days that are held: no file of theirs may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The index of its entry.
    pub number: u64,
    /// When it was made.
    pub since: String,
    /// The first of the days.
    pub from: String,
    /// The last of them.
    pub to: String,
    /// Why.
    pub reason: String,
}

impl Held {
    /// Whether it keeps a day.
    pub fn keeps(&self, date: &str) -> bool {
        (self.from.as_str()..=self.to.as_str()).contains(&date)
    }
}

/// What was verified, and what was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// The size of the tree.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The public key was given; else the directory itself vouches for the directory.
    pub key_given: bool,
    /// How many sizes and roots from outside the directory were compared.
    pub remembered: u64,
    /// What the quorum of the policy has signed last.
    pub witnessed: Option<Witnessed>,
    /// How many time stamps are kept.
    pub timestamps: u64,
    /// Whether it was asked who made them, which isn't done here.
    pub timestamps_checked: bool,
    /// The last time that one vouches for, if some were checked.
    pub stamped: Option<String>,
    /// How many entries behind that size are known of, and not in a copy.
    pub beyond: u64,
    /// Files with sealed lines.
    pub files: u64,
    /// Sealed lines that are as they were.
    pub lines: u64,
    /// Lines and bytes that aren't sealed yet.
    pub unsealed_lines: u64,
    /// See `unsealed_lines`.
    pub unsealed_bytes: u64,
    /// Files whose last line, not sealed yet, has no line feed.
    pub torn_tails: u64,
    /// Torn lines that were blanked.
    pub torn: u64,
    /// Files that were removed as their time was over.
    pub purged: u64,
    /// Days that were marked for removal when they were kept for less than six months.
    pub below_floor: u64,
    /// The holds in force.
    pub holds: Vec<Held>,
    /// How many were released.
    pub released: u64,
    /// Times that the logger itself found sealed bytes missing.
    pub gaps: u64,
    /// Times that it sealed bytes late.
    pub recovered: u64,
    /// Times that it found the directory put back to an older state.
    pub rollbacks: u64,
    /// Times that a witness had seen more of it than there was, or another tree.
    pub disputes: u64,
    /// Signs of life.
    pub heartbeats: u64,
    /// Files that retention has given up, and that are still there as they were sealed.
    pub prunable: u64,
    /// Tiles that are behind what is signed, and are made anew from what is there.
    pub unsettled: u64,
    /// Files that can't be read, and of which nothing was ever sealed.
    pub unreadable: Remarks,
    /// Lines that aren't sealed and have the id of one that is, which is another.
    pub conflicts: Remarks,
    /// Names like those of the log's files that aren't theirs: the first of them, and how many.
    pub strangers: Vec<String>,
    /// See `strangers`.
    pub stranger_count: u64,
    /// When the tree was begun.
    pub begun: String,
    /// When the last record was made.
    pub last_record: String,
    /// When the log was last sealed, or had nothing to seal: other records say nothing of its lines.
    pub last_seal: String,
    /// How many things are wrong.
    pub finding_count: u64,
    /// The first of them, by file and line.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Adds what was found beside the verification.
    pub fn add(&mut self, class: Class, file: String, message: String) {
        self.finding_count += 1;
        if self.findings.len() < SHOWN {
            self.findings.push(Finding {
                class,
                file,
                line: 0,
                message,
            });
        }
    }

    /// Whether nothing is wrong.
    pub fn intact(&self) -> bool {
        self.finding_count == 0
    }

    /// An error that names the first finding, if something is wrong.
    pub fn verdict(&self) -> Result<(), Error> {
        let Some(first) = self.findings.first() else {
            return Ok(());
        };
        let place = match first.line {
            0 => String::new(),
            line => format!(", line {line}"),
        };
        Err(Error::new(
            Status::Tampered,
            format!(
                "{}{place}: {}: {} (findings: {})",
                first.file,
                first.class.name(),
                first.message,
                self.finding_count
            ),
        ))
    }

    /// How much the verdict is worth.
    pub fn grade(&self) -> String {
        let by_whom = match (&self.witnessed, self.key_given) {
            (Some(witnessed), _) => format!("witnessed, as of {}", witnessed.as_of),
            (None, true) => "signed".to_owned(),
            (None, false) => "self-attested".to_owned(),
        };
        let mut grade = by_whom;
        if self.remembered > 0 {
            grade.push_str(", remembered");
        }
        if let Some(time) = &self.stamped {
            grade.push_str(", time-stamped at ");
            grade.push_str(time);
        }
        grade
    }

    /// What this verification could not have seen.
    pub fn blind_spots(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.key_given {
            found.push(
                "a log that was changed and signed anew with another key: the key is the one that \
                 lies in the directory; give the one that was noted when the log was made"
                    .to_owned(),
            );
        }
        if let Some(Witnessed { size, as_of, .. }) = &self.witnessed {
            found.push(format!(
                "a forgery by whoever has the private key, in what came after size {size}, which the \
                 witnesses signed at {as_of}; before that it takes the keys of a quorum of them as well"
            ));
            found.push(format!(
                "an older copy of the whole directory, if it has come to size {size} as well"
            ));
            self.blind_to_the_new(&mut found);
            return found;
        }
        let key = "a forgery by whoever has the private key, which is whoever can read .state/key \
                   unless the log was given another";
        if self.remembered == 0 {
            found.push(key.to_owned());
            found.push(
                "an older copy of the whole directory in its place, or a tree begun anew over changed \
                 lines: nothing outside it says how far the log had come; give a guard file or a kept \
                 checkpoint, or compare \"begun\""
                    .to_owned(),
            );
        } else {
            found.push(format!(
                "{key}, in what came after the guard and every kept checkpoint"
            ));
            found.push(
                "an older copy that is still newer than the guard and every kept checkpoint"
                    .to_owned(),
            );
        }
        if self.beyond > 0 {
            found.push(format!(
                "anything in the {} entries behind the first {}, which aren't in this copy",
                self.beyond, self.size
            ));
        }
        self.blind_to_the_new(&mut found);
        found
    }

    fn blind_to_the_new(&self, found: &mut Vec<String>) {
        if self.timestamps > 0 && !self.timestamps_checked {
            found.push(format!(
                "a time stamp that no authority made: there are {}, and who made them wasn't checked, nor so \
                 since when entries have existed; audit-logger verify --tsa-cert does that",
                self.timestamps
            ));
        }
        if self.unsealed_lines > 0 {
            found.push(format!(
                "a change in the {} lines ({} bytes) that aren't sealed yet",
                self.unsealed_lines, self.unsealed_bytes
            ));
        }
        found.push("a change made before its line was sealed".to_owned());
    }

    /// Appends the report as a JSON object, with what is known of the time stamps beyond their number.
    pub fn write(&self, out: &mut Vec<u8>, of_timestamps: impl FnOnce(&mut Object)) {
        let mut object = Object::begin(out);
        object.json("intact", self.intact());
        object.text("grade", &self.grade());
        object.text("origin", &self.origin);
        object.json("size", self.size);
        object.text("root", &format_hash(&self.root));
        for (key, value) in [
            ("remembered", self.remembered),
            ("beyond", self.beyond),
            ("files", self.files),
            ("lines", self.lines),
            ("unsealed_lines", self.unsealed_lines),
            ("unsealed_bytes", self.unsealed_bytes),
            ("torn_tails", self.torn_tails),
            ("torn", self.torn),
            ("purged", self.purged),
            ("below_floor", self.below_floor),
            ("released", self.released),
            ("gaps", self.gaps),
            ("recovered", self.recovered),
            ("rollbacks", self.rollbacks),
            ("disputes", self.disputes),
            ("heartbeats", self.heartbeats),
            ("prunable", self.prunable),
            ("unsettled", self.unsettled),
            ("stranger_count", self.stranger_count),
        ] {
            object.json(key, value);
        }
        if let Some(witnessed) = &self.witnessed {
            let mut object = object.nested("witnessed");
            object.json("size", witnessed.size);
            object.text("as_of", &witnessed.as_of);
            object.json("in_future", witnessed.in_future);
            object.texts("witnesses", &witnessed.names);
            object.end();
        }
        let mut timestamps = object.nested("timestamps");
        timestamps.json("count", self.timestamps);
        timestamps.json("checked", self.timestamps_checked);
        of_timestamps(&mut timestamps);
        timestamps.end();
        object.list("holds", &self.holds, |held, out| {
            let mut object = Object::begin(out);
            object.json("hold", held.number);
            object.text("since", &held.since);
            object.text("from", &held.from);
            object.text("to", &held.to);
            object.text("reason", &held.reason);
            object.end();
        });
        object.texts("strangers", &self.strangers);
        for (key, remarks) in [
            ("unreadable", &self.unreadable),
            ("conflicts", &self.conflicts),
        ] {
            object.list(key, &remarks.kept, |remark, out| {
                let mut object = Object::begin(out);
                object.text("file", &remark.file);
                object.text("message", &remark.message);
                object.end();
            });
        }
        object.text("begun", &self.begun);
        object.text("last_record", &self.last_record);
        object.json("finding_count", self.finding_count);
        object.list("findings", &self.findings, |finding, out| {
            let mut object = Object::begin(out);
            object.text("class", finding.class.name());
            object.text("file", &finding.file);
            object.json_if("line", (finding.line > 0).then_some(finding.line));
            object.text("message", &finding.message);
            object.end();
        });
        object.texts("cannot_detect", &self.blind_spots());
        object.end();
    }
}
