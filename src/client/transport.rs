//! One HTTP exchange, under the call's own deadlines, on a connection that is kept for the next.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, Uri};
use rustls::ClientConfig;

use super::coding::Decoder;
use super::connect::Way;
use super::fault::Fault;
use super::incoming::{Incoming, Unanswered, unconnected};
use super::limits::{Ended, Limits, Phase};
use super::message::{Framing, Head, RequestHead};
use super::resolve::Resolver;
use super::retry::Kind;
use super::socket::{At, Wire};
use super::sse::Flow;
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

/// What came back, beside the body.
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub end: End,
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

/// Takes a response in as it comes.
pub trait Receiver {
    /// Before the body.
    fn head(&mut self, status: u16, headers: &HeaderMap);
    /// The next piece of the body.
    fn piece(&mut self, bytes: &[u8]) -> Flow;
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

    /// Sends a request, and hands the body of the answer over piece by piece.
    pub fn exchange(
        &self,
        request: &Request<'_>,
        limits: &Limits,
        receiver: &mut dyn Receiver,
    ) -> Result<Response, Failure> {
        let at = At {
            limits,
            phase: Cell::new(Phase::Requesting),
            sent: Cell::new(false),
        };
        self.send(request, &at, receiver).map_err(|fault| Failure {
            fault,
            sent: at.sent.get(),
        })
    }

    fn send(
        &self,
        request: &Request<'_>,
        at: &At<'_>,
        receiver: &mut dyn Receiver,
    ) -> Result<Response, Fault> {
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
            let mut wire = match kept.take() {
                Some(wire) => wire,
                None => way
                    .connect(|| inner.tls(&self.settings.trust), at)
                    .map_err(unconnected)?,
            };
            let mut incoming = Incoming::new(&mut *wire, at);
            match incoming.answer(packed.with_rest(request.body)) {
                Ok(head) => {
                    let response = self.receive(head, &mut incoming, at, receiver);
                    let is_done = incoming.is_empty();
                    if response.1 && is_done {
                        inner.keep(wire);
                    }
                    return Ok(response.0);
                }
                // It was closed while nobody looked: that is no attempt that failed.
                Err(Unanswered::Closed(_)) if is_kept && incoming.is_untouched => {}
                Err(unanswered) => return Err(unanswered.into()),
            }
        }
    }

    /// Takes the body in. Says as well whether the connection may serve another request.
    fn receive(
        &self,
        head: Head,
        incoming: &mut Incoming<'_>,
        at: &At<'_>,
        receiver: &mut dyn Receiver,
    ) -> (Response, bool) {
        receiver.head(head.status, &head.headers);
        let mut body = Body {
            framing: head.framing,
            decoder: Decoder::of(&head.headers),
            left: self.settings.max_response_bytes,
            max: self.settings.max_response_bytes,
        };
        at.phase.set(Phase::Answering);
        let end = body.read(incoming, at, receiver);
        let keeps = head.keeps_alive && body.framing.has_ended();
        let response = Response {
            status: head.status,
            headers: head.headers,
            end,
        };
        (response, keeps)
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

/// The body that is being read.
struct Body {
    framing: Framing,
    decoder: Decoder,
    left: u64,
    max: u64,
}

impl Body {
    fn read(
        &mut self,
        incoming: &mut Incoming<'_>,
        at: &At<'_>,
        receiver: &mut dyn Receiver,
    ) -> End {
        let broken = |what: String| {
            End::Cut(Fault {
                retry: Kind::Connection,
                ..Fault::invalid("APIConnectionError", what)
            })
        };
        // It came, and is paid for: another would be no better.
        let undecoded = |error: io::Error| {
            let what = format!("the body can't be decoded: {error}");
            End::Cut(Fault::invalid("APIConnectionError", what))
        };
        let mut wants_more = true;
        loop {
            while !incoming.is_empty() && !self.framing.has_ended() {
                let (taken, data) = match self.framing.take(incoming.rest()) {
                    Ok(taken) => taken,
                    Err(wrong) => return broken(format!("the body can't be read: {wrong}")),
                };
                let mut flow = Flow::More;
                let mut piece = |bytes: &[u8]| {
                    let length = bytes.len() as u64;
                    match self.left.checked_sub(length) {
                        Some(left) => self.left = left,
                        None => return false,
                    }
                    flow = receiver.piece(bytes);
                    flow == Flow::More
                };
                let decoded = match wants_more {
                    true => self.decoder.push(data, &mut piece),
                    false => Ok(true),
                };
                match (decoded, flow) {
                    (Err(error), _) => {
                        return undecoded(error);
                    }
                    (Ok(true), _) => incoming.take(taken),
                    (Ok(false), Flow::Enough) => {
                        incoming.take(taken);
                        wants_more = false;
                        at.phase.set(Phase::Ending(Instant::now() + LINGER));
                    }
                    (Ok(false), Flow::Stop) => return End::Left,
                    (Ok(false), Flow::More) => {
                        let max = self.max;
                        let what =
                            format!("the response is longer than max_response_bytes ({max})");
                        return End::Cut(Fault::too_large(what));
                    }
                }
            }
            if self.framing.has_ended() {
                break;
            }
            match incoming.more() {
                Ok(true) => {}
                Ok(false) if self.framing.may_end_here() => break,
                _ if !wants_more => return End::Left,
                Ok(false) => return broken("the connection ended within the body".into()),
                Err(Ended::Cut(cut)) => return End::Cut(cut.into()),
                Err(Ended::Io(error)) => return broken(error.to_string()),
            }
        }
        if wants_more {
            let mut piece = |bytes: &[u8]| receiver.piece(bytes) == Flow::More;
            if let Err(error) = self.decoder.end(&mut piece) {
                return undecoded(error);
            }
        }
        match self.framing {
            _ if !wants_more => End::Left,
            Framing::Length(_) => End::Length,
            Framing::Chunks(_) => End::LastChunk,
            Framing::Close => End::Close,
        }
    }
}
