//! What kind of error an answer is.
//!
//! Classes are those that the openai Python client raises, so that a log reads the same whoever
//! wrote it. Where that client lets an error pass as a success, or stumbles over an answer that is
//! one, the class says what really came (DESIGN.md lists these cases).

use super::limits::Cut;
use super::retry::Kind;
use super::value::{Unread, Value};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For `error_type`.
    pub class: &'static str,
    /// For the caller alone: the provider's words can repeat the prompt.
    pub message: String,
    /// The provider's own class.
    pub provider_error_type: Option<String>,
    /// The provider's own code.
    pub provider_error_code: Option<String>,
    /// Whether another attempt may help.
    pub retry: Kind,
}

const CANCELLED: &str = "Cancelled";
const INCOMPLETE: &str = "IncompleteResponse";
const VALIDATION: &str = "APIResponseValidationError";

impl Fault {
    /// A fault of an answer with status 200: it was processed, and is billed, so it isn't tried
    /// again.
    pub fn invalid(class: &'static str, message: impl Into<String>) -> Fault {
        Fault {
            class,
            message: message.into(),
            provider_error_type: None,
            provider_error_code: None,
            retry: Kind::Never,
        }
    }

    /// The host ended the call.
    pub fn cancelled() -> Fault {
        Fault::invalid(CANCELLED, "the call was cancelled")
    }

    /// Whether the host ended the call.
    pub fn is_cancelled(&self) -> bool {
        self.class == CANCELLED
    }

    /// There is no memory for an answer of its length, or it is too long.
    pub fn too_large(message: impl Into<String>) -> Fault {
        Fault::invalid("ResponseTooLarge", message)
    }

    /// There is no memory for an answer of its length.
    pub fn no_memory() -> Fault {
        Fault::too_large("the process has no memory for an answer of this length")
    }

    /// A stream that ended before its answer did.
    pub fn incomplete(message: &str) -> Fault {
        Fault::invalid(INCOMPLETE, message)
    }

    /// JSON that is no completion.
    pub fn no_completion() -> Fault {
        Fault::invalid(VALIDATION, "no choices[0].message in the answer")
    }

    /// An answer in another form than JSON, whose own words are given if they are text.
    pub fn not_json(media: &str, body: &[u8]) -> Fault {
        let what = format!("the body is {}, not JSON", crate::json::show(media));
        let words = words_in(media, body);
        Fault::invalid(VALIDATION, with_words(&what, words.as_deref()))
    }

    /// A status that isn't a success, with what the body says of it.
    pub fn refusal(status: u16, media: &str, body: &[u8], error: Option<&Value<'_>>) -> Fault {
        let what = format!("HTTP {status}");
        let reason = error.map(Reason::of_body).unwrap_or_default();
        let plain = words_in(media, body).filter(|_| error.is_none());
        Fault {
            class: class_of(status),
            message: with_words(&what, reason.words.or(plain).as_deref()),
            provider_error_type: reason.kind,
            provider_error_code: reason.code,
            retry: Kind::Status(status),
        }
    }
}

impl From<Unread> for Fault {
    fn from(unread: Unread) -> Fault {
        let message = unread.to_string();
        match unread {
            Unread::NotUtf8 => Fault::invalid("UnicodeDecodeError", message),
            Unread::NotJson(..) => Fault::invalid("JSONDecodeError", message),
            Unread::TooMuch => Fault::too_large(message),
            Unread::Cut(cut) => cut.into(),
        }
    }
}

impl From<Cut> for Fault {
    fn from(cut: Cut) -> Fault {
        match cut {
            Cut::Cancelled => Fault::cancelled(),
            cut => Fault {
                retry: Kind::Connection,
                ..Fault::invalid("APITimeoutError", cut.to_string())
            },
        }
    }
}

/// The class of a status that isn't a success.
fn class_of(status: u16) -> &'static str {
    match status {
        400 => "BadRequestError",
        401 => "AuthenticationError",
        403 => "PermissionDeniedError",
        404 => "NotFoundError",
        409 => "ConflictError",
        422 => "UnprocessableEntityError",
        429 => "RateLimitError",
        500.. => "InternalServerError",
        _ => "APIStatusError",
    }
}

