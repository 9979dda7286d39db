//! Chat calls over HTTP, each within the life that the logger gives it.

#[cfg(test)]
mod fuzz;
mod lenient;
mod request;
mod resolve;
mod response;
mod retry;
mod stream;
mod transport;

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::http::HeaderMap;
use uuid::Uuid;

use crate::config::Config;
use crate::entry::{Attempt, Details};
use crate::error::{Error, Status};
use crate::hash::{Digest, Hasher};
use crate::logger::{Logger, Outcome, Pending, Subject};
use crate::sys::Event;

pub use request::ChatRequest;
use request::Prepared;
pub use request::object;
pub use response::Completion;
use response::Fault;
use stream::{Assembly, Events};
use transport::{Failure, FailureKind, Flow, Limits, Transport};

/// Makes chat calls to the configured server.
pub struct Client {
    config: Config,
    transport: Transport,
}

/// Whether the server did what was asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nothing of the request left, in any attempt.
    #[default]
    No,
    /// The last attempt was answered in full.
    Answered,
    /// The request, or a part of it, left, and no whole answer came: it may have been processed
    /// and billed.
    Unknown,
}

impl Sent {
    fn name(self) -> &'static str {
        match self {
            Sent::No => "not_sent",
            Sent::Answered => "answered",
            Sent::Unknown => "unknown",
        }
    }
}

/// Hears a streamed answer as it comes. Each returns whether to go on.
pub trait Listener {
    /// Text that was added to the answer.
    fn delta(&mut self, text: &str) -> bool;
    /// The payload of an event, as it was sent.
    fn chunk(&mut self, json: &[u8]) -> bool;
}

/// What a call comes to.
#[derive(Debug)]
pub struct Chat {
    /// `Ok`, or what the C function is to return.
    pub status: Status,
    /// The answer, or the part of it that came.
    pub completion: Completion,
    /// The class of the error and its message, if the call failed.
    pub error: Option<(&'static str, String)>,
    /// Why the entry waits, if it does.
    pub log_error: Option<String>,
    /// The last response's body, as far as it came; of a stream, what it adds up to.
    pub body: Option<Vec<u8>>,
    /// Of the last response.
    pub http_status: Option<u16>,
    /// The provider's own class of the error.
    pub provider_error_type: Option<String>,
    /// What the server asked to wait, in the last response.
    pub retry_after: Option<Duration>,
    /// How often the request was tried.
    pub attempts: usize,
    /// How far it came.
    pub sent: Sent,
    /// The entry's id and line.
    pub entry: (Uuid, Vec<u8>),
}

/// What one attempt came to.
#[derive(Default)]
struct Try {
    completion: Completion,
    fault: Option<Fault>,
    status: Option<u16>,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    body_hash: Option<Digest>,
    first_token: Option<Instant>,
    sent: Sent,
}

impl Client {
    /// A client for the configured server.
    pub fn new(config: Config) -> Client {
        let transport = Transport::new(transport::Settings {
            max_response_bytes: config.max_response_bytes,
            proxy: config.proxy.clone(),
            roots: config.roots.clone(),
        });
        Client { config, transport }
    }

    /// Makes a call, streamed if somebody listens, until `cancel` happens. An `Err` is a call that
    /// never began: nothing was sent or logged.
    pub fn chat(
        &self,
        logger: &Logger,
        request: &ChatRequest<'_>,
        mut listener: Option<&mut dyn Listener>,
        cancel: Option<&Event>,
    ) -> Result<Chat, Error> {
        let prepared = Prepared::new(request, listener.is_some(), &self.config)?;
        if cancel.is_some_and(Event::has_happened) {
            return Err(Error::new(
                Status::Cancelled,
                "cancelled before it began: nothing was sent",
            ));
        }
        let pending = logger.begin(Subject {
            user_id: request.user_id,
            model: prepared.model,
            prompt_hash: prepared.prompt_hash,
            metadata: prepared.metadata.as_deref(),
        })?;
        let mut attempts = Vec::new();
        let last = self.run(&prepared, &pending, &mut listener, cancel, &mut attempts);
        if pending.is_the_parents() {
            return Err(Error::new(
                Status::Forked,
                "the process was forked in a callback, and this is the child: the parent finishes the call",
            ));
        }
        Ok(finish(
            pending,
            &prepared,
            listener.is_some(),
            last,
            &attempts,
        ))
    }

