//! One audit entry as one line of JSON: the 13 fields of every entry in their fixed order, then
//! `details`.

use serde_json::Number;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::hash::ContentHash;
use crate::json::Object;

/// Version of the layout of `details`; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// Upper bound of a `details` object in bytes: the texts in it are bounded, and so are the
/// attempts. It lets a call be refused before it is sent when its entry could grow too long.
pub const MAX_DETAILS: usize = 8192;

/// The most attempts of one call.
pub const MAX_ATTEMPTS: usize = 16;

/// Longest text, in characters, that is taken from a server into `details`.
const MAX_SERVER_TEXT: usize = 128;

/// What an entry says of a call.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// `chat_completion`, or what the host calls it.
    pub event_type: &'a str,
    /// On whose behalf.
    pub user_id: &'a str,
    /// The model as requested.
    pub model: &'a str,
    /// Of the prompt.
    pub prompt_hash: ContentHash,
    /// Of the answer's text.
    pub response_hash: ContentHash,
    /// As the provider reports; `None` (null) when it doesn't.
    pub prompt_tokens: Option<i64>,
    /// As the provider reports; `None` (null) when it doesn't.
    pub completion_tokens: Option<i64>,
    /// On the monotonic clock; `None` (null) when nobody knows.
    pub latency_ms: Option<f64>,
    /// The class of the error, if the call failed.
    pub error_type: Option<&'a str>,
    /// The host's own JSON object, compact.
    pub metadata: Option<&'a str>,
    /// What is known beside the 13 fields.
    pub details: Option<Details<'a>>,
}

/// What is known of a call beside the 13 fields. Absent when not known.
#[derive(Debug, Clone, Default)]
pub struct Details<'a> {
    /// The machine's name.
    pub host: &'a str,
    /// The process.
    pub pid: u32,
    /// When the call began.
    pub started_at: Option<Timestamp>,
    /// Every time the request was tried, in order.
    pub attempts: &'a [Attempt],
    /// Of the last attempt.
    pub http_status: Option<u16>,
    /// The provider's name for the answer, to ask it about the call later.
    pub generation_id: Option<&'a str>,
    /// The model that answered.
    pub served_model: Option<&'a str>,
    /// The provider that a router chose.
    pub provider: Option<&'a str>,
    /// Why the answer ends.
    pub finish_reason: Option<&'a str>,
    /// In the provider's currency.
    pub cost: Option<&'a Number>,
    /// Of the prompt's tokens, those read from a cache.
    pub cached_tokens: Option<i64>,
    /// Of the answer's tokens, those spent on reasoning.
    pub reasoning_tokens: Option<i64>,
    /// Whether the token counts are the provider's.
    pub usage_reported: Option<bool>,
    /// From the beginning of the call to the first piece of a streamed answer.
    pub time_to_first_token_ms: Option<f64>,
    /// Whether the answer was asked for as a stream.
    pub stream: Option<bool>,
    /// What `prompt_hash` covers: `text` or `messages`.
    pub prompt_form: Option<&'static str>,
    /// The provider's own class of the error.
    pub provider_error_type: Option<&'a str>,
    /// How far the call came.
    pub outcome: Option<Outcome>,
    /// Of the request's body.
    pub request_hash: Option<ContentHash>,
    /// Of the last response's body, after its content coding was removed.
    pub response_body_hash: Option<ContentHash>,
    /// Names the key of this entry's hashes.
    pub hash_key_id: Option<&'a str>,
}

/// How far a call came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No byte of the request was sent.
    #[default]
    NotSent,
    /// The server answered, be it with an error.
    Answered,
    /// The request, or a part of it, was sent, and no complete answer came: it may have been
    /// processed and billed.
    Unknown,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::NotSent => "not_sent",
            Outcome::Answered => "answered",
            Outcome::Unknown => "unknown",
        }
    }
}

/// One time that the request was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What the server answered, if it did.
    pub http_status: Option<u16>,
    /// Why the attempt failed, if it did.
    pub error_type: Option<&'static str>,
    /// Milliseconds waited before the next attempt.
    pub wait_ms: Option<u64>,
}

/// An entry's line, its line feed included, to be stamped when it is written.
#[derive(Debug, Clone)]
pub struct Line {
    id: Uuid,
    bytes: Vec<u8>,
}

/// Where the timestamp stands in every line: the id before it has a fixed length.
const TIMESTAMP_AT: usize = r#"{"id":"00000000-0000-0000-0000-000000000000","timestamp":""#.len();
const EMPTY_TIMESTAMP: &str = "0000-00-00T00:00:00.000000Z";