/// The error within an answer, or a chunk of one, with status 200: it arose after the provider
/// had begun. `named` is an event that says of itself that it is one.
pub fn error_inside(answer: &Value<'_>, named: bool) -> Option<Fault> {
    let (mut choices, mut said, mut kind, mut code) = (None, None, None, false);
    let mut message = None;
    for (key, value) in answer.members() {
        match &**key {
            "choices" => choices = Some(value),
            "error" | "errors" => {
                said = Some(value).filter(|error| **error != Value::Null).or(said)
            }
            "type" | "object" => kind = kind.or(value.as_str().filter(|kind| *kind == "error")),
            "code" | "status" | "status_code" => code |= code_of(value).is_some(),
            "message" | "detail" | "msg" => message = Some(value).filter(|value| !value.is_empty()),
            _ => {}
        }
    }
    let has_choices = choices.is_some_and(|choices| matches!(choices, Value::List(_)));
    let said = said.filter(|error| !(has_choices && is_falsy(error)));
    let items = choices.map(Value::items).unwrap_or_default();
    let failed = items.iter().find_map(|choice| {
        let error = choice.get("error").filter(|error| !is_falsy(error));
        let ended = choice.get("finish_reason").and_then(Value::as_str) == Some("error");
        (error.is_some() || ended).then_some(error)
    });
    let is_detail = !has_choices && answer.get("detail").is_some_and(|value| !value.is_empty());
    let flat = named || kind.is_some() || is_detail || (!has_choices && code && message.is_some());
    if said.is_none() && failed.is_none() && !flat {
        return None;
    }
    let place = match (said, failed) {
        (Some(Value::Object(_) | Value::Text(_) | Value::List(_)), _) => answer,
        (_, Some(Some(error))) => error,
        _ => answer,
    };
    let reason = Reason::of_body(place);
    let class = match reason.number {
        Some(number @ 400..=599) => class_of(number),
        _ => "APIError",
    };
    Some(Fault {
        provider_error_type: reason.kind,
        provider_error_code: reason.code,
        ..Fault::invalid(
            class,
            with_words("an error inside HTTP 200", reason.words.as_deref()),
        )
    })
}

/// An error that is none: nothing, or an object of nothing.
fn is_falsy(error: &Value<'_>) -> bool {
    match error {
        Value::Object(members) => members.iter().all(|(_, value)| is_falsy(value)),
        other => other.is_empty(),
    }
}

/// What an error's body says.
#[derive(Debug, Default)]
struct Reason {
    words: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    number: Option<u16>,
}

impl Reason {
    /// Of the body as a whole, whose error may stand within it, or in a list.
    fn of_body(body: &Value<'_>) -> Reason {
        let body = match body {
            Value::List(items) => items.first().unwrap_or(body),
            _ => body,
        };
        let inner = ["error", "errors", "detail"]
            .into_iter()
            .find_map(|key| body.get(key).filter(|value| !is_falsy(value)));
        let inner = match inner {
            Some(Value::List(items)) if items.len() == 1 => items.first(),
            inner => inner,
        };
        let error = match inner {
            Some(error @ Value::Object(_)) => error,
            _ => body,
        };
        let metadata = error.get("metadata");
        let of = |key: &str| error.get(key).or_else(|| body.get(key));
        let kind = metadata.and_then(|metadata| word(metadata.get("error_type")?));
        Reason {
            words: inner.and_then(said).or_else(|| said(body)).map(|words| {
                // OpenRouter's message says that a provider failed; its own words stand beside it.
                match metadata
                    .and_then(|metadata| metadata.get("raw"))
                    .and_then(said)
                {
                    Some(raw) if !words.contains(&*raw) => bounded(&format!("{words}: {raw}")),
                    _ => bounded(&words),
                }
            }),
            kind: kind.or_else(|| of("type").and_then(word)).or_else(|| {
                of("code")
                    .filter(|code| code_of(code).is_none())
                    .and_then(word)
            }),
            code: of("code").and_then(word),
            number: ["code", "status", "status_code"]
                .into_iter()
                .find_map(|key| of(key).and_then(code_of)),
        }
    }
}

