//! Requests that are no calls: a body goes to a URL, and a short answer comes back.

use std::cell::Cell;
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::limits::{Limits, Phase};
use super::socket::At;
use super::transport::{End, Request, Settings, Transport};
use crate::config::{Headers, Place};
use crate::server::Trust;
use crate::sys::Event;

/// A longer answer is none that is asked for here.
const LONGEST: u64 = 64 * 1024;

/// Where requests go.
pub struct Post {
    transport: Transport,
    headers: Headers,
    connect: Duration,
}

impl Post {
    /// Requests to a place, of bodies of a type, by the transport of calls, without their key and their
    /// headers. `connect` is how long a connection may take.
    pub fn to(place: &Place, trust: &Trust, connect: Duration, content_type: &'static str) -> Post {
        let transport = Transport::new(Settings {
            url: place.url.clone(),
            proxy: place.proxy.clone(),
            trust: trust.clone(),
            max_response_bytes: LONGEST,
        });
        let content_type = HeaderValue::from_static(content_type);
        Post {
            transport,
            headers: Vec::from([(CONTENT_TYPE, content_type)]),
            connect,
        }
    }

    /// Sends a body, and takes the answer's status and body. Ends when the time is up, or `stop` happens.
    pub fn send(
        &self,
        body: &[u8],
        deadline: Instant,
        stop: Option<&Event>,
    ) -> Result<(u16, Vec<u8>), String> {
        let idle = deadline.saturating_duration_since(Instant::now());
        let stop = stop.map_or(-1, Event::fd);
        let at = At {
            limits: Limits::new(deadline, idle, self.connect, [stop, -1]),
            phase: Cell::new(Phase::Requesting),
            sent: Cell::new(false),
        };
        let request = Request {
            authorization: None,
            headers: &self.headers,
            body,
        };
        let sent = self.transport.send(&request, &at);
        let mut exchange = sent.map_err(|failure| failure.fault.message)?;
        let status = exchange.status;
        let mut came = Vec::new();
        loop {
            came.extend_from_slice(exchange.came());
            exchange.consume(exchange.came().len());
            match exchange.fill(&at) {
                None => {}
                Some(End::Cut(fault)) => return Err(fault.message),
                Some(_) => break,
            }
        }
        self.transport.keep(exchange);
        Ok((status, came))
    }
}
