//! The tool's `report`: a page of a log for those who don't read logs.

mod support;

// Of the tool, for their own tests.
#[allow(dead_code)]
#[path = "../src/bin/audit-logger/numbers.rs"]
mod numbers;
#[allow(dead_code)]
#[path = "../src/bin/audit-logger/report/steps.rs"]
mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use support::browser::Browser;
use support::{Scratch, entry_line, last_file, merged, sealed, tool};

/// Runs the tool in a directory.
fn run_in(directory: &Path, arguments: &[&str]) -> Output {
    let mut tool = tool();
    tool.current_dir(directory).args(arguments);
    tool.output().expect("the tool starts")
}

/// The page of the log "log" in a directory.
#[track_caller]
fn page_of(scratch: &Scratch, arguments: &[&str], code: i32) -> String {
    let page = scratch.join("report.html");
    let _ = fs::remove_file(&page);
    let mut all = vec!["report", "log", "-o", "report.html"];
    all.extend(arguments);
    let output = run_in(scratch.path(), &all);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    fs::read_to_string(page).expect("it is written")
}

/// An entry by its number, with other members than usual.
fn entry(number: usize, timestamp: &str, other: &Value) -> String {
    let details = json!({"details": {"schema": 2, "cost": 0.5, "outcome": "answered"}});
    entry_line(number, timestamp, &merged(details, other))
}

/// A log of these days, without a tree.
fn log(days: &[(&str, String)]) -> Scratch {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("log")).expect("it can be made");
    for (day, text) in days {
        let path = scratch.join(&format!("log/audit_{day}.jsonl"));
        fs::write(path, text).expect("there's room");
    }
    scratch
}

/// A log of five days with some of everything that is counted.
fn full() -> Scratch {
    let mut number = 0;
    let days = [22, 23, 24, 25, 27, 28].map(|day| {
        let mut text = String::new();
        for call in 0..40 + day {
            number += 1;
            let other = match call % 11 {
                3 => json!({"status": "error", "error_type": "RateLimitError", "prompt_tokens": 0, "completion_tokens": 0, "details": {}}),
                5 => json!({"status": "error", "error_type": "APITimeoutError", "prompt_tokens": null, "completion_tokens": null, "details": {"outcome": "unknown"}}),
                _ => json!({"details": {"cost": 0.0001 * f64::from(call)}}),
            };
            let whose = json!({
                "user_id": format!("user-{}", call % 25),
                "model": format!("maker/model-{}", call % 3),
                "latency_ms": 90.0 + f64::from(call * call * day),
            });
            let at = format!("2026-11-{day}T{:02}:10:00.000000Z", call % 24);
            text += &entry(number, &at, &merged(whose, &other));
        }
        (format!("2026-11-{day}"), text)
    });
    log(&days.each_ref().map(|(day, text)| (&day[..], text.clone())))
}

/// The cells of the table with a caption, row by row, the first of each row among them.
#[track_caller]
fn table(page: &str, caption: &str) -> Vec<Vec<String>> {
    let of = format!("<caption>{caption}</caption>");
    let (_, rest) = page
        .split_once(&of)
        .unwrap_or_else(|| panic!("no {caption}"));
    let (table, _) = rest.split_once("</table>").expect("it ends");
    let rows = table.split("<tr>").skip(1);
    rows.map(|row| {
        let (row, _) = row.split_once("</tr>").expect("it ends");
        let cells = row.split("<t").skip(1);
        let text = |cell: &str| {
            let parts = cell.split('<').enumerate();
            let text = parts.filter_map(|(number, part)| {
                let text = part.split_once('>').map(|(_, text)| text);
                text.filter(|_| number < 3)
            });
            text.collect::<String>()
        };
        cells.map(text).collect()
    })
    .collect()
}

/// A number of a table.
fn value(cell: &str) -> f64 {
    let plain = cell.replace([',', ' ', '%'], "");
    plain
        .parse()
        .unwrap_or_else(|_| panic!("{cell:?} is no number"))
}

fn stats(scratch: &Scratch, by: &str, more: &[&str]) -> Value {
    let mut all = vec!["stats", "log", "--json", "--by", by];
    all.extend(more);
    let output = run_in(scratch.path(), &all);
    serde_json::from_slice(&output.stdout).expect("it's JSON")
}

