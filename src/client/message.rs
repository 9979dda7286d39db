//! HTTP/1.1 messages: the request's head, the response's, and the framing of its body (RFC 9112).

use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, ParserConfig, Status};
use zeroize::Zeroize;

use crate::config::{Headers, Secret};
use crate::server::Proxy;

/// The longest head of a response that is read.
pub const MAX_HEAD: usize = 256 * 1024;
/// The most header fields of a response that are read.
const MAX_FIELDS: usize = 1024;

/// Where a request goes, and what it says beside its body.
pub struct RequestHead<'r> {
    pub url: &'r Uri,
    /// Set if the request goes to a proxy that sends it on.
    pub proxy: Option<&'r Proxy>,
    pub authorization: Option<&'r Secret>,
    pub headers: &'r Headers,
    pub body: &'r [u8],
}

/// A request's head, and its body if that is short: both go out as one. The head is wiped when it's
/// dropped, for it holds the key.
pub struct Packed {
    bytes: Vec<u8>,
    head: usize,
}

impl Packed {
    /// The bytes, and those of the body that don't stand in them.
    pub fn with_rest<'b>(&'b self, body: &'b [u8]) -> [&'b [u8]; 2] {
        let rest = if self.bytes.len() > self.head {
            &[]
        } else {
            body
        };
        [&self.bytes, rest]
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        // Not all of it: that takes as long as to send it.
        if let Some(head) = self.bytes.get_mut(..self.head) {
            head.zeroize();
        }
    }
}

