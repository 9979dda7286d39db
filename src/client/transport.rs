//! One HTTP exchange, under the call's own deadlines, on a connection that is kept for the next.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, Uri};
use rustls::ClientConfig;

use super::coding::{self, Decoder};
use super::connect::Way;
use super::fault::Fault;
use super::incoming::{Incoming, Unanswered, unconnected};
use super::limits::{Ended, Phase};
use super::message::{Framing, Head, RequestHead};
use super::resolve::Resolver;
use super::retry::Kind;
use super::socket::{At, Wire};
use super::tls;
use crate::config::{Headers, Secret};
use crate::server::{Proxy, Trust};
use crate::sys::PerProcess;

/// Sends requests, and keeps connections for the next ones.
pub struct Transport {
    settings: Settings,
    inner: PerProcess<Inner>,
}

/// What is the same for every request.
#[derive(Debug, Clone)]
pub struct Settings {
    pub url: Uri,
    pub proxy: Option<Proxy>,
    pub trust: Trust,
    pub max_response_bytes: u64,
}

/// What each process has for itself.
#[derive(Default)]
struct Inner {
    resolver: Resolver,
    tls: OnceLock<Arc<ClientConfig>>,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that waits for the next request.
struct Idle {
    wire: Box<dyn Wire>,
    since: Instant,
}

/// What to send.
pub struct Request<'a> {
    pub authorization: Option<&'a Secret>,
    pub headers: &'a Headers,
    pub body: &'a [u8],
}

/// An exchange whose answer has begun. Its body is read as a buffered reader's is: what has come is
/// looked at, and consumed.
pub struct Exchange {
    pub status: u16,
    pub headers: HeaderMap,
    /// Whether the connection may serve another request after this answer.
    keeps_alive: bool,
    incoming: Incoming,
    framing: Framing,
    decoder: Decoder,
    /// Of the body that stands in `incoming` as it came, the bytes that weren't consumed.
    plain: usize,
    /// What was decoded, from where it wasn't consumed.
    decoded: Vec<u8>,
    consumed: usize,
    /// What the body may still take.
    left: u64,
    max: u64,
    /// How it ended, once it has.
    end: Option<End>,
}

/// How a body ended.
#[derive(Debug)]
pub enum End {
    /// With as many bytes as were announced.
    Length,
    /// With its last chunk.
    LastChunk,
    /// With the connection.
    Close,
    /// The receiver didn't want more.
    Left,
    /// It isn't whole.
    Cut(Fault),
}

/// Why nothing came back.
#[derive(Debug)]
pub struct Failure {
    pub fault: Fault,
    /// Whether anything of the request left.
    pub sent: bool,
}

const MAX_IDLE_CONNECTIONS: usize = 64;
const MAX_IDLE_AGE: Duration = Duration::from_secs(30);
/// How long the end of a stream may take after its last event, to keep the connection.
const LINGER: Duration = Duration::from_millis(20);

impl Transport {
    pub fn new(settings: Settings) -> Transport {
        Transport {
            settings,
            inner: PerProcess::default(),
        }
    }

    /// Sends a request, and waits for the head of its answer.
    pub fn send(&self, request: &Request<'_>, at: &At) -> Result<Exchange, Failure> {
        at.phase.set(Phase::Requesting);
        at.sent.set(false);
        self.answer(request, at).map_err(|fault| Failure {
            fault,
            sent: at.sent.get(),
        })
    }

    fn answer(&self, request: &Request<'_>, at: &At) -> Result<Exchange, Fault> {
        let inner = self
            .inner
            .get_or_try_init(|| Ok::<_, Fault>(Inner::default()))?;
        let way = Way {
            url: &self.settings.url,
            proxy: self.settings.proxy.as_ref(),
            resolver: &inner.resolver,
        };
        let head = RequestHead {
            url: &self.settings.url,
            proxy: way.proxy.filter(|_| way.ends_at_proxy()),
            authorization: request.authorization,
            headers: request.headers,
            body: request.body,
        };
        let packed = head.packed();
        let mut kept = inner.take();
        loop {
            let is_kept = kept.is_some();
            let wire = match kept.take() {
                Some(wire) => wire,
                None => way
                    .connect(|| inner.tls(&self.settings.trust), at)
                    .map_err(unconnected)?,
            };
            let mut incoming = Incoming::new(wire);
            match incoming.answer(packed.with_rest(request.body), at) {
                Ok(head) => {
                    at.phase.set(Phase::Answering);
                    return Ok(Exchange::new(
                        head,
                        incoming,
                        self.settings.max_response_bytes,
                    ));
                }
                // It was closed while nobody looked: that is no attempt that failed.
                Err(Unanswered::Closed(_)) if is_kept && incoming.is_untouched => {}
                Err(unanswered) => return Err(unanswered.into()),
            }
        }
    }

    /// Takes the connection of an exchange back, for the next one, if it can serve another.
    pub fn keep(&self, exchange: Exchange) {
        let is_over = exchange.framing.has_ended() && exchange.incoming.is_empty();
        if let Some(inner) = self.inner.get().filter(|_| exchange.keeps_alive && is_over) {
            inner.keep(exchange.incoming.into_wire());
        }
    }
}

