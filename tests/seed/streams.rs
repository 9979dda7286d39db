//! Streams that the library and the openai client both put together.

use std::ffi::{c_char, c_void};
use std::ptr;

use serde_json::{Value, json};

use audit_logger::ffi::*;

use crate::support::calls::{Logger, chat_request, text};
use crate::support::server::response;

/// A stream, and why the two differ in it if they do.
pub struct Case {
    pub name: &'static str,
    chunks: Vec<Value>,
    pub differs: Option<&'static str>,
}

impl Case {
    pub fn response(&self) -> Vec<u8> {
        let events = self
            .chunks
            .iter()
            .map(|chunk| format!(": still here\n\ndata: {chunk}\n\n"));
        let body = events.collect::<String>() + "data: [DONE]\n\n";
        response(
            200,
            &[("content-type", "text/event-stream")],
            body.as_bytes(),
        )
    }
}

fn case(name: &'static str, chunks: Vec<Value>) -> Case {
    Case {
        name,
        chunks,
        differs: None,
    }
}

fn chunk(choices: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m",
        "choices": choices})
}

fn delta(delta: Value) -> Value {
    chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]))
}

fn end(reason: &str) -> Value {
    chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]))
}

fn call(piece: Value) -> Value {
    delta(json!({"tool_calls": [piece]}))
}

/// All of them.
pub fn all() -> Vec<Case> {
    let role = || delta(json!({"role": "assistant", "content": ""}));
    let mut usage = chunk(json!([]));
    usage["usage"] = json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12});
    let begin = |index: u64, id: &str, name: &str| {
        call(json!({"index": index, "id": id, "type": "function",
            "function": {"name": name, "arguments": ""}}))
    };
    let more = |index: Value, arguments: &str| {
        call(json!({"index": index, "function": {"arguments": arguments}}))
    };
    let mut azure = end("stop");
    azure["choices"] = json!([{"index": 0, "delta": {}, "finish_reason": null}]);
    let cases = vec![
        case(
            "text with usage",
            vec![
                role(),
                delta(json!({"content": "H\u{e9}"})),
                delta(json!({"content": "llo 😀"})),
                end("stop"),
                usage.clone(),
            ],
        ),
        case("no text", vec![role(), end("stop")]),
        case(
            "a refusal",
            vec![
                delta(json!({"role": "assistant", "refusal": "I "})),
                delta(json!({"refusal": "can't"})),
                end("stop"),
            ],
        ),
        case(
            "two choices",
            vec![
                chunk(
                    json!([{"index": 0, "delta": {"role": "assistant", "content": "a"}},
                    {"index": 1, "delta": {"role": "assistant", "content": "b"}}]),
                ),
                chunk(json!([{"index": 1, "delta": {"content": "c"}, "finish_reason": "stop"}])),
                end("stop"),
            ],
        ),
        case(
            "a call of a tool",
            vec![
                begin(0, "a", "f"),
                more(json!(0), "{\"x\":"),
                more(json!(0), "1}"),
                end("tool_calls"),
                usage,
            ],
        ),
        case(
            "two calls in turn",
            vec![
                begin(0, "a", "f"),
                more(json!(0), "{}"),
                begin(1, "b", "g"),
                more(json!(1), "[]"),
                end("tool_calls"),
            ],
        ),
        case(
            "a chunk that says nothing",
            vec![delta(json!({"content": "a"})), azure, end("stop")],
        ),
    ];
    let differ = vec![
        (
            "an answer that was cut by its length is one; this helper of the client raises",
            case(
                "cut by its length",
                vec![delta(json!({"content": "a"})), end("length")],
            ),
        ),
        (
            "without an index a piece goes on the last call",
            case(
                "a null index",
                vec![
                    begin(0, "a", "f"),
                    more(Value::Null, "{}"),
                    end("tool_calls"),
                ],
            ),
        ),
        (
            "a role that is repeated isn't joined to itself, here in a call's type",
            case(
                "a repeated name",
                vec![
                    begin(0, "a", "f"),
                    call(json!({"index": 0, "type": "function",
                    "function": {"name": "f", "arguments": "{}"}})),
                    end("tool_calls"),
                ],
            ),
        ),
        (
            "a new id on an index that is taken begins a new call",
            case(
                "calls in parallel on one index",
                vec![
                    call(json!({"index": 0, "id": "a", "type": "function",
                        "function": {"name": "f", "arguments": "{}"}})),
                    call(json!({"index": 0, "id": "b", "type": "function",
                        "function": {"name": "g", "arguments": "{}"}})),
                    end("tool_calls"),
                ],
            ),
        ),
        (
            "a stream without a finish_reason isn't whole",
            case("no finish_reason", vec![delta(json!({"content": "a"}))]),
        ),
    ];
    let differ = differ.into_iter().map(|(why, case)| Case {
        differs: Some(why),
        ..case
    });
    cases.into_iter().chain(differ).collect()
}

unsafe extern "C-unwind" fn on_chunk(json: *const c_char, len: usize, heard: *mut c_void) -> i32 {
    let heard = unsafe { &mut *heard.cast::<Vec<Value>>() };
    let bytes = unsafe { std::slice::from_raw_parts(json.cast::<u8>(), len) };
    heard.push(serde_json::from_slice(bytes).expect("a chunk is JSON"));
    AUDIT_CONTINUE
}

/// What the library heard and made of it, as the driver tells it of the client.
pub fn heard(logger: &Logger) -> Value {
    let mut chunks: Vec<Value> = Vec::new();
    let answer = logger.chat(&AuditChatRequest {
        user_id: text("user-1"),
        prompt: text("hello"),
        on_chunk: Some(on_chunk),
        context: ptr::from_mut(&mut chunks).cast(),
        ..chat_request()
    });
    if answer.status != AUDIT_OK {
        return json!({"chunks": chunks, "raised": answer.error_type()});
    }
    let json = answer.text(AUDIT_REPLY_JSON).expect("a success has one");
    let json: Value = serde_json::from_str(json).expect("it is JSON");
    let of = |choice: &Value| {
        let message = &choice["message"];
        let calls = message["tool_calls"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let calls: Vec<Value> = calls
            .iter()
            .map(|call| {
                json!([
                    call["id"],
                    call["function"]["name"],
                    call["function"]["arguments"]
                ])
            })
            .collect();
        json!({"index": choice["index"], "content": message["content"], "refusal": message["refusal"],
            "calls": calls, "finish_reason": choice["finish_reason"]})
    };
    let choices: Vec<Value> = json["choices"]
        .as_array()
        .into_iter()
        .flatten()
        .map(of)
        .collect();
    let usage = json
        .get("usage")
        .map(|usage| json!([usage["prompt_tokens"], usage["completion_tokens"]]));
    let said =
        json!({"id": json["id"], "model": json["model"], "choices": choices, "usage": usage});
    json!({"chunks": chunks, "said": said})
}
