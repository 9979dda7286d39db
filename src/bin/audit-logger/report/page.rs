//! The report as a page: one file, without scripts, in which every text is escaped.

use audit_logger::tool::Error;
use audit_logger::tool::report::Report;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::added::Top;
use super::charts::{Chart, Series};
use super::{Read, visible};
use crate::numbers::{cost, decimal, share, short, short_whole, shortened, time, whole};
use crate::stamped::Stamped;
use crate::sums::Sums;

/// Texts of the log are cut here: the page is to stay small whatever the log says.
pub const LONGEST: usize = 300;
const LONGEST_NAME: usize = 96;

/// What browsers may do with the page: no script, no request, not even if something in it asked for one.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// What the classes of errors mean to who doesn't know the openai client.
const CLASSES: [(&str, &str); 16] = [
    ("APIConnectionError", "No connection, or it broke"),
    ("APIError", "The server reported an error without a class"),
    ("APIResponseValidationError", "The answer wasn't one"),
    (
        "APIStatusError",
        "The server answered with another status than success",
    ),
    (
        "APITimeoutError",
        "No whole answer in the time that the call had",
    ),
    ("AuthenticationError", "The key was refused (401)"),
    ("BadRequestError", "The request was refused (400)"),
    ("Cancelled", "The caller gave the call up"),
    ("ConflictError", "The server's state forbade it (409)"),
    ("IncompleteResponse", "A stream ended before its end"),
    ("InternalServerError", "The server failed (5xx)"),
    ("NotFoundError", "No such model or address (404)"),
    ("OutcomeUnknown", "The process died during the call"),
    ("PermissionDeniedError", "The key has no right to it (403)"),
    (
        "RateLimitError",
        "Too many requests, or no credit left (429)",
    ),
    ("ResponseTooLarge", "The answer was larger than allowed"),
];

/// All that the page says.
pub struct Page<'a> {
    /// The log, as it was given.
    pub log: String,
    pub made: String,
    /// Whose calls alone it is about.
    pub user: Option<&'a str>,
    pub read: &'a Read,
    /// `None` if it wasn't to be verified, and why if that gave no answer.
    pub verified: Option<&'a Result<(Report, Stamped), String>>,
}

/// One column of a table over time.
type Column<'a> = (&'a str, Box<dyn Fn(&Sums) -> String + 'a>);

