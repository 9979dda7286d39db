//! What comes in on a connection, up to the head of an answer.

use std::io;

use super::connect::Unconnected;
use super::fault::Fault;
use super::limits::{Cut, Ended};
use super::message::{Head, MAX_HEAD};
use super::retry::Kind;
use super::socket::{At, Wire};

/// Read at a time: little, as long as little comes, for a thousand streams may wait at once.
const LEAST: usize = 4 * 1024;
const MOST: usize = 16 * 1024;

/// Why there is no head of an answer.
pub enum Unanswered {
    /// The connection ended, before a byte of it if the first is set.
    Closed(io::Error),
    Cut(Cut),
    /// What came can't be read, or is too long: of a success that isn't asked for again.
    Wrong {
        what: String,
        is_success: bool,
    },
}

impl From<Ended> for Unanswered {
    fn from(ended: Ended) -> Unanswered {
        match ended {
            Ended::Cut(cut) => Unanswered::Cut(cut),
            Ended::Io(error) => Unanswered::Closed(error),
        }
    }
}

impl From<Unanswered> for Fault {
    fn from(unanswered: Unanswered) -> Fault {
        match unanswered {
            Unanswered::Cut(cut) => cut.into(),
            Unanswered::Closed(error) => unconnected(error.into()),
            Unanswered::Wrong { what, is_success } => Fault {
                retry: if is_success {
                    Kind::Never
                } else {
                    Kind::Connection
                },
                ..Fault::invalid("APIConnectionError", what)
            },
        }
    }
}

/// The fault of a connection that there isn't.
pub fn unconnected(why: Unconnected) -> Fault {
    match (&why, why.cut()) {
        (_, Some(cut)) => cut.into(),
        (Unconnected::Refused(_), None) => Fault::invalid("APIConnectionError", why.to_string()),
        (Unconnected::Ended(_), None) => Fault {
            retry: Kind::Connection,
            ..Fault::invalid("APIConnectionError", why.to_string())
        },
    }
}

/// What comes in on a connection.
pub struct Incoming {
    wire: Box<dyn Wire>,
    bytes: Vec<u8>,
    /// What of them was taken, and where those that came end.
    taken: usize,
    end: usize,
    /// Read at a time.
    piece: usize,
    /// Whether no byte came.
    pub is_untouched: bool,
}

impl Incoming {
    pub fn new(wire: Box<dyn Wire>) -> Incoming {
        Incoming {
            wire,
            bytes: Vec::new(),
            taken: 0,
            end: 0,
            piece: LEAST,
            is_untouched: true,
        }
    }

    /// Whether all that came was taken.
    pub fn is_empty(&self) -> bool {
        self.taken == self.end
    }

    /// What wasn't taken yet.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..self.end).unwrap_or_default()
    }

    /// Takes that much of it.
    pub fn take(&mut self, length: usize) {
        self.taken = (self.taken + length).min(self.end);
    }

    /// The last that was taken, as long as no more comes.
    pub fn last(&self, length: usize) -> &[u8] {
        let from = self.taken.saturating_sub(length);
        self.bytes.get(from..self.taken).unwrap_or_default()
    }

    /// The connection, for another answer.
    pub fn into_wire(self) -> Box<dyn Wire> {
        self.wire
    }

    /// Waits for more; false is the end.
    pub fn more(&mut self, at: &At) -> Result<bool, Ended> {
        if self.is_empty() {
            (self.taken, self.end) = (0, 0);
        }
        if self.bytes.len() - self.end < self.piece / 2 {
            self.bytes.copy_within(self.taken..self.end, 0);
            self.end -= self.taken;
            self.taken = 0;
            let least = self.end + self.piece;
            if self.bytes.len() < least {
                self.bytes.resize(least, 0);
            }
        }
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let full = room.len();
        let read = self.wire.read(room, at)?;
        self.end += read;
        if read == full {
            self.piece = MOST.min(2 * self.piece);
        }
        self.is_untouched &= read == 0;
        Ok(read > 0)
    }

    /// Sends a request, and reads the head of its answer.
    pub fn answer(&mut self, request: [&[u8]; 2], at: &At) -> Result<Head, Unanswered> {
        // The server may stop reading before it has the whole request. It may have answered first
        // (a refusal of a large body, most likely), so that is looked for before this is reported.
        let refused = match self.wire.write(request, at) {
            Ok(()) => None,
            Err(Ended::Io(error)) if is_closed(&error) => Some(error),
            Err(ended) => return Err(ended.into()),
        };
        let mut searched = 0;
        loop {
            let came = match self.more(at) {
                Ok(came) => came,
                Err(Ended::Io(error)) => return Err(Unanswered::Closed(refused.unwrap_or(error))),
                Err(ended) => return Err(ended.into()),
            };
            if !came {
                let closed =
                    || io::Error::other("the server closed the connection without an answer");
                return Err(Unanswered::Closed(refused.unwrap_or_else(closed)));
            }
            while let Some(head) = self.head(&mut searched)? {
                self.taken += head.length;
                searched = 0;
                // 101 is the last of its connection; the others announce another head.
                if !(100..200).contains(&head.status) || head.status == 101 {
                    return Ok(Head {
                        keeps_alive: head.keeps_alive && refused.is_none(),
                        ..head
                    });
                }
            }
        }
    }

    /// A head, if all of it has come. So much of what has was `searched` for its end before.
    fn head(&mut self, searched: &mut usize) -> Result<Option<Head>, Unanswered> {
        let rest = self.rest();
        // A line end before an empty line may have been the last byte that came before.
        let from = searched.saturating_sub(3).min(rest.len());
        let mut ends = memchr::memchr_iter(b'\n', &rest[from..]).map(|at| from + at + 1);
        let is_whole =
            ends.any(|end| rest[end..].starts_with(b"\n") || rest[end..].starts_with(b"\r\n"));
        // What can't be a response is found out at once.
        let is_http = rest.len() < 8 || rest.starts_with(b"HTTP/1.") || rest.starts_with(b"\r\n");
        if !is_whole && is_http {
            if rest.len() > MAX_HEAD {
                return Err(Unanswered::Wrong {
                    what: format!("the response's head is longer than {MAX_HEAD} bytes"),
                    is_success: rest.get(8..10) == Some(b" 2"),
                });
            }
            *searched = rest.len();
            return Ok(None);
        }
        Head::read(rest).map_err(|wrong| Unanswered::Wrong {
            what: wrong.what,
            is_success: wrong.is_success,
        })
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