impl Inner {
    /// The TLS configuration, made when it's first needed.
    fn tls(&self, trust: &Trust) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let config = tls::config(trust)?;
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }

    fn take(&self) -> Option<Box<dyn Wire>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut last) = idle.pop() {
            if last.since.elapsed() < MAX_IDLE_AGE && last.wire.is_quiet() {
                return Some(last.wire);
            }
        }
        None
    }

    fn keep(&self, wire: Box<dyn Wire>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Instant::now();
        // The oldest are at the front.
        let old = idle
            .iter()
            .take_while(|idle| since - idle.since >= MAX_IDLE_AGE);
        let old = old
            .count()
            .max((idle.len() + 1).saturating_sub(MAX_IDLE_CONNECTIONS));
        idle.drain(..old);
        idle.push(Idle { wire, since });
    }
}

impl Exchange {
    fn new(head: Head, incoming: Incoming, max: u64) -> Exchange {
        Exchange {
            status: head.status,
            decoder: Decoder::of(&head.headers),
            headers: head.headers,
            keeps_alive: head.keeps_alive,
            incoming,
            framing: head.framing,
            plain: 0,
            decoded: Vec::new(),
            consumed: 0,
            left: max,
            max,
            end: None,
        }
    }

    /// What has come of the body, and wasn't consumed.
    pub fn came(&self) -> &[u8] {
        match self.plain {
            0 => self.decoded.get(self.consumed..).unwrap_or_default(),
            plain => self.incoming.last(plain),
        }
    }

    /// Consumes that much of it.
    pub fn consume(&mut self, length: usize) {
        match self.plain {
            0 => self.consumed = (self.consumed + length).min(self.decoded.len()),
            plain => self.plain = plain.saturating_sub(length),
        }
    }

    /// Waits for more of the body, when all that came was consumed; or says how it ended.
    pub fn fill(&mut self, at: &At) -> Option<End> {
        /// One piece of megabytes isn't to be paid for until the end.
        const KEPT: usize = 16 * 1024;
        self.decoded.clear();
        self.decoded.shrink_to(KEPT);
        self.consumed = 0;
        while self.came().is_empty() {
            if let Some(end) = self.end.take() {
                return Some(end);
            }
            if !self.framing.has_ended() && !self.incoming.is_empty() {
                self.end = self.take();
            } else {
                self.end = self.more(at);
            }
        }
        None
    }

    /// Takes body out of what came in; how it ended, if it did.
    fn take(&mut self) -> Option<End> {
        let rest = self.incoming.rest();
        let rest = match self.decoder.is_plain() {
            true => rest,
            false => rest.get(..coding::STEP).unwrap_or(rest),
        };
        let (taken, length) = match self.framing.take(rest) {
            Ok((taken, data)) => (taken, data.len()),
            Err(wrong) => return Some(broken(format!("the body can't be read: {wrong}"))),
        };
        self.incoming.take(taken);
        if self.decoder.is_plain() {
            if let Some(left) = self.left.checked_sub(length as u64) {
                (self.left, self.plain) = (left, length);
                return None;
            }
            return Some(too_long(self.max));
        }
        self.decode(|decoder, incoming, each| decoder.push(incoming.last(length), each))
    }

    fn decode(
        &mut self,
        decode: impl FnOnce(
            &mut Decoder,
            &Incoming,
            &mut dyn FnMut(&[u8]) -> bool,
        ) -> Result<bool, io::Error>,
    ) -> Option<End> {
        let (left, out) = (&mut self.left, &mut self.decoded);
        let mut has_memory = true;
        let mut add = |bytes: &[u8]| {
            let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                return false;
            };
            *left = rest;
            has_memory = out.try_reserve(bytes.len()).is_ok();
            if has_memory {
                out.extend_from_slice(bytes);
            }
            has_memory
        };
        let decoded = decode(&mut self.decoder, &self.incoming, &mut add);
        match decoded {
            Ok(true) => None,
            Ok(false) if has_memory => Some(too_long(self.max)),
            Ok(false) => Some(End::Cut(Fault::no_memory())),
            // It came, and is paid for: another would be no better.
            Err(error) => {
                let what = format!("the body can't be decoded: {error}");
                Some(End::Cut(Fault::invalid("APIConnectionError", what)))
            }
        }
    }

    /// Waits for more to come in; how the body ended, if it did.
    fn more(&mut self, at: &At) -> Option<End> {
        if !self.framing.has_ended() {
            match self.incoming.more(at) {
                Ok(true) => return None,
                Ok(false) if self.framing.may_end_here() => {}
                Ok(false) => return Some(broken("the connection ended within the body".into())),
                Err(Ended::Cut(cut)) => return Some(End::Cut(cut.into())),
                Err(Ended::Io(error)) => return Some(broken(error.to_string())),
            }
        }
        let end = match self.framing {
            Framing::Length(_) => End::Length,
            Framing::Chunks(_) => End::LastChunk,
            Framing::Close => End::Close,
        };
        let undecoded = self.decode(|decoder, _, each| decoder.end(each));
        Some(undecoded.unwrap_or(end))
    }

    /// Reads what is left after all that matters, to keep the connection: but not for long.
    pub fn drain(&mut self, at: &At) {
        at.phase.set(Phase::Ending(Instant::now() + LINGER));
        while !self.framing.has_ended() {
            if self.incoming.is_empty() && !matches!(self.incoming.more(at), Ok(true)) {
                return;
            }
            match self.framing.take(self.incoming.rest()) {
                Ok((taken, _)) => self.incoming.take(taken),
                Err(_) => return,
            }
        }
    }
}

fn broken(what: String) -> End {
    End::Cut(Fault {
        retry: Kind::Connection,
        ..Fault::invalid("APIConnectionError", what)
    })
}

fn too_long(max: u64) -> End {
    let what = format!("the response is longer than max_response_bytes ({max})");
    End::Cut(Fault::too_large(what))
}