impl Page<'_> {
    pub fn html(&self) -> Result<String, Error> {
        let title = format!("Audit report: {}", self.name());
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="referrer" content="no-referrer";
                    meta name="robots" content="noindex";
                    title { (title) }
                    style { (PreEscaped(include_str!("style.css"))) }
                }
                body {
                    header {
                        h1 { (title) }
                        (self.subject())
                    }
                    main {
                        (self.verdict())
                        (self.sums())
                        @if self.read.added.total.calls > 0 {
                            (self.calls()?)
                            (self.errors()?)
                            (self.tokens_and_cost()?)
                            (self.latency()?)
                            (self.by("model", "Models", &Top::of(&self.read.added.models)?)?)
                            (self.by("user", "Users", &Top::of(&self.read.added.users)?)?)
                        }
                        (self.state())
                        (self.not_counted())
                    }
                    footer { (notes()) }
                }
            }
        };
        Ok(page.into_string())
    }

    /// The log's name: as the tree has it, or as it was given.
    fn name(&self) -> String {
        match self.verified {
            Some(Ok((report, _))) if !report.origin.is_empty() => text(&report.origin, LONGEST),
            _ => text(&self.log, LONGEST),
        }
    }

    fn subject(&self) -> Markup {
        html! {
            p {
                @match &self.read.days {
                    Some((first, last)) if first == last => { "Calls to language models on " (first) " (UTC)" },
                    Some((first, last)) => { "Calls to language models from " (first) " to " (last) " (UTC)" },
                    None => { "There are no days" },
                }
                @if let Some(user) = self.user {
                    ", of the user " bdi.name { (text(user, LONGEST_NAME)) } " alone"
                }
                "."
            }
            p.soft {
                "Made at " (self.made) " by audit-logger " (env!("CARGO_PKG_VERSION")) " from the log in "
                span.name { (text(&self.log, LONGEST)) } "."
            }
        }
    }

    fn sums(&self) -> Markup {
        let total = &self.read.added.total;
        let errors = total.error_count();
        let sum = |name: &str, value: String, more: String| {
            html! { div { dt { (name) } dd { (value) @if !more.is_empty() { small { (more) } } } } }
        };
        let without = |count: u64, what: &str| match count {
            0 => String::new(),
            count => format!("{} calls have none {what}", whole(count)),
        };
        let latency = |quantile| total.latency(quantile).map_or("\u{2013}".to_owned(), time);
        let count = |groups| Top::of(groups).map_or(0, |top: Top| top.count());
        let (models, users) = (
            count(&self.read.added.models),
            count(&self.read.added.users),
        );
        html! {
            dl.sums {
                (sum("Calls", whole(total.calls), match self.read.added.gaps {
                    0 => String::new(),
                    gaps => format!("and {} without an entry", whole(gaps)),
                }))
                (sum("Errors", whole(errors), share(errors, total.calls)))
                (sum("Unknown outcomes", whole(total.unknown), "may have been processed and billed".to_owned()))
                (sum("Prompt tokens", whole(total.prompt_tokens), without(total.without_tokens, "or not both")))
                (sum("Completion tokens", whole(total.completion_tokens), String::new()))
                (sum("Cost", cost(total.cost()), without(total.without_cost, "reported")))
                (sum("Median latency", latency(0.5), format!("p90 {}, p99 {}", latency(0.9), latency(0.99))))
                (sum("Users", whole(users as u64), match models {
                    1 => "1 model".to_owned(),
                    models => format!("{} models", whole(models as u64)),
                }))
            }
        }
    }

    /// A value for each step.
    fn series(&self, value: impl Fn(&Sums) -> Option<f64>) -> Series {
        self.read.added.by_step.iter().map(value).collect()
    }

    /// What each step adds up to, in a table beside its chart.
    fn over_time(&self, caption: &str, columns: &[Column]) -> Markup {
        let steps = &self.read.added.steps;
        html! {
            div.wide.tall tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption { (caption) }
                    thead {
                        tr {
                            th scope="col" { (steps.unit()) }
                            @for (name, _) in columns { th scope="col" { (name) } }
                        }
                    }
                    tbody {
                        @for (step, sums) in self.read.added.by_step.iter().enumerate() {
                            tr {
                                th scope="row" { (steps.name(step)) }
                                @for (_, cell) in columns { td { (cell(sums)) } }
                            }
                        }
                    }
                    tfoot {
                        tr {
                            th scope="row" { "total" }
                            @for (_, cell) in columns { td { (cell(&self.read.added.total)) } }
                        }
                    }
                }
            }
        }
    }

    /// What a chart over time shows, for who doesn't see it.
    fn range(&self) -> String {
        let steps = &self.read.added.steps;
        let last = steps.name(steps.count.saturating_sub(1));
        format!("from {} to {last}; the table has the values", steps.name(0))
    }

    fn calls(&self) -> Result<Markup, Error> {
        let chart = Chart {
            id: "calls",
            title: "Calls over time",
            description: format!(
                "Bars of successes, errors and unknown outcomes {}.",
                self.range()
            ),
            label: short_whole,
        };
        let known = |sums: &Sums| sums.error_count().saturating_sub(sums.unknown);
        let good = |sums: &Sums| sums.calls - sums.error_count();
        let drawn = chart.bars(
            &self.read.added.steps,
            &[
                self.series(|sums| Some(good(sums) as f64)),
                self.series(|sums| Some(known(sums) as f64)),
                self.series(|sums| Some(sums.unknown as f64)),
            ],
        )?;
        let table = self.over_time(
            "Calls and how they ended",
            &[
                ("calls", Box::new(|sums| whole(sums.calls))),
                (
                    "successes",
                    Box::new(|sums| whole(sums.calls - sums.error_count())),
                ),
                ("errors", Box::new(|sums| whole(sums.error_count()))),
                ("unknown outcomes", Box::new(|sums| whole(sums.unknown))),
                (
                    "errors, %",
                    Box::new(|sums| share(sums.error_count(), sums.calls)),
                ),
            ],
        );
        let key = key(&["success", "error", "unknown outcome"], false);
        Ok(section(
            "Calls",
            html! {},
            figure(chart.title, key, drawn),
            table,
        ))
    }

    fn errors(&self) -> Result<Markup, Error> {
        let total = &self.read.added.total;
        if total.error_count() == 0 {
            return Ok(html! { section { h2 { "Errors" } p { "No call failed." } } });
        }
        let (classes, more) = self.read.added.classes();
        let of = |sums: &Sums, class: &str| sums.errors.get(class).copied().unwrap_or(0);
        let others = |sums: &Sums| {
            let named: u64 = classes.iter().map(|class| of(sums, class)).sum();
            sums.error_count() - named
        };
        let mut series: Vec<Series> = classes
            .iter()
            .map(|class| self.series(|sums| Some(of(sums, class) as f64)))
            .collect();
        let mut names: Vec<String> = classes
            .iter()
            .map(|class| text(class, LONGEST_NAME))
            .collect();
        if more {
            series.push(self.series(|sums| Some(others(sums) as f64)));
            names.push("others".to_owned());
        }
        let chart = Chart {
            id: "errors",
            title: "Errors over time, by class",
            description: format!("Bars of errors by their class {}.", self.range()),
            label: short_whole,
        };
        let drawn = chart.bars(&self.read.added.steps, &series)?;
        let mut columns: Vec<Column> = Vec::new();
        for (name, class) in names.iter().zip(&classes) {
            let class = *class;
            columns.push((name, Box::new(move |sums| whole(of(sums, class)))));
        }
        if more {
            columns.push(("others", Box::new(|sums| whole(others(sums)))));
        }
        let table = self.over_time("Errors by class", &columns);
        let mut all: Vec<_> = total.errors.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let meaning = |class: &str| {
            CLASSES
                .iter()
                .find(|(name, _)| *name == class)
                .map(|(_, meaning)| *meaning)
        };
        let what = html! {
            div.wide tabindex="0" role="region" aria-label="Classes of errors" {
                table {
                    caption { "Classes of errors" }
                    thead { tr {
                        th scope="col" { "class" } th scope="col" { "errors" }
                        th scope="col" { "of all calls" } th.text scope="col" { "what it says" }
                    } }
                    tbody {
                        @for (class, count) in &all {
                            tr {
                                th.name scope="row" { bdi { (text(class, LONGEST_NAME)) } }
                                td { (whole(**count)) } td { (share(**count, total.calls)) }
                                td.text { (meaning(class).unwrap_or("")) }
                            }
                        }
                    }
                }
            }
        };
        let names: Vec<&str> = names.iter().map(|name| &name[..]).collect();
        let key = key(&names, false);
        Ok(section(
            "Errors",
            what,
            figure(chart.title, key, drawn),
            table,
        ))
    }

    fn tokens_and_cost(&self) -> Result<Markup, Error> {
        let steps = &self.read.added.steps;
        let tokens = Chart {
            id: "tokens",
            title: "Tokens over time",
            description: format!("Bars of prompt and completion tokens {}.", self.range()),
            label: short_whole,
        };
        let costs = Chart {
            id: "cost",
            title: "Cost over time",
            description: format!("Bars of costs {}.", self.range()),
            label: short,
        };
        let prompt = self.series(|sums| Some(sums.prompt_tokens as f64));
        let completion = self.series(|sums| Some(sums.completion_tokens as f64));
        let figures = html! {
            div {
                (figure(tokens.title, key(&["prompt", "completion"], false), tokens.bars(steps, &[prompt, completion])?))
                (figure(costs.title, html! {}, costs.bars(steps, &[self.series(Sums::cost)])?))
            }
        };
        let table = self.over_time(
            "Tokens and cost",
            &[
                ("prompt tokens", Box::new(|sums| whole(sums.prompt_tokens))),
                (
                    "completion tokens",
                    Box::new(|sums| whole(sums.completion_tokens)),
                ),
                (
                    "calls without tokens",
                    Box::new(|sums| whole(sums.without_tokens)),
                ),
                ("cost", Box::new(|sums| cost(sums.cost()))),
                (
                    "calls without cost",
                    Box::new(|sums| whole(sums.without_cost)),
                ),
            ],
        );
        let note = html! {
            p.soft { "As providers reported them, in their currency; nothing is estimated. Calls without are counted beside them." }
        };
        Ok(section("Tokens and cost", note, figures, table))
    }

    fn latency(&self) -> Result<Markup, Error> {
        let chart = Chart {
            id: "latency",
            title: "Latency over time",
            description: format!(
                "Lines of the latencies that 50, 90 and 99 % of the calls didn't exceed, {}.",
                self.range()
            ),
            label: time,
        };
        let quantile = |quantile| self.series(|sums| sums.latency(quantile));
        let series = [quantile(0.5), quantile(0.9), quantile(0.99)];
        let drawn = chart.lines(&self.read.added.steps, &series)?;
        let table = self.over_time(
            "Latency",
            &[
                ("calls", Box::new(|sums| whole(sums.calls))),
                ("p50 ms", Box::new(|sums| decimal(sums.latency(0.5), 1))),
                ("p90 ms", Box::new(|sums| decimal(sums.latency(0.9), 1))),
                ("p99 ms", Box::new(|sums| decimal(sums.latency(0.99), 1))),
            ],
        );
        let note = html! {
            p.soft { "Of all calls that have one, failed ones too, right to within 1 %: p90 is what 90 % of them didn't exceed." }
        };
        let key = key(&["p50", "p90", "p99"], true);
        Ok(section(
            "Latency",
            note,
            figure(chart.title, key, drawn),
            table,
        ))
    }

    fn by(&self, id: &str, title: &str, top: &Top) -> Result<Markup, Error> {
        let chart = Chart {
            id,
            title: &format!("Calls by {id}"),
            description: format!(
                "Bars of successes and errors of each {id} that has a line of its own; the table has the values."
            ),
            label: short_whole,
        };
        let counts = |sums: &Sums| {
            let errors = sums.error_count();
            vec![(sums.calls - errors) as f64, errors as f64]
        };
        let others = top.others.as_ref().map(|(count, sums)| {
            let count = whole(*count as u64);
            let name = match top.more {
                true => format!("more than {count} others"),
                false => format!("{count} others"),
            };
            (name, sums)
        });
        let named = top.rows.iter();
        let mut rows: Vec<_> = named
            .map(|(name, sums)| (text(name, LONGEST_NAME), *sums))
            .collect();
        let bars: Vec<_> = rows
            .iter()
            .map(|(name, sums)| (name.clone(), counts(sums)))
            .collect();
        // Beside all the others together no bar would be seen.
        rows.extend(others);
        let drawn = chart.rows(&bars)?;
        let row = |name: &str, sums: &Sums| {
            html! {
                th.name scope="row" { bdi { (name) } }
                td { (whole(sums.calls)) } td { (whole(sums.error_count())) }
                td { (share(sums.error_count(), sums.calls)) } td { (whole(sums.unknown)) }
                td { (whole(sums.prompt_tokens)) } td { (whole(sums.completion_tokens)) }
                td { (cost(sums.cost())) }
                td { (decimal(sums.latency(0.5), 1)) } td { (decimal(sums.latency(0.9), 1)) } td { (decimal(sums.latency(0.99), 1)) }
            }
        };
        let caption = format!("What each {id} adds up to, those with the most calls first");
        let heads = [
            id,
            "calls",
            "errors",
            "errors, %",
            "unknown",
            "prompt tokens",
            "completion tokens",
            "cost",
            "p50 ms",
            "p90 ms",
            "p99 ms",
        ];
        Ok(html! {
            section {
                h2 { (title) }
                @if top.more {
                    p.soft { "There are too many to tell all of them apart: who was met late is among the others." }
                }
                (figure(chart.title, key(&["success", "error"], false), drawn))
                h3 { (title) ", in numbers" }
                div.wide tabindex="0" role="region" aria-label=(caption) {
                    table {
                        caption { (caption) }
                        thead { tr { @for head in heads { th scope="col" { (head) } } } }
                        tbody { @for (name, sums) in &rows { tr { (row(name, sums)) } } }
                        tfoot { tr { (row("total", &self.read.added.total)) } }
                    }
                }
            }
        })
    }
}

