//! Chat calls over HTTP, each within the life that the logger gives it.

mod answer;
mod coding;
mod connect;
mod content;
mod fault;
#[cfg(test)]
mod fuzz;
mod incoming;
mod limits;
mod message;
mod post;
mod reception;
mod request;
mod resolve;
mod retry;
mod run;
mod socket;
mod sse;
mod tls;
mod transport;
mod tree;
mod value;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;

use crate::config::Config;
use crate::error::{Error, Status};
use crate::format::entry::{Attempt, Details, Line, Name, Outcome};
use crate::hash::{ContentHash, Hashing};
use crate::logger::{Ending, Logger, Pending, Running, Subject};
use crate::sys::Event;

pub use answer::Completion;
pub use fault::Fault;
pub use limits::Cut;
pub use post::Post;
pub use reception::Said;
pub use request::ChatRequest;
use request::Prepared;
pub use run::Run;
use transport::Transport;

/// Makes chat calls to the configured server.
pub struct Client {
    config: Config,
    transport: Transport,
}

/// A call that is checked, and counted as running.
pub struct Call<'a> {
    prepared: Prepared<'a>,
    running: Running,
    /// `None` is by its timeout, from when it begins.
    deadline: Option<Instant>,
}

/// What a call comes to.
pub struct Chat {
    /// `Ok`, or what the C function is to return.
    pub status: Status,
    /// The last attempt, which decides.
    pub last: Try,
    /// How often the request was tried.
    pub attempts: usize,
    /// The entry.
    pub line: Line,
    /// Why the entry waits, if it does.
    pub log_error: Option<Error>,
}

/// Which pieces of an answer are heard as they come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// None.
    #[default]
    None,
    /// Its text.
    Deltas,
    /// The payload of each of the server's events.
    Chunks,
    /// Both.
    All,
}

/// What one attempt came to.
#[derive(Default)]
pub struct Try {
    /// The answer, or the part of it that came.
    pub completion: Completion,
    /// Why the attempt failed, if it did.
    pub fault: Option<Fault>,
    /// Of the response.
    pub status: Option<u16>,
    headers: HeaderMap,
    /// The response's body, as far as it came; of a stream, what it adds up to.
    pub body: Option<Vec<u8>>,
    body_hash: Option<ContentHash>,
    first_token: Option<Instant>,
    /// How far it came.
    pub outcome: Outcome,
    /// Whether it came as a stream, and what ended that.
    streamed: bool,
    stream_end: Option<&'static str>,
}

impl Pieces {
    fn deltas(self) -> bool {
        matches!(self, Pieces::Deltas | Pieces::All)
    }

    fn chunks(self) -> bool {
        matches!(self, Pieces::Chunks | Pieces::All)
    }
}

impl Client {
    /// A client for the configured server.
    pub fn new(config: Config) -> Client {
        let transport = Transport::new(transport::Settings {
            url: config.url.clone(),
            proxy: config.proxy.clone(),
            trust: config.trust.clone(),
            max_response_bytes: config.max_response_bytes,
        });
        Client { config, transport }
    }

    /// Makes a call of which nothing is heard before its end, until `cancel` happens. An `Err` is a
    /// call that never began: nothing was sent or logged.
    pub fn chat(
        &self,
        logger: &Arc<Logger>,
        request: &ChatRequest<'_>,
        stream: bool,
        cancel: Option<&Event>,
    ) -> Result<Chat, Error> {
        let mut run = self.start(logger, request, stream, Pieces::None, cancel)?;
        let mut nothing = Said::default();
        while run.proceed(self) {
            while run.hear(self, &mut nothing) {}
        }
        run.finish(self)
    }

    /// Checks a call, from which on its logger counts it as running.
    pub fn prepare<'a>(
        &'a self,
        logger: &Arc<Logger>,
        request: &ChatRequest<'a>,
        stream: bool,
    ) -> Result<Call<'a>, Error> {
        Ok(Call {
            prepared: Prepared::new(request, stream, &self.config)?,
            running: logger.enter()?,
            deadline: None,
        })
    }

    /// Checks a call and begins it, as [`Client::begin`] does, unless it's cancelled already.
    pub fn start<'a>(
        &'a self,
        logger: &Arc<Logger>,
        request: &ChatRequest<'a>,
        stream: bool,
        wants: Pieces,
        cancel: Option<&Event>,
    ) -> Result<Run<'a>, Error> {
        let call = self.prepare(logger, request, stream)?;
        if cancel.is_some_and(Event::has_happened) {
            return Err(Error::new(
                Status::Cancelled,
                "cancelled before it began: nothing was sent",
            ));
        }
        self.begin(call, wants, cancel)
    }

    /// Begins a call, of which pieces are to be heard, until `cancel` happens, which must live as
    /// long as the run. An `Err` is a call that never began: nothing was sent or logged.
    pub fn begin<'a>(
        &self,
        call: Call<'a>,
        wants: Pieces,
        cancel: Option<&Event>,
    ) -> Result<Run<'a>, Error> {
        let deadline = call.deadline;
        let (prepared, pending) = call.begin()?;
        Ok(Run::new(self, prepared, pending, deadline, wants, cancel))
    }

    /// Leaves the entry of a call that ends before anything of it is sent.
    pub fn abandon(&self, call: Call<'_>, why: Cut) -> Result<Chat, Error> {
        let (prepared, pending) = call.begin()?;
        let last = Try {
            fault: Some(why.into()),
            ..Try::default()
        };
        let details = prepared.details();
        Ok(finish(&self.config.hashing, pending, details, last, &[]))
    }
}

