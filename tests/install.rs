//! What `make install` installs: programs are built from that alone, by the words of docs/install.md,
//! after it was moved. And the static library among it, which others of Rust's may be beside.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use support::server::{Server, completion, response};
use support::{Scratch, available, cc, entries, make, release, root, run, target, with_faults};

/// Installs with those variables. One at a time: what is made for it is in one place.
fn install(scratch: &Scratch, variables: &[&str]) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    release();
    let to = format!("DESTDIR={}", scratch.path().display());
    run(make().arg("install").args(variables).arg(to));
}

/// A prefix that was installed, and then moved. `None`, and the test is skipped, without make.
fn installed() -> Option<&'static Path> {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    if !available("make") {
        return None;
    }
    let made = INSTALLED.get_or_init(|| {
        let scratch = Scratch::new();
        install(&scratch, &["PREFIX=/opt/audit_logger"]);
        let moved = target().join("installed");
        let _ = std::fs::remove_dir_all(&moved);
        // Perhaps to another file system.
        run(Command::new("cp")
            .arg("-a")
            .arg(scratch.join("opt/audit_logger"))
            .arg(&moved));
        moved
    });
    Some(made)
}

/// The files and links below a directory.
fn files(directory: &Path) -> BTreeSet<String> {
    let found = run(Command::new("find")
        .args([".", "!", "-type", "d"])
        .current_dir(directory));
    found
        .lines()
        .map(|line| line.trim_start_matches("./").to_owned())
        .collect()
}

fn document() -> String {
    std::fs::read_to_string(root().join("docs/install.md")).expect("it is there")
}

/// The block of code of that language in docs/install.md.
fn block(language: &str) -> String {
    let document = document();
    let (_, rest) = document
        .split_once(&format!("```{language}\n"))
        .expect("it has one");
    rest.split("```").next().expect("a block ends").to_owned()
}

/// The command in docs/install.md that has that in it.
fn command(part: &str) -> String {
    let document = document();
    let found = document
        .lines()
        .find(|line| line.starts_with(char::is_alphabetic) && line.contains(part));
    found
        .unwrap_or_else(|| panic!("no command has {part}"))
        .to_owned()
}

/// Somebody's project: the C example, and what there is to build it by.
struct Project {
    scratch: Scratch,
    prefix: &'static Path,
}

impl Project {
    /// `None`, and the test is skipped, where a tool that it needs is absent.
    fn new(needs: &[&str]) -> Option<Project> {
        if !needs.iter().all(|tool| available(tool)) {
            return None;
        }
        let (scratch, prefix) = (Scratch::new(), installed()?);
        std::fs::copy(root().join("examples/chat.c"), scratch.join("chat.c")).expect("writable");
        Some(Project { scratch, prefix })
    }

    fn with(self, file: &str, text: &str) -> Project {
        std::fs::write(self.scratch.join(file), text).expect("it can be written");
        self
    }

    /// Runs a command after the one that says where the prefix is.
    fn sh(&self, command_line: &str) -> String {
        let script = format!("{}\n{command_line}", command("export PKG_CONFIG_PATH"));
        let mut shell = Command::new("sh");
        shell.args(["-euc", &script]).env("PREFIX", self.prefix);
        run(shell.current_dir(self.scratch.path()))
    }

    /// The program that was built makes an audited call, if `command_line` finds it and its library.
    fn asks(&self, command_line: &str, ask: impl Fn(&mut Command) -> String) {
        let server = Server::always(response(200, &[], completion("because").as_bytes()));
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", command_line])
            .current_dir(self.scratch.path())
            .envs([
                ("AUDIT_BASE_URL", &*server.base_url()),
                ("OPENROUTER_API_KEY", "none"),
            ]);
        let printed = ask(&mut shell);
        assert!(printed.contains("answer: because\n"), "{printed}");
        assert_eq!(entries(&self.scratch.join("audit_logs")).len(), 1);
    }

    fn asks_with_the_shared_library(&self, program: &str) {
        let line = format!("{}\n{program}", command("export PKG_CONFIG_PATH"));
        self.asks(&line, |shell| run(shell.env("PREFIX", self.prefix)));
        let needed = run(Command::new("readelf")
            .arg("-d")
            .arg(self.scratch.join(program)));
        assert!(needed.contains("[libaudit_logger.so.0.1]"), "{needed}");
    }

