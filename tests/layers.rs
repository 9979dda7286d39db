//! The arrows between the modules point down, as the head of src/lib.rs says.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use support::root;

/// From top to bottom. A module may use those below it, and its own parts.
const LAYERS: [(&str, &[&str]); 17] = [
    (
        "ffi",
        &[
            "queue", "witness", "client", "logger", "log", "read", "format", "config", "settings",
            "json", "panics", "error", "sys",
        ],
    ),
    (
        "queue",
        &["client", "logger", "settings", "panics", "error", "sys"],
    ),
    (
        "witness",
        &[
            "client", "log", "config", "format", "json", "clock", "panics", "error", "sys",
        ],
    ),
    (
        "client",
        &[
            "logger", "format", "config", "server", "json", "hash", "panics", "error", "sys",
            "fuzzing",
        ],
    ),
    (
        "logger",
        &[
            "log", "format", "config", "json", "hash", "clock", "error", "sys",
        ],
    ),
    (
        "log",
        &[
            "read", "config", "format", "json", "hash", "clock", "panics", "error", "sys",
        ],
    ),
    (
        "read",
        &[
            "config", "format", "settings", "json", "clock", "error", "sys", "fuzzing",
        ],
    ),
    (
        "config",
        &[
            "server", "format", "settings", "json", "hash", "error", "sys",
        ],
    ),
    ("settings", &["json", "error"]),
    ("server", &["sys"]),
    ("format", &["json", "hash", "clock", "sys"]),
    ("json", &[]),
    ("hash", &["sys"]),
    ("clock", &[]),
    ("panics", &["error"]),
    ("error", &[]),
    ("fuzzing", &[]),
];

fn uses(file: &Path, found: &mut Vec<String>) {
    let text = std::fs::read_to_string(file).expect("sources are UTF-8");
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(&text);
    for part in code.split("crate::").skip(1) {
        let name: String = part
            .chars()
            .take_while(|c| c.is_ascii_lowercase())
            .collect();
        found.push(name);
    }
}

fn uses_by_module() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(root().join("src")).expect("src is there") {
        let path = item.expect("src can be read").path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut used = Vec::new();
        if path.is_dir() {
            for item in std::fs::read_dir(&path).expect("modules can be read") {
                let file = item.expect("modules can be read").path();
                if file.extension().is_some_and(|extension| extension == "rs") {
                    uses(&file, &mut used);
                }
            }
        } else {
            uses(&path, &mut used);
        }
        found.insert(name, used);
    }
    found
}

#[test]
fn every_arrow_between_modules_points_down() {
    let uses = uses_by_module();
    for (at, (_, below)) in LAYERS.iter().enumerate() {
        for module in *below {
            let listed_below = LAYERS[at + 1..].iter().any(|(name, _)| name == module);
            assert!(
                listed_below || *module == "sys",
                "{module} isn't below {}",
                LAYERS[at].0
            );
        }
    }
    for (module, used) in &uses {
        if module == "lib" {
            continue;
        }
        let allowed = LAYERS
            .iter()
            .find(|(name, _)| name == module)
            .map_or(&[][..], |(_, a)| a);
        for used in used {
            assert!(
                used == module || allowed.contains(&used.as_str()),
                "src/{module} uses {used}, which isn't below it; see the head of src/lib.rs"
            );
        }
    }
}

#[test]
fn unsafe_code_stands_in_ffi_and_sys_alone() {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        for item in std::fs::read_dir(directory).expect("src can be read") {
            let path = item.expect("src can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if std::fs::read_to_string(&path).is_ok_and(|text| text.contains("unsafe ")) {
                let inside = path.strip_prefix(root().join("src")).expect("below src");
                found.push(inside.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("src"), &mut found);
    assert!(
        found
            .iter()
            .all(|file| file.starts_with("sys/") || file.starts_with("ffi/")),
        "{found:?}"
    );
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(directory).expect("it's there") {
        let path = item.expect("it can be read").path();
        match path.is_dir() {
            true => files_below(&path, found),
            false => found.push(path),
        }
    }
}

/// `cargo test` alone doesn't build the tool, so its modules' own tests run only where another test has the module.
#[test]
fn every_module_of_the_tool_with_tests_of_its_own_is_part_of_a_test() {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let (mut modules, mut tests) = (Vec::new(), Vec::new());
    files_below(&root().join("src/bin"), &mut modules);
    files_below(&root().join("tests"), &mut tests);
    tests.retain(|test| test.extension().is_some_and(|extension| extension == "rs"));
    let tests: String = tests.iter().map(|test| read(test)).collect();
    modules.retain(|module| read(module).contains("#[cfg(test)]"));
    assert!(!modules.is_empty());
    for module in modules {
        let path = module.strip_prefix(root()).expect("it's below");
        let part = format!("#[path = \"../{}\"]", path.display());
        assert!(tests.contains(&part), "no test has {}", path.display());
    }
}
