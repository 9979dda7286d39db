//! One call that runs: it is tried until there is an answer, an error that trying again can't help,
//! or no time.
//!
//! Whoever makes it goes from one step to the next, and hears between two of them what came. So a
//! call that waits for its host stands here whole, and not on the host's stack: if the host never
//! comes back to it, somebody else ends it.

use std::cell::Cell;
use std::mem;
use std::time::{Duration, Instant, SystemTime};

use super::fault::Fault;
use super::limits::{Limits, Phase};
use super::reception::{Reception, Said};
use super::request::Prepared;
use super::socket::At;
use super::sse::Flow;
use super::transport::{End, Exchange, Request};
use super::{Chat, Client, Pieces, Try, finish, header, retry};
use crate::config::Secret;
use crate::error::{Error, Status};
use crate::format::entry::{Attempt, Outcome};
use crate::logger::Pending;
use crate::sys::Event;

/// A call that runs.
pub struct Run<'a> {
    prepared: Prepared<'a>,
    pending: Pending,
    wants: Pieces,
    authorization: Option<Secret>,
    at: At,
    attempts: Vec<Attempt>,
    /// How far the attempts before came.
    before: Outcome,
    stage: Stage,
}

enum Stage {
    /// The request is to be sent, for the first time or again.
    Ready,
    /// An answer comes.
    Answering(Box<Answering>),
    /// An attempt has ended.
    Ended(Box<Try>),
    /// It was the last one.
    Over(Box<Try>),
}