/// Servers write codes as numbers and as text.
fn code_of(value: &Value<'_>) -> Option<u16> {
    match value {
        Value::Number(number) => number.parse().ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// A plain word, or a number. Only these are logged: the place may hold free text, which can
/// repeat the prompt.
fn word(value: &Value<'_>) -> Option<String> {
    let word = match value {
        Value::Number(number) => number,
        Value::Text(text) => &**text,
        _ => return None,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let fits = (1..=64).contains(&word.len()) && word.bytes().all(is_plain);
    // The name of no error at all, which the class says better.
    (fits && word != "error").then(|| word.to_owned())
}

/// The words in an error of any usual shape.
fn said(value: &Value<'_>) -> Option<String> {
    const DEEPEST: usize = 6;
    const MOST: usize = 8;
    fn within(value: &Value<'_>, depth: usize) -> Option<String> {
        if depth == DEEPEST {
            return None;
        }
        match value {
            Value::Text(text) if text.trim().is_empty() => None,
            Value::Text(text) => Some(bounded(text)),
            Value::List(items) => {
                let all = items.iter().take(MOST);
                let all: Vec<String> = all.filter_map(|item| within(item, depth + 1)).collect();
                (!all.is_empty()).then(|| all.join("; "))
            }
            Value::Object(_) => {
                let keys = [
                    "message",
                    "msg",
                    "error",
                    "detail",
                    "errors",
                    "error_message",
                    "error_description",
                    "title",
                    "reason",
                ];
                let found = keys
                    .into_iter()
                    .find_map(|key| within(value.get(key)?, depth + 1));
                // Where FastAPI says what is wrong with a request, it says where.
                match (found, value.get("loc")) {
                    (Some(words), Some(Value::List(place))) => {
                        let place: Vec<&str> = place.iter().filter_map(Value::as_str).collect();
                        Some(format!("{}: {words}", place.join(".")))
                    }
                    (found, _) => found,
                }
            }
            _ => None,
        }
    }
    within(value, 0)
}

/// The words of a body that isn't JSON.
fn words_in(media: &str, body: &[u8]) -> Option<String> {
    let is_text = media.is_empty() || media.starts_with("text/plain");
    let text = std::str::from_utf8(body).ok()?.trim();
    (is_text && !text.is_empty()).then(|| bounded(text))
}

fn bounded(words: &str) -> String {
    const LONGEST: usize = 1000;
    words.chars().take(LONGEST).collect()
}

/// What happened and the provider's words for it.
fn with_words(what: &str, words: Option<&str>) -> String {
    match words {
        None => what.to_owned(),
        Some(words) => format!("{what}: {}", bounded(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(text: &str) -> Option<Fault> {
        let value = Value::read(text.as_bytes(), &|| None).unwrap();
        error_inside(&value, false)
    }

    fn refused(status: u16, body: &str) -> Fault {
        let value = Value::read(body.as_bytes(), &|| None).ok();
        Fault::refusal(status, "text/plain", body.as_bytes(), value.as_ref())
    }

    #[test]
    fn every_status_has_the_class_of_the_openai_client() {
        for (status, name) in [
            (302, "APIStatusError"),
            (400, "BadRequestError"),
            (401, "AuthenticationError"),
            (402, "APIStatusError"),
            (403, "PermissionDeniedError"),
            (404, "NotFoundError"),
            (408, "APIStatusError"),
            (409, "ConflictError"),
            (413, "APIStatusError"),
            (422, "UnprocessableEntityError"),
            (429, "RateLimitError"),
            (500, "InternalServerError"),
            (502, "InternalServerError"),
            (529, "InternalServerError"),
        ] {
            assert_eq!(refused(status, "not JSON").class, name, "{status}");
        }
    }

    #[test]
    fn an_error_inside_a_success_is_an_error_in_every_shape_that_servers_use() {
        for (body, name) in [
            (
                r#"{"error":{"code":502,"message":"m"}}"#,
                "InternalServerError",
            ),
            (r#"{"error":{"code":"429"}}"#, "RateLimitError"),
            (r#"{"error":{"code":"oops"}}"#, "APIError"),
            (r#"{"error":"text"}"#, "APIError"),
            (r#"{"error":{}}"#, "APIError"),
            (r#"{"error":true,"choices":[]}"#, "APIError"),
            (r#"{"errors":[{"message":"m"}]}"#, "APIError"),
            (r#"{"detail":"not found"}"#, "APIError"),
            (r#"{"detail":[{"loc":["body"],"msg":"m"}]}"#, "APIError"),
            (r#"{"message":"m","code":503}"#, "InternalServerError"),
            (
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                "APIError",
            ),
            (
                r#"{"object":"error","message":"m","code":400}"#,
                "BadRequestError",
            ),
            (
                r#"{"choices":[{"message":{},"error":{"code":403}}]}"#,
                "PermissionDeniedError",
            ),
            (
                r#"{"choices":[{"delta":{}},{"delta":{},"error":"x"}]}"#,
                "APIError",
            ),
            (
                r#"{"choices":[{"delta":{}},{"finish_reason":"error"}]}"#,
                "APIError",
            ),
        ] {
            assert_eq!(inside(body).map(|fault| fault.class), Some(name), "{body}");
        }
    }

    #[test]
    fn an_error_that_says_nothing_is_none() {
        let falsy = [
            "null",
            "\"\"",
            "false",
            "[]",
            "{}",
            "0",
            r#"{"code":0,"message":"","x":{}}"#,
        ];
        for error in falsy {
            for body in [
                format!(r#"{{"error":{error},"choices":[{{"message":{{}}}}]}}"#),
                format!(r#"{{"choices":[{{"delta":{{}},"error":{error}}}]}}"#),
                format!(r#"{{"choices":[],"errors":{error},"usage":{{}}}}"#),
            ] {
                assert_eq!(inside(&body), None, "{body}");
            }
        }
        assert_eq!(inside(r#"{"message":"m","code":7,"choices":[]}"#), None);
    }

    #[test]
    fn the_server_s_words_reach_the_caller_from_every_usual_shape() {
        for (body, words) in [
            (r#"{"error":{"message":"why"}}"#, "why"),
            (r#"{"error":"why"}"#, "why"),
            (r#"{"detail":"why"}"#, "why"),
            (
                r#"{"detail":[{"loc":["body","model"],"msg":"why"}]}"#,
                "body.model: why",
            ),
            (r#"{"message":"why","status":"failure"}"#, "why"),
            (r#"{"message":{"detail":"why"}}"#, "why"),
            (
                r#"{"errors":[{"message":"why"},{"message":"and"}]}"#,
                "why; and",
            ),
            (r#"{"msg":"why"}"#, "why"),
            (r#"[{"error":{"message":"why"}}]"#, "why"),
            (
                r#"{"error":{"message":"P failed","metadata":{"raw":"why"}}}"#,
                "P failed: why",
            ),
            ("why\n", "why"),
        ] {
            assert_eq!(
                refused(400, body).message,
                format!("HTTP 400: {words}"),
                "{body}"
            );
        }
        let long = format!(r#"{{"error":"{}"}}"#, "é".repeat(5000));
        assert!(refused(400, &long).message.chars().count() < 1100);
        assert_eq!(refused(500, "").message, "HTTP 500");
    }

    #[test]
    fn the_provider_s_type_and_code_are_kept_if_they_are_plain_words() {
        for (body, kind, code) in [
            (
                r#"{"error":{"code":403,"metadata":{"error_type":"content_policy_violation"}}}"#,
                Some("content_policy_violation"),
                Some("403"),
            ),
            (
                r#"{"error":{"message":"m","type":"invalid_request_error","code":null}}"#,
                Some("invalid_request_error"),
                None,
            ),
            (
                r#"{"error":{"type":"x","code":"model_not_found"}}"#,
                Some("x"),
                Some("model_not_found"),
            ),
            (
                r#"{"error":{"code":"no_db"}}"#,
                Some("no_db"),
                Some("no_db"),
            ),
            (
                r#"{"error":{"type":"your prompt said: hello","code":"a b"}}"#,
                None,
                None,
            ),
            (
                r#"{"object":"error","message":"m","type":"BadRequest"}"#,
                Some("BadRequest"),
                None,
            ),
        ] {
            let fault = refused(400, body);
            let found = (
                fault.provider_error_type.as_deref(),
                fault.provider_error_code.as_deref(),
            );
            assert_eq!(found, (kind, code), "{body}");
        }
    }
}
