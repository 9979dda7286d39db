//! What the documents say can be done is done: programs compile and run, commands run, links lead
//! somewhere, and what is said in two places is the same.
//!
//! In a page of docs/, a block of `sh`, `python` or `sql` is run as it stands. `shell` marks the
//! commands that aren't: what builds, installs or tests for minutes, needs root, or runs in another
//! test.

#[path = "docs/reading.rs"]
mod reading;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use support::calls::Logger;
use support::server::{Server, completion, response};
use support::worker::echoing;
use support::{
    Scratch, available, compile, compiles_alone, entries, release, root, run, sealed, tool,
};

/// A block of code.
struct Block {
    language: String,
    text: String,
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The code blocks of a document, in order, and its lines outside of them.
fn parts(document: &str) -> (Vec<Block>, Vec<&str>) {
    let (mut blocks, mut lines, mut open): (Vec<Block>, Vec<&str>, bool) = Default::default();
    for line in document.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => blocks.push(Block {
                language: language.to_owned(),
                text: String::new(),
            }),
            (Some(_), true) => {}
            (None, false) => lines.push(line),
            (None, true) => {
                let block = blocks.last_mut().expect("one is open");
                block.text += line;
                block.text.push('\n');
            }
        }
        open ^= line.starts_with("```");
    }
    assert!(!open, "a block of code has no end");
    (blocks, lines)
}

/// The code blocks of a language, in order.
fn blocks(name: &str, language: &str) -> Vec<String> {
    let (blocks, _) = parts(&document(name));
    blocks
        .into_iter()
        .filter(|block| block.language == language)
        .map(|block| block.text)
        .collect()
}

/// Every document of the project, by its path in it.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // What git ignores, and git's own.
            if name.starts_with('.')
                || ["target", "audit_logs", "api", "dist", "cache"].contains(&&*name)
            {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                directories.push(path);
            } else if name.ends_with(".md") {
                let path = path.strip_prefix(root()).expect("it's below");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

// The README.

#[test]
fn the_readme_takes_five_minutes_and_begins_with_the_two_commands() {
    let readme = document("README.md");
    let lines = readme.lines().count();
    assert!(
        lines <= 150,
        "{lines} lines; what isn't for a newcomer goes to docs/"
    );
    let commands: Vec<String> = blocks("README.md", "sh")[0]
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line).trim().to_owned())
        .collect();
    assert_eq!(commands, ["sh examples/run.sh", "cargo test"]);
    let before = readme.find("sh examples/run.sh").expect("it's there");
    assert!(
        readme[..before].lines().count() <= 24,
        "they are to be on the first screen"
    );
}

#[test]
fn the_program_of_the_readme_compiles_and_runs_by_the_readme_s_words() {
    let program = &blocks("README.md", "c")[0];
    assert!(program.trim().lines().count() <= 20, "it is to be short");
    assert!(program.contains("audit_logger_new(NULL,"));

    let scratch = Scratch::new();
    let server = Server::always(response(200, &[], completion("because").as_bytes()));
    let config = json!({"base_url": server.base_url(), "api_key": "sk-test"}).to_string();
    let config = format!("audit_logger_new({},", json!(config));
    let program = program.replace("audit_logger_new(NULL,", &config);
    fs::write(scratch.join("chat.c"), program).expect("it can be written");

    // The README's line, in a directory that looks like the project's.
    let target = release().parent().expect("it's in the target directory");
    for (name, place) in [("include", &*root().join("include")), ("target", target)] {
        symlink(place, scratch.join(name)).expect("it can be made");
    }
    let line = blocks("README.md", "sh")[1]
        .lines()
        .find(|line| line.starts_with("cc "))
        .map(str::to_owned);
    let line = line.expect("the README says how to link");
    run(shell(&scratch).args(["-euc", &line]));
    let printed = run(shell(&scratch).args(["-euc", "./chat"]));
    assert_eq!(printed, "because\n");
    assert_eq!(entries(&scratch.join("audit_logs")).len(), 1);
}

