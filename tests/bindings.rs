//! The packages of other languages: each is built, installed where no checkout is in sight, and used
//! there, by its example, by its own tests and by the table of conformance.

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use support::example::ExampleServer;
use support::{Scratch, entries, make, root, run, skip, target};

const PROMPT: &str = "Why is the sky blue?";
/// What a script of a package ends with where its language isn't installed.
const ABSENT: i32 = 77;

/// The library as it's installed.
fn prefix() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let prefix = target().join("bindings");
        run(make()
            .arg("install-library")
            .arg(format!("PREFIX={}", prefix.display())));
        prefix
    })
}

/// A package in a directory of its own.
struct Installed {
    scratch: Scratch,
    server: ExampleServer,
}

impl Installed {
    /// `None`, and the test is skipped, where the language isn't there.
    fn new(directory: &str) -> Option<Installed> {
        let scratch = Scratch::new();
        let package = scratch.join("package");
        std::fs::create_dir(&package).expect("the scratch is writable");
        for (script, to) in [("build.sh", None), ("install.sh", Some(&package))] {
            let done = Command::new("sh")
                .arg(root().join("bindings").join(directory).join(script))
                .args(to)
                .env("AUDIT_LOGGER_PREFIX", prefix())
                .env_remove("LD_LIBRARY_PATH")
                .output()
                .expect("sh runs");
            let said = String::from_utf8_lossy(&done.stderr);
            if done.status.code() == Some(ABSENT) {
                skip(said.lines().last().unwrap_or("it doesn't say why"));
                return None;
            }
            assert!(done.status.success(), "{directory}/{script}: {said}");
        }
        let server = ExampleServer::start();
        Some(Installed { scratch, server })
    }

    /// A program of the package, without anything of the environment or the checkout.
    fn program(&self, name: &str) -> Command {
        let mut program = hidden();
        program
            .arg(self.scratch.join("package").join(name))
            .current_dir(self.scratch.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.scratch.path());
        program
    }

    fn directory(&self, name: &str) -> PathBuf {
        let directory = self.scratch.join(name);
        std::fs::create_dir(&directory).expect("the scratch is writable");
        directory
    }
}

/// What runs a program with an empty directory over the checkout, where that can be had.
fn hidden() -> Command {
    static WAY: OnceLock<Option<&str>> = OnceLock::new();
    let way = WAY.get_or_init(|| {
        // Who is root needs no other user's name for it, and not every system gives one.
        ["-m", "-rm"].into_iter().find(|way| {
            let mut tried = Command::new("unshare");
            let done = tried
                .args([way, "mount", "-t", "tmpfs", "none"])
                .arg(root());
            done.output().is_ok_and(|output| output.status.success())
        })
    });
    let mut program = Command::new("env");
    if let Some(way) = way {
        program = Command::new("unshare");
        let hide = "mount -t tmpfs none \"$0\" && exec \"$@\"";
        program.args([way, "sh", "-c", hide]).arg(root());
    }
    program
}

/// The example asks, streams and cancels, as its README says.
fn the_example_runs(installed: &Installed) {
    let printed = run(installed
        .program("chat")
        .arg(PROMPT)
        .env("AUDIT_BASE_URL", installed.server.base_url())
        .env("OPENROUTER_API_KEY", "none"));
    let log = installed.scratch.join("audit_logs");
    let lines: Vec<String> = support::day_files(&log)
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).expect("the log is UTF-8");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let (opened, rest) = printed.split_once('\n').expect("it prints lines");
    let path = log.canonicalize().expect("there");
    let path = path.to_str().expect("UTF-8");
    assert!(
        opened.starts_with("log: ") && opened.contains(path),
        "{opened}"
    );
    // What came together is told together.
    let (rest, cancelled) = rest.split_at(rest.rfind("cancelled").unwrap_or_default());
    assert!(cancelled.starts_with("cancelled after: You "), "{printed}");
    assert_eq!(
        rest.lines().collect::<Vec<_>>(),
        [
            &format!("answer: You said: {PROMPT}"),
            "tokens: 5 + 7",
            &format!("entry: {}", lines[0]),
            &format!("stream: You said: {PROMPT}"),
        ]
    );
    let entries = entries(&log);
    let kinds: Vec<&Value> = entries.iter().map(|entry| &entry["error_type"]).collect();
    assert_eq!(kinds, [&Value::Null, &Value::Null, &json!("Cancelled")]);
    for entry in &entries {
        assert_eq!(entry["user_id"], "user-42");
        let metadata = json!({"feature": "example", "ticket": 7});
        assert_eq!(entry["metadata"], metadata);
    }
}