    /// Tries until there is an answer, an error that trying again can't help, or no time.
    fn run(
        &self,
        prepared: &Prepared<'_>,
        pending: &Pending<'_>,
        listener: &mut Option<&mut dyn Listener>,
        cancel: Option<&Event>,
        attempts: &mut Vec<Attempt>,
    ) -> Try {
        #[cfg(feature = "faults")]
        #[allow(clippy::panic)]
        if std::env::var_os("AUDIT_LOGGER_PANIC").is_some() {
            panic!("a panic on demand");
        }
        let authorization = match &prepared.options.api_key {
            Some(key) => Some(key.clone()),
            None if prepared.options.has_credentials() => None,
            None => match self.config.api_key() {
                Ok(key) => Some(key),
                Err(message) => {
                    // The class that the openai client raises without a key.
                    let fault = Some(Fault::invalid("OpenAIError", message));
                    return Try {
                        fault,
                        ..Try::default()
                    };
                }
            },
        };
        let limits = Limits {
            // Never beyond what an Instant can hold: the configuration bounds it to a day.
            deadline: pending.started() + prepared.options.timeout,
            idle: prepared.options.idle_timeout,
            connect: self.config.connect_timeout,
            stop: [pending.stop().fd(), cancel.map_or(-1, Event::fd)],
        };
        let request = transport::Request {
            url: &self.config.url,
            authorization: authorization.as_ref(),
            headers: &prepared.options.headers,
            body: &prepared.body,
        };
        let mut sent_before = Sent::No;
        loop {
            let mut tried = self.attempt(&request, &limits, listener);
            if let Some(key) = &authorization {
                tried.redact(key.expose());
            }
            // What an earlier attempt left open, a later one that never left doesn't settle.
            if tried.sent == Sent::No {
                tried.sent = sent_before;
            }
            sent_before = tried.sent;
            let wait = match &tried.fault {
                Some(fault) if attempts.len() < prepared.options.max_retries => retry::wait(
                    fault.retry,
                    attempts.len(),
                    &tried.headers,
                    SystemTime::now(),
                ),
                _ => None,
            };
            // No use in waiting for a moment when the call's time is over.
            let wait = wait.filter(|wait| Instant::now() + *wait < limits.deadline);
            attempts.push(Attempt {
                http_status: tried.status,
                error_type: tried.fault.as_ref().map(|fault| fault.class),
                wait_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            });
            let Some(wait) = wait else {
                return tried;
            };
            if limits.sleep(wait).is_err() {
                tried.fault = Some(Fault::cancelled());
                return tried;
            }
        }
    }

    fn attempt(
        &self,
        request: &transport::Request<'_>,
        limits: &Limits,
        listener: &mut Option<&mut dyn Listener>,
    ) -> Try {
        let mut body = Reception::new(listener);
        let answer = match self
            .transport
            .exchange(request, limits, |status, headers, bytes| {
                body.take(status, headers, bytes)
            }) {
            Ok(answer) => answer,
            Err(failure) => {
                return Try {
                    sent: if failure.sent {
                        Sent::Unknown
                    } else {
                        Sent::No
                    },
                    fault: Some(failure.into()),
                    ..Try::default()
                };
            }
        };
        let cut = answer.cut.map(Fault::from);
        let mut tried = body.end(answer.status, &answer.headers, cut);
        let named = answer
            .headers
            .get("x-generation-id")
            .and_then(|value| value.to_str().ok());
        if let Some(id) = named {
            tried.completion.id = Some(id.to_owned());
        }
        tried.status = Some(answer.status);
        tried.headers = answer.headers;
        tried
    }
}

impl Try {
    /// Takes the key out of what the server repeats, before that reaches the log or a message.
    fn redact(&mut self, key: &str) {
        // What is shorter is a placeholder ("none"), which innocent words hold too.
        const SHORTEST_KEY: usize = 12;
        if key.len() < SHORTEST_KEY {
            return;
        }
        let Completion {
            id,
            model,
            provider,
            finish_reason,
            ..
        } = &mut self.completion;
        let provider_error_type = self
            .fault
            .as_mut()
            .map(|fault| &mut fault.provider_error_type);
        for text in [id, model, provider, finish_reason]
            .into_iter()
            .chain(provider_error_type)
        {
            text.take_if(|text| text.contains(key));
        }
        if let Some(fault) = self
            .fault
            .as_mut()
            .filter(|fault| fault.message.contains(key))
        {
            fault.message = fault.message.replace(key, "[key]");
        }
    }
}

/// The body of an answer as it comes in: kept whole, or heard as a stream.
struct Reception<'l, 'h> {
    listener: &'l mut Option<&'h mut dyn Listener>,
    hash: Hasher,
    whole: Vec<u8>,
    stream: Option<Stream>,
}

#[derive(Default)]
struct Stream {
    events: Events,
    assembly: Assembly,
    first_token: Option<Instant>,
    done: bool,
    fault: Option<Fault>,
}

impl<'l, 'h> Reception<'l, 'h> {
    fn new(listener: &'l mut Option<&'h mut dyn Listener>) -> Self {
        Reception {
            listener,
            hash: Hasher::default(),
            whole: Vec::new(),
            stream: None,
        }
    }