#[test]
fn its_numbers_are_those_of_stats() {
    let scratch = full();
    let page = page_of(&scratch, &[], 0);
    let sums = |by: &str| {
        let said = stats(&scratch, by, &[]);
        let named = said["groups"].as_array().expect("an array").clone();
        let named = named
            .into_iter()
            .map(|sums| (sums[by].as_str().expect("a name").to_owned(), sums));
        let mut named: BTreeMap<String, Value> = named.collect();
        named.insert("total".to_owned(), said["total"].clone());
        named
    };
    let equal = |caption: &str, by: &str, columns: &[(usize, &str)]| {
        let sums = sums(by);
        let rows = table(&page, caption);
        let mut compared = 0;
        for row in &rows[1..] {
            // A day without calls is none of stats'.
            let Some(sums) = sums.get(&row[0]) else {
                assert!(by == "user" || row[0] == "2026-11-26", "{row:?}");
                continue;
            };
            for (column, key) in columns {
                let mut said = sums;
                for part in key.split('.') {
                    said = &said[part];
                }
                let (shown, said) = (value(&row[*column]), said.as_f64().expect("a number"));
                assert!(
                    (shown - said).abs() < 0.051 || (shown - said).abs() < 1e-4 * said,
                    "{row:?}, {key}: {said}"
                );
            }
            compared += 1;
        }
        assert!(compared >= sums.len().min(21), "{caption}: {rows:?}");
    };
    let ended = [(1, "calls"), (3, "errors"), (4, "unknown_outcomes")];
    equal("Calls and how they ended", "day", &ended);
    let classes = [
        (1, "errors_by_type.APITimeoutError"),
        (2, "errors_by_type.RateLimitError"),
    ];
    let heads = table(&page, "Errors by class").remove(0);
    assert_eq!(heads, ["day", "APITimeoutError", "RateLimitError"]);
    equal("Errors by class", "day", &classes);
    let used = [
        (1, "prompt_tokens"),
        (2, "completion_tokens"),
        (3, "calls_without_tokens"),
        (4, "cost"),
        (5, "calls_without_cost"),
    ];
    equal("Tokens and cost", "day", &used);
    let latencies = [
        (1, "calls"),
        (2, "latency_ms.p50"),
        (3, "latency_ms.p90"),
        (4, "latency_ms.p99"),
    ];
    equal("Latency", "day", &latencies);
    let all = [
        (1, "calls"),
        (2, "errors"),
        (4, "unknown_outcomes"),
        (5, "prompt_tokens"),
        (6, "completion_tokens"),
        (7, "cost"),
        (8, "latency_ms.p50"),
        (9, "latency_ms.p90"),
        (10, "latency_ms.p99"),
    ];
    for by in ["model", "user"] {
        let caption = format!("What each {by} adds up to, those with the most calls first");
        equal(&caption, by, &all);
    }
    // The others are what is left.
    let users = table(
        &page,
        "What each user adds up to, those with the most calls first",
    );
    assert_eq!(users.len(), 1 + 20 + 1 + 1);
    assert_eq!(users[21][0], "5 others");
    let calls: f64 = users[1..22].iter().map(|row| value(&row[1])).sum();
    assert_eq!(calls, value(&users[22][1]));
}

#[test]
fn it_is_of_the_days_and_the_user_that_were_asked_for() {
    let scratch = full();
    let days = ["--from", "2026-11-23", "--to", "2026-11-24"];
    let page = page_of(&scratch, &days, 0);
    let said = stats(&scratch, "day", &days);
    let hours = table(&page, "Calls and how they ended");
    assert_eq!(hours.len(), 1 + 48 + 1, "few days are shown by their hours");
    assert_eq!(hours[1][0], "2026-11-23 00:00");
    assert_eq!(
        value(&hours[49][1]),
        said["total"]["calls"].as_f64().expect("a number")
    );
    assert!(page.contains("from 2026-11-23 to 2026-11-24 (UTC)"));

    let page = page_of(&scratch, &["--user", "user-7"], 0);
    let users = table(
        &page,
        "What each user adds up to, those with the most calls first",
    );
    assert_eq!(users.len(), 3);
    let all = stats(&scratch, "user", &[]);
    let one = all["groups"]
        .as_array()
        .expect("an array")
        .iter()
        .find(|sums| sums["user"] == "user-7");
    assert_eq!(
        value(&users[1][1]),
        one.expect("is there")["calls"].as_f64().expect("a number")
    );

    let page = page_of(&scratch, &["--from", "2027-01-01"], 0);
    assert!(page.contains("There are no days"));
}

