//! An HTTP server on loopback that does what a test tells it to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// How many came before it on all connections.
    pub number: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a request's body is JSON")
    }
}

/// What happens to the connection after a response.
#[derive(PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
}

/// A running server; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Serves every request by `respond`, each connection on a thread of its own.
    pub fn start(
        respond: impl Fn(&Request, &mut TcpStream) -> io::Result<Then> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let server = Server {
            address,
            requests: Arc::clone(&requests),
            ended: Arc::clone(&ended),
        };
        let respond = Arc::new(respond);
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let (respond, requests) = (Arc::clone(&respond), Arc::clone(&requests));
                std::thread::spawn(move || {
                    // The client may go away at any time; the test looks at the client's side.
                    let _ = serve(stream, connection, &*respond, &requests);
                });
            }
        });
        server
    }

    /// Answers every request with the same bytes.
    pub fn always(response: Vec<u8>) -> Server {
        Server::start(move |_, stream| stream.write_all(&response).map(|()| Then::Keep))
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .expect("no test panics while it holds this")
            .clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    respond: &dyn Fn(&Request, &mut TcpStream) -> io::Result<Then>,
    requests: &Mutex<Vec<Request>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(mut request) = read_request(&mut reader, connection)? {
        {
            let mut requests = requests.lock().expect("no test panics while it holds this");
            request.number = requests.len();
            requests.push(request.clone());
        }
        if respond(&request, &mut stream)? == Then::Close {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead, connection: usize) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Request {
        path,
        headers,
        body: Vec::new(),
        connection,
        number: 0,
    };
    let length = request
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    Ok(Some(request))
}

/// A response with a length, as most servers send it.
pub fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        text.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// The body of an ordinary answer.
pub fn completion(content: &str) -> String {
    serde_json::json!({
        "id": "gen-1",
        "provider": "Loopback",
        "model": "openai/gpt-4-turbo",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "choices": [{
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": content}
        }],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "cost": 0.00014}
    })
    .to_string()
}
