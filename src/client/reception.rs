//! An answer as it comes in: kept whole, or heard as a stream.

use std::time::Instant;

use http::HeaderMap;

use super::Try;
use super::answer::{Assembly, Completion};
use super::fault::{self, Fault};
use super::limits::Limits;
use super::retry::Kind;
use super::sse::{self, Flow};
use super::transport::{End, Receiver};
use super::value::{Unread, Value, has_room};
use crate::format::entry::Outcome;
use crate::hash::Hasher;

/// Hears a streamed answer as it comes. Each returns whether to go on.
pub trait Listener {
    /// Text that was added to the answer.
    fn delta(&mut self, text: &str) -> bool;
    /// The payload of an event, as it was sent.
    fn chunk(&mut self, json: &[u8]) -> bool;
    /// All was heard that an attempt brought.
    fn end(&mut self) {}
}

/// Takes one response in.
pub struct Reception<'l, 'h> {
    listener: &'l mut Option<&'h mut dyn Listener>,
    limits: &'l Limits,
    hash: Hasher,
    form: Form,
    /// Of the body so far.
    length: usize,
    /// At which length it is asked again whether there is memory.
    next_check: usize,
    /// Why no more was read.
    full: Option<Fault>,
}

enum Form {
    /// As long as its bytes don't tell whether it's a stream; `labelled` as one or not.
    Undecided {
        labelled: bool,
        kept: Vec<u8>,
    },
    Whole(Vec<u8>),
    Stream(Box<Stream>),
}

struct Stream {
    parser: sse::Parser,
    heard: Heard,
}

struct Heard {
    assembly: Assembly,
    first_token: Option<Instant>,
    done: bool,
    fault: Option<Fault>,
    /// Why no more was read.
    cut: Option<Fault>,
}

/// What an answer's body may take of memory beside itself: parsed, its text, the reply. Not all at
/// once, but some are copied as they grow.
const COPIES: usize = 6;

impl<'l, 'h> Reception<'l, 'h> {
    pub fn new(
        listener: &'l mut Option<&'h mut dyn Listener>,
        limits: &'l Limits,
        hash: Hasher,
    ) -> Self {
        Reception {
            listener,
            limits,
            hash,
            form: Form::Whole(Vec::new()),
            length: 0,
            next_check: 32 * 1024,
            full: None,
        }
    }

    /// What came, after the last piece.
    pub fn end(self, status: u16, headers: &HeaderMap, end: End) -> Try {
        let body_hash = Some(self.hash.finish());
        let tried = match self.form {
            Form::Stream(stream) => stream.end(self.listener, self.limits, end, self.full),
            // Labelled as one, and empty.
            Form::Undecided {
                labelled: true,
                kept,
            } if kept.trim_ascii().is_empty() => {
                Box::new(Stream::new()).end(self.listener, self.limits, end, self.full)
            }
            Form::Whole(body) | Form::Undecided { kept: body, .. } => {
                let cut = match (self.full, end) {
                    (Some(full), _) | (None, End::Cut(full)) => Some(full),
                    _ => None,
                };
                whole(self.listener, self.limits, status, headers, body, cut)
            }
        };
        Try { body_hash, ..tried }
    }
}

impl Receiver for Reception<'_, '_> {
    fn head(&mut self, status: u16, headers: &HeaderMap) {
        // A refusal isn't streamed, and some servers don't stream at all.
        if self.listener.is_some() && (200..300).contains(&status) {
            self.form = Form::Undecided {
                labelled: media_type(headers).starts_with("text/event-stream"),
                kept: Vec::new(),
            };
        }
    }

    fn piece(&mut self, bytes: &[u8]) -> Flow {
        self.hash.update(bytes);
        self.length += bytes.len();
        if self.length > self.next_check {
            self.next_check = self.length + self.length / 2;
            if !has_room(self.length * COPIES) {
                return self.no_memory();
            }
        }
        match &mut self.form {
            Form::Stream(stream) => stream.push(bytes, self.listener, self.limits),
            Form::Whole(kept) => {
                if kept.try_reserve(bytes.len()).is_err() {
                    return self.no_memory();
                }
                kept.extend_from_slice(bytes);
                Flow::More
            }
            Form::Undecided { labelled, kept } => {
                kept.extend_from_slice(bytes);
                let kept = match sse::is_stream(kept, *labelled) {
                    None => return Flow::More,
                    Some(is_stream) => (std::mem::take(kept), is_stream),
                };
                match kept {
                    (kept, false) => {
                        self.form = Form::Whole(kept);
                        Flow::More
                    }
                    (kept, true) => {
                        let mut stream = Box::new(Stream::new());
                        let flow = stream.push(&kept, self.listener, self.limits);
                        self.form = Form::Stream(stream);
                        flow
                    }
                }
            }
        }
    }
}

