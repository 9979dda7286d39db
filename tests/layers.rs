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
            "fuzzing",
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

/// What each module of the library names of the others.
fn uses_by_module() -> BTreeMap<String, Vec<String>> {
    let src = root().join("src");
    let mut files = Vec::new();
    files_below(&src, &mut files);
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let inside = file
            .strip_prefix(&src)
            .expect("below src")
            .to_string_lossy();
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        // Crates of their own.
        if ["bin", "cdylib"].contains(&module) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("sources are UTF-8");
        let code = text.split("#[cfg(test)]\nmod tests").next();
        let named = code.unwrap_or(&text).split("crate::").skip(1);
        let name = |part: &str| part.chars().take_while(char::is_ascii_lowercase).collect();
        found
            .entry(module.to_owned())
            .or_default()
            .extend(named.map(name));
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
    let src = root().join("src");
    let mut found = Vec::new();
    files_below(&src, &mut found);
    found.retain(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("unsafe ")));
    assert!(
        found
            .iter()
            .all(|file| file.starts_with(src.join("sys")) || file.starts_with(src.join("ffi"))),
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
