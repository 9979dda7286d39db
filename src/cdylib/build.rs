//! Links the shared library the way a C library is expected to be.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        println!(
            "cargo::warning=audit_logger runs on Linux; elsewhere its code can be checked, and no logger made"
        );
        return;
    }
    if let Some(why) = unlinkable() {
        println!("cargo::error={why}");
        return;
    }
    // From the build script of the code.
    let [exports, version] =
        ["EXPORTS", "VERSION"].map(|name| variable(&format!("DEP_AUDIT_LOGGER_{name}")));
    let soname = format!("libaudit_logger.so.{version}");
    for argument in [
        // cargo names none, and without one a program records the path it was linked from.
        format!("-Wl,-soname,{soname}"),
        // Nothing is exported but what the header declares, under a version of its own.
        format!("-Wl,--version-script={exports}"),
        // Unloading Rust code that left thread-local destructors behind crashes.
        "-Wl,-z,nodelete".to_owned(),
        // rustc passes a version script too, and GNU ld takes only one.
        "-fuse-ld=lld".to_owned(),
    ] {
        link_with(&argument);
    }
    if let Some(lld) = bundled_lld() {
        link_with(&format!("-B{}", lld.display()));
    }
    link_by_soname(Path::new(&variable("OUT_DIR")), &soname);
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

fn link_with(argument: &str) {
    println!("cargo::rustc-cdylib-link-arg={argument}");
}

/// Why no shared library can come out, where that is known before the linker says it less well, or
/// doesn't say it.
fn unlinkable() -> Option<&'static str> {
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("musl") {
        let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
        if features.split(',').any(|feature| feature == "crt-static") {
            return Some(
                "with musl linked statically there is no shared library: add `-C target-feature=-crt-static` \
                 to RUSTFLAGS, which takes the place of .cargo/config.toml",
            );
        }
        // cargo says it where a linker is configured.
        if !variable("HOST").contains("musl") && env::var_os("RUSTC_LINKER").is_none() {
            return Some(
                "this machine's C compiler links with glibc, not musl: build on a musl system, by \
                 scripts/dist.sh (which brings a linker for musl), or name another linker to cargo",
            );
        }
    }
    if bundled_lld().is_none() && !in_path("ld.lld") && env::var_os("RUSTC_LINKER").is_none() {
        return Some(
            "lld is needed, for rustc and this library each have a version script and GNU ld takes only \
             one: install it (Debian, Fedora, Alpine: package lld), or use a toolchain of rustup's, which \
             brings it",
        );
    }
    None
}

/// The directory of the lld that comes with rustup's toolchains, and that compilers of other
/// machines' code find as well.
fn bundled_lld() -> Option<PathBuf> {
    let asked = Command::new(variable("RUSTC"))
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = String::from_utf8(asked.stdout).ok()?;
    let tools = format!("lib/rustlib/{}/bin/gcc-ld", variable("HOST"));
    let directory = Path::new(sysroot.trim()).join(tools);
    directory.join("ld.lld").is_file().then_some(directory)
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Puts the name that a linked program looks for beside the library, so that it runs from the
/// build directory. OUT_DIR is `<profile>/build/<package>/out`; where it isn't, nothing is done.
fn link_by_soname(out: &Path, soname: &str) {
    let Some(profile) = out
        .ancestors()
        .nth(3)
        .filter(|path| path.join("deps").is_dir())
    else {
        return;
    };
    let link = profile.join(soname);
    if fs::symlink_metadata(&link).is_err() {
        // Another build may have made it meanwhile.
        let _ = std::os::unix::fs::symlink("libaudit_logger.so", link);
    }
}