impl Reception<'_, '_> {
    fn no_memory(&mut self) -> Flow {
        // What the entry needs must find memory.
        if !matches!(self.form, Form::Stream(_)) {
            self.form = Form::Whole(Vec::new());
        }
        self.full = Some(Fault::no_memory());
        Flow::Stop
    }
}

/// The `content-type`, lower case.
fn media_type(headers: &HeaderMap) -> String {
    let media = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    media.unwrap_or_default().to_ascii_lowercase()
}

/// What an answer in one piece comes to. `cut` is why there is no more of it, if there should be.
fn whole(
    listener: &mut Option<&mut dyn Listener>,
    limits: &Limits,
    status: u16,
    headers: &HeaderMap,
    body: Vec<u8>,
    cut: Option<Fault>,
) -> Try {
    let (completion, fault) = read(status, headers, &body, limits);
    // A refusal is clear from its status, however much of its text came.
    let cut = cut.filter(|_| status < 400);
    let mut tried = match cut {
        // Of an answer that was cut off nothing is known for certain.
        Some(_) => Try {
            fault: cut,
            outcome: Outcome::Unknown,
            ..Try::default()
        },
        None => Try {
            completion,
            fault,
            outcome: Outcome::Answered,
            ..Try::default()
        },
    };
    if let (None, Some(listener)) = (&tried.fault, listener.as_deref_mut()) {
        // The server answered in one piece: so is it heard.
        tried.first_token = Some(Instant::now());
        let text = &tried.completion.text;
        if !(listener.chunk(&body) && (text.is_empty() || listener.delta(text))) {
            tried.fault = Some(Fault::cancelled());
        }
    }
    Try {
        body: Some(body),
        ..tried
    }
}

/// Reads an answer in one piece: what it says, and why it is none.
pub fn read(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    limits: &Limits,
) -> (Completion, Option<Fault>) {
    // Slow answers of OpenRouter begin with blank lines that keep the connection alive; some
    // servers send a byte order mark.
    let bare = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let media = media_type(headers);
    let watch = || limits.reached();
    let parsed = Value::read(bare, &watch);
    if !(200..300).contains(&status) {
        let error = parsed.as_ref().ok();
        let refusal = Fault::refusal(status, &media, body, error);
        return (Completion::default(), Some(refusal));
    }
    let is_json = || media.contains("json") || bare.trim_ascii_start().starts_with(b"{");
    match parsed {
        Ok(value) => {
            let inside = fault::error_inside(&value, false);
            match Assembly::of_whole(&value, &watch) {
                Ok(Some(assembly)) => (assembly.completion(), inside),
                Ok(None) => {
                    let fault = inside.unwrap_or_else(Fault::no_completion);
                    (Completion::default(), Some(fault))
                }
                Err(unread) => (Completion::default(), Some(unread.into())),
            }
        }
        Err(Unread::NotJson(..) | Unread::NotUtf8) if !is_json() => {
            (Completion::default(), Some(Fault::not_json(&media, body)))
        }
        Err(unread) => (Completion::default(), Some(unread.into())),
    }
}

impl Stream {
    fn new() -> Stream {
        Stream {
            parser: sse::Parser::default(),
            heard: Heard {
                assembly: Assembly::of_chunks(),
                first_token: None,
                done: false,
                fault: None,
                cut: None,
            },
        }
    }

    fn push(
        &mut self,
        bytes: &[u8],
        listener: &mut Option<&mut dyn Listener>,
        limits: &Limits,
    ) -> Flow {
        let Stream { parser, heard } = self;
        match listener.as_deref_mut() {
            Some(listener) => parser.push(bytes, |event| heard.event(event, listener, limits)),
            None => Flow::Stop,
        }
    }

    /// What the stream comes to. `full` is why no more of it was read, if that isn't its own end.
    fn end(
        self: Box<Stream>,
        listener: &mut Option<&mut dyn Listener>,
        limits: &Limits,
        end: End,
        full: Option<Fault>,
    ) -> Try {
        let Stream { parser, mut heard } = *self;
        let is_whole = matches!(end, End::Length | End::LastChunk);
        if let (Some((data, is_error)), Some(listener)) = (parser.rest(), listener.as_deref_mut()) {
            // The last event, without the empty line that should follow it.
            let data = data.as_slice();
            let is_read = || Value::read(data, &|| limits.reached()).is_ok();
            if sse::is_done(data) || (is_whole && is_read()) {
                heard.event(sse::Event { data, is_error }, listener, limits);
            }
        }
        heard.end(end, full)
    }
}

