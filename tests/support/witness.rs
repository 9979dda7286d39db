//! A witness of the tests' own: it signs what it's shown, or does what a test tells it to.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use super::server::{Request, Server, Then, response};

/// What a witness does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Signs, if the size that it's told is the one that it knows.
    Signing,
    /// Answers with that, whatever it's shown.
    Answering(u16, Vec<u8>),
    /// Answers with that so many times, and then signs.
    Busy(u16, u32),
    /// Says nothing.
    Silent,
    /// Sends a byte now and then, for ever.
    Dripping,
    /// Signs another checkpoint than the one that it's shown.
    SigningAnother,
}

/// What it knows and does.
pub struct State {
    pub doing: Doing,
    pub size: u64,
    /// The sizes that it signed.
    pub signed: Vec<u64>,
    /// What it takes for the time.
    pub clock: Option<u64>,
}

/// A witness on loopback; it ends when this is dropped.
pub struct Witness {
    pub server: Server,
    state: Arc<Mutex<State>>,
    name: String,
    key: Arc<Ed25519KeyPair>,
}

const TYPE: u8 = 4;

impl Witness {
    pub fn start(number: u8) -> Witness {
        Witness::doing(number, Doing::Signing)
    }

    pub fn doing(number: u8, doing: Doing) -> Witness {
        let name = format!("witness.example/w{number}");
        let key = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("32 bytes are a seed");
        let key = Arc::new(key);
        let state = Arc::new(Mutex::new(State {
            doing,
            size: 0,
            signed: Vec::new(),
            clock: None,
        }));
        let server = Server::start({
            let (state, name, key) = (Arc::clone(&state), name.clone(), Arc::clone(&key));
            move |request, stream| {
                let mut known = state.lock().expect("no test panics while it holds this");
                let doing = known.doing.clone();
                match doing {
                    Doing::Busy(status, times) => {
                        known.doing = match times {
                            1 => Doing::Signing,
                            times => Doing::Busy(status, times - 1),
                        };
                        stream
                            .write_all(&response(status, &[], b""))
                            .map(|()| Then::Keep)
                    }
                    Doing::Signing | Doing::SigningAnother => {
                        let answer = sign(&mut known, &name, &key, request);
                        drop(known);
                        stream.write_all(&answer).map(|()| Then::Keep)
                    }
                    Doing::Answering(status, body) => {
                        drop(known);
                        let answer = response(status, &[], &body);
                        stream.write_all(&answer).map(|()| Then::Keep)
                    }
                    Doing::Silent => {
                        drop(known);
                        silence(stream)
                    }
                    Doing::Dripping => {
                        drop(known);
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                        loop {
                            stream.write_all(b"x")?;
                            std::thread::sleep(std::time::Duration::from_millis(20));
                        }
                    }
                }
            }
        });
        Witness {
            server,
            state,
            name,
            key,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds this")
    }

    pub fn vkey(&self) -> String {
        let public = self.key.public_key().as_ref();
        let bytes = [&[TYPE], public].concat();
        let id: String = id(&self.name, public)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}+{id}+{}", self.name, BASE64.encode(bytes))
    }

    /// Its line of a policy.
    pub fn line(&self, name: &str) -> String {
        let address = self.server.address();
        format!("witness {name} {} http://{address}/w/\n", self.vkey())
    }
}

fn id(name: &str, public: &[u8]) -> [u8; 4] {
    let named = [name.as_bytes(), &[b'\n', TYPE], public].concat();
    let digest = Sha256::digest(named);
    [digest[0], digest[1], digest[2], digest[3]]
}

/// Until the client goes away.
fn silence(stream: &mut TcpStream) -> io::Result<Then> {
    let _ = io::Read::read(stream, &mut [0]);
    Ok(Then::Close)
}

fn sign(known: &mut State, name: &str, key: &Ed25519KeyPair, request: &Request) -> Vec<u8> {
    assert_eq!(request.path, "/w/add-checkpoint");
    let body = std::str::from_utf8(&request.body).expect("UTF-8");
    let (before, note) = body.split_once("\n\n").expect("an empty line");
    let old = before
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("old "));
    let old: u64 = old.and_then(|old| old.parse().ok()).expect("a size");
    let (text, _) = note.split_once("\n\n").expect("a signed note");
    let text = format!("{text}\n");
    let size = text.lines().nth(1).and_then(|size| size.parse().ok());
    let size: u64 = size.expect("a size");
    if old != known.size || size < known.size {
        let size = format!("{}\n", known.size);
        return response(
            409,
            &[("content-type", "text/x.tlog.size")],
            size.as_bytes(),
        );
    }
    known.size = size;
    known.signed.push(size);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = known.clock.unwrap_or(now.expect("after 1970").as_secs());
    let text = match known.doing {
        Doing::SigningAnother => {
            text.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size + 1), 1)
        }
        _ => text,
    };
    let signature = key.sign(format!("cosignature/v1\ntime {now}\n{text}").as_bytes());
    let public = key.public_key().as_ref();
    let bytes = [
        &id(name, public),
        &now.to_be_bytes()[..],
        signature.as_ref(),
    ]
    .concat();
    let line = format!("\u{2014} {name} {}\n", BASE64.encode(bytes));
    response(200, &[("content-type", "text/plain")], line.as_bytes())
}