/// What the runner says of these cases, and what else it says.
fn said(installed: &Installed, cases: &[&Value]) -> (BTreeMap<String, [String; 2]>, String) {
    let file = installed.scratch.join("cases.json");
    std::fs::write(&file, json!(cases).to_string()).expect("the scratch is writable");
    let directory = installed.scratch.join("conformance");
    let _ = std::fs::remove_dir_all(&directory);
    let output = installed
        .program("conformance")
        .arg(file)
        .arg(installed.server.base_url())
        .arg(installed.directory("conformance"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut results = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let result: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let text = |member: &str| result[member].as_str().expect(line).to_owned();
        let again = results.insert(text("case"), [text("result"), text("reason")]);
        assert_eq!(again, None, "{line}");
    }
    let failed = results.values().any(|[result, _]| result == "fail");
    assert_eq!(
        output.status.success(),
        !failed,
        "{}: {said}",
        output.status
    );
    (results, said)
}

/// What the runner says of each case; fails if one failed or is missing.
fn results(installed: &Installed) -> Vec<(String, Option<String>)> {
    /// So often what is paced is tried again.
    const AGAIN: usize = 2;
    let text = std::fs::read_to_string(root().join("conformance/cases.json")).expect("it's there");
    let table: Vec<Value> = serde_json::from_str(&text).expect("the table is JSON");
    let name = |case: &Value| case["name"].as_str().expect("a case has a name").to_owned();
    let (mut results, mut errors) = said(installed, &table.iter().collect::<Vec<_>>());
    for _ in 0..AGAIN {
        let mut again: Vec<&Value> = table.iter().collect();
        again.retain(|case| {
            let failed = |[result, _]: &[String; 2]| result == "fail";
            case["paced"] == true && results.get(&name(case)).is_some_and(failed)
        });
        if !again.is_empty() {
            let (later, more) = said(installed, &again);
            results.extend(later);
            errors += &more;
        }
    }
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for case in &table {
        let name = name(case);
        match results.remove(&name) {
            Some([result, _]) if result == "pass" => all.push((name, None)),
            Some([result, why]) if result == "skip" && !why.is_empty() => {
                all.push((name, Some(why)));
            }
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}\n{errors}", wrong.join("\n"));
    assert!(results.is_empty(), "in no table: {results:?}");
    all
}

const PAGE: &str = "docs/languages.md";

/// A language's column of the matrix, and what it skips and why, put into the page.
fn with_results(page: &str, language: &str, results: &[(String, Option<String>)]) -> String {
    let mut groups: Vec<(&str, usize, usize)> = Vec::new();
    let mut skipped: Vec<(&str, Vec<&str>)> = Vec::new();
    for (case, why) in results {
        let (group, _) = case.split_once('/').expect("group/name");
        if groups.last().is_none_or(|last| last.0 != group) {
            groups.push((group, 0, 0));
        }
        let last = groups.last_mut().expect("pushed");
        last.1 += 1;
        match why {
            None => last.2 += 1,
            Some(why) => match skipped.iter_mut().find(|(known, _)| known == why) {
                Some((_, cases)) => cases.push(case),
                None => skipped.push((why, vec![case])),
            },
        }
    }
    let begin = page.find("\n## Matrix\n").expect("the page has a matrix") + 1;
    let end = page[begin + 1..]
        .find("\n## ")
        .map_or(page.len(), |at| begin + 1 + at + 1);
    let section = &page[begin..end];
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let table: Vec<&str> = section.lines().filter(|l| l.starts_with('|')).collect();
    let mut head = cells(table[0]);
    let known = |group: &str, name: &str| -> Option<String> {
        let row = table.iter().map(|l| cells(l)).find(|r| r[0] == group)?;
        let at = cells(table[0]).iter().position(|cell| cell == name)?;
        row.get(at).cloned()
    };
    if !head.iter().any(|cell| cell == language) {
        head.push(language.to_owned());
    }
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut made = row(&head) + "|" + &"---|".repeat(head.len()) + "\n";
    for (group, all, passed) in &groups {
        let mut line = vec![(*group).to_owned(), all.to_string()];
        for name in &head[2..] {
            let other = || known(group, name).unwrap_or_default();
            line.push(if name == language {
                passed.to_string()
            } else {
                other()
            });
        }
        made += &row(&line);
    }
    let mut skips: Vec<String> = section
        .lines()
        .filter(|line| line.starts_with("- ") && !line.starts_with(&format!("- {language}: ")))
        .map(str::to_owned)
        .collect();
    for (why, cases) in skipped {
        skips.push(format!("- {language}: {why}: `{}`", cases.join("`, `")));
    }
    let order = |line: &String| {
        let language = line[2..].split(": ").next().unwrap_or_default().to_owned();
        head.iter().position(|cell| *cell == language)
    };
    skips.sort_by_key(order);
    let start = section.find("\n|").expect("a table") + 1;
    let mut new = section[..start].to_owned() + &made;
    if !skips.is_empty() {
        new += &format!("\nLeft out, and why:\n\n{}\n", skips.join("\n"));
    }
    let after = &page[end..];
    page[..begin].to_owned() + &new + if after.is_empty() { "" } else { "\n" } + after
}

fn the_matrix_says_so(language: &str, results: &[(String, Option<String>)]) {
    static NEW: Mutex<Option<String>> = Mutex::new(None);
    let passed = results.iter().filter(|(_, skipped)| skipped.is_none());
    let said = format!(
        "{language}: {} of {} cases\n",
        passed.count(),
        results.len()
    );
    // Not by a macro: those are captured.
    let _ = std::io::stderr().write_all(said.as_bytes());
    let page = std::fs::read_to_string(root().join(PAGE)).expect("the page is there");
    let mut new = NEW.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let made = with_results(new.as_ref().unwrap_or(&page), language, results);
    let as_written = with_results(&page, language, results) == page;
    let to = target().join("languages.md");
    std::fs::write(&to, &made).expect("it can be written");
    *new = Some(made);
    drop(new);
    assert!(
        as_written,
        "the matrix isn't what {language}'s runner says: cp {} {PAGE}",
        to.display()
    );
}

fn installed_and_used(directory: &str, language: &str) {
    let Some(installed) = Installed::new(directory) else {
        return;
    };
    the_example_runs(&installed);
    run(installed
        .program("check")
        .arg(installed.server.base_url())
        .arg(installed.directory("check")));
    the_matrix_says_so(language, &results(&installed));
}

macro_rules! languages {
    ($($directory:ident: $language:literal,)*) => {
        $(
            #[test]
            fn $directory() {
                installed_and_used(stringify!($directory), $language);
            }
        )*

        const LANGUAGES: &[(&str, &str)] = &[$((stringify!($directory), $language)),*];
    };
}

languages! {
    cpp: "C++",
    go: "Go",
    java: "Java",
    csharp: "C#",
    ruby: "Ruby",
    php: "PHP",
    node: "Node",
    python: "Python",
}

#[test]
fn every_package_is_tested_and_has_what_the_readme_names() {
    let mut found: Vec<String> = std::fs::read_dir(root().join("bindings"))
        .expect("there")
        .map(|item| item.expect("readable"))
        .filter(|item| item.path().is_dir())
        .map(|item| item.file_name().into_string().expect("UTF-8"))
        .collect();
    found.sort();
    let mut tested: Vec<&str> = LANGUAGES.iter().map(|language| language.0).collect();
    tested.sort_unstable();
    assert_eq!(found, tested);
    for directory in tested {
        for file in ["README.md", "build.sh", "install.sh"] {
            let path = root().join("bindings").join(directory).join(file);
            assert!(path.is_file(), "{path:?}");
        }
    }
}

/// The page shows of each package what its README has.
#[test]
fn the_page_has_a_section_of_each_package() {
    let page = std::fs::read_to_string(root().join(PAGE)).expect("the page is there");
    for (directory, language) in LANGUAGES {
        let readme = root().join(format!("bindings/{directory}/README.md"));
        let readme = std::fs::read_to_string(readme).expect("it has one");
        // A heading of "C#" would have the anchor of "C".
        let heading = language.replace('#', " sharp");
        let section = page.split("\n## ").find_map(|section| {
            let text = section.strip_prefix(&heading)?;
            text.starts_with('\n').then_some(text)
        });
        let section = section.unwrap_or_else(|| panic!("{PAGE} has no section {language}"));
        let link = format!("](../bindings/{directory}/README.md)");
        assert!(section.contains(&link), "{language}: {link}");
        let blocks: Vec<&str> = section.split("\n```").skip(1).step_by(2).collect();
        assert!(!blocks.is_empty(), "{language} has no code");
        for block in blocks {
            let block = format!("\n```{block}\n```");
            assert!(readme.contains(&block), "not in its README: {block}");
        }
    }
}
