//! What a response says: an answer, or an error and its class.
//!
//! Classes are those that the openai Python client raises, so that a log reads the same whoever
//! wrote it. Where that client lets an error pass as a success, or stumbles over an answer that is
//! one, the class says what really came (DESIGN.md lists these cases).

use serde_json::Number;
use ureq::http::HeaderMap;

use super::lenient;
use super::retry::Kind;
use super::value::{Json, Value};

/// An answer of the model.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Completion {
    /// The text of choice 0; "" when it has none (a tool call, a refusal).
    pub text: String,
    /// Why it ends.
    pub finish_reason: Option<String>,
    /// As reported, null or absent otherwise: never an estimate.
    pub prompt_tokens: Option<i64>,
    /// As reported.
    pub completion_tokens: Option<i64>,
    /// Of the prompt's tokens, those read from a cache.
    pub cached_tokens: Option<i64>,
    /// Of the answer's tokens, those spent on reasoning.
    pub reasoning_tokens: Option<i64>,
    /// As reported.
    pub cost: Option<Number>,
    /// The provider's name for the answer.
    pub id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The provider that a router chose.
    pub provider: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For `error_type`.
    pub class: &'static str,
    /// For the caller alone: the provider's words can repeat the prompt.
    pub message: String,
    /// The provider's own class.
    pub provider_error_type: Option<String>,
    /// Whether another attempt may help.
    pub retry: Kind,
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

/// Reads a response that isn't streamed: what it says of the answer, and why it is none.
pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> (Completion, Option<Fault>) {
    // Slow answers of OpenRouter begin with blank lines that keep the connection alive; some
    // servers send a byte order mark.
    let bare = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Err(too_large) = lenient::check_room(bare.len(), lenient::weight_at_most(bare), 0) {
        let fault = match status {
            200..300 => too_large,
            _ => refusal(status, None::<&Value<'_>>),
        };
        return (Completion::default(), Some(fault));
    }
    let mut room = Vec::new();
    let parsed: Result<Value<'_>, _> = lenient::parse(bare, &mut room);
    if !(200..300).contains(&status) {
        let error = parsed
            .as_ref()
            .ok()
            .map(|value| value.get("error").unwrap_or(value));
        return (Completion::default(), Some(refusal(status, error)));
    }
    match parsed {
        Ok(value) => (completion(&value), fault_of(&value)),
        Err(error) => {
            let media = media_type(headers);
            let fault = if media.contains("json") {
                unreadable(bare, &error)
            } else {
                let shown = crate::json::show(&media);
                Fault::invalid(VALIDATION, format!("the body is {shown}, not JSON"))
            };
            (Completion::default(), Some(fault))
        }
    }
}

/// The fault of a status that isn't a success, with what the body says of it.
fn refusal(status: u16, error: Option<&impl Json>) -> Fault {
    Fault {
        class: class_of(status),
        message: describe(&format!("HTTP {status}"), error),
        provider_error_type: error.and_then(provider_error_type),
        retry: Kind::Status(status),
    }
}

const CANCELLED: &str = "Cancelled";
const VALIDATION: &str = "APIResponseValidationError";

/// The `content-type`, lower case.
pub fn media_type(headers: &HeaderMap) -> String {
    let media = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    media.unwrap_or_default().to_ascii_lowercase()
}

/// The fault of a text that was to be JSON.
pub fn unreadable(text: &[u8], error: &serde_json::Error) -> Fault {
    match std::str::from_utf8(text) {
        Err(_) => Fault::invalid("UnicodeDecodeError", "the answer isn't UTF-8"),
        Ok(_) => Fault::invalid("JSONDecodeError", format!("the answer isn't JSON: {error}")),
    }
}

impl Fault {
    /// The host ended the call.
    pub fn cancelled() -> Fault {
        Fault::invalid(CANCELLED, "the call was cancelled")
    }

    /// Whether the host ended the call.
    pub fn is_cancelled(&self) -> bool {
        self.class == CANCELLED
    }

    /// A fault of an answer with status 200: it was processed, and is billed, so it isn't tried
    /// again.
    pub fn invalid(class: &'static str, message: impl Into<String>) -> Fault {
        Fault {
            class,
            message: message.into(),
            provider_error_type: None,
            retry: Kind::Never,
        }
    }
}

/// Why an answer with status 200 is none, or `None` if it is one.
pub fn fault_of(value: &impl Json) -> Option<Fault> {
    error_inside(value).or_else(|| {
        let message = first_choice(value).and_then(|choice| choice.get("message"));
        match message {
            Some(message) if message.is_object() => None,
            _ => Some(Fault::invalid(
                VALIDATION,
                "no choices[0].message in the answer",
            )),
        }
    })
}

/// The error within an answer, or a chunk of one, with status 200: it arose after the provider
/// had begun.
pub fn error_inside(value: &impl Json) -> Option<Fault> {
    let choice = first_choice(value);
    let error = [Some(value), choice]
        .into_iter()
        .flatten()
        .filter_map(|place| place.get("error"))
        .find(|error| !error.is_null());
    let ended_by_error =
        choice.and_then(|choice| choice.get("finish_reason")?.as_str()) == Some("error");
    if error.is_none() && !ended_by_error {
        return None;
    }
    let code = error
        .and_then(|error| error.get("code"))
        .and_then(number_of);
    Some(Fault {
        class: match code.and_then(|code| u16::try_from(code).ok()) {
            Some(code @ 400..=599) => class_of(code),
            _ => "APIError",
        },
        message: describe("an error inside HTTP 200", error),
        provider_error_type: error.and_then(provider_error_type),
        retry: Kind::Never,
    })
}

fn first_choice<V: Json>(value: &V) -> Option<&V> {
    value.get("choices")?.items().first()
}

/// What a whole answer, or the part of it that came, says.
pub fn completion(value: &impl Json) -> Completion {
    let choice = first_choice(value);
    let usage = value.get("usage");
    let tokens = |path: &[&str]| {
        path.iter()
            .try_fold(usage?, |place, key| place.get(key))
            .and_then(count_of)
    };
    Completion {
        text: content_text(choice.and_then(|choice| choice.get("message")?.get("content"))),
        finish_reason: choice.and_then(|choice| text_of(choice, "finish_reason")),
        prompt_tokens: tokens(&["prompt_tokens"]),
        completion_tokens: tokens(&["completion_tokens"]),
        cached_tokens: tokens(&["prompt_tokens_details", "cached_tokens"]),
        reasoning_tokens: tokens(&["completion_tokens_details", "reasoning_tokens"]),
        cost: usage.and_then(|usage| usage.get("cost")?.as_number().cloned()),
        id: text_of(value, "id"),
        model: text_of(value, "model"),
        provider: text_of(value, "provider"),
    }
}

/// A message's text: the string, or the text parts of a list of parts.
pub fn content_text(content: Option<&impl Json>) -> String {
    let Some(content) = content else {
        return String::new();
    };
    match content.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let texts = content.items().iter();
            texts
                .filter_map(|part| part.get("text")?.as_str())
                .collect()
        }
    }
}

