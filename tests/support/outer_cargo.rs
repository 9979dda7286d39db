//! What cargo tells those that it starts of their package isn't for a cargo that they start.

use std::process::Command;

/// Leaves it out of what a program gets. ring's build script asks for it: where it changes, ring is built anew, and
/// all that depends on it.
pub fn forget(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let prefixes = ["CARGO_MANIFEST_", "CARGO_PKG_"];
        if text == "OUT_DIR" || prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}
