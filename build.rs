//! Generates the C header into OUT_DIR (a test compares it with the committed one), and from it what
//! the shared library exports, for the build script that links it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of src/ffi that the header is made from, in its order: a file for each handle.
const INTERFACE: [&str; 11] = [
    "types", "logger", "chat", "record", "json", "queue", "verify", "maintain", "reply", "cancel",
    "text",
];

fn main() {
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=build.rs");
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));

    let text = header_text(&root);
    let header = write(&out, "audit_logger.h", &text);
    println!("cargo:rustc-env=GENERATED_HEADER={header}");

    let major = variable("CARGO_PKG_VERSION_MAJOR");
    let version = format!("{major}.{}", variable("CARGO_PKG_VERSION_MINOR"));
    let functions = functions(&text);
    let exports = write(&out, "exports.map", &version_script(&functions, &version));
    fs::create_dir_all(out.join("symbol_versions")).expect("OUT_DIR can be written to");
    for file in INTERFACE {
        let code = fs::read_to_string(source(&root, file)).expect("src/ffi has every INTERFACE");
        let own = functions.iter().filter(|name| {
            ["C", "C-unwind"]
                .iter()
                .any(|abi| code.contains(&format!("extern \"{abi}\" fn {name}(")))
        });
        let path = format!("symbol_versions/{file}.rs");
        write(&out, &path, &symbol_versions(own, &version));
    }
    // For src/cdylib/build.rs.
    println!("cargo:exports={exports}");
    println!("cargo:version={version}");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

fn source(root: &Path, file: &str) -> PathBuf {
    root.join(format!("src/ffi/{file}.rs"))
}

fn header_text(root: &Path) -> String {
    let mut config =
        cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let version = variable("CARGO_PKG_VERSION");
    let [major, minor, patch] =
        ["MAJOR", "MINOR", "PATCH"].map(|part| variable(&format!("CARGO_PKG_VERSION_{part}")));
    let before =
        fs::read_to_string(root.join("src/ffi/prelude.h")).expect("src/ffi/prelude.h is there");
    config.header = Some(before.trim_end().replace("@VERSION@", &version));
    config.after_includes = Some(format!(
        "/* This header's version; audit_logger_version has the library's. */\n\
         #define AUDIT_LOGGER_VERSION \"{version}\"\n#define AUDIT_LOGGER_VERSION_MAJOR {major}\n\
         #define AUDIT_LOGGER_VERSION_MINOR {minor}\n#define AUDIT_LOGGER_VERSION_PATCH {patch}\n\n{}",
        fs::read_to_string(root.join("src/ffi/macros.h"))
            .expect("src/ffi/macros.h is there")
            .trim_end()
    ));
    config.trailer = Some("#endif /* AUDIT_LOGGER_H */".to_owned());
    let mut text = Vec::new();
    INTERFACE
        .iter()
        .fold(cbindgen::Builder::new(), |builder, file| {
            builder.with_src(source(root, file))
        })
        .with_config(config)
        .generate()
        .expect("src/ffi can be described in C")
        .write(&mut text);
    for_c_readers(&String::from_utf8(text).expect("the header is UTF-8"))
}

/// What cbindgen has no setting for: no "Safety" sections, which are for Rust callers (each
/// condition stands in the text above it); types by their typedef; the constants as one enumeration,
/// which binding generators take for one type, and which is left where directives aren't.
fn for_c_readers(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut constants: Vec<String> = Vec::new();
    let mut first_constant = 0;
    let mut in_safety_section = false;
    for line in text.lines() {
        let comment = line.strip_prefix("//");
        if comment == Some(" # Safety") {
            in_safety_section = true;
            lines.pop();
        }
        in_safety_section &= comment.is_some();
        if in_safety_section {
            continue;
        }
        // A macro of macros.h has no such comment above it.
        let is_constant = lines.last().is_some_and(|above| above.starts_with("//"));
        if let Some(constant) = line.strip_prefix("#define ").filter(|_| is_constant) {
            let commented = lines.iter().rposition(|line| !line.starts_with("//"));
            let comment = lines.split_off(commented.map_or(0, |at| at + 1));
            if constants.is_empty() {
                first_constant = lines.len();
            } else {
                constants.push(String::new());
            }
            constants.extend(comment.iter().map(|line| format!("    {line}")));
            constants.push(format!("    {},", constant.replacen(' ', " = ", 1)));
            continue;
        }
        let after_constant = !constants.is_empty() && lines.last().is_some_and(String::is_empty);
        if line.is_empty() && after_constant {
            continue;
        }
        lines.push(if line.starts_with("typedef struct") {
            line.to_owned()
        } else {
            line.replace("struct Audit", "Audit")
        });
    }
    let enumeration = [
        vec![
            "// Every number of this interface: an int32_t where it is passed or returned, or a flag."
                .to_owned(),
            "enum {".to_owned(),
        ],
        constants,
        vec!["};".to_owned(), String::new()],
    ];
    lines.splice(first_constant..first_constant, enumeration.concat());
    lines.push(String::new());
    lines.join("\n")
}

/// The functions that the header declares.
fn functions(header: &str) -> Vec<&str> {
    let declared =
        |line: &'_ &str| line.ends_with([';', ',', '(']) && !line.starts_with([' ', '#', '/']);
    header
        .lines()
        .filter(declared)
        .filter_map(|line| line.split('(').next()?.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("audit_"))
        .collect()
}

/// Exports the functions, and nothing else.
fn version_script(functions: &[&str], version: &str) -> String {
    let names = functions.join("; ");
    format!("AUDIT_LOGGER_{version} {{\n  global: {names};\n  local: *;\n}};\n")
}

/// Gives functions their version. The linker knows it from the script, but rustc's own script claims
/// the names first, without one; `.symver` settles it. It works only within the object file of the
/// functions, so each file of src/ffi takes in its own.
fn symbol_versions<'a>(functions: impl Iterator<Item = &'a &'a str>, version: &str) -> String {
    let one = |name: &&str| {
        format!("std::arch::global_asm!(\".symver {name}, {name}@@@AUDIT_LOGGER_{version}\");\n")
    };
    functions.map(one).collect()
}

/// Writes a file into OUT_DIR, and returns its path.
fn write(out: &Path, name: &str, text: &str) -> String {
    let path = out.join(name);
    fs::write(&path, text).expect("OUT_DIR can be written to");
    path.display().to_string()
}
