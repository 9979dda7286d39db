//! One HTTP exchange under the call's own deadlines.
//!
//! ureq brings HTTP, TLS and the pool. The sockets are ours, because ureq's own timeouts cost a
//! thread for each request (to resolve names) and can't be interrupted. Ours never block: every
//! wait is one `poll` on the socket and on the event that ends the call, until the deadline that
//! applies. Names are looked up only when a connection is made.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use ureq::config::Config;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderMap, HeaderValue, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    RustlsConnector, Transport as UreqTransport,
};
use ureq::{Agent, Error, Proxy};
use zeroize::Zeroize;

use super::resolve;
use crate::config::{Headers, Secret};
use crate::sys::{self, PerProcess, Private, Readiness};

/// Sends requests, and keeps connections for the next ones.
pub struct Transport {
    agent: PerProcess<Agent>,
    /// Made once, for ureq reads the environment when it makes one.
    config: Config,
    max_response_bytes: u64,
}

/// What is the same for every request.
#[derive(Debug, Clone)]
pub struct Settings {
    pub max_response_bytes: u64,
    pub proxy: Option<Proxy>,
    pub roots: RootCerts,
}

/// What to send.
pub struct Request<'a> {
    pub url: &'a Uri,
    pub authorization: Option<&'a Secret>,
    pub headers: &'a Headers,
    pub body: &'a [u8],
}

/// What came back, beside the body.
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    /// Why the body isn't whole.
    pub cut: Option<Failure>,
}

/// Takes a response in as it comes.
pub trait Receiver {
    /// Before the body.
    fn head(&mut self, status: u16, headers: &HeaderMap);
    /// The next piece of the body.
    fn piece(&mut self, bytes: &[u8]) -> Flow;
}

/// What to do after a piece of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// That was the last piece that matters: what follows is read only to keep the connection.
    Enough,
    /// Leave the rest, and the connection.
    Stop,
}

/// Why nothing, or not all, came back.
#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    /// Whether anything of the request left.
    pub sent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    Timeout,
    Cancelled,
    Connection,
    TooLarge,
}

/// When a call must end.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub deadline: Instant,
    pub idle: Duration,
    pub connect: Duration,
    /// Each readable when the call is to end at once; -1 is never.
    pub stop: [RawFd; 2],
}

const MAX_HEADER: usize = 64 * 1024;
const MAX_IDLE_CONNECTIONS: usize = 64;
const MAX_IDLE_AGE: Duration = Duration::from_secs(30);

impl Transport {
    pub fn new(settings: Settings) -> Transport {
        Transport {
            agent: PerProcess::default(),
            config: ureq_config(&settings),
            max_response_bytes: settings.max_response_bytes,
        }
    }

    /// Sends a request, and hands the body of the answer over piece by piece.
    pub fn exchange(
        &self,
        request: &Request<'_>,
        limits: &Limits,
        receiver: &mut dyn Receiver,
    ) -> Result<Response, Failure> {
        let _scope = Scope::enter(*limits);
        self.send(request, receiver)
            .map_err(|error| failure(error, self.max_response_bytes))
    }

    fn send(&self, request: &Request<'_>, receiver: &mut dyn Receiver) -> Result<Response, Error> {
        let agent = self
            .agent
            .get_or_try_init(|| Ok::<_, Error>(agent(self.config.clone())))?;
        let mut post = agent
            .post(request.url)
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in request.headers {
            post = post.header(name, value);
        }
        if let Some(key) = request.authorization {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
                .map_err(|error| Error::Http(error.into()))?;
            value.set_sensitive(true);
            post = post.header(AUTHORIZATION, value);
        }
        let (head, body) = post.send(request.body)?.into_parts();
        Scope::update(|exchange| exchange.phase = Phase::Answering);

        receiver.head(head.status.as_u16(), &head.headers);

        let max = self.max_response_bytes;
        let mut reader = body.into_with_config().limit(max).reader();
        let mut piece = vec![0; PIECE];
        let cut = loop {
            match reader.read(&mut piece) {
                Ok(0) => break None,
                Ok(read) => match receiver.piece(&piece[..read]) {
                    Flow::More => {}
                    Flow::Stop => break None,
                    Flow::Enough => {
                        let until = Instant::now() + LINGER;
                        Scope::update(|exchange| exchange.phase = Phase::Ending(until));
                        while reader.read(&mut piece).is_ok_and(|read| read > 0) {}
                        break None;
                    }
                },
                Err(error) => break Some(failure(error.into(), max)),
            }
        };
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            cut,
        })
    }
}

