//! An answer as it comes in: kept whole, or heard as a stream.

use std::time::Instant;

use http::HeaderMap;

use super::answer::{Assembly, Completion};
use super::fault::{self, Fault};
use super::limits::Limits;
use super::retry::Kind;
use super::sse::{self, Flow};
use super::transport::End;
use super::value::{Unread, Value, has_room};
use super::{Pieces, Try};
use crate::format::entry::Outcome;
use crate::hash::Hasher;

/// What the host is to hear of an answer next. A NUL follows each text, which isn't of it.
#[derive(Default)]
pub struct Said {
    chunk: Vec<u8>,
    delta: Vec<u8>,
}

impl Said {
    /// The payload of an event, as it was sent.
    pub fn chunk(&self) -> Option<&[u8]> {
        self.chunk.split_last().map(|(_, text)| text)
    }

    /// Text that was added to the answer.
    pub fn delta(&self) -> Option<&[u8]> {
        self.delta.split_last().map(|(_, text)| text)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.chunk.is_empty() && self.delta.is_empty()
    }

    /// Forgets what was heard.
    pub fn clear(&mut self) {
        self.set(Pieces::None, b"", "");
    }

    fn set(&mut self, wants: Pieces, chunk: &[u8], delta: &str) {
        /// One event of megabytes isn't to be paid for until the end.
        const KEPT: usize = 16 * 1024;
        let put = |to: &mut Vec<u8>, is_wanted: bool, text: &[u8]| {
            to.clear();
            to.shrink_to(KEPT);
            if is_wanted {
                to.extend_from_slice(text);
                to.push(0);
            }
        };
        put(&mut self.chunk, wants.chunks(), chunk);
        put(
            &mut self.delta,
            wants.deltas() && !delta.is_empty(),
            delta.as_bytes(),
        );
    }
}

/// Takes one response in.
pub struct Reception {
    wants: Pieces,
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
    Whole {
        /// Whether a stream was asked for.
        asked: bool,
        body: Vec<u8>,
    },
    Stream(Box<Stream>),
}

struct Stream {
    parser: sse::Parser,
    /// What came before it was known to be one, from where it wasn't read.
    early: Vec<u8>,
    read: usize,
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

impl Reception {
    /// Of a response that begins so. `stream`: whether one was asked for.
    pub fn new(
        status: u16,
        headers: &HeaderMap,
        stream: bool,
        wants: Pieces,
        hash: Hasher,
    ) -> Reception {
        // A refusal isn't streamed, and some servers don't stream at all.
        let may_stream = stream && (200..300).contains(&status);
        let form = match may_stream {
            true => Form::Undecided {
                labelled: media_type(headers).starts_with("text/event-stream"),
                kept: Vec::new(),
            },
            false => Form::Whole {
                asked: stream,
                body: Vec::new(),
            },
        };
        Reception {
            wants,
            hash,
            form,
            length: 0,
            next_check: 32 * 1024,
            full: None,
        }
    }

    /// Takes note of the body's next bytes, before they are read.
    pub fn note(&mut self, bytes: &[u8]) -> Flow {
        self.hash.update(bytes);
        self.length += bytes.len();
        if self.length > self.next_check {
            self.next_check = self.length + self.length / 2;
            if !has_room(self.length * COPIES) {
                return self.no_memory();
            }
        }
        Flow::More
    }

    /// Reads bytes, until there is something to be heard. How many it read.
    pub fn read(&mut self, bytes: &[u8], limits: &Limits, said: &mut Said) -> (usize, Flow) {
        let wants = self.wants;
        match &mut self.form {
            Form::Stream(stream) => stream.read(bytes, wants, limits, said),
            Form::Whole { body, .. } => {
                if body.try_reserve(bytes.len()).is_err() {
                    return (0, self.no_memory());
                }
                body.extend_from_slice(bytes);
                (bytes.len(), Flow::More)
            }
            Form::Undecided { labelled, kept } => {
                kept.extend_from_slice(bytes);
                let is_stream = sse::is_stream(kept, *labelled);
                let body = match is_stream {
                    None => return (bytes.len(), Flow::More),
                    Some(_) => std::mem::take(kept),
                };
                if is_stream == Some(false) {
                    self.form = Form::Whole { asked: true, body };
                    return (bytes.len(), Flow::More);
                }
                let mut stream = Box::new(Stream::new(body));
                let (_, flow) = stream.read(&[], wants, limits, said);
                self.form = Form::Stream(stream);
                (bytes.len(), flow)
            }
        }
    }

    /// The last event of a stream, if the empty line that should follow it is missing: whether
    /// there is something to be heard.
    pub fn read_last(&mut self, end: &End, limits: &Limits, said: &mut Said) -> bool {
        match &mut self.form {
            Form::Stream(stream) if self.full.is_none() => {
                stream.read_last(end, self.wants, limits, said)
            }
            _ => false,
        }
    }

    /// The host wants no more.
    pub fn cancel(&mut self) {
        if let Form::Stream(stream) = &mut self.form {
            stream.heard.fault = Some(Fault::cancelled());
        }
    }