    /// A refusal isn't streamed, and some servers don't stream at all.
    fn is_stream(&self, status: u16, headers: &HeaderMap) -> bool {
        self.listener.is_some()
            && (200..300).contains(&status)
            && response::media_type(headers).starts_with("text/event-stream")
    }

    fn take(&mut self, status: u16, headers: &HeaderMap, bytes: &[u8]) -> Flow {
        if self.hash.is_empty() && self.is_stream(status, headers) {
            self.stream = Some(Stream::default());
        }
        self.hash.update(bytes);
        match (&mut self.stream, self.listener.as_deref_mut()) {
            (Some(stream), Some(listener)) => stream.take(bytes, listener),
            _ => {
                self.whole.extend_from_slice(bytes);
                Flow::More
            }
        }
    }

    fn end(mut self, status: u16, headers: &HeaderMap, cut: Option<Fault>) -> Try {
        if self.hash.is_empty() && self.is_stream(status, headers) {
            self.stream = Some(Stream::default());
        }
        let body_hash = Some(self.hash.finish());
        if let Some(stream) = self.stream {
            return Try {
                body_hash,
                ..stream.end(cut)
            };
        }
        let (completion, fault) = response::read(status, headers, &self.whole);
        // A refusal is clear from its status, however much of its text came.
        let cut = cut.filter(|_| status < 400);
        let sent = if cut.is_some() {
            Sent::Unknown
        } else {
            Sent::Answered
        };
        let mut tried = Try {
            fault: cut.or(fault),
            body_hash,
            sent,
            ..Try::default()
        };
        if let (None, Some(listener)) = (&tried.fault, self.listener.as_deref_mut()) {
            // The server answered in one piece: so is it heard.
            tried.first_token = Some(Instant::now());
            let goes_on = listener.chunk(&self.whole)
                && (completion.text.is_empty() || listener.delta(&completion.text));
            if !goes_on {
                tried.fault = Some(Fault::cancelled());
            }
        }
        // Of an answer that was cut off nothing is known for certain.
        if tried.sent == Sent::Answered {
            tried.completion = completion;
        }
        tried.body = Some(self.whole);
        tried
    }
}

impl Stream {
    fn take(&mut self, bytes: &[u8], listener: &mut dyn Listener) -> Flow {
        let mut events = std::mem::take(&mut self.events);
        let flow = events.push(bytes, |data| match self.event(data, listener) {
            Flow::More => Ok(()),
            other => Err(other),
        });
        self.events = events;
        flow.err().unwrap_or(Flow::More)
    }

    fn event(&mut self, data: &[u8], listener: &mut dyn Listener) -> Flow {
        if stream::is_done(data) {
            self.done = true;
            return Flow::Enough;
        }
        if data.trim_ascii().is_empty() {
            return Flow::More;
        }
        let chunk: Value = match lenient::parse(data) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.fault = Some(response::unreadable(data, &error));
                return Flow::Stop;
            }
        };
        if self.first_token.is_none() && stream::brings_tokens(&chunk) {
            self.first_token = Some(Instant::now());
        }
        let goes_on = listener.chunk(data)
            && stream::delta_text(&chunk).is_none_or(|text| listener.delta(text));
        let fault = response::error_inside(&chunk);
        self.assembly.add(chunk);
        if !goes_on {
            self.fault = Some(Fault::cancelled());
        } else if fault.is_some() {
            self.fault = fault;
        } else {
            return Flow::More;
        }
        Flow::Stop
    }

    fn end(self, cut: Option<Fault>) -> Try {
        // The last line end may be missing.
        let done = self.done
            || self
                .events
                .rest()
                .is_some_and(|data| stream::is_done(&data));
        let value = self.assembly.finish();
        let (fault, sent) = match (self.fault, cut) {
            (Some(fault), _) if fault.class == CANCELLED => (Some(fault), Sent::Unknown),
            (Some(fault), _) => (Some(fault), Sent::Answered),
            (None, _) if done => (response::fault_of(&value), Sent::Answered),
            // Never tried again: the host has heard a part of it.
            (None, Some(cut)) => (
                Some(Fault {
                    retry: retry::Kind::Never,
                    ..cut
                }),
                Sent::Unknown,
            ),
            (None, None) => {
                let message = "the stream ended without its end marker ([DONE])";
                (
                    Some(Fault::invalid("IncompleteResponse", message)),
                    Sent::Unknown,
                )
            }
        };
        Try {
            completion: response::completion(&value),
            fault,
            body: Some(value.to_string().into_bytes()),
            first_token: self.first_token,
            sent,
            ..Try::default()
        }
    }
}