struct Answering {
    exchange: Exchange,
    reception: Reception,
    /// How the body ended, once it has.
    end: Option<End>,
    /// What the last that was read asked for, if it isn't done yet.
    flow: Flow,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        client: &Client,
        prepared: Prepared<'a>,
        pending: Pending,
        deadline: Option<Instant>,
        wants: Pieces,
        cancel: Option<&Event>,
    ) -> Run<'a> {
        let mut stage = Stage::Ready;
        let authorization = match &prepared.options.api_key {
            Some(key) => Some(key.clone()),
            None if prepared.options.has_credentials() => None,
            None => match client.config.api_key() {
                Ok(key) => Some(key),
                Err(message) => {
                    // The class that the openai client raises without a key.
                    let fault = Some(Fault::invalid("OpenAIError", message));
                    stage = Stage::Over(Box::new(Try {
                        fault,
                        ..Try::default()
                    }));
                    None
                }
            },
        };
        let limits = Limits::new(
            deadline.unwrap_or_else(|| prepared.deadline(pending.started())),
            prepared.options.idle_timeout,
            client.config.connect_timeout,
            [pending.stop().fd(), cancel.map_or(-1, Event::fd)],
        );
        Run {
            prepared,
            pending,
            wants,
            authorization,
            at: At {
                limits,
                phase: Cell::new(Phase::Requesting),
                sent: Cell::new(false),
            },
            attempts: Vec::new(),
            before: Outcome::NotSent,
            stage,
        }
    }

    /// The same, for whoever outlives what its host passed.
    pub fn into_owned(self) -> Run<'static> {
        Run {
            prepared: self.prepared.into_owned(),
            pending: self.pending,
            wants: self.wants,
            authorization: self.authorization,
            at: self.at,
            attempts: self.attempts,
            before: self.before,
            stage: self.stage,
        }
    }

    /// Until when it may take.
    pub fn deadline(&self) -> Instant {
        self.at.limits.deadline
    }

    /// Goes on until an answer comes, of which there may be something to hear; false if the call is
    /// over.
    pub fn proceed(&mut self, client: &Client) -> bool {
        #[cfg(feature = "faults")]
        crate::panics::on_demand("chat");
        loop {
            self.stage = match mem::replace(&mut self.stage, Stage::Ready) {
                Stage::Ready => self.send(client),
                Stage::Ended(tried) => self.judge(tried),
                stage => {
                    let is_over = matches!(stage, Stage::Over(_));
                    self.stage = stage;
                    return !is_over;
                }
            };
        }
    }

    fn send(&self, client: &Client) -> Stage {
        let request = Request {
            authorization: self.authorization.as_ref(),
            headers: &self.prepared.options.headers,
            body: &self.prepared.body,
        };
        match client.transport.send(&request, &self.at) {
            Ok(exchange) => Stage::Answering(Box::new(Answering {
                reception: Reception::new(
                    exchange.status,
                    &exchange.headers,
                    self.prepared.stream,
                    self.wants,
                    client.config.hashing.hasher(),
                ),
                exchange,
                end: None,
                flow: Flow::More,
            })),
            Err(failure) => Stage::Ended(Box::new(Try {
                outcome: match failure.sent {
                    true => Outcome::Unknown,
                    false => Outcome::NotSent,
                },
                fault: Some(failure.fault),
                ..Try::default()
            })),
        }
    }

    /// Reads on until something is to be heard, which is `said`; false when the answer has ended. It
    /// raises no signal.
    pub fn hear(&mut self, client: &Client, said: &mut Said) -> bool {
        let Stage::Answering(answering) = &mut self.stage else {
            return false;
        };
        let Some(end) = answering.read(&self.at, said) else {
            return true;
        };
        let Stage::Answering(answering) = mem::replace(&mut self.stage, Stage::Ready) else {
            return false;
        };
        let Answering {
            mut exchange,
            reception,
            ..
        } = *answering;
        let (status, headers) = (exchange.status, mem::take(&mut exchange.headers));
        client.transport.keep(exchange);
        said.clear();
        let mut tried = reception.end(status, &headers, end, &self.at.limits, said);
        if let Some(id) = header(&headers, "x-generation-id") {
            tried.completion.id = Some(id.to_owned());
        }
        self.stage = Stage::Ended(Box::new(Try {
            status: Some(status),
            headers,
            ..tried
        }));
        !said.is_empty()
    }

    /// Whether something more is to be heard, which is `said` then, of what has come already.
    pub fn hear_more(&mut self, said: &mut Said) -> bool {
        match &mut self.stage {
            Stage::Answering(answering) if answering.end.is_none() => {
                answering.read_come(&self.at, said);
                answering.flow == Flow::Pause
            }
            _ => false,
        }
    }

    /// The host wants no more: there is nothing more to hear, and the call is over.
    pub fn cancel(&mut self) {
        match &mut self.stage {
            Stage::Answering(answering) => answering.reception.cancel(),
            Stage::Ended(tried) => tried.fault = Some(Fault::cancelled()),
            Stage::Ready | Stage::Over(_) => {}
        }
    }

    /// Says whether an attempt was the last one; if it wasn't, waits for the next.
    fn judge(&mut self, mut tried: Box<Try>) -> Stage {
        let options = &self.prepared.options;
        if let Some(key) = &self.authorization {
            tried.redact(key.expose());
        }
        for secret in options.secrets() {
            tried.redact(secret);
        }
        // What an earlier attempt left open, a later one that never left doesn't settle.
        if tried.outcome == Outcome::NotSent {
            tried.outcome = self.before;
        }
        self.before = tried.outcome;
        let wait = match &tried.fault {
            Some(fault) if self.attempts.len() < options.max_retries => retry::delay(
                fault.retry,
                self.attempts.len(),
                &tried.headers,
                SystemTime::now(),
            ),
            _ => None,
        };
        // No use in waiting for a moment when the call's time is over.
        let limits = &self.at.limits;
        let wait = wait.filter(|wait| Instant::now() + *wait < limits.deadline);
        self.attempts.push(Attempt {
            http_status: tried.status,
            error_type: tried.fault.as_ref().map(|fault| fault.class),
            wait_ms: wait.map(milliseconds),
        });
        match wait.map(|wait| limits.sleep(wait)) {
            Some(Ok(())) => Stage::Ready,
            Some(Err(_)) => {
                tried.fault = Some(Fault::cancelled());
                Stage::Over(tried)
            }
            None => Stage::Over(tried),
        }
    }

    /// Writes the entry of a call that is over.
    pub fn finish(self, client: &Client) -> Result<Chat, Error> {
        if self.pending.is_the_parents() {
            return Err(Error::new(
                Status::Forked,
                "the process was forked in a callback, and this is the child: the parent finishes the call",
            ));
        }
        let last = match self.stage {
            Stage::Over(tried) | Stage::Ended(tried) => *tried,
            Stage::Ready | Stage::Answering(_) => Try::default(),
        };
        Ok(finish(
            &client.config.hashing,
            self.pending,
            self.prepared.details(),
            last,
            &self.attempts,
        ))
    }
}

impl Answering {
    /// Reads what has come, until something is said.
    fn read_come(&mut self, at: &At, said: &mut Said) {
        if matches!(self.flow, Flow::More | Flow::Pause) {
            let (read, flow) = self.reception.read(self.exchange.came(), &at.limits, said);
            self.exchange.consume(read);
            self.flow = flow;
        }
    }

    /// Reads on until something is said, or the answer has ended.
    fn read(&mut self, at: &At, said: &mut Said) -> Option<End> {
        if let Some(end) = self.end.take() {
            return Some(end);
        }
        loop {
            self.read_come(at, said);
            match self.flow {
                Flow::Pause => return None,
                Flow::Stop => return Some(End::Left),
                Flow::Enough => {
                    self.exchange.drain(at);
                    return Some(End::Left);
                }
                Flow::More => {}
            }
            if let Some(end) = self.exchange.fill(at) {
                if self.reception.read_last(&end, &at.limits, said) {
                    self.end = Some(end);
                    return None;
                }
                return Some(end);
            }
            if self.reception.note(self.exchange.came()) == Flow::Stop {
                return Some(End::Left);
            }
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
