//! The table of conformance (conformance/README.md says how it's read), run through the C interface:
//! by a queue, and by calls that block. Each language's runner reads the same.

mod support;

use std::collections::HashMap;
use std::ptr;
use std::time::Duration;

use serde_json::{Value, json};

use audit_logger::ffi::*;
use support::calls::{Answer, Logger, Queue};
use support::example::ExampleServer;
use support::{Scratch, day_files, root};

/// What a text of the table stands for, by what stands for it.
type Words<'w> = Vec<(&'static str, &'w str)>;

/// A value of the table as a runner uses it.
fn expand(value: &Value, words: &Words<'_>) -> Value {
    match value {
        Value::String(text) => words
            .iter()
            .fold(text.clone(), |text, (name, word)| text.replace(name, word))
            .into(),
        Value::Array(items) => items.iter().map(|item| expand(item, words)).collect(),
        Value::Object(members) => match members.get("$text").and_then(Value::as_array) {
            Some(parts) => {
                let part = |pair: &[Value]| {
                    let count = pair[1].as_u64().expect("a count stands behind a text");
                    let text = pair[0].as_str().expect("a text is to be repeated");
                    text.repeat(usize::try_from(count).expect("it's small"))
                };
                parts.chunks(2).map(part).collect::<String>().into()
            }
            None => members
                .iter()
                .map(|(key, value)| (key.clone(), expand(value, words)))
                .collect(),
        },
        other => other.clone(),
    }
}

/// Why a value isn't what is expected, or nothing.
fn differs(expected: &Value, actual: Option<&Value>, place: &str) -> Option<String> {
    let wrong = || {
        let actual = actual.map_or("nothing".to_owned(), ToString::to_string);
        Some(format!(
            "{place}: {} instead of {}",
            cut(&actual),
            cut(&expected.to_string())
        ))
    };
    if expected == "$absent" {
        return actual.and_then(|_| wrong());
    }
    let Some(found) = actual else {
        return wrong();
    };
    let text = found.as_str().unwrap_or_default();
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let as_expected = match expected {
        Value::String(kind) if kind.starts_with('$') => match kind.as_str() {
            "$any" => true,
            "$text" => !text.is_empty(),
            "$number" => found.as_f64().is_some_and(|number| number >= 0.0),
            "$uuid" => text.len() == 36 && is_hex(&text.replace('-', "")),
            "$hash" => text.len() == 64 && is_hex(text),
            "$timestamp" => text.len() == 27 && chrono::DateTime::parse_from_rfc3339(text).is_ok(),
            // What a placeholder became.
            _ => expected == found,
        },
        Value::Object(members) => {
            return members.iter().find_map(|(key, value)| {
                differs(value, found.get(key), &format!("{place}.{key}"))
            });
        }
        Value::Array(items) => {
            let list = found.as_array().filter(|list| list.len() == items.len());
            let Some(list) = list else {
                return wrong();
            };
            return items
                .iter()
                .zip(list)
                .enumerate()
                .find_map(|(at, (item, value))| {
                    differs(item, Some(value), &format!("{place}[{at}]"))
                });
        }
        Value::Number(number) => number.as_f64() == found.as_f64(),
        _ => expected == found,
    };
    if as_expected { None } else { wrong() }
}

/// Long texts are of no use in a message.
fn cut(text: &str) -> String {
    let shown: String = text.chars().take(200).collect();
    if shown.len() < text.len() {
        format!("{shown}...")
    } else {
        shown
    }
}

/// What a step came to: the answer, and the events before it.
struct Came {
    answer: Answer,
    status: AuditStatus,
    deltas: Vec<String>,
    chunks: Vec<String>,
}

impl From<Answer> for Came {
    fn from(answer: Answer) -> Came {
        Came {
            status: answer.status,
            answer,
            deltas: Vec::new(),
            chunks: Vec::new(),
        }
    }
}

