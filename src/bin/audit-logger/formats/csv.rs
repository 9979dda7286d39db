//! CSV (RFC 4180) that is safe to open in a spreadsheet: a user chooses their own id, and a cell that begins
//! with one of some signs is a formula there.

use std::borrow::Cow;

use serde_json::Value;

use super::Entry;

/// The columns, in their order, and the fields that they have.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("timestamp", "/timestamp"),
    ("event_type", "/event_type"),
    ("user_id", "/user_id"),
    ("model", "/model"),
    ("status", "/status"),
    ("error_type", "/error_type"),
    ("prompt_tokens", "/prompt_tokens"),
    ("completion_tokens", "/completion_tokens"),
    ("latency_ms", "/latency_ms"),
    ("cost", "/details/cost"),
    ("outcome", "/details/outcome"),
    ("http_status", "/details/http_status"),
    ("attempts", "/details/attempts"),
    ("served_model", "/details/served_model"),
    ("provider", "/details/provider"),
    ("finish_reason", "/details/finish_reason"),
    ("generation_id", "/details/generation_id"),
    ("session_id", "/details/session_id"),
    ("trace_id", "/details/trace_id"),
    ("host", "/details/host"),
    ("pid", "/details/pid"),
    ("started_at", "/details/started_at"),
    ("prompt_hash", "/prompt_hash"),
    ("response_hash", "/response_hash"),
    ("metadata", "/metadata"),
];

pub fn header() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    format!("{},sha256\r\n", names.join(","))
}

pub fn record(entry: &Entry) -> String {
    let mut record = String::new();
    for (name, place) in COLUMNS {
        match entry.at(place) {
            Value::Null => {}
            Value::String(text) => record.push_str(&cell(text)),
            Value::Array(attempts) if *name == "attempts" => record += &attempts.len().to_string(),
            number @ Value::Number(_) => record += &number.to_string(),
            other => record.push_str(&cell(&other.to_string())),
        }
        record.push(',');
    }
    record + &entry.digest + "\r\n"
}

/// A text in quotes. One that would be a formula has an apostrophe before it (OWASP, CSV Injection), which a
/// spreadsheet takes for the mark of a text.
fn cell(text: &str) -> String {
    // Some skip white space before a formula, and some take the wide forms of the signs.
    let is_formula = |sign: char| "=+-@\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}\t\r\n".contains(sign);
    let first = text.trim_start_matches(' ').chars().next();
    let mark = if first.is_some_and(is_formula) {
        "'"
    } else {
        ""
    };
    let quoted: Cow<str> = match text.contains('"') {
        true => text.replace('"', "\"\"").into(),
        false => text.into(),
    };
    format!("\"{mark}{quoted}\"")
}
