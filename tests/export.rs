//! The tool's `export`, and `tail --format`: a log in the words of others.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use support::{Scratch, python_with, root, run, tool};

/// An entry with all fields that go anywhere.
fn full() -> Value {
    json!({
        "id": "05f23880-e8d5-4fd4-a082-8cd363b6519f",
        "timestamp": "2026-11-23T18:01:31.667695Z",
        "event_type": "chat_completion",
        "user_id": "user-42",
        "model": "openai/gpt-4-turbo",
        "prompt_hash": "e".repeat(64),
        "response_hash": "5".repeat(64),
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "latency_ms": 1500.5,
        "status": "error",
        "error_type": "RateLimitError",
        "metadata": {"team": "core"},
        "details": {
            "schema": 2, "host": "web-1", "pid": 77, "started_at": "2026-11-23T18:01:30.100000Z",
            "attempts": [{"http_status": 500, "wait_ms": 10}, {"http_status": 429}], "http_status": 429,
            "generation_id": "gen-1", "served_model": "openai/gpt-4-turbo-2024", "provider": "Azure",
            "finish_reason": "stop", "cost": 0.25, "cached_tokens": 2, "reasoning_tokens": 3,
            "time_to_first_token_ms": 250.0, "stream": true, "outcome": "answered",
            "request_hash": "a".repeat(64), "cache_write_tokens": 1, "system_fingerprint": "fp_1",
            "service_tier": "flex", "request_id": "req-1", "session_id": "session-1",
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
        },
    })
}

/// A log of one day with these lines.
fn log(lines: &[String]) -> Scratch {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("log")).expect("it can be made");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(scratch.join("log/audit_2026-11-23.jsonl"), text).expect("there's room");
    scratch
}

fn exported(scratch: &Scratch, format: &str) -> String {
    run(tool()
        .current_dir(scratch.path())
        .args(["export", "log", "--format", format]))
}

/// What is exported of one entry, as JSON.
fn as_json(entry: &Value, format: &str) -> Value {
    let said = exported(&log(&[entry.to_string()]), format);
    assert_eq!(said.lines().count(), 1);
    serde_json::from_str(&said).expect("it is JSON")
}

