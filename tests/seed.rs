//! The same calls by the seed's Python client and by this library, against the same server: both
//! must leave the same entry, but for the differences that a case declares with its reason.
//!
//! The seed runs unchanged (seed/audit_seed.py) on the real openai package; the expectations were
//! written for openai 3.57.0 (seed/requirements.txt). AUDIT_TEST_PYTHON names an interpreter that
//! has it; otherwise `python3` is asked.

#[path = "seed/cases.rs"]
mod cases;
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Map, Value, json};
use socket2::{Domain, SockRef, Socket, Type};

use audit_logger::ffi::*;
use cases::{Case, Step};
use support::calls::{ABSENT, Answer, Logger, chat_request, text};
use support::server::{Request, Server, Then};
use support::{Scratch, root, skip};

const KEY: &str = "sk-test-key";

/// Values by their names; each a JSON text as Python writes it.
type Fields = BTreeMap<String, String>;

/// What the two sides are compared by.
struct Observed {
    /// The answer, and how many requests and entries there are.
    call: Fields,
    /// The entry's fields, if there is one.
    entry: Option<Fields>,
    /// The first request as the server got it, if it got any.
    request: Option<Fields>,
}

#[test]
fn every_call_is_logged_as_the_seed_logs_it() {
    let scratch = Scratch::new();
    let Some(mut seed) = Seed::start(&scratch) else {
        return;
    };
    let cases = cases::all();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have the same name");
    // Where a stall of the machine's looks like silence of the server's, what differs is tried again.
    const ATTEMPTS: usize = 4;
    let steps = cases.iter().map(|case| case.steps.clone());
    let server = serve((0..ATTEMPTS).flat_map(|_| steps.clone()).collect());
    let (_closed, closed_port) = closed_port();

    let mut wrong = Vec::new();
    let mut compared = |number: usize| {
        let case = &cases[number % cases.len()];
        let address = if case.closed_port {
            closed_port
        } else {
            server.address()
        };
        let side = |name: &'static str| Side {
            name,
            case,
            prefix: format!("/{name}/{number}/"),
            base_url: format!("http://{address}/{name}/{number}/v1"),
            log: scratch.join(&format!("{name}-{number}")),
        };
        let (theirs, ours) = (side("seed"), side("library"));
        let (theirs, ours) = std::thread::scope(|scope| {
            let ours_made = scope.spawn(|| ours.call_library());
            let theirs_made = theirs.call_seed(&mut seed);
            let ours_made = ours_made.join().expect("its assertions hold");
            (
                theirs.observe(&mut seed, &server, theirs_made),
                ours.observe(&mut seed, &server, ours_made),
            )
        });
        compare(case, &theirs, &ours)
    };
    for (number, case) in cases.iter().enumerate() {
        let attempts = if case.timeout_ms.is_some() {
            ATTEMPTS
        } else {
            1
        };
        let mut found = (0..attempts).map(|attempt| compared(number + attempt * cases.len()));
        // If each time something differs, what did at last.
        wrong.extend(found.try_fold(String::new(), |_, found| found));
    }
    assert!(
        wrong.is_empty(),
        "of {} cases, with openai {}:\n\n{}",
        cases.len(),
        seed.version,
        wrong.join("\n\n")
    );
}

#[path = "seed/streams.rs"]
mod streams;

