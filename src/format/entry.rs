//! One audit entry as one line of JSON: the 13 fields of every entry in their fixed order, then
//! `details`.

use std::sync::Arc;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::hash::{ContentHash, Hashing};
use crate::json::Object;

/// Version of the layout of `details`; raised when a field changes its meaning.
pub const SCHEMA: u32 = 2;

/// Upper bound of a `details` object in bytes: the texts in it are bounded, and so are the
/// attempts. It lets a call be refused before it is sent when its entry could grow too long.
pub const MAX_DETAILS: usize = 8192;

/// The most attempts of one call.
pub const MAX_ATTEMPTS: usize = 16;

/// Longest text, in characters, that is taken from elsewhere into `details`.
const MAX_TEXT: usize = 128;

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
    pub generation_id: Option<Name<'a>>,
    /// The model that answered.
    pub served_model: Option<Name<'a>>,
    /// The provider that a router chose.
    pub provider: Option<Name<'a>>,
    /// Why the answer ends.
    pub finish_reason: Option<Name<'a>>,
    /// In the provider's currency.
    pub cost: Option<f64>,
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
    pub provider_error_type: Option<Name<'a>>,
    /// How far the call came.
    pub outcome: Option<Outcome>,
    /// Of the request's body.
    pub request_hash: Option<ContentHash>,
    /// Of the last response's body, after its content coding was removed.
    pub response_body_hash: Option<ContentHash>,
    /// Names the key of this entry's hashes.
    pub hash_key_id: Option<&'a str>,
    /// Why the answer ends, in the provider's own words.
    pub native_finish_reason: Option<Name<'a>>,
    /// Of what the model says in place of an answer.
    pub refusal_hash: Option<ContentHash>,
    /// How many tools the answer calls.
    pub tool_calls: Option<usize>,
    /// Of their canonical JSON.
    pub tool_calls_hash: Option<ContentHash>,
    /// Of the prompt's tokens, those written to a cache.
    pub cache_write_tokens: Option<i64>,
    /// Whether the host's own key paid the provider.
    pub is_byok: Option<bool>,
    /// What the provider behind a router asks.
    pub upstream_cost: Option<f64>,
    /// The configuration that the model ran in.
    pub system_fingerprint: Option<Name<'a>>,
    /// The class of service that was given.
    pub service_tier: Option<Name<'a>>,
    /// The server's name for the request.
    pub request_id: Option<Name<'a>>,
    /// The model that a gateway asked.
    pub gateway_model: Option<Name<'a>>,
    /// What a gateway counts for the call.
    pub gateway_cost: Option<f64>,
    /// A gateway's name for the call.
    pub gateway_call_id: Option<Name<'a>>,
    /// The trace that the call is part of.
    pub trace_id: Option<Hex<32>>,
    /// The span within it.
    pub span_id: Option<Hex<16>>,
    /// The host's session.
    pub session_id: Option<Arc<str>>,
    /// The provider's own code of the error.
    pub provider_error_code: Option<Name<'a>>,
    /// What ended a streamed answer.
    pub stream_end: Option<&'static str>,
}

/// Digits of an id.
pub type Hex<const N: usize> = [u8; N];

/// A text that a server chose. It can be anything, a piece of the prompt as well; only what looks
/// like a name is shown, of anything else its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// A name.
    Plain(&'a str),
    /// Of a text that is none.
    Hash(ContentHash),
}

