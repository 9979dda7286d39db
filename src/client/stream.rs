//! Streamed answers: server-sent events, and the answer that their deltas add up to.

use serde_json::{Map, Value};

use super::response::content_text;
use super::transport::Flow;

/// The marker that ends every whole stream of this protocol.
const DONE: &[u8] = b"[DONE]";

/// Splits a stream of bytes into the data of its events, as the HTML standard says (section
/// 9.2.6, "Interpreting an event stream"): lines end with CR, LF or CRLF, one byte order mark may
/// come first, lines that begin with a colon are comments, an empty line ends an event, and
/// several `data` fields are joined by line feeds. It differs in one thing: data at the end of the
/// stream that no empty line follows isn't dropped but left to [`SseParser::rest`].
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a CR, so an LF right after it belongs to the same line end.
    after_cr: bool,
    started: bool,
}

impl SseParser {
    /// Takes the next bytes, and hands out the data of each event that they complete, until
    /// `each` doesn't want more.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8]) -> Flow) -> Flow {
        let mut left = bytes;
        while let Some(&first) = left.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                left = &left[1..];
                continue;
            }
            let Some(end) = left.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.line.extend_from_slice(left);
                break;
            };
            self.line.extend_from_slice(&left[..end]);
            self.after_cr = left[end] == b'\r';
            left = &left[end + 1..];
            let flow = self.end_line().map_or(Flow::More, |data| each(&data));
            if flow != Flow::More {
                return flow;
            }
        }
        Flow::More
    }

    /// The data of an event that the end of the stream cut off.
    pub fn rest(mut self) -> Option<Vec<u8>> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.data
    }

    /// Interprets a whole line. Returns an event's data if the line ends it.
    fn end_line(&mut self) -> Option<Vec<u8>> {
        let mut line = self.line.as_slice();
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let ended = line.is_empty();
        if let Some(value) = line.strip_prefix(b"data") {
            // "data", "data:x" or "data: x"; but "database: x" is another field.
            let value = match value {
                [] => Some(&[][..]),
                [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
                _ => None,
            };
            if let Some(value) = value {
                match &mut self.data {
                    None => self.data = Some(value.to_vec()),
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                }
            }
        }
        self.line.clear();
        if ended { self.data.take() } else { None }
    }
}

/// Whether an event's data is the marker that ends the stream.
pub fn is_done(data: &[u8]) -> bool {
    data.trim_ascii() == DONE
}

/// The answer that the chunks so far add up to, in the form of an answer that isn't streamed.
#[derive(Debug, Default)]
pub struct Assembly {
    top: Map<String, Value>,
    choices: Vec<(u64, Map<String, Value>)>,
}

/// More choices than any request asks for; a server that sends more is not to fill the memory
/// with gaps between them.
const MAX_CHOICES: usize = 128;

impl Assembly {
    /// Adds a chunk.
    pub fn add(&mut self, chunk: Value) {
        let Value::Object(chunk) = chunk else { return };
        for (key, value) in chunk {
            match (key.as_str(), value) {
                ("choices", Value::Array(choices)) => {
                    for choice in choices {
                        self.add_choice(choice);
                    }
                }
                ("object", _) | (_, Value::Null) => {}
                (_, value) => {
                    self.top.insert(key, value);
                }
            }
        }
    }

    fn add_choice(&mut self, choice: Value) {
        let Value::Object(choice) = choice else {
            return;
        };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        let at = match self.choices.iter().position(|(known, _)| *known == index) {
            Some(at) => at,
            None if self.choices.len() == MAX_CHOICES => return,
            None => {
                self.choices.push((index, Map::new()));
                self.choices.len() - 1
            }
        };
        let assembled = &mut self.choices[at].1;
        for (key, value) in choice {
            match key.as_str() {
                "logprobs" => merge(assembled.entry(key).or_insert(Value::Null), value),
                "delta" => merge(assembled.entry("message").or_insert(Value::Null), value),
                // Some servers end with a whole message.
                _ if value.is_null() => {}
                _ => {
                    assembled.insert(key, value);
                }
            }
        }
    }

