//! What the fuzzer has found, run again by everyone, with the stable compiler.

use std::fs;
use std::path::{Path, PathBuf};

use ovsns::fuzzing::TARGETS;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fuzz")
}

/// The files of a directory that is kept.
fn files(directory: &Path) -> Vec<PathBuf> {
    let shown = directory.display();
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn all_of_it_keeps_its_promises() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        let inputs = files(&package().join("corpus").join(name));
        assert!(!inputs.is_empty(), "nothing for {name}");
        for path in inputs {
            let input = fs::read(&path).expect("an input");
            let held = std::panic::catch_unwind(|| target(&input));
            broken.extend(held.is_err().then_some(path));
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

/// Files that people start from are read by the targets for files, whole.
#[test]
fn the_examples_keep_their_promises() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for path in files(&examples) {
        let target = match path.extension().and_then(|it| it.to_str()) {
            Some("yaml") => "topology",
            Some("json") => "graph",
            _ => continue,
        };
        ovsns::fuzzing::run(target, &fs::read(&path).expect("an example"));
    }
}

/// Each target is a program of the package for the fuzzer, and nothing else is.
#[test]
fn the_fuzzer_has_the_same_targets() {
    let manifest = fs::read_to_string(package().join("Cargo.toml")).expect("its manifest");
    let paths = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    let programs: Vec<&str> = paths.filter_map(|path| path.strip_suffix(".rs\"")).collect();
    assert_eq!(programs, TARGETS.map(|(name, _)| name));
    for (name, _) in TARGETS {
        let source = package().join(format!("fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(&source).expect("its source");
        assert!(text.contains(&format!("ovsns::fuzzing::run(\"{name}\", input)")), "{name}");
    }
    assert_eq!(files(&package().join("fuzz_targets")).len(), TARGETS.len());
    assert_eq!(files(&package().join("corpus")).len(), TARGETS.len());
}