impl<'a> Name<'a> {
    /// The form in which a text is shown.
    pub fn of(text: &'a str, hashing: &Hashing) -> Name<'a> {
        match is_name(text) {
            true => Name::Plain(text),
            false => Name::Hash(hashing.of(text.as_bytes())),
        }
    }
}

/// Whether a text looks like a name of a model, a provider, a reason, an id: ASCII letters, digits
/// and a few marks, without spaces, or at most three capitalised words ("Google AI Studio").
fn is_name(text: &str) -> bool {
    const MOST_WORDS: usize = 3;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+~#".contains(&byte);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_part);
    let is_capitalised =
        |word: &str| word.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit());
    let mut words = text.split(' ');
    let first = words.next().unwrap_or_default();
    let further = words.clone().count();
    text.len() <= MAX_TEXT
        && is_word(first)
        && (further == 0 || is_capitalised(first))
        && further < MOST_WORDS
        && words.all(|word| is_word(word) && is_capitalised(word))
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
        entry.word("id", id.hyphenated().encode_lower(&mut buffer));
        entry.word("timestamp", EMPTY_TIMESTAMP);
        entry.text("event_type", self.event_type);
        entry.text("user_id", self.user_id);
        entry.text("model", self.model);
        entry.hash("prompt_hash", self.prompt_hash);
        entry.hash("response_hash", self.response_hash);
        entry.integer("prompt_tokens", self.prompt_tokens);
        entry.integer("completion_tokens", self.completion_tokens);
        match self.latency_ms {
            None => entry.raw("latency_ms", "null"),
            Some(latency) => write_float(latency, entry.key("latency_ms")),
        }
        match self.error_type {
            None => {
                entry.word("status", "success");
                entry.raw("error_type", "null");
            }
            Some(class) => {
                entry.word("status", "error");
                entry.text("error_type", class);
            }
        }
        entry.raw("metadata", self.metadata.unwrap_or("null"));
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
        to.integer("schema", Some(SCHEMA));
        to.bounded("host", Some(self.host));
        to.integer("pid", Some(self.pid));
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
        to.name("generation_id", self.generation_id);
        to.name("served_model", self.served_model);
        to.name("provider", self.provider);
        to.name("finish_reason", self.finish_reason);
        to.amount("cost", self.cost);
        to.json_if("cached_tokens", self.cached_tokens);
        to.json_if("reasoning_tokens", self.reasoning_tokens);
        to.json_if("usage_reported", self.usage_reported);
        if let Some(milliseconds) = self.time_to_first_token_ms {
            write_float(milliseconds, to.key("time_to_first_token_ms"));
        }
        to.json_if("stream", self.stream);
        to.bounded("prompt_form", self.prompt_form);
        to.name("provider_error_type", self.provider_error_type);
        to.bounded("outcome", self.outcome.map(Outcome::name));
        to.hash_if("request_hash", self.request_hash);
        to.hash_if("response_body_hash", self.response_body_hash);
        to.bounded("hash_key_id", self.hash_key_id);
        to.name("native_finish_reason", self.native_finish_reason);
        to.hash_if("refusal_hash", self.refusal_hash);
        to.json_if("tool_calls", self.tool_calls);
        to.hash_if("tool_calls_hash", self.tool_calls_hash);
        to.json_if("cache_write_tokens", self.cache_write_tokens);
        to.json_if("is_byok", self.is_byok);
        to.amount("upstream_cost", self.upstream_cost);
        to.name("system_fingerprint", self.system_fingerprint);
        to.name("service_tier", self.service_tier);
        to.name("request_id", self.request_id);
        to.name("gateway_model", self.gateway_model);
        to.amount("gateway_cost", self.gateway_cost);
        to.name("gateway_call_id", self.gateway_call_id);
        to.hex("trace_id", &self.trace_id);
        to.hex("span_id", &self.span_id);
        to.bounded("session_id", self.session_id.as_deref());
        to.name("provider_error_code", self.provider_error_code);
        to.bounded("stream_end", self.stream_end);
        to.end();
    }
}