/// The numbers and texts of a reply, by their names in the table.
const FIELDS: &[(&str, i32)] = &[
    ("finish_reason", AUDIT_REPLY_FINISH_REASON),
    ("model", AUDIT_REPLY_MODEL),
    ("provider", AUDIT_REPLY_PROVIDER),
    ("generation_id", AUDIT_REPLY_GENERATION_ID),
    ("provider_error_type", AUDIT_REPLY_PROVIDER_ERROR_TYPE),
    ("http_status", AUDIT_REPLY_HTTP_STATUS),
    ("outcome", AUDIT_REPLY_OUTCOME),
    ("prompt_tokens", AUDIT_REPLY_PROMPT_TOKENS),
    ("completion_tokens", AUDIT_REPLY_COMPLETION_TOKENS),
    ("retry_after_ms", AUDIT_REPLY_RETRY_AFTER_MS),
    ("attempts", AUDIT_REPLY_ATTEMPTS),
];
const OUTCOMES: &[&str] = &[
    "AUDIT_OUTCOME_NOT_SENT",
    "AUDIT_OUTCOME_ANSWERED",
    "AUDIT_OUTCOME_UNKNOWN",
];

fn status_name(status: AuditStatus) -> &'static str {
    // SAFETY: the name is valid for ever.
    let name = unsafe { std::ffi::CStr::from_ptr(audit_status_name(status)) };
    name.to_str().expect("names are ASCII")
}

impl Came {
    /// What there is of what a step can expect; the members of `reply` are its fields.
    fn shown(&self) -> Value {
        let answer = &self.answer;
        let field = |&(name, field): &(&str, i32)| {
            let number = answer.int(field);
            let value = match name {
                "outcome" => usize::try_from(number).map_or(Value::Null, |at| OUTCOMES[at].into()),
                _ if field > 100 && number < 0 => Value::Null,
                _ if field > 100 => number.into(),
                _ => answer.text(field).into(),
            };
            (name.to_owned(), value)
        };
        let parsed = |text: Option<&str>| {
            let parsed = text.map(serde_json::from_str::<Value>);
            parsed.and_then(Result::ok).unwrap_or_default()
        };
        let content = answer.text(AUDIT_REPLY_CONTENT);
        let chunks = self.chunks.iter().map(|chunk| parsed(Some(chunk)));
        json!({
            "status": status_name(self.status),
            "error_type": answer.error_type(),
            "text": content,
            "text_json": parsed(content),
            "json": parsed(answer.text(AUDIT_REPLY_JSON)),
            "entry": parsed(answer.text(AUDIT_REPLY_ENTRY)),
            "reply": FIELDS.iter().map(field).collect::<serde_json::Map<_, _>>(),
            "deltas": self.deltas,
            "chunks": chunks.collect::<Vec<_>>(),
        })
    }

    fn differs(&self, expected: &Value) -> Option<String> {
        let mut expected = expected.clone();
        let members = expected.as_object_mut().expect("an object");
        for (name, field) in [
            ("message", AUDIT_REPLY_ERROR_MESSAGE),
            ("line", AUDIT_REPLY_ENTRY),
        ] {
            let Some(part) = members.remove(name) else {
                continue;
            };
            let part = part.as_str().expect("a text");
            let whole = self.answer.text(field).unwrap_or_default();
            if !whole.contains(part) {
                return Some(format!("{name}: {part:?} isn't in {}", cut(whole)));
            }
        }
        let wrong = differs(&expected, Some(&self.shown()), "");
        wrong.map(|wrong| format!("{wrong} ({})", cut(self.answer.message())))
    }
}

/// How a runner makes chat calls.
#[derive(Clone, Copy)]
enum Way {
    Queue,
    /// For a step of one call that no other is beside: by audit_chat_json.
    Blocking,
}

/// What was heard of a call.
#[derive(Default)]
struct Heard {
    deltas: Vec<String>,
    chunks: Vec<String>,
    done: Option<Answer>,
}

struct Runner {
    way: Way,
    logger: Logger,
    queue: Queue,
    closed: bool,
    /// What was heard of the calls of the queue so far, by their tags.
    heard: HashMap<u64, Heard>,
    next_tag: u64,
    /// Calls, and records, that were begun, by their names.
    started: HashMap<String, Result<u64, Answer>>,
    begun: HashMap<String, *mut AuditPending>,
    /// Entries that replies held.
    entries: Vec<String>,
}