#[test]
fn it_says_of_the_log_what_verify_says() {
    let scratch = Scratch::new();
    let (log, _) = sealed(&scratch, 20);
    let vkey = fs::read_to_string(log.join(".integrity/vkey")).expect("it's there");
    let given = ["--vkey", vkey.trim_end(), "--guard", "guard"];
    let mut all = vec!["verify", "log"];
    all.extend(given);
    let said = run_in(scratch.path(), &all);
    let said = String::from_utf8(said.stdout).expect("it's UTF-8");
    let page = page_of(&scratch, &given, 0);
    assert!(page.contains("Intact"), "{page}");
    let escaped = |text: &str| text.replace('"', "&quot;");
    for line in said.lines() {
        match line.split_once(':') {
            Some((about, fact)) if !line.starts_with(' ') && !about.contains("detected") => {
                let fact = format!("<dt>{about}</dt><dd>{}</dd>", escaped(fact.trim()));
                assert!(page.contains(&fact), "{fact}");
            }
            _ => assert!(
                page.contains(&escaped(line.trim().trim_start_matches("- ")))
                    || line.ends_with(':'),
                "{line}"
            ),
        }
    }

    let file = last_file(&log);
    let text = fs::read_to_string(&file).expect("it can be read");
    fs::write(&file, text.replacen("success", "Success", 1)).expect("it can be written");
    let page = page_of(&scratch, &given, 1);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    assert!(page.contains("TAMPERED"), "{page}");
    assert!(
        page.contains(&format!("<strong>edited</strong> {name}, line 1: ")),
        "{page}"
    );
    assert!(!page.contains("Intact"));

    let page = page_of(&scratch, &["--no-verify"], 0);
    assert!(page.contains("Not verified") && !page.contains("Intact"));

    let page = page_of(&full(), &[], 0);
    assert!(
        page.contains("No verdict") && !page.contains("Intact"),
        "a log without a tree"
    );
}

