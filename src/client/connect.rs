//! Making connections: names, addresses, proxies, TLS, all within one bound.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use rustls::ClientConfig;
use socket2::{Domain, SockRef, TcpKeepalive};
use zeroize::Zeroizing;

use super::limits::{Cut, Ended, Phase};
use super::message::{self, Head};
use super::resolve::Resolver;
use super::socket::{At, Socket, Tls, Wire};
use crate::server::{Proxy, bare};
use crate::sys::{self, Private, Readiness};

/// Why there is no connection.
#[derive(Debug)]
pub enum Unconnected {
    Ended(Ended),
    /// The proxy refused, and would again.
    Refused(u16),
}

impl From<Ended> for Unconnected {
    fn from(ended: Ended) -> Unconnected {
        Unconnected::Ended(ended)
    }
}

impl From<io::Error> for Unconnected {
    fn from(error: io::Error) -> Unconnected {
        Unconnected::Ended(Ended::Io(error))
    }
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unconnected::Ended(Ended::Cut(cut)) => cut.fmt(f),
            Unconnected::Ended(Ended::Io(error)) => error.fmt(f),
            Unconnected::Refused(status) => write!(f, "the proxy refused: HTTP {status}"),
        }
    }
}

/// Where connections lead.
pub struct Way<'w> {
    pub url: &'w Uri,
    pub proxy: Option<&'w Proxy>,
    pub resolver: &'w Resolver,
}

impl Way<'_> {
    /// Whether requests go to a proxy, that sends them on: the way of http through one.
    pub fn ends_at_proxy(&self) -> bool {
        self.proxy.is_some() && !self.is_tls()
    }

    fn is_tls(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    /// The server's host, bare, and its port.
    fn target(&self) -> (&str, u16) {
        let port = if self.is_tls() { 443 } else { 80 };
        let host = bare(self.url.host().unwrap_or_default());
        (host, self.url.port_u16().unwrap_or(port))
    }

    /// Makes a connection, TLS handshakes included.
    pub fn connect(
        &self,
        tls: impl Fn() -> Result<Arc<ClientConfig>, rustls::Error>,
        at: &At,
    ) -> Result<Box<dyn Wire>, Unconnected> {
        at.phase
            .set(Phase::Connecting(Instant::now() + at.limits.connect));
        let shake_hands = |wire, host: &str| -> Result<Box<dyn Wire>, Unconnected> {
            let config = tls().map_err(io::Error::other)?;
            Ok(Box::new(Tls::connect(config, host, wire, at)?))
        };
        let (host, port) = self.target();
        let (first_host, first_port) = match self.proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (host, port),
        };
        let addresses = self.look_up(first_host, first_port, at)?;
        let mut wire: Box<dyn Wire> = Box::new(Socket(dial(&addresses, at)?));
        if let Some(proxy) = self.proxy {
            if proxy.tls {
                wire = shake_hands(wire, &proxy.host)?;
            }
            if self.is_tls() {
                open_tunnel(&mut *wire, proxy, host, port, at)?;
            }
        }
        if self.is_tls() {
            wire = shake_hands(wire, host)?;
        }
        at.phase.set(Phase::Requesting);
        Ok(wire)
    }

    fn look_up(&self, host: &str, port: u16, at: &At) -> Result<Vec<SocketAddr>, Ended> {
        let unknown = |error| Ended::Io(io::Error::other(format!("{host}: {error}")));
        let lookup = self.resolver.look_up(host, port).map_err(unknown)?;
        if !lookup.done.has_happened() {
            let done = [(lookup.done.fd(), Readiness::Read)];
            at.limits.wait(at.phase.get(), done, None)?;
        }
        lookup.addresses().map_err(unknown)
    }
}

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// The most addresses that are tried at once.
const AT_ONCE: usize = 8;

/// Connects to the first address that answers.
fn dial(addresses: &[SocketAddr], at: &At) -> Result<Private<TcpStream>, Ended> {
    let mut left = interleaved(addresses).into_iter().peekable();
    let mut running: Vec<Private<TcpStream>> = Vec::new();
    let mut last: io::Error = io::Error::other("the name has no address");
    let mut next = Instant::now();
    loop {
        if running.len() < AT_ONCE
            && (running.is_empty() || Instant::now() >= next)
            && let Some(address) = left.next()
        {
            match begin(address) {
                Ok((stream, true)) => return ready(stream),
                Ok((stream, false)) => running.push(stream),
                Err(error) => last = error,
            }
            next = Instant::now() + HEAD_START;
            continue;
        }
        if running.is_empty() {
            return Err(Ended::Io(last));
        }
        let mut fds = [(-1, Readiness::Write); AT_ONCE];
        for (place, stream) in fds.iter_mut().zip(&running) {
            place.0 = stream.as_raw_fd();
        }
        let more = left.peek().is_some() && running.len() < AT_ONCE;
        if let Some(done) = at.limits.wait(at.phase.get(), fds, more.then_some(next))? {
            let stream = running.swap_remove(done);
            match stream.take_error()? {
                None => return ready(stream),
                Some(error) => {
                    last = error;
                    next = Instant::now();
                }
            }
        }
    }
}