    /// The whole answer, as a `chat.completion`.
    pub fn finish(mut self) -> Value {
        self.choices.sort_by_key(|(index, _)| *index);
        let choices = self
            .choices
            .into_iter()
            .map(|(index, mut choice)| {
                choice.insert("index".into(), index.into());
                let message = choice.entry("message").or_insert(Value::Null);
                if message.is_null() {
                    *message = Value::Object(Map::new());
                }
                if let Value::Object(message) = message {
                    message.entry("role").or_insert_with(|| "assistant".into());
                    message.entry("content").or_insert(Value::Null);
                }
                choice.entry("finish_reason").or_insert(Value::Null);
                Value::Object(choice)
            })
            .collect();
        self.top.insert("object".into(), "chat.completion".into());
        self.top.insert("choices".into(), Value::Array(choices));
        Value::Object(self.top)
    }
}

/// Longer lists aren't searched for the member to merge with: a hostile server could make that
/// take hours.
const MAX_SEARCHED: usize = 1024;

/// Adds a delta to what there is: texts are appended, objects merged, lists merged by the `index`
/// of their members. Names and kinds come once, or again with every chunk: they are set.
fn merge(to: &mut Value, delta: Value) {
    match (to, delta) {
        (_, Value::Null) => {}
        (Value::String(text), Value::String(more)) => text.push_str(&more),
        (Value::Object(object), Value::Object(more)) => {
            for (key, value) in more {
                let set = matches!(
                    key.as_str(),
                    "role" | "type" | "id" | "name" | "index" | "format"
                );
                let place = object.entry(key).or_insert(Value::Null);
                if set && !place.is_null() && value == "" {
                    // Some servers repeat a name as an empty one.
                } else if set && !value.is_null() {
                    *place = value;
                } else {
                    merge(place, value);
                }
            }
        }
        (Value::Array(list), Value::Array(more)) => {
            for item in more {
                let index = item
                    .get("index")
                    .filter(|index| index.is_u64() && list.len() < MAX_SEARCHED)
                    .cloned();
                let known = index
                    .and_then(|index| list.iter_mut().find(|old| old.get("index") == Some(&index)));
                match known {
                    Some(old) => merge(old, item),
                    None => list.push(item),
                }
            }
        }
        (place, value) => *place = value,
    }
}

/// The text that a chunk adds to choice 0.
pub fn delta_text(chunk: &Value) -> String {
    content_text(first_delta(chunk).and_then(|delta| delta.get("content")))
}

/// Whether a chunk brings anything of the answer: text, reasoning, a tool call, a refusal.
pub fn brings_tokens(chunk: &Value) -> bool {
    let is_something = |value: &Value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    let delta = first_delta(chunk).and_then(Value::as_object);
    delta.is_some_and(|delta| {
        delta
            .iter()
            .any(|(key, value)| key != "role" && is_something(value))
    })
}