impl Runner {
    fn submit(&mut self, request: &str) -> Result<u64, Answer> {
        let (tag, mut reply) = (self.next_tag, ptr::null_mut());
        self.next_tag += 1;
        let (data, len) = (request.as_ptr().cast(), request.len());
        // SAFETY: the request and the reply are locals.
        let status = unsafe { audit_queue_submit(self.queue.0, data, len, tag, &raw mut reply) };
        let answer = Answer { status, reply };
        if status != AUDIT_OK {
            return Err(answer);
        }
        self.heard.insert(tag, Default::default());
        Ok(tag)
    }

    /// Takes events until that call is over. Its reader stops after so many deltas.
    fn wait(&mut self, tag: u64, stop_after: Option<u64>) -> Came {
        loop {
            let heard = self.heard.get_mut(&tag).expect("it was submitted");
            if let Some(answer) = heard.done.take() {
                return Came {
                    status: answer.int(AUDIT_REPLY_STATUS) as AuditStatus,
                    answer,
                    deltas: std::mem::take(&mut heard.deltas),
                    chunks: std::mem::take(&mut heard.chunks),
                };
            }
            if stop_after.is_some_and(|most| heard.deltas.len() as u64 >= most) {
                // NOT_FOUND: its end waits to be taken.
                let _ = self.queue.cancel(tag);
            }
            let event = self.queue.next(60_000).expect(AUDIT_OK);
            let of = event.int(AUDIT_REPLY_TAG) as u64;
            let heard = self.heard.get_mut(&of).expect("it was submitted");
            let text = || event.text(AUDIT_REPLY_CONTENT).expect("a text").to_owned();
            match event.int(AUDIT_REPLY_EVENT) as i32 {
                AUDIT_EVENT_DELTA => heard.deltas.push(text()),
                AUDIT_EVENT_CHUNK => heard.chunks.push(text()),
                _ => heard.done = Some(event),
            }
        }
    }

    fn chat(&mut self, request: &str, step: &Value) -> Came {
        let stop_after = step["stop_after"].as_u64();
        let events = step["expect"]["deltas"].is_array() || step["expect"]["chunks"].is_array();
        if let Way::Blocking = self.way
            && !events
            && stop_after.is_none()
        {
            let mut reply = ptr::null_mut();
            let (data, len) = (request.as_ptr().cast(), request.len());
            // SAFETY: the request and the reply are locals.
            let status = unsafe {
                audit_chat_json(self.logger.0, data, len, ptr::null_mut(), &raw mut reply)
            };
            return Answer { status, reply }.into();
        }
        match self.submit(request) {
            Ok(tag) => self.wait(tag, stop_after),
            Err(answer) => answer.into(),
        }
    }

    /// Does a step; returns what it came to.
    fn step(&mut self, step: &Value) -> Option<Came> {
        let name = || step["as"].as_str().expect("it has a name").to_owned();
        let timeout = step["timeout_ms"].as_i64().unwrap_or(-1);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let request = match &step["request_text"] {
            Value::Null => step["request"].to_string(),
            given => text(given),
        };
        let record = step["record"].to_string();
        let (data, len) = (record.as_ptr().cast(), record.len());
        let (mut pending, mut reply) = (ptr::null_mut(), ptr::null_mut());
        let reply = &raw mut reply;
        let came = |status| unsafe {
            let reply = *reply;
            Some(Came::from(Answer { status, reply }))
        };
        match step["do"].as_str().expect("a step says what to do") {
            "chat" => Some(self.chat(&request, step)),
            "start" => {
                let tag = self.submit(&request);
                self.started.insert(name(), tag);
                None
            }
            "cancel" => {
                if let Ok(tag) = self.started[&name()] {
                    let _ = self.queue.cancel(tag);
                }
                None
            }
            "await" => Some(
                match self.started.remove(&name()).expect("it was started") {
                    Ok(tag) => self.wait(tag, None),
                    Err(answer) => answer.into(),
                },
            ),
            "sleep" => {
                std::thread::sleep(Duration::from_millis(step["ms"].as_u64().expect("a time")));
                None
            }
            // SAFETY: what is passed are locals, from here to the end.
            "log" => came(unsafe { audit_record_json(self.logger.0, data, len, reply) }),
            "begin" => {
                let status = unsafe {
                    audit_record_begin_json(self.logger.0, data, len, &raw mut pending, reply)
                };
                self.begun.insert(name(), pending);
                came(status)
            }
            "finish" => {
                came(unsafe { audit_record_finish_json(self.begun[&name()], data, len, reply) })
            }
            "flush" if step["witnessed"] == true => {
                let options = c"{\"witnessed\": true}".as_ptr();
                came(unsafe { audit_logger_flush_with(self.logger.0, timeout, options, reply) })
            }
            "flush" => came(unsafe { audit_logger_flush(self.logger.0, timeout, reply) }),
            "stats" => came(unsafe { audit_logger_stats(self.logger.0, reply) }),
            "hash" => Some(self.logger.hash(text(&step["text"]).as_bytes()).into()),
            "close" => {
                self.closed = true;
                came(unsafe { audit_logger_close(self.logger.0, timeout, reply) })
            }
            other => panic!("no step is called {other:?}"),
        }
    }

