//! Chat calls over HTTP, each within the life that the logger gives it.

mod request;
mod response;
mod retry;
mod transport;

use std::time::{Duration, Instant, SystemTime};

use ureq::http::HeaderMap;
use uuid::Uuid;

use crate::config::{CallOptions, Config};
use crate::entry::{Attempt, Details};
use crate::error::{Error, Status};
use crate::hash::Digest;
use crate::logger::{Logger, Outcome, Pending, Subject};

pub use request::ChatRequest;
use request::Prepared;
pub use request::object;
pub use response::Completion;
use response::Fault;
use transport::{Failure, FailureKind, Limits, Transport};

/// Makes chat calls to the configured server.
pub struct Client {
    config: Config,
    transport: Transport,
}

/// Whether the server did what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nothing of the request left, in any attempt.
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

/// What a call comes to.
#[derive(Debug)]
pub struct Chat {
    /// `Ok`, or what the C function is to return.
    pub status: Status,
    /// The answer, or the class of the error and its message.
    pub result: Result<Completion, (&'static str, String)>,
    /// The last response's body, as far as it came.
    pub body: Vec<u8>,
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
struct Try {
    result: Result<Completion, Fault>,
    status: Option<u16>,
    headers: HeaderMap,
    body: Vec<u8>,
    sent: Sent,
}

impl Client {
    /// A client for the configured server.
    pub fn new(config: Config) -> Client {
        let transport = Transport::new(config.max_response_bytes);
        Client { config, transport }
    }

    /// Makes a call. An `Err` is a call that never began: nothing was sent or logged.
    pub fn chat(&self, logger: &Logger, request: &ChatRequest<'_>) -> Result<Chat, Error> {
        let prepared = Prepared::new(request, &self.config)?;
        let pending = logger.begin(Subject {
            user_id: request.user_id,
            model: prepared.model,
            prompt_hash: prepared.prompt_hash,
            metadata: prepared.metadata.as_deref(),
        })?;
        let (last, attempts) = self.run(&prepared, &pending);
        Ok(finish(pending, &prepared, last, &attempts))
    }

    /// Tries until there is an answer, an error that trying again can't help, or no time.
    fn run(&self, prepared: &Prepared<'_>, pending: &Pending<'_>) -> (Try, Vec<Attempt>) {
        let mut attempts = Vec::new();
        #[cfg(feature = "faults")]
        #[allow(clippy::panic)]
        if std::env::var_os("AUDIT_LOGGER_PANIC").is_some() {
            panic!("a panic on demand");
        }
        let key = match &prepared.options.api_key {
            Some(key) => Ok(key.clone()),
            None if has_credentials(&prepared.options) => Err(None),
            None => self.config.api_key().map_err(Some),
        };
        let authorization = match key {
            Ok(key) => Some(key),
            Err(None) => None,
            // The class that the openai client raises without a key.
            Err(Some(message)) => return (Try::failed("OpenAIError", message), attempts),
        };
        let limits = Limits {
            // Never beyond what an Instant can hold: the configuration bounds it to a day.
            deadline: pending.started() + prepared.options.timeout,
            idle: prepared.options.idle_timeout,
            connect: self.config.connect_timeout,
            stop: pending.stop().fd(),
        };
        let request = transport::Request {
            url: &self.config.url,
            authorization: authorization.as_ref(),
            headers: &prepared.options.headers,
            body: &prepared.body,
        };
        let mut sent_before = Sent::No;
        loop {
            let mut tried = self.attempt(&request, &limits);
            // What an earlier attempt left open, a later one that never left doesn't settle.
            if tried.sent == Sent::No {
                tried.sent = sent_before;
            }
            sent_before = tried.sent;
            let wait = match &tried.result {
                Err(fault) if attempts.len() < prepared.options.max_retries => retry::wait(
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
                error_type: tried.result.as_ref().err().map(|fault| fault.class),
                wait_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            });
            match wait {
                None => return (tried, attempts),
                Some(wait) => {
                    if limits.sleep(wait).is_err() {
                        tried.result = Err(Fault::cancelled());
                        return (tried, attempts);
                    }
                }
            }
        }
    }

    fn attempt(&self, request: &transport::Request<'_>, limits: &Limits) -> Try {
        match self.transport.exchange(request, limits) {
            Ok(answer) => {
                let whole = answer.cut.is_none();
                let result = match answer.cut {
                    // A refusal is clear from its status, however much of its text came.
                    Some(failure) if answer.status < 400 => Err(failure.into()),
                    _ => response::read(answer.status, &answer.headers, &answer.body),
                };
                Try {
                    result,
                    status: Some(answer.status),
                    headers: answer.headers,
                    body: answer.body,
                    sent: if whole || answer.status >= 400 {
                        Sent::Answered
                    } else {
                        Sent::Unknown
                    },
                }
            }
            Err(failure) => Try {
                sent: if failure.sent {
                    Sent::Unknown
                } else {
                    Sent::No
                },
                result: Err(failure.into()),
                status: None,
                headers: HeaderMap::new(),
                body: Vec::new(),
            },
        }
    }
}

impl Try {
    fn failed(class: &'static str, message: String) -> Try {
        Try {
            result: Err(Fault {
                class,
                message,
                provider_error_type: None,
                retry: retry::Kind::Never,
            }),
            status: None,
            headers: HeaderMap::new(),
            body: Vec::new(),
            sent: Sent::No,
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

impl Fault {
    fn cancelled() -> Fault {
        Fault {
            class: "Cancelled",
            message: "the call was cancelled".into(),
            provider_error_type: None,
            retry: retry::Kind::Never,
        }
    }
}

/// Whether the host sends credentials in a header of its own, so that no key is needed.
fn has_credentials(options: &CallOptions) -> bool {
    let names = ["authorization", "api-key", "x-api-key"];
    options
        .headers
        .iter()
        .any(|(name, _)| names.contains(&name.as_str()))
}

fn finish(pending: Pending<'_>, prepared: &Prepared<'_>, last: Try, attempts: &[Attempt]) -> Chat {
    let header_id = last
        .headers
        .get("x-generation-id")
        .and_then(|value| value.to_str().ok());
    let completion = last.result.as_ref().ok();
    let fault = last.result.as_ref().err();
    let text = completion.map_or("", |completion| completion.text.as_str());
    // An error has no tokens, as in the seed; a call whose outcome nobody knows has unknown ones.
    let no_tokens = (last.sent != Sent::Unknown).then_some(0);
    let finished = pending.finish(&Outcome {
        response_hash: Digest::of(text.as_bytes()),
        prompt_tokens: completion.map_or(no_tokens, |completion| completion.prompt_tokens),
        completion_tokens: completion.map_or(no_tokens, |completion| completion.completion_tokens),
        error_type: fault.map(|fault| fault.class),
        details: Details {
            attempts,
            http_status: last.status,
            generation_id: header_id.or(completion.and_then(|c| c.id.as_deref())),
            served_model: completion.and_then(|c| c.model.as_deref()),
            provider: completion.and_then(|c| c.provider.as_deref()),
            finish_reason: completion.and_then(|c| c.finish_reason.as_deref()),
            cost: completion.and_then(|c| c.cost.as_ref()),
            cached_tokens: completion.and_then(|c| c.cached_tokens),
            reasoning_tokens: completion.and_then(|c| c.reasoning_tokens),
            usage_reported: completion
                .map(|c| c.prompt_tokens.is_some() && c.completion_tokens.is_some()),
            prompt_form: Some(prepared.prompt_form),
            provider_error_type: fault.and_then(|fault| fault.provider_error_type.as_deref()),
            outcome: Some(last.sent.name()),
            request_hash: Some(Digest::of(&prepared.body)),
            response_body_hash: last.status.map(|_| Digest::of(&last.body)),
            ..Details::default()
        },
    });

    let status = match (&finished.written, fault) {
        (Err(_), _) => Status::LogPending,
        (Ok(()), None) => Status::Ok,
        (Ok(()), Some(fault)) if fault.class == "Cancelled" => Status::Cancelled,
        (Ok(()), Some(_)) => Status::Call,
    };
    let mut provider_error_type = None;
    let result = last.result.map_err(|fault| {
        provider_error_type = fault.provider_error_type;
        (fault.class, fault.message)
    });
    Chat {
        status,
        result,
        body: last.body,
        http_status: last.status,
        provider_error_type,
        retry_after: retry::asked(&last.headers, SystemTime::now()),
        attempts: attempts.len(),
        sent: last.sent,
        entry: (finished.line.id(), finished.line.into_text()),
    }
}
