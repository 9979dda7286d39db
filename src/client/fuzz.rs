//! Random inputs for the event stream, the response, the request's JSON.

use std::time::{Duration, Instant};

use http::HeaderMap;

use super::answer::Assembly;
use super::coding::Decoder;
use super::limits::Limits;
use super::message::{Framing, Head};
use super::request::{ChatRequest, Prepared};
use super::sse::{Flow, Parser};
use super::value::Value;
use super::{fault, named, reception};
use crate::config::Config;
use crate::format::entry::{Details, Entry};
use crate::fuzzing::fuzz;
use crate::hash::Hashing;

const PIECES: [&[u8]; 24] = [
    b"data: ",
    b"\n\n",
    b"\r",
    b"\r\n",
    b"[DONE]",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b":",
    b",",
    b"\\ud83d",
    b"\\ude00",
    b"\xef\xbb\xbf",
    b"\xff",
    b"null",
    b"NaN",
    b"1e999",
    b"-",
    b"\"choices\":",
    b"\"delta\":{\"content\":\"",
    b"\"index\":",
];

#[test]
fn any_stream_reads_the_same_however_it_is_cut_and_adds_up_to_an_answer() {
    let seeds = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n: x\n\ndata: [DONE]\n\n",
        "\u{feff}event: e\r\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\"}]}}]}\r\n\r\n",
        "data: {\"error\":{\"code\":502}}\r\rdata: a\rdata\r\r",
    ];
    fuzz(&seeds, &PIECES, |random, input| {
        let read = |pieces: &[&[u8]]| {
            let (mut events, mut found) = (Parser::default(), Vec::new());
            for piece in pieces {
                events.push(piece, |event| {
                    found.push((event.data.to_vec(), event.is_error));
                    Flow::More
                });
            }
            (found, events.rest())
        };
        let whole = read(&[input]);
        let (head, tail) = input.split_at(random.below(input.len() + 1));
        assert_eq!(read(&[head, tail]), whole);

        let mut assembly = Assembly::of_chunks();
        let mut heard = String::new();
        for (data, is_error) in &whole.0 {
            if let Ok(chunk) = Value::read(data, &|| None) {
                fault::error_inside(&chunk, *is_error);
                let before = assembly.heard().len();
                assembly.add(&chunk, &|| None).expect("it is short");
                heard.push_str(&assembly.heard()[before..]);
            }
        }
        assert_eq!(assembly.heard(), heard, "what was heard is what there is");
        let answer: serde_json::Value =
            serde_json::from_slice(&assembly.json()).expect("an answer is JSON");
        assert!(answer["choices"].is_array());
        let message = &answer["choices"][0]["message"];
        let text = match &message["content"] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(parts) => {
                let is_text = |part: &&serde_json::Value| {
                    part["type"]
                        .as_str()
                        .is_none_or(|kind| kind.ends_with("text"))
                };
                let texts = parts.iter().filter(is_text);
                texts.filter_map(|part| part["text"].as_str()).collect()
            }
            _ => String::new(),
        };
        let completion = assembly.completion();
        assert_eq!(completion.text, text, "one truth: {answer}");
        let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
        assert_eq!(completion.tool_calls.map_or(0, |(count, _)| count), calls);
    });
}

#[test]
fn any_bytes_are_a_response_or_none_however_they_are_cut() {
    let seeds = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n z\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.0 500 No\r\ncontent-encoding: gzip\r\nconnection: keep-alive\r\n\r\n\x1f\u{8b}",
    ];
    fuzz(&seeds, &PIECES, |random, input| {
        let Ok(Some(head)) = Head::read(input) else {
            return;
        };
        let body = &input[head.length..];
        let read = |pieces: &[&[u8]]| {
            let (mut framing, mut found) = (head.framing, Vec::new());
            for piece in pieces {
                let mut left = *piece;
                while !left.is_empty() && !framing.has_ended() {
                    let Ok((taken, data)) = framing.take(left) else {
                        return (found, None::<Framing>);
                    };
                    found.extend_from_slice(data);
                    left = &left[taken..];
                }
            }
            (found, Some(framing))
        };
        let whole = read(&[body]);
        let (first, second) = body.split_at(random.below(body.len() + 1));
        assert_eq!(read(&[first, second]), whole);
        let mut decoder = Decoder::of(&head.headers);
        let _ = decoder.push(&whole.0, &mut |_| true);
    });
}