impl Heard {
    fn event(
        &mut self,
        event: sse::Event<'_>,
        listener: &mut dyn Listener,
        limits: &Limits,
    ) -> Flow {
        let data = event.data;
        if sse::is_done(data) {
            self.done = true;
            return Flow::Enough;
        }
        if data.trim_ascii().is_empty() && !event.is_error {
            return Flow::More;
        }
        match self.take(event, listener, limits) {
            Ok(()) => {}
            Err(Unread::Cut(cut)) => self.cut = Some(cut.into()),
            Err(_) if event.is_error => {
                // Its words, which aren't JSON.
                let words = Value::Text(String::from_utf8_lossy(data));
                self.fault = fault::error_inside(&words, true);
            }
            Err(unread) => self.fault = Some(unread.into()),
        }
        match (&self.fault, &self.cut) {
            (None, None) => Flow::More,
            _ => Flow::Stop,
        }
    }

    /// Adds a chunk to the answer, and lets it be heard.
    fn take(
        &mut self,
        event: sse::Event<'_>,
        listener: &mut dyn Listener,
        limits: &Limits,
    ) -> Result<(), Unread> {
        // Callbacks take their time, and many events may have come at once.
        if let Some(cut) = limits.reached() {
            return Err(Unread::Cut(cut));
        }
        let watch = || limits.reached();
        let chunk = Value::read(event.data, &watch)?;
        let before = self.assembly.heard().len();
        if self.assembly.add(&chunk, &watch)? && self.first_token.is_none() {
            self.first_token = Some(Instant::now());
        }
        let text = self.assembly.heard().get(before..).unwrap_or_default();
        let goes_on = listener.chunk(event.data) && (text.is_empty() || listener.delta(text));
        self.fault = match goes_on {
            true => fault::error_inside(&chunk, event.is_error),
            false => Some(Fault::cancelled()),
        };
        Ok(())
    }

    fn end(self, end: End, full: Option<Fault>) -> Try {
        let answer = &self.assembly;
        let (mark, cut) = match end {
            _ if self.done => (Some("done"), None),
            End::Length => (Some("length"), None),
            End::LastChunk => (Some("last_chunk"), None),
            End::Close => (Some("close"), None),
            End::Left => (None, None),
            End::Cut(cut) => (None, Some(cut)),
        };
        let is_complete = match mark {
            Some("done") => answer.any_ended(),
            Some("length" | "last_chunk") => answer.all_ended(),
            _ => false,
        };
        let incomplete = |message| (Some(Fault::incomplete(message)), Outcome::Unknown);
        let (fault, outcome) = match (self.fault, full.or(self.cut).or(cut)) {
            (Some(fault), _) if fault.is_cancelled() => (Some(fault), Outcome::Unknown),
            (Some(fault), _) => (Some(fault), Outcome::Answered),
            // Never tried again: the host has heard a part of it.
            (None, Some(cut)) if !self.done => {
                let retry = Kind::Never;
                (Some(Fault { retry, ..cut }), Outcome::Unknown)
            }
            (None, _) if is_complete => (None, Outcome::Answered),
            (None, _) if !answer.any_ended() => {
                incomplete("the stream ended without a finish_reason")
            }
            (None, _) => incomplete(
                "the stream ended without its end marker ([DONE]), and not all that it began had \
                 come to an end",
            ),
        };
        Try {
            completion: answer.completion(),
            fault,
            body: Some(answer.json()),
            first_token: self.first_token,
            outcome,
            stream_end: mark,
            streamed: true,
            ..Try::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn class(status: u16, media: &str, body: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", media.parse().unwrap());
        let soon = Instant::now() + Duration::from_secs(60);
        let limits = Limits::new(soon, Duration::ZERO, Duration::ZERO, [-1, -1]);
        read(status, &headers, body.as_bytes(), &limits)
            .1
            .map(|fault| fault.class)
    }

    #[test]
    fn what_is_no_completion_is_never_a_success() {
        for (body, name) in [
            ("", "JSONDecodeError"),
            (" \n ", "JSONDecodeError"),
            ("{\"choices\":", "JSONDecodeError"),
            ("null", "APIResponseValidationError"),
            ("[]", "APIResponseValidationError"),
            ("{}", "APIResponseValidationError"),
            (r#"{"choices":[]}"#, "APIResponseValidationError"),
            (r#"{"choices":[{}]}"#, "APIResponseValidationError"),
            (
                r#"{"choices":[{"message":null}]}"#,
                "APIResponseValidationError",
            ),
        ] {
            assert_eq!(class(200, "application/json", body), Some(name), "{body}");
        }
        assert_eq!(
            class(200, "text/html", "<html>"),
            Some("APIResponseValidationError")
        );
    }

    #[test]
    fn a_whole_answer_is_one_whatever_its_label_says() {
        let body = "\u{feff}\n\n {\"error\":null,\"choices\":[{\"message\":{\"content\":NaN}}]}";
        for media in ["application/json", "text/event-stream", "text/plain", "x"] {
            assert_eq!(class(200, media, body), None, "{media}");
        }
    }
}
