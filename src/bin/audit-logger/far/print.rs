//! What was found, for people and for programs.

use serde_json::{Value, json};

use super::found::{Found, NAMED};
use super::line::Standing;
use super::prefix;
use crate::output::{Colour, Output, plain};
use crate::verify::recorded;

impl Found<'_> {
    pub fn json(&self) -> Value {
        let logs = self.answers.iter().map(|(host, answer)| {
            let report = match answer {
                Ok(report) => report,
                Err(error) => {
                    return json!({"host": host.name, "intact": false, "error": error.message});
                }
            };
            let findings = report.findings.iter().map(|finding| {
                json!({"class": finding.class.name(), "file": finding.file, "message": finding.message})
            });
            json!({
                "host": host.name, "origin": report.origin, "grade": report.grade(), "size": report.size, "beyond": report.beyond,
                "intact": report.intact(), "begun": report.begun, "last_seal": report.last_seal,
                "silent": host.is_silent(report), "torn": report.torn, "purged": report.purged, "holds": report.holds.len(),
                "gaps": report.gaps, "recovered": report.recovered, "rollbacks": report.rollbacks, "disputes": report.disputes,
                "heartbeats": report.heartbeats, "findings": findings.collect::<Vec<_>>(),
            })
        });
        let days = self.days.iter().map(|((host, day), counts)| {
            let told = counts.told();
            json!({
                "host": host, "day": day, "altered": told.altered, "missing": told.missing, "overdue": told.overdue,
                "unknown": told.unknown, "doubled": told.doubled, "unsealed": told.unsealed, "unanswered": told.unanswered,
            })
        });
        let missing = self.missing.iter().map(
            |missing| json!({"host": missing.host, "file": missing.file, "line": missing.line}),
        );
        let strange = self.strange.iter().map(|strange| {
            let line = &strange.line;
            json!({
                "as": strange.standing.name(), "file": strange.file, "line": strange.number, "host": line.host, "id": line.id,
                "timestamp": line.timestamp,
            })
        });
        let told = self.told(None);
        json!({
            "complete": self.verdict().is_ok(), "lines": self.lines, "sealed": self.sealed,
            "altered": told.altered, "missing": told.missing, "overdue": told.overdue, "unknown": told.unknown,
            "doubled": told.doubled, "unsealed": told.unsealed, "unanswered": told.unanswered,
            "logs": logs.collect::<Vec<_>>(), "days": days.collect::<Vec<_>>(),
            "not_there": missing.collect::<Vec<_>>(), "not_sealed": strange.collect::<Vec<_>>(),
        })
    }

    pub fn print(&self, out: &mut Output) {
        let verdict = match self.verdict() {
            Ok(()) => out.coloured(Colour::Green, "complete"),
            Err(_) => out.coloured(Colour::Red, "NOT COMPLETE"),
        };
        let (lines, sealed) = (self.lines, self.sealed);
        out.line(format_args!(
            "{verdict}: {lines} lines, {sealed} sealed ones"
        ));
        self.print_logs(out);
        for ((host, day), counts) in self.days.iter().take(NAMED) {
            let told = counts.told();
            let counted = [
                (told.altered, "altered"),
                (told.missing, "missing"),
                (told.overdue, "overdue"),
                (told.unknown, "unknown"),
                (told.doubled, "doubled"),
                (told.unsealed, "not sealed yet"),
                (told.unanswered, "of a log without an answer"),
            ];
            let counted: Vec<String> = counted
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            let (host, counted) = (prefix(host), counted.join(", "));
            out.line(format_args!("{host}{}: {counted}", plain(day)));
        }
        let more = self.days.len().saturating_sub(NAMED);
        if more > 0 {
            out.line(format_args!("... and {more} more days"));
        }
        if let Some(overdue) = self.overdue() {
            out.line(plain(&overdue));
        }
        if self.told(None).unsealed > 0 {
            out.line("nothing vouches for lines that aren't sealed yet: verify them once they are");
        }
        for missing in &self.missing {
            let (host, file) = (prefix(&missing.host), plain(&missing.file));
            out.line(format_args!("  not there:  {host}{file}:{}", missing.line));
        }
        for strange in &self.strange {
            let what = match strange.standing {
                Standing::Overdue => "overdue:   ",
                _ => "not sealed:",
            };
            let line = &strange.line;
            out.line(format_args!(
                "  {what} {}:{}, {}id {}, stamped {}",
                plain(&strange.file),
                strange.number,
                prefix(&line.host),
                plain(&line.id),
                plain(&line.timestamp)
            ));
        }
    }

    fn print_logs(&self, out: &mut Output) {
        for (host, answer) in self.answers.iter() {
            let report = match answer {
                Ok(report) => report,
                Err(error) => {
                    let wrong = out.coloured(Colour::Red, "NO ANSWER");
                    let (host, message) = (prefix(&host.name), plain(&error.message));
                    out.line(format_args!("log:      {host}{wrong}: {message}"));
                    continue;
                }
            };
            let silent = match host.is_silent(report) {
                true => out.coloured(Colour::Red, ", SILENT since then"),
                false => "".into(),
            };
            out.line(format_args!(
                "log:      {}{}, {} entries ({}), sealed until {}{silent}",
                prefix(&host.name),
                plain(&report.origin),
                report.size,
                report.grade(),
                plain(&report.last_seal)
            ));
            if report.beyond > 0 {
                let beyond = report.beyond;
                out.line(format_args!(
                    "  {beyond} more entries are known of, and not in this copy"
                ));
            }
            for text in recorded(report) {
                out.line(format_args!("  recorded: {text}"));
            }
            for finding in &report.findings {
                let class = out.coloured(Colour::Red, finding.class.name());
                let (file, message) = (plain(&finding.file), plain(&finding.message));
                out.line(format_args!("  {file}: {class}: {message}"));
            }
        }
    }
}
