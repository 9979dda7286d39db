//! Programs that use the log and are killed, and what must be true of the log afterwards.

use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::calls::Logger;
use super::server::{Server, Then, completion, response};
use super::{Scratch, available, compile, day_files, entries, merged, release, root, run};

/// A log, the program that writes to it, and what that program said.
pub struct Bench {
    pub scratch: Scratch,
    pub server: Server,
    pub program: PathBuf,
    pub log: PathBuf,
    config: Value,
}

/// What a worker does: see tests/c/worker.c.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    pub doings: &'a str,
    pub times: usize,
    pub threads: usize,
    pub longest: usize,
    pub expected: &'a str,
}

pub const FOREVER: Work = Work {
    doings: "clb",
    times: 0,
    threads: 2,
    longest: 6000,
    expected: "AUDIT_OK",
};

/// What a worker said of a call: what it did, on which prompt, and the entry's id.
#[derive(Debug, Clone)]
pub struct Said {
    pub what: String,
    pub prompt: String,
    pub id: String,
}

/// A server that answers at once, and remembers every request.
pub fn answering() -> Server {
    let answer = response(200, &[], completion("hi").as_bytes());
    Server::start(move |_, stream| std::io::Write::write_all(stream, &answer).map(|()| Then::Keep))
}

/// A server that repeats the prompt, letter by letter if it's asked to stream.
pub fn echoing() -> Server {
    Server::start(|request, stream| {
        let body = request.json();
        let said = body["messages"][0]["content"].as_str().unwrap_or_default();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let answer = if body["stream"] == true {
            let chunk = |letter: char| {
                let delta =
                    json!({"choices": [{"index": 0, "delta": {"content": letter.to_string()}}]});
                format!("data: {delta}\n\n")
            };
            let end = json!({"choices": [{"index": 0, "finish_reason": "stop"}]});
            let end = format!("data: {end}\n\ndata: [DONE]\n\n");
            let events: String = said.chars().map(chunk).chain([end]).collect();
            let headers = [("content-type", "text/event-stream")];
            response(200, &headers, events.as_bytes())
        } else {
            response(200, &[], completion(said).as_bytes())
        };
        std::io::Write::write_all(stream, &answer).map(|()| Then::Keep)
    })
}

/// The worker, compiled once.
fn worker() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let program = release().with_file_name("worker");
        // By renaming: another test's process may just start it.
        let own = program.with_extension(std::process::id().to_string());
        compile(&root().join("tests/c/worker.c"), release(), &own, &[]);
        std::fs::rename(&own, &program).expect("it can be moved");
        program
    };
    BUILT.get_or_init(build).clone()
}

impl Bench {
    pub fn new(more: Value) -> Bench {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        Bench::at(scratch, log, more)
    }

    /// With the log in a directory of the test's choice.
    pub fn at(scratch: Scratch, log: PathBuf, more: Value) -> Bench {
        let server = answering();
        let config = json!({
            "output_path": log, "api_key": "sk-test", "base_url": server.base_url(),
            "max_retries": 0, "max_entry_bytes": 262_144,
        });
        Bench {
            scratch,
            server,
            program: worker(),
            log,
            config: merged(config, &more),
        }
    }

    /// A worker to be started.
    pub fn command(&self, name: &str, work: Work) -> Command {
        self.arguments(Command::new(&self.program), name, work)
    }

    /// A worker to be started by strace, which does something to its system calls of a kind: "error=EIO",
    /// "signal=SIGKILL", from the nth on or only then ("when=3").
    pub fn injected(&self, calls: &str, fault: &str, work: Work) -> Command {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-o"])
            .arg(self.scratch.join("trace"))
            .arg("-e")
            .arg(format!("trace={calls}"))
            .arg("-e")
            .arg(format!("inject={calls}:{fault}"))
            .arg(&self.program);
        self.arguments(strace, "p", work)
    }

    /// How many system calls of the last such worker were failed or delayed.
    pub fn faults(&self) -> usize {
        let trace = std::fs::read(self.scratch.join("trace")).expect("strace left it");
        let trace = String::from_utf8_lossy(&trace);
        trace.matches("(INJECTED)").count() + trace.matches("(DELAYED)").count()
    }