#[test]
fn the_readme_s_keys_are_eight_of_the_schema_s() {
    let schema = schema();
    let mut listed = 0;
    for row in rows("README.md") {
        let Some(rule) = schema.get(row[0].trim_matches('`')) else {
            continue;
        };
        assert_eq!(
            row[1],
            format!("`{}`", rule["default"]),
            "the default of {}",
            row[0]
        );
        listed += 1;
    }
    assert_eq!(listed, 8);
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let minor = version.rsplit_once('.').expect("three parts").0;
    let readme = document("README.md");
    assert!(
        readme.contains(&format!("**Status: {minor}.**")),
        "README.md, Status"
    );
    assert!(
        readme.contains(&format!("libaudit_logger.so.{minor}")),
        "README.md, installing"
    );
    for package in [
        "bindings/csharp/AuditLogger.csproj",
        "bindings/csharp/AuditLogger.nuspec",
        "bindings/java/pom.xml",
        "bindings/node/package.json",
        "bindings/php/composer.json",
        "bindings/ruby/lib/audit_logger/version.rb",
    ] {
        assert!(document(package).contains(version), "{package}");
    }
}

// All documents.

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The places in a document that a link may name. Of a heading that comes twice, the second is "-1".
fn anchors(lines: &[&str]) -> BTreeSet<String> {
    let mut counts = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in lines {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = anchor(heading);
        let before = counts.entry(anchor.clone()).or_insert(0);
        anchors.insert(match *before {
            0 => anchor,
            number => format!("{anchor}-{number}"),
        });
        *before += 1;
    }
    anchors
}

/// What the links in a line name. Code isn't looked into.
fn links(line: &str) -> Vec<String> {
    let text: String = line.split('`').step_by(2).collect();
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
        .map(str::to_owned)
        .collect()
}

/// A path without its `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves the project", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let documents = documents();
    assert!(documents.iter().any(|name| name == "docs/configuration.md"));
    let mut broken = Vec::new();
    for name in &documents {
        let text = document(name);
        for link in parts(&text).1.into_iter().flat_map(links) {
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let place = match path {
                "" => PathBuf::from(name),
                path => plain(&Path::new(name).with_file_name(path)),
            };
            let found = root().join(&place).exists()
                && (heading.is_empty()
                    || anchors(&parts(&document(&place.to_string_lossy())).1).contains(heading));
            if !found {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_c_block_compiles() {
    let scratch = Scratch::new();
    for name in documents() {
        for (number, block) in blocks(&name, "c").iter().enumerate() {
            let source = scratch.join(&format!("{}.{number}.c", name.replace('/', ".")));
            fs::write(&source, block).expect("it can be written");
            compiles_alone(&mut support::cc(), "c99", &source, &[]);
        }
    }
}

#[test]
fn every_cpp_block_compiles() {
    if !available("g++") {
        return;
    }
    let scratch = Scratch::new();
    for name in documents() {
        for block in blocks(&name, "cpp") {
            let source = scratch.join("block.cpp");
            fs::write(&source, block).expect("it can be written");
            let package = format!("-I{}", root().join("bindings/cpp").display());
            compiles_alone(&mut Command::new("g++"), "c++17", &source, &[&package]);
        }
    }
}

/// The rows of a document's tables, by their cells.
fn rows(name: &str) -> Vec<Vec<String>> {
    let text = document(name);
    let row = |line: &&str| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.to_owned());
    let cells = |row: String| row.split(" | ").map(str::to_owned).collect();
    parts(&text).1.iter().filter_map(row).map(cells).collect()
}

/// README says what to do with each status, docs/c-api.md what it says.
#[test]
fn the_statuses_of_the_documents_are_those_of_the_header() {
    let header = document("include/audit_logger.h");
    let defined: BTreeSet<&str> = header
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("AUDIT_E_")?.split_once(" = ")?.0))
        .collect();
    assert!(defined.len() > 10);
    for name in ["README.md", "docs/c-api.md"] {
        let rows = rows(name);
        let listed: BTreeSet<&str> = rows
            .iter()
            .flat_map(|row| row[0].split('`'))
            .filter_map(|word| word.strip_prefix("AUDIT_E_"))
            .collect();
        assert_eq!(listed, defined, "{name}");
    }
}

