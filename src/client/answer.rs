//! The answer, put together from what came: one assembly, of which text, hash, tool calls, the
//! JSON of the reply and the entry's details all are.

use super::content::Content;
use super::tree::{Members, Merger, Node};
use super::value::{Unread, Value, Watch};

/// What an answer says.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Completion {
    /// The text of the first choice; "" when it has none (a tool call, a refusal).
    pub text: String,
    /// Why it refuses, in place of a text.
    pub refusal: Option<String>,
    /// The calls of tools: how many there are, and their canonical JSON (RFC 8785).
    pub tool_calls: Option<(usize, Vec<u8>)>,
    /// Why it ends.
    pub finish_reason: Option<String>,
    /// The same in the provider's own words.
    pub native_finish_reason: Option<String>,
    /// As reported; absent otherwise: never an estimate.
    pub prompt_tokens: Option<i64>,
    /// As reported.
    pub completion_tokens: Option<i64>,
    /// Of the prompt's tokens, those read from a cache.
    pub cached_tokens: Option<i64>,
    /// Of the prompt's tokens, those written to a cache.
    pub cache_write_tokens: Option<i64>,
    /// Of the answer's tokens, those spent on reasoning.
    pub reasoning_tokens: Option<i64>,
    /// As reported.
    pub cost: Option<f64>,
    /// What the provider behind a router asks.
    pub upstream_cost: Option<f64>,
    /// Whether the host's own key paid the provider.
    pub is_byok: Option<bool>,
    /// The provider's name for the answer.
    pub id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The provider that a router chose.
    pub provider: Option<String>,
    /// The configuration that the model ran in.
    pub system_fingerprint: Option<String>,
    /// The class of service that was given.
    pub service_tier: Option<String>,
}

/// What the pieces so far add up to.
#[derive(Debug)]
pub struct Assembly {
    /// Whether all is kept, for the JSON of the reply; of an answer in one piece that is its body.
    keeps_all: bool,
    top: Members,
    /// In the order in which they began.
    choices: Vec<Choice>,
    /// That whose text is heard.
    first: Option<usize>,
    /// Of what was merged so far.
    weight: usize,
}

#[derive(Debug, Default)]
struct Choice {
    index: u64,
    content: Content,
    /// The message's other members.
    message: Members,
    has_message: bool,
    rest: Members,
}

/// More choices than any request asks for; a server that sends more is not to fill the memory.
const MAX_CHOICES: usize = 128;

impl Assembly {
    /// Of a stream.
    pub fn of_chunks() -> Assembly {
        Assembly {
            keeps_all: true,
            top: Members::default(),
            choices: Vec::new(),
            first: None,
            weight: 0,
        }
    }

    /// Of an answer in one piece. `None` is JSON that is none.
    pub fn of_whole(answer: &Value<'_>, watch: Watch<'_>) -> Result<Option<Assembly>, Unread> {
        let mut assembly = Assembly {
            keeps_all: false,
            ..Assembly::of_chunks()
        };
        let mut weight = 0;
        let mut merger = Merger::new(watch, &mut weight);
        let mut choices = None;
        for (key, value) in answer.members() {
            match &**key {
                "choices" => choices = Some(value),
                key => assembly.top_member(&mut merger, key, value)?,
            }
        }
        let first = choices.and_then(|choices| choices.items().first());
        let Some(choice) = first else {
            return Ok(None);
        };
        let is_message = matches!(choice.get("message"), Some(Value::Object(_)));
        assembly.choice(&mut merger, choice, 0)?;
        Ok(is_message.then_some(assembly))
    }

    /// Adds a chunk, and says whether it brings anything of the first choice: text, reasoning, a
    /// tool call, a refusal.
    pub fn add(&mut self, chunk: &Value<'_>, watch: Watch<'_>) -> Result<bool, Unread> {
        let mut weight = self.weight;
        let mut merger = Merger::new(watch, &mut weight);
        let mut choices = None;
        for (key, value) in chunk.members() {
            match &**key {
                "choices" => choices = Some(value),
                key => self.top_member(&mut merger, key, value)?,
            }
        }
        let mut brings = false;
        for choice in choices.map(Value::items).unwrap_or_default() {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            brings |= self.choice(&mut merger, choice, index)? && index == 0;
        }
        self.weight = weight;
        Ok(brings)
    }

