//! Connections that never block but in a bounded wait.
//!
//! Every wait is one `poll` on the socket and on the two events that end the call, until the bound
//! that applies.

use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::SockRef;

use super::limits::{Ended, Limits, Phase};
use crate::sys::{Private, Readiness};

/// Where an exchange stands.
pub struct At {
    pub limits: Limits,
    pub phase: Cell<Phase>,
    /// Whether anything of a request left.
    pub sent: Cell<bool>,
}

/// What bytes go through.
pub trait Wire: Send + Sync {
    /// Waits for bytes; 0 is the end.
    fn read(&mut self, buffer: &mut [u8], at: &At) -> Result<usize, Ended>;
    /// Sends all of them.
    fn write(&mut self, bytes: [&[u8]; 2], at: &At) -> Result<(), Ended>;
    /// Bytes that are there already; `WouldBlock` if there are none.
    fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Whether nothing came since the last answer: bytes would be taken for the next one, and an
    /// end means that the server closed.
    fn is_quiet(&mut self) -> bool {
        let came = self.read_now(&mut [0]);
        matches!(came, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A TCP connection.
pub struct Socket(pub Private<TcpStream>);

impl Socket {
    /// Does `io` when the socket is ready for it, as often as it takes.
    fn when_ready(
        &self,
        readiness: Readiness,
        at: &At,
        mut io: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Result<usize, Ended> {
        // In a child of fork the connection is the parent's, and its number may be another file's.
        if !self.0.is_ours() {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        // An answer is seldom there yet, so reading waits first; room to write nearly always is.
        let mut wait = readiness == Readiness::Read;
        loop {
            if wait {
                let fds = [(self.0.as_raw_fd(), readiness)];
                at.limits.wait(at.phase.get(), fds, None)?;
            }
            match io(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait = true,
                result => return Ok(result?),
            }
        }
    }
}

impl Wire for Socket {
    fn read(&mut self, buffer: &mut [u8], at: &At) -> Result<usize, Ended> {
        self.when_ready(Readiness::Read, at, |mut stream| stream.read(buffer))
    }

    fn write(&mut self, [mut first, mut second]: [&[u8]; 2], at: &At) -> Result<(), Ended> {
        while !(first.is_empty() && second.is_empty()) {
            if at.phase.get() == Phase::Requesting {
                at.sent.set(true);
            }
            let written = self.when_ready(Readiness::Write, at, |stream| {
                // A closed peer is to be an error, not a SIGPIPE.
                let socket = SockRef::from(stream);
                if second.is_empty() {
                    return socket.send_with_flags(first, libc::MSG_NOSIGNAL);
                }
                let both = [IoSlice::new(first), IoSlice::new(second)];
                socket.send_vectored_with_flags(&both, libc::MSG_NOSIGNAL)
            })?;
            let of_first = written.min(first.len());
            first = &first[of_first..];
            second = &second[written - of_first..];
        }
        Ok(())
    }

    fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.0.is_ours() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        (&*self.0).read(buffer)
    }
}

/// A TLS session on a connection.
pub struct Tls {
    session: ClientConnection,
    wire: Box<dyn Wire>,
}

impl Tls {
    /// Shakes hands with a server of that name.
    pub fn connect(
        config: Arc<ClientConfig>,
        host: &str,
        wire: Box<dyn Wire>,
        at: &At,
    ) -> Result<Tls, Ended> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = Tls { session, wire };
        while tls.session.is_handshaking() {
            tls.flush(at)?;
            if tls.session.is_handshaking() && tls.feed(at)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        tls.flush(at)?;
        Ok(tls)
    }

    /// Sends what the session has to say.
    fn flush(&mut self, at: &At) -> Result<(), Ended> {
        while self.session.wants_write() {
            let mut out = Vec::new();
            self.session.write_tls(&mut out)?;
            self.wire.write([&out, &[]], at)?;
        }
        Ok(())
    }

    /// Waits for bytes of the session; 0 is the end.
    fn feed(&mut self, at: &At) -> Result<usize, Ended> {
        let mut ended = None;
        let mut wire = Waiting(|buffer: &mut [u8]| match self.wire.read(buffer, at) {
            Ok(read) => Ok(read),
            Err(why) => {
                ended = Some(why);
                Err(io::ErrorKind::Other.into())
            }
        });
        match self.session.read_tls(&mut wire) {
            Ok(read) => {
                self.process(at)?;
                Ok(read)
            }
            Err(error) => Err(ended.unwrap_or(Ended::Io(error))),
        }
    }

    fn process(&mut self, at: &At) -> Result<(), Ended> {
        if let Err(error) = self.session.process_new_packets() {
            // The server is told why, if it can be.
            let _ = self.flush(at);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error).into());
        }
        Ok(())
    }
}

/// Reads by a function.
struct Waiting<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Waiting<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.0)(buffer)
    }
}

impl Wire for Tls {
    fn read(&mut self, buffer: &mut [u8], at: &At) -> Result<usize, Ended> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many servers end without saying so; what they sent says whether it is whole.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return Ok(result?),
            }
            self.flush(at)?;
            self.feed(at)?;
        }
    }

    fn write(&mut self, bytes: [&[u8]; 2], at: &At) -> Result<(), Ended> {
        for mut left in bytes {
            while !left.is_empty() {
                let written = self.session.writer().write(left)?;
                left = &left[written..];
                self.flush(at)?;
            }
        }
        Ok(())
    }

    fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let wire = &mut self.wire;
            let mut now = Waiting(|buffer: &mut [u8]| wire.read_now(buffer));
            self.session.read_tls(&mut now)?;
            self.session
                .process_new_packets()
                .map_err(io::Error::other)?;
        }
    }
}