/// Read from a body at a time.
const PIECE: usize = 4 * 1024;

/// How long the end of a stream may take after its last event, to keep the connection.
const LINGER: Duration = Duration::from_millis(20);

fn ureq_config(settings: &Settings) -> Config {
    Config::builder()
        .http_status_as_error(false)
        // A redirect could carry the key, or the prompt, to another host.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Less than a header may take: ureq takes all that it has read for one, when an answer
        // follows an informational response.
        .input_buffer_size(MAX_HEADER)
        .max_response_header_size(MAX_HEADER)
        // Never by ureq's own choice: it would take one from the environment.
        .proxy(settings.proxy.clone())
        .tls_config(
            TlsConfig::builder()
                .root_certs(settings.roots.clone())
                .build(),
        )
        .user_agent(concat!("audit_logger/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .max_idle_connections(MAX_IDLE_CONNECTIONS)
        .max_idle_connections_per_host(MAX_IDLE_CONNECTIONS)
        .max_idle_age(MAX_IDLE_AGE)
        .build()
}

fn agent(config: Config) -> Agent {
    Agent::with_parts(
        config,
        ConnectTimeout(
            ConnectProxyConnector::default()
                .chain(TcpConnector::default())
                .chain(RustlsConnector::default()),
        ),
        DeferredResolver,
    )
}

fn failure(error: Error, max_response_bytes: u64) -> Failure {
    let sent = Scope::current().is_some_and(|exchange| exchange.sent);
    let (kind, message) = match &error {
        Error::Other(other) => match other.downcast_ref::<Cut>() {
            Some(Cut::Cancelled) => (FailureKind::Cancelled, Cut::Cancelled.to_string()),
            Some(cut) => (FailureKind::Timeout, cut.to_string()),
            None => (FailureKind::Connection, other.to_string()),
        },
        Error::BodyExceedsLimit(_) => (
            FailureKind::TooLarge,
            format!("the response is longer than max_response_bytes ({max_response_bytes})"),
        ),
        other => (FailureKind::Connection, other.to_string()),
    };
    Failure {
        kind,
        message,
        sent,
    }
}

// ---------------------------------------------------------------- the call that a thread makes

/// Where the exchange of the calling thread stands.
#[derive(Clone, Copy)]
struct Exchange {
    limits: Limits,
    phase: Phase,
    sent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until then a connection must be made.
    Connecting(Instant),
    Requesting,
    Answering,
    /// All that matters has come; what is left may take until then.
    Ending(Instant),
}

thread_local! {
    // ureq passes nothing of ours down to a transport, which moreover outlives the call in the
    // pool. But a call runs on one thread from its beginning to its end.
    static EXCHANGE: Cell<Option<Exchange>> = const { Cell::new(None) };
}

/// While it lives, this thread's sockets obey the limits of one exchange.
struct Scope {
    outer: Option<Exchange>,
}

impl Scope {
    fn enter(limits: Limits) -> Scope {
        let exchange = Exchange {
            limits,
            phase: Phase::Requesting,
            sent: false,
        };
        Scope {
            outer: EXCHANGE.replace(Some(exchange)),
        }
    }

    fn current() -> Option<Exchange> {
        EXCHANGE.get()
    }

    fn update(change: impl FnOnce(&mut Exchange)) {
        let mut exchange = EXCHANGE.get();
        exchange.as_mut().map(change);
        EXCHANGE.set(exchange);
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        EXCHANGE.set(self.outer);
    }
}

/// Why a wait ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Deadline,
    Connect,
    Idle,
    Cancelled,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::Deadline => "the call's time (timeout_ms) is over",
            Cut::Connect => "no connection within connect_timeout_ms",
            Cut::Idle => "silence for longer than idle_timeout_ms",
            Cut::Cancelled => "the call was cancelled",
        })
    }
}

impl std::error::Error for Cut {}

impl From<Cut> for Error {
    fn from(cut: Cut) -> Error {
        Error::Other(Box::new(cut))
    }
}

impl Limits {
    /// Whether the call is to end at once, and why: for work between two waits.
    pub fn reached(&self) -> Option<Failure> {
        let stopped = sys::wait(
            self.stop.map(|stop| (stop, Readiness::Read)),
            Duration::ZERO,
        );
        let (kind, cut) = if !matches!(stopped, Ok(None)) {
            (FailureKind::Cancelled, Cut::Cancelled)
        } else if Instant::now() >= self.deadline {
            (FailureKind::Timeout, Cut::Deadline)
        } else {
            return None;
        };
        Some(Failure {
            kind,
            message: cut.to_string(),
            sent: true,
        })
    }