impl RequestHead<'_> {
    /// Its bytes.
    pub fn packed(&self) -> Packed {
        /// A longer body isn't copied.
        const SHORT: usize = 8 * 1024;

        let authority = self
            .url
            .authority()
            .map_or("", |authority| authority.as_str());
        let path = self.url.path();
        // More than it takes: what grows leaves a copy of the key behind.
        let given = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4);
        let key = self.authorization.map_or(0, |key| key.expose().len());
        let short = self.body.len() <= SHORT;
        let body = if short { self.body } else { &[] };
        let asked = self.proxy.and_then(|proxy| proxy.authorization.as_ref());
        let asked = asked.map_or(0, |value| value.as_bytes().len());
        let room = 1024 + asked + 2 * authority.len() + path.len() + given.sum::<usize>() + key;
        let mut out = Vec::with_capacity(room + body.len());
        out.extend_from_slice(b"POST ");
        if self.proxy.is_some() {
            out.extend_from_slice(b"http://");
            out.extend_from_slice(authority.as_bytes());
        }
        let length = self.body.len().to_string();
        for part in [
            path,
            " HTTP/1.1\r\nhost: ",
            authority,
            "\r\ncontent-length: ",
            &length,
            "\r\naccept-encoding: gzip\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        let is_given = |name: &str| self.headers.iter().any(|(known, _)| known == name);
        if !is_given("content-type") {
            out.extend_from_slice(b"content-type: application/json\r\n");
        }
        if !is_given("user-agent") {
            let agent = concat!(
                "user-agent: audit_logger/",
                env!("CARGO_PKG_VERSION"),
                "\r\n"
            );
            out.extend_from_slice(agent.as_bytes());
        }
        if !is_given("accept") {
            out.extend_from_slice(b"accept: application/json\r\n");
        }
        for (name, value) in self.headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if let Some(key) = self.authorization {
            out.extend_from_slice(b"authorization: Bearer ");
            out.extend_from_slice(key.expose().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if let Some(proxy) = self.proxy {
            proxy_authorization(proxy, &mut out);
        }
        out.extend_from_slice(b"\r\n");
        let head = out.len();
        out.extend_from_slice(body);
        Packed { bytes: out, head }
    }
}

/// Appends what a proxy asks for, if it has credentials.
pub fn proxy_authorization(proxy: &Proxy, out: &mut Vec<u8>) {
    if let Some(value) = &proxy.authorization {
        out.extend_from_slice(b"proxy-authorization: ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the connection may serve another request after it.
    pub keeps_alive: bool,
    /// The bytes that it took.
    pub length: usize,
}

/// What is no response.
#[derive(Debug)]
pub struct NoHead {
    pub what: String,
    /// Whether it begins as a success does: it was processed, and is billed.
    pub is_success: bool,
}

impl Head {
    /// Reads a head; `None` if more of it is to come. Header fields that aren't well formed are
    /// left out, and folded ones unfolded: an answer isn't lost over a field that nobody reads.
    pub fn read(bytes: &[u8]) -> Result<Option<Head>, NoHead> {
        let mut config = ParserConfig::default();
        config
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true);
        const FEW: usize = 64;
        let mut few = [EMPTY_HEADER; FEW];
        let mut response = httparse::Response::new(&mut few);
        let mut parsed = config.parse_response(&mut response, bytes);
        let mut many;
        if parsed == Err(httparse::Error::TooManyHeaders) {
            many = vec![EMPTY_HEADER; MAX_FIELDS];
            response = httparse::Response::new(&mut many);
            parsed = config.parse_response(&mut response, bytes);
        }
        let wrong = |what: String| NoHead {
            what,
            is_success: bytes.starts_with(b"HTTP/1.") && bytes.get(8..10) == Some(b" 2"),
        };
        let length = match parsed {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(error) => return Err(wrong(format!("the response's head can't be read: {error}"))),
        };
        let mut headers = HeaderMap::with_capacity(response.headers.len());
        for field in &*response.headers {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value).or_else(|_| {
                let unfolded = String::from_utf8_lossy(field.value);
                let words: Vec<&str> = unfolded.split_ascii_whitespace().collect();
                HeaderValue::from_str(&words.join(" "))
            });
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let status = response.code.unwrap_or_default();
        let is_old = response.version == Some(0);
        let framing = Framing::of(status, is_old, &headers).map_err(wrong)?;
        let says = |token: &str| lists(&headers, "connection", token);
        let keeps_alive = !says("close") && (!is_old || says("keep-alive"));
        Ok(Some(Head {
            status,
            keeps_alive: keeps_alive && framing != Framing::Close && status != 101,
            headers,
            framing,
            length,
        }))
    }
}

/// Whether a field that is a list holds a token.
fn lists(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After that many more bytes.
    Length(u64),
    Chunks(Chunk),
    /// Where the connection does.
    Close,
}

/// Where within chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// In the line of a chunk's size, which is that so far.
    Size {
        size: u64,
        digits: u8,
        ended: bool,
    },
    /// In a chunk, with that many more bytes.
    Data(u64),
    /// In the line end after a chunk.
    After,
    /// In a line after the last chunk; of that length so far.
    Trailer(u32),
    Ended,
}

const SIZE: Chunk = Chunk::Size {
    size: 0,
    digits: 0,
    ended: false,
};

impl Framing {
    fn of(status: u16, is_old: bool, headers: &HeaderMap) -> Result<Framing, String> {
        if matches!(status, 100..200 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if lists(headers, "transfer-encoding", "chunked") && !is_old {
            return Ok(Framing::Chunks(SIZE));
        }
        let mut length = None;
        for value in headers.get_all("content-length") {
            for value in value.as_bytes().split(|byte| *byte == b',') {
                let digits = value.trim_ascii();
                let number = std::str::from_utf8(digits).ok();
                let number = number.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let number: u64 = number
                    .and_then(|text| text.parse().ok())
                    .ok_or("content-length is no length")?;
                if length.is_some_and(|known| known != number) {
                    return Err("two values of content-length differ".into());
                }
                length = Some(number);
            }
        }
        Ok(length.map_or(Framing::Close, Framing::Length))
    }

    /// Whether all has come.
    pub fn has_ended(&self) -> bool {
        matches!(self, Framing::Length(0) | Framing::Chunks(Chunk::Ended))
    }

    /// Whether the end of the connection is the body's as well: where it is to be, or after the
    /// last chunk.
    pub fn may_end_here(&self) -> bool {
        matches!(self, Framing::Close | Framing::Chunks(Chunk::Trailer(_))) || self.has_ended()
    }

    /// Takes some of `bytes`, and says how many, and which of them are the body's.
    pub fn take<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, &'b [u8]), &'static str> {
        match self {
            Framing::Close => Ok((bytes.len(), bytes)),
            Framing::Length(left) => {
                let length = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= length as u64;
                Ok((length, &bytes[..length]))
            }
            Framing::Chunks(chunk) => chunk.take(bytes),
        }
    }
}

impl Chunk {
    fn take<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, &'b [u8]), &'static str> {
        const MAX_TRAILER: u32 = 64 * 1024;
        for (at, &byte) in bytes.iter().enumerate() {
            match self {
                Chunk::Data(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX);
                    let length = length.min(bytes.len() - at);
                    *left -= length as u64;
                    if *left == 0 {
                        *self = Chunk::After;
                    }
                    return Ok((at + length, &bytes[at..at + length]));
                }
                Chunk::Size {
                    size,
                    digits,
                    ended,
                } => match byte {
                    b'\n' if *digits > 0 => {
                        *self = match size {
                            0 => Chunk::Trailer(0),
                            size => Chunk::Data(*size),
                        }
                    }
                    b'\n' => return Err("a chunk has no size"),
                    _ if *ended => {}
                    b';' | b' ' | b'\t' | b'\r' => *ended = *digits > 0 || byte == b';',
                    _ => {
                        let digit = char::from(byte).to_digit(16);
                        let digit = digit.ok_or("a chunk's size is no number")?;
                        *digits += 1;
                        if *digits > 16 {
                            return Err("a chunk's size is too long");
                        }
                        *size = (*size << 4) | u64::from(digit);
                    }
                },
                Chunk::After => match byte {
                    b'\r' => {}
                    b'\n' => *self = SIZE,
                    _ => return Err("a chunk is longer than its size says"),
                },
                Chunk::Trailer(length) => match byte {
                    b'\r' => {}
                    b'\n' if *length == 0 => {
                        *self = Chunk::Ended;
                        return Ok((at + 1, &[]));
                    }
                    b'\n' => *length = 0,
                    _ if *length == MAX_TRAILER => return Err("a trailer is too long"),
                    _ => *length += 1,
                },
                Chunk::Ended => return Ok((at, &[])),
            }
        }
        Ok((bytes.len(), &[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(
        mut framing: Framing,
        pieces: &[&[u8]],
    ) -> Result<(Vec<u8>, bool, usize), &'static str> {
        let (mut found, mut left) = (Vec::new(), 0);
        for piece in pieces {
            let mut bytes = *piece;
            while !bytes.is_empty() && !framing.has_ended() {
                let (taken, data) = framing.take(bytes)?;
                found.extend_from_slice(data);
                bytes = &bytes[taken..];
            }
            left = bytes.len();
        }
        Ok((found, framing.has_ended(), left))
    }

    #[test]
    fn chunks_read_the_same_however_they_are_cut() {
        let text = b"5\r\nhello\r\n1;x=y\r\n \r\n00005 \r\nworld\r\n0\r\na: b\r\n\r\nnext";
        let whole = Ok((b"hello world".to_vec(), true, 4));
        assert_eq!(body(Framing::Chunks(SIZE), &[text]), whole);
        for cut in 0..text.len() - 4 {
            let (head, tail) = text.split_at(cut);
            assert_eq!(body(Framing::Chunks(SIZE), &[head, tail]), whole, "{cut}");
        }
        for wrong in [
            "zz\r\n",
            "\r\n",
            "10000000000000000\r\n{}",
            "1\r\nab\r\n",
            "-1\r\n",
        ] {
            assert!(
                body(Framing::Chunks(SIZE), &[wrong.as_bytes()]).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_head_that_is_odd_is_read() {
        let fields: String = (0..150)
            .map(|number| format!("x-{number}: y\r\n"))
            .collect();
        let folded = "x-folded: a\r\n  b\r\n\tc\r\n";
        let long = format!("x-long: {}\r\n", "z".repeat(70 * 1024));
        let odd = "no colon\r\nspaced : v\r\ncontent-length: 2\r\n\r\n{}";
        let text = format!("HTTP/1.1 200 OK\r\n{fields}{folded}{long}{odd}");
        let head = Head::read(text.as_bytes()).unwrap().unwrap();
        assert_eq!((head.status, head.framing), (200, Framing::Length(2)));
        assert_eq!(head.headers.get("x-149").unwrap(), "y");
        assert_eq!(head.headers.get("x-folded").unwrap(), "a b c");
        assert_eq!(&text[head.length..], "{}");
        for cut in [0, 10, 100, 5000, text.len() - 3] {
            assert!(
                Head::read(&text.as_bytes()[..cut]).unwrap().is_none(),
                "{cut}"
            );
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(5000));
        assert!(Head::read(many.as_bytes()).unwrap_err().is_success);
        assert!(
            !Head::read(b"220 mail.example ESMTP\r\n")
                .unwrap_err()
                .is_success
        );
    }

    #[test]
    fn a_body_is_framed_as_its_head_says() {
        let of = |head: &str| {
            let text = format!("{head}\r\n\r\n");
            let head = Head::read(text.as_bytes()).ok().flatten()?;
            Some((head.framing, head.keeps_alive))
        };
        for (head, framing) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5",
                Some((Framing::Length(5), true)),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5, 05",
                Some((Framing::Length(5), true)),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
                None,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: -1", None),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked",
                Some((Framing::Chunks(SIZE), true)),
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0",
                Some((Framing::Length(0), false)),
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 1",
                Some((Framing::Length(1), false)),
            ),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1",
                Some((Framing::Length(1), true)),
            ),
            ("HTTP/1.1 200 OK", Some((Framing::Close, false))),
            (
                "HTTP/1.1 204 No\r\ncontent-length: 9",
                Some((Framing::Length(0), true)),
            ),
        ] {
            assert_eq!(of(head), framing, "{head}");
        }
    }
}