const CANCELLED: &str = "Cancelled";

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        let (class, retry) = match failure.kind {
            FailureKind::Timeout => ("APITimeoutError", retry::Kind::Connection),
            FailureKind::Connection => ("APIConnectionError", retry::Kind::Connection),
            FailureKind::TooLarge => ("ResponseTooLarge", retry::Kind::Never),
            FailureKind::Cancelled => return Fault::cancelled(),
        };
        Fault {
            class,
            message: failure.message,
            provider_error_type: None,
            retry,
        }
    }
}

impl Fault {
    fn cancelled() -> Fault {
        Fault::invalid(CANCELLED, "the call was cancelled")
    }
}

fn finish(
    pending: Pending<'_>,
    prepared: &Prepared<'_>,
    stream: bool,
    last: Try,
    attempts: &[Attempt],
) -> Chat {
    let Try {
        completion, fault, ..
    } = last;
    // An error has no tokens, as in the seed; but a call whose outcome nobody knows, or an answer
    // that reports none, has unknown ones.
    let without = (fault.is_some() && last.sent != Sent::Unknown).then_some(0);
    let since = |moment: Instant| moment.duration_since(pending.started()).as_micros() as f64 / 1e3;
    let outcome = Outcome {
        response_hash: Digest::of(completion.text.as_bytes()),
        prompt_tokens: completion.prompt_tokens.or(without),
        completion_tokens: completion.completion_tokens.or(without),
        error_type: fault.as_ref().map(|fault| fault.class),
        details: Details {
            attempts,
            http_status: last.status,
            generation_id: completion.id.as_deref(),
            served_model: completion.model.as_deref(),
            provider: completion.provider.as_deref(),
            finish_reason: completion.finish_reason.as_deref(),
            cost: completion.cost.as_ref(),
            cached_tokens: completion.cached_tokens,
            reasoning_tokens: completion.reasoning_tokens,
            usage_reported: last.status.map(|_| {
                completion.prompt_tokens.is_some() && completion.completion_tokens.is_some()
            }),
            time_to_first_token_ms: last.first_token.map(since),
            stream: Some(stream),
            prompt_form: Some(prepared.prompt_form),
            provider_error_type: fault
                .as_ref()
                .and_then(|f| f.provider_error_type.as_deref()),
            outcome: Some(last.sent.name()),
            request_hash: Some(Digest::of(&prepared.body)),
            response_body_hash: last.body_hash,
            ..Details::default()
        },
    };
    let finished = pending.finish(&outcome);
    let log_error = finished
        .written
        .as_ref()
        .err()
        .map(|error| error.message.clone());
    let status = match (&finished.written, &fault) {
        (Err(_), _) => Status::LogPending,
        (Ok(()), None) => Status::Ok,
        (Ok(()), Some(fault)) if fault.class == CANCELLED => Status::Cancelled,
        (Ok(()), Some(_)) => Status::Call,
    };
    let retry_after = retry::asked(&last.headers, SystemTime::now());
    let (error, provider_error_type) = match fault {
        None => (None, None),
        Some(fault) => (
            Some((fault.class, fault.message)),
            fault.provider_error_type,
        ),
    };
    Chat {
        status,
        completion,
        error,
        log_error,
        body: last.body,
        http_status: last.status,
        provider_error_type,
        retry_after,
        attempts: attempts.len(),
        sent: last.sent,
        entry: (finished.line.id(), finished.line.into_text()),
    }
}
