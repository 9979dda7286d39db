//! A server on loopback that gives every request the same answer, as fast as it can.
//!
//! It runs in threads of the benchmark, apart from the contenders, whose CPU time it must not
//! add to. It ends with the benchmark.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub struct Server {
    url: String,
    served: Arc<AtomicU64>,
}

/// A client that is silent for longer is gone.
const IDLE: Duration = Duration::from_secs(60);

impl Server {
    pub fn start(media_type: &str, body: &str) -> io::Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}/api/v1", listener.local_addr()?);
        let served = Arc::new(AtomicU64::new(0));
        let response = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\
             x-generation-id: gen-1700000000-0123456789abcdefghij\r\n\r\n{body}",
            body.len()
        );
        let counter = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (response, counter) = (response.clone(), Arc::clone(&counter));
                // A client that goes away ends its connection, not the server.
                thread::spawn(move || serve(&stream, response.as_bytes(), &counter));
            }
        });
        Ok(Server { url, served })
    }

    /// What clients take as the base of their URLs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Requests that were answered.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Acquire)
    }
}

fn serve(mut stream: &TcpStream, response: &[u8], served: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
        // Counted first: a client that has its last answer may end the measurement.
        served.fetch_add(1, Ordering::Release);
        stream.write_all(response)?;
    }
}