/// Appends a number in the fewest digits that read back as it, and always with a point ("12.0",
/// "1.0e-7"), so that no reader takes the column for whole numbers.
fn write_float(number: f64, out: &mut Vec<u8>) {
    // Times come in microseconds: a number of three decimals and 15 digits in all is its own
    // shortest form, for no two such are the same float.
    let thousandths = (number * 1000.0).round();
    let known = (0.0..1e15).contains(&thousandths) && thousandths / 1000.0 == number;
    if !known || number.is_sign_negative() {
        // Debug, not Display, which shows a whole number without its ".0".
        let text = format!("{number:?}");
        let (digits, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
        out.extend_from_slice(digits.as_bytes());
        if !digits.contains('.') {
            out.extend_from_slice(b".0");
        }
        out.extend_from_slice(exponent.as_bytes());
        return;
    }
    let thousandths = thousandths as u64;
    out.extend_from_slice(itoa::Buffer::new().format(thousandths / 1000).as_bytes());
    let digit = |unit: u64| b'0' + (thousandths / unit % 10) as u8;
    let decimals = [b'.', digit(100), digit(10), digit(1)];
    let end = match decimals {
        [.., b'0', b'0'] => 2,
        [.., b'0'] => 3,
        _ => 4,
    };
    out.extend_from_slice(&decimals[..end]);
}

impl Attempt {
    fn write(&self, mut to: Object<'_>) {
        to.json_if("http_status", self.http_status);
        to.bounded("error_type", self.error_type);
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

    fn hash_if(&mut self, key: &'static str, hash: Option<ContentHash>) {
        if let Some(hash) = hash {
            self.hash(key, hash);
        }
    }

    fn name(&mut self, key: &'static str, name: Option<Name<'_>>) {
        match name {
            None => {}
            Some(Name::Plain(text)) => self.text(key, text),
            Some(Name::Hash(hash)) => self.hash(key, hash),
        }
    }

    fn hex<const N: usize>(&mut self, key: &'static str, id: &Option<Hex<N>>) {
        if let Some(digits) = id {
            self.text(key, std::str::from_utf8(digits).unwrap_or_default());
        }
    }

    /// An amount of money: always with a point, so that every reader takes the column for decimals.
    fn amount(&mut self, key: &'static str, amount: Option<f64>) {
        // Beyond these no provider asks, and the digits would go on for hundreds.
        let is_usual = |amount: f64| amount == 0.0 || (1e-12..1e15).contains(&amount.abs());
        if let Some(amount) = amount.filter(|amount| is_usual(*amount)) {
            let text = format!("{amount}");
            let point = if text.contains('.') { "" } else { ".0" };
            self.json(key, format_args!("{text}{point}"));
        }
    }

    /// A text, bounded.
    fn bounded(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            // No character has less than a byte.
            let end = match text.len() {
                ..=MAX_TEXT => None,
                _ => text.char_indices().nth(MAX_TEXT),
            };
            self.text(key, end.map_or(text, |(end, _)| &text[..end]));
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

    #[test]
    fn floats_are_written_as_rust_shows_them_and_always_with_a_point() {
        let written = |number| {
            let mut out = Vec::new();
            write_float(number, &mut out);
            String::from_utf8(out).unwrap()
        };
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 11
        };
        let edges: [f64; 10] = [
            0.0,
            -0.0,
            0.001,
            0.0005,
            1e-5,
            999_999_999_999.999,
            1e12,
            1e15,
            1e16,
            1e300,
        ];
        let neighbours = edges
            .iter()
            .flat_map(|edge| [edge.next_down(), *edge, edge.next_up()]);
        let whole: Vec<f64> = (0..200_000)
            .map(|_| (random() % 10_000_000) as f64 / 1000.0)
            .collect();
        let any: Vec<f64> = (0..200_000)
            .map(|_| f64::from_bits(random() << 11))
            .collect();
        for number in neighbours
            .chain(whole)
            .chain(any.into_iter().filter(|any| any.is_finite()))
        {
            let shown = format!("{number:?}");
            let shown = match shown.contains('.') {
                true => shown,
                false => shown.replace('e', ".0e"),
            };
            assert_eq!(written(number), shown);
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

    /// The keys of an object, or of one in it, in their order.
    fn keys(object: &str, within: &str) -> Vec<String> {
        let members = crate::json::members(object).unwrap();
        match members.iter().find(|(key, _)| key == within) {
            Some((_, inner)) => keys(inner, ""),
            None => members.into_iter().map(|(key, _)| key).collect(),
        }
    }

    /// The fields of an entry, or of an object in it, by schema/entry.json.
    fn described(within: &str) -> Vec<String> {
        fn inner(schema: &str, key: &str) -> String {
            let members = crate::json::members(schema).unwrap();
            members.into_iter().find(|(name, _)| name == key).unwrap().1
        }
        let mut schema = include_str!("../../schema/entry.json").to_owned();
        if !within.is_empty() {
            schema = inner(&inner(&schema, "properties"), within);
        }
        keys(&schema, "properties")
    }

    #[test]
    fn the_longest_details_stay_within_their_bound_and_the_schema_has_all_of_them() {
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
        let named = "n".repeat(MAX_TEXT);
        let name = Some(Name::of(&named, &Hashing::default()));
        let cost = Some(-999_999_999_999_999.9);
        let bare = entry();
        let hash = bare.prompt_hash;
        let full = Entry {
            details: Some(Details {
                host: &long,
                pid: u32::MAX,
                started_at: Some(Timestamp::of(UNIX_EPOCH)),
                attempts: &attempts,
                http_status: Some(u16::MAX),
                generation_id: name,
                served_model: name,
                provider: name,
                finish_reason: name,
                cost,
                cached_tokens: Some(i64::MIN),
                reasoning_tokens: Some(i64::MIN),
                usage_reported: Some(false),
                time_to_first_token_ms: Some(f64::MIN_POSITIVE),
                stream: Some(false),
                prompt_form: Some("messages"),
                provider_error_type: name,
                outcome: Some(Outcome::Answered),
                request_hash: Some(hash),
                response_body_hash: Some(hash),
                hash_key_id: Some("0123456789abcdef"),
                native_finish_reason: name,
                refusal_hash: Some(hash),
                tool_calls: Some(usize::MAX),
                tool_calls_hash: Some(hash),
                cache_write_tokens: Some(i64::MIN),
                is_byok: Some(false),
                upstream_cost: cost,
                system_fingerprint: name,
                service_tier: name,
                request_id: name,
                gateway_model: name,
                gateway_cost: cost,
                gateway_call_id: name,
                trace_id: Some([b'a'; 32]),
                span_id: Some([b'a'; 16]),
                session_id: Some(long.as_str().into()),
                provider_error_code: name,
                stream_end: Some("last_chunk"),
            }),
            ..entry()
        };
        assert_eq!(keys(&text(&full), "details"), described("details"));
        assert_eq!(keys(&text(&full), ""), described(""));
        let value: serde_json::Value = serde_json::from_str(&text(&full)).unwrap();
        assert_eq!(
            value["details"]["attempts"].as_array().unwrap().len(),
            MAX_ATTEMPTS
        );
        assert!(text(&full).len() - text(&bare).len() <= MAX_DETAILS);
    }

    #[test]
    fn only_what_looks_like_a_name_is_shown_of_what_a_server_chose() {
        for name in [
            "gen-1700000000-0123456789abcdefghij",
            "openai/gpt-4-turbo",
            "/models/Qwen2.5-7B-Instruct-Q4_K_M.gguf",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-v1:0",
            "Google AI Studio",
            "Amazon Bedrock",
            "Z.AI",
            "tool_calls",
            "MAX_TOKENS",
        ] {
            assert_eq!(Name::of(name, &Hashing::default()), Name::Plain(name));
        }
        for text in [
            "",
            " ",
            "my secret",
            "What is the capital of France?",
            "What Is The Capital",
            "Tell me",
            "a\nb",
            "caf\u{e9}",
            "<b>",
            "\"",
            &"x".repeat(MAX_TEXT + 1),
        ] {
            let hash = Hashing::default().of(text.as_bytes());
            assert_eq!(
                Name::of(text, &Hashing::default()),
                Name::Hash(hash),
                "{text}"
            );
        }
    }

    #[test]
    fn amounts_have_a_point_and_no_exponent() {
        for (amount, shown) in [
            (0.0, Some("0.0")),
            (5.0, Some("5.0")),
            (0.00014, Some("0.00014")),
            (1e-10, Some("0.0000000001")),
            (1e300, None),
            (f64::NAN, None),
        ] {
            let details = Details {
                cost: Some(amount),
                ..Details::default()
            };
            let text = text(&Entry {
                details: Some(details),
                ..entry()
            });
            match shown {
                Some(shown) => assert!(text.contains(&format!("\"cost\":{shown}}}")), "{text}"),
                None => assert!(!text.contains("cost"), "{text}"),
            }
        }
    }
}
