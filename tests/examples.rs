//! The example in C (tests/bindings.rs has those of the packages): it runs by the commands in its head
//! comment, and leaves the entry that it prints.

mod support;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use support::example::ExampleServer;
use support::{Scratch, entries, release, root, run};

const SOURCE: &str = "examples/chat.c";

const PROMPT: &str = "Why is the sky blue?";
/// printf %s "Why is the sky blue?" | sha256sum
const PROMPT_HASH: &str = "09ea26793343ba6c850b0e7b499ff5d4fca39de5381cdec99a6375a7b4efbc64";

fn source() -> String {
    std::fs::read_to_string(root().join(SOURCE)).expect("the example is there")
}

/// The commands in the head comment.
fn commands() -> Vec<String> {
    source()
        .lines()
        .take_while(|line| *line != " */")
        .filter_map(|line| line.strip_prefix(" *   "))
        .map(str::to_owned)
        .collect()
}

/// Runs the commands, with the key that they bring or without one.
fn run_commands(checkout: &Checkout, base_url: &str, with_key: bool) -> Output {
    let mut commands = commands();
    assert_eq!(
        commands.remove(0),
        "cargo build --release",
        "what builds the library comes first"
    );
    let key = "OPENROUTER_API_KEY=... ";
    let last = commands.pop().expect("a command runs the program");
    assert!(last.contains(key), "{last}");
    assert!(last.ends_with(&format!("\"{PROMPT}\"")), "{last}");
    commands.push(if with_key {
        last
    } else {
        last.replace(key, "")
    });
    let output = checkout
        .command("sh")
        .args(["-euc", &commands.join("\n")])
        .env("AUDIT_BASE_URL", base_url)
        .output()
        .expect("sh runs");
    assert_eq!(
        output.status.success(),
        with_key && base_url.starts_with("http"),
        "{commands:?}: {output:?}"
    );
    output
}

/// The project as its user has it, built, with a log of its own.
struct Checkout(Scratch);

impl Checkout {
    fn new() -> Checkout {
        let target = release().parent().expect("built in <target>/release");
        let scratch = Scratch::new();
        for directory in ["include", "examples"] {
            std::fs::create_dir_all(scratch.join(directory)).expect("the scratch is writable");
        }
        let checkout = Checkout(scratch);
        for file in ["include/audit_logger.h", SOURCE] {
            checkout.add(file, file);
        }
        symlink(target, checkout.join("target")).expect("the scratch is writable");
        checkout
    }

    fn add(&self, from: &str, to: &str) {
        std::fs::copy(root().join(from), self.join(to)).unwrap_or_else(|e| panic!("{from}: {e}"));
    }

    fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A program that runs here, undisturbed by the environment of the tests.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.0.path())
            .env_remove("AUDIT_BASE_URL")
            .env_remove("AUDIT_LOGGER_LIBRARY")
            .env_remove("OPENROUTER_API_KEY")
            // cargo sets it for the tests, and it would win over the path that a program names.
            .env_remove("LD_LIBRARY_PATH");
        command
    }
}

/// The one line of a log, read: whole, in the file of its day, its fields in their order.
#[track_caller]
fn only_line(log: &Path) -> (String, Value) {
    let mut logged = entries(log);
    assert_eq!(logged.len(), 1, "{logged:?}");
    let entry = logged.remove(0);
    let timestamp = entry["timestamp"].as_str().expect("a text");
    let file = log.join(format!("audit_{}.jsonl", &timestamp[..10]));
    let text = std::fs::read_to_string(file).expect("the entry is in the file of its day");
    let line = text.trim_end_matches('\n');
    let mut rest = line;
    for field in [
        "id",
        "timestamp",
        "event_type",
        "user_id",
        "model",
        "prompt_hash",
        "response_hash",
        "prompt_tokens",
        "completion_tokens",
        "latency_ms",
        "status",
        "error_type",
        "metadata",
        "details",
    ] {
        let (_, after) = rest
            .split_once(&format!("\"{field}\":"))
            .unwrap_or_else(|| panic!("{field} isn't where it should be: {line}"));
        rest = after;
    }
    assert_eq!(entry["user_id"], "user-42");
    assert_eq!(entry["prompt_hash"], PROMPT_HASH);
    assert_eq!(
        entry["metadata"],
        json!({"feature": "example", "ticket": 7})
    );
    (line.to_owned(), entry)
}