    /// Why a step didn't come to what it should have, or nothing.
    fn check(&mut self, step: &Value, words: &Words<'_>) -> Option<String> {
        if step["do"] == "together" {
            return self.together(step, words);
        }
        let step = expand(step, words);
        let came = self.step(&step)?;
        self.entries
            .extend(came.answer.text(AUDIT_REPLY_ENTRY).map(str::to_owned));
        came.differs(step.get("expect")?)
    }

    fn together(&mut self, step: &Value, words: &Words<'_>) -> Option<String> {
        let count = step["count"].as_u64().expect("a count");
        let with_number = |number: &String| {
            let mut words = words.clone();
            words.push(("$N", number));
            expand(step, &words)
        };
        let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let steps: Vec<Value> = numbers.iter().map(with_number).collect();
        let tags: Vec<_> = steps
            .iter()
            .map(|step| self.submit(&step["request"].to_string()))
            .collect();
        let mut wrong = None;
        for (tag, step) in tags.into_iter().zip(&steps) {
            let came = match tag {
                Ok(tag) => self.wait(tag, None),
                Err(answer) => answer.into(),
            };
            self.entries
                .extend(came.answer.text(AUDIT_REPLY_ENTRY).map(str::to_owned));
            wrong = wrong.or_else(|| came.differs(&step["expect"]));
        }
        wrong
    }
}

/// Why a case doesn't hold, or nothing.
fn run_case(case: &Value, way: Way, server: &str, scratch: &Scratch) -> Option<String> {
    let name = case["name"].as_str().expect("a case has a name");
    let log = scratch.join(&name.replace('/', "-"));
    // Of an earlier attempt.
    let _ = std::fs::remove_dir_all(&log);
    let words = vec![
        ("$SERVER", server),
        ("$LOG", log.to_str().expect("UTF-8")),
        ("$CASE", name),
    ];
    let mut config = json!({
        "output_path": "$LOG", "base_url": "$SERVER", "api_key": "sk-test", "max_retries": 0
    });
    for (key, value) in case["config"].as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    let config = expand(&config, &words).to_string();
    let config = std::ffi::CString::new(config).expect("JSON has no NUL");
    let (mut logger, mut reply) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: what is passed are locals.
    let status = unsafe { audit_logger_new(config.as_ptr(), &raw mut logger, &raw mut reply) };
    let opened = Came::from(Answer { status, reply });
    let expected = case.get("open").cloned();
    let wrong = opened.differs(&expected.unwrap_or(json!({"status": "AUDIT_OK"})));
    if wrong.is_some() || status != AUDIT_OK {
        return wrong.map(|wrong| format!("opening: {wrong}"));
    }
    let logger = Logger(logger);
    let mut runner = Runner {
        way,
        queue: Queue::new(&logger, &json!({})),
        logger,
        closed: false,
        heard: HashMap::new(),
        next_tag: 1,
        started: HashMap::new(),
        begun: HashMap::new(),
        entries: Vec::new(),
    };
    let steps = case["steps"].as_array();
    for (at, step) in steps.into_iter().flatten().enumerate() {
        let wrong = runner.check(step, &words);
        if wrong.is_some() {
            return wrong.map(|wrong| format!("step {at}, {}: {wrong}", step["do"]));
        }
    }
    if !runner.closed {
        let _ = runner.logger.close(30_000).expect(AUDIT_OK);
    }
    let text: String = day_files(&log)
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("the log is UTF-8"))
        .collect();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() as u64 != case["entries"].as_u64().expect("a count") {
        return Some(format!("the log holds {}", lines.len()));
    }
    let missing = runner
        .entries
        .iter()
        .find(|entry| !lines.contains(&entry.as_str()))?;
    Some(format!("not in the log: {missing}"))
}