    fn arguments(&self, mut command: Command, name: &str, work: Work) -> Command {
        let said = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.scratch.join("said"))
            .expect("it can be made");
        command
            .arg(self.config.to_string())
            .args([
                work.doings,
                &work.times.to_string(),
                &work.threads.to_string(),
                name,
                &work.longest.to_string(),
                work.expected,
            ])
            .stdout(Stdio::from(said))
            .env_remove("LD_LIBRARY_PATH");
        command
    }

    pub fn start(&self, name: &str, work: Work) -> Running {
        let started = self.command(name, work).spawn();
        Running(started.expect("the worker starts"))
    }

    /// Everything that the workers acknowledged. A last line that a kill cut off isn't.
    pub fn said(&self) -> Vec<Said> {
        let text = std::fs::read_to_string(self.scratch.join("said")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| {
            let mut parts = line.split(' ').map(str::to_owned);
            Some(Said {
                what: parts.next()?,
                prompt: parts.next()?,
                id: parts.next()?,
            })
        };
        whole.lines().filter_map(parse).collect()
    }

    /// Opens the log as the next process would, and closes it.
    pub fn open(&self) {
        drop(Logger::new(&self.config));
    }

    /// Opens the log as the next process would, and holds it to the promises: every line is JSON,
    /// every acknowledged entry is there, every request that the server saw has one, and nothing is
    /// there twice.
    #[track_caller]
    pub fn check(&self) -> Counts {
        self.open();
        self.check_all(self.said(), usize::MAX)
    }

    /// What was said and sent until now.
    pub fn until_now(&self) -> (Vec<Said>, usize) {
        (self.said(), self.server.requests().len())
    }

    /// The same after a power cut, of what was said and sent before it. (The machine that tests is
    /// still on: what the kernel answers during the cut, no process would have lived to hear.) What a
    /// worker was told has failed may be there or not.
    #[track_caller]
    pub fn check_kept(&self, (said, sent): (Vec<Said>, usize)) -> Counts {
        self.open();
        let kept = |said: &Said| ["chat", "log", "begin", "finish"].contains(&said.what.as_str());
        self.check_all(said.into_iter().filter(kept).collect(), sent)
    }

    #[track_caller]
    fn check_all(&self, said: Vec<Said>, sent: usize) -> Counts {
        let entries = entries(&self.log);
        let mut by_id: HashMap<&str, usize> = HashMap::new();
        let mut by_prompt: HashMap<&str, usize> = HashMap::new();
        for entry in &entries {
            *by_id.entry(text(entry, "id")).or_default() += 1;
            *by_prompt.entry(text(entry, "prompt_hash")).or_default() += 1;
        }
        let doubled: Vec<_> = by_id.iter().filter(|(_, count)| **count > 1).collect();
        assert!(
            doubled.is_empty(),
            "entries that are there twice: {doubled:?}"
        );
        for said in said.iter().filter(|said| said.id.len() == 36) {
            assert!(
                by_id.contains_key(said.id.as_str()),
                "an acknowledged entry is lost: {said:?} in {:?}",
                self.log
            );
        }
        let requests = self.server.requests();
        let sent = sent.min(requests.len());
        for request in &requests[..sent] {
            let request = request.json();
            let prompt = request["messages"][0]["content"].as_str();
            let hash = hex(prompt.expect("workers send a prompt"));
            let count = by_prompt.get(hash.as_str()).copied().unwrap_or_default();
            assert_eq!(count, 1, "entries of a request that was sent: {request}");
        }
        let unknown = entries
            .iter()
            .filter(|entry| entry["error_type"] == "OutcomeUnknown")
            .count();
        Counts {
            entries: entries.len(),
            said: said.len(),
            sent,
            unknown,
        }
    }

    /// The ids in the log, each once.
    pub fn ids(&self) -> BTreeSet<String> {
        let entries = entries(&self.log);
        entries
            .iter()
            .map(|entry| text(entry, "id").to_owned())
            .collect()
    }

    /// Has others read the log: jq and DuckDB, as far as they are there.
    pub fn check_by_others(&self, count: usize) {
        let files: Vec<_> = day_files(&self.log);
        if available("jq") {
            let counted = run(Command::new("jq")
                .args(["-n", "[inputs] | length"])
                .args(&files));
            assert_eq!(counted.trim(), count.to_string(), "as jq counts");
        }
        if let Some(python) = super::python_with("duckdb") {
            let program = "import duckdb, sys; print(duckdb.sql(\"select count(*) from \
                read_json('\" + sys.argv[1] + \"/audit_*.jsonl', format='newline_delimited', \
                maximum_object_size=4000000)\").fetchall()[0][0])";
            let counted = run(Command::new(python).args(["-c", program]).arg(&self.log));
            assert_eq!(counted.trim(), count.to_string(), "as DuckDB counts");
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub entries: usize,
    pub said: usize,
    pub sent: usize,
    pub unknown: usize,
}

/// A worker that runs. It's killed when this is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().expect("it's a text")
}

pub fn hex(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