fn text_of(value: &impl Json, key: &str) -> Option<String> {
    value.get(key).and_then(Json::as_str).map(str::to_owned)
}

/// A count, which some servers write as 5.0.
fn count_of(value: &impl Json) -> Option<i64> {
    // Beyond this a double doesn't hold every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    let number = value.as_number()?;
    number
        .as_i64()
        .or_else(|| number.as_f64().filter(whole).map(|number| number as i64))
        .filter(|count| *count >= 0)
}

/// Servers write codes as numbers and as text.
fn number_of(value: &impl Json) -> Option<i64> {
    match value.as_number() {
        Some(code) => code.as_i64(),
        None => value.as_str()?.parse().ok(),
    }
}

/// OpenRouter's `metadata.error_type`, or the `type` or `code` of OpenAI and its likes. Only a
/// plain word is taken: the place may hold free text, which can repeat the prompt.
fn provider_error_type<V: Json>(error: &V) -> Option<String> {
    let word = |value: Option<&V>| {
        value
            .and_then(Json::as_str)
            .filter(|word| (1..=64).contains(&word.len()))
            .filter(|word| {
                word.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            })
            .map(str::to_owned)
    };
    word(
        error
            .get("metadata")
            .and_then(|metadata| metadata.get("error_type")),
    )
    .or_else(|| word(error.get("type")))
    .or_else(|| word(error.get("code")))
}

