//! Random inputs for the event stream, the response, the request's JSON.

use serde_json::Value;
use ureq::http::HeaderMap;

use super::request::{ChatRequest, Prepared};
use super::stream::{Assembly, SseParser};
use super::transport::Flow;
use super::{lenient, response};
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
            let (mut events, mut found) = (SseParser::default(), Vec::new());
            for piece in pieces {
                events.push(piece, |data| {
                    found.push(data.to_vec());
                    Flow::More
                });
            }
            (found, events.rest())
        };
        let whole = read(&[input]);
        let (head, tail) = input.split_at(random.below(input.len() + 1));
        assert_eq!(read(&[head, tail]), whole);

        let mut assembly = Assembly::default();
        for data in &whole.0 {
            if let Ok(chunk) = lenient::parse(data, &mut Vec::new()) {
                response::error_inside(&chunk);
                assembly.add(chunk);
            }
        }
        let answer = assembly.finish();
        assert!(answer["choices"].is_array());
        response::completion(&answer);
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
        let (answer, fault) = response::read(status, &headers, input);
        assert!(fault.is_some() || (200..300).contains(&status));
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
                generation_id: answer.id.as_deref(),
                served_model: answer.model.as_deref(),
                provider: answer.provider.as_deref(),
                finish_reason: answer.finish_reason.as_deref(),
                cost: answer.cost.as_ref(),
                ..Details::default()
            }),
        };
        let line = entry.line(uuid::Uuid::nil()).into_text();
        assert!(!line.contains(&b'\n'));
        serde_json::from_slice::<Value>(&line).expect("an entry is JSON");
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
        // A number that no double holds is passed through; only serde_json minds.
        let read = |text| lenient::parse::<Value>(text, &mut Vec::new());
        let body = read(&prepared.body).expect("the body is JSON");
        assert_eq!(body["model"], "openai/gpt-4-turbo");
        assert!(body["messages"].is_array());
        let metadata = prepared.metadata.expect("it was given");
        assert!(!metadata.contains(['\n', '\r', '\u{2028}']));
        let given = read(input).expect("it was accepted");
        assert_eq!(read(metadata.as_bytes()).ok(), Some(given));
    });
}
