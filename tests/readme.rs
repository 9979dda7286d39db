//! What the README says can be done is done: its program, its commands, its claims of the limits.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::json;

use support::server::{Server, completion, response};
use support::{Scratch, entries, release, root, run};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("the README is there")
}

/// The code blocks of a language, in order.
fn blocks(language: &str) -> Vec<String> {
    readme()
        .split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| {
            block
                .strip_prefix(language)?
                .strip_prefix('\n')
                .map(str::to_owned)
        })
        .collect()
}

#[test]
fn the_program_on_the_first_screen_compiles_and_runs_by_the_readme_s_words() {
    let program = &blocks("c")[0];
    assert!(
        program.trim().lines().count() <= 20,
        "it is to fit the first screen"
    );
    assert!(program.contains("audit_logger_new(NULL,"));

    let scratch = Scratch::new();
    let server = Server::always(response(200, &[], completion("because").as_bytes()));
    let config = json!({"base_url": server.base_url(), "api_key": "sk-test"}).to_string();
    let config = format!("audit_logger_new({},", json!(config));
    let program = program.replace("audit_logger_new(NULL,", &config);
    std::fs::write(scratch.join("chat.c"), program).expect("it can be written");

    // The README's line, in a directory that looks like the project's.
    let target = release().parent().expect("it's in the target directory");
    for (name, place) in [("include", &*root().join("include")), ("target", target)] {
        std::os::unix::fs::symlink(place, scratch.join(name)).expect("it can be made");
    }
    let line = blocks("sh")[1]
        .lines()
        .find(|line| line.starts_with("cc "))
        .map(str::to_owned);
    let line = line.expect("the README says how to link");
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        shell.current_dir(scratch.path()).args(["-euc", line]);
        shell
    };
    run(&mut shell(&line));
    assert_eq!(run(&mut shell("./chat")), "because\n");
    assert_eq!(entries(&scratch.join("audit_logs")).len(), 1);
}

#[test]
fn every_c_block_compiles() {
    let scratch = Scratch::new();
    for (number, block) in blocks("c").iter().enumerate() {
        let source = scratch.join(&format!("block{number}.c"));
        std::fs::write(&source, block).expect("it can be written");
        run(support::cc()
            .args([
                "-std=c99",
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Werror",
                "-fsyntax-only",
                "-I",
            ])
            .arg(root().join("include"))
            .arg(source));
    }
}

#[test]
fn the_two_commands_are_at_the_top() {
    let first = &blocks("sh")[0];
    let commands: Vec<&str> = first
        .trim()
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line).trim())
        .collect();
    assert_eq!(commands, ["sh examples/run.sh", "cargo test"]);
    let before = readme().find("sh examples/run.sh").expect("it's there");
    assert!(
        readme()[..before].lines().count() <= 20,
        "they are to be on the first screen"
    );
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    for document in ["README.md", "FORMAT.md", "DESIGN.md", "examples/README.md"] {
        let path = root().join(document);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{document}: {e}"));
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with('#') || link.contains("://") {
                continue;
            }
            let place = path.parent().unwrap_or(Path::new("")).join(link);
            assert!(place.exists(), "{document} names {link}");
        }
    }
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let minor = version.rsplit_once('.').expect("three parts").0;
    assert!(
        readme().contains(&format!("**Status: {minor}.**")),
        "README.md, Status"
    );
    assert!(
        readme().contains(&format!("libaudit_logger.so.{minor}")),
        "README.md, installing"
    );
}
