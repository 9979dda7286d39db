//! What the time stamps of a log prove, when it is verified.

use std::path::Path;
use std::time::SystemTime;

use audit_logger::tool::report::{Class, Report};
use audit_logger::tool::source::{self, Directory, TREE};
use audit_logger::tool::stamp::Stamp;
use audit_logger::tool::stamps::{DIRECTORY, Found, Names};
use audit_logger::tool::{Error, Object};
use chrono::{DateTime, Utc};

use crate::stamp::authority::{Anchors, Said, check};
use crate::stamp::token::{Token, shown};

/// How many time stamps are shown at once.
const SHOWN: usize = 5;

/// Clocks differ by so many seconds.
const TOLERANCE: i64 = 300;

/// A file of the log with a time stamp.
struct Looked {
    path: String,
    /// The size of its checkpoint, and what the token says, where somebody is believed; else what is wrong.
    said: Result<(u64, Option<Said>), (Class, String)>,
}

/// The time stamps of a log.
pub struct Stamped {
    all: Vec<Looked>,
    checked: bool,
    /// Which count, by their places in `all`: how many entries existed, and who says it.
    existed: Vec<(usize, u64, Said)>,
}

fn said(stamp: &Stamp, anchors: Option<&Anchors>) -> Result<Option<Said>, String> {
    let token = Token::parse(&stamp.token).map_err(|error| format!("the token {error}"))?;
    if !token.stamps(stamp.note.as_bytes()) {
        return Err("the token is of something else than the checkpoint".to_owned());
    }
    anchors
        .map(|anchors| check(&token, Some(anchors)))
        .transpose()
}

impl Stamped {
    /// Reads the time stamps of the log in a directory, and asks who made them. To be done before the log is
    /// verified: its tree may grow meanwhile.
    pub fn read(path: &Path, anchors: Option<&Anchors>) -> Result<Stamped, Error> {
        let files = source::open(path)?;
        let directory = Directory::new(&files, &|| false);
        let mut all = Vec::new();
        // What can't be listed is found by who verifies.
        for Found { path, stamp } in Names::of(&directory).unwrap_or_default().read(&directory) {
            let said = match &stamp {
                Err(error) => Err((Class::Unreadable, error.clone())),
                Ok(stamp) => said(stamp, anchors)
                    .map(|said| (stamp.size().unwrap_or(0), said))
                    .map_err(|error| (Class::Forged, error)),
            };
            all.push(Looked { path, said });
        }
        Ok(Stamped {
            all,
            checked: anchors.is_some(),
            existed: Vec::new(),
        })
    }

    /// Adds to the report of the verification what was found, and what is proved.
    pub fn report(&mut self, report: &mut Report) {
        // Those whose checkpoints aren't the tree's were found; if others were that aren't named, nobody knows which.
        let whole = report.finding_count == report.findings.len() as u64;
        let refuted: Vec<String> = report.findings.iter().map(|one| one.file.clone()).collect();
        let compared = whole && !refuted.iter().any(|file| file == TREE);
        let mut beyond = false;
        for (at, one) in self.all.iter().enumerate() {
            let file = format!("{TREE}/{}", one.path);
            match &one.said {
                // Of what can't be read it was found already.
                Err((Class::Unreadable, _)) if refuted.contains(&file) || !whole => {}
                Err((class, error)) => report.add(*class, file, error.clone()),
                Ok((size, Some(_))) if *size > report.size => beyond = true,
                Ok((size, Some(said))) if compared && !refuted.contains(&file) => {
                    self.existed.push((at, *size, said.clone()));
                }
                Ok(_) => {}
            }
        }
        self.existed
            .sort_by_key(|(_, size, said)| (*size, said.when.time));
        let times = self.existed.iter().map(|(_, _, said)| said.when);
        let last = times.max_by_key(|when| when.time);
        report.stamped = last.map(|when| when.to_string());
        report.timestamps_checked = self.checked;
        // Of a copy that was taken while the log grew, the tokens may be newer than the rest.
        if self.checked && self.existed.is_empty() && !(beyond && report.beyond > 0) {
            let message = "no time stamp of the log is by somebody whom --tsa-cert vouches for";
            report.add(
                Class::Unstamped,
                format!("{TREE}/{DIRECTORY}"),
                message.into(),
            );
        }
    }

    /// What they prove, a line each, for people.
    pub fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        let now = DateTime::<Utc>::from(SystemTime::now());
        let hidden = self.existed.len().saturating_sub(SHOWN);
        if hidden > 0 {
            let (_, size, said) = &self.existed[0];
            facts.push(format!(
                "{hidden} times before these, first up to entry {size} at {}",
                said.when
            ));
        }
        for (_, size, said) in &self.existed[hidden..] {
            let mut fact = format!(
                "entries up to {size} existed at {}, said by {}",
                said.when, said.by
            );
            if (said.when.time - now).num_seconds() > TOLERANCE {
                fact.push_str(" (in the future)");
            }
            if said.valid_until < now {
                fact.push_str(&format!(
                    ", whose certificate was valid then and has expired since, at {}",
                    shown(said.valid_until)
                ));
            }
            facts.push(fact);
        }
        if !self.checked && !self.all.is_empty() {
            let count = self.all.len();
            facts.push(format!(
                "{count} time stamps, by whom wasn't checked: give --tsa-cert"
            ));
        }
        facts
    }

    /// The same as a member of the report's JSON.
    pub fn write(&self, timestamps: &mut Object<'_>) {
        timestamps.list("existed", &self.existed, |(at, size, said), out| {
            let mut object = Object::begin(out);
            object.json("entries", size);
            object.text("time", &shown(said.when.time));
            object.json_if("accuracy_s", said.when.accuracy_s());
            object.text("by", &said.by);
            object.text("certificate_valid_until", &shown(said.valid_until));
            object.text("file", &format!("{TREE}/{}", self.all[*at].path));
            object.end();
        });
    }
}