impl<'a> Call<'a> {
    /// The same, for another time and thread: its deadline counts from now on.
    pub fn into_owned(self) -> Call<'static> {
        Call {
            deadline: Some(self.prepared.deadline(Instant::now())),
            prepared: self.prepared.into_owned(),
            running: self.running,
        }
    }

    /// Until when it may take.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Writes down that it's about to be made.
    fn begin(self) -> Result<(Prepared<'a>, Pending), Error> {
        let prepared = self.prepared;
        let subject = Subject {
            event_type: None,
            user_id: &prepared.user_id,
            model: &prepared.model,
            prompt_hash: prepared.prompt_hash,
            metadata: prepared.metadata.as_deref(),
        };
        let pending = self.running.begin(&subject, prepared.details())?;
        Ok((prepared, pending))
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value).filter(|value| !value.is_empty())
}

impl Try {
    /// What the server asked to wait before the next call.
    pub fn retry_after(&self) -> Option<Duration> {
        retry::retry_after(&self.headers, SystemTime::now())
    }

    /// Takes the key out of what the server repeats, before that reaches the log or a message.
    fn redact(&mut self, key: &str) {
        // What is shorter is a placeholder ("none"), which innocent words hold too.
        const SHORTEST_KEY: usize = 12;
        if key.len() < SHORTEST_KEY {
            return;
        }
        let answer = &mut self.completion;
        let mut texts = vec![
            &mut answer.id,
            &mut answer.model,
            &mut answer.provider,
            &mut answer.finish_reason,
            &mut answer.native_finish_reason,
            &mut answer.system_fingerprint,
            &mut answer.service_tier,
        ];
        if let Some(fault) = &mut self.fault {
            texts.push(&mut fault.provider_error_type);
            texts.push(&mut fault.provider_error_code);
        }
        for text in texts {
            text.take_if(|text| text.contains(key));
        }
        for name in NAMED {
            if header(&self.headers, name).is_some_and(|value| value.contains(key)) {
                self.headers.remove(name);
            }
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

/// Headers that name a request, and say what a gateway did with it.
const NAMED: [&str; 4] = [
    "x-request-id",
    "x-litellm-model-name",
    "x-litellm-response-cost",
    "x-litellm-call-id",
];

/// The form in which the log shows a text of the server's.
fn named<'t>(text: Option<&'t str>, hashing: &Hashing) -> Option<Name<'t>> {
    text.map(|text| Name::of(text, hashing))
}

fn finish(
    hashing: &Hashing,
    pending: Pending,
    known: Details<'_>,
    last: Try,
    attempts: &[Attempt],
) -> Chat {
    let (answer, fault) = (&last.completion, last.fault.as_ref());
    // An error has no tokens, as in the seed; but a call whose outcome nobody knows, a stream that
    // began, or an answer that reports none, has unknown ones.
    let is_known = last.outcome != Outcome::Unknown && !last.streamed;
    let without = (fault.is_some() && is_known).then_some(0);
    let [request_id, gateway_model, gateway_cost, gateway_call_id] =
        NAMED.map(|name| header(&last.headers, name));
    let hash = |bytes: &[u8]| hashing.of(bytes);
    let calls = answer.tool_calls.as_ref();
    let finished = pending.finish(&Ending {
        response_hash: hash(answer.text.as_bytes()),
        prompt_tokens: answer.prompt_tokens.or(without),
        completion_tokens: answer.completion_tokens.or(without),
        error_type: fault.map(|fault| fault.class),
        first_token: last.first_token,
        details: Details {
            attempts,
            http_status: last.status,
            generation_id: named(answer.id.as_deref(), hashing),
            served_model: named(answer.model.as_deref(), hashing),
            provider: named(answer.provider.as_deref(), hashing),
            finish_reason: named(answer.finish_reason.as_deref(), hashing),
            cost: answer.cost,
            cached_tokens: answer.cached_tokens,
            reasoning_tokens: answer.reasoning_tokens,
            usage_reported: last
                .status
                .map(|_| answer.prompt_tokens.is_some() && answer.completion_tokens.is_some()),
            provider_error_type: fault
                .and_then(|fault| named(fault.provider_error_type.as_deref(), hashing)),
            outcome: Some(last.outcome),
            response_body_hash: last.body_hash,
            native_finish_reason: named(answer.native_finish_reason.as_deref(), hashing),
            refusal_hash: answer.refusal.as_ref().map(|text| hash(text.as_bytes())),
            tool_calls: calls.map(|(count, _)| *count),
            tool_calls_hash: calls.map(|(_, canonical)| hash(canonical)),
            cache_write_tokens: answer.cache_write_tokens,
            is_byok: answer.is_byok,
            upstream_cost: answer.upstream_cost,
            system_fingerprint: named(answer.system_fingerprint.as_deref(), hashing),
            service_tier: named(answer.service_tier.as_deref(), hashing),
            request_id: named(request_id, hashing),
            gateway_model: named(gateway_model, hashing),
            gateway_cost: gateway_cost.and_then(|cost| cost.parse().ok()),
            gateway_call_id: named(gateway_call_id, hashing),
            provider_error_code: fault
                .and_then(|fault| named(fault.provider_error_code.as_deref(), hashing)),
            stream_end: last.stream_end,
            ..known
        },
    });
    let log_error = finished.written.err();
    let status = match fault {
        _ if log_error.is_some() => Status::LogPending,
        None => Status::Ok,
        Some(fault) if fault.is_cancelled() => Status::Cancelled,
        Some(_) => Status::Call,
    };
    Chat {
        status,
        last,
        attempts: attempts.len(),
        line: finished.line,
        log_error,
    }
}