// docs/configuration.md.

fn schema() -> serde_json::Map<String, Value> {
    let schema: Value = serde_json::from_str(&document("schema/config.json")).expect("it is JSON");
    let properties = schema["properties"].as_object();
    properties.expect("it lists properties").clone()
}

/// The keys of the schema in their order, with those inside an object behind it, and their rules.
fn keys() -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    // serde_json sorts members; the page keeps the schema's order, so that kin stand together.
    let text = document("schema/config.json");
    let place = |key: &str| text.find(&format!("\"{key}\": {{\n")).expect("it's there");
    for (key, rule) in schema() {
        let inside = |rule: &Value| rule["properties"].as_object().cloned();
        let objects = rule["oneOf"].as_array().into_iter().flatten();
        for (inner, rule) in objects.filter_map(inside).flatten() {
            if rule.get("description").is_some() {
                keys.push((place(&inner), format!("{key}.{inner}"), rule));
            }
        }
        keys.push((place(&key), key, rule));
    }
    keys.sort_by_key(|(place, ..)| *place);
    keys.into_iter().map(|(_, key, rule)| (key, rule)).collect()
}

/// What a rule of the schema allows.
fn allowed(rule: &Value) -> String {
    if let Some(values) = rule["enum"].as_array() {
        let values = values.iter().map(|value| format!("`{value}`"));
        return values.collect::<Vec<_>>().join(" or ");
    }
    if let Some(value) = rule.get("const") {
        return format!("`{value}`");
    }
    if let Some(rules) = rule["oneOf"].as_array() {
        return rules.iter().map(allowed).collect::<Vec<_>>().join(" or ");
    }
    if let Some(properties) = rule["properties"].as_object()
        && let Some(required) = rule["required"][0].as_str()
    {
        return format!(
            "`{{\"{required}\": ...}}` ({})",
            allowed(&properties[required])
        );
    }
    let types = match &rule["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let one = |name: &Value| match name.as_str() {
        Some("integer") => format!("{} to {}", rule["minimum"], rule["maximum"]),
        Some("string") => match &rule["maxLength"] {
            Value::Null => "text".to_owned(),
            most => format!("text, at most {most} characters"),
        },
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("null") => "`null`".to_owned(),
        Some("object") => "object".to_owned(),
        other => panic!("{other:?}"),
    };
    types.iter().map(one).collect::<Vec<_>>().join(" or ")
}

/// docs/configuration.md with the table of keys as the schema has it.
fn page_of_keys() -> String {
    let mut table = "\n| key | default | allowed | |\n|---|---|---|---|\n".to_owned();
    for (key, rule) in keys() {
        let description = rule["description"].as_str().expect("it is described");
        table += &format!(
            "| `{key}` | `{}` | {} | {} |\n",
            rule["default"],
            allowed(&rule),
            description
        );
    }
    let page = document("docs/configuration.md");
    let (before, rest) = page.split_once("<!-- keys -->\n").expect("it has a table");
    let (_, after) = rest
        .split_once("<!-- end of keys -->")
        .expect("that has an end");
    format!("{before}<!-- keys -->\n{table}\n<!-- end of keys -->{after}")
}

#[test]
fn the_table_of_keys_is_made_from_the_schema() {
    let made = page_of_keys();
    if document("docs/configuration.md") != made {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("configuration.md");
        fs::write(&path, made).expect("it can be written");
        panic!(
            "docs/configuration.md is not what schema/config.json says; mend it by\n  cp {} \
             docs/configuration.md",
            path.display()
        );
    }
}