    /// The text so far, of the choice that is heard.
    pub fn heard(&self) -> &str {
        self.first
            .and_then(|at| self.choices.get(at))
            .map_or("", |choice| choice.content.text())
    }

    /// Whether a choice has said why it ends.
    pub fn any_ended(&self) -> bool {
        self.choices.iter().any(Choice::has_ended)
    }

    /// Whether every choice that began has, and one did.
    pub fn all_ended(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(Choice::has_ended)
    }

    fn top_member(
        &mut self,
        merger: &mut Merger<'_>,
        key: &str,
        value: &Value<'_>,
    ) -> Result<(), Unread> {
        merger.pass()?;
        let is_read = matches!(
            key,
            "id" | "model" | "provider" | "system_fingerprint" | "service_tier" | "usage"
        );
        if !(is_read || self.keeps_all) || key == "object" || *value == Value::Null {
            return Ok(());
        }
        let place = self.top.place(key);
        // Nearly every member of a chunk says what the one before it said.
        if let (Node::Text(known), Value::Text(text)) = (&*place, value)
            && known == text
        {
            return Ok(());
        }
        // Of what says nothing, nothing is learnt; and an answer is created once.
        if !place.is_empty() && (key == "created" || value.is_empty()) {
            return Ok(());
        }
        *place = merger.copy(value)?;
        Ok(())
    }

    fn choice(
        &mut self,
        merger: &mut Merger<'_>,
        from: &Value<'_>,
        index: u64,
    ) -> Result<bool, Unread> {
        merger.pass()?;
        let Value::Object(members) = from else {
            return Ok(false);
        };
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None if self.choices.len() == MAX_CHOICES => return Ok(false),
            None => {
                self.choices.push(Choice {
                    index,
                    ..Choice::default()
                });
                self.choices.len() - 1
            }
        };
        if index == 0 {
            self.first = Some(at);
        }
        let keeps_all = self.keeps_all;
        let choice = &mut self.choices[at];
        let (mut delta, mut message, mut ends) = (None, None, false);
        for (key, value) in members {
            merger.pass()?;
            match &**key {
                "index" => {}
                "delta" => delta = Some(value),
                "message" => message = Some(value),
                "finish_reason" | "native_finish_reason" => {
                    let place = choice.rest.place(key);
                    if !value.is_empty() {
                        ends = true;
                        *place = merger.copy(value)?;
                    }
                }
                "logprobs" if keeps_all => merger.add_to_message(&mut choice.rest, key, value)?,
                key if keeps_all => {
                    let place = choice.rest.place(key);
                    if !value.is_empty() || place.is_empty() {
                        *place = merger.copy(value)?;
                    }
                }
                _ => {}
            }
        }
        let mut brings = false;
        if let Some(Value::Object(delta)) = delta {
            brings |= choice.add(merger, delta, keeps_all)?;
        }
        if let Some(Value::Object(message)) = message {
            // Some servers end with the whole message, after its deltas or in place of them.
            brings |= if ends && choice.has_message {
                choice.sum_up(merger, message)?
            } else {
                choice.add(merger, message, keeps_all)?
            };
        }
        Ok(brings)
    }

    /// What the answer says.
    pub fn completion(&self) -> Completion {
        let top = |key: &str| known_text(self.top.text(key));
        let usage = self.top.get("usage");
        let choice = self.choices.iter().min_by_key(|choice| choice.index);
        let of = |key: &str| known_text(choice.and_then(|choice| choice.rest.text(key)));
        let plain = |path: &[&str]| {
            let node = path.iter().try_fold(usage?, |node, key| node.get(key))?;
            node.as_plain()
        };
        let count = |path: &[&str]| plain(path).and_then(count_of);
        let amount = |path: &[&str]| plain(path).and_then(|text| text.parse::<f64>().ok());
        Completion {
            text: choice
                .map(|choice| choice.content.text().to_owned())
                .unwrap_or_default(),
            refusal: known_text(choice.and_then(|choice| choice.message.text("refusal"))),
            tool_calls: choice.and_then(Choice::tool_calls),
            finish_reason: of("finish_reason"),
            native_finish_reason: of("native_finish_reason"),
            prompt_tokens: count(&["prompt_tokens"]),
            completion_tokens: count(&["completion_tokens"]),
            cached_tokens: count(&["prompt_tokens_details", "cached_tokens"]),
            cache_write_tokens: count(&["prompt_tokens_details", "cache_write_tokens"]),
            reasoning_tokens: count(&["completion_tokens_details", "reasoning_tokens"]),
            cost: amount(&["cost"]),
            upstream_cost: amount(&["cost_details", "upstream_inference_cost"]),
            is_byok: plain(&["is_byok"]).and_then(|text| text.parse().ok()),
            id: top("id"),
            model: top("model"),
            provider: top("provider"),
            system_fingerprint: top("system_fingerprint"),
            service_tier: top("service_tier"),
        }
    }

    /// The whole answer, as the JSON of a `chat.completion`.
    pub fn json(&self) -> Vec<u8> {
        let mut out = br#"{"object":"chat.completion""#.to_vec();
        self.top.write(&mut out);
        out.extend_from_slice(br#","choices":["#);
        let mut choices: Vec<&Choice> = self.choices.iter().collect();
        choices.sort_by_key(|choice| choice.index);
        for (number, choice) in choices.into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            choice.write(&mut out);
        }
        out.extend_from_slice(b"]}");
        out
    }
}