    /// What came, after the last of it. What came in one piece is to be heard then, if it is a
    /// success and a stream was asked for.
    pub fn end(
        self,
        status: u16,
        headers: &HeaderMap,
        end: End,
        limits: &Limits,
        said: &mut Said,
    ) -> Try {
        let body_hash = Some(self.hash.finish());
        let (asked, body) = match self.form {
            Form::Stream(stream) => {
                let tried = stream.heard.end(end, self.full);
                return Try { body_hash, ..tried };
            }
            // Labelled as one, and empty.
            Form::Undecided {
                labelled: true,
                kept,
            } if kept.trim_ascii().is_empty() => {
                let tried = Stream::new(kept).heard.end(end, self.full);
                return Try { body_hash, ..tried };
            }
            Form::Undecided { kept, .. } => (true, kept),
            Form::Whole { asked, body } => (asked, body),
        };
        let cut = match (self.full, end) {
            (Some(full), _) | (None, End::Cut(full)) => Some(full),
            _ => None,
        };
        let mut tried = whole(limits, status, headers, &body, cut);
        if asked && tried.fault.is_none() {
            // The server answered in one piece: so is it heard.
            tried.first_token = Some(Instant::now());
            said.set(self.wants, &body, &tried.completion.text);
        }
        Try {
            body: Some(body),
            body_hash,
            ..tried
        }
    }

    fn no_memory(&mut self) -> Flow {
        // What the entry needs must find memory.
        if !matches!(self.form, Form::Stream(_)) {
            self.form = Form::Whole {
                asked: false,
                body: Vec::new(),
            };
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

/// What an answer in one piece comes to, its body aside. `cut` is why there is no more of it, if
/// there should be.
fn whole(
    limits: &Limits,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    cut: Option<Fault>,
) -> Try {
    let (completion, fault) = read(status, headers, body, limits);
    // A refusal is clear from its status, however much of its text came.
    let cut = cut.filter(|_| status < 400);
    match cut {
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
    /// That begins with these bytes.
    fn new(early: Vec<u8>) -> Stream {
        Stream {
            parser: sse::Parser::default(),
            early,
            read: 0,
            heard: Heard {
                assembly: Assembly::of_chunks(),
                first_token: None,
                done: false,
                fault: None,
                cut: None,
            },
        }
    }

    fn read(
        &mut self,
        bytes: &[u8],
        wants: Pieces,
        limits: &Limits,
        said: &mut Said,
    ) -> (usize, Flow) {
        let Stream { parser, heard, .. } = self;
        if heard.is_over() {
            return (0, Flow::Stop);
        }
        let mut each = |event: sse::Event<'_>| heard.event(event, wants, limits, said);
        if let Some(early) = self
            .early
            .get(self.read..)
            .filter(|early| !early.is_empty())
        {
            let (read, flow) = parser.push(early, &mut each);
            self.read += read;
            if flow != Flow::More {
                return (0, flow);
            }
            self.early = Vec::new();
        }
        parser.push(bytes, each)
    }

    fn read_last(&mut self, end: &End, wants: Pieces, limits: &Limits, said: &mut Said) -> bool {
        let Stream { parser, heard, .. } = self;
        let is_whole = matches!(end, End::Length | End::LastChunk);
        let Some((data, is_error)) = std::mem::take(parser).rest() else {
            return false;
        };
        let data = data.as_slice();
        let is_read = || Value::read(data, &|| limits.reached()).is_ok();
        let counts = sse::is_done(data) || (is_whole && is_read());
        !heard.is_over()
            && counts
            && heard.event(sse::Event { data, is_error }, wants, limits, said) == Flow::Pause
    }
}

impl Heard {
    /// Whether nothing more of it is wanted.
    fn is_over(&self) -> bool {
        self.fault.is_some() || self.cut.is_some()
    }

    fn event(
        &mut self,
        event: sse::Event<'_>,
        wants: Pieces,
        limits: &Limits,
        said: &mut Said,
    ) -> Flow {
        let data = event.data;
        if sse::is_done(data) {
            self.done = true;
            return Flow::Enough;
        }
        if data.trim_ascii().is_empty() && !event.is_error {
            return Flow::More;
        }
        match self.take(event, wants, limits, said) {
            Ok(()) if !said.is_empty() => return Flow::Pause,
            Ok(()) => {}
            Err(Unread::Cut(cut)) => self.cut = Some(cut.into()),
            Err(_) if event.is_error => {
                // Its words, which aren't JSON.
                let words = Value::Text(String::from_utf8_lossy(data));
                self.fault = fault::error_inside(&words, true);
            }
            Err(unread) => self.fault = Some(unread.into()),
        }
        if self.is_over() {
            Flow::Stop
        } else {
            Flow::More
        }
    }

    /// Adds a chunk to the answer, and notes what is to be heard of it.
    fn take(
        &mut self,
        event: sse::Event<'_>,
        wants: Pieces,
        limits: &Limits,
        said: &mut Said,
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
        said.set(wants, event.data, text);
        self.fault = fault::error_inside(&chunk, event.is_error);
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