fn lines(printed: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(printed).expect("examples print UTF-8");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn it_asks_and_shows_its_entry() {
    let (server, checkout) = (ExampleServer::start(), Checkout::new());
    let output = run_commands(&checkout, server.base_url(), true);
    assert!(output.stderr.is_empty(), "{output:?}");

    let log = checkout.join("audit_logs");
    let (line, entry) = only_line(&log);
    assert_eq!(entry["status"], "success");
    assert_eq!(
        lines(&output.stdout),
        [
            format!(
                "log: {}",
                json!({
                    "path": log.canonicalize().expect("there"),
                    "recovered": 0, "torn": 0, "warnings": [],
                })
            ),
            format!("answer: You said: {PROMPT}"),
            "tokens: 5 + 7".to_owned(),
            format!("entry: {line}"),
        ]
    );
}

#[test]
fn it_fails_without_a_key() {
    let (server, checkout) = (ExampleServer::start(), Checkout::new());
    let output = run_commands(&checkout, server.base_url(), false);
    let wrong = lines(&output.stderr).remove(0);
    assert!(
        wrong.starts_with("audit_chat: AUDIT_E_CALL: OpenAIError: "),
        "{wrong}"
    );
    assert!(wrong.contains("OPENROUTER_API_KEY"), "{wrong}");
    let printed = lines(&output.stdout);
    let [log] = &printed[..] else {
        panic!("{printed:?}");
    };
    let opened = log.strip_prefix("log: ").map(serde_json::from_str::<Value>);
    let opened = opened.expect("the log is shown").expect("it's JSON");
    let [Value::String(warning)] = &opened["warnings"].as_array().expect("a list")[..] else {
        panic!("{opened}");
    };
    assert!(warning.starts_with("no API key: "), "{warning}");

    let (_, entry) = only_line(&checkout.join("audit_logs"));
    assert_eq!(entry["status"], "error");
    assert_eq!(entry["error_type"], "OpenAIError");
    assert_eq!(entry["details"]["outcome"], "not_sent");
}

#[test]
fn it_fails_with_an_unusable_url() {
    let checkout = Checkout::new();
    let output = run_commands(&checkout, "ftp://x", true);
    let wrong = lines(&output.stderr).remove(0);
    assert!(
        wrong.starts_with("audit_logger_new: AUDIT_E_CONFIG: \"base_url\" has "),
        "{wrong}"
    );
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(!checkout.join("audit_logs").exists());
}

#[test]
fn its_steps_are_numbered_and_its_length_is_readable() {
    let length = source().lines().count();
    assert!((60..=140).contains(&length), "{length}");
    let numbers = source().lines().filter_map(number).collect::<Vec<_>>();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

/// Of a comment that is a step.
fn number(line: &str) -> Option<u8> {
    let comment = line.trim().strip_prefix("/* ")?;
    comment.split_once(". ")?.0.parse().ok()
}

/// Whoever reads examples/README.md finds what is there, and commands that are tested here.
#[test]
fn the_readme_covers_the_examples() {
    let readme = std::fs::read_to_string(root().join("examples/README.md")).expect("there");
    assert!(readme.contains("](chat.c)"));
    for command in commands() {
        let command = command.replace("OPENROUTER_API_KEY=... ", "");
        assert!(readme.lines().any(|line| line == command), "{command}");
    }
    let server =
        std::fs::read_to_string(root().join("examples/server/src/main.rs")).expect("there");
    let models: Vec<&str> = server
        .lines()
        .filter_map(|line| line.strip_prefix("//! - `")?.split('`').next())
        .collect();
    assert!(models.len() > 3, "{models:?}");
    for model in models {
        assert!(readme.contains(&format!("| `{model}`")), "{model}");
    }
}

/// In place, where its builds are done already; its log goes beside it.
#[test]
fn the_script_builds_asks_and_shows_the_log() {
    let target = release().parent().expect("built in <target>/release");
    let scratch = Scratch::new();
    let mut script = Command::new("sh");
    script
        .arg(root().join("examples/run.sh"))
        .arg(PROMPT)
        .current_dir(scratch.path())
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("AUDIT_BASE_URL")
        .env_remove("OPENROUTER_API_KEY");
    if target == root().join("target") {
        script.env_remove("CARGO_TARGET_DIR");
    } else {
        script.env("CARGO_TARGET_DIR", target);
    }
    let printed = run(&mut script);
    let printed: Vec<&str> = printed.lines().collect();
    let [.., answer, _, entry, today, shown] = &printed[..] else {
        panic!("{printed:?}");
    };
    assert_eq!(*answer, format!("answer: You said: {PROMPT}"));
    assert_eq!(*today, "today's log:");
    let shown: Value = serde_json::from_str(shown).expect("an entry");
    assert!(shown["id"].is_string(), "{shown}");
    let entry = entry.strip_prefix("entry: ").expect("the entry is printed");
    let entry: Value = serde_json::from_str(entry).expect("an entry is JSON");
    // Another run may write to the same log meanwhile.
    let logged = entries(&root().join("audit_logs"));
    assert_eq!(logged.iter().filter(|line| **line == entry).count(), 1);
}