fn span_of(said: &Value) -> &Value {
    &said["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
}

fn attributes(said: &Value) -> BTreeMap<String, Value> {
    let resource = said["resourceSpans"][0]["resource"]["attributes"].as_array();
    let span = span_of(said)["attributes"].as_array();
    let all = resource.into_iter().chain(span).flatten();
    let pair = |pair: &Value| {
        (
            pair["key"].as_str().expect("a key").to_owned(),
            pair["value"].clone(),
        )
    };
    all.map(pair).collect()
}

/// SHA-256 of a line, as the log's tree has it.
fn digest(line: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(line);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names are others', and dashboards go by them.
#[test]
fn a_span_has_the_names_of_the_conventions_and_the_values_of_the_entry() {
    let entry = full();
    let said = as_json(&entry, "otel");
    let text = |text: &str| json!({"stringValue": text});
    let whole = |number: &str| json!({"intValue": number});
    let hash = digest(&entry.to_string());
    let wanted = [
        ("audit_logger.cost", json!({"doubleValue": 0.25})),
        (
            "audit_logger.entry.id",
            text("05f23880-e8d5-4fd4-a082-8cd363b6519f"),
        ),
        ("audit_logger.entry.sha256", text(&hash)),
        ("audit_logger.event_type", text("chat_completion")),
        ("audit_logger.metadata", text("{\"team\":\"core\"}")),
        ("audit_logger.outcome", text("answered")),
        ("audit_logger.prompt.hash", text(&"e".repeat(64))),
        ("audit_logger.request.hash", text(&"a".repeat(64))),
        ("audit_logger.response.hash", text(&"5".repeat(64))),
        ("error.type", text("RateLimitError")),
        ("gen_ai.conversation.id", text("session-1")),
        ("gen_ai.operation.name", text("chat")),
        ("gen_ai.provider.name", text("Azure")),
        ("gen_ai.request.model", text("openai/gpt-4-turbo")),
        ("gen_ai.request.stream", json!({"boolValue": true})),
        (
            "gen_ai.response.finish_reasons",
            json!({"arrayValue": {"values": [text("stop")]}}),
        ),
        ("gen_ai.response.id", text("gen-1")),
        ("gen_ai.response.model", text("openai/gpt-4-turbo-2024")),
        (
            "gen_ai.response.time_to_first_chunk",
            json!({"doubleValue": 0.25}),
        ),
        ("gen_ai.usage.cache_creation.input_tokens", whole("1")),
        ("gen_ai.usage.cache_read.input_tokens", whole("2")),
        ("gen_ai.usage.input_tokens", whole("5")),
        ("gen_ai.usage.output_tokens", whole("7")),
        ("gen_ai.usage.reasoning.output_tokens", whole("3")),
        ("host.name", text("web-1")),
        ("http.response.status_code", whole("429")),
        ("openai.response.service_tier", text("flex")),
        ("openai.response.system_fingerprint", text("fp_1")),
        ("process.pid", whole("77")),
        ("user.id", text("user-42")),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(attributes(&said), BTreeMap::from(wanted.clone()));
    let page = fs::read_to_string(root().join("docs/reading.md")).expect("it's there");
    for (name, _) in wanted {
        let listed = name.starts_with("audit_logger.") || page.contains(&format!("`{name}`"));
        assert!(listed, "docs/reading.md has no {name}");
    }

    let span = span_of(&said);
    assert_eq!(span["name"], "chat openai/gpt-4-turbo");
    assert_eq!(span["kind"], 3);
    assert_eq!(
        span["status"],
        json!({"code": 2, "message": "RateLimitError"})
    );
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(span["spanId"], "a0828cd363b6519f");
    assert_eq!(span["startTimeUnixNano"], "1795456890100000000");
    assert_eq!(span["endTimeUnixNano"], "1795456891600500000");
}

#[test]
fn every_attribute_that_is_not_our_own_is_in_the_published_conventions() {
    let Some(python) = python_with("opentelemetry.semconv") else {
        return;
    };
    let said = as_json(&full(), "otel");
    let foreign = attributes(&said)
        .into_keys()
        .filter(|name| !name.starts_with("audit_logger."));
    let foreign: Vec<String> = foreign.collect();
    assert_eq!(foreign.len(), 21);
    let program = "\
import importlib, pkgutil, sys
import opentelemetry.semconv._incubating.attributes as package
known = set()
for module in pkgutil.iter_modules(package.__path__):
    module = importlib.import_module(f'{package.__name__}.{module.name}')
    known |= {value for value in vars(module).values() if isinstance(value, str)}
print([name for name in sys.argv[1:] if name not in known])";
    let said = run(Command::new(python).args(["-c", program]).args(foreign));
    assert_eq!(said, "[]\n");
}

#[test]
fn a_call_without_a_trace_is_one_of_its_own() {
    let mut entry = full();
    entry["details"] = json!({"schema": 2});
    let said = as_json(&entry, "otel");
    let span = span_of(&said);
    assert_eq!(span["traceId"], "05f23880e8d54fd4a0828cd363b6519f");
    assert_eq!(span["parentSpanId"], Value::Null);
    // It ended when it was written.
    assert_eq!(span["endTimeUnixNano"], "1795456891667695000");
    assert_eq!(span["startTimeUnixNano"], "1795456890167195000");
    assert_eq!(
        attributes(&said)["gen_ai.provider.name"]["stringValue"],
        "openai"
    );
}

#[test]
fn an_event_of_ocsf_says_what_the_entry_does_and_holds_its_line() {
    let entry = full();
    let event = as_json(&entry, "ocsf");
    for (place, value) in [
        ("/class_uid", json!(6003)),
        ("/type_uid", json!(600_399)),
        ("/time", json!(1_795_456_891_667_i64)),
        ("/status_id", json!(2)),
        ("/actor/user/uid", json!("user-42")),
        ("/ai_model/name", json!("openai/gpt-4-turbo")),
        ("/ai_model/ai_provider", json!("Azure")),
        ("/message_context/total_tokens", json!(12)),
        ("/http_response/code", json!(429)),
        ("/trace/uid", json!("0af7651916cd43dd8448eb211c80319c")),
        ("/metadata/version", json!("1.9.0")),
        (
            "/metadata/profiles",
            json!(["ai_operation", "record_integrity", "trace"]),
        ),
    ] {
        assert_eq!(event.pointer(place), Some(&value), "{place}");
    }
    let raw = event["raw_data"].as_str().expect("it's there");
    assert_eq!(raw, entry.to_string());
    let print = &event["attestation_list"][0]["fingerprint"];
    assert_eq!(print["value"], digest(raw));
    assert_eq!(
        (&print["algorithm_id"], &print["encoding_id"]),
        (&json!(3), &json!(1))
    );
}

/// The newest schema that is published as a package is 1.8.0, which has all but record_integrity.
#[test]
fn events_of_ocsf_have_no_error_by_its_schema() {
    let (Some(python), Some(_)) = (python_with("ocsf_json_schema"), python_with("jsonschema"))
    else {
        return;
    };
    let mut unknown = full();
    unknown["id"] = json!("05f23880-e8d5-4fd4-a082-8cd363b65190");
    unknown["error_type"] = json!("OutcomeUnknown");
    unknown["latency_ms"] = Value::Null;
    unknown["prompt_tokens"] = Value::Null;
    let mut bare = full();
    bare["id"] = json!("05f23880-e8d5-4fd4-a082-8cd363b65191");
    bare.as_object_mut().expect("it's one").remove("details");
    let scratch = log(&[full(), unknown, bare].map(|entry| entry.to_string()));
    fs::write(scratch.join("events"), exported(&scratch, "ocsf")).expect("there's room");
    let program = "\
import json, jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
made = OcsfJsonSchemaEmbedded(get_ocsf_schema('1.8.0'))
schema = made.get_class_schema(class_name='api_activity', profiles=['ai_operation', 'trace'])
for line in open('events'):
    event = json.loads(line)
    assert event.pop('attestation_list')
    # Of 1.9 as well.
    event['metadata']['profiles'].remove('record_integrity')
    print([f'{list(e.path)} {e.message}' for e in jsonschema.Draft202012Validator(schema).iter_errors(event)])";
    let mut python = Command::new(python);
    python.current_dir(scratch.path()).args(["-c", program]);
    assert_eq!(run(&mut python), "[]\n[]\n[]\n");
}

#[test]
fn a_document_of_ecs_has_the_entry_under_elastic_s_names() {
    let document = as_json(&full(), "ecs");
    for (place, value) in [
        ("/@timestamp", json!("2026-11-23T18:01:31.667695Z")),
        ("/event/outcome", json!("failure")),
        ("/event/duration", json!(1_500_500_000)),
        ("/event/original", json!(full().to_string())),
        ("/event/hash", json!(digest(&full().to_string()))),
        ("/user/id", json!("user-42")),
        ("/error/type", json!("RateLimitError")),
        ("/host/name", json!("web-1")),
        ("/trace/id", json!("0af7651916cd43dd8448eb211c80319c")),
        ("/gen_ai/usage/input_tokens", json!(5)),
        ("/http/response/status_code", json!(429)),
    ] {
        assert_eq!(document.pointer(place), Some(&value), "{place}");
    }
    let mut untraced = full();
    untraced["details"]["trace_id"] = Value::Null;
    assert_eq!(as_json(&untraced, "ecs").get("trace"), None);
}

/// Whoever can choose a user's id would run something on the auditor's machine otherwise.
#[test]
fn no_text_is_a_formula_in_a_spreadsheet_and_every_text_comes_back() {
    let hostile = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        " =1",
        "\t=1",
        "\r=1",
        "\u{ff1d}1",
        "=HYPERLINK(\"x\",\"y\")",
        "a\",\"=1",
        "007",
    ];
    let entry = |(number, user): (usize, &&str)| {
        let mut entry = full();
        entry["id"] = json!(format!("05f23880-e8d5-4fd4-a082-8cd363b651{number:02}"));
        entry["user_id"] = json!(user);
        entry.to_string()
    };
    let scratch = log(&hostile.iter().enumerate().map(entry).collect::<Vec<_>>());
    let said = exported(&scratch, "csv");
    let Some(python) = python_with("csv") else {
        return;
    };
    fs::write(scratch.join("said.csv"), said).expect("there's room");
    let program =
        "import csv, json\nprint(json.dumps(list(csv.DictReader(open('said.csv', newline='')))))";
    let mut python = Command::new(python);
    let rows = run(python.current_dir(scratch.path()).args(["-c", program]));
    let rows: Vec<BTreeMap<String, String>> = serde_json::from_str(&rows).expect("rows of texts");
    assert_eq!(rows.len(), hostile.len());
    for (row, user) in rows.iter().zip(hostile) {
        let shown = &row["user_id"];
        assert_eq!(shown.strip_prefix('\'').unwrap_or(shown), user);
        assert_eq!(
            shown.starts_with('\''),
            !["007", "a\",\"=1"].contains(&user),
            "{user}"
        );
        assert_eq!(
            (&*row["cost"], &*row["attempts"], &*row["prompt_tokens"]),
            ("0.25", "2", "5")
        );
        assert_eq!(row["metadata"], "{\"team\":\"core\"}");
    }
}

#[test]
fn each_entry_is_exported_once_whatever_numbers_its_metadata_have() {
    let odd = full().to_string().replace(
        "{\"team\":\"core\"}",
        "{\"n\":1e400,\"m\":18446744073709551616}",
    );
    let mut other = full();
    other["id"] = json!("05f23880-e8d5-4fd4-a082-8cd363b65190");
    let scratch = log(&[
        odd.clone(),
        " ".repeat(20),
        "torn".to_owned(),
        odd.clone(),
        other.to_string(),
        odd,
    ]);
    for format in ["otel", "ocsf", "ecs", "csv"] {
        let said = exported(&scratch, format);
        let header = usize::from(format == "csv");
        assert_eq!(said.lines().count(), 2 + header, "{said}");
        assert!(said.contains("1e400"), "{said}");
    }
}

#[test]
fn what_follows_is_shown_in_the_format_as_well() {
    let scratch = log(&[full().to_string()]);
    let mut following = tool();
    following
        .current_dir(scratch.path())
        .args(["tail", "log", "-f", "--format", "otel"]);
    let mut following = following.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(following.stdout.take().expect("it's piped")).lines();
    let mut next = || -> Value {
        let line = said.next().expect("a line").expect("it's read");
        serde_json::from_str(&line).expect("it is JSON")
    };
    assert_eq!(attributes(&next())["user.id"]["stringValue"], "user-42");
    let mut more = full();
    more["id"] = json!("05f23880-e8d5-4fd4-a082-8cd363b65190");
    more["user_id"] = json!("user-43");
    let mut day = OpenOptions::new()
        .append(true)
        .open(scratch.join("log/audit_2026-11-23.jsonl"))
        .expect("it's there");
    writeln!(day, "{more}").expect("there's room");
    assert_eq!(attributes(&next())["user.id"]["stringValue"], "user-43");
    following.kill().expect("it runs");
    following.wait().expect("it ends");
}