/// A text of the log as a page may have it: what isn't seen of it is shown.
pub fn text(text: &str, most: usize) -> String {
    visible(&shortened(text, most)).into_owned()
}

fn section(title: &str, note: Markup, figure: Markup, table: Markup) -> Markup {
    html! { section { h2 { (title) } (note) div.pair { (figure) (table) } } }
}

fn figure(title: &str, key: Markup, chart: Markup) -> Markup {
    html! {
        figure {
            figcaption { (title) }
            (key)
            div.wide tabindex="0" role="region" aria-label=(title) { (chart) }
        }
    }
}

/// What the colours of a chart are.
fn key(names: &[&str], lines: bool) -> Markup {
    html! {
        ul.key {
            @for (number, name) in names.iter().enumerate() {
                li class={ "k" (number + 1) @if lines { " line" } } { bdi { (name) } }
            }
        }
    }
}

fn notes() -> Markup {
    html! {
        h2 { "How to read this page" }
        ul.plain {
            li { "Days and hours are UTC, by when calls ended. Of the first and the last week, month or year only the days \
                that the page is about count." }
            li { "An entry that stands twice counts once. Of lines with one id that differ, the sealed one counts." }
            li { "An outcome is unknown if the request was sent and no whole answer came: the call may have been \
                processed and billed." }
            li { "What the log holds of prompts and answers are hashes; this page has none of their text." }
            li { "The page is a view. The log is what proves anything: " code { "audit-logger verify" } " checks it, and "
                code { "audit-logger stats" } " gives the same numbers." }
        }
    }
}
