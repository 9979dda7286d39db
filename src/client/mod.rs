//! Chat calls over HTTP, each within the life that the logger gives it.

#[cfg(test)]
mod fuzz;
mod lenient;
mod reception;
mod request;
mod resolve;
mod response;
mod retry;
mod stream;
mod transport;
mod value;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::HeaderMap;

use crate::config::Config;
use crate::error::{Error, Status};
use crate::format::entry::{Attempt, Details, Line, Outcome};
use crate::hash::{ContentHash, Hashing};
use crate::logger::{Ending, Logger, Pending, Subject};
use crate::sys::Event;

pub use reception::Listener;
use reception::Reception;
pub use request::ChatRequest;
use request::Prepared;
pub use response::{Completion, Fault};
use transport::{Failure, FailureKind, Limits, Transport};

/// Makes chat calls to the configured server.
pub struct Client {
    config: Config,
    transport: Transport,
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
        logger: &Arc<Logger>,
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
        let subject = Subject {
            event_type: None,
            user_id: request.user_id,
            model: prepared.model,
            prompt_hash: prepared.prompt_hash,
            metadata: prepared.metadata.as_deref(),
        };
        let known = prepared.details(listener.is_some());
        let pending = logger.begin(&subject, known.clone())?;
        let mut attempts = Vec::new();
        let last = self.run(&prepared, &pending, &mut listener, cancel, &mut attempts);
        if pending.is_the_parents() {
            return Err(Error::new(
                Status::Forked,
                "the process was forked in a callback, and this is the child: the parent finishes the call",
            ));
        }
        Ok(finish(
            &self.config.hashing,
            pending,
            known,
            last,
            &attempts,
        ))
    }

    /// Tries until there is an answer, an error that trying again can't help, or no time.
    fn run(
        &self,
        prepared: &Prepared<'_>,
        pending: &Pending,
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
        let mut before = Outcome::NotSent;
        loop {
            let mut tried = self.attempt(&request, &limits, listener);
            if let Some(key) = &authorization {
                tried.redact(key.expose());
            }
            for credential in prepared.options.credentials() {
                tried.redact(credential);
            }
            // What an earlier attempt left open, a later one that never left doesn't settle.
            if tried.outcome == Outcome::NotSent {
                tried.outcome = before;
            }
            before = tried.outcome;
            let wait = match &tried.fault {
                Some(fault) if attempts.len() < prepared.options.max_retries => retry::delay(
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
        let mut reception = Reception::new(listener, limits, self.config.hashing.hasher());
        let response = match self.transport.exchange(request, limits, &mut reception) {
            Ok(response) => response,
            Err(failure) => {
                return Try {
                    outcome: if failure.sent {
                        Outcome::Unknown
                    } else {
                        Outcome::NotSent
                    },
                    fault: Some(failure.into()),
                    ..Try::default()
                };
            }
        };
        let cut = response.cut.map(Fault::from);
        let mut tried = reception.end(response.status, &response.headers, cut);
        let named = response
            .headers
            .get("x-generation-id")
            .and_then(|value| value.to_str().ok());
        if let Some(id) = named {
            tried.completion.id = Some(id.to_owned());
        }
        Try {
            status: Some(response.status),
            headers: response.headers,
            ..tried
        }
    }
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

fn finish(
    hashing: &Hashing,
    pending: Pending,
    known: Details<'_>,
    last: Try,
    attempts: &[Attempt],
) -> Chat {
    let (completion, fault) = (&last.completion, last.fault.as_ref());
    // An error has no tokens, as in the seed; but a call whose outcome nobody knows, or an answer
    // that reports none, has unknown ones.
    let without = (fault.is_some() && last.outcome != Outcome::Unknown).then_some(0);
    let finished = pending.finish(&Ending {
        response_hash: hashing.of(completion.text.as_bytes()),
        prompt_tokens: completion.prompt_tokens.or(without),
        completion_tokens: completion.completion_tokens.or(without),
        error_type: fault.map(|fault| fault.class),
        first_token: last.first_token,
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
            provider_error_type: fault.and_then(|fault| fault.provider_error_type.as_deref()),
            outcome: Some(last.outcome),
            response_body_hash: last.body_hash,
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