    fn asks_without_the_shared_library(&self, program: &str) {
        self.asks(program, |shell| run(shell));
        let needed = run(Command::new("readelf")
            .arg("-d")
            .arg(self.scratch.join(program)));
        assert!(!needed.contains("audit_logger"), "{needed}");
    }
}

#[test]
fn a_program_is_built_by_pkg_config() {
    let Some(project) = Project::new(&["pkg-config"]) else {
        return;
    };
    project.sh(&command("$(pkg-config --cflags --libs"));
    project.asks_with_the_shared_library("./chat");
}

#[test]
fn a_program_is_built_by_a_makefile() {
    let Some(project) = Project::new(&["pkg-config"]) else {
        return;
    };
    let project = project.with("Makefile", &block("make"));
    project.sh("make");
    project.asks_with_the_shared_library("./chat");
}

#[test]
fn a_program_is_built_by_cmake() {
    let Some(project) = Project::new(&["cmake"]) else {
        return;
    };
    let project = project.with("CMakeLists.txt", &block("cmake"));
    project.sh("cmake -S . -B build\ncmake --build build");
    project.asks_with_the_shared_library("build/chat");
}

#[test]
fn a_program_is_built_by_meson() {
    let Some(project) = Project::new(&["meson", "ninja", "pkg-config"]) else {
        return;
    };
    let project = project.with("meson.build", &block("meson"));
    project.sh("meson setup build\nninja -C build");
    project.asks_with_the_shared_library("build/chat");
}

#[test]
fn a_program_has_the_static_library_in_it_by_pkg_config() {
    let Some(project) = Project::new(&["pkg-config"]) else {
        return;
    };
    project.sh(&command("-l:libaudit_logger.a"));
    project.asks_without_the_shared_library("./chat");
}

#[test]
fn a_program_has_all_libraries_in_it_by_pkg_config() {
    let Some(project) = Project::new(&["pkg-config"]) else {
        return;
    };
    project.sh(&command("cc -static"));
    project.asks_without_the_shared_library("./chat");
}

#[test]
fn a_program_has_the_static_library_in_it_by_cmake() {
    let Some(project) = Project::new(&["cmake"]) else {
        return;
    };
    let lists = block("cmake").replace("audit_logger::audit_logger", "audit_logger::static");
    let project = project.with("CMakeLists.txt", &lists);
    project.sh("cmake -S . -B build\ncmake --build build");
    project.asks_without_the_shared_library("build/chat");
}

#[test]
fn a_program_has_the_static_library_in_it_by_meson() {
    let Some(project) = Project::new(&["meson", "ninja", "pkg-config"]) else {
        return;
    };
    let wanted = "dependency('audit_logger', static: true)";
    assert!(document().contains(wanted));
    let text = block("meson").replace("dependency('audit_logger')", wanted);
    let project = project.with("meson.build", &text);
    project.sh("meson setup build\nninja -C build");
    project.asks_without_the_shared_library("build/chat");
}

#[test]
fn cmake_finds_the_versions_that_have_this_abi() {
    let Some(project) = Project::new(&["cmake"]) else {
        return;
    };
    let version = env!("CARGO_PKG_VERSION");
    let abi = version.rsplit_once('.').expect("three parts").0;
    let mut lists = "cmake_minimum_required(VERSION 3.13)\nproject(versions C)\n".to_owned();
    for (wanted, found) in [
        (String::new(), true),
        (abi.to_owned(), true),
        (version.to_owned(), true),
        (format!("{version} EXACT"), true),
        (format!("{abi}.99"), false),
        ("0.0".to_owned(), false),
        ("0.99".to_owned(), false),
        ("1.0".to_owned(), false),
    ] {
        let wrong = if found {
            "NOT audit_logger_FOUND"
        } else {
            "audit_logger_FOUND"
        };
        lists += &format!(
            "find_package(audit_logger {wanted} CONFIG QUIET)\n\
             if({wrong})\n  message(SEND_ERROR \"{wanted}\")\nendif()\n"
        );
    }
    project
        .with("CMakeLists.txt", &lists)
        .sh("cmake -S . -B build");
}

