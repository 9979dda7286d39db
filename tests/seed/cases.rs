//! The cases: what is asked, what the server does, and where the two sides are meant to differ.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::support::server::{completion, response};

/// A call to be made by both sides.
pub struct Case {
    pub name: String,
    /// What the server does with one request after the other; the last is for all that follow.
    pub steps: Vec<Step>,
    /// Nobody listens.
    pub closed_port: bool,
    /// There is no API key.
    pub keyless: bool,
    pub prompt: String,
    pub user_id: String,
    pub model: Option<&'static str>,
    /// A JSON text.
    pub metadata: Option<String>,
    /// JSON objects of keyword arguments for the seed.
    pub keywords: Vec<String>,
    /// A JSON object for the library.
    pub params: Option<String>,
    pub headers: Map<String, Value>,
    pub timeout_ms: Option<u64>,
    pub max_retries: u32,
    /// More of the library's configuration.
    pub config: Map<String, Value>,
    pub deviations: Vec<Deviation>,
}

/// What the server does with one request.
#[derive(Clone)]
pub enum Step {
    /// Sends these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Cut(Vec<u8>),
    /// Sends these bytes and then nothing.
    Silence(Vec<u8>),
    /// Sends the pieces, a tenth of a second apart.
    Drip(Vec<Vec<u8>>),
    /// Resets the connection.
    Reset,
}

/// A difference between the two sides, and its reason.
pub struct Deviation {
    pub why: &'static str,
    /// What differs, what the seed has, what the library has. Null is also what isn't there.
    pub fields: Vec<(&'static str, Value, Value)>,
}

// The reasons of more than one case.

const UNKNOWN: &str = "The request left and no whole answer came: it may have been processed and \
    billed, so its tokens are unknown, not 0.";
const ERROR_INSIDE: &str = "An error inside HTTP 200 is an error, of the class that its code \
    stands for. The openai client doesn't look for it.";
const NO_MESSAGE: &str = "An answer without choices[0].message has a class that says so. The \
    seed stumbles over what is missing.";
const NOT_JSON: &str = "A body that is no JSON and doesn't claim to be has a class that says so. \
    The openai client passes it on as a text, over which the seed stumbles.";
const NO_TEXT: &str = "An answer without text (a tool call, a refusal) is an answer, and its \
    text is empty. The seed stumbles over it and logs an error without tokens.";
const NO_USAGE: &str = "An answer without usage is an answer, and its tokens are unknown. The \
    seed stumbles over it and logs an error.";
const ODD_COUNT: &str = "Token counts are integers from 0 to 2^63 - 1; anything else is unknown. \
    The seed logs whatever came.";
const REDIRECT: &str = "Redirects aren't followed: they could carry the key and the prompt to \
    another host, and a 302 asks for something else than was asked.";
const DEADLINE: &str = "The timeout is that of the whole call. The openai client's is that of \
    one read, and starts anew with every byte and every attempt.";
const REFUSAL_CUT: &str = "A refusal is clear from its status, however much of its body came.";
const GZIP_CUT: &str = "A compressed body that breaks off isn't whole. The openai client takes \
    what came for all.";
const ENTRY_SIZE: &str = "An entry must fit max_entry_bytes; that is checked before sending.";
const ANY_PARAMETER: &str = "Parameters go to the provider as they are. The openai client knows \
    its keyword arguments by name.";
const UNSENDABLE: &str = "A header that can't be sent is the host's mistake. The seed logs a call \
    that was never made.";
const OBJECT: &str = "Metadata is a JSON object, as the seed's type hint says but nothing checks.";

const SURROGATE: &str = "Half a surrogate pair is no text that UTF-8 holds. It's read as U+FFFD, \
    and the answer around it, which is paid for, is logged.";
const NOT_GZIP: &str = "A body that is labelled gzip and isn't is read as it is. It is an answer, and \
    paid for.";
const REPLACED: &str = "A kept connection that turns out to be closed is replaced, which is no \
    attempt of its own.";

impl Deviation {
    fn of(why: &'static str, fields: &[(&'static str, Value, Value)]) -> Deviation {
        Deviation {
            why,
            fields: fields.to_vec(),
        }
    }

    /// Both log an error, of different classes.
    fn class(why: &'static str, seed: &str, library: &str) -> Deviation {
        Deviation::of(why, &[("error_type", seed.into(), library.into())])
    }

    /// The server saw different numbers of requests.
    fn requests(why: &'static str, seed: u32, library: u32) -> Deviation {
        Deviation::of(why, &[("requests", seed.into(), library.into())])
    }

    fn unknown() -> Deviation {
        Deviation::tokens(UNKNOWN, [json!(0), json!(0)], [Value::Null, Value::Null])
    }

    /// The counts that differ; prompt first, then completion.
    fn tokens(why: &'static str, seed: [Value; 2], library: [Value; 2]) -> Deviation {
        let names = ["prompt_tokens", "completion_tokens"];
        let fields = names.into_iter().zip(seed.into_iter().zip(library));
        let fields = fields.map(|(name, (seed, library))| (name, seed, library));
        Deviation {
            why,
            fields: fields
                .filter(|(_, seed, library)| seed != library)
                .collect(),
        }
    }

    /// The seed logs an error where the library logs this answer with these tokens.
    fn seed_fails(why: &'static str, class: &str, text: &str, tokens: [Value; 2]) -> Deviation {
        let mut deviation = Deviation::tokens(why, [json!(0), json!(0)], tokens);
        deviation.fields.extend([
            ("status", "error".into(), "success".into()),
            ("error_type", class.into(), Value::Null),
            ("answer", Value::Null, text.into()),
        ]);
        if !text.is_empty() {
            let hashes = ("response_hash", hash("").into(), hash(text).into());
            deviation.fields.push(hashes);
        }
        deviation
    }

    /// The seed logs this answer, with 5 and 7 tokens, where the library logs an error.
    fn library_fails(why: &'static str, class: &str, text: &str, tokens: Value) -> Deviation {
        let tokens = [tokens.clone(), tokens];
        let mut deviation = Deviation::tokens(why, [json!(5), json!(7)], tokens);
        deviation.fields.extend([
            ("status", "success".into(), "error".into()),
            ("error_type", Value::Null, class.into()),
            ("answer", text.into(), Value::Null),
        ]);
        if !text.is_empty() {
            let hashes = ("response_hash", hash(text).into(), hash("").into());
            deviation.fields.push(hashes);
        }
        deviation
    }

    /// The library refuses the call before it begins. The seed makes it, and gets an answer...
    fn refused(why: &'static str) -> Deviation {
        let mut deviation = Deviation::of(why, &[("requests", 1.into(), 0.into())]);
        deviation.fields.push(("answer", "hi".into(), Value::Null));
        deviation.fields.push(("entries", 1.into(), 0.into()));
        deviation
    }

    /// ... or an error, after so many requests.
    fn refused_and_failing(why: &'static str, requests: u32) -> Deviation {
        let mut deviation = Deviation::of(why, &[("entries", 1.into(), 0.into())]);
        if requests > 0 {
            let sent = ("requests", requests.into(), 0.into());
            deviation.fields.push(sent);
        }
        deviation
    }
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn case(name: impl Into<String>, step: Step) -> Case {
    Case {
        name: name.into(),
        steps: vec![step],
        closed_port: false,
        keyless: false,
        prompt: "hello".into(),
        user_id: "user-1".into(),
        model: None,
        metadata: None,
        keywords: Vec::new(),
        params: None,
        headers: Map::new(),
        timeout_ms: None,
        max_retries: 0,
        config: Map::new(),
        deviations: Vec::new(),
    }
}

