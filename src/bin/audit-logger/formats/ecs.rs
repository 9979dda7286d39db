//! A document of the Elastic Common Schema 9.1.

use serde_json::{Map, Value, json};

use super::{Entry, object, otel};

pub fn document(entry: &Entry) -> Value {
    let (began, ended) = entry.span();
    let outcome = match (entry.is_unknown(), entry.is_error()) {
        (true, _) => "unknown",
        (_, false) => "success",
        (_, true) => "failure",
    };
    let duration = entry.at("/latency_ms").as_f64().map(|_| ended - began);
    let mut document = object([
        ("@timestamp", entry.at("/timestamp").clone()),
        ("ecs", json!({"version": "9.1.0"})),
        (
            "event",
            object([
                ("id", entry.at("/id").clone()),
                ("kind", json!("event")),
                ("category", json!(["api"])),
                ("type", json!(["access"])),
                ("dataset", json!("audit_logger.entry")),
                ("action", json!(entry.text("/event_type"))),
                ("outcome", json!(outcome)),
                ("duration", json!(duration)),
                ("start", entry.at("/details/started_at").clone()),
                ("hash", json!(entry.digest)),
                ("original", json!(String::from_utf8_lossy(entry.line))),
            ]),
        ),
    ]);
    // Where OpenTelemetry has a name, Elastic has the same.
    let attributes = otel::attributes(entry).into_iter();
    let resource = otel::RESOURCE.iter();
    let resource = resource.map(|(name, place)| (*name, entry.at(place).clone()));
    let trace = ("trace.id", entry.at("/details/trace_id").clone());
    for (name, value) in attributes.chain(resource).chain([trace]) {
        if name == otel::DIGEST || value.is_null() {
            continue;
        }
        if let Value::Object(document) = &mut document {
            put(document, name, value);
        }
    }
    document
}

/// Sets a member by its path of names with dots.
fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    let Some((name, rest)) = path.split_once('.') else {
        object.insert(path.to_owned(), value);
        return;
    };
    let inner = object.entry(name).or_insert_with(|| json!({}));
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}