#[test]
fn it_is_written_whole_and_never_over_what_is_there() {
    let scratch = full();
    let names = || {
        let names = fs::read_dir(scratch.path()).expect("it can be read");
        let names = names.map(|item| item.expect("it can be read").file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    page_of(&scratch, &[], 0);
    assert_eq!(names(), ["log", "report.html"], "no other file is left");
    fs::write(scratch.join("report.html"), "mine").expect("it can be written");
    let refused = run_in(scratch.path(), &["report", "log", "-o", "report.html"]);
    assert_eq!(refused.status.code(), Some(3));
    let kept = fs::read_to_string(scratch.join("report.html"));
    assert_eq!(kept.expect("it's there"), "mine");
    for (arguments, code) in [
        (["report", "none", "-o", "other.html"], 3),
        (["report", "log", "-o", "none/other.html"], 3),
        (["report", "log", "-o", "other.html"], 2),
    ] {
        let mut tool = tool();
        tool.current_dir(scratch.path()).args(arguments);
        if code == 2 {
            tool.args(["--policy", "none"]);
        }
        let output = tool.output().expect("it starts");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(names(), ["log", "report.html"]);
    }
}

/// Names that want to be more than names.
const HOSTILE: [&str; 10] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</title></svg></style><style>body{display:none}</style>",
    "&lt;b&gt; &amp;quot; &#x3c;",
    "user-\u{202e}nimda\u{2066}",
    "zero\u{200b}width\u{feff}\u{e0041}",
    "bell\u{7}nul\u{0}escape\u{1b}[31m\u{9b}",
    "<!--",
    "{{7*7}} ${7*7} javascript:alert(1) http://example.com/",
];

fn hostile() -> Scratch {
    let mut text = String::new();
    for (number, name) in HOSTILE.iter().enumerate() {
        let other = json!({"user_id": name, "model": name, "status": "error", "error_type": name});
        text += &entry(number, "2026-11-23T10:00:00.000000Z", &other);
    }
    text += &entry(
        99,
        "2026-11-23T11:00:00.000000Z",
        &json!({"user_id": "x".repeat(5000), "latency_ms": 1e300}),
    );
    text += &entry(
        98,
        "2026-11-23T11:00:00.000000Z",
        &json!({"details": {"cost": -1.0}}),
    );
    text += &entry(
        97,
        "2026-11-23T12:00:00.000000Z",
        &json!({"details": {"cost": 1.7e308}}),
    );
    text += &entry(
        96,
        "2026-11-23T12:00:00.000000Z",
        &json!({"details": {"cost": 1.7e308}, "prompt_tokens": u64::MAX}),
    );
    let scratch = log(&[
        ("2026-11-23", text),
        ("9999-99-99", entry(95, "9999-99-99T99:99:99Z", &json!({}))),
    ]);
    fs::write(scratch.join("log/audit_<script>.jsonl"), "").expect("there's room");
    scratch
}

#[test]
fn what_names_say_is_shown_and_does_nothing() {
    let page = page_of(&hostile(), &[], 0);
    for (tag, most) in [
        ("<script", 0),
        ("<img", 0),
        ("<style", 1),
        ("<!--", 0),
        ("<iframe", 0),
        ("<a ", 1),
    ] {
        assert_eq!(page.matches(tag).count(), most, "{tag}");
    }
    for shown in [
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;",
        "&amp;lt;b&amp;gt;",
        r"user-\u202enimda\u2066",
        r"zero\u200bwidth\ufeff\udb40\udc41",
        r"bell\u0007nul\u0000escape\u001b[31m\u009b",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    let unseen = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!page.contains(unseen));
    assert!(!page.contains(&"x".repeat(200)), "long names are cut");
}

#[test]
fn it_asks_for_nothing_else_and_forbids_to() {
    let page = page_of(&full(), &[], 0);
    assert!(page.contains(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    ));
    for reference in [
        "http:", "https:", "src=", "url(", "@import", "<link", "<script", "xlink",
    ] {
        assert!(!page.contains(reference), "{reference}");
    }
    let links: Vec<&str> = page.split("href=").skip(1).map(|rest| &rest[..8]).collect();
    assert_eq!(links, ["\"#state\""]);
}

#[test]
fn whatever_the_log_it_stays_below_a_megabyte() {
    let mut number = 0;
    let mut days = Vec::new();
    for day in 0..124u32 {
        let date = format!("2026-{:02}-{:02}", 1 + day / 31, 1 + day % 31);
        let mut text = String::new();
        for _ in 0..300 {
            number += 1;
            let long = "\u{202e}\"".repeat(50);
            let other = json!({
                "user_id": format!("{long}{number}"),
                "model": format!("{long}{}", number % 500),
                "status": "error",
                "error_type": format!("{long}{}", number % 60),
                "prompt_tokens": u64::MAX,
                "completion_tokens": u64::MAX,
                "details": {"cost": 1e30},
            });
            text += &entry(number, &format!("{date}T00:00:00.000000Z"), &other);
        }
        days.push((date, text));
    }
    let days: Vec<_> = days
        .iter()
        .map(|(date, text)| (&date[..], text.clone()))
        .collect();
    let scratch = log(&days);
    let page = page_of(&scratch, &[], 0);
    assert!(page.len() < 1_000_000, "{}", page.len());
    assert!(
        page.contains("more than 32,748 others"),
        "not all users are told apart"
    );
    assert!(page.contains("There are too many to tell all of them apart"));
    let users = table(
        &page,
        "What each user adds up to, those with the most calls first",
    );
    assert_eq!(value(&users.last().expect("a total")[1]), 37_200.0);
}

#[test]
fn what_stands_alone_in_a_long_time_is_seen_in_each_chart() {
    let days = ["2025-11-01", "2025-12-20", "2026-02-20"];
    let cost = json!({"latency_ms": 600_000.0, "details": {"cost": 1e-9}});
    let days = days.map(|day| (day, entry(1, &format!("{day}T10:00:00.000000Z"), &cost)));
    let page = page_of(&log(&days), &[], 0);
    let chart = |id: &str| {
        let start = page
            .find(&format!("id=\"{id}-title\""))
            .expect("it's there");
        page[start..]
            .split("</svg>")
            .next()
            .expect("it ends")
            .to_owned()
    };
    // Three percentiles of three days.
    assert_eq!(chart("latency").matches("<circle").count(), 9);
    assert!(
        page.contains("600,000.0") && !page.contains("603,"),
        "a percentile is none of the calls"
    );
    for (id, seen) in [
        ("calls", "1"),
        ("cost", "1e-9"),
        ("cost", "1 Nov 2025"),
        ("cost", "24 Jan 2026"),
    ] {
        assert!(
            chart(id).contains(&format!("\n{seen}\n")),
            "{id}: {seen} in {}",
            chart(id)
        );
    }
    let costs = table(&page, "Tokens and cost");
    let total = costs.last().expect("a total");
    assert_eq!(total[4], "0.0000000030");
}

#[test]
fn one_call_makes_a_page_without_a_mark_that_says_nothing() {
    let page = page_of(
        &log(&[(
            "2026-11-27",
            entry(1, "2026-11-27T10:00:00.000000Z", &json!({})),
        )]),
        &[],
        0,
    );
    assert!(page.contains("1 model") && !page.contains("1 models"));
    assert!(
        page.contains("There is no .integrity/vkey") && page.contains("removed. <a"),
        "a sentence"
    );
    for text in page.split("<text").skip(1) {
        let text = text
            .split_once('>')
            .and_then(|(_, rest)| rest.split_once("</text>"));
        assert!(
            text.is_some_and(|(text, _)| !text.trim().is_empty()),
            "{text:?}"
        );
    }
}

/// What a browser makes of a page: the lowest contrast of its texts, and what its form lacks.
const LOOK: &str = r##"(() => {
    const numbers = text => text.match(/[\d.]+/g).map(Number);
    const light = text => {
        const part = value => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = numbers(text).map(part);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if ((numbers(colour)[3] ?? 1) === 1) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    let contrast = 21, dim = "";
    for (const element of document.body.querySelectorAll("*")) {
        const texts = [...element.childNodes].filter(node => node.nodeType === 3 && node.data.trim());
        if (!texts.length || ["title", "desc"].includes(element.localName)) continue;
        const style = getComputedStyle(element);
        const [a, b] = [light(element instanceof SVGElement ? style.fill : style.color), light(behind(element))];
        const is = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (is < contrast) [contrast, dim] = [is, element.outerHTML.slice(0, 99)];
    }
    const all = selector => [...document.querySelectorAll(selector)];
    const levels = all("h1, h2, h3, h4").map(head => Number(head.localName[1]));
    const lacks = [
        ...all("table").filter(table => !table.caption).map(() => "caption"),
        ...all("th").filter(head => !head.scope).map(() => "scope"),
        ...all("svg").filter(svg => svg.getAttribute("role") !== "img" || !svg.querySelector("title") || !svg.querySelector("desc")).map(() => "title"),
        ...all("[aria-labelledby]").filter(of => !document.getElementById(of.getAttribute("aria-labelledby"))).map(() => "label"),
        ...levels.filter((level, at) => at ? level > levels[at - 1] + 1 : level !== 1).map(() => "heading"),
    ];
    return {
        contrast, dim, lacks, charts: all("svg").length,
        over: document.documentElement.scrollWidth - innerWidth,
        wide: innerWidth,
        paper: getComputedStyle(document.body).backgroundColor,
        bars: all("svg [fill='#000001']").map(bar => getComputedStyle(bar).fill)[0],
        scripts: document.scripts.length, images: document.images.length,
        handlers: all("*").filter(element => [...element.attributes].some(({name}) => name.startsWith("on"))).length,
        text: document.body.innerText,
    };
})()"##;

