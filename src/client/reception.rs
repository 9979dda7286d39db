//! An answer as it comes in: kept whole, or heard as a stream.

use std::time::Instant;

use ureq::http::HeaderMap;

use super::response::{self, Fault};
use super::stream::{self, Assembly, SseParser};
use super::transport::{Flow, Limits, Receiver};
use super::{Try, lenient, retry};
use crate::format::entry::Outcome;
use crate::hash::Hasher;

/// Hears a streamed answer as it comes. Each returns whether to go on.
pub trait Listener {
    /// Text that was added to the answer.
    fn delta(&mut self, text: &str) -> bool;
    /// The payload of an event, as it was sent.
    fn chunk(&mut self, json: &[u8]) -> bool;
}

/// Takes one response in.
pub struct Reception<'l, 'h> {
    listener: &'l mut Option<&'h mut dyn Listener>,
    limits: &'l Limits,
    hash: Hasher,
    whole: Vec<u8>,
    stream: Option<Stream>,
    length: usize,
    /// Why no more was read of what is kept whole.
    cut: Option<Fault>,
}

#[derive(Default)]
struct Stream {
    parser: SseParser,
    answer: StreamedAnswer,
}

#[derive(Default)]
struct StreamedAnswer {
    assembly: Assembly,
    first_token: Option<Instant>,
    /// The text of choice 0, as it was heard.
    text: String,
    done: bool,
    fault: Option<Fault>,
    /// Why no more was read.
    cut: Option<Fault>,
    /// Of all events so far, as values.
    weight: usize,
}

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
            whole: Vec::new(),
            stream: None,
            length: 0,
            cut: None,
        }
    }

    /// What came, after the last piece. `cut` is why there was no more, if there should have been.
    pub fn end(self, status: u16, headers: &HeaderMap, cut: Option<Fault>) -> Try {
        let body_hash = Some(self.hash.finish());
        if let Some(stream) = self.stream {
            let done = stream
                .parser
                .rest()
                .is_some_and(|data| stream::is_done(&data));
            return Try {
                body_hash,
                ..stream.answer.end(done, cut)
            };
        }
        let (completion, fault) = response::read(status, headers, &self.whole);
        // A refusal is clear from its status, however much of its text came.
        let cut = self.cut.or(cut).filter(|_| status < 400);
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
        if let (None, Some(listener)) = (&tried.fault, self.listener.as_deref_mut()) {
            // The server answered in one piece: so is it heard.
            tried.first_token = Some(Instant::now());
            let text = &tried.completion.text;
            if !(listener.chunk(&self.whole) && (text.is_empty() || listener.delta(text))) {
                tried.fault = Some(Fault::cancelled());
            }
        }
        Try {
            body_hash,
            body: Some(self.whole),
            ..tried
        }
    }
}

impl Receiver for Reception<'_, '_> {
    fn head(&mut self, status: u16, headers: &HeaderMap) {
        // A refusal isn't streamed, and some servers don't stream at all.
        let streams = self.listener.is_some()
            && (200..300).contains(&status)
            && response::media_type(headers).starts_with("text/event-stream");
        self.stream = streams.then(Stream::default);
    }

    fn piece(&mut self, bytes: &[u8]) -> Flow {
        self.hash.update(bytes);
        self.length += bytes.len();
        let limits = self.limits;
        match (&mut self.stream, self.listener.as_deref_mut()) {
            (Some(Stream { parser, answer }), Some(listener)) => {
                match lenient::check_room(self.length, 0, 0) {
                    Ok(()) => parser.push(bytes, |data| answer.event(data, listener, limits)),
                    Err(full) => {
                        answer.cut = Some(full);
                        Flow::Stop
                    }
                }
            }
            _ if self.whole.try_reserve(bytes.len()).is_ok() => {
                self.whole.extend_from_slice(bytes);
                Flow::More
            }
            _ => {
                // What the entry needs must find memory.
                self.whole = Vec::new();
                self.cut = Some(lenient::no_memory());
                Flow::Stop
            }
        }
    }
}

impl StreamedAnswer {
    fn event(&mut self, data: &[u8], listener: &mut dyn Listener, limits: &Limits) -> Flow {
        if stream::is_done(data) {
            self.done = true;
            return Flow::Enough;
        }
        if data.trim_ascii().is_empty() {
            return Flow::More;
        }
        // Before it's parsed: a single event can hold it all.
        let weight = lenient::weight(data);
        if let Err(too_large) = lenient::check_room(data.len(), weight, self.weight) {
            self.cut = Some(too_large);
            return Flow::Stop;
        }
        self.weight += weight;
        let mut room = Vec::new();
        let chunk = match lenient::parse(data, &mut room) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.fault = Some(response::unreadable(data, &error));
                return Flow::Stop;
            }
        };
        // Callbacks take their time, and many events may have come at once.
        if let Some(reached) = limits.reached() {
            self.cut = Some(reached.into());
            return Flow::Stop;
        }
        if self.first_token.is_none() && stream::brings_tokens(&chunk) {
            self.first_token = Some(Instant::now());
        }
        let text = stream::delta_text(&chunk);
        self.text.push_str(&text);
        let goes_on = listener.chunk(data) && (text.is_empty() || listener.delta(&text));
        self.fault = match goes_on {
            true => response::error_inside(&chunk),
            false => Some(Fault::cancelled()),
        };
        self.assembly.add(chunk);
        if self.fault.is_none() {
            Flow::More
        } else {
            Flow::Stop
        }
    }

    /// `done`: the end marker stands at the end, without the empty line that should follow it.
    fn end(self, done: bool, cut: Option<Fault>) -> Try {
        let value = self.assembly.finish();
        let cut = self.cut.or(cut);
        let (fault, outcome) = match (self.fault, cut) {
            (Some(fault), _) if fault.is_cancelled() => (Some(fault), Outcome::Unknown),
            (Some(fault), _) => (Some(fault), Outcome::Answered),
            (None, _) if self.done || done => (response::fault_of(&value), Outcome::Answered),
            // Never tried again: the host has heard a part of it.
            (None, Some(cut)) => (
                Some(Fault {
                    retry: retry::Kind::Never,
                    ..cut
                }),
                Outcome::Unknown,
            ),
            (None, None) => {
                let message = "the stream ended without its end marker ([DONE])";
                (
                    Some(Fault::invalid("IncompleteResponse", message)),
                    Outcome::Unknown,
                )
            }
        };
        let mut completion = response::completion(&value);
        // What was heard is what counts, whatever the server says at the end.
        if !self.text.is_empty() {
            completion.text = self.text;
        }
        Try {
            completion,
            fault,
            body: Some(value.to_string().into_bytes()),
            first_token: self.first_token,
            outcome,
            ..Try::default()
        }
    }
}