    /// Sleeps before the next attempt.
    pub fn sleep(&self, time: Duration) -> Result<(), Cut> {
        match wait_for(
            self.stop.map(|stop| (stop, Readiness::Read)),
            Instant::now() + time,
        ) {
            Ok(None) => Ok(()),
            _ => Err(Cut::Cancelled),
        }
    }
}

impl Exchange {
    /// Waits until the socket is ready.
    fn wait(&self, socket: RawFd, readiness: Readiness) -> Result<(), Error> {
        let idle = Instant::now() + self.limits.idle;
        let (until, cut) = match (self.phase, readiness) {
            (Phase::Connecting(until), _) => (until, Cut::Connect),
            (Phase::Ending(until), _) => (until, Cut::Idle),
            (Phase::Requesting, Readiness::Write) | (Phase::Answering, _) => (idle, Cut::Idle),
            // A model may think for long before it answers.
            (Phase::Requesting, Readiness::Read) => (self.limits.deadline, Cut::Deadline),
        };
        let (until, cut) = if self.limits.deadline <= until {
            (self.limits.deadline, Cut::Deadline)
        } else {
            (until, cut)
        };
        let [stop, cancel] = self.limits.stop;
        match wait_for(
            [
                (stop, Readiness::Read),
                (cancel, Readiness::Read),
                (socket, readiness),
            ],
            until,
        )? {
            Some(0 | 1) => Err(Cut::Cancelled.into()),
            Some(_) if Instant::now() < until => Ok(()),
            // Ready, but too late: a server that drips bytes doesn't extend the deadline.
            _ => Err(cut.into()),
        }
    }
}

/// Waits for one of the descriptors until the given moment; signals don't cut it short.
fn wait_for<const N: usize>(
    fds: [(RawFd, Readiness); N],
    until: Instant,
) -> io::Result<Option<usize>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match sys::wait(fds, left)? {
            None if left.is_zero() => return Ok(None),
            None => {}
            ready => return Ok(ready),
        }
    }
}

// ---------------------------------------------------------------- connections

/// Bounds the time in which the connectors within it must make a connection, TLS handshake
/// included.
#[derive(Debug)]
struct ConnectTimeout<C>(C);

impl<C: Connector<()>> Connector<()> for ConnectTimeout<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<C::Out>, Error> {
        let is_connecting = |exchange: Exchange| matches!(exchange.phase, Phase::Connecting(_));
        if Scope::current().is_some_and(is_connecting) {
            // The connection to a proxy, as a part of the one through it.
            return self.0.connect(details, chained);
        }
        Scope::update(|exchange| {
            exchange.phase = Phase::Connecting(Instant::now() + exchange.limits.connect);
        });
        let made = self.0.connect(details, chained)?;
        Scope::update(|exchange| exchange.phase = Phase::Requesting);
        Ok(made)
    }
}

/// ureq resolves a name for every request, also when a pooled connection will serve it.
/// [`TcpConnector`] resolves instead, when it is asked for a new connection.
#[derive(Debug)]
struct DeferredResolver;

impl Resolver for DeferredResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(addresses)
    }
}

/// Makes TCP connections.
#[derive(Debug, Default)]
struct TcpConnector {
    resolver: resolve::Resolver,
}