/// Chunk for chunk, and what they add up to, by the client's own accumulator.
#[test]
fn every_stream_adds_up_as_the_openai_client_adds_it_up() {
    let scratch = Scratch::new();
    let Some(mut seed) = Seed::start(&scratch) else {
        return;
    };
    let mut wrong = Vec::new();
    for case in streams::all() {
        let server = Server::always(case.response());
        let made = seed.ask(&json!({"stream": {"base_url": server.base_url(), "api_key": KEY}}));
        let logger = Logger::new(&json!({
            "output_path": scratch.join("streams"), "base_url": server.base_url(), "api_key": KEY,
            "max_retries": 0,
        }));
        let ours = streams::heard(&logger);
        let theirs = match (&made["said"], made["raised"].as_str()) {
            (Value::Object(_), None) => made.clone(),
            (_, raised) => json!({"chunks": made["chunks"], "raised": raised}),
        };
        let is_same = ours == theirs;
        if is_same != case.differs.is_none() {
            let (name, why) = (
                case.name,
                case.differs.unwrap_or("no difference is declared"),
            );
            wrong.push(format!(
                "{name}: {why}\n  client {theirs}\n  library {ours}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "with openai {}:\n{}",
        seed.version,
        wrong.join("\n")
    );
}

/// An address that refuses connections while the socket lives: it is bound, so that nobody else
/// gets the port, but doesn't listen.
fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("sockets can be made");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("loopback has a free port");
    let address = socket.local_addr().ok().and_then(|at| at.as_socket());
    (socket, address.expect("a bound socket has an address"))
}

/// What contradicts the case, for a person.
fn compare(case: &Case, seed: &Observed, library: &Observed) -> Option<String> {
    let mut declared: BTreeMap<&str, (&Value, &Value)> = BTreeMap::new();
    for deviation in &case.deviations {
        for (what, seed, library) in &deviation.fields {
            let before = declared.insert(what, (seed, library));
            assert!(before.is_none(), "{}: {what} is declared twice", case.name);
        }
    }
    // That only one of them has an entry, or sent a request, shows in the numbers of these.
    let mut pairs = vec![(&seed.call, &library.call)];
    pairs.extend(seed.entry.as_ref().zip(library.entry.as_ref()));
    pairs.extend(seed.request.as_ref().zip(library.request.as_ref()));
    let mut both: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for (seed, library) in pairs {
        for (side, fields) in [seed, library].into_iter().enumerate() {
            for (what, text) in fields {
                both.entry(what).or_default()[side] = Some(text);
            }
        }
    }
    for what in declared.keys() {
        both.entry(what).or_default();
    }

    let is = |text: Option<&str>, value: &Value| match text {
        None => value.is_null(),
        Some(text) => serde_json::from_str::<Value>(text).is_ok_and(|found| found == *value),
    };
    let shown = |text: Option<&str>| match text {
        None => "nothing".to_owned(),
        Some(text) => text.chars().take(200).collect(),
    };
    let mut wrong = String::new();
    for (what, [seed, library]) in both {
        let (right, said) = match declared.get(what) {
            None => (seed == library, "no difference".to_owned()),
            Some((theirs, ours)) => (
                seed != library && is(seed, theirs) && is(library, ours),
                format!("seed {theirs}, library {ours}"),
            ),
        };
        if !right {
            let (seed, library) = (shown(seed), shown(library));
            wrong += &format!("\n  {what}: seed {seed}, library {library}; declared: {said}");
        }
    }
    (!wrong.is_empty()).then(|| {
        let reasons = case.deviations.iter().map(|deviation| deviation.why);
        format!(
            "{}{wrong}\n  {}",
            case.name,
            reasons.collect::<Vec<_>>().join("\n  ")
        )
    })
}

/// One of the two in one case.
struct Side<'a> {
    name: &'static str,
    case: &'a Case,
    /// Of the paths that it asks for.
    prefix: String,
    base_url: String,
    log: PathBuf,
}

/// What a caller got: the answer, or the class of the error.
type Made = Result<String, String>;

impl Side<'_> {
    fn call_seed(&self, seed: &mut Seed) -> Made {
        let case = self.case;
        let mut keywords = case.keywords.clone();
        if let Some(milliseconds) = case.timeout_ms {
            keywords.push(json!({"timeout": milliseconds as f64 / 1000.0}).to_string());
        }
        if !case.headers.is_empty() {
            keywords.push(json!({"extra_headers": case.headers}).to_string());
        }
        let made = seed.ask(&json!({"call": {
            "output_path": self.log,
            "base_url": self.base_url,
            "api_key": (!case.keyless).then_some(KEY),
            "max_retries": case.max_retries,
            "prompt": case.prompt,
            "user_id": case.user_id,
            "model": case.model,
            "metadata": case.metadata,
            "keywords": keywords,
        }}));
        match (made.get("answer"), made.get("raised")) {
            (Some(Value::String(answer)), None) => Ok(answer.clone()),
            (None, Some(Value::String(class))) => Err(class.clone()),
            _ => panic!("{}: the seed answers with {made}", case.name),
        }
    }

    fn call_library(&self) -> Made {
        let case = self.case;
        let mut config = json!({
            "output_path": self.log,
            "base_url": self.base_url,
            "max_retries": case.max_retries,
            "api_key": KEY,
        });
        if case.keyless {
            config["api_key"] = Value::Null;
            config["api_key_env"] = "AUDIT_TEST_NO_SUCH_VARIABLE".into();
        }
        for (key, value) in &case.config {
            config[key] = value.clone();
        }
        let mut options = Map::new();
        if let Some(milliseconds) = case.timeout_ms {
            options.insert("timeout_ms".into(), milliseconds.into());
        }
        if !case.headers.is_empty() {
            options.insert("headers".into(), case.headers.clone().into());
        }
        let options = Value::Object(options).to_string();
        let optional = |given: Option<&String>| given.map_or(ABSENT, |given| text(given));

        let answer = Logger::new(&config).chat(&AuditChatRequest {
            user_id: text(&case.user_id),
            prompt: text(&case.prompt),
            model: case.model.map_or(ABSENT, text),
            metadata: optional(case.metadata.as_ref()),
            params: optional(case.params.as_ref()),
            options: text(&options),
            ..chat_request()
        });
        self.check_reply(&answer);
        match answer.status {
            AUDIT_OK => Ok(answer
                .text(AUDIT_REPLY_CONTENT)
                .expect("a success has an answer")
                .to_owned()),
            _ => Err(answer.error_type().to_owned()),
        }
    }

    /// The status says how the call ended, and when the caller reads it, the entry is written.
    fn check_reply(&self, answer: &Answer) {
        let name = &self.case.name;
        let lines = lines(&self.log);
        let Some(entry) = answer.text(AUDIT_REPLY_ENTRY) else {
            assert_eq!(
                answer.status,
                AUDIT_E_ARGUMENT,
                "{name}: {}",
                answer.message()
            );
            assert!(lines.is_empty(), "{name}: {lines:?}");
            return;
        };
        assert_eq!(lines, [entry], "{name}");
        let entry = answer.entry();
        let (status, class) = match entry["status"].as_str() {
            Some("success") => (AUDIT_OK, ""),
            _ => (AUDIT_E_CALL, entry["error_type"].as_str().unwrap_or("none")),
        };
        assert_eq!(answer.status, status, "{name}: {}", answer.message());
        assert_eq!(answer.error_type(), class, "{name}");
        assert_eq!(
            answer.text(AUDIT_REPLY_ENTRY_ID),
            entry["id"].as_str(),
            "{name}"
        );
    }

    fn observe(&self, seed: &mut Seed, server: &Server, made: Made) -> Observed {
        let name = format!("{}, {}", self.case.name, self.name);
        let requests: Vec<Request> = server
            .requests()
            .into_iter()
            .filter(|request| request.path.starts_with(&self.prefix))
            .collect();
        let lines = lines(&self.log);
        let mut call = Fields::from([
            ("requests".into(), requests.len().to_string()),
            ("entries".into(), lines.len().to_string()),
        ]);
        if let Ok(answer) = &made {
            call.insert("answer".into(), json!(answer).to_string());
        }

        let request = requests.first().map(|first| {
            let path = &first.path[self.prefix.len()..];
            let body = String::from_utf8(first.body.clone()).expect("requests are UTF-8");
            let mut request = Fields::from([
                ("path".into(), json!(path).to_string()),
                ("body".into(), seed.text(&json!({"body": body}))),
            ]);
            let given = self.case.headers.keys().map(String::as_str);
            for header in given.chain(["authorization", "content-type"]) {
                let value = json!(first.header(header)).to_string();
                request.insert(format!("header {header}"), value);
            }
            request
        });
        if self.name == "library" {
            // A retry asks for the same.
            let same =
                |pair: &[Request]| pair[0].path == pair[1].path && pair[0].body == pair[1].body;
            assert!(requests.windows(2).all(same), "{name}");
        }

        let entry = lines.first().map(|line| {
            let mut entry = Fields::new();
            let Value::Object(fields) = seed.ask(&json!({"entry": line})) else {
                panic!("{name}: the driver reads an entry as its fields");
            };
            for (field, text) in fields {
                if !["id", "timestamp", "latency_ms"].contains(&field.as_str()) {
                    let text = text.as_str().expect("the driver gives JSON texts");
                    entry.insert(field, text.to_owned());
                }
            }
            // The log says what the caller was told.
            assert_eq!(entry["error_type"], json!(made.err()).to_string(), "{name}");
            entry
        });
        Observed {
            call,
            entry,
            request,
        }
    }
}