impl Choice {
    fn has_ended(&self) -> bool {
        self.rest
            .text("finish_reason")
            .is_some_and(|reason| !reason.is_empty())
    }

    /// Adds a message, or a piece of one.
    fn add(
        &mut self,
        merger: &mut Merger<'_>,
        delta: &[(std::borrow::Cow<'_, str>, Value<'_>)],
        keeps_all: bool,
    ) -> Result<bool, Unread> {
        let (mut content, mut brings) = (None, false);
        self.has_message = true;
        for (key, value) in delta {
            merger.pass()?;
            let is_something = match value {
                Value::Text(text) => !text.is_empty(),
                Value::List(items) => !items.is_empty(),
                _ => false,
            };
            brings |= is_something && key != "role";
            match &**key {
                "content" => content = Some(value),
                key if keeps_all || matches!(key, "refusal" | "tool_calls") => {
                    merger.add_to_message(&mut self.message, key, value)?;
                }
                _ => {}
            }
        }
        if let Some(content) = content {
            self.content.add(merger, content)?;
        }
        Ok(brings)
    }

    /// Adds of a message that sums its deltas up what they didn't bring.
    fn sum_up(
        &mut self,
        merger: &mut Merger<'_>,
        message: &[(std::borrow::Cow<'_, str>, Value<'_>)],
    ) -> Result<bool, Unread> {
        let mut brings = false;
        for (key, value) in message {
            merger.pass()?;
            if key == "content" {
                let mut whole = Content::default();
                whole.add(merger, value)?;
                if let Some(more) = whole.text().strip_prefix(self.content.text())
                    && !more.is_empty()
                {
                    brings = true;
                    if self.content.is_empty() {
                        self.content = whole;
                    } else {
                        self.content.add_text(more);
                    }
                }
            } else if self.message.get(key).is_none_or(Node::is_empty) && !value.is_empty() {
                brings |= key != "role";
                merger.add_to_message(&mut self.message, key, value)?;
            }
        }
        Ok(brings)
    }