impl<In: UreqTransport> Connector<In> for TcpConnector {
    type Out = Either<In, Stream>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(tunnel) = chained {
            return Ok(Some(Either::A(tunnel)));
        }
        let Some(exchange) = Scope::current() else {
            return Err(Error::ConnectionFailed);
        };
        let host = details.uri.host().ok_or(Error::HostNotFound)?;
        let port = details
            .uri
            .port_u16()
            .unwrap_or(if details.needs_tls() { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let unknown = |error| Error::Io(io::Error::other(format!("{bare}: {error}")));
        let lookup = self.resolver.look_up(bare, port).map_err(unknown)?;
        if !lookup.done.has_happened() {
            exchange.wait(lookup.done.fd(), Readiness::Read)?;
        }
        let addresses = lookup.addresses().map_err(unknown)?;

        let mut last = Error::HostNotFound;
        for (tried, address) in addresses.iter().enumerate() {
            match dial(&exchange, *address, addresses.len() - tried) {
                Ok(stream) => {
                    let buffers = LazyBuffers::new(
                        details.config.input_buffer_size(),
                        details.config.output_buffer_size(),
                    );
                    return Ok(Some(Either::B(Stream {
                        stream,
                        buffers,
                        unsent: Vec::new(),
                        refused: None,
                    })));
                }
                Err(error) if is_cancelled(&error) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn is_cancelled(error: &Error) -> bool {
    matches!(error, Error::Other(other) if other.downcast_ref() == Some(&Cut::Cancelled))
}

/// Connects to one address of those that are left, with its share of the time that is left.
fn dial(
    exchange: &Exchange,
    address: SocketAddr,
    left: usize,
) -> Result<Private<TcpStream>, Error> {
    let mut exchange = *exchange;
    if let Phase::Connecting(until) = &mut exchange.phase {
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        *until = now + share;
    }
    let kind = Type::STREAM.nonblocking().cloexec();
    let make = || Socket::new(Domain::for_address(address), kind, None).map(TcpStream::from);
    let stream = Private::new(make)?;
    match SockRef::from(&*stream).connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            exchange.wait(stream.as_raw_fd(), Readiness::Write)?;
            if let Some(error) = stream.take_error()? {
                return Err(error.into());
            }
        }
        Err(error) => return Err(error.into()),
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A TCP connection that never blocks but in a bounded wait.
#[derive(Debug)]
struct Stream {
    stream: Private<TcpStream>,
    buffers: LazyBuffers,
    /// What is to be sent, kept until there is much of it or an answer is waited for: head and body
    /// of a small request go out as one.
    unsent: Vec<u8>,
    /// The server stopped reading before it had the whole request. It may have answered first (a
    /// refusal of a large body, most likely), so that is looked for before this is reported.
    refused: Option<io::Error>,
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Does `io` when the socket is ready for it, as often as it takes.
fn when_ready(
    stream: &Private<TcpStream>,
    readiness: Readiness,
    mut io: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> Result<usize, Error> {
    // In a child of fork the connection is the parent's, and its number may be another file's.
    let exchange = Scope::current().filter(|_| stream.is_ours());
    let exchange = exchange.ok_or(Error::ConnectionFailed)?;
    // An answer is seldom there yet, so reading waits first; room to write nearly always is.
    let mut wait = readiness == Readiness::Read;
    loop {
        if wait {
            exchange.wait(stream.as_raw_fd(), readiness)?;
        }
        match io(stream) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait = true,
            result => return Ok(result?),
        }
    }
}

/// More than this isn't kept from being sent.
const SEND_AT: usize = 16 * 1024;

impl Stream {
    fn send(&mut self) -> Result<(), Error> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        Scope::update(|exchange| exchange.sent |= exchange.phase == Phase::Requesting);
        let mut left = self.unsent.as_slice();
        while !left.is_empty() && self.refused.is_none() {
            // std sends with MSG_NOSIGNAL: a closed peer is an error, not a SIGPIPE.
            match when_ready(&self.stream, Readiness::Write, |mut stream| {
                stream.write(left)
            }) {
                Ok(written) => left = &left[written..],
                Err(Error::Io(error)) if is_closed(&error) => self.refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        // It held the key. Not all its capacity: that takes as long as to send it.
        self.unsent.as_mut_slice().zeroize();
        self.unsent.clear();
        Ok(())
    }
}

impl UreqTransport for Stream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.unsent
            .extend_from_slice(&self.buffers.output()[..amount]);
        if self.unsent.len() < SEND_AT {
            Ok(())
        } else {
            self.send()
        }
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        self.send()?;
        let Stream {
            stream,
            buffers,
            refused,
            ..
        } = self;
        let input = buffers.input_append_buf();
        match when_ready(stream, Readiness::Read, |mut stream| stream.read(input)) {
            Ok(0) | Err(Error::Io(_)) if refused.is_some() => {
                let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
                Err(refused.take().unwrap_or_else(closed).into())
            }
            // ureq would take it for the end of a body without a length.
            Err(Error::Io(error)) if is_closed(&error) => Err(Error::Other(Box::new(error))),
            Ok(amount) => {
                buffers.input_appended(amount);
                Ok(amount > 0)
            }
            Err(error) => Err(error),
        }
    }

    fn is_open(&mut self) -> bool {
        // Between two requests nothing may come: bytes would be taken for the next answer, and
        // an end means that the server closed.
        let mut byte = [0];
        self.refused.is_none()
            && matches!((&*self.stream).read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