#[test]
fn every_configuration_in_the_pages_makes_a_logger() {
    let scratch = Scratch::new();
    let mut tried = 0;
    for page in ["docs/configuration.md", "docs/operations.md"] {
        for block in blocks(page, "json") {
            let mut config: Value = serde_json::from_str(&block).expect(&block);
            // The reader's files aren't here, and the directory is another.
            let without_files = |object: &mut Value| {
                let members = object.as_object_mut().expect("it's an object");
                members.retain(|key, _| !key.ends_with("_file") && key != "witness_policy");
            };
            without_files(&mut config);
            if config["integrity"].is_object() {
                without_files(&mut config["integrity"]);
            }
            config["output_path"] = json!(scratch.join(&format!("log{tried}")));
            if let Err(answer) = Logger::try_new(&config.to_string()) {
                panic!("{page}: {}: {block}", answer.message());
            }
            tried += 1;
        }
    }
    assert!(tried > 2);
}

// docs/c-api.md and the header.

#[test]
fn the_programs_of_the_page_on_the_c_interface_run() {
    let scratch = Scratch::new();
    let server = echoing();
    let log = scratch.join("log");
    let config = json!({"output_path": log, "base_url": server.base_url(), "api_key": "sk-test"});
    let blocks = blocks("docs/c-api.md", "c");
    let mut sources = vec![root().join("tests/c/docs.c")];
    for (number, block) in blocks.iter().enumerate() {
        sources.push(scratch.join(&format!("block{number}.c")));
        fs::write(&sources[number + 1], block).expect("it can be written");
    }
    let more: Vec<&str> = sources[1..]
        .iter()
        .filter_map(|path| path.to_str())
        .collect();
    let program = scratch.join("docs");
    compile(&sources[0], release(), &program, &more);

    let printed = run(Command::new(&program).arg(config.to_string()));
    assert_eq!(printed, "Why is the sky blue?");
    let came_to: Vec<Value> = entries(&log)
        .iter()
        .map(|entry| entry["error_type"].clone())
        .collect();
    assert_eq!(came_to, [json!(null), json!(null), json!("ClientError")]);
}

/// With every function, parameter, result, member and constant described: docs/Doxyfile asks for it.
#[test]
fn the_header_becomes_html_without_a_warning() {
    if !available("doxygen") {
        return;
    }
    let scratch = Scratch::new();
    let settings = format!(
        "{}\nOUTPUT_DIRECTORY = {}\n",
        document("docs/Doxyfile"),
        scratch.path().display()
    );
    let doxyfile = scratch.join("Doxyfile");
    fs::write(&doxyfile, settings).expect("it can be written");
    let mut doxygen = Command::new("doxygen");
    run(doxygen.current_dir(root()).arg(doxyfile));
    let page = fs::read_to_string(scratch.join("audit__logger_8h.html")).expect("it's made");
    assert!(
        page.contains("audit_logger_maintain"),
        "the page has no functions"
    );
}

// Commands.

