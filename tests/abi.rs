//! A program goes on with every library of the SONAME that it was linked to: the interface is compared
//! with the one that was released under that name, which tests/abi keeps.
//!
//! What is compared is a library of the header's functions, without their code. The shipped one is
//! stripped, and has types of Rust's, which differ from compiler to compiler; tests/linking.rs holds its
//! symbols to the header, tests/header.rs its structures.

mod support;

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use audit_logger::ffi::audit_logger_version;
use support::calls::Logger;
use support::{Scratch, available, cc, declarations, header, root, run};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn soname() -> String {
    format!(
        "libaudit_logger.so.{}.{}",
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR")
    )
}

/// How abidw describes the library of these declarations.
fn described(declarations: &str, scratch: &Scratch, name: &str) -> PathBuf {
    // The numbers are of no function's type: they get one.
    let mut source = "#include <stddef.h>\n#include <stdint.h>\n".to_owned();
    let numbers = "enum audit_numbers {";
    for declared in declarations.replacen("enum {", numbers, 1).split(';') {
        let is_function = declared.contains(" audit_") && declared.ends_with(')');
        source += declared;
        source += if is_function {
            "{ __builtin_trap(); }"
        } else {
            ";"
        };
    }
    source += "enum audit_numbers audit_numbers(void) { __builtin_trap(); }\n";
    assert!(source.contains(numbers), "{source}");

    let map = Path::new(env!("GENERATED_HEADER")).with_file_name("exports.map");
    let map = std::fs::read_to_string(map).expect("build.rs wrote it");
    let file = |extension: &str| scratch.join(&format!("{name}.{extension}"));
    std::fs::write(file("c"), source).expect("the scratch directory can be written to");
    std::fs::write(
        file("map"),
        map.replacen("global: ", "global: audit_numbers; audit_new; ", 1),
    )
    .expect("the scratch directory can be written to");
    run(cc()
        .args(["-std=c99", "-g", "-shared", "-fPIC", "-o"])
        .args([file("so"), file("c")])
        // No path of this machine gets into the dump.
        .arg(format!("-ffile-prefix-map={}=.", scratch.path().display()))
        .arg(format!("-Wl,-soname,{}", soname()))
        .arg(format!("-Wl,--version-script={}", file("map").display())));
    run(Command::new("abidw")
        .args(["--no-show-locs", "--no-comp-dir-path", "--no-corpus-path"])
        .args(["--type-id-style", "hash", "--out-file"])
        .args([file("abi"), file("so")]));
    file("abi")
}

/// What of one library a program that was linked to another one would stumble over.
fn breaks(released: &Path, now: &Path) -> Option<String> {
    let output = Command::new("abidiff")
        .arg("--no-added-syms")
        .args([released, now])
        .output()
        .expect("abidiff starts");
    let (failed, changed) = (0b0011, 0b1100); // bits of its exit status
    let status = output.status.code().unwrap_or(failed);
    assert_eq!(status & failed, 0, "{output:?}");
    (status & changed != 0).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_program_of_the_last_release_runs_with_this_library() {
    if !available("abidw") || !available("abidiff") {
        return;
    }
    let (scratch, soname) = (Scratch::new(), soname());
    let released = format!("tests/abi/{soname}.abi");
    let now = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{soname}.abi"));
    std::fs::copy(described(&declarations(), &scratch, "now"), &now).expect("it can be copied");
    let mend = format!("cp {} {released}", now.display());

    assert!(
        root().join(&released).exists(),
        "{released} isn't there. If the SONAME is new, mend it by\n  {mend}"
    );
    if let Some(breaks) = breaks(&root().join(&released), &now) {
        panic!(
            "programs linked to the released {soname} would break:\n{breaks}\nMend it by undoing that. If \
             it's to be, give Cargo.toml a new minor version, which makes a new SONAME, and CHANGELOG.md \
             a line for it, and then (as long as {VERSION} isn't released, only)\n  {mend}"
        );
    }
}

#[test]
fn what_would_break_a_program_is_noticed_and_what_adds_is_not() {
    if !available("abidw") || !available("abidiff") {
        return;
    }
    let scratch = Scratch::new();
    let declarations = declarations();
    let released = described(&declarations, &scratch, "released");
    let mut number = 0;
    let mut breaks_with = |text: &str, instead: &str| {
        assert!(declarations.contains(text), "{text}");
        number += 1;
        let changed = declarations.replacen(text, instead, 1);
        breaks(
            &released,
            &described(&changed, &scratch, &format!("changed{number}")),
        )
    };
    for (what, text, instead) in [
        (
            "a function is gone",
            "void audit_reply_free(AuditReply *reply);",
            "",
        ),
        (
            "a parameter has another type",
            "int64_t timeout_ms",
            "int32_t timeout_ms",
        ),
        (
            "a parameter more",
            "int64_t timeout_ms",
            "int64_t timeout_ms, int more",
        ),
        (
            "another result",
            "int64_t audit_reply_int",
            "int32_t audit_reply_int",
        ),
        (
            "a member has another type",
            "double latency_ms;",
            "float latency_ms;",
        ),
        (
            "a member more",
            "double latency_ms;",
            "double latency_ms; double more;",
        ),
        (
            "a callback's parameter is gone",
            "size_t len, void *context",
            "size_t len",
        ),
        (
            "a number has another value",
            "AUDIT_E_CALL = -6,",
            "AUDIT_E_CALL = -60,",
        ),
        ("a number is gone", "AUDIT_E_CALL = -6,", ""),
    ] {
        assert!(
            breaks_with(text, instead).is_some(),
            "{what}, and nobody notices"
        );
    }
    for (what, text, instead) in [
        (
            "a number more",
            "AUDIT_E_CALL = -6,",
            "AUDIT_E_CALL = -6, AUDIT_NEW = -60,",
        ),
        (
            "a function more",
            "void audit_reply_free",
            "void audit_new(void); void audit_reply_free",
        ),
    ] {
        assert_eq!(breaks_with(text, instead), None, "{what}");
    }
}

#[test]
fn the_version_is_cargo_s_everywhere() {
    // SAFETY: it's static.
    let library = unsafe { CStr::from_ptr(audit_logger_version()) };
    assert_eq!(library.to_str(), Ok(VERSION));
    let header = header();
    for (part, value) in [
        ("", &*format!("\"{VERSION}\"")),
        ("_MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("_MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("_PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        let macros = format!("#define AUDIT_LOGGER_VERSION{part} {value}\n");
        assert!(
            header.contains(&macros),
            "include/audit_logger.h hasn't {macros}Mend it by\n  cp {} include/audit_logger.h",
            env!("GENERATED_HEADER")
        );
    }
}

#[test]
fn the_changelog_says_which_abi_and_which_disk_format_this_is() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).expect("it's there");
    let scratch = Scratch::new();
    let _logger = Logger::new(&serde_json::json!({"output_path": scratch.join("log")}));
    let format = std::fs::read_to_string(scratch.join("log/.state/format")).expect("it's there");
    let layout = format
        .trim_end()
        .rsplit(' ')
        .next()
        .expect("it ends with a number");
    for line in [
        format!("- ABI: `{}`", soname()),
        format!("- On disk: version {layout} of the directory's layout"),
    ] {
        assert!(
            changelog.lines().any(|known| known.starts_with(&line)),
            "CHANGELOG.md has no line \"{line} ...\". Mend it by adding one, which says what it means for \
             programs that are built, or logs that are there"
        );
    }
}
