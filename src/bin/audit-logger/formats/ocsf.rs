//! An event of OCSF 1.9.0, class API Activity (6003), with the profiles ai_operation and record_integrity.

use serde_json::{Value, json};

use super::{Entry, object};

const CLASS: u32 = 6003;
/// None of create, read, update and delete: the name says what it is.
const OTHER: u32 = 99;

pub fn event(entry: &Entry) -> Value {
    let (status_id, status) = match (entry.is_unknown(), entry.is_error()) {
        (true, _) => (0, "Unknown"),
        (_, false) => (1, "Success"),
        (_, true) => (2, "Failure"),
    };
    let (severity_id, severity) = match entry.is_error() {
        false => (1, "Informational"),
        true => (2, "Low"),
    };
    let stamp = entry
        .time("/timestamp")
        .map_or(0, |time| time.timestamp_millis());
    let provider = json!({"name": entry.provider()});
    let trace = entry.at("/details/trace_id");
    let mut profiles = vec!["ai_operation", "record_integrity"];
    if !trace.is_null() {
        profiles.push("trace");
    }
    // A request of a call that never got one has our id.
    let request = match entry.at("/details/request_id") {
        Value::Null => entry.at("/id"),
        id => id,
    };
    let code = entry.at("/details/http_status");
    let tokens = ["/prompt_tokens", "/completion_tokens"].map(|place| entry.at(place).as_i64());
    let total = tokens[0]
        .zip(tokens[1])
        .and_then(|(prompt, completion)| prompt.checked_add(completion));
    let host = match entry.text("/details/host") {
        "" => json!({"name": "unknown"}),
        host => json!({"hostname": host}),
    };
    let fingerprint = json!({
        "algorithm_id": 3, "algorithm": "SHA-256", "encoding_id": 1, "encoding": "Hex",
        // The bytes of raw_data, as they stand.
        "serialization_id": 99, "serialization": "raw_data",
        "value": entry.digest,
    });
    object([
        ("activity_id", json!(OTHER)),
        ("activity_name", json!(entry.text("/event_type"))),
        ("category_uid", json!(6)),
        ("category_name", json!("Application Activity")),
        ("class_uid", json!(CLASS)),
        ("class_name", json!("API Activity")),
        ("type_uid", json!(CLASS * 100 + OTHER)),
        ("time", json!(stamp)),
        ("severity_id", json!(severity_id)),
        ("severity", json!(severity)),
        ("status_id", json!(status_id)),
        ("status", json!(status)),
        ("status_code", entry.at("/error_type").clone()),
        (
            "metadata",
            object([
                ("version", json!("1.9.0")),
                ("uid", entry.at("/id").clone()),
                ("original_time", entry.at("/timestamp").clone()),
                ("log_name", json!(entry.origin)),
                ("profiles", json!(profiles)),
                (
                    "product",
                    json!({
                        "name": "audit_logger", "vendor_name": "audit_logger", "version": env!("CARGO_PKG_VERSION"),
                    }),
                ),
            ]),
        ),
        ("actor", json!({"user": {"uid": entry.text("/user_id")}})),
        ("src_endpoint", host),
        (
            "api",
            object([
                ("operation", json!(entry.text("/event_type"))),
                ("service", provider.clone()),
                ("request", json!({"uid": request})),
                (
                    "response",
                    object([
                        ("code", code.clone()),
                        ("error", entry.at("/error_type").clone()),
                    ]),
                ),
            ]),
        ),
        (
            "http_response",
            if code.is_null() {
                Value::Null
            } else {
                json!({"code": code})
            },
        ),
        (
            "ai_model",
            object([
                ("ai_provider", json!(entry.provider())),
                ("name", json!(entry.text("/model"))),
                ("version", entry.at("/details/served_model").clone()),
            ]),
        ),
        (
            "message_context",
            object([
                ("service", provider),
                ("uid", entry.at("/details/session_id").clone()),
                ("ai_role_id", json!(2)),
                ("ai_role", json!("Assistant")),
                ("prompt_tokens", json!(tokens[0])),
                ("completion_tokens", json!(tokens[1])),
                ("total_tokens", json!(total)),
            ]),
        ),
        (
            "trace",
            if trace.is_null() {
                Value::Null
            } else {
                json!({"uid": trace})
            },
        ),
        (
            "attestation_list",
            json!([object([
                ("uid", entry.at("/id").clone()),
                ("chain_uid", json!(entry.origin)),
                ("fingerprint", fingerprint),
            ])]),
        ),
        ("raw_data", json!(String::from_utf8_lossy(entry.line))),
        ("raw_data_size", json!(entry.line.len())),
        (
            "unmapped",
            object([
                ("prompt_hash", entry.at("/prompt_hash").clone()),
                ("response_hash", entry.at("/response_hash").clone()),
                ("latency_ms", entry.at("/latency_ms").clone()),
                ("cost", entry.at("/details/cost").clone()),
            ]),
        ),
    ])
}