impl Case {
    fn but(mut self, deviation: Deviation) -> Case {
        self.deviations.push(deviation);
        self
    }

    fn then(mut self, step: Step) -> Case {
        self.steps.push(step);
        self
    }

    fn retries(mut self, max_retries: u32) -> Case {
        self.max_retries = max_retries;
        self
    }

    fn timeout(mut self, milliseconds: u64) -> Case {
        self.timeout_ms = Some(milliseconds);
        self
    }

    fn prompt(mut self, prompt: impl Into<String>) -> Case {
        self.prompt = prompt.into();
        self
    }

    fn user(mut self, user_id: &str) -> Case {
        self.user_id = user_id.into();
        self
    }

    fn model(mut self, model: &'static str) -> Case {
        self.model = Some(model);
        self
    }

    fn metadata(mut self, metadata: impl Into<String>) -> Case {
        self.metadata = Some(metadata.into());
        self
    }

    /// Parameters that are the seed's keyword arguments.
    fn params(mut self, params: &str) -> Case {
        self.keywords.push(params.into());
        self.params = Some(params.into());
        self
    }

    /// Parameters that the openai client doesn't know by name.
    fn extra_body(mut self, params: &str) -> Case {
        self.keywords.push(format!("{{\"extra_body\":{params}}}"));
        self.params = Some(params.into());
        self
    }

    fn headers(mut self, headers: &[(&str, &str)]) -> Case {
        let headers = headers.iter();
        self.headers = headers
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        self
    }
}

/// An ordinary answer: "hi", 5 tokens, 7 tokens.
fn hi() -> Step {
    ok(completion("hi"))
}

/// HTTP 200 with JSON.
fn ok(body: impl AsRef<[u8]>) -> Step {
    Step::Answer(response(200, &[], body.as_ref()))
}

fn ok_as(media: &str, body: impl AsRef<[u8]>) -> Step {
    Step::Answer(response(200, &[("content-type", media)], body.as_ref()))
}

/// An answer that differs from an ordinary one.
fn altered(alter: impl FnOnce(&mut Value)) -> Step {
    let mut value = serde_json::from_str(&completion("hi")).expect("it is JSON");
    alter(&mut value);
    ok(value.to_string())
}

/// An ordinary answer with one more member, whatever its JSON.
fn hi_and(member: &str) -> Step {
    let answer = completion("hi");
    ok(format!("{},\"x\":{member}}}", &answer[..answer.len() - 1]))
}

fn error(status: u16, headers: &[(&str, &str)]) -> Step {
    let body = json!({"error": {"code": status, "message": "no"}}).to_string();
    Step::Answer(response(status, headers, body.as_bytes()))
}