fn table() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("conformance/cases.json")).expect("it's there");
    serde_json::from_str(&text).expect("the table is JSON")
}

fn holds(way: Way) {
    let (server, scratch) = (ExampleServer::start(), Scratch::new());
    let wrong: Vec<String> = table()
        .iter()
        .filter_map(|case| {
            let attempts = if case["paced"] == true { 3 } else { 1 };
            let mut each = (0..attempts).map(|_| run_case(case, way, server.base_url(), &scratch));
            let wrong = each.try_fold(String::new(), |_, wrong| wrong)?;
            Some(format!("{}: {wrong}", case["name"]))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_holds_by_a_queue() {
    holds(Way::Queue);
}

#[test]
fn the_table_holds_by_calls_that_block() {
    holds(Way::Blocking);
}

/// A case that can't fail would be worth nothing.
#[test]
fn whatever_the_table_expects_can_be_missed() {
    let actual = json!({"text": "a", "list": [1, 2], "deep": {"n": 1.0, "null": null}});
    for expected in [
        json!({"text": "b"}),
        json!({"text": "$number"}),
        json!({"text": "$uuid"}),
        json!({"text": "$hash"}),
        json!({"text": "$timestamp"}),
        json!({"text": "$absent"}),
        json!({"more": "$any"}),
        json!({"more": null}),
        json!({"list": [1]}),
        json!({"list": [1, 2, 3]}),
        json!({"list": [2, 1]}),
        json!({"list": "$text"}),
        json!({"deep": {"n": 2}}),
        json!({"deep": {"null": 0}}),
        json!({"deep": null}),
    ] {
        assert!(
            differs(&expected, Some(&actual), "").is_some(),
            "{expected}"
        );
    }
    let same = json!({"text": "$text", "list": [1, "$number"], "deep": {"n": 1, "m": "$absent"}});
    assert_eq!(differs(&same, Some(&actual), ""), None);
}

#[test]
fn the_readme_explains_all_that_the_table_uses() {
    let readme = std::fs::read_to_string(root().join("conformance/README.md")).expect("there");
    let table = table();
    assert!(table.len() >= 60, "{}", table.len());
    let mut names: Vec<&str> = table
        .iter()
        .map(|case| case["name"].as_str().expect("a case has a name"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table.len(), "two cases have the same name");
    let mut said = std::collections::BTreeSet::new();
    let mut kinds = |value: &Value| {
        let mut left = vec![value.clone()];
        while let Some(value) = left.pop() {
            match value {
                Value::String(text) if text.starts_with('$') => {
                    let word = text[1..].split(|c: char| !c.is_ascii_alphabetic()).next();
                    said.insert(format!("${}", word.unwrap_or_default()));
                }
                Value::Array(items) => left.extend(items),
                Value::Object(members) => {
                    let marks = members.keys().filter(|key| key.starts_with('$'));
                    left.extend(marks.map(|key| Value::from(key.as_str())));
                    left.extend(members.into_iter().map(|(_, value)| value));
                }
                _ => {}
            }
        }
    };
    let mut words = std::collections::BTreeSet::new();
    for case in &table {
        kinds(case);
        words.extend(case.as_object().expect("an object").keys().cloned());
        let open = [&case["open"]];
        let steps = case["steps"].as_array().into_iter().flatten();
        for step in steps {
            words.extend(step.as_object().expect("an object").keys().cloned());
            words.insert(step["do"].as_str().expect("a text").to_owned());
        }
        let steps = case["steps"].as_array().into_iter().flatten();
        for expected in steps.map(|step| &step["expect"]).chain(open) {
            words.extend(
                expected
                    .as_object()
                    .into_iter()
                    .flat_map(|o| o.keys().cloned()),
            );
        }
    }
    words.extend(said);
    let missing: Vec<&String> = words
        .iter()
        .filter(|word| {
            !readme.contains(&format!("`{word}`")) && !readme.contains(&format!("`\"{word}\"`"))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "conformance/README.md lacks {missing:?}"
    );
}
