//! A span of OpenTelemetry, by the semantic conventions for generative AI (v0.1.0, in development), as one
//! request of OTLP in JSON: what the Collector's otlpjsonfile receiver reads a line of.

use serde_json::{Value, json};

use super::{Entry, object};

/// What stands where: an attribute, and the field of an entry that it has.
pub const ATTRIBUTES: &[(&str, &str)] = &[
    ("gen_ai.request.model", "/model"),
    ("gen_ai.request.stream", "/details/stream"),
    ("gen_ai.response.id", "/details/generation_id"),
    ("gen_ai.response.model", "/details/served_model"),
    ("gen_ai.usage.input_tokens", "/prompt_tokens"),
    ("gen_ai.usage.output_tokens", "/completion_tokens"),
    (
        "gen_ai.usage.cache_read.input_tokens",
        "/details/cached_tokens",
    ),
    (
        "gen_ai.usage.cache_creation.input_tokens",
        "/details/cache_write_tokens",
    ),
    (
        "gen_ai.usage.reasoning.output_tokens",
        "/details/reasoning_tokens",
    ),
    ("gen_ai.conversation.id", "/details/session_id"),
    ("error.type", "/error_type"),
    ("http.response.status_code", "/details/http_status"),
    ("user.id", "/user_id"),
    ("openai.response.service_tier", "/details/service_tier"),
    (
        "openai.response.system_fingerprint",
        "/details/system_fingerprint",
    ),
    ("audit_logger.entry.id", "/id"),
    ("audit_logger.event_type", "/event_type"),
    ("audit_logger.outcome", "/details/outcome"),
    ("audit_logger.prompt.hash", "/prompt_hash"),
    ("audit_logger.response.hash", "/response_hash"),
    ("audit_logger.request.hash", "/details/request_hash"),
    ("audit_logger.cost", "/details/cost"),
    ("audit_logger.metadata", "/metadata"),
];

/// Attributes that take more than a field's value.
pub const OPERATION: &str = "gen_ai.operation.name";
pub const PROVIDER: &str = "gen_ai.provider.name";
pub const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub const FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub const DIGEST: &str = "audit_logger.entry.sha256";

/// Of the process that made the entry.
pub const RESOURCE: &[(&str, &str)] = &[
    ("host.name", "/details/host"),
    ("process.pid", "/details/pid"),
];

/// The attributes of an entry.
pub fn attributes(entry: &Entry) -> Vec<(&'static str, Value)> {
    let seconds = entry.at("/details/time_to_first_token_ms").as_f64();
    let reason = entry.at("/details/finish_reason");
    let mut found = vec![
        (OPERATION, json!(entry.operation())),
        (PROVIDER, json!(entry.provider())),
        (
            FINISH_REASONS,
            if reason.is_null() {
                Value::Null
            } else {
                json!([reason])
            },
        ),
        (FIRST_CHUNK, json!(seconds.map(|ms| ms / 1000.0))),
        (DIGEST, json!(entry.digest)),
    ];
    found.extend(
        ATTRIBUTES
            .iter()
            .map(|(name, place)| (*name, entry.at(place).clone())),
    );
    found.retain(|(_, value)| !value.is_null());
    found
}

/// A value as OTLP has it.
fn any_value(value: &Value) -> Value {
    match value {
        Value::String(text) => json!({"stringValue": text}),
        Value::Bool(flag) => json!({"boolValue": flag}),
        // 64-bit integers are texts in the JSON of protocol buffers.
        Value::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        Value::Number(number) => json!({"doubleValue": number}),
        Value::Array(items) => {
            json!({"arrayValue": {"values": items.iter().map(any_value).collect::<Vec<_>>()}})
        }
        other => json!({"stringValue": other.to_string()}),
    }
}

fn key_values<'k>(attributes: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_null());
    let pair = |(key, value): (&str, Value)| json!({"key": key, "value": any_value(&value)});
    attributes.map(pair).collect()
}

/// The id without its dashes: 32 hexadecimal digits, of which the last 16 make a span's.
fn id(entry: &Entry) -> String {
    let digits: String = entry
        .text("/id")
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect();
    match digits.len() {
        32 => digits.to_ascii_lowercase(),
        // Another program's: the digest serves as well.
        _ => entry.digest.chars().take(32).collect(),
    }
}

pub fn span(entry: &Entry) -> Value {
    let id = id(entry);
    let (began, ended) = entry.span();
    let trace = entry.text("/details/trace_id");
    let (trace, parent) = match trace.is_empty() {
        true => (id.as_str(), Value::Null),
        false => (trace, entry.at("/details/span_id").clone()),
    };
    let status = match entry.is_error() {
        true => json!({"code": 2, "message": entry.text("/error_type")}),
        false => json!({}),
    };
    let span = object([
        ("traceId", json!(trace)),
        ("spanId", json!(id[16..])),
        ("parentSpanId", parent),
        (
            "name",
            json!(format!("{} {}", entry.operation(), entry.text("/model"))),
        ),
        // A client's.
        ("kind", json!(3)),
        ("startTimeUnixNano", json!(began.to_string())),
        ("endTimeUnixNano", json!(ended.to_string())),
        ("attributes", key_values(attributes(entry))),
        ("status", status),
    ]);
    let resource = RESOURCE
        .iter()
        .map(|(name, place)| (*name, entry.at(place).clone()));
    json!({"resourceSpans": [{
        "resource": {"attributes": key_values(resource)},
        "scopeSpans": [{
            "scope": {"name": "audit_logger", "version": env!("CARGO_PKG_VERSION")},
            "spans": [span],
        }],
    }]})
}