/// What happened and the provider's words for it, bounded.
fn describe(what: &str, error: Option<&impl Json>) -> String {
    const LONGEST: usize = 1000;
    let words = error.and_then(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    match words {
        None => what.to_owned(),
        Some(words) => format!(
            "{what}: {}",
            words.chars().take(LONGEST).collect::<String>()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(status: u16, body: &str) -> Result<Completion, Fault> {
        let headers = [(
            "content-type".parse().unwrap(),
            "application/json".parse().unwrap(),
        )];
        result(read(
            status,
            &headers.into_iter().collect(),
            body.as_bytes(),
        ))
    }

    fn result((completion, fault): (Completion, Option<Fault>)) -> Result<Completion, Fault> {
        fault.map_or(Ok(completion), Err)
    }

    fn class(status: u16, body: &str) -> &'static str {
        json(status, body).unwrap_err().class
    }

    #[test]
    fn an_answer_is_read_with_all_that_the_entry_needs() {
        let answer = json(
            200,
            r#"

            {"id":"gen-1","provider":"P","model":"m","choices":[{"finish_reason":"stop",
             "message":{"role":"assistant","content":"hi"}}],
             "usage":{"prompt_tokens":5,"completion_tokens":7,"cost":0.00014,
             "prompt_tokens_details":{"cached_tokens":2},
             "completion_tokens_details":{"reasoning_tokens":3}}}"#,
        )
        .unwrap();
        assert_eq!(
            answer,
            Completion {
                text: "hi".into(),
                finish_reason: Some("stop".into()),
                prompt_tokens: Some(5),
                completion_tokens: Some(7),
                cached_tokens: Some(2),
                reasoning_tokens: Some(3),
                cost: Number::from_f64(0.00014),
                id: Some("gen-1".into()),
                model: Some("m".into()),
                provider: Some("P".into()),
            }
        );
    }

    #[test]
    fn content_may_be_null_or_parts() {
        for (content, text) in [
            ("null", ""),
            (
                r#"[{"type":"text","text":"a"},{"type":"image_url"},{"type":"text","text":"b"}]"#,
                "ab",
            ),
            ("17", ""),
        ] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":{content}}}}}]}}"#);
            let answer = json(200, &body).unwrap();
            assert_eq!((answer.text.as_str(), answer.prompt_tokens), (text, None));
        }
    }

    #[test]
    fn a_whole_number_is_a_count_however_it_is_written() {
        for count in ["5", "5.0", "0.5e1"] {
            let body = format!(
                r#"{{"choices":[{{"message":{{}}}}],"usage":{{"prompt_tokens":{count}}}}}"#
            );
            assert_eq!(json(200, &body).unwrap().prompt_tokens, Some(5), "{count}");
        }
    }

    #[test]
    fn odd_token_counts_are_unknown_not_guessed() {
        for count in ["null", "-1", "-1.0", "1.5", "\"7\"", "1e300", "[]"] {
            let body = format!(
                r#"{{"choices":[{{"message":{{}}}}],"usage":{{"prompt_tokens":{count},"completion_tokens":0}}}}"#
            );
            let answer = json(200, &body).unwrap();
            assert_eq!(
                (answer.prompt_tokens, answer.completion_tokens),
                (None, Some(0)),
                "{count}"
            );
        }
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
            assert_eq!(class(status, "not JSON"), name, "{status}");
        }
    }

    #[test]
    fn an_error_inside_a_success_is_an_error() {
        for (body, name) in [
            (
                r#"{"error":{"code":502,"message":"m"}}"#,
                "InternalServerError",
            ),
            (r#"{"error":{"code":"429"}}"#, "RateLimitError"),
            (r#"{"error":{"code":"oops"}}"#, "APIError"),
            (r#"{"error":"text"}"#, "APIError"),
            (
                r#"{"choices":[{"message":{"content":""},"error":{"code":403}}]}"#,
                "PermissionDeniedError",
            ),
            (
                r#"{"choices":[{"message":{"content":""},"finish_reason":"error"}]}"#,
                "APIError",
            ),
        ] {
            assert_eq!(class(200, body), name, "{body}");
        }
        assert!(json(200, r#"{"error":null,"choices":[{"message":{}}]}"#).is_ok());
    }

    #[test]
    fn what_is_no_completion_is_never_a_success() {
        for (body, name) in [
            ("", "JSONDecodeError"),
            (" \n ", "JSONDecodeError"),
            ("{\"choices\":", "JSONDecodeError"),
            ("null", "APIResponseValidationError"),
            ("[]", "APIResponseValidationError"),
            ("{}", "APIResponseValidationError"),
            (r#"{"choices":[]}"#, "APIResponseValidationError"),
            (r#"{"choices":[{}]}"#, "APIResponseValidationError"),
            (
                r#"{"choices":[{"message":null}]}"#,
                "APIResponseValidationError",
            ),
        ] {
            assert_eq!(class(200, body), name, "{body}");
        }
        let html = result(read(200, &HeaderMap::new(), b"<html>")).unwrap_err();
        assert_eq!(html.class, "APIResponseValidationError");
    }

    #[test]
    fn the_provider_s_words_reach_the_caller_and_its_class_the_log() {
        let fault = json(
            403,
            r#"{"error":{"code":403,"message":"flagged: secret prompt",
                "metadata":{"error_type":"content_policy_violation","flagged_input":"x"}}}"#,
        )
        .unwrap_err();
        assert_eq!(fault.message, "HTTP 403: flagged: secret prompt");
        assert_eq!(
            fault.provider_error_type.as_deref(),
            Some("content_policy_violation")
        );

        let openai = json(
            404,
            r#"{"error":{"message":"m","type":"invalid_request_error","code":null}}"#,
        );
        assert_eq!(
            openai.unwrap_err().provider_error_type.as_deref(),
            Some("invalid_request_error")
        );
        let free = json(400, r#"{"error":{"type":"your prompt said: hello"}}"#).unwrap_err();
        assert_eq!(free.provider_error_type, None);
        let flat = json(
            400,
            r#"{"object":"error","message":"m","type":"BadRequest"}"#,
        )
        .unwrap_err();
        assert_eq!(
            (flat.message.as_str(), flat.provider_error_type.as_deref()),
            ("HTTP 400: m", Some("BadRequest"))
        );
    }
}