    fn tool_calls(&self) -> Option<(usize, Vec<u8>)> {
        let calls = self.message.get("tool_calls")?;
        let Node::List(list) = calls else { return None };
        if list.items().is_empty() {
            return None;
        }
        let mut canonical = Vec::new();
        calls.write_canonical(&mut canonical)?;
        Some((list.items().len(), canonical))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(r#"{{"index":{},"message":{{"#, self.index).as_bytes());
        if self.message.text("role").is_none_or(str::is_empty) {
            out.extend_from_slice(br#""role":"assistant""#);
        }
        self.message.write(out);
        out.extend_from_slice(br#","content":"#);
        self.content.write(out);
        out.push(b'}');
        if self.rest.get("finish_reason").is_none() {
            out.extend_from_slice(br#","finish_reason":null"#);
        }
        self.rest.write(out);
        out.push(b'}');
    }
}

fn known_text(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A count, which some servers write as 5.0.
fn count_of(number: &str) -> Option<i64> {
    // Beyond this a double doesn't hold every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    let count = number.parse::<i64>().ok().or_else(|| {
        let number = number.parse::<f64>().ok().filter(whole)?;
        Some(number as i64)
    });
    count.filter(|count| *count >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::limits::Cut;
    use crate::fuzzing::worked;
    use serde_json::json;
    use std::cell::Cell;

    /// What chunks add up to: JSON and what it says.
    fn streamed(chunks: &[serde_json::Value]) -> (serde_json::Value, Completion) {
        let mut assembly = Assembly::of_chunks();
        for chunk in chunks {
            let text = chunk.to_string();
            let value = Value::read(text.as_bytes(), &|| None).unwrap();
            assembly.add(&value, &|| None).unwrap();
        }
        let json = serde_json::from_slice(&assembly.json()).unwrap();
        let completion = assembly.completion();
        assert_eq!(completion.text, assembly.heard());
        assert_eq!(text_in(&json), completion.text, "{json}");
        (json, completion)
    }

    /// The text of the first choice, as a host finds it.
    fn text_in(answer: &serde_json::Value) -> String {
        match &answer["choices"][0]["message"]["content"] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(parts) => {
                let texts = parts.iter().filter(|part| part["type"] == "text");
                texts.filter_map(|part| part["text"].as_str()).collect()
            }
            _ => String::new(),
        }
    }

    fn whole(text: &str) -> Option<Completion> {
        let value = Value::read(text.as_bytes(), &|| None).unwrap();
        let assembly = Assembly::of_whole(&value, &|| None).unwrap();
        assembly.map(|assembly| assembly.completion())
    }

    fn delta(delta: serde_json::Value) -> serde_json::Value {
        json!({"choices": [{"index": 0, "delta": delta}]})
    }

    #[test]
    fn an_answer_is_read_with_all_that_the_entry_needs() {
        let answer = whole(
            r#"{"id":"gen-1","provider":"P","model":"m","system_fingerprint":"fp","service_tier":"t",
             "choices":[{"finish_reason":"stop","native_finish_reason":"STOP",
             "message":{"role":"assistant","content":"hi","refusal":"no",
             "tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}}],
             "usage":{"prompt_tokens":5,"completion_tokens":7,"cost":0.00014,"is_byok":true,
             "cost_details":{"upstream_inference_cost":0.5},
             "prompt_tokens_details":{"cached_tokens":2,"cache_write_tokens":1},
             "completion_tokens_details":{"reasoning_tokens":3}}}"#,
        );
        let calls = r#"[{"function":{"arguments":"{}","name":"f"},"id":"c","type":"function"}]"#;
        let expected = Completion {
            text: "hi".into(),
            refusal: Some("no".into()),
            tool_calls: Some((1, calls.into())),
            finish_reason: Some("stop".into()),
            native_finish_reason: Some("STOP".into()),
            prompt_tokens: Some(5),
            completion_tokens: Some(7),
            cached_tokens: Some(2),
            cache_write_tokens: Some(1),
            reasoning_tokens: Some(3),
            cost: Some(0.00014),
            upstream_cost: Some(0.5),
            is_byok: Some(true),
            id: Some("gen-1".into()),
            model: Some("m".into()),
            provider: Some("P".into()),
            system_fingerprint: Some("fp".into()),
            service_tier: Some("t".into()),
        };
        assert_eq!(answer, Some(expected));
    }

    #[test]
    fn content_may_be_null_or_parts() {
        let parts = r#"[{"type":"text","text":"a"},{"type":"image_url"},{"type":"thinking",
            "text":"hm"},{"type":"text","text":"b"}]"#;
        for (content, text) in [("null", ""), (parts, "ab"), ("17", "")] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":{content}}}}}]}}"#);
            let answer = whole(&body).unwrap();
            assert_eq!((answer.text.as_str(), answer.prompt_tokens), (text, None));
        }
    }

    #[test]
    fn a_whole_number_is_a_count_however_it_is_written_and_nothing_else_is() {
        for (count, tokens) in [
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("0.5e1", Some(5)),
            ("null", None),
            ("-1", None),
            ("-1.0", None),
            ("1.5", None),
            ("\"7\"", None),
            ("1e300", None),
            ("[]", None),
        ] {
            let usage = format!(r#""usage":{{"prompt_tokens":{count},"completion_tokens":0}}"#);
            let answer = whole(&format!(r#"{{"choices":[{{"message":{{}}}}],{usage}}}"#)).unwrap();
            let found = (answer.prompt_tokens, answer.completion_tokens);
            assert_eq!(found, (tokens, Some(0)), "{count}");
        }
    }

    #[test]
    fn what_is_no_completion_is_none() {
        for text in [
            "null",
            "[]",
            "{}",
            r#"{"choices":[]}"#,
            r#"{"choices":[{"message":null}]}"#,
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn deltas_add_up_to_the_answer() {
        let (answer, _) = streamed(&[
            json!({"id": "gen-1", "object": "chat.completion.chunk", "model": "m", "choices": [
                {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}),
            delta(json!({"role": "assistant", "content": "Hel"})),
            json!({"choices": [{"index": 1, "delta": {"content": "other"}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 3}}),
        ]);
        let expected = json!({
            "id": "gen-1", "object": "chat.completion", "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": "other"}, "finish_reason": null}],
            "usage": {"prompt_tokens": 3}
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn text_hash_and_json_are_of_the_same_text_whatever_the_shape() {
        let message = |text: &str| {
            json!({"choices": [{"index": 0, "delta": {},
            "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
        };
        let thought = json!({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]});
        for (chunks, text) in [
            (
                vec![json!({"choices": [{"index": 0, "delta": {"content": "a"}},
                    {"index": 0, "delta": {"content": "b"}}]})],
                "ab",
            ),
            (vec![delta(json!({"content": "a"})), message("ab")], "ab"),
            (vec![delta(json!({"content": "ab"})), message("ab")], "ab"),
            (vec![delta(json!({"content": "a"})), message("other")], "a"),
            (vec![message("whole")], "whole"),
            (
                vec![
                    delta(json!({"content": [thought.clone()]})),
                    delta(json!({"content": [{"type": "text", "text": "a"}]})),
                    delta(json!({"content": "b"})),
                    delta(json!({"content": [{"type": "image_url"}]})),
                    delta(json!({"content": "c"})),
                ],
                "abc",
            ),
            (
                vec![
                    delta(json!({"content": "a"})),
                    delta(json!({"content": [{"type": "text", "text": "b"}]})),
                ],
                "ab",
            ),
        ] {
            assert_eq!(streamed(&chunks).1.text, text, "{chunks:?}");
        }
        let (answer, _) = streamed(&[
            delta(json!({"content": [thought.clone()]})),
            delta(json!({"content": [{"type": "text", "text": "a", "annotations": [1]}]})),
            delta(json!({"content": "b"})),
        ]);
        let expected = json!([thought, {"type": "text", "text": "a", "annotations": [1]},
            {"type": "text", "text": "b"}]);
        assert_eq!(answer["choices"][0]["message"]["content"], expected);
    }

    #[test]
    fn what_says_nothing_never_takes_the_place_of_what_was_known() {
        let (answer, said) = streamed(&[
            json!({"id": "a", "model": "m", "provider": "P", "created": 5,
                "usage": {"prompt_tokens": 3}, "choices": [
                {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}),
            json!({"id": "", "model": "", "provider": null, "created": 0, "usage": {},
                "choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}),
            json!({"created": 9, "usage": null, "choices": [{"delta": {}}]}),
        ]);
        let known = [said.id, said.model, said.provider, said.finish_reason];
        assert_eq!(known.map(Option::unwrap), ["a", "m", "P", "stop"]);
        assert_eq!(
            (said.prompt_tokens, &answer["created"]),
            (Some(3), &json!(5))
        );
    }

    #[test]
    fn duplicate_keys_leave_one_text() {
        let text = r#"{"choices":[{"index":0,"delta":{"content":"a"},"delta":{"content":"b","content":"c"}}]}"#;
        let value = Value::read(text.as_bytes(), &|| None).unwrap();
        let mut assembly = Assembly::of_chunks();
        assembly.add(&value, &|| None).unwrap();
        assert_eq!(assembly.heard(), "c");
        let json: serde_json::Value = serde_json::from_slice(&assembly.json()).unwrap();
        assert_eq!(text_in(&json), "c");
    }

    #[test]
    fn what_is_no_chunk_adds_nothing() {
        let odd = [
            json!(null),
            json!(7),
            json!([]),
            json!({"choices": 1}),
            json!({"choices": [1]}),
        ];
        let (answer, said) = streamed(&odd);
        assert_eq!(
            (&answer["choices"], said),
            (&json!([]), Completion::default())
        );
        let (answer, _) = streamed(&[
            json!({"choices": [{"index": 0, "delta": null}]}),
            json!({"choices": [{"delta": {"content": ["x"]}}]}),
        ]);
        assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
    }

    /// Chunks, each with that many of something.
    fn chunks_of(many: usize) -> Vec<(&'static str, String)> {
        let list = |item: &dyn Fn(usize) -> String| -> String {
            let items: Vec<String> = (0..many).map(item).collect();
            items.join(",")
        };
        let delta = |key: &str, items: String| {
            format!(r#"{{"choices":[{{"index":0,"delta":{{"{key}":[{items}]}}}}]}}"#)
        };
        let call = |at: usize| {
            format!(r#"{{"index":{at},"id":"{at}","function":{{"name":"f","arguments":"{{"}}}}"#)
        };
        let reasoning = |at: usize| format!(r#"{{"index":{at},"text":"x"}}"#);
        let choice = |_| r#"{"index":0,"delta":{"content":"x"}}"#.to_owned();
        let same_key = list(&|_| r#""a":"x""#.into());
        let keys = list(&|at| format!(r#""{at}":"x""#));
        vec![
            ("pieces of a call", delta("tool_calls", list(&|_| call(0)))),
            ("calls", delta("tool_calls", list(&call))),
            ("choices", format!(r#"{{"choices":[{}]}}"#, list(&choice))),
            (
                "parts",
                delta("content", list(&|_| r#"{"type":"text","text":"x"}"#.into())),
            ),
            (
                "other parts",
                delta("content", list(&|at| format!(r#"{{"type":"x","n":{at}}}"#))),
            ),
            (
                "pieces of reasoning",
                delta("reasoning_details", list(&|_| reasoning(0))),
            ),
            ("reasoning", delta("reasoning_details", list(&reasoning))),
            ("one key", format!("{{{same_key}}}")),
            ("one key of a delta", delta("x", format!("{{{same_key}}}"))),
            ("keys", format!("{{{keys}}}")),
            ("keys of a delta", delta("x", format!("{{{keys}}}"))),
        ]
    }

    #[test]
    fn the_end_of_a_call_is_looked_for_within_an_event() {
        const MANY: usize = 30_000;
        for (what, chunk) in chunks_of(MANY) {
            let looks = Cell::new(0);
            let watch = || {
                looks.set(looks.get() + 1);
                None
            };
            let value = Value::read(chunk.as_bytes(), &watch).unwrap();
            assert!(looks.take() >= chunk.len() / 70_000, "{what}");
            Assembly::of_chunks().add(&value, &watch).unwrap();
            assert!(looks.get() >= MANY / 5_000, "{what}: {looks:?}");
            let ended = Assembly::of_chunks().add(&value, &|| Some(Cut::Deadline));
            assert_eq!(ended, Err(Unread::Cut(Cut::Deadline)), "{what}");
        }
    }

    /// One chunk of 16,000 takes about as much work as 16 of 1,000, and not 16 times as much.
    #[test]
    fn an_event_takes_time_in_proportion_to_what_it_holds() {
        let time = |chunk: &str, times: usize| {
            let before = worked();
            for _ in 0..times {
                let mut assembly = Assembly::of_chunks();
                let value = Value::read(chunk.as_bytes(), &|| None).unwrap();
                for _ in 0..2 {
                    assembly.add(&value, &|| None).unwrap();
                }
                drop((assembly.completion(), assembly.json(), assembly));
            }
            worked() - before
        };
        let (few, many) = (chunks_of(1_000), chunks_of(16_000));
        for ((what, few), (_, many)) in few.iter().zip(&many) {
            let is_linear = (0..3).any(|_| time(many, 1) < 5 * time(few, 16));
            assert!(is_linear, "{what}");
        }
    }

    #[test]
    fn the_first_token_is_told_from_the_preamble() {
        for (chunk, brings) in [
            (delta(json!({"role": "assistant", "content": ""})), false),
            (delta(json!({"content": "x"})), true),
            (delta(json!({"reasoning": "hm", "content": null})), true),
            (delta(json!({"tool_calls": [{"index": 0}]})), true),
            (json!({"choices": []}), false),
            (
                json!({"choices": [{"index": 1, "delta": {"content": "x"}}]}),
                false,
            ),
        ] {
            let text = chunk.to_string();
            let value = Value::read(text.as_bytes(), &|| None).unwrap();
            let added = Assembly::of_chunks().add(&value, &|| None);
            assert_eq!(added, Ok(brings), "{chunk}");
        }
    }
}
