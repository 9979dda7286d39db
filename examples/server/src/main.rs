//! A server on loopback that answers like OpenRouter, to try the library without a key.
//!
//!     cargo run -p example-server -- 8080
//!
//! It prints its base URL (port 0, the default, is any free one) and serves until it is killed.
//! It answers with an echo of the last message, word by word if it is asked to stream. The model's
//! name makes it do other things:
//!
//! - `test/429` (any status from 400 to 599): an error of that status, with OpenRouter's metadata.
//! - `test/retry-after`: status 429, asking for seven seconds.
//! - `test/flaky`: status 503 each first time that it is asked something, the echo each second time.
//! - `test/late-error`: status 200, and then an error in the body, as after a failure upstream.
//! - `test/slow`: three seconds of blank lines that keep the connection alive, then the answer.
//! - `test/hang`: nothing, for 30 seconds at most.
//! - `test/stall`: the half of an answer, then nothing, for 30 seconds at most.
//! - `test/drop`: the connection is closed without an answer.
//! - `test/cut`: the connection is closed amid the answer.
//! - `test/unfinished`: a stream that ends without an end.
//! - `test/endless`: a stream of words, for 30 seconds at most.
//! - `test/tools`: a call of the first tool in the request.
//! - `test/refusal`: the model refuses.
//! - `test/length`: the answer was too long, and ends early.
//! - `test/empty`: an answer of no text.
//! - `test/no-usage`: the echo, without the numbers of tokens.
//! - `test/no-choices`: JSON that is no answer.
//! - `test/html`: a page of HTML, with status 200.
//! - `test/request`: the answer is the request's body.
//! - `test/headers`: the answer is the request's headers, as a JSON object.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// The longest that a client is kept waiting.
const LONGEST: Duration = Duration::from_secs(30);
/// Between the words of a stream, and of one without end.
const PACE: Duration = Duration::from_millis(100);
const ENDLESS_PACE: Duration = Duration::from_millis(10);

fn main() -> io::Result<()> {
    let port = match std::env::args().nth(1).map(|text| text.parse::<u16>()) {
        None => 0,
        Some(Ok(port)) => port,
        Some(Err(error)) => return Err(io::Error::other(format!("the port: {error}"))),
    };
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    // A thousand may come at once: those that find the queue full would be heard a second later.
    socket2::SockRef::from(&listener).listen(4096)?;
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

struct Request {
    headers: Map<String, Value>,
    /// As it came, and read.
    text: String,
    body: Value,
}

/// Answers the requests of one connection, one after the other.
fn serve(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let model = request.body["model"].as_str().unwrap_or_default();
        match model {
            "test/drop" => return Ok(()),
            "test/hang" => return wait(stream),
            _ => {}
        }
        let (status, id, more, body) = answer(&request);
        if status == 200 && request.body["stream"] == true && body["choices"].is_array() {
            if !write_stream(stream, &id, &body)? {
                return leave(stream, model);
            }
            continue;
        }
        let (kind, body) = match body {
            Value::String(page) => ("text/html", page),
            body => ("application/json", body.to_string()),
        };
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: {kind}\r\nx-generation-id: {id}\r\n{more}",
            if status == 200 { "OK" } else { "Error" }
        );
        if model == "test/slow" {
            write!(stream, "{head}transfer-encoding: chunked\r\n\r\n")?;
            for _ in 0..6 {
                thread::sleep(Duration::from_millis(500));
                stream.write_all(b"1\r\n\n\r\n")?;
            }
            write!(stream, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len())?;
            continue;
        }
        let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        if ends_early(model) {
            stream.write_all(&whole.as_bytes()[..whole.len() - body.len() / 2])?;
            return leave(stream, model);
        }
        stream.write_all(whole.as_bytes())?;
    }
    Ok(())
}

fn ends_early(model: &str) -> bool {
    matches!(model, "test/cut" | "test/stall")
}

/// Ends a connection amid an answer.
fn leave(stream: &TcpStream, model: &str) -> io::Result<()> {
    if model == "test/stall" {
        wait(stream)
    } else {
        Ok(())
    }
}

/// Until the client goes away, and not for ever.
fn wait(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LONGEST))?;
    stream.read(&mut [0]).map(|_| ())
}