/// The lines of the log in a directory, as they are.
fn lines(directory: &Path) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for file in files {
        let path = file.expect("a directory can be read").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            let log = std::fs::read_to_string(&path).expect("the log is UTF-8");
            assert!(log.is_empty() || log.ends_with('\n'), "{path:?}");
            lines.extend(log.lines().map(str::to_owned));
        }
    }
    lines
}

/// The seed in its Python process.
struct Seed {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    version: String,
}

impl Seed {
    /// `None` where no Python with the openai package is found.
    fn start(scratch: &Scratch) -> Option<Seed> {
        let python = support::python();
        let mut command = Command::new(&python);
        command
            .arg(root().join("tests/seed/driver.py"))
            // The seed makes a log in its working directory when it is imported.
            .current_dir(scratch.path())
            .env("OPENROUTER_API_KEY", KEY)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // For the pipes, whatever the locale.
            .env("PYTHONUTF8", "1")
            // No certificates: to read them for every new client takes longer than its call.
            .env_remove("SSL_CERT_FILE")
            .env("SSL_CERT_DIR", scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            // A proxy wouldn't reach this server, and settings of the openai client would change
            // what it sends.
            let upper = name.to_string_lossy().to_ascii_uppercase();
            if upper.ends_with("_PROXY") || upper.starts_with("OPENAI_") {
                command.env_remove(name);
            }
        }
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) => return no_python(&python, &error.to_string()),
        };
        let mut seed = Seed {
            to: process.stdin.take().expect("stdin is a pipe"),
            from: BufReader::new(process.stdout.take().expect("stdout is a pipe")),
            process,
            version: String::new(),
        };
        let hello = seed.read();
        match (&hello["openai"], &hello["missing"]) {
            (Value::String(version), _) => seed.version = version.clone(),
            (_, Value::String(missing)) => return no_python(&python, missing),
            _ => panic!("the seed's driver says {hello}"),
        }
        Some(seed)
    }

    fn ask(&mut self, task: &Value) -> Value {
        writeln!(self.to, "{task}").expect("the seed's process listens");
        self.read()
    }

    fn text(&mut self, task: &Value) -> String {
        match self.ask(task) {
            Value::String(text) => text,
            other => panic!("a text expected, not {other}"),
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        let length = self.from.read_line(&mut line);
        assert!(
            length.is_ok_and(|length| length > 0),
            "the seed's process has ended; see its error above"
        );
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn no_python(python: &OsString, why: &str) -> Option<Seed> {
    skip(&format!(
        "{}: {why} (AUDIT_TEST_PYTHON names a Python that has tests/seed/requirements.txt)",
        python.to_string_lossy()
    ));
    None
}

/// Serves `/SIDE/CASE/...` by the steps of the case, each side from the first one on.
fn serve(steps: Vec<Vec<Step>>) -> Server {
    let served = Mutex::new(HashMap::<String, usize>::new());
    Server::start(move |request, stream| {
        let mut parts = request.path.split('/').skip(1);
        let (side, case) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let steps = case.parse().ok().and_then(|case: usize| steps.get(case));
        let steps = steps.ok_or(io::ErrorKind::NotFound)?;
        let number = {
            let mut served = served.lock().expect("no panic while it is held");
            let served = served.entry(format!("{side}/{case}")).or_default();
            *served += 1;
            *served - 1
        };
        // The last step serves all that follow.
        let step = steps
            .get(number)
            .or(steps.last())
            .ok_or(io::ErrorKind::NotFound)?;
        take(step, stream)
    })
}

fn take(step: &Step, stream: &mut TcpStream) -> io::Result<Then> {
    match step {
        Step::Answer(bytes) => {
            stream.write_all(bytes)?;
            return Ok(Then::Keep);
        }
        Step::Cut(bytes) => stream.write_all(bytes)?,
        Step::Silence(bytes) => {
            stream.write_all(bytes)?;
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
        }
        Step::Drip(pieces) => {
            for piece in pieces {
                stream.write_all(piece)?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Step::Reset => SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?,
    }
    Ok(Then::Close)
}