impl Line {
    /// A line that was written before.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Line> {
        const ID: std::ops::Range<usize> = r#"{"id":""#.len()..r#"{"id":""#.len() + 36;
        let id = std::str::from_utf8(bytes.get(ID)?).ok()?;
        let id = Uuid::try_parse(id).ok()?;
        let is_line = bytes.len() > TIMESTAMP_AT + Timestamp::LEN && bytes.ends_with(b"}\n");
        is_line.then_some(Line { id, bytes })
    }

    /// The entry's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Gives the line the id of another one that it takes the place of.
    pub fn set_id(&mut self, id: Uuid) {
        const AT: usize = r#"{"id":""#.len();
        self.id = id;
        let mut buffer = Uuid::encode_buffer();
        let text = id.hyphenated().encode_lower(&mut buffer);
        self.bytes[AT..AT + text.len()].copy_from_slice(text.as_bytes());
    }

    /// Sets the timestamp. Kept for the moment of writing, so that the file, the order of the
    /// lines and the timestamps agree.
    pub fn stamp(&mut self, stamp: &Timestamp) {
        self.bytes[TIMESTAMP_AT..TIMESTAMP_AT + Timestamp::LEN].copy_from_slice(stamp.as_bytes());
    }

    /// The date of its timestamp.
    pub fn date(&self) -> [u8; 10] {
        // The line is longer; the fallback is never taken.
        let rest = self.bytes.get(TIMESTAMP_AT..).unwrap_or_default();
        *rest.first_chunk().unwrap_or(b"0000-00-00")
    }

    /// The bytes to append.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The JSON text, without the line feed.
    pub fn into_text(mut self) -> Vec<u8> {
        self.bytes.pop();
        self.bytes
    }
}

impl Entry<'_> {
    /// The line of this entry, with an empty timestamp.
    pub fn line(&self, id: Uuid) -> Line {
        let mut bytes = Vec::with_capacity(1280);
        let mut entry = Object::begin(&mut bytes);
        let mut buffer = Uuid::encode_buffer();
        entry.text("id", id.hyphenated().encode_lower(&mut buffer));
        entry.text("timestamp", EMPTY_TIMESTAMP);
        entry.text("event_type", self.event_type);
        entry.text("user_id", self.user_id);
        entry.text("model", self.model);
        entry.hash("prompt_hash", self.prompt_hash);
        entry.hash("response_hash", self.response_hash);
        entry.json_or_null("prompt_tokens", self.prompt_tokens);
        entry.json_or_null("completion_tokens", self.completion_tokens);
        match self.latency_ms {
            None => entry.json("latency_ms", "null"),
            // Debug, not Display: it always shows a float as one ("12.0"), as the seed does.
            Some(latency) => entry.json("latency_ms", format_args!("{latency:?}")),
        }
        match self.error_type {
            None => {
                entry.text("status", "success");
                entry.json("error_type", "null");
            }
            Some(class) => {
                entry.text("status", "error");
                entry.text("error_type", class);
            }
        }
        entry.json_or_null("metadata", self.metadata);
        if let Some(details) = &self.details {
            details.write(entry.nested("details"));
        }
        entry.end();
        bytes.push(b'\n');
        Line { id, bytes }
    }
}

impl Details<'_> {
    fn write(&self, mut to: Object<'_>) {
        to.json("schema", SCHEMA);
        to.server_text("host", Some(self.host));
        to.json("pid", self.pid);
        if let Some(started_at) = &self.started_at {
            to.json("started_at", format_args!("\"{started_at}\""));
        }
        if !self.attempts.is_empty() {
            let attempts = self.attempts.iter().take(MAX_ATTEMPTS);
            to.list("attempts", attempts, |attempt, out| {
                attempt.write(Object::begin(out));
            });
        }
        to.json_if("http_status", self.http_status);
        to.server_text("generation_id", self.generation_id);
        to.server_text("served_model", self.served_model);
        to.server_text("provider", self.provider);
        to.server_text("finish_reason", self.finish_reason);
        to.json_if("cost", self.cost);
        to.json_if("cached_tokens", self.cached_tokens);
        to.json_if("reasoning_tokens", self.reasoning_tokens);
        to.json_if("usage_reported", self.usage_reported);
        if let Some(milliseconds) = self.time_to_first_token_ms {
            to.json("time_to_first_token_ms", format_args!("{milliseconds:?}"));
        }
        to.json_if("stream", self.stream);
        to.server_text("prompt_form", self.prompt_form);
        to.server_text("provider_error_type", self.provider_error_type);
        to.server_text("outcome", self.outcome.map(Outcome::name));
        for (key, hash) in [
            ("request_hash", self.request_hash),
            ("response_body_hash", self.response_body_hash),
        ] {
            if let Some(hash) = hash {
                to.hash(key, hash);
            }
        }
        to.server_text("hash_key_id", self.hash_key_id);
        to.end();
    }
}