/// For errors that are to be tried again without delay.
const SOON: (&str, &str) = ("retry-after-ms", "1");

/// HTTP 200 with these headers and then these bytes, whatever they are.
fn raw(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

pub fn all() -> Vec<Case> {
    [
        statuses(),
        redirects(),
        retries(),
        bodies(),
        framing(),
        answers(),
        usage(),
        no_answers(),
        errors_inside(),
        connections(),
        texts(),
        metadata(),
        params(),
        refusals(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn statuses() -> Vec<Case> {
    let statuses = [
        300, 302, 304, 307, 400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 424, 429, 500,
        502, 503, 524, 529, 999,
    ];
    let plain = statuses
        .into_iter()
        .map(|status| case(format!("status {status}"), error(status, &[])));
    let with = |status, body: &[u8]| Step::Answer(response(status, &[], body));
    let moderation = br#"{"error":{"code":403,"message":"flagged",
        "metadata":{"error_type":"content_policy_violation","flagged_input":"hello"}}}"#;
    let proxy = response(502, &[("content-type", "text/html")], b"<html>no</html>");
    let early_hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec();
    let answer = response(200, &[], completion("hi").as_bytes());
    let no_content = b"HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n";
    plain
        .chain([
            case("403 of a moderation", with(403, moderation)),
            case("400 with an empty body", with(400, b"")),
            case("404 with a JSON text", with(404, b"\"no\"")),
            case(
                "422 with a list",
                with(422, br#"{"detail":[{"msg":"no"}]}"#),
            ),
            case("500 that isn't UTF-8", with(500, b"\xff\xfe")),
            case("502 of a proxy, in HTML", Step::Answer(proxy)),
            case("201", with(201, completion("hi").as_bytes())),
            case("204", Step::Answer(no_content.to_vec())),
            case(
                "103 before 200",
                Step::Answer([early_hints, answer].concat()),
            ),
        ])
        .collect()
}

fn redirects() -> Vec<Case> {
    let elsewhere = |status| error(status, &[("location", "elsewhere")]);
    let to_an_answer = |status| {
        case(format!("{status} to an answer"), elsewhere(status))
            .then(hi())
            .but(Deviation::library_fails(
                REDIRECT,
                "APIStatusError",
                "hi",
                0.into(),
            ))
            .but(Deviation::requests(REDIRECT, 2, 1))
    };
    let endless = error(307, &[("location", "completions")]);
    vec![
        to_an_answer(302),
        to_an_answer(303),
        to_an_answer(307),
        case("308 to an error", elsewhere(308))
            .then(error(404, &[]))
            .but(Deviation::class(
                REDIRECT,
                "NotFoundError",
                "APIStatusError",
            ))
            .but(Deviation::requests(REDIRECT, 2, 1)),
        case("307 without end", endless)
            .but(Deviation::class(
                REDIRECT,
                "APIConnectionError",
                "APIStatusError",
            ))
            .but(Deviation::requests(REDIRECT, 21, 1)),
    ]
}

fn retries() -> Vec<Case> {
    let by_status = [304, 400, 402, 408, 409, 425, 429, 500, 529]
        .into_iter()
        .map(|status| {
            let name = format!("status {status}, again and again");
            case(name, error(status, &[SOON])).retries(2)
        });
    // Headers with which the server says whether to try again, and when.
    let asked = |name: &str, status, headers: &[(&str, &str)], retries| {
        case(name, error(status, headers)).retries(retries)
    };
    let after = |text: &str| {
        let headers = [("retry-after", text)];
        asked(&format!("Retry-After: {text}"), 503, &headers, 1)
    };
    let should = |text| ("x-should-retry", text);
    let imf = "Thu, 01 Jan 2060 00:00:07 GMT";
    let rfc850 = "Thursday, 01-Jan-60 00:00:07 GMT";
    let asctime = "Thu Jan  1 00:00:07 2060";
    by_status
        .chain([
            case("429, then an answer", error(429, &[SOON]))
                .then(hi())
                .retries(2),
            case("503, 429, then 401", error(503, &[SOON]))
                .then(error(429, &[SOON]))
                .then(error(401, &[]))
                .retries(5),
            asked("to be tried again", 400, &[SOON, should("true")], 2),
            asked("not to be tried again", 503, &[SOON, should("false")], 2),
            asked("neither true nor false", 400, &[SOON, should("TRUE")], 2),
            asked("a 302 to be tried again", 302, &[SOON, should("true")], 1),
            asked(
                "to be tried again, but late",
                503,
                &[("retry-after", "121"), should("true")],
                1,
            ),
            after("0.01"),
            after("1e-2"),
            after("0").then(hi()),
            after("soon").then(hi()),
            after("121"),
            after("1e999"),
            after("inf"),
            after(imf),
            after(rfc850),
            after(asctime),
            asked(
                "retry-after-ms goes first",
                503,
                &[SOON, ("retry-after", "500")],
                2,
            ),
            asked(
                "retry-after-ms that is no number",
                503,
                &[("retry-after-ms", "x"), ("retry-after", "0.01")],
                1,
            ),
            asked(
                "retry-after-ms beyond the limit",
                503,
                &[("retry-after-ms", "120001")],
                1,
            ),
            case("JSON that breaks off isn't tried again", ok("{")).retries(2),
            case("a reset, then an answer", Step::Reset)
                .then(hi())
                .retries(1),
            case("429, then cut", error(429, &[SOON]))
                .then(Step::Cut(Vec::new()))
                .retries(1)
                .but(Deviation::requests(REPLACED, 2, 3))
                .but(Deviation::unknown()),
            case("silence, again and again", Step::Silence(Vec::new()))
                .timeout(200)
                .retries(1)
                .but(Deviation::unknown())
                .but(Deviation::requests(DEADLINE, 2, 1)),
            asked(
                "a wait beyond the timeout",
                503,
                &[("retry-after-ms", "400")],
                1,
            )
            .timeout(300)
            .but(Deviation::requests(DEADLINE, 2, 1)),
        ])
        .collect()
}

fn bodies() -> Vec<Case> {
    let answer = completion("hi");
    let utf16: Vec<u8> = answer.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (first, last) = answer.as_bytes().split_at(20);
    let not_utf8 = [first, b"\xff", last].concat();
    let stream = format!("data: {answer}\n\ndata: [DONE]\n\n");
    let no_media = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    let no_json = |name: &str, step| {
        let class = "APIResponseValidationError";
        case(name, step).but(Deviation::class(NOT_JSON, "AttributeError", class))
    };
    let fails = |why| Deviation::library_fails(why, "JSONDecodeError", "hi", 0.into());
    vec![
        case("an empty body", ok("")),
        case("a body of white space", ok(" \r\n\t ")),
        case("blank lines first", ok(format!("\n\n  \r\n\n{answer}"))),
        case("blank lines last", ok(format!("{answer}\n\n  \n"))),
        case("a byte order mark", ok(format!("\u{feff}{answer}"))),
        case(
            "a byte order mark after a blank line",
            ok(format!("\n\u{feff}{answer}")),
        ),
        case("truncated JSON", ok(first)),
        case("two answers in one body", ok(answer.repeat(2))),
        case("a body that isn't UTF-8", ok(b"\xff\xfe\xfd")),
        case("an answer that isn't UTF-8", ok(not_utf8)),
        case(
            "UTF-8 that claims to be Latin-1",
            ok_as(
                "application/json; charset=iso-8859-1",
                completion("h\u{e9}"),
            ),
        ),
        case("UTF-16", ok(utf16)).but(fails(
            "JSON between systems is UTF-8 (RFC 8259, section 8.1).",
        )),
        no_json("HTML", ok_as("text/html", "<html>")),
        no_json("HTML that isn't UTF-8", ok_as("text/html", b"<html>\xff")),
        no_json("an empty text", ok_as("text/plain", "")),
        no_json("an event stream", ok_as("text/event-stream", stream)),
        no_json(
            "204 without a media type",
            Step::Answer(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        ),
        case("JSON as text/plain", ok_as("text/plain", &answer)),
        case(
            "JSON as Application/JSON",
            ok_as("Application/JSON", &answer),
        ),
        case(
            "JSON as application/problem+json",
            ok_as("application/problem+json", &answer),
        ),
        case(
            "JSON without a media type",
            Step::Answer((no_media + &answer).into_bytes()),
        ),
        case("a member twice", hi_and("1,\"x\":2")),
        case("a big integer", hi_and("123456789012345678901234567890")),
        case("a control character in a string", hi_and("\"\u{1}\"")),
        case("nesting of 100", hi_and(&nested(100))),
        case("nesting of 200", hi_and(&nested(200))).but(fails(
            "Nesting is bounded, because the stack of the host's thread may be small.",
        )),
        case("NaN", hi_and("NaN")),
        case("-Infinity", hi_and("-Infinity")),
        case("1e999", hi_and("1e999")),
        case("half a surrogate pair", hi_and("\"\\ud83d\"")),
        case(
            "half a surrogate pair in the answer",
            ok(answer.replace("\"hi\"", "\"hi \\ud83d\"")),
        )
        .but(Deviation::seed_fails(
            SURROGATE,
            "UnicodeEncodeError",
            "hi \u{fffd}",
            [5.into(), 7.into()],
        )),
        case(
            "an answer of 2 MiB",
            ok(completion(&"0123456789abcdef".repeat(1 << 17))),
        ),
        Case {
            config: Map::from_iter([("max_response_bytes".into(), 100.into())]),
            ..case("an answer beyond max_response_bytes", hi())
        }
        .but(Deviation::library_fails(
            "A response is read up to max_response_bytes, so that no server fills the host's \
             memory. What was left unread is unknown.",
            "ResponseTooLarge",
            "hi",
            Value::Null,
        )),
    ]
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

fn framing() -> Vec<Case> {
    let answer = completion("hi");
    let length = |length: usize| format!("content-length: {length}\r\n");
    let chunked = "transfer-encoding: chunked\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let (first, last) = answer.split_at(answer.len() / 2);
    let gzip = gzip(&answer);
    let coded = |coding: &str, bytes: &[u8]| {
        let coding = format!("content-encoding: {coding}\r\n");
        Step::Answer(raw(&(coding + &length(bytes.len())), bytes))
    };
    let refusal = |status| {
        let head = format!("HTTP/1.1 {status} No\r\ncontent-length: 100\r\n\r\n{{");
        Step::Cut(head.into_bytes())
    };
    vec![
        case(
            "a body shorter than Content-Length",
            Step::Cut(raw(&length(answer.len() + 10), &answer)),
        )
        .but(Deviation::unknown()),
        case(
            "no body after the headers",
            Step::Cut(raw(&length(answer.len()), "")),
        )
        .but(Deviation::unknown()),
        case(
            "a body longer than Content-Length",
            Step::Cut(raw(&length(answer.len()), answer.clone() + "more")),
        ),
        case(
            "a body that the connection's end ends",
            Step::Cut(raw("", &answer)),
        ),
        case(
            "a truncated body that the connection's end ends",
            Step::Cut(raw("", first)),
        ),
        case(
            "chunks",
            Step::Answer(raw(chunked, chunk(first) + &chunk(last) + "0\r\n\r\n")),
        ),
        case(
            "chunks with an extension and a trailer",
            Step::Answer(raw(
                chunked,
                format!("{:x};a=b\r\n{answer}\r\n0\r\nx: y\r\n\r\n", answer.len()),
            )),
        ),
        case(
            "chunks without the last",
            Step::Cut(raw(chunked, chunk(&answer))),
        )
        .but(Deviation::unknown()),
        case(
            "chunks cut within one",
            Step::Cut(raw(chunked, &chunk(&answer)[..50])),
        )
        .but(Deviation::unknown()),
        case("gzip", coded("gzip", &gzip)),
        case("GZIP", coded("GZIP", &gzip)),
        case("gzip cut", coded("gzip", &gzip[..40]))
            .but(Deviation::class(
                GZIP_CUT,
                "JSONDecodeError",
                "APIConnectionError",
            ))
            .but(Deviation::unknown()),
        case("gzip that is none", coded("gzip", answer.as_bytes())).but(Deviation::seed_fails(
            NOT_GZIP,
            "APIConnectionError",
            "hi",
            [5.into(), 7.into()],
        )),
        case("500 cut", refusal(500)).but(Deviation::class(
            REFUSAL_CUT,
            "APIConnectionError",
            "InternalServerError",
        )),
        case("401 cut", refusal(401)).but(Deviation::class(
            REFUSAL_CUT,
            "APIConnectionError",
            "AuthenticationError",
        )),
        case(
            "100 headers",
            Step::Answer(response(200, &[("x", "y"); 98], answer.as_bytes())),
        ),
        case(
            "a header of 50 KiB",
            Step::Answer(response(
                200,
                &[("x", &"y".repeat(50 << 10))],
                answer.as_bytes(),
            )),
        ),
        case(
            "a header that isn't ASCII",
            Step::Cut(
                [
                    &b"HTTP/1.1 200 OK\r\nx: caf\xe9\r\n\r\n"[..],
                    answer.as_bytes(),
                ]
                .concat(),
            ),
        ),
    ]
}

/// In one stored block.
fn gzip(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a block holds 64 KiB");
    let crc = text.bytes().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(text.as_bytes());
    out.extend((!crc).to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

fn answers() -> Vec<Case> {
    let message = |message: Value| altered(|answer| answer["choices"][0]["message"] = message);
    let content = |content: Value| message(json!({"role": "assistant", "content": content}));
    let ending = |reason: Value| altered(|answer| answer["choices"][0]["finish_reason"] = reason);
    let call = json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]);
    let without_text = |name: &str, step| {
        let tokens = [json!(5), json!(7)];
        let deviation = Deviation::seed_fails(NO_TEXT, "AttributeError", "", tokens);
        case(name, step).but(deviation)
    };
    let parts = json!([{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]);
    vec![
        case("an ordinary answer", hi()),
        case("an empty answer", ok(completion(""))),
        case(
            "another model than asked for",
            altered(|answer| answer["model"] = "other".into()),
        ),
        case("cut by the length", ending("length".into())),
        case("cut by a filter", ending("content_filter".into())),
        case("without a reason for its end", ending(Value::Null)),
        case(
            "two choices",
            altered(|answer| {
                let other = json!({"index": 1, "message": {"content": "other"}});
                let first = answer["choices"][0].take();
                answer["choices"] = json!([first, other]);
            }),
        ),
        case(
            "a tool call with text",
            message(json!({"role": "assistant", "content": "calling", "tool_calls": call})),
        ),
        without_text(
            "a tool call",
            message(json!({"role": "assistant", "content": null, "tool_calls": call})),
        ),
        without_text(
            "a refusal",
            message(json!({"role": "assistant", "content": null, "refusal": "no"})),
        ),
        without_text("content null", content(Value::Null)),
        without_text("no content", message(json!({"role": "assistant"}))),
        without_text("content that is a number", content(17.into())),
        without_text("content that is an empty list", content(json!([]))),
        case("content parts", content(parts)).but(Deviation::seed_fails(
            "The texts of content parts, joined, are the answer's text. The seed stumbles over \
             the list.",
            "AttributeError",
            "ab",
            [json!(5), json!(7)],
        )),
    ]
}

fn usage() -> Vec<Case> {
    let with = |name: &str, usage: Value| case(name, altered(|answer| answer["usage"] = usage));
    let counts = |name: &str, prompt: Value, completion: Value| {
        with(
            name,
            json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 12}),
        )
    };
    let without = || {
        let unknown = [Value::Null, Value::Null];
        Deviation::seed_fails(NO_USAGE, "AttributeError", "hi", unknown)
    };
    let odd = |seed, library| Deviation::tokens(ODD_COUNT, seed, library);
    let null = || Value::Null;
    vec![
        case(
            "no usage",
            altered(|answer| {
                answer.as_object_mut().map(|answer| answer.remove("usage"));
            }),
        )
        .but(without()),
        with("usage null", null()).but(without()),
        with("usage that is a text", "5".into()).but(without()),
        with("usage {}", json!({})),
        with("usage without the answer's", json!({"prompt_tokens": 5})),
        counts("counts that are null", null(), null()),
        counts("counts of zero", 0.into(), 0.into()),
        counts("counts with fractions", json!(5.5), json!(7.25))
            .but(odd([json!(5.5), json!(7.25)], [null(), null()])),
        counts("a count below zero", json!(-1), json!(7))
            .but(odd([json!(-1), json!(7)], [null(), json!(7)])),
        counts("a count that is a word", "many".into(), json!(7))
            .but(odd(["many".into(), json!(7)], [null(), json!(7)])),
        counts("counts in texts", "5".into(), "7".into())
            .but(odd([json!(5), json!(7)], [null(), null()])),
        counts("big counts", json!(i64::MAX), json!(1u64 << 63)).but(odd(
            [json!(i64::MAX), json!(1u64 << 63)],
            [json!(i64::MAX), null()],
        )),
        counts("counts in floats", json!(5.0), json!(7.0)),
    ]
}

/// HTTP 200 with JSON that holds no answer.
fn no_answers() -> Vec<Case> {
    let choices = |choices: Value| json!({"id": "gen-1", "choices": choices}).to_string();
    [
        ("{}", "TypeError", "{}".into()),
        ("[]", "AttributeError", "[]".into()),
        ("null", "AttributeError", "null".into()),
        ("17", "AttributeError", "17".into()),
        ("a JSON text", "AttributeError", "\"hi\"".into()),
        ("choices null", "TypeError", choices(Value::Null)),
        ("choices []", "IndexError", choices(json!([]))),
        ("choices {}", "KeyError", choices(json!({}))),
        ("a choice null", "AttributeError", choices(json!([null]))),
        ("a choice {}", "AttributeError", choices(json!([{}]))),
        (
            "a message null",
            "AttributeError",
            choices(json!([{"message": null}])),
        ),
        (
            "a message that is a text",
            "AttributeError",
            choices(json!([{"message": "hi"}])),
        ),
    ]
    .into_iter()
    .map(|(name, class, body): (&str, &str, String)| {
        let ours = "APIResponseValidationError";
        case(name, ok(body)).but(Deviation::class(NO_MESSAGE, class, ours))
    })
    .collect()
}

fn errors_inside() -> Vec<Case> {
    let alone = |name: &str, error: Value, class: &str| {
        let body = json!({"error": error, "user_id": null}).to_string();
        case(name, ok(body)).but(Deviation::class(ERROR_INSIDE, "TypeError", class))
    };
    let coded = |code: Value| json!({"code": code, "message": "no"});
    // What came beside the error is hashed, and its tokens are logged, as they are billed.
    let fails = |class: &str, text: &str| {
        let fields = [
            ("status", "success".into(), "error".into()),
            ("error_type", Value::Null, class.into()),
            ("answer", text.into(), Value::Null),
        ];
        Deviation::of(ERROR_INSIDE, &fields)
    };
    vec![
        alone("502 inside 200", coded(502.into()), "InternalServerError"),
        alone("402 inside 200", coded(402.into()), "APIStatusError"),
        alone("\"429\" inside 200", coded("429".into()), "RateLimitError"),
        alone("a word inside 200", coded("busy".into()), "APIError"),
        alone("an error without a code inside 200", json!({}), "APIError"),
        alone(
            "an error that is a text inside 200",
            "no".into(),
            "APIError",
        ),
        alone(
            "503 inside 200, not again",
            coded(503.into()),
            "InternalServerError",
        )
        .retries(2),
        case(
            "an error beside an answer",
            altered(|answer| answer["error"] = coded(502.into())),
        )
        .but(fails("InternalServerError", "hi")),
        case(
            "no error beside an answer",
            altered(|answer| answer["error"] = Value::Null),
        ),
        case(
            "an error in the choice",
            altered(|answer| {
                answer["choices"][0]["error"] = coded(502.into());
                answer["choices"][0]["message"]["content"] = "".into();
            }),
        )
        .but(fails("InternalServerError", "")),
        case(
            "an answer that ends by an error",
            altered(|answer| answer["choices"][0]["finish_reason"] = "error".into()),
        )
        .but(fails("APIError", "hi")),
    ]
}

fn connections() -> Vec<Case> {
    let answer = completion("hi");
    let head = raw(&format!("content-length: {}\r\n", answer.len() + 10), "");
    let part = [&head, &answer.as_bytes()[..30]].concat();
    let blanks = std::iter::repeat_n(b" ".to_vec(), 10);
    let drip = std::iter::once(head.clone())
        .chain(blanks)
        .chain([answer.into_bytes()]);
    let refusal = b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\n{".to_vec();
    vec![
        Case {
            closed_port: true,
            ..case("a closed port", hi())
        },
        case("cut before the headers", Step::Cut(Vec::new())).but(Deviation::unknown()),
        case(
            "cut within the headers",
            Step::Cut(b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec()),
        )
        .but(Deviation::unknown()),
        case("a reset", Step::Reset).but(Deviation::unknown()),
        case(
            "a server of another protocol",
            Step::Cut(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        )
        .but(Deviation::unknown()),
        case("silence", Step::Silence(Vec::new()))
            .timeout(300)
            .but(Deviation::unknown()),
        case("silence after the headers", Step::Silence(head))
            .timeout(300)
            .but(Deviation::unknown()),
        case("silence within the body", Step::Silence(part))
            .timeout(300)
            .but(Deviation::unknown()),
        case("silence within a refusal", Step::Silence(refusal))
            .timeout(300)
            .but(Deviation::class(
                REFUSAL_CUT,
                "APITimeoutError",
                "InternalServerError",
            )),
        case("a body that drips", Step::Drip(drip.collect()))
            .timeout(500)
            .but(Deviation::library_fails(
                DEADLINE,
                "APITimeoutError",
                "hi",
                Value::Null,
            )),
    ]
}

fn texts() -> Vec<Case> {
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{1f1e9}\u{1f1ea} \u{1f600}";
    // As the prompt, the answer and the user.
    let everywhere = [
        ("an accent", "h\u{e9}llo"),
        ("emoji", family),
        ("combining characters", "e\u{301} \u{1112}\u{1161}\u{11ab}"),
        (
            "right to left",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{202e}abc\u{202c} \u{200f}",
        ),
        ("NUL", "a\0b"),
        ("line ends", "a\u{2028}b\u{2029}c\u{85}d\r\ne\n"),
        ("control characters", "\u{1}\u{1b}[2J\u{7f}\u{9f}"),
        ("quotes and backslashes", "\"\\\"\\u0041\"},{</script>"),
        (
            "noncharacters",
            "\u{fffe}\u{ffff}\u{10ffff}\u{fffd}\u{feff}",
        ),
    ];
    everywhere
        .into_iter()
        .map(|(name, text)| case(name, ok(completion(text))).prompt(text).user(text))
        .chain([
            case("emoji in a failing call", error(400, &[]))
                .prompt(family)
                .user(family),
            case("an empty prompt", hi()).prompt(""),
            case("an empty user", hi()).user(""),
            case("a prompt of 1 MiB", hi())
                .prompt("0123456789\u{e9}\u{1f600}".repeat((1 << 20) / 16)),
            case("a model", hi()).model("anthropic/claude-sonnet-4:beta"),
            case("a model that isn't ASCII", error(400, &[])).model("m\u{f6}del \u{1f600}"),
        ])
        .collect()
}

fn metadata() -> Vec<Case> {
    [
        ("metadata {}", "{}"),
        (
            "metadata",
            r#"{"team": "core", "n": 1, "on": true, "off": null}"#,
        ),
        (
            "metadata nested",
            r#"{"z": {"b": {"c": [1, [2, {"d": null}], true]}}, "a": [], "y": {}}"#,
        ),
        (
            "metadata with big integers",
            r#"{"a": 9007199254740993, "b": -123456789012345678901234567890}"#,
        ),
        (
            "metadata with floats",
            r#"{"a": 0.1, "b": 1.0, "c": -0.0, "d": 1e300, "e": 2.5e-8, "f": 1e20}"#,
        ),
        (
            "metadata that isn't ASCII",
            "{\"\u{7528}\u{1f600}\": \"h\u{e9}\u{2028}\u{202e}\\u0000\\ud83d\\ude00\"}",
        ),
        (
            "metadata with escapes",
            r#"{"a\"b\\": "\n\t\/\b\f\u001f\u007f", "": ""}"#,
        ),
        (
            "metadata with the names of fields",
            r#"{"id": "x", "status": "error", "details": {}}"#,
        ),
    ]
    .into_iter()
    .map(|(name, metadata)| {
        let mut case = case(name, hi()).metadata(metadata);
        // The seed takes any number, which the library does if it's told to.
        case.config.insert("metadata_numbers".into(), "any".into());
        case
    })
    .chain([
        case("metadata in a failing call", error(429, &[])).metadata(r#"{"team": "core"}"#),
        case("metadata of 20 KiB", hi()).metadata(json!({"a": "x".repeat(20 << 10)}).to_string()),
    ])
    .collect()
}

fn params() -> Vec<Case> {
    let tool = r#"{"tools": [{"type": "function", "function": {"name": "f", "parameters":
        {"type": "object", "properties": {}}}}], "tool_choice": "auto"}"#;
    let schema = r#"{"response_format": {"type": "json_schema", "json_schema":
        {"name": "n", "schema": {"type": "object"}}}}"#;
    vec![
        case("temperature", hi()).params(r#"{"temperature": 0.2}"#),
        case("a list of stops", hi())
            .params(r#"{"stop": ["\n", "END"], "max_tokens": 100, "seed": 9223372036854775807}"#),
        case("tools", hi()).params(tool),
        case("response_format", hi()).params(schema),
        case("params that are null", hi()).params(r#"{"temperature": null, "stop": null}"#),
        case("params that aren't ASCII", hi()).params("{\"user\": \"h\u{e9}\u{1f600}\"}"),
        case("params with floats", hi())
            .params(r#"{"temperature": 1.0, "top_p": 0.30000000000000004, "n": 1}"#),
        case("extra_body", hi())
            .extra_body(r#"{"provider": {"order": ["a", "b"], "zdr": true}, "models": ["x/y"]}"#),
        case("a parameter of one provider", hi())
            .params(r#"{"top_k": 5}"#)
            .but(Deviation::seed_fails(
                ANY_PARAMETER,
                "TypeError",
                "hi",
                [json!(5), json!(7)],
            ))
            .but(Deviation::requests(ANY_PARAMETER, 0, 1)),
        case("extra_headers", hi()).headers(&[
            ("HTTP-Referer", "https://example.com"),
            ("X-Title", "Title"),
            ("X-Empty", ""),
        ]),
        case("extra_headers that the client sets too", hi()).headers(&[
            ("Authorization", "Bearer other"),
            ("User-Agent", "mine/1.0"),
            ("Accept", "*/*"),
        ]),
    ]
}

/// What a host gets wrong: the library refuses it, with nothing sent and nothing logged.
fn refusals() -> Vec<Case> {
    let stream = ok_as("text/event-stream", "data: [DONE]\n\n");
    vec![
        Case {
            keyless: true,
            ..case("no key", hi())
        }
        .but(Deviation::of(
            "A call without a key is a call, and leaves its entry. The seed's client can't even \
             be made.",
            &[("entries", 0.into(), 1.into())],
        )),
        case("an empty model", hi())
            .model("")
            .but(Deviation::refused(
                "An empty model is a variable that wasn't set.",
            )),
        case("another model in the params", hi())
            .extra_body(r#"{"model": "other"}"#)
            .but(Deviation::refused(
                "The entry would name another model than was asked for.",
            )),
        case("stream in the params", stream)
            .params(r#"{"stream": true}"#)
            .but(Deviation::refused_and_failing(
                "A stream needs somebody who takes it. The seed pays for one and can't read it.",
                1,
            )),
        case("messages beside a prompt", hi())
            .params(r#"{"messages": []}"#)
            .but(Deviation::refused_and_failing(
                "The entry would hold the hash of something else than was asked.",
                0,
            )),
        case("metadata that is a list", hi())
            .metadata("[1]")
            .but(Deviation::refused(OBJECT)),
        case("metadata that is a text", hi())
            .metadata("\"x\"")
            .but(Deviation::refused(OBJECT)),
        case("metadata null", hi())
            .metadata("null")
            .but(Deviation::refused(OBJECT)),
        case("metadata with a key twice", hi())
            .metadata(r#"{"a": 1, "a": 2}"#)
            .but(Deviation::refused(
                "Readers differ in which of the two they take.",
            )),
        case("metadata with half a surrogate pair", hi())
            .metadata(r#"{"a": "\ud83d"}"#)
            .but(Deviation::refused(
                "Readers of the log refuse such a line, or change it.",
            )),
        case("metadata with NaN", hi())
            .metadata(r#"{"a": NaN}"#)
            .but(Deviation::refused(
                "NaN isn't JSON: readers of the log refuse the line.",
            )),
        case("metadata nested 100 deep", hi())
            .metadata(format!("{{\"a\":{}}}", nested(100)))
            .but(Deviation::refused(
                "Nesting is bounded for every later reader's sake.",
            )),
        case("metadata of 40 KiB", hi())
            .metadata(json!({"a": "x".repeat(40 << 10)}).to_string())
            .but(Deviation::refused(ENTRY_SIZE)),
        case("a user of 40 KiB", hi())
            .user(&"x".repeat(40 << 10))
            .but(Deviation::refused(ENTRY_SIZE)),
        case("a header to send that isn't ASCII", hi())
            .headers(&[("X-Name", "caf\u{e9}")])
            .but(Deviation::refused_and_failing(UNSENDABLE, 0)),
        case("a header to send with a line end", hi())
            .headers(&[("X-Name", "a\r\nb: c")])
            .but(Deviation::refused_and_failing(UNSENDABLE, 0)),
        case("a header that frames the message", hi())
            .headers(&[("Content-Type", "application/json")])
            .but(Deviation::refused(
                "Headers that frame the message are the library's own.",
            )),
    ]
}
