//! The shared library as a linker and a loader see it.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use support::{Scratch, available, cc, compile, functions, header, release, root, run, skip};

fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    available(program).then(|| {
        let library = release().join("libaudit_logger.so");
        run(Command::new(program).args(arguments).arg(library))
    })
}

#[test]
fn nothing_is_exported_but_what_the_header_declares() {
    let Some(symbols) = tool("nm", &["-D", "--defined-only"]) else {
        return;
    };
    let exported: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        // The version node itself is listed as an absolute symbol.
        .filter(|name| !name.starts_with("AUDIT_LOGGER_"))
        .map(|name| name.split('@').next().unwrap_or(name))
        .collect();
    let declared = functions(&header());
    let declared: BTreeSet<&str> = declared.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(exported, declared);
}

#[test]
fn every_symbol_carries_the_version() {
    let Some(symbols) = tool("readelf", &["--dyn-syms", "--wide"]) else {
        return;
    };
    let ours: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains(" audit_"))
        .collect();
    assert_eq!(ours.len(), functions(&header()).len(), "{symbols}");
    assert!(
        ours.iter().all(|line| line.contains("@@AUDIT_LOGGER_0.1")),
        "{symbols}"
    );
}

#[test]
fn the_library_has_a_soname_and_stays_loaded() {
    let Some(dynamic) = tool("readelf", &["--dynamic", "--wide"]) else {
        return;
    };
    assert!(dynamic.contains("[libaudit_logger.so.0.1]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    let known = [
        "libgcc_s.so.1",
        "libc.so.6",
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
    ];
    assert!(
        needed.iter().all(|library| known.contains(library)),
        "{needed:?}"
    );
}

#[test]
fn panic_abort_is_refused() {
    let message = "audit_logger needs panic";
    let check = |strategy: &str| {
        let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "lib",
                "--emit",
                "metadata",
                "-C",
            ])
            .arg(format!("panic={strategy}"))
            .arg("--out-dir")
            .arg(Scratch::new().path())
            .arg(root().join("src/lib.rs"))
            .output()
            .expect("rustc starts");
        String::from_utf8_lossy(&output.stderr).contains(message)
    };
    assert!(check("abort"), "a build with panic=abort isn't refused");
    assert!(!check("unwind"), "a build with panic=unwind is refused");
}

/// Loads, uses and unloads the library again and again, and links libaudit beside it.
const LOADS: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include "audit_logger.h"

int main(int argc, char **argv)
{
    int i;
    for (i = 0; i < 1000; i++) {
        void *library = dlopen(argv[argc - 1], RTLD_NOW | RTLD_LOCAL);
        AuditStatus (*make)(const char *, AuditLogger **, AuditReply **);
        void (*release)(AuditReply *);
        AuditLogger *logger;
        AuditReply *reply;
        if (library == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        *(void **)&make = dlsym(library, "audit_logger_new");
        *(void **)&release = dlsym(library, "audit_reply_free");
        if (make("{\"nope\": 1}", &logger, &reply) != AUDIT_E_CONFIG) {
            return 2;
        }
        release(reply);
        dlclose(library);
    }
    return 0;
}
"#;

#[test]
fn the_library_can_be_loaded_and_unloaded_a_thousand_times() {
    let scratch = Scratch::new();
    let (source, program) = (scratch.join("loads.c"), scratch.join("loads"));
    std::fs::write(&source, LOADS).expect("the scratch directory can be written to");
    run(cc()
        .arg("-I")
        .arg(root().join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .arg("-ldl"));
    run(Command::new(program).arg(release().join("libaudit_logger.so")));
}

#[test]
fn a_program_may_link_libaudit_as_well() {
    if !std::path::Path::new("/usr/include/libaudit.h").exists() {
        return skip("libaudit.h isn't installed");
    }
    let scratch = Scratch::new();
    let (source, program) = (scratch.join("both.c"), scratch.join("both"));
    let text = "#include <libaudit.h>\n#include <string.h>\n#include \"audit_logger.h\"\n\
        int main(void) { return strcmp(audit_msg_type_to_name(AUDIT_USER_LOGIN), \"USER_LOGIN\")\n\
        || strcmp(audit_logger_version(), AUDIT_LOGGER_VERSION); }\n";
    std::fs::write(&source, text).expect("the scratch directory can be written to");
    compile(&source, release(), &program, &["-laudit", "-Wno-pedantic"]);
    run(&mut Command::new(program));
}
