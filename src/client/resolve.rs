//! Name look-ups that obey the call's deadline.
//!
//! `getaddrinfo` can't be interrupted, and a name server that doesn't answer holds it for as long
//! as the system's resolver likes. So it runs on a thread of its own, which the call leaves behind
//! when its time is up. That costs nothing in the common case: it happens only when a connection
//! is made, and not for addresses.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::sys::{self, Event};

/// A look-up that was begun.
pub enum Lookup {
    /// There was nothing to look up.
    Known(Vec<SocketAddr>),
    /// It runs on a thread.
    Running(Arc<Shared>),
}

/// What the call and the look-up's thread share.
pub struct Shared {
    /// Happens when the result is there.
    pub done: Event,
    result: Mutex<Option<io::Result<Vec<SocketAddr>>>>,
}

/// Look-ups that run at once. Where name servers don't answer, calls fail rather than pile up
/// threads.
const MAX_LOOKUPS: usize = 16;
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Modules of the system's resolver run on it, and some want room.
const STACK: usize = 512 * 1024;

/// Begins to look a host up.
pub fn begin(host: &str, port: u16) -> io::Result<Lookup> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Lookup::Known(vec![SocketAddr::new(address, port)]));
    }
    if RUNNING.fetch_add(1, Ordering::Relaxed) >= MAX_LOOKUPS {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        return Err(io::Error::other(format!(
            "{MAX_LOOKUPS} name look-ups are waiting for an answer"
        )));
    }
    let permit = Permit;
    let shared = Arc::new(Shared {
        done: Event::new()?,
        result: Mutex::new(None),
    });
    let (theirs, host) = (Arc::clone(&shared), host.to_owned());
    let work = move || {
        // The host's signals are its own threads' business.
        sys::block_all_signals();
        let found = (host.as_str(), port)
            .to_socket_addrs()
            .map(Iterator::collect);
        *theirs.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        theirs.done.set();
        drop(permit);
    };
    thread::Builder::new()
        .name("audit-resolve".into())
        .stack_size(STACK)
        .spawn(work)?;
    Ok(Lookup::Running(shared))
}

impl Shared {
    /// The addresses, once it's done.
    pub fn take(&self) -> io::Result<Vec<SocketAddr>> {
        let result = self
            .result
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        result.unwrap_or_else(|| Err(io::Error::other("the name look-up ended without a result")))
    }
}

/// A permit among the look-ups that run.
struct Permit;

impl Drop for Permit {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}