impl Attempt {
    fn write(&self, mut to: Object<'_>) {
        to.json_if("http_status", self.http_status);
        to.server_text("error_type", self.error_type);
        to.json_if("wait_ms", self.wait_ms);
        to.end();
    }
}

impl Object<'_> {
    fn hash(&mut self, key: &'static str, hash: ContentHash) {
        let out = self.key(key);
        out.push(b'"');
        hash.write_hex(out);
        out.push(b'"');
    }

    /// A text that others chose, bounded.
    fn server_text(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            let end = text
                .char_indices()
                .nth(MAX_SERVER_TEXT)
                .map_or(text.len(), |(end, _)| end);
            self.text(key, &text[..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hashing;
    use std::time::{Duration, UNIX_EPOCH};

    fn entry() -> Entry<'static> {
        Entry {
            event_type: "chat_completion",
            user_id: "user-1",
            model: "openai/gpt-4-turbo",
            prompt_hash: Hashing::default().of(b"abc"),
            response_hash: Hashing::default().of(b""),
            prompt_tokens: Some(3),
            completion_tokens: None,
            latency_ms: Some(12.0),
            error_type: None,
            metadata: Some(r#"{"team":"core"}"#),
            details: None,
        }
    }

    fn text(entry: &Entry) -> String {
        let mut line = entry.line(Uuid::nil());
        line.stamp(&Timestamp::of(
            UNIX_EPOCH + Duration::from_micros(1_500_000),
        ));
        assert_eq!(&line.date(), b"1970-01-01");
        assert_eq!(line.as_bytes().last(), Some(&b'\n'));
        String::from_utf8(line.into_text()).unwrap()
    }

    #[test]
    fn a_line_is_the_thirteen_fields_in_order() {
        assert_eq!(
            text(&entry()),
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000000","#,
                r#""timestamp":"1970-01-01T00:00:01.500000Z","event_type":"chat_completion","#,
                r#""user_id":"user-1","model":"openai/gpt-4-turbo","#,
                r#""prompt_hash":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","#,
                r#""response_hash":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
                r#""prompt_tokens":3,"completion_tokens":null,"latency_ms":12.0,"status":"success","#,
                r#""error_type":null,"metadata":{"team":"core"}}"#
            )
        );
    }

    #[test]
    fn an_error_names_its_class() {
        let failed = Entry {
            error_type: Some("RateLimitError"),
            metadata: None,
            ..entry()
        };
        assert!(
            text(&failed)
                .ends_with(r#""status":"error","error_type":"RateLimitError","metadata":null}"#)
        );
    }

    #[test]
    fn no_user_id_breaks_the_line() {
        for user_id in [
            "a\nb",
            "a\rb",
            "\u{1b}[2J",
            "\u{2028}",
            "\u{202e}nimda",
            "\0",
            "\"},{",
        ] {
            let text = text(&Entry { user_id, ..entry() });
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["user_id"], user_id);
            assert_eq!(value.as_object().unwrap().len(), 13);
            assert!(
                !text
                    .chars()
                    .any(|c| c.is_control() || c == '\u{2028}' || c == '\u{202e}')
            );
        }
    }

    #[test]
    fn the_longest_details_stay_within_their_bound() {
        // A control character takes six bytes in JSON, the most that a character can.
        let long = "\u{1}".repeat(1000);
        let attempts = vec![
            Attempt {
                http_status: Some(u16::MAX),
                error_type: Some("APIResponseValidationError"),
                wait_ms: Some(u64::MAX),
            };
            MAX_ATTEMPTS + 1
        ];
        let cost = Number::from_f64(f64::MIN_POSITIVE).unwrap();
        let bare = entry();
        let hash = bare.prompt_hash;
        let full = Entry {
            details: Some(Details {
                host: &long,
                pid: u32::MAX,
                started_at: Some(Timestamp::of(UNIX_EPOCH)),
                attempts: &attempts,
                http_status: Some(u16::MAX),
                generation_id: Some(&long),
                served_model: Some(&long),
                provider: Some(&long),
                finish_reason: Some(&long),
                cost: Some(&cost),
                cached_tokens: Some(i64::MIN),
                reasoning_tokens: Some(i64::MIN),
                usage_reported: Some(false),
                time_to_first_token_ms: Some(f64::MIN_POSITIVE),
                stream: Some(false),
                prompt_form: Some("messages"),
                provider_error_type: Some(&long),
                outcome: Some(Outcome::Answered),
                request_hash: Some(hash),
                response_body_hash: Some(hash),
                hash_key_id: Some("0123456789abcdef"),
            }),
            ..entry()
        };
        let value: serde_json::Value = serde_json::from_str(&text(&full)).unwrap();
        assert_eq!(
            value["details"]["attempts"].as_array().unwrap().len(),
            MAX_ATTEMPTS
        );
        assert!(text(&full).len() - text(&bare).len() <= MAX_DETAILS);
    }
}
