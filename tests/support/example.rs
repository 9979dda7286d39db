//! The server of the examples.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::{run, target};

/// A running one; it ends when this is dropped.
pub struct ExampleServer {
    child: Child,
    base_url: String,
}

impl ExampleServer {
    pub fn start() -> ExampleServer {
        run(super::cargo().args(["build", "--locked", "--offline", "-p", "example-server"]));
        let mut child = Command::new(target().join("debug/example-server"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server of the examples is built");
        let stdout = child.stdout.take().expect("piped");
        let mut base_url = String::new();
        BufReader::new(stdout)
            .read_line(&mut base_url)
            .expect("the server prints its address");
        base_url.truncate(base_url.trim_end().len());
        assert!(base_url.starts_with("http://127.0.0.1:"), "{base_url}");
        ExampleServer { child, base_url }
    }

    pub fn base_url(&self) -> &str {
        &self.base_url
    }
}

impl Drop for ExampleServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
