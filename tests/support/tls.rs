//! Servers with TLS: certificates made for a test, and nginx before its server.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::pace::until;
use super::server::Server;
use super::{Scratch, run};

/// A program that runs beside a test and is ended with it.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(
            command
                .stdin(Stdio::piped())
                .spawn()
                .unwrap_or_else(|e| panic!("{command:?}: {e}")),
        )
    }

    /// Waits until it accepts connections.
    pub fn on(self, port: u16) -> Running {
        until("its port", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: nginx ends its workers only when it is asked to end.
        let Ok(id) = i32::try_from(self.0.id()) else {
            return;
        };
        // SAFETY: the child is ours and hasn't been waited for, so the id is still its own.
        unsafe { libc::kill(id, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

/// A port for a program that takes a number. Of those that Linux gives nobody by itself: any connection that
/// is made meanwhile could have got one of the others.
pub fn free_port() -> u16 {
    const LOWEST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Other tests' processes begin elsewhere.
    let first = std::process::id().wrapping_mul(7919);
    let mut ports = (0..COUNT).map(|_| {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(LOWEST + next % COUNT).expect("it's below 2^16")
    });
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("loopback has a free port")
}

/// Certificates made for one test: an authority and what it signed.
pub struct Certificates(PathBuf);

impl Certificates {
    pub fn new(scratch: &Scratch) -> Certificates {
        let this = Certificates(scratch.path().to_owned());
        this.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -keyout ca.key -out ca.pem -subj /CN=authority \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        );
        this
    }

    pub fn openssl(&self, arguments: &str) {
        run(Command::new("openssl")
            .current_dir(&self.0)
            .args(arguments.split_whitespace()));
    }

    /// A certificate `<name>.pem` with its key, for the given names and days.
    pub fn sign(&self, name: &str, names: &str, days: &str) {
        let extensions = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n");
        std::fs::write(self.0.join("extensions"), extensions).expect("it can be written");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key \
             -out {name}.csr -subj /CN={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} \
             -extfile extensions -out {name}.pem"
        ));
    }
}

pub const HERE: &str = "DNS:localhost,IP:127.0.0.1";

/// nginx with TLS in front of `upstream`, compressing and without buffering.
pub fn nginx(scratch: &Scratch, upstream: &Server) -> (Running, u16) {
    let port = free_port();
    let at = scratch.path().display();
    let config = format!(
        "daemon off; pid {at}/nginx.pid; error_log {at}/nginx.log; worker_processes 1;
         events {{}}
         http {{
             access_log off; client_max_body_size 64m;
             client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
             uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;
             gzip on; gzip_proxied any; gzip_min_length 1; gzip_types application/json;
             server {{
                 listen 127.0.0.1:{port} ssl;
                 ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key;
                 location / {{
                     proxy_pass http://{};
                     proxy_http_version 1.1; proxy_buffering off;
                 }}
             }}
         }}",
        upstream.address()
    );
    let path = scratch.join("nginx.conf");
    std::fs::write(&path, config).expect("it can be written");
    let log = File::create(scratch.join("nginx.out")).expect("it can be written");
    let command = &mut Command::new("nginx");
    (
        Running::start(command.arg("-c").arg(path).stderr(log)).on(port),
        port,
    )
}
