//! The house: which room may use which, and what none of them does. Each rule
//! is read off the sources, so that a line that breaks it is named.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, lowest first: each may use those before it.
const ROOMS: [&[&str]; 7] =
    [&["model"], &["plan"], &["kernel", "switch"], &["engine"], &["api"], &["daemon"], &["cli"]];

/// A line of code, with where it is. Comments and tests are left out.
struct Line {
    file: PathBuf,
    number: usize,
    text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.number, self.text.trim())
    }
}

fn lines(room: &str) -> Vec<Line> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut files);
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source can be read");
        // Unit tests are at the end of a file.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in code.lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                let (file, text) = (file.clone(), line.to_owned());
                found.push(Line { file, number: index + 1, text });
            }
        }
    }
    found
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    // A room that is not built yet has no sources.
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory can be read").path();
        match path.is_dir() {
            true => collect(&path, files),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
}

#[track_caller]
fn none(rule: &str, rooms: &[&str], breaks: impl Fn(&Line) -> bool) {
    let broken: Vec<String> = rooms
        .iter()
        .flat_map(|room| lines(room))
        .filter(|line| breaks(line))
        .map(|line| line.to_string())
        .collect();
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

fn has_any(line: &Line, words: &[&str]) -> bool {
    words.iter().any(|word| line.text.contains(word))
}

#[test]
fn there_is_something_to_check() {
    for room in ["model", "plan", "kernel", "switch", "engine", "api", "cli"] {
        assert!(200 < lines(room).len(), "{room}");
    }
}

#[test]
fn nothing_points_back() {
    for (level, rooms) in ROOMS.iter().enumerate() {
        let above: Vec<String> = ROOMS[level + 1..]
            .iter()
            .flat_map(|rooms| rooms.iter())
            .map(|room| format!("crate::{room}"))
            .collect();
        let above: Vec<&str> = above.iter().map(String::as_str).collect();
        none("a room uses one above it", rooms, |line| has_any(line, &above));
    }
    none(
        "only switch/ovs talks OVSDB",
        &["model", "plan", "kernel", "engine", "api", "cli", "daemon"],
        |line| has_any(line, &["ovsdb::"]),
    );
}

#[test]
fn model_and_plan_do_no_io_and_know_no_clock() {
    let outside = [
        "std::fs",
        "std::io",
        "std::time",
        "std::env",
        "std::process",
        "std::thread",
        "std::os",
        "tokio",
        "nix::",
        "netlink",
        "Instant",
        "SystemTime",
        "File::",
        "async ",
    ];
    none("pure rooms", &["model", "plan"], |line| has_any(line, &outside));
}

#[test]
fn only_kernel_changes_a_threads_namespace_or_mounts() {
    let rooms = ["model", "plan", "switch", "engine", "api", "cli", "daemon"];
    none("for kernel alone", &rooms, |line| {
        has_any(line, &["setns(", "unshare(", "nix::mount", "nix::sched"])
    });
}

#[test]
fn only_the_front_prints() {
    let rooms = ["model", "plan", "switch", "kernel", "engine", "api", "daemon"];
    none("for the front alone", &rooms, |line| {
        has_any(line, &["println!", "print!(", "stdout()", "stderr()", "dbg!"])
    });
}

#[test]
fn nobody_runs_the_tools_that_we_replace() {
    // A hint may name them: a person runs what he likes.
    let run = |tool| format!("Command::new(\"{tool}\"");
    let tools = ["ip", "brctl", "sh", "ovs-vsctl"].map(run);
    let rooms = ["model", "plan", "switch", "kernel", "engine", "api", "cli", "daemon"];
    none("no shelled-out tools", &rooms, |line| tools.iter().any(|run| line.text.contains(run)));
}

#[test]
fn hands_know_no_file_and_no_lab_as_wanted() {
    // What the user wants is decided in `plan`; the hands get steps.
    none("hands decide nothing", &["kernel", "switch"], |line| {
        has_any(line, &["topology::Lab", "topology::{Lab", "Wanted", "model::file"])
    });
}

#[test]
fn a_plan_is_matched_without_a_rest() {
    // A new step must be thought of in the way back and in the words for it.
    for file in ["undo.rs", "text.rs"] {
        let here = |line: &Line| line.file.ends_with(Path::new("plan").join(file));
        none("no `_ =>` on steps", &["plan"], |line| {
            here(line)
                && line.text.trim_start().starts_with("_ =>")
                && !line.text.contains("write!")
                && !line.text.contains("push(Stage")
        });
    }
}