/// The same answer in pieces, a word every 100 ms. Returns false if it was to end early.
fn write_stream(mut stream: &TcpStream, id: &str, answer: &Value) -> io::Result<bool> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-generation-id: {id}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    )?;
    let mut send = |text: &str| write!(stream, "{:x}\r\n{text}\r\n", text.len());
    let chunk = |choices: Value, usage: &Value| {
        let mut chunk = json!({
            "id": id, "provider": "Loopback", "model": answer["model"],
            "object": "chat.completion.chunk", "created": 1_700_000_000, "choices": choices
        });
        if !usage.is_null() {
            chunk["usage"] = usage.clone();
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value| {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        chunk(choice, &Value::Null)
    };
    send(": OPENROUTER PROCESSING\n\n")?;
    let model = answer["model"].as_str().unwrap_or_default();
    let choice = &answer["choices"][0];
    if model == "test/endless" {
        for _ in 0..LONGEST.as_millis() / ENDLESS_PACE.as_millis() {
            send(&delta(json!({"content": "again "})))?;
            thread::sleep(ENDLESS_PACE);
        }
    }
    let deltas = deltas(&choice["message"]);
    let shown = if ends_early(model) || model == "test/unfinished" {
        deltas.len().div_ceil(2)
    } else {
        deltas.len()
    };
    for piece in &deltas[..shown] {
        send(&delta(piece.clone()))?;
        thread::sleep(PACE);
    }
    if model == "test/unfinished" {
        stream.write_all(b"0\r\n\r\n")?;
        return Ok(true);
    }
    if ends_early(model) {
        return Ok(false);
    }
    let last =
        json!([{"index": 0, "delta": {"content": ""}, "finish_reason": choice["finish_reason"]}]);
    send(&chunk(last, &Value::Null))?;
    if !answer["usage"].is_null() {
        send(&chunk(json!([]), &answer["usage"]))?;
    }
    send("data: [DONE]\n\n")?;
    stream.write_all(b"0\r\n\r\n")?;
    Ok(true)
}

/// A message in pieces: words, a refusal, and each tool's call in three.
fn deltas(message: &Value) -> Vec<Value> {
    let text = message["content"].as_str().unwrap_or_default();
    let mut deltas: Vec<Value> = text
        .split_inclusive(' ')
        .map(|word| json!({"role": "assistant", "content": word}))
        .collect();
    if let Some(refusal) = message["refusal"].as_str() {
        deltas.push(json!({"role": "assistant", "refusal": refusal}));
    }
    let calls = message["tool_calls"].as_array();
    for (index, call) in calls.into_iter().flatten().enumerate() {
        let mut begin = call.clone();
        begin["index"] = json!(index);
        begin["function"]["arguments"] = json!("");
        deltas.push(json!({"role": "assistant", "content": null, "tool_calls": [begin]}));
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
        let (first, second) = arguments.split_at(arguments.len() / 2);
        deltas.extend([first, second].map(
            |part| json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]}),
        ));
    }
    deltas
}

/// The next request, or `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut length = 0;
    let mut headers = Map::new();
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
            && number > 0
        {
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            if name == "content-length" {
                length = value.parse().map_err(io::Error::other)?;
            }
            headers.insert(name, value.into());
        }
    }
    let mut text = String::new();
    reader.take(length).read_to_string(&mut text)?;
    let body = serde_json::from_str(&text)?;
    Ok(Some(Request {
        headers,
        text,
        body,
    }))
}

/// The status, the generation's id, further headers, and the body (a text that isn't JSON's is a
/// page).
fn answer(request: &Request) -> (u16, String, &'static str, Value) {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    let id = format!("gen-{:010}", CALLS.fetch_add(1, Ordering::Relaxed));
    let model = request.body["model"].as_str().unwrap_or_default();
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
    let wanted = model.strip_prefix("test/").unwrap_or_default();
    if let Ok(status @ 400..=599) = wanted.parse() {
        return (status, id, "", error(status, "unmapped"));
    }
    match wanted {
        "late-error" => return (200, id, "", error(502, "provider_unavailable")),
        "retry-after" => return (429, id, "retry-after: 7\r\n", error(429, "rate_limited")),
        "flaky" if is_first(&request.text) => {
            let asked = "retry-after-ms: 10\r\n";
            return (503, id, asked, error(503, "provider_overloaded"));
        }
        "no-choices" => return (200, id, "", json!({"object": "chat.completion"})),
        "html" => {
            let page = "<html><body>Sign in to the network</body></html>";
            return (200, id, "", page.into());
        }
        _ => {}
    }

    let said = last_words(&request.body);
    let mut finish_reason = "stop";
    let mut message = json!({
        "role": "assistant", "content": format!("You said: {said}"), "refusal": null,
        "reasoning": null
    });
    match wanted {
        "request" => message["content"] = request.text.as_str().into(),
        "headers" => message["content"] = Value::from(request.headers.clone()).to_string().into(),
        "empty" => message["content"] = "".into(),
        "length" => finish_reason = "length",
        "refusal" => {
            message["content"] = Value::Null;
            message["refusal"] = "I can't help with that.".into();
        }
        "tools" => {
            finish_reason = "tool_calls";
            let name = request.body["tools"][0]["function"]["name"].clone();
            let function = json!({"name": name, "arguments": "{\"city\": \"Paris\"}"});
            message["content"] = Value::Null;
            message["tool_calls"] =
                json!([{"id": "call_1", "type": "function", "function": function}]);
        }
        _ => {}
    }
    let words = |text: &str| text.split_whitespace().count();
    let (prompt_tokens, completion_tokens) = (
        words(said),
        words(message["content"].as_str().unwrap_or_default()),
    );
    let mut body = json!({
        "id": id,
        "provider": "Loopback",
        "model": model,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "choices": [{
            "index": 0,
            "logprobs": null,
            "finish_reason": finish_reason,
            "native_finish_reason": finish_reason,
            "message": message
        }]
    });
    if wanted != "no-usage" {
        body["usage"] = json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "cost": 0.000_01 * (prompt_tokens + completion_tokens) as f64,
            "is_byok": false,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0}
        });
    }
    (200, id, "", body)
}

/// The text of the last message.
fn last_words(body: &Value) -> &str {
    let messages = body["messages"].as_array();
    let last = messages.and_then(|messages| messages.last());
    last.and_then(|message| message["content"].as_str())
        .unwrap_or_default()
}

/// Whether this is new; what isn't is forgotten.
fn is_first(text: &str) -> bool {
    static KNOWN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().expect("nothing panics while it holds this");
    !known.remove(text) && known.insert(text.to_owned())
}
