//! Links the shared library the way a C library is expected to be.

use std::env;
use std::fs;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // From the build script of the code.
    let [exports, version] = ["EXPORTS", "VERSION"].map(|name| {
        let name = format!("DEP_AUDIT_LOGGER_{name}");
        env::var(&name).unwrap_or_else(|_| panic!("{name} comes from the code's build script"))
    });
    let soname = format!("libaudit_logger.so.{version}");
    for argument in [
        // cargo names none, and without one a program records the path it was linked from.
        format!("-Wl,-soname,{soname}"),
        // Nothing is exported but what the header declares, under a version of its own.
        format!("-Wl,--version-script={exports}"),
        // Unloading Rust code that left thread-local destructors behind crashes.
        "-Wl,-z,nodelete".to_owned(),
    ] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        // rustc passes a version script too; GNU ld takes only one. On x86_64 lld is the default.
        println!("cargo:rustc-cdylib-link-arg=-fuse-ld=lld");
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    link_by_soname(Path::new(&out), &soname);
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