#[test]
fn any_response_is_an_answer_or_a_fault_and_its_entry_is_one_line() {
    let seeds = [
        r#"{"id":"gen-1","provider":"P","model":"m","choices":[{"finish_reason":"stop","message":{"content":"hi"}}],"usage":{"prompt_tokens":5,"completion_tokens":7,"cost":0.00014}}"#,
        r#"{"error":{"code":429,"message":"m","metadata":{"error_type":"rate_limit_exceeded"}}}"#,
        r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"}]},"error":{"code":"x"}}]}"#,
    ];
    fuzz(&seeds, &PIECES, |random, input| {
        let mut headers = HeaderMap::new();
        if random.below(2) == 0 {
            headers.insert("content-type", "application/json".parse().unwrap());
        }
        let status = [200, 200, 204, 302, 400, 429, 500][random.below(7)];
        let soon = Instant::now() + Duration::from_secs(60);
        let limits = Limits::new(soon, Duration::ZERO, Duration::ZERO, [-1, -1]);
        let (answer, fault) = reception::read(status, &headers, input, &limits);
        assert!(fault.is_some() || (200..300).contains(&status));
        let hashing = Hashing::default();
        let entry = Entry {
            event_type: "chat_completion",
            user_id: "u",
            model: "m",
            prompt_hash: Hashing::default().of(b""),
            response_hash: Hashing::default().of(answer.text.as_bytes()),
            prompt_tokens: answer.prompt_tokens,
            completion_tokens: answer.completion_tokens,
            latency_ms: Some(0.0),
            error_type: fault.as_ref().map(|fault| fault.class),
            metadata: None,
            details: Some(Details {
                generation_id: named(answer.id.as_deref(), &hashing),
                served_model: named(answer.model.as_deref(), &hashing),
                provider: named(answer.provider.as_deref(), &hashing),
                finish_reason: named(answer.finish_reason.as_deref(), &hashing),
                cost: answer.cost,
                ..Details::default()
            }),
        };
        let line = entry.line(uuid::Uuid::nil()).into_text();
        assert!(!line.contains(&b'\n'));
        serde_json::from_slice::<serde_json::Value>(&line).expect("an entry is JSON");
    });
}

#[test]
fn any_params_and_metadata_make_a_valid_body_or_are_refused() {
    let seeds = [
        r#"{"temperature":0.5,"stop":["a","b"],"tools":[{"type":"function"}]}"#,
        r#"{"messages":[{"role":"user","content":"h\u00e9"}],"n":1e2}"#,
        r#" { "a" : { "b" : [ 1 , 2 , { } ] } } "#,
    ];
    let config = Config::parse(None).unwrap();
    fuzz(&seeds, &PIECES, |random, input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        let request = ChatRequest {
            prompt: (random.below(2) == 0).then_some("hello"),
            metadata: Some(text),
            params: Some(text),
            ..ChatRequest::default()
        };
        let stream = random.below(2) == 0;
        let Ok(prepared) = Prepared::new(&request, stream, &config) else {
            return;
        };
        let read = |text| Value::read(text, &|| None);
        let body = read(&prepared.body).expect("the body is JSON");
        let model = body.get("model").and_then(Value::as_str);
        assert_eq!(model, Some("openai/gpt-4-turbo"));
        assert!(matches!(body.get("messages"), Some(Value::List(_))));
        let metadata = prepared.metadata.expect("it was given");
        assert!(!metadata.contains(['\n', '\r', '\u{2028}']));
        let given = read(input).expect("it was accepted");
        assert_eq!(read(metadata.as_bytes()).ok(), Some(given));
    });
}