/// A shell in a directory, that finds the tool there.
fn shell(scratch: &Scratch) -> Command {
    let tools = scratch.join("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .current_dir(scratch.path())
        .env("PATH", format!("{}:{path}", tools.display()));
    shell
}

/// A directory in which a page's commands can be run: with the tool, the project's tests, a log that is
/// sealed, and what was kept of it elsewhere. And an id that is in the log.
fn site() -> (Scratch, String) {
    let scratch = Scratch::new();
    let (log, ids) = sealed(&scratch, 20);
    fs::rename(&log, scratch.join("audit_logs")).expect("it can be renamed");
    for (from, to) in [("vkey", "log.vkey"), ("checkpoint", "kept.checkpoint")] {
        let from = scratch.join("audit_logs/.integrity").join(from);
        fs::copy(from, scratch.join(to)).expect("it can be copied");
    }
    with_the_tool(&scratch);
    (scratch, ids[7].clone())
}

fn with_the_tool(scratch: &Scratch) {
    fs::create_dir(scratch.join("bin")).expect("it can be made");
    symlink(tool().get_program(), scratch.join("bin/audit-logger")).expect("it can be made");
    symlink(root().join("tests"), scratch.join("tests")).expect("it can be made");
}

/// The id that the pages have in their commands.
const ID: &str = "3f2b8c1e-5a47-4d9e-9c36-0e1f7b6a2d58";

/// Runs the commands of a page, in their order, and returns what each block of them printed.
fn said_by(page: &str) -> Vec<String> {
    if !["jq", "openssl", "python3"]
        .iter()
        .all(|program| available(program))
    {
        return Vec::new();
    }
    let (scratch, id) = site();
    let blocks = blocks(page, "sh");
    assert!(!blocks.is_empty());
    let said = |block: &String| run(shell(&scratch).args(["-euc", &block.replace(ID, &id)]));
    blocks.iter().map(said).collect()
}

#[test]
fn the_commands_of_the_page_on_auditing_run() {
    let said = said_by("docs/auditing.md").concat();
    assert!(said.contains("intact (signed, remembered)"), "{said}");
    assert!(said.contains("the line is entry"), "{said}");
}

#[test]
fn the_commands_of_the_page_on_the_configuration_run() {
    said_by("docs/configuration.md");
}

#[test]
fn the_commands_of_the_page_on_operations_run() {
    said_by("docs/operations.md");
}

#[test]
fn the_page_on_operations_has_every_command_of_the_tool() {
    let help = run(tool().arg("--help"));
    let commands = help.split("Commands:").nth(1).expect("they are listed");
    let commands = commands.lines().skip(1);
    let commands = commands.map_while(|line| line.split_whitespace().next());
    let commands: BTreeSet<&str> = commands.filter(|name| *name != "help").collect();
    assert!(commands.len() > 10, "{help}");
    let rows = rows("docs/operations.md");
    let first = rows
        .iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2));
    let named: BTreeSet<&str> = first.filter_map(|code| code.split(' ').next()).collect();
    let missing: Vec<_> = commands.difference(&named).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Commands in other pages would never be run.
#[test]
fn every_page_with_commands_is_run() {
    let run_here = [
        "README.md",
        "docs/auditing.md",
        "docs/configuration.md",
        "docs/operations.md",
        "docs/reading.md",
        // By tests/examples.rs.
        "examples/README.md",
        // What they build and install takes longer than a test may.
        "docs/install.md",
        "docs/platforms.md",
    ];
    for name in documents() {
        let commands = blocks(&name, "sh");
        // The packages of other languages are built and installed by tests/bindings.rs.
        let is_package = name.starts_with("bindings/");
        let is_run = is_package || run_here.contains(&&*name);
        assert!(commands.is_empty() || is_run, "{name}");
    }
}

// docs/evidence.md.

#[test]
fn the_commands_of_the_page_on_evidence_name_tests_and_settings_that_are_there() {
    let mut code = String::new();
    let mut directories = vec![
        root().join("tests"),
        root().join("src"),
        root().join("benches"),
    ];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs")
                && !path.ends_with("docs.rs")
            {
                code += &fs::read_to_string(path).expect("it's UTF-8");
            }
        }
    }
    let commands = blocks("docs/evidence.md", "shell").concat();
    let mut settings = 0;
    for word in commands.split_whitespace() {
        if let Some((setting, _)) = word.split_once('=') {
            assert!(
                code.contains(&format!("\"{setting}\"")),
                "no test reads {setting}"
            );
            settings += 1;
        }
    }
    assert!(settings > 3);
    for command in commands.lines().filter(|line| line.contains("cargo ")) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| *word == flag)?;
            words.get(at + 1).copied()
        };
        if let Some(test) = after("--test") {
            assert!(
                root().join(format!("tests/{test}.rs")).exists(),
                "{command}"
            );
        }
        if let Some(bench) = after("--bench") {
            let declared = format!("[[bench]]\nname = \"{bench}\"");
            assert!(document("Cargo.toml").contains(&declared), "{command}");
        }
        if let Some(filter) = after("--lib") {
            let named = code.lines().any(|line| {
                let line = line.trim_start();
                let name = line
                    .strip_prefix("fn ")
                    .or_else(|| line.strip_prefix("mod "));
                name.is_some_and(|name| name.contains(filter))
            });
            assert!(named, "{command}");
        }
    }
}