#[test]
fn browsers_show_it_on_small_and_large_screens_by_day_and_by_night() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut papers = Vec::new();
    let all = [(360, "light"), (1400, "light"), (1400, "dark")];
    for (scratch, shown, screens) in [
        (full(), "user-7", &all[..]),
        (hostile(), HOSTILE[0], &[(360, "dark")]),
    ] {
        page_of(&scratch, &[], 0);
        let page: PathBuf = scratch.join("report.html");
        for &(width, scheme) in screens {
            let screen = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
            browser.call("Emulation.setDeviceMetricsOverride", screen);
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            browser.call("Emulation.setEmulatedMedia", media);
            browser.open(&page);
            let look = browser.value(LOOK);
            let of = format!("{width} {scheme}");
            assert_eq!(look["wide"], width, "{of}");
            assert!(
                look["over"].as_i64() <= Some(0),
                "{of}: wider by {}",
                look["over"]
            );
            assert_eq!(look["lacks"], json!([]), "{of}");
            assert_eq!(look["charts"], 7, "{of}");
            assert!(
                look["contrast"].as_f64() >= Some(4.5),
                "{of}: {} of {}",
                look["contrast"],
                look["dim"]
            );
            for nothing in ["scripts", "images", "handlers"] {
                assert_eq!(look[nothing], 0, "{of}: {nothing}");
            }
            let text = look["text"].as_str().expect("a text");
            for part in [
                shown,
                "Audit report",
                "Tokens and cost",
                "The state of the log",
                "How to read this page",
            ] {
                assert!(text.contains(part), "{of}: {part}");
            }
            papers.push((look["paper"].clone(), look["bars"].clone()));
        }
        let media = json!({"media": "print", "features": []});
        browser.call("Emulation.setEmulatedMedia", media);
        let cut = browser.value("[...document.querySelectorAll('.wide')].filter(part => getComputedStyle(part).overflowX !== 'visible').length");
        assert_eq!(cut, 0, "on paper nothing can be scrolled");
        browser.call(
            "Emulation.setEmulatedMedia",
            json!({"media": "", "features": []}),
        );
    }
    assert_ne!(papers[1], papers[2], "light and dark differ");
    assert_ne!(papers[1].1, papers[2].1);
    assert_eq!(browser.complaints, Vec::<Value>::new());
}