/// Addresses of the two families in turn, from the first one's on (RFC 8305, section 4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_first = |address: &&SocketAddr| {
        addresses
            .first()
            .is_some_and(|first| first.is_ipv6() == address.is_ipv6())
    };
    let mut firsts = addresses.iter().filter(is_first);
    let mut others = addresses.iter().filter(|address| !is_first(address));
    let mut all = Vec::with_capacity(addresses.len());
    while all.len() < addresses.len() {
        all.extend(firsts.next());
        all.extend(others.next());
    }
    all
}

/// Begins to connect; true if that is done already.
fn begin(address: SocketAddr) -> io::Result<(Private<TcpStream>, bool)> {
    let make = || sys::stream_socket(Domain::for_address(address)).map(TcpStream::from);
    let stream = Private::new(make)?;
    match SockRef::from(&*stream).connect(&address.into()) {
        Ok(()) => Ok((stream, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((stream, false)),
        Err(error) => Err(error),
    }
}

fn ready(stream: Private<TcpStream>) -> Result<Private<TcpStream>, Ended> {
    /// NATs forget connections that are silent for two minutes; a model may think for five.
    const KEEP_ALIVE: Duration = Duration::from_secs(60);
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE);
    SockRef::from(&*stream).set_tcp_keepalive(&keep_alive)?;
    Ok(stream)
}

/// Has a proxy connect to a server.
fn open_tunnel(
    wire: &mut dyn Wire,
    proxy: &Proxy,
    host: &str,
    port: u16,
    at: &At,
) -> Result<(), Unconnected> {
    let place = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let text = format!("CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n");
    let mut request = Zeroizing::new(Vec::with_capacity(512));
    request.extend_from_slice(text.as_bytes());
    message::proxy_authorization(proxy, &mut request);
    request.extend_from_slice(b"\r\n");
    wire.write([&request, &[]], at)?;
    let mut came = Vec::new();
    loop {
        // By the byte: what follows is the server's.
        let mut byte = [0];
        if wire.read(&mut byte, at)? == 0 {
            return Err(io::Error::other("the proxy closed the connection").into());
        }
        came.extend_from_slice(&byte);
        if !came.ends_with(b"\n") {
            continue;
        }
        match Head::read(&came) {
            Ok(Some(head)) if (200..300).contains(&head.status) => return Ok(()),
            Ok(Some(head)) if (400..500).contains(&head.status) => {
                return Err(Unconnected::Refused(head.status));
            }
            Ok(Some(head)) => {
                let status = format!("the proxy answered HTTP {}", head.status);
                return Err(io::Error::other(status).into());
            }
            Ok(None) if came.len() < message::MAX_HEAD / 16 => {}
            Ok(None) => return Err(io::Error::other("the proxy's answer has no end").into()),
            Err(wrong) => return Err(io::Error::other(wrong.what).into()),
        }
    }
}

impl Unconnected {
    /// Whether time ran out, or the host ended the call.
    pub fn cut(&self) -> Option<Cut> {
        match self {
            Unconnected::Ended(Ended::Cut(cut)) => Some(*cut),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Socket as RawSocket, Type};

    use super::*;

    #[test]
    fn addresses_of_the_two_families_take_turns() {
        let of = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
        let addresses = ["::1", "::2", "::3", "127.0.0.1", "127.0.0.2"].map(of);
        let turns = ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"].map(of);
        assert_eq!(interleaved(&addresses), turns);
        assert_eq!(interleaved(&[]), []);
    }

    #[test]
    fn an_address_that_doesn_t_answer_costs_a_quarter_of_a_second() {
        use super::super::limits::Limits;
        use std::cell::Cell;
        use std::net::TcpListener;
        // Its queue is full: it takes no further connection, and says nothing.
        let silent = RawSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        silent.listen(0).unwrap();
        let dead = silent.local_addr().unwrap().as_socket().unwrap();
        let _queued: Vec<_> = (0..4).map(|_| begin(dead).unwrap()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let alive = listener.local_addr().unwrap();
        let connect = Duration::from_secs(5);
        let limits = Limits::new(Instant::now() + 10 * connect, connect, connect, [-1, -1]);
        for (addresses, least, most) in [
            (vec![alive], 0, 200),
            (vec![refused, alive], 0, 200),
            (vec![dead, alive], 240, 600),
            (vec![dead, refused, alive], 240, 600),
        ] {
            let dialled = || {
                let at = At {
                    limits: limits.clone(),
                    phase: Cell::new(Phase::Connecting(Instant::now() + connect)),
                    sent: Cell::new(false),
                };
                let began = Instant::now();
                let made = dial(&addresses, &at).unwrap();
                let took = began.elapsed().as_millis();
                assert!(took >= least, "{addresses:?}: {took} ms");
                (took, made)
            };
            // A busy machine can be late, but not always.
            let (mut took, mut made) = dialled();
            for _ in 0..9 {
                if took >= most {
                    (took, made) = dialled();
                }
            }
            assert_eq!(made.peer_addr().unwrap(), alive);
            assert!(took < most, "{addresses:?}: {took} ms");
            assert!(SockRef::from(&*made).keepalive().unwrap());
            let time = SockRef::from(&*made).tcp_keepalive_time().unwrap();
            assert_eq!(time, Duration::from_secs(60));
        }
        assert!(matches!(
            dial(
                &[refused],
                &At {
                    limits: limits.clone(),
                    phase: Cell::new(Phase::Connecting(Instant::now() + connect)),
                    sent: Cell::new(false),
                }
            ),
            Err(Ended::Io(_))
        ));
    }
}
