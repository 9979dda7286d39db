//! One HTTP exchange under the call's own deadlines.
//!
//! ureq brings HTTP, TLS and the pool. The sockets are ours, because ureq's own timeouts cost a
//! thread for each request (to resolve names) and can't be interrupted. Ours never block: every
//! wait is one `poll` on the socket and on the event that ends the call, until the deadline that
//! applies. Names are resolved only when a connection is made, on the caller's thread.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use ureq::config::Config;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderMap, HeaderValue, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector,
    Transport as UreqTransport,
};
use ureq::{Agent, Error};

use crate::config::{Headers, Secret};
use crate::sys::{self, PerProcess, Readiness};

/// Sends requests, and keeps connections for the next ones.
pub struct Transport {
    agent: PerProcess<Agent>,
    max_response_bytes: u64,
}

/// What to send.
pub struct Request<'a> {
    pub url: &'a Uri,
    pub authorization: Option<&'a Secret>,
    pub headers: &'a Headers,
    pub body: &'a [u8],
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Why the body isn't whole.
    pub cut: Option<Failure>,
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
    /// Readable when the call is to end at once.
    pub stop: RawFd,
}

const MAX_IDLE_CONNECTIONS: usize = 64;
const MAX_IDLE_AGE: Duration = Duration::from_secs(30);

impl Transport {
    pub fn new(max_response_bytes: u64) -> Transport {
        Transport {
            agent: PerProcess::default(),
            max_response_bytes,
        }
    }

    /// Sends a request and reads the whole answer.
    pub fn exchange(&self, request: &Request<'_>, limits: &Limits) -> Result<Answer, Failure> {
        let _scope = Scope::enter(*limits);
        self.send(request)
            .map_err(|error| failure(error, self.max_response_bytes))
    }

    fn send(&self, request: &Request<'_>) -> Result<Answer, Error> {
        let agent = self.agent.get_or_try_init(|| Ok::<_, Error>(agent()))?;
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
        let mut response = post.send(request.body)?;
        Scope::update(|exchange| exchange.phase = Phase::Answering);

        let mut body = Vec::new();
        let read = response
            .body_mut()
            .with_config()
            .limit(self.max_response_bytes)
            .reader()
            .read_to_end(&mut body);
        let cut = read
            .err()
            .map(|error| failure(error.into(), self.max_response_bytes));
        Ok(Answer {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body,
            cut,
        })
    }
}

fn agent() -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        // A redirect could carry the key, or the prompt, to another host.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // ureq would take one from the environment.
        .proxy(None)
        .user_agent(concat!("audit_logger/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .max_idle_connections(MAX_IDLE_CONNECTIONS)
        .max_idle_connections_per_host(MAX_IDLE_CONNECTIONS)
        .max_idle_age(MAX_IDLE_AGE)
        .build();
    Agent::with_parts(config, Timed(Dial.chain(RustlsConnector::default())), Later)
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
    /// Sleeps before the next attempt.
    pub fn sleep(&self, time: Duration) -> Result<(), Cut> {
        match wait_for([(self.stop, Readiness::Read)], Instant::now() + time) {
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
            (Phase::Requesting, Readiness::Write) | (Phase::Answering, _) => (idle, Cut::Idle),
            // A model may think for long before it answers.
            (Phase::Requesting, Readiness::Read) => (self.limits.deadline, Cut::Deadline),
        };
        let (until, cut) = if self.limits.deadline <= until {
            (self.limits.deadline, Cut::Deadline)
        } else {
            (until, cut)
        };
        match wait_for(
            [(self.limits.stop, Readiness::Read), (socket, readiness)],
            until,
        )? {
            Some(0) => Err(Cut::Cancelled.into()),
            Some(_) if Instant::now() < self.limits.deadline => Ok(()),
            // Ready, but too late: a server that drips bytes doesn't extend the deadline.
            Some(_) => Err(Cut::Deadline.into()),
            None => Err(cut.into()),
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
struct Timed<C>(C);

impl<C: Connector<()>> Connector<()> for Timed<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<C::Out>, Error> {
        Scope::update(|exchange| {
            exchange.phase = Phase::Connecting(Instant::now() + exchange.limits.connect);
        });
        let made = self.0.connect(details, chained)?;
        Scope::update(|exchange| exchange.phase = Phase::Requesting);
        Ok(made)
    }
}

/// ureq resolves a name for every request, also when a pooled connection will serve it. [`Dial`]
/// resolves instead, when it is asked for a new connection.
#[derive(Debug)]
struct Later;

impl Resolver for Later {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(addresses)
    }
}

/// Makes TCP connections.
#[derive(Debug)]
struct Dial;

impl Connector<()> for Dial {
    type Out = Stream;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Stream>, Error> {
        let Some(exchange) = Scope::current() else {
            return Err(Error::ConnectionFailed);
        };
        let host = details.uri.host().ok_or(Error::HostNotFound)?;
        let port = details
            .uri
            .port_u16()
            .unwrap_or(if details.needs_tls() { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<SocketAddr> = (bare, port)
            .to_socket_addrs()
            .map_err(|_| Error::HostNotFound)?
            .collect();

        let mut last = Error::HostNotFound;
        for (tried, address) in addresses.iter().enumerate() {
            match dial(&exchange, *address, addresses.len() - tried) {
                Ok(stream) => {
                    let buffers = LazyBuffers::new(
                        details.config.input_buffer_size(),
                        details.config.output_buffer_size(),
                    );
                    return Ok(Some(Stream { stream, buffers }));
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
fn dial(exchange: &Exchange, address: SocketAddr, left: usize) -> Result<TcpStream, Error> {
    let mut exchange = *exchange;
    if let Phase::Connecting(until) = &mut exchange.phase {
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        *until = now + share;
    }
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            exchange.wait(socket.as_raw_fd(), Readiness::Write)?;
            if let Some(error) = socket.take_error()? {
                return Err(error.into());
            }
        }
        Err(error) => return Err(error.into()),
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// A TCP connection that never blocks but in a bounded wait.
#[derive(Debug)]
struct Stream {
    stream: TcpStream,
    buffers: LazyBuffers,
}

/// Does `io` when the socket is ready for it, as often as it takes.
fn when_ready(
    stream: &TcpStream,
    readiness: Readiness,
    mut io: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> Result<usize, Error> {
    let exchange = Scope::current().ok_or(Error::ConnectionFailed)?;
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

impl UreqTransport for Stream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        Scope::update(|exchange| exchange.sent |= exchange.phase == Phase::Requesting);
        let Stream { stream, buffers } = self;
        let mut left = &buffers.output()[..amount];
        while !left.is_empty() {
            // std sends with MSG_NOSIGNAL: a closed peer is an error, not a SIGPIPE.
            let written = when_ready(stream, Readiness::Write, |mut stream| stream.write(left))?;
            left = &left[written..];
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let Stream { stream, buffers } = self;
        let input = buffers.input_append_buf();
        let amount = when_ready(stream, Readiness::Read, |mut stream| stream.read(input))?;
        buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Between two requests nothing may come: bytes would be taken for the next answer, and
        // an end means that the server closed.
        let mut byte = [0];
        matches!((&self.stream).read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
