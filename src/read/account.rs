//! The end of a verification: every file is finished, what else lies there is accounted for, and the tree
//! looked at again, for maintenance that runs meanwhile says there what it removes.

use std::collections::{BTreeMap, BTreeSet};

use super::align::{Day, Tail};
use super::replay::Run;
use super::report::{Class, Findings, Report};
use super::source::MOST_FILES;
use super::tree::{Entries, own_checkpoints};
use super::{strangers, twins};
use crate::error::Error;
use crate::format::name::DayName;
use crate::format::record::{Entry, RecordBody};
use crate::format::tiles::{WIDTH, entries};

impl Run<'_> {
    /// Finishes every file, those that the tree doesn't know included, and makes the report.
    pub(super) fn finish(mut self) -> Result<Report, Error> {
        let mut listing = self
            .directory
            .list()
            .map_err(|error| Error::log(format!("the log's directory: {error}")))?;
        if listing.too_many {
            let message = format!(
                "there are more than {MOST_FILES} files with names of the log's: not all were looked at"
            );
            self.findings.tree(Class::Unreadable, "", message);
        }
        for listed in &listing.days {
            if !self.names.contains_key(&listed.day) {
                self.days.push(Day::new(listed.day));
                self.names.insert(listed.day, self.days.len() - 1);
            }
        }
        let mut tails = BTreeMap::new();
        for (name, at) in std::mem::take(&mut self.names) {
            self.check_stopped()?;
            let finished = self.days[at].finish(self.directory, self.queue, &mut self.findings);
            let tail = self.or_unreadable(at, finished)?.unwrap_or_default();
            self.count(at, &tail);
            self.days[at].close();
            if tail.lines > 0 {
                tails.insert(name, tail);
            }
            let listed = listing
                .days
                .binary_search_by_key(&name, |listed| listed.day);
            if let Some(listed) = listed.ok().and_then(|at| listing.days.get(at))
                && listed.plain
                && listed.compressed
            {
                strangers::compare_twins(
                    self.directory,
                    &mut self.days[at],
                    &mut self.findings,
                    &mut self.report,
                )?;
            }
        }
        self.look_again();
        strangers::explain(self.directory, &listing, &self.days, &mut self.findings)?;
        let sealed: BTreeMap<_, _> = self
            .days
            .iter()
            .filter(|day| day.is_sealed())
            .map(|day| {
                (
                    day.name(),
                    tails.get(&day.name()).map(|tail: &Tail| tail.from),
                )
            })
            .collect();
        twins::conflicts(self.directory, &sealed, &tails, &mut self.report.conflicts)?;
        self.report.strangers.append(&mut listing.strangers);
        self.report.stranger_count = listing.stranger_count;
        self.findings.into_report(&mut self.report);
        Ok(self.report)
    }

    fn count(&mut self, day: usize, tail: &Tail) {
        let (day, report) = (&self.days[day], &mut self.report);
        report.files += u64::from(day.is_sealed() && day.is_there());
        report.lines += day.intact;
        report.unsealed_lines += tail.lines;
        report.unsealed_bytes += tail.bytes;
        report.torn_tails += u64::from(tail.torn);
        report.prunable += u64::from(tail.prunable);
    }

    /// Reads what came to the tree since it was read: of a file that has vanished, retention may have
    /// said there that it removes it.
    fn look_again(&mut self) {
        if !self.days.iter().any(Day::has_vanished) {
            return;
        }
        let pruned = self.pruned_since();
        for day in &mut self.days {
            if day.has_vanished() && pruned.contains(&day.name()) {
                day.forgive(&mut self.findings);
                self.report.purged += 1;
            }
        }
    }

    /// The files that the signed tree tells of as removed, behind what was verified.
    fn pruned_since(&self) -> BTreeSet<DayName> {
        let mut pruned = BTreeSet::new();
        let verifier = self.verifier.as_ref();
        let own = own_checkpoints(
            self.directory,
            verifier,
            self.copy,
            &mut Findings::default(),
        );
        let from = self.edge.size();
        let Some(newest) = own.into_iter().max_by_key(|own| own.size) else {
            return pruned;
        };
        let all = Entries::read(self.directory, newest.size);
        if newest.size <= from || !all.lead_to(self.edge.clone(), &newest) {
            return pruned;
        }
        for number in from / WIDTH..newest.size.div_ceil(WIDTH) {
            let skipped = from.saturating_sub(number * WIDTH) as usize;
            let bytes = all.tile(number).unwrap_or_default();
            for entry in entries(&bytes).skip(skipped) {
                if let Ok(Entry::Record(record)) = Entry::parse(entry)
                    && let RecordBody::Prune { file } = record.body
                {
                    pruned.extend(DayName::parse(&file));
                }
            }
        }
        pruned
    }
}
