//! A server on loopback that answers like OpenRouter, to try the library without a key.
//!
//!     cargo run --release --example server -- 8080
//!
//! It prints its base URL (port 0, the default, is any free one) and serves until it is killed.
//! It answers with an echo of the last message, word by word if it is asked to stream. The model's
//! name makes it do other things:
//!
//! - `test/429` (any status from 400 to 599): an error of that status, with OpenRouter's metadata.
//! - `test/late-error`: status 200, and then an error in the body, as after a failure upstream.
//! - `test/slow`: three seconds of blank lines that keep the connection alive, then the answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let port = match std::env::args().nth(1).map(|text| text.parse::<u16>()) {
        None => 0,
        Some(Ok(port)) => port,
        Some(Err(error)) => return Err(io::Error::other(format!("the port: {error}"))),
    };
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("http://{}/api/v1", listener.local_addr()?);
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            // A client that goes away ends its connection, not the server.
            let _ = serve(&stream);
        });
    }
    Ok(())
}

/// Answers the requests of one connection, one after the other.
fn serve(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let (status, id, body) = answer(&request);
        let model = request["model"].as_str().unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\nx-generation-id: {id}\r\n",
            if status == 200 { "OK" } else { "Error" }
        );
        if status == 200 && request["stream"] == true {
            write_stream(stream, &id, &body)?;
            continue;
        }
        let body = body.to_string();
        if model == "test/slow" {
            write!(stream, "{head}transfer-encoding: chunked\r\n\r\n")?;
            for _ in 0..6 {
                thread::sleep(Duration::from_millis(500));
                stream.write_all(b"1\r\n\n\r\n")?;
            }
            write!(stream, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len())?;
        } else {
            let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(whole.as_bytes())?;
        }
    }
    Ok(())
}

/// The same answer in pieces, a word every 100 ms.
fn write_stream(mut stream: &TcpStream, id: &str, answer: &Value) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-generation-id: {id}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    )?;
    let mut send = |text: &str| write!(stream, "{:x}\r\n{text}\r\n", text.len());
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({
            "id": id, "provider": "Loopback", "model": answer["model"],
            "object": "chat.completion.chunk", "created": 1_700_000_000,
            "choices": choices, "usage": usage
        });
        format!("data: {chunk}\n\n")
    };
    send(": OPENROUTER PROCESSING\n\n")?;
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default();
    for word in text.split_inclusive(' ') {
        let delta = json!({"role": "assistant", "content": word});
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        send(&chunk(choice, &Value::Null))?;
        thread::sleep(Duration::from_millis(100));
    }
    let last = json!([{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]);
    send(&chunk(last, &Value::Null))?;
    send(&chunk(json!([]), &answer["usage"]))?;
    send("data: [DONE]\n\n")?;
    stream.write_all(b"0\r\n\r\n")
}

/// The body of the next request, or `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Value>> {
    let mut length = 0;
    let mut line = String::new();
    for number in 0.. {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if number > 0 && line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// The status, the generation's id and the body for a request.
fn answer(request: &Value) -> (u16, String, Value) {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    let id = format!("gen-{:010}", CALLS.fetch_add(1, Ordering::Relaxed));
    let model = request["model"].as_str().unwrap_or_default();
    let error = |code: u16, kind: &str| {
        json!({
            "error": {
                "code": code,
                "message": "Provider returned error",
                "metadata": {"error_type": kind, "provider_name": "Loopback", "raw": "try later"}
            },
            "user_id": "org_loopback"
        })
    };
    if model == "test/late-error" {
        return (200, id, error(502, "provider_unavailable"));
    }
    let wanted = model
        .strip_prefix("test/")
        .and_then(|status| status.parse().ok());
    if let Some(status @ 400..=599) = wanted {
        return (status, id, error(status, "unmapped"));
    }

    let messages = request["messages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let said = messages
        .last()
        .and_then(|message| message["content"].as_str())
        .unwrap_or_default();
    let text = format!("You said: {said}");
    let words = |text: &str| text.split_whitespace().count();
    let (prompt_tokens, completion_tokens) = (words(said), words(&text));
    let body = json!({
        "id": id,
        "provider": "Loopback",
        "model": model,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "choices": [{
            "index": 0,
            "logprobs": null,
            "finish_reason": "stop",
            "native_finish_reason": "stop",
            "message": {"role": "assistant", "content": text, "refusal": null, "reasoning": null}
        }],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "cost": 0.000_01 * (prompt_tokens + completion_tokens) as f64,
            "is_byok": false,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0}
        }
    });
    (200, id, body)
}
