//! What the page says of the log itself: in the words of verify, and what its numbers leave out.

use audit_logger::tool::report::Remarks;
use maud::{Markup, html};

use super::page::{LONGEST, Page, text};
use crate::numbers::whole;
use crate::verify::facts;

/// Lists are cut here.
const LISTED: usize = 50;

impl Page<'_> {
    pub fn verdict(&self) -> Markup {
        let (class, title, text) = match self.verified {
            None => (
                "open",
                "Not verified",
                "The report was made without looking at the log's tree.".to_owned(),
            ),
            Some(Err(error)) => (
                "open",
                "No verdict",
                format!("{}.", sentence(&text(error, LONGEST))),
            ),
            Some(Ok((report, _))) => {
                let text = format!("Verified: {}.", report.grade());
                match report.intact() {
                    true => (
                        "good",
                        "\u{2713} Intact: every sealed line is as it was sealed",
                        text,
                    ),
                    false => {
                        let found = format!("{text} Findings: {}.", whole(report.finding_count));
                        (
                            "bad",
                            "\u{2717} TAMPERED: the log isn't what was sealed",
                            found,
                        )
                    }
                }
            }
        };
        html! {
            p class={ "verdict " (class) } {
                strong { (title) }
                span { (text) " " a href="#state" { "The state of the log" } "." }
            }
        }
    }

    pub fn state(&self) -> Markup {
        let (report, stamped) = match self.verified {
            Some(Ok(verified)) => verified,
            Some(Err(error)) => {
                return html! { section id="state" {
                    h2 { "The state of the log" }
                    p { "It could not be verified: " span.name { (text(error, LONGEST)) } "." }
                } };
            }
            None => {
                return html! { section id="state" {
                    h2 { "The state of the log" }
                    p { "It was not verified. " code { "audit-logger verify" } " does that." }
                } };
            }
        };
        let mut facts = facts(report);
        facts.extend(stamped.facts().into_iter().map(|fact| ("stamped", fact)));
        let holds = report.holds.len();
        html! {
            section id="state" {
                h2 { "The state of the log" }
                p.soft { "The whole log was verified, whatever days and users the numbers above are of." }
                dl.facts {
                    dt { "verdict" }
                    dd { @if report.intact() { "intact" } @else { "TAMPERED" } " (" (text(&report.grade(), LONGEST)) ")" }
                    @for (about, fact) in facts.iter().take(LISTED) {
                        dt { (about) }
                        dd { (text(fact, LONGEST * 4)) }
                    }
                    @if holds == 0 { dt { "held" } dd { "no days" } }
                    @if facts.len() > LISTED { dt { "and" } dd { (facts.len() - LISTED) " more" } }
                }
                @if !report.intact() {
                    h3 { "Findings: " (whole(report.finding_count)) }
                    ul.plain {
                        @for finding in report.findings.iter().take(LISTED) {
                            li {
                                strong { (finding.class.name()) } " "
                                (text(&finding.file, LONGEST))
                                @if finding.line > 0 { ", line " (whole(finding.line)) }
                                ": " (text(&finding.message, LONGEST))
                            }
                        }
                        (more(report.finding_count, report.findings.len().min(LISTED)))
                    }
                }
                (remarks("Unreadable, and never sealed", &report.unreadable))
                (remarks("Not counting", &report.conflicts))
                @if report.stranger_count > 0 {
                    h3 { "Named like the log\u{2019}s files, and none of them: " (whole(report.stranger_count)) }
                    ul.plain {
                        @for stranger in report.strangers.iter().take(LISTED) { li { (text(stranger, LONGEST)) } }
                        (more(report.stranger_count, report.strangers.len().min(LISTED)))
                    }
                }
                h3 { "What can\u{2019}t be detected with what was given" }
                ul.plain {
                    @for blind_spot in report.blind_spots() { li { (text(&blind_spot, LONGEST * 2)) } }
                }
            }
        }
    }

    pub fn not_counted(&self) -> Markup {
        let notes = [
            (
                self.read.added.gaps,
                "Calls without an entry, which the log couldn\u{2019}t take",
            ),
            (self.read.skipped, "Lines that are no entries"),
        ];
        let any = notes.iter().any(|(count, _)| *count > 0);
        html! {
            section {
                h2 { "What the numbers leave out" }
                @if !any && self.read.conflicts.count == 0 && self.read.left_out.count == 0 {
                    p { "Nothing: every line of these days is an entry, and is counted once." }
                }
                @for (count, what) in notes.iter().filter(|(count, _)| *count > 0) {
                    p { (what) ": " (whole(*count)) "." }
                }
                (remarks("Files that can\u{2019}t be read", &self.read.left_out))
                (remarks("Lines with the id of another entry that counts", &self.read.conflicts))
            }
        }
    }
}

/// What was said, as it begins a sentence.
fn sentence(said: &str) -> String {
    let mut rest = said.chars();
    let first = rest.next();
    first
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(rest)
        .collect()
}

fn remarks(title: &str, remarks: &Remarks) -> Markup {
    html! {
        @if remarks.count > 0 {
            h3 { (title) ": " (whole(remarks.count)) }
            ul.plain {
                @for remark in remarks.kept.iter().take(LISTED) {
                    li { (text(&remark.file, LONGEST)) ": " (text(&remark.message, LONGEST)) }
                }
                (more(remarks.count, remarks.kept.len().min(LISTED)))
            }
        }
    }
}

fn more(count: u64, shown: usize) -> Markup {
    let more = count.saturating_sub(shown as u64);
    html! { @if more > 0 { li { "and " (whole(more)) " more" } } }
}