fn first_delta(chunk: &Value) -> Option<&Value> {
    let choices = chunk.get("choices")?.as_array()?;
    let is_first = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
    choices.iter().find(is_first)?.get("delta")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn events(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        let mut parser = SseParser::default();
        let mut found = Vec::new();
        for piece in pieces {
            parser.push(piece, |data| {
                found.push(text(data));
                Flow::More
            });
        }
        (found, parser.rest().map(|data| text(&data)))
    }

    /// With every feature: a mark, comments, all line ends, joined data, other fields.
    const STREAM: &str = "\u{feff}data: {\"a\":\"h\u{e9}\"}\n\n: OPENROUTER PROCESSING\n\n\
        data:one\r\ndata: two\r\n\r\nevent: x\rid: 7\rdata:  three\r\rdata\n\ndatabase: no\n\n\
        retry: 10\n\n: \n\ndata: [DONE]\n\n";

    fn expected() -> Vec<String> {
        ["{\"a\":\"h\u{e9}\"}", "one\ntwo", " three", "", "[DONE]"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut() {
        let bytes = STREAM.as_bytes();
        assert_eq!(events(&[bytes]), (expected(), None));
        for cut in 0..=bytes.len() {
            assert_eq!(
                events(&[&bytes[..cut], &bytes[cut..]]),
                (expected(), None),
                "{cut}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(&single), (expected(), None));
    }

    #[test]
    fn a_stream_reads_the_same_with_every_line_end() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = "data: a\n\ndata: b\ndata: c\n\n".replace('\n', end);
            assert_eq!(events(&[stream.as_bytes()]).0, ["a", "b\nc"], "{end:?}");
        }
    }

    #[test]
    fn an_event_that_the_end_cut_off_is_kept_apart() {
        assert_eq!(
            events(&[b"data: a\n\ndata: b"]),
            (vec!["a".into()], Some("b".into()))
        );
        assert_eq!(
            events(&[b"data: a\n\ndata: b\n"]),
            (vec!["a".into()], Some("b".into()))
        );
        assert_eq!(events(&[b"data: a\n\n: comment"]), (vec!["a".into()], None));
    }

    #[test]
    fn deltas_add_up_to_the_answer() {
        let mut assembly = Assembly::default();
        for chunk in [
            json!({"id": "gen-1", "object": "chat.completion.chunk", "model": "m", "choices": [
                {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}),
            json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]}),
            json!({"choices": [{"index": 1, "delta": {"content": "other"}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 3}}),
        ] {
            assembly.add(chunk);
        }
        assert_eq!(
            assembly.finish(),
            json!({"id": "gen-1", "object": "chat.completion", "model": "m", "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
                {"index": 1, "message": {"role": "assistant", "content": "other"}, "finish_reason": null}],
                "usage": {"prompt_tokens": 3}})
        );
    }

    #[test]
    fn tool_calls_are_put_together_by_their_index() {
        let mut assembly = Assembly::default();
        for calls in [
            json!([{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]),
            json!([{"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{"}}]),
            json!([{"index": 0, "function": {"arguments": "{\"x\":"}}]),
            json!([{"index": 1, "function": {"arguments": "}"}}, {"index": 0, "function": {"arguments": "1}"}}]),
        ] {
            assembly.add(json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}));
        }
        assert_eq!(
            assembly.finish()["choices"][0]["message"]["tool_calls"],
            json!([
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
            ])
        );
    }

    #[test]
    fn what_is_no_chunk_adds_nothing() {
        let mut assembly = Assembly::default();
        for odd in [
            json!(null),
            json!(7),
            json!([]),
            json!({"choices": 1}),
            json!({"choices": [1]}),
        ] {
            assembly.add(odd);
        }
        assembly.add(json!({"choices": [{"index": 0, "delta": null}]}));
        assembly.add(json!({"choices": [{"delta": {"content": ["x"]}}]}));
        let message = &assembly.finish()["choices"][0]["message"];
        assert_eq!(message["role"], "assistant");
    }

    #[test]
    fn the_first_token_is_told_from_the_preamble() {
        let of = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
        for (chunk, text, tokens) in [
            (of(json!({"role": "assistant", "content": ""})), None, false),
            (of(json!({"content": "x"})), Some("x"), true),
            (of(json!({"reasoning": "hm", "content": null})), None, true),
            (of(json!({"tool_calls": [{"index": 0}]})), None, true),
            (json!({"choices": []}), None, false),
            (
                json!({"choices": [{"index": 1, "delta": {"content": "x"}}]}),
                None,
                false,
            ),
        ] {
            assert_eq!(
                (&*delta_text(&chunk), brings_tokens(&chunk)),
                (text.unwrap_or_default(), tokens),
                "{chunk}"
            );
        }
    }
}