#[test]
fn the_prefix_has_all_that_there_is_and_nothing_else() {
    let Some(prefix) = installed() else { return };
    let mut expected: BTreeSet<String> = [
        "bin/audit-logger",
        "include/audit_logger.h",
        "include/audit_logger.hpp",
        "lib/cmake/audit_logger/audit_logger-config-version.cmake",
        "lib/cmake/audit_logger/audit_logger-config.cmake",
        "lib/libaudit_logger.a",
        "lib/libaudit_logger.so",
        "lib/libaudit_logger.so.0.1",
        concat!("lib/libaudit_logger.so.", env!("CARGO_PKG_VERSION")),
        "lib/pkgconfig/audit_logger.pc",
        "share/doc/audit-logger/LICENSE-APACHE",
        "share/doc/audit-logger/LICENSE-MIT",
        "share/doc/audit-logger/THIRD_PARTY",
    ]
    .map(str::to_owned)
    .into();
    expected.extend(
        files(&root().join("man"))
            .iter()
            .map(|page| format!("share/man/man1/{page}")),
    );
    assert_eq!(files(prefix), expected);

    let version = run(Command::new(prefix.join("bin/audit-logger")).arg("--version"));
    assert_eq!(
        version,
        concat!("audit-logger ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let link = |name: &str| std::fs::read_link(prefix.join("lib").join(name)).expect("a link");
    assert_eq!(
        link("libaudit_logger.so"),
        Path::new("libaudit_logger.so.0.1")
    );
    let real = concat!("libaudit_logger.so.", env!("CARGO_PKG_VERSION"));
    assert_eq!(link("libaudit_logger.so.0.1"), Path::new(real));
}

#[test]
fn each_directory_can_be_set() {
    if !available("make") || !available("pkg-config") {
        return;
    }
    let scratch = Scratch::new();
    install(
        &scratch,
        &[
            "prefix=/usr",
            "libdir=/usr/lib/some-arch",
            "INCLUDEDIR=/elsewhere/include",
        ],
    );
    let lib = scratch.join("usr/lib/some-arch");
    assert!(lib.join("libaudit_logger.so").exists());
    assert!(scratch.join("elsewhere/include/audit_logger.h").exists());
    let said = |variable: &str| {
        let mut pkg_config = Command::new("pkg-config");
        pkg_config
            .arg(format!("--variable={variable}"))
            .arg("audit_logger");
        run(pkg_config.env("PKG_CONFIG_PATH", lib.join("pkgconfig")))
            .trim()
            .to_owned()
    };
    // Of what isn't below the prefix, where it is said to be; of what is, where it is.
    assert_eq!(said("includedir"), "/elsewhere/include");
    let found = std::fs::canonicalize(said("libdir")).expect("it is there");
    assert_eq!(found, lib.canonicalize().expect("it is there"));
}

#[test]
fn uninstalling_leaves_what_others_installed_and_nothing_else() {
    if !available("make") {
        return;
    }
    let scratch = Scratch::new();
    install(&scratch, &["PREFIX=/usr"]);
    let theirs = scratch.join("usr/lib/libaudit.so");
    std::fs::write(&theirs, "").expect("it can be written");
    let to = format!("DESTDIR={}", scratch.path().display());
    run(make().args(["uninstall", "PREFIX=/usr"]).arg(to));
    assert_eq!(
        files(scratch.path()),
        BTreeSet::from(["usr/lib/libaudit.so".to_owned()])
    );
    assert!(!scratch.join("usr/lib/cmake/audit_logger").exists());
}

/// The global symbols that a library defines, without their versions.
fn symbols(arguments: &[&str], library: &Path) -> BTreeSet<String> {
    let printed = run(Command::new("nm")
        .args(["-g", "--defined-only"])
        .args(arguments)
        .arg(library));
    let names = printed
        .lines()
        .filter_map(|line| line.split_once(" T "))
        .map(|(_, name)| name);
    names
        .map(|name| name.replace("@@AUDIT_LOGGER_0.1", ""))
        .collect()
}

#[test]
fn the_static_library_exports_what_the_shared_one_does() {
    let Some(prefix) = installed() else { return };
    let shared = symbols(&["-D"], &prefix.join("lib/libaudit_logger.so"));
    assert!(shared.contains("audit_chat"), "{shared:?}");
    let archive = prefix.join("lib/libaudit_logger.a");
    assert_eq!(symbols(&[], &archive), shared);
    // Not only no functions: no data and nothing weak either.
    let all = run(Command::new("nm")
        .args(["-g", "--defined-only"])
        .arg(&archive));
    assert_eq!(all.matches(" audit_").count(), shared.len(), "{all}");
    assert_eq!(
        all.lines().filter(|line| line.contains(' ')).count(),
        shared.len(),
        "{all}"
    );
}

/// Another library of Rust's, whole as ours is, that panics and catches it.
const OTHER: &str = r#"
#[unsafe(no_mangle)]
pub extern "C" fn other_catches() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = std::thread::spawn(|| std::panic::catch_unwind(|| panic!("on demand")).is_err());
    i32::from(caught.join().unwrap_or(false))
}
"#;

/// Links the C++ host of the tests with a static library and with another of Rust's, in both
/// orders, and runs both.
fn runs_beside_another(archive: &Path, ends: &str) {
    let (scratch, server) = (
        Scratch::new(),
        Server::always(response(200, &[], completion("because").as_bytes())),
    );
    let source = scratch.join("other.rs");
    std::fs::write(&source, OTHER).expect("it can be written");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    run(Command::new(rustc)
        .args([
            "--edition=2024",
            "--crate-type=staticlib",
            "-O",
            "-Clto=fat",
            "-Cpanic=unwind",
        ])
        .arg(&source)
        .current_dir(scratch.path()));
    let other = scratch.join("libother.a");
    for (number, order) in [[archive, &other], [&other, archive]].iter().enumerate() {
        let program = scratch.join(&format!("beside{number}"));
        run(Command::new("c++")
            .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(root().join("include"))
            .arg(root().join("tests/c/beside.cpp"))
            .args(order)
            .arg("-o")
            .arg(&program));
        let log = scratch.join(&format!("log{number}"));
        let printed = run(Command::new(&program)
            .arg(&log)
            .arg(server.base_url())
            .arg(ends)
            .env("AUDIT_LOGGER_PANIC", "chat"));
        assert_eq!(printed, "");
        assert_eq!(entries(&log).len(), 2);
    }
}

#[test]
fn the_static_library_is_linked_beside_another_of_rust_s_into_a_host_with_exceptions() {
    let Some(prefix) = installed().filter(|_| available("c++")) else {
        return;
    };
    runs_beside_another(&prefix.join("lib/libaudit_logger.a"), "AUDIT_OK");
}

#[test]
fn a_panic_in_the_static_library_becomes_an_internal_error() {
    if !available("c++") {
        return;
    }
    let scratch = Scratch::new();
    let archive = scratch.join("libaudit_logger.a");
    run(Command::new("sh")
        .arg(root().join("packaging/prelink.sh"))
        .arg(with_faults().join("libaudit_logger.a"))
        .arg(&archive));
    runs_beside_another(&archive, "AUDIT_E_INTERNAL");
}

/// What a shared library would refuse that was linked from one with versions.
#[test]
fn the_static_library_may_be_part_of_a_plugin() {
    let Some(prefix) = installed() else { return };
    let scratch = Scratch::new();
    let (source, plugin) = (scratch.join("plugin.c"), scratch.join("plugin.so"));
    let text = "#include \"audit_logger.h\"\nconst char *plugin(void) { return audit_logger_version(); }\n";
    std::fs::write(&source, text).expect("it can be written");
    run(cc()
        .args(["-shared", "-fPIC", "-Wl,-z,defs", "-Wl,-z,nodelete", "-I"])
        .arg(prefix.join("include"))
        .arg(&source)
        .arg(prefix.join("lib/libaudit_logger.a"))
        .arg("-o")
        .arg(&plugin));
    assert!(symbols(&["-D"], &plugin).contains("plugin"));
}

#[test]
fn pkg_config_names_what_rust_s_library_needs() {
    let Some(prefix) = installed() else { return };
    let scratch = Scratch::new();
    std::fs::write(scratch.join("empty.rs"), "").expect("it can be written");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args([
            "--crate-type=staticlib",
            "--print=native-static-libs",
            "empty.rs",
        ])
        .current_dir(scratch.path())
        .output()
        .expect("rustc starts");
    let printed = String::from_utf8_lossy(&output.stderr);
    let (_, needed) = printed
        .split_once("native-static-libs: ")
        .expect("it says so");
    // The compiler brings these itself, and with -static there is another in place of the first.
    let needed = needed
        .lines()
        .next()
        .unwrap_or_default()
        .replace("-lgcc_s ", "")
        .replace(" -lc", "");
    let file =
        std::fs::read_to_string(prefix.join("lib/pkgconfig/audit_logger.pc")).expect("there");
    assert!(
        file.contains(&format!("\nLibs.private: {needed}\n")),
        "{needed}\n{file}"
    );
}
