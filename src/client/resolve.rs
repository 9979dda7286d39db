//! Name look-ups that obey the call's deadline.
//!
//! `getaddrinfo` can't be interrupted, and a name server that doesn't answer holds it for as long
//! as the system's resolver likes. So it runs on a thread of its own, which the call leaves behind
//! when its time is up. That costs nothing in the common case: it happens only when a connection
//! is made, and not for addresses. Calls that want the same name at once share one look-up, so
//! threads don't pile up where name servers don't answer.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::panics::contain;
use crate::sys::{self, Event};

/// The look-ups that run in this process for one client.
#[derive(Debug, Default)]
pub struct Resolver {
    running: Mutex<HashMap<(String, u16), Arc<Lookup>>>,
}

/// A look-up.
#[derive(Debug)]
pub struct Lookup {
    /// Happens when the result is there.
    pub done: Event,
    result: Mutex<Option<Result<Vec<SocketAddr>, String>>>,
}

/// Modules of the system's resolver run on it, and some want room.
const STACK: usize = 512 * 1024;

impl Resolver {
    /// The look-up of a host: the one that runs already, or a new one.
    pub fn look_up(&self, host: &str, port: u16) -> io::Result<Arc<Lookup>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            let lookup = Lookup::new()?;
            lookup.end(Ok(vec![SocketAddr::new(address, port)]));
            return Ok(Arc::new(lookup));
        }
        let key = (host.to_owned(), port);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = running
            .get(&key)
            .filter(|lookup| !lookup.done.has_happened())
        {
            return Ok(Arc::clone(lookup));
        }
        let lookup = Arc::new(Lookup::new()?);
        let (theirs, name) = (Arc::clone(&lookup), host.to_owned());
        let work = move || {
            let look_up = || (name.as_str(), port).to_socket_addrs();
            theirs.end(match contain(look_up) {
                Ok(Ok(found)) => Ok(found.collect()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(defect) => Err(defect.message),
            });
        };
        let builder = thread::Builder::new()
            .name("audit-resolve".into())
            .stack_size(STACK);
        sys::without_signals(|| builder.spawn(work))?;
        running.insert(key, Arc::clone(&lookup));
        Ok(lookup)
    }
}

impl Lookup {
    fn new() -> io::Result<Lookup> {
        Ok(Lookup {
            done: Event::new()?,
            result: Mutex::new(None),
        })
    }

    fn end(&self, result: Result<Vec<SocketAddr>, String>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.done.set();
    }

    /// The addresses, once it's done.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let result = self
            .result
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        result
            .unwrap_or_else(|| Err("the look-up ended without a result".into()))
            .map_err(io::Error::other)
    }
}
