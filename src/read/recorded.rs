//! What a log has recorded of itself in its tree, beside the digests of its lines: it's counted, and what no
//! log should have to record is found. No file is looked at.

use super::report::{Class, Findings, Held, Report};
use crate::config::RETENTION_FLOOR;
use crate::error::Error;
use crate::format::name::DayName;
use crate::format::policy::Policy;
use crate::format::record::{Range, Record, RecordBody, VERSION};

/// How many holds may be in force at once.
const MOST_HOLDS: usize = 1000;

/// What is found of a line that its writer knew to be another when it was sealed.
pub(super) fn altered(index: u64, range: &Range) -> String {
    let off = range.off;
    format!("entry {index}: the line at byte {off} was changed between its writing and its sealing")
}

impl Report {
    /// Takes a record of the tree by the index of its entry. `policy` says whose witnesses are believed. An error
    /// means that the log is of a later version.
    pub(super) fn record(
        &mut self,
        index: u64,
        record: &Record,
        policy: Option<&Policy>,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        if (index == 0) != matches!(record.body, RecordBody::Settings { .. }) {
            let message = format!("entry {index}: settings are entry 0, and only that");
            findings.tree(Class::Tree, "", message);
        }
        if !record.ts.is_empty() {
            if index == 0 {
                self.begun.clone_from(&record.ts);
            }
            self.last_record.clone_from(&record.ts);
        }
        if let RecordBody::Seg { .. } | RecordBody::Heartbeat = record.body {
            self.last_seal.clone_from(&record.ts);
        }
        match &record.body {
            RecordBody::Settings {
                version, origin, ..
            } => {
                if *version > VERSION {
                    return Err(Error::log(format!(
                        "the log is of version {version}, and this library knows {VERSION}; a later one can verify it"
                    )));
                }
                if *origin != self.origin {
                    let message =
                        format!("the log calls itself {origin}, and its key {}", self.origin);
                    findings.tree(Class::Tree, "", message);
                }
            }
            RecordBody::Torn { .. } => self.torn += 1,
            RecordBody::Gap(_) => self.gaps += 1,
            RecordBody::Recovered(_) => self.recovered += 1,
            RecordBody::Heartbeat => self.heartbeats += 1,
            RecordBody::Prune { file } => {
                self.purged += 1;
                self.check_not_held(index, file, findings);
            }
            RecordBody::Rollback { size, .. } => {
                self.rollbacks += 1;
                let message = format!(
                    "entry {index}: the directory had been put back; the log had come to size {size}, \
                     with entries that aren't there any more"
                );
                findings.tree(Class::RolledBack, "", message);
            }
            RecordBody::Dispute {
                witness,
                size,
                known,
            } => {
                self.disputes += 1;
                let mut believed = policy.iter().flat_map(|policy| policy.witnesses());
                if believed.any(|one| one.key.to_string() == *witness) {
                    let message = format!(
                        "entry {index}: the witness {witness} had seen the log at size {size}, or \
                         another tree, when it had come to {known}: the directory had been put back"
                    );
                    findings.tree(Class::RolledBack, "", message);
                }
            }
            RecordBody::Expired { retention_days, .. } => {
                let below = retention_days.is_some_and(|days| days < RETENTION_FLOOR as u64);
                self.below_floor += u64::from(below);
            }
            RecordBody::Hold { from, to, reason } if self.holds.len() < MOST_HOLDS => {
                self.holds.push(Held {
                    number: index,
                    since: record.ts.clone(),
                    from: from.clone(),
                    to: to.clone(),
                    reason: reason.clone(),
                });
            }
            RecordBody::Hold { .. } => {
                let message = format!("the tree tells of more than {MOST_HOLDS} holds");
                findings.tree(Class::Tree, "", message);
            }
            RecordBody::Release { hold, .. } => {
                let before = self.holds.len();
                self.holds.retain(|held| held.number != *hold);
                self.released += (before - self.holds.len()) as u64;
            }
            RecordBody::Seg { .. } | RecordBody::Altered { .. } | RecordBody::Unknown => {}
        }
        Ok(())
    }

    /// Finds that a file is recorded as removed while its day was held: maintenance doesn't.
    fn check_not_held(&self, index: u64, file: &str, findings: &mut Findings) {
        let date = DayName::parse(file).map(|day| String::from_utf8_lossy(&day.date).into_owned());
        let held = date.and_then(|date| self.holds.iter().find(|held| held.keeps(&date)));
        if let Some(held) = held {
            let message = format!(
                "entry {index}: {file} was removed while the hold of entry {} kept its day",
                held.number
            );
            findings.tree(Class::Tree, "", message);
        }
    }
}
