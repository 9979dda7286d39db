//! Headless Chromium, driven by its DevTools protocol over two pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Scratch, available};

/// How long a browser may take for a step on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What it said on its console, and of requests that it refused.
    pub complaints: Vec<Value>,
    /// Its profile.
    _scratch: Scratch,
}

impl Browser {
    /// With one page open; `None` if none is installed, which is reported.
    pub fn start() -> Option<Browser> {
        if !available("chromium") {
            return None;
        }
        let scratch = Scratch::new();
        // It takes commands on descriptor 3, and answers on 4. What root runs has no sandbox.
        let script = r#"exec chromium --headless=new --no-sandbox --disable-gpu --no-first-run \
            --disable-dev-shm-usage --disable-background-networking --hide-scrollbars \
            --user-data-dir="$0" --remote-debugging-pipe 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(scratch.path())
            .env("HOME", scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let to = child.stdin.take().expect("it's piped");
        let out = child.stdout.take().expect("it's piped");
        let (send, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0) {
                let Ok(message) = message else { break };
                let message = serde_json::from_slice(&message).expect("it's JSON");
                if send.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Browser {
            child,
            to,
            from,
            session: None,
            last: 0,
            complaints: Vec::new(),
            _scratch: scratch,
        };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Log", "Runtime", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method, and returns its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let sent = self.to.write_all(format!("{message}\0").as_bytes());
        sent.expect("the browser listens");
        let id = self.last;
        let answer = self.wait(|message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Shows a file.
    pub fn open(&mut self, file: &Path) {
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", json!({"url": url}));
        self.wait(|message| message["method"] == "Page.loadEventFired");
    }

    /// What an expression of JavaScript is in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let evaluate = json!({"expression": expression, "returnByValue": true});
        let result = self.call("Runtime.evaluate", evaluate);
        assert!(result["exceptionDetails"].is_null(), "{result}");
        result["result"]["value"].clone()
    }

    /// Waits for a message, and notes the complaints that come before it.
    fn wait(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.from.recv_timeout(PATIENCE);
            let message = message.expect("the browser answers");
            let method = message["method"].as_str().unwrap_or_default();
            if [
                "Log.entryAdded",
                "Runtime.consoleAPICalled",
                "Runtime.exceptionThrown",
            ]
            .contains(&method)
            {
                self.complaints.push(message["params"].clone());
            }
            if is_it(&message) {
                return message;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It closes what it has started.
        self.session = None;
        let _ = self
            .to
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let _ = self.child.wait();
    }
}
